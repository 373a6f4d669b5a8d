"""Waiting for something to become true in other processes. Never for a length of time."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

#: how long a condition may take on a machine that is badly overloaded, in real seconds
PATIENCE_S = 60.0
_LOOK_EVERY_S = 0.05


async def until(condition: Callable[[], Any], what: str, *, patience_s: float = PATIENCE_S) -> Any:
    """The first true value of `condition`, a function or a coroutine function.

    Raises AssertionError naming `what` and the last value.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_s
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if loop.time() > deadline:
            raise AssertionError(f"{what}: still {value!r} after {patience_s:.0f} s")
        await asyncio.sleep(_LOOK_EVERY_S)
