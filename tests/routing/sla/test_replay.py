"""Whatever happens to tickets in whatever order, the rows are what a replay of their whole history gives.

The shadow beside the database hears the same facts, keeps every clock in memory from the first moment, never sees a
row of a clock and is never swept.
"""

import random
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from crm_core.db.engine import Database
from crm_core.db.uow import UnitOfWork
from crm_core.events import DomainEvent
from routing.sla import book as books
from routing.sla import ledger, service, store, translate
from routing.sla.clock import TicketClocks
from routing.sla.sweeper import sweep
from tests.routing.sla.builders import Office, opened

READ = {
    "inquiry.opened": translate.opened,
    "inquiry.updated": translate.updated,
    "message.added": translate.message_added,
    "message.state_changed": translate.message_state_changed,
}


@dataclass
class Shadow:
    """The clocks of each ticket by its history alone."""

    tickets: dict[int, store.Stored] = field(default_factory=dict)

    async def hear(self, uow: UnitOfWork, event: DomainEvent) -> None:
        happening = READ[event.kind](event, uow.now)
        if happening is None:
            return
        book = await books.load(uow.conn)
        ticket = (await store.lock_tickets(uow, [happening.inquiry_id]))[happening.inquiry_id]
        known = self.tickets.get(happening.inquiry_id) or store.Stored(happening.inquiry_id, TicketClocks())
        done = service.advance(book, ticket, known, happening, uow.now)
        self.tickets[happening.inquiry_id] = replace(known, state=done.after, note=done.note, known=True)


async def some_life(office: Office, ticket: int, dice: random.Random, user: str) -> None:
    """One ticket's random life, ops at random distances: some within the minute, some over a weekend."""
    now, sent = 0.0, []
    for _ in range(dice.randint(5, 14)):
        now += dice.choice([0, 0.5, 7, 40, 200, 900, 3000])
        what = dice.choice(
            [
                "customer",
                "agent",
                "agent",
                "queued",
                "note",
                "bot",
                "status",
                "status",
                "priority",
                "fail",
                "give",
                "snooze",
            ]
        )
        if what == "customer":
            result = await office.customer(now, user=user)
            if result.opened:
                return  # closed: this is another ticket's life
        elif what == "agent":
            sent.append(await office.agent(now, ticket))
        elif what == "queued":
            sent.append(await office.agent(now, ticket, sent=False))
        elif what == "note":
            await office.agent(now, ticket, internal=True)
        elif what == "bot":
            await office.agent(now, ticket, kind="bot")
        elif what == "fail" and sent:
            await office.delivery(now, dice.choice(sent), dice.choice(["failed", "sent", "delivered"]))
        elif what == "status":
            await office.change(
                now, ticket, status=dice.choice(["open", "pending", "hold", "solved", "open"])
            )
        elif what == "priority":
            await office.change(now, ticket, priority=dice.choice(["low", "normal", "high", "urgent"]))
        elif what == "give":
            await office.change(now, ticket, assignee_id=dice.choice([office.agent_id, office.lead_id, None]))
        elif what == "snooze":
            await office.change(
                now, ticket, snooze_until=dice.choice([None, office.clock.now_ms() + 10_000_000])
            )
        if dice.random() < 0.4:
            await sweep(office.db)


@pytest.mark.parametrize("seed", range(6))
async def test_the_rows_are_what_a_replay_gives(db: Database, clock: Any, seed: int) -> None:
    dice = random.Random(seed)
    office, shadow = await Office.open(db, clock), Shadow()
    targets = {"first_reply": 60, "next_reply": 30, "periodic_update": 120, "pausable_update": 240}
    await office.promise(
        {**targets, "requester_wait": 480, "agent_work": 300, "total_resolution": 960}, position=1
    )
    await office.promise(
        {"first_reply": 20, "requester_wait": 90}, key="urgent", conditions={"priority": "urgent"}
    )
    for kind in READ:
        office.db.listeners[kind].append(shadow.hear)  # type: ignore[index,attr-defined]
    tickets = []
    for n in range(4):
        tickets.append(await opened(office, 0, user=f"u{n}"))
        await some_life(office, tickets[-1], dice, f"u{n}")
    async with office.db.transaction() as uow:
        book = await books.load(uow.conn)
        rows = await store.load(uow, tickets, everything=True)
    end = max(office.clock.now_ms(), 0) + 10**9
    for ticket in tickets:
        real, wanted = rows[ticket], shadow.tickets[ticket]
        assert real.note == wanted.note
        assert real.state.facts == wanted.state.facts
        async with office.db.reading() as conn:
            for one in await ledger.of_inquiry(conn, ticket, end):
                # The entries as the database has them, measured anew.
                assert one.proof.agrees, (one.clock, one.segments)
        fired = [service.fire_all(s.state.clocks, end, book.rules(s.state.clocks))[0] for s in (real, wanted)]
        assert fired[0] == fired[1]
