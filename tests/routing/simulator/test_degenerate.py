"""D1-D8 by the acceptance rule, with fixed seeds, at sizes that just meet its half-width; the whole procedure is
`switchboard simulate degenerate`.
"""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import pytest

from routing.erlang import erlang_c
from routing.simulator import run
from routing.simulator.acceptance import Expected, Rule, controlled_mean, judge, students_t
from routing.simulator.degenerate import examine, in_order_of_arrival, play, rows

#: arrivals of a replication, so that the slowest figure of the row is narrow enough
SIZES = {
    "D2b": 4_000,
    "D2c": 4_000,
    "D3": 3_000,
    "D4": 6_000,
    "D5a": 5_000,
    "D5b": 5_000,
    "D6b": 2_000,
    "D8": 4_000,
}


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2) as pool:
        yield pool.map


@pytest.mark.parametrize("row_id", SIZES)
def test_a_plain_setting_gives_what_mathematics_says(row_id, processes) -> None:
    (outcome,) = examine([row_id], 11, arrivals=SIZES[row_id], warmup=SIZES[row_id] // 5, mapper=processes)
    assert outcome.passed, [(v.expected.figure, v.mean, v.why) for v in outcome.verdicts if not v.passed]


@pytest.mark.parametrize("row_id", ["D1a", "D1b", "D1c", "D6c"])
def test_equal_targets_are_served_in_order_of_arrival_to_the_millisecond(row_id) -> None:
    """Path by path the waits of D1 are those of the recursion for a queue of n servers."""
    row = rows()[row_id]
    scenario = replace(row.scenario, max_arrivals=4_000, warmup_arrivals=500)
    result = run(scenario, 3)
    wait_s, level = in_order_of_arrival(scenario, 3, len(scenario.agents))
    assert result.measures().asa_s == pytest.approx(wait_s, rel=1e-12)
    assert result.measures().service.abandons_ignored == pytest.approx(100 * level, rel=1e-12)


def test_the_recursion_itself_is_erlang_c(processes) -> None:
    """So D1 holds for the engine, which walks the same paths: by the same rule, at a size that the engine has in
    the command only.
    """
    row = rows()["D1a"]
    scenario = replace(row.scenario, max_arrivals=55_000, warmup_arrivals=5_000)
    waits, levels = zip(*(in_order_of_arrival(scenario, 700 + i, 14) for i in range(20)), strict=True)
    theory = erlang_c(10, 14, 180)
    assert judge(Expected("ASA", theory.asa_s, width=0.08), waits).passed
    assert judge(Expected("SL", theory.service_level), levels).passed


def test_the_rows_tell_a_wrong_engine(monkeypatch) -> None:
    """An agent who stays busy a tenth longer than he handles is seen by the row of overload within few arrivals."""
    honest = play

    def slow(task):
        return {k: v * 1.1 if k == "occupancy" else v for k, v in honest(task).items()}

    monkeypatch.setattr("routing.simulator.degenerate.play", slow)
    (outcome,) = examine(["D3"], 5, replications=8, arrivals=1_500, warmup=200)
    assert [v.expected.figure for v in outcome.verdicts if not v.passed] == ["occupancy"]


def test_a_comparison_does_not_pass_by_noise() -> None:
    wild = [1.0, 19.0, 3.0, 17.0, 10.0, 12.0, 8.0, 9.0]
    verdict = judge(Expected("x", 10.0), wild)
    assert not verdict.passed
    assert "too uncertain" in verdict.why


def test_a_comparison_fails_where_the_mean_is_off() -> None:
    values = [10.0 + 0.01 * i for i in range(10)]
    assert "standard errors away" in judge(Expected("x", 10.2), values).why
    assert judge(Expected("x", 10.045), values).passed
    assert judge(Expected("x", 10.2, Rule.LESS), values).passed
    assert not judge(Expected("x", 10.2, Rule.GREATER), values).passed
    assert not judge(Expected("x", 10.2, Rule.WITHIN, 0.1), values).passed
    with pytest.raises(ValueError, match="replications"):
        students_t(2)


def test_known_luck_is_taken_out_of_the_mean() -> None:
    """Values that are their control and a little: the mean without its luck is near, its error small."""
    luck = [0.3, -0.1, 0.5, 0.2, -0.2, 0.6, 0.1, 0.4]
    rest = [0.01, -0.01, 0.0, 0.01, -0.01, 0.0, 0.01, -0.01]
    values = [5 + 2 * a + b for a, b in zip(luck, rest, strict=True)]
    mean, error = controlled_mean(values, [luck])
    plain, plain_error = controlled_mean(values, [])
    assert mean == pytest.approx(5.0, abs=0.02)
    assert plain == pytest.approx(5.45, abs=0.01)
    assert error < plain_error / 10
    # A control that never varies, or repeats another, is left out.
    assert controlled_mean(values, [luck, [0.0] * 8])[0] == pytest.approx(mean)
    assert controlled_mean(values, [luck, luck])[0] == pytest.approx(mean)


def test_what_is_only_uncertain_is_played_on_and_what_differs_is_not() -> None:
    row = rows()["D3"]

    def drawn(off: float):
        """Replications without the engine: every second too high, every second too low, as far as said."""
        return lambda _, tasks: iter(
            [
                {e.figure: e.theory * (1 + off + (0.2 if i % 2 else -0.2)) for e in row.expected}
                for i, _ in enumerate(tasks)
            ]
        )

    (outcome,) = examine(["D3"], 1, mapper=drawn(0.0))
    assert (outcome.passed, outcome.replications) == (True, 80)
    (outcome,) = examine(["D3"], 1, mapper=drawn(0.5))
    assert (outcome.passed, outcome.replications) == (False, 20)
