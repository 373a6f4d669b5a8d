"""Statements about one row of a table, compiled once for each table and set of columns.

Most of what the product asks the database is this. Building such a statement anew and finding it in the cache
costs more than running it.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.schema import Table

from crm_core.db.prepared import Prepared

#: the parameter that says which row
ROW_ID = "row_id"


@lru_cache(maxsize=512)
def select_of(table: Table, *, lock: bool = False) -> Prepared:
    """SELECT of the row with the id `ROW_ID`. `lock`: for the transaction's time."""
    statement = select(table).where(table.c.id == bindparam(ROW_ID))
    return Prepared(statement.with_for_update() if lock else statement)


@lru_cache(maxsize=512)
def insert_of(table: Table, columns: tuple[str, ...]) -> Prepared:
    """INSERT of one row with these columns that gives its id."""
    return Prepared(insert(table).returning(table.c.id), columns=columns)


@lru_cache(maxsize=1024)
def update_of(table: Table, columns: tuple[str, ...]) -> Prepared:
    """UPDATE of these columns of the row with the id `ROW_ID`."""
    values = {name: bindparam(name, type_=table.c[name].type) for name in columns}
    return Prepared(update(table).where(table.c.id == bindparam(ROW_ID)).values(values))


@lru_cache(maxsize=512)
def insert_new_of(
    dialect: str, table: Table, key: tuple[str, ...], column: ColumnElement[Any], columns: tuple[str, ...]
) -> Prepared:
    """INSERT of one row that leaves an existing one of the same `key` columns alone and gives `column` of a new one."""
    return Prepared(insert_unless(dialect, table, key).returning(column), columns=columns)


def insert_unless(dialect: str, table: Any, key: Sequence[str]) -> Any:
    """INSERT that leaves an existing row of the same `key` columns alone."""
    made = postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
    return made.on_conflict_do_nothing(index_elements=list(key))
