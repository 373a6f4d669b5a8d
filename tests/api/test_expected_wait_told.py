"""The expected wait where customers meet it: the web chat, the PBX; and on the wallboard."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from crm_core.clock import MINUTE
from crm_core.db.engine import Database
from routing.schema import handle_time
from tests.api.conftest import Desk
from tests.api.test_chat import CHAT, Visitor
from tests.api.test_resources import call, live

__all__ = ["live"]


@pytest.fixture
async def busy(live: Desk) -> Desk:
    """Anna takes one chat of four minutes at a time, and has one."""
    await live.add_inbox("site", "webchat", team_id=live.teams["support"])
    async with live.db.transaction() as uow:
        await uow.execute(
            insert(handle_time).values(
                team_id=live.teams["support"],
                channel="chat",
                smoothed_ms=4 * MINUTE,
                samples=40,
                updated_at=uow.now,
            )
        )
    rules = {"settings": {"channels": {"chat": {"max": 1}}}}
    await call(live, "ada", "PUT", f"/teams/{live.teams['support']}/routing", json=rules)
    await call(live, "anna", "PUT", "/me/presence", json={"presence": "online"})
    return live


async def test_a_visitor_sees_his_place_in_the_queue(busy: Desk) -> None:
    served, waiting = Visitor(busy, await busy.client()), Visitor(busy, await busy.client())
    for someone in (served, waiting):
        await someone.open(locale="uk-UA")
    before = await (await waiting.client.get(f"{CHAT}/queue", headers=waiting.bearer)).json()
    assert before["state"] == "none"
    await served.say("Добрий день")
    await waiting.say("Добрий день")
    answer = await waiting.client.get(f"{CHAT}/queue", headers=waiting.bearer)
    shown = await answer.json()
    assert (shown["state"], shown["position"], shown["low_min"], shown["high_min"]) == ("waiting", 1, 3, 5)
    assert shown["text"].startswith("Орієнтовне очікування: 3–5 хв.")
    assert shown["offer_callback"]
    assert (await waiting.client.get(f"{CHAT}/queue")).status == 401

    wall = await call(busy, "sofia", "GET", "/wall")
    (support,) = [t for t in wall["teams"] if t["team"]["name"] == "support"]
    assert [(w["channel"], w["wait_s"], w["ahead"]) for w in support["expected_wait"]] == [("chat", 480, 1)]


async def test_a_visitor_of_a_closed_team_learns_when_it_opens(busy: Desk, db: Database) -> None:
    later = datetime.fromtimestamp(db.clock.now_ms() / 1000, UTC) + timedelta(days=2)
    hours = {"tz": "UTC", "week": {f"{later:%a}".lower(): [["10:00", "18:00"]]}}
    made = await call(busy, "ada", "POST", "/calendars", 201, json={"name": "Office", "spec": hours})
    await call(busy, "ada", "PATCH", f"/teams/{busy.teams['support']}", json={"calendar_id": made["id"]})
    visitor = Visitor(busy, await busy.client())
    await visitor.open(locale="en")
    await visitor.say("Anybody there?")
    shown = await (await visitor.client.get(f"{CHAT}/queue", headers=visitor.bearer)).json()
    assert shown == {
        "state": "closed", "position": None, "low_min": None, "high_min": None, "offer_callback": True,
        "opens_at": f"{later:%Y-%m-%d}T10:00:00.000Z", "text": "If you prefer, we will call you back.",
    }  # fmt: skip


async def test_a_pbx_is_told_what_to_say_to_who_waits(live: Desk, db: Database) -> None:
    """Whom nobody can take is told what is known; whom somebody can take is sent there."""
    await live.add_inbox(
        "pbx", "telephony", team_id=live.teams["support"], language="uk", config={"vendor": "generic"}
    )
    await call(live, "anna", "PUT", "/me/presence", json={"presence": "online"})
    client = await live.client()

    async def rings(call_id: str, number: str) -> Any:
        event = {"call_id": call_id, "state": "ringing", "ask": True, "from": number, "event_id": call_id}
        body = json.dumps(event).encode()
        mac = hmac.new(b"s3cret", body, hashlib.sha256).digest()
        signature = base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
        answer = await client.post(
            "/hooks/pbx", data=body, headers={"X-Signature": signature, "Content-Type": "application/json"}
        )
        assert answer.status == 200, await answer.text()
        return await answer.json()

    # Anna has no extension, so the PBX cannot ring her: nothing is promised, though she is free.
    nobody = await rings("c1", "+380501112233")
    assert nobody["route"] is None
    assert nobody["wait"] == {
        "text": "", "position": 1, "low_min": None, "high_min": None, "offer_callback": True,
    }  # fmt: skip
    await call(live, "ada", "PATCH", f"/agents/{live.ids['anna']}", json={"extension": "101"})
    assert (await rings("c2", "+380501112244"))["route"]["agent_ext"] == "101"
