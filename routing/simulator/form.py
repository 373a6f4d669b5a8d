"""The JSON form of a scenario, read with errors that name their place: `agents.3.accept: 2 is no number from 0 to 1`.

Durations and instants are seconds, instants since the scenario's beginning; only `from` is an ISO instant. The form
is described in docs/simulation.md. Unknown keys are refused: a misspelt setting would silently be a default.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from crm_core.errors import Invalid
from routing import settings as team_settings
from routing.business_time import Calendar
from routing.calendar_spec import CalendarError
from routing.model import Channel, Presence, Requirements
from routing.settings import PRIORITIES
from routing.settings_fields import SettingsError
from routing.simulator.laws import LAWS, Law, fixed
from routing.simulator.scenario import (
    ATTENTION,
    HELD,
    Arrival,
    Kind,
    Move,
    Scenario,
    ScenarioAgent,
    ScenarioTeam,
    Stream,
    Target,
)

_YEAR_S = 366 * 86_400
_ID = 2**62
_CHANNELS = tuple(c.value for c in Channel)
_KINDS = ("ticket", "lead", "call", "callback")
T = TypeVar("T")


class ScenarioError(Invalid):
    """A wrong value in a scenario; the text names the place."""

    code = "bad_scenario"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            f"{path or 'scenario'}: {reason}", params={"errors": [{"loc": path.split("."), "msg": reason}]}
        )
        self.path = path


def parse(data: Any) -> Scenario:
    """A scenario of its JSON form.

    Raises:
        ScenarioError: 422, naming the wrong field.
    """
    root = _Node(data, "").object(
        "name", "from", "for_s", "teams", "agents", "arrivals", "streams", "max_arrivals", "warmup_arrivals",
        "attention",
    )  # fmt: skip
    start = root["from"].instant() if "from" in root else 0
    length = root["for_s"].ms(low=0.001) if "for_s" in root else None
    teams = tuple(_team(n) for n in root.need("teams").items(least=1))
    known_teams = _unique(((t.id, f"teams.{i}.id") for i, t in enumerate(teams)))
    agents = tuple(_agent(n, known_teams, start) for n in root.need("agents").items())
    _unique((a.id, f"agents.{i}.id") for i, a in enumerate(agents))
    arrivals = tuple(_arrival(n, known_teams, start) for n in root.items("arrivals"))
    late = next((i for i in range(1, len(arrivals)) if arrivals[i].at < arrivals[i - 1].at), None)
    if late is not None:
        raise ScenarioError(f"arrivals.{late}.at_s", "before the arrival before it")
    streams = tuple(_stream(n, known_teams) for n in root.items("streams"))
    most = root["max_arrivals"].whole(low=1, high=10**8) if "max_arrivals" in root else None
    if streams and length is None and most is None:
        raise ScenarioError("for_s", "streams have no end of their own: give for_s or max_arrivals")
    return Scenario(
        name=root["name"].text() if "name" in root else "", teams=teams, agents=agents, arrivals=arrivals,
        streams=streams, starts_at=start, ends_at=None if length is None else start + length,
        max_arrivals=most, warmup_arrivals=root["warmup_arrivals"].whole() if "warmup_arrivals" in root else 0,
        attention=root["attention"].one_of(ATTENTION) if "attention" in root else HELD,
    )  # fmt: skip


def _team(node: "_Node") -> ScenarioTeam:
    obj = node.object("id", "name", "settings", "calendar", "targets", "queue_limit")
    calendar = None
    if "calendar" in obj:
        try:
            calendar = Calendar.from_spec(obj["calendar"].value)
        except CalendarError as error:
            raise ScenarioError(obj["calendar"].path, str(error)) from error
    try:
        settings = team_settings.parse(obj["settings"].value if "settings" in obj else {})
    except SettingsError as error:
        raise ScenarioError(f"{node.path}.settings.{error.path}", error.detail.partition(": ")[2]) from error
    targets: dict[str, Target] = {}
    for channel, target in obj.entries("targets", _CHANNELS):
        parts = target.object("within_s", "percent")
        percent = parts["percent"].number(0, 100) if "percent" in parts else 80.0
        targets[channel] = Target(within_ms=parts.need("within_s").ms(), percent=percent)
    return ScenarioTeam(
        id=obj.need("id").whole(low=1, high=_ID), name=obj["name"].text() if "name" in obj else "",
        settings=settings, calendar=calendar, targets=targets,
        queue_limit={c: n.whole(high=10**6) for c, n in obj.entries("queue_limit", _CHANNELS)},
    )  # fmt: skip


def _agent(node: "_Node", teams: frozenset[int], start: int) -> ScenarioAgent:
    obj = node.object(
        "id", "name", "teams", "skills", "capacity", "shifts", "moves", "accept", "declines", "answer",
        "back_after_s",
    )  # fmt: skip
    shifts = []
    for shift in obj.items("shifts"):
        begin, end = (start + n.ms() for n in shift.items(least=2, most=2))
        if end <= begin:
            raise ScenarioError(shift.path, "ends before it begins")
        shifts.append((begin, end))
    moves = []
    for move in obj.items("moves"):
        parts = move.object("at_s", "presence")
        presences = tuple(p.value for p in Presence if p != Presence.WRAPUP)
        moves.append(
            Move(at=start + parts.need("at_s").ms(), presence=parts.need("presence").one_of(presences))
        )
    defaults = ScenarioAgent(id=1)
    return ScenarioAgent(
        id=obj.need("id").whole(low=1, high=_ID),
        name=obj["name"].text() if "name" in obj else "",
        teams=frozenset(_team_id(n, teams) for n in obj.need("teams").items()),
        skills={skill: n.whole(low=1, high=5) for skill, n in obj.entries("skills")},
        capacity={c: n.whole(high=10_000) for c, n in obj.entries("capacity", (*_CHANNELS, "load_max"))},
        shifts=tuple(shifts),
        moves=tuple(moves),
        accept=obj["accept"].number(0, 1) if "accept" in obj else defaults.accept,
        declines=obj["declines"].number(0, 1) if "declines" in obj else defaults.declines,
        answer=_law(obj["answer"], at_once=True) if "answer" in obj else defaults.answer,
        back_after_ms=obj["back_after_s"].ms(low=1) if "back_after_s" in obj else defaults.back_after_ms,
    )


def _arrival(node: "_Node", teams: frozenset[int], start: int) -> Arrival:
    obj = node.object(
        "at_s", "team", "channel", "handle_s", "kind", "label", "requirements", "priority", "vip", "manager",
        "sticky", "due_s", "reply_s", "patience_s", "ref",
    )  # fmt: skip
    at = start + obj.need("at_s").ms()
    due = obj.optional("due_s", _Node.ms)
    return Arrival(
        at=at, team_id=_team_id(obj.need("team"), teams), channel=obj.need("channel").one_of(_CHANNELS),
        handle_ms=obj.need("handle_s").ms(), kind=obj["kind"].one_of(_KINDS) if "kind" in obj else "ticket",
        label=obj["label"].text() if "label" in obj else "", requirements=_requirements(obj),
        priority=obj["priority"].one_of(PRIORITIES) if "priority" in obj else "normal",
        vip=obj["vip"].flag() if "vip" in obj else False,
        manager_id=obj.optional("manager", _Node.id), sticky_agent_id=obj.optional("sticky", _Node.id),
        due_at=None if due is None else at + due, reply_ms=obj.optional("reply_s", _Node.ms),
        patience_ms=obj.optional("patience_s", _Node.ms), ref=obj.optional("ref", _Node.id),
    )  # fmt: skip


def _stream(node: "_Node", teams: frozenset[int]) -> Stream:
    obj = node.object(
        "name", "team", "channel", "per_hour", "handle", "profile", "patience", "mix", "kind", "vip", "managed",
        "managers",
    )  # fmt: skip
    mix = tuple(_kind(n) for n in obj["mix"].items(least=1)) if "mix" in obj else (Kind(),)
    if sum(k.share for k in mix) <= 0:
        raise ScenarioError(obj["mix"].path, "the shares add up to nothing")
    return Stream(
        name=obj.need("name").text(), team_id=_team_id(obj.need("team"), teams),
        channel=obj.need("channel").one_of(_CHANNELS), per_hour=obj.need("per_hour").number(0, 10**7),
        handle=_law(obj.need("handle")), patience=_law(obj["patience"]) if "patience" in obj else None, mix=mix,
        profile=tuple(n.number(0, 1000) for n in obj.items("profile")),
        kind=obj["kind"].one_of(_KINDS) if "kind" in obj else "ticket",
        vip=obj["vip"].number(0, 1) if "vip" in obj else 0.0,
        managed=obj["managed"].number(0, 1) if "managed" in obj else 0.0,
        managers=tuple(n.id() for n in obj.items("managers")),
    )  # fmt: skip


def _kind(node: "_Node") -> Kind:
    obj = node.object("share", "label", "requirements", "priority", "due_s")
    return Kind(
        share=obj["share"].number(0, 10**6) if "share" in obj else 1.0,
        label=obj["label"].text() if "label" in obj else "", requirements=_requirements(obj),
        priority=obj["priority"].one_of(PRIORITIES) if "priority" in obj else "normal",
        due_ms=obj.optional("due_s", _Node.ms),
    )  # fmt: skip


def _requirements(obj: "_Object") -> Requirements:
    """{"required": {skill: level}, "preferred": {skill: level}, "hard": [skill]}"""
    if "requirements" not in obj:
        return Kind().requirements
    parts = obj["requirements"].object("required", "preferred", "hard")
    required = {skill: n.whole(low=1, high=5) for skill, n in parts.entries("required")}
    hard = frozenset(n.one_of(tuple(required)) for n in parts.items("hard"))
    preferred = {skill: n.whole(low=1, high=5) for skill, n in parts.entries("preferred")}
    return Requirements(required=required, preferred=preferred, hard=hard)


def _law(node: "_Node", *, at_once: bool = False) -> Law:
    """A number of seconds, or {"law", "mean_s", "cv"}."""
    low = 0.0 if at_once else 0.001
    if not isinstance(node.value, Mapping):
        return fixed(node.ms(low=low))
    obj = node.object("law", "mean_s", "cv")
    return Law(
        obj.need("law").one_of(LAWS),
        obj.need("mean_s").ms(low=low),
        obj["cv"].number(0.001, 100) if "cv" in obj else 1.0,
    )


def _team_id(node: "_Node", teams: frozenset[int]) -> int:
    value = node.id()
    if value not in teams:
        raise ScenarioError(node.path, f"there is no team {value}")
    return value


def _unique(ids: Iterator[tuple[int, str]]) -> frozenset[int]:
    seen: set[int] = set()
    for value, path in ids:
        if value in seen:
            raise ScenarioError(path, f"{value} is there twice")
        seen.add(value)
    return frozenset(seen)


@dataclass(frozen=True, slots=True)
class _Node:
    """A value and where it stands."""

    value: Any
    path: str

    def object(self, *keys: str) -> "_Object":
        if not isinstance(self.value, Mapping):
            raise ScenarioError(self.path, "must be an object")
        unknown = next((k for k in self.value if k not in keys), None)
        if unknown is not None:
            raise ScenarioError(_join(self.path, str(unknown)[:60]), f"unknown, one of {', '.join(keys)}")
        return _Object(self.value, self.path)

    def items(self, *, least: int = 0, most: int | None = None) -> "list[_Node]":
        if not isinstance(self.value, Sequence) or isinstance(self.value, str):
            raise ScenarioError(self.path, "must be a list")
        if len(self.value) < least or (most is not None and len(self.value) > most):
            raise ScenarioError(
                self.path, f"must have {least if least == most else f'at least {least}'} entries"
            )
        return [_Node(v, _join(self.path, str(i))) for i, v in enumerate(self.value)]

    def number(self, low: float, high: float) -> float:
        value = self.value
        good = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
        if not good or not math.isfinite(value):
            raise ScenarioError(self.path, f"{_shown(value)} is no number from {low:g} to {high:g}")
        return float(value)

    def whole(self, *, low: int = 0, high: int = 10**9) -> int:
        value = self.value
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ScenarioError(self.path, f"{_shown(value)} is no whole number from {low} to {high}")
        return value

    def id(self) -> int:
        return self.whole(low=1, high=_ID)

    def ms(self, *, low: float = 0.0) -> int:
        """Seconds as milliseconds."""
        return round(self.number(low, _YEAR_S) * 1000)

    def instant(self) -> int:
        try:
            moment = datetime.fromisoformat(self.value)
        except (TypeError, ValueError):
            moment = None
        if moment is None or moment.tzinfo is None:
            raise ScenarioError(
                self.path, f"{_shown(self.value)} is no instant with an offset, as 2026-03-02T08:00:00Z"
            )
        return round(moment.timestamp() * 1000)

    def text(self) -> str:
        if not isinstance(self.value, str) or len(self.value) > 200:
            raise ScenarioError(self.path, "must be a text of at most 200 characters")
        return self.value

    def flag(self) -> bool:
        if not isinstance(self.value, bool):
            raise ScenarioError(self.path, f"{_shown(self.value)} is neither true nor false")
        return self.value

    def one_of(self, allowed: Sequence[str]) -> str:
        if not isinstance(self.value, str) or self.value not in allowed:
            raise ScenarioError(self.path, f"{_shown(self.value)} is not one of {', '.join(allowed)}")
        return self.value


@dataclass(frozen=True, slots=True)
class _Object:
    """An object whose keys are known."""

    data: Mapping[str, Any]
    path: str

    def __contains__(self, key: str) -> bool:
        return self.data.get(key) is not None

    def __getitem__(self, key: str) -> _Node:
        return _Node(self.data[key], _join(self.path, key))

    def need(self, key: str) -> _Node:
        if key not in self:
            raise ScenarioError(_join(self.path, key), "is missing")
        return self[key]

    def optional(self, key: str, read: Callable[[_Node], T]) -> T | None:
        return read(self[key]) if key in self else None

    def items(self, key: str) -> list[_Node]:
        return self[key].items() if key in self else []

    def entries(self, key: str, allowed: Sequence[str] | None = None) -> Iterator[tuple[str, _Node]]:
        """The entries of an object under `key`; its keys are `allowed`, or short texts."""
        if key not in self:
            return
        node = self[key]
        if not isinstance(node.value, Mapping):
            raise ScenarioError(node.path, "must be an object")
        for name, value in node.value.items():
            if not isinstance(name, str) or len(name) > 100 or (allowed is not None and name not in allowed):
                wanted = f", one of {', '.join(allowed)}" if allowed is not None else ""
                raise ScenarioError(_join(node.path, str(name)[:60]), f"unknown{wanted}")
            yield name, _Node(value, _join(node.path, name))


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _shown(value: Any) -> str:
    return repr(value)[:60]
