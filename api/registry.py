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
    offers,
    overview,
    people,
    sla,
    uploads,
)

_MODULES = (
    auth,
    me,
    inquiries,
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
    log,
    chat,
)

ENDPOINTS: tuple[Endpoint, ...] = tuple(
    endpoint for module in _MODULES for endpoint in module.routes.endpoints
)
