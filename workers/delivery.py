"""Delivering replies: from a queued message through its channel to `sent`, or to a clear failure.

One conversation's messages leave in order (the job's lane). A crash after the request left and before its answer was
stored is an unknown outcome: channels that can tell repeats apart send again, all others wait for a person's click.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import structlog
from sqlalchemy import select, update

from channels import get_channel
from channels.config import inbox_config
from channels.contract import (
    AuthFailed,
    ChannelContext,
    ChannelError,
    ContentRejected,
    NotConfigured,
    OutcomeUnknown,
    RateLimitedByProvider,
    RecipientGone,
    Transient,
)
from crm_core import contacts, inbound_rows, intake, messages
from crm_core.clock import HOUR, MINUTE, SECOND
from crm_core.db.uow import UnitOfWork, read_row
from crm_core.envelope import Button, IdentityKind, Outbound, OutboundFile
from crm_core.events import SUPERVISORS, DomainEvent
from crm_core.jobs import JobRegistry, JobRow, RetryLater
from crm_core.schema import attachment, conversation, inbox, inbox_state, message, message_ref
from crm_core.services import Services

log = structlog.get_logger(__name__)

ANSWER_JOB = "action.answer"

_BACKOFF_MS = (2 * SECOND, 10 * SECOND, MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 4 * HOUR)
#: after this a message that never got through is failed, and a person decides
GIVE_UP_AFTER_MS = 48 * HOUR
_SEND_TIMEOUT_S = 100
_MAX_REFERENCES = 20
_ADDRESS_KINDS = {"email": IdentityKind.EMAIL, "telegram": IdentityKind.TELEGRAM}


def declare(registry: JobRegistry) -> None:
    registry.job(messages.DELIVER_JOB, lease_s=120, queue="deliver")(deliver)
    registry.job(ANSWER_JOB, lease_s=30, queue="deliver")(answer_press)


async def deliver(services: Services, job: JobRow) -> None:
    """The job `message.deliver`: one message, one try."""
    message_id = int(job.args["message_id"])
    async with services.db.reading() as conn:
        channel = await read_row(
            conn,
            select(inbox.c.channel)
            .join(conversation, conversation.c.inbox_id == inbox.c.id)
            .join(message, message.c.conversation_id == conversation.c.id)
            .where(message.c.id == message_id),
        )
    if channel is None:
        return
    # Before anything is marked as leaving: a process killed while it loads an SDK must not leave doubts behind.
    await get_channel(channel["channel"]).prepare()
    async with services.db.transaction() as uow:
        row = await uow.find(message, message_id, lock=True)
        if row is None or row["state"] not in ("queued", "sending"):
            return
        thread = await uow.find(conversation, row["conversation_id"])
        account = await uow.find(inbox, thread["inbox_id"]) if thread else None
        if thread is None or account is None:
            return
        paused = await uow.scalar(
            select(inbox_state.c.paused_until).where(inbox_state.c.inbox_id == account["id"])
        )
        if paused is not None and paused > uow.now:
            raise RetryLater(paused - uow.now + 50, reason="the provider asked us to wait")
        adapter = get_channel(account["channel"])
        if row["state"] == "sending" and not adapter.spec.idempotent_send and account["channel"] != "email":
            # The process died between request and answer. (A mail keeps its Message-ID, so it may leave again.)
            await messages.set_state(
                uow, message_id, "unknown", error="no answer came before the process stopped"
            )
            return
        await uow.update(message, message_id, {"state": "sending"})
        outbound = await _outbound(uow, row, thread, account)
        files = await uow.rows(
            select(attachment)
            .where(attachment.c.message_id == message_id, attachment.c.state == "stored")
            .order_by(attachment.c.id)
        )
    wait_s = await _rate(services, adapter.spec.rate_per_key, account["id"], outbound.conversation_key)
    if wait_s > 0:
        await _back_to_queue(services, message_id)
        raise RetryLater(int(wait_s * 1000) + 20, reason="keeping the channel's pace")
    if files:
        outbound = await _with_files(services, outbound, files)
    ctx = ChannelContext(http=services.http, clock=services.clock, public_url=services.settings.public_url)
    try:
        result = await asyncio.wait_for(
            adapter.send(outbound, inbox_config(account), ctx), timeout=_SEND_TIMEOUT_S
        )
    except TimeoutError:
        await _settle(services, message_id, "unknown", error="the channel did not answer in time")
    except ChannelError as error:
        await _failed(services, job, row, account, thread, error)
    else:
        async with services.db.transaction() as uow:
            await messages.set_state(uow, message_id, result.state, external_ids=result.external_ids)
        if result.moved_to is not None:
            # On its own: that it was sent must stay true whatever becomes of this.
            async with services.db.transaction() as uow:
                await intake.move_thread(uow, account["id"], thread["key"], result.moved_to)


async def answer_press(services: Services, job: JobRow) -> None:
    """The job `action.answer`: tell the channel that a pressed button was heard, so that it stops spinning."""
    async with services.db.reading() as conn:
        account = await read_row(conn, select(inbox).where(inbox.c.id == int(job.args["inbox_id"])))
    if account is None:
        return
    ctx = ChannelContext(http=services.http, clock=services.clock, public_url=services.settings.public_url)
    await get_channel(account["channel"]).answer_action(job.args["data"], inbox_config(account), ctx)


async def _outbound(
    uow: UnitOfWork, row: Mapping[str, Any], thread: Mapping[str, Any], account: Mapping[str, Any]
) -> Outbound:
    answered = None
    if row["reply_to_id"]:
        answered = await uow.scalar(
            select(message_ref.c.external_id).where(message_ref.c.message_id == row["reply_to_id"]).limit(1)
        )
    references: tuple[str, ...] = ()
    token = None
    if account["channel"] == "email":
        from channels.email import make_reply_token

        found = await uow.rows(
            select(message_ref.c.external_id)
            .join(message, message.c.id == message_ref.c.message_id)
            .where(message_ref.c.conversation_id == thread["id"], message.c.seq < row["seq"])
            .order_by(message.c.seq.desc())
            .limit(_MAX_REFERENCES)
        )
        references = tuple(r["external_id"] for r in reversed(found))
        token = make_reply_token(account["secret"], thread["id"])
    buttons = tuple(
        tuple(
            Button(label=b["label"], value=b.get("value") or "", request=b.get("request"), url=b.get("url"))
            for b in line
        )
        for line in row["meta"].get("buttons", ())
    )
    return Outbound(
        ref=f"{account['key'][:8]}-{row['id']}",
        message_id=row["id"],
        conversation_key=thread["key"],
        to=thread["address"],
        text=row["text"],
        html=row["html"],
        subject=row["subject"] or thread["subject"],
        buttons=buttons,
        reply_to=answered,
        references=references,
        reply_token=token,
        author_name=row["author_name"],
        automatic=row["automatic"],
        language=thread["language"],
        sent_parts=row["sent_parts"],
    )


async def _with_files(services: Services, outbound: Outbound, files: Any) -> Outbound:
    loaded = []
    for row in files:
        content = b"".join([chunk async for chunk in services.files.get(row["blob_key"])])
        loaded.append(OutboundFile(name=row["name"], mime=row["mime"], content=content))
    return replace(outbound, files=tuple(loaded))


async def _rate(
    services: Services, rates: Mapping[str, float], inbox_id: int, conversation_key: str
) -> float:
    """Seconds to wait before this may leave, by the channel's own limits."""
    now = services.clock.now_ms()
    if "chat" in rates:
        wait = await services.limiter.take(
            f"send:{inbox_id}:{conversation_key}", per_s=rates["chat"], burst=3, now=now
        )
        if wait > 0:
            return wait
    if "account" in rates:
        return await services.limiter.take(
            f"send:{inbox_id}", per_s=rates["account"], burst=max(1, int(rates["account"])), now=now
        )
    return 0.0


async def _back_to_queue(services: Services, message_id: int) -> None:
    async with services.db.transaction() as uow:
        await uow.execute(
            update(message)
            .where(message.c.id == message_id, message.c.state == "sending")
            .values(state="queued")
        )


async def _settle(services: Services, message_id: int, state: str, *, error: str) -> None:
    async with services.db.transaction() as uow:
        await messages.set_state(uow, message_id, state, error=error)


async def _failed(
    services: Services,
    job: JobRow,
    row: Mapping[str, Any],
    account: Mapping[str, Any],
    thread: Mapping[str, Any],
    error: ChannelError,
) -> None:
    """Translate the channel's error into a state, a retry, and what people must know."""
    message_id = row["id"]
    if isinstance(error, OutcomeUnknown):
        await _settle(services, message_id, "unknown", error=error.detail)
        return
    if isinstance(error, Transient):
        await _retry(services, job, row, account, error)
        return
    async with services.db.transaction() as uow:
        await messages.set_state(
            uow,
            message_id,
            "failed",
            error=error.detail,
            external_ids=error.external_ids,
            sent_parts=max(row["sent_parts"], error.sent_parts),
        )
        if isinstance(error, RecipientGone) and account["channel"] in _ADDRESS_KINDS:
            await contacts.set_reachable(
                uow, _ADDRESS_KINDS[account["channel"]].value, thread["address"], "", reachable=False
            )
        if isinstance(error, AuthFailed | NotConfigured):
            await inbound_rows.note_state(
                uow, account["id"], last_error=error.detail[:500], last_error_at=uow.now
            )
            await uow.emit(
                DomainEvent(
                    kind="alarm.raised",
                    subject_kind="inbox",
                    subject_id=account["id"],
                    audience=SUPERVISORS,
                    payload={"what": "channel_refuses_us", "error": error.detail[:500]},
                )
            )
        if not isinstance(error, RecipientGone | AuthFailed | NotConfigured | ContentRejected):
            log.warning("unclassified_channel_error", channel=account["channel"], error=error.detail)


async def _retry(
    services: Services, job: JobRow, row: Mapping[str, Any], account: Mapping[str, Any], error: Transient
) -> None:
    now = services.clock.now_ms()
    if now - row["created_at"] > GIVE_UP_AFTER_MS or job.attempts >= job.max_attempts:
        await _settle(services, row["id"], "failed", error=error.detail)
        return
    delay = _BACKOFF_MS[min(job.attempts - 1, len(_BACKOFF_MS) - 1)]
    if error.retry_after_s is not None:
        delay = max(delay, int(error.retry_after_s * 1000))
    async with services.db.transaction() as uow:
        await messages.set_state(
            uow,
            row["id"],
            "queued",
            error=error.detail,
            external_ids=error.external_ids,
            sent_parts=max(row["sent_parts"], error.sent_parts),
        )
        if isinstance(error, RateLimitedByProvider):
            delay = int((error.retry_after_s or 1) * 1000)
            await inbound_rows.note_state(uow, account["id"], paused_until=uow.now + delay)
    raise RetryLater(delay, counted=not isinstance(error, RateLimitedByProvider), reason=error.detail)
