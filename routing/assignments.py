"""Who has the work: taking it by hand, transferring, giving it back, and what it weighs while it is had."""

from dataclasses import replace
from typing import Any

from sqlalchemy import select

from crm_core import inquiries
from crm_core.db.uow import UnitOfWork
from crm_core.errors import Conflict, Invalid, NotFound
from crm_core.events import DomainEvent
from crm_core.schema import agent, conversation, inquiry, team
from routing import apply, asking, capacity, commands, items, machine, match, steps, store
from routing.model import Item, ItemState, RowLike
from routing.offers import view_of
from routing.schema import agent_state, assignment

#: the cause of a change of team that a transfer makes itself, told to those who listen to changes
TRANSFER = "transfer"


async def take(
    uow: UnitOfWork, inquiry_id: int, agent_id: int, command_id: str | None = None, *, steal: bool = False
) -> dict[str, Any]:
    """An agent takes an inquiry by hand, past order, ranking and capacity; recorded as forced.

    `steal`: also from a colleague who has it (for supervisors).

    Returns:
        The assignment.

    Raises:
        NotFound: no such inquiry. Conflict: `already_assigned` to a colleague; `closed`: nothing is left to
        do.
    """

    async def act() -> dict[str, Any]:
        row = await _lock_inquiry(uow, inquiry_id)
        if row["status"] in ("solved", "closed") or row["merged_into_id"] is not None:
            raise Conflict("this inquiry is finished; reopen it first", code="closed")
        item = await store.lock_live(uow, "inquiry", inquiry_id)
        if item is not None and item.owner_id is not None and item.owner_id != agent_id and not steal:
            raise Conflict(
                "a colleague has this already", code="already_assigned", params={"agent_id": item.owner_id}
            )
        held_by_bot = bool(row["held_by_bot"])
        if item is None or item.owner_id != agent_id:
            item = await give(uow, row, item, agent_id, cause="take", by=f"agent:{agent_id}")
        if held_by_bot:
            await _end_dialog(uow, row, agent_id)
        return await _view(uow, item)

    return await commands.once(uow, command_id, act)


async def transfer(
    uow: UnitOfWork,
    inquiry_id: int,
    *,
    actor: str,
    to_agent_id: int | None = None,
    to_team_id: int | None = None,
    note: str | None = None,
    command_id: str | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Hand an inquiry to a colleague or to a team.

    To a colleague: work that waits anyway is his at once; a live chat is offered to him, and comes back to
    the sender if he does not take it in time. To a team: it joins that team's queue with its original key.

    `actor`: "agent:5".
    `note`: shown with the decision; post an internal note for the thread.
    `force`: also to a fourth team (for supervisors).

    Returns:
        {"state": item's state, "agent_id", "team_id", "item_id", "inquiry_id"}.

    Raises:
        NotFound: inquiry, agent or team. Invalid: neither or both targets. Conflict: `closed`; `too_many_teams`:
        three teams had it already; `agent_not_available`: he is not online and the customer is waiting live.
    """
    if (to_agent_id is None) == (to_team_id is None):
        raise Invalid("name an agent or a team", code="bad_target")

    async def act() -> dict[str, Any]:
        row = await _lock_inquiry(uow, inquiry_id)
        if row["status"] in ("solved", "closed"):
            raise Conflict("this inquiry is finished", code="closed")
        item = await store.lock_live(uow, "inquiry", inquiry_id)
        if to_agent_id is not None:
            after = await _to_agent(uow, row, item, to_agent_id, actor=actor, note=note)
        else:
            after = await _to_team(uow, row, item, to_team_id or 0, actor=actor, note=note, force=force)
        if row["held_by_bot"]:
            await _end_dialog(uow, row, after.owner_id)
        return {
            "state": after.state, "agent_id": after.owner_id, "team_id": after.team_id, "item_id": after.id,
            "inquiry_id": inquiry_id,
        }  # fmt: skip

    return await commands.once(uow, command_id, act)


async def release(
    uow: UnitOfWork, inquiry_id: int, actor: str, command_id: str | None = None
) -> dict[str, Any]:
    """Give an inquiry back to its team's queue; whoever had it does not get it straight back.

    Raises:
        NotFound; Conflict `not_assigned`: nobody has it.
    """

    async def act() -> dict[str, Any]:
        row = await _lock_inquiry(uow, inquiry_id)
        item = await store.lock_live(uow, "inquiry", inquiry_id)
        if item is None or item.owner_id is None:
            raise Conflict("nobody has this inquiry", code="not_assigned")
        after = await _back_to_queue(uow, item, cause="released", exclude=item.owner_id, actor=actor, row=row)
        return {
            "state": after.state,
            "agent_id": after.owner_id,
            "team_id": after.team_id,
            "item_id": after.id,
            "inquiry_id": inquiry_id,
        }

    return await commands.once(uow, command_id, act)


async def give(
    uow: UnitOfWork, row: RowLike, item: Item | None, agent_id: int, *, cause: str, by: str,
    note: str | None = None,
) -> Item:  # fmt: skip
    """Assign by a person's decision, whatever holds it now. The inquiry and the item are locked."""
    if item is None:
        return await items.adopt_inquiry(uow, row, agent_id, cause=cause, by=by, note=note)
    return await items.hand_to(uow, item, agent_id, cause=cause, by=by, note=note)


async def weigh(uow: UnitOfWork, inquiry_id: int, *, waits_for_customer: bool) -> None:
    """Work that waits for the customer weighs nothing; when it comes back it weighs again, even over the
    limit.
    """
    item = await store.lock_live(uow, "inquiry", inquiry_id)
    if item is None or item.state != ItemState.ASSIGNED:
        return
    team_ = await store.team_context(uow.conn, item.team_id)
    held = await store.holdings(uow, item)
    changed = await apply.set_weight(uow, held, holds_slot=not waits_for_customer, settings=team_.settings)
    if not changed:
        return
    inactive = team_.settings.channel(item.channel).inactive_ms
    if waits_for_customer and item.owner_id is not None:
        await match.pull(uow, item.owner_id)
    elif inactive is not None:
        await apply.save(uow, item, replace(item, wake_at=uow.now + inactive))


async def unassign(uow: UnitOfWork, row: RowLike, *, actor: str, cause: str) -> Item | None:
    """An edit took the assignee away: back to the queue. The inquiry is locked."""
    item = await store.lock_live(uow, "inquiry", row["id"])
    if item is None or item.owner_id is None:
        return item
    return await _back_to_queue(uow, item, cause=cause, exclude=item.owner_id, actor=actor, row=row)


async def disown(uow: UnitOfWork, item: Item, agent_id: int, *, cause: str) -> None:
    """Nobody is responsible for the item's inquiry any more. Its inquiry is locked."""
    await apply.disown(uow, item, agent_id, cause)


async def _to_agent(
    uow: UnitOfWork, row: RowLike, item: Item | None, agent_id: int, *, actor: str, note: str | None
) -> Item:
    known = await uow.row(select(agent.c.name, agent.c.active).where(agent.c.id == agent_id))
    if known is None or not known["active"]:
        raise NotFound(f"no agent {agent_id}", params={"agent_id": agent_id})
    if item is not None and item.owner_id == agent_id:
        return item
    team_ = await store.team_context(uow.conn, item.team_id if item else row["team_id"])
    if item is None or team_.settings.channel(item.channel).mode == "assign":
        return await give(uow, row, item, agent_id, cause="transfer", by=actor, note=note)
    state = await uow.row(select(agent_state).where(agent_state.c.agent_id == agent_id))
    if state is None or not state["routable"] or (state["lease_until"] or 0) <= uow.now:
        raise Conflict(
            "he is not online, and the customer is waiting", code="agent_not_available",
            params={"agent_id": agent_id},
        )  # fmt: skip
    held = await store.holdings(uow, item)
    sender = item.owner_id
    await capacity.lock(uow, [agent_id, *(h.agent_id for h in held)])
    event = machine.Requeued(held=held, cause="transfer", directed_to=agent_id, return_to=sender)
    waiting = await apply.feed(uow, item, event, team_.settings)
    rules = team_.settings.channel(item.channel)
    await capacity.hold_forced(uow, agent_id, item.channel, rules.weight)
    decision_id = await items.record_people(
        uow, waiting, cause="transfer", outcome="offered", agent_id=agent_id, by=actor, note=note
    )
    step = steps.plan(waiting, team_.settings)[0]
    offered = machine.Offered(agent_id=agent_id, step=step, entered_at=uow.now, weight=rules.weight)
    after = await apply.feed(uow, waiting, offered, team_.settings, decision_id=decision_id)
    for loser in sorted({h.agent_id for h in held} - {agent_id}):
        await match.pull(uow, loser)
    return after


async def _to_team(
    uow: UnitOfWork,
    row: RowLike,
    item: Item | None,
    team_id: int,
    *,
    actor: str,
    note: str | None,
    force: bool,
) -> Item:
    name = await uow.scalar(select(team.c.name).where(team.c.id == team_id, team.c.active))
    if name is None:
        raise NotFound(f"no team {team_id}", params={"team_id": team_id})
    if item is not None and not force:
        asking.check_teams(item, team_id)
    # The clocks hear of it before the item moves: whether another team is promised otherwise, the policy says.
    after_row = await inquiries.change(uow, row["id"], {"team_id": team_id}, actor=actor, cause=TRANSFER)
    if item is None:
        return await items.enqueue_inquiry(uow, after_row, trigger="transfer")
    await items.record_people(
        uow,
        item,
        cause="transfer",
        outcome="requeued",
        agent_id=None,
        by=actor,
        note=note,
        team=(team_id, name),
    )
    held = await store.holdings(uow, item)
    event = machine.Requeued(held=held, cause="transfer", exclude=item.owner_id, team_id=team_id)
    return await items.requeue(uow, item, event, "transfer")


async def _back_to_queue(
    uow: UnitOfWork, item: Item, *, cause: str, exclude: int | None, actor: str, row: RowLike
) -> Item:
    await items.record_people(uow, item, cause=cause, outcome="requeued", agent_id=None, by=actor, note=None)
    held = await store.holdings(uow, item)
    event = machine.Requeued(held=held, cause=cause, exclude=exclude, team_id=row["team_id"])
    return await items.requeue(uow, item, event, cause)


async def _lock_inquiry(uow: UnitOfWork, inquiry_id: int) -> RowLike:
    """The inquiry, locked, and its conversation after it."""
    row = await store.lock_inquiry(uow, inquiry_id)
    if row is None:
        raise NotFound(f"no inquiry {inquiry_id}", params={"inquiry_id": inquiry_id})
    if row["conversation_id"] is not None:
        await uow.execute(
            uow.lock(select(conversation.c.id).where(conversation.c.id == row["conversation_id"]))
        )
    return row


async def _end_dialog(uow: UnitOfWork, row: RowLike, agent_id: int | None) -> None:
    """A person took it over from the bot: say so, that the dialog ends."""
    await uow.execute(inquiry.update().where(inquiry.c.id == row["id"]).values(held_by_bot=False))
    after = await uow.find(inquiry, row["id"])
    await uow.emit(
        DomainEvent(
            kind="inquiry.handed_off", subject_kind="inquiry", subject_id=row["id"], inquiry_id=row["id"],
            conversation_id=row["conversation_id"], actor=f"agent:{agent_id}" if agent_id else "system",
            payload={"reason": "taken"}, context={"inquiry": after, "contact": None, "before": dict(row)},
        )
    )  # fmt: skip


async def _view(uow: UnitOfWork, item: Item) -> dict[str, Any]:
    row = await uow.row(
        select(assignment).where(assignment.c.item_id == item.id, assignment.c.ended_at.is_(None))
    )
    if row is None:
        raise RuntimeError(f"work item {item.id} has no live assignment")
    return view_of(row, item)
