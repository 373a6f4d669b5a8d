"""The sweeper tells of each deadline and step exactly once, whatever dies and however many sweep at once."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import func, select, update
from typing_extensions import override

from crm_core.clock import SystemClock
from crm_core.db.engine import Database
from crm_core.db.uow import UnitOfWork
from crm_core.events import DomainEvent
from crm_core.jobs import JobRow
from crm_core.schema import inquiry
from routing.schema import sla_clock, sla_event
from routing.sla import storms, sweeper
from routing.sla.sweeper import sweep
from tests.routing.sla.builders import MINUTE, Office, at, opened

STEPS = [
    {"at": "50%", "actions": ["notify_assignee"]},
    {"at": "75%", "actions": ["notify_lead", {"do": "tag", "value": "slow"}]},
    {"at": "100%", "actions": ["notify_lead"]},
]
FIRST = {"first_reply": {"minutes": 60, "steps": STEPS}}


@pytest.fixture
async def office(db: Database, clock: Any) -> Office:
    return await Office.open(db, clock)


async def steps_told(office: Office) -> list[tuple[int, str, bool]]:
    told = await office.told("sla.warned")
    return [(e["inquiry_id"], e["payload"]["step"], e["payload"]["late"]) for e in told]


async def test_each_step_at_its_time_and_the_next_one_announced(office: Office) -> None:
    await office.promise(FIRST)
    ticket = await opened(office)
    office.move(29)
    assert await sweep(office.db) == at(30)
    assert await steps_told(office) == []
    office.move(30)
    assert await sweep(office.db) == at(45)
    office.move(45)
    assert await sweep(office.db) == at(60) + 1
    office.clock.set(at(60) + 1)
    assert await sweep(office.db) is None
    assert await steps_told(office) == [
        (ticket, "50%", False),
        (ticket, "75%", False),
        (ticket, "100%", False),
    ]
    [breach] = await office.told("sla.breached")
    assert breach["payload"]["at"] == "2025-06-02T08:00:00.000Z"
    lead = (await office.told("sla.warned"))[1]
    assert lead["payload"]["notify"]["agents"] == [office.lead_id]
    assert office.lead_id in lead["audience"]["agents"]


async def test_missed_steps_are_told_as_the_highest_one_marked_late(office: Office) -> None:
    await office.promise(FIRST)
    ticket = await opened(office)
    office.move(200)
    await sweep(office.db)
    await sweep(office.db)
    assert await steps_told(office) == [(ticket, "100%", True)]
    assert (await office.told("sla.warned"))[0]["payload"]["skipped"] == ["50%", "75%"]


async def test_a_paused_clock_fires_nothing_and_goes_on_after(office: Office) -> None:
    await office.promise({"requester_wait": {"minutes": 60, "steps": STEPS}})
    ticket = await opened(office)
    await office.change(20, ticket, status="pending")
    office.move(300)
    assert await sweep(office.db) is None
    await office.change(300, ticket, status="open")
    office.move(309)
    assert await sweep(office.db) == at(310)


async def test_killed_in_the_middle_each_step_is_told_once(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies at every point where a transaction could be cut; what it had not committed is done again."""
    await office.promise(FIRST)
    tickets = [await opened(office, user=f"u{n}") for n in range(6)]
    monkeypatch.setattr(sweeper, "_TOGETHER", 2)
    office.move(50)

    class Killed(BaseException):
        pass

    calls = 0

    async def die(uow: UnitOfWork, event: DomainEvent) -> None:
        nonlocal calls
        calls += 1
        if calls % 2 == 0:
            raise Killed

    listeners = dict(office.db.listeners)
    office.db.listeners = {**listeners, "sla.warned": [die]}
    for _ in range(20):
        try:
            await sweep(office.db)
        except Killed:
            continue
        break
    else:
        office.db.listeners = listeners
        await sweep(office.db)
    assert sorted(await steps_told(office)) == [(t, "75%", True) for t in tickets]
    async with office.db.reading() as conn:
        assert (
            await conn.scalar(select(func.count()).select_from(sla_event).where(sla_event.c.kind == "warn"))
            == 6
        )
    assert len(await office.jobs("sla.step")) == 6


async def test_many_sweepers_at_once_tell_once(office: Office) -> None:
    await office.promise(FIRST)
    tickets = [await opened(office, user=f"u{n}") for n in range(30)]
    office.move(61)
    await asyncio.gather(*(sweep(office.db) for _ in range(6)))
    await sweep(office.db)
    assert sorted(t for t, _, _ in await steps_told(office)) == tickets
    assert len(await office.told("sla.breached")) == 30


async def test_sweeping_and_replying_at_once_never_blocks_for_ever(office: Office) -> None:
    await office.promise(FIRST)
    tickets = [await opened(office, user=f"u{n}") for n in range(12)]
    office.move(61)
    await asyncio.wait_for(
        asyncio.gather(*(sweep(office.db) for _ in range(3)), *(office.agent(61, t) for t in tickets)),
        timeout=60,
    )
    assert len(await office.told("sla.breached")) == 12
    assert {(await office.the(t, "first_reply"))["breached_at"] for t in tickets} == {at(60)}


@pytest.mark.parametrize(
    "backend", ["postgresql"], indirect=True
)  # SQLite has one writer: nobody can hold a row
async def test_an_inquiry_that_somebody_holds_is_left_for_the_next_time(office: Office) -> None:
    await office.promise(FIRST)
    held, free = [await opened(office, user=f"u{n}") for n in range(2)]
    office.move(31)
    async with office.db.transaction() as uow:
        await uow.execute(uow.lock(select(inquiry.c.id).where(inquiry.c.id == held)))
        due = await asyncio.wait_for(sweep(office.db), timeout=30)
        assert due is not None and due > at(31)
    assert [t for t, _, _ in await steps_told(office)] == [free]
    await sweep(office.db)
    assert [t for t, _, _ in await steps_told(office)] == [free, held]


async def test_one_broken_clock_does_not_keep_the_others_waiting(office: Office) -> None:
    await office.promise(FIRST)
    broken, whole = [await opened(office, user=f"u{n}") for n in range(2)]
    async with office.db.transaction() as uow:
        await uow.execute(update(sla_clock).where(sla_clock.c.inquiry_id == broken).values(pause_reasons=7))
    office.move(31)
    assert await sweep(office.db) == at(32)
    assert [t for t, _, _ in await steps_told(office)] == [whole]
    [alarm] = await office.told("alarm.raised")
    assert str(broken) in alarm["payload"]["error"]


async def test_a_storm_of_breaches_is_one_summary(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storms, "STORM", 5)
    await office.promise({"first_reply": 60})
    tickets = [await opened(office, user=f"u{n}") for n in range(6)]
    office.move(61)
    await sweep(office.db)
    [storm] = await office.told("sla.storm")
    assert storm["payload"] == {
        "team_id": office.team_id, "breaches": 6, "first_breach_at": "2025-06-02T08:00:00.000Z"}  # fmt: skip
    assert await office.told("sla.breached") == []
    for ticket in tickets:
        assert [e["kind"] for e in await office.ledger(ticket, "first_reply")] == ["activate", "breach"]


async def test_what_was_missed_is_on_the_account_of_who_had_it_then(office: Office) -> None:
    await office.promise({"first_reply": 60})
    ticket = await opened(office)
    await office.change(10, ticket, assignee_id=office.agent_id)
    await office.change(90, ticket, assignee_id=office.lead_id)
    await office.agent(100, ticket)
    kinds = {e["kind"]: e["data"]["agent_id"] for e in await office.ledger(ticket, "first_reply")}
    assert kinds == {"activate": None, "breach": office.agent_id, "fulfil": office.lead_id}


async def test_a_storm_is_one_for_the_minute_however_many_transactions(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first few are told singly; the rest of the minute is a number, and at its end the leads get one line."""
    monkeypatch.setattr(storms, "STORM", 4)
    monkeypatch.setattr(sweeper, "_TOGETHER", 2)
    plan = [{"at": "100%", "actions": ["notify_lead", "raise_priority"]}]
    await office.promise({"first_reply": {"minutes": 60, "steps": plan}})
    for n in range(8):
        await opened(office, user=f"u{n}")
    office.move(61)
    await sweep(office.db)
    assert len(await office.told("sla.breached")) == 4
    [storm] = await office.told("sla.storm")
    assert storm["payload"]["breaches"] == 6
    # What changes a ticket is done for each; only the telling is gathered.
    assert len(await office.jobs("sla.step")) == 8
    assert len(await office.jobs("sla.tell")) == 2
    [job] = await office.jobs("sla.storm")
    assert job["run_at"] == at(62)
    office.move(62)
    async with office.db.transaction() as uow:
        await storms.summarise(None, uow, JobRow(lease_token="", **{n: job[n] for n in _JOB}))  # type: ignore[arg-type]
    [line] = await office.told("notification.raised")
    assert (line["payload"]["agent_id"], line["payload"]["new"][0]["breaches"]) == (office.lead_id, 8)


_JOB = ("id", "name", "args", "lane", "order_key", "attempts", "max_attempts", "created_at")


class Fast(SystemClock):
    """A system clock that somebody set wrong."""

    def __init__(self, ahead_ms: int) -> None:
        self._ahead_ms = ahead_ms

    @override
    def now_ms(self) -> int:
        return super().now_ms() + self._ahead_ms


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)  # SQLite has no clock of its own
@pytest.mark.parametrize("ahead", [-20 * MINUTE, 20 * MINUTE])
async def test_a_process_whose_clock_is_wrong_breaks_no_promise_and_says_so(
    office: Office, ahead: int
) -> None:
    await office.promise(FIRST)
    office.clock.set(SystemClock().now_ms() - 55 * MINUTE - max(0, -ahead))
    ticket = await opened(office)
    wrong = Database(office.db.url, clock=Fast(ahead), hints=office.db.hints)
    right = Database(office.db.url, clock=SystemClock(), hints=office.db.hints)
    try:
        async with office.db.transaction() as uow:
            await uow.execute(update(sla_clock).values(next_fire_at=1))
        for _ in range(3):
            due = await sweep(wrong)
            assert due is not None and due > wrong.clock.now_ms()
        assert await steps_told(office) == []
        [alarm] = await office.told("alarm.raised")
        assert alarm["payload"]["what"] == "clock_skew"
        assert abs(alarm["payload"]["skew_ms"] - ahead) < MINUTE
        await sweep(right)
        assert [t for t, _, _ in await steps_told(office)] == [ticket]
    finally:
        await wrong.close()
        await right.close()


async def test_the_skew_of_clocks_is_known(office: Office) -> None:
    async with office.db.reading() as conn:
        assert abs(await sweeper.clock_skew_ms(conn, SystemClock())) < 60_000
        office.clock.set(SystemClock().now_ms() + 10 * MINUTE)
        skew = await sweeper.clock_skew_ms(conn, office.clock)
    expected = 0 if office.db.dialect == "sqlite" else 10 * MINUTE
    assert abs(skew - expected) < 60_000
