"""The installation's own recorded traffic, read by index and page by page; nothing here writes or decides.

Work items tell of inquiries and callbacks, calls tell of the telephone (a call that nobody answered never became
a work item). Each page is a read of its own: a long look at the past holds no snapshot open.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, literal_column, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.clock import MINUTE
from crm_core.db.engine import Database
from crm_core.errors import Invalid
from crm_core.schema import call, inbox, inquiry, message, team
from routing import store
from routing.model import LIVE, Channel, ItemState, Requirements, RowLike
from routing.planning.handling import held_ms
from routing.planning.past import Outcome, PastRequest, Period
from routing.schema import assignment, callback, sla_clock, sla_event, work_item
from routing.schema import calendar as calendar_table
from routing.store import TeamContext

#: rows of one page: the lists of ids stay below what a statement may carry
PAGE = 500
#: the width of an arrival count; local half-hours of every zone are made of these
QUARTER_MS = 15 * MINUTE
#: ends of a call in which the customer went away while nobody answered
_GAVE_UP = ("abandoned", "missed")


async def teams(conn: AsyncConnection) -> dict[int, TeamContext]:
    """All teams with settings and hours, by id; whoever is not active any more too, for the past is theirs."""
    rows = await conn.execute(
        select(team.c.id, team.c.name, team.c.settings, calendar_table.c.spec).outerjoin(
            calendar_table, calendar_table.c.id == team.c.calendar_id
        )
    )
    found = {}
    for row in rows.mappings():
        settings, problem = store.settings_of(row["settings"])
        found[int(row["id"])] = TeamContext(settings, store.calendar_of(row["spec"]), row["name"], problem)
    return found


async def requests(
    db: Database, period: Period, *, team_id: int | None = None, latest: int | None = None
) -> AsyncIterator[list[PastRequest]]:
    """Pages of what came in the period: work items by readiness, then calls by their beginning.

    `latest`: of each of the two only about so many, the newest first.
    """
    async with db.reading() as conn:
        known = await teams(conn)
    for page in (_items, _calls):
        after: tuple[int, int] | None = None
        seen = 0
        while True:
            async with db.reading() as conn:
                found, after = await page(conn, period, known, team_id, after, latest is not None)
            if found:
                yield found
            seen += len(found)
            if after is None or (latest is not None and seen >= latest):
                break


async def read(
    db: Database, period: Period, *, team_id: int | None = None, at_most: int
) -> list[PastRequest]:
    """All requests of the period in the order of their coming.

    Raises:
        Invalid: `too_much_traffic`, more than `at_most`; ask for a shorter period or one team.
    """
    found: list[PastRequest] = []
    async for page in requests(db, period, team_id=team_id):
        found += page
        if len(found) > at_most:
            raise Invalid(
                f"more than {at_most} requests came in this period; ask for a shorter one, or for one team",
                code="too_much_traffic", params={"at_most": at_most},
            )  # fmt: skip
    found.sort(key=lambda r: (r.ready_at, r.source, r.id))
    return found


async def arrivals(
    conn: AsyncConnection, period: Period, *, team_id: int | None = None
) -> dict[tuple[int | None, str], dict[int, int]]:
    """Counts by (team, channel) and quarter-hour: {(team, channel): {instant of its beginning: requests}}."""
    counts: dict[tuple[int | None, str], dict[int, int]] = {}
    home = func.coalesce(work_item.c.home_team_id, work_item.c.team_id)
    line = _team_of_call()
    for moment, whose, channel, statement in (
        (
            work_item.c.ready_at,
            home,
            work_item.c.channel,
            select().select_from(work_item).where(work_item.c.source_kind != "call"),
        ),
        (call.c.started_at, line, None, _inbound(select().select_from(_call_with_team()))),
    ):
        # Literal, not a parameter: Postgres must see the same expression in SELECT and GROUP BY.
        quarter = moment - moment % literal_column(str(QUARTER_MS))
        columns: list[Any] = [quarter.label("quarter"), whose.label("team_id"), func.count().label("n")]
        if channel is not None:
            columns.append(channel.label("channel"))
        wanted = statement.add_columns(*columns).where(moment >= period.start, moment < period.end)
        if team_id is not None:
            wanted = wanted.where(whose == team_id)
        keys = [quarter, whose] if channel is None else [quarter, whose, channel]
        for row in (await conn.execute(wanted.group_by(*keys))).mappings():
            key = (row["team_id"], Channel.VOICE.value if channel is None else row["channel"])
            cell = counts.setdefault(key, {})
            cell[int(row["quarter"])] = cell.get(int(row["quarter"]), 0) + int(row["n"])
    return counts


async def first_request_at(conn: AsyncConnection) -> int | None:
    """When the record begins: days before it are not days without customers."""
    firsts = [
        await conn.scalar(
            select(work_item.c.ready_at).order_by(work_item.c.ready_at, work_item.c.id).limit(1)
        ),
        await conn.scalar(
            select(call.c.started_at)
            .where(call.c.started_at.is_not(None))
            .order_by(call.c.started_at, call.c.id)
            .limit(1)
        ),
    ]
    return min((int(t) for t in firsts if t is not None), default=None)


# --- work items
# -----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Facts:
    """What other tables know about a page of items, by item or inquiry."""

    assignments: Mapping[int, list[RowLike]]
    pauses: Mapping[int, list[tuple[int, int]]]
    last_words: Mapping[int, int]
    first_replies: Mapping[int, RowLike]


async def _items(
    conn: AsyncConnection, period: Period, known: Mapping[int, TeamContext], team_id: int | None,
    after: tuple[int, int] | None, newest_first: bool,
) -> tuple[list[PastRequest], tuple[int, int] | None]:  # fmt: skip
    statement = _page(
        select(work_item).where(work_item.c.source_kind != "call"),
        work_item.c.ready_at, work_item.c.id, period, after, newest_first,
    )  # fmt: skip
    if team_id is not None:
        statement = statement.where(func.coalesce(work_item.c.home_team_id, work_item.c.team_id) == team_id)
    rows = (await conn.execute(statement)).mappings().all()
    facts = await _facts(conn, rows, period.end)
    last = (int(rows[-1]["ready_at"]), int(rows[-1]["id"])) if len(rows) == PAGE else None
    return [_of_item(row, facts, known) for row in rows], last


async def _facts(conn: AsyncConnection, rows: Sequence[RowLike], end: int) -> _Facts:
    ids = [r["id"] for r in rows]
    inquiries = sorted({r["inquiry_id"] for r in rows if r["inquiry_id"] is not None})
    chats = sorted({r["inquiry_id"] for r in rows if r["inquiry_id"] and r["channel"] == Channel.CHAT})
    held: dict[int, list[RowLike]] = {}
    if ids:
        found = await conn.execute(
            select(assignment)
            .where(assignment.c.item_id.in_(ids))
            .order_by(assignment.c.item_id, assignment.c.id)
        )
        for row in found.mappings():
            held.setdefault(row["item_id"], []).append(row)
    words: dict[int, int] = {}
    if chats:
        latest = (
            select(message.c.inquiry_id, func.max(message.c.created_at))
            .where(message.c.inquiry_id.in_(chats), message.c.direction != "internal")
            .group_by(message.c.inquiry_id)
        )
        words = {int(i): int(t) for i, t in await conn.execute(latest)}
    return _Facts(held, await _pauses(conn, inquiries, end), words, await _first_replies(conn, inquiries))


async def _pauses(
    conn: AsyncConnection, inquiries: Sequence[int], end: int
) -> dict[int, list[tuple[int, int]]]:
    """When an inquiry waited for the customer: the pauses of its agent_work clock, which every inquiry has."""
    if not inquiries:
        return {}
    rows = await conn.execute(
        select(sla_event.c.inquiry_id, sla_event.c.kind, sla_event.c.at)
        .join(sla_clock, sla_clock.c.id == sla_event.c.clock_id)
        .where(
            sla_event.c.inquiry_id.in_(inquiries), sla_clock.c.metric == "agent_work",
            sla_event.c.kind.in_(("pause", "resume", "fulfil", "cancel")),
        )
        .order_by(sla_event.c.inquiry_id, sla_event.c.at, sla_event.c.id)
    )  # fmt: skip
    pauses: dict[int, list[tuple[int, int]]] = {}
    since: dict[int, int] = {}
    for inquiry_id, kind, at in rows:
        if kind == "pause":
            since.setdefault(inquiry_id, int(at))
        elif inquiry_id in since:
            pauses.setdefault(inquiry_id, []).append((since.pop(inquiry_id), int(at)))
    for inquiry_id, start in since.items():
        # It waits for him still: far enough that no assignment of the period reaches beyond.
        pauses.setdefault(inquiry_id, []).append((start, max(end, start) + 400 * 86_400_000))
    return pauses


async def _first_replies(conn: AsyncConnection, inquiries: Sequence[int]) -> dict[int, RowLike]:
    if not inquiries:
        return {}
    rows = await conn.execute(
        select(
            sla_clock.c.inquiry_id, sla_clock.c.fulfilled_at, sla_clock.c.breached_at, sla_clock.c.target_ms
        ).where(
            sla_clock.c.inquiry_id.in_(inquiries),
            sla_clock.c.metric == "first_reply",
            sla_clock.c.instance == 1,
        )
    )
    return {int(r["inquiry_id"]): r for r in rows.mappings()}


def _of_item(row: RowLike, facts: _Facts, known: Mapping[int, TeamContext]) -> PastRequest:
    held = facts.assignments.get(row["id"], [])
    home = row["home_team_id"] if row["home_team_id"] is not None else row["team_id"]
    team_ = known.get(home, TeamContext()) if home is not None else TeamContext()
    channel = row["channel"]
    inquiry_id = row["inquiry_id"]
    silent_at = None
    if channel == Channel.CHAT and (said := facts.last_words.get(inquiry_id)) is not None:
        inactive = team_.settings.channel(channel).inactive_ms
        silent_at = None if inactive is None else said + inactive
    stretches = [(h["started_at"], h["ended_at"]) for h in held]
    pauses = facts.pauses.get(inquiry_id, ())
    wall = held_ms(stretches, pauses=pauses, silent_at=silent_at) if held else None
    handle = wall
    if channel == Channel.ASYNC and wall is not None:
        handle = held_ms(stretches, pauses=pauses, calendar=team_.calendar)
    first = held[0] if held else None
    replied = facts.first_replies.get(inquiry_id) if row["attempt"] == 1 else None
    reply_ms = None
    if first is not None and replied is not None and replied["fulfilled_at"] is not None:
        reply_ms = max(replied["fulfilled_at"] - first["started_at"], 0)
    if first is not None:
        outcome, left_at = Outcome.HANDLED, first["started_at"]
    elif row["state"] == ItemState.ABANDONED:
        outcome, left_at = Outcome.ABANDONED, row["ended_at"]
    elif row["state"] in LIVE:
        outcome, left_at = Outcome.WAITING, None
    else:
        outcome, left_at = Outcome.WITHDRAWN, row["ended_at"]
    return PastRequest(
        source=row["source_kind"], id=row["id"], team_id=home, channel=channel, kind=row["kind"],
        priority=row["priority"], vip=row["vip"], requirements=Requirements.from_data(row["requirements"]),
        manager_id=row["manager_id"], sticky_agent_id=row["sticky_agent_id"], ready_at=row["ready_at"],
        due_at=row["due_at"], outcome=outcome, left_at=left_at, agent_id=first["agent_id"] if first else None,
        handle_ms=handle, held_ms=wall, reply_ms=reply_ms,
        sla_breached=None if replied is None or replied["target_ms"] is None else replied["breached_at"] is not None,
        hands=len(held),
    )  # fmt: skip


# --- calls
# ----------------------------------------------------------------------------------------------------
def _team_of_call() -> ColumnElement[Any]:
    """The line's team, else that of the request the call belongs to."""
    return func.coalesce(inbox.c.team_id, inquiry.c.team_id)


def _call_with_team() -> Any:
    return call.join(inbox, inbox.c.id == call.c.inbox_id).outerjoin(
        inquiry, inquiry.c.id == call.c.inquiry_id
    )


def _inbound(statement: Select[Any]) -> Select[Any]:
    return statement.where(call.c.direction == "inbound", call.c.started_at.is_not(None))


async def _calls(
    conn: AsyncConnection, period: Period, known: Mapping[int, TeamContext], team_id: int | None,
    after: tuple[int, int] | None, newest_first: bool,
) -> tuple[list[PastRequest], tuple[int, int] | None]:  # fmt: skip
    whose = _team_of_call()
    columns = (
        call.c.id, call.c.started_at, call.c.answered_at, call.c.ended_at, call.c.disposition, call.c.agent_id,
        call.c.contact_id, whose.label("team_id"),
    )  # fmt: skip
    statement = _inbound(select(*columns).select_from(_call_with_team()))
    statement = _page(statement, call.c.started_at, call.c.id, period, after, newest_first)
    if team_id is not None:
        statement = statement.where(whose == team_id)
    rows = (await conn.execute(statement)).mappings().all()
    last = (int(rows[-1]["started_at"]), int(rows[-1]["id"])) if len(rows) == PAGE else None
    queued, promised = await _queued(conn, rows), await _promised(conn, rows)
    return [_of_call(row, known, queued.get(row["id"]), promised=row["id"] in promised) for row in rows], last


async def _queued(conn: AsyncConnection, rows: Sequence[RowLike]) -> dict[int, RowLike]:
    """The work items of those calls that waited in our own queue, or were answered, by call."""
    if not rows:
        return {}
    found = await conn.execute(
        select(work_item)
        .where(work_item.c.source_kind == "call", work_item.c.source_id.in_([r["id"] for r in rows]))
        .order_by(work_item.c.attempt.desc())
    )
    return {int(r["source_id"]): r for r in found.mappings()}


async def _promised(conn: AsyncConnection, rows: Sequence[RowLike]) -> set[int]:
    """The calls whose callers were promised a callback instead: they hung up and did not give up (docs/sla.md)."""
    callers = sorted({r["contact_id"] for r in rows if r["contact_id"] is not None})
    if not callers:
        return set()
    found = await conn.scalars(
        select(callback.c.held_call_id).where(
            callback.c.contact_id.in_(callers), callback.c.held_call_id.in_([r["id"] for r in rows])
        )
    )
    return set(found.all())


def _of_call(
    row: RowLike, known: Mapping[int, TeamContext], item: RowLike | None, *, promised: bool
) -> PastRequest:
    team_ = known.get(row["team_id"], TeamContext()) if row["team_id"] is not None else TeamContext()
    handle = None
    if row["answered_at"] is not None:
        outcome, left_at = Outcome.HANDLED, max(row["answered_at"], row["started_at"])
        if row["ended_at"] is not None:
            # Other than a work item, a call knows nothing of the time after it.
            handle = max(row["ended_at"] - left_at, 0) + team_.settings.channel(Channel.VOICE).wrapup_ms
    elif row["disposition"] in _GAVE_UP and not promised:
        outcome, left_at = Outcome.ABANDONED, row["ended_at"]
    elif row["ended_at"] is None:
        outcome, left_at = Outcome.WAITING, None
    else:
        outcome, left_at = Outcome.WITHDRAWN, row["ended_at"]
    asked: dict[str, Any] = {}
    if item is not None:
        asked = {
            "priority": item["priority"], "vip": item["vip"], "manager_id": item["manager_id"],
            "sticky_agent_id": item["sticky_agent_id"], "due_at": item["due_at"],
            "requirements": Requirements.from_data(item["requirements"]),
        }  # fmt: skip
    return PastRequest(
        source="call", id=row["id"], team_id=row["team_id"], channel=Channel.VOICE, kind="call", **asked,
        ready_at=row["started_at"], outcome=outcome, left_at=left_at, agent_id=row["agent_id"],
        handle_ms=handle, held_ms=handle,
        hands=1 if outcome == Outcome.HANDLED else 0,
    )  # fmt: skip


def _page(
    statement: Select[Any], moment: ColumnElement[Any], key: ColumnElement[Any], period: Period,
    after: tuple[int, int] | None, newest_first: bool,
) -> Select[Any]:  # fmt: skip
    """The next page of the period by (instant, id), one index range either way."""
    statement = statement.where(moment >= period.start, moment < period.end)
    if after is not None:
        at, last = after
        beyond = (moment < at, key < last) if newest_first else (moment > at, key > last)
        # The first condition alone bounds the index range; the second leaves out what was read at that instant.
        statement = statement.where(moment <= at if newest_first else moment >= at)
        statement = statement.where(or_(beyond[0], and_(moment == at, beyond[1])))
    order = (moment.desc(), key.desc()) if newest_first else (moment, key)
    return statement.order_by(*order).limit(PAGE)


__all__ = ["QUARTER_MS", "arrivals", "first_request_at", "read", "requests", "teams"]
