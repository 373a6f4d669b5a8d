"""The engine alone: whatever comes, it waits, or people have it, or it is over; and it never raises."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bots import engine
from bots.flow import Flow, parse_flow
from bots.turn import choice_value
from bots.turns import (
    Arrived,
    Book,
    Booked,
    End,
    Facts,
    HandOff,
    Input,
    NotBooked,
    Pressed,
    Said,
    Say,
    SharedPhone,
    Silence,
)
from crm_core.clock import DAY
from routing.business_time import Calendar
from tests.bots.support import WEEK, kyiv

TRAVEL = parse_flow(Path("switchboard/demo/flows/travel.yaml").read_text())
OFFICE = Calendar.from_spec({"tz": "Europe/Kyiv", "week": WEEK})
FACTS = Facts(
    now=kyiv(2, 12), calendars={None: OFFICE, "Sales": OFFICE, "Support": OFFICE}, languages=("uk",)
)

EVERYTHING = parse_flow("""
format: 1
name: All kinds
bot_name: {en: Bot}
languages: [en]
start: first
first_text: start
rules: {max_misses: 3, language_buttons: true}
texts:
  callback_time: {en: "When, {name}?"}
nodes:
  first: {kind: condition, if: {open: true, channel: [telegram, webchat], phone_known: false}, then: menu, else: hello}
  hello: {kind: message, text: {en: "Opens {next_opening}"}, next: menu}
  menu:
    kind: menu
    text: {en: Choose}
    columns: 3
    choices:
      - {label: {en: Mail}, value: mail, next: mail, set: {kind: lead}}
      - {label: {en: Day}, value: day, next: day}
      - {label: {en: Bye}, value: bye, next: bye}
      - {label: {en: Again}, value: again, next: first}
      - {label: {en: Phone}, value: phone, next: phone}
      - {label: {en: Number}, value: number, next: number}
  mail: {kind: ask, text: {en: "Mail?"}, save_as: mail, validate: email, retries: 0, next: lead}
  lead: {kind: condition, if: {kind: lead, language: [en]}, then: phone, else: menu}
  day: {kind: ask, text: {en: "Day?"}, save_as: day, validate: date_time, error: {en: "No day"}, next: menu}
  number: {kind: ask, text: {en: "Number?"}, save_as: n, validate: number, optional: true, next: call}
  phone: {kind: ask, text: {en: "Phone?"}, save_as: own, validate: phone, next: call}
  call: {kind: book_callback, next: menu}
  bye: {kind: end, text: {en: "Bye {mail}"}}
  give: {kind: handoff, set: {team: Sales}}
""")

_texts = st.one_of(
    st.sampled_from(
        [
            "/start",
            "/callback",
            "/x",
            "привіт",
            "hello",
            "1",
            "2",
            "7",
            "call me",
            "a person",
            "skip",
            "no",
            "завтра 15:00",
            "tomorrow at 3 pm",
            "asap",
            "0501234567",
            "+1 900 555 1234",
            "101",
            "english",
            "ua",
            "Хочу тур",
            "12.5",
            "a@b.co",
            "Mail",
            "tour",
            "👍",
            "субота",
            "21:00",
            "01.01.2030",
            "вчора",
        ]
    ),
    st.text(max_size=40),
)
_values = st.one_of(
    st.sampled_from(
        [
            "x:person",
            "x:callback",
            "x:skip",
            "x:asap",
            "x:lang:en",
            "x:lang:ru",
            "x:lang:",
            "x:at:",
            "x:at:1",
            f"x:at:{kyiv(3, 15)}",
            f"x:at:{kyiv(7, 15)}",
            "f:",
            "f:000000:x",
            "x:at:²",
        ]
    ),
    st.sampled_from([choice_value("topics", v) for v in ("tour", "call", "hours", "visa", "none")]),
    st.sampled_from([choice_value("menu", v) for v in ("mail", "bye", "again", "number")]),
    st.text(max_size=64),
)
_inputs: st.SearchStrategy[Input] = st.one_of(
    st.builds(
        Said,
        text=_texts,
        files=st.booleans(),
        command=st.sampled_from([None, None, "start", "callback", "person", "x"]),
        payload=st.sampled_from([None, "promo"]),
    ),
    st.builds(Pressed, value=_values, id=st.sampled_from([None, "1", "2"])),
    st.builds(SharedPhone, e164=st.sampled_from(["+380501234567", "+380800300400"])),
    st.just(Arrived()),
    st.just(Silence()),
    st.builds(Booked, due_at=st.just(kyiv(3, 15)), phone=st.just("+380501234567")),
    st.builds(NotBooked, code=st.sampled_from(["no_phone", "bad_window", "not_callable", "other"])),
)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.tuples(_inputs, st.integers(0, DAY)), min_size=1, max_size=12),
    st.sampled_from([TRAVEL, EVERYTHING]),
    st.sampled_from([None, "+380501234567"]),
    st.booleans(),
)
def test_any_conversation_ends_somewhere_sane(
    heard: list[tuple[Input, int]], flow: Flow, phone: str | None, held: bool
) -> None:
    facts = replace(FACTS, phone=phone, channel="telegram", can_share_contact=held)
    first, _ = heard[0]
    state, actions = (engine.begin if held else engine.beside)(flow, first, facts)
    check(flow, state, actions)
    for each, later in heard[1:]:
        facts = replace(facts, now=facts.now + later)
        was = state
        state, actions = engine.step(flow, state, each, facts)
        check(flow, state, actions)
        if was.status != "active" or not was.holds:
            assert not any(isinstance(a, HandOff | End) for a in actions), (
                "it has been given to people already"
            )
        if isinstance(each, Silence):
            assert state.status != "active"


def check(flow: Flow, state: Any, actions: Any) -> None:
    assert state.status in ("active", "handed_off", "ended")
    assert state.node in flow.nodes
    handed = [a for a in actions if isinstance(a, HandOff)]
    assert len(handed) <= 1
    assert len([a for a in actions if isinstance(a, Book)]) <= 1
    if handed:
        assert state.status == "handed_off"
    for action in actions:
        if isinstance(action, Say):
            assert action.text.strip() and len(action.text) <= 3_700
            for row in action.buttons:
                assert 1 <= len(row) <= 8
                assert all(b.label.strip() and len(b.value.encode()) <= 64 for b in row)
    if state.status == "active" and state.phase == "booking":
        return
    if state.status == "active" and state.misses:
        assert state.misses < 5


def said(text: str, **more: Any) -> Said:
    return Said(text=text, **more)


def talk(*heard: Input, flow: Flow = TRAVEL, facts: Facts = FACTS) -> tuple[Any, list[Any]]:
    state, actions = engine.begin(flow, heard[0], facts)
    for each in heard[1:]:
        state, actions = engine.step(flow, state, each, facts)
    return state, list(actions)


def words(actions: list[Any]) -> str:
    return "\n".join(a.text for a in actions if isinstance(a, Say))


def test_a_promise_that_cannot_be_kept_asks_again_and_then_gives_up() -> None:
    start = (said("передзвоніть"), said("0501234567"), said("завтра 15:00"))
    state, actions = talk(*start, NotBooked(code="not_callable"))
    assert state.phase == "phone" and "не можемо зателефонувати" in words(actions)
    state, actions = talk(*start, NotBooked(code="strange"))
    assert state.status == "handed_off" and "Не вдалося" in words(actions)


def test_toll_free_numbers_are_not_called() -> None:
    state, actions = talk(said("передзвоніть"), said("0800 300 400"))
    assert state.phase == "phone" and "не можемо зателефонувати" in words(actions)


def test_a_day_without_a_time_gets_its_slots() -> None:
    state, actions = talk(said("передзвоніть"), said("0501234567"), said("завтра"))
    assert state.slots == (kyiv(3, 9), kyiv(3, 11)) and state.misses == 0
    assert "Коли вам" in words(actions)


def test_a_known_number_is_not_asked_for() -> None:
    state, _ = talk(said("передзвоніть"), facts=replace(FACTS, phone="+380501234567"))
    assert state.phase == "time"


@pytest.mark.parametrize(
    ("text", "problem"),
    [("вчора о 15:00", "Не зрозумів"), ("01.06.2025 15:00", "минув"), ("01.06.2030 15:00", "не плануємо")],
)
def test_impossible_times(text: str, problem: str) -> None:
    state, actions = talk(said("передзвоніть"), said("0501234567"), said(text))
    if text.startswith("вчора"):
        assert not any(isinstance(a, Book) and a.at is not None and a.at < FACTS.now for a in actions)
    else:
        assert problem in words(actions) and state.status == "active"


def test_a_flow_without_the_name_of_a_customer_leaves_no_hole() -> None:
    _, actions = talk(said("/start", command="start"))
    assert words(actions).startswith("Вітаємо! Це")


def test_a_payload_of_the_link_goes_with_the_request() -> None:
    _, actions = talk(said("/start promo1", command="start", payload="promo1"), said("Хочу в Рим на вихідні"))
    (given_,) = [a for a in actions if isinstance(a, HandOff)]
    assert given_.fields == {"start_payload": "promo1"} and given_.request == "Хочу в Рим на вихідні"


def test_the_end_of_a_flow_ends_the_inquiry() -> None:
    state, actions = talk(said("hi"), said("bye"), flow=EVERYTHING, facts=replace(FACTS, languages=("en",)))
    assert state.status == "ended" and actions[-2:] == [Say(text="Bye"), End(outcome="answered_by_bot")]
