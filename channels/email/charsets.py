"""Bytes to text, whatever the sender claims or forgets. Never raises.

Order: the declared charset, UTF-8, a guess between the Cyrillic code pages, charset-normalizer, Latin-1.
"""

import codecs
import re
from collections.abc import Callable

import charset_normalizer

#: names seen in real mail that Python does not know, or knows too narrowly (gb2312 mail is mostly gb18030)
_ALIASES = {
    "unicode-1-1-utf-7": "utf-7", "uft-8": "utf-8", "utf8": "utf-8", "utf-8mb4": "utf-8",
    "unicode-1-1-utf-8": "utf-8",
    "ansi_x3.110-1983": "latin-1", "gb2312": "gb18030", "gbk": "gb18030", "x-gbk": "gb18030",
    "win-1251": "cp1251", "windows1251": "cp1251", "cp-1251": "cp1251", "x-cp1251": "cp1251",
    "windows1252": "cp1252", "cp-1252": "cp1252", "iso-8859-1": "cp1252", "latin1": "cp1252",
    "koi8r": "koi8-r", "koi8u": "koi8-u", "koi8-ru": "koi8-u",
    "iso-8859-8-i": "iso-8859-8", "iso-8859-8-e": "iso-8859-8",
    "ks_c_5601-1987": "cp949", "x-sjis": "cp932", "shift_jis": "cp932", "x-mac-cyrillic": "mac-cyrillic",
}  # fmt: skip
#: codecs of Python that are no charsets: slow, escaping, or stateful
_REFUSED = frozenset({"idna", "punycode", "unicode-escape", "unicode_escape", "raw-unicode-escape",
                      "raw_unicode_escape",
                      "undefined",
                      "charmap", "mbcs", "oem"})  # fmt: skip
#: labels that say nothing: 8-bit bytes under them are to be guessed
_UNSAID = frozenset({"us-ascii", "ascii", "unknown-8bit", "x-unknown", "default"})
_UNCLEAN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufeff\ufffe\uffff]")
_HIGH_RUN = re.compile(rb"[\x80-\xff]+")
_SAMPLE = 16_384  # bytes shown to the detector, whose cost grows with length


def clean_text(text: str) -> str:
    """Without NUL and other controls (databases refuse them) and lone surrogates; newlines are line feeds."""
    return _UNCLEAN.sub(_replacement, text.replace("\r\n", "\n").replace("\r", "\n"))


def decode_text(data: bytes, declared: str | None, warn: Callable[[str], None]) -> str:
    """Text of `data`; `warn` hears `charset_unknown` or `charset_wrong` where the declaration failed."""
    name = codec_name(declared)
    if declared and name is None and _label(declared) not in _UNSAID:
        warn("charset_unknown")
    if name is not None:
        try:
            return clean_text(data.decode(name))
        except (UnicodeError, ValueError, LookupError):
            warn("charset_wrong")
    elif data.isascii():
        return clean_text(data.decode("ascii"))
    return clean_text(guess_text(data, fallback=name))


def codec_name(declared: str | None) -> str | None:
    """Python's name for a charset label, or None if there is none fit for mail."""
    if not declared:
        return None
    name = _ALIASES.get(_label(declared), _label(declared))
    if name in _UNSAID:
        return None
    try:
        codec = codecs.lookup(name)
        if codec.name in _REFUSED or not getattr(codec, "_is_text_encoding", True):
            return None
    except (LookupError, ValueError, TypeError, UnicodeError):
        return None
    return codec.name


def _label(declared: str) -> str:
    return declared.strip().strip("'\"").lower()


def guess_text(data: bytes, *, fallback: str | None = None) -> str:
    """Text of bytes whose charset nobody named, or named wrongly."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    cyrillic = _cyrillic_code_page(data)
    if cyrillic is not None:
        return data.decode(cyrillic, "replace")
    if fallback is not None:
        # A few broken bytes in otherwise right text are the usual case.
        text = data.decode(fallback, "replace")
        if text.count("\ufffd") * 50 <= len(text):
            return text
    try:
        best = charset_normalizer.from_bytes(data[:_SAMPLE]).best()
        if best is not None and codec_name(best.encoding) is not None:
            return data.decode(best.encoding, "replace")
    except Exception:  # noqa: S110 - a detector's bug must not cost a mail
        pass
    return data.decode("latin-1")


def _cyrillic_code_page(data: bytes) -> str | None:
    """cp1251 or koi8-u by the place of small letters, or None if it does not look Cyrillic.

    Western text has lone high bytes among ASCII letters; Cyrillic words are runs of them.
    """
    runs = _HIGH_RUN.findall(data[:_SAMPLE])
    high = b"".join(runs)
    if len(high) < 3 or len(high) < 2.5 * len(runs):
        return None
    upper_half = sum(byte >= 0xE0 for byte in high)
    lower_half = sum(0xC0 <= byte < 0xE0 for byte in high)
    if upper_half + lower_half < 0.8 * len(high):
        return None
    return "cp1251" if upper_half >= lower_half else "koi8-u"


def _replacement(match: re.Match[str]) -> str:
    return "\ufffd" if "\ud800" <= match[0] <= "\udfff" else ""
