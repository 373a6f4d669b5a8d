"""Writes whose results nobody needs before all of them are done, in one round trip.

On Postgres they become one statement, each a CTE of it; SQLite, which has no such CTEs and no round trips, runs them
one after the other. Either way they mean the same: what one statement could not do as several would (write a table
twice) is cut into several statements, and a write that looks at another table is refused.

Locks nothing by itself: whoever writes rows that others may hold locks them first, in the lock order.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import Insert
from sqlalchemy.sql.schema import Table

from crm_core.db.one_row import insert_of
from crm_core.db.prepared import Form, Outcome, Parameters, Prepared, run_form

_PARAMETER = re.compile(r"\$(\d+)")
#: combinations of writes whose text is kept; the product has some dozens
_MOST_TEXTS = 2_000


@dataclass(frozen=True, slots=True)
class Made:
    """What a write of a batch will return (an id). May be a parameter of later writes of the same batch."""

    index: int


@dataclass(frozen=True, slots=True)
class _Write:
    statement: Prepared
    parameters: Parameters
    must: str | None


class Batch:
    """Writes of one transaction, collected by `add`, done in this order by `run`, which may come several times."""

    def __init__(self) -> None:
        self._waiting: list[_Write] = []
        #: first value that each write done returned; how many rows it touched if it returns nothing
        self._done: list[Any] = []

    def add(self, statement: Prepared, parameters: Parameters, *, must: str | None = None) -> Made:
        """Queue an INSERT, UPDATE or DELETE of one table. `must`: it has to touch a row; what is wrong if not.

        Raises TypeError for a statement that reads another table: it might not see what is written with it.
        """
        statement.writes  # noqa: B018 - refuses what cannot be one of several
        self._waiting.append(_Write(statement, parameters, must))
        return Made(len(self._done) + len(self._waiting) - 1)

    def insert(self, table: Table, values: Parameters) -> Made:
        """Queue a row; what it returns is its id."""
        return self.add(insert_of(table, tuple(values)), values)

    async def run(self, conn: AsyncConnection) -> None:
        """Do all that waits. Raises RuntimeError with the words of `must`; else as `Prepared.run`."""
        waiting, self._waiting = self._waiting, []
        for group in _groups(waiting):
            if len(group) == 1 or conn.dialect.name == "sqlite":
                for write in group:
                    outcome = await write.statement.run(conn, self._resolved(write.parameters))
                    self._note(
                        write, outcome.raw[0][0] if outcome.raw else outcome.rowcount, outcome.rowcount
                    )
                continue
            (found,) = (await _run_as_one(conn, group, self._done)).raw
            for write, value in zip(group, found, strict=True):
                self._note(write, value, 0 if value is None else value)

    def value(self, made: Made) -> Any:
        """What that write returned. It has been run."""
        return self._done[made.index]

    def _resolved(self, parameters: Parameters) -> Parameters:
        if not any(isinstance(v, Made) for v in parameters.values()):
            return parameters
        return {k: self._done[v.index] if isinstance(v, Made) else v for k, v in parameters.items()}

    def _note(self, write: _Write, value: Any, touched: int) -> None:
        if write.must is not None and touched == 0:
            raise RuntimeError(write.must)
        self._done.append(value)


def _groups(writes: Iterable[_Write]) -> list[list[_Write]]:
    """Cut where a table is written again, other than by more new rows: parts of one statement do not see each
    other's.
    """
    groups: list[list[_Write]] = []
    tables: dict[Table, bool] = {}
    for write in writes:
        table = write.statement.writes
        adds = isinstance(write.statement.statement, Insert)
        if not groups or (table in tables and not (adds and tables[table])):
            groups.append([])
            tables = {}
        groups[-1].append(write)
        tables[table] = adds
    return groups


_Shape = tuple[tuple[Prepared, tuple[tuple[str, int], ...]], ...]
_FORMS: dict[_Shape, Form] = {}


async def _run_as_one(conn: AsyncConnection, group: list[_Write], done: list[Any]) -> Outcome:
    """`done`: values of what ran before this group, the first of which has the index after them."""
    first = len(done)
    shape: list[tuple[Prepared, tuple[tuple[str, int], ...]]] = []
    values: list[Any] = []
    for write in group:
        inside: list[tuple[str, int]] = []
        resolved: dict[str, Any] = {}
        for name, value in write.parameters.items():
            if isinstance(value, Made):
                if value.index >= first:
                    inside.append((name, value.index - first))
                    continue
                resolved[name] = done[value.index]
            else:
                resolved[name] = value
        shape.append((write.statement, tuple(inside)))
        form = write.statement.form(conn.dialect)
        values += form.bound(resolved, without=frozenset(name for name, _ in inside))
    key = tuple(shape)
    made = _FORMS.get(key)
    if made is None:
        if len(_FORMS) >= _MOST_TEXTS:
            _FORMS.clear()
        made = _FORMS[key] = _as_one(key, conn)
    return await run_form(conn, made, tuple(values))


def _as_one(shape: _Shape, conn: AsyncConnection) -> Form:
    """The writes as one statement, of texts that were compiled before."""
    forms = [statement.form(conn.dialect) for statement, _ in shape]
    firsts = [f.keys[0] if f.keys else "count(*)" for f in forms]
    values = [f"(SELECT {first} FROM w{index})" for index, first in enumerate(firsts)]  # noqa: S608
    parts: list[str] = []
    count = 0
    for index, (form, (_, inside)) in enumerate(zip(forms, shape, strict=True)):
        made_by = dict(inside)
        places: list[str] = []
        for name in form.names:
            count += name not in made_by
            places.append(values[made_by[name]] if name in made_by else f"${count}")
        text = _PARAMETER.sub(partial(_placed, places), form.sql)
        parts.append(f"w{index} AS ({text if form.keys else text + ' RETURNING 1'})")
    results = [f"{value} AS r{index}" for index, value in enumerate(values)]
    sql = f"WITH {', '.join(parts)} SELECT {', '.join(results)}"
    return Form(sql, [], tuple(f"r{i}" for i in range(len(shape))), [])


def _placed(places: list[str], found: re.Match[str]) -> str:
    return places[int(found[1]) - 1]
