"""Reports for supervisors: promises, service, handling, resolution and backlog, as data and as spreadsheets."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from aiohttp import web
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection

from api.layer.fields import Comma, Instant, InstantOut, OpenOut, RowId
from api.layer.routes import Call, Data, Routes
from api.resources.csv_answer import groups_of, send_rows, zone_of
from api.resources.ledger import ZoneQuery, check_period
from api.resources.named import check_named
from crm_core.clock import DAY
from routing.sla import ledger, reports, reports_promises, reports_queue
from routing.sla.clock import Metric

routes = Routes("reports", role="supervisor")

Report = Callable[[AsyncConnection, reports.Question, int], Awaitable[dict[str, Any]]]
_REPORTS: dict[str, Report] = {
    "sla": reports_promises.sla,
    "service": reports_queue.service,
    "handling": reports_queue.handling,
    "resolution": reports_promises.resolution,
    "backlog": reports_promises.backlog,
}
Name = Literal["sla", "service", "handling", "resolution", "backlog"]
Dimension = Literal["team", "agent", "channel", "metric", "priority"]


class ReportQuery(ZoneQuery):
    begin: Annotated[Instant, Field(description="of the period, inclusive; a day ago if left out")] | None = (
        None
    )
    end: Annotated[Instant, Field(description="of the period, exclusive; now if left out")] | None = None
    bucket: Annotated[
        Literal["15m", "30m", "60m", "day", "none"],
        Field(description="half-open intervals of local time in `zone`"),
    ] = "none"
    by: Annotated[list[Dimension], Comma, Field(max_length=5)] = Field(default_factory=list)
    team_id: RowId | None = None
    agent_id: RowId | None = None
    channel: Annotated[str, Field(pattern="^[a-z_]{1,20}$")] | None = None
    metric: Literal[tuple(str(m) for m in Metric)] | None = None  # type: ignore[valid-type]
    priority: Literal["low", "normal", "high", "urgent"] | None = None
    threshold_s: Annotated[int, Field(ge=1, le=86_400, description="T of the service level")] = 20
    short_s: Annotated[int, Field(ge=0, le=600, description="abandons faster than this are short")] = 5


class ReportOut(OpenOut):
    report: Name
    begin: InstantOut
    end: InstantOut
    zone: str
    bucket: str
    by: list[str]
    made_at: InstantOut
    variants: Annotated[dict[str, str], Field(description="how each number is counted")]
    rows: list[dict[str, Any]]
    total: dict[str, float | int | None]


async def _make(
    call: Call, conn: AsyncConnection, name: str, query: ReportQuery
) -> tuple[Data, reports.Question]:
    end = call.now if query.end is None else query.end
    begin = end - DAY if query.begin is None else query.begin
    check_period(begin, end)
    await check_named(conn, team_id=query.team_id, agent_id=query.agent_id)
    zone: ZoneInfo = zone_of(query.zone or await ledger.default_zone(conn))
    question = reports.Question(
        begin=begin,
        end=end,
        zone=zone,
        bucket=query.bucket,
        by=tuple(dict.fromkeys(query.by)),
        team_id=query.team_id,
        agent_id=query.agent_id,
        channel=query.channel,
        metric=query.metric,
        priority=query.priority,
        threshold_ms=query.threshold_s * 1000,
        short_ms=query.short_s * 1000,
    )
    return await _REPORTS[name](conn, question, call.now), question


# Before the other: {name} would take `sla.csv` for a name.
@routes.get("/reports/{name}.csv", produces="text/csv")
async def show_csv(call: Call, conn: AsyncConnection, name: Name, query: ReportQuery) -> web.StreamResponse:
    """A report as a spreadsheet; the last lines say how the numbers are counted."""
    report, question = await _make(call, conn, name, query)
    header, rows = reports.sheet_of(report, question)
    return await send_rows(call, f"{name}-{report['begin'][:10]}", header, groups_of(rows))


@routes.get("/reports/{name}")
async def show(
    call: Call, conn: AsyncConnection, name: Name, query: ReportQuery
) -> Annotated[Data, ReportOut]:
    """A report, each number with the custom it is counted by in `variants`.

    sla: promises kept and broken. service: how fast a person came, five service levels. handling: AHT, occupancy,
    transfers. resolution: solved, opened again, solved at first contact. backlog: the age of what is open now.
    """
    return (await _make(call, conn, name, query))[0]
