"""What the sections of a file of known answers share: how values compare, how vectors are called, which fields exist.

Knows nothing of what is computed.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from crm_core.clock import from_iso, to_iso

#: Agreement asked of computed values: the file gives 12 to 15 digits.
TOLERANCE = 1e-9
#: Words about a vector, wherever they stand in it; they change no answer.
PROSE = frozenset(
    {"note", "notes", "comment", "description", "title", "basis", "source", "stated_by_source"}
    | {"ref", "reference", "remark", "why", "origin", "url", "tags"}
)

Pair = tuple[Any, Any]
"""(expected, got); equal when the vector passes."""


def names(items: Sequence[Any]) -> list[str]:
    """What each vector is called in a report: its id, with its number where it has none or shares it."""
    found: dict[str, None] = {}
    for i, item in enumerate(items, 1):
        named = isinstance(item, Mapping) and item.get("id") is not None
        # Half a surrogate pair is legal JSON, but nothing that can be printed.
        name = str(item["id"]).encode(errors="backslashreplace").decode() if named else f"#{i}"
        found[name if name not in found else f"{name} (#{i})"] = None
    return list(found)


def known_fields(item: Mapping[str, Any], known: Iterable[str], where: str = "") -> None:
    """Raises ValueError for a field that nobody here reads: it may change the answer, so the vector did not pass.

    Words about the vector are read by nobody and allowed.
    """
    for name in sorted(str(key) for key in set(item) - {*known, *PROSE}):
        raise ValueError(f"{where}{name}: unknown field")


def same(expected: Any, got: Any) -> bool:
    if isinstance(expected, Mapping):
        return isinstance(got, Mapping) and all(
            key in got and same(expected[key], got[key]) for key in expected
        )
    if isinstance(expected, list | tuple):
        same_length = isinstance(got, list | tuple) and len(got) == len(expected)
        return same_length and all(same(a, b) for a, b in zip(expected, got, strict=True))
    if isinstance(expected, float) and isinstance(got, int | float) and not isinstance(got, bool):
        return math.isclose(expected, got, rel_tol=TOLERANCE, abs_tol=1e-12)
    if isinstance(expected, str) and isinstance(got, str):
        return expected == got or (_instant(expected) is not None and _instant(expected) == _instant(got))
    return bool(expected == got)


def _instant(text: str) -> int | None:
    try:
        return from_iso(text)
    except ValueError:
        return None


def iso(ms: int | None) -> str | None:
    if ms is None:
        return None
    return to_iso(ms).replace(".000Z", "Z")
