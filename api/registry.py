"""All endpoints that the document shows, in its order."""

from api.auth import routes as auth
from api.chat import routes as chat
from api.layer.routes import Endpoint
from api.resources import (
    assignments,
    callbacks,
    calls,
    contacts,
    flows,
    inbound,
    inboxes,
    inquiries,
    log,
    me,
    merging,
    offers,
    overview,
    people,
    sla,
    uploads,
    webhooks,
)

_MODULES = (
    auth,
    me,
    inquiries,
    merging,
    assignments,
    offers,
    contacts,
    callbacks,
    calls,
    uploads,
    overview,
    people,
    inboxes,
    inbound,
    sla,
    flows,
    webhooks,
    log,
    chat,
)

ENDPOINTS: tuple[Endpoint, ...] = tuple(
    endpoint for module in _MODULES for endpoint in module.routes.endpoints
)
