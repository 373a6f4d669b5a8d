"""The arrivals of a scenario in order of time: those written down and those its streams draw.

Every stream has generators of its own for times, kinds, handling and patience, so the same seed gives the same
contacts whatever the engine, its settings or its staff make of them.
"""

from bisect import bisect_right
from collections.abc import Iterator
from heapq import merge
from itertools import accumulate, islice

from crm_core.clock import HOUR, MINUTE
from routing.simulator.laws import stream_random
from routing.simulator.scenario import Arrival, Scenario, ScenarioTeam, Stream

SLICE_MS = 30 * MINUTE


def arrivals_of(scenario: Scenario, seed: int) -> Iterator[Arrival]:
    """All arrivals, by time; at the same instant the written ones first, then the streams in their order."""
    teams = {t.id: t for t in scenario.teams}
    drawn = [
        _drawn(stream, i, scenario, teams[stream.team_id], seed) for i, stream in enumerate(scenario.streams)
    ]
    several = merge(scenario.arrivals, *drawn, key=lambda a: a.at)
    return islice(several, scenario.max_arrivals) if scenario.max_arrivals is not None else several


def _drawn(
    stream: Stream, place: int, scenario: Scenario, team: ScenarioTeam, seed: int
) -> Iterator[Arrival]:
    name = (place, stream.name)
    times = stream_random(seed, *name, "times")
    kinds = stream_random(seed, *name, "kinds")
    handle = stream.handle.sampler(stream_random(seed, *name, "handle"))
    patience = None
    if stream.patience is not None:
        patience = stream.patience.sampler(stream_random(seed, *name, "patience"))
    bounds = list(accumulate(k.share for k in stream.mix))
    whole = bounds[-1]
    plain = len(stream.mix) == 1 and not stream.vip and not stream.managed
    team_id, channel, start, end = stream.team_id, stream.channel, scenario.starts_at, scenario.ends_at
    draw = times.expovariate
    peak = max(stream.profile, default=1.0)
    rate = stream.per_hour * peak / HOUR
    if rate <= 0:
        return
    at = float(start)
    kind = stream.mix[0]
    vip = False
    manager: int | None = None
    while True:
        at += draw(rate)
        if end is not None and at >= end:
            return
        if stream.profile:
            # Thinning: candidates at the highest rate, kept with the present rate's share of it.
            factor = stream.profile[int((at - start) // SLICE_MS) % len(stream.profile)]
            if times.random() * peak >= factor:
                continue
        when = int(at)
        if not plain:
            kind = stream.mix[min(bisect_right(bounds, kinds.random() * whole), len(bounds) - 1)]
            vip = kinds.random() < stream.vip
            managed = kinds.random() < stream.managed
            manager = kinds.choice(stream.managers) if managed and stream.managers else None
        due = None
        if kind.due_ms is not None:
            due = team.calendar.due_first(when, kind.due_ms) if team.calendar else when + kind.due_ms
        yield Arrival(
            at=when, team_id=team_id, channel=channel, handle_ms=handle(), kind=stream.kind,
            label=kind.label, requirements=kind.requirements, priority=kind.priority, vip=vip,
            manager_id=manager, due_at=due, patience_ms=patience() if patience is not None else None,
        )  # fmt: skip
