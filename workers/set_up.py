"""Telling providers where to post: a job after an inbox is connected or changed, so that the admin need not wait."""

from collections.abc import Mapping

from sqlalchemy import select

from channels import get_channel
from channels.config import inbox_config
from channels.contract import ChannelContext, ChannelError, Transient
from crm_core import inbound_rows
from crm_core.db.uow import UnitOfWork, read_row
from crm_core.events import SUPERVISORS, DomainEvent, Listener
from crm_core.jobs import JobRegistry, JobRow, NewJob, RetryLater
from crm_core.schema import inbox
from crm_core.services import Services

JOB = "inbox.set_up"


def declare(registry: JobRegistry) -> None:
    registry.job(JOB, lease_s=60, queue="deliver")(set_up)


async def on_changed(uow: UnitOfWork, event: DomainEvent) -> None:
    """An inbox was connected or changed: its provider may have to hear of it."""
    uow.enqueue(
        NewJob(
            name=JOB, args={"inbox_id": event.subject_id}, lane=f"set-up:{event.subject_id}", max_attempts=8
        )
    )


async def set_up(services: Services, job: JobRow) -> None:
    """The job `inbox.set_up`: idempotent; what the provider refuses is shown on the inbox and raises an alarm."""
    async with services.db.reading() as conn:
        account = await read_row(conn, select(inbox).where(inbox.c.id == int(job.args["inbox_id"])))
    if account is None or not account["enabled"]:
        return
    ctx = ChannelContext(http=services.http, clock=services.clock, public_url=services.settings.public_url)
    try:
        await get_channel(account["channel"]).set_up(inbox_config(account), ctx)
    except Transient as error:
        raise RetryLater(5_000 * job.attempts, counted=True, reason=error.detail) from error
    except ChannelError as error:
        async with services.db.transaction() as uow:
            await inbound_rows.note_state(
                uow, account["id"], last_error=error.detail[:500], last_error_at=uow.now
            )
            await uow.emit(
                DomainEvent(
                    kind="alarm.raised",
                    subject_kind="inbox",
                    subject_id=account["id"],
                    audience=SUPERVISORS,
                    payload={"what": "set_up_refused", "error": error.detail[:500]},
                )
            )


LISTENERS: Mapping[str, tuple[Listener, ...]] = {
    "inbox.created": (on_changed,),
    "inbox.updated": (on_changed,),
}
