"""How long somebody who joins a queue now will wait for a person (docs/routing.md, "Expected wait"). Reads only.

Every read is bounded: staffed agents, the first entries of the queue's lanes, the last assignments by an index;
never all that waits, never the history. The arithmetic is in `routing.wait_model`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, case, exists, func, or_, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.selectable import Select

from crm_core.clock import HOUR, MINUTE
from crm_core.db.prepared import Prepared, any_of, fetch
from crm_core.db.uow import read_row
from crm_core.schema import agent, call, inbox, team_member
from routing import handle_time, store
from routing.model import Channel, Item, ItemState
from routing.schema import (
    agent_lane,
    agent_slot,
    agent_state,
    assignment,
    callback,
    lane,
    queue_entry,
    work_item,
)
from routing.settings import TeamSettings
from routing.wait_model import Facts, Staff, Wait, expected

#: entries looked at in front of somebody; an item stands in up to four lanes, so about a hundred people
MAX_ENTRIES = 400
MAX_LANES = 300
#: staffed agents whose part in the queue is looked at one by one; more are taken for their like
MAX_AGENTS = 200
#: the last assignments of a queue that are looked at
MAX_RECENT = 200
WAITS_MS = 30 * MINUTE
PACE_MS = 15 * MINUTE
#: an agent's part in several queues is measured over this
_SHARE_MS = 2 * HOUR
#: what a person decided, or what came back, says nothing about waiting in a queue
_FROM_QUEUE = ("offer", "outright", "answered")
_SPOKEN = (Channel.VOICE, Channel.CALLBACK)


async def estimate(
    conn: AsyncConnection,
    team_id: int | None,
    channel: str,
    now: int,
    *,
    besides: tuple[int, str] | None = None,
) -> Wait:
    """The wait of the next one who asks this team for a person in this channel.

    `now`: ms UTC. `besides`: (inbox, call key) of the call that asks, which is not ahead of itself.

    Never raises for an unknown team: nobody serves it, which is what the answer says.
    """
    context = await store.team_context(conn, team_id)
    lanes = await _lanes_of(conn, team_id, channel)
    ahead = await _ahead(conn, lanes)
    ringing = await _ringing(conn, team_id, besides) if channel == Channel.VOICE else 0
    who = _WHO_OF_TEAM[team_id is not None, channel == Channel.VOICE]
    here = {} if team_id is None else {"team": team_id}
    staff = await _staff(conn, who, here, team_id, channel, context.settings, now)
    return expected(
        await _facts(conn, context, team_id, channel, now, ahead=ahead, staff=staff, also=ringing)
    )


def _who_of_team(*, one: bool, rings: bool) -> Select[Any]:
    who = (
        select(team_member.c.agent_id).where(team_member.c.team_id == bindparam("team"))
        if one
        else select(agent.c.id)
    )
    # Whom the PBX cannot ring answers no call.
    return select(agent.c.id).where(agent.c.id.in_(who), agent.c.extension.is_not(None)) if rings else who


_WHO_OF_TEAM = {(o, r): _who_of_team(one=o, rings=r) for o in (True, False) for r in (True, False)}


async def for_caller(
    conn: AsyncConnection, inbox_id: int, call_key: str, now: int, *, number: str | None = None
) -> Wait:
    """The wait of a caller of an inbox's number, who is not ahead of himself. Who kept his place for a callback and
    calls again (`number`, E.164) takes it over, and is told the wait of that place.
    """
    place = None if number is None else await _kept_place(conn, number)
    if place is not None:
        return await for_item(conn, place, now)
    team_id = await conn.scalar(select(inbox.c.team_id).where(inbox.c.id == inbox_id))
    return await estimate(conn, team_id, Channel.VOICE, now, besides=(inbox_id, call_key))


async def _kept_place(conn: AsyncConnection, number: str) -> Item | None:
    row = await read_row(
        conn,
        select(work_item)
        .join(callback, callback.c.id == work_item.c.source_id)
        .where(
            work_item.c.source_kind == "callback",
            work_item.c.state == ItemState.WAITING,
            callback.c.phone == number,
            callback.c.kind == "hold",
            callback.c.state == "due",
        )
        .limit(1),
    )
    return None if row is None else Item.from_row(row)


async def for_item(conn: AsyncConnection, item: Item, now: int) -> Wait:
    """The wait that is still before a waiting item: the people who may serve it in its present ring, and what
    stands before it in their lanes.
    """
    context = await store.team_context(conn, item.team_id)
    # Who declined or missed it a short while ago is not asked, however free he is.
    here = {"item": item.id, "left_out": [a for a in item.excluded if item.excludes(a, now)]}
    found = [r["lane_id"] for r in await fetch(conn, _NEAR, {**here, "channel": item.channel})]
    ahead = await _ahead(conn, found, before=item)
    staff = await _staff(conn, _WHO_OF_ITEM, here, item.team_id, item.channel, context.settings, now)
    return expected(await _facts(conn, context, item.team_id, item.channel, now, ahead=ahead, staff=staff))


_lanes_of_item = select(queue_entry.c.lane_id).where(queue_entry.c.item_id == bindparam("item"))
_WHO_OF_ITEM = select(agent_lane.c.agent_id).where(
    agent_lane.c.lane_id.in_(_lanes_of_item), ~any_of(agent_lane.c.agent_id, "left_out")
)
_near = (
    select(agent_state.c.agent_id)
    .where(agent_state.c.agent_id.in_(_WHO_OF_ITEM), agent_state.c.routable)
    .order_by(agent_state.c.agent_id)
    .limit(50)
)
_NEAR = Prepared(
    _lanes_of_item.union(
        select(agent_lane.c.lane_id)
        .join(lane, and_(lane.c.id == agent_lane.c.lane_id, lane.c.channel == bindparam("channel")))
        .where(agent_lane.c.agent_id.in_(_near))
    ).limit(MAX_LANES)
)


async def of_inquiry(conn: AsyncConnection, inquiry_id: int, now: int) -> Wait | None:
    """The wait that is still before the customer of an inquiry; None if nobody is waited for."""
    row = await read_row(
        conn,
        select(work_item).where(
            work_item.c.source_kind == "inquiry",
            work_item.c.source_id == inquiry_id,
            work_item.c.state == ItemState.WAITING,
        ),
    )
    return None if row is None else await for_item(conn, Item.from_row(row), now)


@dataclass(frozen=True, slots=True)
class _Line:
    """Who stands before somebody: instants since when, and whether there are more than were looked at."""

    since: Sequence[int] = ()
    capped: bool = False


async def _facts(
    conn: AsyncConnection, context: store.TeamContext, team_id: int | None, channel: str, now: int, *,
    ahead: _Line, staff: Staff, also: int = 0,
) -> Facts:  # fmt: skip
    hours = context.hours(now)
    recent = await _recent(conn, team_id, channel, now)
    handle = await handle_time.of_team(conn, team_id, channel)
    lately = [at for at, _ in recent if at > now - PACE_MS]
    span = now - lately[-1] if len(recent) == MAX_RECENT and lately else PACE_MS
    return Facts(
        channel=channel,
        is_open=hours.is_open or context.settings.after_hours != "park",
        opens_at=hours.next_open,
        ahead=len(ahead.since) + also,
        ahead_capped=ahead.capped,
        staff=staff,
        handle_ms=handle.ms if handle is not None else None,
        samples=handle.samples if handle is not None else 0,
        per_minute=len(lately) * MINUTE / max(span, 1) if lately else None,
        waits_ms=[waited for _, waited in recent],
        waiting_ms=[max(now - since, 0) for since in ahead.since],
    )


async def _lanes_of(conn: AsyncConnection, team_id: int | None, channel: str) -> list[int]:
    """The lanes of a queue in which something may wait. Calls and callbacks wait for the same people."""
    channels = list(_SPOKEN) if channel in _SPOKEN else [channel]
    same_team = lane.c.team_id.is_(None) if team_id is None else lane.c.team_id == team_id
    waits = exists().where(queue_entry.c.lane_id == lane.c.id).correlate(lane)
    rows = await conn.scalars(
        select(lane.c.id)
        .where(same_team, lane.c.channel.in_(channels), lane.c.agent_id.is_(None), waits)
        .limit(MAX_LANES)
    )
    return [int(i) for i in rows]


async def _ahead(conn: AsyncConnection, lanes: Sequence[int], *, before: Item | None = None) -> _Line:
    if not lanes:
        return _Line()
    than = {} if before is None else {"key_": before.order_key, "item": before.id}
    rows = await fetch(conn, _AHEAD[before is not None], {"lanes": list(lanes), **than})
    return _Line(sorted(r["ready_at"] for r in rows), sum(r["n"] for r in rows) >= MAX_ENTRIES)


def _first(*, before: bool) -> Prepared:
    entries = select(queue_entry.c.item_id).where(any_of(queue_entry.c.lane_id, "lanes")).limit(MAX_ENTRIES)
    if before:
        key = bindparam("key_", type_=queue_entry.c.order_key.type)
        same = and_(queue_entry.c.order_key == key, queue_entry.c.item_id < bindparam("item"))
        entries = entries.where(or_(queue_entry.c.order_key < key, same))
    first = entries.subquery()
    return Prepared(
        select(work_item.c.id, work_item.c.ready_at, func.count().label("n"))
        .join(first, first.c.item_id == work_item.c.id)
        .group_by(work_item.c.id, work_item.c.ready_at)
    )


_AHEAD = {before: _first(before=before) for before in (True, False)}


async def _ringing(conn: AsyncConnection, team_id: int | None, besides: tuple[int, str] | None) -> int:
    """Callers of the team's numbers whom nobody has answered and who stand in no lane: their queue is the PBX's."""
    queued = exists().where(work_item.c.source_kind == "call", work_item.c.source_id == call.c.id)
    statement = (
        select(call.c.id)
        .join(inbox, inbox.c.id == call.c.inbox_id)
        .where(
            call.c.stuck_at.is_not(None),
            call.c.state.in_(("initiated", "ringing")),
            call.c.direction == "inbound",
            inbox.c.team_id.is_(None) if team_id is None else inbox.c.team_id == team_id,
            ~queued.correlate(call),
        )
        .limit(MAX_ENTRIES)
    )
    if besides is not None:
        inbox_id, key = besides
        statement = statement.where(or_(call.c.inbox_id != inbox_id, call.c.call_key != key))
    return int(await conn.scalar(select(func.count()).select_from(statement.subquery())) or 0)


# --- who serves
# ---------------------------------------------------------------------------------------------------
async def _staff(
    conn: AsyncConnection,
    who: Select[Any],
    whose: Mapping[str, Any],
    team_id: int | None,
    channel: str,
    settings: TeamSettings,
    now: int,
) -> Staff:
    """Agents who are there and serve the channel, busy ones too, each by the part of his time that this queue has.

    `who`: agents, by the parameters `whose`.
    """
    rules = settings.channel(channel)
    interrupts = tuple(sorted(rules.interrupts))
    here = {**whose, "channel": channel, "now": now}
    rows = await fetch(conn, _there(who, interrupts, counted=False), here)
    if not rows:
        return Staff()
    total = len(rows)
    if total == MAX_AGENTS:
        total = int((await fetch(conn, _there(who, interrupts, counted=True), here))[0]["n"])
    shares = await _shares(conn, [r["agent_id"] for r in rows], team_id, channel, interrupts, now)
    weight = max(rules.weight, 1)
    places = sum(max(min(r["max"], r["load_max"] // weight), 1) * shares[r["agent_id"]] for r in rows)
    free = sum(1 for r in rows if r["used"] < r["max"] and r["blocking"] + rules.weight <= r["load_max"])
    return Staff(agents=total, places=places * total / len(rows), free=free)


@lru_cache(maxsize=64)
def _there(who: Select[Any], interrupts: tuple[str, ...], *, counted: bool) -> Prepared:
    others = agent_slot.alias("others")
    blocking = (
        select(func.coalesce(func.sum(others.c.load), 0))
        .where(others.c.agent_id == agent_state.c.agent_id, *(others.c.channel != c for c in interrupts))
        .correlate(agent_state)
        .scalar_subquery()
    )
    of_channel = agent_slot.c.channel == bindparam("channel")
    there = (
        select(
            agent_state.c.agent_id, agent_state.c.load_max, agent_slot.c.max, agent_slot.c.used,
            blocking.label("blocking"),
        )
        .join(agent_slot, and_(agent_slot.c.agent_id == agent_state.c.agent_id, of_channel))
        .where(
            agent_state.c.agent_id.in_(who),
            agent_state.c.routable, agent_state.c.lease_until > bindparam("now"), agent_slot.c.max > 0,
        )
    )  # fmt: skip
    if counted:
        return Prepared(select(func.count().label("n")).select_from(there.subquery()))
    return Prepared(there.order_by(agent_state.c.agent_id).limit(MAX_AGENTS))


async def _shares(
    conn: AsyncConnection,
    agents: Sequence[int],
    team_id: int | None,
    channel: str,
    interrupts: tuple[str, ...],
    now: int,
) -> dict[int, float]:
    """For each agent the part of his recent work that was this queue's; without any, one of as many as he has
    teams. Work that this channel may interrupt takes no time from it.
    """
    ids = list(agents)
    here = {"agents": ids, "channel_": channel, "since": now - _SHARE_MS}
    lately = _lately(interrupts, of_team=team_id is not None)
    rows = await fetch(conn, lately, here if team_id is None else {**here, "team": team_id})
    done = {r["agent_id"]: (int(r["mine"]), int(r["n"])) for r in rows}
    teams = {r["agent_id"]: int(r["n"]) for r in await fetch(conn, _TEAMS, {"agents": ids})}
    return {i: _share(*done.get(i, (0, 0)), teams=teams.get(i, 1)) for i in ids}


@lru_cache(maxsize=64)
def _lately(interrupts: tuple[str, ...], *, of_team: bool) -> Prepared:
    here = _same(assignment.c.team_id, of_team=of_team) & (assignment.c.channel == bindparam("channel_"))
    parts = [
        select(assignment.c.agent_id, case((here, 1), else_=0).label("mine")).where(
            any_of(assignment.c.agent_id, "agents"), *(assignment.c.channel != c for c in interrupts), when
        )
        for when in (assignment.c.ended_at > bindparam("since"), assignment.c.ended_at.is_(None))
    ]
    lately = union_all(*parts).subquery()
    mine, count = func.sum(lately.c.mine).label("mine"), func.count().label("n")
    return Prepared(select(lately.c.agent_id, mine, count).group_by(lately.c.agent_id))


_TEAMS = Prepared(
    select(team_member.c.agent_id, func.count().label("n"))
    .where(any_of(team_member.c.agent_id, "agents"))
    .group_by(team_member.c.agent_id)
)


def _share(mine: int, all_of_it: int, *, teams: int) -> float:
    """Pulled towards an even split by one piece of work, so that the first call of a shift is no proof."""
    even = 1 / max(teams, 1)
    return (mine + even) / (all_of_it + 1)


# --- what happened lately
# -----------------------------------------------------------------------------------------
async def _recent(
    conn: AsyncConnection, team_id: int | None, channel: str, now: int
) -> list[tuple[int, int]]:
    """(instant, waited ms) of the last that were answered from the queue, the newest first."""
    here = {"channel_": channel, "since_": now - WAITS_MS}
    rows = await fetch(
        conn, _RECENT[team_id is not None], here if team_id is None else {**here, "team": team_id}
    )
    return [(r["started_at"], max(r["started_at"] - r["since"], 0)) for r in rows]


def _same(column: ColumnElement[Any], *, of_team: bool) -> ColumnElement[bool]:
    return column == bindparam("team") if of_team else column.is_(None)


def _of_recent(*, of_team: bool) -> Prepared:
    earlier = assignment.alias("earlier")
    again = exists().where(earlier.c.item_id == assignment.c.item_id, earlier.c.id < assignment.c.id)
    since = func.coalesce(call.c.started_at, work_item.c.ready_at)
    return Prepared(
        select(assignment.c.started_at, since.label("since"))
        .join(work_item, work_item.c.id == assignment.c.item_id)
        .outerjoin(call, and_(work_item.c.source_kind == "call", call.c.id == work_item.c.source_id))
        .where(
            _same(assignment.c.team_id, of_team=of_team),
            assignment.c.channel == bindparam("channel_"),
            assignment.c.started_at > bindparam("since_"),
            or_(*(assignment.c.cause == cause for cause in _FROM_QUEUE)),
            ~again.correlate(assignment),
        )
        .order_by(assignment.c.started_at.desc())
        .limit(MAX_RECENT)
    )


_RECENT = {of_team: _of_recent(of_team=of_team) for of_team in (True, False)}
