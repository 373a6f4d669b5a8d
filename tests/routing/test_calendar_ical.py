"""Holidays out of iCalendar files: what counts as one, and what a file that means harm costs."""

from datetime import date

import pytest

from crm_core.errors import Invalid
from routing.calendar_ical import IcalError, parse, read_holidays

BEGIN, END = date(2025, 1, 1), date(2027, 1, 1)


def event(*lines: str, uid: str = "1") -> str:
    return "\r\n".join(["BEGIN:VEVENT", f"UID:{uid}", *lines, "END:VEVENT"])


def ical(*events: str) -> bytes:
    return "\r\n".join(
        ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//x//y", *events, "END:VCALENDAR", ""]
    ).encode()


def days(content: bytes) -> list[str]:
    return [day.isoformat() for day in parse(content, BEGIN, END).dates]


def test_whole_days_series_and_spans() -> None:
    found = parse(
        ical(
            event("DTSTART;VALUE=DATE:20200101", "SUMMARY:New Year", "RRULE:FREQ=YEARLY"),
            event("DTSTART;VALUE=DATE:20251224", "DTEND;VALUE=DATE:20251227", "SUMMARY:Різдво", uid="2"),
            event("DTSTART;VALUE=DATE:20260301", "DURATION:P2D", uid="3"),
            event("DTSTART;VALUE=DATE:20241231", "DTEND;VALUE=DATE:20250103", "SUMMARY:Long", uid="4"),
        ),
        BEGIN,
        END,
    )
    assert [d.isoformat() for d in found.dates] == [
        "2025-01-01", "2025-01-02", "2025-12-24", "2025-12-25", "2025-12-26", "2026-01-01", "2026-03-01",
        "2026-03-02",
    ]  # fmt: skip
    assert found.dates[date(2025, 12, 24)] == "Різдво"


def test_exceptions_moved_and_cancelled_days_of_a_series() -> None:
    yearly = event(
        "DTSTART;VALUE=DATE:20240501", "RRULE:FREQ=YEARLY;UNTIL=20300501T000000Z", "RDATE;VALUE=DATE:20250615",
        "EXDATE;VALUE=DATE:20260501",
    )  # fmt: skip
    assert days(ical(yearly)) == ["2025-05-01", "2025-06-15"]
    moved = event("RECURRENCE-ID;VALUE=DATE:20250501", "DTSTART;VALUE=DATE:20250502")
    assert days(ical(yearly, moved)) == ["2025-05-02", "2025-06-15"]
    gone = event("RECURRENCE-ID;VALUE=DATE:20250501", "DTSTART;VALUE=DATE:20250501", "STATUS:CANCELLED")
    assert days(ical(yearly, gone)) == ["2025-06-15"]


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        (("DTSTART:20251224T100000Z", "SUMMARY:party"), "time of day"),
        (("DTSTART;TZID=Mars/Base:20251224T100000",), "time of day"),
        (("DTSTART;VALUE=DATE:20250101", "RRULE:FREQ=SECONDLY"), "within a day"),
        (("DTSTART;VALUE=DATE:20250101", "RRULE:FREQ=YEARLY;INTERVAL=0"), "not at all"),
        (("DTSTART;VALUE=DATE:00010101", "DTEND;VALUE=DATE:99991231"), "longer than"),
        (("SUMMARY:nothing",), "no readable beginning"),
        (("DTSTART;VALUE=DATE:20259999",), "no readable beginning"),
    ],
)
def test_what_is_left_out_is_told(lines: tuple[str, ...], word: str) -> None:
    found = parse(ical(event(*lines)), BEGIN, END)
    assert found.dates == {}
    assert word in found.warnings[0]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"<html>", b"BEGIN:VCALENDAR\r\n" * 50, b"BEGIN:VCALENDAR\r\n\xff\xfe\x00", b"BEGIN:VCARD\r\nEND:VCARD\r\n",
        ical(*[event("DTSTART;VALUE=DATE:20250101")] * 3001), ical("X-FILL:" + "x" * 1_100_000),
    ],
    ids=["empty", "html", "open", "binary", "card", "many", "large"],
)  # fmt: skip
def test_what_is_no_calendar_is_refused(content: bytes) -> None:
    with pytest.raises(IcalError):
        parse(content, BEGIN, END)


def test_a_series_that_would_close_for_years_is_refused_as_a_whole() -> None:
    with pytest.raises(IcalError, match="more than 2000 days"):
        parse(ical(event("DTSTART;VALUE=DATE:19000101", "RRULE:FREQ=DAILY")), BEGIN, date(2031, 1, 1))


async def test_a_file_without_a_single_day_is_refused() -> None:
    for lines, why in ((("DTSTART;VALUE=DATE:20259999",), "no readable beginning"), ((), "no whole-day")):
        with pytest.raises(Invalid) as caught:
            await read_holidays(ical(event(*lines)) if lines else ical(), BEGIN, END)
        assert (caught.value.code, why in str(caught.value)) == ("bad_ical", True)


async def test_a_rule_that_never_ends_is_stopped_and_told() -> None:
    rule = "RRULE:FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30"
    bomb = ical(*[event("DTSTART;VALUE=DATE:19000101", rule, uid=str(n)) for n in range(300)])
    with pytest.raises(Invalid) as caught:
        await read_holidays(bomb, BEGIN, END)
    assert (caught.value.code, "too long" in str(caught.value)) == ("bad_ical", True)
    fine = await read_holidays(ical(event("DTSTART;VALUE=DATE:20250101", "SUMMARY:=New")), BEGIN, END)
    assert fine.dates == {date(2025, 1, 1): "=New"}
