"""Counting capacity again from what is really held. A difference is repaired and told as the defect it is."""

from typing import Any

from sqlalchemy import func, select, union_all, update

from crm_core.db.uow import UnitOfWork
from crm_core.events import DomainEvent
from routing import capacity
from routing.schema import agent_slot, agent_state, assignment, offer


async def recount(uow: UnitOfWork) -> list[dict[str, Any]]:
    """Compare used places and load with open offers and live assignments; repair. Returns the differences."""
    suspects = sorted({d["agent_id"] for d in await differences(uow)})
    if not suspects:
        return []
    # What was read while others were writing may be half of their change: look again under the locks.
    await capacity.lock(uow, suspects)
    found = await differences(uow, agents=suspects)
    for d in found:
        if d["channel"] is not None:
            await uow.execute(
                update(agent_slot)
                .where(agent_slot.c.agent_id == d["agent_id"], agent_slot.c.channel == d["channel"])
                .values(used=d["held"], load=d["held_load"])
            )
        else:
            await uow.execute(
                update(agent_state)
                .where(agent_state.c.agent_id == d["agent_id"])
                .values(load_used=d["held_load"])
            )
    if found:
        await uow.emit(
            DomainEvent(
                kind="alarm.raised", subject_kind="routing", subject_id=found[0]["agent_id"],
                payload={"alarm": "capacity_differs", "differences": found[:20], "count": len(found)},
            )
        )  # fmt: skip
    return found


async def differences(uow: UnitOfWork, *, agents: list[int] | None = None) -> list[dict[str, Any]]:
    """Where the counters differ from what is held: one dict per slot, and per agent for the load (channel
    None).
    """
    open_ = select(
        offer.c.agent_id, offer.c.channel, func.count().label("n"), func.sum(offer.c.weight).label("w")
    ).where(offer.c.state == "open")
    live = select(
        assignment.c.agent_id,
        assignment.c.channel,
        func.count().label("n"),
        func.sum(assignment.c.weight).label("w"),
    ).where(assignment.c.ended_at.is_(None), assignment.c.holds_slot)
    if agents is not None:
        open_ = open_.where(offer.c.agent_id.in_(agents))
        live = live.where(assignment.c.agent_id.in_(agents))
    both = union_all(
        open_.group_by(offer.c.agent_id, offer.c.channel),
        live.group_by(assignment.c.agent_id, assignment.c.channel),
    ).subquery()
    held: dict[tuple[int, str], tuple[int, int]] = {}
    for row in await uow.rows(
        select(
            both.c.agent_id, both.c.channel, func.sum(both.c.n).label("n"), func.sum(both.c.w).label("w")
        ).group_by(both.c.agent_id, both.c.channel)
    ):
        held[row["agent_id"], row["channel"]] = (int(row["n"]), int(row["w"]))
    slots = select(agent_slot)
    states = select(agent_state.c.agent_id, agent_state.c.load_used)
    if agents is not None:
        slots = slots.where(agent_slot.c.agent_id.in_(agents))
        states = states.where(agent_state.c.agent_id.in_(agents))
    found: list[dict[str, Any]] = []
    loads: dict[int, int] = {}
    for (agent_id, _), (_, weight) in held.items():
        loads[agent_id] = loads.get(agent_id, 0) + weight
    for row in await uow.rows(slots):
        n, weight = held.get((row["agent_id"], row["channel"]), (0, 0))
        if (row["used"], row["load"]) != (n, weight):
            found.append(
                {"agent_id": row["agent_id"], "channel": row["channel"], "used": row["used"], "held": n,
                 "load": row["load"], "held_load": weight}
            )  # fmt: skip
    for row in await uow.rows(states):
        weight = loads.get(row["agent_id"], 0)
        if row["load_used"] != weight:
            found.append(
                {"agent_id": row["agent_id"], "channel": None, "used": None, "held": None,
                 "load": row["load_used"], "held_load": weight}
            )  # fmt: skip
    return found
