"""Teams and agents that a question names: a report about nobody is a wrong question, not an empty answer."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.errors import NotFound
from crm_core.schema import agent, team


async def check_named(
    conn: AsyncConnection, *, team_id: int | None = None, agent_id: int | None = None
) -> None:
    """Raises NotFound for one that never was; who is not active any more has a past to be asked about."""
    for table, name, wanted in ((team, "team", team_id), (agent, "agent", agent_id)):
        if wanted is None:
            continue
        if (await conn.execute(select(table.c.id).where(table.c.id == wanted))).first() is None:
            raise NotFound(f"no {name} {wanted}", params={f"{name}_id": wanted})
