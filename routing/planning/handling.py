"""How long work held its agent, and what that says: handle times, concurrency, patience. Pure.

A place is held from the assignment to its end, less the stretches in which the work waited for the customer; a
chat that fell silent gives its place back. Asynchronous work is measured in the team's working time: nobody
worked on it in the night.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from crm_core.clock import SECOND
from routing.business_time import ALWAYS_OPEN, Calendar
from routing.model import Channel
from routing.planning.past import Outcome, PastRequest

#: fewer than this and an average says nothing
MIN_SAMPLES = 10
#: what is taken while there is no better: a guess that is shown as one
GUESSED_HANDLE_MS = {
    Channel.VOICE: 240 * SECOND,
    Channel.CHAT: 600 * SECOND,
    Channel.ASYNC: 900 * SECOND,
    Channel.CALLBACK: 300 * SECOND,
}
GUESSED_REPLY_MS = {
    Channel.VOICE: 0,
    Channel.CALLBACK: 0,
    Channel.CHAT: 30 * SECOND,
    Channel.ASYNC: 300 * SECOND,
}

Stretch = tuple[int, int | None]
"""From an instant to another; None: it lasts."""


def held_ms(
    stretches: Sequence[Stretch],
    *,
    pauses: Sequence[tuple[int, int]] = (),
    calendar: Calendar | None = None,
    silent_at: int | None = None,
) -> int | None:
    """Time that a place was held in, over all `stretches`; None while one of them lasts.

    `silent_at`: the instant from which nothing was said any more (a chat's last word and its time of grace).
    """
    hours = calendar or ALWAYS_OPEN
    total = 0
    for start, end in stretches:
        stop = end if silent_at is None else min(silent_at, end if end is not None else silent_at)
        if stop is None:
            return None
        total += hours.elapsed(start, stop, pauses)
    return total


@dataclass(slots=True)
class HandleStats:
    """Sums over the requests of one team and channel; feed with `add`, read the rest."""

    channel: str
    offered: int = 0
    handled: int = 0
    measured: int = 0
    handle_ms: int = 0
    replies: list[int] = field(default_factory=list)
    abandoned: int = 0
    waited_ms: int = 0  # of all who could have given up
    stretches: dict[int, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, request: PastRequest, now: int) -> None:
        self.offered += 1
        self.waited_ms += request.wait_ms(now)
        if request.outcome == Outcome.ABANDONED:
            self.abandoned += 1
        if request.outcome != Outcome.HANDLED:
            return
        self.handled += 1
        if request.handle_ms is not None:
            self.measured += 1
            self.handle_ms += request.handle_ms
            if request.agent_id is not None and request.left_at is not None:
                span = (request.left_at, request.left_at + max(request.handle_ms, 1))
                self.stretches[request.agent_id].append(span)
        if request.reply_ms is not None:
            self.replies.append(request.reply_ms)

    @property
    def known(self) -> bool:
        """Whether `aht_ms` is measured; else it is a guess."""
        return self.measured >= MIN_SAMPLES

    @property
    def aht_ms(self) -> int:
        if not self.known:
            return GUESSED_HANDLE_MS[Channel(self.channel)]
        return max(self.handle_ms // self.measured, SECOND)

    @property
    def patience_ms(self) -> int | None:
        """Mean patience: the time all of them waited, for each who gave up.

        The maximum-likelihood estimate for exponential patience that is cut off by being served. None when too
        few gave up to say.
        """
        return max(self.waited_ms // self.abandoned, SECOND) if self.abandoned >= MIN_SAMPLES else None

    @property
    def reply_ms(self) -> int:
        """Median time from getting it to the first reply."""
        if len(self.replies) < MIN_SAMPLES:
            return GUESSED_REPLY_MS[Channel(self.channel)]
        return sorted(self.replies)[len(self.replies) // 2]

    @property
    def concurrency(self) -> float:
        """How many of these an agent really had at once, while he had any: time held / time busy."""
        held = sum(end - start for spans in self.stretches.values() for start, end in spans)
        busy = sum(_covered(spans) for spans in self.stretches.values())
        return held / busy if busy else 1.0


def _covered(spans: Iterable[tuple[int, int]]) -> int:
    """Length of the union."""
    total, reach = 0, -1
    for start, end in sorted(spans):
        if end > reach:
            total += end - max(start, reach)
            reach = end
    return total
