"""The deciding code without any database: settings, order, filter, ranking, steps, machine."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_core.clock import HOUR, MINUTE, SECOND
from routing import decide, machine, ranking, settings, steps
from routing.business_time import Calendar
from routing.decide import Hours
from routing.eligibility import availability_failure
from routing.explain_text import decision_text
from routing.model import AgentView, Item, ItemState, LaneSpec, Reason, Requirements, Slot
from routing.order import order_key
from routing.reasons import fit, of_placement
from routing.settings import DEFAULTS, SettingsError, Share, parse

NOW = 1_790_000_000_000
TEAM = LaneSpec("chat", team_id=1).signature
MANAGER = LaneSpec("chat", agent_id=7).signature


def an_agent(agent_id: int, **more: Any) -> AgentView:
    facts: dict[str, Any] = {
        "name": f"A{agent_id}",
        "presence": "online",
        "routable": True,
        "lease_until": NOW + HOUR,
        "idle_since": NOW - 60_000,
        "slots": {c: Slot(m) for c, m in (("voice", 1), ("chat", 4), ("async", 10), ("callback", 1))},
        "lanes": frozenset({TEAM}),
    }
    return AgentView(agent_id=agent_id, **{**facts, **more})


def an_item(**more: Any) -> Item:
    facts: dict[str, Any] = {
        "source_kind": "inquiry",
        "source_id": 1,
        "team_id": 1,
        "channel": "chat",
        "ready_at": NOW,
        "step_entered_at": NOW,
        "order_parts": {"target_at": NOW + 3 * MINUTE},
        "order_key": NOW + 3 * MINUTE,
    }
    return Item(id=1, **{**facts, **more})


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ([], "settings"),
        ({"channels": {"fax": {}}}, "channels.fax"),
        ({"channels": {"chat": {"mode": "shout"}}}, "channels.chat.mode"),
        ({"channels": {"chat": {"timeout_s": 0}}}, "channels.chat.timeout_s"),
        ({"channels": {"chat": {"timeout_s": "25"}}}, "channels.chat.timeout_s"),
        ({"channels": {"chat": {"max": True}}}, "channels.chat.max"),
        ({"channels": {"chat": {"sticky_wait": "120%"}}}, "channels.chat.sticky_wait"),
        ({"channels": {"chat": {"boosts_s": {"huge": 1}}}}, "channels.chat.boosts_s"),
        ({"steps": [{"scope": "required"}, {"scope": "manager"}]}, "steps.1.scope"),
        ({"steps": [{"scope": "required", "at": "50%"}, {"scope": "relaxed", "at": "20%"}]}, "steps.1.at"),
        ({"steps": [{"scope": "manager"}]}, "steps"),
        ({"overflow": ["x"]}, "overflow.0"),
        ({"after_hours": "sleep"}, "after_hours"),
        ({"near_promise": {"skill": "Visa, please"}}, "near_promise.skill"),
        ({"near_promise": {"skill": "desk:mail", "within_s": 0}}, "near_promise.within_s"),
    ],
)
def test_wrong_settings_name_the_place(data: Any, path: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(data)
    assert caught.value.path == path
    assert path in caught.value.detail
    assert settings.read(data) == (DEFAULTS, caught.value.detail)


def test_settings_override_only_what_they_name() -> None:
    mine = parse(
        {
            "color": "red",
            "channels": {"chat": {"timeout_s": 40, "sticky_wait": "10%", "boosts_s": {"urgent": 600}}},
            "overflow": [3],
        }
    )
    chat = mine.channel("chat")
    assert (chat.timeout_ms, chat.sticky_wait, chat.maximum) == (40_000, Share(0.1), 4)
    assert chat.boosts == {"urgent": 600_000, "high": 30_000, "normal": 0, "low": -60_000}
    assert mine.channel("voice") == DEFAULTS.channel("voice")
    assert mine.overflow == (3,)


def test_the_key_is_the_deadline_less_the_boosts() -> None:
    common: dict[str, Any] = {"channel": "async", "kind": "ticket", "ready_at": NOW}
    assert (
        order_key(DEFAULTS, priority="urgent", vip=True, due_at=NOW + HOUR, **common).key
        == NOW + HOUR - 6 * HOUR
    )
    assert order_key(DEFAULTS, priority="low", vip=False, due_at=None, **common).key == NOW + 10 * HOUR
    assert (
        order_key(
            DEFAULTS, channel="async", kind="lead", priority="normal", vip=False, due_at=None, ready_at=NOW
        ).key
        == NOW + 15 * MINUTE
    )
    office = Calendar.from_spec({"tz": "UTC", "week": {"mon": [["09:00", "10:00"]]}})
    weekly = order_key(DEFAULTS, priority="normal", vip=False, due_at=None, calendar=office, **common).key
    assert office.elapsed(NOW, weekly) == 8 * HOUR


@given(
    a=st.integers(0, 10**9),
    b=st.integers(0, 10**9),
    early=st.sampled_from(settings.PRIORITIES),
    late=st.sampled_from(settings.PRIORITIES),
)
def test_nobody_is_overtaken_beyond_the_boost(a: int, b: int, early: str, late: str) -> None:
    """I5: whoever comes later than the difference of the boosts sorts behind."""
    first = order_key(
        DEFAULTS, channel="chat", kind="ticket", priority=early, vip=False, due_at=None, ready_at=a
    )
    boosts = DEFAULTS.channel("chat").boosts
    bound = boosts[late] - boosts[early]
    second = order_key(
        DEFAULTS,
        channel="chat",
        kind="ticket",
        priority=late,
        vip=False,
        due_at=None,
        ready_at=a + max(bound, 0) + 1 + b,
    )
    assert first.key < second.key


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"presence": "offline"}, Reason.OFFLINE),
        ({"presence": "break"}, Reason.ON_BREAK),
        ({"presence": "dnd"}, Reason.DND),
        ({"lease_until": NOW}, Reason.NO_LEASE),
        ({"slots": {}}, Reason.CHANNEL_OFF),
        ({"slots": {"chat": Slot(1, 1, 25)}}, Reason.NO_CAPACITY),
        ({"slots": {"chat": Slot(1, 1, 25)}, "wrapup_until": NOW + 1}, Reason.WRAPUP),
        ({"slots": {"chat": Slot(4), "voice": Slot(1, 1, 100)}}, Reason.INTERRUPTED_BY_NOTHING),
        ({"slots": {"chat": Slot(4, 3, 75), "async": Slot(10, 10, 100)}}, None),
    ],
)
def test_the_first_failing_filter_is_named(more: dict[str, Any], reason: Reason | None) -> None:
    rules = DEFAULTS.channel("chat")
    assert availability_failure(an_agent(1, **more), "chat", rules.weight, rules, NOW) == reason


def test_ranking_goes_load_then_scarcity_then_idle_then_id() -> None:
    loaded = an_agent(1, load_used=30, idle_since=0)
    special = an_agent(2, scarcity=1, idle_since=0)
    idle = an_agent(3, idle_since=NOW - 2)
    busy = an_agent(4, idle_since=NOW - 1)
    ranks = ranking.ranked(an_item(), [busy, loaded, idle, special], 0)
    assert [r.agent.agent_id for r in ranks] == [3, 4, 2, 1]
    assert ranking.first_difference(ranks[0], ranks[1]) == "idle_since"
    assert ranking.first_difference(ranks[0], ranks[2]) == "scarcity"
    assert ranking.first_difference(ranks[0], ranks[3]) == "load"


def test_steps_only_widen() -> None:
    item = an_item(
        manager_id=7,
        sticky_agent_id=8,
        requirements=Requirements(
            required={"lang:uk": 2, "p:visa": 3}, preferred={"p:hotels": 2}, hard=frozenset({"lang:uk"})
        ),
    )
    plan = steps.plan(item, parse({"overflow": [5, 6, 9]}))
    assert [s.scope for s in plan] == ["manager", "sticky", "preferred", "required", "relaxed", "overflow"]
    assert [len(s.lanes) for s in plan] == [1, 2, 3, 3, 3, 5]
    assert plan[4].lanes[-1].requirements == (("lang:uk", 2), ("p:visa", 2))
    assert [lane.team_id for lane in plan[5].lanes] == [None, None, 1, 5, 6]
    assert plan[3].starts_at == NOW + 45 * SECOND
    assert len(steps.plan(an_item(), DEFAULTS)) == 1


def place(item: Item, *agents: AgentView, now: int = NOW, **more: Any) -> decide.Placement:
    return decide.place(item, more.pop("settings", DEFAULTS), agents, more.pop("hours", Hours()), now)


def test_the_managers_window() -> None:
    item = an_item(manager_id=7)
    other = an_agent(1)
    manager = an_agent(7, lanes=frozenset({MANAGER, TEAM}))
    full = replace(manager, slots={"chat": Slot(1, 1, 25)})
    assert [r.agent.agent_id for r in place(item, other, manager).ranks] == [7]
    waits = place(item, other, full)
    assert (waits.ranks, waits.next_step_at) == ((), NOW + 45 * SECOND)
    later = place(item, other, full, now=NOW + 45 * SECOND)
    assert [r.agent.agent_id for r in later.ranks] == [1]
    assert [(left.scope, left.why) for left in later.left] == [("manager", "time")]
    away = place(item, other, replace(manager, presence="offline", routable=False))
    assert [r.agent.agent_id for r in away.ranks] == [1]
    # Rule 4: the window ends before the waiting alone would break the promise.
    short = place(replace(item, order_parts={"target_at": NOW + 70 * SECOND}), other, full)
    assert short.next_step_at == NOW + 10 * SECOND


def test_a_manager_whose_shift_begins_in_time_is_waited_for() -> None:
    lane = LaneSpec("async", agent_id=7).signature
    item = an_item(channel="async", manager_id=7, order_parts={"target_at": NOW + 8 * HOUR})
    manager = an_agent(7, presence="offline", routable=False, lanes=frozenset({lane}), shift_from=NOW + HOUR)
    assert place(item, manager).next_step_at == NOW + HOUR + 10 * MINUTE
    too_late = place(item, replace(manager, shift_from=NOW + 9 * HOUR))
    assert too_late.step.scope != "manager"


def test_after_hours() -> None:
    closed = Hours(is_open=False, next_open=NOW + HOUR)
    parked = place(an_item(), an_agent(1), hours=closed)
    assert (parked.park_until, parked.ranks) == (NOW + HOUR, ())
    assert place(an_item(), an_agent(1), hours=Hours(is_open=False)).ranks
    assert place(an_item(), an_agent(1), hours=closed, settings=parse({"after_hours": "online"})).ranks
    assert place(
        an_item(priority="urgent"),
        an_agent(1),
        hours=closed,
        settings=parse({"on_call": {"priorities": ["urgent"]}}),
    ).ranks
    assert place(an_item(channel="callback"), hours=closed).park_until is None


def test_the_machine_refuses_what_does_not_fit() -> None:
    with pytest.raises(machine.WrongStateError):
        machine.react(an_item(state=ItemState.DONE), machine.Ended(held=(), cause="solved"), DEFAULTS, NOW)


def test_three_rounds_without_a_taker_open_the_next_step() -> None:
    item = an_item(state=ItemState.OFFERED, rounds=2)
    offer = machine.Holding(id=1, agent_id=4, channel="chat", weight=25, assignment=False)
    change = machine.react(item, machine.Refused(offer=offer, how="expired"), DEFAULTS, NOW)
    assert (change.item.step_no, change.item.rounds, change.item.excluded) == (1, 3, {4: NOW + 300_000})
    assert machine.Missed(agent_id=4) in change.actions
    revoked = machine.react(item, machine.Refused(offer=offer, how="revoked"), DEFAULTS, NOW)
    assert (revoked.item.step_no, revoked.item.rounds, revoked.item.excluded) == (0, 2, {})


def test_a_reason_is_a_sentence_in_three_languages_and_stays_small() -> None:
    item = an_item(
        manager_id=7,
        requirements=Requirements(required={"lang:uk": 2}, dropped=("lang:de",)),
        step_no=0,
        ready_at=NOW - 45_000,
        step_entered_at=NOW - 45_000,
    )
    lane = LaneSpec("chat", team_id=1, requirements=(("lang:uk", 2),)).signature
    olena = an_agent(
        1,
        name="Olena",
        skills={"lang:uk": 4},
        idle_since=NOW - 6 * MINUTE,
        lanes=frozenset({lane}),
        slots={"chat": Slot(10, 3, 0)},
    )
    ihor = replace(olena, agent_id=2, name="Ihor", load_used=40, slots={"chat": Slot(10, 5, 0)})
    petro = an_agent(7, name="Petro", lanes=frozenset({MANAGER}), slots={"chat": Slot(1, 1, 25)})
    crowd = [an_agent(n, name="Ж" * 90, presence="offline") for n in range(100, 200)]
    placement = place(item, olena, ihor, petro, *crowd)
    why = of_placement(
        item,
        placement,
        trigger="step",
        winner=placement.ranks[0],
        lost=[],
        people={7: "Petro"},
        version=1,
        now=NOW,
    )
    assert decision_text(why, "en") == (
        "Olena: speaks Ukrainian (4), least loaded (3 of 10), idle 6 min. Next best was Ihor (5 of 10). "
        "Manager Petro: has no free place. It waited 45 s for that. "
        "Nobody in the team speaks German, so it was not asked for."
    )
    assert decision_text(why, "uk").startswith(
        "Olena: знає українську (4), найменше навантаження (3 з 10), без нового 6 хв."
    )
    assert decision_text(why, "ru").startswith(
        "Olena: знает украинский (4), наименьшая нагрузка (3 из 10), без нового 6 мин."
    )
    assert len(json.dumps(why, ensure_ascii=False).encode()) <= 2048


def test_the_same_facts_decide_the_same_way() -> None:
    """I8 in small: a decision is a function of its facts."""
    agents = [an_agent(n, idle_since=NOW - n) for n in range(20)]
    first = place(an_item(), *agents)
    assert place(an_item(), *reversed(agents)).ranks == first.ranks


def test_a_reason_that_is_too_long_is_cut_and_says_so() -> None:
    long = {"winner": {"agent_id": 1, "name": "Ж" * 40}, "key": {"order_key": 5}, "config": 3}
    assert fit(long) == long
    rejected = [[n, "Ж" * 40, "offline"] for n in range(5)]
    listed = fit(long | {"rejected": rejected, "lanes": ["x" * 600] * 3})
    assert (len(listed["rejected"]), listed["cut"]) == (2, ["lists"])
    huge = fit(
        long | {"rejected": rejected, "lanes": ["Ж" * 900] * 3, "note": "n" * 300, "required": {"s" * 900: 1}}
    )
    assert huge["cut"] == ["lists", "lanes"]
    assert (huge["winner"], huge["key"], huge["note"]) == (long["winner"], long["key"], "n" * 300)
    assert len(json.dumps(huge, ensure_ascii=False).encode()) <= 2048


def test_a_ring_of_nobody_is_passed_and_one_of_busy_people_is_waited_for() -> None:
    """Who has the preferred skill is away: nobody waits for him. Is he only busy, he is waited for."""
    item = an_item(requirements=Requirements(preferred={"product:visa": 1}))
    preferred, required = steps.plan(item, DEFAULTS)[:2]
    assert (preferred.scope, preferred.skip_if_empty, required.scope) == ("preferred", True, "required")
    lanes = preferred.signatures | required.signatures
    full = {"slots": {"chat": Slot(4, 4, 100)}, "skills": {"product:visa": 1}, "lanes": lanes}
    other = an_agent(2, lanes=required.signatures, slots={"chat": Slot(4, 4, 100)})
    away = an_agent(1, **full, routable=False, presence="offline")
    gone = decide.place(item, DEFAULTS, [away, other], Hours(), NOW)
    assert (gone.step.scope, [(left.scope, left.why) for left in gone.left]) == (
        "required",
        [("preferred", "empty")],
    )
    busy = decide.place(item, DEFAULTS, [an_agent(1, **full), other], Hours(), NOW)
    assert (busy.step.scope, busy.next_step_at) == ("preferred", NOW + 45 * SECOND)
    # A quarter of the time is used up: now the others are asked, too.
    later = decide.place(item, DEFAULTS, [an_agent(1, **full), other], Hours(), NOW + 45 * SECOND)
    assert later.step.scope == "required"


@pytest.mark.parametrize(
    ("due_in", "metric", "key_in"),
    [(2 * MINUTE, "sla", 2 * MINUTE), (HOUR, "max_wait", 3 * MINUTE), (None, "max_wait", 3 * MINUTE)],
)
def test_the_key_is_the_earlier_of_promise_and_longest_wait(
    due_in: int | None, metric: str, key_in: int
) -> None:
    due_at = None if due_in is None else NOW + due_in
    key = order_key(
        DEFAULTS, channel="chat", kind="ticket", priority="normal", vip=False, due_at=due_at, ready_at=NOW
    )
    assert (key.metric, key.key) == (metric, NOW + key_in)
