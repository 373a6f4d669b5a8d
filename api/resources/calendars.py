"""Working hours looked at closely: versions, what they mean for certain days, and where holidays come from.

Making and changing calendars is in `api.resources.sla`.
"""

from datetime import UTC, date, datetime
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.layer.bodies import read_body
from api.layer.fields import In, InstantOut, OpenOut, Out, Query, RowId
from api.layer.routes import Call, Data, Routes
from api.resources.sla import CalendarOut, calendar_view
from crm_core.db.uow import UnitOfWork, read_row
from crm_core.errors import Invalid, NotFound
from crm_core.views import iso
from routing.business_time import FIRST_YEAR, LAST_YEAR, Calendar
from routing.calendar_ical import MAX_BYTES, read_holidays
from routing.calendar_preview import MAX_DAYS, preview
from routing.calendar_spec import CalendarError
from routing.schema import calendar, calendar_version
from routing.sla import book as books
from routing.sla import edit, holidays, ledger

routes = Routes("sla")

Day = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$", description="YYYY-MM-DD")]


class PreviewIn(In):
    begin: Day | None = None
    days: Annotated[int, Field(ge=1, le=MAX_DAYS)] = 14
    spec: Annotated[dict[str, Any], Field(description="hours to try instead of the stored ones")] | None = (
        None
    )


class DayOut(Out):
    date: str
    weekday: str
    why: str
    open: list[list[str]]
    utc: list[list[InstantOut]]
    open_ms: int
    day_ms: int


class DaysOut(Out):
    items: list[DayOut]
    next: None
    zone: str


class VersionOut(Out):
    version: int
    spec: dict[str, Any]
    created_at: InstantOut


class VersionsOut(Out):
    items: list[VersionOut]
    next: None


class NamedDateOut(Out):
    date: str
    name: str


class FeedOut(Out):
    calendar_id: int
    url: str | None
    dates: list[NamedDateOut]
    warnings: list[str]
    failures: int
    error: str | None
    read_at: InstantOut | None
    next_at: InstantOut | None


class FeedIn(In):
    url: Annotated[str, Field(min_length=8, max_length=1000)] | None


class OrganisationHoursOut(Out):
    calendar_id: int | None
    name: str | None
    zone: str


class OrganisationHoursIn(In):
    calendar_id: RowId | None


class IcalQuery(Query):
    dry_run: Annotated[bool, Field(description="only say what would change")] = False


class TakenOut(OpenOut):
    added: list[NamedDateOut]
    removed: list[NamedDateOut]
    dates: int
    warnings: list[str]
    version: int


async def _row(conn: AsyncConnection, calendar_id: int) -> Any:
    row = await read_row(conn, select(calendar).where(calendar.c.id == calendar_id))
    if row is None:
        raise NotFound(f"no calendar {calendar_id}", params={"calendar_id": calendar_id})
    return row


@routes.get("/sla/organisation")
async def show_organisation_hours(conn: AsyncConnection) -> Annotated[Data, OrganisationHoursOut]:
    """The organisation's own hours: of clocks whose target, policy and team name none, and the zone of reports."""
    return await _organisation(conn)


@routes.put("/sla/organisation", role="admin")
async def set_organisation_hours(
    call: Call, uow: UnitOfWork, body: OrganisationHoursIn
) -> Annotated[Data, OrganisationHoursOut]:
    """Choose the organisation's calendar; null: all hours count where nothing names one.

    A clock that runs keeps its hours until its target changes.
    """
    await edit.set_default_calendar(uow, body.calendar_id, actor=call.actor.label)
    return await _organisation(uow.conn)


async def _organisation(conn: AsyncConnection) -> Data:
    book = await books.load(conn)
    chosen = book.default_calendar_id
    return {
        "calendar_id": chosen,
        "name": ledger.calendar_name(book, chosen),
        "zone": await ledger.default_zone(conn),
    }


@routes.get("/calendars/{id}")
async def show_calendar(conn: AsyncConnection, id: RowId) -> Annotated[Data, CalendarOut]:  # noqa: A002
    """Working hours of one calendar, as they are now."""
    return calendar_view(await _row(conn, id))


@routes.get("/calendars/{id}/versions")
async def list_versions(conn: AsyncConnection, id: RowId) -> Annotated[Data, VersionsOut]:  # noqa: A002
    """Every version the calendar had since versions are kept, the newest first."""
    await _row(conn, id)
    rows = await conn.execute(
        select(calendar_version)
        .where(calendar_version.c.calendar_id == id)
        .order_by(calendar_version.c.version.desc())
        .limit(200)
    )
    items = [
        {"version": r["version"], "spec": r["spec"], "created_at": iso(r["created_at"])}
        for r in rows.mappings()
    ]
    return {"items": items, "next": None}


@routes.post("/calendars/{id}/preview")
async def preview_calendar(
    call: Call,
    conn: AsyncConnection,
    id: RowId,  # noqa: A002
    body: PreviewIn,
) -> Annotated[Data, DaysOut]:
    """The open hours of each day, in local time and as instants; with `spec` of hours that are not stored yet."""
    row = await _row(conn, id)
    try:
        hours = Calendar.from_spec(row["spec"] if body.spec is None else body.spec)
    except CalendarError as error:
        where = ["body", "spec", *error.path.split(".")] if error.path else ["body", "spec"]
        raise Invalid(
            str(error), code="bad_calendar", params={"errors": [{"loc": where, "msg": error.reason}]}
        ) from error
    today = datetime.fromtimestamp(call.now / 1000, UTC).date()
    first = today if body.begin is None else _day(body.begin)
    return {"items": list(preview(hours, first, body.days)), "next": None, "zone": hours.spec.tz}


def _day(text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = date.min
    if not FIRST_YEAR < day.year < LAST_YEAR - 1:
        raise Invalid(
            f"not a date between {FIRST_YEAR + 1} and {LAST_YEAR - 2}",
            code="bad_date",
            params={"errors": [{"loc": ["body", "begin"], "msg": "not a date"}]},
        )
    return day


@routes.post(
    "/calendars/{id}/holidays", role="admin", consumes="text/calendar", max_body=MAX_BYTES, errors=(409,)
)
async def take_holidays(call: Call, id: RowId, query: IcalQuery) -> Annotated[Data, TakenOut]:  # noqa: A002
    """Take the holidays of an iCalendar file (whole days): they replace those of the file before, and no others.

    Dates that people entered and days with special hours stay. 422 with code bad_ical for a file that cannot be read.
    """
    async with call.db.reading() as conn:
        await _row(conn, id)
    content = await read_body(call.request, limit=MAX_BYTES)
    found = await read_holidays(content, *holidays.window(call.now))
    async with call.db.transaction() as uow:
        return await holidays.take(uow, id, found, actor=call.actor.label, dry_run=query.dry_run)


@routes.get("/calendars/{id}/feed")
async def show_feed(conn: AsyncConnection, id: RowId) -> Annotated[Data, FeedOut]:  # noqa: A002
    """Which holidays came from a file, and the address it is fetched from."""
    return await holidays.feed_view(conn, id)


@routes.put("/calendars/{id}/feed", role="admin")
async def set_feed(call: Call, uow: UnitOfWork, id: RowId, body: FeedIn) -> Annotated[Data, FeedOut]:  # noqa: A002
    """Fetch holidays from this address, now and every week; null: no more. Only public addresses are reached."""
    await holidays.set_feed(uow, id, body.url, actor=call.actor.label)
    return await holidays.feed_view(uow.conn, id)
