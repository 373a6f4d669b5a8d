"""Bringing a database to the schema this program wants, and saying whether it is there.

A copy of an SQLite file is made before it is changed, because its DDL cannot be rolled back.
"""

import shutil
import sqlite3
from functools import cache
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

HERE = Path(__file__).parent / "migrations"


def _config(**attributes: Any) -> Config:
    config = Config(str(HERE / "alembic.ini"))
    config.attributes.update(attributes)
    return config


@cache
def head() -> str:
    """The revision this program wants."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    if revision is None:
        raise RuntimeError("there are no migrations")
    return revision


async def current(conn: AsyncConnection) -> str | None:
    """The revision a database has, None if it is empty."""
    return await conn.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())


async def upgrade(url: str, *, schema: str | None = None) -> bool:
    """Migrate to the head. Returns whether anything had to be done. Safe to call from several processes at once.

    `schema`: on Postgres, the one to build in instead of the database's default.
    """
    location = make_url(url)
    if location.get_backend_name() == "sqlite":
        Path(str(location.database)).parent.mkdir(parents=True, exist_ok=True)
    session = {"server_settings": {"search_path": schema}} if schema is not None else {}
    engine = create_async_engine(url, poolclass=NullPool, connect_args=session)
    try:
        async with engine.connect() as conn:
            before = await current(conn)
        if before == head():
            return False
        if before is not None and location.get_backend_name() == "sqlite":
            _copy_aside(Path(str(location.database)), before)
        async with engine.connect() as conn:
            if conn.dialect.name == "postgresql":
                # Two processes that start together must not both migrate; the lock goes with the connection.
                await conn.exec_driver_sql("SELECT pg_advisory_lock(727274)")
                await conn.commit()
                if await current(conn) == head():
                    return False
                await conn.commit()
            await conn.run_sync(_run)
            await conn.commit()
        return True
    finally:
        await engine.dispose()


def _run(connection: Connection) -> None:
    command.upgrade(_config(connection=connection), "head")


def _copy_aside(path: Path, revision: str) -> None:
    with sqlite3.connect(path) as source:
        source.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy2(path, path.with_name(f"{path.name}.before-{head()}-was-{revision}"))
