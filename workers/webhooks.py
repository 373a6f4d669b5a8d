"""Posting to the webhooks of others: the event log into deliveries, and each delivery to its endpoint.

Owns the way outside: which addresses may be reached, how long and how much. An endpoint is a stranger's wish, so a host
is resolved once, every address it has is looked at, and the connection goes to those very addresses: a name that
answers differently the second time leads nowhere. Redirects are not followed.
"""

import ipaddress
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import structlog
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from sqlalchemy import select
from typing_extensions import override

from crm_core import webhooks
from crm_core.clock import HOUR, SECOND
from crm_core.db.engine import Database
from crm_core.db.uow import Row, UnitOfWork
from crm_core.errors import Invalid
from crm_core.event_log import Cursor, read_after
from crm_core.jobs import JobRegistry, JobRow, RetryLater
from crm_core.schema import event, setting, webhook, webhook_delivery
from crm_core.services import Services

log = structlog.get_logger(__name__)

TIMEOUT_S = 10.0
#: of an answer so much is read, and so much of a refusal is kept for people
_MAX_ANSWER = 64 * 1024
_KEPT = 300
_EVENTS = 200
_MAX_RETRY_AFTER_MS = HOUR


class Refused(OSError):
    """An address that must not be reached."""


def declare(registry: JobRegistry) -> None:
    registry.job(webhooks.DELIVER_JOB, lease_s=30, queue="deliver")(deliver)
    registry.job(webhooks.RELEASE_JOB, transactional=True)(_release)


async def _release(_services: Services, uow: UnitOfWork, job: JobRow) -> None:
    await webhooks.release(uow, int(job.args["webhook_id"]))


# --- the log into deliveries ----------------------------------------------------------------------------------
async def sweep(db: Database) -> int | None:
    """Turn new events into deliveries. Without an active endpoint the log is only passed over.

    Several processes may try: who finds the cursor locked leaves it to the other.
    """
    async with db.reading() as conn:
        if await conn.scalar(select(webhook.c.id).where(webhook.c.active).limit(1)) is None:
            return None
        stored = await conn.scalar(select(setting.c.value).where(setting.c.key == webhooks.CURSOR))
        if stored is not None:
            fresh, _ = await read_after(conn, _cursor(stored), limit=1, tx_offset=db.tx_offset)
            if not fresh:
                return None
    while await _spread(db):
        pass
    return None


async def _spread(db: Database) -> bool:
    """One batch. True if there may be more."""
    async with db.transaction() as uow:
        start = await uow.insert_new(
            setting, {"key": webhooks.CURSOR, "value": str(Cursor())}, key=["key"], returning=setting.c.key
        )
        if start is not None:
            # The first active endpoint: nobody asked for what was before.
            active = select(webhook.c.since).where(webhook.c.active)
            first = await uow.scalar(active.order_by(webhook.c.since).limit(1))
            await webhooks.keep_cursor(uow, await _before(uow, uow.now if first is None else int(first)))
        mine = uow.lock(select(setting.c.value).where(setting.c.key == webhooks.CURSOR), skip_locked=True)
        stored = await uow.scalar(mine)
        if stored is None:
            return False
        cursor = _cursor(stored)
        rows, behind = await read_after(uow.conn, cursor, limit=_EVENTS, tx_offset=db.tx_offset)
        if not rows:
            return False
        await webhooks.spread(uow, rows, behind)
        return len(rows) == _EVENTS


async def _before(uow: UnitOfWork, at: int) -> Cursor:
    """The cursor behind the last event that is older than `at`; read from the newest backwards."""
    statement = (
        select(event.c.tx, event.c.id)
        .where(event.c.at < at)
        .order_by(event.c.tx.desc(), event.c.id.desc())
        .limit(1)
    )
    row = (await uow.conn.execute(statement)).first()
    return Cursor(row.tx, row.id) if row else Cursor()


def _cursor(stored: Any) -> Cursor:
    try:
        return Cursor.parse(str(stored))
    except Invalid:
        return Cursor()


# --- one delivery ---------------------------------------------------------------------------------------------
async def deliver(services: Services, job: JobRow) -> None:
    """The job `webhook.deliver`: one attempt. The receiver tells repeats by X-Event-Id."""
    delivery_id = int(job.args["delivery_id"])
    async with services.db.transaction() as uow:
        row = await uow.find(webhook_delivery, delivery_id)
        if row is None or row["state"] != "pending":
            return
        endpoint = await webhooks.get(uow, row["webhook_id"])
        if not _ready(endpoint, uow.now):
            endpoint = await webhooks.get(uow, row["webhook_id"], for_update=True)
        if not _ready(endpoint, uow.now):
            if not endpoint["active"] or row["attempts"] == 0:
                await webhooks.hold(uow, delivery_id)
                return
            raise RetryLater(endpoint["paused_until"] - uow.now + SECOND, reason="the endpoint recovers")
    body = row["body"].encode()
    stamp = str(services.clock.now_ms() // 1000)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"Switchboard/{services.settings.version}",
        "X-Event-Id": row["event_key"],
        "X-Event-Kind": row["kind"],
        "X-Attempt": str(row["attempts"] + 1),
        "X-Timestamp": stamp,
        "X-Signature": webhooks.sign(endpoint["secret"], stamp, body),
    }
    began = time.monotonic()
    status, error, retry_after_ms = await post(
        endpoint["url"], body, headers, allowed=services.settings.webhook_private
    )
    took_ms = round((time.monotonic() - began) * 1000)
    async with services.db.transaction() as uow:
        delay = await webhooks.attempted(
            uow, delivery_id, status=status, error=error, took_ms=took_ms, retry_after_ms=retry_after_ms
        )
    if delay is not None:
        raise RetryLater(delay, reason=error or "")


def _ready(endpoint: Row, now: int) -> bool:
    """On, and not given a moment to recover after a failure."""
    paused = endpoint["paused_until"]
    return bool(endpoint["active"]) and (paused is None or paused <= now)


async def post(
    url: str, body: bytes, headers: dict[str, str], *, allowed: Sequence[str]
) -> tuple[int | None, str | None, int | None]:
    """One request: (status, what was wrong or None, ms the receiver asks us to wait or None). Never raises."""
    try:
        _check_literal(url, allowed)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S, connect=TIMEOUT_S / 2)
        connector = aiohttp.TCPConnector(resolver=_Guarded(allowed), force_close=True)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session,
            session.post(url, data=body, headers=headers, allow_redirects=False) as answer,
        ):
            head = await _head(answer)
            if 200 <= answer.status < 300:
                return answer.status, None, None
            if 300 <= answer.status < 400:
                return answer.status, f"answered {answer.status}: redirects are not followed", None
            text = head[:_KEPT].decode("utf-8", "replace").strip()
            wait = answer.headers.get("Retry-After", "")
            wait_ms = min(int(wait) * SECOND, _MAX_RETRY_AFTER_MS) if _seconds(wait) else None
            return answer.status, f"answered {answer.status}{': ' + text if text else ''}", wait_ms
    except TimeoutError:
        return None, f"no answer within {TIMEOUT_S:g} s", None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return None, _spoken(error), None


def guarded_session(url: str, allowed: Sequence[str], *, timeout_s: float) -> aiohttp.ClientSession:
    """A session that reaches public addresses only, and those allowed. Redirects are the caller's to refuse.

    Raises Refused for an address written in digits; a name's is refused when it is asked for.
    """
    _check_literal(url, allowed)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(resolver=_Guarded(allowed), force_close=True),
        timeout=aiohttp.ClientTimeout(total=timeout_s, connect=timeout_s / 2),
        trust_env=False,
    )


def _seconds(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 6


def _spoken(error: BaseException) -> str:
    cause = error.__cause__ if isinstance(error.__cause__, Refused) else error
    return (str(cause) or type(cause).__name__)[:_KEPT].replace("\x00", "")


async def _head(answer: aiohttp.ClientResponse) -> bytes:
    """The beginning of an answer; the rest is not waited for."""
    parts = b""
    async for chunk in answer.content.iter_chunked(8192):
        parts += chunk
        if len(parts) >= _MAX_ANSWER:
            break
    return parts.replace(b"\x00", b"")


def _check_literal(url: str, allowed: Sequence[str]) -> None:
    """An address written as such needs no resolver, so it is looked at here. Raises Refused."""
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return
    if not may_reach(address, host, allowed):
        raise Refused(f"{host} is not a public address")


def may_reach(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, host: str, allowed: Sequence[str]
) -> bool:
    """Whether an address is public, or allowed by name or network in the settings."""
    if isinstance(address, ipaddress.IPv6Address):
        # An IPv4 address in IPv6 clothes leads to the same place.
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return may_reach(inner, host, allowed)
    if address.is_global and not address.is_multicast:
        return True
    for entry in allowed:
        try:
            if address in ipaddress.ip_network(entry, strict=False):
                return True
        except ValueError:
            if entry.lower() == host.lower():
                return True
    return False


_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class _Guarded(AbstractResolver):
    """Resolves as usual and lets only addresses through that may be reached."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._inner = ThreadedResolver()
        self._allowed = allowed

    @override
    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        good = [
            one
            for one in found
            if may_reach(ipaddress.ip_address(one["host"].partition("%")[0]), host, self._allowed)
        ]
        if not good:
            raise Refused(f"{host} leads to an address that is not public")
        return good

    @override
    async def close(self) -> None:
        await self._inner.close()
