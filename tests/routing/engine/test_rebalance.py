"""What becomes of the work of an agent who is gone: which goes, when, in what order and how fast."""

from typing import Any

import pytest
from sqlalchemy import update

from crm_core import inquiries
from crm_core.clock import HOUR, MINUTE
from crm_core.db.engine import Database
from crm_core.events import DomainEvent
from crm_core.schema import agent
from routing import listeners, sweep
from routing.model import ItemState
from routing.rebalance import Absence, moves_at
from routing.schema import calendar, sla_clock, work_item
from routing.settings import DEFAULTS, parse
from tests.conftest import MovableClock
from tests.routing.engine import desk
from tests.routing.engine.desk import T0

GONE = Absence(presence="offline", since=T0)
EVENING = Absence(presence="offline", since=T0, shift_over=True, back_at=T0 + 14 * HOUR)


@pytest.fixture(autouse=True)
def frozen(clock: MovableClock) -> MovableClock:
    clock.set(T0)
    return clock


@pytest.mark.parametrize(
    ("channel", "due", "absence", "when"),
    [
        ("voice", None, GONE, None),
        ("chat", None, GONE, T0 + MINUTE),
        ("async", None, GONE, None),
        ("async", T0 + 2 * HOUR, GONE, T0 + 2 * HOUR - 16 * MINUTE),
        ("async", T0 + 5 * MINUTE, GONE, T0 + MINUTE),
        ("async", None, Absence(presence="away_reassign", since=T0), T0),
        # His shift is over: what is due before he has been back for long enough is others' now.
        ("async", T0 + 14 * HOUR + 14 * MINUTE, EVENING, T0 + MINUTE),
        ("async", T0 + 15 * HOUR, EVENING, T0 + 15 * HOUR - 16 * MINUTE),
        ("async", T0 + 900 * HOUR, Absence(presence="offline", since=T0, shift_over=True), T0 + MINUTE),
        ("async", None, EVENING, None),
    ],
)
def test_when_work_goes(channel: str, due: int | None, absence: Absence, when: int | None) -> None:
    assert moves_at(channel, due, absence, DEFAULTS) == when


def test_a_team_may_hand_on_everything_in_the_evening_or_nothing() -> None:
    assert moves_at("async", None, EVENING, parse({"end_of_shift": "all"})) == T0 + MINUTE
    late = T0 + 14 * HOUR
    assert moves_at("async", late, EVENING, parse({"end_of_shift": "keep"})) == late - 16 * MINUTE


async def clocked(db: Database, inquiry_id: int, due_at: int) -> None:
    async with db.transaction() as uow:
        await uow.execute(sla_clock.delete().where(sla_clock.c.inquiry_id == inquiry_id))
        facts: dict[str, Any] = {
            "inquiry_id": inquiry_id, "metric": "next_reply", "instance": 1, "state": "active",
            "activated_at": T0, "consumed_ms": 0, "paused_ms": 0, "pause_reasons": [], "business": False,
            "due_at": due_at, "step": 0, "data": {}, "version": 1,
        }  # fmt: skip
        await uow.execute(sla_clock.insert().values(**facts))
        retargeted = DomainEvent(
            kind="sla.retargeted", subject_kind="inquiry", subject_id=inquiry_id, inquiry_id=inquiry_id
        )
        await listeners.on_clock(uow, retargeted)


async def test_no_more_than_so_many_a_minute_go_and_the_most_urgent_first(
    db: Database, frozen: MovableClock
) -> None:
    team_id = await desk.a_team(db, settings={"rebalance_per_minute": 2})
    petro = await desk.an_agent(db, "Petro", team_id)
    order = ["low", "urgent", "normal", "high", "normal"]
    given = [await desk.arrives(db, team_id=team_id, priority=p) for p in order]
    assert {i.owner_id for i in given} == {petro}
    olena = await desk.an_agent(db, "Olena", team_id)

    await desk.go(db, petro, "away_reassign")
    moved: list[list[int]] = []
    for _ in range(3):
        await sweep.sweep_wakeups(db)
        mine = await desk.rows(db, work_item, work_item.c.owner_id == olena)
        moved.append(sorted(given.index(next(g for g in given if g.id == r["id"])) for r in mine))
        frozen.advance(MINUTE)
        await desk.beat(db)

    assert moved == [[1, 3], [1, 2, 3, 4], [0, 1, 2, 3, 4]]
    await desk.check_invariants(db)


async def test_a_new_deadline_finds_the_owner_gone(db: Database, frozen: MovableClock) -> None:
    team_id = await desk.a_team(db)
    petro = await desk.an_agent(db, "Petro", team_id)
    item = await desk.arrives(db, team_id=team_id)
    olena = await desk.an_agent(db, "Olena", team_id)
    await desk.go(db, petro, "offline")
    assert (await desk.the_item(db, item.id)).wake_at is None, "nothing is promised: it stays his"

    await clocked(db, item.source_id, T0 + HOUR)
    assert (await desk.the_item(db, item.id)).wake_at == T0 + HOUR - 16 * MINUTE
    await clocked(db, item.source_id, T0 + 2 * HOUR)
    frozen.advance(HOUR)
    await desk.beat(db)
    await sweep.sweep_wakeups(db)
    assert (await desk.the_item(db, item.id)).owner_id == petro, "it may wait longer now"
    frozen.advance(44 * MINUTE)
    await desk.go(db, olena, "online")
    await sweep.sweep_wakeups(db)
    after = await desk.the_item(db, item.id)
    assert (after.owner_id, after.sticky_agent_id) == (olena, petro)
    await desk.check_invariants(db)


async def test_after_his_shift_only_what_cannot_wait_for_him_goes(db: Database, frozen: MovableClock) -> None:
    team_id = await desk.a_team(db)
    petro = await desk.an_agent(db, "Petro", team_id)
    spec = {"tz": "UTC", "week": {}, "special": {}}
    async with db.transaction() as uow:
        closed = await uow.insert(calendar, {"name": "gone", "spec": spec, "version": 1, "updated_at": T0})
        await uow.execute(update(agent).where(agent.c.id == petro).values(calendar_id=closed))
    soon, never = [await desk.arrives(db, team_id=team_id) for _ in range(2)]
    await clocked(db, soon.source_id, T0 + 20 * HOUR)
    await desk.an_agent(db, "Olena", team_id)
    await desk.go(db, petro, "offline")
    wakes = [(await desk.the_item(db, i.id)).wake_at for i in (soon, never)]
    assert wakes == [T0 + MINUTE, None]
    await desk.check_invariants(db)


async def test_a_solved_item_of_a_gone_agent_is_nobodys_business(db: Database, frozen: MovableClock) -> None:
    db.listeners = listeners.LISTENERS
    team_id = await desk.a_team(db)
    petro = await desk.an_agent(db, "Petro", team_id)
    item = await desk.arrives(db, team_id=team_id)
    await desk.go(db, petro, "away_reassign")
    async with db.transaction() as uow:
        await inquiries.change(uow, item.source_id, {"status": "solved"}, actor="system")
    frozen.advance(MINUTE)
    await sweep.sweep_wakeups(db)
    assert (await desk.the_item(db, item.id)).state == ItemState.DONE
