"""An agent opens a ticket or lead by hand: for whom, through which account, in which thread."""

import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import select

from api.layer.fields import In, Name, RowId
from api.resources.inquiry_shapes import Requirements, stored_requirements
from crm_core import contacts, inquiries, messages, phone
from crm_core.access import Actor
from crm_core.db.uow import UnitOfWork
from crm_core.envelope import IdentityClaim, IdentityKind
from crm_core.errors import Invalid, NotFound
from crm_core.schema import contact, conversation, identity, inbox, team

#: which address of a person an account of a channel writes to
_ADDRESS = {"email": "email", "telephony": "phone", "telegram": "telegram", "webchat": "visitor"}


class NewContactIn(In):
    name: Name | None = None
    phone: Annotated[str, Field(min_length=3, max_length=40)] | None = None
    email: Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$", max_length=254)] | None = None


class OpenIn(In):
    kind: Literal["ticket", "lead"]
    subject: Annotated[str, Field(min_length=1, max_length=500)]
    contact_id: RowId | None = None
    contact: NewContactIn | None = None
    text: Annotated[str, Field(max_length=messages.MAX_TEXT)] | None = None
    inbox_id: RowId | None = None
    team_id: RowId | None = None
    priority: Literal["low", "normal", "high", "urgent"] | None = None
    language: Annotated[str, Field(pattern="^[a-z]{2,3}$")] | None = None
    requirements: Requirements | None = None


async def open_for_agent(uow: UnitOfWork, actor: Actor, body: OpenIn) -> dict[str, Any]:
    """Open it. The text becomes an internal note: nothing is sent to anybody by this.

    Raises Invalid, NotFound.
    """
    if (body.contact_id is None) == (body.contact is None):
        raise Invalid("give contact_id or contact, one of them", code="bad_contact")
    account = await _account(uow, body.inbox_id)
    if (
        body.team_id is not None
        and await uow.scalar(select(team.c.id).where(team.c.id == body.team_id)) is None
    ):
        raise Invalid("no such team", params={"errors": [{"loc": ["body", "team_id"], "msg": "unknown"}]})
    region = account["region"] if account else "UA"
    person = (
        await _known(uow, body.contact_id)
        if body.contact_id is not None
        else await find_or_create(uow, body.contact or NewContactIn(), region=region)
    )
    thread = await _thread(uow, person, account)
    account = account or (await _account(uow, thread["inbox_id"]) if thread else None)
    opened = await inquiries.open_inquiry(
        uow,
        kind=body.kind,
        contact=person,
        subject=body.subject,
        channel=account["channel"] if account else "desk",
        conversation=thread,
        inbox=account,
        team_id=body.team_id,
        priority=body.priority,
        language=body.language,
        requirements=stored_requirements(body.requirements or {}),
        opened_by=actor.label,
        search=body.text or "",
    )
    if body.text and body.text.strip() and thread is not None:
        await messages.post_message(
            uow,
            conversation_id=thread["id"],
            inquiry_row=opened,
            author_kind="agent",
            author_id=actor.agent_id,
            author_name=actor.name,
            text=body.text,
            internal=True,
        )
    return opened


async def find_or_create(uow: UnitOfWork, given: NewContactIn, *, region: str) -> dict[str, Any]:
    """The contact with this phone or email, else a new one. What an agent types is a claim, not a proof."""
    claims = []
    if given.phone is not None:
        number = phone.normalize(given.phone, region)
        if number is None:
            raise Invalid(
                "this phone number cannot be read",
                params={"errors": [{"loc": ["body", "contact", "phone"], "msg": "not a phone number"}]},
            )
        claims.append(IdentityClaim(IdentityKind.PHONE, number.e164, evidence="agent"))
    if given.email is not None:
        claims.append(IdentityClaim(IdentityKind.EMAIL, given.email.lower(), evidence="agent"))
    if not claims and given.name is None:
        raise Invalid("a contact needs a name, a phone or an email", code="bad_contact")
    return await contacts.resolve(uow, claims, name=given.name)


async def _known(uow: UnitOfWork, contact_id: int) -> dict[str, Any]:
    row = await uow.row(select(contact).where(contact.c.id == contact_id))
    if row is not None and row["merged_into_id"] is not None:
        row = await uow.row(select(contact).where(contact.c.id == row["merged_into_id"]))
    if row is None:
        raise NotFound(f"no contact {contact_id}", params={"contact_id": contact_id})
    return dict(row)


async def _account(uow: UnitOfWork, inbox_id: int | None) -> dict[str, Any] | None:
    if inbox_id is None:
        return None
    row = await uow.row(select(inbox).where(inbox.c.id == inbox_id))
    if row is None:
        raise Invalid("no such inbox", params={"errors": [{"loc": ["body", "inbox_id"], "msg": "unknown"}]})
    return dict(row)


async def _thread(
    uow: UnitOfWork, person: Mapping[str, Any], account: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """The thread in which the customer would be answered: through the account that was named, else where the person
    wrote last. Mail gets a thread of its own for each matter.
    """
    if account is None:
        row = await uow.row(
            select(conversation)
            .where(conversation.c.contact_id == person["id"])
            .order_by(conversation.c.updated_at.desc())
            .limit(1)
        )
        return dict(row) if row else None
    if account["channel"] != "email":
        row = await uow.row(
            select(conversation)
            .where(conversation.c.contact_id == person["id"], conversation.c.inbox_id == account["id"])
            .order_by(conversation.c.updated_at.desc())
            .limit(1)
        )
        if row is not None:
            return dict(row)
    address = await uow.scalar(
        select(identity.c.value)
        .where(identity.c.contact_id == person["id"], identity.c.kind == _ADDRESS.get(account["channel"], ""))
        .order_by(identity.c.verified_at.is_(None), identity.c.last_seen_at.desc())
        .limit(1)
    )
    if address is None:
        return None
    key = f"desk:{secrets.token_hex(8)}" if account["channel"] == "email" else address
    values = {
        "inbox_id": account["id"],
        "contact_id": person["id"],
        "key": key,
        "address": address,
        "channel": account["channel"],
        "subject": None,
        "language": (person["locale"] or account["language"] or "en").split("-")[0].lower()[:10],
        "last_seq": 0,
        "customer_read_seq": 0,
        "agent_read_seq": 0,
        "sticky_agent_id": None,
        "sticky_until": None,
        "last_customer_at": None,
        "created_at": uow.now,
        "updated_at": uow.now,
    }
    new_id = await uow.insert_new(conversation, values, key=["inbox_id", "key"], returning=conversation.c.id)
    if new_id is not None:
        return {**values, "id": int(new_id)}
    row = await uow.row(
        select(conversation).where(conversation.c.inbox_id == account["id"], conversation.c.key == key)
    )
    return dict(row) if row else None
