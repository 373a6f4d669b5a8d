import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.erlang import erlang_a, erlang_b, erlang_c, erlang_c_priorities, staff_erlang_c


def test_erlang_b_agrees_with_its_definition() -> None:
    for a, n in ((0.5, 1), (3.0, 5), (20.0, 30)):
        terms = [a**k / math.factorial(k) for k in range(n + 1)]
        assert erlang_b(a, n).blocking == pytest.approx(terms[-1] / sum(terms), rel=1e-12)
    assert erlang_b(2.0, 0).blocking == 1.0
    assert erlang_b(0.0, 3).blocking == 0.0


def test_large_systems_neither_overflow_nor_vanish() -> None:
    assert 0 < erlang_b(10_000.0, 10_000).blocking < 0.01
    assert erlang_b(1.0, 5_000).blocking == 0.0
    assert erlang_c(9_999.0, 10_000, 300).mean_queue == pytest.approx(9_875, rel=1e-3)
    busy = erlang_a(1_000_000, 300, 300, 80_000)
    # A fluid limit: what is offered above capacity abandons.
    assert busy.p_abandon == pytest.approx(1 - 80_000 / (1_000_000 / 12), rel=1e-6)
    assert erlang_a(360_000, 300, 600, 10).p_abandon == pytest.approx(1 - 10 / 30_000, rel=1e-9)
    assert erlang_a(5, 300, 60, 500).sl_offered == 1.0


def test_an_overloaded_queue_without_impatience_has_no_steady_state() -> None:
    result = erlang_c(10, 10, 180)
    assert not result.stable
    assert result.service_level == 0
    assert math.isinf(result.asa_s)
    waits = erlang_c_priorities([100, 400], 180, 12)
    assert math.isfinite(waits.mean_wait_s[0])  # the first class still fits
    assert math.isinf(waits.mean_wait_s[1])


@settings(max_examples=80, deadline=None)
@given(st.floats(1, 2000), st.floats(10, 900), st.floats(10, 2000), st.integers(1, 200), st.floats(0, 300))
def test_erlang_a_conserves_contacts(rate: float, aht: float, patience: float, n: int, t: float) -> None:
    r = erlang_a(rate, aht, patience, n, t)
    for value in (r.p_wait, r.p_abandon, r.sl_offered, r.p_abandon_within_t, r.occupancy):
        assert -1e-9 <= value <= 1 + 1e-9
    assert r.lq == pytest.approx(rate / 3600 * r.mean_wait_all_s, rel=1e-9)  # Little
    assert r.p_abandon_within_t <= r.p_abandon + 1e-9
    assert r.sl_offered <= 1 - r.p_abandon_within_t + 1e-9
    far = erlang_a(rate, aht, patience, n, 40 * patience)
    assert far.sl_offered == pytest.approx(1 - r.p_abandon, abs=1e-8)
    assert far.p_abandon_within_t == pytest.approx(r.p_abandon, abs=1e-8)


def test_erlang_a_with_endless_patience_is_erlang_c() -> None:
    a, c = erlang_a(200, 180, 1e7, 14), erlang_c(10, 14, 180)
    assert a.p_wait == pytest.approx(c.p_wait, rel=1e-4)
    assert a.sl_offered == pytest.approx(c.service_level, rel=1e-4)
    assert a.asa_answered_s == pytest.approx(c.asa_s, rel=1e-3)


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 500), st.floats(10, 900), st.floats(0, 120), st.floats(0.01, 0.99))
def test_staffing_is_the_fewest_that_suffice(load: float, aht: float, t: float, target: float) -> None:
    found = staff_erlang_c(load, aht, t, target)
    assert found.service_level >= target
    assert found.servers == math.floor(load) + 1 or found.service_level_one_less < target


@pytest.mark.parametrize(
    "call",
    [
        lambda: erlang_b(-1, 3),
        lambda: erlang_b(1, -1),
        lambda: erlang_c(1, 0, 180),
        lambda: erlang_c(math.nan, 3, 180),
        lambda: erlang_c(1, 3, 0),
        lambda: erlang_a(10, 180, 0, 3),
        lambda: erlang_a(1e12, 180, 1e9, 3),
        lambda: erlang_c_priorities([], 180, 3),
        lambda: erlang_c_priorities([-1], 180, 3),
        lambda: staff_erlang_c(10, 180, 20, 1.0),
    ],
)
def test_senseless_input_is_refused(call) -> None:
    with pytest.raises(ValueError):
        call()
