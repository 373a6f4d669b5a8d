"""Checks the product against a file of known answers (`tests/vectors/vectors.json`): `switchboard check-vectors FILE`.

Owns the translation between the file's words and the product's. `check` is pure; what storage takes part in is lived
again on a database of the configured kind by `switchboard.vector_storage`, and passes only if both pass. A vector that
cannot be read is a failure of that vector, not of the run.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from crm_core.clock import MINUTE, SECOND, from_iso, to_iso
from routing import erlang, reporting
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
from routing.sla.machine import Created, MessageWritten, StatusChanged, TermsChanged

#: Agreement asked of computed values: the file gives 12 to 15 digits; reports give 4 decimals.
TOLERANCE = 1e-9
REPORT_TOLERANCE = 5e-5
_CALENDAR_ID = 1
_SECTIONS: Mapping[str, type] = {
    "calendars": dict, "business_time": list, "erlang": list, "sla_scenarios": list, "reporting": dict,
}  # fmt: skip
#: Says where the file comes from; holds no vectors.
_ABOUT = "meta"


@dataclass(frozen=True, slots=True)
class Failure:
    id: str
    expected: Any
    got: Any


@dataclass(frozen=True, slots=True)
class SectionResult:
    section: str
    passed: int
    total: int
    failures: tuple[Failure, ...]


def problem(vectors: Mapping[str, Any]) -> str | None:
    """Why the file cannot be used at all: a section of the wrong shape, or nothing in it that could fail."""
    for name, kind in _SECTIONS.items():
        if name in vectors and not isinstance(vectors[name], kind):
            return f"{name}: must be {'an object' if kind is dict else 'a list'}"
    if not any(vectors.get(name) for name in _SECTIONS):
        return f"holds no vectors; sections are {', '.join(_SECTIONS)}"
    return None


def unknown_sections(vectors: Mapping[str, Any]) -> list[str]:
    """Sections nobody here computes: a misspelt name must not look like a passed check."""
    return sorted(name for name in vectors if name not in _SECTIONS and name != _ABOUT)


def check(vectors: Mapping[str, Any]) -> list[SectionResult]:
    """One result per section of the file that this product computes."""
    specs = vectors.get("calendars", {})
    calendars = _Calendars(specs)
    return [
        *check_business_time(specs, vectors),
        _section("erlang", vectors.get("erlang", []), erlang_case),
        _section("sla_scenarios", vectors.get("sla_scenarios", []), lambda item: scenario(item, calendars)),
        _section("reporting", list(_report_items(vectors.get("reporting", {}))), report_case),
    ]


def check_business_time(specs: Mapping[str, Any], vectors: Mapping[str, Any]) -> list[SectionResult]:
    """The sections of calendars and of their arithmetic, with these specs."""
    calendars = _Calendars(specs)
    names = [{"id": name} for name in specs]
    return [
        _section("calendars", names, lambda item: _compiles(calendars(item["id"]))),
        _section(
            "business_time", vectors.get("business_time", []), lambda item: business_time(item, calendars)
        ),
    ]


def both(pure: Sequence[SectionResult], stored: Sequence[SectionResult]) -> list[SectionResult]:
    """A vector passes if it passes in both; which of the two failed is said with the failure."""
    again = {result.section: result.failures for result in stored}
    merged = []
    for result in pure:
        failures = {failure.id: failure for failure in result.failures}
        for failure in again.get(result.section, ()):
            failures.setdefault(failure.id, Failure(failure.id, failure.expected, {"stored": failure.got}))
        passed = result.total - len(failures)
        merged.append(SectionResult(result.section, passed, result.total, tuple(failures.values())))
    return merged


class _Calendars:
    """Compiled calendars by name."""

    def __init__(self, specs: Mapping[str, Any]) -> None:
        self._specs = specs
        self._compiled: dict[str, Calendar] = {}

    def __call__(self, name: str) -> Calendar:
        if name not in self._compiled:
            # The file's hours are exact: 23:59 means 23:59 there.
            self._compiled[name] = Calendar.from_spec(
                self._specs[name], id=_CALENDAR_ID, name=name, round_2359=False
            )
        return self._compiled[name]


Pair = tuple[Any, Any]
"""(expected, got); equal when the vector passes."""


def _section(section: str, items: Sequence[Any], run: Callable[[Any], Pair]) -> SectionResult:
    failures = []
    for i, item in enumerate(items):
        name = item.get("id", f"#{i + 1}") if isinstance(item, Mapping) else f"#{i + 1}"
        try:
            expected, got = run(item)
        except Exception as error:  # a vector may be malformed in any way
            expected, got = "an answer", f"{type(error).__name__}: {error}"
        if not _same(expected, got):
            failures.append(Failure(str(name), expected, got))
    return SectionResult(section, len(items) - len(failures), len(items), tuple(failures))


def _same(expected: Any, got: Any) -> bool:
    if isinstance(expected, Mapping):
        return isinstance(got, Mapping) and all(
            key in got and _same(expected[key], got[key]) for key in expected
        )
    if isinstance(expected, list | tuple):
        same_length = isinstance(got, list | tuple) and len(got) == len(expected)
        return same_length and all(_same(a, b) for a, b in zip(expected, got, strict=True))
    if isinstance(expected, float) and isinstance(got, int | float) and not isinstance(got, bool):
        return math.isclose(expected, got, rel_tol=TOLERANCE, abs_tol=1e-12)
    return bool(expected == got)


def _iso(ms: int | None) -> str | None:
    if ms is None:
        return None
    return to_iso(ms).replace(".000Z", "Z")


def _compiles(calendar: Calendar) -> Pair:
    return True, len(calendar.fingerprint(2025, 2025)) > 0


def business_time(item: Mapping[str, Any], calendar: Callable[[str], Calendar]) -> Pair:
    hours, kind = calendar(item["calendar"]), item["kind"]
    pauses = [(from_iso(a), from_iso(b)) for a, b in item.get("pauses", [])]
    if kind == "open":
        return {"open": item["open"]}, {"open": hours.is_open(from_iso(item["at"]))}
    start = from_iso(item["start"])
    got: dict[str, Any]
    if kind == "elapsed":
        got = {"elapsed_seconds": hours.elapsed(start, from_iso(item["end"]), pauses) / SECOND}
    elif kind == "due":
        ms = round(item["seconds"] * SECOND)
        got = {
            "due_first": _iso(hours.due_first(start, ms, pauses)),
            "due_last": _iso(hours.due_last(start, ms, pauses)),
        }
    elif kind == "back":
        ms = round(item["seconds"] * SECOND)
        got = {"back_first": _iso(hours.back_first(start, ms)), "back_last": _iso(hours.back_last(start, ms))}
    else:
        raise ValueError(f"unknown kind {kind!r}")
    return {key: item[key] for key in got}, got


# What each model answers, by the file's names; an expectation is every answer the vector states.
def erlang_case(item: Mapping[str, Any]) -> Pair:
    got = _ERLANG[item["model"]](item)
    expected = {key: item[key] for key in got if key in item}
    if not expected:
        raise ValueError("the vector states no answer")
    return {key: float(value) if isinstance(value, int) else value for key, value in expected.items()}, got


def _b(item: Mapping[str, Any]) -> dict[str, Any]:
    return asdict(erlang.erlang_b(item["offered_erlangs"], item["servers"]))


def _c(item: Mapping[str, Any]) -> dict[str, Any]:
    return asdict(
        erlang.erlang_c(
            item["offered_erlangs"], item["servers"], item["aht_s"], item.get("threshold_s", 20.0)
        )
    )


def _a(item: Mapping[str, Any]) -> dict[str, Any]:
    result = asdict(
        erlang.erlang_a(
            item["calls_per_hour"],
            item["aht_s"],
            item["mean_patience_s"],
            item["servers"],
            item["threshold_s"],
        )
    )
    result["mean_wait_all"] = result.pop("mean_wait_all_s")
    result["asa_answered"] = result.pop("asa_answered_s")
    return result


def _priority(item: Mapping[str, Any]) -> dict[str, Any]:
    result = asdict(erlang.erlang_c_priorities(item["calls_per_hour"], item["aht_s"], item["servers"]))
    return {**result, "mean_wait_s": list(result["mean_wait_s"])}


def _staffing(item: Mapping[str, Any]) -> dict[str, Any]:
    found = erlang.staff_erlang_c(item["offered_erlangs"], item["aht_s"], item["threshold_s"], item["target"])
    return {
        "servers_needed": found.servers,
        "service_level": found.service_level,
        "service_level_one_less": found.service_level_one_less,
    }


_ERLANG: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "B": _b,
    "C": _c,
    "A": _a,
    "C-priority": _priority,
    "C-staffing": _staffing,
}


def _metric(name: str) -> Metric:
    return Metric(name.removesuffix("_time"))


def scenario(item: Mapping[str, Any], calendar: Callable[[str], Calendar]) -> Pair:
    """Plays the events and looks at the ticket at the stated moments.

    Played twice: with the sweeper asleep throughout, and awake at every event and look. What people are told
    differs between the two, the result must not.
    """
    asleep, awake = (_play(item, calendar(item["calendar"]), sweeping=sweeping) for sweeping in (False, True))
    expected = {look["at"]: by_key(look["instances"]) for look in item["expect"]}
    if asleep != awake:
        raise ValueError("the result depends on the sweeper")
    got = only_asked(expected, awake)
    return (expected, expected) if same_instances(expected, awake) else (expected, {"instances": got})


Looks = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""{moment: {metric and instance: what is seen}}"""


def same_instances(expected: Looks, got: Looks) -> bool:
    """Whether the very instances were there that were expected, each with what the file states of it."""
    keys = {at: set(found) for at, found in got.items()}
    return keys == {at: set(found) for at, found in expected.items()} and _same(expected, got)


def only_asked(expected: Looks, got: Looks) -> dict[str, dict[str, Mapping[str, Any]]]:
    """What was seen, without the fields the file says nothing of."""
    return {
        at: {key: _only(expected.get(at, {}).get(key), value) for key, value in found.items()}
        for at, found in got.items()
    }


def _only(wanted: Mapping[str, Any] | None, got: Mapping[str, Any]) -> Mapping[str, Any]:
    return got if wanted is None else {key: got.get(key) for key in wanted}


def by_key(instances: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {f"{one['metric']} {one['instance']}": one for one in instances}


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

    changes = [policy(event["targets"]) for event in item["events"] if event["type"] == "policy"]
    terms = Terms(policy(item.get("policy")), item.get("priority"))
    rules = Rulebook([hours], policies, default_calendar_id=hours.id)
    measured = {metric for one in policies for metrics in one.targets.values() for metric in metrics}
    state = TicketClocks()
    seen: dict[str, dict[str, Mapping[str, Any]]] = {}
    moments: list[tuple[int, int, Mapping[str, Any]]] = [
        *((from_iso(event["at"]), 0, event) for event in item["events"]),
        *((from_iso(look["at"]), 1, look) for look in item["expect"]),
    ]
    for at, order, what in sorted(moments, key=lambda moment: moment[:2]):
        if sweeping:
            state = TicketClocks(state.facts, tuple(_swept(clock, at, rules) for clock in state.clocks))
        if order == 1:
            seen[what["at"]] = by_key(
                shown(clock, at, rules) for clock in state.clocks if clock.metric in measured
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
    return bool(what.get("bot")) or "bot" in (
        what["type"],
        what.get("by"),
        what.get("author"),
        what.get("role"),
    )


def _event(what: Mapping[str, Any], at: int) -> TicketEvent:
    match what["type"]:
        case "create":
            status = Status(what.get("status", "new"))
            return Created(at, Author(what.get("by", "customer")), what.get("public", True), status)
        case "customer":
            return MessageWritten(at, Author.CUSTOMER)
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
        "activated_at": _iso(clock.activated_at),
        "elapsed_min": elapsed_ms(clock, at, rules) / MINUTE,
        "paused_min": paused_total_ms(clock, at) / MINUTE,
        "breached_at": _iso(breached),
        "fulfilled_at": _iso(clock.fulfilled_at),
        "target_min": None if clock.target_ms is None else clock.target_ms / MINUTE,
        "due_first": _iso(clock.due_at),
        "due_last": _iso(clock.breach_at),
        "outcome": "breached" if breached is not None else calm,
    }


def _report_items(section: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    counts, levels = section.get("input", {}), section.get("service_level_pct", {})
    if not isinstance(levels, Mapping):
        levels = {"all": levels}
    for name, value in levels.items():
        yield {
            "id": f"service_level_pct.{name}",
            "kind": "service_level",
            "name": name,
            "in": counts,
            "out": value,
        }
    answers = {
        "handle_time": "aht_s",
        "occupancy": "occupancy_pct",
        "asa": "asa_s",
        "abandonment_rate_pct": "value",
        "shrinkage": "scheduled",
    }
    for kind, answer in answers.items():
        if kind in section:
            # Read when the case runs, so that a damaged one fails alone.
            yield {"id": kind, "kind": kind, "in": section[kind], "answer": answer}


def report_case(item: Mapping[str, Any]) -> Pair:
    given = item["in"]
    expected = item["out"] if "out" in item else given[item["answer"]]
    got: float | None
    match item["kind"]:
        case "service_level":
            counts = reporting.QueueCounts(
                given["answered"],
                given["abandoned"],
                given["answered_within_t"],
                given["abandoned_within_t"],
                given["abandoned_within_5s"],
            )
            name = {"short_abandons_5s_removed": "short_abandons_removed"}.get(item["name"], item["name"])
            got = asdict(reporting.service_levels(counts))[name]
        case "handle_time":
            got = reporting.average_handle_time_s(
                given["talk_s"], given["hold_s"], given["wrap_s"], given["handled"]
            )
        case "occupancy":
            got = reporting.occupancy_pct(given["handle_s"], given["logged_available_s"])
        case "asa":
            got = reporting.average_speed_of_answer_s(given["waits_of_answered_s"])
        case "abandonment_rate_pct":
            got = reporting.abandonment_pct(given["abandoned"], given["queued"])
        case _:
            got = reporting.scheduled_staff(given["needed_on_phones"], given["shrinkage"])
    close = got is not None and abs(got - expected) <= REPORT_TOLERANCE
    return expected, expected if close else got


def render(results: Iterable[SectionResult]) -> str:
    """`section passed/total` lines, each followed by its failures."""
    lines = []
    for result in results:
        lines.append(f"{result.section} {result.passed}/{result.total}")
        for failure in result.failures:
            lines.append(f"  {failure.id}")
            lines.append(f"    expected {json.dumps(failure.expected, default=str)}")
            lines.append(f"    got      {json.dumps(failure.got, default=str)}")
    return "\n".join(lines)
