"""Builders for routing tests: a small bureau with visible defaults, and short verbs on it."""

from typing import Any

from sqlalchemy import insert, select

from crm_core.db.engine import Database
from crm_core.schema import agent, agent_skill, contact, conversation, inbox, inquiry, team, team_member
from crm_core.schema import event as event_table
from routing import items, lanes, presence, reconcile
from routing.model import Item
from routing.schema import agent_slot, agent_state, assignment, decision, offer, queue_entry, work_item

T0 = 1_790_000_000_000


async def a_team(
    db: Database,
    name: str = "Support",
    *,
    settings: dict[str, Any] | None = None,
    calendar_id: int | None = None,
) -> int:
    async with db.transaction() as uow:
        return await uow.insert(
            team,
            {
                "name": name,
                "calendar_id": calendar_id,
                "settings": settings or {},
                "active": True,
                "created_at": uow.now,
            },
        )


async def set_team(db: Database, team_id: int, settings: dict[str, Any]) -> None:
    async with db.transaction() as uow:
        await uow.execute(team.update().where(team.c.id == team_id).values(settings=settings))


async def an_agent(
    db: Database,
    name: str,
    team_id: int | None = None,
    *,
    skills: dict[str, int] | None = None,
    settings: dict[str, Any] | None = None,
    extension: str | None = None,
    online: bool = True,
    language: str = "en",
) -> int:
    async with db.transaction() as uow:
        agent_id = await uow.insert(
            agent,
            {
                "email": f"{name.lower()}@example.org",
                "name": name,
                "password_hash": None,
                "role": "agent",
                "language": language,
                "extension": extension,
                "calendar_id": None,
                "settings": settings or {},
                "active": True,
                "created_at": uow.now,
            },
        )
        if team_id is not None:
            await uow.execute(insert(team_member).values(team_id=team_id, agent_id=agent_id, lead=False))
        for skill, level in (skills or {}).items():
            await uow.execute(insert(agent_skill).values(agent_id=agent_id, skill=skill, level=level))
        await lanes.rebuild_agent(uow, agent_id)
    if online:
        await go(db, agent_id, "online")
    return agent_id


async def go(db: Database, agent_id: int, state: str) -> dict[str, Any]:
    async with db.transaction() as uow:
        return await presence.set_presence(uow, agent_id, state)


async def beat(db: Database) -> None:
    """A sign of life of everybody who is here, however long it has been."""
    for row in await rows(db, agent_state, agent_state.c.presence == "online"):
        async with db.transaction() as uow:
            await presence.heartbeat(uow, row["agent_id"])


async def an_inbox(db: Database, channel: str = "email", team_id: int | None = None) -> int:
    async with db.transaction() as uow:
        return await uow.insert(
            inbox,
            {
                "key": f"{channel}-{uow.now}-{team_id}",
                "channel": channel,
                "name": channel,
                "secret": "s",
                "config": {},
                "address": None,
                "team_id": team_id,
                "default_kind": "ticket",
                "flow_key": None,
                "region": "UA",
                "language": "uk",
                "priority": "normal",
                "enabled": True,
                "created_at": uow.now,
            },
        )


async def a_contact(
    db: Database, name: str = "Maria", *, manager_id: int | None = None, vip: bool = False
) -> int:
    async with db.transaction() as uow:
        return await uow.insert(
            contact,
            {
                "name": name,
                "company_id": None,
                "manager_id": manager_id,
                "locale": None,
                "timezone": None,
                "vip": vip,
                "blocked": False,
                "attributes": {},
                "merged_into_id": None,
                "search_text": "",
                "created_at": uow.now,
                "updated_at": uow.now,
            },
        )


async def an_inquiry(
    db: Database,
    *,
    team_id: int | None,
    channel: str = "email",
    contact_id: int | None = None,
    kind: str = "ticket",
    priority: str = "normal",
    language: str = "",
    requirements: dict[str, Any] | None = None,
    status: str = "new",
    held_by_bot: bool = False,
    conversation_id: int | None = None,
) -> int:
    contact_id = contact_id or await a_contact(db)
    async with db.transaction() as uow:
        return await uow.insert(
            inquiry,
            {
                "kind": kind,
                "status": status,
                "stage": None,
                "outcome": None,
                "subject": "Visa",
                "contact_id": contact_id,
                "conversation_id": conversation_id,
                "inbox_id": None,
                "channel": channel,
                "team_id": team_id,
                "assignee_id": None,
                "priority": priority,
                "language": language,
                "source": None,
                "value_minor": None,
                "currency": None,
                "tags": [],
                "fields": {},
                "requirements": requirements or {},
                "held_by_bot": held_by_bot,
                "merged_into_id": None,
                "version": 1,
                "last_message_at": None,
                "snooze_until": None,
                "created_at": uow.now,
                "updated_at": uow.now,
                "solved_at": None,
                "closed_at": None,
                "search_text": "",
            },
        )


async def a_conversation(
    db: Database,
    contact_id: int,
    inbox_id: int,
    *,
    sticky: int | None = None,
    sticky_until: int | None = None,
) -> int:
    async with db.transaction() as uow:
        return await uow.insert(
            conversation,
            {
                "inbox_id": inbox_id,
                "contact_id": contact_id,
                "key": f"k{uow.now}-{contact_id}",
                "address": "x",
                "channel": "webchat",
                "subject": None,
                "language": "uk",
                "last_seq": 0,
                "customer_read_seq": 0,
                "agent_read_seq": 0,
                "sticky_agent_id": sticky,
                "sticky_until": sticky_until,
                "last_customer_at": None,
                "created_at": uow.now,
                "updated_at": uow.now,
            },
        )


async def enqueue(db: Database, inquiry_id: int) -> Item:
    async with db.transaction() as uow:
        row = await uow.row(select(inquiry).where(inquiry.c.id == inquiry_id))
        assert row is not None
        return await items.enqueue_inquiry(uow, row)


async def arrives(db: Database, **facts: Any) -> Item:
    """A new inquiry, enqueued."""
    return await enqueue(db, await an_inquiry(db, **facts))


async def rows(db: Database, table: Any, *where: Any) -> list[dict[str, Any]]:
    async with db.reading() as conn:
        found = await conn.execute(select(table).where(*where).order_by(*table.primary_key.columns))
        return [dict(r) for r in found.mappings()]


async def the_item(db: Database, item_id: int) -> Item:
    (row,) = await rows(db, work_item, work_item.c.id == item_id)
    return Item.from_row(row)


async def open_offers(db: Database, item_id: int | None = None) -> list[dict[str, Any]]:
    where = [offer.c.state == "open"] + ([] if item_id is None else [offer.c.item_id == item_id])
    return await rows(db, offer, *where)


async def used(db: Database, agent_id: int, channel: str) -> int:
    (row,) = await rows(db, agent_slot, agent_slot.c.agent_id == agent_id, agent_slot.c.channel == channel)
    return int(row["used"])


async def assignee(db: Database, inquiry_id: int) -> int | None:
    (row,) = await rows(db, inquiry, inquiry.c.id == inquiry_id)
    value = row["assignee_id"]
    return None if value is None else int(value)


async def check_invariants(db: Database) -> None:
    """I1, I2 and what must hold between the tables at any instant."""
    async with db.transaction() as uow:
        assert await reconcile.differences(uow) == []
    forced = {
        a["agent_id"]
        for a in await rows(db, assignment, assignment.c.forced, assignment.c.ended_at.is_(None))
    }
    for slot in await rows(db, agent_slot):
        assert slot["used"] >= 0
        assert slot["used"] <= slot["max"] or slot["agent_id"] in forced, slot
    offers: dict[int, list[dict[str, Any]]] = {}
    for o in await open_offers(db):
        offers.setdefault(o["item_id"], []).append(o)
    live: dict[int, dict[str, Any]] = {}
    for a in await rows(db, assignment, assignment.c.ended_at.is_(None)):
        assert a["item_id"] not in live
        live[a["item_id"]] = a
    queued = {q["item_id"] for q in await rows(db, queue_entry)}
    decided = {d["item_id"] for d in await rows(db, decision)}
    for row in await rows(db, work_item):
        i, state = row["id"], row["state"]
        made = offers.get(i, [])
        several = bool(made) and all(o["kind"] == "broadcast" for o in made)
        assert len(made) == (1 if state == "offered" else 0) or (several and state == "offered"), (
            state,
            made,
        )
        assert (i in live) == (state in ("assigned", "wrapup")), state
        assert (i in queued) == (state == "waiting"), state
        assert i in decided
        if i in live:
            assert live[i]["agent_id"] == row["owner_id"]
        if state == "waiting":
            keys = {q["order_key"] for q in await rows(db, queue_entry, queue_entry.c.item_id == i)}
            assert keys == {row["order_key"]}


__all__ = ["T0", "agent_slot", "agent_state", "event_table", "inquiry"]
