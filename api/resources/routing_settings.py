"""The rules of a team's routing: what is in force, what an edit would change, and every version there ever was."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.layer.fields import In, InstantOut, Out, Page, PageQuery, RowId
from api.layer.paging import cut, page_of
from api.layer.routes import Call, Data, Routes
from crm_core.db.uow import UnitOfWork
from crm_core.errors import NotFound
from crm_core.schema import team
from crm_core.views import iso
from routing import configuration, configuration_rollout, store
from routing.configuration_preview import preview
from routing.configuration_values import Change, as_json, in_words, marked
from routing.schema import routing_version

routes = Routes("routing")

Version = Annotated[int, Field(ge=1, le=2**31 - 1)]
Comment = Annotated[str, Field(max_length=configuration.MAX_COMMENT)]
Settings = Annotated[
    dict[str, Any], Field(description="what is missing has its default, see docs/routing.md")
]


class ValueOut(Out):
    path: str
    value: Any
    default: Any
    is_default: bool


class RolloutOut(Out):
    version: int
    phase: Annotated[str, Field(description="agents | items | late | done")]
    agents: int
    items: int
    changed: int
    started_at: InstantOut
    finished_at: InstantOut | None


class RoutingOut(Out):
    team_id: int
    version: int
    settings: Annotated[dict[str, Any], Field(description="as they were said, without defaults")]
    effective: Annotated[dict[str, Any], Field(description="with defaults; can be put back as it is")]
    values: list[ValueOut]
    problem: Annotated[str | None, Field(description="the stored settings are wrong and defaults are used")]
    rollout: RolloutOut | None


class RoutingIn(In):
    settings: Settings
    expected_version: Annotated[
        Version | None, Field(description="refuse with 409 if another version is in force by now")
    ] = None
    comment: Comment | None = None


class PreviewIn(In):
    settings: Settings


class RollbackIn(In):
    expected_version: Version | None = None
    comment: Comment | None = None


class ChangeOut(Out):
    path: str
    before: Any
    after: Any
    text: str


class VersionOut(Out):
    team_id: int
    version: int
    kind: Annotated[str, Field(description="settings | people")]
    settings: dict[str, Any]
    changes: list[ChangeOut]
    comment: str | None
    source: Annotated[str, Field(description="api | import | admin | rollback | first")]
    actor: str
    created_at: InstantOut


class SideOut(Out):
    scope: str
    agents: list[dict[str, Any]]
    agents_in_all: int
    winner_id: int | None
    order_key: InstantOut
    widens_at: InstantOut | None
    parked_until: InstantOut | None


class ExampleOut(Out):
    item_id: int
    inquiry_id: int | None
    source_kind: str
    channel: str
    before: SideOut
    after: SideOut
    position_before: int
    position_after: int


class WaitingOut(Out):
    examined: int
    more: Annotated[bool, Field(description="more wait than were looked at")]
    placed_differently: int
    could_be_taken_before: int
    could_be_taken_after: int
    order_changed: int
    examples: list[ExampleOut]


class PreviewOut(Out):
    team_id: int
    version: int
    changes: list[ChangeOut]
    waiting: WaitingOut


@routes.get("/teams/{id}/routing", role="supervisor")
async def show_routing(conn: AsyncConnection, id: RowId) -> Annotated[Data, RoutingOut]:  # noqa: A002
    """The rules in force, every value with its default, and how far the last edit has got."""
    return await _routing(conn, id)


@routes.put("/teams/{id}/routing", role="admin", errors=(409,))
async def change_routing(
    call: Call,
    uow: UnitOfWork,
    id: RowId,  # noqa: A002
    body: RoutingIn,
) -> Annotated[Data, RoutingOut]:
    """Put rules in force as a new version; what waits follows in batches. The same again changes nothing."""
    await configuration.edit(
        uow,
        id,
        body.settings,
        actor=call.actor.label,
        comment=body.comment,
        expected_version=body.expected_version,
    )
    return await _routing(uow.conn, id)


@routes.post("/teams/{id}/routing/preview", role="supervisor")
async def preview_routing(
    call: Call,
    conn: AsyncConnection,
    id: RowId,  # noqa: A002
    body: PreviewIn,
) -> Annotated[Data, PreviewOut]:
    """What these rules would change, in values, in words, and for what waits now. Changes nothing."""
    await _known(conn, id)
    return await preview(conn, id, body.settings, language=call.actor.language, now=call.now)


@routes.get("/teams/{id}/routing/versions", role="supervisor")
async def list_versions(
    call: Call,
    conn: AsyncConnection,
    id: RowId,  # noqa: A002
    query: PageQuery,
) -> Annotated[Data, Page[VersionOut]]:
    """All versions, the newest first: who changed what, when and why."""
    await _known(conn, id)
    statement = select(routing_version).where(routing_version.c.team_id == id)
    page = page_of(statement, [(routing_version.c.version, True)], cursor=query.cursor, limit=query.limit)
    rows, following = cut((await conn.execute(page)).mappings().all(), query.limit, lambda r: (r["version"],))
    return {"items": [_version(r, call.actor.language) for r in rows], "next": following}


@routes.get("/teams/{id}/routing/versions/{version}", role="supervisor")
async def show_version(
    call: Call,
    conn: AsyncConnection,
    id: RowId,  # noqa: A002
    version: Version,
) -> Annotated[Data, VersionOut]:
    """One version."""
    row = await configuration.version(conn, id, version)
    if row is None:
        raise NotFound(f"team {id} has no version {version}", params={"team_id": id, "version": version})
    return _version(row, call.actor.language)


@routes.post("/teams/{id}/routing/rollback/{version}", role="admin", errors=(409,))
async def roll_back(
    call: Call,
    uow: UnitOfWork,
    id: RowId,  # noqa: A002
    version: Version,
    body: RollbackIn,
) -> Annotated[Data, RoutingOut]:
    """Put the settings of an earlier version in force again, as a new version."""
    await configuration.rollback(
        uow, id, version, actor=call.actor.label, comment=body.comment, expected_version=body.expected_version
    )
    return await _routing(uow.conn, id)


async def _known(conn: AsyncConnection, team_id: int) -> Mapping[Any, Any]:
    row = (await conn.execute(select(team).where(team.c.id == team_id))).mappings().first()
    if row is None:
        raise NotFound(f"no team {team_id}", params={"team_id": team_id})
    return row


async def _routing(conn: AsyncConnection, team_id: int) -> Data:
    row = await _known(conn, team_id)
    settings, problem = store.settings_of(row["settings"])
    return {
        "team_id": team_id,
        "version": settings.version,
        "settings": {k: v for k, v in row["settings"].items() if k != "version"},
        "effective": as_json(settings),
        "values": marked(settings),
        "problem": problem,
        "rollout": await configuration_rollout.progress(conn, team_id),
    }


def _version(row: Mapping[Any, Any], language: str) -> Data:
    return {
        "team_id": row["team_id"],
        "version": row["version"],
        "kind": row["kind"],
        "settings": row["settings"],
        "changes": [{**c, "text": in_words(Change(**c), language)} for c in row["changes"]],
        "comment": row["comment"],
        "source": row["source"],
        "actor": row["actor"],
        "created_at": iso(row["created_at"]),
    }
