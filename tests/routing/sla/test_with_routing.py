"""SLA and routing together, as the product wires them: the queue follows the deadlines."""

from typing import Any

import pytest
from sqlalchemy import select

from crm_core.db.engine import Database
from routing.schema import work_item
from switchboard import wiring
from tests.routing.sla.builders import Office, at, opened


@pytest.fixture
async def office(db: Database, clock: Any) -> Office:
    office = await Office.open(db, clock)
    db.listeners = wiring.listeners()
    return office


async def item(office: Office, ticket: int) -> Any:
    async with office.db.reading() as conn:
        statement = select(work_item).where(
            work_item.c.source_kind == "inquiry", work_item.c.source_id == ticket
        )
        return (await conn.execute(statement.order_by(work_item.c.attempt.desc()))).mappings().first()


async def test_a_new_item_is_ordered_by_its_first_reply(office: Office) -> None:
    await office.promise({"first_reply": 60})
    assert (await item(office, await opened(office)))["due_at"] == at(60)


async def test_a_waiting_item_moves_when_its_deadline_moves(office: Office) -> None:
    await office.promise({"first_reply": 20}, key="fast", conditions={"tags": "vip"})
    await office.promise({"first_reply": 240}, key="slow", position=1)
    ticket = await opened(office)
    before = await item(office, ticket)
    await office.change(5, ticket, tags=["vip"])
    after = await item(office, ticket)
    assert (before["due_at"], after["due_at"]) == (at(240), at(20))
    assert before["order_key"] - after["order_key"] == at(240) - at(20)


async def test_a_reopened_item_is_ordered_by_the_next_reply(office: Office) -> None:
    await office.promise({"first_reply": 60, "next_reply": 30})
    ticket = await opened(office)
    await office.agent(5, ticket)
    await office.change(10, ticket, status="solved")
    await office.customer(100)
    found = await item(office, ticket)
    assert (found["attempt"], found["due_at"]) == (2, at(130))


async def test_requeue_by_a_step_gives_the_item_back(office: Office) -> None:
    from routing.sla import actions
    from routing.sla.sweeper import sweep

    await office.promise(
        {"requester_wait": {"minutes": 60, "steps": [{"at": "50%", "actions": ["requeue"]}]}}
    )
    ticket = await opened(office)
    await office.change(1, ticket, assignee_id=office.agent_id)
    assert (await item(office, ticket))["owner_id"] == office.agent_id
    office.move(31)
    await sweep(office.db)
    [asked] = await office.jobs("sla.step")
    async with office.db.transaction() as uow:
        assert (
            await actions.perform(uow, asked["args"]["event_id"], asked["args"]["action"])
            == "back in the queue"
        )
    assert (await item(office, ticket))["owner_id"] is None
