"""What language somebody writes in, and the few words every dialog understands: greetings, "a person", "call me back".

Pure functions over short texts. Wrong guesses cost little: languages can be switched, and a person is one word away.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

_UK_LETTERS = re.compile(r"[іїєґ]", re.IGNORECASE)
_RU_LETTERS = re.compile(r"[ыэъё]", re.IGNORECASE)
_CYRILLIC = re.compile(r"[а-яіїєґё]", re.IGNORECASE)
_LATIN = re.compile(r"[a-z]", re.IGNORECASE)
_NOT_WORD = re.compile(r"[^\w']+|_+")
_APOSTROPHES = re.compile("[\u2019\u02bc\u2018`\u00b4]")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: commonest words that tell English from a name, a brand or Ukrainian written in Latin letters
_ENGLISH = _words(
    "a an and are can do does for have hello help how i i'd i'm in is it me my need of on please the "
    "there to want was we what when where with would you your hi tour tours trip price"
)
#: words that differ between Ukrainian and Russian though their letters do not
_UK_WORDS = _words(
    "що як де коли чи та дуже треба потрібно будь ласка добрий доброго вечора ранку вітаю скільки можна "
    "мене мені вже лише також поїхати зателефонуйте передзвоніть дякую допоможіть"
)
_RU_WORDS = _words(
    "что как где когда или очень надо нужно нужен нужна пожалуйста здравствуйте сколько стоит можно меня "
    "мне только также поехать позвоните перезвоните спасибо помогите привет хотел хотела хотим есть"
)

GREETINGS: Mapping[str, tuple[str, ...]] = {
    "uk": (
        "привіт", "вітаю", "вітання", "добрий день", "доброго дня", "добрий вечір", "доброго вечора", "добрий ранок",
        "доброго ранку", "здрастуйте", "доброї ночі", "слава україні", "хай", "агов", "привітик", "день добрий",
        "вітаю вас",
    ),
    "ru": (
        "привет", "здравствуйте", "здравствуй", "добрый день", "доброго времени суток", "добрый вечер", "доброе утро",
        "приветствую", "день добрый", "здрасте", "алло", "приветик",
    ),
    "en": (
        "hi", "hello", "hey", "hi there", "hello there", "hey there", "good morning", "good afternoon", "good evening",
        "good day", "greetings", "start",
    ),
}  # fmt: skip
PERSON: Mapping[str, tuple[str, ...]] = {
    "uk": (
        "людина", "людину", "оператор", "оператора", "оператором", "менеджер", "менеджера", "менеджером", "жива людина",
        "живу людину", "консультант", "консультанта", "консультантом", "з людиною", "покличте людину",
    ),
    "ru": (
        "человек", "человека", "человеком", "оператор", "оператора", "оператором", "менеджер", "менеджера",
        "менеджером", "живой человек", "живого человека", "консультант", "консультанта", "консультантом",
        "позовите человека",
    ),
    "en": (
        "person", "a person", "human", "a human", "operator", "agent", "an agent", "manager", "representative",
        "real person", "live person", "talk to a person", "talk to someone", "a person please",
    ),
}  # fmt: skip
CALLBACK: Mapping[str, tuple[str, ...]] = {
    "uk": (
        "передзвоніть", "передзвоніть мені", "зателефонуйте", "зателефонуйте мені", "подзвоніть мені",
        "замовити дзвінок", "зворотний дзвінок", "дзвінок",
    ),
    "ru": (
        "перезвоните", "перезвоните мне", "позвоните мне", "позвоните", "заказать звонок", "обратный звонок", "звонок",
    ),
    "en": ("callback", "call back", "call me", "call me back", "please call me", "request a call", "book a call"),
}  # fmt: skip
SWITCH: Mapping[str, tuple[str, ...]] = {
    "uk": ("українською", "українська", "українська мова", "по українськи", "ukrainian", "uk", "ua", "укр"),
    "ru": ("русский", "по русски", "на русском", "русский язык", "російською", "russian", "ru", "рус"),
    "en": ("english", "in english", "англійською", "по английски", "английский", "англійська", "en", "eng"),
}
SKIP: Mapping[str, tuple[str, ...]] = {
    "uk": ("пропустити", "далі", "ні"),
    "ru": ("пропустить", "дальше", "нет"),
    "en": ("skip", "next", "no"),
}
_PLEASE = frozenset({"будь", "ласка", "пожалуйста", "please", "мені", "мне"})


@lru_cache(maxsize=4096)
def plain(text: str) -> str:
    """Lower case words with single spaces, without punctuation and pictures: what is compared with word lists."""
    return " ".join(_NOT_WORD.sub(" ", _APOSTROPHES.sub("'", text[:4_000])).split()).casefold()


def _without_please(text: str) -> str:
    return " ".join(word for word in text.split() if word not in _PLEASE) or text


def is_phrase(text: str, words: Mapping[str, Iterable[str]]) -> bool:
    """Whether the whole text is one of the phrases, in any language, politeness aside."""
    said = plain(text)
    bare = _without_please(said)
    return bool(said) and any(
        said == phrase or bare == _without_please(phrase)
        for phrases in words.values()
        for phrase in map(plain, phrases)
    )


def holds_phrase(text: str, words: Mapping[str, Iterable[str]], *, longest: int = 60) -> bool:
    """Whether a short text contains one of the phrases as whole words."""
    said = plain(text)
    if not said or len(said) > longest:
        return False
    padded = f" {said} "
    return any(
        f" {phrase} " in padded for phrases in words.values() for phrase in map(plain, phrases) if phrase
    )


def greeting_language(text: str) -> str | None:
    """The language of a bare greeting, or None if the text is none."""
    said = plain(text)
    for language, phrases in GREETINGS.items():
        if said in phrases:
            return language
    return None


def is_greeting(text: str) -> bool:
    return greeting_language(text) is not None


def switch_to(text: str, languages: Iterable[str]) -> str | None:
    """The language asked for by a text that is nothing but its name."""
    said = plain(text)
    return next((lang for lang in languages if said in SWITCH.get(lang, ())), None)


def detect(text: str) -> str | None:
    """uk, ru or en where the text itself says so clearly; None otherwise."""
    greeted = greeting_language(text)
    if greeted is not None:
        return greeted
    words = plain(text).split()
    if not _CYRILLIC.search(text):
        hits = sum(word in _ENGLISH for word in words)
        return "en" if hits >= 2 and _LATIN.search(text) else None
    uk = 3 * len(_UK_LETTERS.findall(text)) + sum(w in _UK_WORDS and w not in _RU_WORDS for w in words)
    ru = 3 * len(_RU_LETTERS.findall(text)) + sum(w in _RU_WORDS and w not in _UK_WORDS for w in words)
    if uk == ru:
        return None
    return "uk" if uk > ru else "ru"


def choose(text: str, *, known: Iterable[str | None], languages: tuple[str, ...]) -> str:
    """The language to answer in: what the text shows, else the first of `known` that the flow speaks, else its first.

    A Cyrillic text of unclear language is never answered in English.
    """
    shown = detect(text)
    if shown in languages:
        return str(shown)
    candidates = [k.replace("_", "-").split("-")[0].lower() for k in known if k]
    fitting = [k for k in candidates if k in languages]
    if _CYRILLIC.search(text):
        cyrillic = [k for k in (*fitting, *languages) if k in ("uk", "ru")]
        if cyrillic:
            return cyrillic[0]
    return fitting[0] if fitting else languages[0]


def is_substantive(text: str) -> bool:
    """Whether a text is a request that people should read: not a command, a bare greeting or a mere sign."""
    said = plain(text)
    if not said or text.lstrip().startswith("/") or is_greeting(text):
        return False
    letters = sum(char.isalnum() for char in said)
    return letters >= 3 and said not in (
        "так",
        "ні",
        "да",
        "нет",
        "yes",
        "no",
        "ok",
        "okay",
        "окей",
        "test",
        "тест",
    )
