"""Random lives of a small bureau: after every step the tables agree, nobody is overfilled, nothing waits needlessly."""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import delete, insert
from typing_extensions import override

from crm_core import inquiries
from crm_core.db.engine import Database
from crm_core.errors import SwitchboardError
from crm_core.infra.local import LocalHints
from crm_core.schema import agent_skill, inquiry
from routing import assignments, decide, lanes, match, offers, presence, steps, store, sweep
from routing.explain_replay import replay_row
from routing.listeners import LISTENERS
from routing.model import Item
from routing.schema import agent_state, assignment, decision, work_item
from tests.conftest import MovableClock
from tests.routing.engine import desk
from tests.routing.engine.desk import T0

AGENTS = 4
SKILLS = ("lang:uk", "lang:en", "product:visa")


class Bureau(RuleBasedStateMachine):
    template: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        shutil.copy(self.template, f"{self.folder.name}/db.sqlite")
        self.clock = MovableClock()
        self.clock.set(T0)
        self.runner = asyncio.Runner()
        self.commands = 0
        self.db = self.runner.run(self._open())

    async def _open(self) -> Database:
        db = Database(
            f"sqlite+aiosqlite:///{self.folder.name}/db.sqlite",
            clock=self.clock,
            hints=LocalHints(),
            synchronous="OFF",
        )
        db.listeners = LISTENERS
        await db.start()
        return db

    @override
    def teardown(self) -> None:
        try:
            self.runner.run(self._made_again())
        finally:
            self._close()

    async def _made_again(self) -> None:
        """I8: every decision of this life, made again from what it kept, has the same winner."""
        made = await desk.rows(self.db, decision)
        async with self.db.reading() as conn:
            for row in made:
                found = await replay_row(conn, row)
                assert found.same or found.why == "by_a_person", (row, found)

    def _close(self) -> None:
        self.runner.run(self.db.close())
        self.runner.close()
        self.folder.cleanup()

    async def _do(self, act: Callable[[Any], Awaitable[Any]]) -> Any:
        try:
            async with self.db.transaction() as uow:
                return await act(uow)
        except SwitchboardError as error:
            return error.code

    @initialize()
    def open_shop(self) -> None:
        async def run() -> None:
            self.support = await desk.a_team(self.db, "Support")
            self.sales = await desk.a_team(self.db, "Sales", settings={"overflow": [self.support]})
            self.agents = [
                await desk.an_agent(
                    self.db,
                    f"A{n}",
                    (self.support, self.sales)[n % 2],
                    online=n < 2,
                    skills={SKILLS[n % 3]: 3, "lang:uk": 2},
                    settings={"capacity": {"chat": 2, "async": 2}},
                )
                for n in range(AGENTS)
            ]
            self.contacts = [
                await desk.a_contact(self.db),
                await desk.a_contact(self.db, "Vip", manager_id=self.agents[0], vip=True),
            ]

        self.runner.run(run())

    @rule(
        channel=st.sampled_from(("email", "webchat", "telegram", "form")),
        team=st.booleans(),
        who=st.booleans(),
        priority=st.sampled_from(inquiries.PRIORITIES),
        language=st.sampled_from(("", "uk", "en", "de")),
        visa=st.sampled_from((0, 0, 2, 5)),
    )
    def arrives(self, channel: str, team: bool, who: bool, priority: str, language: str, visa: int) -> None:
        async def run() -> None:
            inquiry_id = await desk.an_inquiry(
                self.db,
                team_id=self.sales if team else self.support,
                channel=channel,
                contact_id=self.contacts[who],
                priority=priority,
                language=language,
                requirements={"product:visa": visa} if visa else {},
            )
            await desk.enqueue(self.db, inquiry_id)

        self.runner.run(run())

    @rule(
        n=st.integers(0, AGENTS - 1),
        state=st.sampled_from(("online", "online", "break", "offline", "away_reassign", "dnd")),
    )
    def goes(self, n: int, state: str) -> None:
        self.runner.run(desk.go(self.db, self.agents[n], state))

    @rule(pick=st.integers(0, 20), accept=st.booleans())
    def answers(self, pick: int, accept: bool) -> None:
        async def run() -> None:
            made = await desk.open_offers(self.db)
            if not made:
                return
            row = made[pick % len(made)]
            verb = offers.accept if accept else offers.decline
            self.commands += 1
            more: dict[str, Any] = {"command_id": f"c{self.commands}"}
            first = await self._do(lambda uow: verb(uow, row["id"], row["agent_id"], **more))
            before = await self._snapshot()
            assert await self._do(lambda uow: verb(uow, row["id"], row["agent_id"], **more)) == first
            assert await self._snapshot() == before

        self.runner.run(run())

    @rule(pick=st.integers(0, 50), status=st.sampled_from(inquiries.STATUSES))
    def changes_status(self, pick: int, status: str) -> None:
        self._change(pick, {"status": status})

    @rule(pick=st.integers(0, 50), priority=st.sampled_from(inquiries.PRIORITIES))
    def changes_priority(self, pick: int, priority: str) -> None:
        self._change(pick, {"priority": priority})

    @rule(pick=st.integers(0, 50), n=st.integers(-1, AGENTS - 1))
    def reassigns(self, pick: int, n: int) -> None:
        self._change(pick, {"assignee_id": None if n < 0 else self.agents[n]})

    @rule(pick=st.integers(0, 50), team=st.booleans())
    def changes_team(self, pick: int, team: bool) -> None:
        self._change(pick, {"team_id": self.sales if team else self.support})

    def _change(self, pick: int, changes: dict[str, Any]) -> None:
        async def run() -> None:
            found = await desk.rows(self.db, inquiry)
            if found:
                row = found[pick % len(found)]
                await self._do(lambda uow: inquiries.change(uow, row["id"], changes, actor="agent:1"))

        self.runner.run(run())

    @rule(
        pick=st.integers(0, 50),
        n=st.integers(0, AGENTS - 1),
        verb=st.sampled_from(("take", "steal", "give", "team", "release")),
    )
    def by_hand(self, pick: int, n: int, verb: str) -> None:
        async def run() -> None:
            found = await desk.rows(self.db, inquiry)
            if not found:
                return
            i, agent_id = found[pick % len(found)]["id"], self.agents[n]
            verbs: dict[str, Callable[[Any], Awaitable[Any]]] = {
                "take": lambda uow: assignments.take(uow, i, agent_id),
                "steal": lambda uow: assignments.take(uow, i, agent_id, steal=True),
                "give": lambda uow: assignments.transfer(uow, i, actor="agent:1", to_agent_id=agent_id),
                "team": lambda uow: assignments.transfer(uow, i, actor="agent:1", to_team_id=self.sales),
                "release": lambda uow: assignments.release(uow, i, "agent:1"),
            }
            await self._do(verbs[verb])

        self.runner.run(run())

    @rule(n=st.integers(0, AGENTS - 1), skill=st.sampled_from(SKILLS), level=st.integers(0, 5))
    def learns(self, n: int, skill: str, level: int) -> None:
        async def run() -> None:
            async with self.db.transaction() as uow:
                await uow.execute(
                    delete(agent_skill).where(
                        agent_skill.c.agent_id == self.agents[n], agent_skill.c.skill == skill
                    )
                )
                if level:
                    await uow.execute(
                        insert(agent_skill).values(agent_id=self.agents[n], skill=skill, level=level)
                    )
                await lanes.rebuild_agent(uow, self.agents[n])

        self.runner.run(run())

    @rule(seconds=st.sampled_from((1, 5, 26, 61, 301, 5000, 20_000)), alive=st.booleans())
    def time_passes(self, seconds: int, alive: bool) -> None:
        async def run() -> None:
            left = seconds * 1000
            while left > 0:
                part = min(left, 14_000 if seconds < 400 else 2_000_000)
                left -= part
                self.clock.advance(part)
                for agent_id in self.agents if alive else ():
                    await self._do(partial(presence.heartbeat, agent_id=agent_id))
            for _, sweeper in sweep.SWEEPERS:
                await sweeper(self.db)

        self.runner.run(run())

    async def _snapshot(self) -> list[Any]:
        return [
            await desk.rows(self.db, t)
            for t in (work_item, assignment, agent_state, desk.agent_slot, inquiry)
        ]

    @invariant()
    def tables_agree(self) -> None:
        if not hasattr(self, "agents"):
            return
        self.runner.run(desk.check_invariants(self.db))
        self.runner.run(self._hard_filter_held())
        self.runner.run(self._nothing_waits_needlessly())

    async def _hard_filter_held(self) -> None:
        """I3, for what was decided now: the offers are as the present skills allow at the moment they were made."""
        for made in await desk.open_offers(self.db):
            if made["created_at"] == self.clock.now_ms():
                item = await desk.the_item(self.db, made["item_id"])
                assert not item.excludes(made["agent_id"], made["created_at"])

    async def _nothing_waits_needlessly(self) -> None:
        """I4: after one poll no item waits while somebody free passes its current step."""
        await match.route_pending(self.db)
        now = self.clock.now_ms()
        for row in await desk.rows(self.db, work_item, work_item.c.state == "waiting"):
            item = Item.from_row(row)
            async with self.db.reading() as conn:
                team = await store.team_context(conn, item.team_id)
                plan = steps.plan(item, team.settings)
                step = plan[min(item.step_no, len(plan) - 1)]
                known = await lanes.known(conn, step.lanes)
                agents = await store.candidates(conn, known, channel=item.channel, now=now)
                teams = {item.team_id, *steps.overflow_teams(item, team.settings)}
                loads = await store.queue_loads(conn, teams, item.channel, now)
            eligible, _ = decide.filtered(item, step, team.settings, agents, now, loads=loads)
            assert not eligible, (item, eligible)
            assert item.next_step_at is not None or step.no == len(plan) - 1


def test_a_random_life_keeps_every_promise(sqlite_template: Path) -> None:
    Bureau.template = sqlite_template
    run_state_machine_as_test(
        Bureau,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("language", ["en", "uk", "ru"])
def test_every_language_has_every_word(language: str) -> None:
    from routing.explain_words import REASONS, TEXTS
    from routing.model import Reason

    assert set(TEXTS[language]) == set(TEXTS["en"])
    assert set(REASONS[language]) == {*Reason, "free", "offered", "kept"}
