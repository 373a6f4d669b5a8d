"""/healthz: the process answers. /readyz: it can do its work."""

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from sqlalchemy import func, select, text

from api.keys import SERVICES
from crm_core.clock import MINUTE
from crm_core.db.engine import Database
from crm_core.schema import job

#: `await check(db)` says what is wrong with the schema's version, or None. Put into `Services.extra["migrations"]`
#: by the composition root, which alone knows the migrations.
MigrationCheck = Callable[[Database], Awaitable[str | None]]
#: a due job that waits longer than this means that nobody works
MAX_JOB_LAG_MS = 5 * MINUTE


async def healthz(request: web.Request) -> web.Response:
    """GET /healthz"""
    return web.json_response({"ok": True, "version": request.app[SERVICES].settings.version})


async def readyz(request: web.Request) -> web.Response:
    """GET /readyz: 200 if everything works, else 503 with what does not."""
    services = request.app[SERVICES]
    checks: dict[str, Any] = {"database": "ok", "migrations": "ok", "job_lag_ms": 0}
    wrong = False
    try:
        async with services.db.reading() as conn:
            await conn.execute(text("select 1"))
            due = (await conn.execute(select(func.min(job.c.run_at)).where(job.c.state == "ready"))).scalar()
        lag = max(0, services.clock.now_ms() - due) if due is not None else 0
        checks["job_lag_ms"] = lag
        wrong = lag > MAX_JOB_LAG_MS
        check: MigrationCheck | None = services.extra.get("migrations")
        if check is not None and (trouble := await check(services.db)) is not None:
            checks["migrations"] = trouble
            wrong = True
    except Exception as error:
        # Whatever it is, the answer is the same: not ready.
        checks["database"] = f"does not answer ({type(error).__name__})"
        wrong = True
    return web.json_response(
        {"ok": not wrong, "checks": checks},
        status=503 if wrong else 200,
        headers={"Cache-Control": "no-store"},
    )
