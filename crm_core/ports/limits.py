"""How often something may happen. State may vanish; then the limit starts anew."""

from typing import Protocol


class RateLimiter(Protocol):
    async def take(self, key: str, *, per_s: float, burst: int, now: int) -> float:
        """Take one unit of `key`, refilled at `per_s` a second up to `burst`. Returns 0.0, or the seconds to wait
        (then nothing was taken).
        """
        ...
