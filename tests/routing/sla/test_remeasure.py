"""After an edit of hours hundreds of inquiries are moved at once, and the result is that of moving each by itself."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from sqlalchemy import select, update

from crm_core import inquiries
from crm_core.db.engine import Database
from crm_core.db.uow import UnitOfWork
from crm_core.schema import event, inquiry, setting
from routing.schema import sla_clock, sla_event
from routing.sla import book as books
from routing.sla import edit, remeasure, service, store, store_many, timing
from tests.routing.sla.builders import MINUTE, OFFICE, Office, at, opened
from tests.routing.sla.test_replay import some_life
from tests.routing.sla.test_rules import recompute

LATE = {"tz": "Europe/Kyiv", "week": {day: [["13:00", "21:00"]] for day in ("mon", "wed", "fri", "sat")}}
STEPS = [{"at": "25%", "actions": ["notify_assignee"]}, {"at": "75%", "actions": ["notify_lead"]}]


@pytest.fixture
async def office(db: Database, clock: Any) -> Office:
    return await Office.open(db, clock)


class RolledBack(Exception):
    pass


async def outcome(uow: UnitOfWork) -> dict[str, Any]:
    """Everything that moving clocks writes, without the numbers of rows."""
    await uow.flush_outbox()
    clocks = await uow.rows(select(sla_clock).order_by(sla_clock.c.id))
    ledger = await uow.rows(select(sla_event).order_by(sla_event.c.clock_id, sla_event.c.id))
    told = await uow.rows(select(event).where(event.c.at == uow.now).order_by(event.c.inquiry_id, event.c.id))
    alarms = await uow.rows(select(setting).where(setting.c.key.startswith("sla.alarm:")))
    return {
        "clocks": [dict(row) for row in clocks],
        "ledger": [{k: v for k, v in row.items() if k != "id"} for row in ledger],
        "told": sorted(
            (_without_numbers(row) for row in told),
            key=lambda row: (row["inquiry_id"] or 0, row["kind"], row["subject_id"]),
        ),
        "alarms": sorted(row["value"]["problem"] for row in alarms),
    }


def _without_numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    payload = {k: v for k, v in row["payload"].items() if k != "sla_event_id"}
    return {k: v for k, v in row.items() if k not in ("id", "tx")} | {"payload": payload}


async def tried(office: Office, tickets: Sequence[int]) -> tuple[int, dict[str, Any]]:
    """What `revise` does, undone again."""
    found: list[tuple[int, dict[str, Any]]] = []
    with pytest.raises(RolledBack):
        async with office.db.transaction() as uow:
            changed = await service.revise(uow, tickets, calendars=True)
            found.append((changed, await outcome(uow)))
            raise RolledBack
    return found[0]


async def one_by_one(_uow: UnitOfWork, _book: books.Book, ids: Sequence[int]) -> tuple[int, list[int]]:
    return 0, list(ids)


async def strange(office: Office, tickets: Sequence[int], dice: random.Random) -> None:
    """What is not plain: terms that nobody told the clocks of, facts without a row, rules that are gone."""
    a, b, c, d = dice.sample(list(tickets), 4)
    async with office.db.transaction() as uow:
        await uow.execute(update(inquiry).where(inquiry.c.id == a).values(priority="urgent"))
        mine = sla_clock.c.inquiry_id == b
        await uow.execute(sla_clock.delete().where(mine, sla_clock.c.metric == "total_resolution"))
        await uow.execute(update(sla_clock).where(sla_clock.c.inquiry_id == c).values(calendar_id=77))
        await uow.execute(update(sla_clock).where(sla_clock.c.inquiry_id == d).values(policy_version=7))


@pytest.mark.parametrize("seed", [0, 1, 3])
async def test_all_at_once_is_the_same_as_one_by_one(
    office: Office, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(remeasure, "_TOGETHER", 4)
    dice = random.Random(seed)
    first = {"minutes": 60, "steps": STEPS}
    await office.promise(
        {"first_reply": first, "next_reply": 30, "requester_wait": 480, "agent_work": {"minutes": 300, "business": False, "steps": STEPS}, "total_resolution": 2000},
        position=1,
    )  # fmt: skip
    await office.promise(
        {"first_reply": 20, "requester_wait": 90}, key="urgent", conditions={"priority": "urgent"}
    )
    tickets = []
    for n in range(8):
        tickets.append(await opened(office, 0, user=f"u{n}"))
        if n % 3:
            await some_life(office, tickets[-1], dice, f"u{n}")
    if seed % 2:
        await strange(office, tickets, dice)
    async with office.db.transaction() as uow:
        spec = {"tz": "UTC", "week": {}} if seed == 3 else LATE
        await edit.change_calendar(uow, office.calendar_id, spec=spec)
    # Some promises were broken by then and no sweeper has seen it.
    office.clock.set(office.clock.now_ms() + dice.choice([1, 400, 5000]) * MINUTE)
    at_once = await tried(office, tickets)
    monkeypatch.setattr(remeasure, "follow", one_by_one)
    apart = await tried(office, tickets)
    for part, rows in at_once[1].items():
        assert rows == apart[1][part], part
    assert at_once[0] == apart[0]
    assert at_once[0] > 0
    assert any(e["cause"] == "calendar" for e in at_once[1]["ledger"])


async def test_plain_inquiries_are_not_left_to_the_ordinary_way(office: Office) -> None:
    """Or all of the above would hold and nothing be gained."""
    await office.promise({"first_reply": 60, "requester_wait": 480})
    plain = [await opened(office, user=f"u{n}") for n in range(3)]
    office.move(5)
    async with office.db.transaction() as uow:
        await edit.change_calendar(uow, office.calendar_id, spec=LATE)
        book = await books.load(uow.conn)
        assert await remeasure.follow(uow, book, plain) == (3, [])
        # There is nothing more to follow.
        assert await remeasure.follow(uow, book, plain) == (0, [])
    office.move(600)
    async with office.db.transaction() as uow:
        await edit.change_calendar(uow, office.calendar_id, spec=OFFICE)
        changed, left = await remeasure.follow(uow, await books.load(uow.conn), plain)
    # Their first replies are overdue by now and nobody was told.
    assert (changed, left) == (0, plain)


async def test_a_batch_that_dies_leaves_nothing_and_loses_nothing(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edit, "BATCH", 2)
    await office.promise({"first_reply": 600})
    tickets = [await opened(office, user=f"u{n}") for n in range(5)]
    office.move(60)
    async with office.db.transaction() as uow:
        await edit.change_calendar(uow, office.calendar_id, spec=LATE)
    whole, calls = remeasure.follow, 0

    async def dies(uow: UnitOfWork, book: books.Book, ids: Sequence[int]) -> tuple[int, list[int]]:
        nonlocal calls
        calls += 1
        done = await whole(uow, book, ids)
        if calls in (2, 3):
            raise RolledBack
        return done

    monkeypatch.setattr(remeasure, "follow", dies)
    for _ in range(2):
        with pytest.raises(RolledBack):
            await recompute(office)
    async with office.db.reading() as conn:
        moved = select(sla_event.c.inquiry_id).where(sla_event.c.cause == "calendar").distinct()
        assert sorted((await conn.execute(moved)).scalars()) == tickets[:2]
    await recompute(office)
    for ticket in tickets:
        for row in (await office.clocks(ticket)).values():
            entries = await office.ledger(ticket, row["metric"], row["instance"])
            assert [e["cause"] for e in entries if e["kind"] == "retarget"] == ["calendar"]
            assert row["calendar_version"] == 2


@pytest.mark.parametrize("wrong", ["written", "computed"])
async def test_a_fault_among_the_parts_of_a_batch_undoes_all_of_it(
    office: Office, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.setattr(remeasure, "_TOGETHER", 1)
    await office.promise({"first_reply": 600})
    tickets = [await opened(office, user=f"u{n}") for n in range(4)]
    office.move(60)
    async with office.db.transaction() as uow:
        await edit.change_calendar(uow, office.calendar_id, spec=LATE)
    place, name = (store_many.Moves, "write") if wrong == "written" else (timing, "recalendar")
    whole, calls = getattr(place, name), 0

    def fails(*args: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2 + 2 * (wrong == "computed"):
            raise RolledBack
        return whole(*args, **more)

    with monkeypatch.context() as broken:
        broken.setattr(place, name, fails)
        with pytest.raises(RolledBack):
            await recompute(office)
    async with office.db.reading() as conn:
        assert not (await conn.execute(select(sla_event.c.id).where(sla_event.c.cause == "calendar"))).all()
    assert await recompute(office) == 1
    for ticket in tickets:
        assert {row["calendar_version"] for row in (await office.clocks(ticket)).values()} == {2}


async def test_who_holds_the_inquiry_comes_first(office: Office) -> None:
    await office.promise({"first_reply": 600})
    ticket, other = await opened(office), await opened(office, user="ben")
    office.move(60)
    async with office.db.transaction() as uow:
        await edit.change_calendar(uow, office.calendar_id, spec=LATE)
    async with office.db.transaction() as uow:
        # Solved but not committed, while the batch begins.
        await inquiries.change(uow, ticket, {"status": "solved"}, actor="agent:1")
        batch = asyncio.create_task(recompute(office))
        await asyncio.sleep(0.05)
        assert not batch.done()
    await batch
    first = await office.the(ticket, "first_reply")
    assert (first["state"], first["consumed_ms"], first["calendar_version"]) == ("fulfilled", 60 * MINUTE, 1)
    assert [e["kind"] for e in await office.ledger(ticket, "first_reply")] == ["activate", "fulfil"]
    assert (await office.the(other, "first_reply"))["calendar_version"] == 2


async def test_the_ticket_keeps_what_it_remembers(office: Office) -> None:
    await office.promise({"first_reply": 600})
    ticket = await opened(office)
    async with office.db.transaction() as uow:
        before = (await store.load(uow, [ticket]))[ticket]
        await edit.change_calendar(uow, office.calendar_id, spec=LATE)
    await recompute(office)
    async with office.db.transaction() as uow:
        after = (await store.load(uow, [ticket]))[ticket]
    assert (after.note, after.state.facts, after.known) == (before.note, before.state.facts, True)
    # Ten hours from Monday 13:00 on, of days from 13:00 to 21:00: two of them are left for Wednesday.
    assert (await office.the(ticket, "first_reply"))["due_at"] == at(180 + 2 * 24 * 60 + 120)
