"""The widget's protocol: once and in order over every transport, nothing internal, only the visitor's own thread."""

import asyncio
import json
import uuid
from typing import Any

import aiohttp
import jwt
import pytest
from sqlalchemy import select

from api.chat.sessions import SESSION_MS
from crm_core import inquiries
from crm_core.events import SUPERVISORS, DomainEvent
from crm_core.messages import set_state
from crm_core.schema import contact, conversation, identity, inbound, inquiry, message, upload
from tests.api.conftest import Desk

CHAT = "/chat/v1"


class Visitor:
    """A browser with the widget."""

    def __init__(self, desk: Desk, client: Any) -> None:
        self.desk = desk
        self.client = client
        self.opened: dict[str, Any] = {}

    async def open(self, expect: int = 200, **body: Any) -> dict[str, Any]:
        answer = await self.client.post(f"{CHAT}/session", json={"inbox_key": "site", **body})
        assert answer.status == expect, await answer.text()
        data = await answer.json()
        if expect == 200:
            self.opened = data
        return data

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.opened['session']}"}

    async def say(self, text: str, client_id: str | None = None, **more: Any) -> Any:
        body = {"client_id": client_id or uuid.uuid4().hex, "text": text, **more}
        return await self.client.post(f"{CHAT}/messages", json=body, headers=self.bearer)

    async def thread(self, after: int = 0) -> list[dict[str, Any]]:
        answer = await self.client.get(f"{CHAT}/messages?after={after}", headers=self.bearer)
        assert answer.status == 200
        return list((await answer.json())["items"])

    async def connect(self, after: int = 0) -> Any:
        ws = await self.client.ws_connect(f"{CHAT}/stream")
        await ws.send_json({"type": "auth", "session": self.opened["session"], "after": after})
        ready = await asyncio.wait_for(ws.receive_json(), 20)
        assert ready["type"] == "ready"
        return ws


async def until(ws: Any, kind: str) -> dict[str, Any]:
    while True:
        frame = await asyncio.wait_for(ws.receive_json(), 20)
        if frame["type"] == kind:
            return dict(frame)


@pytest.fixture
async def site(desk: Desk) -> Desk:
    await desk.add_inbox("site", "webchat", team_id=desk.teams["support"], default_kind="ticket")
    return desk


@pytest.fixture
async def visitor(site: Desk) -> Visitor:
    someone = Visitor(site, await site.client())
    await someone.open(
        locale="uk-UA",
        page="https://agency.example/tours",
        utm={"utm_source": "ads"},
        fields={"name": "Ira", "phone": "050 123-45-67"},
    )
    return someone


async def the_inquiry(desk: Desk) -> dict[str, Any]:
    async with desk.db.reading() as conn:
        return dict((await conn.execute(select(inquiry))).mappings().one())


async def reply(desk: Desk, text: str, *, internal: bool = False, name: str = "anna") -> dict[str, Any]:
    client = await desk.client(name)
    row = await the_inquiry(desk)
    answer = await client.post(
        f"/api/v1/inquiries/{row['id']}/messages",
        json={"text": text, "client_id": uuid.uuid4().hex, "internal": internal},
    )
    assert answer.status == 201, await answer.text()
    return dict(await answer.json())


async def test_a_message_becomes_one_ticket_with_what_the_visitor_told(site: Desk, visitor: Visitor):
    assert visitor.opened["conversation_id"] is None and visitor.opened["cursor"] == 0
    answers = await asyncio.gather(*(visitor.say("Добрий день", "c-1") for _ in range(5)))
    assert [a.status for a in answers] == [200] * 5
    bodies = [await a.json() for a in answers]
    assert {b["seq"] for b in bodies} == {1} and sum(not b["duplicate"] for b in bodies) == 1
    row = await the_inquiry(site)
    assert (row["kind"], row["channel"], row["team_id"]) == ("ticket", "webchat", site.teams["support"])
    assert row["fields"]["utm_source"] == "ads" and row["fields"]["page"] == "https://agency.example/tours"
    async with site.db.reading() as conn:
        people = (await conn.execute(select(contact.c.name))).scalars().all()
        known = {(r.kind, r.value, r.verified_at is not None) for r in await conn.execute(select(identity))}
        raw = (await conn.execute(select(inbound.c.state))).scalars().all()
    assert people == ["Ira"] and raw == ["done"]
    assert ("phone", "+380501234567", False) in known
    again = await visitor.open(visitor_token=visitor.opened["visitor_token"])
    assert again["cursor"] == 1 and again["conversation_id"] is not None
    assert [m["text"] for m in await visitor.thread()] == ["Добрий день"]


async def test_both_sides_see_each_other_live_and_the_states_move(site: Desk, visitor: Visitor):
    ws = await visitor.connect()
    await ws.send_json({"type": "message", "client_id": "m1", "text": "Hello"})
    first = [await asyncio.wait_for(ws.receive_json(), 20) for _ in range(2)]
    ack = next(f for f in first if f["type"] == "ack")
    echo = next(f for f in first if f["type"] == "message")
    assert (ack["client_id"], ack["seq"], ack["duplicate"]) == ("m1", 1, False)
    assert (echo["client_id"], echo["direction"], echo["author"]["kind"]) == ("m1", "in", "customer")
    sent = await reply(site, "Good morning, I am Anna")
    shown = await until(ws, "message")
    assert (shown["text"], shown["author"]) == ("Good morning, I am Anna", {"kind": "agent", "name": "Anna"})
    await ws.send_json({"type": "read", "seq": shown["seq"]})
    async with site.db.transaction() as uow:
        await set_state(uow, sent["id"], "sent")
    states = []
    while "read" not in states:
        states.append((await until(ws, "status"))["state"])
    assert states[-1] == "read"
    await ws.send_json({"type": "ping"})
    assert (await until(ws, "pong"))["type"] == "pong"


async def test_nothing_internal_ever_reaches_the_visitor(site: Desk, visitor: Visitor):
    secret = "she never pays"
    await visitor.say("Hello")
    ws = await visitor.connect()
    sse = await visitor.client.get(f"{CHAT}/events", headers=visitor.bearer)
    note = await reply(site, f"Careful: {secret}", internal=True)
    row = await the_inquiry(site)
    async with site.db.transaction() as uow:
        await inquiries.change(
            uow, row["id"], {"priority": "urgent", "tags": [secret], "subject": secret}, actor="agent:1"
        )
        for kind in (
            "sla.breached",
            "message.edited",
            "message.state_changed",
            "inquiry.updated",
            "offer.made",
        ):
            await uow.emit(
                DomainEvent(
                    kind=kind,
                    subject_kind="inquiry",
                    subject_id=row["id"],
                    inquiry_id=row["id"],
                    conversation_id=row["conversation_id"],
                    audience=SUPERVISORS,
                    payload={"message": note, "seq": note["seq"], "state": secret, "detail": secret},
                )
            )
    await reply(site, "Good morning")
    frames = []
    while not frames or frames[-1].get("text") != "Good morning":
        frames.append(await asyncio.wait_for(ws.receive_json(), 20))
    stream = b""
    while b"Good morning" not in stream:
        stream += await asyncio.wait_for(sse.content.readany(), 20)
    polled = await (await visitor.client.get(f"{CHAT}/poll?after=0&wait=0", headers=visitor.bearer)).json()
    everything = json.dumps([frames, polled, await visitor.thread()]) + stream.decode()
    assert secret not in everything and "urgent" not in everything and "sla" not in everything
    assert f'"seq": {note["seq"]}' not in json.dumps([f for f in frames if f["type"] != "ready"])
    assert [m["direction"] for m in await visitor.thread()] == ["in", "out"]
    sse.close()


async def test_a_number_we_never_gave_is_answered_with_reset_by_every_way(visitor: Visitor):
    """Else a client whose memory is ahead of ours, such as after a restored backup, would hear nothing more."""
    await visitor.say("Hello")
    last = (await visitor.thread())[-1]["seq"]
    for path in ("poll?wait=0&", "messages?"):
        page = await (await visitor.client.get(f"{CHAT}/{path}after=9999", headers=visitor.bearer)).json()
        assert page == {"items": [], "cursor": last, "reset": True}
        page = await (await visitor.client.get(f"{CHAT}/{path}after=0", headers=visitor.bearer)).json()
        assert page["items"] and not page["reset"]
    ws = await visitor.connect(9999)
    assert (await until(ws, "reset"))["cursor"] == last
    await ws.close()
    answer = await visitor.client.get(f"{CHAT}/events", headers={**visitor.bearer, "Last-Event-ID": "9999"})
    told = [json.loads((await answer.content.readuntil(b"\n\n")).split(b"data: ")[1]) for _ in range(2)]
    answer.close()
    assert [(each["type"], each["cursor"]) for each in told] == [("ready", last), ("reset", last)]


@pytest.mark.parametrize("transport", ["socket", "poll", "sse"])
async def test_after_every_disconnect_nothing_is_lost_or_doubled(
    site: Desk, visitor: Visitor, transport: str
):
    await visitor.say("Hello")
    total = 30

    async def write() -> None:
        client = await site.client("anna")
        row = await the_inquiry(site)
        for number in range(total):
            await client.post(
                f"/api/v1/inquiries/{row['id']}/messages",
                json={"text": f"{number}", "client_id": f"n{number}", "internal": number % 5 == 4},
            )

    expected = [str(n) for n in range(total) if n % 5 != 4]
    writing = asyncio.create_task(write())
    seen: list[str] = []
    after = 1
    while len(seen) < len(expected):
        if transport == "poll":
            page = await (
                await visitor.client.get(f"{CHAT}/poll?after={after}&wait=5", headers=visitor.bearer)
            ).json()
            seen += [m["text"] for m in page["items"]]
            after = page["cursor"]
        elif transport == "socket":
            ws = await visitor.connect(after)
            for _ in range(4):
                if len(seen) < len(expected):
                    frame = await until(ws, "message")
                    seen.append(frame["text"])
                    after = frame["seq"]
            await ws.close()
        else:
            answer = await visitor.client.get(
                f"{CHAT}/events", headers={**visitor.bearer, "Last-Event-ID": str(after)}
            )
            taken = 0
            while taken < 3 and len(seen) < len(expected):
                line = (await asyncio.wait_for(answer.content.readline(), 20)).decode()
                if line.startswith("data: ") and json.loads(line[6:])["type"] == "message":
                    seen.append(json.loads(line[6:])["text"])
                    after = json.loads(line[6:])["seq"]
                    taken += 1
            answer.close()
    await writing
    assert seen == expected


async def test_visitors_cannot_reach_each_other(site: Desk, visitor: Visitor):
    await visitor.say("My secret", "same-id")
    other = Visitor(site, await site.client())
    await other.open()
    assert await other.thread() == []
    said = await (await other.say("Hi", "same-id")).json()
    assert said["duplicate"] is False and said["message"]["text"] == "Hi"
    assert [m["text"] for m in await other.thread()] == ["Hi"]
    forged = visitor.opened["visitor_id"] + "." + other.opened["visitor_token"].partition(".")[2]
    for token in (
        forged,
        visitor.opened["visitor_id"],
        visitor.opened["visitor_id"] + ".",
        "сова.x",
        "x" * 4000,
    ):
        third = Visitor(site, await site.client())
        await third.open(visitor_token=token)
        assert third.opened["visitor_id"] != visitor.opened["visitor_id"]
    taken = await other.say("file", attachments=["nope"])
    assert taken.status == 422


def identity_jwt(site_key: str = "s3cret", *, now: int, **claims: Any) -> str:
    return jwt.encode(
        {"sub": "user-1", "aud": "site", "exp": now // 1000 + 600, **claims},
        site_key.ljust(32, "_"),
        algorithm="HS256",
    )


async def test_a_signed_user_keeps_one_thread_and_a_logged_out_one_does_not_see_it(desk: Desk, clock: Any):
    await desk.add_inbox("site", "webchat", config={"jwt_secret": "s3cret".ljust(32, "_")})
    phone, laptop = Visitor(desk, await desk.client()), Visitor(desk, await desk.client())
    now = clock.now_ms()
    await phone.open()
    await phone.say("Before login")
    anonymous = phone.opened["visitor_token"]
    await phone.open(visitor_token=anonymous, identity_jwt=identity_jwt(now=now))
    assert phone.opened["cursor"] == 1
    await phone.say("After login")
    await laptop.open(identity_jwt=identity_jwt(now=now))
    assert [m["text"] for m in await laptop.thread()] == ["Before login", "After login"]
    await phone.open(visitor_token=anonymous)
    assert await phone.thread() == []
    await phone.open(
        visitor_token=laptop.opened["visitor_token"], identity_jwt=identity_jwt(now=now, sub="user-2")
    )
    assert await phone.thread() == []


@pytest.mark.parametrize("token", ["junk", "a.b.c", "key", "exp", "old", "aud", "sub", "none", "long"])
async def test_a_wrong_identity_is_refused(desk: Desk, clock: Any, token: str):
    await desk.add_inbox("site", "webchat", config={"jwt_secret": "s3cret".ljust(32, "_")})
    now = clock.now_ms()
    made = {
        "key": identity_jwt("other", now=now),
        "exp": identity_jwt(now=now, exp=now // 1000 - 600),
        "old": identity_jwt(now=now, exp=now // 1000 + 7200),
        "aud": identity_jwt(now=now, aud="other"),
        "just": identity_jwt(now=now, exp=now // 1000 - 1),
        "iat": identity_jwt(now=now, iat=now // 1000 + 600),
        "sub": identity_jwt(now=now, sub=""),
        "none": jwt.encode({"sub": "x", "aud": "site", "exp": now // 1000 + 60}, None, algorithm="none"),
        "long": "x" * 4000,
    }.get(token, token)
    someone = Visitor(desk, await desk.client())
    problem = await someone.open(401, identity_jwt=made)
    assert problem["code"] == "bad_identity"


async def test_only_allowed_sites_may_use_an_inbox_and_errors_are_readable_there(desk: Desk):
    await desk.add_inbox("site", "webchat", config={"origins": ["https://agency.example"]})
    client = await desk.client()
    good, evil = {"Origin": "https://agency.example"}, {"Origin": "https://evil.example"}
    preflight = await client.options(
        f"{CHAT}/session", headers={**good, "Access-Control-Request-Method": "POST"}
    )
    assert preflight.status == 204 and preflight.headers["Access-Control-Allow-Origin"] == good["Origin"]
    assert "Access-Control-Allow-Credentials" not in preflight.headers
    opened = await client.post(f"{CHAT}/session", json={"inbox_key": "site"}, headers=good)
    assert opened.status == 200 and opened.headers["Access-Control-Allow-Origin"] == good["Origin"]
    refused = await client.post(f"{CHAT}/session", json={"inbox_key": "site"}, headers=evil)
    assert refused.status == 403 and refused.headers["Access-Control-Allow-Origin"] == evil["Origin"]
    bearer = {"Authorization": f"Bearer {(await opened.json())['session']}"}
    assert (await client.get(f"{CHAT}/messages", headers={**bearer, **evil})).status == 403
    assert (
        await client.get(f"{CHAT}/messages", headers={**bearer, "Origin": "http://desk.example.org"})
    ).status == 200
    ws = await client.ws_connect(f"{CHAT}/stream", headers=evil)
    await ws.send_json({"type": "auth", "session": (await opened.json())["session"], "after": 0})
    assert (await ws.receive()).type is aiohttp.WSMsgType.CLOSE and ws.close_code == 4401


async def test_sessions_end_and_unknown_inboxes_are_not_found(site: Desk, visitor: Visitor, clock: Any):
    for key in ("nope", "\x01", "x" * 64, "сова"):
        assert (await visitor.client.post(f"{CHAT}/session", json={"inbox_key": key})).status == 404
    await site.add_inbox("mail", "email")
    assert (await visitor.client.post(f"{CHAT}/session", json={"inbox_key": "mail"})).status == 404
    for headers in ({}, {"Authorization": "Bearer nope"}, {"Authorization": "Basic x"}):
        for path in ("messages", "poll", "events"):
            assert (await visitor.client.get(f"{CHAT}/{path}", headers=headers)).status == 401
    clock.advance(SESSION_MS + 1)
    ended = await visitor.client.get(f"{CHAT}/messages", headers=visitor.bearer)
    assert ended.status == 401 and (await ended.json())["code"] == "session_ended"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"text": "x"},
        {"client_id": "a b", "text": "x"},
        {"client_id": "a"},
        {"client_id": 7, "text": "x"},
        {"client_id": "a", "text": "x" * 8001},
        {"client_id": "a", "text": 5},
        {"client_id": "a", "text": "\x00"},
        {"client_id": "a", "text": "x", "visitor_id": "v"},
        {"client_id": "a", "text": "x", "attachments": "y"},
        {"client_id": "a", "text": "\ud800"},
    ],
)
async def test_wrong_messages_are_refused_by_name_over_http_and_socket(site: Desk, body: dict[str, Any]):
    plain = Visitor(site, await site.client())
    await plain.open()
    answer = await plain.client.post(f"{CHAT}/messages", headers=plain.bearer, data=json.dumps(body).encode())
    assert answer.status == 415
    answer = await plain.client.post(
        f"{CHAT}/messages",
        headers={**plain.bearer, "Content-Type": "application/json"},
        data=json.dumps(body).encode(),
    )
    assert answer.status == 422
    assert answer.content_type == "application/problem+json"
    if "visitor_id" not in body:
        ws = await plain.connect()
        await ws.send_str(json.dumps({"type": "message", **body}))
        error = await until(ws, "error")
        assert error["code"] and error["detail"]
    assert await plain.thread() == []


async def test_a_stranger_gives_us_nothing_that_runs_when_clicked_on(visitor: Visitor):
    for name, status in (("ticket.pdf.exe", 422), ("run.JS.", 422), ("ticket.pdf", 201)):
        form = aiohttp.FormData()
        form.add_field("file", b"MZ and more", filename=name)
        answer = await visitor.client.post(f"{CHAT}/uploads", headers=visitor.bearer, data=form)
        assert answer.status == status, name
        assert (await answer.json()).get("code") == (None if status == 201 else "refused_file")


async def test_a_talkative_visitor_is_slowed_down_and_repetition_is_free(visitor: Visitor, clock: Any):
    clock.set(clock.now_ms())
    for number in range(10):
        assert (await visitor.say("hi", f"c{number}")).status == 200
    refused = await visitor.say("hi", "c10")
    assert refused.status == 429 and int(refused.headers["Retry-After"]) >= 1
    assert (await visitor.say("hi", "c3")).status == 200
    ws = await visitor.connect(10)
    await ws.send_json({"type": "message", "client_id": "c11", "text": "x"})
    error = await until(ws, "error")
    assert (error["code"], error["client_id"]) == ("rate_limited", "c11") and error["retry_after_s"] > 0


async def test_files_go_up_with_a_message_and_down_by_its_link_only(site: Desk, visitor: Visitor):
    png = b"\x89PNG\r\n\x1a\n" + b"\x00" * 50
    form = aiohttp.FormData(quote_fields=False)
    form.add_field("file", png, filename="../../photo.png", content_type="text/html")
    stored = await (await visitor.client.post(f"{CHAT}/uploads", data=form, headers=visitor.bearer)).json()
    assert (stored["name"], stored["mime"], stored["size"]) == ("photo.png", "image/png", len(png))
    other = Visitor(site, await site.client())
    await other.open()
    assert (await other.say("mine", attachments=[stored["id"]])).status == 422
    assert (await visitor.say("Look", attachments=[stored["id"]])).status == 200
    shown = (await visitor.thread())[0]["attachments"][0]
    assert shown["state"] == "stored"
    got = await other.client.get(shown["url"])
    assert got.status == 200 and await got.read() == png
    assert (
        got.headers["X-Content-Type-Options"] == "nosniff"
        and "attachment" in got.headers["Content-Disposition"]
    )
    for bad in (shown["url"] + "x", shown["url"].replace("until=", "until=9"), shown["url"].split("?")[0]):
        assert (await other.client.get(bad)).status in (403, 422)
    async with site.db.reading() as conn:
        owner = (await conn.execute(select(upload.c.owner))).scalar_one()
    assert visitor.opened["visitor_id"] in owner


async def test_a_callback_is_booked_for_the_visitor(site: Desk, visitor: Visitor):
    answer = await visitor.client.post(
        f"{CHAT}/callback", json={"phone": "+380501234567"}, headers=visitor.bearer
    )
    assert answer.status == 201, await answer.text()
    booked = await answer.json()
    assert (booked["phone"], booked["state"]) == ("+380501234567", "scheduled")
    wrong = await visitor.client.post(f"{CHAT}/callback", json={"phone": "call me"}, headers=visitor.bearer)
    assert wrong.status == 422


async def test_numbers_we_never_gave_are_answered_with_reset(site: Desk, visitor: Visitor):
    await visitor.say("Hello")
    ws = await visitor.connect(999)
    assert (await until(ws, "reset"))["cursor"] == 1
    for bad in (-1, "1", 2.5, True):
        refused = await visitor.client.ws_connect(f"{CHAT}/stream")
        await refused.send_json({"type": "auth", "session": visitor.opened["session"], "after": bad})
        assert (await until(refused, "error"))["detail"] == "after must be a whole number from 0 on"
        await refused.send_json({"type": "auth", "session": visitor.opened["session"], "after": 0})
        await until(refused, "ready")


async def test_agents_and_visitor_see_each_other_typing(site: Desk, visitor: Visitor):
    await visitor.say("Hello")
    ws = await visitor.connect()
    await until(ws, "message")
    anna = await site.client("anna")
    feed = await anna.ws_connect("/api/v1/feed")
    await feed.receive_json()
    row = await the_inquiry(site)
    await feed.send_json({"type": "typing", "inquiry_id": row["id"]})
    assert (await until(ws, "typing"))["name"] == "Anna"
    await ws.send_json({"type": "typing"})
    while (frame := await asyncio.wait_for(feed.receive_json(), 20)).get("kind") != "typing":
        pass
    assert frame["conversation_id"] == row["conversation_id"] and frame["actor"].startswith("contact:")
    async with site.db.reading() as conn:
        assert (await conn.execute(select(conversation.c.last_seq))).scalar() == 1
        assert len((await conn.execute(select(message.c.id))).all()) == 1


async def test_a_pressed_button_shows_the_words_that_stood_on_it(site: Desk, visitor: Visitor):
    await visitor.say("Hello")
    await visitor.say("My booking", "b-1", action="f:123:booking")
    await visitor.say("", "b-2", action="f:123:other")
    assert [m["text"] for m in await visitor.thread()] == ["Hello", "My booking", "f:123:other"]
