"""Keeps the channels' own connections open (getUpdates, IMAP IDLE): one owner per inbox, by a lease in the database.

The embedded form is its own owner; in the scaled form any worker may take over within seconds. Rows and cursor are
stored in one transaction, fenced by the lease, so a deposed owner cannot move the cursor.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Sequence
from typing import Any

import structlog
from sqlalchemy import select

from channels import get_channel
from channels.config import inbox_config
from channels.contract import Channel, ChannelContext, InboxConfig, RawItem
from crm_core import inbound_rows, leases
from crm_core.clock import SECOND
from crm_core.db.uow import read_rows
from crm_core.schema import inbox, inbox_state
from crm_core.services import Services

log = structlog.get_logger(__name__)

_TTL_MS = 15 * SECOND
_LOOK_EVERY_S = 3.0


class Deposed(Exception):
    """Another process owns this inbox now."""


class LeasedSink:
    """The `InboundSink` of one inbox."""

    def __init__(self, services: Services, inbox_id: int, owner: str) -> None:
        self._services = services
        self._inbox_id = inbox_id
        self._owner = owner

    async def cursor(self) -> dict[str, Any]:
        async with self._services.db.reading() as conn:
            found = (
                await conn.execute(
                    select(inbox_state.c.cursor).where(inbox_state.c.inbox_id == self._inbox_id)
                )
            ).scalar()
        return dict(found or {})

    async def store(self, items: Sequence[RawItem], *, cursor: dict[str, Any] | None = None) -> None:
        async with self._services.db.transaction() as uow:
            if not await leases.holds(uow, f"inbox:{self._inbox_id}", self._owner):
                raise Deposed(f"inbox {self._inbox_id}")
            await inbound_rows.store_items(uow, self._inbox_id, items)
            facts: dict[str, Any] = {}
            if items:
                facts["last_inbound_at"] = uow.now
            if cursor is not None:
                facts["cursor"] = cursor
            if facts:
                await inbound_rows.note_state(uow, self._inbox_id, **facts)


class Pollers:
    """Starts, watches and stops a poller for each enabled inbox whose channel polls."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._owner = secrets.token_hex(8)
        self._running: dict[int, tuple[InboxConfig, asyncio.Task[None], asyncio.Event]] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._watch(), name="pollers")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for inbox_id in list(self._running):
            await self._end(inbox_id)

    async def _watch(self) -> None:
        while True:
            try:
                await self._look()
            except Exception:
                log.exception("pollers_failed")
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _look(self) -> None:
        async with self._services.db.reading() as conn:
            rows = await read_rows(
                conn, select(inbox).where(inbox.c.enabled, inbox.c.channel.in_(("telegram", "email")))
            )
        wanted = {r["id"]: inbox_config(r) for r in rows if _polls(inbox_config(r))}
        for inbox_id, (config, task, _stop) in list(self._running.items()):
            if task.done() or wanted.get(inbox_id) != config:
                await self._end(inbox_id)
        for inbox_id, config in wanted.items():
            async with self._services.db.transaction() as uow:
                fence = await leases.acquire(uow, f"inbox:{inbox_id}", self._owner, ttl_ms=_TTL_MS)
            if fence is None:
                await self._end(inbox_id)
            elif inbox_id not in self._running:
                stop = asyncio.Event()
                task = asyncio.create_task(
                    self._run(get_channel(config.channel), config, stop),
                    name=f"poll-{config.channel}-{inbox_id}",
                )
                self._running[inbox_id] = (config, task, stop)

    async def _run(self, adapter: Channel, config: InboxConfig, stop: asyncio.Event) -> None:
        ctx = ChannelContext(
            http=self._services.http,
            clock=self._services.clock,
            public_url=self._services.settings.public_url,
        )
        sink = LeasedSink(self._services, config.id, self._owner)
        try:
            await adapter.run(config, sink, ctx, stop)
        except Deposed:
            log.info("poller_deposed", inbox_id=config.id)
        except Exception as error:
            log.exception("poller_failed", inbox_id=config.id, channel=config.channel)
            async with self._services.db.transaction() as uow:
                await inbound_rows.note_state(
                    uow, config.id, last_error=str(error)[:500], last_error_at=uow.now
                )
            await asyncio.sleep(5)

    async def _end(self, inbox_id: int) -> None:
        known = self._running.pop(inbox_id, None)
        if known is None:
            return
        _config, task, stop = known
        stop.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(task), timeout=3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        async with self._services.db.transaction() as uow:
            await leases.release(uow, f"inbox:{inbox_id}", self._owner)


def _polls(config: InboxConfig) -> bool:
    if config.channel == "telegram":
        return config.config.get("mode", "polling") == "polling" and bool(config.config.get("token"))
    return bool(config.config.get("imap_host"))
