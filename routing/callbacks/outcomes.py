"""What came of an attempt, and what follows: kept, tried again by plan, the next agent, or a supervisor.

How an attempt ended comes from the PBX's events (matched by our correlation id) or from the agent; whichever speaks
first, a second word changes nothing, save that an answer which comes late still keeps the promise.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select, update

from crm_core.call_state import CallState, CallStatus
from crm_core.clock import SECOND
from crm_core.db.uow import Row, UnitOfWork
from crm_core.errors import Invalid
from crm_core.events import DomainEvent
from crm_core.schema import agent, call, contact
from routing import items, machine, store
from routing.callbacks import chain, ending, rows
from routing.callbacks.attempts import GIVE_UP_MANUAL_MS, GIVE_UP_MS
from routing.callbacks.plan import retry_at
from routing.callbacks.settings import OUTCOMES, UNCOUNTED, Mode
from routing.model import ItemState
from routing.schema import assignment, callback_attempt

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
#: for so long a PBX may take to tell that it stopped ringing an agent
_GRACE_MS = 10 * SECOND


async def record_outcome(
    uow: UnitOfWork,
    callback_id: int,
    outcome: str,
    *,
    actor: str,
    note: str | None = None,
    attempt_id: int | None = None,
    agent_id: int | None = None,
    agent_missed: bool = False,
) -> dict[str, Any]:
    """Write how the attempt at work ended and what follows.

    An agent who dialled by hand without saying so first may record an outcome right away. `agent_missed`: our own
    agent did not pick up, so the next one is asked. Raises NotFound, Invalid, Conflict if the callback is over.
    """
    if outcome not in OUTCOMES:
        raise Invalid(f"outcome must be one of {', '.join(OUTCOMES)}", code="bad_outcome")
    row = await rows.lock_open(uow, callback_id)
    made = await rows.attempts_of(uow, callback_id)
    at_work = next(
        (a for a in made if a["state"] == "dialling" and (attempt_id is None or a["id"] == attempt_id)), None
    )
    if at_work is None and attempt_id is not None:
        return row  # it was recorded already
    if at_work is None:
        attempt_id = await _by_hand(uow, row, len(made) + 1, agent_id)
        row = {**row, "first_dialled_at": row["first_dialled_at"] or uow.now}
    else:
        attempt_id = at_work["id"]
    counted = outcome not in UNCOUNTED
    await uow.update(callback_attempt, attempt_id, {**_ended(uow, outcome, counted=counted), "note": note})
    counts = {
        "counted_attempts": row["counted_attempts"] + counted,
        "uncounted_attempts": row["uncounted_attempts"] + (not counted),
        "first_dialled_at": row["first_dialled_at"],
    }
    if outcome == "answered":
        return await ending.kept(uow, row, actor=actor, at=uow.now, **counts)
    settings = await rows.settings(uow, row["team_id"])
    if outcome in UNCOUNTED and counts["uncounted_attempts"] > settings.retry.max_uncounted:
        return await _exhausted(uow, row, outcome, actor, counts, "attempts_used_up")
    if agent_missed:
        return await _next_agent(uow, row, actor, at_work, counts)
    if row["kind"] == "hold":
        return await _place_waits(
            uow, row, outcome, actor, counts, settings.hold_tries, settings.quarantine_ms
        )
    made = await rows.attempts_of(uow, callback_id)
    mine = [str(a["outcome"]) for a in made if a["outcome"]][
        -(counts["counted_attempts"] + counts["uncounted_attempts"]) :
    ]
    again = retry_at(
        mine,
        first_at=made[-len(mine)]["started_at"],
        now=uow.now,
        zones=await rows.zones(uow, row),
        seed=f"{row['id']}:{len(made)}",
        plan=settings.retry,
    )
    if again is None:
        reason = outcome if outcome == "invalid_number" else "attempts_used_up"
        return await _exhausted(uow, row, outcome, actor, counts, reason)
    again = await rows.workable(uow, row, again)
    # What is promised now is the next try; the window stays what was promised to the customer.
    row = await rows.change(
        uow,
        row,
        state="scheduled",
        outcome=outcome,
        next_attempt_at=again,
        due_at=again,
        escalate_at=max(row["window_end"], again + rows.ESCALATE_AFTER_MS),
        # Who hung up on an empty line is next called with an agent on it.
        mode=Mode.AGENT_FIRST.value if outcome == "abandoned" else row["mode"],
        watch=None,
        watch_at=None,
        **counts,
    )
    await items.finish(uow, "callback", row["id"], "retry")
    await rows.tell(uow, "attempted", row, actor=actor, outcome=outcome, again_at=again)
    return row


async def _by_hand(uow: UnitOfWork, row: Mapping[str, Any], n: int, agent_id: int | None) -> int:
    """The attempt of an agent who dialled before he said so."""
    return await uow.insert(
        callback_attempt,
        {
            "callback_id": row["id"],
            "n": n,
            "agent_id": agent_id,
            "mode": "manual",
            "correlation_id": None,
            "call_id": None,
            "state": "ended",
            "outcome": None,
            "counted": True,
            "note": None,
            "started_at": uow.now,
            "ended_at": uow.now,
            "give_up_at": None,
            "phone": row["phone"],
            "style": Mode.PREVIEW.value,
            "agent_answered_at": None,
            "customer_answered_at": None,
            "connected_at": None,
        },
    )


async def _exhausted(
    uow: UnitOfWork, row: dict[str, Any], outcome: str, actor: str, counts: dict[str, Any], reason: str
) -> dict[str, Any]:
    await rows.tell(uow, "attempted", {**row, **counts, "outcome": outcome}, actor=actor, outcome=outcome)
    return await ending.give_to_supervisor(uow, row, reason, outcome=outcome, **counts)


async def _next_agent(
    uow: UnitOfWork, row: dict[str, Any], actor: str, attempt: Row | None, counts: dict[str, Any]
) -> dict[str, Any]:
    """The agent's phone rang in vain: the work goes on to the next one at once, its place kept."""
    row = await rows.change(
        uow, row, state="due", outcome="failed", escalate_at=row["escalate_at"], watch=None, watch_at=None,
        **counts,
    )  # fmt: skip
    who = attempt["agent_id"] if attempt else None
    await rows.tell(uow, "attempted", row, actor=actor, outcome="failed", agent_id=who, agent_missed=True)
    item = await store.lock_live(uow, "callback", row["id"])
    if item is None:
        return await enter_queue(uow, row)
    if item.state in (ItemState.ASSIGNED, ItemState.OFFERED):
        held = await store.holdings(uow, item)
        event = machine.Requeued(held=held, cause="agent_no_answer", exclude=who)
        await items.requeue(uow, item, event, "agent_no_answer")
    return row


async def _place_waits(
    uow: UnitOfWork,
    row: dict[str, Any],
    outcome: str,
    actor: str,
    counts: dict[str, Any],
    tries: int,
    quarantine_ms: int,
) -> dict[str, Any]:
    """A kept place whose customer did not come to the phone: a short rest, then his place once more, then the end of
    the queue, then a person.
    """
    if outcome == "invalid_number" or counts["counted_attempts"] >= tries:
        reason = outcome if outcome == "invalid_number" else "attempts_used_up"
        return await _exhausted(uow, row, outcome, actor, counts, reason)
    again = uow.now + quarantine_ms
    lost = row["place_lost"] or counts["counted_attempts"] >= 2
    row = await rows.change(
        uow,
        row,
        state="scheduled",
        outcome=outcome,
        next_attempt_at=again,
        due_at=again,
        escalate_at=max(row["window_end"], again + rows.ESCALATE_AFTER_MS),
        place_lost=lost,
        enqueued_at=again if lost and not row["place_lost"] else row["enqueued_at"],
        mode=Mode.AGENT_FIRST.value if outcome == "abandoned" else row["mode"],
        watch=None,
        watch_at=None,
        **counts,
    )
    await items.finish(uow, "callback", row["id"], "retry")
    await rows.tell(uow, "attempted", row, actor=actor, outcome=outcome, again_at=again, place_lost=lost)
    return row


async def enter_queue(uow: UnitOfWork, row: dict[str, Any]) -> dict[str, Any]:
    """Make a due promise work for people: a kept place in the calls' queue, else an item for the owner and those who
    stand in for him.
    """
    found = await uow.find(contact, row["contact_id"])
    person = dict(found) if found else None
    if row["kind"] == "hold":
        await items.enqueue_place(uow, row, person)
        return row
    return await chain.enqueue(uow, row, person)


# --- the PBX's word -----------------------------------------------------------------------------------------------
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
    state: CallState = event.context["state"]
    if attempt["call_id"] is None:
        await uow.update(call, row["id"], {"callback_attempt_id": attempt["id"]})
    promise = await rows.lock(uow, attempt["callback_id"])
    attempt = {**attempt, **await _progress(uow, promise, attempt, row["id"], state)}
    if state.status is not CallStatus.ENDED:
        if attempt["style"] == Mode.CUSTOMER_FIRST and attempt["state"] == "dialling":
            await pass_on(uow, "callback", promise["id"], state)
        return
    outcome = _FROM_CALL.get(state.disposition or "", "failed")
    customer_first = attempt["style"] == Mode.CUSTOMER_FIRST
    if outcome == "answered" and customer_first and attempt["connected_at"] is None:
        outcome = "abandoned"
    if attempt["state"] != "dialling":
        await _late(uow, promise, attempt, outcome)
        return
    missed = outcome != "answered" and not customer_first and state.failed_side == "agent"
    if promise["state"] in rows.OVER:
        return
    await record_outcome(
        uow,
        attempt["callback_id"],
        "failed" if missed else outcome,
        actor="system",
        attempt_id=attempt["id"],
        agent_missed=missed,
        note="the agent did not pick up" if missed else None,
    )


async def _progress(
    uow: UnitOfWork, promise: dict[str, Any], attempt: Row, call_id: int, state: CallState
) -> dict[str, Any]:
    """Who answered by now, and how long we wait for the next word. Returns the columns written."""
    agents = [leg for leg in state.legs if leg.agent]
    customers = [leg for leg in state.legs if not leg.agent and leg.leg_id != state.call_id]
    spoke = min((leg.answered_at or uow.now for leg in agents if leg.was_answered), default=None)
    values: dict[str, Any] = {"call_id": call_id}
    if spoke is not None and attempt["agent_answered_at"] is None:
        values["agent_answered_at"] = spoke
    heard = state.answered_at is not None or state.disposition == "answered"
    if heard and attempt["customer_answered_at"] is None:
        values["customer_answered_at"] = state.answered_at or uow.now
    if heard and spoke is not None and attempt["connected_at"] is None:
        values["connected_at"] = max(spoke, state.answered_at or spoke)
    if attempt["state"] == "dialling" and state.status is not CallStatus.ENDED:
        if heard:
            # They talk: the PBX will say when it is over, or the call is closed as stuck.
            values["give_up_at"] = None
        elif agents and not customers and spoke is None and attempt["style"] != Mode.CUSTOMER_FIRST:
            settings = await rows.settings(uow, promise["team_id"])
            values["give_up_at"] = min(
                attempt["give_up_at"] or uow.now + GIVE_UP_MS,
                attempt["started_at"] + settings.reserve_ms + _GRACE_MS,
            )
        else:
            values["give_up_at"] = uow.now + GIVE_UP_MS
    await uow.update(callback_attempt, attempt["id"], values)
    first = "customer_answered_at" in values and attempt["style"] == Mode.CUSTOMER_FIRST
    if first and attempt["state"] == "dialling" and spoke is None and promise["state"] == "dialling":
        person = await uow.find(contact, promise["contact_id"])
        # He is on the line: the very next agent is his.
        await items.enqueue_place(
            uow, {**promise, "enqueued_at": None}, dict(person) if person else None, head=True
        )
    return values


async def _late(uow: UnitOfWork, promise: dict[str, Any], attempt: Mapping[str, Any], outcome: str) -> None:
    """The PBX speaks of an attempt that we had given up: an answer is an answer."""
    if outcome != "answered" or attempt["outcome"] in ("answered", "snoozed"):
        return
    await uow.update(callback_attempt, attempt["id"], {"outcome": "answered", "counted": True})
    if promise["state"] in ("scheduled", "due", "paused", "escalated"):
        await ending.kept(
            uow, promise, actor="system", at=attempt["customer_answered_at"] or uow.now, how="late_word",
            counted_attempts=promise["counted_attempts"] + (not attempt["counted"]),
        )  # fmt: skip


def _ended(uow: UnitOfWork, outcome: str, *, counted: bool) -> dict[str, Any]:
    """The columns of an attempt that is over."""
    return {"state": "ended", "outcome": outcome, "counted": counted, "ended_at": uow.now, "give_up_at": None}


async def give_up(uow: UnitOfWork, attempt_id: int) -> None:
    """An attempt of which nobody spoke in time ends: as our own agent's miss if only his phone was rung."""
    attempt = await uow.find(callback_attempt, attempt_id)
    if (
        attempt is None
        or attempt["state"] != "dialling"
        or attempt["give_up_at"] is None
        or attempt["give_up_at"] > uow.now
    ):
        return
    promise = await rows.lock(uow, attempt["callback_id"])
    attempt = await uow.find(callback_attempt, attempt_id)
    if attempt is None or attempt["state"] != "dialling":
        return
    if promise["state"] in rows.OVER:
        await uow.update(callback_attempt, attempt_id, _ended(uow, "failed", counted=False))
        return
    only_agent = (
        attempt["call_id"] is not None
        and attempt["agent_answered_at"] is None
        and attempt["customer_answered_at"] is None
        and attempt["style"] != Mode.CUSTOMER_FIRST
    )
    await record_outcome(
        uow,
        attempt["callback_id"],
        "failed",
        actor="system",
        attempt_id=attempt_id,
        agent_missed=only_agent,
        note="the agent did not pick up"
        if only_agent
        else "no word came from the telephone system"
        if attempt["mode"] == "originated"
        else "the agent recorded no outcome",
    )


async def at_work(uow: UnitOfWork, callback_id: int) -> Row | None:
    """The attempt that is at work."""
    return await uow.row(
        select(callback_attempt).where(
            callback_attempt.c.callback_id == callback_id, callback_attempt.c.state == "dialling"
        )
    )


async def postpone(uow: UnitOfWork, row: dict[str, Any]) -> dict[str, Any]:
    """The customer himself put the call off while it reached him: the attempt is over and uses up nothing."""
    await uow.execute(
        update(callback_attempt)
        .where(callback_attempt.c.callback_id == row["id"], callback_attempt.c.state == "dialling")
        .values(**_ended(uow, "snoozed", counted=False))
    )
    row = await rows.change(uow, row, state="due")
    await items.finish(uow, "callback", row["id"], "snoozed")
    return row


async def fall_back(uow: UnitOfWork, attempt_id: int, detail: str) -> None:
    """The PBX has no such command after all. With an agent at work the number is his to dial by hand; without one the
    promise goes to an agent first.
    """
    attempt = await uow.find(callback_attempt, attempt_id)
    if attempt is None or attempt["state"] != "dialling":
        return
    row = await rows.lock(uow, attempt["callback_id"])
    if row["state"] != "dialling":
        return
    if attempt["agent_id"] is not None:
        await uow.update(
            callback_attempt,
            attempt_id,
            {"mode": "manual", "note": detail[:300], "give_up_at": uow.now + GIVE_UP_MANUAL_MS},
        )
        await rows.tell(uow, "updated", row, manual=True, reason=detail[:300])
        return
    failed = _ended(uow, "failed", counted=False)
    await uow.update(callback_attempt, attempt_id, {**failed, "note": detail[:300]})
    row = await rows.change(
        uow, row, state="due", mode=Mode.AGENT_FIRST.value, uncounted_attempts=row["uncounted_attempts"] + 1
    )
    await rows.tell(uow, "attempted", row, outcome="failed", fallback=Mode.AGENT_FIRST.value)
    await enter_queue(uow, row)


async def not_connected(uow: UnitOfWork, call_id: int, agent_id: int, attempt_id: int | None) -> None:
    """The PBX could not ring the agent for a waiting call: the next one is asked."""
    source = ("call", call_id)
    if attempt_id is not None:
        attempt = await uow.find(callback_attempt, attempt_id)
        if attempt is None or attempt["state"] != "dialling":
            return
        source = ("callback", int(attempt["callback_id"]))
    item = await store.lock_live(uow, *source)
    if item is None or item.state != ItemState.ASSIGNED or item.owner_id != agent_id:
        return
    held = await store.holdings(uow, item)
    event = machine.Requeued(held=held, cause="agent_no_answer", exclude=agent_id)
    await items.requeue(uow, item, event, "agent_no_answer")


async def pass_on(uow: UnitOfWork, source_kind: str, source_id: int, state: CallState) -> None:
    """Somebody waits on the line, and the agent who took him did not pick up: the next agent is asked."""
    legs = [leg for leg in state.legs if leg.agent]
    if not legs or any(leg.was_answered or leg.ended_seen_at is None for leg in legs):
        return
    last = max(legs, key=lambda leg: (leg.ended_seen_at or 0, leg.leg_id))
    item = await store.lock_live(uow, source_kind, source_id)
    if item is None or item.state != ItemState.ASSIGNED or item.owner_id is None:
        return
    extension = await uow.scalar(select(agent.c.extension).where(agent.c.id == item.owner_id))
    since = await uow.scalar(
        select(assignment.c.started_at).where(
            assignment.c.item_id == item.id, assignment.c.ended_at.is_(None)
        )
    )
    if extension != last.agent_ext or since is None or since > (last.ended_seen_at or 0):
        return
    held = await store.holdings(uow, item)
    event = machine.Requeued(held=held, cause="agent_no_answer", exclude=item.owner_id)
    await items.requeue(uow, item, event, "agent_no_answer")
