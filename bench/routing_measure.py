"""One row of the table each: the product's own functions, timed from the beginning of a transaction to its commit.

A decision's waiting list, agents and lanes are those of `bench.routing_load`. What a measurement needs to repeat itself
(an agent's room, a request that has just come) is prepared outside the time measured.
"""

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import event as sa_event
from sqlalchemy import func, select, update

from bench.routing_load import Size
from crm_core.clock import SystemClock
from crm_core.db.engine import Database
from crm_core.infra.local import LocalHints
from crm_core.schema import inquiry
from routing import asking, decide, explain, items, machine, match, offers, steps, store
from routing.model import Item
from routing.schema import agent_slot, agent_state, assignment, offer, queue_entry, work_item
from switchboard import wiring

_WARM = 30


@dataclass
class Timings:
    """Seconds of each repetition; statements and this process' own CPU of all of them."""

    seconds: list[float] = field(default_factory=list)
    statements: int = 0
    cpu_s: float = 0.0

    def as_data(self) -> dict[str, float]:
        if not self.seconds:
            return {"n": 0}
        ordered = sorted(self.seconds)
        n = len(ordered)
        return {
            "n": n,
            "p50_ms": round(ordered[n // 2] * 1000, 3),
            "p95_ms": round(ordered[min(int(n * 0.95), n - 1)] * 1000, 3),
            "p99_ms": round(ordered[min(int(n * 0.99), n - 1)] * 1000, 3),
            "mean_ms": round(sum(ordered) / n * 1000, 3),
            "cpu_ms": round(self.cpu_s / n * 1000, 3),
            "statements": round(self.statements / n, 1),
        }


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    """The product's database, with everything that listens in the product."""
    db = Database(url, clock=SystemClock(), hints=LocalHints())
    await db.start()
    db.listeners = wiring.listeners()
    try:
        yield db
    finally:
        await db.close()


class Desk:
    """The bureau under measurement. `share`: (index, of) for one of several routers, each with agents of its own."""

    def __init__(self, db: Database, size: Size, *, seed: int = 1, share: tuple[int, int] = (0, 1)) -> None:
        self.db, self.size = db, size
        self.random = random.Random(seed)
        index, of = share
        self.agents = list(range(1 + index, size.agents + 1, of))
        self.random.shuffle(self.agents)
        self._turn = 0
        self._next_spare = size.waiting + size.agents + 1

    def next_agent(self) -> int:
        self._turn += 1
        return self.agents[self._turn % len(self.agents)]

    # --- agent free -> item --------------------------------------------------------------------------------------
    async def give_room(self) -> int:
        """One agent gets room for one more request. Returns who."""
        agent_id = self.next_agent()
        async with self.db.transaction() as uow:
            await uow.execute(
                update(agent_slot)
                .where(agent_slot.c.agent_id == agent_id, agent_slot.c.channel == "async")
                .values(max=agent_slot.c.used + 1)
            )
        return agent_id

    async def pull(self, agent_id: int) -> None:
        async with self.db.transaction() as uow:
            given = await match.pull(uow, agent_id)
        if given != 1:
            raise RuntimeError(f"agent {agent_id} was given {given} items instead of one")

    async def his_request(self) -> int:
        """A request that an agent has."""
        while True:
            agent_id = self.next_agent()
            async with self.db.reading() as conn:
                found = await conn.scalar(
                    select(assignment.c.inquiry_id).where(
                        assignment.c.agent_id == agent_id,
                        assignment.c.ended_at.is_(None),
                        assignment.c.channel == "async",
                    )
                )
            if found is not None:
                return int(found)

    async def their_requests(self) -> list[int]:
        """One request of each agent, in no order."""
        async with self.db.reading() as conn:
            found = await conn.execute(
                select(assignment.c.agent_id, assignment.c.inquiry_id).where(
                    assignment.c.agent_id.in_(self.agents),
                    assignment.c.ended_at.is_(None),
                    assignment.c.channel == "async",
                )
            )
            each = {agent_id: int(inquiry_id) for agent_id, inquiry_id in found}
        return [each[agent_id] for agent_id in self.agents if agent_id in each]

    async def finish(self, inquiry_id: int) -> None:
        async with self.db.transaction() as uow:
            if await items.finish(uow, "inquiry", inquiry_id, "solved") is None:
                raise RuntimeError(f"request {inquiry_id} was not in work")

    # --- item in -> agent ----------------------------------------------------------------------------------------
    async def arriving(self) -> int:
        """A chat that nobody routed yet."""
        self._next_spare += 1
        if self._next_spare > self.size.waiting + self.size.agents + self.size.spare:
            raise EndOfLoad
        return self._next_spare

    async def arrive(self, inquiry_id: int) -> None:
        async with self.db.transaction() as uow:
            row = await uow.row(select(inquiry).where(inquiry.c.id == inquiry_id))
            if row is None:
                raise RuntimeError(f"no request {inquiry_id}")
            item = await items.enqueue_inquiry(uow, row)
        if item.state != "offered":
            raise RuntimeError(f"item {item.id} is {item.state}, and there are free agents")

    async def offered(self) -> tuple[int, int]:
        """A fresh offer and its agent."""
        inquiry_id = await self.arriving()
        await self.arrive(inquiry_id)
        async with self.db.reading() as conn:
            row = (
                await conn.execute(
                    select(offer.c.id, offer.c.agent_id)
                    .join(work_item, work_item.c.id == offer.c.item_id)
                    .where(work_item.c.inquiry_id == inquiry_id)
                )
            ).one()
        return row.id, row.agent_id

    async def accept(self, made: tuple[int, int]) -> None:
        async with self.db.transaction() as uow:
            await offers.accept(uow, *made)

    # --- an item that waits ---------------------------------------------------------------------------------------
    async def waiting(self) -> int:
        """A request that waits, of those at the end of the queue."""
        while True:
            number = self.random.randrange(self.size.waiting // 2, self.size.waiting) + 1
            async with self.db.reading() as conn:
                state = await conn.scalar(
                    select(work_item.c.state).where(
                        work_item.c.id == number, work_item.c.next_step_at.is_not(None)
                    )
                )
            if state == "waiting":
                return number

    async def some_waiting(self, count: int) -> list[int]:
        """Waiting items, the newest first."""
        async with self.db.reading() as conn:
            found = await conn.scalars(
                select(work_item.c.id)
                .where(work_item.c.state == "waiting")
                .order_by(work_item.c.id.desc())
                .limit(count)
            )
            return [int(i) for i in found]

    async def widen(self, inquiry_id: int) -> None:
        async with self.db.transaction() as uow:
            await asking.widen(uow, inquiry_id)

    async def reprioritise(self, inquiry_id: int) -> None:
        async with self.db.transaction() as uow:
            await uow.execute(
                update(inquiry)
                .where(inquiry.c.id == inquiry_id)
                .values(priority="high" if self.random.random() < 0.5 else "urgent")
            )
            await items.rekey(uow, inquiry_id)

    async def explain(self, inquiry_id: int) -> None:
        async with self.db.reading() as conn:
            told = await explain.why(conn, inquiry_id, now=self.db.clock.now_ms())
        if told["waiting"] is None:
            raise RuntimeError(f"request {inquiry_id} does not wait")

    # --- afterwards -------------------------------------------------------------------------------------------------
    async def check(self) -> dict[str, int]:
        """What must be true after any number of decisions, counted over everything."""
        async with self.db.reading() as conn:
            live = select(func.count()).select_from(assignment).where(assignment.c.ended_at.is_(None))
            open_ = select(func.count()).select_from(offer).where(offer.c.state == "open")
            over = select(func.count()).select_from(agent_slot).where(agent_slot.c.used > agent_slot.c.max)
            doubled = (
                select(func.count())
                .select_from(queue_entry)
                .join(work_item, work_item.c.id == queue_entry.c.item_id)
                .where(work_item.c.state != "waiting")
            )
            used = await conn.scalar(select(func.sum(agent_slot.c.used)))
            held = (await conn.scalar(live) or 0) + (await conn.scalar(open_) or 0)
            loads = await conn.scalar(select(func.sum(agent_state.c.load_used)))
            slots = await conn.scalar(select(func.sum(agent_slot.c.load)))
            return {
                "capacity_differs": abs(int(used or 0) - held) + abs(int(loads or 0) - int(slots or 0)),
                "over_capacity": int(await conn.scalar(over) or 0),
                "queued_but_not_waiting": int(await conn.scalar(doubled) or 0),
            }


class EndOfLoad(Exception):
    """Nothing is left to measure with."""


class _Counter:
    """Statements of the product while it is on."""

    def __init__(self) -> None:
        self.count = 0
        self.on = False

    def note(self, *_: Any) -> None:
        if self.on:
            self.count += 1


async def timed(
    db: Database,
    prepare: Callable[[], Awaitable[Any]],
    act: Callable[[Any], Awaitable[None]],
    *,
    seconds: float,
    most: int = 2_000,
) -> Timings:
    """Repeat until the time or the load is over. What is prepared is not in the time."""
    timings, counter = Timings(), _Counter()
    engines = {db._write_engine.sync_engine, db._read_engine.sync_engine}  # noqa: SLF001 - to count statements
    for engine in engines:
        sa_event.listen(engine, "before_cursor_execute", counter.note)
    try:
        until: float | None = None
        for n in range(most + _WARM):
            if n == _WARM:
                timings = Timings()
                counter.count = 0
                until = time.perf_counter() + seconds
            try:
                subject = await prepare()
            except EndOfLoad:
                break
            counter.on = True
            cpu, start = time.process_time(), time.perf_counter()
            await act(subject)
            timings.seconds.append(time.perf_counter() - start)
            timings.cpu_s += time.process_time() - cpu
            counter.on = False
            timings.statements = counter.count
            if until is not None and time.perf_counter() > until:
                break
    finally:
        for engine in engines:
            sa_event.remove(engine, "before_cursor_execute", counter.note)
    return timings


async def core(db: Database, size: Size, *, rounds: int = 2_000) -> dict[str, float]:
    """The pure part of a decision, on what a real one has read: microseconds each."""
    async with db.reading() as conn:
        row = (
            (
                await conn.execute(
                    select(work_item).where(work_item.c.state == "waiting").order_by(work_item.c.id).limit(1)
                )
            )
            .mappings()
            .one()
        )
        item = Item.from_row(row)
        team = await store.team_context(conn, item.team_id)
        plan = steps.plan(item, team.settings)
        lane = plan[0].lanes[0]
        agents = [1 + (item.team_id or 1) - 1 + n * size.teams for n in range(40)]
        views = await store.views(
            conn, {a: {lane.signature} for a in agents if a <= size.agents}, skills=(), now=db.clock.now_ms()
        )
    now = db.clock.now_ms()
    place = _each(lambda: decide.place(item, team.settings, views, team.hours(now), now), rounds)
    event = machine.Assigned(agent_id=1, weight=10, cause="outright", step=plan[0], entered_at=now)
    react = _each(lambda: machine.react(item, event, team.settings, now), rounds)
    one = _each(lambda: decide.place(item, team.settings, views[:1], team.hours(now), now), rounds)
    return {"place_40_agents_us": place, "place_1_agent_us": one, "react_us": react}


def _each(work: Callable[[], Any], rounds: int) -> float:
    work()
    start = time.perf_counter()
    for _ in range(rounds):
        work()
    return round((time.perf_counter() - start) / rounds * 1e6, 1)
