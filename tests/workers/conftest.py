"""A whole working process without a web server: services, the embedded runner, and inboxes of each channel."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import select

from channels import close_channels
from crm_core import inbound_rows
from crm_core.db.engine import Database
from crm_core.infra.local import DirectoryFiles, MemoryLimiter
from crm_core.schema import inbox
from crm_core.services import AppSettings, Services
from switchboard import wiring
from workers.runner import LocalRunner


@pytest.fixture
async def services(db: Database, tmp_path: Path) -> AsyncIterator[Services]:
    db.listeners = wiring.listeners()
    async with aiohttp.ClientSession() as http:
        yield Services(
            db=db,
            clock=db.clock,
            hints=db.hints,
            files=DirectoryFiles(tmp_path / "files"),
            limiter=MemoryLimiter(),
            http=http,
            settings=AppSettings(public_url="http://127.0.0.1:1", secret_key=b"k" * 32, data_dir=tmp_path),
        )
        await close_channels()


@pytest.fixture
async def runner(services: Services) -> AsyncIterator[LocalRunner]:
    made = LocalRunner(services, wiring.jobs())
    made.start()
    yield made
    await made.stop()


async def an_inbox(db: Database, channel: str, **more: Any) -> dict[str, Any]:
    async with db.transaction() as uow:
        values = {
            "key": f"{channel}-key-{uow.now}",
            "channel": channel,
            "name": channel.title(),
            "secret": "top-secret",
            "config": {},
            "address": None,
            "team_id": None,
            "default_kind": "ticket",
            "flow_key": None,
            "region": "UA",
            "language": "uk",
            "priority": "normal",
            "enabled": True,
            "created_at": uow.now,
            **more,
        }
        return {**values, "id": await uow.insert(inbox, values)}


async def rows(db: Database, table: Any, *where: Any) -> list[dict[str, Any]]:
    async with db.reading() as conn:
        found = await conn.execute(select(table).where(*where).order_by(*table.primary_key.columns))
        return [dict(r) for r in found.mappings()]


async def store(db: Database, inbox_id: int, *items: Any) -> list[int]:
    async with db.transaction() as uow:
        return await inbound_rows.store_items(uow, inbox_id, items)


async def until(condition: Callable[[], Awaitable[Any]], timeout: float = 30) -> Any:
    """Wait for a condition that becomes true by itself; returns its value."""
    async with asyncio.timeout(timeout):
        while True:
            found = await condition()
            if found:
                return found
            await asyncio.sleep(0.02)
