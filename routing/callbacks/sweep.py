"""What time does to promises: due ones become work, silent attempts end, unkept ones reach a supervisor.

Each row in a transaction of its own; any number of processes may sweep. A row that fails is put off by a minute and
told, so that it neither stops the others nor is forgotten.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from sqlalchemy import select, update

from crm_core.clock import MINUTE
from crm_core.db.engine import Database
from crm_core.db.uow import UnitOfWork
from crm_core.errors import Conflict
from routing.callbacks import assigned, attempts, chain, outcomes, pacing, rows
from routing.callbacks.settings import Mode
from routing.schema import callback, callback_attempt

log = structlog.get_logger(__name__)
_BATCH = 100

_TIMERS: tuple[tuple[Any, Any], ...] = (
    (callback_attempt.c.id, callback_attempt.c.give_up_at),
    (callback.c.id, callback.c.watch_at),
    (callback.c.id, callback.c.next_attempt_at),
    (callback.c.id, callback.c.escalate_at),
)


async def sweep(db: Database) -> int | None:
    """Everything that is due now. Returns the next due instant (ms) or None."""
    actions: tuple[Callable[[UnitOfWork, int], Awaitable[None]], ...] = (
        outcomes.give_up, _look, _become_due, _escalate
    )  # fmt: skip
    now = db.clock.now_ms()
    for (key, column), act in zip(_TIMERS, actions, strict=True):
        async with db.reading() as conn:
            due = (
                await conn.scalars(
                    select(key).where(column.is_not(None), column <= now).order_by(column, key).limit(_BATCH)
                )
            ).all()
        for each in due:
            try:
                async with db.transaction() as uow:
                    await act(uow, each)
            except Exception:
                log.exception("callback_timer_failed", timer=column.name, id=each)
                async with db.transaction() as uow:
                    await uow.execute(
                        update(column.table)
                        .where(key == each, column <= now)
                        .values({column.name: uow.now + MINUTE})
                    )
    return await _next(db)


async def _become_due(uow: UnitOfWork, callback_id: int) -> None:
    row = await rows.lock(uow, callback_id)
    if row["state"] not in ("scheduled", "paused") or row["next_attempt_at"] is None:
        if row["next_attempt_at"] is not None and row["state"] != "dialling":
            await rows.change(uow, row, next_attempt_at=None)
        return
    if row["next_attempt_at"] > uow.now:
        return
    if not row["asked_for"] or row["counted_attempts"]:
        at = await rows.decent(uow, row, uow.now)
        if at > uow.now and row["kind"] != "hold":
            # The clocks changed, or the card learned a new zone, since this time was worked out.
            await rows.change(
                uow,
                row,
                next_attempt_at=at,
                due_at=at,
                escalate_at=max(row["escalate_at"] or 0, at + row["window_end"] - row["window_start"]),
            )
            return
    row = await rows.change(
        uow,
        row,
        state="due",
        next_attempt_at=None,
        paused_at=None,
        pause_cause=None,
        watch=None,
        watch_at=None,
    )
    await rows.tell(uow, "due", row)
    if row["mode"] == Mode.CUSTOMER_FIRST and await _customer_first(uow, row):
        return
    await outcomes.enter_queue(uow, row)


async def _customer_first(uow: UnitOfWork, row: dict[str, Any]) -> bool:
    """Ring the customer before an agent is found, if there are enough of them; else it goes agent-first."""
    account = await attempts.account_of(uow, row)
    if not attempts.can_originate(account, Mode.CUSTOMER_FIRST):
        return False
    settings = await rows.settings(uow, row["team_id"])
    refusal = (await pacing.pace(uow.conn, row["team_id"], now=uow.now)).refusal(settings)
    if refusal is not None:
        await rows.tell(uow, "updated", row, fallback=Mode.AGENT_FIRST.value, reason=refusal)
        return False
    try:
        await attempts.dial(uow, row["id"], None, actor="system", style=Mode.CUSTOMER_FIRST)
    except Conflict:
        return False
    return True


async def _look(uow: UnitOfWork, callback_id: int) -> None:
    row = await rows.lock(uow, callback_id)
    if row["watch_at"] is None or row["watch_at"] > uow.now:
        return
    if row["watch"] == "chain":
        await chain.step(uow, row)
    elif row["watch"] == "card":
        await assigned.card_over(uow, row)
    else:
        await rows.change(uow, row, watch=None, watch_at=None)


async def _escalate(uow: UnitOfWork, callback_id: int) -> None:
    """The window is over and nobody has reached the customer: a supervisor hears of it; the work stays open."""
    row = await rows.lock(uow, callback_id)
    if row["escalate_at"] is None or row["escalate_at"] > uow.now:
        return
    if row["state"] in rows.OVER:
        await rows.change(uow, row, escalate_at=None)
        return
    if row["state"] == "dialling":
        await rows.change(uow, row, escalate_at=uow.now + attempts.GIVE_UP_MS)
        return
    reason = "paused_too_long" if row["state"] == "paused" else "not_dialled_in_time"
    if row["first_dialled_at"] is not None and row["state"] != "paused":
        reason = "not_reached_in_time"
    row = await rows.change(uow, row, escalate_at=None, escalated_at=uow.now, escalation=reason)
    await rows.tell(uow, "escalated", row, reason=reason)


async def _next(db: Database) -> int | None:
    async with db.reading() as conn:
        known = [
            (await conn.execute(select(column).where(column.is_not(None)).order_by(column).limit(1))).scalar()
            for _, column in _TIMERS
        ]
    return min((t for t in known if t is not None), default=None)
