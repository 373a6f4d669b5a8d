"""Several routers on one Postgres; crashes between statements; commands that arrive twice."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.event import listen
from sqlalchemy.exc import DBAPIError

from crm_core.db.engine import Database
from crm_core.db.uow import UnitOfWork
from crm_core.errors import Gone
from crm_core.infra.local import LocalHints
from routing import items, match, offers, presence, reconcile, sweep
from routing.schema import agent_slot, assignment, offer, work_item
from tests.conftest import MovableClock
from tests.routing.engine import desk
from tests.routing.engine.desk import T0


@pytest.fixture(autouse=True)
def frozen(clock: MovableClock) -> MovableClock:
    clock.set(T0)
    return clock


async def test_many_routers_assign_each_item_once_and_overfill_nobody(db: Database) -> None:
    team_id = await desk.a_team(db)
    agents = [
        await desk.an_agent(
            db, f"A{n}", team_id, online=False, settings={"capacity": {"chat": 2, "async": 3}}
        )
        for n in range(4)
    ]
    inquiries = [
        await desk.an_inquiry(db, team_id=team_id, channel="webchat" if n % 2 else "email") for n in range(24)
    ]

    async def comes(n: int) -> None:
        await desk.enqueue(db, inquiries[n])

    async def works(agent_id: int) -> None:
        await desk.go(db, agent_id, "online")
        for _ in range(3):
            await match.route_pending(db)
            for row in [o for o in await desk.open_offers(db) if o["agent_id"] == agent_id]:
                async with db.transaction() as uow:
                    await offers.accept(uow, row["id"], agent_id, f"accept-{row['id']}")

    await asyncio.gather(*(comes(n) for n in range(24)), *(works(a) for a in agents))
    for slot in await desk.rows(db, agent_slot):
        assert slot["used"] <= slot["max"]
    await desk.check_invariants(db)
    await match.route_pending(db)
    taken = [i for i in await desk.rows(db, work_item) if i["state"] in ("assigned", "offered")]
    assert len(taken) == 4 * 2 + 12
    await desk.check_invariants(db)

    async def serves(row: dict[str, Any]) -> None:
        async with db.transaction() as uow:
            await items.finish(uow, "inquiry", row["source_id"], "solved")

    for _ in range(6):
        live = [i for i in await desk.rows(db, work_item) if i["state"] in ("assigned", "offered")]
        await asyncio.gather(*(serves(i) for i in live))
        await desk.check_invariants(db)
    await match.route_pending(db)
    done = await desk.rows(db, work_item)
    assert {i["state"] for i in done} <= {"done", "cancelled"}
    assert len(await desk.rows(db, assignment, assignment.c.ended_at.is_(None))) == 0


async def test_accept_and_expiry_and_hangup_at_once_end_in_one_of_them(
    db: Database, frozen: MovableClock
) -> None:
    team_id = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team_id, settings={"capacity": {"chat": 20}, "load_max": 1000})
    olena_items = [await desk.arrives(db, team_id=team_id, channel="webchat") for _ in range(4)]
    made = await desk.open_offers(db)
    assert len(made) == 4
    frozen.set(T0 + 24_999)

    async def accepts(row: dict[str, Any]) -> str:
        try:
            async with db.transaction() as uow:
                await offers.accept(uow, row["id"], olena, None)
        except Gone:
            return "gone"
        return "accepted"

    async def hangs_up(source_id: int) -> None:
        async with db.transaction() as uow:
            await items.finish(uow, "inquiry", source_id, "abandoned")

    async def leaves() -> None:
        await desk.go(db, olena, "break")

    results = await asyncio.gather(
        *(accepts(o) for o in made),
        *(hangs_up(i.source_id) for i in olena_items[:2]),
        leaves(),
        sweep.sweep_offers(db),
    )
    await desk.check_invariants(db)
    outcome = dict(zip([o["item_id"] for o in made], results[:4], strict=True))
    for item in await desk.rows(db, work_item):
        if outcome[item["id"]] == "gone":
            assert item["state"] in ("waiting", "abandoned")
        else:
            assert item["state"] in ("assigned", "done")


async def test_one_agent_and_many_items_at_once_wait_for_nobody(db: Database) -> None:
    team_id = await desk.a_team(db)
    await desk.an_agent(db, "Olena", team_id, settings={"capacity": {"async": 5}})
    inquiries = [await desk.an_inquiry(db, team_id=team_id) for _ in range(12)]
    await asyncio.gather(*(desk.enqueue(db, i) for i in inquiries))
    await match.route_pending(db)
    states = [i["state"] for i in await desk.rows(db, work_item)]
    assert sorted(states) == ["assigned"] * 5 + ["waiting"] * 7
    await desk.check_invariants(db)


async def test_the_same_inquiry_enqueued_by_two_at_once_is_one_item(db: Database) -> None:
    team_id = await desk.a_team(db)
    await desk.an_agent(db, "Olena", team_id)
    inquiry_id = await desk.an_inquiry(db, team_id=team_id)
    await asyncio.gather(*(desk.enqueue(db, inquiry_id) for _ in range(4)))
    assert len(await desk.rows(db, work_item)) == 1
    await desk.check_invariants(db)


class CrashError(BaseException):
    """The process dies here."""


class _Fuse:
    """Lets n statements of a database pass, then raises; unarmed it lets all pass."""

    def __init__(self, db: Database) -> None:
        self.left: int | None = None
        listen(db._write_engine.sync_engine, "before_cursor_execute", self._count)

    def _count(self, *_: Any) -> None:
        if self.left is None:
            return
        self.left -= 1
        if self.left < 0:
            raise CrashError


async def test_a_crash_before_any_statement_leaves_nothing_half_done(
    database_url: str, clock: MovableClock
) -> None:
    fragile = Database(database_url, clock=clock, hints=LocalHints(), pool_size=4, synchronous="OFF")
    await fragile.start()
    fuse = _Fuse(fragile)
    try:
        team_id = await desk.a_team(fragile)
        olena = await desk.an_agent(fragile, "Olena", team_id, settings={"capacity": {"chat": 2}})
        await desk.an_agent(fragile, "Ihor", team_id, settings={"capacity": {"chat": 1}})

        async def survives(act: Any) -> int:
            """Run it dying ever later until it comes through; returns how often it died."""
            for n in range(200):
                try:
                    async with fragile.transaction() as uow:
                        fuse.left = n
                        await act(uow)
                    return n
                except CrashError:
                    fuse.left = None
                    await desk.check_invariants(fragile)
                finally:
                    fuse.left = None
            raise AssertionError("it never came through")

        crashes = 0
        for n in range(4):
            inquiry_id = await desk.an_inquiry(fragile, team_id=team_id, channel="webchat" if n else "email")

            async def enqueue(uow: UnitOfWork, inquiry_id: int = inquiry_id) -> None:
                row = await uow.row(select(desk.inquiry).where(desk.inquiry.c.id == inquiry_id))
                assert row is not None
                await items.enqueue_inquiry(uow, row)

            crashes += await survives(enqueue)
            await desk.check_invariants(fragile)
        (first, *_) = await desk.open_offers(fragile)
        crashes += await survives(lambda uow: offers.accept(uow, first["id"], first["agent_id"], "a1"))
        (second, *_) = await desk.open_offers(fragile)
        crashes += await survives(
            lambda uow: offers.decline(uow, second["id"], second["agent_id"], None, "d1")
        )
        await desk.check_invariants(fragile)
        crashes += await survives(lambda uow: presence.set_presence(uow, olena, "offline"))
        await desk.check_invariants(fragile)
        live = [i for i in await desk.rows(fragile, work_item) if i["state"] == "assigned"]
        crashes += await survives(lambda uow: items.finish(uow, "inquiry", live[0]["source_id"], "solved"))
        await desk.check_invariants(fragile)
        assert crashes > 60
    finally:
        await fragile.close()


async def test_the_reconciler_repairs_and_tells(db: Database) -> None:
    team_id = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team_id)
    await desk.arrives(db, team_id=team_id)
    async with db.transaction() as uow:
        await uow.execute(
            agent_slot.update()
            .where(agent_slot.c.agent_id == olena, agent_slot.c.channel == "chat")
            .values(used=3, load=75)
        )
    async with db.transaction() as uow:
        found = await reconcile.recount(uow)
    assert [(d["channel"], d["used"], d["held"]) for d in found] == [("chat", 3, 0)]
    assert await desk.used(db, olena, "chat") == 0
    (alarm,) = await desk.rows(db, desk.event_table, desk.event_table.c.kind == "alarm.raised")
    assert alarm["payload"]["alarm"] == "capacity_differs"
    await sweep.sweep_reconcile(db)
    assert len(await desk.rows(db, desk.event_table, desk.event_table.c.kind == "alarm.raised")) == 1


async def test_offers_are_unique_in_the_database_itself(db: Database) -> None:
    team_id = await desk.a_team(db)
    await desk.an_agent(db, "Olena", team_id)
    await desk.arrives(db, team_id=team_id, channel="webchat")
    (made,) = await desk.open_offers(db)
    with pytest.raises(DBAPIError):
        async with db.transaction() as uow:
            await uow.insert(offer, {k: v for k, v in made.items() if k != "id"})
