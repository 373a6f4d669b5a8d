"""Phone numbers: one canonical form for everything that channels, forms and people write.

Owns reading, classifying and finding numbers. It never decides whether a ticket is accepted: a number that is
not valid by today's metadata is still kept, only `is_valid` says it should not be dialled.
Facts about numbering come from the `phonenumbers` metadata (https://github.com/daviddrysdale/python-phonenumbers).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import unquote

import phonenumbers
from phonenumbers import PhoneNumberType, ValidationResult

#: Longer input is no phone number; the library's own limit is 250 and its patterns get slow long before.
_MAX_RAW = 200
#: PhoneNumberMatcher is linear, but a mail of megabytes is not read for phone numbers.
_MAX_TEXT = 20_000
#: "0501234567;0671234567" reads as a number with a ten-digit extension: real extensions are shorter.
_MAX_EXT_DIGITS = 7
_E164 = re.compile(r"\+[1-9]\d{6,14}")

_WITHHELD = frozenset(
    {"anonymous", "unknown", "private", "restricted", "withheld", "unavailable", "blocked", "hidden",
     "no number", "number withheld", "caller id unavailable", "null", "none", "undefined"}
)  # fmt: skip
_SIP = re.compile(r"(?i)^.*?\bsips?:([^@>\s]+)(?:@[^>]*)?>?.*$", re.DOTALL)
_BARE_ADDRESS = re.compile(r"^\+?\d+@\S+$")
#: A letter O (Latin or Cyrillic) typed for a zero: not part of a word, and a digit is its neighbour.
_O_FOR_ZERO = re.compile(r"(?<![^\W\d_])[oOоО](?=[\s()\-.]*\d)(?![^\W\d_])|(?<=\d)[oOоО](?![^\W\d_])")
#: Extension words the library does not know (it knows "доб", "ext", "int").
_EXT_WORDS = re.compile(r"(?i)[\s,]*\b(?:вн(?:утр)?|дод)\b\.?\s*(?=\d)")
_SEVERAL = re.compile(r"\s*(?:/|\||;|\n|,\s|\bor\b|\bили\b|\bабо\b)\s*", re.IGNORECASE)
#: The old Ukrainian long-distance form, 8-0XX-XXX-XX-XX.
_OLD_UA = re.compile(r"(?<![\d+])8[\s\-]?\(?0\d{2}\)?(?:[\s\-]?\d){7}(?!\d)")


class NumberKind(StrEnum):
    MOBILE = "mobile"
    FIXED = "fixed"
    FIXED_OR_MOBILE = "fixed_or_mobile"
    TOLL_FREE = "toll_free"
    PREMIUM = "premium"
    SHARED_COST = "shared_cost"
    VOIP = "voip"
    PERSONAL = "personal"
    PAGER = "pager"
    UAN = "uan"
    VOICEMAIL = "voicemail"
    UNKNOWN = "unknown"


_KINDS = {
    PhoneNumberType.MOBILE: NumberKind.MOBILE,
    PhoneNumberType.FIXED_LINE: NumberKind.FIXED,
    PhoneNumberType.FIXED_LINE_OR_MOBILE: NumberKind.FIXED_OR_MOBILE,
    PhoneNumberType.TOLL_FREE: NumberKind.TOLL_FREE,
    PhoneNumberType.PREMIUM_RATE: NumberKind.PREMIUM,
    PhoneNumberType.SHARED_COST: NumberKind.SHARED_COST,
    PhoneNumberType.VOIP: NumberKind.VOIP,
    PhoneNumberType.PERSONAL_NUMBER: NumberKind.PERSONAL,
    PhoneNumberType.PAGER: NumberKind.PAGER,
    PhoneNumberType.UAN: NumberKind.UAN,
    PhoneNumberType.VOICEMAIL: NumberKind.VOICEMAIL,
}
_NO_CALLBACK = frozenset(
    {NumberKind.TOLL_FREE, NumberKind.PREMIUM, NumberKind.SHARED_COST, NumberKind.PAGER, NumberKind.VOICEMAIL}
)


@dataclass(frozen=True, slots=True)
class PhoneNumber:
    """`e164` is the key to store and compare; `ext` are digits to dial after; `raw` is what was written."""

    e164: str
    ext: str | None
    raw: str


def is_region(code: str) -> bool:
    """Whether numbers can be read by this two-letter region."""
    return code in phonenumbers.SUPPORTED_REGIONS


def normalize(raw: str, region: str) -> PhoneNumber | None:
    """The number in `raw`, read as people in `region` (ISO 3166 letters, e.g. `UA`) write it, or None.

    None means there is no number a contact could have: withheld, too short (`101`), a name, garbage. Where
    several numbers are written ("a / b") the first readable one is returned. Never raises.
    """
    text = raw.strip()
    if not text or len(text) > _MAX_RAW or text.casefold() in _WITHHELD:
        return None
    region = region.strip().upper()
    text = _clean(text)
    if not any(char.isdigit() for char in text):
        return None
    found = _read(text, region)
    if found is None or not phonenumbers.is_valid_number(found):
        # Not readable as a whole: perhaps a name stands beside it, or two numbers do.
        found = next((n for n in _pieces(text, region) if phonenumbers.is_valid_number(n)), found)
    return None if found is None else _result(found, raw)


def is_valid(e164: str) -> bool:
    """Whether today's numbering plan has this number: ask before dialling or texting, not before storing."""
    number = _of_e164(e164)
    return number is not None and phonenumbers.is_valid_number(number)


def kind(e164: str) -> NumberKind:
    """What sort of line it is; UNKNOWN for anything unreadable or not in the plan."""
    number = _of_e164(e164)
    if number is None:
        return NumberKind.UNKNOWN
    return _KINDS.get(phonenumbers.number_type(number), NumberKind.UNKNOWN)


def may_call_back(e164: str) -> bool:
    """False for numbers that never answer or that cost extra: toll-free, premium, shared cost, pagers."""
    return is_valid(e164) and kind(e164) not in _NO_CALLBACK


def timezones(e164: str) -> tuple[str, ...]:
    """IANA zones the number may be in, by its prefix; empty if nothing is known. A guess: mobiles roam."""
    from phonenumbers import timezone  # its table is large and few callers need it

    number = _of_e164(e164)
    if number is None:
        return ()
    zones = timezone.time_zones_for_number(number)
    return tuple(zone for zone in zones if zone != timezone.UNKNOWN_TIMEZONE)


def find_in_text(text: str, region: str) -> list[PhoneNumber]:
    """Valid numbers in free text, in order, each once. Order numbers and dates are not taken for phones."""
    text = text[:_MAX_TEXT]
    hits: list[tuple[int, PhoneNumber]] = []
    for match in phonenumbers.PhoneNumberMatcher(text, region.strip().upper()):
        number = _result(match.number, match.raw_string)
        if number is not None:
            hits.append((match.start, number))
    for old in _OLD_UA.finditer(text):
        number = normalize(old.group(), region)
        if number is not None and is_valid(number.e164):
            hits.append((old.start(), number))
    unique: dict[str, PhoneNumber] = {}
    for _, number in sorted(hits, key=lambda hit: hit[0]):
        unique.setdefault(number.e164, number)
    return list(unique.values())


def _clean(text: str) -> str:
    sip = _SIP.match(text)
    if sip:
        user = unquote(sip.group(1))
        text = re.split(r"[;:]", user, maxsplit=1)[0]
    elif _BARE_ADDRESS.match(text):
        text = text.partition("@")[0]
    text = _EXT_WORDS.sub(" ext ", text)
    return _O_FOR_ZERO.sub("0", text)


def _read(text: str, region: str) -> phonenumbers.PhoneNumber | None:
    """One number, tried in the forms providers and people use: the first valid, else the first possible."""
    digits = "".join(str(int(c)) if c.isdecimal() else c for c in text if c.isdecimal() or c == "+")
    tries = [(text, region)]
    if digits.isdigit():
        if len(digits) == 11 and digits.startswith("80"):
            tries.append((digits[1:], region))
        if len(digits) >= 11:
            # Providers leave the plus out: 380501234567. Only where the region's own reading made no sense.
            tries.append((f"+{digits}", region))
    possible: phonenumbers.PhoneNumber | None = None
    for form, where in tries:
        number = _parse(form, where)
        if number is None:
            continue
        if phonenumbers.is_valid_number(number):
            return number
        possible = possible or number
    return possible


def _parse(text: str, region: str) -> phonenumbers.PhoneNumber | None:
    try:
        number = phonenumbers.parse(text, region or None)
    except phonenumbers.NumberParseException:
        return None
    # "Possible" alone includes local-only numbers such as +380501234.
    if phonenumbers.is_possible_number_with_reason(number) != ValidationResult.IS_POSSIBLE:
        return None
    return number


def _pieces(text: str, region: str) -> Iterator[phonenumbers.PhoneNumber]:
    parts = [part for part in _SEVERAL.split(text) if part]
    if len(parts) > 1:
        for part in parts:
            number = _read(part, region)
            if number is not None:
                yield number
    for match in phonenumbers.PhoneNumberMatcher(text, region):
        yield match.number


def _result(number: phonenumbers.PhoneNumber, raw: str) -> PhoneNumber | None:
    e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    if not _E164.fullmatch(e164):
        return None
    ext = number.extension or None
    if ext is not None and len(ext) > _MAX_EXT_DIGITS:
        ext = None
    return PhoneNumber(e164, ext, raw)


def _of_e164(e164: str) -> phonenumbers.PhoneNumber | None:
    if not _E164.fullmatch(e164):
        return None
    try:
        return phonenumbers.parse(e164, None)
    except phonenumbers.NumberParseException:
        return None
