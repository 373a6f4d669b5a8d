"""SLA policies: validated targets, the choice among them, and the rulebook clocks are read by.

Owns configuration as frozen values. A changed policy is a new version, old ones stay in the rulebook for as
long as a clock refers to them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from crm_core.clock import DAY, MINUTE, SECOND
from routing.business_time import ALWAYS_OPEN, Calendar
from routing.sla.clock import Clock, Metric, Status
from routing.sla.conditions import EVERYTHING, Condition, fields_of, matches, parse_condition
from routing.sla.errors import SlaConfigError, UnknownRuleError
from routing.sla.steps import Step, default_steps, parse_steps

PRIORITIES = ("low", "normal", "high", "urgent")
#: Targets under this key hold for the priorities that have none of their own.
ANY_PRIORITY = "*"
MAX_TARGET_MS = 3660 * DAY
WAITING = "waiting_for_customer"
SNOOZE = "snooze"
CALLBACK = "callback"

#: Statuses and other reasons that pause a metric. Solved is absent: it fulfils. Policies may override.
#: A snooze is the agent's wish and does not make the customer wait less: requester_wait ignores it.
PAUSED_BY: Mapping[Metric, frozenset[str]] = {
    Metric.FIRST_REPLY: frozenset(),
    Metric.NEXT_REPLY: frozenset(),
    Metric.PERIODIC_UPDATE: frozenset(),
    Metric.PAUSABLE_UPDATE: frozenset({Status.PENDING, WAITING, SNOOZE}),
    Metric.REQUESTER_WAIT: frozenset({Status.PENDING, WAITING}),
    Metric.AGENT_WORK: frozenset({Status.PENDING, Status.HOLD, WAITING, SNOOZE}),
    Metric.TOTAL_RESOLUTION: frozenset(),
    Metric.SPEED_OF_ANSWER: frozenset({CALLBACK}),
}
_PAUSE_WORDS = frozenset({"new", "open", "pending", "hold", WAITING, SNOOZE, CALLBACK})
_OPTIONS = frozenset(
    {"calendar_id", "pause_statuses", "bot_counts", "note_counts", "forgive_on_retarget", "apply_to_open"}
)


@dataclass(frozen=True, slots=True)
class Target:
    ms: int
    business: bool = True
    calendar_id: int | None = None
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Policy:
    """One version of one policy. `targets[priority][metric]`; the first that matches wins."""

    id: int
    version: int
    position: int
    name: str
    targets: Mapping[str, Mapping[Metric, Target]]
    conditions: Condition = EVERYTHING
    calendar_id: int | None = None
    pause_statuses: Mapping[Metric, frozenset[str]] = field(default_factory=dict)
    bot_counts: frozenset[Metric] = frozenset()
    note_counts: frozenset[Metric] = frozenset()
    forgive_on_retarget: bool = False
    apply_to_open: bool = True

    @classmethod
    def parse(
        cls,
        *,
        id: int,  # noqa: A002 - the row's id
        version: int,
        position: int,
        name: str,
        targets: Any,
        conditions: Any = None,
        options: Any = None,
    ) -> Self:
        """Policy of its stored JSON members. Raises SlaConfigError naming the wrong field."""
        opts = _object(options if options is not None else {}, "options")
        if unknown := sorted(str(key) for key in set(opts) - _OPTIONS):
            raise SlaConfigError(f"options.{unknown[0]}", f"unknown; known are {', '.join(sorted(_OPTIONS))}")
        flags = {}
        for key, default in (("forgive_on_retarget", False), ("apply_to_open", True)):
            flags[key] = opts.get(key, default)
            if not isinstance(flags[key], bool):
                raise SlaConfigError(f"options.{key}", "must be true or false")
        pauses = {}
        for key, value in _object(opts.get("pause_statuses") or {}, "options.pause_statuses").items():
            path = f"options.pause_statuses.{key}"
            if not isinstance(value, list | tuple | frozenset | set) or not _PAUSE_WORDS.issuperset(value):
                raise SlaConfigError(path, f"must be a list out of {', '.join(sorted(_PAUSE_WORDS))}")
            pauses[_metric(key, path)] = frozenset(value)
        return cls(
            id=id,
            version=version,
            position=position,
            name=name,
            targets=parse_targets(targets),
            conditions=parse_condition(conditions) if conditions else EVERYTHING,
            calendar_id=_id(opts.get("calendar_id"), "options.calendar_id"),
            pause_statuses=pauses,
            bot_counts=_metrics(opts.get("bot_counts"), "options.bot_counts"),
            note_counts=_metrics(opts.get("note_counts"), "options.note_counts"),
            **flags,
        )

    def target(self, priority: str | None, metric: Metric) -> Target | None:
        for key in (priority, ANY_PRIORITY):
            if key is not None and (found := self.targets.get(key, {}).get(metric)) is not None:
                return found
        return None

    def paused_by(self, metric: Metric) -> frozenset[str]:
        return self.pause_statuses.get(metric, PAUSED_BY[metric])


def select_policy(policies: Iterable[Policy], facts: Mapping[str, Any]) -> Policy | None:
    """The first policy, by position then id, whose conditions match; None when none does."""
    for policy in sorted(policies, key=lambda item: (item.position, item.id)):
        if matches(policy.conditions, facts):
            return policy
    return None


def fields_watched(policies: Iterable[Policy]) -> frozenset[str]:
    """Fields whose change calls for a new selection; priority always does, it chooses the target."""
    return frozenset({"priority"}).union(*(fields_of(policy.conditions) for policy in policies))


@dataclass(frozen=True, slots=True)
class Terms:
    """What a ticket is promised now: the selected policy, its priority, and its team's calendar."""

    policy: Policy | None = None
    priority: str | None = None
    team_calendar_id: int | None = None


class Rulebook:
    """All calendars and policy versions that clocks refer to. Immutable once built; cheap to share."""

    def __init__(
        self,
        calendars: Iterable[Calendar] = (),
        policies: Iterable[Policy] = (),
        default_calendar_id: int | None = None,
    ) -> None:
        """`default_calendar_id` is the organisation's; without any, working hours are all hours."""
        self._versions: dict[tuple[int, int], Calendar] = {}
        self._current: dict[int, Calendar] = {}
        for calendar in calendars:
            self._versions[calendar.id, calendar.version] = calendar
            known = self._current.get(calendar.id)
            if known is None or known.version < calendar.version:
                self._current[calendar.id] = calendar
        self._policies = {(policy.id, policy.version): policy for policy in policies}
        self._default = default_calendar_id

    def calendar_for(self, target: Target | None, terms: Terms) -> Calendar | None:
        """The calendar in force: the target's, else the policy's, the team's, the organisation's.

        Raises UnknownRuleError.
        """
        chain = (
            target.calendar_id if target else None,
            terms.policy.calendar_id if terms.policy else None,
            terms.team_calendar_id,
            self._default,
        )
        chosen = next((item for item in chain if item is not None), None)
        return None if chosen is None else self._now(chosen)

    def calendar(self, calendar_id: int | None, version: int | None) -> Calendar:
        """A version of a calendar. Falls back to its newest version: a lost version must not stop a promise.

        Raises UnknownRuleError when the calendar itself is unknown.
        """
        if calendar_id is None:
            return ALWAYS_OPEN
        exact = self._versions.get((calendar_id, version or 0))
        return exact if exact is not None else self._now(calendar_id)

    def steps(self, clock: Clock) -> tuple[Step, ...]:
        """Escalation steps of the target in force. Raises UnknownRuleError."""
        if clock.target_ms is None or clock.policy_id is None or clock.policy_version is None:
            return ()
        policy = self._policies.get((clock.policy_id, clock.policy_version))
        if policy is None:
            raise UnknownRuleError(
                f"policy {clock.policy_id} version {clock.policy_version} is not in the rulebook"
            )
        target = policy.target(clock.priority, clock.metric)
        return target.steps if target is not None else ()

    def _now(self, calendar_id: int) -> Calendar:
        try:
            return self._current[calendar_id]
        except KeyError:
            raise UnknownRuleError(f"calendar {calendar_id} is not in the rulebook") from None


def parse_targets(value: Any, path: str = "targets") -> dict[str, dict[Metric, Target]]:
    """`{priority: {metric: {minutes | seconds, business, calendar_id, steps}}}`. Raises SlaConfigError.

    Missing `steps` means the default ones, an empty list none.
    """
    targets: dict[str, dict[Metric, Target]] = {}
    for priority, metrics in _object(value, path).items():
        where = f"{path}.{priority}"
        if priority not in (*PRIORITIES, ANY_PRIORITY):
            raise SlaConfigError(where, f"unknown priority; write {', '.join(PRIORITIES)} or {ANY_PRIORITY}")
        targets[priority] = {}
        for name, body in _object(metrics, where).items():
            metric = _metric(name, f"{where}.{name}")
            targets[priority][metric] = _target(metric, body, f"{where}.{name}")
    return targets


def _target(metric: Metric, value: Any, path: str) -> Target:
    body = _object(value, path)
    if unknown := sorted(
        str(key) for key in set(body) - {"minutes", "seconds", "business", "calendar_id", "steps"}
    ):
        raise SlaConfigError(f"{path}.{unknown[0]}", "unknown field")
    units = [(key, unit) for key, unit in (("minutes", MINUTE), ("seconds", SECOND)) if key in body]
    if len(units) != 1:
        raise SlaConfigError(path, "needs either minutes or seconds")
    key, unit = units[0]
    amount = body[key]
    if (
        isinstance(amount, bool)
        or not isinstance(amount, int | float)
        or not 0 < amount <= MAX_TARGET_MS / unit
    ):
        raise SlaConfigError(f"{path}.{key}", f"must be a number above 0 and at most {MAX_TARGET_MS // unit}")
    business = body.get("business", True)
    if not isinstance(business, bool):
        raise SlaConfigError(f"{path}.business", "must be true or false")
    ms = round(amount * unit)
    if ms <= 0:
        raise SlaConfigError(f"{path}.{key}", "is shorter than a millisecond")
    steps = (
        default_steps(metric)
        if body.get("steps") is None
        else parse_steps(body["steps"], ms, f"{path}.steps")
    )
    return Target(ms, business, _id(body.get("calendar_id"), f"{path}.calendar_id"), steps)


def _object(value: Any, path: str) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise SlaConfigError(path, f"must be an object, not {type(value).__name__}")
    return value


def _metric(value: Any, path: str) -> Metric:
    try:
        return Metric(value)
    except ValueError:
        raise SlaConfigError(path, f"unknown metric; known are {', '.join(Metric)}") from None


def _metrics(value: Any, path: str) -> frozenset[Metric]:
    if not isinstance(value, list | tuple | None.__class__):
        raise SlaConfigError(path, "must be a list of metrics")
    return frozenset(_metric(item, f"{path}[{i}]") for i, item in enumerate(value or ()))


def _id(value: Any, path: str) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value <= 0):
        raise SlaConfigError(path, "must be the id of a calendar")
    return value
