"""What a flow must be beyond its form: references that lead somewhere, no circles without a wait, every language.

Works on the models of `bots.flow` by their attributes, so that the two do not import each other in a circle.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from zlib import crc32

from bots.phrases import PHRASES

Found = tuple[tuple[str | int, ...], str]

PLACE = re.compile(r"\{([^{}]*)\}")
#: what may stand in braces in any text, beside the names under which answers are saved
KNOWN_PLACES = frozenset({"name", "phone", "next_opening", "number"})
_OWN_PLACES = {"callback_booked": {"call_time", "phone"}, "refined": {"label"}, "closed": {"next_opening"}}
_MAX_VALUE_BYTES = 50
_KINDS_WITHOUT_WAIT = ("message", "condition")


def mark_of(node: str) -> str:
    """What a node's buttons carry instead of its name, which may be long: six hex digits."""
    return f"{crc32(node.encode()) & 0xFFFFFF:06x}"


def targets(node: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Where a node leads: (path inside the node, name)."""
    if node.kind == "menu":
        for i, choice in enumerate(node.choices):
            yield ("choices", i, "next"), choice.next
    elif node.kind == "condition":
        yield ("then",), node.then
        yield ("else",), node.else_
    elif node.kind not in ("handoff", "end"):
        yield ("next",), node.next


def problems(head: Any, nodes: Mapping[str, Any]) -> Iterator[Found]:
    """Every reason why this flow cannot be used."""
    if len(set(head.languages)) != len(head.languages):
        yield ("languages",), "a language is named twice"
    if head.start not in nodes:
        yield ("start",), f"there is no node {head.start!r}"
    if head.callback is not None and getattr(nodes.get(head.callback), "kind", None) != "book_callback":
        yield ("callback",), f"{head.callback!r} is no node of kind book_callback"
    answers = {node.save_as for node in nodes.values() if node.kind in ("ask", "ask_contact")}
    for key, text in head.texts.items():
        if key not in PHRASES:
            yield ("texts", key), f"unknown text; known are {', '.join(PHRASES)}"
            continue
        if key.startswith("button_") and any(len(t) > 64 for t in text.values()):
            yield ("texts", key), "a button holds at most 64 characters"
        yield from _text(text, ("texts", key), head.languages, answers | _OWN_PLACES.get(key, set()))
    yield from _text(head.bot_name, ("bot_name",), head.languages, answers)
    yield from _marks(nodes)
    for name, node in nodes.items():
        loc = ("nodes", name)
        for path, target in targets(node):
            if target not in nodes:
                yield (*loc, *path), f"there is no node {target!r}"
        for attribute in ("text", "error"):
            text = getattr(node, attribute, None)
            if text is not None:
                yield from _text(text, (*loc, attribute), head.languages, answers)
        if node.kind == "menu":
            yield from _choices(node, loc, head.languages)
    yield from _circles(nodes)


def _marks(nodes: Mapping[str, Any]) -> Iterator[Found]:
    seen: dict[str, str] = {}
    for name in nodes:
        twin = seen.setdefault(mark_of(name), name)
        if twin != name:
            yield ("nodes", name), f"its buttons cannot be told from those of {twin!r}; choose another name"


def _text(
    text: Mapping[str, str], loc: tuple[str | int, ...], languages: list[str], answers: set[str]
) -> Iterator[Found]:
    missing = [lang for lang in languages if lang not in text]
    if missing:
        yield loc, f"the text is missing in: {', '.join(missing)}"
    for lang, written in text.items():
        if lang not in languages:
            yield (*loc, lang), "the flow does not declare this language"
        if not written.strip():
            yield (*loc, lang), "the text is empty"
        for place in PLACE.findall(written):
            if place not in KNOWN_PLACES and place not in answers:
                known = ", ".join(sorted(KNOWN_PLACES | answers))
                yield (*loc, lang), f"unknown place {{{place[:40]}}}; known are {known}"


def _choices(node: Any, loc: tuple[str | int, ...], languages: list[str]) -> Iterator[Found]:
    values: set[str] = set()
    labels: set[tuple[str, str]] = set()
    for i, choice in enumerate(node.choices):
        here = (*loc, "choices", i)
        yield from _text(choice.label, (*here, "label"), languages, set())
        if len(choice.value.encode()) > _MAX_VALUE_BYTES:
            yield (*here, "value"), f"at most {_MAX_VALUE_BYTES} bytes, this has {len(choice.value.encode())}"
        if choice.value in values:
            yield (*here, "value"), f"{choice.value!r} is used twice in this menu"
        values.add(choice.value)
        for lang, label in choice.label.items():
            if (lang, label.casefold()) in labels:
                yield (*here, "label", lang), f"{label!r} is used twice in this menu"
            labels.add((lang, label.casefold()))


def _circles(nodes: Mapping[str, Any]) -> Iterator[Found]:
    """Nodes that lead back to themselves without anybody being asked. `ask_contact` counts as not waiting if it may
    be skipped because the number is known.
    """

    def passes(node: Any) -> bool:
        return node.kind in _KINDS_WITHOUT_WAIT or (node.kind == "ask_contact" and node.skip_if_known)

    state: dict[str, int] = {}
    for root in nodes:
        if root in state:
            continue
        state[root] = 1
        stack = [(root, _steps(nodes, root, passes))]
        while stack:
            name, following = stack[-1]
            target = next(following, None)
            if target is None:
                state[name] = 2
                stack.pop()
            elif state.get(target) == 1:
                yield ("nodes", name), f"leads back to {target!r} without waiting for an answer"
            elif target in nodes and target not in state:
                state[target] = 1
                stack.append((target, _steps(nodes, target, passes)))


def _steps(nodes: Mapping[str, Any], name: str, passes: Any) -> Iterator[str]:
    node = nodes[name]
    return iter([target for _path, target in targets(node)] if passes(node) else [])


def warnings(head: Any, nodes: Mapping[str, Any]) -> Iterator[Found]:
    """What is odd but does no harm."""
    reached = {head.start, head.callback or head.start}
    todo = list(reached)
    while todo:
        for _path, target in targets(nodes[todo.pop()]):
            if target not in reached:
                reached.add(target)
                todo.append(target)
    for name in nodes:
        if name not in reached:
            yield ("nodes", name), "nothing leads to this node"
    if not any(node.kind == "handoff" for node in nodes.values()):
        yield (
            ("nodes",),
            "no node of kind handoff: people get a request only by word, silence or misunderstanding",
        )
