"""Put the HTTP edge together: `build_app(services)`."""

from aiohttp import web

from api.auth.guard import guard
from api.auth.passwords import Passwords
from api.auth.routes import PASSWORDS
from api.docs_page import add_docs
from api.health import healthz, readyz
from api.hooks import add_hooks
from api.keys import CHECK_ANSWERS, INBOXES, SERVICES
from api.layer.dispatch import handler_of
from api.layer.document import build_document
from api.layer.problems import problems
from api.metrics import METRICS, Metrics, measured, show_metrics
from api.refused import REFUSALS, Refusals
from api.registry import ENDPOINTS
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
    for endpoint in ENDPOINTS:
        app.router.add_route(endpoint.method, endpoint.path, handler_of(endpoint, guard))
    add_docs(app, build_document(ENDPOINTS, version=services.settings.version))
    add_hooks(app)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", show_metrics)
    return app
