"""The widget's HTTP: sessions, sending, fetching, long poll, server-sent events, files, callbacks."""

import asyncio
import contextlib
import hmac
import json
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field
from sqlalchemy import insert, or_, select

from api.auth.sessions import new_token
from api.chat.frames import link_mac, message_frame, read_messages
from api.chat.identity import choose_visitor, read_visitor, sign_visitor, subject_of_jwt
from api.chat.queue import queue_state
from api.chat.sessions import (
    MESSAGES_PER_NETWORK,
    SESSION_MS,
    SESSIONS_PER_NETWORK,
    UPLOADS_PER_VISITOR,
    check_site,
    find_thread,
    limit,
    limit_network,
    require_session,
)
from api.chat.speaking import mark_read, say
from api.chat.stream import VisitorStream
from api.files import receive_upload, send_blob
from api.hooks import find_inbox
from api.keys import STOPPING
from api.layer.fields import In, Instant, InstantOut, OpenOut, Out, Query, RowId, Seq
from api.layer.routes import Answer, Call, Data, Routes
from channels.webchat import MAX_TEXT
from crm_core import contacts, inquiries, phone
from crm_core.clock import DAY
from crm_core.envelope import IdentityClaim, IdentityKind
from crm_core.errors import Conflict, Forbidden, Invalid, NotFound
from crm_core.languages import LANGUAGES, ours
from crm_core.schema import agent, attachment, chat_session, conversation, message, team_member
from crm_core.views import iso
from routing import callbacks
from routing.callbacks import booking, slots
from routing.callbacks import rows as callback_rows
from routing.callbacks.plan import zones_of
from routing.schema import agent_state

routes = Routes("chat", prefix="/chat/v1", role=None)

Token = Annotated[str, Field(min_length=1, max_length=4_000)]
ClientId = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.:\-]+$")]
Short = Annotated[str, Field(max_length=1_000)]


class SessionIn(In):
    inbox_key: Annotated[str, Field(min_length=1, max_length=64)]
    visitor_token: Token | None = None
    identity_jwt: Token | None = None
    locale: Annotated[str, Field(max_length=20, pattern=r"^[A-Za-z0-9\-]*$")] | None = None
    page: Short | None = None
    referrer: Short | None = None
    utm: Annotated[dict[str, Short], Field(max_length=20)] | None = None
    fields: Annotated[dict[str, Short | bool], Field(max_length=50)] | None = None


class ChatConfigOut(OpenOut):
    title: str
    greeting: str | None
    language: str
    languages: list[str]
    pre_chat: list[Any]
    team_online: bool
    expected_reply_s: int | None
    max_text: int
    max_upload: int
    color: str | None


class SessionOut(Out):
    session: str
    visitor_id: str
    visitor_token: str
    conversation_id: int | None
    cursor: int
    config: ChatConfigOut


class SayIn(In):
    client_id: ClientId
    text: Annotated[str, Field(max_length=MAX_TEXT)] | None = None
    reply_to: RowId | None = None
    attachments: (
        Annotated[list[Annotated[str, Field(min_length=1, max_length=40)]], Field(max_length=10)] | None
    ) = None
    action: Annotated[str, Field(max_length=200)] | None = None
    fields: Annotated[dict[str, Short | bool], Field(max_length=50)] | None = None


class FrameOut(OpenOut):
    type: str
    seq: int


class SaidOut(Out):
    client_id: str
    seq: int
    duplicate: bool
    message: FrameOut


class FramesOut(Out):
    items: list[FrameOut]
    cursor: int
    reset: Annotated[bool, Field(description="`after` is unknown to this thread: fetch it from 0")] = False


class AfterQuery(Query):
    after: Seq = 0
    limit: Annotated[int, Field(ge=1, le=200)] = 100


class PollQuery(Query):
    after: Seq = 0
    wait: Annotated[int, Field(ge=0, le=25, description="seconds")] = 25


class ReadIn(In):
    seq: Seq


class CallbackIn(In):
    phone: Annotated[str, Field(min_length=3, max_length=40)]
    window_start: Instant | None = None
    window_end: Instant | None = None
    timezone: Annotated[str, Field(max_length=60)] | None = None
    note: Annotated[str, Field(max_length=1_000)] | None = None
    #: only if the team can still promise a call then
    slot: bool = False
    #: instead of waiting here: call me when it is my turn, my place in the queue kept
    hold: bool = False


class SlotsQuery(Query):
    phone: Annotated[str, Field(min_length=3, max_length=40)] | None = None
    days: Annotated[int, Field(ge=1, le=14)] = 7


class SlotOut(Out):
    start: InstantOut
    end: InstantOut


class SlotsOut(Out):
    timezone: str | None
    items: list[SlotOut]


class CallbackOut(Out):
    id: int
    phone: str
    window_start: InstantOut
    window_end: InstantOut
    due_at: InstantOut
    state: str


class UploadOut(Out):
    id: str
    name: str
    mime: str
    size: int


class LinkQuery(Query):
    until: Seq
    mac: Annotated[str, Field(min_length=1, max_length=64)]


@routes.post("/session", errors=(401, 403, 404, 429))
async def open_session(call: Call, body: SessionIn) -> Annotated[Data, SessionOut]:
    """Begin or go on: the answer carries the session, the visitor's own token, and how the widget looks."""
    await limit_network(call, "session", SESSIONS_PER_NETWORK)
    account = await find_inbox(call.request, body.inbox_key, channel="webchat")
    check_site(call.request, call.services, account)
    secret = call.services.settings.secret_key
    subject = subject_of_jwt(account, body.identity_jwt, now=call.now) if body.identity_jwt else None
    anonymous = read_visitor(secret, account["key"], body.visitor_token) if body.visitor_token else None
    token, stored = new_token("sbc_")
    fields = {
        **(body.utm or {}),
        **({"page": body.page} if body.page else {}),
        **({"referrer": body.referrer} if body.referrer else {}),
        **(body.fields or {}),
    }
    async with call.db.transaction() as uow:
        visitor = await choose_visitor(uow, account, anonymous=anonymous, subject=subject)
        thread = await uow.row(
            select(conversation).where(
                conversation.c.inbox_id == account["id"], conversation.c.key == visitor
            )
        )
        facts = {"fields": fields, "external_id": subject}
        await uow.execute(
            insert(chat_session).values(
                token_hash=stored,
                inbox_id=account["id"],
                visitor_id=visitor,
                contact_id=thread["contact_id"] if thread else None,
                locale=body.locale,
                facts=facts,
                created_at=uow.now,
                expires_at=uow.now + SESSION_MS,
                last_seen_at=uow.now,
            )
        )
        config = await _config(call, uow.conn, account, body.locale)
    return {
        "session": token,
        "visitor_id": visitor,
        "visitor_token": sign_visitor(secret, account["key"], visitor),
        "conversation_id": thread["id"] if thread else None,
        "cursor": thread["last_seq"] if thread else 0,
        "config": config,
    }


async def _config(call: Call, conn: Any, account: Any, locale: str | None) -> Data:
    here = (
        select(agent_state.c.agent_id)
        .join(agent, agent.c.id == agent_state.c.agent_id)
        .where(agent_state.c.routable, agent.c.active)
    )
    if account["team_id"] is not None:
        here = here.join(team_member, team_member.c.agent_id == agent.c.id).where(
            team_member.c.team_id == account["team_id"]
        )
    online = (await conn.execute(here.limit(1))).scalar() is not None
    given = account["config"]
    return {
        "title": str(given.get("title") or account["name"]),
        "greeting": given.get("greeting"),
        "language": ours(locale) or account["language"],
        "languages": list(LANGUAGES),
        "pre_chat": given.get("pre_chat") or [],
        "team_online": online,
        "expected_reply_s": given.get("expected_reply_s"),
        "max_text": MAX_TEXT,
        "max_upload": call.services.settings.max_upload_bytes,
        "color": given.get("color"),
    }


@routes.post("/messages", errors=(401, 403, 429))
async def send(call: Call, body: SayIn) -> Annotated[Data, SaidOut]:
    """Say something. The same client_id again gives the same answer."""
    session = await require_session(call)
    await limit_network(call, "say", MESSAGES_PER_NETWORK)
    row, duplicate = await say(call, session, body.changes())
    frame = message_frame(row, row["attachments"], secret_key=call.services.settings.secret_key, now=call.now)
    return {"client_id": body.client_id, "seq": row["seq"], "duplicate": duplicate, "message": frame}


@routes.get("/messages", errors=(401, 403))
async def fetch(call: Call, query: AfterQuery) -> Annotated[Data, FramesOut]:
    """The thread behind a number, in order."""
    session = await require_session(call)
    thread = await find_thread(call.db, session)
    if thread is None:
        return {"items": [], "cursor": 0, "reset": query.after > 0}
    if query.after > thread["last_seq"]:
        return {"items": [], "cursor": thread["last_seq"], "reset": True}
    async with call.db.reading() as conn:
        frames = await read_messages(
            conn,
            thread["id"],
            after=query.after,
            limit=query.limit,
            secret_key=call.services.settings.secret_key,
            now=call.now,
        )
    full = len(frames) == query.limit
    return {
        "items": frames,
        "cursor": frames[-1]["seq"] if full else max(query.after, thread["last_seq"]),
        "reset": False,
    }


class QueueOut(Out):
    state: Annotated[str, Field(description="none | bot | closed | waiting | served")]
    position: int | None
    low_min: Annotated[int | None, Field(description="null where too little is known for a number")]
    high_min: int | None
    offer_callback: bool
    opens_at: Annotated[InstantOut | None, Field(description="when the team opens again, in `closed`")]
    text: str


@routes.get("/queue", errors=(401, 403))
async def show_queue(call: Call) -> Annotated[Data, QueueOut]:
    """Where the visitor stands in the queue for a person, and how long that will take; ask every ten seconds or so."""
    return await queue_state(call, await require_session(call))


@routes.get("/poll", errors=(401, 403))
async def poll(call: Call, query: PollQuery) -> Annotated[Data, FramesOut]:
    """Long poll: answers at once if there is something behind `after`, else waits for it."""
    session = await require_session(call)
    stream = VisitorStream(call, session, query.after)
    items: list[Data] = []

    async def keep(frame: Data) -> None:
        items.append(frame)

    try:
        last = await stream.open()
        if query.after > last:
            return {"items": [], "cursor": last, "reset": True}
        deadline = asyncio.get_running_loop().time() + query.wait
        stopping = call.request.app[STOPPING]
        while True:
            await stream.catch_up(keep)
            left = deadline - asyncio.get_running_loop().time()
            if items or left <= 0 or stopping.is_set():
                break
            await stream.until_news(min(left, 5.0), stopping)
    finally:
        stream.close()
    return {"items": items, "cursor": stream.position, "reset": False}


class _EventStream:
    """Server-sent events with a bounded queue; one that is full ends the response, and the client resumes."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(512)
        self.full = asyncio.Event()

    def push_data(self, data: dict[str, Any]) -> None:
        try:
            self.queue.put_nowait(data)
        except asyncio.QueueFull:
            self.full.set()

    async def send_data(self, data: dict[str, Any]) -> None:
        await self.queue.put(data)


@routes.get("/events", errors=(401, 403), produces="text/event-stream")
async def server_sent_events(call: Call, query: AfterQuery) -> web.StreamResponse:
    """The stream as server-sent events; `Last-Event-ID` or `after` resumes."""
    session = await require_session(call)
    resumed = call.request.headers.get("Last-Event-ID", "")
    after = int(resumed) if resumed.isascii() and resumed.isdigit() and len(resumed) < 19 else query.after
    stream = VisitorStream(call, session, after)
    stopping = call.request.app[STOPPING]
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
    sink = _EventStream()
    tasks: list[asyncio.Task[Any]] = []
    try:
        last = await stream.open()
        await response.prepare(call.request)
        await response.write(_event({"type": "ready", "cursor": last}))
        if after > last:
            await response.write(_event({"type": "reset", "cursor": last}))
            stream.position = last
        tasks = [
            asyncio.create_task(stream.run(sink)),
            asyncio.create_task(_write_events(response, sink)),
            asyncio.create_task(stopping.wait()),
            asyncio.create_task(sink.full.wait()),
        ]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stream.close()
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
    return response


async def _write_events(response: web.StreamResponse, sink: _EventStream) -> None:
    while True:
        try:
            async with asyncio.timeout(15):
                data = await sink.queue.get()
        except TimeoutError:
            await response.write(b": still here\n\n")
            continue
        await response.write(_event(data))


def _event(data: dict[str, Any]) -> bytes:
    head = f"id: {data['seq']}\n" if data["type"] == "message" else ""
    return f"{head}data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


@routes.post("/read", errors=(401, 403))
async def read(call: Call, body: ReadIn) -> None:
    """The visitor has seen everything up to `seq`."""
    session = await require_session(call)
    thread = await find_thread(call.db, session)
    if thread is not None:
        await mark_read(call, thread["id"], body.seq)


@routes.post("/uploads", status=201, errors=(401, 403, 429), consumes="multipart/form-data")
async def upload(call: Call) -> Annotated[Data, UploadOut]:
    """Upload a file, to be named in a message's attachments."""
    session = await require_session(call)
    await limit(call, "upload", session.owner, UPLOADS_PER_VISITOR)
    return await receive_upload(call, session.owner, of_stranger=True)


@routes.get("/attachments/{id}", errors=(403,), produces="application/octet-stream")
async def download(call: Call, id: RowId, query: LinkQuery) -> web.StreamResponse:  # noqa: A002
    """A file of a message, by the link the message carried."""
    good = link_mac(call.services.settings.secret_key, id, query.until)
    if not hmac.compare_digest(good.encode(), query.mac.encode()) or query.until < call.now:
        raise Forbidden("this link is not valid any more, fetch the message again", code="bad_link")
    async with call.db.reading() as conn:
        row = (
            (
                await conn.execute(
                    select(attachment)
                    .join(message, message.c.id == attachment.c.message_id)
                    .where(
                        attachment.c.id == id, or_(message.c.direction == "in", message.c.direction == "out")
                    )
                )
            )
            .mappings()
            .first()
        )
    if row is None or row["state"] != "stored":
        raise NotFound("no such file")
    return await send_blob(call, row)


@routes.get("/callback/slots", errors=(401, 403, 429))
async def free_slots(call: Call, query: SlotsQuery) -> Annotated[Data, SlotsOut]:
    """Half hours in which the team can still promise a call, decent where the visitor is."""
    session = await require_session(call)
    await limit(call, "callback_slots", session.owner, (1, 20))
    zones = None
    async with call.db.transaction() as uow:
        if query.phone is not None:
            read = phone.normalize(query.phone, session.inbox["region"])
            if read is None:
                raise Invalid(f"not a phone number: {query.phone!r}", code="bad_phone")
            zones = zones_of(read.e164, contact_zone=None, default_zone=await callback_rows.default_zone(uow))
        team_id = session.inbox["team_id"] or await booking.default_team(uow)
        found = (
            []
            if team_id is None
            else await slots.offered(
                uow.conn, team_id, zones, now=uow.now, since=uow.now, until=uow.now + query.days * DAY
            )
        )
    return {
        "timezone": zones.shown if zones else None,
        "items": [{"start": iso(s.start), "end": iso(s.end)} for s in found],
    }


@routes.post("/callback", status=201, errors=(401, 403, 409, 429))
async def ask_callback(call: Call, body: CallbackIn) -> Annotated[Data, CallbackOut]:
    """Ask to be called, at a time or as soon as possible."""
    session = await require_session(call)
    await limit(call, "callback", session.owner, (1, 5))
    account = session.inbox
    async with call.db.transaction() as uow:
        who = [IdentityClaim(IdentityKind.VISITOR, session.visitor_id, verified=True, account=account["key"])]
        person = await contacts.resolve(
            uow,
            who,
            name=str((session.facts.get("fields") or {}).get("name") or "") or None,
            locale=session.locale,
        )
        thread = await uow.scalar(
            select(conversation.c.id).where(
                conversation.c.inbox_id == account["id"], conversation.c.key == session.visitor_id
            )
        )
        inquiry = await inquiries.newest_of_conversation(uow, thread) if thread is not None else None
        if inquiry is not None and inquiry["status"] == "closed":
            inquiry = None
        if body.hold:
            if inquiry is None:
                raise Conflict("nothing of yours waits in a queue", code="not_waiting")
            booked = await callbacks.take_place_of_request(
                uow,
                inquiry["id"],
                actor=f"contact:{person['id']}",
                number=body.phone,
                region=account["region"],
            )
        else:
            booked = await callbacks.book(
                uow,
                contact=person,
                raw_phone=body.phone,
                window_start=body.window_start,
                window_end=body.window_end,
                inquiry=inquiry,
                timezone=body.timezone,
                note=body.note,
                source="chat",
                team_id=account["team_id"],
                created_by=f"contact:{person['id']}",
                region=account["region"],
                strict_slot=body.slot,
                confirm=False,
            )
        await contacts.add_identity(
            uow, person, IdentityClaim(IdentityKind.PHONE, booked["phone"], evidence="pre_chat")
        )
    return Answer(
        {
            "id": booked["id"],
            "phone": booked["phone"],
            "window_start": iso(booked["window_start"]),  # type: ignore[return-value]
            "window_end": iso(booked["window_end"]),
            "due_at": iso(booked["due_at"]),
            "state": booked["state"],
        },
        201,
    )
