"""The bot account from outside the conversation: webhook set-up, health, file download, answering a pressed
button.

Facts: https://core.telegram.org/bots/api#setwebhook, #getfile, #answercallbackquery
"""

import re
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

import aiohttp
import structlog

from channels.contract import (
    AuthFailed,
    ChannelContext,
    ContentRejected,
    InboxConfig,
    NotConfigured,
    Transient,
)
from channels.telegram.api import (
    Account,
    ApiRefusedError,
    ApiUnreachableError,
    account_of,
    as_channel_error,
    call,
)
from channels.telegram.content import MAX_DOWNLOAD_BYTES
from channels.telegram.updates import ALLOWED_UPDATES, integer, mapping

log = structlog.get_logger(__name__)

_SECRET = re.compile(r"[A-Za-z0-9_-]{1,256}")
_CHUNK = 64 * 1024
_MAX_CONNECTIONS = 40
_IDLE_TIMEOUT_S = 30.0


def hook_url(inbox: InboxConfig, ctx: ChannelContext) -> str:
    return f"{ctx.public_url.rstrip('/')}/hooks/{inbox.key}"


async def set_up(inbox: InboxConfig, ctx: ChannelContext) -> None:
    """Make Telegram post to us, or stop posting where we poll. Raises ChannelErrors; nothing pending is
    dropped.
    """
    account = account_of(inbox)
    if account.mode == "polling":
        await _checked(account, ctx, "deleteWebhook", {"drop_pending_updates": False})
        return
    # A self-hosted Bot API server posts to plain HTTP too, Telegram's own does not.
    if not ctx.public_url.startswith("https://") and (account.official or not ctx.public_url):
        raise NotConfigured(
            "a Telegram webhook needs a public https address (public_url); without one set mode to polling"
        )
    if not _SECRET.fullmatch(inbox.secret):
        raise NotConfigured("the inbox secret must be 1-256 letters, digits, _ or -")
    params = {
        "url": hook_url(inbox, ctx),
        "secret_token": inbox.secret,
        "allowed_updates": list(ALLOWED_UPDATES),
        "max_connections": _MAX_CONNECTIONS,
        "drop_pending_updates": False,
    }
    await _checked(account, ctx, "setWebhook", params)


async def health(inbox: InboxConfig, ctx: ChannelContext) -> dict[str, Any]:
    """Facts for the health page; never raises. Times are ms."""
    try:
        account = account_of(inbox)
        me = mapping(await call(account, ctx, "getMe"))
        hook = mapping(await call(account, ctx, "getWebhookInfo"))
    except NotConfigured as error:
        return {"ok": False, "detail": error.detail}
    except ApiRefusedError as refusal:
        return {"ok": False, "detail": f"Telegram: {refusal}"}
    except ApiUnreachableError as error:
        return {"ok": False, "detail": f"Telegram is not reachable: {error.detail}"}
    except Exception as error:
        return {"ok": False, "detail": type(error).__name__}
    problem = _hook_problem(account, hook, inbox, ctx)
    error_at = integer(hook.get("last_error_date"))
    return {
        "ok": not problem,
        "detail": problem,
        "bot_id": str(integer(me.get("id"))),
        "bot_username": str(me.get("username", "")),
        "mode": account.mode,
        "pending_updates": integer(hook.get("pending_update_count")) or 0,
        "last_error": account.redact(str(hook.get("last_error_message", ""))),
        "last_error_at": None if error_at is None else error_at * 1000,
    }


def _hook_problem(account: Account, hook: dict[str, Any], inbox: InboxConfig, ctx: ChannelContext) -> str:
    url = str(hook.get("url", ""))
    if account.mode == "polling":
        return "a webhook is set while this inbox polls" if url else ""
    if not url:
        return "no webhook is set"
    if url != hook_url(inbox, ctx):
        return "the webhook points to another address"
    return ""


async def answer_action(envelope_data: Mapping[str, Any], inbox: InboxConfig, ctx: ChannelContext) -> bool:
    """Stop the waiting circle on a pressed button. Never raises: True if Telegram took it, False if not.

    To be called at once, before the action is worked on: Telegram forgets a press after some seconds.
    """
    query_id = envelope_data.get("callback_query_id")
    if not isinstance(query_id, str) or not query_id:
        return False
    try:
        params = {"callback_query_id": query_id}
        return await call(account_of(inbox), ctx, "answerCallbackQuery", params, timeout_s=10) is True
    except (ApiRefusedError, ApiUnreachableError, NotConfigured) as error:
        log.info("telegram_action_not_answered", inbox_id=inbox.id, reason=str(error))
        return False


async def fetch(ref: str, inbox: InboxConfig, ctx: ChannelContext) -> AsyncIterator[bytes]:
    """Stream a file by its file_id. Raises ChannelErrors; a file over 20 MB is ContentRejected."""
    account = account_of(inbox)
    file = mapping(await _checked(account, ctx, "getFile", {"file_id": ref}))
    expected = integer(file.get("file_size"))
    path = file.get("file_path")
    if expected is not None and expected > MAX_DOWNLOAD_BYTES:
        raise ContentRejected("the file is larger than 20 MB, which bots may not download")
    if not isinstance(path, str) or not path:
        raise Transient("Telegram gave no path for the file")
    if path.startswith("/") or ".." in path.split("/"):
        raise NotConfigured("the Bot API server runs with --local: its files are not served over HTTP")
    url = f"{account.api_base}/file/bot{account.token}/{quote(path)}"
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_IDLE_TIMEOUT_S, sock_read=_IDLE_TIMEOUT_S)
    received = 0
    try:
        async with ctx.http.get(url, timeout=timeout, allow_redirects=False) as response:
            _check_download(response.status)
            async for chunk in response.content.iter_chunked(_CHUNK):
                received += len(chunk)
                if received > MAX_DOWNLOAD_BYTES:
                    raise ContentRejected("the file is larger than 20 MB, which bots may not download")
                yield chunk
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        # Their text quotes the URL, and the URL holds the token.
        raise Transient(f"download broke off: {type(error).__name__}") from None
    if expected is not None and received != expected:
        raise Transient(f"download is incomplete: {received} of {expected} bytes")


def _check_download(status: int) -> None:
    if status == 200:
        return
    if status == 401:
        raise AuthFailed("Telegram refused the token for a file")
    if status in {400, 403, 404, 410}:
        raise ContentRejected(f"Telegram no longer has the file (HTTP {status})")
    raise Transient(f"file download answered HTTP {status}")


async def _checked(account: Account, ctx: ChannelContext, method: str, params: dict[str, Any]) -> Any:
    try:
        return await call(account, ctx, method, params)
    except ApiRefusedError as refusal:
        raise as_channel_error(refusal) from None
    except ApiUnreachableError as error:
        raise Transient(error.detail) from None
