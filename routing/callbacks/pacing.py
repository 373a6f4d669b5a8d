"""When a customer may be dialled before an agent is on the line: enough free people, and few customers lost of late.

The counts are read by index: agents who are there now, calls that ring now, customer-first attempts of one day.
"""

from dataclasses import dataclass

from sqlalchemy import and_, case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.clock import DAY
from crm_core.schema import team_member
from routing.callbacks.settings import CallbackSettings
from routing.model import Channel
from routing.schema import agent_slot, agent_state, callback, callback_attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """`free`: agents of the team who could take a call now; `ringing`: customer-first calls without an agent yet;
    `answered`, `abandoned`: of the last day.
    """

    free: int
    ringing: int
    answered: int
    abandoned: int

    @property
    def abandoned_share(self) -> float:
        return self.abandoned / self.answered if self.answered else 0.0

    def refusal(self, settings: CallbackSettings) -> str | None:
        """Why not, or None: few_agents, abandoned_limit."""
        if self.free < settings.min_free or self.free < (self.ringing + 1) * settings.per_agent:
            return "few_agents"
        if self.abandoned and self.abandoned_share > settings.max_abandoned:
            return "abandoned_limit"
        return None


async def pace(conn: AsyncConnection, team_id: int | None, *, now: int) -> Pace:
    """The team's state; without a team, everybody's."""
    there = (
        select(func.count())
        .select_from(agent_state)
        .join(
            agent_slot,
            and_(agent_slot.c.agent_id == agent_state.c.agent_id, agent_slot.c.channel == Channel.VOICE),
        )
        .where(agent_state.c.routable, agent_state.c.lease_until > now, agent_slot.c.used < agent_slot.c.max)
    )
    if team_id is not None:
        there = there.join(team_member, team_member.c.agent_id == agent_state.c.agent_id).where(
            team_member.c.team_id == team_id
        )
    lost = case((callback_attempt.c.outcome == "abandoned", 1), else_=0)
    said = case((callback_attempt.c.customer_answered_at.is_not(None), 1), else_=0)
    waiting = case(
        ((callback_attempt.c.state == "dialling") & callback_attempt.c.connected_at.is_(None), 1), else_=0
    )
    counts = (
        select(
            func.coalesce(func.sum(waiting), 0), func.coalesce(func.sum(said), 0),
            func.coalesce(func.sum(lost), 0),
        )
        .select_from(callback_attempt)
        .where(callback_attempt.c.style == "customer_first", callback_attempt.c.started_at > now - DAY)
    )  # fmt: skip
    if team_id is not None:
        counts = counts.join(callback, callback.c.id == callback_attempt.c.callback_id).where(
            callback.c.team_id == team_id
        )
    free = (await conn.execute(there)).scalar_one()
    ringing, answered, abandoned = (await conn.execute(counts)).one()
    return Pace(free=int(free), ringing=int(ringing), answered=int(answered), abandoned=int(abandoned))
