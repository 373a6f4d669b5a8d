"""Who writes to a closed team is told once when it opens; nobody else is."""

from typing import Any

import pytest
from sqlalchemy import select

from crm_core.db.engine import Database
from crm_core.schema import conversation, job, message
from routing import closed_reply
from routing.model import ItemState
from routing.schema import calendar
from tests.conftest import MovableClock
from tests.routing.engine import desk
from tests.routing.engine.desk import T0


@pytest.fixture(autouse=True)
def frozen(clock: MovableClock) -> MovableClock:
    clock.set(T0)
    return clock


async def a_closed_team(db: Database, **settings: Any) -> int:
    spec = {"tz": "Europe/Kyiv", "week": {"mon": [["09:00", "10:00"]]}}
    async with db.transaction() as uow:
        calendar_id = await uow.insert(
            calendar, {"name": "Short", "spec": spec, "version": 1, "updated_at": uow.now}
        )
    return await desk.a_team(db, settings=settings, calendar_id=calendar_id)


async def writes(db: Database, thread: int, *, who: str = "customer", automatic: bool = False) -> None:
    async with db.transaction() as uow:
        seq = (
            int(await uow.scalar(select(conversation.c.last_seq).where(conversation.c.id == thread)) or 0) + 1
        )
        await uow.insert(message, {
            "conversation_id": thread, "seq": seq, "direction": "in" if who == "customer" else "out", "kind": "text",
            "author_kind": who, "text": "hello", "state": "received", "automatic": automatic, "sent_parts": 0,
            "meta": {}, "occurred_at": uow.now, "created_at": uow.now,
        })  # fmt: skip
        await uow.execute(conversation.update().where(conversation.c.id == thread).values(last_seq=seq))


async def parked(db: Database, team: int, thread: int, contact: int) -> None:
    """An inquiry of this thread comes, and what was asked of the job is done."""
    item = await desk.arrives(
        db, team_id=team, channel="webchat", contact_id=contact, conversation_id=thread, language="uk"
    )
    async with db.transaction() as uow:
        closed_reply.ask(uow, item)
    for row in await desk.rows(db, job, job.c.name == closed_reply.JOB):
        async with db.transaction() as uow:
            await closed_reply.run(None, uow, row_of(row))  # type: ignore[arg-type]
            await uow.execute(job.delete().where(job.c.id == row["id"]))


def row_of(row: dict[str, Any]) -> Any:
    return type("Row", (), {"args": row["args"]})()


async def said(db: Database, thread: int) -> list[str]:
    found = await desk.rows(
        db, message, message.c.conversation_id == thread, message.c.author_kind == "system"
    )
    assert all(m["automatic"] for m in found), "the promises' clocks must not take it for a reply"
    return [m["text"] for m in found]


async def a_thread(db: Database, team: int) -> tuple[int, int]:
    contact = await desk.a_contact(db)
    return await desk.a_conversation(db, contact, await desk.an_inbox(db, "webchat", team)), contact


async def test_it_is_said_once_for_each_closure(db: Database, frozen: MovableClock) -> None:
    team = await a_closed_team(db)
    thread, contact = await a_thread(db, team)
    await writes(db, thread)
    await parked(db, team, thread, contact)
    (text,) = await said(db, thread)
    assert text.startswith("Дякуємо за повідомлення.") and "09:00 (Europe/Kyiv)" in text
    await writes(db, thread)
    await parked(db, team, thread, contact)
    assert len(await said(db, thread)) == 1, "however much is written"
    frozen.advance(8 * 86_400_000)
    await writes(db, thread)
    await parked(db, team, thread, contact)
    assert len(await said(db, thread)) == 2


async def test_who_does_not_wait_is_not_told(db: Database, frozen: MovableClock) -> None:
    team = await a_closed_team(db)
    for facts in ({"automatic": True}, {"who": "agent"}, None):
        frozen.advance(1)
        thread, contact = await a_thread(db, team)
        if facts is not None:
            await writes(db, thread, **facts)
        await parked(db, team, thread, contact)
        assert await said(db, thread) == [], facts


async def test_a_team_may_keep_silent_and_an_open_one_does(db: Database) -> None:
    for team in (await a_closed_team(db, after_hours_reply=False), await desk.a_team(db, "Open")):
        thread, contact = await a_thread(db, team)
        await writes(db, thread)
        await parked(db, team, thread, contact)
        assert await said(db, thread) == []


async def test_the_job_is_asked_for_by_what_customers_do(db: Database) -> None:
    from crm_core.events import DomainEvent
    from crm_core.schema import inquiry
    from routing import listeners

    team = await a_closed_team(db)
    thread, contact = await a_thread(db, team)
    await writes(db, thread)
    made = await desk.an_inquiry(
        db, team_id=team, channel="webchat", contact_id=contact, conversation_id=thread
    )
    async with db.transaction() as uow:
        row = await uow.row(select(inquiry).where(inquiry.c.id == made))
        event = DomainEvent(
            kind="inquiry.opened",
            subject_kind="inquiry",
            subject_id=made,
            payload={},
            context={"inquiry": row},
        )
        await listeners.on_opened(uow, event)
    (item,) = await desk.rows(db, desk.inquiry, desk.inquiry.c.id == made)
    assert item["assignee_id"] is None
    (asked,) = await desk.rows(db, job, job.c.name == closed_reply.JOB)
    assert (await desk.the_item(db, asked["args"]["item_id"])).state == ItemState.PARKED
