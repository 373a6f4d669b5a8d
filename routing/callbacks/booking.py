"""Making, moving and cancelling promises to call."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import select

from crm_core import phone
from crm_core.clock import DAY, MINUTE
from crm_core.db.uow import UnitOfWork
from crm_core.errors import Conflict, Invalid
from crm_core.schema import identity, inbox
from routing import items
from routing.callbacks import rows
from routing.callbacks.plan import (
    DEFAULT_WINDOW_MS,
    MAX_COUNTED,
    TOLERANCE_MS,
    Zones,
    is_zone,
    next_decent,
    zones_of,
)
from routing.schema import callback

_MAX_AHEAD_MS = 90 * DAY
#: a promise "some time this year" is none: nobody would hear that it was not kept
_MAX_WINDOW_MS = DAY
_OPEN = ("scheduled", "due", "dialling", "escalated")


async def book(
    uow: UnitOfWork,
    *,
    contact: Mapping[str, Any],
    raw_phone: str | None = None,
    window_start: int | None = None,
    window_end: int | None = None,
    inquiry: Mapping[str, Any] | None = None,
    timezone: str | None = None,
    owner_id: int | None = None,
    team_id: int | None = None,
    note: str | None = None,
    source: str,
    created_by: str,
    asked_for: bool = True,
    dedupe: str | None = None,
    region: str = "UA",
) -> dict[str, Any]:
    """Promise to call. Returns the callback row; the same `dedupe`, or an open promise to the same number by the same
    customer, is moved instead of doubled.

    Args:
        raw_phone: as written; None takes the contact's own number.
        window_start: ms; None is "as soon as it is a decent hour".
        asked_for: the time is the customer's explicit wish and stands even at an odd hour.

    Raises:
        Invalid: no usable number (codes no_phone, bad_phone, not_callable), an impossible window (bad_window) or an
            unknown zone (bad_timezone).
    """
    if timezone is not None and not is_zone(timezone):
        raise Invalid(f"no time zone is called {timezone[:60]!r}", code="bad_timezone")
    number = await _number(uow, contact, raw_phone, region)
    zones = zones_of(
        number, contact_zone=timezone or contact["timezone"], default_zone=await rows.default_zone(uow)
    )
    start, end, explicit = _window(uow.now, window_start, window_end, zones)
    due_at = start if explicit and asked_for else next_decent(start, zones)
    end = max(end, due_at + TOLERANCE_MS)
    known = await _open_promise(uow, contact["id"], number, dedupe)
    if known is not None:
        moved = await _move(
            uow,
            known,
            due_at=due_at,
            window_start=start,
            window_end=end,
            note=note,
            asked_for=explicit and asked_for,
        )
        await rows.tell(uow, "updated", moved, actor=created_by)
        return moved
    values: dict[str, Any] = {
        "contact_id": contact["id"],
        "inquiry_id": inquiry["id"] if inquiry else None,
        "conversation_id": inquiry["conversation_id"] if inquiry else None,
        "inbox_id": await _dialling_inbox(uow),
        "phone": number,
        "timezone": zones.shown,
        "timezone_source": zones.source,
        "window_start": start,
        "window_end": end,
        "due_at": due_at,
        "asked_for": explicit and asked_for,
        "owner_id": owner_id or (inquiry["assignee_id"] if inquiry else None) or contact["manager_id"],
        "team_id": team_id or (inquiry["team_id"] if inquiry else None),
        "state": "scheduled",
        "mode": "agent_first",
        "counted_attempts": 0,
        "uncounted_attempts": 0,
        "max_attempts": MAX_COUNTED,
        "next_attempt_at": due_at,
        "escalate_at": end,
        "outcome": None,
        "note": note,
        "created_by": created_by[:60],
        "source": source[:20],
        "dedupe": dedupe,
        "version": 1,
        "escalated_at": None,
        "kept_at": None,
        "created_at": uow.now,
        "updated_at": uow.now,
    }
    values["id"] = await uow.insert(callback, values)
    await rows.tell(uow, "booked", values, actor=created_by)
    return values


async def book_from_customer(
    uow: UnitOfWork,
    *,
    contact: Mapping[str, Any],
    inquiry: Mapping[str, Any] | None,
    asked: Mapping[str, Any],
    source: str,
    inbound_id: int | None,
) -> dict[str, Any] | None:
    """Book what a form or a dialog asks for: `{number, at, until, local, local_until, timezone}`, times in ms.

    A wish that cannot be a promise (no number we can call) is noted on the inquiry by the caller: None comes back.
    """
    number = asked.get("number")
    zone = asked.get("timezone")
    start, end = asked.get("at"), asked.get("until")
    if start is None and asked.get("local") and number:
        zones = zones_of(
            str(number), contact_zone=zone or contact["timezone"], default_zone=await rows.default_zone(uow)
        )
        start = _local_instant(str(asked["local"]), zones, uow.now)
        if start is not None and asked.get("local_until"):
            end = _local_instant(str(asked["local_until"]), zones, start)
    if start is not None and end is not None:
        end = min(end, start + _MAX_WINDOW_MS)
    try:
        return await book(
            uow,
            contact=contact,
            raw_phone=str(number) if number else None,
            window_start=start,
            window_end=end,
            inquiry=inquiry,
            timezone=str(zone) if zone else None,
            source=source,
            created_by=f"contact:{contact['id']}",
            note=str(asked.get("note") or "") or None,
            dedupe=f"inbound:{inbound_id}" if inbound_id is not None else None,
        )
    except Invalid:
        return None


async def reschedule(
    uow: UnitOfWork,
    callback_id: int,
    *,
    window_start: int | None = None,
    window_end: int | None = None,
    note: str | None = None,
    owner_id: int | None = None,
    actor: str,
) -> dict[str, Any]:
    """Move a promise, give it to another owner or change its note. Raises NotFound, Conflict (over), Invalid."""
    row = await rows.lock(uow, callback_id)
    if row["state"] in ("done", "cancelled"):
        raise Conflict(f"this callback is {row['state']}", code="callback_over")
    if row["state"] == "dialling":
        raise Conflict("it is being dialled at this moment", code="callback_dialling")
    if window_start is not None or window_end is not None:
        zones = await rows.zones(uow, row)
        start, end, _explicit = _window(
            uow.now, window_start if window_start is not None else row["window_start"], window_end, zones
        )
        row = await _move(
            uow,
            row,
            due_at=start,
            window_start=start,
            window_end=max(end, start + TOLERANCE_MS),
            note=note,
            asked_for=True,
        )
    elif note is not None:
        row = await rows.change(uow, row, note=note)
    if owner_id is not None and owner_id != row["owner_id"]:
        row = await rows.change(uow, row, owner_id=owner_id)
    await rows.tell(uow, "updated", row, actor=actor)
    return row


async def cancel(
    uow: UnitOfWork, callback_id: int, *, actor: str, reason: str | None = None
) -> dict[str, Any]:
    """Take a promise back. Cancelling twice is fine. Raises NotFound, Conflict if it was kept already."""
    row = await rows.lock(uow, callback_id)
    if row["state"] == "cancelled":
        return row
    if row["state"] == "done":
        raise Conflict("this callback was made", code="callback_over")
    row = await rows.change(
        uow, row, state="cancelled", next_attempt_at=None, escalate_at=None, outcome="cancelled"
    )
    await items.finish(uow, "callback", callback_id, "cancelled")
    await rows.tell(uow, "cancelled", row, actor=actor, reason=reason)
    return row


async def _move(
    uow: UnitOfWork,
    row: dict[str, Any],
    *,
    due_at: int,
    window_start: int,
    window_end: int,
    note: str | None,
    asked_for: bool,
) -> dict[str, Any]:
    if row["state"] in ("due", "escalated"):
        # It waited for an agent; the new time puts it back to sleep until then.
        await items.finish(uow, "callback", row["id"], "rescheduled")
    values: dict[str, Any] = {
        "state": "scheduled" if row["state"] != "dialling" else "dialling",
        "due_at": due_at,
        "window_start": window_start,
        "window_end": window_end,
        "next_attempt_at": due_at,
        "escalate_at": window_end,
        "asked_for": asked_for,
        "escalated_at": None,
        "outcome": None,
    }
    if row["state"] == "dialling":
        del values["next_attempt_at"]
    if note is not None:
        values["note"] = note
    return await rows.change(uow, row, **values)


async def _open_promise(
    uow: UnitOfWork, contact_id: int, number: str, dedupe: str | None
) -> dict[str, Any] | None:
    if dedupe is not None:
        same = await uow.row(select(callback).where(callback.c.dedupe == dedupe))
        if same is not None:
            return dict(same)
    row = await uow.row(
        uow.lock(
            select(callback)
            .where(
                callback.c.phone == number, callback.c.contact_id == contact_id, callback.c.state.in_(_OPEN)
            )
            .order_by(callback.c.id)
            .limit(1)
        )
    )
    return dict(row) if row else None


async def _number(uow: UnitOfWork, contact: Mapping[str, Any], raw: str | None, region: str) -> str:
    if raw is None or not raw.strip():
        raw = await uow.scalar(
            select(identity.c.value)
            .where(identity.c.contact_id == contact["id"], identity.c.kind == "phone")
            .order_by(identity.c.verified_at.is_(None), identity.c.last_seen_at.desc())
            .limit(1)
        )
        if raw is None:
            raise Invalid("there is no phone number to call", code="no_phone")
    found = phone.normalize(raw, region)
    if found is None:
        raise Invalid(f"not a phone number: {raw[:40]!r}", code="bad_phone")
    if not phone.may_call_back(found.e164):
        raise Invalid(
            f"{found.e164} cannot be called back", code="not_callable", params={"phone": found.e164}
        )
    return found.e164


def _window(now: int, start: int | None, end: int | None, zones: Zones) -> tuple[int, int, bool]:
    """(start, end, whether the customer named the time)."""
    if start is None:
        begin = next_decent(now, zones)
        return begin, begin + DEFAULT_WINDOW_MS, False
    if start < now - MINUTE and (end is None or end <= now):
        raise Invalid("the time is over already", code="bad_window")
    if start > now + _MAX_AHEAD_MS:
        raise Invalid("at most 90 days ahead", code="bad_window")
    if end is not None and end <= start:
        raise Invalid("the window ends before it starts", code="bad_window")
    begin = max(start, now)
    if end is not None and end - begin > _MAX_WINDOW_MS:
        raise Invalid("a window is at most a day long", code="bad_window")
    return begin, end if end is not None else begin + DEFAULT_WINDOW_MS, True


def _local_instant(text: str, zones: Zones, now: int) -> int | None:
    """The next "14:00" or the ISO time without an offset, on the customer's clock; None if it is neither."""
    zone = ZoneInfo(zones.names[0])
    here = datetime.fromtimestamp(now / 1000, zone)
    try:
        if len(text) <= 5:
            hour, _, minute = text.partition(":")
            moment = here.replace(hour=int(hour), minute=int(minute or 0), second=0, microsecond=0)
            if moment <= here:
                moment += timedelta(days=1)
        else:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=zone)
    except ValueError:
        return None
    return round(moment.timestamp() * 1000)


async def _dialling_inbox(uow: UnitOfWork) -> int | None:
    found = await uow.scalar(
        select(inbox.c.id)
        .where(inbox.c.channel == "telephony", inbox.c.enabled)
        .order_by(inbox.c.id)
        .limit(1)
    )
    return int(found) if found is not None else None
