"""Plain Bot API calls over the shared HTTP session: for receiving, files and set-up, where aiogram is too
heavy.

Owns the account's settings and the one rule of this folder: the token is part of every URL, so no exception
of
the HTTP client may pass through unread, and no message of ours may quote it.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

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
from channels.telegram.updates import integer, mapping

OFFICIAL_API = "https://api.telegram.org"
CALL_TIMEOUT_S = 30.0
#: A getUpdates answer holds up to 100 updates; anything near this is not one.
_MAX_ANSWER_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Where and as whom to call. `mode` is `webhook` or `polling`."""

    token: str
    api_base: str
    mode: str

    @property
    def official(self) -> bool:
        return self.api_base == OFFICIAL_API

    def redact(self, text: str) -> str:
        return text.replace(self.token, "<token>")


class ApiRefusedError(Exception):
    """The Bot API answered `"ok": false`."""

    def __init__(self, code: int, description: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(f"{code} {description}")
        self.code = code
        self.description = description
        self.retry_after_s = retry_after_s


class ApiUnreachableError(Exception):
    """No answer, or none that a Bot API would give. `detail` never holds the URL."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


def account_of(inbox: InboxConfig) -> Account:
    """The inbox's settings. Raises NotConfigured."""
    token = inbox.config.get("token")
    if not isinstance(token, str) or not token.strip():
        raise NotConfigured("the Telegram inbox has no bot token")
    base = inbox.config.get("api_base") or OFFICIAL_API
    if not isinstance(base, str) or not base.startswith(("https://", "http://")):
        raise NotConfigured("api_base must be an http(s) URL")
    mode = inbox.config.get("mode") or "webhook"
    if mode not in {"webhook", "polling"}:
        raise NotConfigured("mode must be webhook or polling")
    return Account(token=token.strip(), api_base=base.rstrip("/"), mode=mode)


async def call(
    account: Account,
    ctx: ChannelContext,
    method: str,
    params: Mapping[str, Any] | None = None,
    *,
    timeout_s: float = CALL_TIMEOUT_S,
) -> Any:
    """`result` of a Bot API method. Raises ApiRefusedError, ApiUnreachableError.

    Source: https://core.telegram.org/bots/api#making-requests
    """
    url = f"{account.api_base}/bot{account.token}/{method}"
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    try:
        async with ctx.http.post(url, json=params or {}, timeout=timeout, allow_redirects=False) as response:
            status = response.status
            raw = await response.content.read(_MAX_ANSWER_BYTES)
            while not response.content.at_eof() and len(raw) < _MAX_ANSWER_BYTES:
                raw += await response.content.read(_MAX_ANSWER_BYTES - len(raw))
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise ApiUnreachableError(f"{method}: {type(error).__name__}") from None
    try:
        answer = mapping(json.loads(raw))
    except (ValueError, RecursionError):
        answer = {}
    if status == 200 and answer.get("ok") is True:
        return answer.get("result")
    code = integer(answer.get("error_code"))
    if code is None:
        raise ApiUnreachableError(f"{method}: HTTP {status} without a Bot API answer")
    retry_after = integer(mapping(answer.get("parameters")).get("retry_after"))
    description = account.redact(str(answer.get("description", "")))[:300]
    raise ApiRefusedError(code, description, retry_after_s=retry_after)


def as_channel_error(refusal: ApiRefusedError) -> ChannelError:
    """A refusal of a call that sends nothing to a customer, as the contract's error."""
    text = f"Telegram: {refusal}"
    if refusal.retry_after_s is not None or refusal.code == 429:
        return RateLimitedByProvider(text, retry_after_s=refusal.retry_after_s or 1)
    if refusal.code in {401, 404}:
        # A token of the wrong form is answered 404, a revoked one 401.
        return AuthFailed(text)
    if refusal.code >= 500 or refusal.code == 409:
        return Transient(text)
    return ContentRejected(text)


async def sleep_unless(stop: asyncio.Event, seconds: float) -> None:
    """Wait, but not beyond `stop`."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
