"""Routers killed at random statements, every command coming several times and in several orders: nothing is doubled,
nothing is lost, and the counters agree without any repair (I1, I2, I6, I7, I9).
"""

import asyncio
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from crm_core import inquiries
from crm_core.clock import DAY, MINUTE
from crm_core.db.engine import Database
from crm_core.schema import inquiry
from routing import presence, steps, store
from routing.model import LIVE, Item
from routing.schema import agent_slot, agent_state, assignment, command, decision, work_item
from routing.sweep import SWEEPERS
from switchboard import wiring
from tests.conftest import MovableClock
from tests.routing.engine import desk
from tests.routing.engine.desk import T0

INQUIRIES = 24
COMMANDS = 110


def commands(
    dice: random.Random, agents: list[int], made: list[int], teams: list[int]
) -> list[dict[str, Any]]:
    found = [{"verb": "arrive", "inquiry": i, "agent": None, "to": None} for i in made]
    weights = {
        "accept": 30, "decline": 8, "presence": 16, "take": 6, "transfer": 6, "release": 4, "status": 12, "priority": 6,
    }  # fmt: skip
    for verb in dice.choices(list(weights), list(weights.values()), k=COMMANDS - len(made)):
        to: Any = {
            "presence": dice.choice(("online", "online", "online", "break", "away_reassign", "offline")),
            "take": dice.choice(("steal", None)),
            "transfer": dice.choice(("agent", *teams)),
            "status": dice.choice(("pending", "open", "solved", "hold")),
            "priority": dice.choice(inquiries.PRIORITIES),
        }.get(verb)
        found.append({"verb": verb, "inquiry": dice.choice(made), "agent": dice.choice(agents), "to": to})
    return [{**one, "id": f"c{n}"} for n, one in enumerate(found)]


#: how many random plans to play; CI plays one, SWITCHBOARD_CRASH_SEEDS=50 looks deeper
SEEDS = range(1, 1 + int(os.environ.get("SWITCHBOARD_CRASH_SEEDS", "1")))


@pytest.mark.parametrize("seed", SEEDS)
async def test_killed_routers_lose_nothing_and_double_nothing(
    db: Database, database_url: str, clock: MovableClock, tmp_path: Path, seed: int
) -> None:
    clock.set(T0)
    dice = random.Random(seed)
    db.listeners = wiring.listeners()
    support = await desk.a_team(db, "Support")
    sales = await desk.a_team(db, "Sales", settings={"overflow": [support]})
    agents = [
        await desk.an_agent(
            db, f"A{n}", (support, sales)[n % 2], skills={"lang:uk": 3}, online=n < 3,
            settings={"capacity": {"chat": 2, "async": 3}},
        )
        for n in range(5)
    ]  # fmt: skip
    made = [
        await desk.an_inquiry(
            db,
            team_id=(support, sales)[n % 2],
            channel=("webchat", "email", "telegram", "form")[n % 4],
            language=("", "uk")[n % 2],
        )
        for n in range(INQUIRIES)
    ]
    plan = {
        "url": database_url,
        "seed": seed,
        "routers": 1 if db.dialect == "sqlite" else 3,
        "start_ms": T0,
        "folder": str(tmp_path),
        "commands": commands(dice, agents, made, [support, sales]),
    }
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.routing.crash.routers", str(tmp_path / "plan.json"),
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()[-4000:]
    deaths = [int(file.read_text()) for file in sorted(tmp_path.glob("deaths-*"))]
    assert len(deaths) == plan["routers"]
    assert all(deaths), "every router was killed at least once"

    # At this very moment, before any sweep: what is counted is what is held.
    await desk.check_invariants(db)
    await _every_item_has_a_future(db)
    await _once_is_once(db, tmp_path)

    # The survivors' work: everybody back, time passes, everything can still be brought to its end.
    clock.set(T0 + DAY)
    for agent_id in agents:
        await desk.go(db, agent_id, "online")
    for _ in range(8):
        for _name, sweep in SWEEPERS:
            await sweep(db)
        async with db.transaction() as uow:
            for agent_id in agents:
                await presence.heartbeat(uow, agent_id)
        clock.advance(MINUTE // 2)
    await desk.check_invariants(db)
    for inquiry_id in made:
        async with db.transaction() as uow:
            await inquiries.change(uow, inquiry_id, {"status": "solved"}, actor=f"agent:{agents[0]}")
    assert await desk.rows(db, work_item, work_item.c.state.in_(LIVE)) == []
    assert [
        (s["agent_id"], s["channel"]) for s in await desk.rows(db, agent_slot, agent_slot.c.used > 0)
    ] == []
    assert await desk.rows(db, agent_state, agent_state.c.load_used != 0) == []
    assert await desk.rows(db, assignment, assignment.c.ended_at.is_(None)) == []


async def _every_item_has_a_future(db: Database) -> None:
    """I6: it is over, somebody has it, or a row says when it goes on."""
    open_ = {o["item_id"] for o in await desk.open_offers(db)}
    for row in await desk.rows(db, work_item, work_item.c.state.in_(LIVE)):
        item = Item.from_row(row)
        if item.state == "waiting":
            async with db.reading() as conn:
                team = await store.team_context(conn, item.team_id)
            plan = steps.plan(item, team.settings)
            assert item.next_step_at is not None or item.step_no >= len(plan) - 1, item
        elif item.state in ("parked", "wrapup"):
            assert item.wake_at is not None, item
        elif item.state == "offered":
            assert item.id in open_, item
        else:
            assert item.owner_id is not None, item


async def _once_is_once(db: Database, folder: Path) -> None:
    """I7: whatever router and life asked, a command that succeeded has one result, and one effect."""
    results: dict[str, set[str]] = {}
    asked: dict[str, int] = {}
    for file in folder.glob("router-*.log"):
        for line in file.read_text().splitlines():
            key, how, result = json.loads(line)
            assert how != "contended", (key, "deadlocked twenty times")
            asked[key] = asked.get(key, 0) + 1
            if how == "done" and result is not None:
                results.setdefault(key, set()).add(json.dumps(result, sort_keys=True))
    assert len(asked) == COMMANDS
    assert {key: found for key, found in results.items() if len(found) > 1} == {}
    stored = {row["id"]: row["result"] for row in await desk.rows(db, command)}
    for key, found in results.items():
        assert json.loads(next(iter(found))) == stored[key], key
    async with db.reading() as conn:
        lives = select(work_item.c.source_kind, work_item.c.source_id).where(work_item.c.state.in_(LIVE))
        grouped = lives.group_by(work_item.c.source_kind, work_item.c.source_id).having(func.count() > 1)
        assert (await conn.execute(grouped)).all() == []
        undecided = (
            select(func.count())
            .select_from(assignment)
            .where(assignment.c.decision_id.not_in(select(decision.c.id)))
        )
        assert await conn.scalar(undecided) == 0
        orphan = select(inquiry.c.id).where(
            inquiry.c.assignee_id.is_not(None),
            inquiry.c.status.in_(("new", "open")),
            inquiry.c.id.not_in(select(work_item.c.inquiry_id).where(work_item.c.owner_id.is_not(None))),
        )
        assert (await conn.execute(orphan)).all() == [], "assigned to somebody who does not have it"
