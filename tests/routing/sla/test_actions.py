"""What steps do besides telling: each action once, a failed one blocks nothing."""

import json
from typing import Any

import pytest
from sqlalchemy import select

from crm_core import notices, webhooks
from crm_core.access import Actor
from crm_core.db.engine import Database
from crm_core.errors import Forbidden
from crm_core.jobs import Abandon, JobRegistry, JobRow
from crm_core.schema import inquiry, job, notification, webhook_delivery
from routing.schema import sla_page
from routing.sla import actions, pages, people, service, telling
from routing.sla.clock import Metric
from routing.sla.notice_words import WORDS, line_text
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


async def jobs_of(office: Office, name: str) -> list[JobRow]:
    names = ("id", "name", "args", "lane", "order_key", "attempts", "max_attempts", "created_at")
    return [JobRow(lease_token="", **{n: row[n] for n in names}) for row in await office.jobs(name)]


async def tell(office: Office) -> None:
    """The jobs that tell people, run and done."""
    for mine in await jobs_of(office, "sla.tell"):
        async with office.db.transaction() as uow:
            await telling.run(None, uow, mine)  # type: ignore[arg-type]
            await uow.execute(job.delete().where(job.c.id == mine.id))


async def test_people_get_a_line_each_and_ten_in_a_minute_are_one_notice(office: Office) -> None:
    plan = [{"at": "50%", "actions": ["notify_assignee", "notify_lead"]}]
    await office.promise({"first_reply": {"minutes": 60, "steps": plan}})
    tickets = [await opened(office, user=f"u{n}") for n in range(10)]
    await office.change(1, tickets[0], assignee_id=office.agent_id)
    office.move(31)
    await sweep(office.db)
    await tell(office)
    async with office.db.reading() as conn:
        rows = (await conn.execute(select(notification).order_by(notification.c.agent_id))).mappings().all()
        lines = await notices.lines_of(conn, [row["id"] for row in rows])
        assert await notices.unread(conn, office.lead_id) == 1
    assert [(row["agent_id"], row["kind"], row["lines"]) for row in rows] == [
        (office.agent_id, "sla", 1), (office.lead_id, "sla", 10)]  # fmt: skip
    assert [line["inquiry_id"] for line in lines[rows[1]["id"]]] == tickets
    texts = [line_text(lines[rows[0]["id"]][0]["data"], language) for language in ("en", "uk", "ru")]
    assert (
        texts[0].startswith(f"#{tickets[0] + 1000} ")
        and "50% of the time is used up (first reply)" in texts[0]
    )
    assert "перша відповідь" in texts[1] and "первый ответ" in texts[2]
    raised = await office.told("notification.raised")
    assert [e["audience"]["agents"] for e in raised] == [[office.agent_id], [office.lead_id]]


async def test_telling_twice_tells_once(office: Office) -> None:
    await step(office, "notify_lead")
    [mine] = await jobs_of(office, "sla.tell")
    for _ in range(2):
        async with office.db.transaction() as uow:
            await telling.run(None, uow, mine)  # type: ignore[arg-type]
        office.clock.advance(120_000)
    assert len(await office.told("notification.raised")) == 1


async def test_the_next_minute_is_another_notice_and_a_read_one_wakes_when_it_grows(office: Office) -> None:
    lead = office.lead_id
    for n, minute in ((1, 0), (2, 0), (3, 1)):
        office.move(minute)
        async with office.db.transaction() as uow:
            await notices.tell(uow, "sla", [notices.Line(lead, f"s{n}", {})])
            if n == 1:
                assert await notices.mark_all_read(uow, lead) == 1
    async with office.db.reading() as conn:
        rows = (await conn.execute(select(notification).order_by(notification.c.id))).mappings().all()
    assert [(row["lines"], row["read_at"]) for row in rows] == [(2, None), (1, None)]


async def test_what_was_answered_meanwhile_is_not_told(office: Office) -> None:
    ticket = await step(office, "notify_lead")
    await office.agent(32, ticket)
    await tell(office)
    assert await office.told("notification.raised") == []


async def test_a_named_agent_is_told(office: Office) -> None:
    await step(office, {"do": "notify_agent", "value": str(office.lead_id)})
    await tell(office)
    [told] = await office.told("notification.raised")
    assert told["payload"]["agent_id"] == office.lead_id


async def test_a_webhook_gets_a_post_with_a_sentence_once(office: Office) -> None:
    async with office.db.transaction() as uow:
        await webhooks.create(uow, key="chat", name="Chat", url="https://chat.example/x", actor="system")
    ticket = await step(office, {"do": "webhook", "value": "chat"}, {"do": "notify_channel", "value": "chat"})
    await run(office, finish=False)
    await run(office)
    async with office.db.reading() as conn:
        rows = (await conn.execute(select(webhook_delivery).order_by(webhook_delivery.c.id))).mappings().all()
    assert [row["kind"] for row in rows] == ["sla.step", "sla.step"]
    body = json.loads(rows[0]["body"])
    assert (body["data"]["inquiry_id"], body["data"]["step"], body["data"]["action"]) == (
        ticket,
        "50%",
        "webhook",
    )
    assert "first reply" in body["data"]["text"]


async def test_a_webhook_that_is_gone_is_parked_and_the_clock_goes_on(office: Office) -> None:
    ticket = await step(office, {"do": "webhook", "value": "nowhere"})
    with pytest.raises(Abandon, match="does not exist"):
        await run(office)
    assert (await office.the(ticket, "first_reply"))["state"] == "active"


async def ring(office: Office) -> None:
    for mine in await jobs_of(office, "sla.page"):
        async with office.db.transaction() as uow:
            await uow.execute(job.delete().where(job.c.id == mine.id))
            await pages.again(None, uow, mine)  # type: ignore[arg-type]


async def the_page(office: Office) -> Any:
    async with office.db.reading() as conn:
        return (await conn.execute(select(sla_page))).mappings().one()


async def test_a_page_is_repeated_until_nobody_is_left_to_answer(office: Office) -> None:
    await step(office, "page_on_call")
    await run(office)
    for n in range(1, 5):
        page = await the_page(office)
        assert page["times"] == min(n, 3)
        office.clock.set(page["next_at"])
        await ring(office)
        if n == 3:
            break
    assert (await the_page(office))["state"] == "exhausted"
    assert [a["payload"]["what"] for a in await office.told("alarm.raised")] == ["page", "page_unanswered"]
    assert [e["audience"]["agents"] for e in await office.told("page.raised")] == [[office.lead_id]] * 3
    lines = [e["payload"]["lines"] for e in await office.told("notification.raised")]
    assert lines == [1, 1, 1]


async def test_an_acknowledged_page_calls_nobody_any_more(office: Office) -> None:
    await step(office, "page_on_call")
    await run(office)
    page = await the_page(office)
    stranger = Actor(agent_id=office.agent_id, role="agent")
    with pytest.raises(Forbidden):
        async with office.db.transaction() as uow:
            await pages.acknowledge(uow, stranger, page["id"])
    async with office.db.transaction() as uow:
        await pages.acknowledge(uow, Actor(agent_id=office.lead_id, role="agent"), page["id"])
    await ring(office)
    page = await the_page(office)
    assert (page["state"], page["times"], page["acknowledged_by"]) == ("acknowledged", 1, office.lead_id)


async def test_a_page_ends_by_itself_when_the_customer_has_his_answer(office: Office) -> None:
    ticket = await step(office, "page_on_call")
    await run(office)
    await office.agent(32, ticket)
    await ring(office)
    assert (await the_page(office))["state"] == "answered"


async def test_pages_of_one_minute_are_one_and_who_is_called_is_written_down(office: Office) -> None:
    async with office.db.transaction() as uow:
        wanted = people.OnCall(agents=(office.agent_id,), roles=(), every_minutes=2, times=1)
        await people.set_on_call(uow, office.team_id, wanted, actor="system")
    plan = [{"at": "50%", "actions": ["page_on_call"]}]
    await office.promise({"first_reply": {"minutes": 60, "steps": plan}})
    for n in range(3):
        await opened(office, user=f"u{n}")
    office.move(31)
    await sweep(office.db)
    await run(office)
    page = await the_page(office)
    assert (page["asked"], page["times"], page["next_at"] - page["created_at"]) == (3, 1, 120_000)
    assert len(await office.told("page.raised")) == 1
    [notice] = await office.told("notification.raised")
    assert notice["payload"]["agent_id"] == office.agent_id
    assert [e["payload"]["lines"] for e in await office.told("notification.grown")] == [2, 3]


def test_every_language_has_every_word() -> None:
    assert {frozenset(words) for words in WORDS.values()} == {frozenset(WORDS["en"])}
    assert set(WORDS["en"]) >= set(Metric)


@pytest.mark.parametrize("name", ["50%", "100%", "300%", "30m before", "2h after"])
@pytest.mark.parametrize("language", ["en", "uk", "ru", "xx"])
def test_every_step_has_a_sentence(name: str, language: str) -> None:
    text = line_text(
        {"what": "step", "number": 1001, "subject": "S" * 200, "metric": "agent_work", "step": name}, language
    )
    assert "1001" in text and "{" not in text and len(text) < 200


async def test_an_inquiry_that_is_gone_is_no_error(office: Office) -> None:
    async with office.db.transaction() as uow:
        assert await actions.perform(uow, 4711, 0) == "the inquiry is gone"


def test_the_jobs_are_declared() -> None:
    registry = JobRegistry()
    service.declare(registry)
    assert registry.names() == ["sla.page", "sla.recompute", "sla.step", "sla.storm", "sla.tell"]
