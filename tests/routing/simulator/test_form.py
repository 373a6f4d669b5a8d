"""The JSON form of a scenario: what it means, and that what is wrong is named by its place."""

import copy
import json

import pytest
from click.testing import CliRunner

from routing.simulator import Arrival, run
from routing.simulator.form import ScenarioError, parse

GOOD = {
    "name": "two desks",
    "for_s": 3600,
    "teams": [
        {
            "id": 1, "name": "Sales", "settings": {"channels": {"voice": {"mode": "assign", "wrapup_s": 0}}},
            "targets": {"voice": {"within_s": 20, "percent": 90}},
        }
    ],
    "agents": [
        {"id": 1, "teams": [1], "skills": {"lang:uk": 4}, "capacity": {"chat": 2}, "shifts": [[0, 1800]]},
        {"id": 2, "teams": [1], "accept": 0.9, "answer": {"law": "exponential", "mean_s": 4}},
    ],
    "arrivals": [
        {"at_s": 10, "team": 1, "channel": "voice", "handle_s": 100, "ref": 7, "manager": 2, "patience_s": 60},
        {"at_s": 11, "team": 1, "channel": "voice", "handle_s": 100, "requirements": {"required": {"lang:uk": 3}}},
        {"at_s": 12, "team": 1, "channel": "voice", "handle_s": 50, "due_s": 30},
    ],
    "streams": [
        {
            "name": "mail", "team": 1, "channel": "async", "per_hour": 10, "handle": 300,
            "mix": [{"share": 1, "label": "a"}, {"share": 3, "label": "b", "priority": "high", "due_s": 3600}],
        }
    ],
}  # fmt: skip


def test_a_scenario_is_what_its_form_says() -> None:
    scenario = parse(json.loads(json.dumps(GOOD)))
    assert scenario.ends_at == 3_600_000
    assert scenario.arrivals[0] == Arrival(
        at=10_000, team_id=1, channel="voice", handle_ms=100_000, ref=7, manager_id=2, patience_ms=60_000
    )
    assert scenario.arrivals[2].due_at == 42_000
    assert scenario.agents[0].shifts == ((0, 1_800_000),)
    result = run(scenario, 4, trace=True)
    calls = [s for s in result.trace if s.channel == "voice"]
    # The first is its manager's, the second needs the other's language, the third waits for who is free first.
    assert [(s.agent_id, s.answered_at) for s in sorted(calls, key=lambda s: s.at)] == [
        (2, 10_000), (1, 11_000), (2, 110_000),
    ]  # fmt: skip
    late = result.measures(channel="voice")
    assert (late.promised, late.breached) == (1, 1)


def changed(path: str, value: object) -> dict:
    data = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    node = data
    for key in parents:
        node = node[int(key)] if isinstance(node, list) else node[key]
    if isinstance(node, list):
        node[int(last)] = value
    else:
        node[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("agents.1.accept", 1.5),
        ("agents.1.accept", float("nan")),
        ("agents.1.id", 1),
        ("agents.0.teams.0", 9),
        ("agents.0.shifts.0", [1800, 1800]),
        ("agents.0.skills.lang:uk", 6),
        ("agents.0.shoes", 1),
        ("arrivals.2.at_s", 3),
        ("arrivals.0.channel", "pigeon"),
        ("arrivals.0.handle_s", None),
        ("arrivals.0.handle_s", -1),
        ("arrivals.1.requirements.hard", ["lang:en"]),
        ("streams.0.mix.0.share", "x"),
        ("streams.0.mix", []),
        ("streams.0.handle.law", "normal"),
        ("teams.0.settings.channels.voice.timeout_s", 0),
        ("teams.0.targets.telex", {}),
        ("teams", {}),
        ("from", "yesterday"),
        ("attention", "none"),
        ("max_arrivals", 10**30),
    ],
)
def test_a_wrong_value_is_named_by_its_place(path, value) -> None:
    data = changed("streams.0.handle", {"mean_s": 1, "law": "x"}) if path == "streams.0.handle.law" else GOOD
    data = copy.deepcopy(data)
    with pytest.raises(ScenarioError) as caught:
        parse(changed(path, value) if data == GOOD else data)
    named = caught.value.path
    # The place itself, or the list's entry that the value makes wrong.
    assert named.startswith(path.rsplit(".", 1)[0] if named != path else path), named


@pytest.mark.parametrize("data", [None, [], 3, "x", {"teams": [3]}, {"teams": [{"id": 1}]}])
def test_what_is_no_scenario_at_all_is_refused(data) -> None:
    with pytest.raises(ScenarioError):
        parse(data)


def test_a_stream_without_an_end_is_refused() -> None:
    data = copy.deepcopy(GOOD)
    del data["for_s"]
    with pytest.raises(ScenarioError, match="for_s: streams have no end"):
        parse(data)


def test_the_command_plays_a_file_and_names_what_is_wrong(tmp_path) -> None:
    from switchboard.cli import main

    file = tmp_path / "scenario.json"
    file.write_text(json.dumps(GOOD))
    shown = CliRunner().invoke(main, ["simulate", "run", str(file), "--seed", "4", "--json"])
    assert json.loads(shown.output)["total"]["answered"] >= 3
    assert "Sales, voice" in CliRunner().invoke(main, ["simulate", "run", str(file), "--seed", "4"]).output
    file.write_text(json.dumps(changed("agents.1.accept", 2)))
    refused = CliRunner().invoke(main, ["simulate", "run", str(file)])
    assert refused.exit_code == 1
    assert "agents.1.accept: 2 is no number from 0 to 1" in refused.output
    file.write_text("{")
    assert "no JSON" in CliRunner().invoke(main, ["simulate", "run", str(file)]).output


def test_the_commands_print_tables_and_data() -> None:
    from switchboard.cli import main

    small = ["--seed", "3", "--processes", "1"]
    rows = CliRunner().invoke(
        main,
        [
            "simulate",
            "degenerate",
            "--rows",
            "D3",
            "--arrivals",
            "1500",
            "--replications",
            "8",
            "--json",
            *small,
        ],
    )
    (row,) = json.loads(rows.output)["rows"]
    assert [f["figure"] for f in row["figures"]] == ["blocking", "occupancy", "queue"]
    unknown = CliRunner().invoke(main, ["simulate", "degenerate", "--rows", "D9"])
    assert unknown.exit_code == 2
    assert "no row 'D9'" in unknown.output
    checked = CliRunner().invoke(main, ["simulate", "invariants", "--seeds", "20", "--json", *small])
    assert checked.exit_code == 0, checked.output
    assert json.loads(checked.output)["wrong"] == []
