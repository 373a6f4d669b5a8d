"""The one reader of the event log in this process, and everybody who listens to it.

The table is the truth: a hint only wakes the reader, and a lost hint costs a second. The reader never waits for a
listener: what a listener cannot take at once is the listener's trouble (`Subscriber.push`).
"""

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any, Protocol

import structlog
from aiohttp import web

from crm_core.access import Actor, may_see
from crm_core.clock import to_iso
from crm_core.db.engine import Database
from crm_core.db.uow import Row
from crm_core.event_log import Cursor, newest, read_after
from crm_core.ports.hints import EPHEMERAL, EVENTS, Hints

log = structlog.get_logger(__name__)

POLL_S = 1.0
BATCH = 500
#: kinds that are written for other parts, not for screens
SILENT_KINDS: frozenset[str] = frozenset()


class Subscriber(Protocol):
    """A socket of the feed. `floor`: events up to there it has already."""

    actor: Actor
    floor: Cursor

    def push(self, frame: str) -> None:
        """Take a frame without waiting."""


Watcher = Callable[[Row], None]
Whisper = Callable[[dict[str, Any]], None]


class Hub:
    """One per application. Not thread-safe: everything happens on the loop."""

    def __init__(self, db: Database, hints: Hints) -> None:
        self._db = db
        self._hints = hints
        self._wake = asyncio.Event()
        self._ready = asyncio.Event()
        self._subscribers: set[Subscriber] = set()
        self._watchers: dict[int, set[Watcher]] = {}
        self._whispers: set[Whisper] = set()
        self._ends: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None
        #: behind the last event that was handed out
        self.cursor = Cursor()

    async def start(self) -> None:
        self._ends = [
            self._hints.subscribe(EVENTS, lambda _: self._wake.set()),
            self._hints.subscribe(EPHEMERAL, self._heard),
        ]
        self._task = asyncio.create_task(self._run(), name="feed-hub")

    async def close(self) -> None:
        for end in self._ends:
            end()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def ready(self) -> None:
        """Wait until the position in the log is known."""
        await self._ready.wait()

    # --- listeners ---------------------------------------------------------------------------------------------
    def add(self, subscriber: Subscriber) -> None:
        self._subscribers.add(subscriber)

    def drop(self, subscriber: Subscriber) -> None:
        self._subscribers.discard(subscriber)

    def watch(self, conversation_id: int, watcher: Watcher) -> Callable[[], None]:
        """Be called with each event of a conversation. Returns a function that ends it."""
        self._watchers.setdefault(conversation_id, set()).add(watcher)

        def end() -> None:
            group = self._watchers.get(conversation_id)
            if group is not None:
                group.discard(watcher)
                if not group:
                    del self._watchers[conversation_id]

        return end

    def on_whisper(self, listener: Whisper) -> Callable[[], None]:
        """Be called with what is said but never stored (typing, a chat that was opened)."""
        self._whispers.add(listener)
        return lambda: self._whispers.discard(listener)

    def whisper(self, message: dict[str, Any]) -> None:
        """Say something to all processes that is not worth storing."""
        self._hints.publish(EPHEMERAL, json.dumps(message))

    # --- the reader --------------------------------------------------------------------------------------------
    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                if not self._ready.is_set():
                    async with self._db.reading() as conn:
                        self.cursor = await newest(conn, tx_offset=self._db.tx_offset)
                    self._ready.set()
                more = await self._step()
            except Exception as error:
                log.warning("feed_reader_failed", error=type(error).__name__, exc_info=True)
                more = False
                await asyncio.sleep(POLL_S)
            if not more:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await self._wake.wait()

    async def _step(self) -> bool:
        async with self._db.reading() as conn:
            rows, cursor = await read_after(conn, self.cursor, limit=BATCH, tx_offset=self._db.tx_offset)
        # From here on there is no await: whoever joins sees either all of the batch or none of it.
        for row in rows:
            self._hand_out(row)
        self.cursor = cursor
        return len(rows) == BATCH

    def _hand_out(self, row: Row) -> None:
        position = Cursor(row["tx"], row["id"])
        frame: str | None = None
        for subscriber in tuple(self._subscribers):
            if subscriber.floor < position and may_see(subscriber.actor, row["audience"]):
                # Encoded once, however many listen.
                frame = frame if frame is not None else event_frame(row)
                subscriber.push(frame)
        for watcher in tuple(self._watchers.get(row["conversation_id"] or 0, ())):
            watcher(row)

    def _heard(self, payload: str) -> None:
        try:
            message = json.loads(payload)
        except ValueError:
            return
        if not isinstance(message, dict):
            return
        for listener in tuple(self._whispers):
            listener(message)
        if message.get("type") == "typing":
            self._typing(message)

    def _typing(self, message: dict[str, Any]) -> None:
        frame = json.dumps(
            {
                "type": "event",
                "cursor": None,
                "id": None,
                "kind": "typing",
                "at": message.get("at"),
                "actor": message.get("actor"),
                "inquiry_id": message.get("inquiry_id"),
                "subject": {"kind": "conversation", "id": message.get("conversation_id")},
                "conversation_id": message.get("conversation_id"),
                "data": {"name": message.get("name")},
            }
        )
        for subscriber in tuple(self._subscribers):
            if message.get("actor") != subscriber.actor.label and may_see(
                subscriber.actor, message.get("audience") or {}
            ):
                subscriber.push(frame)


def event_data(row: Row) -> dict[str, Any]:
    """An event as the API shows it."""
    return {
        "cursor": str(Cursor(row["tx"], row["id"])),
        "id": row["id"],
        "kind": row["kind"],
        "at": to_iso(row["at"]),
        "actor": row["actor"],
        "subject": {"kind": row["subject_kind"], "id": row["subject_id"]},
        "inquiry_id": row["inquiry_id"],
        "conversation_id": row["conversation_id"],
        "data": row["payload"],
    }


def event_frame(row: Row) -> str:
    return json.dumps({"type": "event", **event_data(row)}, ensure_ascii=False, separators=(",", ":"))


HUB = web.AppKey("hub", Hub)
