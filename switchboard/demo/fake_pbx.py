"""Fake PBXs on the loopback interface: a generic one, Twilio's REST API with webhooks, Mango's API with
events.

They play real calls for tests and the demo: commands to dial are checked as strictly as the vendors document,
then the call's events are posted, signed, to the hook. Owns no reading of our own code: signatures and forms
are written here a second time, from the vendors' documents, so that a mistake on one side shows. Times are a
virtual clock's. Documents: see channels/telephony/twilio.py and mango.py for the addresses.
"""

import asyncio
import itertools
import random
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

from aiohttp import ClientError, ClientSession, ClientTimeout, web

from crm_core.clock import Clock, SystemClock
from switchboard.demo.fake_pbx_dialects import Answer, Dialect, GenericDialect, Post, RefusedError
from switchboard.demo.fake_pbx_mango import MangoDialect
from switchboard.demo.fake_pbx_twilio import TwilioDialect

_POST_TIMEOUT_S = 15.0
_POST_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class CallScript:
    """How a call goes. For calls in: does an agent answer? For calls out: do the agent and the customer?

    `customer` is answer, no_answer, busy, rejected or invalid; `hangs_up` lets a caller leave while it rings.
    """

    agent_answers: bool = True
    customer: str = "answer"
    hangs_up: bool = False
    agent_ext: str = "101"  # who is rung if the hook directs the call nowhere
    queue: str | None = None
    ring_s: int = 4
    talk_s: int = 30
    asks: bool = False  # calls in: ask the hook where to send the call
    recording: bool = False
    waits: bool = False  # calls in: the caller waits in `queue` until we say who takes him
    presses: str | None = None  # what a waiting caller asks for by a key, then he hangs up: callback, snooze


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """How badly events travel. Each is delivered at least once."""

    shuffled: bool = False
    twice: bool = False
    lost_last: bool = False  # the provider's last word never comes
    pace_s: float = 0.0  # real seconds between events, for a demo that people watch
    seed: int = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Originated:
    """One command to dial that was accepted."""

    to: str
    agent_ext: str | None
    correlation_id: str | None
    customer_first: bool
    caller_id: str | None
    call_id: str
    raw: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """One command to give a waiting call to an agent."""

    call_id: str
    agent_ext: str
    correlation_id: str | None
    outbound: bool
    raw: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """One webhook as it was posted, and the hook's answer."""

    post: Post
    status: int
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayedCall:
    call_id: str
    routed: Answer | None  # what the hook said to "where to?"
    deliveries: tuple[Delivered, ...]


class FakePbx:
    """One fake PBX of one vendor. Use as an async context manager; `base_url` is its API.

    `originate_errors` (status, body) are answered to the next commands instead of dialling. With `auto_play`
    false accepted commands wait in `originated` for `play_originated`.
    """

    def __init__(
        self,
        dialect: Dialect,
        *,
        hook_url: str = "",
        clock: Clock | None = None,
        delivery: Delivery | None = None,
        script: CallScript | None = None,
        auto_play: bool = True,
    ) -> None:
        self.dialect = dialect
        self.hook_url = hook_url
        self.delivery = delivery or Delivery()
        self.script = script or CallScript()
        self.auto_play = auto_play
        self.originated: list[Originated] = []
        self.connected: list[Connected] = []
        self.refused: list[RefusedError] = []
        self.deliveries: list[Delivered] = []
        self.originate_errors: list[tuple[int, str]] = []
        self.hang_next = False  # accept the next command, dial, and never answer it
        self.base_url = ""
        self._clock = clock or SystemClock()
        self._random = random.Random(self.delivery.seed)
        self._ids = itertools.count(1)
        self._tasks: set[asyncio.Task[PlayedCall]] = set()
        self._runner: web.AppRunner | None = None
        self._http: ClientSession | None = None
        self._released = asyncio.Event()

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._command)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.base_url = f"http://{host}:{port}"
        self._http = ClientSession(timeout=ClientTimeout(total=_POST_TIMEOUT_S))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._http is not None:
            await self._http.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def inbound_call(self, from_: str, to: str, script: CallScript | None = None) -> PlayedCall:
        """Play a customer's call. Returns when all its webhooks are delivered (or refused three times)."""
        plan = script or self.script
        call_id = self._new_id()
        now = self._clock.now_ms()
        routed: Answer | None = None
        delivered: list[Delivered] = []
        if plan.asks:
            asking = self.dialect.asking(call_id, from_, to, now, self.hook_url)
            if asking is not None:
                first = await self._deliver(asking)
                delivered.append(first)
                routed = self.dialect.read_answer(first.body) if first.status == 200 else None
                if routed is not None and routed.agent_ext is not None:
                    plan = replace(plan, agent_ext=routed.agent_ext)
        posts = self.dialect.inbound(call_id, from_, to, plan, now=now, routed=routed, hook=self.hook_url)
        delivered += await self._deliver_all(posts)
        return PlayedCall(call_id=call_id, routed=routed, deliveries=tuple(delivered))

    async def play_originated(self, command: Originated, script: CallScript | None = None) -> PlayedCall:
        """Play the call of an accepted command."""
        posts = self.dialect.outbound(command, script or self.script, self._clock.now_ms(), self.hook_url)
        return PlayedCall(
            call_id=command.call_id, routed=None, deliveries=tuple(await self._deliver_all(posts))
        )

    async def play_connected(self, command: Connected, script: CallScript | None = None) -> PlayedCall:
        """Ring the agent for a waiting call, and let them talk if he answers."""
        plan = script or self.script
        outward = next((c for c in self.originated if c.call_id == command.call_id), None)
        posts = self.dialect.connecting(command, outward, plan, self._clock.now_ms(), self.hook_url)
        return PlayedCall(
            call_id=command.call_id, routed=None, deliveries=tuple(await self._deliver_all(posts))
        )

    async def idle(self) -> None:
        """Wait until every call started by a command has been played."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def _command(self, request: web.Request) -> web.StreamResponse:
        if self.originate_errors:
            status, body = self.originate_errors.pop(0)
            return web.Response(status=status, text=body, content_type="application/json")
        raw = await request.read()
        now = self._clock.now_ms()
        try:
            joined = self.dialect.connect(request.method, request.path, dict(request.headers), raw, now=now)
            if joined is not None:
                self.connected.append(joined)
                if self.auto_play:
                    self._play(self.play_connected(joined))
                return web.Response(status=200, text="{}", content_type="application/json")
            command, body = self.dialect.command(
                request.method, request.path, dict(request.headers), raw, now=now, call_id=self._new_id()
            )
        except RefusedError as refusal:
            self.refused.append(refusal)
            return web.Response(status=refusal.status, text=refusal.body, content_type="application/json")
        known = any(
            command.correlation_id is not None and each.correlation_id == command.correlation_id
            for each in self.originated
        )
        if known and self.dialect.duplicate_status is not None:
            return web.Response(
                status=self.dialect.duplicate_status, text=body, content_type="application/json"
            )
        self.originated.append(command)
        if self.auto_play:
            self._play(self.play_originated(command))
        if self.hang_next:
            self.hang_next = False
            if request.transport is not None:
                request.transport.close()
            return web.Response()
        return web.Response(status=self.dialect.accepted_status, text=body, content_type="application/json")

    def _play(self, playing: Coroutine[Any, Any, PlayedCall]) -> None:
        task = asyncio.create_task(playing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver_all(self, posts: Sequence[Post]) -> list[Delivered]:
        plan = list(posts)
        if self.delivery.lost_last and plan:
            plan = [post for post in plan if not post.last_word]
        if self.delivery.twice:
            plan = [post for post in plan for _ in range(2)]
        if self.delivery.shuffled:
            self._random.shuffle(plan)
        delivered = []
        for post in plan:
            if self.delivery.pace_s:
                await asyncio.sleep(self.delivery.pace_s)
            delivered.append(await self._deliver(post))
        return delivered

    async def _deliver(self, post: Post) -> Delivered:
        """Post, and again while the hook is down: providers repeat on refusals of 5xx and lost
        connections.
        """
        if self._http is None:
            raise RuntimeError("the fake PBX is not started")
        result = Delivered(post=post, status=0, body="")
        for _ in range(_POST_TRIES):
            try:
                async with self._http.post(post.url, data=post.body, headers=post.headers) as response:
                    result = Delivered(post=post, status=response.status, body=await response.text())
            except (ClientError, TimeoutError) as error:
                result = Delivered(post=post, status=0, body=type(error).__name__)
            if 0 < result.status < 500:
                break
        self.deliveries.append(result)
        return result

    def _new_id(self) -> str:
        return self.dialect.call_id(next(self._ids), self._random)


def generic_pbx(secret: str, *, hook_url: str = "", **more: Any) -> FakePbx:
    """A PBX that speaks our documented JSON, signed with the inbox's secret. Dial at
    `{base_url}/originate`.
    """
    return FakePbx(GenericDialect(secret), hook_url=hook_url, **more)


def twilio_pbx(account_sid: str, auth_token: str, *, hook_url: str = "", **more: Any) -> FakePbx:
    """Twilio: `api_base` is `base_url`."""
    return FakePbx(TwilioDialect(account_sid, auth_token), hook_url=hook_url, **more)


def mango_pbx(api_key: str, salt: str, *, hook_url: str = "", **more: Any) -> FakePbx:
    """Mango: `api_base` is `{base_url}/vpbx`."""
    return FakePbx(MangoDialect(api_key, salt), hook_url=hook_url, **more)


__all__ = [
    "Answer",
    "CallScript",
    "Connected",
    "Delivered",
    "Delivery",
    "FakePbx",
    "Originated",
    "PlayedCall",
    "Post",
    "RefusedError",
    "generic_pbx",
    "mango_pbx",
    "twilio_pbx",
]
