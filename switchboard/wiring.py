"""The composition root: which listener hears which event, which jobs and sweepers exist, and the parts themselves.

This is the one table of "when X happens, Y follows"; a reader who wants to know what an event causes looks here.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import aiohttp

import bots
from channels import close_channels
from crm_core import calls, inquiries
from crm_core.clock import Clock, FileClock, SystemClock
from crm_core.db.engine import Database
from crm_core.events import Listener
from crm_core.infra.local import DirectoryFiles, LocalHints, MemoryLimiter
from crm_core.jobs import JobRegistry
from crm_core.ports import Hints, RateLimiter
from crm_core.services import Services
from routing import callbacks, closed_reply
from routing import listeners as routing_listeners
from routing import sweep as routing_sweep
from routing.planning import runs as planning_runs
from routing.sla import service as sla_service
from routing.sla import sweeper as sla_sweeper
from switchboard.settings import Settings
from workers import (
    calendar_feeds,
    delivery,
    dialling,
    fetch,
    housekeeping,
    inbound,
    notices,
    set_up,
    webhooks,
)
from workers.sweepers import Sweep

#: in this order: clocks first, because routing orders by their deadlines; bots before routing, because what a dialog
#: hands off is routed in the same transaction
LISTENING = (
    sla_service.LISTENERS,
    bots.LISTENERS,
    routing_listeners.LISTENERS,
    callbacks.LISTENERS,
    set_up.LISTENERS,
)


def listeners() -> dict[str, list[Listener]]:
    """Event kind -> functions called in the event's own transaction, in order."""
    table: dict[str, list[Listener]] = {}
    for part in LISTENING:
        for kind, functions in part.items():
            table.setdefault(kind, []).extend(functions)
    return table


def jobs() -> JobRegistry:
    registry = JobRegistry()
    for part in (
        inbound,
        delivery,
        fetch,
        dialling,
        set_up,
        bots,
        sla_service,
        webhooks,
        notices,
        planning_runs,
        closed_reply,
        calendar_feeds,
    ):
        part.declare(registry)
    return registry


async def _calls(services: Services) -> int | None:
    async with services.db.transaction() as uow:
        return await calls.sweep(uow)


async def _inquiries(services: Services) -> int | None:
    async with services.db.transaction() as uow:
        await inquiries.sweep_solved(uow)
        await inquiries.sweep_snoozed(uow)
    return None


def sweeps() -> Mapping[str, Sweep]:
    return {
        **{name: _with_db(sweep) for name, sweep in (*routing_sweep.SWEEPERS, *bots.SWEEPERS.items())},
        "sla": _with_db(sla_sweeper.sweep),
        "callbacks": _with_db(callbacks.sweep),
        "calls": _calls,
        "webhooks": _with_db(webhooks.sweep),
        "inquiries": _inquiries,
        "housekeeping": housekeeping.sweep,
        "calendar_feeds": calendar_feeds.sweep,
        "calendar_zones": calendar_feeds.sweep_zones,
    }


#: these run once a minute
SELDOM = frozenset({"housekeeping", "inquiries", "routing.reconcile", "calendar_feeds", "calendar_zones"})


def _with_db(sweep: Callable[[Database], Awaitable[int | None]]) -> Sweep:
    async def run(services: Services) -> int | None:
        return await sweep(services.db)

    return run


def make_clock(settings: Settings) -> Clock:
    return FileClock(settings.clock_file) if settings.clock_file else SystemClock()


@asynccontextmanager
async def build_services(settings: Settings, *, demo: bool = False) -> AsyncIterator[Services]:
    """All parts for one process and loop, started; closed at the end of the block."""
    clock = make_clock(settings)
    hints: Hints
    limiter: RateLimiter
    if settings.redis_url:
        from crm_core.infra.redis import RedisHints, RedisLimiter

        hints, limiter = RedisHints(settings.redis_url), RedisLimiter(settings.redis_url)
    else:
        hints, limiter = LocalHints(), MemoryLimiter()
    db = Database(
        settings.resolved_database_url,
        clock=clock,
        hints=hints,
        pool_size=settings.pool_size,
        synchronous=settings.sqlite_synchronous,
    )
    db.listeners = listeners()
    http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60, connect=10))
    try:
        await hints.start()
        await db.start()
        yield Services(
            db=db,
            clock=clock,
            hints=hints,
            files=DirectoryFiles(settings.files_dir or settings.data_dir / "files"),
            limiter=limiter,
            http=http,
            settings=settings.for_app(demo=demo),
        )
    finally:
        await close_channels()
        await http.close()
        await hints.close()
        if not isinstance(limiter, MemoryLimiter):
            await limiter.close()
        await db.close()
