"""The check before every endpoint: who calls, may he, and does the request really come from our own pages."""

from dataclasses import replace

from aiohttp import web

from api.auth.origin import own_origin
from api.auth.sessions import cookie_name, find_by_session, find_by_token, fingerprint
from api.layer.routes import Call, Endpoint
from crm_core.access import Actor
from crm_core.db.engine import Database
from crm_core.errors import Forbidden, Unauthorized
from crm_core.languages import wished
from crm_core.services import AppSettings

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
MAX_TOKEN = 200


async def guard(call: Call, endpoint: Endpoint) -> None:
    """Fill in the caller. Raises Unauthorized and Forbidden."""
    if endpoint.role is None:
        return
    await identify(call)
    language = wished(call.request.headers.get("Accept-Language"))
    if language is not None:
        # The screen's words and ours are one: an agent may read it in another language than his profile's.
        call.caller = replace(call.actor, language=language)
    if call.by == "cookie" and endpoint.method not in _SAFE:
        check_same_site(call.request, call.services.settings)
    call.actor.need(endpoint.role)


async def identify(call: Call) -> None:
    """Find the caller by header or cookie. Raises Unauthorized."""
    header = call.request.headers.get("Authorization")
    if header is not None:
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthorized("the Authorization header must be: Bearer <token>")
        call.caller, call.credential = await actor_of_token(call.db, token.strip())
        call.by = "token"
        return
    token = call.request.cookies.get(cookie_name(call.services.settings), "")
    if not token:
        raise Unauthorized("log in first")
    call.credential = fingerprint(token)
    call.caller = await find_by_session(call.db, call.credential) if len(token) <= MAX_TOKEN else None
    if call.caller is None:
        raise Unauthorized("the session has ended, log in again", code="session_ended")
    call.by = "cookie"


async def actor_of_token(db: Database, token: str) -> tuple[Actor, str]:
    """Raises Unauthorized."""
    stored = fingerprint(token)
    actor = await find_by_token(db, stored) if 0 < len(token) <= MAX_TOKEN else None
    if actor is None:
        raise Unauthorized("the token is not valid", code="bad_token")
    return actor, stored


def check_same_site(request: web.Request, settings: AppSettings) -> None:
    """A form or script of another site cannot set our header without asking first, and cannot forge its Origin.

    Raises Forbidden.
    """
    if request.headers.get("X-Requested-With", "").lower() != "switchboard":
        raise Forbidden("send the header X-Requested-With: switchboard", code="csrf")
    check_origin(request, settings)


def check_origin(request: web.Request, settings: AppSettings) -> None:
    """Every browser names the origin of an unsafe request or a WebSocket; programs that send none have no cookie to
    steal. Raises Forbidden.
    """
    origin = request.headers.get("Origin")
    if origin is not None and not own_origin(request, settings, origin):
        raise Forbidden("this Origin is not ours", code="bad_origin")
    if origin is None and request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise Forbidden("this request comes from another site", code="bad_origin")
