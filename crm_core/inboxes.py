"""Finding an inbox on the hot path: a short-lived copy per process, because accounts change rarely and messages do
not."""

from typing import Any

from sqlalchemy import ColumnElement, select

from crm_core.clock import SECOND
from crm_core.db.engine import Database
from crm_core.schema import inbox

_KEEP_MS = 2 * SECOND


class InboxCache:
    """Looks up inboxes by id, key or address; a change is seen within two seconds everywhere."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._rows: dict[tuple[str, Any], tuple[int, dict[str, Any] | None]] = {}

    async def by_id(self, inbox_id: int) -> dict[str, Any] | None:
        return await self._find("id", inbox_id, inbox.c.id == inbox_id)

    async def by_key(self, key: str) -> dict[str, Any] | None:
        return await self._find("key", key, inbox.c.key == key)

    async def by_address(self, channel: str, address: str) -> dict[str, Any] | None:
        """Address as stored: lower-case email or E.164."""
        return await self._find(f"address:{channel}", address,
                                (inbox.c.channel == channel) & (inbox.c.address == address))

    def forget(self) -> None:
        self._rows.clear()

    async def _find(self, kind: str, value: Any, condition: ColumnElement[bool]) -> dict[str, Any] | None:
        now = self._db.clock.now_ms()
        known = self._rows.get((kind, value))
        if known is not None and 0 <= now - known[0] < _KEEP_MS:
            return known[1]
        async with self._db.reading() as conn:
            row = (await conn.execute(select(inbox).where(condition).limit(1))).mappings().first()
        if len(self._rows) > 10_000:
            self._rows.clear()
        self._rows[(kind, value)] = (now, dict(row) if row else None)
        return dict(row) if row else None
