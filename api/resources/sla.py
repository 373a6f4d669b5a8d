"""Promises: clocks and their ledger, policies and working hours."""

from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.layer.fields import Comma, In, InstantOut, OpenOut, Out, Page, PageQuery, RowId, ShortQuery
from api.layer.paging import cut, page_in_memory, page_of
from api.layer.routes import Call, Data, Routes
from api.resources.inquiry_shapes import ClockOut
from crm_core.access import access_inquiry, readable_inquiries
from crm_core.db.uow import UnitOfWork
from crm_core.errors import NotFound
from crm_core.schema import inquiry
from crm_core.views import iso
from routing.schema import calendar, sla_clock, sla_policy
from routing.sla import book as books
from routing.sla import edit, ledger, views

routes = Routes("sla")

Key = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_-]{0,59}$")]
Title = Annotated[str, Field(min_length=1, max_length=120)]
Position = Annotated[int, Field(ge=0, le=10_000)]
Version = Annotated[int, Field(ge=1, le=2**31 - 1)]


class ClocksQuery(PageQuery):
    inquiry_id: RowId | None = None
    state: Annotated[list[Literal["active", "paused", "fulfilled", "cancelled"]], Comma] | None = None
    breached: bool | None = None


class LedgerOut(Out):
    items: list[dict[str, Any]]
    next: None


class PolicyOut(Out):
    id: int
    key: str
    version: int
    position: int
    name: str
    conditions: dict[str, Any]
    targets: dict[str, Any]
    options: dict[str, Any]
    current: bool
    created_at: InstantOut


class PolicyVersionsOut(Out):
    items: list[PolicyOut]
    next: None


class PolicyIn(In):
    key: Key
    name: Title
    targets: dict[str, Any]
    conditions: dict[str, Any] | None = None
    options: dict[str, Any] | None = None
    position: Position | None = None


class PolicyChangeIn(In):
    version: Version | None = None
    name: Title | None = None
    targets: dict[str, Any] | None = None
    conditions: dict[str, Any] | None = None
    options: dict[str, Any] | None = None
    position: Position | None = None


class CalendarOut(OpenOut):
    id: int
    name: str
    spec: dict[str, Any]
    version: int
    updated_at: InstantOut


class CalendarIn(In):
    name: Title
    spec: dict[str, Any]


class CalendarChangeIn(In):
    name: Title | None = None
    spec: dict[str, Any] | None = None
    version: Version | None = None


@routes.get("/sla/clocks")
async def list_clocks(
    call: Call, conn: AsyncConnection, query: ClocksQuery
) -> Annotated[Data, Page[ClockOut]]:
    """Clocks of the inquiries the caller may read, the newest first."""
    statement = (
        select(sla_clock)
        .join(inquiry, inquiry.c.id == sla_clock.c.inquiry_id)
        .where(readable_inquiries(call.actor))
    )
    if query.inquiry_id is not None:
        statement = statement.where(sla_clock.c.inquiry_id == query.inquiry_id)
    if query.state:
        statement = statement.where(sla_clock.c.state.in_(query.state))
    if query.breached is not None:
        statement = statement.where(
            sla_clock.c.breached_at.is_not(None) if query.breached else sla_clock.c.breached_at.is_(None)
        )
    page = page_of(statement, [(sla_clock.c.id, True)], cursor=query.cursor, limit=query.limit)
    rows, following = cut((await conn.execute(page)).mappings().all(), query.limit, lambda r: (r["id"],))
    book = await books.load(conn)
    return {"items": [views.clock_view(r, call.now, book) for r in rows], "next": following}


@routes.get("/sla/clocks/{id}/events")
async def clock_events(call: Call, conn: AsyncConnection, id: RowId) -> Annotated[Data, LedgerOut]:  # noqa: A002
    """The ledger of a clock: everything that ever moved it."""
    owner = (await conn.execute(select(sla_clock.c.inquiry_id).where(sla_clock.c.id == id))).scalar()
    if owner is None:
        raise NotFound(f"no clock {id}", params={"clock_id": id})
    await access_inquiry(conn, call.actor, owner)
    return {"items": await ledger.entries(conn, id), "next": None}


def _policy(row: Any) -> Data:
    return {
        "id": row["id"],
        "key": row["policy_key"],
        "version": row["version"],
        "position": row["position"],
        "name": row["name"],
        "conditions": row["conditions"],
        "targets": row["targets"],
        "options": row["options"],
        "current": row["current"],
        "created_at": iso(row["created_at"]),
    }


@routes.get("/sla/policies")
async def list_policies(conn: AsyncConnection, query: ShortQuery) -> Annotated[Data, Page[PolicyOut]]:
    """The policies in force, in the order in which they are tried."""
    rows = (
        await conn.execute(
            select(sla_policy).where(sla_policy.c.current).order_by(sla_policy.c.position, sla_policy.c.id)
        )
    ).mappings()
    items = [_policy(r) for r in rows]
    return page_in_memory(
        items, cursor=query.cursor, limit=query.limit, key=lambda r: (r["position"], r["id"])
    )


@routes.post("/sla/policies", role="admin", status=201)
async def create_policy(call: Call, uow: UnitOfWork, body: PolicyIn) -> Annotated[Data, PolicyOut]:
    """Add a policy."""
    row = await edit.create_policy(
        uow,
        key=body.key,
        name=body.name,
        targets=body.targets,
        conditions=body.conditions,
        options=body.options,
        position=body.position,
        actor=call.actor.label,
    )
    return _policy(row)


@routes.put("/sla/policies/{key}", role="admin", errors=(409,))
async def change_policy(
    call: Call, uow: UnitOfWork, key: Key, body: PolicyChangeIn
) -> Annotated[Data, PolicyOut]:
    """Put a new version of a policy in force; the old one stays for the ledger."""
    changes = {k: v for k, v in body.changes().items() if v is not None}
    expected = changes.pop("version", None)
    row = await edit.change_policy(uow, key, changes, expected_version=expected, actor=call.actor.label)
    return _policy(row)


@routes.get("/sla/policies/{key}/versions")
async def list_policy_versions(conn: AsyncConnection, key: Key) -> Annotated[Data, PolicyVersionsOut]:
    """Every version of a policy, the newest first, also of one that is out of force: what a ledger refers to."""
    rows = (
        await conn.execute(
            select(sla_policy)
            .where(sla_policy.c.policy_key == key)
            .order_by(sla_policy.c.version.desc())
            .limit(200)
        )
    ).mappings()
    items = [_policy(r) for r in rows]
    if not items:
        raise NotFound(f"no policy {key!r}", params={"key": key})
    return {"items": items, "next": None}


@routes.delete("/sla/policies/{key}", role="admin")
async def retire_policy(call: Call, uow: UnitOfWork, key: Key) -> None:
    """Take a policy out of force."""
    await edit.retire_policy(uow, key, actor=call.actor.label)


def calendar_view(row: Any) -> Data:
    return {
        "id": row["id"],
        "name": row["name"],
        "spec": row["spec"],
        "version": row["version"],
        "updated_at": iso(row["updated_at"]),
    }


@routes.get("/calendars")
async def list_calendars(conn: AsyncConnection, query: ShortQuery) -> Annotated[Data, Page[CalendarOut]]:
    """Working hours."""
    rows = (await conn.execute(select(calendar).order_by(calendar.c.name))).mappings()
    items = [calendar_view(r) for r in rows]
    return page_in_memory(
        items, cursor=query.cursor, limit=query.limit, key=lambda r: (r["name"].casefold(), r["id"])
    )


@routes.post("/calendars", role="admin", status=201)
async def create_calendar(call: Call, uow: UnitOfWork, body: CalendarIn) -> Annotated[Data, CalendarOut]:
    """Add working hours."""
    made = await edit.create_calendar(uow, name=body.name, spec=body.spec, actor=call.actor.label)
    row = await uow.row(select(calendar).where(calendar.c.id == made["id"]))
    return calendar_view(row)


@routes.put("/calendars/{id}", role="admin", errors=(409,))
async def change_calendar(
    call: Call,
    uow: UnitOfWork,
    id: RowId,  # noqa: A002
    body: CalendarChangeIn,
) -> Annotated[Data, CalendarOut]:
    """Change working hours; running clocks follow from now on."""
    await edit.change_calendar(
        uow, id, name=body.name, spec=body.spec, expected_version=body.version, actor=call.actor.label
    )
    row = await uow.row(select(calendar).where(calendar.c.id == id))
    return calendar_view(row)
