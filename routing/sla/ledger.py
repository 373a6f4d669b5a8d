"""How the time of one clock was counted: its runs and pauses, with the reason and the hours of each.

Owns reading `sla_event` and showing it; the entries themselves are written by `routing.sla.record` and never changed,
and the arithmetic is `routing.sla.ledger_cut`. The segments say what a customer asks when a promise was broken: when
did it run, by whose hours, why did it stop, and do the hours add up.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import literal_column, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core import sheet
from crm_core.clock import to_iso
from crm_core.errors import NotFound
from crm_core.schema import setting
from crm_core.views import NUMBER_BASE
from routing.schema import sla_clock, sla_event
from routing.sla import book as books
from routing.sla import ledger_cut, store, timing, views
from routing.sla.clock import Clock, ClockState
from routing.sla.ledger_cut import RAN, Proof, Segment

#: open intervals listed per segment; a longer one says that there are more
MAX_OPEN = 200
_PAGE = 200
#: exactly the predicate of the index ix_sla_event_decided, in literals: SQLite takes it for no other
DECIDED = sla_event.c.kind.in_(
    [literal_column(f"'{kind}'") for kind in ("breach", "fulfil", "reopen", "cancel")]
)
_DECISIVE = ("breach", "fulfil")


@dataclass(frozen=True, slots=True)
class Account:
    """One clock, taken apart up to an instant."""

    row: Mapping[str, Any]
    clock: Clock
    segments: list[Segment]
    proof: Proof
    book: books.Book

    @property
    def hours(self) -> ledger_cut.Hours:
        return self.book.rules([self.clock]).calendar


async def entries(conn: AsyncConnection, clock_id: int) -> list[dict[str, Any]]:
    """The ledger of a clock as it was written, oldest first. Raises NotFound."""
    await _rows_of(conn, [clock_id])
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
    return (await account(conn, clock_id, now)).segments


async def account(conn: AsyncConnection, clock_id: int, now: int) -> Account:
    """One clock taken apart. Raises NotFound."""
    rows = await _rows_of(conn, [clock_id])
    return (await accounts(conn, rows, now))[0]


async def accounts(conn: AsyncConnection, rows: Sequence[Mapping[str, Any]], now: int) -> list[Account]:
    """Rows of sla_clock, each taken apart, with one query for the entries of all."""
    if not rows:
        return []
    book = await books.load(conn)
    written: dict[int, list[Mapping[str, Any]]] = {row["id"]: [] for row in rows}
    statement = (
        select(sla_event.c.clock_id, sla_event.c.kind, sla_event.c.at, sla_event.c.cause, sla_event.c.data)
        .where(sla_event.c.clock_id.in_(list(written)))
        .order_by(sla_event.c.clock_id, sla_event.c.id)
    )
    for entry in (await conn.execute(statement)).mappings():
        written[entry["clock_id"]].append(dict(entry))
    found = []
    for row in rows:
        clock = store.clock_of(row)
        rules = book.rules([clock])
        pieces = ledger_cut.cut(written[row["id"]], clock, rules.calendar, now)
        engine = timing.elapsed_ms(clock, now, rules)
        proof = ledger_cut.prove(pieces, written[row["id"]], clock, engine, rules.calendar)
        found.append(Account(row, clock, pieces, proof, book))
    return found


def account_view(one: Account, now: int) -> dict[str, Any]:
    """{"clock", "segments": [...], "proof"} as the API shows them: instants in ISO 8601 UTC, `local` in the zone of the
    hours.
    """
    proof = one.proof
    return {
        "clock": views.clock_view(one.row, now, one.book),
        "segments": [_segment_view(one, piece) for piece in one.segments],
        "proof": {
            "sum_ms": proof.sum_ms,
            "engine_ms": proof.engine_ms,
            "agrees": proof.agrees,
            "breached_at": _iso(proof.breached_at),
            "elapsed_at_breach_ms": proof.elapsed_at_breach_ms,
            "target_ms": proof.target_ms,
            "cause": proof.cause,
        },
    }


def _segment_view(one: Account, piece: Segment) -> dict[str, Any]:
    hours = one.hours(*piece.terms.hours)
    found = ledger_cut.open_within(piece, one.clock, one.hours, MAX_OPEN + 1)
    zone = ZoneInfo(hours.spec.tz)
    return {
        "start": to_iso(piece.start),
        "end": _iso(piece.end),
        "what": piece.what,
        "why": piece.why,
        "business": piece.terms.business,
        "calendar_id": piece.terms.calendar_id,
        "calendar_version": piece.terms.calendar_version,
        "calendar": calendar_name(one.book, piece.terms.calendar_id),
        "zone": hours.spec.tz,
        "target_ms": piece.terms.target_ms,
        "policy": views.policy_view(one.book, piece.terms.policy_id),
        "priority": piece.terms.priority,
        "counted_ms": piece.counted_ms,
        "total_ms": piece.total_ms,
        "due_at": _iso(piece.due_at),
        "breach_at": _iso(piece.breach_at),
        "open": [
            {"start": to_iso(a), "end": to_iso(b), "local": _span(a, b, zone)} for a, b in found[:MAX_OPEN]
        ],
        "open_more": len(found) > MAX_OPEN,
    }


def calendar_name(book: books.Book, calendar_id: int | None) -> str | None:
    names = (c.name for (i, _), c in book.calendars.items() if i == calendar_id and c.name)
    return None if calendar_id is None else next(names, None)


def _span(a: int, b: int, zone: ZoneInfo) -> str:
    start, end = sheet.local(a, zone) or "", sheet.local(b, zone) or ""
    return f"{start[:19]} - {end[11:19] if end[:10] == start[:10] else end[:19]}"


# --- for spreadsheets -----------------------------------------------------------------------------------------
def header(zone: ZoneInfo) -> list[str]:
    at = zone.key
    return [
        "inquiry", "clock", "metric", "instance", "segment", "what", "why", f"start ({at})", f"end ({at})",
        "policy", "policy version", "priority", "calendar", "calendar version", "counts", "target (s)",
        "counted (s)", "total (s)", f"due ({at})", f"in time until ({at})", f"broken ({at})", "sum agrees",
        f"open hours ({at})",
    ]  # fmt: skip


def sheet_rows(one: Account, zone: ZoneInfo) -> list[list[sheet.Cell]]:
    """A line per segment of one clock, in the order of `header`."""
    made: list[list[sheet.Cell]] = []
    for number, piece in enumerate(one.segments, 1):
        found = ledger_cut.open_within(piece, one.clock, one.hours, MAX_OPEN + 1)
        spans = [_span(a, b, zone) for a, b in found[:MAX_OPEN]] + (["…"] if len(found) > MAX_OPEN else [])
        policy = views.policy_view(one.book, piece.terms.policy_id) or {}
        broken = one.clock.breached_at
        here = broken is not None and piece.start <= broken < max(piece.until, piece.start + 1)
        made.append(
            [
                one.row["inquiry_id"] + NUMBER_BASE, one.row["id"], str(one.clock.metric), one.clock.instance,
                number, piece.what, piece.why, sheet.local(piece.start, zone), sheet.local(piece.end, zone),
                policy.get("name"), policy.get("version"), piece.terms.priority,
                calendar_name(one.book, piece.terms.calendar_id), piece.terms.calendar_version,
                "working hours" if one.clock.business else "all hours",
                sheet.seconds(piece.terms.target_ms), sheet.seconds(piece.counted_ms),
                sheet.seconds(piece.total_ms), sheet.local(piece.due_at, zone),
                sheet.local(piece.breach_at, zone), sheet.local(broken, zone) if here else None,
                one.proof.agrees, "; ".join(spans) if piece.what == RAN else None,
            ]
        )  # fmt: skip
    return made


async def of_inquiry(conn: AsyncConnection, inquiry_id: int, now: int) -> list[Account]:
    """All clocks an inquiry ever had, in order of id."""
    statement = select(sla_clock).where(sla_clock.c.inquiry_id == inquiry_id).order_by(sla_clock.c.id)
    return await accounts(conn, [dict(r) for r in (await conn.execute(statement)).mappings()], now)


async def decided(
    conn: AsyncConnection, begin: int, end: int, now: int, *, metric: str | None = None
) -> AsyncIterator[Account]:
    """Clocks whose deciding moment (fulfilment or breach, whichever came first) lies in [begin, end), page by page.

    Cancelled and merged ones are left out, as in reports.
    """
    behind = (begin, 0)
    while True:
        page = (
            select(sla_event.c.at, sla_event.c.id, sla_event.c.kind, sla_event.c.clock_id)
            .where(
                DECIDED, sla_event.c.kind.in_(_DECISIVE), sla_event.c.at < end,
                tuple_(sla_event.c.at, sla_event.c.id) > behind,
            )
            .order_by(sla_event.c.at, sla_event.c.id)
            .limit(_PAGE)
        )  # fmt: skip
        moments = (await conn.execute(page)).all()
        if not moments:
            return
        behind = (int(moments[-1].at), int(moments[-1].id))
        wanted = select(sla_clock).where(sla_clock.c.id.in_({m.clock_id for m in moments}))
        if metric is not None:
            wanted = wanted.where(sla_clock.c.metric == metric)
        rows = {row["id"]: dict(row) for row in (await conn.execute(wanted)).mappings()}
        taken: dict[int, Mapping[str, Any]] = {}
        for moment in moments:
            row = rows.get(moment.clock_id)
            if row is not None and decides(row, str(moment.kind), int(moment.at)):
                taken[row["id"]] = row
        for one in await accounts(conn, list(taken.values()), now):
            yield one


def decides(row: Mapping[str, Any], kind: str, at: int) -> bool:
    """Whether this entry is the deciding moment of its clock, as the clock is now."""
    if row["state"] == ClockState.CANCELLED or row["cause"] == "merge":
        return False
    if row["breached_at"] is not None and (
        row["fulfilled_at"] is None or row["breached_at"] <= row["fulfilled_at"]
    ):
        return kind == "breach" and bool(row["breached_at"] == at)
    return kind == "fulfil" and bool(row["fulfilled_at"] == at)


async def default_zone(conn: AsyncConnection) -> str:
    """The zone of the organisation's calendar; UTC where there is none."""
    wanted = (
        await conn.execute(select(setting.c.value).where(setting.c.key == books.DEFAULT_CALENDAR))
    ).scalar()
    book = await books.load(conn)
    found = [c for (i, _), c in book.calendars.items() if i == wanted]
    return found[-1].spec.tz if found else "UTC"


async def _rows_of(conn: AsyncConnection, clock_ids: Sequence[int]) -> list[Mapping[str, Any]]:
    statement = select(sla_clock).where(sla_clock.c.id.in_(clock_ids))
    rows: list[Mapping[str, Any]] = [dict(r) for r in (await conn.execute(statement)).mappings()]
    if len(rows) < len(clock_ids):
        raise NotFound(f"no SLA clock {clock_ids[0]}", params={"clock_id": clock_ids[0]})
    return rows


def _iso(ms: int | None) -> str | None:
    return None if ms is None else to_iso(ms)
