"""Promises by the API and by the customer's link: slots, places in the queue, decisions of agents, the report."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from crm_core.clock import from_iso
from crm_core.db.engine import Database
from crm_core.jobs import JobRow
from crm_core.schema import job, message, team
from crm_core.services import Services
from routing import callbacks
from routing import listeners as routing_listeners
from routing.callbacks import notify
from routing.schema import callback
from tests.api.conftest import Desk
from tests.api.test_inquiries import write
from tests.api.test_resources import call
from tests.conftest import MovableClock

NOON = from_iso("2026-11-23T10:00:00Z")


@pytest.fixture
def clock() -> MovableClock:
    moved = MovableClock()
    moved.set(NOON)
    return moved


@pytest.fixture
async def live(desk: Desk, db: Database) -> AsyncIterator[Desk]:
    """Routing and promises listen, as the composition root has it."""
    table: dict[str, list[Any]] = {}
    for part in (routing_listeners.LISTENERS, callbacks.LISTENERS):
        for kind, functions in part.items():
            table.setdefault(kind, []).extend(functions)
    db.listeners = table
    await desk.add_inbox(
        "help", "telegram", team_id=desk.teams["support"], config={"token": "1:x", "mode": "webhook"}
    )
    yield desk
    db.listeners = {}


async def test_slots_are_promised_once_and_come_back(live: Desk):
    async with live.db.transaction() as uow:
        # Anna alone: 1 x 0.2 x 30 / 6 = one call in half an hour.
        await uow.execute(
            update(team)
            .where(team.c.id == live.teams["support"])
            .values(settings={"callbacks": {"share": 0.2, "aht_s": 360}})
        )
    first, second = await write(live, "help", "ira", "Call me"), await write(live, "help", "oleh", "Me too")
    found = await call(
        live, "anna", "GET", f"/callbacks/slots?team_id={live.teams['support']}&phone=%2B380501234567&days=1"
    )
    slot = found["items"][0]
    assert found["timezone"] == "Europe/Kyiv"
    assert (slot["start"], slot["free"] >= 1) == ("2026-11-23T10:30:00.000Z", True)
    wanted = {"phone": "+380501234567", "window_start": slot["start"], "slot": True, "inquiry_id": first["id"],
              "team_id": live.teams["support"]}  # fmt: skip
    booked = await call(live, "anna", "POST", "/callbacks", 201, json=wanted)
    assert (booked["mode"], booked["kind"]) == ("preview", "scheduled")
    other = {**wanted, "inquiry_id": second["id"]}
    for n in range(slot["free"] - 1):
        await call(live, "anna", "POST", "/callbacks", 201, json={**other, "phone": f"+38067111223{n}"})
    late = {**other, "phone": "+380931112244"}
    refused = await call(live, "anna", "POST", "/callbacks", 409, json=late)
    assert refused["code"] == "slot_full"
    await call(live, "anna", "POST", f"/callbacks/{booked['id']}/close", json={"reason": "he wrote"})
    assert (await call(live, "anna", "POST", "/callbacks", 201, json=late))["window_start"] == slot["start"]
    await call(live, "anna", "GET", "/callbacks/slots?team_id=999999", 404)
    await call(live, "anna", "GET", "/callbacks/slots?phone=abc", 422)
    await call(live, "anna", "GET", "/callbacks/slots?days=99", 422)


async def test_agents_put_off_resume_close_and_keep_places(live: Desk):
    row = await write(live, "help", "ira", "Call me")
    booked = await call(
        live, "anna", "POST", "/callbacks", 201, json={"inquiry_id": row["id"], "phone": "+380501234567"}
    )
    path = f"/callbacks/{booked['id']}"
    put_off = await call(live, "anna", "POST", f"{path}/snooze", json={"minutes": 30})
    assert put_off["next_attempt_at"] == "2026-11-23T10:30:00.000Z"
    await call(live, "anna", "POST", f"{path}/snooze", 422, json={"minutes": 0})
    assert (await call(live, "anna", "POST", f"{path}/resume"))["state"] == "scheduled"
    closed = await call(live, "anna", "POST", f"{path}/close", json={"reason": "answered by mail"})
    assert (closed["state"], closed["ended_by"]) == ("cancelled", "agent")
    await call(live, "anna", "POST", f"{path}/snooze", 409, json={})
    await call(live, "anna", "POST", "/callbacks/hold", 422, json={})
    await call(live, "anna", "POST", "/callbacks/hold", 404, json={"call_id": 12345})
    await call(live, "anna", "PATCH", f"/teams/{live.teams['support']}", 403, json={"settings": {}})
    wrong = {"settings": {"callbacks": {"mode": "robot"}}}
    refused = await call(live, "ada", "PATCH", f"/teams/{live.teams['support']}", 422, json=wrong)
    assert "callbacks.mode" in refused["detail"]


async def test_the_report_for_supervisors(live: Desk):
    row = await write(live, "help", "ira", "Call me")
    booked = await call(
        live, "anna", "POST", "/callbacks", 201, json={"inquiry_id": row["id"], "phone": "+380501234567"}
    )
    await call(live, "anna", "POST", f"/callbacks/{booked['id']}/outcome", json={"outcome": "answered"})
    period = "from=2026-11-23T00:00:00Z&to=2026-11-24T00:00:00Z"
    await call(live, "anna", "GET", f"/callbacks/report?{period}", 403)
    found = await call(live, "sofia", "GET", f"/callbacks/report?{period}&group=owner")
    assert (found["total"]["booked"], found["total"]["kept_on_time_pct"]) == (1, 100.0)
    assert len(found["rows"]) == 1
    await call(
        live, "sofia", "GET", "/callbacks/report?from=2026-11-24T00:00:00Z&to=2026-11-23T00:00:00Z", 422
    )
    client = await live.client("sofia")
    answer = await client.get(f"/api/v1/callbacks/report.csv?{period}")
    lines = (await answer.text()).lstrip("\ufeff").splitlines()
    assert lines[0].startswith("group,booked,kept") and lines[1].startswith("total,1,1,1")
    assert any(line.startswith(("kept_on_time_pct: ", '"kept_on_time_pct: ')) for line in lines[2:])
    days = await call(live, "sofia", "GET", f"/callbacks/report?{period}&group=day&zone=Pacific/Kiritimati")
    assert (days["zone"], [row["group"] for row in days["rows"]]) == ("Pacific/Kiritimati", ["2026-11-24"])
    await call(live, "sofia", "GET", f"/callbacks/report?{period}&zone=Mars/Base", 422)


async def test_the_customers_link_moves_and_cancels_and_a_look_changes_nothing(
    live: Desk, services: Services, clock: MovableClock
):
    row = await write(live, "help", "ira", "Call me")
    booked = await call(
        live, "anna", "POST", "/callbacks", 201, json={"inquiry_id": row["id"], "phone": "+380501234567"}
    )
    async with live.db.reading() as conn:
        token = (await conn.execute(select(callback.c.public_token))).scalar_one()
    anybody = await live.client()
    page = await anybody.get(f"/callback/{token}")
    text = await page.text()
    assert page.status == 200 and "4567" in text and "+380501234567" not in text
    assert "script" not in text and page.headers["Cache-Control"] == "no-store"
    assert (await anybody.get(f"/callback/{'x' * 32}")).status == 404
    at = NOON + int(timedelta(hours=3).total_seconds() * 1000)
    moved = await anybody.post(f"/callback/{token}", data={"do": "move", "at": str(at)})
    assert moved.status == 200
    shown = await call(live, "anna", "GET", f"/callbacks/{booked['id']}")
    assert shown["due_at"] == "2026-11-23T13:00:00.000Z"
    nonsense = await anybody.post(f"/callback/{token}", data={"do": "move", "at": "9" * 16})
    assert nonsense.status == 200
    await anybody.post(f"/callback/{token}", data={"do": "cancel"})
    shown = await call(live, "anna", "GET", f"/callbacks/{booked['id']}")
    assert (shown["state"], shown["ended_by"]) == ("cancelled", "customer")
    # The agent is told in the thread, the customer in his channel: once, however often the job runs.
    async with live.db.reading() as conn:
        told = (await conn.execute(select(job).where(job.c.name == notify.TELL_JOB))).mappings().all()
    for each in [*told, *told]:
        async with live.db.transaction() as uow:
            fields = {f: each[f] for f in JobRow.__dataclass_fields__ if f in each}
            await notify.run(services, uow, JobRow(**fields))
    async with live.db.reading() as conn:
        notes = (
            await conn.execute(select(message.c.text).where(message.c.author_kind == "system").order_by(message.c.id))
        ).scalars().all()  # fmt: skip
    assert [n for n in notes if n.startswith("The customer")] == [
        "The customer moved the callback to Mon 23.11.2026, 15:00 (Europe/Kyiv) (customer's time).",
        "The customer cancelled the callback.",
    ]
