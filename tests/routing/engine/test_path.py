"""The main path: enqueue, claim, offer or assign, accept, decline, expire, finish; presence and capacity."""

import pytest
from sqlalchemy import select, update

from crm_core.db.engine import Database
from crm_core.errors import Conflict, Forbidden, Gone, NotFound
from crm_core.schema import conversation, event, inquiry, team
from routing import assignments, explain, items, match, offers, presence, sweep
from routing.model import ItemState
from routing.schema import agent_state, decision, offer, queue_entry, work_item
from tests.conftest import MovableClock
from tests.routing.engine import desk
from tests.routing.engine.desk import T0


@pytest.fixture(autouse=True)
def frozen(clock: MovableClock) -> MovableClock:
    clock.set(T0)
    return clock


async def test_an_email_goes_outright_to_the_free_agent(db: Database) -> None:
    team_id = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team_id)
    contact_id = await desk.a_contact(db)
    thread = await desk.a_conversation(db, contact_id, await desk.an_inbox(db))
    inquiry_id = await desk.an_inquiry(db, team_id=None, contact_id=contact_id, conversation_id=thread)

    item = await desk.enqueue(db, inquiry_id)

    assert (item.state, item.owner_id, item.channel) == (ItemState.ASSIGNED, olena, "async")
    (row,) = await desk.rows(db, inquiry, inquiry.c.id == inquiry_id)
    assert (row["assignee_id"], row["team_id"], row["version"]) == (olena, team_id, 2)
    (held,) = await desk.rows(db, conversation, conversation.c.id == thread)
    assert (held["sticky_agent_id"], held["sticky_until"]) == (olena, T0 + 72 * 3_600_000)
    (told,) = await desk.rows(db, event, event.c.kind == "inquiry.assigned")
    (why,) = await desk.rows(db, decision)
    assert told["payload"]["decision_id"] == why["id"]
    assert told["payload"]["agent"] == {"id": olena, "name": "Olena"}
    assert why["why"]["winner"]["name"] == "Olena"
    await desk.check_invariants(db)


async def test_who_served_a_conversation_is_asked_first_for_three_days(
    db: Database, frozen: MovableClock
) -> None:
    team_id = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team_id)
    person, box = await desk.a_contact(db), await desk.an_inbox(db)
    thread = await desk.a_conversation(db, person, box)

    async def comes() -> tuple[int | None, int | None]:
        found = await desk.an_inquiry(db, team_id=team_id, contact_id=person, conversation_id=thread)
        item = await desk.enqueue(db, found)
        return item.sticky_agent_id, item.owner_id

    assert await comes() == (None, olena)
    ihor = await desk.an_agent(db, "Ihor", team_id)
    frozen.advance(72 * 3_600_000 - 1)
    await desk.beat(db)
    assert await comes() == (olena, olena), "though Ihor has nothing in hand"
    frozen.advance(72 * 3_600_000)
    await desk.beat(db)
    assert await comes() == (None, ihor), "counted from the last time; by now it is anybody's"


async def test_a_chat_is_offered_and_accepted_once(db: Database, frozen: MovableClock) -> None:
    team_id = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team_id)
    ihor = await desk.an_agent(db, "Ihor", team_id, online=False)
    item = await desk.arrives(db, team_id=team_id, channel="webchat")
    assert item.state == ItemState.OFFERED
    (made,) = await desk.open_offers(db)
    assert (made["agent_id"], made["expires_at"]) == (olena, T0 + 25_000)
    assert await desk.used(db, olena, "chat") == 1
    assert await desk.assignee(db, item.source_id) is None
    (shown,) = [e["payload"]["offer"] for e in await desk.rows(db, event, event.c.kind == "offer.made")]
    assert shown["inquiry"]["id"] == item.source_id
    assert "Olena" in shown["why_text"]

    async with db.transaction() as uow:
        with pytest.raises(Forbidden):
            await offers.accept(uow, made["id"], ihor, "c0")
    async with db.transaction() as uow:
        first = await offers.accept(uow, made["id"], olena, "c1")
    async with db.transaction() as uow:
        again = await offers.accept(uow, made["id"], olena, "c1")
    async with db.transaction() as uow:
        other = await offers.accept(uow, made["id"], olena, "c2")
    assert first == again == other
    assert first["inquiry_id"] == item.source_id
    assert await desk.assignee(db, item.source_id) == olena
    assert await desk.used(db, olena, "chat") == 1
    await desk.check_invariants(db)

    # A click that arrives when a colleague has it already still has the first answer, and changes nothing.
    async with db.transaction() as uow:
        await assignments.take(uow, item.source_id, ihor, steal=True)
    async with db.transaction() as uow:
        assert await offers.accept(uow, made["id"], olena, "c3") == first
    assert await desk.assignee(db, item.source_id) == ihor


async def test_a_late_accept_is_told_so(db: Database, frozen: MovableClock) -> None:
    team_id = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team_id)
    await desk.arrives(db, team_id=team_id, channel="webchat")
    (made,) = await desk.open_offers(db)
    frozen.advance(25_000)
    async with db.transaction() as uow:
        with pytest.raises(Gone) as caught:
            await offers.accept(uow, made["id"], olena, "c1")
    assert caught.value.code == "offer_expired"
    async with db.transaction() as uow:
        with pytest.raises(NotFound):
            await offers.accept(uow, 999, olena, "c2")


async def test_a_declined_chat_goes_to_the_next_and_keeps_its_key(db: Database) -> None:
    team_id = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team_id)
    item = await desk.arrives(db, team_id=team_id, channel="webchat")
    (made,) = await desk.open_offers(db)
    async with db.transaction() as uow:
        await offers.decline(uow, made["id"], olena, "lunch", "d1")
    async with db.transaction() as uow:
        await offers.decline(uow, made["id"], olena, "lunch", "d1")
    back = await desk.the_item(db, item.id)
    assert (back.state, back.order_key, back.rounds) == (ItemState.WAITING, item.order_key, 1)
    assert back.excluded == {olena: T0 + 300_000}
    assert await desk.used(db, olena, "chat") == 0
    assert await desk.open_offers(db) == []

    ihor = await desk.an_agent(db, "Ihor", team_id)
    (second,) = await desk.open_offers(db)
    assert second["agent_id"] == ihor
    await desk.check_invariants(db)


async def test_two_missed_offers_send_an_agent_to_a_break(db: Database, frozen: MovableClock) -> None:
    team_id = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team_id)
    for n in (1, 2):
        await desk.arrives(db, team_id=team_id, channel="webchat")
        frozen.advance(25_000)
        async with db.transaction() as uow:
            await presence.heartbeat(uow, olena)
        assert await sweep.sweep_offers(db) is None
        (state,) = await desk.rows(db, agent_state)
        assert state["missed_offers"] == n
    assert (state["presence"], state["reason"], state["routable"]) == ("break", "not_responding", False)
    changed = await desk.rows(db, event, event.c.kind == "presence.changed")
    assert changed[-1]["payload"]["reason"] == "not_responding"
    assert {i["state"] for i in await desk.rows(db, work_item)} == {"waiting"}
    await desk.check_invariants(db)


async def test_who_does_not_respond_holds_up_nobody_else(db: Database, frozen: MovableClock) -> None:
    """He has let two ring out: what he was offered a moment ago does not have to ring out, too."""
    team_id = await desk.a_team(db)
    petro = await desk.an_agent(db, "Petro", team_id)
    first = await desk.arrives(db, team_id=team_id, channel="webchat")
    frozen.advance(1_000)
    second = await desk.arrives(db, team_id=team_id, channel="webchat")
    frozen.advance(19_000)
    third = await desk.arrives(db, team_id=team_id, channel="webchat")
    frozen.advance(4_000)
    await desk.beat(db)
    olena = await desk.an_agent(db, "Olena", team_id)
    assert {o["agent_id"] for o in await desk.open_offers(db)} == {petro}

    frozen.advance(2_000)
    while (due := await sweep.sweep_offers(db)) is not None and due <= frozen.now_ms():
        pass
    for item in (first, second, third):
        (made,) = await desk.open_offers(db, item.id)
        assert made["agent_id"] == olena
    assert await desk.used(db, petro, "chat") == 0
    await desk.check_invariants(db)


async def test_who_becomes_free_gets_the_smallest_key_of_his_lanes(
    db: Database, frozen: MovableClock
) -> None:
    team_id = await desk.a_team(db)
    normal = await desk.arrives(db, team_id=team_id)
    frozen.advance(60_000)
    urgent = await desk.arrives(db, team_id=team_id, priority="urgent")
    low = await desk.arrives(db, team_id=team_id, priority="low")
    assert {i.state for i in (normal, urgent, low)} == {ItemState.WAITING}
    olena = await desk.an_agent(db, "Olena", team_id, settings={"capacity": {"async": 1}})
    order = []
    for _ in range(3):
        (live,) = [i for i in await desk.rows(db, work_item) if i["state"] == "assigned"]
        order.append(live["id"])
        async with db.transaction() as uow:
            await items.finish(uow, "inquiry", live["source_id"], "solved")
    assert order == [urgent.id, normal.id, low.id]
    assert await desk.used(db, olena, "async") == 0
    assert await desk.rows(db, queue_entry) == []
    await desk.check_invariants(db)


async def test_the_contacts_manager_is_first_and_waited_for_only_as_long_as_allowed(
    db: Database, frozen: MovableClock
) -> None:
    team_id = await desk.a_team(db)
    petro = await desk.an_agent(db, "Petro", team_id, settings={"capacity": {"chat": 1}})
    contact_id = await desk.a_contact(db, manager_id=petro)
    first = await desk.arrives(db, team_id=team_id, channel="webchat", contact_id=contact_id)
    await desk.an_agent(db, "Olena", team_id)
    (made,) = await desk.open_offers(db, first.id)
    assert made["agent_id"] == petro
    async with db.transaction() as uow:
        await offers.accept(uow, made["id"], petro, "a")

    waiting = await desk.arrives(db, team_id=team_id, channel="webchat", contact_id=contact_id)
    assert (waiting.state, waiting.step_no, waiting.next_step_at) == (ItemState.WAITING, 0, T0 + 45_000)
    async with db.reading() as conn:
        told = await explain.why(conn, waiting.source_id, "uk", now=T0)
    assert told["waiting"]["agents"][0]["agent"]["name"] in ("Petro", "Olena")
    assert "менеджера" in told["text"]
    for _ in range(3):
        frozen.advance(15_000)
        async with db.transaction() as uow:
            await presence.heartbeat(uow, petro)
        for agent in await desk.rows(db, agent_state):
            async with db.transaction() as uow:
                await presence.heartbeat(uow, agent["agent_id"])
    await sweep.sweep_steps(db)
    (made,) = await desk.open_offers(db, waiting.id)
    assert made["agent_id"] != petro
    async with db.reading() as conn:
        told = await explain.why(conn, waiting.source_id, "en", now=T0)
    assert "Manager Petro: has no free place. It waited 45 s for that." in told["decisions"][-1]["text"]
    await desk.check_invariants(db)


async def test_an_absent_manager_holds_nothing_up(db: Database) -> None:
    team_id = await desk.a_team(db)
    petro = await desk.an_agent(db, "Petro", team_id, online=False)
    olena = await desk.an_agent(db, "Olena", team_id)
    contact_id = await desk.a_contact(db, manager_id=petro)
    item = await desk.arrives(db, team_id=team_id, contact_id=contact_id)
    assert item.owner_id == olena
    async with db.reading() as conn:
        told = await explain.why(conn, item.source_id, "ru")
    assert "Менеджер Petro: не в сети." in told["decisions"][0]["text"]


async def test_language_is_a_hard_skill_only_where_somebody_has_it(db: Database) -> None:
    team_id = await desk.a_team(db)
    await desk.an_agent(db, "Ihor", team_id, skills={"lang:uk": 5})
    german = await desk.arrives(db, team_id=team_id, language="de")
    assert german.state == ItemState.ASSIGNED
    assert german.requirements.dropped == ("lang:de",)
    english = await desk.an_agent(db, "Anna", team_id, skills={"lang:en": 3})
    for _ in range(3):
        item = await desk.arrives(db, team_id=team_id, language="en")
        assert item.owner_id == english
        assert item.requirements.hard == {"lang:en"}
    await desk.check_invariants(db)


async def test_required_levels_soften_step_by_step(db: Database, frozen: MovableClock) -> None:
    team_id = await desk.a_team(db)
    await desk.an_agent(db, "Expert", team_id, skills={"product:visa": 4}, online=False)
    junior = await desk.an_agent(db, "Junior", team_id, skills={"product:visa": 2})
    item = await desk.arrives(db, team_id=team_id, requirements={"product:visa": 3})
    assert item.state == ItemState.WAITING
    assert item.next_step_at == T0 + 4 * 3_600_000
    frozen.advance(4 * 3_600_000)
    await desk.go(db, junior, "offline")
    await desk.go(db, junior, "online")
    await sweep.sweep_steps(db)
    assert (await desk.the_item(db, item.id)).owner_id == junior


async def test_the_longest_idle_agent_gets_the_next_chat(db: Database, frozen: MovableClock) -> None:
    team_id = await desk.a_team(db)
    agents = []
    for name in ("A", "B", "C"):
        agents.append(await desk.an_agent(db, name, team_id))
        frozen.advance(1_000)
    served = []
    for _ in range(6):
        item = await desk.arrives(db, team_id=team_id, channel="webchat")
        (made,) = await desk.open_offers(db, item.id)
        served.append(made["agent_id"])
        frozen.advance(1_000)
        async with db.transaction() as uow:
            await offers.accept(uow, made["id"], made["agent_id"], None)
        async with db.transaction() as uow:
            await items.finish(uow, "inquiry", item.source_id, "solved")
    assert served == agents * 2


async def test_blending_a_chat_interrupts_email_but_nothing_interrupts_a_call(db: Database) -> None:
    team_id = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team_id)
    for _ in range(11):
        await desk.arrives(db, team_id=team_id)
    assert await desk.used(db, olena, "async") == 10
    chat = await desk.arrives(db, team_id=team_id, channel="webchat")
    assert chat.state == ItemState.OFFERED
    async with db.transaction() as uow:
        await assignments.take(uow, chat.source_id, olena, None)
        await items.adopt_call(
            uow, {"id": 5, "inquiry_id": None, "conversation_id": None, "contact_id": None}, olena
        )
    second = await desk.arrives(db, team_id=team_id, channel="webchat")
    assert second.state == ItemState.WAITING
    async with db.reading() as conn:
        told = await explain.why(conn, second.source_id, "en", now=T0)
    assert told["waiting"]["agents"][0]["reason"] == "interrupted_by_nothing"
    await desk.check_invariants(db)


async def test_a_lapsed_lease_withdraws_offers_and_later_moves_chats(
    db: Database, frozen: MovableClock
) -> None:
    team_id = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team_id)
    mine = await desk.arrives(db, team_id=team_id, channel="webchat")
    (made,) = await desk.open_offers(db)
    async with db.transaction() as uow:
        await offers.accept(uow, made["id"], olena, "a")
    email = await desk.arrives(db, team_id=team_id)
    frozen.advance(30_000)
    offered = await desk.arrives(db, team_id=team_id, channel="webchat")
    assert offered.state == ItemState.OFFERED
    frozen.advance(16_000)
    await sweep.sweep_leases(db)
    (state,) = await desk.rows(db, agent_state)
    assert (state["presence"], state["reason"], state["since"]) == ("offline", "lease_lapsed", T0 + 45_000)
    assert (await desk.the_item(db, offered.id)).state == ItemState.WAITING
    assert (await desk.the_item(db, mine.id)).state == ItemState.ASSIGNED
    frozen.advance(60_000)
    await sweep.sweep_wakeups(db)
    moved = await desk.the_item(db, mine.id)
    assert (moved.state, moved.sticky_agent_id, moved.order_key) == (ItemState.WAITING, olena, mine.order_key)
    assert await desk.assignee(db, mine.source_id) is None
    assert (await desk.the_item(db, email.id)).owner_id == olena
    await desk.check_invariants(db)

    async with db.transaction() as uow:
        back = await presence.heartbeat(uow, olena)
    assert back["presence"] == "online"
    assert {o["item_id"] for o in await desk.open_offers(db)} == {mine.id, offered.id}
    await desk.check_invariants(db)


async def test_take_transfer_release(db: Database) -> None:
    team_id = await desk.a_team(db)
    other_team = await desk.a_team(db, "Sales")
    olena = await desk.an_agent(db, "Olena", team_id)
    ihor = await desk.an_agent(db, "Ihor", other_team)
    item = await desk.arrives(db, team_id=team_id)
    assert item.owner_id == olena
    async with db.transaction() as uow:
        with pytest.raises(Conflict) as caught:
            await assignments.take(uow, item.source_id, ihor, "t1")
    assert caught.value.code == "already_assigned"
    async with db.transaction() as uow:
        moved = await assignments.transfer(
            uow, item.source_id, actor=f"agent:{olena}", to_agent_id=ihor, note="yours", command_id="x"
        )
    assert moved["agent_id"] == ihor
    assert (await desk.used(db, olena, "async"), await desk.used(db, ihor, "async")) == (0, 1)
    async with db.transaction() as uow:
        back = await assignments.release(uow, item.source_id, f"agent:{ihor}")
    assert (back["state"], back["agent_id"]) == ("assigned", olena)
    async with db.transaction() as uow:
        moved = await assignments.transfer(uow, item.source_id, actor=f"agent:{olena}", to_team_id=other_team)
    assert (moved["state"], moved["team_id"], moved["agent_id"]) == ("assigned", other_team, ihor)
    await desk.check_invariants(db)


async def test_a_transferred_chat_that_nobody_takes_comes_back(db: Database, frozen: MovableClock) -> None:
    team_id = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team_id)
    item = await desk.arrives(db, team_id=team_id, channel="webchat")
    async with db.transaction() as uow:
        await assignments.take(uow, item.source_id, olena, "t")
    ihor = await desk.an_agent(db, "Ihor", team_id)
    async with db.transaction() as uow:
        await assignments.transfer(uow, item.source_id, actor=f"agent:{olena}", to_agent_id=ihor)
    (made,) = await desk.open_offers(db)
    assert made["agent_id"] == ihor
    assert await desk.assignee(db, item.source_id) == olena
    frozen.advance(25_000)
    await sweep.sweep_offers(db)
    back = await desk.the_item(db, item.id)
    assert (back.state, back.owner_id, back.directed_agent_id) == (ItemState.ASSIGNED, olena, None)
    await desk.check_invariants(db)


async def test_the_poll_repairs_a_lost_wakeup(db: Database) -> None:
    team_id = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team_id, settings={"capacity": {"async": 0}})
    item = await desk.arrives(db, team_id=team_id)
    async with db.transaction() as uow:
        await uow.execute(update(team).values(settings={}))
        await uow.execute(desk.agent_slot.update().where(desk.agent_slot.c.agent_id == olena).values(max=5))
    assert await match.route_pending(db) == 1
    assert (await desk.the_item(db, item.id)).owner_id == olena
    assert await match.route_pending(db) == 0


async def test_enqueueing_twice_makes_one_item(db: Database) -> None:
    team_id = await desk.a_team(db)
    inquiry_id = await desk.an_inquiry(db, team_id=team_id)
    first = await desk.enqueue(db, inquiry_id)
    assert (await desk.enqueue(db, inquiry_id)).id == first.id
    async with db.reading() as conn:
        assert len((await conn.execute(select(work_item))).all()) == 1
        assert len((await conn.execute(select(offer))).all()) == 0
