"""One router as a process of its own: finishes requests of its agents and gives them their next.

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


async def run(url: str, size: Size, index: int, of: int, seconds: float) -> dict[str, float]:
    async with opened(url) as db:
        desk = Desk(db, size, seed=index, share=(index, of))
        if seconds == 0:
            await desk.finish(await desk.his_request())
            return {"first_decision_s": round(time.time() - psutil.Process().create_time(), 3)}
        for _ in range(20):
            await desk.finish(await desk.his_request())
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        times: list[float] = []
        cpu, begun = time.process_time(), time.perf_counter()
        while time.perf_counter() - begun < seconds:
            request = await desk.his_request()
            start = time.perf_counter()
            await desk.finish(request)
            times.append(time.perf_counter() - start)
        wall = time.perf_counter() - begun
        times.sort()
        return {
            "decisions": len(times),
            "rate": round(len(times) / wall, 1),
            "p50_ms": round(times[len(times) // 2] * 1000, 3),
            "p99_ms": round(times[int(len(times) * 0.99)] * 1000, 3),
            "cpu_ms": round((time.process_time() - cpu) / len(times) * 1000, 3),
        }


def main() -> None:
    url, *numbers = sys.argv[1:]
    agents, waiting, lanes, index, of = (int(n) for n in numbers[:5])
    print(
        json.dumps(uvloop.run(run(url, Size(agents, waiting, lanes), index, of, float(numbers[5])))),
        flush=True,
    )


if __name__ == "__main__":
    main()
