"""Times as customers write them: "завтра 15:00", "tomorrow at 3 pm", "через час", "14:30", "в пятницу утром".

Pure. Reading gives a civil day and a minute, or an instant for relative wishes; the customer's zone makes it one.
Ukrainian, Russian and English are read all at once, because people mix them.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from bots.language import plain
from crm_core.clock import MINUTE

MORNING, NOON, AFTERNOON, EVENING = 10 * 60, 12 * 60, 14 * 60, 18 * 60

_ASAP = (
    "зараз", "одразу", "якнайшвидше", "якомога швидше", "як можна швидше", "якнайскоріше", "прямо зараз", "негайно",
    "сейчас", "сразу", "как можно скорее", "как можно быстрее", "прямо сейчас", "немедленно", "срочно", "терміново",
    "now", "right now", "asap", "as soon as possible", "immediately", "right away", "at once", "anytime", "any time",
    "будь коли", "в любое время", "в будь який час",
)  # fmt: skip
_DAY_WORDS = (
    (("післязавтра", "послезавтра", "day after tomorrow"), 2),
    (("завтра", "tomorrow", "tmrw"), 1),
    (("сьогодні", "сегодня", "today", "tonight"), 0),
    # Over already: asked again, instead of reading the hour alone as tomorrow's.
    (("вчора", "вчера", "yesterday"), -1),
)
_WEEKDAYS = (
    ("понеділ", "понедельник", "monday", "mon", "пн"), ("вівтор", "вторник", "tuesday", "tue", "вт"),
    ("середу", "середа", "среда", "среду", "wednesday", "wed", "ср"), ("четвер", "thursday", "thu", "чт"),
    ("п'ятниц", "пятниц", "friday", "fri", "пт"), ("субот", "суббот", "saturday", "sat", "сб"),
    ("неділ", "воскресень", "sunday", "sun", "нд", "вс"),
)  # fmt: skip
_MONTHS = (
    ("січ", "январ", "jan"), ("лют", "феврал", "feb"), ("берез", "март", "mar"), ("квіт", "апрел", "apr"),
    ("трав", "мая", "май", "may"), ("черв", "июн", "jun"), ("лип", "июл", "jul"), ("серп", "август", "aug"),
    ("верес", "сентяб", "sep"), ("жовт", "октяб", "oct"), ("листопад", "нояб", "nov"), ("груд", "декаб", "dec"),
)  # fmt: skip
_PARTS = (
    (("вранці", "зранку", "ранком", "утром", "с утра", "in the morning", "morning"), MORNING),
    (("опівдні", "в обід", "полдень", "в обед", "noon", "midday"), NOON),
    (("вдень", "днем", "днём", "після обіду", "после обеда", "in the afternoon", "afternoon"), AFTERNOON),
    (("ввечері", "увечері", "вечором", "вечером", "in the evening", "evening", "tonight"), EVENING),
)
_CLOCK = re.compile(
    r"(?<![\d.:/-])([01]?\d|2[0-4])[:.\-]([0-5]\d)(?![\d:])(?!\.\d)\s*(am|pm|a\.m\.?|p\.m\.?)?"
)
_AM_PM = re.compile(r"(?<![\d.:])(1[0-2]|0?[1-9])\s*(am|pm|a\.m\.?|p\.m\.?)(?![a-z])")
_HOUR_OF_DAY = re.compile(
    r"(?<![\d.:])([01]?\d|2[0-4])\s*(?:год(?:ин[аиіуою]*)?\.?|час(?:а|ов)?|h)?\s*"
    r"(ранку|утра|дня|вечора|вечера)(?!\w)"
)
_HOUR = re.compile(
    r"(?<!\w)(?:о|об|в|во|на|у|at|після|после|after|around)\s+([01]?\d|2[0-4])(?![\d.:/])"
    r"(?!\s*(?:січ|лют|берез|квіт|трав|черв|лип|серп|верес|жовт|лист|груд))"
)
_HOUR_WORD = re.compile(r"(?<![\d.:])([01]?\d|2[0-4])\s*(?:год(?:ин[аиіуою]*)?|час(?:а|ов)?|o'clock|h)(?!\w)")
_BARE = re.compile(r"(?<![\w.:/-])([01]?\d|2[0-3])(?![\w.:/-])")
_ISO = re.compile(r"(?<!\d)(20\d\d)-(\d{1,2})-(\d{1,2})(?!\d)")
_NUMERIC = re.compile(r"(?<![\d.:])(\d{1,2})[./](\d{1,2})(?:[./](20\d\d|\d\d))?(?![\d:])")
_RELATIVE = re.compile(
    r"(?<!\w)(?:через|за|in|after)\s+(?:(\d{1,3})\s*)?"
    r"(півгодини|пів години|полчаса|half an hour|an hour|a minute|годин\w*|год|час(?:а|ов)?|hours?|h|хвилин\w*|хв|"
    r"минут\w*|мин|minutes?|mins?|дн\w*|день|days?)(?!\w)"
)


@dataclass(frozen=True, slots=True)
class Wish:
    """When somebody wants to be called: at once, at an instant, or on a civil day and minute of his zone.

    `day` without `minute` means any time of that day; `minute` without `day` means the next time the clock shows it.
    """

    asap: bool = False
    at: int | None = None
    day: date | None = None
    minute: int | None = None


def read(text: str, *, now: int, zone: str) -> Wish | None:
    """The wish in `text`, None if it names no time. `now` in ms. Never raises."""
    if len(text) > 200:
        return None
    said = text.casefold().replace("\u2019", "'").replace("\u02bc", "'")
    bare = plain(text)
    if bare in _ASAP:
        return Wish(asap=True)
    relative = _relative(said, now)
    if relative is not None:
        return Wish(at=relative)
    here = datetime.fromtimestamp(now / 1000, ZoneInfo(zone))
    day, rest = _day(said, here.date())
    weekday = None if day is not None else _weekday(said)
    if weekday is not None:
        number, rest = weekday
        day = here.date() + timedelta(days=(number - here.weekday()) % 7)
    minute = _minute(rest, day_known=day is not None)
    if (
        weekday is not None
        and day == here.date()
        and (minute is None or minute <= here.hour * 60 + here.minute)
    ):
        day += timedelta(days=7)
    if day is None and minute is None:
        padded = f" {bare} "
        return Wish(asap=True) if any(f" {phrase} " in padded for phrase in _ASAP) else None
    return Wish(day=day, minute=minute)


def instant(wish: Wish, *, now: int, zone: str) -> int | None:
    """The instant (ms) of a wish that names a minute. None for a whole day, "at once", or what is no date.

    A time of a change of clocks that does not exist is moved on by the gap; one that exists twice is the first.
    """
    if wish.at is not None or wish.minute is None:
        return wish.at
    tz = ZoneInfo(zone)
    here = datetime.fromtimestamp(now / 1000, tz)
    day = wish.day or here.date()
    moment = _local(day, wish.minute, tz)
    if moment is not None and wish.day is None and moment <= now:
        moment = _local(day + timedelta(days=1), wish.minute, tz)
    return moment


def day_bounds(day: date, zone: str) -> tuple[int, int] | None:
    """Beginning and end (ms) of a civil day in a zone."""
    tz = ZoneInfo(zone)
    first = _local(day, 0, tz)
    try:
        last = _local(day + timedelta(days=1), 0, tz)
    except OverflowError:
        return None
    return None if first is None or last is None else (first, last)


def _local(day: date, minute: int, tz: ZoneInfo) -> int | None:
    try:
        wall = datetime(day.year, day.month, day.day, tzinfo=tz) + timedelta(minutes=minute)
        return round(wall.astimezone(UTC).timestamp() * 1000)
    except (OverflowError, ValueError):
        return None


def _relative(said: str, now: int) -> int | None:
    match = _RELATIVE.search(said)
    if match is None:
        return None
    count, unit = int(match.group(1) or 1), match.group(2)
    if unit.startswith(("півгодини", "пів години", "полчаса", "half")):
        return now + 30 * MINUTE
    if unit.startswith(("дн", "день", "day")):
        return now + count * 24 * 60 * MINUTE
    if unit.startswith(("год", "час", "an hour", "hour")) or unit == "h":
        return now + count * 60 * MINUTE
    return now + count * MINUTE


def _has(said: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", said) is not None


def _day(said: str, today: date) -> tuple[date | None, str]:
    """The civil day named and the text without it, so that its digits are not taken for a time."""
    for pattern in (_ISO, _NUMERIC):
        for match in pattern.finditer(said):
            numbers = [int(g) for g in match.groups() if g]
            found = _date(*numbers) if pattern is _ISO else _day_month(numbers, today)
            if found is not None:
                return found, said[: match.start()] + " " + said[match.end() :]
    for number, names in enumerate(_MONTHS, 1):
        for name in names:
            named = re.search(
                rf"(?<!\d)(\d{{1,2}})(?:st|nd|rd|th|-?го)?\s+{name}\w*"
                rf"|(?<!\w){name}\w*\s+(\d{{1,2}})(?:st|nd|rd|th)?(?![\d:])",
                said,
            )
            if named is not None:
                found = _day_month([int(named.group(1) or named.group(2)), number], today)
                if found is not None:
                    return found, said[: named.start()] + " " + said[named.end() :]
    for words, offset in _DAY_WORDS:
        for word in words:
            if _has(said, word):
                return today + timedelta(days=offset), said.replace(word, " ") if word != "tonight" else said
    return None, said


def _weekday(said: str) -> tuple[int, str] | None:
    for number, stems in enumerate(_WEEKDAYS):
        for stem in stems:
            tail = r"(?!\w)" if len(stem) <= 3 else r"\w*"
            match = re.search(rf"(?<!\w){re.escape(stem)}{tail}", said)
            if match:
                return number, said[: match.start()] + " " + said[match.end() :]
    return None


def _day_month(numbers: list[int], today: date) -> date | None:
    """Day first, as here; month first where the other makes no date. A year that is missing is the next fitting."""
    first, second = numbers[0], numbers[1]
    year = numbers[2] if len(numbers) > 2 else None
    if year is not None and year < 100:
        year += 2000
    for day, month in ((first, second), (second, first)):
        found = _date(year or today.year, month, day)
        if found is None:
            continue
        if year is None and found < today:
            return _date(today.year + 1, month, day)
        return found
    return None


def _date(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None


def _minute(said: str, *, day_known: bool) -> int | None:
    match = _CLOCK.search(said)
    if match:
        hour = _half_day(int(match.group(1)), match.group(3))
        return hour * 60 + int(match.group(2)) if hour < 24 else None
    match = _AM_PM.search(said)
    if match:
        return _half_day(int(match.group(1)), match.group(2)) * 60
    match = _HOUR_OF_DAY.search(said)
    if match:
        hour, part = int(match.group(1)), match.group(2)
        if part in ("дня", "вечора", "вечера") and hour < 12:
            hour += 12
        return hour * 60 if hour < 24 else None
    for pattern in (_HOUR, _HOUR_WORD):
        match = pattern.search(said)
        if match:
            hour = int(match.group(1))
            # Nobody asks an office to call at three at night: a small hour is in the afternoon.
            return (hour + 12 if 1 <= hour <= 7 else hour) * 60 if hour < 24 else None
    for words, minute in _PARTS:
        if any(_has(said, word) for word in words):
            return minute
    match = _BARE.search(said)
    if match and (day_known or said.strip() == match.group(0)):
        hour = int(match.group(1))
        return (hour + 12 if 1 <= hour <= 7 else hour) * 60
    return None


def _half_day(hour: int, mark: str | None) -> int:
    if not mark:
        return hour
    if mark.startswith("p"):
        return hour if hour >= 12 else hour + 12
    return 0 if hour == 12 else hour


_DAYS = {
    "uk": ("у понеділок", "у вівторок", "у середу", "у четвер", "у п'ятницю", "у суботу", "у неділю"),
    "ru": ("в понедельник", "во вторник", "в среду", "в четверг", "в пятницу", "в субботу", "в воскресенье"),
    "en": ("on Monday", "on Tuesday", "on Wednesday", "on Thursday", "on Friday", "on Saturday", "on Sunday"),
}
_MONTH_NAMES = {
    "uk": ("січня", "лютого", "березня", "квітня", "травня", "червня", "липня", "серпня", "вересня", "жовтня",
           "листопада", "грудня"),
    "ru": ("января", "февраля", "марта", "апреля", "мая", "июня", "июля", "августа", "сентября", "октября", "ноября",
           "декабря"),
    "en": ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December"),
}  # fmt: skip
_NEAR = {"uk": ("сьогодні", "завтра"), "ru": ("сегодня", "завтра"), "en": ("today", "tomorrow")}


def show(at: int, *, now: int, zone: str, language: str, name_zone: bool = False) -> str:
    """An instant as people say it: `завтра о 09:00`, `on Monday, 2 June, at 9:00 AM`. With `name_zone` its zone too,
    for when the reader's own is not known.
    """
    tz = ZoneInfo(zone)
    then, here = (datetime.fromtimestamp(ms / 1000, tz) for ms in (at, now))
    days = (then.date() - here.date()).days
    clock = _clock(then, language)
    near = _NEAR[language]
    if 0 <= days < len(near):
        day = near[days]
        joined = f"{day} {clock}"
    else:
        year = f" {then.year}" if then.year != here.year else ""
        day = f"{_DAYS[language][then.weekday()]}, {then.day} {_MONTH_NAMES[language][then.month - 1]}{year}"
        joined = f"{day}, {clock}"
    return f"{joined} ({zone})" if name_zone else joined


def _clock(then: datetime, language: str) -> str:
    if language == "en":
        return f"at {then.hour % 12 or 12}:{then.minute:02d} {'AM' if then.hour < 12 else 'PM'}"
    if language == "uk":
        return f"{'об' if then.hour == 11 else 'о'} {then.hour:02d}:{then.minute:02d}"
    return f"в {then.hour:02d}:{then.minute:02d}"


_SHORT_DAYS = {
    "uk": ("пн", "вт", "ср", "чт", "пт", "сб", "нд"),
    "ru": ("пн", "вт", "ср", "чт", "пт", "сб", "вс"),
    "en": ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"),
}


def label(at: int, *, now: int, zone: str, language: str) -> str:
    """An instant on a button: `Сьогодні 15:00`, `Mon 2 Jun, 9:00 AM`."""
    tz = ZoneInfo(zone)
    then, here = (datetime.fromtimestamp(ms / 1000, tz) for ms in (at, now))
    days = (then.date() - here.date()).days
    clock = _clock(then, language).split(" ", 1)[1]
    if 0 <= days < 2:
        return f"{_NEAR[language][days].capitalize()} {clock}"
    return f"{_SHORT_DAYS[language][then.weekday()]} {then.day:02d}.{then.month:02d}, {clock}"
