"""Planning for supervisors: who is needed, what is at risk, and what a change would have done."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.layer.fields import In, Instant, InstantOut, OpenOut, Out, Page, PageQuery, Query, RowId
from api.layer.paging import cut, page_of
from api.layer.routes import Call, Data, Routes
from crm_core.db.uow import UnitOfWork
from routing.planning import runs, words
from routing.planning.at_risk import MAX_HOURS as MAX_RISK_HOURS
from routing.planning.at_risk import at_risk
from routing.planning.forecast import MAX_HOURS, Wish, forecast
from routing.planning.past import Period
from routing.planning.schema import planning_run
from routing.planning.staffing import parse_target
from routing.planning.whatif import MAX_SEEDS

routes = Routes("planning", role="supervisor")

#: of a change, as text: settings of all teams fit many times
MAX_CHANGE = 256 * 1024


class WhatIfIn(In):
    """`change`: {"teams": {name or id: settings to merge}, "agents": {"add": [], "remove": [], "change": {}}}."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, populate_by_name=True)

    start: Annotated[Instant, Field(alias="from")]
    end: Annotated[Instant, Field(alias="to")]
    change: dict[str, Any]
    team_id: RowId | None = None
    seeds: Annotated[int, Field(ge=1, le=MAX_SEEDS)] = 5


class RunOut(Out):
    id: int
    state: Literal["queued", "running", "done", "failed"]
    asked_by: int | None
    question: dict[str, Any]
    error: str | None
    error_code: str | None
    created_at: InstantOut
    started_at: InstantOut | None
    finished_at: InstantOut | None


class WhatIfOut(RunOut):
    answer: dict[str, Any] | None


class ForecastQuery(Query):
    team_id: RowId | None = None
    hours: Annotated[int, Field(ge=1, le=MAX_HOURS)] = 12
    shrinkage: Annotated[float, Field(ge=0, le=0.95, allow_inf_nan=False)] = 0.3
    target: Annotated[str, Field(pattern=r"^[0-9]{1,2}(\.[0-9]{1,2})?/[0-9]{1,5}(\.[0-9]{1,3})?$")] = "80/20"


class ForecastOut(OpenOut):
    at: InstantOut
    hours: int
    target: dict[str, Any]
    shrinkage: float
    history: dict[str, Any]
    teams: list[dict[str, Any]]
    notes: list[dict[str, Any]]


class AtRiskQuery(Query):
    team_id: RowId | None = None
    hours: Annotated[int, Field(ge=1, le=MAX_RISK_HOURS)] = 8


class AtRiskOut(OpenOut):
    at: InstantOut
    hours: int
    seeds: int
    items: list[dict[str, Any]]
    teams: list[dict[str, Any]]
    notes: list[dict[str, Any]]


@routes.get("/planning/forecast", errors=(404,))
async def show_forecast(call: Call, query: ForecastQuery) -> Annotated[Data, ForecastOut]:
    """Who is needed in the next hours, who is planned and who is there, half-hour by half-hour.

    From the installation's own record: arrivals of the same times of the same weekdays, handle times, patience.
    """
    wish = Wish(
        hours=query.hours, shrinkage=query.shrinkage, target=parse_target(query.target), team_id=query.team_id
    )
    found = await forecast(call.db, wish, call.now)
    return {**found, "notes": words.spoken(found["notes"], call.actor.language)}


@routes.get("/planning/at-risk", errors=(404, 503))
async def show_at_risk(call: Call, query: AtRiskQuery) -> Annotated[Data, AtRiskOut]:
    """Open requests that will probably miss their deadline with the people who are there."""
    found = await at_risk(call.db, now=call.now, team_id=query.team_id, hours=query.hours)
    return {**found, "notes": words.spoken(found["notes"], call.actor.language)}


@routes.post("/planning/what-if", status=202, errors=(404, 409), max_body=MAX_CHANGE)
async def ask_what_if(call: Call, uow: UnitOfWork, body: WhatIfIn) -> Annotated[Data, WhatIfOut]:
    """Replay a recorded period with another configuration or other people; a worker answers."""
    question = runs.Question(
        period=Period.checked(body.start, body.end),
        change=body.change,
        seeds=body.seeds,
        team_id=body.team_id,
    )
    return await runs.ask(uow, question, asked_by=call.actor.agent_id)


@routes.get("/planning/what-if")
async def list_what_ifs(call: Call, conn: AsyncConnection, query: PageQuery) -> Annotated[Data, Page[RunOut]]:
    """Questions that were asked, the newest first, without their answers."""
    statement = page_of(
        select(planning_run), [(planning_run.c.id, True)], cursor=query.cursor, limit=query.limit
    )
    rows, following = cut((await conn.execute(statement)).mappings().all(), query.limit, lambda r: (r["id"],))
    return {"items": [runs.view(r, call.actor.language, brief=True) for r in rows], "next": following}


@routes.get("/planning/what-if/{id}")
async def show_what_if(call: Call, conn: AsyncConnection, id: RowId) -> Annotated[Data, WhatIfOut]:  # noqa: A002
    """A question, and its answer once it is `done`: recorded, simulated as it was, simulated with the change."""
    return await runs.show(conn, id, call.actor.language)
