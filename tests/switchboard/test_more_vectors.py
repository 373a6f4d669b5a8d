"""Scenarios of the form of `tests/vectors/vectors.json` that the file itself does not show: by the pure code, and lived
on both databases.
"""

import asyncio
from typing import Any

import pytest

from crm_core.db.engine import Database
from switchboard.check_vectors import SectionResult, both, check, render
from switchboard.vector_storage import check_stored

_OFFICE = {day: [["09:00", "18:00"]] for day in ("mon", "tue", "wed", "thu", "fri")}
CALENDARS = {
    "office": {"tz": "Europe/Kyiv", "week": _OFFICE},
    "always": {"tz": "UTC", "week": {d: [["00:00", "24:00"]] for d in (*_OFFICE, "sat", "sun")}},
    "never": {"tz": "UTC", "week": {}},
}


def at(text: str) -> str:
    """`07:30` on Monday 2 June 2025, `fri 14:00` of that week, `mon+ 06:00` of the next; UTC."""
    day, _, time = text.rpartition(" ")
    number = {"": 2, "fri": 6, "sat": 7, "mon+": 9}[day]
    return f"2025-06-{number:02}T{time}:00Z"


def promise(**minutes: float | dict[str, Any]) -> dict[str, Any]:
    targets = {
        f"{metric}_time": m if isinstance(m, dict) else {"minutes": m, "business": True}
        for metric, m in minutes.items()
    }
    return dict.fromkeys(("low", "normal", "high", "urgent"), targets)


def event(when: str, kind: str, **says: Any) -> dict[str, Any]:
    return {"type": kind, "at": at(when), **says}


def sees(when: str, *instances: dict[str, Any]) -> dict[str, Any]:
    return {"at": at(when), "instances": list(instances)}


def clock(
    metric: str, state: str, since: str, elapsed: float, outcome: str, *, n: int = 1, **more: Any
) -> dict[str, Any]:
    instants = ("breached_at", "fulfilled_at", "due_first", "due_last")
    told = {key: at(value) if value and key in instants else value for key, value in more.items()}
    return {
        "metric": f"{metric}_time", "instance": n, "state": state, "activated_at": at(since),
        "elapsed_min": elapsed, "outcome": outcome, **told,
    }  # fmt: skip


def story(name: str, policy: Any, events: list[Any], looks: list[Any], **more: Any) -> dict[str, Any]:
    told = {"calendar": "office", "priority": "normal", **more}
    return {"id": name, "policy": policy, "events": events, "expect": looks, **told}


HOUR = promise(first_reply=60)
ASKED = event("07:00", "create")
RUNNING = {"breached_at": None, "target_min": 60, "due_first": "08:00", "due_last": "08:00"}

STORIES = [
    story(
        "an answer at the deadline is in time",
        HOUR,
        [ASKED, event("08:00", "agent")],
        [sees("09:00", clock("first_reply", "fulfilled", "07:00", 60, "met", fulfilled_at="08:00"))],
    ),
    *(
        story(
            f"{spelling} does not answer",
            HOUR,
            [ASKED, event("07:01", **spelling)],
            [sees("07:40", clock("first_reply", "active", "07:00", 40, "running", **RUNNING))],
        )
        for spelling in (
            {"kind": "agent", "public": False},
            {"kind": "bot"},
            {"kind": "agent", "bot": True},
            {"kind": "agent", "by": "bot"},
            {"kind": "agent", "author": "bot"},
        )
    ),
    story(
        "a pausable update stands still while pending",
        promise(pausable_update=60),
        [
            event("06:30", "create"), event("07:00", "agent"), event("07:20", "status", to="pending"),
            event("08:20", "status", to="open"), event("08:50", "agent"),
        ],
        [
            sees("08:00", clock("pausable_update", "paused", "07:00", 20, "paused", paused_min=40, due_first=None)),
            sees(
                "09:00",
                clock("pausable_update", "fulfilled", "07:00", 50, "met", paused_min=60, fulfilled_at="08:50"),
                clock("pausable_update", "active", "08:50", 10, "running", n=2, due_first="09:50"),
            ),
        ],
    ),
    story(
        "reopened by an agent while the customer spoke last",
        promise(next_reply=60),
        [
            ASKED, event("07:10", "agent"), event("07:30", "customer"), event("07:40", "status", to="solved"),
            event("09:00", "status", to="open"),
        ],
        [
            sees(
                "09:20",
                clock("next_reply", "fulfilled", "07:30", 10, "met", fulfilled_at="07:40"),
                clock("next_reply", "active", "09:00", 20, "running", n=2, due_first="10:00"),
            )
        ],
    ),
    story(
        "promised later, counted from the beginning, and seen before",
        None,
        [ASKED, event("07:30", "policy", targets=HOUR), event("07:50", "agent")],
        [
            sees("06:00"),
            sees("07:20", clock("first_reply", "active", "07:00", 20, "running", breached_at=None)),
            sees("07:40", clock("first_reply", "active", "07:00", 40, "running", **RUNNING)),
            sees("08:30", clock("first_reply", "fulfilled", "07:00", 50, "met", fulfilled_at="07:50")),
        ],
    ),
    story(
        "what is not promised yet need not be listed, and no priority is the ordinary one",
        None,
        [ASKED, event("07:30", "policy", targets={"normal": HOUR["normal"]})],
        [sees("07:20"), sees("07:40", clock("first_reply", "active", "07:00", 40, "running", **RUNNING))],
        priority=None,
    ),
    story(
        "promised while it was solved, kept when it is open again",
        None,
        [
            ASKED, event("07:10", "status", to="solved"), event("07:30", "policy", targets=promise(requester_wait=60)),
            event("08:00", "customer"),
        ],
        [
            sees(
                "08:20",
                clock("requester_wait", "active", "07:00", 30, "running", target_min=60, due_first="08:50"),
            )
        ],
    ),
    story(
        "without any promise the hours are the calendar's all the same",
        None,
        [event("fri 14:30", "create"), event("mon+ 06:15", "agent"), event("mon+ 07:00", "policy", targets=HOUR)],
        [sees("mon+ 08:00", clock("first_reply", "fulfilled", "fri 14:30", 45, "met"))],
    ),
    story(
        "no policy, taken away twice, given, taken away twice",
        None,
        [
            ASKED, event("07:10", "policy", targets=None), event("07:20", "policy", targets=None),
            event("07:30", "policy", targets=HOUR), event("07:40", "policy", targets=None),
            event("07:50", "policy", targets=None),
        ],
        [sees("08:30", clock("first_reply", "active", "07:00", 90, "running", breached_at=None))],
    ),
    story(
        "written down in another order than it happened, and before the ticket exists",
        HOUR,
        [
            event("07:40", "policy", targets=None),
            event("07:20", "policy", targets=promise(first_reply=30)),
            ASKED,
            event("06:00", "priority", to="high"),
            event("06:30", "policy", targets={"high": HOUR["high"]}),
        ],
        [
            sees("07:10", clock("first_reply", "active", "07:00", 10, "running", **RUNNING)),
            sees("07:25", clock("first_reply", "active", "07:00", 25, "running", target_min=30, due_first="07:30")),
        ],
    ),
    story(
        "an agent writes first: no first reply, updates run, the customer's word wants a next reply",
        promise(first_reply=60, next_reply=60, periodic_update=120),
        [event("07:00", "create", by="agent"), event("07:30", "customer")],
        [
            sees(
                "07:40",
                clock("periodic_update", "active", "07:00", 40, "running", due_first="09:00"),
                clock("next_reply", "active", "07:30", 10, "running", due_first="08:30"),
            )
        ],
    ),
    *(
        story(
            f"opened by an internal note, {opened}",
            HOUR,
            [event("07:00", "create", **opened), event("07:30", "customer")],
            [
                sees("07:20"),
                sees("07:40", clock("first_reply", "active", "07:30", 10, "running", due_first="08:30")),
            ],
        )
        for opened in ({"by": "agent", "public": False}, {"public": False})
    ),
    story(
        "closed is final: what people try afterwards is refused",
        HOUR,
        [
            ASKED, event("07:10", "status", to="closed"), event("08:10", "status", to="open"),
            event("08:11", "priority", to="high"), event("08:12", "agent"), event("08:13", "customer"),
        ],
        [sees("09:00", clock("first_reply", "fulfilled", "07:00", 10, "met", fulfilled_at="07:10"))],
    ),
    story(
        "a target that ends at closing time is met on Saturday",
        HOUR,
        [event("fri 14:00", "create"), event("sat 09:00", "agent")],
        [
            sees(
                "fri 16:00",
                clock("first_reply", "active", "fri 14:00", 60, "running", due_first="fri 15:00", due_last="mon+ 06:00"),
            ),
            sees("mon+ 10:00", clock("first_reply", "fulfilled", "fri 14:00", 60, "met", fulfilled_at="sat 09:00")),
        ],
    ),
    story(
        "a target that ends at closing time is missed at the next opening",
        HOUR,
        [event("fri 14:00", "create")],
        [
            sees("mon+ 06:00", clock("first_reply", "active", "fri 14:00", 60, "running", breached_at=None)),
            sees(
                "mon+ 06:01",
                clock("first_reply", "active", "fri 14:00", 61, "breached", breached_at="mon+ 06:00", due_first="fri 15:00"),
            ),
        ],
    ),
    story(
        "a calendar that never opens promises nothing",
        HOUR,
        [ASKED],
        [sees("09:00", clock("first_reply", "active", "07:00", 0, "running", due_first=None, due_last=None))],
        calendar="never",
    ),
    story(
        "a new target was used up before a pause: due is when that was, broken is when it became the target",
        promise(requester_wait=240),
        [
            ASKED, event("08:00", "status", to="pending"), event("10:00", "customer"),
            event("10:30", "policy", targets=promise(requester_wait=45)),
        ],
        [
            sees("10:20", clock("requester_wait", "active", "07:00", 80, "running", paused_min=120, due_first="13:00")),
            sees(
                "10:40",
                clock(
                    "requester_wait", "active", "07:00", 100, "breached", paused_min=120, breached_at="10:30",
                    due_first="07:45",
                ),
            ),
        ],
    ),
    story(
        "the same over a solving, and in plain time",
        promise(total_resolution=600),
        [
            ASKED, event("08:00", "status", to="solved"), event("10:00", "status", to="open"),
            event("10:30", "policy", targets=promise(total_resolution={"minutes": 30, "business": False})),
            event("11:00", "status", to="solved"), event("12:00", "customer"),
        ],
        [
            sees("10:40", clock("total_resolution", "active", "07:00", 100, "breached", breached_at="10:30", due_first="07:30")),
            sees("12:30", clock("total_resolution", "active", "07:00", 150, "breached", breached_at="10:30", due_first="07:30")),
        ],
    ),
    story(
        "the same of a ticket that was pending from the beginning",
        promise(requester_wait=600),
        [
            event("07:00", "create", status="pending"), event("08:00", "status", to="open"),
            event("09:00", "status", to="solved"), event("10:00", "customer"),
            event("10:30", "policy", targets=promise(requester_wait=30)),
        ],
        [
            sees(
                "10:40",
                clock(
                    "requester_wait", "active", "07:00", 100, "breached", paused_min=60, breached_at="10:30",
                    due_first="08:30",
                ),
            )
        ],
    ),
]  # fmt: skip


def vectors(*stories: dict[str, Any]) -> dict[str, Any]:
    return {"calendars": CALENDARS, "sla_scenarios": list(stories)}


def of(results: list[SectionResult], section: str) -> SectionResult:
    return next(result for result in results if result.section == section)


@pytest.mark.parametrize("told", STORIES, ids=lambda told: told["id"])
def test_a_story_by_the_pure_code(told: dict[str, Any]) -> None:
    assert of(check(vectors(told)), "sla_scenarios").failures == ()


async def test_the_stories_lived(db: Database, clock: Any) -> None:
    result = of(await check_stored(db, clock, vectors(*STORIES)), "sla_scenarios")
    assert result.failures == ()
    assert result.passed == len(STORIES)


def test_what_is_promised_must_be_listed() -> None:
    told = {**STORIES[0], "expect": [sees("09:00")]}
    assert of(check(vectors(told)), "sla_scenarios").passed == 0


async def test_vectors_of_one_name_are_told_apart(db: Database, clock: Any) -> None:
    right, wrong = STORIES[0], {**STORIES[0], "events": [ASKED]}
    file = vectors(right, wrong, right, wrong)
    result = of(both(check(file), await check_stored(db, clock, file)), "sla_scenarios")
    assert (result.passed, result.total) == (2, 4)
    name = right["id"]
    assert [failure.id for failure in result.failures] == [f"{name} (#2)", f"{name} (#4)"]


def _broken() -> dict[str, tuple[dict[str, Any], str]]:
    """{what is wrong: (a scenario, what the report says of it)}"""
    good = STORIES[0]
    look = good["expect"][0]
    return {
        "top": ({**good, "polices": {}}, "polices: unknown field"),
        "event field": ({**good, "events": [{**ASKED, "vip": True}]}, "events[0].vip: unknown field"),
        "event": ({**good, "events": [ASKED, event("07:30", "snooze")]}, "unknown event 'snooze'"),
        "look": ({**good, "expect": [{**look, "agents": []}]}, "expect[0].agents: unknown field"),
        "two looks": ({**good, "expect": [look, look]}, "two looks at"),
        "twice": ({**good, "expect": [{**look, "instances": look["instances"] * 2}]}, "is stated twice"),
        "metric": ({**good, "policy": promise(last_reply=5)}, "last_reply"),
        "calendar": ({**good, "calendar": "nowhere"}, "nowhere"),
        "no creation": ({**good, "events": [event("07:00", "agent")]}, ""),
    }


async def test_hours_that_no_database_can_hold_fail_alone(db: Database, clock: Any) -> None:
    """JSON may say what Postgres refuses: the other vectors are checked all the same."""
    odd = {
        "endless": {**CALENDARS["office"], "week": float("inf")},
        "half \ud800": {"tz": "\x00", "week": {}},
    }
    instant = {"kind": "open", "at": at("07:00"), "open": True}
    items = [{"id": f"in \ud800 {name}", "calendar": name, **instant} for name in ("office", *odd)]
    file = {"calendars": {**CALENDARS, **odd}, "business_time": items}
    results = both(check(file), await check_stored(db, clock, file))
    assert {(r.section, r.passed, r.total) for r in results if r.total} == {
        ("calendars", 3, 5),
        ("business_time", 1, 3),
    }
    assert render(results).encode()


@pytest.mark.parametrize("what", _broken())
async def test_what_nobody_understands_is_a_failure_that_says_so(db: Database, clock: Any, what: str) -> None:
    told, says = _broken()[what]
    file = vectors(told)
    for results in (check(file), await check_stored(db, clock, file)):
        result = of(results, "sla_scenarios")
        assert (result.passed, result.total) == (0, 1)
        assert says in str(result.failures[0].got)


def test_words_about_a_scenario_change_nothing() -> None:
    good = STORIES[0]
    look = {
        "at": at("09:00"),
        "note": "after it",
        "instances": [{**good["expect"][0]["instances"][0], "note": "!"}],
    }
    told = {**good, "note": "n", "events": [{**e, "comment": "c"} for e in good["events"]], "expect": [look]}
    assert of(check(vectors(told)), "sla_scenarios").failures == ()


def _arithmetic(**says: Any) -> SectionResult:
    item = {"id": "x", "calendar": "office", **says}
    return of(check({"calendars": CALENDARS, "business_time": [item]}), "business_time")


def test_backwards_over_pauses() -> None:
    """10:00 - 12:00 in Kyiv did not count: two hours before 14:30 it was 9:30 + 0:30, and so 10:00."""
    pauses = [[at("07:00"), at("09:00")]]
    asked = {"kind": "back", "start": at("11:30"), "pauses": pauses}
    right = {"seconds": 3 * 3600, "back_first": at("06:30"), "back_last": at("06:30")}
    edge = {"seconds": 2.5 * 3600, "back_first": at("09:00"), "back_last": at("07:00")}
    assert _arithmetic(**asked, **right).failures == ()
    assert _arithmetic(**asked, **edge).failures == ()
    assert _arithmetic(**asked, **{**edge, "back_last": at("09:00")}).passed == 0


def test_an_instant_may_be_written_in_another_offset() -> None:
    due = {"kind": "due", "start": at("07:00"), "seconds": 60}
    local = "2025-06-02T10:01:00+03:00"
    assert _arithmetic(**due, due_first=local, due_last=at("07:01")).failures == ()
    assert _arithmetic(**due, due_first=local, due_last=at("07:02")).passed == 0


@pytest.mark.parametrize(
    ("says", "told"),
    [
        ({"kind": "open", "at": at("07:00"), "open": True, "pauses": []}, "pauses: unknown field"),
        ({"kind": "elapsed", "start": at("07:00"), "end": at("08:00")}, "no answer"),
        ({"kind": "sum"}, "unknown kind 'sum'"),
        ({"kind": "due", "start": at("07:00"), "seconds": -1, "due_first": None}, "negative"),
    ],
)
def test_arithmetic_nobody_understands(says: dict[str, Any], told: str) -> None:
    result = _arithmetic(**says)
    assert result.passed == 0
    assert told in str(result.failures[0].got)


def _erlang(**says: Any) -> SectionResult:
    return of(check({"erlang": [{"id": "x", **says}]}), "erlang")


def test_an_overloaded_queue_has_no_end() -> None:
    queue = {"model": "C", "offered_erlangs": 5, "servers": 5, "aht_s": 60, "p_wait": 1, "service_level": 0}
    assert _erlang(**queue, asa_s=None, mean_queue=None, occupancy=1).failures == ()
    assert _erlang(**{**queue, "servers": 6}, asa_s=None).passed == 0


def test_a_load_written_as_calls() -> None:
    queue = {"model": "C", "calls_per_hour": 200, "aht_s": 180, "servers": 15, "threshold_s": 20}
    assert _erlang(**queue, p_wait=0.102042367007988).failures == ()
    patient = {**queue, "model": "A", "mean_patience_s": 300, "servers": 14, "p_wait": 0.1452601142964}
    assert _erlang(**patient, offered_erlangs=10).failures == ()
    assert _erlang(**patient, offered_erlangs=11).passed == 0


@pytest.mark.parametrize(
    ("says", "told"),
    [
        ({"model": "C", "offered_erlangs": 1, "servers": 2, "aht_s": 1, "p_wait": 1 / 3, "asa": 1}, "asa: unknown field"),
        ({"model": "D"}, "unknown model 'D'"),
        ({"model": "B", "offered_erlangs": 1, "servers": 2}, "no answer"),
        ({"model": "B", "offered_erlangs": -1, "servers": 2, "blocking": 0}, "offered_erlangs"),
    ],
)  # fmt: skip
def test_formulas_nobody_understands(says: dict[str, Any], told: str) -> None:
    result = _erlang(**says)
    assert result.passed == 0
    assert told in str(result.failures[0].got)


def test_reports() -> None:
    counts = {"answered": 31, "abandoned": 1, "answered_within_t": 1, "abandoned_within_t": 0, "t_s": 20}
    right = {"input": counts, "service_level_pct": {"abandons_negative": 3.125}, "note": "n"}
    nothing = {"input": dict.fromkeys(counts, 0), "service_level_pct": {"answered_only": None}}
    unknown = {
        "input": {**counts, "vip": 1},
        "service_level_pct": {"abandons_negative": 3.125},
        "utilisation": {},
        "asa": {"waits_s": [1], "asa_s": 1},
    }
    custom = {"input": counts, "service_level_pct": {"abandons_guessed": 1}}
    assert of(check({"reporting": right}), "reporting").failures == ()
    assert of(check({"reporting": nothing}), "reporting").failures == ()
    told = {f.id: str(f.got) for f in of(check({"reporting": unknown}), "reporting").failures}
    assert "input.vip: unknown field" in told["service_level_pct.abandons_negative"]
    assert "unknown report" in told["utilisation"]
    assert "waits_s: unknown field" in told["asa"]
    [failure] = of(check({"reporting": custom}), "reporting").failures
    assert "unknown custom" in failure.got


def test_rules_of_the_past_do_not_slow_what_comes(database_url: str) -> None:
    """What one scenario promised is gone before the next one begins."""
    from sqlalchemy import func, select

    from routing.schema import sla_clock, sla_policy
    from switchboard.vector_storage import throwaway

    async def left() -> tuple[int, int]:
        async with throwaway(database_url) as (db, clock):
            await check_stored(db, clock, vectors(*STORIES[:3]))
            async with db.reading() as conn:
                found = [
                    await conn.scalar(select(func.count()).select_from(t)) for t in (sla_policy, sla_clock)
                ]
        return int(found[0] or 0), int(found[1] or 0)

    assert asyncio.run(left()) == (0, 0)
