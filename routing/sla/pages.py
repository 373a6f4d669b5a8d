"""Calling people who are on call: a page is repeated until somebody acknowledges it, the ticket is answered, or it was
repeated often enough, which is an alarm.

Owns `sla_page`. Pages of one team and minute are one page: a storm calls people once.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select, update

from crm_core import notices, webhooks
from crm_core.access import Actor
from crm_core.clock import MINUTE
from crm_core.db.uow import Row, UnitOfWork
from crm_core.errors import Conflict, Forbidden, NotFound
from crm_core.events import SUPERVISORS, Audience, DomainEvent
from crm_core.jobs import JobRow, NewJob
from crm_core.schema import inquiry
from crm_core.services import Services
from crm_core.views import NUMBER_BASE
from routing.schema import sla_clock, sla_page
from routing.sla import people, store

PAGE_JOB = "sla.page"


async def call(uow: UnitOfWork, payload: Mapping[str, Any]) -> str:
    """A step asks for help (`payload` describes it, see `record.describe`). Returns what was done."""
    team_id, minute = payload["team_id"], uow.now // MINUTE
    values: dict[str, Any] = {
        "team_id": team_id or 0, "minute": minute, "inquiry_id": payload["inquiry_id"],
        "clock_id": payload["clock_id"], "state": "open", "times": 0, "asked": 1, "next_at": None,
        "acknowledged_by": None, "acknowledged_at": None, "created_at": uow.now,
    }  # fmt: skip
    made = await uow.insert_new(sla_page, values, key=["team_id", "minute"], returning=sla_page.c.id)
    if made is not None:
        await uow.emit(
            DomainEvent(
                kind="alarm.raised", subject_kind="inquiry", subject_id=payload["inquiry_id"],
                inquiry_id=payload["inquiry_id"], audience=SUPERVISORS,
                payload={"what": "page", "page_id": int(made), **payload},
            )
        )  # fmt: skip
        await _ring(uow, {**values, "id": int(made)})
        return "paged"
    joined = await uow.execute(
        update(sla_page)
        .where(sla_page.c.team_id == (team_id or 0), sla_page.c.minute == minute)
        .values(asked=sla_page.c.asked + 1)
        .returning(sla_page.c.id)
    )
    page_id = int(joined.scalar_one())
    wanted = await people.on_call_list(uow.conn, team_id)
    data = {**_line(payload), "page_id": page_id}
    await notices.tell(
        uow, "page",
        [
            notices.Line(agent_id, f"page:{page_id}:{payload['sla_event_id']}", data, payload["inquiry_id"])
            for agent_id in await people.on_call(uow.conn, team_id, wanted)
        ],
    )  # fmt: skip
    return "joined the page of this minute"


async def again(_services: Services, uow: UnitOfWork, job: JobRow) -> None:
    """The job `sla.page`: call once more, unless there is no need any more."""
    row = await uow.row(uow.lock(select(sla_page).where(sla_page.c.id == int(job.args["page_id"]))))
    if row is None or row["state"] != "open" or row["times"] != int(job.args["times"]):
        return
    clock = await uow.row(select(sla_clock.c.state).where(sla_clock.c.id == row["clock_id"]))
    # Of several that asked, the others keep the page open: nobody has said that he looks.
    if row["asked"] == 1 and (clock is None or clock["state"] not in store.LIVE):
        await _end(uow, row, "answered")
        return
    wanted = await people.on_call_list(uow.conn, row["team_id"] or None)
    if row["times"] >= wanted.times:
        await _end(uow, row, "exhausted")
        await uow.emit(
            DomainEvent(
                kind="alarm.raised", subject_kind="page", subject_id=row["id"], inquiry_id=row["inquiry_id"],
                audience=SUPERVISORS,
                payload={"what": "page_unanswered", "page_id": row["id"], "team_id": row["team_id"] or None},
            )
        )  # fmt: skip
        return
    await _ring(uow, row)


async def acknowledge(uow: UnitOfWork, actor: Actor, page_id: int) -> Row:
    """Somebody looks after it: nobody is called any more. On-call people and supervisors may.

    Raises NotFound, Forbidden, Conflict (page_over).
    """
    row = await uow.row(uow.lock(select(sla_page).where(sla_page.c.id == page_id)))
    if row is None:
        raise NotFound(f"no page {page_id}", params={"page_id": page_id})
    team_id = row["team_id"] or None
    if not actor.has_role("supervisor"):
        wanted = await people.on_call_list(uow.conn, team_id)
        if actor.agent_id not in await people.on_call(uow.conn, team_id, wanted):
            raise Forbidden("you are not on call for this team", code="not_on_call")
    if row["state"] == "acknowledged":
        return row
    if row["state"] == "answered":
        raise Conflict("the page is over", code="page_over")
    return await _end(uow, row, "acknowledged", by=actor.agent_id)


async def _ring(uow: UnitOfWork, page: Mapping[str, Any]) -> None:
    team_id, times = page["team_id"] or None, page["times"] + 1
    wanted = await people.on_call_list(uow.conn, team_id)
    called = await people.on_call(uow.conn, team_id, wanted)
    ticket = await uow.row(select(inquiry).where(inquiry.c.id == page["inquiry_id"]))
    clock = await uow.row(select(sla_clock.c.metric).where(sla_clock.c.id == page["clock_id"]))
    data = {
        "what": "page", "page_id": page["id"], "times": times, "asked": page["asked"], "team_id": team_id,
        "number": page["inquiry_id"] + NUMBER_BASE, "subject": ticket["subject"] if ticket else "",
        "metric": clock["metric"] if clock else None,
    }  # fmt: skip
    next_at = uow.now + wanted.every_ms
    await uow.execute(
        update(sla_page).where(sla_page.c.id == page["id"]).values(times=times, next_at=next_at)
    )
    await notices.tell(
        uow, "page",
        [notices.Line(a, f"page:{page['id']}:ring{times}", data, page["inquiry_id"]) for a in called],
    )  # fmt: skip
    if wanted.webhook is not None and await webhooks.known_keys(uow.conn, [wanted.webhook]):
        await webhooks.send(
            uow, wanted.webhook, event_key=f"page-{page['id']}-{times}", kind="page.raised",
            data={**data, "agents": list(called)},
        )  # fmt: skip
    await uow.emit(
        DomainEvent(
            kind="page.raised", subject_kind="page", subject_id=page["id"], inquiry_id=page["inquiry_id"],
            audience=Audience(agents=called), payload={**data, "agents": list(called)},
        )
    )  # fmt: skip
    uow.enqueue(NewJob(name=PAGE_JOB, args={"page_id": page["id"], "times": times}, run_at=next_at))


async def _end(uow: UnitOfWork, page: Row, state: str, *, by: int | None = None) -> Row:
    values: dict[str, Any] = {"state": state, "next_at": None}
    if by is not None:
        values |= {"acknowledged_by": by, "acknowledged_at": uow.now}
    await uow.execute(update(sla_page).where(sla_page.c.id == page["id"]).values(**values))
    team_id = page["team_id"] or None
    wanted = await people.on_call_list(uow.conn, team_id)
    called = await people.on_call(uow.conn, team_id, wanted)
    await uow.emit(
        DomainEvent(
            kind=f"page.{state}", subject_kind="page", subject_id=page["id"], inquiry_id=page["inquiry_id"],
            actor=f"agent:{by}" if by is not None else "system", audience=Audience(agents=called),
            payload={"page_id": page["id"], "by": by},
        )
    )  # fmt: skip
    return {**page, **values}


def _line(payload: Mapping[str, Any]) -> dict[str, Any]:
    names = ("team_id", "number", "subject", "metric", "step")
    return {"what": "page", **{name: payload.get(name) for name in names}}
