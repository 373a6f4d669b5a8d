"""Waiting until the event log can be read to its end.

Readers stay below the oldest transaction that still writes anywhere on the Postgres server (ADR 0003); tests that run
beside each other share one, so the last events may become readable a moment after their commit.
"""

import asyncio

from sqlalchemy import select

from crm_core.db.engine import Database
from crm_core.event_log import Cursor, newest
from crm_core.schema import event


async def log_is_safe(db: Database) -> None:
    last = select(event.c.tx, event.c.id).order_by(event.c.tx.desc(), event.c.id.desc()).limit(1)
    async with asyncio.timeout(60):
        while True:
            async with db.reading() as conn:
                row = (await conn.execute(last)).first()
                if row is None or await newest(conn, tx_offset=db.tx_offset) == Cursor(row.tx, row.id):
                    return
            await asyncio.sleep(0.02)
