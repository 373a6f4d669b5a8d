"""The stored reason of a decision, `decision.why`: facts and codes, at most 2 KB. Pure; texts are in
explain_text.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from routing import ranking
from routing.decide import Pick, Placement, Turn
from routing.model import AgentView, Item, ItemState, Reason
from routing.ranking import Rank
from routing.steps import Step

MAX_REJECTED = 5
MAX_BYTES = 2048
_MAX_NAME = 40


def of_placement(
    item: Item, placement: Placement, *, trigger: str, winner: Rank | None, lost: Sequence[tuple[int, str]],
    people: Mapping[int, str], version: int, now: int,
) -> dict[str, Any]:  # fmt: skip
    """Why this item went to `winner`, or waits (None)."""
    why = _base(item, placement.step, placement.entered_at, trigger=trigger, version=version, now=now)
    why["considered"] = placement.considered
    why["rejected"] = [
        [r.agent.agent_id, _short(r.agent.name), r.reason.value] for r in _telling(placement)[:MAX_REJECTED]
    ]
    if placement.left:
        why["left"] = [[left.scope, left.why] for left in placement.left]
    if lost:
        why["lost"] = [list(entry) for entry in lost[:MAX_REJECTED]]
    if item.manager_id is not None:
        against = {r.agent.agent_id: r.reason.value for r in placement.rejected} | dict(lost)
        # For him alone it waited since it came into that ring; before, somebody else may have had it.
        queued = item.step_no == 0 and item.state != ItemState.PARKED
        waited = queued and any(ring.scope == "manager" for ring in placement.left)
        why["manager"] = _manager(
            item.manager_id, people.get(item.manager_id, ""), against.get(item.manager_id),
            waited_ms=max(now - item.step_entered_at, 0) if waited else 0,
        )  # fmt: skip
    if placement.park_until is not None:
        why["park"] = {"until": placement.park_until, "reason": placement.park_reason}
    if placement.next_step_at is not None and winner is None:
        why["next_step_at"] = placement.next_step_at
    if winner is not None:
        why["winner"] = _rank(item, winner, now)
        rest = [r for r in placement.ranks if r.agent.agent_id != winner.agent.agent_id]
        beaten = next((r for r in rest if r.tuple > winner.tuple), None)
        if beaten is not None:
            why["runner_up"] = _rank(item, beaten, now)
            differs = ranking.first_difference(winner, beaten)
            shared = item.kind == "lead" and item.team_id in winner.agent.leads
            why["differs"] = "leads" if shared and differs == "load" else differs
    return why


def of_pull(
    item: Item, agent: AgentView, picked: Pick, *, trigger: str, heads: int, lost: Sequence[tuple[int, str]],
    version: int, now: int, manager: tuple[AgentView, Reason | None] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Why an agent who is free took this item: whose turn it was among the first of his lanes, and what he
    passed. `manager`: the contact's, if that is somebody else, and what is against him.
    """
    step = picked.step
    if step is None:
        raise ValueError("nothing was picked")
    why = _base(item, step, item.step_entered_at, trigger=trigger, version=version, now=now)
    why["considered"] = 1
    why["heads"] = heads - 1
    if picked.turn != Turn.FIRST:
        why["turn"] = picked.turn.value
    if picked.behind is not None:
        why["next_key"] = picked.behind.order_key
    if picked.passed:
        why["passed"] = [[p.item_id, p.reason.value] for p in picked.passed[:MAX_REJECTED]]
    if lost:
        why["lost"] = [list(entry) for entry in lost[:MAX_REJECTED]]
    if manager is not None:
        person, reason = manager
        why["manager"] = _manager(person.agent_id, person.name, None if reason is None else reason.value)
    why["winner"] = _rank(item, ranking.rank_of(item, agent, step.no), now)
    return why


def _manager(agent_id: int, name: str, reason: str | None, *, waited_ms: int = 0) -> dict[str, Any]:
    return {"agent_id": agent_id, "name": _short(name), "reason": reason, "waited_ms": waited_ms}


def of_people(
    item: Item, *, trigger: str, agent_id: int | None, name: str, by: str, now: int
) -> dict[str, Any]:
    """A person decided: take, transfer, release."""
    return {
        "v": 1, "trigger": trigger, "by": by, "key": _key(item), "waited_ms": max(now - item.ready_at, 0),
        "winner": None if agent_id is None else {"agent_id": agent_id, "name": _short(name)},
    }  # fmt: skip


def _base(item: Item, step: Step, entered_at: int, *, trigger: str, version: int, now: int) -> dict[str, Any]:
    near = {} if step.steady is None else {"steady": step.steady}
    return {
        "v": 1,
        "trigger": trigger,
        "channel": item.channel,
        "key": _key(item),
        "step": {"no": step.no, "scope": step.scope, "entered_at": entered_at},
        "lanes": [lane.signature[:120] for lane in step.lanes[:3]],
        "required": dict(list(item.requirements.required.items())[:6]),
        "dropped": list(item.requirements.dropped[:3]),
        "waited_ms": max(now - item.ready_at, 0),
        "in_step_ms": max(now - entered_at, 0),
        "config": version,
        **near,
    }


#: what a reason that is too long does without, in this order; who won, by what and from where stays
_SPARE = (
    "passed",
    "lost",
    "lanes",
    "rejected",
    "left",
    "dropped",
    "runner_up",
    "required",
    "manager",
    "note",
)


def fit(why: Mapping[str, Any]) -> dict[str, Any]:
    """The reason cut to MAX_BYTES of JSON: first every list to its first two, then part by part. `cut` tells
    what is missing.
    """
    if _bytes(why) <= MAX_BYTES:
        return dict(why)
    short = {k: v[:2] if isinstance(v, list) else v for k, v in why.items()} | {"cut": ["lists"]}
    for part in _SPARE:
        if _bytes(short) <= MAX_BYTES:
            break
        if short.pop(part, None) is not None:
            short["cut"] = [*short["cut"], part]
    return short


def _bytes(why: Mapping[str, Any]) -> int:
    return len(json.dumps(why, ensure_ascii=False).encode())


def _key(item: Item) -> dict[str, Any]:
    parts = {name: value for name, value in item.order_parts.items() if name != "closed"}
    return {"order_key": item.order_key, "due_at": item.due_at, **parts}


def _rank(item: Item, rank: Rank, now: int) -> dict[str, Any]:
    skills = {s: rank.agent.skills[s] for s in item.requirements.required if s in rank.agent.skills}
    data = rank.as_data(item.channel)
    data["name"] = _short(data["name"])
    return {
        **data,
        "idle_ms": max(now - rank.agent.idle_since, 0),
        "skills": dict(list(skills.items())[:6]),
        "manager": rank.agent.agent_id == item.manager_id,
        "sticky": rank.agent.agent_id == item.sticky_agent_id,
    }


def _telling(placement: Placement) -> list[Any]:
    """Those who came nearest first: nobody asks why a colleague who is on holiday did not get it."""
    order = list(Reason)
    return sorted(placement.rejected, key=lambda r: -order.index(r.reason))


def _short(name: str) -> str:
    return name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "…"
