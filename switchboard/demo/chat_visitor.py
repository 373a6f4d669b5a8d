"""A visitor of the bureau's site: the chat protocol as a browser speaks it, over HTTP and WebSocket."""

import asyncio
import contextlib
import itertools
import json
from typing import Any

import aiohttp

from switchboard.demo.people import Customer

_ACK_TIMEOUT_S = 10.0


class ChatVisitor:
    """One open chat. `incoming` holds the messages of bot and agents, newest last."""

    def __init__(
        self, http: aiohttp.ClientSession, url: str, inbox_key: str, who: Customer, tag: str
    ) -> None:
        self.who = who
        self.incoming: list[dict[str, Any]] = []
        self._http = http
        self._url = url
        self._inbox_key = inbox_key
        self._tag = tag
        self._numbers = itertools.count(1)
        self._acks: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._ws: aiohttp.ClientWebSocketResponse | None = None
        self._reader: asyncio.Task[None] | None = None

    async def open(self) -> bool:
        """Start the session and the stream. False if the site asks to slow down."""
        fields = {"name": self.who.name, **({"email": self.who.email} if self.who.email else {})}
        body = {"inbox_key": self._inbox_key, "locale": self.who.locale, "fields": fields, "page": "/tours"}
        async with self._http.post(f"{self._url}/chat/v1/session", json=body) as answer:
            if answer.status == 429:
                return False
            answer.raise_for_status()
            session = (await answer.json())["session"]
        self._ws = await self._http.ws_connect(f"{self._url}/chat/v1/stream")
        await self._ws.send_json({"type": "auth", "session": session, "after": 0})
        self._reader = asyncio.create_task(self._read(self._ws), name="demo-chat-visitor")
        return True

    async def say(self, text: str) -> bool:
        """Send a text; True when the server has stored it."""
        return await self._send({"text": text})

    async def press(self, button: dict[str, Any]) -> bool:
        """Choose one of the buttons under a message."""
        return await self._send({"text": button["label"], "action": button["value"]})

    @property
    def buttons(self) -> list[dict[str, Any]]:
        """What the newest message offers to choose."""
        rows = (self.incoming[-1].get("buttons") or []) if self.incoming else []
        return [button for row in rows for button in row if button.get("value")]

    async def close(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        if self._ws is not None:
            await self._ws.close()

    async def _send(self, fields: dict[str, Any]) -> bool:
        if self._ws is None or self._ws.closed:
            return False
        client_id = f"{self._tag}-{next(self._numbers)}"
        ack = self._acks[client_id] = asyncio.get_running_loop().create_future()
        await self._ws.send_json({"type": "message", "client_id": client_id, **fields})
        try:
            frame = await asyncio.wait_for(ack, _ACK_TIMEOUT_S)
        except TimeoutError:
            return False
        finally:
            self._acks.pop(client_id, None)
        return bool(frame["type"] == "ack")

    async def _read(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        async for item in ws:
            if item.type is not aiohttp.WSMsgType.TEXT:
                continue
            frame = json.loads(item.data)
            if frame["type"] in ("ack", "error"):
                waiting = self._acks.get(frame.get("client_id") or "")
                if waiting is not None and not waiting.done():
                    waiting.set_result(frame)
            elif frame["type"] == "message" and frame["direction"] == "out":
                self.incoming.append(frame)
            elif frame["type"] == "ping":
                with contextlib.suppress(ConnectionError):
                    await ws.send_json({"type": "pong"})
