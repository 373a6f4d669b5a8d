"""The rows of an agent's presence and their event. Policy (what follows from a change) is in
`routing.presence`.
"""

from typing import Any

from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.db.prepared import Prepared
from crm_core.db.uow import UnitOfWork
from crm_core.events import EVERYONE, DomainEvent
from crm_core.views import iso
from routing.capacity import LEASE_MS
from routing.model import Channel, Presence, RowLike
from routing.schema import agent_slot, agent_state, offer
from routing.settings import TeamSettings

NOT_RESPONDING = "not_responding"
LEASE_LAPSED = "lease_lapsed"


async def write(
    uow: UnitOfWork, agent_id: int, before: RowLike, presence: str, *, reason: str | None = None,
    since: int | None = None,
    actor: str = "system",
) -> bool:  # fmt: skip
    """Write a presence, with its lease and whether work may be routed to it. The agent is locked. Emits
    presence.changed if it is another one than before, and says so.
    """
    now = uow.now
    there = presence != Presence.OFFLINE
    values: dict[str, Any] = {
        "presence": presence,
        "reason": reason,
        "routable": presence == Presence.ONLINE,
        "lease_until": now + LEASE_MS if there else None,
    }
    changed = bool(before["presence"] != presence or before["reason"] != reason)
    if changed:
        values["since"] = now if since is None else since
    if presence == Presence.ONLINE:
        values["missed_offers"] = 0
        if before["presence"] in (Presence.OFFLINE, Presence.AWAY_REASSIGN):
            values["idle_since"] = now
    await uow.execute(update(agent_state).where(agent_state.c.agent_id == agent_id).values(**values))
    if changed:
        await uow.emit(
            DomainEvent(
                kind="presence.changed", subject_kind="agent", subject_id=agent_id,
                actor=actor,
                payload={"agent_id": agent_id, "presence": presence, "reason": reason,
                         "previous": before["presence"], "since": iso(values["since"])},
                audience=EVERYONE,
            )
        )  # fmt: skip
    return changed


async def missed(uow: UnitOfWork, agent_id: int, settings: TeamSettings) -> None:
    """An offer of his ran out. After several in a row he is taken for away, and told; whatever else he is offered has
    no time left and goes on with the next sweep.
    """
    row = await uow.row(
        update(agent_state)
        .where(agent_state.c.agent_id == agent_id)
        .values(missed_offers=agent_state.c.missed_offers + 1, idle_since=uow.now)
        .returning(agent_state)
    )
    if row is None or row["missed_offers"] < settings.misses_to_break or row["presence"] != Presence.ONLINE:
        return
    await write(uow, agent_id, row, Presence.BREAK, reason=NOT_RESPONDING)
    await uow.execute(_END_NOW, {"agent": agent_id, "now": uow.now})


# Items come before agents in the lock order, and these offers are of others: one that is being answered is left alone.
_others = (
    select(offer.c.id)
    .where(
        offer.c.agent_id == bindparam("agent"),
        offer.c.state == "open",
        offer.c.expires_at > bindparam("now", type_=offer.c.expires_at.type),
    )
    .with_for_update(skip_locked=True)
)
_END_NOW = Prepared(
    update(offer)
    .where(offer.c.id.in_(_others))
    .values(expires_at=bindparam("now", type_=offer.c.expires_at.type))
)


async def view(conn: AsyncConnection, agent_id: int) -> dict[str, Any]:
    """The JSON shape of a presence; offline for an agent who never was here."""
    state = (
        (await conn.execute(select(agent_state).where(agent_state.c.agent_id == agent_id))).mappings().first()
    )
    slots = (await conn.execute(select(agent_slot).where(agent_slot.c.agent_id == agent_id))).mappings().all()
    by_channel = {s["channel"]: s for s in slots}
    return {
        "agent_id": agent_id,
        "presence": state["presence"] if state else Presence.OFFLINE.value,
        "reason": state["reason"] if state else None,
        "since": iso(state["since"]) if state else None,
        "lease_until": iso(state["lease_until"]) if state else None,
        "wrapup_until": iso(state["wrapup_until"]) if state else None,
        "capacity": [
            {"channel": c.value, "used": by_channel[c]["used"], "max": by_channel[c]["max"]}
            for c in Channel
            if c in by_channel
        ],
        "load_used": state["load_used"] if state else 0,
        "load_max": state["load_max"] if state else 0,
    }
