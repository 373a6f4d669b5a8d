"""Staffing, handle times, attendance and changes: the parts that need no database."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_core.errors import Invalid
from routing import erlang
from routing.business_time import Calendar
from routing.model import Presence
from routing.planning import attendance, staffing, words
from routing.planning.change import Change, ChangeError, merged, settings_of
from routing.planning.handling import GUESSED_HANDLE_MS, HandleStats, held_ms
from routing.planning.past import Outcome, PastRequest, Period
from routing.planning.staffing import Target, need, parse_target, together
from routing.settings import TeamSettings

HOUR = 3_600_000
EIGHTY_TWENTY = Target(0.8, 20_000)


# --- staffing
@pytest.mark.parametrize(("per_hour", "aht_s"), [(100, 180), (200, 180), (1200, 300), (12, 600)])
def test_without_patience_the_need_is_erlang_c(per_hour: int, aht_s: int) -> None:
    found = need("voice", per_hour / 2, HOUR // 2, aht_ms=aht_s * 1000, patience_ms=None, per_agent=1,
                 target=EIGHTY_TWENTY)  # fmt: skip
    truth = erlang.staff_erlang_c(per_hour / 3600 * aht_s, aht_s, 20, 0.8)
    assert (found.places, found.formula) == (truth.servers, "C")
    assert found.service_level == pytest.approx(truth.service_level)


@pytest.mark.parametrize("per_hour", [1, 20, 200, 2880])
def test_with_patience_it_is_the_fewest_by_erlang_a(per_hour: int) -> None:
    found = need("voice", per_hour / 2, HOUR // 2, aht_ms=180_000, patience_ms=300_000, per_agent=1,
                 target=EIGHTY_TWENTY)  # fmt: skip
    assert found.formula == "A"
    assert erlang.erlang_a(per_hour, 180, 300, found.places).sl_excl_short_abandons >= 0.8
    if found.places > 1:
        assert erlang.erlang_a(per_hour, 180, 300, found.places - 1).sl_excl_short_abandons < 0.8


def test_several_chats_at_once_need_fewer_people_rounded_once() -> None:
    chat = need("chat", 30, HOUR, aht_ms=600_000, patience_ms=None, per_agent=4, target=EIGHTY_TWENTY)
    mail = need(
        "async", 10, HOUR, aht_ms=900_000, patience_ms=None, per_agent=10, target=Target(0.8, 8 * HOUR)
    )
    assert chat.agents == chat.places / 4
    assert together([chat, mail]) == -(-(chat.places * 10 + mail.places * 4) // 40)
    assert together([]) == 0


def test_shrinkage_is_taken_of_the_planned() -> None:
    assert staffing.to_schedule(14, 0.3) == 20
    assert staffing.to_schedule(0, 0.3) == 0


def test_nothing_coming_needs_nobody_and_absurd_loads_are_refused() -> None:
    nothing = need("voice", 0, HOUR, aht_ms=180_000, patience_ms=None, per_agent=1, target=EIGHTY_TWENTY)
    assert (nothing.agents, nothing.formula) == (0, "none")
    with pytest.raises(Invalid) as refused:
        need("voice", 1e9, HOUR, aht_ms=180_000, patience_ms=None, per_agent=1, target=EIGHTY_TWENTY)
    assert refused.value.code == "too_much_load"


def test_targets_are_read_or_refused_with_a_form() -> None:
    assert parse_target("80/20") == EIGHTY_TWENTY
    assert parse_target("95.5/0").share == pytest.approx(0.955)
    for wrong in ("80", "0/20", "100/20", "80/-1", "nan/20", "80/inf", "80/99999999", "", "80/20/5"):
        with pytest.raises(Invalid) as refused:
            parse_target(wrong)
        assert refused.value.code == "bad_target"


@given(st.text())
def test_any_text_is_a_target_or_a_clear_error(text: str) -> None:
    try:
        found = parse_target(text)
    except Invalid:
        return
    assert 0 < found.share < 1 and 0 <= found.within_ms <= 86_400_000


def test_limits_say_how_many_an_agent_has_at_once() -> None:
    settings = TeamSettings()
    assert staffing.places_per_agent("voice", settings) == 1
    assert staffing.places_per_agent("chat", settings) == 4
    assert staffing.places_per_agent("async", settings) == 10


# --- handling
def test_waiting_for_the_customer_and_silence_hold_no_place() -> None:
    assert held_ms([(0, 100)]) == 100
    assert held_ms([(0, 100), (200, 250)], pauses=[(50, 220)]) == 50 + 30
    assert held_ms([(0, None)]) is None
    assert held_ms([(0, None)], silent_at=70) == 70
    assert held_ms([(0, 50)], silent_at=70) == 50


def test_nights_are_no_handling_of_mail() -> None:
    hours = Calendar.from_spec({"tz": "UTC", "week": {d: [["09:00", "17:00"]] for d in ("mon", "tue")}})
    monday = 1_748_822_400_000  # 2025-06-02T00:00Z
    assert held_ms([(monday + 16 * HOUR, monday + 34 * HOUR)], calendar=hours) == 2 * HOUR


def past(**facts: Any) -> PastRequest:
    base: dict[str, Any] = {
        "source": "call", "id": 1, "team_id": 1, "channel": "voice", "kind": "call", "ready_at": 0,
        "outcome": Outcome.HANDLED, "left_at": 0,
    }  # fmt: skip
    return PastRequest(**base | facts)


def test_patience_is_all_waiting_for_each_who_gave_up() -> None:
    stats = HandleStats("voice")
    for _ in range(30):
        stats.add(past(left_at=20_000, handle_ms=60_000), 0)
    for _ in range(10):
        stats.add(past(outcome=Outcome.ABANDONED, left_at=40_000), 0)
    assert stats.patience_ms == (30 * 20_000 + 10 * 40_000) // 10
    assert (stats.aht_ms, stats.known) == (60_000, True)


def test_few_samples_are_a_guess_and_say_so() -> None:
    stats = HandleStats("chat")
    stats.add(past(channel="chat", handle_ms=5), 0)
    assert not stats.known
    assert stats.aht_ms == GUESSED_HANDLE_MS["chat"]
    assert stats.patience_ms is None


def test_concurrency_is_time_held_for_time_busy() -> None:
    stats = HandleStats("chat")
    for start in (0, 0, 50_000):
        stats.add(past(channel="chat", left_at=start, agent_id=7, handle_ms=100_000), 0)
    assert stats.concurrency == pytest.approx(300 / 150)


# --- attendance
def test_breaks_are_moves_inside_a_shift() -> None:
    told = [(10, "online"), (20, "break"), (30, "online"), (40, "offline"), (50, "online")]
    found = attendance.of_changes(told, Period(0, 100))
    assert found.shifts == ((10, 40), (50, 100))
    assert [(m.at, m.presence) for m in found.moves] == [(20, "break"), (30, "online")]
    assert found.online_ms == 10 + 10 + 50


def test_somebody_on_a_break_from_the_start_is_there_but_not_online() -> None:
    found = attendance.of_changes([(0, "break"), (30, "online")], Period(0, 100))
    assert found.shifts == ((0, 100),)
    assert found.online_ms == 70
    assert found.moves[0].presence == Presence.BREAK


def test_a_calendar_is_attended_in_all_its_hours() -> None:
    hours = Calendar.from_spec({"tz": "UTC", "week": {"mon": [["09:00", "12:00"], ["13:00", "17:00"]]}})
    monday = 1_748_822_400_000
    found = attendance.of_calendar(hours, Period(monday + 10 * HOUR, monday + 200 * HOUR))
    assert [(a - monday, b - monday) for a, b in found.shifts] == [
        (10 * HOUR, 12 * HOUR), (13 * HOUR, 17 * HOUR), (177 * HOUR, 180 * HOUR), (181 * HOUR, 185 * HOUR)
    ]  # fmt: skip
    never = Calendar.from_spec({"tz": "UTC", "week": {}})
    assert attendance.of_calendar(never, Period(0, 10)).shifts == ()
    assert attendance.of_calendar(None, Period(0, 10)).shifts == ((0, 10),)


# --- changes
def test_a_patch_merges_and_null_takes_away() -> None:
    now = {"channels": {"chat": {"max": 4, "weight": 25}}, "overflow": [2]}
    assert merged(now, {"channels": {"chat": {"max": 2}}, "overflow": None}) == {
        "channels": {"chat": {"max": 2, "weight": 25}}
    }
    assert now["overflow"] == [2]
    assert settings_of("T", now, {"channels": {"chat": {"max": 2}}}).channel("chat").maximum == 2


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ([], "change"),
        ({"team": {}}, "change.team"),
        ({"teams": {"A": 1}}, "teams.A"),
        ({"agents": {"add": [{"count": 2}]}}, "agents.add.0.teams"),
        ({"agents": {"add": [{"teams": ["A"], "skills": {"lang:uk": 9}}]}}, "agents.add.0.skills.lang:uk"),
        ({"agents": {"add": [{"teams": ["A"], "capacity": {"fax": 1}}]}}, "agents.add.0.capacity.fax"),
        ({"agents": {"add": [{"teams": ["A"], "works": "nights"}]}}, "agents.add.0.works"),
        (
            {"agents": {"add": [{"teams": ["A"], "works": {"week": {"mon": "x"}}}]}},
            "agents.add.0.works.week.mon",
        ),
        (
            {"agents": {"add": [{"teams": ["A"], "works": {"tz": "Mars", "week": {}}}]}},
            "agents.add.0.works.tz",
        ),
        ({"agents": {"add": [{"teams": ["A"], "count": 201}]}}, "agents.add.0.count"),
        ({"agents": {"change": {"B": {"count": 2}}}}, "agents.change.B.count"),
        ({"agents": {"remove": "B"}}, "agents.remove"),
    ],
)
def test_a_wrong_change_names_its_place(data: Any, path: str) -> None:
    with pytest.raises(ChangeError) as refused:
        Change.parse(data)
    assert refused.value.detail.startswith(f"{path}: ")


def test_wrong_settings_are_told_by_the_parser_of_the_team() -> None:
    with pytest.raises(ChangeError) as refused:
        settings_of("Support", {}, {"channels": {"chat": {"max": -1}}})
    assert refused.value.detail.startswith("teams.Support.channels.chat.max: ")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["teams", "agents", "add", "remove", "change", "skills", "count", "works", "A"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(_JSON)
def test_any_json_is_a_change_or_a_clear_error(data: Any) -> None:
    try:
        change = Change.parse(data)
        for patch in change.teams.values():
            settings_of("T", {}, patch)
    except ChangeError as error:
        assert error.http_status == 422


def test_endless_nesting_is_refused() -> None:
    deep: Any = {}
    for _ in range(200):
        deep = {"channels": deep}
    with pytest.raises(ChangeError):
        settings_of("T", {}, deep)


def test_every_language_has_every_note() -> None:
    english = words.NOTES["en"]
    for language, texts in words.NOTES.items():
        assert texts.keys() == english.keys(), language
        for code, text in texts.items():
            fields = {f.split("}")[0] for f in text.split("{")[1:]}
            assert fields == {f.split("}")[0] for f in english[code].split("{")[1:]}, (language, code)
    assert json.loads(json.dumps(words.note("no_history"))) == {"code": "no_history", "params": {}}
