"""Running one claimed job: the only place that knows how a job begins, ends, fails and is buried."""

import asyncio
import random
import traceback

import structlog

from crm_core import job_table
from crm_core.jobs import Abandon, JobRegistry, JobRow, JobSpec, RetryLater
from crm_core.services import Services

log = structlog.get_logger(__name__)


class NotOurs(Exception):
    """The lease is lost, or an earlier job of the lane is still there: leave the row alone."""


async def execute(services: Services, registry: JobRegistry, row: JobRow) -> None:
    """Run a leased job to its end. Never raises but for cancellation: every failure is written to the row."""
    spec = registry.get(row.name)
    if spec is None:
        await _bury(services, row, f"no job is called {row.name!r}")
        return
    try:
        await asyncio.wait_for(_run(services, spec, row), timeout=spec.lease_s)
    except NotOurs:
        await _give_back(services, row)
    except RetryLater as later:
        # Announced waiting (rate limits) is no failure; but it must not go on for ever either.
        if later.counted and row.attempts >= row.max_attempts:
            await _bury(services, row, later.reason)
        else:
            await _postpone(services, row, later.delay_ms, counted=later.counted, error=later.reason or None)
    except Abandon as end:
        await _bury(services, row, str(end))
    except asyncio.CancelledError:
        raise
    except Exception as error:
        text = "".join(traceback.format_exception_only(error)).strip()
        log.warning(
            "job_failed", job=row.name, job_id=row.id, attempt=row.attempts, error=text, exc_info=True
        )
        if row.attempts >= row.max_attempts:
            await _bury(services, row, text)
        else:
            base = spec.backoff_ms[min(row.attempts - 1, len(spec.backoff_ms) - 1)]
            await _postpone(services, row, int(base * random.uniform(0.8, 1.2)), counted=True, error=text)


async def _run(services: Services, spec: JobSpec, row: JobRow) -> None:
    if spec.transactional:
        async with services.db.transaction() as uow:
            if not await job_table.still_mine(uow, row):
                raise NotOurs
            await spec.handler(services, uow, row)
            await job_table.finish(uow, row)
        return
    if spec.self_managed:
        await spec.handler(services, row)
        return
    async with services.db.transaction() as uow:
        if not await job_table.still_mine(uow, row):
            raise NotOurs
        # Nobody else may take it over while it talks to the outside.
        await job_table.extend(uow, row, lease_ms=(spec.lease_s + 15) * 1000)
    await spec.handler(services, row)
    async with services.db.transaction() as uow:
        await job_table.finish(uow, row)


async def _give_back(services: Services, row: JobRow) -> None:
    async with services.db.transaction() as uow:
        await job_table.release_unstarted(uow, [row])


async def _postpone(
    services: Services, row: JobRow, delay_ms: int, *, counted: bool, error: str | None
) -> None:
    async with services.db.transaction() as uow:
        await job_table.postpone(uow, row, delay_ms=delay_ms, counted=counted, error=error)


async def _bury(services: Services, row: JobRow, error: str) -> None:
    log.error("job_dead", job=row.name, job_id=row.id, error=error)
    async with services.db.transaction() as uow:
        await job_table.bury(uow, row, error=error)
