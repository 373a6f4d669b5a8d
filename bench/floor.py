"""The floor: an aiohttp handler that stores a body durably with one statement on the bare driver, and nothing else.

`python bench/floor.py DATABASE_URL CHANNEL` is the server; `measure` starts it and puts the load on it.
"""

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from email import message_from_bytes
from email.policy import compat32
from pathlib import Path

_DDL = "CREATE TABLE floor (id {} PRIMARY KEY, at BIGINT NOT NULL, body {} NOT NULL)"


async def serve(url: str, channel: str) -> None:
    import asyncpg
    from aiohttp import web

    insert = "INSERT INTO floor (at, body) VALUES ({}) RETURNING id"
    if url.startswith("sqlite"):
        import aiosqlite

        conn = await aiosqlite.connect(url.partition(":///")[2], isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            await conn.execute(f"PRAGMA {pragma}")
        await conn.execute(_DDL.format("INTEGER", "BLOB"))

        async def store(body: bytes) -> None:
            await conn.execute_fetchall(insert.format("?, ?"), (time.time_ns(), body))
    else:
        pool = await asyncpg.create_pool(url.replace("+asyncpg", ""), min_size=10, max_size=20)
        await pool.execute(_DDL.format("BIGSERIAL", "BYTEA"))

        async def store(body: bytes) -> None:
            await pool.fetchval(insert.format("$1, $2"), time.time_ns(), body)

    async def hook(request: web.Request) -> web.Response:
        body = await request.read()
        if channel == "email":
            message_from_bytes(body, policy=compat32)
        await store(body)
        return web.Response(text="ok")

    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/hooks/{key}", hook)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


async def measure(
    url: str, channel: str, bodies: Sequence[bytes], concurrency: int, database: object
) -> tuple[float, float]:
    """(messages per second, CPU ms per message of server and database)."""
    from bench.load import Http
    from bench.payloads import Payload
    from bench.usage import Tree

    child = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), url, channel],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert child.stdout is not None
        port = int(await asyncio.to_thread(child.stdout.readline))
        trees = [Tree([child.pid]), *([database] if isinstance(database, Tree) else [])]
        clients = [Http(f"http://127.0.0.1:{port}") for _ in range(concurrency)]
        for client in clients:
            await client.open()
        queue = iter([Payload(n, "", body) for n, body in enumerate(bodies)])

        async def run(client: Http) -> None:
            for payload in queue:
                await client.send(payload)

        cpu = sum(t.cpu_ms() for t in trees)
        start = time.perf_counter()
        await asyncio.gather(*(run(c) for c in clients))
        seconds = time.perf_counter() - start
        cpu = sum(t.cpu_ms() for t in trees) - cpu
        for client in clients:
            client.close()
        return len(bodies) / seconds, cpu / len(bodies)
    finally:
        child.terminate()
        child.wait()


if __name__ == "__main__":
    import uvloop

    with contextlib.suppress(KeyboardInterrupt, sqlite3.Error):
        uvloop.run(serve(sys.argv[1], sys.argv[2]))
