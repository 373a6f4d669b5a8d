"""Reports by their definitions: each number with the custom it is counted by, ratios of sums, never averages of ratios.

Owns what a report is made of: the question, the cells that rows are added up in, and the shape of the answer. The
formulas are `routing.reporting`, the time axis is `reports_buckets`, what is read for each report is in
`reports_promises` (sla, resolution, backlog) and `reports_queue` (service, handling).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core import sheet
from crm_core.clock import from_iso, to_iso
from crm_core.errors import Invalid
from crm_core.schema import agent, team
from routing.sla.reports_buckets import Buckets

DIMENSIONS = ("team", "agent", "channel", "metric", "priority")
#: rows of one answer: buckets times groups
MAX_ROWS = 50_000

Numbers = dict[str, int | float | None]
Group = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a report is asked for. Instants in ms; `by` names the dimensions of a row, in order."""

    begin: int
    end: int
    zone: ZoneInfo
    bucket: str = "none"
    by: tuple[str, ...] = ()
    team_id: int | None = None
    agent_id: int | None = None
    channel: str | None = None
    metric: str | None = None
    priority: str | None = None
    threshold_ms: int = 20_000
    short_ms: int = 5_000

    def wants(self, facts: Mapping[str, Any]) -> bool:
        """Whether a fact {"team", "agent", "channel", "metric", "priority"} is asked for."""
        return all(facts.get(name) == value for name, value in self.asked())

    def asked(self) -> tuple[tuple[str, Any], ...]:
        """The filters that are set: (dimension, value)."""
        every = (self.team_id, self.agent_id, self.channel, self.metric, self.priority)
        return tuple(
            (name, value) for name, value in zip(DIMENSIONS, every, strict=True) if value is not None
        )

    def group(self, facts: Mapping[str, Any]) -> Group:
        return tuple(facts.get(name) for name in self.by)


class Cell(Protocol):
    def numbers(self) -> Numbers: ...


CellT = TypeVar("CellT", bound=Cell)


@dataclass(slots=True)
class Table(Generic[CellT]):
    """Cells by bucket and group, and the total, which is counted by itself and not from the rows."""

    question: Question
    buckets: Buckets
    make: Callable[[], CellT]
    cells: dict[tuple[int, Group], CellT] = field(default_factory=dict)
    total: CellT = field(init=False)
    _asked: tuple[tuple[str, Any], ...] = field(init=False)

    def __post_init__(self) -> None:
        self.total = self.make()
        self._asked = self.question.asked()

    @classmethod
    def of(cls, question: Question, make: Callable[[], CellT]) -> "Table[CellT]":
        return cls(question, Buckets.cut(question.begin, question.end, question.bucket, question.zone), make)

    def at(self, t: int, facts: Mapping[str, Any]) -> Sequence[CellT]:
        """The cells that a fact of this instant belongs to; none if it is not asked for."""
        number = self.buckets.of(t)
        if number is None or any(facts.get(name) != value for name, value in self._asked):
            return ()
        return self.total, self.cell(number, facts)

    def cell(self, number: int, facts: Mapping[str, Any]) -> CellT:
        key = number, self.question.group(facts)
        found = self.cells.get(key)
        if found is None:
            if len(self.cells) >= MAX_ROWS:
                raise Invalid(
                    f"more than {MAX_ROWS} rows: take larger buckets or fewer groups", code="too_many_rows"
                )
            found = self.cells[key] = self.make()
        return found


async def answer(
    conn: AsyncConnection, name: str, table: Table[CellT], variants: Mapping[str, str], now: int, **extra: Any
) -> dict[str, Any]:
    """A report as the API shows it: the question as understood, the variants in words, rows and total."""
    question = table.question
    names = await _names(conn, question.by, [group for _, group in table.cells])
    order = sorted(table.cells, key=lambda key: (key[0], [str(part or "") for part in key[1]]))
    rows = []
    for number, group in order:
        start, stop = table.buckets.span(number)
        row: dict[str, Any] = {"start": to_iso(start), "end": to_iso(stop)}
        for dimension, value in zip(question.by, group, strict=True):
            known = names.get(dimension)
            row[dimension] = (
                value if known is None or value is None else {"id": value, "name": known.get(value)}
            )
        rows.append(row | table.cells[number, group].numbers())
    return {
        "report": name,
        "begin": to_iso(question.begin),
        "end": to_iso(question.end),
        "zone": question.zone.key,
        "bucket": question.bucket,
        "by": list(question.by),
        "made_at": to_iso(now),
        "variants": dict(variants),
        "rows": rows,
        "total": table.total.numbers(),
        **extra,
    }


async def _names(
    conn: AsyncConnection, by: Sequence[str], groups: Iterable[Group]
) -> dict[str, dict[int, str]]:
    groups = list(groups)
    found: dict[str, dict[int, str]] = {}
    for dimension, table in (("team", team), ("agent", agent)):
        if dimension in by:
            ids = {group[by.index(dimension)] for group in groups} - {None}
            rows = await conn.execute(select(table.c.id, table.c.name).where(table.c.id.in_(ids)))
            found[dimension] = {int(i): str(n) for i, n in rows}
    return found


def sheet_of(
    report: Mapping[str, Any], question: Question
) -> tuple[list[sheet.Cell], list[list[sheet.Cell]]]:
    """(header, rows) of a report; the total is the last row, and the variants follow it, one to a line."""
    at = question.zone.key
    numbers = list(report["total"])
    header: list[sheet.Cell] = [f"start ({at})", f"end ({at})", *question.by, *numbers]
    made: list[list[sheet.Cell]] = []
    for row in report["rows"]:
        line: list[sheet.Cell] = [_local(row["start"], question.zone), _local(row["end"], question.zone)]
        for dimension in question.by:
            value = row[dimension]
            line.append(value["name"] or value["id"] if isinstance(value, Mapping) else value)
        made.append(line + [row.get(name) for name in numbers])
    total: list[sheet.Cell] = ["total", None, *(None for _ in question.by)]
    made.append(total + [report["total"][name] for name in numbers])
    made.extend([f"{name}: {words}"] for name, words in report["variants"].items())
    return header, made


def _local(iso: str, zone: ZoneInfo) -> str | None:
    return sheet.local(from_iso(iso), zone)
