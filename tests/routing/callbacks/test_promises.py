"""A promise to call: kept, tried again, or brought before a supervisor; never silently dropped."""

from typing import Any

import pytest

from crm_core.clock import HOUR, MINUTE, from_iso
from crm_core.db.engine import Database
from crm_core.errors import Conflict, Invalid
from crm_core.schema import job
from routing import callbacks
from routing.schema import calendar, callback_attempt, work_item
from tests.conftest import MovableClock
from tests.routing.callbacks import office
from tests.routing.callbacks.office import MONDAY_NOON, PHONE, a_pbx, booked, kinds, now_is, somebody_accepts
from tests.routing.engine.desk import a_contact, a_team, an_agent, check_invariants, go, rows


@pytest.fixture(autouse=True)
def wired(db: Database, clock: MovableClock) -> None:
    clock.set(MONDAY_NOON)
    office.wire(db)


async def the_pbx_says(
    db: Database, box: dict[str, Any], correlation_id: str, *states: tuple[str, str | None]
) -> None:
    for state, disposition in states:
        await office.says(
            db, box, f"c-{correlation_id}", "l1", state,
            direction="callback", to_raw=PHONE, disposition=disposition, final=state == "ended",
            correlation_id=correlation_id,
        )  # fmt: skip


async def test_due_means_work_for_the_owner_and_his_phone_rings(db: Database, clock: MovableClock) -> None:
    await a_pbx(db)
    team_id = await a_team(db)
    await an_agent(db, "Other", team_id, extension="11")
    owner = await an_agent(db, "Owner", team_id, extension="12")
    made = await booked(db, owner_id=owner, team_id=team_id)
    assert made["phone"] == PHONE and made["timezone"] == "Europe/Kyiv"
    assert await callbacks.sweep(db) == MONDAY_NOON + HOUR
    assert (await now_is(db, made["id"]))["state"] == "scheduled"
    clock.advance(HOUR)
    await go(db, owner, "online")
    await callbacks.sweep(db)
    assert (await now_is(db, made["id"]))["state"] == "due"
    await somebody_accepts(db)
    row = await now_is(db, made["id"])
    assert (row["state"], row["owner_id"]) == ("dialling", owner)
    (attempt,) = await rows(db, callback_attempt)
    assert attempt["agent_id"] == owner and attempt["mode"] == "originated"
    jobs = [j for j in await rows(db, job) if j["name"] == callbacks.ORIGINATE_JOB]
    assert [j["args"] for j in jobs] == [{"attempt_id": attempt["id"], "ring_ms": 20_000}]
    await check_invariants(db)


async def test_no_answer_is_tried_again_by_rule_and_an_answer_keeps_the_promise(
    db: Database, clock: MovableClock
) -> None:
    box = await a_pbx(db)
    team_id = await a_team(db)
    owner = await an_agent(db, "Owner", team_id, extension="12")
    made = await booked(db, owner_id=owner, team_id=team_id, window_start=MONDAY_NOON + MINUTE // 2)
    clock.advance(MINUTE // 2)
    await callbacks.sweep(db)
    await somebody_accepts(db)
    (attempt,) = await rows(db, callback_attempt)
    await the_pbx_says(db, box, attempt["correlation_id"], ("ringing", None), ("ended", "no_answer"))
    row = await now_is(db, made["id"])
    assert (row["state"], row["counted_attempts"], row["outcome"]) == ("scheduled", 1, "no_answer")
    assert 23 * MINUTE <= row["next_attempt_at"] - clock.now_ms() <= 37 * MINUTE
    await check_invariants(db)
    clock.set(row["next_attempt_at"])
    await go(db, owner, "online")
    await callbacks.sweep(db)
    await somebody_accepts(db)
    attempts = await rows(db, callback_attempt)
    assert [a["n"] for a in attempts] == [1, 2]
    await the_pbx_says(
        db, box, attempts[1]["correlation_id"], ("ringing", None), ("answered", None), ("ended", "answered")
    )
    row = await now_is(db, made["id"])
    assert (row["state"], row["outcome"]) == ("done", "answered")
    assert [i["state"] for i in await rows(db, work_item)][-1] in ("done", "wrapup")
    assert await kinds(db) == [
        "callback.booked",
        "callback.due",
        "callback.dialled",
        "callback.attempted",
        "callback.due",
        "callback.dialled",
        "callback.kept",
    ]
    await check_invariants(db)


async def test_nobody_there_means_a_supervisor_hears_of_it_and_the_work_stays(
    db: Database, clock: MovableClock
) -> None:
    team_id = await a_team(db)
    made = await booked(
        db, team_id=team_id, window_start=MONDAY_NOON + MINUTE, window_end=MONDAY_NOON + 20 * MINUTE
    )
    clock.set(MONDAY_NOON + 20 * MINUTE)
    await callbacks.sweep(db)
    row = await now_is(db, made["id"])
    assert row["state"] == "due" and row["escalated_at"] == clock.now_ms()
    assert await kinds(db) == ["callback.booked", "callback.due", "callback.escalated"]
    (item,) = await rows(db, work_item)
    assert item["state"] == "waiting"
    await callbacks.sweep(db)
    assert (await kinds(db)).count("callback.escalated") == 1


async def test_five_tries_and_then_a_person_decides(db: Database, clock: MovableClock) -> None:
    team_id = await a_team(db)
    agent_id = await an_agent(db, "Anna", team_id)
    made = await booked(db, team_id=team_id)
    for n in range(5):
        async with db.transaction() as uow:
            row = await callbacks.record_outcome(
                uow, made["id"], "busy", actor=f"agent:{agent_id}", agent_id=agent_id
            )
        assert row["state"] == ("scheduled" if n < 4 else "escalated")
        clock.advance(HOUR)
    assert (await now_is(db, made["id"]))["next_attempt_at"] is None
    assert (await kinds(db))[-1] == "callback.escalated"


async def test_silence_of_the_pbx_ends_the_attempt_without_using_up_a_try(
    db: Database, clock: MovableClock
) -> None:
    await a_pbx(db)
    team_id = await a_team(db)
    owner = await an_agent(db, "Owner", team_id, extension="12")
    made = await booked(db, owner_id=owner, team_id=team_id, window_start=MONDAY_NOON + MINUTE // 2)
    clock.advance(MINUTE // 2)
    await callbacks.sweep(db)
    await somebody_accepts(db)
    clock.advance(4 * MINUTE)
    await callbacks.sweep(db)
    row = await now_is(db, made["id"])
    assert (row["state"], row["counted_attempts"], row["uncounted_attempts"]) == ("scheduled", 0, 1)


async def test_dialling_twice_is_one_attempt_and_two_promises_never_ring_one_number(db: Database) -> None:
    team_id = await a_team(db)
    agent_id = await an_agent(db, "Anna", team_id)
    first = await booked(db, team_id=team_id)
    other = await booked(db, team_id=team_id)  # another person gave the same number
    assert other["id"] != first["id"]
    for _ in range(2):
        async with db.transaction() as uow:
            await callbacks.dial(uow, first["id"], agent_id, actor=f"agent:{agent_id}")
    assert len(await rows(db, callback_attempt)) == 1
    with pytest.raises(Conflict) as caught:
        async with db.transaction() as uow:
            await callbacks.dial(uow, other["id"], agent_id, actor=f"agent:{agent_id}")
    assert caught.value.code == "number_busy"


async def test_booking_again_moves_the_open_promise(db: Database) -> None:
    person = await a_contact(db)
    first = await booked(db, contact_id=person)
    again = await booked(db, contact_id=person, window_start=MONDAY_NOON + 3 * HOUR)
    assert again["id"] == first["id"] and again["due_at"] == MONDAY_NOON + 3 * HOUR


async def test_a_cancelled_promise_leaves_the_queue(db: Database, clock: MovableClock) -> None:
    team_id = await a_team(db)
    made = await booked(db, team_id=team_id, window_start=MONDAY_NOON + MINUTE // 2)
    clock.advance(MINUTE // 2)
    await callbacks.sweep(db)
    async with db.transaction() as uow:
        await callbacks.cancel(uow, made["id"], actor="agent:1", reason="wrote instead")
    assert [i["state"] for i in await rows(db, work_item)] == ["done"] or [
        i["state"] for i in await rows(db, work_item)
    ] == ["cancelled"]
    with pytest.raises(Conflict):
        async with db.transaction() as uow:
            await callbacks.dial(uow, made["id"], None, actor="agent:1")


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"raw_phone": "call me"}, "bad_phone"),
        ({"raw_phone": None}, "no_phone"),
        ({"raw_phone": "0800500000"}, "not_callable"),
        ({"window_start": MONDAY_NOON - HOUR, "window_end": MONDAY_NOON - MINUTE}, "bad_window"),
        ({"window_start": MONDAY_NOON + 2 * HOUR, "window_end": MONDAY_NOON + HOUR}, "bad_window"),
        ({"window_start": MONDAY_NOON + 400 * 24 * HOUR}, "bad_window"),
    ],
)
async def test_what_cannot_be_promised_is_refused(db: Database, more: dict[str, Any], code: str) -> None:
    with pytest.raises(Invalid) as caught:
        await booked(db, **more)
    assert caught.value.code == code


async def test_a_wish_without_a_time_waits_for_a_decent_hour(db: Database, clock: MovableClock) -> None:
    clock.set(from_iso("2026-11-23T02:00:00Z"))
    made = await booked(db, window_start=None)
    assert made["due_at"] == from_iso("2026-11-23T07:00:00Z")


@pytest.mark.parametrize(
    ("after_hours", "due"), [("park", "2026-11-23T07:30:00Z"), ("ignore", "2026-11-22T12:00:00Z")]
)
async def test_a_wish_without_a_time_waits_for_the_team_to_work(
    db: Database, clock: MovableClock, after_hours: str, due: str
) -> None:
    """Asked on a Sunday: promised at once it would only be escalated an hour later."""
    clock.set(from_iso("2026-11-22T12:00:00Z"))
    week = {day: [["09:30", "18:00"]] for day in ("mon", "tue", "wed", "thu", "fri")}
    async with db.transaction() as uow:
        spec = {"tz": "Europe/Kyiv", "week": week}
        hours = await uow.insert(
            calendar, {"name": "Office", "spec": spec, "version": 1, "updated_at": uow.now}
        )
    team_id = await a_team(db, calendar_id=hours, settings={"after_hours": after_hours})
    made = await booked(db, team_id=team_id, window_start=None)
    assert made["due_at"] == made["window_start"] == from_iso(due)
    # Asked for by name, a time stands whoever works then.
    moved = await booked(db, team_id=team_id, window_start=from_iso("2026-11-22T18:00:00Z"))
    assert moved["due_at"] == from_iso("2026-11-22T18:00:00Z")


async def test_an_unknown_zone_and_a_window_of_a_year_are_refused(db: Database) -> None:
    for more, code in (
        ({"timezone": "Mars/X"}, "bad_timezone"),
        ({"timezone": "../../etc/passwd"}, "bad_timezone"),
        ({"window_end": MONDAY_NOON + 365 * 24 * HOUR}, "bad_window"),
    ):
        with pytest.raises(Invalid) as caught:
            await booked(db, **more)
        assert caught.value.code == code
