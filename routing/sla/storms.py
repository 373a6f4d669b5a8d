"""Many broken promises of one team at once: counted per minute by all sweepers together, told as one summary.

Owns `sla_storm`. The count is in the database, so it holds for several processes and for a minute's many small
transactions. Everything is in the ledger all the same; only the telling is gathered.
"""

from collections.abc import Mapping

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite

from crm_core import notices
from crm_core.clock import MINUTE, to_iso
from crm_core.db.uow import UnitOfWork
from crm_core.events import SUPERVISORS, DomainEvent
from crm_core.jobs import JobRow, NewJob
from crm_core.schema import team
from crm_core.services import Services
from routing.schema import sla_storm
from routing.sla import people

STORM_JOB = "sla.storm"
#: more breaches of one team within a minute than this are told in one summary
STORM = 200
_KEEP_MINUTES = 60


async def count(uow: UnitOfWork, breaches: Mapping[int | None, tuple[int, int]]) -> frozenset[int | None]:
    """Add breaches (team -> number, first instant) to this minute; returns the teams that have a storm.

    Locks the counters in order of team, after everything else the transaction locks.
    """
    if not breaches:
        return frozenset()
    minute = uow.now // MINUTE
    dialect = postgresql if uow.dialect == "postgresql" else sqlite
    new = dialect.insert(sla_storm)
    new = new.on_conflict_do_update(
        index_elements=["team_id", "minute"], set_={"breaches": sla_storm.c.breaches + new.excluded.breaches}
    )
    rows = await uow.execute(
        new.returning(sla_storm.c.team_id, sla_storm.c.breaches, sla_storm.c.first_breach_at),
        [
            {"team_id": team_id or 0, "minute": minute, "breaches": n, "first_breach_at": first}
            for team_id, (n, first) in sorted(breaches.items(), key=lambda item: item[0] or 0)
        ],
    )
    quiet = set()
    for team_key, total, first in rows.all():
        team_id = team_key or None
        if total <= STORM:
            continue
        quiet.add(team_id)
        if total - breaches[team_id][0] <= STORM:
            await _tell(uow, team_id, int(total), int(first))
            uow.enqueue(
                NewJob(
                    name=STORM_JOB, args={"team_id": team_id, "minute": minute}, run_at=(minute + 1) * MINUTE,
                    dedupe=f"{STORM_JOB}:{team_id or 0}:{minute}",
                )
            )  # fmt: skip
    return frozenset(quiet)


async def _tell(uow: UnitOfWork, team_id: int | None, total: int, first: int) -> None:
    await uow.emit(
        DomainEvent(
            kind="sla.storm", subject_kind="team", subject_id=team_id or 0, audience=SUPERVISORS,
            payload={"team_id": team_id, "breaches": total, "first_breach_at": to_iso(first)},
        )
    )  # fmt: skip


async def summarise(_services: Services, uow: UnitOfWork, job: JobRow) -> None:
    """The job `sla.storm`: the minute is over, its leads get one line with the whole number."""
    team_id, minute = job.args["team_id"], int(job.args["minute"])
    row = await uow.row(
        select(sla_storm).where(sla_storm.c.team_id == (team_id or 0), sla_storm.c.minute == minute)
    )
    if row is None:
        return
    name = await uow.scalar(select(team.c.name).where(team.c.id == team_id))
    data = {"what": "storm", "team_id": team_id, "team": name, "breaches": row["breaches"]}
    leads = (await people.leads(uow.conn, [team_id]))[team_id]
    await notices.tell(
        uow, "storm", [notices.Line(lead, f"storm:{team_id or 0}:{minute}", data) for lead in leads]
    )
    await uow.execute(delete(sla_storm).where(sla_storm.c.minute < minute - _KEEP_MINUTES))
