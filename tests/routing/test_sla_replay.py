"""Random tickets: whatever happens in whatever order, clocks agree with an independent reading of the history."""

import json
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from crm_core.clock import DAY, HOUR, MINUTE
from routing.business_time import ALWAYS_OPEN
from routing.sla import (
    Author,
    Clock,
    Metric,
    Rulebook,
    Status,
    Terms,
    TicketClocks,
    TicketFacts,
    apply,
    elapsed_ms,
    fire,
    paused_total_ms,
    replay,
)
from routing.sla.ticket_events import (
    Created,
    Discarded,
    MergeReceived,
    MessageWritten,
    PauseSet,
    SendFailed,
    StatusChanged,
    TermsChanged,
)
from tests.routing.sla_story import OFFICE, T0, policy

BOTH = {"first_reply": {"minutes": 30}, "next_reply": {"minutes": 45}, "requester_wait": {"minutes": 90}}
POLICIES = [
    policy({**BOTH, "agent_work": {"minutes": 60}, "periodic_update": {"minutes": 20}}, number=1),
    policy(
        {**BOTH, "total_resolution": {"minutes": 200, "business": False}, "pausable_update": {"minutes": 30}},
        number=2,
    ),
    policy(
        {"first_reply": {"minutes": 10, "business": False}},
        number=3,
        pause_statuses={"first_reply": ["pending"]},
    ),
]
RULES = Rulebook([OFFICE], POLICIES, default_calendar_id=1)
CHOICES = [*POLICIES, None]

gaps = st.one_of(st.just(0), st.integers(1, 40 * MINUTE), st.integers(1, 3 * DAY))
kinds = st.one_of(
    st.tuples(st.just("customer")),
    st.tuples(st.just("agent"), st.booleans()),
    st.tuples(st.just("bot")),
    st.tuples(st.just("status"), st.sampled_from(["open", "pending", "hold", "solved", "open", "solved"])),
)
more = st.one_of(
    kinds,
    st.tuples(st.just("terms"), st.integers(0, 3)),
    st.tuples(st.just("pause"), st.sampled_from(["snooze", "waiting_for_customer"]), st.booleans()),
    st.tuples(st.just("failed"), st.integers(0, 12)),
    st.tuples(st.just("merge"), st.integers(0, DAY)),
    st.tuples(st.just("spam")),
)


def history(steps: list[tuple[int, tuple]], first: int) -> list[tuple]:
    """(event, terms) pairs in order of time, and the instant after the last."""
    at, terms = T0, Terms(CHOICES[first], "normal")
    events: list[tuple] = [(Created(at), terms)]
    for index, (gap, what) in enumerate(steps):
        at += gap
        match what:
            case ("customer",):
                event = MessageWritten(at, Author.CUSTOMER, ref=f"m{index}")
            case ("agent", public):
                event = MessageWritten(at, Author.AGENT, public, f"m{index}")
            case ("bot",):
                event = MessageWritten(at, Author.BOT)
            case ("status", to):
                event = StatusChanged(at, Status(to))
            case ("terms", choice):
                terms = Terms(CHOICES[choice], "normal")
                event = TermsChanged(at)
            case ("pause", reason, on):
                event = PauseSet(at, reason, on)
            case ("failed", number):
                event = SendFailed(at, f"m{number}")
            case ("merge", ago):
                event = MergeReceived(at, at - ago)
            case _:
                event = Discarded(at)
        events.append((event, terms))
    return events


def sweep(state: TicketClocks, now: int, told: list) -> TicketClocks:
    clocks = []
    for clock in state.clocks:
        one = clock
        if one.next_fire_at is not None and one.next_fire_at <= now:
            one, events = fire(one, now, RULES)
            assert one.next_fire_at is None or one.next_fire_at > now
            assert all(event.at <= now for event in events)
            told += events
        clocks.append(one)
    return TicketClocks(state.facts, tuple(clocks))


def stored(state: TicketClocks) -> TicketClocks:
    """Through rows and back, as the database does it."""
    rows = json.loads(json.dumps([clock.to_row() for clock in state.clocks]))
    facts = json.loads(json.dumps(state.facts.to_data()))
    return TicketClocks(TicketFacts.from_data(facts), tuple(Clock.from_row(row) for row in rows))


def deadline_only(clock: Clock) -> Clock:
    """Without what the sweeper writes to remember what it has told."""
    return replace(clock, fired_steps=(), step=0, next_fire_at=None)


stories = st.tuples(st.lists(st.tuples(gaps, more), max_size=14), st.integers(0, 3))


@settings(max_examples=300, deadline=None)
@given(stories, st.lists(st.booleans(), min_size=16, max_size=16))
def test_rows_written_one_by_one_equal_the_rebuilt_ones_whenever_the_sweeper_ran(story, sweeps) -> None:
    events = history(*story)
    end = events[-1][0].at + 10 * DAY
    told: list = []
    state = TicketClocks()
    for (event, terms), swept in zip(events, sweeps, strict=False):
        if swept:
            state = sweep(state, event.at, told)
        state = stored(apply(stored(state), event, terms, RULES).state)
    rebuilt = replay(events, RULES)
    now, then = sweep(state, end, told), sweep(rebuilt, end, [])
    assert now.facts == then.facts
    assert [deadline_only(c) for c in now.clocks] == [deadline_only(c) for c in then.clocks]
    keys = [(e.metric, e.instance, e.step_key) for e in told if e.step_key is not None]
    assert len(keys) == len(set(keys)), "a step fired twice"


@settings(max_examples=200, deadline=None)
@given(stories)
def test_clocks_are_well_formed_after_everything(story) -> None:
    state = TicketClocks()
    for event, terms in history(*story):
        outcome = apply(state, event, terms, RULES)
        before = {clock.key: clock for clock in state.clocks}
        assert all(before.get(clock.key) != clock for clock in outcome.changed)
        state = outcome.state
        for metric in Metric:
            clocks = state.of(metric)
            assert [clock.instance for clock in clocks] == list(range(1, len(clocks) + 1))
            assert sum(clock.live for clock in clocks) <= 1
        assert sum(clock.live for m in (Metric.FIRST_REPLY, Metric.NEXT_REPLY) for clock in state.of(m)) <= 1
        for clock in state.clocks:
            assert (clock.running_since is not None) == (clock.state == "active")
            assert (clock.paused_since is not None) == bool(clock.pause_reasons) == (clock.state == "paused")
            assert (clock.fulfilled_at is not None) == (clock.state == "fulfilled")
            assert clock.consumed_ms >= 0 and clock.other_ms >= 0 and clock.paused_ms >= 0
            if clock.state != "active" or clock.target_ms is None:
                assert clock.due_at is clock.breach_at is clock.next_fire_at is None
            elif clock.breach_at is not None:
                assert clock.due_at <= clock.breach_at
                if clock.breached_at is None:
                    assert elapsed_ms(clock, clock.due_at, RULES) == clock.target_ms
                    assert elapsed_ms(clock, clock.breach_at + 1, RULES) > clock.target_ms
                    assert clock.next_fire_at <= clock.breach_at + 1


def states(events: list[tuple]) -> list[tuple[int, str]]:
    """(instant, status) of the ticket, read from the history by the rules for statuses alone."""
    status, line = "new", [(events[0][0].at, "new")]
    for event, _ in events[1:]:
        if isinstance(event, StatusChanged):
            status = str(event.to)
        elif isinstance(event, MessageWritten) and (
            (event.by == "customer" and status in ("pending", "hold", "solved"))
            or (event.by == "agent" and event.public and status == "new")
        ):
            status = "open"
        line.append((event.at, status))
    return line


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(gaps, kinds), max_size=14))
def test_wait_work_and_resolution_are_the_time_in_their_statuses(steps) -> None:
    events = history(steps, 0)
    state = replay(events, RULES)
    line = states(events)
    end = events[-1][0].at + 2 * HOUR
    spans = [(a, b, status) for (a, status), (b, _) in zip(line, [*line[1:], (end, "")], strict=True)]
    runs = {
        Metric.REQUESTER_WAIT: {"new", "open", "hold"},
        Metric.AGENT_WORK: {"new", "open"},
        Metric.TOTAL_RESOLUTION: {"new", "open", "pending", "hold"},
    }
    for metric, running in runs.items():
        (clock,) = state.of(metric)
        stops = [(a, b) for a, b, status in spans if status not in running]
        pauses = [(a, b) for a, b, status in spans if status not in running and status != "solved"]
        hours = OFFICE if clock.business else ALWAYS_OPEN
        assert elapsed_ms(clock, end, RULES) == hours.elapsed(T0, end, stops)
        assert paused_total_ms(clock, end) == sum(b - a for a, b in pauses)
        if clock.state == "active" and clock.target_ms is not None:
            assert clock.due_at == hours.due_first(T0, clock.target_ms, stops)
            last = hours.due_last(T0, clock.target_ms, stops)
            if clock.breached_at is None:
                assert clock.breach_at == last


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(gaps, kinds), max_size=14))
def test_reply_clocks_run_from_the_oldest_question_to_the_answer(steps) -> None:
    events = history(steps, 0)
    state = replay(events, RULES)
    status, since, last_word = "new", T0, "customer"
    spans: list[tuple[int, int | None]] = []
    for (event, _), (_, after) in zip(events[1:], states(events)[1:], strict=True):
        asked = isinstance(event, MessageWritten) and event.by == "customer"
        answered = isinstance(event, MessageWritten) and event.by == "agent" and event.public
        last_word = "customer" if asked else "agent" if answered else last_word
        if since is not None and (answered or after == "solved"):
            spans.append((since, event.at))
            since = None
        reopened = status == "solved" and after != "solved" and last_word == "customer"
        if since is None and after != "solved" and (asked or reopened):
            since = event.at
        status = after
    if since is not None:
        spans.append((since, None))
    clocks = [*state.of(Metric.FIRST_REPLY), *state.of(Metric.NEXT_REPLY)]
    assert [(clock.activated_at, clock.fulfilled_at) for clock in clocks] == spans
    for clock in clocks:
        end = clock.fulfilled_at
        if end is not None:
            used = OFFICE.elapsed(clock.activated_at, end)
            late = used > clock.target_ms
            assert clock.breached_at == (
                OFFICE.due_last(clock.activated_at, clock.target_ms) if late else None
            )
