"""The JSON shape of an offer, for the API and for events. Reads only."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.selectable import Select

from crm_core.db.prepared import Prepared, any_of, fetch
from crm_core.schema import agent, call, contact, inquiry
from crm_core.views import NUMBER_BASE, iso
from routing.explain_text import decision_text
from routing.schema import callback, decision, offer, work_item


async def open_offers(
    conn: AsyncConnection, *, agent_id: int | None = None, language: str | None = None, limit: int = 200
) -> list[dict[str, Any]]:
    """Open offers, oldest first: of one agent, or of all for a supervisor."""
    statement = (
        _statement().where(offer.c.state == "open").order_by(offer.c.expires_at, offer.c.id).limit(limit)
    )
    if agent_id is not None:
        statement = statement.where(offer.c.agent_id == agent_id)
    return [_shown(r, language) for r in (await conn.execute(statement)).mappings()]


async def offers_by_id(
    conn: AsyncConnection, offer_ids: Sequence[int], *, language: str | None = None
) -> list[dict[str, Any]]:
    """These offers in any state; the text in `language`, else in the language of the offer's agent."""
    return [_shown(r, language) for r in await fetch(conn, _BY_ID, {"ids": list(offer_ids)})]


def _statement() -> Select[Any]:
    return (
        select(
            offer,
            work_item.c.source_kind,
            work_item.c.source_id,
            work_item.c.inquiry_id,
            work_item.c.vip,
            decision.c.why,
            agent.c.language.label("agent_language"),
            inquiry.c.subject,
            inquiry.c.kind.label("inquiry_kind"),
            inquiry.c.status,
            inquiry.c.priority,
            inquiry.c.channel.label("inquiry_channel"),
            inquiry.c.language.label("inquiry_language"),
            contact.c.id.label("contact_id"),
            contact.c.name.label("contact_name"),
            contact.c.vip.label("contact_vip"),
            callback.c.phone,
            callback.c.window_start,
            callback.c.window_end,
            callback.c.note,
            call.c.from_number,
            call.c.direction,
        )
        .join(work_item, work_item.c.id == offer.c.item_id)
        .outerjoin(decision, decision.c.id == offer.c.decision_id)
        .outerjoin(agent, agent.c.id == offer.c.agent_id)
        .outerjoin(inquiry, inquiry.c.id == work_item.c.inquiry_id)
        .outerjoin(contact, contact.c.id == work_item.c.contact_id)
        .outerjoin(
            callback, (work_item.c.source_kind == "callback") & (callback.c.id == work_item.c.source_id)
        )
        .outerjoin(call, (work_item.c.source_kind == "call") & (call.c.id == work_item.c.source_id))
    )


def _shown(row: Mapping[str, Any], language: str | None) -> dict[str, Any]:
    person = {"id": row["contact_id"], "name": row["contact_name"], "vip": bool(row["contact_vip"])}
    shown: dict[str, Any] = {
        "id": row["id"],
        "item_id": row["item_id"],
        "inquiry_id": row["inquiry_id"],
        "inquiry": None,
        "call": None,
        "callback": None,
        "channel": row["channel"],
        "agent_id": row["agent_id"],
        "state": row["state"],
        "broadcast": row["kind"] == "broadcast",
        "reason": row["reason"],
        "created_at": iso(row["created_at"]),
        "expires_at": iso(row["expires_at"]),
        "why_text": decision_text(row["why"], language or row["agent_language"] or "en")
        if row["why"]
        else "",
    }
    if row["inquiry_id"] is not None:
        shown["inquiry"] = {
            "id": row["inquiry_id"],
            "number": row["inquiry_id"] + NUMBER_BASE,
            "kind": row["inquiry_kind"],
            "status": row["status"],
            "subject": row["subject"],
            "channel": row["inquiry_channel"],
            "priority": row["priority"],
            "language": row["inquiry_language"],
            "contact": person,
        }
    if row["source_kind"] == "callback":
        shown["callback"] = {
            "id": row["source_id"], "phone": row["phone"], "contact": person, "note": row["note"],
            "window_start": iso(row["window_start"]), "window_end": iso(row["window_end"]),
        }  # fmt: skip
    if row["source_kind"] == "call":
        shown["call"] = {
            "id": row["source_id"],
            "from": row["from_number"],
            "direction": row["direction"],
            "contact": person,
        }
    return shown


_BY_ID = Prepared(_statement().where(any_of(offer.c.id, "ids")).order_by(offer.c.id))
