"""Cutting and formatting text by Telegram's rules."""

import html
import re
from html.parser import HTMLParser
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from channels.telegram.text import entities_to_html, split_text, telegram_html, utf16_units
from switchboard.demo.fake_telegram_rules import Params, formatted


@given(st.text(max_size=400), st.integers(4, 60))
def test_parts_fit_and_lose_only_whitespace(text: str, limit: int) -> None:
    parts = split_text(text, limit)
    assert all(0 < utf16_units(part) <= limit for part in parts)
    assert re.sub(r"\s", "", "".join(parts)) == re.sub(r"\s", "", text)


def test_words_and_sentences_are_kept_whole() -> None:
    assert split_text("one two three four", 9) == ["one two", "three", "four"]
    assert split_text("First one. Second one.", 15) == ["First one.", "Second one."]
    assert split_text("abcdefgh ijkl", 8) == ["abcdefgh", "ijkl"]


def test_an_emoji_is_never_cut_in_two() -> None:
    family = "👨\u200d👩\u200d👧"
    assert split_text("x" * 6 + family, 10) == ["x" * 6, family]
    assert split_text("👍🏽" * 3, 5) == ["👍🏽", "👍🏽", "👍🏽"]


class _Balanced(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


ENTITY = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["bold", "italic", "code", "pre", "blockquote", "text_link", "url", "zzz"]),
        "offset": st.integers(-3, 30),
        "length": st.integers(-3, 30),
    },
    optional={"url": st.sampled_from(["https://e.com/?a=1&b=\"'<", "javascript:alert(1)"])},
)


@given(st.text(alphabet="ab<>&\"'😀", max_size=20), st.lists(ENTITY, max_size=8))
def test_entities_make_balanced_html_that_says_the_text(text: str, entities: list[dict[str, Any]]) -> None:
    rendered = entities_to_html(text, entities)
    if rendered is None:
        return
    parser = _Balanced()
    parser.feed(rendered)
    parser.close()
    assert parser.open == []
    assert "javascript:" not in rendered
    if not any(e["offset"] % 1 for e in entities) and "😀" not in text:
        assert html.unescape(re.sub(r"<[^>]*>", "", rendered)) == text


def test_nested_and_overlapping_entities() -> None:
    entities = [
        {"type": "bold", "offset": 0, "length": 4},
        {"type": "italic", "offset": 2, "length": 4},
        {"type": "code", "offset": 8, "length": 99},
    ]
    assert entities_to_html("abcdefghij", entities) == "<b>ab<i>cd</i></b>efgh<code>ij</code>"
    assert entities_to_html("abc", [{"type": "mention", "offset": 0, "length": 2}]) is None
    assert entities_to_html("abc", "nonsense") is None


@given(st.text(alphabet='<>/abipsu="&; \nhref', max_size=80))
def test_whatever_html_comes_the_server_accepts_ours(source: str) -> None:
    ours, visible = telegram_html(source)
    text, _ = formatted(Params({"text": ours, "parse_mode": "HTML"}), "text", 4096)
    assert text == visible


def test_html_of_an_editor_becomes_telegrams() -> None:
    source = "<div><h2>Тема</h2><p>Раз<br>два</p><blockquote>цит <b>a<b>b</b></b></blockquote><span>кінець</span></div>"
    ours, visible = telegram_html(source)
    assert visible == "Тема\nРаз\nдва\nцит ab\nкінець"
    assert "<b>Тема</b>" in ours
    assert "<span>" not in ours
