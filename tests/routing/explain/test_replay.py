"""A decision made again from what was kept with it gives the same winner; and it can fail."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update

from crm_core.clock import MINUTE, SECOND
from crm_core.db.engine import Database
from crm_core.errors import NotFound
from routing import configuration, decide, explain_replay, offers, replay, steps, sweep
from routing.decide import Hours
from routing.explain_replay import replay_decision
from routing.model import AgentView, Channel, Item, Presence, Requirements, Slot
from routing.schema import decision
from routing.settings import DEFAULTS, parse
from tests.conftest import MovableClock
from tests.routing.engine import desk

NOW = 1_790_000_000_000


@pytest.fixture
def clock(clock: MovableClock) -> MovableClock:
    clock.set(desk.T0)
    return clock


async def every_decision(db: Database) -> list[dict[str, Any]]:
    async with db.reading() as conn:
        ids = (await conn.scalars(select(decision.c.id).order_by(decision.c.id))).all()
        return [await replay_decision(conn, i) for i in ids]


async def test_offers_pulls_waits_and_broadcasts_are_made_again(db: Database, clock: MovableClock) -> None:
    team = await desk.a_team(db, settings={"broadcast": {"first": 2}, "channels": {"chat": {"max": 1}}})
    ivan = await desk.an_agent(db, "Ivan", team, skills={"lang:uk": 3})
    await desk.an_agent(db, "Olena", team, skills={"lang:uk": 5})
    first = await desk.arrives(db, team_id=team, channel="webchat", language="uk")
    for _ in range(3):
        await desk.arrives(db, team_id=team, channel="webchat")
    (made,) = await desk.open_offers(db, first.id)
    async with db.transaction() as uow:
        await offers.decline(uow, made["id"], made["agent_id"])
    clock.advance(5 * MINUTE)
    await sweep.sweep_offers(db)
    for agent in (ivan, ivan + 1):
        await desk.go(db, agent, "online")
    await sweep.sweep_steps(db)
    await sweep.sweep_lanes(db)
    outcomes = {r["outcome"] for r in await desk.rows(db, decision)}
    assert {"offered", "waits"} <= outcomes
    found = await every_decision(db)
    assert len(found) > 6
    assert [f for f in found if not f["same"]] == []


async def test_the_settings_of_then_are_used(db: Database) -> None:
    team = await desk.a_team(db)
    await desk.an_agent(db, "Olena", team)
    await desk.arrives(db, team_id=team, channel="webchat")
    async with db.transaction() as uow:
        await configuration.edit(uow, team, {"channels": {"chat": {"weight": 500}}}, actor="agent:1")
    (found,) = await every_decision(db)
    assert found["same"]
    assert found["rule_version"] == 1


async def test_another_winner_is_told(db: Database) -> None:
    team = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team)
    ivan = await desk.an_agent(db, "Ivan", team)
    await desk.arrives(db, team_id=team, channel="webchat")
    (row,) = await desk.rows(db, decision)
    (winner,) = {olena, ivan} & {row["agent_id"]}
    data = dict(row["input"])
    data["agents"] = [a for a in data["agents"] if a["agent_id"] != winner]
    async with db.transaction() as uow:
        await uow.execute(update(decision).values(input=data))
    (found,) = await every_decision(db)
    assert (found["same"], found["replayable"]) == (False, True)
    assert found["winners"] == [({olena, ivan} - {winner}).pop()]


async def test_what_cannot_be_made_again_says_why(db: Database) -> None:
    team = await desk.a_team(db)
    await desk.an_agent(db, "Olena", team)
    await desk.arrives(db, team_id=team, channel="webchat")
    async with db.transaction() as uow:
        await uow.execute(update(decision).values(input=None))
    (found,) = await every_decision(db)
    assert (found["replayable"], found["reason"]) == (False, "no_input")
    async with db.reading() as conn:
        with pytest.raises(NotFound):
            await replay_decision(conn, 999_999)


# --- any bureau
# ----------------------------------------------------------------------------------------------------
SKILLS = ("lang:uk", "product:visa")
agents = st.builds(
    lambda n, online, idle, used, skills, in_shift: (n, online, idle, used, skills, in_shift),
    st.integers(1, 40),
    st.booleans(),
    st.integers(0, 10 * MINUTE),
    st.integers(0, 4),
    st.dictionaries(st.sampled_from(SKILLS), st.integers(1, 5)),
    st.booleans(),
)
requests = st.builds(
    lambda required, preferred, manager, sticky, waited, excluded, vip: Item(
        id=7, source_kind="inquiry", source_id=7, team_id=1, channel=Channel.CHAT,
        requirements=Requirements(required=required, preferred=preferred), ready_at=NOW - waited,
        step_entered_at=NOW - waited, order_key=NOW + 60_000 - waited, manager_id=manager, sticky_agent_id=sticky,
        order_parts={"target_at": NOW + 180 * SECOND - waited}, excluded=dict.fromkeys(excluded, NOW + 1), vip=vip,
    ),
    st.dictionaries(st.sampled_from(SKILLS), st.integers(1, 5)),
    st.dictionaries(st.sampled_from(SKILLS), st.integers(1, 5)),
    st.none() | st.integers(1, 40),
    st.none() | st.integers(1, 40),
    st.integers(0, 10 * MINUTE),
    st.sets(st.integers(1, 40), max_size=3),
    st.booleans(),
)  # fmt: skip


def view(facts: tuple[Any, ...], item: Item) -> AgentView:
    n, online, idle, used, skills, in_shift = facts
    made = AgentView(
        agent_id=n, name="x" * 40, presence=Presence.ONLINE if online else Presence.OFFLINE, routable=online,
        lease_until=NOW + 1_000, idle_since=NOW - idle, load_used=25 * used,
        slots={"chat": Slot(4, used, 25 * used)}, skills=skills, teams=frozenset({1}), in_shift=in_shift,
    )  # fmt: skip
    from dataclasses import replace

    from routing.eligibility import lane_failure

    lanes = {lane for step in steps.plan(item, DEFAULTS) for lane in step.lanes}
    return replace(made, lanes=frozenset(x.signature for x in lanes if lane_failure(made, [x]) is None))


@given(st.lists(agents, max_size=30, unique_by=lambda a: a[0]), requests, st.integers(0, 3), st.booleans())
def test_any_placement_made_again_gives_the_same_winner(
    crowd: list[tuple[Any, ...]], item: Item, lost: int, shifts: bool
) -> None:
    settings = parse({"enforce_shifts": shifts})
    views = [view(a, item) for a in crowd]
    placement = decide.place(item, settings, views, Hours(), NOW)
    gone = [r.agent.agent_id for r in placement.ranks[:lost]]
    left = [r.agent.agent_id for r in placement.ranks[lost:]]
    kept = json.loads(json.dumps(replay.of_placement(item, placement, views, Hours(), NOW, lost=gone)))
    assert len(json.dumps(kept, ensure_ascii=False).encode()) <= replay.MAX_BYTES
    assert not kept.get("cut")
    found = replay.again(kept, {1: settings}, stored=left[:1], item_id=7)
    assert found.same, found
    assert found.scope == placement.step.scope


def test_who_proves_that_a_ring_was_not_empty_is_kept_although_others_came_first() -> None:
    """One who declined is no proof; the one after him is, or the item would go on at once."""
    item = Item(
        id=7, source_kind="inquiry", source_id=7, team_id=1, channel=Channel.CHAT, ready_at=NOW, step_entered_at=NOW,
        requirements=Requirements(preferred={"product:visa": 1}), order_parts={"target_at": NOW + 180 * SECOND},
        excluded={1: NOW + MINUTE, 2: NOW + MINUTE, 3: NOW + MINUTE, 4: NOW + MINUTE},
    )  # fmt: skip
    skills = {"product:visa": 3}
    busy = [view((n, True, 0, 4, skills, True), item) for n in (1, 2, 3, 4, 5)]
    placement = decide.place(item, DEFAULTS, busy, Hours(), NOW)
    assert (placement.step.scope, placement.ranks) == ("preferred", ())
    kept = replay.of_placement(item, placement, busy, Hours(), NOW)
    found = replay.again(kept, {1: DEFAULTS}, stored=[], item_id=7)
    assert (found.same, found.scope) == (True, "preferred")


async def test_inputs_are_forgotten_after_a_month_and_reasons_are_not(
    db: Database, clock: MovableClock
) -> None:
    team = await desk.a_team(db)
    await desk.an_agent(db, "Olena", team)
    for _ in range(3):
        await desk.arrives(db, team_id=team)
    clock.advance(explain_replay.KEEP_MS)
    await desk.arrives(db, team_id=team)
    async with db.transaction() as uow:
        assert await explain_replay.forget(uow) == 0
    clock.advance(1)
    async with db.transaction() as uow:
        assert await explain_replay.forget(uow) == 3
        assert await explain_replay.forget(uow) == 0
    kept = await desk.rows(db, decision)
    assert [d["input"] is not None for d in kept] == [False, False, False, True]
    assert all(d["why"]["winner"] for d in kept[:3])
