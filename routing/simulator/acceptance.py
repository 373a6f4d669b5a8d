"""When a simulated figure agrees with a theoretical one: independent replications, mean and standard error.

Equal: |mean - theory| <= t(99.9 %) * SE, and the half-width t(95 %) * SE is a small part of the theory's value; the
second condition stops a comparison from passing by noise. Greater, less: by more than chance explains. Within: no
replication is further from it than the bound.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

#: two-sided quantiles of Student's t by degrees of freedom: (95 %, 99.9 %)
_STUDENT = {
    4: (2.776, 8.610), 5: (2.571, 6.869), 7: (2.365, 5.408), 9: (2.262, 4.781), 11: (2.201, 4.437),
    14: (2.145, 4.140), 19: (2.093, 3.883), 24: (2.064, 3.745), 29: (2.045, 3.659), 39: (2.023, 3.558),
    59: (2.000, 3.460), 99: (1.984, 3.392),
}  # fmt: skip
#: how wide the 95 % half-width may be, as a part of the theory's value
NARROW, WIDE = 0.05, 0.15


class Rule(StrEnum):
    EQUAL = "="
    GREATER = ">"
    LESS = "<"
    WITHIN = "within"


@dataclass(frozen=True, slots=True)
class Expected:
    """A figure of a row by name, and what it must be. `width`: the largest half-width relative to the theory
    (equal), or the largest distance from it in any replication (within).
    """

    figure: str
    theory: float
    rule: Rule = Rule.EQUAL
    width: float = NARROW


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came out. `half_width` is the 95 % one; `distance` is in standard errors; `why` is empty if passed."""

    expected: Expected
    mean: float
    half_width: float
    distance: float
    why: str

    @property
    def passed(self) -> bool:
        return not self.why

    def as_data(self) -> dict[str, Any]:
        return {
            "figure": self.expected.figure, "rule": self.expected.rule.value, "theory": self.expected.theory,
            "mean": self.mean, "half_width": self.half_width, "distance_se": self.distance,
            "passed": self.passed, "why": self.why,
        }  # fmt: skip


def students_t(freedom: int) -> tuple[float, float]:
    """Two-sided t of 95 % and 99.9 %. Between the table's lines the more cautious one is taken."""
    known = [f for f in _STUDENT if f <= freedom]
    if not known:
        raise ValueError(f"at least {min(_STUDENT) + 1} replications are needed")
    return _STUDENT[max(known)]


def judge(expected: Expected, values: Sequence[float]) -> Verdict:
    """One value per replication. Raises ValueError with too few of them."""
    n = len(values)
    t95, t999 = students_t(n - 1)
    mean = math.fsum(values) / n
    error = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1) / n)
    gap = mean - expected.theory
    half = t95 * error
    distance = gap / error if error > 0 else math.copysign(math.inf, gap) if gap else 0.0
    why = ""
    match expected.rule:
        case Rule.EQUAL:
            if abs(gap) > t999 * error:
                why = f"{abs(distance):.1f} standard errors away, allowed are {t999:.2f}"
            elif half >= expected.width * abs(expected.theory):
                why = f"too uncertain: half-width {_of(half, expected.theory)}, allowed {expected.width:.0%}"
        case Rule.GREATER:
            if gap <= t999 * error:
                why = "not greater by more than chance"
        case Rule.LESS:
            if -gap <= t999 * error:
                why = "not less by more than chance"
        case Rule.WITHIN:
            worst = max(abs(v - expected.theory) for v in values)
            if worst > expected.width:
                why = f"a replication is {worst:.4g} away, allowed {expected.width:.4g}"
    return Verdict(expected, mean, half, distance, why)


def _of(half: float, theory: float) -> str:
    return f"{half / abs(theory):.1%}" if theory else f"{half:.4g}"
