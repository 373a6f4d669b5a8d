"""What visitors are shown: messages without anything internal, as the protocol's frames.

Everything that goes to a visitor is built here, key by key, from what he may see; nothing is passed through.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.resources.message_shapes import files_of
from crm_core.clock import DAY
from crm_core.schema import message
from crm_core.views import iso

Data = dict[str, Any]
#: links to files in a chat work so long
LINK_MS = DAY
_HIDDEN_KINDS = ("note", "call")


def visible() -> ColumnElement[bool]:
    """The messages a visitor may see: what went between him and us."""
    return and_(message.c.direction.in_(("in", "out")), message.c.kind.not_in(_HIDDEN_KINDS))


def is_visible(row: Mapping[str, Any]) -> bool:
    """The same for the view of a message in an event."""
    return row.get("direction") in ("in", "out") and row.get("kind") not in _HIDDEN_KINDS


async def read_messages(
    conn: AsyncConnection, conversation_id: int, *, after: int, limit: int, secret_key: bytes, now: int
) -> list[Data]:
    """Message frames with a higher number, in order."""
    statement = (
        select(message)
        .where(message.c.conversation_id == conversation_id, message.c.seq > after, visible())
        .order_by(message.c.seq)
        .limit(limit)
    )
    rows = (await conn.execute(statement)).mappings().all()
    files = await files_of(conn, [r["id"] for r in rows])
    return [message_frame(r, files.get(r["id"], ()), secret_key=secret_key, now=now) for r in rows]


def message_frame(
    row: Mapping[Any, Any], files: Sequence[Mapping[Any, Any]], *, secret_key: bytes, now: int
) -> Data:
    ours = row["direction"] == "out"
    frame: Data = {
        "type": "message",
        "seq": row["seq"],
        "id": row["id"],
        "direction": row["direction"],
        "author": {
            "kind": row["author_kind"] if ours else "customer",
            "name": row["author_name"] if ours else None,
        },
        "text": row["text"],
        "reply_to": row["reply_to_id"],
        "at": iso(row["created_at"]),
        "state": row["state"],
        "attachments": [file_frame(f, secret_key=secret_key, now=now) for f in files],
    }
    if not ours and row["client_id"]:
        frame["client_id"] = row["client_id"]
    if ours and row["html"]:
        frame["html"] = row["html"]
    buttons = row["meta"].get("buttons") if ours else None
    if buttons:
        frame["buttons"] = [[_button(b) for b in line] for line in buttons]
    if row["meta"].get("deleted_at"):
        frame |= {"text": "", "deleted": True}
    return frame


def _button(button: Mapping[str, Any]) -> Data:
    shown = {"label": button["label"], "value": button.get("value") or button["label"]}
    if button.get("url"):
        shown["url"] = button["url"]
    if button.get("request"):
        shown["request"] = button["request"]
    return shown


def file_frame(row: Mapping[Any, Any], *, secret_key: bytes, now: int) -> Data:
    stored = row["state"] == "stored"
    until = now + LINK_MS
    url = f"/chat/v1/attachments/{row['id']}?until={until}&mac={link_mac(secret_key, row['id'], until)}"
    return {
        "id": row["id"],
        "name": row["name"],
        "mime": row["mime"],
        "size": row["size"],
        "state": row["state"],
        "url": url if stored else None,
    }


def link_mac(secret_key: bytes, attachment_id: int, until: int) -> str:
    """A browser shows pictures without our header, so the link itself carries the proof."""
    mac = hmac.new(secret_key, f"chat-file\n{attachment_id}\n{until}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(mac[:18]).decode()
