"""Keeping one's place in the queue, and what the customer's own word does to promises."""

import pytest
from sqlalchemy import select, update

from crm_core import calls
from crm_core.clock import HOUR, MINUTE, SECOND
from crm_core.db.engine import Database
from crm_core.errors import Conflict
from crm_core.events import DomainEvent
from crm_core.schema import contact, inbox, inquiry
from routing import callbacks, expected_wait
from routing.callbacks import check
from routing.schema import callback, sla_clock, sla_policy, work_item
from tests.conftest import MovableClock
from tests.routing.callbacks.office import (
    MONDAY_NOON,
    PHONE,
    a_pbx,
    attempts,
    booked,
    kinds,
    now_is,
    plays,
    says,
    somebody_accepts,
    the_call,
    wire,
)
from tests.routing.engine.desk import (
    a_contact,
    a_team,
    an_agent,
    an_inquiry,
    check_invariants,
    go,
    open_offers,
    rows,
)

OTHER = "+380671112233"


@pytest.fixture(autouse=True)
def wired(db: Database, clock: MovableClock) -> None:
    clock.set(MONDAY_NOON)
    wire(db)


async def no_drop(db: Database) -> None:
    async with db.reading() as conn:
        assert await check.dropped(conn) == []


async def test_a_place_in_the_queue_is_as_old_as_the_wait_and_is_not_overtaken(
    db: Database, clock: MovableClock
) -> None:
    box = await a_pbx(db, connect_url="http://127.0.0.1:1/connect")
    team_id = await a_team(db)
    anna = await an_agent(db, "Anna", team_id, extension="12", online=False)
    await says(db, box, "first", "first", "ringing", queue="main")
    clock.advance(2 * MINUTE)
    await says(db, box, "second", "second", "ringing", queue="main", number=OTHER)
    clock.advance(MINUTE)
    # He presses a key: call me back. His own call ends; it is neither missed nor abandoned.
    await says(db, box, "first", "first", "note", request="callback")
    await says(db, box, "first", "first", "ended", disposition="abandoned", final=True)
    (place,) = await rows(db, callback)
    assert (place["kind"], place["state"], place["enqueued_at"]) == ("hold", "due", MONDAY_NOON)
    assert place["phone"] == PHONE and place["mode"] == "agent_first"
    assert await rows(db, inquiry) == []
    items = {i["source_kind"]: i for i in await rows(db, work_item, work_item.c.state == "waiting")}
    assert set(items) == {"callback", "call"}
    assert items["callback"]["ready_at"] == MONDAY_NOON
    assert items["callback"]["order_key"] < items["call"]["order_key"]
    assert items["callback"]["channel"] == items["call"]["channel"] == "voice"
    # Asking again, by whatever way, is the same place.
    async with db.transaction() as uow:
        same = await callbacks.take_place_of_call(uow, (await the_call(db, "first"))["id"], actor="system")
    assert same["id"] == place["id"]
    await no_drop(db)
    await go(db, anna, "online")
    (offered,) = await open_offers(db)
    assert offered["item_id"] == items["callback"]["id"]
    await somebody_accepts(db)
    (tried,) = await attempts(db, place["id"])
    assert tried["style"] == "agent_first"
    await plays(db, box, tried["correlation_id"], "answered", "answered")
    row = await now_is(db, place["id"])
    assert (row["state"], row["kept_at"]) == ("done", clock.now_ms())
    await check_invariants(db)


async def test_who_does_not_come_to_the_phone_keeps_his_place_once(db: Database, clock: MovableClock) -> None:
    box = await a_pbx(db)
    team_id = await a_team(db)
    anna = await an_agent(db, "Anna", team_id, extension="12")
    await says(db, box, "first", "first", "ringing", queue="main")
    clock.advance(MINUTE)
    async with db.transaction() as uow:
        place = await callbacks.take_place_of_call(uow, (await the_call(db, "first"))["id"], actor="system")
    for n in range(3):
        clock.advance(40 * SECOND)  # her wrap-up is over
        await go(db, anna, "online")
        from routing.sweep import sweep_wakeups

        await sweep_wakeups(db)
        await callbacks.sweep(db)
        await somebody_accepts(db)
        tried = (await attempts(db, place["id"]))[n]
        await plays(db, box, tried["correlation_id"], "answered", "no_answer")
        row = await now_is(db, place["id"])
        await no_drop(db)
        if n < 2:
            assert (row["state"], row["next_attempt_at"]) == ("scheduled", clock.now_ms() + MINUTE)
            assert row["place_lost"] == (n == 1)
            assert row["enqueued_at"] == (MONDAY_NOON if n == 0 else row["next_attempt_at"])
            clock.advance(25 * SECOND)
    assert (row["state"], row["escalation"]) == ("escalated", "attempts_used_up")
    await check_invariants(db)


async def test_calling_again_takes_the_place_over_and_a_key_puts_it_off(
    db: Database, clock: MovableClock
) -> None:
    box = await a_pbx(db, connect_url="http://127.0.0.1:1/connect")
    await a_team(db)
    await says(db, box, "first", "first", "ringing", queue="main")
    await says(db, box, "first", "first", "note", request="callback")
    await says(db, box, "first", "first", "ended", disposition="abandoned", final=True)
    (place,) = await rows(db, callback)
    async with db.transaction() as uow:
        later = await callbacks.snooze(uow, place["id"], minutes=20, actor="contact:1")
    assert (later["state"], later["enqueued_at"]) == ("scheduled", MONDAY_NOON)
    assert later["next_attempt_at"] == MONDAY_NOON + 20 * MINUTE
    clock.advance(20 * MINUTE)
    await callbacks.sweep(db)
    (item,) = await rows(db, work_item, work_item.c.state == "waiting")
    assert item["ready_at"] == MONDAY_NOON
    clock.advance(MINUTE)
    await says(db, box, "again", "again", "ringing", queue="main")
    row = await now_is(db, place["id"])
    assert (row["state"], row["outcome"], row["ended_by"]) == ("cancelled", "absorbed", "customer")
    (live,) = await rows(db, work_item, work_item.c.state == "waiting")
    assert (live["source_kind"], live["ready_at"]) == ("call", MONDAY_NOON)
    await check_invariants(db)


async def test_a_chat_that_waits_takes_a_callback_and_its_clock_stands_still(
    db: Database, clock: MovableClock
) -> None:
    team_id = await a_team(db)
    person = await a_contact(db)
    async with db.transaction() as uow:
        promised = {"speed_of_answer": {"minutes": 3, "business": False, "steps": []}}
        await uow.insert(
            sla_policy,
            {
                "policy_key": "chat", "version": 1, "position": 0, "name": "chat", "conditions": {},
                "targets": {"*": promised}, "options": {}, "current": True, "created_at": uow.now,
            },
        )  # fmt: skip
    inquiry_id = await an_inquiry(db, team_id=team_id, channel="webchat", contact_id=person, priority="high")
    async with db.transaction() as uow:
        row = await uow.row(select(inquiry).where(inquiry.c.id == inquiry_id))
        await uow.emit(
            DomainEvent(
                kind="inquiry.opened", subject_kind="inquiry", subject_id=inquiry_id,
                inquiry_id=inquiry_id, actor=f"contact:{person}", context={"inquiry": dict(row or {})},
            )
        )  # fmt: skip
    clock.advance(MINUTE)
    async with db.transaction() as uow:
        place = await callbacks.take_place_of_request(uow, inquiry_id, actor="agent:1", number="0501234567")
    (kept,) = await rows(db, work_item, work_item.c.state == "waiting")
    assert (kept["source_kind"], kept["ready_at"], kept["priority"]) == ("callback", MONDAY_NOON, "high")
    (clocked,) = await rows(db, sla_clock, sla_clock.c.metric == "speed_of_answer")
    assert (clocked["state"], clocked["pause_reasons"]) == ("paused", ["callback"])
    async with db.transaction() as uow:
        await callbacks.cancel(uow, place["id"], actor="contact:1", reason="writes on")
    (clocked,) = await rows(db, sla_clock, sla_clock.c.metric == "speed_of_answer")
    assert clocked["state"] == "active"
    # The request itself waits again; it is not lost with the callback.
    (waiting,) = await rows(db, work_item, work_item.c.state == "waiting")
    assert waiting["source_kind"] == "inquiry"
    # Once more, and this time he is reached: the request belongs to who spoke with him.
    async with db.transaction() as uow:
        place = await callbacks.take_place_of_request(uow, inquiry_id, actor="agent:1", number="0501234567")
    anna = await an_agent(db, "Anna", team_id)
    await somebody_accepts(db)
    async with db.transaction() as uow:
        await callbacks.record_outcome(uow, place["id"], "answered", actor=f"agent:{anna}", agent_id=anna)
    (request,) = await rows(db, inquiry)
    assert request["assignee_id"] == anna
    await check_invariants(db)
    with pytest.raises(Conflict, match="does not wait"):
        async with db.transaction() as uow:
            await callbacks.take_place_of_request(uow, inquiry_id, actor="agent:1", number="0501234567")


async def test_a_word_of_the_customer_pauses_attempts_and_a_talk_fulfils_the_promise(
    db: Database, clock: MovableClock
) -> None:
    box = await a_pbx(db)
    team_id = await a_team(db)
    anna = await an_agent(db, "Anna", team_id, extension="12")
    async with db.transaction() as uow:
        from crm_core import contacts
        from crm_core.envelope import IdentityClaim, IdentityKind

        person = await contacts.resolve(
            uow, (IdentityClaim(IdentityKind.PHONE, PHONE, evidence="caller_id"),)
        )
    tried = await booked(db, team_id=team_id, contact_id=person["id"], window_start=MONDAY_NOON + MINUTE)
    async with db.transaction() as uow:
        await callbacks.record_outcome(uow, tried["id"], "no_answer", actor="agent:1", agent_id=anna)
    later = await booked(db, team_id=team_id, raw_phone=OTHER, window_start=MONDAY_NOON + 5 * HOUR)
    async with db.transaction() as uow:
        found = await uow.row(select(contact).where(contact.c.id == person["id"]))
        await uow.emit(
            DomainEvent(
                kind="message.added", subject_kind="message", subject_id=1,
                context={
                    "contact": dict(found or {}), "inquiry": None,
                    "message": {"direction": "in", "author_kind": "customer", "automatic": False,
                                "kind": "text", "id": 1, "author_id": person["id"]},
                },
            )
        )  # fmt: skip
    row = await now_is(db, tried["id"])
    assert (row["state"], row["pause_cause"]) == ("paused", "message")
    assert row["next_attempt_at"] >= clock.now_ms() + 2 * HOUR and row["escalate_at"] is not None
    assert (await now_is(db, later["id"]))["state"] == "scheduled"  # a promise for later stands
    async with db.transaction() as uow:
        row = await callbacks.resume(uow, tried["id"], actor="agent:1")
    assert (row["state"], row["next_attempt_at"]) == ("scheduled", clock.now_ms())
    # He calls by himself and is answered: that is what was promised.
    await says(db, box, "in", "in", "ringing")
    assert (await now_is(db, tried["id"]))["state"] == "paused"
    own = {"agent_leg": True, "agent_ext": "12"}
    await says(db, box, "in", "in-a", "answered", **own)
    row = await now_is(db, tried["id"])
    assert (row["state"], row["end_reason"]) == ("done", "inbound_call")
    assert "callback.kept" in await kinds(db)
    await no_drop(db)


async def test_paused_too_long_reaches_a_supervisor_at_the_deadline(
    db: Database, clock: MovableClock
) -> None:
    box = await a_pbx(db)
    team_id = await a_team(db)
    made = await booked(db, team_id=team_id, window_start=MONDAY_NOON + MINUTE)
    async with db.transaction() as uow:
        await callbacks.record_outcome(uow, made["id"], "no_answer", actor="agent:1")
    await says(db, box, "in", "in", "ringing")
    row = await now_is(db, made["id"])
    assert row["state"] == "paused"
    clock.set(row["escalate_at"])
    await callbacks.sweep(db)
    row = await now_is(db, made["id"])
    assert (row["state"], row["escalation"]) == ("paused", "paused_too_long")
    clock.set(row["next_attempt_at"])
    await callbacks.sweep(db)
    assert (await now_is(db, made["id"]))["state"] == "due"
    await no_drop(db)


async def test_a_call_answered_within_the_grace_takes_back_the_pending_miss(
    db: Database, clock: MovableClock
) -> None:
    box = await a_pbx(db)
    await an_agent(db, "Anna", await a_team(db), extension="12")
    await says(db, box, "gone", "gone", "ringing")
    await says(db, box, "gone", "gone", "ended", disposition="abandoned")
    assert (await the_call(db, "gone"))["missed_check_at"] is not None
    clock.advance(4 * SECOND)
    await says(db, box, "back", "back", "ringing")
    await says(db, box, "back", "back-a", "answered", agent_leg=True, agent_ext="12")
    clock.advance(10 * SECOND)
    async with db.transaction() as uow:
        await calls.sweep(uow)
    gone = await the_call(db, "gone")
    assert (gone["state"], gone["disposition"]) == ("ended", "abandoned")
    assert gone["data"]["waived"] == "spoke_since"
    assert await rows(db, inquiry) == []
    # A miss to which nobody spoke since is a request as ever.
    await says(db, box, "alone", "alone", "ringing", number=OTHER)
    await says(db, box, "alone", "alone", "ended", disposition="abandoned", number=OTHER)
    clock.advance(11 * SECOND)
    async with db.transaction() as uow:
        await calls.sweep(uow)
    assert len(await rows(db, inquiry)) == 1


async def test_a_waiting_caller_who_presses_later_at_once_keeps_his_place_too(
    db: Database, clock: MovableClock
) -> None:
    box = await a_pbx(db, connect_url="http://127.0.0.1:1/connect")
    await a_team(db)
    await says(db, box, "first", "first", "ringing", queue="main")
    clock.advance(MINUTE)
    await says(db, box, "first", "first", "note", request="snooze", request_minutes=20)
    await says(db, box, "first", "first", "ended", disposition="abandoned", final=True)
    (place,) = await rows(db, callback)
    assert (place["kind"], place["state"], place["enqueued_at"]) == ("hold", "scheduled", MONDAY_NOON)
    assert place["next_attempt_at"] == MONDAY_NOON + 21 * MINUTE
    await no_drop(db)
    await check_invariants(db)


async def test_who_kept_a_place_and_calls_again_is_told_of_that_place(
    db: Database, clock: MovableClock
) -> None:
    box = await a_pbx(db, connect_url="http://127.0.0.1:1/connect")
    team_id = await a_team(db)
    async with db.transaction() as uow:
        await uow.execute(update(inbox).values(team_id=team_id))
    first, second = "+380501110001", "+380501110002"
    await says(db, box, "first", "first", "ringing", queue="main", number=first)
    clock.advance(MINUTE)
    await says(db, box, "second", "second", "ringing", queue="main", number=second)
    await says(db, box, "first", "first", "note", request="callback", number=first)
    await says(db, box, "first", "first", "ended", disposition="abandoned", final=True, number=first)
    async with db.reading() as conn:
        again = await expected_wait.for_caller(conn, box["id"], "again", clock.now_ms(), number=first)
        stranger = await expected_wait.for_caller(
            conn, box["id"], "new", clock.now_ms(), number="+380501110003"
        )
    assert (again.position, stranger.position) == (1, 3)
