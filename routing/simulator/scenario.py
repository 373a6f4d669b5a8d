"""What is simulated: teams with their settings, agents with shifts, and the traffic, recorded or drawn.

Owns frozen data only. Traffic is a list of arrivals (a replay), streams that draw it, or both. All instants and
durations are milliseconds; instants are UTC where calendars take part, else any origin will do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from routing.business_time import Calendar
from routing.model import Presence, Requirements
from routing.settings import DEFAULTS, TeamSettings
from routing.simulator.laws import Law, fixed

#: an interval [from, to) of instants
Span = tuple[int, int]

HELD, SHARED = "held", "shared"
ATTENTION = (HELD, SHARED)
NO_REQUIREMENTS = Requirements()
AT_ONCE = fixed(0)
#: answers within so long count for the service level, where a team says nothing else
THRESHOLD_MS: Mapping[str, int] = {"voice": 20_000, "chat": 60_000, "callback": 300_000, "async": 3_600_000}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One contact that comes in.

    `handle_ms`: how long an agent holds it, wrap-up of the channel not included. `due_at`: by when it must have been
    replied to, None without a promise; `reply_ms`: the reply comes so long after an agent got it, None for the
    usual: at once in live channels, at the end of asynchronous work. `patience_ms`: it leaves the queue after so
    long; None never. `label` groups results; `ref` is the caller's own id and comes back in the trace.
    """

    at: int
    team_id: int
    channel: str
    handle_ms: int
    kind: str = "ticket"
    label: str = ""
    requirements: Requirements = NO_REQUIREMENTS
    priority: str = "normal"
    vip: bool = False
    manager_id: int | None = None
    sticky_agent_id: int | None = None
    due_at: int | None = None
    reply_ms: int | None = None
    patience_ms: int | None = None
    ref: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One part of a stream's mix; `share` of its arrivals are like this. Shares are relative to their sum.

    `due_ms`: the reply is promised so long after the arrival, by the team's calendar if it has one.
    """

    share: float = 1.0
    label: str = ""
    requirements: Requirements = NO_REQUIREMENTS
    priority: str = "normal"
    due_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Arrivals drawn by a Poisson process.

    `per_hour`: the rate; `profile`: factors of it, one for each half-hour since the scenario's beginning, after
    the last one again from the first. `vip`, `managed`: shares of arrivals from VIPs, and from contacts with a
    responsible manager, one of `managers`.
    """

    name: str
    team_id: int
    channel: str
    per_hour: float
    handle: Law
    profile: tuple[float, ...] = ()
    patience: Law | None = None
    mix: tuple[Kind, ...] = (Kind(),)
    kind: str = "ticket"
    vip: float = 0.0
    managed: float = 0.0
    managers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """An agent's presence changes outside of his shifts' rhythm: a break, or a lost connection (offline)."""

    at: int
    presence: str = Presence.OFFLINE


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioAgent:
    """An agent. `capacity` as in agent.settings.capacity: maxima by channel, `load_max`.

    `shifts`: when he works; () always. `accept`: how probably he takes an offer; of the others he declines the
    share `declines` at once and lets the rest ring until they expire. `answer`: how long he takes to accept.
    `back_after_ms`: when he comes back after being put on a break as not responding.
    """

    id: int
    name: str = ""
    teams: frozenset[int] = frozenset()
    skills: Mapping[str, int] = field(default_factory=dict)
    capacity: Mapping[str, int] = field(default_factory=dict)
    shifts: tuple[Span, ...] = ()
    moves: tuple[Move, ...] = ()
    accept: float = 1.0
    declines: float = 0.0
    answer: Law = AT_ONCE
    back_after_ms: int = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A service target: `percent` of the contacts answered within `within_ms`."""

    within_ms: int
    percent: float = 80.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioTeam:
    """A team. `queue_limit` by channel: so many may wait, more are turned away (a line's trunks)."""

    id: int
    name: str = ""
    settings: TeamSettings = DEFAULTS
    calendar: Calendar | None = None
    targets: Mapping[str, Target] = field(default_factory=dict)
    queue_limit: Mapping[str, int] = field(default_factory=dict)

    def threshold_ms(self, channel: str) -> int:
        target = self.targets.get(channel)
        return target.within_ms if target is not None else THRESHOLD_MS[channel]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Everything a run needs besides its seed.

    `starts_at`, `ends_at`: the time in which contacts arrive; work that is there at the end is still finished.
    `arrivals` must be in order of time. `max_arrivals` ends the run earlier; the first `warmup_arrivals` are
    played but not counted.

    `attention`: what happens to asynchronous work while live work interrupts its agent. `held`: nothing, the
    place is held for `handle_ms` (recorded traffic has its interruptions in it already). `shared`: it goes on
    only at the rate that the agent's live work leaves, so that interrupting costs what it costs.
    """

    teams: tuple[ScenarioTeam, ...]
    agents: tuple[ScenarioAgent, ...]
    name: str = ""
    starts_at: int = 0
    ends_at: int | None = None
    arrivals: Sequence[Arrival] = ()
    streams: tuple[Stream, ...] = ()
    max_arrivals: int | None = None
    warmup_arrivals: int = 0
    attention: str = HELD
