"""A customer's own promises in his own channel: seen, moved, taken back; and what the staff can keep."""

import pytest
from sqlalchemy import select, update

from crm_core.db.engine import Database
from crm_core.schema import agent, team, team_member
from routing import callbacks
from routing.schema import callback_slot
from tests.bots.support import Bureau, Customer, a_bureau, callbacks_of, kyiv
from tests.conftest import MovableClock
from tests.routing.engine.desk import rows


@pytest.fixture
async def bureau(db: Database, clock: MovableClock) -> Bureau:
    clock.set(kyiv(2, 12))
    return await a_bureau(db)


async def booked_by(
    bureau: Bureau, channel: str, who: str, number: str, at: str, locale: str = "uk"
) -> Customer:
    customer = Customer(bureau, channel, who=who, locale=locale)
    for text in ("/start", "5", number, at):
        await customer.writes(text)
    return customer


@pytest.mark.parametrize("channel", ["telegram", "webchat"])
async def test_he_sees_moves_and_cancels_his_call(bureau: Bureau, channel: str) -> None:
    customer = await booked_by(bureau, channel, "5", "0501234567", "завтра 15:00")
    (booked,) = await callbacks_of(bureau.db)
    before = len(await customer.heard())
    await customer.writes("мої дзвінки")
    assert "завтра о 15:00" in await customer.last_words()
    assert await customer.labels() == ["🕘 Інший час", "✖ Скасувати дзвінок"]
    assert len(await customer.heard()) == before + 1
    await customer.presses("Інший час")
    assert "Оберіть інший час" in await customer.last_words()
    first = (await customer.labels())[0]
    assert first == "Сьогодні 12:30"
    await customer.presses(first)
    (moved,) = await callbacks_of(bureau.db)
    assert (moved["due_at"], moved["state"]) == (kyiv(2, 12, 30), "scheduled")
    assert "Перенесено" in await customer.last_words()
    assert {s["start"]: s["taken"] for s in await rows(bureau.db, callback_slot)} == {
        kyiv(3, 15): 0, kyiv(2, 12, 30): 1
    }  # fmt: skip
    await customer.writes("перенесите звонок на завтра в 16:00")
    assert (await callbacks_of(bureau.db))[0]["due_at"] == kyiv(3, 16)
    await customer.writes("Скасуйте дзвінок, будь ласка")
    (gone,) = await callbacks_of(bureau.db)
    assert (gone["state"], gone["ended_by"], gone["id"]) == ("cancelled", "customer", booked["id"])
    await customer.presses_value(f"x:cb:{booked['id']}:move")  # an old button
    assert "уже відбувся або скасований" in await customer.last_words()


async def test_the_words_of_three_languages_and_nobody_elses_promise(bureau: Bureau) -> None:
    for n, (locale, words, said) in enumerate(
        (
            ("en", "cancel my call", "cancelled"),
            ("ru", "не звоните мне", "отменён"),
            ("uk", "не телефонуйте", "скасовано"),
        )
    ):
        customer = await booked_by(bureau, "webchat", f"w{n}", f"05012345{n}7", "завтра 15:00", locale)
        (mine,) = [c for c in await callbacks_of(bureau.db) if c["state"] == "scheduled"]
        other = Customer(bureau, "webchat", who=f"x{n}")
        await other.writes("/start")
        await other.presses_value(f"x:cb:{mine['id']}:cancel")
        assert (await callbacks_of(bureau.db))[n]["state"] == "scheduled"
        await customer.writes(words)
        assert said in await customer.last_words()
        assert (await callbacks_of(bureau.db))[n]["state"] == "cancelled"


async def test_who_was_promised_nothing_is_told_so_and_greeted(bureau: Bureau) -> None:
    customer = Customer(bureau, "webchat")
    await customer.writes("my callbacks")
    assert (
        next(m["text"] for m in await customer.heard() if m["author_kind"] == "bot")
        == "Ми не обіцяли вам дзвінка."
    )
    assert (await customer.dialog())["state"] == "active"  # silence ends it; it is not held for ever
    await customer.writes("не дзвоніть")  # to nobody's promise: his request, for people
    assert not (await customer.inquiry())["held_by_bot"]


async def test_only_what_the_staff_can_keep_is_offered(bureau: Bureau) -> None:
    async with bureau.db.transaction() as uow:
        support = bureau.teams["Support"]
        # One person, a tenth of whose time is six minutes in an hour: one call in half an hour needs 0.2.
        await uow.execute(
            update(team)
            .where(team.c.id == support)
            .values(settings={"callbacks": {"share": 0.2, "aht_s": 360}})
        )
        who = await uow.insert(
            agent,
            {
                "email": "a@example.org", "name": "A", "password_hash": None, "role": "agent",
                "language": "en", "extension": None, "calendar_id": None, "settings": {}, "active": True,
                "created_at": uow.now,
            },
        )  # fmt: skip
        await uow.execute(team_member.insert().values(team_id=support, agent_id=who, lead=False))
    await booked_by(bureau, "webchat", "one", "0501234567", "сьогодні 14:30")
    second = Customer(bureau, "webchat", who="two")
    for text in ("/start", "5", "0671234567"):
        await second.writes(text)
    assert (await second.labels())[:3] == ["Якнайшвидше", "Сьогодні 12:30", "Сьогодні 15:00"]
    await second.writes("сьогодні 14:40")
    assert "Цей час уже зайнятий" in await second.last_words()
    assert len(await callbacks_of(bureau.db)) == 1
    await second.presses("Сьогодні 15:00")
    assert [c["due_at"] for c in await callbacks_of(bureau.db)] == [kyiv(2, 14, 30), kyiv(2, 15)]
    async with bureau.db.transaction() as uow:
        await callbacks.cancel(uow, (await callbacks_of(bureau.db))[0]["id"], actor="agent:1")
        assert (
            await uow.scalar(select(callback_slot.c.taken).where(callback_slot.c.start == kyiv(2, 14, 30)))
            == 0
        )
