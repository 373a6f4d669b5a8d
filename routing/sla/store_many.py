"""Clocks of hundreds of inquiries at once, read and written column by column: for work that goes through all of them.

Beside `routing.sla.store`, which has the ordinary way; the lock order is the same, and so is what is stored. Documents
of JSON travel as text, and clocks are made one inquiry at a time: thousands of them alive at once cost more in the
collector of garbage than in the work itself.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import Text, cast, literal_column, select

from crm_core.db.columns import inserting, updating
from crm_core.db.prepared import Prepared, any_of
from crm_core.db.uow import Row, UnitOfWork
from crm_core.schema import inquiry
from routing.schema import sla_clock, sla_event
from routing.sla import book as books
from routing.sla import store
from routing.sla.clock import Clock
from routing.sla.policy import Rulebook

_HEADS = Prepared(
    select(
        inquiry.c.id, inquiry.c.priority, inquiry.c.team_id, inquiry.c.assignee_id, inquiry.c.channel,
        inquiry.c.conversation_id,
    )
    .where(any_of(inquiry.c.id, "ids"))
    .order_by(inquiry.c.id)
    .with_for_update()
)  # fmt: skip
_FIELDS = [sla_clock.c[name] for name in store.FIELDS if name != "pause_reasons"]
# Of who holds the inquiries: no lock of their own, as for firing.
_LIVE = Prepared(
    select(
        sla_clock.c.id, sla_clock.c.inquiry_id, cast(sla_clock.c.data, Text).label("data"),
        cast(sla_clock.c.pause_reasons, Text).label("pause_reasons"), *_FIELDS,
    )
    .where(any_of(sla_clock.c.inquiry_id, "ids"), store.IS_LIVE)
    .order_by(sla_clock.c.inquiry_id)
)  # fmt: skip


class Live(NamedTuple):
    """A live clock as it is stored. `memory` is the ticket's own, which one of its clocks keeps."""

    id: int
    clock: Clock
    memory: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Found:
    """Live clocks of inquiries."""

    rows: Sequence[dict[str, Any]]

    def rules(self, book: books.Book) -> Rulebook:
        """The rulebook for all of them."""
        calendars = {row["calendar_id"] for row in self.rows}
        return book.rules_of(calendars, {(row["policy_id"], row["policy_version"]) for row in self.rows})

    def by_inquiry(self) -> Iterator[tuple[int, list[Live]]]:
        """The clocks of one inquiry after the other, in order of metric and instance; to be gone through once."""
        for inquiry_id, mine in groupby(self.rows, key=itemgetter("inquiry_id")):
            rows = list(mine)
            documents = json.loads(f"[{','.join([row['data'] for row in rows])}]")
            clocks = [_live(row, document) for row, document in zip(rows, documents, strict=True)]
            yield inquiry_id, sorted(clocks, key=_key)


def _key(one: Live) -> tuple[str, int]:
    return one.clock.key


def _live(row: dict[str, Any], document: Mapping[str, Any]) -> Live:
    clock_id = row.pop("id")
    del row["inquiry_id"], row["data"]
    row["pause_reasons"] = _words(row["pause_reasons"])
    return Live(clock_id, store.clock_of_values(row, document), document.get("ticket"))


@lru_cache(maxsize=256)
def _words(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


async def lock_heads(uow: UnitOfWork, inquiry_ids: Sequence[int]) -> dict[int, Row]:
    """Of these inquiries what the ledger says of them, locked in order of id."""
    return {row["id"]: row for row in await uow.rows(_HEADS, {"ids": inquiry_ids})}


async def live_clocks(uow: UnitOfWork, inquiry_ids: Sequence[int]) -> Found:
    """All live clocks of these inquiries, which must be locked, in order of the inquiry."""
    outcome = await uow.execute(_LIVE, {"ids": inquiry_ids})
    return Found(outcome.rows)


# --- what other hours change ----------------------------------------------------------------------------------
#: of a clock whose past holds no surprise
MOVED = tuple(name for name in store.REMEASURED if name not in ("breached_at", "data"))
_MOVE = updating(
    sla_clock,
    [*MOVED, "data"],
    key="id",
    also={"version": sla_clock.c.version + literal_column("1")},
)
_SHARED = ("kind", "cause", "step_key", "recorded_at")
_APPEND = inserting(sla_event, ["clock_id", "inquiry_id", "at", "data"], shared=_SHARED)


class Moves:
    """Clocks that moved, each with the one entry of the ledger that says so."""

    def __init__(self) -> None:
        self._columns: dict[str, list[Any]] = {name: [] for name in ("id", "data", *MOVED)}
        self._entries: dict[str, list[Any]] = {name: [] for name in ("clock_id", "inquiry_id", "at", "data")}
        self._columns_of_clock = [(name, self._columns[name].append) for name in MOVED]

    def __len__(self) -> int:
        return len(self._columns["id"])

    def add(self, one: Live, moved: Clock, inquiry_id: int, at: int, entry: str) -> None:
        """`entry`: the column `data` of the ledger, as JSON."""
        values = vars(moved)
        for name, append in self._columns_of_clock:
            append(values[name])
        self._columns["id"].append(one.id)
        self._columns["data"].append(json.dumps(store.data_of(moved, one.memory)))
        self._entries["clock_id"].append(one.id)
        self._entries["inquiry_id"].append(inquiry_id)
        self._entries["at"].append(at)
        self._entries["data"].append(entry)

    async def write(self, uow: UnitOfWork, *, kind: str, cause: str) -> None:
        await _MOVE.run(uow.conn, self._columns)
        shared = {"kind": kind, "cause": cause, "step_key": None, "recorded_at": uow.now}
        await _APPEND.run(uow.conn, self._entries, shared)
