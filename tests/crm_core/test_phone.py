"""What people, forms and providers write, and the one number it means."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_core import phone
from crm_core.phone import NumberKind

KYIVSTAR = "+380501234567"


@pytest.mark.parametrize(
    "raw",
    [
        "0501234567",
        "050 123 45 67",
        "(050) 123-45-67",
        "380501234567",
        "38 050 123 45 67",
        "+380 50 123 45 67",
        "+380 (0)50 123 45 67",
        "00380501234567",
        "٠٥٠١٢٣٤٥٦٧",
        "o501234567",
        "О50 123 45 67",
        "o5o1234567",
        "80501234567",
        "8 050 123-45-67",
        "8(050)1234567",
        "tel:+380501234567",
        "sip:380501234567@pbx.example.com:5060;user=phone",
        "sip:+380501234567;phone-context=ua@10.0.0.1",
        '"Олена" <sip:+380501234567@pbx.example.com>;tag=1',
        "sips:%2B380501234567@pbx.example.com",
        "380501234567@s.whatsapp.net",
        "0501234567 / 0671234567",
        "0501234567;0671234567",
        "0501234567, 0671234567",
        "0501234567 Олена",
        "0501234567 Ivan",
        "тел. 0501234567",
        "  +380501234567\n",
        "+380501234567",
    ],
)
def test_everything_people_write_in_ukraine_is_one_number(raw: str) -> None:
    found = phone.normalize(raw, "UA")
    assert found is not None
    assert (found.e164, found.ext, found.raw) == (KYIVSTAR, None, raw)


@pytest.mark.parametrize(
    ("raw", "ext"),
    [
        ("0501234567 ext 12", "12"),
        ("0501234567 доб. 12", "12"),
        ("0501234567 вн. 305", "305"),
        ("0501234567 дод. 7", "7"),
        ("0501234567,12", "12"),
        ("tel:+380501234567;ext=12", "12"),
        ("0501234567 #99", "99"),
    ],
)
def test_extensions_are_kept_apart(raw: str, ext: str) -> None:
    found = phone.normalize(raw, "UA")
    assert found is not None
    assert (found.e164, found.ext) == (KYIVSTAR, ext)


@pytest.mark.parametrize(
    "raw",
    ["", " ", "101", "112", "anonymous", "Anonymous", "sip:anonymous@anonymous.invalid", "unknown", "Restricted",
     "private", "sip:101@pbx", "+380501234", "Олена", "-", "+", "0000000000000000000000", "12", "1" * 500, "\x00",
     "٠", "²²²²²²²", "sip:", "1234567890123456789"],
)  # fmt: skip
def test_no_number(raw: str) -> None:
    assert phone.normalize(raw, "UA") is None


@pytest.mark.parametrize(
    ("raw", "region", "e164"),
    [
        ("8 495 123-45-67", "RU", "+74951234567"),
        ("8~10380501234567", "RU", KYIVSTAR),
        ("810380501234567", "RU", KYIVSTAR),
        ("380501234567", "RU", KYIVSTAR),
        ("380501234567", "", KYIVSTAR),
        ("380501234567", "US", KYIVSTAR),
        ("+380501234567", "ZZ", KYIVSTAR),
        ("(212) 555-2368", "us", "+12125552368"),
        ("1-800-FLOWERS", "US", "+18003569377"),
        ("80291234567", "BY", "+375291234567"),
        ("06 12345678", "IT", "+390612345678"),
    ],
)
def test_other_regions(raw: str, region: str, e164: str) -> None:
    found = phone.normalize(raw, region)
    assert found is not None
    assert found.e164 == e164


def test_a_number_newer_than_our_metadata_is_kept_but_not_dialled() -> None:
    found = phone.normalize("+380 10 123 45 67", "UA")
    assert found is not None
    assert found.e164 == "+380101234567"
    assert not phone.is_valid(found.e164)
    assert not phone.may_call_back(found.e164)
    assert phone.is_valid(KYIVSTAR)
    assert phone.may_call_back(KYIVSTAR)


@pytest.mark.parametrize(
    ("e164", "kind"),
    [
        (KYIVSTAR, NumberKind.MOBILE),
        ("+380442345678", NumberKind.FIXED),
        ("+380800500500", NumberKind.TOLL_FREE),
        ("+380900212345", NumberKind.PREMIUM),
        ("+12125552368", NumberKind.FIXED_OR_MOBILE),
        ("+380101234567", NumberKind.UNKNOWN),
        ("0501234567", NumberKind.UNKNOWN),
        ("", NumberKind.UNKNOWN),
    ],
)
def test_kinds(e164: str, kind: NumberKind) -> None:
    assert phone.kind(e164) is kind


def test_toll_free_and_premium_are_not_called_back() -> None:
    assert not phone.may_call_back("+380800500500")
    assert not phone.may_call_back("+380900212345")


def test_time_zones_are_real_ones() -> None:
    zones = phone.timezones(KYIVSTAR)
    assert zones
    assert {str(ZoneInfo(zone).utcoffset(datetime(2026, 1, 1))) for zone in zones} == {"2:00:00"}
    assert phone.timezones("+12125552368") == ("America/New_York",)
    assert phone.timezones("nonsense") == ()
    assert phone.timezones("+999999999999") == ()


def test_finds_numbers_in_text_and_leaves_order_ids_alone() -> None:
    text = "Заказ 1234567890123 от 21.11.2026: перезвоните 067 123 45 67 или +380501234567, 8-050-123-45-67, до 18:00."
    assert [n.e164 for n in phone.find_in_text(text, "UA")] == ["+380671234567", KYIVSTAR]


def test_finds_the_old_form_in_text() -> None:
    assert [n.e164 for n in phone.find_in_text("наберите 8-067-123-45-67", "UA")] == ["+380671234567"]


def test_text_without_numbers() -> None:
    assert phone.find_in_text("", "UA") == []
    assert phone.find_in_text("о" * 100_000, "UA") == []


@given(st.text(max_size=260), st.sampled_from(["UA", "RU", "US", "", "ZZ", "??"]))
def test_any_text_gives_a_canonical_number_or_none(raw: str, region: str) -> None:
    found = phone.normalize(raw, region)
    if found is not None:
        again = phone.normalize(found.e164, region)
        assert again is not None
        assert again.e164 == found.e164


@given(
    st.text(alphabet="0123456789+-() .,;#ext/oОдобsip:@٠~", max_size=40),
    st.sampled_from(["UA", "RU", "US", ""]),
)
def test_number_like_text_gives_a_canonical_number_or_none(raw: str, region: str) -> None:
    found = phone.normalize(raw, region)
    if found is not None:
        assert found.raw == raw
        again = phone.normalize(found.e164, region)
        assert again is not None
        assert (again.e164, again.ext) == (found.e164, None)
    phone.find_in_text(raw, region)
