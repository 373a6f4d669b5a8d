"""Brings a new version of a team's settings to its agents' limits and to what waits already, in batches.

Decisions use new settings at once; this is for the keys, rings and lanes that were written under the old ones. Each
item is a transaction of its own, so nobody waits for a batch; progress is a row, so a crash goes on where it was;
everything done twice is the same as once.
"""

import secrets
from dataclasses import replace
from typing import Any

from sqlalchemy import and_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core import leases
from crm_core.clock import SECOND
from crm_core.db.engine import Database
from crm_core.db.uow import Row, UnitOfWork, read_row
from crm_core.schema import team_member
from crm_core.views import iso
from routing import apply, capacity, configuration, items, match, steps, store
from routing.model import QUEUED, Item, ItemState
from routing.schema import routing_rollout, work_item
from routing.settings import TeamSettings

BATCH = 500
#: a transaction that read the old settings may end so long after the edit; what it wrote is looked at again
LATE_MS = 30 * SECOND
_LEASE_MS = 60 * SECOND
#: this process, among those that sweep
_OWNER = secrets.token_hex(8)


async def sweep(db: Database) -> int | None:
    """One batch of the oldest unfinished rollout. Returns when to come again."""
    async with db.reading() as conn:
        waiting = await read_row(
            conn,
            select(routing_rollout)
            .where(routing_rollout.c.finished_at.is_(None))
            .order_by(routing_rollout.c.phase == "late", routing_rollout.c.started_at)
            .limit(1),
        )
    if waiting is None:
        return None
    now = db.clock.now_ms()
    if waiting["phase"] == "late" and waiting["started_at"] + LATE_MS > now:
        return int(waiting["started_at"] + LATE_MS)
    async with db.transaction() as uow:
        if await leases.acquire(uow, "routing.rollout", _OWNER, ttl_ms=_LEASE_MS) is None:
            return now + SECOND
    if waiting["phase"] == "agents":
        await _agents(db, waiting)
    else:
        await _items(db, waiting)
    return db.clock.now_ms()


async def progress(conn: AsyncConnection, team_id: int) -> dict[str, Any] | None:
    """{"version", "phase", "agents", "items", "changed", "started_at", "finished_at"}; None if nothing was ever
    to be brought.
    """
    row = await read_row(conn, select(routing_rollout).where(routing_rollout.c.team_id == team_id))
    if row is None:
        return None
    return {
        "version": row["version"],
        "phase": row["phase"],
        "agents": row["agents"],
        "items": row["items"],
        "changed": row["changed"],
        "started_at": iso(row["started_at"]),
        "finished_at": iso(row["finished_at"]),
    }


async def _agents(db: Database, rollout: Row) -> None:
    async with db.reading() as conn:
        members = [
            int(i)
            for i in await conn.scalars(
                select(team_member.c.agent_id)
                .where(
                    team_member.c.team_id == rollout["team_id"], team_member.c.agent_id > rollout["after_id"]
                )
                .order_by(team_member.c.agent_id)
                .limit(BATCH)
            )
        ]
    for agent_id in members:
        async with db.transaction() as uow:
            await capacity.ensure(uow, agent_id)
            await capacity.refresh_limits(uow, agent_id)
    if len(members) < BATCH:
        values: dict[str, Any] = {"phase": "items", "after_at": 0, "after_id": 0}
    else:
        values = {"after_id": members[-1]}
    await _advance(db, rollout, agents=rollout["agents"] + len(members), **values)


async def _items(db: Database, rollout: Row) -> None:
    team_id = rollout["team_id"]
    behind = or_(
        work_item.c.ready_at > rollout["after_at"],
        and_(work_item.c.ready_at == rollout["after_at"], work_item.c.id > rollout["after_id"]),
    )
    async with db.reading() as conn:
        found = (
            await conn.execute(
                select(work_item.c.id, work_item.c.ready_at)
                .where(
                    work_item.c.team_id == team_id,
                    work_item.c.state.in_(QUEUED),
                    work_item.c.ready_at >= rollout["after_at"],
                    behind,
                )
                .order_by(work_item.c.ready_at, work_item.c.id)
                .limit(BATCH)
            )
        ).all()
        before = await configuration.settings_at(conn, team_id, rollout["version"] - 1)
    changed = 0
    for item_id, _ in found:
        async with db.transaction() as uow:
            changed += await refit(uow, item_id, before)
    seen = {"items": rollout["items"] + len(found), "changed": rollout["changed"] + changed}
    if len(found) == BATCH:
        await _advance(db, rollout, **seen, after_at=found[-1].ready_at, after_id=found[-1].id)
    elif rollout["phase"] == "items":
        # What came while the edit was committing may have been placed by the old rules: one more look.
        await _advance(
            db, rollout, **seen, phase="late", after_at=rollout["started_at"] - LATE_MS, after_id=0
        )
    else:
        await _advance(db, rollout, **seen, phase="done", finished_at=db.clock.now_ms())


async def _advance(db: Database, rollout: Row, **values: Any) -> None:
    """Write the progress, unless a newer edit began it again or another process was quicker."""
    same = [routing_rollout.c[name] == rollout[name] for name in ("version", "phase", "after_at", "after_id")]
    async with db.transaction() as uow:
        await uow.execute(
            update(routing_rollout)
            .where(
                routing_rollout.c.team_id == rollout["team_id"],
                routing_rollout.c.started_at == rollout["started_at"],
                *same,
            )
            .values(**values)
        )


async def refit(uow: UnitOfWork, item_id: int, before: TeamSettings | None) -> bool:
    """Key, ring and lanes of a queued item by the settings in force now. Returns whether any of it changed.

    `before`: the settings it was placed by, which say what its ring was called then; None if unknown.
    """
    seen = await store.item(uow, item_id)
    if seen is None or seen.state not in QUEUED:
        return False
    if seen.inquiry_id is not None and seen.source_kind == "inquiry":
        await store.lock_inquiry(uow, seen.inquiry_id)
    item = await store.lock_item(uow, item_id)
    if item is None or item.state not in QUEUED:
        return False
    team = await store.team_context(uow.conn, item.team_id)
    was = (item.order_key, item.state, item.step_no, item.next_step_at, item.wake_at, item.owner_id)
    item = await items.refresh_key(uow, item, team)
    if item.source_kind != "inquiry":
        item = await apply.save(uow, item, items.keyed(item, team))
    if item.state != ItemState.OFFERED:
        moved = same_ring(item, before, team.settings)
        if moved != item.step_no:
            item = await apply.save(uow, item, replace(item, step_no=moved))
        item = await match.route_item(uow, item, "config", team=team)
    return was != (item.order_key, item.state, item.step_no, item.next_step_at, item.wake_at, item.owner_id)


def same_ring(item: Item, before: TeamSettings | None, after: TeamSettings) -> int:
    """The number that the item's ring has under changed rules."""
    if before is None:
        return item.step_no
    return steps.same_ring(steps.plan(item, before), steps.plan(item, after), item.step_no)
