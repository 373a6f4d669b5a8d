"""The ledger as a second opinion: segments of random tickets, measured anew, add up to what the engine has."""

from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from routing.business_time import Calendar
from routing.sla import Rulebook, TicketClocks, apply, elapsed_ms, fire
from routing.sla.clock import EventKind
from routing.sla.ledger_cut import RAN, cut, prove
from routing.sla.policy import Policy
from routing.sla.ticket_events import (
    CalendarEdited,
)
from tests.routing.sla_story import OFFICE, T0, policy
from tests.routing.test_sla_replay import BOTH, gaps, history, more

NIGHT = Calendar.from_spec(
    {"tz": "Europe/Kyiv", "week": {d: [["22:00", "06:00"]] for d in ("mon", "tue", "wed", "thu", "fri")}},
    id=2,
)
LATER = Calendar.from_spec(
    {
        "tz": "Europe/Kyiv",
        "week": {d: [["10:00", "13:00"], ["14:00", "20:00"]] for d in ("mon", "tue", "sat")},
    },
    id=1,
    version=2,
)
POLICIES: list[Policy] = [
    policy({**BOTH, "agent_work": {"minutes": 60}, "periodic_update": {"minutes": 20}}, number=1),
    policy({**BOTH, "total_resolution": {"minutes": 200, "business": False}}, number=2, calendar_id=2),
    policy(
        {"first_reply": {"minutes": 10, "business": False}},
        number=3,
        pause_statuses={"first_reply": ["pending"]},
    ),
]
BY_ID = {one.id: one for one in POLICIES}


def lived(steps, first, edit_after):
    """(state, entries by clock, rules, end) of a ticket; after `edit_after` events the office's hours are others."""
    rules = Rulebook([OFFICE, NIGHT], POLICIES, default_calendar_id=1)
    later = Rulebook([OFFICE, LATER, NIGHT], POLICIES, default_calendar_id=1)
    state, written = TicketClocks(), {}
    at = T0

    def keep(found, clocks):
        by_key = {clock.key: clock for clock in clocks}
        for event in found:
            data = {
                "pause_reasons": list(by_key[event.metric, event.instance].pause_reasons),
                **(event.data or {}),
            }
            written.setdefault((event.metric, event.instance), []).append(
                {"kind": str(event.kind), "at": event.at, "cause": event.cause, "data": data}
            )

    for number, (event, terms) in enumerate(history(steps, first)):
        at, terms = event.at, replace(terms, policy=BY_ID[terms.policy.id] if terms.policy else None)
        swept = []
        for clock in state.clocks:
            if clock.next_fire_at is not None and clock.next_fire_at <= at and number % 2:
                moved, found = fire(clock, at, rules)
                keep(found, [moved])
                swept.append(moved)
            else:
                swept.append(clock)
        done = apply(TicketClocks(state.facts, tuple(swept)), event, terms, rules)
        keep(done.events, done.state.clocks)
        state = done.state
        if number == edit_after:
            rules = later
            done = apply(state, CalendarEdited(at), terms, rules)
            keep(done.events, done.state.clocks)
            state = done.state
    return state, written, rules, at + 7_777_777


@settings(max_examples=600, deadline=None)
@given(st.lists(st.tuples(gaps, more), max_size=14), st.integers(0, 3), st.integers(0, 14))
def test_the_segments_add_up_to_what_the_engine_counted(steps, first, edit_after):
    state, written, rules, end = lived(steps, first, edit_after)
    for clock in state.clocks:
        entries = written[clock.key]
        pieces = cut(entries, clock, rules.calendar, end)
        engine = elapsed_ms(clock, end, rules)
        proof = prove(pieces, entries, clock, engine, rules.calendar)
        assert proof.agrees, (clock, pieces, proof)
        for before, after in pairwise(pieces):
            assert before.until <= after.start
        if not pieces:  # began and ended in one instant
            assert engine == 0
            continue
        assert pieces[0].start == clock.activated_at
        assert sum(p.counted_ms for p in pieces) == pieces[-1].total_ms
        if proof.cause == "deadline" and not any(e["kind"] == EventKind.RETARGET for e in entries):
            assert proof.elapsed_at_breach_ms == proof.target_ms
        assert all(p.counted_ms == 0 for p in pieces if p.what != RAN)


def test_the_open_hours_of_a_segment_add_up_to_it():
    hours = OFFICE.open_between(T0, T0 + 3 * 86_400_000, 100)
    assert sum(b - a for a, b in hours) == OFFICE.elapsed(T0, T0 + 3 * 86_400_000)
    assert OFFICE.open_between(T0, T0 + 30 * 86_400_000, 4) == OFFICE.open_between(T0, T0 + 4 * 86_400_000, 4)
    assert NIGHT.open_between(T0, T0, 5) == []
