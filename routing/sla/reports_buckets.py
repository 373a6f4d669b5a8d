"""The time axis of reports: half-open buckets that follow the reader's local clock.

A day with a change of the clock has 92 or 100 quarter-hours; nothing is ever added to a local time. Pure.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from crm_core.clock import MINUTE
from crm_core.errors import Invalid

#: name of a size -> its length, ms; a day is as long as it is, and "none" is the whole period
SIZES: dict[str, int | None] = {
    "15m": 15 * MINUTE,
    "30m": 30 * MINUTE,
    "60m": 60 * MINUTE,
    "day": None,
    "none": None,
}
MAX_BUCKETS = 10_000


@dataclass(frozen=True, slots=True)
class Buckets:
    """[edges[i], edges[i + 1]) are the buckets; the outer edges are those of the period."""

    zone: ZoneInfo
    size: str
    edges: tuple[int, ...]

    @classmethod
    def cut(cls, begin: int, end: int, size: str, zone: ZoneInfo) -> "Buckets":
        """Buckets of [begin, end), aligned to local midnight; the first and the last may be cut short.

        Raises Invalid: bad_period, too_many_buckets.
        """
        if end <= begin:
            raise Invalid("the period ends before it begins", code="bad_period")
        length = SIZES[size]
        if length is not None and (end - begin) // length > MAX_BUCKETS:
            raise Invalid(f"at most {MAX_BUCKETS} buckets", code="too_many_buckets")
        inner: list[int] = []
        if size != "none":
            for start, stop in days(begin, end, zone):
                inner += [start] if length is None else range(start, stop, length)
        return cls(zone, size, (begin, *(t for t in inner if begin < t < end), end))

    def __len__(self) -> int:
        return len(self.edges) - 1

    def of(self, t: int) -> int | None:
        """The number of the bucket of an instant, None outside the period."""
        if not self.edges[0] <= t < self.edges[-1]:
            return None
        return bisect_right(self.edges, t) - 1

    def span(self, number: int) -> tuple[int, int]:
        return self.edges[number], self.edges[number + 1]

    def share(self, a: int, b: int) -> Iterator[tuple[int, int]]:
        """(bucket, ms of it) of what [a, b) has in the period."""
        a, b = max(a, self.edges[0]), min(b, self.edges[-1])
        number = bisect_right(self.edges, a) - 1
        while a < b:
            stop = min(b, self.edges[number + 1])
            yield number, stop - a
            a, number = stop, number + 1


def days(begin: int, end: int, zone: ZoneInfo) -> Iterator[tuple[int, int]]:
    """Local days that touch [begin, end), as (first instant, first of the next day)."""
    day = datetime.fromtimestamp(begin / 1000, UTC).astimezone(zone).date()
    start = midnight(day, zone)
    while start < end:
        day += timedelta(days=1)
        following = midnight(day, zone)
        yield start, following
        start = following


def midnight(day: date, zone: ZoneInfo) -> int:
    """The first instant of a local day; where midnight does not exist, the moment the clock jumps over it."""
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) * 1000
