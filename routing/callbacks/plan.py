"""When a customer may be called and when to try again: pure functions of numbers, zones and instants.

Instants are milliseconds UTC. Local times are worked out at the moment of asking, so a change of clocks between
booking and dialling is no trap.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from crm_core import phone
from crm_core.clock import DAY, HOUR, MINUTE

#: how long after the promised time a call still counts as kept
TOLERANCE_MS = 5 * MINUTE
DEFAULT_WINDOW_MS = HOUR
MAX_COUNTED = 5
MAX_UNCOUNTED = 5
#: all tries happen within this of the first
HORIZON_MS = 3 * DAY
#: more zones than this say nothing about where the person is
_MAX_ZONES = 3
_OPEN, _CLOSE = 9, 20
_STRICT_OPEN, _STRICT_CLOSE = 10, 19

OUTCOMES = ("answered", "busy", "no_answer", "machine", "rejected", "failed", "invalid_number")
#: an outcome that is nobody's fault but the network's does not use up a try
UNCOUNTED = frozenset({"failed"})

_BUSY_MS = (5 * MINUTE, 10 * MINUTE, 20 * MINUTE)
_NO_ANSWER_MS = (30 * MINUTE, 2 * HOUR)
_FAILED_MS = 2 * MINUTE


@dataclass(frozen=True, slots=True)
class Zones:
    """The zones a person may be in, all of which must be awake. `source` is contact, phone or default."""

    names: tuple[str, ...]
    source: str
    strict: bool = False

    @property
    def shown(self) -> str:
        return self.names[0]


def zones_of(e164: str, *, contact_zone: str | None, default_zone: str) -> Zones:
    """An explicit zone, else the number's if it says enough, else the account's with stricter hours."""
    if contact_zone and is_zone(contact_zone):
        return Zones((contact_zone,), "contact")
    found = phone.timezones(e164)
    if 0 < len(found) <= _MAX_ZONES:
        return Zones(tuple(found), "phone")
    return Zones((default_zone,), "default", strict=True)


def is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True


def may_ring(at: int, zones: Zones) -> bool:
    """Whether it is a decent hour in every zone the person may be in."""
    low, high = (_STRICT_OPEN, _STRICT_CLOSE) if zones.strict else (_OPEN, _CLOSE)
    return all(low <= _local(at, name).hour < high for name in zones.names)


def next_decent(at: int, zones: Zones) -> int:
    """`at`, or the next instant when it is a decent hour in all zones; `at` itself if the zones never agree."""
    if may_ring(at, zones):
        return at
    low = _STRICT_OPEN if zones.strict else _OPEN
    moments = []
    for name in zones.names:
        here = _local(at, name)
        for days in (0, 1, 2):
            opening = (here + timedelta(days=days)).replace(hour=low, minute=0, second=0, microsecond=0)
            moment = round(opening.timestamp() * 1000)
            if moment > at and may_ring(moment, zones):
                moments.append(moment)
    return min(moments, default=at)


def _local(at: int, name: str) -> datetime:
    return datetime.fromtimestamp(at / 1000, UTC).astimezone(ZoneInfo(name))


def retry_at(outcomes: Sequence[str], *, first_at: int, now: int, zones: Zones, seed: str) -> int | None:
    """When to try again after these outcomes (oldest first, the newest last), or None: a person must decide.

    Spread by up to a fifth either way, the same for the same `seed`, so that a batch does not come back at once.
    """
    last = outcomes[-1]
    counted = sum(o not in UNCOUNTED for o in outcomes)
    if counted >= MAX_COUNTED or now - first_at >= HORIZON_MS:
        return None
    same = sum(o == last for o in outcomes)
    if last == "failed":
        if same > MAX_UNCOUNTED:
            return None
        return next_decent(now + _spread(_FAILED_MS, seed), zones)
    if last == "busy":
        return next_decent(now + _spread(_BUSY_MS[min(same, len(_BUSY_MS)) - 1], seed), zones)
    if last == "no_answer" and same <= len(_NO_ANSWER_MS):
        return next_decent(now + _spread(_NO_ANSWER_MS[same - 1], seed), zones)
    if last == "rejected":
        return other_daypart(now, zones, seed) if same == 1 else None
    if last in ("no_answer", "machine"):
        return other_daypart(now, zones, seed)
    return None


def other_daypart(now: int, zones: Zones, seed: str) -> int:
    """Tomorrow, in the half of the day in which it was not tried: mornings at eleven, evenings at half past five."""
    here = _local(now, zones.names[0])
    hour, minute = (17, 30) if here.hour < 14 else (11, 0)
    then = (here + timedelta(days=1)).replace(hour=hour, minute=minute, second=0, microsecond=0)
    return next_decent(round(then.timestamp() * 1000) + _spread(15 * MINUTE, seed) - 15 * MINUTE, zones)


def _spread(delay_ms: int, seed: str) -> int:
    share = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4]) / 2**32
    return round(delay_ms * (0.8 + 0.4 * share))
