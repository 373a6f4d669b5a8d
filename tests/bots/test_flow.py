"""Flows: what is refused, with the place and the reason."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bots.flow import parse_flow
from bots.turn import choice_value
from crm_core.errors import Invalid

TRAVEL = Path("switchboard/demo/flows/travel.yaml").read_text()


def errors_of(text: str) -> list[tuple[str, str, int | None]]:
    with pytest.raises(Invalid) as caught:
        parse_flow(text)
    assert caught.value.code == "bad_flow"
    return [(".".join(map(str, e["loc"])), e["msg"], e.get("line")) for e in caught.value.params["errors"]]


def test_the_demo_flow_is_sound() -> None:
    flow = parse_flow(TRAVEL)
    assert (flow.warnings, flow.topics, flow.callback) == ((), "topics", "callback")
    assert flow.teams() == {"Sales", "Support"}


@pytest.mark.parametrize(("old", "new", "loc", "said"), [
    ("next: direction", "next: nowhere", "nodes.topics.choices.0.next", "there is no node 'nowhere'"),
    ("start: greeting", "start: x", "start", "there is no node 'x'"),
    ("callback: callback\n", "callback: phone\n", "callback", "no node of kind book_callback"),
    ('ru: "Сколько вас будет?"', "", "nodes.travellers.text", "missing in: ru"),
    ("[uk, ru, en]", "[uk, en]", "bot_name.ru", "does not declare"),
    ("value: tour", "value: " + "й" * 26, "nodes.topics.choices.0.value", "at most 50 bytes"),
    ("value: tour", "value: booking", "nodes.topics.choices.1.value", "used twice"),
    ("nodes:", "colour: red\nnodes:", "colour", "unknown key"),
    ("next: direction", "nxt: direction", "nodes.topics.choices.0.nxt", "unknown key"),
    ("kind: ask_contact", "kind: ask_kontact", "nodes.phone.kind", "kind must be one of message, menu"),
    ("next: topics\n\n  topics", "next: greeting\n\n  topics", "nodes.greeting", "without waiting"),
    ("{name}", "{nmae}", "nodes.greeting.text.uk", "unknown place {nmae}"),
    ("max_misses: 2", "max_misses: yes", "rules.max_misses", "valid integer"),
    ("format: 1", "format: 2", "format", "should be 1"),
    ("{kind: lead,", "{kind: leed,", "nodes.topics.choices.0.set.kind", "'ticket' or 'lead'"),
    ("Скільки вас буде?", "я" * 3501, "nodes.travellers.text.uk", "at most 3500"),
    ("    choices:", "    columns: 9\n    choices:", "nodes.topics.columns", "less than or equal to 8"),
    ("  phone:\n", "  Phone!:\n", "nodes.Phone!", "small letters"),
])  # fmt: skip
def test_a_fault_is_named_with_its_place(old: str, new: str, loc: str, said: str) -> None:
    assert old in TRAVEL
    text = TRAVEL.replace(old, new, 1)
    found = [(where, line) for where, message, line in errors_of(text) if said in message]
    assert loc in [where for where, _ in found], errors_of(text)
    assert all(line and 1 <= line <= text.count("\n") + 1 for _, line in found)


def test_the_line_is_the_line_of_the_fault() -> None:
    text = TRAVEL.replace("next: direction", "next: nowhere", 1)
    (error,) = errors_of(text)
    assert "next: nowhere" in text.splitlines()[(error[2] or 0) - 1]


def test_all_faults_are_told_at_once() -> None:
    text = TRAVEL.replace("next: direction", "next: nowhere", 1).replace("start: greeting", "start: x")
    assert len(errors_of(text)) == 2


def test_a_node_that_nothing_leads_to_is_a_warning() -> None:
    flow = parse_flow(TRAVEL + "\n  lost:\n    kind: end\n    text: {uk: а, ru: б, en: c}\n")
    assert [(w["loc"], w["msg"]) for w in flow.warnings] == [
        (["nodes", "lost"], "nothing leads to this node")
    ]


@pytest.mark.parametrize("text", [
    "", "a", "[1, 2]", "a: &x [1]\nb: *x", "a: *x", "!!python/object/apply:os.system [id]", "a: !!binary aGk=",
    "x: 1\nx: 2", "a: b: c", "\x00", 'a: "\\uD800"', 'a: "\\0"', "[" * 5_000, "{" * 5_000, "a: [" * 3_000, "a" * 70_000,
    "? [a]\n: b", "--- a\n--- b", "a: 1\n\tb: 2", "- " * 20_000, "\ufeff", "%YAML 9.9\n---\na: 1", "<<: {a: 1}",
    "nodes: {a: 5}", "nodes: {a: {kind: [x]}}", "nodes: []", "nodes: {1: {}}", "languages: {a: b}\nnodes: {}",
])  # fmt: skip
def test_hostile_text_is_refused_and_nothing_else(text: str) -> None:
    assert errors_of(text)


@given(st.text(max_size=300))
def test_any_text_gives_a_flow_or_an_error(text: str) -> None:
    with pytest.raises(Invalid):
        parse_flow(text)


@given(st.integers(0, len(TRAVEL) - 1), st.integers(0, 40), st.text(max_size=5))
def test_a_damaged_flow_gives_a_flow_or_an_error(at: int, cut: int, put: str) -> None:
    try:
        parse_flow(TRAVEL[:at] + put + TRAVEL[at + cut :])
    except Invalid as error:
        assert error.params["errors"]


def test_words_that_yaml_takes_for_something_else_stay_words() -> None:
    flow = parse_flow(TRAVEL.replace('uk: "Пропустити"', "").replace("value: tour", "value: no", 1))
    assert flow.nodes["topics"].choices[0].value == "no"  # type: ignore[union-attr]


def test_a_buttons_value_fits_into_what_telegram_carries() -> None:
    assert len(choice_value("n" * 40, "v" * 50).encode()) <= 64
