"""What the local Bot API accepts: parameters, formatted text, keyboards, files. The rules, not the server.

Every refusal uses the words of the real API, because clients act on them.
Source of limits and wording: https://core.telegram.org/bots/api and the open Bot API server.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

from typing_extensions import override

MAX_TEXT = 4096
MAX_CAPTION = 1024
MAX_CALLBACK_BYTES = 64
MAX_PHOTO = 10 * 1024 * 1024
MAX_UPLOAD = 50 * 1024 * 1024
MAX_DOWNLOAD = 20 * 1024 * 1024
_TAGS = frozenset(
    {
        "b",
        "strong",
        "i",
        "em",
        "u",
        "ins",
        "s",
        "strike",
        "del",
        "code",
        "pre",
        "a",
        "blockquote",
        "tg-spoiler",
    }
)
_BUTTON_ACTIONS = ("callback_data", "url", "switch_inline_query", "web_app", "copy_text", "login_url", "pay")
_IMAGE_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


class RefusalError(Exception):
    """An answer with `"ok": false`."""

    def __init__(self, code: int, description: str, parameters: dict[str, Any] | None = None) -> None:
        super().__init__(description)
        self.code = code
        self.description = description
        self.parameters = parameters


def bad_request(words: str) -> RefusalError:
    return RefusalError(400, f"Bad Request: {words}")


@dataclass(frozen=True, slots=True)
class Upload:
    filename: str
    mime: str
    content: bytes


@dataclass(slots=True)
class Params:
    """A method's parameters, from JSON, a form or the query, with the types checked where they are read."""

    values: Mapping[str, Any]
    files: Mapping[str, Upload] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)

    def _raw(self, name: str) -> Any:
        self.read.add(name)
        return self.values.get(name)

    def text(self, name: str) -> str | None:
        value = self._raw(name)
        if value is not None and not isinstance(value, str):
            raise bad_request(f'parameter "{name}" must be a String')
        return value

    def integer(self, name: str) -> int | None:
        value = self._raw(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise bad_request(f'parameter "{name}" must be an Integer')
        try:
            return int(value)
        except ValueError:
            raise bad_request(f'parameter "{name}" must be an Integer') from None

    def boolean(self, name: str) -> bool:
        value = self._raw(name)
        if value in {None, False, "false", "False", "0"}:
            return False
        if value in {True, "true", "True", "1"}:
            return True
        raise bad_request(f'parameter "{name}" must be a Boolean')

    def parsed(self, name: str, kind: type) -> Any:
        """A JSON-serialised object or array."""
        value = self._raw(name)
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                raise bad_request(f"can't parse {name} JSON object") from None
        if value is not None and not isinstance(value, kind):
            raise bad_request(f"can't parse {name}: unexpected type")
        return value

    def upload(self, name: str) -> Upload | str | None:
        """The attached file, or the file_id given instead of one."""
        self.read.add(name)
        if name in self.files:
            return self.files[name]
        value = self.text(name)
        if value is not None and value.startswith("attach://"):
            key = value.removeprefix("attach://")
            self.read.add(key)
            if key not in self.files:
                raise bad_request("there is no file attached under that name")
            return self.files[key]
        return value

    def refuse_unknown(self) -> None:
        """The real API ignores what it does not know; here a misspelt parameter is a mistake worth a
        failure.
        """
        unknown = (set(self.values) | set(self.files)) - self.read
        if unknown:
            raise bad_request(f"this server knows no parameter {sorted(unknown)}")


def units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


class _Html(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.visible: list[str] = []
        self.entities: list[dict[str, Any]] = []
        self.open: list[tuple[str, int]] = []

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _TAGS:
            raise bad_request(f'can\'t parse entities: Unsupported start tag "{tag}" at byte offset 0')
        self.open.append((tag, units("".join(self.visible))))

    @override
    def handle_endtag(self, tag: str) -> None:
        if not self.open:
            raise bad_request("can't parse entities: Unexpected end tag at byte offset 0")
        opened, start = self.open.pop()
        if opened != tag:
            raise bad_request(
                f'can\'t parse entities: Unmatched end tag, expected "</{opened}>", found "</{tag}>"'
            )
        length = units("".join(self.visible)) - start
        if length:
            self.entities.append({"type": _ENTITY.get(tag, tag), "offset": start, "length": length})

    @override
    def handle_data(self, data: str) -> None:
        self.visible.append(data)


_ENTITY = {
    "b": "bold", "strong": "bold", "i": "italic", "em": "italic", "u": "underline", "ins": "underline",
    "s": "strikethrough", "strike": "strikethrough", "del": "strikethrough", "a": "text_link",
    "tg-spoiler": "spoiler",
}  # fmt: skip


def formatted(params: Params, name: str, limit: int) -> tuple[str, list[dict[str, Any]]]:
    """Visible text and entities of `text` or `caption`, checked for length. Empty if absent."""
    text = params.text(name) or ""
    mode = params.text("parse_mode")
    entities = params.parsed("entities" if name == "text" else "caption_entities", list) or []
    if mode not in {None, "", "HTML"}:
        raise bad_request("unsupported parse_mode")
    if mode == "HTML":
        parser = _Html()
        parser.feed(text)
        parser.close()
        if parser.open:
            raise bad_request(
                f"can't parse entities: Can't find end tag corresponding to \"{parser.open[-1][0]}\""
            )
        text, entities = "".join(parser.visible), parser.entities
    text = text.strip()
    for entity in entities:
        if not isinstance(entity, dict) or not all(
            isinstance(entity.get(k), int) for k in ("offset", "length")
        ):
            raise bad_request("can't parse MessageEntity")
    if units(text) > limit:
        raise bad_request("message is too long" if name == "text" else "message caption is too long")
    return text, entities


def keyboard(params: Params, *, private: bool) -> dict[str, Any] | None:
    """A valid reply_markup, or None."""
    markup = params.parsed("reply_markup", dict)
    if markup is None:
        return None
    rows = markup.get("inline_keyboard", markup.get("keyboard"))
    if rows is None:
        if markup.get("remove_keyboard") is True or markup.get("force_reply") is True:
            return dict(markup)
        raise bad_request("object expected as reply markup")
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise bad_request("field of type Array of Array expected in the keyboard")
    for button in (button for row in rows for button in row):
        if (
            not isinstance(button, dict)
            or not isinstance(button.get("text"), str)
            or not button["text"].strip()
        ):
            raise bad_request("text buttons are unallowed in the inline keyboard")
        if "inline_keyboard" in markup:
            _inline_button(button)
        elif button.get("request_contact") and not private:
            raise bad_request("phone number can be requested in private chats only")
    return dict(markup)


def _inline_button(button: dict[str, Any]) -> None:
    actions = [name for name in _BUTTON_ACTIONS if name in button]
    if len(actions) != 1:
        raise bad_request("text buttons are unallowed in the inline keyboard")
    if actions == ["callback_data"]:
        data = button["callback_data"]
        if not isinstance(data, str) or not 1 <= len(data.encode()) <= MAX_CALLBACK_BYTES:
            raise bad_request("BUTTON_DATA_INVALID")
    if actions == ["url"] and not str(button["url"]).startswith(("http://", "https://", "tg://")):
        raise bad_request("BUTTON_URL_INVALID")


def check_photo(upload: Upload) -> None:
    if len(upload.content) > MAX_PHOTO:
        raise bad_request("file is too big")
    webp = upload.content[:4] == b"RIFF" and upload.content[8:12] == b"WEBP"
    if not upload.content.startswith(_IMAGE_STARTS) and not webp:
        raise bad_request("IMAGE_PROCESS_FAILED")


def check_upload(upload: Upload) -> None:
    if len(upload.content) > MAX_UPLOAD:
        raise RefusalError(413, "Request Entity Too Large")
    if not upload.content:
        raise bad_request("file must be non-empty")
