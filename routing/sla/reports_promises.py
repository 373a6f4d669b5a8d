"""What became of promises, of solved requests and of what is open: the reports sla, resolution and backlog.

Reads the ledger (`sla_event`) by the index of decided entries, page by page; the clock's row only tells whether an
entry still is the deciding one. A reopened clock is decided again later, a cancelled or merged one never.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Integer, String, literal_column, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.clock import DAY
from crm_core.schema import inquiry
from routing import reporting
from routing.schema import sla_clock, sla_event
from routing.sla import store
from routing.sla.ledger import DECIDED, decides
from routing.sla.reports import Numbers, Question, Table, answer

#: rows read at once: what is done with them holds up the loop, so they are few
_PAGE = 500
#: a solve proves itself by this much quiet
FCR_WINDOW_MS = 7 * DAY

SLA_VARIANTS = {
    "unit": "a clock (one promise of one request), in the interval of its deciding moment: fulfilment or breach,"
    " whichever came first",
    "met_pct": "met / (met + breached); cancelled, merged and still open unbroken clocks are in neither",
    "attribution": "team, agent, channel and priority, and the target, as they were at the deciding moment",
    "elapsed_s, overrun_s": "of the decided clocks that have ended: time in the measure of the promise (working hours"
    " or all hours), and what exceeds the target (0 if met); median and 90th percentile",
    "breached_open": "live clocks with a broken promise now, by their present team and agent; in the total only",
}
RESOLUTION_VARIANTS = {
    "unit": "a solving, in the interval of its moment; a request solved twice counts twice, merged and spam never",
    "fcr_pct": "solved for good / solved with the 7 days over: not opened again and no new request of the contact",
    "reopen_pct": "openings of solved requests in the interval / solvings in the interval",
    "elapsed_s": "of total_resolution at the solving, in the measure of its promise (all hours without one)",
}
BACKLOG_VARIANTS = {
    "unit": "an open request, as of made_at; begin, end and bucket do not apply",
    "breached": "of the open ones: with a live promise of any kind that is broken now",
    "age_s": "made_at - beginning of its requester_wait, calendar time; percentiles by linear interpolation",
    "attribution": "present team, agent, channel and priority",
}


def fact(name: str, kind: type[Integer] | type[String]) -> ColumnElement[Any]:
    """A member of an entry's data: what was so at its moment."""
    member = sla_event.c.data[name]
    typed: ColumnElement[Any] = member.as_integer() if kind is Integer else member.as_string()
    return typed.label(name)


_AT_THAT_MOMENT = (
    fact("team_id", Integer),
    fact("agent_id", Integer),
    fact("channel", String),
    fact("priority", String),
    fact("target_ms", Integer),
    fact("elapsed_ms", Integer),
)


# --- sla ------------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class Promises:
    met: int = 0
    breached: int = 0
    elapsed: list[int] = field(default_factory=list)
    overrun: list[int] = field(default_factory=list)
    breached_open: int | None = None

    def numbers(self) -> Numbers:
        shown: Numbers = {
            "decided": self.met + self.breached,
            "met": self.met,
            "breached": self.breached,
            "met_pct": reporting.met_pct(self.met, self.breached),
            "ended": len(self.elapsed),
            "elapsed_median_s": _s(reporting.percentile(self.elapsed, 50)),
            "elapsed_p90_s": _s(reporting.percentile(self.elapsed, 90)),
            "overrun_median_s": _s(reporting.percentile(self.overrun, 50)),
            "overrun_p90_s": _s(reporting.percentile(self.overrun, 90)),
        }
        return shown if self.breached_open is None else shown | {"breached_open": self.breached_open}


async def sla(conn: AsyncConnection, question: Question, now: int) -> dict[str, Any]:
    table = Table.of(question, Promises)
    seen: set[int] = set()
    async for row in _decided(conn, question.begin, question.end):
        if row["target_ms"] is None or row["clock_id"] in seen:
            continue
        if not decides(row, row["kind"], row["at"]):
            continue
        seen.add(row["clock_id"])
        for cell in table.at(row["at"], _facts(row)):
            if row["kind"] == "breach":
                cell.breached += 1
            else:
                cell.met += 1
            if row["fulfilled_at"] is not None:
                cell.elapsed.append(row["consumed_ms"])
                # A broken promise whose target was taken away later keeps the target it was broken with.
                target = row["now_target_ms"] if row["now_target_ms"] is not None else row["target_ms"]
                cell.overrun.append(reporting.overrun_ms(row["consumed_ms"], target))
    table.total.breached_open = await _breached_open(conn, question)
    return await answer(conn, "sla", table, SLA_VARIANTS, now)


async def _decided(
    conn: AsyncConnection, begin: int, end: int, *more: ColumnElement[bool]
) -> AsyncIterator[Mapping[str, Any]]:
    """Fulfilments and breaches in [begin, end) with their clocks as they are now, in order of time."""
    behind = (begin, 0)
    while True:
        statement = (
            select(
                sla_event.c.at, sla_event.c.id, sla_event.c.kind, sla_event.c.clock_id, sla_event.c.inquiry_id,
                *_AT_THAT_MOMENT, sla_clock.c.metric, sla_clock.c.state, sla_clock.c.cause,
                sla_clock.c.breached_at, sla_clock.c.fulfilled_at, sla_clock.c.consumed_ms,
                sla_clock.c.target_ms.label("now_target_ms"),
            )
            .join(sla_clock, sla_clock.c.id == sla_event.c.clock_id)
            .where(
                DECIDED, sla_event.c.kind.in_(("breach", "fulfil")), sla_event.c.at < end,
                tuple_(sla_event.c.at, sla_event.c.id) > behind, *more,
            )
            .order_by(sla_event.c.at, sla_event.c.id)
            .limit(_PAGE)
        )  # fmt: skip
        rows = (await conn.execute(statement)).mappings().all()
        for row in rows:
            yield dict(row)
        if len(rows) < _PAGE:
            return
        behind = (rows[-1]["at"], rows[-1]["id"])


def _facts(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "team": row["team_id"],
        "agent": row["agent_id"],
        "channel": row["channel"],
        "metric": row["metric"],
        "priority": row["priority"],
    }


async def _breached_open(conn: AsyncConnection, question: Question) -> int:
    """By the index of open broken clocks; bounded by what is open."""
    statement = (
        select(
            inquiry.c.team_id, inquiry.c.assignee_id.label("agent_id"), inquiry.c.channel, inquiry.c.priority,
            sla_clock.c.metric,
        )
        .join(inquiry, inquiry.c.id == sla_clock.c.inquiry_id)
        .where(_live(), sla_clock.c.breached_at.is_not(None))
    )  # fmt: skip
    return sum(question.wants(_facts(dict(row))) for row in (await conn.execute(statement)).mappings())


async def _broken_requests(conn: AsyncConnection) -> set[int]:
    """Requests with a broken live promise. The wait of the customer itself hardly ever has a target to break."""
    statement = select(sla_clock.c.inquiry_id).where(_live(), sla_clock.c.breached_at.is_not(None))
    return set((await conn.execute(statement)).scalars())


def _live() -> ColumnElement[bool]:
    # In literals, as in the predicates of the indexes.
    return sla_clock.c.state.in_([literal_column(f"'{state}'") for state in store.LIVE])


# --- resolution -----------------------------------------------------------------------------------------------
@dataclass(slots=True)
class Solved:
    solved: int = 0
    reopened: int = 0
    judged: int = 0
    for_good: int = 0
    elapsed: list[int] = field(default_factory=list)

    def numbers(self) -> Numbers:
        return {
            "solved": self.solved,
            "reopened": self.reopened,
            "reopen_pct": reporting.percent(self.reopened, self.solved),
            "fcr_judged": self.judged,
            "fcr": self.for_good,
            "fcr_pct": reporting.percent(self.for_good, self.judged),
            "elapsed_median_s": _s(reporting.percentile(self.elapsed, 50)),
            "elapsed_p90_s": _s(reporting.percentile(self.elapsed, 90)),
        }


async def resolution(conn: AsyncConnection, question: Question, now: int) -> dict[str, Any]:
    table = Table.of(question, Solved)
    whole = sla_clock.c.metric == "total_resolution"
    page: list[Mapping[str, Any]] = []
    async for row in _decided(conn, question.begin, question.end, whole, sla_event.c.kind == "fulfil"):
        if row["state"] == "cancelled" or row["cause"] == "merge":
            continue
        page.append(row)
        if len(page) == _CHUNK:
            await _judge(conn, table, page, now)
            page = []
    if page:
        await _judge(conn, table, page, now)
    reopened = (
        select(sla_event.c.at, *_AT_THAT_MOMENT, sla_clock.c.metric)
        .join(sla_clock, sla_clock.c.id == sla_event.c.clock_id)
        .where(
            DECIDED, sla_event.c.kind == "reopen", whole,
            sla_event.c.at >= question.begin, sla_event.c.at < question.end,
        )
    )  # fmt: skip
    for reopening in (await conn.execute(reopened)).mappings():
        for cell in table.at(reopening["at"], _facts(dict(reopening))):
            cell.reopened += 1
    return await answer(conn, "resolution", table, RESOLUTION_VARIANTS, now)


_CHUNK = 300


async def _judge(
    conn: AsyncConnection, table: Table[Solved], page: Sequence[Mapping[str, Any]], now: int
) -> None:
    """Adds a page of solvings, each judged by the seven days after it."""
    ids = {row["inquiry_id"] for row in page}
    first, last = page[0]["at"], page[-1]["at"] + FCR_WINDOW_MS
    opened_again: dict[int, list[int]] = {}
    again = select(sla_event.c.clock_id, sla_event.c.at).where(
        sla_event.c.clock_id.in_({row["clock_id"] for row in page}), sla_event.c.kind == "reopen"
    )
    for clock_id, at in await conn.execute(again):
        opened_again.setdefault(clock_id, []).append(at)
    person = {
        int(i): int(contact_id)
        for i, contact_id in await conn.execute(
            select(inquiry.c.id, inquiry.c.contact_id).where(inquiry.c.id.in_(ids))
        )
    }
    fresh: dict[int, list[tuple[int, int]]] = {}
    others = select(inquiry.c.contact_id, inquiry.c.id, inquiry.c.created_at).where(
        inquiry.c.contact_id.in_(set(person.values())),
        inquiry.c.created_at > first,
        inquiry.c.created_at <= last,
    )
    for contact_id, inquiry_id, at in await conn.execute(others):
        fresh.setdefault(contact_id, []).append((at, inquiry_id))
    for row in page:
        begin, stop = row["at"], row["at"] + FCR_WINDOW_MS
        came_back = any(begin < at <= stop for at in opened_again.get(row["clock_id"], ())) or any(
            begin < at <= stop and other != row["inquiry_id"]
            for at, other in fresh.get(person.get(row["inquiry_id"], 0), ())
        )
        for cell in table.at(begin, _facts(row)):
            cell.solved += 1
            cell.elapsed.append(row["elapsed_ms"] or 0)
            if stop <= now or came_back:
                cell.judged += 1
                cell.for_good += not came_back


# --- backlog --------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class Ages:
    ages: list[int] = field(default_factory=list)
    breached: int = 0

    def numbers(self) -> Numbers:
        return {
            "open": len(self.ages),
            "breached": self.breached,
            "age_p50_s": _s(reporting.percentile(self.ages, 50)),
            "age_p90_s": _s(reporting.percentile(self.ages, 90)),
            "age_max_s": _s(max(self.ages, default=None)),
        }


async def backlog(conn: AsyncConnection, question: Question, now: int) -> dict[str, Any]:
    table = Table.of(question, Ages)
    broken = await _broken_requests(conn)
    waits = sla_clock.c.metric == literal_column("'requester_wait'")
    behind = (0, 0)
    while True:
        statement = (
            select(
                sla_clock.c.activated_at, sla_clock.c.id, sla_clock.c.inquiry_id, sla_clock.c.metric,
                inquiry.c.team_id, inquiry.c.assignee_id.label("agent_id"), inquiry.c.channel,
                inquiry.c.priority,
            )
            .join(inquiry, inquiry.c.id == sla_clock.c.inquiry_id)
            .where(waits, _live(), tuple_(sla_clock.c.activated_at, sla_clock.c.id) > behind)
            .order_by(sla_clock.c.activated_at, sla_clock.c.id)
            .limit(_PAGE)
        )  # fmt: skip
        rows = (await conn.execute(statement)).mappings().all()
        for row in rows:
            facts = _facts(dict(row))
            if question.wants(facts):
                for cell in (table.total, table.cell(0, facts)):
                    cell.ages.append(max(0, now - row["activated_at"]))
                    cell.breached += row["inquiry_id"] in broken
        if len(rows) < _PAGE:
            return await answer(conn, "backlog", table, BACKLOG_VARIANTS, now)
        behind = (rows[-1]["activated_at"], rows[-1]["id"])


def _s(ms: float | None) -> float | None:
    return None if ms is None else ms / 1000
