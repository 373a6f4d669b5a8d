"""How fast routing decides, measured against its targets, in a database of the full size.

    python bench/routing.py
    python bench/routing.py --backend postgresql --routers 4
    python bench/routing.py --waiting 10000 --growth --json

See bench/README.md for what is measured and how to read it.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, os.environ.get("SWITCHBOARD_BENCH_ROOT") or str(Path(__file__).resolve().parents[1]))

import uvloop

from bench import routing_floor, routing_load
from bench.routing_load import Size
from bench.routing_measure import Desk, core, opened, timed
from switchboard.migrate import upgrade
from tests.services import PostgresServer

_ROUTER = Path(__file__).with_name("routing_router.py")
#: what is measured -> (words, target of the p50, of the p99; ms)
ROWS: dict[str, tuple[str, float | None, float | None]] = {
    "pull": ("agent free → item", 2, 15),
    "finish": ("finish + next item", None, 15),
    "arrive": ("item in → agent", None, 15),
    "accept": ("accept an offer", None, None),
    "widen": ("step change", 5, None),
    "reprioritise": ("priority change", 5, None),
    "explain": ("why is it waiting", 20, None),
}
#: decisions a second of one router, and how many times that four give
RATE, SCALE = 300, 2.5
CRASH_S, CORE_US = 2.0, 50.0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backend", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--agents", type=_count(20, 20_000), default=1_000)
    parser.add_argument("--waiting", type=_count(1_000, 2_000_000), default=100_000)
    parser.add_argument("--lanes", type=_count(2, 30_000), default=300)
    parser.add_argument(
        "--routers", type=_count(1, 16), default=4, help="processes that decide at once (Postgres only)"
    )
    parser.add_argument("--seconds", type=_count(1, 120), default=5, help="at most so long per measurement")
    parser.add_argument(
        "--only", choices=[*ROWS], action="append", help="only these rows, and nothing else (repeatable)"
    )
    parser.add_argument(
        "--growth", action="store_true", help="also at 1x, 10x and 100x of waiting, agents, lanes"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the tables")
    return parser.parse_args()


def _count(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not low <= (value := int(text)) <= high:
            raise argparse.ArgumentTypeError(f"must be from {low} to {high}")
        return value

    return read


class Place:
    """A database with its load; Postgres with its own server, which may be killed."""

    def __init__(self, url: str, server: PostgresServer | None) -> None:
        self.url, self.server = url, server


@asynccontextmanager
async def loaded(backend: str, size: Size) -> AsyncIterator[Place]:
    with contextlib.ExitStack() as stack:
        server: PostgresServer | None = None
        if backend == "postgresql":
            server = stack.enter_context(PostgresServer(fsync=True))
            url = server.create_database()
        else:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="sb-bench-"))
            url = f"sqlite+aiosqlite:///{directory}/routing.db"
        await upgrade(url)
        await asyncio.to_thread(routing_load.fill, url, size)
        async with opened(url) as db:
            await routing_load.start_clocks(db)
        yield Place(url, server)


async def rows(place: Place, size: Size, names: list[str], seconds: float) -> dict[str, Any]:
    """Each row of the table, one after the other."""
    found: dict[str, Any] = {}
    async with opened(place.url) as db:
        desk = Desk(db, size)
        pairs: dict[str, tuple[Any, Any]] = {
            "pull": (desk.give_room, desk.pull),
            "finish": (desk.his_request, desk.finish),
            "arrive": (desk.arriving, desk.arrive),
            "accept": (desk.offered, desk.accept),
            "widen": (desk.waiting, desk.widen),
            "reprioritise": (desk.waiting, desk.reprioritise),
            "explain": (desk.waiting, desk.explain),
        }
        for name in names:
            found[name] = (await timed(db, *pairs[name], seconds=seconds)).as_data()
        found["core"] = await core(db, size)
    return found


def routers(place: Place, size: Size, count: int, seconds: float) -> dict[str, Any]:
    """So many processes deciding at once."""
    started = [_start(place, size, index, count, seconds) for index in range(count)]
    try:
        for process in started:
            if (said := process.stdout.readline().strip()) != "ready":  # type: ignore[union-attr]
                raise RuntimeError(f"a router did not come up: {said!r}")
        for process in started:
            process.stdin.write("\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
        reports = [json.loads(process.communicate(timeout=seconds + 60)[0]) for process in started]
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
                process.wait()
    return {
        "routers": count,
        "rate": round(sum(r["rate"] for r in reports), 1),
        "p99_ms": max(r["p99_ms"] for r in reports),
        "cpu_ms": round(sum(r["cpu_ms"] for r in reports) / count, 3),
    }


def _start(place: Place, size: Size, index: int, of: int, seconds: float) -> "subprocess.Popen[str]":
    numbers = (size.agents, size.waiting, size.lanes, index, of, seconds)
    return subprocess.Popen(
        [sys.executable, str(_ROUTER), place.url, *(str(n) for n in numbers)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def crash(place: Place, size: Size) -> dict[str, float]:
    """Kill a deciding router (and the Postgres server) without warning; how long until the next decision."""
    router = _start(place, size, 0, 1, 60)
    try:
        router.stdout.readline()  # type: ignore[union-attr]
        router.stdin.write("\n")  # type: ignore[union-attr]
        router.stdin.flush()  # type: ignore[union-attr]
        time.sleep(1)
    finally:
        router.send_signal(signal.SIGKILL)
        router.wait()
    report = {}
    if place.server is not None:
        start = time.perf_counter()
        place.server.restart(immediate=True)
        report["database_back_s"] = round(time.perf_counter() - start, 3)
    again = _start(place, size, 0, 1, 0)
    start = time.perf_counter()
    out = again.communicate(timeout=120)[0]
    report["process_s"] = round(time.perf_counter() - start, 3)
    report |= json.loads(out)
    return report


async def growth(backend: str, base: Size, seconds: float) -> list[dict[str, Any]]:
    """One thing grows, the rest stays: the p50 of each by that of the smallest."""
    found = []
    for what, sizes in {
        "waiting": [Size(base.agents, n, base.lanes) for n in (1_000, 10_000, 100_000)],
        "agents": [Size(n, 20_000, base.lanes) for n in (100, 1_000, 10_000)],
        "lanes": [Size(base.agents, 20_000, n) for n in (30, 300, 3_000)],
    }.items():
        curve: list[dict[str, Any]] = []
        for size in sizes:
            _say(f"growth of {what}: {getattr(size, what)} …")
            async with loaded(backend, size) as place:
                got = await rows(place, size, ["finish", "arrive", "widen", "explain"], seconds)
            curve.append(
                {"size": getattr(size, what), **{k: got[k] for k in ("finish", "arrive", "widen", "explain")}}
            )
        for point in curve:
            point["ratio"] = {
                name: round(point[name]["p50_ms"] / curve[0][name]["p50_ms"], 2)
                for name in ("finish", "arrive", "widen", "explain")
                if point[name].get("p50_ms") and curve[0][name].get("p50_ms")
            }
        found.append({"what": what, "curve": curve})
    return found


async def measure(backend: str, args: argparse.Namespace) -> dict[str, Any]:
    size = Size(args.agents, args.waiting, args.lanes)
    names = args.only or [*ROWS]
    result: dict[str, Any] = {"backend": backend, "check": {}}
    _say(f"{backend}: loading {size.waiting} waiting, {size.agents} agents, {size.lanes} lanes …")
    start = time.perf_counter()
    async with loaded(backend, size) as place:
        result["load_s"] = round(time.perf_counter() - start, 1)
        _say(f"{backend}: measuring …")
        result["rows"] = await rows(place, size, names, args.seconds)
        if not args.only:
            counts = [1] if backend == "sqlite" or args.routers == 1 else [1, args.routers]
            result["routers"] = [
                await asyncio.to_thread(routers, place, size, n, args.seconds) for n in counts
            ]
            result["crash"] = await asyncio.to_thread(crash, place, size)
            async with opened(place.url) as db:
                result["check"] = await Desk(db, size).check()
                some = await Desk(db, size).some_waiting(4_000)
            result["floor"] = await routing_floor.measure(place.url, size, seconds=args.seconds, items=some)
    if args.growth:
        result["growth"] = await growth(backend, size, min(args.seconds, 3))
    result["ratios"] = ratios(result)
    return result


def ratios(result: dict[str, Any]) -> dict[str, float]:
    """Product by the bare driver (1 would be no product at all), and many routers by one."""
    found = {}
    if "floor" in result:
        for name in ("pull", "finish"):
            if name in result["rows"]:
                for floor in ("writes", "look_and_writes"):
                    found[f"{name}_vs_{floor}"] = round(
                        result["rows"][name]["p50_ms"] / result["floor"][floor]["p50_ms"], 2
                    )
    if len(result.get("routers", ())) > 1:
        one, many = result["routers"]
        found["routers"] = round(many["rate"] / one["rate"], 2)
    return found


def table(r: dict[str, Any], args: argparse.Namespace) -> list[str]:
    lines = [
        "",
        f"{r['backend']}: {args.waiting} waiting, {args.agents} agents, {args.lanes} lanes (loaded in {r['load_s']} s)",
        f"  {'':<22}{'p50':>9}{'p99':>9}  {'target':<25}{'met':<6}{'CPU':>7}{'statements':>12}",
    ]
    for name, (words, p50, p99) in ROWS.items():
        if not (got := r["rows"].get(name)) or not got["n"]:
            continue
        wanted = ", ".join(f"{k} < {v} ms" for k, v in (("p50", p50), ("p99", p99)) if v is not None)
        met = (p50 is None or got["p50_ms"] < p50) and (p99 is None or got["p99_ms"] < p99)
        lines.append(
            f"  {words:<22}{got['p50_ms']:>9.2f}{got['p99_ms']:>9.2f}  {wanted:<25}{_yes(met) if wanted else '':<6}"
            f"{got['cpu_ms']:>7.2f}{got['statements']:>12}"
        )
    c = r["rows"]["core"]
    lines.append(
        f"  core logic: place among 40 agents {c['place_40_agents_us']} us, one agent {c['place_1_agent_us']} us, "
        f"react {c['react_us']} us (target < {CORE_US:g} us: {_yes(c['place_1_agent_us'] + c['react_us'] < CORE_US)})"
    )
    if "floor" in r:
        f = r["floor"]
        lines.append(
            f"  bare driver: the writes p50 {f['writes']['p50_ms']} ms, with the look before them "
            f"{f['look_and_writes']['p50_ms']} ms; product/this: "
            + ", ".join(f"{k} {v}" for k, v in r["ratios"].items() if "_vs_" in k)
        )
    for got in r.get("routers", ()):
        note = f"target ≥ {RATE}/s each: {_yes(got['rate'] / got['routers'] >= RATE)}"
        if got["routers"] > 1:
            ratio = r["ratios"]["routers"]
            note = f"{ratio} times one (target ≥ {SCALE}: {_yes(ratio >= SCALE)}, on {os.cpu_count()} cores)"
        lines.append(
            f"  {got['routers']} router(s): {got['rate']} decisions/s, p99 {got['p99_ms']} ms, CPU {got['cpu_ms']} ms "
            f"each; {note}"
        )
    if "crash" in r:
        k = r["crash"]
        lines.append(
            f"  after a crash: first decision {k['first_decision_s']} s after the process began "
            f"(target < {CRASH_S:g} s: {_yes(k['first_decision_s'] < CRASH_S)})"
            + (f", the database was back after {k['database_back_s']} s" if "database_back_s" in k else "")
        )
    for g in r.get("growth", ()):
        lines += [
            f"  {g['what']} {point['size']:>7}: "
            + ", ".join(f"{n} {point[n]['p50_ms']} ms (x{q})" for n, q in point["ratio"].items())
            for point in g["curve"]
        ]
    lines.append("  afterwards: " + ", ".join(f"{k} {v}" for k, v in r["check"].items()))
    return lines


def _yes(met: bool) -> str:
    return "yes" if met else "NO"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def run(args: argparse.Namespace) -> dict[str, Any]:
    report: dict[str, Any] = {"cores": os.cpu_count(), "results": []}
    for backend in ("sqlite", "postgresql") if args.backend == "both" else (args.backend,):
        result = await measure(backend, args)
        report["results"].append(result)
        if not args.json:
            # At once: what comes later may fail.
            print("\n".join(table(result, args)), flush=True)
    return report


def main() -> int:
    args = parse_arguments()
    report = uvloop.run(run(args))
    if args.json:
        print(json.dumps(report, ensure_ascii=False))
    return 1 if any(any(r["check"].values()) for r in report["results"]) else 0


if __name__ == "__main__":
    sys.exit(main())
