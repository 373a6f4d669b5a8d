"""Where a visitor stands in the queue for a person, as he may know it."""

from typing import Any

from sqlalchemy import select

from api.chat.sessions import ChatSession, find_thread
from api.layer.routes import Call
from crm_core.db.uow import read_row
from crm_core.schema import inquiry
from crm_core.views import iso
from routing import expected_wait
from routing.model import Channel
from routing.wait_model import Basis
from routing.wait_text import wait_text

_OPEN = ("new", "open", "pending", "hold")


async def queue_state(call: Call, session: ChatSession) -> dict[str, Any]:
    """{"state": none | bot | closed | waiting | served, "position", "low_min", "high_min", "offer_callback",
    "opens_at", "text"}; the numbers are None but in `waiting`, and the minutes also where too little is known.
    `closed`: it waits for the team's next opening.
    """
    thread = await find_thread(call.db, session)
    none: dict[str, Any] = {
        "state": "none", "position": None, "low_min": None, "high_min": None, "offer_callback": False,
        "opens_at": None, "text": "",
    }  # fmt: skip
    if thread is None:
        return none
    async with call.db.reading() as conn:
        row = await read_row(
            conn,
            select(inquiry)
            .where(inquiry.c.conversation_id == thread["id"], inquiry.c.status.in_(_OPEN))
            .order_by(inquiry.c.id.desc())
            .limit(1),
        )
        if row is None:
            return none
        if row["held_by_bot"]:
            return {**none, "state": "bot"}
        wait = await expected_wait.of_inquiry(conn, row["id"], call.now)
        if wait is None and row["assignee_id"] is not None:
            return {**none, "state": "served"}
        if wait is None:
            wait = await expected_wait.estimate(conn, row["team_id"], Channel.CHAT, call.now)
            if wait.basis != Basis.CLOSED:
                return none
    language = row["language"] or thread["language"] or session.locale or session.inbox["language"]
    if wait.basis == Basis.CLOSED:
        told = {"opens_at": iso(wait.opens_at), "text": wait_text(wait, language, callback=True)}
        return {**none, "state": "closed", "offer_callback": True, **told}
    return {
        "state": "waiting",
        "opens_at": None,
        "position": wait.position,
        "low_min": wait.low_min,
        "high_min": wait.high_min,
        "offer_callback": wait.offers_callback,
        "text": wait_text(wait, language),
    }
