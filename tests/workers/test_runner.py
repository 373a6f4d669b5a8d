"""Jobs are run once each in effect, in order within a lane, through crashes, lost leases and a lost Redis."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import select

from crm_core import job_table
from crm_core.db.engine import Database
from crm_core.db.uow import UnitOfWork
from crm_core.infra.local import DirectoryFiles, MemoryLimiter
from crm_core.jobs import Abandon, JobRegistry, JobRow, NewJob, RetryLater
from crm_core.schema import event, job, setting
from crm_core.services import AppSettings, Services
from tests.services import RedisServer
from workers.runner import LocalRunner

registry = JobRegistry()


@registry.job("test.note", transactional=True, backoff_ms=(10,))
async def note(services: Services, uow: UnitOfWork, row: JobRow) -> None:
    """Append to a list in the database; fails as often as asked."""
    if row.attempts <= int(row.args.get("fail_first", 0)):
        raise RuntimeError("not yet")
    key = f"seen:{row.args['list']}"
    await uow.insert_new(setting, {"key": key, "value": []}, key=["key"])
    known = await uow.scalar(uow.lock(select(setting.c.value).where(setting.c.key == key)))
    await uow.execute(setting.update().where(setting.c.key == key).values(value=[*known, row.args["n"]]))


@registry.job("test.never", transactional=True, backoff_ms=(1,))
async def never(services: Services, uow: UnitOfWork, row: JobRow) -> None:
    raise RuntimeError("broken for ever")


@registry.job("test.abandon", transactional=True)
async def abandon(services: Services, uow: UnitOfWork, row: JobRow) -> None:
    raise Abandon("this cannot work")


@registry.job("test.later", transactional=True)
async def later(services: Services, uow: UnitOfWork, row: JobRow) -> None:
    if uow.now < int(row.args["not_before"]):
        raise RetryLater(30, reason="too early")


@asynccontextmanager
async def services_for(db: Database, tmp_path: Path) -> AsyncIterator[Services]:
    async with aiohttp.ClientSession() as http:
        yield Services(
            db=db,
            clock=db.clock,
            hints=db.hints,
            files=DirectoryFiles(tmp_path / "files"),
            limiter=MemoryLimiter(),
            http=http,
            settings=AppSettings(public_url="http://127.0.0.1", secret_key=b"k", data_dir=tmp_path),
        )


async def lists(db: Database) -> dict[str, list[int]]:
    async with db.reading() as conn:
        rows = (await conn.execute(select(setting.c.key, setting.c.value))).all()
    return {key.removeprefix("seen:"): value for key, value in rows}


async def left(db: Database, *states: str) -> list[Any]:
    async with db.reading() as conn:
        return list(
            (await conn.execute(select(job).where(job.c.state.in_(states or ("ready", "leased"))))).mappings()
        )


async def until(condition: Callable[[], Any], timeout: float = 30) -> None:
    async with asyncio.timeout(timeout):
        while not await condition():
            await asyncio.sleep(0.02)


async def test_lanes_keep_their_order_even_when_the_first_fails(db: Database, tmp_path: Path) -> None:
    async with services_for(db, tmp_path) as services:
        runner = LocalRunner(services, registry, concurrency=8)
        runner.start()
        for n in range(12):
            async with db.transaction() as uow:
                for lane in ("a", "b", "c"):
                    uow.enqueue(
                        NewJob(
                            name="test.note",
                            args={"list": lane, "n": n, "fail_first": 2 if n == 3 else 0},
                            lane=lane,
                            order_key=n,
                        )
                    )
        await until(lambda: _none(db))
        await runner.stop()
    expected = list(range(12))
    assert await lists(db) == {"a": expected, "b": expected, "c": expected}


async def _none(db: Database) -> bool:
    return not await left(db)


async def test_a_job_that_keeps_failing_is_buried_with_an_alarm_and_frees_its_lane(
    db: Database, tmp_path: Path
) -> None:
    async with services_for(db, tmp_path) as services:
        runner = LocalRunner(services, registry)
        runner.start()
        async with db.transaction() as uow:
            uow.enqueue(NewJob(name="test.never", args={}, lane="x", max_attempts=3))
            uow.enqueue(NewJob(name="test.note", args={"list": "x", "n": 1}, lane="x", order_key=1))
            uow.enqueue(NewJob(name="test.abandon", args={}))
            uow.enqueue(NewJob(name="test.unheard_of", args={}))
        await until(lambda: _none(db))
        await runner.stop()
    dead = {r["name"]: r for r in await left(db, "dead")}
    assert set(dead) == {"test.never", "test.abandon", "test.unheard_of"}
    assert dead["test.never"]["attempts"] == 3
    assert await lists(db) == {"x": [1]}
    async with db.reading() as conn:
        alarms = (
            (await conn.execute(select(event.c.payload).where(event.c.kind == "alarm.raised")))
            .scalars()
            .all()
        )
    assert {a["job"] for a in alarms} == set(dead)


async def test_a_lost_lease_means_no_effect(db: Database, tmp_path: Path) -> None:
    from workers.execute import execute

    async with services_for(db, tmp_path) as services:
        async with db.transaction() as uow:
            uow.enqueue(NewJob(name="test.note", args={"list": "l", "n": 1}))
        async with db.transaction() as uow:
            [first] = await job_table.claim(uow, limit=5, lease_ms=0)
        async with db.transaction() as uow:
            [second] = await job_table.claim(uow, limit=5, lease_ms=60_000)
        await execute(services, registry, first)
        assert await lists(db) == {}
        await execute(services, registry, second)
        await execute(services, registry, second)
    assert await lists(db) == {"l": [1]}
    assert await left(db) == []


async def test_four_claimers_never_share_a_job(db: Database) -> None:
    async with db.transaction() as uow:
        for n in range(200):
            uow.enqueue(NewJob(name="test.note", args={"list": "s", "n": n}, lane=f"lane{n % 40}"))

    async def claimer() -> list[int]:
        mine: list[int] = []
        for _ in range(10):
            async with db.transaction() as uow:
                mine += [r.id for r in await job_table.claim(uow, limit=7, lease_ms=60_000)]
        return mine

    claimed = [i for part in await asyncio.gather(*(claimer() for _ in range(4))) for i in part]
    assert len(claimed) == len(set(claimed)) == 40  # the first of each lane, nobody else
    by_lane: dict[str, list[int]] = defaultdict(list)
    async with db.reading() as conn:
        for row in (await conn.execute(select(job.c.id, job.c.lane).order_by(job.c.id))).all():
            by_lane[row.lane].append(row.id)
    assert sorted(claimed) == sorted(ids[0] for ids in by_lane.values())


async def test_waiting_by_announcement_uses_up_no_try(db: Database, tmp_path: Path) -> None:
    async with services_for(db, tmp_path) as services:
        runner = LocalRunner(services, registry)
        runner.start()
        async with db.transaction() as uow:
            uow.enqueue(NewJob(name="test.later", args={"not_before": uow.now + 400}, max_attempts=2))
        await until(lambda: _none(db))
        await runner.stop()
    assert await left(db, "dead") == []


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_a_flushed_redis_and_a_second_worker_change_nothing(
    db: Database, database_url: str, redis: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crm_core.infra.redis import RedisHints
    from workers import scaled

    monkeypatch.setattr(scaled, "_LEASE_MS", 2_000)
    sent: list[int] = []
    send = scaled.ScaledRunner._send

    def sending(self: Any, jobs: list[tuple[int, str]]) -> None:
        sent.extend(job_id for job_id, _ in jobs)
        send(self, jobs)

    monkeypatch.setattr(scaled.ScaledRunner, "_send", sending)
    redis.flush()
    hints = RedisHints(redis.url)
    await hints.start()
    db.hints = hints
    async with services_for(db, tmp_path) as services:
        # Room for one job each and six lanes: most must go through dramatiq.
        runners = [scaled.ScaledRunner(services, registry, redis_url=redis.url, threads=1) for _ in range(2)]
        for runner in runners:
            await runner.start()
        for n in range(60):
            async with db.transaction() as uow:
                uow.enqueue(
                    NewJob(
                        name="test.note", args={"list": f"l{n % 6}", "n": n}, lane=f"l{n % 6}", order_key=n
                    )
                )
            if n == 30:
                redis.flush()
        await until(lambda: _none(db), timeout=60)
        for runner in runners:
            await runner.stop()
    await hints.close()
    assert await lists(db) == {f"l{k}": list(range(k, 60, 6)) for k in range(6)}
    assert sent


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_while_redis_is_away_a_worker_does_what_it_has_room_for(db: Database, tmp_path: Path) -> None:
    from workers import scaled

    redis = RedisServer().start()
    try:
        async with services_for(db, tmp_path) as services:
            runner = scaled.ScaledRunner(services, registry, redis_url=redis.url, threads=1)
            await runner.start()
            redis.stop()
            try:
                for n in range(12):
                    job_ = NewJob(
                        name="test.note", args={"list": f"l{n % 2}", "n": n}, lane=f"l{n % 2}", order_key=n
                    )
                    async with db.transaction() as uow:
                        uow.enqueue(job_)
                await until(lambda: _none(db), timeout=50)
            finally:
                await runner.stop()
    finally:
        redis.stop()
    assert await lists(db) == {f"l{k}": list(range(k, 12, 2)) for k in range(2)}
