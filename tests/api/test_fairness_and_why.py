"""The fairness report and the reasons of work that is no inquiry, by the API."""

from sqlalchemy import select

from routing.schema import decision, work_item
from tests.api.conftest import Desk
from tests.api.test_inquiries import write
from tests.api.test_resources import call, live

__all__ = ["live"]


async def test_fairness_as_json_and_as_a_spreadsheet(desk: Desk) -> None:
    await call(desk, "anna", "GET", "/reports/fairness", 403)
    shown = await call(desk, "sofia", "GET", "/reports/fairness")
    assert shown["target"] == 0.95
    assert {g["team"]["name"] for g in shown["groups"]} == {"support", "sales"}
    one = await call(desk, "sofia", "GET", f"/reports/fairness?team_id={desk.teams['support']}")
    assert [r["agent"]["name"] for r in one["groups"][0]["rows"]] == ["Anna"]
    for bad in (
        "from=2026-01-01",
        "from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z",
        "team_id=0",
        "who=me",
    ):
        await call(desk, "sofia", "GET", f"/reports/fairness?{bad}", 422)
    client = await desk.client("sofia")
    answer = await client.get("/api/v1/reports/fairness.csv")
    text = await answer.text()
    assert answer.status == 200
    assert answer.content_type == "text/csv"
    assert text.splitlines()[0].startswith("team_id,team,shift,jain")
    assert "Anna" in text


async def test_a_report_about_nobody_is_a_wrong_question(desk: Desk) -> None:
    client = await desk.client("sofia")
    promised = "from=2026-11-23T00:00:00Z&to=2026-11-24T00:00:00Z&"
    of_teams = ["planning/forecast?", "planning/at-risk?", "callbacks/slots?"]
    of_teams += [f"reports/fairness{x}?" for x in ("", ".csv")]
    of_teams += [f"callbacks/report{x}?{promised}" for x in ("", ".csv")]
    names = ("sla", "service", "handling", "resolution", "backlog")
    of_both = [f"reports/{name}{x}?" for name in names for x in ("", ".csv")]
    asked = [(path, "team_id") for path in (*of_teams, *of_both)] + [(path, "agent_id") for path in of_both]
    for path, name in asked:
        answer = await client.get(f"/api/v1/{path}{name}=99999")
        problem = await answer.json()
        assert (answer.status, problem["code"], problem["params"]) == (404, "not_found", {name: 99999}), path
    for path in (*of_teams, *of_both):
        known = await client.get(f"/api/v1/{path}team_id={desk.teams['support']}")
        assert known.status == 200, (path, await known.text())


async def test_reasons_of_items_and_decisions_made_again(live: Desk) -> None:
    row = await write(live, "help", "ira", "My visa")
    async with live.db.reading() as conn:
        item_id = await conn.scalar(select(work_item.c.id).where(work_item.c.inquiry_id == row["id"]))
        decision_id = await conn.scalar(select(decision.c.id).where(decision.c.item_id == item_id))
    why = await call(live, "anna", "GET", f"/work-items/{item_id}/why")
    same = await call(live, "anna", "GET", f"/inquiries/{row['id']}/why")
    assert why["waiting"]["agents"] == same["waiting"]["agents"]
    assert why["waiting"]["ahead"]["position"] == 1
    for wish, word in (("uk-UA,en;q=0.5", "чекає"), ("xx, ru", "ждёт"), ("xx", "waits")):
        told = await call(
            live, "anna", "GET", f"/work-items/{item_id}/why", headers={"Accept-Language": wish}
        )
        assert word in told["text"].lower(), told["text"]
    await call(live, "boris", "GET", f"/work-items/{item_id}/why", 404)
    await call(live, "anna", "GET", "/work-items/99999/why", 404)
    await call(live, "anna", "GET", "/callbacks/99999/why", 404)
    await call(live, "anna", "GET", "/calls/99999/why", 404)
    await call(live, "anna", "GET", f"/decisions/{decision_id}/replay", 403)
    again = await call(live, "sofia", "GET", f"/decisions/{decision_id}/replay")
    assert (again["replayable"], again["same"]) == (True, True)
    await call(live, "sofia", "GET", "/decisions/99999/replay", 404)
