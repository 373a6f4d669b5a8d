"""Fetching attachments that a channel only named: downloaded by us at once, because providers' links expire."""

import asyncio

from sqlalchemy import select

from channels import get_channel
from channels.config import inbox_config
from channels.contract import ChannelContext, ChannelError, Transient
from crm_core import intake
from crm_core.access import inquiry_audience
from crm_core.db.uow import read_row
from crm_core.events import SUPERVISORS, DomainEvent
from crm_core.jobs import JobRegistry, JobRow, RetryLater
from crm_core.schema import attachment, conversation, inbox, inquiry, message
from crm_core.services import Services
from crm_core.views import message_view
from workers.inbound import put_blob

MAX_BYTES = 50 * 1024 * 1024
_TIMEOUT_S = 100


def declare(registry: JobRegistry) -> None:
    registry.job(intake.FETCH_JOB, lease_s=120, queue="fetch")(fetch)


class _TooBig(Exception):
    pass


async def fetch(services: Services, job: JobRow) -> None:
    """The job `attachment.fetch`: one file, one try."""
    attachment_id = int(job.args["attachment_id"])
    async with services.db.reading() as conn:
        row = await read_row(
            conn,
            select(attachment, conversation.c.inbox_id)
            .join(message, message.c.id == attachment.c.message_id)
            .join(conversation, conversation.c.id == message.c.conversation_id)
            .where(attachment.c.id == attachment_id),
        )
        if row is None or row["state"] != "pending":
            return
        account = await read_row(conn, select(inbox).where(inbox.c.id == row["inbox_id"]))
    if account is None:
        return
    ctx = ChannelContext(http=services.http, clock=services.clock, public_url=services.settings.public_url)
    adapter = get_channel(account["channel"])
    values: dict[str, object]
    try:
        content = bytearray()
        async with asyncio.timeout(_TIMEOUT_S):
            async for chunk in adapter.fetch(row["provider_ref"], inbox_config(account), ctx):
                content += chunk
                if len(content) > MAX_BYTES:
                    raise _TooBig
        stored = await put_blob(services, bytes(content), row["name"], row["mime"])
        values = {
            "state": "stored",
            "blob_key": stored.blob_key,
            "sha256": stored.sha256,
            "size": stored.size,
            "mime": stored.mime[:120],
            "error": None,
        }
    except _TooBig:
        values = {"state": "too_big", "error": f"larger than {MAX_BYTES} bytes"}
    except (Transient, TimeoutError) as error:
        if job.attempts < job.max_attempts:
            raise RetryLater(min(2**job.attempts, 600) * 1000, counted=True, reason=str(error)) from error
        values = {"state": "failed", "error": str(error)[:300]}
    except ChannelError as error:
        values = {"state": "failed", "error": error.detail[:300]}
    async with services.db.transaction() as uow:
        await uow.update(attachment, attachment_id, values)
        said = await uow.find(message, row["message_id"])
        if said is None:
            return
        files = await uow.rows(
            select(attachment).where(attachment.c.message_id == said["id"]).order_by(attachment.c.id)
        )
        owner = await uow.find(inquiry, said["inquiry_id"]) if said["inquiry_id"] else None
        await uow.emit(
            DomainEvent(
                kind="message.edited",
                subject_kind="message",
                subject_id=said["id"],
                inquiry_id=said["inquiry_id"],
                conversation_id=said["conversation_id"],
                payload={"what": "attachment", "message": message_view(said, files)},
                audience=inquiry_audience(owner) if owner else SUPERVISORS,
                context={"message": said, "inquiry": owner},
            )
        )
