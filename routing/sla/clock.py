"""The data of the SLA engine: clocks, ledger entries, and the few facts about a ticket they need.

Owns shapes and their stored form only; nothing here decides anything. Every field is a number, a string, a
flag or a tuple of strings, so that a clock is one database row.
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from typing import Any, Self


class Metric(StrEnum):
    FIRST_REPLY = "first_reply"
    NEXT_REPLY = "next_reply"
    PERIODIC_UPDATE = "periodic_update"
    PAUSABLE_UPDATE = "pausable_update"
    REQUESTER_WAIT = "requester_wait"
    AGENT_WORK = "agent_work"
    TOTAL_RESOLUTION = "total_resolution"
    SPEED_OF_ANSWER = "speed_of_answer"


REPLY_METRICS = (Metric.FIRST_REPLY, Metric.NEXT_REPLY)
UPDATE_METRICS = (Metric.PERIODIC_UPDATE, Metric.PAUSABLE_UPDATE)
#: One row for the life of the ticket: solving fulfils it, reopening continues it.
ONCE_METRICS = (Metric.REQUESTER_WAIT, Metric.AGENT_WORK, Metric.TOTAL_RESOLUTION)


class ClockState(StrEnum):
    """`idle` of the specification is the absence of a row."""

    ACTIVE = "active"
    PAUSED = "paused"
    FULFILLED = "fulfilled"
    CANCELLED = "cancelled"


class Status(StrEnum):
    NEW = "new"
    OPEN = "open"
    PENDING = "pending"
    HOLD = "hold"
    SOLVED = "solved"
    CLOSED = "closed"


class EventKind(StrEnum):
    ACTIVATE = "activate"
    PAUSE = "pause"
    RESUME = "resume"
    RETARGET = "retarget"
    WARN = "warn"
    """An escalation step fired; `step_key` is set, unique per clock, and the actions are in `data`."""
    BREACH = "breach"
    RETRACT = "retract"
    """A breach is taken back: what happened turned out to have happened in time."""
    FULFIL = "fulfil"
    REOPEN = "reopen"
    CANCEL = "cancel"
    NOTE = "note"
    """Something that moves no clock and belongs on record: the reply was hidden."""


# Without slots: `but` copies a clock in one step, where dataclasses.replace sets its fields one by one, each through
# the guard of a frozen class. Firing and recomputing are little else than copies.
@dataclass(frozen=True)
class Clock:
    """One instance of one metric of one ticket. Instants and durations are milliseconds.

    `consumed_ms` is the time of finished runs in the measure of the target in force (business or plain),
    `other_ms` the same runs in the other measure, so that a change of target between them loses nothing.
    The present run is counted from `running_since`, which is null unless the clock is active.
    """

    metric: Metric
    instance: int
    state: ClockState
    activated_at: int
    running_since: int | None
    consumed_ms: int = 0
    other_ms: int = 0
    paused_since: int | None = None
    paused_ms: int = 0
    pause_reasons: tuple[str, ...] = ()
    business: bool = True
    calendar_id: int | None = None
    """None is plain time: no calendar is configured. Kept when `business` is false, where it is not used."""
    calendar_version: int | None = None
    policy_id: int | None = None
    policy_version: int | None = None
    priority: str | None = None
    target_ms: int | None = None
    due_at: int | None = None
    """Earliest instant at which the target is used up: for people and ordering. Null if nothing runs."""
    breach_at: int | None = None
    """Latest instant still in time: for the timer."""
    next_fire_at: int | None = None
    step: int = 0
    """How many steps of the target in force are over, fired or skipped."""
    breached_at: int | None = None
    fulfilled_at: int | None = None
    cause: str | None = None
    """Of the end: reply, solved, closed, merge, spam, answered, …"""
    fired_steps: tuple[str, ...] = ()
    retargeted_at: int = 0
    changed_at: int = 0
    """The last transition: no event moves a clock to before it."""
    reached_at: int | None = None
    """When the target in force was used up in an earlier run."""
    runs: tuple[int, ...] = ()
    """The finished runs, beginning and end by turns, of a clock that has paused or was reopened. Only to say when an
    earlier run used up a target that came later; what counts is `consumed_ms`.
    """
    activated_by: str | None = None
    fulfilled_by: str | None = None

    def but(self, **changes: Any) -> Self:
        """A copy with other values. Raises TypeError for what is no field."""
        if not _NAMES.issuperset(changes):
            raise TypeError(f"no fields of a clock: {', '.join(sorted(changes.keys() - _NAMES))}")
        made = object.__new__(type(self))
        values = made.__dict__
        values.update(self.__dict__)
        values.update(changes)
        return made

    @property
    def key(self) -> tuple[Metric, int]:
        return self.metric, self.instance

    @property
    def live(self) -> bool:
        return self.state in (ClockState.ACTIVE, ClockState.PAUSED)

    def to_row(self) -> dict[str, Any]:
        """Plain JSON-able values, one per field; tuples become lists."""
        row = dict(self.__dict__)
        for name in _ENUMS:
            row[name] = str(row[name])
        for name in _TUPLES:
            row[name] = list(row[name])
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Inverse of `to_row`; columns that are not fields are ignored."""
        return cls.of({name: row[name] for name in CLOCK_FIELDS if name in row})

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """A clock of fields in their stored form; those with a default may be left out. The dict is used up. Raises
        TypeError for a missing field, ValueError for a metric or state that does not exist.
        """
        metric, state = values["metric"], values["state"]
        values["metric"] = _METRICS.get(metric) or Metric(metric)
        values["state"] = _STATES.get(state) or ClockState(state)
        for name in _TUPLES:
            values[name] = tuple(values.get(name) or ())
        made = object.__new__(cls)
        # Like `but`: past the guard of the frozen class, which costs more than all the rest.
        own = made.__dict__
        own.update(_DEFAULTS)
        own.update(values)
        if own.keys() != _NAMES:
            raise TypeError(f"a clock has other fields: {', '.join(sorted(own.keys() ^ _NAMES))}")
        return made


CLOCK_FIELDS = tuple(item.name for item in fields(Clock))
_NAMES = frozenset(CLOCK_FIELDS)
_DEFAULTS = {item.name: item.default for item in fields(Clock) if item.default is not MISSING}
_METRICS: dict[str, Metric] = {str(metric): metric for metric in Metric}
_STATES: dict[str, ClockState] = {str(state): state for state in ClockState}
_ENUMS = ("metric", "state")
_TUPLES = ("pause_reasons", "fired_steps", "runs")


@dataclass(frozen=True, slots=True)
class SlaEvent:
    """A ledger entry, append-only. Reports read these, not the clock: they hold the target at that moment."""

    metric: Metric
    instance: int
    kind: EventKind
    at: int
    cause: str | None = None
    step_key: str | None = None
    data: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class TicketFacts:
    """What the machine must remember about a ticket besides its clocks."""

    status: Status = Status.NEW
    status_since: int = 0
    customer_last: bool = False
    """The last public message is the customer's."""
    replied: bool = False
    """A public message of a human agent exists."""
    pauses: tuple[str, ...] = ()
    """Reasons that hold besides the status: `waiting_for_customer`, `snooze`."""

    def to_data(self) -> dict[str, Any]:
        return {
            "status": str(self.status),
            "status_since": self.status_since,
            "customer_last": self.customer_last,
            "replied": self.replied,
            "pauses": list(self.pauses),
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            status=Status(data["status"]),
            status_since=data["status_since"],
            customer_last=data["customer_last"],
            replied=data["replied"],
            pauses=tuple(data["pauses"]),
        )


@dataclass(frozen=True, slots=True)
class TicketClocks:
    """Everything about the SLA of one ticket; what `machine.apply` takes and gives back."""

    facts: TicketFacts = TicketFacts()
    clocks: tuple[Clock, ...] = ()

    def of(self, metric: Metric) -> tuple[Clock, ...]:
        return tuple(clock for clock in self.clocks if clock.metric is metric)

    @property
    def due_at(self) -> int | None:
        """The earliest promise to the customer, for ordering: of the running reply and wait clocks."""
        waits = (*REPLY_METRICS, Metric.REQUESTER_WAIT, Metric.SPEED_OF_ANSWER)
        dues = [
            clock.due_at
            for clock in self.clocks
            if clock.state is ClockState.ACTIVE and clock.metric in waits and clock.due_at is not None
        ]
        return min(dues, default=None)
