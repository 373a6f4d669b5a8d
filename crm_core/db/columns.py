"""Rows written hundreds at a time, given column by column, in one round trip and by one text.

On Postgres the columns travel as arrays and one statement writes all rows: it is started once, where the driver's
`executemany` has the server start it anew for each row. SQLite, which runs inside the process and has neither arrays
nor such a start, runs its statement for each row. Both do the same to the same rows, in the order given.

A JSON column takes text that is JSON already: who writes hundreds of like documents encodes what they share once.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from typing import Any

from sqlalchemy import (
    ARRAY,
    JSON,
    Column,
    ColumnElement,
    String,
    Text,
    bindparam,
    cast,
    column,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import Executable
from sqlalchemy.sql.elements import BindParameter
from sqlalchemy.sql.schema import Table
from sqlalchemy.sql.selectable import TableValuedAlias
from sqlalchemy.types import TypeEngine

from crm_core.db.prepared import Prepared

Expressions = Mapping[str, ColumnElement[Any]]
#: what a column gets for the value given
Through = Mapping[str, Callable[[ColumnElement[Any]], ColumnElement[Any]]]

# SQLAlchemy keeps the names of columns for itself in the values of a statement.
_MARK = "v_"


class Columns:
    """A statement that writes rows given as columns. Made by `inserting` or `updating`, kept, compiled once."""

    def __init__(self, arrays: Executable, each: Executable, shared: Sequence[str] = ()) -> None:
        self._arrays, self._each = Prepared(arrays), Prepared(each)
        self._shared = frozenset(shared)

    async def run(
        self,
        conn: AsyncConnection,
        columns: Mapping[str, Sequence[Any]],
        shared: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the rows: columns of one length by name, and the values that all rows share. Raises KeyError for a
        column that is missing, ValueError if they differ in length.
        """
        lengths = {len(values) for values in columns.values()}
        if len(lengths) != 1:
            # unnest would fill up the shorter ones with NULL.
            raise ValueError(f"columns of different lengths: {sorted(lengths)}")
        if lengths == {0}:
            return
        common = shared or {}

        def arrays(names: Sequence[str]) -> list[Any]:
            return [(common if name in self._shared else columns)[name] for name in map(_plain, names)]

        def each(names: Sequence[str]) -> list[tuple[Any, ...]]:
            [length] = lengths
            every = [
                repeat(common[name], length) if name in self._shared else columns[name]
                for name in map(_plain, names)
            ]
            return list(zip(*every, strict=True))

        if conn.dialect.name == "postgresql":
            await self._arrays.run_positional(conn, arrays)
        else:
            await self._each.run_positional(conn, each, many=True)


def inserting(
    table: Table, names: Sequence[str], *, shared: Sequence[str] = (), through: Through | None = None
) -> Columns:
    """INSERT of these columns. Those in `shared` have the same value in all rows, given once."""
    varying, common, way = [table.c[n] for n in names], [table.c[n] for n in shared], through or {}
    given = _unnested(varying)
    new = _new(varying, given.c, way) | _new(common, _parameters(common), way, casts=True)
    source = select(*new.values()).select_from(given)
    arrays = postgresql.insert(table).from_select(list(new), source, include_defaults=False)
    targets = [*varying, *common]
    return Columns(arrays, insert(table).values(_new(targets, _parameters(targets), way)), shared)


def updating(table: Table, names: Sequence[str], *, key: str, also: Expressions | None = None) -> Columns:
    """UPDATE of these columns in the rows whose `key` column has the value given for it. `also`: more columns, by SQL
    expressions over the row as it was.
    """
    targets, more = [table.c[name] for name in names], dict(also or {})
    given, one = _unnested([table.c[key], *targets]), _parameters([table.c[key], *targets])
    changed = update(table)
    arrays = changed.where(table.c[key] == given.c[key]).values({**_new(targets, given.c, {}), **more})
    each = changed.where(table.c[key] == one[key]).values({**_new(targets, one, {}), **more})
    return Columns(arrays, each)


def _new(
    targets: Sequence[Column[Any]], given: Any, way: Through, *, casts: bool = False
) -> dict[str, ColumnElement[Any]]:
    """The new values by column. `casts`: they stand in a SELECT of Postgres, which does not know what they are for."""
    return {c.name: way.get(c.name, _same)(_typed(c, given[c.name], casts=casts)) for c in targets}


def _same(value: ColumnElement[Any]) -> ColumnElement[Any]:
    return value


def _typed(target: Column[Any], value: ColumnElement[Any], *, casts: bool) -> ColumnElement[Any]:
    if isinstance(target.type, JSON) and (casts or not isinstance(value, BindParameter)):
        return cast(value, postgresql.JSONB)
    return cast(value, _carrier(target)) if casts else value


def _carrier(target: Column[Any]) -> TypeEngine[Any]:
    # Not varchar(n): a cast to it cuts off in silence what is too long, where storing a text raises.
    return Text() if isinstance(target.type, JSON | String) else target.type


def _unnested(targets: Sequence[Column[Any]]) -> TableValuedAlias:
    arrays = [bindparam(_MARK + c.name, type_=ARRAY(_carrier(c)), required=True) for c in targets]
    names = [column(c.name, _carrier(c)) for c in targets]
    return func.unnest(*arrays).table_valued(*names).render_derived(name="given")


def _parameters(targets: Sequence[Column[Any]]) -> dict[str, ColumnElement[Any]]:
    return {c.name: bindparam(_MARK + c.name, type_=_carrier(c), required=True) for c in targets}


def _plain(name: str) -> str:
    return name.removeprefix(_MARK)
