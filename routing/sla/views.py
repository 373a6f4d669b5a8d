"""Clocks as the API shows them: what is left of a promise at an instant.

Owns shapes and the one query behind lists. A clock whose deadline has passed is shown as breached at its deadline
even if no sweeper has been there yet.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.clock import to_iso
from routing.schema import sla_clock
from routing.sla import book as books
from routing.sla import store, timing
from routing.sla.clock import Clock, ClockState

#: finished clocks of one inquiry that a list shows besides the live ones
_ENDED_SHOWN = 10


def clock_view(row: Mapping[str, Any], now: int, book: books.Book) -> dict[str, Any]:
    """One clock. `elapsed_ms` and `remaining_ms` are in the measure of the target (`business` or plain time); the
    remaining is negative when overrun and None without a target.
    """
    clock = store.clock_of(row)
    elapsed = timing.elapsed_ms(clock, now, book.rules([clock]))
    breached = breached_at(clock, now)
    return {
        "id": row["id"],
        "inquiry_id": row["inquiry_id"],
        "metric": str(clock.metric),
        "instance": clock.instance,
        "state": str(clock.state),
        "activated_at": to_iso(clock.activated_at),
        "due_at": _iso(clock.due_at),
        "breach_at": _iso(clock.breach_at),
        "breached_at": _iso(breached),
        "fulfilled_at": _iso(clock.fulfilled_at),
        "cause": clock.cause,
        "business": clock.business,
        "target_ms": clock.target_ms,
        "elapsed_ms": elapsed,
        "remaining_ms": None if clock.target_ms is None else clock.target_ms - elapsed,
        "paused": clock.state is ClockState.PAUSED,
        "paused_since": _iso(clock.paused_since),
        "paused_ms": timing.paused_total_ms(clock, now),
        "pause_reasons": list(clock.pause_reasons),
        "priority": clock.priority,
        "policy_id": clock.policy_id,
        "policy_version": clock.policy_version,
        "policy": policy_view(book, clock.policy_id),
        "calendar_id": clock.calendar_id,
        "calendar_version": clock.calendar_version,
    }


def policy_view(book: books.Book, policy_id: int | None) -> dict[str, Any] | None:
    """{"id", "key", "version", "name"} of one version of a policy."""
    policy = book.policies.get(policy_id) if policy_id is not None else None
    if policy is None:
        return None
    return {"id": policy.id, "key": book.keys[policy.id], "version": policy.version, "name": policy.name}


def breached_at(clock: Clock, now: int) -> int | None:
    """When the promise was broken, as of `now`."""
    if clock.breached_at is not None:
        return clock.breached_at
    running_out = clock.state is ClockState.ACTIVE and clock.breach_at is not None and clock.breach_at < now
    return clock.breach_at if running_out else None


async def clocks_of(
    conn: AsyncConnection, inquiry_ids: Sequence[int], *, promised_only: bool = True
) -> dict[int, list[Mapping[str, Any]]]:
    """Rows of these inquiries' clocks in one query: the live ones by deadline, then the last ten that ended.

    `promised_only` leaves out clocks without a target, which measure for reports only.
    """
    if not inquiry_ids:
        return {}
    live = sla_clock.c.state.in_(store.LIVE)
    rank = func.row_number().over(
        partition_by=(sla_clock.c.inquiry_id, live), order_by=(sla_clock.c.id.desc(),)
    )
    wanted = select(sla_clock, rank.label("nth")).where(sla_clock.c.inquiry_id.in_(list(inquiry_ids)))
    if promised_only:
        wanted = wanted.where(sla_clock.c.target_ms.is_not(None))
    some = wanted.subquery()
    order = (
        case((some.c.state.in_(store.LIVE), 0), else_=1),
        func.coalesce(some.c.due_at, 2**62),
        some.c.id.desc(),
    )
    statement = (
        select(*(some.c[column.name] for column in sla_clock.c))
        .where(some.c.state.in_(store.LIVE) | (some.c.nth <= _ENDED_SHOWN))
        .order_by(some.c.inquiry_id, *order)
    )
    found: dict[int, list[Mapping[str, Any]]] = {i: [] for i in inquiry_ids}
    for row in (await conn.execute(statement)).mappings():
        found[row["inquiry_id"]].append(dict(row))
    return found


async def views_of(
    conn: AsyncConnection, inquiry_ids: Sequence[int], now: int
) -> dict[int, list[dict[str, Any]]]:
    """`clocks_of`, shown."""
    book = await books.load(conn)
    rows = await clocks_of(conn, inquiry_ids)
    return {i: [clock_view(row, now, book) for row in found] for i, found in rows.items()}


def _iso(ms: int | None) -> str | None:
    return None if ms is None else to_iso(ms)
