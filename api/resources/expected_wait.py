"""How long somebody who asks a team for a person now will wait."""

from typing import Annotated, Literal

from pydantic import Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.layer.fields import InstantOut, Out, Query, RowId
from api.layer.routes import Call, Data, Routes
from crm_core.errors import NotFound
from crm_core.schema import team
from crm_core.views import iso
from routing import expected_wait
from routing.wait_text import wait_text

routes = Routes("routing")


class ExpectedWaitQuery(Query):
    channel: Literal["voice", "chat", "async", "callback"] = "chat"
    language: Annotated[
        Literal["en", "uk", "ru"] | None, Field(description="of `text`; yours without it")
    ] = None


class ExpectedWaitOut(Out):
    team_id: int
    at: InstantOut
    channel: str
    basis: Annotated[
        str,
        Field(
            description="free | handle_time | pace | recent_worst | closed | nobody: what the number rests on"
        ),
    ]
    wait_s: Annotated[int | None, Field(description="null below ten observations, or with nobody there")]
    low_min: int | None
    high_min: int | None
    ahead: int
    ahead_capped: Annotated[bool, Field(description="there are more ahead than were looked at")]
    position: int
    agents: int
    places: float
    handle_s: int | None
    samples: int
    answered_per_minute: float | None
    p90_s: int | None
    offer_callback: bool
    opens_at: InstantOut | None
    text: str


@routes.get("/teams/{id}/expected-wait")
async def show_expected_wait(
    call: Call,
    conn: AsyncConnection,
    id: RowId,  # noqa: A002
    query: ExpectedWaitQuery,
) -> Annotated[Data, ExpectedWaitOut]:
    """The wait of the next one who joins this team's queue, as a range, with what it rests on."""
    if (await conn.execute(select(team.c.id).where(team.c.id == id, team.c.active))).first() is None:
        raise NotFound(f"no team {id}", params={"team_id": id})
    wait = await expected_wait.estimate(conn, id, query.channel, call.now)
    return {
        "team_id": id,
        "at": iso(call.now),
        **wait.as_data(),
        "opens_at": iso(wait.opens_at),
        "text": wait_text(wait, query.language or call.actor.language),
    }
