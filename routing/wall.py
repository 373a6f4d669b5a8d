"""The numbers of the wallboard. Reads only; every question is bounded by what is open now, never by the
history.
"""

from collections.abc import Collection
from typing import Any

from sqlalchemy import and_, case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.clock import MINUTE
from crm_core.schema import agent, inquiry, team, team_member
from crm_core.views import NUMBER_BASE, iso
from routing import expected_wait
from routing.model import Channel
from routing.schema import agent_slot, agent_state, callback, sla_clock, work_item

#: a deadline this near is "due soon"
SOON_MS = 30 * MINUTE
MAX_BREACHES = 50
#: channels in which somebody sits and waits
_LIVE = (Channel.VOICE, Channel.CHAT)
_OPEN = ("new", "open", "pending", "hold")


async def snapshot(conn: AsyncConnection, now: int) -> dict[str, Any]:
    """{"at", "teams", "agents", "breaches", "callbacks"} as the API's GET /wall shows it."""
    return {
        "at": iso(now),
        "teams": await _teams(conn, now),
        "agents": await _agents(conn, now),
        "breaches": await _breaches(conn),
        "callbacks": await _callbacks(conn),
    }


async def _teams(conn: AsyncConnection, now: int) -> list[dict[str, Any]]:
    waiting: dict[int | None, dict[str, int]] = {}
    rows = await conn.execute(
        select(
            work_item.c.team_id,
            work_item.c.state,
            work_item.c.channel,
            func.count().label("n"),
            func.min(work_item.c.ready_at).label("t"),
        )
        .where(work_item.c.state.in_(("parked", "waiting", "offered")))
        .group_by(work_item.c.team_id, work_item.c.state, work_item.c.channel)
    )
    live: dict[int | None, set[str]] = {}
    for row in rows.mappings():
        if row["state"] == "waiting" and row["channel"] in _LIVE:
            live.setdefault(row["team_id"], set()).add(row["channel"])
        entry = waiting.setdefault(row["team_id"], {"waiting": 0, "parked": 0, "oldest": now})
        if row["state"] == "parked":
            entry["parked"] += row["n"]
        else:
            entry["waiting"] += row["n"]
            entry["oldest"] = min(entry["oldest"], row["t"])
    breached = await _clocks_by_team(conn, now, breached=True)
    soon = await _clocks_by_team(conn, now, breached=False)
    members = await conn.execute(
        select(
            team_member.c.team_id,
            func.count().label("total"),
            func.sum(_one_if(agent_state.c.routable)).label("online"),
        )
        .join(agent, and_(agent.c.id == team_member.c.agent_id, agent.c.active))
        .outerjoin(agent_state, agent_state.c.agent_id == agent.c.id)
        .group_by(team_member.c.team_id)
    )
    people = {r["team_id"]: r for r in members.mappings()}
    names = (
        await conn.execute(select(team.c.id, team.c.name).where(team.c.active).order_by(team.c.name))
    ).all()
    shown = []
    for team_id, name in [*names, *([(None, "")] if None in waiting else [])]:
        queue = waiting.get(team_id, {"waiting": 0, "parked": 0, "oldest": now})
        who = people.get(team_id)
        shown.append(
            {
                "team": {"id": team_id, "name": name},
                "waiting": queue["waiting"],
                "parked": queue["parked"],
                "longest_wait_ms": now - queue["oldest"] if queue["waiting"] else 0,
                "oldest_waiting_at": iso(queue["oldest"]) if queue["waiting"] else None,
                "breached_open": breached.get(team_id, 0),
                "due_soon": soon.get(team_id, 0),
                "expected_wait": await _expected(conn, team_id, live.get(team_id, ()), now),
                "agents_online": int(who["online"] or 0) if who else 0,
                "agents_total": int(who["total"]) if who else 0,
            }
        )
    return shown


async def _expected(
    conn: AsyncConnection, team_id: int | None, channels: Collection[str], now: int
) -> list[dict[str, Any]]:
    """What the next one would be told, in the live channels in which somebody waits."""
    waits = [await expected_wait.estimate(conn, team_id, c, now) for c in sorted(channels)]
    shown = ("channel", "basis", "wait_s", "low_min", "high_min", "ahead", "ahead_capped")
    return [{k: v for k, v in w.as_data().items() if k in shown} for w in waits]


async def _clocks_by_team(conn: AsyncConnection, now: int, *, breached: bool) -> dict[int | None, int]:
    """Open inquiries per team with a breached clock, or with a deadline that is near."""
    if breached:
        about = and_(sla_clock.c.state.in_(("active", "paused")), sla_clock.c.breached_at.is_not(None))
    else:
        about = and_(
            sla_clock.c.state == "active", sla_clock.c.due_at > now, sla_clock.c.due_at <= now + SOON_MS
        )
    rows = await conn.execute(
        select(inquiry.c.team_id, func.count(inquiry.c.id.distinct()))
        .join(sla_clock, sla_clock.c.inquiry_id == inquiry.c.id)
        .where(about, inquiry.c.status.in_(_OPEN))
        .group_by(inquiry.c.team_id)
    )
    return {team_id: int(n) for team_id, n in rows}


async def _agents(conn: AsyncConnection, now: int) -> list[dict[str, Any]]:
    slots: dict[int, list[dict[str, Any]]] = {}
    order = [c.value for c in Channel]
    for row in (await conn.execute(select(agent_slot))).mappings():
        slots.setdefault(row["agent_id"], []).append(
            {"channel": row["channel"], "used": row["used"], "max": row["max"]}
        )
    teams: dict[int, list[int]] = {}
    for team_id, agent_id in await conn.execute(select(team_member.c.team_id, team_member.c.agent_id)):
        teams.setdefault(agent_id, []).append(team_id)
    open_work = {
        agent_id: int(n)
        for agent_id, n in await conn.execute(
            select(work_item.c.owner_id, func.count())
            .where(work_item.c.owner_id.is_not(None), work_item.c.state == "assigned")
            .group_by(work_item.c.owner_id)
        )
    }
    rows = await conn.execute(
        select(agent.c.id, agent.c.name, agent.c.role, agent_state)
        .outerjoin(agent_state, agent_state.c.agent_id == agent.c.id)
        .where(agent.c.active)
        .order_by(agent.c.name)
    )
    shown = []
    for row in rows.mappings():
        lapsed = row["routable"] and (row["lease_until"] or 0) <= now
        shown.append(
            {
                "id": row["id"],
                "name": row["name"],
                "role": row["role"],
                "presence": "offline" if row["presence"] is None or lapsed else row["presence"],
                "reason": row["reason"],
                "state_since": iso(row["since"]),
                "load": {"used": row["load_used"] or 0, "max": row["load_max"] or 0},
                "slots": sorted(slots.get(row["id"], []), key=lambda s: order.index(s["channel"])),
                "teams": sorted(teams.get(row["id"], [])),
                "open_count": open_work.get(row["id"], 0),
            }
        )
    return shown


async def _breaches(conn: AsyncConnection) -> list[dict[str, Any]]:
    rows = await conn.execute(
        select(
            sla_clock.c.metric,
            sla_clock.c.breached_at,
            sla_clock.c.breach_at,
            inquiry.c.id,
            inquiry.c.subject,
            inquiry.c.kind,
            inquiry.c.priority,
            inquiry.c.team_id,
            inquiry.c.assignee_id,
            agent.c.name.label("assignee_name"),
        )
        .join(inquiry, inquiry.c.id == sla_clock.c.inquiry_id)
        .outerjoin(agent, agent.c.id == inquiry.c.assignee_id)
        .where(
            sla_clock.c.state.in_(("active", "paused")),
            sla_clock.c.breached_at.is_not(None),
            inquiry.c.status.in_(_OPEN),
        )
        .order_by(sla_clock.c.breached_at.desc(), sla_clock.c.id)
        .limit(MAX_BREACHES)
    )
    return [
        {
            "inquiry": {
                "id": r["id"], "number": r["id"] + NUMBER_BASE, "subject": r["subject"], "kind": r["kind"],
                "priority": r["priority"], "team_id": r["team_id"],
                "assignee": {"id": r["assignee_id"], "name": r["assignee_name"]} if r["assignee_id"] else None,
            },
            "metric": r["metric"],
            "breach_at": iso(r["breached_at"] or r["breach_at"]),
        }
        for r in rows.mappings()
    ]  # fmt: skip


async def _callbacks(conn: AsyncConnection) -> dict[str, int]:
    rows = await conn.execute(
        select(callback.c.state, func.count())
        .where(callback.c.state.in_(("due", "dialling", "escalated")))
        .group_by(callback.c.state)
    )
    counts = {state: int(n) for state, n in rows}
    return {"due": counts.get("due", 0) + counts.get("dialling", 0), "escalated": counts.get("escalated", 0)}


def _one_if(condition: Any) -> Any:
    return case((condition, 1), else_=0)
