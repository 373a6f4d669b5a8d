"""What the doings of people and channels mean for clocks: calls, chats, merges, spam, snoozes, bots."""

from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import update

from crm_core import inquiries
from crm_core.call_state import CallChange, Change
from crm_core.clock import HOUR
from crm_core.db.engine import Database
from crm_core.envelope import Auto
from crm_core.events import DomainEvent
from crm_core.schema import inquiry
from routing.schema import sla_clock
from routing.sla import ledger, views
from routing.sla.sweeper import sweep
from tests.routing.sla.builders import MINUTE, Office, at, opened


@pytest.fixture
async def office(db: Database, clock: Any) -> Office:
    return await Office.open(db, clock)


async def call(
    office: Office,
    minutes: float,
    ticket: int,
    *changes: Change,
    missed: bool = False,
    state: str = "answered",
) -> None:
    office.move(minutes)
    async with office.db.transaction() as uow:
        row = {"id": 9, "direction": "inbound", "state": state, "data": {}}
        seen = [CallChange(kind=kind, at=uow.now) for kind in changes]
        await uow.emit(
            DomainEvent(
                kind="call.updated",
                subject_kind="call",
                subject_id=9,
                inquiry_id=ticket,
                context={
                    "call": row,
                    "state": SimpleNamespace(missed=missed),
                    "changes": seen,
                    "inquiry": {"id": ticket},
                },
            )
        )


async def test_an_answered_call_is_a_reply_at_the_moment_of_connection_once(office: Office) -> None:
    await office.promise({"first_reply": 60, "next_reply": 60})
    ticket = await opened(office)
    await call(office, 12, ticket, Change.ANSWERED)
    first = await office.the(ticket, "first_reply")
    assert (first["state"], first["fulfilled_at"]) == ("fulfilled", at(12))
    await office.customer(14)
    await call(office, 15, ticket, Change.AGENT)
    await call(office, 16, ticket, Change.ANSWERED)  # told again by the provider
    assert (await office.the(ticket, "next_reply"))["state"] == "active"


async def test_a_missed_call_is_the_customers_word(office: Office) -> None:
    await office.promise({"next_reply": 60})
    ticket = await opened(office)
    await office.agent(5, ticket)
    await call(office, 20, ticket, Change.RINGING, state="ringing")
    await call(office, 21, ticket, Change.DISPOSITION, Change.ENDED, missed=True, state="ended")
    clocks = await office.clocks(ticket)
    assert clocks["next_reply", 1]["activated_at"] == at(21)
    answer = clocks["speed_of_answer", 1]
    assert (answer["activated_at"], answer["state"], answer["cause"]) == (at(20), "cancelled", "abandoned")


async def test_an_agent_who_opens_owes_no_first_reply(office: Office) -> None:
    await office.promise({"first_reply": 60, "next_reply": 60})
    result = await office.customer(0)
    async with office.db.transaction() as uow:
        made = await inquiries.open_inquiry(
            uow, kind="ticket", contact=result.contact, subject="x", channel="email", conversation=result.conversation,
            inbox=office.inbox, opened_by=f"agent:{office.agent_id}")  # fmt: skip
    await office.agent(10, made["id"])
    clocks = await office.clocks(made["id"])
    assert ("first_reply", 1) not in clocks and ("periodic_update", 1) in clocks
    await office.customer(20)
    assert ("next_reply", 1) in await office.clocks(made["id"])


async def test_after_a_note_only_the_customers_first_word_starts_the_first_reply(office: Office) -> None:
    await office.promise({"first_reply": 60})
    result = await office.customer(0)
    async with office.db.transaction() as uow:
        made = await inquiries.open_inquiry(
            uow, kind="ticket", contact=result.contact, subject="x", channel="email", conversation=result.conversation,
            inbox=office.inbox, opened_by=f"agent:{office.agent_id}")  # fmt: skip
    await office.agent(10, made["id"], internal=True)
    await office.customer(20)
    assert (await office.the(made["id"], "first_reply"))["activated_at"] == at(20)


async def test_a_robots_mail_opens_a_ticket_and_owes_it_nothing(office: Office) -> None:
    await office.promise({"first_reply": 60})
    ticket = await opened(office, auto=Auto.AUTO_REPLY)
    assert ("first_reply", 1) not in await office.clocks(ticket)


async def test_words_of_bots_and_notes_count_where_a_policy_says_so(office: Office) -> None:
    await office.promise(
        {"first_reply": 60, "next_reply": 60}, bot_counts=["first_reply"], note_counts=["next_reply"]
    )
    ticket = await opened(office)
    await office.agent(1, ticket, kind="bot")
    assert (await office.the(ticket, "first_reply"))["state"] == "fulfilled"
    await office.customer(2)
    await office.agent(3, ticket, internal=True)
    assert (await office.the(ticket, "next_reply"))["state"] == "fulfilled"


async def test_a_snooze_pauses_the_agents_work_and_not_the_customers_wait(office: Office) -> None:
    await office.promise({"requester_wait": 240, "agent_work": 240})
    ticket = await opened(office)
    await office.change(10, ticket, snooze_until=at(60))
    clocks = await office.clocks(ticket)
    assert clocks["agent_work", 1]["pause_reasons"] == ["snooze"]
    assert clocks["requester_wait", 1]["state"] == "active"
    await office.customer(30)
    assert (await office.the(ticket, "agent_work"))["state"] == "active"


async def test_a_chat_is_measured_until_a_person_has_it(db: Database, clock: Any) -> None:
    office = await Office.open(db, clock, channel="webchat")
    await office.promise({"speed_of_answer": {"seconds": 90, "business": False, "steps": []}})
    ticket = await opened(office)
    assert (await office.the(ticket, "speed_of_answer"))["due_at"] == at(1.5)
    office.move(1)
    async with office.db.transaction() as uow:
        row = {"id": ticket, "channel": "webchat", "team_id": office.team_id, "assignee_id": office.agent_id}
        await uow.emit(
            DomainEvent(
                kind="inquiry.assigned",
                subject_kind="inquiry",
                subject_id=ticket,
                inquiry_id=ticket,
                context={"inquiry": row, "before": {**row, "assignee_id": None}},
            )
        )
    answer = await office.the(ticket, "speed_of_answer")
    assert (answer["state"], answer["cause"], answer["consumed_ms"]) == ("fulfilled", "answered", MINUTE)


async def test_a_chat_held_by_a_bot_waits_for_a_person_from_the_handing_over(
    db: Database, clock: Any
) -> None:
    office = await Office.open(db, clock, channel="webchat")
    await office.promise({"speed_of_answer": {"seconds": 90, "business": False, "steps": []}})
    await office.promise(
        {"speed_of_answer": {"seconds": 30, "business": False, "steps": []}},
        key="lead",
        position=-1,
        conditions={"kind": "lead"},
    )
    ticket = await opened(office)
    async with office.db.transaction() as uow:
        await uow.execute(update(inquiry).where(inquiry.c.id == ticket).values(held_by_bot=True))
        await uow.execute(sla_clock.delete().where(sla_clock.c.metric == "speed_of_answer"))
    office.move(5)
    async with office.db.transaction() as uow:
        await inquiries.hand_off(uow, ticket, reason="done", changes={"kind": "lead"})
    answer = await office.the(ticket, "speed_of_answer")
    assert (answer["activated_at"], answer["due_at"]) == (at(5), at(5.5))


async def test_an_inquiry_from_before_there_were_clocks_gets_them_at_its_next_event(office: Office) -> None:
    await office.promise({"requester_wait": 240, "first_reply": 60})
    listeners = office.db.listeners
    office.db.listeners = {}
    ticket = await opened(office)
    office.db.listeners = listeners
    await office.customer(30)
    clocks = await office.clocks(ticket)
    assert clocks["requester_wait", 1]["activated_at"] == at(0)
    assert clocks["first_reply", 1]["activated_at"] == at(30)


async def test_how_the_time_was_counted(office: Office) -> None:
    await office.promise({"requester_wait": 600})
    ticket = await opened(office)
    await office.change(60, ticket, status="pending")
    await office.customer(7 * 60)  # 17:00
    await office.change(9 * 60, ticket, status="solved")  # 19:00, after hours
    await office.customer(24 * 60)
    office.move(24 * 60 + 30)
    async with office.db.reading() as conn:
        clock = await office.the(ticket, "requester_wait")
        parts = await ledger.segments(conn, clock["id"], office.db.clock.now_ms())
        entries = await ledger.entries(conn, clock["id"])
    assert [(p.what, p.why, p.start, p.end, p.counted_ms) for p in parts] == [
        ("ran", "created", at(0), at(60), HOUR),
        ("paused", "status", at(60), at(420), 0),
        ("ran", "customer_wrote", at(420), at(540), HOUR),
        ("over", "solved", at(540), at(1440), 0),
        ("ran", "customer_wrote", at(1440), None, HOUR // 2),
    ]
    assert [e["kind"] for e in entries] == ["activate", "pause", "resume", "fulfil", "reopen"]
    assert entries[3]["data"]["elapsed_ms"] == 2 * HOUR
    assert entries[3]["data"]["team_id"] == office.team_id


async def test_a_reply_that_failed_leaves_no_gap_in_the_count(office: Office) -> None:
    await office.promise({"first_reply": 60})
    ticket = await opened(office)
    written = await office.agent(10, ticket)
    await office.delivery(15, written, "failed")
    clock = await office.the(ticket, "first_reply")
    async with office.db.reading() as conn:
        parts = await ledger.segments(conn, clock["id"], at(20))
    assert sum(p.counted_ms for p in parts) == 20 * MINUTE
    assert {p.what for p in parts} == {"ran"}


async def test_a_failed_reply_takes_nothing_from_who_asked_after_the_solving(office: Office) -> None:
    """The first question ended with the solving, failed reply or not; the second one is owed an answer."""
    await office.promise({"first_reply": 60, "next_reply": 60})
    ticket = await opened(office)
    written = await office.agent(10, ticket)
    await office.change(11, ticket, status="solved")
    await office.customer(14)
    await office.delivery(15, written, "failed")
    assert (await office.the(ticket, "first_reply"))["fulfilled_at"] == at(11)
    asked = await office.the(ticket, "next_reply")
    assert (asked["state"], asked["activated_at"], asked["due_at"]) == ("active", at(14), at(74))


async def test_between_a_failed_reply_and_the_next_no_promise_is_counted_twice(office: Office) -> None:
    await office.promise({"first_reply": 60, "next_reply": 60})
    ticket = await opened(office)
    written = await office.agent(10, ticket)
    await office.customer(12)
    await office.agent(14, ticket)
    await office.delivery(15, written, "failed")
    first, between = await office.the(ticket, "first_reply"), await office.the(ticket, "next_reply")
    assert (first["activated_at"], first["fulfilled_at"]) == (at(0), at(14))
    assert (between["state"], between["cause"]) == ("cancelled", "send_failed")


async def test_clocks_as_the_api_shows_them(office: Office) -> None:
    await office.promise({"first_reply": 60, "requester_wait": 240, "next_reply": 30})
    ticket, other = await opened(office), await opened(office, 1, user="ben")
    await office.agent(10, ticket)
    await office.change(20, ticket, status="pending")
    async with office.db.reading() as conn:
        shown = await views.views_of(conn, [ticket, other, 999], at(65))
    wait, first = shown[ticket]
    assert (wait["metric"], wait["paused"], wait["pause_reasons"], wait["elapsed_ms"]) == (
        "requester_wait", True, ["status"], 20 * MINUTE)  # fmt: skip
    assert (wait["paused_ms"], wait["due_at"], wait["policy"]["key"]) == (45 * MINUTE, None, "standard")
    assert (first["state"], first["fulfilled_at"]) == ("fulfilled", "2025-06-02T07:10:00.000Z")
    urgent = shown[other][0]
    # No sweeper has been there; the promise is broken all the same.
    assert (urgent["metric"], urgent["breached_at"], urgent["remaining_ms"]) == (
        "first_reply", "2025-06-02T08:01:00.000Z", -4 * MINUTE)  # fmt: skip
    assert shown[999] == []


async def test_a_list_shows_the_last_ended_clocks_only(office: Office) -> None:
    await office.promise({"next_reply": 30})
    ticket = await opened(office)
    for n in range(1, 15):
        await office.agent(2 * n, ticket)
        await office.customer(2 * n + 1)
    async with office.db.reading() as conn:
        rows = (await views.clocks_of(conn, [ticket]))[ticket]
    assert [r["instance"] for r in rows] == [14, *range(13, 3, -1)]


async def test_a_long_talk_keeps_counting_although_old_clocks_are_not_read(office: Office) -> None:
    ticket = await opened(office)
    for n in range(1, 6):
        await office.agent(2 * n, ticket)
        await office.customer(2 * n + 1)
    clocks = await office.clocks(ticket)
    assert [i for m, i in clocks if m == "next_reply"] == [1, 2, 3, 4, 5]
    assert clocks["periodic_update", 5]["state"] == "active"
    assert await sweep(office.db) is None
