"""Throwing away what has served: old raw rows, answered idempotency keys, ended sessions, uploads nobody sent."""

from sqlalchemy import delete, select

from crm_core import notices, webhooks
from crm_core.clock import DAY
from crm_core.schema import attachment, chat_session, idempotency, inbound, login_session, upload
from crm_core.services import Services
from routing import explain_replay

_BATCH = 500


async def sweep(services: Services) -> int | None:
    """A bounded batch of each, oldest first. Blobs of unsent uploads go too."""
    orphaned: list[str] = []
    async with services.db.transaction() as uow:
        keep_from = uow.now - services.settings.inbound_keep_days * DAY
        for state in ("done", "discarded"):
            # The oldest by id are looked at, not all that match: the cost stays the same however many there are.
            oldest = select(inbound.c.id).where(inbound.c.state == state).order_by(inbound.c.id).limit(_BATCH)
            await uow.execute(
                delete(inbound).where(
                    inbound.c.id.in_(oldest.scalar_subquery()), inbound.c.processed_at < keep_from
                )
            )
        await uow.execute(delete(idempotency).where(idempotency.c.created_at < uow.now - DAY))
        await uow.execute(delete(login_session).where(login_session.c.expires_at < uow.now))
        await uow.execute(delete(chat_session).where(chat_session.c.expires_at < uow.now))
        await webhooks.forget(uow)
        await notices.forget(uow)
        await explain_replay.forget(uow)
        stale = await uow.rows(select(upload).where(upload.c.created_at < uow.now - DAY).limit(_BATCH))
        for row in stale:
            used = await uow.scalar(
                select(attachment.c.id).where(attachment.c.blob_key == row["blob_key"]).limit(1)
            )
            await uow.execute(delete(upload).where(upload.c.id == row["id"]))
            if used is None:
                orphaned.append(row["blob_key"])
    for key in orphaned:
        await services.files.delete(key)
    return None
