"""Laws of chance for durations: exponential, lognormal, fixed. Seeded, no clock. Durations are milliseconds."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

LAWS = ("exponential", "lognormal", "fixed")

Sampler = Callable[[], int]
"""Draws the next duration, whole milliseconds."""


@dataclass(frozen=True, slots=True)
class Law:
    """A duration with a mean. `cv`: standard deviation of the mean, for the lognormal law only."""

    law: str
    mean_ms: int
    cv: float = 1.0

    def sampler(self, random: Random) -> Sampler:
        """Draws from this law by `random`."""
        if self.law == "exponential":
            mean = float(self.mean_ms)
            draw = random.expovariate
            return lambda: int(draw(1.0) * mean + 0.5)
        if self.law == "lognormal":
            # Mean m and deviation cv*m of exp(N(mu, s2)): s2 = ln(1 + cv^2), mu = ln m - s2 / 2.
            variance = math.log1p(self.cv * self.cv)
            mu, sigma = math.log(self.mean_ms) - variance / 2, math.sqrt(variance)
            return lambda: int(random.lognormvariate(mu, sigma) + 0.5)
        fixed = self.mean_ms
        return lambda: fixed


def exponential(mean_ms: int) -> Law:
    return Law("exponential", mean_ms)


def lognormal(mean_ms: int, cv: float) -> Law:
    return Law("lognormal", mean_ms, cv)


def fixed(ms: int) -> Law:
    return Law("fixed", ms)


def stream_random(seed: int, *names: object) -> Random:
    """A generator of its own for each thing that draws: who adds a stream changes none of the others.

    The same seed and names give the same numbers in every process (text seeds are hashed by SHA-512).
    """
    return Random(":".join(str(n) for n in (seed, *names)))
