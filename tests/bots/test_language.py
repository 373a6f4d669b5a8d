"""Which language somebody writes in, and what is a request."""

import pytest

from bots.language import (
    CALLBACK,
    PERSON,
    choose,
    detect,
    holds_phrase,
    is_greeting,
    is_phrase,
    is_substantive,
)

ALL = ("uk", "ru", "en")


@pytest.mark.parametrize(("text", "language"), [
    ("Хочу поїхати", "uk"), ("Добрий день", "uk"), ("Сколько стоит тур", "ru"), ("Это вы?", "ru"), ("Здравствуйте!", "ru"),
    ("How much is the tour", "en"), ("hello", "en"), ("тур Рим", None), ("Roma", None), ("", None), ("12345", None),
    ("скільки коштує?", "uk"), ("объясните", "ru"), ("ґанок", "uk"), ("ПРИВІТ!!!", "uk"), ("Dobryi den", None),
])  # fmt: skip
def test_detecting(text: str, language: str | None) -> None:
    assert detect(text) == language


def test_choosing() -> None:
    assert choose("", known=("ru-RU", "uk"), languages=ALL) == "ru"
    assert choose("", known=("de", None, "uk"), languages=ALL) == "uk"
    assert choose("", known=("de",), languages=("en", "uk")) == "en"
    assert choose("How much is it", known=("uk",), languages=ALL) == "en"
    assert choose("How much is it", known=("uk",), languages=("uk", "ru")) == "uk"
    assert choose("тур Рим", known=("en", "en", "ru"), languages=ALL) == "ru"
    assert choose("тур Рим", known=("en",), languages=("en", "uk")) == "uk"


@pytest.mark.parametrize("text", ["Привіт", "добрий день!", "Здравствуйте.", "Hello!", "hi", "👋 Hi"])
def test_bare_greetings(text: str) -> None:
    assert is_greeting(text) and not is_substantive(text)


@pytest.mark.parametrize(("text", "request_"), [
    ("Привіт, скільки коштує тур?", True), ("/start", False), ("👍", False), ("?", False), ("ок", False), ("тур", True),
    ("/help me", False), ("так", False), ("", False), ("Visa", True),
])  # fmt: skip
def test_what_is_a_request(text: str, request_: bool) -> None:
    assert is_substantive(text) is request_


def test_words() -> None:
    assert is_phrase("Передзвоніть мені, будь ласка!", CALLBACK)
    assert is_phrase("please call me back", CALLBACK)
    assert not is_phrase("мені вже дзвонили", CALLBACK)
    assert holds_phrase("Соедините меня с оператором!", PERSON)
    assert not holds_phrase("операторська", PERSON)
    assert not holds_phrase("оператор " * 20, PERSON)
