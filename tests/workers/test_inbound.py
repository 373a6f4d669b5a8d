"""Raw rows become messages, or stay visible with the reason; nothing that came in is lost."""

import json
from typing import Any

from sqlalchemy import text, update

from channels.contract import RawItem
from channels.email.items import make_item
from crm_core import inbound_rows
from crm_core.clock import HOUR, SECOND, from_iso
from crm_core.db.engine import Database
from crm_core.db.uow import UnitOfWork
from crm_core.events import DomainEvent
from crm_core.schema import attachment, call, contact, event, inbound, inquiry, job, message
from crm_core.services import Services
from routing.schema import callback
from tests.conftest import MovableClock
from tests.workers.conftest import an_inbox, rows, store, until
from workers.runner import LocalRunner


def an_update(n: int, text: str = "Вітаю, питання щодо туру", **more: Any) -> RawItem:
    body = {
        "update_id": n,
        "message": {
            "message_id": n,
            "date": 1_790_000_000,
            "chat": {"id": 77, "type": "private"},
            "from": {"id": 77, "is_bot": False, "first_name": "Олег"},
            "text": text,
            **more,
        },
    }
    return RawItem(dedupe_key=f"update:{n}", lane="chat:77", body=json.dumps(body).encode(), order=n)


async def done(db: Database) -> bool:
    return not await rows(db, inbound, inbound.c.state == "received")


async def test_messages_of_one_chat_keep_the_providers_order(services: Services, runner: LocalRunner) -> None:
    box = await an_inbox(services.db, "telegram")
    await store(services.db, box["id"], *[an_update(n, f"рядок {n}") for n in (3, 1, 2)])
    await store(services.db, box["id"], *[an_update(n, f"рядок {n}") for n in (2, 4)])
    await until(lambda: done(services.db))
    assert [m["text"] for m in await rows(services.db, message)] == [f"рядок {n}" for n in (1, 2, 3, 4)]
    assert [m["seq"] for m in await rows(services.db, message)] == [1, 2, 3, 4]


async def test_what_cannot_be_read_is_quarantined_visible_and_can_be_replayed(
    services: Services, runner: LocalRunner
) -> None:
    box = await an_inbox(services.db, "email", address="a@b.example", config={"address": "a@b.example"})
    form = await an_inbox(services.db, "form")
    await store(services.db, form["id"], RawItem(dedupe_key="f1", lane="f", body=b"\xff\xfe not json"))
    await until(lambda: rows(services.db, inbound, inbound.c.state == "quarantined"))
    (row,) = await rows(services.db, inbound)
    assert row["error"]
    assert [e["kind"] for e in await rows(services.db, event, event.c.kind == "inbound.quarantined")] == [
        "inbound.quarantined"
    ]
    # The admin repairs what was wrong (here: the account it belongs to) and replays the very bytes.
    fixed = b"From: a@c.example\r\nTo: a@b.example\r\nMessage-ID: <1@c>\r\nSubject: hi\r\n\r\nhello\r\n"
    async with services.db.transaction() as uow:
        await uow.execute(
            update(inbound).values(
                inbox_id=box["id"], body=fixed, size=len(fixed), content_type="message/rfc822"
            )
        )
        await inbound_rows.replay(uow, row["id"], actor="agent:1")
    await until(lambda: rows(services.db, inbound, inbound.c.state == "done"))
    assert [m["text"].strip() for m in await rows(services.db, message)] == ["hello"]
    async with services.db.transaction() as uow:
        await inbound_rows.replay(uow, row["id"], actor="agent:1")
    await until(lambda: rows(services.db, inbound, inbound.c.error == "duplicate"))
    assert len(await rows(services.db, message)) == 1


async def test_a_mails_files_are_stored_by_content_and_dangerous_ones_refused(
    services: Services, runner: LocalRunner
) -> None:
    box = await an_inbox(services.db, "email", address="a@b.example", config={"address": "a@b.example"})
    mail = (
        b"From: p@c.example\r\nTo: a@b.example\r\nMessage-ID: <9@c>\r\nSubject: ticket\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain\r\n\r\nsee file\r\n"
        b"--x\r\nContent-Type: image/jpeg; name=p.jpg\r\nContent-Disposition: attachment; filename=p.jpg\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\niVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==\r\n"
        b"--x\r\nContent-Type: application/octet-stream; name=run.exe\r\nContent-Disposition: attachment; filename=run.exe\r\n\r\nMZ\r\n--x--\r\n"
    )
    await store(
        services.db,
        box["id"],
        RawItem(
            dedupe_key="m",
            lane="m",
            body=mail,
            content_type="message/rfc822",
            meta={"envelope_from": "p@c.example", "envelope_to": "a@b.example"},
        ),
    )
    await until(lambda: rows(services.db, message))
    files = {f["name"]: f for f in await rows(services.db, attachment)}
    assert (
        files["p.jpg"]["state"] == "stored" and files["p.jpg"]["mime"] == "image/png"
    )  # what it is, not what it says
    assert files["run.exe"]["state"] == "refused"
    content = b"".join([chunk async for chunk in services.files.get(files["p.jpg"]["blob_key"])])
    assert content.startswith(b"\x89PNG")


async def test_a_missed_call_makes_one_lead_and_a_second_raises_it(
    services: Services, runner: LocalRunner, clock: MovableClock
) -> None:
    from crm_core import calls

    box = await an_inbox(services.db, "telephony", default_kind="lead", config={"vendor": "generic"})

    async def missed(n: int) -> None:
        for state, code in (("initiated", None), ("ringing", None), ("failed", 487)):
            body: dict[str, Any] = {
                "event_id": f"{state}{n}",
                "call_id": f"call-{n}",
                "state": state,
                "from": "+380671112233",
                "to": "+380440000100",
                "at": str(clock.now_ms() // 1000),
            }
            if code:
                body["sip_code"] = code
            await store(
                services.db,
                box["id"],
                RawItem(dedupe_key=f"{state}{n}", lane=f"call:call-{n}", body=json.dumps(body).encode()),
            )
        await until(lambda: done(services.db))
        clock.advance(11 * SECOND)
        async with services.db.transaction() as uow:
            await calls.sweep(uow)

    await missed(1)
    (lead,) = await rows(services.db, inquiry)
    assert lead["kind"] == "lead" and lead["fields"]["missed_calls"] == 1
    await missed(2)
    (lead,) = await rows(services.db, inquiry)
    assert (lead["fields"]["missed_calls"], lead["priority"]) == (2, "high")
    assert len(await rows(services.db, contact)) == 1
    assert [c["disposition"] for c in await rows(services.db, call)] == ["abandoned", "abandoned"]
    assert [m["kind"] for m in await rows(services.db, message)] == ["call", "call"]


async def test_a_form_books_its_callback_and_a_trap_field_is_set_aside(
    services: Services, runner: LocalRunner, clock: MovableClock
) -> None:
    clock.set(from_iso("2026-11-23T08:00:00Z"))
    box = await an_inbox(services.db, "form", default_kind="lead")

    async def post(n: int, **fields: str) -> None:
        from channels.contract import InboxConfig, RawRequest
        from channels.form import FormChannel

        request = RawRequest(
            method="POST",
            url="http://x/hooks/k/form",
            headers={},
            content_type="application/json",
            body=json.dumps({"submission_id": str(n), **fields}).encode(),
            received_at=clock.now_ms(),
        )
        config = InboxConfig(id=box["id"], key=box["key"], channel="form", name="f", secret="s", config={})
        await store(services.db, box["id"], *FormChannel().split(request, config))

    await post(
        1, name="Марія", phone="050 123 45 67", message="хочу тур", callback_at="2026-11-23T12:00:00+02:00"
    )
    await post(2, name="Spam", email="s@x.example", message="buy", website="http://spam")
    await post(
        3, name="Іван", email="ivan@x.example", message="подзвоніть", callback_at="2026-11-23T12:00:00+02:00"
    )
    await until(lambda: done(services.db))
    (note,) = await rows(services.db, message, message.c.kind == "system")
    assert note["direction"] == "internal" and "no callback could be booked" in note["text"]
    (promise,) = await rows(services.db, callback)
    assert promise["due_at"] == from_iso("2026-11-23T10:00:00Z") and promise["phone"] == "+380501234567"
    assert [i["kind"] for i in await rows(services.db, inquiry)] == ["lead", "lead"]
    assert [r["state"] for r in await rows(services.db, inbound)] == ["done", "quarantined", "done"]


async def test_a_name_longer_than_its_column_costs_no_message(
    services: Services, runner: LocalRunner
) -> None:
    box = await an_inbox(services.db, "telegram")
    long = {"id": 77, "is_bot": False, "first_name": "Н" * 5_000}
    await store(services.db, box["id"], an_update(1, "доброго дня", **{"from": long}))
    await until(lambda: done(services.db))
    (said,) = await rows(services.db, message)
    assert said["text"] == "доброго дня"
    assert said["author_name"] == "Н" * 200


async def test_what_fails_at_every_try_is_quarantined_and_can_be_replayed(
    services: Services, runner: LocalRunner, clock: MovableClock
) -> None:
    broken = True

    async def fail(uow: UnitOfWork, event: DomainEvent) -> None:
        if broken:
            raise ValueError("a rule of ours is broken\nwith details that nobody outside needs")

    services.db.listeners = {"message.added": [fail]}
    box = await an_inbox(services.db, "telegram")
    await store(services.db, box["id"], an_update(1))

    async def set_aside() -> Any:
        clock.advance(2 * HOUR)  # over the longest pause between tries
        return await rows(services.db, inbound, inbound.c.state == "quarantined")

    (row,) = await until(set_aside)
    assert row["error"] == "could not be taken in: ValueError: a rule of ours is broken"
    assert not await rows(services.db, message)
    broken = False
    async with services.db.transaction() as uow:
        await inbound_rows.replay(uow, row["id"], actor="agent:1")
    await until(lambda: rows(services.db, inbound, inbound.c.state == "done"))
    assert len(await rows(services.db, message)) == 1


async def test_a_failing_statement_does_not_write_what_the_customer_said_anywhere(
    services: Services, runner: LocalRunner
) -> None:
    async def fail(uow: UnitOfWork, event: DomainEvent) -> None:
        await uow.execute(text("SELECT :said FROM no_such_table"), {"said": "my card is 4111"})

    services.db.listeners = {"message.added": [fail]}
    box = await an_inbox(services.db, "telegram")
    await store(services.db, box["id"], an_update(1, "my card is 4111"))
    (failed,) = await until(lambda: rows(services.db, job, job.c.last_error.is_not(None)))
    assert "no_such_table" in failed["last_error"] and "4111" not in failed["last_error"]


async def test_an_answer_to_an_invitation_is_no_ticket(services: Services, runner: LocalRunner) -> None:
    """Into its thread it comes as a machine's word; without one it is set aside for people to see."""
    box = await an_inbox(services.db, "email", address="a@b.example", config={"address": "a@b.example"})

    def mail(number: int, more: str, body: str) -> RawItem:
        raw = f"From: ann@customer.example\nTo: a@b.example\nMessage-ID: <{number}@x>\n{more}\n{body}"
        return make_item(raw.encode(), received_at=number)

    accepted = (
        "Content-Type: text/calendar; method=REPLY\n",
        "BEGIN:VCALENDAR\nMETHOD:REPLY\nEND:VCALENDAR\n",
    )
    await store(services.db, box["id"], mail(1, *accepted))
    await store(services.db, box["id"], mail(2, "Subject: Trip\n", "May we meet?"))
    await until(lambda: done(services.db))
    await store(services.db, box["id"], mail(3, "In-Reply-To: <2@x>\n" + accepted[0], accepted[1]))
    await until(lambda: done(services.db))
    states = [(row["state"], row["error"]) for row in await rows(services.db, inbound)]
    assert states == [
        ("quarantined", "nobody asks for anything: an answer to an invitation"),
        ("done", None),
        ("done", None),
    ]
    assert [row["subject"] for row in await rows(services.db, inquiry)] == ["Trip"]
    assert [(m["text"], m["automatic"]) for m in await rows(services.db, message)] == [
        ("May we meet?", False),
        ("", True),
    ]
    assert len(await rows(services.db, contact)) == 1
