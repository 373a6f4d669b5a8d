"""Builders for tests of promises: a PBX's account, a booked promise, the PBX's words, short looks at the rows."""

from typing import Any

from sqlalchemy import select

from crm_core import calls
from crm_core.clock import HOUR, from_iso
from crm_core.db.engine import Database
from crm_core.envelope import CallEvent, Envelope, IdentityClaim, IdentityKind, Kind, Sender
from crm_core.schema import call, contact, event, inbox
from routing import callbacks, offers
from routing import listeners as routing_listeners
from routing.schema import callback, callback_attempt
from routing.sla import service as sla_service
from tests.routing.engine.desk import a_contact, open_offers, rows

MONDAY_NOON = from_iso("2026-11-23T10:00:00Z")  # 12:00 in Kyiv
PHONE = "+380501234567"


def wire(db: Database) -> None:
    """The listeners that the composition root registers, without the bots'."""
    table: dict[str, list[Any]] = {}
    for part in (sla_service.LISTENERS, routing_listeners.LISTENERS, callbacks.LISTENERS):
        for kind, functions in part.items():
            table.setdefault(kind, []).extend(functions)
    db.listeners = table


async def a_pbx(db: Database, **config: Any) -> dict[str, Any]:
    async with db.transaction() as uow:
        values = {
            "key": "pbx" * 8,
            "channel": "telephony",
            "name": "PBX",
            "secret": "s",
            "config": {"vendor": "generic", "originate_url": "http://127.0.0.1:1/dial", **config},
            "address": None,
            "team_id": None,
            "default_kind": "lead",
            "flow_key": None,
            "region": "UA",
            "language": "uk",
            "priority": "normal",
            "enabled": True,
            "created_at": uow.now,
        }
        return {**values, "id": await uow.insert(inbox, values)}


async def booked(db: Database, **more: Any) -> dict[str, Any]:
    contact_id = more.pop("contact_id", None) or await a_contact(db)
    async with db.transaction() as uow:
        person = await uow.row(select(contact).where(contact.c.id == contact_id))
        assert person is not None
        return await callbacks.book(
            uow,
            **{
                "contact": person,
                "raw_phone": "050 123 45 67",
                "window_start": MONDAY_NOON + HOUR,
                "source": "desk",
                "created_by": "agent:1",
                "mode": "agent_first",
                **more,
            },
        )


async def now_is(db: Database, callback_id: int) -> dict[str, Any]:
    (row,) = await rows(db, callback, callback.c.id == callback_id)
    return row


async def attempts(db: Database, callback_id: int) -> list[dict[str, Any]]:
    return await rows(db, callback_attempt, callback_attempt.c.callback_id == callback_id)


async def somebody_accepts(db: Database) -> int:
    """The agent who is offered something takes it. Returns who."""
    (open_offer,) = await open_offers(db)
    async with db.transaction() as uow:
        await offers.accept(uow, open_offer["id"], open_offer["agent_id"], f"accept-{open_offer['id']}")
    return int(open_offer["agent_id"])


async def kinds(db: Database) -> list[str]:
    return [e["kind"] for e in await rows(db, event) if e["kind"].startswith("callback.")]


async def says(
    db: Database, box: dict[str, Any], call_id: str, leg: str, state: str, **more: Any
) -> dict[str, Any]:
    """One word of the PBX on a call; for calls out give `correlation_id`."""
    outbound = "correlation_id" in more
    number = more.pop("number", PHONE)
    facts: dict[str, Any] = {
        "call_id": call_id,
        "leg_id": leg,
        "direction": "outbound" if outbound else "inbound",
        "state": state,
        "did": "+380441112233",
        **({"to_number": number} if outbound else {"from_number": number}),
        **more,
    }
    async with db.transaction() as uow:
        return await calls.take(
            uow,
            box,
            Envelope(
                kind=Kind.CALL,
                dedupe_key=f"{call_id}:{leg}:{state}:{uow.now}",
                conversation_key=number,
                sender=Sender(identities=(IdentityClaim(IdentityKind.PHONE, number, evidence="caller_id"),)),
                occurred_at=uow.now,
                call=CallEvent(**facts),
            ),
        )


async def plays(
    db: Database, box: dict[str, Any], correlation_id: str, agent: str, customer: str | None
) -> None:
    """A whole call out: the agent's leg (answered or no_answer), then the customer's end."""
    call_id = f"call-{correlation_id}"
    own = {"agent_leg": True, "agent_ext": "12", "correlation_id": correlation_id}
    await says(db, box, call_id, "a", "ringing", **own)
    if agent != "answered":
        await says(db, box, call_id, "a", "ended", disposition=agent, final=True, **own)
        return
    await says(db, box, call_id, "a", "answered", **own)
    theirs = {"correlation_id": correlation_id}
    await says(db, box, call_id, "c", "ringing", **theirs)
    if customer == "answered":
        await says(db, box, call_id, "c", "answered", **theirs)
    await says(db, box, call_id, "c", "ended", disposition=customer, final=True, **theirs)
    await says(db, box, call_id, "a", "ended", **own)


async def the_call(db: Database, key: str) -> dict[str, Any]:
    (row,) = await rows(db, call, call.c.call_key == key)
    return row
