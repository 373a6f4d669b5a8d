import json
from pathlib import Path

import pytest

from crm_core.clock import DAY, HOUR, MINUTE, SECOND, from_iso
from routing.business_time import Calendar
from routing.sla import Author, Rulebook, Terms, TicketClocks, UnknownRuleError, apply, elapsed_ms, fire
from routing.sla.ticket_events import (
    Abandoned,
    CalendarEdited,
    Connected,
    Created,
    Discarded,
    Enqueued,
    MergedAway,
    MergeReceived,
    PauseSet,
    SendFailed,
    TermsChanged,
)
from switchboard.vector_scenarios import scenario
from tests.routing.sla_story import OFFICE, T0, Story, minutes, policy

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "vectors.json").read_text())


@pytest.mark.parametrize("item", VECTORS["sla_scenarios"], ids=lambda item: item["id"])
def test_scenario(item: dict) -> None:
    expected, got = scenario(
        item, lambda name: Calendar.from_spec(VECTORS["calendars"][name], id=1, round_2359=False)
    )
    assert got == expected


# --- who answers ---------------------------------------------------------------------------------------------


def test_an_answer_at_the_deadline_is_in_time_and_a_millisecond_later_is_not() -> None:
    met = Story(policy({"first_reply": 60})).created().agent(60)
    late = Story(policy({"first_reply": 60})).created().agent(60 + 1 / MINUTE)
    assert met.clock("first_reply").breached_at is None
    assert late.clock("first_reply").breached_at == minutes(60)


def test_only_a_public_message_of_a_person_is_a_reply() -> None:
    story = Story(policy({"first_reply": 60})).created().agent(5, public=False).bot(6)
    assert story.clock("first_reply").state == "active"
    assert story.agent(7).clock("first_reply").fulfilled_at == minutes(7)


def test_a_policy_may_let_programs_and_notes_count() -> None:
    lenient = policy(
        {"first_reply": 60, "next_reply": 60}, bot_counts=["first_reply"], note_counts=["next_reply"]
    )
    story = Story(lenient).created().bot(5)
    assert story.clock("first_reply").state == "fulfilled"
    story.customer(10).bot(11)
    assert story.clock("next_reply").state == "active"
    assert story.agent(12, public=False).clock("next_reply").state == "fulfilled"


def test_pending_pauses_no_reply_clock_unless_the_policy_says_so() -> None:
    story = Story(policy({"first_reply": 60})).created().status(10, "pending")
    assert story.clock("first_reply").state == "active"
    like_zammad = policy({"first_reply": 60}, pause_statuses={"first_reply": ["pending"]})
    story = Story(like_zammad).created().status(10, "pending").status(40, "open")
    assert story.clock("first_reply").due_at == minutes(90)


def test_a_ticket_opened_by_an_agent() -> None:
    spoken = Story(policy({})).created(by=Author.AGENT)
    assert spoken.instances("first_reply") == []
    assert spoken.customer(5).instances("next_reply") == ["active"]
    noted = Story(policy({})).created(by=Author.AGENT, public=False)
    assert noted.instances("periodic_update") == []
    noted.customer(5)
    assert noted.clock("first_reply").activated_at == minutes(5)
    assert noted.instances("next_reply") == []


def test_reopened_by_an_agent_the_customer_still_waits_if_he_spoke_last() -> None:
    story = Story(policy({})).created().status(10, "solved").status(30, "open")
    assert story.instances("first_reply") == ["fulfilled"]
    assert story.clock("next_reply").activated_at == minutes(30)
    answered = Story(policy({})).created().agent(5).status(10, "solved").status(30, "open")
    assert answered.instances("next_reply") == []


def test_pausable_update_stops_while_pending_and_restarts_with_every_reply() -> None:
    story = Story(policy({"pausable_update": 60})).created().agent(10).status(20, "pending")
    first = story.clock("pausable_update")
    assert (first.state, first.due_at, first.consumed_ms) == ("paused", None, 10 * MINUTE)
    story.agent(30)
    assert story.instances("pausable_update") == ["fulfilled", "paused"]
    story.customer(50)
    assert story.clock("pausable_update", 2).due_at == minutes(110)
    story.agent(55).status(60, "solved")
    assert story.instances("pausable_update") == ["fulfilled", "fulfilled", "fulfilled"]


def test_an_agent_writing_on_a_solved_ticket_starts_nothing() -> None:
    story = Story(policy({})).created().status(10, "solved").agent(20)
    assert story.instances("periodic_update") == []
    assert story.status(30, "open").instances("next_reply") == []  # he had the last word


def test_closed_is_final_and_a_customer_needs_a_new_ticket() -> None:
    story = Story(policy({})).created().status(10, "closed")
    before = story.state
    assert story.customer(20).follow_up
    assert story.status(21, "open").agent(22).state == before


def test_the_same_creation_twice_is_one() -> None:
    story = Story(policy({})).created()
    assert story.created(3).state == Story(policy({})).created().state


def test_speed_of_answer_counts_until_a_person_takes_the_call() -> None:
    story = Story(policy({"speed_of_answer": {"seconds": 20, "business": False, "steps": []}})).created()
    story.happens(Enqueued(T0, "call-1")).happens(Connected(T0 + 25 * SECOND))
    assert story.clock("speed_of_answer").breached_at == T0 + 20 * SECOND
    story.happens(Enqueued(minutes(5))).happens(Enqueued(minutes(6))).happens(Abandoned(minutes(7)))
    assert story.instances("speed_of_answer") == ["fulfilled", "cancelled"]
    story.happens(Enqueued(minutes(8))).happens(PauseSet(minutes(9), "callback", on=True))
    assert story.clock("speed_of_answer", 3).state == "paused"


def test_who_is_written_to_in_a_chat_has_been_answered_and_who_rings_has_not() -> None:
    story = Story(policy({"speed_of_answer": {"seconds": 20, "business": False, "steps": []}})).created()
    story.happens(Enqueued(T0)).agent(0.1, public=False)
    assert story.clock("speed_of_answer").state == "active"
    story.agent(0.25)
    answered = story.clock("speed_of_answer")
    assert (answered.state, answered.cause, answered.fulfilled_at) == ("fulfilled", "answered", minutes(0.25))
    story.happens(Enqueued(minutes(5), "c:7")).agent(6)
    assert story.clock("speed_of_answer", 2).state == "active"


# --- pauses ----------------------------------------------------------------------------------------------------


def test_overlapping_reasons_hold_until_the_last_is_gone() -> None:
    story = Story(policy({"agent_work": 120})).created().status(10, "pending")
    story.happens(PauseSet(minutes(20), "snooze", on=True)).status(30, "open")
    held = story.clock("agent_work")
    assert (held.state, held.pause_reasons) == ("paused", ("snooze",))
    story.happens(PauseSet(minutes(40), "snooze", on=False))
    work = story.clock("agent_work")
    assert (work.due_at, work.paused_ms) == (minutes(150), 30 * MINUTE)
    # Each change of the reasons is on record: the ledger must say why it stood still.
    assert story.kinds("agent_work") == ["activate", "pause", "pause", "pause", "resume"]


def test_the_customer_ends_a_snooze() -> None:
    story = Story(policy({})).created().happens(PauseSet(minutes(10), "snooze", on=True))
    assert story.clock("agent_work").state == "paused"
    assert story.clock("requester_wait").state == "active"
    assert story.customer(20).clock("agent_work").state == "active"


def test_a_deadline_used_up_before_a_pause_stays_in_sight() -> None:
    story = Story(policy({"requester_wait": 30})).created().status(40, "pending")
    assert story.clock("requester_wait").breached_at == minutes(30)
    assert story.status(100, "open").clock("requester_wait").due_at == minutes(30)


# --- change of promise -----------------------------------------------------------------------------------------


def retargeted(story: Story, at: float, new, priority: str = "normal", **kw) -> Story:
    story.terms = Terms(new, priority)
    return story.happens(TermsChanged(minutes(at), **kw))


def test_business_and_plain_time_change_places_without_loss() -> None:
    office = policy({"requester_wait": 600}, number=1)
    plain = policy({"requester_wait": {"minutes": 60_000, "business": False, "steps": []}}, number=2)
    story = Story(office, more_policies=[plain]).created()
    story.status(60, "pending").status(120, "open")
    friday = 4 * 24 * 60
    retargeted(story, friday, plain)
    wait = story.clock("requester_wait")
    assert elapsed_ms(wait, minutes(friday), story.rules) == 4 * DAY - HOUR
    retargeted(story, friday + 60, office)
    assert elapsed_ms(story.clock("requester_wait"), minutes(friday + 60), story.rules) == 36 * HOUR


def test_a_promise_made_late_counts_from_the_true_start_in_its_own_hours() -> None:
    night = Calendar.from_spec({"tz": "Europe/Kyiv", "week": {"mon": [["10:30", "12:00"]]}}, id=2)
    own = policy({"first_reply": {"minutes": 30, "calendar_id": 2, "steps": []}})
    story = Story(own, calendars=(OFFICE, night))
    story.terms = Terms(None, "normal")
    story.created()
    assert story.clock("first_reply").calendar_id == 1
    retargeted(story, 40, own)
    reply = story.clock("first_reply")
    assert (reply.calendar_id, reply.due_at, reply.breached_at) == (2, minutes(60), None)


def test_forgiveness_is_a_choice_and_is_written_down() -> None:
    strict, kind = (
        policy({"first_reply": 30}),
        policy({"first_reply": 240}, number=2, forgive_on_retarget=True),
    )
    story = Story(strict, more_policies=[kind]).created()
    retargeted(story, 40, kind, by="agent 7")
    assert story.clock("first_reply").breached_at is None
    change = story.events[-1]
    assert (change.kind, change.data["forgiven"], change.data["by"]) == ("retarget", minutes(30), "agent 7")


def test_the_same_terms_again_change_nothing() -> None:
    story = Story(policy({"first_reply": 60})).created()
    before, ledger = story.state, len(story.events)
    assert retargeted(story, 10, story.policy).state == before
    assert len(story.events) == ledger


def test_an_edited_calendar_keeps_what_was_measured() -> None:
    story = Story(policy({"first_reply": 120})).created()
    shorter = Calendar.from_spec(
        {"tz": "Europe/Kyiv", "week": {"mon": [["09:00", "11:30"]], "tue": [["09:00", "18:00"]]}},
        id=1,
        version=2,
    )
    story.rules = Rulebook([OFFICE, shorter], [story.policy], default_calendar_id=1)
    story.happens(CalendarEdited(minutes(60)))
    reply = story.clock("first_reply")
    assert (reply.calendar_version, reply.consumed_ms) == (2, HOUR)
    assert reply.due_at == from_iso("2025-06-03T06:30:00Z")  # 30 min left until 11:30, 30 more on Tuesday


def test_a_calendar_that_never_opens_gives_no_deadline_and_says_so() -> None:
    never = Calendar.from_spec({"tz": "UTC", "week": {}}, id=1)
    story = Story(policy({"first_reply": 60}), calendars=[never]).created()
    reply = story.clock("first_reply")
    assert (reply.due_at, reply.breach_at, reply.next_fire_at) == (None, None, None)
    told = next(event for event in story.events if event.metric == "first_reply")
    assert told.data["problem"] == "calendar_never_opens"
    assert story.agent(10_000).clock("first_reply").breached_at is None


def test_a_missing_rule_is_an_error_not_a_guess() -> None:
    one = policy({"first_reply": {"minutes": 60, "calendar_id": 9}})
    with pytest.raises(UnknownRuleError, match="calendar 9"):
        Story(one).created()
    story = Story(policy({"first_reply": 60})).created()
    with pytest.raises(UnknownRuleError, match="policy 1 version 1"):
        fire(story.clock("first_reply"), minutes(99), Rulebook([OFFICE]))


def test_without_any_calendar_all_hours_count() -> None:
    one = policy({"first_reply": 60})
    outcome = apply(
        TicketClocks(), Created(from_iso("2025-06-07T10:00:00Z")), Terms(one, "normal"), Rulebook((), [one])
    )
    assert next(c for c in outcome.changed if c.metric == "first_reply").due_at == from_iso(
        "2025-06-07T11:00:00Z"
    )


# --- merge, spam, failed sending -------------------------------------------------------------------------------


def test_merge_ends_the_source_and_hands_over_the_older_wait() -> None:
    source = Story(policy({})).created(-30).happens(MergedAway(minutes(10)))
    assert {clock.cause for clock in source.state.clocks} == {"merge"}
    target = Story(policy({"first_reply": 60})).created().happens(MergeReceived(minutes(10), minutes(-30)))
    reply = target.clock("first_reply")
    assert (reply.activated_at, reply.due_at) == (minutes(-30), minutes(30))
    late = Story(policy({"first_reply": 60})).created().happens(MergeReceived(minutes(50), minutes(-30)))
    assert late.clock("first_reply").breached_at == minutes(50)  # at the merge, never earlier
    missed = Story(policy({"first_reply": 60})).created().happens(MergeReceived(minutes(90), minutes(-30)))
    assert missed.clock("first_reply").breached_at == minutes(60)  # it was over before the merge
    answered = (
        Story(policy({"next_reply": 60})).created().agent(5).happens(MergeReceived(minutes(10), minutes(-30)))
    )
    assert answered.clock("next_reply").due_at == minutes(30)
    nobody = Story(policy({})).created().agent(5).happens(MergeReceived(minutes(10), None))
    assert nobody.instances("next_reply") == []


def test_spam_is_cancelled_and_stays_so() -> None:
    story = Story(policy({})).created().happens(Discarded(minutes(10)))
    assert {clock.state for clock in story.state.clocks} == {"cancelled"}
    assert story.customer(20).follow_up


def test_a_reply_that_was_not_delivered_is_taken_back() -> None:
    story = Story(policy({"first_reply": 60, "periodic_update": 60})).created().agent(50, "m1")
    story.happens(SendFailed(minutes(55), "m1"))
    reply = story.clock("first_reply")
    assert (reply.state, reply.due_at, reply.fulfilled_at) == ("active", minutes(60), None)
    assert story.instances("periodic_update") == ["cancelled"]
    assert story.agent(70, "m2").clock("first_reply").breached_at == minutes(60)
    assert story.kinds("first_reply") == ["activate", "fulfil", "reopen", "breach", "fulfil"]


def test_a_failure_reported_too_late_or_for_another_message_is_only_a_report() -> None:
    story = Story(policy({"first_reply": 60})).created().agent(10, "m1")
    before = story.state
    assert story.happens(SendFailed(minutes(20 + 1), "m1")).state == before
    assert story.happens(SendFailed(minutes(11), "other")).state == before


def test_a_later_reply_stands_in_for_the_failed_one() -> None:
    story = (
        Story(policy({"first_reply": 60, "next_reply": 60}))
        .created()
        .agent(50, "m1")
        .customer(52)
        .agent(54, "m2")
    )
    story.happens(SendFailed(minutes(55), "m1"))
    assert story.clock("first_reply").fulfilled_at == minutes(54)
    assert story.instances("periodic_update") == ["cancelled", "active"]
    # What was asked between them was not the oldest question: no promise of its own was kept.
    assert story.instances("next_reply") == ["cancelled"]
    assert story.customer(56).instances("next_reply") == ["cancelled", "active"]


def test_after_a_failed_reply_the_oldest_question_waits_not_the_newer() -> None:
    story = Story(policy({"first_reply": 60, "next_reply": 60})).created().agent(50, "m1").customer(52)
    story.happens(SendFailed(minutes(55), "m1"))
    assert story.instances("first_reply") == ["active"]
    assert story.instances("next_reply") == ["cancelled"]


def test_what_was_asked_after_the_solving_is_owed_although_the_reply_before_it_failed() -> None:
    story = (
        Story(policy({"first_reply": 60, "next_reply": 60})).created().agent(50, "m1").status(51, "solved")
    )
    story.customer(54).happens(SendFailed(minutes(55), "m1"))
    assert story.clock("first_reply").fulfilled_at == minutes(51)
    asked = story.clock("next_reply")
    assert (asked.state, asked.activated_at, asked.due_at) == ("active", minutes(54), minutes(114))


def test_asked_after_the_only_reply_which_failed_is_asked_before_any() -> None:
    story = Story(policy({"first_reply": 30, "next_reply": 60})).created(by=Author.AGENT, public=False)
    story.agent(10, "m1").customer(12).happens(SendFailed(minutes(15), "m1"))
    assert story.instances("next_reply") == ["cancelled"]
    first = story.clock("first_reply")
    assert (first.state, first.activated_at, first.due_at) == ("active", minutes(12), minutes(42))


# --- steps and the sweeper -------------------------------------------------------------------------------------

STEPS = [
    {"at": "50%", "actions": ["notify_assignee"]},
    {"at": "10m before due", "actions": ["notify_lead"]},
    {"at": "100%", "actions": [{"do": "tag", "value": "late"}]},
    {"at": "30m after breach", "actions": ["page_on_call"]},
]


def with_steps(metric: str = "first_reply", minutes_: int = 60, **kw) -> Story:
    return Story(policy({metric: {"minutes": minutes_, "steps": STEPS}}, **kw))


def steps_of(events) -> list[tuple[str, int]]:
    return [(event.data["step"], (event.at - T0) // MINUTE) for event in events if event.kind == "warn"]


def test_each_step_fires_at_its_moment_and_once() -> None:
    story = with_steps().created()
    told = []
    for minute in range(130):
        told += story.sweep(minute + 0.5)
    assert steps_of(told) == [("50%", 30), ("10m before", 50), ("100%", 60), ("30m after", 90)]
    assert [event.at for event in told if event.kind == "breach"] == [minutes(60)]
    assert story.clock("first_reply").next_fire_at is None
    assert story.clock("first_reply").step == 4
    assert [action for event in told if event.kind == "warn" for action in event.data["actions"]] == [
        {"do": "notify_assignee"},
        {"do": "notify_lead"},
        {"do": "tag", "value": "late"},
        {"do": "page_on_call"},
    ]


def test_nothing_fires_at_the_deadline_itself_and_the_breach_right_after() -> None:
    story = with_steps().created()
    story.sweep(55)
    assert story.sweep(60) == []
    assert story.clock("first_reply").next_fire_at == minutes(60) + 1
    told = story.sweep(60 + 1 / MINUTE)
    assert [(str(event.kind), event.at) for event in told] == [("breach", minutes(60)), ("warn", minutes(60))]


def test_missed_steps_collapse_into_the_highest_and_are_marked_late() -> None:
    story = with_steps().created()
    told = story.sweep(75)
    assert [str(event.kind) for event in told] == ["breach", "warn"]
    assert told[0].at == minutes(60)
    assert (told[1].data["step"], told[1].data["late"]) == ("100%", True)
    assert told[1].data["skipped"] == ["50%", "10m before"]
    assert story.sweep(76) == []


def test_a_reply_before_a_late_sweep_is_judged_by_its_own_time() -> None:
    story = with_steps().created()
    assert story.sweep(61)
    story.agent(59)  # accepted by the channel before the deadline, told to us after the sweep
    assert story.clock("first_reply").breached_at is None
    assert story.kinds("first_reply")[-3:] == ["warn", "retract", "fulfil"]
    missed = with_steps().created().agent(61)
    assert missed.clock("first_reply").breached_at == minutes(60)


def test_steps_wait_while_paused_and_are_timed_anew() -> None:
    story = with_steps("requester_wait").created().status(20, "pending")
    assert story.sweep(200) == []
    story.status(200, "open")
    assert story.clock("requester_wait").next_fire_at == minutes(210)
    assert steps_of(story.sweep(210)) == [("50%", 210)]


def test_a_retarget_that_jumps_over_steps_fires_the_highest_at_the_change() -> None:
    slow = policy({"first_reply": {"minutes": 240, "steps": STEPS}}, number=1)
    fast = policy({"first_reply": {"minutes": 60, "steps": STEPS}}, number=2)
    story = Story(slow, more_policies=[fast]).created()
    retargeted(story, 52, fast)
    told = story.sweep(52)
    assert steps_of(told) == [("10m before", 52)]
    assert not told[0].data["late"]
    assert story.clock("first_reply").next_fire_at == minutes(60) + 1


def test_the_same_policy_version_never_fires_a_step_twice_for_a_clock() -> None:
    targets = {
        level: {"first_reply": {"minutes": m, "steps": STEPS}}
        for level, m in (("urgent", 60), ("normal", 240))
    }
    both = policy({}).__class__.parse(id=1, version=1, position=1, name="p", targets=targets)
    story = Story(both)
    story.terms = Terms(both, "urgent")
    story.created().sweep(35)
    retargeted(story, 40, both, "normal")
    assert steps_of(story.sweep(150)) == []
    assert steps_of(story.sweep(231)) == [("10m before", 230)]


def test_the_default_plan_ends() -> None:
    story = Story(policy({"first_reply": {"minutes": 60, "business": False}})).created()
    told = [event for minute in range(400) for event in story.sweep(minute + 0.1)]
    assert steps_of(told) == [
        ("50%", 30),
        ("75%", 45),
        ("90%", 54),
        ("100%", 60),
        ("200%", 120),
        ("300%", 180),
    ]


def test_order_uses_the_earliest_promise_to_the_customer() -> None:
    story = Story(policy({"first_reply": 60, "requester_wait": 240, "agent_work": 10})).created()
    assert story.state.due_at == minutes(60)
    assert story.agent(5).state.due_at == minutes(240)
