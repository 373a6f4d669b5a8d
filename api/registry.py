"""All endpoints of /api/v1, in the order in which the document shows them."""

from api.auth import routes as auth
from api.layer.routes import Endpoint
from api.resources import inquiries

ENDPOINTS: tuple[Endpoint, ...] = tuple(
    endpoint for module in (auth, inquiries) for endpoint in module.routes.endpoints
)
