"""What a team's working hours do to what waits: it rests while the team is closed, and so do its rings."""

from typing import Any

import pytest

from crm_core.clock import HOUR, MINUTE, SECOND
from crm_core.db.engine import Database
from crm_core.schema import job, team
from routing import assignments, closed_reply, explain, items, listeners, match, offers, steps, sweep
from routing.business_time import Calendar
from routing.model import Item, ItemState
from routing.order import MAX_CLOSED, order_key
from routing.schema import decision
from routing.settings import parse
from routing.sla import edit
from tests.conftest import MovableClock
from tests.routing.engine import desk

#: 2026-09-22, a Tuesday, 00:00 UTC
DAY0 = 1_790_035_200_000
NINE, SIX = DAY0 + 9 * HOUR, DAY0 + 18 * HOUR
TOMORROW = NINE + 24 * HOUR
WEEK = {d: [["09:00", "18:00"]] for d in ("mon", "tue", "wed", "thu", "fri", "sat", "sun")}
SPEC: dict[str, Any] = {"tz": "UTC", "week": WEEK}


async def an_office(db: Database, settings: dict[str, Any] | None = None) -> int:
    async with db.transaction() as uow:
        made = await edit.create_calendar(uow, name="Office", spec=SPEC)
    return await desk.a_team(db, settings=settings, calendar_id=made["id"])


async def told(db: Database, item: Item) -> dict[str, Any]:
    async with db.reading() as conn:
        return await explain.why_item(conn, item.id, "en", now=db.clock.now_ms())


async def roll_out(db: Database, clock: MovableClock) -> None:
    while (again := await dict(sweep.SWEEPERS)["routing.rollout"](db)) is not None:
        clock.set(max(again, clock.now_ms()))


async def test_what_waits_when_the_team_closes_rests_until_it_opens(
    db: Database, clock: MovableClock
) -> None:
    clock.set(SIX - 2 * MINUTE)
    team_id = await an_office(db, {"channels": {"chat": {"max": 1}}})
    olena = await desk.an_agent(db, "Olena", team_id)
    mine = await desk.arrives(db, team_id=team_id, channel="webchat")
    (his,) = await desk.open_offers(db)
    async with db.transaction() as uow:
        await offers.accept(uow, his["id"], olena)
    item = await desk.arrives(db, team_id=team_id, channel="webchat")
    assert item.state == ItemState.WAITING
    waiting = (await told(db, item))["waiting"]
    assert "More people" not in waiting["text"], "closing asks nobody else"

    clock.set(SIX)
    await desk.beat(db)
    await sweep.sweep_steps(db)
    await sweep.sweep_wakeups(db)
    found = await told(db, item)
    assert (found["state"], found["waiting"]["parked_reason"]) == ("parked", "after_hours")
    assert found["waiting"]["parked_until"] == "2026-09-23T09:00:00.000Z"
    assert {a["reason"] for a in found["waiting"]["agents"]} == {"no_capacity"}
    (rests,) = await desk.rows(db, decision, decision.c.outcome == "parked")
    assert rests["item_id"] == item.id
    async with db.transaction() as uow:
        await items.finish(uow, "inquiry", mine.source_id, "solved")
    assert (await desk.the_item(db, item.id)).state == ItemState.PARKED, "nobody works any more"

    clock.set(TOMORROW)
    await desk.beat(db)
    await sweep.sweep_wakeups(db)
    (at_nine,) = await desk.open_offers(db, item.id)
    # Two of its three minutes were spent yesterday: it is not late, so it is offered to one.
    assert (at_nine["agent_id"], at_nine["kind"]) == (olena, "one")
    await desk.check_invariants(db)


async def test_who_waits_at_closing_time_is_told_when_it_opens(db: Database, clock: MovableClock) -> None:
    """Whatever parks it: closing time, or a colleague who sends it to a team that is closed."""
    clock.set(SIX - MINUTE)
    team_id = await an_office(db)
    elsewhere = await desk.a_team(db, "Round the clock")
    person = await desk.a_contact(db)
    box = await desk.an_inbox(db, "webchat", team_id)
    waits, sent = [
        await desk.arrives(
            db, team_id=team, channel="webchat", contact_id=person,
            conversation_id=await desk.a_conversation(db, await desk.a_contact(db), box),
        )
        for team in (team_id, elsewhere)
    ]  # fmt: skip
    assert await desk.rows(db, job, job.c.name == closed_reply.JOB) == []
    clock.set(SIX)
    await sweep.sweep_wakeups(db)
    asked = [row["args"]["item_id"] for row in await desk.rows(db, job, job.c.name == closed_reply.JOB)]
    assert asked == [waits.id]
    async with db.transaction() as uow:
        await assignments.transfer(uow, sent.source_id, actor="agent:1", to_team_id=team_id)
    asked = [row["args"]["item_id"] for row in await desk.rows(db, job, job.c.name == closed_reply.JOB)]
    assert asked == [waits.id, sent.id]
    # Looked at again it is parked still: nobody is told twice.
    async with db.transaction() as uow:
        await match.route_item(uow, await desk.the_item(db, waits.id), "changed")
    assert len(await desk.rows(db, job, job.c.name == closed_reply.JOB)) == 2


async def test_rings_open_by_the_hours_in_which_somebody_works(db: Database, clock: MovableClock) -> None:
    clock.set(DAY0 - 2 * HOUR)  # 22:00 the day before
    team_id = await an_office(db)
    await desk.an_agent(db, "Novice", team_id, skills={"product:visa": 2})
    at_night = await desk.arrives(db, team_id=team_id, requirements={"product:visa": 3})
    clock.set(NINE)
    await desk.beat(db)
    await sweep.sweep_wakeups(db)
    waits = await desk.the_item(db, at_night.id)
    # Eight business hours end at 17:00, half of them at 13:00.
    assert (waits.state, waits.next_step_at) == (ItemState.WAITING, NINE + 4 * HOUR)
    rings = {r["scope"]: r["opens_at"] for r in (await told(db, waits))["waiting"]["rings"]}
    assert rings["relaxed"] == "2026-09-22T13:00:00.000Z"

    clock.set(SIX - HOUR)
    await desk.beat(db)
    late = await desk.arrives(db, team_id=team_id, requirements={"product:visa": 3})
    # Due at 16:00 tomorrow; an hour is spent today, half of the eight at noon.
    assert (late.state, late.next_step_at) == (ItemState.WAITING, TOMORROW + 3 * HOUR)


async def test_the_managers_window_begins_with_the_opening(db: Database, clock: MovableClock) -> None:
    clock.set(DAY0 - 2 * HOUR)
    team_id = await an_office(db, {"channels": {"chat": {"max": 1}}})
    petro = await desk.an_agent(db, "Petro", team_id)
    olena = await desk.an_agent(db, "Olena", team_id)
    person = await desk.a_contact(db, manager_id=petro)
    first = await desk.arrives(db, team_id=team_id, channel="webchat", contact_id=person)
    clock.advance(SECOND)
    second = await desk.arrives(db, team_id=team_id, channel="webchat", contact_id=person)
    clock.set(NINE)
    await desk.beat(db)
    await sweep.sweep_wakeups(db)
    assert (await desk.open_offers(db, first.id))[0]["agent_id"] == petro
    kept = await desk.the_item(db, second.id)
    assert (kept.state, kept.next_step_at) == (ItemState.WAITING, NINE + 45 * SECOND)
    async with db.transaction() as uow:
        await offers.accept(uow, (await desk.open_offers(db, first.id))[0]["id"], petro)
    clock.advance(45 * SECOND)
    await desk.beat(db)
    await sweep.sweep_steps(db)
    assert (await desk.open_offers(db, second.id))[0]["agent_id"] == olena
    why = (await told(db, second))["decisions"][-1]["why"]
    assert why["manager"]["waited_ms"] == 45 * SECOND, "the night was nobody's window"


async def test_other_hours_reach_what_is_parked(db: Database, clock: MovableClock) -> None:
    """An exception for this evening: what was parked until tomorrow is served when the team opens after all."""
    clock.set(SIX + HOUR)
    team_id = await an_office(db)
    olena = await desk.an_agent(db, "Olena", team_id)
    item = await desk.arrives(db, team_id=team_id)
    assert (item.state, item.wake_at) == (ItemState.PARKED, TOMORROW)
    db.listeners = {"sla.calendar_changed": listeners.LISTENERS["sla.calendar_changed"]}
    calendar_id = (await desk.rows(db, team))[0]["calendar_id"]
    async with db.transaction() as uow:
        longer = {**SPEC, "special": {"2026-09-22": [["09:00", "22:00"]]}}
        await edit.change_calendar(uow, calendar_id, spec=longer)
    await roll_out(db, clock)
    assert (await desk.the_item(db, item.id)).owner_id == olena
    await desk.check_invariants(db)


OFFICE = Calendar.from_spec(SPEC)


def a_key(ready_at: int, **other: Any) -> Any:
    facts = {"channel": "chat", "kind": "ticket", "priority": "normal", "vip": False, "due_at": None}
    settings = other.pop("settings", parse({}))
    return order_key(settings, ready_at=ready_at, calendar=OFFICE, **{**facts, **other})


def test_the_longest_wait_is_counted_while_somebody_works() -> None:
    assert a_key(SIX - 2 * MINUTE).target_at == TOMORROW + MINUTE
    assert a_key(SIX + HOUR).closed == ((SIX + HOUR, TOMORROW),)
    for rules in ({"after_hours": "online"}, {"after_hours": "ignore"}):
        by_the_clock = a_key(SIX + HOUR, settings=parse(rules))
        assert (by_the_clock.target_at, by_the_clock.closed) == (SIX + HOUR + 3 * MINUTE, ())
    on_call = a_key(SIX + HOUR, settings=parse({"on_call": {"priorities": ["urgent"]}}), priority="urgent")
    assert on_call.target_at == SIX + HOUR + 3 * MINUTE, "somebody is there for it"
    promised = a_key(SIX + HOUR, channel="callback", due_at=SIX + 2 * HOUR)
    assert (promised.target_at, promised.closed) == (SIX + HOUR + 5 * MINUTE, ())
    far = a_key(
        NINE, channel="async", due_at=None, settings=parse({"channels": {"async": {"max_wait_s": 9_000_000}}})
    )
    assert far.closed == (), f"more than {MAX_CLOSED} nights are not kept"


def test_a_team_that_never_opens_again_is_paced_by_the_clock() -> None:
    """It parks nothing, so what comes must still be asked for ring by ring."""
    never = Calendar.from_spec({"tz": "UTC", "week": {}})
    key = order_key(
        parse({}), channel="chat", kind="ticket", priority="normal", vip=False, ready_at=NINE, due_at=None,
        calendar=never,
    )  # fmt: skip
    assert (key.target_at, key.closed) == (NINE + 3 * MINUTE, ())


def test_time_stands_still_while_the_team_is_closed() -> None:
    key = a_key(SIX - HOUR, channel="async")
    item = Item(id=1, source_kind="x", source_id=1, ready_at=SIX - HOUR, order_parts=key.as_data())
    assert (steps.target_at(item), steps.budget_ms(item)) == (TOMORROW + 7 * HOUR, 8 * HOUR)
    for spent, instant in (
        (0, SIX - HOUR), (HOUR, SIX), (HOUR + 1, TOMORROW + 1), (8 * HOUR, TOMORROW + 7 * HOUR),
        (9 * HOUR, TOMORROW + 8 * HOUR),
    ):  # fmt: skip
        assert steps.after(item, spent) == instant


@pytest.mark.parametrize(("due_at", "near"), [(TOMORROW + HOUR, True), (TOMORROW + 3 * HOUR, False)])
def test_a_promise_is_near_by_working_hours(due_at: int, near: bool) -> None:
    rules = parse({"near_promise": {"skill": "desk:mail", "within_s": 7200}})
    key = a_key(SIX - HOUR // 2, channel="async", due_at=due_at, settings=rules)
    item = Item(
        id=1, source_kind="x", source_id=1, ready_at=SIX - HOUR // 2, due_at=due_at, order_parts=key.as_data()
    )
    assert (steps.asks_steady(item, rules) is not None) is near
