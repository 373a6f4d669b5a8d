"""How a run chooses: by the product's rules, or, to compare with them, by one of two named baselines.

A baseline changes what the product's rules are told (the order key, the rings, the order of the eligible agents); the
hard filter, capacity, offers and everything else are the same. Baselines exist in the simulator only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from typing_extensions import override

from crm_core.clock import DAY
from routing.model import Item
from routing.ranking import Rank
from routing.settings import PRIORITIES, StepSettings, TeamSettings

SWITCHBOARD, PRIORITY_FIFO, ROUND_ROBIN = "switchboard", "priority-then-FIFO", "round robin"
SELECTORS = (SWITCHBOARD, PRIORITY_FIFO, ROUND_ROBIN)

#: higher than any queue gets old, so that priority always comes first
_APART_MS = 10_000 * DAY


class Selector:
    """The product's own choice."""

    name = SWITCHBOARD
    #: whether `first` needs all eligible agents, not only the first of those who are alike
    sees_everybody = False

    def settings(self, settings: TeamSettings) -> TeamSettings:
        return settings

    def key(self, _item: Item, /) -> int | None:
        """The order key if it is another one than the product's."""
        return None

    def first(self, ranks: Sequence[Rank]) -> Rank:
        """Who gets it, of the eligible agents ranked by the product."""
        return ranks[0]


_ONE_RING = (StepSettings(scope="required"),)


@dataclass(slots=True)
class PriorityThenFifo(Selector):
    """Strictly by priority, VIPs before all, inside of it the oldest; the whole team is asked at once."""

    name = PRIORITY_FIFO

    @override
    def settings(self, settings: TeamSettings) -> TeamSettings:
        return replace(settings, steps=_ONE_RING, late_share=1.0)

    @override
    def key(self, item: Item, /) -> int | None:
        return item.ready_at - (PRIORITIES.index(item.priority) + 10 * item.vip) * _APART_MS


@dataclass(slots=True)
class RoundRobin(Selector):
    """The oldest first, to the next eligible agent after the one who got the last item."""

    name = ROUND_ROBIN
    sees_everybody = True
    last: dict[int, int] = field(default_factory=dict)

    @override
    def settings(self, settings: TeamSettings) -> TeamSettings:
        return replace(settings, steps=_ONE_RING, late_share=1.0)

    @override
    def key(self, item: Item, /) -> int | None:
        return item.ready_at

    @override
    def first(self, ranks: Sequence[Rank]) -> Rank:
        last = self.last.get(0, 0)
        chosen = min(ranks, key=lambda r: (r.agent.agent_id <= last, r.agent.agent_id))
        self.last[0] = chosen.agent.agent_id
        return chosen


def selector_of(name: str) -> Selector:
    """A fresh selector of that name. Raises KeyError."""
    return {SWITCHBOARD: Selector, PRIORITY_FIFO: PriorityThenFifo, ROUND_ROBIN: RoundRobin}[name]()
