"""Who is asked about an item that waits: more rings at once, several at a time, another team as well.

The wishes of people and of the SLA's steps. Who of those asked gets it is decided in `routing.decide`.
"""

from dataclasses import replace

from sqlalchemy import select

from crm_core.db.uow import UnitOfWork
from crm_core.errors import Conflict
from crm_core.schema import team
from routing import apply, match, steps, store
from routing.model import Item, ItemState


async def widen(uow: UnitOfWork, inquiry_id: int, *, to_last: bool = False) -> Item | None:
    """Open the next ring of a waiting item now, or with `to_last` all of them: its deadline is near."""
    item = await store.lock_live(uow, "inquiry", inquiry_id)
    if item is None or item.state != ItemState.WAITING:
        return item
    return await _wider(uow, item, to_last=to_last)


async def several(uow: UnitOfWork, inquiry_id: int) -> Item | None:
    """Offer it to several at once from now on, in the widest ring. An offer that is open runs to its end."""
    item = await store.lock_live(uow, "inquiry", inquiry_id)
    if item is None or item.state not in (ItemState.WAITING, ItemState.OFFERED):
        return item
    item = await apply.save(uow, item, replace(item, broadcast_asked=True))
    return await _wider(uow, item, to_last=True) if item.state == ItemState.WAITING else item


async def team_too(uow: UnitOfWork, inquiry_id: int, team_id: int | None) -> Item | None:
    """Ask another team as well, whatever its expected wait (None: those of the team's overflow)."""
    item = await store.lock_live(uow, "inquiry", inquiry_id)
    if item is None or item.state not in (ItemState.WAITING, ItemState.OFFERED):
        return item
    if team_id is not None and team_id not in item.added_teams and team_id != item.team_id:
        known = await uow.scalar(select(team.c.id).where(team.c.id == team_id, team.c.active))
        if known is not None:
            item = await apply.save(uow, item, replace(item, added_teams=(*item.added_teams, team_id)))
    return await _wider(uow, item, to_last=True) if item.state == ItemState.WAITING else item


async def _wider(uow: UnitOfWork, item: Item, *, to_last: bool) -> Item:
    team_ = await store.team_context(uow.conn, item.team_id)
    last = len(steps.plan(item, team_.settings)) - 1
    wanted = last if to_last else min(item.step_no + 1, last)
    if wanted > item.step_no:
        item = await apply.save(uow, item, replace(item, step_no=wanted, step_entered_at=uow.now))
    elif not to_last:
        return item
    return await match.route_item(uow, item, "sla_step", team=team_)


def check_teams(item: Item, team_id: int) -> None:
    """Nobody hands work round and round: at most three teams, the first counted.

    Raises:
        Conflict: `too_many_teams`.
    """
    seen = {*item.teams_seen, *(() if item.team_id is None else (item.team_id,))}
    if team_id not in seen and len(seen) >= steps.MAX_TEAMS:
        raise Conflict(
            f"{len(seen)} teams had this already; one of them must finish it, or a supervisor send it on",
            code="too_many_teams", params={"team_ids": sorted(seen)},
        )  # fmt: skip
