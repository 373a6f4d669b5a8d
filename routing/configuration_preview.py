"""What an edit of a team's routing would change, before it is made: in values, in words, and for what waits now.

Runs the deciding code on both settings without writing. Bounded: so many items, so many agents, one team's reads.
Each item is looked at as if it were alone; who takes it takes it from the others too, which no preview can know.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.schema import agent, team_member
from crm_core.views import iso
from routing import configuration, decide, lanes, steps, store
from routing.configuration_rollout import same_ring
from routing.configuration_values import compare, in_words
from routing.eligibility import lane_failure
from routing.items import keyed
from routing.model import QUEUED, AgentView, Item, ItemState
from routing.schema import work_item
from routing.settings import TeamSettings
from routing.steps import Step
from routing.store import TeamContext

MAX_ITEMS = 200
MAX_AGENTS = 200
MAX_EXAMPLES = 50
_NAMES_SHOWN = 5
#: a long look lets others go on in between
_YIELD_EVERY = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """How one item stands under one of the settings. `takers` are agents who could have it at this moment."""

    scope: str
    order_key: int
    takers: tuple[AgentView, ...]
    winner: int | None
    next_step_at: int | None
    park_until: int | None

    def same_place(self, other: "Seen") -> bool:
        """Not the instants of windows: those move with the clock."""
        return (self.scope, self.winner, self.park_until is None) == (
            other.scope,
            other.winner,
            other.park_until is None,
        ) and {a.agent_id for a in self.takers} == {a.agent_id for a in other.takers}


async def preview(
    conn: AsyncConnection, team_id: int, data: Any, *, language: str = "en", now: int
) -> dict[str, Any]:
    """What putting `data` in force would change.

    Returns:
        {"team_id", "version" in force, "changes": [{path, before, after, text}], "waiting": {examined, more,
        placed_differently, could_be_taken_before, could_be_taken_after, order_changed, examples: [{item_id,
        inquiry_id, channel, before, after, position_before, position_after}]}}; before and after are {scope,
        agents, agents_in_all, winner_id, order_key, widens_at, parked_until}.

    Raises:
        SettingsError: 422, naming the wrong field. NotFound: no such team.
    """
    context = await store.team_context(conn, team_id)
    after = replace(await configuration.check(conn, team_id, data), version=context.settings.version)
    changes = compare(context.settings, after)
    found = await _items(conn, team_id)
    examined = found[:MAX_ITEMS]
    waiting = await _compare_items(conn, context, after, examined, now) if changes and examined else []
    waiting_shown = _summary(examined, waiting)
    return {
        "team_id": team_id,
        "version": context.settings.version,
        "changes": [{**c.as_data(), "text": in_words(c, language)} for c in changes],
        "waiting": {**waiting_shown, "examined": len(examined), "more": len(found) > MAX_ITEMS},
    }


async def _items(conn: AsyncConnection, team_id: int) -> list[Item]:
    rows = await conn.execute(
        select(work_item)
        .where(work_item.c.team_id == team_id, work_item.c.state.in_(QUEUED))
        .order_by(work_item.c.ready_at, work_item.c.id)
        .limit(MAX_ITEMS + 1)
    )
    return [Item.from_row(r) for r in rows.mappings()]


async def _compare_items(
    conn: AsyncConnection, context: TeamContext, after: TeamSettings, items: Sequence[Item], now: int
) -> list[tuple[Seen, Seen]]:
    personal = {i for item in items for i in (item.manager_id, item.sticky_agent_id, item.directed_agent_id)}
    teams = {t for t in (items[0].team_id, *context.settings.overflow, *after.overflow) if t is not None}
    crowd = _Crowd(await _agents(conn, teams, personal - {None}, now))
    hours = context.hours(now)
    context_after = replace(context, settings=after)
    shown: list[tuple[Seen, Seen]] = []
    for n, item in enumerate(items):
        old = _see(item, context.settings, crowd, hours, now)
        # What another team sent here keeps the key by that team's rules (ADR 0025).
        moved = item if item.home_team_id not in (None, item.team_id) else keyed(item, context_after)
        moved = replace(moved, on_call=decide.is_on_call(moved, after, hours))
        if item.state != ItemState.OFFERED:
            moved = replace(moved, step_no=same_ring(item, context.settings, after))
        shown.append((old, _see(moved, after, crowd, hours, now)))
        if n % _YIELD_EVERY == _YIELD_EVERY - 1:
            await asyncio.sleep(0)
    return shown


def _see(item: Item, settings: TeamSettings, crowd: "_Crowd", hours: decide.Hours, now: int) -> Seen:
    agents = crowd.for_plan(steps.plan(item, settings))
    placement = decide.place(item, settings, agents, hours, now)
    return Seen(
        scope=placement.step.scope,
        order_key=item.order_key,
        takers=tuple(r.agent for r in placement.ranks),
        winner=placement.ranks[0].agent.agent_id if placement.ranks else None,
        next_step_at=placement.next_step_at,
        park_until=placement.park_until,
    )


class _Crowd:
    """Agents with the lanes that they would be in: lanes of settings that are not in force do not exist yet."""

    def __init__(self, agents: Sequence[AgentView]) -> None:
        self._agents = agents
        self._members: dict[str, frozenset[int]] = {}
        self._crowds: dict[frozenset[str], list[AgentView]] = {}

    def for_plan(self, plan: Sequence[Step]) -> list[AgentView]:
        for step in plan:
            for spec in step.lanes:
                if spec.signature not in self._members:
                    self._members[spec.signature] = frozenset(
                        a.agent_id for a in self._agents if lane_failure(a, [spec]) is None
                    )
        wanted = frozenset(spec.signature for step in plan for spec in step.lanes)
        if wanted in self._crowds:
            return self._crowds[wanted]
        found: list[AgentView] = []
        for each in self._agents:
            mine = frozenset(s for s in wanted if each.agent_id in self._members[s])
            if mine:
                found.append(replace(each, lanes=mine))
        self._crowds[wanted] = found
        return found


async def _agents(conn: AsyncConnection, teams: set[int], personal: set[Any], now: int) -> list[AgentView]:
    """Who could be asked: members of the teams and the people that items name, those who are there first."""
    from routing.schema import agent_state

    members = select(team_member.c.agent_id).where(team_member.c.team_id.in_(teams))
    ids = [
        int(i)
        for i in await conn.scalars(
            select(agent.c.id)
            .outerjoin(agent_state, agent_state.c.agent_id == agent.c.id)
            .where(agent.c.active, or_(agent.c.id.in_(members), agent.c.id.in_(personal)))
            .order_by(func.coalesce(agent_state.c.routable, False).desc(), agent.c.id)
            .limit(MAX_AGENTS)
        )
    ]
    static = await lanes.static_views(conn, ids)
    live = await store.views(conn, dict.fromkeys(ids, ()), skills=(), now=now)
    return [
        replace(a, skills=static[a.agent_id].skills, teams=static[a.agent_id].teams)
        for a in live
        # Who is not there can take nothing; only of a person that an item names does it matter when he is back.
        if a.agent_id in static and (a.routable or a.agent_id in personal)
    ]


# --- shapes
# -------------------------------------------------------------------------------------------------------
def _summary(items: Sequence[Item], seen: Sequence[tuple[Seen, Seen]]) -> dict[str, Any]:
    before, after = _positions(items, [s[0] for s in seen]), _positions(items, [s[1] for s in seen])
    differs = [
        (item, old, new)
        for item, (old, new) in zip(items, seen, strict=False)
        if not old.same_place(new) or before[item.id] != after[item.id]
    ]
    return {
        "placed_differently": sum(not old.same_place(new) for old, new in seen),
        "could_be_taken_before": sum(bool(old.takers) for old, _ in seen),
        "could_be_taken_after": sum(bool(new.takers) for _, new in seen),
        "order_changed": sum(before[i] != after[i] for i in before),
        "examples": [
            {
                "item_id": item.id,
                "inquiry_id": item.inquiry_id,
                "source_kind": item.source_kind,
                "channel": item.channel,
                "before": _side(old),
                "after": _side(new),
                "position_before": before[item.id],
                "position_after": after[item.id],
            }
            for item, old, new in differs[:MAX_EXAMPLES]
        ],
    }


def _positions(items: Sequence[Item], seen: Sequence[Seen]) -> Mapping[int, int]:
    """1 is served first, among those looked at."""
    ordered = sorted(zip(items, seen, strict=False), key=lambda pair: (pair[1].order_key, pair[0].id))
    return {item.id: n for n, (item, _) in enumerate(ordered, start=1)}


def _side(seen: Seen) -> dict[str, Any]:
    return {
        "scope": seen.scope,
        "agents": [{"id": a.agent_id, "name": a.name} for a in seen.takers[:_NAMES_SHOWN]],
        "agents_in_all": len(seen.takers),
        "winner_id": seen.winner,
        "order_key": iso(seen.order_key),
        "widens_at": iso(seen.next_step_at),
        "parked_until": iso(seen.park_until),
    }
