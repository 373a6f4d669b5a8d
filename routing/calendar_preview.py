"""What a calendar means for certain days: the open hours of each, in local time and as instants. Pure."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from crm_core.clock import to_iso
from routing.business_time import Calendar, Interval
from routing.calendar_spec import WEEKDAYS

MAX_DAYS = 366
_PER_DAY = 100


def preview(calendar: Calendar, first: date, days: int) -> Iterator[dict[str, Any]]:
    """One entry per civil date: {"date", "weekday", "why", "open": [["09:00", "13:00"], …], "utc": [...], "open_ms"}.

    `why` names what decided: holiday, special, break (of special breaks), or week. The local hours are as written,
    `utc` is what they come to: on a night of a clock change they may be shorter, longer or gone.
    """
    zone = ZoneInfo(calendar.spec.tz)
    special = {day for day, _ in (*calendar.spec.special, *calendar.spec.special_tails)}
    breaks = {day for day, _ in calendar.spec.breaks}
    for n in range(days):
        day = first + timedelta(days=n)
        start, end = _midnight(day, zone), _midnight(day + timedelta(days=1), zone)
        spans = calendar.open_between(start, end, _PER_DAY)
        why = (
            "holiday" if day in calendar.spec.holidays
            else "special" if day in special
            else "break" if day in breaks
            else "week"
        )  # fmt: skip
        yield {
            "date": day.isoformat(),
            "weekday": WEEKDAYS[day.weekday()],
            "why": why,
            "open": [[_hhmm(a), _hhmm(b)] for a, b in calendar.spec.hours_of(day)],
            "utc": [[to_iso(a), to_iso(b)] for a, b in spans],
            "open_ms": _total(spans),
            "day_ms": end - start,
        }


def _total(spans: list[Interval]) -> int:
    return sum(b - a for a, b in spans)


def _hhmm(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _midnight(day: date, zone: ZoneInfo) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) * 1000
