"""Dialling and what came of it.

An attempt is a row before anything rings. Only one attempt per number is at work at any time. How it ended comes from
the PBX's events (matched by our correlation id) or from the agent; whichever speaks first, a second word changes
nothing.
"""

import secrets
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select, update

from crm_core.call_state import CallStatus
from crm_core.clock import MINUTE
from crm_core.db.uow import UnitOfWork
from crm_core.errors import Conflict, Invalid
from crm_core.events import DomainEvent, Listeners
from crm_core.jobs import NewJob
from crm_core.schema import agent, call, inbox
from routing import items
from routing.callbacks import rows
from routing.callbacks.plan import MAX_UNCOUNTED, OUTCOMES, UNCOUNTED, retry_at
from routing.schema import callback, callback_attempt

ORIGINATE_JOB = "callback.originate"
#: without a word from the PBX (or the agent) by then, the attempt has failed
GIVE_UP_MS = 3 * MINUTE
GIVE_UP_MANUAL_MS = 30 * MINUTE

#: a call's disposition -> the attempt's outcome
_FROM_CALL = {
    "answered": "answered",
    "busy": "busy",
    "no_answer": "no_answer",
    "missed": "no_answer",
    "abandoned": "no_answer",
    "cancelled": "no_answer",
    "rejected": "rejected",
    "machine": "machine",
    "voicemail": "machine",
    "invalid_number": "invalid_number",
    "failed": "failed",
}


async def dial(uow: UnitOfWork, callback_id: int, agent_id: int | None, *, actor: str) -> dict[str, Any]:
    """Start an attempt: the PBX is asked to call, or, where no PBX can, the agent is shown the number.

    Asking again while an attempt is at work returns the callback as it is.

    Raises:
        NotFound; Conflict if it is over (callback_over) or the number is being dialled for another promise
        (number_busy).
    """
    row = await rows.lock(uow, callback_id)
    if row["state"] == "dialling":
        return row
    if row["state"] in ("done", "cancelled"):
        raise Conflict(f"this callback is {row['state']}", code="callback_over")
    twin = await _number_at_work(uow, row)
    if twin is not None:
        raise Conflict(
            "this number is being dialled already", code="number_busy", params={"callback_id": twin}
        )
    extension = (
        await uow.scalar(select(agent.c.extension).where(agent.c.id == agent_id)) if agent_id else None
    )
    account = (
        await uow.row(select(inbox).where(inbox.c.id == row["inbox_id"], inbox.c.enabled))
        if row["inbox_id"]
        else None
    )
    originate = account is not None and extension is not None and _can_originate(account)
    number = len(await rows.attempts_of(uow, callback_id)) + 1
    attempt_id = await uow.insert(
        callback_attempt,
        {
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
        },
    )
    row = await rows.change(
        uow, row, state="dialling", next_attempt_at=None, owner_id=row["owner_id"] or agent_id
    )
    if originate:
        uow.enqueue(
            NewJob(
                name=ORIGINATE_JOB,
                args={"attempt_id": attempt_id},
                queue="deliver",
                max_attempts=1,
                dedupe=f"originate:{attempt_id}",
            )
        )
    await rows.tell(uow, "dialled", row, actor=actor, attempt=number, manual=not originate, agent_id=agent_id)
    return row


async def _number_at_work(uow: UnitOfWork, row: Mapping[str, Any]) -> int | None:
    """Another promise that is dialling this number at this moment."""
    found = await uow.scalar(
        select(callback.c.id)
        .where(callback.c.phone == row["phone"], callback.c.state == "dialling", callback.c.id != row["id"])
        .limit(1)
    )
    return int(found) if found is not None else None


def _can_originate(account: Any) -> bool:
    config = account["config"]
    return config.get("vendor", "generic") != "generic" or bool(config.get("originate_url"))


async def record_outcome(
    uow: UnitOfWork,
    callback_id: int,
    outcome: str,
    *,
    actor: str,
    note: str | None = None,
    attempt_id: int | None = None,
    agent_id: int | None = None,
) -> dict[str, Any]:
    """Write how the attempt at work ended and what follows: kept, tried again, or a supervisor is asked.

    An agent who dialled by hand without saying so first may record an outcome right away. Raises NotFound, Invalid,
    Conflict if the callback is over.
    """
    if outcome not in OUTCOMES:
        raise Invalid(f"outcome must be one of {', '.join(OUTCOMES)}", code="bad_outcome")
    row = await rows.lock(uow, callback_id)
    if row["state"] in ("done", "cancelled"):
        raise Conflict(f"this callback is {row['state']}", code="callback_over")
    made = await rows.attempts_of(uow, callback_id)
    at_work = next(
        (a for a in made if a["state"] == "dialling" and (attempt_id is None or a["id"] == attempt_id)), None
    )
    if at_work is None and attempt_id is not None:
        return row  # it was recorded already
    if at_work is None:
        attempt_id = await uow.insert(
            callback_attempt,
            {
                "callback_id": callback_id,
                "n": len(made) + 1,
                "agent_id": agent_id,
                "mode": "manual",
                "correlation_id": None,
                "call_id": None,
                "state": "dialling",
                "outcome": None,
                "counted": True,
                "note": None,
                "started_at": uow.now,
                "ended_at": None,
                "give_up_at": None,
            },
        )
    else:
        attempt_id = at_work["id"]
    counted = outcome not in UNCOUNTED
    await uow.execute(
        update(callback_attempt)
        .where(callback_attempt.c.id == attempt_id)
        .values(state="ended", outcome=outcome, counted=counted, note=note, ended_at=uow.now, give_up_at=None)
    )
    made = await rows.attempts_of(uow, callback_id)
    return await _conclude(
        uow,
        row,
        [str(a["outcome"]) for a in made if a["outcome"]],
        first_at=made[0]["started_at"],
        outcome=outcome,
        counted=counted,
        actor=actor,
    )


async def _conclude(
    uow: UnitOfWork,
    row: dict[str, Any],
    outcomes: list[str],
    *,
    first_at: int,
    outcome: str,
    counted: bool,
    actor: str,
) -> dict[str, Any]:
    counts = {
        "counted_attempts": row["counted_attempts"] + counted,
        "uncounted_attempts": row["uncounted_attempts"] + (not counted),
    }
    if outcome == "answered":
        row = await rows.change(
            uow,
            row,
            state="done",
            outcome=outcome,
            kept_at=uow.now,
            next_attempt_at=None,
            escalate_at=None,
            **counts,
        )
        await items.finish(uow, "callback", row["id"], "answered")
        await rows.tell(uow, "kept", row, actor=actor, on_time=uow.now <= row["window_end"])
        return row
    again = retry_at(
        outcomes,
        first_at=first_at,
        now=uow.now,
        zones=await rows.zones(uow, row),
        seed=f"{row['id']}:{len(outcomes)}",
    )
    exhausted = counts["uncounted_attempts"] > MAX_UNCOUNTED
    if again is None or exhausted:
        row = await rows.change(
            uow,
            row,
            state="escalated",
            outcome=outcome,
            next_attempt_at=None,
            escalate_at=None,
            escalated_at=uow.now,
            **counts,
        )
        await items.finish(uow, "callback", row["id"], "escalated")
        await rows.tell(uow, "attempted", row, actor=actor, outcome=outcome)
        await rows.tell(
            uow, "escalated", row, reason=outcome if outcome == "invalid_number" else "attempts_used_up"
        )
        return row
    # The window moves with the plan: what is promised now is the next try.
    row = await rows.change(
        uow,
        row,
        state="scheduled",
        outcome=outcome,
        next_attempt_at=again,
        due_at=again,
        escalate_at=max(row["window_end"], again + 30 * MINUTE),
        **counts,
    )
    await items.finish(uow, "callback", row["id"], "retry")
    await rows.tell(uow, "attempted", row, actor=actor, outcome=outcome, again_at=again)
    return row


async def on_call(uow: UnitOfWork, event: DomainEvent) -> None:
    """A PBX's word on a call of ours: tie it to its attempt, and end the attempt with it."""
    row = event.context["call"]
    if row["correlation_id"] is None:
        return
    attempt = await uow.row(
        select(callback_attempt).where(callback_attempt.c.correlation_id == row["correlation_id"])
    )
    if attempt is None:
        return
    if attempt["call_id"] is None:
        await uow.execute(
            update(callback_attempt).where(callback_attempt.c.id == attempt["id"]).values(call_id=row["id"])
        )
        await uow.execute(
            update(call).where(call.c.id == row["id"]).values(callback_attempt_id=attempt["id"])
        )
    state = event.context["state"]
    if state.status is not CallStatus.ENDED:
        if state.status is CallStatus.ANSWERED:
            # They talk: the PBX will say when it is over.
            await uow.execute(
                update(callback_attempt).where(callback_attempt.c.id == attempt["id"]).values(give_up_at=None)
            )
        return
    if attempt["state"] != "dialling":
        return
    outcome = _FROM_CALL.get(state.disposition or "", "failed")
    if outcome != "answered" and getattr(state, "failed_side", None) == "agent":
        outcome = "failed"  # our own agent did not pick up: the customer's tries are not used up
    await record_outcome(uow, attempt["callback_id"], outcome, actor="system", attempt_id=attempt["id"])


async def on_assigned(uow: UnitOfWork, event: DomainEvent) -> None:
    """Routing found somebody for a due callback: in agent-first mode it is dialled at once, the agent's phone first."""
    if event.subject_kind != "callback":
        return
    row = await rows.lock(uow, event.subject_id)
    if row["state"] not in ("due", "escalated"):
        return
    agent_id = int(event.payload["agent_id"])
    row = await rows.change(uow, row, owner_id=agent_id)
    account = (
        await uow.row(select(inbox).where(inbox.c.id == row["inbox_id"], inbox.c.enabled))
        if row["inbox_id"]
        else None
    )
    extension = await uow.scalar(select(agent.c.extension).where(agent.c.id == agent_id))
    if row["mode"] == "agent_first" and account is not None and extension and _can_originate(account):
        twin = await _number_at_work(uow, row)
        if twin is None:
            await dial(uow, row["id"], agent_id, actor="system")
            return
    await rows.tell(uow, "updated", row, agent_id=agent_id)


LISTENERS: Listeners = {"call.updated": (on_call,), "item.assigned": (on_assigned,)}
