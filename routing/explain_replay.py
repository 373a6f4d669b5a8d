"""Making a stored decision again: the row, the settings of its version, and the pure core. Reads only."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.db.uow import Row, read_row
from crm_core.errors import NotFound
from routing import configuration, replay
from routing.schema import decision
from routing.settings import TeamSettings


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
