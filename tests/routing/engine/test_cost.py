"""What a decision costs: a bounded number of statements, each by an index, however much is waiting."""

import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event as sa_event
from sqlalchemy import insert, update

from crm_core.db.engine import Database
from crm_core.schema import inquiry
from routing import items, lanes, match, offers
from routing.schema import agent_slot, lane, offer, queue_entry, work_item
from tests.routing.engine import desk

#: statements of one transaction, begin and commit not counted; on Postgres what is written together is one
MOST = {
    "postgresql": {"pull": 6, "finish": 10, "arrive": 9, "accept": 8, "rekey": 4},
    "sqlite": {"pull": 11, "finish": 19, "arrive": 12, "accept": 12, "rekey": 5},
}
#: tables that grow with the bureau or with its past
_GROWING = (
    "agent|agent_state|agent_slot|agent_lane|lane|work_item|queue_entry|offer|assignment|decision|inquiry"
)

Act = Callable[[], Awaitable[Any]]
Run = tuple[str, Any]


@contextmanager
def listening(db: Database) -> Iterator[list[Run]]:
    """Statements that the product runs, with their values."""
    heard: list[Run] = []

    def note(_conn: Any, _cursor: Any, sql: str, values: Any, _context: Any, many: bool) -> None:
        if not sql.startswith("BEGIN"):
            heard.append((sql, values[0] if many and values and isinstance(values[0], tuple) else values))

    engine = db._write_engine.sync_engine
    sa_event.listen(engine, "before_cursor_execute", note)
    try:
        yield heard
    finally:
        sa_event.remove(engine, "before_cursor_execute", note)


async def statements_of(db: Database, act: Act) -> list[Run]:
    with listening(db) as heard:
        await act()
    return heard


async def a_queue(db: Database, team_id: int, count: int) -> None:
    """So many waiting emails, like one that waits already."""
    (model,) = (await desk.rows(db, work_item, work_item.c.state == "waiting"))[:1]
    (request,) = await desk.rows(db, inquiry, inquiry.c.id == model["source_id"])
    (entry,) = await desk.rows(db, queue_entry, queue_entry.c.item_id == model["id"])
    first = 1_000 + model["id"]
    numbers = range(first, first + count)
    async with db.transaction() as uow:
        await uow.execute(insert(inquiry), [{**request, "id": n, "team_id": team_id} for n in numbers])
        await uow.execute(
            insert(work_item),
            [{**model, "id": n, "source_id": n, "inquiry_id": n, "order_key": n} for n in numbers],
        )
        await uow.execute(
            insert(queue_entry),
            [{"lane_id": entry["lane_id"], "order_key": n, "item_id": n} for n in numbers],
        )


class Bureau:
    """One agent with work, what waits, and the five things that are measured."""

    def __init__(self, db: Database, team_id: int, agent_id: int) -> None:
        self.db, self.team_id, self.agent_id = db, team_id, agent_id

    @classmethod
    async def opened(cls, db: Database) -> "Bureau":
        team_id = await desk.a_team(db)
        for _ in range(8):
            await desk.arrives(db, team_id=team_id, requirements={"product:visa": 2})
        agent_id = await desk.an_agent(
            db,
            "Olena",
            team_id,
            skills={"product:visa": 3},
            settings={"capacity": {"async": 1, "chat": 9, "load_max": 1000}},
        )
        return cls(db, team_id, agent_id)

    async def pull(self) -> None:
        async with self.db.transaction() as uow:
            assert await match.pull(uow, self.agent_id) == 1

    async def give_room(self) -> None:
        async with self.db.transaction() as uow:
            await uow.execute(
                update(agent_slot)
                .where(agent_slot.c.agent_id == self.agent_id, agent_slot.c.channel == "async")
                .values(max=agent_slot.c.used + 1)
            )

    async def finish(self, mine: dict[str, Any]) -> None:
        async with self.db.transaction() as uow:
            await items.finish(uow, "inquiry", mine["source_id"], "solved")

    async def arrive(self, row: dict[str, Any]) -> None:
        async with self.db.transaction() as uow:
            assert (await items.enqueue_inquiry(uow, row)).state == "offered"

    async def accept(self, made: dict[str, Any]) -> None:
        async with self.db.transaction() as uow:
            await offers.accept(uow, made["id"], self.agent_id)

    async def rekey(self, waits: dict[str, Any]) -> None:
        priority = "high" if waits["priority"] != "high" else "urgent"
        async with self.db.transaction() as uow:
            await uow.execute(
                update(inquiry).where(inquiry.c.id == waits["source_id"]).values(priority=priority)
            )
            await items.rekey(uow, waits["source_id"])

    async def everything(self) -> dict[str, list[Run]]:
        async def the_last(table: Any, state: str, *where: Any) -> dict[str, Any]:
            return (await desk.rows(self.db, table, table.c.state == state, *where))[-1]

        await self.give_room()
        found = {"pull": await statements_of(self.db, self.pull)}
        mine = await the_last(work_item, "assigned", work_item.c.channel == "async")
        found["finish"] = await statements_of(self.db, lambda: self.finish(mine))
        came = await desk.an_inquiry(self.db, team_id=self.team_id, channel="webchat")
        (row,) = await desk.rows(self.db, inquiry, inquiry.c.id == came)
        found["arrive"] = await statements_of(self.db, lambda: self.arrive(row))
        made = await the_last(offer, "open")
        found["accept"] = await statements_of(self.db, lambda: self.accept(made))
        waits = await the_last(work_item, "waiting")
        found["rekey"] = await statements_of(self.db, lambda: self.rekey(waits))
        return found


async def test_statements_are_few_and_as_many_however_much_waits(db: Database) -> None:
    bureau = await Bureau.opened(db)
    await bureau.everything()  # lanes are made by the first who needs them
    few = {name: len(ran) for name, ran in (await bureau.everything()).items()}
    await a_queue(db, bureau.team_id, 500)
    many = {name: len(ran) for name, ran in (await bureau.everything()).items()}
    assert few == many
    assert {name: n for name, n in many.items() if n > MOST[db.dialect][name]} == {}


async def test_every_statement_of_a_decision_goes_by_an_index(db: Database) -> None:
    bureau = await Bureau.opened(db)
    await bureau.everything()
    ran = {sql: values for runs in (await bureau.everything()).values() for sql, values in runs}
    plans: dict[str, str] = {}
    async with db.reading() as conn:
        driver: Any = (await conn.get_raw_connection()).driver_connection
        if db.dialect == "sqlite":
            for sql, values in ran.items():
                rows = driver.raw.execute(f"EXPLAIN QUERY PLAN {sql}", values).fetchall()
                plans[sql] = "\n".join(r[3] for r in rows)
        else:
            # Tables as small as these are read whole; so it may not, where there is an index.
            await driver.execute("SET enable_seqscan = off")
            for sql, values in ran.items():
                plans[sql] = "\n".join(r[0] for r in await driver.fetch(f"EXPLAIN {sql}", *values))
            await driver.execute("RESET enable_seqscan")
    whole = re.compile(rf"(?:\bSCAN|Seq Scan on) ({_GROWING})(?! USING (?:COVERING )?INDEX)\b")
    assert {sql[:200]: found for sql, plan in plans.items() if (found := whole.findall(plan))} == {}
    assert len(plans) > 20


async def test_a_crowded_team_shares_lanes_and_levels_are_still_kept(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "MAX_LANES", 2)
    team_id = await desk.a_team(db)
    for level in (1, 2):
        await desk.arrives(db, team_id=team_id, requirements={"product:visa": level})
    made = await desk.rows(db, lane)
    hard = [
        await desk.arrives(db, team_id=team_id, requirements={"product:visa": level}) for level in (5, 4, 3)
    ]
    assert len(await desk.rows(db, lane)) == len(made), "no finer lane is made"
    visa = {k["id"] for k in made if k["requirements"] == {"product:visa": 1}}
    for item in hard:
        entries = await desk.rows(db, queue_entry, queue_entry.c.item_id == item.id)
        assert {e["lane_id"] for e in entries} == visa
    await desk.an_agent(db, "Ihor", team_id, skills={"product:visa": 3})
    states = [(await desk.the_item(db, i.id)).state for i in hard]
    assert states == ["waiting", "waiting", "assigned"], "what asks for more than he can waits on"
    olena = await desk.an_agent(db, "Olena", team_id, skills={"product:visa": 5})
    assert {(await desk.the_item(db, i.id)).owner_id for i in hard[:2]} == {olena}
    late = await desk.arrives(db, team_id=team_id, requirements={"product:visa": 4})
    assert (await desk.the_item(db, late.id)).owner_id == olena
    await desk.check_invariants(db)
