"""Reading the event log with a cursor that is safe under concurrent commits.

Rows with lower ids may commit later, so `id > last` skips facts for ever. On Postgres each row carries its writing
transaction's id and readers stay below the oldest transaction still running; SQLite has one writer, so ids commit in
order. A cursor is `(tx, id)`, written "tx-id" (ADR 0003).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, ColumnElement, Integer, bindparam, literal_column, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection
from typing_extensions import override

from crm_core.db.prepared import Prepared, fetch
from crm_core.db.uow import Row
from crm_core.errors import Invalid
from crm_core.schema import event


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    tx: int = 0
    id: int = 0

    @override
    def __str__(self) -> str:
        return f"{self.tx}-{self.id}"

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Raises Invalid for anything but two numbers with a dash between."""
        left, dash, right = text.partition("-")
        if not dash or not left.isascii() or not left.isdigit() or not right.isascii() or not right.isdigit():
            raise Invalid(f"not an event cursor: {text[:40]!r}", code="bad_cursor")
        if len(left) > 18 or len(right) > 18:
            raise Invalid("not an event cursor: numbers too long", code="bad_cursor")
        return cls(int(left), int(right))


async def read_after(
    conn: AsyncConnection, cursor: Cursor, *, limit: int = 500, tx_offset: int = 0
) -> tuple[Sequence[Row], Cursor]:
    """Committed events behind `cursor`, oldest first, and the cursor behind the last of them.

    `tx_offset` is the Database's; events of transactions that might still be overtaken are left for the next call.
    """
    here = {"id_": cursor.id, "limit_": limit}
    if conn.dialect.name == "postgresql":
        rows = await fetch(conn, _AFTER_BELOW_HORIZON, {**here, "tx_": cursor.tx, "offset_": tx_offset})
    elif cursor.tx == 0:
        rows = await fetch(conn, _AFTER_ID, here)
    else:
        rows = await fetch(conn, _AFTER, {**here, "tx_": cursor.tx})
    return rows, Cursor(rows[-1]["tx"], rows[-1]["id"]) if rows else cursor


_id, _limit = bindparam("id_", type_=BigInteger), bindparam("limit_", type_=Integer)
_tx, _offset = bindparam("tx_", type_=BigInteger), bindparam("offset_", type_=BigInteger)
_horizon: ColumnElement[int] = literal_column("pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
_after = (
    select(event)
    .where(tuple_(event.c.tx, event.c.id) > tuple_(_tx, _id))
    .order_by(event.c.tx, event.c.id)
    .limit(_limit)
)
_AFTER = Prepared(_after)
_AFTER_BELOW_HORIZON = Prepared(_after.where(event.c.tx < _horizon + _offset))
# All of SQLite's events have tx 0, and of a comparison of pairs it takes only the first half to its index: each look
# would read the whole log.
_AFTER_ID = Prepared(select(event).where(event.c.id > _id).order_by(event.c.id).limit(_limit))


async def newest(conn: AsyncConnection, *, tx_offset: int = 0) -> Cursor:
    """The cursor behind everything that is safely committed now."""
    statement = select(event.c.tx, event.c.id).order_by(event.c.tx.desc(), event.c.id.desc()).limit(1)
    if conn.dialect.name == "postgresql":
        statement = statement.where(event.c.tx < _horizon + tx_offset)
    row = (await conn.execute(statement)).first()
    return Cursor(row.tx, row.id) if row else Cursor()


async def oldest(conn: AsyncConnection) -> Cursor | None:
    """The first event still kept; a cursor before it needs a refetch."""
    row = (
        await conn.execute(select(event.c.tx, event.c.id).order_by(event.c.tx, event.c.id).limit(1))
    ).first()
    return Cursor(row.tx, row.id) if row else None


__all__ = ["Cursor", "newest", "oldest", "read_after"]
