"""What becomes due without anybody doing anything: offers, steps, wake-ups, leases, the poll of the lanes.

Each sweeper handles what is due now, one small transaction per thing so that nobody waits long for a lock,
and returns the next due instant (ms) or None. Any number of processes may sweep: who finds a thing locked
leaves it to the other. Rows are judged by their own instants, not by when the sweep came.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sqlalchemy import delete, select, update

from crm_core.clock import MINUTE
from crm_core.db.engine import Database
from crm_core.db.uow import UnitOfWork
from crm_core.schema import inquiry
from routing import (
    apply,
    commands,
    configuration_rollout,
    lanes,
    machine,
    match,
    offers,
    presence,
    rebalance,
    reconcile,
    store,
)
from routing.model import Item, ItemState
from routing.schema import agent_state, command, offer, work_item

_BATCH = 500

Sweeper = Callable[[Database], Awaitable[int | None]]


async def sweep_offers(db: Database) -> int | None:
    """Offers whose time ran out."""
    now = db.clock.now_ms()
    due = await _ids(
        db,
        select(offer.c.id)
        .where(offer.c.state == "open", offer.c.expires_at <= now)
        .order_by(offer.c.expires_at, offer.c.id)
        .limit(_BATCH),
    )
    for offer_id in due:
        async with db.transaction() as uow:
            await offers.expire(uow, offer_id)
    return await _next(
        db, select(offer.c.expires_at).where(offer.c.state == "open").order_by(offer.c.expires_at)
    )


async def sweep_steps(db: Database) -> int | None:
    """Waiting items whose next ring opens."""
    now = db.clock.now_ms()
    due = await _ids(
        db,
        select(work_item.c.id)
        .where(work_item.c.next_step_at.is_not(None), work_item.c.next_step_at <= now)
        .order_by(work_item.c.next_step_at, work_item.c.id)
        .limit(_BATCH),
    )
    for item_id in due:
        async with db.transaction() as uow:
            item = await _claim(uow, item_id)
            if item is None or item.next_step_at is None or item.next_step_at > uow.now:
                continue
            if item.state == ItemState.WAITING:
                await match.route_item(uow, item, "step")
    return await _next(
        db,
        select(work_item.c.next_step_at)
        .where(work_item.c.next_step_at.is_not(None))
        .order_by(work_item.c.next_step_at),
    )


async def sweep_wakeups(db: Database) -> int | None:
    """Parked items whose time has come, waiting ones whose team closes, wrap-ups that are over, chats that fell silent
    or lost their agent.
    """
    now = db.clock.now_ms()
    due = await _ids(
        db,
        select(work_item.c.id)
        .where(work_item.c.wake_at.is_not(None), work_item.c.wake_at <= now)
        # What lost its agent goes smallest key first, and only so many a minute.
        .order_by(work_item.c.wake_at, work_item.c.order_key, work_item.c.id)
        .limit(_BATCH),
    )
    for item_id in due:
        async with db.transaction() as uow:
            item = await _claim(uow, item_id)
            if item is not None and item.wake_at is not None and item.wake_at <= uow.now:
                await _wake(uow, item)
    return await _next(
        db, select(work_item.c.wake_at).where(work_item.c.wake_at.is_not(None)).order_by(work_item.c.wake_at)
    )


async def sweep_leases(db: Database) -> int | None:
    """Agents whose sign of life stopped."""
    now = db.clock.now_ms()
    due = await _ids(
        db,
        select(agent_state.c.agent_id)
        .where(agent_state.c.routable, agent_state.c.lease_until <= now)
        .order_by(agent_state.c.lease_until)
        .limit(_BATCH),
    )
    for agent_id in due:
        async with db.transaction() as uow:
            await presence.lapse(uow, agent_id)
    return await _next(
        db,
        select(agent_state.c.lease_until).where(agent_state.c.routable).order_by(agent_state.c.lease_until),
    )


async def sweep_lanes(db: Database) -> int | None:
    """The poll of non-empty lanes with free agents, each second whatever the hints say."""
    await match.route_pending(db)
    return db.clock.now_ms() + 1_000


async def sweep_reconcile(db: Database) -> int | None:
    """Each minute: recount what is in use, fill fresh lanes again, forget old commands."""
    async with db.transaction() as uow:
        await reconcile.recount(uow)
        await lanes.refill_fresh(uow)
        old = select(command.c.id).where(command.c.at < uow.now - commands.KEEP_MS).limit(_BATCH)
        await uow.execute(delete(command).where(command.c.id.in_(old)))
    return db.clock.now_ms() + MINUTE


#: in the order in which they matter to a waiting customer
SWEEPERS: Sequence[tuple[str, Sweeper]] = (
    ("routing.offers", sweep_offers),
    ("routing.leases", sweep_leases),
    ("routing.wakeups", sweep_wakeups),
    ("routing.steps", sweep_steps),
    ("routing.lanes", sweep_lanes),
    ("routing.rollout", configuration_rollout.sweep),
    ("routing.reconcile", sweep_reconcile),
)


async def _wake(uow: UnitOfWork, item: Item) -> None:
    team = await store.team_context(uow.conn, item.team_id)
    if item.state in (ItemState.PARKED, ItemState.WAITING):
        await match.route_item(uow, item, "wake", team=team)
    elif item.state == ItemState.WRAPUP:
        held = await store.holdings(uow, item)
        await apply.feed(uow, item, machine.WrapupOver(held=held), team.settings)
        for agent_id in sorted({h.agent_id for h in held}):
            await uow.execute(
                update(agent_state).where(agent_state.c.agent_id == agent_id).values(wrapup_until=None)
            )
            await match.pull(uow, agent_id, "wrapup_over")
    elif item.state == ItemState.ASSIGNED and item.owner_id is not None:
        await rebalance.look(uow, item, item.owner_id, team)
    else:
        await uow.update(work_item, item.id, {"wake_at": None})


async def _claim(uow: UnitOfWork, item_id: int) -> Item | None:
    """Lock an item with its inquiry, or leave it to who has it."""
    item = await store.lock_item(uow, item_id, skip_locked=True)
    if item is None or item.source_kind != "inquiry":
        return item
    locked = uow.lock(select(inquiry.c.id).where(inquiry.c.id == item.source_id), skip_locked=True)
    return item if await uow.scalar(locked) is not None else None


async def _ids(db: Database, statement: Any) -> list[int]:
    async with db.reading() as conn:
        return [int(i) for i in (await conn.scalars(statement)).all()]


async def _next(db: Database, statement: Any) -> int | None:
    async with db.reading() as conn:
        value = await conn.scalar(statement.limit(1))
    return None if value is None else int(value)


__all__ = [
    "SWEEPERS",
    "sweep_lanes",
    "sweep_leases",
    "sweep_offers",
    "sweep_reconcile",
    "sweep_steps",
    "sweep_wakeups",
]
