"""A period whose truth is known, played again: as it was it must come out as it was, and a change must tell."""

from typing import Any

import pytest

from crm_core.db.engine import Database
from crm_core.errors import Invalid, NotFound
from crm_core.schema import team as team_table
from routing import configuration
from routing.planning import replay, whatif, words
from routing.planning.change import Change, ChangeError
from routing.planning.past import Period
from routing.schema import routing_version
from routing.settings import TeamSettings
from routing.simulator import Scenario, ScenarioAgent, ScenarioTeam, Stream, exponential, run
from routing.simulator.traffic import arrivals_of
from routing.sla import edit
from tests.conftest import MovableClock
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
    offers_made,
    presences,
)

NOW = MONDAY + 10 * DAY
NINE = MONDAY + 9 * HOUR
PERIOD = Period(NINE, NINE + 4 * HOUR)
#: of the built-in settings
WRAPUP = 30_000
SAME = Change.parse({})
EVERY_DAY = {d: [["00:00", "24:00"]] for d in ("mon", "tue", "wed", "thu", "fri", "sat", "sun")}


async def a_played_day(db: Database, *, agents: int = 4) -> int:
    """Four hours of calls, 90 an hour of 130 s and wrap-up, impatient after 120 s, as the engine itself serves them.

    Returns the team.
    """
    team = await a_team(db)
    ids = [await an_agent(db, f"Agent{n}", team, online=False) for n in range(agents)]
    line = await an_inbox(db, "telephony", team)
    played = Scenario(
        teams=(ScenarioTeam(id=team, settings=TeamSettings()),),
        agents=tuple(ScenarioAgent(id=i, teams=frozenset({team})) for i in ids),
        starts_at=PERIOD.start,
        ends_at=PERIOD.end,
        streams=(
            Stream(
                name="calls", team_id=team, channel="voice", per_hour=90, handle=exponential(130_000),
                patience=exponential(120_000),
            ),
        ),
    )  # fmt: skip
    contacts = list(arrivals_of(played, 7))
    written = Scenario(
        teams=played.teams, agents=played.agents, starts_at=played.starts_at, ends_at=played.ends_at,
        arrivals=[replace_ref(a, n) for n, a in enumerate(contacts)],
    )  # fmt: skip
    told = []
    for story in run(written, 7, trace=True).trace:
        talk = None if story.answered_at is None else contacts[story.ref or 0].handle_ms
        left = story.answered_at if story.answered_at is not None else story.ended_at
        assert left is not None
        told.append((story.at, left - story.at, talk, story.agent_id))
    await calls_in(db, sorted(told), inbox_id=line)
    await presences(db, [(i, PERIOD.start - HOUR, "online") for i in ids])
    await presences(db, [(i, PERIOD.end + 2 * HOUR, "offline") for i in ids])
    return team


def replace_ref(arrival: Any, ref: int) -> Any:
    from dataclasses import replace

    return replace(arrival, ref=ref)


async def asked(
    db: Database, change: Change, *, seeds: int = 2, team_id: int | None = None
) -> dict[str, Any]:
    material = await replay.gather(db, PERIOD, now=NOW, at_most=10_000, team_id=team_id)
    return whatif.compare(material, change, range(1, seeds + 1))


def calls_of(answer: dict[str, Any]) -> dict[str, Any]:
    (row,) = answer["teams"][0]["channels"]
    assert row["channel"] == "voice"
    return dict(row)


async def test_the_baseline_is_what_happened(db: Database) -> None:
    await a_played_day(db)
    row = calls_of(await asked(db, SAME))
    recorded, simulated = row["recorded"], row["as_it_was"]
    assert recorded["offered"] > 300
    assert recorded["abandoned"] > 10
    for figure in (
        "offered",
        "answered",
        "abandoned",
        "service_level_pct",
        "asa_s",
        "wait_p90_s",
        "wait_p99_s",
    ):
        assert simulated[figure] == pytest.approx(recorded[figure], rel=0.01, abs=0.01), figure
    assert row["threshold_s"] == 20


async def test_the_same_is_the_same(db: Database) -> None:
    await a_played_day(db)
    answer = await asked(db, SAME)
    for row in (calls_of(answer), answer["total"]):
        assert row["changed"] == row["as_it_was"]
        assert {v for v in row["difference"].values() if v is not None} == {0}
    assert answer["teams"][0]["fairness"]["changed"] == answer["teams"][0]["fairness"]["as_it_was"]
    assert [a["changed"] for a in answer["teams"][0]["agents"]] == [
        a["as_it_was"] for a in answer["teams"][0]["agents"]
    ]
    assert answer == await asked(db, SAME)


async def test_two_more_agents_help_and_one_less_hurts(db: Database) -> None:
    team = await a_played_day(db)
    more = await asked(db, Change.parse({"agents": {"add": [{"teams": [str(team)], "count": 2}]}}))
    less = await asked(db, Change.parse({"agents": {"remove": ["Agent1"]}}))
    helped, hurt = calls_of(more), calls_of(less)
    assert helped["difference"]["service_level_pct"] > 5
    assert helped["difference"]["abandoned"] < -5
    assert helped["difference"]["wait_p90_s"] < 0
    assert hurt["difference"]["service_level_pct"] < -5
    assert hurt["changed"]["abandoned"] > hurt["as_it_was"]["abandoned"]
    people = more["teams"][0]["agents"]
    assert len(people) == 6
    assert people[-1]["agent"] == {"id": None, "name": "New agent 2"}
    assert people[0]["changed"]["busy_pct"] < people[0]["as_it_was"]["busy_pct"]
    assert len(less["teams"][0]["agents"]) == 4


async def test_settings_of_the_team_are_part_of_the_question(db: Database) -> None:
    await a_played_day(db)
    slow = {"teams": {"support": {"channels": {"voice": {"wrapup_s": 180}}}}}
    row = calls_of(await asked(db, Change.parse(slow)))
    assert row["difference"]["service_level_pct"] < -5


async def test_an_agent_can_be_made_to_work_like_another(db: Database) -> None:
    await a_played_day(db)
    change = {"agents": {"add": [{"teams": ["Support"], "like": "Agent0", "name": "Twin"}],
                         "change": {"Agent1": {"capacity": {"voice": 0}}}}}  # fmt: skip
    answer = await asked(db, Change.parse(change))
    by_name = {a["agent"]["name"]: a for a in answer["teams"][0]["agents"]}
    assert by_name["Agent1"]["changed"]["work_h"] == 0 < by_name["Agent1"]["as_it_was"]["work_h"]
    assert by_name["Twin"]["changed"]["work_h"] > 0


async def test_shifts_are_part_of_the_question(db: Database) -> None:
    """9-13 in Kyiv was the period; he who begins at 11 there has half of the work."""
    team = await a_team(db, calendar_id=await a_calendar(db))
    olena = await an_agent(db, "Olena", team, online=False)
    told = [(NINE + n * MINUTE, 0, 3 * MINUTE) for n in range(240)]
    await items_handled(db, told, team_id=team, agent_id=olena)
    await presences(db, [(olena, NINE - HOUR, "online"), (olena, NINE + 5 * HOUR, "offline")])
    late = {"agents": {"change": {"Olena": {"works": {"week": {"mon": [["11:00", "14:00"]]}}}}}}
    total = (await asked(db, Change.parse(late)))["total"]
    assert total["as_it_was"]["wait_p90_s"] < 60
    assert total["changed"]["wait_p90_s"] > 3_600


async def test_who_is_added_speaks_what_his_team_speaks_unless_told(db: Database) -> None:
    team = await a_team(db)
    ids = [
        await an_agent(db, n, team, online=False, skills={"lang:uk": lvl})
        for n, lvl in (("Olena", 3), ("Petro", 5))
    ]
    wanted = {"required": {"lang:uk": 3}, "preferred": {}, "hard": ["lang:uk"], "dropped": []}
    told = [(NINE + n * MINUTE, 0, 20 * MINUTE) for n in range(60)]
    await items_handled(db, told, team_id=team, agent_id=ids[0], requirements=wanted)
    await presences(db, [(i, NINE - HOUR, "online") for i in ids])
    speaks = await asked(db, Change.parse({"agents": {"add": [{"teams": ["Support"], "works": "always"}]}}))
    mute = await asked(
        db, Change.parse({"agents": {"add": [{"teams": ["Support"], "works": "always", "skills": {}}]}})
    )
    assert speaks["teams"][0]["agents"][-1]["changed"]["work_h"] > 0
    assert mute["teams"][0]["agents"][-1]["changed"]["work_h"] == 0
    assert {"code": "added_idle", "params": {"name": "New agent"}} in mute["notes"]
    assert mute["total"]["changed"] == mute["total"]["as_it_was"]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"agents": {"remove": ["Nobody"]}}, "agents.remove.0.Nobody"),
        ({"agents": {"add": [{"teams": ["Nowhere"]}]}}, "agents.add.0.teams.Nowhere"),
        ({"teams": {"Nowhere": {}}}, "teams.Nowhere"),
        ({"teams": {"Support": {"overflow": [77]}}}, "teams.Support.overflow"),
        ({"teams": {"Support": {"steps": []}}}, "teams.Support.steps"),
    ],
)
async def test_a_change_that_does_not_fit_is_refused_with_its_place(
    db: Database, change: dict[str, Any], path: str
) -> None:
    team = await a_team(db)
    await items_handled(
        db, [(NINE, 0, 60_000)], team_id=team, agent_id=await an_agent(db, "Olena", team, online=False)
    )
    with pytest.raises(ChangeError) as refused:
        await asked(db, Change.parse(change))
    assert refused.value.detail.startswith(f"{path}: ")


async def test_what_cannot_be_played_is_refused(db: Database) -> None:
    team = await a_team(db)
    agent = await an_agent(db, "Olena", team, online=False)
    for start, end, code in ((NOW + 1, NOW + 2, "bad_period"), (NINE, NINE + HOUR, "nothing_recorded")):
        with pytest.raises(Invalid) as refused:
            await replay.gather(db, Period(start, end), now=NOW, at_most=10)
        assert refused.value.code == code
    with pytest.raises(NotFound):
        await replay.gather(db, PERIOD, now=NOW, at_most=10, team_id=team + 50)
    await items_handled(db, [(NINE + n, 0, 5) for n in range(12)], team_id=team, agent_id=agent)
    with pytest.raises(Invalid) as refused:
        await replay.gather(db, PERIOD, now=NOW, at_most=10)
    assert refused.value.code == "too_much_traffic"
    with pytest.raises(Invalid) as refused:
        whatif.check_size(60_000, 50)
    assert refused.value.code == "too_much_to_simulate"


async def test_chats_are_answered_as_the_record_says_they_are(db: Database) -> None:
    """Offers accepted after 4 s, three of four: the replay has agents who do just that."""
    team = await a_team(db)
    olena = await an_agent(db, "Olena", team, online=False)
    ids = await items_handled(
        db, [(NINE + n * 5 * MINUTE, 4_000, 120_000) for n in range(30)], team_id=team, agent_id=olena
    )
    made = [(i, olena, "accepted", NINE, NINE + 4_000) for i in ids]
    await offers_made(db, [*made, *((i, olena, "expired", NINE, NINE + 25_000) for i in ids[:10])])
    await presences(db, [(olena, NINE - HOUR, "online")])
    material = await replay.gather(db, PERIOD, now=NOW, at_most=100)
    (row,) = material.agents
    assert (row.accept, row.declines, row.answer_ms) == (0.75, 0.0, 4_000)
    answer = whatif.compare(material, SAME, [1])
    assert answer["total"]["as_it_was"]["wait_p50_s"] == pytest.approx(4.0)


async def test_without_presence_the_calendars_stand_in_and_it_is_said(db: Database) -> None:
    team = await a_team(db)
    olena = await an_agent(db, "Olena", team, online=False)
    await items_handled(db, [(NINE, 0, 60_000)], team_id=team, agent_id=olena)
    material = await replay.gather(db, PERIOD, now=NOW, at_most=100)
    assert "presence_unknown" in {n["code"] for n in material.notes}
    assert whatif.compare(material, SAME, [1])["total"]["as_it_was"]["answered"] == 1


async def test_promises_are_judged_alike_in_all_columns(db: Database) -> None:
    """Two requests with a deadline a minute after they came; the second was got at ten minutes."""
    team = await a_team(db)
    olena = await an_agent(db, "Olena", team, online=False)
    for start, wait in ((NINE, 0), (NINE + HOUR, 10 * MINUTE)):
        await items_handled(db, [(start, wait, 60_000)], team_id=team, agent_id=olena, due_at=start + MINUTE)
    await presences(db, [(olena, NINE - HOUR, "online"), (olena, NINE + HOUR // 2, "offline"),
                         (olena, NINE + HOUR + 10 * MINUTE, "online")])  # fmt: skip
    material = await replay.gather(db, PERIOD, now=NOW, at_most=100)
    total = whatif.compare(material, SAME, [1])["total"]
    for side in ("recorded", "as_it_was"):
        assert (total[side]["promised"], total[side]["breached"]) == (2, 1), side
    there = Change.parse({"agents": {"add": [{"teams": [str(team)], "works": "always"}]}})
    assert whatif.compare(material, there, [1])["total"]["changed"]["breached"] == 0


async def test_a_team_that_is_gone_is_left_out_and_it_is_said(db: Database) -> None:
    team, gone = await a_team(db), await a_team(db, "Gone")
    olena = await an_agent(db, "Olena", team, online=False)
    await items_handled(db, [(NINE, 0, 60_000)], team_id=team, agent_id=olena)
    await items_handled(db, [(NINE + 1, 0, 60_000)], team_id=gone, agent_id=olena)
    async with db.transaction() as uow:
        await uow.execute(team_table.delete().where(team_table.c.id == gone))
    material = await replay.gather(db, PERIOD, now=NOW, at_most=100)
    assert material.counted == 1
    assert "requests_left_out" in {n["code"] for n in material.notes}


async def test_rules_and_hours_of_then_are_used_and_it_is_said(db: Database, clock: MovableClock) -> None:
    """A team that learned from that day: its baseline is how it was, and the question may be «with today's rules?»."""
    clock.set(NINE - HOUR)
    async with db.transaction() as uow:
        hours = (await edit.create_calendar(uow, name="Office", spec={"tz": "UTC", "week": EVERY_DAY}))["id"]
    team = await a_team(db, settings={"channels": {"voice": {"wrapup_s": 30}}}, calendar_id=hours)
    agent = await an_agent(db, "Olena", team)
    await items_handled(db, [(NINE + MINUTE, 1000, 60_000)], team_id=team, agent_id=agent)

    async def gathered() -> replay.Material:
        return await replay.gather(db, PERIOD, now=NOW, at_most=100)

    def played(material: replay.Material, change: Any) -> ScenarioTeam:
        (one,) = replay.scenario(material, (), Change.parse(change), name="x").teams
        return one

    assert [n["code"] for n in (await gathered()).notes] == ["people_as_of_now"]
    clock.set(PERIOD.end + HOUR)
    async with db.transaction() as uow:
        await configuration.edit(uow, team, {"channels": {"voice": {"wrapup_s": 90}}}, actor="agent:1")
        await edit.change_calendar(uow, hours, spec={"tz": "UTC", "week": {"sun": [["09:00", "10:00"]]}})
    after = await gathered()
    assert after.notes[1] == {"code": "rules_of_then", "params": {"team": "Support", "then": 1, "now": 2}}
    assert played(after, {}).settings.channel("voice").wrapup_ms == 30_000
    office = played(after, {}).calendar
    assert office is not None and office.is_open(NINE)
    today = played(after, {"teams": {"Support": "today"}})
    assert today.settings.channel("voice").wrapup_ms == 90_000
    patched = played(after, {"teams": {"Support": {"channels": {"voice": {"max": 2}}}}})
    assert (patched.settings.channel("voice").wrapup_ms, patched.settings.channel("voice").maximum) == (
        30_000,
        2,
    )
    with pytest.raises(ChangeError, match=r"teams\.Support: must be an object of settings, or .today."):
        Change.parse({"teams": {"Support": "yesterday"}})

    clock.set(NINE + HOUR)
    async with db.transaction() as uow:
        await uow.execute(
            routing_version.update().where(routing_version.c.version == 2).values(created_at=uow.now)
        )
    within = (await gathered()).notes[1]
    assert within == {"code": "rules_edited", "params": {"team": "Support", "n": 1, "then": 1}}
    told = [n["text"] for n in words.spoken([within, after.notes[1]], "uk")]
    assert told[0].startswith("Support: правила в цей час змінювали (1)")
    assert "версію 1; нині діє версія 2" in told[1]
