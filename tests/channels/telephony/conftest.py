"""Fixtures of the telephony tests: a hook server and an HTTP client."""

from typing import Any

import pytest
from aiohttp import ClientSession, web

from channels.contract import InboxConfig
from tests.channels.telephony.support import Hook


@pytest.fixture
async def serve() -> Any:
    """`await serve(inbox)` starts a hook for it on a free port."""
    runners = []

    async def start(inbox: InboxConfig) -> Hook:
        hook = Hook(inbox=inbox)
        app = web.Application()
        app.router.add_route("*", "/hooks/{tail:.*}", hook.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        hook.url = f"http://{host}:{port}/hooks/{inbox.key}"
        runners.append(runner)
        return hook

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
async def http() -> Any:
    async with ClientSession() as session:
        yield session
