"""Whether work is shared out evenly: Jain's index of handled work per scheduled hour, per team and shift.

(sum x)^2 / (n * sum x^2): 1 when all do the same per hour, 1/n when one does all
(https://arxiv.org/abs/cs/9809099). Reported, never enforced. Reads ranges by an index; no history is kept for it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.clock import HOUR, MINUTE
from crm_core.schema import agent, team, team_member
from crm_core.views import iso
from routing import store
from routing.business_time import Calendar
from routing.model import Channel
from routing.planning.attendance import recorded
from routing.planning.past import Period
from routing.schema import assignment, offer
from routing.schema import calendar as calendar_table
from routing.settings import TeamSettings

TARGET = 0.95
MAX_MS = 93 * 24 * HOUR
#: who was scheduled for less is no measure of anything
MIN_HOURS_MS = 30 * MINUTE
#: work that came back to its sender was not handed out
_NOT_GIVEN = ("returned",)
_BY_HAND = ("take", "by_hand", "transfer", "preassigned")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One agent in one team. Hours are ms; `source` says whose: calendar, team_calendar or presence."""

    agent_id: int
    name: str
    shift: str | None
    handled: int = 0
    units: int = 0
    by_hand: int = 0
    scheduled_ms: int = 0
    online_ms: int = 0
    source: str = "presence"
    offers: int = 0
    accepted: int = 0
    declined: int = 0
    missed: int = 0

    @property
    def absent(self) -> bool:
        """Scheduled, but never there: on leave, not treated unfairly."""
        return self.online_ms == 0 and self.handled == 0 and self.offers == 0

    @property
    def counts(self) -> bool:
        return not self.absent and self.scheduled_ms >= MIN_HOURS_MS

    def per_hour(self, amount: int) -> float:
        return amount * HOUR / self.scheduled_ms if self.scheduled_ms else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The agents of one team who share a shift; `shift` None: those without a calendar of their own."""

    team_id: int
    team_name: str
    shift: str | None
    rows: tuple[Row, ...] = ()

    @property
    def jain(self) -> float | None:
        return jain(r.per_hour(r.handled) for r in self.rows if r.counts)

    @property
    def jain_units(self) -> float | None:
        return jain(r.per_hour(r.units) for r in self.rows if r.counts)


@dataclass(slots=True)
class _Counts:
    handled: int = 0
    units: int = 0
    by_hand: int = 0
    offers: dict[str, int] = field(default_factory=dict)


def jain(values: Iterable[float]) -> float | None:
    """Jain's index of values that are not negative; None of fewer than two, or of none above zero."""
    xs = list(values)
    squares = sum(x * x for x in xs)
    if len(xs) < 2 or squares == 0:
        return None
    return sum(xs) ** 2 / (len(xs) * squares)


async def report(conn: AsyncConnection, start: int, end: int, *, team_id: int | None = None) -> list[Group]:
    """The groups of all teams, or of one, over `[start, end)` (ms), by team and shift.

    Raises:
        Invalid `bad_period`: empty, or longer than 93 days.
    """
    period = Period.checked(start, end, longest_ms=MAX_MS)
    teams = select(team.c.id, team.c.name, team.c.settings, calendar_table.c.spec).outerjoin(
        calendar_table, calendar_table.c.id == team.c.calendar_id
    )
    teams = teams.where(team.c.id == team_id) if team_id is not None else teams.where(team.c.active)
    groups: list[Group] = []
    for row in (await conn.execute(teams.order_by(team.c.name, team.c.id))).mappings():
        rows = await _team(conn, period, row)
        shifts = sorted({r.shift for r in rows}, key=lambda s: (s is not None, s or ""))
        groups += [
            Group(
                team_id=row["id"], team_name=row["name"], shift=shift,
                rows=tuple(r for r in rows if r.shift == shift),
            )
            for shift in shifts
        ]  # fmt: skip
    return groups


async def _team(conn: AsyncConnection, period: Period, row: Mapping[Any, Any]) -> list[Row]:
    settings, _ = store.settings_of(row["settings"])
    counts = await _assigned(conn, period, row["id"], settings)
    await _offered(conn, period, row["id"], counts)
    members = select(team_member.c.agent_id).where(team_member.c.team_id == row["id"])
    people = (
        await conn.execute(
            select(
                agent.c.id,
                agent.c.name,
                agent.c.active,
                calendar_table.c.name.label("shift"),
                calendar_table.c.spec,
            )
            .outerjoin(calendar_table, calendar_table.c.id == agent.c.calendar_id)
            .where(agent.c.id.in_(members) | agent.c.id.in_(list(counts)))
            .order_by(agent.c.name, agent.c.id)
        )
    ).all()
    people = [p for p in people if p.active or p.id in counts]
    present = await recorded(conn, period, [p.id for p in people])
    team_hours = store.calendar_of(row["spec"])
    return [
        _row(
            p,
            counts.get(p.id, _Counts()),
            present[p.id].online_ms if p.id in present else 0,
            team_hours,
            period,
        )
        for p in people
    ]


def _row(person: Any, counts: _Counts, online_ms: int, team_hours: Calendar | None, period: Period) -> Row:
    own = store.calendar_of(person.spec)
    calendar, source = (own, "calendar") if own is not None else (team_hours, "team_calendar")
    if calendar is None:
        scheduled, source = online_ms, "presence"
    else:
        scheduled = calendar.elapsed(period.start, period.end)
    return Row(
        agent_id=person.id, name=person.name, shift=person.shift, handled=counts.handled, units=counts.units,
        by_hand=counts.by_hand, scheduled_ms=scheduled, online_ms=online_ms, source=source,
        offers=sum(counts.offers.values()), accepted=counts.offers.get("accepted", 0),
        declined=counts.offers.get("declined", 0), missed=counts.offers.get("expired", 0),
    )  # fmt: skip


async def _assigned(
    conn: AsyncConnection, period: Period, team_id: int, settings: TeamSettings
) -> dict[int, _Counts]:
    """What each agent was given out of this team's queue."""
    rows = await conn.execute(
        select(assignment.c.agent_id, assignment.c.channel, assignment.c.cause, func.count())
        .where(
            assignment.c.team_id == team_id,
            # Named one by one, so that the index is used to its third column.
            assignment.c.channel.in_([c.value for c in Channel]),
            assignment.c.started_at >= period.start,
            assignment.c.started_at < period.end,
            assignment.c.cause.not_in(_NOT_GIVEN),
        )
        .group_by(assignment.c.agent_id, assignment.c.channel, assignment.c.cause)
    )
    found: dict[int, _Counts] = {}
    for agent_id, channel, cause, n in rows:
        mine = found.setdefault(int(agent_id), _Counts())
        mine.handled += int(n)
        mine.units += int(n) * settings.channel(channel).weight
        mine.by_hand += int(n) if cause in _BY_HAND else 0
    return found


async def _offered(conn: AsyncConnection, period: Period, team_id: int, counts: dict[int, _Counts]) -> None:
    """How many offers each agent of the team had, and how they ended; of all his teams, since an offer is a
    person's.
    """
    members = select(team_member.c.agent_id).where(team_member.c.team_id == team_id)
    rows = await conn.execute(
        select(offer.c.agent_id, offer.c.state, func.count())
        .where(
            offer.c.agent_id.in_(members),
            offer.c.state.in_(("open", "accepted", "declined", "expired", "revoked")),
            offer.c.created_at >= period.start,
            offer.c.created_at < period.end,
        )
        .group_by(offer.c.agent_id, offer.c.state)
    )
    for agent_id, state, n in rows:
        counts.setdefault(int(agent_id), _Counts()).offers[state] = int(n)


def as_data(groups: Sequence[Group], start: int, end: int) -> dict[str, Any]:
    """The report as the API shows it. Hours with two digits; indexes with four, None where there is nothing to
    compare.
    """
    return {
        "from": iso(start),
        "to": iso(end),
        "target": TARGET,
        "groups": [
            {
                "team": {"id": g.team_id, "name": g.team_name},
                "shift": g.shift,
                "agents": sum(r.counts for r in g.rows),
                "jain": _rounded(g.jain),
                "jain_units": _rounded(g.jain_units),
                "reached": None if g.jain is None else g.jain >= TARGET,
                "rows": [row_data(r) for r in g.rows],
            }
            for g in groups
        ],
    }


def row_data(row: Row) -> dict[str, Any]:
    return {
        "agent": {"id": row.agent_id, "name": row.name},
        "handled": row.handled,
        "units": row.units,
        "by_hand": row.by_hand,
        "hours": round(row.scheduled_ms / HOUR, 2),
        "hours_source": row.source,
        "online_hours": round(row.online_ms / HOUR, 2),
        "per_hour": round(row.per_hour(row.handled), 3),
        "units_per_hour": round(row.per_hour(row.units), 3),
        "offers": row.offers,
        "accepted": row.accepted,
        "declined": row.declined,
        "missed": row.missed,
        "absent": row.absent,
        "counts": row.counts,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
