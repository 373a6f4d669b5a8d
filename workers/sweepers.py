"""Runs what is due by the clock: each sweeper looks at one indexed `…_at` column and does what its rows ask.

Any number of processes may run the same sweeper; rows are locked while they are worked on. A sweeper returns the next
instant at which it has something to do, or None.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping

import structlog

from crm_core.services import Services

log = structlog.get_logger(__name__)

Sweep = Callable[[Services], Awaitable[int | None]]
_EVERY_S = 1.0
_SELDOM_S = 60.0


class Sweepers:
    """One task per sweeper, so that a slow one delays nobody."""

    def __init__(
        self, services: Services, sweeps: Mapping[str, Sweep], *, seldom: frozenset[str] = frozenset()
    ) -> None:
        self._services = services
        self._sweeps = dict(sweeps)
        self._seldom = seldom
        self._tasks: list[asyncio.Task[None]] = []
        self._nudges: dict[str, asyncio.Event] = {}

    def start(self) -> None:
        for name, sweep in self._sweeps.items():
            self._nudges[name] = asyncio.Event()
            self._tasks.append(asyncio.create_task(self._loop(name, sweep), name=f"sweep-{name}"))

    def nudge(self, name: str) -> None:
        """Run this one now instead of at its next second."""
        event = self._nudges.get(name)
        if event is not None:
            event.set()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def run_once(self) -> None:
        """Every sweeper once, in order: for tests and for operators."""
        for sweep in self._sweeps.values():
            await sweep(self._services)

    async def _loop(self, name: str, sweep: Sweep) -> None:
        nudge = self._nudges[name]
        while True:
            every_s = _SELDOM_S if name in self._seldom else _EVERY_S
            wait_s = every_s
            nudge.clear()
            try:
                due = await sweep(self._services)
                if due is not None:
                    wait_s = min(every_s, max(0.005, (due - self._services.clock.now_ms()) / 1000))
            except asyncio.CancelledError:
                raise
            except Exception:
                log.exception("sweep_failed", sweep=name)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(nudge.wait(), timeout=wait_s)
