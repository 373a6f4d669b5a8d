"""What every telephony vendor must do, and what they share: numbers, envelopes and dialling over HTTP.

A vendor reads and writes one provider's dialect. It never decides where a call goes and never folds events:
that is routing's and `crm_core.call_machine`'s business.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import aiohttp

from channels import wire
from channels.contract import (
    CallDecision,
    ChannelContext,
    ConnectRequest,
    HttpAnswer,
    InboxConfig,
    NotConfigured,
    OriginateRequest,
    OriginateResult,
    OutcomeUnknown,
    RateLimitedByProvider,
    RawItem,
    RawRequest,
    Transient,
)
from crm_core.envelope import CallEvent, Envelope, IdentityClaim, IdentityKind, Kind, Sender
from crm_core.phone import normalize

#: A PBX that has not answered in this time has an unknown outcome: we never dial twice by ourselves.
ORIGINATE_TIMEOUT_S = 15.0
_MAX_ANSWER_BYTES = 64 * 1024


class Vendor(Protocol):
    """The telephony half of `channels.contract.Channel`, for one provider."""

    def verify(self, request: RawRequest, inbox: InboxConfig) -> None: ...
    def split(self, request: RawRequest, inbox: InboxConfig) -> list[RawItem]: ...
    def acknowledge(
        self, request: RawRequest, inbox: InboxConfig, decision: CallDecision | None
    ) -> HttpAnswer: ...
    def asks_where(self, request: RawRequest, inbox: InboxConfig) -> Envelope | None: ...
    def parse(self, item: RawItem, inbox: InboxConfig) -> list[Envelope]: ...
    def refuse(self, status: int, reason: str) -> HttpAnswer: ...
    async def originate(
        self, request: OriginateRequest, inbox: InboxConfig, ctx: ChannelContext
    ) -> OriginateResult: ...
    async def connect(self, request: ConnectRequest, inbox: InboxConfig, ctx: ChannelContext) -> None: ...


def setting(inbox: InboxConfig, name: str) -> str | None:
    """A configured text, or None."""
    return wire.text(inbox.config.get(name), 2000)


def required(inbox: InboxConfig, name: str) -> str:
    """A configured text. Raises NotConfigured with the name of what is missing."""
    value = setting(inbox, name)
    if value is None:
        raise NotConfigured(f"{name} is not set")
    return value


def number(raw: Any, inbox: InboxConfig, *, international: bool = False) -> str | None:
    """E.164 of a number as the provider writes it, or None if withheld, internal or unreadable.

    `international` is the rule of providers that always leave the plus out: their digits are read as
    international first, because 84951234567 is Vietnam for them and Moscow for a Russian's eye.
    """
    written = wire.text(raw, 200)
    if written is None:
        return None
    if international and written.isdecimal() and len(written) >= 11:
        found = normalize(f"+{written}", "")
        if found is not None:
            return found.e164
    found = normalize(written, inbox.region)
    return found.e164 if found is not None else None


def call_envelope(item: RawItem, event: CallEvent, occurred_at: int | None) -> Envelope:
    """The envelope around one call event: keyed by the customer's number, who is claimed but never proven."""
    customer = customer_of(event)
    claims: tuple[IdentityClaim, ...] = ()
    if customer is not None:
        claims = (IdentityClaim(IdentityKind.PHONE, customer, verified=False, evidence="caller_id"),)
    return Envelope(
        kind=Kind.CALL,
        dedupe_key=item.dedupe_key,
        conversation_key=customer or f"withheld:{event.call_id}",
        sender=Sender(identities=claims, display_name=event.display_name),
        occurred_at=occurred_at if occurred_at is not None else item.received_at,
        provider_message_id=event.call_id,
        seq=event.seq,
        recipient=event.did,
        call=event,
        auth={"signature": "ok"},
        parse_warnings=() if occurred_at is not None else ("no time given: arrival time used",),
    )


def unsupported(item: RawItem, what: str) -> Envelope:
    """What we cannot read is set aside for people to look at. It is nobody's request: no customer spoke."""
    return Envelope(
        kind=Kind.UNSUPPORTED,
        dedupe_key=item.dedupe_key,
        conversation_key=item.lane,
        sender=Sender(),
        occurred_at=item.received_at,
        data={"what": what, "quarantine": what},
        auth={"signature": "ok"},
    )


def passing(item: RawItem, what: str) -> Envelope:
    """Of no use to us and no surprise: the raw row stays, and nothing else comes of it."""
    return replace(unsupported(item, what), kind=Kind.SYSTEM, data={"what": what})


def customer_of(event: CallEvent) -> str | None:
    """The outside party's E.164: who called us, or whom we called."""
    if event.direction == "internal":
        return None
    customer = event.from_number if event.direction == "inbound" else event.to_number
    return None if customer is not None and customer == event.did else customer


@dataclass(frozen=True, slots=True)
class Reply:
    """A PBX's answer to our command."""

    status: int
    body: bytes
    retry_after_s: float | None


async def post(
    ctx: ChannelContext,
    url: str,
    *,
    form: Mapping[str, str] | list[tuple[str, str]] | None = None,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """POST a dialling command once. Raises Transient only if the request surely never left us, else
    OutcomeUnknown: a second dial would ring a customer twice. 429 and 5xx become
    RateLimitedByProvider/Transient.
    """
    timeout = aiohttp.ClientTimeout(total=ORIGINATE_TIMEOUT_S, connect=5.0)
    try:
        async with ctx.http.post(
            url,
            data=form if body is None else body,
            headers=headers,
            timeout=timeout,
            allow_redirects=False,
        ) as response:
            reply = Reply(
                response.status,
                await response.content.read(_MAX_ANSWER_BYTES),
                _seconds(response.headers.get("Retry-After")),
            )
    except (aiohttp.InvalidURL, ValueError) as error:
        raise NotConfigured(f"the PBX address is not a URL: {error}") from error
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise Transient(f"the PBX cannot be reached: {type(error).__name__}") from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise OutcomeUnknown(f"the PBX did not answer the command: {type(error).__name__}") from error
    if reply.status == 429:
        raise RateLimitedByProvider("the PBX asks to slow down", retry_after_s=reply.retry_after_s or 1.0)
    if reply.status == 504:
        # A gateway that lost patience: the command may well be running behind it.
        raise OutcomeUnknown("a gateway before the PBX timed out")
    if reply.status >= 500:
        raise Transient(f"the PBX answered {reply.status}", retry_after_s=reply.retry_after_s)
    return reply


def _seconds(header: str | None) -> float | None:
    whole = wire.integer(header, high=86_400)
    return float(whole) if whole is not None else None
