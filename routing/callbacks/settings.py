"""What a team says about its callbacks: `team.settings["callbacks"]`, with defaults and clear errors. Pure.

Durations in the JSON end in `_s` (seconds) or `_min` (minutes); inside everything is milliseconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from crm_core.clock import DAY, HOUR, MINUTE, SECOND
from crm_core.errors import Invalid

OUTCOMES = (
    "answered",
    "busy",
    "no_answer",
    "machine",
    "rejected",
    "failed",
    "invalid_number",
    "abandoned",
)
#: an outcome that is the network's or our own doing does not use up one of the customer's tries
UNCOUNTED = frozenset({"failed", "abandoned"})


class Mode(StrEnum):
    """How a due promise is dialled."""

    PREVIEW = "preview"
    AGENT_FIRST = "agent_first"
    CUSTOMER_FIRST = "customer_first"


class SettingsError(Invalid):
    """A wrong value under `callbacks`; the text names the place."""

    code = "bad_team_settings"

    def __init__(self, path: str, reason: str) -> None:
        place = f"callbacks.{path}" if path else "callbacks"
        super().__init__(f"{place}: {reason}", params={"errors": [{"loc": place.split("."), "msg": reason}]})


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPlan:
    """When to try again after each outcome. `busy_ms` and `no_answer_ms`: the delay after the first, second … such
    outcome; after the last of `no_answer_ms` it is the next day at another time of day, after the last of `busy_ms`
    its last delay again. All delays are spread by `jitter` either way.
    """

    busy_ms: tuple[int, ...] = (5 * MINUTE, 10 * MINUTE, 20 * MINUTE)
    no_answer_ms: tuple[int, ...] = (30 * MINUTE, 2 * HOUR)
    failed_ms: int = 2 * MINUTE
    rejected_again: int = 1
    max_counted: int = 5
    max_uncounted: int = 5
    horizon_ms: int = 3 * DAY
    jitter: float = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackSettings:
    """Everything a team can say.

    `mode` is for promises with a time, `hold_mode` for places kept in the queue. `reserve_ms`: how long one agent's
    phone rings before the next agent is asked. `card_ms`: a card that was taken in preview and not dialled goes to
    somebody else after it. `share`: the part of the team's hours that may be promised in slots; `aht_ms`: what one
    call takes. `tolerance_ms`: how late a promise still counts as kept on time. Customer-first needs at least
    `min_free` free agents, `per_agent` free agents for each call that rings, and no more than `max_abandoned` of the
    last day's answered ones lost. `deputies`: who stands in for an owner, by his id; "*" for everybody's.
    """

    mode: Mode = Mode.PREVIEW
    hold_mode: Mode = Mode.AGENT_FIRST
    reserve_ms: int = 20 * SECOND
    card_ms: int = 5 * MINUTE
    tolerance_ms: int = 5 * MINUTE
    share: float = 0.25
    aht_ms: int = 6 * MINUTE
    owner_ms: int = MINUTE
    deputy_ms: int = MINUTE
    deputies: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    min_free: int = 2
    per_agent: float = 1.0
    max_abandoned: float = 0.03
    connect_ms: int = 20 * SECOND
    hold_tries: int = 3
    quarantine_ms: int = MINUTE
    snooze_ms: int = 15 * MINUTE
    pause_ms: int = 2 * HOUR
    inbound_fulfils: bool = True
    retry: RetryPlan = RetryPlan()


DEFAULTS = CallbackSettings()

#: key in the JSON -> (field, unit in ms, lowest, highest)
_DURATIONS: Mapping[str, tuple[str, int, int, int]] = {
    "reserve_s": ("reserve_ms", SECOND, 5, 60),
    "card_s": ("card_ms", SECOND, 30, 3_600),
    "tolerance_s": ("tolerance_ms", SECOND, 0, 86_400),
    "aht_s": ("aht_ms", SECOND, 30, 14_400),
    "owner_s": ("owner_ms", SECOND, 0, 3_600),
    "deputy_s": ("deputy_ms", SECOND, 0, 3_600),
    "connect_s": ("connect_ms", SECOND, 2, 120),
    "quarantine_s": ("quarantine_ms", SECOND, 30, 120),
    "snooze_s": ("snooze_ms", SECOND, 60, 86_400),
    "pause_s": ("pause_ms", SECOND, 60, 7 * 86_400),
}
_SHARES = {
    "share": ("share", 0.0, 1.0),
    "per_agent": ("per_agent", 0.1, 10.0),
    "max_abandoned": ("max_abandoned", 0.0, 1.0),
}
_COUNTS = {"min_free": ("min_free", 0, 1000), "hold_tries": ("hold_tries", 1, 10)}


def parse(data: Any) -> CallbackSettings:
    """Settings of their JSON form; what is missing has its default. Raises SettingsError naming the wrong field.

    Keys: `mode`, `hold_mode` (preview, agent_first, customer_first), the durations `reserve_s`, `card_s`,
    `tolerance_s`, `aht_s`, `owner_s`, `deputy_s`, `connect_s`, `quarantine_s`, `snooze_s`, `pause_s`, `share`,
    `per_agent`, `max_abandoned`, `min_free`, `hold_tries`, `inbound_fulfils`, `deputies` ({"<agent id>" or "*":
    [agent ids]}), `retry` {`busy_min`, `no_answer_min`, `failed_min`, `rejected_again`, `max_counted`,
    `max_uncounted`, `horizon_days`, `jitter`}.
    """
    root = _mapping(data if data is not None else {}, "")
    values: dict[str, Any] = {}
    for key, raw in root.items():
        if key in _DURATIONS:
            name, unit, low, high = _DURATIONS[key]
            values[name] = _number(raw, key, low, high) * unit
        elif key in _SHARES:
            name, least, most = _SHARES[key]
            values[name] = _share(raw, key, least, most)
        elif key in _COUNTS:
            name, low, high = _COUNTS[key]
            values[name] = _number(raw, key, low, high)
        elif key in ("mode", "hold_mode"):
            values[key] = _mode(raw, key)
        elif key == "inbound_fulfils":
            if not isinstance(raw, bool):
                raise SettingsError(key, f"{raw!r} is neither true nor false")
            values[key] = raw
        elif key == "deputies":
            values[key] = _deputies(raw)
        elif key == "retry":
            values[key] = _retry(raw)
        else:
            raise SettingsError(str(key)[:60], "unknown")
    return replace(DEFAULTS, **values)


def read(team_settings: Any) -> CallbackSettings:
    """Of a team's stored settings; wrong ones must not stop a promise, so the defaults stand in for them."""
    try:
        return parse(team_settings.get("callbacks") if isinstance(team_settings, Mapping) else None)
    except SettingsError:
        return DEFAULTS


def _retry(raw: Any) -> RetryPlan:
    found: dict[str, Any] = {}
    for key, value in _mapping(raw, "retry").items():
        path = f"retry.{key}"
        match key:
            case "busy_min" | "no_answer_min":
                if not isinstance(value, list) or not 1 <= len(value) <= 10:
                    raise SettingsError(path, "must be a list of 1 to 10 minutes")
                found[f"{key[:-4]}_ms"] = tuple(
                    _number(v, f"{path}.{i}", 1, 7 * 1440) * MINUTE for i, v in enumerate(value)
                )
            case "failed_min":
                found["failed_ms"] = _number(value, path, 1, 1440) * MINUTE
            case "rejected_again":
                found[key] = _number(value, path, 0, 10)
            case "max_counted" | "max_uncounted":
                found[key] = _number(value, path, 1, 50)
            case "horizon_days":
                found["horizon_ms"] = _number(value, path, 1, 60) * DAY
            case "jitter":
                found[key] = _share(value, path, 0.0, 0.5)
            case _:
                raise SettingsError(path[:60], "unknown")
    return RetryPlan(**found)


def _deputies(raw: Any) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for key, value in _mapping(raw, "deputies").items():
        if key != "*" and not (str(key).isascii() and str(key).isdigit()):
            raise SettingsError("deputies", f'{str(key)[:20]!r} is neither an agent\'s id nor "*"')
        if not isinstance(value, list) or len(value) > 10:
            raise SettingsError(f"deputies.{key}", "must be a list of at most 10 agents' ids")
        found[str(key)] = tuple(_number(v, f"deputies.{key}.{i}", 1, 2**62) for i, v in enumerate(value))
    return found


def _mode(raw: Any, path: str) -> Mode:
    if raw not in tuple(Mode):
        raise SettingsError(path, f"{raw!r} is not one of {', '.join(Mode)}")
    return Mode(raw)


def _number(value: Any, path: str, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise SettingsError(path, f"{value!r} is no whole number from {low} to {high}")
    return value


def _share(value: Any, path: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise SettingsError(path, f"{value!r} is no number from {low} to {high}")
    return float(value)


def _mapping(value: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise SettingsError(path, "must be an object")
    return value
