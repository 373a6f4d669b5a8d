"""Open tickets with running clocks, built set-based inside the database: a million takes minutes, not hours.

Each ticket has the three clocks that every open ticket has (first reply, requester's wait, total resolution), all with
a target of eight hours in a calendar that is always open, so that their instants can be written by plain arithmetic.
If they were not what the product itself computes, their steps would not fire when the bench expects them.
"""

import sqlite3
from dataclasses import dataclass
from typing import Any

import asyncpg
from sqlalchemy import Boolean, Column, Integer, String

from crm_core.clock import HOUR
from crm_core.db.engine import Database
from crm_core.db.types import metadata
from routing.schema import calendar, calendar_version, sla_policy
from routing.sla import book as books
from routing.sla.edit import set_default_calendar

TARGET_MS = 8 * HOUR
#: the first step of the default ones
FIRST_STEP = 0.5
METRICS = ("first_reply", "requester_wait", "total_resolution")
ALWAYS = {day: [["00:00", "24:00"]] for day in ("mon", "tue", "wed", "thu", "fri", "sat", "sun")}
OFFICE = {day: [["09:00", "13:00"], ["14:00", "18:00"]] for day in ("mon", "tue", "wed", "thu", "fri")}
_CHUNK = 50_000


@dataclass(frozen=True, slots=True)
class Rules:
    """The organisation that the tickets are filled into."""

    inbox_id: int
    team_id: int
    calendar_id: int
    policy_id: int


async def make_rules(db: Database, inbox_id: int, team_id: int) -> Rules:
    """A calendar and a policy with the default steps for every metric."""
    spec = {"tz": "Europe/Kyiv", "week": ALWAYS}
    async with db.transaction() as uow:
        calendar_id = await uow.insert(
            calendar, {"name": "Always", "spec": spec, "version": 1, "updated_at": uow.now}
        )
        await uow.execute(
            calendar_version.insert().values(
                calendar_id=calendar_id, version=1, spec=spec, created_at=uow.now
            )
        )
        await set_default_calendar(uow, calendar_id)
        await uow.execute(sla_policy.update().values(current=False))
        goals = {metric: {"minutes": TARGET_MS // 60_000, "business": True} for metric in METRICS}
        values = {
            "policy_key": "million", "version": 1, "position": 1, "name": "Million", "conditions": {},
            "targets": {"*": goals}, "options": {"calendar_id": calendar_id}, "current": True, "created_at": uow.now,
        }  # fmt: skip
        policy_id = await uow.insert(sla_policy, values)
    async with db.reading() as conn:
        book = await books.load(conn)
    if book.problems:
        raise RuntimeError(f"the bench's rules are wrong: {book.problems}")
    return Rules(inbox_id, team_id, calendar_id, policy_id)


async def fill(url: str, rules: Rules, *, first: int, last: int, began: int, spread_ms: int) -> None:
    """Add the tickets numbered first..last (their ids), opened evenly over `spread_ms` from `began` on."""
    if url.startswith("sqlite"):
        _fill_sqlite(url, rules, first, last, began, spread_ms)
    else:
        await _fill_postgres(url, rules, first, last, began, spread_ms)


async def _fill_postgres(url: str, rules: Rules, first: int, last: int, began: int, spread_ms: int) -> None:
    conn = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        # Referenced rows are made by ourselves: to look each up would double the time.
        await conn.execute("SET session_replication_role = replica")
        for low in range(first, last + 1, _CHUNK):
            high = min(low + _CHUNK - 1, last)
            source = f"generate_series({low}, {high}) AS n"
            for statement in _statements("postgresql", rules, source, first, last, began, spread_ms):
                await conn.execute(statement)
        for table in ("contact", "inquiry", "sla_clock"):
            await conn.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))"
            )
        await conn.execute("VACUUM ANALYZE inquiry")
        await conn.execute("VACUUM ANALYZE sla_clock")
        await conn.execute("CHECKPOINT")
    finally:
        await conn.close()


def _fill_sqlite(url: str, rules: Rules, first: int, last: int, began: int, spread_ms: int) -> None:
    direct = sqlite3.connect(url.partition(":///")[2])
    direct.execute("PRAGMA journal_mode=WAL")
    direct.execute("PRAGMA synchronous=OFF")
    for low in range(first, last + 1, _CHUNK):
        high = min(low + _CHUNK - 1, last)
        source = (
            f"(WITH RECURSIVE s(n) AS (SELECT {low} UNION ALL SELECT n + 1 FROM s WHERE n < {high}) "
            "SELECT n FROM s)"
        )
        for statement in _statements("sqlite", rules, source, first, last, began, spread_ms):
            direct.execute(statement)
        direct.commit()
    direct.execute("ANALYZE")
    direct.commit()
    direct.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    direct.close()


def _statements(
    dialect: str, rules: Rules, source: str, first: int, last: int, began: int, spread_ms: int
) -> list[str]:
    count = last - first + 1
    at = f"({began} + (CAST(n - {first} AS BIGINT) * {spread_ms}) / {count})"
    yes, no = ("true", "false") if dialect == "postgresql" else ("1", "0")
    found = [
        _insert(
            "contact", source,
            id="n", name="'Olha'", search_text="'olha'", locale="'uk'", vip=no, blocked=no, attributes="'{}'",
            created_at=at, updated_at=at,
        ),
        _insert(
            "inquiry", source,
            id="n", kind="'ticket'", status="'new'", subject="'Tour'", contact_id="n",
            inbox_id=rules.inbox_id, team_id=rules.team_id, channel="'telegram'", priority="'normal'",
            language="'uk'", version=1, last_message_at=at, tags="'[]'", fields="'{}'", requirements="'{}'",
            held_by_bot=no, created_at=at, updated_at=at, search_text="'tour'",
        ),
    ]  # fmt: skip
    for k, metric in enumerate(METRICS):
        home = metric == "total_resolution"
        found.append(
            _insert(
                "sla_clock", source,
                id=f"3 * n + {k}", inquiry_id="n", metric=f"'{metric}'", instance=1, state="'active'",
                activated_at=at, running_since=at, consumed_ms=0, paused_ms=0, pause_reasons="'[]'",
                target_ms=TARGET_MS, business=yes, calendar_id=rules.calendar_id, calendar_version=1,
                policy_id=rules.policy_id, policy_version=1, priority="'normal'",
                due_at=f"{at} + {TARGET_MS}", breach_at=f"{at} + {TARGET_MS}",
                next_fire_at=f"{at} + {round(TARGET_MS * FIRST_STEP)}", step=0,
                data=_data(dialect, at, rules, home=home), version=1,
            )
        )  # fmt: skip
    return found


def _data(dialect: str, at: str, rules: Rules, *, home: bool) -> str:
    build = "jsonb_build_object" if dialect == "postgresql" else "json_object"
    clock = f"{build}('other_ms', 0, 'changed_at', {at}, 'retargeted_at', {at})"
    if not home:
        return f"{build}('clock', {clock})"
    # The ticket's own memory: who spoke last, and the terms its clocks go by.
    no, yes = ("false", "true") if dialect == "postgresql" else ("json('false')", "json('true')")
    none = "'[]'::jsonb" if dialect == "postgresql" else "json('[]')"
    facts = f"{build}('status', 'new', 'status_since', {at}, 'customer_last', {yes}, 'replied', {no}, 'pauses', {none})"
    ticket = f"{build}('facts', {facts}, 'policy_id', {rules.policy_id}, 'priority', 'normal')"
    return f"{build}('clock', {clock}, 'ticket', {ticket})"


def _insert(table: str, source: str, **values: object) -> str:
    """INSERT … SELECT of these SQL expressions, and the plainest for every other column that must not be empty."""
    full = dict(values)
    for column in metadata.tables[table].columns:
        if column.name not in full and not column.nullable and column.server_default is None:
            full[column.name] = _plainest(column)
    return (
        f"INSERT INTO {table} ({', '.join(full)}) SELECT {', '.join(map(str, full.values()))} FROM {source}"
    )


def _plainest(column: Column[Any]) -> str:
    if isinstance(column.type, Boolean):
        return "(1 = 0)"
    if isinstance(column.type, Integer):
        return "0"
    return "''" if isinstance(column.type, String) else "'{}'"
