"""Half hours that may still be promised: what the team's people can call, less what was promised already.

Capacity of a half hour = people of the team whose shift covers it x the share of their time for callbacks x 30 min /
handling time. Promises are counted in one row per team and half hour; a slot is taken by compare-and-set on it, so it
cannot be sold twice, and comes back when the promise moves or is cancelled.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.clock import DAY, MINUTE
from crm_core.db.uow import UnitOfWork, read_row, read_rows
from crm_core.errors import Conflict
from crm_core.schema import agent, team, team_member
from routing import store
from routing.business_time import Calendar
from routing.callbacks import rows
from routing.callbacks.plan import Zones, may_ring
from routing.callbacks.settings import DEFAULTS, CallbackSettings
from routing.schema import calendar as calendar_table
from routing.schema import callback_slot

SLOT_MS = 30 * MINUTE
#: a slot that begins sooner than this is not offered: somebody has to see it coming
LEAD_MS = 15 * MINUTE
MAX_DAYS = 31


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One half hour of a team. `planned`: people whose shift covers it; None if the team has nobody, so that only
    its calendar counts.
    """

    start: int
    planned: int | None
    capacity: int | None
    taken: int

    @property
    def end(self) -> int:
        return self.start + SLOT_MS

    @property
    def free(self) -> int | None:
        return None if self.capacity is None else max(self.capacity - self.taken, 0)

    @property
    def open(self) -> bool:
        return self.capacity is None or self.capacity > self.taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Staffing:
    """What a team's capacity is made of. `people`: each member's own shift, None for the team's hours."""

    hours: Calendar | None = None
    people: Sequence[Calendar | None] = ()
    settings: CallbackSettings = DEFAULTS

    def planned(self, start: int) -> int | None:
        if not self.people:
            return None
        return sum(1 for shift in self.people if _covers(shift if shift is not None else self.hours, start))

    def capacity(self, start: int) -> int | None:
        """Calls that may be promised in the half hour; None if only the calendar is known and it is open."""
        if not _covers(self.hours, start):
            return 0
        planned = self.planned(start)
        if planned is None:
            return None
        return int(planned * self.settings.share * SLOT_MS / self.settings.aht_ms)


def _covers(calendar: Calendar | None, start: int) -> bool:
    """Open during all of the half hour."""
    return calendar is None or calendar.elapsed(start, start + SLOT_MS) == SLOT_MS


def slot_of(at: int) -> int:
    """The half hour in which an instant lies."""
    return at - at % SLOT_MS


async def staffing(conn: AsyncConnection, team_id: int) -> Staffing:
    """Two reads: the team with its hours, its people with theirs."""
    home = await read_row(
        conn,
        select(team.c.settings, calendar_table.c.spec)
        .outerjoin(calendar_table, calendar_table.c.id == team.c.calendar_id)
        .where(team.c.id == team_id),
    )
    if home is None:
        return Staffing()
    people = await read_rows(
        conn,
        select(agent.c.id, calendar_table.c.spec)
        .join(team_member, team_member.c.agent_id == agent.c.id)
        .outerjoin(calendar_table, calendar_table.c.id == agent.c.calendar_id)
        .where(team_member.c.team_id == team_id, agent.c.active)
        .order_by(agent.c.id),
    )
    return Staffing(
        hours=store.calendar_of(home["spec"]),
        people=[store.calendar_of(p["spec"]) for p in people],
        settings=rows.settings_of(home["settings"]),
    )


async def of_team(conn: AsyncConnection, team_id: int, *, since: int, until: int) -> list[Slot]:
    """Every half hour of [since, until) with its capacity and what is promised of it. At most 31 days."""
    until = min(until, since + MAX_DAYS * DAY)
    staff = await staffing(conn, team_id)
    taken = {
        r["start"]: r["taken"]
        for r in await read_rows(
            conn,
            select(callback_slot.c.start, callback_slot.c.taken).where(
                callback_slot.c.team_id == team_id,
                callback_slot.c.start >= slot_of(since),
                callback_slot.c.start < until,
            ),
        )
    }
    first = -(-since // SLOT_MS) * SLOT_MS
    return [
        Slot(start=at, planned=staff.planned(at), capacity=staff.capacity(at), taken=int(taken.get(at, 0)))
        for at in range(first, until, SLOT_MS)
    ]


async def offered(
    conn: AsyncConnection, team_id: int, zones: Zones | None, *, now: int, since: int, until: int
) -> list[Slot]:
    """The half hours a customer may choose: open, staffed, not yet all promised, decent where he is."""
    found = await of_team(conn, team_id, since=max(since, now + LEAD_MS), until=until)
    return [
        s
        for s in found
        if s.open and (zones is None or (may_ring(s.start, zones) and may_ring(s.end - 1, zones)))
    ]


async def take(uow: UnitOfWork, team_id: int, at: int, *, strict: bool) -> int:
    """Count a promise in its half hour. `strict`: only if there is room, and the team is open then.

    Returns the slot's start. Raises Conflict (slot_full).
    """
    start = slot_of(at)
    await uow.insert_new(
        callback_slot, {"team_id": team_id, "start": start, "taken": 0}, key=["team_id", "start"]
    )
    statement = (
        update(callback_slot)
        .where(callback_slot.c.team_id == team_id, callback_slot.c.start == start)
        .values(taken=callback_slot.c.taken + 1)
        .returning(callback_slot.c.taken)
    )
    if strict:
        capacity = (await staffing(uow.conn, team_id)).capacity(start)
        if capacity is not None:
            statement = statement.where(callback_slot.c.taken < capacity)
    if await uow.scalar(statement) is None:
        raise Conflict(
            "this half hour is taken: choose another one",
            code="slot_full",
            params={"team_id": team_id, "start": start},
        )
    return start


async def release(uow: UnitOfWork, row: dict[str, Any]) -> dict[str, Any]:
    """Give a promise's half hour back. Returns the row without it; the caller writes the columns."""
    if row["slot_at"] is None or row["slot_team_id"] is None:
        return row
    await uow.execute(
        update(callback_slot)
        .where(
            callback_slot.c.team_id == row["slot_team_id"],
            callback_slot.c.start == row["slot_at"],
            callback_slot.c.taken > 0,
        )
        .values(taken=callback_slot.c.taken - 1)
    )
    return {**row, "slot_at": None, "slot_team_id": None}
