"""Reading a mailbox by IMAP: a cursor that loses nothing, IDLE as a hint, and patience with broken servers.

The cursor is (UIDVALIDITY, last UID) and is stored with the mails, in one transaction, by the sink. Flags
are people's business: nothing is marked, moved or deleted here. The clock used for waiting is the event
loop's.
"""

import asyncio
import logging
import random
from datetime import UTC, datetime
from typing import Any

from channels.contract import (
    AuthFailed,
    ChannelContext,
    ChannelError,
    InboundSink,
    InboxConfig,
    NotConfigured,
    RawItem,
)
from channels.email.account import Server, imap_server
from channels.email.imap_connection import FolderMissing, ImapConnection
from channels.email.items import make_item
from crm_core.clock import DAY

log = logging.getLogger(__name__)

IDLE_S = 540.0  # servers may hang up after 29 minutes, NAT boxes far sooner
POLL_S = 60.0  # where the server has no IDLE
FIRST_BACKOFF_S, MAX_BACKOFF_S = 1.0, 300.0
MAX_MAIL = 50 * 1024 * 1024  # bytes; of a larger mail only the headers are stored
DEFAULT_DAYS = 7  # how far back a folder is read that has no usable cursor
_BATCH = 20  # mails in one transaction
_BATCH_BYTES = 16 * 1024 * 1024
_PATIENCE = 3  # failures with one mail before less of it is asked for
_NOTE = (
    "Message-ID: <unreadable.{validity}.{uid}@imap.invalid>\r\nSubject: Unreadable mail\r\n\r\n"
    "The mail server cannot deliver mail {uid} of this folder. Please look at it in the mailbox.\r\n"
)
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


class ImapPoller:
    """Follows one folder until `stop`. `run` raises nothing but cancellation: it logs, waits and tries
    again.
    """

    def __init__(
        self, inbox: InboxConfig, sink: InboundSink, ctx: ChannelContext, stop: asyncio.Event
    ) -> None:
        self._inbox, self._sink, self._ctx, self._stop = inbox, sink, ctx, stop
        self._folder = str(inbox.config.get("imap_folder") or "INBOX")
        self._worked = False  # since the last failure
        self._failures: dict[int, int] = {}  # UID -> how often reading it ended in an error

    async def run(self) -> None:
        """Returns at once if IMAP is not configured, otherwise soon after `stop` is set."""
        try:
            server = imap_server(self._inbox)
        except NotConfigured as error:
            log.error("email_imap_not_configured inbox=%s %s", self._inbox.id, error.detail)  # noqa: TRY400
            return
        if server is None:
            return
        work = asyncio.ensure_future(self._try_for_ever(server))
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (work, stopped):
                task.cancel()
            await asyncio.gather(work, stopped, return_exceptions=True)

    async def _try_for_ever(self, server: Server) -> None:
        backoff = FIRST_BACKOFF_S
        while True:
            try:
                await self._follow(server)
            except AuthFailed as error:
                # Asking often with a wrong password locks accounts.
                backoff = MAX_BACKOFF_S
                log.error("email_imap_refused inbox=%s %s", self._inbox.id, error.detail)  # noqa: TRY400
            except (ChannelError, FolderMissing) as error:
                log.warning("email_imap_failed inbox=%s %s", self._inbox.id, error)
            except Exception:  # the sink's database may be away: as temporary as a lost line
                log.exception("email_imap_failed inbox=%s", self._inbox.id)
            if self._worked:
                backoff, self._worked = FIRST_BACKOFF_S, False
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))
            backoff = min(MAX_BACKOFF_S, backoff * 2)

    async def _follow(self, server: Server) -> None:
        connection = await ImapConnection.connect(server)
        try:
            while True:
                await self._read_new(connection)
                self._worked = True
                if connection.can_idle:
                    await connection.wait_for_mail(IDLE_S)
                else:
                    await asyncio.sleep(POLL_S)
        finally:
            connection.abort()

    async def _read_new(self, connection: ImapConnection) -> None:
        """Everything after the cursor. SELECT anew each time: only it tells of a folder deleted and made
        again.
        """
        validity, uid_next = await connection.select(self._folder)
        cursor = await self._sink.cursor()
        last = cursor.get("last_uid")
        if cursor.get("uidvalidity") == validity and isinstance(last, int):
            # "n:*" gives the last message even if its UID is below n.
            uids = [uid for uid in await connection.search(f"UID {last + 1}:*") if uid > last]
            await self._store_all(connection, validity, uids)
            return
        # The old UIDs mean nothing. Mails that were stored before are recognised by their dedupe keys.
        days = _days(self._inbox.config.get("imap_days"))
        if cursor.get("uidvalidity") is not None:
            days = max(days, DEFAULT_DAYS)
            log.warning("email_imap_uidvalidity_changed inbox=%s days=%s", self._inbox.id, days)
        uids = (
            await connection.search(f"SINCE {_imap_date(self._ctx.clock.now_ms() - (days + 1) * DAY)}")
            if days
            else []
        )
        everything = uid_next - 1 if uid_next else max(await connection.search("ALL"), default=0)
        await self._store_all(connection, validity, uids)
        end = max([everything, *uids])
        await self._store([], {"uidvalidity": validity, "last_uid": end})

    async def _store_all(self, connection: ImapConnection, validity: int, uids: list[int]) -> None:
        for start in range(0, len(uids), _BATCH):
            batch = uids[start : start + _BATCH]
            sizes = await connection.sizes(batch)
            items: list[RawItem] = []
            held = 0
            for uid in batch:
                item = await self._read_one(connection, validity, uid, sizes.get(uid))
                if item is not None:
                    items.append(item)
                    held += len(item.body)
                if held >= _BATCH_BYTES or uid == batch[-1]:
                    await self._store(items, {"uidvalidity": validity, "last_uid": uid})
                    items, held = [], 0

    async def _read_one(
        self, connection: ImapConnection, validity: int, uid: int, size: int | None
    ) -> RawItem | None:
        """The mail of a UID; None if it was deleted meanwhile. A mail that breaks the connection again and
        again is reduced to its headers, then to a note, so that it does not block those behind it.
        """
        if size is None:
            return None
        failures = self._failures.get(uid, 0)
        notes: dict[str, str] = {}
        if failures >= 2 * _PATIENCE:
            raw: bytes | None = _NOTE.format(uid=uid, validity=validity).encode()
            notes["truncated"] = "unreadable"
        else:
            if failures >= _PATIENCE:
                notes["truncated"] = "unreadable"
            elif size > MAX_MAIL:
                notes["truncated"] = "size"
            self._failures[uid] = failures + 1
            raw = await connection.body(uid, headers_only=bool(notes))
            if notes and raw is not None:
                notes["size"] = str(size)
        self._failures.pop(uid, None)
        return None if raw is None else make_item(raw, received_at=self._ctx.clock.now_ms(), notes=notes)

    async def _store(self, items: list[RawItem], cursor: dict[str, Any]) -> None:
        """Not interruptible: `stop` must not tear a transaction."""
        work = asyncio.ensure_future(self._sink.store(items, cursor=cursor))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work])
            raise


def _days(value: object) -> int:
    try:
        return max(0, min(3650, int(str(value)))) if value not in (None, "") else DEFAULT_DAYS
    except ValueError:
        return DEFAULT_DAYS


def _imap_date(ms: int) -> str:
    day = datetime.fromtimestamp(ms / 1000, UTC)
    return f"{day.day}-{_MONTHS[day.month - 1]}-{day.year}"
