"""SQLite under SQLAlchemy's async engine, without a trip to another thread for each step of each statement.

The usual driver makes four such trips a statement (cursor, execute, fetch, close), and on a busy machine they, not
SQLite, are what a transaction costs. Here a writer's statements, which take microseconds, run on the event loop
itself; only the commit, which waits for the disk, goes to a thread. A reader's statements, which a search may make
long, go to a thread in one trip. Speaks the interface that SQLAlchemy's aiosqlite dialect drives.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self, TypeVar

T = TypeVar("T")

#: how long a writer waits for one of another process (seconds), and between its looks
WRITER_PATIENCE_S = 10.0
_LOOK_S = 0.002
#: compiled statements a connection keeps
_CACHED_STATEMENTS = 512


def connector(
    path: str, *, writes: bool, threads: ThreadPoolExecutor
) -> Callable[[], Coroutine[Any, Any, "Connection"]]:
    """What `create_async_engine(async_creator=…)` wants."""

    async def connect() -> Connection:
        def go() -> sqlite3.Connection:
            return sqlite3.connect(
                path,
                timeout=WRITER_PATIENCE_S,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=_CACHED_STATEMENTS,
            )

        raw = await asyncio.get_running_loop().run_in_executor(threads, go)
        return Connection(raw, writes=writes, threads=threads)

    return connect


class Connection:
    """One connection of one event loop. SQLAlchemy never uses it for two things at once."""

    def __init__(self, raw: sqlite3.Connection, *, writes: bool, threads: ThreadPoolExecutor) -> None:
        self._connection: sqlite3.Connection | None = raw
        self.writes = writes
        self._threads = threads
        #: what a thread still does for a caller that was cancelled meanwhile
        self._left_behind: asyncio.Future[Any] | None = None

    @property
    def raw(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.ProgrammingError("connection closed")
        return self._connection

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run it in a thread. If the caller is cancelled, the connection's next user waits for it."""
        await self.settled()
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        self._left_behind = future
        try:
            return await asyncio.shield(future)
        finally:
            if future.done():
                self._left_behind = None

    async def settled(self) -> None:
        """Wait until no thread has the connection."""
        while self._left_behind is not None:
            future, self._left_behind = self._left_behind, None
            # An error was told to whoever asked, or nobody waits for the answer any more.
            with contextlib.suppress(Exception):
                try:
                    await asyncio.shield(future)
                except asyncio.CancelledError:
                    self._left_behind = future
                    raise

    def cursor(self) -> "Cursor":
        return Cursor(self)

    async def run(self, statement: str, values: Any, *, many: bool = False) -> tuple[list[Any], int]:
        """Run one statement (`many`: for each of these values) without a cursor object of SQLAlchemy's. Returns its
        rows and how many rows it touched.
        """

        def go() -> tuple[list[Any], int]:
            if many:
                return [], self.raw.executemany(statement, values).rowcount
            cursor = self.raw.execute(statement, values)
            return (cursor.fetchall() if cursor.description is not None else []), cursor.rowcount

        if self.writes:
            await self.settled()
            return go()
        return await self.in_thread(go)

    async def commit(self) -> None:
        if self.raw.in_transaction:
            await self.in_thread(self.raw.commit)

    async def rollback(self) -> None:
        await self.settled()
        self.raw.rollback()

    async def create_function(
        self, name: str, arguments: int, function: Callable[..., Any], *, deterministic: bool = False
    ) -> None:
        self.raw.create_function(name, arguments, function, deterministic=deterministic)

    async def close(self) -> None:
        if self._connection is None:
            return
        await self.settled()
        raw, self._connection = self.raw, None
        # The last connection of a file checkpoints it, which takes as long as it takes.
        await asyncio.get_running_loop().run_in_executor(self._threads, raw.close)

    def stop(self) -> None:
        """Close without waiting: what a thread does with it is broken off."""
        raw, self._connection = self._connection, None
        if raw is None:
            return
        raw.interrupt()
        with contextlib.suppress(sqlite3.Error):
            raw.close()


class Cursor:
    """Holds all rows as soon as it has executed."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._raw = connection.raw.cursor()
        self._rows: list[Any] = []
        self.arraysize = 1

    async def __aenter__(self) -> Self:
        return self

    @property
    def description(self) -> Any:
        return self._raw.description

    @property
    def rowcount(self) -> int:
        return self._raw.rowcount

    @property
    def lastrowid(self) -> int | None:
        return self._raw.lastrowid

    async def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Self:
        if statement == "BEGIN IMMEDIATE":
            await self._begin(statement)
        elif self._connection.writes or statement == "BEGIN":
            await self._connection.settled()
            self._run(statement, parameters)
        else:
            await self._connection.in_thread(lambda: self._run(statement, parameters))
        return self

    def _run(self, statement: str, parameters: Sequence[Any]) -> None:
        self._raw.execute(statement, parameters)
        self._rows = self._raw.fetchall() if self._raw.description is not None else []

    async def _begin(self, statement: str) -> None:
        """Become the writer. Waiting for another process must not hold up this one's loop."""
        await self._connection.settled()
        loop = asyncio.get_running_loop()
        until = loop.time() + WRITER_PATIENCE_S
        while True:
            try:
                self._raw.execute(statement)
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or loop.time() > until:
                    raise
            await asyncio.sleep(_LOOK_S)

    async def executemany(self, statement: str, parameters: Sequence[Sequence[Any]]) -> Self:
        if self._connection.writes:
            await self._connection.settled()
            self._raw.executemany(statement, parameters)
        else:
            await self._connection.in_thread(lambda: self._raw.executemany(statement, parameters))
        return self

    async def fetchall(self) -> list[Any]:
        rows, self._rows = self._rows, []
        return rows

    async def fetchmany(self, size: int | None = None) -> list[Any]:
        count = size or self.arraysize
        rows, self._rows = self._rows[:count], self._rows[count:]
        return rows

    async def fetchone(self) -> Any | None:
        return self._rows.pop(0) if self._rows else None

    async def close(self) -> None:
        # A statement that a thread still runs for a cancelled caller is reset when the thread is done with it.
        if self._connection._left_behind is None:  # noqa: SLF001 - one module, one class in two parts
            self._raw.close()
