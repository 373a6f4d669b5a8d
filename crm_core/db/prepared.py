"""Statements built and compiled once, run on the driver: for hot paths, where SQLAlchemy would cost more than the SQL.

A `Prepared` is made at import time from an ordinary SQLAlchemy statement with `bindparam`s. On its first run it is
compiled for the dialect; from then on a run is: parameters through their bind processors, the driver, rows through
their result processors. The same text runs each time, so both drivers find it among their prepared statements.
Everything else stays SQLAlchemy's: the connection, its transaction, its errors, its cursor events.

Reaches under SQLAlchemy's asyncpg adapter for one thing, its lazy BEGIN; a test holds that together.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from sqlalchemy import ARRAY, BigInteger, String, TypeDecorator, bindparam
from sqlalchemy.engine import Connection as SyncConnection
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ClauseElement, Executable, visitors
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import Delete, Insert, Update
from sqlalchemy.sql.elements import BindParameter, ColumnElement
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.schema import Table
from sqlalchemy.types import Boolean
from typing_extensions import override

from crm_core.db.types import Json

Processor = Callable[[Any], Any]
Parameters = Mapping[str, Any]


@dataclass(slots=True)
class Outcome:
    """What a statement did. `rows` as mappings from column name to value; `rowcount` is -1 where nobody knows."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    rowcount: int = -1
    #: as the driver gave them, for whoever listens to cursor events
    raw: Sequence[Sequence[Any]] = ()


class Prepared:
    """A statement with named parameters, compiled once for each dialect.

    Args:
        statement: SELECT, or INSERT, UPDATE or DELETE with its values in it (constants and `bindparam`s). No `IN` of
            a list: use `any_of`. FOR UPDATE may be in it, SQLite leaves it out.
        columns: of an INSERT whose values are all parameters of the columns' names.
    """

    __slots__ = ("_columns", "_forms", "_writes", "statement")

    def __init__(self, statement: Executable, *, columns: Sequence[str] | None = None) -> None:
        self.statement = statement
        self._columns = None if columns is None else list(columns)
        self._forms: dict[str, Form] = {}
        self._writes: Table | None = None

    @property
    def writes(self) -> Table:
        """The only table that it touches. Raises TypeError if it is no write, or looks at others, too."""
        if self._writes is None:
            made = self.statement
            if not isinstance(made, Insert | Update | Delete):
                raise TypeError(f"not a write: {made}")
            if {e for e in visitors.iterate(made) if isinstance(e, Table)} - {made.table}:
                raise TypeError(f"a write among others looks at its own table only: {made}")
            self._writes = cast("Table", made.table)
        return self._writes

    def form(self, dialect: Dialect) -> "Form":
        found = self._forms.get(dialect.name)
        if found is None:
            found = self._forms[dialect.name] = _compile(self.statement, dialect, self._columns)
        return found

    async def run(self, conn: AsyncConnection, parameters: Parameters | None = None) -> Outcome:
        """Run it in the connection's transaction, which begins with it if there is none yet, as with SQLAlchemy.
        Raises SQLAlchemy's DBAPIError like any statement; KeyError for a parameter that is missing.
        """
        sync = await _sync(conn)
        form = self.form(sync.dialect)
        return await _run(conn, sync, form, form.bound(parameters or {}))

    async def run_many(self, conn: AsyncConnection, parameters: Sequence[Parameters]) -> None:
        """Run it for each set of parameters; rows it returns are dropped."""
        sync = await _sync(conn)
        form = self.form(sync.dialect)
        await _run(conn, sync, form, [form.bound(p) for p in parameters], many=True)

    async def run_positional(
        self, conn: AsyncConnection, make: Callable[[Sequence[str]], Any], *, many: bool = False
    ) -> Outcome:
        """Run it with values that are as the driver takes them already: `make` gets the names of the parameters in
        their order and gives the values in that order (`many`: a list of such). Raises TypeError for a statement with
        constants.
        """
        sync = await _sync(conn)
        form = self.form(sync.dialect)
        return await _run(conn, sync, form, make(form.required), many=many)


class Form:
    """A statement in one dialect: text, how parameters are made positional, how rows become mappings."""

    __slots__ = ("_decoders", "_slots", "keys", "sql")

    def __init__(
        self,
        sql: str,
        slots: list[tuple[str, Processor | None, bool, Any]],
        keys: tuple[str, ...],
        decoders: list[tuple[str, Processor]],
    ) -> None:
        self.sql = sql
        #: (name, processor, whether it may be left out, processed value if so) by position
        self._slots = slots
        #: of the rows; empty if there are none
        self.keys = keys
        self._decoders = decoders

    @property
    def names(self) -> list[str]:
        """Of the parameters, by position."""
        return [name for name, *_ in self._slots]

    @property
    def required(self) -> list[str]:
        """The same of a statement without constants among its parameters. Raises TypeError if there are some."""
        if any(optional for _, _, optional, _ in self._slots):
            raise TypeError(f"constants must be literal here: {self.sql}")
        return self.names

    def bound(self, parameters: Parameters, *, without: frozenset[str] = frozenset()) -> tuple[Any, ...]:
        """The values by position; `without`: names whose positions somebody else fills."""
        values = []
        for name, processor, optional, default in self._slots:
            if name in without:
                continue
            if optional and name not in parameters:
                values.append(default)
            elif processor is None:
                values.append(parameters[name])
            else:
                values.append(processor(parameters[name]))
        return tuple(values)

    def mapped(self, raw: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
        keys, decoders = self.keys, self._decoders
        rows = [dict(zip(keys, r, strict=True)) for r in raw]
        for row in rows:
            for key, decode in decoders:
                row[key] = decode(row[key])
        return rows


async def run_form(conn: AsyncConnection, form: Form, values: tuple[Any, ...]) -> Outcome:
    """Run a statement that somebody else put together, with values that are bound already."""
    return await _run(conn, await _sync(conn), form, values)


def _compile(statement: Executable, dialect: Dialect, columns: list[str] | None) -> Form:
    compiled = cast(
        "SQLCompiler", cast("ClauseElement", statement).compile(dialect=dialect, column_keys=columns)
    )
    if compiled.post_compile_params or compiled.literal_execute_params:
        raise TypeError(f"a prepared statement has one text; use any_of for lists: {compiled}")
    if compiled.insert_prefetch or compiled.update_prefetch:
        raise TypeError(f"columns with defaults of Python cannot be prepared: {compiled}")
    defaults = compiled.construct_params({}, _check=False)
    processors = cast("Mapping[str, Processor]", compiled._bind_processors)  # noqa: SLF001 - no public way to them
    required = {name for bind, name in compiled.bind_names.items() if bind.required}
    slots: list[tuple[str, Processor | None, bool, Any]] = []
    for name in compiled.positiontup or ():
        processor = processors.get(name)
        if name in required or (columns is not None and name in columns):
            slots.append((name, processor, False, None))
        else:
            value = defaults[name]
            slots.append((name, processor, True, processor(value) if processor is not None else value))
    keys: list[str] = []
    decoders: list[tuple[str, Processor]] = []
    for entry in compiled._result_columns:  # noqa: SLF001 - as above
        keys.append(entry.keyname)
        decode = entry.type._cached_result_processor(dialect, None)  # noqa: SLF001 - as above
        if decode is not None:
            decoders.append((entry.keyname, decode))
    if len(set(keys)) != len(keys):
        raise TypeError(f"two columns of one name: {compiled}")
    return Form(compiled.string, slots, tuple(keys), decoders)


async def _sync(conn: AsyncConnection) -> SyncConnection:
    sync = conn.sync_connection
    if sync is None:
        raise RuntimeError("the connection is not open")
    if not sync.in_transaction():
        await conn.run_sync(SyncConnection.begin)
    return sync


async def _run(
    conn: AsyncConnection, sync: SyncConnection, form: Form, values: Any, *, many: bool = False
) -> Outcome:
    adapter: Any = sync.connection.dbapi_connection
    heard = sync._has_events or sync.engine._has_events  # noqa: SLF001 - what SQLAlchemy asks itself
    outcome = Outcome()
    if heard:
        for listener in sync.dispatch.before_cursor_execute:
            listener(sync, outcome, form.sql, values, None, many)
    try:
        if sync.dialect.name == "sqlite":
            outcome.raw, outcome.rowcount = await adapter.driver_connection.run(form.sql, values, many=many)
        else:
            await _run_asyncpg(adapter, form, values, outcome, many=many)
    except Exception as error:
        await conn.run_sync(_raise, adapter, error, form.sql)
        raise  # _raise always does; this is for the type checker
    if not many and form.keys:
        outcome.rows = form.mapped(outcome.raw)
    if heard:
        for listener in sync.dispatch.after_cursor_execute:
            listener(sync, outcome, form.sql, values, None, many)
    return outcome


async def _run_asyncpg(adapter: Any, form: Form, values: Any, outcome: Outcome, *, many: bool) -> None:
    if adapter._transaction is None:  # noqa: SLF001 - SQLAlchemy begins with the first statement, so must we
        await adapter._start_transaction()  # noqa: SLF001
    driver = adapter.driver_connection
    if many:
        await driver.executemany(form.sql, values)
    elif form.keys:
        outcome.raw = await driver.fetch(form.sql, *values)
        outcome.rowcount = len(outcome.raw)
    else:
        # "UPDATE 1", "DELETE 0", "INSERT 0 1"
        count = (await driver.execute(form.sql, *values)).rpartition(" ")[2]
        outcome.rowcount = int(count) if count.isdigit() else -1


def _raise(sync: SyncConnection, adapter: Any, error: Exception, sql: str) -> None:
    """Raise a driver's error as SQLAlchemy would have, parameters hidden, a broken connection given up."""
    try:
        adapter._handle_exception(error)  # noqa: SLF001 - translates to the DBAPI's classes
    except Exception as translated:
        sync._handle_dbapi_exception(translated, sql, None, None, None)  # noqa: SLF001


async def fetch(
    conn: AsyncConnection, statement: Prepared, parameters: Parameters | None = None
) -> list[dict[str, Any]]:
    """All rows, for functions that serve transactions and readers alike."""
    return (await statement.run(conn, parameters)).rows


# --- lists -----------------------------------------------------------------------------------------------------------
class _List(TypeDecorator[Sequence[Any]]):
    """A list as one parameter: an array on Postgres, JSON on SQLite."""

    impl = String
    cache_ok = True

    def __init__(self, *, texts: bool) -> None:
        super().__init__()
        self.texts = texts

    @override
    def load_dialect_impl(self, dialect: Dialect) -> Any:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(ARRAY(String() if self.texts else BigInteger()))
        return dialect.type_descriptor(String())

    @override
    def process_bind_param(self, value: Sequence[Any] | None, dialect: Dialect) -> Any:
        items = list(value or ())
        return items if dialect.name == "postgresql" else json.dumps(items)


class _AnyOf(ColumnElement[bool]):
    inherit_cache = False
    type = Boolean()
    # Or SQLite, which has no booleans, is asked whether it `= 1`, and then finds no index for it.
    _is_implicitly_boolean = True

    def __init__(self, column: ColumnElement[Any], values: BindParameter[Any]) -> None:
        self.column, self.values = column, values


@compiles(_AnyOf, "postgresql")
def _any_of_postgresql(element: _AnyOf, compiler: SQLCompiler, **kw: Any) -> str:
    return f"{compiler.process(element.column, **kw)} = ANY ({compiler.process(element.values, **kw)})"


@compiles(_AnyOf, "sqlite")
def _any_of_sqlite(element: _AnyOf, compiler: SQLCompiler, **kw: Any) -> str:
    column, values = compiler.process(element.column, **kw), compiler.process(element.values, **kw)
    return f"{column} IN (SELECT value FROM json_each({values}))"  # noqa: S608 - both were compiled


def any_of(column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    """`column` is one of the list given as parameter `name`: one statement text whatever its length."""
    texts = isinstance(column.type, String)
    return _AnyOf(column, bindparam(name, type_=_List(texts=texts), required=True))


# --- objects ---------------------------------------------------------------------------------------------------------
class _ObjectOf(FunctionElement[Any]):
    """Aggregate of pairs."""

    inherit_cache = True
    name = "object_of"
    type = Json


@compiles(_ObjectOf, "postgresql")
def _object_of_postgresql(element: _ObjectOf, compiler: SQLCompiler, **kw: Any) -> str:
    return f"jsonb_object_agg({compiler.process(element.clauses, **kw)})"


@compiles(_ObjectOf, "sqlite")
def _object_of_sqlite(element: _ObjectOf, compiler: SQLCompiler, **kw: Any) -> str:
    return f"json_group_object({compiler.process(element.clauses, **kw)})"


class _ArrayOf(FunctionElement[Any]):
    inherit_cache = True
    name = "array_of"
    type = Json


@compiles(_ArrayOf, "postgresql")
def _array_of_postgresql(element: _ArrayOf, compiler: SQLCompiler, **kw: Any) -> str:
    return f"jsonb_build_array({compiler.process(element.clauses, **kw)})"


@compiles(_ArrayOf, "sqlite")
def _array_of_sqlite(element: _ArrayOf, compiler: SQLCompiler, **kw: Any) -> str:
    return f"json_array({compiler.process(element.clauses, **kw)})"


class _ListOf(FunctionElement[Any]):
    inherit_cache = True
    name = "list_of"
    type = Json


@compiles(_ListOf, "postgresql")
def _list_of_postgresql(element: _ListOf, compiler: SQLCompiler, **kw: Any) -> str:
    return f"jsonb_agg({compiler.process(element.clauses, **kw)})"


@compiles(_ListOf, "sqlite")
def _list_of_sqlite(element: _ListOf, compiler: SQLCompiler, **kw: Any) -> str:
    return f"json_group_array({compiler.process(element.clauses, **kw)})"


def list_of(value: ColumnElement[Any]) -> ColumnElement[Any]:
    """Aggregate rows into one JSON array, in no order; NULL (Postgres) or [] (SQLite) of no rows."""
    return _ListOf(value)


def object_of(key: ColumnElement[Any], value: ColumnElement[Any]) -> ColumnElement[Any]:
    """Aggregate rows into one JSON object; NULL (Postgres) or {} (SQLite) of no rows."""
    return _ObjectOf(key, value)


def array_of(*values: ColumnElement[Any]) -> ColumnElement[Any]:
    """Values as one JSON array."""
    return _ArrayOf(*values)
