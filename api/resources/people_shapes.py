"""The shapes of agents, teams and presence, loaded with a fixed number of queries whatever their count."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.layer.fields import InstantOut, Out
from crm_core.schema import agent, agent_skill, inquiry, team, team_member
from crm_core.views import iso
from routing.limits import own_limits
from routing.schema import agent_slot, agent_state

Data = dict[str, Any]
#: statuses of work that still waits for somebody
LIVE = ("new", "open", "pending", "hold")


class NamedOut(Out):
    id: int
    name: str | None


class SkillOut(Out):
    skill: str
    level: int


class SlotOut(Out):
    channel: str
    used: int
    max: int


class LoadOut(Out):
    used: int
    max: int


class AgentOut(Out):
    id: int
    name: str
    email: str
    role: str
    language: str
    languages: list[str]
    skills: list[SkillOut]
    teams: list[int]
    extension: str | None
    calendar_id: int | None
    capacity: Annotated[
        dict[str, int],
        Field(description="his own limits; `slots` shows what is in force, his teams' included"),
    ]
    active: bool
    presence: str
    presence_reason: str | None
    state_since: InstantOut | None
    load: LoadOut
    slots: list[SlotOut]
    open_count: int


class PresenceOut(Out):
    presence: str
    reason: str | None
    since: InstantOut | None
    lease_until: InstantOut | None
    wrapup_until: InstantOut | None
    capacity: list[SlotOut]
    load_used: int
    load_max: int


class TeamOut(Out):
    id: int
    name: str
    calendar_id: int | None
    channels: list[str]
    active: bool
    settings: Annotated[dict[str, Any], Field(description="routing rules, see docs/routing.md")]
    members: list[int]


async def load_agents(conn: AsyncConnection, ids: Iterable[int] | None = None) -> list[Data]:
    """Agents by id (all if None), in order of name. Six queries."""
    wanted = None if ids is None else sorted(set(ids))
    if wanted == []:
        return []
    statement = select(agent).order_by(agent.c.name, agent.c.id)
    rows = await _rows(conn, statement if wanted is None else statement.where(agent.c.id.in_(wanted)))
    skills = await _by_agent(conn, agent_skill, wanted)
    members = await _by_agent(conn, team_member, wanted)
    slots = await _by_agent(conn, agent_slot, wanted)
    states = {s["agent_id"]: s for s in await _rows(conn, _of(select(agent_state), agent_state, wanted))}
    counting = (
        select(inquiry.c.assignee_id, func.count().label("n"))
        .group_by(inquiry.c.assignee_id)
        .where(inquiry.c.status.in_(LIVE), inquiry.c.assignee_id.is_not(None))
    )
    if wanted is not None:
        counting = counting.where(inquiry.c.assignee_id.in_(wanted))
    counts = {r["assignee_id"]: r["n"] for r in await _rows(conn, counting)}
    return [
        _agent(
            row,
            skills.get(row["id"], ()),
            members.get(row["id"], ()),
            slots.get(row["id"], ()),
            states.get(row["id"]),
            counts.get(row["id"], 0),
        )
        for row in rows
    ]


def _agent(
    row: Any, skills: Sequence[Any], members: Sequence[Any], slots: Sequence[Any], state: Any, open_count: int
) -> Data:
    languages = sorted(s["skill"].partition(":")[2] for s in skills if s["skill"].startswith("lang:"))
    return {
        "id": row["id"],
        "name": row["name"],
        "email": row["email"],
        "role": row["role"],
        "language": row["language"],
        "languages": languages,
        "skills": [
            {"skill": s["skill"], "level": s["level"]} for s in sorted(skills, key=lambda s: s["skill"])
        ],
        "teams": sorted(m["team_id"] for m in members),
        "extension": row["extension"],
        "calendar_id": row["calendar_id"],
        "capacity": own_limits(row["settings"]),
        "active": row["active"],
        "presence": state["presence"] if state else "offline",
        "presence_reason": state["reason"] if state else None,
        "state_since": iso(state["since"]) if state else None,
        "load": {"used": state["load_used"] if state else 0, "max": state["load_max"] if state else 0},
        "slots": _slots(slots),
        "open_count": open_count,
    }


def _slots(rows: Sequence[Any]) -> list[Data]:
    return [
        {"channel": s["channel"], "used": s["used"], "max": s["max"]}
        for s in sorted(rows, key=lambda s: s["channel"])
    ]


async def load_presence(conn: AsyncConnection, agent_id: int) -> Data:
    """Where an agent stands: presence, lease, capacity."""
    state = (
        (await conn.execute(select(agent_state).where(agent_state.c.agent_id == agent_id))).mappings().first()
    )
    slots = await _rows(conn, select(agent_slot).where(agent_slot.c.agent_id == agent_id))
    return {
        "presence": state["presence"] if state else "offline",
        "reason": state["reason"] if state else None,
        "since": iso(state["since"]) if state else None,
        "lease_until": iso(state["lease_until"]) if state else None,
        "wrapup_until": iso(state["wrapup_until"]) if state else None,
        "capacity": _slots(slots),
        "load_used": state["load_used"] if state else 0,
        "load_max": state["load_max"] if state else 0,
    }


async def load_teams(conn: AsyncConnection, ids: Sequence[int] | None = None) -> list[Data]:
    """Teams by id (all if None), in order of name. Two queries."""
    statement, joined = (
        select(team).order_by(team.c.name),
        select(team_member).order_by(team_member.c.agent_id),
    )
    if ids is not None:
        if not ids:
            return []
        statement = statement.where(team.c.id.in_(ids))
        joined = joined.where(team_member.c.team_id.in_(ids))
    members: dict[int, list[int]] = {}
    for row in await _rows(conn, joined):
        members.setdefault(row["team_id"], []).append(row["agent_id"])
    return [
        {
            "id": t["id"],
            "name": t["name"],
            "calendar_id": t["calendar_id"],
            "active": t["active"],
            "channels": [str(c) for c in t["settings"].get("channels", [])],
            "settings": t["settings"],
            "members": members.get(t["id"], []),
        }
        for t in await _rows(conn, statement)
    ]


async def _rows(conn: AsyncConnection, statement: Any) -> Sequence[Any]:
    return (await conn.execute(statement)).mappings().all()


def _of(statement: Any, table: Any, ids: Sequence[int] | None) -> Any:
    return statement if ids is None else statement.where(table.c.agent_id.in_(ids))


async def _by_agent(conn: AsyncConnection, table: Any, ids: Sequence[int] | None) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for row in await _rows(conn, _of(select(table), table, ids)):
        found.setdefault(row["agent_id"], []).append(row)
    return found
