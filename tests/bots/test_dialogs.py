"""Whole dialogs through the intake, on both databases, in Telegram and in the web chat."""

import pytest
from sqlalchemy import select
from sqlalchemy import text as sql

import bots
from crm_core import inquiries, messages
from crm_core.clock import MINUTE
from crm_core.db.engine import Database
from crm_core.schema import agent, event, identity
from tests.bots.support import TRAVEL, Bureau, Customer, a_bureau, callbacks_of, kyiv
from tests.conftest import MovableClock

CHANNELS = ("telegram", "webchat")
OPEN, CLOSED = kyiv(2, 12), kyiv(2, 21)


@pytest.fixture
async def bureau(db: Database, clock: MovableClock) -> Bureau:
    clock.set(OPEN)
    return await a_bureau(db)


@pytest.fixture(params=CHANNELS)
def channel(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def handed_off(bureau: Bureau) -> list[str]:
    return [e.payload["reason"] for e in bureau.events if e.kind == "inquiry.handed_off"]


GREETINGS = (
    ("/start", "uk", "Вітаємо, Ірина!"), ("/start", "ru", "Здравствуйте, Ирина!"), ("/start", "en-GB", "Hello, Iryna!"),
    ("/start", "de", "Вітаємо"), ("Добрий день!", "en", "Вітаємо"), ("Здравствуйте", "uk", "Здравствуйте, "),
    ("hello", "uk", "Hello, "),
)  # fmt: skip


async def test_a_greeting_is_answered_in_the_customers_language(bureau: Bureau, channel: str) -> None:
    for who, (text, locale, words) in enumerate(GREETINGS):
        name = {"ru": "Ирина", "en-GB": "Iryna"}.get(locale, "Ірина")
        customer = Customer(bureau, channel, locale=locale, name=name, who=f"g{who}")
        await customer.writes(text)
        assert words in await customer.last_words()
        assert len(await customer.labels()) == 9  # six topics, a person, two other languages
        row = await customer.inquiry()
        assert row["held_by_bot"]
        said = (await customer.heard())[-1]
        assert (said["author_kind"], said["automatic"], said["state"]) == ("bot", True, "queued")
        assert row["language"] == (await customer.dialog())["language"]


async def test_a_name_that_nobody_knows_leaves_no_hole(bureau: Bureau) -> None:
    customer = Customer(bureau, "webchat", name=None)
    await customer.writes("привіт")
    assert (await customer.last_words()).startswith("Вітаємо! Це")


async def test_a_topic_makes_a_lead_of_the_right_team_and_people_get_all_answers(
    bureau: Bureau, channel: str
) -> None:
    customer = Customer(bureau, channel)
    await customer.writes("/start")
    await customer.presses("Підібрати тур")
    row = await customer.inquiry()
    assert (row["kind"], row["team_id"], row["tags"]) == ("lead", bureau.teams["Sales"], ["tour"])
    assert row["held_by_bot"]
    await customer.writes("Єгипет у серпні")
    await customer.writes("двоє")
    assert (await customer.last_words()).startswith("Напишіть, будь ласка, число.")
    await customer.writes("нас буде 2")
    assert "номер телефону" in await customer.last_words()
    await customer.writes("050 123-45-67")
    row = await customer.inquiry()
    assert not row["held_by_bot"]
    assert row["fields"]["direction"] == "Єгипет у серпні"
    assert row["fields"]["travellers"] == 2
    assert row["fields"]["phone"] == "+380501234567"
    assert row["subject"] == "🏖 Підібрати тур"
    assert handed_off(bureau) == ["tour_request"]
    assert "Менеджер підбере" in await customer.last_words()


async def test_a_topic_can_be_typed_by_number_label_or_value(bureau: Bureau, channel: str) -> None:
    for who, typed in enumerate(("3", "Візи та документи", "visas and documents", "VISA")):
        customer = Customer(bureau, channel, who=f"v{who}")
        await customer.writes("/start")
        await customer.writes(typed)
        row = await customer.inquiry()
        assert (row["requirements"], row["held_by_bot"]) == ({"product:visa": 3}, False), typed


async def test_telegram_is_asked_for_the_contact_and_its_card_is_proof(bureau: Bureau) -> None:
    customer = Customer(bureau, "telegram")
    for text in ("/start", "1", "Рим", "2"):
        await customer.writes(text)
    asked = (await customer.heard())[-1]["meta"]["buttons"]
    assert asked[0][0]["request"] == "contact"
    await customer.shares("+380671234567")
    async with bureau.db.reading() as conn:
        row = (await conn.execute(select(identity).where(identity.c.kind == "phone"))).mappings().one()
    assert row["value"] == "+380671234567" and row["verified_at"] == OPEN
    assert (await customer.inquiry())["fields"]["phone"] == "+380671234567"
    assert handed_off(bureau) == ["tour_request"]


async def test_the_web_chat_is_not_offered_what_it_cannot_do(bureau: Bureau) -> None:
    customer = Customer(bureau, "webchat")
    for text in ("/start", "1", "Рим", "2"):
        await customer.writes(text)
    assert not any(b["request"] for row in (await customer.heard())[-1]["meta"]["buttons"] for b in row)
    await customer.writes("Пропустити")
    assert handed_off(bureau) == ["tour_request"]


async def test_a_person_at_any_moment(bureau: Bureau, channel: str) -> None:
    asked = (
        "людину, будь ласка",
        "Соедините с оператором",
        "a person please",
        "👤 Людину, будь ласка",
        "/operator",
    )
    for who, (before, words) in enumerate(zip(([], ["1"], ["1", "Рим"], ["5"], ["2"]), asked, strict=True)):
        customer = Customer(bureau, channel, who=f"p{who}")
        for text in ("/start", *before, words):
            await customer.writes(text)
        assert not (await customer.inquiry())["held_by_bot"], before
    assert handed_off(bureau) == ["asked_for_person"] * 5


async def test_the_person_button(bureau: Bureau, channel: str) -> None:
    customer = Customer(bureau, channel)
    await customer.writes("/start")
    await customer.presses("Людину")
    assert handed_off(bureau) == ["asked_for_person"]
    await customer.presses_value("x:person", press_id="later")
    assert len(await customer.heard()) == 2  # the second press of a nervous finger says nothing


async def test_a_first_message_with_a_request_is_not_trapped_in_a_menu(bureau: Bureau, channel: str) -> None:
    customer = Customer(bureau, channel)
    await customer.writes("Добрий день, скільки коштує тур до Єгипту на двох?")
    row = await customer.inquiry()
    assert not row["held_by_bot"] and handed_off(bureau) == ["first_text"]
    assert len(await customer.heard()) == 1
    assert "Дякуємо" in await customer.last_words() and "зачинені" not in await customer.last_words()
    await customer.presses("Підібрати тур")
    row = await customer.inquiry()
    assert (row["kind"], row["team_id"], row["fields"]["topic"]) == (
        "lead",
        bureau.teams["Sales"],
        "🏖 Підібрати тур",
    )
    assert row["fields"]["topics"] == "tour"
    assert "занотовано" in await customer.last_words()
    assert len(handed_off(bureau)) == 1


async def test_refining_does_not_move_what_an_agent_works_on(bureau: Bureau) -> None:
    customer = Customer(bureau, "webchat")
    await customer.writes("Хочу поїхати до Італії влітку")
    async with bureau.db.transaction() as uow:
        agent_id = await uow.insert(
            agent,
            {
                "email": "a@x",
                "name": "A",
                "password_hash": None,
                "role": "agent",
                "language": "uk",
                "extension": None,
                "calendar_id": None,
                "settings": {},
                "active": True,
                "created_at": uow.now,
            },
        )
        await inquiries.change(uow, (await _id(customer)), {"assignee_id": agent_id}, actor="system")
    await customer.presses("Підібрати тур")
    row = await customer.inquiry()
    assert (row["kind"], row["team_id"], row["tags"]) == ("ticket", bureau.teams["Support"], ["tour"])
    assert row["fields"]["topics"] == "tour"


async def _id(customer: Customer) -> int:
    assert customer.last and customer.last.inquiry
    return int(customer.last.inquiry["id"])


async def test_any_other_text_at_a_menu_is_the_request(bureau: Bureau, channel: str) -> None:
    customer = Customer(bureau, channel)
    await customer.writes("/start")
    await customer.writes("У нас скасували рейс, що робити?")
    row = await customer.inquiry()
    assert not row["held_by_bot"] and row["subject"] == "У нас скасували рейс, що робити?"
    assert handed_off(bureau) == ["free_text"]


async def test_two_misunderstandings_lead_to_people(bureau: Bureau, channel: str) -> None:
    customer = Customer(bureau, channel)
    for text in ("/start", "1", "Рим", "багато"):
        await customer.writes(text)
    assert (await customer.inquiry())["held_by_bot"]
    await customer.writes("дуже багато")
    assert handed_off(bureau) == ["not_understood"]


async def test_outside_hours_the_next_opening_is_told(
    bureau: Bureau, clock: MovableClock, channel: str
) -> None:
    clock.set(CLOSED)
    for locale, text, words in (
        ("uk", "Хочу тур до Греції", "Відчинимось завтра о 09:00"),
        ("ru", "Хочу тур в Грецию, сколько стоит?", "Откроемся завтра в 09:00"),
        ("en", "I want a tour to Greece", "We open tomorrow at 9:00 AM"),
    ):
        customer = Customer(bureau, channel, locale=locale, who=f"c{locale}")
        await customer.writes(text)
        assert words in await customer.last_words()
    assert handed_off(bureau) == ["first_text"] * 3


async def test_the_next_opening_is_over_the_weekend(bureau: Bureau, clock: MovableClock) -> None:
    clock.set(kyiv(6, 19))
    customer = Customer(bureau, "telegram")
    await customer.writes("Хочу тур до Греції")
    assert "Відчинимось у понеділок, 9 червня, о 09:00" in await customer.last_words()


async def test_silence_hands_off_what_was_begun(bureau: Bureau, clock: MovableClock, channel: str) -> None:
    customer = Customer(bureau, channel)
    await customer.writes("/start")
    await customer.presses("Підібрати тур")
    clock.advance(10 * MINUTE - 1)
    assert await bots.SWEEPERS["dialogs"](bureau.db) == OPEN + 10 * MINUTE
    assert (await customer.inquiry())["held_by_bot"]
    clock.advance(1)
    assert await bots.SWEEPERS["dialogs"](bureau.db) is None
    row = await customer.inquiry()
    assert not row["held_by_bot"] and row["kind"] == "lead"
    assert handed_off(bureau) == ["idle"]
    assert (await customer.dialog())["state"] == "handed_off"


async def test_silence_after_a_mere_greeting_ends_it_and_a_new_word_begins_anew(
    bureau: Bureau, clock: MovableClock, channel: str
) -> None:
    customer = Customer(bureau, channel)
    await customer.writes("/start")
    clock.advance(11 * MINUTE)
    await bots.SWEEPERS["dialogs"](bureau.db)
    row = await customer.inquiry()
    assert (row["status"], row["outcome"]) == ("solved", "no_request") and handed_off(bureau) == []
    await customer.writes("привіт")
    assert "Чим допомогти" in await customer.last_words()
    assert (await customer.inquiry())["status"] == "open"


async def test_a_callback_in_the_customers_zone(bureau: Bureau, channel: str) -> None:
    customer = Customer(bureau, channel, locale="en", name="Jan")
    await customer.writes("/start")
    await customer.writes("call me back")
    assert "Which number" in await customer.last_words()
    await customer.writes("+48 512 345 678")  # Poland: an hour behind Kyiv
    assert "When should we call" in await customer.last_words()
    assert "Today 11:30 AM" in await customer.labels()  # half past twelve in Kyiv
    await customer.writes("tomorrow at 3 pm")
    assert "we will call +48512345678 tomorrow at 3:00 PM" in await customer.last_words()
    (booked,) = await callbacks_of(bureau.db)
    assert (booked["due_at"], booked["source"], booked["timezone"]) == (kyiv(3, 16), "bot", "Europe/Warsaw")
    assert booked["inquiry_id"] == await _id(customer) and booked["asked_for"]
    assert handed_off(bureau) == ["callback_booked"]


async def test_a_callback_by_a_button(bureau: Bureau, channel: str) -> None:
    customer = Customer(bureau, channel)
    await customer.writes("/start")
    await customer.presses("Передзвоніть")
    await customer.writes("0501234567")
    labels = await customer.labels()
    assert labels[:3] == ["Якнайшвидше", "Сьогодні 12:30", "Сьогодні 14:30"]
    await customer.presses("Сьогодні 14:30")
    (booked,) = await callbacks_of(bureau.db)
    assert booked["due_at"] == kyiv(2, 14, 30)
    assert "зателефонуємо сьогодні о 14:30 на номер +380501234567" in await customer.last_words()


async def test_as_soon_as_possible_at_night_is_the_next_opening(
    bureau: Bureau, clock: MovableClock, channel: str
) -> None:
    clock.set(CLOSED)
    customer = Customer(bureau, channel)
    for text in ("/start", "5", "0501234567", "якнайшвидше"):
        await customer.writes(text)
    (booked,) = await callbacks_of(bureau.db)
    assert booked["due_at"] == kyiv(3, 9)


async def test_a_time_when_nobody_works_gets_the_nearest_ones(bureau: Bureau, channel: str) -> None:
    customer = Customer(bureau, channel)
    for text in ("/start", "5", "0501234567", "в субботу в 12"):
        await customer.writes(text)
    assert "не працюємо" in await customer.last_words()
    assert (await customer.labels())[1] == "пн 09.06, 09:00"
    assert await callbacks_of(bureau.db) == []


async def test_a_callback_is_possible_when_a_person_owns_it(bureau: Bureau, channel: str) -> None:
    customer = Customer(bureau, channel)
    await customer.writes("Хочу тур до Греції на двох")
    before = len(await customer.heard())
    await customer.writes("дякую, чекаю на відповідь")
    assert len(await customer.heard()) == before  # the bot does not meddle
    await customer.writes("Передзвоніть мені, будь ласка")
    await customer.writes("0501234567")
    await customer.writes("завтра 15:00")
    (booked,) = await callbacks_of(bureau.db)
    assert booked["due_at"] == kyiv(3, 15)
    assert not (await customer.inquiry())["held_by_bot"] and len(handed_off(bureau)) == 1
    assert (await customer.dialog())["state"] == "ended"


async def test_a_word_to_the_person_ends_the_small_dialog(bureau: Bureau) -> None:
    customer = Customer(bureau, "webchat")
    for text in ("Хочу тур до Греції на двох", "передзвоніть", "ой, вже не треба, дякую"):
        await customer.writes(text)
    heard = len(await customer.heard())
    assert (await customer.dialog())["state"] == "ended" and heard == 2


async def test_the_same_update_twice_does_not_advance_twice(bureau: Bureau, channel: str) -> None:
    customer = Customer(bureau, channel)
    await customer.writes("/start")
    await customer.presses("Підібрати тур")
    await customer.writes("Рим")
    heard, version = len(await customer.heard()), (await customer.dialog())["version"]
    customer.n -= 1
    await customer.writes("Рим")
    assert customer.last and customer.last.duplicate
    assert (len(await customer.heard()), (await customer.dialog())["version"]) == (heard, version)


async def test_the_same_press_delivered_twice_does_not_advance_twice(bureau: Bureau, channel: str) -> None:
    customer = Customer(bureau, channel)
    await customer.writes("/start")
    for _ in range(2):
        await customer.presses("Підібрати тур")
    assert len(await customer.heard()) == 2
    assert (await customer.dialog())["node"] == "direction"


async def test_a_restart_in_the_middle_loses_nothing(
    bureau: Bureau, database_url: str, clock: MovableClock, channel: str
) -> None:
    from crm_core.infra.local import LocalHints

    customer = Customer(bureau, channel)
    for text in ("/start", "1", "Рим"):
        await customer.writes(text)
    again = Database(database_url, clock=clock, hints=LocalHints(), pool_size=2, synchronous="OFF")
    await again.start()
    again.listeners, bureau.db = bureau.db.listeners, again
    await customer.writes("2")
    await customer.writes("пропустити")
    row = await customer.inquiry()
    await again.close()
    assert (row["fields"]["direction"], row["fields"]["travellers"]) == ("Рим", 2)
    assert handed_off(bureau) == ["tour_request"]


async def test_a_running_dialog_keeps_its_version_of_the_flow(bureau: Bureau, channel: str) -> None:
    customer = Customer(bureau, channel)
    await customer.writes("/start")
    async with bureau.db.transaction() as uow:
        assert await bots.store_flow(uow, "travel", TRAVEL.replace("Куди й коли", "NEU Куди й коли")) == 2
        assert await bots.store_flow(uow, "travel", TRAVEL.replace("Куди й коли", "NEU Куди й коли")) == 2
    await customer.presses("Підібрати тур")
    assert (await customer.last_words()).startswith("Куди")
    fresh = Customer(bureau, channel, who="fresh")
    await fresh.writes("/start")
    await fresh.presses("Підібрати тур")
    assert (await fresh.last_words()).startswith("NEU Куди")


async def test_a_flow_that_does_not_exist_hands_off_at_once(
    db: Database, clock: MovableClock, channel: str
) -> None:
    clock.set(OPEN)
    bureau = await a_bureau(db, stored=False)
    customer = Customer(bureau, channel)
    await customer.writes("/start")
    assert not (await customer.inquiry())["held_by_bot"]
    assert [e.payload["alarm"] for e in bureau.events if e.kind == "alarm.raised"] == ["flow_missing"]


async def test_a_broken_engine_hands_off_and_keeps_the_message(
    bureau: Bureau, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    customer = Customer(bureau, channel)
    await customer.writes("/start")

    async def broken(uow: object, *_: object, **__: object) -> None:
        # Half of the turn is done when it breaks, a statement of it by the database itself.
        await uow.execute(sql("insert into no_such_table values (1)"))  # type: ignore[attr-defined]

    monkeypatch.setattr("bots.wishes.messages.post_message", broken)
    await customer.writes("1")
    row = await customer.inquiry()
    assert not row["held_by_bot"] and handed_off(bureau) == ["bot_failed"]
    assert customer.last and customer.last.message and customer.last.message["seq"] == 3
    assert row["kind"] == "ticket"  # what the broken turn had changed is undone, and nobody was told of it
    async with bureau.db.reading() as conn:
        assert "inquiry.updated" not in (await conn.execute(select(event.c.kind))).scalars().all()
    assert [e.payload["alarm"] for e in bureau.events if e.kind == "alarm.raised"] == ["bot_failed"]


async def test_a_person_who_takes_over_ends_the_dialog(bureau: Bureau, channel: str) -> None:
    customer = Customer(bureau, channel)
    await customer.writes("/start")
    async with bureau.db.transaction() as uow:
        row = await customer.inquiry()
        await messages.post_message(
            uow,
            conversation_id=row["conversation_id"],
            inquiry_row=row,
            author_kind="agent",
            author_name="Олена",
            text="Вітаю, я Олена",
        )
    assert (await customer.dialog())["state"] == "handed_off"
    assert not (await customer.inquiry())["held_by_bot"]
    heard = len(await customer.heard())
    await customer.writes("1")
    assert len(await customer.heard()) == heard


async def test_closing_ends_the_dialog(bureau: Bureau) -> None:
    customer = Customer(bureau, "telegram")
    await customer.writes("/start")
    async with bureau.db.transaction() as uow:
        await inquiries.change(uow, await _id(customer), {"status": "solved"}, actor="agent:1")
    assert (await customer.dialog())["state"] == "ended"


async def test_the_language_can_be_switched_at_any_moment(bureau: Bureau, channel: str) -> None:
    customer = Customer(bureau, channel)
    await customer.writes("/start")
    await customer.presses("English")
    assert (await customer.last_words()).startswith("How can we help")
    assert (await customer.inquiry())["language"] == "en"
    await customer.writes("по-русски")
    assert (await customer.last_words()).startswith("Чем помочь")


async def test_forged_and_foreign_buttons_do_no_harm(bureau: Bureau, channel: str) -> None:
    customer = Customer(bureau, channel)
    await customer.writes("/start")
    for i, value in enumerate(
        (
            "",
            "f:000000:tour",
            "f:zz",
            "x:lang:de",
            "x:at:99999999999999999999",
            "x:skip",
            "f:" + "a" * 300,
            "\u0000",
            "x:asap",
            "🦆",
        )
    ):
        await customer.presses_value(value.replace("\u0000", "?"), press_id=f"forged{i}")
    assert (await customer.inquiry())["held_by_bot"]
    assert (await customer.dialog())["node"] == "topics"


async def test_a_group_is_nothing_for_a_bot(bureau: Bureau) -> None:
    customer = Customer(bureau, "telegram", who="-100")
    await customer.take(text="привіт", data={"group": True})
    assert await customer.heard() == [] and handed_off(bureau) == ["group"]


async def test_a_topic_pressed_during_a_small_dialog_refines_and_does_not_restart_the_questions(
    bureau: Bureau,
) -> None:
    customer = Customer(bureau, "telegram")
    await customer.writes("Хочу поїхати до Греції на двох")
    await customer.presses("Передзвоніть мені")
    await customer.presses("Підібрати тур")
    assert "занотовано" in await customer.last_words()
    assert (await customer.dialog())["node"] == "callback"
    await customer.writes("0501234567")
    await customer.writes("завтра 15:00")
    assert len(await callbacks_of(bureau.db)) == 1


async def test_with_everything_wired_what_the_bot_hands_off_is_routed_in_the_same_transaction(
    bureau: Bureau, channel: str
) -> None:
    from routing.schema import work_item
    from switchboard.wiring import listeners

    bureau.db.listeners = listeners()
    customer = Customer(bureau, channel)
    for words in ("/start", "1", "Рим", "2"):
        await customer.writes(words)
    async with bureau.db.reading() as conn:
        assert (await conn.execute(select(work_item.c.id))).all() == []
    await customer.writes("0501234567")
    async with bureau.db.reading() as conn:
        (item,) = (await conn.execute(select(work_item))).mappings().all()
    assert (item["inquiry_id"], item["team_id"]) == (await _id(customer), bureau.teams["Sales"])
    await customer.writes("передзвоніть")
    await customer.writes("завтра 15:00")
    (booked,) = await callbacks_of(bureau.db)
    assert booked["team_id"] == bureau.teams["Sales"]
