"""Whom a due promise is for: its owner, those who stand in for him, the team, the overflow team; then a supervisor.

Routing's own rings carry it: the owner is the item's manager, the deputy its sticky agent, then team and overflow by
the team's plan. This module chooses deputies who are there, one after another, each for his time, and keeps what came
of each on the promise (`chain`) and as decisions of the item.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import and_, select

from crm_core.clock import SECOND
from crm_core.db.uow import UnitOfWork
from crm_core.schema import agent
from routing import apply, items, match, steps, store
from routing.callbacks import rows
from routing.callbacks.settings import CallbackSettings
from routing.model import Channel, Item, ItemState
from routing.schema import agent_slot, agent_state

_MAX = 10


async def enqueue(uow: UnitOfWork, row: dict[str, Any], person: Mapping[str, Any] | None) -> dict[str, Any]:
    """A due promise becomes work. Returns the row as it is then."""
    settings = await rows.settings(uow, row["team_id"])
    owner_id = row["owner_id"] or (person["manager_id"] if person else None)
    links = await _links(uow, owner_id, settings)
    there = {link["agent_id"] for link in links if link["result"] is None}
    deputy = next((link for link in links if link["role"] == "deputy" and link["agent_id"] in there), None)
    for link in links:
        if link["role"] == "owner" and link["result"] is None:
            link |= {"result": "asked", "from": uow.now, "until": uow.now + settings.owner_ms}
    if deputy is not None and owner_id not in there:
        deputy |= {"result": "asked", "from": uow.now, "until": uow.now + settings.deputy_ms}
    row = await rows.change(uow, row, chain=links or None)
    item = await items.enqueue_callback(
        uow,
        {**row, "owner_id": owner_id, "deputy_id": deputy["agent_id"] if deputy else None},
        dict(person) if person else None,
    )
    fresh = await rows.lock(uow, row["id"])
    if fresh["state"] != "due":
        return fresh  # somebody had it at once
    return await _watch(uow, fresh, item)


async def _links(uow: UnitOfWork, owner_id: int | None, settings: CallbackSettings) -> list[dict[str, Any]]:
    """Owner and deputies in order; `result` says why somebody is passed over: inactive, offline, busy."""
    named = [] if owner_id is None else list(settings.deputies.get(str(owner_id), ()))
    named += [a for a in settings.deputies.get("*", ()) if a not in named]
    people = [a for a in dict.fromkeys([owner_id, *named]) if a is not None][:_MAX]
    if not people:
        return []
    found = {
        r["id"]: r
        for r in await uow.rows(
            select(agent.c.id, agent.c.active, agent_state.c.routable, agent_slot.c.used, agent_slot.c.max)
            .outerjoin(agent_state, agent_state.c.agent_id == agent.c.id)
            .outerjoin(
                agent_slot,
                and_(agent_slot.c.agent_id == agent.c.id, agent_slot.c.channel == Channel.CALLBACK),
            )
            .where(agent.c.id.in_(people))
        )
    }
    return [
        {
            "agent_id": agent_id,
            "role": "owner" if agent_id == owner_id else "deputy",
            "from": None,
            "until": None,
            "result": _absence(found.get(agent_id), owner=agent_id == owner_id),
        }
        for agent_id in people
    ]


def _absence(state: Mapping[str, Any] | None, *, owner: bool) -> str | None:
    if state is None or not state["active"]:
        return "inactive"
    if not state["routable"]:
        return "offline"
    if not owner and (state["used"] or 0) >= (state["max"] or 0):
        return "busy"  # the owner is waited for; a deputy who cannot is no help
    return None


async def _watch(uow: UnitOfWork, row: dict[str, Any], item: Item) -> dict[str, Any]:
    """Look again just before routing opens the ring of the whole team."""
    more = any(link["role"] == "deputy" and link["result"] is None for link in row["chain"] or ())
    if not more or item.state not in (ItemState.WAITING, ItemState.OFFERED):
        return await rows.change(uow, row, watch=None, watch_at=None) if row["watch"] == "chain" else row
    upcoming = item.next_step_at if item.next_step_at is not None else uow.now + 20 * SECOND
    return await rows.change(uow, row, watch="chain", watch_at=max(upcoming - SECOND, uow.now + SECOND))


async def step(uow: UnitOfWork, row: dict[str, Any]) -> None:
    """The time of the one who was asked is over: the next deputy who is there is asked. The row is locked."""
    item = await store.lock_live(uow, "callback", row["id"])
    if row["state"] != "due" or item is None or item.state not in (ItemState.WAITING, ItemState.OFFERED):
        await rows.change(uow, row, watch=None, watch_at=None)
        return
    if item.state == ItemState.OFFERED:
        await rows.change(uow, row, watch_at=uow.now + 5 * SECOND)
        return
    settings = await rows.settings(uow, row["team_id"])
    links: list[dict[str, Any]] = [dict(link) for link in row["chain"] or ()]
    owner_id = next((link["agent_id"] for link in links if link["role"] == "owner"), None)
    fresh = {link["agent_id"]: link["result"] for link in await _links(uow, owner_id, settings)}
    for link in links:
        if link["result"] == "asked" and link["until"] is not None and link["until"] <= uow.now + SECOND:
            link["result"] = "not_taken"
    waiting = [link for link in links if link["role"] == "deputy" and link["result"] is None]
    following: dict[str, Any] | None = None
    for link in waiting:
        absent = fresh.get(link["agent_id"])
        if absent is None and not item.excludes(link["agent_id"], uow.now):
            following = link
            break
        link["result"] = absent or "declined"
    if following is None:
        await rows.change(uow, row, chain=links, watch=None, watch_at=None)
        return
    following |= {"result": "asked", "from": uow.now, "until": uow.now + settings.deputy_ms}
    row = await rows.change(uow, row, chain=links, watch=None, watch_at=None)
    team = await store.team_context(uow.conn, item.team_id)
    wanted = replace(item, sticky_agent_id=following["agent_id"])
    ring = next((s for s in steps.plan(wanted, team.settings) if s.agent_id == following["agent_id"]), None)
    if ring is None:
        return
    await items.record_people(
        uow, wanted, cause="callback_chain", outcome="waits", agent_id=following["agent_id"], by="system"
    )
    asked = await apply.save(
        uow, item, replace(wanted, step_no=ring.no, step_entered_at=uow.now, next_step_at=None)
    )
    after = await match.route_item(uow, asked, "callback_chain", team=team)
    row = await rows.lock(uow, row["id"])
    if row["state"] == "due":
        await _watch(uow, row, after)


def taken_by(links: list[dict[str, Any]] | None, agent_id: int) -> list[dict[str, Any]] | None:
    """The chain with the one who took it marked; somebody of the team is added at its end. Who was asked did not."""
    marked = [
        {**link, "result": "not_taken"}
        if link["result"] == "asked" and link["agent_id"] != agent_id
        else dict(link)
        for link in links or ()
    ]
    for link in marked:
        if link["agent_id"] == agent_id:
            link["result"] = "took"
            return marked
    return [
        *marked, {"agent_id": agent_id, "role": "team", "from": None, "until": None, "result": "took"}
    ]  # fmt: skip
