"""Making a stored decision again: the row, the settings of its version, and the pure core. Reads only."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, null, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.clock import DAY
from crm_core.db.uow import Row, UnitOfWork, read_row
from crm_core.errors import NotFound
from routing import configuration, replay
from routing.schema import decision
from routing.settings import TeamSettings

#: inputs are kept so long
KEEP_MS = 30 * DAY
#: decisions looked at behind the border, each minute: more than are made in one
_WINDOW = 20_000


async def replay_decision(conn: AsyncConnection, decision_id: int) -> dict[str, Any]:
    """Run the deciding code on the kept input of a decision.

    Returns:
        {"decision_id", "replayable", "same", "reason": code why it could not be made again, "winners",
        "stored_winners", "scope", "rule_version"}.

    Raises:
        NotFound: no such decision.
    """
    row = await read_row(conn, select(decision).where(decision.c.id == decision_id))
    if row is None:
        raise NotFound(f"no decision {decision_id}", params={"decision_id": decision_id})
    found = await replay_row(conn, row)
    return {
        "decision_id": decision_id,
        "replayable": found.why is None,
        "same": found.same,
        "reason": found.why,
        "winners": list(found.winners),
        "stored_winners": list(found.stored),
        "scope": found.scope,
        "rule_version": row["rule_version"],
    }


async def replay_row(conn: AsyncConnection, row: Row) -> replay.Replayed:
    """The same for a row that was read already."""
    why: Mapping[str, Any] = row["why"]
    several = why.get("broadcast")
    winner = why.get("winner")
    stored = tuple(several) if several else ((winner["agent_id"],) if winner else ())
    if why.get("by") is not None:
        return replay.Replayed(same=False, stored=stored, why="by_a_person")
    data: Mapping[str, Any] | None = row["input"]
    settings: dict[int | None, TeamSettings | None] = {}
    if data is not None and not data.get("cut"):
        wanted = replay.versions_of(data) or {data["item"].get("team_id"): row["rule_version"]}
        for team_id, number in wanted.items():
            settings[team_id] = await configuration.settings_at(conn, team_id, number)
    return replay.again(data, settings, stored=stored, item_id=row["item_id"], broadcast=bool(several))


async def forget(uow: UnitOfWork) -> int:
    """Drop the inputs of decisions older than KEEP_MS; the decisions and their reasons stay. Returns how many.

    Ids grow with time, so the border is found by a few probes of the primary key, and no index is kept for it.
    """
    border_at = uow.now - KEEP_MS
    oldest = await uow.row(select(decision.c.id, decision.c.at).order_by(decision.c.id).limit(1))
    if oldest is None or oldest["at"] >= border_at:
        return 0
    low, high = int(oldest["id"]), int(await uow.scalar(select(func.max(decision.c.id)))) + 1
    while low < high:
        middle = (low + high) // 2
        found = await uow.row(
            select(decision.c.id, decision.c.at)
            .where(decision.c.id >= middle)
            .order_by(decision.c.id)
            .limit(1)
        )
        if found is None or found["at"] >= border_at:
            high = middle
        else:
            low = int(found["id"]) + 1
    done = await uow.execute(
        update(decision)
        .where(decision.c.id >= low - _WINDOW, decision.c.id < low, decision.c.input.is_not(None))
        .values(input=null())
    )
    return int(done.rowcount)
