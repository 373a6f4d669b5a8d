"""The embedded runner: claims due jobs and runs them in this process and loop.

Jobs that a transaction of this process causes come here directly, born leased, so that a message needs no detour
through the table; the table is what makes a crash harmless. Everything else is found by polling it, woken by hints.
"""

import asyncio
import contextlib

import structlog

from crm_core import job_table
from crm_core.jobs import JobRegistry, JobRow
from crm_core.ports.hints import JOBS
from crm_core.services import Services
from workers.execute import execute

log = structlog.get_logger(__name__)

#: longest sleep between looks at the table, in seconds: a lost hint costs at most this
POLL_S = 0.5
_CLAIM_LEASE_MS = 60_000


class LocalRunner:
    """Runs up to `concurrency` jobs at once; jobs of one lane never overlap."""

    def __init__(self, services: Services, registry: JobRegistry, *, concurrency: int = 16) -> None:
        self._services = services
        self._registry = registry
        self._concurrency = concurrency
        self._running: set[asyncio.Task[None]] = set()
        self._busy_lanes: set[str] = set()
        self._waiting: list[JobRow] = []
        self._wake = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._stopping = False
        self._services.db.local_runner = self.accept
        self._end_hint = self._services.hints.subscribe(JOBS, lambda _payload: self._wake.set())
        self._task = asyncio.create_task(self._loop(), name="job-runner")

    async def stop(self) -> None:
        """Finish what runs (bounded), give back what did not start."""
        self._stopping = True
        self._services.db.local_runner = None
        self._end_hint()
        self._wake.set()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._running:
            _done, pending = await asyncio.wait(self._running, timeout=10)
            for task in pending:
                task.cancel()
            if pending:
                await asyncio.wait(pending)
        if self._waiting:
            rows, self._waiting = self._waiting, []
            async with self._services.db.transaction() as uow:
                await job_table.release_unstarted(uow, rows)

    def accept(self, rows: list[JobRow]) -> None:
        """Take over jobs that were just committed, leased to this process."""
        self._waiting.extend(rows)
        self._start_ready()

    def _start_ready(self) -> None:
        if self._stopping:
            return
        kept: list[JobRow] = []
        held: set[str] = set()
        for row in self._waiting:
            lane_busy = row.lane is not None and (row.lane in self._busy_lanes or row.lane in held)
            if lane_busy or len(self._running) >= self._concurrency:
                kept.append(row)
                if row.lane is not None:
                    held.add(row.lane)
                continue
            if row.lane is not None:
                self._busy_lanes.add(row.lane)
            task = asyncio.create_task(self._one(row))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        self._waiting = kept

    async def _one(self, row: JobRow) -> None:
        try:
            await execute(self._services, self._registry, row)
        except Exception:
            # The database itself failed: the lease runs out and the job is found again.
            log.exception("job_runner_failed", job=row.name, job_id=row.id)
        finally:
            if row.lane is not None:
                self._busy_lanes.discard(row.lane)
            self._start_ready()
            self._wake.set()

    async def _loop(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                more = await self._claim()
            except Exception:
                log.exception("job_claim_failed")
                more = False
            if more:
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), timeout=POLL_S)

    async def _claim(self) -> bool:
        """Take due rows from the table. True if there may be more at once."""
        self._start_ready()
        room = self._concurrency - len(self._running)
        if room <= 0 or self._waiting:
            return False
        async with self._services.db.reading() as conn:
            due = await job_table.next_due(conn)
        if due is None or due > self._services.clock.now_ms():
            return False
        async with self._services.db.transaction() as uow:
            rows = await job_table.claim(uow, limit=room, lease_ms=_CLAIM_LEASE_MS)
        self._waiting.extend(rows)
        self._start_ready()
        return len(rows) == room
