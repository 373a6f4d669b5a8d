"""The generic signed call webhook: any PBX that can POST JSON (docs/channels/telephony.md has the fields).

Accepts two spellings of one event: our documented form, and the flat one a SIP proxy script can build (states
of the SIP dialog with `sip_code` and `duration`). Owns reading both, signing rules, the answer to "where to?"
and asking a PBX's own HTTP address to dial.
"""

import base64
import hashlib
import hmac
import json
from typing import Any

from typing_extensions import override

from channels import wire
from channels.contract import (
    AuthFailed,
    CallDecision,
    ChannelContext,
    ConnectRequest,
    ContentRejected,
    HttpAnswer,
    InboxConfig,
    Malformed,
    OriginateRequest,
    OriginateResult,
    RawItem,
    RawRequest,
    SignatureRefused,
)
from channels.telephony import causes, vendor
from crm_core.envelope import CallEvent, Envelope

MAX_EVENTS = 500
_DIRECTIONS = frozenset({"inbound", "outbound", "internal", "callback"})
_STATES = frozenset(
    {"initiated", "ringing", "answered", "held", "transferred", "ended", "failed", "recording_ready", "note"}
)


class GenericVendor(vendor.Vendor):
    @override
    def verify(self, request: RawRequest, inbox: InboxConfig) -> None:
        if request.method != "POST":
            raise SignatureRefused(f"{request.method} instead of POST")
        wire.check_signed(request, inbox.secret, needs_time=wire.flag(inbox.config.get("require_timestamp")))

    @override
    def split(self, request: RawRequest, inbox: InboxConfig) -> list[RawItem]:
        events = _events(request)
        header_id = wire.text(request.headers.get("x-event-id"), 200)
        items = []
        for index, event in enumerate(events):
            call_id = wire.text(event.get("call_id"), 200)
            state = wire.text(event.get("state"), 40)
            if len(events) == 1 and (call_id is None or state is None):
                raise Malformed(f"{'call_id' if call_id is None else 'state'} is missing")
            body = wire.dump(event)
            # The body's id is under the signature, the header's is not: it only serves where there is no
            # other.
            event_id = wire.text(event.get("event_id"), 200)
            if event_id is None and header_id is not None:
                event_id = header_id if len(events) == 1 else f"{header_id}:{index}"
            if event_id is None:
                leg = wire.text(event.get("leg_id"), 200) or call_id or ""
                event_id = wire.digest(
                    leg, state or "", str(event.get("at")), b"" if state in _STATES else body
                )
            items.append(
                RawItem(
                    dedupe_key=f"call:{event_id}",
                    lane=f"call:{call_id or wire.digest(body)}",
                    order=wire.integer(event.get("seq")) or 0,
                    body=body,
                    received_at=request.received_at,
                )
            )
        return items

    @override
    def parse(self, item: RawItem, inbox: InboxConfig) -> list[Envelope]:
        event = wire.json_object(item.body)
        call_id = wire.text(event.get("call_id"), 200)
        state = wire.text(event.get("state"), 40)
        if call_id is None:
            return [vendor.unsupported(item, "a call event without call_id")]
        if state is None or state not in _STATES:
            return [vendor.unsupported(item, f"call state {state!r}")]
        at = wire.instant(event.get("at"))
        return [vendor.call_envelope(item, _call_event(event, call_id, state, inbox), at)]

    @override
    def asks_where(self, request: RawRequest, inbox: InboxConfig) -> Envelope | None:
        events = _events(request)
        asked = wire.flag(request.query.get("ask"))
        for item, event in zip(self.split(request, inbox), events, strict=True):
            if event.get("state") == "ringing" and (asked or wire.flag(event.get("ask"))):
                return self.parse(item, inbox)[0]
        return None

    @override
    def acknowledge(
        self, request: RawRequest, inbox: InboxConfig, decision: CallDecision | None
    ) -> HttpAnswer:
        if self.asks_where(request, inbox) is None:
            return HttpAnswer(status=200, body='{"ok":true}', content_type="application/json")
        answer: dict[str, Any] = {"route": None}
        if decision is not None:
            if decision.agent_ext is not None or decision.queue is not None:
                answer["route"] = {
                    "agent_ext": decision.agent_ext,
                    "agent": decision.agent_name,
                    "queue": decision.queue,
                }
            if decision.customer_name is not None:
                answer["customer"] = {"name": decision.customer_name}
                if decision.vip:
                    answer["customer"]["vip"] = True
            if decision.wait is not None:
                wait = decision.wait
                answer["wait"] = {
                    "text": wait.text, "position": wait.position, "low_min": wait.low_min, "high_min": wait.high_min,
                    "offer_callback": wait.offer_callback,
                }  # fmt: skip
        return HttpAnswer(
            status=200, body=json.dumps(answer, ensure_ascii=False), content_type="application/json"
        )

    @override
    def refuse(self, status: int, reason: str) -> HttpAnswer:
        return HttpAnswer(
            status=status,
            body=json.dumps({"ok": False, "error": reason}, ensure_ascii=False),
            content_type="application/json",
        )

    @override
    async def originate(
        self, request: OriginateRequest, inbox: InboxConfig, ctx: ChannelContext
    ) -> OriginateResult:
        """POST `{correlation_id, to, agent_ext, caller_id, customer_first, agent_ring_s, prompt, language}` to
        `originate_url`, signed with the inbox's secret over `timestamp.body` in the way we want to be signed to. The
        PBX answers 2xx, with `{"call_id": …}` if it knows one; 409 means it has this correlation id already, which is
        a success. Customer-first has no `agent_ext`: who takes the customer is told to `connect_url` once he answers.
        """
        told = await _command(
            vendor.required(inbox, "originate_url"),
            {
                "correlation_id": request.correlation_id,
                "to": request.to_number,
                "agent_ext": request.agent_ext,
                "caller_id": request.caller_id or vendor.setting(inbox, "caller_id"),
                "customer_first": request.customer_first,
                "agent_ring_s": request.agent_ring_s,
                "prompt": request.prompt,
                "language": request.language,
            },
            request.correlation_id,
            inbox,
            ctx,
        )
        return OriginateResult(provider_call_id=wire.text(told.get("call_id"), 200))

    @override
    async def connect(self, request: ConnectRequest, inbox: InboxConfig, ctx: ChannelContext) -> None:
        """POST `{call_id, correlation_id, agent_ext, agent_ring_s}` to `connect_url`, signed alike. The PBX rings the
        extension and joins it to the waiting call; 409 means that the call waits no more.
        """
        await _command(
            vendor.required(inbox, "connect_url"),
            {
                "call_id": request.call_id,
                "correlation_id": request.correlation_id,
                "agent_ext": request.agent_ext,
                "agent_ring_s": request.agent_ring_s,
            },
            f"connect:{request.call_id}:{request.agent_ext}",
            inbox,
            ctx,
        )


async def _command(
    url: str, command: dict[str, Any], event_id: str, inbox: InboxConfig, ctx: ChannelContext
) -> dict[str, Any]:
    """POST one signed command. Returns what the PBX tells; raises the ChannelError that its answer means."""
    body = wire.dump(command)
    stamp = str(ctx.clock.now_ms() // 1000)
    mac = hmac.new(inbox.secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).digest()
    reply = await vendor.post(
        ctx,
        url,
        body=body,
        headers={
            "Content-Type": "application/json",
            "X-Timestamp": stamp,
            "X-Event-Id": event_id,
            "X-Signature": base64.urlsafe_b64encode(mac).rstrip(b"=").decode(),
        },
    )
    if reply.status in {401, 403}:
        raise AuthFailed(f"the PBX refused our signature: {reply.status}")
    if reply.status not in {200, 201, 202, 204, 409}:
        raise ContentRejected(f"the PBX refused to dial: {reply.status} {_reason(reply.body)}")
    try:
        return wire.json_object(reply.body) if reply.body else {}
    except Malformed:
        return {}


def _events(request: RawRequest) -> list[dict[str, Any]]:
    whole = wire.json_object(request.body)
    events = whole.get("events", [whole])
    if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
        raise Malformed("events must be a list of objects")
    if len(events) > MAX_EVENTS:
        raise Malformed(f"{len(events)} events in one request; at most {MAX_EVENTS}")
    return events


def _call_event(event: dict[str, Any], call_id: str, state: str, inbox: InboxConfig) -> CallEvent:
    leg_id = wire.text(event.get("leg_id"), 200) or call_id
    our = vendor.number(inbox.config.get("number"), inbox)
    from_number, to_number = (
        vendor.number(event.get("from"), inbox),
        vendor.number(event.get("to"), inbox),
    )
    direction = wire.text(event.get("direction"), 20)
    if direction not in _DIRECTIONS:
        direction = "outbound" if our is not None and from_number == our else "inbound"
    did = vendor.number(event.get("did"), inbox) or our
    if did is None:
        did = to_number if direction == "inbound" else from_number
    agent_ext = wire.text(event.get("agent_ext"), 64)
    agent_leg = (
        wire.flag(event["agent_leg"]) if "agent_leg" in event else bool(agent_ext) and leg_id != call_id
    )
    sip_code = wire.integer(event.get("sip_code"), high=999)
    cause = wire.text(event.get("cause"), 64) or (str(sip_code) if sip_code is not None else None)
    disposition = causes.of_word(wire.text(event.get("disposition"), 40))
    talk_sec = wire.integer(event.get("talk_sec"))
    if state == "failed":
        # A dialog that never was confirmed: its SIP status says why.
        disposition = disposition or causes.of_sip(sip_code) or causes.FAILED
    elif state == "ended":
        duration = wire.integer(event.get("duration"))
        if talk_sec is None:
            talk_sec = duration
        numeric = wire.integer(event.get("cause"), high=999)
        disposition = (
            disposition or causes.of_cause(numeric) or causes.of_word(wire.text(event.get("cause"), 40))
        )
        if disposition is None and duration is not None and "leg_id" not in event:
            # A dialog ends only after it was confirmed (see the SIP proxy's example); before that it fails.
            disposition = causes.ANSWERED
    return CallEvent(
        call_id=call_id,
        leg_id=leg_id,
        parent_leg_id=wire.text(event.get("parent_leg_id"), 200),
        direction=direction,
        from_number=from_number,
        from_raw=wire.text(event.get("from"), 200) or "",
        to_number=to_number,
        to_raw=wire.text(event.get("to"), 200) or "",
        did=did,
        agent_ext=agent_ext,
        agent_leg=agent_leg,
        queue=wire.text(event.get("queue"), 100),
        state="ended" if state == "failed" else state,
        seq=wire.integer(event.get("seq")),
        cause=cause if state in {"ended", "failed"} or "cause" in event else None,
        disposition=disposition,
        final=wire.flag(event.get("final")),
        talk_sec=talk_sec,
        wait_sec=wire.integer(event.get("wait_sec")),
        recording_url=_web_address(event.get("recording_url")),
        recording_ref=wire.text(event.get("recording_ref"), 500),
        correlation_id=wire.text(event.get("correlation_id"), 80),
        display_name=wire.text(event.get("name"), 120),
        request=_wish(event),
        request_number=wire.text(event.get("callback_number"), 40),
        request_minutes=wire.integer(event.get("minutes"), high=1440),
    )


def _wish(event: dict[str, Any]) -> str | None:
    """What the caller asked for by keys, as the PBX's menu understood it: `request` is callback or snooze."""
    wish = wire.text(event.get("request"), 20)
    return wish if wish in {"callback", "snooze"} else None


def _web_address(value: Any) -> str | None:
    url = wire.text(value, 2000)
    return url if url is not None and url.startswith(("https://", "http://")) else None


def _reason(body: bytes) -> str:
    try:
        told = wire.json_object(body)
    except Malformed:
        return ""
    return wire.text(told.get("error") or told.get("detail"), 200) or ""
