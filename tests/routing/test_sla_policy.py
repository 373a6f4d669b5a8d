import pytest

from crm_core.clock import MINUTE
from routing.sla import Metric, Policy, SlaConfigError, fields_watched, select_policy
from routing.sla.conditions import matches, parse_condition
from routing.sla.steps import parse_at, parse_steps


def make(position: int, conditions: dict | None = None, **kw) -> Policy:
    body = {"targets": {"*": {"first_reply": {"minutes": 60}}}, "conditions": conditions, **kw}
    return Policy.parse(id=position, version=1, position=position, name=str(position), **body)


FACTS = {
    "channel": "email",
    "team": "Support",
    "tags": ["VIP", "trip"],
    "vip": True,
    "language": "uk",
    "custom.tier": 2,
}


@pytest.mark.parametrize(
    ("condition", "result"),
    [
        ({}, True),
        ({"channel": "Email"}, True),
        ({"channel": "call"}, False),
        ({"channel": ["call", "email"]}, True),
        ({"channel": {"is_not": "email"}}, False),
        ({"channel": {"not_in": ["call", "chat"]}}, True),
        ({"tags": "vip"}, True),
        ({"tags": ["spam", "trip"]}, True),
        ({"tags": {"contains_all": ["vip", "spam"]}}, False),
        ({"contact_tags": "vip"}, False),
        ({"vip": True}, True),
        ({"vip": 1}, False),
        ({"inbox": None}, True),
        ({"custom.tier": {"in": [1, 2]}}, True),
        ({"channel": "email", "team": "sales"}, False),
        ({"any": [{"team": "sales"}, {"language": "uk"}]}, True),
        ({"all": [{"team": "support"}, {"not": {"language": "ru"}}]}, True),
        ({"not": {"any": [{"team": "support"}]}}, False),
    ],
)
def test_conditions(condition: dict, result: bool) -> None:
    assert matches(parse_condition(condition), FACTS) is result


@pytest.mark.parametrize(
    ("condition", "path"),
    [
        ([], "conditions"),
        ({"chanel": "email"}, "conditions.chanel"),
        ({"custom.": 1}, "conditions.custom."),
        ({"channel": {"contains": "e"}}, "conditions.channel.contains"),
        ({"tags": {"is": "vip"}}, "conditions.tags.is"),
        ({"channel": []}, "conditions.channel.in"),
        ({"channel": {}}, "conditions.channel"),
        ({"channel": {"is": {}}}, "conditions.channel.is"),
        ({"channel": 1.5}, "conditions.channel.is"),
        ({"any": []}, "conditions.any"),
        ({"all": [{"team": 1}, {"x": 1}]}, "conditions.all[1].x"),
        ({"not": "email"}, "conditions.not"),
    ],
)
def test_a_wrong_condition_names_its_place(condition: object, path: str) -> None:
    with pytest.raises(SlaConfigError) as caught:
        parse_condition(condition)
    assert caught.value.path == path


def test_nesting_is_bounded() -> None:
    deep: dict = {"team": "x"}
    for _ in range(50):
        deep = {"not": deep}
    with pytest.raises(SlaConfigError, match="deeply"):
        parse_condition(deep)


def test_the_first_policy_in_order_that_matches_wins() -> None:
    policies = [make(3), make(1, {"channel": "call"}), make(2, {"tags": "vip"})]
    assert select_policy(policies, FACTS).id == 2
    assert select_policy(policies, {"channel": "call", "tags": ["vip"]}).id == 1
    assert select_policy(policies, {}).id == 3
    assert select_policy(policies[1:], {}) is None
    assert fields_watched(policies) == {"priority", "channel", "tags"}


def test_targets_fall_back_to_any_priority() -> None:
    policy = make(
        1, targets={"*": {"first_reply": {"minutes": 60}}, "urgent": {"first_reply": {"seconds": 30}}}
    )
    assert policy.target("urgent", Metric.FIRST_REPLY).ms == 30_000
    assert policy.target("low", Metric.FIRST_REPLY).ms == 60 * MINUTE
    assert policy.target("low", Metric.NEXT_REPLY) is None


@pytest.mark.parametrize(
    ("part", "path"),
    [
        ({"targets": []}, "targets"),
        ({"targets": {"huge": {}}}, "targets.huge"),
        ({"targets": {"low": {"first": {"minutes": 1}}}}, "targets.low.first"),
        ({"targets": {"low": {"first_reply": 60}}}, "targets.low.first_reply"),
        ({"targets": {"low": {"first_reply": {}}}}, "targets.low.first_reply"),
        ({"targets": {"low": {"first_reply": {"minutes": 1, "seconds": 1}}}}, "targets.low.first_reply"),
        ({"targets": {"low": {"first_reply": {"minutes": 0}}}}, "targets.low.first_reply.minutes"),
        ({"targets": {"low": {"first_reply": {"minutes": True}}}}, "targets.low.first_reply.minutes"),
        ({"targets": {"low": {"first_reply": {"minutes": "60"}}}}, "targets.low.first_reply.minutes"),
        ({"targets": {"low": {"first_reply": {"minutes": float("nan")}}}}, "targets.low.first_reply.minutes"),
        ({"targets": {"low": {"first_reply": {"minutes": 1e12}}}}, "targets.low.first_reply.minutes"),
        (
            {"targets": {"low": {"first_reply": {"minutes": 1, "business": "no"}}}},
            "targets.low.first_reply.business",
        ),
        (
            {"targets": {"low": {"first_reply": {"minutes": 1, "calendar_id": 0}}}},
            "targets.low.first_reply.calendar_id",
        ),
        ({"targets": {"low": {"first_reply": {"minutes": 1, "mins": 0}}}}, "targets.low.first_reply.mins"),
        ({"targets": {"low": {"first_reply": {"minutes": 1, "steps": {}}}}}, "targets.low.first_reply.steps"),
        ({"options": {"pauses": 1}}, "options.pauses"),
        ({"options": {"pause_statuses": {"first_reply": ["solved"]}}}, "options.pause_statuses.first_reply"),
        ({"options": {"pause_statuses": {"x": []}}}, "options.pause_statuses.x"),
        ({"options": {"bot_counts": ["reply"]}}, "options.bot_counts[0]"),
        ({"options": {"note_counts": "first_reply"}}, "options.note_counts"),
        ({"options": {"apply_to_open": 1}}, "options.apply_to_open"),
        ({"options": {"calendar_id": "main"}}, "options.calendar_id"),
    ],
)
def test_a_wrong_policy_names_the_field(part: dict, path: str) -> None:
    with pytest.raises(SlaConfigError) as caught:
        make(1, **part)
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("text", "name", "threshold"),
    [
        ("50%", "50%", 30),
        (" 100 % ", "100%", 60),
        ("30m before", "30m before", 30),
        ("1h after breach", "1h after", 120),
        ("90s before due", "90s before", 58.5),
        ("2H before", "2h before", 0),
    ],
)
def test_steps_are_thresholds_of_consumed_time(text: str, name: str, threshold: float) -> None:
    step = parse_at(text)
    assert (step.name, step.threshold_ms(60 * MINUTE)) == (name, threshold * MINUTE)


@pytest.mark.parametrize(
    ("steps", "path"),
    [
        ("50%", "steps"),
        (["50%"], "steps[0]"),
        ([{"actions": []}], "steps[0].at"),
        ([{"at": "0%"}], "steps[0].at"),
        ([{"at": "1001%"}], "steps[0].at"),
        ([{"at": "half"}], "steps[0].at"),
        ([{"at": "0m before"}], "steps[0].at"),
        ([{"at": "60m before"}], "steps[0].at"),
        ([{"at": "50%"}, {"at": "30m before"}], "steps[1].at"),
        ([{"at": "50%", "actions": "notify_lead"}], "steps[0].actions"),
        ([{"at": "50%", "actions": ["shout"]}], "steps[0].actions[0]"),
        ([{"at": "50%", "actions": [{"do": "tag"}]}], "steps[0].actions[0]"),
        ([{"at": "50%", "actions": [{"do": "tag", "value": ""}]}], "steps[0].actions[0]"),
        ([{"at": "50%", "actions": [{"do": ["tag"]}]}], "steps[0].actions[0]"),
        ([{"at": f"{n}%"} for n in range(1, 30)], "steps"),
    ],
)
def test_a_wrong_step_names_its_place(steps: object, path: str) -> None:
    with pytest.raises(SlaConfigError) as caught:
        parse_steps(steps, 60 * MINUTE)
    assert caught.value.path == path


def test_steps_come_in_the_order_they_fire() -> None:
    steps = parse_steps(
        [{"at": "100%"}, {"at": "5m after"}, {"at": "10m before"}, {"at": "50%"}], 60 * MINUTE
    )
    assert [step.name for step in steps] == ["50%", "10m before", "100%", "5m after"]
