"""The planning commands as an operator runs them, on both databases."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from crm_core.clock import SystemClock, to_iso
from crm_core.db.engine import Database
from crm_core.infra.local import LocalHints
from switchboard.cli import main
from tests.routing.planning.record import (
    DAY,
    HOUR,
    MINUTE,
    a_calendar,
    a_team,
    an_agent,
    items_handled,
    presences,
)


@pytest.fixture
def start(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A configured installation with an hour of chats on the day before yesterday; gives the hour's beginning."""
    monkeypatch.setenv("SWITCHBOARD_DATABASE_URL", database_url)
    monkeypatch.setenv("SWITCHBOARD_DATA_DIR", str(tmp_path))
    nine = SystemClock().now_ms() // DAY * DAY - 2 * DAY + 6 * HOUR

    async def fill() -> None:
        db = Database(database_url, clock=SystemClock(), hints=LocalHints(), pool_size=2, synchronous="OFF")
        await db.start()
        round_the_clock = {d: [["00:00", "24:00"]] for d in ("mon", "tue", "wed", "thu", "fri", "sat", "sun")}
        team = await a_team(db, calendar_id=await a_calendar(db, week=round_the_clock))
        olena = await an_agent(db, "Olena", team, online=False)
        told = [(nine + n * MINUTE, 30_000, 10 * MINUTE) for n in range(60)]
        await items_handled(db, told, team_id=team, agent_id=olena)
        await presences(db, [(olena, nine - HOUR, "online"), (olena, nine + 4 * HOUR, "offline")])
        await db.close()

    asyncio.run(fill())
    yield nine


def said(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def a_change(tmp_path: Path, change: Any) -> str:
    path = tmp_path / "change.json"
    path.write_text(change if isinstance(change, str) else json.dumps(change))
    return str(path)


def test_the_forecast_is_a_table_and_json(start: int) -> None:
    table = said("forecast", "--team", "support", "--hours", "2", "--target", "90/30")
    assert table.exit_code == 0, table.output
    assert "Support (Europe/Kyiv): 0 online now" in table.output
    assert "handle time 600 s, 4 at once per agent" in table.output
    assert "90 % in 30 s" in table.output
    data = json.loads(said("forecast", "--json").stdout)
    assert data["history"]["requests"] == 60
    assert data["at_risk"]["items"] == []


def test_a_replay_shows_three_columns(start: int, tmp_path: Path) -> None:
    change = a_change(tmp_path, {"agents": {"add": [{"teams": ["Support"], "count": 3, "name": "Help"}]}})
    period = ("--from", to_iso(start), "--to", to_iso(start + HOUR), "--change", change, "--seeds", "2")
    table = said("simulate", "replay", *period)
    assert table.exit_code == 0, table.output
    assert "recorded  as it was  changed  difference" in table.output
    assert "Help 3" in table.output
    data = json.loads(said("simulate", "replay", *period, "--json").stdout)
    assert data["total"]["recorded"]["offered"] == 60
    assert data["total"]["difference"]["wait_p90_s"] < 0


def test_local_times_are_the_teams(start: int, tmp_path: Path) -> None:
    """The hour as the clock in Kyiv shows it finds the same requests."""
    from datetime import datetime
    from zoneinfo import ZoneInfo

    local = [
        datetime.fromtimestamp(t / 1000, ZoneInfo("Europe/Kyiv")).strftime("%Y-%m-%dT%H:%M")
        for t in (start, start + HOUR)
    ]
    change = a_change(tmp_path, {})
    found = said(
        "simulate",
        "replay",
        "--from",
        local[0],
        "--to",
        local[1],
        "--change",
        change,
        "--json",
        "--seeds",
        "1",
    )
    assert json.loads(found.stdout)["requests"] == 60


@pytest.mark.parametrize(
    ("change", "extra", "told"),
    [
        ("{", (), "no JSON"),
        ({"teams": {"Nowhere": {}}}, (), "teams.Nowhere: no such team; there are Support"),
        ({}, ("--team", "nowhere"), "no team 'nowhere'; there are: Support"),
        ({}, ("--from", "yesterday"), "'yesterday' is no date or time"),
        ({}, ("--to", "1999-01-01"), "the period must end after it begins"),
    ],
)
def test_mistakes_are_told_in_one_line(
    start: int, tmp_path: Path, change: Any, extra: tuple[str, ...], told: str
) -> None:
    arguments = (
        "--from",
        to_iso(start),
        "--to",
        to_iso(start + HOUR),
        "--change",
        a_change(tmp_path, change),
    )
    found = said("simulate", "replay", *arguments, *extra)
    assert found.exit_code == 1
    assert told in found.output
    assert "Traceback" not in found.output


def test_a_wrong_target_is_told(start: int) -> None:
    found = said("forecast", "--target", "many")
    assert (found.exit_code, "write percent/seconds" in found.output) == (1, True)
