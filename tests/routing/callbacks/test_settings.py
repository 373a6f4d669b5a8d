"""What teams say about callbacks, when customer-first may ring, and which days countries rest: pure."""

from datetime import date
from typing import Any

import pytest

from crm_core.clock import MINUTE, SECOND
from routing.callbacks import pacing
from routing.callbacks.countries import country, easter
from routing.callbacks.settings import DEFAULTS, SettingsError, parse


def test_the_pace_of_customer_first() -> None:
    def refusal(free: int, ringing: int = 0, answered: int = 0, abandoned: int = 0) -> str | None:
        seen = pacing.Pace(free=free, ringing=ringing, answered=answered, abandoned=abandoned)
        return seen.refusal(DEFAULTS)

    assert refusal(2) is None
    assert refusal(1) == "few_agents"
    assert refusal(2, ringing=2) == "few_agents"
    assert refusal(9, answered=100, abandoned=3) is None
    assert refusal(9, answered=100, abandoned=4) == "abandoned_limit"


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ({"mode": "robot"}, "callbacks.mode"),
        ({"card_s": 5}, "callbacks.card_s"),
        ({"share": 2}, "callbacks.share"),
        ({"retry": {"busy_min": []}}, "callbacks.retry.busy_min"),
        ({"retry": {"no_answer_min": [5, "x"]}}, "callbacks.retry.no_answer_min.1"),
        ({"deputies": {"me": [1]}}, "callbacks.deputies"),
        ({"hurry": True}, "callbacks.hurry"),
        ([], "callbacks"),
    ],
)
def test_wrong_settings_name_their_place(data: Any, place: str) -> None:
    with pytest.raises(SettingsError, match=place):
        parse(data)


def test_settings_of_a_team() -> None:
    said = parse({"mode": "agent_first", "retry": {"busy_min": [3], "max_counted": 2}, "quarantine_s": 45})
    assert (said.mode, said.retry.busy_ms, said.retry.max_counted) == ("agent_first", (3 * MINUTE,), 2)
    assert said.quarantine_ms == 45 * SECOND and said.card_ms == DEFAULTS.card_ms


def test_countries_know_their_easter_and_holidays() -> None:
    assert easter(2026, "julian") == date(2026, 4, 12) and easter(2026, "gregorian") == date(2026, 4, 5)
    assert easter(2025, "julian") == easter(2025, "gregorian") == date(2025, 4, 20)
    ua = country("UA")
    assert ua.hours_of(date(2026, 8, 24), (9, 20)) is None
    assert ua.hours_of(date(2026, 11, 21), (9, 20)) == (10, 18)
    assert ua.hours_of(date(2026, 11, 22), (9, 20)) is None
    assert country("IL").hours_of(date(2026, 11, 22), (9, 20)) == (9, 20)
    assert country("XX").hours_of(date(2026, 1, 1), (9, 20)) is None
