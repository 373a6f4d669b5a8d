"""`switchboard demo --traffic`: customers at an asked pace, agents who serve them, and a count of what came of it.

Never faster than asked, ends in time, cleans up after itself. The same seed plays the same chances.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
import structlog

from switchboard.demo.crowd import SHARES, Crowd
from switchboard.demo.people import STAFF
from switchboard.demo.shift import Worker

if TYPE_CHECKING:
    from switchboard.demo.run import Demo

log = structlog.get_logger(__name__)

_LOGIN_TIMEOUT_S = 20.0
#: after the last customer, so long for what is under way
_SETTLE_S = 10.0
MAX_ACTS_AT_ONCE = 20


@dataclass(slots=True)
class Summary:
    """What was sent, and what the feed told of it."""

    sent: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    seconds: float = 0.0

    def text(self) -> str:
        channels = ", ".join(f"{name} {self.sent[name]}" for name in SHARES)
        facts = ", ".join(f"{self.seen[name]} {name}" for name in (
            "stored", "opened", "assigned", "answered", "solved", "callbacks", "breached"))  # fmt: skip
        trouble = f"; {self.missed} acts failed" if self.missed else ""
        return f"traffic over after {self.seconds:.0f} s: {self.sent.total()} sent ({channels}); {facts}{trouble}"


async def play(demo: "Demo", *, rate_per_s: float, for_s: float | None, seed: int = 1) -> Summary:
    """Play until the time is over (never, if `for_s` is None) or the task is cancelled."""
    loop = asyncio.get_running_loop()
    clock = demo.state.services.clock
    summary = Summary()
    began = loop.time()
    async with aiohttp.ClientSession() as http, _watched(demo, http, summary), _at_work(demo, seed):
        crowd = Crowd(
            demo.at, demo.parts, http, random.Random(seed), f"demo-{clock.now_ms()}", sent=summary.sent
        )
        crowd.start()
        acts: set[asyncio.Task[None]] = set()
        try:
            due = began = loop.time()
            while for_s is None or due < began + for_s:
                await asyncio.sleep(max(0.0, due - loop.time()))
                # An act may take a while (a mail waits for its 250); the others do not wait for it.
                if len(acts) < MAX_ACTS_AT_ONCE:
                    act = asyncio.create_task(_act(crowd, summary), name="demo-act")
                    acts.add(act)
                    act.add_done_callback(acts.discard)
                # People do not come like clockwork; late is never made up for, so the pace is never exceeded.
                due = max(due, loop.time()) + crowd.dice.uniform(1.0, 1.2) / rate_per_s
            summary.seconds = loop.time() - began
            await _settled(summary)
        finally:
            for act in acts:
                act.cancel()
            await asyncio.gather(*acts, return_exceptions=True)
            await crowd.close()
    return summary


async def _act(crowd: Crowd, summary: Summary) -> None:
    try:
        await crowd.act()
    except Exception as error:
        # A customer who gives up is no reason for the others to go home.
        log.warning("demo_customer_failed", error=f"{type(error).__name__}: {error}")
        summary.missed += 1


async def _settled(summary: Summary) -> None:
    """Wait while something still happens, a bounded time."""
    for _ in range(int(_SETTLE_S / 2)):
        before = summary.seen.total()
        await asyncio.sleep(2.0)
        if summary.seen.total() == before:
            return


@asynccontextmanager
async def _at_work(demo: "Demo", seed: int) -> AsyncIterator[None]:
    """The agents, logged in and online."""
    clock = demo.state.services.clock
    workers = [Worker(demo.at.url, who, demo.secrets.password(who.login), random.Random(f"{seed}:{who.login}"), clock)
               for who in STAFF if who.role == "agent"]  # fmt: skip
    shifts = [asyncio.create_task(worker.run(), name=f"demo-{worker.who.login}") for worker in workers]
    for shift in shifts:
        shift.add_done_callback(_ended)
    try:
        await asyncio.wait_for(
            asyncio.gather(*(_ready(worker, shift) for worker, shift in zip(workers, shifts, strict=True))),
            _LOGIN_TIMEOUT_S,
        )
        yield
    finally:
        for shift in shifts:
            shift.cancel()
        await asyncio.gather(*shifts, return_exceptions=True)
        for worker in workers:
            await worker.leave()


async def _ready(worker: Worker, shift: "asyncio.Task[None]") -> None:
    """Until the agent is online, or his shift has ended already."""
    online = asyncio.create_task(worker.online.wait())
    await asyncio.wait({online, shift}, return_when=asyncio.FIRST_COMPLETED)
    online.cancel()


def _ended(shift: "asyncio.Task[None]") -> None:
    if not shift.cancelled() and (error := shift.exception()) is not None:
        log.warning("demo_agent_failed", agent=shift.get_name(), error=f"{type(error).__name__}: {error}")


@asynccontextmanager
async def _watched(demo: "Demo", http: aiohttp.ClientSession, summary: Summary) -> AsyncIterator[None]:
    """Count what the feed tells, from now on."""
    headers = {"Authorization": f"Bearer {demo.secrets.api_token}"}
    async with http.ws_connect(f"{demo.at.url}/api/v1/feed", headers=headers) as feed:
        task = asyncio.create_task(_count(feed, summary.seen), name="demo-count")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _count(feed: aiohttp.ClientWebSocketResponse, seen: Counter[str]) -> None:
    names = {"inquiry.opened": "opened", "inquiry.assigned": "assigned", "sla.breached": "breached",
             "callback.booked": "callbacks"}  # fmt: skip
    async for item in feed:
        if item.type is not aiohttp.WSMsgType.TEXT:
            continue
        frame = json.loads(item.data)
        if frame["type"] == "ping":
            await feed.send_json({"type": "pong"})
        if frame["type"] != "event":
            continue
        kind, data = frame["kind"], frame["data"]
        if kind in names:
            seen[names[kind]] += 1
        elif kind == "message.added" and data["message"]["author"]["kind"] == "customer":
            seen["stored"] += 1
        elif kind == "message.added" and data["message"]["author"]["kind"] == "agent":
            seen["answered"] += data["message"]["direction"] == "out"
        elif kind == "inquiry.updated" and data.get("changes", {}).get("status", [None, None])[1] == "solved":
            seen["solved"] += 1
