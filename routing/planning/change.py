"""What is to be different in a what-if: settings of teams, agents added, removed or changed. Parsing and names; pure.

    {"teams": {"Support": {"channels": {"chat": {"max": 3}}, "overflow": [2]}},
     "agents": {"add": [{"teams": ["Support"], "count": 2, "skills": {"lang:uk": 4}, "works": "team_hours"}],
                "remove": ["Olena Tkachenko"],
                "change": {"Dmytro Bondar": {"skills": {"lang:en": 4}, "capacity": {"chat": 2}}}}}

A team's settings are merged into what it had then (RFC 7396: an object merges, null takes away) and read by the same
parser as the team's own, so a what-if can ask for what the team could really be told, and nothing else. `"today"` in
place of them: the rules that it has now.
https://www.rfc-editor.org/rfc/rfc7396
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from crm_core.errors import Invalid
from routing import settings as team_settings
from routing.business_time import Calendar
from routing.calendar_spec import CalendarError
from routing.configuration_values import unknown_key
from routing.model import Channel
from routing.settings import TeamSettings
from routing.settings_fields import SettingsError

MAX_ADDED = 200
#: settings nest less deep than this
MAX_DEPTH = 12
WORKS = ("team_hours", "always")
TODAY = "today"
_CAPACITY = (*(c.value for c in Channel), "load_max")


class ChangeError(Invalid):
    """A wrong part of a change; the text names the place."""

    code = "bad_change"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}", params={"errors": [{"loc": path.split("."), "msg": reason}]})


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentWish:
    """An agent to add, or what of one changes; None means as it is. `works`: team_hours or always; `hours`: shifts
    in the form of a calendar (without `tz`: the team's zone); `like`: the id or name of the agent who lends his
    attendance (and, to an added one, his skills and limits).
    """

    name: str | None = None
    teams: tuple[str, ...] | None = None
    skills: Mapping[str, int] | None = None
    capacity: Mapping[str, int] | None = None
    works: str | None = None
    hours: Mapping[str, Any] | None = None
    like: str | None = None
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Teams and agents are named by id or name, as the asker wrote them; `replay` resolves them."""

    teams: Mapping[str, Mapping[str, Any] | str] = field(default_factory=dict)
    add: tuple[AgentWish, ...] = ()
    remove: tuple[str, ...] = ()
    change: Mapping[str, AgentWish] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Raises ChangeError naming the place."""
        root = _object(data, "change", ("teams", "agents"))
        teams = _object(root.get("teams", {}), "teams")
        agents = _object(root.get("agents", {}), "agents", ("add", "remove", "change"))
        add = tuple(
            _agent(entry, f"agents.add.{i}", new=True)
            for i, entry in enumerate(_list(agents.get("add", ()), "agents.add"))
        )
        if sum(a.count for a in add) > MAX_ADDED:
            raise ChangeError("agents.add", f"at most {MAX_ADDED} agents can be added")
        changed = _object(agents.get("change", {}), "agents.change")
        return cls(
            teams={str(k): _patch(v, f"teams.{k}") for k, v in teams.items()},
            add=add,
            remove=_names(agents.get("remove", ()), "agents.remove"),
            change={str(k): _agent(v, f"agents.change.{k}", new=False) for k, v in changed.items()},
        )

    @property
    def is_empty(self) -> bool:
        return not (self.teams or self.add or self.remove or self.change)


def merged(settings: Any, patch: Any, depth: int = 0) -> Any:
    """RFC 7396: `patch` into `settings`, neither is changed. Raises ChangeError if it nests without end."""
    if depth > MAX_DEPTH:
        raise ChangeError("teams", f"settings nest at most {MAX_DEPTH} deep")
    if not isinstance(patch, Mapping):
        return patch
    result = dict(settings) if isinstance(settings, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value, depth + 1)
    return result


def settings_of(team: str, current: Any, patch: Mapping[str, Any]) -> TeamSettings:
    """The team's settings after the change. Raises ChangeError."""
    try:
        after = team_settings.parse(merged(current, patch))
    except SettingsError as error:
        raise ChangeError(
            f"teams.{team}.{error.path}", error.detail.removeprefix(f"{error.path}: ")
        ) from error
    if (strange := unknown_key(patch)) is not None:
        raise ChangeError(f"teams.{team}.{strange}", "is no setting")
    return after


def _patch(value: Any, path: str) -> Mapping[str, Any] | str:
    if value != TODAY and not isinstance(value, Mapping):
        raise ChangeError(path, f'must be an object of settings, or "{TODAY}"')
    return _object(value, path) if isinstance(value, Mapping) else TODAY


def _agent(value: Any, path: str, *, new: bool) -> AgentWish:
    known = ("name", "teams", "skills", "capacity", "works", "like", *(("count",) if new else ()))
    entry = _object(value, path, known)
    teams = _names(entry["teams"], f"{path}.teams") if "teams" in entry else None
    if new and not teams:
        raise ChangeError(f"{path}.teams", "name at least one team")
    if "like" in entry and "works" in entry:
        raise ChangeError(path, "write `works` or `like`, not both")
    works = entry.get("works")
    hours = dict(works) if isinstance(works, Mapping) else None
    if hours is not None:
        hours_of(hours, "UTC", f"{path}.works")
    elif works is not None and works not in WORKS:
        raise ChangeError(
            f"{path}.works",
            f'{str(works)[:40]!r} is neither of {", ".join(WORKS)}, nor shifts such as {{"week": …}}',
        )
    return AgentWish(
        name=_text(entry["name"], f"{path}.name") if "name" in entry else None,
        teams=teams,
        skills=_levels(entry["skills"], f"{path}.skills", high=5, low=1) if "skills" in entry else None,
        capacity=_capacity(entry["capacity"], f"{path}.capacity") if "capacity" in entry else None,
        works=works if hours is None else None,
        hours=hours,
        like=_name(entry["like"], f"{path}.like") if "like" in entry else None,
        count=_number(entry.get("count", 1), f"{path}.count", low=1, high=MAX_ADDED),
    )


def hours_of(spec: Mapping[str, Any], zone: str, path: str) -> Calendar:
    """Shifts as a calendar; `zone` where they name none. Raises ChangeError."""
    try:
        return Calendar.from_spec({"tz": zone, **spec})
    except CalendarError as error:
        raise ChangeError(f"{path}.{error.path}".rstrip("."), error.reason) from error


def _capacity(value: Any, path: str) -> dict[str, int]:
    return _levels(_object(value, path, _CAPACITY), path, low=0, high=1_000)


def _levels(value: Any, path: str, *, low: int, high: int) -> dict[str, int]:
    entries = _object(value, path)
    if len(entries) > 100:
        raise ChangeError(path, "at most 100 entries")
    return {_text(k, path): _number(v, f"{path}.{k}", low=low, high=high) for k, v in entries.items()}


def _object(value: Any, path: str, known: Sequence[str] | None = None) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ChangeError(path, "must be an object")
    if known is not None and (unknown := sorted(str(k) for k in set(value) - set(known))):
        raise ChangeError(f"{path}.{unknown[0]}"[:200], f"unknown; known are {', '.join(known)}")
    return value


def _list(value: Any, path: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise ChangeError(path, "must be a list")
    return list(value)


def _names(value: Any, path: str) -> tuple[str, ...]:
    return tuple(_name(v, f"{path}.{i}") for i, v in enumerate(_list(value, path)))


def _name(value: Any, path: str) -> str:
    """An id or a name."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _text(value, path)


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 200:
        raise ChangeError(path, "must be a text of 1 to 200 characters")
    return value


def _number(value: Any, path: str, *, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ChangeError(path, f"{str(value)[:40]!r} is no whole number from {low} to {high}")
    return value
