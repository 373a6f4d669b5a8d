"""`switchboard demo`: the product in one process, a made-up travel bureau in it, and stand-ins of all providers.

Owns the order in which these start, and what is printed. All servers listen on the loopback interface, unless the
product's own address is set otherwise.
"""

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import click
import structlog

from crm_core.db.engine import Database
from crm_core.infra.local import LocalHints
from switchboard import migrate, wiring
from switchboard.demo import history, organisation
from switchboard.demo.mail_relay import Relayed
from switchboard.demo.organisation import NotADemo, Secrets
from switchboard.demo.standins import StandIns, set_webhook, stand_ins
from switchboard.demo.trials import Addresses, description, welcome
from switchboard.process import Running, running, sole_user, until_signalled
from switchboard.settings import Settings

log = structlog.get_logger(__name__)

LMTP_PORT, SMTP_PORT = 2424, 2525
#: more would be a benchmark, and that is bench/'s work
MAX_RATE_PER_S = 50.0
MAX_DURATION_S = 24 * 3600.0
_RATE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*/\s*(s|m|min|h)\s*")
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(s|m|min|h)\s*")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600}


def parse_rate(text: str) -> float:
    """Requests per second of `2/s`, `30/m` or `100/h`. Raises ValueError."""
    match = _RATE.fullmatch(text)
    rate = float(match[1]) / _SECONDS[match[2]] if match else 0.0
    if not 0 < rate <= MAX_RATE_PER_S:
        raise ValueError(f"{text!r} is no rate: write 2/s or 30/m, at most {MAX_RATE_PER_S:.0f}/s")
    return rate


def parse_duration(text: str) -> float:
    """Seconds of `60s`, `5m` or `1h`. Raises ValueError."""
    match = _DURATION.fullmatch(text)
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not 0 < seconds <= MAX_DURATION_S:
        raise ValueError(f"{text!r} is no time: write 60s, 5m or 1h, at most 24h")
    return seconds


async def run_demo(
    settings: Settings, as_json: bool, rate_per_s: float | None, for_s: float | None, *, seed: int = 1
) -> int:
    """Run until SIGINT or SIGTERM. Returns the process' exit code.

    Args:
        rate_per_s: play customers and agents at this rate (requests of customers per second).
        for_s: end the traffic after so many seconds; the server goes on.
        seed: of the traffic's chances: who comes, with what, and what agents do.
    """
    if for_s is not None and rate_per_s is None:
        click.echo("--for says how long --traffic lasts; give both", err=True)
        return 2
    stopped = asyncio.create_task(until_signalled())
    try:
        async with started(settings) as demo:
            if as_json:
                click.echo(json.dumps(description(demo.at, demo.secrets), ensure_ascii=False))
            else:
                click.echo(welcome(demo.at, demo.secrets))
            async with _background(
                demo,
                quiet=as_json or rate_per_s is not None,
                rate_per_s=rate_per_s,
                for_s=for_s,
                seed=seed,
                to_stderr=as_json,
            ):
                await stopped
    except (OSError, NotADemo) as error:
        click.echo(f"cannot start: {error}", err=True)
        return 1
    finally:
        stopped.cancel()
    return 0


@dataclass(frozen=True, slots=True)
class Demo:
    """A demo that is up."""

    at: Addresses
    secrets: Secrets
    state: Running
    parts: StandIns


@asynccontextmanager
async def started(settings: Settings) -> AsyncIterator[Demo]:
    """Start everything; stop it at the end of the block.

    Raises:
        OSError: an address or the directory is taken. NotADemo: the data directory holds something else.
    """
    # Two would connect the same inboxes to stand-ins of their own, each away from the other's.
    with sole_user(settings.data_dir, "demo"):
        async with _started(settings) as demo:
            yield demo


@asynccontextmanager
async def _started(settings: Settings) -> AsyncIterator[Demo]:
    free = settings.port == 0
    bound = _bind(settings.host, settings.port)
    try:
        settings = settings.model_copy(update={
            "port": bound.getsockname()[1],
            "lmtp_port": _mail_port(settings.lmtp_port, LMTP_PORT, free=free),
            "smtp_port": _mail_port(settings.smtp_port, SMTP_PORT, free=free),
        })  # fmt: skip
        secrets = Secrets(settings.read_secret_key())
        await migrate.upgrade(settings.resolved_database_url)
        clock = wiring.make_clock(settings)
        db = Database(settings.resolved_database_url, clock=clock, hints=LocalHints(), pool_size=2)
        try:
            await db.start()
            await organisation.ensure(db, secrets)
            await history.write(settings.resolved_database_url, wiring.listeners())
            url = settings.for_app(demo=True).public_url
            async with (
                stand_ins(db, secrets, clock, url) as parts,
                running(settings, web_server=True, work=True, demo=True, bound=bound) as state,
            ):
                await set_webhook(state.services, parts.inboxes["telegram"])
                ports = state.mail_ports
                yield Demo(Addresses(url, parts.inboxes, ports["lmtp"], ports["smtp"]), secrets, state, parts)
        finally:
            await db.close()
    finally:
        bound.close()


def _bind(host: str, port: int) -> socket.socket:
    """The web server's socket; bound before anything starts, because everybody is told its address."""
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.setblocking(False)
    except OSError as error:
        made.close()
        raise OSError(
            f"{host}:{port} is taken or not ours ({error.strerror}); `switchboard demo --port 0` "
            "takes any free port"
        ) from error
    return made


def _mail_port(configured: int | None, usual: int, *, free: bool) -> int:
    """The port a mail listener shall take; 0 is any."""
    if configured is not None:
        return configured
    if free:
        return 0
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", usual))
        return usual
    return 0


@asynccontextmanager
async def _background(
    demo: Demo, *, quiet: bool, rate_per_s: float | None, for_s: float | None, seed: int, to_stderr: bool
) -> AsyncIterator[None]:
    """What goes on beside the server: echoing replies to a person who tries the demo, or the traffic."""
    tasks = [] if quiet else [asyncio.create_task(_show_replies(demo.parts), name="demo-replies")]
    if rate_per_s is not None:
        tasks.append(
            asyncio.create_task(
                _play(demo, rate_per_s, for_s, seed, to_stderr=to_stderr), name="demo-traffic"
            )
        )
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _play(demo: Demo, rate_per_s: float, for_s: float | None, seed: int, *, to_stderr: bool) -> None:
    from switchboard.demo.traffic import play

    try:
        summary = await play(demo, rate_per_s=rate_per_s, for_s=for_s, seed=seed)
    except Exception:
        # The server is what people came for: it goes on without the traffic.
        log.exception("traffic_failed")
        return
    click.echo(summary.text(), err=to_stderr)


async def _show_replies(parts: StandIns) -> None:
    """Print what reaches the customers, as they would see it."""

    def mailed(mail: Relayed) -> None:
        body = mail.parsed.get_body(("plain",))
        text = body.get_content() if body is not None else ""
        click.echo(f"email to {', '.join(mail.recipients)}: {_line(text)}")

    parts.relay.on_mail.append(mailed)
    sent = parts.telegram.sent
    shown = 0
    while True:
        with contextlib.suppress(TimeoutError):
            await parts.telegram.wait_until(partial(_longer, sent, shown), 3600)
        for message in sent[shown:]:
            buttons = " ".join(f"[{label}]" for label in message.labels)
            name = message.message["chat"].get("first_name")
            click.echo(f"Telegram to {name}: {_line(message.text)} {buttons}".rstrip())
        shown = len(sent)


def _longer(items: Sequence[object], than: int) -> bool:
    return len(items) > than


def _line(text: str) -> str:
    one = " ".join(text.split())
    return one if len(one) <= 200 else one[:199] + "…"
