"""GET /api/v1/feed: an agent's live events over a WebSocket.

Catching up and going live leave no gap and no double: the client is caught up from the table until it stands where
the process' reader stands, and joins the reader in that same step of the loop.
"""

import asyncio
import contextlib
from typing import Any

import structlog
from aiohttp import web

from api.auth.guard import actor_of_token, check_origin, identify
from api.auth.sessions import find_by_session, find_by_token
from api.feed.hub import HUB, Hub, event_frame
from api.feed.presence import renew_lease, say_presence
from api.feed.sockets import (
    PING_S,
    SILENCE_S,
    SOCKETS,
    UNAUTHENTICATED,
    Socket,
    new_websocket,
)
from api.keys import SERVICES
from api.layer.routes import Call
from api.metrics import METRICS
from crm_core.access import Actor, access_inquiry, inquiry_audience, may_see
from crm_core.clock import to_iso
from crm_core.errors import SwitchboardError, Unauthorized
from crm_core.event_log import Cursor, newest, oldest, read_after
from crm_core.services import Services

log = structlog.get_logger(__name__)

#: how long a program may take to send its token
AUTH_S = 10.0
#: events read from the table for one resuming client; who missed more fetches anew
MAX_CATCH_UP = 20_000
_BATCH = 500


async def feed(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/feed?after=cursor"""
    call = Call(request=request, services=request.app[SERVICES])
    if "Authorization" not in request.headers:
        # A page of another site could open a socket with the agent's cookie; its Origin gives it away.
        check_origin(request, call.services.settings)
    ws = new_websocket()
    await ws.prepare(request)
    socket = Socket(request, ws)
    request.app[SOCKETS].add(socket)
    gauge = request.app[METRICS].sockets.labels("feed")
    gauge.inc()
    try:
        if await _authenticate(call, socket):
            await _Connection(call, socket).run()
    finally:
        request.app[SOCKETS].drop(socket)
        gauge.dec()
        if socket.dropped:
            request.app[METRICS].dropped.labels("feed").inc()
        await socket.finish()
    return ws


async def _authenticate(call: Call, socket: Socket) -> bool:
    with contextlib.suppress(Unauthorized):
        await identify(call)
        return True
    if "Authorization" not in call.request.headers:
        with contextlib.suppress(TimeoutError, Unauthorized):
            async with asyncio.timeout(AUTH_S):
                async for frame in socket.frames():
                    if frame["type"] == "auth" and isinstance(frame.get("token"), str):
                        call.caller, call.credential = await actor_of_token(call.db, frame["token"])
                        call.by = "token"
                        return True
                    break
    socket.close_soon(UNAUTHENTICATED, "unauthenticated")
    return False


class _Connection:
    """An authenticated feed socket; the hub's Subscriber."""

    def __init__(self, call: Call, socket: Socket) -> None:
        self.call = call
        self.services: Services = call.services
        self.socket = socket
        self.hub: Hub = call.request.app[HUB]
        self.actor: Actor = call.actor
        self.floor = Cursor()

    def push(self, frame: str) -> None:
        self.socket.push(frame)

    async def run(self) -> None:
        await self.hub.ready()
        # Reading begins at once: a client that only listens is still heard when it leaves.
        reader = asyncio.create_task(self._read(), name="feed-reader")
        keeper = asyncio.create_task(self._keep_alive(), name="feed-keeper")
        try:
            await self._join()
            await self.socket.until_end(reader)
        finally:
            self.hub.drop(self)
            for task in (reader, keeper):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _join(self) -> None:
        start = await self._start()
        await self.socket.send_data(
            {"type": "hello", "cursor": str(start or self.hub.cursor), "agent_id": self.actor.agent_id}
        )
        position = start
        read = 0
        while position is not None and position < self.hub.cursor and not self.socket.closing:
            async with self.services.db.reading() as conn:
                rows, position = await read_after(
                    conn, position, limit=_BATCH, tx_offset=self.services.db.tx_offset
                )
            if not rows:
                break
            read += len(rows)
            if read > MAX_CATCH_UP:
                position = None
                break
            for row in rows:
                if may_see(self.actor, row["audience"]):
                    await self.socket.send(event_frame(row))
        # From the last comparison to here nothing is awaited when we go live, so nothing can slip between.
        if position is None:
            position = self.hub.cursor
            if start is not None or "after" in self.call.request.query:
                self.socket.push_data({"type": "reset", "cursor": str(position)})
        self.floor = position
        self.hub.add(self)

    async def _start(self) -> Cursor | None:
        """Where to resume, or None for "from now" (nothing asked, or not possible any more)."""
        asked = self.call.request.query.get("after")
        if asked is None:
            return None
        try:
            cursor = Cursor.parse(asked)
        except SwitchboardError:
            return None
        async with self.services.db.reading() as conn:
            first = await oldest(conn)
            last = await newest(conn, tx_offset=self.services.db.tx_offset)
        # Nobody was ever given a cursor beyond the last event: it is of another database, or of one not restored.
        if cursor > last:
            return None
        # Events before the first kept one may be lost to us; 0-0 of a young log is the exception that is not.
        if first is not None and cursor < first and first.id > 1:
            return None
        return cursor

    async def _read(self) -> None:
        async for frame in self.socket.frames():
            try:
                await self._take(frame)
            except SwitchboardError as error:
                self.socket.push_data({"type": "error", "code": error.code, "detail": error.detail})

    async def _take(self, frame: dict[str, Any]) -> None:
        if frame["type"] == "typing":
            await self._typing(frame.get("inquiry_id"))
        elif frame["type"] == "presence":
            await say_presence(self.services, self.actor, frame.get("presence"))
        elif frame["type"] not in ("pong", "auth"):
            self.socket.push_data(
                {"type": "error", "code": "unknown_frame", "detail": "known frames: pong, typing, presence"}
            )

    async def _typing(self, inquiry_id: object) -> None:
        if not isinstance(inquiry_id, int) or isinstance(inquiry_id, bool):
            self.socket.push_data(
                {"type": "error", "code": "bad_frame", "detail": "inquiry_id must be a number"}
            )
            return
        now = self.services.clock.now_ms()
        if (
            await self.services.limiter.take(
                f"typing:{self.actor.agent_id}:{inquiry_id}", per_s=0.5, burst=2, now=now
            )
            > 0
        ):
            return
        async with self.services.db.reading() as conn:
            row = await access_inquiry(conn, self.actor, inquiry_id)
        self.hub.whisper(
            {
                "type": "typing",
                "conversation_id": row["conversation_id"],
                "inquiry_id": row["id"],
                "actor": self.actor.label,
                "name": self.actor.name,
                "at": to_iso(now),
                "audience": inquiry_audience(row).as_data(),
            }
        )

    async def _keep_alive(self) -> None:
        """Ping, renew the agent's presence, and notice that he was locked out."""
        while not self.socket.closing:
            try:
                await renew_lease(self.services, self.actor)
            except Exception as error:
                # The next ping tries again; a lease outlives a missed one.
                log.warning("lease_not_renewed", agent_id=self.actor.agent_id, error=type(error).__name__)
            await asyncio.sleep(PING_S)
            if asyncio.get_running_loop().time() - self.socket.last_heard > SILENCE_S:
                self.socket.close_soon(1001, "silent")
                return
            self.socket.push_data({"type": "ping"})
            actor = await self._still_allowed()
            if actor is None:
                self.socket.close_soon(UNAUTHENTICATED, "the session has ended")
                return
            self.actor = actor

    async def _still_allowed(self) -> Actor | None:
        credential = self.call.credential or ""
        try:
            if self.call.by == "cookie":
                return await find_by_session(self.services.db, credential)
            return await find_by_token(self.services.db, credential)
        except Exception:
            # The database has a bad moment: that is no reason to throw a thousand agents out.
            return self.actor


__all__ = ["feed"]
