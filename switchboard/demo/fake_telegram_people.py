"""The people and chats of the local Bot API: what a customer does in Telegram becomes updates for the bot."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from switchboard.demo.fake_telegram import FakeTelegram

from switchboard.demo.fake_telegram_rules import Upload


@dataclass(frozen=True, slots=True, kw_only=True)
class SentMessage:
    """A message as the bot sent it. `text` is what the person sees, `message` what the API returned."""

    method: str
    chat_id: int
    message_id: int
    text: str
    message: dict[str, Any]
    markup: dict[str, Any] | None = None
    file: Upload | None = None
    reply_to: int | None = None

    @property
    def inline_buttons(self) -> list[list[dict[str, Any]]]:
        rows: list[list[dict[str, Any]]] = (self.markup or {}).get("inline_keyboard", [])
        return rows

    @property
    def labels(self) -> list[str]:
        """All button labels, inline or reply keyboard."""
        rows = (self.markup or {}).get("inline_keyboard") or (self.markup or {}).get("keyboard") or []
        return [button["text"] for row in rows for button in row]


@dataclass(slots=True)
class Chat:
    """A private chat has the id of its person."""

    id: int
    type: str
    title: str = ""
    topics: set[int] = field(default_factory=set)
    migrated_to: int | None = None
    next_message_id: int = 1
    #: ids of messages that exist, for replies
    messages: set[int] = field(default_factory=set)

    def as_json(self) -> dict[str, Any]:
        if self.type == "private":
            return {"id": self.id, "type": self.type, "first_name": self.title}
        extra = {"is_forum": True} if self.topics else {}
        return {"id": self.id, "type": self.type, "title": self.title, **extra}

    def new_message_id(self) -> int:
        message_id = self.next_message_id
        self.next_message_id += 1
        self.messages.add(message_id)
        return message_id


class FakeUser:
    """A person with a Telegram account. Methods return the message (or the callback's id) they made."""

    def __init__(self, server: "FakeTelegram", chat: Chat, profile: dict[str, Any]) -> None:
        self._server = server
        self.chat = chat
        self.profile = profile
        self.started = False
        self.blocked = False
        self.deactivated = False

    @property
    def id(self) -> int:
        return self.chat.id

    @property
    def received(self) -> list[SentMessage]:
        """What the bot sent to this person's private chat, oldest first."""
        return [message for message in self._server.sent if message.chat_id == self.id]

    async def send(self, *, chat: Chat | None = None, kind: str = "message", **fields: Any) -> dict[str, Any]:
        """A message with any fields of the Bot API, e.g. `location={...}`, `sticker={...}`."""
        where = chat or self.chat
        if where is self.chat:
            self.started, self.blocked = True, False
        message = {
            "message_id": where.new_message_id(),
            "from": self.profile,
            "chat": where.as_json(),
            "date": self._server.now_s(),
            **fields,
        }
        await self._server.push(kind, message, lane=where.id)
        return message

    async def send_text(
        self, text: str, *, reply_to: int | None = None, chat: Chat | None = None, topic: int | None = None
    ) -> dict[str, Any]:
        extra: dict[str, Any] = {}
        if text.startswith("/"):
            length = len(text.split(maxsplit=1)[0])
            extra["entities"] = [{"type": "bot_command", "offset": 0, "length": length}]
        if reply_to is not None:
            extra["reply_to_message"] = {
                "message_id": reply_to,
                "date": self._server.now_s(),
                "chat": (chat or self.chat).as_json(),
            }
        if topic is not None:
            extra |= {"message_thread_id": topic, "is_topic_message": True}
        return await self.send(chat=chat, text=text, **extra)

    async def start(self, payload: str = "") -> dict[str, Any]:
        """Opens the bot, perhaps by a deep link t.me/bot?start=payload."""
        return await self.send_text(f"/start {payload}".strip())

    async def edit_text(self, message: dict[str, Any], text: str) -> dict[str, Any]:
        edited = {**message, "text": text, "edit_date": self._server.now_s()}
        await self._server.push("edited_message", edited, lane=int(message["chat"]["id"]))
        return edited

    async def send_contact(
        self, phone: str, *, own: bool = True, first_name: str = "", user_id: int | None = None
    ) -> dict[str, Any]:
        """The phone button (own=True) or somebody's card from the address book."""
        card: dict[str, Any] = {"phone_number": phone, "first_name": first_name or self.profile["first_name"]}
        card_id = self.id if own else user_id
        if card_id is not None:
            card["user_id"] = card_id
        return await self.send(contact=card)

    async def send_photo(self, content: bytes, *, caption: str = "", **fields: Any) -> dict[str, Any]:
        small = self._server.store_file(content[:100], "photo", ".jpg")
        large = self._server.store_file(content, "photo", ".jpg")
        sizes = [{**small, "width": 90, "height": 60}, {**large, "width": 1280, "height": 853}]
        if caption:
            fields["caption"] = caption
        return await self.send(photo=sizes, **fields)

    async def send_document(
        self, content: bytes, *, name: str, mime: str, caption: str = ""
    ) -> dict[str, Any]:
        file = self._server.store_file(content, "document", "." + name.rpartition(".")[2])
        document = {**file, "file_name": name, "mime_type": mime}
        fields: dict[str, Any] = {"caption": caption} if caption else {}
        return await self.send(document=document, **fields)

    async def send_voice(self, content: bytes, *, duration: int) -> dict[str, Any]:
        file = self._server.store_file(content, "voice", ".oga")
        return await self.send(voice={**file, "duration": duration, "mime_type": "audio/ogg"})

    async def send_location(self, latitude: float, longitude: float) -> dict[str, Any]:
        return await self.send(location={"latitude": latitude, "longitude": longitude})

    async def press(self, button: str) -> str:
        """Press the newest inline button with this label or value. Returns the callback's id.

        Raises LookupError if no message shows one.
        """
        for sent in reversed(self._server.sent):
            if sent.chat_id != self.id:
                continue
            for shown in (shown for row in sent.inline_buttons for shown in row):
                if button in {shown["text"], shown.get("callback_data")} and "callback_data" in shown:
                    return await self._server.push_callback(self, sent, str(shown["callback_data"]))
        raise LookupError(f"no message shows a button {button!r}")

    async def react(self, message_id: int, emoji: str | None) -> None:
        """Set the one reaction on a message, or take it away with None."""
        reaction = {
            "chat": self.chat.as_json(),
            "message_id": message_id,
            "user": self.profile,
            "date": self._server.now_s(),
            "old_reaction": [],
            "new_reaction": [] if emoji is None else [{"type": "emoji", "emoji": emoji}],
        }
        await self._server.push("message_reaction", reaction, lane=self.id)

    async def block(self) -> None:
        """Stops the bot: it learns of it, and its messages are refused from now on."""
        self.blocked = True
        await self._membership("member", "kicked")

    async def unblock(self) -> None:
        self.blocked = False
        await self._membership("kicked", "member")

    async def _membership(self, old: str, new: str) -> None:
        bot = self._server.bot_profile
        update = {
            "chat": self.chat.as_json(),
            "from": self.profile,
            "date": self._server.now_s(),
            "old_chat_member": {"user": bot, "status": old},
            "new_chat_member": {"user": bot, "status": new, **({"until_date": 0} if new == "kicked" else {})},
        }
        await self._server.push("my_chat_member", update, lane=self.id)
