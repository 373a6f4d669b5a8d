"""Lanes: interned signatures of who may serve, and which agents are in each.

Membership changes with skills, levels and teams, never with presence. It is written when a lane is first
used and when an agent's skills or teams change (`rebuild_agent`), and checked again inside every claim.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Integer, and_, bindparam, delete, exists, insert, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.selectable import Select

from crm_core.clock import MINUTE
from crm_core.db.prepared import Prepared, any_of, fetch, list_of, object_of
from crm_core.db.uow import UnitOfWork
from crm_core.schema import agent, agent_skill, team_member
from routing import capacity
from routing.eligibility import skill_failure
from routing.model import AgentView, LaneSpec, RowLike
from routing.schema import agent_lane, lane

#: lanes made this recently are filled again by the sweeper: a concurrent change of an agent may have missed
# them
FRESH_MS = 3 * MINUTE
#: lanes of a team; beyond it levels are no longer a part of them
MAX_LANES = 2_000


async def intern(uow: UnitOfWork, specs: Iterable[LaneSpec]) -> dict[str, int]:
    """The ids of these lanes by signature, making and filling those that are new.

    A team with more lanes than `MAX_LANES` gets no finer ones: what would be new is the lane that asks for the same
    skills at any level (`coarse`), and who serves it has to be tested for levels.
    """
    wanted = {s.signature: s for s in specs}
    cache = _cache(uow.conn)
    found = {s: cache[s] for s in wanted if s in cache}
    if len(found) == len(wanted):
        return found
    missing = {s: spec for s, spec in wanted.items() if s not in found}
    found |= await known(uow.conn, missing.values())
    for signature, spec in missing.items():
        if signature not in found:
            found[signature] = await _make(uow, spec)
    # A lane is never changed or deleted. Only what is committed is kept: this transaction may have made it.
    uow.after_commit(lambda: _keep(cache, found))
    return found


async def known(conn: AsyncConnection, specs: Iterable[LaneSpec]) -> dict[str, int]:
    """The ids, by signature, of those lanes that exist, as themselves or as their coarser ones."""
    by_signature = {s.signature: s for s in specs}
    if not by_signature:
        return {}
    coarser = {signature: coarse(spec).signature for signature, spec in by_signature.items()}
    names = sorted({*by_signature, *coarser.values()})
    there = {r["signature"]: r["id"] for r in await fetch(conn, _KNOWN, {"signatures": names})}
    found: dict[str, int] = {}
    crowded: dict[int | None, bool] = {}
    for signature, spec in by_signature.items():
        if signature in there:
            found[signature] = there[signature]
        elif coarser[signature] in there:
            # It may just not be made yet; only in a team with very many it never will be.
            if spec.team_id not in crowded:
                crowded[spec.team_id] = await _is_crowded(conn, spec.team_id)
            if crowded[spec.team_id]:
                found[signature] = there[coarser[signature]]
    return found


def coarse(spec: LaneSpec) -> LaneSpec:
    """The lane that asks for the same skills at any level: its members include all of `spec`'s."""
    if spec.agent_id is not None:
        return spec
    return replace(spec, requirements=tuple((skill, 1) for skill, _ in spec.requirements))


async def _make(uow: UnitOfWork, spec: LaneSpec) -> int:
    if spec.agent_id is None and coarse(spec) != spec and await _is_crowded(uow.conn, spec.team_id):
        spec = coarse(spec)
    made = await uow.insert_new(
        lane,
        {
            "signature": spec.signature, "team_id": spec.team_id, "channel": spec.channel,
            "requirements": dict(spec.requirements), "agent_id": spec.agent_id, "created_at": uow.now,
        },
        key=["signature"], returning=lane.c.id,
    )  # fmt: skip
    if made is None:
        (row,) = await uow.rows(_KNOWN, {"signatures": [spec.signature]})
        return int(row["id"])
    await _fill(uow, int(made), spec)
    return int(made)


async def _is_crowded(conn: AsyncConnection, team_id: int | None) -> bool:
    """Whether a team has as many lanes as it may."""
    if team_id is None:
        return False
    return len(await fetch(conn, _COUNT, {"team": team_id, "most": MAX_LANES})) >= MAX_LANES


_KNOWN = Prepared(select(lane.c.signature, lane.c.id).where(any_of(lane.c.signature, "signatures")))
_COUNT = Prepared(
    select(lane.c.id).where(lane.c.team_id == bindparam("team")).limit(bindparam("most", type_=Integer))
)

# One per engine: a process has one or two, a test run has many databases whose lanes look alike.
_CACHES: "WeakKeyDictionary[Any, dict[str, int]]" = WeakKeyDictionary()
_MOST_CACHED = 50_000


def _cache(conn: AsyncConnection) -> dict[str, int]:
    engine = conn.sync_connection.engine if conn.sync_connection is not None else None
    return {} if engine is None else _CACHES.setdefault(engine, {})


def _keep(cache: dict[str, int], found: Mapping[str, int]) -> None:
    if len(cache) > _MOST_CACHED:
        cache.clear()
    cache.update(found)


async def rebuild_agent(uow: UnitOfWork, agent_id: int) -> None:
    """Recompute which lanes an agent serves and his limits. Call it in the transaction that edits his
    teams, skills or activity, or the settings of his team.

    Raises:
        NotFound: no such agent.
    """
    await capacity.ensure(uow, agent_id)
    await capacity.refresh_limits(uow, agent_id)
    view = (await static_views(uow.conn, [agent_id])).get(agent_id)
    mine: set[int] = set()
    if view is not None:
        mates = [lane.c.team_id.is_(None)]
        if view.teams:
            mates.append(lane.c.team_id.in_(sorted(view.teams)))
        rows = await uow.rows(
            select(lane).where(or_(lane.c.agent_id == agent_id, and_(lane.c.agent_id.is_(None), or_(*mates))))
        )
        mine = {
            r["id"]
            for r in rows
            if r["agent_id"] is not None or skill_failure(view, r["requirements"].items()) is None
        }
    now_in = {
        r["lane_id"] for r in await uow.rows(select(agent_lane).where(agent_lane.c.agent_id == agent_id))
    }
    if gone := now_in - mine:
        await uow.execute(
            delete(agent_lane).where(
                agent_lane.c.agent_id == agent_id, agent_lane.c.lane_id.in_(sorted(gone))
            )
        )
    for lane_id in sorted(mine - now_in):
        await uow.insert_new(
            agent_lane, {"agent_id": agent_id, "lane_id": lane_id}, key=["agent_id", "lane_id"]
        )


async def static_views(conn: AsyncConnection, agent_ids: Sequence[int]) -> dict[int, AgentView]:
    """Names, skills and teams of active agents, without presence and capacity."""
    if not agent_ids:
        return {}
    return {
        r["id"]: AgentView(
            agent_id=r["id"], name=r["name"], skills=r["skills"] or {}, teams=frozenset(r["teams"] or ())
        )
        for r in await fetch(conn, _STATIC, {"agents": list(agent_ids)})
    }


_skills = (
    select(object_of(agent_skill.c.skill, agent_skill.c.level))
    .where(agent_skill.c.agent_id == agent.c.id)
    .correlate(agent)
    .scalar_subquery()
)
_teams = (
    select(list_of(team_member.c.team_id))
    .where(team_member.c.agent_id == agent.c.id)
    .correlate(agent)
    .scalar_subquery()
)
_STATIC = Prepared(
    select(agent.c.id, agent.c.name, _skills.label("skills"), _teams.label("teams")).where(
        any_of(agent.c.id, "agents"), agent.c.active
    )
)


async def refill_fresh(uow: UnitOfWork) -> int:
    """Fill the lanes made in the last minutes again. Returns how many were looked at."""
    rows = await uow.rows(
        select(lane).where(lane.c.created_at > uow.now - FRESH_MS).order_by(lane.c.id).limit(500)
    )
    for row in rows:
        await _fill(uow, row["id"], spec_of(row))
    return len(rows)


def spec_of(row: RowLike) -> LaneSpec:
    return LaneSpec(
        row["channel"], team_id=row["team_id"], requirements=tuple(sorted(row["requirements"].items())),
        agent_id=row["agent_id"],
    )  # fmt: skip


async def _fill(uow: UnitOfWork, lane_id: int, spec: LaneSpec) -> None:
    there = exists().where(agent_lane.c.agent_id == agent.c.id, agent_lane.c.lane_id == lane_id)
    members = _members(spec).where(~there.correlate(agent)).add_columns(literal(lane_id))
    await uow.execute(insert(agent_lane).from_select(["agent_id", "lane_id"], members))


def _members(spec: LaneSpec) -> Select[Any]:
    statement = select(agent.c.id).where(agent.c.active)
    if spec.agent_id is not None:
        return statement.where(agent.c.id == spec.agent_id)
    if spec.team_id is not None:
        statement = statement.where(
            exists().where(team_member.c.agent_id == agent.c.id, team_member.c.team_id == spec.team_id)
        )
    for skill, level in spec.requirements:
        statement = statement.where(
            exists().where(
                agent_skill.c.agent_id == agent.c.id,
                agent_skill.c.skill == skill,
                agent_skill.c.level >= level,
            )
        )
    return statement
