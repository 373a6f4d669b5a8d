"""Reading headers of hostile mail: decoding, addresses, message ids. Pure; every function gives an answer
for any input.

Messages are parsed with the `compat32` policy: the modern one raised on 3 of 818 corpus messages
(channels.md §2.4).
"""

import base64
import binascii
import contextlib
import hashlib
import quopri
import re
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from email.utils import getaddresses, parsedate_to_datetime

from channels.email.charsets import clean_text, codec_name, guess_text

MAX_HEADER = 20_000  # characters of one header that are looked at
MAX_ID = 250  # of a message id; longer ones are replaced by their hash
_MAX_ADDRESSES = 200

_WORD = re.compile(r"=\?([^?\s]{1,60})\?([bq])\?([^?]*?)\?=", re.IGNORECASE)
_BETWEEN_WORDS = re.compile(r"(\?=)[ \t\r\n]+(?==\?[^?\s]{1,60}\?[bq]\?)", re.IGNORECASE)
_ID = re.compile(r"<([^<>\s]{1,2000})>")
_BARE_ID = re.compile(r"[^<>\s@]{1,500}@[^<>\s@]{1,500}")
_ADDRESS = re.compile(r"[^\s<>@,;:\"()\[\]\\]{1,128}@[^\s<>@,;:\"()\\]{1,255}")


@dataclass(frozen=True, slots=True)
class Address:
    name: str
    email: str


def raw_headers(message: Message, name: str) -> list[str]:
    """All values of a header as the parser kept them: 8-bit bytes are surrogates."""
    values = []
    for key, value in getattr(message, "_headers", []):
        if key.lower() == name:
            values.append(str(value)[:MAX_HEADER])
    return values


def raw_header(message: Message, name: str) -> str:
    """The first value, or ''."""
    values = raw_headers(message, name)
    return values[0] if values else ""


def text_header(message: Message, name: str, warn: Callable[[str], None]) -> str:
    """The first value as readable text on one line."""
    return decode_header(raw_header(message, name), warn)


def decode_header(value: str, warn: Callable[[str], None] = lambda _: None) -> str:
    """RFC 2047 words joined before they are decoded, because senders split them inside a multibyte character;
    8-bit bytes without any encoding are guessed.
    """
    value = _BETWEEN_WORDS.sub(r"\1", value)
    pieces: list[str] = []
    pending: tuple[str, bytearray] | None = None
    at = 0

    def flush() -> None:
        nonlocal pending
        if pending is not None:
            charset, data = pending
            pieces.append(_decode_bytes(bytes(data), charset, warn))
            pending = None

    for match in _WORD.finditer(value):
        if match.start() > at:
            flush()
            pieces.append(_plain(value[at : match.start()]))
        charset = match[1].partition("*")[0].lower()
        data = _word_bytes(match[2].lower(), match[3])
        if data is None:
            warn("header_encoding")
            flush()
            pieces.append(match[0])
        elif pending is not None and pending[0] == charset:
            pending[1].extend(data)
        else:
            flush()
            pending = (charset, bytearray(data))
        at = match.end()
    flush()
    pieces.append(_plain(value[at:]))
    return " ".join(clean_text("".join(pieces)).split())


def addresses(message: Message, name: str, warn: Callable[[str], None]) -> list[Address]:
    """Name and address pairs of all headers `name`; what is no address is skipped."""
    found: list[Address] = []
    for value in raw_headers(message, name):
        found.extend(parse_addresses(value, warn))
    return found[:_MAX_ADDRESSES]


def parse_addresses(value: str, warn: Callable[[str], None] = lambda _: None) -> list[Address]:
    """Addresses in one header value. The names are decoded after splitting: an encoded name may hold a
    comma.
    """
    result: list[Address] = []
    value = " ".join(value.split())
    try:
        pairs = getaddresses([value])
    except Exception:  # the parser is not crash-proof on hostile input
        warn("address_header")
        pairs = []
    for name, spec in pairs[:_MAX_ADDRESSES]:
        email = normal_address(spec)
        if email:
            result.append(Address(decode_header(name, warn).strip("'\" "), email))
    if not result:
        # Unquoted specials in a name ("Ann, Sales: <a@b>") defeat the strict grammar; an address is still
        # there.
        for spec in _ADDRESS.findall(decode_header(value, warn))[:_MAX_ADDRESSES]:
            email = normal_address(spec)
            if email:
                result.append(Address("", email))
    return result


def normal_address(spec: str) -> str:
    """Lower case, international domain in Unicode form; '' if it is no address.

    Local parts are lower-cased too: no mail service in use tells them apart and people type both.
    """
    try:
        spec = guess_text(spec.encode("utf-8", "surrogateescape"))
    except UnicodeError:
        return ""
    spec = clean_text(spec).strip().strip("<>").strip()
    local, at, domain = spec.rpartition("@")
    domain = domain.rstrip(".").lower()
    if not at or not local or not domain or len(spec) > 320 or any(char.isspace() for char in spec):
        return ""
    if "xn--" in domain:
        with contextlib.suppress(UnicodeError, ValueError):
            domain = domain.encode("ascii").decode("idna")
    return f"{local.lower()}@{domain}"


def message_ids(values: list[str]) -> list[str]:
    """Message ids in angle brackets, in order, each once. Ids without brackets are taken too, if they stand
    alone.
    """
    ids: dict[str, None] = {}
    for value in values:
        found = _ID.findall(value)
        if not found and _BARE_ID.fullmatch(value.strip()):
            found = [value.strip()]
        for item in found:
            ids[normal_id(item)] = None
    return list(ids)[:500]


def normal_id(inner: str) -> str:
    """`<id>`, printable and bounded: an over-long id becomes its hash, which still matches itself."""
    inner = clean_text(inner.encode("utf-8", "replace").decode("utf-8", "replace"))
    if len(inner) > MAX_ID:
        inner = f"{hashlib.sha256(inner.encode()).hexdigest()}@long.invalid"
    return f"<{inner}>"


def date_ms(value: str) -> int | None:
    """A Date header in ms UTC, or None if unreadable."""
    try:
        moment = parsedate_to_datetime(" ".join(value.split())[:200])
        return round(moment.timestamp() * 1000)
    except Exception:  # overflow, nonsense zones, years: the parser raises many things
        return None


def _plain(text: str) -> str:
    if text.isascii():
        return text
    try:
        return guess_text(text.encode("utf-8", "surrogateescape"))
    except UnicodeError:
        return text


def _word_bytes(encoding: str, text: str) -> bytes | None:
    try:
        raw = text.encode("ascii", "surrogateescape")
        if encoding == "q":
            return quopri.decodestring(raw, header=True)
        raw = re.sub(rb"[^A-Za-z0-9+/]", b"", raw)
        if len(raw) % 4 == 1:
            raw = raw[:-1]
        return base64.b64decode(raw + b"=" * (-len(raw) % 4))
    except (binascii.Error, ValueError):
        return None


def _decode_bytes(data: bytes, charset: str, warn: Callable[[str], None]) -> str:
    name = codec_name(charset)
    if name is not None:
        try:
            return data.decode(name)
        except (UnicodeError, ValueError):
            warn("header_charset")
    return guess_text(data, fallback=name)
