"""Telegram's idea of text: lengths in UTF-16 units, entities, its small HTML; and cutting long messages.

Pure functions. Limits: https://core.telegram.org/bots/api#sendmessage, formatting: …#html-style
"""

import html
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Any

from typing_extensions import override

from channels.telegram.updates import integer, mapping

MAX_TEXT_UNITS = 4096
MAX_CAPTION_UNITS = 1024
_MAX_ENTITIES = 300

_ENTITY_TAGS = {
    "bold": ("<b>", "</b>"),
    "italic": ("<i>", "</i>"),
    "underline": ("<u>", "</u>"),
    "strikethrough": ("<s>", "</s>"),
    "code": ("<code>", "</code>"),
    "pre": ("<pre>", "</pre>"),
    "blockquote": ("<blockquote>", "</blockquote>"),
    "expandable_blockquote": ("<blockquote>", "</blockquote>"),
}

#: Where a long text may be cut, best first.
_BREAKS = (re.compile(r"\n\s*\n"), re.compile(r"\n"), re.compile(r"(?<=[.!?…。])\s+"), re.compile(r"\s+"))

_SAME_TAG = {"strong": "b", "em": "i", "ins": "u", "strike": "s", "del": "s"}
_ALLOWED = frozenset({"b", "i", "u", "s", "code", "pre", "a", "blockquote", "tg-spoiler"})
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_BLOCKS = _HEADINGS | {"p", "div", "ul", "ol", "table", "tr", "section", "article", "blockquote", "pre"}
_INVISIBLE = frozenset({"script", "style", "head", "title", "template", "noscript"})
_LINK = re.compile(r"(?i)^(?:https?://|mailto:|tel:|tg://)")


def utf16_units(text: str) -> int:
    """Length as Telegram counts it: an emoji outside the basic plane counts two."""
    return len(text) + sum(1 for char in text if ord(char) > 0xFFFF)


def split_text(text: str, limit: int = MAX_TEXT_UNITS) -> list[str]:
    """Parts of at most `limit` UTF-16 units, cut at a paragraph, line, sentence or word where one is near.

    Nothing but whitespace at the cuts is lost, so the parts are the same on every try.
    """
    parts: list[str] = []
    rest = text.strip()
    while utf16_units(rest) > limit:
        end, after = _best_break(rest, _prefix_within(rest, limit))
        parts.append(rest[:end].rstrip())
        rest = rest[after:].lstrip()
    if rest:
        parts.append(rest)
    return [part for part in parts if part]


def _prefix_within(text: str, limit: int) -> int:
    """How many code points of `text` fit in `limit` units."""
    used = 0
    for index, char in enumerate(text):
        used += 2 if ord(char) > 0xFFFF else 1
        if used > limit:
            return index
    return len(text)


def _best_break(whole: str, cut: int) -> tuple[int, int]:
    """(end of this part, start of the next) for a text of which `cut` characters fit, `cut` < its length."""
    window = whole[: cut + 1]  # one more: the text may fit exactly up to a space
    # A break in the first half would waste a message, so it is taken only if there is no later one of any
    # sort.
    for least in (cut // 2, 1):
        for pattern in _BREAKS:
            found = [match for match in pattern.finditer(window) if least <= match.start() <= cut]
            if found:
                return found[-1].start(), found[-1].end()
    end = cut
    # Never between a letter and what is drawn on it, nor inside a joined emoji.
    while end > 1 and (_joins(whole[end]) or whole[end - 1] == "\u200d"):
        end -= 1
    end = end if end > 1 else cut
    return end, end


def _joins(char: str) -> bool:
    return char in "\u200d\ufe0f" or "\u0300" <= char <= "\u036f" or "\U0001f3fb" <= char <= "\U0001f3ff"


def entities_to_html(text: str, entities: Any) -> str | None:
    """`text` as safe HTML with Telegram's formatting, or None if there is no formatting worth it.

    Offsets are UTF-16 units and come from outside: anything that does not fit is clipped or ignored.
    """
    if not isinstance(entities, list) or not text:
        return None
    units = text.encode("utf-16-le", "surrogatepass")
    total = len(units) // 2
    spans: list[tuple[int, int, str, str]] = []
    for raw in entities[:_MAX_ENTITIES]:
        entity = mapping(raw)
        offset, length = integer(entity.get("offset")), integer(entity.get("length"))
        tags = _tags_of(entity)
        if offset is None or length is None or tags is None or offset < 0 or length <= 0 or offset >= total:
            continue
        spans.append((offset, min(offset + length, total), *tags))
    if not spans:
        return None
    spans.sort(key=lambda span: (span[0], -span[1]))
    return _render(units, 0, total, spans)


def _tags_of(entity: dict[str, Any]) -> tuple[str, str] | None:
    kind = entity.get("type")
    if not isinstance(kind, str):
        return None
    if kind == "text_link":
        url = entity.get("url")
        if isinstance(url, str) and re.match(r"(?i)^https?://", url):
            return f'<a href="{html.escape(url)}">', "</a>"
        return None
    return _ENTITY_TAGS.get(kind)


def _render(units: bytes, low: int, high: int, spans: Sequence[tuple[int, int, str, str]]) -> str:
    out: list[str] = []
    position = low
    index = 0
    while index < len(spans):
        start, end, opening, closing = spans[index]
        start, end = max(start, position), min(end, high)
        inner: list[tuple[int, int, str, str]] = []
        index += 1
        while index < len(spans) and spans[index][0] < end:
            inner.append(spans[index])
            index += 1
        if start >= end:
            continue
        out.append(_escaped(units, position, start))
        out.append(opening + _render(units, start, end, inner) + closing)
        position = end
    out.append(_escaped(units, position, high))
    return "".join(out)


def _escaped(units: bytes, low: int, high: int) -> str:
    # An offset inside a surrogate pair would cut an emoji in two; the halves become replacement characters.
    return html.escape(units[low * 2 : high * 2].decode("utf-16-le", "replace"), quote=False)


class _TelegramHtml(HTMLParser):
    """Rewrites any HTML into the few tags Telegram takes; always balanced, everything else escaped or
    unwrapped.
    """

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.out: list[str] = []
        self.visible: list[str] = []
        self._open: list[str] = []
        self._hidden = 0

    def _text(self, text: str) -> None:
        self.visible.append(text)
        self.out.append(html.escape(text, quote=False))

    def _newline(self) -> None:
        if self.visible and not "".join(self.visible[-2:]).endswith("\n"):
            self._text("\n")

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _INVISIBLE:
            self._hidden += 1
            return
        if self._hidden:
            return
        if tag == "br":
            self._text("\n")
            return
        if tag == "li":
            self._newline()
            self._text("• ")
            return
        if tag in _BLOCKS:
            self._newline()
        name = "b" if tag in _HEADINGS else _SAME_TAG.get(tag, tag)
        opening = f"<{name}>"
        if name == "a":
            href = dict(attrs).get("href") or ""
            if not _LINK.match(href):
                return
            opening = f'<a href="{html.escape(href)}">'
        if name not in _ALLOWED or name in self._open or "code" in self._open or "pre" in self._open:
            return
        self._open.append(name)
        self.out.append(opening)

    @override
    def handle_endtag(self, tag: str) -> None:
        if tag in _INVISIBLE:
            self._hidden = max(0, self._hidden - 1)
            return
        if self._hidden:
            return
        name = "b" if tag in _HEADINGS else _SAME_TAG.get(tag, tag)
        if name in self._open:
            while self._open:
                last = self._open.pop()
                self.out.append(f"</{last}>")
                if last == name:
                    break
        if tag in _BLOCKS:
            self._newline()

    @override
    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self._text(data if "pre" in self._open else re.sub(r"[ \t\r\n]+", " ", data))

    def finish(self) -> tuple[str, str]:
        self.close()
        while self._open:
            self.out.append(f"</{self._open.pop()}>")
        return "".join(self.out).strip(), "".join(self.visible).strip()


def telegram_html(source: str) -> tuple[str, str]:
    """(HTML that Telegram accepts, the text a reader sees of it), from any HTML."""
    parser = _TelegramHtml()
    parser.feed(source)
    return parser.finish()
