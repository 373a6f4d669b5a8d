"""SLA listeners: what the core's facts do to the clocks of an inquiry, in the same transaction.

Owns the order of one step: lock the inquiry, load its clocks, choose the policy, let the machine decide, write. The
composition root registers `LISTENERS` before those of bots and routing, because routing orders by the deadlines.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import select

from crm_core.db.uow import UnitOfWork
from crm_core.events import DomainEvent, Listener
from crm_core.jobs import JobRegistry
from crm_core.schema import inquiry
from routing.sla import book as books
from routing.sla import record, remeasure, store, timing, translate
from routing.sla.clock import REPLY_METRICS, Clock, ClockState, SlaEvent, Status, TicketClocks
from routing.sla.machine import apply
from routing.sla.policy import Rulebook, Terms
from routing.sla.record import Entry, Progress
from routing.sla.ticket_events import (
    Author,
    CalendarEdited,
    Created,
    MergeReceived,
    TermsChanged,
    TicketEvent,
)
from routing.sla.translate import Happening

#: inquiries of one contact that are looked at when the contact becomes a VIP
_MAX_OF_CONTACT = 200


async def happen(uow: UnitOfWork, happening: Happening) -> Progress | None:
    """Apply one happening to the clocks of its inquiry. None: it moves nothing."""
    inquiry_id = happening.inquiry_id
    if await _moves_nothing(uow, happening):
        return None
    ticket = await store.lock_ticket(uow, inquiry_id)
    if ticket is None:
        return None
    book = await books.load(uow.conn, ticket)
    if happening.opened:
        stored = store.stored_of(inquiry_id, ())
    else:
        stored = (await store.load(uow, [inquiry_id], everything=happening.everything))[inquiry_id]
    progress = advance(book, ticket, stored, happening, uow.now)
    await record.write(uow, [progress], book)
    return progress


async def _moves_nothing(uow: UnitOfWork, happening: Happening) -> bool:
    """Whether it can be told without the clocks."""
    if happening.before is not None and not happening.events and not happening.facts:
        # It only changed hands, which locked it: the clocks run on, unless one is due on the former's account.
        return not await store.is_due(uow, happening.inquiry_id)
    if happening.minor:
        return not (await books.load(uow.conn)).counts_others
    if not happening.events and happening.before is None:
        return not watches(await books.load(uow.conn), happening.facts)
    return False


def watches(book: books.Book, facts: Iterable[str]) -> bool:
    return not book.watched.isdisjoint(facts)


def advance(
    book: books.Book, ticket: Mapping[str, Any], stored: store.Stored, happening: Happening, now: int
) -> Progress:
    """What a happening does to a ticket. Pure."""
    walk = _Walk(book, ticket, stored)
    if happening.once is not None and walk.knows(happening.once):
        return walk.done()
    if happening.before is not None:
        walk.fire_due(now, {**ticket, **happening.before})
    again = watches(book, happening.facts)
    policy = book.choose(books.facts_of(ticket), stored.note.policy_id, again=again or not stored.known)
    note = store.Note(policy.id if policy is not None else None, ticket["priority"])
    terms = book.terms(policy, ticket["priority"], ticket["team_calendar_id"])
    events = list(happening.events)
    if not stored.known and not isinstance(events[0] if events else None, Created):
        # From before there were clocks: what it waited for the answer is not known, the rest is.
        began = Created(ticket["created_at"], Author.BOT, public=False, status=Status(ticket["status"]))
        events.insert(0, began)
    elif stored.known and note != stored.note:
        cause = "priority" if note.policy_id == stored.note.policy_id else "policy"
        # New terms hold for what happens now, so they come first.
        events.insert(0, TermsChanged(now, cause, happening.by))
    for event in events:
        walk.take(event, terms)
    return walk.done(note, opened=happening.opened)


class _Walk:
    """One ticket on its way through the events of one happening, with the ledger it leaves."""

    def __init__(self, book: books.Book, ticket: Mapping[str, Any], stored: store.Stored) -> None:
        self._book, self._ticket, self._stored = book, ticket, stored
        self._state = stored.state
        self._entries: list[Entry] = []

    def knows(self, ref: str) -> bool:
        return any(ref in (clock.activated_by, clock.fulfilled_by) for clock in self._state.clocks)

    def rules(self) -> Rulebook:
        return self._book.rules(self._state.clocks)

    def take(self, event: TicketEvent, terms: Terms) -> None:
        outcome = apply(self._state, event, terms, self.rules())
        self._note(self._state.clocks, outcome.state.clocks, outcome.events, self._ticket)
        self._state = outcome.state

    def fire_due(self, now: int, owner: Mapping[str, Any]) -> None:
        """What became due before now and no sweeper has seen yet, on the account of `owner`."""
        clocks, events = fire_all(self._state.clocks, now, self.rules())
        self._note(self._state.clocks, clocks, events, owner)
        self._state = TicketClocks(self._state.facts, clocks)

    def done(self, note: store.Note | None = None, *, opened: bool = False) -> Progress:
        kept = note if note is not None else self._stored.note
        return Progress(self._ticket, self._stored, self._state, kept, self._entries, opened)

    def _note(
        self,
        before: Sequence[Clock],
        after: Sequence[Clock],
        events: Iterable[SlaEvent],
        owner: Mapping[str, Any],
    ) -> None:
        old, new = {c.key: c for c in before}, {c.key: c for c in after}
        for event in events:
            key = event.metric, event.instance
            self._entries.append(Entry(event, old.get(key), new[key], owner))


def fire_all(
    clocks: Sequence[Clock], now: int, rules: Rulebook
) -> tuple[tuple[Clock, ...], tuple[SlaEvent, ...]]:
    """Every clock that is due, fired."""
    moved: list[Clock] = []
    events: list[SlaEvent] = []
    for clock in clocks:
        if clock.state is ClockState.ACTIVE and clock.next_fire_at is not None and clock.next_fire_at <= now:
            fired, told = timing.fire(clock, now, rules)
            moved.append(fired)
            events += told
        else:
            moved.append(clock)
    return tuple(moved), tuple(events)


async def fire_locked(uow: UnitOfWork, tickets: Mapping[int, Mapping[str, Any]], book: books.Book) -> int:
    """Fire what is due on these locked inquiries. Returns the number of ledger entries."""
    stored = await store.load_due(uow, list(tickets))
    progress = []
    for inquiry_id, ticket in tickets.items():
        walk = _Walk(book, ticket, stored[inquiry_id])
        walk.fire_due(uow.now, ticket)
        progress.append(walk.done())
    await record.write(uow, progress, book, firing=True, only=store.FIRED)
    return sum(len(p.entries) for p in progress)


async def revise(
    uow: UnitOfWork, inquiry_ids: Sequence[int], *, calendars: bool, by: str | None = None
) -> int:
    """Bring open inquiries to the rules in force: newer calendars, or the policy that fits now. Returns how many
    changed.
    """
    book = await books.load(uow.conn)
    followed = 0
    if calendars:
        followed, inquiry_ids = await remeasure.follow(uow, book, inquiry_ids)
        if not inquiry_ids:
            return followed
    tickets = await store.lock_tickets(uow, inquiry_ids)
    stored = await store.load(uow, list(tickets))
    progress = []
    for inquiry_id, ticket in tickets.items():
        if not stored[inquiry_id].known:
            continue
        event = (CalendarEdited(uow.now),) if calendars else ()
        facts: frozenset[str] = frozenset() if calendars else book.watched
        what = Happening(inquiry_id=inquiry_id, events=event, facts=facts, by=by)
        done = advance(book, ticket, stored[inquiry_id], what, uow.now)
        if done.after != done.stored.state or done.note != done.stored.note:
            progress.append(done)
    # With other hours and the same terms only the measure of time moves.
    same = calendars and all(p.note == p.stored.note for p in progress)
    await record.write(uow, progress, book, only=store.REMEASURED if same else None)
    return followed + len(progress)


# --- listeners ------------------------------------------------------------------------------------------------
def _listener(read: Callable[[DomainEvent, int], Happening | None]) -> Listener:
    async def listen(uow: UnitOfWork, event: DomainEvent) -> None:
        happening = read(event, uow.now)
        if happening is None:
            return
        await happen(uow, happening)

    listen.__name__ = f"sla_{read.__name__}"
    return listen


async def on_merged(uow: UnitOfWork, event: DomainEvent) -> None:
    """The source's clocks end uncounted; the target answers for its oldest unanswered message as well."""
    progress = await happen(uow, translate.merged(event, uow.now))
    if progress is None:
        return
    waiting = [c.activated_at for c in progress.stored.state.clocks if c.live and c.metric in REPLY_METRICS]
    received = MergeReceived(uow.now, min(waiting, default=None))
    await happen(uow, Happening(inquiry_id=event.context["target"]["id"], events=(received,), by=event.actor))


async def on_contact_updated(uow: UnitOfWork, event: DomainEvent) -> None:
    """A contact became a VIP, moved to another company, got tags: his open inquiries may have another policy."""
    changes = event.payload.get("changes", {})
    facts = {"vip"} if "vip" in changes else set()
    facts |= {"company", "company_tags"} if "company_id" in changes else set()
    facts |= {"contact_tags", "country"} if "attributes" in changes else set()
    if not facts or not watches(await books.load(uow.conn), facts):
        return
    rows = await uow.rows(
        select(inquiry.c.id)
        .where(inquiry.c.contact_id == event.subject_id, inquiry.c.status.not_in(("solved", "closed")))
        .order_by(inquiry.c.id)
        .limit(_MAX_OF_CONTACT)
    )
    for row in rows:
        await happen(uow, Happening(inquiry_id=row["id"], facts=frozenset(facts)))


LISTENERS: dict[str, tuple[Listener, ...]] = {
    "inquiry.opened": (_listener(translate.opened),),
    "inquiry.updated": (_listener(translate.updated),),
    "inquiry.handed_off": (_listener(translate.handed_off),),
    "inquiry.merged": (on_merged,),
    "inquiry.split": (_listener(translate.split),),
    "inquiry.assigned": (_listener(translate.assigned),),
    "inquiry.unassigned": (_listener(translate.assigned),),
    "message.added": (_listener(translate.message_added),),
    "message.state_changed": (_listener(translate.message_state_changed),),
    "message.edited": (_listener(translate.message_edited),),
    "call.updated": (_listener(translate.call_updated),),
    "callback.booked": (_listener(translate.callback),),
    "callback.kept": (_listener(translate.callback),),
    "callback.cancelled": (_listener(translate.callback),),
    "contact.updated": (on_contact_updated,),
}


def declare(registry: JobRegistry) -> None:
    """All jobs of the SLA: the actions of steps, and open inquiries after an edit of the rules."""
    from routing.sla import actions, edit  # they stand above this module

    actions.declare(registry)
    edit.declare(registry)
