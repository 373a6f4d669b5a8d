"""A team's routing settings: defaults, reading them from `team.settings`, clear errors for wrong ones.

The JSON may also hold keys of other parts of the product; only ours are read. Seconds in the JSON end in
`_s`, inside everything is milliseconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from crm_core.clock import HOUR, MINUTE, SECOND
from crm_core.errors import Invalid
from routing.model import Channel

MODES = ("offer", "assign")
AFTER_HOURS = ("park", "online", "ignore")
SCOPES = ("manager", "sticky", "preferred", "required", "relaxed", "overflow")
PRIORITIES = ("low", "normal", "high", "urgent")


@dataclass(frozen=True, slots=True)
class Share:
    """A part of the SLA budget, 0-1."""

    of_budget: float


When = int | Share
"""Milliseconds since the item was ready, or a share of its budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSettings:
    """How one channel is routed. Durations are ms.

    `reserve_ms`: the usual handling time; no window opened for the manager's sake may eat into it.
    `interrupts`: channels whose load does not count when this one is offered. `inactive_ms`: an assigned
    item that was silent so long gives its place back.
    """

    mode: str
    timeout_ms: int
    max_wait_ms: int
    maximum: int
    weight: int
    sticky_wait: When
    reserve_ms: int
    interrupts: frozenset[str] = frozenset()
    boosts: Mapping[str, int] = field(default_factory=dict)
    vip_boost_ms: int = 0
    wrapup_ms: int = 0
    inactive_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSettings:
    """One ring of the bullseye: who may serve from `at` on. `skip_if_empty`: with nobody online, go on at
    once.
    """

    scope: str
    at: When = 0
    skip_if_empty: bool = False


_LIVE_BOOSTS = {"urgent": 2 * MINUTE, "high": 30 * SECOND, "normal": 0, "low": -MINUTE}
_ASYNC_BOOSTS = {"urgent": 4 * HOUR, "high": HOUR, "normal": 0, "low": -2 * HOUR}

DEFAULT_CHANNELS: Mapping[str, ChannelSettings] = {
    Channel.VOICE: ChannelSettings(
        mode="offer",
        timeout_ms=20 * SECOND,
        max_wait_ms=MINUTE,
        maximum=1,
        weight=100,
        sticky_wait=15 * SECOND,
        reserve_ms=0,
        interrupts=frozenset({Channel.ASYNC}),
        boosts=_LIVE_BOOSTS,
        vip_boost_ms=2 * MINUTE,
        wrapup_ms=30 * SECOND,
    ),
    Channel.CHAT: ChannelSettings(
        mode="offer",
        timeout_ms=25 * SECOND,
        max_wait_ms=3 * MINUTE,
        maximum=4,
        weight=25,
        sticky_wait=45 * SECOND,
        reserve_ms=MINUTE,
        interrupts=frozenset({Channel.ASYNC}),
        boosts=_LIVE_BOOSTS,
        vip_boost_ms=2 * MINUTE,
        inactive_ms=10 * MINUTE,
    ),
    Channel.ASYNC: ChannelSettings(
        mode="assign",
        timeout_ms=2 * MINUTE,
        max_wait_ms=8 * HOUR,
        maximum=10,
        weight=10,
        sticky_wait=Share(0.5),
        reserve_ms=15 * MINUTE,
        boosts=_ASYNC_BOOSTS,
        vip_boost_ms=2 * HOUR,
    ),
    Channel.CALLBACK: ChannelSettings(
        mode="offer",
        timeout_ms=30 * SECOND,
        max_wait_ms=5 * MINUTE,
        maximum=1,
        weight=100,
        sticky_wait=MINUTE,
        reserve_ms=0,
        interrupts=frozenset({Channel.ASYNC}),
        boosts=_LIVE_BOOSTS,
        vip_boost_ms=2 * MINUTE,
    ),
}
DEFAULT_STEPS: tuple[StepSettings, ...] = (
    StepSettings(scope="manager", skip_if_empty=True),
    StepSettings(scope="sticky", skip_if_empty=True),
    StepSettings(scope="preferred", skip_if_empty=True),
    StepSettings(scope="required", at=Share(0.25)),
    StepSettings(scope="relaxed", at=Share(0.5)),
    StepSettings(scope="overflow", at=Share(0.75)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamSettings:
    """Everything a team can say about its routing. `version` grows with each edit and is stored with
    decisions.

    `after_hours`: what happens when the team's calendar is closed. park (default): wait for the opening;
    online: whoever is online all the same may serve; ignore: the calendar does not matter. Items of a
    priority in `on_call` (and VIPs if `on_call_vip`) are never parked.

    `late_share`: how often a free agent takes the earliest of the late items while others can still be had
    in time; 1 is pure earliest deadline first. Those late by more than `max_overdue_ms` come first always.
    """

    channels: Mapping[str, ChannelSettings] = field(default_factory=lambda: DEFAULT_CHANNELS)
    steps: tuple[StepSettings, ...] = DEFAULT_STEPS
    overflow: tuple[int, ...] = ()
    after_hours: str = "park"
    on_call: frozenset[str] = frozenset()
    on_call_vip: bool = False
    lead_max_wait_ms: int = 15 * MINUTE
    load_max: int = 100
    exclude_ms: int = 300 * SECOND
    misses_to_break: int = 2
    rounds_per_step: int = 3
    enforce_shifts: bool = False
    late_share: float = 1.0
    max_overdue_ms: int = 4 * HOUR
    default: bool = False
    version: int = 1

    def channel(self, name: str) -> ChannelSettings:
        return self.channels[name]


DEFAULTS = TeamSettings()


class SettingsError(Invalid):
    """A wrong value in a team's settings; the text names the place."""

    code = "bad_team_settings"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}", params={"errors": [{"loc": path.split("."), "msg": reason}]})
        self.path = path


def parse(data: Any) -> TeamSettings:
    """Settings of their JSON form; what is missing has its default.

    Keys: `channels.<voice|chat|async|callback>.{mode, timeout_s, max_wait_s, max, weight, sticky_wait,
    reserve_s, interrupts, boosts_s, vip_boost_s, wrapup_s, inactive_s}`, `steps` (list of {scope, at,
    skip_if_empty}; `at` and `sticky_wait` are seconds or "25%"), `overflow` (team ids), `after_hours`,
    `on_call` {priorities, vip}, `lead_max_wait_s`, `load_max`, `exclude_s`, `misses_to_break`,
    `rounds_per_step`, `enforce_shifts`, `late_share` (0-1), `max_overdue_s`, `default`, `version`.

    Raises:
        SettingsError: 422, naming the wrong field.
    """
    root = _mapping(data if data is not None else {}, "settings")
    channels = dict(DEFAULT_CHANNELS)
    for name, raw in _mapping(root.get("channels", {}), "channels").items():
        if name not in channels:
            raise SettingsError(f"channels.{name}", f"unknown channel, one of {', '.join(channels)}")
        channels[name] = _channel(channels[name], _mapping(raw, f"channels.{name}"), f"channels.{name}")
    on_call = _mapping(root.get("on_call", {}), "on_call")
    base = DEFAULTS
    return TeamSettings(
        channels=channels,
        steps=_steps(root["steps"]) if "steps" in root else DEFAULT_STEPS,
        overflow=tuple(_ids(root.get("overflow", ()), "overflow")),
        after_hours=_one_of(root.get("after_hours", base.after_hours), AFTER_HOURS, "after_hours"),
        on_call=frozenset(
            _one_of(p, PRIORITIES, "on_call.priorities")
            for p in _sequence(on_call.get("priorities", ()), "on_call.priorities")
        ),
        on_call_vip=_flag(on_call.get("vip", False), "on_call.vip"),
        lead_max_wait_ms=_seconds(root, "lead_max_wait_s", base.lead_max_wait_ms, ""),
        load_max=_number(root.get("load_max", base.load_max), "load_max", low=1),
        exclude_ms=_seconds(root, "exclude_s", base.exclude_ms, ""),
        misses_to_break=_number(root.get("misses_to_break", base.misses_to_break), "misses_to_break", low=1),
        rounds_per_step=_number(root.get("rounds_per_step", base.rounds_per_step), "rounds_per_step", low=1),
        enforce_shifts=_flag(root.get("enforce_shifts", False), "enforce_shifts"),
        late_share=_share(root.get("late_share", base.late_share), "late_share"),
        max_overdue_ms=_seconds(root, "max_overdue_s", base.max_overdue_ms, ""),
        default=_flag(root.get("default", False), "default"),
        version=_number(root.get("version", 1), "version", low=1),
    )


def read(data: Any) -> tuple[TeamSettings, str | None]:
    """As `parse`, but stored settings that became wrong must not stop routing: defaults and the error's
    text.
    """
    try:
        return parse(data), None
    except SettingsError as error:
        return DEFAULTS, error.detail


def duration_of(when: When, budget_ms: int) -> int:
    """Milliseconds of a duration that may be a share of the budget."""
    return round(when.of_budget * max(budget_ms, 0)) if isinstance(when, Share) else when


def _channel(base: ChannelSettings, raw: Mapping[str, Any], path: str) -> ChannelSettings:
    boosts = dict(base.boosts)
    for priority, seconds in _mapping(raw.get("boosts_s", {}), f"{path}.boosts_s").items():
        _one_of(priority, PRIORITIES, f"{path}.boosts_s")
        boosts[priority] = _number(seconds, f"{path}.boosts_s.{priority}", low=-366 * 86_400) * SECOND
    inactive = raw.get("inactive_s", base.inactive_ms and base.inactive_ms // SECOND)
    return replace(
        base,
        mode=_one_of(raw.get("mode", base.mode), MODES, f"{path}.mode"),
        timeout_ms=_seconds(raw, "timeout_s", base.timeout_ms, path, low=1),
        max_wait_ms=_seconds(raw, "max_wait_s", base.max_wait_ms, path, low=1),
        maximum=_number(raw.get("max", base.maximum), f"{path}.max"),
        weight=_number(raw.get("weight", base.weight), f"{path}.weight"),
        sticky_wait=_when(raw["sticky_wait"], f"{path}.sticky_wait")
        if "sticky_wait" in raw
        else base.sticky_wait,
        reserve_ms=_seconds(raw, "reserve_s", base.reserve_ms, path),
        interrupts=frozenset(
            _one_of(c, tuple(Channel), f"{path}.interrupts")
            for c in _sequence(raw["interrupts"], f"{path}.interrupts")
        )
        if "interrupts" in raw
        else base.interrupts,
        boosts=boosts,
        vip_boost_ms=_seconds(raw, "vip_boost_s", base.vip_boost_ms, path),
        wrapup_ms=_seconds(raw, "wrapup_s", base.wrapup_ms, path),
        inactive_ms=None if inactive is None else _number(inactive, f"{path}.inactive_s", low=1) * SECOND,
    )


def _steps(raw: Any) -> tuple[StepSettings, ...]:
    steps: list[StepSettings] = []
    for i, entry in enumerate(_sequence(raw, "steps")):
        path = f"steps.{i}"
        step = _mapping(entry, path)
        scope = _one_of(step.get("scope"), SCOPES, f"{path}.scope")
        if steps and SCOPES.index(scope) <= SCOPES.index(steps[-1].scope):
            raise SettingsError(f"{path}.scope", f"{scope!r} after {steps[-1].scope!r}: steps may only widen")
        at = _when(step.get("at", 0), f"{path}.at")
        before = next(
            (s.at for s in reversed(steps) if isinstance(s.at, Share) == isinstance(at, Share)), None
        )
        if before is not None and _magnitude(at) < _magnitude(before):
            raise SettingsError(f"{path}.at", "earlier than the step before")
        skip = _flag(step.get("skip_if_empty", scope in ("manager", "sticky")), f"{path}.skip_if_empty")
        steps.append(StepSettings(scope=scope, at=at, skip_if_empty=skip))
    if not any(s.scope not in ("manager", "sticky") for s in steps):
        raise SettingsError(
            "steps", "at least one step must ask the team (preferred, required, relaxed or overflow)"
        )
    return tuple(steps)


def _magnitude(when: When) -> float:
    return when.of_budget if isinstance(when, Share) else float(when)


def _when(value: Any, path: str) -> When:
    if isinstance(value, str) and value.endswith("%"):
        try:
            percent = float(value[:-1])
        except ValueError:
            percent = -1.0
        if not 0 <= percent <= 100:
            raise SettingsError(path, f"{value!r} is no percentage from 0% to 100%")
        return Share(percent / 100)
    return _number(value, path) * SECOND


def _seconds(raw: Mapping[str, Any], key: str, default_ms: int, path: str, *, low: int = 0) -> int:
    if key not in raw:
        return default_ms
    return _number(raw[key], f"{path}.{key}" if path else key, low=low) * SECOND


def _number(value: Any, path: str, *, low: int = 0, high: int = 366 * 86_400) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise SettingsError(path, f"{value!r} is no whole number from {low} to {high}")
    return value


def _share(value: Any, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise SettingsError(path, f"{value!r} is no number from 0 to 1")
    return float(value)


def _flag(value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise SettingsError(path, f"{value!r} is neither true nor false")
    return value


def _one_of(value: Any, allowed: tuple[str, ...], path: str) -> str:
    if value not in allowed:
        raise SettingsError(path, f"{value!r} is not one of {', '.join(allowed)}")
    return str(value)


def _ids(value: Any, path: str) -> list[int]:
    return [_number(v, f"{path}.{i}", low=1, high=2**62) for i, v in enumerate(_sequence(value, path))]


def _mapping(value: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise SettingsError(path, "must be an object")
    return value


def _sequence(value: Any, path: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise SettingsError(path, "must be a list")
    return list(value)
