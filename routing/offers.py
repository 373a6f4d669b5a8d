"""Offers: an agent accepts or declines, time runs out, the work is withdrawn.

Capacity was taken when the offer was made, so accepting cannot fail for want of it. An offer ends exactly
once: all ways lock the item first and look at the offer again under that lock.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, select

from crm_core.db.prepared import Prepared
from crm_core.db.uow import UnitOfWork
from crm_core.errors import Forbidden, Gone, NotFound
from crm_core.schema import conversation
from crm_core.views import iso
from routing import apply, capacity, commands, items, machine, match, store
from routing.model import Item, ItemState, RowLike
from routing.offer_view import offers_by_id, open_offers
from routing.schema import assignment, offer, work_item

__all__ = ["accept", "decline", "expire", "offers_by_id", "open_offers", "revoke"]


async def accept(
    uow: UnitOfWork, offer_id: int, agent_id: int, command_id: str | None = None
) -> dict[str, Any]:
    """The agent takes what he was offered.

    Accepting twice returns the first result.

    Returns:
        The assignment: id, item_id, inquiry_id, callback_id, call_id, agent_id, channel, cause, started_at.

    Raises:
        NotFound: no such offer. Forbidden: it is somebody else's.
        Gone: `offer_expired` (too late), `offer_taken` (withdrawn, or somebody else was quicker),
        `offer_declined`.
    """

    async def act() -> dict[str, Any]:
        item, request = await _locked(uow, offer_id, agent_id)
        team, around = await store.offers_around(uow, offer_id, item)
        row = _of(around, offer_id)
        if row["state"] == "accepted":
            return await _assignment_view(uow, item, row)
        if row["state"] != "open" or row["expires_at"] <= uow.now:
            raise _gone(row)
        held = {r["id"]: store.holding_of_offer(r) for r in around}
        mine, others = held[offer_id], [h for h in held.values() if h.id != offer_id]
        await capacity.lock_several(uow, [h.agent_id for h in held.values()])
        known = apply.Known(
            inquiry=request if item.source_kind == "inquiry" else None, names={agent_id: row["agent_name"]}
        )
        await apply.feed(
            uow, item, machine.Accepted(offer=mine, others=others), team.settings,
            decision_id=row["decision_id"], known=known,
        )  # fmt: skip
        return await _assignment_view(uow, item, row)

    return await commands.once(uow, command_id, act)


async def decline(
    uow: UnitOfWork, offer_id: int, agent_id: int, reason: str | None = None, command_id: str | None = None
) -> dict[str, Any]:
    """The agent does not want it: it goes to somebody else at once, and not back to him for a while.

    Returns:
        The offer. Declining twice is the same as once.

    Raises:
        NotFound, Forbidden as `accept`. Gone: it was accepted, ran out or was withdrawn.
    """

    async def act() -> dict[str, Any]:
        item, _ = await _locked(uow, offer_id, agent_id)
        row = _of((await store.offers_around(uow, offer_id, item))[1], offer_id)
        if row["state"] == "open":
            await _refuse(uow, item, [row], "declined", (reason or "")[:60] or None)
        elif row["state"] != "declined":
            raise _gone(row)
        return (await offers_by_id(uow.conn, [offer_id]))[0]

    return await commands.once(uow, command_id, act)


async def expire(uow: UnitOfWork, offer_id: int) -> bool:
    """End an offer whose time ran out; the item goes back with its original key. Of several offers of one item
    all whose time is over end together. Returns whether any did.
    """
    row = await uow.row(_WHOSE, {"id_": offer_id})
    if row is None or row["state"] != "open" or row["expires_at"] > uow.now:
        return False
    item, _ = await _item_for(uow, row, skip_locked=True)
    if item is None:
        return False
    over = await uow.rows(
        select(offer)
        .where(offer.c.item_id == item.id, offer.c.state == "open", offer.c.expires_at <= uow.now)
        .order_by(offer.c.id)
    )
    if not over:
        return False
    await _refuse(uow, item, over, "expired", None)
    return True


async def revoke(uow: UnitOfWork, item: Item, offer_row: RowLike, reason: str) -> Item:
    """Withdraw an open offer, because its agent went away, say. The item is locked; it goes on to somebody
    else.
    """
    return await _refuse(uow, item, [offer_row], "revoked", reason)


async def _refuse(uow: UnitOfWork, item: Item, rows: Sequence[RowLike], how: str, reason: str | None) -> Item:
    """These offers of the item end without success; when they were the last it goes on."""
    team = await store.team_context(uow.conn, item.team_id)
    ending = [store.holding_of_offer(r) for r in rows]
    held = [h for h in await store.holdings(uow, item) if h.id not in {e.id for e in ending}]
    await capacity.lock(uow, [h.agent_id for h in ending])
    for i, (mine, row) in enumerate(zip(ending, rows, strict=True)):
        event = machine.Refused(
            offer=mine, how=how, reason=reason, broadcast=row["kind"] == "broadcast",
            others=[*ending[i + 1 :], *held],
        )  # fmt: skip
        item = await apply.feed(uow, item, event, team.settings)
    if item.state == ItemState.WAITING:
        item = await items.refresh_key(uow, item, team)
        if item.directed_agent_id is not None and item.return_agent_id is not None:
            return await _back_to_sender(uow, item, team, how)
        item = await match.route_item(uow, item, how, team=team)
    if how != "revoked":
        for agent_id in sorted({h.agent_id for h in ending}):
            await match.pull(uow, agent_id)
    return item


async def _back_to_sender(uow: UnitOfWork, item: Item, team: store.TeamContext, how: str) -> Item:
    sender = item.return_agent_id or 0
    rules = team.settings.channel(item.channel)
    await capacity.hold_forced(uow, sender, item.channel, rules.weight)
    decision_id = await items.record_people(
        uow, item, cause=f"transfer_{how}", outcome="returned", agent_id=sender, by="system"
    )
    event = machine.Assigned(agent_id=sender, weight=rules.weight, cause="returned", forced=True)
    return await apply.feed(uow, item, event, team.settings, decision_id=decision_id)


async def _locked(uow: UnitOfWork, offer_id: int, agent_id: int) -> tuple[Item, RowLike | None]:
    """The offer's item and the item's inquiry, locked. What the offer is under these locks is to be read anew."""
    row = await uow.row(_WHOSE, {"id_": offer_id})
    if row is None:
        raise NotFound(f"no offer {offer_id}", params={"offer_id": offer_id})
    if row["agent_id"] != agent_id:
        raise Forbidden("this offer is for somebody else", code="not_your_offer")
    item, request = await _item_for(uow, row)
    if item is None:
        raise NotFound(f"no offer {offer_id}", params={"offer_id": offer_id})
    return item, request


def _of(around: Sequence[RowLike], offer_id: int) -> RowLike:
    row = next((r for r in around if r["id"] == offer_id), None)
    if row is None:
        raise NotFound(f"no offer {offer_id}", params={"offer_id": offer_id})
    return row


async def _item_for(
    uow: UnitOfWork, seen: RowLike, *, skip_locked: bool = False
) -> tuple[Item | None, RowLike | None]:
    """The item of an offer (a row of `_WHOSE`), locked after the inquiry (which comes with it) and the conversation
    that its assignment will write to.
    """
    request: RowLike | None = None
    if seen["inquiry_id"] is not None:
        request = await store.lock_inquiry(uow, seen["inquiry_id"], skip_locked=skip_locked)
        if request is None and skip_locked:
            return None, None
    if seen["conversation_id"] is not None and not skip_locked:
        await uow.execute(_LOCK_CONVERSATION, {"id_": seen["conversation_id"]})
    return await store.lock_item(uow, seen["item_id"], skip_locked=skip_locked), request


async def _assignment_view(uow: UnitOfWork, item: Item, taken: RowLike) -> dict[str, Any]:
    """What became of this offer, whoever has the item by now."""
    here = {"item": item.id, "agent": taken["agent_id"], "decision_": taken["decision_id"]}
    row = await uow.row(_ASSIGNMENT, here)
    return view_of(row, item) if row is not None else {"item_id": item.id, "inquiry_id": item.inquiry_id}


def view_of(row: RowLike, item: Item) -> dict[str, Any]:
    """The JSON shape of an assignment."""
    return {
        "id": row["id"],
        "item_id": row["item_id"],
        "inquiry_id": row["inquiry_id"],
        "callback_id": item.source_id if item.source_kind == "callback" else None,
        "call_id": item.source_id if item.source_kind == "call" else None,
        "agent_id": row["agent_id"],
        "channel": row["channel"],
        "cause": row["cause"],
        "forced": row["forced"],
        "decision_id": row["decision_id"],
        "started_at": iso(row["started_at"]),
    }


def _gone(row: RowLike) -> Gone:
    state = row["state"]
    if state in ("open", "expired"):
        return Gone("the time for this offer is over", code="offer_expired", params={"offer_id": row["id"]})
    if state == "declined":
        return Gone("this offer was declined", code="offer_declined", params={"offer_id": row["id"]})
    return Gone(
        "somebody else has this now", code="offer_taken", params={"offer_id": row["id"], "state": state}
    )


_WHOSE = Prepared(
    select(
        offer.c.item_id, offer.c.agent_id, offer.c.state, offer.c.expires_at,
        work_item.c.inquiry_id, work_item.c.conversation_id,
    )
    .join(work_item, work_item.c.id == offer.c.item_id)
    .where(offer.c.id == bindparam("id_"))
)  # fmt: skip
_LOCK_CONVERSATION = Prepared(
    select(conversation.c.id).where(conversation.c.id == bindparam("id_")).with_for_update()
)
_ASSIGNMENT = Prepared(
    select(assignment)
    .where(
        assignment.c.item_id == bindparam("item"),
        assignment.c.agent_id == bindparam("agent"),
        assignment.c.decision_id == bindparam("decision_"),
    )
    .order_by(assignment.c.id.desc())
    .limit(1)
)
