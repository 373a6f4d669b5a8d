"""The jobs that ask a PBX to call and to connect, against the fake PBX: one command per attempt, and what refusals mean."""

from typing import Any

import pytest

from crm_core.clock import HOUR
from crm_core.db.engine import Database
from crm_core.jobs import JobRow
from crm_core.schema import job
from crm_core.services import Services
from routing import callbacks
from tests.conftest import MovableClock
from tests.fakes.pbx import CallScript, generic_pbx
from tests.routing.callbacks.office import (
    MONDAY_NOON,
    a_pbx,
    attempts,
    booked,
    now_is,
    says,
    somebody_accepts,
    wire,
)
from tests.routing.engine.desk import a_team, an_agent, go, open_offers, rows
from workers import dialling


@pytest.fixture(autouse=True)
def wired(db: Database, clock: MovableClock) -> None:
    clock.set(MONDAY_NOON)
    wire(db)


async def runs(services: Services, name: str, act: Any) -> None:
    """Run the newest job of a name, twice: the second run after a crash asks the PBX nothing."""
    row = [j for j in await rows(services.db, job) if j["name"] == name][-1]
    fields = {f: row[f] for f in JobRow.__dataclass_fields__ if f in row}
    await act(services, JobRow(**{**fields, "attempts": 1}))
    await act(services, JobRow(**{**fields, "attempts": 2}))


async def test_the_pbx_is_asked_once_and_connects_who_waits(
    services: Services, db: Database, clock: MovableClock
) -> None:
    async with generic_pbx("s", hook_url="http://127.0.0.1:1/none", clock=clock, auto_play=False) as pbx:
        box = await a_pbx(
            db,
            originate_url=f"{pbx.base_url}/originate",
            connect_url=f"{pbx.base_url}/connect",
            number="+380441112233",
        )
        team_id = await a_team(db, settings={"callbacks": {"min_free": 1}})
        anna = await an_agent(db, "Anna", team_id, extension="12")
        made = await booked(db, team_id=team_id, mode="customer_first")
        clock.set(MONDAY_NOON + HOUR)
        await go(db, anna, "online")
        await callbacks.sweep(db)
        await runs(services, callbacks.ORIGINATE_JOB, dialling.originate)
        (command,) = pbx.originated
        assert (command.to, command.agent_ext, command.customer_first) == ("+380501234567", None, True)
        assert command.caller_id == "+380441112233" and command.raw["prompt"].startswith("Вітаємо!")
        corr = {"correlation_id": command.correlation_id}
        await says(db, box, command.call_id, command.call_id, "answered", **corr)
        await somebody_accepts(db)
        await runs(services, callbacks.CONNECT_JOB, dialling.connect)
        (joined,) = pbx.connected
        assert (joined.call_id, joined.agent_ext, joined.correlation_id) == (
            command.call_id, "12", command.correlation_id
        )  # fmt: skip
        # Another time the PBX does not want to: the next agent is asked, the customer still waits.
        pbx.originate_errors.append((503, ""))
        await runs(services, callbacks.CONNECT_JOB, dialling.connect)
        assert len(pbx.connected) == 1 and await open_offers(db) == []
        assert (await now_is(db, made["id"]))["state"] == "dialling"


@pytest.mark.parametrize(
    ("status", "mode", "state", "outcome"),
    [
        (400, "agent_first", "escalated", "invalid_number"),
        (503, "agent_first", "scheduled", "failed"),
        (400, "customer_first", "due", "failed"),
    ],
)
async def test_what_the_pbx_refuses(
    services: Services, db: Database, clock: MovableClock, *, status: int, mode: str, state: str, outcome: str
) -> None:
    async with generic_pbx("s", clock=clock, auto_play=False, script=CallScript()) as pbx:
        pbx.originate_errors.append((status, '{"error":"no"}'))
        await a_pbx(db, originate_url=f"{pbx.base_url}/originate", connect_url=f"{pbx.base_url}/connect")
        team_id = await a_team(db, settings={"callbacks": {"min_free": 1}})
        anna = await an_agent(db, "Anna", team_id, extension="12")
        made = await booked(db, team_id=team_id, mode=mode)
        clock.set(MONDAY_NOON + HOUR)
        await go(db, anna, "online")
        await callbacks.sweep(db)
        if mode == "agent_first":
            await somebody_accepts(db)
        await runs(services, callbacks.ORIGINATE_JOB, dialling.originate)
    row = await now_is(db, made["id"])
    (tried,) = await attempts(db, made["id"])
    assert (row["state"], tried["outcome"]) == (state, outcome)
    if mode == "customer_first":
        assert row["mode"] == "agent_first"
        assert [o["agent_id"] for o in await open_offers(db)] == [anna]
