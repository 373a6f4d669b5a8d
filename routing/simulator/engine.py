"""The run itself: a heap of events on a virtual clock, and what `routing.match` and its neighbours do, in memory.

What happens to an item is what `machine.react` says; who gets it is what `decide.place` and `decide.pick` say. This
file only keeps the state they are asked about and carries out their actions.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from heapq import heappop, heappush
from typing import Any

from crm_core.clock import DAY, MINUTE
from routing import decide, machine, ranking, steps
from routing.decide import Hours, TeamRules
from routing.eligibility import availability_failure
from routing.machine import Holding
from routing.model import QUEUED, Channel, Item, ItemState, Presence, Requirements, evolve
from routing.order import order_key
from routing.settings import DEFAULT_CHANNELS, TeamSettings
from routing.simulator.attention import Attention
from routing.simulator.desks import Desk, Desks, Lane
from routing.simulator.laws import stream_random
from routing.simulator.live import Event, Live
from routing.simulator.measure import UNWAITED_MS, AgentTally, QueueKey, QueueTally, Result, Served
from routing.simulator.scenario import NO_REQUIREMENTS, SHARED, Arrival, Scenario, ScenarioTeam
from routing.simulator.selectors import Selector
from routing.simulator.traffic import arrivals_of
from routing.simulator.watch import Watch

#: as in routing.match: how much one pull takes, and how far down a lane it looks
MAX_PULLS, DEEP_HEADS = 15, 160
#: as in routing.presence: how long a live chat waits for an agent who vanished
CHAT_GRACE_MS = MINUTE
#: work that is still there so long after the last arrival is not waited for
DRAIN_MS = 30 * DAY

_ALWAYS = Hours()
_OPEN_TO = tuple(DEFAULT_CHANNELS.items())


class Team:
    """A team with the settings that the selector makes of its own."""

    def __init__(self, team: ScenarioTeam, settings: TeamSettings) -> None:
        self.id = team.id
        self.scenario = team
        self.settings = settings
        self.calendar = team.calendar
        self._rules = TeamRules(settings, _ALWAYS)
        self._until = -1

    def rules(self, now: int) -> TeamRules:
        """Its settings and whether it works now. Asks the calendar once between two of its changes."""
        calendar = self.calendar
        if calendar is not None and now >= self._until:
            hours = decide.hours_of(calendar, self.settings, now)
            closes = calendar.next_close(now) if hours.is_open else None
            changes = closes if hours.is_open else hours.next_open
            self._until = now + DAY if changes is None else changes
            self._rules = TeamRules(self.settings, hours)
        return self._rules


class Engine:
    """One run. `watch` looks at every change (tests); `trace` keeps the story of every contact."""

    def __init__(
        self,
        scenario: Scenario,
        seed: int,
        selector: Selector,
        *,
        watch: Watch | None = None,
        trace: bool = False,
    ) -> None:
        self.scenario = scenario
        self.seed = seed
        self.selector = selector
        self.watch = watch
        self.now = scenario.starts_at
        self.events = 0
        self.teams = {t.id: Team(t, selector.settings(t.settings)) for t in scenario.teams}
        settings = {i: t.settings for i, t in self.teams.items()}
        self.desks = Desks(scenario.agents, settings)
        self.lives: dict[int, Live] = {}
        self.queues: dict[QueueKey, QueueTally] = {}
        self.attention = Attention(self, settings.values()) if scenario.attention == SHARED else None
        self.trace: list[Served] | None = [] if trace else None
        self._chance = stream_random(seed, "agents")
        self._answers = {a.id: a.answer.sampler(self._chance) for a in scenario.agents}
        self._heap: list[tuple[int, int, Event, Any, int]] = []
        self._order = 0
        self._ids = 0
        self._holdings = 0
        self._waiting: dict[QueueKey, dict[int, int]] = {}
        self._reach: dict[Any, tuple[Lane, ...]] = {}
        self._arrivals: Iterator[Arrival] = arrivals_of(scenario, seed)
        self._arrived = 0
        self._window: tuple[int, int] | None = None
        self._areas: dict[QueueKey, tuple[int, int]] = {}
        self._agents: dict[int, AgentTally] = {}
        self._closed = False
        self._timeless = all(t.calendar is None for t in scenario.teams)
        self._rules: dict[int | None, TeamRules] = {i: t.rules(self.now) for i, t in self.teams.items()}
        self._carry: dict[type, Callable[[Live, Any], None]] = {
            machine.LeaveLanes: self._leave_lanes, machine.EnterLanes: self._enter_lanes,
            machine.OpenOffer: self._open_offer, machine.EndOffer: self._end_offer,
            machine.Release: self._release, machine.StartAssignment: self._start_assignment,
            machine.EndAssignment: self._end_assignment, machine.Missed: self._missed,
            machine.Served: self._served, machine.WrapUp: self._wrap_up, machine.Disown: self._disown,
        }  # fmt: skip

    # --- the loop
    def run(self) -> Result:
        """Play everything, to the end of the last contact."""
        scenario = self.scenario
        for desk in self.desks.by_id.values():
            self._plan_presence(desk)
        if scenario.warmup_arrivals == 0:
            self._open_window(self.now)
        if scenario.ends_at is not None and scenario.max_arrivals is None:
            self.at(scenario.ends_at, Event.CLOSE, None)
        self._next_arrival()
        handle: dict[Event, Callable[[Any, int], None]] = {
            Event.ARRIVE: self._arrive, Event.END: self._end, Event.WRAP: self._wrapped,
            Event.ACCEPT: self._accept, Event.DECLINE: self._decline, Event.EXPIRE: self._expire,
            Event.ABANDON: self._abandon, Event.STEP: self._step, Event.WAKE: self._wake,
            Event.POLL: self._poll, Event.MOVE: self._move, Event.BACK: self._back,
            Event.LOST: self._lost, Event.CLOSE: self._close,
        }  # fmt: skip
        heap, watch = self._heap, self.watch
        limit = None
        while heap:
            at, _, event, subject, stamp = heappop(heap)
            if watch is not None and at > self.now:
                watch.instant(self)
            self.now = at
            self.events += 1
            handle[event](subject, stamp)
            if self._closed:
                if limit is None:
                    limit = at + DRAIN_MS
                if not self.lives or at > limit:
                    break
        if watch is not None:
            watch.end(self)
        return self._result()

    def at(self, when: int, event: Event, subject: Any, stamp: int = 0) -> None:
        """Let something happen."""
        self._order += 1
        heappush(self._heap, (when, self._order, event, subject, stamp))

    # --- contacts come
    def _next_arrival(self) -> None:
        arrival = next(self._arrivals, None)
        if arrival is not None:
            self.at(arrival.at, Event.ARRIVE, arrival)
        elif self.scenario.ends_at is None or self.scenario.max_arrivals is not None:
            self._close(None, 0)

    def _arrive(self, arrival: Arrival, _stamp: int) -> None:
        now = self.now
        self._arrived += 1
        counted = self._arrived > self.scenario.warmup_arrivals
        if counted and self._window is None:
            self._open_window(now)
        team = self.teams[arrival.team_id]
        key = QueueKey(arrival.team_id, arrival.channel, arrival.label)
        tally = self.queues.get(key)
        if tally is None:
            tally = self._new_queue(key, team)
        self._ids += 1
        live = Live(self._item(arrival, team), arrival, tally, key, counted)
        self.lives[live.item.id] = live
        limit = team.scenario.queue_limit.get(arrival.channel)
        before = 0
        if limit is not None:
            before = sum(t.length for k, t in self.queues.items() if k[:2] == key[:2])
        if counted:
            tally.offered += 1
            if arrival.due_at is not None:
                tally.promised += 1
        self._route(live)
        if live.item.state in QUEUED:
            live.queues = True
            tally.lengthen(1, now)
            self._waiting[key][live.item.id] = now
            if counted:
                tally.queued += 1
            if live.item.state == ItemState.WAITING and limit is not None and before >= limit:
                live.turned_away = True
                self._feed(live, machine.Ended(held=(), cause="abandoned"))
            elif arrival.patience_ms is not None:
                self.at(now + arrival.patience_ms, Event.ABANDON, live)
        self._next_arrival()

    def _new_queue(self, key: QueueKey, team: Team) -> QueueTally:
        tally = self.queues[key] = QueueTally(team.scenario.threshold_ms(key.channel), since=self.now)
        self._waiting[key] = {}
        return tally

    def _item(self, arrival: Arrival, team: Team) -> Item:
        now, by_id = self.now, self.desks.by_id
        manager, sticky = arrival.manager_id, arrival.sticky_agent_id
        key = order_key(
            team.settings, channel=arrival.channel, kind=arrival.kind, priority=arrival.priority,
            vip=arrival.vip, ready_at=now, due_at=arrival.due_at, calendar=team.calendar,
        )  # fmt: skip
        item = Item(
            id=self._ids, source_kind="simulated", source_id=self._ids, team_id=arrival.team_id,
            home_team_id=arrival.team_id, teams_seen=(arrival.team_id,), channel=arrival.channel,
            kind=arrival.kind, requirements=arrival.requirements, priority=arrival.priority,
            vip=arrival.vip, due_at=arrival.due_at, ready_at=now, step_entered_at=now, created_at=now,
            manager_id=manager if manager in by_id else None, order_key=key.key, order_parts=key.as_data(),
            sticky_agent_id=sticky if sticky in by_id else None,
        )  # fmt: skip
        other = self.selector.key(item)
        return item if other is None else evolve(item, order_key=other)

    # --- an item asks for an agent: routing.match.route_item
    def _route(self, live: Live) -> None:
        item, now = live.item, self.now
        team = self.teams[item.team_id or 0]
        rules = team.rules(now)
        lanes = self._lanes_in_reach(item, team)
        people = [a for a in (item.manager_id, item.sticky_agent_id, item.directed_agent_id) if a is not None]
        overdue = steps.target_at(item) < now and team.settings.broadcast.when == "overdue"
        if self.selector.sees_everybody or item.broadcast_asked or overdue:
            # Several may be asked at once: then not only the first of those who are alike counts.
            agents = self.desks.everybody(lanes, people)
        else:
            agents = self.desks.candidates(lanes, people, item, now)
        placement = decide.place(item, team.settings, agents, rules.hours, now)
        ranks: Sequence[ranking.Rank] = placement.ranks
        if len(ranks) > 1 and (tied := ranking.tied_before_scarcity(list(ranks))):
            scarcity = self.desks.scarcity(tied)
            if any(scarcity.values()):
                ranks = ranking.with_scarcity(list(ranks), scarcity)
        if ranks:
            chosen = self.selector.first(ranks)
            if self.watch is not None:
                self.watch.placed(self, live, placement, chosen)
            if placement.broadcast > 1:
                self._ask_several(live, placement, ranks[: placement.broadcast])
                return
            self._give(live, self.desks.by_id[chosen.agent.agent_id], placement.step, placement.entered_at)
        elif placement.park_until is not None:
            self._feed(live, machine.Parked(until=placement.park_until, reason=placement.park_reason or ""))
            self.at(placement.park_until, Event.WAKE, live, live.version)
        else:
            self._feed(
                live,
                machine.Waits(
                    step=placement.step, entered_at=placement.entered_at, next_step_at=placement.next_step_at,
                    closes_at=placement.closes_at,
                ),
            )  # fmt: skip
            if placement.closes_at is not None:
                self.at(placement.closes_at, Event.WAKE, live, live.version)
            if placement.next_step_at is not None:
                self.at(placement.next_step_at, Event.STEP, live, live.version)

    def _lanes_in_reach(self, item: Item, team: Team) -> tuple[Lane, ...]:
        """All lanes of all steps of the item's plan; whoever is asked about it is in one of them."""
        wanted = item.requirements
        asks = () if wanted is NO_REQUIREMENTS else _content(wanted)
        key = (
            team.id, item.channel, asks, item.manager_id, item.sticky_agent_id, item.directed_agent_id,
            item.teams_seen, steps.asks_steady(item, team.settings),
        )  # fmt: skip
        found = self._reach.get(key)
        if found is None:
            plan = steps.plan(item, team.settings)
            specs = dict.fromkeys(spec for step in plan for spec in step.lanes)
            found = self._reach[key] = tuple(self.desks.intern(s) for s in specs)
        return found

    def _give(self, live: Live, desk: Desk, step: steps.Step, entered_at: int) -> None:
        item = live.item
        rules = self.teams[item.team_id or 0].settings.channel(item.channel)
        if self.watch is not None:
            self.watch.given(self, live, desk, step)
        self.desks.hold(desk, item.channel, rules.weight, self.now)
        desk.items.add(item.id)
        event: machine.Event
        if rules.mode == "assign":
            event = machine.Assigned(
                agent_id=desk.id, weight=rules.weight, cause="outright", step=step, entered_at=entered_at
            )
        else:
            event = machine.Offered(agent_id=desk.id, weight=rules.weight, step=step, entered_at=entered_at)
        self._feed(live, event)
        if self.attention is not None:
            self.attention.changed(desk)

    def _ask_several(self, live: Live, placement: decide.Placement, ranks: Sequence[ranking.Rank]) -> None:
        item = live.item
        weight = self.teams[item.team_id or 0].settings.channel(item.channel).weight
        desks = [self.desks.by_id[r.agent.agent_id] for r in ranks]
        for desk in desks:
            if self.watch is not None:
                self.watch.given(self, live, desk, placement.step)
            self.desks.hold(desk, item.channel, weight, self.now)
        live.broadcast = True
        event = machine.Broadcast(
            agents=[d.id for d in desks], weight=weight, step=placement.step, entered_at=placement.entered_at
        )
        self._feed(live, event)
        if self.attention is not None:
            for desk in desks:
                self.attention.changed(desk)

    # --- an agent asks for work: routing.match.pull
    def pull(self, desk: Desk) -> None:
        """Give him the most urgent work of his lanes, as much as he has room for."""
        for _ in range(MAX_PULLS):
            if not self._pull_one(desk):
                return

    def _pull_one(self, desk: Desk) -> bool:
        waiting = list(self.desks.waiting_lanes(desk))
        if not waiting:
            return False
        now = self.now
        agent = desk.view()
        free = {c for c, rules in _OPEN_TO if availability_failure(agent, c, 0, rules, now) is None}
        waiting = [lane for lane in waiting if lane.spec.channel in free]
        if not waiting:
            return False
        rules: Mapping[int | None, TeamRules] = (
            self._rules if self._timeless else {i: t.rules(now) for i, t in self.teams.items()}
        )
        # The very first ones decide, unless one of them is not for him: then those behind it count too.
        picked = decide.pick(agent, self._heads(waiting, 1, rules), rules, now)
        if picked.passed:
            picked = decide.pick(agent, self._heads(waiting, DEEP_HEADS, rules), rules, now)
        if picked.item is None or picked.step is None:
            return False
        live = self.lives[picked.item.id]
        if self.watch is not None:
            self.watch.picked(self, live, desk, picked)
        self._give(live, desk, picked.step, live.item.step_entered_at)
        return True

    def _heads(
        self, lanes: Sequence[Lane], per_lane: int, rules: Mapping[int | None, TeamRules]
    ) -> list[Item]:
        now = self.now
        entries = {e for lane in lanes for e in lane.entries[:per_lane]}
        heads = [self.lives[i].item for _, i in sorted(entries)]
        if decide.asks_on_time(heads, rules, now):
            for lane in lanes:
                first = bisect_left(lane.entries, (now, 0))
                entries.update(lane.entries[first : first + per_lane])
            heads = [self.lives[i].item for _, i in sorted(entries)]
        return heads

    # --- what the machine says is done: routing.apply
    def _feed(self, live: Live, event: machine.Event) -> None:
        item = live.item
        change = machine.react(item, event, self.teams[item.team_id or 0].settings, self.now)
        live.item = change.item
        live.version += 1
        carry = self._carry
        for action in change.actions:
            carry[type(action)](live, action)
        if not live.item.live:
            self._over(live)

    def _leave_lanes(self, live: Live, _action: Any) -> None:
        for lane in live.lanes:
            lane.leave(live.entry)
        live.lanes = ()

    def _enter_lanes(self, live: Live, action: machine.EnterLanes) -> None:
        item = live.item
        entry = (item.order_key, item.id)
        wanted = tuple(self.desks.intern(spec) for spec in action.step.lanes)
        if live.lanes == wanted and live.entry == entry:
            return
        self._leave_lanes(live, None)
        live.lanes, live.entry = wanted, entry
        for lane in wanted:
            lane.enter(entry)

    def _holding(self, live: Live, agent_id: int, weight: int, *, assignment: bool) -> Holding:
        self._holdings += 1
        return Holding(
            id=self._holdings,
            agent_id=agent_id,
            channel=live.item.channel,
            weight=weight,
            assignment=assignment,
        )

    def _open_offer(self, live: Live, action: machine.OpenOffer) -> None:
        held = self._holding(live, action.agent_id, action.weight, assignment=False)
        live.offers[held.id] = held
        self.desks.by_id[action.agent_id].items.add(live.item.id)
        if live.counted:
            live.tally.offers += 1
        agent = self.desks.by_id[action.agent_id].agent
        answer = self._answers[agent.id]()
        if (
            agent.accept >= 1 or self._chance.random() < agent.accept
        ) and self.now + answer < action.expires_at:
            self.at(self.now + answer, Event.ACCEPT, live, held.id)
        elif agent.declines and self._chance.random() < agent.declines:
            self.at(min(self.now + answer, action.expires_at), Event.DECLINE, live, held.id)
        else:
            self.at(action.expires_at, Event.EXPIRE, live, held.id)

    def _end_offer(self, live: Live, action: machine.EndOffer) -> None:
        del live.offers[action.offer.id]
        live.broadcast = live.broadcast and bool(live.offers)
        self.desks.by_id[action.offer.agent_id].items.discard(live.item.id)

    def _release(self, live: Live, action: machine.Release) -> None:
        held = action.held
        desk = self.desks.by_id[held.agent_id]
        self.desks.release(desk, held.channel, held.weight, self.now)
        desk.items.discard(live.item.id)
        if self.attention is not None:
            self.attention.changed(desk)

    def _start_assignment(self, live: Live, action: machine.StartAssignment) -> None:
        now, tally, arrival = self.now, live.tally, live.arrival
        live.held = self._holding(live, action.agent_id, action.weight, assignment=True)
        desk = self.desks.by_id[action.agent_id]
        desk.items.add(live.item.id)
        desk.tally.units += action.weight / desk.load_max
        desk.tally.units_ms += live.remaining * action.weight / desk.load_max
        if live.counted:
            tally.assignments += 1
            if self.teams[live.item.team_id or 0].settings.channel(live.item.channel).mode == "assign":
                tally.offers += 1
        if live.answered_at is None:
            live.answered_at = now
            self._leave_queue(live)
            if live.counted:
                tally.waits.append(now - arrival.at)
                tally.handled_ms += arrival.handle_ms
                self._count_sticky(live, desk)
                if live.reply_ms is not None:
                    self._replied(live, now + live.reply_ms)
        live.rated_at, live.agent_id = now, action.agent_id
        live.pace += 1
        live.paced = False
        if self.attention is None or not self.attention.shares(live):
            live.rate = 1.0
            self.at(now + live.remaining, Event.END, live, live.pace)
        else:
            self.attention.changed(desk)

    def _end_assignment(self, live: Live, action: machine.EndAssignment) -> None:
        live.held = None
        self.desks.by_id[action.held.agent_id].items.discard(live.item.id)

    def _missed(self, _live: Live, action: machine.Missed) -> None:
        desk = self.desks.by_id[action.agent_id]
        desk.missed += 1
        self.desks.set_idle(desk, self.now)
        team = self.teams[_live.item.team_id or 0]
        if desk.missed >= team.settings.misses_to_break and desk.there:
            self.desks.set_presence(desk, Presence.BREAK, self.now)
            self.at(self.now + desk.agent.back_after_ms, Event.BACK, desk, desk.coming)

    def _served(self, _live: Live, action: machine.Served) -> None:
        desk = self.desks.by_id[action.agent_id]
        desk.missed = 0
        self.desks.set_idle(desk, self.now)

    def _wrap_up(self, live: Live, action: machine.WrapUp) -> None:
        self.desks.by_id[action.agent_id].wrapup_until = action.until
        self.at(action.until, Event.WRAP, live, live.version)

    def _disown(self, live: Live, action: machine.Disown) -> None:
        pass

    # --- what becomes due
    def _end(self, live: Live, stamp: int) -> None:
        held = live.held
        if held is None or live.item.state != ItemState.ASSIGNED or live.pace != stamp:
            return
        if live.counted and live.reply_ms is None:
            self._replied(live, self.now)
        live.remaining = 0
        self._feed(live, machine.Ended(held=(held,), cause="solved"))
        if not live.item.live:
            self.pull(self.desks.by_id[held.agent_id])

    def _wrapped(self, live: Live, stamp: int) -> None:
        held = live.held
        if held is None or live.item.state != ItemState.WRAPUP or live.version != stamp:
            return
        desk = self.desks.by_id[held.agent_id]
        desk.wrapup_until = None
        self._feed(live, machine.WrapupOver(held=(held,)))
        self.pull(desk)

    def _accept(self, live: Live, stamp: int) -> None:
        if (held := self._offer(live, stamp)) is not None:
            others = [o for o in live.offers.values() if o is not held]
            self._feed(live, machine.Accepted(offer=held, others=others))
            for other in others:
                self.pull(self.desks.by_id[other.agent_id])

    def _decline(self, live: Live, stamp: int) -> None:
        if (held := self._offer(live, stamp)) is not None:
            self._refuse(live, held, "declined")

    def _expire(self, live: Live, stamp: int) -> None:
        if (held := self._offer(live, stamp)) is not None:
            self._refuse(live, held, "expired")

    def _offer(self, live: Live, stamp: int) -> Holding | None:
        """The offer that this is about, if it is still open."""
        return live.offers.get(stamp)

    def _refuse(self, live: Live, held: Holding, how: str) -> None:
        settings = self.teams[live.item.team_id or 0].settings
        others = [o for o in live.offers.values() if o is not held]
        self._feed(live, machine.Refused(offer=held, how=how, broadcast=live.broadcast, others=others))
        if live.item.state == ItemState.WAITING:
            self._route(live)
        desk = self.desks.by_id[held.agent_id]
        if how != "revoked":
            # From then on he may be asked again; the product's poll of the lanes finds him.
            self.at(self.now + settings.exclude_ms, Event.POLL, desk, 0)
            self.pull(desk)

    def _abandon(self, live: Live, _stamp: int) -> None:
        if live.item.state not in QUEUED or live.answered_at is not None:
            return
        open_offers = tuple(live.offers.values())
        self._feed(live, machine.Ended(held=open_offers, cause="abandoned"))
        for offer in open_offers:
            self.pull(self.desks.by_id[offer.agent_id])

    def _step(self, live: Live, stamp: int) -> None:
        if live.item.state == ItemState.WAITING and live.version == stamp:
            self._route(live)

    def _wake(self, live: Live, stamp: int) -> None:
        if live.item.state in (ItemState.PARKED, ItemState.WAITING) and live.version == stamp:
            self._route(live)

    def _poll(self, desk: Desk, _stamp: int) -> None:
        if desk.there:
            self.pull(desk)

    # --- agents come and go: routing.presence
    def _plan_presence(self, desk: Desk) -> None:
        agent = desk.agent
        for start, end in agent.shifts:
            self.at(max(start, self.now), Event.MOVE, desk, _ONLINE)
            self.at(end, Event.MOVE, desk, _SHIFT_OVER)
        for move in agent.moves:
            self.at(move.at, Event.MOVE, desk, _MOVES[Presence(move.presence)])
        if not agent.shifts:
            self.desks.set_presence(desk, Presence.ONLINE, self.now)

    def _move(self, desk: Desk, code: int) -> None:
        if code == _ONLINE:
            self._come(desk)
            return
        presence = _PRESENCES[code]
        self.desks.set_presence(desk, presence, self.now)
        desk.coming += 1
        if self.attention is not None:
            self.attention.changed(desk)
        self._revoke_offers(desk)
        at_once = presence == Presence.AWAY_REASSIGN
        if code == _SHIFT_OVER:
            # He finishes the conversations he is in; what can wait is handed on, unless it was recorded so.
            if self.attention is not None:
                self._hand_on(desk, Channel.ASYNC, self.now)
        elif presence in (Presence.OFFLINE, Presence.AWAY_REASSIGN):
            self._hand_on(desk, Channel.CHAT, self.now + (0 if at_once else CHAT_GRACE_MS))
            if at_once:
                self._hand_on(desk, Channel.ASYNC, self.now)

    def _come(self, desk: Desk) -> None:
        if desk.there:
            return
        gone = desk.presence in (Presence.OFFLINE, Presence.AWAY_REASSIGN)
        desk.missed = 0
        self.desks.set_presence(desk, Presence.ONLINE, self.now)
        if gone:
            self.desks.set_idle(desk, self.now)
        if self.attention is not None:
            self.attention.changed(desk)
        self.pull(desk)

    def _back(self, desk: Desk, coming: int) -> None:
        if desk.presence == Presence.BREAK and desk.coming == coming:
            self._come(desk)

    def _revoke_offers(self, desk: Desk) -> None:
        for item_id in sorted(desk.items):
            live = self.lives[item_id]
            for offer in [o for o in live.offers.values() if o.agent_id == desk.id]:
                self._refuse(live, offer, "revoked")

    def _hand_on(self, desk: Desk, channel: str, when: int) -> None:
        for item_id in sorted(desk.items):
            live = self.lives[item_id]
            if live.item.channel == channel and live.item.state == ItemState.ASSIGNED:
                self.at(when, Event.LOST, live, live.version)

    def _lost(self, live: Live, stamp: int) -> None:
        held = live.held
        if held is None or live.item.state != ItemState.ASSIGNED or live.version != stamp:
            return
        desk = self.desks.by_id[held.agent_id]
        if desk.there:
            return
        if self.attention is None:
            live.remaining -= min(self.now - live.rated_at, live.remaining)
        else:
            self.attention.settle(live)
        self._feed(live, machine.Requeued(held=(held,), cause="agent_lost", sticky=desk.id))
        self._route(live)

    # --- counting
    def _leave_queue(self, live: Live) -> None:
        if not live.queues:
            return
        live.queues = False
        live.tally.lengthen(-1, self.now)
        waiting = self._waiting[live.key]
        del waiting[live.item.id]
        if live.counted and waiting and live.answered_at is not None:
            oldest = next(iter(waiting.values()))
            live.tally.overtaken_ms = max(live.tally.overtaken_ms, live.arrival.at - oldest)

    def _count_sticky(self, live: Live, desk: Desk) -> None:
        manager = self.desks.by_id.get(live.arrival.manager_id or 0)
        # Where he was on his shift when the contact came.
        if manager is not None and _on_shift(manager, live.arrival.at):
            live.tally.managed += 1
            live.tally.managed_hits += manager is desk

    def _replied(self, live: Live, when: int) -> None:
        due = live.arrival.due_at
        if due is not None and when > due and not live.breached:
            live.tally.breached += 1
            taken = live.answered_at
            live.tally.breached_unwaited += taken is not None and taken - live.arrival.at <= UNWAITED_MS
            live.breached = True

    def _over(self, live: Live) -> None:
        """The item ended: forget it, count it if nobody had it."""
        del self.lives[live.item.id]
        now, tally = self.now, live.tally
        if live.answered_at is None:
            self._leave_queue(live)
            if live.counted:
                if live.turned_away:
                    tally.offered -= 1
                    tally.queued -= 1
                    tally.blocked += 1
                    tally.promised -= live.arrival.due_at is not None
                else:
                    tally.abandoned += 1
                    tally.abandoned_after.append(now - live.arrival.at)
                    self._replied(live, now)
        if self.trace is not None:
            self.trace.append(live.story(now))

    def _open_window(self, now: int) -> None:
        self._window = (now, now)
        self.desks.restart_clocks(now)
        for tally in self.queues.values():
            tally.restart(now)

    def _close(self, _subject: None, _stamp: int) -> None:
        """The last contact has come: from now on nothing over time is measured any more."""
        self._closed = True
        start = self._window[0] if self._window is not None else self.now
        self._window = (start, self.now)
        self.desks.stop_clocks(self.now)
        self._agents = {i: replace(d.tally) for i, d in self.desks.by_id.items()}
        for tally in self.queues.values():
            tally.lengthen(0, self.now)
        self._areas = {k: (t.area, t.longest) for k, t in self.queues.items()}

    def _result(self) -> Result:
        for live in self.lives.values():
            if live.counted and live.answered_at is None:
                live.tally.unfinished += 1
            if live.counted and (live.answered_at is None or live.reply_ms is None):
                self._replied(live, self.now)
            if self.trace is not None:
                self.trace.append(live.story(None))
        for key, (area, longest) in self._areas.items():
            self.queues[key].area, self.queues[key].longest = area, longest
        return Result(
            scenario=self.scenario.name, seed=self.seed, queues=self.queues, agents=self._agents,
            agent_teams={a.id: a.teams for a in self.scenario.agents},
            window=self._window or (self.now, self.now), events=self.events,
            problems=tuple(self.watch.problems) if self.watch is not None else (),
            trace=tuple(self.trace or ()),
        )  # fmt: skip


_ONLINE, _SHIFT_OVER = 0, 1
_PRESENCES = {
    _SHIFT_OVER: Presence.OFFLINE, 2: Presence.OFFLINE, 3: Presence.BREAK, 4: Presence.DND,
    5: Presence.AWAY_REASSIGN,
}  # fmt: skip
_MOVES = {
    Presence.ONLINE: _ONLINE, Presence.OFFLINE: 2, Presence.BREAK: 3, Presence.DND: 4,
    Presence.AWAY_REASSIGN: 5,
}  # fmt: skip


def _content(wanted: Requirements) -> tuple[Any, ...]:
    return tuple(sorted(wanted.required.items())), tuple(sorted(wanted.preferred.items())), wanted.hard


def _on_shift(desk: Desk, at: int) -> bool:
    return not desk.agent.shifts or any(start <= at < end for start, end in desk.agent.shifts)
