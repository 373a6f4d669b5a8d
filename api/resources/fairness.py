"""How evenly work is shared out."""

from typing import Annotated, Any

from aiohttp import web
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection

from api.layer.fields import Instant, InstantOut, Out, Query, RowId
from api.layer.routes import Call, Data, Routes
from api.resources.csv_answer import groups_of, send_rows
from api.resources.named import check_named
from api.resources.people_shapes import NamedOut
from crm_core.clock import DAY
from routing import fairness

routes = Routes("reports", role="supervisor")


class FairnessQuery(Query):
    start: Annotated[Instant | None, Field(alias="from", description="without it, a week before `to`")] = None
    to: Annotated[Instant | None, Field(description="not included; without it, now")] = None
    team_id: RowId | None = None


class FairnessRowOut(Out):
    agent: NamedOut
    handled: int
    units: Annotated[int, Field(description="by the weights of the channels now")]
    by_hand: int
    hours: float
    hours_source: Annotated[str, Field(description="calendar | team_calendar | presence")]
    online_hours: float
    per_hour: float
    units_per_hour: float
    offers: int
    accepted: int
    declined: int
    missed: int
    absent: bool
    counts: Annotated[bool, Field(description="is part of the index")]


class FairnessGroupOut(Out):
    team: NamedOut
    shift: Annotated[str | None, Field(description="the calendar that these agents share")]
    agents: int
    jain: float | None
    jain_units: float | None
    reached: bool | None
    rows: list[FairnessRowOut]


class FairnessOut(Out):
    from_: Annotated[InstantOut, Field(alias="from")]
    to: InstantOut
    target: float
    groups: list[FairnessGroupOut]


@routes.get("/reports/fairness")
async def show_fairness(
    call: Call, conn: AsyncConnection, query: FairnessQuery
) -> Annotated[Data, FairnessOut]:
    """Jain's index of handled work per scheduled hour, per team and shift, with everybody's own numbers."""
    start, end = _period(call, query)
    return fairness.as_data(await _groups(conn, query, start, end), start, end)


@routes.get("/reports/fairness.csv", produces="text/csv")
async def show_fairness_csv(call: Call, conn: AsyncConnection, query: FairnessQuery) -> web.StreamResponse:
    """The same as a spreadsheet: a row an agent."""
    start, end = _period(call, query)
    groups = await _groups(conn, query, start, end)
    header = [
        "team_id", "team", "shift", "jain", "jain_units", "agent_id", "agent", "handled", "units", "by_hand", "hours",
        "hours_source", "online_hours", "per_hour", "units_per_hour", "offers", "accepted", "declined", "missed",
        "absent", "counts",
    ]  # fmt: skip
    return await send_rows(call, "fairness", header, groups_of(_lines(groups)))


async def _groups(conn: AsyncConnection, query: FairnessQuery, start: int, end: int) -> list[fairness.Group]:
    await check_named(conn, team_id=query.team_id)
    return await fairness.report(conn, start, end, team_id=query.team_id)


def _lines(groups: list[fairness.Group]) -> list[list[Any]]:
    lines: list[list[Any]] = []
    for group in groups:
        for row in group.rows:
            shown = fairness.row_data(row)
            person = shown.pop("agent")
            lines.append(
                [
                    group.team_id, group.team_name, group.shift, group.jain, group.jain_units,
                    person["id"], person["name"], *shown.values(),
                ]
            )  # fmt: skip
    return lines


def _period(call: Call, query: FairnessQuery) -> tuple[int, int]:
    end = query.to if query.to is not None else call.now
    return (query.start if query.start is not None else end - 7 * DAY), end
