"""The vectors of SLA scenarios: their events in the machine's words, and what is seen of the clocks. Pure.

`switchboard.vector_storage` lives the same scenarios on a database, by the same reading of the file.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from crm_core.clock import MINUTE, from_iso
from routing.business_time import Calendar
from routing.sla import (
    Author,
    Clock,
    ClockState,
    Metric,
    Policy,
    Rulebook,
    Status,
    Terms,
    TicketClocks,
    TicketEvent,
    apply,
    elapsed_ms,
    fire,
    paused_total_ms,
)
from routing.sla.ticket_events import (
    Created,
    MessageWritten,
    StatusChanged,
    TermsChanged,
)
from switchboard.vector_fields import PROSE, Pair, iso, known_fields, same


def _metric(name: str) -> Metric:
    return Metric(name.removesuffix("_time"))


def scenario(item: Mapping[str, Any], calendar: Callable[[str], Calendar]) -> Pair:
    """Plays the events and looks at the ticket at the stated moments.

    Played twice: with the sweeper asleep throughout, and awake at every event and look. What people are told
    differs between the two, the result must not.
    """
    readable(item)
    asleep, awake = (_play(item, calendar(item["calendar"]), sweeping=sweeping) for sweeping in (False, True))
    expected = looks_of(item)
    if asleep != awake:
        raise ValueError("the result depends on the sweeper")
    got = only_asked(expected, awake)
    return (expected, expected) if same_instances(expected, awake) else (expected, {"instances": got})


Looks = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""{moment: {metric and instance: what is seen}}"""


def same_instances(expected: Looks, got: Looks) -> bool:
    """Whether the very instances were there that were expected, each with what the file states of it.

    A clock that nobody has promised anything for as yet may be listed or not: it runs, and there is nothing to keep.
    """
    if set(expected) != set(got):
        return False
    unexpected = (one for at, found in got.items() for key, one in found.items() if key not in expected[at])
    return same(expected, got) and not any(one["promised"] for one in unexpected)


def only_asked(expected: Looks, got: Looks) -> dict[str, dict[str, Mapping[str, Any]]]:
    """What was seen, without the fields the file says nothing of."""
    return {
        at: {key: _only(expected.get(at, {}).get(key), value) for key, value in found.items()}
        for at, found in got.items()
    }


def _only(wanted: Mapping[str, Any] | None, got: Mapping[str, Any]) -> Mapping[str, Any]:
    return got if wanted is None else {key: got.get(key) for key in wanted}


def by_key(instances: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for one in instances:
        key = f"{one['metric']} {one['instance']}"
        if key in found:
            raise ValueError(f"{key} is stated twice")
        found[key] = one
    return found


def looks_of(item: Mapping[str, Any]) -> Looks:
    """What a scenario expects."""
    found: dict[str, Mapping[str, Mapping[str, Any]]] = {}
    for look in item["expect"]:
        if look["at"] in found:
            raise ValueError(f"two looks at {look['at']}")
        stated = [{k: v for k, v in one.items() if k not in PROSE} for one in look["instances"]]
        found[look["at"]] = by_key(stated)
    return found


#: Of a ticket whose scenario names no priority.
ORDINARY = "normal"


@dataclass(frozen=True, slots=True)
class Moment:
    """Something a scenario does at an instant: an event, or a look at the clocks."""

    at: int
    what: Mapping[str, Any]
    look: str | None = None
    """The look's moment as the file writes it."""


def moments(item: Mapping[str, Any]) -> list[Moment]:
    """Events and looks in their order: the events of an instant come before the look at it."""
    happened = [Moment(from_iso(event["at"]), event) for event in item["events"]]
    looks = [Moment(from_iso(look["at"]), look, look["at"]) for look in item["expect"]]
    return sorted([*happened, *looks], key=lambda moment: (moment.at, moment.look is not None))


#: What an event of each type says, besides its type and instant.
_FLAGS = ("bot", "auto", "automatic")
_AUTHOR = ("by", "author", "role", "actor")
_WRITTEN = frozenset({"public", *_FLAGS, *_AUTHOR})
_SAYS: Mapping[str, frozenset[str]] = {
    "create": frozenset({"by", "public", "status"}),
    "customer": frozenset({"public"}),
    "agent": _WRITTEN,
    "bot": _WRITTEN,
    "status": frozenset({"to"}),
    "priority": frozenset({"to"}),
    "policy": frozenset({"targets"}),
}


def readable(item: Mapping[str, Any]) -> None:
    """Raises ValueError for a scenario that says something nobody here understands."""
    known_fields(item, {"id", "calendar", "priority", "policy", "events", "expect"})
    for i, event in enumerate(item["events"]):
        kind = event["type"]
        if kind not in _SAYS:
            raise ValueError(f"unknown event {kind!r}")
        known_fields(event, {"type", "at", *_SAYS[kind]}, f"events[{i}].")
    for i, look in enumerate(item["expect"]):
        known_fields(look, {"at", "instances"}, f"expect[{i}].")


def measured(item: Mapping[str, Any]) -> frozenset[str]:
    """The metrics a scenario is about: those that any of its policies promises at any time.

    A clock runs before there is a promise, so that one that is made later finds its true start.
    """
    policies = [item.get("policy"), *(e["targets"] for e in item["events"] if e["type"] == "policy")]
    return frozenset(
        str(_metric(name)) for targets in policies if targets for found in targets.values() for name in found
    )


def _play(
    item: Mapping[str, Any], hours: Calendar, *, sweeping: bool
) -> dict[str, dict[str, Mapping[str, Any]]]:
    policies: list[Policy] = []

    def policy(targets: Mapping[str, Any] | None) -> Policy | None:
        if targets is None:
            return None
        version = len(policies) + 1
        made = Policy.parse(id=1, version=version, position=0, name="vector", targets=targets_of(targets))
        policies.append(made)
        return made

    happens = moments(item)
    changes = [policy(one.what["targets"]) for one in happens if one.what.get("type") == "policy"]
    terms = Terms(policy(item.get("policy")), item.get("priority") or ORDINARY)
    rules = Rulebook([hours], policies, default_calendar_id=hours.id)
    shows = measured(item)
    state = TicketClocks()
    seen: dict[str, dict[str, Mapping[str, Any]]] = {}
    for moment in happens:
        at, what = moment.at, moment.what
        if sweeping:
            state = TicketClocks(state.facts, tuple(_swept(clock, at, rules) for clock in state.clocks))
        if moment.look is not None:
            seen[moment.look] = by_key(
                shown(clock, at, rules) for clock in state.clocks if clock.metric in shows
            )
            continue
        if what["type"] == "policy":
            terms = Terms(changes.pop(0), terms.priority)
        elif what["type"] == "priority":
            terms = Terms(terms.policy, what["to"])
        state = apply(state, _event(what, at), terms, rules).state
    return seen


def _swept(clock: Clock, now: int, rules: Rulebook) -> Clock:
    if clock.next_fire_at is None or clock.next_fire_at > now:
        return clock
    clock, _ = fire(clock, now, rules)
    if clock.next_fire_at is not None and clock.next_fire_at <= now:
        raise ValueError("firing left the clock due: the sweeper would turn for ever")
    return clock


def targets_of(targets: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """A scenario's policy in the product's words."""
    return {
        priority: {str(_metric(name)): body for name, body in metrics.items()}
        for priority, metrics in targets.items()
    }


def by_program(what: Mapping[str, Any]) -> bool:
    """Whether an answer was written by a bot."""
    return any(what.get(flag) for flag in _FLAGS) or "bot" in (what["type"], *map(what.get, _AUTHOR))


def _event(what: Mapping[str, Any], at: int) -> TicketEvent:
    match what["type"]:
        case "create":
            status = Status(what.get("status", "new"))
            return Created(at, Author(what.get("by", "customer")), what.get("public", True), status)
        case "customer":
            return MessageWritten(at, Author.CUSTOMER, what.get("public", True))
        case "agent" | "bot":
            author = Author.BOT if by_program(what) else Author.AGENT
            return MessageWritten(at, author, what.get("public", True))
        case "status":
            return StatusChanged(at, Status(what["to"]))
        case "policy" | "priority" as cause:
            return TermsChanged(at, cause)
        case unknown:
            raise ValueError(f"unknown event {unknown!r}")


def shown(clock: Clock, at: int, rules: Rulebook) -> dict[str, Any]:
    """The clock as a reader sees it at an instant, in the file's words."""
    due = clock.breach_at is not None and clock.breach_at < at and clock.state is ClockState.ACTIVE
    breached = clock.breached_at if clock.breached_at is not None else clock.breach_at if due else None
    if clock.state in (ClockState.ACTIVE, ClockState.PAUSED):
        calm = "running" if clock.state is ClockState.ACTIVE else "paused"
    else:
        calm = "met" if clock.state is ClockState.FULFILLED else "cancelled"
    return {
        "metric": f"{clock.metric}_time",
        "instance": clock.instance,
        "state": str(clock.state),
        "activated_at": iso(clock.activated_at),
        "elapsed_min": elapsed_ms(clock, at, rules) / MINUTE,
        "paused_min": paused_total_ms(clock, at) / MINUTE,
        "breached_at": iso(breached),
        "fulfilled_at": iso(clock.fulfilled_at),
        "target_min": None if clock.target_ms is None else clock.target_ms / MINUTE,
        "due_first": iso(clock.due_at),
        "due_last": iso(clock.breach_at),
        "outcome": "breached" if breached is not None else calm,
        "promised": clock.target_ms is not None or clock.retargeted_at != clock.activated_at,
    }
