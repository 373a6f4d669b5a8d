"""The wallboard and the search over everything."""

from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.layer.fields import InstantOut, OpenOut, Out, Query
from api.layer.routes import Call, Data, Routes
from api.resources.contacts import ContactOut, show_contacts
from api.resources.inquiry_shapes import InquiryOut, inquiry_statement, show_inquiries
from crm_core.access import readable_inquiries
from crm_core.schema import contact, inquiry
from crm_core.search import matches
from routing import wall

routes = Routes("overview")


class WallOut(OpenOut):
    at: InstantOut
    teams: list[dict[str, Any]]
    agents: list[dict[str, Any]]
    breaches: list[dict[str, Any]]
    callbacks: dict[str, int]


class SearchQuery(Query):
    q: Annotated[str, Field(min_length=1, max_length=200)]
    limit: Annotated[int, Field(ge=1, le=50)] = 10


class FoundOut(Out):
    contacts: list[ContactOut]
    inquiries: list[InquiryOut]


@routes.get("/wall", role="supervisor")
async def show_wall(call: Call, conn: AsyncConnection) -> Annotated[Data, WallOut]:
    """Queues, people and broken promises, now."""
    return await wall.snapshot(conn, call.now)


@routes.get("/search")
async def search(call: Call, conn: AsyncConnection, query: SearchQuery) -> Annotated[Data, FoundOut]:
    """People and inquiries by words, addresses, numbers; all words must be there, each may be a beginning."""
    dialect = conn.dialect.name
    people = (
        (
            await conn.execute(
                select(contact)
                .where(contact.c.merged_into_id.is_(None), matches(dialect, contact, query.q))
                .order_by(contact.c.updated_at.desc(), contact.c.id.desc())
                .limit(query.limit)
            )
        )
        .mappings()
        .all()
    )
    found = (
        (
            await conn.execute(
                inquiry_statement()
                .where(readable_inquiries(call.actor), matches(dialect, inquiry, query.q))
                .order_by(inquiry.c.updated_at.desc(), inquiry.c.id.desc())
                .limit(query.limit)
            )
        )
        .mappings()
        .all()
    )
    return {
        "contacts": await show_contacts(conn, people),
        "inquiries": await show_inquiries(conn, found, now=call.now),
    }
