"""All endpoints of /api/v1, in the order in which the document shows them."""

from api.auth import routes as auth
from api.chat import routes as chat
from api.layer.routes import Endpoint
from api.resources import inquiries

ENDPOINTS: tuple[Endpoint, ...] = tuple(
    endpoint for module in (auth, inquiries, chat) for endpoint in module.routes.endpoints
)
