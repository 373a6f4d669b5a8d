"""The job `sla.tell`: the people that steps name get a line each in their notice of the minute.

One job for all steps of one sweeper transaction, idempotent by the ledger entry: a line's source is the entry. Whether
it fails or not, the clocks went on.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import select

from crm_core import notices
from crm_core.db.uow import Row, UnitOfWork
from crm_core.jobs import JobRow
from crm_core.schema import inquiry
from crm_core.services import Services
from crm_core.views import NUMBER_BASE
from routing.schema import sla_clock, sla_event
from routing.sla import people, store
from routing.sla.steps import ActionKind

TELL_JOB = "sla.tell"
#: what is done by telling people, all steps of a transaction together
TELLS = frozenset({ActionKind.NOTIFY_ASSIGNEE, ActionKind.NOTIFY_LEAD, ActionKind.NOTIFY_AGENT})


async def run(_services: Services, uow: UnitOfWork, job: JobRow) -> None:
    await tell(uow, [int(i) for i in job.args["events"]])


async def tell(uow: UnitOfWork, event_ids: Iterable[int]) -> int:
    """Lines for these fired steps. What was answered meanwhile is not told. Returns how many lines were new."""
    statement = (
        select(
            sla_event.c.id, sla_event.c.data, sla_event.c.inquiry_id, sla_clock.c.metric,
            sla_clock.c.state.label("clock_state"), sla_clock.c.id.label("clock_id"), inquiry.c.subject,
            inquiry.c.team_id, inquiry.c.assignee_id, inquiry.c.priority,
        )
        .join(sla_clock, sla_clock.c.id == sla_event.c.clock_id)
        .join(inquiry, inquiry.c.id == sla_event.c.inquiry_id)
        .where(sla_event.c.id.in_(list(event_ids)))
        .order_by(sla_event.c.id)
    )  # fmt: skip
    rows = [row for row in await uow.rows(statement) if row["clock_state"] in store.LIVE]
    leads = await people.leads(
        uow.conn, {row["team_id"] for row in rows if ActionKind.NOTIFY_LEAD in kinds(row["data"])}
    )
    lines = [
        notices.Line(agent_id, f"sla:{row['id']}", line_data(row), row["inquiry_id"])
        for row in rows
        for agent_id in sorted(_whom(row, leads))
    ]
    return await notices.tell(uow, "sla", lines)


def _whom(row: Row, leads: Mapping[int | None, tuple[int, ...]]) -> set[int]:
    found: set[int] = set()
    for action in row["data"].get("actions", ()):
        if action["do"] == ActionKind.NOTIFY_ASSIGNEE and row["assignee_id"] is not None:
            found.add(row["assignee_id"])
        elif action["do"] == ActionKind.NOTIFY_LEAD:
            found.update(leads[row["team_id"]])
        elif action["do"] == ActionKind.NOTIFY_AGENT:
            found.add(int(action["value"]))
    return found


def line_data(row: Row) -> dict[str, Any]:
    """What a line remembers of a step; its words are made for the reader, in `notice_words`."""
    return {
        "what": "step",
        "number": row["inquiry_id"] + NUMBER_BASE,
        "subject": row["subject"],
        "metric": row["metric"],
        "step": row["data"].get("step"),
        "late": bool(row["data"].get("late")),
        "breached": row["data"].get("breached_at") is not None,
        "priority": row["priority"],
        "clock_id": row["clock_id"],
    }


def kinds(data: Mapping[str, Any] | None) -> set[str]:
    """The actions of a fired step."""
    return {action["do"] for action in (data or {}).get("actions", ())}
