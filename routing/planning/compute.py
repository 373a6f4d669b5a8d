"""Heavy arithmetic away from the event loop: in a process of its own, which ends with the question.

A thread would share the interpreter with everybody's messages; a process does not, and can be stopped.
"""

import asyncio
import multiprocessing
import os
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import structlog

from crm_core.errors import SwitchboardError, Unavailable

log = structlog.get_logger(__name__)
ResultT = TypeVar("ResultT")

_POLL_S = 0.1
#: politeness of the process: customers come first
_NICE = 10


class TookTooLong(Unavailable):
    code = "took_too_long"


class ChildDied(Unavailable):
    """It ended without an answer: out of memory, or killed."""

    code = "planning_failed"


class Refused(SwitchboardError):
    """An error of the caller's that the child found; looks as it looked there."""

    def __init__(self, detail: str, *, code: str, status: int, params: dict[str, Any]) -> None:
        super().__init__(detail, code=code, params=params)
        self.http_status = status


async def in_child(work: Callable[..., ResultT], *args: Any, limit_s: float) -> ResultT:
    """`work(*args)` in a process of its own. Both must be picklable, `work` by its name.

    Raises:
        TookTooLong: it was stopped after `limit_s`. ChildDied. SwitchboardError: one that `work` raised, in form.
    """
    stop = threading.Event()
    attending = asyncio.ensure_future(asyncio.to_thread(_attend, work, args, limit_s, stop))
    try:
        return await asyncio.shield(attending)
    except asyncio.CancelledError:
        # The process must not outlive the question; what it says of being stopped interests nobody.
        stop.set()
        await asyncio.wait([attending])
        attending.exception()
        raise


def _attend(work: Callable[..., Any], args: tuple[Any, ...], limit_s: float, stop: threading.Event) -> Any:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(theirs, work, args), daemon=True)
    process.start()
    theirs.close()
    try:
        waited = 0.0
        while not ours.poll(_POLL_S):
            waited += _POLL_S
            if stop.is_set():
                raise TookTooLong("stopped")
            if waited >= limit_s:
                raise TookTooLong(
                    f"this took longer than {limit_s:g} s: ask for a shorter period or fewer seeds",
                    params={"limit_s": limit_s},
                )
        try:
            kind, value = ours.recv()
        except EOFError as error:
            raise ChildDied("the computation ended without an answer") from error
    finally:
        ours.close()
        if process.is_alive():
            process.terminate()
        process.join(5)
        if process.is_alive():
            process.kill()
            process.join()
    if kind == "answer":
        return value
    if kind == "refused":
        raise Refused(value["detail"], code=value["code"], status=value["status"], params=value["params"])
    log.error("planning_child_failed", traceback=value)
    raise ChildDied("the computation failed; the log has the reason")


def _child(answer: Connection, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    if hasattr(os, "nice"):
        os.nice(_NICE)
    try:
        answer.send(("answer", work(*args)))
    except SwitchboardError as error:
        told = {
            "detail": error.detail,
            "code": error.code,
            "status": error.http_status,
            "params": error.params,
        }
        answer.send(("refused", told))
    except Exception:
        answer.send(("failed", traceback.format_exc(limit=20)))
    finally:
        answer.close()
