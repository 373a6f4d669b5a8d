"""How a promise ends: kept, taken back, or put before a supervisor. The row is locked by the caller."""

from typing import Any

from crm_core.db.uow import UnitOfWork
from crm_core.schema import inquiry
from routing import items
from routing.callbacks import rows, slots
from routing.sla.ticket_events import (
    PauseSet,
)
from routing.sla.translate import Happening

#: nothing of time is left to happen to it
STILL: dict[str, Any] = {
    "next_attempt_at": None,
    "escalate_at": None,
    "watch": None,
    "watch_at": None,
    "paused_at": None,
    "pause_cause": None,
}


async def kept(
    uow: UnitOfWork,
    row: dict[str, Any],
    *,
    actor: str,
    at: int,
    outcome: str = "answered",
    how: str | None = None,
    **values: Any,
) -> dict[str, Any]:
    """Somebody spoke with the customer. `how`: inbound_call, by_hand …, if it was not our dialling."""
    row = await rows.change(
        uow, row, state="done", outcome=outcome, kept_at=at, end_reason=how, **STILL, **values
    )
    await items.finish(uow, "callback", row["id"], outcome)
    await _clock(uow, row, on=False)
    if row["kind"] == "hold":
        # The request that waited through this place is now his who spoke with the customer.
        await _stand_again(uow, row, given_to=row["owner_id"])
    on_time = row["kept_by"] is None or at <= row["kept_by"]
    await rows.tell(uow, "kept", row, actor=actor, on_time=on_time, how=how)
    return row


async def cancelled(
    uow: UnitOfWork,
    row: dict[str, Any],
    *,
    actor: str,
    reason: str | None,
    outcome: str = "cancelled",
    confirm: bool = True,
) -> dict[str, Any]:
    """Taken back by whoever `actor` is; a request that stood in the queue through it stands there itself again."""
    freed = await slots.release(uow, row)
    who = {"agent": "agent", "contact": "customer"}.get(actor.partition(":")[0], "system")
    row = await rows.change(
        uow,
        row,
        state="cancelled",
        outcome=outcome,
        ended_by=who,
        end_reason=reason[:500] if reason else None,
        slot_at=freed["slot_at"],
        slot_team_id=freed["slot_team_id"],
        **STILL,
    )
    await items.finish(uow, "callback", row["id"], "cancelled")
    await _clock(uow, row, on=False)
    if row["kind"] == "hold":
        await _stand_again(uow, row)
    await rows.tell(uow, "cancelled", row, actor=actor, reason=reason, by=who, confirm=confirm)
    return row


async def give_to_supervisor(
    uow: UnitOfWork, row: dict[str, Any], reason: str, *, outcome: str | None, **values: Any
) -> dict[str, Any]:
    """No rule has a next try: a person decides. The promise stays open."""
    row = await rows.change(
        uow,
        row,
        **{
            **STILL,
            "state": "escalated",
            "outcome": outcome,
            "escalated_at": uow.now,
            "escalation": reason[:40],
            **values,
        },
    )
    await items.finish(uow, "callback", row["id"], "escalated")
    if row["kind"] == "hold":
        await _clock(uow, row, on=False)
        await _stand_again(uow, row)
    await rows.tell(uow, "escalated", row, reason=reason)
    return row


async def hold_clock(uow: UnitOfWork, row: dict[str, Any]) -> None:
    """The customer chose to wait for a callback: his speed-of-answer clock stands still meanwhile (sla.md §4)."""
    await _clock(uow, row, on=True)


async def _clock(uow: UnitOfWork, row: dict[str, Any], *, on: bool) -> None:
    if row["kind"] != "hold" or row["inquiry_id"] is None:
        return
    from routing.sla import service

    event = PauseSet(uow.now, "callback", on)
    await service.happen(uow, Happening(inquiry_id=row["inquiry_id"], events=(event,)))


async def _stand_again(uow: UnitOfWork, row: dict[str, Any], *, given_to: int | None = None) -> None:
    if row["inquiry_id"] is None:
        return
    request = await uow.find(inquiry, row["inquiry_id"])
    if request is None or not items.needs_people(request) or request["assignee_id"] is not None:
        return
    if given_to is None:
        await items.enqueue_inquiry(uow, request, trigger="callback_over")
    else:
        await items.adopt_inquiry(uow, request, given_to, cause="answered", by="system")
