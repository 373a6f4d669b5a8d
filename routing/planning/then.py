"""Teams as they were: the rules and hours that were in force at an instant of the past. Reads only.

Rules and hours are versions that stay for ever (ADR 0017); which skills, teams and limits people had then is not read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table, and_, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.db.uow import Row, read_rows
from crm_core.schema import team
from routing.planning.past import Period
from routing.planning.words import note
from routing.schema import calendar, calendar_version, routing_version


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamRow:
    """`settings` as they were said (not yet parsed) and the `calendar`'s spec (None: always open), both of then;
    `today`: the settings of now.
    """

    id: int
    name: str
    settings: Any
    calendar: Any
    today: Any


async def teams(conn: AsyncConnection, at: int) -> tuple[TeamRow, ...]:
    """All teams with their rules and hours of `at`; of a time before anything was edited, those of the beginning."""
    rows = await read_rows(
        conn,
        select(team.c.id, team.c.name, team.c.settings, team.c.calendar_id, calendar.c.spec)
        .outerjoin(calendar, calendar.c.id == team.c.calendar_id)
        .order_by(team.c.id),
    )
    rules = await _in_force(conn, routing_version, "team_id", at)
    hours = await _in_force(conn, calendar_version, "calendar_id", at)
    return tuple(
        TeamRow(
            id=r["id"], name=r["name"], today=r["settings"],
            settings=_said(rules.get(r["id"])) or r["settings"],
            calendar=hours[r["calendar_id"]]["spec"] if r["calendar_id"] in hours else r["spec"],
        )
        for r in rows
    )  # fmt: skip


def _said(version: Row | None) -> dict[str, Any] | None:
    return None if version is None else {**version["settings"], "version": version["version"]}


async def _in_force(conn: AsyncConnection, versions: Table, whose: str, at: int) -> Mapping[int, Row]:
    """The newest version of each that was there at the instant, else the first one ever."""
    chosen = (
        select(
            versions.c[whose],
            func.coalesce(
                func.max(versions.c.version).filter(versions.c.created_at <= at),
                func.min(versions.c.version),
            ).label("version"),
        )
        .group_by(versions.c[whose])
        .subquery()
    )
    same = and_(versions.c[whose] == chosen.c[whose], versions.c.version == chosen.c.version)
    rows = await read_rows(conn, select(versions).join(chosen, same))
    return {r[whose]: r for r in rows}


async def notes(conn: AsyncConnection, found: tuple[TeamRow, ...], period: Period) -> list[dict[str, Any]]:
    """Which rules these are, where they are not today's or changed within the period."""
    edited = {
        r["team_id"]: int(r["n"])
        for r in await read_rows(
            conn,
            select(routing_version.c.team_id, func.count().label("n"))
            .where(
                routing_version.c.kind == "settings", routing_version.c.source != "first",
                routing_version.c.created_at > period.start, routing_version.c.created_at < period.end,
            )
            .group_by(routing_version.c.team_id),
        )
    }  # fmt: skip
    told = [note("people_as_of_now")]
    for each in found:
        if each.id in edited:
            told.append(note("rules_edited", team=each.name, n=edited[each.id], then=_number(each.settings)))
        elif _rules(each.settings) != _rules(each.today):
            told.append(
                note("rules_of_then", team=each.name, then=_number(each.settings), now=_number(each.today))
            )
    return told


def _rules(settings: Any) -> Any:
    return (
        {k: v for k, v in settings.items() if k != "version"} if isinstance(settings, Mapping) else settings
    )


def _number(settings: Any) -> Any:
    return settings.get("version", 1) if isinstance(settings, Mapping) else 1
