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
from typing import TYPE_CHECKING, Any, Protocol

from typing_extensions import override

if TYPE_CHECKING:
    from switchboard.demo.fake_pbx import CallScript, Connected, Originated

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
        self, method: str, path: str, headers: dict[str, str], raw: bytes, *, now: int, call_id: str
    ) -> "tuple[Originated, str]": ...
    def connect(
        self, method: str, path: str, headers: dict[str, str], raw: bytes, *, now: int
    ) -> "Connected | None": ...
    def connecting(
        self, command: "Connected", outward: "Originated | None", plan: "CallScript", now: int, hook: str
    ) -> list[Post]: ...
    def asking(self, call_id: str, from_: str, to: str, now: int, hook: str) -> Post | None: ...
    def read_answer(self, body: str) -> Answer | None: ...
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
    ) -> list[Post]: ...
    def outbound(self, command: "Originated", plan: "CallScript", now: int, hook: str) -> list[Post]: ...


def originated(**facts: Any) -> "Originated":
    from switchboard.demo.fake_pbx import Originated

    return Originated(**facts)


def connected(**facts: Any) -> "Connected":
    from switchboard.demo.fake_pbx import Connected

    return Connected(**facts)


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
        self, method: str, path: str, headers: dict[str, str], raw: bytes, *, now: int, call_id: str
    ) -> "tuple[Originated, str]":
        if (method, path) != ("POST", "/originate"):
            raise RefusedError(404, '{"error":"no such address"}')
        wish = self._signed(headers, raw, now)
        if not isinstance(wish.get("correlation_id"), str) or not _E164.fullmatch(str(wish.get("to"))):
            raise RefusedError(400, '{"error":"to must be E.164, correlation_id a string"}')
        if not wish.get("agent_ext") and not wish.get("customer_first"):
            raise RefusedError(400, '{"error":"agent_ext is missing"}')
        if not isinstance(wish.get("agent_ring_s"), int) or not 5 <= wish["agent_ring_s"] <= 120:
            raise RefusedError(400, '{"error":"agent_ring_s must be 5 to 120"}')
        if wish.get("customer_first") and not wish.get("prompt"):
            raise RefusedError(400, '{"error":"customer_first needs a prompt"}')
        command = originated(
            to=wish["to"],
            agent_ext=wish["agent_ext"],
            correlation_id=wish["correlation_id"],
            customer_first=bool(wish.get("customer_first")),
            caller_id=wish.get("caller_id"),
            call_id=call_id,
            raw=wish,
        )
        return command, json.dumps({"call_id": call_id})

    def _signed(self, headers: dict[str, str], raw: bytes, now: int) -> dict[str, Any]:
        lower = {name.lower(): value for name, value in headers.items()}
        stamp = lower.get("x-timestamp", "")
        want = self._sign(stamp.encode() + b"." + raw)
        if not stamp or not hmac.compare_digest(want, lower.get("x-signature", "")):
            raise RefusedError(401, '{"error":"bad signature"}')
        if abs(now / 1000 - float(stamp)) > 300:
            raise RefusedError(401, '{"error":"stale timestamp"}')
        wish: dict[str, Any] = json.loads(raw)
        return wish

    @override
    def connect(
        self, method: str, path: str, headers: dict[str, str], raw: bytes, *, now: int
    ) -> "Connected | None":
        if (method, path) != ("POST", "/connect"):
            return None
        wish = self._signed(headers, raw, now)
        if not isinstance(wish.get("call_id"), str) or not isinstance(wish.get("agent_ext"), str):
            raise RefusedError(400, '{"error":"call_id and agent_ext must be strings"}')
        return connected(
            call_id=wish["call_id"],
            agent_ext=wish["agent_ext"],
            correlation_id=wish.get("correlation_id"),
            outbound=wish.get("correlation_id") is not None,
            raw=wish,
        )

    @override
    def connecting(
        self, command: "Connected", outward: "Originated | None", plan: "CallScript", now: int, hook: str
    ) -> list[Post]:
        call = {
            "call_id": command.call_id,
            "direction": "outbound" if outward else "inbound",
            "correlation_id": command.correlation_id,
            **({"to": outward.to} if outward else {}),
        }
        leg = {
            **call,
            "leg_id": f"{command.call_id}-x{command.agent_ext}",
            "agent_ext": command.agent_ext,
            "agent_leg": True,
        }
        at = now + 1000 * plan.ring_s
        steps: list[tuple[int, dict[str, Any]]] = [(now, {**leg, "state": "ringing"})]
        if not plan.agent_answers:
            steps.append((at, {**leg, "state": "ended", "disposition": "no_answer"}))
        else:
            end = at + 1000 * plan.talk_s
            talked = {"disposition": "answered", "talk_sec": plan.talk_s}
            steps += [
                (at, {**leg, "state": "answered"}),
                (end, {**leg, "state": "ended", **talked}),
                (end, {**call, "leg_id": command.call_id, "state": "ended", **talked, "final": True}),
            ]
        return self._posts(hook, f"{command.call_id}-x{command.agent_ext}", steps)

    @override
    def asking(self, call_id: str, from_: str, to: str, now: int, hook: str) -> Post | None:
        event = {
            "event_id": f"{call_id}-ask",
            "call_id": call_id,
            "leg_id": call_id,
            "direction": "inbound",
            "from": from_,
            "to": to,
            "did": to,
            "state": "ringing",
            "ask": True,
            "at": now / 1000,
        }
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
        *,
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
        if plan.waits:
            steps.append((ring, {**caller, "state": "ringing"}))
            if plan.presses is not None:
                gone = {**caller, "state": "ended", "disposition": "abandoned", "final": True}
                steps += [(done, {**caller, "state": "note", "request": plan.presses}), (done, gone)]
            return self._posts(hook, call_id, steps)
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
                (
                    done,
                    {
                        **caller,
                        "state": "ended",
                        "disposition": "abandoned" if plan.hangs_up else "missed",
                        "final": True,
                    },
                ),
            ]
        return self._posts(hook, call_id, steps)

    @override
    def outbound(self, command: "Originated", plan: "CallScript", now: int, hook: str) -> list[Post]:
        call_id = command.call_id
        call = {
            "call_id": call_id,
            "direction": "outbound",
            "to": command.to,
            "from": command.caller_id,
            "correlation_id": command.correlation_id,
        }
        if command.customer_first:
            return self._customer_first(hook, call, plan, now)
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

    def _customer_first(self, hook: str, call: dict[str, Any], plan: "CallScript", now: int) -> list[Post]:
        """The customer's own leg; once he answered he waits until somebody is connected, or hangs up."""
        leg = {**call, "leg_id": call["call_id"]}
        at = now + 1000 * plan.ring_s
        steps: list[tuple[int, dict[str, Any]]] = [(now, {**leg, "state": "ringing"})]
        if plan.customer != "answer":
            cause = {"no_answer": 19, "busy": 17, "rejected": 21, "invalid": 1}[plan.customer]
            steps.append((at, {**leg, "state": "ended", "cause": cause, "final": True}))
            return self._posts(hook, call["call_id"], steps)
        steps.append((at, {**leg, "state": "answered"}))
        if plan.presses is not None:
            steps.append((at, {**leg, "state": "note", "request": plan.presses}))
        if plan.hangs_up or plan.presses is not None:
            gone = {**leg, "state": "ended", "disposition": "answered", "talk_sec": 3, "final": True}
            steps.append((at + 3000, gone))
        return self._posts(hook, call["call_id"], steps)

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
