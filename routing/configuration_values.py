"""A team's settings as a flat list of named values: with defaults marked, compared, and said in words. Pure.

A path is where the value stands in the JSON that `routing.settings.parse` reads ("channels.chat.timeout_s").
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from crm_core.clock import SECOND
from crm_core.languages import spoken
from routing.configuration_words import SAID, TITLES, VALUES
from routing.settings import DEFAULTS, StepSettings, TeamSettings
from routing.settings_fields import Share

#: settings whose name in the JSON is not that of the field
_NAMES = {
    "maximum": "max",
    "on_call": "on_call.priorities",
    "on_call_vip": "on_call.vip",
    "on_call_team": "on_call.team",
}
#: kept as a fraction, written as a percentage
_PERCENT = ("vip_steps",)
#: milliseconds or a share of the budget; in the JSON seconds or "25%"
_WHEN = ("sticky_wait", "at")
#: no setting: the counter of edits
_OUTSIDE = ("version",)
#: read by others, or by nobody
_ELSEWHERE = (*_OUTSIDE, "callbacks")
#: tables whose keys are agents or channels
_TABLES = ("leads.weights", "leads.caps", ".interrupts_up_to", ".boosts_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One value that differs. `before` or `after` is None where there was or will be nothing."""

    path: str
    before: Any
    after: Any

    def as_data(self) -> dict[str, Any]:
        return {"path": self.path, "before": self.before, "after": self.after}


def as_json(settings: TeamSettings) -> dict[str, Any]:
    """The whole settings in the form that `routing.settings.parse` reads; parsing it gives the same again."""
    nested: dict[str, Any] = {}
    for path, value in values_of(settings).items():
        at = nested
        *branches, leaf = path.split(".")
        for branch in branches:
            at = at.setdefault(branch, {})
        at[leaf] = value
    return nested


def values_of(settings: TeamSettings) -> dict[str, Any]:
    """Path -> value, defaults included, in a stable order."""
    found: dict[str, Any] = {}
    _collect(settings, "", found)
    return {path: value for path, value in found.items() if path not in _OUTSIDE}


def unknown_key(data: Mapping[str, Any]) -> str | None:
    """The path of the first key that says nothing (a typing error), None if every key is a setting.

    Stored settings are not asked: what an older version knew must not stop routing.
    """
    known = set(values_of(DEFAULTS))

    def walk(raw: Mapping[str, Any], path: str) -> str | None:
        for key, value in raw.items():
            here = _join(path, str(key))
            if here in known or here in _ELSEWHERE or here.endswith(_TABLES):
                continue
            if not any(k.startswith(f"{here}.") for k in known):
                return here
            if isinstance(value, Mapping) and (found := walk(value, here)) is not None:
                return found
        return None

    parts = {field.name for field in fields(StepSettings)}
    for i, step in enumerate(data.get("steps") or ()):
        if strange := sorted(set(step) - parts):
            return f"steps.{i}.{strange[0]}"
    return walk(data, "")


def marked(settings: TeamSettings) -> list[dict[str, Any]]:
    """[{"path", "value", "default", "is_default"}] of every value."""
    usual = values_of(DEFAULTS)
    return [
        {"path": path, "value": value, "default": usual.get(path), "is_default": usual.get(path) == value}
        for path, value in values_of(settings).items()
    ]


def compare(before: TeamSettings, after: TeamSettings) -> list[Change]:
    """What differs in effect: a default that is only spelled out is no change."""
    old, new = values_of(before), values_of(after)
    return [
        Change(path=path, before=old.get(path), after=new.get(path))
        for path in dict.fromkeys((*old, *new))
        if old.get(path) != new.get(path)
    ]


def touches_capacity(changes: Iterable[Change]) -> bool:
    """Whether agents' own limits follow from one of these."""
    return any(
        c.path == "load_max" or (c.path.startswith("channels.") and c.path.endswith(".max")) for c in changes
    )


def in_words(change: Change, language: str) -> str:
    """As in: Chats, time to take an offer: 25 s → 40 s."""
    short = spoken(language)
    return f"{_title(change.path, short)}: {_said(change.path, change.before, short)} → " + _said(
        change.path, change.after, short
    )


# --- settings to values
# -------------------------------------------------------------------------------------------
def _collect(value: Any, path: str, found: dict[str, Any]) -> None:
    if is_dataclass(value) and not isinstance(value, Share | type):
        for field in fields(value):
            _collect_field(field.name, getattr(value, field.name), path, found)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            _collect(inner, _join(path, str(key)), found)
    else:
        found[path] = _plain(value)


def _collect_field(name: str, value: Any, path: str, found: dict[str, Any]) -> None:
    name = _NAMES.get(name, name)
    if name == "boosts":
        for priority, ms in value.items():
            found[_join(path, f"boosts_s.{priority}")] = ms // SECOND
    elif name in _WHEN and isinstance(value, int):
        found[_join(path, name)] = value // SECOND
    elif name in _PERCENT:
        found[_join(path, name)] = _plain(Share(value))
    elif name.endswith("_ms"):
        found[_join(path, f"{name[:-3]}_s")] = None if value is None else value // SECOND
    elif name == "steps":
        found[_join(path, name)] = [_step(s) for s in value]
    else:
        _collect(value, _join(path, name), found)


def _step(step: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    _collect(step, "", found)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Share):
        percent = round(value.of_budget * 100, 6)
        return f"{percent:g}%"
    if isinstance(value, frozenset | set):
        return sorted(str(v) for v in value)
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


# --- values to words
# ----------------------------------------------------------------------------------------------
def _title(path: str, language: str) -> str:
    titles = TITLES[language]
    head, _, rest = path.partition(".")
    if head == "channels" and "." in rest:
        channel, _, name = rest.partition(".")
        return f"{titles.get(f'channel.{channel}', channel)}, {_name(name, titles, language)}"
    if head == "agents" and "." in rest:
        _, _, name = rest.partition(".")
        return _name(name, titles, language)
    return _name(path, titles, language)


def _name(path: str, titles: Mapping[str, str], language: str) -> str:
    """The title of a path; of one entry in a table (an agent's share, a skill), the table's and the entry's."""
    if path in titles:
        return titles[path]
    table, _, entry = path.partition(".")
    while entry and table not in titles and "." in entry:
        step, _, entry = entry.partition(".")
        table = f"{table}.{step}"
    return f"{titles[table]}, {VALUES[language].get(entry, entry)}" if table in titles else path


def _said(path: str, value: Any, language: str) -> str:
    words = VALUES[language]
    if value is None:
        return SAID[language]["nothing"]
    if isinstance(value, bool):
        return SAID[language]["yes" if value else "no"]
    if path == "steps":
        return _steps_said(value, language)
    if isinstance(value, list):
        return ", ".join(words.get(str(v), str(v)) for v in value) or SAID[language]["nothing"]
    wait = path.endswith((".sticky_wait", "_s")) or "boosts_s." in path
    if wait and isinstance(value, int):
        return _duration(value, language)
    return words.get(str(value), str(value))


def _steps_said(steps: Sequence[Mapping[str, Any]], language: str) -> str:
    words = VALUES[language]
    said = []
    for step in steps:
        at = step.get("at", 0)
        when = f" ({_duration(at, language) if isinstance(at, int) else at})" if at else ""
        said.append(words.get(str(step["scope"]), str(step["scope"])) + when)
    return ", ".join(said)


def _duration(seconds: int, language: str) -> str:
    units = SAID[language]
    sign, rest = ("−", -seconds) if seconds < 0 else ("", seconds)
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if rest >= length and rest % length == 0:
            return f"{sign}{rest // length} {units[unit]}"
    return f"{sign}{rest} {units['seconds']}"
