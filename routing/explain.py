"""Why a piece of work went to whom it went, or why it still waits: as data with stable codes, and in words.

Reads only, each question bounded. What still waits is judged by the deciding code itself (`explain_waiting`); what
was decided is told from what the decision kept.
"""

from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.db.uow import Row, read_row, read_rows
from crm_core.errors import NotFound
from crm_core.schema import agent, inquiry
from crm_core.views import NUMBER_BASE, iso
from routing.explain_text import decision_text, merged_text, offer_text, state_text
from routing.explain_waiting import waiting_view
from routing.model import QUEUED, Item
from routing.schema import assignment, decision, offer, work_item

#: decisions and offers shown, newest last
MAX_DECISIONS = 20
MAX_OFFERS = 20
#: what it waited for once is no news of what is over
_UNDECIDED = ("waits", "parked", "requeued")


async def why(
    conn: AsyncConnection, inquiry_id: int, language: str = "en", *, now: int | None = None
) -> dict[str, Any]:
    """The routing story of an inquiry.

    `now`: ms UTC; needed for what a waiting item waits for. Without it the newest decision's instant is used.

    Returns:
        {"state", "text", "item_id", "decisions": [{id, at, trigger, outcome, agent_id, text, why}],
        "offers": [{id, agent, kind, state, reason, made_at, expires_at, ended_at, text}],
        "assignment": {agent, since, cause, forced} | None, "waiting": see explain_waiting, or None}

    Raises:
        NotFound: no such inquiry.
    """
    known = await read_row(conn, select(inquiry.c.merged_into_id).where(inquiry.c.id == inquiry_id))
    if known is None:
        raise NotFound(f"no inquiry {inquiry_id}", params={"inquiry_id": inquiry_id})
    row = await _newest(conn, "inquiry", inquiry_id)
    stored = await _decisions(conn, decision.c.inquiry_id == inquiry_id)
    return await _story(conn, row, stored, language, now, merged_into=known["merged_into_id"])


async def why_source(
    conn: AsyncConnection, kind: str, source_id: int, language: str = "en", *, now: int | None = None
) -> dict[str, Any]:
    """The same of a call or a callback that the caller knows to exist; `kind`: "call" or "callback"."""
    row = await _newest(conn, kind, source_id)
    stored = [] if row is None else await _decisions(conn, decision.c.item_id == row["id"])
    return await _story(conn, row, stored, language, now)


async def why_item(
    conn: AsyncConnection, item_id: int, language: str = "en", *, now: int | None = None
) -> dict[str, Any]:
    """The same of one work item. Raises NotFound."""
    row = await read_row(conn, select(work_item).where(work_item.c.id == item_id))
    if row is None:
        raise NotFound(f"no work item {item_id}", params={"item_id": item_id})
    stored = await _decisions(conn, decision.c.item_id == item_id)
    return await _story(conn, row, stored, language, now)


async def _story(
    conn: AsyncConnection,
    row: Row | None,
    stored: list[Row],
    language: str,
    now: int | None,
    *,
    merged_into: int | None = None,
) -> dict[str, Any]:
    decisions = [_decision(d, language) for d in stored]
    if row is None:
        return {
            "state": "none", "text": state_text("none", language), "item_id": None, "decisions": decisions,
            "offers": [], "assignment": None, "waiting": None,
        }  # fmt: skip
    item = Item.from_row(row)
    at = now if now is not None else (stored[-1]["at"] if stored else item.ready_at)
    placed_by = stored[-1]["rule_version"] if stored else None
    waiting = None
    offers = await _offers(conn, item.id, language, at)
    if item.state in QUEUED:
        offered = {o["agent"]["id"]: o["text"] for o in offers if o["state"] == "open"}
        waiting = await waiting_view(conn, item, language, at, placed_by=placed_by, offered=offered)
    text = state_text(item.state, language)
    if waiting is not None:
        text = f"{text} {waiting['text']}"
    elif merged_into is not None:
        text = f"{text} {merged_text(merged_into + NUMBER_BASE, language)}"
    elif decisions and decisions[-1]["outcome"] not in _UNDECIDED:
        # Of several who were asked, the decision does not know who was first.
        several = decisions[-1]["outcome"] == "broadcast"
        first = [o["text"] for o in offers if several and o["state"] == "accepted"]
        text = " ".join([text, *first[-1:], decisions[-1]["text"]])
    return {
        "state": item.state,
        "text": text,
        "item_id": item.id,
        "decisions": decisions,
        "offers": offers,
        "assignment": await _assignment(conn, item),
        "waiting": waiting,
    }


async def _newest(conn: AsyncConnection, kind: str, source_id: int) -> Row | None:
    return await read_row(
        conn,
        select(work_item)
        .where(work_item.c.source_kind == kind, work_item.c.source_id == source_id)
        .order_by(work_item.c.attempt.desc())
        .limit(1),
    )


async def _decisions(conn: AsyncConnection, whose: Any) -> list[Row]:
    newest = await read_rows(
        conn, select(decision).where(whose).order_by(decision.c.id.desc()).limit(MAX_DECISIONS)
    )
    return list(reversed(newest))


def _decision(row: Row, language: str) -> dict[str, Any]:
    return {
        "id": row["id"],
        "at": iso(row["at"]),
        "trigger": row["trigger"],
        "outcome": row["outcome"],
        "agent_id": row["agent_id"],
        "text": decision_text(row["why"], language),
        "why": row["why"],
        "rule_version": row["rule_version"],
        "replayable": row["input"] is not None,
    }


async def _offers(conn: AsyncConnection, item_id: int, language: str, now: int) -> list[dict[str, Any]]:
    """To whom it was offered, and how each offer ended."""
    rows = await read_rows(
        conn,
        select(offer, agent.c.name.label("agent_name"))
        .outerjoin(agent, agent.c.id == offer.c.agent_id)
        .where(offer.c.item_id == item_id)
        .order_by(offer.c.id.desc())
        .limit(MAX_OFFERS),
    )
    return [
        {
            "id": r["id"],
            "agent": {"id": r["agent_id"], "name": r["agent_name"]},
            "kind": r["kind"],
            "state": r["state"],
            "reason": r["reason"],
            "made_at": iso(r["created_at"]),
            "expires_at": iso(r["expires_at"]),
            "ended_at": iso(r["ended_at"]),
            "text": offer_text(
                r["agent_name"] or "", r["state"], r["reason"], r["expires_at"] - now, language
            ),
        }
        for r in reversed(rows)
    ]


async def _assignment(conn: AsyncConnection, item: Item) -> dict[str, Any] | None:
    if item.owner_id is None:
        return None
    row = await read_row(
        conn,
        select(assignment, agent.c.name)
        .outerjoin(agent, agent.c.id == assignment.c.agent_id)
        .where(assignment.c.item_id == item.id, assignment.c.ended_at.is_(None)),
    )
    if row is None:
        return None
    return {
        "agent": {"id": row["agent_id"], "name": row["name"]},
        "since": iso(row["started_at"]),
        "cause": row["cause"],
        "forced": row["forced"],
    }
