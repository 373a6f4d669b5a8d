"""What a customer's words want, whatever the dialog asked: a person, a callback, one of the choices."""

from bots import language
from bots.flow import Choice, Flow, Menu
from bots.turn import Turn, labels_of
from bots.turns import Facts, Said, State

RESTART = frozenset({"start", "menu", "help", "restart"})
PERSON_COMMANDS = frozenset({"person", "human", "operator", "agent"})
CALLBACK_COMMANDS = frozenset({"callback", "call"})


def asks_person(turn: Turn, said: Said) -> bool:
    words = {**language.PERSON, "own": turn.flow.words.person}
    return (
        said.command in PERSON_COMMANDS
        or turn.says_button(said.text, "button_person")
        or language.is_phrase(said.text, words)
        or language.holds_phrase(said.text, words, longest=60)
    )


def asks_callback(turn: Turn, said: Said) -> bool:
    if turn.flow.callback is None:
        return False
    words = {**language.CALLBACK, "own": turn.flow.words.callback}
    return (
        said.command in CALLBACK_COMMANDS
        or turn.says_button(said.text, "button_callback")
        or language.is_phrase(said.text, words)
        or language.holds_phrase(said.text, words, longest=40)
    )


def wants_bot(flow: Flow, text: str) -> bool:
    """Whether a text to people is meant for the bot all the same: nothing but the word for a callback."""
    if flow.callback is None:
        return False
    words = {**language.CALLBACK, "own": flow.words.callback}
    return language.is_phrase(text, words) or _label(flow, text, "button_callback")


def _label(flow: Flow, text: str, phrase: str) -> bool:
    return Turn(flow, State(node=flow.start, language=flow.languages[0]), Facts(now=0)).says_button(
        text, phrase
    )


def choice_of(flow: Flow, menu: str, value: str) -> Choice | None:
    node = flow.nodes.get(menu)
    return next((c for c in node.choices if c.value == value), None) if isinstance(node, Menu) else None


def typed_choice(menu: Menu, text: str) -> Choice | None:
    """By number, value or label of any language."""
    said = language.plain(text)
    if said.isascii() and said.isdigit() and 1 <= int(said[:3]) <= len(menu.choices):
        return menu.choices[int(said[:3]) - 1]
    for choice in menu.choices:
        if said and said in labels_of([choice.value, *choice.label.values()]):
            return choice
    return None
