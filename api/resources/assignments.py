"""Who has an inquiry: taking it, handing it on, giving it back."""

from typing import Annotated, Any

from pydantic import Field

from api.layer.fields import In, RowId
from api.layer.routes import Call, Data, Routes
from api.resources.offers import AssignmentOut, command_id
from crm_core import messages
from crm_core.access import Actor, access_inquiry
from crm_core.db.uow import UnitOfWork
from crm_core.errors import Conflict
from routing import assignments

routes = Routes("assignment")


class TransferIn(In):
    agent_id: RowId | None = None
    team_id: RowId | None = None
    note: Annotated[str, Field(max_length=4_000)] | None = None


@routes.post("/inquiries/{id}/take")
async def take(call: Call, uow: UnitOfWork, id: RowId) -> Annotated[Data, AssignmentOut]:  # noqa: A002
    """Take an inquiry by hand, past the queue; supervisors also from a colleague."""
    await access_inquiry(uow, call.actor, id)
    return await assignments.take(
        uow, id, call.actor.agent_id, command_id(call), steal=call.actor.has_role("supervisor")
    )


@routes.post("/inquiries/{id}/transfer")
async def transfer(
    call: Call,
    uow: UnitOfWork,
    id: RowId,  # noqa: A002
    body: TransferIn,
) -> Annotated[Data, AssignmentOut]:
    """Hand an inquiry to a colleague or a team; a note stays in the thread. Agents not to a fourth team."""
    row = await access_inquiry(uow, call.actor, id, for_update=True)
    if body.note and body.note.strip() and row["conversation_id"] is not None:
        await messages.post_message(
            uow,
            conversation_id=row["conversation_id"],
            inquiry_row=row,
            author_kind="agent",
            author_id=call.actor.agent_id,
            author_name=call.actor.name,
            text=body.note,
            internal=True,
        )
    return await assignments.transfer(
        uow,
        id,
        actor=call.actor.label,
        to_agent_id=body.agent_id,
        to_team_id=body.team_id,
        note=body.note,
        command_id=command_id(call),
        force=call.actor.has_role("supervisor"),
    )


@routes.post("/inquiries/{id}/release")
async def release(call: Call, uow: UnitOfWork, id: RowId) -> Annotated[Data, AssignmentOut]:  # noqa: A002
    """Give an inquiry back to its queue."""
    row = await access_inquiry(uow, call.actor, id)
    if row["assignee_id"] != call.actor.agent_id:
        call.actor.need("supervisor")
    return await assignments.release(uow, id, call.actor.label, command_id(call))


async def reassign(uow: UnitOfWork, actor: Actor, inquiry_id: int, changes: dict[str, Any]) -> None:
    """`assignee_id` and `team_id` of a PATCH: routing's business, so that capacity and queues stay true.

    Raises Conflict, NotFound.
    """
    if changes.get("assignee_id") is not None and changes.get("team_id") is not None:
        raise Conflict("change the team or the assignee, not both at once", code="bad_target")
    if changes.get("team_id") is not None:
        await assignments.transfer(
            uow,
            inquiry_id,
            actor=actor.label,
            to_team_id=changes["team_id"],
            force=actor.has_role("supervisor"),
        )
    if "assignee_id" in changes:
        wanted = changes["assignee_id"]
        if wanted is None:
            await assignments.release(uow, inquiry_id, actor.label)
        elif wanted == actor.agent_id:
            await assignments.take(uow, inquiry_id, wanted, steal=actor.has_role("supervisor"))
        else:
            await assignments.transfer(uow, inquiry_id, actor=actor.label, to_agent_id=wanted)
