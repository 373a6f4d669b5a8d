"""What one Telegram message holds: its words, files, place, card, and which of many kinds it is.

Pure and total over untrusted JSON that went through `updates.storable`. Facts:
https://core.telegram.org/bots/api#message
"""

import math
from dataclasses import dataclass, field
from typing import Any

from channels.telegram.updates import integer, mapping
from crm_core.envelope import InboundAttachment

#: What a bot may download (https://core.telegram.org/bots/api#getfile).
MAX_DOWNLOAD_BYTES = 20 * 1024 * 1024

#: In this order: an animation also fills `document`.
#: field -> (MIME if the update gives none, file suffix)
_FILES = {
    "animation": ("video/mp4", ".mp4"),
    "document": ("application/octet-stream", ""),
    "audio": ("audio/mpeg", ".mp3"),
    "video": ("video/mp4", ".mp4"),
    "live_photo": ("video/mp4", ".mp4"),
    "voice": ("audio/ogg", ".ogg"),
    "video_note": ("video/mp4", ".mp4"),
    "sticker": ("image/webp", ".webp"),
}

#: Things that happened in the chat rather than were said: shown as a thin line, if at all.
SERVICE = frozenset(
    {"new_chat_members", "left_chat_member", "chat_owner_left", "chat_owner_changed", "new_chat_title",
     "new_chat_photo", "delete_chat_photo", "group_chat_created", "supergroup_chat_created",
     "channel_chat_created", "message_auto_delete_timer_changed", "migrate_to_chat_id",
     "migrate_from_chat_id", "pinned_message", "connected_website", "write_access_allowed",
     "proximity_alert_triggered", "boost_added", "chat_background_set", "forum_topic_created",
     "forum_topic_edited", "forum_topic_closed", "forum_topic_reopened", "general_forum_topic_hidden",
     "general_forum_topic_unhidden", "video_chat_scheduled", "video_chat_started", "video_chat_ended",
     "video_chat_participants_invited", "direct_message_price_changed", "paid_message_price_changed",
     "giveaway_created", "giveaway_completed"}
)  # fmt: skip

#: Frame of every message; what is left beside these is what the message is about.
_FRAME = frozenset(
    {"message_id", "date", "chat", "message_thread_id", "direct_messages_topic", "from", "sender_chat",
     "sender_boost_count", "sender_business_bot", "sender_tag", "business_connection_id", "forward_origin",
     "is_topic_message", "is_automatic_forward", "reply_to_message", "external_reply", "quote", "via_bot",
     "reply_to_story", "reply_to_checklist_task_id", "reply_to_poll_option_id", "edit_date",
     "has_protected_content", "is_from_offline", "is_paid_post", "media_group_id", "author_signature",
     "paid_star_count", "entities", "caption", "caption_entities", "link_preview_options", "effect_id",
     "show_caption_above_media", "has_media_spoiler", "reply_markup", "forward_date", "forward_from",
     "forward_from_chat", "forward_from_message_id", "forward_sender_name", "forward_signature",
     "suggested_post_info", "guest_query_id", "guest_bot_caller_user", "guest_bot_caller_chat",
     "receiver_user", "ephemeral_message_id"}
)  # fmt: skip


@dataclass(slots=True)
class Content:
    """`what` names the kind (`text`, `photo`, `poll` …); `supported` False makes a card of it."""

    what: str
    supported: bool = True
    text: str = ""
    entities: list[Any] = field(default_factory=list)
    attachments: tuple[InboundAttachment, ...] = ()
    data: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def number(value: Any) -> float | None:
    """A finite JSON number."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15:
        return float(value) if math.isfinite(value) else None
    return None


def read_content(message: dict[str, Any]) -> Content:
    """What the message is about. Never raises."""
    text = string(message.get("text"))
    if text:
        return Content("text", text=text, entities=_list(message.get("entities")))
    content = _files(message) or _place(message) or _contact(message) or _other(message)
    caption = string(message.get("caption"))
    if caption:
        content.text = caption
        content.entities = _list(message.get("caption_entities"))
    return content


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _files(message: dict[str, Any]) -> Content | None:
    photo = _largest(message.get("photo"))
    if photo is not None:
        attachment = _attachment("photo", photo, "image/jpeg", ".jpg")
        return _with_file("photo", photo, attachment)
    for what, usual in _FILES.items():
        file = mapping(message.get(what))
        if not file:
            continue
        mime, suffix = _sticker_type(file) if what == "sticker" else usual
        content = _with_file(what, file, _attachment(what, file, mime, suffix))
        if what == "sticker":
            content.text = string(file.get("emoji"))
        if what == "audio":
            content.data["title"] = " – ".join(
                part for part in (string(file.get("performer")), string(file.get("title"))) if part
            )
        return content
    return None


def _sticker_type(sticker: dict[str, Any]) -> tuple[str, str]:
    if sticker.get("is_animated") is True:
        return "application/x-tgsticker", ".tgs"
    return ("video/webm", ".webm") if sticker.get("is_video") is True else _FILES["sticker"]


def _largest(sizes: Any) -> dict[str, Any] | None:
    """The biggest of the sizes offered. The documented order is small to large, but it is not promised."""
    usable = [mapping(size) for size in _list(sizes) if string(mapping(size).get("file_id"))]
    if not usable:
        return None
    return max(
        enumerate(usable),
        key=lambda pair: (
            (integer(pair[1].get("width")) or 0) * (integer(pair[1].get("height")) or 0),
            pair[0],
        ),
    )[1]


def _with_file(what: str, file: dict[str, Any], attachment: InboundAttachment | None) -> Content:
    if attachment is None:
        return Content(what, supported=False, warnings=(f"{what} without a file_id",))
    content = Content(what, attachments=(attachment,), data={"media": what})
    duration = integer(file.get("duration"))
    if duration is not None:
        content.data["duration_sec"] = duration
    return content


def _attachment(what: str, file: dict[str, Any], mime: str, suffix: str) -> InboundAttachment | None:
    file_id = string(file.get("file_id"))
    if not file_id:
        return None
    unique = string(file.get("file_unique_id")) or "file"
    size = integer(file.get("file_size"))
    if size is not None and size < 0:
        size = None
    return InboundAttachment(
        name=string(file.get("file_name")) or f"{what}_{unique}{suffix}",
        mime=string(file.get("mime_type")) or mime,
        size=size,
        provider_ref=file_id,
        refused="too_big" if size is not None and size > MAX_DOWNLOAD_BYTES else None,
    )


def _place(message: dict[str, Any]) -> Content | None:
    venue = mapping(message.get("venue"))
    location = mapping(venue.get("location")) or mapping(message.get("location"))
    latitude, longitude = number(location.get("latitude")), number(location.get("longitude"))
    if latitude is None or longitude is None:
        return None
    place: dict[str, Any] = {"latitude": latitude, "longitude": longitude}
    live = integer(location.get("live_period"))
    if live is not None:
        place["live_period_sec"] = live
    lines = [string(venue.get("title")), string(venue.get("address")), f"{latitude:.6f}, {longitude:.6f}"]
    if venue:
        place["title"], place["address"] = lines[0], lines[1]
    what = "venue" if venue else "location"
    return Content(what, text="\n".join(line for line in lines if line), data={"location": place})


def _contact(message: dict[str, Any]) -> Content | None:
    card = mapping(message.get("contact"))
    phone = string(card.get("phone_number"))
    if not phone:
        return None
    name = " ".join(part for part in (string(card.get("first_name")), string(card.get("last_name"))) if part)
    user_id = integer(card.get("user_id"))
    data = {"contact": {"phone": phone, "name": name, "user_id": None if user_id is None else str(user_id)}}
    return Content("contact", text=f"{name} {phone}".strip(), data=data)


def _other(message: dict[str, Any]) -> Content:
    """Everything we only name: polls, games, gifts, and kinds that did not exist when this was written."""
    what = next((key for key in message if key not in _FRAME), "empty")
    body = mapping(message.get(what))
    title = string(body.get("question")) or string(body.get("title")) or string(body.get("emoji"))
    return Content(what, supported=False, text=title)
