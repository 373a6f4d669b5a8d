"""How long work takes: one smoothed number per team and channel, kept at the end of each assignment.

Read by the overflow rule and the expected wait. Never computed from the history.
"""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.clock import MINUTE, SECOND
from crm_core.db.prepared import Prepared, any_of, fetch
from crm_core.db.together import Batch
from crm_core.db.uow import UnitOfWork
from routing.model import Channel
from routing.schema import handle_time

#: the weight of the newest sample once there are enough; before, the plain mean of all
ALPHA = 0.05
#: a ticket forgotten for a month must not tell customers that they wait a month
MAX_TIMES_USUAL = 5
_ENOUGH = 10
#: for comparing teams that have finished nothing yet; never shown to anybody
ASSUMED_MS = {
    Channel.VOICE: 4 * MINUTE,
    Channel.CHAT: 8 * MINUTE,
    Channel.ASYNC: 30 * MINUTE,
    Channel.CALLBACK: 4 * MINUTE,
}
#: the stored team of work that belongs to no team
NO_TEAM = 0


@dataclass(frozen=True, slots=True)
class HandleTime:
    """Smoothed duration from assignment to the end (wrap-up included), ms, and how many samples made it."""

    ms: int
    samples: int


async def of_team(conn: AsyncConnection, team_id: int | None, channel: str) -> HandleTime | None:
    """None while nothing of the channel has been finished by the team."""
    return (await of_teams(conn, {team_id})).get((team_id, channel))


async def of_teams(
    conn: AsyncConnection, team_ids: Collection[int | None]
) -> dict[tuple[int | None, str], HandleTime]:
    """By (team, channel); what is not known is missing."""
    wanted = {NO_TEAM if t is None else t for t in team_ids}
    rows = await fetch(conn, _OF_TEAMS, {"teams": sorted(wanted)})
    return {
        (r["team_id"] or None, r["channel"]): HandleTime(int(r["smoothed_ms"]), r["samples"]) for r in rows
    }


async def note(uow: UnitOfWork, batch: Batch, team_id: int | None, channel: str, duration_ms: int) -> None:
    """One more piece of work is done. A sample is lost rather than waited for: everybody writes this row."""
    team = NO_TEAM if team_id is None else team_id
    here = {"team": team, "of": channel}
    before = await uow.row(_FREE, here)
    if before is None:
        if await uow.row(_THERE, here) is None:
            first = {"smoothed_ms": max(duration_ms, SECOND), "samples": 1, "updated_at": uow.now}
            await uow.insert_new(
                handle_time, {"team_id": team, "channel": channel, **first}, key=["team_id", "channel"]
            )
        return
    after = smoothed(HandleTime(before["smoothed_ms"], before["samples"]), duration_ms)
    batch.add(_WRITE, {**here, "ms": after.ms, "n": after.samples, "now": uow.now})


_here = (handle_time.c.team_id == bindparam("team"), handle_time.c.channel == bindparam("of"))
_OF_TEAMS = Prepared(select(handle_time).where(any_of(handle_time.c.team_id, "teams")))
_THERE = Prepared(select(handle_time.c.samples).where(*_here))
_FREE = Prepared(
    select(handle_time.c.smoothed_ms, handle_time.c.samples)
    .where(*_here)
    .with_for_update(skip_locked=True)
)  # fmt: skip
_WRITE = Prepared(
    update(handle_time)
    .where(*_here)
    .values(smoothed_ms=bindparam("ms"), samples=bindparam("n"), updated_at=bindparam("now"))
)


def smoothed(before: HandleTime, duration_ms: int) -> HandleTime:
    """With one more sample. Pure."""
    sample = max(duration_ms, SECOND)
    if before.samples >= _ENOUGH:
        sample = min(sample, MAX_TIMES_USUAL * before.ms)
    weight = max(1 / (before.samples + 1), ALPHA)
    return HandleTime(round(before.ms + weight * (sample - before.ms)), before.samples + 1)
