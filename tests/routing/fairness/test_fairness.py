"""The index by hand, and the report from rows on both databases."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert, update

from crm_core.clock import HOUR, MINUTE
from crm_core.db.engine import Database
from crm_core.errors import Invalid
from crm_core.schema import agent
from routing import assignments, fairness, items, offers, sweep
from routing.schema import calendar
from tests.conftest import MovableClock
from tests.routing.engine import desk


@pytest.fixture
def clock(clock: MovableClock) -> MovableClock:
    clock.set(desk.T0)
    return clock


@pytest.mark.parametrize(
    ("values", "index"),
    [([1, 1, 1, 1], 1.0), ([4, 0, 0, 0], 0.25), ([1, 2, 3], 36 / 42), ([2, 2, 2, 1], 49 / 52)],
)
def test_the_index_by_hand(values: list[float], index: float) -> None:
    assert fairness.jain(values) == pytest.approx(index)


def test_no_index_of_nothing() -> None:
    assert fairness.jain([]) is None
    assert fairness.jain([3]) is None
    assert fairness.jain([0, 0]) is None


@given(st.lists(st.floats(0.01, 1e6), min_size=2, max_size=30), st.floats(0.01, 1e3))
def test_the_index_is_between_one_nth_and_one_and_knows_no_unit(values: list[float], factor: float) -> None:
    index = fairness.jain(values)
    assert index is not None
    assert 1 / len(values) - 1e-9 <= index <= 1 + 1e-9
    assert fairness.jain(v * factor for v in values) == pytest.approx(index)


async def a_calendar(db: Database, name: str, hours: list[list[str]]) -> int:
    spec = {"tz": "UTC", "week": dict.fromkeys(("mon", "tue", "wed", "thu", "fri", "sat", "sun"), hours)}
    async with db.transaction() as uow:
        made = await uow.execute(
            insert(calendar)
            .values(name=name, spec=spec, version=1, updated_at=uow.now)
            .returning(calendar.c.id)
        )
        return int(made.scalar_one())


async def of(db: Database, team: int, hours: int = 24) -> list[fairness.Group]:
    now = db.clock.now_ms()
    async with db.reading() as conn:
        return await fairness.report(conn, now - hours * HOUR, now, team_id=team)


async def test_work_and_hours_of_each_agent(db: Database, clock: MovableClock) -> None:
    team = await desk.a_team(db)
    day, short = (
        await a_calendar(db, "Day", [["00:00", "24:00"]]),
        await a_calendar(db, "Short", [["00:00", "12:00"]]),
    )
    olena, ivan = await desk.an_agent(db, "Olena", team), await desk.an_agent(db, "Ivan", team)
    async with db.transaction() as uow:
        await uow.execute(update(agent).where(agent.c.id == olena).values(calendar_id=day))
        await uow.execute(update(agent).where(agent.c.id == ivan).values(calendar_id=short))
    await desk.an_agent(db, "Leave", team, online=False)
    for _ in range(4):
        await desk.arrives(db, team_id=team)
    clock.advance(24 * HOUR)
    groups = {g.shift: g for g in await of(db, team)}
    assert set(groups) == {"Day", "Short", None}
    (mine,) = groups["Day"].rows
    (his,) = groups["Short"].rows
    assert (mine.handled, mine.units, mine.scheduled_ms, mine.source) == (2, 20, 24 * HOUR, "calendar")
    assert (his.handled, his.scheduled_ms) == (2, 12 * HOUR)
    assert his.per_hour(his.handled) == pytest.approx(2 / 12)
    (leave,) = groups[None].rows
    assert leave.absent and not leave.counts
    assert groups["Day"].jain is None


async def test_presence_stands_in_for_a_schedule_and_the_index_is_per_hour(
    db: Database, clock: MovableClock
) -> None:
    team = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team)
    ivan = await desk.an_agent(db, "Ivan", team)
    for _ in range(2):
        await desk.arrives(db, team_id=team)
    clock.advance(2 * HOUR)
    await desk.go(db, ivan, "offline")
    await desk.go(db, olena, "online")
    for _ in range(2):
        await desk.arrives(db, team_id=team)
    clock.advance(2 * HOUR)
    (group,) = await of(db, team, hours=5)
    rows = {r.agent_id: r for r in group.rows}
    assert {r.source for r in group.rows} == {"presence"}
    assert rows[ivan].scheduled_ms == 2 * HOUR
    assert (rows[olena].handled, rows[ivan].handled) == (3, 1)
    assert rows[olena].scheduled_ms == 4 * HOUR
    assert group.jain == pytest.approx(fairness.jain([3 / 4, 1 / 2]))
    shown = fairness.as_data([group], 0, 1)["groups"][0]
    assert shown["reached"] is (group.jain is not None and group.jain >= 0.95)


async def test_offers_and_how_they_ended(db: Database, clock: MovableClock) -> None:
    team = await desk.a_team(db, settings={"misses_to_break": 9})
    olena = await desk.an_agent(db, "Olena", team)
    first = await desk.arrives(db, team_id=team, channel="webchat")
    (made,) = await desk.open_offers(db, first.id)
    async with db.transaction() as uow:
        await offers.decline(uow, made["id"], olena)
    second = await desk.arrives(db, team_id=team, channel="webchat")
    clock.advance(30_000)
    await sweep.sweep_offers(db)
    third = await desk.arrives(db, team_id=team, channel="webchat")
    (made,) = await desk.open_offers(db, third.id)
    async with db.transaction() as uow:
        await offers.accept(uow, made["id"], olena)
    async with db.transaction() as uow:
        await assignments.take(uow, second.source_id, olena)
    async with db.transaction() as uow:
        await items.finish(uow, "inquiry", third.source_id, "solved")
    clock.advance(MINUTE)
    (group,) = await of(db, team)
    (row,) = group.rows
    assert (row.offers, row.accepted, row.declined, row.missed) == (3, 1, 1, 1)
    assert (row.handled, row.by_hand) == (2, 1)


async def test_what_is_outside_the_period_does_not_count(db: Database, clock: MovableClock) -> None:
    team = await desk.a_team(db)
    await desk.an_agent(db, "Olena", team)
    await desk.arrives(db, team_id=team)
    clock.advance(48 * HOUR)
    (group,) = await of(db, team)
    assert group.rows[0].handled == 0
    async with db.reading() as conn:
        for start, end in ((5, 5), (9, 5), (0, fairness.MAX_MS + 1)):
            with pytest.raises(Invalid):
                await fairness.report(conn, start, end)
