"""Arrivals by half-hour of the clock on the wall, days on which it is changed included."""

from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.business_time import Calendar
from routing.planning.history import QUARTER_MS
from routing.planning.profile import HALF_HOUR_MS, Basis, half_hour, half_hours, learn, quarters_of_day

KYIV = ZoneInfo("Europe/Kyiv")
WEEK, DAY = 7 * 86_400_000, 86_400_000
WORKDAYS = {day: [["09:00", "18:00"]] for day in ("mon", "tue", "wed", "thu", "fri")}


def at(text: str, zone: ZoneInfo = KYIV) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp() * 1000)


@pytest.mark.parametrize(("day", "quarters"), [("2025-03-30", 92), ("2025-10-26", 100), ("2025-06-02", 96)])
def test_a_day_has_as_many_quarter_hours_as_the_clock_shows(day: str, quarters: int) -> None:
    civil = date.fromisoformat(day)
    assert quarters_of_day(KYIV, civil) == quarters
    bins = [b for b in half_hours(KYIV, at(day) - DAY, at(day) + 2 * DAY) if b.day == civil]
    assert len(bins) == quarters // 2
    assert all(b.end - b.start == HALF_HOUR_MS for b in bins)


def test_the_repeated_hour_of_autumn_is_two_half_hours_of_one_time() -> None:
    bins = [b for b in half_hours(KYIV, at("2025-10-26"), at("2025-10-27")) if b.slot == 3 * 60 + 30]
    assert len(bins) == 2
    assert bins[1].start - bins[0].start == 3_600_000


@given(t=st.integers(0, 4_000_000_000_000), zone=st.sampled_from(["Europe/Kyiv", "Asia/Kathmandu", "UTC"]))
def test_half_hours_contain_their_instant_and_follow_one_another(t: int, zone: str) -> None:
    found = half_hour(ZoneInfo(zone), t)
    assert found.start <= t < found.end
    assert found.slot % 30 == 0
    following = next(half_hours(ZoneInfo(zone), found.end, found.end + 1))
    assert following.start == found.end


def test_a_half_hour_begins_at_its_half_hour() -> None:
    found = half_hour(KYIV, at("2025-06-02T10:20"))
    assert (found.start, found.slot) == (at("2025-06-02T10:00"), 600)


def quarters(counts: dict[str, int]) -> dict[int, int]:
    return {at(text): n for text, n in counts.items()}


def test_the_same_time_of_the_same_weekday_counts() -> None:
    counts = quarters({"2025-06-02T10:00": 6, "2025-06-09T10:00": 6, "2025-06-03T10:00": 99})
    learned = learn(counts, since=at("2025-06-02"), until=at("2025-06-16"), zone=KYIV, calendar=None)
    monday = learned.expect(half_hour(KYIV, at("2025-06-16T10:00")))
    assert (monday.arrivals, monday.basis, monday.days) == (pytest.approx(6), Basis.WEEKDAY, 2)
    assert learned.expect(half_hour(KYIV, at("2025-06-16T10:30"))).arrivals == 0


def test_recent_weeks_count_more() -> None:
    counts = quarters({"2025-06-02T10:00": 0, "2025-06-16T10:00": 30})
    learned = learn(counts, since=at("2025-06-02"), until=at("2025-06-23"), zone=KYIV, calendar=None)
    # Ages 3, 2 and 1 weeks with a half-life of two: 30 weighs 2^-0.5 of 2^-1.5 + 2^-1 + 2^-0.5.
    expected = 30 * 2**-0.5 / (2**-1.5 + 2**-1 + 2**-0.5)
    assert learned.expect(half_hour(KYIV, at("2025-06-23T10:00"))).arrivals == pytest.approx(
        expected, rel=0.02
    )


def test_times_survive_the_change_of_the_clock() -> None:
    """10 o'clock is 08:00 UTC in winter and 07:00 in summer; it is the same half-hour of the profile."""
    counts = quarters({"2025-03-17T10:00": 8, "2025-03-24T10:00": 8})
    learned = learn(counts, since=at("2025-03-17"), until=at("2025-03-31"), zone=KYIV, calendar=None)
    assert learned.expect(half_hour(KYIV, at("2025-03-31T10:00"))).arrivals == pytest.approx(8)
    assert learned.expect(half_hour(KYIV, at("2025-03-31T09:00"))).arrivals == 0


def test_a_holiday_is_compared_with_holidays() -> None:
    calendar = Calendar.from_spec(
        {"tz": "Europe/Kyiv", "week": WORKDAYS, "holidays": ["2025-06-09", "2025-06-16"]}
    )
    counts = quarters({"2025-06-02T10:00": 20, "2025-06-09T10:00": 1})
    learned = learn(counts, since=at("2025-06-02"), until=at("2025-06-15"), zone=KYIV, calendar=calendar)
    holiday = learned.expect(half_hour(KYIV, at("2025-06-16T10:00")))
    assert (holiday.arrivals, holiday.basis) == (1, Basis.HOLIDAY)


def test_an_unknown_holiday_is_compared_with_days_off() -> None:
    calendar = Calendar.from_spec({"tz": "Europe/Kyiv", "week": WORKDAYS, "holidays": ["2025-06-16"]})
    counts = quarters({"2025-06-02T10:00": 20, "2025-06-09T10:00": 20, "2025-06-07T10:00": 4})
    learned = learn(counts, since=at("2025-06-02"), until=at("2025-06-16"), zone=KYIV, calendar=calendar)
    holiday = learned.expect(half_hour(KYIV, at("2025-06-16T10:00")))
    assert holiday.basis is Basis.OTHER_DAYS
    assert 0.5 < holiday.arrivals < 2  # four days off, one of them with 4


def test_days_before_the_record_are_no_quiet_days() -> None:
    counts = quarters({"2025-06-09T10:00": 12, "2025-06-16T10:00": 12})
    learned = learn(counts, since=at("2025-06-09"), until=at("2025-06-23"), zone=KYIV, calendar=None)
    assert learned.expect(half_hour(KYIV, at("2025-06-23T10:00"))).arrivals == pytest.approx(12)


def test_a_busy_morning_makes_a_busy_day_and_no_busy_tomorrow() -> None:
    mondays = {f"2025-06-{d:02}T{h:02}:00": 30 for d in (2, 9) for h in (9, 10, 11)}
    today = {"2025-06-16T09:00": 45, "2025-06-16T10:00": 45}
    learned = learn(quarters({**mondays, **today}), since=at("2025-06-02"), until=at("2025-06-16T11:00"), zone=KYIV,
                    calendar=None)  # fmt: skip
    assert learned.today_factor == pytest.approx(1.5)
    assert learned.expect(half_hour(KYIV, at("2025-06-16T11:00"))).arrivals == pytest.approx(45, rel=0.01)
    assert learned.expect(half_hour(KYIV, at("2025-06-23T11:00"))).arrivals == pytest.approx(30, rel=0.01)


def test_the_half_hour_that_is_not_over_says_nothing() -> None:
    counts = {at("2025-06-02T10:00"): 5}
    learned = learn(
        counts, since=at("2025-06-02T09:30"), until=at("2025-06-02T10:15"), zone=KYIV, calendar=None
    )
    assert learned.overall.days == 1
    assert learned.expect(half_hour(KYIV, at("2025-06-03T10:00"))).arrivals == 0


def test_without_a_record_nothing_is_expected() -> None:
    learned = learn({}, since=at("2025-06-02"), until=at("2025-06-02"), zone=KYIV, calendar=None)
    found = learned.expect(half_hour(KYIV, at("2025-06-02T10:00")))
    assert (found.arrivals, found.basis) == (0, Basis.NOTHING)
    assert QUARTER_MS * 2 == HALF_HOUR_MS
