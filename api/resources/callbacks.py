"""Promises to call a customer."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.layer.fields import Comma, In, Instant, InstantOut, OpenOut, Page, PageQuery, RowId
from api.layer.paging import cut, page_of
from api.layer.routes import Call, Data, Routes
from api.resources.inquiry_shapes import RefOut
from crm_core.access import Actor, access_inquiry
from crm_core.db.uow import UnitOfWork
from crm_core.errors import Invalid, NotFound
from crm_core.schema import agent, contact, team
from routing import callbacks
from routing.schema import callback, callback_attempt

routes = Routes("callbacks")

State = Literal["scheduled", "due", "offered", "dialling", "paused", "done", "cancelled", "escalated"]
Mode = Literal["preview", "agent_first", "customer_first"]
Note = Annotated[str, Field(max_length=4_000)]


class AttemptOut(OpenOut):
    n: int
    at: InstantOut
    agent: RefOut | None
    outcome: str | None
    call_id: int | None
    style: str | None


class LinkOut(OpenOut):
    """One of those who are asked, in order. `result`: asked, took, not_taken, declined, offline, busy, inactive."""

    agent: RefOut | None
    role: str
    result: str | None


class CallbackOut(OpenOut):
    id: int
    contact: RefOut
    inquiry_id: int | None
    phone: str
    timezone: str
    window_start: InstantOut
    window_end: InstantOut
    due_at: InstantOut
    state: str
    owner: RefOut | None
    team: RefOut | None
    attempts: list[AttemptOut]
    max_attempts: int
    next_attempt_at: InstantOut | None
    outcome: str | None
    note: str | None
    created_by: str
    escalated_at: InstantOut | None
    kind: str
    mode: str
    kept_by: InstantOut | None
    kept_at: InstantOut | None
    paused_at: InstantOut | None
    escalation: str | None
    ended_by: str | None
    chain: list[LinkOut]


class CallbacksQuery(PageQuery):
    state: Annotated[list[State], Comma, Field(max_length=10)] | None = None
    owner_id: Annotated[str, Field(pattern="^([1-9][0-9]{0,17}|me|none)$")] | None = None
    contact_id: RowId | None = None
    inquiry_id: RowId | None = None


class BookIn(In):
    contact_id: RowId | None = None
    inquiry_id: RowId | None = None
    phone: Annotated[str, Field(min_length=3, max_length=40)] | None = None
    window_start: Instant | None = None
    window_end: Instant | None = None
    timezone: Annotated[str, Field(max_length=60)] | None = None
    note: Note | None = None
    owner_id: RowId | None = None
    team_id: RowId | None = None
    mode: Mode | None = None
    slot: Annotated[bool, Field(description="only if the team has a call left to promise then")] = False


class HoldIn(In):
    """Exactly one of both: whose place in the queue is kept."""

    call_id: RowId | None = None
    inquiry_id: RowId | None = None
    phone: Annotated[str, Field(min_length=3, max_length=40)] | None = None


class MoveIn(In):
    window_start: Instant | None = None
    window_end: Instant | None = None
    note: Note | None = None
    owner_id: RowId | None = None
    mode: Mode | None = None
    slot: bool = False


class SnoozeIn(In):
    minutes: Annotated[int, Field(ge=1, le=1440)] | None = None


class CloseIn(In):
    reason: Annotated[str, Field(min_length=1, max_length=500)]


class CancelIn(In):
    reason: Annotated[str, Field(max_length=500)] | None = None


class OutcomeIn(In):
    outcome: Literal["answered", "busy", "no_answer", "machine", "rejected", "failed", "invalid_number"]
    note: Note | None = None


async def show_callbacks(conn: AsyncConnection, rows: Sequence[Mapping[Any, Any]]) -> list[Data]:
    """With names and attempts: four more queries."""
    if not rows:
        return []
    found = await conn.execute(
        select(callback_attempt)
        .where(callback_attempt.c.callback_id.in_([r["id"] for r in rows]))
        .order_by(callback_attempt.c.n)
    )
    attempts: dict[int, list[Mapping[str, Any]]] = {}
    for attempt_row in found.mappings():
        attempts.setdefault(attempt_row["callback_id"], []).append(dict(attempt_row))
    people = await _names(conn, contact, {r["contact_id"] for r in rows})
    agents = await _names(
        conn,
        agent,
        {r["owner_id"] for r in rows} | {a["agent_id"] for each in attempts.values() for a in each},
    )
    teams = await _names(conn, team, {r["team_id"] for r in rows})
    shown = []
    for row in rows:
        view = callbacks.callback_view(dict(row), attempts.get(row["id"], ()))
        for attempt in view["attempts"]:
            attempt["agent"] = agents.get(attempt["agent_id"])
        for link in view["chain"]:
            link["agent"] = agents.get(link["agent_id"])
        shown.append(
            {
                **view,
                "contact": people[row["contact_id"]],
                "owner": agents.get(row["owner_id"]),
                "team": teams.get(row["team_id"]),
            }
        )
    return shown


async def _names(conn: AsyncConnection, table: Any, ids: set[int | None]) -> dict[int | None, Data]:
    wanted = sorted(i for i in ids if i is not None)
    if not wanted:
        return {}
    rows = await conn.execute(select(table.c.id, table.c.name).where(table.c.id.in_(wanted)))
    return {r.id: {"id": r.id, "name": r.name} for r in rows}


def _readable(actor: Actor) -> Any:
    """Whose promises an agent sees: his own, his teams', and those of nobody."""
    if actor.has_role("supervisor"):
        return callback.c.id > 0
    return or_(
        callback.c.owner_id == actor.agent_id,
        callback.c.team_id.in_(actor.team_ids),
        (callback.c.team_id.is_(None)) & (callback.c.owner_id.is_(None)),
    )


async def _access(uow: UnitOfWork, actor: Actor, callback_id: int) -> Mapping[str, Any]:
    row = await uow.row(select(callback).where(callback.c.id == callback_id, _readable(actor)))
    if row is None:
        raise NotFound(f"no callback {callback_id}", params={"callback_id": callback_id})
    return row


async def _shown(uow: UnitOfWork, callback_id: int) -> Data:
    rows = await uow.rows(select(callback).where(callback.c.id == callback_id))
    return (await show_callbacks(uow.conn, rows))[0]


async def _check_owner(uow: UnitOfWork, body: BookIn | MoveIn) -> None:
    if (
        body.owner_id is not None
        and await uow.scalar(select(agent.c.id).where(agent.c.id == body.owner_id, agent.c.active)) is None
    ):
        raise Invalid("no such agent", params={"errors": [{"loc": ["body", "owner_id"], "msg": "unknown"}]})


@routes.get("/callbacks")
async def list_callbacks(
    call: Call, conn: AsyncConnection, query: CallbacksQuery
) -> Annotated[Data, Page[CallbackOut]]:
    """Promises in order of when they are due."""
    statement = select(callback).where(_readable(call.actor))
    if query.state:
        statement = statement.where(callback.c.state.in_(query.state))
    if query.owner_id == "none":
        statement = statement.where(callback.c.owner_id.is_(None))
    elif query.owner_id is not None:
        statement = statement.where(
            callback.c.owner_id == (call.actor.agent_id if query.owner_id == "me" else int(query.owner_id))
        )
    if query.contact_id is not None:
        statement = statement.where(callback.c.contact_id == query.contact_id)
    if query.inquiry_id is not None:
        statement = statement.where(callback.c.inquiry_id == query.inquiry_id)
    page = page_of(
        statement,
        [(callback.c.due_at, False), (callback.c.id, False)],
        cursor=query.cursor,
        limit=query.limit,
        kinds=(int, int),
    )
    rows, following = cut(
        (await conn.execute(page)).mappings().all(), query.limit, lambda r: (r["due_at"], r["id"])
    )
    return {"items": await show_callbacks(conn, rows), "next": following}


@routes.get("/callbacks/{id}")
async def show(call: Call, conn: AsyncConnection, id: RowId) -> Annotated[Data, CallbackOut]:  # noqa: A002
    """One promise with its attempts."""
    rows = (
        (await conn.execute(select(callback).where(callback.c.id == id, _readable(call.actor))))
        .mappings()
        .all()
    )
    if not rows:
        raise NotFound(f"no callback {id}", params={"callback_id": id})
    return (await show_callbacks(conn, rows))[0]


@routes.post("/callbacks", status=201, errors=(409,))
async def book(call: Call, uow: UnitOfWork, body: BookIn) -> Annotated[Data, CallbackOut]:
    """Promise to call. An open promise to the same number is moved, not doubled."""
    inquiry_row = (
        await access_inquiry(uow, call.actor, body.inquiry_id) if body.inquiry_id is not None else None
    )
    contact_id = body.contact_id or (inquiry_row["contact_id"] if inquiry_row else None)
    if contact_id is None:
        raise Invalid("give contact_id or inquiry_id", code="bad_contact")
    person = await uow.row(select(contact).where(contact.c.id == contact_id))
    if person is None:
        raise NotFound(f"no contact {contact_id}", params={"contact_id": contact_id})
    await _check_owner(uow, body)
    if (
        body.team_id is not None
        and await uow.scalar(select(team.c.id).where(team.c.id == body.team_id)) is None
    ):
        raise Invalid("no such team", params={"errors": [{"loc": ["body", "team_id"], "msg": "unknown"}]})
    row = await callbacks.book(
        uow,
        contact=person,
        raw_phone=body.phone,
        window_start=body.window_start,
        window_end=body.window_end,
        inquiry=inquiry_row,
        timezone=body.timezone,
        owner_id=body.owner_id,
        team_id=body.team_id,
        note=body.note,
        source="desk",
        created_by=call.actor.label,
        mode=body.mode,
        strict_slot=body.slot,
    )
    return await _shown(uow, row["id"])


@routes.post("/callbacks/hold", status=201, errors=(404, 409))
async def hold(call: Call, uow: UnitOfWork, body: HoldIn) -> Annotated[Data, CallbackOut]:
    """Keep the place in the queue of a caller, or of somebody who waits in a chat, and call him at his turn."""
    if (body.call_id is None) == (body.inquiry_id is None):
        raise Invalid("give call_id or inquiry_id, one of both", code="bad_hold")
    if body.inquiry_id is not None:
        await access_inquiry(uow, call.actor, body.inquiry_id)
        row = await callbacks.take_place_of_request(
            uow, body.inquiry_id, actor=call.actor.label, number=body.phone
        )
    else:
        row = await callbacks.take_place_of_call(
            uow, body.call_id or 0, actor=call.actor.label, number=body.phone
        )
    return await _shown(uow, row["id"])


@routes.patch("/callbacks/{id}", errors=(409,))
async def move(call: Call, uow: UnitOfWork, id: RowId, body: MoveIn) -> Annotated[Data, CallbackOut]:  # noqa: A002
    """Move a promise, change its note or owner."""
    await _access(uow, call.actor, id)
    await _check_owner(uow, body)
    await callbacks.reschedule(
        uow,
        id,
        window_start=body.window_start,
        window_end=body.window_end,
        note=body.note,
        owner_id=body.owner_id,
        mode=body.mode,
        strict_slot=body.slot,
        actor=call.actor.label,
    )
    return await _shown(uow, id)


@routes.post("/callbacks/{id}/cancel")
async def cancel(call: Call, uow: UnitOfWork, id: RowId, body: CancelIn) -> Annotated[Data, CallbackOut]:  # noqa: A002
    """Take a promise back."""
    await _access(uow, call.actor, id)
    await callbacks.cancel(uow, id, actor=call.actor.label, reason=body.reason)
    return await _shown(uow, id)


@routes.post("/callbacks/{id}/snooze", errors=(409,))
async def snooze(call: Call, uow: UnitOfWork, id: RowId, body: SnoozeIn) -> Annotated[Data, CallbackOut]:  # noqa: A002
    """Not now, later: without minutes by the team's usual time. A place in the queue stays as old as it is."""
    await _access(uow, call.actor, id)
    await callbacks.snooze(uow, id, minutes=body.minutes, actor=call.actor.label)
    return await _shown(uow, id)


@routes.post("/callbacks/{id}/resume", errors=(409,))
async def resume(call: Call, uow: UnitOfWork, id: RowId) -> Annotated[Data, CallbackOut]:  # noqa: A002
    """The attempts that rest since the customer wrote or called go on."""
    await _access(uow, call.actor, id)
    await callbacks.resume(uow, id, actor=call.actor.label)
    return await _shown(uow, id)


@routes.post("/callbacks/{id}/close", errors=(409,))
async def close(call: Call, uow: UnitOfWork, id: RowId, body: CloseIn) -> Annotated[Data, CallbackOut]:  # noqa: A002
    """No call is needed any more, says an agent, and why."""
    await _access(uow, call.actor, id)
    await callbacks.cancel(uow, id, actor=call.actor.label, reason=body.reason, confirm=False)
    return await _shown(uow, id)


@routes.post("/callbacks/{id}/dial")
async def dial(call: Call, uow: UnitOfWork, id: RowId) -> Annotated[Data, CallbackOut]:  # noqa: A002
    """Dial now: the PBX connects, or the number is shown to dial by hand."""
    await _access(uow, call.actor, id)
    await callbacks.dial(uow, id, call.actor.agent_id, actor=call.actor.label)
    return await _shown(uow, id)


@routes.post("/callbacks/{id}/outcome")
async def outcome(call: Call, uow: UnitOfWork, id: RowId, body: OutcomeIn) -> Annotated[Data, CallbackOut]:  # noqa: A002
    """Say how the call ended; what follows is decided by rule."""
    await _access(uow, call.actor, id)
    await callbacks.record_outcome(
        uow, id, body.outcome, actor=call.actor.label, note=body.note, agent_id=call.actor.agent_id
    )
    return await _shown(uow, id)
