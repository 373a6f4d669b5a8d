"""What steps do besides telling: each action once, a failed one blocks nothing."""

from typing import Any

import pytest
from sqlalchemy import select

from crm_core.db.engine import Database
from crm_core.jobs import Abandon, JobRegistry, JobRow
from crm_core.schema import inquiry, job
from routing.sla import actions, service
from routing.sla.sweeper import sweep
from tests.routing.sla.builders import Office, opened


@pytest.fixture
async def office(db: Database, clock: Any) -> Office:
    return await Office.open(db, clock)


async def step(office: Office, *what: Any, target: str = "first_reply") -> int:
    """A ticket whose step with these actions has just fired."""
    plan = [{"at": "50%", "actions": list(what)}]
    await office.promise({target: {"minutes": 60, "steps": plan}})
    ticket = await opened(office)
    await office.change(1, ticket, assignee_id=office.agent_id)
    office.move(31)
    await sweep(office.db)
    return ticket


async def run(office: Office, *, finish: bool = True) -> list[JobRow]:
    """The jobs of the step, run as the runner would, one transaction each."""
    done = []
    for row in await office.jobs("sla.step"):
        names = ("id", "name", "args", "lane", "order_key", "attempts", "max_attempts", "created_at")
        mine = JobRow(lease_token="", **{name: row[name] for name in names})
        async with office.db.transaction() as uow:
            await actions.run_step(None, uow, mine)  # type: ignore[arg-type]
            if finish:
                await uow.execute(job.delete().where(job.c.id == mine.id))
        done.append(mine)
    return done


async def row_of(office: Office, ticket: int) -> Any:
    async with office.db.reading() as conn:
        return (await conn.execute(select(inquiry).where(inquiry.c.id == ticket))).mappings().one()


async def test_priority_tag_and_requeue(office: Office) -> None:
    ticket = await step(office, "raise_priority", {"do": "tag", "value": "slow"}, "requeue")
    await run(office)
    row = await row_of(office, ticket)
    assert (row["priority"], row["tags"], row["assignee_id"]) == ("high", ["slow"], None)


@pytest.mark.parametrize(
    "action", ["widen_routing", "broadcast_offer", {"do": "add_overflow_team", "value": "1"}]
)
async def test_routing_is_asked_by_an_event(office: Office, action: Any) -> None:
    ticket = await step(office, action)
    await run(office)
    [asked] = await office.told("sla.step")
    assert (asked["inquiry_id"], asked["payload"]["step"]) == (ticket, "50%")
    assert asked["payload"]["action"] == (action if isinstance(action, str) else action["do"])


async def test_paging_raises_an_alarm(office: Office) -> None:
    ticket = await step(office, "page_on_call")
    await run(office)
    [alarm] = await office.told("alarm.raised")
    assert (alarm["payload"]["what"], alarm["payload"]["number"]) == ("page", ticket + 1000)


async def test_a_job_that_comes_twice_acts_once(office: Office) -> None:
    await step(office, "page_on_call")
    await run(office, finish=False)
    await run(office, finish=False)
    assert len(await office.told("alarm.raised")) == 1


async def test_an_answer_in_the_meantime_makes_actions_idle(office: Office) -> None:
    ticket = await step(office, "raise_priority", {"do": "tag", "value": "slow"}, "page_on_call")
    await office.agent(32, ticket)
    await run(office)
    row = await row_of(office, ticket)
    assert (row["priority"], row["tags"]) == ("normal", ["slow"])
    assert await office.told("alarm.raised") == []


async def test_telling_needs_no_job(office: Office) -> None:
    await step(office, "notify_assignee", "notify_lead", {"do": "notify_channel", "value": "#support"})
    assert await office.jobs("sla.step") == []
    [told] = await office.told("sla.warned")
    assert told["payload"]["notify"] == {
        "agents": sorted([office.agent_id, office.lead_id]), "channels": ["#support"]}  # fmt: skip


async def test_an_action_that_is_not_there_yet_is_parked_and_the_clock_goes_on(office: Office) -> None:
    ticket = await step(office, {"do": "webhook", "value": "https://x"})
    with pytest.raises(Abandon, match="not available"):
        await run(office)
    assert (await office.the(ticket, "first_reply"))["state"] == "active"


async def test_an_inquiry_that_is_gone_is_no_error(office: Office) -> None:
    async with office.db.transaction() as uow:
        assert await actions.perform(uow, 4711, 0) == "the inquiry is gone"


def test_the_jobs_are_declared() -> None:
    registry = JobRegistry()
    service.declare(registry)
    assert registry.names() == ["sla.recompute", "sla.step"]
