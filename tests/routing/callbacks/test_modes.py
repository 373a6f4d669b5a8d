"""How a due promise is dialled: the card, the agent's phone first, the customer first; and to whom it goes."""

import asyncio

import pytest
from sqlalchemy import update

from crm_core.clock import HOUR, MINUTE, SECOND, from_iso
from crm_core.db.engine import Database
from crm_core.errors import Conflict
from crm_core.schema import job, team
from routing import callbacks, offers
from routing.callbacks import chain, check, pacing
from routing.callbacks.settings import DEFAULTS
from routing.explain_text import decision_text
from routing.schema import calendar, callback_attempt, decision, work_item
from tests.conftest import MovableClock
from tests.routing.callbacks.office import (
    MONDAY_NOON,
    a_pbx,
    attempts,
    booked,
    kinds,
    now_is,
    plays,
    says,
    somebody_accepts,
    wire,
)
from tests.routing.engine.desk import a_team, an_agent, check_invariants, go, open_offers, rows


@pytest.fixture(autouse=True)
def wired(db: Database, clock: MovableClock) -> None:
    clock.set(MONDAY_NOON)
    wire(db)


async def due(db: Database, clock: MovableClock, *online: int) -> None:
    clock.set(MONDAY_NOON + HOUR)
    for agent_id in online:
        await go(db, agent_id, "online")
    await callbacks.sweep(db)


async def no_drop(db: Database) -> None:
    async with db.reading() as conn:
        assert await check.dropped(conn) == []


async def test_preview_shows_the_card_and_it_comes_back_if_nobody_dials(
    db: Database, clock: MovableClock
) -> None:
    await a_pbx(db)
    team_id = await a_team(db, settings={"callbacks": {"card_s": 60}})
    first = await an_agent(db, "First", team_id, extension="11")
    second = await an_agent(db, "Second", team_id, extension="12")
    made = await booked(db, team_id=team_id, mode=None)
    assert made["mode"] == "preview"
    await due(db, clock, first, second)
    taker = await somebody_accepts(db)
    row = await now_is(db, made["id"])
    assert (row["state"], row["owner_id"], row["watch"]) == ("due", taker, "card")
    assert await attempts(db, made["id"]) == []
    clock.advance(61 * SECOND)
    for agent_id in (first, second):
        await go(db, agent_id, "online")
    await callbacks.sweep(db)
    (offered,) = await open_offers(db)
    assert offered["agent_id"] == ({first, second} - {taker}).pop()
    await no_drop(db)
    await somebody_accepts(db)
    async with db.transaction() as uow:
        await callbacks.dial(uow, made["id"], offered["agent_id"], actor="agent")
    row = await now_is(db, made["id"])
    assert (row["state"], row["watch"]) == ("dialling", None)
    (tried,) = await attempts(db, made["id"])
    assert (tried["style"], tried["mode"]) == ("preview", "originated")
    await check_invariants(db)


async def test_an_agent_who_does_not_pick_up_is_passed_over_at_once(
    db: Database, clock: MovableClock
) -> None:
    box = await a_pbx(db)
    team_id = await a_team(db)
    first = await an_agent(db, "First", team_id, extension="12")
    second = await an_agent(db, "Second", team_id, extension="13")
    made = await booked(db, team_id=team_id)
    await due(db, clock, first, second)
    taker = await somebody_accepts(db)
    (tried,) = await attempts(db, made["id"])
    await plays(db, box, tried["correlation_id"], "no_answer", None)
    row = await now_is(db, made["id"])
    assert (row["state"], row["counted_attempts"], row["uncounted_attempts"]) == ("due", 0, 1)
    (offered,) = await open_offers(db)
    assert offered["agent_id"] != taker
    await somebody_accepts(db)
    again = (await attempts(db, made["id"]))[1]
    # This PBX rings on and says nothing: the phone has had its twenty seconds, somebody else is asked.
    own = {"agent_leg": True, "agent_ext": "13", "correlation_id": again["correlation_id"]}
    await says(db, box, "silent", "a", "ringing", **own)
    clock.advance(31 * SECOND)
    await callbacks.sweep(db)
    ended = (await attempts(db, made["id"]))[1]
    assert (ended["state"], ended["outcome"], ended["counted"]) == ("ended", "failed", False)
    assert (await now_is(db, made["id"]))["state"] == "due"
    await no_drop(db)
    # The word that comes late all the same: they did speak.
    await says(db, box, "silent", "a", "answered", **own)
    theirs = {"correlation_id": again["correlation_id"]}
    await says(db, box, "silent", "c", "answered", **theirs)
    await says(db, box, "silent", "c", "ended", disposition="answered", final=True, **theirs)
    row = await now_is(db, made["id"])
    assert (row["state"], row["end_reason"]) == ("done", "late_word")
    assert all(i["state"] not in ("waiting", "offered", "assigned") for i in await rows(db, work_item))
    await check_invariants(db)


async def test_customer_first_rings_him_only_with_agents_enough_and_gives_him_the_next(
    db: Database, clock: MovableClock
) -> None:
    box = await a_pbx(db, connect_url="http://127.0.0.1:1/connect")
    team_id = await a_team(db, settings={"callbacks": {"mode": "customer_first"}})
    people = [await an_agent(db, n, team_id, extension=e) for n, e in (("A", "11"), ("B", "12"))]
    made = await booked(db, team_id=team_id, mode=None)
    await due(db, clock, *people)
    (tried,) = await attempts(db, made["id"])
    assert (tried["style"], tried["agent_id"], tried["mode"]) == ("customer_first", None, "originated")
    assert await rows(db, work_item) == []
    corr = {"correlation_id": tried["correlation_id"]}
    await says(db, box, "cf", "cf", "ringing", **corr)
    await says(db, box, "cf", "cf", "answered", **corr)
    (item,) = await rows(db, work_item)
    assert (item["channel"], item["state"]) == ("voice", "offered")
    taker = await somebody_accepts(db)
    connect = [j for j in await rows(db, job) if j["name"] == callbacks.CONNECT_JOB]
    assert connect[0]["args"]["agent_id"] == taker
    ext = "11" if taker == people[0] else "12"
    own = {"agent_leg": True, "agent_ext": ext, **corr}
    await says(db, box, "cf", "x1", "ringing", **own)
    clock.advance(SECOND)
    await says(db, box, "cf", "x1", "ended", disposition="no_answer", **own)
    (offered,) = await open_offers(db)  # he did not pick up: the customer still waits
    assert offered["agent_id"] != taker
    other = await somebody_accepts(db)
    own = {"agent_leg": True, "agent_ext": "12" if other == people[1] else "11", **corr}
    await says(db, box, "cf", "x2", "answered", **own)
    await says(db, box, "cf", "cf", "ended", disposition="answered", final=True, **corr)
    row = await now_is(db, made["id"])
    assert (row["state"], row["outcome"]) == ("done", "answered")
    await check_invariants(db)


async def test_a_customer_who_hung_up_on_nobody_is_called_agent_first_and_the_guard_closes(
    db: Database, clock: MovableClock
) -> None:
    box = await a_pbx(db, connect_url="http://127.0.0.1:1/connect")
    team_id = await a_team(db, settings={"callbacks": {"mode": "customer_first", "min_free": 1}})
    person = await an_agent(db, "A", team_id, extension="11")
    made = await booked(db, team_id=team_id, mode=None)
    other = await booked(
        db, team_id=team_id, mode=None, raw_phone="0671234567", window_start=MONDAY_NOON + 2 * HOUR
    )
    await due(db, clock, person)
    (tried,) = await attempts(db, made["id"])
    corr = {"correlation_id": tried["correlation_id"]}
    await says(db, box, "cf", "cf", "answered", **corr)
    clock.advance(SECOND)
    await says(db, box, "cf", "cf", "ended", disposition="answered", final=True, **corr)
    row = await now_is(db, made["id"])
    assert (row["state"], row["outcome"], row["mode"], row["counted_attempts"]) == (
        "scheduled", "abandoned", "agent_first", 0
    )  # fmt: skip
    async with db.reading() as conn:
        seen = await pacing.pace(conn, team_id, now=clock.now_ms())
    assert (seen.answered, seen.abandoned) == (1, 1)
    assert seen.refusal(DEFAULTS) is not None
    clock.set(MONDAY_NOON + 2 * HOUR)
    await go(db, person, "online")
    await callbacks.sweep(db)
    assert await rows(db, callback_attempt, callback_attempt.c.callback_id == other["id"]) == []
    assert [i["channel"] for i in await rows(db, work_item, work_item.c.source_id == other["id"])] == [
        "callback"
    ]
    await no_drop(db)


async def test_the_owner_is_away_so_his_deputies_are_asked_in_turn_then_the_team(
    db: Database, clock: MovableClock
) -> None:
    team_id = await a_team(db)
    owner = await an_agent(db, "Owner", team_id, online=False)
    one = await an_agent(db, "One", team_id)
    gone = await an_agent(db, "Gone", team_id, online=False)
    two = await an_agent(db, "Two", team_id)
    member = await an_agent(db, "Member", team_id)
    async with db.transaction() as uow:
        await uow.execute(
            update(team)
            .where(team.c.id == team_id)
            .values(settings={"callbacks": {"deputies": {str(owner): [one, gone, two]}}})
        )
    made = await booked(db, team_id=team_id, owner_id=owner, mode="preview")
    await due(db, clock, one, two, member)

    async def step_on(expected: int) -> None:
        """Who is asked lets it go by; his colleagues are there all the time."""
        (asked,) = await open_offers(db)
        assert asked["agent_id"] == expected
        async with db.transaction() as uow:
            await offers.decline(uow, asked["id"], expected)

    (asked,) = await open_offers(db)
    assert asked["agent_id"] == one
    row = await now_is(db, made["id"])
    assert [(x["role"], x["result"]) for x in row["chain"]] == [
        ("owner", "offline"), ("deputy", "asked"), ("deputy", "offline"), ("deputy", None)
    ]  # fmt: skip
    await step_on(one)
    # The team has it now, two among them; whoever takes it stands in the chain.
    taker = await somebody_accepts(db)
    row = await now_is(db, made["id"])
    assert row["chain"][-1] == {
        "agent_id": taker,
        "role": "team",
        "from": None,
        "until": None,
        "result": "took",
    } or (row["chain"][3]["result"] == "took")
    assert len(await rows(db, decision)) >= 2
    await no_drop(db)


async def test_a_busy_owner_has_his_minute_then_his_deputy_is_asked_before_the_team(
    db: Database, clock: MovableClock
) -> None:
    team_id = await a_team(db)
    owner = await an_agent(db, "Owner", team_id)
    two = await an_agent(db, "Two", team_id, online=False)
    await booked(db, team_id=team_id, owner_id=owner, mode="preview", raw_phone="0671112233")
    deputies = {"callbacks": {"deputies": {"*": [two]}, "card_s": 3600}}
    async with db.transaction() as uow:
        await uow.execute(update(team).where(team.c.id == team_id).values(settings=deputies))
    await due(db, clock, owner)
    assert await somebody_accepts(db) == owner  # he is busy with this one from now on
    made = await booked(
        db, team_id=team_id, owner_id=owner, mode="preview", window_start=clock.now_ms() + SECOND
    )
    clock.advance(SECOND)
    member = await an_agent(db, "Member", team_id, online=False)
    for agent_id in (two, member):
        await go(db, agent_id, "online")
    await callbacks.sweep(db)
    assert await open_offers(db) == []
    row = await now_is(db, made["id"])
    assert [(x["role"], x["result"]) for x in row["chain"]] == [("owner", "asked"), ("deputy", None)]
    assert row["watch"] == "chain"
    clock.set(row["watch_at"])
    for agent_id in (owner, two, member):
        await go(db, agent_id, "online")
    await callbacks.sweep(db)
    (asked,) = await open_offers(db)
    assert asked["agent_id"] == two
    row = await now_is(db, made["id"])
    assert [(x["role"], x["result"]) for x in row["chain"]] == [("owner", "not_taken"), ("deputy", "asked")]
    why = [d for d in await rows(db, decision) if d["trigger"] == "callback_chain"]
    assert why and decision_text(why[0]["why"], "uk") == "Замість відповідального запитано: Two."
    async with db.transaction() as uow:
        await offers.decline(uow, asked["id"], two)
    (asked,) = await open_offers(db)
    assert asked["agent_id"] == member
    await no_drop(db)


async def test_a_retry_waits_for_the_teams_hours(db: Database, clock: MovableClock) -> None:
    async with db.transaction() as uow:
        week = {d: [["09:00", "13:00"]] for d in ("mon", "tue", "wed", "thu", "fri")}
        hours = await uow.insert(
            calendar,
            {
                "name": "Short",
                "spec": {"tz": "Europe/Kyiv", "week": week},
                "version": 1,
                "updated_at": uow.now,
            },
        )
    made = await booked(db, team_id=await a_team(db, calendar_id=hours), window_start=MONDAY_NOON + MINUTE)
    clock.set(MONDAY_NOON + 50 * MINUTE)
    async with db.transaction() as uow:
        row = await callbacks.record_outcome(uow, made["id"], "no_answer", actor="agent:1")
    assert row["next_attempt_at"] == from_iso(
        "2026-11-24T07:00:00Z"
    )  # the team closes before half an hour is over


async def test_a_number_rings_once_whoever_asks(db: Database) -> None:
    team_id = await a_team(db)
    agent_id = await an_agent(db, "Anna", team_id)
    first = await booked(db, team_id=team_id)
    other = await booked(db, team_id=team_id)

    async def ring(callback_id: int) -> bool:
        try:
            async with db.transaction() as uow:
                await callbacks.dial(uow, callback_id, agent_id, actor=f"agent:{agent_id}")
        except Conflict as refused:
            assert refused.code == "number_busy"
            return False
        return True

    won = await asyncio.gather(*(ring(c["id"]) for c in (first, other) * 3))
    at_work = await rows(db, callback_attempt, callback_attempt.c.state == "dialling")
    assert len(at_work) == 1 and any(won)
    assert {c["state"] for c in [await now_is(db, first["id"]), await now_is(db, other["id"])]} == {
        "dialling", "scheduled"
    }  # fmt: skip
    assert "callback.dialled" in await kinds(db)


def test_who_was_asked_while_another_took_it_did_not_take_it() -> None:
    asked = {"agent_id": 3, "role": "owner", "from": 1, "until": 2, "result": "asked"}
    links = chain.taken_by([asked], 4)
    assert links is not None
    assert [(x["agent_id"], x["role"], x["result"]) for x in links] == [
        (3, "owner", "not_taken"),
        (4, "team", "took"),
    ]
    again = chain.taken_by([asked], 3)
    assert again == [{**asked, "result": "took"}]
