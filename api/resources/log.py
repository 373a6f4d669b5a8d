"""The event log and the jobs: what happened, and what is still to be done."""

from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from api.feed.hub import event_data
from api.layer.fields import Comma, InstantOut, Out, Page, PageQuery, Query, RowId
from api.layer.paging import cut, page_of
from api.layer.routes import Call, Data, Routes
from crm_core import job_table
from crm_core.access import access_inquiry, may_see
from crm_core.db.uow import UnitOfWork
from crm_core.errors import Conflict, NotFound
from crm_core.event_log import Cursor, read_after
from crm_core.ports.hints import JOBS
from crm_core.schema import event, job
from crm_core.views import iso

routes = Routes("log")

_SCAN = 500
#: rows looked at for one page at most, when most of them are not the caller's
_MAX_SCANNED = 10_000


class SubjectOut(Out):
    kind: str
    id: int


class EventOut(Out):
    cursor: str
    id: int
    kind: str
    at: InstantOut
    actor: str
    subject: SubjectOut
    inquiry_id: int | None
    conversation_id: int | None
    data: dict[str, Any]


class EventsQuery(Query):
    after: Annotated[str, Field(pattern=r"^[0-9]{1,18}-[0-9]{1,18}$")] = "0-0"
    kind: Annotated[list[Annotated[str, Field(max_length=60)]], Comma, Field(max_length=30)] | None = None
    subject: (
        Annotated[str, Field(pattern=r"^[a-z_]{1,20}:[1-9][0-9]{0,17}$", description="e.g. contact:7")] | None
    ) = None
    inquiry_id: RowId | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class JobOut(Out):
    id: int
    name: str
    args: dict[str, Any]
    queue: str
    lane: str | None
    state: str
    run_at: InstantOut
    attempts: int
    max_attempts: int
    last_error: str | None
    created_at: InstantOut


class JobsQuery(PageQuery):
    state: Annotated[list[Literal["ready", "leased", "dead"]], Comma] | None = None
    name: Annotated[str, Field(max_length=80)] | None = None


@routes.get("/events")
async def list_events(
    call: Call, conn: AsyncConnection, query: EventsQuery
) -> Annotated[Data, Page[EventOut]]:
    """What happened behind a cursor, as far as the caller may see it. `next` is the cursor to go on from, also when
    there is nothing more yet.
    """
    if query.inquiry_id is not None:
        await access_inquiry(conn, call.actor, query.inquiry_id)
        return await _of_inquiry(conn, call, query)
    found: list[Data] = []
    cursor, scanned = Cursor.parse(query.after), 0
    while len(found) < query.limit and scanned < _MAX_SCANNED:
        rows, _ = await read_after(conn, cursor, limit=_SCAN, tx_offset=call.db.tx_offset)
        for row in rows:
            cursor, scanned = Cursor(row["tx"], row["id"]), scanned + 1
            if may_see(call.actor, row["audience"]) and _fits(row, query):
                found.append(event_data(row))
                if len(found) == query.limit:
                    break
        if len(rows) < _SCAN:
            break
    return {"items": found, "next": str(cursor)}


async def _of_inquiry(conn: AsyncConnection, call: Call, query: EventsQuery) -> Data:
    after = Cursor.parse(query.after)
    rows = (
        (
            await conn.execute(
                select(event)
                .where(
                    event.c.inquiry_id == query.inquiry_id,
                    tuple_(event.c.tx, event.c.id) > tuple_(after.tx, after.id),
                )
                .order_by(event.c.tx, event.c.id)
                .limit(query.limit)
            )
        )
        .mappings()
        .all()
    )
    shown = [event_data(dict(r)) for r in rows if may_see(call.actor, r["audience"]) and _fits(r, query)]
    return {"items": shown, "next": str(Cursor(rows[-1]["tx"], rows[-1]["id"])) if rows else query.after}


def _fits(row: Any, query: EventsQuery) -> bool:
    subject = f"{row['subject_kind']}:{row['subject_id']}"
    return (not query.kind or row["kind"] in query.kind) and query.subject in (None, subject)


def _job(row: Any) -> Data:
    return {
        "id": row["id"],
        "name": row["name"],
        "args": row["args"],
        "queue": row["queue"],
        "lane": row["lane"],
        "state": row["state"],
        "run_at": iso(row["run_at"]),
        "attempts": row["attempts"],
        "max_attempts": row["max_attempts"],
        "last_error": row["last_error"],
        "created_at": iso(row["created_at"]),
    }


@routes.get("/jobs", role="admin")
async def list_jobs(conn: AsyncConnection, query: JobsQuery) -> Annotated[Data, Page[JobOut]]:
    """Jobs in the table, the newest first; done ones are gone."""
    statement = select(job)
    if query.state:
        statement = statement.where(job.c.state.in_(query.state))
    if query.name is not None:
        statement = statement.where(job.c.name == query.name)
    page = page_of(statement, [(job.c.id, True)], cursor=query.cursor, limit=query.limit)
    rows, following = cut((await conn.execute(page)).mappings().all(), query.limit, lambda r: (r["id"],))
    return {"items": [_job(r) for r in rows], "next": following}


@routes.post("/jobs/{id}/retry", role="admin")
async def retry_job(call: Call, uow: UnitOfWork, id: RowId) -> Annotated[Data, JobOut]:  # noqa: A002
    """Give a dead job another full round of tries."""
    row = await uow.row(uow.lock(select(job).where(job.c.id == id)))
    if row is None:
        raise NotFound(f"no job {id}", params={"job_id": id})
    if not await job_table.revive(uow, id):
        raise Conflict(f"only a dead job can be tried again, this one is {row['state']}", code="not_dead")
    uow.after_commit(lambda: call.services.hints.publish(JOBS))
    again = await uow.row(select(job).where(job.c.id == id))
    return _job(again)
