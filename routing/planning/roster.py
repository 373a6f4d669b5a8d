"""Who works in the teams: who is planned by the calendars, who is there now, with what skills and limits.

Reads only. An agent's own calendar are his shifts; without one he is taken to work in his team's hours.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.schema import agent, agent_skill, team_member
from routing import store
from routing.business_time import Calendar
from routing.model import Presence
from routing.schema import agent_slot, agent_state
from routing.schema import calendar as calendar_table


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """An active agent who is in a team. `shifts`: his own calendar. `plannable`: his work is this, not to lead."""

    id: int
    name: str
    plannable: bool
    teams: frozenset[int]
    shifts: Calendar | None
    skills: Mapping[str, int] = field(default_factory=dict)
    capacity: Mapping[str, int] = field(default_factory=dict)
    presence: str = Presence.OFFLINE
    online: bool = False
    used: Mapping[str, int] = field(default_factory=dict)

    def planned(self, team_calendar: Calendar | None, start: int, end: int) -> float:
        """The part of [start, end) in which he is to work, 0..1."""
        hours = self.shifts or team_calendar
        return 1.0 if hours is None else hours.elapsed(start, end) / (end - start)


async def people(conn: AsyncConnection, now: int) -> list[Person]:
    """Everybody active who is a member of a team, by id."""
    teams: dict[int, set[int]] = {}
    for team_id, agent_id in await conn.execute(select(team_member.c.team_id, team_member.c.agent_id)):
        teams.setdefault(agent_id, set()).add(team_id)
    skills: dict[int, dict[str, int]] = {}
    for agent_id, skill, level in await conn.execute(
        select(agent_skill.c.agent_id, agent_skill.c.skill, agent_skill.c.level)
    ):
        skills.setdefault(agent_id, {})[skill] = level
    used: dict[int, dict[str, int]] = {}
    for row in (await conn.execute(select(agent_slot))).mappings():
        used.setdefault(row["agent_id"], {})[row["channel"]] = row["used"]
    rows = await conn.execute(
        select(
            agent.c.id, agent.c.name, agent.c.role, agent.c.settings, calendar_table.c.spec,
            agent_state.c.presence, agent_state.c.routable, agent_state.c.lease_until,
        )
        .outerjoin(calendar_table, calendar_table.c.id == agent.c.calendar_id)
        .outerjoin(agent_state, agent_state.c.agent_id == agent.c.id)
        .where(agent.c.active)
        .order_by(agent.c.id)
    )  # fmt: skip
    return [
        Person(
            id=row["id"],
            name=row["name"],
            plannable=row["role"] == "agent",
            teams=frozenset(teams[row["id"]]),
            shifts=store.calendar_of(row["spec"]),
            skills=skills.get(row["id"], {}),
            capacity=capacity_of(row["settings"]),
            presence=row["presence"] or Presence.OFFLINE,
            online=bool(row["routable"]) and (row["lease_until"] or 0) > now,
            used=used.get(row["id"], {}),
        )
        for row in rows.mappings()
        if row["id"] in teams
    ]


def capacity_of(settings: Any) -> dict[str, int]:
    """An agent's own limits, of `agent.settings.capacity`; what is no number there is left out, as routing does."""
    own = settings.get("capacity") if isinstance(settings, Mapping) else None
    if not isinstance(own, Mapping):
        return {}
    return {str(k): v for k, v in own.items() if isinstance(v, int) and not isinstance(v, bool) and v >= 0}


def planned(who: Iterable[Person], team_calendar: Calendar | None, start: int, end: int) -> float:
    """How many people are planned in [start, end), parts of it counted as parts."""
    return sum(p.planned(team_calendar, start, end) for p in who if p.plannable)
