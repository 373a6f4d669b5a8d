"""The demo's agents at work: each logs in, goes online, keeps the feed open, takes offers and answers, as people do
with the desk. Only the public API is used.
"""

import asyncio
import json
import random
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import structlog

from crm_core.clock import Clock
from switchboard.demo import phrases
from switchboard.demo.people import Staff

log = structlog.get_logger(__name__)

_HEADERS = {"X-Requested-With": "switchboard"}
_OPEN = ("new", "open")
#: channels through which nobody can write back: people telephone
_BY_PHONE = ("form", "telephony")


class Refused(Exception):
    """The API said no: it can happen to people too (a colleague was faster, the offer is over)."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status} {body[:300]}")
        self.status = status


@dataclass(slots=True)
class Worker:
    """One agent. `run` ends when cancelled; `leave` says good-bye."""

    url: str
    who: Staff
    password: str
    dice: random.Random
    clock: Clock
    online: asyncio.Event = field(default_factory=asyncio.Event)
    http: aiohttp.ClientSession | None = None
    me: int = 0
    _todo: "asyncio.Queue[int]" = field(default_factory=asyncio.Queue)
    _queued: set[int] = field(default_factory=set)
    _mine: set[int] = field(default_factory=set)
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    async def run(self) -> None:
        # An IP address has no cookies by default.
        self.http = aiohttp.ClientSession(headers=_HEADERS, cookie_jar=aiohttp.CookieJar(unsafe=True))
        answer = await self._call("POST", "/auth/login", {"email": self.who.email, "password": self.password})
        self.me = answer["agent"]["id"]
        async with self.http.ws_connect(f"{self.url}/api/v1/feed") as feed:
            await self._call("PUT", "/me/presence", {"presence": "online"})
            self.online.set()
            mine = await self._call("GET", "/inquiries?assignee_id=me&status=new,open&limit=20")
            for row in mine["items"]:
                self._mine.add(row["id"])
                self._queue(row["id"])
            self._do(self._work())
            async for item in feed:
                if item.type is aiohttp.WSMsgType.TEXT:
                    await self._heard(json.loads(item.data), feed)

    async def leave(self) -> None:
        """Go offline and close. Never raises."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.http is not None:
            try:
                await self._call("PUT", "/me/presence", {"presence": "offline"})
            except (Refused, aiohttp.ClientError, TimeoutError) as error:
                log.info("demo_agent_left_without_a_word", agent=self.who.login, error=str(error))
            await self.http.close()

    async def _heard(self, frame: dict[str, Any], feed: aiohttp.ClientWebSocketResponse) -> None:
        if frame["type"] == "ping":
            await feed.send_json({"type": "pong"})
        if frame["type"] != "event":
            return
        kind, data = frame["kind"], frame["data"]
        if kind == "offer.made" and data.get("offer", {}).get("agent_id") == self.me:
            self._do(self._answer_offer(data["offer"]))
        elif kind == "inquiry.assigned" and data.get("agent_id") == self.me:
            self._mine.add(frame["inquiry_id"])
            self._queue(frame["inquiry_id"])
        elif kind in ("inquiry.assigned", "inquiry.unassigned"):
            self._mine.discard(frame["inquiry_id"])
        elif kind == "message.added" and data["message"]["author"]["kind"] == "customer":
            if frame["inquiry_id"] in self._mine:
                self._queue(frame["inquiry_id"])
        elif (
            kind == "presence.changed"
            and frame["subject"]["id"] == self.me
            and data.get("presence") == "break"
        ):
            self._do(self._come_back())

    def _do(self, work: Any) -> None:
        task = asyncio.create_task(self._quietly(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _quietly(self, work: Any) -> None:
        try:
            await work
        except (Refused, aiohttp.ClientError, TimeoutError) as error:
            log.info("demo_agent_was_refused", agent=self.who.login, error=str(error))

    def _queue(self, inquiry_id: int | None) -> None:
        if inquiry_id is not None and inquiry_id not in self._queued:
            self._queued.add(inquiry_id)
            self._todo.put_nowait(inquiry_id)

    async def _come_back(self) -> None:
        await asyncio.sleep(self.dice.uniform(3, 6))
        await self._call("PUT", "/me/presence", {"presence": "online"})

    async def _answer_offer(self, offer: dict[str, Any]) -> None:
        chance = self.dice.random()
        if chance < 0.08:
            return  # looked away: the offer goes on to a colleague in time
        await asyncio.sleep(self.dice.uniform(0.8, 3.0))
        if chance < 0.12:
            await self._call("POST", f"/offers/{offer['id']}/decline", {"reason": "busy"})
            return
        await self._call("POST", f"/offers/{offer['id']}/accept", {})
        if offer.get("callback"):
            await self._call("POST", f"/callbacks/{offer['callback']['id']}/dial", {})

    async def _work(self) -> None:
        while True:
            inquiry_id = await self._todo.get()
            await asyncio.sleep(self.dice.uniform(0.7, 2.0))
            self._queued.discard(inquiry_id)
            await self._quietly(self._handle(inquiry_id))

    async def _handle(self, inquiry_id: int) -> None:
        row = await self._call("GET", f"/inquiries/{inquiry_id}")
        last = row["last_message"]
        if (row["assignee"] or {}).get("id") != self.me or row["status"] not in _OPEN:
            return
        if last is not None and last["author_kind"] not in ("customer", "bot", "system"):
            return
        await asyncio.sleep(self.dice.uniform(0.5, 2.5))
        text = last["text"] if last is not None else ""
        topic = _topic_of(f"{row['subject']} {text}")
        language = row["language"] if row["language"] in phrases.LANGUAGES else "en"
        if row["channel"] in _BY_PHONE:
            await self._telephone(row, topic or self.dice.choice(phrases.TOPICS))
            return
        if topic is not None and self.dice.random() < 0.2:
            await self._say(inquiry_id, topic.note, internal=True)
        first = (row["contact"]["name"] or "").split(" ")[0]
        thanked = text.startswith(tuple(phrases.THANKS.values()))
        reply = topic.reply[language] if topic is not None else phrases.HOW[language]
        greeting = phrases.GREETING[language].rstrip("!")
        await self._say(
            inquiry_id,
            phrases.WELCOME[language] if thanked else f"{greeting}{', ' + first if first else ''}! {reply}",
        )
        chance = self.dice.random()
        if thanked or chance < 0.3:
            await self._change(inquiry_id, {"status": "solved"})
        elif chance < 0.65:
            await self._change(inquiry_id, {"status": "pending"})
        elif row["status"] == "new":
            await self._change(inquiry_id, {"status": "open"})

    async def _telephone(self, row: dict[str, Any], topic: phrases.Topic) -> None:
        """A lead without a written channel: call and note what was said, or promise to call again."""
        if self.dice.random() < 0.3:
            soon = datetime.fromtimestamp(self.clock.now_ms() / 1000, UTC) + timedelta(seconds=5)
            await self._call("POST", "/callbacks", {
                "inquiry_id": row["id"], "window_start": soon.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "note": topic.note})  # fmt: skip
            await self._change(row["id"], {"status": "pending"})
            return
        await self._say(row["id"], topic.note, internal=True)
        changes: dict[str, Any] = {"status": "pending"}
        if row["kind"] == "lead":
            changes |= {
                "stage": self.dice.choice(["contacted", "qualified"]),
                "currency": "UAH",
                "value_minor": self.dice.randint(20, 120) * 1000_00,
            }
        await self._change(row["id"], changes)

    async def _say(self, inquiry_id: int, text: str, *, internal: bool = False) -> None:
        client_id = str(uuid.UUID(int=self.dice.getrandbits(128), version=4))
        await self._call(
            "POST",
            f"/inquiries/{inquiry_id}/messages",
            {"text": text, "client_id": client_id, "internal": internal},
        )

    async def _change(self, inquiry_id: int, changes: dict[str, Any]) -> None:
        await self._call("PATCH", f"/inquiries/{inquiry_id}", changes)

    async def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        if self.http is None:
            raise RuntimeError("not logged in")
        async with self.http.request(method, f"{self.url}/api/v1{path}", json=body) as answer:
            if answer.status >= 400:
                raise Refused(answer.status, f"{method} {path}: {await answer.text()}")
            return await answer.json() if answer.content_type.endswith("json") else None


def _topic_of(text: str) -> phrases.Topic | None:
    """What it is about, as far as the words tell."""
    for topic in phrases.TOPICS:
        for part in (topic.subject, topic.opening, topic.more):
            if any(words in text for words in part.values()):
                return topic
    return None
