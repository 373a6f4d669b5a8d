"""An installation to measure: real processes on loopback, an organisation in it, and its agents' live sockets.

Everything is ended and deleted at the end of the block, whatever happened in it.
"""

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import aiohttp
from typing_extensions import override

from bench.usage import Tree
from crm_core.clock import SystemClock
from crm_core.db.engine import Database
from crm_core.db.uow import UnitOfWork
from crm_core.infra.local import LocalHints
from crm_core.schema import inbox, team, team_member
from routing.schema import calendar, calendar_version, sla_policy
from switchboard.admin import insert_agent, insert_token
from switchboard.migrate import upgrade
from tests.e2e.installation import Installation
from tests.services import PostgresServer, RedisServer

TELEGRAM_KEY, TELEGRAM_SECRET = "bench-telegram", "benchsecret"
MAIL_ADDRESS = "support@bench.example"
#: nobody's capacity may be what is measured
ENDLESS = 1_000_000
AGENTS = 2


class Plain(Installation):
    """Without the clock file of story tests: reading it costs a system call for each look at the time."""

    @override
    def environment(self) -> dict[str, str]:
        env = super().environment()
        del env["SWITCHBOARD_CLOCK_FILE"]
        return env


@dataclass
class Organisation:
    """What the load and the replay need to know of it."""

    tokens: list[str]
    agent_ids: list[int]
    telegram_inbox: int
    email_inbox: int


@dataclass
class Place:
    """A running installation. `trees` are its processes for measuring."""

    form: str
    directory: Path
    database_url: str
    installation: Installation
    organisation: Organisation
    trees: dict[str, Tree] = field(default_factory=dict)


def tree_of(server: PostgresServer | RedisServer, pid_file: str) -> Tree:
    """The processes of a server that we have started."""
    directory = server._directory  # noqa: SLF001 - the tests' servers have no other use for their process ids
    if directory is None:
        raise RuntimeError("a server from the environment cannot be measured: unset SWITCHBOARD_TEST_…_URL")
    return Tree.from_pid_file(directory.path / pid_file)


async def organise(db: Database) -> Organisation:
    """A team with endless capacity, its agents, a Telegram and an email inbox, an SLA policy."""
    async with db.transaction() as uow:
        return await _organise(uow)


async def _organise(uow: UnitOfWork) -> Organisation:
    week = {day: [["00:00", "24:00"]] for day in ("mon", "tue", "wed", "thu", "fri", "sat", "sun")}
    spec = {"tz": "Europe/Kyiv", "week": week}
    calendar_id = await uow.insert(
        calendar, {"name": "Bench", "spec": spec, "version": 1, "updated_at": uow.now}
    )
    await uow.execute(
        calendar_version.insert().values(calendar_id=calendar_id, version=1, spec=spec, created_at=uow.now)
    )
    # Chats are assigned outright: an offer would wait for a click that no load generator makes.
    settings = {
        "channels": {"chat": {"mode": "assign", "max": ENDLESS}, "async": {"max": ENDLESS}},
        "load_max": 30 * ENDLESS,
        "default": True,
    }
    team_id = await uow.insert(
        team,
        {
            "name": "Bench",
            "calendar_id": calendar_id,
            "settings": settings,
            "active": True,
            "created_at": uow.now,
        },
    )
    goal = {"minutes": 240, "business": True}
    await uow.insert(
        sla_policy,
        {
            "policy_key": "bench",
            "version": 1,
            "position": 1,
            "name": "Bench",
            "conditions": {},
            "targets": {
                "*": {"first_reply": goal, "next_reply": goal, "total_resolution": {"minutes": 2880}}
            },
            "options": {"calendar_id": calendar_id},
            "current": True,
            "created_at": uow.now,
        },
    )
    tokens, agent_ids = [], []
    for n in range(AGENTS):
        agent_id = await insert_agent(
            uow, email=f"agent{n}@bench.example", name=f"Agent {n}", role="agent", password="bench-password"
        )
        assert agent_id is not None
        await uow.execute(team_member.insert().values(team_id=team_id, agent_id=agent_id, lead=n == 0))
        tokens.append(await insert_token(uow, agent_id, "bench"))
        agent_ids.append(agent_id)
    common = {
        "team_id": team_id,
        "default_kind": "ticket",
        "flow_key": None,
        "region": "UA",
        "language": "uk",
        "priority": "normal",
        "enabled": True,
        "created_at": uow.now,
    }
    telegram = await uow.insert(
        inbox,
        {
            **common,
            "key": TELEGRAM_KEY,
            "channel": "telegram",
            "name": "Bot",
            "secret": TELEGRAM_SECRET,
            "config": {"token": "1:bench", "mode": "webhook", "api_base": "http://127.0.0.1:9"},
            "address": None,
        },
    )
    email = await uow.insert(
        inbox,
        {
            **common,
            "key": "bench-email",
            "channel": "email",
            "name": "Mail",
            "secret": "benchsecret",
            "config": {"address": MAIL_ADDRESS},
            "address": MAIL_ADDRESS,
        },
    )
    return Organisation(tokens, agent_ids, telegram, email)


@asynccontextmanager
async def started(
    form: str, *, fill: Callable[[str], None] | None = None, settings: dict[str, str] | None = None
) -> AsyncIterator[Place]:
    """A running installation of this form. `fill(database_url)` may put rows in before it starts."""
    directory = Path(tempfile.mkdtemp(prefix="sb-bench-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        trees: dict[str, Tree] = {}
        if form == "scaled":
            # Real fsync: what is measured is durable.
            server = stack.enter_context(PostgresServer(fsync=True))
            redis = stack.enter_context(RedisServer())
            database_url, redis_url = server.create_database(), redis.url
            trees["database"] = tree_of(server, "db/data/postmaster.pid")
            trees["redis"] = tree_of(redis, "pid")
        else:
            database_url, redis_url = f"sqlite+aiosqlite:///{directory}/switchboard.db", None
        await upgrade(database_url)
        db = Database(database_url, clock=SystemClock(), hints=LocalHints())
        organisation = await organise(db)
        await db.close()
        if fill is not None:
            await asyncio.to_thread(fill, database_url)
        made = Plain(
            directory=directory, database_url=database_url, redis_url=redis_url, settings=settings or {}
        )
        stack.callback(made.stop)
        await made.start()
        trees["server"] = Tree([p.popen.pid for p in made.processes if p.popen])
        yield Place(form, directory, database_url, made, organisation, trees)


class Feeds:
    """All agents online at their sockets. `heard` is called with each frame of the first agent's socket."""

    def __init__(self, urls: list[str], tokens: list[str], heard: Callable[[str], None]) -> None:
        self._urls, self._tokens, self._heard = urls, tokens, heard
        self._session: aiohttp.ClientSession | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._online = 0
        self._all_online = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession()
        for n, token in enumerate(self._tokens):
            url = self._urls[n % len(self._urls)] + "/api/v1/feed"
            ws = await self._session.ws_connect(url, headers={"Authorization": f"Bearer {token}"})
            await ws.send_str(json.dumps({"type": "presence", "presence": "online"}))
            self._tasks.append(asyncio.create_task(self._read(ws, first=n == 0)))
        ready = asyncio.create_task(self._all_online.wait())
        await asyncio.wait([ready, *self._tasks], timeout=20, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            await self.__aexit__()
            self.check()
            raise RuntimeError("the agents did not come online within 20 s")
        return self

    async def _read(self, ws: aiohttp.ClientWebSocketResponse, *, first: bool) -> None:
        async for message in ws:
            if message.type is not aiohttp.WSMsgType.TEXT:
                raise RuntimeError(f"the feed sent {message}")
            frame = message.data
            if first:
                if '"kind":"presence.changed"' in frame and '"presence":"online"' in frame:
                    self._online += 1
                    if self._online == len(self._tokens):
                        self._all_online.set()
                self._heard(frame)
            if frame.startswith('{"type":"ping"'):
                await ws.send_str('{"type":"pong"}')
        if first:
            raise RuntimeError(f"the feed socket was closed with {ws.close_code}")

    def check(self) -> None:
        """Raise what ended a socket, if one ended."""
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()
                raise RuntimeError("a feed socket was closed")

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
