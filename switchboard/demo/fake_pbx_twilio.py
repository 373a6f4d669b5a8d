"""Twilio's side of the fake PBX: the Calls API, TwiML and call progress callbacks. Imports no adapter."""

import base64
import hashlib
import hmac
import json
import random
import re
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit
from xml.etree import ElementTree as ET

from typing_extensions import override

from switchboard.demo.fake_pbx_dialects import Answer, Dialect, Post, RefusedError, connected, originated

if TYPE_CHECKING:
    from switchboard.demo.fake_pbx import CallScript, Connected, Originated

_E164 = re.compile(r"\+[1-9]\d{6,14}")
_RING_BEFORE_S = 1


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
        self, method: str, path: str, headers: dict[str, str], raw: bytes, *, now: int, call_id: str
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
        command = originated(
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
    def connect(
        self, method: str, path: str, headers: dict[str, str], raw: bytes, *, now: int
    ) -> "Connected | None":
        found = re.fullmatch(rf"/2010-04-01/Accounts/{re.escape(self._sid)}/Calls/(CA\w+)\.json", path)
        if method != "POST" or found is None:
            return None
        login = base64.b64encode(f"{self._sid}:{self._token}".encode()).decode()
        if headers.get("Authorization") != f"Basic {login}":
            raise _twilio_error(401, 20003, "Authenticate")
        wish = dict(parse_qsl(raw.decode(), strict_parsing=True))
        if not (wish.get("Twiml") or wish.get("Url") or wish.get("Status")):
            raise _twilio_error(400, 21205, "Url parameter is required")
        dial = ET.fromstring(wish["Twiml"]).find("./Dial")  # noqa: S314 - our own product's TwiML
        target = dial[0] if dial is not None and len(dial) else None
        if target is None or not target.text:
            raise _twilio_error(400, 12200, "Schema validation warning")
        marks = dict(parse_qsl(urlsplit(str(target.get("statusCallback"))).query))
        return connected(
            call_id=found[1],
            agent_ext=target.text,
            correlation_id=marks.get("corr"),
            outbound=marks.get("dir") == "outbound",
            raw={**wish, "leg": str(target.get("statusCallback"))},
        )

    @override
    def connecting(
        self, command: "Connected", outward: "Originated | None", plan: "CallScript", now: int, hook: str
    ) -> list[Post]:
        leg = str(command.raw["leg"])
        child = {
            "CallSid": f"{command.call_id[:-4]}beef",
            "ParentCallSid": command.call_id,
            "From": "+380441112233",
            "To": f"client:{command.agent_ext}",
            "Direction": "outbound-dial",
        }
        at = now + 1000 * plan.ring_s
        steps = [(leg, now, {**child, "CallStatus": "ringing"})]
        if not plan.agent_answers:
            return self._posts([*steps, (leg, at, {**child, "CallStatus": "no-answer"})])
        end = at + 1000 * plan.talk_s
        steps += [
            (leg, at, {**child, "CallStatus": "in-progress"}),
            (leg, end, {**child, "CallStatus": "completed", "CallDuration": str(plan.talk_s)}),
        ]
        if outward is not None:
            root = {
                "CallSid": command.call_id,
                "From": str(outward.caller_id),
                "To": outward.to,
                "Direction": "outbound-api",
            }
            status = str(outward.raw["StatusCallback"])
            steps.append((status, end, {**root, "CallStatus": "completed", "CallDuration": str(plan.talk_s)}))
        return self._posts(steps)

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
        *,
        now: int,
        routed: Answer | None,
        hook: str,
    ) -> list[Post]:
        parent = {"CallSid": call_id, "From": from_, "To": to, "Direction": "inbound"}
        child = {
            "CallSid": f"{call_id[:-4]}{'beef'}",
            "ParentCallSid": call_id,
            "From": to,
            "To": f"client:{plan.agent_ext}",
            "Direction": "outbound-dial",
        }
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
        first = {
            "CallSid": command.call_id,
            "From": str(command.caller_id),
            "To": str(command.raw["To"]),
            "Direction": "outbound-api",
        }
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
            child = {
                "CallSid": f"{command.call_id[:-4]}cafe",
                "ParentCallSid": command.call_id,
                "From": str(command.caller_id),
                "To": command.to,
                "Direction": "outbound-dial",
            }
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
