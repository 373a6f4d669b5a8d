"""An agent's capacity: the rows, their limits, taking by compare-and-set, giving back.

The row of agent_state is the mutex of an agent's capacity: every change locks it first. Lock order
everywhere is inquiry, conversation, item, then agents by id; who would have to lock against that order
skips instead of waiting.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import bindparam, case, func, select, update
from sqlalchemy.sql.selectable import FromClause

from crm_core.db.prepared import Prepared, any_of
from crm_core.db.together import Batch
from crm_core.db.uow import Row, UnitOfWork
from crm_core.errors import NotFound
from crm_core.schema import agent, team, team_member
from routing.limits import limits_of
from routing.model import Presence, Reason, RowLike
from routing.schema import agent_lane, agent_slot, agent_state
from routing.settings import DEFAULTS, ChannelSettings, read


@dataclass(slots=True)
class _Hands:
    """What a transaction has done to agents: locked them (so it knows whether it may wait for another), put them
    last in line.
    """

    locked: set[int] = field(default_factory=set)
    served: set[int] = field(default_factory=set)


_of: "WeakKeyDictionary[UnitOfWork, _Hands]" = WeakKeyDictionary()

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


def _hands(uow: UnitOfWork) -> _Hands:
    found = _of.get(uow)
    if found is None:
        found = _of[uow] = _Hands()
    return found


async def lock(uow: UnitOfWork, agent_ids: Iterable[int]) -> dict[int, Row]:
    """Lock agents' rows in ascending order, waiting for them. Missing ones are left out."""
    wanted = sorted(set(agent_ids))
    if not wanted:
        return {}
    rows = await uow.rows(_LOCK, {"agents": wanted})
    _hands(uow).locked.update(r["agent_id"] for r in rows)
    return {r["agent_id"]: r for r in rows}


async def lock_several(uow: UnitOfWork, agent_ids: Iterable[int]) -> None:
    """Lock the agents whose capacity is about to change, if they are several. One alone is locked by the first
    statement that changes his row.
    """
    wanted = set(agent_ids)
    if len(wanted) > 1:
        await lock(uow, wanted)


async def claim(uow: UnitOfWork, agent_id: int) -> tuple[Row | None, Reason | None]:
    """Lock the agent's row if he may get something now, waiting for it unless that is against the lock order.

    Returns:
        His state, or None and why not.
    """
    hands = _hands(uow)
    may_wait = agent_id in hands.locked or not hands.locked or agent_id > max(hands.locked)
    state = await uow.row(_CLAIM[may_wait], {"agent": agent_id})
    if state is None:
        return None, await _why_not_there(uow, agent_id)
    hands.locked.add(agent_id)
    failure = away(state, uow.now)
    return (state, None) if failure is None else (None, failure)


def claimed(uow: UnitOfWork, agent_id: int) -> None:
    """A statement of somebody else's has locked his row."""
    _hands(uow).locked.add(agent_id)


def is_claimed(uow: UnitOfWork, agent_id: int) -> bool:
    """Whether this transaction has his row locked, so that nobody else changes it."""
    return agent_id in _hands(uow).locked


def away(state: RowLike, now: int) -> Reason | None:
    """Why nothing can be routed to who is in this state (a row of agent_state), or None."""
    if state["presence"] != Presence.ONLINE:
        return Reason.OFFLINE
    return None if state["routable"] and (state["lease_until"] or 0) > now else Reason.NO_LEASE


async def hold(
    uow: UnitOfWork,
    state: RowLike,
    channel: str,
    rules: ChannelSettings,
    batch: Batch,
    *,
    lanes: Sequence[int] = (),
    outright: bool = False,
) -> Reason | None:
    """Take one place and its weight by compare-and-set, of an agent whose row this transaction has locked.

    `state`: as it is under that lock. `batch` gets what is to be written to it. `lanes`: ids of the item's lanes; he
    must be in one of them at this very moment. `outright`: the item is his for good, so he is the last in line again
    (`served` has nothing left to do then).

    Returns:
        None when it is taken, else the reason why not; nothing is changed then.
    """
    agent_id = int(state["agent_id"])
    # The mutex is ours, so what this statement reads about the agent cannot change any more.
    take = _take(rules.interrupts, tuple(sorted(rules.interrupts_up_to.items())), in_lanes=bool(lanes))
    place = {"agent": agent_id, "channel": channel, "weight": rules.weight, "load_max": state["load_max"]}
    if (await uow.execute(take, {**place, "lanes": lanes} if lanes else place)).rowcount == 0:
        return Reason.NO_CAPACITY
    if outright:
        batch.add(_LOAD_SERVED, {"agent": agent_id, "weight": rules.weight, "now": uow.now})
        _hands(uow).served.add(agent_id)
    else:
        batch.add(_LOAD, {"agent": agent_id, "weight": rules.weight})
    return None


async def _why_not_there(uow: UnitOfWork, agent_id: int) -> Reason:
    state = await uow.row(_STATE, {"agent": agent_id})
    failure = Reason.OFFLINE if state is None else away(state, uow.now)
    # If he is there, another transaction has him and we may not wait for it, or he came this very moment.
    return failure or Reason.ITEM_LOCKED


async def hold_forced(uow: UnitOfWork, agent_id: int, channel: str, weight: int) -> None:
    """Take a place whatever the limits and presence say: a person decided so, or he has the work already."""
    if not await _change(uow, agent_id, channel, 1, weight):
        await ensure(uow, agent_id)
        await _change(uow, agent_id, channel, 1, weight)


async def over_limit(uow: UnitOfWork, agent_id: int, channel: str) -> bool:
    """Whether he holds more places of the channel than he has."""
    over = select(agent_slot.c.used > agent_slot.c.max).where(
        agent_slot.c.agent_id == agent_id, agent_slot.c.channel == channel
    )
    return bool(await uow.scalar(over))


async def release(
    uow: UnitOfWork, agent_id: int, channel: str, weight: int, batch: Batch | None = None
) -> None:
    """Give a place and its weight back; with what else is in `batch`, when that is run."""
    if batch is None:
        await _change(uow, agent_id, channel, -1, -weight)
        return
    if agent_id not in _hands(uow).locked:
        # Parts of one statement have no order, and the state is the mutex.
        await lock(uow, [agent_id])
    batch.add(_LOAD, {"agent": agent_id, "weight": -weight})
    batch.add(_SLOT, {"agent": agent_id, "channel": channel, "places": -1, "weight": -weight})


def served(uow: UnitOfWork, agent_id: int, batch: Batch) -> None:
    """He got something: he is the last in line again, and his misses are forgotten."""
    if agent_id not in _hands(uow).served:
        batch.add(_SERVED, {"agent": agent_id, "now": uow.now})


async def _change(uow: UnitOfWork, agent_id: int, channel: str, places: int, weight: int) -> bool:
    """Whether he has the rows. The state comes first: it is the mutex."""
    if (await uow.execute(_LOAD, {"agent": agent_id, "weight": weight})).rowcount == 0:
        return False
    _hands(uow).locked.add(agent_id)
    here = {"agent": agent_id, "channel": channel, "places": places, "weight": weight}
    return bool((await uow.execute(_SLOT, here)).rowcount)


# --- statements
# ----------------------------------------------------------------------------------------------------
_agent = bindparam("agent", type_=agent_state.c.agent_id.type)
_weight = bindparam("weight", type_=agent_state.c.load_used.type)
_now = bindparam("now", type_=agent_state.c.idle_since.type)
_me = agent_state.c.agent_id == _agent
_STATE = Prepared(select(agent_state).where(_me))
#: by whether it may wait for him
_CLAIM = {
    w: Prepared(select(agent_state).where(_me).with_for_update(skip_locked=not w)) for w in (True, False)
}
_LOCK = Prepared(
    select(agent_state)
    .where(any_of(agent_state.c.agent_id, "agents"))
    .order_by(agent_state.c.agent_id)
    .with_for_update()
)
_LOAD = Prepared(update(agent_state).where(_me).values(load_used=agent_state.c.load_used + _weight))
_LOAD_SERVED = Prepared(
    update(agent_state)
    .where(_me)
    .values(load_used=agent_state.c.load_used + _weight, idle_since=_now, missed_offers=0)
)
_SERVED = Prepared(update(agent_state).where(_me).values(idle_since=_now, missed_offers=0))
_slot_here = (agent_slot.c.agent_id == _agent, agent_slot.c.channel == bindparam("channel"))
_SLOT = Prepared(
    update(agent_slot)
    .where(*_slot_here)
    .values(
        used=agent_slot.c.used + bindparam("places", type_=agent_slot.c.used.type),
        load=agent_slot.c.load + _weight,
    )
)


@lru_cache(maxsize=256)
def _take(interrupts: frozenset[str], up_to: tuple[tuple[str, int], ...], *, in_lanes: bool) -> Prepared:
    """One more place in use, if there is one left and what may not be interrupted leaves room."""
    other = agent_slot.alias("other")
    blocking = (
        select(func.coalesce(func.sum(blocking_load(dict(up_to), other)), 0))
        .where(other.c.agent_id == _agent, *(other.c.channel != c for c in sorted(interrupts)))
        .scalar_subquery()
    )
    conditions = [
        *_slot_here,
        agent_slot.c.used < agent_slot.c.max,
        blocking + _weight <= bindparam("load_max", type_=agent_state.c.load_max.type),
    ]
    if in_lanes:
        conditions.append(
            select(agent_lane.c.lane_id)
            .where(agent_lane.c.agent_id == _agent, any_of(agent_lane.c.lane_id, "lanes"))
            .exists()
        )
    return Prepared(
        update(agent_slot)
        .where(*conditions)
        .values(used=agent_slot.c.used + 1, load=agent_slot.c.load + _weight)
    )


def blocking_load(up_to: Mapping[str, int], slot: FromClause) -> Any:
    """What a slot's load weighs against a channel: as many units as it may interrupt do not count."""
    if not up_to:
        return slot.c.load
    free = case(up_to, value=slot.c.channel, else_=0)
    spared = slot.c.load * case((slot.c.used < free, slot.c.used), else_=free) // slot.c.used
    return slot.c.load - case((slot.c.used > 0, spared), else_=0)
