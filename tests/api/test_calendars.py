"""Calendars over HTTP: previewed, versioned, with holidays from a file or an address."""

from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from sqlalchemy import select, update

from crm_core.clock import from_iso
from crm_core.jobs import JobRow
from crm_core.schema import event, job
from crm_core.services import Services
from routing.schema import calendar_feed, calendar_version
from routing.sla import edit, holidays, zones
from routing.sla.service import LISTENERS
from tests.api.conftest import Desk
from tests.routing.test_calendar_ical import event as vevent
from tests.routing.test_calendar_ical import ical
from workers import calendar_feeds

SPEC: dict[str, Any] = {
    "tz": "Europe/Kyiv",
    "week": {d: [["09:00", "13:00"], ["14:00", "18:00"]] for d in ("mon", "tue", "wed", "thu", "fri")}
    | {"sat": [["22:00", "06:00"]]},
    "holidays": ["2025-06-09"],
    "special": {"2025-06-06": [["09:00", "12:00"]]},
}


@pytest.fixture
async def office(desk: Desk, clock: Any) -> Desk:
    clock.set(from_iso("2025-06-02T09:00:00Z"))
    async with desk.db.transaction() as uow:
        await edit.create_calendar(uow, name="office", spec=SPEC)
    return desk


async def test_what_hours_mean_for_certain_days(office: Desk) -> None:
    anna = await office.client("anna")
    asked = await anna.post("/api/v1/calendars/1/preview", json={"begin": "2025-06-05", "days": 5})
    shown = await asked.json()
    assert shown["zone"] == "Europe/Kyiv"
    assert [(d["date"], d["why"], d["open"]) for d in shown["items"]] == [
        ("2025-06-05", "week", [["09:00", "13:00"], ["14:00", "18:00"]]),
        ("2025-06-06", "special", [["09:00", "12:00"]]),
        ("2025-06-07", "week", [["22:00", "24:00"]]),
        ("2025-06-08", "week", [["00:00", "06:00"]]),
        ("2025-06-09", "holiday", []),
    ]
    assert shown["items"][1]["utc"] == [["2025-06-06T06:00:00.000Z", "2025-06-06T09:00:00.000Z"]]
    night = {"tz": "Europe/Kyiv", "week": {"sun": [["00:00", "24:00"]]}}
    spring = {"begin": "2025-03-30", "days": 1, "spec": night}
    [day] = (await (await anna.post("/api/v1/calendars/1/preview", json=spring)).json())["items"]
    assert (day["open_ms"], day["day_ms"]) == (23 * 3_600_000, 23 * 3_600_000)
    last_night = {"9999-12-31": [["22:00", "06:00"]]}
    for wrong in (
        *({"begin": "2025-02-30"}, {"begin": "0001-01-01"}, {"days": 0}, {"spec": {"tz": "Mars"}}),
        *({"spec": {**night, name: last_night}} for name in ("special", "breaks")),
    ):
        assert (await anna.post("/api/v1/calendars/1/preview", json=wrong)).status == 422
    assert (await anna.post("/api/v1/calendars/99/preview", json={})).status == 404


async def test_a_file_replaces_its_own_holidays_and_no_others(office: Desk) -> None:
    ada, anna = await office.client("ada"), await office.client("anna")
    text = {"Content-Type": "text/calendar"}
    path = "/api/v1/calendars/1/holidays"
    first = ical(
        vevent("DTSTART;VALUE=DATE:20250609", "SUMMARY:Trinity"),
        vevent("DTSTART;VALUE=DATE:20250628", "SUMMARY:Constitution Day", uid="2"),
        vevent("DTSTART;VALUE=DATE:20250606", "SUMMARY:Half", uid="3"),
    )
    assert (await anna.post(path, data=first, headers=text)).status == 403
    dry = await (await ada.post(f"{path}?dry_run=true", data=first, headers=text)).json()
    assert (dry["added"], dry["version"]) == ([{"date": "2025-06-28", "name": "Constitution Day"}], 1)
    taken = await (await ada.post(path, data=first, headers=text)).json()
    assert taken["version"] == 2
    assert any("special hours" in w for w in taken["warnings"])
    again = await (await ada.post(path, data=first, headers=text)).json()
    assert (again["added"], again["version"]) == ([], 2)
    other = ical(vevent("DTSTART;VALUE=DATE:20250824", "SUMMARY:Independence Day"))
    moved = await (await ada.post(path, data=other, headers=text)).json()
    assert [d["date"] for d in moved["removed"]] == ["2025-06-28"]
    now = await (await anna.get("/api/v1/calendars/1")).json()
    assert now["spec"]["holidays"] == ["2025-06-09", "2025-08-24"]
    versions = (await (await anna.get("/api/v1/calendars/1/versions")).json())["items"]
    assert [v["version"] for v in versions] == [3, 2, 1]
    unreadable = ical(vevent("DTSTART;VALUE=DATE:20259999", "SUMMARY:broken"))
    for wrong in (b"", b"<html>", b"\xff\xfe", ical(), unreadable):
        refused = await ada.post(path, data=wrong, headers=text)
        assert (refused.status, (await refused.json())["code"]) == (422, "bad_ical")
    assert (await (await ada.get("/api/v1/calendars/1")).json())["version"] == 3
    assert (await ada.post("/api/v1/calendars/99/holidays", data=first, headers=text)).status == 404


async def test_holidays_are_fetched_through_the_guard(office: Desk, services: Services, clock: Any) -> None:
    ada = await office.client("ada")
    asked: list[str | None] = []

    async def serve(request: web.Request) -> web.Response:
        asked.append(request.headers.get("If-None-Match"))
        if asked[-1] == '"one"':
            return web.Response(status=304)
        body = ical(vevent("DTSTART;VALUE=DATE:20250824", "SUMMARY:Independence Day"))
        return web.Response(body=body, headers={"ETag": '"one"'})

    app = web.Application()
    app.router.add_get("/ua.ics", serve)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    url = str(server.make_url("/ua.ics"))
    assert (await ada.put("/api/v1/calendars/1/feed", json={"url": "ftp://example.org/x"})).status == 422
    assert (await ada.put("/api/v1/calendars/1/feed", json={"url": "http://u:p@example.org/x"})).status == 422
    assert (await ada.put("/api/v1/calendars/1/feed", json={"url": url})).status == 200
    await calendar_feeds.sweep(services)
    async with office.db.reading() as conn:
        [row] = (await conn.execute(select(job).where(job.c.name == calendar_feeds.REFRESH_JOB))).mappings()
    one = JobRow(
        id=row["id"], name=row["name"], args=row["args"], lane=None, order_key=0, attempts=1, max_attempts=5,
        lease_token="x", created_at=0,
    )  # fmt: skip
    # Our own net is no place to fetch holidays from, unless the settings say so.
    await calendar_feeds.refresh(services, one)
    feed = await (await ada.get("/api/v1/calendars/1/feed")).json()
    assert (feed["failures"], asked) == (1, [])
    assert "not a public address" in feed["error"]
    allowed = replace(services, settings=replace(services.settings, webhook_private=("127.0.0.1",)))
    await calendar_feeds.refresh(allowed, one)
    feed = await (await ada.get("/api/v1/calendars/1/feed")).json()
    assert (feed["failures"], feed["error"]) == (0, None)
    assert feed["dates"] == [{"date": "2025-08-24", "name": "Independence Day"}]
    await calendar_feeds.refresh(allowed, one)
    assert asked == [None, '"one"']
    await server.close()
    for _ in range(3):
        await calendar_feeds.refresh(allowed, one)
    async with office.db.reading() as conn:
        alarms = (await conn.execute(select(event.c.payload).where(event.c.kind == "alarm.raised"))).scalars()
        assert len(list(alarms)) == 1
    kept = await (await ada.get("/api/v1/calendars/1")).json()
    assert kept["spec"]["holidays"] == ["2025-06-09", "2025-08-24"]
    assert (await ada.put("/api/v1/calendars/1/feed", json={"url": None})).status == 200
    async with office.db.reading() as conn:
        assert await conn.scalar(select(calendar_feed.c.next_at)) is None
    assert holidays.window(clock.now_ms())[0].year == 2024


async def test_another_tzdata_is_another_version(office: Desk) -> None:
    assert await zones.check(office.db) == 0
    assert await zones.check(office.db) == 0
    async with office.db.transaction() as uow:
        # As a tzdata before this one had compiled it.
        await uow.execute(update(calendar_version).values(fingerprint="2025-2028:" + "0" * 40))
    assert await zones.check(office.db) == 1
    assert await zones.check(office.db) == 0
    anna = await office.client("anna")
    now = await (await anna.get("/api/v1/calendars/1")).json()
    assert (now["version"], now["spec"]) == (2, SPEC)
    async with office.db.reading() as conn:
        jobs = (await conn.execute(select(job.c.args).where(job.c.name == edit.RECOMPUTE_JOB))).scalars()
        assert list(jobs) == [{"calendar_id": 1}]


async def test_the_organisations_hours_are_chosen_over_the_api(desk: Desk) -> None:
    desk.db.listeners = {kind: list(functions) for kind, functions in LISTENERS.items()}
    async with desk.db.transaction() as uow:
        hours = (await edit.create_calendar(uow, name="office", spec=SPEC))["id"]
    ada, anna, sofia = await desk.client("ada"), await desk.client("anna"), await desk.client("sofia")
    path = "/api/v1/sla/organisation"
    assert (await sofia.put(path, json={"calendar_id": hours})).status == 403
    assert (await ada.put(path, json={"calendar_id": 99})).status == 404
    for wrong in ({}, {"calendar_id": "x"}, {"calendar_id": 0}):
        assert (await ada.put(path, json=wrong)).status == 422
    chosen = await (await ada.put(path, json={"calendar_id": hours})).json()
    assert (chosen["calendar_id"], chosen["zone"]) == (hours, "Europe/Kyiv")
    assert await (await anna.get(path)).json() == chosen
    # Reports follow it, and clocks that begin from now on.
    assert (await (await sofia.get("/api/v1/reports/backlog")).json())["zone"] == "Europe/Kyiv"
    new = {"kind": "ticket", "subject": "My visa", "contact": {"name": "Ira"}}
    asked = await (await anna.post("/api/v1/inquiries", json=new)).json()
    clocks = (await (await anna.get(f"/api/v1/sla/clocks?inquiry_id={asked['id']}")).json())["items"]
    assert {c["calendar_id"] for c in clocks} == {hours}
    assert (await (await ada.put(path, json={"calendar_id": None})).json())["calendar_id"] is None
