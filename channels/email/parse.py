"""One raw mail to envelopes. Pure and total: any bytes give at least one envelope, and a doubt becomes a
warning.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from email import message_from_bytes
from email.message import Message
from email.policy import compat32

from channels.contract import InboxConfig, RawItem
from channels.email import automatic, bounce
from channels.email.account import own_addresses, own_id_pattern, without_tag
from channels.email.body import ReadBody, read_body
from channels.email.charsets import clean_text, guess_text
from channels.email.headers import (
    Address,
    addresses,
    date_ms,
    message_ids,
    normal_address,
    parse_addresses,
    raw_header,
    raw_headers,
    text_header,
)
from channels.email.items import read_head, split_head, thread_root
from channels.email.tokens import find_subject_token, token_in_address
from crm_core.clock import DAY
from crm_core.envelope import Auto, Envelope, IdentityClaim, IdentityKind, Kind, Sender, ThreadHints

MAX_SUBJECT = 500  # characters
_MAX_AGE = 60 * DAY  # an older Date is a broken clock or a forgery, not a fact
#: (declared boundaries + 1) x lines: the standard parser tests every line against every open boundary
_MAX_PARSE_WORK = 10_000_000
_RESULT = re.compile(r"\b(spf|dkim|dmarc|arc)\s*=\s*([a-z]+)", re.IGNORECASE)
_COMMENT = re.compile(r"\([^()]*\)")


def parse_mail(item: RawItem, inbox: InboxConfig) -> list[Envelope]:
    """All envelopes of one mail: one message, or one delivery status for each recipient of a bounce of
    ours.
    """
    warnings: dict[str, None] = {}

    def warn(what: str) -> None:
        warnings[what] = None

    try:
        if "truncated" in item.meta:
            warn(f"truncated_{item.meta['truncated']}")
        message = _structure(item.body, warn)
        envelopes = _envelopes(message, item, inbox, warn)
    except Exception:  # the last net: a person sees the text as it came, the raw mail is stored anyway
        warn("mail_broken")
        envelopes = [_as_it_came(item)]
    return [replace(envelope, parse_warnings=tuple(warnings)) for envelope in envelopes]


def _structure(raw: bytes, warn: Callable[[str], None]) -> Message:
    work = (raw.lower().count(b"boundary") + 1) * (raw.count(b"\n") + 1)
    if work <= _MAX_PARSE_WORK:
        try:
            return message_from_bytes(raw, policy=compat32)
        except Exception:  # RecursionError among others
            warn("structure_broken")
    else:
        warn("structure_too_heavy")
    headers, body = split_head(raw)
    message = Message()
    for name, value in read_head(headers).items():
        if name.lower() not in ("content-type", "content-transfer-encoding"):
            message[name] = value
    message.set_payload(clean_text(guess_text(body[:1_000_000])))
    return message


def _envelopes(
    message: Message, item: RawItem, inbox: InboxConfig, warn: Callable[[str], None]
) -> list[Envelope]:
    own = own_addresses(inbox)
    own_id = own_id_pattern(inbox)
    sender, evidence = _sender(message, own, warn), "from_header"
    if sender is None:
        sender, evidence = _envelope_sender(item, own), "envelope_sender"
    subject = text_header(message, "subject", warn)[:MAX_SUBJECT]
    own_ids = message_ids(raw_headers(message, "message-id")[:1])
    envelope_from = item.meta.get("envelope_from")
    auto = automatic.classify(
        message,
        automatic.MailFacts(
            inbox_key=inbox.key,
            own_addresses=own,
            own_message=bool(own_ids and own_id.fullmatch(own_ids[0])),
            sender=sender,
            envelope_from=envelope_from,
            report=_report_type(message),
        ),
    )
    body = _body(message, subject, warn)
    if auto is Auto.HUMAN and body.calendar_method == "REPLY":
        auto = Auto.AUTO_REPLY  # somebody pressed "accept" in a calendar; nobody waits for our answer
    base = Envelope(
        kind=Kind.MESSAGE,
        dedupe_key=item.dedupe_key,
        conversation_key=thread_root(message, own_ids)
        or f"<{item.dedupe_key.replace(':', '.')}@no-id.invalid>",
        sender=_as_sender(sender, evidence),
        occurred_at=_occurred_at(message, item.received_at, warn),
        provider_message_id=own_ids[0] if own_ids else None,
        reply_to=next(iter(message_ids(raw_headers(message, "in-reply-to"))), None),
        recipient=_recipient(message, item, own),
        subject=subject or None,
        text=body.text,
        quoted_text=body.quoted,
        html=body.html,
        attachments=body.attachments,
        thread=_thread(message, item, own, subject),
        auto=auto,
        data=_data(message, body, warn),
        auth=_authentication(message, str(inbox.config.get("authserv_id") or "")),
    )
    if auto is Auto.BOUNCE:
        statuses = _statuses(message, base, own_id, warn)
        if statuses:
            return statuses
    return [base]


def _body(message: Message, subject: str, warn: Callable[[str], None]) -> ReadBody:
    try:
        return read_body(message, subject, warn)
    except Exception:
        warn("body_broken")
        return ReadBody("", None, None, (), None)


def _statuses(
    message: Message, base: Envelope, own_id: re.Pattern[str], warn: Callable[[str], None]
) -> list[Envelope]:
    try:
        whole = f"{base.text}\n{base.quoted_text or ''}"
        reports = bounce.read_report(message, own_id) or bounce.read_unstructured(message, whole, own_id)
    except Exception:
        warn("bounce_broken")
        return []
    return [
        replace(
            base,
            kind=Kind.DELIVERY_STATUS,
            dedupe_key=base.dedupe_key if number == 0 else f"{base.dedupe_key}:{number}",
            conversation_key=report.root,
            attachments=(),
            html=None,
            data={
                "state": report.state,
                "message_id": report.message_id,
                "recipient": report.recipient,
                "status": report.status,
                "diagnostic": clean_text(report.diagnostic),
            },
        )
        for number, report in enumerate(reports)
    ]


def _sender(message: Message, own: frozenset[str], warn: Callable[[str], None]) -> Address | None:
    """From, else Sender. Contact forms of web sites write From our own address and put the customer in
    Reply-To.
    """
    found = addresses(message, "from", warn) or addresses(message, "sender", warn)
    sender = found[0] if found else None
    if sender is not None and without_tag(sender.email) in own:
        for other in addresses(message, "reply-to", warn):
            if without_tag(other.email) not in own:
                warn("sender_from_reply_to")
                return other
        return Address(sender.name, without_tag(sender.email))
    if sender is None:
        warn("no_sender")
    return sender


def _envelope_sender(item: RawItem, own: frozenset[str]) -> Address | None:
    """Whom the envelope names: as good a claim as a From, and the only place an answer could go."""
    claimed = normal_address(item.meta.get("envelope_from") or "")
    return Address("", claimed) if claimed and without_tag(claimed) not in own else None


def _as_sender(address: Address | None, evidence: str) -> Sender:
    if address is None:
        return Sender()
    claim = IdentityClaim(IdentityKind.EMAIL, address.email, verified=False, evidence=evidence)
    return Sender(identities=(claim,), display_name=address.name[:200] or None)


def _occurred_at(message: Message, received_at: int, warn: Callable[[str], None]) -> int:
    """The Date header where it can be true: not after we received it, and not absurdly long before."""
    date = date_ms(raw_header(message, "date"))
    if date is None:
        return received_at
    if received_at and not received_at - _MAX_AGE <= date <= received_at:
        if date < received_at - _MAX_AGE:
            warn("date_too_old")
        return received_at
    return date


def _recipient_candidates(message: Message, item: RawItem) -> list[str]:
    """Our address as the envelope, then delivery headers, then To and Cc name it."""
    found = [item.meta.get("envelope_to", "")]
    for name in ("delivered-to", "x-original-to", "envelope-to", "x-envelope-to"):
        found.extend(raw_headers(message, name)[:5])
    candidates = [address.email for value in found for address in parse_addresses(value)]
    for name in ("to", "cc"):
        candidates.extend(address.email for address in addresses(message, name, lambda _: None))
    return [candidate for candidate in candidates if candidate]


def _recipient(message: Message, item: RawItem, own: frozenset[str]) -> str | None:
    candidates = _recipient_candidates(message, item)
    return next((one for one in candidates if without_tag(one) in own), candidates[0] if candidates else None)


def _thread(message: Message, item: RawItem, own: frozenset[str], subject: str) -> ThreadHints:
    token = None
    for candidate in _recipient_candidates(message, item):
        if without_tag(candidate) in own and (token := token_in_address(candidate)):
            break
    chain = message_ids(raw_headers(message, "in-reply-to"))
    chain += message_ids(raw_headers(message, "references"))[::-1]
    return ThreadHints(
        reply_token=token,
        message_ids=tuple(dict.fromkeys(chain))[:50],
        subject_token=find_subject_token(subject),
    )


def _data(message: Message, body: ReadBody, warn: Callable[[str], None]) -> dict[str, object]:
    data: dict[str, object] = {
        "to": [address.email for address in addresses(message, "to", warn)],
        "cc": [address.email for address in addresses(message, "cc", warn)],
    }
    reply_to = [address.email for address in addresses(message, "reply-to", warn)]
    if reply_to:
        data["reply_to"] = reply_to
    if automatic.withhold_acknowledgement(message):
        data["withhold_acknowledgement"] = True
    if body.calendar_method:
        data["calendar_method"] = body.calendar_method
        if body.calendar_method == "REPLY":
            data["opens_nothing"] = "an answer to an invitation"
    return data


def _report_type(message: Message) -> str | None:
    try:
        if message.get_content_type() != "multipart/report":
            return None
        value = message.get_param("report-type")
        if isinstance(value, str):
            return value.strip().lower()
        kinds = [part.get_content_type() for part in message.get_payload() if isinstance(part, Message)]
    except Exception:
        return None
    return "delivery-status" if "message/delivery-status" in kinds else ""


def _authentication(message: Message, authserv_id: str) -> dict[str, str]:
    """Verdicts of our own mail server only: the topmost Authentication-Results, if it bears the configured
    name.

    Anybody can write such headers; without a configured name none is believed.
    """
    if not authserv_id:
        return {}
    values = raw_headers(message, "authentication-results")
    if not values:
        return {}
    name, _, results = values[0].partition(";")
    if not name.split() or name.split()[0].lower() != authserv_id.strip().lower():
        return {}
    verdicts: dict[str, str] = {}
    for method, verdict in _RESULT.findall(_COMMENT.sub(" ", results)):
        # Several DKIM signatures: one that passes is enough.
        if verdicts.get(method.lower()) != "pass":
            verdicts[method.lower()] = verdict.lower()
    return verdicts


def _as_it_came(item: RawItem) -> Envelope:
    return Envelope(
        kind=Kind.MESSAGE,
        dedupe_key=item.dedupe_key,
        conversation_key=f"<{item.dedupe_key.replace(':', '.')}@no-id.invalid>",
        sender=Sender(),
        occurred_at=item.received_at,
        text=clean_text(guess_text(item.body[:100_000])),
        auto=Auto.BULK,  # nothing is known of its writer, so nothing may answer it
    )
