"""What I am told: notices, pages to acknowledge, and who is on call."""

from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.layer.fields import Comma, In, InstantOut, Out, Page, PageQuery, RowId
from api.layer.paging import cut, page_of
from api.layer.routes import Call, Data, Routes
from crm_core import notices
from crm_core.db.uow import UnitOfWork
from crm_core.errors import NotFound
from crm_core.schema import notification, team
from crm_core.views import iso
from routing.schema import sla_page
from routing.sla import pages, people
from routing.sla.notice_words import line_text

routes = Routes("notices")

PageState = Literal["open", "acknowledged", "answered", "exhausted"]


class LineOut(Out):
    text: Annotated[str, Field(description="in the caller's language")]
    inquiry_id: int | None
    at: InstantOut
    data: dict[str, Any]


class NoticeOut(Out):
    id: int
    kind: Literal["sla", "page", "storm"]
    count: Annotated[int, Field(description="of all lines; the first ten are in `lines`")]
    created_at: InstantOut
    updated_at: InstantOut
    read_at: InstantOut | None
    lines: list[LineOut]


class NoticesOut(Page[NoticeOut]):
    unread: Annotated[int, Field(description="counted up to 100")]


class NoticesQuery(PageQuery):
    unread: bool | None = None


class ReadIn(In):
    up_to: Annotated[RowId | None, Field(description="the newest notice that was seen; none: all")] = None


class ReadOut(Out):
    read: int


class MailIn(In):
    wanted: bool


class MailOut(Out):
    wanted: bool
    inbox_id: Annotated[
        int | None, Field(description="by which inbox; null: none is named, nothing is mailed")
    ]


class MailInboxIn(In):
    inbox_id: RowId | None


class MailInboxOut(Out):
    inbox_id: int | None


class PageOut(Out):
    id: int
    team_id: int | None
    inquiry_id: int
    state: PageState
    times: int
    asked: int
    next_at: InstantOut | None
    acknowledged_by: int | None
    acknowledged_at: InstantOut | None
    created_at: InstantOut


class PagesQuery(PageQuery):
    state: Annotated[list[PageState], Comma] | None = None


class OnCallOut(Out):
    agents: list[int]
    roles: list[str]
    every_minutes: int
    times: int
    webhook: str | None
    people: Annotated[list[int], Field(description="whom a page calls now")]


class OnCallIn(In):
    agents: Annotated[list[RowId], Field(max_length=people.MAX_PEOPLE)] = Field(default_factory=list)
    roles: Annotated[list[Literal["lead", "member", "supervisor", "admin"]], Field(max_length=4)] = Field(
        default_factory=list
    )
    every_minutes: Annotated[int, Field(ge=1, le=1440)] = 5
    times: Annotated[int, Field(ge=1, le=50)] = 3
    webhook: Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_-]{0,59}$")] | None = None


@routes.get("/me/notifications")
async def my_notifications(
    call: Call, conn: AsyncConnection, query: NoticesQuery
) -> Annotated[Data, NoticesOut]:
    """What I was told, the newest first: one notice for each minute, with its lines."""
    mine = select(notification).where(
        notification.c.agent_id == call.actor.agent_id, notification.c.lines > 0
    )
    if query.unread is not None:
        mine = mine.where(
            notification.c.read_at.is_(None) if query.unread else notification.c.read_at.is_not(None)
        )
    page = page_of(mine, [(notification.c.id, True)], cursor=query.cursor, limit=query.limit)
    rows, following = cut((await conn.execute(page)).mappings().all(), query.limit, lambda r: (r["id"],))
    return {
        "items": await _with_lines(call, conn, rows),
        "next": following,
        "unread": await notices.unread(conn, call.actor.agent_id),
    }


async def _with_lines(call: Call, conn: AsyncConnection, rows: Any) -> list[Data]:
    lines = await notices.lines_of(conn, [row["id"] for row in rows])
    return [
        notices.view(
            row, lines[row["id"]], [line_text(x["data"], call.actor.language) for x in lines[row["id"]]]
        )
        for row in rows
    ]


@routes.post("/me/notifications/read")
async def read_all(call: Call, uow: UnitOfWork, body: ReadIn) -> Annotated[Data, ReadOut]:
    """I have seen them, up to this one."""
    return {"read": await notices.mark_all_read(uow, call.actor.agent_id, body.up_to)}


@routes.post("/me/notifications/{id}/read")
async def read_one(call: Call, uow: UnitOfWork, id: RowId) -> Annotated[Data, NoticeOut]:  # noqa: A002
    """I have seen this one."""
    row = await notices.mark_read(uow, call.actor.agent_id, id)
    return (await _with_lines(call, uow.conn, [row]))[0]


@routes.put("/me/notifications/mail")
async def want_mail(call: Call, uow: UnitOfWork, body: MailIn) -> Annotated[Data, MailOut]:
    """Have my notices mailed too, at the end of their minute, or not any more."""
    await notices.want_mail(uow, call.actor.agent_id, wanted=body.wanted)
    return {"wanted": body.wanted, "inbox_id": await notices.mail_inbox(uow.conn)}


@routes.put("/notifications/mail-inbox", role="admin")
async def set_mail_inbox(call: Call, uow: UnitOfWork, body: MailInboxIn) -> Annotated[Data, MailInboxOut]:
    """The email inbox by whose account notices are mailed; null: none are."""
    await notices.set_mail_inbox(uow, body.inbox_id, actor=call.actor.label)
    return {"inbox_id": body.inbox_id}


def _page(row: Any) -> Data:
    names = ("id", "inquiry_id", "state", "times", "asked", "acknowledged_by")
    return {name: row[name] for name in names} | {
        "team_id": row["team_id"] or None,
        "next_at": iso(row["next_at"]),
        "acknowledged_at": iso(row["acknowledged_at"]),
        "created_at": iso(row["created_at"]),
    }


@routes.get("/pages")
async def list_pages(call: Call, conn: AsyncConnection, query: PagesQuery) -> Annotated[Data, Page[PageOut]]:
    """Calls for help, the newest first. Agents see those of their teams."""
    statement = select(sla_page)
    if not call.actor.has_role("supervisor"):
        statement = statement.where(sla_page.c.team_id.in_([0, *call.actor.team_ids]))
    if query.state:
        statement = statement.where(sla_page.c.state.in_(query.state))
    page = page_of(statement, [(sla_page.c.id, True)], cursor=query.cursor, limit=query.limit)
    rows, following = cut((await conn.execute(page)).mappings().all(), query.limit, lambda r: (r["id"],))
    return {"items": [_page(row) for row in rows], "next": following}


@routes.post("/pages/{id}/acknowledge", errors=(409,))
async def acknowledge(call: Call, uow: UnitOfWork, id: RowId) -> Annotated[Data, PageOut]:  # noqa: A002
    """I look after it: nobody is called any more. For people on call and supervisors."""
    return _page(await pages.acknowledge(uow, call.actor, id))


async def _on_call(conn: AsyncConnection, team_id: int) -> Data:
    wanted = await people.on_call_list(conn, team_id)
    return {**wanted.to_data(), "people": list(await people.on_call(conn, team_id, wanted))}


@routes.get("/teams/{id}/on-call")
async def show_on_call(conn: AsyncConnection, id: RowId) -> Annotated[Data, OnCallOut]:  # noqa: A002
    """Who is called when a promise of this team needs somebody now."""
    if await conn.scalar(select(team.c.id).where(team.c.id == id)) is None:
        raise NotFound(f"no team {id}", params={"team_id": id})
    return await _on_call(conn, id)


@routes.put("/teams/{id}/on-call", role="supervisor")
async def set_on_call(
    call: Call,
    uow: UnitOfWork,
    id: RowId,  # noqa: A002
    body: OnCallIn,
) -> Annotated[Data, OnCallOut]:
    """Write the on-call list of a team: people by name or by role, how often, and a webhook to call with them."""
    wanted = people.OnCall(
        agents=tuple(dict.fromkeys(body.agents)), roles=tuple(dict.fromkeys(body.roles)),
        every_minutes=body.every_minutes, times=body.times, webhook=body.webhook,
    )  # fmt: skip
    await people.set_on_call(uow, id, wanted, actor=call.actor.label)
    return await _on_call(uow.conn, id)
