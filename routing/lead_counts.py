"""How many leads each agent of a team was given, for teams that share them out by weight.

One row per team and agent, written with each assignment under the agent's lock; never counted from the history. What
is offered to him and may become his counts, too, as long as the offer is open: so no cap is ever exceeded by offers.
Periods and days begin at midnight of the team's zone.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.db.uow import UnitOfWork
from routing.model import LeadStand
from routing.schema import lead_count, offer, work_item
from routing.settings import LeadSettings


@dataclass(frozen=True, slots=True)
class Counts:
    """Leads given to an agent in the present period, and today; and those that he is asked about."""

    given: int = 0
    today: int = 0
    offered: int = 0


def period_starts(leads: LeadSettings, tz: str, now: int) -> tuple[int, int]:
    """When the present period and the present day began, ms UTC. Pure."""
    local = datetime.fromtimestamp(now / 1000, UTC).astimezone(ZoneInfo(tz))
    day = local.replace(hour=0, minute=0, second=0, microsecond=0)
    first = day
    if leads.period == "week":
        first = day - timedelta(days=day.weekday())
    elif leads.period == "month":
        first = day.replace(day=1)
    return int(first.timestamp() * 1000), int(day.timestamp() * 1000)


def stand(leads: LeadSettings, agent_id: int, counts: Counts) -> LeadStand:
    """What the ranking and the filter need of it. Pure."""
    weight, cap = leads.weight_of(agent_id), leads.cap_of(agent_id)
    if weight == 0:
        return LeadStand(share=0, capped=True)
    return LeadStand(
        share=1000 * (counts.given + counts.offered) // weight,
        capped=cap is not None and counts.today + counts.offered >= cap,
    )


async def stands(
    conn: AsyncConnection, team_id: int, leads: LeadSettings, tz: str, agent_ids: Collection[int], now: int
) -> dict[int, LeadStand]:
    """How these agents stand now."""
    period, day = period_starts(leads, tz, now)
    rows = await conn.execute(
        select(lead_count).where(lead_count.c.team_id == team_id, lead_count.c.agent_id.in_(list(agent_ids)))
    )
    given = {
        r.agent_id: (
            r.given if r.period_start == period else 0,
            r.given_today if r.day_start == day else 0,
        )
        for r in rows
    }
    asked = await _asked_about(conn, team_id, agent_ids)
    return {a: stand(leads, a, Counts(*given.get(a, (0, 0)), asked.get(a, 0))) for a in agent_ids}


async def _asked_about(conn: AsyncConnection, team_id: int, agent_ids: Collection[int]) -> dict[int, int]:
    """Leads of the team that each of these agents has an open offer of: as many as he has places, at most."""
    rows = await conn.execute(
        select(offer.c.agent_id, func.count())
        .join(work_item, work_item.c.id == offer.c.item_id)
        .where(
            offer.c.agent_id.in_(list(agent_ids)), offer.c.state == "open", work_item.c.kind == "lead",
            work_item.c.team_id == team_id,
        )
        .group_by(offer.c.agent_id)
    )  # fmt: skip
    return {agent_id: int(n) for agent_id, n in rows}


async def given(uow: UnitOfWork, team_id: int, leads: LeadSettings, tz: str, agent_id: int) -> None:
    """One more lead for this agent. He is locked."""
    period, day = period_starts(leads, tz, uow.now)
    here = (lead_count.c.team_id == team_id, lead_count.c.agent_id == agent_id)
    before = await uow.row(select(lead_count).where(*here))
    if before is None:
        first = {"period_start": period, "given": 1, "day_start": day, "given_today": 1}
        await uow.insert_new(
            lead_count, {"team_id": team_id, "agent_id": agent_id, **first}, key=["team_id", "agent_id"]
        )
        return
    await uow.execute(
        update(lead_count)
        .where(*here)
        .values(
            period_start=period,
            given=before["given"] + 1 if before["period_start"] == period else 1,
            day_start=day,
            given_today=before["given_today"] + 1 if before["day_start"] == day else 1,
        )
    )
