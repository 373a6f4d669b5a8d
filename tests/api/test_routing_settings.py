"""Rules of a team by the API: who may, what is refused, versions, preview, rollback; and the expected wait."""

from tests.api.conftest import Desk
from tests.api.test_resources import call


async def test_rules_are_shown_with_defaults_and_changed_by_admins(desk: Desk) -> None:
    path = f"/teams/{desk.teams['support']}/routing"
    await call(desk, "anna", "GET", path, 403)
    shown = await call(desk, "sofia", "GET", path)
    assert (shown["version"], shown["settings"], shown["rollout"]) == (1, {}, None)
    assert shown["effective"]["channels"]["chat"]["timeout_s"] == 25
    assert all(v["is_default"] for v in shown["values"])

    await call(desk, "sofia", "PUT", path, 403, json={"settings": {}})
    new = {
        "settings": {"channels": {"chat": {"timeout_s": 40}}},
        "expected_version": 1,
        "comment": "too hasty",
    }
    made = await call(desk, "ada", "PUT", path, json=new)
    assert (made["version"], made["rollout"]["phase"]) == (2, "items")
    conflict = await call(desk, "ada", "PUT", path, 409, json=new | {"settings": {"load_max": 7}})
    assert conflict["code"] == "version_conflict"
    wrong = await call(
        desk, "ada", "PUT", path, 422, json={"settings": {"channels": {"chat": {"timeout_s": 0}}}}
    )
    assert "channels.chat.timeout_s" in wrong["detail"]
    # What is shown as effective can be put back as it is.
    same = await call(desk, "ada", "PUT", path, json={"settings": made["effective"]})
    assert same["effective"] == made["effective"]


async def test_every_version_can_be_read_and_put_back(desk: Desk) -> None:
    path = f"/teams/{desk.teams['support']}/routing"
    for timeout in (40, 50, 60):
        await call(
            desk, "ada", "PUT", path, json={"settings": {"channels": {"chat": {"timeout_s": timeout}}}}
        )
    first = await call(desk, "sofia", "GET", f"{path}/versions?limit=2")
    assert [v["version"] for v in first["items"]] == [4, 3]
    rest = await call(desk, "sofia", "GET", f"{path}/versions?limit=2&cursor={first['next']}")
    assert [v["version"] for v in rest["items"]] == [2, 1]
    assert first["items"][0]["changes"][0]["text"] == "Chats, time to take an offer: 50 s → 1 min"
    one = await call(desk, "sofia", "GET", f"{path}/versions/2")
    assert one["actor"] == f"agent:{desk.ids['ada']}"
    await call(desk, "sofia", "GET", f"{path}/versions/99", 404)
    back = await call(desk, "ada", "POST", f"{path}/rollback/2", json={"comment": "as before"})
    assert (back["version"], back["settings"]) == (5, {"channels": {"chat": {"timeout_s": 40}}})
    await call(desk, "ada", "POST", f"{path}/rollback/99", 404, json={})
    await call(desk, "ada", "POST", f"{path}/rollback/2", 409, json={"expected_version": 1})


async def test_a_preview_for_supervisors(desk: Desk) -> None:
    path = f"/teams/{desk.teams['support']}/routing/preview"
    shown = await call(desk, "sofia", "POST", path, json={"settings": {"load_max": 50}})
    assert [c["path"] for c in shown["changes"]] == ["load_max"]
    await call(desk, "sofia", "POST", path, 422, json={"settings": {"load_max": 0}})
    await call(desk, "sofia", "POST", "/teams/99999/routing/preview", 404, json={"settings": {}})


async def test_the_other_ways_to_edit_a_team_are_versions_too(desk: Desk) -> None:
    made = await call(desk, "ada", "POST", "/teams", 201, json={"name": "New", "settings": {"load_max": 50}})
    path = f"/teams/{made['id']}"
    await call(desk, "ada", "PATCH", path, json={"settings": {"load_max": 60}})
    await call(desk, "ada", "PATCH", f"/agents/{desk.ids['anna']}", json={"teams": [made["id"]]})
    await call(desk, "ada", "PATCH", f"/agents/{desk.ids['anna']}", json={"languages": ["uk"]})
    await call(desk, "ada", "PATCH", path, 422, json={"settings": {"overflow": [made["id"]]}})
    kept = (await call(desk, "sofia", "GET", f"{path}/routing/versions"))["items"]
    assert [(v["version"], v["kind"]) for v in kept] == [
        (4, "people"), (3, "people"), (2, "settings"), (1, "settings"),
    ]  # fmt: skip
    assert kept[0]["changes"][0]["text"] == "Skill, lang:uk: none → 5"
    assert (await call(desk, "anna", "GET", path))["settings"] == {"load_max": 60, "version": 4}


async def test_the_expected_wait_of_a_team(desk: Desk) -> None:
    path = f"/teams/{desk.teams['support']}/expected-wait"
    shown = await call(desk, "anna", "GET", path)
    assert (shown["basis"], shown["channel"], shown["wait_s"]) == ("nobody", "chat", None)
    await call(desk, "anna", "PUT", "/me/presence", json={"presence": "online"})
    free = await call(desk, "anna", "GET", f"{path}?channel=chat&language=uk")
    assert (free["basis"], free["wait_s"], free["text"]) == ("free", 0, "Вам відповідять просто зараз.")
    await call(desk, "anna", "GET", f"{path}?channel=pigeon", 422)
    await call(desk, "anna", "GET", "/teams/99999/expected-wait", 404)
