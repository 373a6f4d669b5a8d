"""What an inquiry asks of who shall have it: skills and language, and a team if it names none. Reads only."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import bindparam, select

from crm_core.db.prepared import Prepared
from crm_core.db.uow import UnitOfWork
from crm_core.schema import agent, agent_skill, team, team_member
from routing import store
from routing.model import Requirements


async def requirements(
    uow: UnitOfWork, team_id: int | None, language: str, asked: Mapping[str, Any]
) -> Requirements:
    """Skills asked for, and the language as one of them.

    A value is a level 1-5, or `{"level": n, "preferred": true}`, or `{"level": n, "hard": true}`. A
    language that nobody in the team speaks is dropped: an answer in another language is better than none.
    """
    required: dict[str, int] = {}
    preferred: dict[str, int] = {}
    hard: set[str] = set()
    for skill, value in asked.items():
        wish = value if isinstance(value, Mapping) else {"level": value}
        level = wish.get("level", 1)
        level = min(max(level, 1), 5) if isinstance(level, int) else 1
        if wish.get("preferred"):
            preferred[skill] = level
            continue
        required[skill] = level
        if wish.get("hard"):
            hard.add(skill)
    dropped: list[str] = []
    if language and (skill := f"lang:{language[:2]}") not in required:
        if await _somebody_has(uow, skill, team_id):
            required[skill] = 1
            hard.add(skill)
        else:
            dropped.append(skill)
    return Requirements(required=required, preferred=preferred, hard=frozenset(hard), dropped=tuple(dropped))


async def _somebody_has(uow: UnitOfWork, skill: str, team_id: int | None) -> bool:
    here = {"skill_": skill} if team_id is None else {"skill_": skill, "team": team_id}
    return await uow.row(_HAS[team_id is not None], here) is not None


def _has(*, in_team: bool) -> Prepared:
    statement = (
        select(agent_skill.c.agent_id)
        .join(agent, agent.c.id == agent_skill.c.agent_id)
        .where(agent_skill.c.skill == bindparam("skill_"), agent.c.active)
        .limit(1)
    )
    if in_team:
        mates = team_member.c.agent_id == agent.c.id
        statement = statement.join(team_member, mates).where(team_member.c.team_id == bindparam("team"))
    return Prepared(statement)


_HAS = {t: _has(in_team=t) for t in (True, False)}


async def default_team(uow: UnitOfWork) -> int | None:
    """The team that says it is the default, else the first."""
    rows = await uow.rows(select(team.c.id, team.c.settings).where(team.c.active).order_by(team.c.id))
    chosen = next((r["id"] for r in rows if store.settings_of(r["settings"])[0].default), None)
    return chosen if chosen is not None else (rows[0]["id"] if rows else None)
