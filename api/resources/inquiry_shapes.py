"""The shape of an inquiry, loaded for a whole page with a fixed number of queries."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import Select, exists, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from api.layer.fields import In, InstantOut, Out
from crm_core.schema import agent, contact, conversation, inquiry, message, team
from crm_core.views import NUMBER_BASE, iso
from routing.sla.views import views_of

Data = dict[str, Any]
Level = Annotated[int, Field(ge=1, le=5)]


class WishIn(In):
    """A skill asked for. `preferred`: better with it than without; `hard`: never lowered by a ring."""

    level: Level = 1
    preferred: bool = False
    hard: bool = False


Requirements = Annotated[
    dict[Annotated[str, Field(pattern=r"^[a-z0-9_.:\-]{1,80}$")], Level | WishIn], Field(max_length=20)
]


def stored_requirements(wanted: Requirements) -> Data:
    """As the column holds them: a level, or an object of what was said."""
    return {s: w if isinstance(w, int) else w.model_dump(exclude_defaults=True) for s, w in wanted.items()}


class RefOut(Out):
    id: int
    name: str | None


class ContactRefOut(Out):
    id: int
    name: str | None
    vip: bool


class LastMessageOut(Out):
    text: str
    at: InstantOut
    author_kind: str
    direction: str


class PolicyRefOut(Out):
    id: int
    key: str
    version: int
    name: str


class ClockOut(Out):
    id: int
    inquiry_id: int
    metric: str
    instance: int
    state: str
    activated_at: InstantOut
    due_at: InstantOut | None
    breach_at: InstantOut | None
    breached_at: InstantOut | None
    fulfilled_at: InstantOut | None
    cause: str | None
    business: bool
    target_ms: int | None
    elapsed_ms: int
    remaining_ms: int | None
    paused: bool
    paused_since: InstantOut | None
    paused_ms: int
    pause_reasons: list[str]
    priority: str | None
    policy_id: int | None
    policy_version: int | None
    policy: PolicyRefOut | None
    calendar_id: int | None
    calendar_version: int | None


class InquiryOut(Out):
    id: int
    number: int
    kind: str
    status: str
    stage: str | None
    outcome: str | None
    subject: str
    channel: str
    priority: str
    inbox_id: int | None
    conversation_id: int | None
    contact: ContactRefOut
    team: RefOut | None
    assignee: RefOut | None
    tags: list[str]
    language: str
    source: str | None
    value_minor: int | None
    currency: str | None
    fields: dict[str, Any]
    requirements: Annotated[
        dict[str, Any], Field(description="skills asked for beyond the language, see docs/routing.md")
    ]
    held_by_bot: bool
    merged_into_id: int | None
    version: int
    created_at: InstantOut
    updated_at: InstantOut
    solved_at: InstantOut | None
    closed_at: InstantOut | None
    snooze_until: InstantOut | None
    last_message: LastMessageOut | None
    unread: bool
    sla: list[ClockOut]


def inquiry_statement() -> Select[Any]:
    """Inquiries with the names around them."""
    return (
        select(
            inquiry,
            contact.c.name.label("contact_name"),
            contact.c.vip.label("contact_vip"),
            team.c.name.label("team_name"),
            agent.c.name.label("assignee_name"),
            conversation.c.last_seq.label("last_seq"),
            conversation.c.agent_read_seq.label("agent_read_seq"),
        )
        .join(contact, contact.c.id == inquiry.c.contact_id)
        .outerjoin(team, team.c.id == inquiry.c.team_id)
        .outerjoin(agent, agent.c.id == inquiry.c.assignee_id)
        .outerjoin(conversation, conversation.c.id == inquiry.c.conversation_id)
    )


async def show_inquiries(conn: AsyncConnection, rows: Sequence[Mapping[Any, Any]], *, now: int) -> list[Data]:
    """Rows of `inquiry_statement` as the API shows them. At most four more queries."""
    clocks = await views_of(conn, [r["id"] for r in rows], now)
    newest = await _newest(conn, rows)
    unread = await _unread(conn, rows, newest)
    return [
        _show(
            r,
            clocks.get(r["id"], []),
            newest.get(r["conversation_id"]),
            unread=r["conversation_id"] in unread,
        )
        for r in rows
    ]


async def show_inquiry(conn: AsyncConnection, inquiry_id: int, *, now: int) -> Data:
    rows = (await conn.execute(inquiry_statement().where(inquiry.c.id == inquiry_id))).mappings().all()
    return (await show_inquiries(conn, rows, now=now))[0]


def _show(
    row: Mapping[Any, Any], clocks: list[Data], last: Mapping[Any, Any] | None, *, unread: bool
) -> Data:
    return {
        "id": row["id"],
        "number": row["id"] + NUMBER_BASE,
        "kind": row["kind"],
        "status": row["status"],
        "stage": row["stage"],
        "outcome": row["outcome"],
        "subject": row["subject"],
        "channel": row["channel"],
        "priority": row["priority"],
        "inbox_id": row["inbox_id"],
        "conversation_id": row["conversation_id"],
        "contact": {"id": row["contact_id"], "name": row["contact_name"], "vip": row["contact_vip"]},
        "team": {"id": row["team_id"], "name": row["team_name"]} if row["team_id"] is not None else None,
        "assignee": {"id": row["assignee_id"], "name": row["assignee_name"]}
        if row["assignee_id"] is not None
        else None,
        "tags": row["tags"],
        "language": row["language"],
        "source": row["source"],
        "value_minor": row["value_minor"],
        "currency": row["currency"],
        "fields": row["fields"],
        "requirements": row["requirements"],
        "held_by_bot": row["held_by_bot"],
        "merged_into_id": row["merged_into_id"],
        "version": row["version"],
        "created_at": iso(row["created_at"]),
        "updated_at": iso(row["updated_at"]),
        "solved_at": iso(row["solved_at"]),
        "closed_at": iso(row["closed_at"]),
        "snooze_until": iso(row["snooze_until"]),
        "last_message": _last(last),
        "unread": unread,
        "sla": clocks,
    }


def _last(row: Mapping[Any, Any] | None) -> Data | None:
    if row is None:
        return None
    return {
        "text": row["text"][:200],
        "at": iso(row["created_at"]),
        "author_kind": row["author_kind"],
        "direction": row["direction"],
    }


async def _newest(conn: AsyncConnection, rows: Iterable[Mapping[Any, Any]]) -> dict[int, Mapping[Any, Any]]:
    """The last message of each conversation, found by its number: one probe each, however long the thread."""
    wanted = [
        (r["conversation_id"], r["last_seq"])
        for r in rows
        if r["conversation_id"] is not None and r["last_seq"]
    ]
    if not wanted:
        return {}
    found = await conn.execute(
        select(
            message.c.conversation_id,
            message.c.text,
            message.c.created_at,
            message.c.author_kind,
            message.c.direction,
            message.c.seq,
        ).where(tuple_(message.c.conversation_id, message.c.seq).in_(wanted))
    )
    return {m["conversation_id"]: m for m in found.mappings()}


async def _unread(
    conn: AsyncConnection, rows: Iterable[Mapping[Any, Any]], newest: Mapping[int, Mapping[Any, Any]]
) -> set[int]:
    """Conversations with words of the customer that no agent has seen, whatever the bot has answered to them."""
    wanted = []
    for row in rows:
        last = newest.get(row["conversation_id"])
        if last is not None and last["seq"] > (row["agent_read_seq"] or 0):
            wanted.append(row["conversation_id"])
    if not wanted:
        return set()
    found = await conn.execute(
        select(conversation.c.id).where(
            conversation.c.id.in_(wanted),
            exists().where(
                message.c.conversation_id == conversation.c.id,
                message.c.seq > conversation.c.agent_read_seq,
                message.c.direction == "in",
            ),
        )
    )
    return set(found.scalars())
