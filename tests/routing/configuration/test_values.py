"""Settings as values: nothing is lost on the way, every value has a name in every language."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_core.languages import LANGUAGES
from routing.configuration_values import as_json, compare, in_words, marked, touches_capacity, values_of
from routing.settings import DEFAULTS, parse

CUSTOM: dict[str, Any] = {
    "channels": {
        "chat": {"timeout_s": 40, "max": 2, "sticky_wait": "30%", "interrupts": [], "inactive_s": None},
        "voice": {"sticky_wait": 7, "boosts_s": {"urgent": 1, "low": -5}, "interrupts_up_to": {"chat": 1}},
    },
    "steps": [{"scope": "manager"}, {"scope": "required", "at": "12.5%"}, {"scope": "overflow", "at": "80%"}],
    "overflow": [2, 3],
    "on_call": {"priorities": ["urgent"], "vip": True, "team": 4},
    "vip_steps": "25%",
    "broadcast": {"when": "never", "first": 2, "max": 4},
    "leads": {"selector": "weighted", "weights": {"5": 3}, "caps": {"6": 9}, "daily_cap": 7},
    "late_share": 0.5,
    "default": True,
}  # fmt: skip


@pytest.mark.parametrize("data", [{}, CUSTOM])
def test_the_effective_values_parse_to_the_same_settings(data: dict[str, Any]) -> None:
    settings = parse(data)
    assert parse(as_json(settings)) == settings


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "load_max": st.integers(1, 500),
            "exclude_s": st.integers(0, 9_000),
            "after_hours": st.sampled_from(["park", "online", "ignore"]),
            "late_share": st.floats(0, 1),
            "vip_steps": st.integers(0, 100).map(lambda n: f"{n}%"),
            "channels": st.dictionaries(
                st.sampled_from(["voice", "chat", "async", "callback"]),
                st.fixed_dictionaries(
                    {},
                    optional={
                        "max": st.integers(0, 50),
                        "sticky_wait": st.one_of(st.integers(0, 900), st.just("5%")),
                        "inactive_s": st.none() | st.integers(1, 900),
                    },
                ),
            ),
        },
    )
)
def test_any_settings_survive_being_shown(data: dict[str, Any]) -> None:
    settings = parse(data)
    assert parse(as_json(settings)) == settings
    assert compare(settings, parse(as_json(settings))) == []


def test_defaults_are_marked() -> None:
    rows = {r["path"]: r for r in marked(parse({"load_max": 80}))}
    assert (rows["load_max"]["value"], rows["load_max"]["default"], rows["load_max"]["is_default"]) == (
        80, 100, False,
    )  # fmt: skip
    assert rows["exclude_s"]["is_default"]
    assert all(r["is_default"] for r in marked(DEFAULTS))


def test_a_default_that_is_only_spelled_out_is_no_change() -> None:
    assert compare(DEFAULTS, parse({"channels": {"chat": {"max": 4}}, "load_max": 100})) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_value_has_a_name(language: str) -> None:
    shown = [in_words(c, language) for c in compare(DEFAULTS, parse(CUSTOM))]
    assert len(shown) >= 15
    for path in values_of(parse(CUSTOM)):
        title = in_words(_any_change(path), language).split(":")[0]
        assert path not in title and "_" not in title and "." not in title, title


def _any_change(path: str) -> Any:
    from routing.configuration_values import Change

    return Change(path=path, before=None, after=None)


def test_changes_in_words() -> None:
    (timeout,) = compare(DEFAULTS, parse({"channels": {"chat": {"timeout_s": 40}}}))
    assert in_words(timeout, "en") == "Chats, time to take an offer: 25 s → 40 s"
    assert in_words(timeout, "uk") == "Чати, час на прийняття: 25 с → 40 с"
    assert in_words(timeout, "ru") == "Чаты, время на принятие: 25 с → 40 с"
    (steps,) = compare(DEFAULTS, parse({"steps": [{"scope": "manager"}, {"scope": "required", "at": 60}]}))
    assert in_words(steps, "en").endswith("→ manager, required skills (1 min)")


def test_only_maxima_touch_what_agents_hold() -> None:
    assert touches_capacity(compare(DEFAULTS, parse({"channels": {"chat": {"max": 2}}})))
    assert touches_capacity(compare(DEFAULTS, parse({"load_max": 90})))
    assert not touches_capacity(compare(DEFAULTS, parse({"broadcast": {"max": 9}, "exclude_s": 1})))
