"""Business time: what a calendar calls working hours, and arithmetic in it.

Owns: validation of calendars, their compilation to UTC, elapsed time and its inverse. All instants and
durations are integer milliseconds UTC. Must not do any I/O or know about tickets, policies or clocks.

A calendar is compiled to merged half-open UTC segments with prefix sums, a few years at a time and only when
asked, so each question costs a binary search whatever the distance . Local times are mapped
to UTC end point by end point; nothing is ever added to a local time, which is why DST nights come out right.
"""

import hashlib
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any, Self, cast
from zoneinfo import ZoneInfo

from crm_core.clock import DAY
from routing.calendar_spec import WEEKDAYS, CalendarSpec, union

#: No calendar is compiled outside these years; beyond them it counts as closed, so an inverse gives None.
FIRST_YEAR, LAST_YEAR = 1950, 2199
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - local wall-clock arithmetic, the zone's offset is applied apart
_MS = timedelta(milliseconds=1)

Interval = tuple[int, int]
"""A half-open interval of UTC instants, milliseconds."""


@dataclass(frozen=True, slots=True)
class _Window:
    """Compiled years `first..last`; replaced as a whole so that readers never see half of it."""

    first: int
    last: int
    lo: int
    hi: int
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    before: tuple[int, ...]
    """Open milliseconds of the window before segment i, and as one more entry the total."""

    def open_until(self, t: int) -> int:
        """F(t): open milliseconds between the window's beginning and t."""
        i = bisect_right(self.starts, t) - 1
        if i < 0:
            return 0
        return self.before[i] + min(t, self.ends[i]) - self.starts[i]


@dataclass(frozen=True)
class Calendar:
    """Working hours of a team or organisation. Immutable: an edited calendar is a new version.

    `id` 0 is reserved for `ALWAYS_OPEN`; stored calendars have positive ids.
    """

    spec: CalendarSpec
    id: int = 0
    version: int = 1
    name: str = ""
    _windows: list[_Window] = field(default_factory=list, init=False, repr=False, compare=False, hash=False)
    _lock: threading.Lock = field(
        default_factory=threading.Lock, init=False, repr=False, compare=False, hash=False
    )

    @classmethod
    def from_spec(
        cls,
        spec: Any,
        *,
        id: int = 0,  # noqa: A002 - the row's id, the name every entity uses
        version: int = 1,
        name: str = "",
        round_2359: bool = True,
    ) -> Self:
        """Calendar of its JSON form. Raises CalendarError naming the wrong field.

        `round_2359` reads a closing time 23:59 as 24:00: people mean the end of the day, and would lose a
        minute every day. Turn it off only for specifications that are known to be exact.
        """
        return cls(CalendarSpec.parse(spec, round_2359=round_2359), id=id, version=version, name=name)

    def elapsed(self, a: int, b: int, pauses: Iterable[Interval] = ()) -> int:
        """Open milliseconds in [a, b) outside `pauses`; 0 when b <= a."""
        if b <= a:
            return 0
        if not pauses:
            return self._elapsed(a, b)
        total = 0
        for start, end in _runs(a, pauses):
            stop = b if end is None else min(end, b)
            if stop > start:
                total += self._elapsed(start, stop)
        return total

    def due_first(self, start: int, target_ms: int, pauses: Iterable[Interval] = ()) -> int | None:
        """Earliest instant t >= start with elapsed(start, t) >= target_ms; None when there is none."""
        remaining = _duration(target_ms)
        if remaining == 0:
            return start
        if not pauses:
            return self._forward(start, remaining, first=True)
        for begin, end in _runs(start, pauses):
            if end is None:
                return self._forward(begin, remaining, first=True)
            available = self.elapsed(begin, end)
            if remaining <= available:
                return self._forward(begin, remaining, first=True)
            remaining -= available
        raise AssertionError("the last run is open")

    def due_last(self, start: int, target_ms: int, pauses: Iterable[Interval] = ()) -> int | None:
        """Latest instant t with elapsed(start, t) <= target_ms; None when that is for ever.

        Differs from due_first only when the target ends exactly at closing time: it is the next opening then.
        """
        remaining = _duration(target_ms)
        if not pauses:
            return self._forward(start, remaining, first=False)
        for begin, end in _runs(start, pauses):
            if end is None:
                return self._forward(begin, remaining, first=False)
            available = self.elapsed(begin, end)
            if remaining < available:
                return self._forward(begin, remaining, first=False)
            remaining -= available
        raise AssertionError("the last run is open")

    def due_edges(self, start: int, target_ms: int) -> tuple[int | None, int | None]:
        """(due_first, due_last) by one look: every deadline needs both."""
        remaining = _duration(target_ms)
        if remaining and not self.spec.always_open:
            window = self._window(start, start)
            starts, before = window.starts, window.before
            goal = window.open_until(start) + remaining
            i = bisect_right(before, goal) - 1
            if i < len(starts):
                last = starts[i] + goal - before[i]
                # Inside a segment both are the same; at its closing time the first is still the closing time.
                return (last if goal > before[i] else self._forward(start, remaining, first=True)), last
        return self.due_first(start, remaining), self.due_last(start, remaining)

    def back_first(self, end: int, ms: int, pauses: Iterable[Interval] = ()) -> int | None:
        """Latest instant t <= end with elapsed(t, end) >= ms: "so many business minutes before"."""
        remaining = _duration(ms)
        if remaining == 0:
            return end
        for begin, stop in _runs_back(end, pauses):
            if begin is None:
                return self._backward(stop, remaining, first=True)
            available = self.elapsed(begin, stop)
            if remaining <= available:
                return self._backward(stop, remaining, first=True)
            remaining -= available
        raise AssertionError("the last run has no beginning")

    def back_last(self, end: int, ms: int, pauses: Iterable[Interval] = ()) -> int | None:
        """Earliest instant t with elapsed(t, end) <= ms, the mirror image of due_last."""
        remaining = _duration(ms)
        for begin, stop in _runs_back(end, pauses):
            if begin is None:
                return self._backward(stop, remaining, first=False)
            available = self.elapsed(begin, stop)
            if remaining < available:
                return self._backward(stop, remaining, first=False)
            remaining -= available
        raise AssertionError("the last run has no beginning")

    def is_open(self, t: int) -> bool:
        if self.spec.always_open:
            return True
        window = self._window(t, t)
        i = bisect_right(window.starts, t) - 1
        return i >= 0 and t < window.ends[i]

    def next_open(self, t: int) -> int | None:
        """The first open instant at or after t; None when it never opens again."""
        return self._forward(t, 0, first=False)

    def next_close(self, t: int) -> int | None:
        """End of the open segment that contains t, or else of the next one; None when there is none."""
        opening = self.next_open(t)
        if opening is None or self.spec.always_open:
            return None
        window = self._window(opening, opening + DAY)
        while True:
            end = window.ends[bisect_right(window.starts, opening) - 1]
            if end < window.hi:
                return end
            if window.last >= self._last_useful_year(opening, closing=True):
                return None
            window = self._widen(window, ahead=True)

    def open_between(self, a: int, b: int, limit: int) -> list[Interval]:
        """The open intervals of [a, b), clipped to it, in order; at most `limit` of them."""
        if b <= a or limit <= 0:
            return []
        if self.spec.always_open:
            return [(a, b)]
        window = self._window(a, b)
        found: list[Interval] = []
        for i in range(max(0, bisect_right(window.starts, a) - 1), len(window.starts)):
            start, end = max(window.starts[i], a), min(window.ends[i], b)
            if window.starts[i] >= b or len(found) == limit:
                break
            if start < end:
                found.append((start, end))
        return found

    def fingerprint(self, first_year: int, last_year: int) -> str:
        """Digest of the compiled UTC segments: if a tzdata update changes it, make a new version."""
        digest = hashlib.sha256()
        for start, end in self._compile(first_year, last_year):
            digest.update(b"%d-%d;" % (start, end))
        return digest.hexdigest()

    def _elapsed(self, a: int, b: int) -> int:
        if self.spec.always_open:
            return b - a
        window = self._window(a, b)
        return window.open_until(b) - window.open_until(a)

    def _forward(self, start: int, ms: int, *, first: bool) -> int | None:
        if self.spec.always_open:
            return start + ms
        window = self._window(start, start)
        while True:
            goal = window.open_until(start) + ms
            # The left inverse ends at a closing time, the right one at the following opening time.
            i = (bisect_left if first else bisect_right)(window.before, goal) - 1
            if i < len(window.starts):
                return window.starts[i] + goal - window.before[i]
            if window.last >= self._last_useful_year(start):
                return None
            window = self._widen(window, ahead=True)

    def _backward(self, end: int, ms: int, *, first: bool) -> int | None:
        if self.spec.always_open:
            return end - ms
        window = self._window(end, end)
        while True:
            goal = window.open_until(end) - ms
            # Goal 0 is decidable for the right inverse only: what lies before the window is unknown.
            if goal > 0 or (goal == 0 and first and window.starts):
                i = (bisect_right if first else bisect_left)(window.before, goal) - 1
                i = min(i, len(window.starts) - 1)
                return window.starts[i] + goal - window.before[i]
            if window.first <= self._first_useful_year(end):
                return None
            window = self._widen(window, ahead=False)

    def _last_useful_year(self, t: int, *, closing: bool = False) -> int:
        """After this year nothing new is found: stops the search where it never opens, or never closes."""
        if any(self.spec.week) and not (closing and self.spec.full_week):
            return LAST_YEAR
        explicit = self.spec.last_date
        return min(max(_year(t), explicit.year if explicit else 0) + 1, LAST_YEAR)

    def _first_useful_year(self, t: int) -> int:
        if any(self.spec.week):
            return FIRST_YEAR
        explicit = self.spec.first_date
        return max(min(_year(t), explicit.year if explicit else LAST_YEAR) - 1, FIRST_YEAR)

    def _window(self, a: int, b: int) -> _Window:
        if self._windows and self._windows[0].lo <= a and b < self._windows[0].hi:
            return self._windows[0]
        first, last = max(_year(a) - 1, FIRST_YEAR), min(_year(b) + 2, LAST_YEAR)
        return self._build(first, last)

    def _widen(self, window: _Window, *, ahead: bool) -> _Window:
        """The window with as many years again in one direction, so a far answer costs few compilations."""
        size = window.last - window.first + 1
        if ahead:
            return self._build(window.first, min(window.last + size, LAST_YEAR))
        return self._build(max(window.first - size, FIRST_YEAR), window.last)

    def _build(self, first: int, last: int) -> _Window:
        with self._lock:
            old = self._windows[0] if self._windows else None
            if old is not None:
                first, last = min(first, old.first), max(last, old.last)
                if (first, last) == (old.first, old.last):
                    return old
                known = [*zip(old.starts, old.ends, strict=True)]
                segments = union(
                    [*self._compile(first, old.first - 1), *known, *self._compile(old.last + 1, last)]
                )
            else:
                segments = self._compile(first, last)
            before = [0]
            for start, end in segments:
                before.append(before[-1] + end - start)
            window = _Window(
                first=first,
                last=last,
                # Years meet at midnight UTC give or take a zone's offset; the outermost days are left out.
                lo=_utc_ms(first, 1, 3),
                hi=_utc_ms(last, 12, 30),
                starts=tuple(start for start, _ in segments),
                ends=tuple(end for _, end in segments),
                before=tuple(before),
            )
            self._windows[:] = [window]
            return window

    def _compile(self, first: int, last: int) -> list[Interval]:
        if last < first:
            return []
        zone, segments = ZoneInfo(self.spec.tz), []
        day, stop = date(first, 1, 1), date(last, 12, 31)
        one = timedelta(days=1)
        while day <= stop:
            for begin, end in self.spec.hours_of(day):
                a, b = _to_utc(zone, day, begin), _to_utc(zone, day, end)
                if a < b:  # a segment inside a DST gap is empty or turned round: it does not exist that day
                    segments.append((a, b))
            day += one
        return union(segments)


def _utc_ms(year: int, month: int, day: int) -> int:
    return (datetime(year, month, day) - _EPOCH) // _MS  # noqa: DTZ001


def _year(t: int) -> int:
    first, last = _utc_ms(FIRST_YEAR, 1, 1), _utc_ms(LAST_YEAR, 12, 31)
    return datetime.fromtimestamp(min(max(t, first), last) / 1000, UTC).year


def _to_utc(zone: ZoneInfo, day: date, minute: int) -> int:
    """UTC instant of a local time: first occurrence if ambiguous, moved by the gap if non-existent.

    PEP 495: with fold=0 utcoffset() gives the offset before the transition, which is both.
    https://peps.python.org/pep-0495/
    """
    wall = datetime(day.year, day.month, day.day) + timedelta(minutes=minute)  # noqa: DTZ001
    offset = cast("timedelta", wall.replace(tzinfo=zone).utcoffset())
    return (wall - _EPOCH - offset) // _MS


def _duration(ms: int) -> int:
    if ms < 0:
        raise ValueError(f"a duration cannot be negative: {ms} ms")
    return ms


def _runs(start: int, pauses: Iterable[Interval]) -> Iterable[tuple[int, int | None]]:
    """The intervals from `start` on that no pause covers; the last one has no end."""
    held = [(max(a, start), b) for a, b in union(pauses) if b > start]
    edges: list[Sequence[int]] = [(start, start), *held]
    for (_, begin), (end, _) in pairwise(edges):
        yield begin, end
    yield edges[-1][1], None


def _runs_back(end: int, pauses: Iterable[Interval]) -> Iterable[tuple[int | None, int]]:
    """The intervals up to `end` that no pause covers, the latest first; the last one has no beginning."""
    held = [(a, min(b, end)) for a, b in union(pauses) if a < end]
    for a, b in reversed(held):
        yield b, end
        end = a
    yield None, end


#: Plain UTC time, for targets that ignore working hours.
ALWAYS_OPEN = Calendar.from_spec(
    {"tz": "UTC", "week": {day: [["00:00", "24:00"]] for day in WEEKDAYS}},
    name="24x7",
)
