"""What may still be promised, and how promises were kept."""

from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.layer.fields import Instant, InstantOut, OpenOut, Query, RowId
from api.layer.routes import Call, Data, Routes
from api.resources.csv_answer import groups_of, send_rows, zone_of
from api.resources.named import check_named
from crm_core import phone, sheet
from crm_core.access import access_inquiry
from crm_core.clock import DAY
from crm_core.db.uow import UnitOfWork
from crm_core.errors import Invalid
from crm_core.schema import contact, identity
from crm_core.views import iso
from routing.callbacks import booking, report, rows, slots
from routing.callbacks.plan import Zones, zones_of
from routing.sla import ledger

routes = Routes("callbacks")


class SlotOut(OpenOut):
    start: InstantOut
    end: InstantOut
    capacity: int | None
    taken: int
    free: int | None
    planned: int | None


class SlotsOut(OpenOut):
    team_id: int | None
    timezone: str | None
    items: list[SlotOut]


class SlotsQuery(Query):
    team_id: RowId | None = None
    inquiry_id: RowId | None = None
    phone: Annotated[str, Field(min_length=3, max_length=40)] | None = None
    since: Annotated[Instant | None, Field(alias="from")] = None
    days: Annotated[int, Field(ge=1, le=31)] = 7
    all: Annotated[bool, Field(description="taken and odd ones too")] = False


class ReportQuery(Query):
    since: Annotated[Instant, Field(alias="from")]
    until: Annotated[Instant, Field(alias="to")]
    team_id: RowId | None = None
    group: Literal["none", "team", "owner", "source", "kind", "day"] = "none"
    zone: Annotated[
        str | None, Field(max_length=60, description="IANA name: whose days; the organisation's if left out")
    ] = None


class ReportOut(OpenOut):
    variants: dict[str, str]
    columns: list[str]
    zone: str
    rows: list[dict[str, Any]]
    total: dict[str, Any]


@routes.get("/callbacks/slots", errors=(404,))
async def list_slots(call: Call, uow: UnitOfWork, query: SlotsQuery) -> Annotated[Data, SlotsOut]:
    """Half hours that a customer may be offered: staffed, not all promised, decent where he is.

    Capacity is the team's planned people x the share of their time for callbacks / handling time; null where the team
    has nobody and only its calendar is known.
    """
    request = (
        await access_inquiry(uow, call.actor, query.inquiry_id) if query.inquiry_id is not None else None
    )
    team_id = query.team_id or (request["team_id"] if request else None) or await booking.default_team(uow)
    await check_named(uow.conn, team_id=query.team_id)
    zones = await _zones(uow, query.phone, request)
    begin = max(query.since or uow.now, uow.now)
    if begin > uow.now + 90 * DAY:
        raise Invalid("at most 90 days ahead", code="bad_period")
    found: list[slots.Slot] = []
    if team_id is not None:
        until = begin + query.days * DAY
        found = (
            await slots.of_team(uow.conn, team_id, since=begin, until=until)
            if query.all
            else await slots.offered(uow.conn, team_id, zones, now=uow.now, since=begin, until=until)
        )
    return {
        "team_id": team_id,
        "timezone": zones.shown if zones else None,
        "items": [
            {
                "start": iso(s.start),
                "end": iso(s.end),
                "capacity": s.capacity,
                "taken": s.taken,
                "free": s.free,
                "planned": s.planned,
            }
            for s in found
        ],
    }


async def _zones(uow: UnitOfWork, raw: str | None, request: Any) -> Zones | None:
    card = None
    number = None
    if request is not None:
        card = await uow.scalar(select(contact.c.timezone).where(contact.c.id == request["contact_id"]))
        number = await uow.scalar(
            select(identity.c.value)
            .where(identity.c.contact_id == request["contact_id"], identity.c.kind == "phone")
            .order_by(identity.c.verified_at.is_(None), identity.c.last_seen_at.desc())
            .limit(1)
        )
    if raw is not None:
        read = phone.normalize(raw, "UA")
        if read is None:
            raise Invalid(f"not a phone number: {raw[:40]!r}", code="bad_phone")
        number = read.e164
    if number is None:
        return None
    return zones_of(number, contact_zone=card, default_zone=await rows.default_zone(uow))


@routes.get("/callbacks/report", role="supervisor")
async def show_report(conn: AsyncConnection, query: ReportQuery) -> Annotated[Data, ReportOut]:
    """How the promises for a period were kept; `variants` says how each number is defined."""
    return await _report(conn, query)


@routes.get("/callbacks/report.csv", role="supervisor", produces="text/csv")
async def report_csv(call: Call, conn: AsyncConnection, query: ReportQuery) -> web.StreamResponse:
    """The same as a spreadsheet; the total is the last row, and how the numbers are counted follows it."""
    found = await _report(conn, query)
    lines: list[list[sheet.Cell]] = [
        [row[c] for c in report.COLUMNS] for row in (*found["rows"], found["total"])
    ]
    lines += [[f"{name}: {words}"] for name, words in found["variants"].items()]
    return await send_rows(
        call, f"callbacks-{query.since}-{query.until}", list(report.COLUMNS), groups_of(lines)
    )


async def _report(conn: AsyncConnection, query: ReportQuery) -> Data:
    await check_named(conn, team_id=query.team_id)
    zone = zone_of(query.zone or await ledger.default_zone(conn))
    return await report.report(
        conn, since=query.since, until=query.until, team_id=query.team_id, group=query.group, zone=zone
    )
