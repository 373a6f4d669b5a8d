"""Every error as `application/problem+json` (RFC 9457), and nothing of our insides in it."""

import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from math import ceil
from typing import Any

import structlog
from aiohttp import web
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from crm_core.errors import Invalid, RateLimited, SwitchboardError

log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: SQLite's ways to say "not now" or "the disk": everything else from it is a defect of ours
_SQLITE_DOWN = {
    "SQLITE_BUSY",
    "SQLITE_LOCKED",
    "SQLITE_IOERR",
    "SQLITE_FULL",
    "SQLITE_CANTOPEN",
    "SQLITE_READONLY",
    "SQLITE_NOTADB",
    "SQLITE_CORRUPT",
}
_CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
    503: "unavailable",
}


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    params: Mapping[str, Any] | None = None,
    errors: list[dict[str, Any]] | None = None,
    headers: Mapping[str, str] | None = None,
    log_id: str | None = None,
) -> web.Response:
    """A problem document as a response."""
    data: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
    }
    if params:
        data["params"] = dict(params)
    if errors is not None:
        data["errors"] = errors
    if log_id is not None:
        data["log_id"] = log_id
    return web.Response(
        status=status,
        body=json.dumps(data, ensure_ascii=True).encode(),
        content_type="application/problem+json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def problem_of(error: SwitchboardError) -> web.Response:
    """The document of an error that is an answer."""
    params = dict(error.params)
    errors = params.pop("errors", None)
    headers: dict[str, str] = {}
    if isinstance(error, RateLimited):
        headers["Retry-After"] = str(max(1, ceil(error.retry_after_s)))
    elif error.http_status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = "2"
    elif error.http_status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="switchboard"'
    return problem(
        error.http_status,
        error.code,
        error.detail or error.code.replace("_", " "),
        params=params,
        errors=errors,
        headers=headers,
    )


def invalid_of(error: ValidationError, where: str) -> Invalid:
    """Pydantic's complaint as ours. The input itself is left out: it may hold a password."""
    errors = [
        {"loc": [where, *map(_plain, item["loc"])], "msg": item["msg"]}
        for item in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    return Invalid(f"the {where} is not valid", params={"errors": errors})


def _plain(part: int | str) -> int | str:
    return part if isinstance(part, int) else part[:100].encode("utf-8", "replace").decode()


def database_is_down(error: BaseException) -> bool:
    """Whether the database, and not the request or our statement, is what failed."""
    if isinstance(error, PoolTimeoutError | ConnectionError):
        return True
    if isinstance(error, DBAPIError):
        name = getattr(error.orig, "sqlite_errorname", None) or getattr(
            getattr(error.orig, "__cause__", None), "sqlite_errorname", None
        )
        if name is not None:
            return any(str(name).startswith(down) for down in _SQLITE_DOWN)
        return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)
    # Errors while connecting are not wrapped: asyncpg's own classes, told by name to spare the import.
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool(
        kinds
        & {
            "CannotConnectNowError",
            "TooManyConnectionsError",
            "ConnectionDoesNotExistError",
            "InvalidCatalogNameError",
            "AdminShutdownError",
        }
    )


def answer_to(error: Exception, *, where: str) -> web.Response:
    """The problem document for anything that may come out of a handler. Logs what is not the caller's doing."""
    if isinstance(error, SwitchboardError):
        return problem_of(error)
    if isinstance(error, web.HTTPException):
        return _of_http(error)
    if database_is_down(error):
        log.warning("database_unavailable", where=where, error=type(error).__name__)
        return problem(
            503, "unavailable", "the database does not answer now, try again", headers={"Retry-After": "2"}
        )
    log_id = secrets.token_hex(8)
    log.error("request_failed", where=where, log_id=log_id, exc_info=error)
    return problem(
        500, "internal", "something broke on our side; give this log id to the operator", log_id=log_id
    )


def _of_http(error: web.HTTPException) -> web.Response:
    kept = {name: error.headers[name] for name in ("Allow", "Retry-After") if name in error.headers}
    if isinstance(error, web.HTTPMethodNotAllowed):
        detail = f"{error.method} is not possible here, only {', '.join(sorted(error.allowed_methods))}"
    else:
        detail = {404: "there is nothing at this address"}.get(error.status, error.reason)
    return problem(error.status, _CODES.get(error.status, "http_error"), detail, headers=kept)


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The outermost middleware: no error leaves in another form."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < HTTPStatus.BAD_REQUEST:
            raise
        return answer_to(error, where=request.path)
    except Exception as error:
        return answer_to(error, where=request.path)
