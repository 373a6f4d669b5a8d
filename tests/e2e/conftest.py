"""Both forms of the product, each on a fresh migrated database."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.services.postgres import PostgresServer
from tests.services.redis import RedisServer

FORMS = ("embedded", "scaled")


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    """embedded: one process on SQLite. scaled: two web and two worker processes on Postgres and Redis."""
    return str(request.param)


@pytest.fixture
def redis_url(form: str, request: pytest.FixtureRequest) -> Callable[[], str | None]:
    """The Redis of the form, emptied at each call: nothing of an earlier run may help or harm."""
    if form == "embedded":
        return lambda: None
    server: RedisServer = request.getfixturevalue("redis")

    def fresh() -> str:
        server.flush()
        return server.url

    return fresh


@pytest.fixture
def new_database(form: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Makes a migrated, empty database of the form and gives its URL."""
    if form == "embedded":
        template: Path = request.getfixturevalue("sqlite_template")

        def copy(name: str) -> str:
            path = tmp_path / f"{name}.db"
            shutil.copy(template, path)
            return f"sqlite+aiosqlite:///{path}"

        yield copy
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    made: list[str] = []

    def create(_name: str) -> str:
        made.append(server.create_database(template=request.getfixturevalue("postgres_template")))
        return made[-1]

    yield create
    for url in made:
        server.drop_database(url)
