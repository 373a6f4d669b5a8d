"""The served document against the server, by random requests: nothing breaks it, nothing contradicts it."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import requests
import schemathesis
from aiohttp.test_utils import TestServer
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from api.app import build_app
from crm_core.db.engine import Database
from crm_core.infra.local import DirectoryFiles, LocalHints, MemoryLimiter
from crm_core.services import AppSettings, Services
from tests.api.conftest import Desk
from tests.conftest import MovableClock

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]
#: endless by nature, or they would end the caller's own session
LEFT_OUT = {"chat_server_sent_events", "chat_poll", "auth_drop_token"}


class Running:
    """The application in a loop and thread of its own: schemathesis calls it from outside, like anybody."""

    def __init__(self, url: str, data_dir: Path) -> None:
        self._url, self._data_dir = url, data_dir
        self._ready, self._done = threading.Event(), threading.Event()
        self.base, self.token = "", ""
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def start(self) -> "Running":
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def stop(self) -> None:
        self._done.set()
        self._thread.join(30)

    async def _serve(self) -> None:
        clock = MovableClock()
        db = Database(self._url, clock=clock, hints=LocalHints(), pool_size=4, synchronous="OFF")
        await db.start()
        async with aiohttp.ClientSession() as http:
            services = Services(
                db=db,
                clock=clock,
                hints=db.hints,
                files=DirectoryFiles(self._data_dir / "blobs"),
                limiter=MemoryLimiter(),
                http=http,
                settings=AppSettings(
                    public_url="http://desk.example.org",
                    secret_key=b"k" * 32,
                    data_dir=self._data_dir,
                    demo=True,
                ),
            )
            server = TestServer(build_app(services, check_answers=True), host="127.0.0.1")
            await server.start_server()
            desk = Desk(db, server)
            await desk.add_team("support")
            await desk.add_agent("ada", "admin", teams=("support",))
            await desk.add_inbox("site", "webchat")
            await desk.add_inbox("tg", "telegram", config={"token": "1:x", "mode": "webhook"})
            self.base, self.token = f"http://127.0.0.1:{server.port}", desk.tokens["ada"]
            self._ready.set()
            while not self._done.is_set():
                await asyncio.sleep(0.05)
            await server.close()
        await db.close()


@pytest.fixture
def running(database_url: str, tmp_path: Path) -> Iterator[Running]:
    server = Running(database_url, tmp_path).start()
    yield server
    server.stop()


def test_random_requests_find_no_fault(running: Running, monkeypatch: Any):
    schema = schemathesis.openapi.from_url(f"{running.base}/api/v1/openapi.json")
    faults: list[str] = []
    seen = refused = 0
    opened = requests.post(f"{running.base}/chat/v1/session", json={"inbox_key": "site"}, timeout=20).json()

    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.definition.raw["operationId"] in LEFT_OUT:
            continue

        @settings(
            max_examples=12,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @_given(operation)
        def send(case: Any) -> None:
            nonlocal seen, refused
            chat = case.operation.path.startswith("/chat/")
            token = opened["session"] if chat else running.token
            response = case.call(headers={"Authorization": f"Bearer {token}"})
            seen += 1
            refused += response.status_code == 401 and "/login" not in case.operation.path
            case.validate_response(response, checks=CHECKS)

        try:
            send()
        except (Exception, BaseExceptionGroup) as fault:
            faults.append(f"{operation.label}: {getattr(fault, 'exceptions', fault)}")
    assert not faults, "\n\n".join(faults[:8])
    # Had it locked itself out on the way, it would have tested nothing.
    assert seen > 500 and refused < 50, (seen, refused)


def _given(operation: Any) -> Any:
    from hypothesis import given
    from schemathesis.generation import GenerationMode

    strategies = [
        operation.as_strategy(generation_mode=mode)
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    ]
    return given(case=strategies[0] | strategies[1])
