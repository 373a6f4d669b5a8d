"""Commands that may arrive twice: the second time changes nothing and returns the stored result."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sqlalchemy import select

from crm_core.clock import DAY
from crm_core.db.uow import UnitOfWork
from crm_core.errors import Invalid
from routing.schema import command

KEEP_MS = 7 * DAY
_MAX_ID = 80


async def once(
    uow: UnitOfWork, command_id: str | None, act: Callable[[], Awaitable[Mapping[str, Any]]]
) -> dict[str, Any]:
    """Run `act` unless a command with this id succeeded before, and return the (first) result.

    A command that fails leaves no trace: it rolls back with its transaction. On Postgres a concurrent twin
    is waited for. Without an id the act simply runs.

    Raises:
        Invalid: the id is empty or longer than 80 characters.
    """
    if command_id is None:
        return dict(await act())
    if not command_id or len(command_id) > _MAX_ID:
        raise Invalid(f"a command id has 1 to {_MAX_ID} characters", code="bad_command_id")
    fresh = await uow.insert_new(command, {"id": command_id, "result": {}, "at": uow.now}, key=["id"])
    if fresh is None:
        stored = await uow.row(select(command.c.result).where(command.c.id == command_id))
        return dict(stored["result"]) if stored else {}
    result = dict(await act())
    await uow.update(command, command_id, {"result": result})
    return result
