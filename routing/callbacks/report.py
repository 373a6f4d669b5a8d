"""How promises were kept in a period: a report, its definitions named beside its numbers.

The cohort is the promises whose promised time (`window_start`) lies in the period, half-open, read by its index and
folded in one pass; so a promise counts in the period for which it was made, whenever it was kept. Places kept in the
queue are promises "at your turn", made for the moment they were taken.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.clock import DAY
from crm_core.db.uow import read_row, read_rows
from crm_core.errors import Invalid
from crm_core.schema import agent, team
from routing.callbacks.rows import OPEN
from routing.schema import callback, callback_attempt

GROUPS = ("none", "team", "owner", "source", "kind", "day")
MAX_PERIOD_MS = 400 * DAY
_PAGE = 5_000

VARIANTS: Mapping[str, str] = {
    "cohort": "promises whose promised time lies in the period [from, to)",
    "kept_on_time": "spoken with by the end of the promised window plus the team's tolerance",
    "dialled_on_time": "first attempt by the end of the promised window plus the team's tolerance",
    "kept_on_time_pct": "kept on time / (kept + not kept + cancelled late); open ones, those taken back in time and "
    "absorbed ones excluded",
    "not_kept": "escalated to a supervisor and not kept since",
    "cancelled_late": "taken back, by whomever, when the promised window and the tolerance were over without a talk: "
    "the promise was broken by then; contained in the cancelled ones",
    "lateness": "of those kept late: how long after the window and its tolerance; mean and longest",
    "attempts_per_callback": "counted attempts / promises with at least one attempt",
    "abandoned_after_answer_pct": "customer-first calls lost before an agent spoke / those that customers answered",
}
COLUMNS = (
    "group", "booked", "kept", "kept_on_time", "kept_late", "kept_on_time_pct", "dialled_on_time",
    "not_kept", "open", "cancelled_customer", "cancelled_agent", "cancelled_system",
    "cancelled_late", "absorbed", "escalated",
    "attempts", "attempts_counted", "attempts_per_callback", "lateness_mean_ms", "lateness_max_ms",
    "customer_first_answered", "abandoned_after_answer", "abandoned_after_answer_pct",
    "outcome_answered", "outcome_busy", "outcome_no_answer", "outcome_machine", "outcome_rejected",
    "outcome_failed", "outcome_invalid_number", "outcome_abandoned",
)  # fmt: skip


async def report(
    conn: AsyncConnection,
    *,
    since: int,
    until: int,
    team_id: int | None = None,
    group: str = "none",
    zone: ZoneInfo | None = None,
) -> dict[str, Any]:
    """`{"variants", "columns", "zone", "rows": [{column: value}], "total": {…}}`; shares are None where nothing is to
    divide. `zone`: whose days are meant by the group "day"; UTC if left out.

    Raises Invalid: bad_period (empty or longer than 400 days), bad_group.
    """
    if not since < until <= since + MAX_PERIOD_MS:
        raise Invalid("from must be before to, at most 400 days", code="bad_period")
    if group not in GROUPS:
        raise Invalid(f"group must be one of {', '.join(GROUPS)}", code="bad_group")
    found: dict[str, _Tally] = {}
    total = _Tally()
    names = await _names(conn, group)
    after = 0
    start = since
    while True:
        page = await read_rows(
            conn,
            select(callback)
            .where(
                callback.c.window_start >= start,
                callback.c.window_start < until,
                (callback.c.window_start > start) | (callback.c.id > after),
                *([callback.c.team_id == team_id] if team_id is not None else ()),
            )
            .order_by(callback.c.window_start, callback.c.id)
            .limit(_PAGE),
        )
        tries = await _attempts(conn, [r["id"] for r in page])
        for row in page:
            key = _key(row, group, names, zone)
            mine = tries.get(row["id"], ())
            found.setdefault(key, _Tally()).add(row, mine)
            total.add(row, mine)
        if len(page) < _PAGE:
            break
        start, after = page[-1]["window_start"], page[-1]["id"]
    rows = [{"group": key, **tally.data()} for key, tally in sorted(found.items())]
    return {
        "variants": dict(VARIANTS),
        "columns": list(COLUMNS),
        "zone": "UTC" if zone is None else zone.key,
        "rows": rows if group != "none" else [],
        "total": {"group": "total", **total.data()},
    }


async def _attempts(conn: AsyncConnection, ids: list[int]) -> dict[int, list[Mapping[str, Any]]]:
    found: dict[int, list[Mapping[str, Any]]] = {}
    for first in range(0, len(ids), 500):
        part = await read_rows(
            conn,
            select(callback_attempt).where(callback_attempt.c.callback_id.in_(ids[first : first + 500])),
        )
        for row in part:
            found.setdefault(row["callback_id"], []).append(row)
    return found


async def _names(conn: AsyncConnection, group: str) -> dict[int, str]:
    if group not in ("team", "owner"):
        return {}
    table = team if group == "team" else agent
    return {r["id"]: r["name"] for r in await read_rows(conn, select(table.c.id, table.c.name))}


def _key(row: Mapping[str, Any], group: str, names: Mapping[int, str], zone: ZoneInfo | None) -> str:
    match group:
        case "team" | "owner":
            who = row[f"{group}_id"]
            return "-" if who is None else names.get(who, str(who))
        case "day":
            return datetime.fromtimestamp(row["window_start"] / 1000, zone or UTC).date().isoformat()
        case "source" | "kind":
            return str(row[group])
        case _:
            return ""


class _Tally:
    def __init__(self) -> None:
        self.n: dict[str, int] = dict.fromkeys(COLUMNS[1:], 0)
        self.tried = 0
        self.late: list[int] = []

    def add(self, row: Mapping[str, Any], attempts: Iterable[Mapping[str, Any]]) -> None:
        n = self.n
        n["booked"] += 1
        kept_by = row["kept_by"] if row["kept_by"] is not None else row["window_end"]
        if row["state"] == "done":
            n["kept"] += 1
            late = (row["kept_at"] or kept_by) - kept_by
            n["kept_on_time" if late <= 0 else "kept_late"] += 1
            if late > 0:
                self.late.append(late)
        elif row["outcome"] == "absorbed":
            n["absorbed"] += 1
        elif row["state"] == "cancelled":
            n[f"cancelled_{row['ended_by'] or 'system'}"] += 1
            # Whoever closes a promise that is broken already does not make it whole. Its end is its last change.
            n["cancelled_late"] += row["updated_at"] > kept_by
        elif row["escalated_at"] is not None:
            n["not_kept"] += 1
        elif row["state"] in OPEN:
            n["open"] += 1
        n["escalated"] += row["escalated_at"] is not None
        first = row["first_dialled_at"]
        n["dialled_on_time"] += first is not None and first <= kept_by
        made = list(attempts)
        self.tried += bool(made)
        for each in made:
            n["attempts"] += 1
            n["attempts_counted"] += bool(each["counted"] and each["outcome"])
            key = f"outcome_{each['outcome']}"
            if key in n:
                n[key] += 1
            if each["style"] == "customer_first" and each["customer_answered_at"] is not None:
                n["customer_first_answered"] += 1
                n["abandoned_after_answer"] += each["outcome"] == "abandoned"

    def data(self) -> dict[str, Any]:
        n = self.n
        return {
            **n,
            "kept_on_time_pct": _pct(n["kept_on_time"], n["kept"] + n["not_kept"] + n["cancelled_late"]),
            "attempts_per_callback": round(n["attempts_counted"] / self.tried, 3) if self.tried else None,
            "lateness_mean_ms": round(sum(self.late) / len(self.late)) if self.late else None,
            "lateness_max_ms": max(self.late, default=None),
            "abandoned_after_answer_pct": _pct(n["abandoned_after_answer"], n["customer_first_answered"]),
        }


def _pct(part: int, whole: int) -> float | None:
    return round(100 * part / whole, 2) if whole else None


async def team_exists(conn: AsyncConnection, team_id: int) -> bool:
    return await read_row(conn, select(team.c.id).where(team.c.id == team_id)) is not None
