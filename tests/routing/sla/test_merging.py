"""Merging and splitting: whose clocks go on, whose end uncounted, and where the next word of the customer arrives."""

from typing import Any

import pytest
from sqlalchemy import select

from crm_core import merging
from crm_core.db.engine import Database
from crm_core.envelope import IdentityClaim, IdentityKind, Sender
from crm_core.errors import Conflict, Invalid, NotFound
from crm_core.schema import inquiry, message
from routing.sla import ledger
from tests.routing.sla.builders import MINUTE, Office, at, opened

ANNA = Sender(identities=(IdentityClaim(IdentityKind.EMAIL, "anna@example.com"),), display_name="anna")


@pytest.fixture
async def office(db: Database, clock: Any) -> Office:
    made = await Office.open(db, clock)
    await made.promise({"first_reply": 60, "next_reply": 60, "requester_wait": 240})
    return made


async def two(office: Office) -> tuple[int, int]:
    """Two tickets of one customer in two threads: the source asked at 0, the target at 20."""
    source = await opened(office, 0, user="one", sender=ANNA)
    target = await opened(office, 20, user="two", sender=ANNA)
    return source, target


async def merge(office: Office, minutes: float, source: int, target: int, **more: Any) -> dict[str, Any]:
    office.move(minutes)
    by = merging.By(label=f"agent:{office.agent_id}", agent_id=office.agent_id, name="Agent 1")
    async with office.db.transaction() as uow:
        return await merging.merge(uow, source, target, by=by, **more)


async def split(office: Office, minutes: float, source: int, message_id: int) -> tuple[dict[str, Any], bool]:
    office.move(minutes)
    by = merging.By(label=f"agent:{office.agent_id}", agent_id=office.agent_id)
    async with office.db.transaction() as uow:
        return await merging.split(uow, source, message_id, by=by)


async def check_ledgers(office: Office, *inquiry_ids: int) -> None:
    """What was merged or split is still proved by its segments."""
    async with office.db.reading() as conn:
        for inquiry_id in inquiry_ids:
            for one in await ledger.of_inquiry(conn, inquiry_id, office.clock.now_ms()):
                assert one.proof.agrees, (one.clock, one.segments)
                assert not one.segments or one.segments[0].start == one.clock.activated_at


async def words(office: Office, inquiry_id: int) -> list[Any]:
    async with office.db.reading() as conn:
        rows = await conn.execute(
            select(message).where(message.c.inquiry_id == inquiry_id).order_by(message.c.id)
        )
        return list(rows.mappings())


async def test_the_source_ends_uncounted_and_the_target_takes_the_earlier_start(office: Office) -> None:
    source, target = await two(office)
    await merge(office, 30, source, target)
    for metric in ("first_reply", "requester_wait", "total_resolution"):
        gone = await office.the(source, metric)
        assert (gone["state"], gone["cause"], gone["breached_at"]) == ("fulfilled", "merge", None)
    kept = await office.the(target, "first_reply")
    assert (kept["state"], kept["activated_at"], kept["due_at"]) == ("active", at(0), at(60))
    assert (await office.the(target, "requester_wait"))["activated_at"] == at(20)
    async with office.db.reading() as conn:
        row = (await conn.execute(select(inquiry).where(inquiry.c.id == source))).mappings().one()
    assert (row["status"], row["merged_into_id"]) == ("closed", target)
    await check_ledgers(office, source, target)
    [told] = await office.told("inquiry.merged")
    assert (told["payload"]["source_id"], told["payload"]["target_id"]) == (source, target)


async def test_a_private_note_keeps_the_clock_running_and_a_public_one_answers(office: Office) -> None:
    source, target = await two(office)
    await merge(office, 30, source, target, note="the same thing")
    assert (await office.the(target, "first_reply"))["state"] == "active"
    third = await opened(office, 31, user="three", sender=ANNA)
    await merge(office, 40, third, target, note="We are on it", public=True)
    answer = next(m for m in await words(office, target) if m["text"] == "We are on it")
    assert (answer["direction"], answer["state"]) == ("out", "queued")
    assert (await office.the(target, "first_reply"))["state"] == "active"
    await office.delivery(41, answer["id"], "sent")
    done = await office.the(target, "first_reply")
    assert (done["state"], done["fulfilled_at"]) == ("fulfilled", at(41))


async def test_a_breach_already_made_goes_with_the_source_and_counts_for_neither(office: Office) -> None:
    source, target = await two(office)
    await merge(office, 70, source, target)
    gone = await office.the(source, "first_reply")
    assert (gone["breached_at"], gone["cause"]) == (at(60), "merge")
    # Learned at minute 70 and over by then: broken at the change, never earlier.
    kept = await office.the(target, "first_reply")
    assert (kept["activated_at"], kept["breached_at"]) == (at(0), at(70))
    await check_ledgers(office, source, target)


async def test_the_customers_next_word_in_the_sources_thread_reaches_the_target(office: Office) -> None:
    source, target = await two(office)
    await merge(office, 30, source, target)
    result = await office.customer(40, user="one", sender=ANNA)
    assert result.inquiry is not None and not result.opened
    assert result.inquiry["id"] == target
    # Answers go where the customer writes, and the thread that was left leads to the same ticket.
    assert result.conversation is not None
    assert result.inquiry["conversation_id"] == result.conversation["id"]
    again = await office.customer(50, user="two", sender=ANNA)
    assert again.inquiry is not None and (again.inquiry["id"], again.opened) == (target, False)
    async with office.db.reading() as conn:
        row = (await conn.execute(select(inquiry).where(inquiry.c.id == target))).mappings().one()
        threads = await merging.threads_of(conn, row)
    assert len(threads) == 2
    assert threads[0]["conversation_id"] == row["conversation_id"]


async def test_after_a_chain_of_merges_words_reach_the_last_one(office: Office) -> None:
    source, target = await two(office)
    last = await opened(office, 25, user="three", sender=ANNA)
    await merge(office, 30, source, target)
    await merge(office, 31, target, last)
    result = await office.customer(40, user="one", sender=ANNA)
    assert result.inquiry is not None and result.inquiry["id"] == last
    assert (await office.the(last, "first_reply"))["activated_at"] == at(0)


async def test_words_to_a_closed_target_open_a_follow_up(office: Office) -> None:
    source, target = await two(office)
    await merge(office, 30, source, target)
    await office.change(40, target, status="closed")
    result = await office.customer(50, user="one", sender=ANNA)
    assert result.opened and result.inquiry is not None
    assert result.inquiry["fields"]["follows_inquiry_id"] == target


async def test_a_solved_target_opens_again_for_who_still_waits(office: Office) -> None:
    source, target = await two(office)
    await office.agent(25, target)
    await office.change(26, target, status="solved")
    after = await merge(office, 30, source, target)
    assert after["status"] == "open"
    owed = await office.the(target, "next_reply")
    assert (owed["state"], owed["activated_at"]) == ("active", at(0))


async def test_the_same_merge_again_changes_nothing_and_wrong_ones_are_refused(office: Office) -> None:
    source, target = await two(office)
    third = await opened(office, 21, user="three", sender=ANNA)
    stranger = await opened(office, 22, user="boris")
    await merge(office, 30, source, target)
    before = await words(office, target)
    await merge(office, 31, source, target, note="again")
    assert await words(office, target) == before
    assert len(await office.told("inquiry.merged")) == 1
    for pair, error, code in (
        ((target, target), Invalid, "same_inquiry"),
        ((source, third), Conflict, "already_merged"),
        ((third, source), Conflict, "target_merged"),
        ((target, source), Conflict, "target_merged"),
        ((stranger, target), Conflict, "other_contact"),
        ((target, 10**9), NotFound, "not_found"),
    ):
        with pytest.raises(error) as caught:
            await merge(office, 32, *pair)
        assert caught.value.code == code
    await office.change(33, third, status="closed")
    for pair, code in (((third, target), "closed"), ((target, third), "target_closed")):
        with pytest.raises(Conflict) as refused:
            await merge(office, 34, *pair)
        assert refused.value.code == code


async def test_a_split_message_waits_since_it_was_written(office: Office) -> None:
    ticket = await opened(office)
    await office.agent(5, ticket)
    asked = await office.customer(10)
    assert asked.message is not None
    made, created = await split(office, 30, ticket, asked.message["id"])
    assert created
    first = await office.the(made["id"], "first_reply")
    assert (first["state"], first["activated_at"], first["due_at"]) == ("active", at(10), at(70))
    assert (await office.the(made["id"], "requester_wait"))["activated_at"] == at(10)
    # The source owes no answer to it any more.
    gone = await office.the(ticket, "next_reply")
    assert (gone["state"], gone["cause"]) == ("cancelled", "split")
    again, created = await split(office, 31, ticket, asked.message["id"])
    assert (again["id"], created) == (made["id"], False)
    await office.agent(40, made["id"])
    done = await office.the(made["id"], "first_reply")
    assert (done["state"], done["consumed_ms"]) == ("fulfilled", 30 * MINUTE)
    await check_ledgers(office, ticket, made["id"])


async def test_what_was_asked_besides_the_split_message_is_still_owed(office: Office) -> None:
    ticket = await opened(office)
    second = await office.customer(10)
    async with office.db.reading() as conn:
        first_id = await conn.scalar(
            select(message.c.id).where(message.c.inquiry_id == ticket).order_by(message.c.id)
        )
    assert second.message is not None and first_id is not None
    await split(office, 30, ticket, first_id)
    clocks = await office.clocks(ticket)
    assert (clocks["first_reply", 1]["state"], clocks["first_reply", 1]["cause"]) == ("cancelled", "split")
    assert (clocks["first_reply", 2]["state"], clocks["first_reply", 2]["activated_at"]) == ("active", at(10))


async def test_what_cannot_be_split(office: Office) -> None:
    ticket = await opened(office)
    reply = await office.agent(5, ticket)
    async with office.db.reading() as conn:
        only = await conn.scalar(
            select(message.c.id).where(message.c.inquiry_id == ticket, message.c.direction == "in")
        )
    assert only is not None
    for message_id, error, code in (
        (only, Conflict, "only_message"),
        (reply, Invalid, "not_a_customer_message"),
        (10**9, NotFound, "not_found"),
    ):
        with pytest.raises(error) as caught:
            await split(office, 10, ticket, message_id)
        assert caught.value.code == code


async def test_spam_is_never_counted_also_when_it_was_answered_before(office: Office) -> None:
    ticket = await opened(office)
    await office.agent(5, ticket)
    await office.change(10, ticket, status="solved")
    await office.change(20, ticket, outcome="spam")
    assert {c["state"] for c in (await office.clocks(ticket)).values()} == {"cancelled"}
    at_once = await opened(office, 30, user="boris")
    await office.change(31, at_once, outcome="spam", status="closed")
    assert {c["state"] for c in (await office.clocks(at_once)).values()} == {"cancelled"}
