"""What-if questions as durable work: asked in a request, answered by a worker, kept for 90 days.

One at a time (a lane of its own): two simulations beside each other are two slow ones. A crash of the worker means that
the job runs again; a question that cannot be answered is `failed`, with the reason in words.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.clock import DAY, to_iso
from crm_core.db.uow import UnitOfWork
from crm_core.errors import Conflict, NotFound, SwitchboardError
from crm_core.jobs import JobRegistry, JobRow, NewJob
from crm_core.services import Services
from routing.planning import replay, whatif, words
from routing.planning.change import Change
from routing.planning.compute import TookTooLong, in_child
from routing.planning.past import Period
from routing.planning.schema import planning_run

JOB = "planning.what_if"
LANE = "planning"
KEEP_MS = 90 * DAY
#: questions waiting for a worker beyond this are refused
MAX_OPEN = 20
MAX_ATTEMPTS = 3
#: of the job; below the runner's own limit of three minutes. The simulation gets most of it.
LEASE_S = 175
READ_S = 30.0
SIMULATE_S = 135.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """`change` as it was written; it has been parsed before it is kept."""

    period: Period
    change: Mapping[str, Any]
    seeds: int = 5
    team_id: int | None = None

    def as_data(self) -> dict[str, Any]:
        return {
            "from": self.period.start, "to": self.period.end, "change": dict(self.change), "seeds": self.seeds,
            "team_id": self.team_id,
        }  # fmt: skip


async def ask(uow: UnitOfWork, question: Question, *, asked_by: int | None) -> dict[str, Any]:
    """Keep a question and let a worker answer it. Returns its view.

    Raises:
        ChangeError, Invalid: it cannot be answered, whatever was recorded. NotFound: the team. Conflict:
        `too_many_runs`.
    """
    change = Change.parse(question.change)
    await replay.check(uow.conn, change, question.period, team_id=question.team_id, now=uow.now)
    waiting = await uow.scalar(
        select(func.count()).where(
            planning_run.c.state.in_(("queued", "running")), planning_run.c.created_at > uow.now - DAY
        )
    )
    if waiting >= MAX_OPEN:
        raise Conflict(f"{waiting} questions are waiting for an answer already", code="too_many_runs")
    old = select(planning_run.c.id).where(planning_run.c.created_at < uow.now - KEEP_MS).limit(100)
    await uow.execute(delete(planning_run).where(planning_run.c.id.in_(old.scalar_subquery())))
    values = {
        "state": "queued", "asked_by": asked_by, "question": question.as_data(), "answer": None, "error": None,
        "error_code": None, "attempts": 0, "created_at": uow.now, "started_at": None, "finished_at": None,
    }  # fmt: skip
    run_id = await uow.insert(planning_run, values)
    uow.enqueue(NewJob(name=JOB, args={"run_id": run_id}, lane=LANE, max_attempts=MAX_ATTEMPTS))
    return view({**values, "id": run_id}, "en")


async def show(conn: AsyncConnection, run_id: int, language: str) -> dict[str, Any]:
    """One question with its answer. Raises NotFound."""
    row = (await conn.execute(select(planning_run).where(planning_run.c.id == run_id))).mappings().first()
    if row is None:
        raise NotFound(f"no what-if {run_id}", params={"id": run_id})
    return view(row, language)


def view(row: Mapping[str, Any] | Any, language: str, *, brief: bool = False) -> dict[str, Any]:
    """The API's shape; `brief` leaves the answer out."""
    question = row["question"]
    answer = row["answer"]
    if answer is not None and not brief:
        answer = {**answer, "notes": words.spoken(answer["notes"], language)}
    shown = {
        "id": row["id"],
        "state": row["state"],
        "asked_by": row["asked_by"],
        "question": {**question, "from": to_iso(question["from"]), "to": to_iso(question["to"])},
        "error": row["error"],
        "error_code": row["error_code"],
        "created_at": to_iso(row["created_at"]),
        "started_at": None if row["started_at"] is None else to_iso(row["started_at"]),
        "finished_at": None if row["finished_at"] is None else to_iso(row["finished_at"]),
    }
    return shown if brief else {**shown, "answer": answer}


async def answer(services: Services, job: JobRow) -> None:
    """The job: read the record, simulate in a process beside, keep the comparison."""
    run_id = int(job.args["run_id"])
    db = services.db
    async with db.transaction() as uow:
        row = await uow.row(
            update(planning_run)
            .where(planning_run.c.id == run_id, planning_run.c.state.in_(("queued", "running")))
            .values(state="running", started_at=uow.now, attempts=planning_run.c.attempts + 1)
            .returning(planning_run)
        )
    if row is None:
        return  # answered by an earlier attempt, or thrown away
    if job.attempts > job.max_attempts:
        # No attempt came to its end, not even to a failure: whoever ran them died of it.
        await _give_up(services, run_id)
        return
    question = row["question"]
    try:
        change = Change.parse(question["change"])
        async with asyncio.timeout(READ_S):
            material = await replay.gather(
                db, Period(question["from"], question["to"]), now=row["created_at"], at_most=whatif.MAX_REQUESTS,
                team_id=question["team_id"],
            )  # fmt: skip
        whatif.check_size(len(material.requests), question["seeds"])
        seeds = list(range(1, question["seeds"] + 1))
        found = await in_child(whatif.compare, material, change, seeds, limit_s=SIMULATE_S)
    except SwitchboardError as error:
        await _end(services, run_id, state="failed", error=error.detail or error.code, error_code=error.code)
        return
    except TimeoutError:
        told = f"reading the record took longer than {READ_S:g} s: ask for a shorter period"
        await _end(services, run_id, state="failed", error=told, error_code=TookTooLong.code)
        return
    except Exception:
        if job.attempts >= job.max_attempts:
            await _give_up(services, run_id)
        raise
    await _end(services, run_id, state="done", answer=found)


async def _give_up(services: Services, run_id: int) -> None:
    error = "it failed again and again; the log has the reason"
    await _end(services, run_id, state="failed", error=error, error_code="planning_failed")


async def _end(services: Services, run_id: int, **values: Any) -> None:
    async with services.db.transaction() as uow:
        await uow.execute(
            update(planning_run)
            .where(planning_run.c.id == run_id, planning_run.c.state == "running")
            .values(**values, finished_at=uow.now)
        )


def declare(registry: JobRegistry) -> None:
    registry.job(JOB, lease_s=LEASE_S)(answer)
