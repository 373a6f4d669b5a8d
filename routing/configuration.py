"""The one way to change what a team's routing depends on: every edit is a new version that stays for ever.

`team.settings` holds the newest version's settings and its number; decisions carry the number they were made by.
An edit takes effect with the next decision; what waits already follows in batches (`routing.configuration_rollout`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.db.uow import Row, UnitOfWork, read_row
from crm_core.errors import Conflict, NotFound
from crm_core.events import DomainEvent
from crm_core.schema import agent, agent_skill, team, team_member
from routing import store
from routing.configuration_values import Change, compare, touches_capacity, unknown_key
from routing.schema import routing_rollout, routing_version
from routing.settings import TeamSettings, parse
from routing.settings_fields import SettingsError

MAX_COMMENT = 500
#: changes told in the event of an edit
_MAX_TOLD = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """What a team's routing knows of one agent."""

    name: str = ""
    active: bool = False
    teams: frozenset[int] = frozenset()
    skills: Mapping[str, int] = field(default_factory=dict)
    capacity: Mapping[str, int] = field(default_factory=dict)


async def check(conn: AsyncConnection, team_id: int, data: Any) -> TeamSettings:
    """Settings as they would be, after all checks, those that need the database too.

    Raises:
        SettingsError: 422, naming the wrong field.
    """
    settings = parse(data)
    if (strange := unknown_key(data)) is not None:
        raise SettingsError(strange, "is no setting")
    named = {f"overflow.{i}": other for i, other in enumerate(settings.overflow)}
    if settings.on_call_team is not None:
        named["on_call.team"] = settings.on_call_team
    if named:
        wanted = select(team.c.id).where(team.c.id.in_(set(named.values())), team.c.active)
        known = set(await conn.scalars(wanted))
        for path, other in named.items():
            if other == team_id:
                raise SettingsError(path, "a team cannot help itself out")
            if other not in known:
                raise SettingsError(path, f"there is no team {other}")
    return settings


async def edit(
    uow: UnitOfWork,
    team_id: int,
    data: Mapping[str, Any],
    *,
    actor: str,
    source: str = "api",
    comment: str | None = None,
    expected_version: int | None = None,
) -> Row:
    """Put new settings in force. The same settings again change nothing.

    `data`: as `routing.settings.parse` reads it; what is missing has its default. A `version` in it is ignored.
    `actor`: "agent:5". `expected_version`: refuse if it is not the one in force.

    Returns:
        The row of routing_version that is in force now.

    Raises:
        NotFound: no such team. SettingsError: 422. Conflict `version_conflict`: somebody edited it meanwhile.
    """
    row = await _locked(uow, team_id)
    before, _ = store.settings_of(row["settings"])
    if expected_version is not None and expected_version != before.version:
        raise Conflict(
            f"these settings are at version {before.version} now",
            code="version_conflict",
            params={"version": before.version, "expected_version": expected_version},
        )
    said = {k: v for k, v in data.items() if k != "version"}
    after = await check(uow.conn, team_id, said)
    first = await _first(uow, row, before)
    if said == {k: v for k, v in row["settings"].items() if k != "version"}:
        found = await version(uow.conn, team_id, before.version)
        return found if found is not None else first
    changes = compare(before, after)
    made = await _append(
        uow, row, before.version, said, changes, kind="settings", source=source, comment=comment, actor=actor
    )
    await _roll_out(uow, team_id, made["version"], capacity=touches_capacity(changes))
    return made


async def rollback(
    uow: UnitOfWork,
    team_id: int,
    number: int,
    *,
    actor: str,
    comment: str | None = None,
    expected_version: int | None = None,
) -> Row:
    """Put the settings of an earlier version in force again, as a new version. People are left as they are.

    Raises:
        NotFound: no such team or version. SettingsError: what it says is wrong by now (a team that is gone).
        Conflict as `edit`.
    """
    old = await version(uow.conn, team_id, number)
    if old is None:
        raise NotFound(
            f"team {team_id} has no version {number}", params={"team_id": team_id, "version": number}
        )
    return await edit(
        uow, team_id, old["settings"], actor=actor, source="rollback",
        comment=comment or f"back to version {number}", expected_version=expected_version,
    )  # fmt: skip


async def begin(uow: UnitOfWork, team_id: int, *, actor: str, source: str = "api") -> Row:
    """The first version of a team that was just made, of the settings it was made with."""
    row = await _locked(uow, team_id)
    await check(uow.conn, team_id, row["settings"])
    settings, _ = store.settings_of(row["settings"])
    return await _first(uow, row, settings, actor=actor, source=source)


async def follow(uow: UnitOfWork, team_id: int) -> None:
    """Something else that keys and parking depend on changed (the team's calendar): what waits follows."""
    row = await _locked(uow, team_id)
    settings, _ = store.settings_of(row["settings"])
    await _roll_out(uow, team_id, settings.version, capacity=False)


async def version(conn: AsyncConnection, team_id: int, number: int) -> Row | None:
    """One version, or None."""
    return await read_row(
        conn,
        select(routing_version).where(
            routing_version.c.team_id == team_id, routing_version.c.version == number
        ),
    )


async def settings_at(conn: AsyncConnection, team_id: int | None, number: int) -> TeamSettings | None:
    """The settings of a version as routing used them; None if it was never kept."""
    if team_id is None:
        return store.settings_of({})[0]
    row = await version(conn, team_id, number)
    if row is not None:
        return store.settings_of({**row["settings"], "version": number})[0]
    context = await store.team_context(conn, team_id)
    return context.settings if context.settings.version == number else None


# --- people
# --------------------------------------------------------------------------------------------------------
async def people(uow: UnitOfWork, agent_id: int) -> People:
    """What routing knows of an agent now; take it before an edit of skills, teams or activity."""
    row = await uow.find(agent, agent_id)
    if row is None:
        return People()
    skills = await uow.rows(select(agent_skill).where(agent_skill.c.agent_id == agent_id))
    teams = await uow.rows(select(team_member.c.team_id).where(team_member.c.agent_id == agent_id))
    own = row["settings"].get("capacity") if isinstance(row["settings"], Mapping) else None
    return People(
        name=row["name"],
        active=row["active"],
        teams=frozenset(r["team_id"] for r in teams),
        skills={r["skill"]: r["level"] for r in skills},
        capacity=dict(own) if isinstance(own, Mapping) else {},
    )


async def note_people(
    uow: UnitOfWork, agent_id: int, before: People, *, actor: str, source: str = "api"
) -> list[int]:
    """An agent was edited: a new version of every team that this matters to. Returns those teams.

    Call it after the edit and before `lanes.rebuild_agent`, in the same transaction: teams are locked before
    the capacity of agents.
    """
    after = await people(uow, agent_id)
    touched: list[int] = []
    for team_id in sorted(before.teams | after.teams):
        changes = _people_changes(agent_id, team_id, before, after)
        if not changes:
            continue
        row = await _locked(uow, team_id)
        settings, _ = store.settings_of(row["settings"])
        await _first(uow, row, settings)
        said = {k: v for k, v in row["settings"].items() if k != "version"}
        await _append(
            uow, row, settings.version, said, changes, kind="people", source=source, comment=after.name or before.name,
            actor=actor,
        )  # fmt: skip
        touched.append(team_id)
    return touched


def _people_changes(agent_id: int, team_id: int, before: People, after: People) -> list[Change]:
    """What one team sees: coming and leaving whole, skills and capacity only of members."""
    path = f"agents.{agent_id}"
    was, will = team_id in before.teams and before.active, team_id in after.teams and after.active
    if was != will:
        return [Change(path=f"{path}.member", before=was, after=will)]
    if not was:
        return []
    found = [
        Change(path=f"{path}.skills.{skill}", before=before.skills.get(skill), after=after.skills.get(skill))
        for skill in sorted({*before.skills, *after.skills})
        if before.skills.get(skill) != after.skills.get(skill)
    ]
    found += [
        Change(
            path=f"{path}.capacity.{name}", before=before.capacity.get(name), after=after.capacity.get(name)
        )
        for name in sorted({*before.capacity, *after.capacity})
        if before.capacity.get(name) != after.capacity.get(name)
    ]
    return found


# --- rows
# ----------------------------------------------------------------------------------------------------------
async def _locked(uow: UnitOfWork, team_id: int) -> Row:
    row = await uow.find(team, team_id, lock=True)
    if row is None:
        raise NotFound(f"no team {team_id}", params={"team_id": team_id})
    return row


async def _first(
    uow: UnitOfWork, row: Row, settings: TeamSettings, *, actor: str = "system", source: str = "first"
) -> Row:
    """A team that was never edited gets the version it has been at all along."""
    values = {
        "team_id": row["id"], "version": settings.version, "kind": "settings",
        "settings": {k: v for k, v in row["settings"].items() if k != "version"}, "changes": [],
        "comment": None, "source": source, "actor": actor, "created_at": row["created_at"],
    }  # fmt: skip
    await uow.insert_new(routing_version, values, key=["team_id", "version"])
    return values


async def _append(
    uow: UnitOfWork, row: Row, number: int, said: Mapping[str, Any], changes: Sequence[Change], *, kind: str,
    source: str, comment: str | None, actor: str,
) -> Row:  # fmt: skip
    newest = await uow.scalar(
        select(func.max(routing_version.c.version)).where(routing_version.c.team_id == row["id"])
    )
    # Stored settings that became wrong count as version 1, whatever was before.
    number = max(number, newest or 0)
    values = {
        "team_id": row["id"], "version": number + 1, "kind": kind, "settings": dict(said),
        "changes": [c.as_data() for c in changes], "comment": (comment or "").strip()[:MAX_COMMENT] or None,
        "source": source, "actor": actor[:60], "created_at": uow.now,
    }  # fmt: skip
    await uow.execute(routing_version.insert().values(**values))
    await uow.update(team, row["id"], {"settings": {**said, "version": number + 1}})
    await uow.emit(
        DomainEvent(
            kind="team.configured", subject_kind="team", subject_id=row["id"], actor=actor,
            payload={
                "team_id": row["id"], "version": number + 1, "kind": kind, "source": source,
                "comment": values["comment"], "changes": values["changes"][:_MAX_TOLD],
            },
        )
    )  # fmt: skip
    return values


async def _roll_out(uow: UnitOfWork, team_id: int, number: int, *, capacity: bool) -> None:
    """Ask for what waits to follow. A rollout that is under way begins again with the newer version."""
    before = await uow.row(select(routing_rollout).where(routing_rollout.c.team_id == team_id))
    unfinished = before is not None and before["finished_at"] is None and before["phase"] == "agents"
    values = {
        "version": number, "phase": "agents" if capacity or unfinished else "items", "after_at": 0, "after_id": 0,
        "agents": 0, "items": 0, "changed": 0, "started_at": uow.now, "finished_at": None,
    }  # fmt: skip
    if before is None:
        await uow.execute(routing_rollout.insert().values(team_id=team_id, **values))
    else:
        await uow.execute(
            update(routing_rollout).where(routing_rollout.c.team_id == team_id).values(**values)
        )
