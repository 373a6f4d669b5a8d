"""Taking in what a channel handed over: one envelope becomes one contact, one conversation, one message, once.

Everything happens in the caller's transaction. Doubles die on three keys: the raw row's, the provider's message id
within the inbox, and the client's id within the conversation. Calls have their own fold in `crm_core.calls`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import bindparam, select, update

from crm_core import contacts, inquiries, merging, messages
from crm_core.access import inquiry_audience
from crm_core.db.prepared import Prepared
from crm_core.db.uow import UnitOfWork
from crm_core.envelope import Auto, Envelope, IdentityKind, Kind
from crm_core.events import SUPERVISORS, DomainEvent
from crm_core.jobs import NewJob
from crm_core.risky_files import runs_on_click
from crm_core.schema import attachment, contact, conversation, identity, inquiry, message, message_ref
from crm_core.views import message_view

FETCH_JOB = "attachment.fetch"
#: kinds that are shown in the thread as something the customer did
_SAYS = frozenset({Kind.MESSAGE, Kind.ACTION, Kind.IDENTITY, Kind.UNSUPPORTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """Where an attachment's bytes were put before the transaction, by its position in the envelope."""

    blob_key: str
    sha256: str
    size: int
    mime: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeResult:
    """What came of an envelope. `ignored` says why nothing was added, if so."""

    contact: Mapping[str, Any] | None = None
    conversation: Mapping[str, Any] | None = None
    inquiry: Mapping[str, Any] | None = None
    message: Mapping[str, Any] | None = None
    opened: bool = False
    duplicate: bool = False
    ignored: str | None = None
    details: dict[str, Any] = field(default_factory=dict)


async def receive(
    uow: UnitOfWork,
    inbox: Mapping[str, Any],
    envelope: Envelope,
    *,
    inbound_id: int | None = None,
    conversation_id: int | None = None,
    stored: Mapping[int, StoredFile] | None = None,
    client_id: str | None = None,
    held_by_bot: bool = False,
) -> IntakeResult:
    """Bring one envelope into the domain.

    Args:
        conversation_id: a thread the channel has proved (a signed reply token); stronger than the envelope's key.
        stored: files of the envelope that are in the file store already.
        client_id: the chat visitor's own id of the message.
        held_by_bot: a newly opened inquiry starts with the inbox's dialog instead of people.
    """
    if envelope.auto is Auto.OWN:
        return IntakeResult(ignored="our own message came back")
    if envelope.kind in _SAYS:
        return await _said(
            uow,
            inbox,
            envelope,
            inbound_id=inbound_id,
            conversation_id=conversation_id,
            stored=stored or {},
            client_id=client_id,
            held_by_bot=held_by_bot,
        )
    if envelope.kind in (Kind.EDIT, Kind.DELETE, Kind.REACTION):
        return await _revised(
            uow, inbox, envelope, inbound_id=inbound_id, stored=stored or {}, held_by_bot=held_by_bot
        )
    if envelope.kind is Kind.DELIVERY_STATUS:
        return await _delivery_status(uow, inbox, envelope)
    if envelope.kind is Kind.MEMBERSHIP:
        return await _membership(uow, envelope)
    if envelope.kind is Kind.SYSTEM and envelope.data.get("what") == "migrate_to_chat_id":
        return await _moved(uow, inbox, envelope)
    return IntakeResult(ignored=f"nothing to do for {envelope.kind.value}")


async def _moved(uow: UnitOfWork, inbox: Mapping[str, Any], envelope: Envelope) -> IntakeResult:
    """A Telegram group became a supergroup: the thread goes on under its new id."""
    new_key = str(envelope.data.get("other_chat_id") or "")
    if not await move_thread(uow, inbox["id"], envelope.conversation_key, new_key):
        return IntakeResult(ignored="nothing to move")
    return IntakeResult(details={"moved_to": new_key})


async def move_thread(uow: UnitOfWork, inbox_id: int, key: str, new_key: str) -> bool:
    """Let a thread go on under another key; False if there is another thread with it already."""
    taken = await uow.scalar(
        select(conversation.c.id).where(conversation.c.inbox_id == inbox_id, conversation.c.key == new_key)
    )
    if not new_key or taken is not None:
        return False
    await uow.execute(
        update(conversation)
        .where(conversation.c.inbox_id == inbox_id, conversation.c.key == key)
        .values(key=new_key, address=new_key)
    )
    return True


async def _said(
    uow: UnitOfWork,
    inbox: Mapping[str, Any],
    envelope: Envelope,
    *,
    inbound_id: int | None,
    conversation_id: int | None,
    stored: Mapping[int, StoredFile],
    client_id: str | None,
    held_by_bot: bool,
) -> IntakeResult:
    earlier = await _already(uow, inbox["id"], envelope.provider_message_id)
    if earlier is not None:
        return IntakeResult(message=earlier, duplicate=True)
    if envelope.data.get("opens_nothing") and not await _find_thread(uow, inbox, envelope, conversation_id):
        return IntakeResult(ignored=f"nobody asks for anything: {envelope.data['opens_nothing']}")
    person = await contacts.resolve(
        uow,
        envelope.sender.identities,
        name=envelope.sender.display_name,
        locale=envelope.sender.locale,
        inbound_id=inbound_id,
    )
    # Looked for only now: whoever won the race for the person may have made the thread by now.
    thread = await _find_thread(uow, inbox, envelope, conversation_id)
    if thread is None:
        thread = await _new_thread(uow, inbox, envelope, person)
    album = envelope.data.get("media_group_id")
    if album:
        joined = await _join_album(uow, inbox, envelope, thread, str(album), stored)
        if joined is not None:
            return IntakeResult(contact=person, conversation=thread, message=joined, inquiry=None)
    current = await inquiries.newest_or_turn(uow, thread["id"])
    follows = current["id"] if current and current["status"] == "closed" else None
    if current and current["status"] == "closed":
        current = None
    row, thread = await messages.append(
        uow, thread["id"], _message_values(envelope, person, thread, current, client_id), customer_at=uow.now
    )
    if row.pop("duplicate", False):
        return IntakeResult(contact=person, conversation=thread, inquiry=current, message=row, duplicate=True)
    if envelope.provider_message_id:
        await messages.add_ref(
            uow,
            inbox_id=inbox["id"],
            external_id=envelope.provider_message_id,
            message_id=row["id"],
            conversation_id=thread["id"],
        )
    row["attachments"] = await _add_attachments(uow, row, envelope, stored)
    if envelope.reply_to:
        answered = await _already(uow, inbox["id"], envelope.reply_to)
        if answered is not None and answered["conversation_id"] == thread["id"]:
            row["reply_to_id"] = answered["id"]
            await uow.update(message, row["id"], {"reply_to_id": answered["id"]})
    opened = current is None
    reopened = False
    if current is not None and current["conversation_id"] != thread["id"]:
        # Merged from another thread: answers go where the customer writes.
        current = await merging.go_on_in(uow, current, thread, actor=f"contact:{person['id']}")
    if current is None:
        current = await _open(
            uow, inbox, envelope, person, thread, row, held_by_bot=held_by_bot, follows=follows
        )
        row["inquiry_id"] = current["id"]
        await uow.update(message, row["id"], {"inquiry_id": current["id"]})
    else:
        await uow.update(inquiry, current["id"], {"last_message_at": uow.now, "updated_at": uow.now})
        current = {**current, "last_message_at": uow.now, "updated_at": uow.now}
        if current["status"] in ("pending", "hold", "solved") and not row["automatic"]:
            reopened = current["status"] == "solved"
            current = await inquiries.change(
                uow,
                current["id"],
                {"status": "open"},
                actor=f"contact:{person['id']}",
                cause="customer_wrote",
            )
    await messages.announce(
        uow, row, current, thread, contact=person, inbox=inbox, reopened=reopened, opened=opened
    )
    return IntakeResult(contact=person, conversation=thread, inquiry=current, message=row, opened=opened)


async def _already(uow: UnitOfWork, inbox_id: int, external_id: str | None) -> dict[str, Any] | None:
    if not external_id:
        return None
    row = await uow.row(_BY_REF, {"inbox": inbox_id, "external": external_id[:500]})
    return dict(row) if row else None


_BY_REF = Prepared(
    select(message)
    .join(message_ref, message_ref.c.message_id == message.c.id)
    .where(message_ref.c.inbox_id == bindparam("inbox"), message_ref.c.external_id == bindparam("external"))
)


async def _find_thread(
    uow: UnitOfWork, inbox: Mapping[str, Any], envelope: Envelope, conversation_id: int | None
) -> dict[str, Any] | None:
    """The conversation this belongs to, strongest proof first (channels.md §2.5); None if there is none."""
    if conversation_id is not None:
        row = await uow.row(
            select(conversation).where(
                conversation.c.id == conversation_id, conversation.c.inbox_id == inbox["id"]
            )
        )
        if row is not None:
            return dict(row)
    if envelope.thread.message_ids:
        found = {
            r["external_id"]: r["conversation_id"]
            for r in await uow.rows(
                select(message_ref.c.external_id, message_ref.c.conversation_id).where(
                    message_ref.c.inbox_id == inbox["id"],
                    message_ref.c.external_id.in_([m[:500] for m in envelope.thread.message_ids]),
                )
            )
        }
        for external_id in envelope.thread.message_ids:
            if external_id[:500] in found:
                row = await uow.find(conversation, found[external_id[:500]])
                if row is not None:
                    return dict(row)
    row = await uow.row(_BY_KEY, {"inbox": inbox["id"], "key_": envelope.conversation_key[:500]})
    return dict(row) if row is not None else None


async def _new_thread(
    uow: UnitOfWork, inbox: Mapping[str, Any], envelope: Envelope, person: Mapping[str, Any]
) -> dict[str, Any]:
    key = envelope.conversation_key[:500]
    language = (
        (envelope.sender.locale or person["locale"] or inbox["language"] or "en").split("-")[0].lower()[:10]
    )
    values = {
        "inbox_id": inbox["id"],
        "contact_id": person["id"],
        "key": key,
        "channel": inbox["channel"],
        "address": _address(envelope)[:500],
        "subject": envelope.subject[:500] if envelope.subject else None,
        "language": language,
        "last_seq": 0,
        "customer_read_seq": 0,
        "agent_read_seq": 0,
        "sticky_agent_id": None,
        "sticky_until": None,
        "last_customer_at": None,
        "created_at": uow.now,
        "updated_at": uow.now,
    }
    new_id = await uow.insert_new(conversation, values, key=["inbox_id", "key"], returning=conversation.c.id)
    if new_id is not None:
        return {**values, "id": int(new_id)}
    winner = await uow.row(_BY_KEY, {"inbox": inbox["id"], "key_": key})
    if winner is None:
        raise RuntimeError(f"conversation {key!r} neither inserted nor found")
    return dict(winner)


_BY_KEY = Prepared(
    select(conversation).where(
        conversation.c.inbox_id == bindparam("inbox"), conversation.c.key == bindparam("key_")
    )
)


def _address(envelope: Envelope) -> str:
    """Where replies go. Chats are addressed by their own key, mail and calls by the person's address."""
    for claim in envelope.sender.identities[:1]:
        if claim.kind in (IdentityKind.EMAIL, IdentityKind.PHONE):
            return claim.value
    return envelope.conversation_key


def _message_values(
    envelope: Envelope,
    person: Mapping[str, Any],
    thread: Mapping[str, Any],
    current: Mapping[str, Any] | None,
    client_id: str | None,
) -> dict[str, Any]:
    meta: dict[str, Any] = {k: v for k, v in envelope.data.items() if v is not None}
    if envelope.kind is not Kind.MESSAGE:
        meta["envelope_kind"] = envelope.kind.value
    if envelope.parse_warnings:
        meta["warnings"] = list(envelope.parse_warnings)
    if envelope.auth:
        meta["auth"] = envelope.auth
    if person["id"] != thread["contact_id"]:
        meta["warnings"] = [*meta.get("warnings", []), "sender_is_not_the_participant"]
    text = envelope.text
    if envelope.kind is Kind.UNSUPPORTED and not text:
        text = f"unsupported: {envelope.data.get('what', 'unknown')}"
    automatic = envelope.auto is not Auto.HUMAN
    if automatic:
        meta["auto"] = envelope.auto.value
    by_agent = envelope.sender.is_agent
    return {
        "inquiry_id": current["id"] if current else None,
        "direction": "out" if by_agent else "in",
        "author_kind": "agent" if by_agent else "customer",
        "author_id": None if by_agent else person["id"],
        "author_name": (envelope.sender.display_name or person["name"] or "")[:200] or None,
        "text": text,
        "quoted_text": envelope.quoted_text,
        "html": envelope.html,
        "subject": envelope.subject[:500] if envelope.subject else None,
        "state": "sent" if by_agent else "received",
        "client_id": client_id,
        "automatic": automatic,
        "meta": meta,
        "occurred_at": envelope.occurred_at,
    }


async def _add_attachments(
    uow: UnitOfWork, row: Mapping[str, Any], envelope: Envelope, stored: Mapping[int, StoredFile]
) -> list[dict[str, Any]]:
    rows = []
    for position, item in enumerate(envelope.attachments):
        done = stored.get(position)
        refused = item.refused or (None if done or not runs_on_click(item.name) else "runs_on_click")
        state = "stored" if done else "pending" if item.provider_ref and not refused else "refused"
        if item.refused == "too_big":
            state = "too_big"
        values = {
            "message_id": row["id"],
            "name": item.name[:300],
            "mime": (done.mime if done else item.mime)[:120],
            "size": done.size if done else item.size,
            "state": state,
            "error": refused,
            "provider_ref": item.provider_ref,
            "blob_key": done.blob_key if done else None,
            "sha256": done.sha256 if done else None,
            "inline_cid": item.inline_cid,
            "created_at": uow.now,
        }
        values["id"] = await uow.insert(attachment, values)
        rows.append(values)
        if state == "pending":
            uow.enqueue(
                NewJob(
                    name=FETCH_JOB,
                    args={"attachment_id": values["id"]},
                    queue="fetch",
                    dedupe=f"fetch:{values['id']}",
                )
            )
    return rows


async def _join_album(
    uow: UnitOfWork,
    inbox: Mapping[str, Any],
    envelope: Envelope,
    thread: Mapping[str, Any],
    album: str,
    stored: Mapping[int, StoredFile],
) -> dict[str, Any] | None:
    """Items of one album are separate updates; they become one message."""
    newest = await uow.row(
        select(message)
        .where(message.c.conversation_id == thread["id"], message.c.direction == "in")
        .order_by(message.c.seq.desc())
        .limit(1)
    )
    if newest is None or str(newest["meta"].get("media_group_id")) != album:
        return None
    row = dict(newest)
    added = await _add_attachments(uow, row, envelope, stored)
    if envelope.provider_message_id:
        await messages.add_ref(
            uow,
            inbox_id=inbox["id"],
            external_id=envelope.provider_message_id,
            message_id=row["id"],
            conversation_id=thread["id"],
        )
    if envelope.text and not row["text"]:
        row["text"] = envelope.text
        await uow.update(message, row["id"], {"text": envelope.text})
    await _edited(uow, row, what="album", attachments=added)
    return row


async def _open(
    uow: UnitOfWork,
    inbox: Mapping[str, Any],
    envelope: Envelope,
    person: Mapping[str, Any],
    thread: Mapping[str, Any],
    row: Mapping[str, Any],
    *,
    held_by_bot: bool,
    follows: int | None,
) -> dict[str, Any]:
    kind = envelope.wants_kind if envelope.wants_kind in inquiries.KINDS else inbox["default_kind"]
    subject = envelope.subject or row["text"].strip().split("\n", 1)[0][:120]
    if not subject and envelope.attachments:
        subject = envelope.attachments[0].name
    tags: tuple[str, ...] = ()
    priority = None
    if envelope.auto is Auto.BULK:
        tags, priority = ("bulk",), "low"
    elif envelope.auto is not Auto.HUMAN:
        tags = (envelope.auto.value,)
    fields = dict(envelope.fields)
    if follows is not None:
        fields["follows_inquiry_id"] = follows
    return await inquiries.open_inquiry(
        uow,
        kind=kind,
        contact=person,
        subject=subject,
        channel=inbox["channel"],
        conversation=thread,
        inbox=inbox,
        priority=priority,
        source=_source(envelope) if kind == "lead" else None,
        fields=fields,
        tags=tags,
        held_by_bot=held_by_bot and envelope.auto is Auto.HUMAN,
        search=row["text"][:2_000],
        first_message=row,
    )


def _source(envelope: Envelope) -> str:
    source = envelope.fields.get("utm_source") or envelope.fields.get("source")
    return str(source)[:60] if source else "inbound"


async def _revised(
    uow: UnitOfWork,
    inbox: Mapping[str, Any],
    envelope: Envelope,
    *,
    inbound_id: int | None,
    stored: Mapping[int, StoredFile],
    held_by_bot: bool,
) -> IntakeResult:
    """An edit, deletion or reaction of a message we have. An edit of one we never got is taken as the message."""
    target = await _already(uow, inbox["id"], envelope.provider_message_id)
    if target is None:
        if envelope.kind is Kind.EDIT:
            return await _said(
                uow,
                inbox,
                envelope,
                inbound_id=inbound_id,
                conversation_id=None,
                stored=stored,
                client_id=None,
                held_by_bot=held_by_bot,
            )
        return IntakeResult(ignored=f"{envelope.kind.value} of a message we do not have")
    meta = dict(target["meta"])
    changes: dict[str, Any] = {}
    if envelope.kind is Kind.EDIT:
        if envelope.text == target["text"]:
            return IntakeResult(message=target, ignored="edit without a visible change")
        meta["edits"] = [*meta.get("edits", []), {"at": envelope.occurred_at, "text": target["text"]}][-50:]
        changes["text"] = envelope.text
    elif envelope.kind is Kind.DELETE:
        meta["deleted_at"] = envelope.occurred_at
    else:
        who = envelope.sender.identities[0].value if envelope.sender.identities else "?"
        reactions = dict(meta.get("reactions", {}))
        reactions[who] = envelope.data.get("emoji") or envelope.data.get("reactions") or envelope.text
        meta["reactions"] = reactions
    changes["meta"] = meta
    await uow.update(message, target["id"], changes)
    row = {**target, **changes}
    await _edited(uow, row, what=envelope.kind.value)
    return IntakeResult(message=row)


async def _edited(
    uow: UnitOfWork, row: Mapping[str, Any], *, what: str, attachments: Sequence[Mapping[str, Any]] = ()
) -> None:
    owner = await uow.find(inquiry, row["inquiry_id"]) if row["inquiry_id"] else None
    files = await uow.rows(
        select(attachment).where(attachment.c.message_id == row["id"]).order_by(attachment.c.id)
    )
    await uow.emit(
        DomainEvent(
            kind="message.edited",
            subject_kind="message",
            subject_id=row["id"],
            actor=f"contact:{row['author_id']}",
            inquiry_id=row["inquiry_id"],
            conversation_id=row["conversation_id"],
            payload={"what": what, "message": message_view(row, files or attachments)},
            audience=inquiry_audience(owner) if owner else SUPERVISORS,
            context={"message": row, "inquiry": owner},
        )
    )


async def _delivery_status(uow: UnitOfWork, inbox: Mapping[str, Any], envelope: Envelope) -> IntakeResult:
    external_id = envelope.provider_message_id or envelope.data.get("message_id")
    target = await _already(uow, inbox["id"], str(external_id) if external_id else None)
    if target is None:
        return IntakeResult(ignored="delivery status of a message we do not have")
    state = str(envelope.data.get("state", ""))
    if state in ("sent", "delivered", "read", "failed"):
        error = str(envelope.data.get("error") or envelope.data.get("status") or "") or None
        await messages.set_state(uow, target["id"], state, error=error)
        if state == "failed" and envelope.data.get("recipient"):
            await contacts.set_reachable(
                uow, IdentityKind.EMAIL.value, str(envelope.data["recipient"]), "", reachable=False
            )
    return IntakeResult(message=target, details={"state": state})


async def _membership(uow: UnitOfWork, envelope: Envelope) -> IntakeResult:
    reachable = bool(envelope.data.get("reachable"))
    for claim in envelope.sender.identities:
        await contacts.set_reachable(uow, claim.kind.value, claim.value, claim.account, reachable=reachable)
    owner = None
    if envelope.sender.identities:
        claim = envelope.sender.identities[0]
        owner = await uow.row(
            select(contact)
            .join(identity, identity.c.contact_id == contact.c.id)
            .where(
                identity.c.kind == claim.kind.value,
                identity.c.value == claim.value,
                identity.c.account == claim.account,
            )
        )
    if owner is not None:
        await uow.emit(
            DomainEvent(
                kind="contact.updated",
                subject_kind="contact",
                subject_id=owner["id"],
                actor=f"contact:{owner['id']}",
                payload={"reachable": reachable},
            )
        )
    return IntakeResult(contact=dict(owner) if owner else None, ignored=None if owner else "nobody we know")
