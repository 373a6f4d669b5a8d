"""Formulas of service reports, each under one name with one definition.

Owns arithmetic on sums only: percentages are ratios of sums, never averages of ratios, so add up first.
Percentages are 0..100; a ratio over nothing is None, which is not the same as zero. Durations are in seconds
where the name ends in `_s`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """Contacts of one queue and period, by what became of them. T is the threshold of the service level."""

    answered: int
    abandoned: int
    answered_within_t: int
    abandoned_within_t: int
    abandoned_short: int = 0
    """Abandoned so fast (5 s by custom) that nobody could have answered."""

    def __post_init__(self) -> None:
        parts = (
            ("answered_within_t", self.answered_within_t, self.answered),
            ("abandoned_within_t", self.abandoned_within_t, self.abandoned),
            ("abandoned_short", self.abandoned_short, self.abandoned),
        )
        for name, value in (("answered", self.answered), ("abandoned", self.abandoned)):
            if value < 0:
                raise ValueError(f"{name} cannot be negative")
        for name, value, whole in parts:
            if not 0 <= value <= whole:
                raise ValueError(f"{name} must be between 0 and {whole}, not {value}")

    @property
    def offered(self) -> int:
        return self.answered + self.abandoned


@dataclass(frozen=True, slots=True)
class ServiceLevels:
    """The same facts by five customs; print the name of the one shown. `abandons_ignored` is the default."""

    abandons_ignored: float | None
    """answered<=T / (offered - abandoned<=T)"""
    abandons_negative: float | None
    """answered<=T / offered"""
    abandons_positive: float | None
    """(answered<=T + abandoned<=T) / offered"""
    answered_only: float | None
    """answered<=T / answered"""
    short_abandons_removed: float | None
    """answered<=T / (offered - abandoned_short)"""


def percent(part: float, whole: float) -> float | None:
    return 100 * part / whole if whole else None


def service_levels(counts: QueueCounts) -> ServiceLevels:
    within, offered = counts.answered_within_t, counts.offered
    return ServiceLevels(
        abandons_ignored=percent(within, offered - counts.abandoned_within_t),
        abandons_negative=percent(within, offered),
        abandons_positive=percent(within + counts.abandoned_within_t, offered),
        answered_only=percent(within, counts.answered),
        short_abandons_removed=percent(within, offered - counts.abandoned_short),
    )


def average_speed_of_answer_s(waits_of_answered_s: Sequence[float]) -> float | None:
    """Waits of answered contacts only, zero waits and the ring time at the agent included."""
    return math.fsum(waits_of_answered_s) / len(waits_of_answered_s) if waits_of_answered_s else None


def average_handle_time_s(talk_s: float, hold_s: float, wrap_s: float, handled: int) -> float | None:
    return (talk_s + hold_s + wrap_s) / handled if handled else None


def occupancy_pct(handle_s: float, available_s: float) -> float | None:
    """Handling time, wrap-up included, of the time at work without breaks."""
    return percent(handle_s, handle_s + available_s)


def utilisation_pct(handle_s: float, paid_s: float) -> float | None:
    return percent(handle_s, paid_s)


def abandonment_pct(abandoned: int, queued: int) -> float | None:
    """Abandoned in the queue of all queued; callbacks taken are neither."""
    return percent(abandoned, queued)


def scheduled_staff(needed: int, shrinkage: float) -> int:
    """People to schedule so that `needed` are on the phones. `shrinkage` is a fraction below 1."""
    if needed < 0 or not 0 <= shrinkage < 1:
        raise ValueError("needed must not be negative and shrinkage must be at least 0 and below 1")
    # The tolerance keeps 14 / 0.7 at 20: the division is exact for people, not for binary fractions.
    return math.ceil(needed / (1 - shrinkage) - 1e-9)


def met_pct(met: int, breached: int) -> float | None:
    """Of the clocks decided in the period; cancelled and merged ones are in neither number."""
    return percent(met, met + breached)


def overrun_ms(elapsed_ms: int, target_ms: int) -> int:
    return max(0, elapsed_ms - target_ms)


def percentile(values: Iterable[float], p: float) -> float | None:
    """Linear interpolation between order statistics, 0 <= p <= 100; None of nothing."""
    if not 0 <= p <= 100:
        raise ValueError(f"a percentile is between 0 and 100, not {p}")
    ordered = sorted(values)
    if not ordered:
        return None
    place = (len(ordered) - 1) * p / 100
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
