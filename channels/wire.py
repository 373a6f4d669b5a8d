"""Reading what strangers send: JSON, forms, text, times and ids, by functions that cannot blow up.

Owns nothing of any channel. Each function takes untrusted data and returns a clean value or None; only
`json_object` and `form_pairs` raise, and only `Malformed`.
"""

import base64
import hashlib
import hmac
import json
import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl

from channels.contract import Malformed, RawRequest, SignatureRefused

#: A field more often than this in one form is an attack, not a form.
MAX_FORM_FIELDS = 500
#: Instants outside 2000-01-01 … 2100-01-01 are a provider's mistake (zero, microseconds), not a time.
_OLDEST_MS = 946_684_800_000
_NEWEST_MS = 4_102_444_800_000
#: The replay window of signatures that carry a time: providers' clocks are trusted this far.
REPLAY_WINDOW_MS = 5 * 60_000
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_UNSAFE_LINE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]+")


def json_value(body: bytes) -> Any:
    """The JSON in `body`. Raises Malformed with the position of the first error."""
    try:
        return json.loads(body.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise Malformed(f"the body is not UTF-8: byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise Malformed(f"the body is not JSON: {error.msg} at character {error.pos}") from error
    except (ValueError, RecursionError) as error:  # a number of 5000 digits, a thousand nested lists
        raise Malformed(f"the body is not usable JSON: {type(error).__name__}") from error


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`. Raises Malformed."""
    value = json_value(body)
    if not isinstance(value, dict):
        raise Malformed(f"the body must be a JSON object, not {type(value).__name__}")
    return value


def form_pairs(body: bytes) -> list[tuple[str, str]]:
    """Pairs of a urlencoded form, blanks kept. Bytes that are not UTF-8 survive as surrogates, so that a
    signature over them can be computed. Raises Malformed.
    """
    try:
        return parse_qsl(
            body.decode("utf-8", "surrogateescape"),
            keep_blank_values=True,
            errors="surrogateescape",
            max_num_fields=MAX_FORM_FIELDS,
        )
    except ValueError as error:
        raise Malformed(f"the form is not readable: {error}") from error


def dump(value: Any) -> bytes:
    """JSON in one fixed form, pure ASCII, so that equal values give equal bytes and nothing fails to
    encode.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def digest(*parts: bytes | str) -> str:
    """32 hex characters that stand for these parts; the parts' borders count."""
    summary = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        summary.update(len(raw).to_bytes(8, "big"))
        summary.update(raw)
    return summary.hexdigest()[:32]


def text(value: Any, limit: int = 255) -> str | None:
    """One line of clean text, or None if there is nothing: numbers are written out, anything else is
    nothing.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        line = str(value)
    except ValueError:  # an int of more than 4300 digits
        return None
    line = _UNSAFE_LINE.sub(" ", line[: limit * 4]).strip()[:limit].strip()
    return line or None


def paragraph(value: Any, limit: int) -> str:
    """Text of several lines without control characters and halves of characters."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    try:
        whole = str(value)
    except ValueError:
        return ""
    return _CONTROLS.sub("", whole.replace("\r\n", "\n").replace("\r", "\n")).strip()[:limit]


def integer(value: Any, *, low: int = 0, high: int = 2**31 - 1) -> int | None:
    """A whole number within bounds from a number or its text; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        value = value.strip()
        if len(value) > 20:
            return None
    try:
        number = int(value) if isinstance(value, str | int) else int(value) if _finite(value) else None
    except ValueError:
        return None
    return number if number is not None and low <= number <= high else None


def flag(value: Any) -> bool:
    """Whether `value` says yes, in the ways people and forms say it."""
    if isinstance(value, str):
        return value.strip().casefold() in {"1", "true", "yes", "on", "y", "так", "да"}
    return value is True or (isinstance(value, int) and value == 1)


def instant(value: Any, *, offset_ms: int = 0) -> int | None:
    """Milliseconds UTC of a time as providers write it: Unix seconds or milliseconds (number or text, with
    fraction), ISO 8601 (no zone means UTC), RFC 2822. `offset_ms` is taken off times that are numbers: for
    providers whose Unix time counts local time. None if it is no time between 2000 and 2100.
    """
    if isinstance(value, str):
        value = value.strip()
        if not value or len(value) > 64:
            return None
        try:
            return _plausible(_of_number(float(value)) - offset_ms)
        except (ValueError, OverflowError):
            return _plausible(_of_text(value))
    if isinstance(value, int | float) and not isinstance(value, bool) and _finite(value):
        return _plausible(_of_number(float(value)) - offset_ms)
    return None


def tail(url: str, inbox_key: str) -> str:
    """What follows `/hooks/{inbox_key}` in the path of a hook's URL: `events/call`, or an empty string."""
    path = url.partition("?")[0].partition("#")[0]
    _, found, rest = path.partition(f"/hooks/{inbox_key}")
    return rest.strip("/")[:100] if found else ""


def hook_base(url: str, inbox_key: str) -> str:
    """The URL of the inbox's hook without tail and query, as the provider sees it."""
    path = url.partition("?")[0].partition("#")[0]
    before, found, _ = path.partition(f"/hooks/{inbox_key}")
    return f"{before}/hooks/{inbox_key}" if found else path.rstrip("/")


def check_signed(request: RawRequest, secret: str, *, needs_time: bool = False) -> None:
    """Prove a request signed in our own way. Raises SignatureRefused.

    `X-Signature` is base64url without padding of HMAC-SHA256(secret, body). If `X-Timestamp` (Unix seconds or
    milliseconds) is there, the signature covers `timestamp.body` and the time must be within five minutes.
    """
    if not secret:
        raise SignatureRefused("the inbox has no secret")
    given = request.headers.get("x-signature", "")
    if not given:
        raise SignatureRefused("no X-Signature header")
    stamp = request.headers.get("x-timestamp")
    if stamp is None and needs_time:
        raise SignatureRefused("no X-Timestamp header")
    signed = request.body if stamp is None else stamp.encode("utf-8", "surrogateescape") + b"." + request.body
    mac = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    want = base64.urlsafe_b64encode(mac).rstrip(b"=")
    if not hmac.compare_digest(want, given.rstrip("=").encode("utf-8", "surrogateescape")):
        raise SignatureRefused("X-Signature does not match")
    if stamp is not None:
        at = instant(stamp)
        if at is None or abs(request.received_at - at) > REPLAY_WINDOW_MS:
            raise SignatureRefused("X-Timestamp is outside the window of five minutes")


def _finite(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:
        return False


def _of_number(number: float) -> int:
    # Seconds until the year 5138, milliseconds from 1973 on: the ranges do not meet.
    return round(number if abs(number) >= 1e11 else number * 1000)


def _of_text(value: str) -> int:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except (ValueError, TypeError, IndexError, OverflowError):
            return 0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        return round(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        return 0


def _plausible(ms: int) -> int | None:
    return ms if _OLDEST_MS <= ms < _NEWEST_MS else None
