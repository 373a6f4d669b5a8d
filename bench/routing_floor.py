"""The floor of a decision: what one pull writes, by the bare driver, in one transaction of the same durability.

asyncpg with prepared statements, or sqlite3. `writes` are the rows a decision changes and no question asked before;
`look` adds the one query without which there is no decision: the first entry of each of the agent's lanes.
"""

import asyncio
import json
import sqlite3
import time
from typing import Any

import asyncpg

from bench.routing_load import Size

_WHY = json.dumps(
    {
        "v": 1, "trigger": "agent_free", "channel": "async", "key": {"order_key": 1, "due_at": None, "boost_ms": 0},
        "step": {"no": 0, "scope": "required", "entered_at": 1}, "lanes": ["async|team:1|product:1>=1"],
        "required": {"product:1": 1}, "dropped": [], "waited_ms": 1, "config": 1, "considered": 1, "heads": 7,
        "winner": {"agent_id": 1, "name": "Agent 1", "tuple": [0, 0, 0, 0, 0, 1, 1], "used": 0, "max": 1},
    }
)  # fmt: skip
_PAYLOAD = json.dumps({"agent_id": 1, "cause": "outright", "inquiry": {"subject": "x" * 300, "tags": []}})
_LOOK = (
    "SELECT w.id FROM (SELECT (SELECT item_id FROM queue_entry q WHERE q.lane_id = al.lane_id "
    "ORDER BY order_key, item_id LIMIT 1) AS item FROM agent_lane al WHERE al.agent_id = {0}) h "
    "JOIN work_item w ON w.id = h.item ORDER BY w.order_key, w.id LIMIT 8"
)
_WRITES = (
    (
        (
            "UPDATE agent_state SET load_used = load_used + 10, idle_since = {0}, missed_offers = 0 "
            "WHERE agent_id = {1}"
        ),
        "na",
    ),
    (
        "UPDATE agent_slot SET used = used + 1, load = load + 10 WHERE agent_id = {0} AND channel = 'async'",
        "a",
    ),
    (
        (
            "INSERT INTO decision (item_id, inquiry_id, at, trigger, outcome, agent_id, why, rule_version) "
            "VALUES ({0}, {1}, {2}, 'agent_free', 'assigned', {3}, {4}, 1)"
        ),
        "iinaw",
    ),
    (
        (
            "UPDATE work_item SET state = 'assigned', owner_id = {0}, next_step_at = NULL, version = version + 1 "
            "WHERE id = {1} AND state = 'waiting'"
        ),
        "ai",
    ),
    ("DELETE FROM queue_entry WHERE item_id = {0}", "i"),
    (
        (
            "INSERT INTO assignment (item_id, inquiry_id, agent_id, channel, weight, holds_slot, forced, cause, "
            "started_at) VALUES ({0}, {1}, {2}, 'async', 10, true, false, 'outright', {3})"
        ),
        "iian",
    ),
    ("UPDATE inquiry SET assignee_id = {0}, version = version + 1, updated_at = {1} WHERE id = {2}", "ani"),
    ("UPDATE conversation SET sticky_agent_id = {0}, sticky_until = {1} WHERE id = {2}", "ani"),
    (
        (
            "INSERT INTO event (tx, kind, at, actor, subject_kind, subject_id, inquiry_id, conversation_id, payload, "
            "audience) VALUES ({0}, 'inquiry.assigned', {0}, 'system', 'inquiry', {1}, {1}, {1}, {2}, '{{}}')"
        ),
        "nip",
    ),
)


async def measure(url: str, size: Size, *, seconds: float, items: list[int]) -> dict[str, Any]:
    """Milliseconds of a decision's writes, and of these with the look before them, on these waiting items. Agents get
    more than they may have: nothing else can be measured in the database afterwards.
    """
    report = {}
    half = len(items) // 2
    for name, look, some in (("writes", False, items[:half]), ("look_and_writes", True, items[half:])):
        run = _sqlite if url.startswith("sqlite") else _postgres
        times = await run(url, size, seconds, some, look)
        ordered = sorted(times)
        report[name] = {
            "n": len(ordered),
            "p50_ms": round(ordered[len(ordered) // 2] * 1000, 3),
            "p99_ms": round(ordered[int(len(ordered) * 0.99)] * 1000, 3),
            "mean_ms": round(sum(ordered) / len(ordered) * 1000, 3),
        }
    return report


def _values(kinds: str, item: int, agent: int, now: int) -> list[Any]:
    known = {"i": item, "a": agent, "n": now, "w": _WHY, "p": _PAYLOAD}
    return [known[k] for k in kinds]


async def _postgres(url: str, size: Size, seconds: float, items: list[int], look: bool) -> list[float]:
    conn = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        ask = await conn.prepare(_LOOK.format("$1"))
        writes = [
            (await conn.prepare(sql.format(*(f"${n + 1}" for n in range(len(kinds))))), kinds)
            for sql, kinds in _WRITES
        ]
        times, until = [], time.perf_counter() + seconds
        for item in items:
            agent, now = 1 + len(times) % size.agents, int(time.time() * 1000)
            start = time.perf_counter()
            async with conn.transaction():
                if look:
                    await ask.fetch(agent)
                for statement, kinds in writes:
                    await statement.fetch(*_values(kinds, item, agent, now))
            times.append(time.perf_counter() - start)
            if time.perf_counter() > until:
                break
        return times
    finally:
        await conn.close()


async def _sqlite(url: str, size: Size, seconds: float, items: list[int], look: bool) -> list[float]:
    def run() -> list[float]:
        direct = sqlite3.connect(url.partition(":///")[2], isolation_level=None)
        direct.execute("PRAGMA journal_mode=WAL")
        direct.execute("PRAGMA synchronous=FULL")
        writes = [(sql.format(*(f"?{n + 1}" for n in range(len(kinds)))), kinds) for sql, kinds in _WRITES]
        times, until = [], time.perf_counter() + seconds
        for item in items:
            agent, now = 1 + len(times) % size.agents, int(time.time() * 1000)
            start = time.perf_counter()
            direct.execute("BEGIN IMMEDIATE")
            if look:
                direct.execute(_LOOK.format("?1"), (agent,)).fetchall()
            for sql, kinds in writes:
                direct.execute(sql, _values(kinds, item, agent, now))
            direct.execute("COMMIT")
            times.append(time.perf_counter() - start)
            if time.perf_counter() > until:
                break
        direct.close()
        return times

    return await asyncio.to_thread(run)
