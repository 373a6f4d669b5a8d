"""One unit of work: a write transaction with the events and jobs that it causes.

Only an edge (an HTTP handler, a job runner, a sweeper) opens one, by `Database.transaction()`. Services get it as
their first argument and never commit. Nothing is sent over a network inside it.
"""

import json
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any, cast

from sqlalchemy import BigInteger, bindparam, insert, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import Executable
from sqlalchemy.sql.elements import ClauseElement, ColumnElement
from sqlalchemy.sql.expression import literal_column
from sqlalchemy.sql.schema import Table
from sqlalchemy.sql.selectable import Select

from crm_core.db.columns import Columns, inserting
from crm_core.db.one_row import ROW_ID, insert_new_of, insert_of, insert_unless, select_of, update_of
from crm_core.db.prepared import Parameters, Prepared, fetch
from crm_core.events import DomainEvent, Listeners
from crm_core.jobs import JobRow, NewJob
from crm_core.schema import event as event_table
from crm_core.schema import job as job_table

#: what a query gives: column name -> value (SQLAlchemy's own type also takes columns as keys; we never do)
Row = Mapping[str, Any]


class UnitOfWork:
    """Attributes: `conn` the connection in its transaction, `now` the instant all its rows carry (ms),
    `dialect` "sqlite" or "postgresql".
    """

    def __init__(
        self,
        conn: AsyncConnection,
        *,
        now: int,
        dialect: str,
        listeners: Listeners,
        tx_offset: int,
        local_lease: "tuple[str, int] | None",
    ) -> None:
        self.conn = conn
        self.now = now
        self.dialect = dialect
        self._listeners = listeners
        self._tx_offset = tx_offset
        #: (token, milliseconds): jobs due now are born leased to this process' own runner
        self._local_lease = local_lease
        self._events: list[DomainEvent] = []
        self._jobs: list[NewJob] = []
        self._after_commit: list[Callable[[], None]] = []
        self.local_jobs: list[JobRow] = []

    # --- statements -------------------------------------------------------------------------------------------
    # A Prepared (see crm_core.db.prepared) is for hot paths; it takes its values as `parameters`.
    async def execute(self, statement: Executable | Prepared, parameters: Any = None) -> Any:
        """Run it. A Prepared gives an Outcome (`rows`, `rowcount`), anything else SQLAlchemy's result."""
        if isinstance(statement, Prepared):
            return await statement.run(self.conn, parameters)
        return await self.conn.execute(statement, parameters)

    async def rows(
        self, statement: Executable | Prepared, parameters: Parameters | None = None
    ) -> Sequence[Row]:
        if isinstance(statement, Prepared):
            return (await statement.run(self.conn, parameters)).rows
        return cast("Sequence[Row]", (await self.conn.execute(statement, parameters)).mappings().all())

    async def row(self, statement: Executable | Prepared, parameters: Parameters | None = None) -> Row | None:
        """The first row or None."""
        if isinstance(statement, Prepared):
            found = (await statement.run(self.conn, parameters)).rows
            return found[0] if found else None
        return cast("Row | None", (await self.conn.execute(statement, parameters)).mappings().first())

    async def scalar(self, statement: Executable | Prepared, parameters: Parameters | None = None) -> Any:
        """The first column of the first row, or None."""
        if isinstance(statement, Prepared):
            raw = (await statement.run(self.conn, parameters)).rows
            return next(iter(raw[0].values())) if raw else None
        return (await self.conn.execute(statement, parameters)).scalar()

    async def execute_many(self, statement: Prepared, parameters: Sequence[Parameters]) -> None:
        """Run it for each set of parameters, in one round trip."""
        await statement.run_many(self.conn, parameters)

    async def find(self, table: Table, row_id: int | str | None, *, lock: bool = False) -> Row | None:
        """The row with this id, or None. `lock`: for the rest of the transaction; waits for who has it."""
        return None if row_id is None else await self.row(select_of(table, lock=lock), {ROW_ID: row_id})

    async def update(self, table: Table, row_id: int | str, values: Mapping[str, Any]) -> bool:
        """Change columns of the row with this id. False if there is none."""
        if _has_expression(values):
            result = await self.conn.execute(update(table).where(table.c.id == row_id).values(**values))
            return bool(result.rowcount)
        # Sorted: one text for one set of columns, in whatever order they came.
        statement = update_of(table, tuple(sorted(values)))
        return bool((await statement.run(self.conn, {**values, ROW_ID: row_id})).rowcount)

    async def insert(self, table: Table, values: Mapping[str, Any]) -> int:
        """Insert one row, return its id."""
        if _has_expression(values):
            result = await self.conn.execute(insert(table).values(**values).returning(table.c.id))
            return int(result.scalar_one())
        made = await insert_of(table, tuple(values)).run(self.conn, values)
        return int(made.raw[0][0])

    async def insert_new(
        self,
        table: Table,
        values: Mapping[str, Any],
        *,
        key: Sequence[str],
        returning: ColumnElement[Any] | None = None,
    ) -> Any:
        """Insert unless a row with the same `key` columns exists. Returns `returning` (default: the first key
        column) of the new row, or None if there was one. On Postgres it waits for a concurrent twin to end.
        """
        column = returning if returning is not None else table.c[key[0]]
        if _has_expression(values):
            unless = insert_unless(self.dialect, table, key)
            return (await self.conn.execute(unless.values(**values).returning(column))).scalar()
        statement = insert_new_of(self.dialect, table, tuple(key), column, tuple(values))
        return await self.scalar(statement, values)

    def lock(self, statement: Select[Any], *, skip_locked: bool = False) -> Select[Any]:
        """FOR UPDATE where it means something; SQLite's writer is alone anyway."""
        return (
            statement.with_for_update(skip_locked=skip_locked) if self.dialect == "postgresql" else statement
        )

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """If the block raises, what it did is undone alone: rows, events, jobs and callbacks; the rest goes on."""
        marks = [(kept, len(kept)) for kept in (self._events, self._jobs, self._after_commit)]
        try:
            async with self.conn.begin_nested():
                yield
        except BaseException:
            for kept, length in marks:
                del kept[length:]
            raise

    # --- outbox -----------------------------------------------------------------------------------------------
    async def emit(self, event: DomainEvent) -> None:
        """Record an event and call its listeners now, in this transaction."""
        self._events.append(event)
        for listener in self._listeners.get(event.kind, ()):
            await listener(self, event)

    def enqueue(self, job: NewJob) -> None:
        """Ask for a job; its row is written with this transaction."""
        self._jobs.append(job)

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call this once the transaction is durable; lost on a crash, so for hints and caches only."""
        self._after_commit.append(callback)

    @property
    def wrote_events(self) -> bool:
        return bool(self._events)

    @property
    def wrote_jobs(self) -> bool:
        return bool(self._jobs)

    async def flush_outbox(self) -> None:
        """Write the collected events and jobs. Called once by the transaction's owner before it commits."""
        if len(self._events) == 1:
            [e] = self._events
            row = {
                "tx_offset": self._tx_offset, "kind": e.kind, "at": self.now, "actor": e.actor,
                "subject_kind": e.subject_kind, "subject_id": e.subject_id, "inquiry_id": e.inquiry_id,
                "conversation_id": e.conversation_id, "payload": dict(e.payload), "audience": e.audience.as_data(),
            }  # fmt: skip
            await _event_insert(self.dialect).run(self.conn, row)
        elif self._events:
            await self._write_events(self._events)
        for job in self._jobs:
            await self._insert_job(job)

    async def _write_events(self, events: Sequence[DomainEvent]) -> None:
        columns: dict[str, list[Any]] = {
            name: [getattr(e, name) for e in events]
            for name in ("kind", "actor", "subject_kind", "subject_id", "inquiry_id", "conversation_id")
        }
        audiences = {a: json.dumps(a.as_data()) for a in {e.audience for e in events}}
        columns["payload"] = [json.dumps(dict(e.payload)) for e in events]
        columns["audience"] = [audiences[e.audience] for e in events]
        await _event_inserts(self.dialect).run(self.conn, columns, {"at": self.now, "tx": self._tx_offset})

    async def _insert_job(self, job: NewJob) -> None:
        run_at = self.now if job.run_at is None else job.run_at
        mine = self._local_lease if run_at <= self.now else None
        token = secrets.token_hex(8) if mine else None
        values = {
            "name": job.name,
            "args": dict(job.args),
            "queue": job.queue,
            "lane": job.lane,
            "order_key": job.order_key,
            "state": "leased" if mine else "ready",
            "run_at": run_at,
            "attempts": 1 if mine else 0,
            "max_attempts": job.max_attempts,
            "lease_until": self.now + mine[1] if mine else None,
            "lease_token": token,
            "dedupe": job.dedupe,
            "created_at": self.now,
        }
        if job.dedupe is None:
            job_id = await self.insert(job_table, values)
        else:
            job_id = await self.insert_new(job_table, values, key=["dedupe"], returning=job_table.c.id)
        if mine and token and job_id is not None:
            self.local_jobs.append(
                JobRow(
                    id=int(job_id),
                    name=job.name,
                    args=job.args,
                    lane=job.lane,
                    order_key=job.order_key,
                    attempts=1,
                    max_attempts=job.max_attempts,
                    lease_token=token,
                    created_at=self.now,
                )
            )

    def committed(self) -> None:
        """Run the after-commit callbacks. Called by the transaction's owner."""
        for callback in self._after_commit:
            callback()


@lru_cache(maxsize=2)
def _event_insert(dialect: str) -> Prepared:
    offset = bindparam("tx_offset", type_=BigInteger)
    values = {c.name: bindparam(c.name, type_=c.type) for c in event_table.c if c.name not in ("id", "tx")}
    return Prepared(insert(event_table).values(tx=_tx(dialect)(offset), **values).inline())


@lru_cache(maxsize=2)
def _event_inserts(dialect: str) -> Columns:
    names = [c.name for c in event_table.c if c.name not in ("id", "at", "tx")]
    return inserting(event_table, names, shared=["at", "tx"], through={"tx": _tx(dialect)})


def _tx(dialect: str) -> Callable[[ColumnElement[Any]], ColumnElement[Any]]:
    """What an event says of its transaction, for an offset. Readers stay below the oldest one still running, so each
    row says which it was written by (ADR 0003).
    """
    current: ColumnElement[Any] = literal_column("pg_current_xact_id()::text::bigint", BigInteger)
    return lambda offset: current + offset if dialect == "postgresql" else offset * literal_column("0")


def _has_expression(values: Mapping[str, Any]) -> bool:
    """Whether a value is SQL, which cannot be a parameter."""
    return any(isinstance(v, ClauseElement) for v in values.values())


async def find(conn: AsyncConnection, table: Table, row_id: int) -> Row | None:
    """The row with this id outside a unit of work, or None."""
    found = await fetch(conn, select_of(table), {ROW_ID: row_id})
    return found[0] if found else None


async def read_row(conn: AsyncConnection, statement: Executable) -> Row | None:
    """The first row of a query outside a unit of work, or None."""
    return cast("Row | None", (await conn.execute(statement)).mappings().first())


async def read_rows(conn: AsyncConnection, statement: Executable) -> Sequence[Row]:
    """All rows of a query outside a unit of work."""
    return cast("Sequence[Row]", (await conn.execute(statement)).mappings().all())
