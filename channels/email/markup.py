"""HTML of a mail: made harmless for showing, and read as text with its quoted part told apart.

Bounded: size and nesting are checked first, because nh3's cost grows with the square of the nesting depth
(200,000 open `div`s take it more than a minute).
"""

import re
from dataclasses import dataclass
from html import unescape
from html.parser import HTMLParser

import nh3
from typing_extensions import override

MAX_HTML = 2_000_000  # characters
MAX_DEPTH = 1_000
MAX_AMPERSANDS = 100_000
MAX_ATTRIBUTES = 2_000  # of one tag

#: elements that HTML closes by itself or that hold nothing: they do not nest
_FLAT = frozenset(
    [
        "p",
        "li",
        "td",
        "th",
        "tr",
        "dt",
        "dd",
        "br",
        "img",
        "hr",
        "input",
        "meta",
        "link",
        "area",
        "base",
        "col",
        "wbr",
        "option",
        "source",
        "embed",
        "param",
    ]
)
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
_BETWEEN_ATTRIBUTES = re.compile(r"[\s/]+")
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
_ANY_TAG = re.compile(r"<[^<>]{0,4000}>")
_IMAGE_DATA = re.compile(r"data:image/(png|gif|jpe?g|webp);base64,", re.IGNORECASE)

_ATTRIBUTES: dict[str, set[str]] = {tag: set(names) for tag, names in nh3.ALLOWED_ATTRIBUTES.items()}
_SHOWN = {**_ATTRIBUTES, "*": {"dir", "title", "lang"}}
_READ = {**_ATTRIBUTES, "*": {"class", "id", "type"}}

_QUOTE_CLASSES = ("gmail_quote", "yahoo_quoted", "moz-cite-prefix", "protonmail_quote", "mailru-blockquote",
                  "js-helper", "zmail_extra", "outlookmessageheader")  # fmt: skip
_QUOTE_IDS = ("divrplyfwdmsg", "appendonsend", "mail-editor-reference-message-container", "reply-intro",
              "yahoo_quoted", "olk_src_body_section")  # fmt: skip
_BLOCKS = frozenset(
    [
        "p",
        "div",
        "blockquote",
        "ul",
        "ol",
        "li",
        "table",
        "tr",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "pre",
        "hr",
        "section",
        "article",
        "header",
        "footer",
    ]
)
_PARAGRAPHS = frozenset(["p", "blockquote", "table", "pre", "ul", "ol", "h1", "h2", "h3", "h4", "h5", "h6"])


@dataclass(frozen=True, slots=True)
class HtmlText:
    text: str
    quoted: str | None


def too_heavy(html: str) -> bool:
    """True if it is larger or deeper than this module reads, or made to be slow: nh3's cost also grows with
    the square of the number of ampersands and of the attributes of one tag.
    """
    if len(html) > MAX_HTML or html.count("&") > MAX_AMPERSANDS:
        return True
    for piece in html.split("<"):
        tag = piece.partition(">")[0]
        if (
            len(tag) > MAX_ATTRIBUTES
            and len(_BETWEEN_ATTRIBUTES.split(_QUOTED.sub("", tag))) > MAX_ATTRIBUTES
        ):
            return True
    depth = 0
    for match in _TAG.finditer(html):
        if match[2].lower() not in _FLAT:
            depth += -1 if match[1] else 1
            if depth > MAX_DEPTH:
                return True
            depth = max(depth, 0)
    return False


def sanitise(html: str) -> str:
    """HTML safe to put in a sandboxed frame: no scripts, styles, forms or frames; images only by `cid:` or
    inline data, so that opening a mail tells its sender nothing. Call only if not `too_heavy`.
    """
    return nh3.clean(
        html,
        attributes=_SHOWN,
        attribute_filter=_without_remote,
        link_rel="noopener noreferrer nofollow",
        url_schemes={"http", "https", "mailto", "tel", "cid", "data"},
        url_relative="deny",
    )


def read_html(html: str) -> HtmlText:
    """Visible text, and apart from it what reply markers of the usual mail programs enclose or precede."""
    reader = _Reader()
    # nh3 first: it turns tag soup into well-formed HTML, on which the slow spots of html.parser cannot be
    # hit.
    reader.feed(
        nh3.clean(
            html, attributes=_READ, attribute_filter=_for_reading, url_schemes={"http", "https", "mailto"}
        )
    )
    reader.close()
    text, quoted = tidy("".join(reader.visible)), tidy("".join(reader.quoted))
    return HtmlText(text, quoted or None)


def strip_tags(html: str) -> str:
    """Crude text of HTML that is too heavy to parse."""
    return tidy(unescape(_ANY_TAG.sub(" ", html[:MAX_HTML])))


def tidy(text: str) -> str:
    """No trailing blanks, at most one empty line in a row."""
    lines = [" ".join(line.replace("\xa0", " ").split()) for line in text.split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _without_remote(tag: str, attribute: str, value: str) -> str | None:
    if attribute in ("src", "background", "cite", "longdesc"):
        inline = value.lower().startswith("cid:") or (tag == "img" and _IMAGE_DATA.match(value))
        return value if inline else None
    if attribute == "href" and value.lower().lstrip().startswith(("data:", "cid:")):
        return None
    return value


def _for_reading(_tag: str, attribute: str, value: str) -> str | None:
    return None if attribute in ("src", "cite") else value


class _Reader(HTMLParser):
    """Collects text into `visible` until a quote marker, then into `quoted`; after an enclosing marker's end
    it returns to `visible`, so an answer under or between quotes is not lost.
    """

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.visible: list[str] = []
        self.quoted: list[str] = []
        self._open: list[str] = []
        self._quote_depth: int | None = None  # how many elements were open where the quote began
        self._rest_is_quote = False
        self._link: str | None = None
        self._link_text: list[str] = []

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: (value or "").lower() for name, value in attrs}
        if tag == "br":
            self._put("\n")
            return
        if tag in ("img", "wbr", "col", "area"):
            return
        if not self._quoting:
            self._begin_quote(tag, values)
        if tag in _BLOCKS:
            self._break("\n\n" if tag in _PARAGRAPHS else "\n")
        if tag == "li":
            self._put("- ")
        if tag in ("td", "th"):
            self._put(" ")
        if tag == "hr":
            return
        if tag == "a":
            self._link, self._link_text = dict(attrs).get("href") or "", []
        self._open.append(tag)

    @override
    def handle_endtag(self, tag: str) -> None:
        if tag == "a" and self._link is not None:
            target, label = self._link, " ".join("".join(self._link_text).split())
            self._link = None
            bare = target.removeprefix("mailto:").removeprefix("https://").removeprefix("http://").rstrip("/")
            if target and bare and bare not in label:
                self._put(f" <{target}>")
        if tag not in self._open:
            return
        while self._open:
            top = self._open.pop()
            if self._quote_depth is not None and len(self._open) <= self._quote_depth:
                self._quote_depth = None
            if top == tag:
                break
        if tag in _BLOCKS:
            self._break("\n")

    @override
    def handle_data(self, data: str) -> None:
        if self._link is not None:
            self._link_text.append(data)
        if "pre" not in self._open:
            data = re.sub(r"[ \t\r\n\f]+", " ", data)
        self._put(data)

    @property
    def _quoting(self) -> bool:
        return self._rest_is_quote or self._quote_depth is not None

    def _put(self, text: str) -> None:
        (self.quoted if self._quoting else self.visible).append(text)

    def _break(self, newlines: str) -> None:
        """At least these newlines, counting those that are there."""
        out = self.quoted if self._quoting else self.visible
        tail = "".join(out[-4:]).rstrip(" ")
        self._put(newlines[len(tail) - len(tail.rstrip("\n")) :])

    def _begin_quote(self, tag: str, values: dict[str, str]) -> None:
        classes, element_id = values.get("class", "").split(), values.get("id", "")
        if any(name.endswith(("divrplyfwdmsg", "appendonsend")) for name in (element_id,)):
            # Outlook marks the beginning of the quoted mail, not its extent.
            self._rest_is_quote = True
        elif (
            any(name.startswith(_QUOTE_CLASSES) for name in classes)
            or element_id.startswith(_QUOTE_IDS)
            or (tag == "blockquote" and (values.get("type") == "cite" or "cite" in classes))
        ):
            self._quote_depth = len(self._open)
