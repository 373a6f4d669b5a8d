"""The ledger over HTTP: segments with their proof, the same as spreadsheets, nothing a spreadsheet would run."""

import csv
import io
from typing import Any

import pytest
from sqlalchemy import select

from crm_core.clock import MINUTE, from_iso
from crm_core.sheet import lines
from routing.schema import sla_clock
from routing.sla import edit
from routing.sla.service import LISTENERS
from tests.api.conftest import Desk
from tests.api.test_inquiries import write

WEEK = {day: [["09:00", "13:00"], ["14:00", "18:00"]] for day in ("mon", "tue", "wed", "thu", "fri")}
#: Monday 2 June 2025, 12:00 in Kyiv
NOON = from_iso("2025-06-02T09:00:00Z")


@pytest.fixture
async def office(desk: Desk, clock: Any) -> Desk:
    clock.set(NOON)
    desk.db.listeners = {kind: list(functions) for kind, functions in LISTENERS.items()}
    await desk.add_inbox("help", "telegram", team_id=desk.teams["support"])
    async with desk.db.transaction() as uow:
        made = await edit.create_calendar(uow, name="=office", spec={"tz": "Europe/Kyiv", "week": WEEK})
        await edit.set_default_calendar(uow, made["id"])
        await edit.create_policy(
            uow, key="standard", name="Standard", targets={"*": {"first_reply": {"minutes": 90, "steps": []}}}
        )
    return desk


async def first_reply(desk: Desk) -> int:
    async with desk.db.reading() as conn:
        found = await conn.scalar(select(sla_clock.c.id).where(sla_clock.c.metric == "first_reply"))
    return int(found or 0)


async def test_a_breach_is_proved_by_the_open_hours(office: Desk, clock: Any) -> None:
    asked = await write(office, "help", "ira", "My visa")
    clock.set(NOON + 200 * MINUTE)
    anna, boris = await office.client("anna"), await office.client("boris")
    await anna.patch(f"/api/v1/inquiries/{asked['id']}", json={"status": "solved"})
    clock_id = await first_reply(office)
    assert (await boris.get(f"/api/v1/sla/clocks/{clock_id}/ledger")).status == 404
    shown = await (await anna.get(f"/api/v1/sla/clocks/{clock_id}/ledger")).json()
    [ran, *_] = shown["segments"]
    # 12:00-13:00 and 14:00-15:20 are open: 140 minutes; 90 of them were over at 14:30.
    assert (ran["what"], ran["counted_ms"], ran["total_ms"]) == ("ran", 140 * MINUTE, 140 * MINUTE)
    assert [s["local"] for s in ran["open"]] == [
        "2025-06-02 12:00:00 - 13:00:00", "2025-06-02 14:00:00 - 15:20:00"]  # fmt: skip
    assert ran["breach_at"] == "2025-06-02T11:30:00.000Z"
    assert (ran["policy"]["name"], ran["policy"]["version"], ran["priority"]) == ("Standard", 1, "normal")
    proof = shown["proof"]
    assert (proof["agrees"], proof["sum_ms"], proof["engine_ms"]) == (True, 140 * MINUTE, 140 * MINUTE)
    assert (proof["breached_at"], proof["elapsed_at_breach_ms"], proof["target_ms"], proof["cause"]) == (
        "2025-06-02T11:30:00.000Z", 90 * MINUTE, 90 * MINUTE, "deadline")  # fmt: skip


async def test_a_ledger_says_whose_promise_held_when(office: Desk, clock: Any) -> None:
    """A changed policy cuts the line even if its target is the same, and its versions stay readable."""
    asked = await write(office, "help", "ira", "My visa")
    clock.set(NOON + 10 * MINUTE)
    ada, anna = await office.client("ada"), await office.client("anna")
    assert (await ada.put("/api/v1/sla/policies/standard", json={"name": "Gold"})).status == 200
    await anna.patch(f"/api/v1/inquiries/{asked['id']}", json={"priority": "high"})
    clock.set(NOON + 20 * MINUTE)
    shown = await (await anna.get(f"/api/v1/sla/clocks/{await first_reply(office)}/ledger")).json()
    said = [(s["policy"]["name"], s["policy"]["version"], s["priority"]) for s in shown["segments"]]
    assert (said[0], said[-1]) == (("Standard", 1, "normal"), ("Gold", 2, "high"))
    assert (sum(s["counted_ms"] for s in shown["segments"]), shown["proof"]["agrees"]) == (20 * MINUTE, True)
    versions = await (await anna.get("/api/v1/sla/policies/standard/versions")).json()
    assert [(v["version"], v["name"], v["current"]) for v in versions["items"]] == [
        (2, "Gold", True), (1, "Standard", False)]  # fmt: skip
    assert (await anna.get("/api/v1/sla/policies/nobody/versions")).status == 404


async def test_spreadsheets_name_their_zone_and_run_nothing(office: Desk, clock: Any) -> None:
    asked = await write(office, "help", "ira", "My visa")
    clock.set(NOON + 200 * MINUTE)
    anna, sofia = await office.client("anna"), await office.client("sofia")
    await anna.patch(f"/api/v1/inquiries/{asked['id']}", json={"status": "solved"})
    clock_id = await first_reply(office)
    answer = await anna.get(f"/api/v1/sla/clocks/{clock_id}/ledger.csv?zone=Europe/London")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8; header=present"
    [row] = list(csv.DictReader(io.StringIO(await answer.text())))
    assert row["start (Europe/London)"] == "2025-06-02 10:00:00.000+01:00"
    assert (row["calendar"], row["counted (s)"], row["sum agrees"]) == ("'=office", "8400.0", "yes")
    assert (row["policy"], row["policy version"], row["priority"]) == ("Standard", "1", "normal")
    assert row["broken (Europe/London)"] == "2025-06-02 12:30:00.000+01:00"
    whole = await anna.get(f"/api/v1/inquiries/{asked['id']}/ledger.csv")
    names = {r["metric"] for r in csv.DictReader(io.StringIO(await whole.text()))}
    assert names == {"first_reply", "requester_wait", "agent_work", "total_resolution"}

    period = "/api/v1/sla/ledger.csv?begin=2025-06-02T00:00:00Z&end=2025-06-03T00:00:00Z"
    assert (await anna.get(period)).status == 403
    every = list(csv.DictReader(io.StringIO(await (await sofia.get(period)).text())))
    assert len(every) == 4
    one = list(csv.DictReader(io.StringIO(await (await sofia.get(f"{period}&metric=first_reply")).text())))
    assert [r["clock"] for r in one] == [str(clock_id)]
    earlier = period.replace("06-03", "06-01").replace("06-02", "05-31")
    assert len((await (await sofia.get(earlier)).text()).splitlines()) == 1
    for wrong in ("zone=Mars/Base", "begin=2025-06-05T00:00:00Z"):
        assert (
            await sofia.get(
                f"/api/v1/sla/ledger.csv?end=2025-06-03T00:00:00Z&begin=2025-06-02T00:00:00Z&{wrong}"
            )
        ).status == 422
    turned = "/api/v1/sla/ledger.csv?begin=2025-06-03T00:00:00Z&end=2025-06-02T00:00:00Z"
    assert (await (await sofia.get(turned)).json())["code"] == "bad_period"


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@x", "\t=1", "  =1", "＝1", "\r=1"])
def test_no_cell_is_a_formula(cell: str) -> None:
    [[shown]] = list(csv.reader(io.StringIO(lines([[cell]]), newline="")))
    assert shown == f"'{cell}"


def test_other_cells_stay_what_they_are() -> None:
    assert (
        lines([["Anna", -5, 1.5, None, True, 'a "b", c', "a=b"]]) == 'Anna,-5,1.5,,yes,"a ""b"", c",a=b\r\n'
    )


async def test_reports_are_for_supervisors_as_data_and_as_spreadsheets(office: Desk, clock: Any) -> None:
    asked = await write(office, "help", "ira", "My visa")
    clock.set(NOON + 200 * MINUTE)
    anna, sofia = await office.client("anna"), await office.client("sofia")
    await anna.patch(f"/api/v1/inquiries/{asked['id']}", json={"status": "solved"})
    clock.set(NOON + 201 * MINUTE)
    assert (await anna.get("/api/v1/reports/sla")).status == 403
    for name in ("sla", "service", "handling", "resolution", "backlog"):
        answer = await sofia.get(f"/api/v1/reports/{name}?by=team,channel&bucket=15m&zone=Europe/Kyiv")
        assert answer.status == 200, await answer.text()
        shown = await answer.json()
        assert (shown["report"], shown["zone"], bool(shown["variants"])) == (name, "Europe/Kyiv", True)
        sheet = await sofia.get(f"/api/v1/reports/{name}.csv?bucket=day")
        assert sheet.status == 200
        assert (await sheet.text()).startswith("start (Europe/Kyiv)")
    broken = await (await sofia.get("/api/v1/reports/sla?metric=first_reply")).json()
    assert (broken["total"]["breached"], broken["total"]["met_pct"]) == (1, 0)
    for wrong in (
        "by=shoe_size",
        "bucket=7m",
        "begin=2025-06-03T00:00:00Z&end=2025-06-02T00:00:00Z",
        "zone=Mars",
    ):
        assert (await sofia.get(f"/api/v1/reports/sla?{wrong}")).status == 422
    assert (await sofia.get("/api/v1/reports/gossip")).status == 422
