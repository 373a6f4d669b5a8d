"""Builders of a recorded past whose truth is known: rows as the product would have left them."""

from collections.abc import Sequence
from itertools import count
from typing import Any

from sqlalchemy import insert

from crm_core.clock import to_iso
from crm_core.db.engine import Database
from crm_core.schema import call, event
from routing.model import Item
from routing.schema import assignment, calendar, offer, work_item
from tests.routing.engine.desk import a_contact, a_team, an_agent, an_inbox, an_inquiry

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
#: Monday 2 June 2025, 00:00 in Kyiv (summer time, UTC+3)
MONDAY = 1_748_811_600_000
KYIV = "Europe/Kyiv"
#: ids of sources that do not exist, each once
_SOURCES = count(10_000_000)


async def a_calendar(db: Database, name: str = "Hours", **spec: Any) -> int:
    """Monday to Friday 9-18 in Kyiv, unless told otherwise."""
    week = {day: [["09:00", "18:00"]] for day in ("mon", "tue", "wed", "thu", "fri")}
    async with db.transaction() as uow:
        return await uow.insert(
            calendar,
            {"name": name, "spec": {"tz": KYIV, "week": week, **spec}, "version": 1, "updated_at": uow.now},
        )


def an_item(*, ready_at: int, team_id: int | None = None, **facts: Any) -> dict[str, Any]:
    """A row of work_item, done, of no inquiry."""
    item = Item(
        id=0, source_kind="inquiry", source_id=next(_SOURCES), team_id=team_id, home_team_id=team_id,
        channel="chat", state="done", order_key=ready_at, ready_at=ready_at, step_entered_at=ready_at,
        created_at=ready_at,
    )  # fmt: skip
    return item.as_values() | facts


async def items_handled(
    db: Database, told: Sequence[tuple[int, int, int]], *, team_id: int, agent_id: int, channel: str = "chat",
    **facts: Any,
) -> list[int]:  # fmt: skip
    """Items of (ready, wait, handle time) each, ms, all by one agent. Returns their ids."""
    async with db.transaction() as uow:
        ids = []
        for ready, wait, handle in told:
            row = an_item(
                ready_at=ready, team_id=team_id, channel=channel,
                ended_at=ready + wait + handle, **facts,
            )  # fmt: skip
            ids.append(await uow.insert(work_item, row))
        await uow.execute(
            insert(assignment),
            [
                {
                    "item_id": item_id, "inquiry_id": None, "agent_id": agent_id, "channel": channel, "weight": 25,
                    "holds_slot": True, "forced": False, "cause": "offer", "decision_id": None,
                    "started_at": ready + wait, "ended_at": ready + wait + handle, "end_cause": "done",
                }
                for item_id, (ready, wait, handle) in zip(ids, told, strict=True)
            ],
        )  # fmt: skip
        return ids


async def calls_in(
    db: Database,
    told: Sequence[tuple[int, int, int | None, int | None]],
    *,
    inbox_id: int,
    contact_id: int | None = None,
) -> None:
    """Inbound calls of (start, wait, talk or None if he gave up, agent), ms."""
    async with db.transaction() as uow:
        await uow.execute(
            insert(call),
            [
                {
                    "inbox_id": inbox_id, "call_key": f"c{n}-{start}", "direction": "inbound",
                    "from_number": None, "to_number": None, "did": None, "state": "ended",
                    "disposition": "abandoned" if talk is None else "answered", "started_at": start,
                    "answered_at": None if talk is None else start + wait, "ended_at": start + wait + (talk or 0),
                    "missed_check_at": None, "stuck_at": None, "finalized": True, "contact_id": contact_id,
                    "conversation_id": None, "inquiry_id": None, "agent_id": agent_id, "message_id": None,
                    "callback_attempt_id": None, "correlation_id": None, "data": {}, "created_at": start,
                    "updated_at": start,
                }
                for n, (start, wait, talk, agent_id) in enumerate(told)
            ],
        )  # fmt: skip


async def presences(db: Database, told: Sequence[tuple[int, int, str]]) -> None:
    """Events presence.changed of (agent, instant, presence), in order of time."""
    last: dict[int, str] = {}
    rows = []
    for agent_id, at, presence in told:
        rows.append(
            {
                "tx": 0, "kind": "presence.changed", "at": at, "actor": f"agent:{agent_id}",
                "subject_kind": "agent", "subject_id": agent_id, "inquiry_id": None, "conversation_id": None,
                "payload": {"agent_id": agent_id, "presence": presence, "reason": None,
                            "previous": last.get(agent_id, "offline"), "since": to_iso(at)},
                "audience": {},
            }
        )  # fmt: skip
        last[agent_id] = presence
    async with db.transaction() as uow:
        await uow.execute(insert(event), rows)


async def offers_made(db: Database, told: Sequence[tuple[int, int, str, int, int]]) -> None:
    """Offers of (item, agent, state, made, ended)."""
    async with db.transaction() as uow:
        await uow.execute(
            insert(offer),
            [
                {
                    "item_id": item_id, "agent_id": agent_id, "channel": "chat", "kind": "one", "state": state, "attempt": 1,
                    "token": f"t{n}", "weight": 25, "reason": None, "decision_id": None, "created_at": made,
                    "expires_at": made + 25_000, "ended_at": ended,
                }
                for n, (item_id, agent_id, state, made, ended) in enumerate(told)
            ],
        )  # fmt: skip


__all__ = [
    "DAY",
    "HOUR",
    "KYIV",
    "MINUTE",
    "MONDAY",
    "a_calendar",
    "a_contact",
    "a_team",
    "an_agent",
    "an_inbox",
    "an_inquiry",
    "an_item",
    "calls_in",
    "items_handled",
    "offers_made",
    "presences",
]
