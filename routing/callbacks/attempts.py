"""Dialling: who is rung first, and that one number rings once.

An attempt is a row before anything rings, and at most one attempt per number is at work: a unique index says so, not a
look beforehand. What came of it is in `outcomes`.
"""

import secrets
from collections.abc import Mapping
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.exc import IntegrityError

from crm_core.clock import MINUTE
from crm_core.db.uow import UnitOfWork
from crm_core.errors import Conflict
from crm_core.jobs import NewJob
from crm_core.schema import agent, call, inbox
from routing.callbacks import rows
from routing.callbacks.settings import Mode
from routing.schema import callback_attempt

ORIGINATE_JOB = "callback.originate"
CONNECT_JOB = "callback.connect"
#: without a word from the PBX (or the agent) by then, the attempt has failed
GIVE_UP_MS = 3 * MINUTE
GIVE_UP_MANUAL_MS = 30 * MINUTE

#: what each vendor's documented commands can do
_AGENT_FIRST = frozenset({"generic", "twilio", "mango"})
_CUSTOMER_FIRST = frozenset({"generic", "twilio"})


async def dial(
    uow: UnitOfWork, callback_id: int, agent_id: int | None, *, actor: str, style: str | None = None
) -> dict[str, Any]:
    """Start an attempt: the PBX is asked to call, or, where no PBX can, the agent is shown the number.

    Asking again while an attempt is at work returns the callback as it is. `agent_id` None is customer-first.

    Raises:
        NotFound; Conflict if it is over (callback_over), the number is being dialled for another promise or the
        customer is on the line with us (number_busy).
    """
    row = await rows.lock_open(uow, callback_id)
    if row["state"] == "dialling":
        return row
    await _check_free(uow, row)
    settings = await rows.settings(uow, row["team_id"])
    extension = (
        await uow.scalar(select(agent.c.extension).where(agent.c.id == agent_id)) if agent_id else None
    )
    account = await account_of(uow, row)
    wanted = style or (Mode.PREVIEW if agent_id else Mode.CUSTOMER_FIRST)
    originate = can_originate(account, wanted) and (agent_id is None or extension is not None)
    number = len(await rows.attempts_of(uow, callback_id)) + 1
    attempt = {
        "callback_id": callback_id,
        "n": number,
        "agent_id": agent_id,
        "mode": "originated" if originate else "manual",
        "correlation_id": f"cb-{callback_id}-{number}-{secrets.token_hex(4)}" if originate else None,
        "call_id": None,
        "state": "dialling",
        "outcome": None,
        "counted": True,
        "note": None,
        "started_at": uow.now,
        "ended_at": None,
        "give_up_at": uow.now + (GIVE_UP_MS if originate else GIVE_UP_MANUAL_MS),
        "phone": row["phone"],
        "style": str(wanted),
        "agent_answered_at": None,
        "customer_answered_at": None,
        "connected_at": None,
    }
    try:
        async with uow.savepoint():
            attempt_id = await uow.insert(callback_attempt, attempt)
    except IntegrityError as twin:
        # Somebody else's attempt at this number was quicker by an instant.
        raise Conflict("this number is being dialled already", code="number_busy") from twin
    row = await rows.change(
        uow,
        row,
        state="dialling",
        next_attempt_at=None,
        owner_id=row["owner_id"] or agent_id,
        first_dialled_at=row["first_dialled_at"] or uow.now,
        watch=None,
        watch_at=None,
        paused_at=None,
        pause_cause=None,
    )
    if originate:
        uow.enqueue(
            NewJob(
                name=ORIGINATE_JOB,
                args={"attempt_id": attempt_id, "ring_ms": settings.reserve_ms},
                queue="deliver",
                max_attempts=1,
                dedupe=f"originate:{attempt_id}",
            )
        )
    await rows.tell(
        uow, "dialled", row, actor=actor, attempt=number, manual=not originate, agent_id=agent_id,
        style=str(wanted),
    )  # fmt: skip
    return row


async def _check_free(uow: UnitOfWork, row: Mapping[str, Any]) -> None:
    """Raises Conflict while the number rings for another promise, or the customer talks with us."""
    twin = await uow.scalar(
        select(callback_attempt.c.callback_id).where(
            callback_attempt.c.phone == row["phone"], callback_attempt.c.state == "dialling"
        )
    )
    if twin is not None:
        raise Conflict(
            "this number is being dialled already", code="number_busy", params={"callback_id": int(twin)}
        )
    # Calls that are going on: few, and indexed as those whose end is awaited.
    talking = await uow.scalar(
        select(call.c.id)
        .where(
            call.c.stuck_at.is_not(None),
            call.c.stuck_at > uow.now,
            call.c.state == "answered",
            or_(call.c.from_number == row["phone"], call.c.to_number == row["phone"]),
        )
        .limit(1)
    )
    if talking is not None:
        raise Conflict(
            "the customer is on the line with us", code="number_busy", params={"call_id": int(talking)}
        )


async def account_of(uow: UnitOfWork, row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The telephony account that dials for this promise, if it is there and enabled."""
    if row["inbox_id"] is None:
        return None
    return await uow.row(select(inbox).where(inbox.c.id == row["inbox_id"], inbox.c.enabled))


def can_originate(account: Mapping[str, Any] | None, style: str) -> bool:
    """Whether the account's PBX has the commands for this way of dialling; without them people dial by hand."""
    if account is None:
        return False
    config = account["config"]
    vendor = config.get("vendor", "generic")
    if vendor == "generic" and not config.get("originate_url"):
        return False
    if style == Mode.CUSTOMER_FIRST:
        return vendor in _CUSTOMER_FIRST and (vendor != "generic" or bool(config.get("connect_url")))
    return vendor in _AGENT_FIRST


async def dial_for(uow: UnitOfWork, row: dict[str, Any], agent_id: int) -> dict[str, Any] | None:
    """Agent-first: the agent who was found is rung at once. None if no PBX can, or the number is busy: then he sees
    the card and dials when it is free.
    """
    account = await account_of(uow, row)
    extension = await uow.scalar(select(agent.c.extension).where(agent.c.id == agent_id))
    if not extension or not can_originate(account, Mode.AGENT_FIRST):
        return None
    try:
        return await dial(uow, row["id"], agent_id, actor="system", style=Mode.AGENT_FIRST)
    except Conflict:
        return None
