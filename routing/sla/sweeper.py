"""Telling people when a deadline or a step of an SLA clock is reached.

Results do not depend on the sweeper: every change of a clock judges its past by itself. Any number of processes may
sweep. Deadlocks cannot happen: candidates are read without locks, then inquiries are locked in order of id and those
that somebody holds are left for the next second; clocks are only ever locked under their inquiry.

A process whose clock is wrong does not sweep: it would break promises that still hold. Others do it, and if there is
none, nothing is judged wrongly either: the late sweep records each breach at its deadline.
"""

from collections.abc import Sequence

import structlog
from sqlalchemy import func, select, text, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.clock import MINUTE, SECOND, Clock, SystemClock
from crm_core.db.engine import Database
from crm_core.db.uow import UnitOfWork
from crm_core.events import SUPERVISORS, DomainEvent
from crm_core.schema import setting
from routing.schema import sla_clock
from routing.sla import book as books
from routing.sla import record, service, store

log = structlog.get_logger(__name__)

BATCH = 500
#: inquiries of one transaction: few enough that a customer who writes meanwhile does not wait
_TOGETHER = 100
SKEW_LIMIT_MS = 5 * SECOND
_LOCKED_RETRY_MS = 250
_POISON_RETRY_MS = MINUTE
_SKEW_RETRY_MS = 5 * SECOND
#: a wrong clock is told of once in so long
_SKEW_TOLD_MS = 10 * MINUTE
_SKEW_KEY = "sla.alarm:clock_skew"


async def sweep(db: Database) -> int | None:
    """Fire everything that is due. Returns the next instant at which something is due (ms), or None."""
    now = db.clock.now_ms()
    behind = (0, 0)
    checked = False
    while True:
        async with db.reading() as conn:
            found = await due(conn, now, behind)
            if not found:
                break
            skew = 0 if checked else await _skew(conn, db.clock)
        if abs(skew) > SKEW_LIMIT_MS:
            await _refuse(db, skew)
            return now + _SKEW_RETRY_MS
        checked = True
        behind = (found[-1][0], found[-1][1])
        # In the order in which they became due: what waited longest is told first.
        inquiries = list(dict.fromkeys(inquiry_id for _, _, inquiry_id in found))
        for start in range(0, len(inquiries), _TOGETHER):
            await _fire(db, inquiries[start : start + _TOGETHER])
        if len(found) < BATCH:
            break
    async with db.reading() as conn:
        first = select(func.min(sla_clock.c.next_fire_at)).where(sla_clock.c.next_fire_at.is_not(None))
        upcoming = await conn.scalar(first)
    # What is left over and due is locked by somebody: a moment's patience, not a busy loop.
    return None if upcoming is None else max(int(upcoming), now + _LOCKED_RETRY_MS)


async def due(conn: AsyncConnection, now: int, behind: tuple[int, int]) -> Sequence[tuple[int, int, int]]:
    """(next_fire_at, clock, inquiry) of the next due clocks, the longest due first."""
    statement = (
        select(sla_clock.c.next_fire_at, sla_clock.c.id, sla_clock.c.inquiry_id)
        .where(
            sla_clock.c.next_fire_at.is_not(None),
            sla_clock.c.next_fire_at <= now,
            tuple_(sla_clock.c.next_fire_at, sla_clock.c.id) > behind,
        )
        .order_by(sla_clock.c.next_fire_at, sla_clock.c.id)
        .limit(BATCH)
    )
    return [(int(a), int(b), int(c)) for a, b, c in await conn.execute(statement)]


async def _fire(db: Database, inquiry_ids: Sequence[int]) -> None:
    try:
        async with db.transaction() as uow:
            await _fire_in(uow, inquiry_ids)
    except Exception:
        if len(inquiry_ids) > 1:
            # One bad row must not keep the others waiting.
            for inquiry_id in inquiry_ids:
                await _fire(db, [inquiry_id])
            return
        log.exception("sla_fire_failed", inquiry_id=inquiry_ids[0])
        async with db.transaction() as uow:
            await _put_off(uow, inquiry_ids[0])


async def _fire_in(uow: UnitOfWork, inquiry_ids: Sequence[int]) -> None:
    book = await books.load(uow.conn)
    tickets = await store.lock_tickets(uow, inquiry_ids, skip_locked=True)
    if tickets:
        await service.fire_locked(uow, tickets, book)


async def _put_off(uow: UnitOfWork, inquiry_id: int) -> None:
    """A ticket whose clocks cannot be fired: try again in a minute, and say so. Its deadlines stay what they are."""
    await uow.execute(
        update(sla_clock)
        .where(sla_clock.c.inquiry_id == inquiry_id, sla_clock.c.next_fire_at <= uow.now)
        .values(next_fire_at=uow.now + _POISON_RETRY_MS)
    )
    await record.raise_alarms(uow, [f"the SLA clocks of inquiry {inquiry_id} cannot be fired, see the log"])


async def clock_skew_ms(conn: AsyncConnection, clock: Clock) -> int:
    """How far this process' clock is ahead of the database server's (ms); 0 on SQLite, which has none of its own."""
    if conn.dialect.name != "postgresql":
        return 0
    server = await conn.scalar(text("select (extract(epoch from clock_timestamp()) * 1000)::bigint"))
    return clock.now_ms() - int(server)


async def _skew(conn: AsyncConnection, clock: Clock) -> int:
    # A clock that was moved on purpose (tests, the demo) is not compared.
    return await clock_skew_ms(conn, clock) if isinstance(clock, SystemClock) else 0


async def _refuse(db: Database, skew: int) -> None:
    """Leave the work to processes whose clock is right, and say so, once in a while."""
    log.error("clock_skew", skew_ms=skew, limit_ms=SKEW_LIMIT_MS)
    async with db.transaction() as uow:
        told = await uow.scalar(select(setting.c.value).where(setting.c.key == _SKEW_KEY))
        if told is not None and abs(uow.now - int(told["at"])) < _SKEW_TOLD_MS:
            return
        values = {"key": _SKEW_KEY, "value": {"skew_ms": skew, "at": uow.now}}
        if await uow.insert_new(setting, values, key=["key"]) is None:
            await uow.execute(update(setting).where(setting.c.key == _SKEW_KEY).values(value=values["value"]))
        await uow.emit(
            DomainEvent(
                kind="alarm.raised", subject_kind="sla", subject_id=0, audience=SUPERVISORS,
                payload={"what": "clock_skew", "skew_ms": skew, "limit_ms": SKEW_LIMIT_MS},
            )
        )  # fmt: skip


SWEEPERS = {"sla": sweep}
__all__ = ["SWEEPERS", "clock_skew_ms", "due", "sweep"]
