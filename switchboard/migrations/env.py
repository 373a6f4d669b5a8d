"""Alembic's environment: one history for SQLite and Postgres.

On SQLite a batch ALTER rebuilds the table, and with foreign keys on that would delete every child row, so they are
off while migrating and checked afterwards.
"""

import asyncio
import os
from typing import Any

from alembic import context
from sqlalchemy import Connection, pool, text
from sqlalchemy.ext.asyncio import create_async_engine

import bots.schema  # noqa: F401 - imported for its tables
import crm_core.schema
import routing.planning.schema
import routing.schema  # noqa: F401

target_metadata = crm_core.schema.metadata


def include_object(_object: Any, name: str | None, kind: str, reflected: bool, _compare_to: Any) -> bool:
    """Search indexes are made by hand per database and unknown to the metadata."""
    return not (reflected and name is not None and name.startswith("fts_") and kind in ("table", "index"))


def run(connection: Connection) -> None:
    sqlite = connection.dialect.name == "sqlite"
    if sqlite:
        connection.execute(text("PRAGMA foreign_keys=OFF"))
        connection.commit()
    else:
        connection.execute(text("SET lock_timeout = '10s'"))
        connection.commit()
    context.configure(
        connection=connection,
        target_metadata=target_metadata,
        render_as_batch=True,
        include_object=include_object,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()
    if sqlite:
        broken = connection.execute(text("PRAGMA foreign_key_check")).all()
        if broken:
            raise RuntimeError(f"the migration broke {len(broken)} references, first: {broken[0]}")


async def main() -> None:
    url = context.config.get_main_option("sqlalchemy.url") or os.environ["SWITCHBOARD_DATABASE_URL"]
    engine = create_async_engine(url, poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(run)
        await connection.commit()
    await engine.dispose()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    asyncio.run(main())
