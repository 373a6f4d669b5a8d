"""When a simulated figure agrees with a theoretical one: independent replications, mean and standard error.

Equal: |mean - theory| <= t(99.9 %) * SE, and the half-width t(95 %) * SE is a small part of the theory's value; the
second condition stops a comparison from passing by noise. Greater, less: by more than chance explains. Within: the
plain mean is no further from it than the bound.

The mean is a controlled one where a replication brings control variates: quantities drawn with it whose expectation
is known, as its mean time between arrivals. What they explain of a replication's luck is taken out by regression, which
costs a degree of freedom each and leaves the estimate honest. Lavenberg, Welch, "A perspective on the use of control
variables to increase the efficiency of Monte Carlo simulations", Management Science 27 (3), 1981.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

#: two-sided quantiles of Student's t by degrees of freedom: (95 %, 99.9 %)
_STUDENT = {
    4: (2.776, 8.610), 5: (2.571, 6.869), 7: (2.365, 5.408), 9: (2.262, 4.781), 11: (2.201, 4.437),
    14: (2.145, 4.140), 16: (2.120, 4.015), 17: (2.110, 3.965), 18: (2.101, 3.922), 19: (2.093, 3.883),
    24: (2.064, 3.745), 29: (2.045, 3.659), 39: (2.023, 3.558), 59: (2.000, 3.460), 99: (1.984, 3.392),
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
    (equal), or the largest distance from it (within).
    """

    figure: str
    theory: float
    rule: Rule = Rule.EQUAL
    width: float = NARROW


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came out. `half_width` is the 95 % one; `distance` is in standard errors; `why` is empty if passed.

    `plain`: the mean without control variates. `uncertain`: it does not differ, but more has to be drawn to say so.
    """

    expected: Expected
    mean: float
    plain: float
    half_width: float
    distance: float
    why: str
    uncertain: bool = False

    @property
    def passed(self) -> bool:
        return not self.why

    def as_data(self) -> dict[str, Any]:
        return {
            "figure": self.expected.figure, "rule": self.expected.rule.value, "theory": self.expected.theory,
            "mean": self.mean, "plain_mean": self.plain, "half_width": self.half_width, "distance_se": self.distance,
            "passed": self.passed, "why": self.why,
        }  # fmt: skip


def students_t(freedom: int) -> tuple[float, float]:
    """Two-sided t of 95 % and 99.9 %. Between the table's lines the more cautious one is taken."""
    known = [f for f in _STUDENT if f <= freedom]
    if not known:
        raise ValueError(f"at least {min(_STUDENT) + 1} replications are needed")
    return _STUDENT[max(known)]


def judge(expected: Expected, values: Sequence[float], controls: Sequence[Sequence[float]] = ()) -> Verdict:
    """One value per replication, and as many of each control, less its expectation.

    Raises:
        ValueError: too few replications.
    """
    plain = math.fsum(values) / len(values)
    mean, error = controlled_mean(values, controls)
    t95, t999 = students_t(len(values) - 1 - len(controls))
    gap = mean - expected.theory
    half = t95 * error
    distance = gap / error if error > 0 else math.copysign(math.inf, gap) if gap else 0.0
    why, uncertain = "", False
    match expected.rule:
        case Rule.EQUAL:
            if abs(gap) > t999 * error:
                why = f"{abs(distance):.1f} standard errors away, allowed are {t999:.2f}"
            elif half >= expected.width * abs(expected.theory):
                uncertain = True
                why = f"too uncertain: half-width {_of(half, expected.theory)}, allowed {expected.width:.0%}"
        case Rule.GREATER:
            if gap <= t999 * error:
                why = "not greater by more than chance"
        case Rule.LESS:
            if -gap <= t999 * error:
                why = "not less by more than chance"
        case Rule.WITHIN:
            if abs(plain - expected.theory) > expected.width:
                why = f"{abs(plain - expected.theory):.4g} away, allowed {expected.width:.4g}"
    return Verdict(expected, mean, plain, half, distance, why, uncertain)


def controlled_mean(values: Sequence[float], controls: Sequence[Sequence[float]]) -> tuple[float, float]:
    """The mean as it would be had every control come out as expected (0), and its standard error.

    Least squares of the values on the controls; the error counts the residuals and how far the controls' own means
    are from 0.
    """
    n, k = len(values), len(controls)
    mean = math.fsum(values) / n
    means = [math.fsum(c) / n for c in controls]
    off = [[c[i] - m for i in range(n)] for c, m in zip(controls, means, strict=True)]
    rest = [v - mean for v in values]
    inner = [[math.fsum(map(_times, a, b)) for b in off] for a in off]
    slopes = _solved(inner, [math.fsum(map(_times, a, rest)) for a in off])
    left = [r - math.fsum(s * a[i] for s, a in zip(slopes, off, strict=True)) for i, r in enumerate(rest)]
    spread = math.fsum(r * r for r in left) / (n - 1 - k)
    reach = 1 / n + math.fsum(map(_times, means, _solved(inner, means)))
    estimate = mean - math.fsum(map(_times, slopes, means))
    return estimate, math.sqrt(max(spread * reach, 0.0))


def _solved(matrix: Sequence[Sequence[float]], right: Sequence[float]) -> list[float]:
    """The solution of a small symmetric system, by Gauss with pivots; a control that never varies gets 0."""
    k = len(right)
    rows = [[*line, value] for line, value in zip(matrix, right, strict=True)]
    scale = max((abs(matrix[i][i]) for i in range(k)), default=0.0)
    for i in range(k):
        best = max(range(i, k), key=lambda j: abs(rows[j][i]))
        rows[i], rows[best] = rows[best], rows[i]
        if abs(rows[i][i]) <= 1e-12 * scale:
            rows[i] = [0.0] * (k + 1)
            rows[i][i] = 1.0
            continue
        for j in range(k):
            if j != i and rows[j][i]:
                factor = rows[j][i] / rows[i][i]
                rows[j] = [a - factor * b for a, b in zip(rows[j], rows[i], strict=True)]
    return [rows[i][k] / rows[i][i] for i in range(k)]


def _times(a: float, b: float) -> float:
    return a * b


def _of(half: float, theory: float) -> str:
    return f"{half / abs(theory):.1%}" if theory else f"{half:.4g}"
