"""Plans an outbound message: which Telegram messages it becomes, in which order, with which keyboard.

Pure, and the same plan on every try: `sent_parts` of an earlier try counts parts of this plan.
Limits: https://core.telegram.org/bots/api#sendmessage, #sendphoto, #inlinekeyboardbutton
"""

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from channels.contract import ContentRejected
from channels.telegram.text import MAX_CAPTION_UNITS, MAX_TEXT_UNITS, split_text, telegram_html, utf16_units
from crm_core.envelope import Button, Outbound, OutboundFile

MAX_PHOTO_BYTES = 10 * 1024 * 1024
MAX_UPLOAD_BYTES = 50 * 1024 * 1024
MAX_CALLBACK_BYTES = 64
_PHOTO_MIMES = frozenset({"image/jpeg", "image/png", "image/webp"})
_KEY = re.compile(r"(-?\d{1,19})(?::t(\d{1,19}))?(?::b(.+))?", re.DOTALL)
_REF = re.compile(r"(?:(-?\d{1,19}):)?(\d{1,19})")


class PartKind(StrEnum):
    TEXT = "text"
    PHOTO = "photo"
    DOCUMENT = "document"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to: chat, forum topic, business account on whose behalf."""

    chat_id: int
    topic_id: int | None = None
    business_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One Telegram message. `html`, if set, says the same as `text` with formatting."""

    kind: PartKind
    text: str = ""
    html: str | None = None
    file: OutboundFile | None = None
    reply_to: int | None = None
    keyboard: dict[str, Any] | None = None


def target_of(outbound: Outbound) -> Target:
    """Raises ContentRejected if neither the conversation nor the recipient names a chat."""
    match = _KEY.fullmatch(outbound.conversation_key) or re.fullmatch(r"(-?\d{1,19})()()", outbound.to)
    if match is None:
        raise ContentRejected("the message names no Telegram chat")
    chat, topic, business = match.groups()
    return Target(chat_id=int(chat), topic_id=int(topic) if topic else None, business_id=business or None)


def plan(outbound: Outbound, target: Target) -> list[Part]:
    """At least one part. Raises ContentRejected for what Telegram can never take."""
    parts = _text_and_files(outbound)
    if not parts:
        raise ContentRejected("the message is empty")
    reply_to = _reply_to(outbound.reply_to, target.chat_id)
    if reply_to is not None:
        parts[0] = replace(parts[0], reply_to=reply_to)
    keyboard = _keyboard(outbound.buttons, private=target.chat_id > 0)
    if keyboard is not None:
        # Under the words, not under a picture that follows them.
        last_text = max((i for i, part in enumerate(parts) if part.text), default=len(parts) - 1)
        parts[last_text] = replace(parts[last_text], keyboard=keyboard)
    return parts


def _text_and_files(outbound: Outbound) -> list[Part]:
    text, html = outbound.text.strip(), None
    if outbound.html:
        converted, visible = telegram_html(outbound.html)
        # Too long for one message: cutting inside tags is not worth it, the plain text says the same.
        if visible and utf16_units(visible) <= MAX_TEXT_UNITS:
            html = converted
            text = text or visible
        elif visible:
            text = text or visible
    files = [_file_part(file) for file in outbound.files]
    if files and text and utf16_units(text) <= MAX_CAPTION_UNITS and (html is None or _fits_caption(html)):
        files[0] = replace(files[0], text=text, html=html)
        return files
    if html is not None and utf16_units(text) <= MAX_TEXT_UNITS:
        return [Part(kind=PartKind.TEXT, text=text, html=html), *files]
    return [*(Part(kind=PartKind.TEXT, text=piece) for piece in split_text(text)), *files]


def _fits_caption(html: str) -> bool:
    return utf16_units(telegram_html(html)[1]) <= MAX_CAPTION_UNITS


def _file_part(file: OutboundFile) -> Part:
    size = len(file.content)
    if size == 0:
        raise ContentRejected(f"the file {file.name!r} is empty")
    if size > MAX_UPLOAD_BYTES:
        raise ContentRejected(f"the file {file.name!r} is larger than 50 MB, which bots may not send")
    mime = file.mime.partition(";")[0].strip().lower()
    photo = mime in _PHOTO_MIMES and size <= MAX_PHOTO_BYTES
    return Part(kind=PartKind.PHOTO if photo else PartKind.DOCUMENT, file=file)


def _reply_to(ref: str | None, chat_id: int) -> int | None:
    match = _REF.fullmatch(ref or "")
    if match is None:
        return None
    # An id of another chat would point to a stranger's message.
    return int(match.group(2)) if match.group(1) in {None, str(chat_id)} else None


def _keyboard(rows: tuple[tuple[Button, ...], ...], *, private: bool) -> dict[str, Any] | None:
    rows = tuple(row for row in rows if row)
    if not rows:
        return None
    if any(button.request == "contact" for row in rows for button in row):
        if not private:
            return None  # Telegram refuses to ask for a phone number in a group
        keyboard = [[_reply_button(button) for button in row] for row in rows]
        return {"keyboard": keyboard, "resize_keyboard": True, "one_time_keyboard": True}
    return {"inline_keyboard": [[_inline_button(button) for button in row] for row in rows]}


def _reply_button(button: Button) -> dict[str, Any]:
    if button.request == "contact":
        return {"text": button.label, "request_contact": True}
    return {"text": button.label}


def _inline_button(button: Button) -> dict[str, Any]:
    if not button.label.strip():
        raise ContentRejected("a button has no label")
    if button.url:
        return {"text": button.label, "url": button.url}
    value = button.value or button.label
    if len(value.encode()) > MAX_CALLBACK_BYTES:
        raise ContentRejected(f"the value of button {button.label!r} is longer than 64 bytes")
    return {"text": button.label, "callback_data": value}
