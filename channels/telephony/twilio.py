"""Twilio Programmable Voice: form webhooks signed with HMAC-SHA1, TwiML answers, the Calls API.

Signature: https://www.twilio.com/docs/usage/security#validating-requests.
Webhook parameters: https://www.twilio.com/docs/voice/twiml#request-parameters and
https://www.twilio.com/docs/voice/api/call-resource#statuscallback. What we cannot know from a child call
(whose leg it is, which way the whole call goes) we write into our own callback addresses, which Twilio signs
back to us.
"""

import base64
import hashlib
import hmac
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit
from xml.sax.saxutils import escape, quoteattr

import aiohttp
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
    RawItem,
    RawRequest,
    SignatureRefused,
)
from channels.telephony import causes, vendor
from crm_core.envelope import CallEvent, Envelope

API_BASE = "https://api.twilio.com"
#: https://www.twilio.com/docs/api/errors: the number is wrong, unreachable for this account, or blocked.
_BAD_NUMBER = frozenset({13223, 13224, 13226, 21201, 21211, 21214, 21215, 21216, 21217, 21219})
_STATES = {
    "queued": "initiated",
    "initiated": "initiated",
    "ringing": "ringing",
    "in-progress": "answered",
    "answered": "answered",
    "completed": "ended",
    "busy": "ended",
    "no-answer": "ended",
    "failed": "ended",
    "canceled": "ended",
}
_ENDS = {
    "busy": causes.BUSY,
    "no-answer": causes.NO_ANSWER,
    "failed": causes.FAILED,
    "canceled": causes.CANCELLED,
}
_DEFAULT_QUEUE = "switchboard"
_RING_CUSTOMER_S = 45
#: the key that means "call me later" while the prompt is heard, and "call me back" in the queue
_LATER_KEY, _CALLBACK_KEY = "9", "1"
_LEG_EVENTS = ("initiated", "ringing", "answered", "completed")
#: What our own callback addresses carry; nothing else of a query is kept.
_QUERY = ("ext", "dir", "corr", "side")


class TwilioVendor(vendor.Vendor):
    @override
    def verify(self, request: RawRequest, inbox: InboxConfig) -> None:
        token = wire.text(inbox.config.get("auth_token"), 200)
        if token is None:
            raise SignatureRefused("auth_token is not set")
        given = request.headers.get("x-twilio-signature", "").encode("utf-8", "surrogateescape")
        if not given:
            raise SignatureRefused("no X-Twilio-Signature header")
        signed = b""
        query = dict(parse_qsl(urlsplit(request.url).query))
        if "bodySHA256" in query:
            if not hmac.compare_digest(hashlib.sha256(request.body).hexdigest(), query["bodySHA256"].lower()):
                raise SignatureRefused("bodySHA256 does not match the body")
        elif request.method == "POST":
            signed = _canonical(wire.form_pairs(request.body))
        matches = False
        for url in _spellings(request.url):
            mac = hmac.new(token.encode(), url.encode("utf-8", "surrogateescape") + signed, hashlib.sha1)
            matches |= hmac.compare_digest(base64.b64encode(mac.digest()), given)
        if not matches:
            raise SignatureRefused("X-Twilio-Signature does not match this URL and body")

    @override
    def split(self, request: RawRequest, inbox: InboxConfig) -> list[RawItem]:
        form = _form(request)
        sid = wire.text(form.get("CallSid"), 64)
        if sid is None:
            raise Malformed("CallSid is missing")
        step = "".join(
            f":{form.get(name, '')}"
            for name in ("CallStatus", "SequenceNumber", "DialCallSid", "DialCallStatus", "QueueResult",
                         "RecordingSid", "RecordingStatus", "Digits")
        )  # fmt: skip
        where = wire.tail(request.url, inbox.key)
        query = dict(parse_qsl(urlsplit(request.url).query))
        return [
            RawItem(
                dedupe_key=f"call:{sid}:{where}:{wire.digest(step)}",
                lane=f"call:{wire.text(form.get('ParentCallSid'), 64) or sid}",
                order=wire.integer(form.get("SequenceNumber")) or 0,
                body=wire.dump(form),
                meta={"path": where, **{name: query[name] for name in _QUERY if name in query}},
                received_at=request.received_at,
            )
        ]

    @override
    def parse(self, item: RawItem, inbox: InboxConfig) -> list[Envelope]:
        form = {str(key): value for key, value in wire.json_object(item.body).items()}
        sid = wire.text(form.get("CallSid"), 64)
        if sid is None:
            return [vendor.unsupported(item, "a Twilio event without CallSid")]
        status = wire.text(form.get("CallStatus"), 20)
        dial = wire.text(form.get("DialCallStatus"), 20)
        event: CallEvent | None = None
        if "RecordingSid" in form:
            event = _recording(form, sid, item, inbox)
        elif item.meta.get("path") in {"wish", "later"}:
            event = _pressed(form, sid, item, inbox)
        elif dial is not None:
            event = _dialled(form, sid, dial, item, inbox)
        elif "QueueResult" in form:
            event = _left_queue(form, sid, item, inbox)
        elif status in _STATES:
            event = _step(form, sid, status, item, inbox)
        if event is None:
            return [vendor.unsupported(item, f"Twilio call status {status!r}")]
        at = wire.instant(form.get("Timestamp")) or wire.instant(form.get("RecordingStartTime"))
        return [vendor.call_envelope(item, event, at)]

    @override
    def asks_where(self, request: RawRequest, inbox: InboxConfig) -> Envelope | None:
        return self.parse(self.split(request, inbox)[0], inbox)[0] if _asks(request, inbox) else None

    @override
    def acknowledge(
        self, request: RawRequest, inbox: InboxConfig, decision: CallDecision | None
    ) -> HttpAnswer:
        form = _form(request)
        hook = wire.hook_base(request.url, inbox.key)
        if _asks(request, inbox):
            return _twiml(_route(hook, decision, inbox))
        where = wire.tail(request.url, inbox.key)
        if where in {"wish", "later"}:
            # Taken at its word he may hang up; any other key changes nothing.
            return _twiml(_after_key(hook, where, form, inbox))
        if where == "dialed":
            # The agent did not take it: the caller must not be dropped, he waits in the queue.
            taken = form.get("DialCallStatus") in {"completed", "answered"}
            return _twiml("<Hangup/>" if taken else _enqueue(hook, None, inbox))
        return _twiml("")

    @override
    def refuse(self, status: int, reason: str) -> HttpAnswer:
        return HttpAnswer(status=status, body=reason)

    @override
    async def originate(
        self, request: OriginateRequest, inbox: InboxConfig, ctx: ChannelContext
    ) -> OriginateResult:
        """POST Calls (https://www.twilio.com/docs/voice/api/call-resource#create-a-call-resource). Twilio has
        no idempotency key here, so a lost answer is OutcomeUnknown.
        """
        sid, token = vendor.required(inbox, "account_sid"), vendor.required(inbox, "auth_token")
        caller_id = request.caller_id or vendor.setting(inbox, "caller_id") or vendor.setting(inbox, "number")
        if caller_id is None:
            raise NotConfigured("caller_id is not set")
        if not ctx.public_url:
            raise NotConfigured("the public address of this server is not set")
        hook = f"{ctx.public_url.rstrip('/')}/hooks/{inbox.key}"
        base = (vendor.setting(inbox, "api_base") or API_BASE).rstrip("/")
        agent_first = request.agent_ext is not None and not request.customer_first
        marks = {"dir": "outbound", "corr": request.correlation_id}
        customer = {**marks, "side": "customer"}
        agent = {**marks, "side": "agent", "ext": request.agent_ext or ""}
        if agent_first:
            _, to = _address(str(request.agent_ext), inbox)
            then = _dial(_noun("Number", request.to_number, f"{hook}/leg", customer), caller_id, None, inbox)
        elif request.agent_ext is not None:
            to = request.to_number
            noun, address = _address(request.agent_ext, inbox)
            then = _dial(_noun(noun, address, f"{hook}/leg", agent), caller_id, f"{hook}/dialed", inbox)
        else:
            # The prompt, with one key to put the call off; who does not press it waits for an agent.
            to = request.to_number
            wish = f"{hook}/later?{urlencode(customer)}"
            said = _say(request.prompt, request.language) if request.prompt else ""
            then = (
                f'<Gather numDigits="1" timeout="1" action={quoteattr(wish)} method="POST">{said}</Gather>'
                f"{_enqueue(hook, None, inbox)}"
            )
        reply = await vendor.post(
            ctx,
            f"{base}/2010-04-01/Accounts/{sid}/Calls.json",
            form=[
                ("To", to),
                ("From", caller_id),
                ("Twiml", f"<Response>{then}</Response>"),
                ("Timeout", str(request.agent_ring_s if agent_first else _RING_CUSTOMER_S)),
                ("StatusCallback", f"{hook}/status?{urlencode(agent if agent_first else customer)}"),
                ("StatusCallbackMethod", "POST"),
                *[("StatusCallbackEvent", event) for event in _LEG_EVENTS],
            ],
            headers={"Authorization": aiohttp.encode_basic_auth(sid, token)},
        )
        return OriginateResult(provider_call_id=_call_sid(reply))

    @override
    async def connect(self, request: ConnectRequest, inbox: InboxConfig, ctx: ChannelContext) -> None:
        """POST Calls/{sid} with new TwiML (https://www.twilio.com/docs/voice/api/call-resource#update-a-call-resource):
        the waiting caller leaves the queue and the agent's phone rings.
        """
        sid, token = vendor.required(inbox, "account_sid"), vendor.required(inbox, "auth_token")
        if not ctx.public_url:
            raise NotConfigured("the public address of this server is not set")
        hook = f"{ctx.public_url.rstrip('/')}/hooks/{inbox.key}"
        base = (vendor.setting(inbox, "api_base") or API_BASE).rstrip("/")
        marks = {
            "dir": "outbound" if request.outbound else "inbound",
            "side": "agent",
            "ext": request.agent_ext,
        }
        if request.correlation_id is not None:
            marks["corr"] = request.correlation_id
        noun, address = _address(request.agent_ext, inbox)
        then = _dial(
            _noun(noun, address, f"{hook}/leg", marks), None, f"{hook}/dialed", inbox,
            seconds=request.agent_ring_s,
        )  # fmt: skip
        reply = await vendor.post(
            ctx,
            f"{base}/2010-04-01/Accounts/{sid}/Calls/{quote(request.call_id, safe='')}.json",
            form=[("Twiml", f"<Response>{then}</Response>")],
            headers={"Authorization": aiohttp.encode_basic_auth(sid, token)},
        )
        _call_sid(reply)


def _form(request: RawRequest) -> dict[str, str]:
    if request.method == "GET":
        return {key: value for key, value in request.query.items() if key not in _QUERY}
    if "json" in request.content_type:
        return {key: value for key, value in wire.json_object(request.body).items() if isinstance(value, str)}
    return dict(wire.form_pairs(request.body))


def _canonical(pairs: list[tuple[str, str]]) -> bytes:
    """Names in order, each with its different values in order, nothing between."""
    whole = "".join(name + value for name, value in sorted(set(pairs)))
    return whole.encode("utf-8", "surrogateescape")


def _spellings(url: str) -> list[str]:
    """The URL as called, and with the port left out or written: Twilio signs one of them."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return [url]
    user, at, _ = parts.netloc.rpartition("@")
    host = f"[{host}]" if ":" in host else host
    default = 443 if parts.scheme == "https" else 80
    hosts = [parts.netloc, f"{user}{at}{host}", f"{user}{at}{host}:{port or default}"]
    return [urlunsplit(parts._replace(netloc=netloc)) for netloc in dict.fromkeys(hosts)]


def _asks(request: RawRequest, inbox: InboxConfig) -> bool:
    """Only the voice webhook of a new call in; everything else is news."""
    form = _form(request)
    return (
        wire.tail(request.url, inbox.key) in {"", "voice"}
        and form.get("Direction") == "inbound"
        and form.get("CallStatus") in {"ringing", "queued", "in-progress"}
        and not any(
            name in form
            for name in ("CallbackSource", "ParentCallSid", "DialCallStatus", "RecordingSid", "QueueResult")
        )
    )


def _event(
    form: dict[str, str], item: RawItem, inbox: InboxConfig, *, leg_id: str, state: str, **more: object
) -> CallEvent:
    direction = item.meta.get("dir") or (
        "inbound" if form.get("Direction") in {None, "inbound"} else "outbound"
    )
    agent_leg = item.meta.get("side") == "agent"
    parent = wire.text(form.get("ParentCallSid"), 64)
    call_id = parent or str(wire.text(form.get("CallSid"), 64))
    from_number = vendor.number(form.get("From"), inbox)
    to_number = vendor.number(form.get("To") or form.get("Called"), inbox)
    our = vendor.number(inbox.config.get("number"), inbox)
    did = our or (to_number if direction == "inbound" else from_number)
    if agent_leg:
        # The agent's leg runs between our number and his phone: neither is the customer's.
        did = our
        from_number = to_number = None
    facts: dict[str, object] = {
        "call_id": call_id,
        "leg_id": leg_id,
        "parent_leg_id": parent if parent != leg_id else None,
        "direction": direction if direction in {"inbound", "outbound"} else "inbound",
        "from_number": from_number,
        "from_raw": wire.text(form.get("From"), 200) or "",
        "to_number": to_number,
        "to_raw": wire.text(form.get("To") or form.get("Called"), 200) or "",
        "did": did,
        "agent_leg": agent_leg,
        "agent_ext": wire.text(item.meta.get("ext"), 64),
        "state": state,
        "seq": wire.integer(form.get("SequenceNumber")),
        "correlation_id": wire.text(item.meta.get("corr"), 80),
        "display_name": wire.text(form.get("CallerName"), 120),
    }
    return CallEvent(**{**facts, **more})  # type: ignore[arg-type]  # the names are CallEvent's own


def _step(form: dict[str, str], sid: str, status: str, item: RawItem, inbox: InboxConfig) -> CallEvent:
    state = _STATES[status]
    caller = form.get("Direction") == "inbound" and "ParentCallSid" not in form
    if state == "answered" and caller:
        # Our TwiML picked the caller up; a person has not.
        state = "ringing"
    disposition = _ENDS.get(status)
    talk_sec = None
    if state == "ended":
        if status == "completed" and not caller:
            machine = (wire.text(form.get("AnsweredBy"), 40) or "").startswith(("machine", "fax"))
            disposition = causes.MACHINE if machine else causes.ANSWERED
            talk_sec = wire.integer(form.get("CallDuration"))
        elif status == "failed":
            disposition = causes.of_sip(wire.integer(form.get("SipResponseCode"), high=999)) or causes.FAILED
    return _event(
        form,
        item,
        inbox,
        leg_id=sid,
        state=state,
        cause=wire.text(form.get("SipResponseCode"), 10) or (status if state == "ended" else None),
        disposition=disposition,
        talk_sec=talk_sec,
    )


def _dialled(form: dict[str, str], sid: str, dial: str, item: RawItem, inbox: InboxConfig) -> CallEvent:
    """The end of a <Dial>: the last word on the agent's leg, even if its own callbacks were lost."""
    taken = dial in {"completed", "answered"}
    leg = {**form, "ParentCallSid": sid, "From": "", "To": ""}
    leg.pop("SequenceNumber", None)
    marked = RawItem(
        dedupe_key=item.dedupe_key,
        lane=item.lane,
        body=item.body,
        meta={"side": "agent", **item.meta},
        received_at=item.received_at,
    )
    child = wire.text(form.get("DialCallSid"), 64)
    return _event(
        leg,
        marked,
        inbox,
        leg_id=child or f"{sid}:dial",
        state="ended",
        cause=dial,
        disposition=causes.ANSWERED if taken else _ENDS.get(dial, causes.FAILED),
        talk_sec=wire.integer(form.get("DialCallDuration")) if taken else None,
    )


def _left_queue(form: dict[str, str], sid: str, item: RawItem, inbox: InboxConfig) -> CallEvent:
    gone = form.get("QueueResult") == "hangup"
    return _event(
        form,
        item,
        inbox,
        leg_id=sid,
        state="ended" if gone else "note",
        queue=wire.text(form.get("QueueName"), 100) or vendor.setting(inbox, "default_queue"),
        cause=f"queue {wire.text(form.get('QueueResult'), 30)}",
        disposition=causes.ABANDONED if gone else None,
        wait_sec=wire.integer(form.get("QueueTime")),
    )


def _pressed(form: dict[str, str], sid: str, item: RawItem, inbox: InboxConfig) -> CallEvent:
    """Keys of our own menus: no step of the call, perhaps a wish."""
    key = wire.text(form.get("Digits"), 10)
    wish = {_LATER_KEY: "snooze", _CALLBACK_KEY: "callback"}.get(key or "")
    wanted = wish if (wish == "snooze") == (item.meta.get("path") == "later") else None
    return _event(form, item, inbox, leg_id=sid, state="note", request=wanted)


def _recording(form: dict[str, str], sid: str, item: RawItem, inbox: InboxConfig) -> CallEvent:
    ready = form.get("RecordingStatus", "completed") == "completed"
    return _event(
        form,
        item,
        inbox,
        leg_id=sid,
        state="recording_ready" if ready else "note",
        recording_ref=wire.text(form.get("RecordingSid"), 64) if ready else None,
        recording_url=wire.text(form.get("RecordingUrl"), 2000) if ready else None,
    )


def _twiml(verbs: str) -> HttpAnswer:
    return HttpAnswer(
        body=f'<?xml version="1.0" encoding="UTF-8"?><Response>{verbs}</Response>', content_type="text/xml"
    )


def _route(hook: str, decision: CallDecision | None, inbox: InboxConfig) -> str:
    if decision is not None and decision.agent_ext:
        noun, address = _address(decision.agent_ext, inbox)
        marks = {"side": "agent", "dir": "inbound", "ext": decision.agent_ext}
        return _dial(_noun(noun, address, f"{hook}/leg", marks), None, f"{hook}/dialed", inbox)
    fallback = vendor.setting(inbox, "fallback_number")
    if fallback is not None and (decision is None or decision.queue is None):
        marks = {"side": "agent", "dir": "inbound"}
        return _dial(_noun("Number", fallback, f"{hook}/leg", marks), None, f"{hook}/dialed", inbox)
    waiting = _said(decision, inbox) + _enqueue(hook, decision.queue if decision is not None else None, inbox)
    offer = vendor.setting(inbox, "callback_offer")
    if offer is None:
        return waiting
    # Who presses the key hangs up and keeps his place; who does not simply waits.
    wish = quoteattr(f"{hook}/wish")
    return (
        f'<Gather numDigits="1" timeout="4" action={wish} method="POST">{_say(offer, inbox.language)}</Gather>'
        f"{waiting}"
    )


def _address(ext: str, inbox: InboxConfig) -> tuple[str, str]:
    """How an agent's extension is dialled: noun and address."""
    if ext.startswith("sip:"):
        return "Sip", ext
    if ext.startswith("client:"):
        return "Client", ext
    if ext.startswith("+"):
        return "Number", ext
    domain = vendor.setting(inbox, "sip_domain")
    return ("Sip", f"sip:{ext}@{domain}") if domain else ("Client", f"client:{ext}")


def _noun(noun: str, address: str, callback: str, marks: dict[str, str]) -> str:
    written = address.removeprefix("client:") if noun == "Client" else address
    url = f"{callback}?{urlencode(marks)}"
    return (
        f'<{noun} statusCallback={quoteattr(url)} statusCallbackMethod="POST" '
        f"statusCallbackEvent={quoteattr(' '.join(_LEG_EVENTS))}>{escape(written)}</{noun}>"
    )


def _say(text: str, language: str) -> str:
    spoken = {"uk": "uk-UA", "ru": "ru-RU"}.get(language, "en-US")
    return f'<Say language="{spoken}">{escape(text)}</Say>'


def _dial(
    noun: str, caller_id: str | None, action: str | None, inbox: InboxConfig, *, seconds: int | None = None
) -> str:
    seconds = seconds or wire.integer(inbox.config.get("ring_seconds"), low=5, high=120) or 20
    attributes = f' answerOnBridge="true" timeout="{seconds}"'
    if caller_id is not None:
        attributes += f" callerId={quoteattr(caller_id)}"
    if action is not None:
        attributes += f' action={quoteattr(action)} method="POST"'
    return f"<Dial{attributes}>{noun}</Dial>"


def _said(decision: CallDecision | None, inbox: InboxConfig) -> str:
    """The expected wait, spoken."""
    wait = decision.wait if decision is not None else None
    return _say(wait.text, inbox.language) if wait is not None and wait.text else ""


def _enqueue(hook: str, queue: str | None, inbox: InboxConfig) -> str:
    name = queue or vendor.setting(inbox, "default_queue") or _DEFAULT_QUEUE
    return f'<Enqueue action={quoteattr(hook + "/queued")} method="POST">{escape(name)}</Enqueue>'


def _after_key(hook: str, where: str, form: dict[str, str], inbox: InboxConfig) -> str:
    key = form.get("Digits")
    if (where, key) in {("wish", _CALLBACK_KEY), ("later", _LATER_KEY)}:
        return "<Hangup/>"
    return _enqueue(hook, None, inbox)


def _call_sid(reply: vendor.Reply) -> str | None:
    """The new call's id from Twilio's answer, or the ChannelError that its error code means."""
    try:
        told = wire.json_object(reply.body)
    except Malformed:
        told = {}
    code, message = wire.integer(told.get("code")), wire.text(told.get("message"), 300) or ""
    if reply.status in {200, 201}:
        return wire.text(told.get("sid"), 64)
    if reply.status in {401, 403} and code not in _BAD_NUMBER:
        raise AuthFailed(f"Twilio refused the account: {reply.status} {code or ''} {message}".strip())
    if code in _BAD_NUMBER:
        raise ContentRejected(f"invalid number ({code}): {message}")
    raise ContentRejected(f"Twilio refused the call: {reply.status} {code or ''} {message}".strip())
