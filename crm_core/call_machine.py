"""Telephone calls from their events: a pure fold that gives the same call in whatever order events arrive.

Owns what a call's legs and outcome are (channels.md §3.3). It must not read clocks, numbers' owners or the
database: callers store `CallState` and `Leg` as rows and pass them back.

Why order does not matter: every field is either a minimum, a maximum, or a register that keeps the value with
the highest stamp (rank of the event's state, provider's sequence, time). Each of these forgets the order and
the repetition of what it was given, so any permutation with any duplicates ends in one state. Everything else
(`status`, `disposition`, deadlines) is recomputed from those fields.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from crm_core.call_state import (
    MAX_AHEAD_MS,
    MAX_LEGS,
    MAX_RECORDINGS,
    MISSED_GRACE_MS,
    RANKS,
    STUCK_ANSWERED_MS,
    STUCK_RINGING_MS,
    CallChange,
    CallState,
    CallStatus,
    Change,
    Leg,
    Recording,
    Stamp,
)
from crm_core.clock import SECOND
from crm_core.envelope import CallEvent

__all__ = [
    "CallChange",
    "CallState",
    "CallStatus",
    "Change",
    "Leg",
    "Recording",
    "apply",
    "give_up",
    "settle",
]


def apply(
    call: CallState | None, event: CallEvent, *, occurred_at: int, received_at: int, inbox_id: int
) -> tuple[CallState, list[CallChange]]:
    """Fold one event into its call (None: the first we hear of it).

    `occurred_at` is the provider's time, `received_at` ours, both ms UTC. Raises ValueError if the event
    belongs to another call; never for anything in the event itself.
    """
    if call is not None and (call.call_id != event.call_id or call.inbox_id != inbox_id):
        raise ValueError(f"event of call {event.call_id!r} given to call {call.call_id!r}")
    at = min(occurred_at, received_at + MAX_AHEAD_MS)
    rank = RANKS.get(event.state)
    stamp = (rank if rank is not None else -1, event.seq if event.seq is not None else -1, at)
    base = call or CallState(
        inbox_id=inbox_id,
        call_id=event.call_id,
        started_at=at,
        first_received_at=received_at,
        last_received_at=received_at,
    )
    facts = _call_facts(event)
    if event.final:
        facts |= {
            "final_disposition": event.disposition,
            "final_talk_sec": event.talk_sec,
            "final_wait_sec": event.wait_sec,
        }
    after = _register(base, facts, stamp)
    after = _register(after, _numbers(event), (-2, *stamp[1:]) if event.agent_leg else stamp)
    after = replace(
        after,
        final=after.final or event.final,
        settled=after.settled or event.final,
        final_at=_latest(after.final_at, at if event.final else None),
        first_received_at=min(after.first_received_at, received_at),
        last_received_at=max(after.last_received_at, received_at),
        ahead_ms=max(after.ahead_ms, occurred_at - at),
        started_at=min(after.started_at, at),
    )
    if rank is not None:
        after = replace(
            after, legs=_with_leg(after.legs, event, rank=rank, stamp=stamp, received_at=received_at)
        )
    if event.recording_ref is not None or event.recording_url is not None:
        after = replace(after, recordings=_with_recording(after.recordings, event))
    after = _fold(after)
    return after, _changes(call, after, at)


def settle(call: CallState, now: int) -> tuple[CallState, list[CallChange]]:
    """Say what an unanswered end was, once its grace is over. Does nothing before `missed_check_at`."""
    if call.missed_check_at is None or now < call.missed_check_at:
        return call, []
    after = _fold(replace(call, settled=True))
    return after, _changes(call, after, now)


def give_up(call: CallState, now: int) -> tuple[CallState, list[CallChange]]:
    """Close a call whose end we never heard of as `unknown`. Does nothing before `stuck_at`.

    A later event still corrects it: the end comes, or the call goes on.
    """
    if call.stuck_at is None or now < call.stuck_at:
        return call, []
    after = _fold(replace(call, gave_up_at=now))
    return after, _changes(call, after, now)


_Row = TypeVar("_Row", CallState, Leg)


def _register(row: _Row, facts: Mapping[str, Any], stamp: Stamp) -> _Row:
    """Set each known fact whose stamp is not older than the one that set it before. Equal stamps are decided
    by the value itself, so that even contradicting twins end the same whichever came first.
    """
    changed: dict[str, Any] = {}
    for name, value in facts.items():
        if value is None:
            continue
        old = row.stamps.get(name)
        if old is None or (stamp, str(value)) > (tuple(old), str(getattr(row, name))):
            changed[name] = value
    if not changed:
        return row
    return replace(row, **changed, stamps={**row.stamps, **dict.fromkeys(changed, stamp)})


def _call_facts(event: CallEvent) -> dict[str, Any]:
    return {
        "direction": event.direction,
        "did": event.did,
        "queue": event.queue,
        "display_name": event.display_name,
        "correlation_id": event.correlation_id,
    }


def _numbers(event: CallEvent) -> dict[str, Any]:
    """Who calls whom. An agent's leg may name our own number and an extension, so it only fills gaps."""
    return {
        "from_number": event.from_number,
        "from_raw": event.from_raw or None,
        "to_number": event.to_number,
        "to_raw": event.to_raw or None,
    }


def _with_leg(
    legs: tuple[Leg, ...], event: CallEvent, *, rank: int, stamp: Stamp, received_at: int
) -> tuple[Leg, ...]:
    at = stamp[2]
    by_id = {leg.leg_id: leg for leg in legs}
    leg = by_id.get(event.leg_id)
    if leg is None:
        if len(legs) >= MAX_LEGS:
            return legs
        leg = Leg(leg_id=event.leg_id, started_at=at)
    held = {"held": True, "answered": False, "ended": False}.get(event.state)
    leg = _register(
        leg,
        {
            "parent_leg_id": event.parent_leg_id,
            "agent_ext": event.agent_ext,
            "queue": event.queue,
            "number": None if event.agent_leg else _outside(event),
            "held": held,
            "cause": event.cause,
            "disposition": event.disposition,
            "talk_sec": event.talk_sec,
        },
        stamp,
    )
    ended = rank == RANKS["ended"]
    by_id[leg.leg_id] = replace(
        leg,
        rank=max(leg.rank, rank),
        agent=leg.agent or event.agent_leg,
        transferred=leg.transferred or event.state == "transferred",
        started_at=min(leg.started_at, at),
        ringing_at=_earliest(leg.ringing_at, at if event.state == "ringing" else None),
        # A call that is held or handed over has been answered, even if that event is lost.
        answered_at=_earliest(leg.answered_at, at if rank == RANKS["answered"] else None),
        ended_at=_latest(leg.ended_at, at if ended else None),
        ended_seen_at=_earliest(leg.ended_seen_at, received_at if ended else None),
    )
    return tuple(by_id[key] for key in sorted(by_id))


def _with_recording(recordings: tuple[Recording, ...], event: CallEvent) -> tuple[Recording, ...]:
    key = event.recording_ref or event.recording_url or ""
    by_key = {recording.key: recording for recording in recordings}
    old = by_key.get(key)
    if old is None:
        if len(recordings) >= MAX_RECORDINGS:
            return recordings
        by_key[key] = Recording(leg_id=event.leg_id, key=key, url=event.recording_url)
    else:
        urls = [url for url in (old.url, event.recording_url) if url is not None]
        by_key[key] = replace(old, leg_id=max(old.leg_id, event.leg_id), url=max(urls) if urls else None)
    return tuple(by_key[each] for each in sorted(by_key))


def _fold(call: CallState) -> CallState:
    """Recompute everything that follows from the legs and registers."""
    talking = _talking_legs(call)
    answered = bool(talking) or call.final_disposition == "answered"
    given_up = call.gave_up_at is not None and call.last_received_at <= call.gave_up_at
    over = _is_over(call) or given_up
    ended_at = _ended_at(call) if over else None
    talk_sec = call.final_talk_sec
    if talk_sec is None:
        talk_sec = max((leg.talk_sec for leg in talking if leg.talk_sec is not None), default=None)
    answered_at = _earliest(*(leg.answered_at for leg in talking))
    if answered and answered_at is None and ended_at is not None and talk_sec:
        answered_at = max(call.started_at, ended_at - talk_sec * SECOND)
    if talk_sec is None and answered_at is not None and ended_at is not None:
        talk_sec = max(0, ended_at - answered_at) // SECOND
    wait_until = answered_at if answered_at is not None else None if answered else ended_at
    wait_sec = call.final_wait_sec
    if wait_sec is None and wait_until is not None:
        wait_sec = max(0, wait_until - call.started_at) // SECOND

    status, disposition, check_at = _outcome(call, answered=answered, over=over, given_up=given_up)
    return replace(
        call,
        status=status,
        disposition=disposition,
        missed_check_at=check_at,
        failed_side=_failed_side(call) if disposition not in {None, "answered"} else None,
        ringing_at=_earliest(*(leg.ringing_at for leg in call.legs)),
        answered_at=answered_at,
        ended_at=ended_at,
        agent_ext=_agent_ext(call, talking),
        held=not over and any(leg.held for leg in talking),
        talk_sec=talk_sec if answered else None,
        wait_sec=wait_sec,
        stuck_at=None
        if over
        else call.last_received_at + (STUCK_ANSWERED_MS if answered else STUCK_RINGING_MS),
    )


def _outcome(
    call: CallState, *, answered: bool, over: bool, given_up: bool
) -> tuple[CallStatus, str | None, int | None]:
    if not over:
        if answered:
            return CallStatus.ANSWERED, None, None
        ringing = any(leg.rank >= RANKS["ringing"] for leg in call.legs)
        return (CallStatus.RINGING if ringing else CallStatus.INITIATED), None, None
    if answered:
        return CallStatus.ENDED, "answered", None
    if given_up:
        return CallStatus.ENDED, "unknown", None
    if not call.settled:
        seen = max((leg.ended_seen_at for leg in call.legs if leg.ended_seen_at is not None), default=0)
        return CallStatus.SETTLING, None, (seen or call.last_received_at) + MISSED_GRACE_MS
    return CallStatus.ENDED, _unanswered(call), None


def _root(call: CallState) -> Leg | None:
    return next((leg for leg in call.legs if leg.leg_id == call.call_id), None)


def _is_over(call: CallState) -> bool:
    """The provider said so, or the leg that is the call ended, or every leg did."""
    root = _root(call)
    if call.final or (root is not None and root.rank == RANKS["ended"]):
        return True
    return bool(call.legs) and all(leg.rank == RANKS["ended"] for leg in call.legs)


def _ended_at(call: CallState) -> int | None:
    root = _root(call)
    if root is not None and root.ended_at is not None:
        return root.ended_at
    ends = [leg.ended_at for leg in call.legs if leg.ended_at is not None]
    return _latest(call.final_at, *ends) if ends or call.final_at is not None else call.gave_up_at


def _talking_legs(call: CallState) -> list[Leg]:
    """The answered legs that make the call answered: our side's for calls in, the customer's for calls out.

    A caller's own leg "answered" by a queue or a voice menu is nobody's answer, unless the provider reports
    no other legs at all.
    """
    answered = [leg for leg in call.legs if leg.was_answered]
    if call.direction == "internal":
        return answered
    if call.direction == "inbound":
        agents = any(leg.agent for leg in call.legs)
        return [leg for leg in answered if leg.agent or not agents]
    return [leg for leg in answered if not leg.agent]


def _agent_ext(call: CallState, talking: list[Leg]) -> str | None:
    candidates = [leg for leg in talking if leg.agent_ext] or [leg for leg in call.legs if leg.agent_ext]
    latest = max(candidates, key=lambda leg: (leg.answered_at or 0, leg.started_at, leg.leg_id), default=None)
    return latest.agent_ext if latest is not None else None


def _said(call: CallState) -> str | None:
    """What the provider itself said about the customer's end, its last word first."""
    customers = sorted(
        (leg for leg in call.legs if not leg.agent and leg.disposition not in {None, "answered"}),
        key=lambda leg: (leg.leg_id == call.call_id, leg.stamps.get("disposition", (0, 0, 0)), leg.leg_id),
    )
    if call.final_disposition is not None:
        return call.final_disposition
    return customers[-1].disposition if customers else None


def _unanswered(call: CallState) -> str:
    said = _said(call)
    if call.direction != "inbound":
        if said not in {None, "missed", "abandoned", "answered"}:
            return str(said)
        return "cancelled" if _failed_side(call) == "agent" else "no_answer"
    agents = [leg for leg in call.legs if leg.agent]
    if said in {"cancelled", "abandoned"}:
        return "abandoned"
    if said in {"busy", "voicemail", "failed"}:
        return str(said)
    if said == "invalid_number":
        return "failed"
    if said is not None:
        return "missed"
    # A ringing phone is cancelled when the caller hangs up; in a queue nobody's phone rings yet.
    if any(leg.disposition == "cancelled" for leg in agents) or (not agents and call.queue is not None):
        return "abandoned"
    if agents and all(leg.disposition == "busy" for leg in agents):
        return "busy"
    return "missed"


def _failed_side(call: CallState) -> str | None:
    """Which end of an outbound call did not come: a callback is tried again only if it was the customer's."""
    if call.direction in {"inbound", "internal"}:
        return None
    agents = [leg for leg in call.legs if leg.agent]
    customers = [leg for leg in call.legs if not leg.agent and leg.leg_id != call.call_id]
    if agents and not customers and not any(leg.was_answered for leg in agents):
        return "agent"
    return "customer"


def _changes(before: CallState | None, after: CallState, at: int) -> list[CallChange]:
    changes: list[CallChange] = []

    def note(kind: Change, was: str | None = None, now: str | None = None) -> None:
        changes.append(CallChange(kind=kind, at=at, was=was, now=now))

    was = before.status if before is not None else None
    over = {CallStatus.SETTLING, CallStatus.ENDED}
    if before is None:
        note(Change.CREATED, now=after.direction)
    if after.ringing_at is not None and (before is None or before.ringing_at is None):
        note(Change.RINGING)
    if was in over and after.status not in over:
        note(Change.REOPENED)
    if _is_answered(after) and not (before is not None and _is_answered(before)):
        note(Change.ANSWERED, now=after.agent_ext)
    if after.agent_ext != (before.agent_ext if before is not None else None):
        note(Change.AGENT, before.agent_ext if before is not None else None, after.agent_ext)
    if after.status not in over:
        ended = (
            {leg.leg_id for leg in before.legs if leg.ended_at is not None} if before is not None else set()
        )
        for leg in after.legs:
            if leg.agent and leg.ended_at is not None and not leg.was_answered and leg.leg_id not in ended:
                note(Change.AGENT_MISSED, now=leg.agent_ext)
    if after.held != (before is not None and before.held):
        note(Change.HELD if after.held else Change.RESUMED)
    if after.status in over and was not in over:
        note(Change.ENDED)
    if after.status is CallStatus.SETTLING and was is not CallStatus.SETTLING:
        note(Change.SETTLING)
    if after.disposition != (before.disposition if before is not None else None):
        note(Change.DISPOSITION, before.disposition if before is not None else None, after.disposition)
    known = {recording.key for recording in before.recordings} if before is not None else set()
    for recording in after.recordings:
        if recording.key not in known:
            note(Change.RECORDING, now=recording.key)
    return changes


def _is_answered(call: CallState) -> bool:
    return call.answered_at is not None or call.disposition == "answered"


def _outside(event: CallEvent) -> str | None:
    return event.from_number if event.direction == "inbound" else event.to_number


def _earliest(*instants: int | None) -> int | None:
    return min((instant for instant in instants if instant is not None), default=None)


def _latest(*instants: int | None) -> int | None:
    return max((instant for instant in instants if instant is not None), default=None)
