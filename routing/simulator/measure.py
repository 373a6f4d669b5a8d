"""What a run counts, and the figures made of it, each by its definition in docs/sla.md and `routing.reporting`.

Tallies are mutable and only add up; `Measures` are computed of sums of tallies, so a total over queues is a ratio of
sums. Contacts are counted in the order they came; figures over time (queue length, occupancy) are integrals over
the window from the first counted arrival to the last one.
"""

import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from routing.reporting import QueueCounts, ServiceLevels, percent, percentile, service_levels

#: taken so soon that a broken promise is not the waiting's
UNWAITED_MS = 60_000
#: abandoned so fast that nobody could have answered
SHORT_ABANDON_MS = 5_000
_PERCENTILES = (50, 90, 95, 99)


class QueueKey(NamedTuple):
    team_id: int
    channel: str
    label: str


@dataclass(slots=True, eq=False)
class QueueTally:
    """One queue: a team's contacts of one channel and label. `waits` are of answered contacts, ms, ring time
    included.
    """

    threshold_ms: int
    offered: int = 0
    queued: int = 0
    abandoned: int = 0
    blocked: int = 0
    unfinished: int = 0
    waits: "array[int]" = field(default_factory=lambda: array("q"))
    abandoned_after: "array[int]" = field(default_factory=lambda: array("q"))
    promised: int = 0
    breached: int = 0
    breached_unwaited: int = 0
    managed: int = 0
    managed_hits: int = 0
    offers: int = 0
    assignments: int = 0
    overtaken_ms: int = 0
    handled_ms: int = 0
    # queue length over time
    length: int = 0
    longest: int = 0
    area: int = 0
    since: int = 0

    def lengthen(self, by: int, now: int) -> None:
        """So many more wait from now on."""
        self.area += self.length * (now - self.since)
        self.since = now
        self.length += by
        self.longest = max(self.longest, self.length)

    def restart(self, now: int) -> None:
        """Forget the time before now."""
        self.area, self.since, self.longest = 0, now, self.length


@dataclass(slots=True, eq=False)
class AgentTally:
    """One agent over the window. `busy_ms`: with anything in hand; `load_ms`: weight in hand times time;
    `room_ms`: his whole load_max times the time he was there. `units`: what he was
    given, 1 for what fills him; `units_ms`: the handling of it, weighed likewise.
    """

    busy_ms: int = 0
    load_ms: int = 0
    present_ms: int = 0
    room_ms: int = 0
    units: float = 0.0
    units_ms: float = 0.0
    over_limit: int = 0
    since: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """The figures of one queue or of several together. Shares are 0-1, service levels percent, times seconds.

    `service` names its variants (routing.reporting.ServiceLevels). `p_wait`: the share that found nobody free
    at once. `breached_unwaited`: of the broken promises those taken within a minute, which no order could have kept.
    `overtaken_s`: the most by which a later contact was served before one of the same queue that
    waited. None where nothing can be said.
    """

    offered: int
    answered: int
    abandoned: int
    blocked: int
    unfinished: int
    p_wait: float | None
    p_abandon: float | None
    p_block: float | None
    asa_s: float | None
    wait_all_s: float | None
    wait_percentiles_s: dict[str, float | None]
    longest_wait_s: float | None
    service: ServiceLevels
    mean_queue: float
    longest_queue: int
    breach_share: float | None
    promised: int
    breached: int
    breached_unwaited: int
    sticky_hit: float | None
    managed: int
    offers_per_assignment: float | None
    overtaken_s: float
    aht_s: float | None

    def as_data(self) -> dict[str, Any]:
        """JSON form; `service_level_pct` by the name of the variant."""
        data = {name: getattr(self, name) for name in self.__slots__ if name != "service"}
        data["service_level_pct"] = {v: getattr(self.service, v) for v in ServiceLevels.__slots__}
        return data


class Served(NamedTuple):
    """The story of one contact, for a trace. Instants are None if it did not come to that."""

    ref: int | None
    team_id: int
    channel: str
    label: str
    priority: str
    at: int
    answered_at: int | None
    ended_at: int | None
    agent_id: int | None
    outcome: str
    breached: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a run gave. `window`: the time over which queue length and occupancy were measured, ms."""

    scenario: str
    seed: int
    queues: dict[QueueKey, QueueTally]
    agents: dict[int, AgentTally]
    agent_teams: dict[int, frozenset[int]]
    window: tuple[int, int]
    events: int
    problems: tuple[str, ...] = ()
    trace: tuple[Served, ...] = ()

    def measures(
        self, *, team_id: int | None = None, channel: str | None = None, label: str | None = None
    ) -> Measures:
        """Figures of all queues that fit."""
        return measures_of(
            (
                tally
                for key, tally in self.queues.items()
                if team_id in (None, key.team_id)
                and channel in (None, key.channel)
                and label in (None, key.label)
            ),
            self.window,
        )

    def occupancy(self, team_id: int | None = None) -> float | None:
        """Share of the time there with anything in hand."""
        mine = self._agents(team_id)
        return _ratio(sum(a.busy_ms for a in mine), sum(a.present_ms for a in mine))

    def load(self, team_id: int | None = None) -> float | None:
        """Share of the capacity, weighed, in use."""
        mine = self._agents(team_id)
        return _ratio(sum(a.load_ms for a in mine), sum(a.room_ms for a in mine))

    def jain(self, team_id: int | None = None) -> float | None:
        """Fairness of the work given out per hour there: 1 all the same, 1/n all to one."""
        return jain(a.units_ms / a.present_ms for a in self._agents(team_id) if a.present_ms > 0)

    def _agents(self, team_id: int | None) -> list[AgentTally]:
        return [
            tally
            for agent_id, tally in self.agents.items()
            if team_id is None or team_id in self.agent_teams[agent_id]
        ]

    def as_data(self) -> dict[str, Any]:
        """JSON form: total, per team and channel, fairness, load."""
        teams = sorted({k.team_id for k in self.queues})
        return {
            "scenario": self.scenario,
            "seed": self.seed,
            "events": self.events,
            "window_ms": list(self.window),
            "total": self.measures().as_data(),
            "teams": [
                {
                    "team_id": t,
                    "occupancy": self.occupancy(t),
                    "load": self.load(t),
                    "jain": self.jain(t),
                    "channels": {
                        c: self.measures(team_id=t, channel=c).as_data()
                        for c in sorted({k.channel for k in self.queues if k.team_id == t})
                    },
                }
                for t in teams
            ],
            "problems": list(self.problems),
        }


def measures_of(tallies: Iterable[QueueTally], window: tuple[int, int]) -> Measures:
    """Figures over queues together. Service levels count each contact by its own queue's threshold."""
    mine = list(tallies)
    waits = sorted(w for t in mine for w in t.waits)
    left = [w for t in mine for w in t.abandoned_after]
    offered = sum(t.offered for t in mine)
    arrived = offered + sum(t.blocked for t in mine)
    counts = QueueCounts(
        answered=len(waits),
        abandoned=len(left),
        answered_within_t=sum(1 for t in mine for w in t.waits if w <= t.threshold_ms),
        abandoned_within_t=sum(1 for t in mine for w in t.abandoned_after if w <= t.threshold_ms),
        abandoned_short=sum(1 for w in left if w < SHORT_ABANDON_MS),
    )
    span = window[1] - window[0]
    total = sum(waits)
    return Measures(
        offered=offered,
        answered=len(waits),
        abandoned=len(left),
        blocked=arrived - offered,
        unfinished=sum(t.unfinished for t in mine),
        p_wait=_ratio(sum(t.queued for t in mine), offered),
        p_abandon=_ratio(len(left), offered),
        p_block=_ratio(arrived - offered, arrived),
        asa_s=_seconds(total, len(waits)),
        wait_all_s=_seconds(total + sum(left), len(waits) + len(left)),
        wait_percentiles_s={f"p{p}": _at(waits, p) for p in _PERCENTILES},
        longest_wait_s=max(max(waits, default=0), max(left, default=0)) / 1000 if waits or left else None,
        service=service_levels(counts),
        mean_queue=sum(t.area for t in mine) / span if span else 0.0,
        longest_queue=max((t.longest for t in mine), default=0),
        breach_share=_ratio(sum(t.breached for t in mine), sum(t.promised for t in mine)),
        promised=sum(t.promised for t in mine),
        breached=sum(t.breached for t in mine),
        breached_unwaited=sum(t.breached_unwaited for t in mine),
        sticky_hit=_ratio(sum(t.managed_hits for t in mine), sum(t.managed for t in mine)),
        managed=sum(t.managed for t in mine),
        offers_per_assignment=_ratio(sum(t.offers for t in mine), sum(t.assignments for t in mine)),
        overtaken_s=max((t.overtaken_ms for t in mine), default=0) / 1000,
        aht_s=_seconds(sum(t.handled_ms for t in mine), len(waits)),
    )


def jain(shares: Iterable[float]) -> float | None:
    """(sum x)^2 / (n * sum x^2). Jain, Chiu, Hawe, DEC-TR-301, 1984."""
    values = list(shares)
    squares = math.fsum(x * x for x in values)
    return math.fsum(values) ** 2 / (len(values) * squares) if squares else None


def _ratio(part: float, whole: float) -> float | None:
    value = percent(part, whole)
    return None if value is None else value / 100


def _seconds(ms: int, n: int) -> float | None:
    return ms / n / 1000 if n else None


def _at(ordered: list[int], p: float) -> float | None:
    value = percentile(ordered, p)
    return None if value is None else value / 1000
