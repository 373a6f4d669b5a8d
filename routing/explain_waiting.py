"""What a piece of work waits for now: who is asked and what is against each, who stands before it, why its key is
what it is, when more people are asked. Runs the deciding code without writing.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.db.uow import read_rows
from crm_core.schema import team_member
from crm_core.views import NUMBER_BASE, iso
from routing import decide, eligibility, expected_wait, lanes, lead_counts, steps, store
from routing.configuration_rollout import progress
from routing.explain_text import (
    ahead_text,
    broadcast_text,
    key_texts,
    lack_text,
    parked_text,
    reason_text,
    ring_text,
    waiting_text,
)
from routing.model import AgentView, Item, ItemState, Reason
from routing.schema import queue_entry, work_item
from routing.steps import Step
from routing.store import TeamContext
from routing.wait_model import Basis
from routing.wait_text import wait_text

#: agents shown, agents looked at, those before it shown
MAX_AGENTS = 30
MAX_JUDGED = 60
MAX_AHEAD = 5
#: nobody else takes it at once, however free he is for other work
_TAKERS = ("free", "offered")
_SKILLS = (Reason.SKILL_MISSING, Reason.SKILL_LEVEL)


async def waiting_view(
    conn: AsyncConnection,
    item: Item,
    language: str,
    now: int,
    *,
    placed_by: int | None,
    offered: Mapping[int, str],
) -> dict[str, Any]:
    """Everything about a queued item; all codes stable, `text` for people.

    `placed_by`: the settings' version of its last decision. `offered`: who has an open offer of it, and the words
    for that.

    Returns:
        {"text", "step" {no, of, scope, entered_at}, "rings" [{no, scope, opens_at, state, agent_id, text}],
        "window" {agent, scope, until} | None, "widens_at", "parked_until", "parked_reason", "order_key",
        "order_parts", "key" [{code, ms, text}], "waited_ms", "ahead" {count, capped, position, items, text},
        "expected" see wait_model, "agents" [{agent, reason, text, lacks}], "agents_looked_at", "rounds" {refused,
        broadcasts, text}, "config" {in_force, placed_by, rollout}}
    """
    team = await store.team_context(conn, item.team_id)
    plan = steps.plan(item, team.settings)
    step = plan[min(item.step_no, len(plan) - 1)]
    agents = await _agents(conn, item, team, plan, now)
    shown = await _judged(conn, item, step, team, agents, now, language, offered=offered)
    widens = item.next_step_at if item.state == ItemState.WAITING else None
    wait = await expected_wait.for_item(conn, item, now)
    names = {a.agent_id: a.name for a in agents}
    if item.state == ItemState.PARKED:
        text = parked_text(item.parked_reason, None if item.wake_at is None else item.wake_at - now, language)
    elif offered:
        text = " ".join(offered.values())
    else:
        left = None if widens is None else widens - now
        text = waiting_text(step.scope, left, language, steady=step.steady)
    at_once = wait.basis == Basis.FREE and not any(a["reason"] in _TAKERS for a in shown)
    rollout = await progress(conn, item.team_id) if item.team_id is not None else None
    return {
        "step": {
            "no": step.no,
            "of": len(plan),
            "scope": step.scope,
            "entered_at": iso(item.step_entered_at),
        },
        "rings": [_ring(s, step, item, names, language, now=now) for s in plan],
        "window": _window(step, item, names),
        "text": text,
        "order_key": item.order_key,
        "order_parts": {name: part for name, part in item.order_parts.items() if name != "closed"},
        "key": key_texts(item, now, language),
        "waited_ms": max(now - item.ready_at, 0),
        "widens_at": iso(widens),
        "parked_until": iso(item.wake_at) if item.state == ItemState.PARKED else None,
        "parked_reason": item.parked_reason if item.state == ItemState.PARKED else None,
        "ahead": {
            "count": wait.ahead,
            "capped": wait.ahead_capped,
            "position": wait.position,
            "items": await _ahead(conn, item, now) if item.state == ItemState.WAITING else [],
            "text": ahead_text(wait.ahead, wait.ahead_capped, language),
        },
        "expected": {
            **wait.as_data(),
            "opens_at": iso(wait.opens_at),
            "text": "" if at_once else wait_text(wait, language),
        },
        "agents": shown[:MAX_AGENTS],
        "agents_looked_at": len(shown),
        "rounds": {
            "refused": item.rounds,
            "broadcasts": item.broadcasts,
            "text": broadcast_text(item.rounds, item.broadcasts, language),
        },
        "config": {
            "in_force": team.settings.version,
            "placed_by": placed_by,
            "rollout": None if rollout is None or rollout["phase"] == "done" else rollout,
        },
    }


async def _agents(
    conn: AsyncConnection, item: Item, team: TeamContext, plan: tuple[Step, ...], now: int
) -> list[AgentView]:
    """Who could ever be asked, whether they are there or not, with skills and teams."""
    specs = plan[-1].lanes
    known = await lanes.known(conn, specs)
    agents = await store.candidates(conn, known, channel=item.channel, now=now, everybody=True)
    agents += await _colleagues(conn, plan, {a.agent_id for a in agents}, now)
    here = {a.agent_id for a in agents}
    # Chosen by people: perhaps in no team that is asked, and a lane that nothing waited in is not stored.
    chosen = {
        s.agent_id: [lane.signature for lane in s.lanes if lane.agent_id == s.agent_id]
        for s in plan
        if s.agent_id is not None and s.agent_id not in here
    }
    agents += await store.views(conn, chosen, skills=(), now=now)
    # Of a large team those who are there say most.
    agents = sorted(agents, key=lambda a: not a.routable)[:MAX_JUDGED]
    static = await lanes.static_views(conn, [a.agent_id for a in agents])
    agents = [
        replace(a, skills=static[a.agent_id].skills, teams=static[a.agent_id].teams)
        if a.agent_id in static
        else a
        for a in agents
    ]
    leads = team.settings.leads
    if item.kind == "lead" and leads.weighted and item.team_id is not None and agents:
        ids = [a.agent_id for a in agents]
        stands = await lead_counts.stands(conn, item.team_id, leads, team.tz, ids, now)
        agents = [replace(a, leads={item.team_id: stands[a.agent_id]}) for a in agents]
    return agents


async def _colleagues(
    conn: AsyncConnection, plan: tuple[Step, ...], known: set[int], now: int
) -> list[AgentView]:
    """Members of the teams that are asked who are in none of the lanes: a skill is what they lack."""
    teams = {spec.team_id for spec in plan[-1].lanes if spec.team_id is not None}
    if not teams or len(known) >= MAX_AGENTS:
        return []
    members = await conn.scalars(
        select(team_member.c.agent_id)
        .where(team_member.c.team_id.in_(teams), team_member.c.agent_id.not_in(known))
        .order_by(team_member.c.agent_id)
        .limit(MAX_AGENTS)
    )
    return await store.views(conn, dict.fromkeys([int(i) for i in members], ()), skills=(), now=now)


async def _judged(
    conn: AsyncConnection, item: Item, step: Step, team: TeamContext, agents: list[AgentView], now: int,
    language: str, *, offered: Collection[int],
) -> list[dict[str, Any]]:  # fmt: skip
    """Per agent the first filter that is against him now; those who have its offer or could take it first."""
    loads = None
    if step.scope == "overflow" and team.settings.overflow_when == "shorter":
        others = steps.overflow_teams(item, team.settings)
        if others:
            loads = await store.queue_loads(conn, {item.team_id, *others}, item.channel, now)
    eligible, rejected = decide.filtered(item, step, team.settings, agents, now, loads=loads)
    found = [(a, "free") for a in eligible] + [(r.agent, r.reason.value) for r in rejected]
    # The place that the offer itself holds is nothing against him.
    found = [(a, "offered" if a.agent_id in offered else code) for a, code in found]
    if item.state == ItemState.PARKED:
        closed = Reason.TEAM_CLOSED if item.parked_reason == "after_hours" else "kept"
        found = [(a, closed if code == "free" else code) for a, code in found]
    found.sort(key=lambda each: each[1] != "offered")
    return [_refusal(a, code, step, language) for a, code in found]


def _refusal(agent: AgentView, code: str, step: Step, language: str) -> dict[str, Any]:
    lacks = eligibility.lacking(agent, step.lanes) if code in _SKILLS else None
    shown = {"agent": {"id": agent.agent_id, "name": agent.name}, "reason": code}
    if lacks is not None:
        skill, level, wanted = lacks
        text = lack_text(code, skill, level, wanted, language)
        return {**shown, "text": text, "lacks": {"skill": skill, "level": level, "wanted": wanted}}
    # A ring of one person asks no team at all.
    kept = step.personal and code == Reason.NOT_IN_TEAM
    return {**shown, "text": reason_text("kept" if kept else code, language), "lacks": None}


def _ring(
    ring: Step, present: Step, item: Item, names: dict[int, str], language: str, *, now: int
) -> dict[str, Any]:
    state = "now" if ring.no == present.no else ("past" if ring.no < present.no else "coming")
    opens_at: int | None = item.step_entered_at if state == "now" else ring.starts_at
    if state == "coming" and ring.no == present.no + 1 and item.state == ItemState.WAITING:
        opens_at = item.next_step_at
    elif state == "coming" and (ring.personal or ring.starts_at <= now):
        opens_at = None  # when the one before it is left, which no clock knows
    return {
        "no": ring.no,
        "scope": ring.scope,
        "opens_at": iso(opens_at),
        "state": state,
        "agent": None if ring.agent_id is None else {"id": ring.agent_id, "name": names.get(ring.agent_id)},
        "text": ring_text(ring.scope, language),
    }


def _window(step: Step, item: Item, names: dict[int, str]) -> dict[str, Any] | None:
    """Whom the item is kept for at the moment."""
    if not step.personal or step.agent_id is None or item.state != ItemState.WAITING:
        return None
    return {
        "agent": {"id": step.agent_id, "name": names.get(step.agent_id)},
        "scope": step.scope,
        "until": iso(item.next_step_at),
    }


async def _ahead(conn: AsyncConnection, item: Item, now: int) -> list[dict[str, Any]]:
    """The first of those who are served before it in its own lanes, as far as everybody may know them."""
    mine = select(queue_entry.c.lane_id).where(queue_entry.c.item_id == item.id)
    first = (
        select(queue_entry.c.item_id)
        .where(
            queue_entry.c.lane_id.in_(mine),
            or_(
                queue_entry.c.order_key < item.order_key,
                and_(queue_entry.c.order_key == item.order_key, queue_entry.c.item_id < item.id),
            ),
        )
        .order_by(queue_entry.c.order_key, queue_entry.c.item_id)
        .limit(MAX_AHEAD * 4)
        .subquery()
    )
    rows = await read_rows(
        conn,
        select(work_item)
        .where(work_item.c.id.in_(select(first.c.item_id)))
        .order_by(work_item.c.order_key, work_item.c.id)
        .limit(MAX_AHEAD),
    )
    return [
        {
            "item_id": r["id"],
            "number": None if r["inquiry_id"] is None else r["inquiry_id"] + NUMBER_BASE,
            "channel": r["channel"],
            "priority": r["priority"],
            "vip": r["vip"],
            "order_key": r["order_key"],
            "waited_ms": max(now - r["ready_at"], 0),
        }
        for r in rows
    ]
