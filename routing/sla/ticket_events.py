"""What can happen to a ticket, as the SLA machine understands it: the inputs of `routing.sla.machine.apply`.

Every happening has its instant `at` (ms UTC). Who makes them of the core's facts is `routing.sla.translate`.
"""

from dataclasses import dataclass
from enum import StrEnum

from routing.sla.clock import Status


class Author(StrEnum):
    """The author's role when the message was written, not when somebody asks."""

    CUSTOMER = "customer"
    AGENT = "agent"
    BOT = "bot"
    """Programs: dialogs, automatic replies, integrations."""


@dataclass(frozen=True, slots=True)
class Created:
    """The ticket exists. A missed call or a form counts as the customer's public message."""

    at: int
    by: Author = Author.CUSTOMER
    public: bool = True
    status: Status = Status.NEW
    ref: str | None = None


@dataclass(frozen=True, slots=True)
class MessageWritten:
    """A message after the first. An agent's counts from the moment the channel accepted it; an answered
    outgoing or handled incoming call is an agent's public message at the moment of connection. `ref` names
    it for SendFailed.
    """

    at: int
    by: Author
    public: bool = True
    ref: str | None = None


@dataclass(frozen=True, slots=True)
class SendFailed:
    """The channel took back its acceptance of message `ref`."""

    at: int
    ref: str


@dataclass(frozen=True, slots=True)
class StatusChanged:
    at: int
    to: Status
    cause: str | None = None


@dataclass(frozen=True, slots=True)
class PauseSet:
    """A reason to pause besides the status begins or ends: snooze, waiting_for_customer, callback."""

    at: int
    reason: str
    on: bool


@dataclass(frozen=True, slots=True)
class TermsChanged:
    """Priority, policy or calendar may be others now: retarget what differs from the terms in force."""

    at: int
    cause: str = "policy"
    by: str | None = None


@dataclass(frozen=True, slots=True)
class CalendarEdited:
    """Calendars have newer versions in the rulebook: open clocks go on with them."""

    at: int


@dataclass(frozen=True, slots=True)
class MergedAway:
    """The ticket was merged into another: closed, its clocks end uncounted."""

    at: int


@dataclass(frozen=True, slots=True)
class MergeReceived:
    """Another ticket was merged into this one; `waiting_since` is its oldest unanswered customer message."""

    at: int
    waiting_since: int | None


@dataclass(frozen=True, slots=True)
class SplitAway:
    """Message `ref` belongs to another ticket now; `waiting_since` is the oldest unanswered one that stayed."""

    at: int
    ref: str
    waiting_since: int | None


@dataclass(frozen=True, slots=True)
class ReplyHidden:
    """A message was deleted or hidden after it had counted. It was an answer all the same: only logged."""

    at: int
    ref: str


@dataclass(frozen=True, slots=True)
class Discarded:
    """Spam, or deleted: the clocks are cancelled and never counted, those that had ended before as well.

    `to` is the status the ticket has: what is only solved may be opened again.
    """

    at: int
    cause: str = "spam"
    to: Status = Status.CLOSED


@dataclass(frozen=True, slots=True)
class Enqueued:
    """A call or a live chat began to wait for a person."""

    at: int
    ref: str | None = None


@dataclass(frozen=True, slots=True)
class Connected:
    """A person took the waiting call or live chat."""

    at: int
    ref: str | None = None


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The customer left the queue."""

    at: int
    cause: str = "abandoned"


TicketEvent = (
    Created
    | MessageWritten
    | SendFailed
    | StatusChanged
    | PauseSet
    | TermsChanged
    | CalendarEdited
    | MergedAway
    | MergeReceived
    | SplitAway
    | ReplyHidden
    | Discarded
    | Enqueued
    | Connected
    | Abandoned
)
