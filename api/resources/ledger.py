"""How promises were counted, segment by segment, for people who want to check it: JSON and CSV."""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.layer.fields import Instant, InstantOut, OpenOut, Out, Query, RowId
from api.layer.routes import Call, Data, Routes
from api.resources.csv_answer import groups_of, send_rows, zone_of
from api.resources.inquiry_shapes import ClockOut, PolicyRefOut
from crm_core import sheet
from crm_core.access import access_inquiry
from crm_core.clock import DAY
from crm_core.errors import Invalid, NotFound
from crm_core.views import NUMBER_BASE
from routing.schema import sla_clock
from routing.sla import ledger
from routing.sla.clock import Metric

routes = Routes("sla")

Zone = Annotated[str, Field(max_length=60, description="IANA name; the organisation's if left out")]
#: as much as one export may cover
MAX_PERIOD_MS = 400 * DAY


class ZoneQuery(Query):
    zone: Zone | None = None


class ExportQuery(ZoneQuery):
    begin: Annotated[Instant, Field(description="of the period, inclusive")]
    end: Annotated[Instant, Field(description="of the period, exclusive")]
    metric: Literal[tuple(str(m) for m in Metric)] | None = None  # type: ignore[valid-type]


class OpenSpanOut(Out):
    start: InstantOut
    end: InstantOut
    local: str


class SegmentOut(Out):
    start: InstantOut
    end: InstantOut | None
    what: Literal["ran", "paused", "over"]
    why: str | None
    business: bool
    calendar_id: int | None
    calendar_version: int | None
    calendar: str | None
    zone: str
    target_ms: int | None
    policy: Annotated[PolicyRefOut | None, Field(description="the version that promised it")]
    priority: str | None
    counted_ms: int
    total_ms: int
    due_at: InstantOut | None
    breach_at: InstantOut | None
    open: list[OpenSpanOut]
    open_more: bool


class ProofOut(OpenOut):
    sum_ms: int
    engine_ms: int
    agrees: bool
    breached_at: InstantOut | None
    elapsed_at_breach_ms: int | None
    target_ms: int | None
    cause: str | None


class AccountOut(Out):
    clock: ClockOut
    segments: list[SegmentOut]
    proof: ProofOut


async def _allowed(call: Call, conn: AsyncConnection, clock_id: int) -> None:
    owner = (await conn.execute(select(sla_clock.c.inquiry_id).where(sla_clock.c.id == clock_id))).scalar()
    if owner is None:
        raise NotFound(f"no clock {clock_id}", params={"clock_id": clock_id})
    await access_inquiry(conn, call.actor, owner)


@routes.get("/sla/clocks/{id}/ledger")
async def clock_ledger(call: Call, conn: AsyncConnection, id: RowId) -> Annotated[Data, AccountOut]:  # noqa: A002
    """How a clock was counted: its runs and pauses, the hours of each, the running total, the deadline, the proof.

    `counted_ms` of all segments add up to the elapsed time; `open` lists the working hours within a segment.
    """
    await _allowed(call, conn, id)
    return ledger.account_view(await ledger.account(conn, id, call.now), call.now)


@routes.get("/sla/clocks/{id}/ledger.csv", produces="text/csv")
async def clock_ledger_csv(
    call: Call,
    conn: AsyncConnection,
    id: RowId,  # noqa: A002
    query: ZoneQuery,
) -> web.StreamResponse:
    """The same as a spreadsheet, in local time of `zone`."""
    await _allowed(call, conn, id)
    zone = zone_of(query.zone or await ledger.default_zone(conn))
    one = await ledger.account(conn, id, call.now)
    return await send_rows(call, f"clock-{id}", ledger.header(zone), groups_of(ledger.sheet_rows(one, zone)))


@routes.get("/inquiries/{id}/ledger.csv", produces="text/csv")
async def inquiry_ledger_csv(
    call: Call,
    conn: AsyncConnection,
    id: RowId,  # noqa: A002
    query: ZoneQuery,
) -> web.StreamResponse:
    """All clocks of an inquiry as one spreadsheet."""
    await access_inquiry(conn, call.actor, id)
    zone = zone_of(query.zone or await ledger.default_zone(conn))
    found = await ledger.of_inquiry(conn, id, call.now)
    rows = [row for one in found for row in ledger.sheet_rows(one, zone)]
    return await send_rows(call, f"inquiry-{id + NUMBER_BASE}", ledger.header(zone), groups_of(rows))


@routes.get("/sla/ledger.csv", role="supervisor", produces="text/csv")
async def period_ledger_csv(call: Call, conn: AsyncConnection, query: ExportQuery) -> web.StreamResponse:
    """Every clock decided in a period (fulfilled or broken, whichever came first), segment by segment."""
    check_period(query.begin, query.end)
    zone = zone_of(query.zone or await ledger.default_zone(conn))
    return await send_rows(
        call, f"sla-{query.begin}-{query.end}", ledger.header(zone), _period(call, conn, query, zone)
    )


async def _period(
    call: Call, conn: AsyncConnection, query: ExportQuery, zone: Any
) -> AsyncIterator[Iterable[Sequence[sheet.Cell]]]:
    async for one in ledger.decided(conn, query.begin, query.end, call.now, metric=query.metric):
        yield ledger.sheet_rows(one, zone)


def check_period(begin: int, end: int, longest_ms: int = MAX_PERIOD_MS) -> None:
    """Raises Invalid for a period that is empty, turned round or longer than may be asked for at once."""
    if end <= begin:
        raise Invalid("the period ends before it begins", code="bad_period")
    if end - begin > longest_ms:
        raise Invalid(f"at most {longest_ms // DAY} days at once", code="bad_period")
