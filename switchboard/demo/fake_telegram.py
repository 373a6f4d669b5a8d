"""A Bot API server on the loopback interface, for the demo's customers and for tests: strict, and honest in
its refusals.

It keeps the documented rules: tokens, types, limits, replies, one update in flight a chat with redelivery,
long
polling by offset, conflicts. It has no accounts of its own, people are made with `user()`. Needs only
aiohttp.
Facts: https://core.telegram.org/bots/api, and for delivery the open Bot API server's source.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from crm_core.clock import Clock, SystemClock
from switchboard.demo.fake_telegram_delivery import Delivery
from switchboard.demo.fake_telegram_people import Chat, FakeUser, SentMessage
from switchboard.demo.fake_telegram_rules import (
    MAX_CAPTION,
    MAX_DOWNLOAD,
    MAX_TEXT,
    MAX_UPLOAD,
    Params,
    RefusalError,
    Upload,
    bad_request,
    check_photo,
    check_upload,
    formatted,
    keyboard,
)


@dataclass(slots=True, kw_only=True)
class Fault:
    """What goes wrong with the next `times` calls of `method` (None: any).

    `drop` is `before` (nothing happened) or `after` (done, but the answer is lost). `body` is sent as it is.
    """

    method: str | None = None
    times: int = 1
    status: int = 200
    description: str = ""
    parameters: dict[str, Any] | None = None
    drop: str | None = None
    body: str | None = None
    after: bool = False  # do the work, then answer with `body`
    skip: int = 0  # calls that still go well before the first fault


class FakeTelegram:
    """`async with FakeTelegram() as telegram:` or `await start()` … `await stop()`.

    `time_scale` below 1 makes the waits of redelivery and conflicts shorter. A process that restarts over a
    kept
    database should pass growing `first_update_id` and `first_message_id`, as the real service never reuses
    them.
    """

    def __init__(
        self,
        *,
        token: str = "7000000001:AAFakeFakeFakeFakeFakeFakeFakeFakeFak",  # noqa: S107
        username: str = "switchboard_demo_bot",
        host: str = "127.0.0.1",
        port: int = 0,
        time_scale: float = 1.0,
        first_update_id: int | None = None,
        first_message_id: int = 1,
        clock: Clock | None = None,
    ) -> None:
        self.token = token
        self.bot_profile = {
            "id": int(token.partition(":")[0]),
            "is_bot": True,
            "first_name": "Switchboard",
            "username": username,
        }
        self.base_url = ""
        self.sent: list[SentMessage] = []
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.answered: list[dict[str, Any]] = []
        self.faults: list[Fault] = []
        self._address = (host, port)
        self._clock = clock or SystemClock()
        self._first_message_id = first_message_id
        self._users: dict[int, FakeUser] = {}
        self._chats: dict[int, Chat] = {}
        self._callbacks: dict[str, bool] = {}
        self._files: dict[str, tuple[str, bytes, dict[str, Any]]] = {}
        self._changed = asyncio.Condition()
        self._delivery = Delivery(
            first_update_id=first_update_id or 100_000_000 + secrets.randbelow(800_000_000),
            time_scale=time_scale,
            changed=self._changed,
            now_s=self.now_s,
        )
        self._runner: web.AppRunner | None = None
        self._methods: dict[str, Callable[[Params], Awaitable[Any]]] = {
            "getme": self._get_me,
            "sendmessage": self._send_message,
            "sendphoto": self._send_photo,
            "senddocument": self._send_document,
            "sendchataction": self._send_chat_action,
            "editmessagetext": self._edit_message_text,
            "answercallbackquery": self._answer_callback_query,
            "getfile": self._get_file,
            "setwebhook": self._delivery.set_webhook,
            "deletewebhook": self._delivery.delete_webhook,
            "getwebhookinfo": self._delivery.get_webhook_info,
            "getupdates": self._delivery.get_updates,
        }

    # -- life
    # --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        app = web.Application(client_max_size=MAX_UPLOAD + 1024 * 1024)
        app.router.add_route("*", "/bot{token}/{method}", self._handle)
        app.router.add_get("/file/bot{token}/{path:.+}", self._download)
        self._delivery.start()
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.2, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, *self._address)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.base_url = f"http://{host}:{port}"

    async def stop(self) -> None:
        await self._delivery.stop()
        if self._runner is not None:
            await self._runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def now_s(self) -> int:
        return self._clock.now_ms() // 1000

    # -- what the world does
    # -----------------------------------------------------------------------------------

    def user(self, id: int, first_name: str = "Olena", **profile: Any) -> FakeUser:  # noqa: A002
        """The person with this id, made on the first call; `last_name`, `username`, `language_code` as
        given.
        """
        known = self._users.get(id)
        if known is not None:
            return known
        chat = Chat(id, "private", first_name, next_message_id=self._first_message_id)
        person = {"id": id, "is_bot": False, "first_name": first_name, **profile}
        self._chats[id] = chat
        self._users[id] = FakeUser(self, chat, person)
        return self._users[id]

    def group(self, id: int, title: str, *, topics: tuple[int, ...] = ()) -> Chat:  # noqa: A002
        """A group the bot is in; with `topics` it is a forum."""
        chat = Chat(id, "supergroup", title, set(topics), next_message_id=self._first_message_id)
        self._chats[id] = chat
        return chat

    def fail(self, method: str | None = None, **fault: Any) -> Fault:
        """Make the next calls go wrong, see Fault."""
        self.faults.append(Fault(method=method, **fault))
        return self.faults[-1]

    def rate_limit(self, retry_after: int, method: str | None = None, times: int = 1) -> Fault:
        return self.fail(
            method,
            times=times,
            status=429,
            description=f"Too Many Requests: retry after {retry_after}",
            parameters={"retry_after": retry_after},
        )

    async def push(self, kind: str, payload: Any, *, lane: int) -> int | None:
        """Queue an update of any kind. Returns its id, or None if the bot does not ask for that kind."""
        return await self._delivery.push(kind, payload, lane)

    async def push_callback(self, user: FakeUser, sent: SentMessage, data: str) -> str:
        query_id = str(secrets.randbits(60))
        self._callbacks[query_id] = False
        query = {
            "id": query_id,
            "from": user.profile,
            "message": sent.message,
            "chat_instance": str(user.id),
            "data": data,
        }
        await self.push("callback_query", query, lane=user.id)
        return query_id

    def store_file(self, content: bytes, what: str, suffix: str) -> dict[str, Any]:
        """A file on Telegram's side: its description for a message."""
        file_id = f"{what}-{secrets.token_urlsafe(16)}"
        facts = {"file_id": file_id, "file_unique_id": file_id[-12:], "file_size": len(content)}
        self._files[file_id] = (f"{what}s/file_{len(self._files)}{suffix}", content, facts)
        return facts

    async def wait_for(
        self, predicate: Callable[[SentMessage], bool] = lambda _: True, timeout_s: float = 10.0, *, after:
        int
        = 0
    ) -> SentMessage:  # fmt: skip
        """The first message from index `after` on that fits, waiting for it. Raises TimeoutError."""
        found: list[SentMessage] = []

        def look() -> bool:
            found[:] = [message for message in self.sent[after:] if predicate(message)]
            return bool(found)

        await self.wait_until(look, timeout_s)
        return found[0]

    async def wait_until(self, condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
        """Until something seen by this server makes `condition` true. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(condition)

    @property
    def pending(self) -> list[dict[str, Any]]:
        """Updates not yet confirmed by a poll or taken by the hook."""
        return self._delivery.pending

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    # -- HTTP
    # --------------------------------------------------------------------------------------------------

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        method = request.match_info["method"]
        try:
            if request.match_info["token"] != self.token:
                raise RefusalError(401, "Unauthorized")
            call = self._methods.get(method.lower())
            if call is None:
                raise RefusalError(404, "Not Found")
            params = await _read(request)
            self.calls.append((method, dict(params.values)))
            fault = self._take_fault(method)
            if fault is not None and not (fault.after or fault.drop == "after"):
                return await self._misbehave(request, fault)
            result = await call(params)
            params.refuse_unknown()
        except RefusalError as refusal:
            return _refused(refusal)
        finally:
            await self._notify()
        if fault is not None:
            return await self._misbehave(request, fault)
        return web.json_response({"ok": True, "result": result})

    def _take_fault(self, method: str) -> Fault | None:
        for fault in self.faults:
            if fault.times > 0 and (fault.method is None or fault.method.lower() == method.lower()):
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                return fault
        return None

    async def _misbehave(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        if fault.drop is not None:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        if fault.body is not None:
            return web.Response(status=fault.status, text=fault.body)
        return _refused(RefusalError(fault.status, fault.description, fault.parameters))

    async def _download(self, request: web.Request) -> web.StreamResponse:
        if request.match_info["token"] != self.token:
            return _refused(RefusalError(401, "Unauthorized"))
        fault = self._take_fault("download")
        for path, content, _ in self._files.values():
            if path == request.match_info["path"]:
                if fault is not None and fault.drop is not None:
                    response = web.StreamResponse(headers={"Content-Length": str(len(content))})
                    await response.prepare(request)
                    await response.write(content[: len(content) // 2])
                    return await self._misbehave(request, fault)
                if fault is not None:
                    return await self._misbehave(request, fault)
                return web.Response(body=content)
        return _refused(RefusalError(404, "Not Found"))

    # -- sending methods
    # ---------------------------------------------------------------------------------------

    async def _get_me(self, _params: Params) -> dict[str, Any]:
        return {**self.bot_profile, "can_join_groups": True, "can_read_all_group_messages": False}

    async def _send_message(self, params: Params) -> dict[str, Any]:
        chat = self._chat(params)
        text, entities = formatted(params, "text", MAX_TEXT)
        if not text:
            raise bad_request("message text is empty")
        params.parsed("link_preview_options", dict)
        body = {"text": text, **({"entities": entities} if entities else {})}
        return await self._deliver("sendMessage", chat, params, body, text=text)

    async def _send_photo(self, params: Params) -> dict[str, Any]:
        return await self._send_file("sendPhoto", "photo", params)

    async def _send_document(self, params: Params) -> dict[str, Any]:
        return await self._send_file("sendDocument", "document", params)

    async def _send_file(self, method: str, what: str, params: Params) -> dict[str, Any]:
        chat = self._chat(params)
        given = params.upload(what)
        if given is None:
            raise bad_request(f"there is no {what} in the request")
        caption, entities = formatted(params, "caption", MAX_CAPTION)
        upload = given if isinstance(given, Upload) else None
        if upload is not None:
            check_upload(upload)
            if what == "photo":
                check_photo(upload)
            facts = self.store_file(upload.content, what, "." + upload.filename.rpartition(".")[2])
        elif given in self._files:
            facts = self._files[str(given)][2]
        else:
            raise bad_request("wrong remote file identifier specified: can't unserialize it")
        shown: Any = [{**facts, "width": 640, "height": 480}]
        if what == "document" and upload is not None:
            shown = {**facts, "file_name": upload.filename, "mime_type": upload.mime}
        elif what == "document":
            shown = facts
        body = {what: shown, **({"caption": caption} if caption else {})}
        if entities:
            body["caption_entities"] = entities
        return await self._deliver(method, chat, params, body, text=caption, upload=upload)

    async def _deliver(
        self,
        method: str,
        chat: Chat,
        params: Params,
        body: dict[str, Any],
        *,
        text: str,
        upload: Upload | None = None,
    ) -> dict[str, Any]:
        markup = keyboard(params, private=chat.type == "private")
        reply_to = self._reply_target(chat, params)
        topic = params.integer("message_thread_id")
        if topic is not None and topic not in chat.topics:
            raise bad_request("message thread not found")
        for flag in ("disable_notification", "protect_content", "allow_paid_broadcast"):
            params.boolean(flag)
        params.text("business_connection_id")
        params.refuse_unknown()
        message = {
            "message_id": chat.new_message_id(),
            "from": self.bot_profile,
            "chat": chat.as_json(),
            "date": self.now_s(),
            **body,
        }
        if topic is not None:
            message |= {"message_thread_id": topic, "is_topic_message": True}
        if markup is not None and "inline_keyboard" in markup:
            message["reply_markup"] = markup
        if reply_to is not None:
            message["reply_to_message"] = {
                "message_id": reply_to,
                "date": self.now_s(),
                "chat": chat.as_json(),
            }
        self.sent.append(
            SentMessage(
                method=method, chat_id=chat.id, message_id=message["message_id"], text=text, message=message,
                markup=markup, file=upload, reply_to=reply_to,
            )
        )  # fmt: skip
        return message

    async def _send_chat_action(self, params: Params) -> bool:
        self._chat(params)
        params.integer("message_thread_id")
        if params.text("action") not in {"typing", "upload_photo", "upload_document", "record_voice"}:
            raise bad_request("wrong parameter action in request")
        return True

    async def _edit_message_text(self, params: Params) -> dict[str, Any]:
        chat = self._chat(params)
        message_id = params.integer("message_id")
        text, entities = formatted(params, "text", MAX_TEXT)
        markup = keyboard(params, private=chat.type == "private")
        place = next(
            (i for i, m in enumerate(self.sent) if (m.chat_id, m.message_id) == (chat.id, message_id)), None
        )
        if place is None:
            raise bad_request("message to edit not found")
        if not text:
            raise bad_request("message text is empty")
        old = self.sent[place]
        if (old.text, old.markup) == (text, markup):
            raise bad_request(
                "message is not modified: specified new message content and reply markup are exactly the same"
            )
        message = {k: v for k, v in old.message.items() if k not in {"entities", "reply_markup"}}
        message |= {"text": text, "edit_date": self.now_s()}
        if entities:
            message["entities"] = entities
        if markup is not None:
            message["reply_markup"] = markup
        self.sent[place] = SentMessage(
            method=old.method, chat_id=old.chat_id, message_id=old.message_id, text=text, message=message,
            markup=markup, reply_to=old.reply_to,
        )  # fmt: skip
        return message

    async def _answer_callback_query(self, params: Params) -> bool:
        query_id = params.text("callback_query_id") or ""
        params.text("text")
        params.boolean("show_alert")
        if self._callbacks.get(query_id) is not False:
            raise bad_request("query is too old and response timeout expired or query ID is invalid")
        self._callbacks[query_id] = True
        self.answered.append(dict(params.values))
        return True

    def _chat(self, params: Params) -> Chat:
        chat_id = params.integer("chat_id")
        if chat_id is None:
            raise bad_request("chat_id is empty")
        chat = self._chats.get(chat_id)
        if chat is None:
            raise bad_request("chat not found")
        if chat.migrated_to is not None:
            raise RefusalError(
                400,
                "Bad Request: group chat was upgraded to a supergroup chat",
                {"migrate_to_chat_id": chat.migrated_to},
            )
        user = self._users.get(chat_id)
        if user is not None and user.deactivated:
            raise RefusalError(403, "Forbidden: user is deactivated")
        if user is not None and user.blocked:
            raise RefusalError(403, "Forbidden: bot was blocked by the user")
        if user is not None and not user.started:
            raise RefusalError(403, "Forbidden: bot can't initiate conversation with a user")
        return chat

    def _reply_target(self, chat: Chat, params: Params) -> int | None:
        wanted = params.parsed("reply_parameters", dict)
        if wanted is None:
            return None
        message_id = wanted.get("message_id")
        if not isinstance(message_id, int):
            raise bad_request("message identifier is not specified")
        if message_id in chat.messages:
            return message_id
        if wanted.get("allow_sending_without_reply") is True:
            return None
        raise bad_request("message to be replied not found")

    # -- files and updates
    # -------------------------------------------------------------------------------------

    async def _get_file(self, params: Params) -> dict[str, Any]:
        stored = self._files.get(params.text("file_id") or "")
        if stored is None:
            raise bad_request("wrong file_id or the file is temporarily unavailable")
        path, content, facts = stored
        if len(content) > MAX_DOWNLOAD:
            raise bad_request("file is too big")
        return {**facts, "file_path": path}


async def _read(request: web.Request) -> Params:
    values: dict[str, Any] = dict(request.query)
    files: dict[str, Upload] = {}
    if request.content_type == "application/json":
        try:
            loaded = await request.json()
        except ValueError:
            raise bad_request("can't parse request JSON object") from None
        if not isinstance(loaded, dict):
            raise bad_request("object expected as request")
        values |= loaded
    elif request.method == "POST":
        for key, value in (await request.post()).items():
            if isinstance(value, str):
                values[key] = value
            elif isinstance(value, web.FileField):
                files[key] = Upload(value.filename, value.content_type, value.file.read())
    return Params(values, files)


def _refused(refusal: RefusalError) -> web.Response:
    body: dict[str, Any] = {"ok": False, "error_code": refusal.code, "description": refusal.description}
    if refusal.parameters is not None:
        body["parameters"] = refusal.parameters
    return web.json_response(body, status=refusal.code)
