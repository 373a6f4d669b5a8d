"""Telling a customer who waits while the team is closed when it opens: once, however much he writes until then.

A job of its own transaction, so that telling never holds up the parking. Automatic mail gets no answer, nor does work
that no customer waits for. What is parked, and until when, is decided elsewhere.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import select

from crm_core import messages
from crm_core.db.uow import UnitOfWork
from crm_core.jobs import JobRegistry, JobRow, NewJob
from crm_core.languages import spoken
from crm_core.schema import conversation, inquiry, message
from crm_core.services import Services
from routing import store
from routing.commands import once
from routing.model import Channel, Item, ItemState

JOB = "routing.closed_reply"
#: a channel of text that takes replies; callers hear their own announcement
_CHANNELS = ("telegram", "webchat", "email")
_PARKED = "after_hours"

TEXTS = {
    "en": "Thank you for your message. We are closed now and will answer after we open: {when}.",
    "uk": "Дякуємо за повідомлення. Зараз ми не працюємо; відповімо, коли відкриємося: {when}.",
    "ru": "Спасибо за сообщение. Сейчас мы не работаем; ответим, когда откроемся: {when}.",
}
_DAYS = {
    "en": ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"),
    "uk": ("пн", "вт", "ср", "чт", "пт", "сб", "нд"),
    "ru": ("пн", "вт", "ср", "чт", "пт", "сб", "вс"),
}


def declare(registry: JobRegistry) -> None:
    registry.job(JOB, transactional=True)(run)


def ask(uow: UnitOfWork, item: Item) -> None:
    """Have the customer told, if this item was just parked for the opening."""
    parked = item.state == ItemState.PARKED and item.parked_reason == _PARKED
    if parked and item.conversation_id is not None and item.channel in (Channel.CHAT, Channel.ASYNC):
        uow.enqueue(NewJob(name=JOB, args={"item_id": item.id}))


async def run(services: Services, uow: UnitOfWork, job: JobRow) -> None:  # noqa: ARG001 - the shape of a job
    """The job: tell it, unless the item is not parked any more or this was said already."""
    item = await store.item(uow, int(job.args["item_id"]))
    if (
        item is None
        or item.wake_at is None
        or item.state != ItemState.PARKED
        or item.parked_reason != _PARKED
    ):
        return
    team = await store.team_context(uow.conn, item.team_id)
    if not team.settings.after_hours_reply:
        return

    async def act() -> Mapping[str, Any]:
        return {"told": await _tell(uow, item, team.tz)}

    await once(uow, f"{JOB}:{item.conversation_id}:{item.wake_at}", act)


async def _tell(uow: UnitOfWork, item: Item, zone: str) -> bool:
    request = await uow.find(inquiry, item.inquiry_id, lock=True)
    thread = await uow.find(conversation, item.conversation_id, lock=True)
    if thread is None or thread["channel"] not in _CHANNELS or not await _customer_waits(uow, thread["id"]):
        return False
    language = spoken((request["language"] if request else None) or thread["language"] or "en")
    said = TEXTS[language].format(when=when(item.wake_at or uow.now, zone, language))
    return await messages.say_automatically(uow, conversation_id=thread["id"], inquiry_row=request, text=said)


async def _customer_waits(uow: UnitOfWork, conversation_id: int) -> bool:
    """Whether the last word of a person is the customer's own, and a person's."""
    last = await uow.row(
        select(message.c.author_kind, message.c.automatic, message.c.meta)
        .where(
            message.c.conversation_id == conversation_id,
            message.c.author_kind.in_(("customer", "agent")),
            message.c.direction != "internal",
        )
        .order_by(message.c.seq.desc())
        .limit(1)
    )
    if last is None or last["author_kind"] != "customer" or last["automatic"]:
        return False
    return not last["meta"].get("withhold_acknowledgement")


def when(at: int, zone: str, language: str) -> str:
    """An instant on the team's clock: "Mon 23.11.2026, 09:00 (Europe/Kyiv)"."""
    here = datetime.fromtimestamp(at / 1000, UTC).astimezone(ZoneInfo(zone))
    return f"{_DAYS[spoken(language)][here.weekday()]} {here:%d.%m.%Y, %H:%M} ({zone})"
