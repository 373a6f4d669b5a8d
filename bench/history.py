"""A past to measure with: stored conversations, written in bulk straight through the driver.

Each conversation has a contact with an identity, five messages, a solved inquiry, its raw rows, references, events and
its ended work item, as an installation has after years. Ids continue where the organisation's end.
"""

import asyncio
import json
import sqlite3
import time
from collections.abc import Iterator
from typing import Any

import asyncpg
from sqlalchemy import Boolean, Integer, LargeBinary, String

from crm_core.db.types import metadata
from routing import schema as _routing  # noqa: F401 - its tables belong to the metadata

MESSAGES_EACH = 5
_BATCH = 2_000
_MINUTE, _YEAR = 60_000, 365 * 86_400_000
#: references first
_TABLES = (
    "contact",
    "identity",
    "conversation",
    "inquiry",
    "message",
    "message_ref",
    "inbound",
    "event",
    "work_item",
    "assignment",
    "sla_clock",
)
_TEXT = "Добрий день, підкажіть, будь ласка, скільки коштує тур до Карпат на двох у травні? " * 3

Rows = dict[str, list[dict[str, Any]]]


def fill(url: str, messages: int) -> None:
    """Add so many messages. The database is migrated, organised and not in use."""
    if url.startswith("sqlite"):
        _fill_sqlite(url, messages)
    else:
        asyncio.run(_fill_postgres(url, messages))


def _fill_sqlite(url: str, messages: int) -> None:
    direct = sqlite3.connect(url.partition(":///")[2])
    direct.execute("PRAGMA journal_mode=WAL")
    direct.execute("PRAGMA synchronous=OFF")
    inbox_id = direct.execute("SELECT min(id) FROM inbox").fetchone()[0]
    for group in _groups(messages, inbox_id):
        for table in _TABLES:
            columns = _columns(table)
            direct.executemany(
                f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
                [tuple(row[c] for c in columns) for row in group[table]],
            )
        direct.commit()
    direct.execute("ANALYZE")
    direct.commit()
    direct.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    direct.close()


async def _fill_postgres(url: str, messages: int) -> None:
    conn = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        inbox_id = await conn.fetchval("SELECT min(id) FROM inbox")
        for group in _groups(messages, inbox_id):
            for table in _TABLES:
                columns = _columns(table)
                await conn.copy_records_to_table(
                    table, columns=columns, records=[tuple(row[c] for c in columns) for row in group[table]]
                )
        for table in _TABLES:
            if "id" in metadata.tables[table].columns:
                await conn.execute(
                    f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))"
                )
        await conn.execute("VACUUM ANALYZE")
    finally:
        await conn.close()


def _columns(table: str) -> list[str]:
    return [c.name for c in metadata.tables[table].columns]


def _groups(messages: int, inbox_id: int) -> Iterator[Rows]:
    for numbers in batched_range(messages // MESSAGES_EACH):
        rows: Rows = {name: [] for name in _TABLES}
        for n in numbers:
            _conversation(rows, n + 1, inbox_id)
        yield rows


def batched_range(count: int) -> Iterator[range]:
    for start in range(0, count, _BATCH):
        yield range(start, min(start + _BATCH, count))


def _conversation(rows: Rows, n: int, inbox_id: int) -> None:
    """One conversation with everything that hangs on it. Its ids are n, those of its messages 5n, 5n+1 …"""
    at = int(time.time() * 1000) - _YEAR + n % 500_000 * _MINUTE

    def add(table: str, **values: Any) -> None:
        rows[table].append(
            {
                c.name: values[c.name] if c.name in values else _nothing(c)
                for c in metadata.tables[table].columns
            }
        )

    stamps = {"created_at": at, "updated_at": at}
    add("contact", id=n, name=f"Оксана {n}", search_text=f"оксана {n}", locale="uk", **stamps)
    add(
        "identity",
        id=n,
        contact_id=n,
        kind="telegram",
        value=str(7 * 10**9 + n),
        account="old",
        created_at=at,
    )
    add(
        "conversation",
        id=n,
        inbox_id=inbox_id,
        contact_id=n,
        key=str(7 * 10**9 + n),
        channel="telegram",
        address=str(7 * 10**9 + n),
        language="uk",
        last_seq=MESSAGES_EACH,
        last_customer_at=at,
        **stamps,
    )
    add(
        "inquiry",
        id=n,
        kind="ticket",
        status="solved",
        subject=f"Тур {n}",
        contact_id=n,
        conversation_id=n,
        inbox_id=inbox_id,
        channel="telegram",
        priority="normal",
        language="uk",
        version=3,
        last_message_at=at,
        tags="[]",
        solved_at=int(time.time() * 1000),
        search_text=f"тур {n}",
        **stamps,
    )
    for seq in range(1, MESSAGES_EACH + 1):
        m = MESSAGES_EACH * n + seq - 1
        add(
            "message",
            id=m,
            conversation_id=n,
            inquiry_id=n,
            seq=seq,
            direction="in",
            kind="text",
            author_kind="customer",
            author_id=n,
            author_name=f"Оксана {n}",
            text=_TEXT,
            state="received",
            occurred_at=at,
            created_at=at,
        )
        add("message_ref", inbox_id=inbox_id, external_id=f"old:{m}", message_id=m, conversation_id=n)
        add(
            "inbound",
            id=m,
            inbox_id=inbox_id,
            dedupe_key=f"old:{m}",
            lane=f"old:{n}",
            content_type="application/json",
            body=b"x" * 400,
            size=400,
            state="done",
            received_at=at,
            processed_at=at,
        )
        add(
            "event",
            id=m,
            tx=0,  # before everything that is written on Postgres, and as everything on SQLite
            kind="message.added",
            at=at,
            actor=f"contact:{n}",
            subject_kind="message",
            subject_id=m,
            inquiry_id=n,
            conversation_id=n,
            payload=json.dumps({"message": {"id": m, "text": _TEXT}}, ensure_ascii=False),
        )
    add(
        "work_item",
        id=n,
        source_kind="inquiry",
        source_id=n,
        attempt=1,
        inquiry_id=n,
        conversation_id=n,
        contact_id=n,
        channel="chat",
        kind="ticket",
        priority="normal",
        state="done",
        order_key=at,
        ready_at=at,
        step_entered_at=at,
        created_at=at,
        ended_at=at,
        version=2,
        teams_seen="[]",
    )
    add(
        "assignment",
        id=n,
        item_id=n,
        inquiry_id=n,
        agent_id=1,
        channel="chat",
        cause="outright",
        started_at=at,
        ended_at=at,
        end_cause="solved",
    )
    add(
        "sla_clock",
        id=n,
        inquiry_id=n,
        metric="first_reply",
        instance=1,
        state="fulfilled",
        activated_at=at,
        fulfilled_at=at,
        pause_reasons="[]",
    )


def _nothing(column: Any) -> Any:
    if column.nullable:
        return None
    if isinstance(column.type, Boolean):
        return False
    if isinstance(column.type, Integer):
        return 0
    if isinstance(column.type, LargeBinary):
        return b""
    return "" if isinstance(column.type, String) else "{}"
