"""A recorded period as scenarios of the simulator: as it was, and with a change. Pure, but for `gather`.

What is recorded is taken as it was: who came when, how long each contact held its agent, when who gave up. What is
not (the patience of those who were answered, handle times of what is not finished) is drawn by the seed, the same for
both scenarios. `Material` is plain data, so it can be sent to another process.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import and_, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.clock import DAY, HOUR
from crm_core.db.engine import Database
from crm_core.errors import Invalid, NotFound
from routing import store
from routing.business_time import Calendar
from routing.model import Channel
from routing.planning import attendance, history, roster, then
from routing.planning.attendance import Attendance
from routing.planning.change import AgentWish, Change, ChangeError, hours_of, settings_of
from routing.planning.handling import GUESSED_HANDLE_MS, MIN_SAMPLES, HandleStats
from routing.planning.past import Outcome, PastRequest, Period
from routing.planning.then import TeamRow
from routing.planning.words import note
from routing.reporting import percentile
from routing.schema import offer, work_item
from routing.settings import TeamSettings
from routing.simulator.laws import fixed, stream_random
from routing.simulator.scenario import Arrival, Scenario, ScenarioAgent, ScenarioTeam

#: played before the period, not counted: nobody begins his day with an empty desk
LEAD_MS = 2 * HOUR
#: who was there after the period is needed for what came at its end
TAIL_MS = DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRow:
    """`accept`, `declines`, `answer_ms`: how he answers offers, of the record."""

    id: int
    name: str
    teams: frozenset[int]
    skills: Mapping[str, int] = field(default_factory=dict)
    capacity: Mapping[str, int] = field(default_factory=dict)
    attendance: Attendance = field(default_factory=Attendance)
    accept: float = 1.0
    declines: float = 0.0
    answer_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Everything a what-if needs. `requests` from `LEAD_MS` before the period on, in order. `until`: how far presence
    is known, and how long those who are added stay at the latest.
    """

    period: Period
    until: int
    teams: tuple[TeamRow, ...]
    agents: tuple[AgentRow, ...]
    requests: tuple[PastRequest, ...]
    notes: tuple[dict[str, Any], ...] = ()

    @property
    def counted(self) -> int:
        return sum(1 for r in self.requests if r.ready_at >= self.period.start)


async def gather(
    db: Database, period: Period, *, now: int, at_most: int, team_id: int | None = None
) -> Material:
    """Read the record of a period. Whoever is still in the queue now is part of it.

    Raises:
        Invalid: `bad_period`, `too_much_traffic`, `nothing_recorded`. NotFound: no such team.
    """
    period = period.recorded(now)
    whole = Period(period.start - LEAD_MS, period.end)
    there_until = min(period.end + TAIL_MS, now)
    found = await history.read(db, whole, team_id=team_id, at_most=at_most)
    async with db.reading() as conn:
        teams = await then.teams(conn, period.start)
        if team_id is not None and team_id not in {t.id for t in teams}:
            raise NotFound(f"no team {team_id}", params={"team_id": team_id})
        asked = tuple(t for t in teams if team_id in (None, t.id))
        notes = await then.notes(conn, asked, period)
        who = [p for p in await roster.people(conn, now) if team_id is None or team_id in p.teams]
        there = await attendance.recorded(conn, Period(whole.start, there_until), [p.id for p in who])
        answers = await _answers(conn, whole)
    known = {t.id for t in teams}
    kept = [r for r in found if r.team_id in known and r.outcome != Outcome.WITHDRAWN]
    if not any(r.ready_at >= period.start for r in kept):
        raise Invalid("nothing is recorded in this period", code="nothing_recorded")
    strangers = sum(1 for r in found if r.team_id not in known)
    if strangers:
        notes.append(note("requests_left_out", n=strangers))
    if not there:
        notes.append(note("presence_unknown"))
        calendars = {t.id: store.calendar_of(t.calendar) for t in teams}
        there = {
            p.id: _by_calendar(p, calendars, Period(whole.start, there_until)) for p in who if p.plannable
        }
    elif len(there) < len(who):
        silent = sum(1 for p in who if p.plannable and p.id not in there)
        if silent:
            notes.append(note("presence_partly_known", n=silent, of=len(who)))
    ring = _ring_ms(kept)
    pooled = _pooled(answers.values())
    agents = []
    for p in who:
        if p.id not in there:
            continue
        accept, declines, answer_ms = _habits(answers.get(p.id), pooled, ring)
        agents.append(
            AgentRow(
                id=p.id, name=p.name, teams=p.teams, skills=p.skills, capacity=p.capacity,
                attendance=there[p.id], accept=accept, declines=declines, answer_ms=answer_ms,
            )
        )  # fmt: skip
    return Material(
        period=period,
        until=there_until,
        teams=teams,
        agents=tuple(agents),
        requests=tuple(kept),
        notes=tuple(notes),
    )


async def check(
    conn: AsyncConnection, change: Change, period: Period, *, team_id: int | None, now: int
) -> None:
    """Whether the change fits the installation: names, settings of then. Raises ChangeError, NotFound; Invalid for a
    period that has not begun.
    """
    teams = await then.teams(conn, period.recorded(now).start)
    if team_id is not None and team_id not in {t.id for t in teams}:
        raise NotFound(f"no team {team_id}", params={"team_id": team_id})
    agents = tuple(
        AgentRow(id=p.id, name=p.name, teams=p.teams)
        for p in await roster.people(conn, now)
        if team_id is None or team_id in p.teams
    )
    scenario(
        Material(period=Period(now, now + 1), until=now + 1, teams=teams, agents=agents, requests=()),
        (),
        change,
        name="check",
    )


def _by_calendar(
    person: roster.Person, calendars: Mapping[int, Calendar | None], whole: Period
) -> Attendance:
    first = calendars.get(min(person.teams))
    return attendance.of_calendar(person.shifts or first, whole)


# --- how agents answer offers
# ---------------------------------------------------------------------------------
@dataclass(slots=True)
class Answers:
    accepted: int = 0
    declined: int = 0
    expired: int = 0
    accept_ms: int = 0

    @property
    def all(self) -> int:
        return self.accepted + self.declined + self.expired


async def _answers(conn: AsyncConnection, whole: Period) -> dict[int, Answers]:
    """What became of the offers for what came in the period, by agent."""
    rows = await conn.execute(
        select(
            offer.c.agent_id, offer.c.state, func.count().label("n"),
            func.sum(offer.c.ended_at - offer.c.created_at).label("ms"),
        )
        .join(
            work_item,
            and_(
                work_item.c.id == offer.c.item_id,
                work_item.c.ready_at >= whole.start,
                work_item.c.ready_at < whole.end,
            ),
        )
        .where(offer.c.state.in_(("accepted", "declined", "expired")))
        .group_by(offer.c.agent_id, offer.c.state)
    )  # fmt: skip
    found: dict[int, Answers] = {}
    for agent_id, state, n, ms in rows:
        mine = found.setdefault(agent_id, Answers())
        if state == "accepted":
            mine.accepted, mine.accept_ms = int(n), int(ms or 0)
        elif state == "declined":
            mine.declined = int(n)
        else:
            mine.expired = int(n)
    return found


def _pooled(answers: Any) -> Answers:
    total = Answers()
    for a in answers:
        total.accepted += a.accepted
        total.declined += a.declined
        total.expired += a.expired
        total.accept_ms += a.accept_ms
    return total


def _habits(mine: Answers | None, pooled: Answers, ring_ms: int) -> tuple[float, float, int]:
    """(accepts, declines of the rest, ms to accept): his own if there are enough, else everybody's."""
    use = mine if mine is not None and mine.all >= MIN_SAMPLES else pooled
    if use.all < MIN_SAMPLES or use.accepted == 0:
        return 1.0, 0.0, ring_ms
    refused = use.declined + use.expired
    return use.accepted / use.all, use.declined / refused if refused else 0.0, use.accept_ms // use.accepted


def _ring_ms(requests: Sequence[PastRequest]) -> int:
    """How long a telephone rings before an agent has it: the shortest waits of answered calls are nothing else."""
    waits = [
        r.wait_ms(r.ready_at) for r in requests if r.channel == Channel.VOICE and r.answered_at is not None
    ]
    return int(percentile(waits, 10) or 0) if len(waits) >= MIN_SAMPLES else 0


# --- scenarios
# ------------------------------------------------------------------------------------------------
def contacts(material: Material, seed: int) -> tuple[list[Arrival], int]:
    """The arrivals of one seed, and for how many of the counted ones a handle time was drawn."""
    parsed = {t.id: store.settings_of(t.settings)[0] for t in material.teams}
    stats: dict[tuple[int | None, str], HandleStats] = {}
    handles: dict[tuple[int | None, str], list[int]] = {}
    for r in material.requests:
        key = (r.team_id, r.channel)
        stats.setdefault(key, HandleStats(r.channel)).add(r, material.period.end)
        if r.held_ms is not None:
            handles.setdefault(key, []).append(r.held_ms)
    handling, patience = stream_random(seed, "replay", "handle"), stream_random(seed, "replay", "patience")
    made, drawn = [], 0
    for ref, r in enumerate(material.requests):
        key = (r.team_id, r.channel)
        # Both are drawn for everybody, so that one request more changes nothing for the others.
        known = handles.get(key)
        guess = (
            known[int(handling.random() * len(known))]
            if known
            else int(handling.expovariate(1.0) * GUESSED_HANDLE_MS[Channel(r.channel)])
        )
        more = patience.expovariate(1.0)
        held = r.held_ms if r.held_ms is not None else guess
        drawn += r.held_ms is None and r.ready_at >= material.period.start
        mean = stats[key].patience_ms
        waits: int | None = None
        if r.outcome == Outcome.ABANDONED:
            waits = r.wait_ms(material.period.end)
        elif mean is not None and r.channel in (Channel.VOICE, Channel.CHAT):
            # He waited so long and stayed: how much longer he would have is exponential again.
            waits = r.wait_ms(material.period.end) + int(more * mean)
        wrapup = parsed[r.team_id or 0].channel(r.channel).wrapup_ms
        reply = r.reply_ms
        if reply is None and r.due_at is not None:
            reply = stats[key].reply_ms
        made.append(
            Arrival(
                at=r.ready_at, team_id=r.team_id or 0, channel=r.channel, handle_ms=max(held - wrapup, 1),
                kind=r.kind, requirements=r.requirements, priority=r.priority, vip=r.vip,
                manager_id=r.manager_id, sticky_agent_id=r.sticky_agent_id, due_at=r.due_at, reply_ms=reply,
                patience_ms=waits, ref=ref,
            )
        )  # fmt: skip
    return made, drawn


def scenario(
    material: Material, arrivals: Sequence[Arrival], change: Change | None, *, name: str
) -> Scenario:
    """The scenario of the recorded arrivals, with a change or as it was.

    Raises:
        ChangeError: the change names what does not exist, or asks for settings that cannot be.
    """
    teams = _changed_teams(material, change)
    agents = material.agents if change is None else _changed_agents(material, change)
    return Scenario(
        name=name,
        teams=teams,
        agents=tuple(
            ScenarioAgent(
                id=a.id, name=a.name, teams=a.teams, skills=a.skills, capacity=a.capacity,
                shifts=a.attendance.shifts, moves=a.attendance.moves, accept=a.accept, declines=a.declines,
                answer=fixed(a.answer_ms),
            )
            for a in agents
            # Without a shift the simulator takes him to be there always.
            if a.attendance.shifts
        ),
        starts_at=material.period.start - LEAD_MS,
        ends_at=material.period.end,
        arrivals=arrivals,
        warmup_arrivals=sum(1 for a in arrivals if a.at < material.period.start),
    )  # fmt: skip


def _changed_teams(material: Material, change: Change | None) -> tuple[ScenarioTeam, ...]:
    patches: dict[int, tuple[str, Mapping[str, Any] | str]] = {}
    for asked, patch in (change.teams if change else {}).items():
        patches[_team_id(material, asked, "teams")] = (asked, patch)
    made = []
    for t in material.teams:
        parsed: TeamSettings
        if t.id in patches:
            asked, patch = patches[t.id]
            parsed = (
                settings_of(asked, t.settings, patch)
                if isinstance(patch, Mapping)
                else store.settings_of(t.today)[0]
            )
            unknown = [o for o in parsed.overflow if o not in {x.id for x in material.teams}]
            if unknown:
                raise ChangeError(f"teams.{patches[t.id][0]}.overflow", f"no team {unknown[0]}")
        else:
            parsed = store.settings_of(t.settings)[0]
        made.append(
            ScenarioTeam(id=t.id, name=t.name, settings=parsed, calendar=store.calendar_of(t.calendar))
        )
    return tuple(made)


def _changed_agents(material: Material, change: Change) -> tuple[AgentRow, ...]:
    gone = {_agent(material, asked, f"agents.remove.{i}").id for i, asked in enumerate(change.remove)}
    changed = {
        _agent(material, asked, "agents.change").id: (asked, wish) for asked, wish in change.change.items()
    }
    rows = []
    for row in material.agents:
        if row.id in gone:
            continue
        if row.id in changed:
            asked, wish = changed[row.id]
            rows.append(_with(row, material, wish, f"agents.change.{asked}"))
        else:
            rows.append(row)
    new_id = max((a.id for a in material.agents), default=0)
    for i, asked_for in enumerate(change.add):
        path = f"agents.add.{i}"
        model = _model(material, asked_for, path)
        wish = asked_for
        if wish.works is None and wish.hours is None and wish.like is None:
            wish = replace(wish, works="team_hours")
        for n in range(wish.count):
            new_id += 1
            name = wish.name or "New agent"
            blank = replace(model, id=new_id, name=f"{name} {n + 1}" if wish.count > 1 else name)
            rows.append(_with(blank, material, wish, path))
    return tuple(rows)


def _with(row: AgentRow, material: Material, wish: AgentWish, path: str) -> AgentRow:
    teams = row.teams
    if wish.teams is not None:
        teams = frozenset(_team_id(material, t, f"{path}.teams") for t in wish.teams)
    there = row.attendance
    whole = Period(material.period.start - LEAD_MS, material.until)
    if wish.works == "always":
        there = attendance.of_calendar(None, whole)
    elif wish.works == "team_hours":
        spec = next((t.calendar for t in material.teams if t.id == min(teams)), None)
        there = attendance.of_calendar(store.calendar_of(spec), whole)
    elif wish.hours is not None:
        home = next((t.calendar for t in material.teams if t.id == min(teams)), None)
        zone = store.calendar_of(home)
        tz = zone.spec.tz if zone is not None else "UTC"
        there = attendance.of_calendar(hours_of(wish.hours, tz, f"{path}.works"), whole)
    elif wish.like is not None:
        there = _agent(material, wish.like, f"{path}.like").attendance
    return replace(
        row, teams=teams, attendance=there,
        skills=row.skills if wish.skills is None else {**row.skills, **wish.skills},
        capacity=row.capacity if wish.capacity is None else {**row.capacity, **wish.capacity},
    )  # fmt: skip


def _model(material: Material, wish: AgentWish, path: str) -> AgentRow:
    """What an added agent is like where the wish says nothing: the agent named, or the average of his teams.

    Of the skills that at least half of the teams' agents have, the middle level: somebody without the languages of
    his colleagues would be no colleague.
    """
    if wish.like is not None:
        named = _agent(material, wish.like, f"{path}.like")
        # Skills that are written down are his, not added to the other's.
        return named if wish.skills is None else replace(named, skills={})
    teams = {_team_id(material, t, f"{path}.teams") for t in wish.teams or ()}
    mates = [a for a in material.agents if a.teams & teams] or list(material.agents)
    n = len(mates)
    if n == 0:
        return AgentRow(id=0, name="", teams=frozenset())
    levels: dict[str, list[int]] = {}
    for mate in mates:
        for skill, level in mate.skills.items():
            levels.setdefault(skill, []).append(level)
    common = {s: sorted(have)[len(have) // 2] for s, have in levels.items() if 2 * len(have) >= n}
    return AgentRow(
        id=0, name="", teams=frozenset(), skills=common if wish.skills is None else {},
        accept=sum(a.accept for a in mates) / n,
        declines=sum(a.declines for a in mates) / n,
        answer_ms=sum(a.answer_ms for a in mates) // n,
    )  # fmt: skip


def _team_id(material: Material, asked: str, path: str) -> int:
    for t in material.teams:
        if str(t.id) == asked or t.name.casefold() == asked.casefold():
            return t.id
    raise ChangeError(
        f"{path}.{asked}"[:200], f"no such team; there are {', '.join(t.name for t in material.teams)}"
    )


def _agent(material: Material, asked: str, path: str) -> AgentRow:
    named = [a for a in material.agents if str(a.id) == asked or a.name.casefold() == asked.casefold()]
    exact = [a for a in named if str(a.id) == asked] or named
    if len(exact) > 1:
        raise ChangeError(f"{path}.{asked}"[:200], "several agents are called so; write the id")
    if not exact:
        raise ChangeError(f"{path}.{asked}"[:200], "nobody of that name or id worked in this period")
    return exact[0]


__all__ = ["AgentRow", "Material", "TeamRow", "contacts", "gather", "scenario"]
