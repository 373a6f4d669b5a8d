"""Stored updates in the documented shape, and what the core learns from each."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels.contract import Malformed, RawItem, RawRequest
from channels.telegram import TelegramChannel
from crm_core.envelope import Auto, Envelope, IdentityKind, Kind
from tests.channels.telegram.conftest import inbox_config

PAYLOADS = Path(__file__).parents[1] / "payloads" / "telegram"
NAMES = sorted(path.stem for path in PAYLOADS.glob("*.json"))
CHANNEL = TelegramChannel()
INBOX = inbox_config(token="1:a", mode="webhook")
RECEIVED = 1_763_900_000_000


def item(body: bytes) -> RawItem:
    request = RawRequest(method="POST", url="/", headers={}, body=body, received_at=RECEIVED)
    (only,) = CHANNEL.split(request, INBOX)
    return only


def parse_all(name: str) -> list[Envelope]:
    return CHANNEL.parse(item((PAYLOADS / f"{name}.json").read_bytes()), INBOX)


def parse(name: str) -> Envelope:
    (only,) = parse_all(name)
    return only


def raw(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((PAYLOADS / f"{name}.json").read_bytes())
    return loaded


def test_text_with_entities_counted_in_utf16() -> None:
    envelope = parse("text_entities")
    payload = raw("text_entities")["message"]
    assert envelope.kind is Kind.MESSAGE
    assert envelope.text == payload["text"]
    assert envelope.html == (
        '😀 <b>Привіт</b>, це <i>важливо</i>: <a href="https://example.com/?a=1&amp;b=2">дивись</a> тут &lt;b&gt;'
    )
    assert envelope.data["entities"] == payload["entities"]
    assert envelope.conversation_key == "5001"
    assert envelope.provider_message_id == f"5001:{payload['message_id']}"
    assert envelope.occurred_at == payload["date"] * 1000
    assert envelope.dedupe_key == f"message:5001:{payload['message_id']}"
    assert envelope.seq == payload["message_id"]


def test_the_sender_is_proven_by_the_account() -> None:
    sender = parse("text_entities").sender
    (claim,) = sender.identities
    assert (claim.kind, claim.value, claim.verified) == (IdentityKind.TELEGRAM, "5001", True)
    assert (sender.display_name, sender.locale) == ("Олена Шевченко", "uk")
    assert not sender.is_bot
    assert not sender.is_agent


def test_the_start_link_carries_its_payload() -> None:
    linked = parse("start_payload")
    assert linked.kind is Kind.MESSAGE
    assert linked.thread.start_payload == "link_Ab-12"
    assert linked.data["command"] == "start"
    plain = parse("start_plain")
    assert plain.thread.start_payload is None
    assert plain.data["command"] == "start"


@pytest.mark.parametrize(
    ("name", "ref", "mime", "file_name", "size", "media"),
    [
        ("photo_caption", "AgACbig", "image/jpeg", "photo_ugACbig.jpg", 90000, "photo"),
        ("document", "BQACdoc1", "application/pdf", "рахунок №5.pdf", 34567, "document"),
        ("animation", "CgACgif", "video/mp4", "cat.mp4", 5000, "animation"),
        ("audio", "CQACsong", "audio/mpeg", "song.mp3", 500000, "audio"),
        ("video", "BAACvid", "video/mp4", "video_uAACvid.mp4", 700000, "video"),
        ("voice", "AwACvoice", "audio/ogg", "voice_uCvoice.ogg", 8000, "voice"),
        ("video_note", "DQACnote", "video/mp4", "video_note_uACnote.mp4", 90000, "video_note"),
        ("sticker", "CAACstick", "application/x-tgsticker", "sticker_uCstick.tgs", 9000, "sticker"),
        ("live_photo", "LPlive", "video/mp4", "live_photo_uLPlive.mp4", 9000, "live_photo"),
    ],
)
def test_files(*, name: str, ref: str, mime: str, file_name: str, size: int, media: str) -> None:
    envelope = parse(name)
    (attachment,) = envelope.attachments
    assert envelope.kind is Kind.MESSAGE
    assert attachment.provider_ref == ref
    assert (attachment.mime, attachment.size, attachment.refused) == (mime, size, None)
    assert attachment.name == file_name
    assert envelope.data["media"] == media


def test_a_file_over_20_mb_is_named_but_never_fetched() -> None:
    (attachment,) = parse("document_too_big").attachments
    assert attachment.refused == "too_big"


def test_album_parts_share_their_group_and_captions_are_text() -> None:
    first, second = parse("photo_caption"), parse("photo_album_second")
    assert first.data["media_group_id"] == second.data["media_group_id"] == "13400000000000001"
    assert (first.text, second.text) == ("чек", "")


def test_places() -> None:
    assert parse("location").data["location"] == {"latitude": 50.4501, "longitude": 30.5234}
    assert parse("location").text == "50.450100, 30.523400"
    venue = parse("venue")
    assert venue.text == "Кав'ярня\nХрещатик, 1\n50.450100, 30.523400"
    moving = parse("location_live_edit")
    assert moving.kind is Kind.EDIT
    assert moving.data["location"]["live_period_sec"] == 900


def test_ones_own_shared_contact_proves_the_phone() -> None:
    envelope = parse("contact_own")
    assert envelope.kind is Kind.IDENTITY
    telegram, phone = envelope.sender.identities
    assert telegram.kind is IdentityKind.TELEGRAM
    assert (phone.kind, phone.value, phone.verified) == (IdentityKind.PHONE, "+380501234567", True)
    assert phone.evidence == "contact_share"


@pytest.mark.parametrize("name", ["contact_other", "contact_forwarded_own", "contact_no_account"])
def test_any_other_card_proves_nothing(name: str) -> None:
    envelope = parse(name)
    assert envelope.kind is Kind.MESSAGE
    assert [claim.kind for claim in envelope.sender.identities] == [IdentityKind.TELEGRAM]
    assert envelope.data["contact"]["e164"].startswith("+380")
    assert envelope.data["contact"]["phone"] in envelope.text


def test_replies_and_quotes() -> None:
    reply = parse("reply_quote")
    assert (reply.reply_to, reply.quoted_text) == ("5001:30", "оплата на місці")
    external = parse("external_reply")
    assert (external.reply_to, external.quoted_text) == (None, "знижка")
    assert external.data["external_reply"] is True
    assert parse("forwarded").data["forwarded"] is True


def test_an_edit_keeps_the_message_id_and_has_its_own_key() -> None:
    envelope = parse("edited")
    payload = raw("edited")["edited_message"]
    assert envelope.kind is Kind.EDIT
    assert envelope.provider_message_id == f"5001:{payload['message_id']}"
    assert envelope.occurred_at == payload["edit_date"] * 1000
    changed = copy.deepcopy(raw("edited"))
    changed["edited_message"]["text"] = "інше в ту ж секунду"
    (other,) = CHANNEL.parse(item(json.dumps(changed).encode()), INBOX)
    assert other.dedupe_key != envelope.dedupe_key
    (again,) = CHANNEL.parse(item(json.dumps(raw("edited")).encode()), INBOX)
    assert again.dedupe_key == envelope.dedupe_key


def test_a_reaction_tells_what_came_and_went() -> None:
    envelope = parse("reaction")
    assert (envelope.kind, envelope.reply_to) == (Kind.REACTION, "5001:33")
    assert envelope.data["added"] == ["🔥", "custom_emoji"]
    assert envelope.data["removed"] == ["👍"]


def test_a_pressed_button() -> None:
    envelope = parse("callback")
    assert envelope.kind is Kind.ACTION
    assert (envelope.text, envelope.data["value"]) == ("👍 Добре", "csat:5")
    assert envelope.data["callback_query_id"] == "4382bfdwdsb323b2d9"
    assert (envelope.conversation_key, envelope.reply_to) == ("5001", "5001:35")
    assert envelope.occurred_at == RECEIVED
    assert envelope.sender.identities[0].value == "5001"


def test_a_button_of_a_message_that_is_no_longer_shown() -> None:
    assert (parse("callback_inaccessible").text, parse("callback_inaccessible").data["value"]) == ("", "old")
    assert parse("callback_inline").conversation_key == "5001"


def test_blocking_and_unblocking() -> None:
    assert (parse("blocked").kind, parse("blocked").data["reachable"]) == (Kind.MEMBERSHIP, False)
    assert (parse("unblocked").kind, parse("unblocked").data["reachable"]) == (Kind.MEMBERSHIP, True)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("added_to_group", "my_chat_member"),
        ("staff_member", "chat_member"),
        ("joined", "new_chat_members"),
        ("migrated", "migrate_to_chat_id"),
        ("business_connection", "business_connection"),
    ],
)
def test_what_happens_to_a_chat_is_system(name: str, what: str) -> None:
    envelope = parse(name)
    assert (envelope.kind, envelope.data["what"]) == (Kind.SYSTEM, what)
    assert "reachable" not in envelope.data


def test_a_migrated_group_names_its_successor() -> None:
    assert parse("migrated").data["other_chat_id"] == "-1009998887776"


@pytest.mark.parametrize(
    ("name", "what", "text"),
    [
        ("poll", "poll", "Коли?"),
        ("dice", "dice", "🎲"),
        ("paid_media", "paid_media", "дорого"),
        ("future_kind", "hologram", "3D"),
        ("future_update", "quantum_query", ""),
        ("inline_query", "inline_query", ""),
    ],
)
def test_what_we_cannot_show_becomes_a_card(name: str, what: str, text: str) -> None:
    envelope = parse(name)
    assert (envelope.kind, envelope.data["what"], envelope.text) == (Kind.UNSUPPORTED, what, text)
    assert envelope.sender.identities[0].value == "5001"


def test_groups_and_topics() -> None:
    group, topic, anonymous = parse("group_text"), parse("forum_topic"), parse("anonymous_admin")
    assert group.data["group"] is True
    assert group.conversation_key == "-1001234567890"
    assert (topic.conversation_key, topic.reply_to) == ("-1001234567890:t17", None)
    assert "group" not in parse("text_entities").data
    assert anonymous.sender.identities[0].value == "-1001234567890"
    assert anonymous.sender.display_name == "Support"


def test_business_accounts() -> None:
    customer, owner, own = parse("business_message"), parse("business_owner"), parse("business_own_bot")
    assert {e.conversation_key for e in (customer, owner, own)} == {"5001:bbc_Kx1"}
    assert (customer.sender.is_agent, owner.sender.is_agent) == (False, True)
    assert (customer.auto, owner.auto, own.auto) == (Auto.HUMAN, Auto.HUMAN, Auto.OWN)
    assert parse("business_edited").kind is Kind.EDIT
    deleted = parse_all("business_deleted")
    assert [(e.kind, e.provider_message_id) for e in deleted] == [
        (Kind.DELETE, "5001:51"),
        (Kind.DELETE, "5001:52"),
    ]
    assert len({e.dedupe_key for e in deleted}) == 2
    assert parse("business_connection").data == {
        "what": "business_connection",
        "connection_id": "bc_Kx1",
        "enabled": True,
        "can_reply": True,
    }


def test_text_that_no_database_takes_is_cleaned() -> None:
    envelope = parse("dirty_text")
    assert envelope.text == "a\ufffdb \ufffd end"
    assert envelope.sender.display_name == "O\ufffd"


def test_a_bot_writing_to_us_is_marked_so_that_nobody_answers_it() -> None:
    update = raw("text_entities")
    update["message"]["from"]["is_bot"] = True
    (envelope,) = CHANNEL.parse(item(json.dumps(update).encode()), INBOX)
    assert envelope.sender.is_bot
    assert envelope.auto is Auto.AUTO_REPLY


@pytest.mark.parametrize("name", NAMES)
def test_every_payload_gives_storable_envelopes_always_the_same(name: str) -> None:
    first, second = parse_all(name), parse_all(name)
    assert first == second
    assert first
    for envelope in first:
        check_storable(envelope)


def check_storable(envelope: Envelope) -> None:
    json.dumps(envelope.data, allow_nan=False).encode()
    for text in (envelope.text, envelope.html or "", envelope.dedupe_key, envelope.conversation_key):
        text.encode()
        assert "\x00" not in text
    assert 0 <= envelope.occurred_at < 2**53
    assert len(envelope.dedupe_key) < 300
    assert envelope.conversation_key


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(st.characters(), max_size=8)
    | st.sampled_from(["private", "5001", "text_link", "bold", "\ud83d", "\x00"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    here = [path] if path else []
    children: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = list(enumerate(value))
    return here + [found for key, child in children for found in places(child, (*path, key))]


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_mutated_updates_never_raise_and_lose_nothing(data: st.DataObject) -> None:
    update = raw(data.draw(st.sampled_from(NAMES)))
    for _ in range(data.draw(st.integers(1, 4))):
        path = data.draw(st.sampled_from(places(update)))
        holder: Any = update
        for key in path[:-1]:
            holder = holder[key]
        if data.draw(st.booleans()) or len(path) == 1:
            holder[path[-1]] = data.draw(JSON)
        else:
            del holder[path[-1]]
    update["update_id"] = data.draw(st.integers(0, 2**63 - 1))
    envelopes = CHANNEL.parse(item(json.dumps(update).encode()), INBOX)
    assert envelopes
    for envelope in envelopes:
        check_storable(envelope)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_update_are_malformed_and_nothing_else(body: bytes) -> None:
    with pytest.raises(Malformed):
        item(body)
    with pytest.raises(Malformed):
        CHANNEL.parse(RawItem(dedupe_key="x", lane="misc", body=body), INBOX)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"{}",
        b'{"update_id": true}',
        b'{"update_id": "7"}',
        b'{"update_id": 1.0}',
        b'{"update_id": 99999999999999999999999}',
        b'{"update_id": NaN}',
        b'{"update_id": 1, "message": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"update_id": ' + b"9" * 6000 + b"}",
        b"\xff\xfe",
    ],
)
def test_not_an_update(body: bytes) -> None:
    with pytest.raises(Malformed):
        item(body)


@pytest.mark.parametrize(
    ("name", "lane"),
    [
        ("text_entities", "chat:5001"),
        ("edited", "chat:5001"),
        ("callback", "chat:5001"),
        ("callback_inline", "chat:5001"),
        ("blocked", "chat:5001"),
        ("reaction", "chat:5001"),
        ("business_message", "chat:5001"),
        ("business_edited", "chat:5001"),
        ("business_deleted", "chat:5001"),
        ("business_connection", "chat:9100"),
        ("group_text", "chat:-1001234567890"),
        ("staff_member", "chat:-1001234567890"),
    ],
)
def test_one_chat_is_one_lane_in_update_order(name: str, lane: str) -> None:
    split = item((PAYLOADS / f"{name}.json").read_bytes())
    update_id = raw(name)["update_id"]
    assert (split.lane, split.order, split.dedupe_key) == (lane, update_id, f"update:{update_id}")
    assert split.received_at == RECEIVED


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b'{"update_id": 5}', "empty"),
        (b'{"update_id": 5, "poll": {"id": "1"}}', "poll"),
        (b'{"update_id": 5, "message": "not an object"}', "message"),
        (b'{"update_id": 5, "message": {"message_id": 1, "chat": {"id": 1e30}, "text": "hello"}}', "message"),
        (b'{"update_id": 5, "callback_query": {"id": "7", "data": "x"}}', "action"),
    ],
)
def test_an_update_without_a_chat_goes_to_the_common_lane_and_is_set_aside(body: bytes, what: str) -> None:
    assert item(body).lane == "misc"
    (envelope,) = CHANNEL.parse(item(body), INBOX)
    assert envelope.data["quarantine"] == f"{what} of no chat"
