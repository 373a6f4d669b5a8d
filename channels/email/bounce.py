"""Reading bounces: which of our messages did not arrive, to whom, and why (RFC 3464, and what older servers
write).

Pure and total. It only reads; whether the message is ours is decided by the form of its Message-ID.
"""

import re
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from email.policy import compat32

from channels.email.headers import MAX_HEADER, message_ids, normal_address, raw_header, raw_headers

_STATUS = re.compile(r"\b([245]\.\d{1,3}\.\d{1,3})\b")
_STATES = {"failed": "failed", "delayed": "delayed", "delivered": "delivered"}
_MAX_RECIPIENTS = 50
_MAX_SCAN = 200_000  # characters of a bounce without structure
_DELAY_WORDS = ("delayed", "will retry", "will be retried", "still being retried", "warning: could not send")


@dataclass(frozen=True, slots=True)
class Report:
    """One recipient's fate. `message_id` is one of ours; `root` began its thread, as its references say."""

    state: str  # failed | delayed | delivered
    message_id: str
    root: str
    recipient: str
    status: str
    diagnostic: str


def read_report(message: Message, own_id: re.Pattern[str]) -> list[Report]:
    """Reports in a `multipart/report`; empty if it is none, or names none of our messages."""
    blocks: list[Message] = []
    original: Message | None = None
    for part in _parts(message):
        kind = part.get_content_type()
        payload = getattr(part, "_payload", None)
        if kind in ("message/delivery-status", "message/global-delivery-status"):
            blocks.extend(_blocks(payload))
        elif kind in ("message/rfc822", "message/global") and isinstance(payload, list) and payload:
            original = original or payload[0]
        elif kind in ("text/rfc822-headers", "message/rfc822-headers", "message/global-headers"):
            original = original or _headers_of(part)
    found = _own_message(original, own_id) if original is not None else None
    if found is None:
        return []
    message_id, root = found
    reports = []
    for block in blocks[:_MAX_RECIPIENTS]:
        state = _STATES.get(raw_header(block, "action").strip().lower())
        if state is None:
            continue
        reports.append(
            Report(
                state=state,
                message_id=message_id,
                root=root,
                recipient=_recipient(block),
                status=_first_status(raw_header(block, "status")) or ("5.0.0" if state == "failed" else ""),
                diagnostic=" ".join(raw_header(block, "diagnostic-code").split())[:500],
            )
        )
    return reports


def read_unstructured(message: Message, text: str, own_id: re.Pattern[str]) -> list[Report]:
    """A daemon's mail without a report: one of our Message-IDs in its text, a status code or words of delay.

    Call only for mail from a mail server (null sender or mailer-daemon): anybody can quote a Message-ID.
    """
    text = text[:_MAX_SCAN]
    match = own_id.search(text)
    attached = next((found for part in _parts(message) if (found := _attached_own(part, own_id))), None)
    if match is None and attached is None:
        return []
    message_id, root = attached or (match[0], match[0]) if match else (attached or ("", ""))
    failed = ",".join(raw_headers(message, "x-failed-recipients"))
    status = _first_status(text)
    delayed = status.startswith("4") or (not failed and any(words in text.lower() for words in _DELAY_WORDS))
    recipients = [address for item in failed.split(",") if (address := normal_address(item))] or [""]
    state = "delayed" if delayed else "failed"
    return [
        Report(state, message_id, root, recipient, status or ("4.0.0" if delayed else "5.0.0"), "")
        for recipient in recipients[:_MAX_RECIPIENTS]
    ]


def _parts(message: Message) -> list[Message]:
    """The message and its parts, two levels down: reports are flat."""
    found = [message]
    for _ in range(2):
        for part in list(found):
            payload = getattr(part, "_payload", None)
            if isinstance(payload, list) and part.get_content_maintype() == "multipart":
                found.extend(child for child in payload[:100] if child not in found)
    return found[:300]


def _blocks(payload: object) -> list[Message]:
    """Field groups of a delivery-status part: the first is about the report, the others about recipients."""
    if isinstance(payload, list):
        return [block for block in payload if isinstance(block, Message)]
    if isinstance(payload, str):
        return [
            HeaderParser(policy=compat32).parsestr(block)
            for block in re.split(r"\n\s*\n", payload[:_MAX_SCAN])
        ]
    return []


def _headers_of(part: Message) -> Message | None:
    payload = getattr(part, "_payload", None)
    if isinstance(payload, list):  # the parser opens every message/* part by itself
        return payload[0] if payload and isinstance(payload[0], Message) else None
    data = part.get_payload(decode=True)
    if not isinstance(data, bytes):
        return None
    return HeaderParser(policy=compat32).parsestr(data[:_MAX_SCAN].decode("ascii", "replace").lstrip("\r\n"))


def _own_message(original: Message, own_id: re.Pattern[str]) -> tuple[str, str] | None:
    ids = message_ids(raw_headers(original, "message-id")[:1])
    if not ids or own_id.fullmatch(ids[0]) is None:
        return None
    references = message_ids(raw_headers(original, "references"))
    return ids[0], (references or ids)[0]


def _attached_own(part: Message, own_id: re.Pattern[str]) -> tuple[str, str] | None:
    payload = getattr(part, "_payload", None)
    if part.get_content_type() == "message/rfc822" and isinstance(payload, list) and payload:
        return _own_message(payload[0], own_id)
    return None


def _recipient(block: Message) -> str:
    for name in ("original-recipient", "final-recipient"):
        value = raw_header(block, name)[:MAX_HEADER]
        address = normal_address(value.rpartition(";")[2])
        if address:
            return address
    return ""


def _first_status(text: str) -> str:
    match = _STATUS.search(text)
    return match[1] if match else ""
