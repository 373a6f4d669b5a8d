"""The expected wait from rows, on both databases, through the verbs that make the rows."""

import pytest

from crm_core.clock import HOUR, MINUTE
from crm_core.db.engine import Database
from routing import expected_wait, items, offers
from routing.model import ItemState
from routing.wait_model import Basis, Wait
from tests.conftest import MovableClock
from tests.routing.engine import desk


@pytest.fixture
def clock(clock: MovableClock) -> MovableClock:
    clock.set(desk.T0)
    return clock


async def wait_of(db: Database, team: int, channel: str = "chat") -> Wait:
    async with db.reading() as conn:
        return await expected_wait.estimate(conn, team, channel, db.clock.now_ms())


async def serve(
    db: Database, clock: MovableClock, team: int, agent: int, *, minutes: int, times: int
) -> None:
    """Chats that come, are accepted at once and last so long."""
    for _ in range(times):
        item = await desk.arrives(db, team_id=team, channel="webchat")
        (made,) = await desk.open_offers(db, item.id)
        async with db.transaction() as uow:
            await offers.accept(uow, made["id"], agent)
        clock.advance(minutes * MINUTE)
        await desk.go(db, agent, "online")
        async with db.transaction() as uow:
            await items.finish(uow, "inquiry", item.source_id, "solved")


async def test_the_story_of_a_queue(db: Database, clock: MovableClock) -> None:
    team = await desk.a_team(db, settings={"channels": {"chat": {"max": 1}}})
    assert (await wait_of(db, team)).basis == Basis.NOBODY
    olena = await desk.an_agent(db, "Olena", team)
    assert (await wait_of(db, team)).basis == Basis.FREE

    await serve(db, clock, team, olena, minutes=4, times=12)
    busy = await desk.arrives(db, team_id=team, channel="webchat")
    (made,) = await desk.open_offers(db, busy.id)
    async with db.transaction() as uow:
        await offers.accept(uow, made["id"], olena)
    first = await wait_of(db, team)
    assert (first.ahead, first.wait_ms, first.low_min, first.high_min) == (0, 4 * MINUTE, 3, 5)

    queued = [await desk.arrives(db, team_id=team, channel="webchat") for _ in range(2)]
    fourth = await wait_of(db, team)
    assert (fourth.ahead, fourth.position, fourth.wait_ms) == (2, 3, 12 * MINUTE)
    assert fourth.agents == 1
    assert fourth.handle_ms == 4 * MINUTE

    async with db.reading() as conn:
        second = await expected_wait.for_item(conn, queued[1], clock.now_ms())
    assert (second.ahead, second.position, second.wait_ms) == (1, 2, 8 * MINUTE)

    await desk.go(db, olena, "break")
    assert (await wait_of(db, team)).basis == Basis.NOBODY


async def test_the_queues_of_others_do_not_count(db: Database, clock: MovableClock) -> None:
    ours, theirs = await desk.a_team(db, "Ours"), await desk.a_team(db, "Theirs")
    await desk.an_agent(db, "Olena", ours)
    for _ in range(3):
        item = await desk.arrives(db, team_id=theirs, channel="webchat")
        assert item.state == ItemState.WAITING
    assert (await wait_of(db, theirs)).ahead == 3
    assert (await wait_of(db, ours)).ahead == 0
    assert (await wait_of(db, theirs, "async")).ahead == 0


async def test_somebody_of_two_teams_counts_by_his_part(db: Database, clock: MovableClock) -> None:
    one, two = await desk.a_team(db, "One"), await desk.a_team(db, "Two")
    olena = await desk.an_agent(db, "Olena", one)
    assert (await wait_of(db, one)).places == 4
    from sqlalchemy import insert

    from crm_core.schema import team_member
    from routing import lanes

    async with db.transaction() as uow:
        await uow.execute(insert(team_member).values(team_id=two, agent_id=olena, lead=False))
        await lanes.rebuild_agent(uow, olena)
    assert (await wait_of(db, one)).places == 2
    await serve(db, clock, two, olena, minutes=1, times=3)
    assert (await wait_of(db, one)).places == pytest.approx(4 * 0.5 / 4)
    assert (await wait_of(db, two)).places == pytest.approx(4 * 3.5 / 4)


async def test_an_unknown_team_has_nobody(db: Database) -> None:
    assert (await wait_of(db, 987_654)).basis == Basis.NOBODY


async def test_old_work_tells_nothing(db: Database, clock: MovableClock) -> None:
    team = await desk.a_team(db, settings={"channels": {"chat": {"max": 1}}})
    olena = await desk.an_agent(db, "Olena", team)
    await serve(db, clock, team, olena, minutes=1, times=11)
    clock.advance(HOUR)
    await desk.go(db, olena, "online")
    wait = await wait_of(db, team)
    assert wait.per_minute is None
    assert wait.p90_ms is None


async def test_who_declined_is_not_waited_for(db: Database, clock: MovableClock) -> None:
    """The only one who is free does not want it: nobody says that somebody comes right away."""
    team = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team)
    item = await desk.arrives(db, team_id=team, channel="webchat")
    (made,) = await desk.open_offers(db, item.id)
    async with db.transaction() as uow:
        await offers.decline(uow, made["id"], olena, None)
    async with db.reading() as conn:
        found = await expected_wait.of_inquiry(conn, item.source_id, clock.now_ms())
    assert found is not None and found.basis == Basis.NOBODY
    assert (await wait_of(db, team)).basis != Basis.NOBODY, "the next one may have her"
