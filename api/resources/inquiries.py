"""Tickets and leads: lists, one, changing, opening, and their messages."""

from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api.feed.hub import HUB
from api.layer.fields import Big, Comma, In, Instant, Out, Page, PageQuery, Query, RowId, Seq
from api.layer.paging import cut, page_of
from api.layer.routes import Answer, Call, Data, Routes
from api.resources.assignments import reassign
from api.resources.inquiry_shapes import (
    InquiryOut,
    Requirements,
    inquiry_statement,
    show_inquiries,
    show_inquiry,
    stored_requirements,
)
from api.resources.message_shapes import MessageOut, show_messages
from api.resources.opening import OpenIn, open_for_agent
from crm_core import inquiries, messages
from crm_core.access import Actor, access_inquiry, readable_inquiries
from crm_core.db.uow import UnitOfWork
from crm_core.errors import Conflict, Invalid, NotFound
from crm_core.merging import threads_of
from crm_core.schema import agent, conversation, inquiry, message, team
from crm_core.search import matches
from crm_core.views import NUMBER_BASE, message_view
from routing.schema import sla_clock

routes = Routes("inquiries")

Kind = Literal["ticket", "lead"]
Status = Literal["new", "open", "pending", "hold", "solved", "closed"]
Priority = Literal["low", "normal", "high", "urgent"]
Stage = Literal["new", "contacted", "qualified", "proposal", "won", "lost"]
Channel = Annotated[str, Field(pattern="^[a-z_]{1,20}$")]
Text = Annotated[str, Field(max_length=messages.MAX_TEXT)]
Tag = Annotated[str, Field(min_length=1, max_length=60)]
ClientId = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.:\-]+$")]
#: where inquiries without a deadline stand in the order of deadlines
_NEVER = 2**62


class InquiriesQuery(PageQuery):
    kind: Kind | None = None
    status: Annotated[list[Status], Comma, Field(max_length=20)] | None = None
    team_id: RowId | None = None
    assignee_id: (
        Annotated[str, Field(pattern="^([1-9][0-9]{0,17}|me|none)$", description="id, me or none")] | None
    ) = None
    contact_id: RowId | None = None
    channel: Annotated[list[Channel], Comma, Field(max_length=20)] | None = None
    q: (
        Annotated[
            str, Field(max_length=200, description="words of the subject, the person, the first message")
        ]
        | None
    ) = None
    sort: Annotated[
        Literal["-updated_at", "due_at"], Field(description="newest first, or most urgent first")
    ] = "-updated_at"


class ChangeIn(In):
    version: (
        Annotated[int, Field(ge=1, le=2**31 - 1, description="409 if it is not the stored one")] | None
    ) = None
    status: Status | None = None
    priority: Priority | None = None
    kind: Kind | None = None
    subject: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    stage: Stage | None = None
    outcome: Annotated[str, Field(max_length=20)] | None = None
    value_minor: Big | None = None
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] | None = None
    tags: Annotated[list[Tag], Field(max_length=50)] | None = None
    team_id: RowId | None = None
    assignee_id: RowId | None = None
    language: Annotated[str, Field(pattern="^[a-z]{2,3}$")] | None = None
    snooze_until: Instant | None = None
    fields: dict[str, Any] | None = None
    requirements: Requirements | None = None


class MessagesQuery(Query):
    after_seq: Seq = 0
    before_seq: Seq | None = None
    conversation_id: (
        Annotated[RowId, Field(description="another thread of the inquiry, see /inquiries/{id}/threads")]
        | None
    ) = None
    limit: Annotated[int, Field(ge=1, le=200)] = 100


class PostIn(In):
    text: Text = ""
    html: Text | None = None
    #: makes a repeated POST one message; programs may leave it out and send an Idempotency-Key instead
    client_id: ClientId | None = None
    internal: bool = False
    reply_to_id: RowId | None = None
    attachments: Annotated[list[Annotated[str, Field(min_length=1, max_length=40)]], Field(max_length=20)] = (
        Field(default_factory=list)
    )
    status_after: Status | None = None


class ReadIn(In):
    seq: Seq


class ReadOut(Out):
    conversation_id: int
    agent_read_seq: int


def _not_null(changes: dict[str, Any]) -> None:
    """Columns that always have a value cannot be emptied."""
    empty = [
        n
        for n in ("status", "priority", "kind", "subject", "tags", "language", "fields", "requirements")
        if changes.get(n, 1) is None
    ]
    if empty:
        raise Invalid(
            "these fields cannot be empty",
            params={"errors": [{"loc": ["body", name], "msg": "cannot be null"} for name in empty]},
        )


@routes.get("/inquiries")
async def list_inquiries(
    call: Call, conn: AsyncConnection, query: InquiriesQuery
) -> Annotated[Data, Page[InquiryOut]]:
    """Tickets and leads that the caller may read."""
    statement = inquiry_statement().where(
        readable_inquiries(call.actor),
        inquiry.c.merged_into_id.is_(None),
        *_conditions(query, call.actor, conn.dialect.name),
    )
    if query.sort == "due_at":
        due = (
            select(sla_clock.c.inquiry_id, func.min(sla_clock.c.due_at).label("due"))
            .group_by(sla_clock.c.inquiry_id)
            .where(sla_clock.c.state == "active", sla_clock.c.due_at.is_not(None))
            .subquery()
        )
        urgency = func.coalesce(due.c.due, _NEVER)
        statement = statement.add_columns(urgency.label("urgency")).outerjoin(
            due, due.c.inquiry_id == inquiry.c.id
        )
        order: list[tuple[ColumnElement[Any], bool]] = [(urgency, False), (inquiry.c.id, False)]
    else:
        order = [(inquiry.c.updated_at, True), (inquiry.c.id, True)]
    key = "urgency" if query.sort == "due_at" else "updated_at"
    page = page_of(statement, order, cursor=query.cursor, limit=query.limit, kinds=(int, int))
    rows, following = cut(
        (await conn.execute(page)).mappings().all(), query.limit, lambda r: (r[key], r["id"])
    )
    return {"items": await show_inquiries(conn, rows, now=call.now), "next": following}


def _conditions(query: InquiriesQuery, actor: Actor, dialect: str) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if query.kind is not None:
        found.append(inquiry.c.kind == query.kind)
    if query.status:
        found.append(inquiry.c.status.in_(query.status))
    if query.channel:
        found.append(inquiry.c.channel.in_(query.channel))
    if query.team_id is not None:
        found.append(inquiry.c.team_id == query.team_id)
    if query.contact_id is not None:
        found.append(inquiry.c.contact_id == query.contact_id)
    if query.assignee_id == "none":
        found.append(inquiry.c.assignee_id.is_(None))
    elif query.assignee_id is not None:
        wanted = actor.agent_id if query.assignee_id == "me" else int(query.assignee_id)
        found.append(inquiry.c.assignee_id == wanted)
    if query.q:
        number = query.q.strip().lstrip("#")
        found.append(
            inquiry.c.id == int(number) - NUMBER_BASE
            if query.q.strip().startswith("#") and number.isascii() and number.isdigit() and len(number) < 18
            else matches(dialect, inquiry, query.q)
        )
    return found


@routes.get("/inquiries/{id}")
async def show(call: Call, conn: AsyncConnection, id: RowId) -> Annotated[Data, InquiryOut]:  # noqa: A002
    """One ticket or lead, by id."""
    await access_inquiry(conn, call.actor, id)
    return await show_inquiry(conn, id, now=call.now)


@routes.get("/inquiries/by-number/{number}")
async def show_by_number(call: Call, conn: AsyncConnection, number: RowId) -> Annotated[Data, InquiryOut]:
    """One ticket or lead, by the number people see."""
    await access_inquiry(conn, call.actor, number - NUMBER_BASE)
    return await show_inquiry(conn, number - NUMBER_BASE, now=call.now)


@routes.post("/inquiries", status=201)
async def open_one(call: Call, uow: UnitOfWork, body: OpenIn) -> Annotated[Data, InquiryOut]:
    """Open a ticket or lead for a contact, existing or new."""
    opened = await open_for_agent(uow, call.actor, body)
    return await show_inquiry(uow.conn, opened["id"], now=uow.now)


@routes.patch("/inquiries/{id}", errors=(409,))
async def change(call: Call, uow: UnitOfWork, id: RowId, body: ChangeIn) -> Annotated[Data, InquiryOut]:  # noqa: A002
    """Change columns; with `version` only if nobody else did meanwhile."""
    row = await access_inquiry(uow, call.actor, id, for_update=True)
    changes = body.changes()
    expected = changes.pop("version", None)
    _not_null(changes)
    if body.requirements is not None:
        changes["requirements"] = stored_requirements(body.requirements)
    await _check_people(uow, changes)
    moves: Data = {name: changes.pop(name) for name in ("team_id", "assignee_id") if name in changes}
    if moves:
        if expected is not None and expected != row["version"]:
            raise Conflict(
                "somebody else changed this inquiry meanwhile",
                code="version_mismatch",
                params={"version": row["version"]},
            )
        await reassign(uow, call.actor, id, moves)
        expected = None
    await inquiries.change(uow, id, changes, actor=call.actor.label, expected_version=expected)
    return await show_inquiry(uow.conn, id, now=uow.now)


async def _check_people(uow: UnitOfWork, changes: dict[str, Any]) -> None:
    for name, table in (("team_id", team), ("assignee_id", agent)):
        wanted = changes.get(name)
        if (
            wanted is not None
            and await uow.scalar(select(table.c.id).where(table.c.id == wanted, table.c.active)) is None
        ):
            raise Invalid(
                f"no such {name[:-3]}", params={"errors": [{"loc": ["body", name], "msg": "unknown"}]}
            )


@routes.get("/inquiries/{id}/messages")
async def list_messages(
    call: Call,
    conn: AsyncConnection,
    id: RowId,  # noqa: A002
    query: MessagesQuery,
) -> Annotated[Data, Page[MessageOut]]:
    """The thread of an inquiry in order of `seq`. `next` is null; ask again with the last seq."""
    row = await access_inquiry(conn, call.actor, id)
    thread = row["conversation_id"]
    if query.conversation_id is not None and query.conversation_id != thread:
        known = {t["conversation_id"] for t in await threads_of(conn, row)}
        if query.conversation_id not in known:
            raise NotFound(f"inquiry {id} has no thread {query.conversation_id}")
        thread = query.conversation_id
    if thread is None:
        return {"items": [], "next": None}
    statement = select(message).where(message.c.conversation_id == thread, message.c.seq > query.after_seq)
    if query.before_seq is not None:
        # The last ones before a number, for reading backwards.
        statement = statement.where(message.c.seq < query.before_seq).order_by(message.c.seq.desc())
    else:
        statement = statement.order_by(message.c.seq)
    rows = (await conn.execute(statement.limit(query.limit))).mappings().all()
    shown = await show_messages(conn, sorted(rows, key=lambda r: int(r["seq"])))
    return {"items": shown, "next": None}


@routes.post("/inquiries/{id}/messages", status=201, repeatable=True, errors=(409,))
async def post(call: Call, uow: UnitOfWork, id: RowId, body: PostIn) -> Annotated[Data, MessageOut]:  # noqa: A002
    """Reply to the customer, or write an internal note. The same client_id again changes nothing."""
    row = await access_inquiry(uow, call.actor, id, for_update=True)
    if row["conversation_id"] is None:
        raise Conflict("this inquiry has no thread to write in", code="no_conversation")
    if row["merged_into_id"] is not None and not body.internal:
        raise Conflict(
            "this inquiry was merged; answer in the one it was merged into",
            code="merged",
            params={"merged_into_id": row["merged_into_id"]},
        )
    if not body.text.strip() and not body.attachments:
        raise Invalid("a message needs text or a file", code="empty_message")
    if body.reply_to_id is not None:
        found = await uow.scalar(
            select(message.c.id).where(
                message.c.id == body.reply_to_id, message.c.conversation_id == row["conversation_id"]
            )
        )
        if found is None:
            raise Invalid("reply_to_id is not a message of this thread", code="bad_reply_to")
    written, created = await messages.post_message(
        uow,
        conversation_id=row["conversation_id"],
        inquiry_row=row,
        author_kind="agent",
        author_id=call.actor.agent_id,
        author_name=call.actor.name,
        text=body.text,
        html=body.html,
        client_id=body.client_id,
        internal=body.internal,
        reply_to_id=body.reply_to_id,
        uploads=body.attachments,
    )
    if created:
        # Answered, it is not new any more; the clocks of the SLA see it so, too.
        status = body.status_after or ("open" if row["status"] == "new" and not body.internal else None)
        if status is not None:
            await inquiries.change(uow, id, {"status": status}, actor=call.actor.label)
        await _mark_read(call, uow, row["conversation_id"], written["seq"])
    return Answer(message_view(written, written["attachments"]), 201 if created else 200)  # type: ignore[return-value]


@routes.post("/messages/{id}/resend", errors=(409,))
async def resend(call: Call, uow: UnitOfWork, id: RowId) -> Annotated[Data, MessageOut]:  # noqa: A002
    """Send a failed message, or one of unknown fate, again."""
    row = await uow.row(select(message.c.inquiry_id).where(message.c.id == id))
    if row is None or row["inquiry_id"] is None:
        raise NotFound(f"no message {id}")
    await access_inquiry(uow, call.actor, row["inquiry_id"])
    await messages.resend(uow, id, actor=call.actor.label)
    again = await uow.row(select(message).where(message.c.id == id))
    return (await show_messages(uow.conn, [again] if again else []))[0]


@routes.post("/inquiries/{id}/read")
async def mark_read(call: Call, uow: UnitOfWork, id: RowId, body: ReadIn) -> Annotated[Data, ReadOut]:  # noqa: A002
    """Say up to which message the agents have read. Never goes back."""
    row = await access_inquiry(uow, call.actor, id)
    if row["conversation_id"] is None:
        raise Conflict("this inquiry has no thread", code="no_conversation")
    seq = await _mark_read(call, uow, row["conversation_id"], body.seq)
    return {"conversation_id": row["conversation_id"], "agent_read_seq": seq}


async def _mark_read(call: Call, uow: UnitOfWork, conversation_id: int, seq: int) -> int:
    moved = await uow.execute(
        update(conversation)
        .where(
            conversation.c.id == conversation_id,
            conversation.c.agent_read_seq < seq,
            conversation.c.last_seq >= seq,
        )
        .values(agent_read_seq=seq)
    )
    if moved.rowcount:
        hub = call.request.app[HUB]
        # The visitor is told the number of his own message, so that a note's number tells him nothing.
        his = await uow.scalar(
            select(func.max(message.c.seq)).where(
                message.c.conversation_id == conversation_id,
                message.c.seq <= seq,
                message.c.direction == "in",
            )
        )
        uow.after_commit(
            lambda: hub.whisper({"type": "agents_read", "conversation_id": conversation_id, "seq": his})
        )
        return seq
    return int(
        await uow.scalar(select(conversation.c.agent_read_seq).where(conversation.c.id == conversation_id))
        or 0
    )
