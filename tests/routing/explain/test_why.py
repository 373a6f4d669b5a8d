"""Why something waits or went where it went, from the rows that routing made, on both databases."""

import json
from typing import Any

import pytest
from sqlalchemy import event, insert, update

from crm_core.clock import HOUR, MINUTE, SECOND
from crm_core.db.engine import Database
from crm_core.errors import NotFound
from crm_core.schema import contact
from routing import assignments, configuration, explain, offers, sweep
from routing.schema import calendar, decision
from tests.conftest import MovableClock
from tests.routing.engine import desk


@pytest.fixture
def clock(clock: MovableClock) -> MovableClock:
    clock.set(desk.T0)
    return clock


def sync_engine_of(db: Database) -> Any:
    return db._read_engine.sync_engine


async def why(db: Database, inquiry_id: int, language: str = "en") -> dict[str, Any]:
    async with db.reading() as conn:
        return await explain.why(conn, inquiry_id, language, now=db.clock.now_ms())


async def test_who_waits_sees_everybody_with_the_first_filter_against_him(
    db: Database, clock: MovableClock
) -> None:
    team = await desk.a_team(db)
    await desk.an_agent(db, "Away", team, online=False, skills={"product:visa": 3})
    await desk.an_agent(db, "Pause", team, skills={"product:visa": 3})
    lacks = await desk.an_agent(db, "Lacks", team)
    await desk.go(db, lacks - 1, "break")
    item = await desk.arrives(
        db, team_id=team, channel="webchat", requirements={"product:visa": {"level": 3, "hard": True}}
    )
    found = await why(db, item.source_id)
    waiting = found["waiting"]
    assert {a["agent"]["name"]: a["reason"] for a in waiting["agents"]} == {
        "Away": "offline",
        "Pause": "on_break",
        "Lacks": "skill_missing",
    }
    assert found["state"] == "waiting"
    assert waiting["ahead"] == {
        "count": 0,
        "capped": False,
        "position": 1,
        "items": [],
        "text": "Nobody is before it.",
    }
    assert [k["code"] for k in waiting["key"]] == ["max_wait"]
    assert waiting["key"][0]["ms"] == 3 * MINUTE
    assert waiting["config"] == {"in_force": 1, "placed_by": 1, "rollout": None}
    assert waiting["rings"][waiting["step"]["no"]]["state"] == "now"


async def test_who_is_ahead_and_how_the_boosts_worked(db: Database, clock: MovableClock) -> None:
    team = await desk.a_team(db)
    first = await desk.arrives(db, team_id=team, channel="webchat")
    clock.advance(SECOND)
    last = await desk.arrives(db, team_id=team, channel="webchat")
    urgent = await desk.arrives(db, team_id=team, channel="webchat", priority="urgent")
    waiting = (await why(db, last.source_id))["waiting"]
    assert [i["item_id"] for i in waiting["ahead"]["items"]] == [urgent.id, first.id]
    assert waiting["ahead"]["items"][0]["priority"] == "urgent"
    key = (await why(db, urgent.source_id))["waiting"]["key"]
    assert [(k["code"], k["ms"]) for k in key] == [("max_wait", 3 * MINUTE), ("priority", 2 * MINUTE)]


async def test_the_managers_window(db: Database, clock: MovableClock) -> None:
    team = await desk.a_team(db, settings={"channels": {"chat": {"max": 1}}})
    petro = await desk.an_agent(db, "Petro", team)
    await desk.arrives(db, team_id=team, channel="webchat")
    person = await desk.a_contact(db, manager_id=petro)
    item = await desk.arrives(db, team_id=team, channel="webchat", contact_id=person)
    waiting = (await why(db, item.source_id))["waiting"]
    assert waiting["window"]["agent"] == {"id": petro, "name": "Petro"}
    assert waiting["window"]["scope"] == "manager"
    assert waiting["window"]["until"] == waiting["widens_at"]
    assert waiting["text"] == "Waits for the contact's manager. More people will be asked in 45 s."


async def test_offers_and_how_they_ended(db: Database, clock: MovableClock) -> None:
    team = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team)
    ivan = await desk.an_agent(db, "Ivan", team)
    item = await desk.arrives(db, team_id=team, channel="webchat")
    (made,) = await desk.open_offers(db, item.id)
    async with db.transaction() as uow:
        await offers.decline(uow, made["id"], made["agent_id"], "lunch")
    found = await why(db, item.source_id)
    assert [(o["state"], o["reason"]) for o in found["offers"]] == [("declined", "lunch"), ("open", None)]
    assert found["waiting"]["rounds"]["refused"] == 1
    assert {o["agent"]["id"] for o in found["offers"]} == {olena, ivan}
    assert found["offers"][1]["text"].endswith("offered, 25 s left.")


async def test_after_hours_it_says_until_when(db: Database, clock: MovableClock) -> None:
    spec = {"tz": "Europe/Kyiv", "week": {"mon": [["09:00", "10:00"]]}}
    async with db.transaction() as uow:
        (calendar_id,) = (
            await uow.execute(
                insert(calendar)
                .values(name="Short", spec=spec, version=1, updated_at=uow.now)
                .returning(calendar.c.id)
            )
        ).one()
    team = await desk.a_team(db, calendar_id=calendar_id)
    item = await desk.arrives(db, team_id=team)
    found = await why(db, item.source_id, "uk")
    assert found["state"] == "parked"
    assert found["waiting"]["parked_reason"] == "after_hours"
    assert found["waiting"]["parked_until"] is not None
    assert "Команда не працює" in found["text"]
    assert found["waiting"]["expected"]["basis"] == "closed"


async def test_an_assignment_by_hand_and_by_rank(db: Database, clock: MovableClock) -> None:
    team = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team)
    await desk.an_agent(db, "Ivan", team)
    item = await desk.arrives(db, team_id=team)
    found = await why(db, item.source_id)
    assert found["waiting"] is None
    assert found["assignment"]["cause"] == "outright"
    assert found["decisions"][-1]["replayable"]
    assert "Next best was" in found["text"]
    async with db.transaction() as uow:
        await assignments.take(uow, item.source_id, olena, steal=True)
    taken = await why(db, item.source_id, "ru")
    assert (
        taken["decisions"][-1]["text"] == "Взято вручную: Olena."
        or taken["assignment"]["agent"]["id"] == olena
    )


async def test_stories_of_what_was_never_routed(db: Database) -> None:
    async with db.reading() as conn:
        with pytest.raises(NotFound):
            await explain.why(conn, 999_999)
        with pytest.raises(NotFound):
            await explain.why_item(conn, 999_999)
        none = await explain.why_source(conn, "callback", 999_999, "uk")
    assert (none["state"], none["text"], none["offers"]) == ("none", "Ніколи не було в черзі.", [])


async def test_a_rollout_under_way_is_said(db: Database) -> None:
    team = await desk.a_team(db)
    item = await desk.arrives(db, team_id=team, channel="webchat")
    async with db.transaction() as uow:
        await configuration.edit(uow, team, {"exclude_s": 9}, actor="agent:1")
    config = (await why(db, item.source_id))["waiting"]["config"]
    assert (config["in_force"], config["placed_by"], config["rollout"]["phase"]) == (2, 1, "items")


async def test_no_stored_reason_is_longer_than_two_kilobytes(db: Database) -> None:
    team = await desk.a_team(db)
    skills = {f"product:{'x' * 60}{n}": 1 for n in range(8)}
    for n in range(12):
        await desk.an_agent(db, f"{'Ж' * 60}{n}", team, skills=skills)
    await desk.arrives(db, team_id=team, channel="webchat", requirements=skills)
    (row,) = await desk.rows(db, decision)
    assert len(json.dumps(row["why"], ensure_ascii=False).encode()) <= 2048


async def test_the_question_costs_the_same_with_a_long_queue(db: Database, clock: MovableClock) -> None:
    team = await desk.a_team(db)
    await desk.an_agent(db, "Olena", team, online=False)
    item = await desk.arrives(db, team_id=team, channel="webchat")

    async def statements() -> int:
        count = 0

        def seen(*_: object) -> None:
            nonlocal count
            count += 1

        event.listen(sync_engine_of(db), "before_cursor_execute", seen)
        try:
            await why(db, item.source_id)
        finally:
            event.remove(sync_engine_of(db), "before_cursor_execute", seen)
        return count

    few = await statements()
    for _ in range(12):
        await desk.arrives(db, team_id=team, channel="webchat")
    assert few == await statements() <= 32
    async with db.transaction() as uow:
        await uow.execute(update(contact).values(vip=False))


async def test_who_pulled_it_is_told_beside_why_the_manager_did_not_get_it(
    db: Database, clock: MovableClock
) -> None:
    """As for an item that asked for somebody, so for an agent who asked for work: in every language."""
    team = await desk.a_team(db, settings={"channels": {"chat": {"max": 1}}})
    petro = await desk.an_agent(db, "Petro", team)
    await desk.arrives(db, team_id=team, channel="webchat")
    person = await desk.a_contact(db, manager_id=petro)
    item = await desk.arrives(db, team_id=team, channel="webchat", contact_id=person)
    clock.advance(MINUTE)
    await desk.beat(db)
    await sweep.sweep_steps(db)
    olena = await desk.an_agent(db, "Olena", team)
    told = (await why(db, item.source_id))["decisions"][-1]
    assert (told["trigger"], told["agent_id"]) == ("online", olena)
    assert told["why"]["manager"] == {
        "agent_id": petro, "name": "Petro", "reason": "no_capacity", "waited_ms": 0,
    }  # fmt: skip
    assert told["text"].endswith("Manager Petro: has no free place.")
    for language, words in (
        ("uk", "Менеджер Petro: немає вільного місця."),
        ("ru", "Менеджер Petro: нет свободного места."),
    ):
        assert words in (await why(db, item.source_id, language))["decisions"][-1]["text"]


async def test_who_declined_it_himself_is_told_as_the_manager_who_did(
    db: Database, clock: MovableClock
) -> None:
    team = await desk.a_team(db)
    petro = await desk.an_agent(db, "Petro", team)
    item = await desk.arrives(
        db, team_id=team, channel="webchat", contact_id=await desk.a_contact(db, manager_id=petro)
    )
    (his,) = await desk.open_offers(db, item.id)
    async with db.transaction() as uow:
        await offers.decline(uow, his["id"], petro)
    await desk.an_agent(db, "Olena", team)
    told = (await why(db, item.source_id))["decisions"][-1]
    assert told["why"]["manager"]["reason"] == "excluded_declined"
    assert told["text"].endswith("Manager Petro: declined or missed it a short while ago.")


async def test_time_with_somebody_else_is_no_waiting_for_the_manager(
    db: Database, clock: MovableClock
) -> None:
    team = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team)
    petro = await desk.an_agent(db, "Petro", team, online=False)
    person = await desk.a_contact(db, manager_id=petro)
    item = await desk.arrives(db, team_id=team, contact_id=person)
    assert item.owner_id == olena
    await desk.an_agent(db, "Ihor", team)
    clock.advance(3 * HOUR)
    await desk.beat(db)
    async with db.transaction() as uow:
        await assignments.release(uow, item.source_id, f"agent:{olena}")
    told = (await why(db, item.source_id))["decisions"][-1]
    assert told["why"]["manager"]["waited_ms"] == 0
    assert told["text"].endswith("Manager Petro: offline.")
