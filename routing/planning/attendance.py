"""Who was there when: the presence of agents over a past period, of the events that said so.

Reads only. Instants are ms; an agent is there from coming online to going offline, breaks in between are his moves.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import and_, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.clock import from_iso
from crm_core.errors import Invalid
from crm_core.schema import event
from routing.business_time import Calendar
from routing.model import Presence
from routing.planning.past import Period
from routing.simulator.scenario import Move, Span

#: more changes of presence than this in one question are not read
MAX_CHANGES = 200_000
_GONE = (Presence.OFFLINE, Presence.AWAY_REASSIGN)


@dataclass(frozen=True, slots=True)
class Attendance:
    """`shifts` in order and apart; `moves` inside them, in order."""

    shifts: tuple[Span, ...] = ()
    moves: tuple[Move, ...] = ()

    @property
    def online_ms(self) -> int:
        """Time in which work could be routed to him."""
        total = 0
        for start, end in self.shifts:
            since: int | None = start
            for move in self.moves:
                if not start <= move.at < end:
                    continue
                if move.presence == Presence.ONLINE:
                    since = move.at if since is None else since
                elif since is not None:
                    total += move.at - since
                    since = None
            if since is not None:
                total += end - since
        return total


async def recorded(conn: AsyncConnection, period: Period, agent_ids: Sequence[int]) -> dict[int, Attendance]:
    """The attendance of those of whom anything is known; the others are missing.

    Raises:
        Invalid: `too_much_traffic`.
    """
    if not agent_ids:
        return {}
    of_agents = and_(event.c.kind == "presence.changed", event.c.subject_id.in_(list(agent_ids)))
    before = (
        select(func.max(event.c.id).label("id"))
        .where(of_agents, event.c.at < period.start)
        .group_by(event.c.subject_id)
        .subquery()
    )
    columns = (event.c.subject_id, event.c.at, event.c.payload)
    earlier = await conn.execute(select(*columns).join(before, before.c.id == event.c.id))
    changes: dict[int, list[tuple[int, str]]] = {}
    for agent_id, _, payload in earlier:
        changes[agent_id] = [(period.start, payload["presence"])]
    inside = await conn.execute(
        select(*columns)
        .where(of_agents, event.c.at >= period.start, event.c.at < period.end)
        .order_by(event.c.subject_id, event.c.at, event.c.id)
        .limit(MAX_CHANGES + 1)
    )
    n = 0
    for agent_id, at, payload in inside:
        n += 1
        # A lost connection is noticed late; the event says since when he was gone.
        since = min(max(_since(payload, at), period.start), at)
        mine = changes.setdefault(agent_id, [])
        if not mine and payload.get("previous") not in (None, *_GONE):
            mine.append((period.start, payload["previous"]))
        mine.append((max(since, mine[-1][0]) if mine else since, payload["presence"]))
    if n > MAX_CHANGES:
        raise Invalid(
            f"more than {MAX_CHANGES} changes of presence in this period; ask for a shorter one",
            code="too_much_traffic", params={"at_most": MAX_CHANGES},
        )  # fmt: skip
    return {agent_id: of_changes(told, period) for agent_id, told in changes.items()}


def _since(payload: Mapping[str, object], at: int) -> int:
    try:
        return from_iso(str(payload["since"]))
    except (KeyError, ValueError):
        return at


def of_changes(changes: Iterable[tuple[int, str]], period: Period) -> Attendance:
    """Attendance of changes of presence (instant, presence) in order; nothing before the first."""
    shifts: list[Span] = []
    moves: list[Move] = []
    since: int | None = None
    now_is: str = Presence.OFFLINE
    for at, presence in changes:
        if presence == now_is:
            continue
        if presence in _GONE:
            if since is not None and at > since:
                shifts.append((since, at))
            since = None
        elif since is None:
            since = at
            if presence != Presence.ONLINE:
                moves.append(Move(at=at, presence=presence))
        else:
            moves.append(Move(at=at, presence=presence))
        now_is = presence
    if since is not None and period.end > since:
        shifts.append((since, period.end))
    return Attendance(tuple(shifts), tuple(moves))


def of_calendar(calendar: Calendar | None, period: Period) -> Attendance:
    """Attendance of somebody who is there in all hours of a calendar (None: always)."""
    if calendar is None:
        return Attendance(((period.start, period.end),))
    spans: list[Span] = []
    t = period.start
    while t < period.end:
        opening = calendar.next_open(t)
        if opening is None or opening >= period.end:
            break
        closing = calendar.next_close(opening)
        end = period.end if closing is None else min(closing, period.end)
        spans.append((opening, end))
        t = end
    return Attendance(tuple(spans))
