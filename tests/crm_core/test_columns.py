"""Rows written column by column are the rows that were given, on both databases."""

import json
from typing import Any

import pytest
from sqlalchemy import literal_column, select
from sqlalchemy.exc import DBAPIError

from crm_core.db.columns import inserting, updating
from crm_core.db.engine import Database
from crm_core.schema import setting, team

ADD = inserting(team, ["name", "calendar_id", "settings"], shared=["active", "created_at"])
SHARED = {"active": True, "created_at": 2**52}
CHANGE = updating(
    team, ["name", "settings"], key="id", also={"created_at": team.c.created_at + literal_column("1")}
)
SET = inserting(setting, ["key"], shared=["value"], through={"key": lambda key: key + literal_column("'!'")})
DATA = [{"a": [1, None, "ї\\\"'{}"], "b": {"c": True}}, {}, {"x": 0.5}]


def columns(*names: str, **more: Any) -> dict[str, Any]:
    return {
        "name": list(names),
        "calendar_id": [None, 5, 2**40][: len(names)],
        "settings": [json.dumps(d) for d in DATA[: len(names)]],
        **more,
    }


async def teams(db: Database) -> list[tuple[Any, ...]]:
    async with db.reading() as conn:
        wanted = (team.c.name, team.c.calendar_id, team.c.settings, team.c.active, team.c.created_at)
        return [tuple(row) for row in await conn.execute(select(*wanted).order_by(team.c.id))]


async def test_rows_come_in_the_order_given_with_what_they_share(db: Database) -> None:
    async with db.transaction() as uow:
        await ADD.run(uow.conn, columns("Süd «захід»", "b", "a"), SHARED)
    assert await teams(db) == [
        ("Süd «захід»", None, DATA[0], True, 2**52),
        ("b", 5, DATA[1], True, 2**52),
        ("a", 2**40, DATA[2], True, 2**52),
    ]


async def test_each_row_gets_its_own_values(db: Database) -> None:
    async with db.transaction() as uow:
        await ADD.run(uow.conn, columns("a", "b", "c"), SHARED)
        ids = [row["id"] for row in await uow.rows(select(team.c.id).order_by(team.c.id))]
        await CHANGE.run(uow.conn, {"id": [ids[2], ids[0]], "name": ["C", "A"], "settings": ["{}", "[1]"]})
    assert [(row[0], row[2], row[4] - 2**52) for row in await teams(db)] == [
        ("A", [1], 1),
        ("b", DATA[1], 0),
        ("C", {}, 1),
    ]


async def test_a_value_may_be_an_expression_of_what_is_given(db: Database) -> None:
    async with db.transaction() as uow:
        await SET.run(uow.conn, {"key": ["a", "b"]}, {"value": '{"n": 1}'})
        found = await uow.rows(select(setting).where(setting.c.key.in_(["a!", "b!"])).order_by(setting.c.key))
    assert [(row["key"], row["value"]) for row in found] == [("a!", {"n": 1}), ("b!", {"n": 1})]


async def test_nothing_is_no_statement_and_crooked_columns_are_refused(db: Database) -> None:
    async with db.transaction() as uow:
        await ADD.run(uow.conn, columns(), SHARED)
        with pytest.raises(ValueError, match="different lengths"):
            await ADD.run(uow.conn, columns("a", "b", calendar_id=[1]), SHARED)
        with pytest.raises(KeyError):
            await ADD.run(uow.conn, {"name": ["a"], "settings": ["{}"]}, SHARED)
        with pytest.raises(KeyError):
            await ADD.run(uow.conn, columns("a"), {"active": True})
    assert await teams(db) == []


async def test_a_row_that_cannot_be_stored_takes_all_of_them_with_it(db: Database) -> None:
    with pytest.raises(DBAPIError):
        async with db.transaction() as uow:
            await ADD.run(uow.conn, columns("a", None), SHARED)  # type: ignore[arg-type]
    assert await teams(db) == []


async def test_a_text_that_is_too_long_is_not_cut_off(db: Database) -> None:
    """Postgres refuses it, as by any other statement; SQLite keeps texts of any length."""
    long = "x" * 2000
    if db.dialect == "postgresql":
        with pytest.raises(DBAPIError):
            async with db.transaction() as uow:
                await ADD.run(uow.conn, columns(long), SHARED)
        assert await teams(db) == []
    else:
        async with db.transaction() as uow:
            await ADD.run(uow.conn, columns(long), SHARED)
        assert [name for name, *_ in await teams(db)] == [long]
