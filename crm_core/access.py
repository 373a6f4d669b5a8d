"""Who may see and do what: decided here and nowhere else.

Agents see inquiries of their teams, inquiries assigned to them and inquiries of no team. Supervisors and admins see
all. One installation serves one organisation, so there is nothing above that.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, or_, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.db.uow import Row, UnitOfWork, read_row
from crm_core.errors import Forbidden, NotFound
from crm_core.events import Audience
from crm_core.schema import inquiry

ROLES = ("agent", "supervisor", "admin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who is asking."""

    agent_id: int
    role: str
    team_ids: tuple[int, ...] = ()
    name: str = ""
    language: str = "en"

    @property
    def label(self) -> str:
        return f"agent:{self.agent_id}"

    def has_role(self, role: str) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)

    def need(self, role: str) -> None:
        """Raises Forbidden below `role`."""
        if not self.has_role(role):
            raise Forbidden(f"this needs the role {role}", code="role_needed", params={"role": role})


def readable_inquiries(actor: Actor) -> ColumnElement[bool]:
    """The condition on `inquiry` for what this actor may read."""
    if actor.has_role("supervisor"):
        return true()
    mine = [inquiry.c.assignee_id == actor.agent_id, inquiry.c.team_id.is_(None)]
    if actor.team_ids:
        mine.append(inquiry.c.team_id.in_(actor.team_ids))
    return or_(*mine)


def may_read_inquiry(actor: Actor, row: Mapping[str, Any]) -> bool:
    return (
        actor.has_role("supervisor")
        or row["assignee_id"] == actor.agent_id
        or row["team_id"] is None
        or row["team_id"] in actor.team_ids
    )


async def access_inquiry(
    source: UnitOfWork | AsyncConnection, actor: Actor, inquiry_id: int, *, for_update: bool = False
) -> Row:
    """The inquiry if the actor may read it. Raises NotFound both for a missing and for a foreign one: an id must
    not tell outsiders that it exists.
    """
    conn = source.conn if isinstance(source, UnitOfWork) else source
    statement = select(inquiry).where(inquiry.c.id == inquiry_id)
    if for_update and isinstance(source, UnitOfWork):
        statement = source.lock(statement)
    row = await read_row(conn, statement)
    if row is None or not (may_read_inquiry(actor, row) or await _reads_what_swallowed(conn, actor, row)):
        raise NotFound(f"no inquiry {inquiry_id}", params={"inquiry_id": inquiry_id})
    return row


async def _reads_what_swallowed(conn: AsyncConnection, actor: Actor, row: Row) -> bool:
    """A merged inquiry is part of the one it was merged into: who may read that, may read this."""
    seen: set[int] = set()
    while row["merged_into_id"] is not None and row["id"] not in seen:
        seen.add(row["id"])
        following = await read_row(conn, select(inquiry).where(inquiry.c.id == row["merged_into_id"]))
        if following is None:
            return False
        if may_read_inquiry(actor, following):
            return True
        row = following
    return False


def may_see(actor: Actor, audience: Mapping[str, Any]) -> bool:
    """Whether an event with this stored audience goes to this actor's feed."""
    return (
        actor.has_role("supervisor")
        or bool(audience.get("everyone"))
        or actor.agent_id in audience.get("agents", ())
        or any(team in actor.team_ids for team in audience.get("teams", ()))
    )


def inquiry_audience(row: Mapping[str, Any], *also: int | None) -> Audience:
    """Who hears of this inquiry: its team, its assignee, and `also` (a former assignee, say)."""
    agents = {a for a in (row["assignee_id"], *also) if a is not None}
    team = row["team_id"]
    return Audience(
        teams=(team,) if team is not None else (), agents=tuple(sorted(agents)), everyone=team is None
    )
