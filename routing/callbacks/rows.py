"""Reading, locking and changing callback rows, and telling about it. Private to this package."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import select

from crm_core.clock import MINUTE
from crm_core.db.uow import Row, UnitOfWork
from crm_core.errors import Conflict, NotFound
from crm_core.events import Audience, DomainEvent
from crm_core.schema import contact, inbox, team
from routing import store
from routing.callbacks.plan import Zones, next_decent, zones_of
from routing.callbacks.settings import DEFAULTS, CallbackSettings, read
from routing.callbacks.view import callback_view
from routing.schema import callback, callback_attempt

DEFAULT_ZONE = "Europe/Kyiv"
OPEN = ("scheduled", "due", "dialling", "paused", "escalated")
OVER = ("done", "cancelled")
#: an unkept promise reaches a supervisor no sooner than this after its next try
ESCALATE_AFTER_MS = 30 * MINUTE


async def lock(uow: UnitOfWork, callback_id: int) -> dict[str, Any]:
    """The callback, locked after its work item: who accepts an offer has the item first, too. A place in the queue
    moves its request's clocks, so that is locked before both.
    """
    seen = await uow.row(select(callback.c.kind, callback.c.inquiry_id).where(callback.c.id == callback_id))
    if seen is not None and seen["kind"] == "hold" and seen["inquiry_id"] is not None:
        await store.lock_inquiry(uow, seen["inquiry_id"])
    await store.lock_live(uow, "callback", callback_id)
    row = await uow.find(callback, callback_id, lock=True)
    if row is None:
        raise NotFound(f"no callback {callback_id}", params={"callback_id": callback_id})
    return dict(row)


async def lock_open(uow: UnitOfWork, callback_id: int) -> dict[str, Any]:
    """As `lock`. Raises Conflict (callback_over) too."""
    row = await lock(uow, callback_id)
    if row["state"] in OVER:
        raise Conflict(f"this callback is {row['state']}", code="callback_over")
    return row


async def attempts_of(uow: UnitOfWork, callback_id: int) -> Sequence[Row]:
    return await uow.rows(
        select(callback_attempt)
        .where(callback_attempt.c.callback_id == callback_id)
        .order_by(callback_attempt.c.n)
    )


async def change(uow: UnitOfWork, row: dict[str, Any], **values: Any) -> dict[str, Any]:
    """Write columns and return the row as it is now."""
    values |= {"version": row["version"] + 1, "updated_at": uow.now}
    await uow.update(callback, row["id"], values)
    return {**row, **values}


async def tell(
    uow: UnitOfWork,
    kind: str,
    row: Mapping[str, Any],
    *,
    actor: str = "system",
    everyone: bool = False,
    **payload: Any,
) -> None:
    """Emit `callback.<kind>` to the owner, the team and supervisors."""
    await uow.emit(
        DomainEvent(
            kind=f"callback.{kind}",
            subject_kind="callback",
            subject_id=row["id"],
            actor=actor,
            inquiry_id=row["inquiry_id"],
            conversation_id=row["conversation_id"],
            payload={"callback": callback_view(row, await attempts_of(uow, row["id"])), **payload},
            audience=Audience(
                teams=(row["team_id"],) if row["team_id"] else (),
                agents=(row["owner_id"],) if row["owner_id"] else (),
                everyone=everyone,
            ),
            context={"callback": row},
        )
    )


async def zones(uow: UnitOfWork, row: Mapping[str, Any]) -> Zones:
    """Whose clock counts now: what the card says today may differ from what it said at booking."""
    said = row["timezone"] if row["timezone_source"] == "contact" else None
    card = await uow.scalar(select(contact.c.timezone).where(contact.c.id == row["contact_id"]))
    return zones_of(row["phone"], contact_zone=card or said, default_zone=await default_zone(uow))


async def decent(uow: UnitOfWork, row: Mapping[str, Any], at: int) -> int:
    """The next instant from `at` on at which this customer may be called. A first call that he asked for himself
    keeps the hours of the day only: who asks on a Sunday to be called soon does not mean Monday.
    """
    where = await zones(uow, row)
    return next_decent(at, where, any_day=not row["counted_attempts"])


async def workable(uow: UnitOfWork, row: Mapping[str, Any], at: int) -> int:
    """`team_works` for a promise that was tried already."""
    return await team_works(uow, row["team_id"], await zones(uow, row), at)


async def team_works(
    uow: UnitOfWork, team_id: int | None, where: Zones, at: int, *, any_day: bool = False
) -> int:
    """`at`, or the next instant when it is a decent hour for the customer and the team works as well. If they never
    meet within a few tries, the customer's hour counts: somebody may be there all the same, or a supervisor decides.
    """
    team_ = await store.team_context(uow.conn, team_id)
    if team_.calendar is None or team_.settings.after_hours != "park":
        return at
    moment = at
    for _ in range(8):
        if team_.calendar.is_open(moment):
            return moment
        opening = team_.calendar.next_open(moment)
        if opening is None:
            break
        moment = next_decent(opening, where, any_day=any_day)
    return at


async def default_zone(uow: UnitOfWork) -> str:
    """The zone of the telephony account, for numbers that tell nothing."""
    config = await uow.scalar(
        select(inbox.c.config).where(inbox.c.channel == "telephony", inbox.c.enabled).limit(1)
    )
    zone = (config or {}).get("timezone")
    return zone if isinstance(zone, str) and zone else DEFAULT_ZONE


@lru_cache(maxsize=256)
def _settings(text: str) -> CallbackSettings:
    return read(json.loads(text))


def settings_of(team_settings: Any) -> CallbackSettings:
    return _settings(json.dumps(team_settings, sort_keys=True))


async def settings(uow: UnitOfWork, team_id: int | None) -> CallbackSettings:
    """What the promise's team says about callbacks."""
    if team_id is None:
        return DEFAULTS
    stored = await uow.scalar(select(team.c.settings).where(team.c.id == team_id))
    return DEFAULTS if stored is None else settings_of(stored)
