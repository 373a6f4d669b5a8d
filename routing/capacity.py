"""An agent's capacity: the rows, their limits, taking by compare-and-set, giving back.

The row of agent_state is the mutex of an agent's capacity: every change locks it first. Lock order
everywhere is inquiry, conversation, item, then agents by id; who would have to lock against that order
skips instead of waiting.
"""

from collections.abc import Iterable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import case, func, select, update

from crm_core.db.uow import Row, UnitOfWork
from crm_core.errors import NotFound
from crm_core.schema import agent, team, team_member
from routing.limits import limits_of
from routing.model import Presence, Reason
from routing.schema import agent_lane, agent_slot, agent_state
from routing.settings import DEFAULTS, ChannelSettings, read

#: agents whose rows a transaction has locked, so that it knows whether it may wait for another
_locked: "WeakKeyDictionary[UnitOfWork, set[int]]" = WeakKeyDictionary()

#: the lease that a presence signal gives, and how old it must be to be written again
LEASE_MS = 45_000
RENEW_MS = 15_000


async def ensure(uow: UnitOfWork, agent_id: int) -> None:
    """Make the agent's rows if he has none, offline. Raises NotFound for an unknown agent."""
    made = await uow.insert_new(
        agent_state,
        {
            "agent_id": agent_id, "presence": Presence.OFFLINE, "reason": None, "since": uow.now,
            "lease_until": None, "routable": False, "idle_since": uow.now, "missed_offers": 0, "load_used": 0,
            "load_max": DEFAULTS.load_max, "wrapup_until": None,
        },
        key=["agent_id"],
    )  # fmt: skip
    if made is not None:
        await refresh_limits(uow, agent_id)


async def refresh_limits(uow: UnitOfWork, agent_id: int) -> None:
    """Write the maxima of the agent's slots from his own settings, else his teams', else the defaults.

    `agent.settings.capacity` is `{"voice": 1, "chat": 4, …, "load_max": 100}`. What is in use stays.
    """
    person = await uow.row(select(agent.c.settings).where(agent.c.id == agent_id))
    if person is None:
        raise NotFound(f"no agent {agent_id}", params={"agent_id": agent_id})
    teams = await uow.rows(
        select(team.c.settings)
        .join(team_member, team_member.c.team_id == team.c.id)
        .where(team_member.c.agent_id == agent_id, team.c.active)
        .order_by(team.c.id)
    )
    limits, load_max = limits_of(person["settings"], [read(t["settings"])[0] for t in teams])
    await lock(uow, [agent_id])
    for channel, maximum in limits.items():
        result = await uow.execute(
            update(agent_slot)
            .where(agent_slot.c.agent_id == agent_id, agent_slot.c.channel == channel)
            .values(max=maximum)
        )
        if result.rowcount == 0:
            await uow.insert_new(
                agent_slot,
                {"agent_id": agent_id, "channel": channel, "max": maximum, "used": 0, "load": 0},
                key=["agent_id", "channel"],
            )
    await uow.execute(update(agent_state).where(agent_state.c.agent_id == agent_id).values(load_max=load_max))


async def lock(uow: UnitOfWork, agent_ids: Iterable[int]) -> dict[int, Row]:
    """Lock agents' rows in ascending order, waiting for them. Missing ones are left out."""
    wanted = sorted(set(agent_ids))
    if not wanted:
        return {}
    rows = await uow.rows(
        uow.lock(
            select(agent_state).where(agent_state.c.agent_id.in_(wanted)).order_by(agent_state.c.agent_id)
        )
    )
    _locked.setdefault(uow, set()).update(r["agent_id"] for r in rows)
    return {r["agent_id"]: r for r in rows}


async def hold(
    uow: UnitOfWork, agent_id: int, channel: str, rules: ChannelSettings, *, lanes: Sequence[int] = ()
) -> Reason | None:
    """Take one place and its weight if the agent may have it now, by compare-and-set.

    `lanes`: ids of the item's lanes; the agent must be in one of them at this very moment.

    Returns:
        None when it is taken, else the reason why not; nothing is changed then.
    """
    mine = _locked.setdefault(uow, set())
    may_wait = agent_id in mine or not mine or agent_id > max(mine)
    state = await uow.row(
        uow.lock(select(agent_state).where(agent_state.c.agent_id == agent_id), skip_locked=not may_wait)
    )
    if state is None:
        return Reason.ITEM_LOCKED if not may_wait else Reason.OFFLINE
    mine.add(agent_id)
    if state["presence"] != Presence.ONLINE:
        return Reason.OFFLINE
    if not state["routable"] or (state["lease_until"] or 0) <= uow.now:
        return Reason.NO_LEASE
    # The mutex is ours, so what this statement reads about the agent cannot change any more.
    blocking = select(func.coalesce(func.sum(blocking_load(rules)), 0)).where(
        agent_slot.c.agent_id == agent_id, agent_slot.c.channel.not_in(sorted(rules.interrupts))
    )
    conditions = [
        agent_slot.c.agent_id == agent_id,
        agent_slot.c.channel == channel,
        agent_slot.c.used < agent_slot.c.max,
        blocking.correlate(None).scalar_subquery() + rules.weight <= state["load_max"],
    ]
    if lanes:
        conditions.append(
            select(agent_lane.c.lane_id)
            .where(agent_lane.c.agent_id == agent_id, agent_lane.c.lane_id.in_(list(lanes)))
            .correlate(None)
            .exists()
        )
    taken = await uow.execute(
        update(agent_slot)
        .where(*conditions)
        .values(used=agent_slot.c.used + 1, load=agent_slot.c.load + rules.weight)
    )
    if taken.rowcount == 0:
        return Reason.NO_CAPACITY
    await _add_load(uow, agent_id, rules.weight)
    return None


def blocking_load(rules: ChannelSettings, slot: Any = agent_slot) -> Any:
    """What a slot's load weighs against this channel: as many units as it may interrupt do not count."""
    if not rules.interrupts_up_to:
        return slot.c.load
    free = case(rules.interrupts_up_to, value=slot.c.channel, else_=0)
    spared = slot.c.load * case((slot.c.used < free, slot.c.used), else_=free) // slot.c.used
    return slot.c.load - case((slot.c.used > 0, spared), else_=0)


async def hold_forced(uow: UnitOfWork, agent_id: int, channel: str, weight: int) -> None:
    """Take a place whatever the limits and presence say: a person decided so, or he has the work already."""
    await ensure(uow, agent_id)
    await lock(uow, [agent_id])
    await uow.execute(
        update(agent_slot)
        .where(agent_slot.c.agent_id == agent_id, agent_slot.c.channel == channel)
        .values(used=agent_slot.c.used + 1, load=agent_slot.c.load + weight)
    )
    await _add_load(uow, agent_id, weight)


async def release(uow: UnitOfWork, agent_id: int, channel: str, weight: int) -> None:
    """Give a place and its weight back."""
    await lock(uow, [agent_id])
    await uow.execute(
        update(agent_slot)
        .where(agent_slot.c.agent_id == agent_id, agent_slot.c.channel == channel)
        .values(used=agent_slot.c.used - 1, load=agent_slot.c.load - weight)
    )
    await _add_load(uow, agent_id, -weight)


async def _add_load(uow: UnitOfWork, agent_id: int, weight: int) -> None:
    await uow.execute(
        update(agent_state)
        .where(agent_state.c.agent_id == agent_id)
        .values(load_used=agent_state.c.load_used + weight)
    )
