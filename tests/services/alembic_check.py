"""`python -m tests.services.alembic_check`: do the migrations make exactly what the models say, on both databases?

On a new SQLite file and a new PostgreSQL database: `alembic upgrade head`, then `alembic check` (exit code 1 when
models and migrations differ). Also fails when the history has more than one head. Each step is a process of its
own, as an operator runs it, with the database in `SWITCHBOARD_DATABASE_URL`.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.services.postgres import PostgresServer

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "switchboard" / "migrations" / "alembic.ini"


def alembic(config: Path, url: str, *arguments: str) -> str:
    """Run alembic with this configuration on a database; return what it printed.

    Raises:
        SystemExit: it failed; its output has been shown.
    """
    result = subprocess.run(
        [sys.executable, "-m", "alembic", "-c", str(config), *arguments],
        check=False,
        cwd=ROOT,
        env=os.environ | {"SWITCHBOARD_DATABASE_URL": url, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if result.returncode != 0:
        print(result.stdout, result.stderr, sep="\n")
        raise SystemExit(f"alembic {' '.join(arguments)} failed on {url.split(':', 1)[0]}")
    return result.stdout


def check(config: Path, url: str) -> None:
    """Upgrade an empty database to the head and compare it with the models.

    Raises:
        SystemExit: they differ, or a migration failed.
    """
    heads = alembic(config, url, "heads").split("\n")
    if (count := sum("(head)" in line for line in heads)) != 1:
        raise SystemExit(f"the migration history has {count} heads, it must have one")
    alembic(config, url, "upgrade", "head")
    print(alembic(config, url, "check").strip(), f"[{url.split(':', 1)[0]}]")


def main() -> None:
    if not CONFIG.exists():
        raise SystemExit(f"{CONFIG.relative_to(ROOT)} does not exist")
    with tempfile.TemporaryDirectory(prefix="sbt-migrations-") as folder:
        check(CONFIG, f"sqlite+aiosqlite:///{folder}/check.db")
    with PostgresServer() as server:
        check(CONFIG, server.create_database())


if __name__ == "__main__":
    main()
