import json
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from crm_core.clock import DAY, HOUR, MINUTE, from_iso
from routing.business_time import ALWAYS_OPEN, Calendar
from routing.calendar_spec import WEEKDAYS, CalendarError

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "vectors.json").read_text())
CALENDARS = {key: Calendar.from_spec(spec, round_2359=False) for key, spec in VECTORS["calendars"].items()}


def _ms(text: str | None) -> int | None:
    return None if text is None else from_iso(text)


def week(*hours: tuple[str, str], days: tuple[str, ...] = WEEKDAYS) -> dict[str, list[list[str]]]:
    return {day: [list(pair) for pair in hours] for day in days}


@pytest.mark.parametrize("vector", VECTORS["business_time"], ids=lambda v: v["id"])
def test_vector(vector: dict) -> None:
    calendar = CALENDARS[vector["calendar"]]
    pauses = [(from_iso(a), from_iso(b)) for a, b in vector.get("pauses", [])]
    start, ms = _ms(vector.get("start")), vector.get("seconds", 0) * 1000
    answers = {
        "due": lambda: {
            "due_first": calendar.due_first(start, ms, pauses),
            "due_last": calendar.due_last(start, ms, pauses),
        },
        "back": lambda: {
            "back_first": calendar.back_first(start, ms),
            "back_last": calendar.back_last(start, ms),
        },
        "elapsed": lambda: {"elapsed_seconds": calendar.elapsed(start, from_iso(vector["end"]), pauses)},
        "open": lambda: {"open": calendar.is_open(from_iso(vector["at"]))},
    }
    got = answers[vector["kind"]]()
    expected = {key: _ms(vector[key]) if key[:3] in ("due", "bac") else vector[key] for key in got}
    if "elapsed_seconds" in expected:
        expected["elapsed_seconds"] *= 1000
    assert got == expected


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ([], ""),
        ({"week": {}}, "tz"),
        ({"tz": "Europe/Kyiv"}, "week"),
        ({"tz": "Europe/Atlantis", "week": {}}, "tz"),
        ({"tz": "../etc/passwd", "week": {}}, "tz"),
        ({"tz": 3, "week": {}}, "tz"),
        ({"tz": "UTC", "week": {"monday": []}}, "week.monday"),
        ({"tz": "UTC", "week": {"mon": "09:00-18:00"}}, "week.mon"),
        ({"tz": "UTC", "week": {"mon": [["09:00"]]}}, "week.mon[0]"),
        ({"tz": "UTC", "week": {"mon": [["09:00", "18:00"], ["24:00", "01:00"]]}}, "week.mon[1][0]"),
        ({"tz": "UTC", "week": {"mon": [["09:00", "25:00"]]}}, "week.mon[0][1]"),
        ({"tz": "UTC", "week": {"mon": [["9:00", "18:00"]]}}, "week.mon[0][0]"),
        ({"tz": "UTC", "week": {"mon": [[540, "18:00"]]}}, "week.mon[0][0]"),
        ({"tz": "UTC", "week": {}, "holidays": ["2025-02-29"]}, "holidays[0]"),
        ({"tz": "UTC", "week": {}, "holidays": "2025-01-01"}, "holidays"),
        ({"tz": "UTC", "week": {}, "special": {"soon": []}}, "special.soon"),
        ({"tz": "UTC", "week": {}, "breaks": {"2025-01-01": [["12:00", None]]}}, "breaks.2025-01-01[0][1]"),
        ({"tz": "UTC", "week": {}, "closed": []}, "closed"),
    ],
)
def test_a_wrong_calendar_names_the_field(spec: object, path: str) -> None:
    with pytest.raises(CalendarError) as caught:
        Calendar.from_spec(spec)
    assert caught.value.path == path
    assert path in str(caught.value)


def test_closing_at_2359_means_midnight_unless_told_otherwise() -> None:
    spec = {"tz": "UTC", "week": week(("00:00", "23:59"))}
    day = from_iso("2025-06-02T00:00:00Z")
    assert Calendar.from_spec(spec).elapsed(day, day + DAY) == DAY
    assert Calendar.from_spec(spec, round_2359=False).elapsed(day, day + DAY) == DAY - MINUTE


def test_holiday_beats_special_beats_week_and_a_night_shift_is_cut_at_midnight() -> None:
    calendar = Calendar.from_spec(
        {
            "tz": "UTC",
            "week": week(("22:00", "06:00")),
            "holidays": ["2025-06-04"],
            "special": {"2025-06-02": [["10:00", "14:00"]], "2025-06-04": [["00:00", "24:00"]]},
            "breaks": {"2025-06-02": [["11:00", "11:30"]]},
        }
    )
    at = from_iso
    assert calendar.elapsed(at("2025-06-02T00:00:00Z"), at("2025-06-03T00:00:00Z")) == 3 * HOUR + HOUR // 2
    assert calendar.is_open(at("2025-06-03T05:59:59Z"))
    assert calendar.is_open(at("2025-06-03T23:59:59Z"))
    assert calendar.elapsed(at("2025-06-04T00:00:00Z"), at("2025-06-05T00:00:00Z")) == 0
    assert calendar.is_open(at("2025-06-05T00:00:00Z"))  # the holiday closed its own civil date only


def test_special_hours_overnight_add_to_the_next_date() -> None:
    calendar = Calendar.from_spec(
        {"tz": "UTC", "week": week(("09:00", "10:00")), "special": {"2025-12-31": [["20:00", "02:00"]]}}
    )
    begin = from_iso("2025-12-31T00:00:00Z")
    assert calendar.elapsed(begin, begin + 2 * DAY) == 7 * HOUR
    assert calendar.next_close(begin) == from_iso("2026-01-01T02:00:00Z")


def test_next_open_and_close() -> None:
    kyiv = CALENDARS["kyiv_9_18"]
    friday, monday = from_iso("2025-06-06T15:00:00Z"), from_iso("2025-06-09T06:00:00Z")
    assert kyiv.next_open(friday) == monday
    assert kyiv.next_open(monday) == monday
    assert kyiv.next_close(friday - 1) == friday
    assert kyiv.next_close(friday) == from_iso("2025-06-09T15:00:00Z")
    never = CALENDARS["utc_never"]
    assert never.next_open(friday) is None
    assert never.next_close(friday) is None
    assert never.due_last(friday, 0) is None
    assert never.back_last(friday, 0) is None
    assert never.back_first(friday, 1) is None
    assert ALWAYS_OPEN.next_close(friday) is None


def test_a_full_week_with_one_holiday_closes_once_and_never_again() -> None:
    calendar = Calendar.from_spec(
        {"tz": "Europe/Kyiv", "week": week(("00:00", "24:00")), "holidays": ["2025-01-01"]}
    )
    eve = from_iso("2024-12-31T22:00:00Z")
    assert calendar.next_close(eve - DAY) == eve
    assert calendar.next_open(eve) == eve + DAY
    assert calendar.next_close(eve + DAY) is None
    assert calendar.due_first(eve, 20 * 365 * DAY) == eve + DAY + 20 * 365 * DAY
    assert calendar.back_first(eve + 2 * DAY, 2 * DAY) == eve - DAY


def test_a_calendar_of_special_dates_only() -> None:
    calendar = Calendar.from_spec({"tz": "UTC", "week": {}, "special": {"2031-05-01": [["10:00", "11:00"]]}})
    now, opens = from_iso("2025-06-02T00:00:00Z"), from_iso("2031-05-01T10:00:00Z")
    assert calendar.next_open(now) == opens
    assert calendar.due_first(now, HOUR) == opens + HOUR
    assert calendar.due_last(now, HOUR) is None
    assert calendar.due_first(now, HOUR + 1) is None
    assert calendar.back_first(from_iso("2040-01-01T00:00:00Z"), HOUR) == opens


def test_a_negative_duration_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        CALENDARS["kyiv_9_18"].due_first(0, -1)


def test_fingerprint_tells_calendars_apart() -> None:
    prints = {
        key: CALENDARS[key].fingerprint(2024, 2026) for key in ("kyiv_9_18", "kyiv_lunch", "berlin_9_17")
    }
    assert len(set(prints.values())) == 3
    assert (
        Calendar.from_spec(VECTORS["calendars"]["kyiv_9_18"]).fingerprint(2024, 2026) == prints["kyiv_9_18"]
    )


def test_far_answers_agree_with_near_ones_whatever_was_asked_first() -> None:
    spec = VECTORS["calendars"]["kyiv_lunch"]
    start = from_iso("2025-06-02T07:00:00Z")
    fresh, used = Calendar.from_spec(spec), Calendar.from_spec(spec)
    used.elapsed(from_iso("1999-01-01T00:00:00Z"), from_iso("2001-01-01T00:00:00Z"))
    far = 3000 * 8 * HOUR
    assert fresh.due_first(start, far) == used.due_first(start, far)
    due = used.due_first(start, far)
    assert due is not None
    assert fresh.elapsed(start, due) == far
    assert used.back_first(due, far) == start


# --- properties ----------------------------------------------------------------------------------------------

ZONES = [
    "UTC",
    "Europe/Kyiv",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Havana",
    "Asia/Kolkata",
    "Africa/Cairo",
]
minute = st.integers(0, 1439).map(lambda m: f"{m // 60:02}:{m % 60:02}")
hours = st.lists(st.tuples(minute, minute).map(list), max_size=3)
dates = st.dates(datetime(2024, 6, 1).date(), datetime(2026, 6, 1).date()).map(str)
specs = st.fixed_dictionaries(
    {
        "tz": st.sampled_from(ZONES),
        "week": st.fixed_dictionaries(dict.fromkeys(WEEKDAYS, hours)),
        "holidays": st.lists(dates, max_size=4),
        "special": st.dictionaries(dates, hours, max_size=3),
        "breaks": st.dictionaries(dates, hours, max_size=3),
    }
)
instants = st.integers(from_iso("2024-12-01T00:00:00Z"), from_iso("2026-01-01T00:00:00Z"))
durations = st.one_of(st.integers(0, 5 * HOUR), st.integers(0, 40 * DAY))


@settings(max_examples=60, deadline=None)
@given(specs, instants, instants, instants)
def test_elapsed_is_monotone_and_additive(spec: dict, x: int, y: int, z: int) -> None:
    a, b, c = sorted((x, y, z))
    calendar = Calendar.from_spec(spec)
    assert 0 <= calendar.elapsed(a, b) <= b - a
    assert calendar.elapsed(a, b) + calendar.elapsed(b, c) == calendar.elapsed(a, c)


@settings(max_examples=60, deadline=None)
@given(specs, instants, durations)
def test_due_is_the_inverse_of_elapsed(spec: dict, start: int, target: int) -> None:
    calendar = Calendar.from_spec(spec)
    first, last = calendar.due_first(start, target), calendar.due_last(start, target)
    assume(first is not None)
    assert calendar.elapsed(start, first) == target
    assert first == start or calendar.elapsed(start, first - 1) == target - 1
    if last is not None:
        assert last >= first
        assert calendar.elapsed(start, last) == target
        assert calendar.elapsed(start, last + 1) == target + 1


@settings(max_examples=60, deadline=None)
@given(specs, instants, durations, st.integers(-1, 1))
def test_both_edges_at_once_are_the_two_asked_apart(spec: dict, start: int, target: int, off: int) -> None:
    calendar = Calendar.from_spec(spec)
    closing = calendar.next_close(start)
    until = max(0, calendar.elapsed(start, closing) + off) if closing is not None else 0
    for ms in (0, target, until):
        apart = Calendar.from_spec(spec)
        assert calendar.due_edges(start, ms) == (apart.due_first(start, ms), apart.due_last(start, ms))


@settings(max_examples=60, deadline=None)
@given(specs, instants, durations)
def test_back_is_the_mirror_image(spec: dict, end: int, ms: int) -> None:
    calendar = Calendar.from_spec(spec)
    first, last = calendar.back_first(end, ms), calendar.back_last(end, ms)
    assume(first is not None and last is not None)
    assert calendar.elapsed(first, end) == calendar.elapsed(last, end) == ms
    assert last <= first
    assert first == end or calendar.elapsed(first + 1, end) == ms - 1
    assert calendar.elapsed(last - 1, end) == ms + 1


@settings(max_examples=60, deadline=None)
@given(specs, instants, durations, st.lists(instants, min_size=2, max_size=2), st.floats(0, 1))
def test_splitting_a_pause_changes_nothing(
    spec: dict, start: int, target: int, pause: list[int], at: float
) -> None:
    calendar = Calendar.from_spec(spec)
    a, b = sorted(pause)
    middle = a + round((b - a) * at)
    whole, halves = [(a, b)], [(middle, b), (a, middle)]
    assert calendar.due_first(start, target, whole) == calendar.due_first(start, target, halves)
    assert calendar.due_last(start, target, whole) == calendar.due_last(start, target, halves)
    assert calendar.elapsed(start, b + DAY, whole) == calendar.elapsed(start, b + DAY, halves)


@settings(max_examples=40, deadline=None)
@given(specs, st.integers(0, 500))
def test_open_minutes_agree_with_the_wall_clock_outside_transitions(spec: dict, day: int) -> None:
    """An independent reading: walk one local date minute by minute and ask the written hours directly."""
    zone = ZoneInfo(spec["tz"])
    noon = datetime(2024, 12, 1, 12, tzinfo=zone) + timedelta(days=day)
    midnight = noon.replace(hour=0)
    after = (noon + timedelta(days=1)).replace(hour=0)
    assume(midnight.utcoffset() == noon.utcoffset() == after.utcoffset())
    key, yesterday = str(noon.date()), str(noon.date() - timedelta(days=1))
    name, before = WEEKDAYS[noon.weekday()], WEEKDAYS[noon.weekday() - 1]

    def inside(segments: list, hhmm: str) -> bool:
        return any(s <= hhmm and (hhmm < e or e <= s) for s, e in segments)

    def tail(segments: list, hhmm: str) -> bool:
        return any(e <= s and hhmm < e for s, e in segments)

    def expected(hhmm: str) -> bool:
        if key in spec["holidays"]:
            return False
        if inside(spec["breaks"].get(key, []), hhmm) or tail(spec["breaks"].get(yesterday, []), hhmm):
            return False
        if tail(spec["special"].get(yesterday, []), hhmm):
            return True
        if key in spec["special"]:
            return inside(spec["special"][key], hhmm)
        return inside(spec["week"][name], hhmm) or tail(spec["week"][before], hhmm)

    calendar = Calendar.from_spec(spec, round_2359=False)
    start = round(midnight.timestamp() * 1000)
    for m in range(0, 1440, 7):
        assert calendar.is_open(start + m * MINUTE) == expected(f"{m // 60:02}:{m % 60:02}")
