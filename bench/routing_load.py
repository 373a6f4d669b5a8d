"""A bureau to measure routing in: teams, agents, lanes, waiting requests; written in bulk straight through the driver.

Every agent holds one asynchronous request and has no room for another; room for chats he has without end. A pair of
lanes asks for one skill of one team, at level 2 and (the wider ring of the same requests) at level 1. Ids are dense
from 1, so measurements find what they want without asking.
"""

import asyncio
import json
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg
from sqlalchemy import Boolean, Integer, String, insert, select, text

from crm_core.db.engine import Database
from crm_core.db.types import metadata
from crm_core.events import DomainEvent
from crm_core.schema import inquiry
from routing.model import LaneSpec
from routing.schema import sla_clock
from routing.sla import service as sla_service

#: skills an agent has; each is two lanes
SKILLS_EACH = 6
_PEOPLE = (
    "team",
    "agent",
    "team_member",
    "agent_skill",
    "agent_state",
    "agent_slot",
    "lane",
    "agent_lane",
    "inbox",
)
_WORK = ("contact", "conversation", "inquiry", "work_item", "queue_entry", "assignment", "decision")
_BATCH = 5_000
_HOUR, _YEAR = 3_600_000, 365 * 86_400_000
_NOTHING = '{"required": {}, "preferred": {}, "hard": [], "dropped": []}'


@dataclass(frozen=True)
class Size:
    agents: int = 1_000
    waiting: int = 100_000
    lanes: int = 300

    @property
    def skills(self) -> int:
        return max(self.lanes // 2, 1)

    @property
    def teams(self) -> int:
        """Some sixty lanes each, and never a team without a skill or without an agent."""
        return max(min(self.lanes // 60, self.agents // 10, 20), 1)

    @property
    def spare(self) -> int:
        """Requests beside the queue that no work item was made of yet: those that arrive while it is measured."""
        return 5_000

    def skills_of_team(self, team: int) -> list[int]:
        return [k for k in range(self.skills) if k % self.teams == team - 1]

    def team_of_agent(self, agent: int) -> int:
        return 1 + (agent - 1) % self.teams

    def skills_of_agent(self, agent: int) -> list[int]:
        """Six of his team's, spread so that all skills have equally many agents."""
        own = self.skills_of_team(self.team_of_agent(agent))
        nth = (agent - 1) // self.teams
        return sorted({own[(nth * SKILLS_EACH + i) % len(own)] for i in range(SKILLS_EACH)})

    def lanes_of_skill(self, k: int) -> tuple[int, int]:
        """Ids of the lanes at level 2 and 1."""
        return 2 * k + 1, 2 * k + 2


def fill(url: str, size: Size) -> None:
    """Write it all. The database is migrated and empty."""
    if url.startswith("sqlite"):
        _fill_sqlite(url, size)
    else:
        asyncio.run(_fill_postgres(url, size))


def _fill_sqlite(url: str, size: Size) -> None:
    direct = sqlite3.connect(url.partition(":///")[2])
    direct.execute("PRAGMA journal_mode=WAL")
    direct.execute("PRAGMA synchronous=OFF")
    for table, columns, rows in _batches(size):
        direct.executemany(
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", rows
        )
        direct.commit()
    direct.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    direct.close()


async def start_clocks(db: Database) -> None:
    """Let the clocks of all requests run: one request's by the product itself, the others' as copies of them."""
    async with db.transaction() as uow:
        row = await uow.row(select(inquiry).where(inquiry.c.id == 1))
        opened = DomainEvent(
            kind="inquiry.opened", subject_kind="inquiry", subject_id=1, inquiry_id=1,
            context={"inquiry": row, "contact": None, "conversation": None, "inbox": None, "message": None},
        )  # fmt: skip
        for listener in sla_service.LISTENERS["inquiry.opened"]:
            await listener(uow, opened)
        others = [c.name for c in sla_clock.c if c.name not in ("id", "inquiry_id")]
        copies = (
            select(inquiry.c.id, *(sla_clock.c[name] for name in others))
            .join(sla_clock, sla_clock.c.inquiry_id == 1)
            .where(inquiry.c.id != 1)
        )
        await uow.execute(insert(sla_clock).from_select(["inquiry_id", *others], copies))
        if db.dialect == "postgresql":
            await uow.execute(text("ANALYZE sla_clock"))


async def _fill_postgres(url: str, size: Size) -> None:
    conn = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        for table, columns, rows in _batches(size):
            await conn.copy_records_to_table(table, columns=columns, records=rows)
        for table in (*_PEOPLE, *_WORK):
            if "id" in metadata.tables[table].columns:
                await conn.execute(
                    f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), "
                    f"(SELECT coalesce(max(id), 1) FROM {table}))"
                )
        await conn.execute("VACUUM ANALYZE")
    finally:
        await conn.close()


class _Rows:
    """Tuples of a table; columns that are not named get the plainest value their type allows."""

    def __init__(self, table: str) -> None:
        self.table = table
        self.columns = [c.name for c in metadata.tables[table].columns]
        self._plain = {c.name: _nothing(c) for c in metadata.tables[table].columns}
        self.rows: list[tuple[Any, ...]] = []

    def add(self, **values: Any) -> None:
        self.rows.append(tuple((self._plain | values).values()))

    def taken(self) -> tuple[str, list[str], list[tuple[Any, ...]]]:
        rows, self.rows = self.rows, []
        return self.table, self.columns, rows


def _nothing(column: Any) -> Any:
    if column.nullable:
        return None
    if isinstance(column.type, Boolean):
        return False
    if isinstance(column.type, Integer):
        return 0
    return "" if isinstance(column.type, String) else "{}"


def _batches(size: Size) -> Iterator[tuple[str, list[str], list[tuple[Any, ...]]]]:
    now = int(time.time() * 1000)
    people = {name: _Rows(name) for name in _PEOPLE}
    _people(people, size, now)
    for name in _PEOPLE:
        yield people[name].taken()
    work = {name: _Rows(name) for name in _WORK}
    total = size.waiting + size.agents + size.spare
    for start in range(0, total, _BATCH):
        for n in range(start, min(start + _BATCH, total)):
            _request(work, size, n, now)
        for name in _WORK:
            yield work[name].taken()


def _people(rows: dict[str, _Rows], size: Size, now: int) -> None:
    rows["inbox"].add(id=1, key="bench", channel="email", name="Mail", priority="normal", enabled=True)
    for team in range(1, size.teams + 1):
        rows["team"].add(id=team, name=f"Team {team}", active=True, created_at=now)
    for k in range(size.skills):
        team = 1 + k % size.teams
        for lane_id, level in zip(size.lanes_of_skill(k), (2, 1), strict=True):
            spec = LaneSpec("async", team_id=team, requirements=((f"product:{k}", level),))
            rows["lane"].add(
                id=lane_id, signature=spec.signature, team_id=team, channel="async",
                requirements=json.dumps(dict(spec.requirements)), created_at=now - _HOUR,
            )  # fmt: skip
    for agent in range(1, size.agents + 1):
        rows["agent"].add(
            id=agent, email=f"a{agent}@bench.example", name=f"Agent {agent}", role="agent", language="en",
            active=True, settings='{"capacity": {"async": 1, "chat": 1000000, "load_max": 100000000}}',
        )  # fmt: skip
        rows["team_member"].add(team_id=size.team_of_agent(agent), agent_id=agent)
        rows["agent_state"].add(
            agent_id=agent, presence="online", since=now, lease_until=now + _YEAR, routable=True,
            idle_since=now - agent, load_used=10, load_max=100_000_000,
        )  # fmt: skip
        for channel, most, used in (
            ("async", 1, 1),
            ("chat", 1_000_000, 0),
            ("voice", 1, 0),
            ("callback", 1, 0),
        ):
            rows["agent_slot"].add(agent_id=agent, channel=channel, max=most, used=used, load=10 * used)
        for k in size.skills_of_agent(agent):
            rows["agent_skill"].add(agent_id=agent, skill=f"product:{k}", level=3)
            for lane_id in size.lanes_of_skill(k):
                rows["agent_lane"].add(agent_id=agent, lane_id=lane_id)


def _request(rows: dict[str, _Rows], size: Size, n: int, now: int) -> None:
    """Request number n: in the queue, in the hands of an agent, or spare (it has yet to arrive)."""
    number, at = n + 1, now - _HOUR + n % 3_500_000
    agent = n - size.waiting + 1 if size.waiting <= n < size.waiting + size.agents else None
    spare = n >= size.waiting + size.agents
    team = size.team_of_agent(agent) if agent is not None else 1 + n % size.teams
    own = size.skills_of_team(team)
    k = size.skills_of_agent(agent)[0] if agent is not None else own[n // size.teams % len(own)]
    # Every second one asks for so much that a step widens it later.
    level = 2 - n // size.teams // len(own) % 2
    contact = 1 + n // 10
    if n % 10 == 0:
        rows["contact"].add(id=contact, name=f"Contact {contact}", created_at=at, updated_at=at)
    rows["conversation"].add(
        id=number, inbox_id=1, contact_id=contact, key=f"k{number}", address="x@example.org", channel="email",
        language="uk", created_at=at, updated_at=at,
    )  # fmt: skip
    rows["inquiry"].add(
        id=number, kind="ticket", status="open", subject="Visa for two", contact_id=contact, conversation_id=number,
        inbox_id=1, channel="webchat" if spare else "email", team_id=team, assignee_id=agent, priority="normal",
        version=1, tags="[]", requirements=json.dumps({f"product:{k}": level}), created_at=at, updated_at=at,
    )  # fmt: skip
    if spare:
        return
    due = at + 8 * _HOUR
    rows["work_item"].add(
        id=number, source_kind="inquiry", source_id=number, attempt=1, inquiry_id=number, conversation_id=number,
        contact_id=contact, team_id=team, home_team_id=team, teams_seen=f"[{team}]", channel="async", kind="ticket",
        requirements=_NOTHING.replace("{}", json.dumps({f"product:{k}": level}), 1), priority="normal",
        state="waiting" if agent is None else "assigned", order_key=due, ready_at=at, step_entered_at=at,
        order_parts=json.dumps({"metric": "max_wait", "target_at": due, "boost_ms": 0, "vip_boost_ms": 0}),
        next_step_at=at + 4 * _HOUR if level == 2 and agent is None else None, owner_id=agent, version=1,
        created_at=at,
    )  # fmt: skip
    if agent is None:
        rows["queue_entry"].add(lane_id=size.lanes_of_skill(k)[2 - level], order_key=due, item_id=number)
    else:
        rows["assignment"].add(
            item_id=number, id=agent, inquiry_id=number, agent_id=agent, channel="async", weight=10, holds_slot=True,
            cause="outright", started_at=at,
        )  # fmt: skip
