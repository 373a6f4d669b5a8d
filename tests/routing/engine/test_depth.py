"""Teams, on-call, VIP, overflow, transfers, merging, calls: the rules that join several parts of routing."""

import json
from typing import Any

import pytest
from sqlalchemy import select, update

from crm_core import inquiries
from crm_core.clock import HOUR, MINUTE
from crm_core.db.engine import Database
from crm_core.errors import Conflict, Gone
from crm_core.events import DomainEvent
from crm_core.schema import inquiry, team
from routing import assignments, items, offers, reasons, steps, sweep
from routing.explain_replay import replay_decision
from routing.listeners import LISTENERS, on_call, on_merged, on_sla_step
from routing.model import Item, ItemState, Requirements, evolve
from routing.schema import calendar, decision, handle_time, offer, work_item
from routing.settings import parse
from tests.conftest import MovableClock
from tests.routing.engine import desk
from tests.routing.engine.desk import T0


@pytest.fixture(autouse=True)
def frozen(clock: MovableClock, db: Database) -> MovableClock:
    clock.set(T0)
    db.listeners = LISTENERS
    return clock


async def sla_asks(db: Database, item: Item, action: str, value: str | None = None) -> None:
    async with db.transaction() as uow:
        await on_sla_step(
            uow,
            DomainEvent(
                kind="sla.step", subject_kind="inquiry", subject_id=item.source_id, inquiry_id=item.source_id,
                payload={"action": action, "value": value},
            ),
        )  # fmt: skip


async def transfer(db: Database, item: Item, team_id: int, **more: Any) -> dict[str, Any]:
    async with db.transaction() as uow:
        return await assignments.transfer(uow, item.source_id, actor="agent:1", to_team_id=team_id, **more)


# --- other teams
# ----------------------------------------------------------------------------------------------------
async def test_overflow_asks_another_team_only_where_the_wait_is_shorter(
    db: Database, frozen: MovableClock
) -> None:
    helpers = await desk.a_team(db, "Helpers")
    one_chat = {"capacity": {"chat": 1}}
    petro = await desk.an_agent(db, "Petro", helpers, settings=one_chat)
    home = await desk.a_team(
        db, settings={"overflow": [helpers], "steps": [{"scope": "required"}, {"scope": "overflow"}]}
    )
    busy = await desk.an_agent(db, "Olena", home, settings=one_chat)
    first = await desk.arrives(db, team_id=home, channel="webchat")
    assert (await desk.open_offers(db, first.id))[0]["agent_id"] == busy

    second = await desk.arrives(db, team_id=home, channel="webchat")
    assert (await desk.open_offers(db, second.id))[0]["agent_id"] == petro, "nobody waits there"
    third = await desk.arrives(db, team_id=home, channel="webchat")
    assert third.state == ItemState.WAITING
    # A chat of the helpers' own that Petro has just refused waits there now: no better than at home.
    theirs = await desk.arrives(db, team_id=helpers, channel="webchat")
    async with db.transaction() as uow:
        await uow.execute(
            update(work_item).where(work_item.c.id == theirs.id).values(excluded={str(petro): T0 + HOUR})
        )
        await items.finish(uow, "inquiry", second.source_id, "abandoned")
    assert (await desk.the_item(db, third.id)).state == ItemState.WAITING
    async with db.transaction() as uow:
        await items.finish(uow, "inquiry", theirs.source_id, "abandoned")
    await sweep.sweep_lanes(db)
    assert (await desk.open_offers(db, third.id))[0]["agent_id"] == petro
    await desk.check_invariants(db)


async def test_each_channel_is_compared_by_its_own_wait(db: Database) -> None:
    """Chats wait longer over there, mail does not: whoever becomes free there gets the mail and no chat."""
    helpers = await desk.a_team(db, "Helpers")
    one_each = {"capacity": {"chat": 1, "async": 1}}
    petro = await desk.an_agent(db, "Petro", helpers, settings=one_each, online=False)
    home = await desk.a_team(
        db, settings={"overflow": [helpers], "steps": [{"scope": "required"}, {"scope": "overflow"}]}
    )
    await desk.an_agent(db, "Olena", home, settings=one_each)
    for channel in ("webchat", "email"):
        await desk.arrives(db, team_id=home, channel=channel)
    chat = await desk.arrives(db, team_id=home, channel="webchat")
    mail = await desk.arrives(db, team_id=home, channel="email")
    theirs = [await desk.arrives(db, team_id=helpers, channel="webchat") for _ in range(2)]
    async with db.transaction() as uow:
        declined = {str(petro): T0 + HOUR}
        ids = [i.id for i in theirs]
        await uow.execute(update(work_item).where(work_item.c.id.in_(ids)).values(excluded=declined))
    await desk.go(db, petro, "online")
    assert (await desk.the_item(db, chat.id)).state == ItemState.WAITING
    assert (await desk.the_item(db, mail.id)).owner_id == petro
    (pulled,) = await desk.rows(db, decision, decision.c.agent_id == petro)
    async with db.reading() as conn:
        assert (await replay_decision(conn, pulled["id"]))["same"]


async def test_a_step_of_the_sla_names_the_team_to_ask(db: Database) -> None:
    home, helpers = await desk.a_team(db), await desk.a_team(db, "Helpers")
    petro = await desk.an_agent(db, "Petro", helpers)
    item = await desk.arrives(db, team_id=home)
    await sla_asks(db, item, "add_overflow_team", "no team")
    await sla_asks(db, item, "add_overflow_team", "999999")
    assert (await desk.the_item(db, item.id)).state == ItemState.WAITING
    await sla_asks(db, item, "add_overflow_team", str(helpers))
    after = await desk.the_item(db, item.id)
    assert (after.owner_id, after.added_teams, after.team_id) == (petro, (helpers,), home)
    await desk.check_invariants(db)


async def test_at_most_three_teams_have_an_item(db: Database) -> None:
    teams = [await desk.a_team(db, f"T{n}") for n in range(4)]
    item = await desk.arrives(db, team_id=teams[0])
    for team_id in (teams[1], teams[2], teams[0], teams[1]):
        await transfer(db, item, team_id)
    with pytest.raises(Conflict) as refused:
        await transfer(db, item, teams[3])
    assert refused.value.code == "too_many_teams"
    assert (await desk.the_item(db, item.id)).team_id == teams[1]
    await transfer(db, item, teams[3], force=True)
    after = await desk.the_item(db, item.id)
    assert (after.team_id, after.teams_seen) == (teams[3], (teams[0], teams[1], teams[2], teams[3]))
    assert steps.overflow_teams(after, parse({"overflow": [99, teams[2]]})) == (teams[2],)
    await desk.check_invariants(db)


async def test_a_transfer_keeps_the_key_and_is_told_as_a_change(db: Database, frozen: MovableClock) -> None:
    home, patient = await desk.a_team(db), await desk.a_team(db, "Patient")
    await desk.set_team(db, patient, {"channels": {"async": {"max_wait_s": 360_000}}})
    item = await desk.arrives(db, team_id=home)
    frozen.advance(HOUR)
    await transfer(db, item, patient)
    after = await desk.the_item(db, item.id)
    assert (after.order_key, after.ready_at) == (item.order_key, T0), "another team is no reason to wait anew"
    told = await desk.rows(db, desk.event_table, desk.event_table.c.kind == "inquiry.updated")
    assert told[-1]["payload"]["changes"] == {"team_id": [home, patient]}
    async with db.transaction() as uow:
        await inquiries.change(uow, item.source_id, {"priority": "high"}, actor="agent:1")
    assert (await desk.the_item(db, item.id)).order_key == item.order_key - HOUR, (
        "more urgent is sooner, though the team has more patience"
    )
    await transfer(db, item, await desk.a_team(db, "Third"))
    assert (await desk.the_item(db, item.id)).order_key == item.order_key - HOUR


# --- hours
# ----------------------------------------------------------------------------------------------------
async def test_after_hours_the_team_on_call_gets_what_is_urgent(db: Database, frozen: MovableClock) -> None:
    night = await desk.a_team(db, "Night")
    guard = await desk.an_agent(db, "Guard", night)
    async with db.transaction() as uow:
        hours = await uow.insert(
            calendar,
            {"name": "day", "spec": {"tz": "UTC", "week": {"sun": [["09:00", "17:00"]]}}, "version": 1,
             "updated_at": T0},
        )  # fmt: skip
    rules = {"on_call": {"priorities": ["urgent"], "vip": True, "team": night}}
    home = await desk.a_team(db, settings=rules, calendar_id=hours)
    normal = await desk.arrives(db, team_id=home)
    assert normal.state == ItemState.PARKED
    urgent = await desk.arrives(db, team_id=home, priority="urgent")
    assert (urgent.owner_id, urgent.on_call, urgent.team_id) == (guard, True, home)
    vip = await desk.arrives(db, team_id=home, contact_id=await desk.a_contact(db, vip=True))
    assert vip.owner_id == guard
    async with db.transaction() as uow:
        await inquiries.change(uow, normal.source_id, {"priority": "urgent"}, actor="agent:1")
    assert (await desk.the_item(db, normal.id)).owner_id == guard, "it became urgent while it was parked"
    await desk.check_invariants(db)


async def test_at_closing_time_the_team_on_call_is_asked_for_what_waits(
    db: Database, frozen: MovableClock
) -> None:
    night = await desk.a_team(db, "Night")
    guard = await desk.an_agent(db, "Guard", night)
    async with db.transaction() as uow:
        hours = await uow.insert(
            calendar,
            {"name": "day", "spec": {"tz": "UTC", "week": {}, "special": {"2026-09-21": [["00:00", "20:00"]]}},
             "version": 1, "updated_at": T0},
        )  # fmt: skip
    rules = {"on_call": {"priorities": ["urgent"], "team": night}}
    home = await desk.a_team(db, settings=rules, calendar_id=hours)
    # 2026-09-21 19:30 UTC
    frozen.set(1_790_019_000_000)
    item = await desk.arrives(db, team_id=home, priority="urgent")
    assert (item.state, item.on_call) == (ItemState.WAITING, False)
    assert item.next_step_at == 1_790_019_000_000 + 30 * MINUTE
    frozen.advance(30 * MINUTE)
    await desk.go(db, guard, "online")
    await sweep.sweep_steps(db)
    assert (await desk.the_item(db, item.id)).owner_id == guard
    await desk.check_invariants(db)


def test_rings_open_earlier_for_a_vip() -> None:
    settings = parse({"overflow": [9], "vip_steps": "40%"})
    item = Item(
        id=1, source_kind="inquiry", source_id=1, team_id=1, ready_at=0, order_parts={"target_at": 1000},
        requirements=Requirements(required={"x": 2}),
    )  # fmt: skip
    usual = [s.starts_at for s in steps.plan(item, settings)]
    vip = [s.starts_at for s in steps.plan(evolve(item, vip=True), settings)]
    assert vip == [round(at * 0.4) for at in usual]
    assert usual[-1] == 750


# --- merging, calls
# ----------------------------------------------------------------------------------------------------
async def test_a_merged_inquirys_offer_is_withdrawn_and_the_target_moves(db: Database) -> None:
    team_id = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team_id, settings={"capacity": {"chat": 1}})
    source = await desk.arrives(db, team_id=team_id, channel="webchat")
    target = await desk.arrives(db, team_id=team_id, channel="webchat")
    (made,) = await desk.open_offers(db)
    assert (made["item_id"], target.state) == (source.id, ItemState.WAITING)
    async with db.transaction() as uow:
        await uow.execute(update(inquiry).where(inquiry.c.id == target.source_id).values(priority="high"))
        rows = {r["id"]: r for r in await uow.rows(select(inquiry))}
        await on_merged(
            uow,
            DomainEvent(
                kind="inquiry.merged", subject_kind="inquiry", subject_id=source.source_id,
                context={"source": rows[source.source_id], "target": rows[target.source_id]},
            ),
        )  # fmt: skip
    with pytest.raises(Gone):
        async with db.transaction() as uow:
            await offers.accept(uow, made["id"], olena)
    (now_open,) = await desk.open_offers(db)
    assert now_open["item_id"] == target.id
    assert (await desk.the_item(db, source.id)).state == ItemState.CANCELLED
    assert (await desk.the_item(db, target.id)).order_key == target.order_key - 30_000
    await desk.check_invariants(db)


def a_call(call_id: int, state: str, **more: Any) -> dict[str, Any]:
    return {
        "id": call_id, "inquiry_id": None, "conversation_id": None, "contact_id": None, "agent_id": None,
        "direction": "inbound", "answered_at": None, "state": state, **more,
    }  # fmt: skip


async def rings(db: Database, row: dict[str, Any]) -> None:
    async with db.transaction() as uow:
        await on_call(
            uow,
            DomainEvent(
                kind="call.updated", subject_kind="call", subject_id=row["id"], context={"call": row}
            ),
        )


async def test_a_call_answered_elsewhere_takes_its_offer_with_it(db: Database) -> None:
    team_id = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team_id)
    ihor = await desk.an_agent(db, "Ihor", team_id)
    async with db.transaction() as uow:
        item = await items.enqueue_call(uow, a_call(7, "ringing"), team_id)
    (made,) = await desk.open_offers(db, item.id)
    other = ihor if made["agent_id"] == olena else olena
    await rings(db, a_call(7, "answered", agent_id=other, answered_at=T0))
    after = await desk.the_item(db, item.id)
    assert (after.state, after.owner_id) == (ItemState.ASSIGNED, other)
    assert [o["state"] for o in await desk.rows(db, offer)] == ["revoked"]
    assert [await desk.used(db, a, "voice") for a in (other, made["agent_id"])] == [1, 0]
    await desk.check_invariants(db)


async def test_who_hangs_up_before_an_answer_has_abandoned(db: Database) -> None:
    team_id = await desk.a_team(db)
    await desk.an_agent(db, "Olena", team_id)
    async with db.transaction() as uow:
        item = await items.enqueue_call(uow, a_call(7, "ringing"), team_id)
    await rings(db, a_call(7, "ended"))
    assert (await desk.the_item(db, item.id)).state == ItemState.ABANDONED
    assert await desk.open_offers(db) == []
    await desk.check_invariants(db)


async def test_his_own_calls_do_not_put_him_at_the_end_of_the_line(
    db: Database, frozen: MovableClock
) -> None:
    for moves in (False, True):
        team_id = await desk.a_team(db, f"T{moves}", settings={"outbound_moves_idle": moves})
        agent_id = await desk.an_agent(db, f"A{moves}", team_id)
        began = frozen.now_ms()
        frozen.advance(MINUTE)
        await rings(db, a_call(8 + moves, "answered", agent_id=agent_id, direction="outbound"))
        (state,) = await desk.rows(db, desk.agent_state, desk.agent_state.c.agent_id == agent_id)
        assert state["idle_since"] == (began + MINUTE if moves else began)


async def test_a_call_interrupts_as_many_chats_as_the_team_allows(db: Database) -> None:
    team_id = await desk.a_team(db, settings={"channels": {"voice": {"interrupts_up_to": {"chat": 1}}}})
    await desk.an_agent(db, "Olena", team_id)
    for chats in (0, 1, 2):
        async with db.transaction() as uow:
            item = await items.enqueue_call(uow, a_call(9 + chats, "ringing"), team_id)
        assert item.state == (ItemState.OFFERED if chats < 2 else ItemState.WAITING)
        async with db.transaction() as uow:
            await items.finish(uow, "call", 9 + chats, "abandoned")
        await desk.arrives(db, team_id=team_id, channel="webchat")
    await desk.check_invariants(db)


async def test_late_ones_leave_others_their_chance(db: Database, frozen: MovableClock) -> None:
    team_id = await desk.a_team(db, settings={"late_share": 0.0, "max_overdue_s": 3600})
    late = await desk.arrives(db, team_id=team_id, channel="webchat")
    frozen.advance(10 * MINUTE)
    for _ in range(9):
        await desk.arrives(db, team_id=team_id, channel="webchat", priority="low")
    agent_id = await desk.an_agent(db, "Olena", team_id, settings={"capacity": {"chat": 1}})
    (made,) = await desk.open_offers(db)
    assert (made["agent_id"], made["item_id"]) == (agent_id, late.id + 1)
    (why,) = await desk.rows(
        db, decision, decision.c.item_id == made["item_id"], decision.c.outcome == "offered"
    )
    assert (why["why"]["turn"], why["why"]["next_key"]) == ("on_time", late.order_key)

    frozen.advance(HOUR)
    await desk.go(db, agent_id, "offline")
    await desk.go(db, agent_id, "online")
    (made,) = await desk.open_offers(db)
    assert made["item_id"] == late.id, "an hour is too late for everything"
    await desk.check_invariants(db)


# --- what is kept
# ----------------------------------------------------------------------------------------------------
async def test_handle_times_are_smoothed_where_work_ends(db: Database, frozen: MovableClock) -> None:
    team_id = await desk.a_team(db)
    await desk.an_agent(db, "Olena", team_id)
    for minutes, cause in ((10, "solved"), (20, "solved"), (900, "merged")):
        item = await desk.arrives(db, team_id=team_id)
        frozen.advance(minutes * MINUTE)
        async with db.transaction() as uow:
            await items.finish(uow, "inquiry", item.source_id, cause)
        (row,) = await desk.rows(db, handle_time)
        if minutes == 10:
            await desk.beat(db)
    assert (row["team_id"], row["channel"], row["samples"]) == (team_id, "async", 2)
    assert row["smoothed_ms"] == 15 * MINUTE


async def test_the_reason_is_whole_and_small(db: Database, frozen: MovableClock) -> None:
    team_id = await desk.a_team(db)
    for n in range(8):
        await desk.an_agent(
            db, f"{'Ж' * 60}{n}", team_id, skills={f"product:{'x' * 40}{k}": 3 for k in range(6)}
        )
    wanted = {f"product:{'x' * 40}{k}": 3 for k in range(6)}
    item = await desk.arrives(db, team_id=team_id, requirements=wanted)
    frozen.advance(1)
    (row,) = await desk.rows(db, decision, decision.c.item_id == item.id)
    why = row["why"]
    assert len(json.dumps(why, ensure_ascii=False).encode()) <= reasons.MAX_BYTES
    assert {"trigger", "key", "step", "considered", "winner", "config", "waited_ms", "took_us"} <= set(why)
    assert why["winner"]["tuple"][-1] == item.owner_id
    assert {"metric", "target_at", "boost_ms", "vip_boost_ms", "order_key"} <= set(why["key"])


async def test_a_team_of_nobody_is_no_reason_to_lose_the_item(db: Database) -> None:
    team_id = await desk.a_team(db)
    async with db.transaction() as uow:
        await uow.execute(update(team).where(team.c.id == team_id).values(active=False))
    item = await desk.arrives(db, team_id=team_id)
    assert item.state == ItemState.WAITING
