"""Two inquiries about one thing become one, and one about two things becomes two.

Owns what is allowed, where new words of the threads go afterwards, and the events `inquiry.merged` and
`inquiry.split`; what they mean for clocks and queues is for the listeners. No message is ever copied or deleted: each
stays in its thread, and the threads of both can be read from both (`threads_of`).

A merged inquiry is closed for good and points to the one that goes on. Lock order: both inquiries, by id.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core import inquiries, messages
from crm_core.access import inquiry_audience
from crm_core.db.uow import Row, UnitOfWork, read_rows
from crm_core.errors import Conflict, Invalid, NotFound
from crm_core.events import DomainEvent
from crm_core.schema import contact, conversation, inbox, inquiry, message
from crm_core.views import NUMBER_BASE, inquiry_brief

MERGED = "merge"
#: inquiries that one may have swallowed, directly or through others; more are left out of `threads_of`
_MAX_SWALLOWED = 200
_OVER = ("solved", "closed")
_WORDS = {
    "away": {
        "en": "Merged into #{number}",
        "uk": "Об'єднано зі зверненням #{number}",
        "ru": "Объединено с обращением #{number}",
    },
    "received": {
        "en": "#{number} was merged into this one",
        "uk": "Сюди приєднано звернення #{number}",
        "ru": "Сюда присоединено обращение #{number}",
    },
    "split": {
        "en": "A message was split off into #{number}",
        "uk": "Повідомлення виділено в окреме звернення #{number}",
        "ru": "Сообщение выделено в отдельное обращение #{number}",
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class By:
    """Who merges or splits: the author of the note and of the cards in the threads."""

    label: str
    agent_id: int | None = None
    name: str | None = None
    language: str = "en"


async def merge(
    uow: UnitOfWork, source_id: int, target_id: int, *, by: By, note: str | None = None, public: bool = False
) -> dict[str, Any]:
    """Close `source` as a part of `target`. Returns the target as it is now; the same merge again changes nothing.

    A public `note` is an answer to the customer in the target's thread, a private one is for colleagues. A solved
    target is opened again if the source was not: somebody waits. New words in the source's thread belong to the
    target from now on.

    Raises:
        Invalid: same_inquiry. NotFound.
        Conflict: already_merged, target_merged (`params["merged_into_id"]` says where to), closed, target_closed,
            other_contact.
    """
    if source_id == target_id:
        raise Invalid("an inquiry cannot be merged into itself", code="same_inquiry")
    # A repeated merge is answered before anything is locked.
    known = await uow.find(inquiry, source_id)
    if known is not None and known["merged_into_id"] == target_id:
        return dict(await _one(uow, target_id))
    both = {
        r["id"]: r
        for r in await uow.rows(
            uow.lock(select(inquiry).where(inquiry.c.id.in_([source_id, target_id])).order_by(inquiry.c.id))
        )
    }
    for wanted in (source_id, target_id):
        if wanted not in both:
            raise NotFound(f"no inquiry {wanted}", params={"inquiry_id": wanted})
    source, target = both[source_id], both[target_id]
    if source["merged_into_id"] == target_id:
        return dict(target)
    _check_pair(source, target)

    if target["held_by_bot"]:
        target = await inquiries.hand_off(uow, target_id, actor=by.label, reason=MERGED)
    changes: dict[str, Any] = {}
    if target["status"] == "solved" and source["status"] not in _OVER:
        changes["status"] = "open"
    if set(source["tags"]) - set(target["tags"]):
        changes["tags"] = [*target["tags"], *(t for t in source["tags"] if t not in target["tags"])]
    if changes:
        target = await inquiries.change(uow, target_id, changes, actor=by.label, cause=MERGED)
    gone = await _close(uow, source, target_id, by)
    await uow.emit(
        DomainEvent(
            kind="inquiry.merged", subject_kind="inquiry", subject_id=source_id, actor=by.label,
            inquiry_id=target_id, conversation_id=target["conversation_id"],
            payload={
                "source_id": source_id, "target_id": target_id, "inquiry": inquiry_brief(gone),
                "target": inquiry_brief(target),
            },
            audience=inquiry_audience(target, source["assignee_id"]),
            context={"source": gone, "target": target, "before": dict(source)},
        )
    )  # fmt: skip
    await _card(uow, gone, by, "away", target_id)
    await _card(uow, target, by, "received", source_id)
    if note and note.strip():
        await _note(uow, target, by, note, public=public)
    return dict(await _one(uow, target_id))


def _check_pair(source: Row, target: Row) -> None:
    if source["merged_into_id"] is not None:
        raise Conflict(
            f"#{source['id'] + NUMBER_BASE} was merged into #{source['merged_into_id'] + NUMBER_BASE} before",
            code="already_merged", params={"merged_into_id": source["merged_into_id"]},
        )  # fmt: skip
    if target["merged_into_id"] is not None:
        # Also every circle: what swallowed the source's target is itself merged or is the source.
        raise Conflict(
            f"#{target['id'] + NUMBER_BASE} was itself merged into #{target['merged_into_id'] + NUMBER_BASE}",
            code="target_merged", params={"merged_into_id": target["merged_into_id"]},
        )  # fmt: skip
    if target["status"] == "closed":
        raise Conflict("the other inquiry is closed and stays as it is", code="target_closed")
    if source["status"] == "closed":
        raise Conflict("a closed inquiry stays as it is", code="closed")
    if source["contact_id"] != target["contact_id"]:
        # The customer of one would read the words of the other.
        raise Conflict(
            "the inquiries belong to different contacts; merge the contacts first if they are one person",
            code="other_contact",
            params={"contact_ids": [source["contact_id"], target["contact_id"]]},
        )


async def _close(uow: UnitOfWork, source: Row, target_id: int, by: By) -> dict[str, Any]:
    values: dict[str, Any] = {
        "status": "closed",
        "merged_into_id": target_id,
        "held_by_bot": False,
        "snooze_until": None,
        "closed_at": uow.now,
        "version": source["version"] + 1,
        "updated_at": uow.now,
    }
    await uow.update(inquiry, source["id"], values)
    gone = {**source, **values}
    await uow.emit(
        DomainEvent(
            kind="inquiry.updated", subject_kind="inquiry", subject_id=source["id"], actor=by.label,
            inquiry_id=source["id"], conversation_id=source["conversation_id"],
            payload={
                "changes": {
                    "status": [source["status"], "closed"],
                    "merged_into_id": [None, target_id],
                },
                "inquiry": inquiry_brief(gone), "cause": MERGED,
            },
            audience=inquiry_audience(gone, source["assignee_id"]),
            context={"inquiry": gone, "before": dict(source), "cause": MERGED},
        )
    )  # fmt: skip
    return gone


async def split(
    uow: UnitOfWork, source_id: int, message_id: int, *, by: By, subject: str | None = None
) -> tuple[dict[str, Any], bool]:
    """Give a customer's message an inquiry of its own, open since that message was written, in the same thread.

    Returns (the new inquiry, created). The same message again gives the inquiry that was made for it and False.

    Raises:
        NotFound; Invalid: not_a_customer_message; Conflict: only_message (nothing would be left), merged.
    """
    source = await uow.find(inquiry, source_id, lock=True)
    if source is None:
        raise NotFound(f"no inquiry {source_id}", params={"inquiry_id": source_id})
    if source["merged_into_id"] is not None:
        raise Conflict(
            "split the inquiry it was merged into", code="merged",
            params={"merged_into_id": source["merged_into_id"]},
        )  # fmt: skip
    word = await uow.find(message, message_id)
    if word is not None and word["meta"].get("split_from") == source_id and word["inquiry_id"] is not None:
        return dict(await _one(uow, word["inquiry_id"])), False
    if word is None or word["inquiry_id"] != source_id:
        raise NotFound(f"no message {message_id} in inquiry {source_id}", params={"message_id": message_id})
    if word["author_kind"] != "customer" or word["direction"] != "in":
        raise Invalid("only a message of the customer can be split off", code="not_a_customer_message")
    if await _customer_words(uow, source_id) < 2:
        raise Conflict("nothing would be left of this inquiry", code="only_message")
    thread = await uow.find(conversation, word["conversation_id"])
    person = await uow.find(contact, source["contact_id"])
    account = await uow.find(inbox, thread["inbox_id"]) if thread else None
    if thread is None or person is None:
        raise NotFound(f"message {message_id} lacks its thread or contact")
    await uow.update(message, message_id, {"meta": {**word["meta"], "split_from": source_id}})
    made = await inquiries.open_inquiry(
        uow,
        kind=source["kind"],
        contact=person,
        subject=subject or word["text"].strip().split("\n", 1)[0][:120] or source["subject"],
        channel=source["channel"],
        conversation=thread,
        inbox=account,
        team_id=source["team_id"],
        priority=source["priority"],
        language=source["language"],
        source=source["source"],
        fields={"split_from_inquiry_id": source_id},
        opened_by=by.label,
        search=word["text"][:2_000],
        first_message=word,
        since=word["created_at"],
    )
    await uow.update(message, message_id, {"inquiry_id": made["id"]})
    await uow.emit(
        DomainEvent(
            kind="inquiry.split", subject_kind="inquiry", subject_id=source_id, actor=by.label,
            inquiry_id=made["id"], conversation_id=thread["id"],
            payload={
                "source_id": source_id, "target_id": made["id"], "message_id": message_id,
                "inquiry": inquiry_brief(made),
            },
            audience=inquiry_audience(made, source["assignee_id"]),
            context={
                "source": source, "target": made, "message": word,
                "still_waiting_since": await _still_waiting(uow, source_id),
            },
        )
    )  # fmt: skip
    await _card(uow, source, by, "split", made["id"])
    return made, True


async def _customer_words(uow: UnitOfWork, inquiry_id: int) -> int:
    """How many messages the customer wrote in an inquiry; counted no further than two."""
    some = (
        select(message.c.id)
        .where(
            message.c.inquiry_id == inquiry_id,
            message.c.author_kind == "customer",
            message.c.direction == "in",
        )
        .limit(2)
        .subquery()
    )
    return int(await uow.scalar(select(func.count()).select_from(some)) or 0)


async def _still_waiting(uow: UnitOfWork, inquiry_id: int) -> int | None:
    """When the oldest message was written that nobody answered and that stays here (ms)."""
    mine = message.c.inquiry_id == inquiry_id
    answered = (
        select(func.max(message.c.id))
        .where(mine, message.c.author_kind == "agent", message.c.direction == "out", ~message.c.automatic)
        .scalar_subquery()
    )
    found = await uow.scalar(
        select(func.min(message.c.created_at)).where(
            mine, message.c.author_kind == "customer", message.c.direction == "in", ~message.c.automatic,
            message.c.id > func.coalesce(answered, 0),
        )
    )  # fmt: skip
    return None if found is None else int(found)


async def _card(uow: UnitOfWork, row: Mapping[str, Any], by: By, what: str, other_id: int) -> None:
    """A line in the thread that only colleagues see."""
    if row["conversation_id"] is None:
        return
    words = _WORDS[what]
    await messages.post_message(
        uow,
        conversation_id=row["conversation_id"],
        inquiry_row=row,
        author_kind="system",
        text=words.get(by.language, words["en"]).format(number=other_id + NUMBER_BASE),
        internal=True,
        automatic=True,
        kind="system",
        meta={"what": f"merge.{what}" if what != "split" else "split", "inquiry_id": other_id},
    )


async def _note(uow: UnitOfWork, target: Mapping[str, Any], by: By, text: str, *, public: bool) -> None:
    if target["conversation_id"] is None:
        raise Conflict("this inquiry has no thread to write in", code="no_conversation")
    await messages.post_message(
        uow,
        conversation_id=target["conversation_id"],
        inquiry_row=target,
        author_kind="agent",
        author_id=by.agent_id,
        author_name=by.name,
        text=text,
        internal=not public,
    )


async def _one(uow: UnitOfWork, inquiry_id: int) -> Row:
    row = await uow.find(inquiry, inquiry_id)
    if row is None:
        raise NotFound(f"no inquiry {inquiry_id}", params={"inquiry_id": inquiry_id})
    return row


# --- threads --------------------------------------------------------------------------------------------------
async def go_on_in(
    uow: UnitOfWork, row: Mapping[str, Any], thread: Mapping[str, Any], *, actor: str
) -> dict[str, Any]:
    """The customer wrote in another thread of this inquiry: answers go there from now on.

    The thread left behind keeps leading here. Returns the inquiry as it is now.
    """
    left = row["conversation_id"]
    if left == thread["id"]:
        return dict(row)
    values = {"conversation_id": thread["id"], "version": row["version"] + 1, "updated_at": uow.now}
    await uow.update(inquiry, row["id"], values)
    if left is not None:
        await uow.update(conversation, left, {"continues_in_id": row["id"]})
    after = {**row, **values}
    await uow.emit(
        DomainEvent(
            kind="inquiry.updated", subject_kind="inquiry", subject_id=row["id"], actor=actor,
            inquiry_id=row["id"], conversation_id=thread["id"],
            payload={
                "changes": {"conversation_id": [left, thread["id"]]}, "inquiry": inquiry_brief(after),
                "cause": "customer_wrote_elsewhere",
            },
            audience=inquiry_audience(after),
            context={"inquiry": after, "before": dict(row), "cause": "customer_wrote_elsewhere"},
        )
    )  # fmt: skip
    return after


async def swallowed(conn: AsyncConnection, inquiry_id: int) -> list[int]:
    """Inquiries that were merged into this one, directly or through others, in order of id."""
    tree = select(inquiry.c.id).where(inquiry.c.merged_into_id == inquiry_id).cte("swallowed", recursive=True)
    deeper = select(inquiry.c.id).join(tree, inquiry.c.merged_into_id == tree.c.id)
    # UNION, not UNION ALL: a circle made by hand in the database ends here.
    whole = tree.union(deeper)
    found = await conn.execute(select(whole.c.id).order_by(whole.c.id).limit(_MAX_SWALLOWED))
    return [int(i) for i in found.scalars()]


async def threads_of(conn: AsyncConnection, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The threads of an inquiry: its own first, then those of what was merged into it and those it left.

    {"conversation_id", "channel", "last_seq", "inquiry_ids": whose it is or was}
    """
    ids = [int(row["id"]), *await swallowed(conn, row["id"])]
    homes = await read_rows(
        conn,
        select(inquiry.c.id, inquiry.c.conversation_id).where(inquiry.c.id.in_(ids)).order_by(inquiry.c.id),
    )
    owners: dict[int, list[int]] = {}
    for home in homes:
        if home["conversation_id"] is not None:
            owners.setdefault(home["conversation_id"], []).append(home["id"])
    left = await read_rows(
        conn,
        select(conversation.c.id, conversation.c.continues_in_id).where(
            conversation.c.continues_in_id.in_(ids)
        ),
    )
    for thread in left:
        owners.setdefault(thread["id"], []).append(thread["continues_in_id"])
    rows = await read_rows(
        conn,
        select(conversation.c.id, conversation.c.channel, conversation.c.last_seq)
        .where(conversation.c.id.in_(list(owners)))
        .order_by(conversation.c.id),
    )
    shown = [
        {
            "conversation_id": r["id"],
            "channel": r["channel"],
            "last_seq": r["last_seq"],
            "inquiry_ids": sorted(set(owners[r["id"]])),
        }
        for r in rows
    ]
    return sorted(shown, key=lambda t: (t["conversation_id"] != row["conversation_id"], t["conversation_id"]))
