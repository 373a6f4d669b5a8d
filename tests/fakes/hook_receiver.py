"""A strict receiver of our outbound webhooks: it checks the signature as docs/webhooks.md tells receivers to.

A post without a right signature, with an old time, of another type or too large is answered 4xx and noted in
`complaints`; repeats of an event id are told apart from new ones.
"""

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web
from aiohttp.test_utils import TestServer

WINDOW_S = 300
MAX_BODY = 300 * 1024


@dataclass
class HookReceiver:
    """Use as `async with HookReceiver(now_s=...) as receiver:`; set `secret`, read `events` and `posts`.

    `answers` are given one a post, then 200: a status, or (status, headers).
    """

    now_s: Any
    secret: str = ""
    answers: list[Any] = field(default_factory=list)
    posts: list[dict[str, Any]] = field(default_factory=list)
    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    _server: TestServer | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_route("*", "/{tail:.*}", self._take)
        self._server = TestServer(app, host="127.0.0.1")
        await self._server.start_server()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        await self._server.close()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.port}/hook"

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        problem = self._problem(request, body)
        if problem:
            self.complaints.append(problem)
            return web.Response(status=400, text=problem)
        event = json.loads(body)
        self.posts.append(event | {"attempt": request.headers["X-Attempt"], "path": request.path})
        answer = self.answers.pop(0) if self.answers else 200
        status, headers = answer if isinstance(answer, tuple) else (answer, {})
        if 200 <= status < 300:
            self.events.setdefault(event["id"], event)
        return web.Response(status=status, headers=headers, text="noted" if status < 300 else "not now")

    def _problem(self, request: web.Request, body: bytes) -> str:
        headers = request.headers
        if request.method != "POST" or request.content_type != "application/json":
            return f"{request.method} {request.content_type}"
        stamp = headers.get("X-Timestamp", "")
        if not stamp.isdigit() or abs(self.now_s() - int(stamp)) > WINDOW_S:
            return f"time {stamp!r}"
        mac = hmac.new(self.secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).digest()
        want = base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
        if not hmac.compare_digest(want, headers.get("X-Signature", "")):
            return "signature"
        event = json.loads(body)
        if event["id"] != headers.get("X-Event-Id") or event["kind"] != headers.get("X-Event-Kind"):
            return "headers and body name different events"
        return ""
