"""What happened at the demo's bureau before it is looked at: written through the product's own services.

Each step is one transaction at its own past instant, so numbers, clocks and events are as if people had done it. How
far it got is stored with each step: an interrupted start goes on where it stopped. Owns the story; nothing is sent.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select, update

from crm_core import inquiries, messages
from crm_core.clock import DAY, HOUR, MINUTE
from crm_core.db.engine import Database
from crm_core.db.uow import UnitOfWork
from crm_core.envelope import Envelope, Kind, Sender, ThreadHints
from crm_core.events import Listeners
from crm_core.infra.local import LocalHints
from crm_core.intake import receive
from crm_core.schema import agent, inbox, inquiry, job, message, message_ref, setting
from routing import assignments
from switchboard.demo.organisation import MARK, claims_of
from switchboard.demo.people import EMILY, IHOR, JAMES, NATALIA, OKSANA, PETRO, STAFF, VIKTOR, Customer

Do = Callable[[UnitOfWork], Awaitable[None]]


@dataclass(slots=True)
class PastClock:
    """Stands at the instant that is being written."""

    at: int = 0

    def now_ms(self) -> int:
        return self.at


@dataclass(slots=True)
class Story:
    """One customer's request: steps at `ago` milliseconds before the demo's first start."""

    customer: Customer
    channel: str
    name: str
    subject: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    steps: list[tuple[int, Do]] = field(default_factory=list)
    said: int = 0

    def says(self, ago: int, text: str) -> "Story":
        """The customer writes."""
        self.said += 1
        number = self.said

        async def do(uow: UnitOfWork) -> None:
            account = await uow.row(
                select(inbox).where(inbox.c.channel == self.channel).order_by(inbox.c.id).limit(1)
            )
            if account is not None:
                await receive(uow, account, self._envelope(uow.now, number, text))

        self.steps.append((ago, do))
        return self

    def takes(self, ago: int, login: str) -> "Story":
        async def do(uow: UnitOfWork) -> None:
            row = await self._inquiry(uow)
            await assignments.take(uow, row["id"], (await _agent(uow, login))["id"])

        self.steps.append((ago, do))
        return self

    def answers(self, ago: int, login: str, text: str, *, note: bool = False) -> "Story":
        """An agent replies, or writes a note for colleagues."""
        return self._posts(ago, login, text, note=note)

    def becomes(self, ago: int, login: str, **changes: Any) -> "Story":
        async def do(uow: UnitOfWork) -> None:
            who = await _agent(uow, login)
            await inquiries.change(uow, (await self._inquiry(uow))["id"], changes, actor=f"agent:{who['id']}")

        self.steps.append((ago, do))
        return self

    def _posts(self, ago: int, login: str, text: str, *, note: bool) -> "Story":
        async def do(uow: UnitOfWork) -> None:
            who, row = await _agent(uow, login), await self._inquiry(uow)
            posted, _ = await messages.post_message(
                uow,
                conversation_id=row["conversation_id"],
                inquiry_row=row,
                author_kind="agent",
                author_id=who["id"],
                author_name=who["name"],
                text=text,
                internal=note,
            )
            if not note:
                # It left long ago; the delivery job that was queued with it finds nothing to do.
                await messages.set_state(uow, posted["id"], "sent")
            if row["status"] == "new":
                await inquiries.change(uow, row["id"], {"status": "open"}, actor=f"agent:{who['id']}")

        self.steps.append((ago, do))
        return self

    def _envelope(self, now: int, number: int, text: str) -> Envelope:
        who, thread = self.customer, self._thread(1)
        claims = claims_of(who)
        if self.channel == "email":
            claims = [c for c in claims if c.kind == "email"]
        elif self.channel == "form":
            claims = [c for c in claims if c.kind in ("phone", "email")]
        earlier = tuple(self._thread(n) for n in range(number - 1, 0, -1)) if self.channel == "email" else ()
        return Envelope(
            kind=Kind.MESSAGE,
            dedupe_key=f"past:{self.name}:{number}",
            conversation_key=str(who.telegram_id) if self.channel == "telegram" else thread,
            sender=Sender(identities=tuple(claims), display_name=who.name, locale=who.locale),
            occurred_at=now,
            provider_message_id=self._thread(number),
            subject=self.subject,
            text=text,
            fields=dict(self.fields),
            thread=ThreadHints(message_ids=earlier),
            auth={"demo": "past"},
        )

    def _thread(self, number: int) -> str:
        if self.channel == "email":
            return f"<past.{self.name}.{number}@{(self.customer.email or '').rpartition('@')[2]}>"
        return f"past:{self.name}:{number}"

    async def _inquiry(self, uow: UnitOfWork) -> Mapping[str, Any]:
        row = await uow.row(
            select(inquiry)
            .join(message, message.c.inquiry_id == inquiry.c.id)
            .join(message_ref, message_ref.c.message_id == message.c.id)
            .where(message_ref.c.external_id == self._thread(1))
        )
        if row is None:
            raise RuntimeError(f"the story {self.name!r} has no beginning")
        return row


async def _agent(uow: UnitOfWork, login: str) -> Mapping[str, Any]:
    email = next(who.email for who in STAFF if who.login == login)
    row = await uow.row(select(agent).where(agent.c.email == email))
    if row is None:
        raise RuntimeError(f"there is no agent {email}")
    return row


def stories() -> list[Story]:
    """The whole past of the bureau."""
    luggage = Story(IHOR, "telegram", "luggage")
    luggage.says(9 * DAY, "Доброго дня! Прилетіли з Анталії, а валізи немає. Що робити?")
    luggage.takes(9 * DAY - 4 * MINUTE, "pavlo")
    luggage.answers(
        9 * DAY - 7 * MINUTE,
        "pavlo",
        "Вітаю, Ігоре! Не виходьте із зони багажу: на стійці Lost & Found складіть акт PIR і "
        "надішліть мені його номер.",
    )
    luggage.says(9 * DAY - 40 * MINUTE, "Склали, номер KBPAT12345")
    luggage.answers(
        9 * DAY - 45 * MINUTE, "pavlo", "Авіакомпанія обіцяє доставку до 48 годин. Стежу.", note=True
    )
    luggage.answers(
        9 * DAY - 46 * MINUTE, "pavlo", "Дякую! Я на зв'язку з авіакомпанією і напишу, щойно валізу знайдуть."
    )
    luggage.says(8 * DAY - HOUR, "Привезли кур'єром, все ціле. Дуже дякую!")
    luggage.becomes(8 * DAY - HOUR - 5 * MINUTE, "pavlo", status="solved", tags=["luggage"])

    refund = Story(EMILY, "email", "refund", "Refund for the Riga weekend")
    refund.says(
        6 * DAY,
        "Hello,\n\nour weekend in Riga (booking MT-20417) was cancelled by the airline. When "
        "do we get the money back?\n\nEmily",
    )
    refund.takes(6 * DAY - 30 * MINUTE, "sofia")
    refund.answers(
        6 * DAY - 50 * MINUTE,
        "sofia",
        "Dear Emily,\n\nI have asked for a full refund of EUR 412. It takes up to seven "
        "working days.\n\nSofia, Mandry Travel",
    )
    refund.becomes(6 * DAY - 51 * MINUTE, "sofia", status="pending", tags=["refund"])
    refund.says(3 * DAY, "The money has arrived. Thank you for the quick help!")
    refund.becomes(3 * DAY - 20 * MINUTE, "sofia", status="solved")

    tour = Story(
        OKSANA, "form", "tour", "Тур до Туреччини на чотирьох", {"utm_source": "instagram", "adults": "2"}
    )
    tour.says(
        4 * DAY, "Шукаємо готель біля моря в Кемері, двоє дорослих і двоє дітей, кінець червня, до 90 тисяч."
    )
    tour.takes(4 * DAY - 12 * MINUTE, "olena")
    tour.answers(
        4 * DAY - 25 * MINUTE,
        "olena",
        "Подзвонила: зручно 21–28 червня, потрібен дитячий клуб. Підбираю три готелі.",
        note=True,
    )
    tour.becomes(4 * DAY - 26 * MINUTE, "olena", stage="qualified", value_minor=86_000_00, currency="UAH")
    tour.answers(2 * DAY, "olena", "Надіслала підбірку, чекає на рішення чоловіка до п'ятниці.", note=True)
    tour.becomes(2 * DAY - MINUTE, "olena", stage="proposal", status="pending")

    visa = Story(VIKTOR, "email", "visa", "Документы на визу для делегации")
    visa.says(
        2 * DAY,
        "Добрый день! Готовим поездку шести человек в Лиссабон. Какие документы нужны на визы "
        "и успеем ли к 15-му?\n\nВиктор Сидоренко",
    )
    visa.takes(2 * DAY - 3 * MINUTE, "maria")
    visa.answers(
        2 * DAY - 9 * MINUTE,
        "maria",
        "Виктор, здравствуйте! Шестерым гражданам Украины с биометрическими паспортами визы "
        "не нужны. Список для остальных во вложенном письме, записала вас на 11-е.\n\nМария",
    )
    visa.becomes(2 * DAY - 10 * MINUTE, "maria", status="pending", tags=["visa"])

    wedding = Story(PETRO, "form", "wedding", "Весільна подорож", {"utm_source": "google"})
    wedding.says(DAY, "Мальдіви або Балі в листопаді, двоє. Передзвоніть, будь ласка, після 18:00.")
    wedding.takes(DAY - 20 * MINUTE, "dmytro")
    wedding.answers(DAY - 24 * MINUTE, "dmytro", "Говорили: бюджет 4000 USD, схиляються до Балі.", note=True)
    wedding.becomes(
        DAY - 25 * MINUTE, "dmytro", stage="contacted", value_minor=4_000_00, currency="USD", status="open"
    )

    # What waits when the first visitor comes: one that is long over its time, one that will be in a minute or two.
    baggage = Story(JAMES, "email", "baggage", "Is a guitar hand luggage?")
    baggage.says(
        50 * MINUTE, "Hi, I fly with you to Lisbon on Friday. May I take a guitar into the cabin?\n\nJames"
    )
    hotel = Story(NATALIA, "telegram", "hotel")
    hotel.says(
        22 * MINUTE,
        "Добрий вечір! У готелі кажуть, що нашого бронювання немає. Номер MT-20533, ми стоїмо на рецепції",
    )
    flight = Story(VIKTOR, "email", "flight", "Рейс отменён, мы в аэропорту")
    flight.says(
        13 * MINUTE,
        "Рейс в Варшаву отменили, нас двое, завтра в девять переговоры. Что можно сделать?\n\nВиктор Сидоренко",
    )
    return [luggage, refund, tour, visa, wedding, baggage, hotel, flight]


async def write(url: str, listeners: Listeners) -> int:
    """Write what is not written yet. Returns how many steps were."""
    clock = PastClock()
    db = Database(url, clock=clock, hints=LocalHints(), pool_size=2, synchronous="NORMAL")
    db.listeners = listeners
    steps = sorted((step for story in stories() for step in story.steps), key=lambda step: -step[0])
    written = 0
    try:
        await db.start()
        async with db.reading() as conn:
            mark = (await conn.execute(select(setting.c.value).where(setting.c.key == MARK))).scalar_one()
        for number in range(int(mark["done"]), len(steps)):
            ago, do = steps[number]
            clock.at = int(mark["anchor"]) - ago
            async with db.transaction() as uow:
                await do(uow)
                await uow.execute(
                    update(setting).where(setting.c.key == MARK).values(value={**mark, "done": number + 1})
                )
            written += 1
        if written:
            clock.at = int(mark["anchor"])
            async with db.transaction() as uow:
                # Nobody neglected this work since then: it is new.
                await uow.execute(update(job).where(job.c.run_at < uow.now).values(run_at=uow.now))
    finally:
        await db.close()
    return written
