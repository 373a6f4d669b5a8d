"""The normalized inbound happening, and the outbound message: what channels and the core say to each other.

Adapters translate a provider's payload into envelopes (pure, total); the core never sees provider formats.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

ENVELOPE_VERSION = 1


class Kind(StrEnum):
    MESSAGE = "message"
    EDIT = "edit"
    DELETE = "delete"
    REACTION = "reaction"
    ACTION = "action"  # a pressed button; `text` is its label if known, `data["value"]` the value
    CALL = "call"
    DELIVERY_STATUS = "delivery_status"
    TYPING = "typing"
    READ = "read"
    IDENTITY = "identity"  # the sender proved or claimed an address, nothing was said
    MEMBERSHIP = "membership"  # blocked or unblocked us; `data["reachable"]` is a bool
    SYSTEM = "system"
    UNSUPPORTED = "unsupported"  # shown as a card "unsupported: <data['what']>", never dropped


class IdentityKind(StrEnum):
    PHONE = "phone"  # value is E.164
    EMAIL = "email"  # value has a lower-cased domain and, for matching, local part
    TELEGRAM = "telegram"  # value is the numeric user id
    VISITOR = "visitor"  # a web chat visitor; account is the inbox key
    EXTERNAL = "external"  # subject of a signed web identity; account is the inbox key


class Auto(StrEnum):
    """Who or what wrote it, as far as the channel can tell (channels.md §2.6)."""

    HUMAN = "human"
    AUTO_REPLY = "auto_reply"
    BULK = "bulk"
    BOUNCE = "bounce"
    OWN = "own"  # our own message came back


@dataclass(frozen=True, slots=True)
class IdentityClaim:
    """One address the sender has. `verified` means the channel proved it belongs to this person.

    `evidence` names the proof or its lack: `channel_account`, `contact_share`, `caller_id`, `from_header`,
    `envelope_sender`, `jwt`, `form`, `pre_chat`, `reply_token`.
    """

    kind: IdentityKind
    value: str
    verified: bool = False
    evidence: str = "channel_account"
    account: str = ""


@dataclass(frozen=True, slots=True)
class Sender:
    """The first identity is the one the channel addresses; further ones are facts about the same person."""

    identities: tuple[IdentityClaim, ...] = ()
    display_name: str | None = None
    locale: str | None = None
    is_bot: bool = False
    is_agent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundAttachment:
    """A file that came with an envelope. Either `content` is here already (email) or `provider_ref` says how to
    fetch it later (`Channel.fetch`). `refused` names why it will never be stored, e.g. `too_big`.
    """

    name: str
    mime: str
    size: int | None = None
    provider_ref: str | None = None
    content: bytes | None = None
    inline_cid: str | None = None
    refused: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEvent:
    """One leg's step, channels.md §3.2. `final` marks the provider's last word on the call."""

    call_id: str
    leg_id: str
    parent_leg_id: str | None = None
    direction: str = "inbound"  # inbound | outbound | internal | callback
    from_number: str | None = None  # E.164, or None if withheld or unreadable
    from_raw: str = ""
    to_number: str | None = None
    to_raw: str = ""
    did: str | None = None
    agent_ext: str | None = None
    agent_leg: bool = False  # this leg is one of our people's, not the customer's
    queue: str | None = None
    state: str = (
        "initiated"  # initiated | ringing | answered | held | transferred | ended | recording_ready | note
    )
    seq: int | None = None
    cause: str | None = None
    disposition: str | None = None
    final: bool = False
    talk_sec: int | None = None
    wait_sec: int | None = None
    recording_url: str | None = None
    recording_ref: str | None = None
    correlation_id: str | None = None
    display_name: str | None = None
    # What the caller asked for by pressing keys: callback (keep my place and call me) | snooze (call me later).
    request: str | None = None
    request_number: str | None = None  # as typed; None is the number he calls from
    request_minutes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadHints:
    reply_token: str | None = None
    message_ids: tuple[
        str, ...
    ] = ()  # strongest first: In-Reply-To, then References from the last to the first
    subject_token: str | None = None
    start_payload: str | None = None  # Telegram deep link


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    kind: Kind
    dedupe_key: str
    conversation_key: str
    sender: Sender
    occurred_at: int  # ms, provider's time; equals received_at where the provider gives none
    provider_message_id: str | None = None
    reply_to: str | None = None  # provider's id of the message answered
    seq: int | None = None
    recipient: str | None = None
    subject: str | None = None
    text: str = ""
    quoted_text: str | None = None  # cut from the text, kept collapsed
    html: str | None = None  # sanitised
    attachments: tuple[InboundAttachment, ...] = ()
    call: CallEvent | None = None
    thread: ThreadHints = field(default_factory=ThreadHints)
    auto: Auto = Auto.HUMAN
    wants_kind: str | None = None  # ticket | lead, where the payload itself decides (forms)
    fields: dict[str, Any] = field(default_factory=dict)  # form answers, utm, page …
    data: dict[str, Any] = field(default_factory=dict)  # what the kind needs beyond this
    auth: dict[str, str] = field(default_factory=dict)
    parse_warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Button:
    """A choice shown under a message. `value` comes back in an ACTION envelope; `request` = "contact" asks the
    channel for the customer's own phone number where it can (Telegram).
    """

    label: str
    value: str = ""
    request: str | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundFile:
    name: str
    mime: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbound:
    """One message to deliver. `ref` is stable over retries: channels that can, use it for idempotency.

    `sent_parts` tells how many parts of a split message left in an earlier try and must not leave again.
    """

    ref: str
    message_id: int
    conversation_key: str
    to: str  # the customer's address in this channel
    text: str
    html: str | None = None
    subject: str | None = None
    files: tuple[OutboundFile, ...] = ()
    buttons: tuple[tuple[Button, ...], ...] = ()  # rows
    reply_to: str | None = None  # provider's id
    references: tuple[str, ...] = ()  # email thread, oldest first
    reply_token: str | None = None
    author_name: str | None = None
    automatic: bool = False  # written by a bot or a rule, not by a person
    language: str = "en"
    sent_parts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SendResult:
    """`state` is `sent` (accepted by the provider) or `delivered` where the channel knows more. `moved_to` is the
    conversation's new key, if the provider said that it goes on elsewhere.
    """

    external_ids: tuple[str, ...]
    state: str = "sent"
    moved_to: str | None = None
