"""The database behind the product: an SQLite file or Postgres, with one way to read and one way to write.

An instance belongs to the event loop that made it.
"""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import event as sa_event
from sqlalchemy import func, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from crm_core.clock import Clock
from crm_core.db.sqlite_connection import connector
from crm_core.db.uow import UnitOfWork
from crm_core.events import Listeners
from crm_core.jobs import JobRow
from crm_core.ports.hints import EVENTS, JOBS, Hints
from crm_core.schema import event as event_table

#: a job born leased to its own process is taken over by others after this, if the process died
LOCAL_LEASE_MS = 30_000
#: prepared statements that a Postgres connection keeps, of its driver and of SQLAlchemy's adapter each
_CACHED_STATEMENTS = 512


class Database:
    """`transaction()` opens a UnitOfWork, `reading()` a connection for queries only.

    Args:
        url: `sqlite+aiosqlite:///path` or `postgresql+asyncpg://…`.
        synchronous: SQLite only. FULL (default) survives a power cut with every acknowledged row; NORMAL is faster
            and may lose the last transactions then, though never on a crash of the process.
        schema: Postgres only. The schema to live in instead of the database's default.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        hints: Hints,
        pool_size: int = 10,
        synchronous: str = "FULL",
        schema: str | None = None,
    ) -> None:
        self.url = url
        self.dialect = make_url(url).get_backend_name()
        if self.dialect not in ("sqlite", "postgresql"):
            raise ValueError(
                f"unsupported database {self.dialect!r}: use sqlite+aiosqlite or postgresql+asyncpg"
            )
        self.clock = clock
        self.hints = hints
        self.listeners: Listeners = {}
        #: set by an in-process job runner: it gets the jobs of each committed transaction at once
        self.local_runner: Callable[[list[JobRow]], None] | None = None
        self._tx_offset = 0
        self._writers = asyncio.Lock() if self.dialect == "sqlite" else None
        if self.dialect == "sqlite":
            name = make_url(url).database
            if not name or name == ":memory:":
                raise ValueError("the embedded form needs a file, not an in-memory database")
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            self._threads: ThreadPoolExecutor | None = ThreadPoolExecutor(
                pool_size + 1, thread_name_prefix="sqlite"
            )
            self._write_engine = _sqlite_engine(
                url, pool_size=1, writes=True, synchronous=synchronous, threads=self._threads
            )
            self._read_engine = _sqlite_engine(
                url, pool_size=pool_size, writes=False, synchronous=synchronous, threads=self._threads
            )
        else:
            session = {"application_name": "switchboard", "timezone": "UTC"}
            if schema is not None:
                session["search_path"] = schema
            self._write_engine = create_async_engine(
                url,
                pool_size=pool_size,
                max_overflow=pool_size,
                pool_pre_ping=False,
                pool_recycle=1800,
                # Errors are logged and kept on jobs; what customers wrote, and tokens, have no place there.
                hide_parameters=True,
                json_deserializer=_json,
                connect_args={
                    "server_settings": session,
                    # More than the product has statements: one that is pushed out is parsed and planned again.
                    "statement_cache_size": _CACHED_STATEMENTS,
                    "prepared_statement_cache_size": _CACHED_STATEMENTS,
                },
            )
            self._read_engine = self._write_engine
            self._threads = None

    async def start(self) -> None:
        """Make event cursors grow even after a restore into a cluster with lower transaction ids (ADR 0003)."""
        if self.dialect == "postgresql":
            async with self.reading() as conn:
                newest = (await conn.execute(select(func.max(event_table.c.tx)))).scalar() or 0
                current = (await conn.execute(text("select pg_current_xact_id()::text::bigint"))).scalar_one()
            if newest > current:
                self._tx_offset = newest - current + 1

    @property
    def tx_offset(self) -> int:
        return self._tx_offset

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[UnitOfWork]:
        """A write transaction: commits at the end of the block, rolls back on any exception."""
        if self._writers is not None:
            async with self._writers, self._begun() as uow:
                yield uow
        else:
            async with self._begun() as uow:
                yield uow
        # Only reached after a commit: hints and local jobs must not exist for what was rolled back.
        if uow.local_jobs and self.local_runner is not None:
            self.local_runner(uow.local_jobs)
        if uow.wrote_jobs and self.local_runner is None:
            self.hints.publish(JOBS)
        if uow.wrote_events:
            self.hints.publish(EVENTS)
        uow.committed()

    @asynccontextmanager
    async def _begun(self) -> AsyncIterator[UnitOfWork]:
        async with self._write_engine.begin() as conn:
            lease = ("", LOCAL_LEASE_MS) if self.local_runner is not None else None
            uow = UnitOfWork(
                conn,
                now=self.clock.now_ms(),
                dialect=self.dialect,
                listeners=self.listeners,
                tx_offset=self._tx_offset,
                local_lease=lease,
            )
            yield uow
            await uow.flush_outbox()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection for queries; sees one snapshot on SQLite, statement snapshots on Postgres."""
        async with self._read_engine.connect() as conn:
            yield conn

    async def close(self) -> None:
        await self._write_engine.dispose()
        if self._read_engine is not self._write_engine:
            await self._read_engine.dispose()
        if self._threads is not None:
            self._threads.shutdown(wait=False)


_scan = json.JSONDecoder().raw_decode


def _json(text: str) -> Any:
    """What Postgres holds of JSON, which has no blanks around it; most of it is empty. A decision reads some fifty."""
    if text == "{}":
        return {}
    return [] if text == "[]" else _scan(text)[0]


def _sqlite_engine(
    url: str, *, pool_size: int, writes: bool, synchronous: str, threads: ThreadPoolExecutor
) -> AsyncEngine:
    path = str(make_url(url).database)
    engine = create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=60,
        hide_parameters=True,
        async_creator=connector(path, writes=writes, threads=threads),
    )

    @sa_event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        for pragma in (
            "busy_timeout=10000",
            "journal_mode=WAL",
            f"synchronous={synchronous}",
            "foreign_keys=ON",
            "cache_size=-32000",
            "temp_store=MEMORY",
            # The writer waits for other processes by itself, beside the loop and not on it.
            "busy_timeout=0" if writes else "query_only=ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    # The driver's own implicit BEGIN (deferred) loses updates silently under concurrent writers; we send ours.
    @sa_event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


#: SQLite releases before this lack RETURNING, which the whole storage layer relies on.
MINIMUM_SQLITE = (3, 35, 0)
if sqlite3.sqlite_version_info < MINIMUM_SQLITE:
    raise RuntimeError(
        f"SQLite {sqlite3.sqlite_version} is too old, {'.'.join(map(str, MINIMUM_SQLITE))} is needed"
    )
