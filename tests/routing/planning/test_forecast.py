"""The forecast against a past whose truth is known: the need is Erlang's for the rate and handle time recorded."""

import random
from typing import Any

import pytest

from crm_core.db.engine import Database
from crm_core.errors import Invalid, NotFound
from routing import erlang
from routing.planning import words
from routing.planning.forecast import Wish, forecast
from routing.planning.staffing import Target
from tests.routing.planning.record import (
    DAY,
    HOUR,
    MINUTE,
    MONDAY,
    a_calendar,
    a_team,
    an_agent,
    an_inbox,
    calls_in,
    items_handled,
)

NOW = MONDAY + 28 * DAY  # four weeks later, Monday 00:00 in Kyiv
TALK, WRAPUP = 150_000, 30_000


async def busy_line(db: Database, team: int, agent: int, per_half_hour: int, *, gives_up: int = 0) -> None:
    """Calls from 9 to 12 on every day for four weeks, evenly, 180 s of work each; so many of a half-hour give up."""
    line = await an_inbox(db, "telephony", team)
    told: list[tuple[int, int, int | None, int | None]] = []
    for day in range(28):
        for half in range(6):
            start = MONDAY + day * DAY + 9 * HOUR + half * 30 * MINUTE
            for n in range(per_half_hour):
                at = start + n * 30 * MINUTE // per_half_hour
                told.append((at, 60_000, None, None) if n < gives_up else (at, 10_000, TALK, agent))
    await calls_in(db, told, inbox_id=line)


def at(found: dict[str, Any], local: str) -> dict[str, Any]:
    (team,) = found["teams"]
    return next(i for i in team["intervals"] if i["local"].startswith(local))


async def test_the_need_is_erlangs_for_the_recorded_rate(db: Database) -> None:
    team = await a_team(db, calendar_id=await a_calendar(db))
    agent = await an_agent(db, "Olena", team, online=False)
    await busy_line(db, team, agent, 25)
    found = await forecast(db, Wish(hours=12, shrinkage=0.3, target=Target(0.8, 20_000)), NOW)
    ten = at(found, "2025-06-30T10:00")
    truth = erlang.staff_erlang_c(50 / 3600 * 180, 180, 20, 0.8)
    assert ten["arrivals"] == {"voice": 25.0}
    assert ten["needed"] == truth.servers
    assert ten["staff"] == -(-truth.servers * 10 // 7)
    assert ten["channels"][0]["service_level"] == pytest.approx(truth.service_level * 100, abs=0.01)
    (channel,) = found["teams"][0]["channels"]
    assert (channel["aht_s"], channel["aht_known"], channel["formula"]) == (180.0, True, "C")
    assert at(found, "2025-06-30T07:00")["open"] is False


async def test_abandons_make_it_erlang_a(db: Database) -> None:
    team = await a_team(db)
    agent = await an_agent(db, "Olena", team, online=False)
    await busy_line(db, team, agent, 20, gives_up=2)
    found = await forecast(db, Wish(hours=24), NOW)
    (channel,) = found["teams"][0]["channels"]
    patience = (18 * 10 + 2 * 60) / 2
    assert (channel["formula"], channel["patience_s"]) == ("A", patience)
    # Without a calendar the hours of the day are UTC.
    need = at(found, "2025-06-30T07:00")["needed"]
    assert erlang.erlang_a(40, 180, patience, need).sl_excl_short_abandons >= 0.8
    assert erlang.erlang_a(40, 180, patience, need - 1).sl_excl_short_abandons < 0.8


async def test_poisson_arrivals_are_met_within_their_noise(db: Database) -> None:
    team = await a_team(db)
    agent = await an_agent(db, "Olena", team, online=False)
    chance, told, t = random.Random(4), [], float(NOW - 28 * DAY)
    while (t := t + chance.expovariate(6 / HOUR)) < NOW:
        told.append((int(t), 0, 300_000))
    await items_handled(db, told, team_id=team, agent_id=agent)
    found = await forecast(db, Wish(hours=48), NOW)
    means = [i["arrivals"]["chat"] for i in found["teams"][0]["intervals"]]
    assert sum(means) / len(means) == pytest.approx(3, rel=0.15)
    assert len(means) == 96


async def test_who_is_planned_and_there_is_compared(db: Database) -> None:
    hours = await a_calendar(db)
    team = await a_team(db, calendar_id=hours)
    agent = await an_agent(db, "Olena", team, online=False)
    await an_agent(db, "Petro", team, online=False)
    await busy_line(db, team, agent, 10)
    found = await forecast(db, Wish(hours=12), NOW)
    ten = at(found, "2025-06-30T10:00")
    assert ten["planned"] == 2
    assert ten["short"] == ten["staff"] - 2 > 0
    assert found["teams"][0]["worst"]["short"] == max(i["short"] for i in found["teams"][0]["intervals"])
    codes = {n["code"] for n in found["notes"]}
    assert {"no_shifts", "no_patience"} <= codes


async def test_being_short_now_is_by_who_is_online(db: Database) -> None:
    team = await a_team(db)
    agent = await an_agent(db, "Olena", team, online=False)
    await busy_line(db, team, agent, 25)
    nine = NOW + 9 * HOUR
    there = (await forecast(db, Wish(hours=1), nine))["teams"][0]
    assert there["online"] == 0
    assert there["short_now"] == there["intervals"][0]["needed"] > 3


async def test_handle_times_of_one_at_a_time_are_told_as_such(db: Database) -> None:
    team = await a_team(db)
    agent = await an_agent(db, "Olena", team, online=False)
    told = [(NOW - 10 * DAY + n * HOUR, 0, 60_000) for n in range(40)]
    await items_handled(db, told, team_id=team, agent_id=agent)
    found = await forecast(db, Wish(hours=1), NOW)
    (channel,) = found["teams"][0]["channels"]
    assert (channel["at_once"], channel["at_once_observed"]) == (4, 1.0)
    assert "fewer_at_once" in {n["code"] for n in found["notes"]}


async def test_a_half_hour_brings_at_least_what_it_has_brought(db: Database) -> None:
    team = await a_team(db)
    agent = await an_agent(db, "Olena", team, online=False)
    told = [(NOW + n * 1_000, 0, 60_000) for n in range(40)]
    await items_handled(db, told, team_id=team, agent_id=agent)
    (team_,) = (await forecast(db, Wish(hours=1), NOW + 5 * MINUTE))["teams"]
    assert [i["arrivals"]["chat"] for i in team_["intervals"]] == [40, 0, 0]


async def test_the_closed_hours_work_is_done_after_the_opening(db: Database) -> None:
    team = await a_team(db, calendar_id=await a_calendar(db))
    agent = await an_agent(db, "Olena", team, online=False)
    told = [(MONDAY + day * DAY + 5 * HOUR + n * MINUTE, 0, 600_000) for day in range(28) for n in range(20)]
    await items_handled(db, told, team_id=team, agent_id=agent, channel="async")
    found = await forecast(db, Wish(hours=12), NOW)
    assert at(found, "2025-06-30T05:00")["needed"] == 0
    nine = at(found, "2025-06-30T09:00")["channels"][0]
    # Twenty mails of the night, spread over the eight hours that each may wait.
    assert nine["arrivals"] == pytest.approx(20 / 16, abs=0.01)
    assert "parked" in {n["code"] for n in found["notes"]}


async def test_an_empty_installation_gets_an_empty_forecast(db: Database) -> None:
    await a_team(db)
    found = await forecast(db, Wish(), NOW)
    assert found["notes"][0]["code"] == "no_history"
    assert all(i["needed"] == 0 for i in found["teams"][0]["intervals"])
    assert words.spoken(found["notes"], "uk")[0]["text"].startswith("Ще нічого")


async def test_unknown_teams_and_wild_wishes_are_refused(db: Database) -> None:
    with pytest.raises(NotFound):
        await forecast(db, Wish(team_id=99), NOW)
    for wrong in ({"hours": 0}, {"hours": 10_000}, {"shrinkage": 1.0}, {"shrinkage": float("nan")}):
        with pytest.raises(Invalid):
            Wish(**wrong)
