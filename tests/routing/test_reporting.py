import pytest

from routing.reporting import (
    QueueCounts,
    abandonment_pct,
    average_handle_time_s,
    average_speed_of_answer_s,
    met_pct,
    occupancy_pct,
    overrun_ms,
    percentile,
    scheduled_staff,
    service_levels,
)


def test_the_five_customs_differ_on_the_same_facts() -> None:
    levels = service_levels(QueueCounts(1000, 60, 860, 20, 10))
    assert round(levels.abandons_ignored, 2) == 82.69
    assert round(levels.abandons_negative, 2) == 81.13
    assert round(levels.abandons_positive, 2) == 83.02
    assert levels.answered_only == 86.0
    assert round(levels.short_abandons_removed, 2) == 81.90


def test_a_ratio_over_nothing_is_no_number() -> None:
    empty = service_levels(QueueCounts(0, 0, 0, 0))
    assert empty.abandons_ignored is None
    assert service_levels(QueueCounts(0, 3, 0, 3)).abandons_ignored is None
    assert average_speed_of_answer_s([]) is None
    assert average_handle_time_s(0, 0, 0, 0) is None
    assert occupancy_pct(0, 0) is None
    assert abandonment_pct(0, 0) is None
    assert met_pct(0, 0) is None
    assert percentile([], 50) is None


@pytest.mark.parametrize(
    "counts", [(1, 0, 2, 0), (1, 1, 1, 2), (-1, 0, 0, 0), (1, 1, 1, 1, 2), (1, -1, 1, 0)]
)
def test_impossible_counts_are_refused(counts: tuple) -> None:
    with pytest.raises(ValueError):
        QueueCounts(*counts)


def test_zero_waits_count() -> None:
    assert average_speed_of_answer_s([0, 0, 4, 11, 35]) == 10


@pytest.mark.parametrize(
    ("needed", "shrinkage", "staff"), [(14, 0.3, 20), (14, 0, 14), (0, 0.5, 0), (15, 0.3, 22), (7, 0.3, 10)]
)
def test_scheduled_staff(needed: int, shrinkage: float, staff: int) -> None:
    assert scheduled_staff(needed, shrinkage) == staff


def test_total_shrinkage_is_refused() -> None:
    with pytest.raises(ValueError):
        scheduled_staff(10, 1)


def test_percentile_and_overrun() -> None:
    assert percentile([4, 1, 3, 2], 50) == 2.5
    assert percentile([1, 2, 3], 100) == 3
    assert overrun_ms(50, 60) == 0
    assert overrun_ms(70, 60) == 10
    with pytest.raises(ValueError):
        percentile([1], 101)
