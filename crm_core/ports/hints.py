"""Wake-up calls between parts and processes. A hint may be lost at any time: the truth is always a table."""

from collections.abc import Callable
from typing import Protocol

#: topics
JOBS = "jobs"  # rows in job became due
EVENTS = "events"  # rows in event were committed
EPHEMERAL = "ephemeral"  # typing and the like; carries a payload, is never stored


class Hints(Protocol):
    def publish(self, topic: str, payload: str = "") -> None:
        """Tell all subscribers of all processes; never blocks, never raises."""
        ...

    def subscribe(self, topic: str, callback: Callable[[str], None]) -> Callable[[], None]:
        """Call back (in this process' loop) on each hint. Returns a function that ends it."""
        ...

    async def start(self) -> None: ...
    async def close(self) -> None: ...
