"""The words of routing: work items, agents as a decision sees them, lanes, and what happens to an item.

Owns frozen data only, no I/O. `Item` mirrors the table work_item; everything that decides takes and returns
these.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from hashlib import blake2b
from typing import Any, NamedTuple, Self

from sqlalchemy import RowMapping

#: what the column of interned lanes holds
MAX_SIGNATURE = 400

RowLike = Mapping[str, Any] | RowMapping
"""A stored row, read or about to be written."""


class Channel(StrEnum):
    VOICE = "voice"
    CHAT = "chat"
    ASYNC = "async"
    CALLBACK = "callback"


class ItemState(StrEnum):
    PARKED = "parked"
    WAITING = "waiting"
    OFFERED = "offered"
    ASSIGNED = "assigned"
    WRAPUP = "wrapup"
    DONE = "done"
    CANCELLED = "cancelled"
    ABANDONED = "abandoned"


#: states in which an item still has a future
LIVE = (ItemState.PARKED, ItemState.WAITING, ItemState.OFFERED, ItemState.ASSIGNED, ItemState.WRAPUP)
#: states in which nobody has it yet
QUEUED = (ItemState.PARKED, ItemState.WAITING, ItemState.OFFERED)


class Presence(StrEnum):
    ONLINE = "online"
    BREAK = "break"
    DND = "dnd"
    WRAPUP = "wrapup"
    OFFLINE = "offline"
    AWAY_REASSIGN = "away_reassign"


class Reason(StrEnum):
    """Why an agent may not serve an item; the order is the order of the tests."""

    OFFLINE = "offline"
    NO_LEASE = "no_lease"
    ON_BREAK = "on_break"
    DND = "dnd"
    WRAPUP = "wrapup"
    CHANNEL_OFF = "channel_off"
    NO_CAPACITY = "no_capacity"
    INTERRUPTED_BY_NOTHING = "interrupted_by_nothing"
    NOT_IN_TEAM = "not_in_team"
    SKILL_MISSING = "skill_missing"
    SKILL_LEVEL = "skill_level"
    EXCLUDED_DECLINED = "excluded_declined"
    OUTSIDE_SHIFT = "outside_shift"
    ITEM_LOCKED = "item_locked"
    TEAM_CLOSED = "team_closed"
    LEAD_CAP = "lead_cap"
    OVERFLOW_NOT_SHORTER = "overflow_not_shorter"


@dataclass(frozen=True, slots=True)
class Requirements:
    """Skills an item asks for, by level 1-5.

    `hard` ones (a subset of `required`) are never dropped or lowered; `dropped` were asked for but nobody
    in the team has them, kept for the explanation.
    """

    required: Mapping[str, int] = field(default_factory=dict)
    preferred: Mapping[str, int] = field(default_factory=dict)
    hard: frozenset[str] = frozenset()
    dropped: tuple[str, ...] = ()

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            required={str(k): int(v) for k, v in (data.get("required") or {}).items()},
            preferred={str(k): int(v) for k, v in (data.get("preferred") or {}).items()},
            hard=frozenset(data.get("hard") or ()),
            dropped=tuple(data.get("dropped") or ()),
        )

    def as_data(self) -> dict[str, Any]:
        return {
            "required": dict(self.required),
            "preferred": dict(self.preferred),
            "hard": sorted(self.hard),
            "dropped": list(self.dropped),
        }


@dataclass(frozen=True, slots=True)
class LaneSpec:
    """Who may serve, as one interned row: members of a team with these skill levels, or one agent alone.

    A lane of one agent asks for no skills: that person was chosen by people (the contact's manager, a
    transfer) or has served this conversation before.
    """

    channel: str
    team_id: int | None = None
    requirements: tuple[tuple[str, int], ...] = ()
    agent_id: int | None = None

    @property
    def signature(self) -> str:
        """Unique text of the lane, at most 400 characters: of many or long skills the end is a hash of all."""
        if self.agent_id is not None:
            return f"{self.channel}|agent:{self.agent_id}"
        skills = ",".join(f"{skill}>={level}" for skill, level in self.requirements)
        text = f"{self.channel}|team:{self.team_id or '*'}|{skills}"
        if len(text) <= MAX_SIGNATURE:
            return text
        return f"{text[: MAX_SIGNATURE - 33]}#{blake2b(text.encode(), digest_size=16).hexdigest()}"


class Slot(NamedTuple):
    """An agent's capacity in one channel. `load` is the weight held by it."""

    maximum: int
    used: int = 0
    load: int = 0


@dataclass(frozen=True, slots=True)
class LeadStand:
    """How an agent stands with the leads of a team that shares them out by weight: given of this period by
    weight, in thousandths, and whether he had all of today's.
    """

    share: int
    capped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentView:
    """An agent as a decision sees him. `lanes` are the signatures that he may serve; `leads` by team."""

    agent_id: int
    name: str = ""
    presence: str = Presence.OFFLINE
    routable: bool = False
    lease_until: int | None = None
    wrapup_until: int | None = None
    idle_since: int = 0
    load_used: int = 0
    load_max: int = 100
    slots: Mapping[str, Slot] = field(default_factory=dict)
    skills: Mapping[str, int] = field(default_factory=dict)
    teams: frozenset[int] = frozenset()
    lanes: frozenset[str] = frozenset()
    in_shift: bool = True
    #: when his shift begins, if it is over now; None: not known or not again
    shift_from: int | None = None
    scarcity: int = 0
    leads: Mapping[int | None, LeadStand] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Item:
    """A work item: a row of the table of that name. Instants are ms UTC."""

    id: int
    source_kind: str
    source_id: int
    attempt: int = 1
    inquiry_id: int | None = None
    conversation_id: int | None = None
    contact_id: int | None = None
    team_id: int | None = None
    home_team_id: int | None = None
    teams_seen: tuple[int, ...] = ()
    channel: str = Channel.ASYNC
    kind: str = "ticket"
    requirements: Requirements = field(default_factory=Requirements)
    priority: str = "normal"
    vip: bool = False
    state: str = ItemState.WAITING
    order_key: int = 0
    order_parts: Mapping[str, Any] = field(default_factory=dict)
    due_at: int | None = None
    ready_at: int = 0
    step_no: int = 0
    step_entered_at: int = 0
    next_step_at: int | None = None
    manager_id: int | None = None
    sticky_agent_id: int | None = None
    directed_agent_id: int | None = None
    return_agent_id: int | None = None
    excluded: Mapping[int, int] = field(default_factory=dict)
    rounds: int = 0
    broadcasts: int = 0
    broadcast_asked: bool = False
    added_teams: tuple[int, ...] = ()
    on_call: bool = False
    owner_id: int | None = None
    parked_reason: str | None = None
    wake_at: int | None = None
    version: int = 1
    created_at: int = 0
    ended_at: int | None = None

    @classmethod
    def from_row(cls, row: RowLike) -> Self:
        item = object.__new__(cls)
        values = item.__dict__
        for name in _ITEM_NAMES:
            values[name] = row[name]
        values["requirements"] = Requirements.from_data(row["requirements"])
        values["teams_seen"] = tuple(row["teams_seen"])
        values["added_teams"] = tuple(row["added_teams"])
        values["excluded"] = {int(k): int(v) for k, v in row["excluded"].items()}
        return item

    def as_values(self) -> dict[str, Any]:
        """The columns of the row, without its id."""
        values = dict(self.__dict__)
        del values["id"]
        values["requirements"] = self.requirements.as_data()
        values["teams_seen"] = list(self.teams_seen)
        values["added_teams"] = list(self.added_teams)
        values["excluded"] = {str(k): v for k, v in self.excluded.items()}
        values["order_parts"] = dict(self.order_parts)
        return values

    def changes_since(self, before: "Item") -> dict[str, Any]:
        """Columns whose value differs from `before`."""
        old = before.__dict__
        different = {
            name for name, value in self.__dict__.items() if value is not old[name] and value != old[name]
        }
        if not different:
            return {}
        return {name: value for name, value in self.as_values().items() if name in different}

    def excludes(self, agent_id: int, now: int) -> bool:
        return self.excluded.get(agent_id, 0) > now

    @property
    def live(self) -> bool:
        return self.state in LIVE


_ITEM_NAMES = tuple(f.name for f in fields(Item))
_ITEM_FIELDS = frozenset(_ITEM_NAMES)


def evolve(item: Item, /, **changes: Any) -> Item:
    """The item with these fields changed: what `dataclasses.replace` does, at a tenth of its cost.

    Every decision changes an item two or three times, and copying 36 fields one by one was most of its time. An
    item has no slots for this very reason: its dictionary is copied as a whole.

    Raises:
        TypeError: an item has no such field.
    """
    if not _ITEM_FIELDS.issuperset(changes):
        raise TypeError(f"an item has no {', '.join(sorted(changes.keys() - _ITEM_FIELDS))}")
    after = object.__new__(Item)
    after.__dict__.update(item.__dict__)
    after.__dict__.update(changes)
    return after
