"""What hooks refuse: counted, kept for people to look at within a limit, and an alarm when it goes on.

A rotated secret looks like silence otherwise; a stranger's flood must not fill the table either.
"""

from collections import Counter
from collections.abc import Mapping

from aiohttp import web
from sqlalchemy import update

from channels.contract import InboxConfig
from crm_core import inbound_rows
from crm_core.db.uow import UnitOfWork
from crm_core.events import SUPERVISORS, DomainEvent
from crm_core.schema import inbox_state
from crm_core.services import Services

#: kept requests of one inbox, an hour
KEPT_PER_HOUR = 200
#: more wrong signatures than this within ten minutes raise the alarm, once in that time
ALARM_AFTER = 5
_TEN_MINUTES_S = 600
#: writes of the counter a second; what is above waits in memory for the next write
_COUNTED_PER_S = 2


class Refusals:
    """One per application; what it holds in memory is only what has not been written yet."""

    def __init__(self) -> None:
        self._uncounted: Counter[int] = Counter()
        self.last_inbound: dict[int, int] = {}

    async def count(self, services: Services, inbox: InboxConfig, reason: str) -> None:
        """Count a wrong signature; raise the alarm when they repeat."""
        now, limiter = services.clock.now_ms(), services.limiter
        self._uncounted[inbox.id] += 1
        repeated = (
            await limiter.take(
                f"unproven:{inbox.id}", per_s=ALARM_AFTER / _TEN_MINUTES_S, burst=ALARM_AFTER, now=now
            )
            > 0
        )
        alarm = (
            repeated
            and await limiter.take(f"unproven-alarm:{inbox.id}", per_s=1 / _TEN_MINUTES_S, burst=1, now=now)
            == 0
        )
        if (
            not alarm
            and await limiter.take(f"unproven-write:{inbox.id}", per_s=_COUNTED_PER_S, burst=10, now=now) > 0
        ):
            return
        number = self._uncounted.pop(inbox.id, 0)
        async with services.db.transaction() as uow:
            total = await _add(uow, inbox.id, number, reason)
            if alarm:
                await uow.emit(
                    DomainEvent(
                        kind="alarm.raised",
                        subject_kind="inbox",
                        subject_id=inbox.id,
                        actor=f"inbox:{inbox.id}",
                        payload={
                            "alarm": "signature_failures",
                            "inbox": {"id": inbox.id, "name": inbox.name},
                            "count": total,
                            "detail": f"{inbox.name}: requests keep coming without a valid proof; "
                            "was the secret changed?",
                        },
                        audience=SUPERVISORS,
                    )
                )

    async def keep(
        self,
        services: Services,
        inbox: InboxConfig,
        *,
        body: bytes,
        content_type: str,
        error: str,
        meta: Mapping[str, str],
        limited: bool,
        size: int | None = None,
    ) -> None:
        """Quarantine a refused request. `limited`: only so many an hour. `size`: of the whole, if body is cut."""
        if limited:
            wait = await services.limiter.take(
                f"kept:{inbox.id}",
                per_s=KEPT_PER_HOUR / 3600,
                burst=KEPT_PER_HOUR,
                now=services.clock.now_ms(),
            )
            if wait > 0:
                return
        async with services.db.transaction() as uow:
            await inbound_rows.quarantine_request(
                uow, inbox.id, body=body, content_type=content_type, error=error, meta=meta, size=size
            )


async def _add(uow: UnitOfWork, inbox_id: int, number: int, reason: str) -> int:
    words = {"last_error": f"signature refused: {reason}"[:500], "last_error_at": uow.now}
    await inbound_rows.note_state(uow, inbox_id, **words)
    return int(
        await uow.scalar(
            update(inbox_state)
            .where(inbox_state.c.inbox_id == inbox_id)
            .values(signature_failures=inbox_state.c.signature_failures + number)
            .returning(inbox_state.c.signature_failures)
        )
        or 0
    )


REFUSALS = web.AppKey("refusals", Refusals)
