"""The live feed: authorised, in order, without gap or double, resumable; a slow reader harms nobody."""

import asyncio
from typing import Any

import aiohttp
import pytest
from sqlalchemy import delete

from api.app import build_app
from api.feed.hub import HUB
from api.feed.sockets import SOCKETS
from crm_core.db.engine import Database
from crm_core.events import EVERYONE, SUPERVISORS, Audience, DomainEvent
from crm_core.schema import api_token, event
from tests.api.conftest import Desk


async def happen(db: Database, number: int, audience: Audience = EVERYONE, payload: Any = None) -> None:
    async with db.transaction() as uow:
        await uow.emit(
            DomainEvent(
                kind="test.happened",
                subject_kind="test",
                subject_id=number,
                audience=audience,
                payload=payload or {"n": number},
            )
        )


async def frames_until(ws: Any, number: int) -> list[dict[str, Any]]:
    """Event frames up to the one of subject `number`."""
    found = []
    while not found or found[-1]["subject"]["id"] != number:
        frame = await asyncio.wait_for(ws.receive_json(), 20)
        if frame["type"] == "event":
            found.append(frame)
    return found


async def connect(desk: Desk, name: str, after: str | None = None) -> Any:
    client = await desk.client(name)
    ws = await client.ws_connect("/api/v1/feed" + (f"?after={after}" if after else ""))
    hello = await ws.receive_json()
    assert hello["type"] == "hello" and hello["agent_id"] == desk.ids[name]
    return ws, hello["cursor"]


async def joined(desk: Desk, number: int = 1) -> None:
    hub = desk.server.app[HUB]
    async with asyncio.timeout(20):
        while len(hub._subscribers) < number:
            await asyncio.sleep(0)


async def test_events_come_in_order_to_those_who_may_see_them(desk: Desk):
    anna, _ = await connect(desk, "anna")
    boris, _ = await connect(desk, "boris")
    sofia, _ = await connect(desk, "sofia")
    await joined(desk, 3)
    await happen(desk.db, 1, Audience(teams=(desk.teams["support"],)))
    await happen(desk.db, 2, Audience(agents=(desk.ids["boris"],)))
    await happen(desk.db, 3, SUPERVISORS)
    await happen(desk.db, 4)
    assert [f["subject"]["id"] for f in await frames_until(anna, 4)] == [1, 4]
    assert [f["subject"]["id"] for f in await frames_until(boris, 4)] == [2, 4]
    assert [f["subject"]["id"] for f in await frames_until(sofia, 4)] == [1, 2, 3, 4]


async def test_resuming_gives_exactly_what_was_missed_while_others_keep_writing(desk: Desk):
    """Writers run all the time, over several connections; a client that comes and goes sees each event once."""
    total, writers = 240, 4
    first, start = await connect(desk, "anna")
    await first.close()

    async def write(which: int) -> None:
        for number in range(which, total, writers):
            await happen(desk.db, number)

    writing = [asyncio.create_task(write(which)) for which in range(writers)]
    seen: list[int] = []
    cursor = start
    while len(seen) < total:
        ws, _ = await connect(desk, "anna", after=cursor)
        # A few frames each time, so that many joins fall into the middle of the writing.
        for _ in range(17):
            if len(seen) == total:
                break
            frame = await asyncio.wait_for(ws.receive_json(), 20)
            assert frame["type"] == "event", frame
            seen.append(frame["subject"]["id"])
            cursor = frame["cursor"]
        await ws.close()
    await asyncio.gather(*writing)
    assert sorted(seen) == list(range(total))
    for which in range(writers):
        assert [n for n in seen if n % writers == which] == list(range(which, total, writers))
    ws, _ = await connect(desk, "anna", after=cursor)
    await joined(desk)
    await happen(desk.db, 10_000)
    assert [f["subject"]["id"] for f in await frames_until(ws, 10_000)] == [10_000]


@pytest.mark.parametrize(
    "backend", ["postgresql"], indirect=True
)  # SQLite has one writer: it cannot happen there
async def test_a_slow_transaction_is_not_skipped(desk: Desk):
    """An event whose transaction began earlier and commits later than another's still arrives."""
    ws, _ = await connect(desk, "anna")
    await joined(desk)
    async with desk.db.transaction() as slow:
        await slow.emit(
            DomainEvent(kind="test.happened", subject_kind="test", subject_id=1, audience=EVERYONE)
        )
        await slow.flush_outbox()
        slow._events.clear()
        await happen(desk.db, 2)
        # The reader has its chance to see 2 and to forget about 1.
        async with desk.db.reading() as conn:
            await conn.exec_driver_sql("select pg_sleep(0.2)")
    desk.db.hints.publish("events")
    assert sorted(f["subject"]["id"] for f in [*await frames_until(ws, 1), *await frames_until(ws, 2)]) == [
        1,
        2,
    ]


async def test_cursors_that_cannot_be_resumed_are_answered_with_reset(desk: Desk):
    for number in range(3):
        await happen(desk.db, number)
    async with desk.db.transaction() as uow:
        await uow.execute(delete(event).where(event.c.subject_id == 0))
    for cursor in ("nonsense", "1", "999999999-9", "9" * 40 + "-1", "0-0"):
        client = await desk.client("anna")
        ws = await client.ws_connect(f"/api/v1/feed?after={cursor}")
        assert (await ws.receive_json())["type"] == "hello"
        reset = await ws.receive_json()
        assert reset["type"] == "reset", cursor
        await ws.close()


async def test_who_may_not_enter_is_told_by_close_code(desk: Desk, monkeypatch: Any):
    stranger = await desk.client()
    ws = await stranger.ws_connect("/api/v1/feed", headers={"Authorization": "Bearer nope"})
    assert (await ws.receive()).type is aiohttp.WSMsgType.CLOSE and ws.close_code == 4401
    ws = await stranger.ws_connect("/api/v1/feed")
    await ws.send_json({"type": "auth", "token": "nope"})
    assert (await ws.receive()).type is aiohttp.WSMsgType.CLOSE and ws.close_code == 4401
    ws = await stranger.ws_connect("/api/v1/feed")
    await ws.send_json({"type": "auth", "token": desk.tokens["anna"]})
    assert (await ws.receive_json())["agent_id"] == desk.ids["anna"]
    monkeypatch.setattr("api.feed.socket.AUTH_S", 0.05)
    ws = await stranger.ws_connect("/api/v1/feed")
    assert (await ws.receive()).type is aiohttp.WSMsgType.CLOSE and ws.close_code == 4401
    forged = await stranger.get("/api/v1/feed", headers={"Origin": "http://evil.example"})
    assert forged.status == 403
    plain = await stranger.get("/api/v1/feed")
    assert plain.status == 400 and plain.content_type == "application/problem+json"


async def test_a_revoked_token_ends_the_socket(desk: Desk, monkeypatch: Any):
    monkeypatch.setattr("api.feed.socket.PING_S", 0.05)
    ws, _ = await connect(desk, "anna")
    async with desk.db.transaction() as uow:
        await uow.execute(delete(api_token).where(api_token.c.agent_id == desk.ids["anna"]))
    while (message := await asyncio.wait_for(ws.receive(), 20)).type is aiohttp.WSMsgType.TEXT:
        assert message.json()["type"] == "ping"
    assert ws.close_code == 4401


async def test_a_stuck_reader_is_dropped_and_the_others_get_everything(desk: Desk):
    stuck, cursor = await connect(desk, "boris")
    good, _ = await connect(desk, "anna")
    await joined(desk, 2)
    # The client stops reading: its socket's buffers fill up, then the server's, then its queue.
    stuck._reader._protocol.pause_reading()
    transport = stuck._response.connection.transport
    transport.pause_reading()
    payload = {"filler": "x" * 100_000}
    total = 700
    reading = asyncio.create_task(frames_until(good, total - 1))
    for number in range(total):
        await happen(desk.db, number, payload=payload)
    assert len(await reading) == total
    async with asyncio.timeout(20):
        while len(desk.server.app[SOCKETS]) > 1:
            await asyncio.sleep(0.01)
    transport.resume_reading()
    ws, _ = await connect(desk, "boris", after=cursor)
    assert [f["subject"]["id"] for f in await frames_until(ws, total - 1)] == list(range(total))


@pytest.mark.parametrize(
    "raw",
    [
        "{",
        "[]",
        '{"no":"type"}',
        '{"type":5}',
        "NaN",
        '{"type":"typing"}',
        '{"type":"typing","inquiry_id":"x"}',
        '{"type":"typing","inquiry_id":999}',
        '{"type":"presence","presence":7}',
        '{"type":"nothing we know"}',
        '"\\ud800"',
    ],
)
async def test_nonsense_frames_are_answered_and_the_feed_goes_on(desk: Desk, raw: str):
    ws, _ = await connect(desk, "anna")
    await joined(desk)
    await ws.send_str(raw)
    assert (await ws.receive_json())["type"] == "error"
    await happen(desk.db, 1)
    assert len(await frames_until(ws, 1)) == 1


async def test_shutdown_closes_every_socket_with_1001(services: Any, db: Database):
    from aiohttp.test_utils import TestServer

    server = TestServer(build_app(services, check_answers=True), host="127.0.0.1")
    await server.start_server()
    desk = Desk(db, server)
    await desk.add_agent("anna")
    ws, _ = await connect(desk, "anna")
    closing = asyncio.create_task(server.close())
    while (message := await asyncio.wait_for(ws.receive(), 20)).type is aiohttp.WSMsgType.TEXT:
        assert message.json()["type"] == "ping"
    assert ws.close_code == 1001
    await closing
    await desk.close()
