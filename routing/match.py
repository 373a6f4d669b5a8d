"""Bringing items and agents together: an item asks for an agent, a free agent asks for work.

Each decision is part of one transaction: the candidate is read without locks, the item is claimed (SKIP
LOCKED, state, version), capacity is taken by compare-and-set, and offer or assignment, queue entries,
decision and events are written together. Who loses a race tries the next candidate, a few times, then
leaves it to the next poll.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import perf_counter_ns
from typing import Any

from sqlalchemy import and_, bindparam, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.db.engine import Database
from crm_core.db.prepared import Prepared, any_of, fetch
from crm_core.db.uow import UnitOfWork
from crm_core.schema import inquiry, team
from routing import (
    apply,
    capacity,
    decide,
    lanes,
    lead_counts,
    machine,
    ranking,
    reasons,
    replay,
    steps,
    store,
)
from routing.eligibility import availability_failure, lane_failure
from routing.model import AgentView, Item, ItemState, Reason, RowLike
from routing.schema import agent_lane, agent_slot, agent_state, calendar, lane, queue_entry, work_item
from routing.settings import DEFAULT_CHANNELS, ChannelSettings
from routing.store import TeamContext

#: candidates tried before a decision yields to the next poll
MAX_TRIES = 5
#: items that one agent takes in one transaction
MAX_PULLS = 15
#: items that an agent chooses among, and if none of them is for him
_HEADS = 8
_DEEP_HEADS = 160
_PAGE = 200


async def route_item(uow: UnitOfWork, item: Item, trigger: str, *, team: TeamContext | None = None) -> Item:
    """Give a waiting (or parked) item to the best agent there is, or let it wait where it belongs.

    The item is locked by this transaction, or was made by it. Returns it as it is then.
    """
    began = perf_counter_ns()
    if team is None:
        team = await store.team_context(uow.conn, item.team_id)
    settings, hours = team.settings, team.hours(uow.now)
    if item.on_call != (on_call := decide.is_on_call(item, settings, hours)):
        item = await apply.save(uow, item, replace(item, on_call=on_call))
    plan = steps.plan(item, settings)
    specs = {s for step in plan for s in step.lanes}
    all_lanes = await lanes.intern(uow, specs)
    people = [a for a in (item.manager_id, item.sticky_agent_id, item.directed_agent_id) if a is not None]
    agents = await store.candidates(
        uow.conn, all_lanes, channel=item.channel, also=people, now=uow.now,
        skills={*item.requirements.required, *item.requirements.preferred}, specs=specs,
    )  # fmt: skip
    agents = await _with_leads(uow.conn, item, team, agents, uow.now)
    loads: decide.Loads | None = None
    placement = decide.place(item, settings, agents, hours, uow.now)
    if decide.asks_loads(item, placement, settings):
        others = steps.overflow_teams(item, settings)
        loads = await store.queue_loads(uow.conn, {item.team_id, *others}, item.channel, uow.now)
        placement = decide.place(item, settings, agents, hours, uow.now, loads=loads)
    ranks = list(placement.ranks)
    if tied := ranking.tied_before_scarcity(ranks):
        ranks = ranking.with_scarcity(item, ranks, await store.scarcity(uow.conn, tied), placement.step.no)
        placement = replace(placement, ranks=tuple(ranks))
    wanted = max(placement.broadcast, 1)
    tries = ranks[: wanted - 1 + MAX_TRIES]
    if wanted > 1:
        # All at once and by id: one after the other in the order of rank would have to skip those in use.
        await capacity.lock(uow, [r.agent.agent_id for r in tries])
    lane_ids = [all_lanes[s.signature] for s in placement.step.lanes]
    held: list[ranking.Rank] = []
    lost: list[tuple[int, str]] = []
    for rank in tries:
        failure = await _hold(uow, item, rank.agent, team, lane_ids, sole=wanted == 1)
        if failure is not None:
            lost.append((rank.agent.agent_id, failure.value))
            continue
        held.append(rank)
        if len(held) == wanted:
            break
    names = {a.agent_id: a.name for a in agents}
    given = replay.of_placement(
        item, placement, agents, hours, uow.now, lost=[agent_id for agent_id, _ in lost], loads=loads
    )
    if not held:
        return await _let_wait(
            uow, item, placement, trigger=trigger, lost=lost, names=names, team=team, given=given
        )
    why = reasons.of_placement(
        item, placement, trigger=trigger, winner=held[0], lost=lost, people=names,
        version=settings.version, now=uow.now,
    )  # fmt: skip
    why["took_us"] = (perf_counter_ns() - began) // 1000
    return await _give(
        uow, item, [r.agent for r in held], step=placement.step, entered_at=placement.entered_at, why=why,
        team=team, trigger=trigger, given=given, known=apply.Known(names=names),
    )  # fmt: skip


async def _with_leads(
    conn: AsyncConnection, item: Item, team: TeamContext, agents: list[AgentView], now: int
) -> list[AgentView]:
    """The agents with how they stand with their leads, if it is one and the team shares them out by weight."""
    leads = team.settings.leads
    if item.kind != "lead" or not leads.weighted or item.team_id is None or not agents:
        return agents
    ids = [a.agent_id for a in agents]
    stands = await lead_counts.stands(conn, item.team_id, leads, team.tz, ids, now)
    return [replace(a, leads={item.team_id: stands[a.agent_id]}) for a in agents]


async def _hold(
    uow: UnitOfWork,
    item: Item,
    agent: AgentView,
    team: TeamContext,
    lane_ids: Sequence[int],
    *,
    sole: bool = True,
) -> Reason | None:
    """Take a place of the agent; what can have changed since he was read is tested again under his lock. `sole`:
    nobody else is asked.
    """
    rules, leads, agent_id = team.settings.channel(item.channel), team.settings.leads, agent.agent_id
    shared_out = item.kind == "lead" and leads.weighted
    outright = sole and rules.mode == "assign" and not shared_out
    failure = await capacity.hold(
        uow, agent_id, item.channel, rules, lanes=lane_ids, idle_since=agent.idle_since if outright else None
    )
    if failure is None and shared_out and item.team_id is not None:
        stands = await lead_counts.stands(uow.conn, item.team_id, leads, team.tz, [agent_id], uow.now)
        if stands[agent_id].capped:
            await capacity.release(uow, agent_id, item.channel, rules.weight)
            return Reason.LEAD_CAP
    return failure


async def _let_wait(
    uow: UnitOfWork,
    item: Item,
    placement: decide.Placement,
    *,
    trigger: str,
    lost: Sequence[tuple[int, str]],
    names: Mapping[int, str],
    team: TeamContext,
    given: Mapping[str, Any],
) -> Item:
    event: machine.Event
    if placement.park_until is not None:
        event = machine.Parked(until=placement.park_until, reason=placement.park_reason or "")
        outcome = "parked"
    else:
        event = machine.Waits(
            step=placement.step, entered_at=placement.entered_at, next_step_at=placement.next_step_at
        )
        outcome = "waits"
    moved = (item.state, item.step_no, item.parked_reason) != (
        ItemState.PARKED if outcome == "parked" else ItemState.WAITING,
        placement.step.no,
        placement.park_reason,
    )
    if moved or trigger not in ("poll", "step", "wake", "config"):
        why = reasons.of_placement(
            item, placement, trigger=trigger, winner=None, lost=lost, people=names,
            version=team.settings.version, now=uow.now,
        )  # fmt: skip
        await apply.record(
            uow, item, trigger=trigger, outcome=outcome, agent_id=None, why=why,
            rule_version=team.settings.version, given=given,
        )  # fmt: skip
    return await apply.feed(uow, item, event, team.settings)


async def _give(
    uow: UnitOfWork,
    item: Item,
    agents: Sequence[AgentView],
    *,
    step: steps.Step,
    entered_at: int,
    why: dict[str, Any],
    team: TeamContext,
    trigger: str,
    given: Mapping[str, Any],
    known: apply.Known,
) -> Item:
    """Capacity is held of each agent: write the decision, then the assignment, the offer, or the offers to
    several.
    """
    rules = team.settings.channel(item.channel)
    event: machine.Event
    if len(agents) > 1:
        outcome, agent_id = "broadcast", None
        ids = tuple(a.agent_id for a in agents)
        why["broadcast"] = list(ids)
        event = machine.Broadcast(agents=ids, weight=rules.weight, step=step, entered_at=entered_at)
    elif rules.mode == "assign":
        outcome, agent_id = "assigned", agents[0].agent_id
        event = machine.Assigned(
            agent_id=agent_id, weight=rules.weight, cause="outright", step=step, entered_at=entered_at
        )
    else:
        outcome, agent_id = "offered", agents[0].agent_id
        event = machine.Offered(agent_id=agent_id, weight=rules.weight, step=step, entered_at=entered_at)
    decision_id = await apply.record(
        uow, item, trigger=trigger, outcome=outcome, agent_id=agent_id, why=why,
        rule_version=team.settings.version, given=given,
    )  # fmt: skip
    return await apply.feed(uow, item, event, team.settings, decision_id=decision_id, known=known)


# --- an agent asks
# ----------------------------------------------------------------------------------------------
async def pull(uow: UnitOfWork, agent_id: int, trigger: str = "agent_free", *, limit: int = MAX_PULLS) -> int:
    """Give a free agent the most urgent work of his lanes, as much as he has room for. Returns how many
    items.
    """
    taken = 0
    passed: set[int] = set()
    agent = await store.view(uow.conn, agent_id, uow.now)
    while agent is not None and taken < limit:
        # From the first item on he is locked by this transaction: what he holds is known without asking again.
        agent = await _pull_one(uow, agent, trigger, passed)
        taken += agent is not None
    return taken


async def _pull_one(uow: UnitOfWork, agent: AgentView, trigger: str, passed: set[int]) -> AgentView | None:
    """One item for him. Returns him as he is with it, None if there is nothing."""
    began, now = perf_counter_ns(), uow.now
    agent_id = agent.agent_id
    open_channels = [
        c for c, rules in DEFAULT_CHANNELS.items()
        # Weights are the team's; with the smallest possible one only the truly impossible channels fall out
        # here.
        if availability_failure(agent, c, 0, rules, now) is None
    ]  # fmt: skip
    if not open_channels:
        return None
    agent, heads, teams, rules = await _choice(uow.conn, agent, open_channels, now)
    if len(heads) >= _HEADS and decide.pick(agent, heads, rules, now, without=passed).item is None:
        # Somebody who declined all the first ones, or has no room for their channel, must still get at those behind.
        fitting = _channels_with_room(agent, open_channels, heads, rules, now)
        agent, heads, teams, rules = await _choice(uow.conn, agent, fitting, now, deep=True)
    lost: list[tuple[int, str]] = []
    for _ in range(_DEEP_HEADS):
        picked = decide.pick(agent, heads, rules, now, without=passed)
        if picked.item is None or picked.step is None or len(lost) >= MAX_TRIES:
            return None
        passed.add(picked.item.id)
        if lane_failure(agent, picked.step.lanes) is not None:
            continue  # the lane of a crowded team does not ask for his level, the item does
        team = teams[picked.item.team_id]
        item, row = await _claim(uow, picked.item)
        if item is None:
            lost.append((picked.item.id, Reason.ITEM_LOCKED.value))
            continue
        lane_ids = list((await lanes.intern(uow, picked.step.lanes)).values())
        failure = await _hold(uow, item, agent, team, lane_ids)
        if failure is not None:
            lost.append((item.id, failure.value))
            continue
        why = reasons.of_pull(
            item, agent, picked, trigger=trigger, heads=len(heads), lost=lost,
            version=team.settings.version, now=now,
        )  # fmt: skip
        given = replay.of_pull(agent, picked, heads, rules, now)
        why["took_us"] = (perf_counter_ns() - began) // 1000
        await _give(
            uow, item, [agent], step=picked.step, entered_at=item.step_entered_at, why=why, team=team,
            trigger=trigger, given=given, known=apply.Known(inquiry=row, names={agent_id: agent.name}),
        )  # fmt: skip
        return _with_one_more(agent, item.channel, team, now)
    return None


def _channels_with_room(
    agent: AgentView, channels: Sequence[str], heads: Sequence[Item], teams: Mapping[int | None, decide.TeamRules],
    now: int,
) -> list[str]:  # fmt: skip
    """Without those channels of which he could take no head for want of room: their heads hide all others."""
    full = {
        channel
        for channel in channels
        if (of_it := [h for h in heads if h.channel == channel])
        and all(_no_room(agent, h, teams[h.team_id].settings.channel(channel), now) for h in of_it)
    }
    return [c for c in channels if c not in full]


def _no_room(agent: AgentView, head: Item, rules: ChannelSettings, now: int) -> bool:
    return availability_failure(agent, head.channel, rules.weight, rules, now) is not None


def _with_one_more(agent: AgentView, channel: str, team: TeamContext, now: int) -> AgentView:
    rules, slot = team.settings.channel(channel), agent.slots[channel]
    more = replace(slot, used=slot.used + 1, load=slot.load + rules.weight)
    return replace(
        agent,
        slots={**agent.slots, channel: more},
        load_used=agent.load_used + rules.weight,
        idle_since=now if rules.mode == "assign" else agent.idle_since,
    )


async def _choice(
    conn: AsyncConnection, agent: AgentView, channels: Sequence[str], now: int, *, deep: bool = False
) -> tuple[AgentView, list[Item], dict[int | None, TeamContext], dict[int | None, decide.TeamRules]]:
    """What an agent may choose from, the rules of the teams whose items these are, and what these rules ask
    about him.
    """
    heads, teams = await _heads(conn, agent.agent_id, channels, deep=deep)
    rules = {t: context.rules(now) for t, context in teams.items()}
    if decide.asks_on_time(heads, rules, now):
        seen = {h.id for h in heads}
        later, more = await _heads(conn, agent.agent_id, channels, deep=deep, since=now)
        heads = sorted([*heads, *(h for h in later if h.id not in seen)], key=lambda h: (h.order_key, h.id))
        teams = {**more, **teams}
        rules = {t: context.rules(now) for t, context in teams.items()}
    for team_id, others in decide.overflow_teams_of(heads, rules).items():
        # Items of several channels of one team at once are rare; the first one's queue stands for it.
        channel = next(h.channel for h in heads if h.team_id == team_id)
        loads = await store.queue_loads(conn, {team_id, *others}, channel, now)
        rules[team_id] = teams[team_id].rules(now, loads)
    for team_id in {h.team_id for h in heads if h.kind == "lead" and h.team_id is not None}:
        leads = teams[team_id].settings.leads
        if leads.weighted and team_id is not None:
            me = agent.agent_id
            stands = await lead_counts.stands(conn, team_id, leads, teams[team_id].tz, [me], now)
            agent = replace(agent, leads={**agent.leads, team_id: stands[me]})
    return agent, heads, teams, rules


async def _heads(
    conn: AsyncConnection,
    agent_id: int,
    channels: Sequence[str],
    *,
    deep: bool = False,
    since: int | None = None,
) -> tuple[list[Item], dict[int | None, TeamContext]]:
    """The most urgent items of an agent's lanes, best first, and the teams they are of: a few index entries of each
    lane, whatever is queued. `deep`: more of them. `since`: of those with a key from there on.
    """
    here = {"agent": agent_id, "channels": list(channels)}
    statement = _HEADS_OF[deep, since is not None]
    rows = await fetch(conn, statement, here if since is None else {**here, "since": since})
    teams: dict[int | None, TeamContext] = {}
    for row in rows:
        if row["team_id"] not in teams:
            known = row["team_id"] is not None and row["team_name"] is not None
            teams[row["team_id"]] = store.context_of(row) if known else TeamContext()
    return [Item.from_row(r) for r in rows], teams


def _heads_of(*, deep: bool, since: bool) -> Prepared:
    per_lane, most = (_DEEP_HEADS, _DEEP_HEADS) if deep else (_HEADS, _HEADS)
    entry, nth = queue_entry.alias("entry"), queue_entry.alias("nth")
    from_ = bindparam("since", type_=queue_entry.c.order_key.type)
    last = (
        select(nth.c.order_key)
        .where(nth.c.lane_id == agent_lane.c.lane_id, *([nth.c.order_key >= from_] if since else []))
        .order_by(nth.c.order_key, nth.c.item_id)
        .limit(1)
        .offset(per_lane - 1)
        .correlate(agent_lane)
        .scalar_subquery()
    )
    first = (
        select(entry.c.item_id, entry.c.order_key)
        .select_from(agent_lane)
        .join(lane, lane.c.id == agent_lane.c.lane_id)
        .join(
            entry,
            and_(entry.c.lane_id == agent_lane.c.lane_id, entry.c.order_key <= func.coalesce(last, _ENDLESS)),
        )
        .where(agent_lane.c.agent_id == bindparam("agent"), any_of(lane.c.channel, "channels"))
        .distinct()
        .order_by(entry.c.order_key, entry.c.item_id)
        .limit(most)
    )
    if since:
        first = first.where(entry.c.order_key >= from_)
    best = first.subquery()
    return Prepared(
        select(work_item, *store.team_columns())
        .join(best, best.c.item_id == work_item.c.id)
        .outerjoin(team, team.c.id == work_item.c.team_id)
        .outerjoin(calendar, calendar.c.id == team.c.calendar_id)
        .order_by(work_item.c.order_key, work_item.c.id)
    )


_ENDLESS = 2**62
_HEADS_OF = {(d, s): _heads_of(deep=d, since=s) for d in (True, False) for s in (True, False)}


async def _claim(uow: UnitOfWork, head: Item) -> tuple[Item | None, RowLike | None]:
    """Lock an item that was read before, if it still is what it was, and its inquiry. Never waits: the inquiry is
    before the item in the lock order, and who holds it now will soon want the item.
    """
    of_inquiry = head.inquiry_id is not None and head.source_kind == "inquiry"
    row = await uow.row(_CLAIM[of_inquiry], {"id_": head.id, "version_": head.version})
    if row is None:
        return None, None
    inquiry_row = {name: row[f"inquiry_{name}"] for name in _INQUIRY_COLUMNS} if of_inquiry else None
    # Its version is that of the head: nothing else has changed either.
    return head, inquiry_row


_INQUIRY_COLUMNS = tuple(c.name for c in inquiry.c)


def _claim_of(*, of_inquiry: bool) -> Prepared:
    statement = select(work_item.c.id).where(
        work_item.c.id == bindparam("id_"),
        work_item.c.state == ItemState.WAITING,
        work_item.c.version == bindparam("version_"),
    )
    if not of_inquiry:
        return Prepared(statement.with_for_update(skip_locked=True))
    columns = (c.label(f"inquiry_{c.name}") for c in inquiry.c)
    return Prepared(
        statement.add_columns(*columns)
        .join(inquiry, inquiry.c.id == work_item.c.inquiry_id)
        .with_for_update(skip_locked=True, of=[work_item, inquiry])
    )


_CLAIM = {of_inquiry: _claim_of(of_inquiry=of_inquiry) for of_inquiry in (True, False)}


# --- the poll
# -----------------------------------------------------------------------------------------------------
async def free_agents(
    conn: AsyncConnection, *, after: tuple[int, int] | None = None, limit: int = _PAGE
) -> list[tuple[int, int]]:
    """(idle since, agent) of those with room in the channel of a lane of theirs in which something waits."""
    waiting = select(queue_entry.c.item_id).where(queue_entry.c.lane_id == lane.c.id).correlate(lane).exists()
    statement = (
        select(agent_state.c.idle_since, agent_state.c.agent_id)
        .join(agent_slot, agent_slot.c.agent_id == agent_state.c.agent_id)
        .join(agent_lane, agent_lane.c.agent_id == agent_state.c.agent_id)
        .join(lane, and_(lane.c.id == agent_lane.c.lane_id, lane.c.channel == agent_slot.c.channel))
        .where(agent_state.c.routable, agent_slot.c.used < agent_slot.c.max, waiting)
        .group_by(agent_state.c.idle_since, agent_state.c.agent_id)
        .order_by(agent_state.c.idle_since, agent_state.c.agent_id)
        .limit(limit)
    )
    if after is not None:
        idle, agent_id = after
        later = or_(
            agent_state.c.idle_since > idle,
            and_(agent_state.c.idle_since == idle, agent_state.c.agent_id > agent_id),
        )
        statement = statement.where(later)
    return [(int(i), int(a)) for i, a in await conn.execute(statement)]


async def route_pending(db: Database) -> int:
    """Give all free agents what waits for them: the safety net under the wake-ups, called on a hint and
    each second.

    Returns how many items were given out.
    """
    given = 0
    after: tuple[int, int] | None = None
    while True:
        async with db.reading() as conn:
            page = await free_agents(conn, after=after)
        for _, agent_id in page:
            async with db.transaction() as uow:
                given += await pull(uow, agent_id, "poll")
        if len(page) < _PAGE:
            return given
        after = page[-1]
