"""Set-up, health, files and answering buttons, against the strict local Bot API."""

import traceback
from typing import Any

import pytest

from channels.contract import (
    AuthFailed,
    ChannelContext,
    ChannelError,
    ContentRejected,
    InboxConfig,
    NotConfigured,
    RateLimitedByProvider,
    Transient,
)
from channels.telegram import TelegramChannel
from channels.telegram.updates import ALLOWED_UPDATES
from crm_core.envelope import Button, Kind
from tests.channels.telegram.conftest import SECRET, Line, inbox_config
from tests.fakes.telegram_api import FakeTelegram


def hook_inbox(telegram: FakeTelegram, **config: Any) -> InboxConfig:
    return inbox_config(token=telegram.token, api_base=telegram.base_url, mode="webhook", **config)


async def download(line: Line, ref: str) -> bytes:
    return b"".join([chunk async for chunk in line.channel.fetch(ref, line.inbox, line.ctx)])


async def test_set_up_asks_for_every_kind_we_read(line: Line, telegram: FakeTelegram) -> None:
    await line.channel.set_up(hook_inbox(telegram), line.ctx)
    (method, params) = telegram.calls[-1]
    assert method == "setWebhook"
    assert params["url"] == "https://desk.example.com/hooks/k9x"
    assert params["secret_token"] == SECRET
    assert params["allowed_updates"] == list(ALLOWED_UPDATES)
    assert params["drop_pending_updates"] is False


async def test_polling_set_up_takes_the_webhook_away(line: Line, telegram: FakeTelegram) -> None:
    await line.channel.set_up(hook_inbox(telegram), line.ctx)
    assert (await line.channel.health(line.inbox, line.ctx))["ok"] is False
    await line.channel.set_up(line.inbox, line.ctx)
    facts = await line.channel.health(line.inbox, line.ctx)
    assert (facts["ok"], facts["bot_username"], facts["mode"]) == (True, "switchboard_demo_bot", "polling")


@pytest.mark.parametrize("public_url", ["", "http://desk.example.com"])
async def test_a_webhook_at_telegram_itself_needs_https(line: Line, public_url: str) -> None:
    ctx = ChannelContext(http=line.ctx.http, clock=line.ctx.clock, public_url=public_url)
    with pytest.raises(NotConfigured, match="https"):
        await line.channel.set_up(inbox_config(token="1:a", mode="webhook"), ctx)


async def test_a_secret_telegram_would_refuse_is_named_before(line: Line, telegram: FakeTelegram) -> None:
    bad = inbox_config(token=telegram.token, api_base=telegram.base_url, mode="webhook", secret="пароль")
    with pytest.raises(NotConfigured, match="secret"):
        await line.channel.set_up(bad, line.ctx)
    assert telegram.calls == []


async def test_health_names_the_problem_and_never_raises(line: Line, telegram: FakeTelegram) -> None:
    webhook = hook_inbox(telegram)
    assert (await line.channel.health(webhook, line.ctx))["detail"] == "no webhook is set"
    wrong = inbox_config(token="7000000001:AAwrong", api_base=telegram.base_url, mode="polling")
    assert "Unauthorized" in (await line.channel.health(wrong, line.ctx))["detail"]
    assert (await line.channel.health(inbox_config(), line.ctx))["ok"] is False
    await telegram.stop()
    facts = await line.channel.health(line.inbox, line.ctx)
    assert facts["ok"] is False
    assert telegram.token not in str(facts)


async def test_a_customers_file_is_downloaded(line: Line, telegram: FakeTelegram) -> None:
    content = bytes(range(256)) * 1000
    message = await telegram.user(5001).send_document(content, name="чек.bin", mime="application/x")
    assert await download(line, message["document"]["file_id"]) == content


@pytest.mark.parametrize(
    ("method", "fault", "error"),
    [
        ("getFile", {"status": 400, "description": "Bad Request: file is too big"}, ContentRejected),
        ("getFile", {"status": 401, "description": "Unauthorized"}, AuthFailed),
        ("getFile", {"status": 502, "body": "x"}, Transient),
        ("getFile", {"drop": "before"}, Transient),
        ("getFile", {"body": '{"ok": true, "result": {}}'}, Transient),
        ("getFile", {"body": '{"ok": true, "result": {"file_path": "/var/lib/x"}}'}, NotConfigured),
        ("getFile", {"body": '{"ok": true, "result": {"file_path": "a/../../x"}}'}, NotConfigured),
        ("getFile", {"body": '{"ok": true, "result": {"file_path": "gone.jpg"}}'}, ContentRejected),
        ("download", {"drop": "before"}, Transient),
        ("download", {"status": 500, "body": "x"}, Transient),
        ("download", {"status": 302, "body": "x"}, Transient),
        ("download", {"body": "short"}, Transient),
    ],
)
async def test_failed_downloads_have_their_class_and_hide_the_token(
    line: Line, telegram: FakeTelegram, method: str, fault: dict[str, Any], error: type[ChannelError]
) -> None:
    message = await telegram.user(5001).send_voice(b"OggS" * 50_000, duration=3)
    telegram.fail(method, **fault)
    with pytest.raises(ChannelError) as caught:
        await download(line, message["voice"]["file_id"])
    assert type(caught.value) is error
    assert telegram.token not in "".join(traceback.format_exception(caught.value))


async def test_a_file_that_grows_past_20_mb_is_cut_off(line: Line, telegram: FakeTelegram) -> None:
    file = telegram.store_file(bytes(20 * 1024 * 1024 + 1), "document", ".bin")
    with pytest.raises(ContentRejected, match="too big"):
        await download(line, file["file_id"])
    telegram.fail("getFile", body='{"ok": true, "result": {"file_path": "documents/file_0.bin"}}')
    with pytest.raises(ContentRejected, match="20 MB"):
        await download(line, file["file_id"])


async def test_429_on_set_up_says_how_long(line: Line, telegram: FakeTelegram) -> None:
    telegram.rate_limit(9)
    with pytest.raises(RateLimitedByProvider) as caught:
        await line.channel.set_up(line.inbox, line.ctx)
    assert caught.value.retry_after_s == 9


async def test_a_pressed_button_comes_back_and_is_answered_once(line: Line, telegram: FakeTelegram) -> None:
    olena = telegram.user(5001)
    await olena.start()
    await line.send("Оцініть", buttons=((Button(label="Добре", value="csat:5"),),))
    query_id = await olena.press("Добре")
    update = next(each for each in telegram.pending if "callback_query" in each)
    envelope = parse_update(line.channel, line.inbox, update)
    assert (envelope.kind, envelope.text, envelope.data["value"]) == (Kind.ACTION, "Добре", "csat:5")
    assert envelope.reply_to == f"5001:{olena.received[0].message_id}"
    assert await line.channel.answer_action(envelope.data, line.inbox, line.ctx) is True
    assert [each["callback_query_id"] for each in telegram.answered] == [query_id]
    assert await line.channel.answer_action(envelope.data, line.inbox, line.ctx) is False
    assert await line.channel.answer_action({}, line.inbox, line.ctx) is False
    await telegram.stop()
    assert await line.channel.answer_action(envelope.data, line.inbox, line.ctx) is False


def parse_update(channel: TelegramChannel, inbox: InboxConfig, update: dict[str, Any]) -> Any:
    from channels.telegram.updates import polled_item

    (envelope,) = channel.parse(polled_item(update, 1), inbox)
    return envelope


async def test_what_the_local_people_do_reads_as_the_real_thing(line: Line, telegram: FakeTelegram) -> None:
    await line.channel.set_up(
        hook_inbox(telegram),
        ChannelContext(http=line.ctx.http, clock=line.ctx.clock, public_url="http://127.0.0.1:9"),
    )
    olena = telegram.user(5001, "Olena", language_code="uk")
    first = await olena.start("promo")
    await olena.send_contact("380501234567")
    await olena.send_contact("380671234567", own=False, first_name="Petro")
    await olena.send_photo(b"\xff\xd8\xff" + bytes(200), caption="фото")
    await olena.send_location(50.4, 30.5)
    await olena.edit_text(first, "/start інше")
    await olena.react(first["message_id"], "👍")
    await olena.block()
    await olena.unblock()
    envelopes = [parse_update(line.channel, line.inbox, update) for update in telegram.pending]
    assert [e.kind for e in envelopes] == [
        Kind.MESSAGE,
        Kind.IDENTITY,
        Kind.MESSAGE,
        Kind.MESSAGE,
        Kind.MESSAGE,
        Kind.EDIT,
        Kind.REACTION,
        Kind.MEMBERSHIP,
        Kind.MEMBERSHIP,
    ]
    assert envelopes[0].thread.start_payload == "promo"
    assert envelopes[0].sender.locale == "uk"
    assert [e.data.get("reachable") for e in envelopes[-2:]] == [False, True]
