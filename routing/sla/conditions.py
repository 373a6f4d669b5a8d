"""The small language in which a policy says which tickets it is for.

A condition is an object; all its members must hold, an empty one always does:

    {"channel": "email"}                      equality
    {"priority": ["high", "urgent"]}          one of
    {"tags": {"contains": "vip"}}             an operator, see below
    {"any": [{…}, {…}], "not": {…}}           all, any and not combine conditions

Operators are is, is_not, in, not_in for single values and contains, contains_any, contains_all for sets
(tags). A fact nobody stated is null.

Owns parsing, matching and the index of fields; knows nothing of where
facts come from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from routing.sla.errors import SlaConfigError

SINGLE_FIELDS = frozenset(
    {
        "channel",
        "inbox",
        "team",
        "kind",
        "priority",
        "language",
        "vip",
        "contact",
        "company",
        "country",
        "source",
    }
)
SET_FIELDS = frozenset({"tags", "contact_tags", "company_tags"})
#: Fields of the organisation's own: any name after this prefix, single values.
CUSTOM_PREFIX = "custom."
_SINGLE_OPS = frozenset({"is", "is_not", "in", "not_in"})
_SET_OPS = frozenset({"contains", "contains_any", "contains_all"})
_LIST_OPS = frozenset({"in", "not_in", "contains_any", "contains_all"})
_MAX_DEPTH = 8

Scalar = str | int | bool | None


@dataclass(frozen=True, slots=True)
class Test:
    field: str
    op: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """`how` is all, any or not (not: none of the members holds)."""

    how: str
    members: tuple["Group | Test", ...]


Condition = Group | Test
EVERYTHING = Group("all", ())


def parse_condition(spec: Any, path: str = "conditions", depth: int = 0) -> Condition:
    """Condition of its JSON form. Raises SlaConfigError naming the wrong member."""
    if not isinstance(spec, Mapping):
        raise SlaConfigError(path, f"must be an object, not {type(spec).__name__}")
    if depth > _MAX_DEPTH:
        raise SlaConfigError(path, "nested too deeply")
    members: list[Condition] = []
    for key, value in spec.items():
        where = f"{path}.{key}"
        if key in ("all", "any"):
            if not isinstance(value, list | tuple) or not value:
                raise SlaConfigError(where, "must be a list of conditions, not empty")
            parts = tuple(parse_condition(part, f"{where}[{i}]", depth + 1) for i, part in enumerate(value))
            members.append(Group(key, parts))
        elif key == "not":
            members.append(Group("not", (parse_condition(value, where, depth + 1),)))
        else:
            members += _tests(key, value, where)
    return members[0] if len(members) == 1 else Group("all", tuple(members))


def matches(condition: Condition, facts: Mapping[str, Any]) -> bool:
    if isinstance(condition, Group):
        results = (matches(member, facts) for member in condition.members)
        if condition.how == "all":
            return all(results)
        return any(results) if condition.how == "any" else not any(results)
    fact = facts.get(condition.field)
    if condition.op in _SET_OPS:
        present = {_fold(item) for item in fact or ()}
        wanted = [_fold(value) in present for value in condition.values]
        return any(wanted) if condition.op == "contains_any" else all(wanted)
    equal = _fold(fact) in {_fold(value) for value in condition.values}
    return equal if condition.op in ("is", "in") else not equal


def fields_of(condition: Condition) -> frozenset[str]:
    """The fields a condition looks at: only their change can change its result."""
    if isinstance(condition, Test):
        return frozenset({condition.field})
    return frozenset().union(*(fields_of(member) for member in condition.members))


def _tests(field: Any, value: Any, path: str) -> list[Condition]:
    known = field in SINGLE_FIELDS or field in SET_FIELDS
    if not known and not (
        isinstance(field, str) and len(field) > len(CUSTOM_PREFIX) and field.startswith(CUSTOM_PREFIX)
    ):
        names = ", ".join(sorted(SINGLE_FIELDS | SET_FIELDS))
        raise SlaConfigError(path, f"unknown field; known are {names}, {CUSTOM_PREFIX}…, all, any, not")
    allowed = _SET_OPS if field in SET_FIELDS else _SINGLE_OPS
    if isinstance(value, Mapping):
        if not value:
            raise SlaConfigError(path, "an operator is missing")
        operators = dict(value)
    elif isinstance(value, list | tuple):
        operators = {"contains_any" if field in SET_FIELDS else "in": value}
    else:
        operators = {"contains" if field in SET_FIELDS else "is": value}
    tests: list[Condition] = []
    for op, operand in operators.items():
        if op not in allowed:
            raise SlaConfigError(f"{path}.{op}", f"operators of {field} are {', '.join(sorted(allowed))}")
        if op in _LIST_OPS:
            if not isinstance(operand, list | tuple) or not operand:
                raise SlaConfigError(f"{path}.{op}", "must be a list of values, not empty")
            values = tuple(operand)
        else:
            values = (operand,)
        if not all(item is None or isinstance(item, str | int) for item in values):
            raise SlaConfigError(f"{path}.{op}", "values must be text, whole numbers, true, false or null")
        tests.append(Test(str(field), str(op), values))
    return tests


def _fold(value: Any) -> tuple[str, Any]:
    # True equals 1 in Python; a flag must not match a number. Letters' case never matters to people.
    if isinstance(value, str):
        return "text", value.casefold()
    return type(value).__name__, value
