"""Tickets and leads: opening, changing, handing from bot to people, closing in time.

One table for both kinds; changing the kind keeps number, thread and history.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, bindparam, func, literal_column, or_, select
from sqlalchemy.sql.elements import BindParameter

from crm_core.access import inquiry_audience
from crm_core.clock import DAY
from crm_core.db.prepared import Prepared
from crm_core.db.uow import UnitOfWork
from crm_core.errors import Conflict, Invalid, NotFound
from crm_core.events import DomainEvent
from crm_core.schema import contact, conversation, inquiry
from crm_core.search import normalize
from crm_core.views import inquiry_brief

KINDS = ("ticket", "lead")
STATUSES = ("new", "open", "pending", "hold", "solved", "closed")
PRIORITIES = ("low", "normal", "high", "urgent")
STAGES = ("new", "contacted", "qualified", "proposal", "won", "lost")
CHANGEABLE = frozenset(
    {
        "kind",
        "status",
        "stage",
        "outcome",
        "subject",
        "priority",
        "language",
        "team_id",
        "assignee_id",
        "tags",
        "fields",
        "source",
        "value_minor",
        "currency",
        "requirements",
        "snooze_until",
    }
)
#: a solved inquiry that nobody writes to any more is closed; what comes later opens a follow-up
CLOSE_AFTER_MS = 4 * DAY
_MAX_SUBJECT = 500


async def open_inquiry(
    uow: UnitOfWork,
    *,
    kind: str,
    contact: Mapping[str, Any],
    subject: str,
    channel: str,
    conversation: Mapping[str, Any] | None = None,
    inbox: Mapping[str, Any] | None = None,
    team_id: int | None = None,
    priority: str | None = None,
    language: str | None = None,
    source: str | None = None,
    fields: Mapping[str, Any] | None = None,
    requirements: Mapping[str, Any] | None = None,
    tags: tuple[str, ...] = (),
    held_by_bot: bool = False,
    opened_by: str = "contact",
    search: str = "",
    first_message: Mapping[str, Any] | None = None,
    since: int | None = None,
) -> dict[str, Any]:
    """Insert a ticket or lead and emit `inquiry.opened`. `opened_by` is "contact", "system" or "agent:<id>".

    `since`: what the customer waits for was asked earlier (ms), in a message that belonged to another inquiry.
    """
    if kind not in KINDS:
        raise Invalid(f"kind must be one of {', '.join(KINDS)}", code="bad_kind")
    values: dict[str, Any] = {
        "kind": kind,
        "status": "new",
        "stage": "new" if kind == "lead" else None,
        "outcome": None,
        "subject": " ".join(subject.split())[:_MAX_SUBJECT] or "(no subject)",
        "contact_id": contact["id"],
        "conversation_id": conversation["id"] if conversation else None,
        "inbox_id": inbox["id"] if inbox else None,
        "channel": channel,
        "team_id": team_id if team_id is not None else (inbox["team_id"] if inbox else None),
        "assignee_id": None,
        "priority": priority or (inbox["priority"] if inbox else "normal"),
        "language": language or (conversation["language"] if conversation else "en"),
        "source": source,
        "value_minor": None,
        "currency": None,
        "tags": list(tags),
        "fields": dict(fields or {}),
        "requirements": dict(requirements or {}),
        "held_by_bot": held_by_bot,
        "merged_into_id": None,
        "version": 1,
        "last_message_at": uow.now,
        "snooze_until": None,
        "created_at": uow.now,
        "updated_at": uow.now,
        "solved_at": None,
        "closed_at": None,
        "search_text": normalize([subject, contact["name"], contact["search_text"], search]),
    }
    values["id"] = await uow.insert(inquiry, values)
    actor = f"contact:{contact['id']}" if opened_by == "contact" else opened_by
    await uow.emit(
        DomainEvent(
            kind="inquiry.opened",
            subject_kind="inquiry",
            subject_id=values["id"],
            actor=actor,
            inquiry_id=values["id"],
            conversation_id=values["conversation_id"],
            payload={"inquiry": inquiry_brief(values)},
            audience=inquiry_audience(values),
            context={
                "inquiry": values,
                "contact": contact,
                "conversation": conversation,
                "inbox": inbox,
                "message": first_message,
                "since": since,
            },
        )
    )
    return values


async def change(
    uow: UnitOfWork,
    inquiry_id: int,
    changes: Mapping[str, Any],
    *,
    actor: str,
    expected_version: int | None = None,
    cause: str | None = None,
) -> dict[str, Any]:
    """Change columns and emit `inquiry.updated` with [old, new] of each that really changed.

    Raises:
        NotFound; Conflict if `expected_version` is not the stored one (code version_mismatch) or the inquiry is
        closed and something other than its tags or outcome would change; Invalid for unknown fields or values.
    """
    _check(changes)
    row = await uow.find(inquiry, inquiry_id, lock=True)
    if row is None:
        raise NotFound(f"no inquiry {inquiry_id}", params={"inquiry_id": inquiry_id})
    if expected_version is not None and row["version"] != expected_version:
        raise Conflict(
            "somebody else changed this inquiry meanwhile",
            code="version_mismatch",
            params={"version": row["version"]},
        )
    real = {k: v for k, v in changes.items() if row[k] != v}
    if row["status"] == "closed" and set(real) - {"tags", "outcome", "fields"}:
        raise Conflict("a closed inquiry stays as it is; a new message opens a follow-up", code="closed")
    if not real:
        return dict(row)
    shown = {k: [row[k], v] for k, v in real.items()}
    if real.get("kind") == "lead" and row["stage"] is None and "stage" not in real:
        real["stage"] = "new"
    if "status" in real:
        status = real["status"]
        real["solved_at"] = (
            uow.now if status == "solved" else (row["solved_at"] if status == "closed" else None)
        )
        real["closed_at"] = uow.now if status == "closed" else None
        if status != "pending":
            real.setdefault("snooze_until", None)
    if "subject" in real:
        real["search_text"] = normalize([real["subject"], row["search_text"]])
    real["version"] = row["version"] + 1
    real["updated_at"] = uow.now
    await uow.update(inquiry, inquiry_id, real)
    after = {**row, **real}
    await uow.emit(
        DomainEvent(
            kind="inquiry.updated",
            subject_kind="inquiry",
            subject_id=inquiry_id,
            actor=actor,
            inquiry_id=inquiry_id,
            conversation_id=row["conversation_id"],
            payload={
                "changes": shown,
                "inquiry": inquiry_brief(after),
                **({"cause": cause} if cause else {}),
            },
            audience=inquiry_audience(after, row["assignee_id"]),
            context={"inquiry": after, "before": dict(row), "cause": cause},
        )
    )
    return after


def _check(changes: Mapping[str, Any]) -> None:
    unknown = set(changes) - CHANGEABLE
    if unknown:
        raise Invalid(f"cannot change {', '.join(sorted(unknown))}", code="unknown_field")
    allowed: dict[str, tuple[Any, ...]] = {
        "kind": KINDS,
        "status": STATUSES,
        "priority": PRIORITIES,
        "stage": (*STAGES, None),
    }
    for field_name, values in allowed.items():
        if field_name in changes and changes[field_name] not in values:
            names = ", ".join(str(v) for v in values if v is not None)
            raise Invalid(f"{field_name} must be one of {names}", code=f"bad_{field_name}")


async def hand_off(
    uow: UnitOfWork,
    inquiry_id: int,
    *,
    actor: str = "bot",
    reason: str,
    fields: Mapping[str, Any] | None = None,
    changes: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The bot gives the inquiry to people with all it collected; emits `inquiry.handed_off` once."""
    row = await uow.find(inquiry, inquiry_id, lock=True)
    if row is None:
        raise NotFound(f"no inquiry {inquiry_id}")
    if not row["held_by_bot"]:
        return dict(row)
    wanted = {k: v for k, v in (changes or {}).items() if v is not None}
    _check(wanted)
    if wanted.get("kind") == "lead" and row["stage"] is None:
        wanted["stage"] = "new"
    values = {
        **wanted,
        "held_by_bot": False,
        "fields": {**row["fields"], **(fields or {})},
        "version": row["version"] + 1,
        "updated_at": uow.now,
    }
    await uow.update(inquiry, inquiry_id, values)
    after = {**row, **values}
    person = await uow.find(contact, after["contact_id"])
    await uow.emit(
        DomainEvent(
            kind="inquiry.handed_off",
            subject_kind="inquiry",
            subject_id=inquiry_id,
            actor=actor,
            inquiry_id=inquiry_id,
            conversation_id=row["conversation_id"],
            payload={"reason": reason, "inquiry": inquiry_brief(after)},
            audience=inquiry_audience(after),
            context={"inquiry": after, "contact": person, "before": dict(row)},
        )
    )
    return after


async def newest_of_conversation(uow: UnitOfWork, conversation_id: int) -> dict[str, Any] | None:
    """The inquiry that new messages of a conversation belong to, locked; closed only if there is no other.

    What was merged leads to where it went on, and a thread that its inquiry left for another leads after it.
    """
    here = {"conversation": conversation_id}
    row = await uow.row(_NEWEST_ALIVE, here) or await uow.row(_NEWEST, here)
    seen: set[int] = set()
    while row is not None and row["merged_into_id"] is not None and row["id"] not in seen:
        seen.add(row["id"])
        row = await uow.find(inquiry, row["merged_into_id"], lock=True)
    return dict(row) if row else None


def _newest(*conditions: ColumnElement[bool]) -> Prepared:
    here: BindParameter[int] = bindparam("conversation")
    elsewhere = select(conversation.c.continues_in_id).where(conversation.c.id == here).scalar_subquery()
    mine = or_(inquiry.c.conversation_id == here, inquiry.c.id == elsewhere)
    newest = select(inquiry).where(mine, *conditions).order_by(inquiry.c.id.desc())
    return Prepared(newest.limit(literal_column("1")).with_for_update())


_NEWEST = _newest()
_NEWEST_ALIVE = _newest(
    or_(inquiry.c.status != literal_column("'closed'"), inquiry.c.merged_into_id.is_not(None))
)


async def newest_or_turn(uow: UnitOfWork, conversation_id: int) -> dict[str, Any] | None:
    """As `newest_of_conversation`; where there is none that is open, the caller alone may open one until its
    transaction ends.

    Two windows of one visitor, or two calls of one number, come in transactions side by side; each would open a
    request of its own. To be asked before anything of the thread is written: this turn comes before the locks of
    inquiry and conversation.
    """
    current = await newest_of_conversation(uow, conversation_id)
    if uow.dialect != "postgresql" or (current is not None and current["status"] != "closed"):
        return current
    turn = func.pg_advisory_xact_lock(func.hashtextextended(f"opening:{conversation_id}", 0))
    await uow.execute(select(turn))
    return await newest_of_conversation(uow, conversation_id)


async def sweep_solved(uow: UnitOfWork, *, limit: int = 200) -> int:
    """Close what has been solved for four days. Returns how many."""
    due = await uow.rows(
        uow.lock(
            select(inquiry.c.id)
            .where(inquiry.c.status == "solved", inquiry.c.solved_at <= uow.now - CLOSE_AFTER_MS)
            .order_by(inquiry.c.solved_at)
            .limit(limit),
            skip_locked=True,
        )
    )
    for row in due:
        await change(uow, row["id"], {"status": "closed"}, actor="system", cause="solved_long_ago")
    return len(due)


async def sweep_snoozed(uow: UnitOfWork, *, limit: int = 200) -> int:
    """Reopen what was put off until now. Returns how many."""
    due = await uow.rows(
        uow.lock(
            select(inquiry.c.id)
            .where(inquiry.c.snooze_until.is_not(None), inquiry.c.snooze_until <= uow.now)
            .order_by(inquiry.c.snooze_until)
            .limit(limit),
            skip_locked=True,
        )
    )
    for row in due:
        await change(
            uow, row["id"], {"status": "open", "snooze_until": None}, actor="system", cause="snooze_over"
        )
    return len(due)
