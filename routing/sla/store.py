"""SLA rows and the machine's dataclasses: loading, locking and writing the clocks of inquiries.

Owns the statements on `sla_clock` and `sla_event`. Decides nothing. Lock order everywhere: the inquiry first, its
clocks after it, so a clock is only ever locked by who holds its inquiry.

What the machine remembers of a ticket besides its clocks lies in `data` of its first `total_resolution` clock, which
every ticket has and keeps for life; so do a clock's fields that no query asks for.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

from sqlalchemy import (
    ColumnElement,
    Insert,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.db.one_row import insert_unless
from crm_core.db.prepared import Prepared, any_of, fetch
from crm_core.db.together import Batch
from crm_core.db.uow import UnitOfWork
from crm_core.schema import company, contact, inquiry, team
from routing.schema import sla_clock, sla_event
from routing.sla import book as books
from routing.sla.clock import CLOCK_FIELDS, ONCE_METRICS, Clock, Metric, SlaEvent, TicketClocks, TicketFacts

#: the clock whose row keeps the ticket's own facts
HOME = (Metric.TOTAL_RESOLUTION, 1)
_COLUMNS = frozenset(sla_clock.c.keys())
#: fields of a clock that are columns; the others are in `data`
FIELDS = tuple(name for name in CLOCK_FIELDS if name in _COLUMNS)
_IN_DATA = tuple(name for name in CLOCK_FIELDS if name not in _COLUMNS)
_EXTRA = frozenset(_IN_DATA)
_KEY = ("inquiry_id", "metric", "instance")
_MUTABLE = tuple(sorted(_COLUMNS - {"id", "version", *_KEY}))
#: rows that are cheaper one by one, by statements that are prepared, than together by one that is put together
_FEW = 4
#: what firing changes of a clock; its memory of fired steps is in `data`
FIRED = ("breach_at", "breached_at", "data", "due_at", "next_fire_at", "step")
#: what other hours change of a clock
REMEASURED = (*FIRED, "calendar_version", "consumed_ms", "running_since")
LIVE = ("active", "paused")
# Spelled out and not as parameters: or neither database knows that the index of live clocks has all of them.
IS_LIVE = sla_clock.c.state.in_([literal_column(f"'{state}'") for state in LIVE])


@dataclass(frozen=True, slots=True)
class Note:
    """What was last decided for a ticket: the policy (a row of sla_policy) and the priority its clocks go by."""

    policy_id: int | None = None
    priority: str | None = None

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        return cls(data.get("policy_id"), data.get("priority"))


@dataclass(frozen=True, slots=True)
class Stored:
    """The SLA of one inquiry as it is in the database. `known` is False for one that has no clocks yet."""

    inquiry_id: int
    state: TicketClocks
    note: Note = Note()
    ids: Mapping[tuple[Metric, int], int] | None = None
    known: bool = False


def clock_of(row: Mapping[str, Any]) -> Clock:
    """The machine's clock of a row of sla_clock."""
    return clock_of_values({name: row[name] for name in FIELDS}, row["data"])


def clock_of_values(values: dict[str, Any], data: Mapping[str, Any]) -> Clock:
    """The machine's clock of its columns, by name, and what its column `data` says. The dict is used up."""
    more = data.get("clock") or {}
    values.update(more if _EXTRA.issuperset(more) else {n: more[n] for n in _IN_DATA if n in more})
    return Clock.of(values)


def values_of(inquiry_id: int, clock: Clock, home: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The columns of a clock. `home` is the ticket's own memory, for the one clock that keeps it."""
    row = clock.to_row()
    for name in _IN_DATA:
        del row[name]
    return {**row, "inquiry_id": inquiry_id, "data": data_of(clock, home), "version": 1}


def data_of(clock: Clock, home: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a clock has in its column `data`."""
    values = vars(clock)
    # A clock with plain values stays small: most rows are those of the past.
    data: dict[str, Any] = {
        "clock": {name: value for name in _IN_DATA if (value := values[name]) is not None and value != ()}
    }
    if home is not None:
        data["ticket"] = dict(home)
    return data


def _tickets(*more: ColumnElement[Any], skip_locked: bool = False) -> Prepared:
    return Prepared(
        select(
            inquiry,
            contact.c.vip.label("contact_vip"),
            contact.c.company_id,
            contact.c.attributes.label("contact_attributes"),
            company.c.attributes.label("company_attributes"),
            team.c.calendar_id.label("team_calendar_id"),
            *more,
        )
        .join(contact, contact.c.id == inquiry.c.contact_id)
        .outerjoin(company, company.c.id == contact.c.company_id)
        .outerjoin(team, team.c.id == inquiry.c.team_id)
        .where(any_of(inquiry.c.id, "ids"))
        .order_by(inquiry.c.id)
        .with_for_update(of=inquiry, skip_locked=skip_locked)
    )


_LOCK_TICKETS, _LOCK_FREE_TICKETS = _tickets(), _tickets(skip_locked=True)
_LOCK_WITH_STAMP = _tickets(*books.STAMP_COLUMNS)


async def lock_tickets(
    uow: UnitOfWork, inquiry_ids: Iterable[int], *, skip_locked: bool = False
) -> dict[int, Mapping[str, Any]]:
    """Inquiries, locked in order of id, with what policies may ask about their contact, company and team."""
    statement = _LOCK_FREE_TICKETS if skip_locked else _LOCK_TICKETS
    return {int(row["id"]): row for row in await uow.rows(statement, {"ids": list(inquiry_ids)})}


async def lock_ticket(uow: UnitOfWork, inquiry_id: int) -> Mapping[str, Any] | None:
    """The same of one, with what says whether the rules are still those that were read last (see `book.load`)."""
    return await uow.row(_LOCK_WITH_STAMP, {"ids": [inquiry_id]})


def _loading(*conditions: ColumnElement[bool], lock: bool) -> Prepared:
    statement = select(sla_clock).where(any_of(sla_clock.c.inquiry_id, "ids"), *conditions)
    statement = statement.order_by(sla_clock.c.id)
    return Prepared(statement.with_for_update() if lock else statement)


_NEWEST = (
    select(sla_clock.c.inquiry_id, sla_clock.c.metric, func.max(sla_clock.c.instance))
    .where(any_of(sla_clock.c.inquiry_id, "ids"))
    .group_by(sla_clock.c.inquiry_id, sla_clock.c.metric)
)
_ALL = _loading(lock=True)
_CURRENT = _loading(
    or_(
        IS_LIVE,
        sla_clock.c.metric.in_([literal_column(f"'{m}'") for m in (*ONCE_METRICS, Metric.FIRST_REPLY)]),
        tuple_(sla_clock.c.inquiry_id, sla_clock.c.metric, sla_clock.c.instance).in_(_NEWEST),
    ),
    lock=True,
)
# A clock is only ever locked under its inquiry: what holds the inquiries needs no lock of its own.
_IS_DUE = Prepared(
    select(sla_clock.c.id)
    .where(
        sla_clock.c.inquiry_id == bindparam("inquiry", required=True),
        IS_LIVE,
        sla_clock.c.next_fire_at <= bindparam("now", required=True),
    )
    .limit(literal_column("1"))
)
_DUE = _loading(IS_LIVE, sla_clock.c.next_fire_at <= bindparam("now", required=True), lock=False)


async def load(uow: UnitOfWork, inquiry_ids: Sequence[int], *, everything: bool = False) -> dict[int, Stored]:
    """The clocks of these inquiries, locked in order of id. The inquiries must be locked already.

    A long conversation leaves hundreds of finished clocks. Without `everything` only those come that can still move
    or that decide about new ones: the live ones, the once-per-ticket ones and the newest of each metric.
    """
    rows = await uow.rows(_ALL if everything else _CURRENT, {"ids": list(inquiry_ids)})
    return _grouped(inquiry_ids, rows)


async def load_due(uow: UnitOfWork, inquiry_ids: Sequence[int]) -> dict[int, Stored]:
    """Of these inquiries, which must be locked, only the clocks that are due: firing looks at nothing else."""
    return _grouped(inquiry_ids, await uow.rows(_DUE, {"ids": list(inquiry_ids), "now": uow.now}))


async def is_due(uow: UnitOfWork, inquiry_id: int) -> bool:
    """Whether a clock of this inquiry, which must be locked, has a step to fire."""
    return await uow.row(_IS_DUE, {"inquiry": inquiry_id, "now": uow.now}) is not None


def _grouped(inquiry_ids: Sequence[int], found: Iterable[Mapping[str, Any]]) -> dict[int, Stored]:
    rows: dict[int, list[Mapping[str, Any]]] = {i: [] for i in inquiry_ids}
    for row in found:
        rows[row["inquiry_id"]].append(row)
    return {i: stored_of(i, mine) for i, mine in rows.items()}


def stored_of(inquiry_id: int, rows: Sequence[Mapping[str, Any]]) -> Stored:
    clocks = {clock.key: (clock, row) for row in rows for clock in (clock_of(row),)}
    memory: Mapping[str, Any] = clocks[HOME][1]["data"].get("ticket", {}) if HOME in clocks else {}
    facts = TicketFacts.from_data(memory["facts"]) if "facts" in memory else TicketFacts()
    return Stored(
        inquiry_id,
        TicketClocks(facts, tuple(clocks[key][0] for key in sorted(clocks))),
        Note.from_data(memory),
        {key: int(row["id"]) for key, (_, row) in clocks.items()},
        known="facts" in memory,
    )


def changed_rows(before: Stored, after: TicketClocks, note: Note) -> list[dict[str, Any]]:
    """The rows to write so that the database holds `after`."""
    old = {clock.key: clock for clock in before.state.clocks}
    moved = before.state.facts != after.facts or before.note != note
    rows = []
    for clock in after.clocks:
        at_home = clock.key == HOME
        if old.get(clock.key) == clock and not (at_home and moved):
            continue
        memory = {"facts": after.facts.to_data(), "policy_id": note.policy_id, "priority": note.priority}
        rows.append(values_of(before.inquiry_id, clock, memory if at_home else None))
    return rows


async def save(
    uow: UnitOfWork,
    rows: Sequence[Mapping[str, Any]],
    ids: Mapping[tuple[int, Metric, int], int],
    *,
    only: tuple[str, ...] | None = None,
) -> dict[tuple[int, Metric, int], int]:
    """Write clock rows: those with a known id (`ids`) are overwritten, the others inserted. Returns the new ids.

    `only` names the columns that can have changed. Statements are built once and rows go as parameters: building a
    statement with the rows in it costs several times what the database does.
    """
    new: list[Mapping[str, Any]] = []
    old: list[dict[str, Any]] = []
    names = only if only is not None else _MUTABLE
    for row in rows:
        clock_id = ids.get(_key(row))
        if clock_id is None:
            new.append(row)
        else:
            old.append({"clock_id": clock_id, **{f"new_{name}": row[name] for name in names}})
    if old:
        await uow.execute_many(_overwrite(names), old)
    made: dict[tuple[int, Metric, int], int] = {}
    if len(new) <= _FEW:
        batch, add = Batch(), _add_one(uow.dialect)
        ids_of = {_key(row): batch.add(add, row) for row in new}
        await batch.run(uow.conn)
        return {key: int(batch.value(made_id)) for key, made_id in ids_of.items()}
    for clock_id, inquiry_id, metric, instance in await uow.execute(_add(uow.dialect), new):
        made[inquiry_id, Metric(metric), instance] = int(clock_id)
    return made


def _key(row: Mapping[str, Any]) -> tuple[int, Metric, int]:
    return row["inquiry_id"], Metric(row["metric"]), row["instance"]


@lru_cache(maxsize=8)
def _overwrite(names: tuple[str, ...]) -> Prepared:
    values: dict[str, Any] = {name: bindparam(f"new_{name}", required=True) for name in names}
    return Prepared(
        update(sla_clock)
        .where(sla_clock.c.id == bindparam("clock_id", required=True))
        .values(values | {"version": sla_clock.c.version + 1})
    )


@lru_cache(maxsize=2)
def _add(dialect: str) -> Insert:
    """An insert that overwrites: a clock that was there and not loaded must not stop anybody's message."""
    new = (postgresql if dialect == "postgresql" else sqlite).insert(sla_clock)
    overwritten = {name: new.excluded[name] for name in _MUTABLE} | {"version": sla_clock.c.version + 1}
    statement: Insert = new.on_conflict_do_update(index_elements=list(_KEY), set_=overwritten).returning(
        sla_clock.c.id, sla_clock.c.inquiry_id, sla_clock.c.metric, sla_clock.c.instance
    )
    return statement


@lru_cache(maxsize=2)
def _add_one(dialect: str) -> Prepared:
    return Prepared(_add(dialect), columns=sorted(_COLUMNS - {"id"}))


async def add_events(
    uow: UnitOfWork, rows: Sequence[Mapping[str, Any]], *, with_ids: bool = True
) -> list[int | None]:
    """Append to the ledger, in the order given. A step that this clock has already is left out: None for its id.
    Without ids, which cost a third of it when there are hundreds, all are None.
    """
    if not with_ids:
        await uow.execute_many(_append_blind(uow.dialect), rows)
        return [None] * len(rows)
    if len(rows) <= _FEW:
        return [await uow.scalar(_append_one(uow.dialect), row) for row in rows]
    made: dict[tuple[Any, ...], list[int]] = {}
    for row in await uow.execute(_append(uow.dialect), list(rows)):
        made.setdefault((row.clock_id, row.kind, row.at, row.step_key), []).append(int(row.id))
    # What comes back has no order of its own; entries that look alike are taken in the order of their ids.
    waiting = {key: iter(sorted(ids)) for key, ids in made.items()}
    return [
        next(waiting.get((row["clock_id"], row["kind"], row["at"], row["step_key"]), iter(())), None)
        for row in rows
    ]


@lru_cache(maxsize=2)
def _append(dialect: str) -> Insert:
    new = (postgresql if dialect == "postgresql" else sqlite).insert(sla_event)
    statement: Insert = new.on_conflict_do_nothing(index_elements=["clock_id", "step_key"]).returning(
        sla_event.c.id, sla_event.c.clock_id, sla_event.c.kind, sla_event.c.at, sla_event.c.step_key
    )
    return statement


@lru_cache(maxsize=2)
def _append_blind(dialect: str) -> Prepared:
    unless = insert_unless(dialect, sla_event, ["clock_id", "step_key"])
    return Prepared(unless, columns=[c.name for c in sla_event.c if c.name != "id"])


@lru_cache(maxsize=2)
def _append_one(dialect: str) -> Prepared:
    return Prepared(_append(dialect), columns=[c.name for c in sla_event.c if c.name != "id"])


def event_values(
    event: SlaEvent, *, clock_id: int, inquiry_id: int, recorded_at: int, data: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "clock_id": clock_id, "inquiry_id": inquiry_id, "kind": str(event.kind), "at": event.at,
        "cause": event.cause[:80] if event.cause else None, "step_key": event.step_key,
        "data": {**data, **(event.data or {})}, "recorded_at": recorded_at,
    }  # fmt: skip


def _live_inquiries(*conditions: ColumnElement[bool]) -> Prepared:
    return Prepared(
        select(sla_clock.c.inquiry_id)
        .where(IS_LIVE, sla_clock.c.inquiry_id > bindparam("after", required=True), *conditions)
        .group_by(sla_clock.c.inquiry_id)
        .order_by(sla_clock.c.inquiry_id)
        .limit(bindparam("limit", required=True))
    )


_LIVE_INQUIRIES = _live_inquiries()
_LIVE_OF_CALENDAR = _live_inquiries(sla_clock.c.calendar_id == bindparam("calendar_id", required=True))


async def live_inquiries(
    conn: AsyncConnection, *, after: int, limit: int, calendar_id: int | None = None
) -> list[int]:
    """Inquiries behind `after` that have a live clock (of a calendar), in order of id."""
    statement = _LIVE_INQUIRIES if calendar_id is None else _LIVE_OF_CALENDAR
    wanted = {"after": after, "limit": limit, "calendar_id": calendar_id}
    return [int(row["inquiry_id"]) for row in await fetch(conn, statement, wanted)]
