"""Routing as the core's facts drive it: opened, handed off, status, assignee, team, messages, calls, contacts."""

from typing import Any

import pytest
from sqlalchemy import select, update

from crm_core import contacts, inquiries, messages
from crm_core.db.engine import Database
from crm_core.events import DomainEvent
from crm_core.schema import contact, inquiry, team
from routing import assignments, items, offers, sweep
from routing.listeners import LISTENERS
from routing.model import ItemState
from routing.schema import assignment, calendar, sla_clock, work_item
from tests.conftest import MovableClock
from tests.routing.engine import desk
from tests.routing.engine.desk import T0


@pytest.fixture(autouse=True)
def frozen(clock: MovableClock, db: Database) -> MovableClock:
    clock.set(T0)
    db.listeners = LISTENERS
    return clock


async def opened(db: Database, **facts: Any) -> dict[str, Any]:
    contact_id = facts.pop("contact_id", None) or await desk.a_contact(db)
    async with db.transaction() as uow:
        person = await uow.row(select(contact).where(contact.c.id == contact_id))
        assert person is not None
        return await inquiries.open_inquiry(
            uow, **{"kind": "ticket", "contact": person, "subject": "Visa", "channel": "email", **facts}
        )


async def change(db: Database, inquiry_id: int, **changes: Any) -> None:
    async with db.transaction() as uow:
        await inquiries.change(uow, inquiry_id, changes, actor="agent:1")


async def only_item(db: Database) -> dict[str, Any]:
    (row,) = await desk.rows(db, work_item)
    return row


async def test_what_the_bot_holds_is_no_work_until_it_hands_off(db: Database) -> None:
    team_id = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team_id)
    row = await opened(db, held_by_bot=True)
    assert await desk.rows(db, work_item) == []
    async with db.transaction() as uow:
        await inquiries.hand_off(uow, row["id"], reason="asked for a person")
    assert (await only_item(db))["owner_id"] == olena
    await desk.check_invariants(db)


async def test_taking_from_the_bot_ends_its_hold(db: Database) -> None:
    team_id = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team_id, online=False)
    row = await opened(db, held_by_bot=True)
    async with db.transaction() as uow:
        await assignments.take(uow, row["id"], olena, "t")
    (after,) = await desk.rows(db, inquiry)
    assert (after["held_by_bot"], after["assignee_id"]) == (False, olena)
    assert len(await desk.rows(db, work_item)) == 1
    assert len(await desk.rows(db, desk.event_table, desk.event_table.c.kind == "inquiry.handed_off")) == 1
    await desk.check_invariants(db)


async def test_waiting_for_the_customer_weighs_nothing(db: Database) -> None:
    team_id = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team_id, settings={"capacity": {"async": 1}})
    first = await opened(db)
    second = await opened(db)
    assert (await desk.assignee(db, first["id"]), await desk.assignee(db, second["id"])) == (olena, None)
    await change(db, first["id"], status="pending")
    assert await desk.assignee(db, second["id"]) == olena
    await change(db, first["id"], status="open")
    assert await desk.used(db, olena, "async") == 2
    about = {i["id"]: i["source_id"] for i in await desk.rows(db, work_item)}
    held = await desk.rows(db, assignment, assignment.c.ended_at.is_(None))
    assert {about[a["item_id"]]: a["forced"] for a in held} == {first["id"]: True, second["id"]: False}
    await desk.check_invariants(db)
    await change(db, first["id"], status="solved")
    await change(db, second["id"], status="closed")
    assert await desk.used(db, olena, "async") == 0
    assert {i["state"] for i in await desk.rows(db, work_item)} == {"done"}


async def test_a_reopened_inquiry_asks_its_old_agent_first(db: Database, frozen: MovableClock) -> None:
    team_id = await desk.a_team(db)
    ihor = await desk.an_agent(db, "Ihor", team_id)
    row = await opened(db)
    frozen.advance(1_000)
    await desk.an_agent(db, "Anna", team_id)
    await change(db, row["id"], status="solved")
    frozen.advance(1_000)
    await change(db, row["id"], status="open")
    found = await desk.rows(db, work_item)
    assert [(i["attempt"], i["state"], i["owner_id"]) for i in found] == [
        (1, "done", None),
        (2, "assigned", ihor),
    ]
    await desk.go(db, ihor, "offline")
    await change(db, row["id"], status="solved")
    await change(db, row["id"], status="open")
    (third,) = [i for i in await desk.rows(db, work_item) if i["attempt"] == 3]
    assert third["owner_id"] not in (None, ihor)
    await desk.check_invariants(db)


async def test_a_reopened_inquiry_that_nobody_can_take_is_nobodys(db: Database) -> None:
    team_id = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team_id)
    row = await opened(db)
    await change(db, row["id"], status="solved")
    await desk.go(db, olena, "offline")
    await change(db, row["id"], status="open")
    assert await desk.assignee(db, row["id"]) is None
    told = await desk.rows(db, desk.event_table, desk.event_table.c.kind == "inquiry.unassigned")
    assert told[-1]["payload"]["cause"] == "reopened"


async def test_a_reopened_chat_that_is_declined_belongs_to_nobody(db: Database) -> None:
    team_id = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team_id)
    row = await opened(db, channel="webchat")
    [made] = await desk.open_offers(db)
    async with db.transaction() as uow:
        await offers.accept(uow, made["id"], olena)
    await change(db, row["id"], status="solved")
    await change(db, row["id"], status="open")
    [again] = await desk.open_offers(db)
    assert await desk.assignee(db, row["id"]) is None, "offered is not had"
    async with db.transaction() as uow:
        await offers.decline(uow, again["id"], olena)
    assert (await desk.the_item(db, again["item_id"])).state == "waiting"
    assert await desk.assignee(db, row["id"]) is None
    await desk.check_invariants(db)


async def test_edits_of_assignee_team_and_priority_move_the_work(db: Database) -> None:
    support = await desk.a_team(db)
    sales = await desk.a_team(db, "Sales")
    olena = await desk.an_agent(db, "Olena", support, online=False)
    ihor = await desk.an_agent(db, "Ihor", sales, online=False)
    row = await opened(db, team_id=support)
    before = await only_item(db)
    await change(db, row["id"], priority="urgent")
    after = await only_item(db)
    assert before["order_key"] - after["order_key"] == 4 * 3_600_000
    await change(db, row["id"], team_id=sales)
    assert (await only_item(db))["team_id"] == sales
    await desk.check_invariants(db)
    await change(db, row["id"], assignee_id=olena)
    assert (await only_item(db))["owner_id"] == olena
    await desk.check_invariants(db)
    await desk.go(db, ihor, "online")
    await change(db, row["id"], assignee_id=None)
    assert (await only_item(db))["owner_id"] == ihor
    assert await desk.assignee(db, row["id"]) == ihor
    await desk.check_invariants(db)


async def test_a_vip_moves_forward_when_he_becomes_one(db: Database) -> None:
    await desk.a_team(db)
    row = await opened(db)
    before = await only_item(db)
    async with db.transaction() as uow:
        await uow.execute(update(contact).values(vip=True))
        await uow.emit(
            DomainEvent(
                kind="contact.updated",
                subject_kind="contact",
                subject_id=row["contact_id"],
                payload={"changes": {"vip": [False, True]}},
            )
        )
    assert (await only_item(db))["order_key"] == before["order_key"] - 2 * 3_600_000
    await desk.check_invariants(db)


async def test_a_new_manager_is_asked_for_what_waits(db: Database) -> None:
    await desk.a_team(db)
    petro = await desk.an_agent(db, "Petro", await desk.a_team(db, "Sales"))
    row = await opened(db)
    assert (await only_item(db))["state"] == "waiting"
    async with db.transaction() as uow:
        await contacts.update_contact(uow, row["contact_id"], {"manager_id": petro}, actor="agent:1")
    assert (await only_item(db))["manager_id"] == petro
    await sweep.sweep_steps(db)
    assert (await only_item(db))["owner_id"] == petro, "he is of another team, but people chose him"
    async with db.transaction() as uow:
        await contacts.update_contact(uow, row["contact_id"], {"manager_id": None}, actor="agent:1")
    assert (await only_item(db))["owner_id"] == petro, "what somebody has stays his"
    await desk.check_invariants(db)


async def test_the_sla_deadline_is_the_key(db: Database) -> None:
    await desk.a_team(db)
    row = await opened(db)
    values = {
        "inquiry_id": row["id"],
        "metric": "first_reply",
        "instance": 1,
        "state": "active",
        "activated_at": T0,
        "consumed_ms": 0,
        "running_since": T0,
        "paused_ms": 0,
        "paused_since": None,
        "pause_reasons": [],
        "target_ms": 1,
        "business": False,
        "due_at": T0 + 777,
        "step": 0,
        "data": {},
        "version": 1,
    }
    async with db.transaction() as uow:
        await uow.insert(sla_clock, values)
        await uow.insert(sla_clock, {**values, "metric": "total_resolution", "due_at": T0 + 5})
        await items.rekey(uow, row["id"])
    item = await only_item(db)
    assert (item["order_key"], item["due_at"], item["order_parts"]["metric"]) == (T0 + 777, T0 + 777, "sla")
    await desk.check_invariants(db)


async def test_a_closed_team_parks_until_it_opens(db: Database, frozen: MovableClock) -> None:
    team_id = await desk.a_team(db)
    week = {str(d): [["09:00", "18:00"]] for d in range(7)}
    async with db.transaction() as uow:
        names = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
        spec = {"tz": "UTC", "week": {n: week[str(d)] for d, n in enumerate(names)}}
        calendar_id = await uow.insert(
            calendar, {"name": "Office", "spec": spec, "version": 1, "updated_at": T0}
        )
        await uow.execute(update(team).values(calendar_id=calendar_id))
    midnight = T0 - T0 % 86_400_000
    frozen.set(midnight + 20 * 3_600_000)
    olena = await desk.an_agent(db, "Olena", team_id)
    await opened(db)
    parked = await only_item(db)
    opening = midnight + 33 * 3_600_000
    assert (parked["state"], parked["parked_reason"], parked["wake_at"]) == ("parked", "after_hours", opening)
    assert await sweep.sweep_wakeups(db) == opening
    frozen.set(opening)
    await desk.go(db, olena, "online")
    await sweep.sweep_wakeups(db)
    assert (await only_item(db))["owner_id"] == olena
    await desk.check_invariants(db)


async def test_a_silent_chat_gives_its_place_back_until_somebody_writes(
    db: Database, frozen: MovableClock
) -> None:
    team_id = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team_id, settings={"capacity": {"chat": 1}})
    person = await desk.a_contact(db)
    box = await desk.an_inbox(db, "webchat", team_id)
    thread = await desk.a_conversation(db, person, box)
    inquiry_id = await desk.an_inquiry(
        db, team_id=team_id, channel="webchat", contact_id=person, conversation_id=thread
    )
    await desk.enqueue(db, inquiry_id)
    (made,) = await desk.open_offers(db)
    async with db.transaction() as uow:
        await offers.accept(uow, made["id"], olena, None)
    frozen.advance(5 * 60_000)
    (row,) = await desk.rows(db, inquiry)
    async with db.transaction() as uow:
        await messages.post_message(
            uow,
            conversation_id=thread,
            inquiry_row=row,
            author_kind="agent",
            author_id=olena,
            text="one moment",
        )
    await desk.go(db, olena, "online")
    frozen.advance(5 * 60_000)
    await desk.go(db, olena, "online")
    await sweep.sweep_wakeups(db)
    assert await desk.used(db, olena, "chat") == 1
    frozen.advance(5 * 60_000)
    await desk.go(db, olena, "online")
    await sweep.sweep_wakeups(db)
    assert await desk.used(db, olena, "chat") == 0
    (live,) = await desk.rows(db, assignment, assignment.c.ended_at.is_(None))
    assert live["agent_id"] == olena
    other = await desk.arrives(db, team_id=team_id, channel="webchat")
    assert other.state == ItemState.OFFERED
    async with db.transaction() as uow:
        await uow.emit(
            DomainEvent(
                kind="message.added",
                subject_kind="message",
                subject_id=1,
                context={"inquiry": {**row, "status": "open"}, "message": {"direction": "in"}},
            )
        )
    assert await desk.used(db, olena, "chat") == 2
    assert (await only_live(db, inquiry_id))["wake_at"] == frozen.now_ms() + 600_000


async def only_live(db: Database, inquiry_id: int) -> dict[str, Any]:
    (row,) = await desk.rows(db, work_item, work_item.c.source_id == inquiry_id)
    return row


async def test_a_call_takes_the_agents_place_and_leaves_him_wrapup_time(
    db: Database, frozen: MovableClock
) -> None:
    team_id = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team_id)
    call = {
        "id": 7,
        "inquiry_id": None,
        "conversation_id": None,
        "contact_id": None,
        "agent_id": olena,
        "state": "answered",
    }

    async def says(**more: Any) -> None:
        async with db.transaction() as uow:
            await uow.emit(
                DomainEvent(
                    kind="call.updated", subject_kind="call", subject_id=7, context={"call": {**call, **more}}
                )
            )

    await says(state="ringing", agent_id=None)
    assert await desk.rows(db, work_item) == []
    await says()
    await says()
    assert await desk.used(db, olena, "voice") == 1
    chat = await desk.arrives(db, team_id=team_id, channel="webchat")
    assert chat.state == ItemState.WAITING
    await says(state="ended")
    await says(state="ended")
    assert await desk.used(db, olena, "voice") == 1
    frozen.advance(30_000)
    await sweep.sweep_wakeups(db)
    assert await desk.used(db, olena, "voice") == 0
    assert (await desk.the_item(db, chat.id)).state == ItemState.OFFERED
    await desk.check_invariants(db)


async def test_a_due_callback_goes_to_its_owner_first(db: Database, frozen: MovableClock) -> None:
    team_id = await desk.a_team(db)
    await desk.an_agent(db, "Anna", team_id)
    frozen.advance(1_000)
    olena = await desk.an_agent(db, "Olena", team_id)
    person = await desk.a_contact(db)
    callback = {
        "id": 3,
        "inquiry_id": None,
        "conversation_id": None,
        "contact_id": person,
        "team_id": team_id,
        "owner_id": olena,
        "due_at": T0,
    }
    async with db.transaction() as uow:
        item = await items.enqueue_callback(uow, callback)
    assert (item.state, item.channel, item.order_key) == (ItemState.OFFERED, "callback", T0 + 5 * 60_000)
    (made,) = await desk.open_offers(db)
    assert made["agent_id"] == olena
    async with db.transaction() as uow:
        done = await offers.accept(uow, made["id"], olena, "c")
    assert done["callback_id"] == 3
    assert len(await desk.rows(db, desk.event_table, desk.event_table.c.kind == "item.assigned")) == 1
    async with db.transaction() as uow:
        await items.finish(uow, "callback", 3, "done")
    assert await desk.used(db, olena, "callback") == 0
    await desk.check_invariants(db)


async def test_an_agent_who_leaves_for_the_day_hands_his_work_on(db: Database, frozen: MovableClock) -> None:
    team_id = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team_id)
    mine = [await desk.arrives(db, team_id=team_id) for _ in range(3)]
    assert {i.owner_id for i in mine} == {olena}
    ihor = await desk.an_agent(db, "Ihor", team_id)
    await desk.go(db, olena, "away_reassign")
    await sweep.sweep_wakeups(db)
    assert {i["owner_id"] for i in await desk.rows(db, work_item)} == {ihor}
    assert await desk.used(db, olena, "async") == 0
    await desk.check_invariants(db)


async def test_a_step_of_the_sla_opens_the_next_ring(db: Database) -> None:
    support = await desk.a_team(db, settings={})
    sales = await desk.a_team(db, "Sales", settings={"overflow": [support]})
    olena = await desk.an_agent(db, "Olena", support)
    row = await opened(db, team_id=sales)
    before = await only_item(db)
    assert (before["state"], before["step_no"]) == ("waiting", 0)
    async with db.transaction() as uow:
        await uow.emit(
            DomainEvent(
                kind="sla.step",
                subject_kind="inquiry",
                subject_id=row["id"],
                inquiry_id=row["id"],
                payload={"action": "widen_routing"},
            )
        )
    after = await only_item(db)
    assert (after["state"], after["owner_id"], after["step_no"]) == ("assigned", olena, 1)
    await desk.check_invariants(db)
