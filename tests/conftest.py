"""Fixtures that every test may use: a real, migrated database of each kind, a clock that can be moved.

`db` runs a test on SQLite and on Postgres. Each test gets a database of its own (a copy of a migrated template),
because much of what is tested is what happens at commit.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from crm_core.clock import SystemClock
from crm_core.db.engine import Database
from crm_core.infra.local import LocalHints
from switchboard.migrate import upgrade
from tests.services.postgres import PostgresServer
from tests.services.redis import RedisServer

# They assert on behalf of tests; without this a failure there says nothing but AssertionError.
pytest.register_assert_rewrite("tests.e2e", "tests.routing")

BACKENDS = ("sqlite", "postgresql")


class MovableClock:
    """Real time plus an offset that the test sets; `stop()` freezes it."""

    def __init__(self) -> None:
        self._system = SystemClock()
        self._offset = 0
        self._frozen: int | None = None

    def now_ms(self) -> int:
        return self._frozen if self._frozen is not None else self._system.now_ms() + self._offset

    def set(self, ms: int) -> None:
        """Freeze at an instant."""
        self._frozen = ms

    def advance(self, ms: int) -> None:
        if self._frozen is not None:
            self._frozen += ms
        else:
            self._offset += ms


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite file to copy."""
    path = tmp_path_factory.mktemp("template") / "template.db"
    asyncio.run(upgrade(f"sqlite+aiosqlite:///{path}"))
    return path


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer(shared=True) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer) -> str:
    """The name of a migrated, empty database to copy."""
    return postgres.ensure_template("switchboard", lambda url: asyncio.run(upgrade(url)))


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def database_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A migrated, empty database for one test."""
    if backend == "sqlite":
        path = tmp_path / "switchboard.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite+aiosqlite:///{path}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.create_database(template=request.getfixturevalue("postgres_template"))
    yield url
    server.drop_database(url)


@pytest.fixture
async def db(database_url: str, clock: MovableClock) -> AsyncIterator[Database]:
    database = Database(database_url, clock=clock, hints=LocalHints(), pool_size=8, synchronous="OFF")
    await database.start()
    yield database
    await database.close()
