"""Sessions and API tokens: opaque, 256 bits, stored only as SHA-256."""

import hashlib
import secrets
from collections.abc import Callable
from typing import Any

from aiohttp import web
from sqlalchemy import Select, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.access import Actor
from crm_core.clock import DAY, MINUTE
from crm_core.db.engine import Database
from crm_core.db.uow import UnitOfWork
from crm_core.schema import agent, api_token, login_session, team_member
from crm_core.services import AppSettings

#: a session ends this long after its last use
SESSION_MS = 14 * DAY
#: the end is moved at most this often, so that reading costs no write
SLIDE_MS = DAY
#: how exact `last_used_at` of an API token is
TOKEN_USE_MS = 10 * MINUTE
TOKEN_PREFIX = "sbt_"  # noqa: S105 - how tokens begin


def fingerprint(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def new_token(prefix: str = "") -> tuple[str, str]:
    """A token and what is stored of it."""
    token = prefix + secrets.token_urlsafe(32)
    return token, fingerprint(token)


def cookie_name(settings: AppSettings) -> str:
    # The __Host- prefix makes browsers refuse the cookie from anywhere but this host over https.
    return "__Host-switchboard_session" if settings.cookie_secure else "switchboard_session"


def set_cookie(settings: AppSettings, token: str) -> Callable[[web.StreamResponse], None]:
    def put(response: web.StreamResponse) -> None:
        response.set_cookie(
            cookie_name(settings),
            token,
            max_age=SESSION_MS // 1000,
            path="/",
            httponly=True,
            samesite="Lax",
            secure=settings.cookie_secure,
        )

    return put


def drop_cookie(settings: AppSettings) -> Callable[[web.StreamResponse], None]:
    def put(response: web.StreamResponse) -> None:
        response.del_cookie(
            cookie_name(settings), path="/", httponly=True, samesite="Lax", secure=settings.cookie_secure
        )

    return put


async def open_session(uow: UnitOfWork, agent_id: int, user_agent: str | None) -> str:
    """A new login; returns the token for the cookie. Old sessions of the agent that have ended are cleared."""
    token, stored = new_token()
    await uow.execute(
        delete(login_session).where(
            login_session.c.agent_id == agent_id, login_session.c.expires_at <= uow.now
        )
    )
    clean = (user_agent or "").encode("utf-8", "replace").decode().replace("\x00", "")[:300]
    values = {
        "token_hash": stored,
        "agent_id": agent_id,
        "created_at": uow.now,
        "expires_at": uow.now + SESSION_MS,
        "user_agent": clean,
    }
    await uow.execute(login_session.insert().values(**values))
    return token


async def close_session(uow: UnitOfWork, token_hash: str) -> None:
    await uow.execute(delete(login_session).where(login_session.c.token_hash == token_hash))


_WHO = (agent.c.id, agent.c.role, agent.c.name, agent.c.language, team_member.c.team_id)


async def find_by_session(db: Database, token_hash: str) -> Actor | None:
    """Who this session belongs to, if it lives; moves its end."""
    now = db.clock.now_ms()
    statement = (
        select(*_WHO, login_session.c.expires_at)
        .select_from(
            login_session.join(agent, agent.c.id == login_session.c.agent_id).outerjoin(
                team_member, team_member.c.agent_id == agent.c.id
            )
        )
        .where(login_session.c.token_hash == token_hash, login_session.c.expires_at > now, agent.c.active)
    )
    async with db.reading() as conn:
        found = await _actor(conn, statement)
    if found is None:
        return None
    actor, expires_at = found
    if expires_at is not None and expires_at < now + SESSION_MS - SLIDE_MS:
        async with db.transaction() as uow:
            await uow.execute(
                update(login_session)
                .where(login_session.c.token_hash == token_hash)
                .values(expires_at=uow.now + SESSION_MS)
            )
    return actor


async def find_by_token(db: Database, token_hash: str) -> Actor | None:
    """Who this API token belongs to, if it is valid."""
    now = db.clock.now_ms()
    statement = (
        select(*_WHO, api_token.c.last_used_at)
        .select_from(
            api_token.join(agent, agent.c.id == api_token.c.agent_id).outerjoin(
                team_member, team_member.c.agent_id == agent.c.id
            )
        )
        .where(
            api_token.c.token_hash == token_hash,
            agent.c.active,
            or_(api_token.c.expires_at.is_(None), api_token.c.expires_at > now),
        )
    )
    async with db.reading() as conn:
        found = await _actor(conn, statement)
    if found is None:
        return None
    actor, last_used_at = found
    if last_used_at is None or last_used_at < now - TOKEN_USE_MS:
        async with db.transaction() as uow:
            await uow.execute(
                update(api_token).where(api_token.c.token_hash == token_hash).values(last_used_at=uow.now)
            )
    return actor


async def _actor(conn: AsyncConnection, statement: Select[Any]) -> tuple[Actor, int | None] | None:
    rows = (await conn.execute(statement)).all()
    if not rows:
        return None
    first = rows[0]
    teams = tuple(sorted(row[4] for row in rows if row[4] is not None))
    actor = Actor(agent_id=first[0], role=first[1], name=first[2], language=first[3], team_ids=teams)
    return actor, first[5]
