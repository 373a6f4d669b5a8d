"""Full-text search, the same on both databases: one normaliser writes `search_text`, the database indexes it.

Postgres indexes `to_tsvector('simple', search_text)`; SQLite keeps an FTS5 table `fts_<table>` beside it, fed by
triggers (both made by migrations). Words match by prefix, all words must be there.
"""

import re
import unicodedata
from collections.abc import Iterable

from sqlalchemy import ColumnElement, Table, column, func, literal, select, table, text

_APOSTROPHES = str.maketrans("", "", "'’ʼ`´")
_WORD = re.compile(r"[\w@.+-]+", re.UNICODE)
_MAX_CHARS = 8_000
_MAX_TERMS = 12


def normalize(parts: Iterable[str | None]) -> str:
    """Fold case, ё/е, й/и marks, apostrophes; keep words and addresses apart by single spaces; at most 8,000
    characters. Idempotent.
    """
    joined = " ".join(p for p in parts if p)[: _MAX_CHARS * 2]
    folded = unicodedata.normalize("NFKD", joined.casefold().translate(_APOSTROPHES))
    plain = "".join(ch for ch in folded if not unicodedata.combining(ch))
    words: list[str] = []
    for match in _WORD.findall(plain):
        word = match.strip(".-+")
        if not word:
            continue
        words.append(word)
        # An address is also found by its pieces, a phone by its digits.
        pieces = [p for p in re.split(r"[@.+-]", word) if p]
        if len(pieces) > 1:
            words.extend(pieces)
    return " ".join(words)[:_MAX_CHARS]


def terms(query: str) -> list[str]:
    """What a person typed, as at most 12 normalised words."""
    plain = normalize([query])
    words = [re.sub(r"[^\w]", "", w) for piece in plain.split() for w in re.split(r"[@.+-]", piece)]
    return [w for w in dict.fromkeys(words) if w][:_MAX_TERMS]


def matches(dialect: str, target: Table, query: str) -> ColumnElement[bool]:
    """A condition on `target` (a table with `id` and `search_text`). No usable word in the query matches nothing."""
    words = terms(query)
    if not words:
        return text("1 = 0")  # type: ignore[return-value]
    if dialect == "postgresql":
        wanted = " & ".join(f"{w}:*" for w in words)
        vector = func.to_tsvector(text("'simple'"), target.c.search_text)
        return vector.op("@@", return_type=None)(func.to_tsquery(text("'simple'"), wanted))
    name = f"fts_{target.name}"
    fts = table(name, column("rowid"))
    phrase = " ".join(f'"{w}"*' for w in words)
    return target.c.id.in_(
        select(fts.c.rowid).where(
            literal(0) == 0, text(f"{name} MATCH :fts_phrase").bindparams(fts_phrase=phrase)
        )
    )
