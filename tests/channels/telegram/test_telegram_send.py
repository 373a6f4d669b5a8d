"""Sending through aiogram to the strict local Bot API: what arrives, what each failure becomes."""

import pytest

from channels.contract import (
    AuthFailed,
    ContentRejected,
    NotConfigured,
    OutcomeUnknown,
    RateLimitedByProvider,
    RecipientGone,
    Transient,
)
from crm_core.envelope import Button, Outbound, OutboundFile
from tests.channels.telegram.conftest import Line, inbox_config
from tests.fakes.telegram_api import FakeTelegram, FakeUser

PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 64


@pytest.fixture
async def olena(telegram: FakeTelegram) -> FakeUser:
    user = telegram.user(5001, "Olena", language_code="uk")
    await user.send_text("Привіт")
    return user


async def test_text_arrives_as_written(line: Line, olena: FakeUser) -> None:
    result = await line.send("5 < 6 & _так_ *ні* 😀")
    (sent,) = olena.received
    assert sent.text == "5 < 6 & _так_ *ні* 😀"
    assert result.external_ids == (f"5001:{sent.message_id}",)
    assert result.state == "sent"


async def test_html_is_cut_down_to_what_telegram_takes(line: Line, olena: FakeUser) -> None:
    html = "<p>Ціна <strong>5 &lt; 6</strong></p><script>x()</script><ul><li>раз<li>два</ul><a href='javascript:x'>тут</a>"
    await line.send("plain", html=html)
    (sent,) = olena.received
    assert sent.text == "Ціна 5 < 6\n• раз\n• два\nтут"
    assert sent.message["entities"] == [{"type": "bold", "offset": 5, "length": 5}]


async def test_unparsable_html_is_sent_again_as_plain_text(
    line: Line, telegram: FakeTelegram, olena: FakeUser
) -> None:
    telegram.fail(
        "sendMessage", status=400, description="Bad Request: can't parse entities: unexpected end of tag"
    )
    await line.send("plain words", html="<b>bold words</b>")
    assert [(m.text, m.message.get("entities")) for m in olena.received] == [("plain words", None)]


async def test_long_text_is_split_where_people_would(line: Line, olena: FakeUser) -> None:
    paragraphs = ["😀" * 1000 + " кінець.", "б" * 3000, "в" * 3000]
    result = await line.send("\n\n".join(paragraphs))
    assert [m.text for m in olena.received] == paragraphs
    assert len(result.external_ids) == 3


async def test_a_retry_sends_only_what_is_missing(
    line: Line, telegram: FakeTelegram, olena: FakeUser
) -> None:
    text = "\n\n".join(letter * 4000 for letter in "abc")
    telegram.fail("sendMessage", status=500, description="Internal Server Error", skip=1)
    with pytest.raises(Transient) as caught:
        await line.send(text)
    assert caught.value.sent_parts == 1
    assert caught.value.external_ids == (f"5001:{olena.received[0].message_id}",)

    result = await line.send(text, sent_parts=caught.value.sent_parts)
    assert [m.text[0] for m in olena.received] == ["a", "b", "c"]
    assert len(result.external_ids) == 2


async def test_buttons_come_under_the_last_words(line: Line, olena: FakeUser) -> None:
    buttons = (
        (Button(label="Добре", value="csat:5"), Button(label="Погано")),
        (Button(label="Сайт", url="https://example.com"),),
    )
    await line.send("a" * 4096 + " b", buttons=buttons)
    first, second = olena.received
    assert first.markup is None
    assert second.inline_buttons == [
        [{"text": "Добре", "callback_data": "csat:5"}, {"text": "Погано", "callback_data": "Погано"}],
        [{"text": "Сайт", "url": "https://example.com"}],
    ]


async def test_a_contact_request_is_a_reply_keyboard_in_private_and_nothing_in_groups(
    line: Line, telegram: FakeTelegram, olena: FakeUser
) -> None:
    telegram.group(-1001, "Group")
    buttons = ((Button(label="Мій номер", request="contact"), Button(label="Ні")),)
    await line.send("Ваш номер?", buttons=buttons)
    await line.send("Ваш номер?", chat="-1001", buttons=buttons)
    private, group = telegram.sent
    assert private.markup is not None
    assert private.markup["keyboard"] == [[{"text": "Мій номер", "request_contact": True}, {"text": "Ні"}]]
    assert group.markup is None


async def test_a_button_value_over_64_bytes_is_refused_before_anything_leaves(
    line: Line, telegram: FakeTelegram, olena: FakeUser
) -> None:
    await line.send("ok", buttons=((Button(label="x", value="я" * 32),),))
    with pytest.raises(ContentRejected, match="64 bytes"):
        await line.send("no", buttons=((Button(label="x", value="я" * 33),),))
    assert [m.text for m in telegram.sent] == ["ok"]


async def test_replies_point_to_the_message_or_go_without(
    line: Line, telegram: FakeTelegram, olena: FakeUser
) -> None:
    for ref in ("5001:1", "5001:999", "777:1", "garbage"):
        await line.send("так", reply_to=ref)
    assert [m.reply_to for m in olena.received] == [1, None, None, None]
    # A vanished target costs no second call.
    assert [method for method, _ in telegram.calls] == ["sendMessage"] * 4


async def test_files_photo_document_and_caption(line: Line, olena: FakeUser) -> None:
    files = (
        OutboundFile(name="a.png", mime="image/png", content=PNG),
        OutboundFile(name="рахунок.pdf", mime="application/pdf", content=b"%PDF-1"),
    )
    result = await line.send("Ось файли", files=files)
    photo, document = olena.received
    assert (photo.method, photo.text) == ("sendPhoto", "Ось файли")
    assert photo.file is not None
    assert photo.file.content == PNG
    assert (document.method, document.text) == ("sendDocument", "")
    assert document.file is not None
    assert (document.file.filename, document.file.content) == ("рахунок.pdf", b"%PDF-1")
    assert len(result.external_ids) == 2


async def test_a_long_text_does_not_become_a_caption(line: Line, olena: FakeUser) -> None:
    files = (OutboundFile(name="a.png", mime="image/png", content=PNG),)
    buttons = ((Button(label="Ок", value="ok"),),)
    await line.send("я" * 1025, files=files, buttons=buttons)
    text, photo = olena.received
    assert (text.method, len(text.text), text.labels) == ("sendMessage", 1025, ["Ок"])
    assert (photo.method, photo.text, photo.labels) == ("sendPhoto", "", [])


async def test_what_is_called_an_image_but_is_none_goes_as_a_document(line: Line, olena: FakeUser) -> None:
    files = (OutboundFile(name="a.png", mime="image/png", content=b"not an image"),)
    await line.send("", files=files)
    assert [m.method for m in olena.received] == ["sendDocument"]


@pytest.mark.parametrize("size", [0, 50 * 1024 * 1024 + 1])
async def test_impossible_files_are_refused(line: Line, size: int) -> None:
    with pytest.raises(ContentRejected):
        await line.send("x", files=(OutboundFile(name="a", mime="a/b", content=bytes(size)),))


@pytest.mark.parametrize("text", ["", "  \n "])
async def test_an_empty_message_is_refused(line: Line, text: str) -> None:
    with pytest.raises(ContentRejected, match="empty"):
        await line.send(text)


async def test_a_forum_topic_is_answered_in_the_topic_and_a_lost_topic_in_the_group(
    line: Line, telegram: FakeTelegram
) -> None:
    telegram.group(-1002, "Forum", topics=(17,))
    await line.send("у темі", chat="-1002:t17")
    await line.send("теми нема", chat="-1002:t99")
    assert [m.message.get("message_thread_id") for m in telegram.sent] == [17, None]


async def test_a_business_conversation_is_answered_on_its_behalf(
    line: Line, telegram: FakeTelegram, olena: FakeUser
) -> None:
    await line.send("від власника", chat="5001:bbc_Kx1")
    assert telegram.calls[-1][1]["business_connection_id"] == "bc_Kx1"
    assert telegram.calls[-1][1]["chat_id"] == "5001"


async def test_a_group_that_became_a_supergroup_is_followed(line: Line, telegram: FakeTelegram) -> None:
    telegram.group(-4001, "Old").migrated_to = -1009
    telegram.group(-1009, "New")
    result = await line.send("хто тут?", chat="-4001")
    assert [m.chat_id for m in telegram.sent] == [-1009]
    assert result.external_ids[0].startswith("-1009:")
    assert result.moved_to == "-1009"


async def test_an_empty_ok_leaves_the_fate_unknown(
    line: Line, telegram: FakeTelegram, olena: FakeUser
) -> None:
    telegram.fail("sendMessage", body='{"ok": true, "result": null}')
    with pytest.raises(OutcomeUnknown):
        await line.send("x")


async def test_429_says_how_long_to_wait(line: Line, telegram: FakeTelegram, olena: FakeUser) -> None:
    telegram.rate_limit(37)
    with pytest.raises(RateLimitedByProvider) as caught:
        await line.send("x")
    assert caught.value.retry_after_s == 37
    assert telegram.sent == []


async def test_people_who_are_gone(line: Line, telegram: FakeTelegram, olena: FakeUser) -> None:
    await olena.block()
    with pytest.raises(RecipientGone, match="blocked"):
        await line.send("x")
    olena.blocked, olena.deactivated = False, True
    with pytest.raises(RecipientGone, match="deactivated"):
        await line.send("x")
    with pytest.raises(RecipientGone, match="chat not found"):
        await line.send("x", chat="404")


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"status": 500, "description": "Internal Server Error"}, Transient),
        ({"status": 502, "body": "<html>Bad Gateway</html>"}, Transient),
        ({"status": 409, "description": "Conflict: x"}, Transient),
        ({"status": 400, "description": "Bad Request: whatever else"}, ContentRejected),
        ({"status": 413, "description": "Request Entity Too Large"}, ContentRejected),
        ({"status": 401, "description": "Unauthorized"}, AuthFailed),
        ({"drop": "before"}, OutcomeUnknown),
        ({"drop": "after"}, OutcomeUnknown),
        ({"status": 200, "body": '{"ok": true, "resu', "after": True}, OutcomeUnknown),
        ({"status": 200, "body": '{"ok": true, "result": {}}', "after": True}, OutcomeUnknown),
    ],
)
async def test_each_failure_has_its_class(
    line: Line, telegram: FakeTelegram, olena: FakeUser, fault: dict[str, object], error: type[Exception]
) -> None:
    telegram.fail("sendMessage", **fault)
    with pytest.raises(error) as caught:
        await line.send("x")
    assert type(caught.value) is error
    assert telegram.token not in str(caught.value) + repr(caught.value)


async def test_an_answer_newer_than_our_library_still_counts_as_sent(
    line: Line, telegram: FakeTelegram, olena: FakeUser
) -> None:
    telegram.fail("sendMessage", body='{"ok": true, "result": {"message_id": 77, "date": "x"}}', after=True)
    assert (await line.send("x")).external_ids == ("5001:77",)


async def test_nobody_listening_is_transient(line: Line, telegram: FakeTelegram) -> None:
    await telegram.stop()
    config = inbox_config(token=telegram.token, api_base=telegram.base_url, mode="polling")
    with pytest.raises(Transient):
        await line.to(config).send("x")


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({}, NotConfigured),
        ({"token": "1:AAA", "api_base": "ftp://x"}, NotConfigured),
        ({"token": "1:AAA", "mode": "smoke"}, NotConfigured),
        ({"token": "no colon"}, AuthFailed),
    ],
)
async def test_settings_that_cannot_work(line: Line, config: dict[str, str], error: type[Exception]) -> None:
    with pytest.raises(error):
        await line.to(inbox_config(**config)).send("x")


async def test_a_conversation_without_a_chat_is_refused(line: Line) -> None:
    message = Outbound(ref="r", message_id=1, conversation_key="nonsense", to="@olena", text="x")
    with pytest.raises(ContentRejected, match="no Telegram chat"):
        await line.channel.send(message, line.inbox, line.ctx)


async def test_a_wrong_token_is_refused_by_the_server(line: Line, telegram: FakeTelegram) -> None:
    wrong = inbox_config(token="7000000001:AAwrongwrongwrongwrongwrongwrongwro", api_base=telegram.base_url)
    with pytest.raises(AuthFailed):
        await line.to(wrong).send("x")
