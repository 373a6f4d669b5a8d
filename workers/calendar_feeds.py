"""Fetching holidays from the addresses that calendars have: through the same guard as webhooks, with limits.

Owns the way outside; reading the file is `routing.calendar_ical`, what becomes of it `routing.sla.holidays`.
"""

import aiohttp
from sqlalchemy import select, update

from crm_core.clock import MINUTE
from crm_core.db.uow import UnitOfWork, read_row
from crm_core.errors import Invalid
from crm_core.jobs import JobRegistry, JobRow, NewJob
from crm_core.services import Services
from routing import calendar_ical
from routing.schema import calendar_feed
from routing.sla import holidays, zones
from workers.webhooks import Refused, guarded_session

REFRESH_JOB = "calendar.refresh"
_TIMEOUT_S = 20
_DUE = 20
#: a refresh that was asked for is not asked for again so soon, even if its job died
_ASKED_MS = 30 * MINUTE
_ZONES_EVERY_MS = 60 * MINUTE


def declare(registry: JobRegistry) -> None:
    registry.job(REFRESH_JOB, lease_s=120, queue="fetch")(refresh)


async def sweep(services: Services) -> int | None:
    """Ask for what is due: one job per address."""
    async with services.db.transaction() as uow:
        due = await uow.rows(
            uow.lock(
                select(calendar_feed.c.calendar_id)
                .where(calendar_feed.c.next_at.is_not(None), calendar_feed.c.next_at <= uow.now)
                .order_by(calendar_feed.c.next_at)
                .limit(_DUE),
                skip_locked=True,
            )
        )
        for row in due:
            await _ask(uow, row["calendar_id"])
    return None


async def _ask(uow: UnitOfWork, calendar_id: int) -> None:
    uow.enqueue(
        NewJob(
            name=REFRESH_JOB, args={"calendar_id": calendar_id}, queue="fetch",
            dedupe=f"{REFRESH_JOB}:{calendar_id}",
        )
    )  # fmt: skip
    await uow.execute(
        update(calendar_feed)
        .where(calendar_feed.c.calendar_id == calendar_id)
        .values(next_at=uow.now + _ASKED_MS)
    )


async def refresh(services: Services, job: JobRow) -> None:
    """The job `calendar.refresh {calendar_id}`: one fetch; failures are kept with the feed and tried again later."""
    calendar_id = int(job.args["calendar_id"])
    async with services.db.reading() as conn:
        feed = await read_row(conn, select(calendar_feed).where(calendar_feed.c.calendar_id == calendar_id))
    if feed is None or feed["url"] is None:
        return
    try:
        content, etag = await _get(feed["url"], feed["etag"], services)
        found = None
        if content is not None:
            found = await calendar_ical.read_holidays(content, *holidays.window(services.clock.now_ms()))
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError, Invalid) as error:
        cause = error.__cause__ if isinstance(error.__cause__, Refused) else error
        async with services.db.transaction() as uow:
            await holidays.failed(uow, calendar_id, str(cause) or type(cause).__name__)
        return
    async with services.db.transaction() as uow:
        still = await uow.scalar(
            uow.lock(select(calendar_feed.c.url).where(calendar_feed.c.calendar_id == calendar_id))
        )
        if still == feed["url"]:
            await holidays.fetched(uow, calendar_id, found, etag=etag)


async def _get(url: str, etag: str | None, services: Services) -> tuple[bytes | None, str | None]:
    """(content, etag); content None: unchanged. Raises OSError for any other answer than the file."""
    headers = {"Accept": "text/calendar", "User-Agent": f"Switchboard/{services.settings.version}"}
    if etag:
        headers["If-None-Match"] = etag
    allowed = services.settings.webhook_private
    async with (
        guarded_session(url, allowed, timeout_s=_TIMEOUT_S) as session,
        session.get(url, headers=headers, allow_redirects=False) as answer,
    ):
        if answer.status == 304:
            return None, etag
        if answer.status != 200:
            raise OSError(f"answered {answer.status}")
        content = bytearray()
        async for chunk in answer.content.iter_chunked(16_384):
            content += chunk
            if len(content) > calendar_ical.MAX_BYTES:
                raise OSError(f"the file is larger than {calendar_ical.MAX_BYTES // 1024} KiB")
        fresh = answer.headers.get("ETag")
        return bytes(content), fresh if fresh is not None and len(fresh) <= 300 else None


async def sweep_zones(services: Services) -> int | None:
    """Once an hour, and at start: whether tzdata moved the hours of a calendar."""
    last = _CHECKED.get(services.db.url)
    now = services.clock.now_ms()
    if last is None or abs(now - last) >= _ZONES_EVERY_MS:
        _CHECKED[services.db.url] = now
        await zones.check(services.db)
    return None


#: when this process looked last, by database; losing it costs one look
_CHECKED: dict[str, int] = {}
