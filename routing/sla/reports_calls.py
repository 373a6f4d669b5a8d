"""Calls in the service report: how long each caller waited, and how it ended.

A call is read from its own row, not from a speed_of_answer clock: a clock needs a request, and a call that somebody
answers at once opens none. Chats have requests, and are read by their clocks (`reports_queue`).
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.schema import call, inbox, inquiry

_PAGE = 500
#: lines that fell silent: nobody can say how they ended
_UNKNOWN = "unknown"


class End(StrEnum):
    ANSWERED = "answered"
    ABANDONED = "abandoned"
    CALLBACK = "callback"
    WAITING = "waiting"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class CallWait:
    """One inbound call: when it came, how it ended, and the wait until then in ms."""

    at: int
    end: End
    wait_ms: int
    facts: Mapping[str, Any]


async def waits(conn: AsyncConnection, begin: int, end: int, now: int) -> AsyncIterator[CallWait]:
    """The inbound calls that began in [begin, end), oldest first, by the index of their beginning.

    `facts`: the line's team (else the request's), who spoke, the channel, the metric and the priority: that of the
    request the call belongs to, else of the line.
    """
    behind = (begin, 0)
    while True:
        statement = (
            select(
                call.c.id, call.c.started_at, call.c.answered_at, call.c.ended_at, call.c.disposition,
                call.c.agent_id, call.c.data, func.coalesce(inbox.c.team_id, inquiry.c.team_id).label("team_id"),
                func.coalesce(inquiry.c.priority, inbox.c.priority).label("priority"), inbox.c.channel,
            )
            .select_from(
                call.join(inbox, inbox.c.id == call.c.inbox_id).outerjoin(
                    inquiry, inquiry.c.id == call.c.inquiry_id
                )
            )
            .where(
                call.c.direction == "inbound", call.c.started_at < end,
                tuple_(call.c.started_at, call.c.id) > behind,
            )
            .order_by(call.c.started_at, call.c.id)
            .limit(_PAGE)
        )  # fmt: skip
        rows = (await conn.execute(statement)).mappings().all()
        for row in rows:
            yield _wait(row, now)
        if len(rows) < _PAGE:
            return
        behind = (int(rows[-1]["started_at"]), int(rows[-1]["id"]))


def _wait(row: Mapping[Any, Any], now: int) -> CallWait:
    began, over = int(row["started_at"]), row["ended_at"]
    if row["answered_at"] is not None and row["disposition"] in (None, "answered"):
        end, until = End.ANSWERED, row["answered_at"]
    elif isinstance(row["data"].get("callback_id"), int):
        end, until = End.CALLBACK, over  # he hung up and keeps his place
    elif over is None:
        end, until = End.WAITING, now
    elif row["disposition"] == _UNKNOWN:
        end, until = End.WITHDRAWN, over
    else:
        end, until = End.ABANDONED, over
    facts = {
        "team": row["team_id"],
        "agent": row["agent_id"],
        "channel": row["channel"],
        "metric": "speed_of_answer",
        "priority": row["priority"],
    }
    return CallWait(began, end, max((until if until is not None else now) - began, 0), facts)
