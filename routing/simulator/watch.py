"""Looks over a run's shoulder: the invariants of docs/simulation.md, checked at every change. For tests.

I1 what is in use is what is held, never above the maximum; I2 one open offer or one owner; I3 nobody gets what the
hard filter refuses; I4 nothing waits while somebody free may serve it; I5 nothing is overtaken beyond its key; I6
everything ends or has a future; I8 a decision asked again, in any order of agents, has the same winner.
"""

from typing import TYPE_CHECKING

from routing import decide, eligibility
from routing.model import ItemState, Reason
from routing.ranking import Rank
from routing.simulator.desks import Desk
from routing.simulator.live import Live
from routing.steps import Step

if TYPE_CHECKING:
    from routing.simulator.engine import Engine


class Watch:
    """Collects what is wrong, in words; a sound run has no `problems`."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.looks = 0

    def _say(self, engine: "Engine", what: str) -> None:
        if len(self.problems) < 50:
            self.problems.append(f"at {engine.now} ms: {what}")

    # --- at a decision
    def given(self, engine: "Engine", live: Live, desk: Desk, step: Step) -> None:
        """Just before an agent gets an item."""
        item, now = live.item, engine.now
        rules = engine.teams[item.team_id or 0].settings.channel(item.channel)
        reason = eligibility.first_failure(item, desk.view(), step.lanes, rules, now)
        if reason is not None:
            self._say(engine, f"I3: item {item.id} to agent {desk.id}: {reason}")
        if live.held is not None or live.offers:
            self._say(engine, f"I2: item {item.id} is held by {live.held or live.offers} already")

    def placed(self, engine: "Engine", live: Live, placement: decide.Placement, chosen: Rank) -> None:
        """An item found an agent; ask again with all agents, the other way round."""
        if engine.selector.sees_everybody:
            return
        item, now = live.item, engine.now
        team = engine.teams[item.team_id or 0]
        everybody = [d.view() for d in reversed(engine.desks.by_id.values())]
        again = decide.place(item, team.settings, everybody, team.rules(now).hours, now)
        # Scarcity is found apart; before it both must have found the same best ones.
        best = min(r.tuple[:4] for r in again.ranks) if again.ranks else None
        if again.step.no != placement.step.no or best != chosen.tuple[:4]:
            self._say(engine, f"I8: item {item.id}: {chosen.tuple} in step {placement.step.no}, again {best}")
        mine = [r for r in again.ranks if r.tuple[:4] == best and r.agent.agent_id != chosen.agent.agent_id]
        scarcity = engine.desks.scarcity(r.agent.agent_id for r in (*mine, chosen))
        wanted = min(
            ((scarcity[r.agent.agent_id], *r.tuple[5:]) for r in (*mine, chosen)),
            default=(),
        )  # fmt: skip
        if wanted != (scarcity[chosen.agent.agent_id], *chosen.tuple[5:]):
            self._say(
                engine, f"I8: item {item.id} to {chosen.agent.agent_id}, of all it would be {wanted[-1]}"
            )

    def picked(self, engine: "Engine", live: Live, desk: Desk, picked: decide.Pick) -> None:
        """An agent found an item."""
        item, now = live.item, engine.now
        if picked.turn in (decide.Turn.FIRST, decide.Turn.OVERDUE, decide.Turn.TOO_LATE):
            agent = desk.view()
            for lane in engine.desks.waiting_lanes(desk):
                for key, item_id in lane.entries:
                    if (key, item_id) >= (item.order_key, item.id):
                        break
                    other = engine.lives[item_id].item
                    team = engine.teams[other.team_id or 0]
                    if decide.pull_failure(agent, other, team.rules(now), now) is None:
                        self._say(engine, f"I5: {desk.id} took {item.id} before {item_id}")

    # --- between two instants
    def instant(self, engine: "Engine") -> None:
        """Everything that happens at this instant has happened."""
        self.looks += 1
        used: dict[tuple[int, str], tuple[int, int]] = {}
        for live in engine.lives.values():
            item, state = live.item, live.item.state
            holdings = [*live.offers.values(), *((live.held,) if live.held is not None else ())]
            offered, owned = state == ItemState.OFFERED, state in (ItemState.ASSIGNED, ItemState.WRAPUP)
            if offered != bool(live.offers) or owned != (live.held is not None):
                self._say(engine, f"I2: item {item.id} is {state} and held: {holdings}")
            if len(holdings) > 1 and not live.broadcast:
                self._say(engine, f"I2: item {item.id} is offered {len(holdings)} times at once")
            if len({h.agent_id for h in holdings}) != len(holdings):
                self._say(engine, f"I2: item {item.id} is offered to the same agent twice")
            for held in holdings:
                places, load = used.get((held.agent_id, held.channel), (0, 0))
                used[held.agent_id, held.channel] = (places + 1, load + held.weight)
                if held.assignment and item.owner_id != held.agent_id:
                    self._say(
                        engine, f"I2: item {item.id} is owned by {item.owner_id}, held by {held.agent_id}"
                    )
            if (state == ItemState.WAITING) != bool(live.lanes):
                self._say(engine, f"I6: item {item.id} is {state} in {len(live.lanes)} lanes")
            if state == ItemState.PARKED and (item.wake_at or 0) < engine.now:
                self._say(engine, f"I6: item {item.id} sleeps past {item.wake_at}")
            if item.next_step_at is not None and item.next_step_at < engine.now:
                self._say(engine, f"I6: item {item.id} missed its step at {item.next_step_at}")
        for desk in engine.desks.by_id.values():
            for channel, slot in desk.slots.items():
                if (slot.used, slot.load) != used.get((desk.id, channel), (0, 0)):
                    self._say(engine, f"I1: agent {desk.id} uses {slot} of {channel}")
                if slot.used > slot.maximum:
                    self._say(engine, f"I1: agent {desk.id} is over his limit of {channel}")
            if desk.there:
                self._conserves(engine, desk)

    def _conserves(self, engine: "Engine", desk: Desk) -> None:
        agent, now = desk.view(), engine.now
        for lane in engine.desks.waiting_lanes(desk):
            for _, item_id in lane.entries:
                item = engine.lives[item_id].item
                team = engine.teams[item.team_id or 0]
                reason = decide.pull_failure(agent, item, team.rules(now), now)
                if reason is None:
                    self._say(engine, f"I4: item {item_id} waits while agent {desk.id} is free")
                if reason not in (None, Reason.EXCLUDED_DECLINED, Reason.TEAM_CLOSED):
                    break

    def end(self, engine: "Engine") -> None:
        """The run is over."""
        self.instant(engine)
        for live in engine.lives.values():
            if live.item.state in (ItemState.ASSIGNED, ItemState.OFFERED, ItemState.WRAPUP):
                self._say(engine, f"I6: item {live.item.id} ended its run as {live.item.state}")
