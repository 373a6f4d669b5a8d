"""Chat sessions: opening one, finding it again, and which sites may use an inbox."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from sqlalchemy import select, update

from api.auth.origin import client_address, network_of, own_origin
from api.auth.sessions import fingerprint
from api.keys import INBOXES
from api.layer.routes import Call
from crm_core.clock import DAY, MINUTE
from crm_core.db.engine import Database
from crm_core.db.uow import Row
from crm_core.errors import Forbidden, RateLimited, Unauthorized
from crm_core.schema import chat_session, conversation
from crm_core.services import Services

SESSION_MS = 30 * DAY
SEEN_EVERY_MS = 5 * MINUTE
#: (per minute, burst)
PER_VISITOR = (20, 10)
SESSIONS_PER_NETWORK = (30, 30)
MESSAGES_PER_NETWORK = (300, 150)
UPLOADS_PER_VISITOR = (2, 20)


@dataclass(frozen=True, slots=True)
class ChatSession:
    """A visitor at an inbox, proven by his session token."""

    token_hash: str
    inbox: Mapping[str, Any]
    visitor_id: str
    locale: str | None
    facts: Mapping[str, Any]

    @property
    def external_id(self) -> str | None:
        return self.facts.get("external_id")

    @property
    def owner(self) -> str:
        """Of uploads."""
        return f"visitor:{self.inbox['id']}:{self.visitor_id}"[:80]


async def session_of_token(call: Call, token: str) -> ChatSession:
    """Raises Unauthorized with code session_ended; Forbidden for another site's page."""
    stored = fingerprint(token)
    now = call.now
    async with call.db.reading() as conn:
        row = (
            (
                await conn.execute(
                    select(chat_session).where(
                        chat_session.c.token_hash == stored, chat_session.c.expires_at > now
                    )
                )
            )
            .mappings()
            .first()
        )
    account = await call.request.app[INBOXES].by_id(row["inbox_id"]) if row is not None else None
    if row is None or account is None or not account["enabled"]:
        raise Unauthorized("this chat session has ended, open a new one", code="session_ended")
    check_site(call.request, call.services, account)
    if row["last_seen_at"] < now - SEEN_EVERY_MS:
        async with call.db.transaction() as uow:
            await uow.execute(
                update(chat_session)
                .where(chat_session.c.token_hash == stored)
                .values(last_seen_at=uow.now, expires_at=uow.now + SESSION_MS)
            )
    return ChatSession(stored, account, row["visitor_id"], row["locale"], row["facts"])


async def require_session(call: Call) -> ChatSession:
    """The session of `Authorization: Bearer`. Raises Unauthorized, Forbidden."""
    scheme, _, token = call.request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthorized("send the session as: Authorization: Bearer <session>")
    return await session_of_token(call, token.strip())


def allowed_origins(account: Mapping[str, Any]) -> list[str]:
    """The sites that may embed this chat; ["*"] is any."""
    listed = account["config"].get("origins") or ["*"]
    if isinstance(listed, str):
        listed = listed.split(",")
    return [str(origin).strip().rstrip("/") for origin in listed if str(origin).strip()]


def check_site(request: web.Request, services: Services, account: Mapping[str, Any]) -> None:
    """The page that calls must be of an allowed site or our own (the widget's frame). Raises Forbidden."""
    origin = request.headers.get("Origin")
    if origin is None or own_origin(request, services.settings, origin):
        return
    allowed = allowed_origins(account)
    if "*" not in allowed and origin not in allowed:
        raise Forbidden("this site may not use this chat", code="bad_origin")


async def find_thread(db: Database, session: ChatSession) -> Row | None:
    """The visitor's conversation, if he has said anything yet."""
    async with db.reading() as conn:
        row = (
            (
                await conn.execute(
                    select(conversation).where(
                        conversation.c.inbox_id == session.inbox["id"],
                        conversation.c.key == session.visitor_id,
                    )
                )
            )
            .mappings()
            .first()
        )
    return dict(row) if row is not None else None


async def limit(call: Call, what: str, who: str, rate: tuple[int, int]) -> None:
    """Take from a bucket. Raises RateLimited."""
    per_minute, burst = rate
    wait = await call.services.limiter.take(
        f"chat:{what}:{who}", per_s=per_minute / 60, burst=burst, now=call.now
    )
    if wait > 0:
        raise RateLimited("slow down a little", retry_after_s=wait)


async def limit_network(call: Call, what: str, rate: tuple[int, int]) -> None:
    # In the demo all customers sit on one machine.
    if not call.services.settings.demo:
        await limit(call, what, network_of(client_address(call.request, call.services.settings)), rate)
