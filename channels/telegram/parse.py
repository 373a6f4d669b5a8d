"""From one stored Telegram update to envelopes: pure and total.

Ids: a Telegram message id is unique only within its chat, so ours are `<chat id>:<message id>` everywhere.
Conversation keys are `<chat id>`, then `:t<topic>` in a forum topic and `:b<connection>` for a business
account.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from channels.contract import InboxConfig, RawItem
from channels.telegram.content import SERVICE, Content, read_content, string
from channels.telegram.text import entities_to_html
from channels.telegram.updates import chat_of, integer, kind_of, load_update, mapping
from crm_core import phone
from crm_core.clock import SECOND
from crm_core.envelope import Auto, Envelope, IdentityClaim, IdentityKind, Kind, Sender, ThreadHints

_COMMAND = re.compile(r"^/([A-Za-z0-9_]{1,64})(?:@\w+)?(?:\s+(.*))?$", re.DOTALL)
_START_PAYLOAD = re.compile(r"[A-Za-z0-9_-]{1,64}")
_GONE = frozenset({"kicked", "left"})
#: what is shown in a thread, and so needs one
_NEEDS_A_CHAT = frozenset({Kind.MESSAGE, Kind.EDIT, Kind.ACTION, Kind.IDENTITY, Kind.UNSUPPORTED})
#: 3000-01-01; a later "date" is nonsense from a mutated payload and would not fit what shows it.
_MAX_DATE_S = 32_503_680_000


@dataclass(frozen=True, slots=True)
class _Update:
    """What every builder needs beside the payload."""

    key: str
    received_at: int
    kind: str
    payload: dict[str, Any]
    chat: dict[str, Any]
    region: str

    @property
    def chat_id(self) -> int | None:
        return integer(self.chat.get("id"))


def parse(item: RawItem, inbox: InboxConfig) -> list[Envelope]:
    """At least one envelope for any update. Raises Malformed only for bytes that are no update at all."""
    loaded = load_update(item.body)
    kind = kind_of(loaded)
    update = _Update(
        key=item.dedupe_key,
        received_at=item.received_at,
        kind=kind,
        payload=mapping(loaded.get(kind)),
        chat=chat_of(loaded),
        region=inbox.region,
    )
    envelopes = _BUILDERS.get(kind, _unknown)(update)
    if update.chat_id is None:
        # Nobody could be answered, and strangers' updates would share one thread: people look at it instead.
        return [
            _set_aside(envelope) if envelope.kind in _NEEDS_A_CHAT else envelope for envelope in envelopes
        ]
    return envelopes


def _set_aside(envelope: Envelope) -> Envelope:
    what = envelope.data.get("what", envelope.kind.value)
    return replace(envelope, data=envelope.data | {"quarantine": f"{what} of no chat"})


def message_ref(chat_id: int, message_id: int) -> str:
    """Our id of a Telegram message."""
    return f"{chat_id}:{message_id}"


def _conversation_key(update: _Update, message: dict[str, Any]) -> str:
    if update.chat_id is None:
        return "unknown"
    key = str(update.chat_id)
    topic = integer(message.get("message_thread_id"))
    if topic is not None and message.get("is_topic_message") is True:
        key += f":t{topic}"
    business = string(message.get("business_connection_id"))
    return f"{key}:b{business}" if business else key


def _person(user: dict[str, Any], *, is_agent: bool = False) -> Sender:
    user_id = integer(user.get("id"))
    claim = () if user_id is None else (IdentityClaim(IdentityKind.TELEGRAM, str(user_id), verified=True),)
    name = " ".join(part for part in (string(user.get("first_name")), string(user.get("last_name"))) if part)
    return Sender(
        identities=claim,
        display_name=name or string(user.get("username")) or string(user.get("title")) or None,
        locale=string(user.get("language_code")) or None,
        is_bot=user.get("is_bot") is True,
        is_agent=is_agent,
    )


def _when(seconds: Any, fallback_ms: int) -> int:
    value = integer(seconds)
    return value * SECOND if value is not None and 0 < value < _MAX_DATE_S else fallback_ms


def _chat_facts(update: _Update) -> dict[str, Any]:
    """Marks groups: an inquiry of a whole group is not one customer's."""
    kind = string(update.chat.get("type"))
    if kind in {"", "private"}:
        return {}
    return {"group": True, "chat_type": kind, "chat_title": string(update.chat.get("title"))}


def _message(update: _Update) -> list[Envelope]:
    message = update.payload
    message_id = integer(message.get("message_id"))
    if update.chat_id is None or message_id is None:
        return [_unsupported(update, update.kind, warning="message without a chat or an id")]
    content = read_content(message)
    edited = update.kind.startswith("edited_")
    user = mapping(message.get("from"))
    sender_chat = mapping(message.get("sender_chat"))
    sender = _person(sender_chat or user, is_agent=_is_owner(update, user))
    data = _chat_facts(update) | content.data
    warnings = content.warnings

    kind = Kind.EDIT if edited else Kind.MESSAGE
    if not content.supported:
        service = content.what in SERVICE
        data["what"] = content.what
        kind = Kind.SYSTEM if service else Kind.UNSUPPORTED
        if content.what.startswith("migrate_"):
            data["other_chat_id"] = str(integer(message.get(content.what)))
    elif content.what == "contact" and not edited:
        sender, kind = _shared_contact(update, sender, user, data)

    if string(message.get("media_group_id")):
        data["media_group_id"] = string(message.get("media_group_id"))
    if content.entities:
        data["entities"] = content.entities
    if mapping(message.get("forward_origin")):
        data["forwarded"] = True
    if string(user.get("username")):
        data["username"] = string(user.get("username"))
    reply_to, quoted = _reply(update, data)
    ref = message_ref(update.chat_id, message_id)
    return [
        Envelope(
            kind=kind,
            dedupe_key=_message_key(update, ref, edited=edited),
            conversation_key=_conversation_key(update, message),
            sender=sender,
            occurred_at=_when(
                message.get("edit_date") if edited else message.get("date"), update.received_at
            ),
            provider_message_id=ref,
            reply_to=reply_to,
            seq=message_id,
            text=content.text,
            quoted_text=quoted,
            html=entities_to_html(content.text, content.entities),
            attachments=content.attachments,
            thread=_hints(content, data),
            auto=_auto(message, sender),
            data=data,
            parse_warnings=warnings,
        )
    ]


def _message_key(update: _Update, ref: str, *, edited: bool) -> str:
    """The second key of a message: update ids start anew at random after a quiet week, message ids do not."""
    message = update.payload
    business = string(message.get("business_connection_id"))
    scope = f"{business}:{ref}" if business else ref
    if not edited:
        return f"message:{scope}"
    # Two edits may fall into one second, and one edit may be told twice.
    digest = hashlib.sha256(json.dumps(message, sort_keys=True).encode()).hexdigest()[:16]
    return f"edit:{scope}:{digest}"


def _is_owner(update: _Update, user: dict[str, Any]) -> bool:
    """A business account's own people answered from their phone: the chat bears the customer's id, `from`
    theirs.
    """
    if "business_message" not in update.kind or string(update.chat.get("type")) != "private":
        return False
    sender = integer(user.get("id"))
    return sender is not None and sender != update.chat_id


def _auto(message: dict[str, Any], sender: Sender) -> Auto:
    if mapping(message.get("sender_business_bot")):
        return Auto.OWN
    if message.get("is_from_offline") is True or sender.is_bot:
        return Auto.AUTO_REPLY
    return Auto.HUMAN


def _shared_contact(
    update: _Update, sender: Sender, user: dict[str, Any], data: dict[str, Any]
) -> tuple[Sender, Kind]:
    """A card is proof only if it is the sender's own, first hand: forwarded and inline-bot cards can be made
    up.
    """
    card = data["contact"]
    # Telegram writes an account's number in full, often without the plus.
    found = phone.normalize("+" + card["phone"].lstrip("+"), update.region)
    if found is None or not phone.is_valid(found.e164):
        found = phone.normalize(card["phone"], update.region) or found
    own = card["user_id"] is not None and card["user_id"] == str(integer(user.get("id")))
    first_hand = "forward_origin" not in update.payload and "via_bot" not in update.payload
    if found is not None:
        card["e164"] = found.e164
    if not own or not first_hand or found is None or sender.is_agent:
        return sender, Kind.MESSAGE
    claim = IdentityClaim(IdentityKind.PHONE, found.e164, verified=True, evidence="contact_share")
    proven = Sender(
        identities=(*sender.identities, claim),
        display_name=sender.display_name,
        locale=sender.locale,
        is_bot=sender.is_bot,
        is_agent=sender.is_agent,
    )
    return proven, Kind.IDENTITY


def _reply(update: _Update, data: dict[str, Any]) -> tuple[str | None, str | None]:
    message = update.payload
    quoted = string(mapping(message.get("quote")).get("text")) or None
    external = mapping(message.get("external_reply"))
    if external:
        data["external_reply"] = True
    target = mapping(message.get("reply_to_message"))
    target_id = integer(target.get("message_id"))
    # Every message of a forum topic "answers" the service message that opened the topic.
    if target_id is None or "forum_topic_created" in target:
        return None, quoted
    chat_id = integer(mapping(target.get("chat")).get("id"))
    return message_ref(update.chat_id or 0 if chat_id is None else chat_id, target_id), quoted


def _hints(content: Content, data: dict[str, Any]) -> ThreadHints:
    command = _COMMAND.match(content.text) if content.what == "text" else None
    if command is None:
        return ThreadHints()
    data["command"] = command.group(1).lower()
    payload = (command.group(2) or "").strip()
    if data["command"] == "start" and _START_PAYLOAD.fullmatch(payload):
        return ThreadHints(start_payload=payload)
    return ThreadHints()


def _callback(update: _Update) -> list[Envelope]:
    query = update.payload
    query_id = string(query.get("id"))
    if not query_id:
        return [_unsupported(update, "callback_query", warning="callback without an id")]
    message = mapping(query.get("message"))
    message_id = integer(message.get("message_id"))
    value = string(query.get("data")) or string(query.get("game_short_name"))
    data = _chat_facts(update) | {"value": value, "callback_query_id": query_id}
    reply_to = None
    if message_id is not None and update.chat_id is not None:
        reply_to = message_ref(update.chat_id, message_id)
    return [
        Envelope(
            kind=Kind.ACTION,
            dedupe_key=f"action:{query_id}",
            conversation_key=_conversation_key(update, message),
            sender=_person(mapping(query.get("from"))),
            occurred_at=update.received_at,  # a callback has no time of its own
            reply_to=reply_to,
            text=_label(message, value),
            data=data,
        )
    ]


def _label(message: dict[str, Any], value: str) -> str:
    """What the pressed button said, if the message still shows it."""
    rows = mapping(message.get("reply_markup")).get("inline_keyboard")
    for row in rows if isinstance(rows, list) else ():
        for button in row if isinstance(row, list) else ():
            if value and mapping(button).get("callback_data") == value:
                return string(mapping(button).get("text"))
    return ""


def _reaction(update: _Update) -> list[Envelope]:
    message_id = integer(update.payload.get("message_id"))
    if update.chat_id is None or message_id is None:
        return [_unsupported(update, "message_reaction", warning="reaction without a message")]
    old, new = _emoji(update.payload.get("old_reaction")), _emoji(update.payload.get("new_reaction"))
    person = mapping(update.payload.get("user")) or mapping(update.payload.get("actor_chat"))
    return [
        Envelope(
            kind=Kind.REACTION,
            dedupe_key=update.key,
            conversation_key=_conversation_key(update, {}),
            sender=_person(person),
            occurred_at=_when(update.payload.get("date"), update.received_at),
            reply_to=message_ref(update.chat_id, message_id),
            text=" ".join(new),
            data=_chat_facts(update)
            | {
                "reactions": new,
                "added": [each for each in new if each not in old],
                "removed": [each for each in old if each not in new],
            },
        )
    ]


def _emoji(reactions: Any) -> list[str]:
    found = []
    for each in reactions if isinstance(reactions, list) else ():
        reaction = mapping(each)
        # A custom emoji is a picture we cannot show; its type stands for it.
        name = string(reaction.get("emoji")) or string(reaction.get("type"))
        if name:
            found.append(name)
    return found


def _membership(update: _Update) -> list[Envelope]:
    """my_chat_member: in a private chat the person blocked or unblocked the bot; in a group the bot came or
    went.
    """
    status = string(mapping(update.payload.get("new_chat_member")).get("status"))
    private = string(update.chat.get("type")) == "private" and update.kind == "my_chat_member"
    data = _chat_facts(update) | {"what": update.kind, "status": status}
    if private:
        data["reachable"] = status not in _GONE
    if update.kind == "chat_member":
        data["member_id"] = str(
            integer(mapping(mapping(update.payload.get("new_chat_member")).get("user")).get("id"))
        )
    return [
        Envelope(
            kind=Kind.MEMBERSHIP if private and status else Kind.SYSTEM,
            dedupe_key=update.key,
            conversation_key=_conversation_key(update, {}),
            sender=_person(mapping(update.payload.get("from"))),
            occurred_at=_when(update.payload.get("date"), update.received_at),
            data=data,
        )
    ]


def _business_connection(update: _Update) -> list[Envelope]:
    rights = mapping(update.payload.get("rights"))
    return [
        Envelope(
            kind=Kind.SYSTEM,
            dedupe_key=update.key,
            conversation_key=_conversation_key(update, {}),
            sender=_person(mapping(update.payload.get("user")), is_agent=True),
            occurred_at=_when(update.payload.get("date"), update.received_at),
            data={
                "what": "business_connection",
                "connection_id": string(update.payload.get("id")),
                "enabled": update.payload.get("is_enabled") is True,
                "can_reply": rights.get("can_reply") is True or update.payload.get("can_reply") is True,
            },
        )
    ]


def _business_deleted(update: _Update) -> list[Envelope]:
    raw = update.payload.get("message_ids")
    ids = [one for one in map(integer, raw if isinstance(raw, list) else ()) if one is not None]
    if not ids or update.chat_id is None:
        return [_unsupported(update, "deleted_business_messages", warning="deletion names no message")]
    return [
        Envelope(
            kind=Kind.DELETE,
            dedupe_key=f"{update.key}:{message_id}",
            conversation_key=_conversation_key(update, update.payload),
            sender=Sender(),  # Telegram does not say which side deleted
            occurred_at=update.received_at,
            provider_message_id=message_ref(update.chat_id, message_id),
        )
        for message_id in dict.fromkeys(ids)
    ]


def _unknown(update: _Update) -> list[Envelope]:
    return [_unsupported(update, update.kind or "empty")]


def _unsupported(update: _Update, what: str, *, warning: str | None = None) -> Envelope:
    payload = update.payload
    return Envelope(
        kind=Kind.UNSUPPORTED,
        dedupe_key=update.key,
        conversation_key=_conversation_key(update, payload),
        sender=_person(mapping(payload.get("from")) or mapping(payload.get("user"))),
        occurred_at=_when(payload.get("date"), update.received_at),
        text=string(payload.get("text")) or string(payload.get("caption")),
        data=_chat_facts(update) | {"what": what},
        parse_warnings=() if warning is None else (warning,),
    )


_BUILDERS: dict[str, Callable[[_Update], list[Envelope]]] = {
    "message": _message,
    "edited_message": _message,
    "business_message": _message,
    "edited_business_message": _message,
    "callback_query": _callback,
    "message_reaction": _reaction,
    "my_chat_member": _membership,
    "chat_member": _membership,
    "business_connection": _business_connection,
    "deleted_business_messages": _business_deleted,
}
