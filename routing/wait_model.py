"""The arithmetic of the expected wait, from facts that somebody else read. Pure.

Who joins a queue waits for as many ends of work as there are people before him, and one for himself if nobody is
free. Places end `places / handle time` times a unit; what was really answered lately is the second opinion, and
the larger of both is said. Nobody is told a number that few observations stand behind.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from crm_core.clock import MINUTE, SECOND
from routing.model import Channel
from routing.reporting import percentile

#: fewer observations than this are not shown to anybody
MIN_SAMPLES = 10
#: no contact is shorter for planning: what ends at once says nothing about the next
MIN_HANDLE_MS = 30 * SECOND
#: for comparing queues that have no history yet; never shown
ASSUMED_HANDLE_MS = {
    Channel.VOICE: 4 * MINUTE,
    Channel.CHAT: 8 * MINUTE,
    Channel.ASYNC: 30 * MINUTE,
    Channel.CALLBACK: 4 * MINUTE,
}
#: a callback is offered to whom a longer wait is told
OFFER_CALLBACK_MS = 3 * MINUTE
#: waits below this are no waiting: they must not pull the usual worst wait down to nothing
_WAITED_MS = 5 * SECOND


class Basis(StrEnum):
    """What the estimate rests on, or why there is none."""

    FREE = "free"  # somebody is free and nobody is before
    HANDLE_TIME = "handle_time"
    PACE = "pace"  # what was answered in the last quarter of an hour
    RECENT_WORST = "recent_worst"  # cut to what nine of ten waited at most in the last half hour
    CLOSED = "closed"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True, kw_only=True)
class Staff:
    """Who serves a queue now, busy ones too. `places` counts somebody of several queues by his share of them."""

    agents: int = 0
    places: float = 0.0
    free: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a queue. Durations are ms; `waiting_ms` are the ages of those who wait, first in line
    first; `waits_ms` what those answered in the last 30 minutes had waited.
    """

    channel: str
    is_open: bool = True
    opens_at: int | None = None
    ahead: int = 0
    ahead_capped: bool = False
    staff: Staff = Staff()
    handle_ms: int | None = None
    samples: int = 0
    per_minute: float | None = None
    waits_ms: Sequence[int] = ()
    waiting_ms: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """An expected wait. `wait_ms` is the best guess, for comparing queues, None if there is nobody to wait for;
    `low_min` and `high_min` are what may be said, None where too little is known.
    """

    basis: Basis
    channel: str
    wait_ms: int | None
    low_min: int | None
    high_min: int | None
    ahead: int
    ahead_capped: bool
    agents: int
    places: float
    handle_ms: int | None
    samples: int
    per_minute: float | None
    p90_ms: int | None
    opens_at: int | None = None

    @property
    def position(self) -> int:
        return self.ahead + 1

    @property
    def known(self) -> bool:
        """Whether a duration may be told to a customer."""
        return self.high_min is not None

    @property
    def offers_callback(self) -> bool:
        """Whether a customer should be asked if he would rather be called."""
        if self.wait_ms is None:
            return True
        return self.known and self.wait_ms > OFFER_CALLBACK_MS

    def as_data(self) -> dict[str, Any]:
        return {
            "basis": self.basis.value,
            "channel": self.channel,
            "wait_s": None if self.wait_ms is None or not self.known else self.wait_ms // SECOND,
            "low_min": self.low_min,
            "high_min": self.high_min,
            "ahead": self.ahead,
            "ahead_capped": self.ahead_capped,
            "position": self.position,
            "agents": self.agents,
            "places": round(self.places, 2),
            "handle_s": None if self.handle_ms is None else self.handle_ms // SECOND,
            "samples": self.samples,
            "answered_per_minute": None if self.per_minute is None else round(self.per_minute, 2),
            "p90_s": None if self.p90_ms is None else self.p90_ms // SECOND,
            "offer_callback": self.offers_callback,
        }


def expected(facts: Facts) -> Wait:
    """The wait of the next one who joins this queue."""
    p90 = usual_worst(facts)
    if not facts.is_open and facts.opens_at is not None:
        return _wait(facts, Basis.CLOSED, None, p90, shown=False)
    if facts.staff.agents == 0 or facts.staff.places <= 0:
        return _wait(facts, Basis.NOBODY, None, p90, shown=False)
    if facts.ahead == 0 and facts.staff.free > 0:
        return _wait(facts, Basis.FREE, 0, p90, shown=True)
    ends = facts.ahead + 1
    handle = facts.handle_ms if facts.handle_ms is not None else ASSUMED_HANDLE_MS[Channel(facts.channel)]
    wait = round(ends * max(handle, MIN_HANDLE_MS) / facts.staff.places)
    basis = Basis.HANDLE_TIME
    if facts.per_minute:
        by_pace = round(ends * MINUTE / facts.per_minute)
        if by_pace > wait:
            wait, basis = by_pace, Basis.PACE
    if p90 is not None and wait > p90:
        wait, basis = p90, Basis.RECENT_WORST
    shown = facts.samples >= MIN_SAMPLES and facts.handle_ms is not None
    return _wait(facts, basis, wait, p90, shown=shown)


def usual_worst(facts: Facts) -> int | None:
    """What nine of ten had to wait at most, those included who wait still, by what they have waited so far.

    Who was answered at once did not wait: in a calm half hour the first queue would otherwise be told that it
    does not exist. None below ten of them.
    """
    waited = [w for w in (*facts.waits_ms, *facts.waiting_ms) if w >= _WAITED_MS]
    if len(waited) < MIN_SAMPLES:
        return None
    found = percentile(waited, 90)
    return None if found is None else round(found)


def minutes_of(wait_ms: int) -> tuple[int, int]:
    """A wait as people are told it: a range of whole minutes, a fifth to either side, rounded away from false
    precision; (0, 1) is "less than a minute". From half an hour on in steps of five.
    """
    if wait_ms < 45 * SECOND:
        return 0, 1
    step = 1 if wait_ms < 30 * MINUTE else 5
    unit = step * MINUTE
    low = max(math.floor(0.8 * wait_ms / unit) * step, 1)
    high = max(math.ceil(1.25 * wait_ms / unit) * step, low + step)
    return low, high


def _wait(facts: Facts, basis: Basis, wait_ms: int | None, p90: int | None, *, shown: bool) -> Wait:
    low, high = minutes_of(wait_ms) if shown and wait_ms is not None else (None, None)
    return Wait(
        basis=basis, channel=facts.channel, wait_ms=wait_ms, low_min=low, high_min=high, ahead=facts.ahead,
        ahead_capped=facts.ahead_capped, agents=facts.staff.agents, places=facts.staff.places,
        handle_ms=facts.handle_ms, samples=facts.samples, per_minute=facts.per_minute, p90_ms=p90,
        opens_at=facts.opens_at if basis == Basis.CLOSED else None,
    )  # fmt: skip
