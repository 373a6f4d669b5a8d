"""Asking a PBX to call, and to connect who waits: the jobs behind a callback's attempt and a waiting call."""

import asyncio
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from channels import get_channel
from channels.config import inbox_config
from channels.contract import (
    ChannelContext,
    ChannelError,
    ConnectRequest,
    ContentRejected,
    NotConfigured,
    OriginateRequest,
    OutcomeUnknown,
)
from crm_core.db.uow import read_row
from crm_core.jobs import JobRegistry, JobRow
from crm_core.languages import spoken
from crm_core.schema import agent, call, contact, conversation, inbox
from crm_core.services import Services
from routing import callbacks
from routing.callbacks import words
from routing.schema import callback, callback_attempt

_TIMEOUT_S = 20


def declare(registry: JobRegistry) -> None:
    registry.job(callbacks.ORIGINATE_JOB, lease_s=60, queue="deliver")(originate)
    registry.job(callbacks.CONNECT_JOB, lease_s=60, queue="deliver")(connect)
    callbacks.declare(registry)


async def originate(services: Services, job: JobRow) -> None:
    """The job `callback.originate`: at most one request to the PBX per attempt; a second run after a crash asks
    nothing, because the first may have rung already.
    """
    attempt_id = int(job.args["attempt_id"])
    async with services.db.reading() as conn:
        row = await read_row(
            conn,
            select(
                callback_attempt,
                callback.c.inbox_id,
                agent.c.extension,
                contact.c.locale,
                conversation.c.language,
                callback.c.phone.label("number"),
            )
            .join(callback, callback.c.id == callback_attempt.c.callback_id)
            .join(contact, contact.c.id == callback.c.contact_id)
            .outerjoin(conversation, conversation.c.id == callback.c.conversation_id)
            .outerjoin(agent, agent.c.id == callback_attempt.c.agent_id)
            .where(callback_attempt.c.id == attempt_id),
        )
        if row is None or row["state"] != "dialling" or job.attempts > 1:
            return
        account = await read_row(conn, select(inbox).where(inbox.c.id == row["inbox_id"]))
    if account is None:
        return
    customer_first = row["style"] == "customer_first"
    language = spoken(row["language"] or row["locale"] or account["language"])
    request = OriginateRequest(
        correlation_id=row["correlation_id"],
        to_number=row["number"],
        agent_ext=None if customer_first else row["extension"],
        caller_id=account["config"].get("caller_id") or account["config"].get("number"),
        customer_first=customer_first,
        agent_ring_s=int(job.args.get("ring_ms", 20_000)) // 1000,
        prompt=words.text("prompt", language) if customer_first else None,
        language=language,
    )
    try:
        await asyncio.wait_for(
            get_channel(account["channel"]).originate(request, inbox_config(account), _context(services)),
            timeout=_TIMEOUT_S,
        )
    except (TimeoutError, OutcomeUnknown):
        return  # it may be ringing: the PBX's events, or the attempt's deadline, tell
    except (NotConfigured, ContentRejected) as error:
        if isinstance(error, ContentRejected) and not customer_first:
            await _failed(services, row, attempt_id, "invalid_number", error.detail)
            return
        # A PBX that refuses this way of dialling: whether the number is wrong shows when an agent rings it.
        async with services.db.transaction() as uow:
            await callbacks.fall_back(uow, attempt_id, error.detail)
    except ChannelError as error:
        await _failed(services, row, attempt_id, "failed", error.detail)


async def _failed(
    services: Services, row: Mapping[str, Any], attempt_id: int, outcome: str, detail: str
) -> None:
    async with services.db.transaction() as uow:
        await callbacks.record_outcome(
            uow, row["callback_id"], outcome, actor="system", note=detail[:300], attempt_id=attempt_id
        )


async def connect(services: Services, job: JobRow) -> None:
    """The job `callback.connect {call_id, agent_id, attempt_id?}`: an agent took a call that waits with the PBX."""
    args: Mapping[str, Any] = job.args
    async with services.db.reading() as conn:
        row = await read_row(conn, select(call).where(call.c.id == args["call_id"]))
        extension = (
            await conn.execute(select(agent.c.extension).where(agent.c.id == args["agent_id"]))
        ).scalar()
        if row is None or row["state"] == "ended" or job.attempts > 1:
            return
        account = await read_row(conn, select(inbox).where(inbox.c.id == row["inbox_id"]))
    if account is None:
        return
    try:
        if not extension:
            raise NotConfigured("the agent has no extension")
        request = ConnectRequest(
            call_id=row["call_key"],
            agent_ext=extension,
            correlation_id=row["correlation_id"],
            outbound=row["direction"] != "inbound",
        )
        await asyncio.wait_for(
            get_channel(account["channel"]).connect(request, inbox_config(account), _context(services)),
            timeout=_TIMEOUT_S,
        )
    except (TimeoutError, OutcomeUnknown):
        return  # his phone may be ringing: the call's events tell
    except ChannelError:
        async with services.db.transaction() as uow:
            await callbacks.not_connected(uow, args["call_id"], args["agent_id"], args.get("attempt_id"))


def _context(services: Services) -> ChannelContext:
    return ChannelContext(http=services.http, clock=services.clock, public_url=services.settings.public_url)
