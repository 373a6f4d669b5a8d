"""The decision, pure, from both sides: who gets an item, or why it waits (`place`); which of the waiting
items a free agent takes (`pick`).

The transactions of `routing.match`, the explanation of a waiting item and the simulator all call these.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import blake2b

from routing import ranking, steps
from routing.business_time import Calendar
from routing.eligibility import availability_failure, lane_failure
from routing.model import AgentView, Item, ItemState, Reason
from routing.ranking import Rank
from routing.settings import DEFAULTS, TeamSettings
from routing.steps import Step


@dataclass(frozen=True, slots=True)
class Hours:
    """Whether the team works now, when it opens next, and, if that makes a difference, when it closes."""

    is_open: bool = True
    next_open: int | None = None
    next_close: int | None = None


def hours_of(calendar: Calendar | None, settings: TeamSettings, now: int) -> Hours:
    """A team's hours as its decisions need them."""
    if calendar is None:
        return Hours()
    if not calendar.is_open(now):
        return Hours(is_open=False, next_open=calendar.next_open(now))
    matters = settings.after_hours == "park" or settings.on_call_team is not None
    return Hours(next_close=calendar.next_close(now)) if matters else Hours()


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLoad:
    """How busy a team is in a channel: who waits (counted to a limit), places of those who are there, and the
    usual time for one.
    """

    waiting: int
    places: int
    handle_ms: int

    @property
    def expected_ms(self) -> float:
        """A rough wait, good for comparing teams with each other."""
        return self.waiting * self.handle_ms / self.places if self.places > 0 else math.inf


Loads = Mapping[int | None, QueueLoad]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    agent: AgentView
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A step that the item went past in this decision, and why: time, empty."""

    scope: str
    agent_id: int | None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What `place` found.

    `ranks` best first; empty means that the item waits in `step` until `next_step_at` at the longest (None:
    without end) and is looked at again when its team closes (`closes_at`), or, with `park_until`, is not in the queue
    before that instant. `broadcast`: so many of them are asked at once, 0: the best alone.
    """

    step: Step
    entered_at: int
    ranks: tuple[Rank, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    considered: int = 0
    next_step_at: int | None = None
    closes_at: int | None = None
    park_until: int | None = None
    park_reason: str | None = None
    left: tuple[Left, ...] = ()
    broadcast: int = 0


def place(
    item: Item,
    settings: TeamSettings,
    agents: Sequence[AgentView],
    hours: Hours,
    now: int,
    *,
    loads: Loads | None = None,
) -> Placement:
    """Walk the item's steps from where it is until somebody is found or it has to wait.

    `loads`: of the item's team and the others that are asked in its last step; without them these are asked
    whatever they have to do. `asks_loads` says when they are needed.
    """
    plan = steps.plan(item, settings)
    no = min(item.step_no, len(plan) - 1)
    # What was parked comes into its ring now.
    entered_at = now if item.state == ItemState.PARKED else item.step_entered_at
    if is_parked_by_hours(item, settings, hours):
        return Placement(
            step=plan[no], entered_at=entered_at, park_until=hours.next_open, park_reason="after_hours"
        )
    by_id = {a.agent_id: a for a in agents} if any(s.personal for s in plan) else {}
    left: list[Left] = []
    while True:
        step = plan[no]
        eligible, rejected = filtered(item, step, settings, agents, now, loads=loads)
        leave = steps.leave_at(plan, step, item, entered_at, agents=by_id, settings=settings, now=now)
        if eligible or leave is None:
            why = None
        elif leave <= now:
            why = "time" if not step.personal or (now > entered_at) else "away"
        else:
            empty = step.skip_if_empty and not step.personal and steps.is_empty(step, item, agents, now)
            why = "empty" if empty else None
        if why is None:
            closes = hours.next_close if item.directed_agent_id is None else None
            if closes is not None and not settings.rests_when_closed(item.channel, item.priority, item.vip):
                if settings.on_call_team is not None and settings.serves_at_night(item.priority, item.vip):
                    # Whoever is on call then is asked too, without waiting for another ring.
                    leave = closes if leave is None else min(leave, closes)
                closes = None
            ranks = tuple(ranking.ranked(item, eligible, step.no, steady=steps.asks_steady(item, settings)))
            return Placement(
                step=step,
                entered_at=entered_at,
                ranks=ranks,
                broadcast=broadcast_size(item, step, settings, len(ranks), now),
                rejected=tuple(rejected),
                considered=len(eligible) + len(rejected),
                next_step_at=leave,
                closes_at=closes,
                left=tuple(left),
            )
        left.append(Left(scope=step.scope, agent_id=step.agent_id, why=why))
        no += 1
        entered_at = now


def filtered(
    item: Item,
    step: Step,
    settings: TeamSettings,
    agents: Sequence[AgentView],
    now: int,
    *,
    loads: Loads | None = None,
) -> tuple[list[AgentView], list[Rejected]]:
    """The hard filter over all agents given. Membership of the step's lanes was decided when they were
    interned.
    """
    channel = item.channel
    rules = settings.channel(channel)
    weight, wanted = rules.weight, step.signatures
    longer = _lanes_of_longer_waits(item, step, settings, loads)
    #: whether anything can be between one agent and this item; mostly nothing is
    personal = bool(item.excluded) or settings.enforce_shifts or item.kind == "lead"
    eligible: list[AgentView] = []
    rejected: list[Rejected] = []
    for agent in agents:
        reason = availability_failure(agent, channel, weight, rules, now)
        if reason is None:
            mine = agent.lanes & wanted
            if not mine:
                reason = lane_failure(agent, step.lanes) or Reason.NOT_IN_TEAM
            elif longer and mine <= longer:
                reason = Reason.OVERFLOW_NOT_SHORTER
        if reason is None and personal:
            reason = personal_failure(item, agent, settings, now)
        if reason is None:
            eligible.append(agent)
        else:
            rejected.append(Rejected(agent=agent, reason=reason))
    return eligible, rejected


def personal_failure(item: Item, agent: AgentView, settings: TeamSettings, now: int) -> Reason | None:
    """What is between this item and this agent, whatever his lanes and his places."""
    if item.excludes(agent.agent_id, now):
        return Reason.EXCLUDED_DECLINED
    if settings.enforce_shifts and not agent.in_shift:
        return Reason.OUTSIDE_SHIFT
    stand = agent.leads.get(item.team_id) if item.kind == "lead" else None
    return Reason.LEAD_CAP if stand is not None and stand.capped else None


def agent_failure(item: Item, agent: AgentView, settings: TeamSettings, now: int) -> Reason | None:
    """Why this agent could not take the item now, whatever lanes he is in."""
    rules = settings.channel(item.channel)
    failure = availability_failure(agent, item.channel, rules.weight, rules, now)
    return failure or personal_failure(item, agent, settings, now)


def broadcast_size(item: Item, step: Step, settings: TeamSettings, found: int, now: int) -> int:
    """How many agents are asked at once; 0: one, as usual.

    What is assigned outright already belongs to somebody the moment anybody can take it, so only a step of
    the SLA that asks for it makes several compete for it.
    """
    if found < 2 or not wants_several(item, step, settings, now):
        return 0
    return min(settings.broadcast.size(item.broadcasts), found)


def wants_several(item: Item, step: Step, settings: TeamSettings, now: int) -> bool:
    """Whether several are to be asked at once, if there are several."""
    rules = settings.broadcast
    late = rules.when == "overdue" and settings.channel(item.channel).mode == "offer"
    wanted = item.broadcast_asked or (late and steps.target_at(item) < now)
    return wanted and rules.when != "never" and not step.personal


def asks_loads(item: Item, placement: Placement, settings: TeamSettings) -> bool:
    """Whether who was found is of another team that may be asked only where its wait is shorter."""
    others = _overflow_lanes(item, placement.step, settings)
    return bool(others) and any(r.agent.lanes & others.keys() for r in placement.ranks)


def _overflow_lanes(item: Item, step: Step, settings: TeamSettings) -> dict[str, int]:
    """Signature and team of the step's lanes that are of other teams and need a reason to be asked."""
    if settings.overflow_when == "always" or step.scope != "overflow":
        return {}
    always = {item.team_id, *item.added_teams, *({settings.on_call_team} if item.on_call else ())}
    return {
        lane.signature: lane.team_id
        for lane in step.lanes
        if lane.agent_id is None and lane.team_id is not None and lane.team_id not in always
    }


def _lanes_of_longer_waits(
    item: Item, step: Step, settings: TeamSettings, loads: Loads | None
) -> frozenset[str]:
    home = None if loads is None else loads.get(item.team_id)
    if loads is None or home is None:
        return frozenset()
    # At home at least this item itself is before him.
    here = replace(home, waiting=max(home.waiting, 1)).expected_ms
    return frozenset(
        signature
        for signature, team_id in _overflow_lanes(item, step, settings).items()
        if (load := loads.get(team_id)) is None or load.expected_ms >= here
    )


def is_on_call(item: Item, settings: TeamSettings, hours: Hours) -> bool:
    """Whether the item is served although its team is closed: an urgent one, or of a VIP, if the team says so.
    Kept with the item until it opens, because its rings then have the on-call team, too.
    """
    return not hours.is_open and settings.serves_at_night(item.priority, item.vip)


def is_parked_by_hours(item: Item, settings: TeamSettings, hours: Hours) -> bool:
    """After hours an item waits for the opening, unless it is on call, promised for now, or meant for one
    person.

    A team that never opens again parks nothing: that would be losing it.
    """
    if hours.is_open or hours.next_open is None or item.directed_agent_id is not None:
        return False
    return settings.rests_when_closed(item.channel, item.priority, item.vip)


# --- an agent asks
# ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class TeamRules:
    """What a decision needs to know of a team: its settings, whether it works now, and, for its overflow, how
    busy it and the others are in each channel that is asked about.
    """

    settings: TeamSettings = DEFAULTS
    hours: Hours = Hours()
    loads: Mapping[str, Loads] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedHead:
    """An item that came before the one taken, and why this agent does not get it."""

    item_id: int
    reason: Reason


class Turn(StrEnum):
    """By which rule an item was the next one."""

    FIRST = "first"  # the smallest key
    OVERDUE = "overdue"  # late, and the late ones' turn
    TOO_LATE = "too_late"  # late beyond `max_overdue`: always first
    ON_TIME = "on_time"  # the late ones' share is spent on others: the first that can still be kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """What `pick` found: `item` with its `step`, or None. `behind`: what he would have got without it."""

    item: Item | None = None
    step: Step | None = None
    turn: Turn = Turn.FIRST
    behind: Item | None = None
    passed: tuple[PassedHead, ...] = ()


Draw = Callable[[int, Item, Item], float]
"""`(agent_id, late item, item in time) -> [0, 1)`: whose turn it is."""


def hashed_draw(agent_id: int, late: Item, fresh: Item) -> float:
    """A fair draw that the same decision always repeats, so that replaying it finds the same winner.

    Both items are in it: who passed a late one for one still in time draws anew for the next.
    """
    text = f"{agent_id}:{late.id}.{late.version}:{fresh.id}.{fresh.version}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) / 2**64


def pick(
    agent: AgentView,
    heads: Sequence[Item],
    teams: Mapping[int | None, TeamRules],
    now: int,
    *,
    without: Collection[int] = (),
    draw: Draw = hashed_draw,
) -> Pick:
    """Which of the items at the front of his lanes a free agent takes.

    Args:
        heads: the first items of the lanes that he serves, by (order_key, id); where `asks_on_time` says so,
            also the first ones that are not late yet.
        teams: the rules of every team among the heads.
        without: items that were tried before and lost.
        draw: for `late_share`.
    """
    passed: list[PassedHead] = []
    fit: list[Item] = []
    for head in heads:
        if head.id in without:
            continue
        reason = pull_failure(agent, head, teams[head.team_id], now)
        if reason is None:
            fit.append(head)
        elif not fit:
            passed.append(PassedHead(item_id=head.id, reason=reason))
    if not fit:
        return Pick(passed=tuple(passed))
    chosen, turn = fit[0], Turn.FIRST
    if _is_late(chosen, now):
        settings = teams[chosen.team_id].settings
        fresh = next((i for i in fit if not _is_late(i, now)), None)
        if fresh is not None and settings.late_share < 1:
            if chosen.order_key < now - settings.max_overdue_ms:
                turn = Turn.TOO_LATE
            elif draw(agent.agent_id, chosen, fresh) < settings.late_share:
                turn = Turn.OVERDUE
            else:
                chosen, turn = fresh, Turn.ON_TIME
    return Pick(
        item=chosen,
        step=_step_of(chosen, teams[chosen.team_id].settings),
        turn=turn,
        behind=next((i for i in fit if i is not chosen), None),
        passed=tuple(passed),
    )


def pull_failure(agent: AgentView, head: Item, team: TeamRules, now: int) -> Reason | None:
    """Why this agent does not get an item of one of his lanes now, or None."""
    settings = team.settings
    reason = agent_failure(head, agent, settings, now)
    if reason is not None:
        return reason
    if is_parked_by_hours(head, settings, team.hours):
        return Reason.TEAM_CLOSED
    loads = None if team.loads is None else team.loads.get(head.channel)
    if loads is not None and agent.teams and head.team_id not in agent.teams:
        step = _step_of(head, settings)
        longer = _lanes_of_longer_waits(head, step, settings, loads)
        mine = {s.signature for s in step.lanes if s.agent_id == agent.agent_id or s.team_id in agent.teams}
        if mine and mine <= longer:
            return Reason.OVERFLOW_NOT_SHORTER
    return None


def overflow_teams_of(
    heads: Sequence[Item], teams: Mapping[int | None, TeamRules]
) -> dict[tuple[int | None, str], set[int]]:
    """Whose loads a choice between these heads needs: for each team and channel with an item that others may be asked
    for, these others.
    """
    found: dict[tuple[int | None, str], set[int]] = {}
    for head in heads:
        settings = teams[head.team_id].settings
        if settings.overflow and settings.overflow_when != "always":
            others = _overflow_lanes(head, _step_of(head, settings), settings).values()
            if others:
                found.setdefault((head.team_id, head.channel), set()).update(others)
    return found


def _step_of(item: Item, settings: TeamSettings) -> Step:
    plan = steps.plan(item, settings)
    return plan[min(item.step_no, len(plan) - 1)]


def asks_on_time(heads: Sequence[Item], teams: Mapping[int | None, TeamRules], now: int) -> bool:
    """Whether the choice may fall on the first item that is not late yet, which late ones may hide."""
    for head in heads:
        settings = teams[head.team_id].settings
        if settings.late_share < 1 and now - settings.max_overdue_ms <= head.order_key < now:
            return True
    return False


def _is_late(item: Item, now: int) -> bool:
    return item.order_key < now
