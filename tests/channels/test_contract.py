"""What every channel promises, whichever it is: held against all that are registered."""

import json
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from channels import CHANNEL_KEYS, get_channel
from channels.contract import (
    Channel,
    ChannelContext,
    ChannelError,
    InboxConfig,
    Malformed,
    NotConfigured,
    OriginateRequest,
    RawItem,
    RawRequest,
    SignatureRefused,
)
from crm_core.clock import SystemClock
from crm_core.envelope import Envelope, Outbound

CONFIG: dict[str, dict[str, Any]] = {
    "telegram": {
        "token": "123456:AAtestTokenTestTokenTestTokenTest",
        "api_base": "http://127.0.0.1:9",
        "mode": "webhook",
    },
    "email": {
        "address": "support@bureau.example",
        "smtp_host": "127.0.0.1",
        "smtp_port": 9,
        "smtp_tls": "none",
    },
    "telephony": {"vendor": "generic", "originate_url": "http://127.0.0.1:9/dial"},
    "webchat": {},
    "form": {},
}
TYPES = {
    "telegram": "application/json",
    "email": "message/rfc822",
    "telephony": "application/json",
    "webchat": "application/json",
    "form": "application/json",
}

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=5),
    max_leaves=12,
)
bodies = st.binary(max_size=400) | anything.map(lambda v: json.dumps(v).encode())


@pytest.fixture(params=CHANNEL_KEYS)
def key(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def inbox_of(key: str, **more: Any) -> InboxConfig:
    return InboxConfig(
        id=1, key="k" * 20, channel=key, name="Inbox", secret="right-secret", config=CONFIG[key] | more
    )


def a_request(key: str, body: bytes, **headers: str) -> RawRequest:
    return RawRequest(
        method="POST",
        url=f"http://x.example/hooks/{'k' * 20}",
        headers={"content-type": TYPES[key], **headers},
        body=body,
        content_type=TYPES[key],
        received_at=1_790_000_000_000,
    )


def test_the_spec_says_what_it_is(key: str) -> None:
    channel = get_channel(key)
    spec = channel.spec
    assert isinstance(channel, Channel) and spec.key == key and spec.title
    names = {name.rstrip("?") for name in spec.config_keys}
    assert spec.secret_keys <= names
    assert all(text.strip() for text in spec.config_keys.values())
    assert spec.offer_channel in ("voice", "chat", "async")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=bodies)
def test_parse_is_total_and_says_the_same_twice(key: str, body: bytes) -> None:
    item = RawItem(
        dedupe_key="d",
        lane="l",
        body=body,
        content_type=TYPES[key],
        received_at=1_790_000_000_000,
        meta={"envelope_to": "support@bureau.example"},
    )
    channel = get_channel(key)

    def read() -> list[Envelope] | str:
        try:
            return channel.parse(item, inbox_of(key))
        except Malformed as error:
            return error.reason

    first = read()
    assert first and first == read()
    for envelope in first if isinstance(first, list) else ():
        assert envelope.conversation_key and envelope.dedupe_key


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=bodies)
def test_split_cuts_or_says_malformed(key: str, body: bytes) -> None:
    try:
        items = get_channel(key).split(a_request(key, body), inbox_of(key))
    except Malformed as error:
        assert error.reason
    else:
        assert all(i.dedupe_key and i.lane for i in items)
        again = get_channel(key).split(a_request(key, body), inbox_of(key))
        assert [i.dedupe_key for i in items] == [i.dedupe_key for i in again]


@pytest.mark.parametrize(
    "given_headers",
    [
        {},
        {"x-signature": "AAAA", "x-telegram-bot-api-secret-token": "wrong"},
        {"x-signature": "\u00e9\u00ff", "x-telegram-bot-api-secret-token": "\u00e9\u00ff"},
        {"x-signature": "A" * 100_000, "x-telegram-bot-api-secret-token": "A" * 100_000},
    ],
)
@pytest.mark.parametrize("key", [k for k in CHANNEL_KEYS if k != "form"])
def test_an_unproven_request_is_refused_and_never_an_error_of_ours(
    key: str, given_headers: dict[str, str]
) -> None:
    with pytest.raises(SignatureRefused):
        get_channel(key).verify(a_request(key, b"{}", **given_headers), inbox_of(key))


async def test_sending_to_nobody_is_a_classified_error_that_shows_no_secret(key: str) -> None:
    channel = get_channel(key)
    outbound = Outbound(
        ref="r-1",
        message_id=1,
        conversation_key="77",
        to="petro@example.com" if key == "email" else "77",
        text="hello",
    )
    async with aiohttp.ClientSession() as http:
        ctx = ChannelContext(http=http, clock=SystemClock(), public_url="http://127.0.0.1:1")
        try:
            result = await channel.send(outbound, inbox_of(key), ctx)
        except ChannelError as error:
            assert error.detail and "AAtestToken" not in error.detail
        else:
            assert key == "webchat" and result.external_ids
        if key != "telephony":
            with pytest.raises(NotConfigured):
                await channel.originate(
                    OriginateRequest(correlation_id="c", to_number="+380501234567", agent_ext="1"),
                    inbox_of(key),
                    ctx,
                )
        health = await channel.health(inbox_of(key), ctx)
        assert isinstance(health["ok"], bool)
        await channel.close()
