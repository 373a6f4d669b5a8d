"""The scenarios of the vectors file give the same instances through the database as in the pure machine."""

import json
from pathlib import Path
from typing import Any

import pytest

from crm_core.db.engine import Database
from switchboard.vector_storage import check_stored

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "vectors.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("sweeping", [False, True], ids=["no sweeper", "sweeper awake"])
async def test_all_scenarios_on_the_database(db: Database, clock: Any, sweeping: bool) -> None:
    results = await check_stored(db, clock, VECTORS, sweepings=(sweeping,))
    assert [failure for result in results for failure in result.failures] == []
    assert {r.section: r.total for r in results} == {
        "calendars": 35,
        "business_time": 104,
        "sla_scenarios": 23,
    }
