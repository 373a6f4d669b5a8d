"""The present state played on: when what waits will be answered. Pure; runs in a process of its own if it is much.

Everybody comes to an artificial morning before the first request, takes what he has in hand now, pauses until now,
and goes on from there: so the simulator stands where the desk stands, with the same keys, rings and limits.
"""

from dataclasses import dataclass, field, replace

from crm_core.clock import MINUTE, SECOND
from routing.business_time import Calendar
from routing.calendar_spec import CalendarSpec
from routing.limits import limits_of
from routing.model import Item, Presence
from routing.reporting import percentile
from routing.settings import ChannelSettings, StepSettings, TeamSettings
from routing.simulator import Arrival, Move, Result, Scenario, ScenarioAgent, ScenarioTeam, run
from routing.simulator.laws import stream_random

Predicted = dict[int, tuple[float, int | None]]
"""By work item: the probability of missing its deadline, and when it will be answered (median; None: not by them)."""

#: the team of what agents have in hand already: outright, from one person to himself
_IN_HAND = 2**40
#: how long before the first request the artificial morning begins
_SHIFT_BACK_MS = 2 * MINUTE


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamNow:
    id: int
    name: str
    settings: TeamSettings
    calendar: CalendarSpec | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """`shifts` from now on, the first one running if he is online."""

    id: int
    name: str
    teams: frozenset[int]
    skills: dict[str, int] = field(default_factory=dict)
    capacity: dict[str, int] = field(default_factory=dict)
    online: bool = False
    shifts: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    item: Item
    aht_ms: int
    reply_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A place that an agent has in use. `left_ms`: for how long still, where that is known (wrap-up)."""

    agent_id: int
    channel: str
    team_id: int | None
    aht_ms: int = 0
    left_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Coming:
    """What is expected: (from, to, how many) each."""

    team_id: int
    channel: str
    aht_ms: int
    bins: tuple[tuple[int, int, float], ...]

    @property
    def arrivals(self) -> int:
        return round(sum(n for _, _, n in self.bins))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    now: int
    until: int
    teams: tuple[TeamNow, ...]
    people: tuple[Person, ...]
    waiting: tuple[Waiting, ...]
    held: tuple[Held, ...] = ()
    coming: tuple[Coming, ...] = ()


def predict(question: Outlook, seeds: int) -> Predicted:
    """Play on with `seeds` different futures."""
    answers: dict[int, list[int | None]] = {w.item.id: [] for w in question.waiting}
    for seed in range(1, seeds + 1):
        result = run(_scenario(question, seed), seed, trace=True)
        _collect(result, answers)
    found: Predicted = {}
    for w in question.waiting:
        replies = [None if t is None else max(t, question.now) + w.reply_ms for t in answers[w.item.id]]
        due = w.item.due_at
        missed = sum(1 for t in replies if t is None or (due is not None and t > due))
        known = sorted(t for t in replies if t is not None)
        # Where more than half of the futures have no answer, neither has the median.
        median = percentile(known, 50) if 2 * len(known) > len(replies) else None
        found[w.item.id] = (
            0.0 if due is None else missed / seeds,
            None if median is None else int(median),
        )
    return found


def _collect(result: Result, answers: dict[int, list[int | None]]) -> None:
    for story in result.trace:
        if story.ref is not None and story.ref in answers:
            answers[story.ref].append(story.answered_at)


def _scenario(question: Outlook, seed: int) -> Scenario:
    chance = stream_random(seed, "outlook")
    now = question.now
    morning = min([now, *(w.item.ready_at for w in question.waiting)]) - _SHIFT_BACK_MS
    there = {p.id for p in question.people if p.online}
    arrivals: list[Arrival] = []
    for h in question.held:
        if h.agent_id not in there:
            continue
        # Without memory: however long he has had it, it lasts as long again as a new one would.
        drawn = int(chance.expovariate(1.0) * h.aht_ms)
        left = drawn if h.left_ms is None else h.left_ms
        arrivals.append(
            Arrival(
                at=morning + SECOND, team_id=_IN_HAND, channel=h.channel, handle_ms=now - morning + left,
                manager_id=h.agent_id,
            )
        )  # fmt: skip
    for w in question.waiting:
        item = w.item
        arrivals.append(
            Arrival(
                at=item.ready_at, team_id=item.team_id or 0, channel=item.channel, kind=item.kind,
                handle_ms=int(chance.expovariate(1.0) * w.aht_ms), requirements=item.requirements,
                priority=item.priority, vip=item.vip, manager_id=item.directed_agent_id or item.manager_id,
                sticky_agent_id=item.sticky_agent_id, due_at=item.due_at, reply_ms=w.reply_ms, ref=item.id,
            )
        )  # fmt: skip
    for c in question.coming:
        for start, end, expected in c.bins:
            t = float(start)
            while expected > 0:
                t += chance.expovariate(expected / (end - start))
                if t >= end:
                    break
                arrivals.append(
                    Arrival(
                        at=int(t), team_id=c.team_id, channel=c.channel,
                        handle_ms=int(chance.expovariate(1.0) * c.aht_ms),
                    )
                )  # fmt: skip
    arrivals.sort(key=lambda a: a.at)
    return Scenario(
        name="outlook",
        teams=(*(_team(t) for t in question.teams), _in_hand()),
        agents=tuple(a for p in question.people if (a := _agent(p, question, morning)) is not None),
        starts_at=morning,
        ends_at=question.until,
        arrivals=arrivals,
    )


def _team(team: TeamNow) -> ScenarioTeam:
    calendar = None if team.calendar is None else Calendar(team.calendar)
    return ScenarioTeam(id=team.id, name=team.name, settings=team.settings, calendar=calendar)


def _in_hand() -> ScenarioTeam:
    """Gives everything at once to the person it is meant for."""
    base = TeamSettings()
    channels: dict[str, ChannelSettings] = {}
    for name, rules in base.channels.items():
        channels[name] = _outright(rules)
    steps = (StepSettings(scope="manager"), StepSettings(scope="required"))
    return ScenarioTeam(id=_IN_HAND, settings=replace(base, channels=channels, steps=steps))


def _outright(rules: ChannelSettings) -> ChannelSettings:
    return replace(rules, mode="assign", wrapup_ms=0, inactive_ms=None)


def _agent(person: Person, question: Outlook, morning: int) -> ScenarioAgent | None:
    shifts = person.shifts
    moves: tuple[Move, ...] = ()
    if person.online:
        if not shifts:
            return None
        shifts = ((morning, shifts[0][1]), *shifts[1:])
        moves = (
            Move(at=morning + 2 * SECOND, presence=Presence.BREAK),
            Move(at=question.now, presence=Presence.ONLINE),
        )
    if not shifts:
        return None
    mine = [t.settings for t in question.teams if t.id in person.teams]
    limits, _ = limits_of({"capacity": person.capacity}, mine)
    used: dict[str, int] = {}
    for h in question.held:
        if h.agent_id == person.id:
            used[h.channel] = used.get(h.channel, 0) + 1
    # Who was given more than his limit has it, and the simulator must find room for it.
    over = {c: n for c, n in used.items() if n > limits.get(c, 0)}
    return ScenarioAgent(
        id=person.id, name=person.name, teams=person.teams, skills=person.skills,
        capacity={**person.capacity, **over}, shifts=shifts, moves=moves,
    )  # fmt: skip
