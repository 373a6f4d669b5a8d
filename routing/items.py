"""Work items from inquiries, calls and callbacks: entering the queue, changing there, leaving it.

Every function runs in the caller's transaction and is idempotent: a source has at most one live item.
"""

from dataclasses import replace

from sqlalchemy import bindparam, or_, select, update

from crm_core.clock import DAY, MINUTE
from crm_core.db.prepared import Prepared
from crm_core.db.together import Batch
from crm_core.db.uow import UnitOfWork
from crm_core.errors import NotFound
from crm_core.schema import agent, contact, inquiry, team_member
from routing import apply, capacity, decide, demands, machine, match, reasons, rebalance, steps, store
from routing.model import QUEUED, Channel, Item, ItemState, RowLike
from routing.order import order_key
from routing.schema import queue_entry, work_item
from routing.store import TeamContext

#: how late after the promised time a callback may be dialled and still be kept
CALLBACK_TOLERANCE_MS = 5 * MINUTE
_CHANNELS = {"telegram": Channel.CHAT, "webchat": Channel.CHAT, "chat": Channel.CHAT}
_OPEN = ("new", "open")


async def enqueue_inquiry(
    uow: UnitOfWork, inquiry: RowLike, *, trigger: str = "opened", sticky_agent_id: int | None = None
) -> Item:
    """Make a stored inquiry a work item and give it to somebody at once if there is somebody.

    An inquiry with a live item keeps it. `sticky_agent_id`: who is asked first, else whom its conversation names.

    Returns:
        The item as it is then: offered, assigned, waiting or parked.
    """
    item, team_, made = await _make_for_inquiry(uow, inquiry, sticky_agent_id=sticky_agent_id)
    return await match.route_item(uow, item, trigger, team=team_, fresh=True) if made else item


async def adopt_inquiry(
    uow: UnitOfWork, inquiry: RowLike, agent_id: int, *, cause: str, by: str, note: str | None = None
) -> Item:
    """Make an inquiry a work item that belongs to an agent already: he took it, or opened it for himself."""
    item, team_, made = await _make_for_inquiry(uow, inquiry, sticky_agent_id=None)
    if not made and item.state not in (ItemState.WAITING, ItemState.PARKED):
        return item
    return await _adopt(uow, item, team_, agent_id, cause=cause, by=by, note=note)


async def enqueue_callback(uow: UnitOfWork, callback: RowLike, contact: RowLike | None = None) -> Item:
    """A callback is due: its owner is asked first, then the team. Key: the promised time and a tolerance."""
    latest = await store.lock_latest(uow, "callback", callback["id"])
    if latest is not None and latest.live:
        return latest
    contact = contact or await _contact(uow, callback["contact_id"])
    request = await _inquiry(uow, callback["inquiry_id"])
    team_id = (
        callback["team_id"] or (request["team_id"] if request else None) or await demands.default_team(uow)
    )
    team_ = await store.team_context(uow.conn, team_id)
    language = request["language"] if request else str((contact or {}).get("locale") or "")[:2]
    wanted = await demands.requirements(uow, team_id, language, request["requirements"] if request else {})
    item, made = await _insert(
        uow, team_, latest,
        Item(
            id=0, source_kind="callback", source_id=callback["id"], inquiry_id=callback["inquiry_id"],
            conversation_id=callback["conversation_id"], contact_id=callback["contact_id"], team_id=team_id,
            channel=Channel.CALLBACK, kind="callback", requirements=wanted,
            priority=request["priority"] if request else "normal", vip=bool(contact and contact["vip"]),
            due_at=callback["due_at"] + CALLBACK_TOLERANCE_MS,
            manager_id=callback["owner_id"] or (contact["manager_id"] if contact else None),
            sticky_agent_id=callback.get("deputy_id"),  # who stands in for the owner
        ),
    )  # fmt: skip
    return await match.route_item(uow, item, "callback_due", team=team_, fresh=True) if made else item


async def enqueue_place(
    uow: UnitOfWork, callback: RowLike, contact: RowLike | None = None, *, head: bool = False
) -> Item:
    """A place in the queue of live calls, kept for somebody who hung up: it has the instant at which he began to wait
    and his priority, so no call that came later is before it. `head`: he is on the line already and is next.
    """
    latest = await store.lock_latest(uow, "callback", callback["id"])
    if latest is not None and latest.live:
        return latest
    contact = contact or await _contact(uow, callback["contact_id"])
    team_id = callback["team_id"] or await demands.default_team(uow)
    team_ = await store.team_context(uow.conn, team_id)
    language = str((contact or {}).get("locale") or "")[:2]
    began = callback["enqueued_at"] if callback["enqueued_at"] is not None else uow.now
    item, made = await _insert(
        uow, team_, latest,
        Item(
            id=0, source_kind="callback", source_id=callback["id"], inquiry_id=callback["inquiry_id"],
            conversation_id=callback["conversation_id"], contact_id=callback["contact_id"], team_id=team_id,
            channel=Channel.VOICE, kind="callback",
            requirements=await demands.requirements(uow, team_id, language, {}),
            priority=callback["priority"] or "normal", vip=bool(contact and contact["vip"]),
            due_at=uow.now - DAY if head else None, manager_id=None if head else callback["owner_id"],
        ),
        ready_at=began,
    )  # fmt: skip
    return await match.route_item(uow, item, "callback_due", team=team_, fresh=True) if made else item


async def enqueue_call(
    uow: UnitOfWork,
    call: RowLike,
    team_id: int | None,
    *,
    ready_at: int | None = None,
    priority: str = "normal",
) -> Item:
    """A caller waits in our queue. `ready_at`: since when, if he had a place already."""
    latest = await store.lock_latest(uow, "call", call["id"])
    if latest is not None and latest.live:
        return latest
    person = await _contact(uow, call["contact_id"])
    team_id = team_id or await demands.default_team(uow)
    team_ = await store.team_context(uow.conn, team_id)
    language = str((person or {}).get("locale") or "")[:2]
    item, made = await _insert(
        uow, team_, latest,
        Item(
            id=0, source_kind="call", source_id=call["id"], inquiry_id=call["inquiry_id"],
            conversation_id=call["conversation_id"], contact_id=call["contact_id"], team_id=team_id,
            channel=Channel.VOICE, kind="call", requirements=await demands.requirements(uow, team_id, language, {}),
            priority=priority, vip=bool(person and person["vip"]),
            manager_id=person["manager_id"] if person else None,
        ),
        ready_at=ready_at,
    )  # fmt: skip
    return await match.route_item(uow, item, "call_waits", team=team_, fresh=True) if made else item


async def adopt_call(uow: UnitOfWork, call: RowLike, agent_id: int) -> Item:
    """An agent answered a call: it takes his place for calls until it ends, so that nobody offers him
    another. If it waited in our queue, or rang at others, these lose it now.
    """
    latest = await store.lock_latest(uow, "call", call["id"])
    found = latest if latest is not None and latest.live else None
    if found is not None and (found.owner_id == agent_id or found.state == ItemState.WRAPUP):
        return found
    if found is not None and found.owner_id is None:
        return await hand_to(uow, found, agent_id, cause="answered", by="system")
    if found is not None:
        await finish(uow, "call", call["id"], "transferred")
    team_id = await uow.scalar(
        select(team_member.c.team_id)
        .where(team_member.c.agent_id == agent_id)
        .order_by(team_member.c.team_id)
    )
    team_ = await store.team_context(uow.conn, team_id)
    item, made = await _insert(
        uow, team_, latest,
        Item(
            id=0, source_kind="call", source_id=call["id"], inquiry_id=call["inquiry_id"],
            conversation_id=call["conversation_id"], contact_id=call["contact_id"], team_id=team_id,
            channel=Channel.VOICE, kind="call",
        ),
    )  # fmt: skip
    if not made:
        return item
    own = call.get("direction") == "outbound" and not team_.settings.outbound_moves_idle
    return await _adopt(uow, item, team_, agent_id, cause="answered", by="system", moves_idle=not own)


async def hand_to(
    uow: UnitOfWork, item: Item, agent_id: int, *, cause: str, by: str, note: str | None = None
) -> Item:
    """The item is his from now on, whoever it was offered to or had it: a person or the facts decided so. The
    item is locked, and its inquiry.
    """
    team_ = await store.team_context(uow.conn, item.team_id)
    held = await store.holdings(uow, item)
    await capacity.ensure(uow, agent_id)
    await capacity.lock(uow, [agent_id, *(h.agent_id for h in held)])
    if item.state in (ItemState.OFFERED, ItemState.ASSIGNED):
        taken = machine.Requeued(held=held, cause="taken" if cause == "take" else cause)
        # Without Disown: the inquiry goes from hand to hand, it is never nobody's.
        change = machine.react(item, taken, team_.settings, uow.now)
        kept = tuple(a for a in change.actions if not isinstance(a, machine.Disown))
        item = await apply.carry_out(uow, item, machine.Change(change.item, kept), team_.settings)
    after = await _adopt(uow, item, team_, agent_id, cause=cause, by=by, note=note)
    for loser in sorted({h.agent_id for h in held} - {agent_id}):
        await match.pull(uow, loser)
    return after


async def _adopt(
    uow: UnitOfWork,
    item: Item,
    team_: TeamContext,
    agent_id: int,
    *,
    cause: str,
    by: str,
    note: str | None = None,
    moves_idle: bool = True,
) -> Item:
    rules = team_.settings.channel(item.channel)
    await capacity.hold_forced(uow, agent_id, item.channel, rules.weight)
    decision_id = await record_people(
        uow, item, cause=cause, outcome="assigned", agent_id=agent_id, by=by, note=note
    )
    event = machine.Assigned(
        agent_id=agent_id, weight=rules.weight, cause=cause, forced=True, moves_idle=moves_idle
    )
    return await apply.feed(uow, item, event, team_.settings, decision_id=decision_id)


async def record_people(
    uow: UnitOfWork,
    item: Item,
    *,
    cause: str,
    outcome: str,
    agent_id: int | None,
    by: str,
    note: str | None = None,
    team: tuple[int, str] | None = None,
) -> int:
    """Append the decision of a person, or of the facts, that no ranking made.

    `team`: (id, name) of the one it went to.
    """
    name = ""
    if agent_id is not None:
        name = await uow.scalar(select(agent.c.name).where(agent.c.id == agent_id)) or ""
    why = reasons.of_people(item, trigger=cause, agent_id=agent_id, name=name, by=by, now=uow.now)
    if note:
        why["note"] = note[:300]
    if team is not None:
        why["team"] = {"id": team[0], "name": team[1][:120]}
    in_force = (await store.team_context(uow.conn, item.team_id)).settings.version
    return await apply.record(
        uow, item, trigger=cause, outcome=outcome, agent_id=agent_id, why=why, rule_version=in_force
    )


async def finish(uow: UnitOfWork, source_kind: str, source_id: int, cause: str) -> Item | None:
    """The source needs nobody any more: withdraw offers, free the agent, give him the next work.

    `cause`: solved, closed, merged, ended, cancelled, abandoned …

    Returns:
        The item as it ended (or rests in wrap-up), None if none was alive.
    """
    item = await store.lock_live(uow, source_kind, source_id)
    if item is None:
        return None
    team_, held = await store.holder(uow, item)
    await capacity.lock_several(uow, [h.agent_id for h in held])
    after = await apply.feed(uow, item, machine.Ended(held=held, cause=cause), team_.settings)
    if not after.live:
        for agent_id in sorted({h.agent_id for h in held}):
            await match.pull(uow, agent_id)
    return after


async def rekey(uow: UnitOfWork, inquiry_id: int) -> Item | None:
    """Something that the order depends on changed: priority, VIP, an SLA deadline. Recompute a queued item's
    key, and when its next ring opens; what somebody has whose owner is gone may have to go to others.
    """
    # Whoever has it right now is giving it to somebody, or recomputes the key when it comes back.
    row = await uow.row(_REKEYED, {"inquiry": inquiry_id})
    if row is None:
        return None
    item = Item.from_row(row)
    if item.state == ItemState.ASSIGNED:
        await rebalance.watch(uow, item)
        return item
    demand = await store.demand(uow, inquiry_id, team_id=item.team_id)
    if demand is None:
        return item
    team_ = TeamContext() if item.team_id is None else demand.team
    wanted = _as_urgent_as(item, demand, team_, await _first_team(uow, item, team_))
    on_call = decide.is_on_call(wanted, team_.settings, team_.hours(uow.now))
    if wanted.state in (ItemState.WAITING, ItemState.PARKED) and on_call != item.on_call:
        return await match.route_item(uow, await _moved(uow, item, wanted), "changed", team=team_)
    if wanted.next_step_at is not None and wanted.order_key != item.order_key:
        # Rings open by the share of the time that is left now: the sweeper looks at once.
        wanted = replace(wanted, next_step_at=min(wanted.next_step_at, uow.now))
    return await _moved(uow, item, wanted)


async def remanage(uow: UnitOfWork, inquiry_id: int) -> Item | None:
    """The contact has another manager: what is queued asks him first. A waiting item is looked at by the sweeper at
    once; it stays in the ring it is in, which the manager is a part of.
    """
    row = await uow.row(_REKEYED, {"inquiry": inquiry_id})
    item = None if row is None else Item.from_row(row)
    if item is None or item.state not in QUEUED:
        return item
    demand = await store.demand(uow, inquiry_id, team_id=item.team_id)
    if demand is None or demand.manager_id == item.manager_id:
        return item
    rules = demand.team.settings
    wanted = replace(item, manager_id=demand.manager_id)
    ring = steps.same_ring(steps.plan(item, rules), steps.plan(wanted, rules), item.step_no)
    wanted = replace(wanted, step_no=ring)
    if item.state == ItemState.WAITING:
        wanted = replace(wanted, next_step_at=uow.now)
    return await apply.save(uow, item, wanted)


async def refresh_key(uow: UnitOfWork, item: Item, team_: TeamContext) -> Item:
    """The key as of the inquiry's present priority, VIP and deadlines; the instant of readiness stays.

    By the rules of the team it came to first, wherever it is now: another team is no reason to wait anew.
    """
    if item.source_kind != "inquiry":
        return item
    demand = await store.demand(uow, item.source_id, team_id=item.team_id)
    if demand is None:
        return item
    first = await _first_team(uow, item, team_)
    return await _moved(uow, item, _as_urgent_as(item, demand, team_, first))


async def _first_team(uow: UnitOfWork, item: Item, team_: TeamContext) -> TeamContext:
    """The team it came to, by whose rules its key is made; `team_` is the one it is with."""
    if item.home_team_id is None or item.home_team_id == item.team_id:
        return team_
    return await store.team_context(uow.conn, item.home_team_id)


def _as_urgent_as(item: Item, demand: store.Demand, team_: TeamContext, first: TeamContext) -> Item:
    """`team_` asks people by its rings; the key is by the rules of the `first` one."""
    wanted = replace(item, priority=demand.priority, vip=demand.vip, due_at=demand.due_at)
    wanted = keyed(wanted, first)
    rules = team_.settings
    if steps.asks_steady(wanted, rules) != steps.asks_steady(item, rules):
        # Its plan has a ring more or less: it stays in the one where it is.
        ring = steps.same_ring(steps.plan(item, rules), steps.plan(wanted, rules), item.step_no)
        wanted = replace(wanted, step_no=ring)
    return wanted


async def _moved(uow: UnitOfWork, item: Item, wanted: Item) -> Item:
    """Stored with its key, which is the same in all its lanes."""
    if wanted == item:
        return item
    batch = Batch()
    saved = apply.save_with(batch, item, wanted)
    if saved.order_key != item.order_key:
        batch.add(_MOVE, {"item": item.id, "key_": saved.order_key})
    await batch.run(uow.conn)
    return saved


async def requeue(uow: UnitOfWork, item: Item, event: machine.Requeued, trigger: str) -> Item:
    """Back to the queue with the original key, and on to somebody at once if there is somebody. The item
    is locked.
    """
    team_ = await store.team_context(uow.conn, item.team_id)
    await capacity.lock(uow, [h.agent_id for h in event.held])
    waiting = await apply.feed(uow, item, event, team_.settings)
    if event.team_id is not None and event.team_id != item.team_id:
        team_ = await store.team_context(uow.conn, event.team_id)
        waiting = await _fit_team(uow, waiting)
    # If the policy sets another deadline for the new team, its clock has it already.
    waiting = await refresh_key(uow, waiting, team_)
    after = await match.route_item(uow, waiting, trigger, team=team_)
    for agent_id in sorted({h.agent_id for h in event.held}):
        await match.pull(uow, agent_id)
    return after


async def move_to_team(uow: UnitOfWork, item: Item, team_id: int | None) -> Item:
    """A queued item belongs to another team now; whoever it was offered to loses the offer. The item is
    locked.
    """
    held = await store.holdings(uow, item)
    return await requeue(
        uow, item, machine.Requeued(held=held, cause="team_changed", team_id=team_id), "team_changed"
    )


async def merged(uow: UnitOfWork, source_id: int, target_id: int) -> None:
    """An inquiry went up in another: nobody is offered it any more, and the other may be more urgent now."""
    await finish(uow, "inquiry", source_id, "merged")
    await rekey(uow, target_id)


async def refit(uow: UnitOfWork, inquiry_id: int) -> Item | None:
    """Language or required skills changed: a queued item goes to the lanes that fit it now."""
    item = await store.lock_live(uow, "inquiry", inquiry_id)
    if item is None or item.state not in QUEUED:
        return item
    if item.state == ItemState.OFFERED:
        # Who has the offer may take it; if he does not, it goes on by what is asked for now.
        return await _fit_team(uow, item)
    team_ = await store.team_context(uow.conn, item.team_id)
    fitted = await _fit_team(uow, item)
    return await match.route_item(uow, fitted, "changed", team=team_)


async def _fit_team(uow: UnitOfWork, item: Item) -> Item:
    row = await _inquiry(uow, item.inquiry_id)
    if row is None:
        return item
    wanted = await demands.requirements(uow, item.team_id, row["language"], row["requirements"])
    return await apply.save(uow, item, replace(item, requirements=wanted))


async def _make_for_inquiry(
    uow: UnitOfWork, row: RowLike, *, sticky_agent_id: int | None
) -> tuple[Item, TeamContext, bool]:
    latest = await store.lock_latest(uow, "inquiry", row["id"])
    if latest is not None and latest.live:
        return latest, await store.team_context(uow.conn, latest.team_id), False
    demand = await store.demand(uow, row["id"], team_id=row["team_id"], sticky=sticky_agent_id)
    if demand is None:
        raise NotFound(f"no inquiry {row['id']}", params={"inquiry_id": row["id"]})
    team_id, team_ = demand.team_id, demand.team
    if team_id is None:
        team_id = await demands.default_team(uow)
        team_ = await store.team_context(uow.conn, team_id)
    item = Item(
        id=0, source_kind="inquiry", source_id=row["id"], inquiry_id=row["id"],
        conversation_id=row["conversation_id"], contact_id=row["contact_id"], team_id=team_id,
        channel=_CHANNELS.get(row["channel"], Channel.ASYNC), kind=row["kind"],
        requirements=await demands.requirements(uow, team_id, row["language"], row["requirements"]),
        priority=row["priority"], vip=demand.vip, due_at=demand.due_at, manager_id=demand.manager_id,
        sticky_agent_id=demand.sticky_agent_id,
    )  # fmt: skip
    stored, made = await _insert(uow, team_, latest, item)
    return stored, team_, made


async def _insert(
    uow: UnitOfWork, team_: TeamContext, latest: Item | None, item: Item, *, ready_at: int | None = None
) -> tuple[Item, bool]:
    """Store a new item as the attempt after `latest`, the source's last one. A concurrent twin wins; then its item
    is returned, and False. `ready_at`: since when it waits, if that is not now.
    """
    now = uow.now
    item = replace(
        item, ready_at=now if ready_at is None else min(ready_at, now), step_entered_at=now, created_at=now,
        home_team_id=item.team_id,
        teams_seen=() if item.team_id is None else (item.team_id,), state=ItemState.WAITING,
    )  # fmt: skip
    item = replace(keyed(item, team_), attempt=1 if latest is None else latest.attempt + 1)
    made = await uow.insert_new(
        work_item, item.as_values(), key=["source_kind", "source_id", "attempt"], returning=work_item.c.id
    )
    if made is None:
        twin = await store.lock_live(uow, item.source_kind, item.source_id)
        if twin is None:
            raise RuntimeError(f"{item.source_kind} {item.source_id} was enqueued and ended by somebody else")
        return twin, False
    return replace(item, id=int(made)), True


def keyed(item: Item, team_: TeamContext) -> Item:
    """The item with the key that this team's rules give it."""
    key = order_key(
        team_.settings, channel=item.channel, kind=item.kind, priority=item.priority, vip=item.vip,
        ready_at=item.ready_at, due_at=item.due_at, calendar=team_.calendar,
    )  # fmt: skip
    return replace(item, order_key=key.key, order_parts=key.as_data())


async def _contact(uow: UnitOfWork, contact_id: int | None) -> RowLike | None:
    return None if contact_id is None else await uow.row(_CONTACT, {"id_": contact_id})


async def _inquiry(uow: UnitOfWork, inquiry_id: int | None) -> RowLike | None:
    return None if inquiry_id is None else await uow.row(_INQUIRY, {"id_": inquiry_id})


def needs_people(row: RowLike) -> bool:
    """Whether an inquiry is for people to handle now."""
    return row["status"] in _OPEN and not row["held_by_bot"] and row["merged_into_id"] is None


# --- statements
# ----------------------------------------------------------------------------------------------------
_INQUIRY = Prepared(select(inquiry).where(inquiry.c.id == bindparam("id_")))
_CONTACT = Prepared(select(contact).where(contact.c.id == bindparam("id_")))
_REKEYED = Prepared(
    select(work_item)
    .where(
        work_item.c.source_kind == "inquiry",
        work_item.c.source_id == bindparam("inquiry"),
        or_(*(work_item.c.state == state for state in (*QUEUED, ItemState.ASSIGNED))),
    )
    .with_for_update(skip_locked=True)
)
_MOVE = Prepared(
    update(queue_entry).where(queue_entry.c.item_id == bindparam("item")).values(order_key=bindparam("key_"))
)
