"""The order key of a work item (docs/routing.md): the instant by which somebody should have it, less its
boosts.

Pure. The key changes on events only, never by the passing of time, so an index on it is always right.
"""

from dataclasses import dataclass
from typing import Any

from routing.business_time import Calendar, Interval
from routing.settings import TeamSettings

#: nights, lunch breaks and days off that are kept with an item; a target that is further away is paced by the clock
MAX_CLOSED = 24


@dataclass(frozen=True, slots=True)
class OrderKey:
    """`key` in ms UTC; smaller is served first. The rest is what it is made of. `closed`: when nobody works between
    the item's readiness and its target, and its rings do not open either.
    """

    key: int
    target_at: int
    metric: str
    boost_ms: int
    vip_boost_ms: int
    closed: tuple[Interval, ...] = ()

    def as_data(self) -> dict[str, Any]:
        data: dict[str, Any] = {
            "metric": self.metric,
            "target_at": self.target_at,
            "boost_ms": self.boost_ms,
            "vip_boost_ms": self.vip_boost_ms,
        }
        if self.closed:
            data["closed"] = [list(interval) for interval in self.closed]
        return data


def order_key(
    settings: TeamSettings,
    *,
    channel: str,
    kind: str,
    priority: str,
    vip: bool,
    ready_at: int,
    due_at: int | None,
    calendar: Calendar | None = None,
) -> OrderKey:
    """The key of an item: the earlier of its SLA deadline and the longest wait its channel allows, less boosts.

    `due_at`: the earliest deadline of its running reply clocks, None without one; for a callback, the promised
    time. `calendar`: the team's; waits of asynchronous channels are business time in it, and of everything that
    rests while the team is closed.
    """
    rules = settings.channel(channel)
    wait = settings.lead_max_wait_ms if kind == "lead" and channel == "async" else rules.max_wait_ms
    rests = calendar is not None and settings.rests_when_closed(channel, priority, vip)
    counts = calendar if rests or channel == "async" else None
    business = None if counts is None else counts.due_first(ready_at, wait)
    target, metric = (business if business is not None else ready_at + wait), "max_wait"
    if due_at is not None and due_at <= target:
        target, metric = due_at, "sla"
    boost = rules.boosts.get(priority, 0)
    vip_boost = rules.vip_boost_ms if vip else 0
    # A team that never opens again parks nothing, so its time is the clock's.
    closed = _closed(calendar, ready_at, target) if rests and calendar and business is not None else ()
    return OrderKey(target - boost - vip_boost, target, metric, boost, vip_boost, closed)


def _closed(calendar: Calendar, start: int, end: int) -> tuple[Interval, ...]:
    """When the team is closed in [start, end); nothing where that is too often to be kept."""
    found = calendar.open_between(start, end, MAX_CLOSED)
    if len(found) == MAX_CLOSED:
        return ()
    edges = [start, *(instant for interval in found for instant in interval), max(start, end)]
    return tuple((a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b)
