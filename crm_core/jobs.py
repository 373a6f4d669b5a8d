"""Durable work: what a job is, how it is declared and how it is asked for.

The job table is the truth about work; runners (package workers) only make it fast. A job is inserted in the
transaction of its cause and deleted in the transaction of its effect, so its effect in the database happens once;
what it does outside may happen again after a crash and must be idempotent.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: after how many milliseconds the n-th failed attempt is tried again; the last value repeats
DEFAULT_BACKOFF_MS = (1_000, 5_000, 30_000, 120_000, 600_000, 3_600_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A row to insert. `lane`: jobs of one lane run one at a time by (order_key, id). `dedupe`: at most one live
    row with this key. `run_at` in ms; None means at once.
    """

    name: str
    args: Mapping[str, Any]
    run_at: int | None = None
    lane: str | None = None
    order_key: int = 0
    dedupe: str | None = None
    queue: str = "default"
    max_attempts: int = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """A claimed job, as its runner sees it."""

    id: int
    name: str
    args: Mapping[str, Any]
    lane: str | None
    order_key: int
    attempts: int
    max_attempts: int
    lease_token: str
    created_at: int


class RetryLater(Exception):
    """Raised by a handler: not an error, try again after `delay_ms`; does not count as a failed attempt if
    `counted` is False.
    """

    def __init__(self, delay_ms: int, *, counted: bool = False, reason: str = "") -> None:
        super().__init__(reason or f"again in {delay_ms} ms")
        self.delay_ms = delay_ms
        self.counted = counted
        self.reason = reason


class Abandon(Exception):
    """Raised by a handler: this job will never succeed; park it as dead and raise the alarm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """How a kind of job runs.

    A transactional handler is called `handler(services, uow, job)` inside the transaction that also deletes the row.
    Any other is `handler(services, job)` and talks to the outside; its lease is held for `lease_s` meanwhile.
    A `self_managed` one does slow reading first and then opens one transaction itself, which must begin with
    `job_table.still_mine` and end with `job_table.finish`: one commit for everything.
    """

    name: str
    handler: Callable[..., Awaitable[None]]
    transactional: bool
    self_managed: bool = False
    lease_s: int = 60
    queue: str = "default"
    backoff_ms: tuple[int, ...] = field(default=DEFAULT_BACKOFF_MS)


class JobRegistry:
    """Declared jobs by name. One instance is made by the composition root from the modules that declare."""

    def __init__(self) -> None:
        self._specs: dict[str, JobSpec] = {}

    def add(self, spec: JobSpec) -> None:
        if spec.name in self._specs:
            raise ValueError(f"job {spec.name!r} is declared twice")
        self._specs[spec.name] = spec

    def job(
        self,
        name: str,
        *,
        transactional: bool = False,
        self_managed: bool = False,
        lease_s: int = 60,
        queue: str = "default",
        backoff_ms: tuple[int, ...] = DEFAULT_BACKOFF_MS,
    ) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., Awaitable[None]]]:
        """Decorator that declares a handler."""

        def declare(handler: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
            self.add(
                JobSpec(
                    name=name,
                    handler=handler,
                    transactional=transactional,
                    self_managed=self_managed,
                    lease_s=lease_s,
                    queue=queue,
                    backoff_ms=backoff_ms,
                )
            )
            return handler

        return declare

    def get(self, name: str) -> JobSpec | None:
        return self._specs.get(name)

    def names(self) -> list[str]:
        return sorted(self._specs)
