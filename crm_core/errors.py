"""What can go wrong, as a closed set of kinds that every edge can translate.

The HTTP edge turns these into RFC 9457 problem documents; sockets and the command line into their own forms.
"""

from collections.abc import Mapping
from typing import Any


class SwitchboardError(Exception):
    """Root of the errors that are answers to a caller, not defects.

    `code` is stable and machine readable; `params` are named facts for the message; `detail` is English text.
    """

    code = "error"
    http_status = 500

    def __init__(
        self, detail: str = "", *, code: str | None = None, params: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(detail or self.code)
        self.detail = detail
        if code is not None:
            self.code = code
        self.params: dict[str, Any] = dict(params or {})


class BadRequest(SwitchboardError):
    """The request is not readable at all: not JSON, not the announced encoding."""

    code = "bad_request"
    http_status = 400


class Unauthorized(SwitchboardError):
    code = "unauthorized"
    http_status = 401


class Forbidden(SwitchboardError):
    code = "forbidden"
    http_status = 403


class NotFound(SwitchboardError):
    code = "not_found"
    http_status = 404


class Conflict(SwitchboardError):
    """The state changed under the caller, or the wish contradicts it."""

    code = "conflict"
    http_status = 409


class Gone(SwitchboardError):
    """It existed and is over: an expired offer, a session that was closed."""

    code = "gone"
    http_status = 410


class TooLarge(SwitchboardError):
    code = "too_large"
    http_status = 413


class Invalid(SwitchboardError):
    """A readable payload with wrong content. `params["errors"]` lists `{"loc": [...], "msg": ...}`."""

    code = "invalid"
    http_status = 422


class RateLimited(SwitchboardError):
    code = "rate_limited"
    http_status = 429

    def __init__(self, detail: str = "", *, retry_after_s: float) -> None:
        super().__init__(detail, params={"retry_after_s": retry_after_s})
        self.retry_after_s = retry_after_s


class Unavailable(SwitchboardError):
    """A part we need does not answer now; the same request may succeed later."""

    code = "unavailable"
    http_status = 503
