"""One received mail as a stored item: what is its unique key, and which mails must be processed one after
another.

Reads a few headers only; everything else waits for `parse`. Never raises on any bytes.
"""

import hashlib
import re
from email.message import Message
from email.parser import BytesHeaderParser
from email.policy import compat32

from channels.contract import RawItem
from channels.email.headers import message_ids, raw_header, raw_headers
from crm_core.clock import HOUR

_HEADER_BYTES = 256 * 1024
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")


def make_item(
    raw: bytes,
    *,
    received_at: int,
    envelope_from: str | None = None,
    envelope_to: str | None = None,
    notes: dict[str, str] | None = None,
) -> RawItem:
    """A mail as RawItem. `envelope_from` is '' for the null sender and None where no envelope is known
    (IMAP).
    """
    headers, body = split_head(raw)
    message = read_head(headers)
    if not message.keys():
        body = raw  # no header at all: the text is all there is to tell it from another
    own = message_ids(raw_headers(message, "message-id")[:1])
    meta = dict(notes or {})
    if envelope_from is not None:
        meta["envelope_from"] = envelope_from
    if envelope_to is not None:
        meta["envelope_to"] = envelope_to
    return RawItem(
        dedupe_key=_dedupe_key(own[0] if own else _unnamed(message, meta, received_at), body),
        lane=_lane(message, own, body),
        body=raw,
        content_type="message/rfc822",
        meta=meta,
        received_at=received_at,
    )


def split_head(raw: bytes) -> tuple[bytes, bytes]:
    """Header block and the rest, at the first blank line."""
    match = _BLANK_LINE.search(raw)
    return (raw[: match.start()], raw[match.end() :]) if match else (raw, b"")


def read_head(headers: bytes) -> Message:
    """The header block alone; an empty message if even that cannot be read."""
    try:
        return BytesHeaderParser(policy=compat32).parsebytes(headers[:_HEADER_BYTES])
    except Exception:
        return Message()


def thread_root(message: Message, own: list[str]) -> str | None:
    """The id of the mail that began this thread, as far as the headers tell."""
    chain = message_ids(raw_headers(message, "references")) or message_ids(
        raw_headers(message, "in-reply-to")
    )
    return next(iter(chain or own), None)


def _dedupe_key(identity: str, body: bytes) -> str:
    """Message-ID and a hash of the body.

    Not of the headers: every hop and every retry adds its own. Not of the recipient either, although the key
    is then the same for two aliases of one inbox: the key is unique within an inbox, so two inboxes still
    get one copy each, while a mail to two addresses of one inbox, or one that IMAP and LMTP both bring,
    becomes one message.
    """
    digest = hashlib.sha256(identity.encode("utf-8", "surrogateescape") + b"\0")
    digest.update(body.replace(b"\r\n", b"\n").rstrip(b"\n"))
    return f"mail:{digest.hexdigest()[:40]}"


def _unnamed(message: Message, meta: dict[str, str], received_at: int) -> str:
    """What stands for the Message-ID a mail lacks: who, when, about what.

    A machine that writes neither id nor date says "disk full" anew each day, and each is a mail of its own:
    the coarse hour of the hand-over stands for the date, in a mailbox the server's own trace, which is the
    same whenever the mailbox is read again.
    """
    sender = raw_header(message, "from") or meta.get("envelope_from", "")
    date = raw_header(message, "date")
    if not date and "envelope_from" in meta:
        date = str(received_at // HOUR)
    elif not date:
        date = next(iter(raw_headers(message, "received")), "")
    return "\n".join((date, sender, raw_header(message, "subject")))


def _lane(message: Message, own: list[str], body: bytes) -> str:
    root = thread_root(message, own)
    seed = root.encode("utf-8", "surrogateescape") if root else body
    return f"thread:{hashlib.sha256(seed).hexdigest()[:32]}"
