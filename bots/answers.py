"""Reading the answer to an `ask`: what the customer wrote, as what was asked for."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from bots import when
from bots.turns import Facts
from crm_core import phone

_EMAIL = re.compile(r"[^\s@<>\"',;]{1,64}@[^\s@<>\"',;.]+(\.[^\s@<>\"',;.]+)+")
_NUMBER = re.compile(r"[+-]?\d{1,15}(?:[.,]\d{1,6})?")
_GROUPED = re.compile(r"(?<=\d)[\s\u00a0_](?=\d{3}(?!\d))")
_MAX_ANSWER = 2_000


@dataclass(frozen=True, slots=True)
class Answer:
    """`value` is what is saved; `problem` the phrase that says what was wrong instead."""

    value: str | int | float | None = None
    problem: str | None = None


def read_answer(wanted: str, text: str, facts: Facts) -> Answer:
    """`text` read as `wanted` (text, phone, email, number, date_time). Times are saved as ISO 8601 with the
    customer's offset, whole days as a date. Never raises.
    """
    said = text.strip()[:_MAX_ANSWER]
    if not said:
        return Answer(problem="not_understood")
    match wanted:
        case "phone":
            number = read_phone(said, facts.region)
            return Answer(number) if number else Answer(problem="bad_phone")
        case "email":
            found = _EMAIL.search(said) if len(said) <= 320 else None
            return Answer(found.group(0).lower()) if found else Answer(problem="bad_email")
        case "number":
            return _number(said)
        case "date_time":
            return _moment(said, facts)
        case _:
            return Answer(said)


def read_phone(text: str, region: str) -> str | None:
    """E.164 of a number that exists by today's plan, else None."""
    found = phone.normalize(text, region)
    return found.e164 if found is not None and phone.is_valid(found.e164) else None


def _number(said: str) -> Answer:
    found = _NUMBER.search(_GROUPED.sub("", said[:100]))
    if found is None:
        return Answer(problem="bad_number")
    written = found.group(0).replace(",", ".")
    return Answer(float(written) if "." in written else int(written))


def _moment(said: str, facts: Facts) -> Answer:
    wish = when.read(said, now=facts.now, zone=facts.zone)
    if wish is None or wish.asap:
        return Answer(problem="bad_time")
    if wish.day is not None and wish.minute is None:
        return Answer(wish.day.isoformat())
    at = when.instant(wish, now=facts.now, zone=facts.zone)
    if at is None:
        return Answer(problem="bad_time")
    return Answer(
        datetime.fromtimestamp(at / 1000, UTC).astimezone(ZoneInfo(facts.zone)).isoformat(timespec="minutes")
    )
