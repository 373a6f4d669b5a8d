"""The invariant of promises: each open one has a time at which something happens to it, is somebody's live work, or
stands before a supervisor. Reads open ones only, by index.
"""

from typing import Any

from sqlalchemy import and_, exists, not_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.clock import MINUTE
from crm_core.schema import call
from routing.callbacks.rows import OPEN
from routing.model import LIVE
from routing.schema import callback, callback_attempt, work_item

#: a timer that is older than this was not looked at: no worker runs
_LATE_MS = 5 * MINUTE


def _has_future() -> Any:
    timer = or_(
        callback.c.next_attempt_at.is_not(None),
        callback.c.escalate_at.is_not(None),
        callback.c.watch_at.is_not(None),
    )
    work = exists().where(
        work_item.c.source_kind == "callback",
        work_item.c.source_id == callback.c.id,
        work_item.c.state.in_(LIVE),
    )
    attempt = exists().where(
        callback_attempt.c.callback_id == callback.c.id,
        callback_attempt.c.state == "dialling",
        or_(
            callback_attempt.c.give_up_at.is_not(None),
            exists().where(call.c.id == callback_attempt.c.call_id, call.c.stuck_at.is_not(None)),
            exists().where(call.c.id == callback_attempt.c.call_id, call.c.missed_check_at.is_not(None)),
        ),
    )
    return or_(
        callback.c.escalated_at.is_not(None),
        and_(callback.c.state.in_(("scheduled", "paused")), callback.c.next_attempt_at.is_not(None)),
        and_(callback.c.state == "due", or_(work, timer)),
        and_(callback.c.state == "dialling", attempt),
    )


async def dropped(conn: AsyncConnection, *, limit: int = 100) -> list[int]:
    """Open promises that nothing would ever happen to. Always empty, or there is a defect of ours."""
    found = await conn.scalars(
        select(callback.c.id)
        .where(callback.c.state.in_(OPEN), not_(_has_future()))
        .order_by(callback.c.id)
        .limit(limit)
    )
    return [int(i) for i in found]


async def unattended(conn: AsyncConnection, *, now: int, limit: int = 100) -> list[int]:
    """Promises whose time is over by minutes and that no sweeper touched: no worker runs, or it cannot."""
    late = now - _LATE_MS
    found = await conn.scalars(
        select(callback.c.id)
        .where(
            callback.c.state.in_(OPEN),
            or_(callback.c.next_attempt_at < late, callback.c.escalate_at < late, callback.c.watch_at < late),
        )
        .order_by(callback.c.id)
        .limit(limit)
    )
    return [int(i) for i in found]
