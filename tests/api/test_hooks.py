"""Webhooks: stored once before the answer, refused in the provider's form, kept when refused, never a broken answer."""

import asyncio
import base64
import hashlib
import hmac
import io
import json
from typing import Any

import aiohttp
import pytest
from sqlalchemy import select

from api.hooks import FORMS_PER_MINUTE
from api.refused import KEPT_PER_HOUR
from crm_core.clock import HOUR
from crm_core.db.engine import Database
from crm_core.schema import event, inbound, inbox_state, job
from tests.api.conftest import Desk
from tests.conftest import MovableClock

SECRET_HEADER = "X-Telegram-Bot-Api-Secret-Token"


def update(number: int, text: str = "Добрий день") -> dict[str, Any]:
    return {
        "update_id": number,
        "message": {
            "message_id": number,
            "date": 1_700_000_000,
            "text": text,
            "chat": {"id": 77, "type": "private"},
            "from": {"id": 77, "is_bot": False, "first_name": "Ira"},
        },
    }


async def rows(db: Database, table: Any) -> list[Any]:
    async with db.reading() as conn:
        return list((await conn.execute(select(table).order_by(*table.primary_key.columns))).mappings())


@pytest.fixture
async def telegram(desk: Desk) -> str:
    await desk.add_inbox("tg-key", "telegram", config={"token": "1:x", "mode": "webhook"})
    return "/hooks/tg-key"


async def test_an_update_is_stored_raw_with_its_job_and_a_repetition_adds_nothing(desk: Desk, telegram: str):
    client = await desk.client()
    body = json.dumps(update(10), ensure_ascii=False).encode()
    for _ in range(3):
        answer = await client.post(
            telegram, data=body, headers={SECRET_HEADER: "s3cret", "Content-Type": "application/json"}
        )
        assert answer.status == 200
    stored = await rows(desk.db, inbound)
    assert [(r["state"], json.loads(r["body"])["update_id"]) for r in stored] == [("received", 10)]
    assert [j["args"] for j in await rows(desk.db, job)] == [{"inbound_id": stored[0]["id"]}]


@pytest.mark.parametrize(
    "header", [None, "", "wrong", "s3cretx", "сова".encode().decode("latin-1"), "\xff\xfe"]
)
async def test_an_unproven_request_is_401_counted_and_kept(desk: Desk, telegram: str, header: str | None):
    client = await desk.client()
    headers = {} if header is None else {SECRET_HEADER: header}
    answer = await client.post(telegram, json=update(11), headers=headers)
    assert answer.status == 401
    assert answer.content_type == "application/problem+json"
    problem = await answer.json()
    assert problem["code"] == "bad_signature" and "s3cret" not in str(problem)
    kept = await rows(desk.db, inbound)
    assert [r["state"] for r in kept] == ["quarantined"]
    assert "not proven" in kept[0]["error"]
    assert (await rows(desk.db, inbox_state))[0]["signature_failures"] == 1
    assert await rows(desk.db, job) == []


async def test_repeated_failures_raise_one_alarm_and_every_one_is_counted(
    desk: Desk, telegram: str, clock: MovableClock
):
    clock.set(1_800_000_000_000)
    client = await desk.client()
    for number in range(9):
        assert (await client.post(telegram, json=update(number))).status == 401
    alarms = [e for e in await rows(desk.db, event) if e["kind"] == "alarm.raised"]
    assert [a["payload"]["alarm"] for a in alarms] == ["signature_failures"]
    assert (await rows(desk.db, inbox_state))[0]["signature_failures"] == 9


async def test_a_flood_of_refused_requests_does_not_fill_the_table(
    desk: Desk, telegram: str, clock: MovableClock
):
    client = await desk.client()
    clock.set(1_800_000_000_000)
    for number in range(KEPT_PER_HOUR + 5):
        assert (await client.post(telegram, json=update(number))).status == 401
    assert len(await rows(desk.db, inbound)) == KEPT_PER_HOUR
    clock.advance(HOUR)
    assert (await client.post(telegram, json=update(9999))).status == 401
    assert len(await rows(desk.db, inbound)) == KEPT_PER_HOUR + 1


@pytest.mark.parametrize(
    "body", [b"", b"not json", b"[]", b'{"update_id": "x"}', b"\xff\xfe\x00", b'{"a":' * 5000]
)
async def test_proven_nonsense_is_kept_and_answered_cleanly(desk: Desk, telegram: str, body: bytes):
    client = await desk.client()
    answer = await client.post(
        telegram, data=body, headers={SECRET_HEADER: "s3cret", "Content-Type": "application/json"}
    )
    assert answer.status == 400
    assert answer.content_type == "application/problem+json"
    assert [r["state"] for r in await rows(desk.db, inbound)] == ["quarantined"]


@pytest.mark.parametrize("chunked", [False, True])
async def test_an_oversized_request_is_413_and_its_head_is_kept(desk: Desk, telegram: str, chunked: bool):
    client = await desk.client()
    big = b"x" * (4 * 1024 * 1024 + 1)

    async def pieces():
        for start in range(0, len(big), 65536):
            yield big[start : start + 65536]

    answer = await client.post(
        telegram, data=pieces() if chunked else io.BytesIO(big), headers={SECRET_HEADER: "s3cret"}
    )
    assert answer.status == 413
    assert (await answer.json())["code"] == "too_large"
    kept = await rows(desk.db, inbound)
    assert [r["state"] for r in kept] == ["quarantined"]
    assert 0 < len(kept[0]["body"]) <= 65536
    # Who replays it would take the head for the whole; the size says that it is not.
    assert kept[0]["size"] > len(kept[0]["body"])


async def test_a_body_in_a_broken_encoding_is_refused_and_visible(desk: Desk, telegram: str):
    client = await desk.client()
    headers = {SECRET_HEADER: "s3cret", "Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = await client.post(telegram, data=b"this is not gzip", headers=headers)
    assert answer.status == 400
    assert (await answer.json())["code"] == "bad_request"
    assert [r["state"] for r in await rows(desk.db, inbound)] == ["quarantined"]


async def test_a_body_that_never_ends_is_given_up_and_its_beginning_kept(
    desk: Desk, telegram: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("api.layer.bodies.READ_S", 0.05)
    client = await desk.client()
    answered = asyncio.Event()

    async def stalled():
        yield b'{"update_id": 1, '
        await answered.wait()

    answer = await client.post(telegram, data=stalled(), headers={SECRET_HEADER: "s3cret"})
    answered.set()
    assert answer.status == 408
    assert (await answer.json())["code"] == "body_timeout"
    kept = await rows(desk.db, inbound)
    assert [(r["state"], r["body"]) for r in kept] == [("quarantined", b'{"update_id": 1, ')]
    assert kept[0]["size"] > len(kept[0]["body"])


async def test_unknown_disabled_and_hookless_inboxes_are_not_found(desk: Desk):
    client = await desk.client()
    await desk.add_inbox("off", "telegram", enabled=False)
    await desk.add_inbox("chat", "webchat")
    for key in ("nope", "off", "chat", "x" * 300, "%00", "%D1%81"):
        answer = await client.post(f"/hooks/{key}", data=b"{}")
        assert answer.status == 404, key
        assert answer.content_type == "application/problem+json"
    assert (await client.put("/hooks/nope", data=b"{}")).status == 405


async def test_a_signed_call_event_of_the_generic_pbx(desk: Desk):
    await desk.add_inbox("pbx", "telephony", config={"vendor": "generic"})
    client = await desk.client()
    body = json.dumps(
        {
            "call_id": "c1",
            "event": "ringing",
            "from": "+380501234567",
            "to": "+380441112233",
            "state": "ringing",
            "direction": "inbound",
            "leg_id": "c1",
        }
    ).encode()
    signature = (
        base64.urlsafe_b64encode(hmac.new(b"s3cret", body, hashlib.sha256).digest()).decode().rstrip("=")
    )
    headers = {"Content-Type": "application/json", "X-Signature": signature, "X-Event-Id": "e1"}
    for _ in range(2):
        assert (await client.post("/hooks/pbx", data=body, headers=headers)).status == 200
    assert len(await rows(desk.db, inbound)) == 1
    forged = await client.post("/hooks/pbx", data=body + b" ", headers=headers)
    assert forged.status == 401


async def test_a_form_from_another_site_is_taken_and_its_errors_are_readable_there(desk: Desk):
    await desk.add_inbox("form-key", "form", default_kind="lead")
    client = await desk.client()
    site = {"Origin": "https://agency.example"}
    asked = await client.options(
        "/hooks/form-key/form", headers={**site, "Access-Control-Request-Method": "POST"}
    )
    assert asked.status == 204 and asked.headers["Access-Control-Allow-Origin"] == site["Origin"]
    good = await client.post(
        "/hooks/form-key/form", json={"name": "Ira", "phone": "+380501234567"}, headers=site
    )
    assert good.status == 200 and (await good.json())["ok"] is True
    assert good.headers["Access-Control-Allow-Origin"] == site["Origin"]
    page = await client.post("/hooks/form-key/form", data={"email": "ira@example.org", "message": "Hi"})
    assert page.status == 200 and page.content_type == "text/html"
    empty = await client.post("/hooks/form-key/form", json={"name": "Ira"}, headers=site)
    assert empty.status == 422 and (await empty.json())["ok"] is False
    assert empty.headers["Access-Control-Allow-Origin"] == site["Origin"]
    assert sorted(r["state"] for r in await rows(desk.db, inbound)) == ["quarantined", "received", "received"]


def sign(body: bytes) -> str:
    return base64.urlsafe_b64encode(hmac.new(b"s3cret", body, hashlib.sha256).digest()).decode().rstrip("=")


async def test_forms_are_limited_per_network(desk: Desk, clock: MovableClock):
    clock.set(1_800_000_000_000)
    await desk.add_inbox("form-key", "form")
    client = await desk.client()

    async def post(number: int) -> aiohttp.ClientResponse:
        return await client.post("/hooks/form-key/form", json={"message": f"n{number}"})

    statuses = [(await post(number)).status for number in range(FORMS_PER_MINUTE)]
    assert statuses == [200] * FORMS_PER_MINUTE
    refused = await post(-1)
    assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
    assert await refused.json() == {"ok": False, "error": "too many submissions, wait a little"}


async def test_a_server_that_signs_its_posts_is_not_slowed_down(desk: Desk, clock: MovableClock):
    clock.set(1_800_000_000_000)
    await desk.add_inbox("form-key", "form", config={"require_signature": True})
    client = await desk.client()
    for number in range(FORMS_PER_MINUTE + 1):
        body = json.dumps({"message": f"n{number}"}).encode()
        headers = {"X-Signature": sign(body), "Content-Type": "application/json"}
        answer = await client.post("/hooks/form-key/form", data=body, headers=headers)
        assert answer.status == 200
    bad = b"{}"
    headers = {"X-Signature": sign(bad), "Content-Type": "application/json"}
    assert (await client.post("/hooks/form-key/form", data=bad, headers=headers)).status == 422


async def test_without_the_database_the_provider_is_told_to_come_again(
    desk: Desk, telegram: str, monkeypatch: Any
):
    client = await desk.client()
    headers = {SECRET_HEADER: "s3cret"}
    assert (await client.post(telegram, json=update(1), headers=headers)).status == 200

    def refuse(*_: Any, **__: Any) -> Any:
        raise ConnectionRefusedError(111, "nobody listens")

    # The pool cannot be emptied from outside, so the port itself fails.
    monkeypatch.setattr(desk.db, "transaction", refuse)
    answer = await client.post(telegram, json=update(2), headers=headers)
    assert answer.status == 503 and "Retry-After" in answer.headers
