"""`switchboard doctor`: does everything the program needs answer, and if not, what to do."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import click
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import create_async_engine

from crm_core import job_table
from crm_core.schema import inbound, inbox, inbox_state, job
from routing.callbacks import check as callback_check
from switchboard import migrate, wiring
from switchboard.settings import Settings

_LOW_DISK_BYTES = 1 << 30
#: whether it is in order; None: it works, but somebody should look
Finding = tuple[bool | None, str]


async def examine(settings: Settings) -> int:
    """Print one line per finding. Returns 1 if the program cannot do its work as it is.

    What strangers can cause (a quarantined request, a provider that refuses us) is shown but is no failure: this is
    also the health check of workers, and nobody outside may turn it red.
    """
    words = {True: "ok  ", False: "FAIL", None: "look"}
    bad = False
    async for good, line in _findings(settings):
        click.echo(f"{words[good]}  {line}")
        bad = bad or good is False
    return 1 if bad else 0


async def _findings(settings: Settings) -> AsyncIterator[Finding]:
    root = settings.data_dir
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe = root / ".doctor"
        probe.write_bytes(b"x")
        probe.unlink()
        free = shutil.disk_usage(root).free
        yield free > _LOW_DISK_BYTES, f"{root} is writable, {free >> 20} MiB free"
    except OSError as error:
        yield False, f"{root} is not writable ({error}): set SWITCHBOARD_DATA_DIR"
    static = Path(__file__).parent.parent / "api" / "static" / "desk" / "index.html"
    yield (
        static.exists(),
        "the desk is built" if static.exists() else "the desk is not built: run `make setup`",
    )
    reachable = True
    engine = create_async_engine(settings.resolved_database_url)
    try:
        async with engine.connect() as conn:
            await conn.execute(text("select 1"))
            revision = await migrate.current(conn)
            migrated = revision == migrate.head()
        yield (
            migrated,
            (
                f"database at revision {revision}"
                if migrated
                else f"database at revision {revision}, wanted {migrate.head()}: run `switchboard migrate`"
            ),
        )
        reachable = migrated
    except Exception as error:
        reachable = False
        yield False, f"the database does not answer ({error}): check SWITCHBOARD_DATABASE_URL"
    finally:
        await engine.dispose()
    if settings.redis_url:
        yield await _redis(settings.redis_url)
    if not reachable:
        return
    async with wiring.build_services(settings) as services, services.db.reading() as conn:
        now = services.clock.now_ms()
        oldest = await job_table.oldest_due(conn)
        lag_s = max(0, now - oldest) / 1000 if oldest is not None else 0.0
        yield (
            lag_s < 60,
            f"oldest due job waits {lag_s:.0f} s" + ("" if lag_s < 60 else ": is a worker running?"),
        )
        dead = (
            await conn.execute(select(func.count()).select_from(job).where(job.c.state == "dead"))
        ).scalar_one()
        yield (dead == 0) or None, f"{dead} dead jobs" + (": see /api/v1/jobs?state=dead" if dead else "")
        held = (
            await conn.execute(
                select(func.count()).select_from(inbound).where(inbound.c.state == "quarantined")
            )
        ).scalar_one()
        yield (
            (held == 0) or None,
            f"{held} quarantined inbound rows" + (": see the desk's Intake page" if held else ""),
        )
        lost = await callback_check.dropped(conn)
        yield (
            not lost,
            f"{len(lost)} promised calls that nothing would ever happen to"
            + (
                f" (callbacks {', '.join(map(str, lost[:10]))}): this is a defect, please report it"
                if lost
                else ""
            ),
        )
        late = await callback_check.unattended(conn, now=now)
        yield (
            (not late) or None,
            f"{len(late)} promised calls are overdue by minutes" + (": is a worker running?" if late else ""),
        )
        rows = (
            await conn.execute(
                select(inbox.c.name, inbox_state.c.last_error, inbox_state.c.last_error_at)
                .join(inbox_state, inbox_state.c.inbox_id == inbox.c.id)
                .where(inbox_state.c.last_error.is_not(None), inbox_state.c.last_error_at > now - 3_600_000)
            )
        ).all()
        for name, problem, _at in rows:
            yield None, f"inbox {name}: {problem}"


async def _redis(url: str) -> Finding:
    from crm_core.infra.redis import answers

    problem = await answers(url)
    return (
        problem is None,
        "Redis answers"
        if problem is None
        else f"Redis does not answer ({problem}): check SWITCHBOARD_REDIS_URL",
    )
