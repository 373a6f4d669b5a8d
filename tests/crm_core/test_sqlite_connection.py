"""SQLite on the event loop: the loop is never held up by another process' writer, and a cancelled caller leaves a
connection that the next one can use."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from crm_core.clock import SystemClock
from crm_core.db import sqlite_connection
from crm_core.db.engine import Database
from crm_core.infra.local import LocalHints


@pytest.fixture
async def plain(tmp_path: Path) -> AsyncIterator[Database]:
    db = Database(f"sqlite+aiosqlite:///{tmp_path}/plain.db", clock=SystemClock(), hints=LocalHints())
    async with db.transaction() as uow:
        await uow.execute(text("CREATE TABLE kept (n INTEGER PRIMARY KEY)"))
    yield db
    await db.close()


async def kept(db: Database) -> list[int]:
    async with db.reading() as conn:
        return list((await conn.execute(text("SELECT n FROM kept ORDER BY n"))).scalars())


async def insert(db: Database, n: int) -> None:
    async with db.transaction() as uow:
        await uow.execute(text(f"INSERT INTO kept VALUES ({n})"))


def other_process(db: Database) -> sqlite3.Connection:
    return sqlite3.connect(db.url.partition(":///")[2], isolation_level=None, timeout=0)


async def test_the_loop_runs_on_while_another_process_writes(plain: Database) -> None:
    other = other_process(plain)
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.create_task(insert(plain, 1))
    for _ in range(50):
        # Held up by the writer's wait, the loop would not come back here before the other one has committed.
        await asyncio.sleep(0)
    assert not waiting.done()
    assert await kept(plain) == []
    other.execute("COMMIT")
    await waiting
    assert await kept(plain) == [1]
    other.close()


async def test_patience_ends(plain: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_connection, "WRITER_PATIENCE_S", 0.01)
    other = other_process(plain)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Exception, match="database is locked"):
        await insert(plain, 1)
    other.execute("ROLLBACK")
    other.close()
    await insert(plain, 2)
    assert await kept(plain) == [2]


async def test_a_caller_cancelled_while_a_thread_works_spoils_nothing(plain: Database) -> None:
    began, go_on = threading.Event(), threading.Event()

    async def slow_reader() -> None:
        async with plain.reading() as conn:
            raw = (await conn.get_raw_connection()).driver_connection
            assert isinstance(raw, sqlite_connection.Connection)

            def hold() -> int:
                began.set()
                go_on.wait(10)
                return 1

            raw.raw.create_function("hold", 0, hold)
            await conn.execute(text("SELECT hold()"))

    reader = asyncio.create_task(slow_reader())
    await asyncio.to_thread(began.wait, 10)
    reader.cancel()
    asyncio.get_running_loop().call_later(0.05, go_on.set)
    with pytest.raises(asyncio.CancelledError):
        await reader
    for n in range(30):
        await insert(plain, n)
        assert len(await kept(plain)) == n + 1


async def test_a_commit_whose_caller_was_cancelled_is_over_before_the_next_transaction(
    plain: Database,
) -> None:
    for n in range(30):
        task = asyncio.create_task(insert(plain, n))
        for _ in range(n):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await insert(plain, 1000 + n)
    assert [n for n in await kept(plain) if n >= 1000] == [1000 + n for n in range(30)]


async def test_an_error_rolls_back_and_the_next_transaction_is_fresh(plain: Database) -> None:
    await insert(plain, 1)
    with pytest.raises(Exception, match="UNIQUE"):
        async with plain.transaction() as uow:
            await uow.execute(text("INSERT INTO kept VALUES (2)"))
            await uow.execute(text("INSERT INTO kept VALUES (1)"))
    assert await kept(plain) == [1]
    await insert(plain, 3)
    assert await kept(plain) == [1, 3]
