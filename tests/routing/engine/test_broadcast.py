"""Offers to several at once: what is overdue, what a step of the SLA asks for; the first who accepts gets it."""

import asyncio
from typing import Any

import pytest

from crm_core.db.engine import Database
from crm_core.errors import Gone
from crm_core.events import DomainEvent
from routing import items, listeners, match, offers, sweep
from routing.model import Item, ItemState
from routing.schema import agent_state, assignment, decision, offer, work_item
from tests.conftest import MovableClock
from tests.routing.engine import desk
from tests.routing.engine.desk import T0

MINUTE = 60_000


@pytest.fixture(autouse=True)
def frozen(clock: MovableClock) -> MovableClock:
    clock.set(T0)
    return clock


async def an_overdue_chat(
    db: Database, clock: MovableClock, agents: int, *, settings: dict[str, Any] | None = None
) -> tuple[Item, list[int]]:
    """A chat that nobody could take for four minutes, and then so many can at once."""
    team_id = await desk.a_team(db, settings=settings)
    ids = [await desk.an_agent(db, f"A{n}", team_id, online=False) for n in range(agents)]
    item = await desk.arrives(db, team_id=team_id, channel="webchat")
    assert item.state == ItemState.WAITING
    clock.advance(4 * MINUTE)
    for agent_id in ids:
        # Online without a pull of their own, as after a poll that came for all of them.
        async with db.transaction() as uow:
            await uow.execute(
                agent_state.update()
                .where(agent_state.c.agent_id == agent_id)
                .values(presence="online", routable=True, lease_until=clock.now_ms() + 45_000)
            )
    await sweep.sweep_steps(db)
    async with db.transaction() as uow:
        row = await uow.row(work_item.select().where(work_item.c.id == item.id))
        assert row is not None
        if row["state"] == "waiting":
            await match.route_item(uow, Item.from_row(row), "step")
    return await desk.the_item(db, item.id), ids


async def accepts(db: Database, offer_row: dict[str, Any]) -> dict[str, Any]:
    async with db.transaction() as uow:
        return await offers.accept(uow, offer_row["id"], offer_row["agent_id"])


async def test_what_is_overdue_is_offered_to_five_and_the_first_gets_it(
    db: Database, frozen: MovableClock
) -> None:
    item, agents = await an_overdue_chat(db, frozen, 7)

    made = await desk.open_offers(db, item.id)
    assert item.state == ItemState.OFFERED
    assert [o["kind"] for o in made] == ["broadcast"] * 5
    assert {o["expires_at"] for o in made} == {frozen.now_ms() + 20_000}
    assert [await desk.used(db, o["agent_id"], "chat") for o in made] == [1] * 5
    (told,) = await desk.rows(db, decision, decision.c.outcome == "broadcast")
    assert (sorted(told["why"]["broadcast"]), told["agent_id"]) == (sorted(o["agent_id"] for o in made), None)
    async with db.reading() as conn:
        shown = await offers.open_offers(conn, agent_id=made[0]["agent_id"])
    assert shown[0]["broadcast"] is True

    async def race(row: dict[str, Any]) -> str:
        try:
            await accepts(db, row)
        except Gone as error:
            return error.code
        return "mine"

    outcomes = await asyncio.gather(*(race(o) for o in made))
    assert sorted(outcomes) == ["mine"] + ["offer_taken"] * 4
    after = await desk.the_item(db, item.id)
    assert (after.state, after.owner_id) == (
        ItemState.ASSIGNED,
        made[outcomes.index("mine")]["agent_id"],
    )
    assert sum([await desk.used(db, a, "chat") for a in agents]) == 1
    missed = await desk.rows(db, agent_state, agent_state.c.missed_offers > 0)
    assert missed == [], "who was not quick enough has missed nothing"
    await desk.check_invariants(db)


async def test_a_round_that_nobody_takes_is_followed_by_one_twice_as_wide(
    db: Database, frozen: MovableClock
) -> None:
    item, _ = await an_overdue_chat(db, frozen, 5, settings={"broadcast": {"first": 2, "max": 4}})
    first = await desk.open_offers(db, item.id)
    assert len(first) == 2
    async with db.transaction() as uow:
        await offers.decline(uow, first[0]["id"], first[0]["agent_id"], "busy")
    assert (await desk.the_item(db, item.id)).state == ItemState.OFFERED, "the other may still take it"
    await desk.check_invariants(db)

    frozen.advance(20_000)
    await desk.beat(db)
    await sweep.sweep_offers(db)

    after = await desk.the_item(db, item.id)
    second = await desk.open_offers(db, item.id)
    assert (after.rounds, after.broadcasts, after.state) == (1, 1, ItemState.OFFERED)
    assert len(second) == 4
    assert first[0]["agent_id"] not in {o["agent_id"] for o in second}, "he said no"
    assert first[1]["agent_id"] in {o["agent_id"] for o in second}, "he only did not answer"
    (quiet,) = await desk.rows(db, agent_state, agent_state.c.missed_offers > 0)
    assert (quiet["agent_id"], quiet["missed_offers"]) == (first[1]["agent_id"], 1)
    await desk.check_invariants(db)


async def test_the_poll_asks_all_who_are_free_for_what_is_overdue(db: Database, frozen: MovableClock) -> None:
    """Everybody had declined it; minutes later they may be asked again, and only the poll comes for that."""
    team_id = await desk.a_team(db, settings={"misses_to_break": 9})
    agents = [await desk.an_agent(db, f"A{n}", team_id) for n in range(3)]
    late = await desk.arrives(db, team_id=team_id, channel="webchat")
    for _ in agents:
        (his,) = await desk.open_offers(db, late.id)
        async with db.transaction() as uow:
            await offers.decline(uow, his["id"], his["agent_id"])
    assert (await desk.the_item(db, late.id)).state == ItemState.WAITING
    for _ in range(12):
        frozen.advance(MINUTE // 2)
        await desk.beat(db)
    assert (await desk.the_item(db, late.id)).state == ItemState.WAITING
    fresh = await desk.an_inquiry(db, team_id=team_id)
    await match.route_pending(db)
    made = await desk.open_offers(db, late.id)
    assert (sorted(o["agent_id"] for o in made), {o["kind"] for o in made}) == (agents, {"broadcast"})
    await accepts(db, made[1])
    assert (await desk.enqueue(db, fresh)).owner_id in agents
    await desk.check_invariants(db)

    # One alone who is free has it to himself, as ever.
    for away in agents[1:]:
        await desk.go(db, away, "break")
    async with db.transaction() as uow:
        await items.finish(uow, "inquiry", late.source_id, "solved")
    await desk.go(db, agents[0], "break")
    again = await desk.arrives(db, team_id=team_id, channel="webchat")
    frozen.advance(4 * MINUTE)
    await desk.go(db, agents[0], "online")
    assert [o["kind"] for o in await desk.open_offers(db, again.id)] == ["one"]


async def test_who_hangs_up_takes_all_offers_with_him(db: Database, frozen: MovableClock) -> None:
    item, agents = await an_overdue_chat(db, frozen, 3)
    assert len(await desk.open_offers(db, item.id)) == 3
    async with db.transaction() as uow:
        await items.finish(uow, "inquiry", item.source_id, "abandoned")
    assert {o["state"] for o in await desk.rows(db, offer)} == {"revoked"}
    assert [await desk.used(db, a, "chat") for a in agents] == [0, 0, 0]
    assert (await desk.the_item(db, item.id)).state == ItemState.ABANDONED
    await desk.check_invariants(db)


async def test_a_step_of_the_sla_asks_several_though_it_is_in_time(db: Database) -> None:
    team_id = await desk.a_team(db, settings={"broadcast": {"when": "asked", "first": 3}})
    busy = [await desk.an_agent(db, f"A{n}", team_id, settings={"capacity": {"async": 1}}) for n in range(3)]
    mine = [await desk.arrives(db, team_id=team_id) for _ in busy]
    waiting = await desk.arrives(db, team_id=team_id)
    assert waiting.state == ItemState.WAITING
    await fires(db, waiting, "broadcast_offer")
    assert (await desk.the_item(db, waiting.id)).broadcast_asked

    # Two of them become free in one transaction: the item is offered to both, mail or not.
    async with db.transaction() as uow:
        for done in mine[:2]:
            await uow.execute(
                assignment.update().where(assignment.c.item_id == done.id).values(ended_at=uow.now)
            )
            await uow.execute(work_item.update().where(work_item.c.id == done.id).values(state="done"))
            await uow.execute(
                desk.agent_slot.update()
                .where(desk.agent_slot.c.agent_id == done.owner_id, desk.agent_slot.c.channel == "async")
                .values(used=0, load=0)
            )
            await uow.execute(
                agent_state.update().where(agent_state.c.agent_id == done.owner_id).values(load_used=0)
            )
    await fires(db, waiting, "broadcast_offer")
    made = await desk.open_offers(db, waiting.id)
    assert sorted(o["agent_id"] for o in made) == sorted(i.owner_id or 0 for i in mine[:2])
    await accepts(db, made[1])
    assert not (await desk.the_item(db, waiting.id)).broadcast_asked
    await desk.check_invariants(db)


async def fires(db: Database, item: Item, action: str, value: str | None = None) -> None:
    event = DomainEvent(
        kind="sla.step",
        subject_kind="inquiry",
        subject_id=item.source_id,
        inquiry_id=item.source_id,
        payload={"action": action, "value": value},
    )
    async with db.transaction() as uow:
        await listeners.on_sla_step(uow, event)


async def test_a_broadcast_survives_who_leaves(db: Database, frozen: MovableClock) -> None:
    item, agents = await an_overdue_chat(db, frozen, 2)
    await desk.go(db, agents[0], "offline")
    (left,) = await desk.open_offers(db, item.id)
    assert left["agent_id"] == agents[1]
    await desk.go(db, agents[1], "offline")
    assert (await desk.the_item(db, item.id)).state == ItemState.WAITING
    await desk.check_invariants(db)
