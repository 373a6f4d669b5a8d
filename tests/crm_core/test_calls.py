"""Calls as they are stored: what a missed one opens, and that it is counted once."""

import asyncio
from typing import Any

from sqlalchemy import select

from crm_core import calls
from crm_core.call_state import MISSED_GRACE_MS, STUCK_RINGING_MS
from crm_core.clock import SECOND
from crm_core.db.engine import Database
from crm_core.envelope import CallEvent, Envelope, Kind, Sender
from crm_core.schema import call, inbox, inquiry
from tests.conftest import MovableClock

CUSTOMER = "+380501234567"


async def a_line(db: Database) -> dict[str, Any]:
    async with db.transaction() as uow:
        values: dict[str, Any] = {
            "key": "line", "channel": "telephony", "name": "Line", "secret": "s", "config": {"vendor": "generic"},
            "address": None, "team_id": None, "default_kind": "lead", "flow_key": None, "region": "UA",
            "language": "uk", "priority": "normal", "enabled": True, "created_at": uow.now,
        }  # fmt: skip
        return {**values, "id": await uow.insert(inbox, values)}


async def happens(
    db: Database, line: dict[str, Any], call_id: str, seq: int, state: str, **more: Any
) -> None:
    leg_id = more.pop("leg_id", call_id)
    async with db.transaction() as uow:
        event = CallEvent(call_id=call_id, leg_id=leg_id, direction="inbound", from_number=CUSTOMER,
                          from_raw=CUSTOMER, state=state, seq=seq, agent_leg=leg_id != call_id, **more)  # fmt: skip
        await calls.take(
            uow, line, Envelope(kind=Kind.CALL, dedupe_key=f"{call_id}-{seq}", conversation_key=CUSTOMER,
                                sender=Sender(), occurred_at=uow.now, call=event))  # fmt: skip


async def sweep(db: Database) -> None:
    async with db.transaction() as uow:
        await calls.sweep(uow)


async def the_only(db: Database, table: Any) -> dict[str, Any]:
    async with db.reading() as conn:
        (row,) = (await conn.execute(select(table))).mappings().all()
    return dict(row)


async def ring_out(db: Database, line: dict[str, Any], call_id: str) -> None:
    await happens(db, line, call_id, 3, "ended", leg_id=f"{call_id}-a", disposition="no_answer")
    await happens(db, line, call_id, 4, "ended", disposition="missed", final=True)


async def test_a_call_given_up_in_an_outage_and_ended_by_late_events_is_one_missed_call(
    db: Database, clock: MovableClock
) -> None:
    """We were down for longer than a call may ring; the provider's last events come after we gave the call up."""
    line = await a_line(db)
    await happens(db, line, "c1", 1, "initiated")
    await happens(db, line, "c1", 2, "ringing", leg_id="c1-a")
    clock.advance(STUCK_RINGING_MS + SECOND)
    await sweep(db)
    assert (await the_only(db, call))["disposition"] == "unknown"
    await happens(db, line, "c1", 3, "ended", leg_id="c1-a", disposition="no_answer")
    assert (await the_only(db, call))["finalized"] is False
    await happens(db, line, "c1", 4, "ended", disposition="missed", final=True)
    assert (await the_only(db, call))["disposition"] == "missed"
    lead = await the_only(db, inquiry)
    assert (lead["fields"]["missed_calls"], lead["priority"]) == (1, "normal")


async def test_a_second_missed_call_counts_and_is_more_urgent(db: Database, clock: MovableClock) -> None:
    line = await a_line(db)
    for call_id in ("c1", "c2"):
        await happens(db, line, call_id, 1, "initiated")
        await happens(db, line, call_id, 2, "ringing", leg_id=f"{call_id}-a")
        await ring_out(db, line, call_id)
        clock.advance(MISSED_GRACE_MS)
        await sweep(db)
    lead = await the_only(db, inquiry)
    assert (lead["fields"]["missed_calls"], lead["priority"]) == (2, "high")


async def test_calls_of_one_number_that_end_at_once_make_one_request(db: Database) -> None:
    """Each call has a lane of its own, so several processes may settle them side by side."""
    line = await a_line(db)
    many = [f"c{n}" for n in range(6)]
    for call_id in many:
        await happens(db, line, call_id, 1, "initiated")
    await asyncio.gather(*(ring_out(db, line, call_id) for call_id in many))
    assert (await the_only(db, inquiry))["fields"]["missed_calls"] == len(many)
