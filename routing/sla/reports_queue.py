"""How fast people came and how they were occupied: the reports service and handling.

Service reads the speed_of_answer clocks of chats that began in the period, by their own index, and the calls by theirs
(`reports_calls`). Handling reads the assignments
that touch it and the presence of their agents, by theirs. Live work is voice, chat and callbacks: while it lasts, the
agent is busy; asynchronous work is held, not worked on without a break, and is counted apart.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Integer, String, literal_column, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.schema import agent, event, inquiry, team_member
from routing import reporting
from routing.business_time import Interval
from routing.calendar_spec import union
from routing.model import Channel, Presence
from routing.schema import assignment, sla_clock, sla_event
from routing.sla import book as books
from routing.sla import reports_calls, store
from routing.sla.clock import ClockState
from routing.sla.reports import Numbers, Question, Table, answer
from routing.sla.reports_calls import End
from routing.sla.reports_promises import fact
from routing.sla.translate import LIVE_CHANNELS as CHATS

_PAGE = 500
LIVE_CHANNELS = frozenset({Channel.VOICE.value, Channel.CHAT.value, Channel.CALLBACK.value})
HANDED_ON = frozenset({"transfer", "transferred"})
#: presences in which an agent is at work and could be given something
_AT_WORK = frozenset({Presence.ONLINE.value})

SERVICE_VARIANTS = {
    "unit": "a call or live chat that began to wait for a person, in the interval in which it was offered",
    "service_level_pct": "the default, abandons ignored: answered within T / (offered - abandoned within T)",
    "service_level_negative_pct": "answered within T / offered",
    "service_level_positive_pct": "(answered within T + abandoned within T) / offered",
    "service_level_answered_pct": "answered within T / answered",
    "service_level_short_removed_pct": "answered within T / (offered - short abandons)",
    "answered, abandoned": "calls: a person picked up, or nobody did before the end, whoever hung up; chats: a person"
    " took it or wrote, or the visitor left",
    "offered": "answered + abandoned; callbacks taken, withdrawn and still waiting ones are apart",
    "asa_s": "sum of the waits of answered contacts / answered, ring time and zero waits included",
    "wait_mean_s, wait_max_s": "of answered and abandoned contacts together",
    "abandoned_pct": "abandoned / (answered + abandoned + callbacks taken)",
    "abandoned_short": "within the short threshold, contained in abandoned",
}
HANDLING_VARIANTS = {
    "unit": "an assignment that ended, in the interval of its end; times are split over the intervals they touch",
    "handled": "assignments ended, handed on ones included; transfer_pct = transferred / handled",
    "aht_s": "live work (voice, chat, callback): sum of talk, hold and wrap-up of assignments / handled live",
    "aht_concurrency_adjusted_s": "agents' busy time / handled live: two chats at once are one busy minute",
    "busy_s": "agents' time with at least one live assignment",
    "occupancy_pct": "busy / (busy + available); available is online without live work, breaks are in neither; by team"
    " an agent is available to each of his teams, so teams do not add up; by channel nobody can tell",
    "utilisation_pct": "busy / paid, where an agent's own shifts are known (his calendar); else nothing",
    "async_held_median_s": "of asynchronous assignments: from assignment to end by the clock on the wall",
}


# --- service --------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class Waits:
    threshold_ms: int
    short_ms: int
    answered: list[int] = field(default_factory=list)
    abandoned: list[int] = field(default_factory=list)
    callbacks: int = 0
    withdrawn: int = 0
    waiting: int = 0

    def numbers(self) -> Numbers:
        counts = reporting.QueueCounts(
            answered=len(self.answered),
            abandoned=len(self.abandoned),
            answered_within_t=sum(w <= self.threshold_ms for w in self.answered),
            abandoned_within_t=sum(w <= self.threshold_ms for w in self.abandoned),
            abandoned_short=sum(w < self.short_ms for w in self.abandoned),
        )
        levels = reporting.service_levels(counts)
        both = [*self.answered, *self.abandoned]
        return {
            "offered": counts.offered,
            "answered": counts.answered,
            "abandoned": counts.abandoned,
            "abandoned_short": counts.abandoned_short,
            "answered_within_t": counts.answered_within_t,
            "callbacks_taken": self.callbacks,
            "withdrawn": self.withdrawn,
            "still_waiting": self.waiting,
            "service_level_pct": levels.abandons_ignored,
            "service_level_negative_pct": levels.abandons_negative,
            "service_level_positive_pct": levels.abandons_positive,
            "service_level_answered_pct": levels.answered_only,
            "service_level_short_removed_pct": levels.short_abandons_removed,
            "asa_s": reporting.average_speed_of_answer_s([w / 1000 for w in self.answered]),
            "wait_mean_s": sum(both) / len(both) / 1000 if both else None,
            "wait_max_s": max(both) / 1000 if both else None,
            "abandoned_pct": reporting.abandonment_pct(counts.abandoned, counts.offered + self.callbacks),
        }


async def service(conn: AsyncConnection, question: Question, now: int) -> dict[str, Any]:
    table = Table.of(question, lambda: Waits(question.threshold_ms, question.short_ms))
    answers = sla_clock.c.metric == literal_column("'speed_of_answer'")
    behind = (question.begin, 0)
    while True:
        statement = (
            select(
                sla_clock, inquiry.c.channel, inquiry.c.team_id, inquiry.c.assignee_id,
                inquiry.c.priority.label("its_priority"),
            )
            .join(inquiry, inquiry.c.id == sla_clock.c.inquiry_id)
            .where(
                answers, inquiry.c.channel.in_(sorted(CHATS)), sla_clock.c.activated_at < question.end,
                tuple_(sla_clock.c.activated_at, sla_clock.c.id) > behind,
            )
            .order_by(sla_clock.c.activated_at, sla_clock.c.id)
            .limit(_PAGE)
        )  # fmt: skip
        rows = (await conn.execute(statement)).mappings().all()
        ends = await _ends(conn, [row["id"] for row in rows])
        for row in rows:
            _add_wait(table, row, ends.get(row["id"]))
        if len(rows) < _PAGE:
            async for one in reports_calls.waits(conn, question.begin, question.end, now):
                _add_call(table, one)
            extra = {"threshold_s": question.threshold_ms / 1000, "short_s": question.short_ms / 1000}
            return await answer(conn, "service", table, SERVICE_VARIANTS, now, **extra)
        behind = (rows[-1]["activated_at"], rows[-1]["id"])


def _add_call(table: Table[Waits], one: reports_calls.CallWait) -> None:
    for cell in table.at(one.at, one.facts):
        match one.end:
            case End.ANSWERED:
                cell.answered.append(one.wait_ms)
            case End.ABANDONED:
                cell.abandoned.append(one.wait_ms)
            case End.CALLBACK:
                cell.callbacks += 1
            case End.WAITING:
                cell.waiting += 1
            case End.WITHDRAWN:
                cell.withdrawn += 1


def _add_wait(table: Table[Waits], row: Mapping[Any, Any], end: Mapping[str, Any] | None) -> None:
    clock = store.clock_of({k: v for k, v in row.items() if isinstance(k, str)})
    facts = {
        "team": end["team_id"] if end else row["team_id"],
        "agent": end["agent_id"] if end else row["assignee_id"],
        "channel": end["channel"] if end else row["channel"],
        "metric": str(clock.metric),
        "priority": end["priority"] if end else row["its_priority"],
    }
    for cell in table.at(clock.activated_at, facts):
        wait = clock.changed_at - clock.activated_at
        if clock.paused_ms or clock.paused_since is not None:
            cell.callbacks += 1
        elif clock.live:
            cell.waiting += 1
        elif clock.state is ClockState.FULFILLED and clock.cause == "answered":
            cell.answered.append(wait)
        elif clock.state is ClockState.CANCELLED and clock.cause == "abandoned":
            cell.abandoned.append(wait)
        else:
            cell.withdrawn += 1


async def _ends(conn: AsyncConnection, clock_ids: Sequence[int]) -> dict[int, Mapping[str, Any]]:
    """Who was responsible at the end of each wait."""
    if not clock_ids:
        return {}
    statement = (
        select(
            sla_event.c.clock_id, fact("team_id", Integer), fact("agent_id", Integer),
            fact("channel", String), fact("priority", String),
        )
        .where(sla_event.c.clock_id.in_(clock_ids), sla_event.c.kind.in_(("fulfil", "cancel")))
        .order_by(sla_event.c.id)
    )  # fmt: skip
    return {row["clock_id"]: dict(row) for row in (await conn.execute(statement)).mappings()}


# --- handling -------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class Work:
    handled: int = 0
    handled_live: int = 0
    transferred: int = 0
    live_ms: int = 0
    busy_ms: int = 0
    at_work_ms: int | None = None
    """Online or busy. None: it cannot be told apart for this row."""
    paid_ms: int = 0
    paid_busy_ms: int = 0
    held: list[int] = field(default_factory=list)

    def numbers(self) -> Numbers:
        live, busy = self.live_ms / 1000, self.busy_ms / 1000
        free = None if self.at_work_ms is None else max(0, self.at_work_ms - self.busy_ms) / 1000
        return {
            "handled": self.handled,
            "handled_live": self.handled_live,
            "handled_async": len(self.held),
            "transferred": self.transferred,
            "transfer_pct": reporting.percent(self.transferred, self.handled),
            "aht_s": reporting.average_handle_time_s(live, 0, 0, self.handled_live),
            "aht_concurrency_adjusted_s": reporting.average_handle_time_s(busy, 0, 0, self.handled_live),
            "busy_s": busy,
            "available_s": free,
            "occupancy_pct": None if free is None else reporting.occupancy_pct(busy, free),
            "utilisation_pct": reporting.utilisation_pct(self.paid_busy_ms, self.paid_ms),
            "async_held_median_s": _median_s(self.held),
        }


def _median_s(values: Sequence[int]) -> float | None:
    middle = reporting.percentile(values, 50)
    return None if middle is None else middle / 1000


async def handling(conn: AsyncConnection, question: Question, now: int) -> dict[str, Any]:
    table = Table.of(question, Work)
    rows = await _assignments(conn, question)
    busy: dict[int, list[Interval]] = {}
    by_team: dict[tuple[int, int | None], list[Interval]] = {}
    for row in rows:
        begin, end = row["started_at"], row["ended_at"] if row["ended_at"] is not None else now
        live = row["channel"] in LIVE_CHANNELS
        facts = {**row, "team": row["team_id"], "agent": row["agent_id"]}
        if row["ended_at"] is not None:
            for cell in table.at(row["ended_at"], facts):
                cell.handled += 1
                cell.transferred += row["end_cause"] in HANDED_ON
                if live:
                    cell.handled_live += 1
                    cell.live_ms += end - begin
                else:
                    cell.held.append(end - begin)
        if live and question.wants(facts):
            busy.setdefault(row["agent_id"], []).append((begin, end))
            by_team.setdefault((row["agent_id"], row["team_id"]), []).append((begin, end))
    await _time_of_agents(conn, table, busy, by_team, now)
    return await answer(conn, "handling", table, HANDLING_VARIANTS, now)


async def _assignments(conn: AsyncConnection, question: Question) -> list[dict[str, Any]]:
    """Those that ended in the period or later but had begun, and the live ones."""
    touching: ColumnElement[bool] = or_(
        assignment.c.ended_at >= question.begin, assignment.c.ended_at.is_(None)
    )
    statement = select(
        assignment.c.agent_id, assignment.c.team_id, assignment.c.channel, assignment.c.started_at,
        assignment.c.ended_at, assignment.c.end_cause,
    ).where(touching, assignment.c.started_at < question.end)  # fmt: skip
    return [dict(row) for row in (await conn.execute(statement)).mappings()]


async def _time_of_agents(
    conn: AsyncConnection,
    table: Table[Work],
    busy: Mapping[int, list[Interval]],
    by_team: Mapping[tuple[int, int | None], list[Interval]],
    now: int,
) -> None:
    """Busy, available and paid time, as far as the question lets it be told apart: nobody is available by channel."""
    question = table.question
    stop = min(question.end, now)
    teams = "team" in question.by or question.team_id is not None
    spans_of = by_team if teams else {(agent_id, None): spans for agent_id, spans in busy.items()}
    merged = {key: _clip(spans, question.begin, stop) for key, spans in spans_of.items()}
    for (agent_id, team_id), spans in merged.items():
        _spread(table, spans, {"agent": agent_id, "team": team_id}, "busy_ms")
    if not set(question.by) <= {"agent", "team"} or question.channel is not None:
        return
    presence = await _presence(conn, question.begin, stop)
    shifts = await _shifts(conn, question.begin, stop)
    members = await _teams(conn) if teams else {}
    for agent_id in sorted({*busy, *presence, *shifts}):
        mine = _clip(busy.get(agent_id, []), question.begin, stop)
        there = union([*mine, *presence.get(agent_id, [])])
        for team_id in members.get(agent_id, []) if teams else [None]:
            facts = {"agent": agent_id, "team": team_id}
            if not question.wants(facts):
                continue
            _spread(table, there, facts, "at_work_ms")
            if agent_id in shifts:
                _spread(table, shifts[agent_id], facts, "paid_ms")
                _spread(table, merged.get((agent_id, team_id), []), facts, "paid_busy_ms")


async def _teams(conn: AsyncConnection) -> dict[int, list[int | None]]:
    found: dict[int, list[int | None]] = {}
    for agent_id, team_id in await conn.execute(select(team_member.c.agent_id, team_member.c.team_id)):
        found.setdefault(int(agent_id), []).append(int(team_id))
    return found


def _spread(table: Table[Work], spans: Iterable[Interval], facts: Mapping[str, Any], name: str) -> None:
    """Adds the time of these spans to the buckets they touch."""
    for a, b in spans:
        for number, ms in table.buckets.share(a, b):
            for cell in (table.total, table.cell(number, facts)):
                setattr(cell, name, (getattr(cell, name) or 0) + ms)


def _clip(spans: Iterable[Interval], begin: int, end: int) -> list[Interval]:
    return union((max(a, begin), min(b, end)) for a, b in spans)


async def _presence(conn: AsyncConnection, begin: int, end: int) -> dict[int, list[Interval]]:
    """When each agent was at work in [begin, end), of the log of presences, by the index of agent and time."""
    changes = event.c.kind == literal_column("'presence.changed'")
    before = (
        select(event.c.payload["presence"].as_string())
        .where(changes, event.c.subject_id == agent.c.id, event.c.at < begin)
        .order_by(event.c.at.desc(), event.c.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    state: dict[int, tuple[str, int]] = {}
    for agent_id, presence in await conn.execute(select(agent.c.id, before)):
        state[int(agent_id)] = (presence or Presence.OFFLINE.value, begin)
    told = (
        select(event.c.subject_id, event.c.at, event.c.payload["presence"].as_string())
        .where(changes, event.c.subject_id.in_(select(agent.c.id)), event.c.at >= begin, event.c.at < end)
        .order_by(event.c.at, event.c.id)
    )
    found: dict[int, list[Interval]] = {}
    for agent_id, at, presence in await conn.execute(told):
        was, since = state.get(agent_id, (Presence.OFFLINE.value, begin))
        if was in _AT_WORK:
            found.setdefault(agent_id, []).append((since, at))
        state[agent_id] = (presence, at)
    for agent_id, (was, since) in state.items():
        if was in _AT_WORK:
            found.setdefault(agent_id, []).append((since, end))
    return {agent_id: union(spans) for agent_id, spans in found.items()}


async def _shifts(conn: AsyncConnection, begin: int, end: int) -> dict[int, list[Interval]]:
    """Paid hours of the agents who have a calendar of their own."""
    book = await books.load(conn)
    newest = {i: c for (i, _), c in sorted(book.calendars.items(), key=lambda item: item[0])}
    rows = await conn.execute(select(agent.c.id, agent.c.calendar_id).where(agent.c.calendar_id.is_not(None)))
    return {
        int(agent_id): newest[calendar_id].open_between(begin, end, 100_000)
        for agent_id, calendar_id in rows
        if calendar_id in newest
    }
