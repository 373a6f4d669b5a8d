"""What a visitor says: stored raw and taken in within one transaction, so that the answer carries its number."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import select, update

from api.chat.sessions import PER_VISITOR, ChatSession, limit
from api.feed.hub import HUB
from api.layer.routes import Call
from channels import get_channel
from channels.config import inbox_config
from channels.contract import Malformed
from channels.webchat import to_item
from crm_core import inbound_rows, intake, messages
from crm_core.access import inquiry_audience
from crm_core.clock import to_iso
from crm_core.db.uow import UnitOfWork
from crm_core.errors import Conflict, Invalid
from crm_core.events import SUPERVISORS
from crm_core.schema import chat_session, conversation, inquiry, message, message_ref, upload

_FRAME_KEYS = ("client_id", "text", "action", "fields")


async def say(call: Call, session: ChatSession, frame: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Take a visitor's message in. Returns (message row with `attachments`, whether it was there already).

    Raises Invalid, RateLimited.
    """
    if not isinstance(frame.get("client_id"), str):
        raise Invalid("client_id must be a string", code="bad_frame")
    known = await _said_already(call, session, frame.get("client_id"))
    if known is not None:
        # A repetition is no new message and costs nothing.
        return known, True
    await limit(call, "say", session.owner, PER_VISITOR)
    now = call.now
    async with call.db.transaction() as uow:
        uploads = await _uploads(uow, session, frame.get("attachments"))
        first = not session.facts.get("fields_taken")
        body = {key: frame[key] for key in _FRAME_KEYS if frame.get(key) is not None}
        body["action"] = _action(body.get("action"), body.get("text"))
        body["locale"] = session.locale
        body["fields"] = (
            {**(session.facts.get("fields") or {}), **body.get("fields", {})} if first else body.get("fields")
        )
        body["attachments"] = [
            {"ref": u["id"], "name": u["name"], "mime": u["mime"], "size": u["size"]} for u in uploads
        ]
        if (
            first
            and not any(body.get(k) for k in ("text", "action", "attachments"))
            and not frame.get("fields")
        ):
            raise Invalid("a message needs text, a file or a pressed button", code="empty_message")
        try:
            item = to_item(
                {k: v for k, v in body.items() if v is not None},
                visitor_id=session.visitor_id,
                received_at=now,
                external_id=session.external_id,
            )
            envelope = get_channel("webchat").parse(item, inbox_config(session.inbox))[0]
        except Malformed as error:
            raise Invalid(error.reason, code="bad_frame") from error
        inbound_id = await inbound_rows.store_done(uow, session.inbox["id"], item)
        # The raw key is the visitor's own; so is the client id within his conversation. As the provider's id it
        # would have to be unique in the whole inbox.
        envelope = replace(
            envelope,
            provider_message_id=None,
            reply_to=await _external_id(uow, session, frame.get("reply_to")),
        )
        stored = {
            n: intake.StoredFile(blob_key=u["blob_key"], sha256=u["sha256"], size=u["size"], mime=u["mime"])
            for n, u in enumerate(uploads)
        }
        result = await intake.receive(
            uow,
            session.inbox,
            envelope,
            inbound_id=inbound_id,
            stored=stored,
            client_id=str(frame["client_id"]),
            held_by_bot=session.inbox["flow_key"] is not None,
        )
        if result.message is None:
            raise Conflict(result.ignored or "this could not be taken in")
        if first:
            await uow.execute(
                update(chat_session)
                .where(chat_session.c.token_hash == session.token_hash)
                .values(
                    facts={**session.facts, "fields_taken": True},
                    contact_id=result.contact["id"] if result.contact else None,
                )
            )
        hub, thread_id = call.request.app[HUB], result.message["conversation_id"]
        uow.after_commit(
            lambda: hub.whisper(
                {
                    "type": "chat_opened",
                    "inbox_id": session.inbox["id"],
                    "visitor_id": session.visitor_id,
                    "conversation_id": thread_id,
                }
            )
        )
    return {"attachments": [], **result.message}, result.duplicate


async def _said_already(call: Call, session: ChatSession, client_id: object) -> dict[str, Any] | None:
    if not isinstance(client_id, str) or not 1 <= len(client_id) <= 64:
        return None
    async with call.db.reading() as conn:
        row = (
            (
                await conn.execute(
                    select(message)
                    .join(conversation, conversation.c.id == message.c.conversation_id)
                    .where(
                        conversation.c.inbox_id == session.inbox["id"],
                        conversation.c.key == session.visitor_id,
                        message.c.client_id == client_id,
                        message.c.direction == "in",
                    )
                )
            )
            .mappings()
            .first()
        )
    return {**row, "attachments": []} if row is not None else None


def _action(value: object, text: object) -> object:
    """A pressed button: its value, or `{value, label}`. The words sent beside a bare value are what stood on it:
    people on both sides must see those, not the bot's own sign.
    """
    if not isinstance(value, str):
        return value
    return {"value": value, "label": text if isinstance(text, str) and text.strip() else value}


async def _uploads(uow: UnitOfWork, session: ChatSession, ids: object) -> Sequence[Mapping[str, Any]]:
    if ids is None or ids == []:
        return []
    if not isinstance(ids, list) or not all(isinstance(each, str) and len(each) <= 40 for each in ids):
        raise Invalid("attachments must be a list of upload ids", code="bad_frame")
    rows = {
        r["id"]: r
        for r in await uow.rows(
            select(upload).where(upload.c.id.in_(ids[:20]), upload.c.owner == session.owner)
        )
    }
    missing = [each for each in ids if each not in rows]
    if missing:
        raise Invalid("no such upload", code="no_upload", params={"uploads": missing[:5]})
    return [rows[each] for each in dict.fromkeys(ids)]


async def _external_id(uow: UnitOfWork, session: ChatSession, reply_to: object) -> str | None:
    """The id by which intake finds the message that is answered; only one of this thread."""
    if not isinstance(reply_to, int) or isinstance(reply_to, bool):
        return None
    found = await uow.scalar(
        select(message_ref.c.external_id)
        .join(conversation, conversation.c.id == message_ref.c.conversation_id)
        .where(
            message_ref.c.message_id == reply_to,
            conversation.c.inbox_id == session.inbox["id"],
            conversation.c.key == session.visitor_id,
        )
        .limit(1)
    )
    return str(found) if found is not None else None


async def mark_read(call: Call, conversation_id: int, seq: int) -> None:
    """The visitor has seen our messages up to `seq`. Never goes back; unsent ones stay as they are."""
    async with call.db.transaction() as uow:
        await uow.execute(
            update(conversation)
            .where(
                conversation.c.id == conversation_id,
                conversation.c.customer_read_seq < seq,
                conversation.c.last_seq >= seq,
            )
            .values(customer_read_seq=seq)
        )
        rows = await uow.rows(
            select(message.c.id)
            .where(
                message.c.conversation_id == conversation_id,
                message.c.seq <= seq,
                message.c.direction == "out",
                message.c.state.in_(("sent", "delivered")),
            )
            .order_by(message.c.seq.desc())
            .limit(200)
        )
        for row in rows:
            await messages.set_state(uow, row["id"], "read")


async def typing(call: Call, session: ChatSession, thread: Mapping[str, Any]) -> None:
    """Tell the agents who may see this thread that the visitor writes; at most every two seconds."""
    now = call.now
    if await call.services.limiter.take(f"chat:typing:{session.owner}", per_s=0.5, burst=1, now=now) > 0:
        return
    async with call.db.reading() as conn:
        row = (
            (
                await conn.execute(
                    select(inquiry)
                    .where(inquiry.c.conversation_id == thread["id"])
                    .order_by(inquiry.c.id.desc())
                    .limit(1)
                )
            )
            .mappings()
            .first()
        )
    audience = inquiry_audience(dict(row)) if row is not None else SUPERVISORS
    call.request.app[HUB].whisper(
        {
            "type": "typing",
            "conversation_id": thread["id"],
            "inquiry_id": row["id"] if row else None,
            "actor": f"contact:{thread['contact_id']}",
            "name": None,
            "at": to_iso(now),
            "audience": audience.as_data(),
        }
    )
