"""Router processes that die: `python -m tests.routing.crash.routers PLAN.json`, run by test_kills.

Each router carries out every command of the plan in an order of its own, with sweeps in between, so each command comes
as often as there are routers (twice, if there is one). At a drawn statement (before it, after it, or at the commit) the process is killed by
SIGKILL; the next life goes on behind the last command whose result was written down, hence repeats the one under way.
A router that has used up its lives is left alone to finish.
"""

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.event import listen
from sqlalchemy.exc import DBAPIError

from crm_core import inquiries
from crm_core.db.engine import Database
from crm_core.db.uow import UnitOfWork
from crm_core.errors import SwitchboardError
from crm_core.infra.local import LocalHints
from crm_core.schema import inquiry
from routing import assignments, items, offers, presence
from routing.schema import offer
from routing.sweep import SWEEPERS
from switchboard import wiring

#: seconds of the plan's clock that pass in one real second: offers and steps run out while commands come
SPEED = 60
_LIVES = 12
_RETRIES = 20


class FastClock:
    def __init__(self, start_ms: int, began: float) -> None:
        self._start, self._began = start_ms, began

    def now_ms(self) -> int:
        return self._start + round((time.monotonic() - self._began) * SPEED * 1000)


def bomb(db: Database, dice: random.Random) -> None:
    """Kill this process at a drawn statement of its write transactions."""
    left = dice.randrange(5, 700)
    moment = dice.choice(("before", "after", "commit"))

    def tick(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def at_commit(*_: Any) -> None:
        if left <= 100:
            os.kill(os.getpid(), signal.SIGKILL)

    engine = db._write_engine.sync_engine
    if moment == "commit":
        listen(engine, "before_cursor_execute", tick)
        listen(engine, "commit", at_commit)
    else:
        listen(engine, f"{moment}_cursor_execute", tick)


async def carry_out(uow: UnitOfWork, command: dict[str, Any]) -> Any:
    """One command. Those that take an id of their own get the plan's."""
    verb, agent_id, inquiry_id, key = command["verb"], command["agent"], command["inquiry"], command["id"]
    if verb in ("accept", "decline"):
        open_ = select(offer.c.id).where(offer.c.state == "open", offer.c.agent_id == agent_id)
        offer_id = await uow.scalar(open_.order_by(offer.c.id).limit(1))
        if offer_id is None:
            return None
        act = offers.accept if verb == "accept" else offers.decline
        return await act(uow, offer_id, agent_id, command_id=key)
    if verb == "arrive":
        row = await uow.row(uow.lock(select(inquiry).where(inquiry.c.id == inquiry_id)))
        assert row is not None
        if items.needs_people(row):
            await items.enqueue_inquiry(uow, row)
        return None
    if verb == "presence":
        await presence.set_presence(uow, agent_id, command["to"])
        return None
    if verb == "take":
        return await assignments.take(uow, inquiry_id, agent_id, key, steal=command["to"] == "steal")
    if verb == "transfer":
        to = {"to_agent_id": agent_id} if command["to"] == "agent" else {"to_team_id": command["to"]}
        return await assignments.transfer(uow, inquiry_id, actor="system", command_id=key, **to)
    if verb == "release":
        return await assignments.release(uow, inquiry_id, "system", key)
    await inquiries.change(uow, inquiry_id, {verb: command["to"]}, actor=f"agent:{agent_id}")
    return None


async def attempt(db: Database, act: Callable[[], Any]) -> tuple[str, Any]:
    """What came of it; a deadlock or a lost serialization is tried again, as a job would be."""
    for _ in range(_RETRIES):
        try:
            return "done", await act()
        except SwitchboardError as error:
            return "refused", error.code
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in ("40P01", "40001"):
                raise
    return "contended", None


async def live(plan: dict[str, Any], n: int, life: int) -> None:
    clock = FastClock(plan["start_ms"], plan["began"])
    db = Database(plan["url"], clock=clock, hints=LocalHints(), pool_size=3, synchronous="OFF")
    db.listeners = wiring.listeners()
    await db.start()
    dice = random.Random(f"{plan['seed']}-{n}-{life}")
    if life < _LIVES:
        bomb(db, dice)
    log = Path(plan["folder"]) / f"router-{n}.log"
    done = len(log.read_text().splitlines()) if log.exists() else 0
    # A lone router gets everything twice, as from a broker that delivers at least once.
    order = list(plan["commands"]) * (2 if plan["routers"] == 1 else 1)
    random.Random(f"{plan['seed']}-{n}").shuffle(order)
    with log.open("a") as out:
        for command in order[done:]:

            async def act(command: dict[str, Any] = command) -> Any:
                async with db.transaction() as uow:
                    return await carry_out(uow, command)

            how, result = await attempt(db, act)
            out.write(json.dumps([command["id"], how, result]) + "\n")
            out.flush()
            if dice.random() < 0.4:
                _, sweep = dice.choice(SWEEPERS)

                async def swept(sweep: Any = sweep) -> Any:
                    return await sweep(db)

                await attempt(db, swept)
    await db.close()


def one_router(plan: dict[str, Any], n: int) -> int:
    """Live until the plan is done; returns how often it died."""
    life = 0
    while True:
        pid = os.fork()
        if pid == 0:
            try:
                asyncio.run(live(plan, n, life))
                os._exit(0)
            except BaseException:
                import traceback

                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            life += 1
            continue
        if status != 0:
            raise SystemExit(f"router {n} failed in life {life}")
        return life


def main(path: str) -> None:
    plan = json.loads(Path(path).read_text())
    plan["began"] = time.monotonic()
    # Each router has a parent of its own that brings it back; forked before any thread or loop exists.
    pids = []
    for n in range(plan["routers"]):
        pid = os.fork()
        if pid == 0:
            deaths = one_router(plan, n)
            (Path(plan["folder"]) / f"deaths-{n}").write_text(str(deaths))
            os._exit(0)
        pids.append(pid)
    bad = [pid for pid in pids if os.waitpid(pid, 0)[1] != 0]
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main(sys.argv[1])
