"""The arithmetic of the expected wait, on facts given by hand."""

import pytest

from crm_core.clock import MINUTE, SECOND
from crm_core.languages import LANGUAGES
from routing.wait_model import Basis, Facts, Staff, expected, minutes_of
from routing.wait_text import ordinal, wait_text

#: three before, two people of one place each, five minutes each
BUSY = Facts(channel="voice", ahead=3, staff=Staff(agents=2, places=2.0), handle_ms=5 * MINUTE, samples=40)


def with_(**changes: object) -> Facts:
    from dataclasses import replace

    return replace(BUSY, **changes)  # type: ignore[arg-type]


def test_everybody_ahead_and_one_more_place_must_end() -> None:
    wait = expected(BUSY)
    assert (wait.wait_ms, wait.basis) == (4 * 5 * MINUTE // 2, Basis.HANDLE_TIME)
    assert (wait.low_min, wait.high_min, wait.position) == (8, 13, 4)


def test_a_place_shared_with_another_queue_ends_half_as_often() -> None:
    assert expected(with_(staff=Staff(agents=2, places=1.0))).wait_ms == 20 * MINUTE


def test_who_finds_somebody_free_waits_for_nothing() -> None:
    wait = expected(with_(ahead=0, staff=Staff(agents=2, places=2.0, free=1)))
    assert (wait.wait_ms, wait.basis) == (0, Basis.FREE)


def test_who_is_first_while_all_are_busy_waits_for_one_end() -> None:
    assert expected(with_(ahead=0)).wait_ms == 5 * MINUTE // 2


def test_the_larger_of_handle_time_and_real_pace_is_said() -> None:
    slow = expected(with_(per_minute=0.25))
    assert (slow.wait_ms, slow.basis) == (16 * MINUTE, Basis.PACE)
    assert expected(with_(per_minute=4.0)).basis == Basis.HANDLE_TIME


def test_very_short_work_counts_half_a_minute() -> None:
    assert expected(with_(handle_ms=1_000)).wait_ms == 4 * 30 * SECOND // 2


def test_it_is_cut_to_what_nine_of_ten_waited() -> None:
    cut = expected(with_(waits_ms=[6 * MINUTE] * 12))
    assert (cut.wait_ms, cut.basis, cut.p90_ms) == (6 * MINUTE, Basis.RECENT_WORST, 6 * MINUTE)


def test_a_calm_half_hour_does_not_hide_the_first_queue() -> None:
    calm = with_(waits_ms=[0] * 50, waiting_ms=[MINUTE] * 3)
    assert expected(calm).wait_ms == 10 * MINUTE


@pytest.mark.parametrize("samples", [0, 9])
def test_below_ten_samples_nothing_is_told_but_queues_can_be_compared(samples: int) -> None:
    wait = expected(with_(samples=samples))
    assert (wait.low_min, wait.high_min) == (None, None)
    assert wait.wait_ms is not None
    assert wait.as_data()["wait_s"] is None
    assert "min" not in wait_text(wait, "en")
    assert expected(with_(samples=10)).known


def test_without_people_or_after_hours_there_is_no_number() -> None:
    assert expected(with_(staff=Staff())).basis == Basis.NOBODY
    closed = expected(with_(is_open=False, opens_at=99))
    assert (closed.basis, closed.wait_ms, closed.opens_at) == (Basis.CLOSED, None, 99)
    assert closed.offers_callback


@pytest.mark.parametrize(
    ("wait_ms", "told"),
    [
        (0, (0, 1)), (44_999, (0, 1)), (MINUTE, (1, 2)), (4 * MINUTE, (3, 5)), (10 * MINUTE, (8, 13)),
        (29 * MINUTE, (23, 37)), (40 * MINUTE, (30, 50)), (120 * MINUTE, (95, 150)),
    ],
)  # fmt: skip
def test_a_wait_is_told_as_a_range_that_holds_it(wait_ms: int, told: tuple[int, int]) -> None:
    low, high = minutes_of(wait_ms)
    assert (low, high) == told
    assert low * MINUTE <= max(wait_ms, 0) <= high * MINUTE


def test_a_callback_is_offered_above_three_minutes() -> None:
    short, long = expected(with_(handle_ms=90 * SECOND)), expected(BUSY)
    assert (short.wait_ms, short.offers_callback, long.offers_callback) == (3 * MINUTE, False, True)
    assert "call you back" in wait_text(long, "en", callback=True)
    assert "call you back" not in wait_text(long, "en")


def test_the_words_in_three_languages() -> None:
    wait = expected(with_(handle_ms=2 * MINUTE))
    assert wait_text(wait, "en") == "Expected wait: about 3–5 minutes. You are 4th in line."
    assert wait_text(wait, "uk-UA") == "Орієнтовне очікування: 3–5 хв. Ваше місце в черзі: 4."
    assert wait_text(wait, "ru") == "Примерное ожидание: 3–5 мин. Ваше место в очереди: 4."
    assert wait_text(wait, "xx") == wait_text(wait, "en")
    for language in LANGUAGES:
        assert wait_text(expected(with_(ahead=400, ahead_capped=True)), language)


@pytest.mark.parametrize(
    ("n", "said"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (22, "22nd"), (113, "113th")],
)
def test_ordinals(n: int, said: str) -> None:
    assert ordinal(n) == said
