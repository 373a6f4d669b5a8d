"""Mango Office's cloud PBX: signed form posts of JSON, events in any order, commands to dial.

API: https://www.mango-office.ru/support/integratsiya-api/ (manual "API VPBX"). Facts that shaped this module:
the signature is a plain SHA-256 over key + JSON text as received + salt; one call (`entry_id`) has many legs
(`call_id`) whose events are ordered by `seq` only; numbers come without the plus; `summary` is the last word
on a call; errors of commands are numbers in a JSON answer with status 200.
"""

import hashlib
import hmac
import ipaddress
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
    NotConfigured,
    OriginateRequest,
    OriginateResult,
    OutcomeUnknown,
    RateLimitedByProvider,
    RawItem,
    RawRequest,
    SignatureRefused,
    Transient,
)
from channels.telephony import causes, vendor
from crm_core.clock import HOUR
from crm_core.envelope import CallEvent, Envelope, Kind, Sender

API_BASE = "https://app.mango-office.ru/vpbx"
_STATES = {"Appeared": "ringing", "Connected": "answered", "OnHold": "held", "Disconnected": "ended"}
_DIRECTIONS = {0: "internal", 1: "inbound", 2: "outbound"}
#: what tells the posts apart where the last part of the address is missing: one address for all of them
_TELLING = (
    ("call_state", "events/call"),
    ("entry_result", "events/summary"),
    ("recording_id", "events/record/added"),
)
#: told by Mango as a matter of course, of no use to us
_PASSING = frozenset({"events/dtmf", "events/recording", "events/record/tagged"})
_OK = 1000
_OVERLOADED = 5001
_BAD_KEY = frozenset({3102, 3105})
#: The menu's or queue's leg ended because the call went on to a person: not an end of anything for us.
_HANDED_ON = frozenset({1170, 1182, 1183})


class MangoVendor(vendor.Vendor):
    @override
    def verify(self, request: RawRequest, inbox: InboxConfig) -> None:
        key, salt = (
            wire.text(inbox.config.get("vpbx_api_key"), 200),
            wire.text(inbox.config.get("vpbx_salt"), 200),
        )
        if key is None or salt is None:
            raise SignatureRefused("vpbx_api_key or vpbx_salt is not set")
        allowed = wire.text(inbox.config.get("mango_ips"), 2000)
        if allowed is not None and not _is_among(request.remote, allowed):
            raise SignatureRefused(f"{request.remote or 'an unknown address'} is not in mango_ips")
        form = dict(wire.form_pairs(request.body))
        # Both are compared whatever the first says, so that the time tells nothing.
        same_key = _same(form.get("vpbx_api_key", ""), key)
        same_sign = _same(form.get("sign", "").lower(), sign(key, form.get("json", ""), salt))
        if not same_key:
            raise SignatureRefused("vpbx_api_key is not ours")
        if not same_sign:
            raise SignatureRefused("sign does not match")

    @override
    def split(self, request: RawRequest, inbox: InboxConfig) -> list[RawItem]:
        text = dict(wire.form_pairs(request.body)).get("json", "")
        body = text.encode("utf-8", "surrogateescape")
        event = wire.json_object(body)
        path = wire.tail(request.url, inbox.key) or next((to for name, to in _TELLING if name in event), "")
        entry = wire.text(event.get("entry_id"), 200)
        leg = wire.text(event.get("call_id"), 200)
        seq = wire.integer(event.get("seq"))
        if path == "events/call" and leg is not None and seq is not None:
            key = f"{leg}:{seq}"
        elif path == "events/summary" and entry is not None:
            key = entry
        elif path == "events/record/added" and wire.text(event.get("recording_id"), 500) is not None:
            key = wire.digest(str(wire.text(event.get("recording_id"), 500)))
        else:
            key = wire.digest(body)
        return [
            RawItem(
                dedupe_key=f"mango:{path}:{key}",
                lane=f"call:{entry}" if entry is not None else f"mango:{path}",
                order=seq or 0,
                body=body,
                meta={"path": path},
                received_at=request.received_at,
            )
        ]

    @override
    def parse(self, item: RawItem, inbox: InboxConfig) -> list[Envelope]:
        event = wire.json_object(item.body)
        path = item.meta.get("path", "")
        offset = _offset_ms(inbox)
        entry = wire.text(event.get("entry_id"), 200)
        if path.startswith("result/"):
            return [_command_result(item, event, path)]
        if entry is None:
            return [vendor.unsupported(item, f"Mango {path or 'event'} without entry_id")]
        if path == "events/call":
            return _call_step(item, event, entry, inbox, offset)
        if path == "events/summary":
            return [_summary(item, event, entry, inbox, offset)]
        if path == "events/record/added":
            recording = wire.text(event.get("recording_id"), 500)
            call = CallEvent(call_id=entry, leg_id=entry, state="recording_ready", recording_ref=recording)
            return [vendor.call_envelope(item, call, wire.instant(event.get("timestamp"), offset_ms=offset))]
        what = f"Mango event {path!r}"
        return [vendor.passing(item, what) if path in _PASSING else vendor.unsupported(item, what)]

    @override
    def asks_where(self, request: RawRequest, inbox: InboxConfig) -> Envelope | None:
        # Mango does not read our answers: calls are directed by commands/route.
        return None

    @override
    def acknowledge(
        self, request: RawRequest, inbox: InboxConfig, decision: CallDecision | None
    ) -> HttpAnswer:
        return HttpAnswer(body="ok")

    @override
    def refuse(self, status: int, reason: str) -> HttpAnswer:
        return HttpAnswer(status=status, body=reason)

    @override
    async def originate(
        self, request: OriginateRequest, inbox: InboxConfig, ctx: ChannelContext
    ) -> OriginateResult:
        """POST commands/callback: rings the extension, then dials the customer. `command_id` is our
        correlation id and comes back in the call's events.
        """
        key, salt = vendor.required(inbox, "vpbx_api_key"), vendor.required(inbox, "vpbx_salt")
        if request.customer_first:
            raise NotConfigured("Mango calls are dialled agent-first")
        if request.agent_ext is None:
            raise ContentRejected("Mango dials from an extension: the agent has none")
        command: dict[str, Any] = {
            "command_id": request.correlation_id,
            "from": {"extension": request.agent_ext},
            "to_number": request.to_number.lstrip("+"),
        }
        line = request.caller_id or vendor.setting(inbox, "caller_id")
        if line is not None:
            command["line_number"] = line.lstrip("+")
        text = wire.dump(command).decode()
        base = (vendor.setting(inbox, "api_base") or API_BASE).rstrip("/")
        reply = await vendor.post(
            ctx,
            f"{base}/commands/callback",
            form={"vpbx_api_key": key, "sign": sign(key, text, salt), "json": text},
        )
        _check(reply)
        # The call's own id is not told here; its events carry command_id.
        return OriginateResult()

    @override
    async def connect(self, request: ConnectRequest, inbox: InboxConfig, ctx: ChannelContext) -> None:
        """The documented commands have none that joins a waiting customer to an extension and tells the outcome:
        Mango is dialled agent-first.
        """
        raise NotConfigured("Mango calls are dialled agent-first")


def sign(key: str, text: str, salt: str) -> str:
    """Mango's signature of a JSON text, both ways."""
    return hashlib.sha256(f"{key}{text}{salt}".encode("utf-8", "surrogateescape")).hexdigest()


def _same(given: str, want: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), want.encode())


def _is_among(address: str, allowed: str) -> bool:
    try:
        mine = ipaddress.ip_address(address)
        return any(
            mine in ipaddress.ip_network(each.strip(), strict=False)
            for each in allowed.split(",")
            if each.strip()
        )
    except ValueError:
        return False


def _offset_ms(inbox: InboxConfig) -> int:
    """The manual's Unix times are said to count Moscow time; accounts differ, so it is calibrated by hand."""
    try:
        hours = float(str(inbox.config.get("mango_utc_offset") or 0))
    except ValueError:
        return 0
    return round(hours * HOUR) if -14 <= hours <= 14 else 0


def _party(event: dict[str, Any], side: str) -> dict[str, Any]:
    party = event.get(side)
    return party if isinstance(party, dict) else {}


def _parties(event: dict[str, Any], inbox: InboxConfig) -> dict[str, Any]:
    """Who is who in one event: extension and number of both sides, and our line."""
    caller, callee = _party(event, "from"), _party(event, "to")
    line = event.get("line_number") or callee.get("line_number") or caller.get("line_number")
    return {
        "from_ext": wire.text(caller.get("extension"), 64),
        "from_raw": wire.text(caller.get("number"), 200) or "",
        "from_number": vendor.number(caller.get("number"), inbox, international=True),
        "to_ext": wire.text(callee.get("extension"), 64),
        "to_raw": wire.text(callee.get("number"), 200) or "",
        "to_number": vendor.number(callee.get("number"), inbox, international=True),
        "group": wire.text(callee.get("acd_group"), 100),
        "did": vendor.number(line, inbox, international=True)
        or vendor.number(inbox.config.get("number"), inbox),
        "command_id": wire.text(event.get("command_id"), 80),
    }


def _direction(who: dict[str, Any]) -> str:
    if who["command_id"] is not None:
        return "outbound"
    if who["from_ext"] is not None:
        return "internal" if who["to_ext"] is not None else "outbound"
    return "inbound"


def _event(who: dict[str, Any], direction: str, entry: str, leg: str, **more: Any) -> CallEvent:
    from_number, from_raw = who["from_number"], who["from_raw"]
    to_number, to_raw = who["to_number"], who["to_raw"]
    agent_ext = who["to_ext"] if direction == "inbound" else who["from_ext"] or who["to_ext"]
    if direction == "inbound" and (who["to_ext"] is not None or to_number == who["did"]):
        to_number = who["did"]
    if direction == "outbound" and who["from_ext"] is None and who["to_ext"] is not None:
        # The first leg of a callback rings our agent "from" the customer: the customer is whom we call.
        from_number, from_raw, to_number, to_raw = None, to_raw, from_number, from_raw
    if direction == "outbound" and from_number == to_number:
        from_number = None
    return CallEvent(
        call_id=entry,
        leg_id=leg,
        direction=direction,
        from_number=from_number if direction == "inbound" else who["did"],
        from_raw=from_raw,
        to_number=to_number,
        to_raw=to_raw,
        did=who["did"],
        agent_ext=agent_ext,
        queue=who["group"],
        correlation_id=who["command_id"],
        **more,
    )


def _call_step(
    item: RawItem, event: dict[str, Any], entry: str, inbox: InboxConfig, offset: int
) -> list[Envelope]:
    state = _STATES.get(wire.text(event.get("call_state"), 20) or "")
    if state is None:
        return [vendor.unsupported(item, f"Mango call_state {wire.text(event.get('call_state'), 40)!r}")]
    who = _parties(event, inbox)
    direction = _direction(who)
    location = wire.text(event.get("location"), 20) or "abonent"
    # The ringing side of this leg is one of ours, and not the voice menu.
    agent_leg = location == "abonent" and who["to_ext"] is not None and direction != "internal"
    if location != "abonent" and state == "answered":
        state = "ringing"  # a menu or a queue picked up; a person has not
    elif (
        location != "abonent"
        and state == "ended"
        and event.get("disconnect_reason") in {1170, 1183, "1170", "1183"}
    ):
        state = "note"
    reason = wire.integer(event.get("disconnect_reason"), high=9999)
    call = _event(
        who,
        direction,
        entry,
        wire.text(event.get("call_id"), 200) or entry,
        parent_leg_id=wire.text(_party(event, "from").get("taken_from_call_id"), 200),
        agent_leg=agent_leg,
        state=state,
        seq=wire.integer(event.get("seq")),
        cause=str(reason) if reason is not None else None,
        disposition=causes.of_mango(reason) if state == "ended" else None,
    )
    return [vendor.call_envelope(item, call, wire.instant(event.get("timestamp"), offset_ms=offset))]


def _summary(item: RawItem, event: dict[str, Any], entry: str, inbox: InboxConfig, offset: int) -> Envelope:
    who = _parties(event, inbox)
    code = wire.integer(event.get("call_direction"))
    direction = _DIRECTIONS.get(code if code is not None else -1) or _direction(who)
    reason = wire.integer(event.get("disconnect_reason"), high=9999)
    created, talk, end = (
        wire.instant(event.get(name), offset_ms=offset) for name in ("create_time", "talk_time", "end_time")
    )
    answered = wire.integer(event.get("entry_result")) == 1
    said = causes.ANSWERED if answered else causes.of_mango(reason) or causes.NO_ANSWER
    if direction == "inbound" and not answered and said == causes.NO_ANSWER:
        said = causes.MISSED
    call = _event(
        who,
        direction,
        entry,
        entry,
        state="ended",
        final=True,
        cause=str(reason) if reason is not None else None,
        disposition=said,
        talk_sec=_between(talk, end) if answered else None,
        wait_sec=_between(created, talk if answered else end),
    )
    return vendor.call_envelope(item, call, end)


def _between(start: int | None, end: int | None) -> int | None:
    """Whole seconds from one instant to a later one."""
    return (end - start) // 1000 if start is not None and end is not None and end >= start else None


def _command_result(item: RawItem, event: dict[str, Any], path: str) -> Envelope:
    """Mango's later word on a command of ours: the call may have failed before it had an entry_id."""
    code = wire.integer(event.get("result"), high=9999)
    return Envelope(
        kind=Kind.SYSTEM,
        dedupe_key=item.dedupe_key,
        conversation_key=item.lane,
        sender=Sender(),
        occurred_at=item.received_at,
        data={
            "what": "command_result",
            "command": path.removeprefix("result/"),
            "correlation_id": wire.text(event.get("command_id"), 80),
            "ok": code == _OK,
            "cause": str(code) if code is not None else None,
        },
        auth={"signature": "ok"},
    )


def _check(reply: vendor.Reply) -> None:
    """Raise the ChannelError that an answer to a command means; return if the command was taken."""
    if reply.status in {401, 403}:
        raise AuthFailed(f"Mango refused the key or the signature: {reply.status}")
    try:
        told = wire.json_object(reply.body)
    except Malformed as error:
        if 200 <= reply.status < 300:
            raise OutcomeUnknown("Mango's answer is not JSON") from error
        raise ContentRejected(f"Mango answered {reply.status}") from error
    code = wire.integer(told.get("result"), high=9999)
    if code == _OK:
        return
    message = wire.text(told.get("message"), 200) or ""
    if code in _BAD_KEY:
        raise AuthFailed(f"Mango refused the key or the signature: {code} {message}".strip())
    if code == _OVERLOADED:
        raise RateLimitedByProvider("Mango is overloaded (5001)", retry_after_s=5.0)
    if code is not None and 5000 <= code < 6000:
        raise Transient(f"Mango has trouble: {code} {message}".strip())
    if code in {3200, 1132, 1133}:
        raise ContentRejected(f"invalid number ({code})")
    raise ContentRejected(
        f"Mango refused the command: {code if code is not None else reply.status} {message}".strip()
    )
