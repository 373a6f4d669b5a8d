"""Changing the rules: policies and calendars get new versions, old ones stay for the clocks that ran under them.

Owns everything that is refused: here a wrong field is an error with its place, because a person is at the other end.
Open inquiries follow by the job `sla.recompute`, a few hundred at a time.
"""

import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, func, insert, select, update

from crm_core.db.uow import Row, UnitOfWork
from crm_core.errors import Conflict, Invalid, NotFound
from crm_core.events import SUPERVISORS, DomainEvent
from crm_core.jobs import JobRegistry, JobRow, NewJob
from crm_core.schema import agent, setting, team, webhook
from crm_core.services import Services
from routing.business_time import Calendar
from routing.calendar_spec import CalendarError
from routing.schema import calendar, calendar_version, sla_policy
from routing.sla import book as books
from routing.sla import service, store
from routing.sla.errors import SlaConfigError
from routing.sla.policy import PRIORITIES, Policy
from routing.sla.steps import Action, ActionKind

RECOMPUTE_JOB = "sla.recompute"
BATCH = 500
_KEY = re.compile(r"[a-z0-9][a-z0-9_-]{0,59}")
_MAX_NAME = 120


def declare(registry: JobRegistry) -> None:
    registry.job(RECOMPUTE_JOB, transactional=True)(recompute)


# --- policies -------------------------------------------------------------------------------------------------
async def create_policy(
    uow: UnitOfWork, *, key: str, name: str, targets: Mapping[str, Any], conditions: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None, position: int | None = None, actor: str = "system",
) -> dict[str, Any]:  # fmt: skip
    """A new policy, version 1, last in order unless `position` says otherwise. Returns its row.

    Raises:
        Invalid: code bad_policy, `params["errors"]` names the field.
        Conflict: code policy_exists, or position_taken.
    """
    if not _KEY.fullmatch(key):
        raise _invalid("key", "1 to 60 of a-z, 0-9, - and _, not beginning with a sign")
    if await uow.scalar(select(sla_policy.c.id).where(sla_policy.c.policy_key == key).limit(1)) is not None:
        raise Conflict(f"there is a policy {key!r} already", code="policy_exists")
    if position is None:
        position = 1 + int(
            await uow.scalar(select(func.max(sla_policy.c.position)).where(sla_policy.c.current)) or 0
        )
    return await _new_version(uow, None, key, name, position, targets, conditions or {}, options or {}, actor)


async def change_policy(
    uow: UnitOfWork,
    key: str,
    changes: Mapping[str, Any],
    *,
    expected_version: int | None = None,
    actor: str = "system",
) -> dict[str, Any]:
    """A new version with other name, position, targets, conditions or options. The old one is never edited.

    A retired policy comes back in force.

    Raises:
        NotFound; Conflict: version_mismatch, position_taken; Invalid: bad_policy.
    """
    before = await _newest(uow, key)
    if expected_version is not None and before["version"] != expected_version:
        raise Conflict(
            "somebody else changed this policy meanwhile", code="version_mismatch",
            params={"version": before["version"]},
        )  # fmt: skip
    fields = ("name", "position", "targets", "conditions", "options")
    if unknown := sorted(set(changes) - set(fields)):
        raise _invalid(unknown[0], f"cannot be changed; changeable are {', '.join(fields)}")
    wanted = {name: changes.get(name, before[name]) for name in fields}
    if before["current"] and all(wanted[name] == before[name] for name in fields):
        return dict(before)
    return await _new_version(
        uow, before, key, wanted["name"], wanted["position"], wanted["targets"], wanted["conditions"],
        wanted["options"], actor,
    )  # fmt: skip


async def retire_policy(uow: UnitOfWork, key: str, *, actor: str = "system") -> None:
    """Take a policy out of force; open inquiries move to the one that fits them now. Raises NotFound."""
    before = await _newest(uow, key)
    if not before["current"]:
        return
    await uow.execute(update(sla_policy).where(sla_policy.c.id == before["id"]).values(current=False))
    await _edited(uow, "sla.policy_changed", before["id"], {"key": key, "retired": True}, actor)
    _recompute(uow, {})


async def order_policies(uow: UnitOfWork, keys: Sequence[str], *, actor: str = "system") -> None:
    """The order in which policies are tried: all current keys, each once. The order is no part of a version.

    Raises Invalid if a key is missing, unknown or named twice.
    """
    statement = uow.lock(select(sla_policy.c.id, sla_policy.c.policy_key).where(sla_policy.c.current))
    rows = {row["policy_key"]: row["id"] for row in await uow.rows(statement)}
    if sorted(keys) != sorted(rows):
        raise _invalid("keys", f"must name each current policy once: {', '.join(sorted(rows))}")
    for position, key in enumerate(keys):
        await uow.execute(update(sla_policy).where(sla_policy.c.id == rows[key]).values(position=position))
    await _edited(uow, "sla.policy_changed", 0, {"order": list(keys)}, actor)
    _recompute(uow, {})


async def _new_version(
    uow: UnitOfWork, before: Row | None, key: str, name: Any, position: Any, targets: Any, conditions: Any,
    options: Any, actor: str,
) -> dict[str, Any]:  # fmt: skip
    if not isinstance(name, str) or not 0 < len(name.strip()) <= _MAX_NAME:
        raise _invalid("name", f"1 to {_MAX_NAME} characters")
    if isinstance(position, bool) or not isinstance(position, int) or not -(2**31) < position < 2**31:
        raise _invalid("position", "must be a whole number")
    taken = await uow.scalar(
        select(sla_policy.c.policy_key).where(
            sla_policy.c.current, sla_policy.c.position == position, sla_policy.c.policy_key != key
        )
    )
    if taken is not None:
        raise Conflict(
            f"position {position} is taken by {taken!r}", code="position_taken", params={"key": taken}
        )
    await _check(uow, name, position, targets, conditions, options)
    newest = await uow.scalar(select(func.max(sla_policy.c.version)).where(sla_policy.c.policy_key == key))
    values: dict[str, Any] = {
        "policy_key": key, "version": int(newest or 0) + 1, "position": position, "name": name.strip(),
        "conditions": conditions, "targets": targets, "options": options, "current": True, "created_at": uow.now,
    }  # fmt: skip
    if before is not None:
        await uow.execute(update(sla_policy).where(sla_policy.c.id == before["id"]).values(current=False))
    values["id"] = await uow.insert(sla_policy, values)
    await _edited(uow, "sla.policy_changed", values["id"], {"key": key, "version": values["version"]}, actor)
    if options.get("apply_to_open", True):
        _recompute(uow, {})
    return values


async def _check(
    uow: UnitOfWork, name: str, position: int, targets: Any, conditions: Any, options: Any
) -> None:
    """Everything that can be wrong with a policy, found before it is in force."""
    try:
        policy = Policy.parse(
            id=1,
            version=1,
            position=position,
            name=name,
            targets=targets,
            conditions=conditions,
            options=options,
        )
    except SlaConfigError as error:
        raise _invalid(error.path, error.reason) from error
    wanted: dict[int, str] = {}
    if policy.calendar_id is not None:
        wanted[policy.calendar_id] = "options.calendar_id"
    named: dict[ActionKind, dict[int | str, str]] = {kind: {} for kind in _NAMES}
    for priority, metrics in policy.targets.items():
        for metric, target in metrics.items():
            path = f"targets.{priority}.{metric}"
            if target.calendar_id is not None:
                wanted[target.calendar_id] = f"{path}.calendar_id"
            for step in target.steps:
                for action in step.actions:
                    where = f"{path}.steps[{step.name}]"
                    thing = _check_action(action, where)
                    if thing is not None:
                        named[action.do][thing] = where
    await _must_exist(uow, calendar.c.id, wanted, "calendar")
    for kind, (column, what) in _NAMES.items():
        await _must_exist(uow, column, named[kind], what)


#: actions whose value names a row: its column, and how people call it
_NAMES: Mapping[ActionKind, tuple[Column[Any], str]] = {
    ActionKind.ADD_OVERFLOW_TEAM: (team.c.id, "team"),
    ActionKind.NOTIFY_AGENT: (agent.c.id, "agent"),
    ActionKind.NOTIFY_CHANNEL: (webhook.c.key, "webhook"),
    ActionKind.WEBHOOK: (webhook.c.key, "webhook"),
}


async def _must_exist(uow: UnitOfWork, column: Column[Any], named: Mapping[Any, str], what: str) -> None:
    if not named:
        return
    known = {value for (value,) in await uow.execute(select(column).where(column.in_(list(named))))}
    for missing in sorted(set(named) - known):
        raise _invalid(named[missing], f"there is no {what} {missing!r}")


def _check_action(action: Action, path: str) -> int | str | None:
    """What the steps' own grammar cannot know. Returns the id or key of what the action names."""
    if action.do is ActionKind.RAISE_PRIORITY and action.value is not None and action.value not in PRIORITIES:
        raise _invalid(
            path, f"raise_priority goes to one of {', '.join(PRIORITIES)}, or one up without a value"
        )
    if action.do not in _NAMES:
        return None
    column, what = _NAMES[action.do]
    value = action.value or ""
    if column.name == "key":
        return value
    if not value.isascii() or not value.isdigit() or len(value) > 18:
        raise _invalid(path, f"{action.do} needs the id of a{'n' if what == 'agent' else ''} {what}")
    return int(value)


async def _newest(uow: UnitOfWork, key: str) -> Row:
    """The newest version of a policy, in force or retired, locked."""
    newest = (
        select(sla_policy)
        .where(sla_policy.c.policy_key == key)
        .order_by(sla_policy.c.version.desc())
        .limit(1)
    )
    row = await uow.row(uow.lock(newest))
    if row is None:
        raise NotFound(f"no SLA policy {key!r}")
    return row


# --- calendars ------------------------------------------------------------------------------------------------
async def create_calendar(uow: UnitOfWork, *, name: str, spec: Any, actor: str = "system") -> dict[str, Any]:
    """Working hours, version 1. Raises Invalid (bad_calendar), Conflict (calendar_exists)."""
    _read_calendar(name, spec)
    values: dict[str, Any] = {"name": name.strip(), "spec": spec, "version": 1, "updated_at": uow.now}
    made = await uow.insert_new(calendar, values, key=["name"], returning=calendar.c.id)
    if made is None:
        raise Conflict(f"there is a calendar {name!r} already", code="calendar_exists")
    values["id"] = int(made)
    await _keep_version(uow, values)
    await _edited(uow, "sla.calendar_changed", values["id"], {"version": 1, "name": values["name"]}, actor)
    return values


async def change_calendar(
    uow: UnitOfWork, calendar_id: int, *, name: str | None = None, spec: Any = None,
    expected_version: int | None = None, actor: str = "system",
) -> dict[str, Any]:  # fmt: skip
    """New hours are a new version: open clocks keep what they consumed and go on with the new hours from now.

    Raises NotFound; Conflict: version_mismatch, calendar_exists; Invalid: bad_calendar.
    """
    before = await uow.row(uow.lock(select(calendar).where(calendar.c.id == calendar_id)))
    if before is None:
        raise NotFound(f"no calendar {calendar_id}")
    if expected_version is not None and before["version"] != expected_version:
        raise Conflict(
            "somebody else changed this calendar meanwhile", code="version_mismatch",
            params={"version": before["version"]},
        )  # fmt: skip
    name = before["name"] if name is None else name.strip()
    spec = before["spec"] if spec is None else spec
    _read_calendar(name, spec)
    twin = await uow.scalar(
        select(calendar.c.id).where(calendar.c.name == name, calendar.c.id != calendar_id)
    )
    if twin is not None:
        raise Conflict(f"there is a calendar {name!r} already", code="calendar_exists")
    after = {**before, "name": name, "spec": spec}
    if spec != before["spec"]:
        # A calendar from before versions were kept, or put there by hand, has no history yet.
        await _keep_version(uow, before)
        after["version"] = before["version"] + 1
        await _keep_version(uow, {**after, "updated_at": uow.now})
        _recompute(uow, {"calendar_id": calendar_id})
    changed = {key: after[key] for key in ("name", "spec", "version")}
    await uow.execute(
        update(calendar).where(calendar.c.id == calendar_id).values(**changed, updated_at=uow.now)
    )
    await _edited(
        uow, "sla.calendar_changed", calendar_id, {"version": after["version"], "name": name}, actor
    )
    return {**after, "updated_at": uow.now}


async def new_calendar_version(
    uow: UnitOfWork, row: Row, *, cause: str, actor: str = "system"
) -> dict[str, Any]:
    """A new version of the same hours: they come to other instants now (tzdata). `row` is locked."""
    await _keep_version(uow, row)
    after = {**row, "version": row["version"] + 1, "updated_at": uow.now}
    await _keep_version(uow, after)
    await uow.execute(
        update(calendar)
        .where(calendar.c.id == row["id"])
        .values(version=after["version"], updated_at=uow.now)
    )
    _recompute(uow, {"calendar_id": row["id"]})
    told = {"version": after["version"], "name": row["name"], "cause": cause}
    await _edited(uow, "sla.calendar_changed", row["id"], told, actor)
    return after


async def set_default_calendar(uow: UnitOfWork, calendar_id: int | None, *, actor: str = "system") -> None:
    """The organisation's hours: of clocks whose target, policy and team name no calendar. Open clocks keep theirs
    until their next retarget. Raises NotFound.
    """
    known = select(calendar.c.id).where(calendar.c.id == calendar_id)
    if calendar_id is not None and await uow.scalar(known) is None:
        raise NotFound(f"no calendar {calendar_id}")
    await _set(uow, books.DEFAULT_CALENDAR, calendar_id)
    await _edited(uow, "sla.calendar_changed", calendar_id or 0, {"default": calendar_id}, actor)


def _read_calendar(name: Any, spec: Any) -> Calendar:
    if not isinstance(name, str) or not 0 < len(name.strip()) <= _MAX_NAME:
        raise _invalid("name", f"1 to {_MAX_NAME} characters", code="bad_calendar")
    try:
        return Calendar.from_spec(spec)
    except CalendarError as error:
        raise _invalid(
            f"spec.{error.path}" if error.path else "spec", error.reason, code="bad_calendar"
        ) from error


async def _keep_version(uow: UnitOfWork, row: Mapping[str, Any]) -> None:
    values = {
        "calendar_id": row["id"], "version": row["version"], "spec": row["spec"], "created_at": row["updated_at"],
    }  # fmt: skip
    await uow.insert_new(calendar_version, values, key=["calendar_id", "version"])


# --- what follows an edit -------------------------------------------------------------------------------------
async def recompute(_services: Services, uow: UnitOfWork, job: JobRow) -> None:
    """The job `sla.recompute {calendar_id?, after?}`: a batch of open inquiries, then the next one as a new job."""
    calendar_id, after = job.args.get("calendar_id"), int(job.args.get("after", 0))
    batch = await store.live_inquiries(uow.conn, after=after, limit=BATCH, calendar_id=calendar_id)
    if batch:
        await service.revise(uow, batch, calendars=calendar_id is not None)
    if len(batch) == BATCH:
        _recompute(uow, {**job.args, "after": batch[-1]})


def _recompute(uow: UnitOfWork, args: Mapping[str, Any]) -> None:
    # Edits in a row wait for one another in the lane; the later sees the result of the earlier.
    uow.enqueue(NewJob(name=RECOMPUTE_JOB, args=dict(args), lane=RECOMPUTE_JOB))


async def _edited(
    uow: UnitOfWork, kind: str, subject_id: int, payload: Mapping[str, Any], actor: str
) -> None:
    """Make every process read the rules anew, forget old alarms, and log who changed what."""
    await _set(uow, books.STAMP, secrets.token_hex(8))
    await uow.execute(setting.delete().where(setting.c.key.startswith("sla.alarm:")))
    await uow.emit(
        DomainEvent(
            kind=kind, subject_kind="sla", subject_id=subject_id, actor=actor, payload=dict(payload),
            audience=SUPERVISORS,
        )
    )  # fmt: skip


async def _set(uow: UnitOfWork, key: str, value: Any) -> None:
    done = await uow.execute(update(setting).where(setting.c.key == key).values(value=value))
    if not done.rowcount:
        await uow.execute(insert(setting).values(key=key, value=value))


def _invalid(path: str, reason: str, *, code: str = "bad_policy") -> Invalid:
    return Invalid(
        f"{path}: {reason}", code=code, params={"errors": [{"loc": path.split("."), "msg": reason}]}
    )
