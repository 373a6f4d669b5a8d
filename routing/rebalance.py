"""Work of an agent who is gone: which of it goes to others, when, and how fast.

Says when each piece is looked at (`wake_at`), and does it then, if he is still away: smallest key first, at most
so many items a minute in each team, so that one disconnect is no storm. Calls are not moved: the line decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, update

from crm_core.clock import MINUTE
from crm_core.db.uow import UnitOfWork
from crm_core.schema import agent, conversation
from routing import apply, items, machine, match, store
from routing.model import Channel, Item, ItemState, Presence, RowLike
from routing.schema import agent_state, rebalance_pace, sla_clock, work_item
from routing.schema import calendar as calendar_table
from routing.settings import TeamSettings

#: how long work waits for an agent who vanished, before it goes to somebody else
GRACE_MS = MINUTE
MOVED = (Channel.CHAT, Channel.ASYNC)
_AWAY = (Presence.OFFLINE, Presence.AWAY_REASSIGN)
_PUSHED = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """An agent who is gone: as what, since when, and, if his shift is over, when the next one begins (None:
    not known).
    """

    presence: str
    since: int
    shift_over: bool = False
    back_at: int | None = None


def moves_at(channel: str, due_at: int | None, absence: Absence, settings: TeamSettings) -> int | None:
    """When a piece of his work goes to somebody else; None: it stays his. Pure.

    Live chats after a grace. Asynchronous work stays with him unless it would be late: it goes as soon as it is
    due within grace and handling time; with a shift that is over, what is due before he is back goes at once.
    """
    if channel not in MOVED:
        return None
    if absence.presence == Presence.AWAY_REASSIGN:
        return absence.since
    soon = absence.since + GRACE_MS
    if channel == Channel.CHAT:
        return soon
    if absence.shift_over and settings.end_of_shift == "all":
        return soon
    if due_at is None:
        return None
    reserve = settings.channel(Channel.ASYNC).reserve_ms
    not_back_in_time = absence.back_at is None or due_at < absence.back_at + reserve
    if absence.shift_over and settings.end_of_shift == "due" and not_back_in_time:
        return soon
    return max(soon, due_at - reserve - GRACE_MS)


async def schedule(uow: UnitOfWork, agent_id: int, owned: Sequence[Item], presence: str, since: int) -> None:
    """He is gone: say when each piece of his work is looked at. The items and he are locked."""
    wanted = [i for i in owned if i.channel in MOVED]
    if not wanted:
        return
    absence = await _absence(uow, agent_id, presence, since)
    due = await _due(uow, wanted)
    teams = {t: await store.team_context(uow.conn, t) for t in {i.team_id for i in wanted}}
    for item in wanted:
        when = moves_at(item.channel, due.get(item.inquiry_id), absence, teams[item.team_id].settings)
        if when is not None:
            await uow.update(work_item, item.id, {"wake_at": when})


async def recall(uow: UnitOfWork, agent_id: int) -> None:
    """He is back before his work was moved: asynchronous work needs no look any more, chats only for
    silence.
    """
    rows = await uow.rows(
        uow.lock(
            select(work_item.c.id)
            .where(
                work_item.c.owner_id == agent_id,
                work_item.c.state == ItemState.ASSIGNED,
                work_item.c.channel == Channel.ASYNC,
                work_item.c.wake_at.is_not(None),
            )
            .order_by(work_item.c.id),
            # What somebody else is changing is looked at when it wakes, and then he is here.
            skip_locked=True,
        )
    )
    if rows:
        ids = [r["id"] for r in rows]
        await uow.execute(update(work_item).where(work_item.c.id.in_(ids)).values(wake_at=None))


async def look(uow: UnitOfWork, item: Item, owner_id: int, team: store.TeamContext) -> None:
    """An assigned item is looked at: its owner is gone, or it fell silent. The item is locked."""
    absence = await absence_of(uow, owner_id)
    if absence is not None and item.channel in MOVED:
        due = (await _due(uow, [item])).get(item.inquiry_id)
        when = moves_at(item.channel, due, absence, team.settings)
        if when is not None and when <= uow.now:
            if not await _may_move(uow, item.team_id, team.settings):
                await _push(uow, item, uow.now)
                return
            held = await store.holdings(uow, item)
            event = machine.Requeued(held=held, cause="agent_lost", sticky=owner_id)
            await items.requeue(uow, item, event, "agent_lost")
            return
        await _wake_at(uow, item, when)
        return
    again: int | None = None
    inactive = team.settings.channel(item.channel).inactive_ms
    if item.channel == Channel.CHAT and inactive is not None and item.conversation_id is not None:
        last = await uow.scalar(
            select(conversation.c.updated_at).where(conversation.c.id == item.conversation_id)
        )
        silent_at = (last or item.created_at) + inactive
        held = await store.holdings(uow, item)
        if silent_at > uow.now:
            again = silent_at
        elif await apply.set_weight(uow, held, holds_slot=False, settings=team.settings):
            await match.pull(uow, owner_id)
    await _wake_at(uow, item, again)


async def watch(uow: UnitOfWork, item: Item) -> None:
    """A deadline of assigned asynchronous work came or moved: if its owner is gone, it may have to go. The
    item is locked.
    """
    if item.channel != Channel.ASYNC or item.owner_id is None:
        return
    absence = await absence_of(uow, item.owner_id)
    if absence is None:
        return
    team = await store.team_context(uow.conn, item.team_id)
    due = (await _due(uow, [item])).get(item.inquiry_id)
    when = moves_at(item.channel, due, absence, team.settings)
    if when != item.wake_at:
        await _wake_at(uow, item, when)


async def absence_of(uow: UnitOfWork, agent_id: int) -> Absence | None:
    """None if he is here, or on a break."""
    state = await uow.row(select(agent_state).where(agent_state.c.agent_id == agent_id))
    if state is None:
        return await _absence(uow, agent_id, Presence.OFFLINE, 0)
    return await _absence(uow, agent_id, state["presence"], state["since"]) if _gone(state) else None


def _gone(state: RowLike) -> bool:
    return bool(state["presence"] in _AWAY)


async def _absence(uow: UnitOfWork, agent_id: int, presence: str, since: int) -> Absence:
    spec = await uow.scalar(
        select(calendar_table.c.spec)
        .join(agent, agent.c.calendar_id == calendar_table.c.id)
        .where(agent.c.id == agent_id)
    )
    shift = store.calendar_of(spec)
    if shift is None or shift.is_open(uow.now):
        return Absence(presence=presence, since=since)
    return Absence(presence=presence, since=since, shift_over=True, back_at=shift.next_open(uow.now))


async def _due(uow: UnitOfWork, wanted: Sequence[Item]) -> dict[int | None, int]:
    """The earliest deadline of the running reply clocks of each inquiry."""
    ids = [i.inquiry_id for i in wanted if i.channel == Channel.ASYNC and i.inquiry_id is not None]
    if not ids:
        return {}
    rows = await uow.rows(
        select(sla_clock.c.inquiry_id, func.min(sla_clock.c.due_at).label("due"))
        .where(
            sla_clock.c.inquiry_id.in_(ids), sla_clock.c.metric.in_(store.REPLY_METRICS),
            sla_clock.c.state == "active", sla_clock.c.due_at.is_not(None),
        )
        .group_by(sla_clock.c.inquiry_id)
    )  # fmt: skip
    return {r["inquiry_id"]: int(r["due"]) for r in rows}


async def _may_move(uow: UnitOfWork, team_id: int | None, settings: TeamSettings) -> bool:
    """Count one more in the team's minute, if there is room. Stands between item and agents in the lock
    order.
    """
    team = team_id or 0
    row = await uow.row(uow.lock(select(rebalance_pace).where(rebalance_pace.c.team_id == team)))
    if row is None:
        made = await uow.insert_new(
            rebalance_pace, {"team_id": team, "minute_start": uow.now, "moved": 1}, key=["team_id"]
        )
        if made is not None:
            return True
        row = await uow.row(uow.lock(select(rebalance_pace).where(rebalance_pace.c.team_id == team)))
        if row is None:
            return False
    fresh = uow.now - row["minute_start"] >= MINUTE
    if not fresh and row["moved"] >= settings.rebalance_per_minute:
        return False
    values = {"minute_start": uow.now, "moved": 1} if fresh else {"moved": row["moved"] + 1}
    await uow.execute(update(rebalance_pace).where(rebalance_pace.c.team_id == team).values(**values))
    return True


async def _push(uow: UnitOfWork, item: Item, now: int) -> None:
    """The team's minute is full: this item and all of the team's that are due wait for the next one."""
    began = await uow.scalar(
        select(rebalance_pace.c.minute_start).where(rebalance_pace.c.team_id == (item.team_id or 0))
    )
    later = (began or now) + MINUTE
    same_team = work_item.c.team_id.is_(None) if item.team_id is None else work_item.c.team_id == item.team_id
    gone = select(agent_state.c.agent_id).where(agent_state.c.presence.in_(_AWAY))
    rows = await uow.rows(
        uow.lock(
            select(work_item.c.id)
            .where(
                work_item.c.wake_at <= now, work_item.c.state == ItemState.ASSIGNED, same_team,
                work_item.c.channel.in_(MOVED), work_item.c.owner_id.in_(gone),
            )
            .order_by(work_item.c.wake_at, work_item.c.id)
            .limit(_PUSHED),
            skip_locked=True,
        )
    )  # fmt: skip
    ids = {item.id, *(r["id"] for r in rows)}
    await uow.execute(update(work_item).where(work_item.c.id.in_(sorted(ids))).values(wake_at=later))


async def _wake_at(uow: UnitOfWork, item: Item, when: int | None) -> None:
    await uow.update(work_item, item.id, {"wake_at": when})


__all__ = ["GRACE_MS", "Absence", "absence_of", "look", "moves_at", "recall", "schedule", "watch"]
