"""Starting and stopping the parts of one process, in order, for each form the program runs in."""

import asyncio
import contextlib
import fcntl
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from aiohttp import web

from api.app import build_app
from channels.config import inbox_config
from channels.contract import InboxConfig, RawItem
from channels.email import ListenAddress, MailListener
from crm_core import inbound_rows
from crm_core.db.engine import Database
from crm_core.inboxes import InboxCache
from crm_core.services import Services
from switchboard import migrate, wiring
from switchboard.settings import Settings
from workers.pollers import Pollers
from workers.runner import LocalRunner
from workers.sweepers import Sweepers

log = structlog.get_logger(__name__)


@dataclass
class Running:
    """What is up: `url` of the web server and the mail ports that were really bound."""

    services: Services
    url: str = ""
    mail_ports: dict[str, int] = field(default_factory=dict)
    sweepers: Sweepers | None = None


@asynccontextmanager
async def running(
    settings: Settings,
    *,
    web_server: bool,
    work: bool,
    demo: bool = False,
    bound: socket.socket | None = None,
) -> AsyncIterator[Running]:
    """Run the chosen parts until the block ends. `work` means jobs, sweepers, pollers and the mail listener.

    `bound` is a socket to serve the web on instead of binding the settings' address: for a caller that must know
    the address before anything runs.

    Raises OSError if an address is taken, SettingsError for bad settings.
    """
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(wiring.build_services(settings, demo=demo))
        services.extra["migrations"] = _behind
        state = Running(services=services)
        registry = wiring.jobs()
        if work:
            if settings.redis_url:
                from workers.scaled import ScaledRunner

                scaled = ScaledRunner(
                    services, registry, redis_url=settings.redis_url, threads=settings.worker_threads
                )
                await scaled.start()
                stack.push_async_callback(scaled.stop)
            else:
                runner = LocalRunner(services, registry, concurrency=settings.worker_threads)
                runner.start()
                stack.push_async_callback(runner.stop)
            state.sweepers = Sweepers(services, wiring.sweeps(), seldom=wiring.SELDOM)
            state.sweepers.start()
            stack.push_async_callback(state.sweepers.stop)
        if web_server:
            state.url = await _serve_web(stack, services, settings, bound)
        if work:
            listener = _mail_listener(services, settings)
            if listener is not None:
                await listener.start()
                stack.push_async_callback(listener.close)
                state.mail_ports = dict(listener.ports)
            pollers = Pollers(services)
            pollers.start()
            stack.push_async_callback(pollers.stop)
        log.info("started", form=settings.form, url=state.url or None, mail=state.mail_ports or None)
        yield state
        log.info("stopping")


@contextlib.contextmanager
def sole_user(directory: Path, purpose: str) -> Iterator[None]:
    """Hold a directory for this process alone; the system lets go of it however the process ends. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / f"{purpose}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OSError(f"another {purpose} is running in {directory}") from error
        yield


async def _serve_web(
    stack: AsyncExitStack, services: Services, settings: Settings, bound: socket.socket | None
) -> str:
    app = build_app(services)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=5.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site: web.BaseSite = (
        web.SockSite(runner, bound)
        if bound is not None
        else web.TCPSite(runner, settings.host, settings.port, reuse_port=settings.form == "scaled" or None)
    )
    await site.start()
    host, port = runner.addresses[0][:2]
    return f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"  # noqa: S104 - compared, not bound


async def _behind(db: Database) -> str | None:
    """What /readyz says of the schema: None if it is this program's."""
    async with db.reading() as conn:
        revision = await migrate.current(conn)
    return (
        None
        if revision == migrate.head()
        else f"at {revision}, wanted {migrate.head()}: run `switchboard migrate`"
    )


def _mail_listener(services: Services, settings: Settings) -> MailListener | None:
    listen = []
    if settings.lmtp_port is not None:
        listen.append(ListenAddress("lmtp", settings.lmtp_port, settings.lmtp_host))
    if settings.smtp_port is not None:
        listen.append(ListenAddress("smtp", settings.smtp_port, settings.lmtp_host))
    if not listen:
        return None
    inboxes = InboxCache(services.db)

    async def lookup(address: str) -> InboxConfig | None:
        row = await inboxes.by_mail_address(address)
        return inbox_config(row) if row is not None else None

    async def store(inbox_id: int, item: RawItem) -> None:
        async with services.db.transaction() as uow:
            await inbound_rows.store_items(uow, inbox_id, [item])

    return MailListener(lookup, store, services.clock, tuple(listen))


async def until_signalled() -> str:
    """Wait for SIGINT or SIGTERM; returns which."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[str] = loop.create_future()

    def arrived(name: str) -> None:
        if not done.done():
            done.set_result(name)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, arrived, number.name)
    try:
        return await done
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ValueError):
                loop.remove_signal_handler(number)
