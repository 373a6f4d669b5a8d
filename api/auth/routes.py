"""Login, logout, passwords and API tokens."""

from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth.guard import check_origin, identify
from api.auth.origin import client_address, network_of
from api.auth.passwords import PASSWORDS, needs_rehash
from api.auth.sessions import (
    TOKEN_PREFIX,
    close_session,
    drop_cookie,
    fingerprint,
    new_token,
    open_session,
    set_cookie,
)
from api.layer.fields import In, Instant, InstantOut, Name, Out, Page, RowId
from api.layer.routes import Answer, Call, Data, Routes
from api.resources.people_shapes import AgentOut, load_agents
from crm_core.clock import MINUTE
from crm_core.db.uow import UnitOfWork
from crm_core.errors import Conflict, Forbidden, Invalid, NotFound, RateLimited, Unauthorized
from crm_core.schema import agent, api_token, login_session
from crm_core.views import iso

#: logins a minute from one network, and for one account from anywhere
PER_NETWORK, PER_ACCOUNT = 20, 8
MIN_PASSWORD = 10

routes = Routes("auth")


class LoginIn(In):
    email: Annotated[str, Field(min_length=1, max_length=254)]
    password: Annotated[str, Field(min_length=1, max_length=1000)]


class LoginOut(Out):
    agent: AgentOut


class PasswordIn(In):
    current: Annotated[str, Field(min_length=1, max_length=1000)]
    new: Annotated[str, Field(min_length=MIN_PASSWORD, max_length=1000)]


class TokenIn(In):
    name: Name
    agent_id: RowId | None = None
    expires_at: Instant | None = None


class TokenOut(Out):
    id: int
    name: str
    agent_id: int
    created_at: InstantOut
    expires_at: InstantOut | None
    last_used_at: InstantOut | None


class NewTokenOut(TokenOut):
    token: Annotated[str, Field(description="shown this once, only its hash is stored")]


async def limit(call: Call, key: str, *, per_minute: float, burst: int) -> None:
    """Take one from a rate bucket. Raises RateLimited."""
    wait = await call.services.limiter.take(key, per_s=per_minute * 1000 / MINUTE, burst=burst, now=call.now)
    if wait > 0:
        raise RateLimited("too many tries, wait a little", retry_after_s=wait)


@routes.post("/auth/login", role=None, errors=(401, 403, 429))
async def login(call: Call, body: LoginIn) -> Annotated[Data, LoginOut]:
    """Log in by email and password; the session comes as a cookie."""
    # A login forged by another site would put the visitor into the attacker's account.
    check_origin(call.request, call.services.settings)
    email = body.email.strip().lower()
    network = network_of(client_address(call.request, call.services.settings))
    await limit(call, f"login:net:{network}", per_minute=PER_NETWORK, burst=PER_NETWORK)
    await limit(call, f"login:email:{fingerprint(email)[:32]}", per_minute=PER_ACCOUNT, burst=PER_ACCOUNT)
    async with call.db.reading() as conn:
        row = (
            (await conn.execute(select(agent).where(agent.c.email == email, agent.c.active)))
            .mappings()
            .first()
        )
    passwords = call.request.app[PASSWORDS]
    stored = row["password_hash"] if row else None
    good = await passwords.check(stored, body.password)
    if row is None or not good:
        raise Unauthorized("email or password is wrong", code="bad_credentials")
    fresh = await passwords.hash(body.password) if stored and needs_rehash(stored) else None
    async with call.db.transaction() as uow:
        if fresh is not None:
            await uow.execute(update(agent).where(agent.c.id == row["id"]).values(password_hash=fresh))
        token = await open_session(uow, row["id"], call.request.headers.get("User-Agent"))
        shown = (await load_agents(uow.conn, [row["id"]]))[0]
    return Answer({"agent": shown}, prepare=set_cookie(call.services.settings, token))  # type: ignore[return-value]


@routes.post("/auth/logout", role=None, errors=(401, 403))
async def logout(call: Call) -> None:
    """End this session. Without a session it does nothing."""
    check_origin(call.request, call.services.settings)
    try:
        await identify(call)
    except Unauthorized:
        return Answer(prepare=drop_cookie(call.services.settings))  # type: ignore[return-value]
    if call.by == "cookie" and call.credential:
        async with call.db.transaction() as uow:
            await close_session(uow, call.credential)
    return Answer(prepare=drop_cookie(call.services.settings))  # type: ignore[return-value]


@routes.put("/me/password", errors=(429,))
async def change_password(call: Call, body: PasswordIn) -> None:
    """Change one's own password; all other sessions end."""
    me = call.actor.agent_id
    await limit(call, f"login:agent:{me}", per_minute=PER_ACCOUNT, burst=PER_ACCOUNT)
    async with call.db.reading() as conn:
        stored = (await conn.execute(select(agent.c.password_hash).where(agent.c.id == me))).scalar()
    passwords = call.request.app[PASSWORDS]
    if not await passwords.check(stored, body.current):
        raise Forbidden("the current password is wrong", code="bad_credentials")
    hashed = await passwords.hash(body.new)
    async with call.db.transaction() as uow:
        await uow.execute(update(agent).where(agent.c.id == me).values(password_hash=hashed))
        await uow.execute(
            delete(login_session).where(
                login_session.c.agent_id == me, login_session.c.token_hash != (call.credential or "")
            )
        )


@routes.get("/api-tokens", role="admin")
async def list_tokens(conn: AsyncConnection) -> Annotated[Data, Page[TokenOut]]:
    """All API tokens, without the tokens themselves."""
    rows = (await conn.execute(select(api_token).order_by(api_token.c.id))).mappings()
    return {"items": [_token(row) for row in rows], "next": None}


@routes.post("/api-tokens", role="admin", status=201, secret=True)
async def make_token(call: Call, uow: UnitOfWork, body: TokenIn) -> Annotated[Data, NewTokenOut]:
    """Make an API token for oneself or another agent; it is shown once."""
    owner = body.agent_id or call.actor.agent_id
    if await uow.scalar(select(agent.c.id).where(agent.c.id == owner, agent.c.active)) is None:
        raise Invalid(
            f"no active agent {owner}", params={"errors": [{"loc": ["body", "agent_id"], "msg": "unknown"}]}
        )
    if body.expires_at is not None and body.expires_at <= uow.now:
        raise Conflict("expires_at lies in the past", code="in_the_past")
    token, stored = new_token(TOKEN_PREFIX)
    values: dict[str, Any] = {
        "token_hash": stored,
        "agent_id": owner,
        "name": body.name,
        "created_at": uow.now,
        "expires_at": body.expires_at,
        "last_used_at": None,
    }
    values["id"] = await uow.insert(api_token, values)
    return {**_token(values), "token": token}


@routes.delete("/api-tokens/{id}", role="admin")
async def drop_token(uow: UnitOfWork, id: RowId) -> None:  # noqa: A002
    """Revoke an API token at once."""
    gone = await uow.execute(delete(api_token).where(api_token.c.id == id))
    if gone.rowcount == 0:
        raise NotFound(f"no API token {id}")


def _token(row: Any) -> Data:
    return {
        "id": row["id"],
        "name": row["name"],
        "agent_id": row["agent_id"],
        "created_at": iso(row["created_at"]),
        "expires_at": iso(row["expires_at"]),
        "last_used_at": iso(row["last_used_at"]),
    }
