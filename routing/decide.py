"""The decision, pure, from both sides: who gets an item, or why it waits (`place`); which of the waiting
items a free agent takes (`pick`).

The transactions of `routing.match`, the explanation of a waiting item and the simulator all call these.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b

from routing import ranking, steps
from routing.eligibility import availability_failure, lane_failure
from routing.model import AgentView, Channel, Item, Reason
from routing.ranking import Rank
from routing.settings import DEFAULTS, TeamSettings
from routing.steps import Step


@dataclass(frozen=True, slots=True)
class Hours:
    """Whether the team works now, and when it opens next."""

    is_open: bool = True
    next_open: int | None = None


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
    without end), or, with `park_until`, is not in the queue before that instant.
    """

    step: Step
    entered_at: int
    ranks: tuple[Rank, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    considered: int = 0
    next_step_at: int | None = None
    park_until: int | None = None
    park_reason: str | None = None
    left: tuple[Left, ...] = ()


def place(
    item: Item, settings: TeamSettings, agents: Sequence[AgentView], hours: Hours, now: int
) -> Placement:
    """Walk the item's steps from where it is until somebody is found or it has to wait."""
    plan = steps.plan(item, settings)
    no = min(item.step_no, len(plan) - 1)
    entered_at = item.step_entered_at
    if is_parked_by_hours(item, settings, hours):
        return Placement(
            step=plan[no], entered_at=entered_at, park_until=hours.next_open, park_reason="after_hours"
        )
    by_id = {a.agent_id: a for a in agents}
    left: list[Left] = []
    while True:
        step = plan[no]
        eligible, rejected = filtered(item, step, settings, agents, now)
        leave = steps.leave_at(plan, step, item, entered_at, agents=by_id, settings=settings, now=now)
        if eligible or leave is None:
            why = None
        elif leave <= now:
            why = "time" if not step.personal or (now > entered_at) else "away"
        else:
            empty = step.skip_if_empty and not step.personal and steps.is_empty(step, item, agents, now)
            why = "empty" if empty else None
        if why is None:
            return Placement(
                step=step,
                entered_at=entered_at,
                ranks=tuple(ranking.ranked(item, eligible, step.no)),
                rejected=tuple(rejected),
                considered=len(eligible) + len(rejected),
                next_step_at=None if eligible else leave,
                left=tuple(left),
            )
        left.append(Left(scope=step.scope, agent_id=step.agent_id, why=why))
        no += 1
        entered_at = now


def filtered(
    item: Item, step: Step, settings: TeamSettings, agents: Sequence[AgentView], now: int
) -> tuple[list[AgentView], list[Rejected]]:
    """The hard filter over all agents given. Membership of the step's lanes was decided when they were
    interned.
    """
    rules = settings.channel(item.channel)
    wanted = step.signatures
    eligible: list[AgentView] = []
    rejected: list[Rejected] = []
    for agent in agents:
        reason = availability_failure(agent, item.channel, rules.weight, rules, now)
        if reason is None and not agent.lanes & wanted:
            reason = lane_failure(agent, step.lanes) or Reason.NOT_IN_TEAM
        if reason is None and item.excludes(agent.agent_id, now):
            reason = Reason.EXCLUDED_DECLINED
        if reason is None and settings.enforce_shifts and not agent.in_shift:
            reason = Reason.OUTSIDE_SHIFT
        if reason is None:
            eligible.append(agent)
        else:
            rejected.append(Rejected(agent=agent, reason=reason))
    return eligible, rejected


def is_parked_by_hours(item: Item, settings: TeamSettings, hours: Hours) -> bool:
    """After hours an item waits for the opening, unless it is on call, promised for now, or meant for one
    person.

    A team that never opens again parks nothing: that would be losing it.
    """
    if hours.is_open or hours.next_open is None or settings.after_hours != "park":
        return False
    if item.directed_agent_id is not None or item.channel == Channel.CALLBACK:
        return False
    return not (item.priority in settings.on_call or (item.vip and settings.on_call_vip))


# --- an agent asks
# ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class TeamRules:
    """What a decision needs to know of a team: its settings, and whether it works now."""

    settings: TeamSettings = DEFAULTS
    hours: Hours = Hours()


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
    plan = steps.plan(chosen, teams[chosen.team_id].settings)
    return Pick(
        item=chosen,
        step=plan[min(chosen.step_no, len(plan) - 1)],
        turn=turn,
        behind=next((i for i in fit if i is not chosen), None),
        passed=tuple(passed),
    )


def pull_failure(agent: AgentView, head: Item, team: TeamRules, now: int) -> Reason | None:
    """Why this agent does not get an item of one of his lanes now, or None."""
    settings = team.settings
    rules = settings.channel(head.channel)
    reason = availability_failure(agent, head.channel, rules.weight, rules, now)
    if reason is not None:
        return reason
    if head.excludes(agent.agent_id, now):
        return Reason.EXCLUDED_DECLINED
    if settings.enforce_shifts and not agent.in_shift:
        return Reason.OUTSIDE_SHIFT
    return Reason.TEAM_CLOSED if is_parked_by_hours(head, settings, team.hours) else None


def asks_on_time(heads: Sequence[Item], teams: Mapping[int | None, TeamRules], now: int) -> bool:
    """Whether the choice may fall on the first item that is not late yet, which late ones may hide."""
    for head in heads:
        settings = teams[head.team_id].settings
        if settings.late_share < 1 and now - settings.max_overdue_ms <= head.order_key < now:
            return True
    return False


def _is_late(item: Item, now: int) -> bool:
    return item.order_key < now
