"""What all our WebSockets share: one writer task and a bounded queue each, closing that cannot hang, shutdown."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import WSMsgType, web

from api.layer.bodies import parse_json
from crm_core.errors import SwitchboardError

UNAUTHENTICATED, SLOW_READER, GOING_AWAY, TOO_MANY = 4401, 4408, 1001, 4429
MAX_FRAME = 64 * 1024
MAX_QUEUE = 512
PING_S = 25.0
#: a client that says nothing for so long is gone
SILENCE_S = 70.0
#: unreadable frames until the client is taken for broken
MAX_BAD_FRAMES = 20


class Socket:
    """A prepared WebSocket. `push` never waits; a full queue closes with 4408, and the client resumes."""

    def __init__(
        self, request: web.Request, ws: web.WebSocketResponse, *, max_queue: int = MAX_QUEUE
    ) -> None:
        self.request = request
        self.ws = ws
        self.dropped = False
        self._queue: asyncio.Queue[str] = asyncio.Queue(max_queue)
        #: set once we have closed it; the reading side may not notice that by itself when the other side is stuck
        self.gone = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None
        self._bad_frames = 0
        self.last_heard = asyncio.get_running_loop().time()
        self._writer = asyncio.create_task(self._write(), name="socket-writer")

    def push(self, frame: str) -> None:
        """Queue a frame."""
        if self._closing is not None:
            return
        try:
            self._queue.put_nowait(frame)
        except asyncio.QueueFull:
            self.dropped = True
            self.close_soon(SLOW_READER, "resync")

    def push_data(self, data: dict[str, Any]) -> None:
        self.push(json.dumps(data, ensure_ascii=False, separators=(",", ":")))

    async def send_data(self, data: dict[str, Any]) -> None:
        """Queue a frame, waiting for room: for catching up, where the reader sets the pace."""
        await self.send(json.dumps(data, ensure_ascii=False, separators=(",", ":")))

    async def send(self, frame: str) -> None:
        if self._closing is None:
            await self._queue.put(frame)

    def close_soon(self, code: int, reason: str) -> None:
        """Close without making the caller wait for the other side."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(code, reason), name="socket-close")

    @property
    def closing(self) -> bool:
        return self._closing is not None

    async def _close(self, code: int, reason: str) -> None:
        self._writer.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await self._writer
        # Whoever waits for room in `send` must not wait for ever.
        while not self._queue.empty():
            self._queue.get_nowait()
        # A stuck reader does not take the close frame either: it gets two seconds, then the line is cut. Ending the
        # writer cancelled the future on which aiohttp waits for room, so CancelledError may come from there, too.
        with contextlib.suppress(asyncio.CancelledError, Exception):
            async with asyncio.timeout(2):
                await self.ws.close(code=code, message=reason.encode())
        if code in (SLOW_READER, GOING_AWAY) and self.request.transport is not None:
            self.request.transport.abort()
        self.gone.set()

    async def _write(self) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                await self.ws.send_str(await self._queue.get())

    async def frames(self) -> AsyncIterator[dict[str, Any]]:
        """What the client says, as objects. Unreadable frames are answered; too many end the connection."""
        async for message in self.ws:
            self.last_heard = asyncio.get_running_loop().time()
            if message.type is not WSMsgType.TEXT:
                self._bad("send text frames")
                continue
            try:
                frame = parse_json(message.data)
            except SwitchboardError as error:
                self._bad(error.detail)
                continue
            if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
                self._bad('a frame is an object with a "type"')
                continue
            yield frame

    def _bad(self, detail: str) -> None:
        self._bad_frames += 1
        if self._bad_frames > MAX_BAD_FRAMES:
            self.close_soon(1008, "too many unreadable frames")
            return
        self.push_data({"type": "error", "code": "bad_frame", "detail": detail})

    async def until_end(self, reading: asyncio.Task[None]) -> None:
        """Wait until the client leaves or we have closed."""
        gone = asyncio.create_task(self.gone.wait())
        try:
            await asyncio.wait({reading, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
        if reading.done():
            reading.result()

    async def finish(self) -> None:
        """End the tasks; called once the reading loop is over."""
        if self._closing is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._closing
        self._writer.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await self._writer


class OpenSockets:
    """All sockets of an application, to close them by name when it stops: without that a shutdown waits for every
    client, and they never learn why.
    """

    def __init__(self) -> None:
        self._all: set[Socket] = set()

    def add(self, socket: Socket) -> None:
        self._all.add(socket)

    def drop(self, socket: Socket) -> None:
        self._all.discard(socket)

    def __len__(self) -> int:
        return len(self._all)

    async def close_all(self) -> None:
        for socket in tuple(self._all):
            socket.close_soon(GOING_AWAY, "server is going away")
        # Each of them takes at most its two seconds, all at once.
        await asyncio.gather(*(s.finish() for s in tuple(self._all)), return_exceptions=True)


SOCKETS = web.AppKey("sockets", OpenSockets)


def new_websocket() -> web.WebSocketResponse:
    # Without compression: it costs 100 kB a connection and slows the first broadcast sixfold.
    return web.WebSocketResponse(compress=False, max_msg_size=MAX_FRAME, timeout=2.0)
