"""How many will come in each half-hour: the same time of the same weekday in the weeks before. Pure.

Half-hours are those of the clock on the wall of a zone, each a UTC interval of its own: a day on which the clock is
changed has 46 or 50 of them (92 or 100 quarter-hours), and nothing is ever added to a local time. Recent weeks count
more; a holiday is compared with holidays, not with its weekday; days before the record began are no days without
customers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

from crm_core.clock import DAY, MINUTE
from routing.business_time import Calendar
from routing.planning.history import QUARTER_MS

HALF_HOUR_MS = 30 * MINUTE
#: after so long an observation counts half
HALF_LIFE_MS = 14 * DAY
#: observations of a weekday's half-hour below which other days are asked
MIN_DAYS = 2
#: today is compared with what was expected of it only from so many expected requests on
MIN_EXPECTED_TODAY = 20.0
TODAY_BOUNDS = (0.5, 2.0)

HOLIDAY = 7
"""The kind of day after the seven weekdays."""


class Basis(StrEnum):
    """What an expectation stands on, the best first."""

    WEEKDAY = "weekday"  # the same time of the same weekday
    HOLIDAY = "holiday"  # the same time of other holidays
    OTHER_DAYS = "other_days"  # the same time of other days that were open, or closed, as this one
    AVERAGE = "average"  # the mean of the whole record
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class HalfHour:
    start: int
    end: int
    day: date
    slot: int
    """Minutes after local midnight, by the clock on the wall."""


def half_hour(zone: ZoneInfo, t: int) -> HalfHour:
    """The half-hour that contains the instant `t`."""
    quarter = t - t % QUARTER_MS
    local = datetime.fromtimestamp(quarter / 1000, zone)
    start = quarter - (local.minute % 30) * MINUTE
    begun = datetime.fromtimestamp(start / 1000, zone)
    return HalfHour(start, start + HALF_HOUR_MS, begun.date(), begun.hour * 60 + begun.minute)


def half_hours(zone: ZoneInfo, start: int, end: int) -> Iterator[HalfHour]:
    """Those that overlap [start, end), in order."""
    t = start
    while t < end:
        found = half_hour(zone, t)
        yield found
        t = found.end


def quarters_of_day(zone: ZoneInfo, day: date) -> int:
    """How many quarter-hours a civil day has: 96, or 92 and 100 when the clock is changed."""
    return round((_midnight(zone, day, 1) - _midnight(zone, day, 0)) / QUARTER_MS)


def _midnight(zone: ZoneInfo, day: date, days_on: int) -> int:
    that = date.fromordinal(day.toordinal() + days_on)
    return round(datetime(that.year, that.month, that.day, tzinfo=zone).timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class Expectation:
    arrivals: float
    basis: Basis
    days: int
    """How many days were looked at for it."""


@dataclass(slots=True)
class _Mean:
    weighted: float = 0.0
    weight: float = 0.0
    days: int = 0

    def add(self, value: int, weight: float) -> None:
        self.weighted += value * weight
        self.weight += weight
        self.days += 1

    @property
    def mean(self) -> float:
        return self.weighted / self.weight if self.weight else 0.0


@dataclass(slots=True)
class Profile:
    """What one team and channel usually gets. Build it with `learn`."""

    zone: ZoneInfo
    calendar: Calendar | None
    by_slot: dict[tuple[int, int], _Mean] = field(default_factory=dict)
    by_openness: dict[tuple[bool, int], _Mean] = field(default_factory=dict)
    overall: _Mean = field(default_factory=_Mean)
    today_factor: float = 1.0
    today: date | None = None

    def expect(self, bin_: HalfHour) -> Expectation:
        """What will come in a half-hour."""
        found = self._usual(bin_)
        if bin_.day == self.today and self.today_factor != 1.0:
            return Expectation(found.arrivals * self.today_factor, found.basis, found.days)
        return found

    def observe(self, bin_: HalfHour, count: int, until: int) -> None:
        """Take in what came in a half-hour, weighed by its age at `until`."""
        weight = 0.5 ** ((until - bin_.start) / HALF_LIFE_MS)
        self.by_slot.setdefault((self._kind(bin_.day), bin_.slot), _Mean()).add(count, weight)
        self.by_openness.setdefault((self._works(bin_.day), bin_.slot), _Mean()).add(count, weight)
        self.overall.add(count, weight)

    def _usual(self, bin_: HalfHour) -> Expectation:
        kind = self._kind(bin_.day)
        mean = self.by_slot.get((kind, bin_.slot))
        if mean is not None and mean.days >= (1 if kind == HOLIDAY else MIN_DAYS):
            return Expectation(mean.mean, Basis.HOLIDAY if kind == HOLIDAY else Basis.WEEKDAY, mean.days)
        mean = self.by_openness.get((self._works(bin_.day), bin_.slot))
        if mean is not None:
            return Expectation(mean.mean, Basis.OTHER_DAYS, mean.days)
        if self.overall.days:
            return Expectation(self.overall.mean, Basis.AVERAGE, self.overall.days)
        return Expectation(0.0, Basis.NOTHING, 0)

    def _kind(self, day: date) -> int:
        holiday = self.calendar is not None and day in self.calendar.spec.holidays
        return HOLIDAY if holiday else day.weekday()

    def _works(self, day: date) -> bool:
        return self.calendar is None or bool(self.calendar.spec.hours_of(day))


def learn(
    quarters: Mapping[int, int], *, since: int, until: int, zone: ZoneInfo, calendar: Calendar | None
) -> Profile:
    """The profile of counts by quarter-hour (UTC instant: requests) in [since, until).

    The half-hour that `until` is in is not over and says nothing. If what came today differs from what was to be
    expected, the rest of today is expected to differ likewise (between half and double).
    """
    profile = Profile(zone, calendar)
    today = half_hour(zone, until).day
    seen_today: list[tuple[HalfHour, int]] = []
    for bin_ in half_hours(zone, since, until):
        if bin_.end > until:
            break
        count = sum(quarters.get(q, 0) for q in range(bin_.start, bin_.end, QUARTER_MS))
        if bin_.day == today:
            seen_today.append((bin_, count))
        else:
            profile.observe(bin_, count, until)
    expected = sum(profile.expect(b).arrivals for b, _ in seen_today)
    for bin_, count in seen_today:
        profile.observe(bin_, count, until)
    if expected >= MIN_EXPECTED_TODAY:
        low, high = TODAY_BOUNDS
        profile.today_factor = min(max(sum(c for _, c in seen_today) / expected, low), high)
        profile.today = today
    return profile
