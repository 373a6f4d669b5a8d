"""What a decision was made from, kept with it, and making it again: the same input must give the same winner.

Pure. The input is cut to what decides (the best few, the people the item names, somebody who proves that a ring was
not empty) and holds no names and no texts; the settings are those of the version that the decision names.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from routing import decide
from routing.decide import Hours, Loads, Pick, Placement, QueueLoad, TeamRules
from routing.model import AgentView, Channel, Item, LeadStand, Slot
from routing.ranking import Rank
from routing.settings import TeamSettings

MAX_BYTES = 4096
_RANKS = 5
_REJECTED = 3
_HEADS = 3
_NOBODY = AgentView(agent_id=0)
_NOTHING = Item(id=0, source_kind="", source_id=0).as_values()
#: of an item: what no decision looks at
_IDLE = {"source_id", "inquiry_id", "conversation_id", "contact_id", "created_at", "owner_id", "wake_at"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """`winners` now and `stored` then, in their order; `why` a code if it could not be made again."""

    same: bool
    winners: tuple[int, ...] = ()
    stored: tuple[int, ...] = ()
    scope: str | None = None
    why: str | None = None


# --- keeping
# -------------------------------------------------------------------------------------------------------
def of_placement(
    item: Item, placement: Placement, agents: Sequence[AgentView], hours: Hours, now: int, *,
    lost: Iterable[int] = (), loads: Loads | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The input of `decide.place`, cut. `lost`: agents who won by rank but not by the clock."""
    gone = list(lost)
    people = {item.manager_id, item.sticky_agent_id, item.directed_agent_id}
    ranks = [r.agent for r in placement.ranks[: _RANKS + len(gone)]]
    kept = {a.agent_id: a for a in ranks}
    kept |= {a.agent_id: a for a in agents if a.agent_id in people and a.agent_id not in kept}
    rejected = [r.agent for r in placement.rejected if r.agent.agent_id not in kept]
    # As `steps.is_empty` sees it: without somebody who is there, the ring would be left at once.
    signatures = placement.step.signatures
    there = next(
        (a for a in rejected if a.routable and a.lanes & signatures and not item.excludes(a.agent_id, now)),
        None,
    )
    for each in (*([there] if there is not None else []), *rejected[:_REJECTED]):
        kept.setdefault(each.agent_id, each)
    data = {
        "v": 1, "of": "place", "now": now, "item": _item_data(item), "hours": _hours_data(hours),
        "agents": list(kept.values()), "lost": gone, "loads": _loads_data(loads),
    }  # fmt: skip
    return _fit(data)


def of_pull(
    agent: AgentView, picked: Pick, heads: Sequence[Item], teams: Mapping[int | None, TeamRules], now: int
) -> dict[str, Any]:
    """The input of `decide.pick`, cut: what was taken, what would have been next, and the first that were passed."""
    passed = [p.item_id for p in picked.passed[:_HEADS]]
    wanted = {i.id for i in (picked.item, picked.behind) if i is not None} | set(passed)
    kept = [h for h in heads if h.id in wanted]
    rules = {h.team_id: teams[h.team_id] for h in kept}
    data = {
        "v": 1, "of": "pick", "now": now, "agents": [agent], "heads": [_item_data(h) for h in kept],
        "teams": [
            [
                team_id, r.settings.version, _hours_data(r.hours),
                None if r.loads is None else {str(c): _loads_data(loads) for c, loads in r.loads.items()},
            ]
            for team_id, r in rules.items()
        ],
    }  # fmt: skip
    return _fit(data)


def versions_of(data: Mapping[str, Any]) -> dict[int | None, int]:
    """The settings that making a pull again needs, by team."""
    return {team_id: number for team_id, number, *_ in data.get("teams", ())}


# --- making it again
# -----------------------------------------------------------------------------------------------
def again(
    data: Mapping[str, Any] | None,
    settings: Mapping[int | None, TeamSettings | None],
    *,
    stored: Sequence[int],
    item_id: int,
    broadcast: bool = False,
) -> Replayed:
    """Run the deciding code on a kept input.

    `settings`: of each team that the input names, as of its version. `stored`: the winners of the decision.
    """
    then = tuple(stored)
    if data is None:
        return Replayed(same=False, stored=then, why="no_input")
    if data.get("v") != 1 or data.get("cut"):
        return Replayed(same=False, stored=then, why="input_cut" if data.get("cut") else "other_format")
    if any(s is None for s in settings.values()):
        return Replayed(same=False, stored=then, why="no_settings")
    known = {team: s for team, s in settings.items() if s is not None}
    agents = _agents_from(data)
    if data["of"] == "pick":
        heads = [_item_from(h) for h in data["heads"]]
        rules = {
            team_id: TeamRules(known[team_id], _hours_from(hours), _by_channel(loads))
            for team_id, _, hours, loads in data["teams"]
        }
        picked = decide.pick(agents[0], heads, rules, data["now"])
        won = picked.item is not None and picked.item.id == item_id
        winners: tuple[int, ...] = (agents[0].agent_id,) if won else ()
        scope = picked.step.scope if picked.step else None
        return Replayed(same=winners == then, winners=winners, stored=then, scope=scope)
    item = _item_from(data["item"])
    placement = decide.place(
        item,
        known[item.team_id],
        agents,
        _hours_from(data["hours"]),
        data["now"],
        loads=_loads_from(data["loads"]),
    )
    lost = set(data["lost"])
    left: list[Rank] = [r for r in placement.ranks if r.agent.agent_id not in lost]
    winners = tuple(r.agent.agent_id for r in left[: len(then) if broadcast else 1])
    return Replayed(same=winners == then, winners=winners, stored=then, scope=placement.step.scope)


# --- data
# ----------------------------------------------------------------------------------------------------------
def _item_data(item: Item) -> dict[str, Any]:
    return {k: v for k, v in item.as_values().items() if v != _NOTHING[k] and k not in _IDLE} | {
        "id": item.id
    }


def _item_from(data: Mapping[str, Any]) -> Item:
    return Item.from_row({**_NOTHING, **data})


def _hours_data(hours: Hours) -> list[Any]:
    return [hours.is_open, hours.next_open, hours.next_close]


def _hours_from(data: Sequence[Any]) -> Hours:
    return Hours(*data)


def _loads_data(loads: Loads | None) -> list[list[Any]] | None:
    if loads is None:
        return None
    return [[team_id, load.waiting, load.places, load.handle_ms] for team_id, load in loads.items()]


def _loads_from(data: Sequence[Sequence[Any]] | None) -> Loads | None:
    if data is None:
        return None
    return {team: QueueLoad(waiting=w, places=p, handle_ms=h) for team, w, p, h in data}


def _by_channel(loads: Any) -> Mapping[str, Loads] | None:
    """Of a pull. Until loads were kept by channel, one stood for all."""
    if loads is None:
        return None
    by_channel = loads if isinstance(loads, Mapping) else dict.fromkeys(Channel, loads)
    found = {str(channel): _loads_from(each) for channel, each in by_channel.items()}
    return {channel: each for channel, each in found.items() if each is not None}


def _agent_data(agent: AgentView, lanes: dict[str, int]) -> dict[str, Any]:
    data: dict[str, Any] = {
        f.name: getattr(agent, f.name)
        for f in fields(agent)
        if f.name not in ("name", "slots", "teams", "lanes", "leads", "skills")
        and getattr(agent, f.name) != getattr(_NOBODY, f.name)
    }
    data["slots"] = {str(c): [s.maximum, s.used, s.load] for c, s in agent.slots.items()}
    data["lanes"] = [lanes.setdefault(signature, len(lanes)) for signature in sorted(agent.lanes)]
    if agent.skills:
        data["skills"] = dict(agent.skills)
    if agent.teams:
        data["teams"] = sorted(agent.teams)
    if agent.leads:
        data["leads"] = [[team, stand.share, stand.capped] for team, stand in agent.leads.items()]
    return data


def _agents_from(data: Mapping[str, Any]) -> list[AgentView]:
    lanes = list(data["lanes"])
    return [
        replace(
            _NOBODY,
            **{
                **each,
                "slots": {c: Slot(*values) for c, values in each["slots"].items()},
                "lanes": frozenset(lanes[i] for i in each["lanes"]),
                "teams": frozenset(each.get("teams", ())),
                "leads": {team: LeadStand(share, capped) for team, share, capped in each.get("leads", ())},
            },
        )
        for each in data["agents"]
    ]


def _fit(data: dict[str, Any]) -> dict[str, Any]:
    """As stored, at most MAX_BYTES of JSON. What is still too long is given up and says so."""
    lanes: dict[str, int] = {}
    data["agents"] = [_agent_data(a, lanes) for a in data["agents"]]
    data["lanes"] = list(lanes)
    if len(json.dumps(data, ensure_ascii=False).encode()) <= MAX_BYTES:
        return data
    return {"v": 1, "of": data["of"], "cut": True}
