"""Whose clock counts, when it may ring, when to try again."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_core.clock import DAY, HOUR, MINUTE, from_iso
from routing.callbacks.plan import (
    MAX_COUNTED,
    OUTCOMES,
    UNCOUNTED,
    Zones,
    may_ring,
    next_decent,
    retry_at,
    zones_of,
)

KYIV = Zones(("Europe/Kyiv",), "phone", country="UA")
instants = st.integers(min_value=1_700_000_000_000, max_value=1_900_000_000_000)


def test_a_number_with_one_zone_speaks_for_itself() -> None:
    assert zones_of("+380501234567", contact_zone=None, default_zone="Europe/Berlin") == KYIV


@pytest.mark.parametrize(
    ("number", "account", "expected", "country"),
    [
        ("+79161234567", "Europe/Kyiv", "Europe/Moscow", "RU"),  # the account is where the number cannot be
        ("+79161234567", "Asia/Yekaterinburg", "Asia/Yekaterinburg", "RU"),
        ("+77001234567", "Europe/Kyiv", "Asia/Almaty", "KZ"),
        ("+61412345678", "Europe/Kyiv", "Europe/Kyiv", "AU"),  # nothing better is known
        ("+18002345678", "Europe/Kyiv", "America/New_York", "US"),  # toll-free
    ],
)
def test_a_number_with_many_zones_takes_a_likely_one_and_stricter_hours(
    number: str, account: str, expected: str, country: str
) -> None:
    zones = zones_of(number, contact_zone=None, default_zone=account)
    assert zones == Zones((expected,), "default", strict=True, country=country)


def test_stricter_hours_are_ten_to_seven() -> None:
    zones = zones_of("+79161234567", contact_zone=None, default_zone="Europe/Kyiv")
    assert may_ring(from_iso("2026-11-23T07:00:00+00:00"), zones)  # 10:00 in Moscow
    assert not may_ring(from_iso("2026-11-23T06:30:00+00:00"), zones)
    assert not may_ring(from_iso("2026-11-23T16:00:00+00:00"), zones)  # 19:00


def test_what_the_card_says_beats_the_number_and_nonsense_does_not() -> None:
    assert zones_of("+380501234567", contact_zone="America/New_York", default_zone="Europe/Kyiv").names == (
        "America/New_York",
    )
    assert zones_of("+380501234567", contact_zone="Mars/Base", default_zone="Europe/Berlin") == KYIV


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2026-11-23T10:00:00Z", "2026-11-23T10:00:00Z"),
        ("2026-11-23T03:00:00Z", "2026-11-23T07:00:00Z"),  # five in the morning -> nine
        ("2026-11-23T18:00:00Z", "2026-11-24T07:00:00Z"),  # eight in the evening -> nine tomorrow
        (
            "2026-03-28T19:00:00Z",
            "2026-03-30T06:00:00Z",
        ),  # Sunday is no day for calls, and the clocks go forward
        ("2026-11-21T05:00:00Z", "2026-11-21T08:00:00Z"),  # on Saturday from ten
        ("2026-04-12T09:00:00Z", "2026-04-14T06:00:00Z"),  # Easter there, and Monday after it
    ],
)
def test_odd_hours_wait_for_nine(at: str, expected: str) -> None:
    assert next_decent(from_iso(at), KYIV) == from_iso(expected)


@given(instants)
def test_the_next_decent_hour_is_decent_and_not_in_the_past(at: int) -> None:
    found = next_decent(at, KYIV)
    assert at <= found < at + 4 * DAY
    assert may_ring(found, KYIV)


@given(
    st.lists(st.sampled_from([o for o in OUTCOMES if o != "answered"]), min_size=1, max_size=14),
    instants,
    st.text(max_size=8),
)
def test_tries_end_and_come_at_decent_hours(outcomes: list[str], now: int, seed: str) -> None:
    again = retry_at(outcomes, first_at=now - HOUR, now=now, zones=KYIV, seed=seed)
    if sum(o not in UNCOUNTED for o in outcomes) >= MAX_COUNTED or outcomes[-1] == "invalid_number":
        assert again is None
    if again is not None:
        assert now < again <= now + 5 * DAY
        assert may_ring(again, KYIV)


def test_the_plan_per_outcome() -> None:
    noon = from_iso("2026-11-23T10:00:00Z")

    def wait(*outcomes: str) -> int | None:
        again = retry_at(outcomes, first_at=noon, now=noon, zones=KYIV, seed="s")
        return None if again is None else again - noon

    def about(ms: int | None, expected: int) -> bool:
        return ms is not None and 0.79 * expected <= ms <= 1.21 * expected

    assert about(wait("busy"), 5 * MINUTE)
    assert about(wait("busy", "busy"), 10 * MINUTE)
    assert about(wait("no_answer"), 30 * MINUTE)
    assert about(wait("no_answer", "no_answer"), 2 * HOUR)
    third = retry_at(["no_answer"] * 3, first_at=noon, now=noon, zones=KYIV, seed="s")
    assert third is not None and datetime.fromtimestamp(third / 1000, UTC).date().isoformat() == "2026-11-24"
    assert about(wait("failed"), 2 * MINUTE)
    assert wait("rejected", "rejected") is None
    assert wait("invalid_number") is None
    assert retry_at(["busy"], first_at=noon - 3 * DAY, now=noon, zones=KYIV, seed="s") is None
