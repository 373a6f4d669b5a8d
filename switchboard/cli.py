"""The `switchboard` command: run the program, look after its database, try the demo."""

import asyncio
import logging
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click
import structlog

from switchboard import planning_cli, simulate_cli
from switchboard.settings import Settings, SettingsError, load, program_version


def _run(main: Coroutine[Any, Any, int | None], *, uvloop: bool = True) -> None:
    main = _in_words(main)
    if uvloop:
        import uvloop as fast

        with asyncio.Runner(loop_factory=fast.new_event_loop) as runner:
            sys.exit(runner.run(main) or 0)
    sys.exit(asyncio.run(main) or 0)


async def _in_words(main: Coroutine[Any, Any, int | None]) -> int | None:
    """What an operator can mend is said in a line, without a traceback and without the statement that met it."""
    try:
        return await main
    except SettingsError as error:
        said = str(error)
    except Exception as error:
        from sqlalchemy.exc import DBAPIError  # after the fact: it would cost every command its start

        if not isinstance(error, DBAPIError):
            raise
        said = f"the database does not do it: {error.orig}".split("\n", 1)[0]
        if "no such table" in said or 'relation "' in said:
            said = "the database is not migrated: run `switchboard migrate` first"
    click.echo(said, err=True)
    return 1


def configure_logging(settings: Settings) -> None:
    """Set up the process' log on stderr. Neither tokens nor what customers write may get there by way of an error."""
    level = logging.getLevelNamesMapping()[settings.log_level]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        # Its usual tracebacks show the variables of every frame: a bot's token, a password, a request's headers.
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if settings.log_format == "json" else _keep,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=max(level, logging.WARNING), stream=sys.stderr)
    logging.getLogger("aiohttp.server").addFilter(_shorten_bad_http)


def _shorten_bad_http(record: logging.LogRecord) -> bool:
    """What is not HTTP is somebody's scanner: one line, without a traceback and without the header it quotes."""
    error = record.exc_info[1] if record.exc_info else None
    # By name: importing aiohttp here would cost every command its start.
    if any(kind.__name__ == "HttpProcessingError" for kind in type(error).__mro__):
        record.msg = f"{record.getMessage()}: {type(error).__name__}"
        record.args, record.exc_info, record.levelno, record.levelname = (), None, logging.WARNING, "WARNING"
    return True


def _keep(_logger: Any, _name: str, event: Any) -> Any:
    return event


def _settings(**overrides: Any) -> Settings:
    try:
        settings = load(**overrides)
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
    configure_logging(settings)
    return settings


@click.group()
@click.version_option(program_version(), prog_name="switchboard")
def main() -> None:
    """Switchboard: a self-hosted omnichannel contact center."""


_HOST = click.option("--host", help="address to listen on")
_PORT = click.option("--port", type=click.IntRange(0, 65535), help="port to listen on; 0 picks a free one")


@main.command()
@_HOST
@_PORT
def serve(host: str | None, port: int | None) -> None:
    """Everything in one process: web, jobs, promises. Migrates its database first."""
    settings = _settings(host=host, port=port)
    _run(_serve(settings, web=True, work=True, migrate_first=True), uvloop=settings.uvloop)


@main.command()
@_HOST
@_PORT
def web(host: str | None, port: int | None) -> None:
    """One web process of the scaled form (needs SWITCHBOARD_REDIS_URL)."""
    settings = _settings(host=host, port=port)
    _need_redis(settings)
    _run(_serve(settings, web=True, work=False), uvloop=settings.uvloop)


@main.command()
def worker() -> None:
    """One worker process of the scaled form: jobs through dramatiq, sweepers, pollers, mail."""
    settings = _settings()
    _need_redis(settings)
    _run(_serve(settings, web=False, work=True), uvloop=settings.uvloop)


def _need_redis(settings: Settings) -> None:
    if not settings.redis_url:
        raise click.ClickException(
            "SWITCHBOARD_REDIS_URL is not set: processes of the scaled form meet in Redis. "
            "`switchboard serve` runs everything in one process without it."
        )


async def _serve(settings: Settings, *, web: bool, work: bool, migrate_first: bool = False) -> int:
    from sqlalchemy.exc import DBAPIError

    from switchboard import migrate
    from switchboard.process import running, until_signalled

    url = settings.resolved_database_url
    try:
        if migrate_first:
            await migrate.upgrade(url)
        elif not await _is_migrated(url):
            click.echo("the database is not migrated: run `switchboard migrate` first", err=True)
            return 1
    except (OSError, DBAPIError) as error:
        click.echo(f"the database does not answer: {error}".split("\n", 1)[0], err=True)
        return 1
    try:
        async with running(settings, web_server=web, work=work) as state:
            if state.url:
                click.echo(f"listening on {state.url}", err=True)
            await until_signalled()
    except (OSError, SettingsError) as error:
        click.echo(f"cannot start: {error}", err=True)
        return 1
    return 0


async def _is_migrated(url: str) -> bool:
    from sqlalchemy.ext.asyncio import create_async_engine

    from switchboard import migrate

    engine = create_async_engine(url)
    try:
        async with engine.connect() as conn:
            return await migrate.current(conn) == migrate.head()
    finally:
        await engine.dispose()


@main.command("migrate")
def migrate_command() -> None:
    """Bring the database to this version's schema (a copy of an SQLite file is kept)."""
    from switchboard import migrate

    settings = _settings()

    async def go() -> int:
        changed = await migrate.upgrade(settings.resolved_database_url)
        click.echo("migrated" if changed else "nothing to do")
        return 0

    _run(go(), uvloop=False)


@main.command()
def doctor() -> None:
    """Check what the program needs and say what to do about what is missing."""
    from switchboard.doctor import examine

    _run(examine(_settings()), uvloop=False)


@main.command()
@_HOST
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="0 picks free ports everywhere",
)
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="directory for all its files")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="print one JSON object with addresses and secrets as the first line",
)
@click.option("--traffic", metavar="N/s", help="play believable customers and agents, e.g. 2/s")
@click.option("--for", "duration", metavar="TIME", help="stop the traffic after, e.g. 60s")
@click.option("--seed", type=int, default=1, show_default=True, help="of the traffic's chances")
def demo(
    host: str | None,
    port: int,
    data: Path | None,
    as_json: bool,
    traffic: str | None,
    duration: str | None,
    seed: int,
) -> None:
    """A travel bureau with made-up data, all channels connected to local stand-ins of their providers."""
    from switchboard.demo.run import parse_duration, parse_rate, run_demo

    try:
        rate = parse_rate(traffic) if traffic else None
        seconds = parse_duration(duration) if duration else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    settings = _settings(host=host, port=port, data_dir=data or Path("data/demo"))
    demo_run = run_demo(settings, as_json=as_json, rate_per_s=rate, for_s=seconds, seed=seed)
    _run(demo_run, uvloop=settings.uvloop)


@main.command("check-vectors")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def check_vectors_command(file: Path) -> None:
    """Run facts of FILE through the product's own code; prints `section passed/total`, fails if any failed.

    Facts in which storage takes part are lived on a database of the configured kind: a temporary SQLite file, or a
    schema of its own inside the configured Postgres database. Exit code 2: the file cannot be used.
    """
    import json

    try:
        vectors = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _Unusable(f"{file}: {error}") from error
    if not isinstance(vectors, dict):
        raise _Unusable(f"{file}: must hold an object")
    from switchboard.check_vectors import problem, unknown_sections

    if (found := problem(vectors)) is not None:
        raise _Unusable(f"{file}: {found}")
    for name in unknown_sections(vectors):
        click.echo(f"not checked: {name} (unknown section)", err=True)
    _run(_check_vectors(_settings(), vectors), uvloop=False)


class _Unusable(click.ClickException):
    exit_code = 2


async def _check_vectors(settings: Settings, vectors: dict[str, Any]) -> int:
    from switchboard import check_vectors, vector_storage

    async with vector_storage.throwaway(settings.resolved_database_url) as (db, clock):
        stored = await vector_storage.check_stored(db, clock, vectors)
    results = check_vectors.both(check_vectors.check(vectors), stored)
    click.echo(check_vectors.render(results))
    return 0 if results and all(result.passed == result.total for result in results) else 1


@main.group()
def admin() -> None:
    """For the installation's admin: first account, tokens, inboxes."""


@admin.command("create")
@click.option("--email", required=True)
@click.option("--name", required=True)
@click.option(
    "--role", type=click.Choice(["agent", "supervisor", "admin"]), default="admin", show_default=True
)
@click.password_option()
def admin_create(email: str, name: str, role: str, password: str) -> None:
    """Make an account; the first one must be an admin's."""
    from switchboard.admin import create_agent

    _run(create_agent(_settings(), email=email, name=name, role=role, password=password), uvloop=False)


@admin.command("token")
@click.option("--email", required=True, help="whose rights the token has")
@click.option("--name", default="command line", show_default=True)
def admin_token(email: str, name: str) -> None:
    """Print a new API token; it is shown only now."""
    from switchboard.admin import create_token

    _run(create_token(_settings(), email=email, name=name), uvloop=False)


planning_cli.register(main, _settings)
simulate_cli.register(main)


if __name__ == "__main__":
    main()
