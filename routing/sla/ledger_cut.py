"""A clock's ledger entries cut into segments: when it ran, when it stood still, and what each stretch counted.

Pure. Owns the arithmetic that proves a clock: every segment is measured anew from its calendar, so that the sum is a
second opinion on what the engine wrote, not a copy of it. Reads no database.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from routing.business_time import ALWAYS_OPEN, Calendar, Interval
from routing.sla.clock import Clock, ClockState, EventKind

RAN, PAUSED, OVER = "ran", "paused", "over"
_ENDS = (EventKind.FULFIL, EventKind.CANCEL)
#: gives the hours of (calendar, version), as the engine would
Hours = Callable[[int | None, int | None], Calendar]


@dataclass(frozen=True, slots=True)
class Terms:
    """What was promised and by whose hours it was counted."""

    business: bool = True
    calendar_id: int | None = None
    calendar_version: int | None = None
    target_ms: int | None = None
    policy_id: int | None = None
    """The row of the policy's version. None: no policy, or an entry from before ledgers named it."""
    priority: str | None = None

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Terms":
        return cls(
            data.get("business", True),
            data.get("calendar_id"),
            data.get("calendar_version"),
            data.get("target_ms"),
            data.get("policy_id"),
            data.get("priority"),
        )

    @property
    def hours(self) -> tuple[int | None, int | None]:
        return self.calendar_id, self.calendar_version


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of one clock's life, [start, end) in ms. `end` None: it lasts.

    `counted_ms` is what it adds to the elapsed time in the measure (business or plain) that the clock has at the end;
    a target that changed the measure counts what was before anew, as the engine does. A pause adds nothing.
    `total_ms` is the sum up to its end. `due_at` and `breach_at` are the edges of the deadline while it ran.
    """

    start: int
    end: int | None
    what: str
    """ran, paused, or over (between an end and a reopening)"""
    why: str | None
    terms: Terms
    counted_ms: int = 0
    total_ms: int = 0
    due_at: int | None = None
    breach_at: int | None = None
    until: int = 0
    """`end`, or the present for a segment that lasts."""


@dataclass(frozen=True, slots=True)
class Proof:
    """Whether the segments and the engine agree, and what the breach rests on."""

    sum_ms: int
    """Of all segments."""
    engine_ms: int
    """What the engine has for the same instant."""
    breached_at: int | None = None
    elapsed_at_breach_ms: int | None = None
    """Counted up to the breach: the target itself at a deadline, more than it after a change of the promise."""
    target_ms: int | None = None
    """In force at the breach."""
    cause: str | None = None
    """deadline, or the change that made the promise a broken one"""

    @property
    def agrees(self) -> bool:
        return self.sum_ms == self.engine_ms


def cut(entries: Iterable[Mapping[str, Any]], clock: Clock, hours: Hours, now: int) -> list[Segment]:
    """Segments of a clock up to `now`, of its ledger entries {kind, at, cause, data} in the order they were written."""
    knife = _Knife()
    for entry in entries:
        knife.take(entry)
    return knife.finish(clock, hours, now)


class _Knife:
    def __init__(self) -> None:
        self.done: list[Segment] = []
        self.what = ""
        self.why: str | None = None
        self.start = 0
        self.terms = Terms()
        self.run = 0
        """Index of the first segment of the run that the engine has not added up yet."""

    def take(self, entry: Mapping[str, Any]) -> None:
        kind, at, data = EventKind(entry["kind"]), entry["at"], entry["data"]
        after = Terms.of(data)
        if kind is EventKind.RETARGET and "new_activated_at" in data:
            self._backdate(data["new_activated_at"], data["activated_at"], entry["cause"])
            return
        if (
            kind is EventKind.REOPEN
            and entry["cause"] == "send_failed"
            and data.get("fulfilled_at") is not None
        ):
            at = data["fulfilled_at"]  # the reply did not arrive: the time since it counts after all
        what, why = _next(kind, entry, self.what)
        if kind in (EventKind.BREACH, EventKind.RETRACT, EventKind.WARN, EventKind.NOTE):
            return
        same = what == self.what and (why is None or why == self.why)
        if same and after == self.terms:
            return
        if kind is EventKind.RETARGET and what != RAN:
            # Nothing is counted now, so nothing is cut: what is told late may still move the end of this stretch.
            self.terms = after
            return
        self._close(at)
        if kind is EventKind.RETARGET:
            self._retarget(after, by_calendar=entry["cause"] == "calendar")
        elif what != self.what:
            self.run = len(self.done)
        if not same:
            self.why = why
        self.what, self.start, self.terms = what, max(at, self.start), after

    def _close(self, at: int) -> None:
        if self.what == RAN and at < self.start:
            # Told late: it happened before a change of the promise within this run, which then counts no further.
            floor = self.done[self.run].start if self.run < len(self.done) else self.start
            at = max(at, floor)
            kept = [piece for piece in self.done[self.run :] if piece.start < at]
            self.done[self.run :] = [
                replace(piece, end=min(piece.until, at), until=min(piece.until, at)) for piece in kept
            ]
            self.start = at
            return
        if self.what and at > self.start:
            self.done.append(Segment(self.start, at, self.what, self.why, self.terms, until=at))

    def _backdate(self, begin: int, former: int, cause: str | None) -> None:
        """A merge or a split taught that the wait had begun earlier."""
        if self.run == 0 and self.what == RAN:
            # Still the first run: it simply began earlier, and is measured as one.
            self.done.insert(0, Segment(begin, former, RAN, cause, self.terms, until=former))
            return
        self.done.insert(0, Segment(begin, former, RAN, cause, self.terms, until=former))
        self.run += 1

    def _retarget(self, after: Terms, *, by_calendar: bool) -> None:
        if after.hours == self.terms.hours:
            return
        if self.terms.target_ms is not None or by_calendar:
            self.run = len(self.done)
            return
        # Nothing had been promised until now, so the whole present run is measured by the new hours.
        for i in range(self.run, len(self.done)):
            old = self.done[i]
            moved = replace(old.terms, calendar_id=after.calendar_id, calendar_version=after.calendar_version)
            self.done[i] = replace(old, terms=moved)

    def finish(self, clock: Clock, hours: Hours, now: int) -> list[Segment]:
        if self.what and self.what != OVER:
            lasts = clock.state in (ClockState.ACTIVE, ClockState.PAUSED)
            until = max(now, self.start)
            self.done.append(
                Segment(self.start, None if lasts else until, self.what, self.why, self.terms, until=until)
            )
        total, shown = 0, []
        for piece in self.done:
            counted = 0
            due = last = None
            if piece.what == RAN:
                measure = hours(*piece.terms.hours) if clock.business else ALWAYS_OPEN
                counted = measure.elapsed(piece.start, piece.until)
                due, last = _deadline(piece, total, hours)
            total += counted
            shown.append(replace(piece, counted_ms=counted, total_ms=total, due_at=due, breach_at=last))
        return shown


def _deadline(piece: Segment, before: int, hours: Hours) -> tuple[int | None, int | None]:
    """(due, last instant in time) as they stood while the segment ran, with `before` counted until it began."""
    if piece.terms.target_ms is None:
        return None, None
    measure = hours(*piece.terms.hours) if piece.terms.business else ALWAYS_OPEN
    left = piece.terms.target_ms - before
    if left < 0:
        back = measure.back_first(piece.start, -left)
        return back, back
    return measure.due_first(piece.start, left), measure.due_last(piece.start, left)


def _next(kind: EventKind, entry: Mapping[str, Any], what: str) -> tuple[str, str | None]:
    """What the clock does after an entry, and why; no reason means the former one goes on."""
    if kind is EventKind.PAUSE:
        return PAUSED, ", ".join(entry["data"].get("reasons") or []) or entry["cause"]
    if kind in _ENDS:
        return OVER, entry["cause"]
    if kind is EventKind.REOPEN and entry["cause"] == "send_failed":
        return RAN, entry["cause"]  # a pause that held meanwhile is an entry of its own
    if kind in (EventKind.ACTIVATE, EventKind.REOPEN):
        held = entry["data"].get("pause_reasons") or []
        return (PAUSED, ", ".join(held)) if held else (RAN, entry["cause"])
    if kind is EventKind.RESUME:
        return RAN, entry["cause"]
    return what, None


def prove(
    segments: list[Segment], entries: Iterable[Mapping[str, Any]], clock: Clock, engine_ms: int, hours: Hours
) -> Proof:
    """The sum beside the engine's own number, and the count at the breach."""
    total = segments[-1].total_ms if segments else 0
    if clock.breached_at is None:
        return Proof(total, engine_ms)
    entry = next(
        (
            e
            for e in reversed(list(entries))
            if e["kind"] == EventKind.BREACH and e["at"] == clock.breached_at
        ),
        None,
    )
    data = entry["data"] if entry is not None else {}
    business = data.get("business", clock.business)
    at_breach = 0
    for piece in segments:
        if piece.what == RAN and piece.start < clock.breached_at:
            measure = hours(*piece.terms.hours) if business else ALWAYS_OPEN
            at_breach += measure.elapsed(piece.start, min(piece.until, clock.breached_at))
    return Proof(
        total,
        engine_ms,
        clock.breached_at,
        at_breach,
        data.get("target_ms", clock.target_ms),
        entry["cause"] if entry is not None else None,
    )


def open_within(piece: Segment, clock: Clock, hours: Hours, limit: int) -> list[Interval]:
    """The open intervals of a segment's hours within it: what a customer adds up by hand. None while it stood still."""
    if piece.what != RAN:
        return []
    measure = hours(*piece.terms.hours) if clock.business else ALWAYS_OPEN
    return measure.open_between(piece.start, piece.until, limit)
