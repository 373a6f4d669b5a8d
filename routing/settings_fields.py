"""Reading single values of a team's settings, each error naming its place. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crm_core.clock import SECOND
from crm_core.errors import Invalid


@dataclass(frozen=True, slots=True)
class Share:
    """A part of the SLA budget, 0-1."""

    of_budget: float


When = int | Share
"""Milliseconds since the item was ready, or a share of its budget."""

#: what an agent's skill can be called
_SKILL = re.compile(r"[a-z0-9_.:\-]{1,80}")


class SettingsError(Invalid):
    """A wrong value in a team's settings; the text names the place."""

    code = "bad_team_settings"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}", params={"errors": [{"loc": path.split("."), "msg": reason}]})
        self.path = path


def magnitude(when: When) -> float:
    return when.of_budget if isinstance(when, Share) else float(when)


def when(value: Any, path: str) -> When:
    if isinstance(value, str) and value.endswith("%"):
        try:
            percent = float(value[:-1])
        except ValueError:
            percent = -1.0
        if not 0 <= percent <= 100:
            raise SettingsError(path, f"{value!r} is no percentage from 0% to 100%")
        return Share(percent / 100)
    return number(value, path) * SECOND


def seconds(raw: Mapping[str, Any], key: str, default_ms: int, path: str, *, low: int = 0) -> int:
    if key not in raw:
        return default_ms
    return number(raw[key], f"{path}.{key}" if path else key, low=low) * SECOND


def number(value: Any, path: str, *, low: int = 0, high: int = 366 * 86_400) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise SettingsError(path, f"{value!r} is no whole number from {low} to {high}")
    return value


def share(value: Any, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise SettingsError(path, f"{value!r} is no number from 0 to 1")
    return float(value)


def flag(value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise SettingsError(path, f"{value!r} is neither true nor false")
    return value


def one_of(value: Any, allowed: tuple[str, ...], path: str) -> str:
    if value not in allowed:
        raise SettingsError(path, f"{value!r} is not one of {', '.join(allowed)}")
    return str(value)


def skill(value: Any, path: str) -> str:
    if not isinstance(value, str) or _SKILL.fullmatch(value) is None:
        raise SettingsError(path, f"{value!r} is no skill, such as product:visa")
    return value


def ids(value: Any, path: str) -> list[int]:
    return [number(v, f"{path}.{i}", low=1, high=2**62) for i, v in enumerate(sequence(value, path))]


def mapping(value: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise SettingsError(path, "must be an object")
    return value


def sequence(value: Any, path: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise SettingsError(path, "must be a list")
    return list(value)
