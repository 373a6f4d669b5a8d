"""Writes done together mean what they mean one after the other, on both databases."""

from typing import Any

import pytest
from sqlalchemy import bindparam, delete, exists, insert, select, update
from sqlalchemy import event as sa_event
from sqlalchemy.exc import IntegrityError

from crm_core.db.engine import Database
from crm_core.db.prepared import Prepared
from crm_core.db.together import Batch
from crm_core.schema import agent, setting, team, team_member

RENAME = Prepared(update(team).where(team.c.id == bindparam("id_")).values(name=bindparam("new_name")))
LATER = Prepared(
    update(team)
    .where(team.c.name == bindparam("name_"))
    .values(created_at=team.c.created_at + bindparam("more", type_=team.c.created_at.type))
)
FORGET = Prepared(delete(team).where(team.c.name == bindparam("name_")))
JOIN = Prepared(insert(team_member), columns=("team_id", "agent_id", "lead"))
SET = Prepared(insert(setting), columns=("key", "value"))
UNSET = Prepared(delete(setting).where(setting.c.key == bindparam("key_")))


def a_team(name: str, **changes: Any) -> dict[str, Any]:
    return {"name": name, "calendar_id": None, "settings": {}, "active": True, "created_at": 1, **changes}


def an_agent(email: str) -> dict[str, Any]:
    return {
        "email": email, "name": email, "password_hash": None, "role": "agent", "language": "en",
        "extension": None, "calendar_id": None, "settings": {"a": ["ї", None]}, "active": True, "created_at": 1,
    }  # fmt: skip


async def teams(db: Database) -> dict[str, int]:
    async with db.reading() as conn:
        return {r.name: r.created_at for r in await conn.execute(select(team.c.name, team.c.created_at))}


async def test_what_one_write_makes_is_a_value_of_the_next(db: Database) -> None:
    async with db.transaction() as uow:
        batch = Batch()
        first = batch.insert(team, a_team("before"))
        await batch.run(uow.conn)
        mine, person = batch.insert(team, a_team("$2 || 'x'")), batch.insert(agent, an_agent("o@x.ua"))
        batch.add(JOIN, {"team_id": mine, "agent_id": person, "lead": True})
        batch.add(JOIN, {"team_id": first, "agent_id": person, "lead": False})
        await batch.run(uow.conn)
        await batch.run(uow.conn)  # nothing is left
        ids = [batch.value(m) for m in (first, mine, person)]
    async with db.reading() as conn:
        members = {tuple(r) for r in await conn.execute(select(team_member))}
        (row,) = (await conn.execute(select(agent))).mappings()
    assert members == {(ids[0], ids[2], False), (ids[1], ids[2], True)}
    assert dict(row) == {**an_agent("o@x.ua"), "id": ids[2]}
    assert set(await teams(db)) == {"before", "$2 || 'x'"}


async def test_they_are_one_statement_where_there_are_round_trips(db: Database) -> None:
    heard: list[str] = []
    engine = db._write_engine.sync_engine
    async with db.transaction() as uow:
        sa_event.listen(engine, "before_cursor_execute", lambda _c, _cur, sql, *_: heard.append(sql))
        batch = Batch()
        batch.insert(team, a_team("One"))
        batch.insert(team, a_team("Two"))
        batch.add(SET, {"key": "k", "value": 1})
        assert heard == []
        await batch.run(uow.conn)
    assert len(heard) == (3 if db.dialect == "sqlite" else 1)


async def test_the_order_counts_where_a_table_is_written_again(db: Database) -> None:
    async with db.transaction() as uow:
        batch = Batch()
        made = batch.insert(team, a_team("One"))
        batch.add(SET, {"key": "k", "value": 1})
        batch.add(RENAME, {"id_": made, "new_name": "Two"})
        batch.add(LATER, {"name_": "Two", "more": 10})
        batch.add(UNSET, {"key_": "k"})
        batch.add(LATER, {"name_": "Two", "more": 100})
        batch.insert(team, a_team("Two again"))
        batch.add(FORGET, {"name_": "Two again"})
        await batch.run(uow.conn)
        assert await uow.rows(select(setting)) == []
    assert await teams(db) == {"Two": 111}


async def test_a_write_that_had_to_touch_a_row_and_did_not_undoes_all(db: Database) -> None:
    with pytest.raises(RuntimeError, match="no such team"):
        async with db.transaction() as uow:
            batch = Batch()
            batch.insert(team, a_team("One"))
            batch.add(SET, {"key": "k", "value": 1}, must="never said")
            batch.add(RENAME, {"id_": 77, "new_name": "x"}, must="no such team")
            await batch.run(uow.conn)
    assert await teams(db) == {}
    async with db.transaction() as uow:
        batch = Batch()
        batch.add(RENAME, {"id_": 77, "new_name": "x"})
        batch.add(SET, {"key": "k", "value": 1})
        await batch.run(uow.conn)  # nobody insists


async def test_errors_are_sqlalchemys_and_hide_what_was_written(db: Database) -> None:
    async with db.transaction() as uow:
        await uow.insert(team, a_team("a secret name"))
    with pytest.raises(IntegrityError) as caught:
        async with db.transaction() as uow:
            batch = Batch()
            batch.add(SET, {"key": "k", "value": 1})
            batch.insert(team, a_team("a secret name"))
            await batch.run(uow.conn)
    assert "a secret name" not in str(caught.value)
    async with db.reading() as conn:
        assert (await conn.execute(select(setting))).all() == []


def test_what_could_not_see_the_others_is_refused() -> None:
    batch = Batch()
    with pytest.raises(TypeError, match="not a write"):
        batch.add(Prepared(select(team)), {})
    with_members = exists().where(team_member.c.team_id == team.c.id)
    with pytest.raises(TypeError, match="own table"):
        batch.add(Prepared(delete(team).where(with_members)), {})
