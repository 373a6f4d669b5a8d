"""The shape of a message, with its files in one further query."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.layer.fields import InstantOut, Out
from crm_core.schema import attachment
from crm_core.views import message_view

Data = dict[str, Any]


class AuthorOut(Out):
    kind: str
    id: int | None
    name: str | None


class AttachmentOut(Out):
    id: int
    name: str
    mime: str
    size: int | None
    state: str
    error: str | None
    inline_cid: str | None
    url: str | None


class MessageOut(Out):
    id: int
    seq: int
    conversation_id: int
    inquiry_id: int | None
    direction: str
    kind: str
    author: AuthorOut
    text: str
    quoted_text: str | None
    html: str | None
    subject: str | None
    attachments: list[AttachmentOut]
    state: str
    error: str | None
    client_id: str | None
    reply_to_id: int | None
    automatic: bool
    meta: dict[str, Any]
    occurred_at: InstantOut
    created_at: InstantOut
    sent_at: InstantOut | None


async def files_of(conn: AsyncConnection, message_ids: Sequence[int]) -> dict[int, list[Mapping[Any, Any]]]:
    """Attachments by message."""
    found: dict[int, list[Mapping[Any, Any]]] = {}
    if message_ids:
        rows = await conn.execute(
            select(attachment).where(attachment.c.message_id.in_(message_ids)).order_by(attachment.c.id)
        )
        for row in rows.mappings():
            found.setdefault(row["message_id"], []).append(row)
    return found


async def show_messages(conn: AsyncConnection, rows: Sequence[Mapping[Any, Any]]) -> list[Data]:
    files = await files_of(conn, [r["id"] for r in rows])
    return [message_view(row, files.get(row["id"], ())) for row in rows]
