"""Which item a free agent takes: order, what he passes, the share of the late ones. Without any database."""

from dataclasses import replace
from typing import Any

from crm_core.clock import HOUR, MINUTE
from routing import decide
from routing.decide import Hours, PassedHead, TeamRules, Turn
from routing.model import AgentView, Item, Reason, Slot
from routing.settings import DEFAULTS, parse

NOW = 1_790_000_000_000
AGENT = AgentView(
    agent_id=5,
    presence="online",
    routable=True,
    lease_until=NOW + HOUR,
    slots={"voice": Slot(1), "chat": Slot(4), "async": Slot(10), "callback": Slot(1)},
)
OPEN: dict[int | None, TeamRules] = {1: TeamRules()}
SHARED: dict[int | None, TeamRules] = {
    1: TeamRules(parse({"late_share": 0.5, "max_overdue_s": 3600})),
    2: TeamRules(),
}


def head(item_id: int, key: int, **more: Any) -> Item:
    facts = {"source_kind": "inquiry", "source_id": item_id, "team_id": 1, "order_key": NOW + key}
    return Item(id=item_id, **{**facts, **more})


def test_the_smallest_key_is_taken_and_what_came_before_says_why_not() -> None:
    heads = [
        head(1, -9, excluded={5: NOW + MINUTE}),
        head(2, -8, channel="voice"),
        head(3, -7, team_id=2),
        head(4, -6),
        head(5, -5),
    ]
    busy = replace(AGENT, slots={**AGENT.slots, "voice": Slot(1, 1, 100)}, load_used=100, load_max=200)
    closed = TeamRules(DEFAULTS, Hours(is_open=False, next_open=NOW + HOUR))

    found = decide.pick(busy, heads, {**OPEN, 2: closed}, NOW)

    assert found.item == heads[3]
    assert found.step is not None and found.step.no == 0
    assert (found.turn, found.behind) == (Turn.FIRST, heads[4])
    assert found.passed == (
        PassedHead(item_id=1, reason=Reason.EXCLUDED_DECLINED),
        PassedHead(item_id=2, reason=Reason.NO_CAPACITY),
        PassedHead(item_id=3, reason=Reason.TEAM_CLOSED),
    )
    again = decide.pick(busy, heads, {**OPEN, 2: closed}, NOW, without={4})
    assert again.item == heads[4]
    assert decide.pick(busy, heads[:3], {**OPEN, 2: closed}, NOW).item is None


def test_shifts_keep_work_from_those_who_should_not_work() -> None:
    rules: dict[int | None, TeamRules] = {1: TeamRules(parse({"enforce_shifts": True}))}
    off = replace(AGENT, in_shift=False)
    assert decide.pick(off, [head(1, 0)], rules, NOW).passed == (
        PassedHead(item_id=1, reason=Reason.OUTSIDE_SHIFT),
    )
    assert decide.pick(off, [head(1, 0)], OPEN, NOW).item is not None


def test_late_ones_have_their_share_and_no_more() -> None:
    late = head(1, -MINUTE)
    turns = {Turn.OVERDUE: 0, Turn.ON_TIME: 0}
    for n in range(2, 2002):
        fresh = head(n, MINUTE)
        found = decide.pick(AGENT, [late, fresh], SHARED, NOW)
        assert found == decide.pick(AGENT, [late, fresh], SHARED, NOW), "a replay finds the same"
        assert found.item == (late if found.turn == Turn.OVERDUE else fresh)
        turns[found.turn] += 1
    assert abs(turns[Turn.OVERDUE] - 1000) < 100


def test_the_share_is_of_the_draw() -> None:
    late, fresh = head(1, -MINUTE), head(2, MINUTE)
    low = decide.pick(AGENT, [late, fresh], SHARED, NOW, draw=lambda *_: 0.49)
    high = decide.pick(AGENT, [late, fresh], SHARED, NOW, draw=lambda *_: 0.5)
    assert (low.item, low.turn, low.behind) == (late, Turn.OVERDUE, fresh)
    assert (high.item, high.turn, high.behind) == (fresh, Turn.ON_TIME, late)


def test_pure_deadline_order_draws_nothing() -> None:
    def never(*_: object) -> float:
        raise AssertionError("drawn")

    late, fresh = head(1, -MINUTE), head(2, MINUTE)
    assert decide.pick(AGENT, [late, fresh], OPEN, NOW, draw=never).item == late
    assert decide.pick(AGENT, [late], SHARED, NOW, draw=never).item == late
    too_late = head(3, -2 * HOUR)
    found = decide.pick(AGENT, [too_late, fresh], SHARED, NOW, draw=never)
    assert (found.item, found.turn) == (too_late, Turn.TOO_LATE)


def test_the_first_in_time_are_asked_for_only_where_they_can_win() -> None:
    assert decide.asks_on_time([head(1, -MINUTE), head(2, 5)], SHARED, NOW)
    assert not decide.asks_on_time([head(1, -MINUTE)], OPEN, NOW)
    assert not decide.asks_on_time([head(1, -MINUTE, team_id=2)], SHARED, NOW)
    assert not decide.asks_on_time([head(1, -2 * HOUR)], SHARED, NOW)
    assert not decide.asks_on_time([head(1, 0)], SHARED, NOW)
