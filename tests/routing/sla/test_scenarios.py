"""The scenarios of the vectors file give the same instances through the database as in the pure machine."""

import json
from pathlib import Path
from typing import Any

import pytest

from crm_core.db.engine import Database
from tests.routing.sla.scenarios import check_on_database

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "vectors.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("sweeping", [False, True], ids=["no sweeper", "sweeper awake"])
async def test_all_scenarios_on_the_database(db: Database, clock: Any, sweeping: bool) -> None:
    assert len(VECTORS["sla_scenarios"]) >= 23
    assert await check_on_database(db, clock, VECTORS, sweeping=sweeping) == {}
