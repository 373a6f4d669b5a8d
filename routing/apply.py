"""Carries out what `routing.machine` decided, in the caller's transaction: rows, capacity, decision, events.

The caller has locked the item (and its inquiry where that will change). Agents are locked here, after the
item.
"""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, insert, select, update

from crm_core.access import inquiry_audience
from crm_core.clock import HOUR
from crm_core.db.uow import UnitOfWork
from crm_core.events import Audience, DomainEvent
from crm_core.schema import agent, conversation, inquiry
from crm_core.views import inquiry_brief
from routing import (
    capacity,
    handle_time,
    lanes,
    lead_counts,
    machine,
    offer_view,
    presence_rows,
    reasons,
    store,
)
from routing.machine import Change, Event, Holding
from routing.model import Channel, Item, ItemState
from routing.schema import agent_state, assignment, decision, offer, queue_entry, work_item
from routing.settings import TeamSettings
from routing.steps import Step

#: for so long the agent who served a conversation is asked first when it goes on
STICKY_MS = 72 * HOUR


async def feed(
    uow: UnitOfWork, item: Item, event: Event, settings: TeamSettings, *, decision_id: int | None = None
) -> Item:
    """Let the machine react to an event and carry out what it says. Returns the item as stored now."""
    change = machine.react(item, event, settings, uow.now)
    return await carry_out(uow, item, change, settings, decision_id=decision_id)


async def carry_out(
    uow: UnitOfWork, before: Item, change: Change, settings: TeamSettings, *, decision_id: int | None = None
) -> Item:
    """Write the item's new row, then the actions in their order."""
    after = await save(uow, before, change.item)
    for action in change.actions:
        match action:
            case machine.LeaveLanes():
                await uow.execute(delete(queue_entry).where(queue_entry.c.item_id == after.id))
            case machine.EnterLanes(step=step):
                await _enter(uow, after, step)
            case machine.OpenOffer():
                await _open_offer(uow, after, action, decision_id)
            case machine.EndOffer():
                await _end_offer(uow, after, action)
            case machine.Release(held=held):
                await capacity.release(uow, held.agent_id, held.channel, held.weight)
            case machine.StartAssignment():
                await _start_assignment(uow, after, action, decision_id)
                await _count_lead(uow, after, action, settings)
            case machine.EndAssignment(held=held, cause=cause):
                await _end_assignment(uow, after, held, cause)
            case machine.Missed(agent_id=agent_id):
                await presence_rows.missed(uow, agent_id, settings)
            case machine.Served(agent_id=agent_id):
                await uow.execute(
                    update(agent_state)
                    .where(agent_state.c.agent_id == agent_id)
                    .values(idle_since=uow.now, missed_offers=0)
                )
            case machine.WrapUp(agent_id=agent_id, until=until):
                await uow.execute(
                    update(agent_state).where(agent_state.c.agent_id == agent_id).values(wrapup_until=until)
                )
            case machine.Disown(agent_id=agent_id, cause=cause):
                await disown(uow, after, agent_id, cause)
    return after


async def save(uow: UnitOfWork, before: Item, after: Item) -> Item:
    """Write what differs, guarded by the version."""
    values = after.changes_since(before)
    if not values:
        return after
    row = await uow.row(
        update(work_item)
        .where(work_item.c.id == before.id, work_item.c.version == before.version)
        .values(**values, version=before.version + 1)
        .returning(work_item)
    )
    if row is None:
        raise RuntimeError(f"work item {before.id} was changed without its lock")
    return Item.from_row(row)


async def record(
    uow: UnitOfWork, item: Item, *, trigger: str, outcome: str, agent_id: int | None, why: Mapping[str, Any],
    rule_version: int,
) -> int:  # fmt: skip
    """Append a decision with its reason."""
    return await uow.insert(
        decision,
        {
            "item_id": item.id, "inquiry_id": item.inquiry_id, "at": uow.now, "trigger": trigger[:30],
            "outcome": outcome, "agent_id": agent_id, "why": reasons.fit(why), "rule_version": rule_version,
        },
    )  # fmt: skip


async def _enter(uow: UnitOfWork, item: Item, step: Step) -> None:
    wanted = set((await lanes.intern(uow, step.lanes)).values())
    rows = await uow.rows(select(queue_entry).where(queue_entry.c.item_id == item.id))
    there = {r["lane_id"] for r in rows if r["order_key"] == item.order_key}
    if len(there) != len(rows) or there - wanted:
        await uow.execute(delete(queue_entry).where(queue_entry.c.item_id == item.id))
        there = set()
    if missing := sorted(wanted - there):
        await uow.execute(
            insert(queue_entry),
            [{"lane_id": i, "order_key": item.order_key, "item_id": item.id} for i in missing],
        )


async def _open_offer(
    uow: UnitOfWork, item: Item, action: machine.OpenOffer, decision_id: int | None
) -> None:
    offer_id = await uow.insert(
        offer,
        {
            "item_id": item.id,
            "agent_id": action.agent_id,
            "channel": item.channel,
            "state": "open",
            "attempt": item.rounds + 1,
            "token": secrets.token_hex(16),
            "kind": action.kind,
            "weight": action.weight,
            "reason": None,
            "decision_id": decision_id,
            "created_at": uow.now,
            "expires_at": action.expires_at,
            "ended_at": None,
        },
    )
    await _tell_offer(uow, item, offer_id, action.agent_id, "offer.made")


async def _end_offer(uow: UnitOfWork, item: Item, action: machine.EndOffer) -> None:
    await uow.execute(
        update(offer)
        .where(offer.c.id == action.offer.id, offer.c.state == "open")
        .values(state=action.state, reason=action.reason, ended_at=uow.now)
    )
    await _tell_offer(uow, item, action.offer.id, action.offer.agent_id, f"offer.{action.state}")


async def _tell_offer(uow: UnitOfWork, item: Item, offer_id: int, agent_id: int, kind: str) -> None:
    shown = (await offer_view.offers_by_id(uow.conn, [offer_id]))[0]
    await uow.emit(
        DomainEvent(
            kind=kind,
            subject_kind="offer",
            subject_id=offer_id,
            inquiry_id=item.inquiry_id,
            conversation_id=item.conversation_id,
            payload={"offer": shown},
            audience=Audience(agents=(agent_id,)),
            context={"item": item},
        )
    )


async def _start_assignment(
    uow: UnitOfWork, item: Item, action: machine.StartAssignment, decision_id: int | None
) -> None:
    await uow.insert(
        assignment,
        {
            "item_id": item.id,
            "inquiry_id": item.inquiry_id,
            "agent_id": action.agent_id,
            "channel": item.channel,
            "weight": action.weight,
            "holds_slot": True,
            "forced": action.forced,
            "cause": action.cause,
            "decision_id": decision_id,
            "team_id": item.team_id,
            "started_at": uow.now,
            "ended_at": None,
            "end_cause": None,
        },
    )
    if item.inquiry_id is not None and item.source_kind == "inquiry":
        await _own(uow, item, action, decision_id)
    else:
        await _tell_work(uow, item, "item.assigned", {"agent_id": action.agent_id, "cause": action.cause})


async def _count_lead(
    uow: UnitOfWork, item: Item, action: machine.StartAssignment, settings: TeamSettings
) -> None:
    """He was given a lead, by whomever. What comes back to who had it is none."""
    if item.kind != "lead" or not settings.leads.weighted or item.team_id is None:
        return
    if action.cause != "returned":
        team = await store.team_context(uow.conn, item.team_id)
        await lead_counts.given(uow, item.team_id, settings.leads, team.tz, action.agent_id)


async def _own(uow: UnitOfWork, item: Item, action: machine.StartAssignment, decision_id: int | None) -> None:
    before = await uow.row(select(inquiry).where(inquiry.c.id == item.inquiry_id))
    if before is None:
        return
    values = {
        "assignee_id": action.agent_id,
        "team_id": before["team_id"] if before["team_id"] is not None else item.team_id,
    }
    after = {**before, **values}
    if after != dict(before):
        after |= {"version": before["version"] + 1, "updated_at": uow.now}
        changed = {k: after[k] for k in (*values, "version", "updated_at")}
        await uow.execute(update(inquiry).where(inquiry.c.id == item.inquiry_id).values(**changed))
    name = await uow.scalar(select(agent.c.name).where(agent.c.id == action.agent_id))
    await _stick(uow, item, action.agent_id)
    await uow.emit(
        DomainEvent(
            kind="inquiry.assigned", subject_kind="inquiry", subject_id=after["id"], inquiry_id=after["id"],
            conversation_id=after["conversation_id"],
            payload={
                "agent_id": action.agent_id, "agent": {"id": action.agent_id, "name": name},
                "team_id": after["team_id"], "cause": action.cause, "decision_id": decision_id,
                "previous_agent_id": before["assignee_id"], "inquiry": inquiry_brief(after),
            },
            audience=inquiry_audience(after, before["assignee_id"]),
            context={"inquiry": after, "before": dict(before), "item": item},
        )
    )  # fmt: skip


async def _stick(uow: UnitOfWork, item: Item, agent_id: int) -> None:
    if item.conversation_id is None:
        return
    # The conversation comes before the item in the lock order, so a customer who is writing this very
    # moment is not waited for; who accepts an offer has locked it already.
    free = uow.lock(
        select(conversation.c.id).where(conversation.c.id == item.conversation_id), skip_locked=True
    )
    if await uow.scalar(free) is not None:
        await uow.execute(
            update(conversation)
            .where(conversation.c.id == item.conversation_id)
            .values(sticky_agent_id=agent_id, sticky_until=uow.now + STICKY_MS)
        )


async def _end_assignment(uow: UnitOfWork, item: Item, held: Holding, cause: str) -> None:
    row = await uow.row(
        update(assignment)
        .where(assignment.c.id == held.id)
        .values(ended_at=uow.now, end_cause=cause[:30])
        .returning(assignment.c.started_at)
    )
    if row is not None and item.state == ItemState.DONE and cause != "merged":
        await handle_time.note(uow, item.team_id, item.channel, uow.now - row["started_at"])
    if item.source_kind != "inquiry":
        await _tell_work(uow, item, "item.unassigned", {"agent_id": held.agent_id, "cause": cause})


async def disown(uow: UnitOfWork, item: Item, agent_id: int, cause: str) -> None:
    if item.inquiry_id is None or item.source_kind != "inquiry":
        return
    before = await uow.row(select(inquiry).where(inquiry.c.id == item.inquiry_id))
    if before is None or before["assignee_id"] != agent_id:
        return
    after = {**before, "assignee_id": None, "version": before["version"] + 1, "updated_at": uow.now}
    await uow.execute(
        update(inquiry)
        .where(inquiry.c.id == item.inquiry_id)
        .values(assignee_id=None, version=after["version"], updated_at=uow.now)
    )
    await uow.emit(
        DomainEvent(
            kind="inquiry.unassigned", subject_kind="inquiry", subject_id=after["id"], inquiry_id=after["id"],
            conversation_id=after["conversation_id"],
            payload={"agent_id": agent_id, "cause": cause, "inquiry": inquiry_brief(after)},
            audience=inquiry_audience(after, agent_id),
            context={"inquiry": after, "before": dict(before), "item": item},
        )
    )  # fmt: skip


async def _tell_work(uow: UnitOfWork, item: Item, kind: str, payload: Mapping[str, Any]) -> None:
    """For calls and callbacks, whose own services listen."""
    who = payload.get("agent_id")
    await uow.emit(
        DomainEvent(
            kind=kind, subject_kind=item.source_kind, subject_id=item.source_id, inquiry_id=item.inquiry_id,
            conversation_id=item.conversation_id, payload={**payload, "item_id": item.id},
            audience=Audience(agents=(who,) if isinstance(who, int) else ()), context={"item": item},
        )
    )  # fmt: skip


async def set_weight(
    uow: UnitOfWork, held: Sequence[Holding], *, holds_slot: bool, settings: TeamSettings
) -> bool:
    """Let a live assignment weigh nothing while it waits for the customer, or weigh again, even over the
    limit.

    Returns whether anything changed.
    """
    for h in held:
        if not h.assignment or h.holds_slot == holds_slot:
            continue
        if holds_slot:
            weight = settings.channel(h.channel).weight
            await capacity.hold_forced(uow, h.agent_id, Channel(h.channel), weight)
        else:
            weight = 0
            await capacity.release(uow, h.agent_id, h.channel, h.weight)
        await uow.execute(
            update(assignment).where(assignment.c.id == h.id).values(holds_slot=holds_slot, weight=weight)
        )
        return True
    return False
