"""The written form of a calendar: parsing, validation, and the local hours of one civil date.

Owns the precedence: holiday > special > week, breaks cut out, overnight segments split at local midnight.
Knows nothing of UTC; `routing.business_time` maps these hours to instants.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import Any, Self
from zoneinfo import ZoneInfo

DAY_MINUTES = 24 * 60
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|(24):(00)")
_ONE_DAY = timedelta(days=1)
_KEYS = frozenset({"tz", "week", "holidays", "breaks", "special"})

Segment = tuple[int, int]
"""Half-open local minutes of one civil date, 0 <= start < end <= 1440."""
Dated = tuple[tuple[date, tuple[Segment, ...]], ...]


class CalendarError(ValueError):
    """A calendar specification is wrong: `path` is the field (`week.mon[0][1]`), `reason` the fault."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason


@dataclass(frozen=True)
class CalendarSpec:
    """Validated hours. Every segment lies within one civil date: overnight ones are already split.

    `special_tails` are the after-midnight parts of special hours: they add to the hours of their date, they
    do not replace them.
    """

    tz: str
    week: tuple[tuple[Segment, ...], ...]
    holidays: frozenset[date] = frozenset()
    breaks: Dated = ()
    special: Dated = ()
    special_tails: Dated = ()

    @classmethod
    def parse(cls, spec: Any, *, round_2359: bool = True) -> Self:
        """Reads `{tz, week, holidays, breaks, special}`. Raises CalendarError."""
        body = _mapping(spec, "")
        if unknown := sorted(set(body) - _KEYS):
            raise CalendarError(unknown[0], f"unknown field; known are {', '.join(sorted(_KEYS))}")
        for required in ("tz", "week"):
            if required not in body:
                raise CalendarError(required, "is required")
        week_in = _mapping(body["week"], "week")
        if unknown := sorted(set(week_in) - set(WEEKDAYS)):
            raise CalendarError(f"week.{unknown[0]}", f"not a day of the week; write {', '.join(WEEKDAYS)}")
        week: list[list[Segment]] = [[] for _ in WEEKDAYS]
        for i, name in enumerate(WEEKDAYS):
            today, tail = _segments(week_in.get(name, []), f"week.{name}", round_2359=round_2359)
            week[i] += today
            week[(i + 1) % 7] += tail
        special: dict[date, list[Segment]] = {}
        tails: dict[date, list[Segment]] = {}
        for key, value in _mapping(body.get("special") or {}, "special").items():
            day = _date(key, f"special.{key}")
            special[day], tail = _segments(value, f"special.{key}", round_2359=round_2359)
            if tail:
                tails.setdefault(_after(day, f"special.{key}"), []).extend(tail)
        breaks: dict[date, list[Segment]] = {}
        for key, value in _mapping(body.get("breaks") or {}, "breaks").items():
            day = _date(key, f"breaks.{key}")
            today, tail = _segments(value, f"breaks.{key}", round_2359=round_2359)
            breaks.setdefault(day, []).extend(today)
            if tail:
                breaks.setdefault(_after(day, f"breaks.{key}"), []).extend(tail)
        holidays = body.get("holidays") or []
        if not isinstance(holidays, list | tuple):
            raise CalendarError("holidays", "must be a list of dates")
        return cls(
            tz=_zone(body["tz"]),
            week=tuple(tuple(union(day)) for day in week),
            holidays=frozenset(_date(day, f"holidays[{i}]") for i, day in enumerate(holidays)),
            breaks=_dated(breaks),
            special=_dated(special),
            special_tails=_dated(tails),
        )

    def hours_of(self, day: date) -> list[Segment]:
        """Open local minutes of one civil date, merged and in order."""
        if not self._dates_named or day not in self._dates_named:
            return list(self.week[day.weekday()])
        if day in self.holidays:
            return []
        hours = self._special.get(day, self.week[day.weekday()])
        return subtract(union([*hours, *self._tails.get(day, ())]), self._breaks.get(day, ()))

    @cached_property
    def always_open(self) -> bool:
        return self.full_week and not self._dates_named

    @cached_property
    def full_week(self) -> bool:
        return all(day == ((0, DAY_MINUTES),) for day in self.week)

    @property
    def first_date(self) -> date | None:
        return min(self._dates_named, default=None)

    @property
    def last_date(self) -> date | None:
        return max(self._dates_named, default=None)

    @cached_property
    def _special(self) -> dict[date, tuple[Segment, ...]]:
        return dict(self.special)

    @cached_property
    def _tails(self) -> dict[date, tuple[Segment, ...]]:
        return dict(self.special_tails)

    @cached_property
    def _breaks(self) -> dict[date, tuple[Segment, ...]]:
        return dict(self.breaks)

    @cached_property
    def _dates_named(self) -> frozenset[date]:
        return frozenset({*self.holidays, *self._special, *self._tails, *self._breaks})


def union(segments: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted, disjoint, non-touching intervals that cover the same points; empty ones are dropped."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(segments):
        if start >= end:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def subtract(segments: Iterable[Segment], cuts: Iterable[Segment]) -> list[Segment]:
    """What is left of `segments` outside `cuts`."""
    left = list(segments)
    for cut_start, cut_end in cuts:
        left = [
            piece
            for start, end in left
            for piece in ((start, min(end, cut_start)), (max(start, cut_end), end))
            if piece[0] < piece[1]
        ]
    return left


def _mapping(value: Any, path: str) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise CalendarError(path, f"must be an object, not {type(value).__name__}")
    return value


def _zone(value: Any) -> str:
    if not isinstance(value, str):
        raise CalendarError("tz", "must be the name of a time zone, such as Europe/Kyiv")
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        raise CalendarError(
            "tz", f"unknown time zone {value!r}; write an IANA name such as Europe/Kyiv"
        ) from None
    return value


def _date(value: Any, path: str) -> date:
    if isinstance(value, date):  # YAML reads dates by itself
        return date(value.year, value.month, value.day)
    try:
        if isinstance(value, str) and len(value) == len("2025-01-01"):
            return date.fromisoformat(value)
    except ValueError:
        pass
    raise CalendarError(path, f"not a date: {value!r}; write YYYY-MM-DD")


def _after(day: date, path: str) -> date:
    if day == date.max:
        raise CalendarError(path, "has no day after it for the hours past midnight")
    return day + _ONE_DAY


def _dated(days: Mapping[date, list[Segment]]) -> Dated:
    return tuple((day, tuple(union(days[day]))) for day in sorted(days))


def _segments(value: Any, path: str, *, round_2359: bool) -> tuple[list[Segment], list[Segment]]:
    """The parts of the written segments on their own date and on the following one."""
    if not isinstance(value, list | tuple):
        raise CalendarError(path, 'must be a list of ["HH:MM", "HH:MM"] pairs')
    today: list[Segment] = []
    tail: list[Segment] = []
    for i, pair in enumerate(value):
        where = f"{path}[{i}]"
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise CalendarError(where, 'must be a pair ["HH:MM", "HH:MM"]')
        start, end = _minute(pair[0], f"{where}[0]"), _minute(pair[1], f"{where}[1]")
        if start == DAY_MINUTES:
            raise CalendarError(f"{where}[0]", "24:00 can only end a segment")
        if round_2359 and end == DAY_MINUTES - 1:
            end = DAY_MINUTES
        if end > start:
            today.append((start, end))
        else:  # end <= start runs overnight
            today.append((start, DAY_MINUTES))
            tail.append((0, end))
    return today, tail


def _minute(value: Any, path: str) -> int:
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise CalendarError(path, f"not a time of day: {value!r}; write HH:MM from 00:00 to 24:00")
    hours, minutes = value.split(":")
    return int(hours) * 60 + int(minutes)
