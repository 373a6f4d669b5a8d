"""Holidays out of an iCalendar file: whole days, within a window, from a file that may mean harm.

Owns the reading and its limits; what becomes of the dates is `routing.sla.holidays`. Meant to be run by
`read_holidays` in a process of its own with limits on time and memory: a recurrence rule is a program, and a small one
can keep a library busy for days. RFC 5545, https://www.rfc-editor.org/rfc/rfc5545
"""

import asyncio
import contextlib
import json
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from crm_core.errors import Invalid

MAX_BYTES = 1024 * 1024
MAX_EVENTS = 3_000
MAX_DATES = 2_000
#: a closing of more than this is no holiday
MAX_DAYS_OF_EVENT = 62
_UNTIL_TIME = re.compile(r"(UNTIL=\d{8})T\d{6}Z?", re.IGNORECASE)
_SECONDS = 5
_MEMORY = 768 * 1024 * 1024
_MAX_NAME = 120
_MAX_WARNINGS = 50
_EVENT = re.compile(rb"^BEGIN:VEVENT\s*$", re.IGNORECASE | re.MULTILINE)
#: recurs within a day, or never moves on
_TOO_FINE = re.compile(r"FREQ=(SECONDLY|MINUTELY|HOURLY)|INTERVAL=[+-]?0+(;|$)", re.IGNORECASE)


class IcalError(ValueError):
    """The file cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Holidays:
    """Date -> name, and what was left out."""

    dates: dict[date, str]
    warnings: tuple[str, ...] = ()


def parse(content: bytes, begin: date, end: date) -> Holidays:
    """Days in [begin, end) of the file's whole-day events. Raises IcalError. May run for long: see the module."""
    if len(content) > MAX_BYTES:
        raise IcalError(f"the file is larger than {MAX_BYTES // 1024} KiB")
    events = len(_EVENT.findall(content.replace(b"\r\n", b"\n")))
    if events > MAX_EVENTS:
        raise IcalError(f"the file has more than {MAX_EVENTS} events")
    from icalendar import Calendar

    try:
        source = Calendar.from_ical(content)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise IcalError(f"this is not an iCalendar file: {str(error)[:200]}") from error
    if getattr(source, "name", "") != "VCALENDAR":
        raise IcalError("this is not an iCalendar file: it does not begin with BEGIN:VCALENDAR")
    warnings: list[str] = []
    kept: list[Any] = [item for item in source.subcomponents if _is_whole_day(item, warnings)]
    moved = {
        (str(item.get("UID", "")), _when(item, "RECURRENCE-ID")) for item in kept if "RECURRENCE-ID" in item
    }
    dates: dict[date, str] = {}
    for item in kept:
        if str(item.get("STATUS", "")).upper() == "CANCELLED":
            continue  # of a series: the day is taken out of it by `moved`
        try:
            for first in _beginnings(item, moved, begin, end):
                _add(dates, item, first, begin, end, warnings)
                if len(dates) > MAX_DATES:
                    raise IcalError(f"more than {MAX_DATES} days between {begin} and {end}: no holidays")
        except IcalError:
            raise
        except (ValueError, TypeError, AttributeError, OverflowError, ZeroDivisionError) as error:
            warnings.append(f"{_name(item)!r} cannot be followed and is left out: {str(error)[:100]}")
    return Holidays(dict(sorted(dates.items())), tuple(warnings[:_MAX_WARNINGS]))


def _beginnings(item: Any, moved: set[tuple[str, Any]], begin: date, end: date) -> list[date]:
    """First days of an event's occurrences that may touch [begin, end)."""
    from dateutil.rrule import rruleset, rrulestr

    start = item["DTSTART"].dt
    if not any(name in item for name in ("RRULE", "RDATE")):
        return [start]
    series = rruleset()
    series.rdate(_noon(start))
    for rule in _listed(item, "RRULE"):
        # Whole days have no zone: an UNTIL in UTC would not compare.
        text = _UNTIL_TIME.sub(r"\1", rule.to_ical().decode("utf-8", "replace"))
        series.rrule(rrulestr(text, dtstart=_noon(start)))
    for dates in _listed(item, "RDATE"):
        for one in dates.dts:
            series.rdate(_noon(one.dt))
    for dates in _listed(item, "EXDATE"):
        for one in dates.dts:
            series.exdate(_noon(one.dt))
    if "RECURRENCE-ID" not in item:
        for uid, day in moved:
            if uid == str(item.get("UID", "")) and isinstance(day, date):
                series.exdate(_noon(day))
    earliest = max(begin, date.min + timedelta(days=MAX_DAYS_OF_EVENT)) - timedelta(days=MAX_DAYS_OF_EVENT)
    return [found.date() for found in series.between(_noon(earliest), _noon(end), inc=True)]


def _when(item: Any, name: str) -> Any:
    """The date or time of a property; None if it has none that can be read."""
    try:
        return getattr(item.get(name), "dt", None)
    except ValueError:  # the library tells a broken value when it is asked for
        return None


def _noon(day: date) -> datetime:
    """Any fixed time of the day: rules are followed in local time without a zone."""
    return datetime(day.year, day.month, day.day)  # noqa: DTZ001


def _listed(item: Any, name: str) -> list[Any]:
    value = item.get(name, [])
    return value if isinstance(value, list) else [value]


def _is_whole_day(item: Any, warnings: list[str]) -> bool:
    """Whether a component is an event that closes whole days; what is left out is told."""
    if item.name != "VEVENT":
        return False
    name = _name(item)
    when = _when(item, "DTSTART")
    if when is None:
        warnings.append(f"{name!r} has no readable beginning and is left out")
        return False
    if isinstance(when, datetime):
        warnings.append(f"{name!r} has a time of day and is left out: use special days for shorter hours")
        return False
    for rule in _listed(item, "RRULE"):
        text = rule.to_ical().decode("utf-8", "replace")
        if _TOO_FINE.search(text):
            warnings.append(f"{name!r} recurs within a day, or not at all, and is left out")
            return False
    return True


def _add(dates: dict[date, str], item: Any, first: date, begin: date, end: date, warnings: list[str]) -> None:
    """The days of one occurrence."""
    length = timedelta(days=1)
    if "DTEND" in item:
        length = item["DTEND"].dt - item["DTSTART"].dt
    elif "DURATION" in item:
        length = item["DURATION"].dt
    if length.days > MAX_DAYS_OF_EVENT:
        warnings.append(f"{_name(item)!r} lasts longer than {MAX_DAYS_OF_EVENT} days and is left out")
        return
    for n in range(max(length.days, 1)):
        day = first + timedelta(days=n)
        if begin <= day < end:
            dates.setdefault(day, _name(item))


def _name(item: Any) -> str:
    text = "".join(c for c in str(item.get("SUMMARY", "")) if c.isprintable()).strip()
    return text[:_MAX_NAME] or "holiday"


# --- in a process of its own ----------------------------------------------------------------------------------
async def read_holidays(content: bytes, begin: date, end: date) -> Holidays:
    """`parse`, but never for much longer than five seconds of work nor with more memory than it may have.

    Raises Invalid: bad_ical, with what is wrong with the file. A file without a single day is refused, too: it would
    replace what the one before it gave, and a broken or empty feed must not open the shop on every holiday.
    """
    if len(content) > MAX_BYTES:
        raise _invalid(f"the file is larger than {MAX_BYTES // 1024} KiB")
    if not content.removeprefix(b"\xef\xbb\xbf").lstrip()[:15].upper() == b"BEGIN:VCALENDAR":
        raise _invalid("this is not an iCalendar file: it does not begin with BEGIN:VCALENDAR")
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "routing.calendar_ical", begin.isoformat(), end.isoformat(),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_SECONDS * 4):
            out, _ = await child.communicate(content)
    except TimeoutError:
        out = b""
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
    try:
        told = json.loads(out)
    except ValueError:
        raise _invalid("the rules of the file take too long or too much memory to follow") from None
    if "error" in told:
        raise _invalid(str(told["error"]))
    dates = {date.fromisoformat(day): name for day, name in told["dates"].items()}
    if not dates:
        why = told["warnings"][0] if told["warnings"] else "no whole-day event in these years"
        raise _invalid(f"the file gives no holidays between {begin} and {end}, so nothing is changed: {why}")
    return Holidays(dates, tuple(told["warnings"]))


def _invalid(reason: str) -> Invalid:
    return Invalid(reason, code="bad_ical", params={"errors": [{"loc": ["body"], "msg": reason}]})


def _limit() -> None:
    try:
        import resource
    except ImportError:  # not on Windows; the parent's clock is left
        return
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


def main(arguments: Iterable[str]) -> None:
    """The child: a file on standard input, one JSON object on standard output."""
    _limit()
    begin, end = (date.fromisoformat(text) for text in arguments)
    try:
        found = parse(sys.stdin.buffer.read(MAX_BYTES + 1), begin, end)
        told: dict[str, Any] = {
            "dates": {day.isoformat(): name for day, name in found.dates.items()},
            "warnings": list(found.warnings),
        }
    except IcalError as error:
        told = {"error": str(error)}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1:])
