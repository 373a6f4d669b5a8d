"""Flows in the database: versions are kept, because dialogs finish with the version they began with."""

from typing import Any

import structlog
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bots.flow import Flow, compiled, parse_flow
from bots.schema import flow as flow_table
from crm_core.db.uow import UnitOfWork
from crm_core.errors import Conflict, Invalid
from crm_core.events import DomainEvent

log = structlog.get_logger(__name__)
_MAX_KEY = 60


async def get_flow(conn: AsyncConnection, key: str, version: int | None = None) -> dict[str, Any] | None:
    """A flow's row (key, version, source, current, created_at): the current one, or the version asked for."""
    wanted = select(flow_table).where(flow_table.c.key == key)
    if version is None:
        wanted = wanted.where(flow_table.c.current).order_by(flow_table.c.version.desc()).limit(1)
    else:
        wanted = wanted.where(flow_table.c.version == version)
    row = (await conn.execute(wanted)).mappings().first()
    return dict(row) if row else None


async def list_flows(conn: AsyncConnection) -> list[dict[str, Any]]:
    """The current version of every flow, by key, without the source."""
    columns = [c for c in flow_table.c if c.name != "source"]
    rows = await conn.execute(select(*columns).where(flow_table.c.current).order_by(flow_table.c.key))
    return [dict(row) for row in rows.mappings()]


async def load_flow(conn: AsyncConnection, key: str, version: int | None = None) -> tuple[Flow, int] | None:
    """The compiled flow and its version. Raises Invalid for a stored one that this release no longer accepts."""
    row = await get_flow(conn, key, version)
    return None if row is None else (compiled(row["source"]), row["version"])


async def store_flow(uow: UnitOfWork, key: str, yaml_text: str, *, actor: str = "system") -> int:
    """Check a flow and make it current; running dialogs keep their version. The same text again changes nothing.

    Returns the version. Raises Invalid (`params["errors"]` with loc, msg and line), Conflict if somebody else stored
    the same key at this moment.
    """
    if not key or len(key) > _MAX_KEY or not all(c.isascii() and (c.isalnum() or c in "_-") for c in key):
        raise Invalid(
            "a flow's key is 1 to 60 letters, digits, - and _",
            code="bad_flow_key",
            params={"errors": [{"loc": ["key"], "msg": "1 to 60 letters, digits, - and _"}]},
        )
    parsed = parse_flow(yaml_text)
    current = await uow.row(uow.lock(select(flow_table).where(flow_table.c.key == key, flow_table.c.current)))
    if current is not None and current["source"] == yaml_text:
        return int(current["version"])
    newest = await uow.scalar(select(func.max(flow_table.c.version)).where(flow_table.c.key == key))
    version = int(newest or 0) + 1
    stored = await uow.insert_new(
        flow_table,
        {"key": key, "version": version, "source": yaml_text, "current": True, "created_at": uow.now},
        key=["key", "version"],
        returning=flow_table.c.id,
    )
    if stored is None:
        raise Conflict("somebody else stored this flow at the same moment", code="version_mismatch")
    await uow.execute(
        update(flow_table).where(flow_table.c.key == key, flow_table.c.id != stored).values(current=False)
    )
    await uow.emit(
        DomainEvent(
            kind="flow.stored",
            subject_kind="flow",
            subject_id=int(stored),
            actor=actor,
            payload={"key": key, "version": version, "warnings": list(parsed.warnings)},
        )
    )
    if parsed.warnings:
        log.warning("flow_warnings", key=key, version=version, warnings=parsed.warnings)
    return version
