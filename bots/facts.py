"""What a dialog must know of the world, gathered in a few reads: the customer's number and zone, the teams' hours."""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import structlog
from sqlalchemy import or_, select

from bots.flow import Flow
from bots.turns import Facts
from crm_core.clock import DAY
from crm_core.db.uow import UnitOfWork
from crm_core.schema import identity, team
from routing.business_time import Calendar
from routing.calendar_spec import CalendarError
from routing.schema import calendar as calendar_table

log = structlog.get_logger(__name__)
DEFAULT_ZONE = "Europe/Kyiv"
_OFFERED_MS = 15 * DAY


@lru_cache(maxsize=256)
def _calendar(spec: str) -> Calendar | None:
    """Compiled calendars are costly and immutable, so they are kept by their content; a wrong one is always open."""
    try:
        return Calendar.from_spec(json.loads(spec))
    except CalendarError as error:
        log.warning("bad_calendar", error=str(error))
        return None


async def gather(
    uow: UnitOfWork,
    flow: Flow,
    *,
    inquiry: Mapping[str, Any],
    conversation: Mapping[str, Any],
    contact: Mapping[str, Any],
    inbox: Mapping[str, Any],
    group: bool = False,
) -> Facts:
    """The facts for one turn."""
    from routing.callbacks.plan import zones_of

    calendars = await _calendars(uow, flow, inquiry["team_id"])
    number = await uow.scalar(
        select(identity.c.value)
        .where(identity.c.contact_id == contact["id"], identity.c.kind == "phone")
        .order_by(identity.c.verified_at.is_(None), identity.c.last_seen_at.desc())
        .limit(1)
    )
    here = calendars.get(flow.team) or calendars.get(None)
    default_zone = here.spec.tz if here is not None else DEFAULT_ZONE
    zones = zones_of(number or "", contact_zone=contact["timezone"], default_zone=default_zone)
    return Facts(
        now=uow.now,
        channel=conversation["channel"],
        kind=inquiry["kind"],
        name=contact["name"],
        phone=number,
        zone=zones.shown,
        zone_source=zones.source,
        office_zone=default_zone,
        calendars=calendars,
        languages=(conversation["language"], contact["locale"], inbox["language"]),
        region=inbox["region"],
        number=inquiry["id"],
        can_share_contact=conversation["channel"] == "telegram" and not group,
        free_known=False,
    )


async def with_slots(uow: UnitOfWork, known: Facts, name: str | None, team_id: int | None) -> Facts:
    """The facts with what the team can still promise. `name` is the flow's word for the team, None the inquiry's."""
    from routing.callbacks import booking, slots

    if name is not None:
        team_id = await uow.scalar(select(team.c.id).where(team.c.name == name, team.c.active)) or team_id
    team_id = team_id or await booking.default_team(uow)
    free: tuple[int, ...] | None = None
    if team_id is not None:
        found = await slots.offered(
            uow.conn, team_id, None, now=uow.now, since=uow.now, until=uow.now + _OFFERED_MS
        )
        free = tuple(s.start for s in found)
    return replace(known, free_known=True, free={**known.free, name: free})


async def _calendars(uow: UnitOfWork, flow: Flow, team_id: int | None) -> dict[str | None, Calendar | None]:
    names = flow.teams()
    if not names and team_id is None:
        return {}
    rows = await uow.rows(
        select(team.c.id, team.c.name, calendar_table.c.spec)
        .outerjoin(calendar_table, calendar_table.c.id == team.c.calendar_id)
        .where(or_(team.c.name.in_(names), team.c.id == team_id))
    )
    found: dict[str | None, Calendar | None] = {}
    for row in rows:
        hours = None if row["spec"] is None else _calendar(json.dumps(row["spec"], sort_keys=True))
        found[row["name"]] = hours
        if row["id"] == team_id:
            found[None] = hours
    return found
