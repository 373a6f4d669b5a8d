"""The one contract behind which every channel stands, and the errors it may raise.

An adapter is stateless: everything it needs comes in as arguments. `verify`, `split` and `parse` are pure and run
on hostile input; `send`, `fetch`, `run` and `originate` talk to the outside and never touch the database.
The core owns contacts, threading, inquiries, retries, rates and storage.
"""

import asyncio
from abc import ABC
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import aiohttp

from crm_core.clock import Clock
from crm_core.envelope import Envelope, Outbound, SendResult


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxConfig:
    """A connected account as adapters see it. `config` has been validated against `spec.config_keys`."""

    id: int
    key: str  # random and public: part of the hook's URL
    channel: str
    name: str
    secret: str
    config: Mapping[str, Any]
    region: str = "UA"  # for numbers written without a country
    language: str = "en"


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRequest:
    """An HTTP request as received. `url` is the public URL the provider called, `headers` keys are lower case."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    content_type: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    remote: str = ""
    received_at: int = 0  # ms


@dataclass(frozen=True, slots=True, kw_only=True)
class RawItem:
    """One event cut out of a request, stored before anything reads it.

    `dedupe_key` is unique within the inbox. Items of one `lane` are processed one at a time, by (`order`, arrival).
    """

    dedupe_key: str
    lane: str
    body: bytes
    content_type: str = "application/json"
    order: int = 0
    meta: Mapping[str, str] = field(
        default_factory=dict
    )  # what parse needs of headers, e.g. envelope recipient
    received_at: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    status: int = 200
    body: str = ""
    content_type: str = "text/plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallWait:
    """What a caller whom nobody can take now may be told. Minutes are None where too little is known for a number."""

    text: str  # in the inbox's language, to be spoken; "" for nothing
    position: int
    low_min: int | None = None
    high_min: int | None = None
    offer_callback: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CallDecision:
    """Where to send a ringing call, from routing. Both None: the PBX's own default."""

    agent_id: int | None = None
    agent_ext: str | None = None
    agent_name: str | None = None
    queue: str | None = None
    customer_name: str | None = None
    vip: bool = False  # to be announced as one
    wait: CallWait | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginateRequest:
    correlation_id: str  # ours; comes back in call events where the vendor allows
    to_number: str  # E.164
    agent_ext: str | None
    caller_id: str | None = None  # our number to show
    customer_first: bool = False
    agent_ring_s: int = 20  # how long the agent's phone rings before somebody else is asked
    prompt: str | None = None  # customer-first: what the customer hears when he answers
    language: str = "en"


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginateResult:
    provider_call_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectRequest:
    """Give a call that waits with the PBX to an agent."""

    call_id: str  # the provider's
    agent_ext: str
    correlation_id: str | None = None
    outbound: bool = False  # we called the customer, who answered
    agent_ring_s: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelContext:
    """What adapters share in one process."""

    http: aiohttp.ClientSession
    clock: Clock
    public_url: str = ""


class InboundSink(Protocol):
    """Where pollers put what they got: rows and cursor are stored in one transaction before the poller goes on."""

    async def cursor(self) -> dict[str, Any]: ...
    async def store(self, items: Sequence[RawItem], *, cursor: dict[str, Any] | None = None) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSpec:
    key: str
    title: str
    config_keys: Mapping[str, str]  # name -> one line of what it is; names ending in "?" are optional
    secret_keys: frozenset[str] = frozenset()  # of config_keys: never shown again, never logged
    max_text: int = 4096  # what one outbound message holds before `send` splits it
    max_request_bytes: int = 4 * 1024 * 1024
    replies: bool = True  # can agents answer through it
    buttons: bool = False
    idempotent_send: bool = False
    offer_channel: str = "async"  # routing's channel: voice | chat | async
    reply_window_s: int | None = None
    rate_per_key: Mapping[str, float] = field(
        default_factory=dict
    )  # messages per second: {"account": 25, "chat": 1}


class ChannelError(Exception):
    """Root of what `send`, `fetch` and `originate` may raise; the class decides what the core does next."""

    def __init__(self, detail: str, *, sent_parts: int = 0, external_ids: tuple[str, ...] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        #: how many parts of a split message had left, with their ids, when this was raised
        self.sent_parts = sent_parts
        self.external_ids = external_ids


class Transient(ChannelError):
    """Try again later: network before the request left, 5xx."""

    def __init__(
        self,
        detail: str,
        *,
        retry_after_s: float | None = None,
        sent_parts: int = 0,
        external_ids: tuple[str, ...] = (),
    ) -> None:
        super().__init__(detail, sent_parts=sent_parts, external_ids=external_ids)
        self.retry_after_s = retry_after_s


class RateLimitedByProvider(Transient):
    """The provider said how long to wait; the whole account pauses for `retry_after_s`."""


class RecipientGone(ChannelError):
    """Blocked us, deactivated, mailbox unknown: the identity becomes unreachable."""


class ContentRejected(ChannelError):
    """This message will never pass; others may."""


class AuthFailed(ChannelError):
    """Our token or password is refused: the inbox needs an admin."""


class NotConfigured(ChannelError):
    """The inbox lacks what this action needs."""


class OutcomeUnknown(ChannelError):
    """The request left and no answer came, and the provider has no idempotency key: never resend by itself."""


class SignatureRefused(Exception):
    """The request is not proven to come from the provider. `reason` is for our log and quarantine, not the caller."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Malformed(Exception):
    """A proven request that cannot be cut into items; stored whole in quarantine."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Channel(ABC):
    """Base of all adapters. A method that a channel does not have keeps the default, which says so clearly."""

    spec: ClassVar[ChannelSpec]

    def check(self, config: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with values of a configuration, by key; an admin is told when he writes it. Pure."""
        return {}

    def verify(self, request: RawRequest, inbox: InboxConfig) -> HttpAnswer | None:
        """Prove the sender from the raw bytes. Raises SignatureRefused.

        Returns an answer if the request was a provider's challenge (nothing to store), else None.
        """
        raise SignatureRefused("this channel has no webhook")

    def split(self, request: RawRequest, inbox: InboxConfig) -> list[RawItem]:
        """Cut a verified request into items. Raises Malformed; never anything else."""
        raise Malformed("this channel has no webhook")

    def acknowledge(
        self, request: RawRequest, inbox: InboxConfig, decision: CallDecision | None
    ) -> HttpAnswer:
        """The exact answer the provider wants after the items are stored."""
        return HttpAnswer()

    def refuse(self, inbox: InboxConfig, status: int, reason: str) -> HttpAnswer:
        """How an error is said to this provider. The default is a problem document (made by the edge)."""
        return HttpAnswer(status=status, body=reason)

    def asks_where(self, request: RawRequest, inbox: InboxConfig) -> Envelope | None:
        """The ringing call this request asks us to direct, or None. Telephony only."""
        return None

    def parse(self, item: RawItem, inbox: InboxConfig) -> list[Envelope]:
        """Pure and total: never raises on any bytes, returns UNSUPPORTED envelopes on surprise. Raises Malformed
        only where the bytes hold nothing that a person could be shown; the row is then quarantined.
        """
        raise NotImplementedError

    async def run(
        self, inbox: InboxConfig, sink: InboundSink, ctx: ChannelContext, stop: asyncio.Event
    ) -> None:
        """Poll or listen until `stop` is set. One owner at a time by lease. Returns at once if not configured."""
        return

    async def send(self, outbound: Outbound, inbox: InboxConfig, ctx: ChannelContext) -> SendResult:
        """Deliver. Raises one of the ChannelErrors, nothing else."""
        raise NotConfigured(f"{self.spec.key} cannot send")

    async def answer_action(
        self, envelope_data: Mapping[str, Any], inbox: InboxConfig, ctx: ChannelContext
    ) -> bool:
        """Tell the channel that a pressed button was heard, where it wants that. Never raises."""
        return False

    async def prepare(self) -> None:
        """Load what sending needs (an SDK) before a message is marked as leaving; cheap after the first time."""
        return

    async def close(self) -> None:
        """End what this adapter keeps open in the running loop. Called when the process stops."""
        return

    def fetch(self, ref: str, inbox: InboxConfig, ctx: ChannelContext) -> AsyncIterator[bytes]:
        """Stream an attachment's bytes. Raises ChannelErrors."""
        raise NotConfigured(f"{self.spec.key} has no files to fetch")

    async def originate(
        self, request: OriginateRequest, inbox: InboxConfig, ctx: ChannelContext
    ) -> OriginateResult:
        raise NotConfigured(f"{self.spec.key} cannot dial")

    async def connect(self, request: ConnectRequest, inbox: InboxConfig, ctx: ChannelContext) -> None:
        """Ring an agent and connect him with a call that waits. Raises ChannelErrors."""
        raise NotConfigured(f"{self.spec.key} cannot connect calls")

    async def set_up(self, inbox: InboxConfig, ctx: ChannelContext) -> None:
        """Tell the provider where to post (setWebhook …). Idempotent."""
        return

    async def health(self, inbox: InboxConfig, ctx: ChannelContext) -> dict[str, Any]:
        """Facts for the health page: `{"ok": bool, "detail": str, ...}`. Never raises."""
        return {"ok": True, "detail": ""}
