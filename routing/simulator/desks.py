"""Agents of a simulation: what the tables agent_state, agent_slot, agent_lane and lane hold, in memory.

Agents who cannot be told apart (same teams, skills and limits, same use of them) stand in one row, the longest idle
first: to a decision only the first of a row matters, because ranking comes to idle time last. That is how a
decision among 110 equal agents costs as much as one among two, and finds the same winner.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from routing.eligibility import skill_failure
from routing.limits import limits_of
from routing.model import AgentView, Channel, Item, LaneSpec, Presence, Slot
from routing.settings import TeamSettings
from routing.simulator.measure import AgentTally
from routing.simulator.scenario import ScenarioAgent

#: leases do not lapse by themselves here: a lost connection is a move of the scenario
FOREVER = 2**62


@dataclass(slots=True, eq=False)
class Group:
    """Agents with the same teams, skills and limits.

    `rows`: those who are there, by what they have in use, as (idle since, id) in order. `serves`: their lanes.
    """

    teams: frozenset[int]
    skills: Mapping[str, int]
    members: "list[Desk]" = field(default_factory=list)
    rows: dict[tuple[int, ...], list[tuple[int, int]]] = field(default_factory=dict)
    serves: "list[Lane]" = field(default_factory=list)
    present: int = 0


@dataclass(slots=True, eq=False)
class Lane:
    """An interned lane: who waits in it, (order key, item id) in order, and who may serve it."""

    spec: LaneSpec
    signature: str
    entries: list[tuple[int, int]] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    #: how many of those who may serve it are there now
    present: int = 0

    def enter(self, entry: tuple[int, int]) -> None:
        insort(self.entries, entry)

    def leave(self, entry: tuple[int, int]) -> None:
        i = bisect_left(self.entries, entry)
        if i >= len(self.entries) or self.entries[i] != entry:
            raise RuntimeError(f"item {entry[1]} is not in lane {self.signature}")
        del self.entries[i]


@dataclass(slots=True, eq=False)
class Desk:
    """One agent's state. `personal`: the lanes that are his alone."""

    agent: ScenarioAgent
    group: Group
    slots: dict[str, Slot]
    load_max: int
    tally: AgentTally = field(default_factory=AgentTally)
    presence: str = Presence.OFFLINE
    idle_since: int = 0
    load_used: int = 0
    missed: int = 0
    wrapup_until: int | None = None
    personal: list[Lane] = field(default_factory=list)
    #: items he has in hand or is offered
    items: set[int] = field(default_factory=set)
    #: counts his comings and goings, so that what was due for an earlier one is known as such
    coming: int = 0
    _row: tuple[int, ...] | None = None
    _view: AgentView | None = None
    _lanes: frozenset[str] | None = None

    @property
    def id(self) -> int:
        return self.agent.id

    @property
    def there(self) -> bool:
        return self.presence == Presence.ONLINE

    def view(self) -> AgentView:
        """Him as a decision sees him."""
        found = self._view
        if found is None:
            lanes = self._lanes
            if lanes is None:
                lanes = frozenset(lane.signature for lane in (*self.group.serves, *self.personal))
                self._lanes = lanes
            there = self.there
            found = self._view = AgentView(
                agent_id=self.agent.id, name=self.agent.name, presence=self.presence, routable=there,
                lease_until=FOREVER if there else None, wrapup_until=self.wrapup_until,
                idle_since=self.idle_since, load_used=self.load_used, load_max=self.load_max,
                slots=dict(self.slots), skills=self.agent.skills, teams=self.agent.teams, lanes=lanes,
            )  # fmt: skip
        return found


class Desks:
    """All agents, and the lanes they serve."""

    def __init__(self, agents: Iterable[ScenarioAgent], settings: Mapping[int, TeamSettings]) -> None:
        self.by_id: dict[int, Desk] = {}
        self.lanes: dict[LaneSpec, Lane] = {}
        self.groups: list[Group] = []
        self._moved: set[int] = set()
        known: dict[object, Group] = {}
        for agent in agents:
            limits, load_max = limits_of(
                {"capacity": agent.capacity}, [settings[t] for t in sorted(agent.teams) if t in settings]
            )
            profile = (
                agent.teams, tuple(sorted(agent.skills.items())), tuple(sorted(limits.items())), load_max
            )  # fmt: skip
            group = known.get(profile)
            if group is None:
                group = known[profile] = Group(teams=agent.teams, skills=agent.skills)
                self.groups.append(group)
            desk = Desk(agent, group, {c.value: Slot(limits[c]) for c in Channel}, load_max)
            group.members.append(desk)
            self.by_id[agent.id] = desk

    # --- lanes
    def intern(self, spec: LaneSpec) -> Lane:
        """The lane of this signature, made and filled if it is new."""
        lane = self.lanes.get(spec)
        if lane is not None:
            return lane
        lane = self.lanes[spec] = Lane(spec, spec.signature)
        if spec.agent_id is not None:
            owner = self.by_id.get(spec.agent_id)
            if owner is not None:
                owner.personal.append(lane)
                owner._view = owner._lanes = None  # noqa: SLF001 - his store
            return lane
        for group in self.groups:
            if spec.team_id is not None and spec.team_id not in group.teams:
                continue
            if skill_failure(group.members[0].view(), spec.requirements) is None:
                lane.groups.append(group)
                lane.present += group.present
                group.serves.append(lane)
                for desk in group.members:
                    desk._view = desk._lanes = None  # noqa: SLF001 - their store
        return lane

    def candidates(self, lanes: Sequence[Lane], also: Iterable[int], item: Item, now: int) -> list[AgentView]:
        """Whom a decision about the item must see: of each row of those who are there the first who is not
        excluded, and those in `also` whatever their presence.
        """
        self._settle()
        found: dict[int, AgentView] = {}
        for agent_id in also:
            desk = self.by_id.get(agent_id)
            if desk is not None:
                found[agent_id] = desk.view()
        excluded = item.excluded
        by_id = self.by_id
        seen: set[int] = set()
        for lane in lanes:
            for group in lane.groups:
                if id(group) in seen:
                    continue
                seen.add(id(group))
                for row in group.rows.values():
                    for _, agent_id in row:
                        if not excluded or not item.excludes(agent_id, now):
                            if agent_id not in found:
                                found[agent_id] = by_id[agent_id].view()
                            break
        return list(found.values())

    def everybody(self, lanes: Sequence[Lane], also: Iterable[int] = ()) -> list[AgentView]:
        """All who are there in these lanes, and those in `also` whatever their presence, by id."""
        self._settle()
        found = {i: self.by_id[i].view() for i in also if i in self.by_id}
        for lane in lanes:
            for group in lane.groups:
                for row in group.rows.values():
                    for _, agent_id in row:
                        found[agent_id] = self.by_id[agent_id].view()
        return [found[i] for i in sorted(found)]

    def scarcity(self, agent_ids: Iterable[int]) -> dict[int, int]:
        """For each agent the number of shared lanes that nobody else who is there serves."""
        found = {}
        for agent_id in agent_ids:
            group = self.by_id[agent_id].group
            found[agent_id] = 0 if group.present > 1 else sum(lane.present <= 1 for lane in group.serves)
        return found

    def waiting_lanes(self, desk: Desk) -> Iterator[Lane]:
        """His lanes in which somebody waits."""
        for lane in desk.group.serves:
            if lane.entries:
                yield lane
        for lane in desk.personal:
            if lane.entries:
                yield lane

    # --- agents
    def set_presence(self, desk: Desk, presence: str, now: int) -> None:
        self._clock(desk, now)
        was, desk.presence = desk.there, presence
        by = desk.there - was
        if by:
            desk.coming += 1
            desk.group.present += by
            for lane in desk.group.serves:
                lane.present += by
        self._stand(desk)

    def set_idle(self, desk: Desk, now: int) -> None:
        """He got something, or missed it: he is the last in line."""
        desk.idle_since = now
        self._stand(desk)

    def hold(self, desk: Desk, channel: str, weight: int, now: int) -> None:
        self._use(desk, channel, 1, weight, now)

    def release(self, desk: Desk, channel: str, weight: int, now: int) -> None:
        self._use(desk, channel, -1, -weight, now)

    def _use(self, desk: Desk, channel: str, places: int, weight: int, now: int) -> None:
        self._clock(desk, now)
        slot = desk.slots[channel]
        used = slot.used + places
        desk.slots[channel] = Slot(slot.maximum, used, slot.load + weight)
        desk.load_used += weight
        if used > slot.maximum or used < 0:
            desk.tally.over_limit += 1
        self._stand(desk)

    def _stand(self, desk: Desk) -> None:
        """He belongs to another row or place now; he is moved when somebody looks at the rows."""
        desk._view = None  # noqa: SLF001 - his store
        self._moved.add(desk.agent.id)

    def _settle(self) -> None:
        for agent_id in self._moved:
            self._move(self.by_id[agent_id])
        self._moved.clear()

    def _move(self, desk: Desk) -> None:
        old = desk._row  # noqa: SLF001 - his store
        rows = desk.group.rows
        if old is not None:
            row = rows[old[:-1]]
            if len(row) == 1:
                del rows[old[:-1]]
            else:
                del row[bisect_left(row, (old[-1], desk.agent.id))]
        if not desk.there:
            desk._row = None  # noqa: SLF001
            return
        key = tuple([n for slot in desk.slots.values() for n in (slot.used, slot.load)])
        row_of = rows.get(key)
        if row_of is None:
            rows[key] = [(desk.idle_since, desk.agent.id)]
        else:
            insort(row_of, (desk.idle_since, desk.agent.id))
        desk._row = (*key, desk.idle_since)  # noqa: SLF001

    def _clock(self, desk: Desk, now: int) -> None:
        """Count the time since the last change as what it was."""
        tally = desk.tally
        span = now - tally.since
        if span <= 0:
            return
        tally.since = now
        if desk.load_used > 0:
            tally.busy_ms += span
            tally.load_ms += span * desk.load_used
            tally.present_ms += span
            tally.room_ms += span * desk.load_max
        elif desk.there:
            tally.present_ms += span
            tally.room_ms += span * desk.load_max

    def restart_clocks(self, now: int) -> None:
        for desk in self.by_id.values():
            desk.tally = AgentTally(since=now)

    def stop_clocks(self, now: int) -> None:
        for desk in self.by_id.values():
            self._clock(desk, now)
