"""Telephone calls from their events: a pure fold that gives the same call in whatever order events arrive.

Owns what a call's legs and outcome are (channels.md §3.3). It must not read clocks, numbers' owners or the
database: callers store `CallState` and `Leg` as rows and pass them back.

Why order does not matter: every field is either a minimum, a maximum, or a register that keeps the value with the
highest stamp (rank of the event's state, provider's sequence, time). Each of these forgets the order and the
repetition of what it was given, so any permutation with any duplicates ends in one state. Everything else
(`status`, `disposition`, deadlines) is recomputed from those fields.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

from crm_core.clock import HOUR, MINUTE, SECOND
from crm_core.envelope import CallEvent

#: A provider's clock may run ahead of ours by this much before we stop believing it.
MAX_AHEAD_MS = 5 * SECOND
#: How long an unanswered end waits for the provider's last word before it counts as missed.
MISSED_GRACE_MS = 10 * SECOND
#: Silence after which a ringing, and an answered, call is taken for lost.
STUCK_RINGING_MS = 5 * MINUTE
STUCK_ANSWERED_MS = 4 * HOUR
#: A call with more legs than this is an attack or a loop; further legs are not kept.
MAX_LEGS = 200
MAX_RECORDINGS = 50

RANKS: Mapping[str, int] = {
    "initiated": 0,
    "ringing": 10,
    "answered": 20,
    "held": 20,
    "transferred": 20,
    "ended": 30,
}
_NAMES = {0: "initiated", 10: "ringing", 20: "answered", 30: "ended"}

#: field -> (rank, sequence or -1, instant) of the event that set it. A list in JSON.
Stamps = Mapping[str, tuple[int, int, int]]


class CallStatus(StrEnum):
    INITIATED = "initiated"
    RINGING = "ringing"
    ANSWERED = "answered"
    SETTLING = "settling"  # ended unanswered, waiting for the provider's last word until `missed_check_at`
    ENDED = "ended"  # and the disposition is known


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One party's part of a call. Instants are ms UTC."""

    leg_id: str
    rank: int = 0
    agent: bool = False
    parent_leg_id: str | None = None
    agent_ext: str | None = None
    queue: str | None = None
    number: str | None = None  # the party's E.164 if it is not one of ours
    started_at: int
    ringing_at: int | None = None
    answered_at: int | None = None
    ended_at: int | None = None
    ended_seen_at: int | None = None  # when its end first reached us
    held: bool = False
    transferred: bool = False
    cause: str | None = None
    disposition: str | None = None
    talk_sec: int | None = None
    stamps: Stamps = field(default_factory=dict)

    @property
    def state(self) -> str:
        return _NAMES[self.rank]

    @property
    def was_answered(self) -> bool:
        return self.answered_at is not None or self.disposition == "answered" or bool(self.talk_sec)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    leg_id: str
    key: str  # the provider's id, else the address
    url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallState:
    """A whole call. What is below `recordings` is derived from the rest and may be stored as it is."""

    inbox_id: int
    call_id: str
    direction: str = "inbound"
    from_number: str | None = None
    from_raw: str = ""
    to_number: str | None = None
    to_raw: str = ""
    did: str | None = None
    queue: str | None = None
    display_name: str | None = None
    correlation_id: str | None = None
    final: bool = False  # the provider said its last word
    final_disposition: str | None = None
    final_talk_sec: int | None = None
    final_wait_sec: int | None = None
    final_at: int | None = None
    settled: bool = False  # the grace is over (or the provider spoke): an unanswered end counts
    gave_up_at: int | None = None  # closed by us as stuck, at this instant
    first_received_at: int
    last_received_at: int
    ahead_ms: int = 0  # the furthest a provider's time ran ahead of ours and was cut
    stamps: Stamps = field(default_factory=dict)
    legs: tuple[Leg, ...] = ()  # by leg id
    recordings: tuple[Recording, ...] = ()  # by key

    status: CallStatus = CallStatus.INITIATED
    started_at: int
    ringing_at: int | None = None
    answered_at: int | None = None
    ended_at: int | None = None
    agent_ext: str | None = None  # who answered, else who was rung last
    held: bool = False
    disposition: str | None = None
    failed_side: str | None = None  # of an unanswered outbound call: "agent" or "customer"
    talk_sec: int | None = None
    wait_sec: int | None = None
    missed_check_at: int | None = None
    stuck_at: int | None = None

    @property
    def customer_number(self) -> str | None:
        """E.164 of the outside party, None if withheld or internal."""
        if self.direction == "internal":
            return None
        return self.from_number if self.direction == "inbound" else self.to_number

    @property
    def missed(self) -> bool:
        """An inbound call that is over and that nobody of us answered: somebody should call back."""
        return (
            self.direction == "inbound" and self.status is CallStatus.ENDED and self.disposition != "answered"
        )


class Change(StrEnum):
    CREATED = "created"
    RINGING = "ringing"
    ANSWERED = "answered"
    AGENT = "agent"  # `now` is the extension that has the call, or is rung
    HELD = "held"
    RESUMED = "resumed"
    REOPENED = "reopened"  # it was over, and a new leg says it is not
    SETTLING = "settling"
    ENDED = "ended"
    DISPOSITION = "disposition"  # `was` None: first known; else a late event changed it
    RECORDING = "recording"  # `now` is the recording's key


@dataclass(frozen=True, slots=True, kw_only=True)
class CallChange:
    """What one event changed, for domain events and timelines. `at` is ms UTC."""

    kind: Change
    at: int
    was: str | None = None
    now: str | None = None


def apply(
    call: CallState | None, event: CallEvent, *, occurred_at: int, received_at: int, inbox_id: int
) -> tuple[CallState, list[CallChange]]:
    """Fold one event into its call (None: the first we hear of it).

    `occurred_at` is the provider's time, `received_at` ours, both ms UTC. Raises ValueError if the event belongs to
    another call; never for anything in the event itself.
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
        after = replace(after, legs=_with_leg(after.legs, event, rank, stamp, at, received_at))
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


def _call_facts(event: CallEvent) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "direction": event.direction,
        "did": event.did,
        "queue": event.queue,
        "display_name": event.display_name,
        "correlation_id": event.correlation_id,
    }
    # The numbers of the call are the customer's leg's: an agent's leg names our number and an extension.
    if not event.agent_leg:
        facts["from_raw"] = event.from_raw or None
        facts["to_raw"] = event.to_raw or None
    facts["from_number"] = event.from_number
    facts["to_number"] = event.to_number
    return facts


def _register[T: (CallState, Leg)](row: T, facts: Mapping[str, Any], stamp: tuple[int, int, int]) -> T:
    raise NotImplementedError
