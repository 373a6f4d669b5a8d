"""The shape of an inquiry, loaded for a whole page with a fixed number of queries."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Select, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from api.layer.fields import InstantOut, Out
from crm_core.schema import agent, contact, conversation, inquiry, message, team
from crm_core.views import NUMBER_BASE, iso
from routing.business_time import Calendar
from routing.schema import calendar, sla_clock

Data = dict[str, Any]
_LIVE_CLOCKS = ("active", "paused")
#: compiled calendars by (id, version): a version never changes
_CALENDARS: dict[tuple[int, int], Calendar] = {}


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


class ClockOut(Out):
    id: int
    inquiry_id: int
    metric: str
    instance: int
    state: str
    business: bool
    due_at: InstantOut | None
    breach_at: InstantOut | None
    breached_at: InstantOut | None
    fulfilled_at: InstantOut | None
    paused_since: InstantOut | None
    pause_reasons: list[str]
    target_ms: int | None
    elapsed_ms: int
    policy_id: int | None
    policy_version: int | None
    cause: str | None


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
        select(inquiry, contact.c.name.label("contact_name"), contact.c.vip.label("contact_vip"),
               team.c.name.label("team_name"), agent.c.name.label("assignee_name"),
               conversation.c.last_seq.label("last_seq"), conversation.c.agent_read_seq.label("agent_read_seq"))
        .join(contact, contact.c.id == inquiry.c.contact_id)
        .outerjoin(team, team.c.id == inquiry.c.team_id)
        .outerjoin(agent, agent.c.id == inquiry.c.assignee_id)
        .outerjoin(conversation, conversation.c.id == inquiry.c.conversation_id)
    )


async def show_inquiries(conn: AsyncConnection, rows: Sequence[Mapping[Any, Any]], *, now: int) -> list[Data]:
    """Rows of `inquiry_statement` as the API shows them. At most three more queries."""
    clocks = await load_clocks(conn, [r["id"] for r in rows], now=now)
    newest = await _newest(conn, rows)
    return [_show(r, clocks.get(r["id"], []), newest.get(r["conversation_id"])) for r in rows]


async def show_inquiry(conn: AsyncConnection, inquiry_id: int, *, now: int) -> Data:
    rows = (await conn.execute(inquiry_statement().where(inquiry.c.id == inquiry_id))).mappings().all()
    return (await show_inquiries(conn, rows, now=now))[0]


def _show(row: Mapping[Any, Any], clocks: list[Data], last: Mapping[Any, Any] | None) -> Data:
    return {
        "id": row["id"], "number": row["id"] + NUMBER_BASE, "kind": row["kind"], "status": row["status"],
        "stage": row["stage"], "outcome": row["outcome"], "subject": row["subject"], "channel": row["channel"],
        "priority": row["priority"], "inbox_id": row["inbox_id"], "conversation_id": row["conversation_id"],
        "contact": {"id": row["contact_id"], "name": row["contact_name"], "vip": row["contact_vip"]},
        "team": {"id": row["team_id"], "name": row["team_name"]} if row["team_id"] is not None else None,
        "assignee": {"id": row["assignee_id"], "name": row["assignee_name"]} if row["assignee_id"] is not None else None,
        "tags": row["tags"], "language": row["language"], "source": row["source"], "value_minor": row["value_minor"],
        "currency": row["currency"], "fields": row["fields"], "held_by_bot": row["held_by_bot"],
        "merged_into_id": row["merged_into_id"], "version": row["version"], "created_at": iso(row["created_at"]),
        "updated_at": iso(row["updated_at"]), "solved_at": iso(row["solved_at"]), "closed_at": iso(row["closed_at"]),
        "snooze_until": iso(row["snooze_until"]),
        "last_message": _last(last),
        "unread": last is not None and last["direction"] == "in" and last["seq"] > (row["agent_read_seq"] or 0),
        "sla": clocks,
    }


def _last(row: Mapping[Any, Any] | None) -> Data | None:
    if row is None:
        return None
    return {"text": row["text"][:200], "at": iso(row["created_at"]), "author_kind": row["author_kind"],
            "direction": row["direction"]}


async def _newest(conn: AsyncConnection, rows: Iterable[Mapping[Any, Any]]) -> dict[int, Mapping[Any, Any]]:
    """The last message of each conversation, found by its number: one probe each, however long the thread."""
    wanted = [(r["conversation_id"], r["last_seq"]) for r in rows if r["conversation_id"] is not None and r["last_seq"]]
    if not wanted:
        return {}
    found = await conn.execute(
        select(message.c.conversation_id, message.c.text, message.c.created_at, message.c.author_kind,
               message.c.direction, message.c.seq)
        .where(tuple_(message.c.conversation_id, message.c.seq).in_(wanted)))
    return {m["conversation_id"]: m for m in found.mappings()}


async def load_clocks(conn: AsyncConnection, inquiry_ids: Sequence[int], *, now: int) -> dict[int, list[Data]]:
    """Clocks by inquiry: live ones first, the most urgent before the others, then those that have ended."""
    if not inquiry_ids:
        return {}
    rows = (await conn.execute(select(sla_clock).where(sla_clock.c.inquiry_id.in_(inquiry_ids)))).mappings().all()
    hours = await _calendars(conn, rows)
    found: dict[int, list[Data]] = {}
    for row in sorted(rows, key=_urgency):
        found.setdefault(row["inquiry_id"], []).append(show_clock(row, hours, now=now))
    return found


def _urgency(row: Mapping[Any, Any]) -> tuple[bool, int, int]:
    due = row["due_at"]
    return row["state"] not in _LIVE_CLOCKS, due if due is not None else 2**62, -int(row["id"])


def show_clock(row: Mapping[Any, Any], hours: Mapping[int, Calendar], *, now: int) -> Data:
    running = 0
    if row["state"] == "active" and row["running_since"] is not None:
        calendar_ = hours.get(row["calendar_id"]) if row["business"] else None
        since = row["running_since"]
        running = calendar_.elapsed(since, now) if calendar_ is not None else max(0, now - since)
    return {
        "id": row["id"], "inquiry_id": row["inquiry_id"], "metric": row["metric"], "instance": row["instance"],
        "state": row["state"], "business": row["business"], "due_at": iso(row["due_at"]),
        "breach_at": iso(row["breach_at"]), "breached_at": iso(row["breached_at"]),
        "fulfilled_at": iso(row["fulfilled_at"]), "paused_since": iso(row["paused_since"]),
        "pause_reasons": [str(r) for r in row["pause_reasons"]], "target_ms": row["target_ms"],
        "elapsed_ms": row["consumed_ms"] + running, "policy_id": row["policy_id"],
        "policy_version": row["policy_version"], "cause": row["cause"],
    }


async def show_clocks(conn: AsyncConnection, rows: Sequence[Mapping[Any, Any]], *, now: int) -> list[Data]:
    hours = await _calendars(conn, rows)
    return [show_clock(row, hours, now=now) for row in rows]


async def _calendars(conn: AsyncConnection, clocks: Iterable[Mapping[Any, Any]]) -> dict[int, Calendar]:
    wanted = {c["calendar_id"] for c in clocks
              if c["business"] and c["calendar_id"] is not None and c["state"] == "active"}
    if not wanted:
        return {}
    found = {}
    rows = await conn.execute(select(calendar).where(calendar.c.id.in_(sorted(wanted))))
    for row in rows.mappings():
        key = (row["id"], row["version"])
        if key not in _CALENDARS:
            _CALENDARS[key] = Calendar.from_spec(row["spec"], id=row["id"], version=row["version"], name=row["name"])
        found[row["id"]] = _CALENDARS[key]
    return found
