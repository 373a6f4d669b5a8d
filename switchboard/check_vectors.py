"""Checks the product against a file of known answers (`tests/vectors/vectors.json`): `switchboard check-vectors FILE`.

Owns the translation between the file's words and the product's. `check` is pure; what storage takes part in is lived
again on a database of the configured kind by `switchboard.vector_storage`, and passes only if both pass. A vector that
cannot be read is a failure of that vector, not of the run.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crm_core.clock import SECOND, from_iso
from routing.business_time import Calendar
from switchboard.vector_fields import Pair, iso, known_fields, names, same
from switchboard.vector_formulas import erlang_case, report_case, report_items
from switchboard.vector_scenarios import scenario

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
        _section("reporting", list(report_items(vectors.get("reporting", {}))), report_case),
    ]


def check_business_time(specs: Mapping[str, Any], vectors: Mapping[str, Any]) -> list[SectionResult]:
    """The sections of calendars and of their arithmetic, with these specs."""
    calendars = _Calendars(specs)
    each = [{"id": name} for name in specs]
    return [
        _section("calendars", each, lambda item: _compiles(calendars(item["id"]))),
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


def _section(section: str, items: Sequence[Any], run: Callable[[Any], Pair]) -> SectionResult:
    failures = []
    for name, item in zip(names(items), items, strict=True):
        try:
            expected, got = run(item)
        except Exception as error:  # a vector may be malformed in any way
            expected, got = "an answer", f"{type(error).__name__}: {error}"
        if not same(expected, got):
            failures.append(Failure(name, expected, got))
    return SectionResult(section, len(items) - len(failures), len(items), tuple(failures))


def _compiles(calendar: Calendar) -> Pair:
    return True, len(calendar.fingerprint(2025, 2025)) > 0


#: What a vector of each kind says, besides what all of them say.
_ARITHMETIC: Mapping[str, frozenset[str]] = {
    "open": frozenset({"at", "open"}),
    "elapsed": frozenset({"start", "end", "pauses", "elapsed_seconds"}),
    "due": frozenset({"start", "seconds", "pauses", "due_first", "due_last"}),
    "back": frozenset({"start", "seconds", "pauses", "back_first", "back_last"}),
}
_OF_ALL = frozenset({"id", "kind", "calendar", "dst_edge", "wallclock_alternative"})


def business_time(item: Mapping[str, Any], calendar: Callable[[str], Calendar]) -> Pair:
    kind = item["kind"]
    if kind not in _ARITHMETIC:
        raise ValueError(f"unknown kind {kind!r}")
    known_fields(item, _OF_ALL | _ARITHMETIC[kind])
    hours = calendar(item["calendar"])
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
            "due_first": iso(hours.due_first(start, ms, pauses)),
            "due_last": iso(hours.due_last(start, ms, pauses)),
        }
    else:
        ms = round(item["seconds"] * SECOND)
        got = {
            "back_first": iso(hours.back_first(start, ms, pauses)),
            "back_last": iso(hours.back_last(start, ms, pauses)),
        }
    expected = {key: item[key] for key in got if key in item}
    if not expected:
        raise ValueError("the vector states no answer")
    return expected, got


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
