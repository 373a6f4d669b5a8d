"""What time does to promises: due ones become work, silent attempts end, unkept ones reach a supervisor."""

from sqlalchemy import select

from crm_core.db.engine import Database
from crm_core.db.uow import UnitOfWork
from crm_core.schema import contact
from routing import items
from routing.callbacks import attempts, rows
from routing.callbacks.plan import next_decent
from routing.schema import callback, callback_attempt

_BATCH = 100


async def sweep(db: Database) -> int | None:
    """Everything that is due now, each row in a transaction of its own. Returns the next due instant (ms) or None."""
    async with db.reading() as conn:
        now = db.clock.now_ms()
        due = (
            (
                await conn.execute(
                    select(callback.c.id)
                    .where(callback.c.next_attempt_at.is_not(None), callback.c.next_attempt_at <= now)
                    .order_by(callback.c.next_attempt_at)
                    .limit(_BATCH)
                )
            )
            .scalars()
            .all()
        )
        silent = (
            (
                await conn.execute(
                    select(callback_attempt.c.id)
                    .where(callback_attempt.c.give_up_at.is_not(None), callback_attempt.c.give_up_at <= now)
                    .order_by(callback_attempt.c.give_up_at)
                    .limit(_BATCH)
                )
            )
            .scalars()
            .all()
        )
        late = (
            (
                await conn.execute(
                    select(callback.c.id)
                    .where(callback.c.escalate_at.is_not(None), callback.c.escalate_at <= now)
                    .order_by(callback.c.escalate_at)
                    .limit(_BATCH)
                )
            )
            .scalars()
            .all()
        )
    for attempt_id in silent:
        async with db.transaction() as uow:
            await _give_up(uow, attempt_id)
    for callback_id in due:
        async with db.transaction() as uow:
            await _become_due(uow, callback_id)
    for callback_id in late:
        async with db.transaction() as uow:
            await _escalate(uow, callback_id)
    return await _next(db)


async def _become_due(uow: UnitOfWork, callback_id: int) -> None:
    row = await rows.lock(uow, callback_id)
    if row["state"] != "scheduled" or row["next_attempt_at"] is None or row["next_attempt_at"] > uow.now:
        return
    if not row["asked_for"] or row["counted_attempts"]:
        decent = next_decent(uow.now, await rows.zones(uow, row))
        if decent > uow.now:
            # The clocks changed, or the card learned a new zone, since this time was worked out.
            await rows.change(
                uow,
                row,
                next_attempt_at=decent,
                due_at=decent,
                escalate_at=max(row["escalate_at"] or 0, decent + row["window_end"] - row["window_start"]),
            )
            return
    row = await rows.change(uow, row, state="due", next_attempt_at=None)
    person = await uow.row(select(contact).where(contact.c.id == row["contact_id"]))
    await rows.tell(uow, "due", row)
    await items.enqueue_callback(uow, row, dict(person) if person else None)


async def _give_up(uow: UnitOfWork, attempt_id: int) -> None:
    attempt = await uow.row(select(callback_attempt).where(callback_attempt.c.id == attempt_id))
    if (
        attempt is None
        or attempt["state"] != "dialling"
        or attempt["give_up_at"] is None
        or attempt["give_up_at"] > uow.now
    ):
        return
    await attempts.record_outcome(
        uow,
        attempt["callback_id"],
        "failed",
        actor="system",
        attempt_id=attempt_id,
        note="no word came from the telephone system"
        if attempt["mode"] == "originated"
        else "the agent recorded no outcome",
    )


async def _escalate(uow: UnitOfWork, callback_id: int) -> None:
    """The window is over and nobody has reached the customer: a supervisor hears of it; the work stays open."""
    row = await rows.lock(uow, callback_id)
    if row["escalate_at"] is None or row["escalate_at"] > uow.now:
        return
    if row["state"] == "dialling":
        await rows.change(uow, row, escalate_at=uow.now + attempts.GIVE_UP_MS)
        return
    row = await rows.change(uow, row, escalate_at=None, escalated_at=uow.now)
    await rows.tell(uow, "escalated", row, reason="not_dialled_in_time")


async def _next(db: Database) -> int | None:
    async with db.reading() as conn:
        known = [
            (await conn.execute(select(column).where(column.is_not(None)).order_by(column).limit(1))).scalar()
            for column in (callback.c.next_attempt_at, callback.c.escalate_at, callback_attempt.c.give_up_at)
        ]
    return min((t for t in known if t is not None), default=None)
