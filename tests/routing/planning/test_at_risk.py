"""What will be late with the people who are there: order, skills and shifts are the engine's own."""

from typing import Any

import pytest

from crm_core.clock import from_iso
from crm_core.db.engine import Database
from crm_core.errors import Invalid, NotFound
from crm_core.schema import agent as agent_table
from routing import items
from routing.planning.at_risk import AT_ONCE, SEEDS, at_risk
from routing.schema import agent_state, sla_clock, work_item
from tests.conftest import MovableClock
from tests.routing.engine.desk import T0, arrives, go, the_item
from tests.routing.planning.record import HOUR, MINUTE, a_calendar, a_team, an_agent, an_item, items_handled

DAY = 24 * HOUR
#: one mail at a time: what waits is handled one after the other
ROUND = {d: [["00:00", "24:00"]] for d in ("mon", "tue", "wed", "thu", "fri", "sat", "sun")}
ONE_MAIL = {"channels": {"async": {"max": 1, "weight": 100}}}


@pytest.fixture(autouse=True)
def _at_t0(clock: MovableClock) -> None:
    clock.set(T0)


async def a_mail(db: Database, team: int, due_at: int | None, **facts: Any) -> int:
    """A mail with a promised first reply, or none. Returns its work item."""
    item = await arrives(db, team_id=team, channel="email", **facts)
    if due_at is not None:
        async with db.transaction() as uow:
            await uow.insert(
                sla_clock,
                {
                    "inquiry_id": item.inquiry_id, "metric": "first_reply", "instance": 1, "state": "active",
                    "activated_at": T0, "consumed_ms": 0, "running_since": T0, "paused_ms": 0,
                    "paused_since": None, "pause_reasons": [], "target_ms": due_at - T0, "business": False,
                    "due_at": due_at, "breach_at": due_at, "next_fire_at": due_at, "step": 0, "breached_at": None,
                    "fulfilled_at": None, "cause": None, "data": {}, "version": 1,
                },
            )  # fmt: skip
            await items.rekey(uow, item.inquiry_id or 0)
    return item.id


async def handle_times(db: Database, team: int, agent: int, ms: int) -> None:
    """A past in which each mail took so long."""
    told = [(T0 - 20 * DAY + n * HOUR, 0, ms) for n in range(30)]
    await items_handled(db, told, team_id=team, agent_id=agent, channel="async")


def of(found: dict[str, Any]) -> dict[int, dict[str, Any]]:
    return {i["item_id"]: i for i in found["items"]}


async def test_those_behind_in_the_queue_will_be_late(db: Database) -> None:
    team = await a_team(db, settings=ONE_MAIL)
    olena = await an_agent(db, "Olena", team)
    await handle_times(db, team, olena, 30 * MINUTE)
    await a_mail(db, team, None)  # she has this one in hand
    # Ten mails of half an hour, each due an hour after the other's beginning of the queue: the last have no chance.
    mails = [await a_mail(db, team, T0 + HOUR + n) for n in range(10)]
    found = await at_risk(db, now=T0, hours=8)
    risks = of(found)
    chances = [risks[m]["probability"] if m in risks else 0.0 for m in mails]
    assert chances == sorted(chances)
    assert chances[0] < 0.7
    assert chances[-1] > 0.9
    assert found["teams"][0]["waiting"] == 10
    assert 5 < found["teams"][0]["expected_breaches"] <= 10


async def test_what_somebody_has_in_hand_keeps_him_from_the_next(db: Database) -> None:
    """Her mail takes ten hours; another that is due in one waits for her in most futures, and so long in none else."""
    team = await a_team(db, settings=ONE_MAIL)
    olena = await an_agent(db, "Olena", team)
    await handle_times(db, team, olena, 10 * HOUR)
    await a_mail(db, team, None)
    mail = await a_mail(db, team, T0 + HOUR)
    assert of(await at_risk(db, now=T0))[mail]["probability"] > 0.6
    await an_agent(db, "Petro", team, online=False)
    async with db.transaction() as uow:  # somebody with empty hands
        await uow.execute(
            agent_state.update()
            .where(agent_state.c.agent_id != olena)
            .values(presence="online", routable=True, lease_until=T0 + HOUR)
        )
    assert mail not in of(await at_risk(db, now=T0))


async def test_one_more_agent_lowers_the_risk(db: Database) -> None:
    team = await a_team(db, settings=ONE_MAIL)
    olena = await an_agent(db, "Olena", team)
    await handle_times(db, team, olena, 30 * MINUTE)
    await a_mail(db, team, None)
    for n in range(8):
        await a_mail(db, team, T0 + 2 * HOUR + n)
    alone = (await at_risk(db, now=T0))["teams"][0]["expected_breaches"]
    more = [await an_agent(db, f"More{n}", team, online=False) for n in range(4)]
    absent = (await at_risk(db, now=T0))["teams"][0]["expected_breaches"]
    assert absent == alone > 1  # who is not there and has no shifts is not counted on
    for agent in more:
        await go(db, agent, "online")
    assert (await at_risk(db, now=T0))["teams"][0]["expected_breaches"] < alone - 1


async def test_nobody_there_means_everything_is_late_and_it_is_said(db: Database) -> None:
    team = await a_team(db)
    mail = await a_mail(db, team, T0 + HOUR)
    late = await a_mail(db, team, T0 - 1)
    later = await a_mail(db, team, T0 + 20 * HOUR)
    unpromised = await a_mail(db, team, None)
    found = await at_risk(db, now=T0, hours=8)
    risks = of(found)
    assert (risks[mail]["probability"], risks[mail]["late"], risks[mail]["expected_at"]) == (1.0, False, None)
    assert risks[late]["late"] is True
    assert later not in risks
    assert unpromised not in risks
    assert [i["item_id"] for i in found["items"]] == [mail, late]
    assert found["teams"][0]["late"] == 1
    assert found["notes"][-1]["code"] == "nobody_there"


async def test_who_comes_by_his_calendar_is_counted_on(db: Database) -> None:
    """T0 is 21 September 2026, 16:33 in Kyiv; she works on the 22nd."""
    team = await a_team(db)
    tomorrow = await a_calendar(db, "Tomorrow", week={}, special={"2026-09-22": [["09:00", "18:00"]]})
    olena = await an_agent(db, "Olena", team, online=False)
    async with db.transaction() as uow:
        await uow.execute(agent_table.update().where(agent_table.c.id == olena).values(calendar_id=tomorrow))
    today, later = await a_mail(db, team, T0 + HOUR), await a_mail(db, team, T0 + 24 * HOUR)
    found = of(await at_risk(db, now=T0, hours=48))
    assert set(found) == {today}
    assert from_iso(found[today]["expected_at"]) == from_iso("2026-09-22T09:00:00+03:00") + 5 * MINUTE
    assert later not in found


async def test_skills_decide_who_can_help(db: Database) -> None:
    team = await a_team(db)
    await an_agent(db, "Olena", team, skills={"lang:en": 3})
    await an_agent(db, "Petro", team, online=False, skills={"lang:uk": 5})
    english = await a_mail(db, team, T0 + HOUR, language="en")
    ukrainian = await a_mail(db, team, T0 + HOUR, language="uk")
    assert (await the_item(db, english)).state == "assigned"
    found = of(await at_risk(db, now=T0))
    assert found[ukrainian]["probability"] == 1.0


async def test_what_an_agent_has_is_walked_through_by_deadline(db: Database) -> None:
    """Five minutes an answer by default: of three due in seven, two are late; nobody online answers anything."""
    team = await a_team(db)
    await an_agent(db, "Olena", team)
    mails = [await a_mail(db, team, T0 + 7 * MINUTE + n) for n in range(3)]
    found = of(await at_risk(db, now=T0))
    assert set(found) == set(mails[1:])
    assert found[mails[1]]["assignee"]["name"] == "Olena"
    assert from_iso(found[mails[1]]["expected_at"]) == T0 + 10 * MINUTE
    assert found[mails[1]]["state"] == "assigned"


async def test_much_is_played_in_a_process_beside(db: Database) -> None:
    """Eighty waiting requests of a minute each, one agent who has one at a time: it is a matter of order."""
    team = await a_team(db, settings=ONE_MAIL, calendar_id=await a_calendar(db, week=ROUND))
    olena = await an_agent(db, "Olena", team)
    await handle_times(db, team, olena, 20 * MINUTE)
    waiting = [
        an_item(ready_at=T0 - HOUR + n, order_key=T0 + n, team_id=team, channel="async", state="waiting",
                due_at=T0 + 2 * HOUR)
        for n in range(AT_ONCE // SEEDS + 1)
    ]  # fmt: skip
    async with db.transaction() as uow:
        for row in waiting:
            await uow.insert(work_item, row)
    found = await at_risk(db, now=T0)
    # In two hours she gets through about six of them; the others are late for certain.
    assert len(waiting) - 8 < found["teams"][0]["expected_breaches"] < len(waiting) - 3


async def test_asking_twice_gives_the_same(db: Database) -> None:
    team = await a_team(db, settings=ONE_MAIL)
    olena = await an_agent(db, "Olena", team)
    await handle_times(db, team, olena, 30 * MINUTE)
    for n in range(6):
        await a_mail(db, team, T0 + HOUR + n)
    assert await at_risk(db, now=T0) == await at_risk(db, now=T0)


async def test_unknown_teams_and_wild_hours_are_refused(db: Database) -> None:
    with pytest.raises(NotFound):
        await at_risk(db, now=T0, team_id=99)
    with pytest.raises(Invalid):
        await at_risk(db, now=T0, hours=0)
