"""Telephone calls."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.layer.fields import Comma, InstantOut, Out, Page, PageQuery, RowId
from api.layer.paging import cut, page_of
from api.layer.routes import Call, Data, Routes
from api.resources.inquiry_shapes import RefOut
from crm_core.access import Actor, readable_inquiries
from crm_core.call_state import from_json
from crm_core.errors import NotFound
from crm_core.schema import agent, contact, inquiry
from crm_core.schema import call as call_table
from crm_core.views import call_view, iso

routes = Routes("calls")

_AS_KEPT = (
    "leg_id", "parent_leg_id", "agent", "agent_ext", "queue", "number", "state", "held", "transferred", "cause",
    "disposition", "talk_sec",
)  # fmt: skip
_INSTANTS = ("started_at", "ringing_at", "answered_at", "ended_at")


class LegOut(Out):
    leg_id: str
    parent_leg_id: str | None
    agent: Annotated[bool, Field(description="one of our people's, not the customer's")]
    agent_ext: str | None
    queue: str | None
    number: str | None
    state: Literal["initiated", "ringing", "answered", "ended"]
    held: bool
    transferred: bool
    started_at: InstantOut | None
    ringing_at: InstantOut | None
    answered_at: InstantOut | None
    ended_at: InstantOut | None
    cause: str | None
    disposition: str | None
    talk_sec: int | None


class CallOut(Out):
    id: int
    direction: str
    from_: Annotated[str | None, Field(alias="from")]
    to: str | None
    did: str | None
    state: str
    disposition: str | None
    started_at: InstantOut | None
    answered_at: InstantOut | None
    ended_at: InstantOut | None
    contact_id: int | None
    contact: RefOut | None
    inquiry_id: int | None
    conversation_id: int | None
    agent_id: int | None
    agent: RefOut | None
    legs: list[LegOut]


class CallsQuery(PageQuery):
    state: Annotated[list[Annotated[str, Field(max_length=12)]], Comma, Field(max_length=10)] | None = None
    contact_id: RowId | None = None


def _readable(actor: Actor) -> Any:
    if actor.has_role("supervisor"):
        return call_table.c.id > 0
    mine = select(inquiry.c.id).where(readable_inquiries(actor))
    return or_(
        call_table.c.agent_id == actor.agent_id,
        call_table.c.inquiry_id.is_(None),
        call_table.c.inquiry_id.in_(mine),
    )


async def _show(conn: AsyncConnection, rows: Sequence[Mapping[Any, Any]]) -> list[Data]:
    people = await _names(conn, contact, [r["contact_id"] for r in rows])
    agents = await _names(conn, agent, [r["agent_id"] for r in rows])
    return [
        {
            **call_view(r),
            "contact": people.get(r["contact_id"]),
            "agent": agents.get(r["agent_id"]),
            "legs": _legs(r["data"]),
        }
        for r in rows
    ]


def _legs(data: Mapping[str, Any]) -> list[Data]:
    """The legs of the folded state, without the fold's own marks."""
    legs = from_json(data["state"]).legs if data.get("state") else ()
    return [
        {
            **{name: getattr(leg, name) for name in _AS_KEPT},
            **{name: iso(getattr(leg, name)) for name in _INSTANTS},
        }
        for leg in legs
    ]


async def _names(conn: AsyncConnection, table: Any, ids: Sequence[int | None]) -> dict[int | None, Data]:
    wanted = sorted({i for i in ids if i is not None})
    if not wanted:
        return {}
    rows = await conn.execute(select(table.c.id, table.c.name).where(table.c.id.in_(wanted)))
    return {r.id: {"id": r.id, "name": r.name} for r in rows}


@routes.get("/calls")
async def list_calls(call: Call, conn: AsyncConnection, query: CallsQuery) -> Annotated[Data, Page[CallOut]]:
    """Calls, the newest first."""
    statement = select(call_table).where(_readable(call.actor))
    if query.state:
        statement = statement.where(call_table.c.state.in_(query.state))
    if query.contact_id is not None:
        statement = statement.where(call_table.c.contact_id == query.contact_id)
    page = page_of(statement, [(call_table.c.id, True)], cursor=query.cursor, limit=query.limit)
    rows, following = cut((await conn.execute(page)).mappings().all(), query.limit, lambda r: (r["id"],))
    return {"items": await _show(conn, rows), "next": following}


@routes.get("/calls/{id}")
async def show(call: Call, conn: AsyncConnection, id: RowId) -> Annotated[Data, CallOut]:  # noqa: A002
    """One call with its legs."""
    rows = (
        (await conn.execute(select(call_table).where(call_table.c.id == id, _readable(call.actor))))
        .mappings()
        .all()
    )
    if not rows:
        raise NotFound(f"no call {id}", params={"call_id": id})
    return (await _show(conn, rows))[0]
