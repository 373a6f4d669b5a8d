"""Which times to offer for a call: on the half hour, inside the team's hours, at a decent hour for the customer."""

from collections.abc import Collection
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from crm_core.clock import DAY, HOUR, MINUTE
from routing.business_time import Calendar

_STEP = 30 * MINUTE
_LEAD = 30 * MINUTE
_SPACING = 2 * HOUR
_PER_DAY = 2
_HORIZON = 14 * DAY
_DECENT = range(9, 20)


def is_open(calendar: Calendar | None, at: int) -> bool:
    return calendar is None or calendar.is_open(at)


def propose(
    calendar: Calendar | None,
    *,
    now: int,
    zone: str,
    after: int | None = None,
    until: int | None = None,
    count: int = 4,
    free: Collection[int] | None = None,
) -> tuple[int, ...]:
    """Up to `count` instants (ms) at or after `after` and before `until`, spread over hours and days; may be empty.

    `free`: the half hours that the team can still promise (routing.callbacks.slots); None: any of its hours. A quarter
    of an hour must remain until closing, or nobody would have the time to call.
    """
    earliest = max(now + _LEAD, after if after is not None else 0)
    at = -(-earliest // _STEP) * _STEP
    end = min(at + _HORIZON, until if until is not None else at + _HORIZON)
    tz = ZoneInfo(zone)
    found: list[int] = []
    per_day: dict[int, int] = {}
    while at < end and len(found) < count:
        if not is_open(calendar, at):
            opening = calendar.next_open(at) if calendar is not None else at
            if opening is None:
                break
            at = max(at + _STEP, -(-opening // _STEP) * _STEP)
            continue
        here = datetime.fromtimestamp(at / 1000, UTC).astimezone(tz)
        day = here.toordinal()
        fits = (
            here.hour in _DECENT
            and (free is None or at in free)
            and is_open(calendar, at + 15 * MINUTE - 1)
            and per_day.get(day, 0) < _PER_DAY
        )
        if fits:
            found.append(at)
            per_day[day] = per_day.get(day, 0) + 1
        at += _SPACING if fits else _STEP
    return tuple(found)
