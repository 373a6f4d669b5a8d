"""Runs what is due by the clock: each sweeper looks at one indexed `…_at` column and does what its rows ask.

Any number of processes may run the same sweeper; rows are locked while they are worked on. A sweeper returns the next
instant at which it has something to do, or None.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from crm_core.services import Services

log = structlog.get_logger(__name__)

Sweep = Callable[[Services], Awaitable[int | None]]
_EVERY_S = 1.0
_SELDOM_S = 60.0
#: a row that stays due (another process holds it) must not make the loop spin
_AT_LEAST_S = 0.02


class Sweepers:
    """One task per sweeper, so that a slow one delays nobody."""

    def __init__(
        self, services: Services, sweeps: Mapping[str, Sweep], *, seldom: frozenset[str] = frozenset()
    ) -> None:
        self._services = services
        self._sweeps = dict(sweeps)
        self._seldom = seldom
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        for name, sweep in self._sweeps.items():
            self._tasks.append(asyncio.create_task(self._loop(name, sweep), name=f"sweep-{name}"))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _loop(self, name: str, sweep: Sweep) -> None:
        while True:
            every_s = _SELDOM_S if name in self._seldom else _EVERY_S
            wait_s = every_s
            try:
                due = await sweep(self._services)
                if due is not None:
                    wait_s = min(every_s, max(_AT_LEAST_S, (due - self._services.clock.now_ms()) / 1000))
            except asyncio.CancelledError:
                raise
            except Exception:
                log.exception("sweep_failed", sweep=name)
            await asyncio.sleep(wait_s)
