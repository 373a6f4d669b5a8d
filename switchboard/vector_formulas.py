"""The vectors of formulas: queueing (`erlang`) and service reports (`reporting`). Pure.

Owns the translation between the file's names and those of `routing.erlang` and `routing.reporting`.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from routing import erlang, reporting
from switchboard.vector_fields import PROSE, Pair, known_fields

#: Half of the last decimal, and what binary fractions make of a value that lies exactly there.
REPORT_TOLERANCE = 5e-5 + 1e-9
#: Of a service level whose vector names none, seconds.
_THRESHOLD_S = 20.0


# What each model answers, by the file's names; an expectation is every answer the vector states.
def erlang_case(item: Mapping[str, Any]) -> Pair:
    model = item["model"]
    if model not in _ERLANG:
        raise ValueError(f"unknown model {model!r}; known are {', '.join(_ERLANG)}")
    given, run = _ERLANG[model]
    got = run(item)
    known_fields(item, {"id", "model", "published", *given, *got})
    expected = {key: item[key] for key in got if key in item and key not in given}
    if not expected:
        raise ValueError("the vector states no answer")
    # Where the queue only grows, the file may say null for what has no end.
    got = {k: None if v == math.inf and k in expected and expected[k] is None else v for k, v in got.items()}
    return {key: float(value) if isinstance(value, int) else value for key, value in expected.items()}, got


def _offered(item: Mapping[str, Any]) -> float:
    """The load in erlangs, whichever way the vector writes it."""
    if "offered_erlangs" in item:
        return float(item["offered_erlangs"])
    return float(item["calls_per_hour"] * item["aht_s"] / 3600)


def _b(item: Mapping[str, Any]) -> dict[str, Any]:
    return asdict(erlang.erlang_b(_offered(item), item["servers"]))


def _c(item: Mapping[str, Any]) -> dict[str, Any]:
    threshold_s = item.get("threshold_s", _THRESHOLD_S)
    return asdict(erlang.erlang_c(_offered(item), item["servers"], item["aht_s"], threshold_s))


def _a(item: Mapping[str, Any]) -> dict[str, Any]:
    result = asdict(
        erlang.erlang_a(
            item["calls_per_hour"],
            item["aht_s"],
            item["mean_patience_s"],
            item["servers"],
            item.get("threshold_s", _THRESHOLD_S),
        )
    )
    result["mean_wait_all"] = result.pop("mean_wait_all_s")
    result["asa_answered"] = result.pop("asa_answered_s")
    result["offered_erlangs"] = item["calls_per_hour"] * item["aht_s"] / 3600
    return result


def _priority(item: Mapping[str, Any]) -> dict[str, Any]:
    result = asdict(erlang.erlang_c_priorities(item["calls_per_hour"], item["aht_s"], item["servers"]))
    return {**result, "mean_wait_s": list(result["mean_wait_s"])}


def _staffing(item: Mapping[str, Any]) -> dict[str, Any]:
    found = erlang.staff_erlang_c(_offered(item), item["aht_s"], item["threshold_s"], item["target"])
    return {
        "servers_needed": found.servers,
        "service_level": found.service_level,
        "service_level_one_less": found.service_level_one_less,
    }


#: What a vector of each model says of the queue, and what answers.
_LOAD = ("offered_erlangs", "calls_per_hour", "aht_s")
_ERLANG: Mapping[str, tuple[Sequence[str], Callable[[Mapping[str, Any]], dict[str, Any]]]] = {
    "B": ((*_LOAD, "servers"), _b),
    "C": ((*_LOAD, "servers", "threshold_s"), _c),
    "A": (("calls_per_hour", "aht_s", "mean_patience_s", "servers", "threshold_s"), _a),
    "C-priority": (("calls_per_hour", "aht_s", "servers"), _priority),
    "C-staffing": ((*_LOAD, "threshold_s", "target"), _staffing),
}


#: What a report besides the service level is made of, and the name of its answer.
_REPORTS: Mapping[str, tuple[Sequence[str], str]] = {
    "handle_time": (("talk_s", "hold_s", "wrap_s", "handled"), "aht_s"),
    "occupancy": (("handle_s", "logged_available_s"), "occupancy_pct"),
    "asa": (("waits_of_answered_s",), "asa_s"),
    "abandonment_rate_pct": (("abandoned", "queued"), "value"),
    "shrinkage": (("needed_on_phones", "shrinkage"), "scheduled"),
}
_COUNTS = (
    *("answered", "abandoned", "answered_within_t", "abandoned_within_t", "abandoned_after_t"),
    *("abandoned_within_5s", "t_s"),
)
_LEVELS = {"short_abandons_5s_removed": "short_abandons_removed"}


def report_items(section: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    levels = section.get("service_level_pct", {})
    if not isinstance(levels, Mapping):
        levels = {"all": levels}
    # Read when the case runs, so that a damaged one fails alone.
    for name, value in levels.items():
        kind = "service_level_pct"
        yield {
            "id": f"{kind}.{name}",
            "kind": kind,
            "name": name,
            "in": section.get("input", {}),
            "out": value,
        }
    for kind, given in section.items():
        if kind not in ("input", "service_level_pct", *PROSE):
            yield {"id": kind, "kind": kind, "in": given}


def report_case(item: Mapping[str, Any]) -> Pair:
    kind, given = item["kind"], item["in"]
    if kind == "service_level_pct":
        known_fields(given, _COUNTS, "input.")
        expected, got = item["out"], _service_level(item["name"], given)
    elif kind in _REPORTS:
        fields, answer = _REPORTS[kind]
        known_fields(given, {*fields, answer})
        expected, got = given[answer], _report(kind, [given[name] for name in fields])
    else:
        raise ValueError(f"unknown report; known are service_level_pct, {', '.join(_REPORTS)}")
    close = expected is not None and got is not None and abs(got - expected) <= REPORT_TOLERANCE
    return expected, expected if close else got


def _service_level(name: str, given: Mapping[str, Any]) -> float | None:
    counts = reporting.QueueCounts(
        given["answered"],
        given["abandoned"],
        given["answered_within_t"],
        given["abandoned_within_t"],
        given.get("abandoned_within_5s", 0),
    )
    levels: dict[str, float | None] = asdict(reporting.service_levels(counts))
    known = {**{ours: ours for ours in levels if ours not in _LEVELS.values()}, **_LEVELS}
    if name not in known:
        raise ValueError(f"unknown custom; known are {', '.join(known)}")
    return levels[known[name]]


def _report(kind: str, values: Sequence[Any]) -> float | None:
    match kind:
        case "handle_time":
            return reporting.average_handle_time_s(*values)
        case "occupancy":
            return reporting.occupancy_pct(*values)
        case "asa":
            return reporting.average_speed_of_answer_s(*values)
        case "abandonment_rate_pct":
            return reporting.abandonment_pct(*values)
        case _:
            return reporting.scheduled_staff(*values)
