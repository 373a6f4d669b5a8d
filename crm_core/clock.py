"""Time as the product sees it: integer milliseconds since the epoch, UTC.

Every instant is stored, compared and passed around in this one form (ADR 0002); ISO 8601 appears at the
edges only. Code never asks the operating system for the time, it asks a Clock, so a test or a demo can move it.
"""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class Clock(Protocol):
    def now_ms(self) -> int:
        """The present instant, milliseconds since the epoch, UTC."""
        ...


class SystemClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


class FileClock:
    """The system's time plus an offset in milliseconds kept in a file, shared by several processes.

    A missing or unreadable file means no offset. Used by tests of many processes and by the demo's time travel.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: int | None = None
        self._offset_ms = 0

    def now_ms(self) -> int:
        try:
            stamp = self._path.stat().st_mtime_ns
            if stamp != self._stamp:
                self._offset_ms = int(self._path.read_text().strip() or "0")
                self._stamp = stamp
        except (OSError, ValueError):
            self._offset_ms = 0
        return time.time_ns() // 1_000_000 + self._offset_ms


def to_iso(ms: int) -> str:
    """`2025-06-02T07:00:00.000Z`."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_iso(text: str) -> int:
    """Milliseconds of an ISO 8601 instant. Raises ValueError if it is malformed or carries no offset."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"instant without a UTC offset: {text!r}")
    return round(moment.timestamp() * 1000)
