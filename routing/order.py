"""The order key of a work item (docs/routing.md): the instant by which somebody should have it, less its
boosts.

Pure. The key changes on events only, never by the passing of time, so an index on it is always right.
"""

from dataclasses import dataclass
from typing import Any

from routing.business_time import Calendar
from routing.settings import TeamSettings


@dataclass(frozen=True, slots=True)
class OrderKey:
    """`key` in ms UTC; smaller is served first. The rest is what it is made of."""

    key: int
    target_at: int
    metric: str
    boost_ms: int
    vip_boost_ms: int

    def as_data(self) -> dict[str, Any]:
        return {
            "metric": self.metric,
            "target_at": self.target_at,
            "boost_ms": self.boost_ms,
            "vip_boost_ms": self.vip_boost_ms,
        }


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
    time. `calendar`: the team's; waits of asynchronous channels are business time in it.
    """
    rules = settings.channel(channel)
    wait = settings.lead_max_wait_ms if kind == "lead" and channel == "async" else rules.max_wait_ms
    business = calendar.due_first(ready_at, wait) if calendar is not None and channel == "async" else None
    target, metric = (business if business is not None else ready_at + wait), "max_wait"
    if due_at is not None and due_at <= target:
        target, metric = due_at, "sla"
    boost = rules.boosts.get(priority, 0)
    vip_boost = rules.vip_boost_ms if vip else 0
    return OrderKey(target - boost - vip_boost, target, metric, boost, vip_boost)
