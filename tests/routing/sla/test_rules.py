"""Policies and calendars: what is refused, what open inquiries get, what happens without any."""

from typing import Any

import pytest
from sqlalchemy import select, update

from crm_core.db.engine import Database
from crm_core.errors import Conflict, Invalid, NotFound
from crm_core.jobs import JobRow
from crm_core.schema import contact, job, setting, team
from routing.schema import calendar, calendar_version, sla_policy
from routing.sla import book as books
from routing.sla import edit, ledger
from routing.sla.sweeper import sweep
from tests.routing.sla.builders import MINUTE, OFFICE, WEEKDAYS, Office, at, opened

LONG = {**OFFICE, "week": {day: [["09:00", "20:00"]] for day in WEEKDAYS}}
LATE = {**OFFICE, "week": {day: [["12:00", "18:00"]] for day in WEEKDAYS}}


@pytest.fixture
async def office(db: Database, clock: Any) -> Office:
    return await Office.open(db, clock)


def targets(minutes: int, metric: str = "first_reply", **more: Any) -> dict[str, Any]:
    return {"*": {metric: {"minutes": minutes, "steps": [], **more}}}


async def recompute(office: Office) -> int:
    """Run the recompute jobs as the runner would, until there is none."""
    done = 0
    while True:
        async with office.db.transaction() as uow:
            row = await uow.row(
                select(job).where(job.c.name == edit.RECOMPUTE_JOB).order_by(job.c.id).limit(1)
            )
            if row is None:
                return done
            names = ("id", "name", "args", "lane", "order_key", "attempts", "max_attempts", "created_at")
            mine = JobRow(lease_token="", **{name: row[name] for name in names})
            await edit.recompute(None, uow, mine)  # type: ignore[arg-type]
            await uow.execute(job.delete().where(job.c.id == row["id"]))
            done += 1


async def create(office: Office, key: str = "standard", minutes: int = 60, **more: Any) -> dict[str, Any]:
    async with office.db.transaction() as uow:
        return await edit.create_policy(uow, **{"key": key, "name": key, "targets": targets(minutes), **more})


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"targets": {"*": {"first_reply": {"minutes": 0}}}}, "targets.*.first_reply.minutes"),
        ({"targets": targets(60, calendar_id=99)}, "targets.*.first_reply.calendar_id"),
        ({"options": {"calendar_id": 99}}, "options.calendar_id"),
        ({"conditions": {"moon": "full"}}, "conditions.moon"),
        ({"targets": targets(60) | {"*": {"first_reply": {"minutes": 60, "steps": [
            {"at": "50%", "actions": [{"do": "webhook", "value": "https://x"}]}]}}}}, "targets.*.first_reply.steps[50%]"),
        ({"targets": {"*": {"first_reply": {"minutes": 60, "steps": [
            {"at": "50%", "actions": [{"do": "add_overflow_team", "value": "77"}]}]}}}}, "targets.*.first_reply.steps[50%]"),
        ({"targets": {"*": {"first_reply": {"minutes": 60, "steps": [
            {"at": "50%", "actions": [{"do": "raise_priority", "value": "sky"}]}]}}}}, "targets.*.first_reply.steps[50%]"),
        ({"name": " "}, "name"),
        ({"key": "Ä"}, "key"),
    ],
)  # fmt: skip
async def test_a_wrong_policy_is_refused_with_its_place(
    office: Office, wrong: dict[str, Any], place: str
) -> None:
    with pytest.raises(Invalid) as caught:
        await create(office, **wrong)
    assert ".".join(caught.value.params["errors"][0]["loc"]) == place
    async with office.db.reading() as conn:
        assert (await conn.execute(select(sla_policy.c.id))).all() == []


@pytest.mark.parametrize(
    ("action", "why"),
    [
        ({"do": "webhook", "value": "nowhere"}, "no webhook 'nowhere'"),
        ({"do": "notify_channel", "value": "#support"}, "no webhook '#support'"),
        ({"do": "notify_agent", "value": "4711"}, "no agent 4711"),
        ({"do": "notify_agent", "value": "anna"}, "needs the id of an agent"),
    ],
)
async def test_steps_name_only_what_there_is(office: Office, action: dict[str, str], why: str) -> None:
    steps = [{"at": "50%", "actions": [action]}]
    with pytest.raises(Invalid, match=why):
        await create(office, targets=targets(60) | {"*": {"first_reply": {"minutes": 60, "steps": steps}}})


async def test_policies_keep_their_versions_and_their_places(office: Office) -> None:
    first = await create(office)
    with pytest.raises(Conflict):
        await create(office)
    with pytest.raises(Conflict, match="position"):
        await create(office, "other", position=first["position"])
    await create(office, "other")
    async with office.db.transaction() as uow:
        second = await edit.change_policy(uow, "standard", {"targets": targets(30)}, expected_version=1)
        with pytest.raises(Conflict):
            await edit.change_policy(uow, "standard", {"name": "x"}, expected_version=1)
        same = await edit.change_policy(uow, "standard", {"targets": targets(30)})
        with pytest.raises(NotFound):
            await edit.change_policy(uow, "nobody", {})
        await edit.order_policies(uow, ["other", "standard"])
        with pytest.raises(Invalid):
            await edit.order_policies(uow, ["other"])
    assert (second["version"], same["id"]) == (2, second["id"])
    async with office.db.reading() as conn:
        rows = (await conn.execute(select(sla_policy).order_by(sla_policy.c.id))).mappings().all()
    assert [(r["policy_key"], r["version"], r["current"], r["targets"]) for r in rows if r["policy_key"] == "standard"] == [
        ("standard", 1, False, targets(60)), ("standard", 2, True, targets(30))]  # fmt: skip
    ticket = await opened(office)
    assert (await office.the(ticket, "first_reply"))["target_ms"] == 60 * MINUTE  # "other" comes first now


async def test_open_inquiries_follow_a_changed_policy(office: Office) -> None:
    await create(office, minutes=240)
    ticket, solved = await opened(office), await opened(office, 1, user="ben")
    await office.change(2, solved, status="solved")
    office.move(30)
    async with office.db.transaction() as uow:
        await edit.change_policy(uow, "standard", {"targets": targets(60)})
    assert (await office.the(ticket, "first_reply"))["target_ms"] == 240 * MINUTE
    await recompute(office)
    first = await office.the(ticket, "first_reply")
    assert (first["target_ms"], first["due_at"], first["policy_version"]) == (60 * MINUTE, at(60), 2)
    assert (await office.the(solved, "first_reply"))["policy_version"] == 1


async def test_a_policy_changed_before_the_batch_holds_at_the_next_event(office: Office) -> None:
    await create(office, minutes=240)
    ticket = await opened(office)
    async with office.db.transaction() as uow:
        await edit.change_policy(uow, "standard", {"targets": targets(60)})
    await office.customer(5)
    assert (await office.the(ticket, "first_reply"))["due_at"] == at(60)


@pytest.mark.parametrize("before", [None, 60])
async def test_rules_made_while_it_was_solved_hold_when_it_is_open_again(
    office: Office, before: int | None
) -> None:
    if before is not None:
        await create(office, "late", position=9, targets=targets(before, "requester_wait"))
    ticket = await opened(office)
    await office.change(10, ticket, status="solved")
    office.move(20)
    await create(office, position=1, targets=targets(30, "requester_wait"))
    await recompute(office)
    await office.customer(60)
    wait = await office.the(ticket, "requester_wait")
    assert (wait["target_ms"], wait["due_at"]) == (30 * MINUTE, at(80))


async def test_with_apply_to_open_off_a_ticket_ends_under_the_version_it_has(office: Office) -> None:
    await create(office, minutes=240)
    await recompute(office)
    ticket = await opened(office)
    async with office.db.transaction() as uow:
        await edit.change_policy(
            uow, "standard", {"targets": targets(60), "options": {"apply_to_open": False}}
        )
    assert await recompute(office) == 0
    await office.customer(5)
    await office.change(6, ticket, priority="high")
    assert (await office.the(ticket, "first_reply"))["target_ms"] == 240 * MINUTE
    later = await opened(office, 7, user="ben")
    assert (await office.the(later, "first_reply"))["target_ms"] == 60 * MINUTE


async def test_an_edit_that_is_rolled_back_leaves_no_trace_in_what_is_remembered(office: Office) -> None:
    await create(office, minutes=60)

    class Crash(Exception):
        pass

    with pytest.raises(Crash):
        async with office.db.transaction() as uow:
            await edit.change_policy(uow, "standard", {"targets": targets(5)})
            assert len((await books.load(uow.conn)).policies) == 2
            raise Crash
    async with office.db.transaction() as uow:
        await edit.change_policy(uow, "standard", {"targets": targets(30)})
    ticket = await opened(office)
    assert (await office.the(ticket, "first_reply"))["target_ms"] == 30 * MINUTE


async def test_many_open_inquiries_are_recomputed_in_batches(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edit, "BATCH", 2)
    await create(office, minutes=240)
    await recompute(office)
    tickets = [await opened(office, user=f"u{n}") for n in range(5)]
    async with office.db.transaction() as uow:
        await edit.change_policy(uow, "standard", {"targets": targets(60)})
    assert await recompute(office) == 3
    assert {(await office.the(t, "first_reply"))["due_at"] for t in tickets} == {at(60)}


async def test_new_hours_count_from_the_change_on(office: Office) -> None:
    await create(office, targets=targets(9 * 60 + 30))
    ticket = await opened(office)  # 10:00, due next day 10:30
    office.move(120)
    async with office.db.transaction() as uow:
        await edit.change_calendar(uow, office.calendar_id, spec=LONG, expected_version=1)
    await recompute(office)
    first = await office.the(ticket, "first_reply")
    assert (first["calendar_version"], first["consumed_ms"], first["due_at"]) == (
        2,
        120 * MINUTE,
        at(9 * 60 + 30),
    )
    async with office.db.reading() as conn:
        versions = (
            await conn.execute(select(calendar_version.c.version).order_by(calendar_version.c.version))
        ).scalars()
        assert list(versions) == [1, 2]
        parts = await ledger.segments(conn, first["id"], at(180))
    assert [(p.terms.calendar_version, p.counted_ms) for p in parts] == [(1, 120 * MINUTE), (2, 60 * MINUTE)]


async def test_time_before_the_recompute_is_measured_with_the_old_hours(office: Office) -> None:
    await create(office, targets=targets(600))
    ticket = await opened(office)
    office.move(60)
    async with office.db.transaction() as uow:
        await edit.change_calendar(uow, office.calendar_id, spec=LATE)
    await office.change(90, ticket, status="solved")
    assert (await office.the(ticket, "first_reply"))["consumed_ms"] == 90 * MINUTE


@pytest.mark.parametrize(
    "spec", [{}, {"tz": "Mars/Base", "week": {}}, {"tz": "UTC", "week": {"mon": [["9", "18"]]}}, []]
)
async def test_wrong_hours_are_refused(office: Office, spec: Any) -> None:
    with pytest.raises(Invalid) as caught:
        async with office.db.transaction() as uow:
            await edit.create_calendar(uow, name="bad", spec=spec)
    assert caught.value.code == "bad_calendar"


async def test_the_nearest_calendar_wins(office: Office) -> None:
    """The target's, else the policy's, else the team's, else the organisation's."""
    async with office.db.transaction() as uow:
        ids = [
            (await edit.create_calendar(uow, name=n, spec=s))["id"]
            for n, s in (("long", LONG), ("late", LATE))
        ]
        await uow.execute(update(team).values(calendar_id=ids[0]))
    key = await create(office)
    assert (await office.the(await opened(office, user="a"), "first_reply"))["calendar_id"] == ids[0]
    async with office.db.transaction() as uow:
        await edit.change_policy(uow, key["policy_key"], {"options": {"calendar_id": ids[1]}})
    assert (await office.the(await opened(office, user="b"), "first_reply"))["due_at"] == at(180)  # 13:00
    async with office.db.transaction() as uow:
        await edit.change_policy(
            uow, key["policy_key"], {"targets": targets(60, calendar_id=office.calendar_id)}
        )
    assert (await office.the(await opened(office, user="c"), "first_reply"))["due_at"] == at(60)


async def test_without_any_calendar_all_hours_count_and_an_alarm_says_so_once(
    db: Database, clock: Any
) -> None:
    office = await Office.open(db, clock, default=False)
    await create(office, minutes=60)
    ticket = await opened(office, 11 * 60)  # 21:00
    await opened(office, 11 * 60, user="ben")
    assert (await office.the(ticket, "first_reply"))["due_at"] == at(12 * 60)
    [alarm] = await office.told("alarm.raised")
    assert "no calendar" in alarm["payload"]["error"]


async def test_hours_that_never_come_give_no_deadline_and_an_alarm(db: Database, clock: Any) -> None:
    office = await Office.open(db, clock, spec={"tz": "UTC", "week": {}})
    await create(office, minutes=60)
    ticket = await opened(office)
    first = await office.the(ticket, "first_reply")
    assert (first["due_at"], first["next_fire_at"], first["state"]) == (None, None, "active")
    [alarm] = await office.told("alarm.raised")
    assert "never opens" in alarm["payload"]["error"]
    assert await sweep(office.db) is None


async def test_broken_rules_in_the_database_stop_nobodys_message(office: Office) -> None:
    """Rows that no editor of ours wrote: a policy that cannot be read, calendars that are gone or senseless."""
    await office.promise({"first_reply": 60})
    async with office.db.transaction() as uow:
        bad = {"policy_key": "bad", "version": 1, "position": -1, "name": "bad", "conditions": {}, "targets": 7,
               "options": {}, "current": True, "created_at": uow.now}  # fmt: skip
        await uow.insert(sla_policy, bad)
        await uow.execute(update(team).values(calendar_id=555))
        await uow.execute(update(setting).where(setting.c.key == books.DEFAULT_CALENDAR).values(value=777))
        await uow.execute(update(calendar).values(spec={"nonsense": 1}, version=9))
    ticket = await opened(office)
    assert (await office.the(ticket, "first_reply"))["due_at"] == at(60)
    told = " ".join(e["payload"]["error"] for e in await office.told("alarm.raised"))
    assert "'bad'" in told and "777" in told and "'office'" in told


async def test_a_contact_becomes_a_vip(office: Office) -> None:
    await office.promise({"first_reply": 30}, key="vip", position=0, conditions={"vip": True})
    await office.promise({"first_reply": 240}, key="all", position=1)
    ticket = await opened(office)
    from crm_core import contacts

    async with office.db.transaction() as uow:
        person = await uow.scalar(select(contact.c.id).order_by(contact.c.id.desc()).limit(1))
        await contacts.update_contact(uow, person, {"vip": True}, actor="agent:1")
    assert (await office.the(ticket, "first_reply"))["due_at"] == at(30)


async def test_moving_to_another_team_changes_the_promise_only_through_a_policy(office: Office) -> None:
    async with office.db.transaction() as uow:
        late = (await edit.create_calendar(uow, name="late", spec=LATE))["id"]
        other = {"name": "Other", "calendar_id": late, "settings": {}, "active": True, "created_at": uow.now}
        other_id = await uow.insert(team, other)
    await create(office, minutes=240)
    ticket = await opened(office)
    await office.change(30, ticket, team_id=other_id)
    assert (await office.the(ticket, "first_reply"))["due_at"] == at(240)
    await create(office, "theirs", position=-5, targets=targets(60), conditions={"team": other_id})
    await recompute(office)
    first = await office.the(ticket, "first_reply")
    assert (first["target_ms"], first["calendar_id"], first["due_at"]) == (60 * MINUTE, late, at(150))


async def test_a_broken_promise_is_forgiven_only_if_the_policy_says_so_and_by_whom_is_kept(
    office: Office,
) -> None:
    for forgive in (False, True):
        key = f"p{forgive}".lower()
        async with office.db.transaction() as uow:
            await edit.create_policy(
                uow, key=key, name=key, conditions={"tags": {"contains": key}},
                targets={"normal": {"first_reply": {"minutes": 30, "steps": []}}, "low": {"first_reply": {"minutes": 240, "steps": []}}},
                options={"forgive_on_retarget": forgive},
            )  # fmt: skip
        ticket = await opened(office, 0, user=key)
        await office.change(1, ticket, tags=[key])
        await office.change(60, ticket, priority="low")
        first = await office.the(ticket, "first_reply")
        assert first["breached_at"] == (None if forgive else at(30))
        moved = [e for e in await office.ledger(ticket, "first_reply") if e["kind"] == "retarget"][-1]
        assert moved["data"]["by"] == f"agent:{office.agent_id}"
        assert moved["data"].get("forgiven") == (at(30) if forgive else None)
