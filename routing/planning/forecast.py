"""The staffing forecast: what will come, whom it needs, who is planned and who is there, half-hour by half-hour.

Owns putting the parts together (`profile`, `handling`, `staffing`, `roster`); reads only, answers plain data.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.clock import DAY, HOUR, MINUTE, to_iso
from crm_core.db.engine import Database
from crm_core.errors import Invalid, NotFound
from crm_core.schema import team
from routing.model import QUEUED, Channel
from routing.planning import history, profile, roster, staffing
from routing.planning.handling import MIN_SAMPLES, HandleStats
from routing.planning.past import Period
from routing.planning.profile import HALF_HOUR_MS, Basis, HalfHour, Profile
from routing.planning.roster import Person
from routing.planning.staffing import Need, Target
from routing.planning.words import note
from routing.schema import work_item
from routing.store import TeamContext

#: weeks of the record that are looked at
WEEKS = 8
MAX_HOURS = 14 * 24
#: finished contacts that handle times are averaged over, the latest, of items and of calls
SAMPLE = 5_000

Key = tuple[int | None, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked. `target` is of calls and chats; see `staffing.target_of` for the others."""

    hours: int = 12
    shrinkage: float = 0.3
    target: Target = Target(0.8, 20_000)  # noqa: RUF009 - frozen, no list or dict
    team_id: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.hours <= MAX_HOURS:
            raise Invalid(f"hours must be between 1 and {MAX_HOURS}", code="bad_hours")
        if not 0 <= self.shrinkage <= 0.95:
            raise Invalid("shrinkage is a share of the paid time, from 0 to 0.95", code="bad_shrinkage")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What the past says: arrivals by quarter-hour, handle times, and what waits now."""

    since: int | None
    now: int
    counts: Mapping[Key, Mapping[int, int]]
    stats: Mapping[Key, HandleStats]
    backlog: Mapping[Key, int]


async def forecast(db: Database, wish: Wish, now: int) -> dict[str, Any]:
    """The forecast from the half-hour that `now` is in on.

    Returns:
        {"at", "until", "target", "shrinkage", "history", "teams": [{"team", "zone", "online", "channels",
        "intervals": [...], "short_now", "worst"}], "notes"}; see docs/planning.md.

    Raises:
        NotFound: no such team. Invalid.
    """
    async with db.reading() as conn:
        names = await _teams(conn, wish.team_id)
        contexts = await history.teams(conn)
        who = await roster.people(conn, now)
    record = await look_back(db, now, team_id=wish.team_id)
    notes = _notes_on_record(record, wish)
    # Not for long, but other people's messages go through this loop.
    found = await asyncio.to_thread(
        lambda: [_team(team_id, contexts[team_id], who, record, wish) for team_id in names]
    )
    for _, remarks in found:
        notes += remarks
    return {
        "at": to_iso(now),
        "hours": wish.hours,
        "target": {
            "percent": round(wish.target.share * 100, 2),
            "within_s": wish.target.within_ms / 1000,
            "variant": staffing.VARIANT,
        },
        "shrinkage": wish.shrinkage,
        "history": {
            "from": None if record.since is None else to_iso(record.since),
            "to": to_iso(now),
            "requests": sum(sum(c.values()) for c in record.counts.values()),
        },
        "teams": [team_ for team_, _ in found],
        "notes": notes,
    }


async def look_back(db: Database, now: int, *, team_id: int | None = None) -> Record:
    """Read what a forecast stands on."""
    async with db.reading() as conn:
        first = await history.first_request_at(conn)
        backlog = await _backlog(conn)
        if first is None or first >= now:
            return Record(since=None, now=now, counts={}, stats={}, backlog=backlog)
        period = Period(max(first - first % history.QUARTER_MS, now - WEEKS * 7 * DAY), now)
        counts = await history.arrivals(conn, period, team_id=team_id)
    stats: dict[Key, HandleStats] = {}
    async for page in history.requests(db, period, team_id=team_id, latest=SAMPLE):
        for request in page:
            key = (request.team_id, request.channel)
            stats.setdefault(key, HandleStats(request.channel)).add(request, now)
    return Record(since=period.start, now=now, counts=counts, stats=stats, backlog=backlog)


async def _teams(conn: AsyncConnection, team_id: int | None) -> list[int]:
    statement = select(team.c.id).where(team.c.active).order_by(team.c.name)
    if team_id is not None:
        statement = statement.where(team.c.id == team_id)
    found = [int(i) for i in (await conn.scalars(statement)).all()]
    if team_id is not None and not found:
        raise NotFound(f"no team {team_id}", params={"team_id": team_id})
    return found


async def _backlog(conn: AsyncConnection) -> dict[Key, int]:
    rows = await conn.execute(
        select(work_item.c.team_id, work_item.c.channel, func.count())
        .where(work_item.c.state.in_(QUEUED))
        .group_by(work_item.c.team_id, work_item.c.channel)
    )
    return {(team_id, channel): int(n) for team_id, channel, n in rows}


def _notes_on_record(record: Record, wish: Wish) -> list[dict[str, Any]]:
    if record.since is None:
        return [note("no_history")]
    notes = []
    days = (record.now - record.since) // DAY
    if days < 14:
        notes.append(note("short_history", days=days))
    nobody = sum(sum(c.values()) for (team_id, _), c in record.counts.items() if team_id is None)
    if nobody and wish.team_id is None:
        notes.append(note("no_team", n=nobody))
    return notes


def _team(
    team_id: int, context: TeamContext, who: Sequence[Person], record: Record, wish: Wish
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    zone = ZoneInfo(context.calendar.spec.tz) if context.calendar is not None else ZoneInfo("UTC")
    mine = [p for p in who if team_id in p.teams]
    notes = _notes_on_people(context, mine)
    channels = [
        c.value
        for c in Channel
        if (team_id, c.value) in record.counts or record.backlog.get((team_id, c.value))
    ]
    profiles: dict[str, Profile] = {}
    shown = []
    for channel in channels:
        stats = record.stats.get((team_id, channel), HandleStats(channel))
        profiles[channel] = profile.learn(
            record.counts.get((team_id, channel), {}), since=record.since or record.now, until=record.now, zone=zone,
            calendar=context.calendar,
        )  # fmt: skip
        shown.append(_channel(channel, context, stats, wish.target))
        notes += _notes_on_channel(context, channel, stats, profiles[channel])
    until = record.now + wish.hours * HOUR
    bins = list(profile.half_hours(zone, record.now, until))
    intervals, parked = _intervals(team_id, context, mine, profiles, bins, record, wish)
    if parked:
        notes.append(note("parked", team=context.name))
    online = sum(1 for p in mine if p.online)
    worst = max(intervals, key=lambda i: i["short"], default=None)
    return {
        "team": {"id": team_id, "name": context.name},
        "zone": zone.key,
        "online": online,
        "channels": shown,
        "intervals": intervals,
        "short_now": max(intervals[0]["needed"] - online, 0) if intervals else 0,
        "worst": {"from": worst["from"], "short": worst["short"]} if worst and worst["short"] else None,
    }, notes


def _notes_on_people(context: TeamContext, mine: Sequence[Person]) -> list[dict[str, Any]]:
    workers = [p for p in mine if p.plannable]
    notes = []
    without = sum(1 for p in workers if p.shifts is None)
    if without:
        notes.append(note("no_shifts", team=context.name, n=without, of=len(workers)))
    shared = sum(1 for p in workers if len(p.teams) > 1)
    if shared:
        notes.append(note("shared_agents", team=context.name, n=shared))
    return notes


def _notes_on_channel(
    context: TeamContext, channel: str, stats: HandleStats, learned: Profile
) -> list[dict[str, Any]]:
    notes = []
    if not stats.known:
        minutes = round(stats.aht_ms / MINUTE, 1)
        notes.append(
            note(
                "guessed_handle_time", team=context.name, channel=channel, least=MIN_SAMPLES, minutes=minutes
            )
        )
    limit = staffing.places_per_agent(channel, context.settings)
    if stats.known and stats.concurrency < limit / 2:
        seen = round(stats.concurrency, 1)
        notes.append(note("fewer_at_once", team=context.name, channel=channel, limit=limit, seen=seen))
    if channel == Channel.VOICE and stats.patience_ms is None:
        notes.append(note("no_patience", team=context.name, channel=channel, least=MIN_SAMPLES))
    if learned.today_factor != 1.0:
        percent = round(learned.today_factor * 100)
        notes.append(note("today_differs", team=context.name, channel=channel, percent=percent))
    return notes


def _channel(channel: str, context: TeamContext, stats: HandleStats, target: Target) -> dict[str, Any]:
    goal = staffing.target_of(channel, target, context.settings)
    return {
        "channel": channel,
        "aht_s": round(stats.aht_ms / 1000, 1),
        "aht_known": stats.known,
        "measured": stats.measured,
        "patience_s": None if stats.patience_ms is None else round(stats.patience_ms / 1000, 1),
        "abandoned": stats.abandoned,
        "at_once": staffing.places_per_agent(channel, context.settings),
        "at_once_observed": round(stats.concurrency, 2) if stats.measured else None,
        "target": {"percent": round(goal.share * 100, 2), "within_s": goal.within_ms / 1000},
        "formula": "C" if stats.patience_ms is None else "A",
    }


def _intervals(
    team_id: int, context: TeamContext, mine: Sequence[Person], profiles: Mapping[str, Profile],
    bins: Sequence[HalfHour], record: Record, wish: Wish,
) -> tuple[list[dict[str, Any]], bool]:  # fmt: skip
    # What waits already has to be handled besides what comes.
    pending = {c: float(record.backlog.get((team_id, c), 0)) for c in profiles}
    spread: dict[str, list[float]] = defaultdict(list)
    parks = context.settings.after_hours == "park" and context.calendar is not None
    any_parked = False
    shown = []
    for bin_ in bins:
        is_open = not parks or context.calendar is None or context.calendar.elapsed(bin_.start, bin_.end) > 0
        needs, basis = [], {}
        coming: dict[str, float] = {}
        for channel, learned in profiles.items():
            expected = learned.expect(bin_)
            # The half-hour that runs brings at least what it has brought; what of that waits is in the backlog.
            came = _came(record.counts.get((team_id, channel), {}), bin_) - pending[channel]
            load = max(expected.arrivals, came)
            coming[channel], basis[channel] = load, expected.basis
            if not is_open and channel != Channel.CALLBACK:
                any_parked = any_parked or (load > 0 and channel != Channel.VOICE)
                # Nobody holds a line until the morning: a call outside the hours is not served later.
                pending[channel] += 0.0 if channel == Channel.VOICE else load
                continue
            load += _from_pending(channel, pending, spread, context)
            stats = record.stats.get((team_id, channel), HandleStats(channel))
            needs.append(
                staffing.need(
                    channel, load, HALF_HOUR_MS, aht_ms=stats.aht_ms, patience_ms=stats.patience_ms,
                    per_agent=staffing.places_per_agent(channel, context.settings),
                    target=staffing.target_of(channel, wish.target, context.settings),
                )
            )  # fmt: skip
        shown.append(_interval(bin_, context, mine, needs, coming, basis, is_open=is_open, wish=wish))
    return shown, any_parked


def _came(quarters: Mapping[int, int], bin_: HalfHour) -> int:
    return sum(quarters.get(q, 0) for q in range(bin_.start, bin_.end, history.QUARTER_MS))


def _from_pending(
    channel: str, pending: dict[str, float], spread: dict[str, list[float]], context: TeamContext
) -> float:
    """What of the work that waits falls into this half-hour: live work at once, other work within its longest wait."""
    waiting, pending[channel] = pending[channel], 0.0
    if channel != Channel.ASYNC:
        return waiting
    parts = max(round(context.settings.channel(channel).max_wait_ms / HALF_HOUR_MS), 1)
    queue = spread[channel]
    if waiting:
        queue.extend([0.0] * (parts - len(queue)))
        for i in range(parts):
            queue[i] += waiting / parts
    return queue.pop(0) if queue else 0.0


def _interval(
    bin_: HalfHour, context: TeamContext, mine: Sequence[Person], needs: Sequence[Need],
    coming: Mapping[str, float], basis: Mapping[str, Basis], *, is_open: bool, wish: Wish,
) -> dict[str, Any]:  # fmt: skip
    needed = staffing.together(list(needs))
    staff = staffing.to_schedule(needed, wish.shrinkage)
    there = roster.planned(mine, context.calendar, bin_.start, bin_.end)
    zone = ZoneInfo(context.calendar.spec.tz) if context.calendar is not None else ZoneInfo("UTC")
    return {
        "from": to_iso(bin_.start),
        "to": to_iso(bin_.end),
        "local": datetime.fromtimestamp(bin_.start / 1000, zone).isoformat(timespec="minutes"),
        "open": is_open,
        "arrivals": {c: round(n, 2) for c, n in coming.items()},
        "basis": {c: b.value for c, b in basis.items()},
        "channels": [
            {
                "channel": n.channel, "arrivals": round(n.arrivals, 2), "erlangs": round(n.erlangs, 3),
                "places": n.places, "agents": round(n.agents, 2), "formula": n.formula,
                "service_level": None if n.service_level is None else round(n.service_level * 100, 2),
            }
            for n in needs
        ],
        "needed": needed,
        "staff": staff,
        "planned": round(there, 1),
        "short": max(-int(-(staff - there - 1e-9) // 1), 0),
    }  # fmt: skip
