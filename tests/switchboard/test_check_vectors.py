import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest

from switchboard.check_vectors import check, render

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


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (json.dumps(VECTORS), 0, "sla_scenarios 23/23"),
        ("[]", 2, "object"),
        ("{", 2, "Expecting"),
        (None, 2, "No such file"),
    ],
)
def test_command(tmp_path: Path, content: str | None, code: int, says: str) -> None:
    file = tmp_path / "vectors.json"
    if content is not None:
        file.write_text(content)
    done = subprocess.run(
        [sys.executable, "-m", "switchboard.check_vectors", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert says in done.stdout + done.stderr
