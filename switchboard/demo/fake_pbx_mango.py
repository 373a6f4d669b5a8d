"""Mango Office's side of the fake PBX: commands/callback and its events.."""

import base64
import hashlib
import json
import random
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from typing_extensions import override

from switchboard.demo.fake_pbx_dialects import Answer, Dialect, Post, RefusedError, originated

if TYPE_CHECKING:
    from switchboard.demo.fake_pbx import CallScript, Connected, Originated

_RING_BEFORE_S = 1


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
        self, method: str, path: str, headers: dict[str, str], raw: bytes, *, now: int, call_id: str
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
        command = originated(
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
    def connect(
        self, method: str, path: str, headers: dict[str, str], raw: bytes, *, now: int
    ) -> "Connected | None":
        return None  # the manual has no such command

    @override
    def connecting(
        self, command: "Connected", outward: "Originated | None", plan: "CallScript", now: int, hook: str
    ) -> list[Post]:
        return []

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
        *,
        now: int,
        routed: Answer | None,
        hook: str,
    ) -> list[Post]:
        caller, line = from_.lstrip("+"), to.lstrip("+")
        t0 = now // 1000
        ring, done = t0 + _RING_BEFORE_S, t0 + _RING_BEFORE_S + plan.ring_s
        end = done + plan.talk_s if plan.agent_answers else done
        menu = {
            "entry_id": call_id,
            "call_id": f"{call_id}-ivr",
            "location": "ivr",
            "from": {"number": caller},
            "to": {"number": line, "line_number": line},
        }
        agent = {
            "entry_id": call_id,
            "call_id": f"{call_id}-101",
            "location": "abonent",
            "from": {"number": caller},
            "to": {"extension": plan.agent_ext, "number": f"sip:{plan.agent_ext}@pbx", "line_number": line},
        }
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
        summary = {
            "entry_id": call_id,
            "call_direction": 1,
            "from": {"number": caller},
            "to": {"extension": plan.agent_ext, "number": f"sip:{plan.agent_ext}@pbx"},
            "line_number": line,
            "create_time": t0,
            "forward_time": ring,
            "talk_time": done if plan.agent_answers else 0,
            "end_time": end,
            "entry_result": int(plan.agent_answers),
            "disconnect_reason": why,
        }
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
        agent = {
            **mine,
            "call_id": f"{entry}-a",
            "from": {"number": customer},
            "to": {"extension": command.agent_ext, "number": f"sip:{command.agent_ext}@pbx"},
        }
        called = {
            **mine,
            "call_id": f"{entry}-c",
            "from": {"extension": command.agent_ext, "number": "sip:a@pbx"},
            "to": {"number": customer},
        }
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
            steps.append(
                {
                    **called,
                    "seq": 3,
                    "timestamp": at,
                    "call_state": "Disconnected",
                    "disconnect_reason": reason,
                }
            )
        else:
            reason = 1111
        steps.append(
            {
                **agent,
                "seq": 3,
                "timestamp": at,
                "call_state": "Disconnected",
                "disconnect_reason": 1110 if plan.agent_answers else 1111,
            }
        )
        posts = [self._post(f"{hook}/events/call", step) for step in steps]
        summary = {
            "entry_id": entry,
            "call_direction": 2,
            "from": {"extension": command.agent_ext},
            "to": {"number": customer},
            "create_time": t0,
            "talk_time": talk,
            "end_time": at,
            "entry_result": int(talk > 0),
            "disconnect_reason": reason,
            "command_id": command.correlation_id,
        }
        posts.append(self._post(f"{hook}/events/summary", summary, last_word=True))
        return posts

    def _post(self, url: str, event: dict[str, Any], *, last_word: bool = False) -> Post:
        text = json.dumps(event)
        sign = hashlib.sha256((self._key + text + self._salt).encode()).hexdigest()
        body = urlencode({"vpbx_api_key": self._key, "sign": sign, "json": text}).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return Post(url=url, body=body, headers=headers, last_word=last_word, facts=event)
