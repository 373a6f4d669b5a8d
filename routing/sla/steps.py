"""Escalation steps: what is done when so much of a target is used up.

Owns their written form and the defaults. A step is a threshold of consumed time, whatever way it is
written, so a pause freezes it and working hours apply to it as they do to the target.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from crm_core.clock import HOUR, MINUTE, SECOND
from routing.sla.clock import Metric
from routing.sla.errors import SlaConfigError

MAX_PERCENT = 1000
MAX_STEPS = 20
_PERCENT = re.compile(r"(\d{1,4})\s*%")
_BEFORE = re.compile(r"(\d{1,6})\s*([smh])\s+before(?:\s+due)?")
_AFTER = re.compile(r"(\d{1,6})\s*([smh])\s+after(?:\s+breach)?")
_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR}


class ActionKind(StrEnum):
    NOTIFY_ASSIGNEE = "notify_assignee"
    NOTIFY_LEAD = "notify_lead"
    NOTIFY_AGENT = "notify_agent"
    NOTIFY_CHANNEL = "notify_channel"
    RAISE_PRIORITY = "raise_priority"
    REQUEUE = "requeue"
    ADD_OVERFLOW_TEAM = "add_overflow_team"
    WIDEN_ROUTING = "widen_routing"
    BROADCAST_OFFER = "broadcast_offer"
    TAG = "tag"
    WEBHOOK = "webhook"
    PAGE_ON_CALL = "page_on_call"


#: Actions that mean nothing without an object.
_NEED_VALUE = frozenset(
    {
        ActionKind.NOTIFY_AGENT,
        ActionKind.NOTIFY_CHANNEL,
        ActionKind.TAG,
        ActionKind.WEBHOOK,
        ActionKind.ADD_OVERFLOW_TEAM,
    }
)


@dataclass(frozen=True, slots=True)
class Action:
    do: ActionKind
    value: str | None = None

    def to_data(self) -> dict[str, str]:
        return {"do": str(self.do)} if self.value is None else {"do": str(self.do), "value": self.value}


@dataclass(frozen=True, slots=True)
class Step:
    """`name` is the canonical text and the step's identity: `75%`, `30m before`, `15m after`."""

    name: str
    percent: int | None
    offset_ms: int
    actions: tuple[Action, ...] = ()

    def threshold_ms(self, target_ms: int) -> int:
        """Consumed milliseconds at which the step fires, not negative."""
        if self.percent is not None:
            return target_ms * self.percent // 100
        return max(0, target_ms + self.offset_ms)


def parse_at(text: Any, path: str = "at") -> Step:
    """A step without actions, of `75%`, `30m before [due]` or `15m after [breach]`. Raises SlaConfigError."""
    if isinstance(text, str):
        plain = text.strip().lower()
        if match := _PERCENT.fullmatch(plain):
            percent = int(match[1])
            if not 0 < percent <= MAX_PERCENT:
                raise SlaConfigError(path, f"must be between 1% and {MAX_PERCENT}%, not {text!r}")
            return Step(f"{percent}%", percent, 0)
        for pattern, word, sign in ((_BEFORE, "before", -1), (_AFTER, "after", 1)):
            if match := pattern.fullmatch(plain):
                amount, unit = int(match[1]), match[2]
                if amount == 0:
                    raise SlaConfigError(path, "write 100% for the moment of the breach")
                return Step(f"{amount}{unit} {word}", None, sign * amount * _UNITS[unit])
    raise SlaConfigError(path, f"not a step: {text!r}; write 75%, 30m before or 15m after breach")


def parse_steps(value: Any, target_ms: int, path: str = "steps") -> tuple[Step, ...]:
    """Steps `[{at, actions}]` in the order they fire. Raises SlaConfigError."""
    if not isinstance(value, list | tuple):
        raise SlaConfigError(path, "must be a list of {at, actions}")
    if len(value) > MAX_STEPS:
        raise SlaConfigError(path, f"at most {MAX_STEPS} steps")
    steps: dict[int, Step] = {}
    for i, item in enumerate(value):
        where = f"{path}[{i}]"
        if not isinstance(item, Mapping) or set(item) - {"at", "actions"}:
            raise SlaConfigError(where, "must be an object with at and actions")
        bare = parse_at(item.get("at"), f"{where}.at")
        if target_ms + bare.offset_ms <= 0:
            raise SlaConfigError(f"{where}.at", "lies before the clock starts: the target is shorter")
        threshold = bare.threshold_ms(target_ms)
        if threshold in steps:
            raise SlaConfigError(f"{where}.at", f"same moment as {steps[threshold].name}")
        actions = _actions(item.get("actions", []), f"{where}.actions")
        steps[threshold] = Step(bare.name, bare.percent, bare.offset_ms, actions)
    return tuple(steps[threshold] for threshold in sorted(steps))


def default_steps(metric: Metric) -> tuple[Step, ...]:
    """50, 75, 90 and 100 %, then twice more at every further 100 %."""
    assignee, lead = Action(ActionKind.NOTIFY_ASSIGNEE), Action(ActionKind.NOTIFY_LEAD)
    # A first reply that is three quarters late has an answer in routing: let more people see it.
    wider = (Action(ActionKind.WIDEN_ROUTING),) if metric is Metric.FIRST_REPLY else ()
    plan = {
        50: (assignee,),
        75: (assignee, *wider),
        90: (assignee, lead),
        100: (assignee, lead),
        200: (lead,),
        300: (lead,),
    }
    return tuple(Step(f"{percent}%", percent, 0, actions) for percent, actions in plan.items())


def _actions(value: Any, path: str) -> tuple[Action, ...]:
    if not isinstance(value, list | tuple):
        raise SlaConfigError(path, "must be a list")
    actions = []
    for i, item in enumerate(value):
        where = f"{path}[{i}]"
        body = item if isinstance(item, Mapping) else {"do": item}
        try:
            kind = ActionKind(str(body.get("do")))
        except ValueError:
            known = ", ".join(ActionKind)
            raise SlaConfigError(where, f"unknown action {body.get('do')!r}; known are {known}") from None
        argument = body.get("value")
        if set(body) - {"do", "value"} or not (argument is None or (isinstance(argument, str) and argument)):
            raise SlaConfigError(where, "must be an action's name or {do, value} with a text value")
        if argument is None and kind in _NEED_VALUE:
            raise SlaConfigError(where, f"{kind} needs a value")
        actions.append(Action(kind, argument))
    return tuple(actions)
