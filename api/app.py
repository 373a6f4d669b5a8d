"""Put the HTTP edge together: `build_app(services)`."""

import asyncio

from aiohttp import web

from api.auth.guard import guard
from api.auth.passwords import PASSWORDS, Passwords
from api.callback_page import add_callback_page
from api.chat.edge import add_chat
from api.docs_page import add_docs
from api.feed.hub import HUB, Hub
from api.feed.socket import feed
from api.feed.sockets import SOCKETS, OpenSockets
from api.health import healthz, readyz
from api.hooks import add_hooks
from api.keys import CHECK_ANSWERS, INBOXES, SERVICES, STOPPING
from api.layer.dispatch import handler_of
from api.layer.document import build_document
from api.layer.problems import problems
from api.metrics import METRICS, Metrics, measured, show_metrics
from api.refused import REFUSALS, Refusals
from api.registry import ENDPOINTS
from api.static_files import add_static
from crm_core.inboxes import InboxCache
from crm_core.services import Services


def build_app(services: Services, *, check_answers: bool = False) -> web.Application:
    """The whole edge as one application; the caller runs it and owns the services.

    Args:
        check_answers: validate every answer against the served document (tests).
    """
    # Bodies are bounded where they are read (api.layer.bodies), per route; aiohttp's own limit would answer in
    # its own form.
    app = web.Application(middlewares=[measured, problems], client_max_size=0)
    app[SERVICES] = services
    app[CHECK_ANSWERS] = check_answers
    app[METRICS] = Metrics()
    app[PASSWORDS] = Passwords()
    app[INBOXES] = InboxCache(services.db)
    app[REFUSALS] = Refusals()
    app[HUB] = Hub(services.db, services.hints)
    app[SOCKETS] = OpenSockets()
    app[STOPPING] = asyncio.Event()
    app.on_startup.append(_start)
    app.on_shutdown.append(_shut_down)
    app.on_cleanup.append(_clean_up)
    app.router.add_get("/api/v1/feed", feed)
    for endpoint in ENDPOINTS:
        app.router.add_route(endpoint.method, endpoint.path, handler_of(endpoint, guard))
    add_docs(app, build_document(ENDPOINTS, version=services.settings.version))
    add_hooks(app)
    add_chat(app)
    add_callback_page(app)
    add_static(app)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", show_metrics)
    return app


async def _start(app: web.Application) -> None:
    await app[HUB].start()


async def _shut_down(app: web.Application) -> None:
    app[STOPPING].set()
    await app[SOCKETS].close_all()


async def _clean_up(app: web.Application) -> None:
    await app[HUB].close()
