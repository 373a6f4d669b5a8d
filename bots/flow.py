"""Flows as data: the form of a dialog, read from YAML and checked whole before it is stored.

A flow that passes `parse_flow` cannot send its dialog anywhere that does not exist, nor round in circles without
waiting for the customer. See docs/bots.md for the form.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bots import yaml_text
from bots.flow_checks import mark_of, problems, warnings
from crm_core.errors import Invalid
from crm_core.languages import LANGUAGES

FORMAT = 1
MAX_TEXT = 3_500
MAX_LABEL = 64
MAX_NODES = 200
MAX_CHOICES = 40
MAX_PER_ROW = 8
#: Telegram's callback_data holds 64 bytes; the node's mark takes the rest
MAX_VALUE_BYTES = 50

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Local = Annotated[dict[str, Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]], Field(min_length=1)]
Label = Annotated[dict[str, Annotated[str, Field(min_length=1, max_length=MAX_LABEL)]], Field(min_length=1)]
Short = Annotated[str, Field(min_length=1, max_length=120)]
Tag = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_:.-]{0,39}$")]
Outcome = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]{0,19}$")]
Scalar = Annotated[str, Field(max_length=500)] | int | bool


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Set(_Part):
    """What an answer changes on the inquiry."""

    kind: Literal["ticket", "lead"] | None = None
    priority: Literal["low", "normal", "high", "urgent"] | None = None
    tags: list[Tag] = Field(default_factory=list, max_length=10)
    team: Short | None = None
    skill: dict[Tag, Annotated[int, Field(ge=1, le=5)]] = Field(default_factory=dict, max_length=10)
    fields: dict[Name, Scalar] = Field(default_factory=dict, max_length=20)


class Choice(_Part):
    label: Label
    value: Annotated[str, Field(min_length=1)]
    next: Name
    set: Set = Set()


class Message(_Part):
    kind: Literal["message"]
    text: Local
    next: Name


class Menu(_Part):
    kind: Literal["menu"]
    text: Local
    choices: list[Choice] = Field(min_length=1, max_length=MAX_CHOICES)
    columns: Annotated[int, Field(ge=1, le=MAX_PER_ROW)] = 1


class Ask(_Part):
    kind: Literal["ask"]
    text: Local
    save_as: Name
    validate_as: Literal["text", "phone", "email", "number", "date_time"] = Field(
        default="text", alias="validate"
    )
    retries: Annotated[int, Field(ge=0, le=5)] | None = None
    error: Local | None = None
    optional: bool = False
    next: Name


class AskContact(_Part):
    kind: Literal["ask_contact"]
    text: Local
    save_as: Name = "phone"
    skip_if_known: bool = True
    optional: bool = False
    next: Name


class BookCallback(_Part):
    kind: Literal["book_callback"]
    text: Local | None = None
    note: Annotated[str, Field(max_length=500)] | None = None
    next: Name


class HandOff(_Part):
    kind: Literal["handoff"]
    text: Local | None = None
    reason: Tag = "flow"
    fields: dict[Name, Scalar] = Field(default_factory=dict, max_length=20)
    set: Set = Set()


class If(_Part):
    open: bool | None = None
    language: list[Literal["uk", "ru", "en"]] | None = None
    channel: list[Short] | None = None
    kind: Literal["ticket", "lead"] | None = None
    phone_known: bool | None = None


class Condition(_Part):
    kind: Literal["condition"]
    if_: If = Field(alias="if")
    then: Name
    else_: Name = Field(alias="else")


class End(_Part):
    kind: Literal["end"]
    text: Local
    outcome: Outcome = "answered_by_bot"


Node = Message | Menu | Ask | AskContact | BookCallback | HandOff | Condition | End
_KINDS: Mapping[str, type[_Part]] = {
    "message": Message, "menu": Menu, "ask": Ask, "ask_contact": AskContact, "book_callback": BookCallback,
    "handoff": HandOff, "condition": Condition, "end": End,
}  # fmt: skip


class Words(_Part):
    """Phrases beside the built-in ones, for all languages at once."""

    person: list[Short] = Field(default_factory=list, max_length=50)
    callback: list[Short] = Field(default_factory=list, max_length=50)


class Rules(_Part):
    idle_minutes: Annotated[int, Field(ge=1, le=1440)] = 10
    max_misses: Annotated[int, Field(ge=1, le=5)] = 2
    person_button: bool = True
    language_buttons: bool = False


class _Head(_Part):
    """The document without its nodes, which are read one by one for errors that name their kind."""

    format: Literal[1]
    name: Short
    bot_name: Label
    languages: list[Literal["uk", "ru", "en"]] = Field(min_length=1, max_length=len(LANGUAGES))
    team: Short | None = None
    start: Name
    first_text: Literal["handoff", "start"] = "handoff"
    callback: Name | None = None
    rules: Rules = Rules()
    words: Words = Words()
    texts: dict[Name, Local] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Problem:
    loc: yaml_text.Loc
    message: str


@dataclass(frozen=True)
class Flow:
    """A checked flow. `callback` is the node that books calls, `topics` the menu offered for refining; both may be
    None. `warnings` are for the author: nothing in them stops a dialog.
    """

    name: str
    bot_name: Mapping[str, str]
    languages: tuple[str, ...]
    team: str | None
    start: str
    first_text: str
    callback: str | None
    topics: str | None
    rules: Rules
    words: Words
    texts: Mapping[str, Mapping[str, str]]
    nodes: Mapping[str, Node]
    warnings: tuple[Mapping[str, Any], ...] = ()

    def by_mark(self, mark: str) -> str | None:
        """The node whose buttons carry this mark."""
        return next((name for name in self.nodes if mark_of(name) == mark), None)

    def teams(self) -> frozenset[str]:
        """Names of all teams that hours or changes may ask for."""
        named = {self.team}
        for node in self.nodes.values():
            named |= {part.team for part in _sets(node)}
        return frozenset(name for name in named if name)


def _sets(node: Node) -> Iterator[Set]:
    if isinstance(node, Menu):
        yield from (choice.set for choice in node.choices)
    elif isinstance(node, HandOff):
        yield node.set


def parse_flow(yaml_text_: str) -> Flow:
    """A flow of its YAML.

    Raises:
        Invalid: code `bad_flow`; `params["errors"]` lists every fault as `{"loc": [...], "msg": ..., "line": n}`.
    """
    return _parse(yaml_text_)


@lru_cache(maxsize=64)
def compiled(source: str) -> Flow:
    """As `parse_flow`, kept by content: for the flows that are in use."""
    return _parse(source)


def _parse(source: str) -> Flow:
    try:
        document = yaml_text.read(source)
    except yaml_text.YamlProblem as problem:
        raise _invalid([_shown(problem.loc, problem.message, problem.line or None)]) from None
    found: list[Problem] = []
    head, nodes = _read(document.data, found)
    if head is not None and not found:
        found.extend(Problem(loc, message) for loc, message in problems(head, nodes))
    if found or head is None:
        raise _invalid([_shown(p.loc, p.message, document.line_of(p.loc)) for p in found])
    callback = head.callback or next((n for n, node in nodes.items() if isinstance(node, BookCallback)), None)
    return Flow(
        name=head.name, bot_name=dict(head.bot_name), languages=tuple(head.languages), team=head.team,
        start=head.start, first_text=head.first_text, callback=callback, topics=_first_menu(head.start, nodes),
        rules=head.rules, words=head.words, texts={k: dict(v) for k, v in head.texts.items()}, nodes=nodes,
        warnings=tuple(_shown(loc, text, document.line_of(loc)) for loc, text in warnings(head, nodes)),
    )  # fmt: skip


def _read(data: Any, found: list[Problem]) -> tuple[_Head | None, dict[str, Node]]:
    if not isinstance(data, dict):
        found.append(Problem((), "a flow is a mapping with format, name, languages, start, nodes …"))
        return None, {}
    written = data.get("nodes")
    nodes: dict[str, Node] = {}
    if not isinstance(written, dict) or not written:
        found.append(Problem(("nodes",), "a mapping of node name to node is expected"))
        written = {}
    if len(written) > MAX_NODES:
        found.append(Problem(("nodes",), f"more than {MAX_NODES} nodes"))
        written = {}
    for name, body in written.items():
        node = _node(name, body, found)
        if node is not None:
            nodes[name] = node
    head = None
    try:
        head = _Head.model_validate({k: v for k, v in data.items() if k != "nodes"})
    except ValidationError as error:
        found.extend(_problems_of(error, ()))
    return head, nodes


def _node(name: str, body: Any, found: list[Problem]) -> Node | None:
    loc: yaml_text.Loc = ("nodes", name)
    if not _NAME(name):
        found.append(
            Problem(loc, "a node's name is 1 to 40 small letters, digits and _, beginning with a letter")
        )
        return None
    kind = body.get("kind") if isinstance(body, dict) else None
    model = _KINDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        found.append(
            Problem(
                (*loc, "kind") if isinstance(body, dict) else loc, f"kind must be one of {', '.join(_KINDS)}"
            )
        )
        return None
    try:
        return model.model_validate(body)  # type: ignore[return-value]
    except ValidationError as error:
        found.extend(_problems_of(error, loc))
        return None


def _NAME(name: str) -> bool:  # noqa: N802 - the check that belongs to `Name`
    return (
        len(name) <= 40
        and name.isascii()
        and name[:1].islower()
        and name.replace("_", "a").isalnum()
        and (name == name.lower())
    )


def _problems_of(error: ValidationError, prefix: yaml_text.Loc) -> Iterable[Problem]:
    for each in error.errors(include_url=False):
        loc = tuple(part for part in each["loc"] if part not in ("[key]", "str", "int", "bool"))
        message = each["msg"]
        if each["type"] == "extra_forbidden":
            message = "unknown key"
        elif each["type"] == "missing":
            message = "is required"
        yield Problem((*prefix, *loc), message[:300])


def _shown(loc: Iterable[str | int], message: str, line: int | None) -> dict[str, Any]:
    return {"loc": list(loc), "msg": message, **({"line": line} if line else {})}


def _invalid(errors: list[dict[str, Any]]) -> Invalid:
    first = errors[0]
    where = ".".join(str(part) for part in first["loc"])
    line = f"line {first['line']}: " if "line" in first else ""
    return Invalid(
        f"{line}{where + ': ' if where else ''}{first['msg']}", code="bad_flow", params={"errors": errors}
    )


def _first_menu(start: str, nodes: Mapping[str, Node]) -> str | None:
    """The menu that a greeting leads to."""
    name: str | None = start
    for _ in range(len(nodes)):
        node = nodes.get(name) if name else None
        if isinstance(node, Menu):
            return name
        name = node.next if isinstance(node, Message) else node.then if isinstance(node, Condition) else None
    return None
