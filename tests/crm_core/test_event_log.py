"""The event cursor never skips: also not when transactions overtake each other."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import event as sa_event

from crm_core.db.engine import Database
from crm_core.errors import Invalid
from crm_core.event_log import Cursor, newest, oldest, read_after
from crm_core.events import DomainEvent
from crm_core.infra.local import LocalHints
from tests.conftest import MovableClock


def a_fact(n: int) -> DomainEvent:
    return DomainEvent(kind="test.happened", subject_kind="test", subject_id=n)


async def read_all(db: Database, cursor: Cursor) -> tuple[list[int], Cursor]:
    async with db.reading() as conn:
        rows, after = await read_after(conn, cursor, tx_offset=db.tx_offset)
    return [r["subject_id"] for r in rows], after


async def test_an_overtaken_transaction_is_not_skipped(db: Database) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        async with db.transaction() as uow:
            await uow.emit(a_fact(1))
            await uow.flush_outbox()  # the row has its (lower) id now, and is not committed
            uow._events.clear()
            started.set()
            await go_on.wait()

    task = asyncio.create_task(slow())
    await started.wait()
    if db.dialect == "postgresql":
        async with db.transaction() as uow:
            await uow.emit(a_fact(2))
    seen, cursor = await read_all(db, Cursor())
    assert seen == []
    go_on.set()
    await task
    if db.dialect == "sqlite":
        async with db.transaction() as uow:
            await uow.emit(a_fact(2))
    async with asyncio.timeout(60):
        while len(seen) < 2:
            more, cursor = await read_all(db, cursor)
            seen += more
            await asyncio.sleep(0.02)
    assert sorted(seen) == [1, 2]
    assert (await read_all(db, cursor))[0] == []


async def test_a_crowd_of_writers_and_a_reader_agree(db: Database) -> None:
    seen: list[int] = []
    done = asyncio.Event()

    async def reader() -> None:
        cursor = Cursor()
        while True:
            finished = done.is_set()
            rows, cursor = await read_all(db, cursor)
            seen.extend(rows)
            if finished and len(seen) >= 60:
                return
            await asyncio.sleep(0)

    async def writer(n: int) -> None:
        for i in range(10):
            async with db.transaction() as uow:
                await uow.emit(a_fact(n * 100 + i))
                await asyncio.sleep(0.001 * ((n + i) % 3))

    task = asyncio.create_task(reader())
    await asyncio.gather(*(writer(n) for n in range(1, 7)))
    done.set()
    # The horizon is the whole cluster's: other databases' open transactions may hold the last facts back a while.
    async with asyncio.timeout(60):
        await task
    assert len(seen) == len(set(seen)) == 60
    for n in range(1, 7):  # one writer's facts keep their order
        mine = [s for s in seen if s // 100 == n]
        assert mine == sorted(mine)


async def test_after_a_restore_with_lower_transaction_ids_new_events_come_last(
    db: Database, database_url: str, clock: MovableClock
) -> None:
    async with db.transaction() as uow:
        await uow.emit(a_fact(1))
        await uow.flush_outbox()
        uow._events.clear()
        if db.dialect == "postgresql":  # as if it had been written by a much older cluster
            from sqlalchemy import update

            from crm_core.schema import event

            await uow.execute(update(event).values(tx=event.c.tx + 1_000_000))
    again = Database(database_url, clock=clock, hints=LocalHints())
    await again.start()
    async with asyncio.timeout(60):
        while not (first_seen := await read_all(again, Cursor()))[0]:
            await asyncio.sleep(0.02)
    cursor = first_seen[1]
    async with again.transaction() as uow:
        await uow.emit(a_fact(2))
    async with asyncio.timeout(60):
        while not (seen := (await read_all(again, cursor))[0]):
            await asyncio.sleep(0.02)
    assert seen == [2]
    async with again.reading() as conn:
        first, last = await oldest(conn), await newest(conn, tx_offset=again.tx_offset)
    assert first is not None and first < last
    await again.close()


@pytest.mark.parametrize("text", ["", "5", "a-b", "1-", "-1", "1-2-3", "٣-٤", "9" * 30 + "-1"])
def test_a_broken_cursor_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        Cursor.parse(text)


async def test_the_next_events_are_found_by_index_whatever_the_past(db: Database) -> None:
    """Without it each look at the log reads all of it: 15 ms at 200,000 events, and growing."""
    if db.dialect != "sqlite":
        return  # Postgres takes both halves of a pair to its index
    seen: list[tuple[str, Any]] = []

    def note(_conn: Any, _cursor: Any, sql: str, parameters: Any, *_: Any) -> None:
        if "FROM event" in sql:
            seen.append((sql, parameters))

    async with db.reading() as conn:
        sa_event.listen(conn.sync_engine, "before_cursor_execute", note)
        await read_after(conn, Cursor(0, 7))
        sql, parameters = seen[-1]
        plan = (await conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters)).all()
    assert [row.detail for row in plan] == ["SEARCH event USING INTEGER PRIMARY KEY (rowid>?)"]
