"""The decision: given an item and the agents that could be asked, who gets it, or why it waits. Pure.

The transactions of `routing.match`, the explanation of a waiting item and a simulator all call `place`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from routing import ranking, steps
from routing.eligibility import availability_failure, lane_failure
from routing.model import AgentView, Channel, Item, Reason
from routing.ranking import Rank
from routing.settings import TeamSettings
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
