"""Making, moving and cancelling promises to call."""

import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import select

from crm_core import phone
from crm_core.clock import DAY, MINUTE
from crm_core.db.uow import UnitOfWork
from crm_core.errors import Conflict, Invalid
from crm_core.schema import identity, inbox, team
from routing import items, store
from routing.callbacks import ending, rows, slots
from routing.callbacks.plan import DEFAULT_WINDOW_MS, Zones, is_zone, next_decent, zones_of
from routing.callbacks.settings import CallbackSettings, Mode
from routing.schema import callback

_MAX_AHEAD_MS = 90 * DAY
#: a promise "some time this year" is none: nobody would hear that it was not kept
_MAX_WINDOW_MS = DAY


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
    mode: str | None = None,
    strict_slot: bool = False,
    confirm: bool = True,
) -> dict[str, Any]:
    """Promise to call. Returns the callback row; the same `dedupe`, or an open promise to the same number by the same
    customer, is moved instead of doubled.

    Args:
        raw_phone: as written; None takes the contact's own number.
        window_start: ms; None is "as soon as it is a decent hour for him at which the team works".
        asked_for: the time is the customer's explicit wish and stands even at an odd hour.
        mode: preview, agent_first or customer_first; None is the team's.
        confirm: whether the customer is to be told; not if the caller tells him.
        strict_slot: only if the team has a call left to promise in that half hour; else it is counted all the same.

    Raises:
        Invalid: no usable number (codes no_phone, bad_phone, not_callable), an impossible window (bad_window) or an
            unknown zone (bad_timezone).
        Conflict: slot_full; callback_dialling if the open promise is being dialled at this moment.
    """
    if timezone is not None and not is_zone(timezone):
        raise Invalid(f"no time zone is called {timezone[:60]!r}", code="bad_timezone")
    number = await number_of(uow, contact, raw_phone, region)
    zones = zones_of(
        number, contact_zone=timezone or contact["timezone"], default_zone=await rows.default_zone(uow)
    )
    owning = team_id or (inquiry["team_id"] if inquiry else None)
    slot_team = owning or await default_team(uow)
    explicit = window_start is not None
    if window_start is None:
        decent = next_decent(uow.now, zones, any_day=True)
        start = await rows.team_works(uow, slot_team, zones, decent, any_day=True)
        end = start + DEFAULT_WINDOW_MS
    else:
        start, end = _window(uow.now, window_start, window_end)
    due_at = start if explicit and asked_for else next_decent(start, zones, any_day=True)
    settings = await rows.settings(uow, owning)
    end = max(end, due_at + settings.tolerance_ms)
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
            strict_slot=strict_slot,
        )
        await rows.tell(uow, "updated", moved, actor=created_by, moved=True, confirm=confirm)
        return moved
    values: dict[str, Any] = {
        "contact_id": contact["id"],
        "inquiry_id": inquiry["id"] if inquiry else None,
        "conversation_id": inquiry["conversation_id"] if inquiry else None,
        "inbox_id": await dialling_inbox(uow),
        "phone": number,
        "timezone": zones.shown,
        "timezone_source": zones.source,
        "window_start": start,
        "window_end": end,
        "due_at": due_at,
        "asked_for": explicit and asked_for,
        "owner_id": owner_id or (inquiry["assignee_id"] if inquiry else None) or contact["manager_id"],
        "team_id": owning,
        "state": "scheduled",
        "mode": _mode(mode, settings),
        "max_attempts": settings.retry.max_counted,
        "next_attempt_at": due_at,
        "escalate_at": end,
        "kept_by": end + settings.tolerance_ms,
        "note": note,
        "created_by": created_by[:60],
        "source": source[:20],
        "dedupe": dedupe,
        "slot_team_id": slot_team,
        "slot_at": None
        if slot_team is None
        else await slots.take(uow, slot_team, due_at, strict=strict_slot),
        **blank(uow),
    }
    values["id"] = await uow.insert(callback, values)
    await rows.tell(uow, "booked", values, actor=created_by, confirm=confirm)
    return values


def blank(uow: UnitOfWork) -> dict[str, Any]:
    """The columns of a promise to which nothing has happened yet."""
    return {
        "kind": "scheduled",
        "counted_attempts": 0,
        "uncounted_attempts": 0,
        "outcome": None,
        "version": 1,
        "escalated_at": None,
        "escalation": None,
        "kept_at": None,
        "first_dialled_at": None,
        "ended_by": None,
        "end_reason": None,
        "paused_at": None,
        "pause_cause": None,
        "chain": None,
        "watch": None,
        "watch_at": None,
        "public_token": secrets.token_urlsafe(24),
        "enqueued_at": None,
        "priority": None,
        "held_call_id": None,
        "place_lost": False,
        "created_at": uow.now,
        "updated_at": uow.now,
    }


def _mode(wanted: str | None, settings: CallbackSettings) -> str:
    if wanted is None:
        return settings.mode.value
    if wanted not in tuple(Mode):
        raise Invalid(f"mode must be one of {', '.join(Mode)}", code="bad_mode")
    return wanted


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
    except (Invalid, Conflict):
        return None


async def reschedule(
    uow: UnitOfWork,
    callback_id: int,
    *,
    window_start: int | None = None,
    window_end: int | None = None,
    note: str | None = None,
    owner_id: int | None = None,
    mode: str | None = None,
    strict_slot: bool = False,
    actor: str,
    confirm: bool = True,
) -> dict[str, Any]:
    """Move a promise, give it to another owner, change its note or mode.

    Raises NotFound, Conflict (callback_over, callback_dialling, slot_full), Invalid.
    """
    row = await rows.lock_open(uow, callback_id)
    if row["state"] == "dialling":
        raise Conflict("it is being dialled at this moment", code="callback_dialling")
    if window_start is not None or window_end is not None:
        start, end = _window(
            uow.now, window_start if window_start is not None else row["window_start"], window_end
        )
        row = await _move(
            uow,
            row,
            due_at=start,
            window_start=start,
            window_end=end,
            note=note,
            asked_for=True,
            strict_slot=strict_slot,
        )
    elif note is not None:
        row = await rows.change(uow, row, note=note)
    if owner_id is not None and owner_id != row["owner_id"]:
        row = await rows.change(uow, row, owner_id=owner_id)
    if mode is not None:
        row = await rows.change(uow, row, mode=_mode(mode, await rows.settings(uow, row["team_id"])))
    moved = {"moved": True, "confirm": confirm} if window_start is not None or window_end is not None else {}
    await rows.tell(uow, "updated", row, actor=actor, **moved)
    return row


async def cancel(
    uow: UnitOfWork, callback_id: int, *, actor: str, reason: str | None = None, confirm: bool = True
) -> dict[str, Any]:
    """Take a promise back. Cancelling twice is fine. Raises NotFound, Conflict if it was kept already."""
    row = await rows.lock(uow, callback_id)
    if row["state"] == "cancelled":
        return row
    if row["state"] == "done":
        raise Conflict("this callback was made", code="callback_over")
    return await ending.cancelled(uow, row, actor=actor, reason=reason, confirm=confirm)


async def _move(
    uow: UnitOfWork,
    row: dict[str, Any],
    *,
    due_at: int,
    window_start: int,
    window_end: int,
    note: str | None,
    asked_for: bool,
    strict_slot: bool,
) -> dict[str, Any]:
    if row["state"] == "dialling":
        raise Conflict("it is being dialled at this moment", code="callback_dialling")
    if row["state"] in ("due", "escalated"):
        # It waited for an agent; the new time puts it back to sleep until then.
        await items.finish(uow, "callback", row["id"], "rescheduled")
    settings = await rows.settings(uow, row["team_id"])
    window_end = max(window_end, due_at + settings.tolerance_ms)
    values: dict[str, Any] = {
        "state": "scheduled",
        "due_at": due_at,
        "window_start": window_start,
        "window_end": window_end,
        "kept_by": window_end + settings.tolerance_ms,
        "next_attempt_at": due_at,
        "escalate_at": window_end,
        "asked_for": asked_for,
        "escalated_at": None,
        "escalation": None,
        "outcome": None,
        "paused_at": None,
        "pause_cause": None,
        "watch": None,
        "watch_at": None,
        **await _other_slot(uow, row, due_at, strict=strict_slot),
    }
    if row["state"] == "escalated":
        # A new promise has all its tries before it.
        values |= {"counted_attempts": 0, "uncounted_attempts": 0}
    if note is not None:
        values["note"] = note
    return await rows.change(uow, row, **values)


async def _other_slot(uow: UnitOfWork, row: dict[str, Any], due_at: int, *, strict: bool) -> dict[str, Any]:
    """Give the old half hour back and take the new one, the earlier row first, so that movers never cross."""
    team_id = row["slot_team_id"] or row["team_id"] or await default_team(uow)
    if team_id is None or (row["slot_at"] == slots.slot_of(due_at) and row["slot_team_id"] == team_id):
        return {}
    if row["slot_at"] is not None and row["slot_at"] < due_at:
        await slots.release(uow, row)
        return {"slot_team_id": team_id, "slot_at": await slots.take(uow, team_id, due_at, strict=strict)}
    taken = await slots.take(uow, team_id, due_at, strict=strict)
    await slots.release(uow, row)
    return {"slot_team_id": team_id, "slot_at": taken}


async def _open_promise(
    uow: UnitOfWork, contact_id: int, number: str, dedupe: str | None
) -> dict[str, Any] | None:
    if dedupe is not None:
        same = await uow.scalar(select(callback.c.id).where(callback.c.dedupe == dedupe))
        if same is not None:
            return await rows.lock(uow, int(same))
    found = await uow.scalar(
        select(callback.c.id)
        .where(
            callback.c.phone == number,
            callback.c.contact_id == contact_id,
            callback.c.state.in_(rows.OPEN),
            callback.c.kind == "scheduled",
        )
        .order_by(callback.c.id)
        .limit(1)
    )
    if found is None:
        return None
    row = await rows.lock(uow, int(found))
    return row if row["state"] in rows.OPEN else None


async def number_of(uow: UnitOfWork, contact: Mapping[str, Any], raw: str | None, region: str) -> str:
    """E.164 of what he wrote, or of the number on his card. Raises Invalid."""
    if raw is None or not raw.strip():
        raw = await uow.scalar(
            select(identity.c.value)
            .where(identity.c.contact_id == contact["id"], identity.c.kind == "phone")
            .order_by(identity.c.verified_at.is_(None), identity.c.last_seen_at.desc())
            .limit(1)
        )
    return callable_number(raw, region)


def callable_number(raw: str | None, region: str) -> str:
    """E.164 of a number that may be called back. Raises Invalid: no_phone, bad_phone, not_callable."""
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


def _window(now: int, start: int, end: int | None) -> tuple[int, int]:
    if start < now - MINUTE and (end is None or end <= now):
        raise Invalid("the time is over already", code="bad_window")
    if start > now + _MAX_AHEAD_MS:
        raise Invalid("at most 90 days ahead", code="bad_window")
    if end is not None and end <= start:
        raise Invalid("the window ends before it starts", code="bad_window")
    begin = max(start, now)
    if end is not None and end - begin > _MAX_WINDOW_MS:
        raise Invalid("a window is at most a day long", code="bad_window")
    return begin, end if end is not None else begin + DEFAULT_WINDOW_MS


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


async def dialling_inbox(uow: UnitOfWork) -> int | None:
    """The account that dials: the first enabled one."""
    found = await uow.scalar(
        select(inbox.c.id)
        .where(inbox.c.channel == "telephony", inbox.c.enabled)
        .order_by(inbox.c.id)
        .limit(1)
    )
    return int(found) if found is not None else None


async def default_team(uow: UnitOfWork) -> int | None:
    """Whose hours are promised when nobody named a team: the default team's, else the first's."""
    found = await uow.rows(select(team.c.id, team.c.settings).where(team.c.active).order_by(team.c.id))
    chosen = next((r["id"] for r in found if store.settings_of(r["settings"])[0].default), None)
    return chosen if chosen is not None else (found[0]["id"] if found else None)
