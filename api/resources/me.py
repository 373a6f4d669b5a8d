"""The caller himself: profile, presence, open offers."""

from typing import Annotated, Literal

from pydantic import Field
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from api.layer.fields import In, Name, Out
from api.layer.routes import Call, Data, Routes
from api.resources.offers import OffersOut
from api.resources.people_shapes import AgentOut, PresenceOut, TeamOut, load_agents, load_presence, load_teams
from crm_core.db.uow import UnitOfWork
from crm_core.event_log import newest
from crm_core.schema import agent
from routing import presence
from routing.offer_view import open_offers

routes = Routes("me")

#: what the screens may offer; the server decides again at every request
PERMISSIONS = {
    "agent": ["inquiries.read_own", "inquiries.write_own", "contacts.write", "callbacks.write"],
    "supervisor": [
        "inquiries.read_all",
        "inquiries.assign",
        "wall.read",
        "inbound.manage",
        "contacts.merge",
        "agents.read",
    ],
    "admin": [
        "agents.write",
        "teams.write",
        "inboxes.write",
        "sla.write",
        "flows.write",
        "tokens.write",
        "jobs.manage",
    ],
}


class MeOut(Out):
    agent: AgentOut
    presence: PresenceOut
    teams: list[TeamOut]
    permissions: list[str]
    feed_cursor: Annotated[str, Field(description="follow the feed from here: /api/v1/feed?after=")]


class MeIn(In):
    name: Name | None = None
    language: Literal["en", "uk", "ru"] | None = None


class PresenceIn(In):
    presence: Literal["online", "break", "dnd", "offline", "away_reassign"]


@routes.get("/me")
async def me(call: Call, conn: AsyncConnection) -> Annotated[Data, MeOut]:
    """Who I am, where I stand, and where the feed is now."""
    actor = call.actor
    roles = list(PERMISSIONS)
    granted = [p for role in roles[: roles.index(actor.role) + 1] for p in PERMISSIONS[role]]
    # The position is read first: what happens while the rest is read then comes by the feed.
    cursor = await newest(conn, tx_offset=call.db.tx_offset)
    return {
        "agent": (await load_agents(conn, [actor.agent_id]))[0],
        "presence": await load_presence(conn, actor.agent_id),
        "teams": await load_teams(conn, actor.team_ids),
        "permissions": granted,
        "feed_cursor": str(cursor),
    }


async def _change(call: Call, uow: UnitOfWork, body: MeIn) -> Data:
    changes = {k: v for k, v in body.changes().items() if v is not None}
    if changes:
        await uow.execute(update(agent).where(agent.c.id == call.actor.agent_id).values(**changes))
    return (await load_agents(uow.conn, [call.actor.agent_id]))[0]


@routes.put("/me")
async def put_me(call: Call, uow: UnitOfWork, body: MeIn) -> Annotated[Data, AgentOut]:
    """Change my name or the language of my screens."""
    return await _change(call, uow, body)


@routes.patch("/me")
async def patch_me(call: Call, uow: UnitOfWork, body: MeIn) -> Annotated[Data, AgentOut]:
    """The same as PUT."""
    return await _change(call, uow, body)


@routes.put("/me/presence")
async def set_presence(call: Call, uow: UnitOfWork, body: PresenceIn) -> Annotated[Data, PresenceOut]:
    """Go online, on a break, offline. Online brings work at once; anything else withdraws open offers."""
    await presence.set_presence(uow, call.actor.agent_id, body.presence)
    return await load_presence(uow.conn, call.actor.agent_id)


@routes.post("/me/presence")
async def post_presence(call: Call, uow: UnitOfWork, body: PresenceIn) -> Annotated[Data, PresenceOut]:
    """The same as PUT."""
    await presence.set_presence(uow, call.actor.agent_id, body.presence)
    return await load_presence(uow.conn, call.actor.agent_id)


@routes.post("/me/heartbeat")
async def heartbeat(call: Call, uow: UnitOfWork) -> Annotated[Data, PresenceOut]:
    """Renew the lease on my presence; an open feed does it by itself."""
    await presence.heartbeat(uow, call.actor.agent_id)
    return await load_presence(uow.conn, call.actor.agent_id)


@routes.get("/me/offers")
async def my_offers(call: Call, conn: AsyncConnection) -> Annotated[Data, OffersOut]:
    """My open offers, the most urgent first."""
    items = await open_offers(conn, agent_id=call.actor.agent_id, language=call.actor.language)
    return {"items": items, "next": None}
