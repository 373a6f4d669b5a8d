"""A hook server that treats requests as the product's edge does, without its database: what arrived is folded."""

from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientSession, web

from channels import get_channel
from channels.contract import (
    CallDecision,
    ChannelContext,
    InboxConfig,
    Malformed,
    RawRequest,
    SignatureRefused,
)
from crm_core import call_machine
from crm_core.call_machine import CallChange, CallState
from crm_core.envelope import Envelope, Kind

NOW = 1_795_305_914_000


@dataclass
class FrozenClock:
    now: int = NOW

    def now_ms(self) -> int:
        return self.now


def an_inbox(vendor: str = "generic", **config: Any) -> InboxConfig:
    return InboxConfig(
        id=5, key="hk", channel="telephony", name="Line", secret="s3cret", config={"vendor": vendor, **config}
    )


def a_request(body: bytes = b"", *, tail: str = "", at: int = NOW, **more: Any) -> RawRequest:
    url = f"https://desk.example/hooks/hk{tail}"
    return RawRequest(
        method="POST", url=url, headers=more.pop("headers", {}), body=body, received_at=at, **more
    )


@dataclass
class Hook:
    """Where a fake PBX posts to."""

    inbox: InboxConfig
    url: str = ""
    decision: CallDecision | None = None
    statuses: list[int] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    envelopes: dict[str, Envelope] = field(default_factory=dict)
    calls: dict[str, CallState] = field(default_factory=dict)
    changes: list[CallChange] = field(default_factory=list)
    asked: list[Envelope] = field(default_factory=list)
    fail_first: int = 0

    async def handle(self, request: web.Request) -> web.Response:
        if self.fail_first:
            self.fail_first -= 1
            return web.Response(status=503)
        channel = get_channel("telephony")
        raw = RawRequest(
            method=request.method,
            url=str(request.url),
            headers={name.lower(): value for name, value in request.headers.items()},
            body=await request.read(),
            content_type=request.content_type,
            query=dict(request.query),
            remote=request.remote or "",
            received_at=NOW,
        )
        try:
            channel.verify(raw, self.inbox)
            items = channel.split(raw, self.inbox)
        except (SignatureRefused, Malformed) as error:
            self.refusals.append(error.reason)
            return web.Response(status=401)
        asks = channel.asks_where(raw, self.inbox)
        if asks is not None:
            self.asked.append(asks)
        answer = channel.acknowledge(raw, self.inbox, self.decision if asks else None)
        for item in items:
            if item.dedupe_key in self.envelopes:
                continue
            for envelope in channel.parse(item, self.inbox):
                self.envelopes[item.dedupe_key] = envelope
                if envelope.kind is Kind.CALL and envelope.call is not None:
                    key = envelope.call.call_id
                    state, changes = call_machine.apply(
                        self.calls.get(key),
                        envelope.call,
                        occurred_at=envelope.occurred_at,
                        received_at=envelope.occurred_at,
                        inbox_id=self.inbox.id,
                    )
                    self.calls[key] = state
                    self.changes += changes
        self.statuses.append(answer.status)
        return web.Response(status=answer.status, text=answer.body, content_type=answer.content_type)

    @property
    def call(self) -> CallState:
        """The one call there was, after its grace."""
        (state,) = self.calls.values()
        return call_machine.settle(state, state.missed_check_at or 0)[0]

    def context(self, http: ClientSession) -> ChannelContext:
        base, _, _ = self.url.partition("/hooks/")
        return ChannelContext(http=http, clock=FrozenClock(), public_url=base)
