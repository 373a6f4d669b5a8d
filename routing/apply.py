"""Carries out what `routing.machine` decided, in the caller's transaction: rows, capacity, decision, events.

The caller has locked the item (and its inquiry where that will change). Agents are locked here, after the
item.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update

from crm_core.access import inquiry_audience
from crm_core.clock import HOUR
from crm_core.db.prepared import Prepared
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
from routing.model import Channel, Item, ItemState, RowLike, evolve
from routing.schema import agent_state, assignment, decision, offer, queue_entry, work_item
from routing.settings import TeamSettings
from routing.steps import Step

#: for so long the agent who served a conversation is asked first when it goes on
STICKY_MS = 72 * HOUR


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the caller has read already and nobody can have changed since: the item's inquiry, locked by this
    transaction, and names of agents.
    """

    inquiry: RowLike | None = None
    names: Mapping[int, str] = field(default_factory=dict)


_NOTHING = Known()


async def feed(
    uow: UnitOfWork, item: Item, event: Event, settings: TeamSettings, *, decision_id: int | None = None,
    known: Known = _NOTHING,
) -> Item:  # fmt: skip
    """Let the machine react to an event and carry out what it says. Returns the item as stored now."""
    change = machine.react(item, event, settings, uow.now)
    return await carry_out(uow, item, change, settings, decision_id=decision_id, known=known)


async def carry_out(
    uow: UnitOfWork, before: Item, change: Change, settings: TeamSettings, *, decision_id: int | None = None,
    known: Known = _NOTHING,
) -> Item:  # fmt: skip
    """Write the item's new row, then the actions in their order."""
    after = await save(uow, before, change.item)
    left = False
    for action in change.actions:
        match action:
            case machine.LeaveLanes():
                await uow.execute(_LEAVE, {"item": after.id})
                left = True
            case machine.EnterLanes(step=step):
                await _enter(uow, after, step, left=left)
            case machine.OpenOffer():
                await _open_offer(uow, after, action, decision_id)
            case machine.EndOffer():
                await _end_offer(uow, after, action)
            case machine.Release(held=held):
                await capacity.release(uow, held.agent_id, held.channel, held.weight)
            case machine.StartAssignment():
                await _start_assignment(uow, after, action, decision_id, known)
                await _count_lead(uow, after, action, settings)
            case machine.EndAssignment(held=held, cause=cause):
                await _end_assignment(uow, after, held, cause)
            case machine.Missed(agent_id=agent_id):
                await presence_rows.missed(uow, agent_id, settings)
            case machine.Served(agent_id=agent_id):
                await capacity.served(uow, agent_id)
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
    here = {"id_": before.id, "version_": before.version}
    if (await uow.execute(_save(tuple(values)), {**values, **here})).rowcount != 1:
        raise RuntimeError(f"work item {before.id} was changed without its lock")
    return evolve(after, version=before.version + 1)


async def record(
    uow: UnitOfWork, item: Item, *, trigger: str, outcome: str, agent_id: int | None, why: Mapping[str, Any],
    rule_version: int, given: Mapping[str, Any] | None = None,
) -> int:  # fmt: skip
    """Append a decision with its reason. `given`: what it was made from, for making it again."""
    return await uow.insert(
        decision,
        {
            "item_id": item.id, "inquiry_id": item.inquiry_id, "at": uow.now, "trigger": trigger[:30],
            "outcome": outcome, "agent_id": agent_id, "why": reasons.fit(why), "rule_version": rule_version,
            "input": given,
        },
    )  # fmt: skip


async def _enter(uow: UnitOfWork, item: Item, step: Step, *, left: bool) -> None:
    """`left`: the item has just left all its lanes."""
    wanted = set((await lanes.intern(uow, step.lanes)).values())
    rows = [] if left else await uow.rows(_ENTRIES, {"item": item.id})
    there = {r["lane_id"] for r in rows if r["order_key"] == item.order_key}
    if len(there) != len(rows) or there - wanted:
        await uow.execute(_LEAVE, {"item": item.id})
        there = set()
    if missing := sorted(wanted - there):
        await uow.execute_many(
            _ENTER, [{"lane_id": i, "order_key": item.order_key, "item_id": item.id} for i in missing]
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
    ended = {"id_": action.offer.id, "state_": action.state, "reason": action.reason, "now": uow.now}
    await uow.execute(_END_OFFER, ended)
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
    uow: UnitOfWork, item: Item, action: machine.StartAssignment, decision_id: int | None, known: Known
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
        await _own(uow, item, action, decision_id, known)
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


async def _own(
    uow: UnitOfWork, item: Item, action: machine.StartAssignment, decision_id: int | None, known: Known
) -> None:
    before = known.inquiry or await uow.row(_INQUIRY, {"id_": item.inquiry_id})
    if before is None:
        return
    team_id = before["team_id"] if before["team_id"] is not None else item.team_id
    after = {**before, "assignee_id": action.agent_id, "team_id": team_id}
    if after != dict(before):
        after |= {"version": before["version"] + 1, "updated_at": uow.now}
        await uow.execute(
            _OWN,
            {"id_": item.inquiry_id, "assignee": action.agent_id, "team": team_id, "now": uow.now,
             "version": after["version"]},
        )  # fmt: skip
    name = known.names.get(action.agent_id) or await uow.scalar(_NAME, {"agent": action.agent_id})
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
    until = uow.now + STICKY_MS
    await uow.execute(_STICK, {"id_": item.conversation_id, "agent": agent_id, "until": until})


async def _end_assignment(uow: UnitOfWork, item: Item, held: Holding, cause: str) -> None:
    started = await uow.scalar(_END_ASSIGNMENT, {"id_": held.id, "now": uow.now, "cause": cause[:30]})
    if started is not None and item.state == ItemState.DONE and cause != "merged":
        await handle_time.note(uow, item.team_id, item.channel, uow.now - started)
    if item.source_kind != "inquiry":
        await _tell_work(uow, item, "item.unassigned", {"agent_id": held.agent_id, "cause": cause})


async def disown(uow: UnitOfWork, item: Item, agent_id: int, cause: str) -> None:
    if item.inquiry_id is None or item.source_kind != "inquiry":
        return
    before = await uow.row(_INQUIRY, {"id_": item.inquiry_id})
    if before is None or before["assignee_id"] != agent_id:
        return
    after = {**before, "assignee_id": None, "version": before["version"] + 1, "updated_at": uow.now}
    await uow.execute(
        _OWN,
        {"id_": item.inquiry_id, "assignee": None, "team": before["team_id"], "now": uow.now,
         "version": after["version"]},
    )  # fmt: skip
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
    """Let a live assignment weigh nothing while it waits for the customer, or weigh again, even over the limit:
    then it counts as forced from there on.

    Returns whether anything changed.
    """
    for h in held:
        if not h.assignment or h.holds_slot == holds_slot:
            continue
        values: dict[str, Any] = {"holds_slot": holds_slot, "weight": 0}
        if holds_slot:
            values["weight"] = settings.channel(h.channel).weight
            await capacity.hold_forced(uow, h.agent_id, Channel(h.channel), values["weight"])
            if await capacity.over_limit(uow, h.agent_id, h.channel):
                values["forced"] = True
        else:
            await capacity.release(uow, h.agent_id, h.channel, h.weight)
        await uow.execute(update(assignment).where(assignment.c.id == h.id).values(**values))
        return True
    return False


# --- statements
# ----------------------------------------------------------------------------------------------------
@lru_cache(maxsize=256)
def _save(columns: tuple[str, ...]) -> Prepared:
    values: dict[str, Any] = {name: bindparam(name, type_=work_item.c[name].type) for name in columns}
    values["version"] = bindparam("version_") + 1
    return Prepared(
        update(work_item)
        .where(work_item.c.id == bindparam("id_"), work_item.c.version == bindparam("version_"))
        .values(**values)
    )


_LEAVE = Prepared(delete(queue_entry).where(queue_entry.c.item_id == bindparam("item")))
_ENTER = Prepared(insert(queue_entry).inline(), columns=("lane_id", "order_key", "item_id"))
_ENTRIES = Prepared(
    select(queue_entry.c.lane_id, queue_entry.c.order_key).where(queue_entry.c.item_id == bindparam("item"))
)
_END_OFFER = Prepared(
    update(offer)
    .where(offer.c.id == bindparam("id_"), offer.c.state == "open")
    .values(state=bindparam("state_"), reason=bindparam("reason"), ended_at=bindparam("now"))
)
_END_ASSIGNMENT = Prepared(
    update(assignment)
    .where(assignment.c.id == bindparam("id_"))
    .values(ended_at=bindparam("now"), end_cause=bindparam("cause"))
    .returning(assignment.c.started_at)
)
_INQUIRY = Prepared(select(inquiry).where(inquiry.c.id == bindparam("id_")))
_OWN = Prepared(
    update(inquiry)
    .where(inquiry.c.id == bindparam("id_"))
    .values(
        assignee_id=bindparam("assignee"), team_id=bindparam("team"), version=bindparam("version"),
        updated_at=bindparam("now"),
    )
)  # fmt: skip
_NAME = Prepared(select(agent.c.name).where(agent.c.id == bindparam("agent")))
_free = (
    select(conversation.c.id)
    .where(conversation.c.id == bindparam("id_"))
    .with_for_update(skip_locked=True)
    .scalar_subquery()
)
_STICK = Prepared(
    update(conversation)
    .where(conversation.c.id == _free)
    .values(sticky_agent_id=bindparam("agent"), sticky_until=bindparam("until"))
)
