"""Inboxes by their public key, kept for a few seconds: every hook and chat request needs one."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web
from sqlalchemy import select

from crm_core.db.engine import Database
from crm_core.errors import NotFound
from crm_core.schema import inbox

#: how long a change made in another process may go unnoticed here
TTL_MS = 5_000


class InboxCache:
    """One per application."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known: dict[str, tuple[int, Mapping[str, Any]]] = {}

    async def get(self, key: str, *, channel: str | None = None) -> Mapping[str, Any]:
        """The enabled inbox with this key. Raises NotFound; unknown keys are not kept, they have no end."""
        now = self._db.clock.now_ms()
        known = self._known.get(key)
        if known is not None and 0 <= now - known[0] < TTL_MS:
            row = known[1]
        else:
            self._known.pop(key, None)
            if not 1 <= len(key) <= 64 or not key.isascii() or "\x00" in key:
                raise NotFound("no such inbox", code="no_inbox")
            async with self._db.reading() as conn:
                found = (await conn.execute(select(inbox).where(inbox.c.key == key))).mappings().first()
            if found is None or not found["enabled"]:
                raise NotFound("no such inbox", code="no_inbox")
            row = dict(found)
            self._known[key] = (now, row)
        if channel is not None and row["channel"] != channel:
            raise NotFound("no such inbox", code="no_inbox")
        return row

    def forget(self) -> None:
        """Somebody changed an inbox here."""
        self._known.clear()


INBOXES = web.AppKey("inboxes", InboxCache)
