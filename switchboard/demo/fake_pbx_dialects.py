"""The vendors' sides of the fake PBX: what each accepts as a command to dial and what it posts about a call.

Written from the vendors' documents and not from our adapters: nothing here may import `channels`.
"""

import base64
import hashlib
import hmac
import json
import random
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit
from xml.etree import ElementTree as ET

from typing_extensions import override

if TYPE_CHECKING:
    from switchboard.demo.fake_pbx import CallScript, Originated

_E164 = re.compile(r"\+[1-9]\d{6,14}")
_RING_BEFORE_S = 1


class RefusedError(Exception):
    """The vendor's refusal of a command."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """One webhook ready to send."""

    url: str
    body: bytes
    headers: dict[str, str]
    last_word: bool = False
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a hook answered to "where should this call go?"."""

    agent_ext: str | None = None
    queue: str | None = None
    raw: str = ""
    callback_url: str | None = None


class Dialect(Protocol):
    accepted_status: int
    duplicate_status: int | None

    def call_id(self, number: int, dice: random.Random) -> str: ...
    def command(
        self, method: str, path: str, headers: dict[str, str], raw: bytes, now: int, call_id: str
    ) -> "tuple[Originated, str]": ...
    def asking(self, call_id: str, from_: str, to: str, now: int, hook: str) -> Post | None: ...
    def read_answer(self, body: str) -> Answer | None: ...
    def inbound(
        self,
        call_id: str,
        from_: str,
        to: str,
        plan: "CallScript",
        now: int,
        routed: Answer | None,
        hook: str,
    ) -> list[Post]: ...
    def outbound(self, command: "Originated", plan: "CallScript", now: int, hook: str) -> list[Post]: ...


def _originated(**facts: Any) -> "Originated":
    from switchboard.demo.fake_pbx import Originated

    return Originated(**facts)


class GenericDialect(Dialect):
    """Our documented webhook, two legs a call."""

    accepted_status = 202
    duplicate_status = 409

    def __init__(self, secret: str) -> None:
        self._secret = secret

    @override
    def call_id(self, number: int, dice: random.Random) -> str:
        return f"pbx-{dice.randrange(16**8):08x}-{number}"

    @override
    def command(
        self, method: str, path: str, headers: dict[str, str], raw: bytes, now: int, call_id: str
    ) -> "tuple[Originated, str]":
        lower = {name.lower(): value for name, value in headers.items()}
        if (method, path) != ("POST", "/originate"):
            raise RefusedError(404, '{"error":"no such address"}')
        stamp = lower.get("x-timestamp", "")
        want = self._sign(stamp.encode() + b"." + raw)
        if not stamp or not hmac.compare_digest(want, lower.get("x-signature", "")):
            raise RefusedError(401, '{"error":"bad signature"}')
        if abs(now / 1000 - float(stamp)) > 300:
            raise RefusedError(401, '{"error":"stale timestamp"}')
        wish = json.loads(raw)
        if not isinstance(wish.get("correlation_id"), str) or not _E164.fullmatch(str(wish.get("to"))):
            raise RefusedError(400, '{"error":"to must be E.164, correlation_id a string"}')
        if not wish.get("agent_ext"):
            raise RefusedError(400, '{"error":"agent_ext is missing"}')
        command = _originated(
            to=wish["to"],
            agent_ext=wish["agent_ext"],
            correlation_id=wish["correlation_id"],
            customer_first=bool(wish.get("customer_first")),
            caller_id=wish.get("caller_id"),
            call_id=call_id,
            raw=wish,
        )
        return command, json.dumps({"call_id": call_id})

    @override
    def asking(self, call_id: str, from_: str, to: str, now: int, hook: str) -> Post | None:
        event = {"event_id": f"{call_id}-ask", "call_id": call_id, "leg_id": call_id, "direction": "inbound",
                 "from": from_, "to": to, "did": to, "state": "ringing", "ask": True, "at": now / 1000}  # fmt: skip
        return self._post(hook, event)

    @override
    def read_answer(self, body: str) -> Answer | None:
        route = json.loads(body).get("route")
        return Answer(agent_ext=route.get("agent_ext"), queue=route.get("queue"), raw=body) if route else None

    @override
    def inbound(
        self,
        call_id: str,
        from_: str,
        to: str,
        plan: "CallScript",
        now: int,
        routed: Answer | None,
        hook: str,
    ) -> list[Post]:
        call = {"call_id": call_id, "direction": "inbound", "from": from_, "to": to, "did": to}
        caller = {**call, "leg_id": call_id, "queue": plan.queue or (routed.queue if routed else None)}
        agent = {**call, "leg_id": f"{call_id}-a", "parent_leg_id": call_id, "agent_ext": plan.agent_ext}
        ring = now + 1000 * _RING_BEFORE_S
        done = ring + 1000 * plan.ring_s
        steps: list[tuple[int, dict[str, Any]]] = [(now, {**caller, "state": "initiated"})]
        steps.append((ring, {**agent, "state": "ringing"}))
        if plan.agent_answers:
            end = done + 1000 * plan.talk_s
            steps += [
                (done, {**agent, "state": "answered"}),
                (end, {**agent, "state": "ended", "disposition": "answered", "talk_sec": plan.talk_s}),
                (end, {**caller, "state": "ended", "disposition": "answered", "final": True}),
            ]
            if plan.recording:
                steps.append(
                    (end + 3000, {**caller, "state": "recording_ready", "recording_ref": f"rec-{call_id}"})
                )
        else:
            why = "cancelled" if plan.hangs_up else "no_answer"
            steps += [
                (done, {**agent, "state": "ended", "disposition": why}),
                (done, {**caller, "state": "ended", "disposition": "abandoned" if plan.hangs_up else "missed",
                        "final": True}),
            ]  # fmt: skip
        return self._posts(hook, call_id, steps)

    @override
    def outbound(self, command: "Originated", plan: "CallScript", now: int, hook: str) -> list[Post]:
        call_id = command.call_id
        call = {"call_id": call_id, "direction": "outbound", "to": command.to, "from": command.caller_id,
                "correlation_id": command.correlation_id}  # fmt: skip
        agent = {**call, "leg_id": f"{call_id}-a", "agent_ext": command.agent_ext, "agent_leg": True}
        customer = {**call, "leg_id": f"{call_id}-c"}
        at = now + 1000
        steps: list[tuple[int, dict[str, Any]]] = [(now, {**agent, "state": "ringing"})]
        if not plan.agent_answers:
            steps.append((at, {**agent, "state": "ended", "disposition": "no_answer", "final": True}))
            return self._posts(hook, call_id, steps)
        steps += [(at, {**agent, "state": "answered"}), (at, {**customer, "state": "ringing"})]
        at += 1000 * plan.ring_s
        if plan.customer == "answer":
            steps.append((at, {**customer, "state": "answered"}))
            at += 1000 * plan.talk_s
            outcome = {"disposition": "answered", "talk_sec": plan.talk_s}
        else:
            outcome = {"cause": {"no_answer": 19, "busy": 17, "rejected": 21, "invalid": 1}[plan.customer]}
        steps += [
            (at, {**customer, "state": "ended", **outcome}),
            (at, {**agent, "state": "ended", "final": plan.customer == "answer"}),
        ]
        return self._posts(hook, call_id, steps)

    def _posts(self, hook: str, call_id: str, steps: list[tuple[int, dict[str, Any]]]) -> list[Post]:
        return [
            self._post(hook, {"event_id": f"{call_id}-{n}", "seq": n, "at": at / 1000, **event})
            for n, (at, event) in enumerate(steps, 1)
        ]

    def _post(self, hook: str, event: dict[str, Any]) -> Post:
        body = json.dumps({k: v for k, v in event.items() if v is not None}).encode()
        stamped = {"Content-Type": "application/json", "X-Event-Id": event["event_id"]}
        return Post(
            url=hook,
            body=body,
            headers={**stamped, "X-Signature": self._sign(body)},
            last_word=bool(event.get("final")),
            facts=event,
        )

    def _sign(self, data: bytes) -> str:
        mac = hmac.new(self._secret.encode(), data, hashlib.sha256).digest()
        return base64.urlsafe_b64encode(mac).decode().rstrip("=")


class TwilioDialect(Dialect):
    """https://www.twilio.com/docs/voice/api/call-resource and the webhooks it causes."""

    accepted_status = 201
    duplicate_status = None

    def __init__(self, account_sid: str, auth_token: str) -> None:
        self._sid = account_sid
        self._token = auth_token

    @override
    def call_id(self, number: int, dice: random.Random) -> str:
        return f"CA{dice.randrange(16**24):024x}{number:08x}"

    @override
    def command(
        self, method: str, path: str, headers: dict[str, str], raw: bytes, now: int, call_id: str
    ) -> "tuple[Originated, str]":
        login = base64.b64encode(f"{self._sid}:{self._token}".encode()).decode()
        if headers.get("Authorization") != f"Basic {login}":
            raise _twilio_error(401, 20003, "Authenticate")
        if (method, path) != ("POST", f"/2010-04-01/Accounts/{self._sid}/Calls.json"):
            raise _twilio_error(404, 20404, "The requested resource was not found")
        form = parse_qs(raw.decode(), keep_blank_values=True, strict_parsing=True)
        wish = {name: values[0] for name, values in form.items()}
        if not wish.get("To"):
            raise _twilio_error(400, 21201, "No 'To' number is specified")
        if not _E164.fullmatch(wish.get("From", "")):
            raise _twilio_error(400, 21212, "The 'From' number is not a valid phone number")
        if not (_E164.fullmatch(wish["To"]) or wish["To"].startswith(("client:", "sip:"))):
            raise _twilio_error(400, 21211, "The 'To' number is not a valid phone number")
        if not (wish.get("Url") or wish.get("Twiml") or wish.get("ApplicationSid")):
            raise _twilio_error(400, 21205, "Url parameter is required")
        events = set(form.get("StatusCallbackEvent", []))
        if not events <= {"initiated", "ringing", "answered", "completed"}:
            raise _twilio_error(400, 21626, "StatusCallbackEvents contains invalid values")
        marks = dict(parse_qsl(urlsplit(wish.get("StatusCallback", "")).query))
        then = ET.fromstring(wish["Twiml"])  # noqa: S314 - our own product's TwiML, and it must be well formed
        number = then.findtext("./Dial/Number")
        agent_first = not _E164.fullmatch(wish["To"])
        command = _originated(
            to=(number or "") if agent_first else wish["To"],
            agent_ext=wish["To"].removeprefix("client:") if agent_first else None,
            correlation_id=marks.get("corr"),
            customer_first=not agent_first,
            caller_id=wish["From"],
            call_id=call_id,
            raw=wish,
        )
        body = {
            "sid": call_id,
            "status": "queued",
            "to": wish["To"],
            "from": wish["From"],
            "direction": "outbound-api",
        }
        return command, json.dumps(body)

    @override
    def asking(self, call_id: str, from_: str, to: str, now: int, hook: str) -> Post | None:
        form = {"CallSid": call_id, "From": from_, "To": to, "CallStatus": "ringing", "Direction": "inbound"}
        return self._post(hook, form)

    @override
    def read_answer(self, body: str) -> Answer | None:
        told = ET.fromstring(body)  # noqa: S314 - our own product's answer
        if told.tag != "Response":
            raise ValueError(f"TwiML must be a Response, not {told.tag}")
        for noun in ("Client", "Sip", "Number"):
            target = told.find(f"./Dial/{noun}")
            if target is not None:
                return Answer(agent_ext=target.text, raw=body, callback_url=target.get("statusCallback"))
        queue = told.findtext("./Enqueue")
        return Answer(queue=queue, raw=body) if queue else None

    @override
    def inbound(
        self,
        call_id: str,
        from_: str,
        to: str,
        plan: "CallScript",
        now: int,
        routed: Answer | None,
        hook: str,
    ) -> list[Post]:
        parent = {"CallSid": call_id, "From": from_, "To": to, "Direction": "inbound"}
        child = {"CallSid": f"{call_id[:-4]}{'beef'}", "ParentCallSid": call_id, "From": to,
                 "To": f"client:{plan.agent_ext}", "Direction": "outbound-dial"}  # fmt: skip
        leg = (
            routed.callback_url if routed else None
        ) or f"{hook}/leg?side=agent&dir=inbound&ext={plan.agent_ext}"
        ring = now + 1000 * _RING_BEFORE_S
        done = ring + 1000 * plan.ring_s
        end = done + 1000 * plan.talk_s
        steps = [
            (leg, now, {**child, "CallStatus": "initiated"}),
            (leg, ring, {**child, "CallStatus": "ringing"}),
        ]
        if plan.agent_answers:
            steps += [
                (leg, done, {**child, "CallStatus": "in-progress"}),
                (leg, end, {**child, "CallStatus": "completed", "CallDuration": str(plan.talk_s)}),
            ]
        else:
            steps.append((leg, done, {**child, "CallStatus": "canceled" if plan.hangs_up else "no-answer"}))
            end = done
        steps.append((f"{hook}/status", end, {**parent, "CallStatus": "completed", "CallDuration": "40"}))
        return self._posts(steps)

    @override
    def outbound(self, command: "Originated", plan: "CallScript", now: int, hook: str) -> list[Post]:
        status = str(command.raw["StatusCallback"])
        first = {"CallSid": command.call_id, "From": str(command.caller_id), "To": str(command.raw["To"]),
                 "Direction": "outbound-api"}  # fmt: skip
        noun = ET.fromstring(str(command.raw["Twiml"])).find("./Dial/Number")  # noqa: S314 - checked above
        ends = {"no_answer": "no-answer", "busy": "busy", "rejected": "busy", "invalid": "failed"}
        at = now + 1000
        steps = [
            (status, now, {**first, "CallStatus": "initiated"}),
            (status, now, {**first, "CallStatus": "ringing"}),
        ]
        if not plan.agent_answers:
            steps.append((status, at, {**first, "CallStatus": "no-answer"}))
            return self._posts(steps)
        steps.append((status, at, {**first, "CallStatus": "in-progress"}))
        if noun is not None:
            leg = str(noun.get("statusCallback"))
            child = {"CallSid": f"{command.call_id[:-4]}cafe", "ParentCallSid": command.call_id,
                     "From": str(command.caller_id), "To": command.to, "Direction": "outbound-dial"}  # fmt: skip
            steps += [
                (leg, at, {**child, "CallStatus": "initiated"}),
                (leg, at, {**child, "CallStatus": "ringing"}),
            ]
            at += 1000 * plan.ring_s
            if plan.customer == "answer":
                steps.append((leg, at, {**child, "CallStatus": "in-progress"}))
                at += 1000 * plan.talk_s
                steps.append(
                    (leg, at, {**child, "CallStatus": "completed", "CallDuration": str(plan.talk_s)})
                )
            else:
                code = {"SipResponseCode": "404"} if plan.customer == "invalid" else {}
                steps.append((leg, at, {**child, "CallStatus": ends[plan.customer], **code}))
        steps.append((status, at, {**first, "CallStatus": "completed", "CallDuration": "60"}))
        return self._posts(steps)

    def _posts(self, steps: list[tuple[str, int, dict[str, str]]]) -> list[Post]:
        counts: dict[str, int] = {}
        posts = []
        for url, at, form in steps:
            number = counts[form["CallSid"]] = counts.get(form["CallSid"], -1) + 1
            stamp = format_datetime(datetime.fromtimestamp(at / 1000, UTC))
            extra = {
                "SequenceNumber": str(number),
                "Timestamp": stamp,
                "CallbackSource": "call-progress-events",
            }
            posts.append(self._post(url, {**form, **extra}))
        return posts

    def _post(self, url: str, form: dict[str, str]) -> Post:
        whole = {"AccountSid": self._sid, "ApiVersion": "2010-04-01", **form}
        text = url + "".join(name + whole[name] for name in sorted(whole))
        mac = base64.b64encode(hmac.new(self._token.encode(), text.encode(), hashlib.sha1).digest()).decode()
        headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Twilio-Signature": mac}
        return Post(url=url, body=urlencode(whole).encode(), headers=headers, facts=dict(whole))


def _twilio_error(status: int, code: int, message: str) -> RefusedError:
    return RefusedError(status, json.dumps({"code": code, "message": message, "status": status}))


class MangoDialect(Dialect):
    """Mango Office: refusals are codes in JSON answered with status 200."""

    accepted_status = 200
    duplicate_status = None

    def __init__(self, api_key: str, salt: str) -> None:
        self._key = api_key
        self._salt = salt

    @override
    def call_id(self, number: int, dice: random.Random) -> str:
        return base64.b64encode(f"{dice.randrange(10**10):010}:{number}".encode()).decode().rstrip("=")

    @override
    def command(
        self, method: str, path: str, headers: dict[str, str], raw: bytes, now: int, call_id: str
    ) -> "tuple[Originated, str]":
        if (method, path) != ("POST", "/vpbx/commands/callback"):
            raise RefusedError(200, '{"result":4001}')
        form = dict(parse_qsl(raw.decode(), keep_blank_values=True))
        if form.get("vpbx_api_key") != self._key:
            raise RefusedError(401, '{"result":3105}')
        text = form.get("json", "")
        if form.get("sign") != hashlib.sha256((self._key + text + self._salt).encode()).hexdigest():
            raise RefusedError(200, '{"result":3102}')
        wish = json.loads(text)
        if (
            not wish.get("command_id")
            or not isinstance(wish.get("from"), dict)
            or not wish["from"].get("extension")
        ):
            raise RefusedError(200, '{"result":3103}')
        if not str(wish.get("to_number", "")).isdecimal() or not 10 <= len(wish["to_number"]) <= 15:
            raise RefusedError(200, '{"result":3200}')
        command = _originated(
            to=f"+{wish['to_number']}",
            agent_ext=wish["from"]["extension"],
            correlation_id=wish["command_id"],
            customer_first=False,
            caller_id=wish.get("line_number"),
            call_id=call_id,
            raw=wish,
        )
        return command, '{"result":1000}'

    @override
    def asking(self, call_id: str, from_: str, to: str, now: int, hook: str) -> Post | None:
        return None

    @override
    def read_answer(self, body: str) -> Answer | None:
        return None

    @override
    def inbound(
        self,
        call_id: str,
        from_: str,
        to: str,
        plan: "CallScript",
        now: int,
        routed: Answer | None,
        hook: str,
    ) -> list[Post]:
        caller, line = from_.lstrip("+"), to.lstrip("+")
        t0 = now // 1000
        ring, done = t0 + _RING_BEFORE_S, t0 + _RING_BEFORE_S + plan.ring_s
        end = done + plan.talk_s if plan.agent_answers else done
        menu = {"entry_id": call_id, "call_id": f"{call_id}-ivr", "location": "ivr", "from": {"number": caller},
                "to": {"number": line, "line_number": line}}  # fmt: skip
        agent = {"entry_id": call_id, "call_id": f"{call_id}-101", "location": "abonent", "from": {"number": caller},
                 "to": {"extension": plan.agent_ext, "number": f"sip:{plan.agent_ext}@pbx", "line_number": line}}  # fmt: skip
        steps: list[dict[str, Any]] = [
            {**menu, "seq": 1, "timestamp": t0, "call_state": "Appeared"},
            {**menu, "seq": 2, "timestamp": t0, "call_state": "Connected"},
            {**menu, "seq": 3, "timestamp": ring, "call_state": "Disconnected", "disconnect_reason": 1170},
            {**agent, "seq": 1, "timestamp": ring, "call_state": "Appeared"},
        ]
        if plan.agent_answers:
            steps.append({**agent, "seq": 2, "timestamp": done, "call_state": "Connected"})
        why = 1110 if plan.hangs_up else 1120 if plan.agent_answers else 1111
        steps.append(
            {**agent, "seq": 3, "timestamp": end, "call_state": "Disconnected", "disconnect_reason": why}
        )
        posts = [self._post(f"{hook}/events/call", step) for step in steps]
        summary = {"entry_id": call_id, "call_direction": 1, "from": {"number": caller},
                   "to": {"extension": plan.agent_ext, "number": f"sip:{plan.agent_ext}@pbx"}, "line_number": line,
                   "create_time": t0, "forward_time": ring, "talk_time": done if plan.agent_answers else 0,
                   "end_time": end, "entry_result": int(plan.agent_answers), "disconnect_reason": why}  # fmt: skip
        posts.append(self._post(f"{hook}/events/summary", summary, last_word=True))
        if plan.recording and plan.agent_answers:
            added = {
                "entry_id": call_id,
                "recording_id": f"rec{call_id}",
                "timestamp": end + 60,
                "product_id": 1,
            }
            posts.append(self._post(f"{hook}/events/record/added", added))
        return posts

    @override
    def outbound(self, command: "Originated", plan: "CallScript", now: int, hook: str) -> list[Post]:
        entry, t0 = command.call_id, now // 1000
        customer = command.to.lstrip("+")
        mine = {"entry_id": entry, "location": "abonent", "command_id": command.correlation_id}
        agent = {**mine, "call_id": f"{entry}-a", "from": {"number": customer},
                 "to": {"extension": command.agent_ext, "number": f"sip:{command.agent_ext}@pbx"}}  # fmt: skip
        called = {**mine, "call_id": f"{entry}-c", "from": {"extension": command.agent_ext, "number": "sip:a@pbx"},
                  "to": {"number": customer}}  # fmt: skip
        steps: list[dict[str, Any]] = [{**agent, "seq": 1, "timestamp": t0, "call_state": "Appeared"}]
        at, talk = t0 + 1, 0
        if plan.agent_answers:
            steps.append({**agent, "seq": 2, "timestamp": at, "call_state": "Connected"})
            steps.append({**called, "seq": 1, "timestamp": at, "call_state": "Appeared"})
            at += plan.ring_s
            reason = {"answer": 1110, "no_answer": 1111, "busy": 1121, "rejected": 1122, "invalid": 1133}[
                plan.customer
            ]
            if plan.customer == "answer":
                talk = at
                steps.append({**called, "seq": 2, "timestamp": at, "call_state": "Connected"})
                at += plan.talk_s
            steps.append({**called, "seq": 3, "timestamp": at, "call_state": "Disconnected",
                          "disconnect_reason": reason})  # fmt: skip
        else:
            reason = 1111
        steps.append({**agent, "seq": 3, "timestamp": at, "call_state": "Disconnected", "disconnect_reason": 1110
                      if plan.agent_answers else 1111})  # fmt: skip
        posts = [self._post(f"{hook}/events/call", step) for step in steps]
        summary = {"entry_id": entry, "call_direction": 2, "from": {"extension": command.agent_ext},
                   "to": {"number": customer}, "create_time": t0, "talk_time": talk, "end_time": at,
                   "entry_result": int(talk > 0), "disconnect_reason": reason,
                   "command_id": command.correlation_id}  # fmt: skip
        posts.append(self._post(f"{hook}/events/summary", summary, last_word=True))
        return posts

    def _post(self, url: str, event: dict[str, Any], *, last_word: bool = False) -> Post:
        text = json.dumps(event)
        sign = hashlib.sha256((self._key + text + self._salt).encode()).hexdigest()
        body = urlencode({"vpbx_api_key": self._key, "sign": sign, "json": text}).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return Post(url=url, body=body, headers=headers, last_word=last_word, facts=event)
