"""The rest of the API on a live system: work offered and taken, promises to call, people, accounts, raw rows, log."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from sqlalchemy import func, select

from api.resources.calls import LegOut
from crm_core import calls, messages
from crm_core.db.engine import Database
from crm_core.envelope import CallEvent, Envelope, Kind, Sender
from crm_core.schema import agent_skill, event, inbound, inbox, job
from routing import listeners as routing_listeners
from tests.api.conftest import Desk
from tests.api.test_inquiries import write
from tests.safely_read import log_is_safe


@pytest.fixture
async def live(desk: Desk, db: Database) -> AsyncIterator[Desk]:
    """Routing listens, as the composition root has it."""
    db.listeners = {kind: list(functions) for kind, functions in routing_listeners.LISTENERS.items()}
    await desk.add_inbox(
        "help", "telegram", team_id=desk.teams["support"], config={"token": "1:x", "mode": "webhook"}
    )
    yield desk
    db.listeners = {}


async def call(desk: Desk, name: str, method: str, path: str, expect: int = 200, **more: Any) -> Any:
    client = await desk.client(name)
    answer = await client.request(method, f"/api/v1{path}", **more)
    assert answer.status == expect, (path, answer.status, await answer.text())
    return None if expect == 204 else await answer.json()


async def test_an_agent_goes_online_and_work_finds_him(live: Desk):
    me = await call(live, "anna", "GET", "/me")
    assert me["presence"]["presence"] == "offline" and me["permissions"]
    here = await call(live, "anna", "PUT", "/me/presence", json={"presence": "online"})
    assert here["presence"] == "online" and here["lease_until"]
    row = await write(live, "help", "ira", "My visa")
    offers = (await call(live, "anna", "GET", "/me/offers"))["items"]
    shown = await call(live, "anna", "GET", f"/inquiries/{row['id']}")
    if offers:
        await call(live, "boris", "POST", f"/offers/{offers[0]['id']}/accept", 403)
        taken = await call(live, "anna", "POST", f"/offers/{offers[0]['id']}/accept")
        assert taken["inquiry_id"] == row["id"]
        assert (await call(live, "anna", "POST", f"/offers/{offers[0]['id']}/accept"))["id"] == taken["id"]
        shown = await call(live, "anna", "GET", f"/inquiries/{row['id']}")
    assert shown["assignee"] == {"id": live.ids["anna"], "name": "Anna"}
    why = await call(live, "anna", "GET", f"/inquiries/{row['id']}/why")
    assert why["decisions"] and "Anna" in why["text"]
    wall = await call(live, "sofia", "GET", "/wall")
    assert {t["team"]["name"] for t in wall["teams"]} >= {"support", "sales"}
    await call(live, "anna", "GET", "/wall", 403)
    await call(live, "anna", "POST", "/me/heartbeat")
    for bad in ({"presence": "asleep"}, {}, {"presence": 1}):
        await call(live, "anna", "PUT", "/me/presence", 422, json=bad)
    await call(live, "anna", "POST", "/offers/999/accept", 404)


async def test_taking_transferring_and_giving_back(live: Desk):
    row = await write(live, "help", "ira", "My visa")
    path = f"/inquiries/{row['id']}"
    await call(live, "anna", "POST", f"{path}/take")
    assert (await call(live, "anna", "GET", path))["assignee"]["name"] == "Anna"
    await call(
        live,
        "anna",
        "POST",
        f"{path}/transfer",
        json={"team_id": live.teams["sales"], "note": "wants a tour"},
    )
    await call(live, "anna", "GET", path, 404)
    moved = await call(live, "boris", "GET", path)
    assert (moved["team"]["name"], moved["assignee"]) == ("sales", None)
    notes = (await call(live, "boris", "GET", f"{path}/messages"))["items"]
    assert notes[-1]["text"] == "wants a tour" and notes[-1]["direction"] == "internal"
    mine = await call(
        live, "boris", "PATCH", path, json={"assignee_id": live.ids["boris"], "priority": "high"}
    )
    assert (mine["assignee"]["name"], mine["priority"]) == ("Boris", "high")
    await call(live, "boris", "POST", f"{path}/release")
    assert (await call(live, "boris", "GET", path))["assignee"] is None
    await call(live, "boris", "POST", f"{path}/release", 403)
    await call(live, "sofia", "POST", f"{path}/transfer", 422, json={})
    await call(live, "sofia", "POST", f"{path}/transfer", 404, json={"agent_id": 10**6})


async def test_cards_their_story_and_merging(live: Desk):
    row = await write(live, "help", "ira", "My visa")
    other = await call(
        live, "anna", "POST", "/contacts", 201, json={"name": "Ira K", "phone": "050 123 45 67"}
    )
    assert other["identities"][0]["value"] == "+380501234567" and other["identities"][0]["verified"] is False
    again = await call(live, "anna", "POST", "/contacts", 201, json={"phone": "+380501234567"})
    assert again["id"] == other["id"]
    changed = await call(
        live, "anna", "PATCH", f"/contacts/{other['id']}", json={"vip": True, "manager_id": live.ids["anna"]}
    )
    assert changed["vip"] is True
    story = await call(live, "anna", "GET", f"/contacts/{row['contact_id']}/timeline?limit=1")
    kinds, cursor = [story["items"][0]["kind"]], story["next"]
    while cursor:
        page = await call(
            live, "anna", "GET", f"/contacts/{row['contact_id']}/timeline?limit=1&cursor={cursor}"
        )
        kinds += [i["kind"] for i in page["items"]]
        cursor = page["next"]
    assert kinds == ["message", "inquiry"]
    assert (await call(live, "boris", "GET", f"/contacts/{row['contact_id']}/timeline"))["items"] == []
    await call(
        live, "anna", "POST", f"/contacts/{other['id']}/merge", 403, json={"into_id": row["contact_id"]}
    )
    joined = await call(
        live, "sofia", "POST", f"/contacts/{other['id']}/merge", json={"into_id": row["contact_id"]}
    )
    assert {i["kind"] for i in joined["identities"]} == {"telegram", "phone"}
    gone = await call(live, "anna", "GET", f"/contacts/{other['id']}")
    assert gone["merged_into_id"] == row["contact_id"]
    found = await call(live, "anna", "GET", "/search?q=0501234567")
    assert found["contacts"] == [] or found["contacts"][0]["id"] == row["contact_id"]
    assert [c["id"] for c in (await call(live, "anna", "GET", "/contacts?q=380501234567"))["items"]] == [
        row["contact_id"]
    ]
    for bad in ({}, {"phone": "call me"}, {"email": "x"}, {"name": ""}):
        await call(live, "anna", "POST", "/contacts", 422, json=bad)


async def test_a_promise_to_call_from_booking_to_outcome(live: Desk):
    row = await write(live, "help", "ira", "Call me")
    wanted = {"inquiry_id": row["id"], "phone": "+380501234567"}
    booked = await call(live, "anna", "POST", "/callbacks", 201, json=wanted)
    path = f"/callbacks/{booked['id']}"
    assert (booked["state"], booked["contact"]["id"]) == ("scheduled", row["contact_id"])
    await call(live, "boris", "GET", path, 404)
    listed = await call(live, "anna", "GET", f"/callbacks?state=scheduled&contact_id={row['contact_id']}")
    assert [c["id"] for c in listed["items"]] == [booked["id"]]
    await call(live, "anna", "POST", f"{path}/dial")
    done = await call(live, "anna", "POST", f"{path}/outcome", json={"outcome": "answered", "note": "sold"})
    assert done["state"] == "done" and done["attempts"][0]["outcome"] == "answered"
    assert done["attempts"][0]["agent"]["name"] == "Anna"
    await call(live, "anna", "POST", f"{path}/cancel", 409, json={})
    await call(live, "anna", "POST", "/callbacks", 422, json={"inquiry_id": row["id"], "phone": "no"})
    await call(
        live,
        "anna",
        "POST",
        "/callbacks",
        422,
        json={"inquiry_id": row["id"], "phone": "+380501234567", "window_start": "tomorrow"},
    )


async def test_admins_manage_people_and_accounts_and_secrets_stay_inside(live: Desk):
    body = {
        "name": "Olena",
        "email": "Olena@Example.org",
        "password": "a long password",
        "languages": ["uk", "en"],
        "skills": [{"skill": "product:visa", "level": 4}],
        "teams": [live.teams["support"]],
    }
    await call(live, "sofia", "POST", "/agents", 403, json=body)
    made = await call(live, "ada", "POST", "/agents", 201, json=body)
    assert (made["email"], made["languages"], made["teams"]) == (
        "olena@example.org",
        ["en", "uk"],
        [live.teams["support"]],
    )
    await call(live, "ada", "POST", "/agents", 409, json=body)
    changed = await call(
        live, "ada", "PATCH", f"/agents/{made['id']}", json={"languages": ["en"], "active": False}
    )
    assert changed["languages"] == ["en"] and changed["active"] is False
    async with live.db.reading() as conn:
        skills = (
            (await conn.execute(select(agent_skill.c.skill).where(agent_skill.c.agent_id == made["id"])))
            .scalars()
            .all()
        )
    assert sorted(skills) == ["lang:en", "product:visa"]
    await call(live, "ada", "PATCH", f"/agents/{live.ids['ada']}", 409, json={"role": "agent"})
    await call(live, "ada", "POST", "/teams", 409, json={"name": "support"})
    await call(
        live, "ada", "POST", "/teams", 422, json={"name": "x", "settings": {"channels": {"pigeon": {}}}}
    )
    created = await call(
        live,
        "ada",
        "POST",
        "/inboxes",
        201,
        json={"channel": "telegram", "name": "Bot", "config": {"token": "12:secret", "mode": "webhook"}},
    )
    assert (
        created["secret"]
        and created["config"]["token"] == "•••"
        and created["hook_url"].endswith(created["key"])
    )
    await call(
        live,
        "ada",
        "PATCH",
        f"/inboxes/{created['id']}",
        json={"config": {"token": "•••", "mode": "polling"}},
    )
    for name in ("ada", "anna"):
        listed = str(await call(live, name, "GET", "/inboxes"))
        assert "12:secret" not in listed and created["secret"] not in listed
    async with live.db.reading() as conn:
        stored = (
            await conn.execute(select(func.count()).select_from(event).where(event.c.kind == "inbox.updated"))
        ).scalar()
    assert stored == 1
    for bad in (
        {"channel": "pigeon", "name": "x"},
        {"channel": "telegram", "name": "x"},
        {"channel": "telegram", "name": "x", "config": {"token": "1", "mode": "webhook", "typo": 1}},
        {"channel": "telegram", "name": "x", "config": {"token": "1", "mode": "pigeon"}},
        {"channel": "telephony", "name": "x", "config": {"vendor": "acme"}},
        {"channel": "telephony", "name": "x", "config": {"vendor": "twilio", "account_sid": "AC1"}},
        {"channel": "email", "name": "x", "config": {"address": "no address"}},
        {"channel": "email", "name": "x", "config": {"address": "a@b.example", "smtp_port": 99999}},
        {"channel": "email", "name": "x", "config": {"address": "a@b.example", "imap_tls": "maybe"}},
        {"channel": "form", "name": "x", "region": "ZZ"},
    ):
        problem = await call(live, "ada", "POST", "/inboxes", 422, json=bad)
        assert problem["errors"]


async def test_a_call_is_shown_with_its_legs_in_words_and_instants(live: Desk):
    box = await live.add_inbox("pbx", "telephony", config={"vendor": "generic"})
    async with live.db.transaction() as uow:
        account = await uow.find(inbox, box)
        for leg_id, state, at in (
            ("c1", "ringing", 1_000),
            ("a1", "answered", 3_500),
            ("a1", "ended", 9_000),
        ):
            event = CallEvent(
                call_id="c1", leg_id=leg_id, state=state, from_number="+380501112233", agent_ext="101",
                agent_leg=leg_id == "a1",
            )  # fmt: skip
            envelope = Envelope(
                kind=Kind.CALL, dedupe_key=f"{leg_id}{state}", conversation_key="c1", sender=Sender(),
                occurred_at=1_700_000_000_000 + at, call=event,
            )  # fmt: skip
            row = await calls.take(uow, account, envelope)
    shown = await call(live, "ada", "GET", f"/calls/{row['id']}")
    agent_leg, own_leg = shown["legs"]
    assert (own_leg["leg_id"], own_leg["agent"], own_leg["state"]) == ("c1", False, "ringing")
    assert own_leg["ringing_at"] == "2023-11-14T22:13:21.000Z"
    assert (agent_leg["leg_id"], agent_leg["agent"], agent_leg["state"]) == ("a1", True, "ended")
    assert agent_leg["answered_at"] == "2023-11-14T22:13:23.500Z"
    assert set(agent_leg) == set(own_leg) == set(LegOut.model_fields)


async def test_a_mail_address_has_one_inbox(live: Desk):
    """A second one would take the first one's mail."""
    mail = {"channel": "email", "name": "Support", "config": {"address": "Help@desk.example"}}
    first = await call(live, "ada", "POST", "/inboxes", 201, json=mail)
    other = {"address": "sales@desk.example", "aliases": "help@desk.example"}
    problem = await call(
        live, "ada", "POST", "/inboxes", 422, json={"channel": "email", "name": "Sales", "config": other}
    )
    assert problem["code"] == "address_taken" and "'Support'" in problem["detail"]
    alone = {"address": "sales@desk.example"}
    second = await call(
        live, "ada", "POST", "/inboxes", 201, json={"channel": "email", "name": "Sales", "config": alone}
    )
    await call(live, "ada", "PATCH", f"/inboxes/{second['id']}", 422, json={"config": other})
    await call(live, "ada", "PATCH", f"/inboxes/{first['id']}", json={"config": mail["config"], "name": "S"})
    await call(live, "ada", "PATCH", f"/inboxes/{first['id']}", json={"enabled": False})
    await call(live, "ada", "PATCH", f"/inboxes/{second['id']}", json={"config": other})
    await call(live, "ada", "PATCH", f"/inboxes/{first['id']}", 422, json={"enabled": True})


async def test_what_an_agent_can_and_may_have_is_set_and_shown(live: Desk):
    """Languages given as skills are kept; own limits and shifts are data like everything else."""
    calendar = await call(
        live,
        "ada",
        "POST",
        "/calendars",
        201,
        json={"name": "Days", "spec": {"tz": "Europe/Kyiv", "week": {"mon": [["09:00", "18:00"]]}}},
    )
    body = {
        "name": "Petro",
        "email": "petro@example.org",
        "skills": [{"skill": "lang:uk", "level": 3}, {"skill": "product:visa", "level": 4}],
        "teams": [live.teams["support"]],
        "capacity": {"chat": 2, "async": 0, "load_max": 80},
        "calendar_id": calendar["id"],
    }
    made = await call(live, "ada", "POST", "/agents", 201, json=body)
    assert made["skills"] == body["skills"] and made["languages"] == ["uk"]
    assert (made["capacity"], made["calendar_id"]) == (body["capacity"], calendar["id"])
    assert {s["channel"]: s["max"] for s in made["slots"]} == {
        "voice": 1,
        "chat": 2,
        "async": 0,
        "callback": 1,
    }
    path = f"/agents/{made['id']}"
    both = {"skills": [{"skill": "lang:uk", "level": 3}], "languages": ["en"]}
    changed = await call(live, "ada", "PATCH", path, json=both)
    assert changed["skills"] == [{"skill": "lang:en", "level": 5}, {"skill": "lang:uk", "level": 3}]
    changed = await call(live, "ada", "PATCH", path, json={"capacity": None, "calendar_id": None})
    assert (changed["capacity"], changed["calendar_id"]) == ({}, None)
    assert {s["channel"]: s["max"] for s in changed["slots"]}["chat"] == 4
    versions = await call(live, "ada", "GET", f"/teams/{live.teams['support']}/routing/versions")
    assert {c["path"] for c in versions["items"][0]["changes"]} >= {f"agents.{made['id']}.capacity.chat"}
    for bad in ({"capacity": {"chat": -1}}, {"capacity": {"fax": 1}}, {"capacity": {"chat": True}},
                {"capacity": {"load_max": 0}}, {"calendar_id": 999_999}):  # fmt: skip
        await call(live, "ada", "PATCH", path, 422, json=bad)


async def test_skills_that_a_request_asks_for(live: Desk):
    """They can be given at the opening and changed later, and routing follows."""
    team = live.teams["support"]
    wanted = {"product:visa": 3, "product:hotels": {"level": 2, "preferred": True}}
    body = {
        "kind": "ticket", "subject": "Visa", "contact": {"name": "Ira", "email": "ira@example.org"}, "team_id": team,
        "requirements": wanted, "priority": "high", "language": "uk",
    }  # fmt: skip
    made = await call(live, "anna", "POST", "/inquiries", 201, json=body)
    assert (made["requirements"], made["priority"], made["language"]) == (wanted, "high", "uk")
    await call(live, "anna", "PUT", "/me/presence", json={"presence": "online"})
    waiting = (await call(live, "anna", "GET", f"/inquiries/{made['id']}/why"))["waiting"]
    said = {a["agent"]["name"]: a for a in waiting["agents"]}
    assert said["Anna"]["lacks"] == {"skill": "product:visa", "level": None, "wanted": 3}
    for bad in (
        {"product:visa": 6},
        {"product:visa": 0},
        {"Visa!": 1},
        {"product:visa": {"levl": 1}},
        None,
        [],
    ):
        await call(live, "anna", "PATCH", f"/inquiries/{made['id']}", 422, json={"requirements": bad})
    changed = await call(live, "anna", "PATCH", f"/inquiries/{made['id']}", json={"requirements": {}})
    assert changed["requirements"] == {}
    shown = await call(live, "anna", "GET", f"/inquiries/{made['id']}")
    assert shown["assignee"] == {"id": live.ids["anna"], "name": "Anna"}, "nothing is asked for any more"


async def test_quarantined_rows_are_seen_replayed_and_discarded(live: Desk):
    stranger = await live.client()
    for number in range(2):
        assert (await stranger.post("/hooks/help", data=f"bad {number}".encode())).status == 401
    await call(live, "anna", "GET", "/inbound", 403)
    rows = (await call(live, "sofia", "GET", "/inbound?state=quarantined"))["items"]
    assert len(rows) == 2 and rows[0]["error"].startswith("not proven")
    first = await call(live, "sofia", "GET", f"/inbound/{rows[0]['id']}")
    assert (first["body"], first["body_encoding"]) == ("bad 1", "text")
    assert (await call(live, "sofia", "POST", f"/inbound/{rows[0]['id']}/discard"))["state"] == "discarded"
    await call(live, "sofia", "POST", f"/inbound/{rows[0]['id']}/discard", 409)
    assert (await call(live, "sofia", "POST", f"/inbound/{rows[1]['id']}/replay"))["state"] == "received"
    async with live.db.reading() as conn:
        assert (await conn.execute(select(func.count()).select_from(inbound))).scalar() == 2


async def test_the_log_shows_each_caller_his_part_and_dead_jobs_can_be_revived(live: Desk):
    await write(live, "help", "ira", "My visa")
    await log_is_safe(live.db)
    ours = await call(live, "anna", "GET", "/events?limit=200")
    theirs = await call(live, "boris", "GET", "/events?limit=200")
    assert "message.added" in {e["kind"] for e in ours["items"]}
    assert "message.added" not in {e["kind"] for e in theirs["items"]}
    assert (await call(live, "anna", "GET", f"/events?after={ours['next']}"))["items"] == []
    only = await call(live, "anna", "GET", "/events?kind=message.added")
    assert {e["kind"] for e in only["items"]} == {"message.added"}
    async with live.db.transaction() as uow:
        job_id = await uow.insert(
            job,
            {
                "name": "x",
                "args": {},
                "queue": "default",
                "lane": None,
                "order_key": 0,
                "state": "dead",
                "run_at": 1,
                "attempts": 12,
                "max_attempts": 12,
                "lease_until": None,
                "lease_token": None,
                "dedupe": None,
                "last_error": "boom",
                "created_at": 1,
            },
        )
    dead = (await call(live, "ada", "GET", "/jobs?state=dead"))["items"]
    assert [j["id"] for j in dead] == [job_id]
    assert (await call(live, "ada", "POST", f"/jobs/{job_id}/retry"))["state"] == "ready"
    await call(live, "ada", "POST", f"/jobs/{job_id}/retry", 409)
    await call(live, "sofia", "GET", "/jobs", 403)


async def test_promises_hours_and_dialogs_are_data_with_clear_errors(live: Desk):
    hours = {"tz": "Europe/Kyiv", "week": {"mon": [["09:00", "18:00"]]}}
    made = await call(live, "ada", "POST", "/calendars", 201, json={"name": "Office", "spec": hours})
    assert made["version"] == 1
    bad = await call(
        live, "ada", "POST", "/calendars", 422, json={"name": "Other", "spec": {"tz": "Mars/North"}}
    )
    assert bad["errors"]
    policy = {
        "key": "vip",
        "name": "VIP",
        "targets": {"normal": {"first_reply": {"minutes": 30, "business": False}}},
    }
    stored = await call(live, "ada", "POST", "/sla/policies", 201, json=policy)
    assert stored["version"] == 1 and stored["current"] is True
    await call(live, "ada", "POST", "/sla/policies", 409, json=policy)
    changed = await call(
        live, "ada", "PUT", "/sla/policies/vip", json={"name": "Very important", "version": 1}
    )
    assert (changed["version"], changed["name"]) == (2, "Very important")
    wrong = await call(
        live, "ada", "PUT", "/sla/policies/vip", 422, json={"targets": {"normal": {"nope": {}}}}
    )
    assert wrong["errors"]
    assert [p["version"] for p in (await call(live, "anna", "GET", "/sla/policies"))["items"]] == [2]
    assert (await call(live, "anna", "GET", "/sla/clocks"))["items"] == []
    flow = await call(
        live,
        "ada",
        "PUT",
        "/flows/hello",
        422,
        data=b"start: nowhere\n",
        headers={"Content-Type": "application/yaml"},
    )
    assert flow["code"] == "bad_flow" and flow["errors"]
    await call(live, "ada", "PUT", "/flows/hello", 415, data=b"x", headers={"Content-Type": "image/png"})
    await call(live, "ada", "PUT", "/flows/hello", 400, data=b"\xff", headers={"Content-Type": "text/yaml"})
    assert (await call(live, "anna", "GET", "/flows"))["items"] == []


async def test_files_are_for_those_who_may_read_the_message(live: Desk):
    row = await write(live, "help", "ira", "My visa")
    form = aiohttp.FormData()
    form.add_field("file", b"<script>alert(1)</script>", filename="a.html", content_type="text/html")
    stored = await call(live, "anna", "POST", "/uploads", 201, data=form)
    sent = await call(
        live,
        "anna",
        "POST",
        f"/inquiries/{row['id']}/messages",
        201,
        json={"text": "see", "client_id": "1", "attachments": [stored["id"]]},
    )
    url = sent["attachments"][0]["url"]
    anna, boris = await live.client("anna"), await live.client("boris")
    got = await anna.get(url + "?inline=true")
    assert got.status == 200 and await got.read() == b"<script>alert(1)</script>"
    assert got.content_type == "application/octet-stream" and got.headers["Content-Disposition"].startswith(
        "attachment"
    )
    assert (await boris.get(url)).status == 404
    for wrong in (b"", b"not multipart"):
        answer = await anna.post(
            "/api/v1/uploads", data=wrong, headers={"Content-Type": "multipart/form-data; boundary=x"}
        )
        assert answer.status in (400, 422)
    assert (await anna.post("/api/v1/uploads", json={})).status == 415


async def test_short_lists_come_whole_or_page_by_page_in_one_order(live: Desk):
    for path in ("/agents", "/teams", "/inboxes", "/sla/policies", "/calendars"):
        whole = await call(live, "ada", "GET", path)
        assert whole["next"] is None, path
        seen: list[int] = []
        cursor = ""
        for _ in range(len(whole["items"]) + 1):
            page = await call(live, "ada", "GET", f"{path}?limit=1{cursor}")
            seen += [each["id"] for each in page["items"]]
            assert len(page["items"]) <= 1
            if page["next"] is None:
                break
            cursor = f"&cursor={page['next']}"
        assert seen == [each["id"] for each in whole["items"]], path
        await call(live, "ada", "GET", f"{path}?limit=0", 422)
        await call(live, "ada", "GET", f"{path}?size=1", 422)
    assert len((await call(live, "ada", "GET", "/agents"))["items"]) > 1
    await call(live, "ada", "GET", "/agents?cursor=bm9uc2Vuc2U", 422)


async def test_words_of_a_customer_stay_unread_until_an_agent_has_seen_them(live: Desk):
    row = await write(live, "help", "ira", "My visa")
    path = f"/inquiries/{row['id']}"
    async with live.db.transaction() as uow:
        await messages.post_message(
            uow,
            conversation_id=row["conversation_id"],
            inquiry_row=row,
            author_kind="bot",
            author_name="Bot",
            text="Thank you!",
        )
    shown = await call(live, "anna", "GET", path)
    assert shown["unread"] is True and shown["last_message"]["text"] == "Thank you!"
    await call(live, "anna", "POST", f"{path}/read", json={"seq": 2})
    assert (await call(live, "anna", "GET", path))["unread"] is False
    await write(live, "help", "ira", "And my ticket", 2)
    assert (await call(live, "anna", "GET", path))["unread"] is True
    note = {"text": "she called before", "client_id": uuid.uuid4().hex, "internal": True}
    await call(live, "anna", "POST", f"{path}/messages", 201, json=note)
    shown = await call(live, "anna", "GET", path)
    assert shown["unread"] is False and shown["last_message"]["direction"] == "internal"


async def test_a_new_inquiry_is_open_once_it_is_answered(live: Desk):
    row = await write(live, "help", "ira", "My visa")
    path = f"/inquiries/{row['id']}"

    async def say(**more: Any) -> str:
        body = {"text": "Yes?", "client_id": uuid.uuid4().hex, **more}
        await call(live, "anna", "POST", f"{path}/messages", 201, json=body)
        return str((await call(live, "anna", "GET", path))["status"])

    assert await say(internal=True) == "new"
    assert await say() == "open"
    assert await say(status_after="pending") == "pending"
    assert await say() == "pending"
