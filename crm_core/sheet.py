"""Rows for spreadsheets: CSV that opens the same everywhere and runs nothing.

Owns the writing of cells: RFC 4180, UTF-8, a header line, and no cell that a spreadsheet takes for a formula
(https://owasp.org/www-community/attacks/CSV_Injection). Local times name their offset; the header names the zone.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

CONTENT_TYPE = "text/csv"
#: first characters that make a cell a formula, in plain and in full width
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

Cell = str | int | float | bool | None


def lines(rows: Iterable[Sequence[Cell]]) -> str:
    """CSV text of rows, each ended by CR LF."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    for row in rows:
        writer.writerow([_cell(cell) for cell in row])
    return out.getvalue()


def _cell(cell: Cell) -> str | int | float:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        return round(cell, 4)
    if isinstance(cell, str):
        # NUL breaks readers; the apostrophe makes a text of what would be a formula.
        clean = cell.replace("\x00", "")
        return f"'{clean}" if clean.lstrip(" ").startswith(_FORMULA) else clean
    return cell


def local(ms: int | None, zone: ZoneInfo) -> str | None:
    """2025-06-02 10:00:00.000+03:00, or None."""
    if ms is None:
        return None
    moment = datetime.fromtimestamp(ms / 1000, UTC).astimezone(zone)
    return moment.isoformat(sep=" ", timespec="milliseconds")


def seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000
