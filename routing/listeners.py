"""What routing does when the core's facts happen, in the same transaction. Registered by the composition
root, after the SLA's and the bots' listeners.
"""

import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from crm_core.db.uow import UnitOfWork
from crm_core.events import DomainEvent, Listener
from crm_core.schema import inquiry, team
from routing import asking, assignments, configuration, items, store
from routing.assignments import TRANSFER
from routing.model import ItemState
from routing.schema import work_item

_ID = re.compile(r"[1-9][0-9]{0,17}")
_DONE = ("solved", "closed")
_WAITS_FOR_CUSTOMER = ("pending", "hold")


async def on_opened(uow: UnitOfWork, event: DomainEvent) -> None:
    """A new request that no bot holds is work."""
    row = event.context["inquiry"]
    if not items.needs_people(row):
        return
    if row["assignee_id"] is not None:
        await items.adopt_inquiry(uow, row, row["assignee_id"], cause="preassigned", by=event.actor)
        return
    await items.enqueue_inquiry(uow, row, trigger="opened")


async def on_handed_off(uow: UnitOfWork, event: DomainEvent) -> None:
    """The bot gives it to people."""
    row = event.context["inquiry"]
    if items.needs_people(row) and row["assignee_id"] is None:
        await items.enqueue_inquiry(uow, row, trigger="handed_off")


async def on_message(uow: UnitOfWork, event: DomainEvent) -> None:
    """A chat that fell silent and goes on counts again; a request that nobody has and should is work."""
    row = event.context.get("inquiry")
    if row is None or event.context["message"]["direction"] == "internal" or row["status"] in _DONE:
        return
    if event.context["message"]["direction"] == "in" and row["status"] in ("new", "open"):
        await assignments.weigh(uow, row["id"], waits_for_customer=False)


async def on_updated(uow: UnitOfWork, event: DomainEvent) -> None:
    """Status, priority, team, assignee, language or requirements changed."""
    changes: Mapping[str, Any] = event.payload["changes"]
    row = event.context["inquiry"]
    if row["held_by_bot"]:
        return
    if "status" in changes:
        await _status_changed(uow, row, *changes["status"])
    if row["status"] in _DONE:
        return
    if "assignee_id" in changes:
        await _assignee_changed(uow, row, event.actor)
    if "team_id" in changes and "assignee_id" not in changes and event.context.get("cause") != TRANSFER:
        await _team_changed(uow, row)
    if "priority" in changes:
        await items.rekey(uow, row["id"])
    if "language" in changes or "requirements" in changes:
        await items.refit(uow, row["id"])


async def on_contact_updated(uow: UnitOfWork, event: DomainEvent) -> None:
    """A contact became a VIP, or is none any more: his waiting requests move. Another manager is asked for them."""
    changes = event.payload.get("changes", {})
    if not {"vip", "manager_id"} & set(changes):
        return
    rows = await uow.rows(
        select(work_item.c.source_id)
        .join(inquiry, inquiry.c.id == work_item.c.source_id)
        .where(
            inquiry.c.contact_id == event.subject_id, work_item.c.source_kind == "inquiry",
            work_item.c.inquiry_id == inquiry.c.id,
            work_item.c.state.in_((ItemState.WAITING, ItemState.PARKED, ItemState.OFFERED)),
        )
        .order_by(work_item.c.id)
    )  # fmt: skip
    for row in rows:
        if "vip" in changes:
            await items.rekey(uow, row["source_id"])
        if "manager_id" in changes:
            await items.remanage(uow, row["source_id"])


async def on_call(uow: UnitOfWork, event: DomainEvent) -> None:
    """A call that an agent speaks takes his place for calls; when it ends he has his wrap-up time."""
    row = event.context["call"]
    if row["state"] == "answered" and row["agent_id"] is not None:
        await items.adopt_call(uow, row, row["agent_id"])
    elif row["state"] in ("settling", "ended"):
        # Who hangs up before anybody spoke to him has given up; open offers end with it.
        await items.finish(uow, "call", row["id"], "ended" if row.get("answered_at") else "abandoned")


async def on_clock(uow: UnitOfWork, event: DomainEvent) -> None:
    """An SLA deadline came or moved: the order key follows."""
    if event.inquiry_id is not None:
        await items.rekey(uow, event.inquiry_id)


async def on_calendar(uow: UnitOfWork, event: DomainEvent) -> None:
    """Working hours changed: what is parked until an opening, or paced by them, follows."""
    if "version" not in event.payload:
        return
    for row in await uow.rows(
        select(team.c.id).where(team.c.calendar_id == event.subject_id).order_by(team.c.id)
    ):
        await configuration.follow(uow, row["id"])


async def on_sla_step(uow: UnitOfWork, event: DomainEvent) -> None:
    """A step of the SLA asks for more people to be asked."""
    if event.inquiry_id is None:
        return
    match event.payload.get("action"):
        case "widen_routing":
            await asking.widen(uow, event.inquiry_id)
        case "add_overflow_team":
            value = str(event.payload.get("value") or "")
            await asking.team_too(uow, event.inquiry_id, int(value) if _ID.fullmatch(value) else None)
        case "broadcast_offer":
            await asking.several(uow, event.inquiry_id)


async def on_merged(uow: UnitOfWork, event: DomainEvent) -> None:
    """Two inquiries became one."""
    await items.merged(uow, event.context["source"]["id"], event.context["target"]["id"])


async def _status_changed(uow: UnitOfWork, row: Mapping[str, Any], old: str, new: str) -> None:
    if new in _DONE:
        await items.finish(uow, "inquiry", row["id"], "merged" if row["merged_into_id"] else new)
    elif old in _DONE:
        await _reopened(uow, row)
    else:
        await assignments.weigh(uow, row["id"], waits_for_customer=new in _WAITS_FOR_CUSTOMER)


async def _reopened(uow: UnitOfWork, row: Mapping[str, Any]) -> None:
    """A new attempt; who had it is asked first and stays its owner only if he really gets it.

    While it is only offered nobody has it: an offer may be declined, and then it would be his on paper alone.
    """
    before = row["assignee_id"]
    item = await items.enqueue_inquiry(uow, row, trigger="reopened", sticky_agent_id=before)
    if before is not None and item.owner_id is None:
        await assignments.disown(uow, item, before, cause="reopened")


async def _assignee_changed(uow: UnitOfWork, row: Mapping[str, Any], actor: str) -> None:
    wanted = row["assignee_id"]
    if wanted is None:
        await assignments.unassign(uow, row, actor=actor, cause="unassigned")
        return
    item = await store.lock_live(uow, "inquiry", row["id"])
    if item is None or item.owner_id != wanted:
        await assignments.give(uow, row, item, wanted, cause="by_hand", by=actor)


async def _team_changed(uow: UnitOfWork, row: Mapping[str, Any]) -> None:
    item = await store.lock_live(uow, "inquiry", row["id"])
    if item is not None and item.owner_id is None and item.team_id != row["team_id"]:
        await items.move_to_team(uow, item, row["team_id"])


LISTENERS: dict[str, list[Listener]] = {
    "inquiry.opened": [on_opened],
    "inquiry.handed_off": [on_handed_off],
    "inquiry.updated": [on_updated],
    "message.added": [on_message],
    "contact.updated": [on_contact_updated],
    "call.updated": [on_call],
    "sla.retargeted": [on_clock],
    "sla.step": [on_sla_step],
    "sla.calendar_changed": [on_calendar],
    "inquiry.merged": [on_merged],
}
