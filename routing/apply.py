"""Carries out what `routing.machine` decided, in the caller's transaction: rows, capacity, decision, events.

The caller has locked the item (and its inquiry where that will change). Agents are locked here, after the
item.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update

from crm_core.access import inquiry_audience
from crm_core.clock import HOUR
from crm_core.db.prepared import Prepared
from crm_core.db.together import Batch, Made
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
    #: whether the item may stand in lanes; one that this transaction made does not
    in_lanes: bool = True
    names: Mapping[int, str] = field(default_factory=dict)


_NOTHING = Known()


async def feed(
    uow: UnitOfWork, item: Item, event: Event, settings: TeamSettings, *, decision_id: int | Made | None = None,
    known: Known = _NOTHING, batch: Batch | None = None,
) -> Item:  # fmt: skip
    """Let the machine react to an event and carry out what it says. Returns the item as stored now.

    `batch`: what the caller has to write with it; it is run here, and `decision_id` may be of it.
    """
    change = machine.react(item, event, settings, uow.now)
    return await carry_out(uow, item, change, settings, decision_id=decision_id, known=known, batch=batch)


async def carry_out(
    uow: UnitOfWork, before: Item, change: Change, settings: TeamSettings, *,
    decision_id: int | Made | None = None, known: Known = _NOTHING, batch: Batch | None = None,
) -> Item:  # fmt: skip
    """Write the item's new row and the rows of all actions together, then tell of them, in the actions' order."""
    doing = _Doing(uow, Batch() if batch is None else batch, decision_id)
    after = save_with(doing.batch, before, change.item)
    left = not known.in_lanes
    for action in change.actions:
        match action:
            case machine.LeaveLanes():
                if not left:
                    doing.batch.add(_LEAVE, {"item": after.id})
                left = True
            case machine.EnterLanes(step=step):
                await _enter(doing, after, step, left=left)
            case machine.OpenOffer():
                _open_offer(doing, after, action)
            case machine.EndOffer():
                _end_offer(doing, after, action)
            case machine.Release(held=held):
                await capacity.release(uow, held.agent_id, held.channel, held.weight, doing.batch)
            case machine.StartAssignment():
                await _start_assignment(doing, after, action, known)
                _count_lead(doing, after, action, settings)
            case machine.EndAssignment(held=held, cause=cause):
                await _end_assignment(doing, after, held, cause)
            case machine.Missed(agent_id=agent_id):
                doing.then(partial(presence_rows.missed, uow, agent_id, settings))
            case machine.Served(agent_id=agent_id):
                capacity.served(uow, agent_id, doing.batch)
            case machine.WrapUp(agent_id=agent_id, until=until):
                doing.batch.add(_WRAP_UP, {"agent": agent_id, "until": until})
            case machine.Disown(agent_id=agent_id, cause=cause):
                await _disown(doing, after, agent_id, cause)
    await doing.finish()
    return after


class _Doing:
    """One change being carried out: what is to be written, and what is to be told when it is."""

    def __init__(self, uow: UnitOfWork, batch: Batch, decision_id: int | Made | None) -> None:
        self.uow, self.batch, self.decision_id = uow, batch, decision_id
        self._then: list[Callable[[], Awaitable[None]]] = []

    def then(self, tell: Callable[[], Awaitable[None]]) -> None:
        self._then.append(tell)

    def value(self, made: int | Made | None) -> int | None:
        """An id as it is once all is written."""
        return int(self.batch.value(made)) if isinstance(made, Made) else made

    async def finish(self) -> None:
        await self.batch.run(self.uow.conn)
        for tell in self._then:
            await tell()


async def save(uow: UnitOfWork, before: Item, after: Item) -> Item:
    """Write what differs, guarded by the version."""
    batch = Batch()
    after = save_with(batch, before, after)
    await batch.run(uow.conn)
    return after


def save_with(batch: Batch, before: Item, after: Item) -> Item:
    """As `save`, when the batch is run."""
    values = after.changes_since(before)
    if not values:
        return after
    here = {"id_": before.id, "version_": before.version}
    lost = f"work item {before.id} was changed without its lock"
    batch.add(_save(tuple(values)), {**values, **here}, must=lost)
    return evolve(after, version=before.version + 1)


async def record(
    uow: UnitOfWork, item: Item, *, trigger: str, outcome: str, agent_id: int | None, why: Mapping[str, Any],
    rule_version: int, given: Mapping[str, Any] | None = None,
) -> int:  # fmt: skip
    """Append a decision with its reason. `given`: what it was made from, for making it again."""
    batch = Batch()
    made = record_with(
        uow, batch, item, trigger=trigger, outcome=outcome, agent_id=agent_id, why=why,
        rule_version=rule_version, given=given,
    )  # fmt: skip
    await batch.run(uow.conn)
    return int(batch.value(made))


def record_with(
    uow: UnitOfWork, batch: Batch, item: Item, *, trigger: str, outcome: str, agent_id: int | None,
    why: Mapping[str, Any], rule_version: int, given: Mapping[str, Any] | None = None,
) -> Made:  # fmt: skip
    """As `record`, when the batch is run."""
    return batch.insert(
        decision,
        {
            "item_id": item.id, "inquiry_id": item.inquiry_id, "at": uow.now, "trigger": trigger[:30],
            "outcome": outcome, "agent_id": agent_id, "why": reasons.fit(why), "rule_version": rule_version,
            "input": given,
        },
    )  # fmt: skip


async def _enter(doing: _Doing, item: Item, step: Step, *, left: bool) -> None:
    """`left`: the item is in no lane any more."""
    wanted = set((await lanes.intern(doing.uow, step.lanes)).values())
    rows = [] if left else await doing.uow.rows(_ENTRIES, {"item": item.id})
    there = {r["lane_id"] for r in rows if r["order_key"] == item.order_key}
    if len(there) != len(rows) or there - wanted:
        doing.batch.add(_LEAVE, {"item": item.id})
        there = set()
    for lane_id in sorted(wanted - there):
        doing.batch.add(_ENTER, {"lane_id": lane_id, "order_key": item.order_key, "item_id": item.id})


def _open_offer(doing: _Doing, item: Item, action: machine.OpenOffer) -> None:
    made = doing.batch.insert(
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
            "decision_id": doing.decision_id,
            "created_at": doing.uow.now,
            "expires_at": action.expires_at,
            "ended_at": None,
        },
    )
    doing.then(partial(_tell_offer, doing, item, made, action.agent_id, "offer.made"))


def _end_offer(doing: _Doing, item: Item, action: machine.EndOffer) -> None:
    ended = {"id_": action.offer.id, "state_": action.state, "reason": action.reason, "now": doing.uow.now}
    doing.batch.add(_END_OFFER, ended)
    doing.then(
        partial(_tell_offer, doing, item, action.offer.id, action.offer.agent_id, f"offer.{action.state}")
    )


async def _tell_offer(doing: _Doing, item: Item, made: int | Made, agent_id: int, kind: str) -> None:
    uow = doing.uow
    shown = (await offer_view.offers_by_id(uow.conn, [doing.value(made) or 0]))[0]
    await uow.emit(
        DomainEvent(
            kind=kind,
            subject_kind="offer",
            subject_id=shown["id"],
            inquiry_id=item.inquiry_id,
            conversation_id=item.conversation_id,
            payload={"offer": shown},
            audience=Audience(agents=(agent_id,)),
            context={"item": item},
        )
    )


async def _start_assignment(doing: _Doing, item: Item, action: machine.StartAssignment, known: Known) -> None:
    doing.batch.insert(
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
            "decision_id": doing.decision_id,
            "team_id": item.team_id,
            "started_at": doing.uow.now,
            "ended_at": None,
            "end_cause": None,
        },
    )
    if item.inquiry_id is not None and item.source_kind == "inquiry":
        await _own(doing, item, action, known)
    else:
        told = {"agent_id": action.agent_id, "cause": action.cause}
        doing.then(partial(_tell_work, doing.uow, item, "item.assigned", told))


def _count_lead(doing: _Doing, item: Item, action: machine.StartAssignment, settings: TeamSettings) -> None:
    """He was given a lead, by whomever. What comes back to who had it is none."""
    if action.cause == "returned" or item.kind != "lead" or item.team_id is None:
        return
    if settings.leads.weighted:
        doing.then(partial(_lead_given, doing.uow, item.team_id, settings, action.agent_id))


async def _lead_given(uow: UnitOfWork, team_id: int, settings: TeamSettings, agent_id: int) -> None:
    team = await store.team_context(uow.conn, team_id)
    await lead_counts.given(uow, team_id, settings.leads, team.tz, agent_id)


async def _own(doing: _Doing, item: Item, action: machine.StartAssignment, known: Known) -> None:
    uow = doing.uow
    before = known.inquiry or await uow.row(_INQUIRY, {"id_": item.inquiry_id})
    if before is None:
        return
    team_id = before["team_id"] if before["team_id"] is not None else item.team_id
    after = {**before, "assignee_id": action.agent_id, "team_id": team_id}
    if after != dict(before):
        after |= {"version": before["version"] + 1, "updated_at": uow.now}
        doing.batch.add(
            _OWN,
            {"id_": item.inquiry_id, "assignee": action.agent_id, "team": team_id, "now": uow.now,
             "version": after["version"]},
        )  # fmt: skip
    name = known.names.get(action.agent_id) or await uow.scalar(_NAME, {"agent": action.agent_id})
    if item.conversation_id is not None:
        # The conversation comes before the item in the lock order, so a customer who is writing this very
        # moment is not waited for; who accepts an offer has locked it already.
        until = uow.now + STICKY_MS
        here = {"id_": item.conversation_id, "agent": action.agent_id, "until": until}
        doing.batch.add(_STICK, here)

    async def tell() -> None:
        decision_id = doing.value(doing.decision_id)
        await uow.emit(
            DomainEvent(
                kind="inquiry.assigned", subject_kind="inquiry", subject_id=after["id"],
                inquiry_id=after["id"], conversation_id=after["conversation_id"],
                payload={
                    "agent_id": action.agent_id, "agent": {"id": action.agent_id, "name": name},
                    "team_id": after["team_id"], "cause": action.cause, "decision_id": decision_id,
                    "previous_agent_id": before["assignee_id"], "inquiry": inquiry_brief(after),
                },
                audience=inquiry_audience(after, before["assignee_id"]),
                context={"inquiry": after, "before": dict(before), "item": item},
            )
        )  # fmt: skip

    doing.then(tell)


async def _end_assignment(doing: _Doing, item: Item, held: Holding, cause: str) -> None:
    uow = doing.uow
    doing.batch.add(_END_ASSIGNMENT, {"id_": held.id, "now": uow.now, "cause": cause[:30]})
    if item.state == ItemState.DONE and cause != "merged" and held.started_at is not None:
        await handle_time.note(uow, doing.batch, item.team_id, item.channel, uow.now - held.started_at)
    if item.source_kind != "inquiry":
        told = {"agent_id": held.agent_id, "cause": cause}
        doing.then(partial(_tell_work, uow, item, "item.unassigned", told))


async def disown(uow: UnitOfWork, item: Item, agent_id: int, cause: str) -> None:
    """Nobody has the item's inquiry any more, if he had it. The inquiry is locked."""
    doing = _Doing(uow, Batch(), None)
    await _disown(doing, item, agent_id, cause)
    await doing.finish()


async def _disown(doing: _Doing, item: Item, agent_id: int, cause: str) -> None:
    if item.inquiry_id is None or item.source_kind != "inquiry":
        return
    uow = doing.uow
    before = await uow.row(_INQUIRY, {"id_": item.inquiry_id})
    if before is None or before["assignee_id"] != agent_id:
        return
    after = {**before, "assignee_id": None, "version": before["version"] + 1, "updated_at": uow.now}
    doing.batch.add(
        _OWN,
        {"id_": item.inquiry_id, "assignee": None, "team": before["team_id"], "now": uow.now,
         "version": after["version"]},
    )  # fmt: skip
    unassigned = DomainEvent(
        kind="inquiry.unassigned", subject_kind="inquiry", subject_id=after["id"], inquiry_id=after["id"],
        conversation_id=after["conversation_id"],
        payload={"agent_id": agent_id, "cause": cause, "inquiry": inquiry_brief(after)},
        audience=inquiry_audience(after, agent_id),
        context={"inquiry": after, "before": dict(before), "item": item},
    )  # fmt: skip
    doing.then(partial(uow.emit, unassigned))


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
        await uow.update(assignment, h.id, values)
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
)
_WRAP_UP = Prepared(
    update(agent_state)
    .where(agent_state.c.agent_id == bindparam("agent"))
    .values(wrapup_until=bindparam("until"))
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
