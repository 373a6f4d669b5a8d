"""What a million open tickets cost the SLA engine: looking for what is due, firing it, changing clocks and rules.

    python bench/sla.py                          Postgres: 10,000, 100,000 and 1,000,000 tickets (some six minutes)
    python bench/sla.py --database sqlite --tickets 100000 --json

Every ticket has three running clocks. Measured are the product's own functions on a real database with real fsync, at
three sizes, so that what grows is seen. See bench/README.md for how to read it.
"""

import argparse
import asyncio
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, os.environ.get("SWITCHBOARD_BENCH_ROOT") or str(Path(__file__).resolve().parents[1]))

import uvloop
from sqlalchemy import func, select, text

from bench import sla_fill
from bench.place import organise, tree_of
from bench.usage import Tree, snapshot
from crm_core import inquiries
from crm_core.clock import HOUR
from crm_core.db.engine import Database
from crm_core.db.uow import UnitOfWork
from crm_core.events import DomainEvent
from crm_core.infra.local import LocalHints
from crm_core.jobs import JobRow
from crm_core.schema import job, team
from routing.schema import sla_clock, sla_event
from routing.sla import edit, service, sweeper
from switchboard.migrate import upgrade
from tests.services import PostgresServer

#: sla.md §8; name -> (goal, how to compare, unit)
GOALS: dict[str, tuple[float, str, str]] = {
    "due_scan_ms": (10, "<=", "ms for the 500 longest due"),
    "idle_cpu_percent": (5, "<", "% of a core, process and database, nothing due"),
    "fired_per_s": (1_000, ">=", "clocks/s by one sweeper"),
    "lag_p99_ms": (2_000, "<", "ms from the step's instant to its commit at 1,000/s"),
    "event_ms": (5, "<", "ms for a ticket's event to change its clocks (p50)"),
    "recompute_per_s": (5_000, ">=", "clocks/s after a calendar's edit"),
}


class BenchClock:
    """The bench's time: real, or stopped at an instant."""

    def __init__(self) -> None:
        self.at: int | None = None

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 if self.at is None else self.at


@dataclass
class Ground:
    """A database that is being measured."""

    db: Database
    clock: BenchClock
    url: str
    rules: sla_fill.Rules
    trees: dict[str, Tree]
    tickets: int = 0
    #: when the filled tickets were opened; nothing of them is due before BEGAN + half of the target
    began: int = 0
    spread: int = 2 * HOUR
    #: of the calendar
    edits: int = 0


@asynccontextmanager
async def ground(database: str) -> AsyncIterator[Ground]:
    directory = Path(tempfile.mkdtemp(prefix="sb-sla-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        trees = {"process": Tree([os.getpid()])}
        if database == "postgresql":
            server = stack.enter_context(PostgresServer(fsync=True))
            url = server.create_database()
            # The server is a child of nobody we count, so it is a tree of its own.
            trees["database"] = tree_of(server, "db/data/postmaster.pid")
        else:
            url = f"sqlite+aiosqlite:///{directory}/switchboard.db"
        await upgrade(url)
        clock = BenchClock()
        db = Database(url, clock=clock, hints=LocalHints())
        await db.start()
        try:
            organisation = await organise(db)
            async with db.reading() as conn:
                team_id = int(await conn.scalar(select(func.min(team.c.id))) or 0)
            rules = await sla_fill.make_rules(db, organisation.telegram_inbox, team_id)
            began = time.time_ns() // 1_000_000 - HOUR
            yield Ground(db, clock, url, rules, trees, began=began)
        finally:
            await db.close()


async def grow(g: Ground, tickets: int) -> float:
    """Fill up to so many tickets. Returns the seconds it took."""
    started = time.monotonic()
    await sla_fill.fill(g.url, g.rules, first=g.tickets + 1, last=tickets, began=g.began, spread_ms=g.spread)
    g.tickets = tickets
    return time.monotonic() - started


# --- what is measured -----------------------------------------------------------------------------------------
async def looks(g: Ground) -> dict[str, float]:
    """The due scan, and what an engine without the index would do each tick."""
    everything = g.began + g.spread + sla_fill.TARGET_MS

    async def due() -> None:
        async with g.db.reading() as conn:
            rows = await sweeper.due(conn, everything, (0, 0))
        assert len(rows) == sweeper.BATCH

    async def polled() -> None:
        async with g.db.reading() as conn:
            # Arithmetic on the column, so that no index can help: the look of an engine that polls.
            await conn.scalar(
                select(func.count()).where(sla_clock.c.state == "active", sla_clock.c.due_at + 0 <= g.began)
            )

    return {"due_scan_ms": await median_ms(due, 20), "full_scan_ms": await median_ms(polled, 3)}


async def idle(g: Ground, seconds: float) -> dict[str, float]:
    """CPU of sweeping once a second while nothing is due."""
    g.clock.at = g.began
    await sweeper.sweep(g.db)
    before, started, ticks = snapshot(g.trees), time.monotonic(), 0
    while time.monotonic() - started < seconds:
        await sweeper.sweep(g.db)
        ticks += 1
        await asyncio.sleep(max(0.0, started + ticks - time.monotonic()))
    passed = time.monotonic() - started
    after = snapshot(g.trees)
    g.clock.at = None
    cpu = sum(after[name] - before[name] for name in after)
    return {"idle_cpu_percent": round(cpu / passed / 10, 2)}


async def fires(g: Ground, clocks: int) -> dict[str, float]:
    """One sweeper against a heap of due steps. Time stands still, so each clock fires its first step only."""
    async with g.db.reading() as conn:
        nth = select(sla_clock.c.next_fire_at).where(sla_clock.c.next_fire_at.is_not(None))
        at = await conn.scalar(nth.order_by(sla_clock.c.next_fire_at).offset(clocks - 1).limit(1))
        before_events = await conn.scalar(select(func.count()).select_from(sla_event))
    g.clock.at = int(at or 0)
    before, started = snapshot(g.trees), time.monotonic()
    await sweeper.sweep(g.db)
    passed = time.monotonic() - started
    after = snapshot(g.trees)
    g.clock.at = None
    async with g.db.reading() as conn:
        n = int(await conn.scalar(select(func.count()).select_from(sla_event)) or 0) - int(before_events or 0)
    await clear_jobs(g)
    return {
        "fired": n,
        "fired_per_s": round(n / passed),
        **{f"fire_{name}_ms": round((after[name] - before[name]) / max(n, 1), 3) for name in after},
    }


async def lags(g: Ground, rate: int, seconds: int) -> dict[str, float]:
    """Steps that become due at an even rate in real time, and one sweeper as the runner runs it."""
    wait_s = 3
    start = time.time_ns() // 1_000_000 + wait_s * 1000
    tickets = max(1, rate * seconds // 3)
    first = g.tickets + 1
    opened = start - round(sla_fill.TARGET_MS * sla_fill.FIRST_STEP)
    await sla_fill.fill(
        g.url, g.rules, first=first, last=g.tickets + tickets, began=opened, spread_ms=seconds * 1000
    )
    # Filling takes its time; what became due meanwhile would be counted as lag of the sweeper.
    late_by = max(0, time.time_ns() // 1_000_000 - start + 500)
    g.tickets += tickets
    shift = -late_by
    g.clock = clock = BenchClock()
    g.db.clock = _Shifted(clock, shift)
    found: list[int] = []

    async def heard(uow: UnitOfWork, event: DomainEvent) -> None:
        due = int(event.context["step_at"]) if "step_at" in event.context else None
        if due is None:
            due = event.context["clock"].activated_at + round(sla_fill.TARGET_MS * sla_fill.FIRST_STEP)
        uow.after_commit(lambda: found.append(g.db.clock.now_ms() - due))

    g.db.listeners = {"sla.warned": [heard]}
    end = start + seconds * 1000 + 5_000
    while g.db.clock.now_ms() < end and len(found) < 3 * tickets:
        due = await sweeper.sweep(g.db)
        wait = 1.0 if due is None else min(1.0, max(0.02, (due - g.db.clock.now_ms()) / 1000))
        await asyncio.sleep(wait)
    g.db.listeners = {}
    g.db.clock = g.clock
    await clear_jobs(g)
    cuts = statistics.quantiles(found, n=100, method="inclusive") if len(found) > 1 else [0.0] * 99
    return {
        "lag_rate": round(3 * tickets / seconds),
        "lag_steps": len(found),
        "lag_lost": 3 * tickets - len(found),
        "lag_p50_ms": round(cuts[49]),
        "lag_p99_ms": round(cuts[98]),
    }


class _Shifted:
    def __init__(self, clock: BenchClock, shift_ms: int) -> None:
        self._clock, self._shift = clock, shift_ms

    def now_ms(self) -> int:
        return self._clock.now_ms() + self._shift


async def events(g: Ground, count: int) -> dict[str, float]:
    """Status changes of scattered tickets: the time that the clocks' part takes inside their transactions."""
    took: list[float] = []

    def timed(listener: Callable[[UnitOfWork, DomainEvent], Awaitable[None]]) -> Any:
        async def listen(uow: UnitOfWork, event: DomainEvent) -> None:
            began = time.perf_counter()
            await listener(uow, event)
            took.append(1000 * (time.perf_counter() - began))

        return listen

    g.db.listeners = {"inquiry.updated": [timed(x) for x in service.LISTENERS["inquiry.updated"]]}
    g.clock.at = g.began + g.spread
    step = max(1, g.tickets // count)
    for n in range(count):
        async with g.db.transaction() as uow:
            status = "pending" if n % 2 else "open"
            await inquiries.change(uow, 1 + n * step % g.tickets, {"status": status}, actor="agent:1")
    g.db.listeners = {}
    g.clock.at = None
    cuts = statistics.quantiles(took[10:], n=100, method="inclusive")
    return {"event_ms": round(cuts[49], 2), "event_p99_ms": round(cuts[98], 2)}


async def recomputes(g: Ground, clocks: int) -> dict[str, float]:
    """New hours for the calendar that every clock runs in, and the job's batches until so many clocks followed."""
    g.clock.at = g.began + g.spread + g.edits
    at = g.clock.at
    async with g.db.transaction() as uow:
        # Each time a little later in the morning, so that every deadline moves and everybody hears of it.
        g.edits += 1
        opening = f"09:{5 + g.edits % 50:02}"
        week = {day: [[opening, "13:00"], ["14:00", "18:00"]] for day in sla_fill.OFFICE}
        spec = {"tz": "Europe/Kyiv", "week": week}
        await edit.change_calendar(uow, g.rules.calendar_id, spec=spec)
    done, before, started = 0, snapshot(g.trees), time.monotonic()
    while done < clocks:
        async with g.db.transaction() as uow:
            row = await uow.row(select(job).where(job.c.name == edit.RECOMPUTE_JOB).limit(1))
            if row is None:
                break
            await uow.execute(job.delete().where(job.c.id == row["id"]))
            names = ("id", "name", "args", "lane", "order_key", "attempts", "max_attempts", "created_at")
            await edit.recompute(None, uow, JobRow(lease_token="", **{n: row[n] for n in names}))  # type: ignore[arg-type]
            done += 3 * edit.BATCH
    passed = time.monotonic() - started
    after = snapshot(g.trees)
    g.clock.at = None
    await clear_jobs(g)
    async with g.db.reading() as conn:
        n = int(
            await conn.scalar(
                select(func.count()).select_from(sla_event).where(
                    sla_event.c.kind == "retarget", sla_event.c.recorded_at == at
                )
            ) or 0
        )  # fmt: skip
    return {
        "recomputed": n,
        "recompute_per_s": round(min(done, n) / passed),
        **{f"recompute_{k}_ms": round((after[k] - before[k]) / max(done, 1), 3) for k in after},
    }


async def clear_jobs(g: Ground) -> None:
    """What the measured part asked for is not measured here."""
    async with g.db.transaction() as uow:
        await uow.execute(job.delete())


async def plans(g: Ground) -> list[str]:
    """How the database finds what is due."""
    sql = (
        "SELECT next_fire_at, id, inquiry_id FROM sla_clock WHERE next_fire_at IS NOT NULL AND next_fire_at <= "
        f"{g.began + g.spread + sla_fill.TARGET_MS} ORDER BY next_fire_at, id LIMIT 500"
    )
    async with g.db.reading() as conn:
        if conn.dialect.name == "sqlite":
            rows = await conn.execute(text(f"EXPLAIN QUERY PLAN {sql}"))
            return [str(row[3]) for row in rows]
        rows = await conn.execute(text(f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) {sql}"))
        return [str(row[0]) for row in rows]


async def median_ms(act: Callable[[], Awaitable[None]], times: int) -> float:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        await act()
        took.append(1000 * (time.perf_counter() - began))
    return round(statistics.median(took), 2)


# --- the run --------------------------------------------------------------------------------------------------
async def run(args: argparse.Namespace) -> dict[str, Any]:
    report: dict[str, Any] = {"cores": os.cpu_count(), "database": args.database, "sizes": []}
    async with ground(args.database) as g:
        sizes = sorted({max(3_000, args.tickets // 100), max(3_000, args.tickets // 10), args.tickets})
        for size in sizes:
            say(f"filling to {size} tickets …")
            filled = await grow(g, size)
            result: dict[str, Any] = {
                "tickets": g.tickets,
                "clocks": 3 * g.tickets,
                "fill_s": round(filled, 1),
            }
            parts: tuple[tuple[str, Callable[[], Awaitable[dict[str, float]]]], ...] = (
                ("looking", lambda: looks(g)),
                ("idling", lambda: idle(g, args.seconds)),
                ("changing", lambda: events(g, 300)),
                ("firing", lambda: fires(g, args.fire)),
                ("firing in time", lambda: lags(g, args.rate, args.seconds)),
                ("new hours", lambda: recomputes(g, args.recompute)),
            )
            for name, part in parts:
                say(f"{size}: {name} …")
                result |= await part()
            report["sizes"].append(result)
        report["plan"] = await plans(g)
    largest = report["sizes"][-1]
    report["goals"] = {
        name: {"goal": goal, "is": largest[name], "met": _met(largest[name], sign, goal)}
        for name, (goal, sign, _) in GOALS.items()
    }
    return report


def _met(value: float, sign: str, goal: float) -> bool:
    return value >= goal if sign == ">=" else value <= goal


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def table(report: dict[str, Any]) -> list[str]:
    sizes = report["sizes"]
    lines = [
        f"{report['database']}, {report['cores']} cores, the load on the same machine; 3 clocks a ticket",
        f"{'tickets':<22}" + "".join(f"{s['tickets']:>12,}" for s in sizes),
    ]
    lines += [
        f"{name:<22}" + "".join(f"{s.get(name, ''):>12}" for s in sizes)
        for name in sizes[-1]
        if name not in ("tickets", "clocks")
    ]
    lines += ["", "goals at the largest size"]
    for name, (goal, sign, unit) in GOALS.items():
        g = report["goals"][name]
        lines.append(f"  {'met    ' if g['met'] else 'NOT MET'} {g['is']:>10} {sign} {goal:g} {unit}")
    return [*lines, "", "how what is due is found", *(f"  {line}" for line in report["plan"])]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--database", choices=["postgresql", "sqlite"], default="postgresql")
    parser.add_argument("--tickets", type=int, default=1_000_000, help="of the largest size")
    parser.add_argument("--fire", type=int, default=5_000, help="clocks that one sweeper fires at once")
    parser.add_argument("--rate", type=int, default=1_000, help="steps that become due per second")
    parser.add_argument("--seconds", type=int, default=10, help="of each part that runs in real time")
    parser.add_argument("--recompute", type=int, default=20_000, help="clocks that get new hours")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    args = parser.parse_args()
    if not 3_000 <= args.tickets <= 5_000_000:
        parser.error("--tickets must be from 3,000 to 5,000,000")
    return args


def main() -> int:
    args = parse_arguments()
    report = uvloop.run(run(args))
    print(json.dumps(report) if args.json else "\n".join(table(report)))
    lost = sum(size["lag_lost"] for size in report["sizes"])
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
