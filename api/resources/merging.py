"""Two inquiries that are one, one that is two, and the threads an inquiry has."""

from typing import Annotated

from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection

from api.layer.fields import In, Out, RowId
from api.layer.routes import Answer, Call, Data, Routes
from api.resources.inquiry_shapes import InquiryOut, show_inquiry
from crm_core import merging
from crm_core.access import Actor, access_inquiry
from crm_core.db.uow import UnitOfWork
from crm_core.messages import MAX_TEXT

routes = Routes("inquiries")


class MergeIn(In):
    into_id: RowId
    note: Annotated[str, Field(max_length=MAX_TEXT)] | None = None
    public: Annotated[
        bool, Field(description="the note is an answer to the customer, not for colleagues")
    ] = False


class SplitIn(In):
    message_id: RowId
    subject: Annotated[str, Field(min_length=1, max_length=500)] | None = None


class ThreadOut(Out):
    conversation_id: int
    channel: str
    last_seq: int
    inquiry_ids: list[int]


class ThreadsOut(Out):
    items: list[ThreadOut]
    next: None


def _by(actor: Actor) -> merging.By:
    return merging.By(label=actor.label, agent_id=actor.agent_id, name=actor.name, language=actor.language)


@routes.post("/inquiries/{id}/merge")
async def merge(call: Call, uow: UnitOfWork, id: RowId, body: MergeIn) -> Annotated[Data, InquiryOut]:  # noqa: A002
    """Close an inquiry as a part of another one of the same contact; answers with the other one.

    The same merge again changes nothing. 409 with code already_merged, target_merged (params.merged_into_id says where
    it went), closed, target_closed or other_contact.
    """
    await access_inquiry(uow, call.actor, id)
    await access_inquiry(uow, call.actor, body.into_id)
    await merging.merge(uow, id, body.into_id, by=_by(call.actor), note=body.note, public=body.public)
    return await show_inquiry(uow.conn, body.into_id, now=uow.now)


@routes.post("/inquiries/{id}/split", status=201, repeatable=True)
async def split(call: Call, uow: UnitOfWork, id: RowId, body: SplitIn) -> Annotated[Data, InquiryOut]:  # noqa: A002
    """Give a customer's message an inquiry of its own, waiting since the message was written.

    The same message again answers 200 with the inquiry that was made. 409 with code only_message or merged, 422 with
    code not_a_customer_message.
    """
    await access_inquiry(uow, call.actor, id)
    made, created = await merging.split(uow, id, body.message_id, by=_by(call.actor), subject=body.subject)
    shown = await show_inquiry(uow.conn, made["id"], now=uow.now)
    return Answer(shown, 201 if created else 200)  # type: ignore[return-value]


@routes.get("/inquiries/{id}/threads")
async def threads(call: Call, conn: AsyncConnection, id: RowId) -> Annotated[Data, ThreadsOut]:  # noqa: A002
    """The threads of an inquiry, its present one first, then those of what was merged into it."""
    row = await access_inquiry(conn, call.actor, id)
    return {"items": await merging.threads_of(conn, row), "next": None}
