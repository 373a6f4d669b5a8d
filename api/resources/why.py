"""Why work is where it is: of an inquiry, a call, a callback, any work item; and decisions made again."""

from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.layer.fields import InstantOut, OpenOut, Out, RowId
from api.layer.routes import Call, Data, Routes
from api.resources import callbacks, calls
from api.resources.people_shapes import NamedOut
from crm_core.access import access_inquiry
from crm_core.db.uow import read_row
from crm_core.errors import NotFound
from routing import explain
from routing.explain_replay import replay_decision
from routing.schema import work_item

routes = Routes("routing")


class DecisionOut(Out):
    id: int
    at: InstantOut
    trigger: str
    outcome: str
    agent_id: int | None
    text: str
    why: dict[str, Any]
    rule_version: int
    replayable: Annotated[bool, Field(description="what it was made from is kept: see decisions/{id}/replay")]


class OfferMadeOut(Out):
    id: int
    agent: NamedOut
    kind: str
    state: str
    reason: str | None
    made_at: InstantOut
    expires_at: InstantOut
    ended_at: InstantOut | None
    text: str


class HolderOut(Out):
    agent: NamedOut
    since: InstantOut
    cause: str
    forced: bool


class LackOut(Out):
    skill: str
    level: Annotated[int | None, Field(description="what the agent has of it; null: nothing")]
    wanted: int


class RefusalOut(Out):
    agent: NamedOut
    reason: Annotated[str, Field(description="free, offered, or the first filter that is against it")]
    text: str
    lacks: Annotated[LackOut | None, Field(description="the skill that is missing or too low")]


class WaitingOut(OpenOut):
    text: str
    step: dict[str, Any]
    rings: list[dict[str, Any]]
    window: dict[str, Any] | None
    widens_at: InstantOut | None
    parked_until: InstantOut | None
    parked_reason: str | None
    key: list[dict[str, Any]]
    ahead: dict[str, Any]
    expected: dict[str, Any]
    agents: list[RefusalOut]
    agents_looked_at: int
    rounds: dict[str, Any]
    config: dict[str, Any]


class WhyOut(Out):
    state: str
    text: str
    item_id: int | None
    decisions: list[DecisionOut]
    offers: list[OfferMadeOut]
    assignment: HolderOut | None
    waiting: WaitingOut | None


class ReplayOut(Out):
    decision_id: int
    replayable: bool
    same: bool
    reason: str | None
    winners: list[int]
    stored_winners: list[int]
    scope: str | None
    rule_version: int


@routes.get("/inquiries/{id}/why")
async def why_inquiry(call: Call, conn: AsyncConnection, id: RowId) -> Annotated[Data, WhyOut]:  # noqa: A002
    """Why this went to whom it went, or what it waits for, in the caller's language."""
    await access_inquiry(conn, call.actor, id)
    return await explain.why(conn, id, call.actor.language, now=call.now)


@routes.get("/work-items/{id}/why")
async def why_item(call: Call, conn: AsyncConnection, id: RowId) -> Annotated[Data, WhyOut]:  # noqa: A002
    """The same of any work item; one without an inquiry is for its owner and for supervisors."""
    row = await read_row(conn, select(work_item).where(work_item.c.id == id))
    if row is None:
        raise NotFound(f"no work item {id}", params={"item_id": id})
    if row["inquiry_id"] is not None:
        await access_inquiry(conn, call.actor, row["inquiry_id"])
    elif row["owner_id"] != call.actor.agent_id:
        call.actor.need("supervisor")
    return await explain.why_item(conn, id, call.actor.language, now=call.now)


@routes.get("/callbacks/{id}/why")
async def why_callback(call: Call, conn: AsyncConnection, id: RowId) -> Annotated[Data, WhyOut]:  # noqa: A002
    """Who was asked to make this call, or what it waits for."""
    await callbacks.show(call, conn, id)
    return await explain.why_source(conn, "callback", id, call.actor.language, now=call.now)


@routes.get("/calls/{id}/why")
async def why_call(call: Call, conn: AsyncConnection, id: RowId) -> Annotated[Data, WhyOut]:  # noqa: A002
    """Who was asked to take this call, or what it waits for."""
    await calls.show(call, conn, id)
    return await explain.why_source(conn, "call", id, call.actor.language, now=call.now)


@routes.get("/decisions/{id}/replay", role="supervisor")
async def replay(conn: AsyncConnection, id: RowId) -> Annotated[Data, ReplayOut]:  # noqa: A002
    """Make a decision again from what it kept: the deciding code, the settings of then, the same winner?"""
    return await replay_decision(conn, id)
