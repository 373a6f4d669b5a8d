"""Where the new text of an answer ends and the quoted old text begins, in plain text.

Nothing is deleted: the caller gets both parts. When in doubt nothing is cut, and if nothing would remain,
everything is shown. The words of each language are data in `languages`.
"""

import re
from dataclasses import dataclass

from channels.email.languages import WORDS

_MAX_LINES = 20_000
_WRAP = 4  # lines over which a line like "On … wrote:" may be wrapped
_SIGNATURE_LINES = 12


def _any_of(words: list[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


_WROTE = re.compile(
    rf"(?:^|[\s>\])])(?:{_any_of([w for row in WORDS for w in row.wrote])})\s*$", re.IGNORECASE
)
_LEAD_IN = tuple(word for row in WORDS for word in row.lead_in)
_DATE = re.compile(
    r"\b\d{1,2}[./-]\d{1,2}[./-]\d{2,4}\b|\b\d{4}-\d{2}-\d{2}\b|\b\d{1,2}\.? [^\W\d]{3,12}\.?,? \d{4}\b"
    r"|\b[^\W\d]{3,12}\.? \d{1,2},? \d{4}\b"
)
_TIME = re.compile(r"\b\d{1,2}[:.]\d{2}\b")
# Begins only where a word begins: from every character on, it would cost the square of a long line.
_ADDRESS = re.compile(r"(?<![^\s<>@])[^\s<>@]+@[^\s<>@]+\.[^\s<>@]+")
# Runs are possessive (`*+`): where two of them may share the same blanks, giving back would cost the square of their
# number, and a mail of 100,000 spaces would stop the process for minutes.
_ORIGINAL = _any_of([word for row in WORDS for word in row.original])
_SEPARATOR = re.compile(
    rf"^[\s>]*+[-_*=—–]{{2,}}+\s*+(?:{_ORIGINAL})\s*+[-_*=—–]{{2,}}+\s*+$",
    re.IGNORECASE,
)
_FORWARD = re.compile(
    rf"^[\s>]*+[-_*=—–]*+\s*+(?:{_any_of([w for row in WORDS for w in row.forwarded])})\b.*$",
    re.IGNORECASE | re.MULTILINE,
)
_FORWARD_SUBJECT = re.compile(
    rf"^\s*(?:{_any_of([w for row in WORDS for w in row.forward_prefix])})", re.IGNORECASE
)  # fmt: skip
_SENT_FROM = re.compile(rf"^\s*+(?:{_any_of([w for row in WORDS for w in row.sent_from])})\b", re.IGNORECASE)
_RULE = re.compile(r"^\s*+[-_—–=]{5,}+\s*+$")
_MARKER = re.compile(rf"{_any_of([row.reply_above for row in WORDS])}|##- .{{5,80}} -##", re.IGNORECASE)


def _header_name(kind: str) -> re.Pattern[str]:
    names = _any_of([word for row in WORDS for word in getattr(row, f"headers_{kind}")])
    return re.compile(rf"^\s*+\**+\s*+(?:{names})\s*+:\**+\s*+\S", re.IGNORECASE)


_HEADER_NAMES = {
    kind: _header_name(kind)
    for kind in ("from", "date", "to", "subject")
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Split:
    text: str
    quoted: str | None


def is_forward(subject: str, text: str) -> bool:
    """A forwarded mail: what looks like a quote is its content."""
    if _FORWARD_SUBJECT.match(subject):
        return True
    head = "\n".join(text.split("\n", 60)[:60])
    match = _FORWARD.search(head)
    # A forward quoted inside an answer stands below the answer's own attribution line.
    return match is not None and not any(
        _attribution(head[: match.start()].split("\n"), at) for at in range(60)
    )


def split_quotes(text: str, *, subject: str = "") -> Split:
    """New and quoted part of a plain text body."""
    if is_forward(subject, text):
        return Split(text.strip(), None)
    lines = text.split("\n", _MAX_LINES)
    new, quoted = _cut(lines)
    new, tail = _cut_signature(new)
    quoted = tail + quoted
    shown = "\n".join(new).strip()
    if not shown:
        return Split(text.strip(), None)
    hidden = "\n".join(quoted).strip("\n")
    return Split(shown, hidden if hidden.strip() else None)


def _cut(lines: list[str]) -> tuple[list[str], list[str]]:
    for at, line in enumerate(lines):
        if _MARKER.search(line):
            # Our own marker stands on top of our mail: only its "On … wrote:" can come before it.
            begin = _back_to_attribution(lines, at)
            return lines[:begin], lines[begin:]
        if _SEPARATOR.match(line) or _header_block(lines, at):
            begin = at - 1 if at and _RULE.match(lines[at - 1]) else at
            return lines[:begin], lines[begin:]
        width = _attribution(lines, at)
        if width:
            return _cut_after_attribution(lines, at, at + width)
    return _cut_trailing_quote(lines)


def _cut_after_attribution(lines: list[str], begin: int, body: int) -> tuple[list[str], list[str]]:
    """Three shapes: answer above the quote; answer below it; answers between quoted lines (kept whole)."""
    rest = lines[body:]
    first = next((i for i, line in enumerate(rest) if line.strip()), None)
    if first is None or not rest[first].lstrip().startswith(">"):
        return lines[:begin], lines[begin:]
    end, last_quoted = first, first
    for i in range(first, len(rest)):
        if rest[i].lstrip().startswith(">"):
            last_quoted = i
    while end < len(rest) and (rest[end].lstrip().startswith(">") or not rest[end].strip()):
        end += 1
    answered_below = any(line.strip() for line in rest[last_quoted + 1 :])
    above = any(line.strip() for line in lines[:begin])
    if not answered_below and end > last_quoted:
        return lines[:begin], lines[begin:]
    if not above and end > last_quoted:
        return rest[end:], lines[begin : body + end]
    if above and not _interleaved(rest, first, last_quoted):
        return lines[:begin], lines[begin:]
    return lines, []


def _interleaved(rest: list[str], first: int, last_quoted: int) -> bool:
    """Own lines between quoted ones, as paragraphs of their own; a lone unquoted line right after a quoted
    one is the quoted line's second half, wrapped by a careless mail program.
    """
    for i in range(first + 1, last_quoted):
        own = rest[i].strip() and not rest[i].lstrip().startswith(">")
        if own and not rest[i - 1].strip():
            return True
    return any(line.strip() for line in rest[last_quoted + 2 :])


def _cut_trailing_quote(lines: list[str]) -> tuple[list[str], list[str]]:
    end = len(lines)
    while end and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith(">")):
        end -= 1
    if any(line.lstrip().startswith(">") for line in lines[end:]):
        return lines[:end], lines[end:]
    return lines, []


def _cut_signature(lines: list[str]) -> tuple[list[str], list[str]]:
    """A signature after `-- `, or a phone's "Sent from my …", at the very end."""
    end = len(lines)
    while end and not lines[end - 1].strip():
        end -= 1
    for at in range(end - 1, max(-1, end - _SIGNATURE_LINES - 1), -1):
        if lines[at] in ("-- ", "--") or (
            at == end - 1 and _SENT_FROM.match(lines[at]) and len(lines[at]) < 100
        ):
            return lines[:at], lines[at:]
    return lines, []


def _attribution(lines: list[str], at: int) -> int:
    """How many lines from `at` form a line that introduces a quote; 0 if none do."""
    if at >= len(lines) or not lines[at].strip() or lines[at].lstrip().startswith(">"):
        return 0
    joined = ""
    for width in range(1, _WRAP + 1):
        if at + width > len(lines) or not lines[at + width - 1].strip():
            return 0
        joined = f"{joined} {lines[at + width - 1].strip()}".strip()
        if len(joined) > 400:
            return 0
        dated, timed, addressed = _DATE.search(joined), _TIME.search(joined), _ADDRESS.search(joined)
        if _WROTE.search(joined) and (
            dated or (addressed and (timed or joined.lower().startswith(_LEAD_IN)))
        ):
            return width
        quote_follows = at + width < len(lines) and _next_is_quoted(lines, at + width)
        if (
            quote_follows
            and joined.endswith(":")
            and (_WROTE.search(joined) or (dated and (timed or addressed)))
        ):
            return width
        if joined.endswith(":") and dated and timed and addressed:
            return width
    return 0


def _next_is_quoted(lines: list[str], at: int) -> bool:
    following = next((line for line in lines[at : at + 3] if line.strip()), "")
    return following.lstrip().startswith(">")


def _header_block(lines: list[str], at: int) -> bool:
    """Outlook's block: a From line, with at least two of date, to and subject in the lines below it."""
    if not _HEADER_NAMES["from"].match(lines[at].lstrip("> ")):
        return False
    below = [line.lstrip("> ") for line in lines[at + 1 : at + 9]]
    return (
        sum(any(_HEADER_NAMES[kind].match(line) for line in below) for kind in ("date", "to", "subject")) >= 2
    )


def _back_to_attribution(lines: list[str], at: int) -> int:
    for begin in range(max(0, at - 8), at):
        if _attribution(lines, begin) or _SEPARATOR.match(lines[begin]) or _header_block(lines, begin):
            return begin
    while at and (not lines[at - 1].strip() or lines[at - 1].strip() == ">" or _RULE.match(lines[at - 1])):
        at -= 1
    return at
