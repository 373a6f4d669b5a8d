"""Raw inbound rows, for people who look after them: what waits, what could not be read, trying again."""

import base64
from typing import Annotated, Any, Literal

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.layer.fields import Comma, InstantOut, Out, Page, PageQuery, RowId
from api.layer.paging import cut, page_of
from api.layer.routes import Call, Data, Routes
from crm_core import inbound_rows
from crm_core.db.uow import UnitOfWork
from crm_core.errors import NotFound
from crm_core.schema import inbound
from crm_core.views import iso

routes = Routes("inbound", role="supervisor")

#: of a body, so much is shown
MAX_SHOWN = 256 * 1024
State = Literal["received", "done", "quarantined", "discarded"]
_SHOWN = [c for c in inbound.c if c.name not in ("body", "meta")]


class InboundOut(Out):
    id: int
    inbox_id: int
    received_at: InstantOut
    processed_at: InstantOut | None
    state: str
    error: str | None
    size: int
    content_type: str
    dedupe_key: str


class InboundDetailOut(InboundOut):
    body: str
    body_encoding: Literal["text", "base64"]
    cut: bool
    headers: dict[str, Any]


class InboundQuery(PageQuery):
    state: Annotated[list[State], Comma] | None = None
    inbox_id: RowId | None = None


def _view(row: Any) -> Data:
    return {
        "id": row["id"],
        "inbox_id": row["inbox_id"],
        "received_at": iso(row["received_at"]),
        "processed_at": iso(row["processed_at"]),
        "state": row["state"],
        "error": row["error"],
        "size": row["size"],
        "content_type": row["content_type"],
        "dedupe_key": row["dedupe_key"],
    }


async def _one(conn: AsyncConnection, inbound_id: int) -> Data:
    row = (await conn.execute(select(inbound).where(inbound.c.id == inbound_id))).mappings().first()
    if row is None:
        raise NotFound(f"no inbound row {inbound_id}", params={"inbound_id": inbound_id})
    head = bytes(row["body"][:MAX_SHOWN])
    try:
        body, encoding = head.decode("utf-8"), "text"
    except UnicodeDecodeError:
        body, encoding = base64.b64encode(head).decode(), "base64"
    return {
        **_view(row),
        "body": body,
        "body_encoding": encoding,
        "headers": row["meta"],
        "cut": len(head) < row["size"],
    }


@routes.get("/inbound")
async def list_inbound(conn: AsyncConnection, query: InboundQuery) -> Annotated[Data, Page[InboundOut]]:
    """Raw rows, the newest first."""
    statement = select(*_SHOWN)
    if query.state:
        statement = statement.where(inbound.c.state.in_(query.state))
    if query.inbox_id is not None:
        statement = statement.where(inbound.c.inbox_id == query.inbox_id)
    page = page_of(statement, [(inbound.c.id, True)], cursor=query.cursor, limit=query.limit)
    rows, following = cut((await conn.execute(page)).mappings().all(), query.limit, lambda r: (r["id"],))
    return {"items": [_view(r) for r in rows], "next": following}


@routes.get("/inbound/{id}")
async def show(conn: AsyncConnection, id: RowId) -> Annotated[Data, InboundDetailOut]:  # noqa: A002
    """One raw row with its body."""
    return await _one(conn, id)


@routes.post("/inbound/{id}/replay")
async def replay(call: Call, uow: UnitOfWork, id: RowId) -> Annotated[Data, InboundDetailOut]:  # noqa: A002
    """Process a row again; doubles are recognised as ever."""
    await inbound_rows.replay(uow, id, actor=call.actor.label)
    return await _one(uow.conn, id)


@routes.post("/inbound/{id}/discard")
async def discard(call: Call, uow: UnitOfWork, id: RowId) -> Annotated[Data, InboundDetailOut]:  # noqa: A002
    """Say that nobody needs a quarantined row. It stays readable."""
    await inbound_rows.discard(uow, id, actor=call.actor.label)
    return await _one(uow.conn, id)
