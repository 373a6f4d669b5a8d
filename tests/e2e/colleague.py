"""Somebody of the bureau at work: logs in, keeps the feed open, and does what the desk does, over the public API."""

import asyncio
import contextlib
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import aiohttp

from switchboard.demo.people import DOMAIN
from tests.e2e.bureau import SECRETS, Bureau
from tests.e2e.waiting import PATIENCE_S, until

#: what the desk sends with each request that changes something
_HEADERS = {"X-Requested-With": "switchboard"}


class Refused(Exception):
    """The API said no."""

    def __init__(self, status: int, problem: Any) -> None:
        super().__init__(f"{status} {problem}")
        self.status = status
        self.problem = problem


@dataclass
class Colleague:
    """`async with Colleague(bureau, "maria") as maria`: logged in, with an open feed that writes to `events`."""

    at: Bureau
    login: str
    feed: bool = True
    id: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)
    cursor: str | None = None
    _http: aiohttp.ClientSession | None = None
    _reader: asyncio.Task[None] | None = None
    _opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> Self:
        # Cookies of an address without a name are refused by default.
        jar = aiohttp.CookieJar(unsafe=True)
        self._http = aiohttp.ClientSession(
            headers=_HEADERS, cookie_jar=jar, timeout=aiohttp.ClientTimeout(total=30)
        )
        try:
            answer = await self.post(
                "/auth/login", email=f"{self.login}@{DOMAIN}", password=SECRETS.password(self.login)
            )
            self.id = answer["agent"]["id"]
            if self.feed:
                self._reader = asyncio.create_task(self._follow(), name=f"feed-of-{self.login}")
                await asyncio.wait_for(self._opened.wait(), PATIENCE_S)
        except BaseException:
            await self._http.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        if self._http is not None:
            await self._http.close()

    # --- the API ------------------------------------------------------------------------------------------------
    async def get(self, path: str) -> Any:
        return await self.call("GET", path)

    async def post(self, path: str, **body: Any) -> Any:
        return await self.call("POST", path, body)

    async def put(self, path: str, **body: Any) -> Any:
        return await self.call("PUT", path, body)

    async def patch(self, path: str, **body: Any) -> Any:
        return await self.call("PATCH", path, body)

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """Raises Refused for any error, aiohttp's errors where nobody answers."""
        assert self._http is not None
        async with self._http.request(method, f"{self.at.url}/api/v1{path}", json=body) as answer:
            text = await answer.text()
            if answer.status >= 400:
                with contextlib.suppress(ValueError):
                    raise Refused(answer.status, json.loads(text))
                raise Refused(answer.status, text)
            return json.loads(text) if text else None

    # --- what agents do -----------------------------------------------------------------------------------------
    async def be(self, presence: str) -> Any:
        return await self.put("/me/presence", presence=presence)

    async def offer(self, fits: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
        """My open offer that fits, waiting for it."""

        async def look() -> dict[str, Any] | None:
            return next((o for o in (await self.get("/me/offers"))["items"] if fits(o)), None)

        found: dict[str, Any] = await until(look, f"an offer for {self.login}")
        return found

    async def accept(self, offer: dict[str, Any]) -> Any:
        return await self.post(f"/offers/{offer['id']}/accept")

    async def say(
        self, inquiry_id: int, text: str, *, client_id: str | None = None, **more: Any
    ) -> dict[str, Any]:
        made: dict[str, Any] = await self.post(
            f"/inquiries/{inquiry_id}/messages", text=text, client_id=client_id or str(uuid.uuid4()), **more
        )
        return made

    async def inquiry(self, inquiry_id: int) -> dict[str, Any]:
        shown: dict[str, Any] = await self.get(f"/inquiries/{inquiry_id}")
        return shown

    async def thread(self, inquiry_id: int) -> list[dict[str, Any]]:
        return list((await self.get(f"/inquiries/{inquiry_id}/messages"))["items"])

    async def find(self, **wanted: Any) -> dict[str, Any]:
        """The one inquiry with this `channel`, `kind`, `contact_id` …, waiting for it to come."""
        query = "&".join(f"{k}={v}" for k, v in wanted.items())

        async def look() -> list[dict[str, Any]]:
            return list((await self.get(f"/inquiries?{query}"))["items"])

        found: list[dict[str, Any]] = await until(look, f"an inquiry with {query}")
        assert len(found) == 1, found
        return found[0]

    # --- the feed -----------------------------------------------------------------------------------------------
    async def heard(
        self, kind: str, fits: Callable[[dict[str, Any]], bool] = lambda _: True
    ) -> dict[str, Any]:
        """The first event of this kind that fits, waiting for it."""
        what = f"{kind} in the feed of {self.login}"
        found: dict[str, Any] = await until(
            lambda: next((e for e in self.events if e["kind"] == kind and fits(e)), None), what
        )
        return found

    async def _follow(self) -> None:
        assert self._http is not None
        async with self._http.ws_connect(f"{self.at.url}/api/v1/feed") as ws:
            async for item in ws:
                if item.type is not aiohttp.WSMsgType.TEXT:
                    continue
                frame = json.loads(item.data)
                if frame["type"] == "hello":
                    self.cursor = frame["cursor"]
                    self._opened.set()
                elif frame["type"] == "ping":
                    await ws.send_json({"type": "pong"})
                elif frame["type"] == "event":
                    self.cursor = frame["cursor"]
                    self.events.append(frame)
                else:
                    raise AssertionError(f"the feed of {self.login} says {frame}")
