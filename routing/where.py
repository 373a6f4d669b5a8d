"""Where a ringing call should go: asked by the telephony hook, answered in a few milliseconds. Reads only."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, case, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.envelope import Envelope, IdentityKind
from crm_core.schema import agent, contact, identity, inbox, team, team_member
from routing import capacity, store
from routing.model import Channel
from routing.schema import agent_slot, agent_state


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTarget:
    """Whom the call is for. `manager`: it is the contact's own manager; `vip`: to be announced as one."""

    agent_id: int
    agent_ext: str | None
    agent_name: str
    customer_name: str | None = None
    manager: bool = False
    vip: bool = False
    queue: str | None = None


async def where_to_send_call(
    conn: AsyncConnection, envelope: Envelope, inbox_config: Any, *, now: int | None = None
) -> CallTarget | None:
    """The contact's manager if he is free, else the agent of the inbox's team who is longest idle, else None.

    `envelope`: the ringing call; its identities (or `call.from_number`) tell who calls.
    `inbox_config`: anything with the inbox's `id`.
    `now`: ms UTC for judging leases; None trusts `routable`, which the sweeper keeps within a second.
    """
    phones = caller_numbers(envelope)
    caller = None
    if phones:
        caller = (
            (
                await conn.execute(
                    select(contact.c.id, contact.c.name, contact.c.manager_id, contact.c.vip)
                    .join(identity, identity.c.contact_id == contact.c.id)
                    .where(
                        identity.c.kind == "phone",
                        identity.c.value.in_(phones),
                        contact.c.merged_into_id.is_(None),
                    )
                    .order_by(identity.c.verified_at.is_(None), contact.c.id)
                    .limit(1)
                )
            )
            .mappings()
            .first()
        )
    manager_id = caller["manager_id"] if caller else None
    settings = await conn.scalar(
        select(team.c.settings).join(inbox, inbox.c.team_id == team.c.id).where(inbox.c.id == inbox_config.id)
    )
    rules = store.settings_of(settings)[0].channel(Channel.VOICE)
    voice, others = agent_slot.alias("voice"), agent_slot.alias("others")
    blocking = (
        select(func.coalesce(func.sum(capacity.blocking_load(rules.interrupts_up_to, others)), 0))
        .where(others.c.agent_id == agent.c.id, others.c.channel.not_in(sorted(rules.interrupts)))
        .correlate(agent)
        .scalar_subquery()
    )
    of_team = (
        select(inbox.c.id)
        .outerjoin(team_member, team_member.c.team_id == inbox.c.team_id)
        .where(
            inbox.c.id == inbox_config.id,
            or_(inbox.c.team_id.is_(None), team_member.c.agent_id == agent.c.id),
        )
        .correlate(agent)
    )
    is_manager = agent.c.id == (manager_id if manager_id is not None else -1)
    statement = (
        select(agent.c.id, agent.c.name, agent.c.extension)
        .join(agent_state, agent_state.c.agent_id == agent.c.id)
        .join(voice, and_(voice.c.agent_id == agent.c.id, voice.c.channel == Channel.VOICE))
        .where(
            agent.c.active,
            agent.c.extension.is_not(None),
            agent_state.c.routable,
            voice.c.used < voice.c.max,
            blocking + rules.weight <= agent_state.c.load_max,
            or_(is_manager, exists(of_team)),
        )
        .order_by(case((is_manager, 0), else_=1), agent_state.c.idle_since, agent.c.id)
        .limit(1)
    )
    if now is not None:
        statement = statement.where(agent_state.c.lease_until > now)
    row = (await conn.execute(statement)).mappings().first()
    if row is None:
        return None
    return CallTarget(
        agent_id=row["id"], agent_ext=row["extension"], agent_name=row["name"],
        customer_name=caller["name"] if caller else None, manager=row["id"] == manager_id,
        vip=bool(caller and caller["vip"]),
    )  # fmt: skip


def caller_numbers(envelope: Envelope) -> list[str]:
    """E.164 numbers of who calls, from the envelope's sender."""
    found: list[str] = []
    if envelope.call is not None and envelope.call.from_number:
        found.append(envelope.call.from_number)
    found += [c.value for c in envelope.sender.identities if c.kind == IdentityKind.PHONE]
    return list(dict.fromkeys(found))
