"""Telling people personally: durable notices, gathered per person and minute, with a line for each thing told.

Owns the notice tables. What a line says is the teller's business: it stores data, and who shows it puts it in the
reader's language. Nothing here sends anything; a mail is a job (package workers).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.clock import DAY, MINUTE, to_iso
from crm_core.db.uow import Row, UnitOfWork, read_rows
from crm_core.errors import Invalid, NotFound
from crm_core.events import Audience, DomainEvent
from crm_core.jobs import NewJob
from crm_core.schema import agent, inbox, notification, notification_line, setting

MAIL_JOB = "notice.mail"
#: the setting that names the email inbox by which notices are mailed
MAIL_INBOX = "notices.inbox_id"
#: in agent.settings: this person wants notices by mail too
WANTS_MAIL = "mail_notices"
KEEP_MS = 90 * DAY
#: lines of a notice that an event or a list carries; the rest is counted
SHOWN = 10


@dataclass(frozen=True, slots=True)
class Line:
    """One thing told to one person. `source` names it: the same source is told to a person once, ever."""

    agent_id: int
    source: str
    data: Mapping[str, Any]
    inquiry_id: int | None = None


async def tell(uow: UnitOfWork, kind: str, lines: Sequence[Line]) -> int:
    """Add lines to these people's notices of this minute. Returns how many were new.

    Locks the notices in order of person, after everything else the transaction locks. `kind` is "sla", "page" or
    "storm". People who are gone or inactive are left out.
    """
    fresh = await _fresh(uow, lines)
    if not fresh:
        return 0
    wanted = sorted({line.agent_id for line in fresh})
    statement = select(agent.c.id, agent.c.settings).where(agent.c.id.in_(wanted), agent.c.active)
    people = {row["id"]: row for row in await uow.rows(statement)}
    fresh = [line for line in fresh if line.agent_id in people]
    if not fresh:
        return 0
    minute = uow.now // MINUTE
    dialect = postgresql if uow.dialect == "postgresql" else sqlite
    made = dialect.insert(notification)
    made = made.on_conflict_do_update(
        index_elements=["agent_id", "kind", "minute"], set_={"updated_at": made.excluded.updated_at}
    )
    rows = await uow.execute(
        made.returning(notification.c.agent_id, notification.c.id),
        [
            {
                "agent_id": agent_id, "kind": kind, "minute": minute, "lines": 0, "created_at": uow.now,
                "updated_at": uow.now, "read_at": None, "mailed_at": None,
            }
            for agent_id in sorted(people)
        ],
    )  # fmt: skip
    ids = {int(agent_id): int(notice_id) for agent_id, notice_id in rows}
    added = dialect.insert(notification_line).on_conflict_do_nothing(index_elements=["agent_id", "source"])
    stored = await uow.execute(
        added.returning(notification_line.c.agent_id, notification_line.c.source),
        [
            {
                "notification_id": ids[line.agent_id], "agent_id": line.agent_id, "source": line.source,
                "inquiry_id": line.inquiry_id, "data": dict(line.data), "at": uow.now,
            }
            for line in fresh
        ],
    )  # fmt: skip
    new = {(int(agent_id), source) for agent_id, source in stored}
    for agent_id in sorted({agent_id for agent_id, _ in new}):
        mine = [x for x in fresh if x.agent_id == agent_id and (agent_id, x.source) in new]
        await _grow(uow, ids[agent_id], kind, mine, people[agent_id])
    return len(new)


async def _fresh(uow: UnitOfWork, lines: Sequence[Line]) -> list[Line]:
    """Each line once, without those that were told before (a job that ran twice)."""
    wanted = {(line.agent_id, line.source): line for line in lines}
    if not wanted:
        return []
    key = tuple_(notification_line.c.agent_id, notification_line.c.source)
    told = await uow.rows(
        select(notification_line.c.agent_id, notification_line.c.source).where(key.in_(list(wanted)))
    )
    known = {(row["agent_id"], row["source"]) for row in told}
    return [line for line_key, line in wanted.items() if line_key not in known]


async def _grow(uow: UnitOfWork, notice_id: int, kind: str, lines: Sequence[Line], person: Row) -> None:
    count = await uow.scalar(
        update(notification)
        .where(notification.c.id == notice_id)
        .values(lines=notification.c.lines + len(lines), updated_at=uow.now, read_at=None)
        .returning(notification.c.lines)
    )
    agent_id = person["id"]
    await uow.emit(
        DomainEvent(
            # A screen shows a notice once and lets it grow: the same id comes again with more lines.
            kind="notification.raised" if count == len(lines) else "notification.grown",
            subject_kind="notification", subject_id=notice_id, audience=Audience(agents=(agent_id,)),
            payload={
                "id": notice_id, "agent_id": agent_id, "kind": kind, "lines": int(count),
                "new": [{**line.data, "inquiry_id": line.inquiry_id} for line in lines[:SHOWN]],
            },
        )
    )  # fmt: skip
    if person["settings"].get(WANTS_MAIL) is True:
        end = (uow.now // MINUTE + 1) * MINUTE
        uow.enqueue(
            NewJob(name=MAIL_JOB, args={"id": notice_id}, run_at=end, dedupe=f"{MAIL_JOB}:{notice_id}")
        )


async def mark_read(uow: UnitOfWork, agent_id: int, notice_id: int) -> Row:
    """One notice of this person is read. Raises NotFound."""
    mine = (notification.c.id == notice_id) & (notification.c.agent_id == agent_id)
    row = await uow.row(uow.lock(select(notification).where(mine)))
    if row is None:
        raise NotFound(f"no notification {notice_id}", params={"notification_id": notice_id})
    if row["read_at"] is None:
        await uow.execute(update(notification).where(mine).values(read_at=uow.now))
        await _tell_read(uow, agent_id, {"id": notice_id})
    return {**row, "read_at": row["read_at"] or uow.now}


async def mark_all_read(uow: UnitOfWork, agent_id: int, up_to: int | None = None) -> int:
    """Every unread notice of this person (with an id up to `up_to`) is read. Returns how many were not."""
    unread = (notification.c.agent_id == agent_id) & notification.c.read_at.is_(None)
    if up_to is not None:
        unread &= notification.c.id <= up_to
    done = await uow.execute(update(notification).where(unread).values(read_at=uow.now))
    if done.rowcount:
        await _tell_read(uow, agent_id, {"up_to": up_to})
    return int(done.rowcount)


async def want_mail(uow: UnitOfWork, agent_id: int, *, wanted: bool) -> None:
    """Whether this person's notices are mailed as well."""
    row = await uow.row(uow.lock(select(agent.c.settings).where(agent.c.id == agent_id)))
    if row is None:
        raise NotFound(f"no agent {agent_id}")
    await uow.update(agent, agent_id, {"settings": {**row["settings"], WANTS_MAIL: wanted}})


async def mail_inbox(conn: AsyncConnection) -> int | None:
    """The inbox by which notices are mailed, if one is named."""
    stored = await conn.scalar(select(setting.c.value).where(setting.c.key == MAIL_INBOX))
    return int(stored) if stored else None


async def set_mail_inbox(uow: UnitOfWork, inbox_id: int | None, *, actor: str) -> None:
    """Name the email inbox by which notices are mailed, or none. Raises Invalid (bad_mail_inbox)."""
    known = select(inbox.c.id).where(inbox.c.id == inbox_id, inbox.c.channel == "email")
    if inbox_id is not None and await uow.scalar(known) is None:
        raise Invalid(
            f"{inbox_id} is no email inbox", code="bad_mail_inbox",
            params={"errors": [{"loc": ["body", "inbox_id"], "msg": "not an email inbox"}]},
        )  # fmt: skip
    # Not null: JSON null and no row would be two ways to say the same.
    value = inbox_id or 0
    if await uow.insert_new(setting, {"key": MAIL_INBOX, "value": value}, key=["key"]) is None:
        await uow.execute(update(setting).where(setting.c.key == MAIL_INBOX).values(value=value))
    await uow.emit(
        DomainEvent(
            kind="notification.inbox_changed", subject_kind="inbox", subject_id=inbox_id or 0, actor=actor,
            payload={"inbox_id": inbox_id},
        )
    )  # fmt: skip


async def _tell_read(uow: UnitOfWork, agent_id: int, what: Mapping[str, Any]) -> None:
    """The person's other screens take it off too."""
    await uow.emit(
        DomainEvent(
            kind="notification.read", subject_kind="agent", subject_id=agent_id, actor=f"agent:{agent_id}",
            audience=Audience(agents=(agent_id,)), payload={"agent_id": agent_id, **what},
        )
    )  # fmt: skip


async def forget(uow: UnitOfWork, *, batch: int = 500) -> None:
    """Delete a bounded batch of the oldest notices that were told long ago, with their lines."""
    oldest = select(notification.c.id).order_by(notification.c.id).limit(batch)
    await uow.execute(
        delete(notification).where(
            notification.c.id.in_(oldest.scalar_subquery()), notification.c.updated_at < uow.now - KEEP_MS
        )
    )


async def unread(conn: AsyncConnection, agent_id: int, *, at_most: int = 100) -> int:
    """How many notices wait for this person, counted up to `at_most`."""
    waiting = (
        select(notification.c.id)
        .where(notification.c.agent_id == agent_id, notification.c.read_at.is_(None))
        .limit(at_most)
        .subquery()
    )
    return int((await conn.execute(select(func.count()).select_from(waiting))).scalar_one())


async def lines_of(conn: AsyncConnection, notice_ids: Sequence[int]) -> dict[int, list[Row]]:
    """The first lines of these notices, at most SHOWN each, in the order told."""
    number = (
        func.row_number()
        .over(partition_by=notification_line.c.notification_id, order_by=notification_line.c.id)
        .label("n")
    )
    numbered = (
        select(notification_line, number)
        .where(notification_line.c.notification_id.in_(notice_ids))
        .subquery()
    )
    found: dict[int, list[Row]] = {i: [] for i in notice_ids}
    if notice_ids:
        shown = select(numbered).where(numbered.c.n <= SHOWN).order_by(numbered.c.id)
        for row in await read_rows(conn, shown):
            found[row["notification_id"]].append(row)
    return found


def view(row: Row, lines: Sequence[Row], texts: Sequence[str]) -> dict[str, Any]:
    """A notice as the API shows it; `texts` are its lines in the reader's language."""
    return {
        "id": row["id"],
        "kind": row["kind"],
        "count": row["lines"],
        "created_at": to_iso(row["created_at"]),
        "updated_at": to_iso(row["updated_at"]),
        "read_at": None if row["read_at"] is None else to_iso(row["read_at"]),
        "lines": [
            {"text": text, "inquiry_id": line["inquiry_id"], "at": to_iso(line["at"]), "data": line["data"]}
            for line, text in zip(lines, texts, strict=True)
        ],
    }


__all__ = [
    "Line",
    "lines_of",
    "mail_inbox",
    "mark_all_read",
    "mark_read",
    "set_mail_inbox",
    "tell",
    "unread",
    "view",
    "want_mail",
]
