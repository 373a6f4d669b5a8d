"""A new tzdata may move the hours of a calendar that nobody edited: then it gets a new version, as if somebody had.

Compares what the present tzdata compiles with what was compiled when the version was made; clocks follow by the same
job as after an edit, so the ledger shows which version counted what.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select, update

from crm_core.db.engine import Database
from crm_core.db.uow import UnitOfWork
from routing.business_time import Calendar
from routing.calendar_spec import CalendarError
from routing.schema import calendar, calendar_version
from routing.sla import edit

_YEARS_AHEAD = 3
_DIGEST = 40


def mark(hours: Calendar, first: int, last: int) -> str:
    """The mark of compiled years: `2026-2029:` and a digest."""
    return f"{first}-{last}:{hours.fingerprint(first, last)[:_DIGEST]}"


async def check(db: Database) -> int:
    """Compare all calendars. Returns how many got a new version. Run at start and once in a while: costs a
    compilation per calendar and nothing else when all is as it was.
    """
    async with db.reading() as conn:
        rows = (
            await conn.execute(
                select(calendar.c.id, calendar.c.version, calendar.c.spec, calendar_version.c.fingerprint).outerjoin(
                    calendar_version,
                    (calendar_version.c.calendar_id == calendar.c.id)
                    & (calendar_version.c.version == calendar.c.version),
                )
            )
        ).mappings().all()  # fmt: skip
    moved = 0
    for row in rows:
        try:
            hours = Calendar.from_spec(row["spec"])
        except CalendarError:
            continue  # the book raises the alarm for it
        if row["fingerprint"] is not None and row["fingerprint"] == _again(hours, row["fingerprint"]):
            continue
        async with db.transaction() as uow:
            moved += await _settle(uow, row["id"], hours)
    return moved


async def _settle(uow: UnitOfWork, calendar_id: int, hours: Calendar) -> bool:
    """Mark a version that has no mark yet, or make a new one. True if it did the latter."""
    row = await uow.row(uow.lock(select(calendar).where(calendar.c.id == calendar_id)))
    if row is None:
        return False
    this = (calendar_version.c.calendar_id == calendar_id) & (calendar_version.c.version == row["version"])
    known = await uow.row(select(calendar_version.c.fingerprint).where(this))
    if known is not None and known["fingerprint"] is not None:
        if known["fingerprint"] == _again(hours, known["fingerprint"]):
            return False  # another process was here
        after = await edit.new_calendar_version(uow, row, cause="tzdata")
        await _mark(uow, calendar_id, after["version"], hours)
        return True
    if known is None:
        values: dict[str, Any] = {
            "calendar_id": calendar_id, "version": row["version"], "spec": row["spec"],
            "created_at": row["updated_at"], "fingerprint": None,
        }  # fmt: skip
        await uow.insert_new(calendar_version, values, key=["calendar_id", "version"])
    await _mark(uow, calendar_id, row["version"], hours)
    return False


async def _mark(uow: UnitOfWork, calendar_id: int, version: int, hours: Calendar) -> None:
    year = datetime.fromtimestamp(uow.now / 1000, UTC).year
    await uow.execute(
        update(calendar_version)
        .where(calendar_version.c.calendar_id == calendar_id, calendar_version.c.version == version)
        .values(fingerprint=mark(hours, year, year + _YEARS_AHEAD))
    )


def _again(hours: Calendar, fingerprint: str) -> str | None:
    """The same years, compiled by the present tzdata; None of a mark that cannot be read."""
    years, _, _ = fingerprint.partition(":")
    first, _, last = years.partition("-")
    if not (first.isdigit() and last.isdigit() and 0 <= int(last) - int(first) <= 10):
        return None
    return mark(hours, int(first), int(last))
