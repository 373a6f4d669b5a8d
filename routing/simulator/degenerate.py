"""Settings so plain that mathematics knows the answer: rows D1 to D8 (docs/simulation.md).

The engine is the product's; only its settings are degenerate: one channel, one place per agent, no rings, no
wrap-up, outright assignment as the instant accept. Whatever the routing does wrong to order, waiting or capacity
shows here as a wrong figure.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heapreplace
from typing import Any

from crm_core.clock import DAY, HOUR, SECOND
from routing import erlang
from routing.model import Channel, Requirements
from routing.settings import DEFAULT_CHANNELS, BroadcastSettings, ChannelSettings, StepSettings, TeamSettings
from routing.simulator import (
    Kind,
    Result,
    Scenario,
    ScenarioAgent,
    ScenarioTeam,
    Stream,
    Target,
    exponential,
    run,
)
from routing.simulator.acceptance import NARROW, WIDE, Expected, Rule, Verdict, judge
from routing.simulator.traffic import arrivals_of

REPLICATIONS, ARRIVALS, WARMUP = 20, 55_000, 5_000
#: times that number, for a row that stays too uncertain
MOST = 5
THRESHOLD_S = 20
RING_S = 20
ACCEPT = 0.9
_REQUIRED = (StepSettings(scope="required"),)
_ENDLESS = 366 * DAY
_CONTROLS = ("~ between arrivals", "~ handling", "~ wait in order of arrival")
_BESIDE = "SL 20 s less pooled, same contacts"

Figures = Mapping[str, float]
Mapper = Callable[[Callable[["Task"], Figures], Iterable["Task"]], Iterator[Figures]]
"""Like the built-in `map`; a process pool's works too."""


@dataclass(frozen=True, slots=True)
class Row:
    """One setting. `scenario` is without its length; `figures` reads what `expected` names off a result.

    `per_hour`, `aht_s`: what all its streams draw, known exactly, hence control variates. `fifo`: servers of the
    same contacts served in order of arrival, whose mean wait is known too.
    """

    id: str
    title: str
    scenario: Scenario
    expected: tuple[Expected, ...]
    figures: Callable[[Result], dict[str, float]]
    per_hour: float
    aht_s: float
    fifo: int | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """One replication of one row; small enough to be sent to another process."""

    row: str
    seed: int
    arrivals: int
    warmup: int


@dataclass(frozen=True, slots=True)
class RowOutcome:
    row: Row
    verdicts: tuple[Verdict, ...]
    replications: int
    arrivals: int

    @property
    def passed(self) -> bool:
        return all(v.passed for v in self.verdicts)

    def as_data(self) -> dict[str, Any]:
        return {
            "row": self.row.id, "title": self.row.title, "replications": self.replications,
            "arrivals": self.arrivals, "passed": self.passed,
            "figures": [v.as_data() for v in self.verdicts],
        }  # fmt: skip


def rows() -> dict[str, Row]:
    """All rows by id, in order."""
    return {row.id: row for row in _all()}


def play(task: Task) -> Figures:
    """One replication."""
    row = rows()[task.row]
    scenario = replace(row.scenario, max_arrivals=task.arrivals, warmup_arrivals=task.warmup)
    result = run(scenario, task.seed)
    return {**row.figures(result), **_drawn(row, scenario, result, task.seed)}


def _drawn(row: Row, scenario: Scenario, result: Result, seed: int) -> dict[str, float]:
    """What was drawn, less its expectation, and how its contacts fare in the order of their arrival."""
    measures = result.measures()
    came = measures.offered + measures.blocked
    gap_s = (result.window[1] - result.window[0]) / SECOND / (came - 1)
    found = {
        _CONTROLS[0]: gap_s * row.per_hour / 3600 - 1,
        _CONTROLS[1]: _some(measures.aht_s) / row.aht_s - 1,
    }
    if row.fifo is not None:
        theory = erlang.erlang_c(row.per_hour * row.aht_s / 3600, row.fifo, row.aht_s).asa_s
        wait_s, level = in_order_of_arrival(scenario, seed, row.fifo)
        found[_CONTROLS[2]] = wait_s / theory - 1
        found[_BESIDE] = _some(measures.service.abandons_ignored) / 100 - level
    return found


def in_order_of_arrival(scenario: Scenario, seed: int, servers: int) -> tuple[float, float]:
    """Mean wait in seconds and service level of a run's counted contacts, if `servers` took all in order of arrival.

    The recursion of Kiefer and Wolfowitz, 1955: each goes to the server who is free first. It knows nothing of the
    engine, which must give the very same waits where it is told to serve in order of arrival.
    """
    free = [0] * servers
    total = n = within = 0
    for i, arrival in enumerate(arrivals_of(scenario, seed)):
        start = max(arrival.at, free[0])
        heapreplace(free, start + arrival.handle_ms)
        if i >= scenario.warmup_arrivals:
            total += start - arrival.at
            within += start - arrival.at <= THRESHOLD_S * SECOND
            n += 1
    return total / n / SECOND, within / n


def examine(
    row_ids: Sequence[str], seed: int, *, replications: int = REPLICATIONS, arrivals: int = ARRIVALS,
    warmup: int = WARMUP, sizes: Mapping[str, int] | None = None, mapper: Mapper = map,
) -> Iterator[RowOutcome]:  # fmt: skip
    """Play these rows and judge them, one after the other. `sizes`: other numbers of arrivals for single rows.

    Luck decides how much a sample tells: a row that is only too uncertain yet is played on, up to `MOST` times as long.
    One that differs is not.

    Raises:
        KeyError: no such row. ValueError: too few replications.
    """
    known = rows()
    for row_id in row_ids:
        row = known[row_id]
        n = (sizes or {}).get(row_id, arrivals)
        values: list[Figures] = []
        while True:
            tasks = [Task(row_id, seed * 1_000_003 + len(values) + i, n, warmup) for i in range(replications)]
            values += mapper(play, tasks)
            controls = [[v[c] for v in values] for c in _CONTROLS if c in values[0]]
            verdicts = tuple(judge(e, [v[e.figure] for v in values], controls) for e in row.expected)
            missing = [v for v in verdicts if not v.passed]
            if not missing or len(values) >= MOST * replications or not all(v.uncertain for v in missing):
                break
        yield RowOutcome(row, verdicts, len(values), n)


# --- the rows
def _all() -> Iterator[Row]:
    for letter, rate, aht, n in (("a", 200, 180, 14), ("b", 300, 240, 24), ("c", 1200, 300, 110)):
        yield _erlang_c(
            f"D1{letter}", f"Erlang C {rate}/h, {aht} s, n={n}", _plain(rate, aht, n), rate, aht, n
        )
    for letter, rate, aht, patience, n in (
        ("a", 200, 180, 300, 14), ("b", 200, 180, 180, 10), ("c", 200, 180, 180, 9), ("d", 2880, 60, 120, 50),
    ):  # fmt: skip
        yield _erlang_a(f"D2{letter}", rate, aht, patience, n)
    yield _erlang_b("D3", 200, 180, 12)
    yield _two_classes("D4", 60, 140, 180, 12)
    yield _conserved("D5a", "any boosts", 1.0)
    yield _conserved("D5b", "any boosts, late_share 0.5", 0.5)
    yield from _pooling()
    yield _offer_loss("D8", 200, 180, 14)


def _channel(**changes: Any) -> dict[str, ChannelSettings]:
    voice = replace(
        DEFAULT_CHANNELS[Channel.VOICE], mode="assign", wrapup_ms=0, boosts={}, vip_boost_ms=0
    )  # fmt: skip
    return {**DEFAULT_CHANNELS, Channel.VOICE: replace(voice, **changes)}


def _team(settings: TeamSettings, **more: Any) -> ScenarioTeam:
    return ScenarioTeam(
        id=1,
        name="calls",
        settings=settings,
        targets={Channel.VOICE: Target(within_ms=THRESHOLD_S * SECOND)},
        **more,
    )


def _agents(n: int, *, first: int = 1, **more: Any) -> tuple[ScenarioAgent, ...]:
    return tuple(ScenarioAgent(id=first + i, teams=frozenset({1}), **more) for i in range(n))


def _calls(rate: float, aht_s: int, name: str = "calls", **more: Any) -> Stream:
    return Stream(
        name=name, team_id=1, channel=Channel.VOICE, per_hour=rate, handle=exponential(aht_s * SECOND), **more
    )


def _plain(rate: float, aht_s: int, n: int, **more: Any) -> Scenario:
    settings = TeamSettings(channels=_channel(), steps=_REQUIRED)
    return Scenario(teams=(_team(settings),), agents=_agents(n), streams=(_calls(rate, aht_s, **more),))


def _little(result: Result) -> float:
    """Mean queue over arrival rate times mean wait; 1 by Little's law. The rate is the one that came."""
    measures = result.measures()
    came = measures.offered / (result.window[1] - result.window[0]) * SECOND
    expected = came * _some(measures.wait_all_s)
    # With next to no queue there is nothing to compare.
    return measures.mean_queue / expected if expected > 0 else 1.0


_LITTLE = Expected("Little L/(lW)", 1.0, Rule.WITHIN, 0.01)


def _erlang_c(
    row_id: str, title: str, scenario: Scenario, rate: float, aht_s: int, n: int, *, order_free: bool = False
) -> Row:
    theory = erlang.erlang_c(rate * aht_s / 3600, n, aht_s, THRESHOLD_S)
    wide = WIDE if theory.occupancy > 0.9 else NARROW
    expected = [
        Expected("P(wait)", theory.p_wait),
        Expected("ASA s", theory.asa_s, width=wide),
        Expected("occupancy", theory.occupancy),
        Expected("queue", theory.mean_queue, width=wide),
        _LITTLE,
    ]
    if not order_free:  # another order leaves the means, not the distribution
        expected.insert(2, Expected("SL 20 s", theory.service_level))

    def figures(result: Result) -> dict[str, float]:
        m = result.measures()
        return {
            "P(wait)": _some(m.p_wait), "ASA s": _some(m.asa_s),
            "SL 20 s": _some(m.service.abandons_ignored) / 100, "occupancy": _some(result.occupancy()),
            "queue": m.mean_queue, _LITTLE.figure: _little(result),
        }  # fmt: skip

    return Row(row_id, title, scenario, tuple(expected), figures, rate, aht_s, n if order_free else None)


def _erlang_a(row_id: str, rate: float, aht_s: int, patience_s: int, n: int) -> Row:
    theory = erlang.erlang_a(rate, aht_s, patience_s, n, THRESHOLD_S)

    def figures(result: Result) -> dict[str, float]:
        m = result.measures()
        came = m.offered / (result.window[1] - result.window[0]) * SECOND
        return {
            "P(wait)": _some(m.p_wait), "P(abandon)": _some(m.p_abandon), "wait of all s": _some(m.wait_all_s),
            "ASA s": _some(m.asa_s), "SL 20 s of offered": _some(m.service.abandons_negative) / 100,
            "SL 20 s, short ones ignored": _some(m.service.abandons_ignored) / 100,
            "occupancy": _some(result.occupancy()), "queue": m.mean_queue, _LITTLE.figure: _little(result),
            "P(ab)*l*patience/L": _some(m.p_abandon) * came * patience_s / m.mean_queue,
        }  # fmt: skip

    expected = (
        Expected("P(wait)", theory.p_wait),
        Expected("P(abandon)", theory.p_abandon),
        Expected("wait of all s", theory.mean_wait_all_s),
        Expected("ASA s", theory.asa_answered_s, width=WIDE if theory.occupancy > 0.9 else NARROW),
        Expected("SL 20 s of offered", theory.sl_offered),
        Expected("SL 20 s, short ones ignored", theory.sl_excl_short_abandons),
        Expected("occupancy", theory.occupancy),
        Expected("queue", theory.lq),
        _LITTLE,
        Expected("P(ab)*l*patience/L", 1.0),
    )
    scenario = _plain(rate, aht_s, n, patience=exponential(patience_s * SECOND))
    title = f"Erlang A {rate}/h, {aht_s} s, patience {patience_s} s, n={n}"
    return Row(row_id, title, scenario, expected, figures, rate, aht_s)


def _erlang_b(row_id: str, rate: float, aht_s: int, n: int) -> Row:
    theory = erlang.erlang_b(rate * aht_s / 3600, n)
    settings = TeamSettings(channels=_channel(), steps=_REQUIRED)
    scenario = Scenario(
        teams=(_team(settings, queue_limit={Channel.VOICE: 0}),),
        agents=_agents(n), streams=(_calls(rate, aht_s),),
    )  # fmt: skip

    def figures(result: Result) -> dict[str, float]:
        return {
            "blocking": _some(result.measures().p_block), "occupancy": _some(result.occupancy()),
            "queue": result.measures().mean_queue,
        }  # fmt: skip

    expected = (
        Expected("blocking", theory.blocking),
        Expected("occupancy", theory.occupancy),
        Expected("queue", 0.0, Rule.WITHIN, 0.0),
    )
    return Row(row_id, f"Erlang B {rate}/h, {aht_s} s, n={n}", scenario, expected, figures, rate, aht_s)


def _two_classes(row_id: str, high: float, low: float, aht_s: int, n: int) -> Row:
    theory = erlang.erlang_c_priorities([high, low], aht_s, n)
    boosts = _channel(boosts={"urgent": _ENDLESS})
    whole = high + low
    stream = _calls(
        whole, aht_s,
        mix=(Kind(share=high / whole, label="high", priority="urgent"), Kind(share=low / whole, label="low")),
    )  # fmt: skip
    scenario = Scenario(
        teams=(_team(TeamSettings(channels=boosts, steps=_REQUIRED)),), agents=_agents(n), streams=(stream,)
    )

    def figures(result: Result) -> dict[str, float]:
        return {
            "wait of high s": _some(result.measures(label="high").asa_s),
            "wait of low s": _some(result.measures(label="low").asa_s),
            "wait of both s": _some(result.measures().asa_s),
            "P(wait)": _some(result.measures().p_wait),
            _LITTLE.figure: _little(result),
        }

    expected = (
        Expected("wait of high s", theory.mean_wait_s[0]),
        Expected("wait of low s", theory.mean_wait_s[1]),
        Expected("wait of both s", theory.mean_wait_all_s),
        Expected("P(wait)", theory.p_wait),
        _LITTLE,
    )
    return Row(
        row_id, f"priorities {high}+{low}/h, {aht_s} s, n={n}", scenario, expected, figures, whole, aht_s, n
    )


def _conserved(row_id: str, title: str, late_share: float) -> Row:
    rate, aht_s, n = 200, 180, 12
    channels = _channel(
        boosts={"urgent": 120 * SECOND, "high": 30 * SECOND, "low": -60 * SECOND},
        vip_boost_ms=120 * SECOND, max_wait_ms=30 * SECOND,
    )  # fmt: skip
    settings = TeamSettings(channels=channels, steps=_REQUIRED, late_share=late_share, max_overdue_ms=HOUR)
    shares = {"urgent": 0.1, "high": 0.2, "normal": 0.5, "low": 0.2}
    mix = tuple(Kind(share=share, label=name, priority=name) for name, share in shares.items())
    scenario = Scenario(
        teams=(_team(settings),), agents=_agents(n), streams=(_calls(rate, aht_s, mix=mix, vip=0.05),)
    )
    return _erlang_c(row_id, f"conservation, {title}", scenario, rate, aht_s, n, order_free=True)


def _pooling() -> Iterator[Row]:
    rate, aht_s, n = 80, 180, 5
    alone = erlang.erlang_c(rate * aht_s / 3600, n, aht_s, THRESHOLD_S)
    pooled = erlang.erlang_c(2 * rate * aht_s / 3600, 2 * n, aht_s, THRESHOLD_S)

    def scenario(steps: tuple[StepSettings, ...], other: Mapping[str, int]) -> Scenario:
        """Two kinds of calls, two groups; each knows its own kind at level 2 and the other as `other` says."""
        kinds = ("a", "b")
        agents = [
            ScenarioAgent(
                id=100 * i + k + 1, teams=frozenset({1}), skills={**other, f"product:{kind}": 2},
            )
            for i, kind in enumerate(kinds)
            for k in range(n)
        ]  # fmt: skip
        settings = TeamSettings(channels=_channel(), steps=steps)
        streams = tuple(
            _calls(
                rate,
                aht_s,
                kind,
                mix=(Kind(label=kind, requirements=Requirements(required={f"product:{kind}": 2})),),
            )
            for kind in kinds
        )
        return Scenario(teams=(_team(settings),), agents=tuple(agents), streams=streams)

    both = {"product:a": 1, "product:b": 1}
    all_trained = {"product:a": 2, "product:b": 2}
    yield replace(
        _erlang_c("D6a", "two skills, dedicated", scenario(_REQUIRED, {}), rate, aht_s, n),
        per_hour=2 * rate,
        expected=(
            Expected("P(wait)", alone.p_wait), Expected("ASA s", alone.asa_s),
            Expected("SL 20 s", alone.service_level), Expected("occupancy", alone.occupancy), _LITTLE,
        ),
    )  # fmt: skip
    # Against the pooled service level itself the difference is small; on the very same contacts it is plain.
    bullseye = (StepSettings(scope="required"), StepSettings(scope="relaxed", at=10 * SECOND))
    yield replace(
        _erlang_c("D6b", "two skills, bullseye after 10 s", scenario(bullseye, both), 2 * rate, aht_s, 2 * n),
        fifo=2 * n,
        expected=(
            Expected("SL 20 s", alone.service_level, Rule.GREATER),
            Expected(_BESIDE, 0.0, Rule.LESS),
            Expected("occupancy", pooled.occupancy),
            _LITTLE,
        ),
    )
    yield _erlang_c(
        "D6c", "two skills, all cross-trained", scenario(_REQUIRED, all_trained), 2 * rate, aht_s, 2 * n
    )


def _offer_loss(row_id: str, rate: float, aht_s: int, n: int) -> Row:
    plain = erlang.erlang_c(rate * aht_s / 3600, n, aht_s, THRESHOLD_S)
    misses = (1 - ACCEPT) / ACCEPT  # per call, geometric
    settings = TeamSettings(
        channels=_channel(mode="offer", timeout_ms=RING_S * SECOND), steps=_REQUIRED, misses_to_break=10**9,
        broadcast=BroadcastSettings(when="never"),
        exclude_ms=60 * SECOND,
    )  # fmt: skip
    scenario = Scenario(
        teams=(_team(settings),), agents=_agents(n, accept=ACCEPT), streams=(_calls(rate, aht_s),)
    )

    def figures(result: Result) -> dict[str, float]:
        m = result.measures()
        return {
            "ASA s": _some(m.asa_s),
            "offers per assignment": _some(m.offers_per_assignment),
            "held, talk and ring": _some(result.occupancy()),
            "over the maximum": float(sum(a.over_limit for a in result.agents.values())),
            "not served": float(m.offered - m.answered),
            _LITTLE.figure: _little(result),
        }

    expected = (
        Expected("ASA s", plain.asa_s, Rule.GREATER),
        Expected("ASA s", misses * RING_S, Rule.GREATER),
        Expected("offers per assignment", 1 / ACCEPT),
        # Every miss holds a place for the ring time, every call for its handling, and nothing else does.
        Expected("held, talk and ring", rate / 3600 * (aht_s + misses * RING_S) / n),
        Expected("over the maximum", 0.0, Rule.WITHIN, 0.0),
        Expected("not served", 0.0, Rule.WITHIN, 0.0),
        _LITTLE,
    )
    title = f"offer loss: {ACCEPT:.0%} accepted, {RING_S} s ring, n={n}"
    return Row(row_id, title, scenario, expected, figures, rate, aht_s, n)


def _some(value: float | None) -> float:
    return float("nan") if value is None else value
