"""Why an inquiry went to whom it went, or why it still waits. Reads only; runs the deciding code without
writing.
"""

from dataclasses import replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.errors import NotFound
from crm_core.schema import inquiry
from crm_core.views import iso
from routing import decide, lanes, steps, store
from routing.explain_text import decision_text, reason_text, state_text, waiting_text
from routing.model import QUEUED, AgentView, Item, ItemState, RowLike
from routing.schema import decision, work_item

#: decisions shown, newest last; agents shown for a waiting item
MAX_DECISIONS = 20
MAX_AGENTS = 30


async def why(
    conn: AsyncConnection, inquiry_id: int, language: str = "en", *, now: int | None = None
) -> dict[str, Any]:
    """The routing story of an inquiry.

    `now`: ms UTC; needed for what a waiting item waits for. Without it the newest decision's instant is used.

    Returns:
        {"state", "text", "decisions": [{at, trigger, outcome, agent_id, text, why}],
        "waiting": {"step", "widens_at", "parked_until", "agents": [{agent, reason, text}]} | None}

    Raises:
        NotFound: no such inquiry.
    """
    if (await conn.execute(select(inquiry.c.id).where(inquiry.c.id == inquiry_id))).first() is None:
        raise NotFound(f"no inquiry {inquiry_id}", params={"inquiry_id": inquiry_id})
    row = (
        (
            await conn.execute(
                select(work_item)
                .where(work_item.c.source_kind == "inquiry", work_item.c.source_id == inquiry_id)
                .order_by(work_item.c.attempt.desc())
                .limit(1)
            )
        )
        .mappings()
        .first()
    )
    stored = (
        (
            await conn.execute(
                select(decision)
                .where(decision.c.inquiry_id == inquiry_id)
                .order_by(decision.c.id.desc())
                .limit(MAX_DECISIONS)
            )
        )
        .mappings()
        .all()
    )
    decisions = [_shown(d, language) for d in reversed(stored)]
    if row is None:
        return {
            "state": "none",
            "text": state_text("none", language),
            "decisions": decisions,
            "waiting": None,
        }
    item = Item.from_row(row)
    at = now if now is not None else (stored[0]["at"] if stored else item.ready_at)
    waiting = await _waiting(conn, item, language, at) if item.state in QUEUED else None
    text = state_text(item.state, language)
    if waiting is not None:
        text = f"{text} {waiting['text']}"
    elif decisions:
        text = f"{text} {decisions[-1]['text']}"
    return {"state": item.state, "text": text, "decisions": decisions, "waiting": waiting}


async def _waiting(conn: AsyncConnection, item: Item, language: str, now: int) -> dict[str, Any]:
    """Per agent the first filter that he fails now, and when the next step opens."""
    team = await store.team_context(conn, item.team_id)
    plan = steps.plan(item, team.settings)
    known = await lanes.known(conn, plan[-1].lanes)
    agents = await store.candidates(conn, known, channel=item.channel, now=now, everybody=True)
    static = await lanes.static_views(conn, [a.agent_id for a in agents])
    agents = [_joined(a, static.get(a.agent_id)) for a in agents]
    step = plan[min(item.step_no, len(plan) - 1)]
    eligible, rejected = decide.filtered(item, step, team.settings, agents, now)
    shown = [{"agent": _name(a), "reason": "free", "text": reason_text("free", language)} for a in eligible]
    shown += [
        {"agent": _name(r.agent), "reason": r.reason.value, "text": reason_text(r.reason, language)}
        for r in rejected
    ]
    widens = item.next_step_at if item.state == ItemState.WAITING else None
    if item.state == ItemState.PARKED:
        text = decision_text({"park": {"reason": item.parked_reason}}, language)
    else:
        text = waiting_text(step.scope, None if widens is None else widens - now, language)
    return {
        "step": {
            "no": step.no,
            "of": len(plan),
            "scope": step.scope,
            "entered_at": iso(item.step_entered_at),
        },
        "text": text,
        "order_key": item.order_key,
        "order_parts": dict(item.order_parts),
        "waited_ms": max(now - item.ready_at, 0),
        "widens_at": iso(widens),
        "parked_until": iso(item.wake_at) if item.state == ItemState.PARKED else None,
        "agents": shown[:MAX_AGENTS],
    }


def _joined(agent: AgentView, static: AgentView | None) -> AgentView:
    return agent if static is None else replace(agent, skills=static.skills, teams=static.teams)


def _name(agent: AgentView) -> dict[str, Any]:
    return {"id": agent.agent_id, "name": agent.name}


def _shown(row: RowLike, language: str) -> dict[str, Any]:
    return {
        "at": iso(row["at"]),
        "trigger": row["trigger"],
        "outcome": row["outcome"],
        "agent_id": row["agent_id"],
        "text": decision_text(row["why"], language),
        "why": row["why"],
    }
