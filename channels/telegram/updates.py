"""The outer shape of a Telegram update: reading untrusted JSON, its kind, its chat, and how it becomes an
item.

Shared by the webhook and the poller. It knows nothing of what a message says; that is `content` and `parse`.
Facts: https://core.telegram.org/bots/api#update
"""

import hashlib
import json
import re
from typing import Any

from channels.contract import Malformed, RawItem

#: Asked for explicitly in setWebhook and getUpdates: left out it means "as before", and empty leaves
#: reactions out.
ALLOWED_UPDATES = (
    "message",
    "edited_message",
    "callback_query",
    "my_chat_member",
    "chat_member",
    "message_reaction",
    "business_connection",
    "business_message",
    "edited_business_message",
    "deleted_business_messages",
)
MISC_LANE = "misc"
#: Ids and times must fit the store's signed 64 bits.
_MAX_INT = 2**63 - 1
_MAX_DEPTH = 60
_SURROGATES = re.compile("[\ud800-\udfff]")


def load_update(body: bytes) -> dict[str, Any]:
    """The update as JSON whose strings are storable. Raises Malformed if it is not an object with an
    update_id.
    """
    try:
        loaded = json.loads(body, parse_constant=_no_constant)
        update = storable(loaded)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"not JSON: {type(error).__name__}") from None
    if not isinstance(update, dict):
        raise Malformed("not a JSON object")
    if integer(update.get("update_id")) is None:
        raise Malformed("no integer update_id")
    return update


def storable(value: Any, depth: int = 0) -> Any:
    """The same JSON with strings a database takes: no NUL, no half of a surrogate pair. Raises ValueError if
    deep.
    """
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, dict):
        return {storable_text(key): storable(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [storable(item, depth + 1) for item in value]
    return value


def storable_text(text: str) -> str:
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    if _SURROGATES.search(text):
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def integer(value: Any) -> int | None:
    """A JSON integer that fits 64 bits. `true` is no number here, though Python says it is."""
    if isinstance(value, int) and not isinstance(value, bool) and -_MAX_INT <= value <= _MAX_INT:
        return value
    return None


def mapping(value: Any) -> dict[str, Any]:
    """The JSON object, or an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def kind_of(update: dict[str, Any]) -> str:
    """The field that carries the payload: an update has exactly one beside its id. Empty if there is none."""
    return next((key for key in update if key != "update_id"), "")


def chat_of(update: dict[str, Any]) -> dict[str, Any]:
    """The chat an update belongs to, `{}` if it has none. Callbacks name it in the message their button was
    on.
    """
    payload = mapping(update.get(kind_of(update)))
    for holder in (payload, mapping(payload.get("message"))):
        chat = mapping(holder.get("chat"))
        if integer(chat.get("id")) is not None:
            return chat
    # A business connection has only the chat of its owner, a callback of an inline message only the presser.
    owner = integer(payload.get("user_chat_id"))
    if owner is None:
        for person in ("from", "user"):
            owner = integer(mapping(payload.get(person)).get("id"))
            if owner is not None:
                break
    return {} if owner is None else {"id": owner, "type": "private"}


def item_of(update: dict[str, Any], body: bytes, received_at: int) -> RawItem:
    """One storable item. `update` has an integer update_id (see `load_update`); `received_at` in ms."""
    chat_id = integer(chat_of(update).get("id"))
    update_id = int(update["update_id"])
    return RawItem(
        dedupe_key=f"update:{update_id}",
        lane=MISC_LANE if chat_id is None else f"chat:{chat_id}",
        order=update_id,
        body=body,
        received_at=received_at,
    )


def polled_item(element: Any, received_at: int) -> RawItem:
    """An element of a getUpdates batch. One that is no update is kept too, for quarantine: it poisons
    nothing.
    """
    body = json.dumps(element, separators=(",", ":")).encode()
    try:
        return item_of(load_update(body), body, received_at)
    except Malformed:
        digest = hashlib.sha256(body).hexdigest()
        return RawItem(dedupe_key=f"broken:{digest}", lane=MISC_LANE, body=body, received_at=received_at)


def _no_constant(name: str) -> None:
    """NaN and Infinity are not JSON and no column takes them."""
