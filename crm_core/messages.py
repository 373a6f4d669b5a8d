"""What is said in a conversation: appending with gap-free numbers, posting by people and bots, delivery states.

`seq` is taken by one UPDATE of the conversation row in the message's own transaction, so the order of commits is the
order of numbers and a rollback leaves no gap.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, insert, select, update

from crm_core.access import inquiry_audience
from crm_core.db.prepared import Prepared
from crm_core.db.uow import UnitOfWork
from crm_core.envelope import Button
from crm_core.errors import Conflict, Invalid, NotFound, SwitchboardError
from crm_core.events import SUPERVISORS, DomainEvent
from crm_core.jobs import NewJob
from crm_core.schema import attachment, contact, conversation, inbox, inquiry, message, message_ref, upload
from crm_core.views import message_view

DELIVER_JOB = "message.deliver"
MAX_TEXT = 100_000

#: which states may follow which; a provider's late or repeated word never moves a message back
_FOLLOWS: dict[str, frozenset[str]] = {
    "queued": frozenset({"sending", "sent", "delivered", "read", "failed", "unknown"}),
    "sending": frozenset({"queued", "sent", "delivered", "read", "failed", "unknown"}),
    "sent": frozenset({"delivered", "read", "failed"}),
    "delivered": frozenset({"read", "failed"}),
    "unknown": frozenset({"queued", "sent", "delivered", "read", "failed"}),
    "failed": frozenset({"queued", "delivered", "read"}),
    "read": frozenset(),
    "received": frozenset({"read"}),
}


async def append(
    uow: UnitOfWork, conversation_id: int, values: Mapping[str, Any], *, customer_at: int | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Insert a message under the next seq. Returns (message, conversation), both as they are now.

    With a `client_id` that the conversation has already, nothing is added and the existing message comes back with
    `duplicate` set to True.
    """
    here: dict[str, Any] = {"conversation": conversation_id, "now": uow.now}
    if customer_at is None:
        thread = await uow.row(_NEXT_SEQ, here)
    else:
        thread = await uow.row(_NEXT_SEQ_OF_CUSTOMER, {**here, "customer_at": customer_at})
    if thread is None:
        raise NotFound(f"no conversation {conversation_id}")
    row: dict[str, Any] = {
        "conversation_id": conversation_id,
        "inquiry_id": None,
        "seq": thread["last_seq"],
        "kind": "text",
        "author_id": None,
        "author_name": None,
        "text": "",
        "quoted_text": None,
        "html": None,
        "subject": None,
        "error": None,
        "client_id": None,
        "reply_to_id": None,
        "automatic": False,
        "sent_parts": 0,
        "meta": {},
        "occurred_at": uow.now,
        "created_at": uow.now,
        "sent_at": None,
        **values,
    }
    if row["client_id"] is None:
        row["id"] = await uow.insert(message, row)
        return row, dict(thread)
    new_id = await uow.insert_new(message, row, key=["conversation_id", "client_id"], returning=message.c.id)
    if new_id is not None:
        row["id"] = int(new_id)
        return row, dict(thread)
    # The row lock is ours, so giving the number back leaves no gap.
    await uow.update(conversation, conversation_id, {"last_seq": conversation.c.last_seq - 1})
    twin = await uow.row(
        select(message).where(
            message.c.conversation_id == conversation_id, message.c.client_id == row["client_id"]
        )
    )
    if twin is None:
        raise Conflict("the conversation changed, try again")
    return {**twin, "duplicate": True}, dict(thread)


def _next_seq(**more: Any) -> Prepared:
    taken = {"last_seq": conversation.c.last_seq + 1, "updated_at": bindparam("now"), **more}
    here = conversation.c.id == bindparam("conversation")
    return Prepared(update(conversation).where(here).values(taken).returning(conversation))


_NEXT_SEQ = _next_seq()
_NEXT_SEQ_OF_CUSTOMER = _next_seq(last_customer_at=bindparam("customer_at"))


async def post_message(
    uow: UnitOfWork,
    *,
    conversation_id: int,
    inquiry_row: Mapping[str, Any] | None,
    author_kind: str,
    author_id: int | None = None,
    author_name: str | None = None,
    text: str,
    html: str | None = None,
    client_id: str | None = None,
    internal: bool = False,
    reply_to_id: int | None = None,
    buttons: Sequence[Sequence[Button]] = (),
    automatic: bool = False,
    kind: str | None = None,
    uploads: Sequence[str] = (),
    meta: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], bool]:
    """Store a message of an agent, a bot or the system; a public one is queued for delivery in the same transaction.

    Returns (message row with `attachments`, created). The same `client_id` again returns the first one and False.

    Raises:
        Invalid: empty or oversized text, an unknown upload, a channel that cannot carry replies.
    """
    if not text.strip() and not uploads:
        raise Invalid("a message needs text or a file", code="empty_message")
    if len(text) > MAX_TEXT:
        raise Invalid(f"at most {MAX_TEXT} characters", code="text_too_long")
    values: dict[str, Any] = {
        "inquiry_id": inquiry_row["id"] if inquiry_row else None,
        "direction": "internal" if internal else "out",
        "kind": kind or ("note" if internal else "text"),
        "author_kind": author_kind,
        "author_id": author_id,
        "author_name": author_name,
        "text": text,
        "html": html,
        "client_id": client_id,
        "reply_to_id": reply_to_id,
        "automatic": automatic,
        "state": "received" if internal else "queued",
        "meta": dict(meta or {}),
    }
    if buttons:
        values["meta"]["buttons"] = [
            [{"label": b.label, "value": b.value, "request": b.request, "url": b.url} for b in row]
            for row in buttons
        ]
    row, thread = await append(uow, conversation_id, values)
    if row.pop("duplicate", False):
        row["attachments"] = await _attachments(uow, row["id"])
        return row, False
    row["attachments"] = await _attach_uploads(uow, row["id"], uploads)
    if not internal:
        uow.enqueue(
            NewJob(
                name=DELIVER_JOB,
                args={"message_id": row["id"]},
                lane=f"out:{conversation_id}",
                order_key=row["seq"],
                queue="deliver",
                max_attempts=40,
            )
        )
    if inquiry_row is not None:
        await uow.update(inquiry, inquiry_row["id"], {"last_message_at": uow.now, "updated_at": uow.now})
    await announce(uow, row, inquiry_row, thread)
    return row, True


async def say_automatically(
    uow: UnitOfWork, *, conversation_id: int, inquiry_row: Mapping[str, Any] | None, text: str
) -> bool:
    """Tell a customer something in the organisation's name; False where his channel or account takes no replies, and
    nothing of the caller's transaction is lost then.
    """
    try:
        async with uow.savepoint():
            await post_message(
                uow, conversation_id=conversation_id, inquiry_row=inquiry_row, author_kind="system", text=text,
                automatic=True,
            )  # fmt: skip
    except SwitchboardError:
        return False
    return True


async def announce(
    uow: UnitOfWork,
    row: Mapping[str, Any],
    inquiry_row: Mapping[str, Any] | None,
    thread: Mapping[str, Any],
    **context: Any,
) -> None:
    """Emit `message.added` with everything its listeners need."""
    actor = (
        f"{row['author_kind']}:{row['author_id']}"
        if row["author_id"] is not None
        else str(row["author_kind"])
    )
    if row["author_kind"] == "customer":
        actor = f"contact:{row['author_id']}"
    await uow.emit(
        DomainEvent(
            kind="message.added",
            subject_kind="message",
            subject_id=row["id"],
            actor=actor,
            inquiry_id=row["inquiry_id"],
            conversation_id=row["conversation_id"],
            payload={"message": message_view(row, row.get("attachments", ()))},
            audience=inquiry_audience(inquiry_row) if inquiry_row else SUPERVISORS,
            context={
                "message": row,
                "inquiry": inquiry_row,
                "conversation": thread,
                "reopened": False,
                "was_held_by_bot": bool(inquiry_row and inquiry_row["held_by_bot"]),
                **context,
            },
        )
    )


async def _attachments(uow: UnitOfWork, message_id: int) -> list[dict[str, Any]]:
    return [
        dict(r)
        for r in await uow.rows(
            select(attachment).where(attachment.c.message_id == message_id).order_by(attachment.c.id)
        )
    ]


async def _attach_uploads(uow: UnitOfWork, message_id: int, uploads: Sequence[str]) -> list[dict[str, Any]]:
    if not uploads:
        return []
    found = {r["id"]: r for r in await uow.rows(select(upload).where(upload.c.id.in_(uploads)))}
    missing = [u for u in uploads if u not in found]
    if missing:
        raise Invalid(f"no upload {missing[0]}", code="no_upload", params={"uploads": missing})
    rows = []
    for upload_id in uploads:
        u = found[upload_id]
        values = {
            "message_id": message_id,
            "name": u["name"],
            "mime": u["mime"],
            "size": u["size"],
            "state": "stored",
            "error": None,
            "provider_ref": None,
            "blob_key": u["blob_key"],
            "sha256": u["sha256"],
            "inline_cid": None,
            "created_at": uow.now,
        }
        rows.append({**values, "id": await uow.insert(attachment, values)})
    return rows


async def set_state(
    uow: UnitOfWork,
    message_id: int,
    state: str,
    *,
    error: str | None = None,
    external_ids: Sequence[str] = (),
    sent_parts: int | None = None,
) -> bool:
    """Move a message's delivery state on and remember the provider's ids. Returns False if the move is not legal
    (late, repeated), which is no error.
    """
    row = await uow.find(message, message_id, lock=True)
    if row is None:
        raise NotFound(f"no message {message_id}")
    if external_ids:
        inbox_id = await uow.scalar(
            select(conversation.c.inbox_id).where(conversation.c.id == row["conversation_id"])
        )
        for external_id in external_ids:
            await uow.insert_new(
                message_ref,
                {
                    "inbox_id": inbox_id,
                    "external_id": external_id[:500],
                    "message_id": message_id,
                    "conversation_id": row["conversation_id"],
                },
                key=["inbox_id", "external_id"],
            )
    if state not in _FOLLOWS[row["state"]]:
        return False
    changes: dict[str, Any] = {"state": state, "error": error[:500] if error else None}
    if sent_parts is not None:
        changes["sent_parts"] = sent_parts
    if state in ("sent", "delivered", "read") and row["sent_at"] is None:
        changes["sent_at"] = uow.now
    await uow.update(message, message_id, changes)
    after = {**row, **changes}
    owner = await uow.find(inquiry, row["inquiry_id"]) if row["inquiry_id"] else None
    await uow.emit(
        DomainEvent(
            kind="message.state_changed",
            subject_kind="message",
            subject_id=message_id,
            inquiry_id=row["inquiry_id"],
            conversation_id=row["conversation_id"],
            payload={
                "message_id": message_id,
                "seq": row["seq"],
                "state": state,
                "was": row["state"],
                "error": changes["error"],
            },
            audience=inquiry_audience(owner) if owner else SUPERVISORS,
            context={"message": after, "inquiry": owner, "was": row["state"]},
        )
    )
    return True


async def resend(uow: UnitOfWork, message_id: int, *, actor: str) -> dict[str, Any]:
    """Queue a failed or unknown message again, as it is. Raises NotFound, Conflict for any other state."""
    row = await uow.find(message, message_id, lock=True)
    if row is None:
        raise NotFound(f"no message {message_id}")
    if row["state"] not in ("failed", "unknown"):
        raise Conflict(f"a message that is {row['state']} cannot be sent again", code="not_resendable")
    await set_state(uow, message_id, "queued")
    uow.enqueue(
        NewJob(
            name=DELIVER_JOB,
            args={"message_id": message_id, "resent_by": actor},
            lane=f"out:{row['conversation_id']}",
            order_key=row["seq"],
            queue="deliver",
            max_attempts=40,
        )
    )
    return {**row, "state": "queued", "error": None}


async def context_of(
    uow: UnitOfWork, conversation_id: int
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """(conversation, contact, inbox) of a conversation."""
    thread = await uow.find(conversation, conversation_id)
    if thread is None:
        raise NotFound(f"no conversation {conversation_id}")
    person = await uow.find(contact, thread["contact_id"])
    account = await uow.find(inbox, thread["inbox_id"])
    if person is None or account is None:
        raise NotFound(f"conversation {conversation_id} lacks its contact or inbox")
    return dict(thread), dict(person), dict(account)


async def add_ref(
    uow: UnitOfWork, *, inbox_id: int, external_id: str, message_id: int, conversation_id: int
) -> None:
    await uow.execute(
        _ADD_REF,
        {
            "inbox_id": inbox_id,
            "external_id": external_id[:500],
            "message_id": message_id,
            "conversation_id": conversation_id,
        },
    )


_ADD_REF = Prepared(
    insert(message_ref).inline(), columns=("inbox_id", "external_id", "message_id", "conversation_id")
)
