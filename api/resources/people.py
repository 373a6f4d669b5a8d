"""Agents and teams."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth.passwords import PASSWORDS
from api.layer.fields import In, Name, Page, RowId, ShortQuery
from api.layer.paging import page_in_memory
from api.layer.routes import Call, Data, Routes
from api.resources.people_shapes import AgentOut, TeamOut, load_agents, load_teams
from crm_core.db.uow import UnitOfWork
from crm_core.errors import Conflict, Invalid, NotFound
from crm_core.events import EVERYONE, DomainEvent
from crm_core.schema import agent, agent_skill, login_session, team, team_member
from routing import configuration, lanes, presence
from routing.callbacks import settings as callback_settings
from routing.schema import calendar

routes = Routes("people")

Email = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=254)]
Password = Annotated[str, Field(min_length=10, max_length=1000)]
Role = Literal["agent", "supervisor", "admin"]
Language = Annotated[str, Field(pattern="^[a-z]{2,3}$")]
Limit = Annotated[int, Field(ge=0, le=1000)]


class SkillIn(In):
    skill: Annotated[str, Field(pattern=r"^[a-z0-9_.:\-]{1,80}$")]
    level: Annotated[int, Field(ge=1, le=5)]


class CapacityIn(In):
    """An agent's own limits; what is missing is as his teams have it."""

    voice: Limit | None = None
    chat: Limit | None = None
    async_: Annotated[Limit | None, Field(alias="async")] = None
    callback: Limit | None = None
    load_max: Annotated[int, Field(ge=1, le=10_000)] | None = None

    def said(self) -> Data:
        return self.model_dump(by_alias=True, exclude_none=True)


class AgentIn(In):
    name: Name
    email: Email
    password: Password | None = None
    role: Role = "agent"
    language: Literal["en", "uk", "ru"] = "en"
    languages: Annotated[list[Language], Field(max_length=20)] | None = None
    skills: Annotated[list[SkillIn], Field(max_length=100)] = Field(default_factory=list)
    teams: Annotated[list[RowId], Field(max_length=100)] = Field(default_factory=list)
    extension: Annotated[str, Field(pattern=r"^[0-9A-Za-z*#_.\-]{1,40}$")] | None = None
    calendar_id: Annotated[RowId, Field(description="his own shifts; null: his team's hours")] | None = None
    capacity: CapacityIn | None = None


class AgentChangeIn(In):
    name: Name | None = None
    email: Email | None = None
    password: Password | None = None
    role: Role | None = None
    language: Literal["en", "uk", "ru"] | None = None
    languages: Annotated[list[Language], Field(max_length=20)] | None = None
    skills: Annotated[list[SkillIn], Field(max_length=100)] | None = None
    teams: Annotated[list[RowId], Field(max_length=100)] | None = None
    extension: Annotated[str, Field(pattern=r"^[0-9A-Za-z*#_.\-]{1,40}$")] | None = None
    calendar_id: Annotated[RowId, Field(description="his own shifts; null: his team's hours")] | None = None
    capacity: CapacityIn | None = None
    active: bool | None = None


class TeamIn(In):
    name: Annotated[str, Field(min_length=1, max_length=120)]
    calendar_id: RowId | None = None
    settings: dict[str, Any] = Field(default_factory=dict)


class TeamChangeIn(In):
    name: Annotated[str, Field(min_length=1, max_length=120)] | None = None
    calendar_id: RowId | None = None
    settings: dict[str, Any] | None = None
    active: bool | None = None


class AgentsQuery(ShortQuery):
    team_id: RowId | None = None
    active: bool | None = None


@routes.get("/agents")
async def list_agents(conn: AsyncConnection, query: AgentsQuery) -> Annotated[Data, Page[AgentOut]]:
    """All agents with where they stand, by name. One installation has hundreds: all at once unless `limit` is given."""
    found = await load_agents(conn)
    items = [
        a
        for a in found
        if (query.team_id is None or query.team_id in a["teams"])
        and (query.active is None or a["active"] == query.active)
    ]
    return page_in_memory(items, cursor=query.cursor, limit=query.limit, key=_by_name)


def _by_name(row: Mapping[Any, Any]) -> tuple[str, int]:
    return (row["name"].casefold(), row["id"])


@routes.get("/agents/{id}")
async def show_agent(conn: AsyncConnection, id: RowId) -> Annotated[Data, AgentOut]:  # noqa: A002
    """One agent."""
    found = await load_agents(conn, [id])
    if not found:
        raise NotFound(f"no agent {id}", params={"agent_id": id})
    return found[0]


@routes.post("/agents", role="admin", status=201, errors=(409, 429))
async def create_agent(call: Call, body: AgentIn) -> Annotated[Data, AgentOut]:
    """Add an agent. Without a password he can only use API tokens until one is set."""
    hashed = await call.request.app[PASSWORDS].hash(body.password) if body.password else None
    async with call.db.transaction() as uow:
        await _check_calendar(uow, body.calendar_id)
        values: dict[str, Any] = {
            "email": body.email.lower(),
            "name": body.name,
            "password_hash": hashed,
            "role": body.role,
            "language": body.language,
            "extension": body.extension,
            "calendar_id": body.calendar_id,
            "settings": {} if body.capacity is None else {"capacity": body.capacity.said()},
            "active": True,
            "created_at": uow.now,
        }
        agent_id = await uow.insert_new(agent, values, key=["email"], returning=agent.c.id)
        if agent_id is None:
            raise Conflict("there is an agent with this email", code="email_taken")
        await _set_skills(uow, agent_id, body.skills, body.languages)
        await _set_teams(uow, agent_id, body.teams)
        await configuration.note_people(uow, agent_id, configuration.People(), actor=call.actor.label)
        return await _done(call, uow, int(agent_id), "agent.created")


@routes.patch("/agents/{id}", role="admin", errors=(409, 429))
async def change_agent(call: Call, id: RowId, body: AgentChangeIn) -> Annotated[Data, AgentOut]:  # noqa: A002
    """Change an agent. Deactivating or a new password ends his sessions at once."""
    changes = body.changes()
    for name in changes.keys() - {"extension", "password", "calendar_id", "capacity"}:
        if changes[name] is None:
            raise Invalid(
                f"{name} cannot be null",
                params={"errors": [{"loc": ["body", name], "msg": "cannot be null"}]},
            )
    password = changes.pop("password", None)
    if password is not None:
        changes["password_hash"] = await call.request.app[PASSWORDS].hash(password)
    skills, languages, teams = (changes.pop(name, None) for name in ("skills", "languages", "teams"))
    limited = "capacity" in changes
    changes.pop("capacity", None)
    if "email" in changes:
        changes["email"] = changes["email"].lower()
    if id == call.actor.agent_id and (
        changes.get("active") is False or changes.get("role", "admin") != "admin"
    ):
        raise Conflict("an admin cannot lock himself out", code="own_account")
    async with call.db.transaction() as uow:
        stored = await uow.row(uow.lock(select(agent.c.settings).where(agent.c.id == id)))
        if stored is None:
            raise NotFound(f"no agent {id}", params={"agent_id": id})
        await _check_calendar(uow, changes.get("calendar_id"))
        if limited:
            others = {k: v for k, v in stored["settings"].items() if k != "capacity"}
            own = body.capacity.said() if body.capacity is not None else {}
            changes["settings"] = {**others, "capacity": own} if own else others
        if (
            "email" in changes
            and await uow.scalar(
                select(agent.c.id).where(agent.c.email == changes["email"], agent.c.id != id)
            )
            is not None
        ):
            raise Conflict("there is an agent with this email", code="email_taken")
        before = await configuration.people(uow, id)
        if changes:
            await uow.execute(update(agent).where(agent.c.id == id).values(**changes))
        if changes.get("active") is False or password is not None:
            await uow.execute(delete(login_session).where(login_session.c.agent_id == id))
        if skills is not None or languages is not None:
            await _set_skills(uow, id, skills, languages)
        if teams is not None:
            await _set_teams(uow, id, teams)
        await configuration.note_people(uow, id, before, actor=call.actor.label)
        if changes.get("active") is False:
            await presence.set_presence(uow, id, "offline")
        return await _done(call, uow, id, "agent.updated")


async def _done(call: Call, uow: UnitOfWork, agent_id: int, kind: str) -> Data:
    await lanes.rebuild_agent(uow, agent_id)
    shown = (await load_agents(uow.conn, [agent_id]))[0]
    await uow.emit(
        DomainEvent(
            kind=kind,
            subject_kind="agent",
            subject_id=agent_id,
            actor=call.actor.label,
            payload={"agent": {k: shown[k] for k in ("id", "name", "role", "active", "teams")}},
            audience=EVERYONE,
        )
    )
    return shown


async def _set_skills(
    uow: UnitOfWork, agent_id: int, skills: Sequence[SkillIn] | None, languages: Sequence[str] | None
) -> None:
    """`languages` is the short form of the skills lang:…: alone it replaces them, beside `skills` it adds to these; a
    level given as a skill wins.
    """
    rows = await uow.rows(select(agent_skill).where(agent_skill.c.agent_id == agent_id))
    known = {r["skill"]: int(r["level"]) for r in rows}
    wanted = known if skills is None else {s.skill: s.level for s in skills}
    if languages is not None:
        if skills is None:
            wanted = {s: n for s, n in wanted.items() if not s.startswith("lang:") or s[5:] in languages}
        wanted = {**{f"lang:{each}": known.get(f"lang:{each}", 5) for each in languages}, **wanted}
    await uow.execute(delete(agent_skill).where(agent_skill.c.agent_id == agent_id))
    if wanted:
        await uow.execute(
            insert(agent_skill).values(
                [{"agent_id": agent_id, "skill": s, "level": level} for s, level in sorted(wanted.items())]
            )
        )


async def _set_teams(uow: UnitOfWork, agent_id: int, ids: Sequence[int]) -> None:
    wanted = sorted(set(ids))
    known = (
        {r["id"] for r in await uow.rows(select(team.c.id).where(team.c.id.in_(wanted)))} if wanted else set()
    )
    if missing := sorted(set(wanted) - known):
        raise Invalid(
            f"no team {missing[0]}", params={"errors": [{"loc": ["body", "teams"], "msg": "unknown"}]}
        )
    leads = {
        r["team_id"]: r["lead"]
        for r in await uow.rows(select(team_member).where(team_member.c.agent_id == agent_id))
    }
    await uow.execute(delete(team_member).where(team_member.c.agent_id == agent_id))
    if wanted:
        await uow.execute(
            insert(team_member).values(
                [{"team_id": t, "agent_id": agent_id, "lead": leads.get(t, False)} for t in wanted]
            )
        )


@routes.get("/teams")
async def list_teams(conn: AsyncConnection, query: ShortQuery) -> Annotated[Data, Page[TeamOut]]:
    """All teams with their members, by name."""
    return page_in_memory(await load_teams(conn), cursor=query.cursor, limit=query.limit, key=_by_name)


@routes.get("/teams/{id}")
async def show_team(conn: AsyncConnection, id: RowId) -> Annotated[Data, TeamOut]:  # noqa: A002
    """One team."""
    found = await load_teams(conn, [id])
    if not found:
        raise NotFound(f"no team {id}", params={"team_id": id})
    return found[0]


@routes.post("/teams", role="admin", status=201)
async def create_team(call: Call, uow: UnitOfWork, body: TeamIn) -> Annotated[Data, TeamOut]:
    """Add a team."""
    callback_settings.parse(body.settings.get("callbacks"))
    await _check_calendar(uow, body.calendar_id)
    values = {
        "name": body.name,
        "calendar_id": body.calendar_id,
        "settings": {k: v for k, v in body.settings.items() if k != "version"},
        "active": True,
        "created_at": uow.now,
    }
    team_id = await uow.insert_new(team, values, key=["name"], returning=team.c.id)
    if team_id is None:
        raise Conflict("there is a team of this name", code="name_taken")
    await configuration.begin(uow, int(team_id), actor=call.actor.label)
    return (await load_teams(uow.conn, [int(team_id)]))[0]


@routes.patch("/teams/{id}", role="admin", errors=(409,))
async def change_team(
    call: Call,
    uow: UnitOfWork,
    id: RowId,  # noqa: A002
    body: TeamChangeIn,
) -> Annotated[Data, TeamOut]:
    """Change a team; new routing settings are a new version and count from the next decision on."""
    changes = body.changes()
    for name in changes.keys() - {"calendar_id"}:
        if changes[name] is None:
            raise Invalid(
                f"{name} cannot be null",
                params={"errors": [{"loc": ["body", name], "msg": "cannot be null"}]},
            )
    await _check_calendar(uow, changes.get("calendar_id"))
    before = await uow.row(uow.lock(select(team).where(team.c.id == id)))
    if before is None:
        raise NotFound(f"no team {id}", params={"team_id": id})
    settings = changes.pop("settings", None)
    if changes:
        try:
            await uow.execute(update(team).where(team.c.id == id).values(**changes))
        except IntegrityError as error:
            raise Conflict("there is a team of this name", code="name_taken") from error
    if settings is not None:
        callback_settings.parse(settings.get("callbacks"))
        await configuration.edit(uow, id, settings, actor=call.actor.label)
    if changes.get("calendar_id", before["calendar_id"]) != before["calendar_id"]:
        await configuration.follow(uow, id)
    if changes.get("active", before["active"]) != before["active"]:
        # Whose limits came from this team has others now, and its lanes are nobody's or somebody's again.
        for row in await uow.rows(
            select(team_member.c.agent_id).where(team_member.c.team_id == id).order_by(team_member.c.agent_id)
        ):
            await lanes.rebuild_agent(uow, row["agent_id"])
    return (await load_teams(uow.conn, [id]))[0]


async def _check_calendar(uow: UnitOfWork, wanted: int | None) -> None:
    if wanted is not None and await uow.scalar(select(calendar.c.id).where(calendar.c.id == wanted)) is None:
        raise Invalid(
            "no such calendar", params={"errors": [{"loc": ["body", "calendar_id"], "msg": "unknown"}]}
        )
