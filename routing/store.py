"""Reads of the routing engine: items, offers, agents as candidates, a team's settings and hours.

Owns no decisions. Statements read bounded sets by index: what is open, never what has accumulated.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from sqlalchemy import and_, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.db.uow import UnitOfWork
from crm_core.schema import agent, agent_skill, inquiry, team, team_member
from routing import handle_time
from routing.business_time import Calendar
from routing.calendar_spec import CalendarError
from routing.decide import Hours, Loads, QueueLoad, TeamRules
from routing.machine import Holding
from routing.model import LIVE, AgentView, Channel, Item, ItemState, RowLike, Slot
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
        if self.calendar is None:
            return Hours()
        if self.calendar.is_open(now):
            on_call = self.settings.on_call_team is not None
            return Hours(next_close=self.calendar.next_close(now)) if on_call else Hours()
        return Hours(is_open=False, next_open=self.calendar.next_open(now))

    @property
    def tz(self) -> str:
        """The zone in which the team's days begin."""
        return "UTC" if self.calendar is None else self.calendar.spec.tz

    def rules(self, now: int, loads: Loads | None = None) -> TeamRules:
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
    row = (
        (
            await conn.execute(
                select(team.c.name, team.c.settings, calendar_table.c.spec)
                .outerjoin(calendar_table, calendar_table.c.id == team.c.calendar_id)
                .where(team.c.id == team_id)
            )
        )
        .mappings()
        .first()
    )
    if row is None:
        return TeamContext()
    settings, problem = settings_of(row["settings"])
    return TeamContext(settings, calendar_of(row["spec"]), row["name"], problem)


# --- items
# ----------------------------------------------------------------------------------------------------
async def item(uow: UnitOfWork, item_id: int) -> Item | None:
    row = await uow.row(select(work_item).where(work_item.c.id == item_id))
    return Item.from_row(row) if row else None


async def lock_item(uow: UnitOfWork, item_id: int, *, skip_locked: bool = False) -> Item | None:
    """The item, locked. With `skip_locked`, None also if another transaction has it."""
    row = await uow.row(uow.lock(select(work_item).where(work_item.c.id == item_id), skip_locked=skip_locked))
    return Item.from_row(row) if row else None


async def lock_live(uow: UnitOfWork, source_kind: str, source_id: int) -> Item | None:
    """The live item of a source, locked."""
    row = await uow.row(
        uow.lock(
            select(work_item).where(
                work_item.c.source_kind == source_kind,
                work_item.c.source_id == source_id,
                work_item.c.state.in_(LIVE),
            )
        )
    )
    return Item.from_row(row) if row else None


async def lock_inquiry(uow: UnitOfWork, inquiry_id: int, *, skip_locked: bool = False) -> RowLike | None:
    return await uow.row(uow.lock(select(inquiry).where(inquiry.c.id == inquiry_id), skip_locked=skip_locked))


async def holdings(uow: UnitOfWork, item: Item) -> list[Holding]:
    """What is held for an item now: its open offers or its live assignment. The item is locked."""
    if item.state == ItemState.OFFERED:
        offers = await uow.rows(
            select(offer).where(offer.c.item_id == item.id, offer.c.state == "open").order_by(offer.c.id)
        )
        return [holding_of_offer(o) for o in offers]
    if item.state not in (ItemState.ASSIGNED, ItemState.WRAPUP):
        return []
    live = await uow.row(
        select(assignment).where(assignment.c.item_id == item.id, assignment.c.ended_at.is_(None))
    )
    if live is None:
        return []
    return [
        Holding(
            id=live["id"],
            agent_id=live["agent_id"],
            channel=live["channel"],
            weight=live["weight"],
            assignment=True,
            holds_slot=live["holds_slot"],
        )
    ]


def holding_of_offer(row: RowLike) -> Holding:
    return Holding(
        id=row["id"], agent_id=row["agent_id"], channel=row["channel"], weight=row["weight"], assignment=False
    )


async def reply_due(conn: AsyncConnection, inquiry_id: int) -> int | None:
    """The earliest deadline of the inquiry's running reply clocks."""
    value = await conn.scalar(
        select(func.min(sla_clock.c.due_at)).where(
            sla_clock.c.inquiry_id == inquiry_id,
            sla_clock.c.metric.in_(REPLY_METRICS),
            sla_clock.c.state == "active",
        )
    )
    return None if value is None else int(value)


# --- agents
# ---------------------------------------------------------------------------------------------------
async def candidates(
    conn: AsyncConnection, lanes: Mapping[str, int], *, channel: str, also: Collection[int] = (),
    skills: Collection[str] = (), now: int, everybody: bool = False,
) -> list[AgentView]:  # fmt: skip
    """Agents of these lanes that are there, those with room in the channel first, then the longest idle;
    those in `also` whatever their presence. `everybody`: all members of the lanes, for an explanation.
    """
    if not lanes:
        return []
    signatures = {lane_id: signature for signature, lane_id in lanes.items()}
    wanted = (
        or_(agent_state.c.routable, agent_lane.c.agent_id.in_(list(also))) if also else agent_state.c.routable
    )
    # The busy ones are wanted too, as proof that somebody is there, but must not push a free one over the
    # limit.
    busy = case((agent_slot.c.used < agent_slot.c.max, 0), else_=1)
    statement = (
        select(agent_lane.c.agent_id, agent_lane.c.lane_id)
        .outerjoin(agent_state, agent_state.c.agent_id == agent_lane.c.agent_id)
        .outerjoin(
            agent_slot,
            and_(agent_slot.c.agent_id == agent_lane.c.agent_id, agent_slot.c.channel == channel),
        )
        .where(agent_lane.c.lane_id.in_(list(signatures)))
        .order_by(busy, agent_state.c.idle_since, agent_lane.c.agent_id)
        .limit(MAX_CANDIDATES * max(len(signatures), 1))
    )
    memberships: dict[int, set[str]] = {}
    for agent_id, lane_id in await conn.execute(statement if everybody else statement.where(wanted)):
        if agent_id in memberships or len(memberships) < MAX_CANDIDATES:
            memberships.setdefault(agent_id, set()).add(signatures[lane_id])
    return await views(conn, memberships, skills=skills, now=now)


async def views(
    conn: AsyncConnection, memberships: Mapping[int, Collection[str]], *, skills: Collection[str], now: int
) -> list[AgentView]:
    """These agents with state, capacity and the named skills, in the order given."""
    ids = list(memberships)
    if not ids:
        return []
    levels: dict[int, dict[str, int]] = {}
    if skills:
        for agent_id, skill, level in await conn.execute(
            select(agent_skill.c.agent_id, agent_skill.c.skill, agent_skill.c.level).where(
                agent_skill.c.agent_id.in_(ids), agent_skill.c.skill.in_(list(skills))
            )
        ):
            levels.setdefault(agent_id, {})[skill] = level
    slot = (agent_slot.c.channel, agent_slot.c.max, agent_slot.c.used, agent_slot.c.load)
    rows = (
        await conn.execute(
            select(agent.c.id, agent.c.name, calendar_table.c.spec, agent_state, *slot)
            .outerjoin(agent_state, agent_state.c.agent_id == agent.c.id)
            .outerjoin(agent_slot, agent_slot.c.agent_id == agent.c.id)
            .outerjoin(calendar_table, calendar_table.c.id == agent.c.calendar_id)
            .where(agent.c.id.in_(ids), agent.c.active)
        )
    ).mappings()
    found: dict[int, RowLike] = {}
    slots: dict[int, dict[str, Slot]] = {}
    for row in rows:
        found[row["id"]] = row
        if row["channel"] is not None:
            slots.setdefault(row["id"], {})[row["channel"]] = Slot(row["max"], row["used"], row["load"])
    return [
        replace(_view(found[i], slots.get(i, {}), levels.get(i, {}), now), lanes=frozenset(memberships[i]))
        for i in ids
        if i in found
    ]


def _view(row: RowLike, slots: Mapping[str, Slot], skills: Mapping[str, int], now: int) -> AgentView:
    shift = calendar_of(row["spec"])
    in_shift = shift is None or shift.is_open(now)
    base = AgentView(
        agent_id=row["id"], name=row["name"], slots=slots, skills=skills, in_shift=in_shift,
        shift_from=None if in_shift or shift is None else shift.next_open(now),
    )  # fmt: skip
    if row["presence"] is None:
        return base
    return replace(
        base,
        presence=row["presence"],
        routable=row["routable"] and (row["lease_until"] or 0) > now,
        lease_until=row["lease_until"],
        wrapup_until=row["wrapup_until"],
        idle_since=row["idle_since"],
        load_used=row["load_used"],
        load_max=row["load_max"],
    )


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
            .where(lane.c.team_id == team_id, lane.c.channel == channel)
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
    mine = agent_lane.alias("mine")
    others = agent_lane.alias("others")
    somebody_else = (
        select(others.c.agent_id)
        .join(agent_state, agent_state.c.agent_id == others.c.agent_id)
        .where(
            others.c.lane_id == mine.c.lane_id, others.c.agent_id != mine.c.agent_id, agent_state.c.routable
        )
        .exists()
    )
    rows = await conn.execute(
        select(mine.c.agent_id, func.count())
        .join(lane, lane.c.id == mine.c.lane_id)
        .where(mine.c.agent_id.in_(list(agent_ids)), lane.c.agent_id.is_(None), ~somebody_else)
        .group_by(mine.c.agent_id)
    )
    return {agent_id: int(n) for agent_id, n in rows}
