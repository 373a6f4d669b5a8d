"""Who may serve: the hard filter, each failure with its reason code. Pure.

The same test runs when candidates are ranked, again inside the claim, and for the explanation of a waiting
item.
"""

from collections.abc import Iterable

from routing.model import AgentView, Item, LaneSpec, Presence, Reason
from routing.settings import ChannelSettings

_ONLINE = Presence.ONLINE.value
_ABSENT = {
    Presence.OFFLINE: Reason.OFFLINE,
    Presence.AWAY_REASSIGN: Reason.OFFLINE,
    Presence.BREAK: Reason.ON_BREAK,
    Presence.DND: Reason.DND,
    Presence.WRAPUP: Reason.WRAPUP,
}


def availability_failure(
    agent: AgentView, channel: str, weight: int, rules: ChannelSettings, now: int
) -> Reason | None:
    """The first reason why this agent can take nothing of this channel and weight now, or None."""
    if agent.presence != _ONLINE:
        return _ABSENT.get(Presence(agent.presence), Reason.OFFLINE)
    if not agent.routable or agent.lease_until is None or agent.lease_until <= now:
        return Reason.NO_LEASE
    slot = agent.slots.get(channel)
    if slot is None or slot.maximum == 0:
        return Reason.CHANNEL_OFF
    wrapping = agent.wrapup_until is not None and agent.wrapup_until > now
    if slot.used >= slot.maximum:
        return Reason.WRAPUP if wrapping else Reason.NO_CAPACITY
    if blocking_load(agent, rules) + weight > agent.load_max:
        return Reason.WRAPUP if wrapping else Reason.INTERRUPTED_BY_NOTHING
    return None


def blocking_load(agent: AgentView, rules: ChannelSettings) -> int:
    """The weight held in channels that a channel with these rules may not interrupt."""
    blocking, interrupts, up_to = 0, rules.interrupts, rules.interrupts_up_to
    for name, slot in agent.slots.items():
        if not (load := slot.load) or name in interrupts:
            continue
        blocking += load
        if up_to and slot.used > 0 and (free := up_to.get(name, 0)):
            blocking -= load * min(free, slot.used) // slot.used
    return blocking


def lane_failure(agent: AgentView, lanes: Iterable[LaneSpec]) -> Reason | None:
    """Why none of these lanes is his: the failure of the lane that he comes nearest to, or None."""
    nearest = Reason.NOT_IN_TEAM
    for lane in lanes:
        if lane.agent_id is not None:
            if lane.agent_id == agent.agent_id:
                return None
            continue
        if lane.team_id is not None and lane.team_id not in agent.teams:
            continue
        failure = skill_failure(agent, lane.requirements)
        if failure is None:
            return None
        nearest = failure
    return nearest


def lacking(agent: AgentView, lanes: Iterable[LaneSpec]) -> tuple[str, int | None, int] | None:
    """What stands behind a skill's failure of `lane_failure`: the skill, his level of it (None: none), the level
    asked for.
    """
    found: tuple[str, int | None, int] | None = None
    for lane in lanes:
        if lane.agent_id is not None or (lane.team_id is not None and lane.team_id not in agent.teams):
            continue
        for skill, level in lane.requirements:
            have = agent.skills.get(skill)
            if have is None or have < level:
                found = (skill, have, level)
                break
    return found


def skill_failure(agent: AgentView, requirements: Iterable[tuple[str, int]]) -> Reason | None:
    for skill, level in requirements:
        have = agent.skills.get(skill)
        if have is None:
            return Reason.SKILL_MISSING
        if have < level:
            return Reason.SKILL_LEVEL
    return None


def first_failure(
    item: Item, agent: AgentView, lanes: Iterable[LaneSpec], rules: ChannelSettings, now: int
) -> Reason | None:
    """The whole filter in its order, for an item that is in `lanes` now."""
    failure = availability_failure(agent, item.channel, rules.weight, rules, now) or lane_failure(
        agent, lanes
    )
    if failure is not None:
        return failure
    if item.excludes(agent.agent_id, now):
        return Reason.EXCLUDED_DECLINED
    if not agent.in_shift:
        return Reason.OUTSIDE_SHIFT
    return None
