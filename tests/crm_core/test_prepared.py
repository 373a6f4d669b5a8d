"""Prepared statements behave as the same statements run by SQLAlchemy, on both databases."""

from typing import Any

import pytest
from sqlalchemy import Integer, bindparam, func, insert, select, text, update
from sqlalchemy import event as sa_event
from sqlalchemy.exc import DBAPIError, IntegrityError

from crm_core.db.engine import Database
from crm_core.db.prepared import Prepared, any_of, array_of, fetch, list_of, object_of
from crm_core.schema import setting, team

_COLUMNS = ("name", "calendar_id", "settings", "active", "created_at")
ADD = Prepared(insert(team).returning(team.c.id), columns=_COLUMNS)
BY_NAME = Prepared(select(team).where(team.c.name == bindparam("name")))
COUNT = Prepared(select(func.count().label("n")).select_from(team))
RENAME = Prepared(
    update(team).where(team.c.id == bindparam("id_"), team.c.active).values(name=bindparam("new_name"))
)
BY_IDS = Prepared(select(team.c.id).where(any_of(team.c.id, "ids")).order_by(team.c.id))
BY_NAMES = Prepared(select(team.c.id).where(any_of(team.c.name, "names")).order_by(team.c.id))


def a_team(name: str, **changes: Any) -> dict[str, Any]:
    return {"name": name, "calendar_id": None, "settings": {}, "active": True, "created_at": 1, **changes}


async def test_values_come_back_as_they_went_in(db: Database) -> None:
    wanted = a_team("Süd «захід»", settings={"a": [1, None, "ї"], "b": {"c": True}}, created_at=2**52)
    async with db.transaction() as uow:
        team_id = await uow.scalar(ADD, wanted)
        found = await uow.row(BY_NAME, {"name": wanted["name"]})
        plain = await uow.row(select(team).where(team.c.id == team_id))
    assert found is not None
    assert plain is not None
    assert found == {**wanted, "id": team_id}
    assert {k: type(v) for k, v in found.items()} == {k: type(v) for k, v in plain.items()}


async def test_nothing_found_is_none_and_no_rows(db: Database) -> None:
    async with db.transaction() as uow:
        assert await uow.row(BY_NAME, {"name": "x"}) is None
        assert await uow.rows(BY_NAME, {"name": "x"}) == []
        assert await uow.scalar(BY_NAME, {"name": "x"}) is None
        assert (await uow.execute(RENAME, {"id_": 7, "new_name": "y"})).rowcount == 0


async def test_it_is_part_of_the_transaction_even_as_its_first_statement(db: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with db.transaction() as uow:
            await uow.scalar(ADD, a_team("One"))
            raise ZeroDivisionError
    async with db.transaction() as uow:
        assert await uow.scalar(COUNT) == 0
        await uow.execute_many(ADD, [a_team("One"), a_team("Two")])
        with pytest.raises(ZeroDivisionError):
            async with uow.savepoint():
                await uow.scalar(ADD, a_team("Three"))
                raise ZeroDivisionError
    async with db.transaction() as uow:
        assert await uow.scalar(COUNT) == 2


async def test_rows_touched_are_counted(db: Database) -> None:
    async with db.transaction() as uow:
        team_id = await uow.scalar(ADD, a_team("One"))
        assert (await uow.execute(RENAME, {"id_": team_id, "new_name": "Two"})).rowcount == 1


async def test_errors_are_sqlalchemys_and_hide_what_was_written(db: Database) -> None:
    async with db.transaction() as uow:
        await uow.scalar(ADD, a_team("a secret name"))
    with pytest.raises(IntegrityError) as caught:
        async with db.transaction() as uow:
            await uow.scalar(ADD, a_team("a secret name"))
    assert "INSERT INTO team" in str(caught.value)
    assert "a secret name" not in str(caught.value)
    with pytest.raises(KeyError):
        async with db.transaction() as uow:
            await uow.row(BY_NAME)
    async with db.transaction() as uow:
        assert await uow.scalar(COUNT) == 1


async def test_lists_of_any_length_are_one_statement(db: Database) -> None:
    async with db.transaction() as uow:
        ids = [await uow.scalar(ADD, a_team(name)) for name in ("a", "b'", "c")]
        assert [r["id"] for r in await uow.rows(BY_IDS, {"ids": [ids[2], ids[0], 999]})] == [ids[0], ids[2]]
        assert await uow.rows(BY_IDS, {"ids": []}) == []
        assert [r["id"] for r in await uow.rows(BY_NAMES, {"names": ["b'", "", "c"]})] == ids[1:]


async def test_a_statement_that_could_change_its_text_is_refused(db: Database) -> None:
    listed = Prepared(select(team.c.id).where(team.c.id.in_([1, 2])))
    doubled = Prepared(select(team.c.id.label("x"), team.c.name.label("x")))
    async with db.transaction() as uow:
        with pytest.raises(TypeError, match="any_of"):
            await uow.rows(listed)
        with pytest.raises(TypeError, match="one name"):
            await uow.rows(doubled)


async def test_readers_may_use_it_too(db: Database) -> None:
    async with db.transaction() as uow:
        await uow.scalar(ADD, a_team("One"))
    async with db.reading() as conn:
        assert await fetch(conn, COUNT) == [{"n": 1}]
        assert (await conn.execute(select(team.c.name))).scalar_one() == "One"
    async with db.reading() as conn:
        assert await fetch(conn, COUNT) == [{"n": 1}]


async def test_pairs_come_as_one_object(db: Database) -> None:
    async with db.transaction() as uow:
        for name, at in (("a", 5), ("b", 6)):
            await uow.scalar(ADD, a_team(name, created_at=at))
        pairs = Prepared(
            select(object_of(team.c.name, array_of(team.c.created_at, team.c.active.cast(Integer))).label("o"))
            .where(team.c.name != bindparam("without"))
        )  # fmt: skip
        assert await uow.scalar(pairs, {"without": ""}) == {"a": [5, 1], "b": [6, 1]}
        assert await uow.scalar(pairs, {"without": "a"}) == {"b": [6, 1]}
        names = Prepared(select(list_of(team.c.name).label("names")))
        assert sorted(await uow.scalar(names)) == ["a", "b"]


async def test_who_listens_to_statements_hears_them(db: Database) -> None:
    heard: list[tuple[str, str]] = []
    engine = db._write_engine.sync_engine
    sa_event.listen(engine, "before_cursor_execute", lambda _c, _cur, sql, *_: heard.append(("before", sql)))
    sa_event.listen(engine, "after_cursor_execute", lambda _c, cur, *_: heard.append(("after", cur.rowcount)))
    async with db.transaction() as uow:
        team_id = await uow.scalar(ADD, a_team("One"))
        heard.clear()
        await uow.execute(RENAME, {"id_": team_id, "new_name": "Two"})
        assert [(when, str(what)[:11]) for when, what in heard] == [("before", "UPDATE team"), ("after", "1")]


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_a_connection_that_broke_is_given_up(db: Database) -> None:
    with pytest.raises(DBAPIError) as caught:
        async with db.transaction() as uow:
            pid = (await uow.conn.execute(text("select pg_backend_pid()"))).scalar_one()
            async with db.transaction() as other:
                await other.execute(text("select pg_terminate_backend(:pid)"), {"pid": pid})
            await uow.scalar(COUNT)
    assert caught.value.connection_invalidated
    async with db.transaction() as uow:
        assert await uow.scalar(COUNT) == 0
        await uow.execute(insert(setting).values(key="k", value={}))
