"""Days on which a country is not to be called, and the shorter ones: data in `countries.json`, by ISO letters.

`rest`: weekdays without calls; `hours`: other hours of a weekday [from, to); `holidays`: "MM-DD" of every year;
`easter`: days counted from Easter Sunday of the rite. "*" is for a country that is not listed. A customer's explicit
wish stands whatever the day.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache, lru_cache
from importlib import resources

import phonenumbers

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class Country:
    rest: frozenset[int]
    hours: Mapping[int, tuple[int, int]]
    holidays: frozenset[tuple[int, int]]
    rite: str | None
    offsets: tuple[int, ...]
    #: where most of a country of many zones lives
    zone: str | None = None

    def hours_of(self, day: date, usual: tuple[int, int]) -> tuple[int, int] | None:
        """[from, to) in whole hours in which this day may be called, None: not at all."""
        if day.weekday() in self.rest or (day.month, day.day) in self.holidays:
            return None
        if self.rite is not None:
            sunday = easter(day.year, self.rite)
            if any(sunday + timedelta(days=n) == day for n in self.offsets):
                return None
        low, high = self.hours.get(day.weekday(), usual)
        low, high = max(low, usual[0]), min(high, usual[1])
        return (low, high) if low < high else None


@cache
def _table() -> Mapping[str, Country]:
    raw = json.loads(resources.files("routing.callbacks").joinpath("countries.json").read_text("utf-8"))
    found = {}
    for code, rules in raw.items():
        rite = rules.get("easter")
        found[code] = Country(
            frozenset(_DAYS.index(d) for d in rules["rest"]),
            {_DAYS.index(d): (int(a), int(b)) for d, (a, b) in rules["hours"].items()},
            frozenset((int(d[:2]), int(d[3:])) for d in rules["holidays"]),
            rite["rite"] if rite else None,
            tuple(rite["offsets"]) if rite else (),
            rules.get("zone"),
        )
    return found


def country(code: str) -> Country:
    """The rules of a country by its ISO letters; the general ones if it is not listed."""
    table = _table()
    return table.get(code, table["*"])


def code_of(e164: str) -> str:
    """The ISO letters of a number's country, "*" if the number does not tell one."""
    try:
        found = phonenumbers.region_code_for_number(phonenumbers.parse(e164, None))
    except phonenumbers.NumberParseException:
        return "*"
    return found if found and found != "001" else "*"


@lru_cache(maxsize=64)
def easter(year: int, rite: str) -> date:
    """Easter Sunday in the civil calendar, 1900-2099. Meeus' algorithms; the Julian date is 13 days behind."""
    if rite == "julian":
        a, b, c = year % 4, year % 7, year % 19
        d = (19 * c + 15) % 30
        e = (2 * a + 4 * b - d + 34) % 7
        month, day = divmod(d + e + 114, 31)
        return date(year, month, day + 1) + timedelta(days=13)
    a, (b, c) = year % 19, divmod(year, 100)
    d, e = divmod(b, 4)
    g = (8 * b + 13) // 25
    h = (19 * a + b - d - g + 15) % 30
    i, k = divmod(c, 4)
    r = (32 + 2 * e + 2 * i - h - k) % 7
    m = (a + 11 * h + 22 * r) // 451
    month, day = divmod(h + r - 7 * m + 114, 31)
    return date(year, month, day + 1)
