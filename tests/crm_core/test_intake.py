"""One envelope, one contact, one conversation, one message: also when it comes twice, or two come at once."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import func, select

from crm_core import inquiries, intake
from crm_core.db.engine import Database
from crm_core.envelope import Envelope, IdentityClaim, IdentityKind, Kind, Sender
from crm_core.schema import contact, conversation, event, identity, inbox, inquiry, message


async def an_inbox(db: Database, **more: Any) -> dict[str, Any]:
    async with db.transaction() as uow:
        values = {
            "key": "k" * 20,
            "channel": "telegram",
            "name": "Bot",
            "secret": "s",
            "config": {},
            "address": None,
            "team_id": None,
            "default_kind": "ticket",
            "flow_key": None,
            "region": "UA",
            "language": "uk",
            "priority": "normal",
            "enabled": True,
            "created_at": uow.now,
            **more,
        }
        return {**values, "id": await uow.insert(inbox, values)}


def a_message(text: str = "Доброго дня", *, n: int = 1, user: int = 5, **more: Any) -> Envelope:
    return Envelope(
        **{
            "kind": Kind.MESSAGE,
            "dedupe_key": f"update:{n}",
            "conversation_key": str(user),
            "sender": Sender(
                identities=(IdentityClaim(IdentityKind.TELEGRAM, str(user), verified=True),),
                display_name="Ірина",
                locale="uk",
            ),
            "occurred_at": 1_000,
            "provider_message_id": f"{user}:{n}",
            "text": text,
            **more,
        }
    )


async def count(db: Database, table: Any) -> int:
    async with db.reading() as conn:
        return int((await conn.execute(select(func.count()).select_from(table))).scalar_one())


async def take(db: Database, box: dict[str, Any], envelope: Envelope, **more: Any) -> intake.IntakeResult:
    async with db.transaction() as uow:
        return await intake.receive(uow, box, envelope, **more)


async def test_a_first_message_makes_a_contact_a_conversation_and_a_ticket(db: Database) -> None:
    box = await an_inbox(db)
    result = await take(db, box, a_message())
    assert result.opened
    assert result.inquiry and result.inquiry["kind"] == "ticket" and result.inquiry["status"] == "new"
    assert result.message and result.message["seq"] == 1
    assert result.conversation and result.conversation["language"] == "uk"
    async with db.reading() as conn:
        kinds = (await conn.execute(select(event.c.kind).order_by(event.c.id))).scalars().all()
    assert kinds == ["contact.created", "inquiry.opened", "message.added"]


async def test_the_same_update_twice_changes_nothing(db: Database) -> None:
    box = await an_inbox(db)
    await take(db, box, a_message())
    again = await take(db, box, a_message())
    assert again.duplicate
    assert [await count(db, t) for t in (contact, conversation, message, inquiry)] == [1, 1, 1, 1]


@pytest.mark.parametrize("tries", [1, 2, 3])
async def test_two_first_messages_at_once_make_one_person(db: Database, tries: int) -> None:
    box = await an_inbox(db)
    results = await asyncio.gather(*(take(db, box, a_message(n=n)) for n in range(1, 9)))
    assert await count(db, contact) == 1
    assert await count(db, identity) == 1
    assert await count(db, conversation) == 1
    assert sorted(r.message["seq"] for r in results if r.message) == list(range(1, 9))


async def test_messages_at_once_after_the_end_of_a_request_open_one_new_one(db: Database) -> None:
    """Two windows of one visitor: their messages come in transactions side by side."""
    box = await an_inbox(db)
    first = await take(db, box, a_message(n=1))
    assert first.inquiry
    async with db.transaction() as uow:
        await inquiries.change(uow, first.inquiry["id"], {"status": "closed"}, actor="agent:1")
    results = await asyncio.gather(*(take(db, box, a_message(n=n)) for n in range(2, 8)))
    assert await count(db, inquiry) == 2
    assert [r.opened for r in results].count(True) == 1
    async with db.reading() as conn:
        owners = (await conn.execute(select(message.c.inquiry_id).order_by(message.c.seq))).scalars().all()
    assert owners == [first.inquiry["id"]] + [owners[1]] * 6 and owners[1] is not None


async def test_a_rollback_leaves_no_gap(db: Database) -> None:
    box = await an_inbox(db)
    await take(db, box, a_message(n=1))

    class Crash(Exception):
        pass

    with pytest.raises(Crash):
        async with db.transaction() as uow:
            await intake.receive(uow, box, a_message(n=2))
            raise Crash
    result = await take(db, box, a_message(n=3))
    assert result.message and result.message["seq"] == 2


async def test_a_message_reopens_what_was_solved_and_follows_up_what_was_closed(db: Database) -> None:
    from crm_core import inquiries

    box = await an_inbox(db)
    first = await take(db, box, a_message(n=1))
    assert first.inquiry
    async with db.transaction() as uow:
        await inquiries.change(uow, first.inquiry["id"], {"status": "solved"}, actor="agent:1")
    second = await take(db, box, a_message(n=2))
    assert (
        second.inquiry and second.inquiry["id"] == first.inquiry["id"] and second.inquiry["status"] == "open"
    )
    async with db.transaction() as uow:
        await inquiries.change(uow, first.inquiry["id"], {"status": "closed"}, actor="agent:1")
    third = await take(db, box, a_message(n=3))
    assert third.opened and third.inquiry and third.inquiry["id"] != first.inquiry["id"]
    assert third.inquiry["fields"] == {"follows_inquiry_id": first.inquiry["id"]}


async def test_a_proved_phone_takes_the_card_that_was_known_by_that_phone_alone(db: Database) -> None:
    box = await an_inbox(db)
    called = await take(
        db,
        box,
        a_message(
            n=1,
            conversation_key="+380501234567",
            sender=Sender(
                identities=(IdentityClaim(IdentityKind.PHONE, "+380501234567", evidence="caller_id"),)
            ),
        ),
    )
    shared = await take(
        db,
        box,
        a_message(
            n=2,
            sender=Sender(
                identities=(
                    IdentityClaim(IdentityKind.TELEGRAM, "5", verified=True),
                    IdentityClaim(
                        IdentityKind.PHONE, "+380501234567", verified=True, evidence="contact_share"
                    ),
                )
            ),
        ),
    )
    assert called.contact and shared.contact
    async with db.reading() as conn:
        rows = (await conn.execute(select(contact).order_by(contact.c.id))).mappings().all()
        owners = set((await conn.execute(select(conversation.c.contact_id))).scalars())
    assert [r["merged_into_id"] for r in rows] == [shared.contact["id"], None]
    assert owners == {shared.contact["id"]}


async def test_a_claimed_phone_of_somebody_else_is_only_a_suggestion(db: Database) -> None:
    from crm_core.schema import merge_suggestion

    box = await an_inbox(db)
    await take(
        db,
        box,
        a_message(
            n=1,
            sender=Sender(
                identities=(
                    IdentityClaim(IdentityKind.TELEGRAM, "5", verified=True),
                    IdentityClaim(
                        IdentityKind.PHONE, "+380501234567", verified=True, evidence="contact_share"
                    ),
                )
            ),
        ),
    )
    await take(
        db,
        box,
        a_message(
            n=2,
            user=6,
            sender=Sender(
                identities=(
                    IdentityClaim(IdentityKind.TELEGRAM, "6", verified=True),
                    IdentityClaim(IdentityKind.PHONE, "+380501234567", evidence="form"),
                )
            ),
        ),
    )
    async with db.reading() as conn:
        merged = (await conn.execute(select(contact.c.merged_into_id))).scalars().all()
    assert merged == [None, None]
    assert await count(db, merge_suggestion) == 1


async def test_an_edit_keeps_what_was_written_before(db: Database) -> None:
    box = await an_inbox(db)
    await take(db, box, a_message("тур до Єгипту", n=1))
    await take(db, box, a_message("тур до Греції", n=2, kind=Kind.EDIT, provider_message_id="5:1"))
    async with db.reading() as conn:
        row = (await conn.execute(select(message))).mappings().one()
    assert row["text"] == "тур до Греції"
    assert [e["text"] for e in row["meta"]["edits"]] == ["тур до Єгипту"]


async def test_search_finds_by_any_word_in_any_case(db: Database) -> None:
    from crm_core.search import matches

    box = await an_inbox(db)
    await take(db, box, a_message("Ёлка для Марії: O'Brien, тел. 050 123-45-67", n=1))
    for query, found in (
        ("елка", 1),
        ("МАРІЇ", 1),
        ("obrien", 1),
        ("мар", 1),
        ("дерево", 0),
        ("'; --", 0),
        ("", 0),
    ):
        async with db.reading() as conn:
            hits = (await conn.execute(select(inquiry.c.id).where(matches(db.dialect, inquiry, query)))).all()
        assert len(hits) == found, query
