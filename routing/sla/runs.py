"""When a clock ran before now, as far as it remembers: to say when an earlier run used up a target that came later.

Owns the short memory `Clock.runs`, and what it is good for. What counts for a promise is `Clock.consumed_ms`; nothing
here judges.
"""

from routing.business_time import Calendar
from routing.sla.clock import ONCE_METRICS, Clock

#: Of a ticket that paused more often it is only approximately known when a later target was used up.
KEPT = 32


def with_run(clock: Clock, at: int) -> tuple[int, ...]:
    """The finished runs, with the present one if it ends at `at`."""
    if clock.running_since is None:
        return clock.runs
    return (*clock.runs, clock.running_since, at)[-2 * KEPT :]


def at_end(clock: Clock, at: int) -> tuple[int, ...]:
    """What is kept of a clock that ends at `at`. Only those that may be reopened need the last run; the one run of a
    clock that never paused is known without.
    """
    paused = bool(clock.runs) or clock.running_since != clock.activated_at
    return with_run(clock, at) if paused and clock.metric in ONCE_METRICS else clock.runs


def only_run(clock: Clock) -> tuple[int, ...]:
    """The run of a fulfilled clock that never paused: it is not written down before there is a second."""
    return (clock.activated_at, clock.fulfilled_at) if clock.fulfilled_at is not None else ()


def used_up(clock: Clock, calendar: Calendar) -> int | None:
    """When the finished runs used up the target; None when they are not known, or were measured by other hours."""
    spent, found, target = 0, None, clock.target_ms or 0
    for start, end in zip(clock.runs[::2], clock.runs[1::2], strict=True):
        open_ms = calendar.elapsed(start, end)
        if found is None and spent + open_ms >= target:
            found = calendar.due_first(start, target - spent)
        spent += open_ms
    return found if spent == clock.consumed_ms else None
