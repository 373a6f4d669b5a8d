"""Asking a PBX to call: the job behind a callback's attempt."""

import asyncio

from sqlalchemy import select

from channels import get_channel
from channels.config import inbox_config
from channels.contract import ChannelContext, ChannelError, ContentRejected, OriginateRequest, OutcomeUnknown
from crm_core.db.uow import read_row
from crm_core.jobs import JobRegistry, JobRow
from crm_core.schema import agent, inbox
from crm_core.services import Services
from routing import callbacks
from routing.schema import callback, callback_attempt

_TIMEOUT_S = 20


def declare(registry: JobRegistry) -> None:
    registry.job(callbacks.ORIGINATE_JOB, lease_s=60, queue="deliver")(originate)


async def originate(services: Services, job: JobRow) -> None:
    """The job `callback.originate`: at most one request to the PBX per attempt; a second run after a crash asks
    nothing, because the first may have rung already.
    """
    attempt_id = int(job.args["attempt_id"])
    async with services.db.reading() as conn:
        row = await read_row(
            conn,
            select(callback_attempt, callback.c.phone, callback.c.inbox_id, agent.c.extension)
            .join(callback, callback.c.id == callback_attempt.c.callback_id)
            .outerjoin(agent, agent.c.id == callback_attempt.c.agent_id)
            .where(callback_attempt.c.id == attempt_id),
        )
        if row is None or row["state"] != "dialling" or job.attempts > 1:
            return
        account = await read_row(conn, select(inbox).where(inbox.c.id == row["inbox_id"]))
    if account is None:
        return
    request = OriginateRequest(
        correlation_id=row["correlation_id"],
        to_number=row["phone"],
        agent_ext=row["extension"],
        caller_id=account["config"].get("caller_id") or account["config"].get("number"),
    )
    ctx = ChannelContext(http=services.http, clock=services.clock, public_url=services.settings.public_url)
    try:
        await asyncio.wait_for(
            get_channel(account["channel"]).originate(request, inbox_config(account), ctx), timeout=_TIMEOUT_S
        )
    except (TimeoutError, OutcomeUnknown):
        return  # it may be ringing: the PBX's events, or the attempt's deadline, tell
    except ChannelError as error:
        outcome = "invalid_number" if isinstance(error, ContentRejected) else "failed"
        async with services.db.transaction() as uow:
            await callbacks.record_outcome(
                uow,
                row["callback_id"],
                outcome,
                actor="system",
                note=error.detail[:300],
                attempt_id=attempt_id,
            )
