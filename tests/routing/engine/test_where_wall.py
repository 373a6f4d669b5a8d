"""Where a ringing call goes, and what the wallboard shows."""

from types import SimpleNamespace

import pytest

from crm_core.db.engine import Database
from crm_core.envelope import CallEvent, Envelope, IdentityClaim, IdentityKind, Kind, Sender
from crm_core.schema import identity
from routing import items, presence, wall
from routing.schema import sla_clock
from routing.where import where_to_send_call
from tests.conftest import MovableClock
from tests.routing.engine import desk
from tests.routing.engine.desk import T0


@pytest.fixture(autouse=True)
def frozen(clock: MovableClock) -> MovableClock:
    clock.set(T0)
    return clock


def ringing(number: str | None) -> Envelope:
    claims = (IdentityClaim(IdentityKind.PHONE, number, evidence="caller_id"),) if number else ()
    return Envelope(
        kind=Kind.CALL,
        dedupe_key="1",
        conversation_key="c",
        sender=Sender(identities=claims),
        occurred_at=T0,
        call=CallEvent(call_id="c", leg_id="l", from_number=number, state="ringing"),
    )


async def target(db: Database, number: str | None, inbox_id: int) -> tuple[str | None, bool] | None:
    async with db.reading() as conn:
        found = await where_to_send_call(conn, ringing(number), SimpleNamespace(id=inbox_id))
    return None if found is None else (found.agent_ext, found.manager)


async def test_a_call_goes_to_the_manager_then_to_the_longest_idle(
    db: Database, frozen: MovableClock
) -> None:
    team_id = await desk.a_team(db)
    other = await desk.a_team(db, "Sales")
    box = await desk.an_inbox(db, "telephony", team_id)
    await desk.an_agent(db, "Idle", team_id, extension="101")
    await desk.an_agent(db, "NoPhone", team_id)
    frozen.advance(1_000)
    manager = await desk.an_agent(db, "Manager", other, extension="103")
    person = await desk.a_contact(db, manager_id=manager)
    async with db.transaction() as uow:
        await uow.insert(
            identity,
            {
                "contact_id": person,
                "kind": "phone",
                "value": "+380441234567",
                "account": "",
                "verified_at": None,
                "unreachable_at": None,
                "first_seen_at": T0,
                "last_seen_at": T0,
            },
        )
    assert await target(db, "+380441234567", box) == ("103", True)
    assert await target(db, "+380440000000", box) == ("101", False)
    assert await target(db, None, box) == ("101", False)
    async with db.transaction() as uow:
        await items.adopt_call(
            uow, {"id": 1, "inquiry_id": None, "conversation_id": None, "contact_id": person}, manager
        )
    assert await target(db, "+380441234567", box) == ("101", False)
    async with db.transaction() as uow:
        await presence.set_presence(uow, manager, "offline")
        await presence.set_presence(uow, 1, "break")
    assert await target(db, "+380441234567", box) is None


async def test_a_call_may_interrupt_one_chat_where_the_team_allows_it(db: Database) -> None:
    allowed = {"channels": {"voice": {"interrupts_up_to": {"chat": 1}}}}
    team_id = await desk.a_team(db, settings=allowed)
    box = await desk.an_inbox(db, "telephony", team_id)
    olena = await desk.an_agent(db, "Olena", team_id, extension="101")
    for _ in range(2):
        assert await target(db, None, box) == ("101", False), "with one chat at most"
        chat = await desk.arrives(db, team_id=team_id, channel="webchat")
        assert (await desk.open_offers(db, chat.id))[0]["agent_id"] == olena
    assert await target(db, None, box) is None, "two chats are not interrupted"
    await desk.set_team(db, team_id, {})
    async with db.transaction() as uow:
        await items.finish(uow, "inquiry", chat.source_id, "closed")
    assert await target(db, None, box) is None, "by itself a call interrupts no chat"


async def test_the_wall_counts_what_is_open(db: Database, frozen: MovableClock) -> None:
    team_id = await desk.a_team(db)
    frozen.advance(-90_000)
    waiting = [await desk.arrives(db, team_id=team_id) for _ in range(2)]
    frozen.advance(90_000)
    await desk.an_agent(db, "Olena", team_id, settings={"capacity": {"async": 1}})
    values = {
        "inquiry_id": waiting[1].source_id,
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
        "due_at": T0 + 60_000,
        "step": 0,
        "data": {},
        "version": 1,
    }
    async with db.transaction() as uow:
        await uow.insert(sla_clock, values)
        await uow.insert(
            sla_clock, {**values, "instance": 2, "due_at": T0 - 5, "breach_at": T0 - 5, "breached_at": T0 - 5}
        )
        await uow.insert(
            sla_clock,
            {**values, "instance": 3, "due_at": T0 - 5, "breached_at": T0 - 5, "state": "fulfilled"},
        )
    async with db.reading() as conn:
        shown = await wall.snapshot(conn, T0)
    (line,) = shown["teams"]
    assert (line["waiting"], line["longest_wait_ms"], line["breached_open"], line["due_soon"]) == (
        1,
        90_000,
        1,
        1,
    )
    assert (line["agents_online"], line["agents_total"]) == (1, 1)
    (agent,) = shown["agents"]
    assert (agent["presence"], agent["open_count"], agent["load"]) == ("online", 1, {"used": 10, "max": 100})
    assert shown["breaches"] == [
        {
            "inquiry": shown["breaches"][0]["inquiry"],
            "metric": "first_reply",
            "breach_at": "2026-09-21T14:13:19.995Z",
        }
    ]
    assert shown["callbacks"] == {"due": 0, "escalated": 0}
