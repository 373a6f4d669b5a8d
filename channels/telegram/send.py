"""Delivers the planned parts through aiogram's typed Bot API and turns each failure into the contract's
error.

The only module here that imports aiogram (3 s, 170 MB): it is itself imported by the first send of a process.
Facts on errors: https://core.telegram.org/bots/api#making-requests
"""

import asyncio
from dataclasses import replace
from typing import Any, cast

import aiohttp
from aiogram import Bot
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.exceptions import (
    ClientDecodeError,
    TelegramAPIError,
    TelegramBadRequest,
    TelegramConflictError,
    TelegramEntityTooLarge,
    TelegramForbiddenError,
    TelegramMigrateToChat,
    TelegramNetworkError,
    TelegramNotFound,
    TelegramRetryAfter,
    TelegramServerError,
    TelegramUnauthorizedError,
)
from aiogram.methods import SendDocument, SendMessage, SendPhoto, TelegramMethod
from aiogram.types import (
    BufferedInputFile,
    InlineKeyboardMarkup,
    Message,
    ReplyKeyboardMarkup,
    ReplyParameters,
)
from aiogram.utils.token import TokenValidationError
from typing_extensions import override

from channels.contract import (
    AuthFailed,
    ChannelError,
    ContentRejected,
    NotConfigured,
    OutcomeUnknown,
    RateLimitedByProvider,
    RecipientGone,
    Transient,
)
from channels.telegram.api import Account
from channels.telegram.compose import Part, PartKind, Target, plan, target_of
from channels.telegram.parse import message_ref
from channels.telegram.updates import integer, mapping
from crm_core.envelope import Outbound, SendResult

#: Uploads of 50 MB on a slow line need minutes; connecting does not.
TIMEOUT = aiohttp.ClientTimeout(total=300, connect=15, sock_connect=15, sock_read=60)

#: The request had not left when these were raised.
_NOT_SENT = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientConnectionResetError,
)
_GONE_400 = (
    "chat not found",
    "user not found",
    "peer_id_invalid",
    "user is deactivated",
    "have no rights to send",
)
_NOT_A_PHOTO = (
    "photo_invalid_dimensions",
    "image_process_failed",
    "photo_save_file_invalid",
    "photo_ext_invalid",
)


class _Session(AiohttpSession):
    """Remembers nothing, but tells an unreadable 2xx answer (the message probably left) from an unreadable
    error.
    """

    @override
    def check_response(self, bot: Bot, method: TelegramMethod[Any], status_code: int, content: str) -> Any:
        try:
            return super().check_response(bot=bot, method=method, status_code=status_code, content=content)
        except ClientDecodeError as error:
            data = mapping(error.data)
            if data.get("ok") is True:
                # Sent; only the library is too old or too strict for the description of what was sent.
                raise _SentUnreadableError(integer(mapping(data.get("result")).get("message_id"))) from None
            if status_code < 300:
                raise _SentUnreadableError(None) from None
            raise


class _SentUnreadableError(Exception):
    def __init__(self, message_id: int | None) -> None:
        super().__init__("the answer to a sent message could not be read")
        self.message_id = message_id


class Bots:
    """Bot objects of this process, one a (token, server), each with its own connections. Close in the same
    loop.
    """

    def __init__(self) -> None:
        self._bots: dict[tuple[asyncio.AbstractEventLoop, str, str], Bot] = {}

    def get(self, account: Account) -> Bot:
        """Raises AuthFailed for a token that cannot be one."""
        key = (asyncio.get_running_loop(), account.token, account.api_base)
        bot = self._bots.get(key)
        if bot is None:
            # aiohttp takes the finer object where aiogram's annotation knows only seconds.
            session = _Session(
                api=TelegramAPIServer.from_base(account.api_base), timeout=cast("float", TIMEOUT)
            )
            try:
                bot = Bot(account.token, session=session)
            except TokenValidationError:
                raise AuthFailed("the bot token has the wrong form") from None
            self._bots[key] = bot
        return bot

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        for key in [key for key in self._bots if key[0] is loop or key[0].is_closed()]:
            bot = self._bots.pop(key)
            if key[0] is loop:
                await bot.session.close()


async def deliver(outbound: Outbound, account: Account, bots: Bots) -> SendResult:
    """Send what is not sent yet. Raises ChannelErrors that say how many parts left, and with which ids.

    `external_ids` (of result and error) are those of this try.
    """
    target = target_of(outbound)
    aimed_at = target.chat_id
    parts = plan(outbound, target)
    bot = bots.get(account)
    ids: list[str] = []
    for index in range(outbound.sent_parts, len(parts)):
        try:
            target, message_id = await _deliver_part(bot, target, parts[index])
        except ChannelError as error:
            error.detail = account.redact(error.detail)
            error.args = (error.detail,)
            error.sent_parts = index
            error.external_ids = tuple(ids)
            raise
        if message_id is not None:
            ids.append(message_ref(target.chat_id, message_id))
    moved_to = None if target.chat_id == aimed_at else str(target.chat_id)
    return SendResult(external_ids=tuple(ids), moved_to=moved_to)


async def _deliver_part(bot: Bot, target: Target, part: Part) -> tuple[Target, int | None]:
    """Try, repair what can be repaired (each repair once), try again. Returns the target that worked."""
    repaired: set[str] = set()
    failure: ChannelError
    while True:
        try:
            method = _method(target, part)
        except ValueError as error:
            # pydantic's; nothing has left yet.
            raise ContentRejected(f"not a valid Telegram message: {type(error).__name__}") from None
        try:
            message = await bot(method)
        except _SentUnreadableError as sent:
            if sent.message_id is None:
                raise OutcomeUnknown("Telegram's answer could not be read") from None
            return target, sent.message_id
        except TelegramMigrateToChat as error:
            repair, target = "migrate", replace(target, chat_id=error.migrate_to_chat_id, topic_id=None)
            part = replace(part, reply_to=None)
            failure = Transient("the group moved again")
        except TelegramBadRequest as error:
            text = error.message.lower()
            if "message is not modified" in text:
                return target, None
            repair, target, part = _repair(text, target, part)
            failure = _of_bad_request(text)
        except Exception as error:
            raise _translate(error) from None
        else:
            if not isinstance(message, Message):  # "ok" with nothing in it passes the library
                raise OutcomeUnknown("Telegram's answer could not be read")
            return target, message.message_id
        if not repair or repair in repaired:
            raise failure
        repaired.add(repair)


def _repair(text: str, target: Target, part: Part) -> tuple[str, Target, Part]:
    """(name of the repair or "", changed target, changed part) for the words of a 400."""
    if "can't parse entities" in text and part.html is not None:
        return "plain", target, replace(part, html=None)
    if "message thread not found" in text and target.topic_id is not None:
        return "topic", replace(target, topic_id=None), part
    if "message to be replied not found" in text and part.reply_to is not None:
        return "reply", target, replace(part, reply_to=None)
    if part.kind is PartKind.PHOTO and any(sign in text for sign in _NOT_A_PHOTO):
        return "document", target, replace(part, kind=PartKind.DOCUMENT)
    return "", target, part


def _method(target: Target, part: Part) -> TelegramMethod[Message]:
    common: dict[str, Any] = {
        "chat_id": target.chat_id,
        "message_thread_id": target.topic_id,
        "business_connection_id": target.business_id,
        "parse_mode": None if part.html is None else "HTML",
        "reply_markup": _markup(part.keyboard),
        "reply_parameters": None
        if part.reply_to is None
        else ReplyParameters(message_id=part.reply_to, allow_sending_without_reply=True),
    }
    words = part.text if part.html is None else part.html
    if part.file is None:
        return SendMessage(text=words, **common)
    upload = BufferedInputFile(part.file.content, filename=part.file.name or "file")
    if part.kind is PartKind.PHOTO:
        return SendPhoto(photo=upload, caption=words or None, **common)
    return SendDocument(document=upload, caption=words or None, **common)


def _markup(keyboard: dict[str, Any] | None) -> InlineKeyboardMarkup | ReplyKeyboardMarkup | None:
    if keyboard is None:
        return None
    if "inline_keyboard" in keyboard:
        return InlineKeyboardMarkup.model_validate(keyboard)
    return ReplyKeyboardMarkup.model_validate(keyboard)


def _of_bad_request(text: str) -> ChannelError:
    if any(sign in text for sign in _GONE_400):
        return RecipientGone(f"Telegram: {text}")
    return ContentRejected(f"Telegram: {text}")


def _translate(error: Exception) -> ChannelError:
    """Every other failure. The order matters: aiogram's classes are nested."""
    match error:
        case TelegramRetryAfter():
            return RateLimitedByProvider(
                "Telegram: too many requests", retry_after_s=float(error.retry_after)
            )
        case TelegramForbiddenError():
            return RecipientGone(f"Telegram: {error.message}")
        case TelegramUnauthorizedError() | TelegramNotFound():
            return AuthFailed(f"Telegram: {error.message}")
        case TelegramEntityTooLarge():
            return ContentRejected("Telegram: the request is too large")
        case TelegramServerError() | TelegramConflictError() | ClientDecodeError():
            return Transient("Telegram has a fault of its own")
        case TelegramNetworkError():
            return _of_network(error)
        case TelegramAPIError():
            return Transient(f"Telegram: {error.message}")
        case _:
            # Whatever it was, it came after the request was handed over.
            return OutcomeUnknown(f"sending broke off: {type(error).__name__}")


def _of_network(error: TelegramNetworkError) -> ChannelError:
    cause = error.__cause__
    name = type(cause).__name__
    if isinstance(cause, aiohttp.InvalidURL):
        return NotConfigured("api_base is not a usable address")
    if isinstance(cause, _NOT_SENT):
        return Transient(f"Telegram cannot be reached: {name}")
    return OutcomeUnknown(f"the connection broke after the message was sent: {name}")
