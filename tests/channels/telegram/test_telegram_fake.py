"""The local Bot API keeps the rules it is trusted for: a lenient fake would prove nothing."""

import asyncio
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.channels.telegram.test_telegram_receive import hook_server
from tests.fakes.telegram_api import FakeTelegram


async def call(telegram: FakeTelegram, method: str, token: str | None = None, **params: Any) -> Any:
    url = f"{telegram.base_url}/bot{token or telegram.token}/{method}"
    async with aiohttp.ClientSession() as http, http.post(url, json=params) as answer:
        body = await answer.json()
    assert body["ok"] is (answer.status == 200)
    return body["result"] if body["ok"] else (body["error_code"], body["description"])


KEYBOARD = {"inline_keyboard": [[{"text": "x", "callback_data": "x" * 65}]]}


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"text": ""}, "message text is empty"),
        ({"text": "😀" * 2049}, "message is too long"),
        ({"text": "x", "chat_id": "abc"}, 'parameter "chat_id" must be an Integer'),
        ({"text": "x", "chat_id": True}, 'parameter "chat_id" must be an Integer'),
        ({"text": 5}, 'parameter "text" must be a String'),
        ({"text": "x", "chat_id": 404}, "chat not found"),
        ({"text": "<p>x</p>", "parse_mode": "HTML"}, "can't parse entities: Unsupported start tag"),
        ({"text": "<b>x", "parse_mode": "HTML"}, "can't parse entities: Can't find end tag"),
        ({"text": "<b><i>x</b></i>", "parse_mode": "HTML"}, "can't parse entities: Unmatched end tag"),
        ({"text": "x", "reply_markup": KEYBOARD}, "BUTTON_DATA_INVALID"),
        ({"text": "x", "reply_markup": {"inline_keyboard": [[{"text": "x"}]]}}, "text buttons are unallowed"),
        ({"text": "x", "reply_parameters": {"message_id": 99}}, "message to be replied not found"),
        ({"text": "x", "message_thread_id": 5}, "message thread not found"),
        ({"text": "x", "replay_to": 5}, "knows no parameter ['replay_to']"),
    ],
)
async def test_what_the_real_one_refuses_is_refused(
    telegram: FakeTelegram, params: dict[str, Any], words: str
) -> None:
    await telegram.user(5001).send_text("hi")
    code, description = await call(telegram, "sendMessage", **{"chat_id": 5001, **params})
    assert code == 400
    assert words in description
    assert telegram.sent == []


async def test_tokens_methods_and_strangers(telegram: FakeTelegram) -> None:
    telegram.user(6001)
    assert await call(telegram, "getMe", token="7:wrong") == (401, "Unauthorized")
    assert await call(telegram, "launchRocket") == (404, "Not Found")
    answer = await call(telegram, "sendMessage", chat_id=6001, text="x")
    assert answer == (403, "Forbidden: bot can't initiate conversation with a user")


async def test_an_update_comes_again_until_its_offset_is_passed(telegram: FakeTelegram) -> None:
    await telegram.user(5001).send_text("a")
    await telegram.user(5002).send_text("b")
    first = await call(telegram, "getUpdates", limit=1)
    assert await call(telegram, "getUpdates", limit=1) == first
    second = await call(telegram, "getUpdates", offset=first[0]["update_id"] + 1)
    assert [each["message"]["text"] for each in second] == ["b"]


async def test_long_polling_waits_for_an_update(telegram: FakeTelegram) -> None:
    poll = asyncio.create_task(call(telegram, "getUpdates", timeout=20))
    await telegram.wait_until(lambda: bool(telegram.calls))
    await telegram.user(5001).send_text("now")
    assert [each["message"]["text"] for each in await poll] == ["now"]


async def test_of_two_pollers_the_first_is_thrown_out(telegram: FakeTelegram) -> None:
    first = asyncio.create_task(call(telegram, "getUpdates", timeout=20))
    await telegram.wait_until(lambda: len(telegram.calls) == 1)
    second = asyncio.create_task(call(telegram, "getUpdates", timeout=20))
    code, words = await first
    assert (code, "terminated by other getUpdates" in words) == (409, True)
    await telegram.user(5001).send_text("kept")
    assert len(await second) == 1


async def test_webhook_and_polling_exclude_each_other(telegram: FakeTelegram) -> None:
    assert await call(telegram, "setWebhook", url="http://127.0.0.1:9/x") is True
    code, words = await call(telegram, "getUpdates")
    assert (code, "webhook is active" in words) == (409, True)
    assert await call(telegram, "deleteWebhook") is True
    assert await call(telegram, "getUpdates") == []


async def test_reactions_come_only_if_asked_for(telegram: FakeTelegram) -> None:
    olena = telegram.user(5001)
    await olena.react(1, "👍")
    assert telegram.pending == []
    await call(telegram, "getUpdates", allowed_updates=["message_reaction"])
    await olena.send_text("not asked for")
    await olena.react(1, "👍")
    assert [list(each)[1] for each in telegram.pending] == ["message_reaction"]


async def test_a_refused_update_blocks_only_its_own_chat(telegram: FakeTelegram) -> None:
    seen: list[tuple[int, str]] = []
    in_flight: list[int] = []
    overlaps: list[int] = []
    healed = False

    async def answer(request: web.Request) -> web.Response:
        message = (await request.json())["message"]
        chat = message["chat"]["id"]
        if chat in in_flight:
            overlaps.append(chat)
        in_flight.append(chat)
        await asyncio.sleep(0)
        in_flight.remove(chat)
        if chat == 5001 and not healed:
            return web.Response(status=500)
        seen.append((chat, message["text"]))
        return web.Response()

    async with hook_server(answer) as url:
        await call(telegram, "setWebhook", url=f"{url}/hooks/k", secret_token="s")
        for word in ("a", "b"):
            await telegram.user(5001).send_text(word)
            await telegram.user(5002).send_text(word)
        await telegram.wait_until(lambda: len(seen) == 2)
        assert seen == [(5002, "a"), (5002, "b")]
        healed = True
        await telegram.wait_until(lambda: not telegram.pending)
    assert seen[2:] == [(5001, "a"), (5001, "b")]
    assert overlaps == []


async def test_messages_can_be_edited_and_waited_for(telegram: FakeTelegram) -> None:
    olena = telegram.user(5001)
    await olena.send_text("hi")
    sent = await call(telegram, "sendMessage", chat_id=5001, text="one")
    changed = {"chat_id": 5001, "message_id": sent["message_id"]}
    code, words = await call(telegram, "editMessageText", **changed, text="one")
    assert (code, "message is not modified" in words) == (400, True)
    await call(telegram, "editMessageText", **changed, text="two")
    assert (await telegram.wait_for(lambda m: m.text == "two")).message_id == sent["message_id"]
    with pytest.raises(TimeoutError):
        await telegram.wait_for(lambda m: m.text == "one", timeout_s=0.01)
    with pytest.raises(LookupError):
        await olena.press("nothing like it")
