"""A real server on a real socket for every test, on both databases."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from api.app import build_app
from api.auth.passwords import hash_password
from api.auth.sessions import new_token
from crm_core.db.engine import Database
from crm_core.infra.local import DirectoryFiles, MemoryLimiter
from crm_core.schema import agent, api_token, inbox, team, team_member
from crm_core.services import AppSettings, Services
from tests.conftest import MovableClock

PASSWORD = "correct horse battery"
#: hashing takes a fifth of a second: once is enough
HASHED = hash_password(PASSWORD)


class Desk:
    """The people of a test and clients that act as them."""

    def __init__(self, db: Database, server: TestServer) -> None:
        self.db = db
        self.server = server
        self.ids: dict[str, int] = {}
        self.teams: dict[str, int] = {}
        self.inboxes: dict[str, int] = {}
        self.tokens: dict[str, str] = {}
        self._clients: list[TestClient[Any, Any]] = []

    async def add_team(self, name: str) -> int:
        async with self.db.transaction() as uow:
            self.teams[name] = await uow.insert(
                team,
                {"name": name, "calendar_id": None, "settings": {}, "active": True, "created_at": uow.now},
            )
        return self.teams[name]

    async def add_agent(self, name: str, role: str = "agent", teams: tuple[str, ...] = ()) -> int:
        token, stored = new_token("sbt_")
        async with self.db.transaction() as uow:
            agent_id = await uow.insert(
                agent,
                {
                    "email": f"{name}@example.org",
                    "name": name.title(),
                    "password_hash": HASHED,
                    "role": role,
                    "language": "en",
                    "extension": None,
                    "calendar_id": None,
                    "settings": {},
                    "active": True,
                    "created_at": uow.now,
                },
            )
            for each in teams:
                await uow.execute(
                    team_member.insert().values(team_id=self.teams[each], agent_id=agent_id, lead=False)
                )
            await uow.insert(
                api_token,
                {
                    "token_hash": stored,
                    "agent_id": agent_id,
                    "name": "test",
                    "created_at": uow.now,
                    "expires_at": None,
                    "last_used_at": uow.now,
                },
            )
        self.ids[name], self.tokens[name] = agent_id, token
        return agent_id

    async def add_inbox(self, key: str, channel: str, **values: Any) -> int:
        async with self.db.transaction() as uow:
            self.inboxes[key] = await uow.insert(
                inbox,
                {
                    "key": key,
                    "channel": channel,
                    "name": key,
                    "secret": "s3cret",
                    "config": {},
                    "address": None,
                    "team_id": None,
                    "default_kind": "ticket",
                    "flow_key": None,
                    "region": "UA",
                    "language": "en",
                    "priority": "normal",
                    "enabled": True,
                    "created_at": uow.now,
                    **values,
                },
            )
        return self.inboxes[key]

    async def client(self, name: str | None = None) -> TestClient[Any, Any]:
        """A client with this agent's token, or a stranger's."""
        headers = {"Authorization": f"Bearer {self.tokens[name]}"} if name else {}
        client: TestClient[Any, Any] = TestClient(
            self.server, headers=headers, cookie_jar=aiohttp.CookieJar(unsafe=True)
        )
        self._clients.append(client)
        return client

    async def close(self) -> None:
        for client in self._clients:
            await client.session.close()


@pytest.fixture
async def services(db: Database, clock: MovableClock, tmp_path: Path) -> AsyncIterator[Services]:
    async with aiohttp.ClientSession() as http:
        yield Services(
            db=db,
            clock=clock,
            hints=db.hints,
            files=DirectoryFiles(tmp_path / "blobs"),
            limiter=MemoryLimiter(),
            http=http,
            settings=AppSettings(
                public_url="http://desk.example.org", secret_key=b"k" * 32, data_dir=tmp_path, version="test"
            ),
        )


@pytest.fixture
async def server(services: Services) -> AsyncIterator[TestServer]:
    running = TestServer(build_app(services, check_answers=True), host="127.0.0.1")
    await running.start_server()
    yield running
    await running.close()


@pytest.fixture
async def desk(db: Database, server: TestServer) -> AsyncIterator[Desk]:
    """Two teams; Anna and Boris are agents, Sofia supervises, Ada administers."""
    people = Desk(db, server)
    await people.add_team("support")
    await people.add_team("sales")
    await people.add_agent("anna", teams=("support",))
    await people.add_agent("boris", teams=("sales",))
    await people.add_agent("sofia", "supervisor")
    await people.add_agent("ada", "admin")
    yield people
    await people.close()
