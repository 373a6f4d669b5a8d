"""The recorded past, read from real rows on both databases."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import insert, text

from crm_core.db.engine import Database
from crm_core.errors import Invalid
from crm_core.schema import event
from routing.planning import attendance, history
from routing.planning.past import Outcome, PastRequest, Period
from routing.schema import callback, sla_clock, sla_event, work_item
from tests.routing.planning.record import (
    DAY,
    HOUR,
    MINUTE,
    MONDAY,
    a_calendar,
    a_contact,
    a_team,
    an_agent,
    an_inbox,
    an_inquiry,
    an_item,
    calls_in,
    items_handled,
    presences,
)

NINE = MONDAY + 9 * HOUR
PERIOD = Period(MONDAY, MONDAY + DAY)


async def read(db: Database, period: Period = PERIOD, **options: Any) -> list[PastRequest]:
    return await history.read(db, period, at_most=10_000, **options)


async def test_handled_items_tell_wait_handle_time_and_agent(db: Database) -> None:
    team = await a_team(db)
    olena = await an_agent(db, "Olena", team, online=False)
    await items_handled(db, [(NINE, 5_000, 60_000), (NINE + HOUR, 0, 90_000)], team_id=team, agent_id=olena,
                        priority="high", vip=True)  # fmt: skip
    first, second = await read(db)
    assert (first.outcome, first.left_at, first.handle_ms, first.agent_id) == (
        Outcome.HANDLED, NINE + 5_000, 60_000, olena
    )  # fmt: skip
    assert (first.priority, first.vip, first.team_id, first.channel) == ("high", True, team, "chat")
    assert second.ready_at > first.ready_at


async def test_what_was_not_handled_says_how_it_left(db: Database) -> None:
    team = await a_team(db)
    async with db.transaction() as uow:
        for state, ended in [("abandoned", NINE + 7), ("cancelled", NINE + 8), ("waiting", None)]:
            await uow.insert(work_item, an_item(ready_at=NINE, team_id=team, state=state, ended_at=ended))
    told = {r.outcome: r.left_at for r in await read(db)}
    assert told == {Outcome.ABANDONED: NINE + 7, Outcome.WITHDRAWN: NINE + 8, Outcome.WAITING: None}


async def test_calls_come_from_the_telephone_with_the_team_of_the_line(db: Database) -> None:
    team = await a_team(db)
    olena = await an_agent(db, "Olena", team, online=False)
    line = await an_inbox(db, "telephony", team)
    await calls_in(db, [(NINE, 10_000, 120_000, olena), (NINE + 1, 33_000, None, None)], inbox_id=line)
    async with db.transaction() as uow:  # an answered call's own work item is the same call
        await uow.insert(work_item, an_item(ready_at=NINE + 10_000, team_id=team, source_kind="call"))
    answered, missed = await read(db)
    # The default wrap-up of calls, 30 s, holds the agent too.
    assert (answered.channel, answered.team_id, answered.handle_ms) == ("voice", team, 150_000)
    assert (missed.outcome, missed.wait_ms(0)) == (Outcome.ABANDONED, 33_000)


async def test_a_callers_skills_are_of_the_queue_and_a_promise_is_no_abandoning(db: Database) -> None:
    team = await a_team(db)
    line, maria = await an_inbox(db, "telephony", team), await a_contact(db)
    await calls_in(
        db, [(NINE, 20_000, None, None), (NINE + 1, 20_000, None, None)], inbox_id=line, contact_id=maria
    )
    first, second = await read(db)
    wanted = {"required": {"lang:uk": 1}, "preferred": {}, "hard": ["lang:uk"], "dropped": []}
    async with db.transaction() as uow:
        await uow.insert(
            work_item,
            an_item(ready_at=NINE, team_id=team, source_kind="call", source_id=first.id, channel="voice",
                    requirements=wanted, vip=True, state="abandoned"),
        )  # fmt: skip
        await uow.insert(callback, a_promise(maria, second.id))
    told = await read(db)
    assert [r.outcome for r in told] == [Outcome.ABANDONED, Outcome.WITHDRAWN]
    assert (told[0].requirements.hard, told[0].vip) == (frozenset({"lang:uk"}), True)


def a_promise(contact_id: int, call_id: int) -> dict[str, Any]:
    """A row of callback: instead of waiting in that call."""
    return {
        "contact_id": contact_id, "phone": "+380500000000", "timezone": "UTC", "timezone_source": "default",
        "window_start": NINE, "window_end": NINE + HOUR, "due_at": NINE, "asked_for": False, "state": "done",
        "mode": "agent_first", "counted_attempts": 0, "uncounted_attempts": 0, "max_attempts": 3,
        "created_by": "system", "source": "call", "version": 1, "created_at": NINE, "updated_at": NINE,
        "held_call_id": call_id,
    }  # fmt: skip


async def test_mail_is_handled_in_working_time_without_the_customers(db: Database) -> None:
    """Monday 17:00 to Tuesday 10:00, two hours of which, one in the night and one open, waited for the customer."""
    team = await a_team(db, calendar_id=await a_calendar(db))
    olena = await an_agent(db, "Olena", team, online=False)
    about = await an_inquiry(db, team_id=team)
    start = MONDAY + 17 * HOUR
    await items_handled(
        db, [(start, 0, 17 * HOUR)], team_id=team, agent_id=olena, channel="async", inquiry_id=about
    )
    await pauses(
        db, about, (MONDAY + 23 * HOUR, MONDAY + 24 * HOUR), (MONDAY + 33 * HOUR, MONDAY + 33.5 * HOUR)
    )
    (mail,) = await read(db)
    assert mail.handle_ms == 2 * HOUR - HOUR // 2
    assert mail.held_ms == 17 * HOUR - HOUR - HOUR // 2


async def pauses(db: Database, inquiry_id: int, *spans: tuple[float, float]) -> None:
    """The ledger of an agent_work clock that was paused so."""
    async with db.transaction() as uow:
        clock_id = await uow.insert(
            sla_clock,
            {
                "inquiry_id": inquiry_id, "metric": "agent_work", "instance": 1, "state": "active",
                "activated_at": MONDAY, "consumed_ms": 0, "running_since": None, "paused_ms": 0, "paused_since": None,
                "pause_reasons": [], "target_ms": None, "business": True, "due_at": None, "breach_at": None,
                "next_fire_at": None, "step": 0, "breached_at": None, "fulfilled_at": None, "cause": None,
                "data": {}, "version": 1,
            },
        )  # fmt: skip
        edges = [(kind, int(t)) for span in spans for kind, t in zip(("pause", "resume"), span, strict=True)]
        await uow.execute(
            insert(sla_event),
            [
                {"clock_id": clock_id, "inquiry_id": inquiry_id, "kind": kind, "at": t, "cause": "status",
                 "step_key": None, "data": {}, "recorded_at": t}
                for kind, t in edges
            ],
        )  # fmt: skip


async def test_a_long_period_is_read_page_by_page_in_order(db: Database) -> None:
    team = await a_team(db)
    async with db.transaction() as uow:
        # Many at the same instant: a page may end among them.
        rows = [
            an_item(ready_at=NINE + n // 700, team_id=team, state="cancelled", ended_at=NINE)
            for n in range(2_300)
        ]
        await uow.execute(insert(work_item), rows)
    found = await read(db)
    assert len({r.id for r in found}) == len(found) == 2_300
    assert [r.ready_at for r in found] == sorted(r.ready_at for r in found)
    newest = [r async for page in history.requests(db, PERIOD, latest=300) for r in page]
    assert len(newest) == history.PAGE
    assert min(r.ready_at for r in newest) >= NINE + 1
    with pytest.raises(Invalid) as refused:
        await history.read(db, PERIOD, at_most=2_000)
    assert refused.value.code == "too_much_traffic"


async def test_arrivals_are_counted_by_team_channel_and_quarter(db: Database) -> None:
    support, sales = await a_team(db, "Support"), await a_team(db, "Sales")
    olena = await an_agent(db, "Olena", support, online=False)
    line = await an_inbox(db, "telephony", sales)
    await items_handled(
        db, [(NINE + m * MINUTE, 0, 1_000) for m in (0, 14, 15)], team_id=support, agent_id=olena
    )
    await calls_in(db, [(NINE + 2 * MINUTE, 0, None, None)], inbox_id=line)
    async with db.reading() as conn:
        counts = await history.arrivals(conn, PERIOD)
        only = await history.arrivals(conn, PERIOD, team_id=sales)
        first = await history.first_request_at(conn)
    assert counts == {(support, "chat"): {NINE: 2, NINE + 15 * MINUTE: 1}, (sales, "voice"): {NINE: 1}}
    assert only == {(sales, "voice"): {NINE: 1}}
    assert first == NINE


async def test_the_edges_of_a_period_are_half_open(db: Database) -> None:
    team = await a_team(db)
    olena = await an_agent(db, "Olena", team, online=False)
    told = [(PERIOD.start - 1, 0, 5), (PERIOD.start, 0, 5), (PERIOD.end - 1, 0, 5), (PERIOD.end, 0, 5)]
    await items_handled(db, told, team_id=team, agent_id=olena)
    assert [r.ready_at for r in await read(db)] == [PERIOD.start, PERIOD.end - 1]


async def test_presence_is_read_with_what_was_before(db: Database) -> None:
    team = await a_team(db)
    olena, petro = [await an_agent(db, name, team, online=False) for name in ("Olena", "Petro")]
    quiet = await an_agent(db, "Quiet", team, online=False)
    await presences(db, [
        (olena, MONDAY - HOUR, "online"), (olena, NINE, "break"), (olena, NINE + HOUR, "online"),
        (petro, NINE, "online"), (petro, NINE + 2 * HOUR, "offline"),
    ])  # fmt: skip
    async with db.reading() as conn:
        found = await attendance.recorded(conn, PERIOD, [olena, petro, quiet])
    assert found.keys() == {olena, petro}
    assert found[olena].shifts == ((PERIOD.start, PERIOD.end),)
    assert found[olena].online_ms == DAY - HOUR
    assert found[petro].shifts == ((NINE, NINE + 2 * HOUR),)


async def test_a_lost_connection_is_of_when_it_was_lost(db: Database) -> None:
    """The event comes when it is noticed, and says since when he was gone."""
    olena = await an_agent(db, "Olena", await a_team(db), online=False)
    await presences(db, [(olena, NINE, "online"), (olena, NINE + HOUR, "offline")])
    async with db.transaction() as uow:
        await uow.execute(event.update().where(event.c.at == NINE + HOUR).values(at=NINE + 2 * HOUR))
    async with db.reading() as conn:
        found = await attendance.recorded(conn, PERIOD, [olena])
    assert found[olena].shifts == ((NINE, NINE + HOUR),)


async def test_ranges_are_read_by_index_only(db: Database) -> None:
    """The plan of each question about a period uses the index made for it, whatever else grows."""
    team = await a_team(db)
    await a_contact(db)
    async with db.transaction() as uow:
        rows = [an_item(ready_at=n * MINUTE, team_id=team) for n in range(3_000)]
        await uow.execute(insert(work_item), rows)
    questions = {
        "ix_work_item_ready_at": "select * from work_item where ready_at >= 600000 and ready_at < 900000 "
        "order by ready_at, id limit 1000",
        "ix_assignment_item_id": "select * from assignment where item_id = 5",
        "ix_call_started_at": "select id from call where started_at >= 5 and started_at < 9 order by started_at, id",
        "ix_event_presence": "select max(id) from event where kind = 'presence.changed' and subject_id = 5 and at < 9",
    }
    for index, question in questions.items():
        assert index in await plan(db, question), index


async def plan(db: Database, question: str) -> str:
    explain = "explain query plan " if db.dialect == "sqlite" else "explain "
    async with db.reading() as conn:
        if db.dialect == "postgresql":
            await conn.execute(text("set local enable_seqscan = off"))
        rows = await conn.execute(text(explain + question))
        return "\n".join(str(r) for r in rows)


def test_a_period_is_checked() -> None:
    for start, end in ((5, 5), (5, 4), (0, 100 * DAY)):
        with pytest.raises(Invalid) as refused:
            Period.checked(start, end)
        assert refused.value.code == "bad_period"
    assert asyncio.iscoroutinefunction(history.read)
