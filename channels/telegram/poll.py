"""Long polling: fetch a batch, store it with the new offset in one transaction, only then ask for the next.

aiogram's own loop is not used: it confirms updates before they are handled and one bad update stops its
batch.
Facts: https://core.telegram.org/bots/api#getupdates
"""

import asyncio
import random
from dataclasses import dataclass
from typing import Any

import structlog

from channels.contract import ChannelContext, InboundSink, InboxConfig, NotConfigured
from channels.telegram.api import (
    Account,
    ApiRefusedError,
    ApiUnreachableError,
    account_of,
    call,
    sleep_unless,
)
from channels.telegram.updates import ALLOWED_UPDATES, integer, mapping, polled_item
from crm_core.clock import DAY

log = structlog.get_logger(__name__)

BATCH = 100
#: After a week without updates Telegram goes on from a random id, maybe a lower one: an old offset would
#: hide it.
_OFFSET_LIFE_MS = 6 * DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class PollPace:
    """Seconds. Tests make them small."""

    long_poll_s: int = 25
    backoff_first_s: float = 1.0
    backoff_max_s: float = 60.0
    conflict_s: float = 15.0
    refused_token_s: float = 60.0
    #: how much longer than the long poll we wait for its answer
    grace_s: float = 10.0


async def poll(
    inbox: InboxConfig, sink: InboundSink, ctx: ChannelContext, stop: asyncio.Event, pace: PollPace
) -> None:
    """Run until `stop`. Returns at once if the inbox is not one that polls. Errors are logged and waited
    out.
    """
    try:
        account = account_of(inbox)
    except NotConfigured as error:
        log.warning("telegram_poll_not_configured", inbox_id=inbox.id, reason=error.detail)
        return
    if account.mode != "polling":
        return
    loop = _Loop(account, inbox, sink, ctx, pace)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        while not stop.is_set():
            step = asyncio.ensure_future(loop.step())
            try:
                await asyncio.wait({step, stopping}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not step.done():
                    # A batch whose storing is cut off was not confirmed: Telegram gives it again.
                    step.cancel()
                delay = (await asyncio.gather(step, return_exceptions=True))[0]
            if isinstance(delay, float) and delay > 0:
                await sleep_unless(stop, delay)
            elif isinstance(delay, Exception):
                raise delay
    finally:
        stopping.cancel()


class _Loop:
    def __init__(
        self, account: Account, inbox: InboxConfig, sink: InboundSink, ctx: ChannelContext, pace: PollPace
    ) -> None:
        self._account = account
        self._inbox = inbox
        self._sink = sink
        self._ctx = ctx
        self._pace = pace
        self._cursor: dict[str, Any] | None = None
        self._failures = 0

    async def step(self) -> float:
        """One poll. Returns how many seconds to wait before the next."""
        try:
            if self._cursor is None:
                self._cursor = dict(await self._sink.cursor())
            batch = await call(
                self._account,
                self._ctx,
                "getUpdates",
                self._params(),
                timeout_s=self._pace.long_poll_s + self._pace.grace_s,
            )
            if not isinstance(batch, list):
                raise ApiUnreachableError("getUpdates: the result is not a list")
            await self._store(batch)
        except ApiRefusedError as refusal:
            return await self._after_refusal(refusal)
        except ApiUnreachableError as error:
            return self._backoff("telegram_poll_unreachable", error.detail)
        except Exception as error:
            # The store failed: what it did not take is asked for again.
            self._cursor = None
            return self._backoff("telegram_poll_store_failed", type(error).__name__)
        self._failures = 0
        return 0.0

    def _params(self) -> dict[str, Any]:
        params: dict[str, Any] = {
            "timeout": self._pace.long_poll_s,
            "limit": BATCH,
            "allowed_updates": list(ALLOWED_UPDATES),
        }
        cursor = self._cursor or {}
        offset, moved_at = integer(cursor.get("offset")), integer(cursor.get("at"))
        if offset is not None and (moved_at is None or self._ctx.clock.now_ms() - moved_at < _OFFSET_LIFE_MS):
            params["offset"] = offset
        return params

    async def _store(self, batch: list[Any]) -> None:
        if not batch:
            return
        now = self._ctx.clock.now_ms()
        ids = [one for one in (integer(mapping(each).get("update_id")) for each in batch) if one is not None]
        if not ids:
            # Nothing here can be confirmed, so the same would come for ever: wait for the provider to
            # recover.
            raise ApiUnreachableError("getUpdates: a batch without update ids")
        cursor = {"offset": max(ids) + 1, "at": now}
        await self._sink.store([polled_item(each, now) for each in batch], cursor=cursor)
        self._cursor = cursor

    async def _after_refusal(self, refusal: ApiRefusedError) -> float:
        if refusal.code == 409 and "webhook" in refusal.description.lower():
            log.info("telegram_poll_removes_webhook", inbox_id=self._inbox.id)
            try:
                await call(self._account, self._ctx, "deleteWebhook", {"drop_pending_updates": False})
            except (ApiRefusedError, ApiUnreachableError) as error:
                return self._backoff("telegram_poll_webhook_stays", str(error))
            return 0.0
        if refusal.code == 409:
            log.error("telegram_poll_conflict", inbox_id=self._inbox.id, reason=refusal.description)
            return self._pace.conflict_s * (1 + random.random())
        if refusal.code in {401, 404}:
            log.error("telegram_poll_token_refused", inbox_id=self._inbox.id, reason=refusal.description)
            return self._pace.refused_token_s * (1 + random.random())
        if refusal.retry_after_s is not None:
            return float(refusal.retry_after_s) + random.random() * self._pace.backoff_first_s
        return self._backoff("telegram_poll_refused", str(refusal))

    def _backoff(self, event: str, reason: str) -> float:
        """Doubling to a cap, at random between half and whole so that pollers do not march in step."""
        self._failures += 1
        doubled = self._pace.backoff_first_s * float(2 ** min(self._failures - 1, 16))
        whole = min(doubled, self._pace.backoff_max_s)
        log.warning(
            event, inbox_id=self._inbox.id, reason=self._account.redact(reason), failures=self._failures
        )
        return whole * (0.5 + random.random() / 2)
