"""Which open requests will miss their deadline with the people who are there, if nothing is changed.

What waits is played on by the simulator from the present state: who is online with what he has in hand, who comes by
his calendar, what else is going to come. What an agent has but has not answered yet is walked through in the order of
its deadlines, one after the other. Reads only.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import and_, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.clock import HOUR, MINUTE, to_iso
from crm_core.db.engine import Database
from crm_core.errors import Invalid, NotFound
from crm_core.schema import agent, inquiry, team
from crm_core.views import NUMBER_BASE
from routing import store
from routing.model import QUEUED, Item, ItemState
from routing.planning import attendance, history, outlook, profile, roster
from routing.planning.compute import in_child
from routing.planning.forecast import Record, look_back
from routing.planning.handling import HandleStats
from routing.planning.outlook import Coming, Held, Outlook, Person, TeamNow, Waiting
from routing.planning.past import Period
from routing.planning.roster import Person as Member
from routing.planning.words import note
from routing.schema import assignment, sla_clock, work_item

#: waiting requests that are looked at, the most urgent first
MAX_ITEMS = 500
#: requests in hand and not answered that are looked at
MAX_UNANSWERED = 2_000
MAX_HOURS = 48
SEEDS = 20
#: contacts that may be played in a thread; more go to a process of their own
AT_ONCE = 1_500
LIMIT_S = 30.0


@dataclass(slots=True)
class _Now:
    """The present state, read once."""

    teams: Mapping[int, store.TeamContext]
    shown: Sequence[int]
    people: Sequence[Member]
    items: list[Item] = field(default_factory=list)
    left_out: bool = False
    held: list[Held] = field(default_factory=list)
    unanswered: list[Mapping[str, Any]] = field(default_factory=list)


async def at_risk(
    db: Database, *, now: int, team_id: int | None = None, hours: int = 8, seeds: int = SEEDS
) -> dict[str, Any]:
    """Requests whose promise will be broken, the most probable and most urgent first.

    Args:
        hours: deadlines up to so far ahead; what is late already is told apart.

    Returns:
        {"at", "hours", "seeds", "items": [{"item_id"|None, "inquiry", "team_id", "channel", "state", "assignee",
        "due_at", "late", "probability", "expected_at"}], "teams": [...], "notes"}.

    Raises:
        NotFound: no such team. Invalid.
    """
    if not 1 <= hours <= MAX_HOURS:
        raise Invalid(f"hours must be between 1 and {MAX_HOURS}", code="bad_hours")
    async with db.reading() as conn:
        state = await _read_now(conn, now, team_id, until=now + hours * HOUR)
    record = await look_back(db, now, team_id=team_id)
    notes: list[dict[str, Any]] = []
    if state.left_out:
        notes.append(note("items_left_out", n=MAX_ITEMS))
    predicted = await _play(state, record, now, hours, seeds)
    subjects = await _subjects(db, state)
    items = [
        *_of_waiting(state, predicted, now, hours, subjects),
        *_of_unanswered(state, record, now, subjects),
    ]
    items.sort(key=lambda i: (i["late"], -i["probability"], i["due_at"], i["item_id"]))
    for i in state.shown:
        waits = any(item.team_id == i for item in state.items)
        if waits and not any(p.online and i in p.teams for p in state.people):
            notes.append(note("nobody_there", team=state.teams[i].name))
    return {
        "at": to_iso(now),
        "hours": hours,
        "seeds": seeds,
        "items": items,
        "teams": [_team(i, state, items) for i in state.shown],
        "notes": notes,
    }


# --- the present
# --------------------------------------------------------------------------------------------
async def _read_now(conn: AsyncConnection, now: int, team_id: int | None, *, until: int) -> _Now:
    wanted = select(team.c.id).where(team.c.active).order_by(team.c.name)
    if team_id is not None:
        wanted = wanted.where(team.c.id == team_id)
    shown = [int(i) for i in (await conn.scalars(wanted)).all()]
    if team_id is not None and not shown:
        raise NotFound(f"no team {team_id}", params={"team_id": team_id})
    state = _Now(await history.teams(conn), shown, await roster.people(conn, now))
    statement = select(work_item).where(work_item.c.state.in_(QUEUED), work_item.c.team_id.in_(shown))
    rows = await conn.execute(statement.order_by(work_item.c.order_key, work_item.c.id).limit(MAX_ITEMS + 1))
    found = [Item.from_row(r) for r in rows.mappings()]
    state.items, state.left_out = found[:MAX_ITEMS], len(found) > MAX_ITEMS
    online = [p.id for p in state.people if p.online]
    if online:
        held = await conn.execute(
            select(
                assignment.c.agent_id, assignment.c.channel, work_item.c.team_id, work_item.c.state, work_item.c.wake_at
            )
            .join(work_item, work_item.c.id == assignment.c.item_id)
            .where(assignment.c.agent_id.in_(online), assignment.c.ended_at.is_(None), assignment.c.holds_slot)
            .order_by(assignment.c.id)
        )  # fmt: skip
        state.held = [
            Held(
                agent_id=a, channel=c, team_id=t,
                left_ms=max((wake or now) - now, 0) if item_state == ItemState.WRAPUP else None,
            )
            for a, c, t, item_state, wake in held
        ]  # fmt: skip
    due = func.min(sla_clock.c.due_at).label("due_at")
    whose = (
        work_item.c.id, work_item.c.inquiry_id, work_item.c.team_id, work_item.c.channel, work_item.c.owner_id
    )  # fmt: skip
    unanswered = await conn.execute(
        select(*whose, due)
        .join(
            sla_clock,
            and_(
                sla_clock.c.inquiry_id == work_item.c.inquiry_id, sla_clock.c.state == "active",
                sla_clock.c.metric.in_(("first_reply", "next_reply")), sla_clock.c.due_at <= until,
            ),
        )
        .where(work_item.c.owner_id.is_not(None), work_item.c.state == "assigned", work_item.c.team_id.in_(shown))
        .group_by(*whose)
        .order_by(due, work_item.c.id)
        .limit(MAX_UNANSWERED)
    )  # fmt: skip
    state.unanswered = [dict(r) for r in unanswered.mappings()]
    return state


async def _subjects(db: Database, state: _Now) -> dict[int, Mapping[str, Any]]:
    ids = {i.inquiry_id for i in state.items} | {u["inquiry_id"] for u in state.unanswered}
    wanted = sorted(i for i in ids if i is not None)
    if not wanted:
        return {}
    async with db.reading() as conn:
        rows = await conn.execute(
            select(inquiry.c.id, inquiry.c.subject, inquiry.c.priority, agent.c.id.label("who"), agent.c.name)
            .outerjoin(agent, agent.c.id == inquiry.c.assignee_id)
            .where(inquiry.c.id.in_(wanted))
        )
        return {int(r["id"]): dict(r) for r in rows.mappings()}


# --- what waits: played on
# ------------------------------------------------------------------------------------
async def _play(state: _Now, record: Record, now: int, hours: int, seeds: int) -> outlook.Predicted:
    waiting = [_waiting(i, record) for i in state.items]
    if not waiting:
        return {}
    coming = await asyncio.to_thread(_coming, state, record, now, hours)
    question = Outlook(
        now=now,
        until=now + hours * HOUR,
        teams=tuple(
            TeamNow(id=i, name=t.name, settings=t.settings, calendar=None if t.calendar is None else t.calendar.spec)
            for i, t in state.teams.items()
        ),
        people=tuple(_person(p, state, now, hours) for p in state.people),
        waiting=tuple(waiting),
        held=tuple(_remaining(h, record) for h in state.held),
        coming=tuple(coming),
    )  # fmt: skip
    size = (len(waiting) + len(question.held) + sum(c.arrivals for c in coming)) * seeds
    if size <= AT_ONCE:
        return await asyncio.to_thread(outlook.predict, question, seeds)
    return await in_child(outlook.predict, question, seeds, limit_s=LIMIT_S)


def _waiting(item: Item, record: Record) -> Waiting:
    stats = _stats(record, item.team_id, item.channel)
    return Waiting(item=item, aht_ms=stats.aht_ms, reply_ms=stats.reply_ms)


def _stats(record: Record, team_id: int | None, channel: str) -> HandleStats:
    return record.stats.get((team_id, channel)) or HandleStats(channel)


def _remaining(held: Held, record: Record) -> Held:
    return replace(held, aht_ms=_stats(record, held.team_id, held.channel).aht_ms)


def _person(member: Member, state: _Now, now: int, hours: int) -> Person:
    """Who is online stays until his hours end; who is not comes with his next shift."""
    home = state.teams.get(min(member.teams))
    hours_of = member.shifts or (home.calendar if home is not None else None)
    ahead = Period(now, now + hours * HOUR + HOUR)
    shifts = list(attendance.of_calendar(hours_of, ahead).shifts) if hours_of is not None else []
    running = bool(shifts) and shifts[0][0] <= now
    if member.online and not running:
        # Beyond his hours, or without any: he is there, and is taken to stay.
        first_end = shifts[0][0] if shifts else ahead.end
        shifts.insert(0, (now, first_end))
    elif not member.online and running:
        shifts.pop(0)  # he should be there and is not; until his next shift he is not counted on
    if not member.online and not member.plannable:
        shifts = []
    return Person(
        id=member.id, name=member.name, teams=member.teams, skills=dict(member.skills),
        capacity=dict(member.capacity), online=member.online, shifts=tuple(shifts),
    )  # fmt: skip


def _coming(state: _Now, record: Record, now: int, hours: int) -> list[Coming]:
    """What the forecast expects besides, by half-hour."""
    expected = []
    for (team_id, channel), counts in record.counts.items():
        context = state.teams.get(team_id or 0)
        if context is None or team_id is None or record.since is None:
            continue
        zone = ZoneInfo(context.calendar.spec.tz) if context.calendar is not None else ZoneInfo("UTC")
        learned = profile.learn(counts, since=record.since, until=now, zone=zone, calendar=context.calendar)
        bins = tuple(
            (
                max(b.start, now),
                b.end,
                learned.expect(b).arrivals * (b.end - max(b.start, now)) / (b.end - b.start),
            )
            for b in profile.half_hours(zone, now, now + hours * HOUR)
        )
        if any(n > 0 for _, _, n in bins):
            expected.append(
                Coming(
                    team_id=team_id,
                    channel=channel,
                    aht_ms=_stats(record, team_id, channel).aht_ms,
                    bins=bins,
                )
            )
    return expected


def _of_waiting(
    state: _Now, predicted: outlook.Predicted, now: int, hours: int,
    subjects: Mapping[int, Mapping[str, Any]],
) -> list[dict[str, Any]]:  # fmt: skip
    found = []
    for item in state.items:
        due = item.due_at
        if due is None or due > now + hours * HOUR:
            continue
        late = due <= now
        probability, expected = predicted.get(item.id, (1.0, None))
        if not late and probability == 0:
            continue
        found.append(
            _entry(
                item.id, item.inquiry_id, item.team_id, item.channel, item.state, None, due, now=now,
                probability=1.0 if late else probability, expected=expected, subjects=subjects,
            )
        )  # fmt: skip
    return found


# --- what somebody has: walked through
# -------------------------------------------------------------------------
def _of_unanswered(
    state: _Now, record: Record, now: int, subjects: Mapping[int, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Each agent answers what he has in the order of its deadlines, in the usual time each."""
    by_id = {p.id: p for p in state.people}
    free_at: dict[int, int] = {}
    found = []
    for row in state.unanswered:
        owner, due = row["owner_id"], int(row["due_at"])
        person = by_id.get(owner)
        usual = _stats(record, row["team_id"], row["channel"]).reply_ms
        expected: int | None = None
        if person is not None and person.online:
            expected = free_at.get(owner, now) + max(usual, MINUTE)
            free_at[owner] = expected
        if expected is not None and expected <= due:
            continue
        found.append(
            _entry(
                row["id"], row["inquiry_id"], row["team_id"], row["channel"], "assigned", owner, due, now=now,
                probability=1.0, expected=expected, subjects=subjects,
                name=person.name if person is not None else None,
            )
        )  # fmt: skip
    return found


def _entry(
    item_id: int, inquiry_id: int | None, team_id: int | None, channel: str, item_state: str, owner: int | None,
    due: int, *, now: int, probability: float, expected: int | None,
    subjects: Mapping[int, Mapping[str, Any]], name: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    about = subjects.get(inquiry_id or 0)
    shown = None
    if about is not None and inquiry_id is not None:
        shown = {
            "id": inquiry_id, "number": inquiry_id + NUMBER_BASE, "subject": about["subject"],
            "priority": about["priority"],
        }  # fmt: skip
        name = name or about["name"]
    return {
        "item_id": item_id,
        "inquiry": shown,
        "team_id": team_id,
        "channel": channel,
        "state": item_state,
        "assignee": None if owner is None else {"id": owner, "name": name},
        "due_at": to_iso(due),
        "late": due <= now,
        "probability": round(probability, 3),
        "expected_at": None if expected is None else to_iso(expected),
    }


def _team(team_id: int, state: _Now, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    mine = [i for i in items if i["team_id"] == team_id]
    return {
        "team": {"id": team_id, "name": state.teams[team_id].name},
        "online": sum(1 for p in state.people if p.online and team_id in p.teams),
        "waiting": sum(1 for i in state.items if i.team_id == team_id),
        "late": sum(1 for i in mine if i["late"]),
        "expected_breaches": round(sum(i["probability"] for i in mine if not i["late"]), 1),
    }
