"""When a customer may be called and when to try again: pure functions of numbers, zones and instants.

Instants are milliseconds UTC. Local times are worked out at the moment of asking, so a change of clocks between
booking and dialling is no trap.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from crm_core import phone
from crm_core.clock import HOUR, MINUTE
from routing.callbacks.countries import code_of, country
from routing.callbacks.settings import OUTCOMES, UNCOUNTED, RetryPlan

__all__ = [
    "DEFAULT_PLAN",
    "DEFAULT_WINDOW_MS",
    "HORIZON_MS",
    "MAX_COUNTED",
    "OUTCOMES",
    "UNCOUNTED",
    "Zones",
    "is_zone",
    "may_ring",
    "next_decent",
    "other_daypart",
    "retry_at",
    "zones_of",
]

DEFAULT_WINDOW_MS = HOUR
DEFAULT_PLAN = RetryPlan()
MAX_COUNTED = DEFAULT_PLAN.max_counted
HORIZON_MS = DEFAULT_PLAN.horizon_ms
#: more zones than this say nothing about where the person is
_MAX_ZONES = 3
_USUAL = (9, 20)
_STRICT = (10, 19)
#: nobody waits longer than this for a decent hour: the longest run of holidays and rest days is shorter
_MAX_DAYS = 21


@dataclass(frozen=True, slots=True)
class Zones:
    """The zones a person may be in, all of which must be awake. `source` is contact, phone or default; `country` the
    ISO letters whose weekends and holidays count.
    """

    names: tuple[str, ...]
    source: str
    strict: bool = False
    country: str = "*"

    @property
    def shown(self) -> str:
        return self.names[0]

    @property
    def usual(self) -> tuple[int, int]:
        return _STRICT if self.strict else _USUAL


def zones_of(e164: str, *, contact_zone: str | None, default_zone: str) -> Zones:
    """An explicit zone, else the number's if it says enough, else, with stricter hours, the account's if the number may
    be there, the one in which most of the number's country lives, or the account's.
    """
    code = code_of(e164)
    if contact_zone and is_zone(contact_zone):
        return Zones((contact_zone,), "contact", country=code)
    found = phone.timezones(e164)
    if 0 < len(found) <= _MAX_ZONES:
        return Zones(tuple(found), "phone", country=code)
    likely = default_zone if default_zone in found else country(code).zone or default_zone
    return Zones((likely,), "default", strict=True, country=code)


@lru_cache(maxsize=1024)
def is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True


def may_ring(at: int, zones: Zones, *, any_day: bool = False) -> bool:
    """Whether it is a decent hour of a day for calls in every zone the person may be in. `any_day`: weekends and
    holidays do not matter.
    """
    for name in zones.names:
        here = _local(at, name)
        hours = _hours(here.date(), zones, any_day=any_day)
        if hours is None or not hours[0] <= here.hour < hours[1]:
            return False
    return True


def _hours(day: date, zones: Zones, *, any_day: bool) -> tuple[int, int] | None:
    return zones.usual if any_day else country(zones.country).hours_of(day, zones.usual)


def next_decent(at: int, zones: Zones, *, any_day: bool = False) -> int:
    """`at`, or the next instant when it is a decent hour in all zones; `at` itself if the zones never agree."""
    if may_ring(at, zones, any_day=any_day):
        return at
    moments = []
    for name in zones.names:
        here = _local(at, name)
        for days in range(_MAX_DAYS + 1):
            day: date = here.date() + timedelta(days=days)
            hours = _hours(day, zones, any_day=any_day)
            if hours is None:
                continue
            opening = datetime(day.year, day.month, day.day, hours[0], tzinfo=ZoneInfo(name))
            moment = round(opening.timestamp() * 1000)
            if moment > at and may_ring(moment, zones, any_day=any_day):
                moments.append(moment)
                break
    return min(moments, default=at)


def _local(at: int, name: str) -> datetime:
    return datetime.fromtimestamp(at / 1000, UTC).astimezone(ZoneInfo(name))


def retry_at(
    outcomes: Sequence[str],
    *,
    first_at: int,
    now: int,
    zones: Zones,
    seed: str,
    plan: RetryPlan = DEFAULT_PLAN,
) -> int | None:
    """When to try again after these outcomes (oldest first, the newest last), or None: a person must decide.

    Spread either way by the plan's jitter, the same for the same `seed`, so that a batch does not come back at once.
    """
    last = outcomes[-1]
    counted = sum(o not in UNCOUNTED for o in outcomes)
    if counted >= plan.max_counted or now - first_at >= plan.horizon_ms:
        return None
    same = sum(o == last for o in outcomes)

    def after(delay_ms: int) -> int:
        return next_decent(now + _spread(delay_ms, seed, plan.jitter), zones)

    match last:
        case "failed" | "abandoned":
            if len(outcomes) - counted > plan.max_uncounted:
                return None
            return after(plan.failed_ms)
        case "busy":
            return after(plan.busy_ms[min(same, len(plan.busy_ms)) - 1])
        case "no_answer" if same <= len(plan.no_answer_ms):
            return after(plan.no_answer_ms[same - 1])
        case "rejected":
            return other_daypart(now, zones, seed, plan.jitter) if same <= plan.rejected_again else None
        case "no_answer" | "machine":
            return other_daypart(now, zones, seed, plan.jitter)
        case _:
            return None


def other_daypart(now: int, zones: Zones, seed: str, jitter: float = DEFAULT_PLAN.jitter) -> int:
    """Tomorrow, in the half of the day in which it was not tried: mornings at eleven, evenings at half past five."""
    here = _local(now, zones.names[0])
    hour, minute = (17, 30) if here.hour < 14 else (11, 0)
    then = (here + timedelta(days=1)).replace(hour=hour, minute=minute, second=0, microsecond=0)
    shift = _spread(15 * MINUTE, seed, jitter) - 15 * MINUTE
    return next_decent(round(then.timestamp() * 1000) + shift, zones)


def _spread(delay_ms: int, seed: str, jitter: float) -> int:
    share = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4]) / 2**32
    return round(delay_ms * (1 - jitter + 2 * jitter * share))
