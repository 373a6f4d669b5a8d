"""The words of the engine: what may come in, what it knows, what it remembers, what it wants done."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from crm_core.envelope import Button
from routing.business_time import Calendar

Buttons = tuple[tuple[Button, ...], ...]


# --- what comes in ------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """Words or files of the customer. `command` without its slash, `payload` what follows it (`/start promo`)."""

    text: str
    files: bool = False
    command: str | None = None
    payload: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressed:
    """A button. `id` is the channel's id of the press, where there is one; values may be old or forged."""

    value: str
    id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPhone:
    """The channel proved the customer's own number."""

    e164: str


@dataclass(frozen=True, slots=True)
class Arrived:
    """The customer is there but said nothing: he filled in the form before a chat, or sent what we cannot read."""


@dataclass(frozen=True, slots=True)
class Silence:
    """Nothing came for the flow's idle time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """The answer to a `Book`."""

    due_at: int
    phone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotBooked:
    """The answer to a `Book` that cannot be kept; `code` is the error's."""

    code: str


Input = Said | Pressed | SharedPhone | Arrived | Silence | Booked | NotBooked


# --- what is known ------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is true at this moment.

    `zone` is the customer's and `zone_source` how it is known: contact (somebody said so), phone, or default, which is
    only the team's `office_zone`. `calendars` by team
    name; None is the team that the inquiry has now. A team that is missing, or None as its calendar, is always open.
    `languages` are those of conversation, contact and inbox, strongest first.
    """

    now: int
    channel: str = "webchat"
    kind: str = "ticket"
    name: str | None = None
    phone: str | None = None
    zone: str = "Europe/Kyiv"
    zone_source: str = "default"
    office_zone: str = "Europe/Kyiv"
    calendars: Mapping[str | None, Calendar | None] = field(default_factory=dict)
    languages: tuple[str | None, ...] = ()
    region: str = "UA"
    number: int | None = None
    can_share_contact: bool = False
    #: half hours that a team can still promise, by its name; asked for only when a dialog comes to a time
    free: Mapping[str | None, Collection[int] | None] = field(default_factory=dict)
    free_known: bool = True


# --- what is remembered -------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A dialog between two messages. All of it is stored.

    `holds` is False for a small dialog beside a person who owns the inquiry. `substance` says that the customer told
    more than a greeting. `phase` is a step inside a node. `status` is active, handed_off or ended.
    """

    node: str
    language: str
    status: str = "active"
    answers: Mapping[str, Any] = field(default_factory=dict)
    phase: str = ""
    slots: tuple[int, ...] = ()
    misses: int = 0
    holds: bool = True
    substance: bool = False
    pinned: bool = False
    team: str | None = None
    phone: str | None = None
    booked: bool = False
    last_press: str = ""
    last_press_at: int = 0
    last_press_id: str | None = None


# --- what is wanted -----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Say:
    text: str
    buttons: Buttons = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Of the inquiry; None and empty mean no change. `tags`, `skills` and `fields` add to what is there.

    A `late` one comes when people own the inquiry already: it must not move what somebody works on.
    """

    kind: str | None = None
    priority: str | None = None
    team: str | None = None
    language: str | None = None
    topic: str | None = None
    tags: tuple[str, ...] = ()
    skills: Mapping[str, int] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    late: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AddPhone:
    """The customer wrote this number; nobody proved it."""

    e164: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """Promise a call. `at` None is as soon as possible; `asked_for` that the time is the customer's own wish. The
    service must answer with `Booked` or `NotBooked`.
    """

    phone: str
    at: int | None
    asked_for: bool
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOff:
    """Give the inquiry to people. `request` is the customer's own wording, if a text of his caused it."""

    reason: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    team: str | None = None
    request: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TellWait:
    """Say how long the wait for a person is, if he really waits and something honest can be said. `buttons` are for a
    wait that is long: a callback instead.
    """

    buttons: Buttons = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The dialog is over and so is the inquiry, with this outcome."""

    outcome: str


Action = Say | Change | AddPhone | Book | HandOff | TellWait | End
