"""How the time of one clock was counted: its runs and pauses, with the reason and the hours of each.

Owns reading `sla_event`; the ledger itself is written by `routing.sla.record` and never changed. The segments say
what a supervisor asks when a deadline surprises him: when did it run, by whose hours, why did it stop.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.clock import to_iso
from crm_core.errors import NotFound
from routing.business_time import ALWAYS_OPEN, Calendar
from routing.schema import sla_clock, sla_event
from routing.sla import book as books
from routing.sla import store
from routing.sla.clock import Clock, ClockState, EventKind

_ENDS = (EventKind.FULFIL, EventKind.CANCEL)


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of one clock's life. `end` None: it lasts. `counted_ms` is what it adds to the elapsed time, in the
    measure that was in force then; a pause or an end adds nothing.
    """

    start: int
    end: int | None
    what: str
    """ran, paused, or over (between an end and a reopening)"""
    why: str | None
    business: bool
    calendar_id: int | None
    calendar_version: int | None
    target_ms: int | None
    counted_ms: int

    def as_data(self) -> dict[str, Any]:
        return {
            "start": to_iso(self.start),
            "end": None if self.end is None else to_iso(self.end),
            "what": self.what,
            "why": self.why,
            "business": self.business,
            "calendar_id": self.calendar_id,
            "calendar_version": self.calendar_version,
            "target_ms": self.target_ms,
            "counted_ms": self.counted_ms,
        }


async def entries(conn: AsyncConnection, clock_id: int) -> list[dict[str, Any]]:
    """The ledger of a clock as it was written, oldest first. Raises NotFound."""
    await _clock(conn, clock_id)
    statement = select(sla_event).where(sla_event.c.clock_id == clock_id).order_by(sla_event.c.id)
    return [
        {
            "id": row["id"],
            "kind": row["kind"],
            "at": to_iso(row["at"]),
            "recorded_at": to_iso(row["recorded_at"]),
            "cause": row["cause"],
            "step_key": row["step_key"],
            "data": row["data"],
        }
        for row in (await conn.execute(statement)).mappings()
    ]


async def segments(conn: AsyncConnection, clock_id: int, now: int) -> list[Segment]:
    """Runs and pauses of a clock up to `now`, oldest first. Raises NotFound."""
    clock = await _clock(conn, clock_id)
    statement = select(sla_event).where(sla_event.c.clock_id == clock_id).order_by(sla_event.c.id)
    rows = [dict(row) for row in (await conn.execute(statement)).mappings()]
    return cut(rows, clock, await books.load(conn), now)


def cut(rows: Sequence[Mapping[str, Any]], clock: Clock, book: books.Book, now: int) -> list[Segment]:
    """Segments of ledger rows. Pure."""
    found: list[Segment] = []
    what, why, start, terms = "", None, 0, _Terms()
    for row in rows:
        kind, at, data = EventKind(row["kind"]), row["at"], row["data"]
        then, reason = _next(kind, row, what)
        after = _Terms.of(data)
        if kind is EventKind.RETARGET and "new_activated_at" in data and found == [] and what:
            start = min(start, data["new_activated_at"])
        if (
            kind is EventKind.REOPEN
            and row["cause"] == "send_failed"
            and data.get("fulfilled_at") is not None
        ):
            # The reply did not arrive: the time since it counted as if nothing had been.
            at = data["fulfilled_at"]
        if then == what and after == terms:
            continue
        if what and at > start:
            found.append(_segment(start, at, what, why, terms, book, at))
        if not what or then != what:
            why = reason
        what, start, terms = then, max(at, start), after
    if what and what != "over":
        lasts = clock.state in (ClockState.ACTIVE, ClockState.PAUSED)
        found.append(_segment(start, None if lasts else now, what, why, terms, book, now))
    return found


@dataclass(frozen=True, slots=True)
class _Terms:
    business: bool = True
    calendar_id: int | None = None
    calendar_version: int | None = None
    target_ms: int | None = None

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "_Terms":
        return cls(
            data.get("business", True),
            data.get("calendar_id"),
            data.get("calendar_version"),
            data.get("target_ms"),
        )

    def hours(self, book: books.Book) -> Calendar:
        if not self.business or self.calendar_id is None:
            return ALWAYS_OPEN
        return book.calendars.get((self.calendar_id, self.calendar_version or 0), ALWAYS_OPEN)


def _next(kind: EventKind, row: Mapping[str, Any], what: str) -> tuple[str, str | None]:
    """What the clock does after an entry, and why."""
    reasons = row["data"].get("reasons") or []
    if kind is EventKind.PAUSE:
        return "paused", ", ".join(reasons) or row["cause"]
    if kind in _ENDS:
        return "over", row["cause"]
    if kind is EventKind.REOPEN and row["cause"] == "send_failed":
        return "ran", row["cause"]  # a pause that held meanwhile is an entry of its own
    if kind in (EventKind.ACTIVATE, EventKind.REOPEN):
        held = row["data"].get("pause_reasons") or []
        return ("paused", ", ".join(held)) if held else ("ran", row["cause"])
    if kind is EventKind.RESUME:
        return "ran", row["cause"]
    return what, None


def _segment(
    start: int, end: int | None, what: str, why: str | None, terms: _Terms, book: books.Book, until: int
) -> Segment:
    counted = terms.hours(book).elapsed(start, until) if what == "ran" else 0
    return Segment(
        start,
        end,
        what,
        why,
        terms.business,
        terms.calendar_id,
        terms.calendar_version,
        terms.target_ms,
        counted,
    )


async def _clock(conn: AsyncConnection, clock_id: int) -> Clock:
    row = (await conn.execute(select(sla_clock).where(sla_clock.c.id == clock_id))).mappings().first()
    if row is None:
        raise NotFound(f"no SLA clock {clock_id}")
    return store.clock_of(dict(row))
