"""Times as customers write them, in three languages, and as they are told back."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bots import when
from bots.slots import propose
from routing.business_time import Calendar
from tests.bots.support import KYIV, WEEK, kyiv

NOW = kyiv(4, 12)  # a Wednesday


def at(text: str, *, now: int = NOW, zone: str = "Europe/Kyiv") -> str | None:
    wish = when.read(text, now=now, zone=zone)
    moment = when.instant(wish, now=now, zone=zone) if wish else None
    return (
        None
        if moment is None
        else datetime.fromtimestamp(moment / 1000, ZoneInfo(zone)).strftime("%d.%m.%y %H:%M")
    )


@pytest.mark.parametrize(("text", "expected"), [
    ("вчора 15:00", "03.06.25 15:00"), ("yesterday 10:00", "03.06.25 10:00"),  # over: asked again, never tomorrow's
    ("завтра 15:00", "05.06.25 15:00"), ("завтра о 15", "05.06.25 15:00"), ("tomorrow at 3 pm", "05.06.25 15:00"),
    ("Tomorrow at 3", "05.06.25 15:00"), ("завтра в 3 часа дня", "05.06.25 15:00"), ("14:30", "04.06.25 14:30"),
    ("09:00", "05.06.25 09:00"), ("о 15.30", "04.06.25 15:30"), ("через годину", "04.06.25 13:00"),
    ("через 2 часа", "04.06.25 14:00"), ("через полчаса", "04.06.25 12:30"), ("in 30 minutes", "04.06.25 12:30"),
    ("in an hour", "04.06.25 13:00"), ("в пятницу утром", "06.06.25 10:00"), ("у п'ятницю о 10", "06.06.25 10:00"),
    ("у п\u2019ятницю о 10", "06.06.25 10:00"), ("monday 10am", "09.06.25 10:00"), ("у середу о 15", "04.06.25 15:00"),
    ("в среду в 11", "11.06.25 11:00"), ("25.12 о 14:30", "25.12.25 14:30"), ("25/12 14:30", "25.12.25 14:30"),
    ("12/25 at 2:30 pm", "25.12.25 14:30"), ("6 червня о 9", "06.06.25 09:00"), ("5 мая в 18 часов", "05.05.26 18:00"),
    ("December 25 at 10:00", "25.12.25 10:00"), ("2025-06-10 11:00", "10.06.25 11:00"),
    ("післязавтра опівдні", "06.06.25 12:00"), ("day after tomorrow noon", "06.06.25 12:00"),
    ("сьогодні ввечері", "04.06.25 18:00"), ("12 am tomorrow", "05.06.25 00:00"), ("3:30 p.m. tomorrow", "05.06.25 15:30"),
    ("завтра", None), ("привіт", None), ("31 февраля", None), ("+380501234567", None), ("99:99", None), ("at 24:00", None),
])  # fmt: skip
def test_reading(text: str, expected: str | None) -> None:
    assert at(text) == expected


@pytest.mark.parametrize(
    "text", ["якнайшвидше", "Как можно скорее!", "ASAP", "зараз", "as soon as possible please"]
)
def test_at_once(text: str) -> None:
    wish = when.read(text, now=NOW, zone="Europe/Kyiv")
    assert wish and wish.asap


def test_the_customers_zone_counts() -> None:
    assert at("tomorrow 15:00", zone="America/New_York") == "05.06.25 15:00"
    wish = when.read("завтра 15:00", now=NOW, zone="Europe/Warsaw")
    assert wish and when.instant(wish, now=NOW, zone="Europe/Warsaw") == kyiv(5, 16)


def test_a_time_that_the_change_of_clocks_skips_is_moved_on() -> None:
    night = round(datetime(2025, 3, 29, 12, tzinfo=KYIV).timestamp() * 1000)
    assert at("завтра 03:30", now=night) == "30.03.25 04:30"


@given(st.text(max_size=80), st.integers(0, 4_000_000_000_000))
def test_any_text_at_any_time_is_read_or_not(text: str, now: int) -> None:
    wish = when.read(text, now=now, zone="Europe/Kyiv")
    if wish is not None:
        when.instant(wish, now=now, zone="Europe/Kyiv")
        if wish.day is not None:
            when.day_bounds(wish.day, "Europe/Kyiv")


_WORDS = [
    "завтра",
    "в",
    "о",
    "at",
    "3",
    "15:00",
    "31",
    "12",
    "февраля",
    "mon",
    "через",
    "pm",
    "9999",
    "2099-12-31",
    ".",
]


@given(st.lists(st.sampled_from(_WORDS), max_size=6).map(" ".join))
def test_any_words_of_time_are_read_or_not(text: str) -> None:
    wish = when.read(text, now=NOW, zone="Europe/Kyiv")
    if wish is not None:
        when.instant(wish, now=NOW, zone="Europe/Kyiv")


@pytest.mark.parametrize(("language", "soon", "later"), [
    ("uk", "завтра об 11:00", "у понеділок, 9 червня, о 09:00"), ("ru", "завтра в 11:00", "в понедельник, 9 июня, в 09:00"),
    ("en", "tomorrow at 11:00 AM", "on Monday, 9 June, at 9:00 AM"),
])  # fmt: skip
def test_telling(language: str, soon: str, later: str) -> None:
    assert when.show(kyiv(5, 11), now=NOW, zone="Europe/Kyiv", language=language) == soon
    assert when.show(kyiv(9, 9), now=NOW, zone="Europe/Kyiv", language=language) == later


def test_slots_lie_inside_the_hours_and_apart() -> None:
    office = Calendar.from_spec({"tz": "Europe/Kyiv", "week": WEEK})
    found = propose(office, now=NOW, zone="Europe/Kyiv")
    assert found == (kyiv(4, 12, 30), kyiv(4, 14, 30), kyiv(5, 9), kyiv(5, 11))
    assert propose(office, now=kyiv(6, 17, 20), zone="Europe/Kyiv", count=1) == (kyiv(9, 9),)
    never = Calendar.from_spec({"tz": "Europe/Kyiv", "week": {}})
    assert propose(never, now=NOW, zone="Europe/Kyiv") == ()
    # Nine in Kyiv is two at night in New York: nobody is offered that.
    assert propose(office, now=NOW, zone="America/New_York")[0] == kyiv(4, 16)
