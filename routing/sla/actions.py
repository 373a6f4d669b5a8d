"""What an escalation step does besides telling people: one job per action.

Owns the job `sla.step`. Each action is a job of its own, so one that fails is tried again alone and parked with an
alarm in the end, while the clock and the other actions go on. The mark of the command table makes it happen once,
whatever happens to the job's row. Telling people is gathered, see `telling`; a webhook is posted by its own job.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sqlalchemy import select

from crm_core import inquiries, webhooks
from crm_core.access import inquiry_audience
from crm_core.db.uow import Row, UnitOfWork
from crm_core.errors import NotFound
from crm_core.events import DomainEvent
from crm_core.jobs import Abandon, JobRegistry, JobRow
from crm_core.schema import agent, inquiry
from crm_core.services import Services
from routing.commands import once
from routing.schema import sla_clock, sla_event
from routing.sla import notice_words, pages, people, record, store, storms, telling
from routing.sla.policy import PRIORITIES
from routing.sla.steps import ActionKind

_CAUSE = "sla"


def declare(registry: JobRegistry) -> None:
    registry.job(record.STEP_JOB, transactional=True)(run_step)
    registry.job(telling.TELL_JOB, transactional=True)(telling.run)
    registry.job(pages.PAGE_JOB, transactional=True)(pages.again)
    registry.job(storms.STORM_JOB, transactional=True)(storms.summarise)


async def run_step(_services: Services, uow: UnitOfWork, job: JobRow) -> None:
    """The job `sla.step {event_id, action}`: the n-th action of a step that fired."""
    event_id, n = int(job.args["event_id"]), int(job.args["action"])

    async def act() -> Mapping[str, Any]:
        return {"done": await perform(uow, event_id, n)}

    await once(uow, f"{record.STEP_JOB}:{event_id}:{n}", act)


async def perform(uow: UnitOfWork, event_id: int, n: int) -> str:
    """Do one action. Returns what was done, or why nothing was."""
    fired = await uow.row(select(sla_event).where(sla_event.c.id == event_id))
    if fired is None:
        return "the inquiry is gone"
    actions = fired["data"].get("actions", [])
    if n >= len(actions):
        raise Abandon(f"SLA event {event_id} has no action {n}")
    ticket = await uow.row(uow.lock(select(inquiry).where(inquiry.c.id == fired["inquiry_id"])))
    clock = await uow.row(select(sla_clock).where(sla_clock.c.id == fired["clock_id"]))
    if ticket is None or clock is None:
        return "the inquiry is gone"
    kind, value = ActionKind(actions[n]["do"]), actions[n].get("value")
    if kind is not ActionKind.TAG and clock["state"] not in store.LIVE:
        return "answered meanwhile"
    handler = _HANDLERS.get(kind)
    if handler is None:
        raise Abandon(f"{kind} is not done by a job")
    return await handler(uow, ticket, _Fired(fired, clock, kind, value, n))


class _Fired:
    """The step that asked for an action."""

    def __init__(self, event: Row, clock: Row, kind: ActionKind, value: str | None, n: int) -> None:
        self.event, self.clock, self.kind, self.value, self.n = event, clock, kind, value, n

    def payload(self, ticket: Row) -> dict[str, Any]:
        about = record.describe(ticket, store.clock_of(dict(self.clock)), int(self.clock["id"]))
        return about | {
            "action": str(self.kind), "value": self.value, "step": self.event["data"].get("step"),
            "sla_event_id": int(self.event["id"]),
        }  # fmt: skip


async def _raise_priority(uow: UnitOfWork, ticket: Row, fired: _Fired) -> str:
    now = PRIORITIES.index(ticket["priority"])
    wanted = PRIORITIES.index(fired.value) if fired.value in PRIORITIES else now + 1
    if wanted <= now or wanted >= len(PRIORITIES):
        return "it is as high already"
    await inquiries.change(uow, ticket["id"], {"priority": PRIORITIES[wanted]}, actor="system", cause=_CAUSE)
    return f"priority {PRIORITIES[wanted]}"


async def _tag(uow: UnitOfWork, ticket: Row, fired: _Fired) -> str:
    if fired.value in ticket["tags"]:
        return "has the tag already"
    await inquiries.change(
        uow, ticket["id"], {"tags": [*ticket["tags"], fired.value]}, actor="system", cause=_CAUSE
    )
    return f"tag {fired.value}"


async def _requeue(uow: UnitOfWork, ticket: Row, _fired: _Fired) -> str:
    if ticket["assignee_id"] is None:
        return "nobody has it"
    # Routing hears of the change and gives the item its place in the queue back.
    await inquiries.change(uow, ticket["id"], {"assignee_id": None}, actor="system", cause=_CAUSE)
    return "back in the queue"


async def _ask_routing(uow: UnitOfWork, ticket: Row, fired: _Fired) -> str:
    """Whom a waiting item is shown to is routing's own business: it hears the wish as an event."""
    await uow.emit(
        DomainEvent(
            kind="sla.step", subject_kind="inquiry", subject_id=ticket["id"], inquiry_id=ticket["id"],
            conversation_id=ticket["conversation_id"], payload=fired.payload(ticket),
            audience=inquiry_audience(ticket), context={"inquiry": ticket},
        )
    )  # fmt: skip
    return "routing was asked"


async def _page(uow: UnitOfWork, ticket: Row, fired: _Fired) -> str:
    return await pages.call(uow, fired.payload(ticket))


async def _post(uow: UnitOfWork, ticket: Row, fired: _Fired) -> str:
    """A webhook by its key. `text` is a sentence, so that a team chat's incoming hook can show it as it is."""
    line = telling.line_data(
        {**ticket, "inquiry_id": ticket["id"], "metric": fired.clock["metric"], "clock_id": fired.clock["id"],
         "data": fired.event["data"]}
    )  # fmt: skip
    key = str(fired.value)
    # In the language of who reads it: the team's first lead.
    leads = (await people.leads(uow.conn, [ticket["team_id"]]))[ticket["team_id"]]
    language = await uow.scalar(select(agent.c.language).where(agent.c.id.in_(leads[:1])))
    try:
        fresh = await webhooks.send(
            uow, key, event_key=f"sla-{fired.event['id']}-{fired.n}", kind="sla.step",
            data={"text": notice_words.line_text(line, language or "en"), **fired.payload(ticket)},
        )  # fmt: skip
    except NotFound as error:
        raise Abandon(f"the policy names webhook {key!r}, which does not exist") from error
    return f"posted to {key}" if fresh else "posted before"


_HANDLERS: dict[ActionKind, Callable[[UnitOfWork, Row, _Fired], Awaitable[str]]] = {
    ActionKind.RAISE_PRIORITY: _raise_priority,
    ActionKind.TAG: _tag,
    ActionKind.REQUEUE: _requeue,
    ActionKind.ADD_OVERFLOW_TEAM: _ask_routing,
    ActionKind.WIDEN_ROUTING: _ask_routing,
    ActionKind.BROADCAST_OFFER: _ask_routing,
    ActionKind.PAGE_ON_CALL: _page,
    ActionKind.NOTIFY_CHANNEL: _post,
    ActionKind.WEBHOOK: _post,
}
