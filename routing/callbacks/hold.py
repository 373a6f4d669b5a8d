"""Virtual hold: somebody who waits in the queue hangs up and keeps his place.

The place is a promise of kind `hold` whose work item stands in the lanes of live calls with the instant at which he
began to wait and his priority. One number has one place; a live call from it takes the place over.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from crm_core import contacts
from crm_core.clock import HOUR, MINUTE
from crm_core.db.uow import UnitOfWork
from crm_core.envelope import IdentityClaim, IdentityKind
from crm_core.errors import Conflict, Invalid, NotFound
from crm_core.schema import call, contact, inbox, inquiry
from routing import items, store
from routing.callbacks import booking, ending, rows
from routing.model import Channel, Item
from routing.schema import callback

#: somebody who keeps his place is called within this, or a supervisor hears of it
_PROMISE_MS = HOUR
_ALIVE = ("scheduled", "due", "dialling", "paused")


async def take_place_of_call(
    uow: UnitOfWork, call_id: int, *, actor: str, number: str | None = None
) -> dict[str, Any]:
    """The caller hangs up and keeps the place of his call. Asking twice gives the same place.

    `number`: where to call him, if not the number he calls from. Raises NotFound, Conflict (call_over: nobody waits in
    it any more), Invalid (no_phone, bad_phone, not_callable).
    """
    row = await uow.find(call, call_id, lock=True)
    if row is None:
        raise NotFound(f"no call {call_id}", params={"call_id": call_id})
    known = await _place_of(uow, number=None, call_id=call_id)
    if known is not None:
        return known
    if row["direction"] != "inbound" or row["state"] not in ("initiated", "ringing"):
        raise Conflict("nobody waits in this call", code="call_over", params={"state": row["state"]})
    account = await uow.find(inbox, row["inbox_id"])
    region = account["region"] if account else "UA"
    wanted = booking.callable_number(number or row["from_number"], region)
    person = await _person(uow, row["contact_id"], wanted)
    item = await store.lock_live(uow, "call", call_id)
    made = await _keep(
        uow,
        person=person,
        number=wanted,
        since=item.ready_at if item else row["started_at"] or uow.now,
        priority=item.priority if item else (account["priority"] if account else "normal"),
        team_id=item.team_id if item else (account["team_id"] if account else None),
        inquiry_id=row["inquiry_id"],
        conversation_id=row["conversation_id"],
        call_id=call_id,
        inbox_id=row["inbox_id"],
        actor=actor,
    )
    # The end of this call is neither missed nor abandoned: its caller waits on.
    await uow.update(call, call_id, {"data": {**row["data"], "callback_id": made["id"]}})
    if item is not None:
        await items.finish(uow, "call", call_id, "callback")
    return await _enter(uow, made, person)


async def take_place_of_request(
    uow: UnitOfWork, inquiry_id: int, *, actor: str, number: str | None = None, region: str = "UA"
) -> dict[str, Any]:
    """Somebody who waits in a chat wants to be called instead, at his turn. Raises as `take_place_of_call`; Conflict
    (not_waiting) if an agent has the request or nobody needs to.
    """
    await store.lock_inquiry(uow, inquiry_id)
    request = await uow.find(inquiry, inquiry_id)
    if request is None:
        raise NotFound(f"no inquiry {inquiry_id}", params={"inquiry_id": inquiry_id})
    item = await store.lock_live(uow, "inquiry", inquiry_id)
    if item is None or item.owner_id is not None:
        raise Conflict("this request does not wait in a queue", code="not_waiting")
    person = await uow.find(contact, request["contact_id"])
    if person is None:
        raise NotFound("no contact", params={"contact_id": request["contact_id"]})
    wanted = await booking.number_of(uow, person, number, region)
    made = await _keep(
        uow,
        person=dict(person),
        number=wanted,
        since=item.ready_at,
        priority=item.priority,
        team_id=item.team_id,
        inquiry_id=inquiry_id,
        conversation_id=request["conversation_id"],
        call_id=None,
        inbox_id=await booking.dialling_inbox(uow),
        actor=actor,
    )
    await items.finish(uow, "inquiry", inquiry_id, "callback")
    return await _enter(uow, made, dict(person))


async def _keep(
    uow: UnitOfWork,
    *,
    person: Mapping[str, Any],
    number: str,
    since: int,
    priority: str,
    team_id: int | None,
    inquiry_id: int | None,
    conversation_id: int | None,
    call_id: int | None,
    inbox_id: int | None,
    actor: str,
) -> dict[str, Any]:
    settings = await rows.settings(uow, team_id)
    end = uow.now + _PROMISE_MS
    zones = await rows.zones(
        uow,
        {"timezone": "", "timezone_source": "phone", "contact_id": person["id"], "phone": number},
    )
    values: dict[str, Any] = {
        **booking.blank(uow),
        "kind": "hold",
        "contact_id": person["id"],
        "inquiry_id": inquiry_id,
        "conversation_id": conversation_id,
        "inbox_id": inbox_id,
        "phone": number,
        "timezone": zones.shown,
        "timezone_source": zones.source,
        "window_start": uow.now,
        "window_end": end,
        "due_at": uow.now,
        "asked_for": True,
        "owner_id": None,
        "team_id": team_id,
        "state": "due",
        "mode": settings.hold_mode.value,
        "max_attempts": settings.hold_tries,
        "next_attempt_at": None,
        "escalate_at": end,
        "kept_by": end + settings.tolerance_ms,
        "note": None,
        "created_by": actor[:60],
        "source": "queue",
        "dedupe": None,
        "slot_team_id": None,
        "slot_at": None,
        "enqueued_at": since,
        "priority": priority,
        "held_call_id": call_id,
    }
    try:
        async with uow.savepoint():
            values["id"] = await uow.insert(callback, values)
    except IntegrityError:
        return await _join(uow, number, since, call_id)
    await rows.tell(uow, "booked", values, actor=actor, held=True)
    return values


async def _join(uow: UnitOfWork, number: str, since: int, call_id: int | None) -> dict[str, Any]:
    """The number has a place already: the earlier of both counts."""
    known = await _place_of(uow, number=number, call_id=None)
    if known is None:
        raise Conflict("this number's place changed at this moment, try again", code="place_changed")
    if known["enqueued_at"] is not None and since < known["enqueued_at"]:
        known = await rows.change(
            uow, known, enqueued_at=since, held_call_id=call_id or known["held_call_id"]
        )
    return known


async def _enter(uow: UnitOfWork, row: dict[str, Any], person: Mapping[str, Any]) -> dict[str, Any]:
    await ending.hold_clock(uow, row)
    if row["state"] == "due":
        await items.enqueue_place(uow, row, dict(person))
    return await rows.lock(uow, row["id"])


async def _place_of(uow: UnitOfWork, *, number: str | None, call_id: int | None) -> dict[str, Any] | None:
    where = callback.c.phone == number if number is not None else callback.c.held_call_id == call_id
    if number is None:
        taken = await uow.scalar(select(call.c.data).where(call.c.id == call_id))
        found = (taken or {}).get("callback_id")
        if not isinstance(found, int):
            return None
        where = callback.c.id == found
    row = await uow.scalar(
        select(callback.c.id).where(where, callback.c.kind == "hold", callback.c.state.in_(_ALIVE)).limit(1)
    )
    return None if row is None else await rows.lock(uow, int(row))


async def snooze(uow: UnitOfWork, callback_id: int, *, minutes: int | None, actor: str) -> dict[str, Any]:
    """Not now, later: the due time moves, a kept place stays as old as it was. 1 minute to 1 day; None is the team's
    usual time.

    Raises NotFound, Conflict (callback_over, callback_dialling), Invalid.
    """
    row = await rows.lock_open(uow, callback_id)
    if row["state"] == "dialling":
        raise Conflict("it is being dialled at this moment", code="callback_dialling")
    settings = await rows.settings(uow, row["team_id"])
    if minutes is not None and not 1 <= minutes <= 1440:
        raise Invalid("snooze for 1 to 1440 minutes", code="bad_minutes")
    again = uow.now + (settings.snooze_ms if minutes is None else minutes * MINUTE)
    row = await rows.change(
        uow,
        row,
        state="scheduled",
        next_attempt_at=again,
        due_at=again,
        escalate_at=max(row["window_end"], again + rows.ESCALATE_AFTER_MS),
        watch=None,
        watch_at=None,
        paused_at=None,
        pause_cause=None,
    )
    await items.finish(uow, "callback", row["id"], "snoozed")
    await rows.tell(uow, "updated", row, actor=actor, snoozed=True)
    return row


async def absorb(uow: UnitOfWork, call_row: Mapping[str, Any], *, team_id: int | None) -> Item | None:
    """Somebody who keeps a place calls again: the live call takes the place over. The call is locked.

    Returns the call's item, with the place's age and priority; None if the number has no place.
    """
    number = call_row["from_number"]
    if number is None or call_row["direction"] != "inbound":
        return None
    place = await _place_of(uow, number=number, call_id=None)
    if place is None or place["state"] == "dialling" or place["held_call_id"] == call_row["id"]:
        return None
    await ending.cancelled(
        uow, place, actor=f"contact:{place['contact_id']}", reason="called_again", outcome="absorbed"
    )
    item = await store.lock_live(uow, "call", call_row["id"])
    if item is not None and item.channel == Channel.VOICE and item.owner_id is not None:
        return item
    if item is not None:
        await items.finish(uow, "call", call_row["id"], "rekeyed")
    return await items.enqueue_call(
        uow,
        call_row,
        place["team_id"] or team_id,
        ready_at=place["enqueued_at"],
        priority=place["priority"] or "normal",
    )


async def _person(uow: UnitOfWork, contact_id: int | None, number: str) -> dict[str, Any]:
    if contact_id is not None:
        found = await uow.find(contact, contact_id)
        if found is not None:
            return dict(found)
    claim = IdentityClaim(IdentityKind.PHONE, number, evidence="caller_id")
    return dict(await contacts.resolve(uow, (claim,)))
