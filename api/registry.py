"""All endpoints that the document shows, in its order."""

from api.auth import routes as auth
from api.chat import routes as chat
from api.layer.routes import Endpoint
from api.resources import (
    assignments,
    calendars,
    callback_planning,
    callbacks,
    calls,
    contacts,
    expected_wait,
    fairness,
    flows,
    inbound,
    inboxes,
    inquiries,
    ledger,
    log,
    me,
    merging,
    notices,
    offers,
    overview,
    people,
    planning,
    reports,
    routing_settings,
    sla,
    uploads,
    webhooks,
    why,
)

_MODULES = (
    auth,
    me,
    inquiries,
    merging,
    notices,
    assignments,
    why,
    offers,
    contacts,
    callback_planning,
    callbacks,
    calls,
    uploads,
    overview,
    people,
    routing_settings,
    expected_wait,
    fairness,
    inboxes,
    inbound,
    sla,
    calendars,
    ledger,
    reports,
    planning,
    flows,
    webhooks,
    log,
    chat,
)

ENDPOINTS: tuple[Endpoint, ...] = tuple(
    endpoint for module in _MODULES for endpoint in module.routes.endpoints
)
