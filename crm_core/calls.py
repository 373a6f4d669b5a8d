"""Telephone calls in the CRM: events folded into one call row, its card in the thread, and what a missed call opens.

The fold itself is pure (`crm_core.call_machine`); this module stores it, ties it to people and inquiries, and keeps
one open request per caller and number for calls that nobody answered.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import and_, or_, select

from crm_core import call_machine, contacts, inquiries, messages
from crm_core.access import inquiry_audience
from crm_core.call_state import CallChange, CallState, CallStatus, Change, from_json, to_json
from crm_core.db.uow import UnitOfWork
from crm_core.envelope import Envelope, IdentityClaim, IdentityKind
from crm_core.events import SUPERVISORS, DomainEvent
from crm_core.schema import agent, call, conversation, inbox, inquiry, message
from crm_core.views import call_view, iso

_OVER = ("answered", "voicemail")


async def take(
    uow: UnitOfWork, account: Mapping[str, Any], envelope: Envelope, *, inbound_id: int | None = None
) -> dict[str, Any]:
    """Fold one call envelope. Returns the call row as it is now."""
    event = envelope.call
    if event is None:
        raise ValueError("not a call envelope")
    row = await uow.row(
        uow.lock(select(call).where(call.c.inbox_id == account["id"], call.c.call_key == event.call_id[:200]))
    )
    state = from_json(row["data"]["state"]) if row else None
    after, changes = call_machine.apply(
        state, event, occurred_at=envelope.occurred_at, received_at=uow.now, inbox_id=account["id"]
    )
    if row is None:
        row = await _insert(uow, account, after)
    stored = await _store(uow, dict(row), account, after, changes, inbound_id=inbound_id)
    if event.request is not None:
        await uow.emit(
            DomainEvent(
                kind="call.requested",
                subject_kind="call",
                subject_id=stored["id"],
                actor=f"contact:{stored['contact_id']}",
                inquiry_id=stored["inquiry_id"],
                conversation_id=stored["conversation_id"],
                payload={
                    "request": event.request,
                    "number": event.request_number,
                    "minutes": event.request_minutes,
                },
                context={"call": stored, "inbox": account},
            )
        )
    return stored


async def sweep(uow: UnitOfWork, *, limit: int = 200) -> int | None:
    """Say what unanswered ends were once their grace is over, and close calls whose end never came. Returns the
    next instant to look, or None.
    """
    for column, step in (
        (call.c.missed_check_at, call_machine.settle),
        (call.c.stuck_at, call_machine.give_up),
    ):
        due = await uow.rows(
            uow.lock(
                select(call).where(column.is_not(None), column <= uow.now).order_by(column).limit(limit),
                skip_locked=True,
            )
        )
        for row in due:
            account = await uow.find(inbox, row["inbox_id"])
            if account is None:
                continue
            after, changes = step(from_json(row["data"]["state"]), uow.now)
            await _store(uow, dict(row), account, after, changes)
    upcoming = [
        await uow.scalar(select(column).where(column.is_not(None)).order_by(column).limit(1))
        for column in (call.c.missed_check_at, call.c.stuck_at)
    ]
    return min((t for t in upcoming if t is not None), default=None)


async def _insert(uow: UnitOfWork, account: Mapping[str, Any], state: CallState) -> dict[str, Any]:
    values = {
        "inbox_id": account["id"],
        "call_key": state.call_id[:200],
        "contact_id": None,
        "conversation_id": None,
        "inquiry_id": None,
        "agent_id": None,
        "message_id": None,
        "callback_attempt_id": None,
        "created_at": uow.now,
        **_columns(state),
        "data": {},
        "updated_at": uow.now,
    }
    new_id = await uow.insert_new(call, values, key=["inbox_id", "call_key"], returning=call.c.id)
    if new_id is None:
        raise RuntimeError("two events of one call at once: its lane should have kept them apart")
    return {**values, "id": int(new_id)}


async def _tie(
    uow: UnitOfWork, account: Mapping[str, Any], row: dict[str, Any], state: CallState, inbound_id: int | None
) -> dict[str, Any]:
    """Give the call its person and thread: as soon as the customer's number is known, at the latest when it is over.

    The first events of some providers tell of our own leg only, so a call may begin without either.
    """
    if row["contact_id"] is not None or (
        state.customer_number is None and state.status is not CallStatus.ENDED
    ):
        return row
    claims = (
        ()
        if state.customer_number is None
        else (IdentityClaim(IdentityKind.PHONE, state.customer_number, evidence="caller_id"),)
    )
    person = await contacts.resolve(uow, claims, name=state.display_name, inbound_id=inbound_id)
    thread = await _thread(uow, account, state.customer_number or f"withheld:{state.call_id}", person)
    tied: dict[str, Any] = {"contact_id": person["id"], "conversation_id": thread["id"]}
    current = await inquiries.newest_of_conversation(uow, thread["id"])
    if current is not None and current["status"] != "closed":
        tied["inquiry_id"] = current["id"]
    await uow.update(call, row["id"], tied)
    return {**row, **tied}


async def _thread(
    uow: UnitOfWork, account: Mapping[str, Any], key: str, person: Mapping[str, Any]
) -> dict[str, Any]:
    key = key[:500]
    found = await uow.row(
        select(conversation).where(conversation.c.inbox_id == account["id"], conversation.c.key == key)
    )
    if found is not None:
        return dict(found)
    language = (person["locale"] or account["language"] or "en").split("-")[0].lower()[:10]
    values = {
        "inbox_id": account["id"],
        "contact_id": person["id"],
        "key": key,
        "channel": account["channel"],
        "address": key,
        "subject": None,
        "language": language,
        "last_seq": 0,
        "customer_read_seq": 0,
        "agent_read_seq": 0,
        "sticky_agent_id": None,
        "sticky_until": None,
        "last_customer_at": uow.now,
        "created_at": uow.now,
        "updated_at": uow.now,
    }
    new_id = await uow.insert_new(conversation, values, key=["inbox_id", "key"], returning=conversation.c.id)
    if new_id is not None:
        return {**values, "id": int(new_id)}
    winner = await uow.row(
        select(conversation).where(conversation.c.inbox_id == account["id"], conversation.c.key == key)
    )
    if winner is None:
        raise RuntimeError("conversation neither inserted nor found")
    return dict(winner)


def _columns(state: CallState) -> dict[str, Any]:
    return {
        "direction": state.direction[:10],
        "from_number": state.from_number,
        "to_number": state.to_number,
        "did": state.did[:20] if state.did else None,
        "state": state.status.value,
        "disposition": state.disposition,
        "started_at": state.started_at,
        "answered_at": state.answered_at,
        "ended_at": state.ended_at,
        "missed_check_at": state.missed_check_at,
        "stuck_at": state.stuck_at,
        "finalized": state.status is CallStatus.ENDED,
        "correlation_id": state.correlation_id[:80] if state.correlation_id else None,
    }


async def _store(
    uow: UnitOfWork,
    row: dict[str, Any],
    account: Mapping[str, Any],
    state: CallState,
    changes: list[CallChange],
    *,
    inbound_id: int | None = None,
) -> dict[str, Any]:
    row = await _tie(uow, account, row, state, inbound_id)
    before_disposition = row["disposition"] if row["data"] else None
    # A call that we gave up as lost goes on when late events come, and ends a second time: it is one missed call.
    counted = bool(row["data"].get("missed_counted"))
    values: dict[str, Any] = _columns(state) | {
        "data": {
            "state": to_json(state),
            "from_raw": state.from_raw,
            "to_raw": state.to_raw,
            "missed_counted": counted,
            # Set by who keeps his place in the queue for a callback: this call's end is no miss.
            **({"callback_id": row["data"]["callback_id"]} if "callback_id" in row["data"] else {}),
        },
        "updated_at": uow.now,
    }
    if state.agent_ext and (row["agent_id"] is None or any(c.kind is Change.AGENT for c in changes)):
        values["agent_id"] = await uow.scalar(select(agent.c.id).where(agent.c.extension == state.agent_ext))
    row = {**row, **values}
    over = state.status is CallStatus.ENDED
    if over and state.missed and before_disposition is None and row["conversation_id"] is not None:
        if "callback_id" in row["data"]:
            values["data"]["waived"] = "callback"
        elif not counted and await _spoke_since(uow, row, state):
            values["data"]["waived"] = "spoke_since"
        elif not counted:
            row["inquiry_id"] = await _missed(uow, row, account, state)
            values["inquiry_id"] = row["inquiry_id"]
            values["data"]["missed_counted"] = True
    elif state.disposition in _OVER and before_disposition not in (None, *_OVER):
        await _retract_missed(uow, row)
    elif over and state.disposition in _OVER and row["conversation_id"] is not None:
        await _answered(uow, row)
    if changes and row["conversation_id"] is not None and (over or row["message_id"] is not None):
        row["message_id"] = values["message_id"] = await _card(uow, row, account, state)
    row["data"] = values["data"]
    await uow.update(call, row["id"], values)
    if changes:
        owner = await uow.find(inquiry, row["inquiry_id"]) if row["inquiry_id"] else None
        await uow.emit(
            DomainEvent(
                kind="call.updated",
                subject_kind="call",
                subject_id=row["id"],
                actor=f"contact:{row['contact_id']}",
                inquiry_id=row["inquiry_id"],
                conversation_id=row["conversation_id"],
                payload={
                    "call": call_view(row),
                    "changes": [{"kind": c.kind.value, "was": c.was, "now": c.now} for c in changes],
                },
                audience=inquiry_audience(owner, row["agent_id"]) if owner else SUPERVISORS,
                context={"call": row, "state": state, "changes": changes, "inquiry": owner, "inbox": account},
            )
        )
    return row


async def _missed(
    uow: UnitOfWork, row: Mapping[str, Any], account: Mapping[str, Any], state: CallState
) -> int:
    """One open request per caller and number: a further miss raises its count and, from the second on, priority."""
    current = await inquiries.newest_or_turn(uow, row["conversation_id"])
    if current is not None and current["status"] != "closed":
        fields = {
            **current["fields"],
            "missed_calls": int(current["fields"].get("missed_calls", 0)) + 1,
            "last_missed_at": iso(uow.now),
        }
        changes: dict[str, Any] = {"fields": fields}
        if current["priority"] in ("low", "normal") and fields["missed_calls"] > 1:
            changes["priority"] = "high"
        if current["status"] in ("pending", "hold", "solved"):
            changes["status"] = "open"
        await inquiries.change(
            uow, current["id"], changes, actor=f"contact:{row['contact_id']}", cause="missed_call"
        )
        return int(current["id"])
    person, thread = await _person_and_thread(uow, row)
    number = state.customer_number or state.from_raw or "withheld"
    opened = await inquiries.open_inquiry(
        uow,
        kind=account["default_kind"],
        contact=person,
        subject=f"Missed call from {number}",
        channel=account["channel"],
        conversation=thread,
        inbox=account,
        source="call",
        fields={
            "missed_calls": 1,
            "last_missed_at": iso(uow.now),
            "phone": state.customer_number,
            "did": state.did,
            "disposition": state.disposition,
        },
    )
    return int(opened["id"])


async def _spoke_since(uow: UnitOfWork, row: Mapping[str, Any], state: CallState) -> bool:
    """Whether we have talked with this number after the call ended, within its grace: he called again at once and was
    answered, so nobody need call him back.
    """
    if row["contact_id"] is None or state.customer_number is None or state.ended_at is None:
        return False
    number = state.customer_number
    found = await uow.scalar(
        select(call.c.id)
        .where(
            call.c.contact_id == row["contact_id"],
            call.c.id != row["id"],
            call.c.answered_at >= state.ended_at,
            or_(
                and_(call.c.direction == "inbound", call.c.from_number == number),
                and_(call.c.direction != "inbound", call.c.to_number == number),
            ),
        )
        .limit(1)
    )
    return found is not None


async def _person_and_thread(
    uow: UnitOfWork, row: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    thread, person, _account = await messages.context_of(uow, row["conversation_id"])
    return person, thread


async def _retract_missed(uow: UnitOfWork, row: Mapping[str, Any]) -> None:
    """It was answered after all (the word came late): take back the request if nobody has touched it."""
    if row["inquiry_id"] is None:
        return
    current = await uow.find(inquiry, row["inquiry_id"])
    untouched = (
        current is not None and current["status"] == "new" and current["fields"].get("missed_calls") == 1
    )
    if untouched:
        await inquiries.change(
            uow,
            row["inquiry_id"],
            {"status": "solved", "outcome": "answered"},
            actor="system",
            cause="call_was_answered",
        )


async def _answered(uow: UnitOfWork, row: Mapping[str, Any]) -> None:
    """An answered call, either way, settles an open request about missed calls of the same person and number."""
    current = await inquiries.newest_of_conversation(uow, row["conversation_id"])
    if (
        current is None
        or current["status"] in ("solved", "closed")
        or "missed_calls" not in current["fields"]
    ):
        return
    spoken = await uow.scalar(
        select(message.c.id).where(message.c.inquiry_id == current["id"], message.c.kind == "text").limit(1)
    )
    if spoken is None:
        await inquiries.change(
            uow,
            current["id"],
            {"status": "solved", "outcome": "called_back"},
            actor="system",
            cause="call_answered",
        )


async def _card(uow: UnitOfWork, row: Mapping[str, Any], account: Mapping[str, Any], state: CallState) -> int:
    """The call's line in the thread: added once, kept up to date."""
    who = state.customer_number or state.from_raw or "withheld number"
    way = "Call from" if state.direction == "inbound" else "Call to"
    text = f"{way} {who}: {state.disposition or state.status.value}"
    if state.talk_sec:
        text += f", {state.talk_sec} s"
    meta = {
        "call_id": row["id"],
        "call": call_view(row),
        "talk_sec": state.talk_sec,
        "wait_sec": state.wait_sec,
    }
    if row["message_id"] is not None:
        await uow.update(
            message, row["message_id"], {"text": text, "meta": meta, "inquiry_id": row["inquiry_id"]}
        )
        return int(row["message_id"])
    inbound = state.direction == "inbound"
    values = {
        "inquiry_id": row["inquiry_id"],
        "direction": "in" if inbound else "internal",
        "kind": "call",
        "author_kind": "customer" if inbound else "system",
        "author_id": row["contact_id"] if inbound else None,
        "text": text,
        "state": "received",
        "automatic": True,
        "meta": meta,
        "occurred_at": state.started_at,
    }
    added, thread = await messages.append(
        uow, row["conversation_id"], values, customer_at=uow.now if inbound else None
    )
    owner = await uow.find(inquiry, row["inquiry_id"]) if row["inquiry_id"] else None
    await messages.announce(uow, {**added, "attachments": []}, owner, thread, inbox=account)
    return int(added["id"])
