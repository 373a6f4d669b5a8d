"""From the core's facts to what the SLA machine understands. Pure: an event in, happenings of tickets out.

Owns the meaning of channels' and people's doings for promises: what counts as the customer's word, when an answer
counts, what a call is worth. Which clock moves then is the machine's business.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from crm_core.call_state import CallChange, Change
from crm_core.events import DomainEvent
from routing.sla.clock import Status
from routing.sla.policy import CALLBACK, SNOOZE
from routing.sla.ticket_events import (
    Abandoned,
    Author,
    Connected,
    Created,
    Discarded,
    Enqueued,
    MergedAway,
    MessageWritten,
    PauseSet,
    ReplyHidden,
    SendFailed,
    SplitAway,
    StatusChanged,
    TicketEvent,
)

#: delivery states in which the channel has accepted a message
ACCEPTED = frozenset({"sent", "delivered", "read"})
#: channels on which somebody waits with the window open: how fast a person comes is measured
LIVE_CHANNELS = frozenset({"webchat"})
#: outcomes of an inquiry that was never one
DISCARDED = frozenset({"spam", "deleted"})
#: column of an inquiry -> what policy conditions call it
FACTS = {
    "team_id": "team",
    "kind": "kind",
    "priority": "priority",
    "tags": "tags",
    "language": "language",
    "source": "source",
}
_OVER = ("solved", "closed")
_RINGS = ("initiated", "ringing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """What one domain event means for the clocks of one inquiry."""

    inquiry_id: int
    events: tuple[TicketEvent, ...] = ()
    facts: frozenset[str] = frozenset()
    """Facts that are others now; the policy is chosen anew if one of them is watched."""
    before: Mapping[str, Any] | None = None
    """The inquiry as it was, if its team or assignee changed: what was missed until now was missed by them."""
    minor: bool = False
    """A program's or an internal word: nothing moves unless a policy says that such words count."""
    everything: bool = False
    """The machine must see all clocks of the past, not the live and newest only."""
    by: str | None = None
    """Who did it; named in the ledger where a promise changes."""
    once: str | None = None
    """Leave it out if this reference has moved a clock already."""
    opened: bool = False


def opened(event: DomainEvent, now: int) -> Happening:
    row, first = event.context["inquiry"], event.context.get("message")
    by, public = Author.BOT, False
    if event.actor.startswith("contact:") and not (first is not None and first["automatic"]):
        by, public = Author.CUSTOMER, True
    elif event.actor.startswith("agent:"):
        # What the agent wrote is a message of its own and counts when the channel has accepted it.
        by = Author.AGENT
    since = event.context.get("since")
    if since is not None and first is not None:
        # Split off from another inquiry: the customer has waited since he wrote it.
        asked = first["author_kind"] == "customer" and not first["automatic"]
        by, public = (Author.CUSTOMER, True) if asked else (Author.BOT, False)
    began = now if since is None else min(since, now)
    events: list[TicketEvent] = [Created(began, by, public, ref=None if first is None else _ref(first))]
    if _waits_live(row):
        events.append(Enqueued(now))
    return Happening(inquiry_id=row["id"], events=tuple(events), facts=frozenset(FACTS.values()), opened=True)


def message_added(event: DomainEvent, now: int) -> Happening | None:
    row, context = event.context["message"], event.context
    inquiry = context.get("inquiry")
    if inquiry is None or context.get("opened"):
        return None  # the opening has counted it
    if row["author_kind"] == "customer":
        if row["automatic"] or row["direction"] != "in":
            return None
        return Happening(
            inquiry_id=inquiry["id"], events=(MessageWritten(now, Author.CUSTOMER, ref=_ref(row)),)
        )
    if row["direction"] == "internal":
        note = MessageWritten(now, _author(row), public=False, ref=_ref(row))
        return Happening(inquiry_id=inquiry["id"], events=(note,), minor=True)
    return _accepted(row, inquiry["id"], now) if row["state"] in ACCEPTED else None


def message_state_changed(event: DomainEvent, now: int) -> Happening | None:
    row, was = event.context["message"], event.context["was"]
    inquiry = event.context.get("inquiry")
    if inquiry is None or row["direction"] != "out":
        return None
    if row["state"] in ACCEPTED and was not in ACCEPTED:
        return _accepted(row, inquiry["id"], now)
    if row["state"] == "failed" and was in ACCEPTED:
        return Happening(inquiry_id=inquiry["id"], events=(SendFailed(now, _ref(row)),), everything=True)
    return None


def message_edited(event: DomainEvent, now: int) -> Happening | None:
    """An answer that was hidden or deleted stays an answer; the ledger says that it is gone."""
    row = event.context["message"]
    if event.payload.get("what") != "delete" or row["inquiry_id"] is None or row["direction"] != "out":
        return None
    return Happening(inquiry_id=row["inquiry_id"], events=(ReplyHidden(now, _ref(row)),), everything=True)


def callback(event: DomainEvent, now: int) -> Happening | None:
    """Who is called back does not wait in the queue meanwhile: by his own choice, so nobody is slow."""
    if event.inquiry_id is None:
        return None
    events: tuple[TicketEvent, ...] = (PauseSet(now, CALLBACK, on=event.kind == "callback.booked"),)
    if event.kind == "callback.kept":
        events = (*events, Connected(now))
    return Happening(inquiry_id=event.inquiry_id, events=events, by=event.actor)


def merged(event: DomainEvent, now: int) -> Happening:
    """Of the source; what its customer still waits for goes to the target's account."""
    return Happening(inquiry_id=event.context["source"]["id"], events=(MergedAway(now),), by=event.actor)


def split(event: DomainEvent, now: int) -> Happening:
    """Of the inquiry that lost a message; the one that was made of it has been opened before."""
    gone = SplitAway(now, _ref(event.context["message"]), event.context["still_waiting_since"])
    return Happening(inquiry_id=event.context["source"]["id"], events=(gone,), by=event.actor)


def updated(event: DomainEvent, now: int) -> Happening | None:
    if (
        event.context["inquiry"]["merged_into_id"] is not None
        and "merged_into_id" in event.payload["changes"]
    ):
        return None  # `inquiry.merged` says it
    return _changed(event, now, event.payload["changes"], cause=event.context.get("cause"))


def handed_off(event: DomainEvent, now: int) -> Happening | None:
    row, before = event.context["inquiry"], event.context.get("before") or {}
    changes = {k: [before[k], row[k]] for k in before if k in row and before[k] != row[k]}
    found = _changed(event, now, changes, cause="handed_off") or Happening(inquiry_id=row["id"])
    events = (*found.events, Enqueued(now)) if _waits_live(row) else found.events
    return Happening(
        inquiry_id=row["id"], events=events, facts=frozenset(FACTS.values()), before=before or None
    )


def assigned(event: DomainEvent, now: int) -> Happening | None:
    """A person has it, or has it no more. For a chat this ends the wait; what was missed before is not his."""
    row, before = event.context["inquiry"], event.context.get("before")
    events: tuple[TicketEvent, ...] = ()
    if event.kind == "inquiry.assigned" and row["channel"] in LIVE_CHANNELS:
        events = (Connected(now),)
    moved = before is not None and any(before[k] != row[k] for k in ("team_id", "assignee_id"))
    if not events and not moved:
        return None
    facts = {"team"} if before is not None and before["team_id"] != row["team_id"] else set()
    return Happening(
        inquiry_id=row["id"], events=events, facts=frozenset(facts), before=before if moved else None
    )


def call_updated(event: DomainEvent, now: int) -> Happening | None:
    """A connected call is an answer at the moment of connection; a missed one is the customer's word."""
    inquiry, row, state = event.context.get("inquiry"), event.context["call"], event.context["state"]
    if inquiry is None:
        return None
    changes: Iterable[CallChange] = event.context["changes"]
    seen = {change.kind: min(change.at, now) for change in changes}
    ref = f"c:{row['id']}"
    events: list[TicketEvent] = []
    if Change.ANSWERED in seen:
        at = seen[Change.ANSWERED]
        events += [Connected(at, ref), MessageWritten(at, Author.AGENT, ref=ref)]
    elif Change.DISPOSITION in seen and state.missed and "waived" in row["data"]:
        return None  # he keeps his place for a callback, or has been answered since
    elif Change.DISPOSITION in seen and state.missed:
        ref = f"{ref}:missed"
        events += [Abandoned(now), MessageWritten(now, Author.CUSTOMER, ref=ref)]
    elif (
        row["direction"] == "inbound"
        and row["state"] in _RINGS
        and {Change.CREATED, Change.RINGING} & seen.keys()
    ):
        return Happening(inquiry_id=inquiry["id"], events=(Enqueued(now, ref),))
    if not events:
        return None
    return Happening(inquiry_id=inquiry["id"], events=tuple(events), everything=True, once=ref)


def _changed(
    event: DomainEvent, now: int, changes: Mapping[str, Any], *, cause: str | None
) -> Happening | None:
    row = event.context["inquiry"]
    events: list[TicketEvent] = []
    earlier = event.context.get("before")
    # A status change ends a snooze without naming it among the changes.
    if earlier is not None and earlier["snooze_until"] != row["snooze_until"]:
        events.append(PauseSet(now, SNOOZE, on=row["snooze_until"] is not None))
    if "status" in changes:
        old, new = changes["status"]
        if row["outcome"] in DISCARDED and new in _OVER:
            events.append(Discarded(now, row["outcome"], Status(new)))
        else:
            events.append(StatusChanged(now, Status(new), cause))
        if old in _OVER and new not in _OVER and _waits_live(row):
            events.append(Enqueued(now))
    elif row["outcome"] in DISCARDED and "outcome" in changes and row["status"] in _OVER:
        events.append(Discarded(now, row["outcome"], Status(row["status"])))
    facts = {FACTS[name] for name in changes if name in FACTS}
    if "status" in changes and changes["status"][0] in _OVER and changes["status"][1] not in _OVER:
        # Rules that were made while it was over passed it by; it is open again, so they hold for it as for the others.
        facts.update(FACTS.values())
    if "fields" in changes:
        old, new = changes["fields"]
        facts |= {f"custom.{name}" for name in {*old, *new} if old.get(name) != new.get(name)}
    moved = "team_id" in changes or "assignee_id" in changes
    before = earlier if moved else None
    if not events and not facts and before is None:
        return None
    return Happening(
        inquiry_id=row["id"],
        events=tuple(events),
        facts=frozenset(facts),
        before=before,
        by=event.actor,
        everything=any(isinstance(e, Discarded) for e in events),
    )


def _accepted(row: Mapping[str, Any], inquiry_id: int, now: int) -> Happening:
    author = _author(row)
    return Happening(
        inquiry_id=inquiry_id,
        events=(MessageWritten(now, author, ref=_ref(row)),),
        minor=author is Author.BOT,
    )


def _author(row: Mapping[str, Any]) -> Author:
    # The role is the one stored when the message was written; an agent's automatic answer is a program's.
    return Author.AGENT if row["author_kind"] == "agent" and not row["automatic"] else Author.BOT


def _waits_live(row: Mapping[str, Any]) -> bool:
    return row["channel"] in LIVE_CHANNELS and not row["held_by_bot"] and row["assignee_id"] is None


def _ref(row: Mapping[str, Any]) -> str:
    return f"m:{row['id']}"
