"""The bare database transaction: the product's own SQL for one message, replayed on the driver without the product.

The statements are captured from the product while it takes in real messages, then replayed with new keys: asyncpg
with prepared statements on Postgres, sqlite3 on SQLite, with the same durability and the same transactions. Ids that
the database gives out (RETURNING) are carried from statement to statement as in the original. A first pass checks
that each replayed statement touches as many rows as the product's did.
"""

import asyncio
import re
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import Boolean, Integer, LargeBinary, String, event, text
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from bench.payloads import FIRST, Payload, address
from bench.place import MAIL_ADDRESS, Organisation, organise, tree_of
from bench.usage import Tree
from channels.contract import RawItem
from channels.email.items import make_item
from channels.telegram.updates import item_of, load_update
from crm_core import inbound_rows
from crm_core.db.prepared import Outcome
from crm_core.db.types import metadata
from crm_core.jobs import JobRow
from crm_core.services import Services
from routing import presence
from switchboard import wiring
from switchboard.migrate import upgrade
from switchboard.settings import Settings
from tests.services import PostgresServer
from workers.execute import execute

#: tables whose ids begin far apart while capturing, so that an id in a parameter tells whose it is
_SPREAD = (
    "inbound",
    "job",
    "contact",
    "identity",
    "identity_evidence",
    "conversation",
    "message",
    "attachment",
    "inquiry",
    "event",
    "sla_clock",
    "sla_event",
    "work_item",
    "assignment",
    "decision",
    "offer",
)
_BASE, _STEP = 2_000_000_000, 10_000_000
_SEQ_BASE = 3_000_000_000
_HASH = re.compile(r"[0-9a-f]{32,}")
_ID = re.compile(r"(?<!\d)[2-9]\d{9}(?!\d)")
_WRITE = re.compile(r"\s*(INSERT|UPDATE|DELETE)", re.IGNORECASE)
_TABLE = re.compile(r"\s*(?:INSERT INTO|UPDATE|DELETE FROM)\s+\"?(\w+)", re.IGNORECASE)


@dataclass
class Statement:
    sql: str
    parameters: list[tuple[Any, ...]]  # one tuple, or several of an executemany
    many: bool
    #: rows that came back, only kept while capturing
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    rowcount: int = -1
    #: (row of parameters, position) -> (statement, row, column) of the returned value that belongs there
    carried: dict[tuple[int, int], tuple[int, int, int]] = field(default_factory=dict)

    @property
    def writes(self) -> bool:
        return bool(_WRITE.match(self.sql))

    @property
    def returns(self) -> bool:
        return " RETURNING " in self.sql or not self.writes

    @property
    def touched(self) -> int:
        if self.returns:
            return len(self.rows)
        if self.rowcount < 1 and self.sql.startswith("INSERT") and "ON CONFLICT" not in self.sql:
            # Drivers do not always count what can only succeed or raise.
            return len(self.parameters)
        return self.rowcount


@dataclass
class Trace:
    """One message's statements, in order; `transactions` are ranges of them. What is read outside of write
    transactions is left out."""

    number: int
    statements: list[Statement] = field(default_factory=list)
    transactions: list[list[int]] = field(default_factory=list)


class _Recorder:
    """Listens to the engine while one message is taken in."""

    def __init__(self) -> None:
        self.trace: Trace | None = None
        self._open: list[int] | None = None

    def before(self, _conn: Any, _cursor: Any, sql: str, parameters: Any, _context: Any, many: bool) -> None:
        if self.trace is None or self._open is None or sql.startswith(("BEGIN", "PRAGMA")):
            return
        # SQLAlchemy runs an INSERT of several rows with RETURNING row by row on SQLite, and calls it many all the same.
        many = many and isinstance(parameters[0], tuple | list)
        rows = [tuple(p) for p in parameters] if many else [tuple(parameters)]
        self._open.append(len(self.trace.statements))
        self.trace.statements.append(Statement(sql, rows, many))

    def after(self, _conn: Any, cursor: Any, sql: str, *_: Any) -> None:
        if self.trace is not None and self._open and self.trace.statements[-1].sql == sql:
            self.trace.statements[-1].rowcount = cursor.rowcount
            if isinstance(cursor, Outcome):
                # A prepared statement runs on the driver: its rows do not come by SQLAlchemy's result.
                self.trace.statements[-1].rows = [tuple(row) for row in cursor.raw]

    def begin(self) -> None:
        self._open = []

    def end(self) -> None:
        if self.trace is not None and self._open:
            self.trace.transactions.append(self._open)
        self._open = None

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        original = AsyncConnection.execute
        recorder = self

        async def spying(self: AsyncConnection, *args: Any, **kwargs: Any) -> Any:
            known = len(recorder.trace.statements) if recorder.trace is not None else 0
            result = await original(self, *args, **kwargs)
            if recorder.trace is None or not recorder._open or not result.returns_rows:
                return result
            frozen = result.freeze()
            rows = [tuple(row) for row in frozen.data]
            new = recorder.trace.statements[known:]
            if len(new) > 1 and len(new) == len(rows):
                for statement, row in zip(new, rows, strict=True):
                    statement.rows = [row]
            elif new:
                new[-1].rows = rows
            return frozen()

        event.listen(Engine, "before_cursor_execute", self.before)
        event.listen(Engine, "after_cursor_execute", self.after)
        AsyncConnection.execute = spying  # type: ignore[method-assign]
        try:
            yield
        finally:
            AsyncConnection.execute = original  # type: ignore[method-assign]
            event.remove(Engine, "before_cursor_execute", self.before)
            event.remove(Engine, "after_cursor_execute", self.after)


class Intake:
    """The product's own code in this process, one message at a time: store, then the jobs this causes."""

    def __init__(self, services: Services, organisation: Organisation, channel: str) -> None:
        self._services, self._channel = services, channel
        self._inbox = organisation.telegram_inbox if channel == "telegram" else organisation.email_inbox
        self._jobs: list[JobRow] = []
        self._registry = wiring.jobs()
        services.db.local_runner = self._jobs.extend

    async def take(self, payload: Payload) -> None:
        item = raw_item(self._channel, payload, self._services.clock.now_ms())
        async with self._services.db.transaction() as uow:
            await inbound_rows.store_items(uow, self._inbox, [item])
        while self._jobs:
            await execute(self._services, self._registry, self._jobs.pop(0))


def raw_item(channel: str, payload: Payload, now: int) -> RawItem:
    if channel == "telegram":
        return item_of(load_update(payload.body), payload.body, now)
    return make_item(
        payload.body, received_at=now, envelope_from=address(payload.number), envelope_to=MAIL_ADDRESS
    )


async def capture(
    url: str, channel: str, before: Sequence[Payload], wanted: Sequence[Payload]
) -> list[Trace]:
    """Take in `before`, then `wanted` with their statements captured. The database is migrated and organised."""
    with tempfile.TemporaryDirectory(prefix="sb-bench-") as data:
        settings = Settings(data_dir=Path(data), database_url=url, secret_key="k" * 40, redis_url=None)
        async with wiring.build_services(settings) as services:
            await spread_ids(url)
            organisation = await organise(services.db)
            async with services.db.transaction() as uow:
                for agent_id in organisation.agent_ids:
                    await presence.set_presence(uow, agent_id, "online")
            intake = Intake(services, organisation, channel)
            for payload in before:
                await intake.take(payload)
            async with services.db.transaction() as uow:
                await uow.execute(
                    text(f"UPDATE conversation SET last_seq = {_SEQ_BASE} + (id % {_STEP}) * 1000")
                )
            recorder = _Recorder()
            original = services.db._begun  # noqa: SLF001 - where a transaction ends is nobody else's business

            @asynccontextmanager
            async def begun() -> AsyncIterator[Any]:
                async with original() as uow:
                    recorder.begin()
                    yield uow
                    # The outbox is written after this point, so the end is noted by the next hook.
                    flush = uow.flush_outbox

                    async def flushed() -> None:
                        await flush()
                        recorder.end()

                    uow.flush_outbox = flushed  # type: ignore[method-assign]

            services.db._begun = begun  # type: ignore[method-assign]  # noqa: SLF001
            traces = []
            async with recorder.listening():
                for payload in wanted:
                    recorder.trace = Trace(payload.number)
                    await intake.take(payload)
                    if not any(s.sql.startswith("DELETE FROM job") for s in recorder.trace.statements):
                        raise RuntimeError("the product did not take a message to its end; see its log above")
                    traces.append(recorder.trace)
                    recorder.trace = None
            for trace in traces:
                _link(trace)
            return traces


def _link(trace: Trace) -> None:
    known: dict[int, tuple[int, int, int]] = {}
    for position, statement in enumerate(trace.statements):
        for r, row in enumerate(statement.parameters):
            for c, value in enumerate(row):
                if type(value) is int and value in known:
                    statement.carried[r, c] = known[value]
        if statement.writes:
            for r, row in enumerate(statement.rows):
                for c, value in enumerate(row):
                    if type(value) is int and _BASE <= value < 10**10 and value not in known:
                        known[value] = (position, r, c)


async def spread_ids(url: str) -> None:
    """Let the ids of each table begin at a place of its own."""
    engine = create_async_engine(url)
    async with engine.begin() as conn:
        if conn.dialect.name == "postgresql":
            for n, name in enumerate(_SPREAD):
                await conn.execute(text(f"ALTER SEQUENCE {name}_id_seq RESTART WITH {_BASE + n * _STEP}"))
    await engine.dispose()
    if url.startswith("sqlite"):
        # SQLite numbers on from the highest row there is.
        with sqlite3.connect(url.partition(":///")[2]) as direct:
            direct.execute("PRAGMA foreign_keys=OFF")
            for n, name in enumerate(_SPREAD):
                columns = [c for c in metadata.tables[name].columns if not c.nullable]
                values = [_BASE + n * _STEP if c.name == "id" else _nothing(c.type) for c in columns]
                direct.execute(
                    f"INSERT INTO {name} ({', '.join(c.name for c in columns)}) "
                    f"VALUES ({', '.join('?' * len(values))})",
                    values,
                )
        direct.close()


def _nothing(kind: Any) -> Any:
    if isinstance(kind, Boolean | Integer):
        return 0
    if isinstance(kind, LargeBinary):
        return b""
    return "" if isinstance(kind, String) else "{}"


# --- replay ------------------------------------------------------------------------------------------------------


@dataclass
class Step:
    """A statement ready to run: parameters are final but for the carried ones."""

    sql: str
    parameters: list[list[Any]]
    many: bool
    carried: list[tuple[int, int, int, int, int]]  # row, position <- statement, row, column
    index: int
    returns: bool


Script = list[list[Step]]


def script(trace: Trace, number: int, *, reads: bool) -> Script:
    """The trace with the keys of message `number`. Without `reads` only what writes."""
    swaps = [
        (str(FIRST * 10 + trace.number), str(FIRST * 10 + number)),
        (str(FIRST + trace.number), str(FIRST + number)),
    ]
    numbers = {int(old): int(new) for old, new in swaps}

    def renewed(value: Any) -> Any:
        if type(value) is int:
            return numbers.get(value, value)
        if isinstance(value, bytes):
            for old, new in swaps:
                value = value.replace(old.encode(), new.encode())
            return value
        if not isinstance(value, str):
            return value
        for old, new in swaps:
            value = value.replace(old, new)
        if len(value) < 400 and value[:1] not in "{[":
            value = _HASH.sub(lambda m: sha256(f"{m[0]}{number}".encode()).hexdigest()[: len(m[0])], value)
            value = _ID.sub(
                lambda m: m[0] if int(m[0]) in numbers.values() else str(9 * 10**9 + number), value
            )
        return value

    out: Script = []
    for transaction in trace.transactions:
        steps = []
        for index in transaction:
            s = trace.statements[index]
            if not s.writes and not reads:
                continue
            steps.append(
                Step(
                    s.sql,
                    [[renewed(v) for v in row] for row in s.parameters],
                    s.many,
                    [(*to, *source) for to, source in s.carried.items()],
                    index,
                    s.returns,
                )
            )
        if any(_WRITE.match(s.sql) for s in steps):
            out.append(steps)
    return out


def _fill(step: Step, returned: dict[int, Sequence[Any]]) -> None:
    for row, position, source, which, column in step.carried:
        if source in returned and which < len(returned[source]):
            step.parameters[row][position] = returned[source][which][column]


@dataclass
class Bare:
    """What the bare transaction reaches. `rows` counts the rows one message touches, by verb and table."""

    rate: float
    client_ms: float
    database_ms: float
    statements: int
    transactions: float
    rows: dict[str, float]
    different: int

    @property
    def cpu_ms(self) -> float:
        return self.client_ms + self.database_ms


def touched_rows(traces: Sequence[Trace]) -> dict[str, float]:
    counts: Counter[str] = Counter()
    for trace in traces:
        for s in trace.statements:
            if s.writes and (m := _TABLE.match(s.sql)):
                counts[f"{s.sql.split(None, 1)[0].lower()} {m[1]}"] += max(s.touched, 0)
    return {k: v / len(traces) for k, v in sorted(counts.items()) if v}


async def replay(
    url: str,
    traces: Sequence[Trace],
    *,
    messages: int,
    concurrency: int,
    reads: bool,
    database: Tree | None,
    first: int,
) -> Bare:
    """Run the scripts of `messages` new messages, whose numbers begin at `first`."""
    if url.startswith("sqlite"):
        # One writer is all that SQLite has; more connections would only wait for each other.
        different, rate, client = await asyncio.to_thread(_on_sqlite, url, traces, messages, reads, first)
        served = 0.0
    else:
        different, rate, client, served = await _on_postgres(
            url, traces, messages, concurrency, reads, first, database
        )
    sample = script(traces[0], 0, reads=reads)
    return Bare(
        rate, client, served, sum(len(t) for t in sample), len(sample), touched_rows(traces), different
    )


def _on_sqlite(
    url: str, traces: Sequence[Trace], messages: int, reads: bool, first: int
) -> tuple[int, float, float]:
    direct = sqlite3.connect(url.partition(":///")[2], isolation_level=None, cached_statements=512)
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "cache_size=-32000",
        "temp_store=MEMORY",
    ):
        direct.execute(f"PRAGMA {pragma}").fetchall()

    def run(one: Script, trace: Trace | None = None) -> int:
        returned: dict[int, Sequence[Any]] = {}
        different = 0
        for steps in one:
            direct.execute("BEGIN IMMEDIATE")
            for step in steps:
                _fill(step, returned)
                if step.many:
                    count = direct.executemany(step.sql, step.parameters).rowcount
                else:
                    cursor = direct.execute(step.sql, step.parameters[0])
                    if step.returns:
                        rows = cursor.fetchall()
                        count = len(rows)
                        if rows:
                            returned[step.index] = rows
                    else:
                        count = cursor.rowcount
                if trace is not None and _WRITE.match(step.sql):
                    different += count != trace.statements[step.index].touched
            direct.execute("COMMIT")
        return different

    try:
        different = sum(run(script(t, first + n, reads=reads), t) for n, t in enumerate(traces))
        first += len(traces)
        scripts = [script(traces[n % len(traces)], first + n, reads=reads) for n in range(messages)]
        start, cpu = time.perf_counter(), time.thread_time()
        for one in scripts:
            run(one)
        seconds, spent = time.perf_counter() - start, time.thread_time() - cpu
    finally:
        direct.close()
    return different, messages / seconds, spent * 1000 / messages


async def _on_postgres(
    url: str,
    traces: Sequence[Trace],
    messages: int,
    concurrency: int,
    reads: bool,
    first: int,
    database: Tree | None,
) -> tuple[int, float, float, float]:
    # More at once than there are conversations would wait for each other's rows, which the product's load does not.
    concurrency = min(concurrency, len(traces))
    dsn = url.replace("+asyncpg", "")
    conns = [await asyncpg.connect(dsn, statement_cache_size=0) for _ in range(concurrency)]
    prepared: list[dict[str, Any]] = [{} for _ in conns]

    async def run(n: int, one: Script, trace: Trace | None = None) -> int:
        conn, known, different = conns[n], prepared[n], 0
        returned: dict[int, Sequence[Any]] = {}
        for steps in one:
            async with conn.transaction():
                for step in steps:
                    _fill(step, returned)
                    statement = known.get(step.sql)
                    if statement is None:
                        statement = known[step.sql] = await conn.prepare(step.sql)
                    if step.many:
                        await statement.executemany(step.parameters)
                        continue
                    rows = await statement.fetch(*step.parameters[0])
                    if rows:
                        returned[step.index] = rows
                    if trace is not None and _WRITE.match(step.sql):
                        count = len(rows) if step.returns else int(statement.get_statusmsg().split()[-1])
                        different += count != trace.statements[step.index].touched
        return different

    try:
        different = 0
        for n, trace in enumerate(traces):
            different += await run(n % concurrency, script(trace, first + n, reads=reads), trace)
        first += len(traces)
        # A connection works for its own conversations.
        queues: list[list[Script]] = [[] for _ in conns]
        for n in range(messages):
            mine = n % concurrency
            own = traces[mine::concurrency]
            queues[mine].append(script(own[(n // concurrency) % len(own)], first + n, reads=reads))

        async def drain(n: int) -> None:
            for one in queues[n]:
                await run(n, one)

        served = database.cpu_ms() if database else 0.0
        start, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(drain(n) for n in range(concurrency)))
        seconds, spent = time.perf_counter() - start, time.process_time() - cpu
        served = (database.cpu_ms() if database else 0.0) - served
    finally:
        for conn in conns:
            await conn.close()
    return different, messages / seconds, spent * 1000 / messages, served / messages


@asynccontextmanager
async def database_for(form: str) -> AsyncIterator[tuple[str, Tree | None]]:
    """An empty migrated database as the form uses it, and the tree of its server."""
    if form == "scaled":
        with PostgresServer(fsync=True) as server:
            url = server.create_database()
            await upgrade(url)
            yield url, tree_of(server, "db/data/postmaster.pid")
    else:
        with tempfile.TemporaryDirectory(prefix="sb-bench-") as directory:
            url = f"sqlite+aiosqlite:///{directory}/bare.db"
            await upgrade(url)
            yield url, None
