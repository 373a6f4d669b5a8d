"""GET /chat/v1/stream: the protocol over a WebSocket. The first frame proves the session; nothing is in the URL."""

import asyncio
import contextlib
from typing import Any

from aiohttp import web

from api.chat.sessions import MESSAGES_PER_NETWORK, ChatSession, limit_network, session_of_token
from api.chat.speaking import mark_read, say, typing
from api.chat.stream import MAX_MISSED, VisitorStream
from api.feed.sockets import PING_S, SILENCE_S, SOCKETS, UNAUTHENTICATED, Socket, new_websocket
from api.keys import SERVICES
from api.layer.fields import MAX_BIG
from api.layer.problems import answer_to
from api.layer.routes import Call
from api.metrics import METRICS
from crm_core.errors import RateLimited, SwitchboardError

AUTH_S = 10.0


async def stream_socket(request: web.Request) -> web.StreamResponse:
    """GET /chat/v1/stream"""
    call = Call(request=request, services=request.app[SERVICES])
    ws = new_websocket()
    await ws.prepare(request)
    socket = Socket(request, ws)
    request.app[SOCKETS].add(socket)
    gauge = request.app[METRICS].sockets.labels("chat")
    gauge.inc()
    try:
        opened = await _authenticate(call, socket)
        if opened is None:
            socket.close_soon(UNAUTHENTICATED, "unauthenticated")
        else:
            await _Visit(call, socket, *opened).run()
    finally:
        request.app[SOCKETS].drop(socket)
        gauge.dec()
        if socket.dropped:
            request.app[METRICS].dropped.labels("chat").inc()
        await socket.finish()
    return ws


async def _authenticate(call: Call, socket: Socket) -> tuple[ChatSession, int] | None:
    with contextlib.suppress(TimeoutError, SwitchboardError):
        async with asyncio.timeout(AUTH_S):
            async for frame in socket.frames():
                after, token = frame.get("after", 0), frame.get("session")
                if frame["type"] != "auth" or not isinstance(token, str):
                    return None
                if not _is_seq(after):
                    await socket.send_data(
                        {
                            "type": "error",
                            "code": "bad_frame",
                            "detail": "after must be a whole number from 0 on",
                        }
                    )
                    continue
                return await session_of_token(call, token), after
    return None


def _is_seq(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_BIG


class _Visit:
    def __init__(self, call: Call, socket: Socket, session: ChatSession, after: int) -> None:
        self.call = call
        self.socket = socket
        self.session = session
        self.stream = VisitorStream(call, session, after)

    async def run(self) -> None:
        try:
            last = await self.stream.open()
            await self.socket.send_data({"type": "ready", "cursor": last})
            if self.stream.position > last or last - self.stream.position > MAX_MISSED:
                # A number we never gave, or too much to push: the client fetches what it wants to show.
                await self.socket.send_data({"type": "reset", "cursor": last})
                self.stream.position = last
            await self._serve()
        finally:
            self.stream.close()

    async def _serve(self) -> None:
        tasks = [
            asyncio.create_task(work, name=name)
            for name, work in (
                ("chat-reader", self._read()),
                ("chat-stream", self.stream.run(self.socket)),
                ("chat-keeper", self._keep_alive()),
            )
        ]
        gone = asyncio.create_task(self.socket.gone.wait())
        try:
            done, _ = await asyncio.wait({*tasks, gone}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (*tasks, gone):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(PING_S)
            if asyncio.get_running_loop().time() - self.socket.last_heard > SILENCE_S:
                self.socket.close_soon(1001, "silent")
                return

    async def _read(self) -> None:
        async for frame in self.socket.frames():
            try:
                await self._take(frame)
            except SwitchboardError as error:
                self._refuse(frame, error.code, error.detail, error)
            except Exception as error:
                # The visitor keeps his draft and sends again; the id in our log tells what happened.
                response = answer_to(error, where="/chat/v1/stream")
                code = "unavailable" if response.status == 503 else "internal"
                self._refuse(frame, code, "this did not work, try again", error)

    def _refuse(self, frame: dict[str, Any], code: str, detail: str, error: Exception) -> None:
        answer: dict[str, Any] = {"type": "error", "code": code, "detail": detail}
        if isinstance(frame.get("client_id"), str):
            answer["client_id"] = frame["client_id"][:64]
        if isinstance(error, RateLimited):
            answer["retry_after_s"] = error.retry_after_s
        self.socket.push_data(answer)

    async def _take(self, frame: dict[str, Any]) -> None:
        kind = frame["type"]
        if kind == "message":
            await limit_network(self.call, "say", MESSAGES_PER_NETWORK)
            row, duplicate = await say(self.call, self.session, frame)
            self.socket.push_data(
                {
                    "type": "ack",
                    "client_id": frame["client_id"],
                    "seq": row["seq"],
                    "id": row["id"],
                    "duplicate": duplicate,
                }
            )
        elif kind == "ping":
            self.socket.push_data({"type": "pong"})
        elif kind == "typing" and self.stream.thread is not None:
            await typing(self.call, self.session, self.stream.thread)
        elif kind == "read" and self.stream.thread is not None and _is_seq(frame.get("seq")):
            self.stream.note_read(frame["seq"])
            await mark_read(self.call, self.stream.thread["id"], frame["seq"])
        elif kind not in ("typing", "read", "pong", "auth"):
            self._refuse(frame, "unknown_frame", "known frames: message, typing, read, ping", ValueError())
