"""Finding an inbox on the hot path: a short-lived copy per process, because accounts change rarely and messages do
not.
"""

from collections.abc import Mapping
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
        self._mail: dict[str, dict[str, Any]] = {}
        self._mail_at = -_KEEP_MS

    async def by_id(self, inbox_id: int) -> dict[str, Any] | None:
        return await self._find("id", inbox_id, inbox.c.id == inbox_id)

    async def by_key(self, key: str) -> dict[str, Any] | None:
        return await self._find("key", key, inbox.c.key == key)

    async def by_mail_address(self, address: str) -> dict[str, Any] | None:
        """The enabled email inbox with this lower-case address, its own or one of its aliases."""
        now = self._db.clock.now_ms()
        if not 0 <= now - self._mail_at < _KEEP_MS:
            async with self._db.reading() as conn:
                rows = (
                    await conn.execute(select(inbox).where(inbox.c.channel == "email", inbox.c.enabled))
                ).mappings()
                self._mail = {a: dict(row) for row in rows.all() for a in mail_addresses(dict(row))}
            self._mail_at = now
        return self._mail.get(address)

    def forget(self) -> None:
        self._rows.clear()
        self._mail_at = -_KEEP_MS

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


def mail_addresses(row: Mapping[str, Any]) -> list[str]:
    """All lower-case addresses of an email inbox: its own, and `aliases` (a list, or text with commas)."""
    aliases = row["config"].get("aliases") or []
    if isinstance(aliases, str):
        aliases = aliases.split(",")
    own = row["address"] or row["config"].get("address") or ""
    return [a.strip().lower() for a in (own, *aliases) if isinstance(a, str) and a.strip()]
