"""Contacts: the card of a person, everything that ever happened with him, and joining two cards."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import ColumnElement, Select, select, union_all
from sqlalchemy import literal as sql_literal
from sqlalchemy.ext.asyncio import AsyncConnection

from api.layer.fields import In, InstantOut, Name, OpenOut, Out, Page, PageQuery, RowId
from api.layer.paging import cut, decode_cursor, page_of
from api.layer.routes import Call, Data, Routes
from api.resources.message_shapes import show_messages
from api.resources.opening import NewContactIn, find_or_create
from crm_core import contacts
from crm_core.access import Actor, readable_inquiries
from crm_core.db.uow import UnitOfWork
from crm_core.errors import Invalid, NotFound
from crm_core.schema import agent, company, contact, identity, identity_evidence, inquiry, message
from crm_core.schema import call as call_table
from crm_core.search import matches
from crm_core.views import call_view, inquiry_brief, iso
from routing.callbacks import callback_view
from routing.schema import callback

routes = Routes("contacts")


class EvidenceOut(Out):
    kind: str
    at: InstantOut
    source: int | None


class IdentityOut(Out):
    id: int
    kind: str
    value: str
    account: str
    verified: bool
    verified_at: InstantOut | None
    reachable: bool
    evidence: list[EvidenceOut]


class CompanyOut(Out):
    id: int
    name: str | None


class ContactOut(Out):
    id: int
    name: str | None
    company_id: int | None
    company: CompanyOut | None
    manager_id: int | None
    locale: str | None
    timezone: str | None
    vip: bool
    blocked: bool
    attributes: dict[str, Any]
    identities: list[IdentityOut]
    created_at: InstantOut
    updated_at: InstantOut
    merged_into_id: int | None


class ContactsQuery(PageQuery):
    q: Annotated[str, Field(max_length=200)] | None = None
    manager_id: RowId | None = None


class ContactChangeIn(In):
    name: Name | None = None
    manager_id: RowId | None = None
    company_id: RowId | None = None
    locale: Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$", max_length=20)] | None = None
    timezone: Annotated[str, Field(max_length=60)] | None = None
    vip: bool | None = None
    blocked: bool | None = None
    attributes: dict[str, Any] | None = None


class MergeIn(In):
    into_id: RowId


class TimelineItemOut(OpenOut):
    at: InstantOut
    kind: Literal["message", "call", "inquiry", "callback"]


async def show_contacts(conn: AsyncConnection, rows: Sequence[Mapping[Any, Any]]) -> list[Data]:
    """Rows of `contact` with company and addresses: three more queries."""
    ids = [r["id"] for r in rows]
    if not ids:
        return []
    firms = {
        r["id"]: r
        for r in (
            await conn.execute(
                select(company.c.id, company.c.name).where(
                    company.c.id.in_([r["company_id"] for r in rows if r["company_id"] is not None])
                )
            )
        ).mappings()
    }
    addresses = (
        (await conn.execute(select(identity).where(identity.c.contact_id.in_(ids)).order_by(identity.c.id)))
        .mappings()
        .all()
    )
    proofs: dict[int, list[Data]] = {}
    found = await conn.execute(
        select(identity_evidence)
        .where(identity_evidence.c.identity_id.in_([a["id"] for a in addresses]))
        .order_by(identity_evidence.c.id)
    )
    for row in found.mappings():
        proofs.setdefault(row["identity_id"], []).append(
            {"kind": row["kind"], "at": iso(row["at"]), "source": row["inbound_id"]}
        )
    mine: dict[int, list[Data]] = {}
    for a in addresses:
        mine.setdefault(a["contact_id"], []).append(
            {
                "id": a["id"],
                "kind": a["kind"],
                "value": a["value"],
                "account": a["account"],
                "verified": a["verified_at"] is not None,
                "verified_at": iso(a["verified_at"]),
                "reachable": a["unreachable_at"] is None,
                "evidence": proofs.get(a["id"], []),
            }
        )
    return [
        {
            "id": r["id"],
            "name": r["name"],
            "company_id": r["company_id"],
            "company": dict(firms[r["company_id"]]) if r["company_id"] in firms else None,
            "manager_id": r["manager_id"],
            "locale": r["locale"],
            "timezone": r["timezone"],
            "vip": r["vip"],
            "blocked": r["blocked"],
            "attributes": r["attributes"],
            "identities": mine.get(r["id"], []),
            "created_at": iso(r["created_at"]),
            "updated_at": iso(r["updated_at"]),
            "merged_into_id": r["merged_into_id"],
        }
        for r in rows
    ]


async def _one(conn: AsyncConnection, contact_id: int) -> Data:
    rows = (await conn.execute(select(contact).where(contact.c.id == contact_id))).mappings().all()
    if not rows:
        raise NotFound(f"no contact {contact_id}", params={"contact_id": contact_id})
    return (await show_contacts(conn, rows))[0]


@routes.get("/contacts")
async def list_contacts(conn: AsyncConnection, query: ContactsQuery) -> Annotated[Data, Page[ContactOut]]:
    """People, the newest cards first; `q` searches names and addresses."""
    statement = select(contact).where(contact.c.merged_into_id.is_(None))
    if query.q:
        statement = statement.where(matches(conn.dialect.name, contact, query.q))
    if query.manager_id is not None:
        statement = statement.where(contact.c.manager_id == query.manager_id)
    page = page_of(statement, [(contact.c.id, True)], cursor=query.cursor, limit=query.limit)
    rows, following = cut((await conn.execute(page)).mappings().all(), query.limit, lambda r: (r["id"],))
    return {"items": await show_contacts(conn, rows), "next": following}


@routes.get("/contacts/{id}")
async def show(conn: AsyncConnection, id: RowId) -> Annotated[Data, ContactOut]:  # noqa: A002
    """One card. A merged one says into which."""
    return await _one(conn, id)


@routes.post("/contacts", status=201)
async def create(uow: UnitOfWork, body: NewContactIn) -> Annotated[Data, ContactOut]:
    """Make a card, or find the one with this phone or email."""
    person = await find_or_create(uow, body, region="UA")
    return await _one(uow.conn, person["id"])


@routes.patch("/contacts/{id}", errors=(409,))
async def change(
    call: Call,
    uow: UnitOfWork,
    id: RowId,  # noqa: A002
    body: ContactChangeIn,
) -> Annotated[Data, ContactOut]:
    """Change a card."""
    changes = body.changes()
    for name in ("vip", "blocked", "attributes"):
        if name in changes and changes[name] is None:
            raise Invalid(
                f"{name} cannot be null",
                params={"errors": [{"loc": ["body", name], "msg": "cannot be null"}]},
            )
    for name, table in (("manager_id", agent), ("company_id", company)):
        wanted = changes.get(name)
        if wanted is not None and await uow.scalar(select(table.c.id).where(table.c.id == wanted)) is None:
            raise Invalid(
                f"no such {name[:-3]}", params={"errors": [{"loc": ["body", name], "msg": "unknown"}]}
            )
    await contacts.update_contact(uow, id, changes, actor=call.actor.label)
    return await _one(uow.conn, id)


@routes.post("/contacts/{id}/merge", role="supervisor")
async def merge(call: Call, uow: UnitOfWork, id: RowId, body: MergeIn) -> Annotated[Data, ContactOut]:  # noqa: A002
    """Join this card into another; its id stays and redirects."""
    await contacts.merge_contacts(uow, id, body.into_id, actor=call.actor.label, reason="by_hand")
    return await _one(uow.conn, body.into_id)


@routes.get("/contacts/{id}/timeline")
async def timeline(
    call: Call,
    conn: AsyncConnection,
    id: RowId,  # noqa: A002
    query: PageQuery,
) -> Annotated[Data, Page[TimelineItemOut]]:
    """Everything that happened with this person and that the caller may read, newest first."""
    card = (
        await conn.execute(select(contact.c.id, contact.c.merged_into_id).where(contact.c.id == id))
    ).first()
    if card is None:
        raise NotFound(f"no contact {id}", params={"contact_id": id})
    ids = _happened(card.merged_into_id or id, call.actor).subquery()
    statement = select(ids)
    if query.cursor is not None:
        at, rank, row_id = decode_cursor(query.cursor, (int, int, int))
        statement = statement.where(_before(ids, at, rank, row_id))
    statement = statement.order_by(ids.c.at.desc(), ids.c.rank.desc(), ids.c.id.desc()).limit(query.limit + 1)
    rows, following = cut(
        (await conn.execute(statement)).mappings().all(), query.limit, lambda r: (r["at"], r["rank"], r["id"])
    )
    return {"items": await _show_timeline(conn, rows), "next": following}


#: kinds of a timeline by their rank in its order
_RANKS = ("inquiry", "message", "call", "callback")


def _before(ids: Any, at: int, rank: int, row_id: int) -> ColumnElement[bool]:
    earlier: ColumnElement[bool] = (
        (ids.c.at < at)
        | ((ids.c.at == at) & (ids.c.rank < rank))
        | ((ids.c.at == at) & (ids.c.rank == rank) & (ids.c.id < row_id))
    )
    return earlier


def _happened(contact_id: int, actor: Actor) -> Any:
    """(at, rank, id) of all that belongs to a person's inquiries, calls and callbacks."""
    mine = select(inquiry.c.id).where(inquiry.c.contact_id == contact_id, readable_inquiries(actor))
    parts: list[Select[Any]] = [
        select(
            inquiry.c.created_at.label("at"), sql_literal(0).label("rank"), inquiry.c.id.label("id")
        ).where(inquiry.c.id.in_(mine)),
        select(message.c.created_at, sql_literal(1), message.c.id).where(
            message.c.inquiry_id.in_(mine), message.c.kind != "call"
        ),
        select(call_table.c.created_at, sql_literal(2), call_table.c.id).where(
            call_table.c.contact_id == contact_id,
            call_table.c.inquiry_id.is_(None) | call_table.c.inquiry_id.in_(mine),
        ),
        select(callback.c.created_at, sql_literal(3), callback.c.id).where(
            callback.c.contact_id == contact_id,
            callback.c.inquiry_id.is_(None) | callback.c.inquiry_id.in_(mine),
        ),
    ]
    return union_all(*parts)


async def _show_timeline(conn: AsyncConnection, rows: Sequence[Mapping[Any, Any]]) -> list[Data]:
    wanted = {rank: [r["id"] for r in rows if r["rank"] == rank] for rank in range(len(_RANKS))}
    shown: dict[tuple[int, int], Data] = {}
    for rank, table in enumerate((inquiry, message, call_table, callback)):
        if not wanted[rank]:
            continue
        found = (await conn.execute(select(table).where(table.c.id.in_(wanted[rank])))).mappings().all()
        views: list[Data]
        if rank == 1:
            views = await show_messages(conn, found)
        else:
            views = [{0: inquiry_brief, 2: call_view, 3: callback_view}[rank](dict(r)) for r in found]
        shown |= {(rank, view["id"]): {_RANKS[rank]: view} for view in views}
    return [{"at": iso(r["at"]), "kind": _RANKS[r["rank"]], **shown[(r["rank"], r["id"])]} for r in rows]
