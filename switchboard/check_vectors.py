"""Checks the product's own arithmetic against a file of known answers (`tests/vectors/vectors.json`).

Owns the translation between the file's words and the product's. `check` is pure; run it by `python -m
switchboard.check_vectors FILE`. A vector that cannot be read is a failure of that vector, not of the run.
"""

import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
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


def check(vectors: Mapping[str, Any]) -> list[SectionResult]:
    """One result per section of the file that this product computes."""
    specs = vectors.get("calendars", {})
    calendars: dict[str, Calendar] = {}

    def calendar(name: str) -> Calendar:
        if name not in calendars:
            # The file's hours are exact: 23:59 means 23:59 there.
            calendars[name] = Calendar.from_spec(specs[name], id=_CALENDAR_ID, name=name, round_2359=False)
        return calendars[name]

    return [
        _section("calendars", [{"id": name} for name in specs], lambda item: _compiles(calendar(item["id"]))),
        _section(
            "business_time", vectors.get("business_time", []), lambda item: business_time(item, calendar)
        ),
        _section("erlang", vectors.get("erlang", []), erlang_case),
        _section("sla_scenarios", vectors.get("sla_scenarios", []), lambda item: scenario(item, calendar)),
        _section("reporting", list(_report_items(vectors.get("reporting", {}))), report_case),
    ]


Pair = tuple[Any, Any]
"""(expected, got); equal when the vector passes."""


def _section(name: str, items: Sequence[Mapping[str, Any]], run: Callable[[Any], Pair]) -> SectionResult:
    failures = []
    for item in items:
        try:
            expected, got = run(item)
        except Exception as error:  # a vector may be malformed in any way
            expected, got = "an answer", f"{type(error).__name__}: {error}"
        if not _same(expected, got):
            failures.append(Failure(str(item.get("id", "?")), expected, got))
    return SectionResult(name, len(items) - len(failures), len(items), tuple(failures))


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
    expected = {look["at"]: _by_key(look["instances"]) for look in item["expect"]}
    got = {
        at: {key: _only(expected.get(at, {}).get(key), value) for key, value in awake[at].items()}
        for at in awake
    }
    if asleep != awake:
        raise ValueError("the result depends on the sweeper")
    if {at: set(found) for at, found in got.items()} != {at: set(found) for at, found in expected.items()}:
        return expected, {"instances": got}
    return expected, got


def _only(wanted: Mapping[str, Any] | None, got: Mapping[str, Any]) -> Mapping[str, Any]:
    return got if wanted is None else {key: got.get(key) for key in wanted}


def _by_key(instances: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {f"{one['metric']} {one['instance']}": one for one in instances}


def _play(
    item: Mapping[str, Any], hours: Calendar, *, sweeping: bool
) -> dict[str, dict[str, Mapping[str, Any]]]:
    policies: list[Policy] = []

    def policy(targets: Mapping[str, Any] | None) -> Policy | None:
        if targets is None:
            return None
        named = {
            priority: {str(_metric(name)): body for name, body in metrics.items()}
            for priority, metrics in targets.items()
        }
        made = Policy.parse(id=1, version=len(policies) + 1, position=0, name="vector", targets=named)
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
            seen[what["at"]] = _by_key(
                _shown(clock, at, rules) for clock in state.clocks if clock.metric in measured
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


def _event(what: Mapping[str, Any], at: int) -> TicketEvent:
    match what["type"]:
        case "create":
            status = Status(what.get("status", "new"))
            return Created(at, Author(what.get("by", "customer")), what.get("public", True), status)
        case "customer":
            return MessageWritten(at, Author.CUSTOMER)
        case "agent" | "bot" as kind:
            by_program = what.get("bot") or "bot" in (
                kind,
                what.get("by"),
                what.get("author"),
                what.get("role"),
            )
            author = Author.BOT if by_program else Author.AGENT
            return MessageWritten(at, author, what.get("public", True))
        case "status":
            return StatusChanged(at, Status(what["to"]))
        case "policy" | "priority" as cause:
            return TermsChanged(at, cause)
        case unknown:
            raise ValueError(f"unknown event {unknown!r}")


def _shown(clock: Clock, at: int, rules: Rulebook) -> dict[str, Any]:
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
    counts = section.get("input", {})
    for name, value in section.get("service_level_pct", {}).items():
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
            yield {"id": kind, "kind": kind, "in": section[kind], "out": section[kind][answer]}


def report_case(item: Mapping[str, Any]) -> Pair:
    given = item["in"]
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
    expected = item["out"]
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


def main(arguments: Sequence[str]) -> int:
    """Exit code: 0 all pass, 1 some fail, 2 the file cannot be used."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m switchboard.check_vectors FILE\n")
        return 2
    try:
        vectors = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{arguments[0]}: {error}\n")
        return 2
    if not isinstance(vectors, dict):
        sys.stderr.write(f"{arguments[0]}: must hold an object\n")
        return 2
    results = check(vectors)
    sys.stdout.write(render(results) + "\n")
    return 0 if results and all(result.passed == result.total for result in results) else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
