"""Chat frames: what they mean, that retries are one message, and that a visitor cannot claim to be proven."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels import get_channel
from channels.contract import InboxConfig, Malformed, RawItem, RawRequest, SignatureRefused
from channels.webchat import to_item
from crm_core.envelope import IdentityKind, Kind, Outbound

CHANNEL = get_channel("webchat")
INBOX = InboxConfig(id=1, key="wk", channel="webchat", name="Chat", secret="s", config={}, region="UA")


def read(frame, **more):
    (envelope,) = CHANNEL.parse(
        to_item({"client_id": "u1", **frame}, visitor_id="v1", received_at=5, **more), INBOX
    )
    return envelope


def test_a_message_belongs_to_the_sessions_visitor():
    envelope = read({"text": " hi\x00 ", "reply_to": "m4", "visitor_id": "somebody-else", "locale": "uk"})
    (claim,) = envelope.sender.identities
    assert (claim.kind, claim.value, claim.account, claim.verified) == (
        IdentityKind.VISITOR,
        "v1",
        "wk",
        True,
    )
    assert (envelope.kind, envelope.text, envelope.reply_to) == (Kind.MESSAGE, "hi", "m4")
    assert (envelope.provider_message_id, envelope.conversation_key, envelope.sender.locale) == (
        "u1",
        "v1",
        "uk",
    )


def test_only_the_session_proves_an_external_identity():
    assert len(read({"text": "x", "external_id": "boss"}).sender.identities) == 1
    claim = read({"text": "x"}, external_id="u-7").sender.identities[1]
    assert (claim.kind, claim.value, claim.verified, claim.evidence) == (
        IdentityKind.EXTERNAL,
        "u-7",
        True,
        "jwt",
    )


def test_pre_chat_answers_are_claims():
    envelope = read(
        {
            "fields": {
                "name": "Іван",
                "phone": "0501112233",
                "email": "I@x.ua",
                "city": "Львів",
                "consent": True,
            }
        }
    )
    assert envelope.kind is Kind.IDENTITY
    assert [(c.value, c.verified) for c in envelope.sender.identities[1:]] == [
        ("+380501112233", False),
        ("i@x.ua", False),
    ]
    assert envelope.fields == {"city": "Львів", "consent": True}
    assert envelope.sender.display_name == "Іван"


def test_a_pressed_button_carries_its_value_and_label():
    envelope = read({"action": {"value": "sales", "label": "Продажі"}})
    assert (envelope.kind, envelope.text, envelope.data["value"]) == (Kind.ACTION, "Продажі", "sales")


def test_attachments_are_references_to_uploads():
    envelope = read(
        {"attachments": [{"name": "a.png", "mime": "image/png", "size": 5, "ref": "up1"}, {"mime": "<x>"}]}
    )
    good, lost = envelope.attachments
    assert (good.name, good.mime, good.size, good.provider_ref, good.refused) == (
        "a.png",
        "image/png",
        5,
        "up1",
        None,
    )
    assert (lost.mime, lost.refused) == ("application/octet-stream", "never_uploaded")


def test_a_retry_is_the_same_item():
    first, again, other = (
        to_item({"client_id": client, "text": "x"}, visitor_id="v1", received_at=at)
        for client, at in (("u1", 1), ("u1", 9), ("u2", 9))
    )
    assert first.dedupe_key == again.dedupe_key != other.dedupe_key
    assert first.lane == "v1"


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ({"text": "x"}, "client_id"),
        ({"client_id": "u 1", "text": "x"}, "client_id"),
        ({"client_id": "u", "text": 5}, "text must be"),
        ({"client_id": "u", "text": "x" * 8001}, "8000"),
        ({"client_id": "u", "text": "  "}, "one of text"),
        ({"client_id": "u", "attachments": {}, "text": " "}, "one of text"),
        ({"client_id": "u", "attachments": [1]}, "list of objects"),
        ({"client_id": "u", "attachments": [{}] * 11}, "more than 10"),
        ({"client_id": "u", "fields": {}}, "one of text"),
        ({"client_id": "u", "fields": []}, "fields must be"),
        ({"client_id": "u", "text": "x", "action": "y"}, "action must be"),
    ],
)
def test_a_bad_frame_is_refused_by_name(frame, reason):
    with pytest.raises(Malformed, match=reason):
        to_item(frame, visitor_id="v1", received_at=1)


async def test_sending_is_done_by_the_stream():
    outbound = Outbound(ref="out-1", message_id=1, conversation_key="v1", to="v1", text="x")
    result = await CHANNEL.send(outbound, INBOX, None)
    assert (result.external_ids, result.state) == (("out-1",), "sent")


def test_the_chat_has_no_webhook():
    with pytest.raises(SignatureRefused):
        CHANNEL.verify(RawRequest(method="POST", url="https://x", headers={}, body=b"{}"), INBOX)


@given(st.binary(max_size=40) | st.dictionaries(
    st.sampled_from(["visitor_id", "client_id", "text", "attachments", "fields", "action", "reply_to", "locale"]),
    st.none() | st.integers() | st.text(max_size=9) | st.lists(st.integers(), max_size=2)
    | st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=2),
).map(lambda frame: json.dumps(frame).encode()))  # fmt: skip
def test_any_stored_frame_is_read_or_named(body):
    try:
        CHANNEL.parse(RawItem(dedupe_key="k", lane="v", body=body), INBOX)
    except Malformed as error:
        assert error.reason
