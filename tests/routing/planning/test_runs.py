"""What-if questions as durable work: the job as the product's own runner runs it, its process included."""

import asyncio
import multiprocessing
import time
from typing import Any

import pytest
from sqlalchemy import select

from crm_core.db.engine import Database
from crm_core.errors import Conflict, Invalid
from crm_core.jobs import JobRegistry, JobRow
from crm_core.schema import job
from crm_core.services import Services
from routing.planning import runs
from routing.planning.compute import ChildDied, Refused, TookTooLong, in_child
from routing.planning.past import Period
from routing.planning.runs import Question
from routing.planning.schema import planning_run
from tests.conftest import MovableClock
from tests.routing.planning.record import HOUR, MINUTE, MONDAY, a_team, an_agent, items_handled, presences
from workers.execute import execute

NINE = MONDAY + 9 * HOUR
PERIOD = Period(NINE, NINE + HOUR)


@pytest.fixture
def services(db: Database, clock: MovableClock) -> Services:
    parts: Any = None  # the job needs the database alone
    return Services(
        db=db, clock=clock, hints=db.hints, files=parts, limiter=parts, http=parts, settings=parts
    )


async def a_day(db: Database) -> int:
    team = await a_team(db)
    olena = await an_agent(db, "Olena", team, online=False)
    await items_handled(
        db, [(NINE + n * 30_000, 1_000, 240_000) for n in range(60)], team_id=team, agent_id=olena
    )
    await presences(db, [(olena, NINE - HOUR, "online"), (olena, NINE + 3 * HOUR, "offline")])
    return team


async def asked(db: Database, change: dict[str, Any] | None = None, period: Period = PERIOD) -> int:
    async with db.transaction() as uow:
        found = await runs.ask(uow, Question(period=period, change=change or {}, seeds=1), asked_by=None)
    return int(found["id"])


async def work(services: Services, *, attempts: int = 1) -> None:
    """Run what is in the job table, as a worker does; `attempts`: it is the so manieth."""
    registry = JobRegistry()
    runs.declare(registry)
    async with services.db.transaction() as uow:
        rows = await uow.rows(select(job).where(job.c.name == runs.JOB))
        await uow.execute(job.update().values(state="leased", lease_token="t", attempts=job.c.attempts + 1))
    for row in rows:
        claimed = JobRow(
            id=row["id"], name=row["name"], args=row["args"], lane=row["lane"], order_key=row["order_key"],
            attempts=attempts, max_attempts=row["max_attempts"], lease_token="t",
            created_at=row["created_at"],
        )  # fmt: skip
        await execute(services, registry, claimed)


async def shown(db: Database, run_id: int) -> dict[str, Any]:
    async with db.reading() as conn:
        return await runs.show(conn, run_id, "en")


async def test_a_question_is_answered_by_a_worker_and_kept(db: Database, services: Services) -> None:
    team = await a_day(db)
    run_id = await asked(db, {"agents": {"add": [{"teams": [team], "works": "always"}]}})
    assert (await shown(db, run_id))["state"] == "queued"
    await work(services)
    found = await shown(db, run_id)
    assert (found["state"], found["error"]) == ("done", None)
    assert found["answer"]["total"]["recorded"]["offered"] == 60
    assert found["answer"]["total"]["difference"]["wait_p90_s"] < 0
    assert found["answer"]["notes"][0]["text"].startswith("Skills, teams and limits")
    async with db.reading() as conn:
        assert (await conn.execute(select(job.c.id))).all() == []


async def test_a_question_without_an_answer_says_why(db: Database, services: Services) -> None:
    await a_day(db)
    run_id = await asked(db, period=Period(NINE - 100 * HOUR, NINE - 50 * HOUR))
    await work(services)
    found = await shown(db, run_id)
    assert (found["state"], found["error_code"]) == ("failed", "nothing_recorded")
    assert found["error"] == "nothing is recorded in this period"


async def test_a_question_that_was_answered_is_not_answered_again(db: Database, services: Services) -> None:
    await a_day(db)
    run_id = await asked(db)
    async with db.transaction() as uow:
        await uow.execute(planning_run.update().values(state="done", answer={"notes": [], "kept": True}))
    await work(services)
    assert (await shown(db, run_id))["answer"]["kept"] is True


async def test_a_question_that_kills_its_workers_is_given_up(db: Database, services: Services) -> None:
    await a_day(db)
    run_id = await asked(db)
    await work(services, attempts=runs.MAX_ATTEMPTS + 1)
    found = await shown(db, run_id)
    assert (found["state"], found["error_code"]) == ("failed", "planning_failed")
    async with db.reading() as conn:
        assert (await conn.execute(select(job.c.id))).all() == []


async def test_questions_do_not_pile_up(db: Database) -> None:
    await a_day(db)
    for _ in range(runs.MAX_OPEN):
        await asked(db)
    with pytest.raises(Conflict) as refused:
        await asked(db)
    assert refused.value.code == "too_many_runs"


async def test_old_answers_are_thrown_away(db: Database, clock: MovableClock) -> None:
    await a_day(db)
    await asked(db)
    clock.advance(runs.KEEP_MS + 1)
    await asked(db)
    async with db.reading() as conn:
        (kept,) = (await conn.scalars(select(planning_run.c.created_at))).all()
    assert kept >= clock.now_ms() - MINUTE


# --- the process beside
def _double(n: int) -> int:
    return 2 * n


def _refuse() -> None:
    raise Invalid("no", code="bad_change", params={"errors": [1]})


def _fail() -> None:
    raise ZeroDivisionError


def _die() -> None:
    import os

    os._exit(3)


async def test_a_child_answers_refuses_fails_and_dies() -> None:
    assert await in_child(_double, 21, limit_s=30) == 42
    with pytest.raises(Refused) as refused:
        await in_child(_refuse, limit_s=30)
    assert (refused.value.http_status, refused.value.code, refused.value.params) == (
        422,
        "bad_change",
        {"errors": [1]},
    )
    for work_ in (_fail, _die):
        with pytest.raises(ChildDied):
            await in_child(work_, limit_s=30)


async def test_a_child_does_not_outlive_the_question() -> None:
    asked_ = asyncio.create_task(in_child(time.sleep, 600, limit_s=600))
    while not multiprocessing.active_children():
        await asyncio.sleep(0.01)
    asked_.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked_
    assert multiprocessing.active_children() == []


async def test_a_child_that_takes_too_long_is_stopped() -> None:
    with pytest.raises(TookTooLong):
        await in_child(time.sleep, 600, limit_s=0.5)
