"""Notices, pages, the on-call list and webhooks through the API: who sees and may do what."""

from typing import Any

from crm_core import notices
from routing.sla import pages
from tests.api.conftest import Desk

LINE = {
    "what": "step",
    "number": 1005,
    "subject": "Boat",
    "metric": "first_reply",
    "step": "100%",
    "late": False,
}


async def tell(desk: Desk, name: str, *sources: str) -> None:
    async with desk.db.transaction() as uow:
        await notices.tell(uow, "sla", [notices.Line(desk.ids[name], s, LINE, None) for s in sources])


async def test_my_notices_are_mine_in_my_language_and_can_be_read(desk: Desk) -> None:
    await tell(desk, "anna", *(f"s{n}" for n in range(12)))
    anna, boris = await desk.client("anna"), await desk.client("boris")
    found = await (await anna.get("/api/v1/me/notifications?unread=true")).json()
    [notice] = found["items"]
    assert (found["unread"], notice["count"], len(notice["lines"])) == (1, 12, 10)
    assert notice["lines"][0]["text"] == "#1005 Boat: the promise is broken (first reply)"
    assert (await (await boris.get("/api/v1/me/notifications")).json())["items"] == []
    assert (await boris.post(f"/api/v1/me/notifications/{notice['id']}/read")).status == 404
    await anna.put("/api/v1/me", json={"language": "uk"})
    read = await (await anna.post(f"/api/v1/me/notifications/{notice['id']}/read")).json()
    assert read["read_at"] and read["lines"][0]["text"].startswith("№1005 Boat: обіцянку порушено")
    assert (await (await anna.get("/api/v1/me/notifications")).json())["unread"] == 0
    await tell(desk, "anna", "s99")
    assert (await (await anna.post("/api/v1/me/notifications/read", json={})).json()) == {"read": 1}


async def test_who_is_on_call_and_acknowledges(desk: Desk) -> None:
    ada, anna, boris = [await desk.client(name) for name in ("ada", "anna", "boris")]
    team = desk.teams["support"]
    url = f"/api/v1/teams/{team}/on-call"
    assert (await (await anna.get(url)).json())["people"] == [desk.ids["sofia"]]
    assert (await anna.put(url, json={"agents": [1]})).status == 403
    for wrong in ({"agents": [4711]}, {}, {"agents": [desk.ids["anna"]], "webhook": "nowhere"}):
        assert (await ada.put(url, json=wrong)).status == 422
    written = {"agents": [desk.ids["anna"]], "every_minutes": 1, "times": 2}
    assert (await (await ada.put(url, json=written)).json())["people"] == [desk.ids["anna"]]
    payload: dict[str, Any] = {"team_id": team, "inquiry_id": 4711, "clock_id": 1, "sla_event_id": 1}
    async with desk.db.transaction() as uow:
        await pages.call(uow, payload)
    [page] = (await (await anna.get("/api/v1/pages?state=open")).json())["items"]
    assert (await (await boris.get("/api/v1/pages")).json())["items"] == []
    assert (await boris.post(f"/api/v1/pages/{page['id']}/acknowledge")).status == 403
    done = await (await anna.post(f"/api/v1/pages/{page['id']}/acknowledge")).json()
    assert (done["state"], done["acknowledged_by"], done["next_at"]) == (
        "acknowledged",
        desk.ids["anna"],
        None,
    )
    assert (await anna.post("/api/v1/pages/4711/acknowledge")).status == 404


async def test_webhooks_are_for_admins_and_show_their_secret_once(desk: Desk) -> None:
    ada, sofia = await desk.client("ada"), await desk.client("sofia")
    wanted = {
        "key": "crm",
        "name": "CRM",
        "url": "https://crm.example/hook",
        "events": ["sla.*", "page.raised"],
    }
    assert (await sofia.post("/api/v1/webhooks", json=wanted)).status == 403
    for wrong in ({"url": "ftp://x"}, {"events": ["sla"]}, {"key": "Б"}, {"url": "https://u:p@x.example"}):
        assert (await ada.post("/api/v1/webhooks", json=wanted | wrong)).status == 422
    answer = await ada.post("/api/v1/webhooks", json=wanted)
    made = await answer.json()
    assert answer.status == 201 and made["secret"].startswith("whsec_")
    assert (await ada.post("/api/v1/webhooks", json=wanted)).status == 409
    shown = await (await ada.get(f"/api/v1/webhooks/{made['id']}")).json()
    assert "secret" not in shown and shown["events"] == ["page.raised", "sla.*"]
    turned = await (await ada.post(f"/api/v1/webhooks/{made['id']}/rotate-secret")).json()
    assert turned["secret"] != made["secret"]
    tried = await (await ada.post(f"/api/v1/webhooks/{made['id']}/test")).json()
    assert (tried["kind"], tried["state"], tried["attempts"]) == ("webhook.test", "pending", 0)
    listed = await (await ada.get(f"/api/v1/webhooks/{made['id']}/deliveries?state=pending")).json()
    assert [d["id"] for d in listed["items"]] == [tried["id"]]
    one = await (await ada.get(f"/api/v1/webhook-deliveries/{tried['id']}")).json()
    assert '"kind":"webhook.test"' in one["body"]
    off = await ada.patch(f"/api/v1/webhooks/{made['id']}", json={"active": False, "version": 2})
    assert off.status == 200 and (await off.json())["active"] is False
    assert (await ada.patch(f"/api/v1/webhooks/{made['id']}", json={"name": "x", "version": 2})).status == 409
    assert (await ada.post(f"/api/v1/webhook-deliveries/{tried['id']}/replay")).status == 409
    assert (await ada.delete(f"/api/v1/webhooks/{made['id']}")).status == 204
    assert (await ada.get(f"/api/v1/webhooks/{made['id']}/deliveries")).status == 404
