"""One router as a process of its own: finishes requests of its agents and gives them their next, several at once, as
a process that serves many agents does.

    python bench/routing_router.py URL AGENTS WAITING LANES INDEX OF SECONDS

It says "ready", waits for a line, then prints one JSON object. `SECONDS` 0: one decision, and how long after the
process began it was committed (what a restart after a crash costs).
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, os.environ.get("SWITCHBOARD_BENCH_ROOT") or str(Path(__file__).resolve().parents[1]))

import psutil
import uvloop

from bench.routing_load import Size
from bench.routing_measure import Desk, opened

#: decisions under way at a time; SQLite has one writer
AT_ONCE = {"postgresql": 4, "sqlite": 1}


async def run(url: str, size: Size, index: int, of: int, seconds: float) -> dict[str, float]:
    async with opened(url) as db:
        at_once = AT_ONCE[db.dialect]
        # Each with agents of its own: who finishes two things at once is none of this measurement.
        desks = [
            Desk(db, size, seed=index, share=(index * at_once + n, of * at_once)) for n in range(at_once)
        ]
        if seconds == 0:
            await desks[0].finish(await desks[0].his_request())
            return {"first_decision_s": round(time.time() - psutil.Process().create_time(), 3)}
        for desk in desks:
            for request in (await desk.their_requests())[:20]:
                await desk.finish(request)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        times: list[float] = []
        cpu, begun = time.process_time(), time.perf_counter()
        await asyncio.gather(*(_decide(desk, begun + seconds, times) for desk in desks))
        wall = time.perf_counter() - begun
        times.sort()
        return {
            "decisions": len(times),
            "rate": round(len(times) / wall, 1),
            "p50_ms": round(times[len(times) // 2] * 1000, 3),
            "p99_ms": round(times[int(len(times) * 0.99)] * 1000, 3),
            "cpu_ms": round((time.process_time() - cpu) / len(times) * 1000, 3),
        }


async def _decide(desk: Desk, until: float, times: list[float]) -> None:
    while True:
        for request in await desk.their_requests():
            start = time.perf_counter()
            if start > until:
                return
            await desk.finish(request)
            times.append(time.perf_counter() - start)


def main() -> None:
    url, *numbers = sys.argv[1:]
    agents, waiting, lanes, index, of = (int(n) for n in numbers[:5])
    print(
        json.dumps(uvloop.run(run(url, Size(agents, waiting, lanes), index, of, float(numbers[5])))),
        flush=True,
    )


if __name__ == "__main__":
    main()
