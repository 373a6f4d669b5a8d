"""Dialogs as data: YAML in, checked, versions kept."""

from typing import Annotated

from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection

import bots
from api.layer.bodies import UnsupportedMediaType, check_text, read_body
from api.layer.fields import InstantOut, Out, Page
from api.layer.routes import Call, Data, Routes
from crm_core.errors import BadRequest, NotFound
from crm_core.views import iso

routes = Routes("flows")

Key = Annotated[str, Field(pattern="^[A-Za-z0-9_-]{1,60}$")]
MAX_FLOW = 512 * 1024
_YAML = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "text/plain")


class FlowOut(Out):
    key: str
    version: int
    created_at: InstantOut


class FlowDetailOut(FlowOut):
    source: str


@routes.get("/flows")
async def list_flows(conn: AsyncConnection) -> Annotated[Data, Page[FlowOut]]:
    """The flows in force."""
    rows = await bots.list_flows(conn)
    return {
        "items": [
            {"key": r["key"], "version": r["version"], "created_at": iso(r["created_at"])} for r in rows
        ],
        "next": None,
    }


@routes.get("/flows/{key}")
async def show(conn: AsyncConnection, key: Key) -> Annotated[Data, FlowDetailOut]:
    """One flow as it was written."""
    return await _one(conn, key)


async def _one(conn: AsyncConnection, key: str) -> Data:
    row = await bots.get_flow(conn, key)
    if row is None:
        raise NotFound(f"no flow {key!r}")
    return {
        "key": row["key"],
        "version": row["version"],
        "created_at": iso(row["created_at"]),
        "source": row["source"],
    }


@routes.put("/flows/{key}", role="admin", errors=(409,), consumes="application/yaml", max_body=MAX_FLOW)
async def put(call: Call, key: Key) -> Annotated[Data, FlowDetailOut]:
    """Put a flow in force; running dialogs keep theirs. 422 names every fault with its line."""
    if call.request.content_type not in _YAML:
        raise UnsupportedMediaType(f"expected application/yaml, not {call.request.content_type}")
    try:
        text = (await read_body(call.request, limit=MAX_FLOW)).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest("the flow is not UTF-8") from error
    check_text(text)
    async with call.db.transaction() as uow:
        await bots.store_flow(uow, key, text, actor=call.actor.label)
        return await _one(uow.conn, key)
