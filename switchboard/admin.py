"""What an admin does before anybody can log in: make accounts and API tokens from the command line."""

import click
from sqlalchemy import select

from api.auth.passwords import hash_password
from api.auth.sessions import TOKEN_PREFIX, new_token
from crm_core.db.uow import UnitOfWork
from crm_core.schema import agent, api_token
from switchboard import migrate, wiring
from switchboard.settings import Settings

MIN_PASSWORD = 8


async def create_agent(settings: Settings, *, email: str, name: str, role: str, password: str) -> int:
    """Insert an account. Returns the process' exit code."""
    if "@" not in email or len(password) < MIN_PASSWORD:
        click.echo(
            f"an email address and a password of at least {MIN_PASSWORD} characters are needed", err=True
        )
        return 1
    await migrate.upgrade(settings.resolved_database_url)
    async with wiring.build_services(settings) as services, services.db.transaction() as uow:
        made = await insert_agent(uow, email=email, name=name, role=role, password=password)
    if made is None:
        click.echo(f"{email} exists already", err=True)
        return 1
    click.echo(f"{role} {email} created")
    return 0


async def insert_agent(
    uow: UnitOfWork,
    *,
    email: str,
    name: str,
    role: str,
    password: str,
    language: str = "en",
    extension: str | None = None,
) -> int | None:
    """Insert an account, None if the address is taken."""
    new_id = await uow.insert_new(
        agent,
        {
            "email": email.strip().lower(),
            "name": name,
            "password_hash": hash_password(password),
            "role": role,
            "language": language,
            "extension": extension,
            "calendar_id": None,
            "settings": {},
            "active": True,
            "created_at": uow.now,
        },
        key=["email"],
        returning=agent.c.id,
    )
    return int(new_id) if new_id is not None else None


async def create_token(settings: Settings, *, email: str, name: str) -> int:
    async with wiring.build_services(settings) as services, services.db.transaction() as uow:
        agent_id = await uow.scalar(select(agent.c.id).where(agent.c.email == email.strip().lower()))
        if agent_id is None:
            click.echo(f"no account {email}", err=True)
            return 1
        token = await insert_token(uow, agent_id, name)
    click.echo(token)
    return 0


async def insert_token(uow: UnitOfWork, agent_id: int, name: str) -> str:
    """Store a new API token's hash and return the token."""
    token, stored = new_token(TOKEN_PREFIX)
    await uow.insert(
        api_token,
        {
            "token_hash": stored,
            "agent_id": agent_id,
            "name": name,
            "created_at": uow.now,
            "expires_at": None,
            "last_used_at": None,
        },
    )
    return token
