"""Read request bodies: bounded, and JSON without the surprises that later break a database or a parser.

Python's JSON takes NaN, numbers that become infinite, NUL characters and lone surrogates; Postgres refuses the
latter two in text, and no integer column holds more than 63 bits. All are refused here, once.
"""

import asyncio
import json
from typing import Any, NoReturn

from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError

from api.layer.fields import MAX_BIG
from crm_core.errors import BadRequest, Invalid, SwitchboardError, TooLarge

MAX_JSON = 1024 * 1024
MAX_DEPTH = 48
#: a body that takes longer is nobody's honest upload: it holds a socket and memory
READ_S = 120.0


class UnsupportedMediaType(SwitchboardError):
    code = "unsupported_media_type"
    http_status = 415


async def read_body(request: web.Request, *, limit: int) -> bytes:
    """The whole body (after transfer and content decoding), at most `limit` bytes.

    Raises BodyTooLarge, BodyBroken (the encoding is not what was announced) and BodyTooSlow, each with what was read
    so far in `head` (at most 64 kB) and in `size` how large it is at least, which is more than the head; and BodyCut.
    """
    parts: list[bytes] = []
    size = 0
    announced = request.content_length
    try:
        async with asyncio.timeout(READ_S):
            while chunk := await request.content.readany():
                parts.append(chunk)
                size += len(chunk)
                # A body announced as too large is cut at once, but its first part is kept for quarantine.
                if size > limit or (announced is not None and announced > limit):
                    raise BodyTooLarge(limit, _head(parts), max(size, announced or 0))
    except (ContentEncodingError, web.RequestPayloadError) as error:
        raise BodyBroken(_head(parts), size + 1) from error
    except ConnectionError as error:
        raise BodyCut from error
    except TimeoutError as error:
        raise BodyTooSlow(_head(parts), max(size + 1, announced or 0)) from error
    return b"".join(parts)


def _head(parts: list[bytes]) -> bytes:
    return b"".join(parts)[:65536]


class BodyBroken(BadRequest):
    def __init__(self, head: bytes, size: int) -> None:
        super().__init__("the body is not in the announced encoding")
        self.head = head
        self.size = size


class BodyCut(BadRequest):
    """The caller went away in the middle: nothing was acknowledged, so whoever means it sends it again."""

    def __init__(self) -> None:
        super().__init__("the connection ended before the body did")


class BodyTooSlow(SwitchboardError):
    code = "body_timeout"
    http_status = 408

    def __init__(self, head: bytes, size: int) -> None:
        super().__init__(f"the body did not arrive within {READ_S:g} seconds")
        self.head = head
        self.size = size


class BodyTooLarge(TooLarge):
    def __init__(self, limit: int, head: bytes, size: int) -> None:
        super().__init__(f"the body is larger than {limit} bytes", params={"limit": limit})
        self.head = head
        self.size = size


async def read_json(request: web.Request, *, limit: int = MAX_JSON) -> Any:
    """The body as JSON. Raises UnsupportedMediaType, TooLarge, BadRequest, Invalid."""
    if request.content_type != "application/json" and not request.content_type.endswith("+json"):
        raise UnsupportedMediaType(f"expected application/json, not {request.content_type}")
    return parse_json(await read_body(request, limit=limit))


def parse_json(body: bytes | str) -> Any:
    """Strict JSON. Raises BadRequest (not JSON at all) or Invalid (JSON that we cannot hold)."""
    try:
        text = body.decode("utf-8") if isinstance(body, bytes) else body
    except UnicodeDecodeError as error:
        raise BadRequest("the body is not UTF-8") from error
    try:
        value = json.loads(text, parse_constant=_no_constant, parse_int=_int, parse_float=_float)
    except RecursionError as error:
        raise Invalid("the JSON is nested too deeply", code="too_deep") from error
    except ValueError as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    check_value(value)
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _int(digits: str) -> int:
    if len(digits) > 20 or not -MAX_BIG <= (number := int(digits)) <= MAX_BIG:
        raise Invalid("an integer does not fit into 63 bits", code="number_too_large")
    return number


def _float(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise Invalid("a number is too large", code="number_too_large")
    return number


def check_value(value: Any) -> None:
    """Refuse NUL characters, lone surrogates and deep nesting anywhere in a decoded value. Raises Invalid."""
    level = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                check_text(item)
            elif isinstance(item, dict):
                for key, inner in item.items():
                    check_text(key)
                    below.append(inner)
            elif isinstance(item, list):
                below.extend(item)
        if not below:
            return
        level = below
    raise Invalid("the JSON is nested too deeply", code="too_deep")


def check_text(text: str) -> None:
    """Raises Invalid if the text cannot be stored."""
    if "\x00" in text:
        raise Invalid("NUL characters are not allowed in text", code="nul_character")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise Invalid("the text holds half a surrogate pair", code="bad_text") from error
