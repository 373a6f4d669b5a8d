"""No promise is ever silently dropped: seeded stories of everything that can happen, checked after every step.

After each step every open promise has a time at which something happens to it, is somebody's live work, or stands
before a supervisor; and when everybody goes home, time alone brings each of them before one.
"""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import select

from crm_core import calls
from crm_core.clock import DAY, HOUR, MINUTE, SECOND
from crm_core.db.engine import Database
from crm_core.errors import SwitchboardError
from crm_core.events import DomainEvent
from crm_core.schema import call, contact
from routing import callbacks, offers
from routing import sweep as routing_sweep
from routing.callbacks import check
from routing.callbacks.settings import OUTCOMES, Mode
from routing.schema import callback, callback_attempt
from tests.conftest import MovableClock
from tests.routing.callbacks.office import MONDAY_NOON, a_pbx, booked, says, wire
from tests.routing.engine.desk import a_contact, a_team, an_agent, go, open_offers, rows

STEPS = 60
#: more stories on demand: "100-130"
_FIRST, _, _LAST = os.environ.get("CALLBACK_STORY_SEEDS", "11").partition("-")
SEEDS = range(int(_FIRST), int(_LAST or _FIRST) + 1)
NUMBERS = ("+380501234567", "+380671112233", "+380931112244")


class CrashError(Exception):
    """The process dies before its transaction is durable."""


class Story:
    """One office and its dice."""

    def __init__(self, db: Database, clock: MovableClock, seed: int) -> None:
        self.db, self.clock, self.dice = db, clock, random.Random(seed)
        self.agents: list[int] = []
        self.people: list[int] = []
        self.calls = 0
        self.box: dict[str, Any] = {}
        self.team = 0

    async def begin(self) -> None:
        self.box = await a_pbx(self.db, connect_url="http://127.0.0.1:1/connect")
        self.team = await a_team(self.db, settings={"callbacks": {"min_free": 1, "card_s": 60}})
        self.agents = [await an_agent(self.db, f"A{n}", self.team, extension=f"1{n}") for n in range(3)]
        self.people = [await a_contact(self.db, f"P{n}") for n in range(3)]

    def some(self, things: list[Any]) -> Any:
        return self.dice.choice(things) if things else None

    async def promise(self, *states: str) -> int | None:
        wanted = states or ("scheduled", "due", "dialling", "paused", "escalated")
        found = await rows(self.db, callback, callback.c.state.in_(wanted))
        chosen = self.some(found)
        return None if chosen is None else int(chosen["id"])

    # --- what may happen ----------------------------------------------------------------------------------
    async def book(self) -> None:
        n = self.dice.randrange(3)
        await booked(
            self.db,
            contact_id=self.people[n],
            raw_phone=NUMBERS[n],
            team_id=self.team,
            owner_id=self.some([None, *self.agents]),
            mode=self.some([None, *[m.value for m in Mode]]),
            window_start=self.clock.now_ms() + self.dice.randrange(1, 40) * MINUTE,
        )

    async def time_passes(self) -> None:
        self.clock.advance(self.dice.choice([SECOND, 20 * SECOND, MINUTE, 11 * MINUTE, HOUR]))
        await self.sweep()

    async def sweep(self) -> None:
        await callbacks.sweep(self.db)
        for name, each in routing_sweep.SWEEPERS:
            if name != "routing.reconcile":
                await each(self.db)
        async with self.db.transaction() as uow:
            await calls.sweep(uow)

    async def presence(self) -> None:
        await go(
            self.db, self.some(self.agents), self.some(["online", "online", "online", "break", "offline"])
        )

    async def answer_an_offer(self) -> None:
        offered = self.some(await open_offers(self.db))
        if offered is None:
            return
        async with self.db.transaction() as uow:
            if self.dice.random() < 0.75:
                await offers.accept(uow, offered["id"], offered["agent_id"])
            else:
                await offers.decline(uow, offered["id"], offered["agent_id"])

    async def dial(self) -> None:
        chosen = await self.promise("due", "scheduled", "escalated")
        if chosen is not None:
            async with self.db.transaction() as uow:
                await callbacks.dial(uow, chosen, self.some(self.agents), actor="agent:1")

    async def outcome(self) -> None:
        chosen = await self.promise("due", "dialling", "scheduled")
        if chosen is not None:
            async with self.db.transaction() as uow:
                await callbacks.record_outcome(
                    uow, chosen, self.some([o for o in OUTCOMES if o != "abandoned"]), actor="agent:1"
                )

    async def pbx(self) -> None:
        attempt = self.some(
            await rows(self.db, callback_attempt, callback_attempt.c.correlation_id.is_not(None))
        )
        if attempt is None:
            return
        corr = {"correlation_id": attempt["correlation_id"], "number": attempt["phone"]}
        own = {"agent_leg": True, "agent_ext": "11", **corr}
        key = f"out-{attempt['id']}"
        for leg, state, more in self.dice.choice(
            [
                [("a", "ringing", own)],
                [("a", "ended", {**own, "disposition": "no_answer", "final": True})],
                [("a", "answered", own), ("c", "ringing", corr)],
                [("c", "answered", corr)],
                [("c", "ended", {**corr, "disposition": "busy", "final": True})],
                [("c", "answered", corr), ("c", "ended", {**corr, "disposition": "answered", "final": True})],
            ]
        ):
            await says(self.db, self.box, key, leg, state, **more)

    async def customer_calls(self) -> None:
        number = self.some(list(NUMBERS))
        waiting = await rows(self.db, call, call.c.direction == "inbound", call.c.state == "ringing")
        chosen = self.some(waiting)
        if chosen is None or self.dice.random() < 0.4:
            self.calls += 1
            key = f"in-{self.calls}"
            await says(self.db, self.box, key, key, "ringing", queue="main", number=number)
            return
        key, facts = chosen["call_key"], {"number": chosen["from_number"]}
        what = self.dice.randrange(3)
        if what == 0:
            await says(self.db, self.box, key, key, "note", request="callback", **facts)
        elif what == 1:
            await says(
                self.db, self.box, key, f"{key}-a", "answered", agent_leg=True, agent_ext="10", **facts
            )
        else:
            await says(
                self.db,
                self.box,
                key,
                key,
                "ended",
                disposition="abandoned",
                final=True,
                queue="main",
                **facts,
            )

    async def customer_writes(self) -> None:
        chosen = self.some(self.people)
        async with self.db.transaction() as uow:
            person = await uow.row(select(contact).where(contact.c.id == chosen))
            message = {
                "id": 1, "direction": "in", "author_kind": "customer", "automatic": False, "kind": "text",
                "author_id": chosen,
            }  # fmt: skip
            await uow.emit(
                DomainEvent(
                    kind="message.added", subject_kind="message", subject_id=1,
                    context={"contact": dict(person or {}), "inquiry": None, "message": message},
                )
            )  # fmt: skip

    async def agent_decides(self) -> None:
        chosen = await self.promise()
        if chosen is None:
            return
        async with self.db.transaction() as uow:
            match self.dice.randrange(4):
                case 0:
                    await callbacks.cancel(uow, chosen, actor="agent:1", reason="no need")
                case 1:
                    await callbacks.snooze(uow, chosen, minutes=self.dice.randrange(1, 60), actor="agent:1")
                case 2:
                    await callbacks.resume(uow, chosen, actor="agent:1")
                case _:
                    start = self.clock.now_ms() + self.dice.randrange(0, 90) * MINUTE
                    await callbacks.reschedule(uow, chosen, window_start=start, actor="contact:1")

    async def step(self) -> str:
        acts: list[Callable[[], Awaitable[None]]] = [
            self.book, self.time_passes, self.time_passes, self.presence, self.answer_an_offer,
            self.answer_an_offer, self.dial, self.outcome, self.pbx, self.pbx, self.customer_calls,
            self.customer_calls, self.customer_writes, self.agent_decides,
        ]  # fmt: skip
        act = self.dice.choice(acts)
        crash = self.dice.random() < 0.08
        if crash:
            self._die_at_the_next_commit()
        try:
            await act()
        except (SwitchboardError, CrashError):
            pass  # refused, or killed: the rows are as they were
        finally:
            if crash:
                self.db.listeners = self._living
        return f"{act.__name__}{' (killed)' if crash else ''}"

    def _die_at_the_next_commit(self) -> None:
        self._living = self.db.listeners

        async def die(_uow: Any, _event: DomainEvent) -> None:
            raise CrashError

        kinds = (
            "callback.due",
            "callback.dialled",
            "callback.attempted",
            "callback.updated",
            "callback.kept",
        )
        self.db.listeners = {k: [*v, die] if k in kinds else v for k, v in self._living.items()} | {
            k: [die] for k in kinds if k not in self._living
        }

    async def check(self, told: list[str]) -> None:
        async with self.db.reading() as conn:
            lost = await check.dropped(conn)
        assert lost == [], told[-12:]


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_happens_no_promise_is_dropped(db: Database, clock: MovableClock, seed: int) -> None:
    clock.set(MONDAY_NOON)
    wire(db)
    story = Story(db, clock, seed)
    await story.begin()
    told: list[str] = []
    for _ in range(STEPS):
        told.append(await story.step())
        await story.check(told)
    # Everybody goes home; nobody touches anything any more.
    for agent_id in story.agents:
        await go(db, agent_id, "offline")
    for _ in range(6):
        clock.advance(30 * HOUR)
        await story.sweep()
        await story.check(told)
    clock.advance(DAY)
    await story.sweep()
    left = await rows(db, callback, callback.c.state.not_in(("done", "cancelled")))
    assert all(c["escalated_at"] is not None for c in left)
    assert await rows(db, callback)


async def test_everything_at_once(db: Database, clock: MovableClock) -> None:
    """Accepting, cancelling, dialling, the PBX's word, the customer's call and two sweepers in the same instant."""
    clock.set(MONDAY_NOON)
    wire(db)
    story = Story(db, clock, 5)
    await story.begin()
    for n in range(5):
        made = await booked(
            db, contact_id=story.people[n % 3], raw_phone=NUMBERS[n % 3], team_id=story.team,
            window_start=clock.now_ms() + SECOND, mode="agent_first" if n % 2 else "preview",
        )  # fmt: skip
        clock.advance(SECOND)
        for agent_id in story.agents:
            await go(db, agent_id, "online")
        await asyncio.gather(callbacks.sweep(db), callbacks.sweep(db))
        offered = await open_offers(db)

        async def accept(which: dict[str, Any]) -> None:
            async with db.transaction() as uow:
                await offers.accept(uow, which["id"], which["agent_id"])

        async def act(verb: Callable[..., Awaitable[Any]], callback_id: int, *args: Any, **more: Any) -> None:
            async with db.transaction() as uow:
                await verb(uow, callback_id, *args, **more)

        done = await asyncio.gather(
            *(accept(o) for o in offered * 2),
            act(callbacks.dial, made["id"], story.agents[0], actor="agent:1"),
            act(callbacks.dial, made["id"], story.agents[1], actor="agent:2"),
            act(callbacks.snooze, made["id"], minutes=5, actor="agent:3"),
            act(callbacks.record_outcome, made["id"], "busy", actor="agent:1"),
            act(callbacks.cancel, made["id"], actor="contact:1"),
            says(db, story.box, f"race-{n}", f"race-{n}", "ringing", queue="main", number=NUMBERS[n % 3]),
            callbacks.sweep(db),
            callbacks.sweep(db),
            return_exceptions=True,
        )
        wrong = [d for d in done if isinstance(d, BaseException) and not isinstance(d, SwitchboardError)]
        assert wrong == []
        await story.check([f"round {n}"])
        at_work = await rows(db, callback_attempt, callback_attempt.c.state == "dialling")
        assert len({a["phone"] for a in at_work}) == len(at_work)


async def test_a_promise_that_nothing_would_happen_to_is_found(db: Database, clock: MovableClock) -> None:
    clock.set(MONDAY_NOON)
    wire(db)
    made = await booked(db, team_id=await a_team(db))
    async with db.transaction() as uow:
        from sqlalchemy import update

        await uow.execute(update(callback).values(next_attempt_at=None, escalate_at=None))
    async with db.reading() as conn:
        assert await check.dropped(conn) == [made["id"]]
        assert await check.unattended(conn, now=clock.now_ms()) == []
