"""Leads shared out by weight: fewest by weight, daily caps, days of the team's zone."""

import asyncio

import pytest

from crm_core.clock import DAY, HOUR
from crm_core.db.engine import Database
from routing import assignments, explain, lead_counts, offers, sweep
from routing.lead_counts import Counts
from routing.model import ItemState
from routing.schema import decision, lead_count, offer, work_item
from routing.settings import LeadSettings
from tests.conftest import MovableClock
from tests.routing.engine import desk
from tests.routing.engine.desk import T0


@pytest.fixture(autouse=True)
def frozen(clock: MovableClock) -> MovableClock:
    clock.set(T0)
    return clock


async def test_leads_follow_the_weights_and_caps_hold(db: Database, frozen: MovableClock) -> None:
    team_id = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team_id, settings={"capacity": {"async": 99, "load_max": 999}})
    ihor = await desk.an_agent(db, "Ihor", team_id, settings={"capacity": {"async": 99, "load_max": 999}})
    leads = {"selector": "weighted", "weights": {str(olena): 2}, "caps": {str(olena): 5}}
    await desk.set_team(db, team_id, {"leads": leads})

    owners = []
    for _ in range(6):
        frozen.advance(1000)
        owners.append((await desk.arrives(db, team_id=team_id, kind="lead")).owner_id)
    assert (owners.count(olena), owners.count(ihor)) == (4, 2)
    (last,) = (await desk.rows(db, decision))[-1:]
    assert last["why"]["winner"]["tuple"][3] == 1500
    assert last["why"]["differs"] == "leads"
    async with db.reading() as conn:
        story = await explain.why(conn, last["inquiry_id"], "en")
    assert "had the fewest leads by weight" in story["text"]

    later = [(await desk.arrives(db, team_id=team_id, kind="lead")).owner_id for _ in range(4)]
    assert (later.count(olena), later.count(ihor)) == (1, 3), "five a day and no more"
    assert ["lead_cap" in str(d["why"]["rejected"]) for d in (await desk.rows(db, decision))[-2:]] == [
        True
    ] * 2
    ticket = await desk.arrives(db, team_id=team_id)
    assert ticket.owner_id in (olena, ihor), "tickets know no caps"
    await desk.check_invariants(db)


async def test_who_is_at_his_cap_pulls_no_leads_either_but_may_be_given_one(db: Database) -> None:
    team_id = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team_id, online=False)
    await desk.set_team(db, team_id, {"leads": {"selector": "weighted", "daily_cap": 1}})
    first = await desk.arrives(db, team_id=team_id, kind="lead")
    second = await desk.arrives(db, team_id=team_id, kind="lead")
    mail = await desk.arrives(db, team_id=team_id)
    await desk.go(db, olena, "online")
    states = [(await desk.the_item(db, i.id)).state for i in (first, second, mail)]
    assert states == [ItemState.ASSIGNED, ItemState.WAITING, ItemState.ASSIGNED]
    async with db.transaction() as uow:
        await assignments.take(uow, second.source_id, olena)
    (row,) = await desk.rows(db, lead_count)
    assert (row["given"], row["given_today"]) == (2, 2)
    await desk.check_invariants(db)


async def test_counts_begin_anew_with_the_day_and_the_period(db: Database, frozen: MovableClock) -> None:
    team_id = await desk.a_team(db)
    await desk.an_agent(db, "Olena", team_id)
    await desk.set_team(db, team_id, {"leads": {"selector": "weighted", "daily_cap": 9, "period": "week"}})
    await desk.arrives(db, team_id=team_id, kind="lead")
    frozen.advance(8 * DAY)
    async with db.transaction() as uow:
        await lead_counts.given(uow, team_id, LeadSettings(period="week"), "UTC", 1)
    (row,) = await desk.rows(db, lead_count)
    assert (row["given"], row["given_today"]) == (1, 1)


def test_periods_begin_at_the_zones_midnight() -> None:
    # 2026-03-29 00:30 UTC is 02:30 in Kyiv, half an hour before the clocks go forward.
    now = 1_774_744_200_000
    day = now - 30 * 60_000 - 2 * HOUR
    assert lead_counts.period_starts(LeadSettings(period="day"), "Europe/Kyiv", now) == (day, day)
    assert lead_counts.period_starts(LeadSettings(period="day"), "Europe/Kyiv", now + 12 * HOUR) == (day, day)
    assert lead_counts.period_starts(LeadSettings(period="week"), "Europe/Kyiv", now)[0] == day - 6 * DAY
    assert lead_counts.period_starts(LeadSettings(period="month"), "Europe/Kyiv", now)[0] == day - 28 * DAY


def test_shares_and_caps() -> None:
    leads = LeadSettings(selector="weighted", weights={1: 4, 2: 0}, daily_cap=3)
    assert lead_counts.stand(leads, 1, Counts(6, 2)).share == 1500
    assert lead_counts.stand(leads, 3, Counts(6, 2)).share == 6000
    assert not lead_counts.stand(leads, 1, Counts(6, 2)).capped
    assert lead_counts.stand(leads, 1, Counts(6, 3)).capped
    assert lead_counts.stand(leads, 2, Counts()).capped, "a weight of zero gets none"


async def test_leads_that_he_is_asked_about_are_within_the_cap(db: Database) -> None:
    """Leads of a chat are offered: what is offered and may be accepted counts, also where two come at once."""
    team_id = await desk.a_team(db, settings={"leads": {"selector": "weighted", "daily_cap": 2}})
    olena = await desk.an_agent(db, "Olena", team_id)
    asked = [await desk.an_inquiry(db, team_id=team_id, kind="lead", channel="webchat") for _ in range(4)]
    await asyncio.gather(*(desk.enqueue(db, inquiry_id) for inquiry_id in asked))
    items = [i for i in await desk.rows(db, work_item) if i["source_id"] in asked]
    assert sorted(i["state"] for i in items) == ["offered", "offered", "waiting", "waiting"]

    first, second = await desk.rows(db, offer, offer.c.state == "open")
    async with db.transaction() as uow:
        await offers.accept(uow, first["id"], olena)
    await sweep.sweep_lanes(db)
    assert len(await desk.rows(db, offer)) == 2, "one he has, one he is asked about: that is all of the day"
    async with db.transaction() as uow:
        await offers.decline(uow, second["id"], olena)
    # The place of the declined one goes to the next, and no further.
    (third,) = await desk.rows(db, offer, offer.c.state == "open")
    async with db.transaction() as uow:
        await offers.accept(uow, third["id"], olena)
    await sweep.sweep_lanes(db)
    (row,) = await desk.rows(db, lead_count)
    assert (row["given_today"], len(await desk.rows(db, offer, offer.c.state == "open"))) == (2, 0)
    await desk.check_invariants(db)


async def test_a_crowd_of_leads_beyond_the_cap_is_not_before_other_work(db: Database) -> None:
    team_id = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team_id, online=False)
    await desk.set_team(db, team_id, {"leads": {"selector": "weighted", "daily_cap": 1}})
    for _ in range(8):
        await desk.arrives(db, team_id=team_id, kind="lead")
    mail = await desk.arrives(db, team_id=team_id)
    await desk.go(db, olena, "online")
    assert (await desk.the_item(db, mail.id)).owner_id == olena
    assert (await desk.rows(db, lead_count))[0]["given_today"] == 1
