"""What customers and agents are told about promises, in English, Ukrainian and Russian. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from crm_core.languages import spoken

_DAYS: Mapping[str, tuple[str, ...]] = {
    "en": ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"),
    "uk": ("пн", "вт", "ср", "чт", "пт", "сб", "нд"),
    "ru": ("пн", "вт", "ср", "чт", "пт", "сб", "вс"),
}
_TEXTS: Mapping[str, Mapping[str, str]] = {
    "booked": {
        "en": "We will call {phone} on {when}.",
        "uk": "Ми зателефонуємо на номер {phone} {when}.",
        "ru": "Мы позвоним на номер {phone} {when}.",
    },
    "moved": {
        "en": "The call is moved: we will call {phone} on {when}.",
        "uk": "Дзвінок перенесено: ми зателефонуємо на номер {phone} {when}.",
        "ru": "Звонок перенесён: мы позвоним на номер {phone} {when}.",
    },
    "cancelled": {
        "en": "The call to {phone} is cancelled. Write to us whenever you like to be called.",
        "uk": "Дзвінок на номер {phone} скасовано. Напишіть нам, коли захочете, щоб ми зателефонували.",
        "ru": "Звонок на номер {phone} отменён. Напишите нам, когда захотите, чтобы мы позвонили.",
    },
    "link": {
        "en": "Change or cancel: {link}",
        "uk": "Змінити або скасувати: {link}",
        "ru": "Изменить или отменить: {link}",
    },
    "note_moved": {
        "en": "The customer moved the callback to {when} (customer's time).",
        "uk": "Клієнт переніс дзвінок на {when} (час клієнта).",
        "ru": "Клиент перенёс звонок на {when} (время клиента).",
    },
    "note_cancelled": {
        "en": "The customer cancelled the callback.",
        "uk": "Клієнт скасував дзвінок.",
        "ru": "Клиент отменил звонок.",
    },
    "prompt": {
        "en": "Hello! You asked us to call you. Please hold the line, we are connecting you.",
        "uk": "Вітаємо! Ви просили зателефонувати. Залишайтеся на лінії, з'єднуємо вас.",
        "ru": "Здравствуйте! Вы просили позвонить. Оставайтесь на линии, соединяем вас.",
    },
    "page_title": {"en": "Your call", "uk": "Ваш дзвінок", "ru": "Ваш звонок"},
    "page_open": {
        "en": "We will call {phone} on {when}.",
        "uk": "Ми зателефонуємо на {phone} {when}.",
        "ru": "Мы позвоним на {phone} {when}.",
    },
    "page_over": {
        "en": "This call is over or cancelled.",
        "uk": "Цей дзвінок уже відбувся або скасований.",
        "ru": "Этот звонок уже состоялся или отменён.",
    },
    "page_dialling": {
        "en": "We are calling you at this moment.",
        "uk": "Ми телефонуємо вам просто зараз.",
        "ru": "Мы звоним вам прямо сейчас.",
    },
    "page_full": {
        "en": "Somebody was quicker: that time is taken. Please choose another one.",
        "uk": "Цей час щойно зайняли. Оберіть, будь ласка, інший.",
        "ru": "Это время только что заняли. Выберите, пожалуйста, другое.",
    },
    "page_gone": {
        "en": "There is no such call.",
        "uk": "Такого дзвінка немає.",
        "ru": "Такого звонка нет.",
    },
    "page_choose": {"en": "Another time", "uk": "Інший час", "ru": "Другое время"},
    "page_move": {"en": "Move", "uk": "Перенести", "ru": "Перенести"},
    "page_cancel": {"en": "Cancel the call", "uk": "Скасувати дзвінок", "ru": "Отменить звонок"},
}


def text(key: str, language: str | None, **places: str) -> str:
    return _TEXTS[key][spoken(language)].format(**places)


def when(at: int, zone: str, language: str | None) -> str:
    """An instant on the customer's clock, with its zone: "Mon 23.11.2026, 14:00 (Europe/Kyiv)"."""
    here = datetime.fromtimestamp(at / 1000, UTC).astimezone(ZoneInfo(zone))
    day = _DAYS[spoken(language)][here.weekday()]
    return f"{day} {here:%d.%m.%Y, %H:%M} ({zone})"
