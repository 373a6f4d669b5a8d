"""Reading a flow's YAML: plain data and the line of every value, from text that nobody has checked.

Only mappings, lists, texts, whole numbers, true, false and null are read. Anchors, aliases, tags and several documents
are refused, so neither a bomb of aliases nor a constructor can be written. Words such as `yes`, `no`, `on` and times
such as `14:30` stay text, whatever YAML 1.1 makes of them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_BYTES = 64 * 1024
_MAX_DEPTH = 12
_MAX_VALUES = 20_000
_INT = re.compile(r"-?(0|[1-9]\d{0,14})")
#: NUL and half surrogates cannot be stored, the other controls cannot be shown
_BAD_CHARS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")

Loc = tuple[str | int, ...]


class YamlProblem(Exception):
    """The text is not the YAML we read. `line` counts from 1, 0 if unknown."""

    def __init__(self, line: int, message: str, loc: Loc = ()) -> None:
        super().__init__(message)
        self.line = line
        self.message = message
        self.loc = loc


@dataclass(slots=True)
class Document:
    data: Any
    lines: dict[Loc, int] = field(default_factory=dict)

    def line_of(self, loc: Loc) -> int | None:
        """The line of a value, or of the nearest thing around it."""
        while loc:
            if loc in self.lines:
                return self.lines[loc]
            loc = loc[:-1]
        return self.lines.get(())


@dataclass(slots=True)
class _Open:
    """A mapping or list that is being read."""

    value: dict[str, Any] | list[Any]
    loc: Loc
    key: str | None = None


def read(text: str) -> Document:
    """The document in `text`. Raises YamlProblem."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise YamlProblem(0, f"a flow may have at most {MAX_BYTES // 1024} kB")
    try:
        return _build(yaml.parse(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise YamlProblem(line, f"not YAML: {error.problem or error.context or 'cannot be read'}") from None
    except yaml.YAMLError as error:
        raise YamlProblem(0, f"not YAML: {str(error).splitlines()[0][:200]}") from None
    except RecursionError:
        raise YamlProblem(0, "nested too deeply") from None


def _build(events: Iterator[yaml.Event]) -> Document:
    document = Document(None)
    stack: list[_Open] = []
    documents = values = 0
    for event in events:
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise YamlProblem(line, "one document only")
        elif isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise YamlProblem(line, "anchors and aliases (& and *) are not read here")
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            stack.pop()
        elif isinstance(event, yaml.NodeEvent):
            values += 1
            if values > _MAX_VALUES:
                raise YamlProblem(line, f"more than {_MAX_VALUES} values")
            tag = getattr(event, "tag", None)
            if tag is not None:
                raise YamlProblem(line, f"tags such as {str(tag)[:40]} are not read here")
            _place(event, line, stack, document)
    return document


def _place(event: yaml.NodeEvent, line: int, stack: list[_Open], document: Document) -> None:
    parent = stack[-1] if stack else None
    if parent is not None and isinstance(parent.value, dict) and parent.key is None:
        if not isinstance(event, yaml.ScalarEvent):
            raise YamlProblem(line, "a key must be a word", parent.loc)
        key = _text(event.value, line, parent.loc)
        if key in parent.value:
            raise YamlProblem(line, f"{key!r} is written twice", (*parent.loc, key))
        parent.key = key
        return
    loc: Loc = ()
    if parent is not None:
        loc = (*parent.loc, parent.key if isinstance(parent.value, dict) else len(parent.value))  # type: ignore[arg-type]
    value: Any
    if isinstance(event, yaml.ScalarEvent):
        value = _scalar(event, line, loc)
    else:
        value = {} if isinstance(event, yaml.MappingStartEvent) else []
        if len(stack) >= _MAX_DEPTH:
            raise YamlProblem(line, f"nested deeper than {_MAX_DEPTH}", loc)
        stack.append(_Open(value, loc))
    document.lines[loc] = line
    if parent is None:
        document.data = value
    elif isinstance(parent.value, dict):
        parent.value[str(parent.key)] = value
        parent.key = None
    else:
        parent.value.append(value)


def _scalar(event: yaml.ScalarEvent, line: int, loc: Loc) -> Any:
    written = event.value
    if event.style is None:
        if written in ("", "~", "null"):
            return None
        if written in ("true", "false"):
            return written == "true"
        if _INT.fullmatch(written):
            return int(written)
    return _text(written, line, loc)


def _text(written: str, line: int, loc: Loc) -> str:
    if _BAD_CHARS.search(written):
        raise YamlProblem(line, "a character that cannot be stored or shown", loc)
    return str(written)
