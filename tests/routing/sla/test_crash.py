"""Sweepers die anywhere, come late or race with replies: what is written and told is the same."""

import asyncio
import sys
import time
from typing import Any

import pytest
from sqlalchemy import func, select

from crm_core.db.engine import Database
from crm_core.schema import event, inquiry, job, notification_line
from routing.schema import sla_clock, sla_event, sla_page
from routing.sla.sweeper import sweep
from tests.conftest import MovableClock
from tests.routing.sla.builders import Office, at, opened

STEPS = [
    {"at": "50%", "actions": ["notify_assignee"]},
    {"at": "75%", "actions": ["notify_lead", "raise_priority", {"do": "tag", "value": "slow"}]},
    {
        "at": "100%",
        "actions": ["notify_lead", "raise_priority", {"do": "tag", "value": "late"}, "page_on_call"],
    },
]
FIRST = {"first_reply": {"minutes": 60, "steps": STEPS}}
TICKETS = 24


@pytest.fixture
async def office(db: Database, clock: Any) -> Office:
    return await Office.open(db, clock)


async def count(office: Office, statement: Any) -> Any:
    async with office.db.reading() as conn:
        return [tuple(row) for row in await conn.execute(statement)]


@pytest.mark.parametrize("seed", [7])
async def test_killed_anywhere_every_step_fires_once_and_acts_once(office: Office, seed: int) -> None:
    await office.promise(FIRST)
    late = [await opened(office, user=f"u{n}") for n in range(TICKETS // 2)]
    slow = [await opened(office, 15, user=f"v{n}") for n in range(TICKETS // 2)]
    # At 61 minutes the first are broken and the others at three quarters; nothing more comes for ten minutes.
    offset = at(61) - time.time_ns() // 1_000_000
    on_postgres = office.db.dialect == "postgresql"
    workers, kills = (3, 24) if on_postgres else (1, 12)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.routing.sla.crashing", office.db.url),
        *(str(n) for n in (offset, seed, workers, kills)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), timeout=120)
    assert process.returncode == 0, err.decode()[-3000:]
    # Most die before they have done all there is to do; who had nothing left to do lived.
    assert int(out) >= 6

    office.clock.set(at(61))
    assert await count(
        office,
        select(sla_event.c.inquiry_id).where(sla_event.c.kind == "breach").order_by(sla_event.c.inquiry_id),
    ) == [(t,) for t in late]
    for kind, tickets in (("sla.warned", [*late, *slow]), ("sla.breached", late)):
        told = select(event.c.inquiry_id).where(event.c.kind == kind).order_by(event.c.inquiry_id)
        assert await count(office, told) == [(t,) for t in tickets]
    states = select(inquiry.c.id, inquiry.c.priority, inquiry.c.tags).order_by(inquiry.c.id)
    # One up and no more: an action that ran twice would have made it urgent.
    assert await count(office, states) == [(t, "high", ["late"]) for t in late] + [
        (t, "high", ["slow"]) for t in slow
    ]
    lines = select(notification_line.c.inquiry_id).where(
        notification_line.c.agent_id == office.lead_id, notification_line.c.source.like("sla:%")
    )
    assert sorted(await count(office, lines)) == [(t,) for t in [*late, *slow]]
    assert await count(office, select(func.sum(sla_page.c.asked))) == [(len(late),)]
    # What is left is the page's next call and the end of the minute.
    left = {name for (name,) in await count(office, select(job.c.name).where(job.c.run_at <= at(61)))}
    assert left == set()


async def test_an_hour_late_the_rows_are_those_of_a_timely_sweep(office: Office) -> None:
    await office.promise(
        {"first_reply": {"minutes": 60, "steps": STEPS}, "requester_wait": {"minutes": 30, "steps": STEPS}}
    )
    timely = await opened(office, user="timely")
    for minute in range(62):
        office.clock.set(at(minute) + 1)
        await sweep(office.db)
    office.move(121)
    await sweep(office.db)
    day = 24 * 60
    late = await opened(office, day, user="late")
    office.move(day + 121)
    await sweep(office.db)
    assert await shape(office, late, at(day)) == await shape(office, timely, at(0))


async def shape(office: Office, ticket: int, began: int) -> Any:
    """A ticket's clocks and judgements, in ms since it was opened."""
    instants = {
        "activated_at",
        "running_since",
        "due_at",
        "breach_at",
        "breached_at",
        "next_fire_at",
        "paused_since",
    }
    plain = {"metric", "instance", "state", "consumed_ms", "paused_ms", "target_ms", "step", "fulfilled_at"}
    clocks = [
        {k: row[k] for k in plain} | {k: None if row[k] is None else row[k] - began for k in instants}
        | {"fired": row["data"]["clock"].get("fired_steps")}
        for _, row in sorted((await office.clocks(ticket)).items())
    ]  # fmt: skip
    breaches = [
        (metric, e["at"] - began, e["data"]["elapsed_ms"])
        for metric in ("first_reply", "requester_wait")
        for e in await office.ledger(ticket, metric)
        if e["kind"] == "breach"
    ]
    return clocks, breaches


@pytest.mark.parametrize("first", ["reply", "sweep", "both"])
async def test_a_reply_in_time_is_in_time_whoever_comes_first(office: Office, first: str) -> None:
    """The reply is of the last millisecond of the promise; a sweeper of the next one may be faster."""
    await office.promise(FIRST)
    tickets = [await opened(office, user=f"u{n}") for n in range(6)]
    later = MovableClock()
    later.set(at(60) + 1)
    other = Database(office.db.url, clock=later, hints=office.db.hints, pool_size=4, synchronous="OFF")
    other.listeners = office.db.listeners
    try:
        if first == "sweep":
            await sweep(other)
        replies = [office.agent(60, ticket) for ticket in tickets]
        sweeps = [sweep(other) for _ in range(3)] if first != "reply" else []
        await asyncio.wait_for(asyncio.gather(*replies, *sweeps), timeout=60)
        await sweep(other)
    finally:
        await other.close()
    for ticket in tickets:
        clock = await office.the(ticket, "first_reply")
        assert (clock["state"], clock["breached_at"], clock["fulfilled_at"]) == ("fulfilled", None, at(60))
    async with office.db.reading() as conn:
        waiting = select(func.count()).select_from(sla_clock).where(sla_clock.c.next_fire_at.is_not(None))
        assert await conn.scalar(waiting) == 0
