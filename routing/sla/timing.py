"""What can happen to one clock: run, pause, end, be retargeted, fire. Pure functions.

Each returns the new clock and its ledger entries. Owns every computation with time; which clock is moved by
which happening is `routing.sla.machine`'s business. A clock is judged by `elapsed <= target` at the moment
something happens to it, never by when somebody looked.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import takewhile
from typing import Any

from crm_core.clock import SECOND
from routing.business_time import ALWAYS_OPEN, Calendar
from routing.sla import runs
from routing.sla.clock import Clock, ClockState, EventKind, Metric, SlaEvent
from routing.sla.policy import Rulebook, Target, Terms
from routing.sla.steps import Step

#: A step fired this long after its moment is marked late: the sweeper was down or overloaded.
LATE_MS = 5 * SECOND

Moved = tuple[Clock, tuple[SlaEvent, ...]]

replace = Clock.but


def measure(clock: Clock, rules: Rulebook) -> Calendar:
    return rules.calendar(clock.calendar_id, clock.calendar_version) if clock.business else ALWAYS_OPEN


def elapsed_ms(clock: Clock, at: int, rules: Rulebook) -> int:
    """Consumed time at an instant, in the measure of the target in force."""
    if clock.running_since is None:
        return clock.consumed_ms
    return clock.consumed_ms + measure(clock, rules).elapsed(clock.running_since, at)


def paused_total_ms(clock: Clock, at: int) -> int:
    """Plain time spent paused so far, the present pause included."""
    return clock.paused_ms + (max(0, at - clock.paused_since) if clock.paused_since is not None else 0)


def activate(
    metric: Metric,
    instance: int,
    at: int,
    terms: Terms,
    rules: Rulebook,
    *,
    reasons: tuple[str, ...] = (),
    ref: str | None = None,
    cause: str | None = None,
) -> Moved:
    """A new clock, paused from the start if there are reasons."""
    clock = Clock(
        metric=metric,
        instance=instance,
        state=ClockState.PAUSED if reasons else ClockState.ACTIVE,
        activated_at=at,
        running_since=None if reasons else at,
        paused_since=at if reasons else None,
        pause_reasons=reasons,
        changed_at=at,
        retargeted_at=at,
        activated_by=ref,
    )
    target = terms.policy.target(terms.priority, metric) if terms.policy else None
    clock = schedule(_with_target(clock, target, terms, rules), rules)
    data = _judgement(clock, at, rules)
    if clock.state is ClockState.ACTIVE and clock.target_ms is not None and clock.breach_at is None:
        data["problem"] = "calendar_never_opens"
    return clock, (_event(clock, EventKind.ACTIVATE, at, cause, data),)


def settle(clock: Clock, at: int, rules: Rulebook) -> Moved:
    """Judges the past of a clock just before something happens to it at `at`.

    A deadline that lies before `at` is a breach at the deadline, whether or not the sweeper has seen it.
    The other way round, a breach the sweeper recorded at or after `at` did not happen: the cause was only
    told late.
    """
    if clock.state is not ClockState.ACTIVE or clock.breach_at is None:
        return clock, ()
    if clock.breached_at is None and clock.breach_at < at:
        return _breach(clock, clock.breach_at, "deadline", rules)
    if clock.breached_at is not None and clock.breached_at == clock.breach_at >= at:
        return _retract(clock, at)
    return clock, ()


def _retract(clock: Clock, at: int) -> Moved:
    event = _event(clock, EventKind.RETRACT, at, "in_time", {"breached_at": clock.breached_at})
    return replace(clock, breached_at=None), (event,)


def pause(
    clock: Clock, at: int, reasons: tuple[str, ...], rules: Rulebook, cause: str | None = None
) -> Moved:
    at = max(at, clock.changed_at)
    clock, events = settle(clock, at, rules)
    clock = replace(
        _accrue(clock, at, rules),
        state=ClockState.PAUSED,
        runs=runs.with_run(clock, at),
        running_since=None,
        paused_since=at,
        pause_reasons=reasons,
        changed_at=at,
    )
    return _unscheduled(clock), (
        *events,
        _event(clock, EventKind.PAUSE, at, cause, {"reasons": list(reasons)}),
    )


def resume(clock: Clock, at: int, rules: Rulebook, cause: str | None = None) -> Moved:
    at = max(at, clock.changed_at)
    clock = replace(
        clock,
        state=ClockState.ACTIVE,
        running_since=at,
        paused_ms=paused_total_ms(clock, at),
        paused_since=None,
        pause_reasons=(),
        changed_at=at,
    )
    return schedule(clock, rules), (_event(clock, EventKind.RESUME, at, cause),)


def repause(
    clock: Clock, at: int, reasons: tuple[str, ...], rules: Rulebook, cause: str | None = None
) -> Moved:
    """Brings a live clock to the present set of pause reasons; running again when it is empty."""
    if not clock.live or reasons == clock.pause_reasons:
        return clock, ()
    if not reasons:
        return resume(clock, at, rules, cause)
    if clock.state is ClockState.ACTIVE:
        return pause(clock, at, reasons, rules, cause)
    # Paused for something else from now on: nothing moves, but the ledger must be able to say why.
    at = max(at, clock.changed_at)
    clock = replace(clock, pause_reasons=reasons, changed_at=at)
    return clock, (_event(clock, EventKind.PAUSE, at, cause, {"reasons": list(reasons)}),)


def fulfil(clock: Clock, at: int, cause: str, rules: Rulebook, ref: str | None = None) -> Moved:
    at = max(at, clock.changed_at)
    clock, events = settle(clock, at, rules)
    if clock.breached_at is not None and clock.breached_at > at:
        # The change that broke the promise came after the answer, which was only told late.
        clock, taken_back = _retract(clock, at)
        events = (*events, *taken_back)
    clock = replace(
        _ended(clock, at, rules), state=ClockState.FULFILLED, fulfilled_at=at, fulfilled_by=ref, cause=cause
    )
    return clock, (*events, _event(clock, EventKind.FULFIL, at, cause, _judgement(clock, at, rules)))


def cancel(clock: Clock, at: int, cause: str, rules: Rulebook) -> Moved:
    """Ends a clock uncounted. A deadline already missed stays on record: the sweeper may have told of it."""
    at = max(at, clock.changed_at)
    clock, events = settle(clock, at, rules)
    clock = replace(
        _ended(clock, at, rules),
        state=ClockState.CANCELLED,
        fulfilled_at=None,
        fulfilled_by=None,
        cause=cause,
    )
    return clock, (*events, _event(clock, EventKind.CANCEL, at, cause))


def note(clock: Clock, at: int, cause: str, ref: str) -> Moved:
    """Something for the record that moves nothing."""
    return clock, (_event(clock, EventKind.NOTE, max(at, clock.changed_at), cause, {"ref": ref}),)


def reopen(
    clock: Clock,
    at: int,
    terms: Terms,
    rules: Rulebook,
    *,
    reasons: tuple[str, ...] = (),
    cause: str | None = None,
) -> Moved:
    """A fulfilled once-per-ticket clock goes on with what was left; the time it was over counts nowhere."""
    at = max(at, clock.changed_at)
    reopened = replace(
        clock,
        runs=clock.runs or runs.only_run(clock),
        state=ClockState.PAUSED if reasons else ClockState.ACTIVE,
        running_since=None if reasons else at,
        paused_since=at if reasons else None,
        pause_reasons=reasons,
        fulfilled_at=None,
        fulfilled_by=None,
        cause=None,
        changed_at=at,
    )
    event = _event(reopened, EventKind.REOPEN, at, cause, {"fulfilled_at": clock.fulfilled_at})
    return _then(
        schedule(reopened, rules), (event,), lambda one: retarget(one, at, terms, rules, cause="reopen")
    )


def unfulfil(
    clock: Clock, at: int, rules: Rulebook, *, reasons: tuple[str, ...], held_since: int, cause: str
) -> Moved:
    """As if it had not been fulfilled: the time since counts, up to `held_since` if it is paused now."""
    since = clock.fulfilled_at if clock.fulfilled_at is not None else clock.changed_at
    running = replace(
        clock,
        state=ClockState.ACTIVE,
        running_since=since,
        fulfilled_at=None,
        fulfilled_by=None,
        cause=None,
    )
    event = _event(clock, EventKind.REOPEN, at, cause, {"fulfilled_at": clock.fulfilled_at})
    running = schedule(running, rules)
    if not reasons:
        return running, (event,)
    return _then(running, (event,), lambda one: pause(one, max(held_since, since), reasons, rules, cause))


def backdate(clock: Clock, start: int, at: int, rules: Rulebook, cause: str) -> Moved:
    """Moves the beginning of a live clock to an earlier instant, learned at `at`."""
    if start >= clock.activated_at:
        return clock, ()
    clock, events = settle(clock, max(at, clock.changed_at), rules)
    gained = measure(clock, rules).elapsed(start, clock.activated_at)
    other = _other(clock, rules).elapsed(start, clock.activated_at)
    if clock.running_since == clock.activated_at:
        moved = replace(clock, activated_at=start, running_since=start)
    else:
        moved = replace(
            clock, activated_at=start, consumed_ms=clock.consumed_ms + gained, other_ms=clock.other_ms + other
        )
    data = {"activated_at": clock.activated_at, "new_activated_at": start}
    event = _event(clock, EventKind.RETARGET, at, cause, data)
    return _then(moved, (*events, event), lambda one: _judge_now(one, at, cause, rules))


def retarget(
    clock: Clock, at: int, terms: Terms, rules: Rulebook, *, cause: str = "policy", by: str | None = None
) -> Moved:
    """Same clock, same consumed time, the target of the present terms. A no-op when nothing differs."""
    if not clock.live:
        return clock, ()
    target = terms.policy.target(terms.priority, clock.metric) if terms.policy else None
    probe = _with_target(clock, target, terms, rules)
    if probe == clock:
        return clock, ()
    at = max(at, clock.changed_at)
    clock, events = settle(clock, at, rules)
    if clock.target_ms is not None and (probe.calendar_id, probe.calendar_version) != (
        clock.calendar_id,
        clock.calendar_version,
    ):
        # What was consumed under the old calendar stays as measured. Without a target nothing had been
        # promised, and the present run is measured anew.
        clock = _rebased(clock, at, rules)
    before = clock
    clock = replace(_with_target(clock, target, terms, rules), retargeted_at=at, reached_at=None)
    data = _judgement(clock, at, rules) | {
        "from_target_ms": before.target_ms,
        "from_policy_id": before.policy_id,
    }
    if by is not None:
        data["by"] = by
    within = clock.target_ms is not None and elapsed_ms(clock, at, rules) <= clock.target_ms
    if (
        within
        and clock.breached_at is not None
        and terms.policy is not None
        and terms.policy.forgive_on_retarget
    ):
        data["forgiven"] = clock.breached_at
        clock = replace(clock, breached_at=None)
    event = _event(clock, EventKind.RETARGET, at, cause, data)
    return _then(clock, (*events, event), lambda one: _judge_now(one, at, "retarget", rules))


def recalendar(clock: Clock, at: int, rules: Rulebook) -> Moved:
    """Moves a live clock to the newest version of its calendar; consumed time stays as it was measured."""
    if not clock.live or clock.calendar_id is None:
        return clock, ()
    newest = rules.calendar(clock.calendar_id, None)
    if newest.version == clock.calendar_version:
        return clock, ()
    at = max(at, clock.changed_at)
    clock, events = settle(clock, at, rules)
    rebased = _accrued(clock, at, rules) | {"running_since": at} if clock.running_since is not None else {}
    clock = replace(clock, **rebased, calendar_version=newest.version)
    event = _event(clock, EventKind.RETARGET, at, "calendar", {"calendar_version": newest.version})
    return schedule(clock, rules), (*events, event)


def fire(clock: Clock, now: int, rules: Rulebook) -> Moved:
    """What the passing of time does: the breach at its deadline, and the steps that are due.

    An answer at the deadline itself is in time, so the breach fires one millisecond later (`next_fire_at`
    says so) and is recorded at the deadline. Missed steps collapse into the highest one. Firing again at
    the same instant changes nothing. Raises UnknownRuleError when the rulebook lacks the clock's policy
    version or calendar.
    """
    if clock.state is not ClockState.ACTIVE or clock.target_ms is None:
        return replace(clock, next_fire_at=None), ()
    events: list[SlaEvent] = []
    if clock.breached_at is None and clock.breach_at is not None and clock.breach_at < now:
        clock, breach = _breach(clock, clock.breach_at, "deadline", rules)
        events += breach
    unfired = _unfired(clock, rules.steps(clock))
    pending = takewhile(
        lambda item: item[0] <= now, _pending(clock, measure(clock, rules), unfired, clock.breach_at)
    )
    due = [(at, step) for _, at, step in pending]
    if due:
        at, step = due[-1]
        keys = tuple(step_key(clock, missed.name) for _, missed in due)
        data = _judgement(clock, at, rules) | {
            "step": step.name,
            "actions": [action.to_data() for action in step.actions],
            "late": now - at > LATE_MS,
            "skipped": [missed.name for _, missed in due[:-1]],
        }
        events.append(_event(clock, EventKind.WARN, at, "step", data, key=keys[-1]))
        clock = replace(clock, fired_steps=(*clock.fired_steps, *keys))
    return schedule(clock, rules), tuple(sorted(events, key=lambda event: event.at))


def schedule(clock: Clock, rules: Rulebook) -> Clock:
    """The clock with due_at, breach_at, next_fire_at and step computed from the rest."""
    if clock.state is not ClockState.ACTIVE or clock.target_ms is None or clock.running_since is None:
        return _unscheduled(clock)
    calendar, since = measure(clock, rules), clock.running_since
    remaining = clock.target_ms - clock.consumed_ms
    # Used up in an earlier run: shown is when that was.
    reached = (
        clock.reached_at if remaining > 0 or clock.reached_at is not None else runs.used_up(clock, calendar)
    )
    if remaining >= 0:
        due, last = calendar.due_edges(since, remaining)
        due = due if reached is None else reached
    else:
        due = last = reached if reached is not None else calendar.back_first(since, -remaining)
    steps = rules.steps(clock)
    unfired = _unfired(clock, steps)
    # They come in order: the first is the next.
    moment = next((fire_at for fire_at, _, _ in _pending(clock, calendar, unfired, last)), None)
    if clock.breached_at is None and last is not None:
        moment = last + 1 if moment is None else min(moment, last + 1)
    return replace(clock, due_at=due, breach_at=last, next_fire_at=moment, step=len(steps) - len(unfired))


def step_key(clock: Clock, name: str) -> str:
    """Identity of a fired step: once per clock and policy version."""
    return f"{clock.policy_id}.{clock.policy_version}:{name}"


def _unfired(clock: Clock, steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """The steps still to come: those after the highest one that fired under this policy version."""
    if not clock.fired_steps:
        return steps
    fired = [i for i, step in enumerate(steps) if step_key(clock, step.name) in clock.fired_steps]
    return steps[max(fired, default=-1) + 1 :]


def _pending(
    clock: Clock, calendar: Calendar, unfired: Iterable[Step], breach_at: int | None
) -> Iterator[tuple[int, int, Step]]:
    """(when to fire, its own moment, step) of those to come, in order; none behind a closed calendar."""
    if clock.target_ms is None or clock.running_since is None:
        return
    for step in unfired:
        threshold = step.threshold_ms(clock.target_ms)
        is_breach = threshold == clock.target_ms
        if is_breach:
            at = breach_at
        else:
            at = calendar.due_first(clock.running_since, max(0, threshold - clock.consumed_ms))
        if at is not None:
            # A step that a retarget jumped over happened at the retarget, not under the former promise.
            at = max(at, clock.retargeted_at)
            yield (at + 1 if is_breach and clock.breached_at is None else at), at, step


def _breach(clock: Clock, at: int, cause: str, rules: Rulebook) -> Moved:
    return replace(clock, breached_at=at), (
        _event(clock, EventKind.BREACH, at, cause, _judgement(clock, at, rules)),
    )


def _judge_now(clock: Clock, at: int, cause: str, rules: Rulebook) -> Moved:
    """After a change of promise: what is already over is breached at the change, never earlier."""
    events: tuple[SlaEvent, ...] = ()
    over = clock.target_ms is not None and elapsed_ms(clock, at, rules) > clock.target_ms
    if over and clock.breached_at is None:
        clock, events = _breach(clock, at, cause, rules)
    return schedule(clock, rules), events


def _with_target(clock: Clock, target: Target | None, terms: Terms, rules: Rulebook) -> Clock:
    """The clock with the target of the terms; the calendar and the measure stay when there is no target."""
    if target is None or terms.policy is None:
        clock = replace(clock, target_ms=None, policy_id=None, policy_version=None, priority=terms.priority)
        if clock.calendar_id is not None:
            return clock
        business = clock.business
    else:
        clock = replace(
            clock,
            target_ms=target.ms,
            policy_id=terms.policy.id,
            policy_version=terms.policy.version,
            priority=terms.priority,
        )
        business = target.business
    calendar = rules.calendar_for(target, terms)
    if business != clock.business:
        clock = replace(clock, business=business, consumed_ms=clock.other_ms, other_ms=clock.consumed_ms)
    return replace(
        clock,
        calendar_id=calendar.id if calendar else None,
        calendar_version=calendar.version if calendar else None,
    )


def _other(clock: Clock, rules: Rulebook) -> Calendar:
    return ALWAYS_OPEN if clock.business else rules.calendar(clock.calendar_id, clock.calendar_version)


def _accrue(clock: Clock, at: int, rules: Rulebook) -> Clock:
    """Adds the present run, up to `at`, to what is consumed; remembers when the target was reached."""
    return clock if clock.running_since is None else replace(clock, **_accrued(clock, at, rules))


def _accrued(clock: Clock, at: int, rules: Rulebook) -> dict[str, int | None]:
    """What a running clock has when its present run ends at `at`."""
    if clock.running_since is None:
        return {}
    consumed = elapsed_ms(clock, at, rules)
    reached = clock.reached_at
    if reached is None and clock.target_ms is not None and consumed >= clock.target_ms:
        reached = clock.due_at
    other = clock.other_ms + _other(clock, rules).elapsed(clock.running_since, at)
    return {"consumed_ms": consumed, "other_ms": other, "reached_at": reached}


def _rebased(clock: Clock, at: int, rules: Rulebook) -> Clock:
    """The same clock counted from `at` on; nothing to do when it does not run."""
    if clock.running_since is None:
        return clock
    return replace(clock, **_accrued(clock, at, rules), running_since=at)


def _ended(clock: Clock, at: int, rules: Rulebook) -> Clock:
    clock = replace(
        _accrue(clock, at, rules),
        runs=runs.at_end(clock, at),
        running_since=None,
        paused_ms=paused_total_ms(clock, at),
        paused_since=None,
        pause_reasons=(),
        changed_at=at,
    )
    return _unscheduled(clock)


def _unscheduled(clock: Clock) -> Clock:
    return replace(clock, due_at=None, breach_at=None, next_fire_at=None)


def _judgement(clock: Clock, at: int, rules: Rulebook) -> dict[str, Any]:
    """What reports need of the deciding moment; the row will have moved on when they are made."""
    return {
        "elapsed_ms": elapsed_ms(clock, at, rules),
        "target_ms": clock.target_ms,
        "business": clock.business,
        "breached_at": clock.breached_at,
        "policy_id": clock.policy_id,
        "policy_version": clock.policy_version,
        "priority": clock.priority,
    }


def _event(
    clock: Clock,
    kind: EventKind,
    at: int,
    cause: str | None,
    data: dict[str, Any] | None = None,
    *,
    key: str | None = None,
) -> SlaEvent:
    terms = {
        "target_ms": clock.target_ms,
        "business": clock.business,
        "calendar_id": clock.calendar_id,
        "calendar_version": clock.calendar_version,
        "pause_reasons": list(clock.pause_reasons),
    }
    # As they were at this entry; the clock may have others by the end of the same happening.
    return SlaEvent(clock.metric, clock.instance, kind, at, cause, key, terms | (data or {}))


def _then(clock: Clock, events: Iterable[SlaEvent], step: Callable[[Clock], Moved]) -> Moved:
    moved, more = step(clock)
    return moved, (*events, *more)
