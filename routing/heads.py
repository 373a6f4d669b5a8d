"""The front of an agent's lanes: the most urgent items that he may serve, read by index, and claiming one of them.

Reads a few index entries of each of his lanes, whatever is queued. Owns no decision: `routing.decide.pick` chooses.
"""

from collections.abc import Sequence

from sqlalchemy import and_, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.selectable import FromClause

from crm_core.db.prepared import Prepared, any_of, fetch
from crm_core.db.uow import UnitOfWork
from crm_core.schema import inquiry, team
from routing import capacity, store
from routing.model import Channel, Item, ItemState, RowLike
from routing.schema import agent_lane, agent_state, calendar, lane, queue_entry, work_item
from routing.store import TeamContext

#: items of each channel that an agent chooses among; and if none of them is for him
FRONT = 6
DEEP = 160
_ENDLESS = 2**62


async def read(
    conn: AsyncConnection,
    agent_id: int,
    channels: Sequence[str],
    *,
    deep: bool = False,
    since: int | None = None,
) -> tuple[list[Item], dict[int | None, TeamContext]]:
    """The first items of each of these channels, best first, and the teams they are of.

    `deep`: `DEEP` of a channel instead of `FRONT`. `since`: of those with a key from there on.
    """
    here = {"agent": agent_id, "channels": list(channels)}
    statement = _OF[deep, since is not None]
    rows = await fetch(conn, statement, here if since is None else {**here, "since": since})
    teams: dict[int | None, TeamContext] = {}
    for row in rows:
        if row["team_id"] not in teams:
            known = row["team_id"] is not None and row["team_name"] is not None
            teams[row["team_id"]] = store.context_of(row) if known else TeamContext()
    return [Item.from_row(r) for r in rows], teams


async def claim(
    uow: UnitOfWork, head: Item, agent_id: int
) -> tuple[Item | None, RowLike | None, RowLike | None]:
    """Lock an item that was read before, if it still is what it was, its inquiry, and who is to have it.

    Never waits: the inquiry is before the item in the lock order, and who holds it now will soon want the item.

    Returns:
        The item, its inquiry and the agent's state (None: somebody else has him now, he has to be waited for).
    """
    of_inquiry = head.inquiry_id is not None and head.source_kind == "inquiry"
    here = {"id_": head.id, "version_": head.version}
    with_agent = True
    row = await uow.row(_CLAIM[of_inquiry, True], {**here, "agent": agent_id})
    if row is None and not capacity.is_claimed(uow, agent_id):
        with_agent = False
        row = await uow.row(_CLAIM[of_inquiry, False], here)
    if row is None:
        return None, None, None
    inquiry_row = {name: row[f"inquiry_{name}"] for name in _INQUIRY_COLUMNS} if of_inquiry else None
    state: RowLike | None = None
    if with_agent:
        capacity.claimed(uow, agent_id)
        state = {name: row[f"state_{name}"] for name in _STATE_COLUMNS}
    # Its version is that of the head: nothing else that a decision looks at has changed either.
    return head, inquiry_row, state


async def claim_item(uow: UnitOfWork, head: Item) -> bool:
    """The same without an agent: lock the item and its inquiry, if it still is what it was."""
    of_inquiry = head.inquiry_id is not None and head.source_kind == "inquiry"
    here = {"id_": head.id, "version_": head.version}
    return await uow.row(_CLAIM[of_inquiry, False], here) is not None


def _front(*, deep: bool, since: bool) -> Prepared:
    wanted = DEEP if deep else FRONT
    entry, nth = queue_entry.alias("entry"), queue_entry.alias("nth")
    from_ = bindparam("since", type_=queue_entry.c.order_key.type)
    # The key of the last entry of a lane that can matter; a lane may hold a hundred thousand behind it.
    last = (
        select(nth.c.order_key)
        .where(nth.c.lane_id == agent_lane.c.lane_id, *([nth.c.order_key >= from_] if since else []))
        .order_by(nth.c.order_key, nth.c.item_id)
        .limit(1)
        .offset(wanted - 1)
        .correlate(agent_lane)
        .scalar_subquery()
    )
    channel = select(lane.c.channel).where(lane.c.id == agent_lane.c.lane_id).correlate(agent_lane)
    of_lane = channel.scalar_subquery()
    entries = (
        select(entry.c.item_id, entry.c.order_key, of_lane.label("channel"))
        .select_from(agent_lane)
        .join(
            entry,
            and_(entry.c.lane_id == agent_lane.c.lane_id, entry.c.order_key <= func.coalesce(last, _ENDLESS)),
        )
        .where(agent_lane.c.agent_id == bindparam("agent"), any_of(of_lane, "channels"))
        .distinct()
    )
    if since:
        entries = entries.where(entry.c.order_key >= from_)
    found = entries.subquery()
    place = func.row_number().over(
        partition_by=found.c.channel, order_by=(found.c.order_key, found.c.item_id)
    )
    numbered = select(found.c.item_id, place.label("place")).subquery()
    # The limit takes nothing away: it tells Postgres how few they are.
    first = (
        select(numbered.c.item_id).where(numbered.c.place <= wanted).limit(wanted * len(Channel)).subquery()
    )
    return Prepared(
        select(work_item, *store.team_columns())
        .join(first, first.c.item_id == work_item.c.id)
        .outerjoin(team, team.c.id == work_item.c.team_id)
        .outerjoin(calendar, calendar.c.id == team.c.calendar_id)
        .order_by(work_item.c.order_key, work_item.c.id)
    )


_OF = {(d, s): _front(deep=d, since=s) for d in (True, False) for s in (True, False)}
_INQUIRY_COLUMNS = tuple(c.name for c in inquiry.c)


_STATE_COLUMNS = tuple(c.name for c in agent_state.c)


def _claim_of(*, of_inquiry: bool, with_agent: bool) -> Prepared:
    statement = select(work_item.c.id).where(
        work_item.c.id == bindparam("id_"),
        work_item.c.state == ItemState.WAITING,
        work_item.c.version == bindparam("version_"),
    )
    locked: list[FromClause] = [work_item]
    if of_inquiry:
        columns = (c.label(f"inquiry_{c.name}") for c in inquiry.c)
        statement = statement.add_columns(*columns).join(inquiry, inquiry.c.id == work_item.c.inquiry_id)
        locked.append(inquiry)
    if with_agent:
        states = (c.label(f"state_{c.name}") for c in agent_state.c)
        of_him = agent_state.c.agent_id == bindparam("agent")
        statement = statement.add_columns(*states).join(agent_state, of_him)
        locked.append(agent_state)
    return Prepared(statement.with_for_update(skip_locked=True, of=locked))


_CLAIM = {(i, a): _claim_of(of_inquiry=i, with_agent=a) for i in (True, False) for a in (True, False)}
