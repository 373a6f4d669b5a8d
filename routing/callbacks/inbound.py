"""What the customer's own word does to promises: it pauses attempts, a call may fulfil them or take a place over.

Listeners; each in the transaction of the message or call that caused it.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, bindparam, literal_column, select, update

from crm_core.call_state import CallState, CallStatus, Change
from crm_core.db.prepared import Prepared
from crm_core.db.uow import UnitOfWork
from crm_core.errors import SwitchboardError
from crm_core.events import DomainEvent
from crm_core.jobs import NewJob
from routing import items
from routing.callbacks import ending, hold, outcomes, rows
from routing.callbacks.attempts import CONNECT_JOB
from routing.schema import callback

_MAX = 20


async def on_message(uow: UnitOfWork, event: DomainEvent) -> None:
    """He wrote, in whatever channel: attempts that are going on wait until somebody has read it."""
    message, person = event.context["message"], event.context.get("contact")
    if person is None or message["direction"] != "in" or message["author_kind"] != "customer":
        return
    if message["automatic"] or message["kind"] == "call":
        return
    await _pause(uow, _OF_CONTACT, person["id"], cause="message")


async def on_merged(uow: UnitOfWork, event: DomainEvent) -> None:
    """Two cards are one person: what was promised to either was promised to him."""
    await uow.execute(
        update(callback)
        .where(callback.c.contact_id == event.context["loser_id"])
        .values(contact_id=event.context["winner_id"])
    )


async def on_call(uow: UnitOfWork, event: DomainEvent) -> None:
    """He calls: attempts wait, a kept place is his call's, and a talk with an agent keeps the promise."""
    row = event.context["call"]
    if row["direction"] != "inbound" or row["from_number"] is None:
        return
    state: CallState = event.context["state"]
    kinds = {change.kind for change in event.context["changes"]}
    if state.status in (CallStatus.INITIATED, CallStatus.RINGING):
        account = event.context["inbox"]
        if await hold.absorb(uow, row, team_id=account["team_id"]) is None:
            await _queue(uow, row, state, account)
        await outcomes.pass_on(uow, "call", row["id"], state)
        if Change.CREATED in kinds:
            await _pause(uow, _OF_NUMBER, row["from_number"], cause="call")
    elif Change.ANSWERED in kinds and row["agent_id"] is not None:
        await _fulfil(uow, row, state)


async def _queue(
    uow: UnitOfWork, row: Mapping[str, Any], state: CallState, account: Mapping[str, Any]
) -> None:
    """A caller whom the PBX lets wait for us to say who takes him stands in our queue."""
    ours = account["config"].get("vendor", "generic") == "generic" and account["config"].get("connect_url")
    if not ours or "callback_id" in row["data"]:
        return
    if state.queue is None or any(leg.agent and leg.rank < 30 for leg in state.legs):
        return  # it rings at somebody already
    await items.enqueue_call(uow, row, account["team_id"], priority=account["priority"])


async def on_assigned_call(uow: UnitOfWork, event: DomainEvent) -> None:
    """Somebody took a waiting call: the PBX is told to connect them."""
    if event.subject_kind == "call" and event.payload["cause"] == "offer":
        uow.enqueue(
            NewJob(
                name=CONNECT_JOB,
                args={"call_id": event.subject_id, "agent_id": event.payload["agent_id"]},
                queue="deliver",
                max_attempts=1,
            )
        )


async def on_requested(uow: UnitOfWork, event: DomainEvent) -> None:
    """A key the caller pressed, told by the PBX: keep my place and call me, or call me later."""
    row = event.context["call"]
    wish, number = event.payload["request"], event.payload.get("number")
    actor = f"contact:{row['contact_id']}" if row["contact_id"] is not None else "system"
    try:
        async with uow.savepoint():
            if wish == "callback":
                await hold.take_place_of_call(uow, row["id"], actor=actor, number=number)
            elif wish == "snooze":
                await _snooze(uow, row, event.payload.get("minutes"), actor)
    except SwitchboardError as refused:
        # A key pressed too late, or by somebody without a number: his call simply goes on.
        await uow.emit(
            DomainEvent(
                kind="callback.refused", subject_kind="call", subject_id=row["id"], actor=actor,
                payload={"request": wish, "code": refused.code, "detail": refused.detail},
            )
        )  # fmt: skip


async def _snooze(uow: UnitOfWork, row: Mapping[str, Any], minutes: Any, actor: str) -> None:
    number = row["to_number"] if row["direction"] != "inbound" else row["from_number"]
    found = await uow.scalar(
        select(callback.c.id)
        .where(callback.c.phone == number, callback.c.state.in_(rows.OPEN))
        .order_by(callback.c.due_at)
        .limit(1)
    )
    if found is None and row["direction"] == "inbound":
        # He waits and has no place yet: it is kept for him, and he is called when he said.
        found = (await hold.take_place_of_call(uow, row["id"], actor=actor))["id"]
    if found is None:
        return
    promise = await rows.lock(uow, int(found))
    if promise["state"] == "dialling":
        # He pressed "later" on the call that reaches him: that call is over for us, and he is called again.
        await outcomes.postpone(uow, promise)
    await hold.snooze(
        uow, int(found), minutes=minutes if isinstance(minutes, int) and 1 <= minutes <= 1440 else None,
        actor=actor,
    )  # fmt: skip


async def _pause(uow: UnitOfWork, begun: Prepared, whose: int | str, *, cause: str) -> None:
    """Attempts that have begun rest; a promise for a later time to which nothing happened yet stands as it is."""
    for each in await uow.rows(begun, {"whose": whose}):
        row = await rows.lock(uow, each["id"])
        if row["state"] != "scheduled":
            continue
        settings = await rows.settings(uow, row["team_id"])
        row = await rows.change(
            uow,
            row,
            state="paused",
            paused_at=uow.now,
            pause_cause=cause,
            next_attempt_at=max(row["next_attempt_at"] or 0, uow.now + settings.pause_ms),
        )
        await rows.tell(uow, "paused", row, cause=cause)


def _begun(of: ColumnElement[Any]) -> Prepared:
    attempts = callback.c.counted_attempts + callback.c.uncounted_attempts
    waiting = (callback.c.state == literal_column("'scheduled'"), attempts > literal_column("0"))
    found = select(callback.c.id).where(of == bindparam("whose"), *waiting).order_by(callback.c.id)
    return Prepared(found.limit(literal_column(str(_MAX))))


_OF_CONTACT, _OF_NUMBER = _begun(callback.c.contact_id), _begun(callback.c.phone)


async def resume(uow: UnitOfWork, callback_id: int, *, actor: str) -> dict[str, Any]:
    """The attempts go on: now, if it is a decent hour. Resuming what does not rest changes nothing."""
    row = await rows.lock_open(uow, callback_id)
    if row["state"] != "paused":
        return row
    at = await rows.decent(uow, row, uow.now)
    row = await rows.change(
        uow, row, state="scheduled", paused_at=None, pause_cause=None, next_attempt_at=at, due_at=at,
        escalate_at=max(row["window_end"], at + rows.ESCALATE_AFTER_MS),
    )  # fmt: skip
    await rows.tell(uow, "updated", row, actor=actor, resumed=True)
    return row


async def _fulfil(uow: UnitOfWork, call_row: Mapping[str, Any], state: CallState) -> None:
    """An agent speaks with him: what he was promised for now has come true, if the team sees it so."""
    found = await uow.rows(
        select(callback.c.id)
        .where(callback.c.phone == call_row["from_number"], callback.c.state.in_(rows.OPEN))
        .order_by(callback.c.id)
        .limit(_MAX)
    )
    for each in found:
        row = await rows.lock(uow, each["id"])
        settings = await rows.settings(uow, row["team_id"])
        begun = row["counted_attempts"] + row["uncounted_attempts"] > 0 or row["due_at"] <= uow.now
        if settings.inbound_fulfils and begun and row["state"] in ("scheduled", "due", "paused", "escalated"):
            await ending.kept(
                uow, row, actor=f"agent:{call_row['agent_id']}", at=state.answered_at or uow.now,
                how="inbound_call",
            )  # fmt: skip
