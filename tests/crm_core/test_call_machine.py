"""The fold of call events: outcomes, deadlines, and that neither order nor repetition changes anything."""

import dataclasses
import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crm_core.call_machine import CallStatus, Change, apply, give_up, settle
from crm_core.call_state import MISSED_GRACE_MS, STUCK_ANSWERED_MS, STUCK_RINGING_MS, from_json, to_json
from crm_core.envelope import CallEvent

T = 1_800_000_000_000
S = 1_000


def ev(state, leg="c", at=0, *, received=None, **more):
    """An event `at` seconds into the call: (event, occurred_at, received_at)."""
    more.setdefault("from_number", "+380501112233")
    event = CallEvent(call_id="c", leg_id=leg, state=state, **more)
    return event, T + at * S, T + (at if received is None else received) * S


def agent(state, at=0, leg="a", **more):
    return ev(state, leg, at, agent_leg=True, agent_ext=more.pop("ext", "101"), **more)


def fold(*events, call=None):
    changes = []
    for event, occurred, received in events:
        call, new = apply(call, event, occurred_at=occurred, received_at=received, inbox_id=1)
        changes += new
    return call, changes


def kinds(changes):
    return [change.kind for change in changes]


ANSWERED = [ev("initiated"), ev("ringing", at=1), agent("ringing", 2), agent("answered", 5),
            agent("ended", 65, disposition="answered"), ev("ended", at=65)]  # fmt: skip
ABANDONED = [
    ev("initiated"),
    agent("ringing", 2),
    agent("ended", 9, disposition="cancelled"),
    ev("ended", at=9),
]
MISSED = [ev("initiated"), agent("ringing", 2), agent("ended", 9, disposition="no_answer"), ev("ended", at=9)]


def test_an_answered_call():
    call, changes = fold(*ANSWERED)
    assert (call.status, call.disposition, call.missed) == (CallStatus.ENDED, "answered", False)
    assert (call.wait_sec, call.talk_sec, call.agent_ext) == (5, 60, "101")
    assert (call.missed_check_at, call.stuck_at) == (None, None)
    assert kinds(changes) == [
        Change.CREATED, Change.RINGING, Change.AGENT, Change.ANSWERED, Change.ENDED, Change.DISPOSITION,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("events", "disposition"),
    [
        (MISSED, "missed"),
        (ABANDONED, "abandoned"),
        ([ev("initiated"), ev("ended", at=9, disposition="cancelled", cause="487")], "abandoned"),
        ([ev("initiated"), ev("ended", at=1, disposition="busy")], "busy"),
        ([ev("initiated"), ev("ended", at=1, disposition="rejected")], "missed"),
        ([ev("initiated"), ev("ended", at=1, disposition="invalid_number")], "failed"),
        ([ev("initiated", queue="sales"), ev("ended", at=40, queue="sales")], "abandoned"),
        ([ev("initiated"), ev("ended", at=40)], "missed"),
        (
            [ev("initiated"), agent("ringing"), agent("ended", 1, disposition="busy"), ev("ended", at=1)],
            "busy",
        ),
        # A queue that picks up is nobody's answer.
        (
            [
                ev("answered"),
                agent("ringing", 1),
                agent("ended", 9, disposition="no_answer"),
                ev("ended", at=9),
            ],
            "missed",
        ),
    ],
)
def test_an_unanswered_call_is_named_only_after_its_grace(events, disposition):
    call, _ = fold(*events)
    assert (call.status, call.disposition, call.missed) == (CallStatus.SETTLING, None, False)
    assert call.missed_check_at == call.ended_at + MISSED_GRACE_MS
    assert settle(call, call.missed_check_at - 1) == (call, [])
    after, changes = settle(call, call.missed_check_at)
    assert (after.status, after.disposition, after.missed) == (CallStatus.ENDED, disposition, True)
    assert [(c.kind, c.was, c.now) for c in changes] == [(Change.DISPOSITION, None, disposition)]
    assert after.missed_check_at is None


def test_the_providers_last_word_ends_the_grace():
    call, changes = fold(*MISSED, ev("ended", at=9, final=True, disposition="missed", wait_sec=9))
    assert (call.disposition, call.missed, call.wait_sec) == ("missed", True, 9)
    assert changes[-1].now == "missed"


def test_a_late_answer_takes_the_miss_back():
    call, _ = fold(*MISSED)
    call, _ = settle(call, call.missed_check_at)
    call, changes = fold(agent("answered", 8, leg="b", ext="102", received=300), call=call)
    call, more = fold(agent("ended", 9, leg="b", ext="102", received=301), call=call)
    assert (call.disposition, call.missed, call.agent_ext) == ("answered", False, "102")
    assert (Change.DISPOSITION, "missed", "answered") in [(c.kind, c.was, c.now) for c in changes + more]


def test_a_late_answer_after_the_last_word_still_counts():
    call, _ = fold(ev("ended", at=9, final=True, disposition="missed"), agent("answered", 3))
    assert call.disposition == "answered"


def test_an_unknown_call_starts_in_the_middle():
    call, changes = fold(agent("answered", 5))
    assert (call.status, call.started_at) == (CallStatus.ANSWERED, T + 5 * S)
    assert kinds(changes) == [Change.CREATED, Change.ANSWERED, Change.AGENT]


def test_hold_and_resume():
    call, changes = fold(agent("answered", 5), agent("held", 9), agent("answered", 12))
    assert kinds(changes)[-2:] == [Change.HELD, Change.RESUMED]
    assert (call.held, call.answered_at) == (False, T + 5 * S)


def test_a_handover_keeps_the_call_and_changes_the_agent():
    call, changes = fold(
        ev("initiated"), agent("answered", 5), agent("transferred", 20), agent("ended", 21),
        agent("ringing", 21, leg="b", ext="102"), agent("answered", 24, leg="b", ext="102"),
    )  # fmt: skip
    assert (call.status, call.agent_ext) == (CallStatus.ANSWERED, "102")
    assert (Change.AGENT, "101", "102") in [(c.kind, c.was, c.now) for c in changes]


def test_ringing_elsewhere_reopens_a_call_that_seemed_over():
    call, _ = fold(agent("ringing", 1), agent("ended", 9, disposition="no_answer"))
    assert call.status is CallStatus.SETTLING
    call, changes = fold(agent("ringing", 10, leg="b", ext="102"), call=call)
    assert call.status is CallStatus.RINGING
    assert Change.REOPENED in kinds(changes)


@pytest.mark.parametrize(
    ("events", "disposition", "side"),
    [
        (
            [agent("answered", 1), ev("ended", "x", 20, disposition="busy"), agent("ended", 20)],
            "busy",
            "customer",
        ),
        ([agent("answered", 1), ev("ended", "x", 20), agent("ended", 20)], "no_answer", "customer"),
        ([agent("ringing", 1), agent("ended", 20, disposition="no_answer")], "cancelled", "agent"),
        (
            [agent("answered", 1), ev("answered", "x", 9), ev("ended", "x", 20), agent("ended", 20)],
            "answered",
            None,
        ),
    ],
)
def test_calls_out_are_answered_by_the_customer_only(events, disposition, side):
    out = [(dataclasses.replace(e, direction="outbound"), o, r) for e, o, r in events]
    call, _ = fold(*out)
    call, _ = settle(call, call.missed_check_at or 0)
    assert (call.disposition, call.failed_side, call.missed) == (disposition, side, False)


def test_a_recording_after_the_end_changes_no_state():
    before, _ = fold(*ANSWERED)
    after, changes = fold(
        ev("recording_ready", at=90, recording_ref="r1", recording_url="https://x/1"), call=before
    )
    assert kinds(changes) == [Change.RECORDING]
    assert (after.status, after.ended_at, after.legs) == (before.status, before.ended_at, before.legs)
    assert [(r.key, r.url) for r in after.recordings] == [("r1", "https://x/1")]


def test_a_clock_that_runs_ahead_is_cut_to_five_seconds():
    call, _ = fold(ev("initiated", at=3600, received=0))
    assert call.started_at == T + 5 * S
    assert call.ahead_ms == 3595 * S


def test_silence_closes_a_call_as_unknown_and_the_end_still_corrects_it():
    ringing, _ = fold(ev("initiated"), agent("ringing", 1))
    assert ringing.stuck_at == T + S + STUCK_RINGING_MS
    assert give_up(ringing, ringing.stuck_at - 1) == (ringing, [])
    closed, changes = give_up(ringing, ringing.stuck_at)
    assert (closed.status, closed.disposition, closed.missed) == (CallStatus.ENDED, "unknown", True)
    assert changes[-1].now == "unknown"
    late = 10 * 60
    call, _ = fold(agent("answered", 5, received=late), agent("ended", 60, received=late), ev("ended", at=60, received=late),
                   call=closed)  # fmt: skip
    assert call.disposition == "answered"
    talking, _ = fold(agent("answered", 5))
    assert talking.stuck_at == T + 5 * S + STUCK_ANSWERED_MS


def test_an_event_of_another_call_is_refused():
    call, _ = fold(ev("initiated"))
    with pytest.raises(ValueError, match="other"):
        apply(call, CallEvent(call_id="other", leg_id="x"), occurred_at=T, received_at=T, inbox_id=1)


@pytest.mark.parametrize("events", [ANSWERED, ABANDONED, MISSED])
def test_every_order_of_a_real_call_ends_the_same(events):
    ends = {repr(fold(*order)[0]) for order in itertools.permutations(events)}
    assert len(ends) == 1


WORDS = st.sampled_from(["answered", "missed", "busy", "no_answer", "cancelled", "abandoned", "failed"])
NUMBERS = st.sampled_from(["+380501112233", "+380441234567", "+15550001111"])
EVENTS = st.builds(
    lambda event, occurred, delay: (event, T + occurred, T + occurred + delay),
    st.builds(
        CallEvent,
        call_id=st.just("c"),
        leg_id=st.sampled_from(["c", "a", "b"]),
        parent_leg_id=st.none() | st.just("c"),
        direction=st.sampled_from(["inbound", "outbound", "internal", "callback"]),
        from_number=st.none() | NUMBERS,
        to_number=st.none() | NUMBERS,
        from_raw=st.sampled_from(["", "1", "2"]),
        did=st.none() | NUMBERS,
        agent_ext=st.none() | st.sampled_from(["101", "102"]),
        agent_leg=st.booleans(),
        queue=st.none() | st.sampled_from(["sales", "help"]),
        state=st.sampled_from(
            [
                "initiated",
                "ringing",
                "answered",
                "held",
                "transferred",
                "ended",
                "recording_ready",
                "note",
                "odd",
            ]
        ),
        seq=st.none() | st.integers(0, 3),
        cause=st.none() | st.sampled_from(["16", "17"]),
        disposition=st.none() | WORDS,
        final=st.booleans(),
        talk_sec=st.none() | st.integers(0, 5),
        wait_sec=st.none() | st.integers(0, 5),
        recording_ref=st.none() | st.sampled_from(["r1", "r2"]),
        recording_url=st.none() | st.sampled_from(["https://x/1", "https://x/2"]),
        correlation_id=st.none() | st.sampled_from(["k1", "k2"]),
        display_name=st.none() | st.sampled_from(["Ann", "Bob"]),
    ),
    st.integers(0, 20_000),
    st.integers(-8_000, 20_000),
)


@settings(max_examples=400, deadline=None)
@given(data=st.data(), events=st.lists(EVENTS, min_size=1, max_size=8))
def test_any_order_with_any_repetition_folds_to_the_same_call(data, events):
    want, _ = fold(*events)
    again = data.draw(st.lists(st.sampled_from(events), max_size=6))
    mixed = data.draw(st.permutations([*events, *again]))
    got, _ = fold(*mixed)
    assert got == want
    settled_want, _ = settle(want, 2**60)
    settled_got, _ = settle(got, 2**60)
    assert settled_got == settled_want
    assert from_json(json.loads(json.dumps(to_json(got)))) == got
