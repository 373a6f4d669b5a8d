"""An outbound message as RFC 5322 bytes. Pure: the same input and instant give the same mail but for MIME
boundaries.

Headers are written here, not by `EmailMessage`: its folding turns a long message id into encoded words,
which no mail program threads by. The body is left to the standard library.
"""

import hashlib
import html as html_escape
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.header import Header
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from channels.contract import ContentRejected, InboxConfig
from channels.email.account import ascii_domain, message_id_domain, own_address
from channels.email.automatic import LOOP_HEADER
from channels.email.body import safe_name
from channels.email.charsets import clean_text
from channels.email.headers import message_ids, normal_address
from channels.email.languages import words_for
from channels.email.tokens import address_with_token
from crm_core.envelope import Outbound

MAX_REFERENCES = 20
MAX_MAIL = 24 * 1024 * 1024  # bytes; most servers refuse more than 25 MB
_POLICY = SMTP.clone(cte_type="7bit")
_SAFE_REF = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MIME_TYPE = re.compile(r"([a-z0-9!#$&^_.+-]+)/([a-z0-9!#$&^_.+-]+)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029\x85]+")
_ANSWERS = re.compile(r"\s*(?:re|aw|sv|odp|відп|отв|ответ)(?:\[\d+\])?\s*:", re.IGNORECASE)
_SPECIALS = re.compile(r'[()<>\[\]:;@\\,."]')


@dataclass(frozen=True, slots=True)
class Mail:
    """`sender` is the envelope's: '' for automatic mail, so that no machine answers it."""

    message_id: str
    sender: str
    recipient: str
    data: bytes
    needs_utf8: bool  # an address has letters that only an SMTPUTF8 server takes


def outbound_message_id(ref: str, domain: str) -> str:
    """The Message-ID of the message with this ref: every retry is the same mail."""
    safe = ref if _SAFE_REF.fullmatch(ref) else hashlib.sha256(ref.encode("utf-8", "replace")).hexdigest()
    return f"<message.{safe}@{domain}>"


def compose(outbound: Outbound, inbox: InboxConfig, *, now_ms: int) -> Mail:
    """Build the mail. Raises ContentRejected for a recipient that is no address or a mail that is too large,
    NotConfigured if the inbox has no valid address.
    """
    address = _wire_address(own_address(inbox))
    recipient = normal_address(outbound.to)
    if not recipient or _CONTROL.search(outbound.to):
        raise ContentRejected("the recipient is not an email address")
    recipient = _wire_address(recipient)
    message_id = outbound_message_id(outbound.ref, message_id_domain(inbox))
    reply_to = address_with_token(address, outbound.reply_token) if outbound.reply_token else address
    parent, references = _thread(outbound)
    headers = [
        ("From", f"{_phrase(_from_name(outbound, inbox))} <{address}>"),
        ("To", f"<{recipient}>"),
        ("Reply-To", f"<{reply_to}>"),
        ("Subject", _unstructured("Subject", _subject(outbound, answers=parent is not None))),
        ("Date", format_datetime(datetime.fromtimestamp(now_ms / 1000, UTC))),
        ("Message-ID", message_id),
    ]
    if parent:
        headers.append(("In-Reply-To", parent))
    if references:
        headers.append(("References", "\r\n ".join(references)))
    if outbound.automatic:
        headers += [
            ("Auto-Submitted", "auto-replied" if parent else "auto-generated"),
            ("X-Auto-Response-Suppress", "All"),
            ("Precedence", "bulk"),
            (LOOP_HEADER, re.sub(r"[^A-Za-z0-9._-]", "", inbox.key)[:100]),
        ]
    head = "".join(f"{name}: {value}\r\n" for name, value in headers)
    data = head.encode("utf-8") + _body(outbound)
    if len(data) > MAX_MAIL:
        raise ContentRejected(f"the mail is {len(data)} bytes; mail servers take at most {MAX_MAIL}")
    needs_utf8 = not head.isascii()
    return Mail(message_id, "" if outbound.automatic else address, recipient, data, needs_utf8)


def _subject(outbound: Outbound, *, answers: bool) -> str:
    """An answer is marked as one, once: some programs keep a thread together by "Re:" and nothing else."""
    subject = outbound.subject or ""
    if not answers or not subject.strip() or _ANSWERS.match(subject):
        return subject
    return f"Re: {subject}"


def _body(outbound: Outbound) -> bytes:
    marker = words_for(outbound.language).reply_above
    message = EmailMessage(policy=_POLICY)
    text = f"{marker}\n\n{clean_text(outbound.text).strip()}\n"
    message.set_content(text, charset="utf-8", cte=None if text.isascii() else "base64")
    if outbound.html:
        top = f'<div style="color:#999;font-size:11px">{html_escape.escape(marker)}</div>'
        message.add_alternative(
            f"{top}\n{clean_text(outbound.html)}", subtype="html", charset="utf-8", cte="base64"
        )
    for file in outbound.files:
        kind = _MIME_TYPE.fullmatch(file.mime.strip().lower())
        main, sub = (kind[1], kind[2]) if kind else ("application", "octet-stream")
        if main in ("multipart", "message"):
            main, sub = "application", "octet-stream"
        message.add_attachment(
            file.content, maintype=main, subtype=sub, filename=safe_name(file.name) or "file"
        )
    return message.as_bytes()


def _from_name(outbound: Outbound, inbox: InboxConfig) -> str:
    own = _one_line(str(inbox.config.get("from_name") or inbox.name))
    author = _one_line(outbound.author_name or "")
    if not author:
        return own
    return f"{author} {words_for(outbound.language).via} {own}" if own else author


def _thread(outbound: Outbound) -> tuple[str | None, list[str]]:
    """In-Reply-To, and the first and the last of References; only what has the form of a message id."""
    references = message_ids(list(outbound.references))
    parent = next(iter(message_ids([outbound.reply_to or ""])), None) or (
        references[-1] if references else None
    )
    if parent and parent not in references:
        references.append(parent)
    references = [item for item in references if item.isascii() and item.isprintable()]
    if len(references) > MAX_REFERENCES:
        references = references[:1] + references[-(MAX_REFERENCES - 1) :]
    return (parent if parent in references else None), references


def _one_line(text: str) -> str:
    """No newline or control can get from a name or a subject into the header block."""
    return " ".join(_CONTROL.sub(" ", clean_text(text)).split())[:500]


def _phrase(name: str) -> str:
    name = _one_line(name)[:120].strip()
    if not name.isascii() or "=?" in name:
        return Header(name, "utf-8", maxlinelen=75, header_name="From").encode(linesep="\r\n")
    if _SPECIALS.search(name):
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return name


def _unstructured(header: str, text: str) -> str:
    text = _one_line(text)
    charset = "us-ascii" if text.isascii() and "=?" not in text else "utf-8"
    return Header(text, charset, maxlinelen=75, header_name=header).encode(linesep="\r\n")


def _wire_address(address: str) -> str:
    local, _, domain = address.rpartition("@")
    return f"{local}@{ascii_domain(domain)}"
