"""One visitor's stream: the conversation's log by `seq`, and what passes by (typing, states, read marks).

WebSocket, server-sent events and long poll all read through this; hints only wake it, the message table is the truth.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from sqlalchemy import select

from api.chat.frames import is_visible, read_messages
from api.chat.sessions import ChatSession, find_thread
from api.chat.speaking import mark_read
from api.feed.hub import HUB, Hub
from api.layer.routes import Call
from crm_core.db.uow import Row
from crm_core.schema import agent, conversation

#: a visitor who missed more than this fetches anew
MAX_MISSED = 500
_BATCH = 100
#: without any hint the thread is looked at this often
_POLL_S = 5.0


class Sink(Protocol):
    """Where frames go. `push` takes one without waiting, `send_data` waits for room."""

    def push_data(self, data: dict[str, Any]) -> None: ...
    async def send_data(self, data: dict[str, Any]) -> None: ...


class VisitorStream:
    """Follows one visitor's thread from `position` on."""

    def __init__(self, call: Call, session: ChatSession, position: int) -> None:
        self.call = call
        self.session = session
        self.position = position
        self.thread: Row | None = None
        self._hub: Hub = call.request.app[HUB]
        self._wake = asyncio.Event()
        self._ends: list[Callable[[], None]] = []
        self._read_by_visitor = 0
        self._sink: Sink | None = None
        self._asides: set[asyncio.Task[None]] = set()

    async def open(self) -> int:
        """Find the thread and begin to listen. Returns the number of its last message, 0 if there is none."""
        await self._hub.ready()
        # Listening begins before reading: what comes between is then read twice at worst, and shown once.
        self._ends.append(self._hub.on_whisper(self._heard))
        await self._find_thread()
        return int(self.thread["last_seq"]) if self.thread is not None else 0

    def close(self) -> None:
        for end in self._ends:
            end()
        for aside in self._asides:
            aside.cancel()

    async def run(self, sink: Sink) -> None:
        """Feed the sink until cancelled."""
        self._sink = sink
        while True:
            self._wake.clear()
            if self.thread is None:
                await self._find_thread()
            await self.catch_up(sink.send_data)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_S):
                    await self._wake.wait()

    async def catch_up(self, send: Callable[[dict[str, Any]], Awaitable[None]]) -> int:
        """Send all messages behind the position. Returns how many."""
        count = 0
        while self.thread is not None:
            async with self.call.db.reading() as conn:
                frames = await read_messages(
                    conn,
                    self.thread["id"],
                    after=self.position,
                    limit=_BATCH,
                    secret_key=self.call.services.settings.secret_key,
                    now=self.call.now,
                )
            for frame in frames:
                await send(frame)
                self.position = frame["seq"]
                count += 1
            if len(frames) < _BATCH:
                break
        return count

    async def until_news(self, wait_s: float, stopping: asyncio.Event) -> None:
        """Wait for something to happen in the thread, for a while, or for the end of the server."""
        waits = [asyncio.create_task(self._wake.wait()), asyncio.create_task(stopping.wait())]
        try:
            await asyncio.wait(waits, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        self._wake.clear()
        if self.thread is None:
            await self._find_thread()

    def note_read(self, seq: int) -> None:
        self._read_by_visitor = max(self._read_by_visitor, seq)

    async def _find_thread(self) -> None:
        self.thread = await find_thread(self.call.db, self.session)
        if self.thread is not None:
            self._ends.append(self._hub.watch(self.thread["id"], self._happened))
            self._read_by_visitor = self.thread["customer_read_seq"]

    # --- what wakes and what is passed on; called from the hub, so nothing here may wait --------------------------
    def _heard(self, whisper: dict[str, Any]) -> None:
        kind = whisper.get("type")
        if kind == "chat_opened" and self.thread is None:
            if (whisper.get("inbox_id"), whisper.get("visitor_id")) == (
                self.session.inbox["id"],
                self.session.visitor_id,
            ):
                self._wake.set()
            return
        if self.thread is None or whisper.get("conversation_id") != self.thread["id"] or self._sink is None:
            return
        if kind == "typing" and str(whisper.get("actor", "")).startswith(("agent:", "bot")):
            self._sink.push_data({"type": "typing", "name": whisper.get("name")})
        elif kind == "agents_read" and isinstance(whisper.get("seq"), int):
            self._sink.push_data({"type": "read", "seq": whisper["seq"]})

    def _happened(self, event: Row) -> None:
        if event["kind"] == "message.added":
            self._wake.set()
        elif self._sink is None:
            return
        elif event["kind"] == "message.state_changed":
            self._aside(self._status(event["payload"]))
        elif event["kind"] == "message.edited":
            self._edited(event["payload"].get("message") or {})
        elif event["kind"] == "inquiry.assigned":
            self._aside(self._joined(event["payload"].get("agent_id")))

    def _aside(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._asides.add(task)
        task.add_done_callback(self._asides.discard)

    async def _status(self, payload: dict[str, Any]) -> None:
        seq, state = payload.get("seq"), payload.get("state")
        if not isinstance(seq, int) or self._sink is None or self.thread is None:
            return
        async with self.call.db.reading() as conn:
            frames = await read_messages(
                conn,
                self.thread["id"],
                after=seq - 1,
                limit=1,
                secret_key=self.call.services.settings.secret_key,
                now=self.call.now,
            )
        # Notes have states as well; their very existence is not the visitor's business.
        if not frames or frames[0]["seq"] != seq:
            return
        self._sink.push_data({"type": "status", "message_seq": seq, "state": state})
        if state == "sent" and seq <= self._read_by_visitor:
            # He read it before its delivery was written down.
            await mark_read(self.call, self.thread["id"], self._read_by_visitor)

    def _edited(self, shown: dict[str, Any]) -> None:
        # The payload is the agents' view: only named parts of it go out.
        if self._sink is not None and is_visible(shown):
            deleted = bool((shown.get("meta") or {}).get("deleted_at"))
            self._sink.push_data(
                {
                    "type": "edit",
                    "seq": shown.get("seq"),
                    "text": "" if deleted else shown.get("text"),
                    "deleted": deleted,
                }
            )

    async def _joined(self, agent_id: object) -> None:
        if not isinstance(agent_id, int) or self._sink is None:
            return
        async with self.call.db.reading() as conn:
            name = (await conn.execute(select(agent.c.name).where(agent.c.id == agent_id))).scalar()
        if name is not None:
            self._sink.push_data({"type": "agent_joined", "name": name})


async def last_seq(call: Call, conversation_id: int) -> int:
    async with call.db.reading() as conn:
        return int(
            (
                await conn.execute(
                    select(conversation.c.last_seq).where(conversation.c.id == conversation_id)
                )
            ).scalar()
            or 0
        )
