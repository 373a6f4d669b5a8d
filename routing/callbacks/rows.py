"""Reading, locking and changing callback rows, and telling about it. Private to this package."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select, update

from crm_core.db.uow import Row, UnitOfWork
from crm_core.errors import NotFound
from crm_core.events import Audience, DomainEvent
from crm_core.schema import contact, inbox
from routing.callbacks.plan import Zones, zones_of
from routing.callbacks.view import callback_view
from routing.schema import callback, callback_attempt

DEFAULT_ZONE = "Europe/Kyiv"


async def lock(uow: UnitOfWork, callback_id: int) -> dict[str, Any]:
    row = await uow.row(uow.lock(select(callback).where(callback.c.id == callback_id)))
    if row is None:
        raise NotFound(f"no callback {callback_id}", params={"callback_id": callback_id})
    return dict(row)


async def attempts_of(uow: UnitOfWork, callback_id: int) -> Sequence[Row]:
    return await uow.rows(
        select(callback_attempt)
        .where(callback_attempt.c.callback_id == callback_id)
        .order_by(callback_attempt.c.n)
    )


async def change(uow: UnitOfWork, row: dict[str, Any], **values: Any) -> dict[str, Any]:
    """Write columns and return the row as it is now."""
    values |= {"version": row["version"] + 1, "updated_at": uow.now}
    await uow.execute(update(callback).where(callback.c.id == row["id"]).values(**values))
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


async def default_zone(uow: UnitOfWork) -> str:
    """The zone of the telephony account, for numbers that tell nothing."""
    config = await uow.scalar(
        select(inbox.c.config).where(inbox.c.channel == "telephony", inbox.c.enabled).limit(1)
    )
    zone = (config or {}).get("timezone")
    return zone if isinstance(zone, str) and zone else DEFAULT_ZONE
