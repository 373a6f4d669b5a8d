"""Lives the vectors that need storage through the product's services, on a database of the configured kind.

Nothing of the installation is touched: on SQLite a file in a temporary directory is used, on Postgres a schema of
its own inside the configured database, dropped at the end.
"""

import secrets
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from crm_core import contacts, inquiries, messages
from crm_core.db.engine import Database
from crm_core.db.uow import UnitOfWork
from crm_core.errors import Conflict
from crm_core.infra.local import LocalHints
from crm_core.jobs import JobRow
from crm_core.schema import contact, conversation, inbox, inquiry, job
from routing.business_time import Calendar
from routing.calendar_spec import CalendarError, CalendarSpec
from routing.schema import calendar, sla_clock, sla_event, sla_policy
from routing.sla import book as books
from routing.sla import edit, store
from routing.sla.service import LISTENERS
from routing.sla.sweeper import sweep
from switchboard import check_vectors, migrate, vector_fields, vector_scenarios

Row = Mapping[str, Any]


class SetClock:
    """A clock that stands where it was put."""

    def __init__(self) -> None:
        self._now = 0

    def now_ms(self) -> int:
        return self._now

    def set(self, ms: int) -> None:
        self._now = ms


@asynccontextmanager
async def throwaway(url: str) -> AsyncIterator[tuple[Database, SetClock]]:
    """A fresh, migrated database of the kind `url` names, gone at the end of the block."""
    clock = SetClock()
    if make_url(url).get_backend_name() == "sqlite":
        with tempfile.TemporaryDirectory(prefix="switchboard-vectors-") as directory:
            fresh = f"sqlite+aiosqlite:///{Path(directory) / 'vectors.db'}"
            async with _opened(fresh, clock, None) as db:
                yield db, clock
        return
    name = f"switchboard_vectors_{secrets.token_hex(6)}"
    await _statement(url, f"CREATE SCHEMA {name}")
    try:
        async with _opened(url, clock, name) as db:
            yield db, clock
    finally:
        await _statement(url, f"DROP SCHEMA {name} CASCADE")


@asynccontextmanager
async def _opened(url: str, clock: SetClock, schema: str | None) -> AsyncIterator[Database]:
    await migrate.upgrade(url, schema=schema)
    db = Database(url, clock=clock, hints=LocalHints(), pool_size=2, synchronous="OFF", schema=schema)
    try:
        await db.start()
        yield db
    finally:
        await db.close()


async def _statement(url: str, text: str) -> None:
    engine = create_async_engine(url)
    try:
        async with engine.begin() as conn:
            await conn.exec_driver_sql(text)
    finally:
        await engine.dispose()


async def check_stored(
    db: Database, clock: SetClock, vectors: Row, *, sweepings: Sequence[bool] = (False, True)
) -> list[check_vectors.SectionResult]:
    """The sections in which storage takes part: calendars and their arithmetic as read back, scenarios as lived.

    Each scenario is lived once for each of `sweepings`: with the sweeper asleep, and awake at every event. `clock` must
    be the database's.
    """
    specs = vectors.get("calendars", {})
    stored: dict[str, Any] = {}
    for n, (name, spec) in enumerate(specs.items()):
        # Hours that cannot be read fail by themselves; what else is in them may be nothing a database can hold.
        stored[name] = await _stored(db, f"vector {n}", spec) if _is_calendar(spec) else spec
    results = check_vectors.check_business_time(stored, vectors)
    db.listeners = {kind: list(functions) for kind, functions in LISTENERS.items()}
    cases = vectors.get("sla_scenarios", [])
    keys = vector_fields.names(cases)
    hours = _Hours(db, specs)
    failures: dict[str, check_vectors.Failure] = {}
    for sweeping in sweepings:
        for n, (key, item) in enumerate(zip(keys, cases, strict=True)):
            if key in failures:
                continue
            try:
                vector_scenarios.readable(item)
                life = _Life(db, clock, item, await hours(item["calendar"]), f"vector-{n}-{sweeping:d}")
                got = await life.lived(sweeping=sweeping)
                expected = vector_scenarios.looks_of(item)
            except Exception as error:  # a vector may be malformed in any way
                expected, got = {"answer": {}}, {"error": {"text": f"{type(error).__name__}: {error}"}}
            if not vector_scenarios.same_instances(expected, got):
                asked = vector_scenarios.only_asked(expected, got)
                failures[key] = check_vectors.Failure(key, expected, asked)
            await _forget(db)
    passed = len(cases) - len(failures)
    return [
        *results,
        check_vectors.SectionResult("sla_scenarios", passed, len(cases), tuple(failures.values())),
    ]


def _is_calendar(spec: Any) -> bool:
    try:
        CalendarSpec.parse(spec)
    except CalendarError:
        return False
    return True


async def _stored(db: Database, name: str, spec: Any) -> Any:
    """What the database gives back for a calendar's spec."""
    async with db.transaction() as uow:
        row_id = await uow.insert(calendar, _row(name, spec, uow))
    async with db.reading() as conn:
        found = await conn.scalar(select(calendar.c.spec).where(calendar.c.id == row_id))
    async with db.transaction() as uow:
        await uow.execute(delete(calendar).where(calendar.c.id == row_id))
    return found


def _row(name: str, spec: Any, uow: UnitOfWork) -> dict[str, Any]:
    return {"name": name, "spec": spec, "version": 1, "updated_at": uow.now}


async def _forget(db: Database) -> None:
    """What one scenario promised is no part of the next: neither its rules to be read, nor its clocks to be swept."""
    async with db.transaction() as uow:
        for table in (sla_event, sla_clock, sla_policy, job):
            await uow.execute(delete(table))


class _Hours:
    """The stored calendars of scenarios, by their names in the file."""

    def __init__(self, db: Database, specs: Mapping[str, Any]) -> None:
        self._db, self._specs = db, specs
        self._ids: dict[str, int] = {}

    async def __call__(self, name: str) -> int:
        if name not in self._ids:
            spec = self._specs[name]
            # The file's hours are exact; our own input would read 23:59 as the end of the day.
            Calendar.from_spec(spec, id=1, name=name, round_2359=False)
            async with self._db.transaction() as uow:
                self._ids[name] = await uow.insert(calendar, _row(f"hours {len(self._ids)}", spec, uow))
        return self._ids[name]


class _Life:
    """One scenario: a ticket with a customer, a policy and a calendar of its own."""

    def __init__(self, db: Database, clock: SetClock, item: Row, calendar_id: int, key: str) -> None:
        self.db, self.clock, self.item, self.calendar_id, self.key = db, clock, item, calendar_id, key
        self.measured = vector_scenarios.measured(item)
        self.priority = item.get("priority") or vector_scenarios.ORDINARY
        self.inquiry_id: int | None = None

    async def lived(self, *, sweeping: bool) -> dict[str, dict[str, Any]]:
        """{moment: {metric and instance: what is seen then}}."""
        moments = vector_scenarios.moments(self.item)
        self.clock.set(moments[0].at)
        await self._prepare()
        seen = {}
        for moment in moments:
            self.clock.set(moment.at)
            if sweeping:
                await sweep(self.db)
            if moment.look is not None:
                seen[moment.look] = await self._look(moment.at)
            else:
                await self._happen(moment.what)
        return seen

    async def _prepare(self) -> None:
        async with self.db.transaction() as uow:
            await edit.set_default_calendar(uow, self.calendar_id)
            box: dict[str, Any] = {
                "key": self.key, "channel": "email", "name": self.key, "secret": "s", "config": {}, "address": None,
                "team_id": None, "default_kind": "ticket", "flow_key": None, "region": "UA", "language": "uk",
                "priority": "normal", "enabled": True, "created_at": uow.now,
            }  # fmt: skip
            box["id"] = await uow.insert(inbox, box)
            person = await contacts.resolve(uow, (), name=self.key)
            thread = {
                "inbox_id": box["id"], "contact_id": person["id"], "key": self.key, "address": "x",
                "channel": "email", "subject": None, "language": "uk", "last_seq": 0, "customer_read_seq": 0,
                "agent_read_seq": 0, "sticky_agent_id": None, "sticky_until": None, "last_customer_at": None,
                "created_at": uow.now, "updated_at": uow.now,
            }  # fmt: skip
            self.thread_id = await uow.insert(conversation, thread)
            self.box, self.person_id = box, person["id"]
            if self.item.get("policy") is not None:
                await self._promise(uow, self.item["policy"])

    async def _promise(self, uow: UnitOfWork, targets: Row) -> None:
        named = vector_scenarios.targets_of(targets)
        if self.key in (await books.load(uow.conn)).keys.values():
            await edit.change_policy(uow, self.key, {"targets": named})
            return
        await edit.create_policy(
            uow,
            key=self.key,
            name=self.key,
            targets=named,
            conditions={"inbox": self.box["id"]},
            options={"calendar_id": self.calendar_id},
        )

    async def _happen(self, what: Row) -> None:
        kind = what["type"]
        if kind == "create":
            await self._create(what)
        elif kind == "policy":
            async with self.db.transaction() as uow:
                if what["targets"] is not None:
                    await self._promise(uow, what["targets"])
                elif self.key in (await books.load(uow.conn)).keys.values():
                    await edit.retire_policy(uow, self.key)
            await self._recompute()
        elif self.inquiry_id is None and kind == "priority":
            self.priority = what["to"]
        elif self.inquiry_id is None:
            raise ValueError(f"{kind} before the ticket exists")
        elif kind in ("customer", "agent", "bot"):
            program = vector_scenarios.by_program(what)
            author = "customer" if kind == "customer" else "bot" if program else "agent"
            if author != "customer" or what.get("public", True):
                await self._write(author, public=what.get("public", True))
        elif kind in ("status", "priority"):
            try:
                async with self.db.transaction() as uow:
                    await inquiries.change(uow, self.inquiry_id, {kind: what["to"]}, actor="agent:1")
            except Conflict as refused:
                if refused.code != "closed":
                    raise
        else:
            raise ValueError(f"unknown event {kind!r}")

    async def _recompute(self) -> None:
        """Run the jobs that the edit left, as a worker would."""
        async with self.db.transaction() as uow:
            rows = await uow.rows(select(job).where(job.c.name == edit.RECOMPUTE_JOB).order_by(job.c.id))
            for row in rows:
                names = ("id", "name", "args", "lane", "order_key", "attempts", "max_attempts", "created_at")
                mine = JobRow(lease_token="", **{name: row[name] for name in names})
                await edit.recompute(None, uow, mine)  # type: ignore[arg-type]
            await uow.execute(job.delete().where(job.c.id.in_([row["id"] for row in rows])))

    async def _create(self, what: Row) -> None:
        # What opens a ticket without the customer's knowing is an agent's note.
        by = what.get("by", "customer") if what.get("public", True) else "agent"
        async with self.db.transaction() as uow:
            person = await uow.row(select(contact).where(contact.c.id == self.person_id))
            thread = await uow.row(select(conversation).where(conversation.c.id == self.thread_id))
            if person is None:
                raise LookupError("the scenario's customer")
            made = await inquiries.open_inquiry(
                uow,
                kind="ticket",
                contact=person,
                subject=self.key,
                channel="email",
                conversation=thread,
                inbox=self.box,
                priority=self.priority,
                opened_by="contact" if by == "customer" else "agent:1",
            )
            self.inquiry_id = made["id"]
            if what.get("status", "new") != "new":
                await inquiries.change(uow, self.inquiry_id, {"status": what["status"]}, actor="agent:1")
        if by == "agent":
            await self._write("agent", public=what.get("public", True))

    async def _write(self, author: str, *, public: bool) -> None:
        async with self.db.transaction() as uow:
            row = await uow.row(select(inquiry).where(inquiry.c.id == self.inquiry_id))
            if row is None:
                raise LookupError("the scenario's ticket")
            if author == "customer":
                values = {
                    "inquiry_id": row["id"], "direction": "in", "author_kind": "customer", "text": "?",
                    "state": "received",
                }  # fmt: skip
                written, thread = await messages.append(uow, self.thread_id, values)
                if row["status"] in ("pending", "hold", "solved"):
                    row = await inquiries.change(
                        uow, row["id"], {"status": "open"}, actor="contact:1", cause="customer_wrote"
                    )
                await messages.announce(uow, written, row, thread)
                return
            written, _ = await messages.post_message(
                uow,
                conversation_id=self.thread_id,
                inquiry_row=row,
                author_kind=author,
                text="!",
                internal=not public,
            )
        if public:
            async with self.db.transaction() as uow:
                await messages.set_state(uow, written["id"], "sent")

    async def _look(self, at: int) -> dict[str, Any]:
        if self.inquiry_id is None:
            return {}
        async with self.db.reading() as conn:
            book = await books.load(conn)
            found = await conn.execute(select(sla_clock).where(sla_clock.c.inquiry_id == self.inquiry_id))
        clocks = [store.clock_of(dict(row)) for row in found.mappings().all()]
        return vector_scenarios.by_key(
            vector_scenarios.shown(c, at, book.rules(clocks)) for c in clocks if c.metric in self.measured
        )
