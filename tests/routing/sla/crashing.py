"""Sweepers and job runners as processes that are killed with SIGKILL at chosen statements. Run as a program:

    python -m tests.routing.sla.crashing URL OFFSET_MS SEED WORKERS KILLS

It forks `WORKERS` processes, each sweeping and then running the SLA's jobs; a worker that was told to dies in front of
its n-th statement, or in front of a commit, and another takes its place, until KILLS have died. Those after them live.
Ends when all have nothing to do any more; prints how many were killed.
"""

import asyncio
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy import event as sa_event

from crm_core import job_table
from crm_core.clock import SystemClock
from crm_core.db.engine import Database
from crm_core.infra.local import DirectoryFiles, LocalHints, MemoryLimiter
from crm_core.jobs import JobRegistry
from crm_core.services import AppSettings, Services
from routing.sla import service, sweeper
from workers.execute import execute

#: what a dead worker held is found again after this
LEASE_MS = 150


class Offset:
    """The test's time, going on."""

    def __init__(self, offset_ms: int) -> None:
        self._system = SystemClock()
        self._offset_ms = offset_ms

    def now_ms(self) -> int:
        return self._system.now_ms() + self._offset_ms


def die_at(db: Database, nth: int, *, behind_commit: bool) -> None:
    """SIGKILL in front of the n-th thing this process asks of the database, commits included; or in front of the first
    thing behind its n-th commit, where what should be one transaction and is two falls apart.
    """
    left = nth

    def count(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0 and not behind_commit:
            os.kill(os.getpid(), signal.SIGKILL)

    def look(*_: Any) -> None:
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    engine = db._write_engine.sync_engine
    sa_event.listen(engine, "commit", count)
    sa_event.listen(engine, "before_cursor_execute", look if behind_commit else count)


async def work(url: str, offset_ms: int, nth: int | None, *, behind_commit: bool) -> None:
    db = Database(url, clock=Offset(offset_ms), hints=LocalHints(), pool_size=2, synchronous="OFF")
    await db.start()
    db.listeners = {kind: list(functions) for kind, functions in service.LISTENERS.items()}
    if nth is not None:
        die_at(db, nth, behind_commit=behind_commit)
    registry = JobRegistry()
    service.declare(registry)
    async with aiohttp.ClientSession() as http:
        services = Services(
            db=db, clock=db.clock, hints=db.hints, files=DirectoryFiles(Path(os.devnull).parent),
            limiter=MemoryLimiter(), http=http,
            settings=AppSettings(public_url="http://x", secret_key=b"k" * 16, data_dir=Path()),
        )  # fmt: skip
        while await _round(services, registry):
            pass
    await db.close()


async def _round(services: Services, registry: JobRegistry) -> bool:
    """Sweep, then run what is due. False when there is nothing left for now."""
    db = services.db
    due = await sweeper.sweep(db)
    async with db.transaction() as uow:
        rows = await job_table.claim(uow, limit=3, lease_ms=LEASE_MS)
    for row in rows:
        await execute(services, registry, row)
    if rows:
        return True
    async with db.reading() as conn:
        job_due = await job_table.next_due(conn)
    soon = min(t for t in (due, job_due, 2**62) if t is not None)
    if soon > db.clock.now_ms() + 1_000:
        return False
    await asyncio.sleep(0.02)
    return True


def main(url: str, offset_ms: int, seed: int, workers: int, kills: int) -> int:
    dice = random.Random(seed)
    running: set[int] = set()
    killed = begun = 0
    deadline = time.monotonic() + 90
    while True:
        while len(running) < workers and (begun < kills or not running or killed < kills):
            # Small numbers die at the first looks, large ones in the middle of firing and of jobs.
            behind_commit = dice.random() < 0.5
            points = (
                dice.randint(1, 8)
                if behind_commit
                else dice.choice((dice.randint(1, 12), dice.randint(5, 60)))
            )
            nth = points if begun < kills else None
            pid = os.fork()
            if pid == 0:
                asyncio.run(work(url, offset_ms, nth, behind_commit=behind_commit))
                os._exit(0)
            running.add(pid)
            begun += 1
        pid, status = os.wait()
        running.discard(pid)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            killed += 1
        elif status:
            return 1
        elif begun >= kills and not running:
            print(killed)
            return 0
        if time.monotonic() > deadline:
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *(int(a) for a in sys.argv[2:])))
