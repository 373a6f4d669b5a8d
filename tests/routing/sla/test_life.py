"""The clocks of a ticket from its first message to its end, through the core's own services."""

from typing import Any

import pytest

from crm_core.db.engine import Database
from crm_core.envelope import Auto
from routing.sla.sweeper import sweep
from tests.routing.sla.builders import MINUTE, Office, at, opened


@pytest.fixture
async def office(db: Database, clock: Any) -> Office:
    return await Office.open(db, clock)


async def test_the_life_of_a_ticket(office: Office) -> None:
    await office.promise({"first_reply": 60, "next_reply": 30, "requester_wait": 240, "agent_work": 240})
    ticket = await opened(office)
    clocks = await office.clocks(ticket)
    assert sorted(clocks) == [
        ("agent_work", 1), ("first_reply", 1), ("requester_wait", 1), ("total_resolution", 1)]  # fmt: skip
    first = clocks["first_reply", 1]
    assert (first["due_at"], first["breach_at"], first["next_fire_at"]) == (at(60), at(60), at(60) + 1)
    assert clocks["total_resolution", 1]["target_ms"] is None

    await office.agent(20, ticket)
    first = await office.the(ticket, "first_reply")
    assert (first["state"], first["fulfilled_at"], first["consumed_ms"]) == ("fulfilled", at(20), 20 * MINUTE)
    assert first["next_fire_at"] is None

    await office.change(20, ticket, status="pending")
    wait = await office.the(ticket, "requester_wait")
    assert (wait["state"], wait["pause_reasons"], wait["due_at"]) == ("paused", ["status"], None)

    await office.customer(80)
    wait, reply = await office.the(ticket, "requester_wait"), await office.the(ticket, "next_reply")
    assert (wait["state"], wait["consumed_ms"], wait["paused_ms"]) == ("active", 20 * MINUTE, 60 * MINUTE)
    assert (reply["activated_at"], reply["due_at"]) == (at(80), at(110))

    await office.agent(100, ticket)
    await office.change(120, ticket, status="solved")
    ended = await office.clocks(ticket)
    assert {c["state"] for c in ended.values()} == {"fulfilled"}
    assert ended["requester_wait", 1]["consumed_ms"] == 60 * MINUTE
    assert [e["payload"]["metric"] for e in await office.told("sla.fulfilled")] == [
        "first_reply", "next_reply", "agent_work", "requester_wait"]  # fmt: skip


async def test_what_moves_no_clock(office: Office) -> None:
    await office.promise({"first_reply": 60, "next_reply": 60})
    ticket = await opened(office)
    await office.agent(5, ticket, internal=True)
    await office.agent(6, ticket, kind="bot")
    await office.agent(7, ticket, sent=False)
    assert (await office.the(ticket, "first_reply"))["state"] == "active"
    await office.agent(8, ticket)
    await office.customer(9, auto=Auto.AUTO_REPLY)
    assert ("next_reply", 1) not in await office.clocks(ticket)


async def test_a_reply_counts_when_the_channel_accepts_it_and_not_when_it_fails(office: Office) -> None:
    await office.promise({"first_reply": 60})
    ticket = await opened(office)
    written = await office.agent(10, ticket, sent=False)
    await office.delivery(30, written, "sent")
    first = await office.the(ticket, "first_reply")
    assert (first["state"], first["fulfilled_at"]) == ("fulfilled", at(30))
    await office.delivery(35, written, "failed")
    first = await office.the(ticket, "first_reply")
    assert (first["state"], first["activated_at"], first["due_at"]) == ("active", at(0), at(60))
    assert (await office.the(ticket, "periodic_update"))["state"] == "cancelled"


async def test_a_failure_told_later_than_ten_minutes_changes_nothing(office: Office) -> None:
    await office.promise({"first_reply": 60})
    ticket = await opened(office)
    written = await office.agent(10, ticket)
    await office.delivery(21, written, "failed")
    assert (await office.the(ticket, "first_reply"))["state"] == "fulfilled"


async def test_a_pause_over_the_night_costs_nothing(office: Office) -> None:
    await office.promise({"requester_wait": 8 * 60})
    ticket = await opened(office)
    await office.change(7 * 60, ticket, status="pending")  # 17:00
    await office.change(23 * 60 + 30, ticket, status="open")  # 09:30 next day
    wait = await office.the(ticket, "requester_wait")
    assert wait["consumed_ms"] == 7 * 60 * MINUTE
    assert wait["due_at"] == at(24 * 60 + 30)  # 10:30


async def test_a_higher_priority_is_a_shorter_promise_of_the_same_clock(office: Office) -> None:
    await office.promise({"first_reply": 240}, priority="normal")
    await office.promise(
        {"first_reply": 60}, key="fast", position=-1, priority="urgent", conditions={"priority": "urgent"}
    )
    ticket = await opened(office)
    await office.change(30, ticket, priority="urgent")
    first = await office.the(ticket, "first_reply")
    assert (first["activated_at"], first["due_at"], first["priority"]) == (at(0), at(60), "urgent")
    moved = await office.told("sla.retargeted")
    assert len(moved) == 1


async def test_breached_at_the_deadline_however_late_the_sweep(office: Office) -> None:
    await office.promise({"first_reply": 60})
    ticket = await opened(office)
    office.move(180)
    await sweep(office.db)
    first = await office.the(ticket, "first_reply")
    assert (first["breached_at"], first["state"], first["next_fire_at"]) == (at(60), "active", None)
    [told] = await office.told("sla.breached")
    assert told["payload"]["breached_at"] == "2025-06-02T08:00:00.000Z"
    assert told["payload"]["number"] == ticket + 1000


async def test_a_reply_at_the_deadline_is_in_time_and_a_late_sweep_does_not_change_it(office: Office) -> None:
    await office.promise({"first_reply": 60})
    ticket = await opened(office)
    await office.agent(60, ticket)
    office.move(300)
    assert await sweep(office.db) is None
    first = await office.the(ticket, "first_reply")
    assert (first["state"], first["breached_at"]) == ("fulfilled", None)
    assert await office.told("sla.breached") == []


async def test_a_late_reply_is_late_without_any_sweep(office: Office) -> None:
    await office.promise({"first_reply": 60})
    ticket = await opened(office)
    await office.agent(61, ticket)
    first = await office.the(ticket, "first_reply")
    assert (first["state"], first["breached_at"]) == ("fulfilled", at(60))
    assert len(await office.told("sla.breached")) == 1


async def test_a_question_older_than_the_newest_one_is_still_answered_by_the_next_reply(
    office: Office,
) -> None:
    """The reply failed after the customer had asked again: his older question waits again, the younger one is part of
    it, and the next reply answers it."""
    await office.promise({"next_reply": 60})
    ticket = await opened(office)
    await office.agent(1, ticket)
    await office.customer(10)
    failed = await office.agent(12, ticket)
    await office.customer(14)
    await office.delivery(15, failed, "failed")
    clocks = await office.clocks(ticket)
    assert (clocks["next_reply", 1]["state"], clocks["next_reply", 2]["state"]) == ("active", "cancelled")
    await office.agent(20, ticket)
    answered = await office.the(ticket, "next_reply")
    assert (answered["state"], answered["consumed_ms"]) == ("fulfilled", 10 * MINUTE)
