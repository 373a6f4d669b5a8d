import asyncio
import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from crm_core.db.engine import Database
from switchboard.check_vectors import both, check, render
from switchboard.vector_storage import check_stored

FILE = Path(__file__).parents[1] / "vectors" / "vectors.json"
VECTORS = json.loads(FILE.read_text())


def test_every_vector_passes() -> None:
    results = check(VECTORS)
    assert [failure for result in results for failure in result.failures] == []
    totals = {result.section: result.total for result in results}
    assert totals == {
        "calendars": 35,
        "business_time": 104,
        "erlang": 39,
        "sla_scenarios": 23,
        "reporting": 10,
    }


def falsified() -> dict:
    wrong = copy.deepcopy(VECTORS)
    by_id = {
        item["id"]: item for part in ("business_time", "erlang", "sla_scenarios") for item in wrong[part]
    }
    by_id["D003"]["due_last"] = "2025-06-03T06:00:01Z"
    by_id["D004"]["calendar"] = "nowhere"
    by_id["E014"]["elapsed_seconds"] += 0.001
    by_id["O001"]["open"] = True
    by_id["EC02"]["p_wait"] *= 1 + 1e-8
    by_id["ES02"]["servers_needed"] += 1
    by_id["S03"]["expect"][0]["instances"][0]["breached_at"] = None
    by_id["S10"]["expect"][0]["instances"].pop()
    by_id["S18"]["expect"][0]["instances"].append({"metric": "periodic_update_time", "instance": 1})
    wrong["reporting"]["shrinkage"]["scheduled"] = 19
    del wrong["calendars"]["utc_never"]["tz"]
    return wrong


def test_a_false_vector_is_reported_with_what_was_expected_and_found() -> None:
    failures = {failure.id: failure for result in check(falsified()) for failure in result.failures}
    assert set(failures) == {
        *("D003", "D004", "E014", "O001", "EC02", "ES02", "S03", "S10", "S18", "shrinkage"),
        *("utc_never", "D054"),
    }
    assert failures["D003"].expected["due_last"] == "2025-06-03T06:00:01Z"
    assert failures["D003"].got["due_last"] == "2025-06-03T06:00:00Z"
    assert "KeyError" in failures["D004"].got
    report = render(check(falsified()))
    assert "business_time 99/104" in report
    assert "D003" in report


def test_damaged_reporting_fails_alone() -> None:
    vectors = json.loads(json.dumps({"reporting": VECTORS["reporting"]}))
    del vectors["reporting"]["occupancy"]["occupancy_pct"]
    vectors["reporting"]["asa"] = 5
    (section,) = [result for result in check(vectors) if result.section == "reporting"]
    assert {failure.id for failure in section.failures} == {"occupancy", "asa"}
    assert section.passed == section.total - 2


def test_a_section_with_a_misspelt_name_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    file = tmp_path / "vectors.json"
    file.write_text(
        json.dumps({"calendars": {}, "erlangs": VECTORS["erlang"], "erlang": VECTORS["erlang"][:1]})
    )
    done = run(file, SWITCHBOARD_DATA_DIR=str(tmp_path))
    assert done.returncode == 0
    assert "erlangs" in done.stderr


def run(file: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "switchboard.cli", "check-vectors", str(file)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[]", "object"),
        ("{", "Expecting"),
        (None, "does not exist"),
        ("{}", "holds no vectors"),
        ('{"business_times": [{}]}', "holds no vectors"),
        ('{"business_time": {}}', "business_time: must be a list"),
        ('{"sla_scenarios": "x"}', "sla_scenarios: must be a list"),
        ('{"reporting": []}', "reporting: must be an object"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, content: str | None, says: str) -> None:
    file = tmp_path / "vectors.json"
    if content is not None:
        file.write_text(content)
    done = run(file, SWITCHBOARD_DATA_DIR=str(tmp_path))
    assert done.returncode == 2
    assert says in done.stderr


def test_the_command_on_the_configured_database_leaves_no_trace(database_url: str, tmp_path: Path) -> None:
    """Good vectors pass, false ones fail with what was expected and found; the installation's own tables stay empty."""
    file = tmp_path / "vectors.json"
    environment = {"SWITCHBOARD_DATABASE_URL": database_url, "SWITCHBOARD_DATA_DIR": str(tmp_path / "data")}
    file.write_text(json.dumps(VECTORS))
    done = run(file, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        *(
            "calendars 35/35",
            "business_time 104/104",
            "erlang 39/39",
            "sla_scenarios 23/23",
            "reporting 10/10",
        )
    ]
    file.write_text(json.dumps(falsified()))
    done = run(file, **environment)
    assert done.returncode == 1
    assert "sla_scenarios 20/23" in done.stdout
    assert "business_time 99/104" in done.stdout
    assert {"S03", "S10", "S18", "D003", "utc_never"} <= {line.strip() for line in done.stdout.splitlines()}
    assert asyncio.run(_left(database_url)) == (0, 0)


async def _left(url: str) -> tuple[int, int]:
    """Tickets in the installation, and schemas that were left behind."""
    engine = create_async_engine(url)
    try:
        async with engine.connect() as conn:
            tickets = (await conn.exec_driver_sql("select count(*) from inquiry")).scalar_one()
            schemas = 0
            if engine.dialect.name == "postgresql":
                query = "select count(*) from pg_namespace where nspname like 'switchboard_vectors_%%'"
                schemas = (await conn.exec_driver_sql(query)).scalar_one()
            return tickets, schemas
    finally:
        await engine.dispose()


async def test_storage_that_answers_wrongly_is_found(db: Database, clock: Any) -> None:
    """What only storage gets wrong fails the vector, though the pure code has it right."""
    vectors = {**VECTORS, "sla_scenarios": [s for s in VECTORS["sla_scenarios"] if s["id"] == "S03"]}
    edited = copy.deepcopy(vectors)
    edited["sla_scenarios"][0]["events"][1]["at"] = "2025-06-02T08:02:00Z"
    stored = await check_stored(db, clock, edited, sweepings=(False,))
    [result] = [r for r in both(check(vectors), stored) if r.section == "sla_scenarios"]
    assert (result.passed, result.total) == (0, 1)
    assert set(result.failures[0].got) == {"stored"}
