"""Dialogs held before and beside people: flows as data, a pure engine, and the listeners that run it."""

from collections.abc import Awaitable, Callable, Mapping

from bots.dialogs import on_handed_off, on_message, on_updated, sweep_idle
from bots.flow import Flow, parse_flow
from bots.store import get_flow, list_flows, load_flow, store_flow
from crm_core.db.engine import Database
from crm_core.events import Listener
from crm_core.jobs import JobRegistry

LISTENERS: dict[str, tuple[Listener, ...]] = {
    "message.added": (on_message,),
    "inquiry.updated": (on_updated,),
    "inquiry.handed_off": (on_handed_off,),
}
SWEEPERS: Mapping[str, Callable[[Database], Awaitable[int | None]]] = {"dialogs": sweep_idle}


def declare(registry: JobRegistry) -> None:
    """Dialogs need no jobs: what they do, they do in the transaction of the message."""


__all__ = [
    "LISTENERS",
    "SWEEPERS",
    "Flow",
    "declare",
    "get_flow",
    "list_flows",
    "load_flow",
    "parse_flow",
    "store_flow",
]
