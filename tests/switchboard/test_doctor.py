"""The doctor fails for what keeps the program from its work, not for what strangers can send."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from crm_core import inbound_rows
from crm_core.db.engine import Database
from crm_core.schema import inbox


def doctor(database_url: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "switchboard.cli", "doctor"],
        check=False,
        capture_output=True,
        text=True,
        env={
            "SWITCHBOARD_DATABASE_URL": database_url,
            "SWITCHBOARD_DATA_DIR": str(directory),
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        },
    )


async def test_a_quarantined_request_is_shown_and_is_no_failure(
    db: Database, database_url: str, tmp_path: Path
) -> None:
    async with db.transaction() as uow:
        values: dict[str, Any] = {
            "key": "k",
            "channel": "form",
            "name": "Form",
            "secret": "s",
            "config": {},
            "address": None,
            "team_id": None,
            "default_kind": "lead",
            "flow_key": None,
            "region": "UA",
            "language": "uk",
            "priority": "normal",
            "enabled": True,
            "created_at": uow.now,
        }
        inbox_id = await uow.insert(inbox, values)
        await inbound_rows.quarantine_request(
            uow, inbox_id, body=b"x", content_type="text/plain", error="not proven"
        )
    said = doctor(database_url, tmp_path)
    assert "look  1 quarantined inbound rows" in said.stdout
    failures = [line for line in said.stdout.splitlines() if line.startswith("FAIL")]
    assert all("the desk is not built" in line for line in failures), said.stdout
    assert said.returncode == bool(failures)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_database_that_is_not_there_is_a_failure(database_url: str, tmp_path: Path) -> None:
    said = doctor("postgresql+asyncpg://x:y@127.0.0.1:1/z", tmp_path)
    assert said.returncode == 1 and "the database does not answer" in said.stdout
