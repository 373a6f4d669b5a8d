"""What people read about a decision: every language has every word, none of them says whether somebody is a man."""

import re
import string

import pytest

from routing.explain_text import ahead_text, key_texts, offer_text, parked_text, reason_text, ring_text
from routing.explain_words import LANGUAGE_NAMES, REASONS, TEXTS
from routing.model import Channel, Item, Reason

NOW = 1_790_000_000_000
#: endings and words that only a man can have, in Ukrainian and Russian
MASCULINE = re.compile(
    r"\b(\w+(вся|вшийся|лся|ився|авши)|взяв|взял|вів|вёл|вышел|вийшов|був|был|мав|имел|отримав|получил|"
    r"вільний|свободен|занят|зайнятий|загружен|завантажений|нужен|потрібен|наступним|следующим|первым|першим|"
    r"дождался|дочекався|ответил|відповів|отказался|відмовився)\b",
    re.IGNORECASE,
)


def test_every_language_has_every_word() -> None:
    for table in (TEXTS, REASONS):
        keys = {language: set(words) for language, words in table.items()}
        assert keys["en"] == keys["uk"] == keys["ru"]
    assert set(REASONS["en"]) >= {r.value for r in Reason}
    assert set(LANGUAGE_NAMES["uk"]) == set(LANGUAGE_NAMES["ru"])


def test_the_same_places_in_every_language() -> None:
    def places(text: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    for key, english in TEXTS["en"].items():
        for language in ("uk", "ru"):
            assert places(TEXTS[language][key]) == places(english), (language, key)


@pytest.mark.parametrize("language", ["uk", "ru"])
def test_nobody_is_called_a_man(language: str) -> None:
    found = [t for t in (*TEXTS[language].values(), *REASONS[language].values()) if MASCULINE.search(t)]
    assert found == []


def test_english_says_neither() -> None:
    words = (*TEXTS["en"].values(), *REASONS["en"].values())
    assert [t for t in words if re.search(r"\b(he|his|him|she|her)\b", t)] == []


def test_a_key_in_words() -> None:
    item = Item(
        id=1, source_kind="inquiry", source_id=1, channel=Channel.ASYNC, priority="urgent", vip=True,
        order_parts={"metric": "sla", "target_at": NOW + 600_000, "boost_ms": 14_400_000, "vip_boost_ms": 7_200_000},
    )  # fmt: skip
    assert [(k["code"], k["text"]) for k in key_texts(item, NOW, "en")] == [
        ("sla", "the promised reply is due in 10 min"),
        ("priority", "urgent priority: 4 h earlier"),
        ("vip", "VIP: 2 h earlier"),
    ]
    late = key_texts(item, NOW + 1_200_000, "uk")[0]["text"]
    assert late == "строк обіцяної відповіді минув 10 хв тому"


def test_what_became_of_an_offer() -> None:
    assert offer_text("Olena", "open", None, 12_000, "en") == "Olena: offered, 12 s left."
    assert offer_text("Olena", "revoked", "taken", 0, "en") == "Olena: withdrawn (a colleague was quicker)."
    assert offer_text("Олена", "declined", "обід", 0, "uk") == "Олена: відмова. «обід»"
    assert offer_text("Olena", "expired", None, 0, "ru") == "Olena: ответа вовремя не было."


def test_small_sentences() -> None:
    assert parked_text("after_hours", 7_200_000, "en").endswith("It will be in the queue in 2 h.")
    assert ahead_text(0, False, "uk") == "Попереду нікого."
    assert ahead_text(200, True, "en") == "Before it: more than 200."
    assert ring_text("relaxed", "ru") == "команда, уровни на один ниже"
    assert reason_text("dnd", "en") == "asked not to be disturbed"
