"""Reads of the routing engine: items, offers, agents as candidates, a team's settings and hours.

Owns no decisions. Statements read bounded sets by index: what is open, never what has accumulated.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Text, and_, bindparam, case, cast, func, literal_column, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.selectable import Select

from crm_core.db.prepared import Prepared, any_of, array_of, fetch, list_of, object_of
from crm_core.db.types import Ms
from crm_core.db.uow import UnitOfWork
from crm_core.schema import (
    agent,
    agent_skill,
    contact,
    conversation,
    inbox,
    inquiry,
    team,
    team_member,
)
from routing import capacity, handle_time
from routing.business_time import Calendar
from routing.calendar_spec import CalendarError
from routing.decide import Hours, Loads, QueueLoad, TeamRules, hours_of
from routing.machine import Holding
from routing.model import LIVE, AgentView, Channel, Item, ItemState, LaneSpec, Presence, RowLike, Slot
from routing.schema import (
    agent_lane,
    agent_slot,
    agent_state,
    assignment,
    lane,
    offer,
    queue_entry,
    sla_clock,
    work_item,
)
from routing.schema import calendar as calendar_table
from routing.settings import DEFAULTS, TeamSettings, read

#: candidates looked at for one item; beyond it the longest idle are taken
MAX_CANDIDATES = 200
#: waiting items counted when the waits of two teams are compared
MAX_COUNTED = 200
#: clocks whose deadline is about somebody getting to it, as opposed to the end of the work
REPLY_METRICS = ("first_reply", "next_reply", "requester_wait")


@dataclass(frozen=True, slots=True)
class TeamContext:
    """A team as routing needs it. `problem`: its stored settings are wrong and defaults are used."""

    settings: TeamSettings = DEFAULTS
    calendar: Calendar | None = None
    name: str = ""
    problem: str | None = None

    def hours(self, now: int) -> Hours:
        return hours_of(self.calendar, self.settings, now)

    @property
    def tz(self) -> str:
        """The zone in which the team's days begin."""
        return "UTC" if self.calendar is None else self.calendar.spec.tz

    def rules(self, now: int, loads: Mapping[str, Loads] | None = None) -> TeamRules:
        return TeamRules(self.settings, self.hours(now), loads)


@lru_cache(maxsize=256)
def _settings(text: str) -> tuple[TeamSettings, str | None]:
    return read(json.loads(text))


@lru_cache(maxsize=256)
def _calendar(text: str) -> Calendar | None:
    """Compiled calendars are costly and immutable, so they are kept by their content."""
    try:
        return Calendar.from_spec(json.loads(text))
    except CalendarError:
        return None


def settings_of(data: Any) -> tuple[TeamSettings, str | None]:
    """Settings of `team.settings`, and what is wrong with them."""
    return _settings(json.dumps(data, sort_keys=True))


def calendar_of(spec: Any) -> Calendar | None:
    """A calendar of its stored form; None (always open) if it is missing or wrong: routing must go on."""
    return None if spec is None else _calendar(json.dumps(spec, sort_keys=True))


async def team_context(conn: AsyncConnection, team_id: int | None) -> TeamContext:
    if team_id is None:
        return TeamContext()
    found = await fetch(conn, _TEAM, {"team": team_id})
    return context_of(found[0]) if found else TeamContext()


def team_columns() -> tuple[ColumnElement[Any], ...]:
    """What `context_of` needs, of a statement that has `team` and `calendar` in it. Their JSON stays text: what it
    compiles to is kept by it.
    """
    return (
        team.c.name.label("team_name"),
        cast(team.c.settings, Text).label("team_settings"),
        cast(calendar_table.c.spec, Text).label("team_calendar"),
    )


def context_of(row: RowLike) -> TeamContext:
    """The team of a row with `team_columns`."""
    settings, problem = _settings(row["team_settings"])
    spec = row["team_calendar"]
    return TeamContext(settings, None if spec is None else _calendar(spec), row["team_name"], problem)


_TEAM = Prepared(
    select(*team_columns())
    .select_from(team)
    .outerjoin(calendar_table, calendar_table.c.id == team.c.calendar_id)
    .where(team.c.id == bindparam("team"))
)


# --- items
# ----------------------------------------------------------------------------------------------------
async def item(uow: UnitOfWork, item_id: int) -> Item | None:
    row = await uow.row(_ITEM, {"id_": item_id})
    return Item.from_row(row) if row else None


async def lock_item(uow: UnitOfWork, item_id: int, *, skip_locked: bool = False) -> Item | None:
    """The item, locked. With `skip_locked`, None also if another transaction has it."""
    row = await uow.row(_LOCK_ITEM[skip_locked], {"id_": item_id})
    return Item.from_row(row) if row else None


async def lock_live(uow: UnitOfWork, source_kind: str, source_id: int) -> Item | None:
    """The live item of a source, locked."""
    row = await uow.row(_LOCK_LIVE, {"kind_": source_kind, "source": source_id})
    return Item.from_row(row) if row else None


async def lock_latest(uow: UnitOfWork, source_kind: str, source_id: int) -> Item | None:
    """The latest item of a source, alive or not, locked. Whoever makes the next one numbers it after this one, so
    that of two who do so at once only one succeeds.
    """
    row = await uow.row(_LOCK_LATEST, {"kind_": source_kind, "source": source_id})
    return Item.from_row(row) if row else None


async def lock_inquiry(uow: UnitOfWork, inquiry_id: int, *, skip_locked: bool = False) -> RowLike | None:
    return await uow.row(_LOCK_INQUIRY[skip_locked], {"id_": inquiry_id})


_ITEM = Prepared(select(work_item).where(work_item.c.id == bindparam("id_")))
_LOCK_ITEM = {
    skip: Prepared(
        select(work_item).where(work_item.c.id == bindparam("id_")).with_for_update(skip_locked=skip)
    )
    for skip in (True, False)
}
_LOCK_LIVE = Prepared(
    select(work_item)
    .where(
        work_item.c.source_kind == bindparam("kind_"),
        work_item.c.source_id == bindparam("source"),
        or_(*(work_item.c.state == state for state in LIVE)),
    )
    .with_for_update()
)
_LOCK_LATEST = Prepared(
    select(work_item)
    .where(work_item.c.source_kind == bindparam("kind_"), work_item.c.source_id == bindparam("source"))
    .order_by(work_item.c.attempt.desc())
    .limit(1)
    .with_for_update()
)
_LOCK_INQUIRY = {
    skip: Prepared(select(inquiry).where(inquiry.c.id == bindparam("id_")).with_for_update(skip_locked=skip))
    for skip in (True, False)
}


async def holdings(uow: UnitOfWork, item: Item) -> list[Holding]:
    """What is held for an item now: its open offers or its live assignment. The item is locked."""
    if item.state == ItemState.OFFERED:
        return [holding_of_offer(o) for o in await uow.rows(_OPEN_OFFERS, {"item": item.id})]
    if item.state not in (ItemState.ASSIGNED, ItemState.WRAPUP):
        return []
    live = await uow.row(_LIVE_ASSIGNMENT, {"item": item.id})
    return [] if live is None else [_holding_of_assignment(live)]


async def holder(uow: UnitOfWork, item: Item) -> tuple[TeamContext, list[Holding]]:
    """The item's team and what is held for it. The item is locked; so is who has it, if somebody does."""
    if item.state in (ItemState.ASSIGNED, ItemState.WRAPUP):
        live = await uow.row(_HOLDER, {"item": item.id, "team": item.team_id})
        if live is not None:
            capacity.claimed(uow, live["agent_id"])
            return _team_in(live), [_holding_of_assignment(live)]
    return await team_context(uow.conn, item.team_id), await holdings(uow, item)


def _team_in(row: RowLike) -> TeamContext:
    return TeamContext() if row["team_name"] is None else context_of(row)


def _holding_of_assignment(live: RowLike) -> Holding:
    return Holding(
        id=live["id"],
        agent_id=live["agent_id"],
        channel=live["channel"],
        weight=live["weight"],
        assignment=True,
        holds_slot=live["holds_slot"],
        started_at=live["started_at"],
    )


_OPEN_OFFERS = Prepared(
    select(offer).where(offer.c.item_id == bindparam("item"), offer.c.state == "open").order_by(offer.c.id)
)
_LIVE_ASSIGNMENT = Prepared(
    select(assignment).where(assignment.c.item_id == bindparam("item"), assignment.c.ended_at.is_(None))
)

_HOLDER = Prepared(
    select(assignment, *team_columns())
    .join(agent_state, agent_state.c.agent_id == assignment.c.agent_id)
    .outerjoin(team, team.c.id == bindparam("team", type_=team.c.id.type))
    .outerjoin(calendar_table, calendar_table.c.id == team.c.calendar_id)
    .where(assignment.c.item_id == bindparam("item"), assignment.c.ended_at.is_(None))
    .with_for_update(of=[agent_state])
)
#: the offers of an item that still matter to one of them: it, and those that are open
_OF_OFFER = Prepared(
    select(offer, agent.c.name.label("agent_name"), *team_columns())
    .join(agent, agent.c.id == offer.c.agent_id)
    .outerjoin(team, team.c.id == bindparam("team", type_=team.c.id.type))
    .outerjoin(calendar_table, calendar_table.c.id == team.c.calendar_id)
    .where(offer.c.item_id == bindparam("item"), or_(offer.c.state == "open", offer.c.id == bindparam("id_")))
    .order_by(offer.c.id)
)


async def offers_around(uow: UnitOfWork, offer_id: int, item: Item) -> tuple[TeamContext, list[RowLike]]:
    """The item's team, and this offer of it with the others that are open, each with `agent_name`. The item is
    locked.
    """
    found = await uow.rows(_OF_OFFER, {"item": item.id, "id_": offer_id, "team": item.team_id})
    return (_team_in(found[0]) if found else TeamContext()), list(found)


def holding_of_offer(row: RowLike) -> Holding:
    return Holding(
        id=row["id"], agent_id=row["agent_id"], channel=row["channel"], weight=row["weight"], assignment=False
    )


@dataclass(frozen=True, slots=True)
class Demand:
    """What the order and the people of an inquiry's item follow from, and its team.

    `due_at`: the earliest deadline of the inquiry's running reply clocks. `manager_id`, `sticky_agent_id`: agents who
    are active.
    """

    team_id: int | None
    team: TeamContext
    priority: str
    vip: bool
    due_at: int | None
    manager_id: int | None
    sticky_agent_id: int | None


async def demand(
    uow: UnitOfWork, inquiry_id: int, *, team_id: int | None = None, sticky: int | None = None
) -> Demand | None:
    """Of an inquiry; None if there is none. `team_id`: of this team, else the inquiry's, else its inbox's. `sticky`:
    who is asked first whatever its conversation says.
    """
    row = await uow.row(_DEMAND, {"inquiry": inquiry_id, "team_": team_id, "sticky": sticky, "now": uow.now})
    if row is None:
        return None
    return Demand(
        team_id=row["of_team"], team=_team_in(row), priority=row["priority"], vip=bool(row["vip"]),
        due_at=None if row["due"] is None else int(row["due"]), manager_id=row["manager"],
        sticky_agent_id=row["sticky_agent"],
    )  # fmt: skip


def _demand() -> Prepared:
    manager, sticky = agent.alias("manager"), agent.alias("sticky")
    asked = bindparam("sticky", type_=agent.c.id.type)
    kept = case((conversation.c.sticky_until > bindparam("now", type_=Ms), conversation.c.sticky_agent_id))
    of_team = func.coalesce(bindparam("team_", type_=team.c.id.type), inquiry.c.team_id, inbox.c.team_id)
    due = (
        select(func.min(sla_clock.c.due_at))
        .where(
            sla_clock.c.inquiry_id == inquiry.c.id,
            or_(*(sla_clock.c.metric == metric for metric in REPLY_METRICS)),
            sla_clock.c.state == "active",
        )
        .correlate(inquiry)
        .scalar_subquery()
    )
    return Prepared(
        select(
            inquiry.c.priority, contact.c.vip, manager.c.id.label("manager"), sticky.c.id.label("sticky_agent"),
            of_team.label("of_team"), due.label("due"), *team_columns(),
        )
        .select_from(inquiry)
        .outerjoin(contact, contact.c.id == inquiry.c.contact_id)
        .outerjoin(conversation, conversation.c.id == inquiry.c.conversation_id)
        .outerjoin(inbox, inbox.c.id == inquiry.c.inbox_id)
        .outerjoin(manager, and_(manager.c.id == contact.c.manager_id, manager.c.active))
        .outerjoin(sticky, and_(sticky.c.id == func.coalesce(asked, kept), sticky.c.active))
        .outerjoin(team, team.c.id == of_team)
        .outerjoin(calendar_table, calendar_table.c.id == team.c.calendar_id)
        .where(inquiry.c.id == bindparam("inquiry"))
    )  # fmt: skip


_DEMAND = _demand()


# --- agents
# ---------------------------------------------------------------------------------------------------
async def candidates(
    conn: AsyncConnection, lanes: Mapping[str, int], *, channel: str, also: Collection[int] = (),
    skills: Collection[str] = (), now: int, everybody: bool = False, specs: Collection[LaneSpec] = (),
) -> list[AgentView]:  # fmt: skip
    """Agents of these lanes that are there, those with room in the channel first, then the longest idle;
    those in `also` whatever their presence. `everybody`: all members of the lanes, for an explanation.

    `specs`: of the lanes, to test levels where a crowded team's lanes do not ask for them.
    """
    if not lanes:
        return []
    signatures: dict[int, list[str]] = {}
    for signature, lane_id in lanes.items():
        signatures.setdefault(lane_id, []).append(signature)
    asked = {s.signature: s.requirements for s in specs if s.agent_id is None}
    wanted = {*skills, *(skill for requirements in asked.values() for skill, _ in requirements)}
    rows = await fetch(
        conn, _CANDIDATES[everybody],
        {"lanes": list(signatures), "also": list(also), "channel": channel, "skills": sorted(wanted)},
    )  # fmt: skip
    found = []
    for row in rows:
        levels = row["skills"] or {}
        fit = []
        for lane_id in row["lanes"]:
            for signature in signatures[lane_id]:
                for skill, level in asked.get(signature, ()):
                    if levels.get(skill, 0) < level:
                        break
                else:
                    fit.append(signature)
        if fit:
            found.append(_view(row, now, frozenset(fit)))
    return found


async def views(
    conn: AsyncConnection, memberships: Mapping[int, Collection[str]], *, skills: Collection[str], now: int
) -> list[AgentView]:
    """These agents with state, capacity and the named skills, in the order given."""
    if not memberships:
        return []
    rows = await fetch(conn, _VIEWS, {"agents": list(memberships), "skills": list(skills)})
    found = {r["id"]: _view(r, now, frozenset(memberships[r["id"]])) for r in rows}
    return [found[i] for i in memberships if i in found]


async def view(conn: AsyncConnection, agent_id: int, now: int) -> AgentView | None:
    """One active agent with all that a choice for him needs: state, capacity, all his skills and teams."""
    rows = await fetch(conn, _VIEW, {"agent": agent_id})
    return _view(rows[0], now) if rows else None


def _view(row: RowLike, now: int, lanes: frozenset[str] = frozenset()) -> AgentView:
    shift = None if row["shift"] is None else _calendar(row["shift"])
    in_shift = shift is None or shift.is_open(now)
    there = row["presence"] is not None
    return AgentView(
        agent_id=row["id"],
        name=row["name"],
        presence=row["presence"] if there else Presence.OFFLINE,
        routable=bool(there and row["routable"] and (row["lease_until"] or 0) > now),
        lease_until=row["lease_until"],
        wrapup_until=row["wrapup_until"],
        idle_since=row["idle_since"] if there else 0,
        load_used=row["load_used"] if there else 0,
        load_max=row["load_max"] if there else DEFAULTS.load_max,
        slots={channel: Slot(*numbers) for channel, numbers in (row["slots"] or {}).items()},
        skills=row["skills"] or {},
        teams=frozenset(row.get("teams") or ()),
        lanes=lanes,
        in_shift=in_shift,
        shift_from=None if in_shift or shift is None else shift.next_open(now),
    )


def _about(*skills: ColumnElement[bool]) -> tuple[ColumnElement[Any], ...]:
    """The columns of a view: one row per agent, whatever he has of slots and skills."""
    slot = array_of(agent_slot.c.max, agent_slot.c.used, agent_slot.c.load)
    state = (agent_state.c[name] for name in _STATE_COLUMNS)
    return (
        agent.c.id,
        agent.c.name,
        cast(calendar_table.c.spec, Text).label("shift"),
        *state,
        select(object_of(agent_slot.c.channel, slot))
        .where(agent_slot.c.agent_id == agent.c.id)
        .correlate(agent)
        .scalar_subquery()
        .label("slots"),
        select(object_of(agent_skill.c.skill, agent_skill.c.level))
        .where(agent_skill.c.agent_id == agent.c.id, *skills)
        .correlate(agent)
        .scalar_subquery()
        .label("skills"),
    )


_STATE_COLUMNS = (
    "presence", "routable", "lease_until", "wrapup_until", "idle_since", "load_used", "load_max",
)  # fmt: skip
_some_skills = any_of(agent_skill.c.skill, "skills")


def _people(columns: Sequence[ColumnElement[Any]]) -> Select[Any]:
    return (
        select(*columns)
        .select_from(agent)
        .outerjoin(agent_state, agent_state.c.agent_id == agent.c.id)
        .outerjoin(calendar_table, calendar_table.c.id == agent.c.calendar_id)
    )


_teams = (
    select(list_of(team_member.c.team_id))
    .where(team_member.c.agent_id == agent.c.id)
    .correlate(agent)
    .scalar_subquery()
    .label("teams")
)
_VIEW = Prepared(_people((*_about(), _teams)).where(agent.c.id == bindparam("agent"), agent.c.active))
_VIEWS = Prepared(_people(_about(_some_skills)).where(any_of(agent.c.id, "agents"), agent.c.active))


def _candidates(*, everybody: bool) -> Prepared:
    # The busy ones are wanted too, as proof that somebody is there, but must not push a free one over the
    # limit. Looked up one by one: joined, Postgres reads all agents there are.
    mine = agent_state.c.agent_id == agent_lane.c.agent_id
    free = agent_slot.c.used < agent_slot.c.max
    here = (
        agent_slot.c.agent_id == agent_lane.c.agent_id,
        agent_slot.c.channel == bindparam("channel"),
        free,
    )
    room = select(literal_column("0")).where(*here).correlate(agent_lane).scalar_subquery()
    since = select(agent_state.c.idle_since).where(mine).correlate(agent_lane).scalar_subquery()
    busy = func.coalesce(func.min(room), 1).label("busy")
    idle = func.min(since).label("idle")
    members = (
        select(agent_lane.c.agent_id, list_of(agent_lane.c.lane_id).label("lanes"), busy, idle)
        .where(any_of(agent_lane.c.lane_id, "lanes"))
        .group_by(agent_lane.c.agent_id)
        .order_by(busy, idle, agent_lane.c.agent_id)
        .limit(MAX_CANDIDATES)
    )
    if not everybody:
        there = select(agent_state.c.routable).where(mine).correlate(agent_lane).scalar_subquery()
        members = members.where(or_(there, any_of(agent_lane.c.agent_id, "also")))
    chosen = members.subquery()
    return Prepared(
        _people((*_about(_some_skills), chosen.c.lanes))
        .join(chosen, chosen.c.agent_id == agent.c.id)
        .where(agent.c.active)
        .order_by(chosen.c.busy, chosen.c.idle, agent.c.id)
    )


_CANDIDATES = {everybody: _candidates(everybody=everybody) for everybody in (True, False)}


async def queue_loads(
    conn: AsyncConnection, team_ids: Collection[int | None], channel: str, now: int
) -> dict[int | None, QueueLoad]:
    """How busy teams are in a channel, to compare their waits: who waits is counted to a limit."""
    teams = sorted(t for t in team_ids if t is not None)
    if not teams:
        return {}
    places = {
        team_id: int(n)
        for team_id, n in await conn.execute(
            select(team_member.c.team_id, func.sum(agent_slot.c.max))
            .join(agent_state, agent_state.c.agent_id == team_member.c.agent_id)
            .join(agent_slot, agent_slot.c.agent_id == team_member.c.agent_id)
            .where(
                team_member.c.team_id.in_(teams), agent_state.c.routable, agent_state.c.lease_until > now,
                agent_slot.c.channel == channel,
            )
            .group_by(team_member.c.team_id)
        )
    }  # fmt: skip
    handle = await handle_time.of_teams(conn, teams)
    found: dict[int | None, QueueLoad] = {}
    for team_id in teams:
        waiting = (
            select(queue_entry.c.item_id)
            .join(lane, lane.c.id == queue_entry.c.lane_id)
            .join(work_item, work_item.c.id == queue_entry.c.item_id)
            # What others ask this team for stands in its lanes too, and is not before its own.
            .where(lane.c.team_id == team_id, lane.c.channel == channel, work_item.c.team_id == team_id)
            .limit(MAX_COUNTED)
            .subquery()
        )
        known = handle.get((team_id, channel))
        found[team_id] = QueueLoad(
            waiting=int(await conn.scalar(select(func.count()).select_from(waiting)) or 0),
            places=places.get(team_id, 0),
            handle_ms=known.ms if known is not None else handle_time.ASSUMED_MS[Channel(channel)],
        )
    return found


async def scarcity(conn: AsyncConnection, agent_ids: Sequence[int]) -> dict[int, int]:
    """For each agent the number of shared lanes that nobody else who is there serves."""
    rows = await fetch(conn, _SCARCITY, {"agents": list(agent_ids)})
    return {r["agent_id"]: int(r["n"]) for r in rows}


_mine = agent_lane.alias("mine")
_others = agent_lane.alias("others")
_somebody_else = (
    select(_others.c.agent_id)
    .join(agent_state, agent_state.c.agent_id == _others.c.agent_id)
    .where(
        _others.c.lane_id == _mine.c.lane_id, _others.c.agent_id != _mine.c.agent_id, agent_state.c.routable
    )
    .exists()
)
_SCARCITY = Prepared(
    select(_mine.c.agent_id, func.count().label("n"))
    .join(lane, lane.c.id == _mine.c.lane_id)
    .where(any_of(_mine.c.agent_id, "agents"), lane.c.agent_id.is_(None), ~_somebody_else)
    .group_by(_mine.c.agent_id)
)
