"""Whom the SLA tells: leads of a team, the people on call, and the on-call list itself.

The list is data of a team (a setting `oncall:<team id>`): people by name or by role, how often they are called and how
many minutes lie between, and optionally a webhook that is called with them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.clock import MINUTE
from crm_core.db.uow import UnitOfWork, read_rows
from crm_core.errors import Invalid, NotFound
from crm_core.events import SUPERVISORS, DomainEvent
from crm_core.schema import agent, setting, team, team_member, webhook

ROLES = ("lead", "member", "supervisor", "admin")
MAX_PEOPLE = 50


@dataclass(frozen=True, slots=True)
class OnCall:
    """Who is called for a team. `roles` are leads or members of the team, or supervisors or admins of the house."""

    agents: tuple[int, ...] = ()
    roles: tuple[str, ...] = ("lead",)
    every_minutes: int = 5
    times: int = 3
    webhook: str | None = None

    @property
    def every_ms(self) -> int:
        return self.every_minutes * MINUTE

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            tuple(data["agents"]), tuple(data["roles"]), data["every_minutes"], data["times"], data["webhook"]
        )

    def to_data(self) -> dict[str, Any]:
        return {
            "agents": list(self.agents), "roles": list(self.roles), "every_minutes": self.every_minutes,
            "times": self.times, "webhook": self.webhook,
        }  # fmt: skip


async def leads(conn: AsyncConnection, team_ids: Iterable[int | None]) -> dict[int | None, tuple[int, ...]]:
    """Who leads each team: its marked leads; a team without one is led by the supervisors among its members, else by
    all supervisors, else by the admins.
    """
    wanted = set(team_ids)
    if not wanted:
        return {}
    statement = (
        select(team_member.c.team_id, team_member.c.agent_id, team_member.c.lead, agent.c.role)
        .join(agent, agent.c.id == team_member.c.agent_id)
        .where(team_member.c.team_id.in_(wanted - {None}), agent.c.active)
        .where(team_member.c.lead | (agent.c.role != "agent"))
        .order_by(team_member.c.agent_id)
    )
    rows = await read_rows(conn, statement)
    found: dict[int | None, tuple[int, ...]] = {}
    for team_id in wanted:
        mine = [row for row in rows if row["team_id"] == team_id]
        found[team_id] = tuple(row["agent_id"] for row in mine if row["lead"]) or tuple(
            row["agent_id"] for row in mine
        )
    if lacking := [team_id for team_id, people in found.items() if not people]:
        house = await _with_role(conn, "supervisor") or await _with_role(conn, "admin")
        found.update(dict.fromkeys(lacking, house))
    return found


async def _with_role(conn: AsyncConnection, role: str) -> tuple[int, ...]:
    statement = select(agent.c.id).where(agent.c.role == role, agent.c.active).order_by(agent.c.id)
    return tuple(row["id"] for row in await read_rows(conn, statement.limit(MAX_PEOPLE)))


async def on_call_list(conn: AsyncConnection, team_id: int | None) -> OnCall:
    """The list as it was written; without one, the leads."""
    stored = await conn.scalar(select(setting.c.value).where(setting.c.key == _key(team_id or 0)))
    return OnCall.from_data(stored) if stored else OnCall()


async def on_call(conn: AsyncConnection, team_id: int | None, wanted: OnCall) -> tuple[int, ...]:
    """The people of a list, by id; nobody in it (all left) means the leads."""
    found = set(wanted.agents)
    if "lead" in wanted.roles:
        found |= set((await leads(conn, [team_id]))[team_id])
    for role in ("supervisor", "admin"):
        if role in wanted.roles:
            found |= set(await _with_role(conn, role))
    if "member" in wanted.roles and team_id is not None:
        members = select(team_member.c.agent_id).where(team_member.c.team_id == team_id)
        found |= {row["agent_id"] for row in await read_rows(conn, members.limit(MAX_PEOPLE))}
    active = select(agent.c.id).where(agent.c.id.in_(sorted(found)), agent.c.active).order_by(agent.c.id)
    people = tuple(row["id"] for row in await read_rows(conn, active))
    return people or (await leads(conn, [team_id]))[team_id]


async def set_on_call(uow: UnitOfWork, team_id: int, wanted: OnCall, *, actor: str) -> None:
    """Write a team's list. Raises NotFound (team), Invalid (people or webhook that are not there)."""
    if await uow.scalar(select(team.c.id).where(team.c.id == team_id)) is None:
        raise NotFound(f"no team {team_id}", params={"team_id": team_id})
    known = {r["id"] for r in await uow.rows(select(agent.c.id).where(agent.c.id.in_(wanted.agents)))}
    if missing := sorted(set(wanted.agents) - known):
        raise _invalid("agents", f"there is no agent {missing[0]}")
    if not wanted.agents and not wanted.roles:
        raise _invalid("agents", "somebody must be on call: name people or roles")
    if wanted.webhook is not None:
        there = await uow.scalar(select(webhook.c.id).where(webhook.c.key == wanted.webhook))
        if there is None:
            raise _invalid("webhook", f"there is no webhook {wanted.webhook!r}")
    values = {"key": _key(team_id), "value": wanted.to_data()}
    if await uow.insert_new(setting, values, key=["key"]) is None:
        await uow.execute(
            setting.update().where(setting.c.key == _key(team_id)).values(value=wanted.to_data())
        )
    await uow.emit(
        DomainEvent(
            kind="oncall.changed", subject_kind="team", subject_id=team_id, actor=actor, audience=SUPERVISORS,
            payload=wanted.to_data(),
        )
    )  # fmt: skip


def _key(team_id: int) -> str:
    return f"oncall:{team_id}"


def _invalid(field: str, why: str) -> Invalid:
    return Invalid(why, code="bad_on_call", params={"errors": [{"loc": ["body", field], "msg": why}]})
