"""The MIME tree of a mail as text, HTML and attachments. Pure, total and bounded.

Every part is read in its own try: a broken part costs itself and a warning, not the mail.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from email.utils import collapse_rfc2231_value

from channels.email import markup
from channels.email.charsets import clean_text, decode_text, guess_text
from channels.email.headers import decode_header, raw_header
from channels.email.languages import WORDS
from channels.email.quotes import split_quotes
from crm_core.envelope import InboundAttachment

MAX_DEPTH = 20
MAX_PARTS = 500
MAX_DECODED = 50 * 1024 * 1024  # bytes
MAX_TEXT = 1_000_000  # characters of text shown; the raw mail has the rest

_UNSAFE_NAME = re.compile(r"[\x00-\x1f\x7f/\\:*?\"<>|\u202a-\u202e\u2066-\u2069\u200e\u200f]")
_STUB_WORDS = tuple(word for row in WORDS for word in row.no_html)
_EXTENSIONS = {
    "message/rfc822": ".eml", "text/calendar": ".ics", "text/html": ".html", "text/plain": ".txt",
    "image/png": ".png", "image/jpeg": ".jpg", "image/gif": ".gif", "application/pdf": ".pdf",
}  # fmt: skip


@dataclass(slots=True)
class Body:
    """What the walk collects."""

    plain: list[str] = field(default_factory=list)
    html: list[str] = field(default_factory=list)
    attachments: list[InboundAttachment] = field(default_factory=list)
    calendar_method: str | None = None
    parts: int = 0
    decoded: int = 0


@dataclass(frozen=True, slots=True)
class ReadBody:
    text: str
    quoted: str | None
    html: str | None
    attachments: tuple[InboundAttachment, ...]
    calendar_method: str | None


def read_body(message: Message, subject: str, warn: Callable[[str], None]) -> ReadBody:
    """Text to show, what was quoted, safe HTML and the files of a parsed mail."""
    body = Body()
    _walk(message, body, 0, warn)
    plain = "\n\n".join(part.strip("\n") for part in body.plain if part.strip())
    text, quoted, html = _choose(plain, "\n".join(body.html), subject, warn)
    if len(text) > MAX_TEXT:
        warn("text_cut")
        text = text[:MAX_TEXT]
    if quoted is not None and len(quoted) > MAX_TEXT:
        warn("text_cut")
        quoted = quoted[:MAX_TEXT]
    return ReadBody(text, quoted, html, tuple(body.attachments), body.calendar_method)


def _choose(
    plain: str, html: str, subject: str, warn: Callable[[str], None]
) -> tuple[str, str | None, str | None]:
    if not html.strip():
        split = split_quotes(plain, subject=subject)
        return split.text, split.quoted, None
    if markup.too_heavy(html):
        warn("html_too_heavy")
        split = split_quotes(plain.strip() or markup.strip_tags(html), subject=subject)
        return split.text, split.quoted, None
    safe: str | None = None
    shown = markup.HtmlText("", None)
    try:
        safe = markup.sanitise(html)
        shown = markup.read_html(html)
    except Exception:
        warn("html_broken")
    whole_html = f"{shown.text}\n\n{shown.quoted or ''}".strip()
    if plain.strip() and not _is_stub(plain, whole_html):
        split = split_quotes(plain, subject=subject)
        if (
            split.quoted is None
            and shown.quoted
            and shown.text
            and split_quotes(whole_html, subject=subject).quoted
        ):
            # The plain rules missed the quote and the HTML has it marked.
            return shown.text, shown.quoted, safe
        return split.text, split.quoted, safe
    if shown.quoted is None or not shown.text:
        split = split_quotes(whole_html or markup.strip_tags(html), subject=subject)
        return split.text, split.quoted, safe
    # The marked quote is cut; its "On … wrote:" may stand before the mark.
    split = split_quotes(whole_html, subject=subject)
    if split.quoted is not None and len(split.text) <= len(shown.text):
        return split.text, split.quoted, safe
    return shown.text, shown.quoted, safe


def _is_stub(plain: str, html_text: str) -> bool:
    """A text part that only says to look at the HTML."""
    short = plain.strip().lower()
    if len(short) < 400 and any(words in short for words in _STUB_WORDS):
        return True
    return len(short) < 5 and len(html_text) > len(short) + 20


def _walk(part: Message, body: Body, depth: int, warn: Callable[[str], None]) -> None:
    body.parts += 1
    if depth > MAX_DEPTH or body.parts > MAX_PARTS:
        warn("too_deep" if depth > MAX_DEPTH else "too_many_parts")
        return
    try:
        _walk_part(part, body, depth, warn)
    except Exception:
        warn("part_broken")


def _walk_part(part: Message, body: Body, depth: int, warn: Callable[[str], None]) -> None:
    kind = _content_type(part)
    payload = getattr(part, "_payload", None)
    if isinstance(payload, list) and kind == "message/delivery-status":
        # Its blocks are parsed as messages of their own; people see the report's text part.
        return
    if isinstance(payload, list) and kind == "message/rfc822" and depth:
        _attach(part, body, _inner_bytes(payload), kind, warn)
        return
    if isinstance(payload, list):
        children = [child for child in payload if isinstance(child, Message)]
        if kind == "multipart/alternative":
            # Every form is visited: text and HTML go to their own places, and a calendar is a file.
            for child in children:
                _walk(child, body, depth + 1, warn)
            return
        for child in children:
            _walk(child, body, depth + 1, warn)
        return
    data = _decoded(part, body, warn)
    if data is None:
        return
    is_file = _disposition(part) == "attachment" or bool(_file_name(part, warn))
    if kind.startswith("multipart/"):
        warn("no_boundary")
        kind = "text/plain"
    if kind in ("text/plain", "text/html") and not is_file:
        text = decode_text(data, _charset(part), warn)
        (body.html if kind == "text/html" else body.plain).append(
            _unflowed(part, text) if kind == "text/plain" else text
        )
        return
    if kind == "text/calendar":
        body.calendar_method = (_parameter(part, "method") or "").upper()[:20] or body.calendar_method
    if kind in ("application/ms-tnef", "application/vnd.ms-tnef"):
        warn("tnef_not_unpacked")
    _attach(part, body, data, kind, warn)


def _decoded(part: Message, body: Body, warn: Callable[[str], None]) -> bytes | None:
    try:
        data = part.get_payload(decode=True)
    except Exception:
        warn("part_encoding")
        data = None
    if not isinstance(data, bytes):
        raw = getattr(part, "_payload", None)
        if not isinstance(raw, str):
            return None
        data = raw.encode("utf-8", "surrogateescape")
    if part.defects:
        warn("part_defects")
    body.decoded += len(data)
    if body.decoded > MAX_DECODED:
        warn("too_big_decoded")
        body.decoded -= len(data)
        body.attachments.append(
            InboundAttachment(
                name=_file_name(part, warn) or "file",
                mime=_content_type(part),
                size=len(data),
                refused="too_big",
            )
        )
        return None
    return data


def _attach(part: Message, body: Body, data: bytes, kind: str, warn: Callable[[str], None]) -> None:
    cid = raw_header(part, "content-id").strip().strip("<>").strip()
    name = _file_name(part, warn)
    if not name and kind == "message/rfc822":
        inner = getattr(part, "_payload", None)
        if isinstance(inner, list) and inner and isinstance(inner[0], Message):
            name = safe_name(decode_header(raw_header(inner[0], "subject"), warn)[:80])
    if not name:
        name = f"part-{body.parts}"
    if "." not in name:
        name += _EXTENSIONS.get(kind, "" if kind == "message/rfc822" else ".bin")
    inline = bool(cid) and _disposition(part) != "attachment"
    body.attachments.append(
        InboundAttachment(
            name=name,
            mime=kind,
            size=len(data),
            content=data,
            inline_cid=clean_text(cid)[:250] if inline else None,
        )
    )


def _inner_bytes(payload: list[Message]) -> bytes:
    for child in payload:
        try:
            return child.as_bytes()
        except Exception:
            text = str(getattr(child, "_payload", ""))
            return text.encode("utf-8", "surrogateescape")
    return b""


def _content_type(part: Message) -> str:
    try:
        kind = part.get_content_type()
    except Exception:
        return "application/octet-stream"
    return (
        kind
        if re.fullmatch(r"[a-z0-9!#$&^_.+-]{1,80}/[a-z0-9!#$&^_.+-]{1,120}", kind)
        else "application/octet-stream"
    )


def _charset(part: Message) -> str | None:
    return _parameter(part, "charset")


def _parameter(part: Message, name: str) -> str | None:
    """A parameter of Content-Type."""
    try:
        value = _raw_parameter(part, "content-type", name)
        return None if value is None else str(collapse_rfc2231_value(value))
    except Exception:
        return None


def _raw_parameter(part: Message, header: str, name: str) -> str | tuple[str | None, str | None, str] | None:
    """Like `Message.get_param`, which turns every 8-bit byte of an unencoded file name into a question
    mark.
    """
    readable = Message()
    readable[header] = clean_text(guess_text(raw_header(part, header).encode("utf-8", "surrogateescape")))
    return readable.get_param(name, header=header)


def _disposition(part: Message) -> str:
    return raw_header(part, "content-disposition").partition(";")[0].strip().lower()


def _file_name(part: Message, warn: Callable[[str], None]) -> str:
    for header, parameter in (("content-disposition", "filename"), ("content-type", "name")):
        try:
            value = _raw_parameter(part, header, parameter)
        except Exception:
            warn("name_broken")
            continue
        if isinstance(value, tuple):
            charset, _, text = value
            data = str(text).encode("latin-1", "replace")
            return safe_name(decode_text(data, charset or "utf-8", warn))
        if value:
            return safe_name(decode_header(str(value), warn))
    return ""


def safe_name(name: str) -> str:
    """A file name without folders, controls, or marks that reverse its reading; at most 150 characters, with
    its extension kept.
    """
    name = unicodedata.normalize("NFC", clean_text(name)).replace("\n", " ")
    name = re.split(r"[/\\]", name)[-1] or name
    name = " ".join(_UNSAFE_NAME.sub("_", name).split()).strip(". ")
    if len(name) > 150:
        stem, dot, extension = name.rpartition(".")
        name = f"{stem[: 149 - len(extension)]}.{extension}" if dot and len(extension) <= 10 else name[:150]
    return name


def _unflowed(part: Message, text: str) -> str:
    """Lines of `format=flowed` joined again (RFC 3676); quoted lines are left alone."""
    if (_parameter(part, "format") or "").lower() != "flowed":
        return text
    delete_space = (_parameter(part, "delsp") or "").lower() == "yes"
    joined: list[str] = []
    open_line = False
    for line in text.split("\n"):
        quoted = line.startswith(">")
        content = line if quoted else line.removeprefix(" ")
        flows = content.endswith(" ") and content != "-- " and not quoted
        piece = content[:-1] if flows and delete_space else content
        if open_line and not quoted and content != "-- ":
            joined[-1] += piece
        else:
            joined.append(piece)
        open_line = flows
    return "\n".join(line if line == "-- " else line.rstrip(" ") for line in joined)
