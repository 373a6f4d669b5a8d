"""Offers of work, and the answers to them."""

from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection

from api.layer.fields import In, InstantOut, OpenOut, Out, Query, RowId
from api.layer.routes import Call, Data, Routes
from crm_core.db.uow import UnitOfWork
from crm_core.errors import Invalid
from routing import offers
from routing.offer_view import open_offers

routes = Routes("offers")


class OfferOut(Out):
    id: int
    item_id: int
    inquiry_id: int | None
    inquiry: dict[str, Any] | None
    call: dict[str, Any] | None
    callback: dict[str, Any] | None
    channel: str
    agent_id: int
    state: str
    broadcast: bool
    reason: str | None
    created_at: InstantOut
    expires_at: InstantOut
    why_text: str


class OffersOut(Out):
    items: list[OfferOut]
    next: None


class AssignmentOut(OpenOut):
    item_id: int
    inquiry_id: int | None


class OffersQuery(Query):
    state: Literal["open"] = "open"
    agent_id: Annotated[RowId, Field(description="supervisors only")] | None = None


class DeclineIn(In):
    reason: Annotated[str, Field(max_length=60)] | None = None


@routes.get("/offers")
async def list_offers(call: Call, conn: AsyncConnection, query: OffersQuery) -> Annotated[Data, OffersOut]:
    """Open offers: an agent's own, a supervisor's all."""
    actor = call.actor
    if query.agent_id is not None and query.agent_id != actor.agent_id:
        actor.need("supervisor")
    wanted = query.agent_id if actor.has_role("supervisor") else actor.agent_id
    return {"items": await open_offers(conn, agent_id=wanted, language=actor.language), "next": None}


def command_id(call: Call) -> str | None:
    """The caller's Idempotency-Key as the command's id, so that routing recognises a repetition for days."""
    key = call.request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if len(key) > 60:
        raise Invalid("an Idempotency-Key here has at most 60 characters", code="bad_idempotency_key")
    return f"{call.actor.agent_id}:{key}"


@routes.post("/offers/{id}/accept", errors=(410,))
async def accept(call: Call, uow: UnitOfWork, id: RowId) -> Annotated[Data, AssignmentOut]:  # noqa: A002
    """Take what was offered. 410 `offer_expired` or `offer_taken` if it is too late; twice is the same as once."""
    return await offers.accept(uow, id, call.actor.agent_id, command_id(call))


@routes.post("/offers/{id}/decline", errors=(410,))
async def decline(call: Call, uow: UnitOfWork, id: RowId, body: DeclineIn) -> Annotated[Data, OfferOut]:  # noqa: A002
    """Leave it to somebody else."""
    return await offers.decline(uow, id, call.actor.agent_id, body.reason, command_id(call))
