"""Writing down what happened to clocks: rows, ledger, events for people, jobs for the actions of steps.

Owns the one way by which a change of clocks reaches the database, for the listeners and for the sweeper alike.
Decides nothing about clocks.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crm_core.access import inquiry_audience
from crm_core.clock import to_iso
from crm_core.db.uow import UnitOfWork
from crm_core.events import SUPERVISORS, Audience, DomainEvent
from crm_core.jobs import NewJob
from crm_core.schema import setting
from crm_core.views import NUMBER_BASE
from routing.sla import book as books
from routing.sla import people, store, storms, telling
from routing.sla.clock import Clock, ClockState, EventKind, SlaEvent, TicketClocks
from routing.sla.steps import ActionKind
from routing.store import REPLY_METRICS

STEP_JOB = "sla.step"
#: entries that people are told of, and by which event
TOLD = {
    EventKind.BREACH: "sla.breached",
    EventKind.WARN: "sla.warned",
    EventKind.FULFIL: "sla.fulfilled",
    EventKind.RETRACT: "sla.retracted",
}
#: in a storm these are left to the summary; what changes the ticket itself is still done
_LOUD = frozenset({ActionKind.NOTIFY_CHANNEL, ActionKind.WEBHOOK})


@dataclass(frozen=True, slots=True)
class Entry:
    """A ledger entry with the clock before and after it, and the inquiry as it was at the deciding moment."""

    event: SlaEvent
    before: Clock | None
    after: Clock
    owner: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Progress:
    """One ticket moved on."""

    ticket: Mapping[str, Any]
    stored: store.Stored
    after: TicketClocks
    note: store.Note
    entries: Sequence[Entry] = ()
    opened: bool = False


@dataclass(slots=True)
class _Told:
    leads: Mapping[int | None, tuple[int, ...]] = field(default_factory=dict)
    quiet: Collection[int | None] = ()
    #: ledger entries whose people get a line in their notice
    lines: list[int] = field(default_factory=list)


async def write(
    uow: UnitOfWork,
    progress: Sequence[Progress],
    book: books.Book,
    *,
    firing: bool = False,
    only: tuple[str, ...] | None = None,
) -> None:
    """Store what happened to these tickets and tell of it.

    `firing`: it is the work of a sweeper; many breaches at once are told as a storm. `only` names the columns of clocks
    that can have moved, where that is known: there are many, and most of them never do.
    """
    ids = {(p.stored.inquiry_id, *key): i for p in progress for key, i in (p.stored.ids or {}).items()}
    rows = [row for p in progress for row in store.changed_rows(p.stored, p.after, p.note)]
    made = await store.save(uow, rows, ids, only=only) if rows else {}
    entries = [(p, entry) for p in progress for entry in p.entries]
    values = []
    for p, entry in entries:
        key = (p.stored.inquiry_id, *entry.after.key)
        values.append(
            store.event_values(
                entry.event, clock_id=ids[key] if key in ids else made[key], inquiry_id=p.stored.inquiry_id,
                recorded_at=uow.now, data=circumstances(entry.after, entry.owner, due_of(entry.before, entry.after)),
            )
        )  # fmt: skip
    known = any(entry.event.kind in TOLD for _, entry in entries)
    event_ids = await store.add_events(uow, values, with_ids=known) if values else []
    quiet = await storms.count(uow, _breaches(entries, event_ids)) if firing else frozenset()
    told = _Told(await _leads(uow, entries), quiet)
    for (p, entry), row, event_id in zip(entries, values, event_ids, strict=True):
        if event_id is not None:
            await _tell(uow, p, entry, row["clock_id"], event_id, told)
    if told.lines:
        uow.enqueue(NewJob(name=telling.TELL_JOB, args={"events": told.lines}))
    for p in progress:
        before, after = reply_due(p.stored.state.clocks), reply_due(p.after.clocks)
        if not p.opened and before != after:
            await uow.emit(due_moved(p.ticket, before, after, inquiry_audience(p.ticket)))
    troubles = [found for _, entry in entries if (found := trouble(entry.after)) is not None]
    await raise_alarms(uow, [*(book.problems if entries else ()), *troubles])


def _breaches(
    entries: Sequence[tuple[Progress, Entry]], event_ids: Sequence[int | None]
) -> dict[int | None, tuple[int, int]]:
    """Newly broken promises by team: how many, and since when the first."""
    found: dict[int | None, tuple[int, int]] = {}
    for (p, entry), event_id in zip(entries, event_ids, strict=True):
        if entry.event.kind is EventKind.BREACH and event_id is not None:
            n, first = found.get(p.ticket["team_id"], (0, entry.event.at))
            found[p.ticket["team_id"]] = n + 1, min(first, entry.event.at)
    return found


def reply_due(clocks: Iterable[Clock]) -> int | None:
    """What routing orders by, as `routing.store.reply_due` reads it."""
    dues = (c.due_at for c in clocks if c.state is ClockState.ACTIVE and c.metric in REPLY_METRICS)
    return min((due for due in dues if due is not None), default=None)


def circumstances(clock: Clock, owner: Mapping[str, Any], due: int | None) -> dict[str, Any]:
    """What reports and the ledger need and the row will not know any more: of the clock after the entry, of the inquiry
    at that moment (`owner`), and the deadline that was in force.
    """
    return {
        "team_id": owner["team_id"],
        "agent_id": owner["assignee_id"],
        "channel": owner["channel"],
        "priority": clock.priority,
        "pause_reasons": list(clock.pause_reasons),
        "target_ms": clock.target_ms,
        "policy_id": clock.policy_id,
        "business": clock.business,
        "calendar_id": clock.calendar_id,
        "calendar_version": clock.calendar_version,
        "due_at": due,
    }


def due_of(before: Clock | None, after: Clock) -> int | None:
    """An ended or paused clock has no deadline any more; people want to know which one it was."""
    if after.due_at is not None:
        return after.due_at
    return before.due_at if before is not None else None


async def _leads(
    uow: UnitOfWork, entries: Sequence[tuple[Progress, Entry]]
) -> dict[int | None, tuple[int, ...]]:
    teams = {
        e.owner["team_id"]
        for _, e in entries
        if e.event.kind is EventKind.WARN and ActionKind.NOTIFY_LEAD in telling.kinds(e.event.data)
    }
    return await people.leads(uow.conn, teams)


async def _tell(
    uow: UnitOfWork, p: Progress, entry: Entry, clock_id: int, event_id: int, told: _Told
) -> None:
    event, clock = entry.event, entry.after
    kind = TOLD.get(event.kind)
    if kind is None or (event.kind is EventKind.FULFIL and clock.target_ms is None):
        return  # a clock without a promise is counted, not announced
    data = event.data or {}
    payload = describe(p.ticket, clock, clock_id) | {
        "at": to_iso(event.at), "due_at": iso(due_of(entry.before, entry.after)), "cause": event.cause,
        "step": data.get("step"), "elapsed_ms": data.get("elapsed_ms"), "sla_event_id": event_id,
    }  # fmt: skip
    quiet = p.ticket["team_id"] in told.quiet
    also: tuple[int, ...] = ()
    if event.kind is EventKind.WARN:
        kinds = telling.kinds(data)
        if ActionKind.NOTIFY_LEAD in kinds:
            also = told.leads.get(entry.owner["team_id"], ())
        assignee = entry.owner["assignee_id"] if ActionKind.NOTIFY_ASSIGNEE in kinds else None
        named = {int(a["value"]) for a in data["actions"] if a["do"] == ActionKind.NOTIFY_AGENT}
        also = tuple(sorted({*also, *named}))
        payload |= {
            "late": bool(data.get("late")),
            "skipped": data.get("skipped", []),
            "notify": {
                "agents": sorted({*also, *([assignee] if assignee is not None else [])}),
                "channels": [a["value"] for a in data["actions"] if a["do"] == ActionKind.NOTIFY_CHANNEL],
            },
        }
        if not quiet and kinds & telling.TELLS:
            told.lines.append(event_id)
        for n, action in enumerate(data.get("actions", ())):
            if action["do"] not in telling.TELLS and not (quiet and action["do"] in _LOUD):
                uow.enqueue(
                    NewJob(
                        name=STEP_JOB,
                        args={"event_id": event_id, "action": n},
                        dedupe=f"{STEP_JOB}:{event_id}:{n}",
                    )
                )
    if event.kind is EventKind.BREACH:
        payload["breached_at"] = to_iso(event.at)
    if quiet and event.kind in (EventKind.WARN, EventKind.BREACH):
        return
    await uow.emit(
        DomainEvent(
            kind=kind, subject_kind="sla_clock", subject_id=clock_id, inquiry_id=p.stored.inquiry_id,
            conversation_id=p.ticket["conversation_id"], payload=payload,
            audience=inquiry_audience(p.ticket, *also), context={"inquiry": p.ticket, "clock": clock},
        )
    )  # fmt: skip


def describe(ticket: Mapping[str, Any], clock: Clock, clock_id: int) -> dict[str, Any]:
    """What every event about a clock says of it and of its inquiry."""
    return {
        "clock_id": clock_id,
        "metric": str(clock.metric),
        "instance": clock.instance,
        "state": str(clock.state),
        "target_ms": clock.target_ms,
        "breach_at": iso(clock.breach_at),
        "inquiry_id": ticket["id"],
        "number": ticket["id"] + NUMBER_BASE,
        "subject": ticket["subject"],
        "priority": ticket["priority"],
        "team_id": ticket["team_id"],
        "assignee_id": ticket["assignee_id"],
    }


def due_moved(
    ticket: Mapping[str, Any], before: int | None, after: int | None, audience: Audience
) -> DomainEvent:
    """The first deadline of an inquiry's replies is another one. Routing listens and gives a waiting item its new place
    in the queue.
    """
    return DomainEvent(
        kind="sla.retargeted", subject_kind="inquiry", subject_id=ticket["id"], inquiry_id=ticket["id"],
        conversation_id=ticket["conversation_id"], payload={"due_at": iso(after), "was": iso(before)},
        audience=audience,
    )  # fmt: skip


def trouble(clock: Clock) -> str | None:
    """A promise that cannot be kept as written: no hours configured, or hours that never come."""
    if clock.target_ms is None or clock.state is not ClockState.ACTIVE:
        return None
    if clock.business and clock.calendar_id is None:
        return "an SLA target counts business hours and no calendar is configured: all hours count"
    if clock.breach_at is None and clock.due_at is None:
        return f"calendar {clock.calendar_id} never opens again: SLA clocks run without a deadline"
    return None


async def raise_alarms(uow: UnitOfWork, problems: Iterable[str]) -> None:
    """Tell supervisors of wrong configuration, of each fault once until the configuration is edited."""
    for problem in dict.fromkeys(problems):
        fresh = await uow.insert_new(
            setting,
            {"key": books.alarm_key(problem), "value": {"problem": problem, "at": uow.now}},
            key=["key"],
        )
        if fresh is not None:
            await uow.emit(
                DomainEvent(
                    kind="alarm.raised", subject_kind="sla", subject_id=0, audience=SUPERVISORS,
                    payload={"what": "sla_configuration", "error": problem},
                )
            )  # fmt: skip


def iso(ms: int | None) -> str | None:
    return None if ms is None else to_iso(ms)


__all__ = [
    "STEP_JOB",
    "TOLD",
    "Entry",
    "Progress",
    "circumstances",
    "describe",
    "due_moved",
    "due_of",
    "iso",
    "raise_alarms",
    "reply_due",
    "trouble",
    "write",
]
