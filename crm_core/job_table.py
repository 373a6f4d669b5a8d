"""The job table's statements: claim, finish, fail. Who calls them when is the runners' business (package workers)."""

import secrets
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    String,
    and_,
    bindparam,
    delete,
    exists,
    func,
    literal_column,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.db.prepared import Prepared, fetch
from crm_core.db.uow import UnitOfWork
from crm_core.events import SUPERVISORS, DomainEvent
from crm_core.jobs import JobRow
from crm_core.schema import job


def _first_of_lane() -> ColumnElement[bool]:
    earlier = job.alias("earlier")
    return or_(
        job.c.lane.is_(None),
        ~exists().where(
            earlier.c.lane == job.c.lane,
            earlier.c.lane.is_not(None),
            earlier.c.state != "dead",
            tuple_(earlier.c.order_key, earlier.c.id) < tuple_(job.c.order_key, job.c.id),
        ),
    )


_THIS = (job.c.id == bindparam("id_"), job.c.lease_token == bindparam("token"))
_STILL_MINE = Prepared(
    select(job.c.id)
    .where(*_THIS, job.c.state == literal_column("'leased'"), _first_of_lane())
    .with_for_update()
)
_FINISH = Prepared(delete(job).where(*_THIS))
#: of a job, what runners work with
_ROW = ("id", "name", "args", "lane", "order_key", "attempts", "max_attempts", "created_at")
_TAKE = Prepared(select(*(job.c[name] for name in _ROW)).where(*_THIS, _first_of_lane()).with_for_update())


async def claim(uow: UnitOfWork, *, limit: int, lease_ms: int) -> list[JobRow]:
    """Lease up to `limit` jobs that are due (or whose lease ran out) and first of their lane, oldest first."""
    token = secrets.token_hex(8)
    here = {"now": uow.now, "most": limit, "until": uow.now + lease_ms, "token": token}
    rows = [JobRow(lease_token=token, **row) for row in await uow.rows(_CLAIM, here)]
    return sorted(rows, key=lambda r: r.id)


def _claiming() -> Prepared:
    now = bindparam("now", type_=BigInteger)
    due = or_(
        and_(job.c.state == literal_column("'ready'"), job.c.run_at <= now),
        and_(job.c.state == literal_column("'leased'"), job.c.lease_until <= now),
    )
    wanted = (
        select(job.c.id)
        .where(due, _first_of_lane())
        .order_by(job.c.run_at, job.c.id)
        .limit(bindparam("most", type_=Integer))
        .with_for_update(skip_locked=True)
    )
    return Prepared(
        update(job)
        .where(job.c.id.in_(wanted.scalar_subquery()))
        .values(
            state=literal_column("'leased'"),
            lease_until=bindparam("until", type_=BigInteger),
            lease_token=bindparam("token", type_=String),
            attempts=job.c.attempts + literal_column("1"),
        )
        .returning(*(job.c[name] for name in _ROW))
    )


_CLAIM = _claiming()


async def take(uow: UnitOfWork, job_id: int, token: str) -> JobRow | None:
    """The job if this lease still holds it and it is first of its lane; locked. None: somebody else's business."""
    row = await uow.row(_TAKE, {"id_": job_id, "token": token})
    return JobRow(lease_token=token, **row) if row is not None else None


async def still_mine(uow: UnitOfWork, row: JobRow) -> bool:
    """Lock a leased job for the transaction of its effect; False if the lease went to somebody else or it is not
    its turn in the lane.
    """
    return await uow.row(_STILL_MINE, {"id_": row.id, "token": row.lease_token}) is not None


async def extend(uow: UnitOfWork, row: JobRow, *, lease_ms: int) -> None:
    """Hold a leased job for longer: the handler is about to talk to the outside."""
    await uow.execute(
        update(job)
        .where(job.c.id == row.id, job.c.lease_token == row.lease_token)
        .values(lease_until=uow.now + lease_ms)
    )


async def finish(uow: UnitOfWork, row: JobRow) -> bool:
    """Delete a done job. False: the lease was lost meanwhile, so somebody else does it (again)."""
    return bool((await uow.execute(_FINISH, {"id_": row.id, "token": row.lease_token})).rowcount)


async def postpone(uow: UnitOfWork, row: JobRow, *, delay_ms: int, counted: bool, error: str | None) -> None:
    """Give a leased job back for later."""
    values: dict[str, Any] = {
        "state": "ready",
        "run_at": uow.now + delay_ms,
        "lease_until": None,
        "lease_token": None,
    }
    if not counted:
        values["attempts"] = row.attempts - 1
    if error is not None:
        values["last_error"] = error[:2000]
    await uow.execute(
        update(job).where(job.c.id == row.id, job.c.lease_token == row.lease_token).values(**values)
    )


async def bury(uow: UnitOfWork, row: JobRow, *, error: str) -> None:
    """Park a job that will not succeed where people see it; its lane goes on without it."""
    await uow.execute(
        update(job)
        .where(job.c.id == row.id, job.c.lease_token == row.lease_token)
        .values(state="dead", lease_until=None, lease_token=None, last_error=error[:2000], dedupe=None)
    )
    await uow.emit(
        DomainEvent(
            kind="alarm.raised",
            subject_kind="job",
            subject_id=row.id,
            audience=SUPERVISORS,
            payload={"what": "job_dead", "job": row.name, "error": error[:500]},
        )
    )


async def revive(uow: UnitOfWork, job_id: int) -> bool:
    """Run a dead job again. False if there is no such dead job."""
    result = await uow.execute(
        update(job)
        .where(job.c.id == job_id, job.c.state == "dead")
        .values(state="ready", run_at=uow.now, attempts=0)
    )
    return bool(result.rowcount)


async def release_unstarted(uow: UnitOfWork, rows: Sequence[JobRow]) -> None:
    """Give back leases that were not used, on an orderly stop."""
    for row in rows:
        await uow.execute(
            update(job)
            .where(job.c.id == row.id, job.c.lease_token == row.lease_token)
            .values(state="ready", lease_until=None, lease_token=None, attempts=row.attempts - 1)
        )


async def next_due(conn: AsyncConnection) -> int | None:
    """The earliest instant at which a waiting job becomes due (ms), or None."""
    [found] = await fetch(conn, _NEXT_DUE)
    known = [t for t in found.values() if t is not None]
    return min(known) if known else None


def _first(column: ColumnElement[int], state: str) -> ColumnElement[int]:
    waiting = select(column).where(job.c.state == literal_column(f"'{state}'")).order_by(column)
    return waiting.limit(literal_column("1")).scalar_subquery()


_NEXT_DUE = Prepared(
    select(_first(job.c.run_at, "ready").label("ready"), _first(job.c.lease_until, "leased").label("leased"))
)


async def oldest_due(conn: AsyncConnection) -> int | None:
    """Since when the longest waiting job is due (ms): the lag that /readyz shows."""
    return (
        await conn.execute(select(job.c.run_at).where(job.c.state == "ready").order_by(job.c.run_at).limit(1))
    ).scalar()


async def leased(conn: AsyncConnection, *, at_most: int) -> int:
    """How many jobs are out with runners, counted up to `at_most`."""
    [found] = await fetch(conn, _OUT, {"most": at_most})
    return int(found["n"])


_out = (
    select(job.c.id).where(job.c.state == literal_column("'leased'")).limit(bindparam("most", type_=Integer))
)
_OUT = Prepared(select(func.count().label("n")).select_from(_out.subquery()))
