"""Telegram: a bot account whose chats are customers' conversations.

Receiving (`updates`, `content`, `parse`, `poll`) reads raw JSON; sending (`compose`, `send`) goes through
aiogram.
This package must stay cheap to import: only `send` may import aiogram, and only the first message sent
imports it.
"""

import asyncio
import hmac
from collections.abc import AsyncIterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from channels.contract import (
    Channel,
    ChannelContext,
    ChannelSpec,
    HttpAnswer,
    InboundSink,
    InboxConfig,
    RawItem,
    RawRequest,
    SignatureRefused,
)
from channels.telegram import account as _account
from channels.telegram.api import account_of
from channels.telegram.parse import parse
from channels.telegram.poll import PollPace, poll
from channels.telegram.text import MAX_TEXT_UNITS
from channels.telegram.updates import item_of, load_update
from crm_core.envelope import Envelope, Outbound, SendResult

if TYPE_CHECKING:
    from channels.telegram.send import Bots

_SECRET_HEADER = "x-telegram-bot-api-secret-token"  # noqa: S105


class TelegramChannel(Channel):
    """The adapter. It keeps nothing but open connections; `close` ends them."""

    spec: ClassVar[ChannelSpec] = ChannelSpec(
        key="telegram",
        title="Telegram",
        config_keys={
            "token": "The bot's token, from BotFather",
            "mode": "webhook (needs a public https address) or polling",
            "api_base?": "Address of a Bot API server of your own; empty for Telegram's",
        },
        secret_keys=frozenset({"token"}),
        max_text=MAX_TEXT_UNITS,
        buttons=True,
        # https://core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this
        rate_per_key={"account": 25, "chat": 1, "group": 0.3},
    )

    def __init__(self, pace: PollPace | None = None) -> None:
        self._pace = pace or PollPace()
        self._bots: Bots | None = None

    @override
    def check(self, config: Mapping[str, Any]) -> dict[str, str]:
        return {} if config.get("mode") in ("webhook", "polling") else {"mode": "must be webhook or polling"}

    @override
    def verify(self, request: RawRequest, inbox: InboxConfig) -> HttpAnswer | None:
        if not inbox.secret:
            raise SignatureRefused("the inbox has no secret to compare with")
        given = request.headers.get(_SECRET_HEADER)
        if given is None:
            raise SignatureRefused("no secret token header")
        # Bytes, because compare_digest raises on text beyond ASCII, and a header may hold any bytes.
        same = hmac.compare_digest(given.encode("utf-8", "surrogatepass"), inbox.secret.encode())
        if not same:
            raise SignatureRefused("wrong secret token")
        return None

    @override
    def split(self, request: RawRequest, inbox: InboxConfig) -> list[RawItem]:
        return [item_of(load_update(request.body), request.body, request.received_at)]

    @override
    def parse(self, item: RawItem, inbox: InboxConfig) -> list[Envelope]:
        return parse(item, inbox)

    @override
    async def run(
        self, inbox: InboxConfig, sink: InboundSink, ctx: ChannelContext, stop: asyncio.Event
    ) -> None:
        await poll(inbox, sink, ctx, stop, self._pace)

    @override
    async def prepare(self) -> None:
        # Seconds long the first time: in a thread, or every socket of this process would wait.
        module = await asyncio.to_thread(import_module, "channels.telegram.send")
        if self._bots is None:
            self._bots = module.Bots()

    @override
    async def send(self, outbound: Outbound, inbox: InboxConfig, ctx: ChannelContext) -> SendResult:
        account = account_of(inbox)
        await self.prepare()
        module = import_module("channels.telegram.send")
        result: SendResult = await module.deliver(outbound, account, self._bots)
        return result

    @override
    def fetch(self, ref: str, inbox: InboxConfig, ctx: ChannelContext) -> AsyncIterator[bytes]:
        return _account.fetch(ref, inbox, ctx)

    @override
    async def set_up(self, inbox: InboxConfig, ctx: ChannelContext) -> None:
        await _account.set_up(inbox, ctx)

    @override
    async def health(self, inbox: InboxConfig, ctx: ChannelContext) -> dict[str, Any]:
        return await _account.health(inbox, ctx)

    @override
    async def answer_action(
        self, envelope_data: Mapping[str, Any], inbox: InboxConfig, ctx: ChannelContext
    ) -> bool:
        """Tell Telegram that a pressed button was taken; `envelope_data` is the `data` of the ACTION
        envelope.

        Never raises; False means the circle on the button goes on until Telegram gives up.
        """
        return await _account.answer_action(envelope_data, inbox, ctx)

    @override
    async def close(self) -> None:
        """End the connections that sending opened in this event loop."""
        if self._bots is not None:
            await self._bots.close()


__all__ = ["PollPace", "TelegramChannel"]
