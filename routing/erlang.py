"""Queueing formulas: Erlang B, C, C with two or more priorities, A, and staffing by them.

Owns mathematics only, no scheduling or data. Loads are in erlangs (arrivals per second x handle time in
seconds), times in seconds, probabilities between 0 and 1. Every formula is a recurrence or a series of
positive terms, so that thousands of servers neither overflow nor cancel.
Sources: Cooper, Introduction to
Queueing Theory (B, C, priorities by Cobham); Garnett, Mandelbaum, Reiman, "Designing a call center with
impatient customers", 2002 (A, also called Palm's M/M/n+M).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: More servers than any one queue has; a guard against absurd requests, not a limit of the method.
MAX_SERVERS = 1_000_000
_MAX_TERMS = 20_000_000
_LARGE = 1e200
#: Nodes and weights of 8-point Gauss-Legendre quadrature on [-1, 1]. https://dlmf.nist.gov/3.5#v
_GAUSS = (
    (0.18343464249564980, 0.36268378337836198),
    (0.52553240991632899, 0.31370664587788729),
    (0.79666647741362674, 0.22238103445337447),
    (0.96028985649753623, 0.10122853629037626),
)


@dataclass(frozen=True, slots=True)
class ErlangB:
    """No queue: a contact that finds all servers busy is lost."""

    blocking: float
    carried_erlangs: float
    occupancy: float


@dataclass(frozen=True, slots=True)
class ErlangC:
    """Endless patience. `stable` is false when the load is not below the servers: the queue only grows."""

    stable: bool
    p_wait: float
    asa_s: float
    service_level: float
    occupancy: float
    mean_queue: float


@dataclass(frozen=True, slots=True)
class ErlangA:
    """Exponential patience. `sl_offered` counts answers within the threshold over all offered contacts,
    `sl_excl_short_abandons` over those not abandoned before it.
    """

    p_wait: float
    p_abandon: float
    lq: float
    mean_wait_all_s: float
    asa_answered_s: float
    occupancy: float
    sl_offered: float
    sl_excl_short_abandons: float
    p_abandon_within_t: float


@dataclass(frozen=True, slots=True)
class PriorityWaits:
    """Non-preemptive priorities, first class first served; mean waits in the order of the classes."""

    p_wait: float
    mean_wait_s: tuple[float, ...]
    mean_wait_all_s: float


@dataclass(frozen=True, slots=True)
class Staffing:
    servers: int
    service_level: float
    service_level_one_less: float


def erlang_b(offered: float, servers: int) -> ErlangB:
    """Loss probability of `servers` without a queue. Raises ValueError."""
    _not_negative(offered_erlangs=offered)
    _servers(servers, least=0)
    blocking = 1 / _inverse_blocking(offered, servers)
    carried = offered * (1 - blocking)
    return ErlangB(blocking, carried, carried / servers if servers else 0.0)


def erlang_c(offered: float, servers: int, aht_s: float, threshold_s: float = 20.0) -> ErlangC:
    """Waiting with endless patience. Raises ValueError."""
    _positive(aht_s=aht_s)
    _not_negative(offered_erlangs=offered, threshold_s=threshold_s)
    _servers(servers)
    if offered >= servers:
        return ErlangC(False, 1.0, math.inf, 0.0, 1.0, math.inf)
    blocking = 1 / _inverse_blocking(offered, servers)
    p_wait = blocking / (1 - offered / servers * (1 - blocking))
    spare = servers - offered
    level = 1 - p_wait * math.exp(-spare * threshold_s / aht_s)
    return ErlangC(True, p_wait, p_wait * aht_s / spare, level, offered / servers, p_wait * offered / spare)


def erlang_c_priorities(calls_per_hour: Sequence[float], aht_s: float, servers: int) -> PriorityWaits:
    """Cobham's formula: one handle time, classes in order of priority, no interruption. Raises ValueError."""
    _positive(aht_s=aht_s)
    if not calls_per_hour:
        raise ValueError("at least one class is needed")
    _not_negative(**{f"calls_per_hour[{i}]": rate for i, rate in enumerate(calls_per_hour)})
    loads = [rate / 3600 * aht_s for rate in calls_per_hour]
    whole = erlang_c(sum(loads), servers, aht_s)
    waits, served = [], 0.0
    base = whole.p_wait * aht_s / servers
    for load in loads:
        before, served = served, served + load
        room = (1 - before / servers) * (1 - served / servers)
        waits.append(base / room if before < servers and served < servers else math.inf)
    return PriorityWaits(whole.p_wait, tuple(waits), whole.asa_s)


def erlang_a(
    calls_per_hour: float, aht_s: float, mean_patience_s: float, servers: int, threshold_s: float = 20.0
) -> ErlangA:
    """Waiting with exponential patience; defined for any load, overload included. Raises ValueError.

    The contact that finds k waiting ahead waits for the sum of k+1 exponential times with the rates
    servers/AHT + i/patience; the distribution of the wait is integrated from its density, which is smooth:
    v(x) = m * P(all busy, none waits) * exp(rate * patience * (1 - exp(-x/patience)) - m * x)
    with m = servers / AHT.
    """
    _positive(aht_s=aht_s, mean_patience_s=mean_patience_s)
    _not_negative(calls_per_hour=calls_per_hour, threshold_s=threshold_s)
    _servers(servers)
    rate, drain, theta = calls_per_hour / 3600, servers / aht_s, 1 / mean_patience_s
    if rate * mean_patience_s > _MAX_TERMS:
        raise ValueError("load and patience are out of any real range")
    inverse = _inverse_blocking(rate * aht_s, servers)
    if math.isinf(inverse):  # so few contacts that the chance to wait is below the smallest number
        return ErlangA(0.0, 0.0, 0.0, 0.0, 0.0, rate * aht_s / servers, 1.0, 1.0, 0.0)
    # Weights of the states "all busy and k wait", relative to k = 0; scaled down together when large.
    weight, log_scale, base = 1.0, 0.0, 1.0
    busy, queue, answered_wait, k = 0.0, 0.0, 0.0, 0
    c = drain / theta
    slowness = 1 / ((c + 1) * theta)
    while True:
        busy += weight
        queue += k * weight
        answered_wait += weight * c / (c + k + 1) * slowness
        if rate < drain + (k + 1) * theta and weight * (k + 1) < 1e-18 * busy:
            break
        k += 1
        slowness += 1 / ((c + 1 + k) * theta)
        weight *= rate / (drain + k * theta)
        if weight > _LARGE:
            weight, base, busy, queue, answered_wait = (
                value / _LARGE for value in (weight, base, busy, queue, answered_wait)
            )
            log_scale += math.log(_LARGE)
    free = base * (inverse - 1)
    total = free + busy
    p_wait, lq = busy / total, queue / total
    p_abandon = theta * queue / (rate * total) if rate else 0.0
    answered, reached = _wait_within(rate, drain, theta, threshold_s, math.log(drain / total) - log_scale)
    left = max(0.0, reached - answered + (p_wait - reached) * -math.expm1(-theta * threshold_s))
    sl_offered = min(1.0, free / total + answered)
    return ErlangA(
        p_wait=p_wait,
        p_abandon=p_abandon,
        lq=lq,
        mean_wait_all_s=lq / rate if rate else 0.0,
        asa_answered_s=answered_wait / total / (1 - p_abandon),
        occupancy=rate * (1 - p_abandon) / drain,
        sl_offered=sl_offered,
        sl_excl_short_abandons=min(1.0, sl_offered / (1 - left)),
        p_abandon_within_t=left,
    )


def staff_erlang_c(offered: float, aht_s: float, threshold_s: float, target: float) -> Staffing:
    """Fewest servers with a service level of at least `target` (0..1). Raises ValueError."""
    _positive(aht_s=aht_s)
    _not_negative(offered_erlangs=offered, threshold_s=threshold_s)
    if not 0 < target < 1:
        raise ValueError(f"target must be between 0 and 1, not {target}")
    low = math.floor(offered) + 1  # the fewest that are stable
    step = 1
    while erlang_c(offered, low + step, aht_s, threshold_s).service_level < target:
        step *= 2
    high = low + step
    while low < high:
        middle = (low + high) // 2
        if erlang_c(offered, middle, aht_s, threshold_s).service_level >= target:
            high = middle
        else:
            low = middle + 1
    less = erlang_c(offered, low - 1, aht_s, threshold_s).service_level if low > 1 else 0.0
    return Staffing(low, erlang_c(offered, low, aht_s, threshold_s).service_level, less)


def _inverse_blocking(offered: float, servers: int) -> float:
    """1/B by the recurrence 1/B(n) = 1 + n/a * 1/B(n-1): positive terms only; infinite when B underflows."""
    if offered == 0:
        return math.inf if servers else 1.0
    inverse = 1.0
    for n in range(1, servers + 1):
        inverse = 1 + inverse * n / offered
        if inverse == math.inf:
            break
    return inverse


def _wait_within(rate: float, drain: float, theta: float, t: float, log_front: float) -> tuple[float, float]:
    """P(answered after a wait of at most t), P(the wait on offer is at most t), both without zero waits.

    Gauss-Legendre on panels short against the density's scale; it is log-concave, its far tail is left out.
    """
    if t == 0:
        return 0.0, 0.0
    panels = max(8, math.ceil(t * max(rate, drain) / 4), math.ceil(t * theta * 4))
    width = t / panels
    answered = reached = 0.0
    peak = -math.inf
    for panel in range(panels):
        middle = (panel + 0.5) * width
        for node, weight in _GAUSS:
            for x in (middle - node * width / 2, middle + node * width / 2):
                log_density = log_front - rate / theta * math.expm1(-theta * x) - drain * x
                peak = max(peak, log_density)
                density = weight * width / 2 * math.exp(log_density)
                reached += density
                answered += density * math.exp(-theta * x)
        if log_density < peak - 60:
            break
    return answered, reached


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a positive number, not {value}")


def _not_negative(**values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be zero or a positive number, not {value}")


def _servers(servers: int, least: int = 1) -> None:
    if not least <= servers <= MAX_SERVERS:
        raise ValueError(f"servers must be between {least} and {MAX_SERVERS}, not {servers}")
