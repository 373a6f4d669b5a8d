"""Planning by API: who may ask, what is refused, and an answer from question to comparison."""

from typing import Any

from aiohttp.test_utils import TestClient

from crm_core.clock import to_iso
from crm_core.services import Services
from tests.api.conftest import Desk
from tests.routing.planning.record import HOUR, MONDAY, items_handled, presences
from tests.routing.planning.test_runs import work

NINE = MONDAY + 9 * HOUR
PERIOD = {"from": to_iso(NINE), "to": to_iso(NINE + HOUR)}
Client = TestClient[Any, Any]


async def a_day(desk: Desk) -> None:
    anna = desk.ids["anna"]
    told = [(NINE + n * 30_000, 1_000, 240_000) for n in range(60)]
    await items_handled(desk.db, told, team_id=desk.teams["support"], agent_id=anna)
    await presences(desk.db, [(anna, NINE - HOUR, "online"), (anna, NINE + 3 * HOUR, "offline")])


async def got(client: Client, path: str, status: int = 200) -> Any:
    async with client.get(f"/api/v1{path}") as response:
        assert response.status == status, await response.text()
        return await response.json()


async def posted(client: Client, body: Any, status: int = 202) -> Any:
    async with client.post("/api/v1/planning/what-if", json=body) as response:
        assert response.status == status, await response.text()
        return await response.json()


async def test_a_question_gets_its_answer(desk: Desk, services: Services) -> None:
    await a_day(desk)
    sofia = await desk.client("sofia")
    change = {"agents": {"add": [{"teams": ["support"], "count": 2, "works": "always"}]}}
    asked = await posted(sofia, {**PERIOD, "change": change, "seeds": 2})
    assert (asked["state"], asked["asked_by"], asked["answer"]) == ("queued", desk.ids["sofia"], None)
    assert asked["question"]["from"] == PERIOD["from"]
    await work(services)
    done = await got(sofia, f"/planning/what-if/{asked['id']}")
    assert done["state"] == "done"
    (row,) = done["answer"]["teams"][0]["channels"]
    assert row["recorded"]["offered"] == 60
    assert row["changed"]["wait_p90_s"] < row["as_it_was"]["wait_p90_s"]
    assert all(n["text"] for n in done["answer"]["notes"])
    listed = await got(sofia, "/planning/what-if")
    assert [i["id"] for i in listed["items"]] == [asked["id"]]
    assert "answer" not in listed["items"][0]


async def test_planning_is_for_supervisors(desk: Desk) -> None:
    anna = await desk.client("anna")
    for path in ("/planning/forecast", "/planning/at-risk", "/planning/what-if", "/planning/what-if/1"):
        await got(anna, path, 403)
    await posted(anna, {**PERIOD, "change": {}}, 403)


async def test_the_forecast_and_the_risks_are_shown(desk: Desk) -> None:
    await a_day(desk)
    ada = await desk.client("ada")
    found = await got(
        ada, f"/planning/forecast?team_id={desk.teams['support']}&hours=2&shrinkage=0.25&target=90/30"
    )
    assert found["target"] == {"percent": 90.0, "within_s": 30.0, "variant": "abandons_ignored"}
    assert len(found["teams"]) == 1
    assert {"needed", "staff", "planned", "short"} <= found["teams"][0]["intervals"][0].keys()
    risks = await got(ada, "/planning/at-risk?hours=4")
    assert (risks["items"], [t["team"]["name"] for t in risks["teams"]]) == ([], ["sales", "support"])


async def test_what_cannot_be_asked_is_refused_with_its_place(desk: Desk) -> None:
    ada = await desk.client("ada")
    for body, code in (
        ({**PERIOD, "change": {"teams": {"nowhere": {}}}}, "bad_change"),
        ({**PERIOD, "change": {"teams": {"support": {"load_max": 0}}}}, "bad_change"),
        ({"from": PERIOD["to"], "to": PERIOD["from"], "change": {}}, "bad_period"),
        ({"from": to_iso(0), "to": PERIOD["to"], "change": {}}, "bad_period"),
        ({"from": "2099-01-01T00:00:00Z", "to": "2099-01-02T00:00:00Z", "change": {}}, "bad_period"),
        ({**PERIOD, "change": {}, "seeds": 51}, "invalid"),
        ({**PERIOD, "change": []}, "invalid"),
        ({"change": {}}, "invalid"),
    ):
        told = await posted(ada, body, 422)
        assert told["code"] == code, told
        assert told.get("errors") or told["detail"]
    await posted(ada, {**PERIOD, "change": {}, "team_id": 999}, 404)
    await got(ada, "/planning/what-if/999", 404)
    await got(ada, "/planning/forecast?team_id=999", 404)
    for wrong in (
        "hours=0",
        "hours=1000",
        "shrinkage=1",
        "shrinkage=nan",
        "target=100/20",
        "target=0/20",
        "x=1",
    ):
        await got(ada, f"/planning/forecast?{wrong}", 422)
