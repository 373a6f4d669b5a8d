"""The SLA machine: (clocks of one ticket, what happened) -> (new clocks, ledger entries). Pure.

Owns which happening moves which clock, for all eight metrics. Must not read a database, a clock of the
system or any configuration but its arguments; arithmetic with time is in `routing.sla.timing`.

State is loaded for one ticket, one happening is applied, the changed clocks are written back in the same
transaction. Applying a ticket's history from the beginning gives the same clocks.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from crm_core.clock import MINUTE
from routing.sla import timing
from routing.sla.clock import (
    ONCE_METRICS,
    REPLY_METRICS,
    UPDATE_METRICS,
    Clock,
    ClockState,
    Metric,
    SlaEvent,
    Status,
    TicketClocks,
    TicketFacts,
)
from routing.sla.policy import PAUSED_BY, SNOOZE, WAITING, Rulebook, Terms
from routing.sla.ticket_events import (
    Abandoned,
    Author,
    CalendarEdited,
    Connected,
    Created,
    Discarded,
    Enqueued,
    MergedAway,
    MergeReceived,
    MessageWritten,
    PauseSet,
    ReplyHidden,
    SendFailed,
    SplitAway,
    StatusChanged,
    TermsChanged,
    TicketEvent,
)
from routing.sla.timing import Moved

#: A channel's report of failure takes a reply back only this long after the reply was counted.
UNSEND_WINDOW_MS = 10 * MINUTE
#: cause of what a split ends and begins
SPLIT = "split"
_OVER = (Status.SOLVED, Status.CLOSED)


@dataclass(frozen=True, slots=True)
class Outcome:
    state: TicketClocks
    changed: tuple[Clock, ...]
    """Clocks to write: new ones and those that differ, in order of metric and instance."""
    events: tuple[SlaEvent, ...]
    follow_up: bool = False
    """The customer wrote on a closed ticket: open a new one, with clocks of its own."""


def apply(state: TicketClocks, event: TicketEvent, terms: Terms, rules: Rulebook) -> Outcome:
    """What one happening does to the clocks of one ticket. `terms` are those in force after it.

    Raises UnknownRuleError when the rulebook lacks a calendar or policy version a clock needs.
    """
    run = _Run(state.facts, {clock.key: clock for clock in state.clocks}, terms, rules)
    follow_up = run.dispatch(event)
    clocks = tuple(run.clocks[key] for key in sorted(run.clocks))
    before = {clock.key: clock for clock in state.clocks}
    changed = tuple(clock for clock in clocks if before.get(clock.key) != clock)
    return Outcome(TicketClocks(run.facts, clocks), changed, tuple(run.events), follow_up)


def replay(events: Iterable[tuple[TicketEvent, Terms]], rules: Rulebook) -> TicketClocks:
    """The clocks of a ticket rebuilt from its whole history."""
    state = TicketClocks()
    for event, terms in events:
        state = apply(state, event, terms, rules).state
    return state


@dataclass
class _Run:
    """The mutable middle of one `apply`."""

    facts: TicketFacts
    clocks: dict[tuple[Metric, int], Clock]
    terms: Terms
    rules: Rulebook
    events: list[SlaEvent] = field(default_factory=list)

    def dispatch(self, event: TicketEvent) -> bool:
        """Returns whether a follow-up ticket is needed."""
        closed = self.facts.status is Status.CLOSED
        match event:
            case Created():
                self.create(event)
            case MessageWritten(by=Author.CUSTOMER, public=True):
                if closed:
                    return True
                self.customer_message(event.at, event.ref)
            case MessageWritten():
                if not closed and event.by is not Author.CUSTOMER:
                    self.our_message(event)
            case SendFailed():
                self.send_failed(event)
            case StatusChanged():
                if not closed:
                    self.change_status(event.at, event.to, event.cause)
            case PauseSet():
                self.set_pause(event.at, event.reason, on=event.on)
            case TermsChanged():
                for clock in self.live():
                    self.put(
                        timing.retarget(
                            clock, event.at, self.terms, self.rules, cause=event.cause, by=event.by
                        )
                    )
                self.repause_all(event.at, event.cause)
            case CalendarEdited():
                for clock in self.live():
                    self.put(timing.recalendar(clock, event.at, self.rules))
            case MergedAway():
                self.change_status(event.at, Status.CLOSED, "merge")
            case MergeReceived():
                self.merge_received(event)
            case SplitAway():
                self.split_away(event)
            case ReplyHidden():
                for clock in self.clocks.values():
                    if clock.fulfilled_by == event.ref:
                        self.put(timing.note(clock, event.at, "reply_hidden", event.ref))
            case Discarded():
                for key in sorted(self.clocks):
                    if self.clocks[key].state is not ClockState.CANCELLED:
                        self.put(timing.cancel(self.clocks[key], event.at, event.cause, self.rules))
                self.facts = replace(self.facts, status=event.to, status_since=event.at)
            case Enqueued():
                if not self.live(Metric.SPEED_OF_ANSWER):
                    self.start(Metric.SPEED_OF_ANSWER, event.at, event.ref, "enqueued")
            case Connected():
                for clock in self.live(Metric.SPEED_OF_ANSWER):
                    self.put(timing.fulfil(clock, event.at, "answered", self.rules, event.ref))
            case Abandoned():
                for clock in self.live(Metric.SPEED_OF_ANSWER):
                    self.put(timing.cancel(clock, event.at, event.cause, self.rules))
        return False

    def create(self, event: Created) -> None:
        if self.clocks:
            return  # delivered twice
        self.facts = TicketFacts(status=event.status, status_since=event.at)
        if event.status not in _OVER:
            for metric in ONCE_METRICS:
                self.start(metric, event.at, event.ref, "created")
        if event.by is Author.CUSTOMER and event.public:
            self.customer_waits(event.at, event.ref)
        elif event.by is Author.AGENT and event.public:
            self.facts = replace(self.facts, replied=True)
            self.restart_updates(UPDATE_METRICS, event.at, event.ref)

    def customer_message(self, at: int, ref: str | None) -> None:
        self.facts = replace(
            self.facts, pauses=tuple(p for p in self.facts.pauses if p not in (WAITING, SNOOZE))
        )
        if self.facts.status in (Status.PENDING, Status.HOLD, Status.SOLVED):
            self.change_status(at, Status.OPEN, "customer", by_customer=True)
        else:
            self.repause_all(at, "customer")
        self.customer_waits(at, ref)

    def customer_waits(self, at: int, ref: str | None) -> None:
        """The oldest unanswered message counts: nothing happens while a reply clock runs."""
        self.facts = replace(self.facts, customer_last=True)
        if self.facts.status not in _OVER and not self.live(*REPLY_METRICS):
            self.start(self.reply_metric(), at, ref, "customer")

    def reply_metric(self) -> Metric:
        had_first = any(
            clock.metric is Metric.FIRST_REPLY
            and not (clock.state is ClockState.CANCELLED and clock.cause == SPLIT)
            for clock in self.clocks.values()
        )
        return Metric.NEXT_REPLY if had_first or self.facts.replied else Metric.FIRST_REPLY

    def our_message(self, event: MessageWritten) -> None:
        human = event.by is Author.AGENT
        policy = self.terms.policy
        counted = {
            metric
            for metric in (*REPLY_METRICS, *UPDATE_METRICS)
            if (human and event.public)
            or (policy is not None and not human and event.public and metric in policy.bot_counts)
            or (policy is not None and human and not event.public and metric in policy.note_counts)
        }
        for metric in REPLY_METRICS:
            if metric in counted:
                for clock in self.live(metric):
                    self.put(timing.fulfil(clock, event.at, "reply", self.rules, event.ref))
        updates = [metric for metric in UPDATE_METRICS if metric in counted]
        if human and event.public:
            self.facts = replace(self.facts, replied=True)
            # Who is written to in a chat has been answered, accepted offer or not. A ringing call has not.
            for clock in self.live(Metric.SPEED_OF_ANSWER):
                if clock.state is ClockState.ACTIVE and not (clock.activated_by or "").startswith("c:"):
                    self.put(timing.fulfil(clock, event.at, "answered", self.rules, event.ref))
            if self.facts.status is Status.NEW:
                self.change_status(event.at, Status.OPEN, "reply")
        if counted.intersection(REPLY_METRICS) and not self.live(*REPLY_METRICS):
            self.facts = replace(self.facts, customer_last=False)
        self.restart_updates(updates, event.at, event.ref)

    def restart_updates(self, metrics: Iterable[Metric], at: int, ref: str | None) -> None:
        for metric in metrics:
            for clock in self.live(metric):
                self.put(timing.fulfil(clock, at, "reply", self.rules, ref))
            if self.facts.status not in _OVER:
                self.start(metric, at, ref, "reply")

    def change_status(self, at: int, to: Status, cause: str | None, *, by_customer: bool = False) -> None:
        was = self.facts.status
        if to is was:
            return
        self.facts = replace(self.facts, status=to, status_since=at)
        if to in _OVER:
            for clock in self.live():
                self.put(timing.fulfil(clock, at, cause or str(to), self.rules))
            return
        if was in _OVER:
            for metric in ONCE_METRICS:
                for clock in self.of(metric):
                    if clock.state is ClockState.FULFILLED:
                        reasons = self.reasons(metric)
                        self.put(
                            timing.reopen(clock, at, self.terms, self.rules, reasons=reasons, cause=cause)
                        )
                if not self.of(metric):  # created solved
                    self.start(metric, at, None, "reopen")
            if self.facts.customer_last and not by_customer:
                self.customer_waits(at, None)
            return
        self.repause_all(at, cause or "status")

    def set_pause(self, at: int, reason: str, *, on: bool) -> None:
        pauses = {*self.facts.pauses, reason} if on else {*self.facts.pauses} - {reason}
        self.facts = replace(self.facts, pauses=tuple(sorted(pauses)))
        self.repause_all(at, reason)

    def send_failed(self, event: SendFailed) -> None:
        """Undoes what message `ref` did, unless it is too long ago or a later reply stands in for it."""
        undone = [
            clock
            for clock in self.clocks.values()
            if clock.fulfilled_by == event.ref
            and clock.state is ClockState.FULFILLED
            and clock.fulfilled_at is not None
            and event.at - clock.fulfilled_at <= UNSEND_WINDOW_MS
        ]
        begun = [
            clock
            for clock in self.clocks.values()
            if clock.activated_by == event.ref
            and clock.metric in UPDATE_METRICS
            and clock.state is not ClockState.CANCELLED
            and event.at - clock.activated_at <= UNSEND_WINDOW_MS
        ]
        if not undone and not begun:
            return
        # The update clocks the message began show what came after it: the next reply, or the solving.
        later = next((clock for clock in begun if clock.state is ClockState.FULFILLED), None)
        for clock in begun:
            self.put(timing.cancel(clock, event.at, "send_failed", self.rules))
        waiting = False
        for clock in undone:
            since = clock.fulfilled_at or clock.changed_at
            if clock.metric in REPLY_METRICS:
                self.unask(clock, since, later, event.at)
                waiting = True
            held = self.reasons(clock.metric)
            back = timing.unfulfil(
                clock,
                event.at,
                self.rules,
                reasons=() if later else held,
                held_since=self.facts.status_since,
                cause="send_failed",
            )
            self.put(back)
            if later is not None and later.fulfilled_at is not None:
                stood_in = self.clocks[clock.key]
                end = timing.fulfil(
                    stood_in, later.fulfilled_at, later.cause or "reply", self.rules, later.fulfilled_by
                )
                self.put(end)
        earlier_reply = any(
            clock.metric in UPDATE_METRICS and clock.state is not ClockState.CANCELLED
            for clock in self.clocks.values()
        )
        self.facts = replace(
            self.facts,
            customer_last=self.facts.customer_last or (waiting and (later is None or later.cause != "reply")),
            replied=earlier_reply,
        )
        answered = any(c.state is not ClockState.CANCELLED and not c.live for c in self.of(Metric.NEXT_REPLY))
        if self.reply_metric() is Metric.FIRST_REPLY and not answered:
            # What was asked after the only reply there was, is asked before there is any.
            for clock in self.live(Metric.NEXT_REPLY):
                self.put(timing.cancel(clock, event.at, "send_failed", self.rules))
                self.start_since(Metric.FIRST_REPLY, clock.activated_at, event.at, "send_failed")

    def unask(self, undone: Clock, since: int, later: Clock | None, at: int) -> None:
        """The question before the failed reply is unanswered again, so those asked between it and what stands in for it
        are not the oldest: they were never owed an answer of their own. Those asked later still are.
        """
        for younger in self.of(Metric.NEXT_REPLY):
            if younger.key == undone.key or younger.activated_at < since:
                continue
            over = younger.fulfilled_at if younger.state is ClockState.FULFILLED else None
            stands_in = later.fulfilled_at if later is not None else None
            between = stands_in is None or (over is not None and over <= stands_in)
            if between and younger.state is not ClockState.CANCELLED:
                self.put(timing.cancel(younger, at, "send_failed", self.rules))

    def merge_received(self, event: MergeReceived) -> None:
        if event.waiting_since is None or self.facts.status in _OVER:
            return
        waiting = self.live(*REPLY_METRICS)
        for clock in waiting:
            self.put(timing.backdate(clock, event.waiting_since, event.at, self.rules, "merge"))
        if not waiting:
            self.facts = replace(self.facts, customer_last=True)
            self.start_since(self.reply_metric(), event.waiting_since, event.at, "merge")

    def split_away(self, event: SplitAway) -> None:
        """What the message asked is asked elsewhere; what was asked besides it is still owed here."""
        gone = [clock for clock in self.live(*REPLY_METRICS) if clock.activated_by == event.ref]
        for clock in gone:
            self.put(timing.cancel(clock, event.at, SPLIT, self.rules))
        if not gone:
            return
        self.facts = replace(self.facts, customer_last=event.waiting_since is not None)
        if event.waiting_since is None or self.facts.status in _OVER:
            return
        self.start_since(self.reply_metric(), event.waiting_since, event.at, SPLIT)

    def start(self, metric: Metric, at: int, ref: str | None, cause: str) -> None:
        instance = 1 + max((clock.instance for clock in self.of(metric)), default=0)
        reasons = self.reasons(metric)
        self.put(
            timing.activate(
                metric, instance, at, self.terms, self.rules, reasons=reasons, ref=ref, cause=cause
            )
        )

    def start_since(self, metric: Metric, since: int, at: int, cause: str) -> None:
        """Start a clock of which is learned at `at` that it should have been running since."""
        self.start(metric, at, None, cause)
        for clock in self.live(metric):
            self.put(timing.backdate(clock, since, at, self.rules, cause))

    def repause_all(self, at: int, cause: str) -> None:
        for clock in self.live():
            self.put(timing.repause(clock, at, self.reasons(clock.metric), self.rules, cause))

    def reasons(self, metric: Metric) -> tuple[str, ...]:
        """Why a clock of this metric would be paused now."""
        policy = self.terms.policy
        words = policy.paused_by(metric) if policy is not None else PAUSED_BY[metric]
        held = {"status"} if self.facts.status in words else set()
        return tuple(sorted(held.union(words.intersection(self.facts.pauses))))

    def of(self, metric: Metric) -> list[Clock]:
        return [clock for clock in self.clocks.values() if clock.metric is metric]

    def live(self, *metrics: Metric) -> list[Clock]:
        chosen = [
            clock for clock in self.clocks.values() if clock.live and (not metrics or clock.metric in metrics)
        ]
        return sorted(chosen, key=lambda clock: clock.key)

    def put(self, moved: Moved) -> None:
        clock, events = moved
        self.clocks[clock.key] = clock
        self.events.extend(events)
