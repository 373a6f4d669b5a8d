"""Presence with a lease: coming, going, vanishing, and what that means for the work in hand.

An open socket renews the lease; a lease that lapses makes its agent offline. Offers are withdrawn at once,
live chats go to somebody else after a grace, asynchronous work stays with its owner unless it would be late.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import and_, or_, select, update

from crm_core.clock import MINUTE
from crm_core.db.uow import UnitOfWork
from crm_core.errors import Invalid
from routing import capacity, lanes, match, offers, presence_rows, store
from routing.capacity import LEASE_MS, RENEW_MS
from routing.model import Channel, Item, ItemState, Presence
from routing.schema import agent_state, assignment, offer, work_item
from routing.settings import DEFAULTS

#: how long a live chat waits for an agent who vanished, before it goes to somebody else
CHAT_GRACE_MS = MINUTE
#: items of one agent moved in a minute, so that one disconnect is no storm
MOVED_PER_MINUTE = 30
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
        await _recall(uow, agent_id)
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
        await _schedule_moves(uow, owned, presence, since)
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


async def _schedule_moves(uow: UnitOfWork, owned: Sequence[Item], presence: str, since: int) -> None:
    """Say when each piece of his work is looked at again; `routing.sweep` does it then, if he is still away. The
    items are locked.
    """
    at_once = presence == Presence.AWAY_REASSIGN
    moved = 0
    for item in sorted(owned, key=lambda i: (i.order_key, i.id)):
        when: int | None = None
        if item.channel == Channel.CHAT:
            when = since if at_once else since + CHAT_GRACE_MS
        elif item.channel == Channel.ASYNC and at_once:
            when = since
        elif item.channel == Channel.ASYNC and item.inquiry_id is not None:
            due = await store.reply_due(uow.conn, item.inquiry_id)
            if due is not None:
                reserve = DEFAULTS.channel(Channel.ASYNC).reserve_ms
                when = max(since + CHAT_GRACE_MS, due - reserve - CHAT_GRACE_MS)
        if when is None:
            continue
        if when <= since + CHAT_GRACE_MS:
            when += moved // MOVED_PER_MINUTE * MINUTE
            moved += 1
        await uow.execute(update(work_item).where(work_item.c.id == item.id).values(wake_at=when))


async def _recall(uow: UnitOfWork, agent_id: int) -> None:
    """He is back before his work was moved: asynchronous work needs no look any more, chats only for
    silence.
    """
    rows = await uow.rows(
        uow.lock(
            select(work_item.c.id)
            .where(
                work_item.c.owner_id == agent_id,
                work_item.c.state == ItemState.ASSIGNED,
                work_item.c.channel == Channel.ASYNC,
                work_item.c.wake_at.is_not(None),
            )
            .order_by(work_item.c.id),
            # What somebody else is changing is looked at when it wakes, and then he is here.
            skip_locked=True,
        )
    )
    if rows:
        ids = [r["id"] for r in rows]
        await uow.execute(update(work_item).where(work_item.c.id.in_(ids)).values(wake_at=None))


async def away(uow: UnitOfWork, agent_id: int) -> bool:
    """Whether this agent is gone for now, so that his live work should not wait for him."""
    state = await uow.row(select(agent_state).where(agent_state.c.agent_id == agent_id))
    return state is None or state["presence"] in (Presence.OFFLINE, Presence.AWAY_REASSIGN)


async def held_chats(uow: UnitOfWork, agent_id: int) -> int:
    """How many live chats he has, for the question before he leaves."""
    rows = await uow.rows(
        select(assignment.c.id).where(
            and_(assignment.c.agent_id == agent_id, assignment.c.ended_at.is_(None)),
            or_(assignment.c.channel == Channel.CHAT, assignment.c.channel == Channel.VOICE),
        )
    )
    return len(rows)
