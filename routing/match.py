"""Bringing items and agents together: an item asks for an agent, a free agent asks for work.

Each decision is part of one transaction: the candidate is read without locks, the item is claimed (SKIP
LOCKED, state, version), capacity is taken by compare-and-set, and offer or assignment, queue entries,
decision and events are written together. Who loses a race tries the next candidate, a few times, then
leaves it to the next poll.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter_ns
from typing import Any

from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.db.engine import Database
from crm_core.db.together import Batch
from crm_core.db.uow import UnitOfWork
from routing import (
    apply,
    capacity,
    closed_reply,
    decide,
    heads,
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
from routing.model import AgentView, Item, ItemState, LeadStand, Reason, RowLike
from routing.schema import agent_lane, agent_slot, agent_state, lane, queue_entry
from routing.settings import DEFAULT_CHANNELS
from routing.store import TeamContext

#: candidates tried before a decision yields to the next poll
MAX_TRIES = 5
#: items that one agent takes in one transaction
MAX_PULLS = 15
_PAGE = 200


async def route_item(
    uow: UnitOfWork, item: Item, trigger: str, *, team: TeamContext | None = None, fresh: bool = False
) -> Item:
    """Give a waiting (or parked) item to the best agent there is, or let it wait where it belongs.

    The item is locked by this transaction, or was made by it (`fresh`). Returns it as it is then.
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
        skills=steps.skills_asked(item, settings), specs=specs,
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
        ranks = ranking.with_scarcity(ranks, await store.scarcity(uow.conn, tied))
        placement = replace(placement, ranks=tuple(ranks))
    wanted = max(placement.broadcast, 1)
    tries = ranks[: wanted - 1 + MAX_TRIES]
    if wanted > 1:
        # All at once and by id: one after the other in the order of rank would have to skip those in use.
        await capacity.lock(uow, [r.agent.agent_id for r in tries])
    lane_ids = [all_lanes[s.signature] for s in placement.step.lanes]
    batch = Batch()
    held: list[ranking.Rank] = []
    lost: list[tuple[int, str]] = []
    for rank in tries:
        failure = await _hold(uow, item, rank.agent.agent_id, team, lane_ids, batch, sole=wanted == 1)
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
            uow, item, placement, trigger=trigger, lost=lost, names=names, team=team, given=given, fresh=fresh
        )
    why = reasons.of_placement(
        item, placement, trigger=trigger, winner=held[0], lost=lost, people=names,
        version=settings.version, now=uow.now,
    )  # fmt: skip
    why["took_us"] = (perf_counter_ns() - began) // 1000
    return await _give(
        uow, item, [r.agent for r in held], step=placement.step, entered_at=placement.entered_at, why=why,
        team=team, trigger=trigger, given=given, known=apply.Known(names=names, in_lanes=not fresh), batch=batch,
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
    agent_id: int,
    team: TeamContext,
    lane_ids: Sequence[int],
    batch: Batch,
    *,
    state: RowLike | None = None,
    sole: bool = True,
) -> Reason | None:
    """Take a place of the agent; what can have changed since he was read is tested again under his lock. `state`: he
    is locked already, and like this. `sole`: nobody else is asked.
    """
    rules, leads = team.settings.channel(item.channel), team.settings.leads
    if state is None:
        state, failure = await capacity.claim(uow, agent_id)
    else:
        failure = capacity.away(state, uow.now)
    if failure is not None or state is None:
        return failure
    shared_out = item.kind == "lead" and leads.weighted
    if shared_out and item.team_id is not None:
        stands = await lead_counts.stands(uow.conn, item.team_id, leads, team.tz, [agent_id], uow.now)
        if stands[agent_id].capped:
            return Reason.LEAD_CAP
    outright = sole and rules.mode == "assign"
    return await capacity.hold(uow, state, item.channel, rules, batch, lanes=lane_ids, outright=outright)


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
    fresh: bool,
) -> Item:
    event: machine.Event
    batch = Batch()
    if placement.park_until is not None:
        event = machine.Parked(until=placement.park_until, reason=placement.park_reason or "")
        outcome = "parked"
    else:
        event = machine.Waits(
            step=placement.step, entered_at=placement.entered_at, next_step_at=placement.next_step_at,
            closes_at=placement.closes_at,
        )  # fmt: skip
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
        apply.record_with(
            uow, batch, item, trigger=trigger, outcome=outcome, agent_id=None, why=why,
            rule_version=team.settings.version, given=given,
        )  # fmt: skip
    known = apply.Known(in_lanes=not fresh)
    after = await apply.feed(uow, item, event, team.settings, known=known, batch=batch)
    if item.state != ItemState.PARKED:
        closed_reply.ask(uow, after)
    return after


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
    batch: Batch,
) -> Item:
    """Capacity is held of each agent: write the decision and the assignment, the offer, or the offers to several,
    with what `batch` has to write for it.
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
    decision_id = apply.record_with(
        uow, batch, item, trigger=trigger, outcome=outcome, agent_id=agent_id, why=why,
        rule_version=team.settings.version, given=given,
    )  # fmt: skip
    return await apply.feed(
        uow, item, event, team.settings, decision_id=decision_id, known=known, batch=batch
    )


# --- an agent asks
# ----------------------------------------------------------------------------------------------
async def pull(
    uow: UnitOfWork,
    agent_id: int,
    trigger: str = "agent_free",
    *,
    limit: int = MAX_PULLS,
    several: bool = False,
) -> int:
    """Give a free agent the most urgent work of his lanes, as much as he has room for. Returns how many
    items.

    `several`: others are free, too. What is to be offered to several at once is then no work for him alone: it asks
    for all of them, and he for nothing more in this transaction.
    """
    taken = 0
    agent = await store.view(uow.conn, agent_id, uow.now)
    choice = _Choice(several=several)
    while agent is not None and taken < limit:
        # From the first item on he is locked by this transaction: what he holds is known without asking again.
        agent = await _pull_one(uow, agent, trigger, choice)
        taken += agent is not None
    return taken + choice.asked


@dataclass(slots=True)
class _Choice:
    """What an agent may choose from, read once for all that he takes: the first items of his lanes by channel and
    the teams they are of. `ended`: channels whose items are all here; `tried`: taken or lost; `several`: others are
    free, too; `asked`: items that were offered to all of them.
    """

    heads: list[Item] = field(default_factory=list)
    teams: dict[int | None, TeamContext] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    tried: set[int] = field(default_factory=set)
    rules: dict[int | None, decide.TeamRules] = field(default_factory=dict)
    deep: bool = False
    several: bool = False
    asked: int = 0

    def add(self, heads: Sequence[Item], teams: Mapping[int | None, TeamContext]) -> None:
        known = {h.id for h in self.heads}
        more = (h for h in heads if h.id not in known)
        self.heads = sorted([*self.heads, *more], key=lambda h: (h.order_key, h.id))
        self.teams = {**teams, **self.teams}

    def of(self, channels: Collection[str]) -> list[Item]:
        return [h for h in self.heads if h.channel in channels and h.id not in self.tried]

    def hidden(self, agent: AgentView, channels: Sequence[str], now: int) -> list[str]:
        """Channels that may hold something for him behind what was read: not those that he has no room for."""
        if self.deep:
            return []
        behind = []
        for channel in channels:
            here = self.of([channel])
            full = bool(here) and all(self._no_room(agent, h, now) for h in here)
            if channel not in self.ended and not full:
                behind.append(channel)
        return behind

    def _no_room(self, agent: AgentView, head: Item, now: int) -> bool:
        rules = self.rules[head.team_id].settings.channel(head.channel)
        return availability_failure(agent, head.channel, rules.weight, rules, now) is not None


async def _pull_one(uow: UnitOfWork, agent: AgentView, trigger: str, choice: _Choice) -> AgentView | None:
    """One item for him. Returns him as he is with it, None if there is nothing."""
    began, now = perf_counter_ns(), uow.now
    lost: list[tuple[int, str]] = []
    open_channels = [
        c for c, rules in DEFAULT_CHANNELS.items()
        # Weights are the team's; with the smallest possible one only the truly impossible channels fall out
        # here.
        if availability_failure(agent, c, 0, rules, now) is None
    ]  # fmt: skip
    if not open_channels:
        return None
    agent = await _look(uow.conn, agent, open_channels, choice, now)
    for _ in range(heads.DEEP):
        here = choice.of(open_channels)
        picked = decide.pick(agent, here, choice.rules, now)
        if picked.item is None or picked.step is None:
            if not (wanted := choice.hidden(agent, open_channels, now)):
                return None
            # Somebody who declined all the first ones must still get at those behind them.
            agent = await _look(uow.conn, agent, wanted, choice, now, deep=True)
            continue
        choice.tried.add(picked.item.id)
        if lane_failure(agent, picked.step.lanes) is not None:
            continue  # the lane of a crowded team does not ask for his level, the item does
        if len(lost) >= MAX_TRIES:
            return None
        team = choice.teams[picked.item.team_id]
        if choice.several and decide.wants_several(picked.item, picked.step, team.settings, now):
            if not await heads.claim_item(uow, picked.item):
                lost.append((picked.item.id, Reason.ITEM_LOCKED.value))
                continue
            asked = await route_item(uow, picked.item, trigger, team=team)
            choice.asked += asked.state != ItemState.WAITING
            return None
        choice.several = False  # from here on he is locked, and others might have to be locked before him
        item, row, state = await heads.claim(uow, picked.item, agent.agent_id)
        if item is None:
            lost.append((picked.item.id, Reason.ITEM_LOCKED.value))
            continue
        batch = Batch()
        lane_ids = list((await lanes.intern(uow, picked.step.lanes)).values())
        failure = await _hold(uow, item, agent.agent_id, team, lane_ids, batch, state=state)
        if failure is not None:
            lost.append((item.id, failure.value))
            if failure == Reason.LEAD_CAP:
                # He had room when he was read; what is no lead must not wait behind all the others.
                full = LeadStand(share=0, capped=True)
                agent = replace(agent, leads={**agent.leads, item.team_id: full})
            continue
        why = reasons.of_pull(
            item, agent, picked, trigger=trigger, heads=len(here), lost=lost,
            version=team.settings.version, now=now, manager=await _manager(uow.conn, item, agent, team, now),
        )  # fmt: skip
        given = replay.of_pull(agent, picked, here, choice.rules, now)
        why["took_us"] = (perf_counter_ns() - began) // 1000
        await _give(
            uow, item, [agent], step=picked.step, entered_at=item.step_entered_at, why=why, team=team,
            trigger=trigger, given=given, known=apply.Known(inquiry=row, names={agent.agent_id: agent.name}),
            batch=batch,
        )  # fmt: skip
        return _with_one_more(agent, item.channel, team, now)
    return None


async def _manager(
    conn: AsyncConnection, item: Item, agent: AgentView, team: TeamContext, now: int
) -> tuple[AgentView, Reason | None] | None:
    """The contact's manager, if somebody else takes it, and why he does not: read for the reason alone."""
    if item.manager_id is None or item.manager_id == agent.agent_id:
        return None
    found = await store.views(conn, {item.manager_id: ()}, skills=(), now=now)
    for person in await _with_leads(conn, item, team, found, now):
        return person, decide.agent_failure(item, person, team.settings, now)
    return None


def _with_one_more(agent: AgentView, channel: str, team: TeamContext, now: int) -> AgentView:
    rules, slot = team.settings.channel(channel), agent.slots[channel]
    more = slot._replace(used=slot.used + 1, load=slot.load + rules.weight)
    return replace(
        agent,
        slots={**agent.slots, channel: more},
        load_used=agent.load_used + rules.weight,
        idle_since=now if rules.mode == "assign" else agent.idle_since,
    )


async def _look(
    conn: AsyncConnection,
    agent: AgentView,
    channels: Sequence[str],
    choice: _Choice,
    now: int,
    *,
    deep: bool = False,
) -> AgentView:
    """Read what there is to choose from, unless enough of it is known, and what the teams' rules ask about him."""
    if not deep and choice.rules and all(c in choice.ended or choice.of([c]) for c in channels):
        return agent
    found, teams = await heads.read(conn, agent.agent_id, channels, deep=deep)
    counted = Counter(h.channel for h in found)
    choice.ended |= {c for c in channels if counted[c] < (heads.DEEP if deep else heads.FRONT)}
    choice.deep |= deep
    choice.add(found, teams)
    rules = {t: context.rules(now) for t, context in choice.teams.items()}
    if decide.asks_on_time(choice.heads, rules, now):
        choice.add(*await heads.read(conn, agent.agent_id, channels, deep=deep, since=now))
        rules = {t: context.rules(now) for t, context in choice.teams.items()}
    loads: dict[int | None, dict[str, decide.Loads]] = {}
    for (team_id, channel), others in decide.overflow_teams_of(choice.heads, rules).items():
        compared = await store.queue_loads(conn, {team_id, *others}, channel, now)
        loads.setdefault(team_id, {})[channel] = compared
    for team_id, of_channels in loads.items():
        rules[team_id] = choice.teams[team_id].rules(now, of_channels)
    for team_id in {h.team_id for h in choice.heads if h.kind == "lead" and h.team_id is not None}:
        leads = choice.teams[team_id].settings.leads
        if leads.weighted and team_id is not None:
            me = agent.agent_id
            stands = await lead_counts.stands(conn, team_id, leads, choice.teams[team_id].tz, [me], now)
            agent = replace(agent, leads={**agent.leads, team_id: stands[me]})
    choice.rules = rules
    return agent


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
                given += await pull(uow, agent_id, "poll", several=len(page) > 1)
        if len(page) < _PAGE:
            return given
        after = page[-1]
