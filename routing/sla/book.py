"""The rules in force, read from the database and kept while they do not change: policies, calendars, the default.

Owns reading configuration for the running system, where nothing may raise: a policy that cannot be read is left out,
a calendar that is missing counts as always open, and both are named in `problems`. Changing configuration, where
everything is refused that is not right, is `routing.sla.edit`'s business.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Engine, case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.db.prepared import Prepared, fetch
from crm_core.schema import setting
from routing.business_time import ALWAYS_OPEN, Calendar
from routing.calendar_spec import CalendarError
from routing.schema import calendar, calendar_version, sla_policy
from routing.sla.clock import Clock
from routing.sla.errors import SlaConfigError
from routing.sla.policy import Policy, Rulebook, Terms, fields_watched, select_policy

DEFAULT_CALENDAR = "organisation.calendar_id"
#: changes with every edit, so that no process goes on with rules of yesterday
STAMP = "sla.stamp"


@dataclass(frozen=True)
class Book:
    """Everything about the rules that the SLA of a ticket may need. Immutable and shared."""

    calendars: Mapping[tuple[int, int], Calendar]
    policies: Mapping[int, Policy]
    """All versions, by the id of their row."""
    keys: Mapping[int, str]
    """The policy a version belongs to, by the id of the version's row."""
    current: tuple[Policy, ...]
    default_calendar_id: int | None = None
    problems: tuple[str, ...] = ()
    watched: frozenset[str] = frozenset()
    counts_others: bool = False
    """Whether any policy lets programs or notes count as replies."""
    _rules: list[Rulebook] = field(default_factory=list, repr=False, compare=False)

    def rules(self, clocks: Iterable[Clock] = ()) -> Rulebook:
        """The rulebook for these clocks. A calendar or policy they name and nobody has is replaced by one that is
        always open, or has no steps: a lost row of configuration must not stop anybody's message.
        """
        clocks = tuple(clocks)
        return self.rules_of(
            {c.calendar_id for c in clocks}, {(c.policy_id, c.policy_version) for c in clocks}
        )

    def rules_of(
        self, calendars: Collection[int | None], policies: Collection[tuple[int | None, int | None]]
    ) -> Rulebook:
        """The same for clocks that name these calendars and versions of policies."""
        lost_calendars = {i for i in calendars if i is not None and i not in self._calendar_ids}
        lost_policies = {
            (i, version)
            for i, version in policies
            if i is not None and version is not None and (i, version) not in self._versions
        }
        if not lost_calendars and not lost_policies:
            if not self._rules:
                self._rules.append(self._rulebook())
            return self._rules[0]
        return self._rulebook(
            [Calendar(ALWAYS_OPEN.spec, id=i, version=0) for i in lost_calendars],
            [Policy(i, v, 0, "lost", {}) for i, v in lost_policies],
        )

    @cached_property
    def _calendar_ids(self) -> frozenset[int]:
        return frozenset(calendar_id for calendar_id, _ in self.calendars)

    @cached_property
    def _versions(self) -> frozenset[tuple[int, int]]:
        return frozenset((policy.id, policy.version) for policy in self.policies.values())

    def _rulebook(self, calendars: Iterable[Calendar] = (), policies: Iterable[Policy] = ()) -> Rulebook:
        return Rulebook(
            [*self.calendars.values(), *calendars],
            [*self.policies.values(), *policies],
            self.default_calendar_id,
        )

    def choose(self, facts: Mapping[str, Any], held: int | None, *, again: bool) -> Policy | None:
        """The policy of a ticket that holds version `held`.

        It is chosen anew when a fact it depends on changed (`again`) or when its version was replaced; a policy with
        `apply_to_open` off lets tickets finish under the version they have.
        """
        mine = self.policies.get(held) if held is not None else None
        if not again and (held is None or mine in self.current):
            return mine
        found = select_policy(self.current, facts)
        if found is None or mine is None or found is mine:
            return found
        same = self.keys.get(found.id) == self.keys.get(mine.id)
        return mine if same and not found.apply_to_open else found

    def terms(self, policy: Policy | None, priority: str, team_calendar_id: int | None) -> Terms:
        known = team_calendar_id in self._calendar_ids
        return Terms(policy, priority, team_calendar_id if known else None)


def facts_of(ticket: Mapping[str, Any]) -> dict[str, Any]:
    """What policy conditions see of a ticket (a row of `store.lock_tickets`)."""
    person = ticket["contact_attributes"] or {}
    firm = ticket["company_attributes"] or {}
    facts: dict[str, Any] = {
        "channel": ticket["channel"],
        "inbox": ticket["inbox_id"],
        "team": ticket["team_id"],
        "kind": ticket["kind"],
        "priority": ticket["priority"],
        "language": ticket["language"],
        "vip": bool(ticket["contact_vip"]),
        "contact": ticket["contact_id"],
        "company": ticket["company_id"],
        "country": person.get("country"),
        "source": ticket["source"],
        "tags": _words(ticket["tags"]),
        "contact_tags": _words(person.get("tags")),
        "company_tags": _words(firm.get("tags")),
    }
    return facts | {
        f"custom.{name}": value for name, value in (ticket["fields"] or {}).items() if _plain(value)
    }


def _words(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list | tuple) else []


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | bool)


# One entry per engine: a process has one or two, a test run has many databases whose rows look alike.
_KEPT: WeakKeyDictionary[Engine, tuple[tuple[Any, ...], Book]] = WeakKeyDictionary()


async def load(conn: AsyncConnection, stamped: Mapping[str, Any] | None = None) -> Book:
    """The book of this database: one small query when nothing changed since the last time, and none if the caller has
    read `STAMP_COLUMNS` in this very transaction (`stamped`).
    """
    if stamped is None:
        [found] = await fetch(conn, _STAMP)
    else:
        found = {column.name: stamped[column.name] for column in STAMP_COLUMNS}
    stamp = (*(json.dumps(v, sort_keys=True) if isinstance(v, dict | list) else v for v in found.values()),)
    engine = conn.sync_connection.engine if conn.sync_connection is not None else None
    kept = _KEPT.get(engine) if engine is not None else None
    if kept is not None and kept[0] == stamp:
        return kept[1]
    book = await _read(conn, kept[1].calendars if kept is not None else {})
    if engine is not None:
        _KEPT[engine] = (stamp, book)
    return book


def _setting(key: str) -> Any:
    return select(setting.c.value).where(setting.c.key == key).scalar_subquery()


_NOW = case((sla_policy.c.current, sla_policy.c.id), else_=0)
#: what of the database says that the rules are others now
STAMP_COLUMNS = (
    _setting(STAMP).label("book_0"),
    _setting(DEFAULT_CALENDAR).label("book_1"),
    select(func.count()).select_from(sla_policy).scalar_subquery().label("book_2"),
    select(func.max(sla_policy.c.id)).scalar_subquery().label("book_3"),
    select(func.max(sla_policy.c.created_at)).scalar_subquery().label("book_4"),
    select(func.sum(_NOW * (sla_policy.c.position + 1))).scalar_subquery().label("book_5"),
    select(func.sum(_NOW)).scalar_subquery().label("book_6"),
    select(func.count()).select_from(calendar).scalar_subquery().label("book_7"),
    select(func.sum(calendar.c.id * calendar.c.version)).scalar_subquery().label("book_8"),
    select(func.max(calendar.c.updated_at)).scalar_subquery().label("book_9"),
)
_STAMP = Prepared(select(*STAMP_COLUMNS))


async def _read(conn: AsyncConnection, known: Mapping[tuple[int, int], Calendar]) -> Book:
    problems: list[str] = []
    calendars = await _calendars(conn, known, problems)
    ids = {calendar_id for calendar_id, _ in calendars}
    default = (await conn.execute(select(setting.c.value).where(setting.c.key == DEFAULT_CALENDAR))).scalar()
    if default is not None and default not in ids:
        problems.append(f"the setting {DEFAULT_CALENDAR} names calendar {default!r}, which does not exist")
        default = None
    policies: dict[int, Policy] = {}
    keys: dict[int, str] = {}
    current: list[Policy] = []
    for row in (await conn.execute(select(sla_policy).order_by(sla_policy.c.id))).mappings():
        keys[row["id"]] = row["policy_key"]
        try:
            policy = policy_of(dict(row))
        except SlaConfigError as error:
            if row["current"]:
                problems.append(f"SLA policy {row['policy_key']!r} cannot be read and is ignored: {error}")
            continue
        policies[policy.id] = policy = _with_known_calendars(policy, ids, problems if row["current"] else [])
        if row["current"]:
            current.append(policy)
    return Book(
        calendars=calendars,
        policies=policies,
        keys=keys,
        current=tuple(current),
        default_calendar_id=default,
        problems=tuple(problems),
        watched=fields_watched(current),
        counts_others=any(policy.bot_counts or policy.note_counts for policy in policies.values()),
    )


def policy_of(row: Mapping[str, Any]) -> Policy:
    """One stored version. Raises SlaConfigError."""
    return Policy.parse(
        id=row["id"], version=row["version"], position=row["position"], name=row["name"], targets=row["targets"],
        conditions=row["conditions"], options=row["options"],
    )  # fmt: skip


async def _calendars(
    conn: AsyncConnection, known: Mapping[tuple[int, int], Calendar], problems: list[str]
) -> dict[tuple[int, int], Calendar]:
    found: dict[tuple[int, int], Calendar] = {}
    old = select(calendar_version.c.calendar_id, calendar_version.c.version, calendar_version.c.spec)
    rows = [(r[0], r[1], "", r[2], False) for r in await conn.execute(old)]
    now = select(calendar.c.id, calendar.c.version, calendar.c.name, calendar.c.spec)
    rows += [(r[0], r[1], r[2], r[3], True) for r in await conn.execute(now)]
    for calendar_id, version, name, spec, is_current in rows:
        try:
            made = Calendar.from_spec(spec, id=calendar_id, version=version, name=name)
        except CalendarError as error:
            if is_current:
                problems.append(f"calendar {name!r} cannot be read and counts as always open: {error}")
            made = Calendar(ALWAYS_OPEN.spec, id=calendar_id, version=version, name=name)
        kept = known.get((calendar_id, version))
        # A compiled calendar is worth keeping.
        found[calendar_id, version] = kept if kept is not None and kept.spec == made.spec else made
    return found


def _with_known_calendars(policy: Policy, ids: set[int], problems: list[str]) -> Policy:
    def check(calendar_id: int | None) -> int | None:
        if calendar_id is None or calendar_id in ids:
            return calendar_id
        problems.append(f"SLA policy {policy.name!r} names calendar {calendar_id}, which does not exist")
        return None

    targets = {
        priority: {m: replace(t, calendar_id=check(t.calendar_id)) for m, t in metrics.items()}
        for priority, metrics in policy.targets.items()
    }
    return replace(policy, calendar_id=check(policy.calendar_id), targets=targets)


def alarm_key(problem: str) -> str:
    """The setting that remembers that people were told of this problem."""
    return f"sla.alarm:{hashlib.sha256(problem.encode()).hexdigest()[:24]}"
