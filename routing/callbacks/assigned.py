"""An agent has a promise as his work: his phone rings, or he sees the card and dials himself in time."""

from typing import Any

from sqlalchemy import select

from crm_core.db.uow import UnitOfWork
from crm_core.events import DomainEvent
from crm_core.jobs import NewJob
from crm_core.schema import agent
from routing import items, machine, store
from routing.callbacks import chain, outcomes, rows
from routing.callbacks.attempts import CONNECT_JOB, dial_for
from routing.callbacks.settings import Mode
from routing.model import ItemState


async def on_assigned(uow: UnitOfWork, event: DomainEvent) -> None:
    """Routing found somebody. Agent-first rings him at once; in preview the card is his, for a while; a customer who
    is on the line already is connected.
    """
    if event.subject_kind != "callback":
        return
    row = await rows.lock(uow, event.subject_id)
    agent_id = int(event.payload["agent_id"])
    if row["state"] == "dialling":
        await _connect(uow, row, agent_id)
        return
    if row["state"] not in ("due", "escalated"):
        return
    settings = await rows.settings(uow, row["team_id"])
    row = await rows.change(
        uow,
        row,
        owner_id=agent_id,
        chain=chain.taken_by(row["chain"], agent_id),
        # Whoever took the card and does not dial, for whatever reason, does not hold the promise up.
        watch="card",
        watch_at=uow.now + settings.card_ms,
    )
    if row["mode"] != Mode.PREVIEW and await dial_for(uow, row, agent_id) is not None:
        return
    await rows.tell(uow, "updated", row, agent_id=agent_id)


async def _connect(uow: UnitOfWork, row: dict[str, Any], agent_id: int) -> None:
    attempt = await outcomes.at_work(uow, row["id"])
    if attempt is None or attempt["style"] != Mode.CUSTOMER_FIRST or attempt["call_id"] is None:
        return
    extension = await uow.scalar(select(agent.c.extension).where(agent.c.id == agent_id))
    if extension is None:
        return
    await rows.change(uow, row, owner_id=agent_id, chain=chain.taken_by(row["chain"], agent_id))
    uow.enqueue(
        NewJob(
            name=CONNECT_JOB,
            args={"call_id": attempt["call_id"], "agent_id": agent_id, "attempt_id": attempt["id"]},
            queue="deliver",
            max_attempts=1,
        )
    )


async def card_over(uow: UnitOfWork, row: dict[str, Any]) -> None:
    """The card lay too long: it goes to somebody else, and not back to him for a while. The row is locked."""
    item = await store.lock_live(uow, "callback", row["id"])
    row = await rows.change(uow, row, watch=None, watch_at=None)
    if item is None or item.state != ItemState.ASSIGNED or row["state"] not in ("due", "escalated"):
        return
    held = await store.holdings(uow, item)
    event = machine.Requeued(held=held, cause="card_left", exclude=item.owner_id)
    await items.requeue(uow, item, event, "card_left")
    fresh = await rows.lock(uow, row["id"])
    if fresh["state"] == "due" and fresh["watch"] is None and fresh["owner_id"] == item.owner_id:
        # Nobody else was free: the promise is the team's again.
        fresh = await rows.change(uow, fresh, owner_id=None)
    await rows.tell(uow, "updated", fresh, left_by=item.owner_id)
