"""A Telegram inbox wired to the strict local Bot API over real HTTP."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from channels.contract import ChannelContext, InboxConfig
from channels.telegram import PollPace, TelegramChannel
from crm_core.clock import SystemClock
from crm_core.envelope import Outbound, SendResult
from tests.fakes.telegram_api import FakeTelegram

SECRET = "hook-Secret_1"


@pytest.fixture
async def telegram() -> AsyncIterator[FakeTelegram]:
    async with FakeTelegram(time_scale=0.01) as server:
        yield server


@pytest.fixture
async def ctx() -> AsyncIterator[ChannelContext]:
    async with aiohttp.ClientSession() as http:
        yield ChannelContext(http=http, clock=SystemClock(), public_url="https://desk.example.com")


@pytest.fixture
async def channel() -> AsyncIterator[TelegramChannel]:
    adapter = TelegramChannel(
        PollPace(
            long_poll_s=1,
            backoff_first_s=0.01,
            backoff_max_s=0.02,
            conflict_s=0.02,
            refused_token_s=0.02,
            grace_s=5,
        )
    )
    yield adapter
    await adapter.close()


def inbox_config(*, region: str = "UA", secret: str = SECRET, **config: Any) -> InboxConfig:
    return InboxConfig(
        id=1, key="k9x", channel="telegram", name="Bot", secret=secret, config=config, region=region
    )


@pytest.fixture
def inbox(telegram: FakeTelegram) -> InboxConfig:
    return inbox_config(token=telegram.token, api_base=telegram.base_url, mode="polling")


@dataclass(frozen=True)
class Line:
    """The adapter with all it needs, to send by."""

    channel: TelegramChannel
    inbox: InboxConfig
    ctx: ChannelContext

    async def send(self, text: str = "", *, chat: str = "5001", **fields: Any) -> SendResult:
        message = Outbound(ref="r1", message_id=1, conversation_key=chat, to="5001", text=text, **fields)
        return await self.channel.send(message, self.inbox, self.ctx)

    def to(self, inbox: InboxConfig) -> "Line":
        return Line(self.channel, inbox, self.ctx)


@pytest.fixture
def line(channel: TelegramChannel, inbox: InboxConfig, ctx: ChannelContext) -> Line:
    return Line(channel, inbox, ctx)
