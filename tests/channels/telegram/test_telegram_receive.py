"""Receiving over real HTTP: the webhook's proof, long polling, and what neither may lose."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from channels.contract import ChannelContext, InboxConfig, RawItem, RawRequest, SignatureRefused
from channels.telegram import TelegramChannel
from channels.telegram.updates import ALLOWED_UPDATES
from crm_core.clock import DAY
from crm_core.envelope import Kind
from tests.channels.telegram.conftest import SECRET, inbox_config
from tests.fakes.telegram_api import FakeTelegram


class Sink:
    """Where the core would store: rows and cursor together, or neither. `failures` counts down refused stores."""

    def __init__(self, cursor: dict[str, Any] | None = None) -> None:
        self.saved = cursor or {}
        self.items: dict[str, RawItem] = {}
        self.failures = 0
        self.changed = asyncio.Condition()

    async def cursor(self) -> dict[str, Any]:
        return dict(self.saved)

    async def store(self, items: Sequence[RawItem], *, cursor: dict[str, Any] | None = None) -> None:
        if self.failures > 0:
            self.failures -= 1
            raise OSError("database is away")
        for each in items:
            self.items.setdefault(each.dedupe_key, each)
        if cursor is not None:
            self.saved = cursor
        async with self.changed:
            self.changed.notify_all()

    async def wait(self, count: int) -> list[RawItem]:
        async with asyncio.timeout(10), self.changed:
            await self.changed.wait_for(lambda: len(self.items) >= count)
        return list(self.items.values())


@asynccontextmanager
async def polling(
    channel: TelegramChannel, inbox: InboxConfig, sink: Sink, ctx: ChannelContext
) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(channel.run(inbox, sink, ctx, stop))
    try:
        yield
    finally:
        stop.set()
        async with asyncio.timeout(5):
            await task


def texts(channel: TelegramChannel, inbox: InboxConfig, items: Sequence[RawItem]) -> list[str]:
    return [envelope.text for each in items for envelope in channel.parse(each, inbox)]


async def test_polling_stores_and_confirms(
    channel: TelegramChannel, inbox: InboxConfig, ctx: ChannelContext, telegram: FakeTelegram
) -> None:
    olena = telegram.user(5001)
    await olena.send_text("раз")
    sink = Sink()
    async with polling(channel, inbox, sink, ctx):
        await sink.wait(1)
        await olena.send_text("два")
        items = await sink.wait(2)
        await telegram.wait_until(lambda: not telegram.pending)
    assert texts(channel, inbox, items) == ["раз", "два"]
    assert sink.saved["offset"] == items[-1].order + 1
    assert {each.lane for each in items} == {"chat:5001"}
    asked = next(params for method, params in telegram.calls if method == "getUpdates")
    assert asked["allowed_updates"] == list(ALLOWED_UPDATES)


async def test_nothing_is_confirmed_that_was_not_stored(
    channel: TelegramChannel, inbox: InboxConfig, ctx: ChannelContext, telegram: FakeTelegram
) -> None:
    await telegram.user(5001).send_text("важливо")
    sink = Sink()
    sink.failures = 3
    async with polling(channel, inbox, sink, ctx):
        items = await sink.wait(1)
        assert sink.failures == 0
    assert texts(channel, inbox, items) == ["важливо"]


async def test_a_restart_goes_on_from_the_cursor_and_an_old_cursor_is_dropped(
    channel: TelegramChannel, inbox: InboxConfig, ctx: ChannelContext, telegram: FakeTelegram
) -> None:
    olena = telegram.user(5001)
    await olena.send_text("перше")
    first_id = telegram.pending[0]["update_id"]
    await olena.send_text("друге")
    now = ctx.clock.now_ms()
    sink = Sink({"offset": first_id + 1, "at": now})
    async with polling(channel, inbox, sink, ctx):
        assert texts(channel, inbox, await sink.wait(1)) == ["друге"]
    await olena.send_text("після тижня тиші")
    stale = Sink({"offset": first_id + 1_000_000, "at": now - 8 * DAY})
    async with polling(channel, inbox, stale, ctx):
        assert "після тижня тиші" in texts(channel, inbox, await stale.wait(1))


async def test_one_broken_update_does_not_stop_its_batch(
    channel: TelegramChannel, inbox: InboxConfig, ctx: ChannelContext, telegram: FakeTelegram
) -> None:
    batch = [
        {"update_id": 11, "message": "not an object"},
        "not an update",
        {"update_id": 12, "message": {"message_id": 1, "chat": {"id": 5001}, "text": "живий"}},
    ]
    telegram.fail("getUpdates", body=json.dumps({"ok": True, "result": batch}))
    sink = Sink()
    async with polling(channel, inbox, sink, ctx):
        items = await sink.wait(3)
    assert sink.saved["offset"] == 13
    assert [each.dedupe_key.partition(":")[0] for each in items] == ["update", "broken", "update"]
    (unsupported,) = channel.parse(items[0], inbox)
    assert unsupported.kind is Kind.UNSUPPORTED
    assert texts(channel, inbox, items[2:]) == ["живий"]


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 502, "body": "<html>"},
        {"status": 500, "description": "Internal Server Error"},
        {"drop": "before"},
        {"status": 401, "description": "Unauthorized"},
        {"status": 409, "description": "Conflict: terminated by other getUpdates request"},
        {"body": '{"ok": true, "result": [{"no": "id"}]}'},
        {"body": '{"ok": true, "result": 7}'},
        {"body": "[" * 5000},
    ],
)
async def test_polling_survives_and_goes_on(
    channel: TelegramChannel,
    inbox: InboxConfig,
    ctx: ChannelContext,
    telegram: FakeTelegram,
    fault: dict[str, Any],
) -> None:
    telegram.fail("getUpdates", times=3, **fault)
    await telegram.user(5001).send_text("терпляче")
    sink = Sink()
    async with polling(channel, inbox, sink, ctx):
        assert texts(channel, inbox, await sink.wait(1)) == ["терпляче"]


async def test_a_left_over_webhook_is_removed_and_nothing_waiting_is_lost(
    channel: TelegramChannel, inbox: InboxConfig, ctx: ChannelContext, telegram: FakeTelegram
) -> None:
    hook = inbox_config(token=telegram.token, api_base=telegram.base_url, mode="webhook")
    await channel.set_up(
        hook, ChannelContext(http=ctx.http, clock=ctx.clock, public_url="http://127.0.0.1:9")
    )
    await telegram.user(5001).send_text("чекає")
    sink = Sink()
    async with polling(channel, inbox, sink, ctx):
        assert texts(channel, inbox, await sink.wait(1)) == ["чекає"]


async def test_a_webhook_inbox_does_not_poll(
    channel: TelegramChannel, ctx: ChannelContext, telegram: FakeTelegram
) -> None:
    for config in ({"token": telegram.token, "api_base": telegram.base_url, "mode": "webhook"}, {}):
        await channel.run(inbox_config(**config), Sink(), ctx, asyncio.Event())
    assert telegram.calls == []


async def test_stopping_does_not_wait_for_the_long_poll(
    inbox: InboxConfig, ctx: ChannelContext, telegram: FakeTelegram
) -> None:
    patient = TelegramChannel()  # polls for 25 s
    async with polling(patient, inbox, Sink(), ctx):
        await telegram.wait_until(lambda: any(method == "getUpdates" for method, _ in telegram.calls))


def request(body: bytes = b"{}", **headers: str) -> RawRequest:
    return RawRequest(method="POST", url="https://desk/hooks/k9x", headers=headers, body=body)


HEADER = "x-telegram-bot-api-secret-token"


def test_the_secret_proves_the_sender(channel: TelegramChannel) -> None:
    inbox = inbox_config(token="1:a")
    assert channel.verify(request(**{HEADER: SECRET}), inbox) is None


@pytest.mark.parametrize(
    "value", ["", "wrong", SECRET + "x", SECRET[:-1], "пароль", "\udcff\udc80", "\ud83d", "é"]
)
def test_any_other_secret_is_refused_and_never_crashes(channel: TelegramChannel, value: str) -> None:
    with pytest.raises(SignatureRefused):
        channel.verify(request(**{HEADER: value}), inbox_config(token="1:a"))


def test_no_header_or_no_secret_is_refused(channel: TelegramChannel) -> None:
    with pytest.raises(SignatureRefused):
        channel.verify(request(), inbox_config(token="1:a"))
    with pytest.raises(SignatureRefused):
        channel.verify(request(**{HEADER: ""}), inbox_config(secret="", token="1:a"))


@asynccontextmanager
async def hook_server(answer: Callable[[web.Request], Any]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/hooks/{key}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_the_webhook_is_posted_in_order_until_taken(
    channel: TelegramChannel, ctx: ChannelContext, telegram: FakeTelegram
) -> None:
    inbox = inbox_config(token=telegram.token, api_base=telegram.base_url, mode="webhook")
    taken: list[str] = []
    refusals = 3

    async def answer(received: web.Request) -> web.Response:
        nonlocal refusals
        raw = RawRequest(
            method=received.method,
            url=str(received.url),
            headers={key.lower(): value for key, value in received.headers.items()},
            body=await received.read(),
        )
        channel.verify(raw, inbox)
        assert received.match_info["key"] == inbox.key
        if refusals:
            refusals -= 1
            return web.Response(status=503)
        taken.extend(texts(channel, inbox, channel.split(raw, inbox)))
        return web.Response()

    async with hook_server(answer) as url:
        await channel.set_up(inbox, ChannelContext(http=ctx.http, clock=ctx.clock, public_url=url))
        olena = telegram.user(5001)
        for word in ("а", "б", "в"):
            await olena.send_text(word)
        await telegram.wait_until(lambda: not telegram.pending)
        assert taken == ["а", "б", "в"]
        facts = await channel.health(inbox, ChannelContext(http=ctx.http, clock=ctx.clock, public_url=url))
    assert facts["ok"] is True
    assert "503" in facts["last_error"]


def test_importing_and_parsing_does_not_load_aiogram() -> None:
    code = (
        "import sys; from channels import get_channel; from channels.contract import *;"
        "c = get_channel('telegram');"
        "i = InboxConfig(id=1, key='k', channel='telegram', name='n', secret='s', config={});"
        "r = RawRequest(method='POST', url='', headers={}, body=b'{\"update_id\": 1, \"message\": {}}');"
        "assert c.parse(c.split(r, i)[0], i);"
        "print('aiogram' in sys.modules, 'pydantic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("False False", "")
