"""Presence with a lease: coming, going, vanishing, and what that means for the work in hand.

An open socket renews the lease; a lease that lapses makes its agent offline. Offers are withdrawn at once;
what becomes of his work is in `routing.rebalance`.
"""

from typing import Any

from sqlalchemy import and_, or_, select, update

from crm_core.db.uow import UnitOfWork
from crm_core.errors import Invalid
from routing import capacity, lanes, match, offers, presence_rows, rebalance
from routing.capacity import LEASE_MS, RENEW_MS
from routing.model import Channel, Item, ItemState, Presence
from routing.schema import agent_state, assignment, offer, work_item

CHOSEN = (Presence.ONLINE, Presence.BREAK, Presence.DND, Presence.OFFLINE, Presence.AWAY_REASSIGN)


async def set_presence(
    uow: UnitOfWork, agent_id: int, presence: str, *, actor: str | None = None
) -> dict[str, Any]:
    """An agent says whether he is there. Online: he gets work at once. Anything else: his open offers are
    withdrawn.

    `actor`: who says so, if not the agent himself: "agent:5" (a supervisor).

    Returns:
        Presence {agent_id, presence, reason, since, lease_until, capacity, load_used, load_max}.

    Raises:
        Invalid: no such presence. NotFound: no such agent.
    """
    if presence not in CHOSEN:
        raise Invalid(f"presence must be one of {', '.join(CHOSEN)}", code="bad_presence")
    who = actor or f"agent:{agent_id}"
    if presence == Presence.ONLINE:
        await rebalance.recall(uow, agent_id)
    await capacity.ensure(uow, agent_id)
    if presence == Presence.ONLINE:
        await lanes.rebuild_agent(uow, agent_id)
        state = (await capacity.lock(uow, [agent_id]))[agent_id]
        await presence_rows.write(uow, agent_id, state, presence, actor=who)
        await match.pull(uow, agent_id, "online")
    else:
        await _leave(uow, agent_id, presence, reason=None, since=uow.now, actor=who)
    return await presence_rows.view(uow.conn, agent_id)


async def heartbeat(uow: UnitOfWork, agent_id: int) -> dict[str, Any]:
    """A sign of life: renews the lease, writing at most every 15 s. Somebody whose lease had lapsed is
    online again; somebody who went offline himself stays so.
    """
    renewed = await uow.execute(
        update(agent_state)
        .where(
            agent_state.c.agent_id == agent_id,
            agent_state.c.presence != Presence.OFFLINE,
            agent_state.c.lease_until > uow.now,
            agent_state.c.lease_until <= uow.now + LEASE_MS - RENEW_MS,
        )
        .values(lease_until=uow.now + LEASE_MS)
    )
    if renewed.rowcount == 0:
        state = await uow.row(select(agent_state).where(agent_state.c.agent_id == agent_id))
        if state is not None and _came_back(state, uow.now):
            return await set_presence(uow, agent_id, Presence.ONLINE)
    return await presence_rows.view(uow.conn, agent_id)


def _came_back(state: Any, now: int) -> bool:
    if state["presence"] == Presence.OFFLINE:
        return bool(state["reason"] == presence_rows.LEASE_LAPSED)
    return bool(state["presence"] == Presence.ONLINE and (state["lease_until"] or 0) <= now)


async def lapse(uow: UnitOfWork, agent_id: int) -> bool:
    """His lease ran out: offline since then (event time, not the sweep's). Returns whether it was so."""
    state = await uow.row(select(agent_state).where(agent_state.c.agent_id == agent_id))
    if state is None or not state["routable"] or (state["lease_until"] or 0) > uow.now:
        return False
    return await _leave(
        uow,
        agent_id,
        Presence.OFFLINE,
        reason=presence_rows.LEASE_LAPSED,
        since=state["lease_until"] or uow.now,
        only_if_lapsed=True,
    )


async def _leave(
    uow: UnitOfWork,
    agent_id: int,
    presence: str,
    *,
    reason: str | None,
    since: int,
    only_if_lapsed: bool = False,
    actor: str = "system",
) -> bool:
    """Items come before agents in the lock order: first lock what is offered to him, then him."""
    offered = select(offer.c.item_id).where(offer.c.agent_id == agent_id, offer.c.state == "open")
    mine = and_(work_item.c.owner_id == agent_id, work_item.c.state == ItemState.ASSIGNED)
    rows = await uow.rows(
        uow.lock(select(work_item).where(or_(mine, work_item.c.id.in_(offered))).order_by(work_item.c.id))
    )
    locked = {r["id"]: Item.from_row(r) for r in rows}
    state = (await capacity.lock(uow, [agent_id])).get(agent_id)
    if state is None:
        return False
    if only_if_lapsed and (not state["routable"] or (state["lease_until"] or 0) > uow.now):
        return False
    await presence_rows.write(uow, agent_id, state, presence, reason=reason, since=since, actor=actor)
    if presence in (Presence.OFFLINE, Presence.AWAY_REASSIGN):
        owned = [i for i in locked.values() if i.owner_id == agent_id and i.state == ItemState.ASSIGNED]
        await rebalance.schedule(uow, agent_id, owned, presence, since)
    # Read again: one may have been accepted or have come before we had the agent. A new one whose item we
    # do not hold ends by its own timeout.
    still = await uow.rows(
        select(offer).where(
            offer.c.agent_id == agent_id, offer.c.state == "open", offer.c.item_id.in_(list(locked))
        )
    )
    for row in still:
        await offers.revoke(uow, locked[row["item_id"]], row, "agent_left")
    return True


async def held_chats(uow: UnitOfWork, agent_id: int) -> int:
    """How many live chats he has, for the question before he leaves."""
    rows = await uow.rows(
        select(assignment.c.id).where(
            and_(assignment.c.agent_id == agent_id, assignment.c.ended_at.is_(None)),
            or_(assignment.c.channel == Channel.CHAT, assignment.c.channel == Channel.VOICE),
        )
    )
    return len(rows)
