"""The scaled runner: a relay claims due jobs, does what it has room for, and sends the ids of the others through
dramatiq, where whichever worker process is free takes them.

Only ids and lease tokens travel. Whatever Redis or dramatiq lose is found again when the lease runs out; dramatiq's
own retries and delays are not used, because the job table has them durably (libraries.md §3).
"""

import asyncio
import contextlib
import os
from concurrent.futures import Future
from typing import Any

# Read by dramatiq at import: an idle consumer looks for messages this often (ms) instead of once a second.
os.environ.setdefault("dramatiq_worker_timeout", "100")

import dramatiq
import redis
import structlog
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AgeLimit, Callbacks, ShutdownNotifications, TimeLimit

from crm_core import job_table
from crm_core.infra.redis import thread_client
from crm_core.jobs import JobRegistry, JobRow
from crm_core.ports.hints import JOBS
from crm_core.services import Services
from workers.execute import execute

log = structlog.get_logger(__name__)

_LEASE_MS = 60_000
_POLL_S = 0.5
#: leased but unfinished jobs beyond this wait in the table, where their order is kept
_MAX_OUT = 512
_BATCH = 64
_QUEUE = "switchboard"
#: so long after Redis was found away each worker does only what it has room for
_ALONE_S = 5.0


class ScaledRunner:
    """Relay and dramatiq consumers of one worker process. Coroutines run on the process' own loop; dramatiq's threads
    only wait for them. `threads`: jobs at work at once, of the relay's own and again of those from dramatiq.
    """

    def __init__(
        self, services: Services, registry: JobRegistry, *, redis_url: str, threads: int = 16
    ) -> None:
        self._services = services
        self._registry = registry
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._own: set[asyncio.Task[None]] = set()
        #: instant of the loop; Redis was away, and until then nothing is passed on
        self._alone_until = 0.0
        self._broker: dramatiq.Broker = RedisBroker(  # type: ignore[no-untyped-call]
            client=thread_client(redis_url),
            middleware=[AgeLimit(), ShutdownNotifications(), TimeLimit(time_limit=180_000), Callbacks()],
        )
        declare: Any = dramatiq.actor(actor_name="switchboard.job", queue_name=_QUEUE, broker=self._broker)
        self._actor: Any = declare(self._work)
        self._worker = dramatiq.Worker(self._broker, worker_threads=threads, worker_timeout=100)

    async def start(self) -> None:
        self._end_hint = self._services.hints.subscribe(JOBS, lambda _payload: self._wake.set())
        await asyncio.to_thread(self._worker.start)
        self._tasks = [asyncio.create_task(self._relay(), name="job-relay")]

    async def stop(self) -> None:
        """Stop claiming, let running jobs end (bounded); what did not start comes back with its lease."""
        self._end_hint()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._worker.stop, timeout=15_000)
        if self._own:
            _done, pending = await asyncio.wait(self._own, timeout=10)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        await asyncio.to_thread(self._broker.close)

    def _work(self, job_id: int, token: str) -> None:
        """The one actor: runs in a dramatiq thread and waits for the coroutine on the loop."""
        future: Future[None] = asyncio.run_coroutine_threadsafe(self._execute(job_id, token), self._loop)
        try:
            future.result()
        except BaseException:
            future.cancel()
            raise

    async def _execute(self, job_id: int, token: str) -> None:
        async with self._services.db.transaction() as uow:
            row = await job_table.take(uow, job_id, token)
        if row is not None:  # else finished, or the lease went to another worker
            await self._run(row)

    async def _run(self, row: JobRow) -> None:
        await execute(self._services, self._registry, row)
        if row.lane is not None:
            self._wake.set()  # the next of the lane may go

    async def _run_own(self, row: JobRow) -> None:
        try:
            await self._run(row)
        except Exception:
            # The database itself failed: the lease runs out and the job is found again.
            log.exception("job_runner_failed", job=row.name, job_id=row.id)

    async def _relay(self) -> None:
        while True:
            self._wake.clear()
            more = False
            try:
                more = await self._next()
            except Exception:
                log.exception("relay_failed")
                await asyncio.sleep(1)
            if more:
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), timeout=_POLL_S)

    async def _next(self) -> bool:
        """Begin what is due and there is room for; what is more goes to whoever has room. True: there may be more."""
        async with self._services.db.reading() as conn:
            due = await job_table.next_due(conn)
        if due is None or due > self._services.clock.now_ms():
            return False
        if (room := self._threads - len(self._own)) > 0:
            rows = await self._claim(room)
            for row in rows:
                task = asyncio.create_task(self._run_own(row))
                self._own.add(task)
                task.add_done_callback(self._own.discard)
            if len(rows) < room:
                return False
        if self._loop.time() < self._alone_until:
            return False
        async with self._services.db.reading() as conn:
            wanted = min(_BATCH, _MAX_OUT - await job_table.leased(conn, at_most=_MAX_OUT))
        if wanted <= 0:
            return False
        rows = await self._claim(wanted)
        if rows:
            await self._pass_on(rows)
        return len(rows) == wanted

    async def _pass_on(self, rows: list[JobRow]) -> None:
        try:
            await asyncio.to_thread(self._send, [(r.id, r.lease_token) for r in rows])
        except redis.RedisError as error:
            # Nobody hears of them: whoever has room next takes them, not who finds their leases run out.
            log.warning("jobs_not_passed_on", jobs=len(rows), error=str(error))
            self._alone_until = self._loop.time() + _ALONE_S
            async with self._services.db.transaction() as uow:
                await job_table.release_unstarted(uow, rows)

    async def _claim(self, limit: int) -> list[JobRow]:
        async with self._services.db.transaction() as uow:
            return await job_table.claim(uow, limit=limit, lease_ms=_LEASE_MS)

    def _send(self, jobs: list[tuple[int, str]]) -> None:
        for job_id, token in jobs:
            self._actor.send(job_id, token)
