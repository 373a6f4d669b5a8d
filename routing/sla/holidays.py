"""Holidays of a calendar that come from an iCalendar file, uploaded or fetched again and again from an address.

Owns which of a calendar's holidays came from the file: the next file replaces these and leaves alone what people
entered. What changes is a new version of the calendar, like any edit (`routing.sla.edit`).
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.clock import DAY, HOUR
from crm_core.db.uow import UnitOfWork, read_row
from crm_core.errors import Invalid, NotFound
from crm_core.events import SUPERVISORS, DomainEvent
from crm_core.views import iso
from routing.calendar_ical import Holidays
from routing.schema import calendar, calendar_feed
from routing.sla import edit

REFRESH_EVERY_MS = 7 * DAY
_RETRY_MS = HOUR
_MAX_FAILURES_TOLD = 3
MAX_URL = 1000
#: years behind and ahead of the present that are read from a file
BEHIND, AHEAD = 1, 5


def window(now: int) -> tuple[date, date]:
    """[first, end) of the dates that a file is read for."""
    year = datetime.fromtimestamp(now / 1000, UTC).year
    return date(year - BEHIND, 1, 1), date(year + AHEAD, 1, 1)


async def take(
    uow: UnitOfWork, calendar_id: int, found: Holidays, *, actor: str, dry_run: bool = False
) -> dict[str, Any]:
    """Make the holidays of a file those of the calendar. Returns {"added", "removed", "dates", "warnings", "version"}.

    Dates with special hours of their own keep them. With `dry_run` nothing is written. Raises NotFound.
    """
    row = await uow.row(uow.lock(select(calendar).where(calendar.c.id == calendar_id)))
    if row is None:
        raise NotFound(f"no calendar {calendar_id}", params={"calendar_id": calendar_id})
    feed = await uow.row(select(calendar_feed).where(calendar_feed.c.calendar_id == calendar_id))
    before: dict[str, str] = dict(feed["dates"]) if feed else {}
    first, end = (day.isoformat() for day in window(uow.now))
    special = set(row["spec"].get("special") or {})
    listed = [str(day) for day in row["spec"].get("holidays") or []]
    by_hand = set(listed) - set(before)
    warnings = list(found.warnings)
    # A file tells of its own years; what an earlier one said of years past stays.
    after = {day: name for day, name in before.items() if not first <= day < end}
    for day, name in ((d.isoformat(), n) for d, n in found.dates.items()):
        if day in special:
            warnings.append(f"{day} ({name}) has special hours and keeps them")
        elif day not in by_hand:
            after[day] = name
    summary = {
        "added": [{"date": day, "name": after[day]} for day in sorted(set(after) - set(before))],
        "removed": [{"date": day, "name": before[day]} for day in sorted(set(before) - set(after))],
        "dates": len(after),
        "warnings": warnings,
        "version": row["version"],
    }
    if dry_run:
        return summary
    if set(after) != set(before) or not set(after) <= set(listed):
        spec = {**row["spec"], "holidays": sorted(by_hand | set(after))}
        changed = await edit.change_calendar(uow, calendar_id, spec=spec, actor=actor)
        summary["version"] = changed["version"]
    await _keep(uow, calendar_id, {"dates": after, "warnings": warnings[:50], "read_at": uow.now})
    return summary


async def set_feed(uow: UnitOfWork, calendar_id: int, url: str | None, *, actor: str) -> None:
    """Fetch the holidays from this address from now on, or no more. The dates it gave stay until another file comes.

    Raises NotFound, Invalid (bad_url).
    """
    if await uow.scalar(select(calendar.c.id).where(calendar.c.id == calendar_id)) is None:
        raise NotFound(f"no calendar {calendar_id}", params={"calendar_id": calendar_id})
    if url is not None:
        url = checked_url(url)
    await _keep(
        uow,
        calendar_id,
        {
            "url": url, "etag": None, "failures": 0, "error": None,
            "next_at": uow.now if url is not None else None,
        },
    )  # fmt: skip
    await uow.emit(
        DomainEvent(
            kind="sla.calendar_changed", subject_kind="sla", subject_id=calendar_id, actor=actor,
            payload={"feed": url}, audience=SUPERVISORS,
        )
    )  # fmt: skip


def checked_url(url: str) -> str:
    """The address as it is fetched. Raises Invalid (bad_url)."""
    if url.lower().startswith("webcal://"):
        url = f"https://{url[len('webcal://') :]}"
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine or len(url) > MAX_URL or not url.isprintable() or " " in url or "@" in url.split("/")[2]:
        raise Invalid(
            "write an http or https address without a password in it",
            code="bad_url",
            params={"errors": [{"loc": ["body", "url"], "msg": "not an http or https address"}]},
        )
    return url


async def fetched(uow: UnitOfWork, calendar_id: int, found: Holidays | None, *, etag: str | None) -> None:
    """The file came (None: it is the same as before)."""
    if found is not None:
        await take(uow, calendar_id, found, actor="system")
    await _keep(
        uow,
        calendar_id,
        {
            "failures": 0,
            "error": None,
            "etag": etag,
            "read_at": uow.now,
            "next_at": uow.now + REFRESH_EVERY_MS,
        },
    )


async def failed(uow: UnitOfWork, calendar_id: int, error: str) -> None:
    """It did not come, or cannot be read: tried again, seldomer each time; people are told when it goes on."""
    feed = await uow.row(uow.lock(select(calendar_feed).where(calendar_feed.c.calendar_id == calendar_id)))
    if feed is None or feed["url"] is None:
        return
    failures = feed["failures"] + 1
    wait = min(_RETRY_MS * 2 ** min(failures - 1, 8), REFRESH_EVERY_MS)
    await _keep(uow, calendar_id, {"failures": failures, "error": error[:500], "next_at": uow.now + wait})
    if failures == _MAX_FAILURES_TOLD:
        await uow.emit(
            DomainEvent(
                kind="alarm.raised", subject_kind="sla", subject_id=calendar_id, audience=SUPERVISORS,
                payload={
                    "what": "sla_configuration",
                    "error": f"the holidays of calendar {calendar_id} cannot be fetched: {error[:300]}",
                },
            )
        )  # fmt: skip


async def feed_view(conn: AsyncConnection, calendar_id: int) -> dict[str, Any]:
    """Where a calendar's holidays come from. Raises NotFound for an unknown calendar."""
    if await conn.scalar(select(calendar.c.id).where(calendar.c.id == calendar_id)) is None:
        raise NotFound(f"no calendar {calendar_id}", params={"calendar_id": calendar_id})
    feed = await read_row(conn, select(calendar_feed).where(calendar_feed.c.calendar_id == calendar_id))
    row: Mapping[str, Any] = feed or {}
    return {
        "calendar_id": calendar_id,
        "url": row.get("url"),
        "dates": [{"date": day, "name": name} for day, name in sorted((row.get("dates") or {}).items())],
        "warnings": list(row.get("warnings") or []),
        "failures": row.get("failures", 0),
        "error": row.get("error"),
        "read_at": iso(row.get("read_at")),
        "next_at": iso(row.get("next_at")),
    }


async def _keep(uow: UnitOfWork, calendar_id: int, values: Mapping[str, Any]) -> None:
    fresh = {
        "calendar_id": calendar_id, "url": None, "dates": {}, "warnings": [], "etag": None, "failures": 0,
        "error": None, "read_at": None, "next_at": None, "updated_at": uow.now, **values,
    }  # fmt: skip
    if await uow.insert_new(calendar_feed, fresh, key=["calendar_id"]) is None:
        await uow.execute(
            update(calendar_feed)
            .where(calendar_feed.c.calendar_id == calendar_id)
            .values(**values, updated_at=uow.now)
        )
