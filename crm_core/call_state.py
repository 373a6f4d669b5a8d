"""What a telephone call is once its events are folded: legs, recordings, outcome, deadlines.

Owns the types only; `crm_core.call_machine` makes them. All fields are simple values, so that a store can
keep a `Leg` and a `CallState` as rows (`stamps` as JSON). Instants are ms UTC.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

from crm_core.clock import HOUR, MINUTE, SECOND

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
Stamp = tuple[int, int, int]
Stamps = Mapping[str, Stamp]


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
    AGENT_MISSED = "agent_missed"  # `now` is the extension that did not pick up while the call goes on
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


def to_json(call: CallState) -> dict[str, Any]:
    """The whole call as JSON values."""
    return asdict(call)


def from_json(stored: Mapping[str, Any]) -> CallState:
    """A call back from `to_json`. Fields it does not know are left out, so that older code reads newer rows.

    Raises KeyError or TypeError if `stored` is not such a call.
    """
    known = {each.name: stored[each.name] for each in fields(CallState) if each.name in stored}
    return CallState(
        **{
            **known,
            "status": CallStatus(known["status"]),
            "stamps": _stamps(known["stamps"]),
            "legs": tuple(Leg(**{**leg, "stamps": _stamps(leg["stamps"])}) for leg in known["legs"]),
            "recordings": tuple(Recording(**recording) for recording in known["recordings"]),
        }
    )


def _stamps(stored: Mapping[str, Any]) -> Stamps:
    return {name: (stamp[0], stamp[1], stamp[2]) for name, stamp in stored.items()}
