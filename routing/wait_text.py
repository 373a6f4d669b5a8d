"""An expected wait as a customer is told it, in English, Ukrainian and Russian. Pure.

Nothing is said where too little is known, and no seconds: a range of minutes is as exact as such a guess is.
"""

from crm_core.languages import spoken
from routing.wait_model import Basis, Wait

_TEXTS: dict[str, dict[str, str]] = {
    "en": {
        "free": "Somebody will be with you right away.",
        "moment": "Expected wait: less than a minute.",
        "range": "Expected wait: about {low}–{high} minutes.",
        "position": "You are {ordinal} in line.",
        "position_capped": "There are more than {ahead} people before you.",
        "first": "You are next in line.",
        "callback": "If you prefer, we will call you back.",
    },
    "uk": {
        "free": "Вам відповідять просто зараз.",
        "moment": "Орієнтовне очікування: менше хвилини.",
        "range": "Орієнтовне очікування: {low}–{high} хв.",
        "position": "Ваше місце в черзі: {position}.",
        "position_capped": "Перед вами більше ніж {ahead} людей.",
        "first": "Ви наступні в черзі.",
        "callback": "Якщо зручніше, ми вам зателефонуємо.",
    },
    "ru": {
        "free": "Вам ответят прямо сейчас.",
        "moment": "Примерное ожидание: меньше минуты.",
        "range": "Примерное ожидание: {low}–{high} мин.",
        "position": "Ваше место в очереди: {position}.",
        "position_capped": "Перед вами больше {ahead} человек.",
        "first": "Вы следующие в очереди.",
        "callback": "Если удобнее, мы вам перезвоним.",
    },
}  # fmt: skip


def wait_text(wait: Wait, language: str, *, callback: bool = False) -> str:
    """One to three sentences for the customer; "" if there is nothing honest to say.

    `callback`: a callback can be had here, so it is offered when the wait is long.
    """
    texts = _TEXTS[spoken(language)]
    if wait.basis in (Basis.CLOSED, Basis.NOBODY):
        return texts["callback"] if callback else ""
    if wait.basis == Basis.FREE:
        return texts["free"]
    said: list[str] = []
    if wait.low_min is not None and wait.high_min is not None:
        key = "moment" if wait.low_min == 0 else "range"
        said.append(texts[key].format(low=wait.low_min, high=wait.high_min))
    said.append(position_text(wait, language))
    if callback and wait.offers_callback:
        said.append(texts["callback"])
    return " ".join(said)


def position_text(wait: Wait, language: str) -> str:
    texts = _TEXTS[spoken(language)]
    if wait.ahead_capped:
        return texts["position_capped"].format(ahead=wait.ahead)
    if wait.ahead == 0:
        return texts["first"]
    return texts["position"].format(position=wait.position, ordinal=ordinal(wait.position))


def ordinal(n: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th …"""
    tail = {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}th" if n % 100 in (11, 12, 13) else f"{n}{tail}"
