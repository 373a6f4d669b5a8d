"""Versions of a team's rules: every edit is kept, conflicts are told, what waits follows in batches."""

from typing import Any

import pytest
from sqlalchemy import insert, update

from crm_core.clock import HOUR, MINUTE, SECOND
from crm_core.db.engine import Database
from crm_core.errors import Conflict, Invalid, NotFound
from crm_core.schema import agent_skill, team, team_member
from routing import assignments, configuration, configuration_rollout, lanes, store
from routing.configuration_preview import preview
from routing.model import ItemState
from routing.schema import decision, queue_entry, routing_rollout, routing_version
from tests.conftest import MovableClock
from tests.routing.engine import desk


@pytest.fixture
def clock(clock: MovableClock) -> MovableClock:
    clock.set(desk.T0)
    return clock


async def edit(db: Database, team_id: int, data: dict[str, Any], **more: Any) -> Any:
    async with db.transaction() as uow:
        return await configuration.edit(uow, team_id, data, actor="agent:1", **more)


async def roll_out(db: Database, clock: MovableClock) -> None:
    """Until nothing is left to be brought."""
    for _ in range(40):
        due = await configuration_rollout.sweep(db)
        if due is None:
            return
        if due > clock.now_ms():
            clock.set(due)
    raise AssertionError("the rollout has no end")


async def versions(db: Database, team_id: int) -> list[dict[str, Any]]:
    return await desk.rows(db, routing_version, routing_version.c.team_id == team_id)


async def in_force(db: Database, team_id: int) -> tuple[int, Any]:
    (row,) = await desk.rows(db, team, team.c.id == team_id)
    return store.settings_of(row["settings"])[0].version, row["settings"]


# --- versions
# ------------------------------------------------------------------------------------------------------
async def test_each_edit_is_a_version_with_who_what_and_why(db: Database) -> None:
    team_id = await desk.a_team(db, settings={"load_max": 90})
    made = await edit(db, team_id, {"load_max": 80}, comment="  too much  ", expected_version=1)
    assert (made["version"], made["comment"], made["actor"]) == (2, "too much", "agent:1")
    assert made["changes"] == [{"path": "load_max", "before": 90, "after": 80}]
    first, second = await versions(db, team_id)
    assert (first["version"], first["source"], first["settings"]) == (1, "first", {"load_max": 90})
    assert (second["version"], second["settings"]) == (2, {"load_max": 80})
    assert await in_force(db, team_id) == (2, {"load_max": 80, "version": 2})
    (told,) = await desk.rows(db, desk.event_table, desk.event_table.c.kind == "team.configured")
    assert told["payload"]["version"] == 2


async def test_the_same_again_is_no_version(db: Database) -> None:
    team_id = await desk.a_team(db)
    await edit(db, team_id, {"load_max": 80})
    again = await edit(db, team_id, {"load_max": 80, "version": 77})
    assert again["version"] == 2
    assert len(await versions(db, team_id)) == 2


async def test_an_edit_of_something_that_changed_meanwhile_is_refused(db: Database) -> None:
    team_id = await desk.a_team(db)
    await edit(db, team_id, {"load_max": 80}, expected_version=1)
    with pytest.raises(Conflict) as refused:
        await edit(db, team_id, {"load_max": 70}, expected_version=1)
    assert refused.value.code == "version_conflict"
    assert (await in_force(db, team_id))[0] == 2


@pytest.mark.parametrize(
    "wrong",
    [{"load_max": 0}, {"overflow": [999_999]}, {"on_call": {"team": 999_999}}, {"channels": {"pigeon": {}}}],
)
async def test_wrong_settings_change_nothing(db: Database, wrong: dict[str, Any]) -> None:
    team_id = await desk.a_team(db)
    with pytest.raises(Invalid):
        await edit(db, team_id, wrong)
    assert await versions(db, team_id) == []


async def test_a_team_is_not_its_own_overflow_and_must_exist(db: Database) -> None:
    team_id = await desk.a_team(db)
    with pytest.raises(Invalid):
        await edit(db, team_id, {"overflow": [team_id]})
    with pytest.raises(NotFound):
        await edit(db, 999_999, {})


async def test_back_to_an_earlier_version_is_a_new_one(db: Database) -> None:
    team_id = await desk.a_team(db, settings={"load_max": 90})
    await edit(db, team_id, {"load_max": 80})
    async with db.transaction() as uow:
        made = await configuration.rollback(uow, team_id, 1, actor="agent:2")
    assert (made["version"], made["source"], made["settings"]) == (3, "rollback", {"load_max": 90})
    with pytest.raises(NotFound):
        async with db.transaction() as uow:
            await configuration.rollback(uow, team_id, 9, actor="agent:2")


async def test_settings_that_became_wrong_can_be_repaired(db: Database) -> None:
    team_id = await desk.a_team(db)
    await edit(db, team_id, {"load_max": 80})
    await edit(db, team_id, {"load_max": 70})
    async with db.transaction() as uow:
        await uow.execute(update(team).where(team.c.id == team_id).values(settings={"load_max": "many"}))
    assert (await edit(db, team_id, {"load_max": 60}))["version"] == 4


async def test_decisions_carry_the_version_they_were_made_by(db: Database) -> None:
    team_id = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team_id)
    one = await desk.arrives(db, team_id=team_id)
    await edit(db, team_id, {"exclude_s": 10})
    two = await desk.arrives(db, team_id=team_id)
    made = {d["item_id"]: d for d in await desk.rows(db, decision)}
    assert (made[one.id]["rule_version"], made[two.id]["rule_version"]) == (1, 2)
    assert made[two.id]["agent_id"] == olena


# --- people
# --------------------------------------------------------------------------------------------------------
async def test_skills_and_membership_are_versions_of_the_teams_they_matter_to(db: Database) -> None:
    one, two = await desk.a_team(db, "One"), await desk.a_team(db, "Two")
    olena = await desk.an_agent(db, "Olena", one)
    async with db.transaction() as uow:
        before = await configuration.people(uow, olena)
        await uow.execute(insert(agent_skill).values(agent_id=olena, skill="lang:uk", level=4))
        await uow.execute(insert(team_member).values(team_id=two, agent_id=olena, lead=False))
        assert await configuration.note_people(uow, olena, before, actor="agent:1") == [one, two]
        await lanes.rebuild_agent(uow, olena)
    (_, skill), (_, member) = await versions(db, one), await versions(db, two)
    assert (skill["kind"], skill["comment"]) == ("people", "Olena")
    assert skill["changes"] == [{"path": f"agents.{olena}.skills.lang:uk", "before": None, "after": 4}]
    assert member["changes"] == [{"path": f"agents.{olena}.member", "before": False, "after": True}]
    async with db.transaction() as uow:
        same = await configuration.people(uow, olena)
        assert await configuration.note_people(uow, olena, same, actor="agent:1") == []


# --- what waits follows
# --------------------------------------------------------------------------------------------
async def test_what_waits_follows_keys_rings_and_limits(db: Database, clock: MovableClock) -> None:
    team_id = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team_id, online=False)
    item = await desk.arrives(db, team_id=team_id, channel="webchat")
    assert item.order_key == desk.T0 + 3 * MINUTE
    await edit(db, team_id, {"channels": {"chat": {"max_wait_s": 600, "max": 2}}})
    assert (await desk.the_item(db, item.id)).order_key == desk.T0 + 3 * MINUTE
    await roll_out(db, clock)
    moved = await desk.the_item(db, item.id)
    assert moved.order_key == desk.T0 + 10 * MINUTE
    (slot,) = await desk.rows(
        db, desk.agent_slot, desk.agent_slot.c.agent_id == olena, desk.agent_slot.c.channel == "chat"
    )
    assert slot["max"] == 2
    (done,) = await desk.rows(db, routing_rollout)
    assert (done["phase"], done["agents"], done["changed"]) == ("done", 1, 1)
    assert done["finished_at"] is not None
    assert await configuration_rollout.sweep(db) is None
    await desk.check_invariants(db)


async def test_a_widened_plan_reaches_people_who_are_there(db: Database, clock: MovableClock) -> None:
    ours, theirs = await desk.a_team(db, "Ours"), await desk.a_team(db, "Theirs")
    ivan = await desk.an_agent(db, "Ivan", theirs)
    item = await desk.arrives(db, team_id=ours)
    assert item.state == ItemState.WAITING
    await edit(db, ours, {"overflow": [theirs], "steps": [{"scope": "overflow"}], "overflow_when": "always"})
    await roll_out(db, clock)
    assert (await desk.the_item(db, item.id)).owner_id == ivan
    await desk.check_invariants(db)


async def test_a_ring_keeps_its_name_when_the_plan_changes(db: Database, clock: MovableClock) -> None:
    team_id = await desk.a_team(
        db, settings={"steps": [{"scope": "preferred"}, {"scope": "relaxed", "at": 60}]}
    )
    item = await desk.arrives(
        db, team_id=team_id, channel="webchat", requirements={"a": 3, "b": {"level": 2, "preferred": True}}
    )
    assert item.step_no == 1 or item.next_step_at is not None
    async with db.reading() as conn:
        old = await configuration.settings_at(conn, team_id, 1)
    await edit(
        db,
        team_id,
        {"steps": [{"scope": "preferred"}, {"scope": "required", "at": 5}, {"scope": "relaxed", "at": 9}]},
    )
    context_item = await desk.the_item(db, item.id)
    async with db.reading() as conn:
        new = (await store.team_context(conn, team_id)).settings
    from dataclasses import replace

    at_relaxed = replace(context_item, step_no=1)
    assert configuration_rollout.same_ring(at_relaxed, old, new) == 2
    assert configuration_rollout.same_ring(replace(context_item, step_no=0), old, new) == 0


async def test_a_crash_between_batches_loses_nothing(
    db: Database, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configuration_rollout, "BATCH", 2)
    team_id = await desk.a_team(db)
    waiting = []
    for _ in range(5):
        waiting.append(await desk.arrives(db, team_id=team_id, channel="webchat"))
        clock.advance(SECOND)
    await edit(db, team_id, {"channels": {"chat": {"max_wait_s": 600}}})
    await configuration_rollout.sweep(db)
    keys = [(await desk.the_item(db, i.id)).order_key - i.ready_at for i in waiting]
    assert keys == [10 * MINUTE] * 2 + [3 * MINUTE] * 3
    # A new process: nothing is known of the first but the row.
    monkeypatch.setattr(configuration_rollout, "_OWNER", "another")
    clock.advance(2 * MINUTE)
    await roll_out(db, clock)
    keys = [(await desk.the_item(db, i.id)).order_key - i.ready_at for i in waiting]
    assert keys == [10 * MINUTE] * 5
    entries = await desk.rows(db, queue_entry)
    assert {e["order_key"] for e in entries} == {i.ready_at + 10 * MINUTE for i in waiting}


async def test_a_newer_edit_begins_the_rollout_again(db: Database, clock: MovableClock) -> None:
    team_id = await desk.a_team(db)
    item = await desk.arrives(db, team_id=team_id, channel="webchat")
    await edit(db, team_id, {"channels": {"chat": {"max_wait_s": 600}}})
    await configuration_rollout.sweep(db)
    await edit(db, team_id, {"channels": {"chat": {"max_wait_s": 900}}})
    await roll_out(db, clock)
    assert (await desk.the_item(db, item.id)).order_key == item.ready_at + 15 * MINUTE


# --- preview
# -------------------------------------------------------------------------------------------------------
async def test_a_preview_says_what_would_change_and_changes_nothing(db: Database) -> None:
    ours, theirs = await desk.a_team(db, "Ours"), await desk.a_team(db, "Theirs")
    ivan = await desk.an_agent(db, "Ivan", theirs)
    waiting = [await desk.arrives(db, team_id=ours) for _ in range(3)]
    data = {"overflow": [theirs], "steps": [{"scope": "overflow"}], "overflow_when": "always"}
    async with db.reading() as conn:
        shown = await preview(conn, ours, data, language="uk", now=db.clock.now_ms())
    assert {c["path"] for c in shown["changes"]} == {"overflow", "steps", "overflow_when"}
    assert any("Команди на підмогу" in c["text"] for c in shown["changes"])
    found = shown["waiting"]
    assert (found["examined"], found["more"], found["placed_differently"]) == (3, False, 3)
    assert (found["could_be_taken_before"], found["could_be_taken_after"]) == (0, 3)
    assert found["examples"][0]["after"]["agents"] == [{"id": ivan, "name": "Ivan"}]
    assert [(await desk.the_item(db, i.id)).version for i in waiting] == [i.version for i in waiting]
    assert await versions(db, ours) == []


async def test_a_preview_tells_a_new_order(db: Database, clock: MovableClock) -> None:
    team_id = await desk.a_team(db)
    normal = await desk.arrives(db, team_id=team_id)
    clock.advance(2 * HOUR)
    high = await desk.arrives(db, team_id=team_id, priority="high")
    async with db.reading() as conn:
        shown = await preview(
            conn, team_id, {"channels": {"async": {"boosts_s": {"high": 9 * 3600}}}}, now=clock.now_ms()
        )
    assert shown["waiting"]["order_changed"] == 2
    places = {e["item_id"]: (e["position_before"], e["position_after"]) for e in shown["waiting"]["examples"]}
    assert places == {normal.id: (1, 2), high.id: (2, 1)}


async def test_a_preview_leaves_the_key_that_another_team_made(db: Database, clock: MovableClock) -> None:
    """What was sent here waits by the rules of the team it came to first: an edit here moves it only among others."""
    home, here = await desk.a_team(db, "Home"), await desk.a_team(db, "Here")
    sent = await desk.arrives(db, team_id=home, channel="webchat")
    async with db.transaction() as uow:
        await assignments.transfer(uow, sent.source_id, actor="agent:1", to_team_id=here)
    clock.advance(SECOND)
    own = await desk.arrives(db, team_id=here, channel="webchat")
    data = {"channels": {"chat": {"max_wait_s": 3600}}}
    async with db.reading() as conn:
        shown = await preview(conn, here, data, now=clock.now_ms())
    assert (shown["waiting"]["examined"], shown["waiting"]["order_changed"]) == (2, 0)
    await edit(db, here, data)
    await roll_out(db, clock)
    assert (await desk.the_item(db, sent.id)).order_key == sent.order_key
    assert (await desk.the_item(db, own.id)).order_key == own.ready_at + HOUR

    # What is this team's own would be first, what was sent here waits as long as it would at home.
    impatient = {"channels": {"chat": {"max_wait_s": 1}}}
    async with db.reading() as conn:
        shown = await preview(conn, here, impatient, now=clock.now_ms())
    assert {e["item_id"] for e in shown["waiting"]["examples"] if e["position_before"] != e["position_after"]} == {
        sent.id, own.id,
    }  # fmt: skip


async def test_a_preview_of_nothing_says_nothing(db: Database) -> None:
    team_id = await desk.a_team(db)
    await desk.arrives(db, team_id=team_id)
    async with db.reading() as conn:
        shown = await preview(conn, team_id, {"load_max": 100}, now=db.clock.now_ms())
        with pytest.raises(Invalid):
            await preview(conn, team_id, {"load_max": "x"}, now=db.clock.now_ms())
    assert shown["changes"] == []
    assert shown["waiting"]["placed_differently"] == 0
