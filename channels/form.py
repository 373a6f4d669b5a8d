"""Web forms: a customer's own page posts JSON or an ordinary HTML form, and a ticket, lead or callback comes
of it.

Owns reading the fields, telling what is wrong with them, and the answer the page sees. The form is public:
what it says about phone and email is a claim, never a proof. Cross-origin rules and rate limits are the HTTP
edge's.
"""

import html
import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from typing_extensions import override

from channels import wire
from channels.contract import (
    CallDecision,
    Channel,
    ChannelSpec,
    HttpAnswer,
    InboxConfig,
    Malformed,
    RawItem,
    RawRequest,
)
from crm_core.clock import MINUTE
from crm_core.envelope import Auto, Envelope, IdentityClaim, IdentityKind, Kind, Sender
from crm_core.phone import normalize

MAX_REQUEST_BYTES = 64 * 1024
MAX_FIELDS = 100
#: Longest accepted values, characters. Longer ones are refused by name, not cut: a cut story misleads.
_LIMITS = {"message": 20_000, "subject": 300, "name": 200, "phone": 100, "email": 254, "timezone": 64}
_OTHER_LIMIT = 4_000
_NAME_LIMIT = 100
#: Filled by robots only: pages hide the field from people.
HONEYPOT = "website"
#: Without an idempotency key, the same content within this time is the same submission (double click,
#: reload).
DEDUPE_BUCKET_MS = 10 * MINUTE
#: How people name our fields.
_ALIASES = {"text": "message", "comment": "message", "tel": "phone", "mail": "email", "tz": "timezone"}
_READ = frozenset({"name", "phone", "email", "message", "subject", "kind", "submission_id", HONEYPOT})
_EMAIL = re.compile(r"[^\s@<>\"',;]{1,64}@[^\s@<>\"',;]{1,190}")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})")
_WINDOW = re.compile(r"\s*(\d{1,2}:\d{2})\s*[-–—]\s*(\d{1,2}:\d{2})\s*")
_KINDS = frozenset({"ticket", "lead"})
_CHARSET = re.compile(r';\s*charset="?([A-Za-z0-9_:.-]{1,40})', re.IGNORECASE)
_BOUNDARY = re.compile(r';\s*boundary="?([^";,\s]{1,200})', re.IGNORECASE)
_PART_NAME = re.compile(
    rb'^content-disposition:[^\r\n]*[;\s]name="([^"\r\n]*)"', re.IGNORECASE | re.MULTILINE
)
_PART_FILE = re.compile(
    rb'^content-disposition:[^\r\n]*[;\s]filename="([^"\r\n]*)"', re.IGNORECASE | re.MULTILINE
)


class FormChannel(Channel):
    spec: ClassVar[ChannelSpec] = ChannelSpec(
        key="form",
        title="Web form",
        config_keys={
            "default_kind?": "what a submission becomes: ticket or lead; the inbox's own rule if empty",
            "allow_kind?": "true: the form's field `kind` may choose ticket or lead",
            "require_signature?": "true: only signed posts (X-Signature), for forms sent by a server",
            "redirect_url?": "where a browser goes after an ordinary HTML form",
            "thanks_text?": "what the answer page of an ordinary HTML form says",
        },
        max_request_bytes=MAX_REQUEST_BYTES,
        replies=False,
        offer_channel="async",
    )

    @override
    def verify(self, request: RawRequest, inbox: InboxConfig) -> HttpAnswer | None:
        if wire.flag(inbox.config.get("require_signature")):
            wire.check_signed(request, inbox.secret)
        return None

    @override
    def split(self, request: RawRequest, inbox: InboxConfig) -> list[RawItem]:
        fields = _fields(request)
        phone, email = _phone(fields, inbox), _email(fields)
        body = wire.dump(fields)
        given = request.headers.get("idempotency-key") or fields.get("submission_id")
        key = wire.text(given, 200)
        if key is None:
            key = wire.digest(body, str(request.received_at // DEDUPE_BUCKET_MS))
        return [
            RawItem(
                dedupe_key=f"form:{key}",
                lane=_conversation(phone, email, key),
                body=body,
                meta={name: value for name, value in _surroundings(request).items() if value},
                received_at=request.received_at,
            )
        ]

    @override
    def acknowledge(
        self, request: RawRequest, inbox: InboxConfig, decision: CallDecision | None
    ) -> HttpAnswer:
        try:
            reference = _reference(self.split(request, inbox)[0].dedupe_key)
        except Malformed:
            return HttpAnswer()
        if "json" in request.content_type:
            body = json.dumps({"ok": True, "reference": reference})
            return HttpAnswer(body=body, content_type="application/json")
        return HttpAnswer(body=_page(inbox, reference), content_type="text/html; charset=utf-8")

    @override
    def refuse(self, inbox: InboxConfig, status: int, reason: str) -> HttpAnswer:
        body = json.dumps({"ok": False, "error": reason}, ensure_ascii=False)
        return HttpAnswer(status=status, body=body, content_type="application/json")

    @override
    def parse(self, item: RawItem, inbox: InboxConfig) -> list[Envelope]:
        fields = {str(name): value for name, value in wire.json_object(item.body).items()}
        phone, email = _phone(fields, inbox), _email(fields)
        raw_phone, raw_email = wire.text(fields.get("phone"), 100), wire.text(fields.get("email"), 254)
        warnings = []
        claims = []
        if phone is not None:
            claims.append(IdentityClaim(IdentityKind.PHONE, phone, verified=False, evidence="form"))
        elif raw_phone is not None:
            warnings.append("the phone is not readable as a number")
        if email is not None:
            claims.append(IdentityClaim(IdentityKind.EMAIL, email, verified=False, evidence="form"))
        elif raw_email is not None:
            warnings.append("the email is not an address")
        kept = {name: value for name, value in fields.items() if name not in _READ}
        # What could not be read is kept where an agent sees it.
        if phone is None and raw_phone is not None:
            kept["phone"] = raw_phone
        if email is None and raw_email is not None:
            kept["email"] = raw_email
        for name in ("referrer", "page"):
            if item.meta.get(name):
                kept.setdefault(name, item.meta[name])
        data: dict[str, Any] = {"reference": _reference(item.dedupe_key)}
        callback = _callback(fields, phone, item.received_at)
        if callback is not None:
            data["callback"] = callback
        bot = bool(wire.text(fields.get(HONEYPOT)))
        if bot:
            warnings.append("the hidden field was filled: a robot")
            data["quarantine"] = "honeypot"
        return [
            Envelope(
                kind=Kind.MESSAGE,
                dedupe_key=item.dedupe_key,
                conversation_key=item.lane,
                sender=Sender(
                    identities=tuple(claims),
                    display_name=wire.text(fields.get("name"), 200),
                    locale=wire.text(fields.get("locale"), 20),
                ),
                occurred_at=item.received_at,
                provider_message_id=item.dedupe_key,
                recipient=wire.text(kept.get("page"), 500),
                subject=wire.text(fields.get("subject"), 300),
                text=wire.paragraph(fields.get("message"), _LIMITS["message"]),
                auto=Auto.BULK if bot else Auto.HUMAN,
                wants_kind=_kind(fields, inbox),
                fields=kept,
                data=data,
                auth={"signature": "ok" if wire.flag(inbox.config.get("require_signature")) else "none"},
                parse_warnings=tuple(warnings),
            )
        ]


def _fields(request: RawRequest) -> dict[str, Any]:
    """The form's fields, clean and within limits. Raises Malformed naming what is wrong."""
    if request.method != "POST":
        raise Malformed(f"send the form by POST, not {request.method}")
    if len(request.body) > MAX_REQUEST_BYTES:
        raise Malformed(f"the form is larger than {MAX_REQUEST_BYTES // 1024} kB")
    kind = request.content_type.partition(";")[0].strip().lower()
    pairs: Iterable[tuple[str, Any]]
    if kind == "application/json" or (not kind and request.body.lstrip().startswith(b"{")):
        whole = wire.json_object(request.body)
        nested = whole.pop("fields", None)
        pairs = [*(nested.items() if isinstance(nested, dict) else ()), *whole.items()]
    elif kind in {"application/x-www-form-urlencoded", ""}:
        charset = _CHARSET.search(request.content_type)
        encoding = charset[1] if charset else "cp1251"
        pairs = [
            (_letters(name, encoding), _letters(value, encoding))
            for name, value in wire.form_pairs(request.body)
        ]
    elif kind == "multipart/form-data":
        pairs = _parts(request)
    else:
        raise Malformed(
            "send application/json, application/x-www-form-urlencoded or multipart/form-data, "
            f"not {kind[:100]}"
        )
    fields: dict[str, Any] = {}
    for written, value in pairs:
        name = wire.text(written, _NAME_LIMIT + 1) or ""
        name = _ALIASES.get(name, name)
        clean = _value(name, value)
        if not name or clean is None:
            continue
        if len(name) > _NAME_LIMIT:
            raise Malformed(f"the field name {name[:40]!r}… is longer than {_NAME_LIMIT} characters")
        if name in fields and not _ALIASES.get(str(written)) and "json" not in kind:
            clean = f"{fields[name]}, {clean}"  # several ticked boxes of one name
        fields[name] = clean
        if len(fields) > MAX_FIELDS:
            raise Malformed(f"more than {MAX_FIELDS} fields")
    if not any(wire.text(fields.get(name), 10) for name in ("phone", "email", "message")):
        raise Malformed("at least one of the fields phone, email, message must be filled")
    return fields


def _letters(text: str, encoding: str) -> str:
    """Old pages post in their own encoding: what is no UTF-8 is read by it, or by the one most of them have."""
    raw = text.encode("utf-8", "surrogateescape")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        pass
    try:
        return raw.decode(encoding, "replace")
    except LookupError:
        return raw.decode("cp1251", "replace")


def _parts(request: RawRequest) -> list[tuple[str, str]]:
    """Pairs of a multipart form, which a page's script sends unless told otherwise. Files are not taken: their
    names are. Raises Malformed.
    """
    found = _BOUNDARY.search(request.content_type)
    if found is None:
        raise Malformed("the multipart form has no boundary")
    border = b"\r\n--" + found[1].encode("utf-8", "replace")
    chunks = (b"\r\n" + request.body).split(border)
    if len(chunks) < 2 or not chunks[-1].startswith(b"--"):
        raise Malformed("the multipart form is cut off")
    pairs = []
    for chunk in chunks[1:-1]:
        head, _, content = chunk.partition(b"\r\n\r\n")
        name, file = _PART_NAME.search(head), _PART_FILE.search(head)
        if name is not None:
            pairs.append(
                (
                    name[1].decode("utf-8", "replace"),
                    (file[1] if file else content).decode("utf-8", "replace"),
                )
            )
    return pairs


def _value(name: str, value: Any) -> str | bool | None:
    """A field's value: text, yes/no, or lists and objects written out; None if there is nothing."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, list) and all(isinstance(each, str | int | float) for each in value):
        value = ", ".join(wire.paragraph(each, _OTHER_LIMIT) for each in value)
    elif isinstance(value, dict | list):
        value = wire.dump(value).decode()
    limit = _LIMITS.get(name, _OTHER_LIMIT)
    clean = wire.paragraph(value, limit + 1)
    if len(clean) > limit:
        raise Malformed(f"the field {name[:_NAME_LIMIT]!r} is longer than {limit} characters")
    return clean or None


def _surroundings(request: RawRequest) -> dict[str, str]:
    """What the request itself tells: the page it came from, and from where."""
    return {
        "page": wire.text(request.headers.get("referer"), 1000) or "",
        "remote": wire.text(request.remote, 64) or "",
    }


def _phone(fields: dict[str, Any], inbox: InboxConfig) -> str | None:
    written = wire.text(fields.get("phone"), 100)
    found = normalize(written, inbox.region) if written is not None else None
    return found.e164 if found is not None else None


def _email(fields: dict[str, Any]) -> str | None:
    written = (wire.text(fields.get("email"), 254) or "").removeprefix("mailto:")
    return written.lower() if _EMAIL.fullmatch(written) and "." in written.rpartition("@")[2] else None


def _conversation(phone: str | None, email: str | None, key: str) -> str:
    return f"email:{email}" if email is not None else f"phone:{phone}" if phone is not None else f"form:{key}"


def _reference(dedupe_key: str) -> str:
    """A short word that the customer sees and an agent can find."""
    return wire.digest("form reference", dedupe_key)[:10].upper()


def _kind(fields: dict[str, Any], inbox: InboxConfig) -> str | None:
    asked = wire.text(fields.get("kind"), 20)
    if wire.flag(inbox.config.get("allow_kind")) and asked in _KINDS:
        return asked
    default = wire.text(inbox.config.get("default_kind"), 20)
    return default if default in _KINDS else None


def _callback(fields: dict[str, Any], phone: str | None, now: int) -> dict[str, Any] | None:
    """What the form asks about being called: `{requested, at, until, local, local_until, timezone, number}`.

    `at` and `until` are ms UTC, or None where the wish is empty ("as soon as you can"), unreadable, or a
    clock time whose zone the form did not give: then `local` ("14:00" or ISO without offset) waits for the
    number's zone.
    """
    written = wire.text(fields.get("callback_at"), 64)
    window = wire.text(fields.get("callback_window"), 64)
    start, until = wire.text(fields.get("callback_from"), 64), wire.text(fields.get("callback_to"), 64)
    if not (written or window or start or until or wire.flag(fields.get("callback"))):
        return None
    ranged = _WINDOW.fullmatch(window or "")
    if ranged is not None:
        start, until = ranged.groups()
    start = written or start
    zone = _zone(wire.text(fields.get("timezone"), 64))
    at = _moment(start, zone, now)
    end = _moment(until, zone, at if at is not None else now)
    return {
        "requested": written or window or " – ".join(part for part in (start, until) if part),
        "at": at,
        "until": end,
        "local": start if at is None and _is_time(start) else None,
        "local_until": until if end is None and _is_time(until) else None,
        "timezone": zone.key if zone is not None else None,
        "number": phone,
    }


def _zone(name: str | None) -> ZoneInfo | None:
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown keys, `../` and directories
        return None


def _is_time(value: str | None) -> bool:
    return value is not None and (_clock(value) is not None or _iso(value) is not None)


def _clock(value: str) -> tuple[int, int] | None:
    match = _CLOCK.fullmatch(value)
    if match is None:
        return None
    hour, minute = int(match[1]), int(match[2])
    return (hour, minute) if hour < 24 and minute < 60 else None


def _iso(value: str) -> datetime | None:
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None


def _moment(value: str | None, zone: ZoneInfo | None, now: int) -> int | None:
    """The instant of an ISO time or of the next such clock time after `now`; None if it takes a zone we
    lack.
    """
    if value is None:
        return None
    try:
        clock = _clock(value)
        if clock is None:
            moment = _iso(value)
            if moment is None:
                return None
            if moment.tzinfo is None:
                if zone is None:
                    return None
                moment = moment.replace(tzinfo=zone)
            return wire.instant(moment.isoformat())
        if zone is None:
            return None
        here = datetime.fromtimestamp(now / 1000, UTC).astimezone(zone)
        moment = here.replace(hour=clock[0], minute=clock[1], second=0, microsecond=0, fold=0)
        if moment.timestamp() * 1000 <= now:
            moment = (moment + timedelta(days=1)).replace(hour=clock[0], minute=clock[1])
        return round(moment.timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        return None


def _page(inbox: InboxConfig, reference: str) -> str:
    """The answer to a browser without script. A redirect is a meta refresh: it works from any static
    answer.
    """
    words = html.escape(
        wire.text(inbox.config.get("thanks_text"), 500) or "Thank you, your message has arrived."
    )
    target = wire.text(inbox.config.get("redirect_url"), 1000)
    onward = link = ""
    if target is not None and target.startswith(("https://", "http://")):
        safe = html.escape(target, quote=True)
        onward = f'<meta http-equiv="refresh" content="0; url={safe}">'
        link = f'<p><a href="{safe}">Continue</a></p>'
    return (
        f'<!doctype html><html lang="{html.escape(inbox.language, quote=True)}">'
        f'<head><meta charset="utf-8">{onward}'
        f"<title>{words}</title></head><body><p>{words}</p><p>{reference}</p>{link}</body></html>"
    )
