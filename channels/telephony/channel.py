"""Telephone calls: one adapter that speaks with several PBX vendors.

Owns choosing the vendor and the channel's spec. The dialects are in the modules beside it.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from typing_extensions import override

from channels import wire
from channels.contract import (
    CallDecision,
    Channel,
    ChannelContext,
    ChannelSpec,
    ConnectRequest,
    HttpAnswer,
    InboxConfig,
    Malformed,
    NotConfigured,
    OriginateRequest,
    OriginateResult,
    RawItem,
    RawRequest,
    SignatureRefused,
)
from channels.telephony.generic import GenericVendor
from channels.telephony.mango import MangoVendor
from channels.telephony.twilio import TwilioVendor
from channels.telephony.vendor import Vendor, unsupported
from crm_core.envelope import Envelope

_VENDORS: dict[str, Vendor] = {
    "generic": GenericVendor(),
    "twilio": TwilioVendor(),
    "mango": MangoVendor(),
}
#: What each vendor cannot work without.
_NEEDS = {
    "generic": (),
    "twilio": ("account_sid", "auth_token"),
    "mango": ("vpbx_api_key", "vpbx_salt"),
}


class TelephonyChannel(Channel):
    spec: ClassVar[ChannelSpec] = ChannelSpec(
        key="telephony",
        title="Telephony",
        config_keys={
            "vendor": "which PBX: generic, twilio or mango",
            "number?": "our own number that customers dial, E.164",
            "caller_id?": "our number to show when we call out; `number` if empty",
            "require_timestamp?": "generic: refuse webhooks without X-Timestamp (replay protection)",
            "originate_url?": "generic: where to POST a request to dial",
            "connect_url?": "generic: where to POST which agent takes a waiting call; then callers wait in our queue",
            "account_sid?": "twilio: AC…",
            "auth_token?": "twilio: signs webhooks and opens the API",
            "sip_domain?": "twilio: agents' SIP domain; without it extensions are client names",
            "default_queue?": "twilio: queue for calls that routing does not direct",
            "callback_offer?": "twilio: said before the queue, such as: press 1 and we call you back at your turn",
            "fallback_number?": "twilio: number to dial for calls that routing does not direct",
            "ring_seconds?": "twilio: how long an agent's phone rings, 5 to 120; 20 if empty",
            "api_base?": "twilio, mango: address of the API, without a slash at the end",
            "vpbx_api_key?": "mango: the product's unique code",
            "vpbx_salt?": "mango: the key for signatures",
            "mango_utc_offset?": "mango: hours that its Unix times run ahead of UTC; 0 if empty",
            "mango_ips?": "mango: addresses webhooks may come from, by commas; any if empty",
        },
        secret_keys=frozenset({"auth_token", "vpbx_api_key", "vpbx_salt"}),
        max_request_bytes=256 * 1024,
        replies=False,
        offer_channel="voice",
    )

    @override
    def check(self, config: Mapping[str, Any]) -> dict[str, str]:
        name = wire.text(config.get("vendor")) or ""
        if name not in _VENDORS:
            return {"vendor": f"must be one of {', '.join(_VENDORS)}"}
        return {key: f"{name} cannot work without it" for key in _NEEDS[name] if not config.get(key)}

    @override
    def verify(self, request: RawRequest, inbox: InboxConfig) -> HttpAnswer | None:
        try:
            _vendor(inbox).verify(request, inbox)
        except (NotConfigured, Malformed) as error:
            raise SignatureRefused(str(error.args[0]) if error.args else "not provable") from error
        return None

    @override
    def split(self, request: RawRequest, inbox: InboxConfig) -> list[RawItem]:
        try:
            return _vendor(inbox).split(request, inbox)
        except NotConfigured as error:
            raise Malformed(error.detail) from error

    @override
    def parse(self, item: RawItem, inbox: InboxConfig) -> list[Envelope]:
        try:
            return _vendor(inbox).parse(item, inbox)
        except Malformed as error:
            return [unsupported(item, f"unreadable call event: {error.reason}")]
        except NotConfigured as error:
            raise Malformed(error.detail) from error

    @override
    def asks_where(self, request: RawRequest, inbox: InboxConfig) -> Envelope | None:
        try:
            return _vendor(inbox).asks_where(request, inbox)
        except (NotConfigured, Malformed):
            return None

    @override
    def acknowledge(
        self, request: RawRequest, inbox: InboxConfig, decision: CallDecision | None
    ) -> HttpAnswer:
        try:
            return _vendor(inbox).acknowledge(request, inbox, decision)
        except (NotConfigured, Malformed):
            # The items are stored by now; whatever is wrong with the rest must not make the provider repeat.
            return HttpAnswer()

    @override
    def refuse(self, inbox: InboxConfig, status: int, reason: str) -> HttpAnswer:
        try:
            return _vendor(inbox).refuse(status, reason)
        except NotConfigured:
            return super().refuse(inbox, status, reason)

    @override
    async def originate(
        self, request: OriginateRequest, inbox: InboxConfig, ctx: ChannelContext
    ) -> OriginateResult:
        """Ask the PBX to connect an agent and a customer. Raises ChannelErrors: NotConfigured, AuthFailed,
        ContentRejected (this number will never be dialled), Transient, OutcomeUnknown (it may be ringing).
        """
        return await _vendor(inbox).originate(request, inbox, ctx)

    @override
    async def connect(self, request: ConnectRequest, inbox: InboxConfig, ctx: ChannelContext) -> None:
        """Ring an agent for a call that waits. Raises ChannelErrors as `originate`."""
        await _vendor(inbox).connect(request, inbox, ctx)

    @override
    async def health(self, inbox: InboxConfig, ctx: ChannelContext) -> dict[str, Any]:
        try:
            _vendor(inbox)
        except NotConfigured as error:
            return {"ok": False, "detail": error.detail}
        name = wire.text(inbox.config.get("vendor")) or ""
        missing = [key for key in _NEEDS[name] if not wire.text(inbox.config.get(key))]
        if missing:
            return {"ok": False, "detail": f"not set: {', '.join(missing)}"}
        dials = name != "generic" or wire.text(inbox.config.get("originate_url")) is not None
        return {"ok": True, "detail": "" if dials else "no originate_url: calls out are dialled by hand"}


def _vendor(inbox: InboxConfig) -> Vendor:
    name = wire.text(inbox.config.get("vendor")) or ""
    try:
        return _VENDORS[name]
    except KeyError:
        raise NotConfigured(f"vendor must be one of {', '.join(_VENDORS)}, not {name!r}") from None
