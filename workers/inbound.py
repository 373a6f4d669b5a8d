"""From a stored raw row to the domain: parse, take in, quarantine what cannot be read.

Parsing and storing files happen before the one transaction in which everything becomes true at once, the end of the
job included. A crash anywhere leaves the row and its job as they were.
"""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import puremagic
import structlog
from sqlalchemy import select

from channels import get_channel
from channels.config import inbox_config
from channels.contract import Malformed, RawItem
from crm_core import calls, inbound_rows, intake, job_table, messages
from crm_core.db.uow import UnitOfWork, find
from crm_core.envelope import Auto, Envelope, Kind
from crm_core.jobs import JobRegistry, JobRow, NewJob
from crm_core.risky_files import runs_on_click
from crm_core.schema import conversation, inbound, inbox
from crm_core.services import Services
from routing import callbacks
from workers import delivery
from workers.execute import NotOurs

log = structlog.get_logger(__name__)

_LARGE_BYTES = 128 * 1024


def declare(registry: JobRegistry) -> None:
    registry.job(inbound_rows.PROCESS_JOB, self_managed=True, lease_s=60, queue="inbound")(process)


async def process(services: Services, job: JobRow) -> None:
    """The job `inbound.process`: one raw row, to its end."""
    inbound_id = int(job.args["inbound_id"])
    async with services.db.reading() as conn:
        row = await find(conn, inbound, inbound_id)
        account = await find(conn, inbox, row["inbox_id"]) if row is not None else None
    if row is None or account is None or row["state"] != "received":
        async with services.db.transaction() as uow:
            await job_table.finish(uow, job)
        return
    error: str | None = None
    envelopes: list[Envelope] = []
    try:
        if row["size"] > _LARGE_BYTES:
            # Reading a mail of many megabytes takes seconds; the loop serves everybody else meanwhile.
            envelopes = await asyncio.to_thread(read, row, account)
        else:
            envelopes = read(row, account)
    except Malformed as malformed:
        error = malformed.reason
    except Exception as failure:
        # Adapters promise never to raise; if one does, the row must not be lost nor block its lane.
        log.exception("parse_failed", channel=account["channel"], inbound_id=inbound_id)
        error = _brief(failure)
    try:
        files = [await store_files(services, envelope) for envelope in envelopes]
        await _conclude(services, job, inbound_id, account, envelopes, files, error)
    except NotOurs:
        raise
    except Exception as failure:
        if job.attempts < job.max_attempts:
            raise
        # The last try. A dead job alone would leave the row "received" for ever, where nobody looks for it.
        log.exception("intake_failed", channel=account["channel"], inbound_id=inbound_id)
        await _conclude(
            services, job, inbound_id, account, [], [], f"could not be taken in: {_brief(failure)}"
        )


async def _conclude(
    services: Services,
    job: JobRow,
    inbound_id: int,
    account: Mapping[str, Any],
    envelopes: Sequence[Envelope],
    files: Sequence[Mapping[int, intake.StoredFile]],
    error: str | None,
) -> None:
    """Everything that comes of a row, and the end of its job, in one transaction."""
    async with services.db.transaction() as uow:
        if not await job_table.still_mine(uow, job):
            raise NotOurs
        if error is not None:
            await inbound_rows.quarantine(uow, inbound_id, error)
        else:
            notes = [
                await take_in(uow, account, envelope, inbound_id=inbound_id, files=stored)
                for envelope, stored in zip(envelopes, files, strict=True)
            ]
            refused = [n for n in notes if n is not None and n.startswith("!")]
            if refused:
                await inbound_rows.quarantine(uow, inbound_id, refused[0][1:])
            else:
                await inbound_rows.done(uow, inbound_id, "; ".join(n for n in notes if n) or None)
        await job_table.finish(uow, job)


def _brief(failure: Exception) -> str:
    """The kind of a failure and the first line of its text: what a supervisor can use."""
    said = str(failure).strip().split("\n", 1)[0][:300]
    return f"{type(failure).__name__}: {said}" if said else type(failure).__name__


def read(row: Mapping[str, Any], account: Mapping[str, Any]) -> list[Envelope]:
    """Parse a stored row by its channel. Raises Malformed."""
    item = RawItem(
        dedupe_key=row["dedupe_key"],
        lane=row["lane"],
        body=row["body"],
        content_type=row["content_type"],
        order=row["order_key"],
        meta=row["meta"],
        received_at=row["received_at"],
    )
    envelopes = get_channel(account["channel"]).parse(item, inbox_config(account))
    if not envelopes:
        raise Malformed("the adapter made nothing of it")
    return envelopes


async def store_files(services: Services, envelope: Envelope) -> dict[int, intake.StoredFile]:
    """Put the envelope's files into the store, named by content, so a second try writes the same."""
    stored: dict[int, intake.StoredFile] = {}
    for position, item in enumerate(envelope.attachments):
        if item.content is None or item.refused or runs_on_click(item.name):
            continue
        stored[position] = await put_blob(services, item.content, item.name, item.mime)
    return stored


async def put_blob(services: Services, content: bytes, name: str, mime: str) -> intake.StoredFile:
    """Store bytes under their hash; the type is what they are, not what somebody said."""
    sha = hashlib.sha256(content).hexdigest()
    key = f"blobs/{sha[:2]}/{sha}"
    await services.files.put(key, content)
    return intake.StoredFile(blob_key=key, sha256=sha, size=len(content), mime=sniff(content, name) or mime)


def sniff(content: bytes, name: str) -> str | None:
    """The media type by content, None if the content does not say."""
    try:
        found = puremagic.from_string(content[:4096], mime=True, filename=name[-80:])
    except (puremagic.PureError, ValueError, IndexError):
        return None
    return str(found) or None


async def take_in(
    uow: UnitOfWork,
    account: Mapping[str, Any],
    envelope: Envelope,
    *,
    inbound_id: int | None,
    files: Mapping[int, intake.StoredFile] | None = None,
    client_id: str | None = None,
) -> str | None:
    """Bring one envelope into the domain. Returns a note for the raw row; one that starts with "!" means quarantine."""
    if envelope.kind is Kind.CALL:
        await calls.take(uow, account, envelope, inbound_id=inbound_id)
        return None
    if envelope.data.get("quarantine"):
        return f"!set aside: {envelope.data['quarantine']}"
    result = await intake.receive(
        uow,
        account,
        envelope,
        inbound_id=inbound_id,
        conversation_id=await _proved_thread(uow, account, envelope),
        stored=files,
        client_id=client_id,
        held_by_bot=account["flow_key"] is not None,
    )
    if envelope.data.get("callback_query_id"):
        uow.enqueue(
            NewJob(
                name=delivery.ANSWER_JOB,
                args={"inbox_id": account["id"], "data": dict(envelope.data)},
                queue="deliver",
                max_attempts=2,
            )
        )
    asked = envelope.data.get("callback")
    if isinstance(asked, dict) and result.contact is not None and not result.duplicate:
        booked = await callbacks.book_from_customer(
            uow,
            contact=result.contact,
            inquiry=result.inquiry,
            asked=asked,
            source=account["channel"],
            inbound_id=inbound_id,
        )
        if booked is None:
            await _note_the_wish(uow, result, asked)
    if result.ignored is not None and (envelope.auto is Auto.BOUNCE or envelope.data.get("opens_nothing")):
        return f"!{result.ignored}"
    return "duplicate" if result.duplicate else result.ignored


async def _note_the_wish(uow: UnitOfWork, result: intake.IntakeResult, asked: Mapping[str, Any]) -> None:
    """A wish to be called that cannot be a promise (no usable number or time) is put before the agents."""
    if result.conversation is None:
        return
    wish = (
        ", ".join(str(asked[k]) for k in ("requested", "number", "timezone") if asked.get(k)) or "no details"
    )
    await messages.post_message(
        uow,
        conversation_id=result.conversation["id"],
        inquiry_row=result.inquiry,
        author_kind="system",
        text=f"The customer asks to be called ({wish}), but no callback could be booked: please arrange it.",
        internal=True,
        kind="system",
    )


async def _proved_thread(uow: UnitOfWork, account: Mapping[str, Any], envelope: Envelope) -> int | None:
    """The conversation a signed token names. A subject's weaker token needs the sender to be the participant."""
    if account["channel"] != "email":
        return None
    from channels.email import parse_reply_token, parse_subject_token

    if envelope.thread.reply_token:
        return parse_reply_token(account["secret"], envelope.thread.reply_token)
    if envelope.thread.subject_token and envelope.sender.identities:
        named = parse_subject_token(account["secret"], envelope.thread.subject_token)
        if named is not None:
            found = await uow.scalar(
                select(conversation.c.id).where(
                    conversation.c.id == named,
                    conversation.c.inbox_id == account["id"],
                    conversation.c.address == envelope.sender.identities[0].value,
                )
            )
            return int(found) if found is not None else None
    return None
