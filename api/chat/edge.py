"""Cross-origin rules of the chat: exact echo, no credentials, also on errors, so that the page can read them."""

from aiohttp import web

from api.chat.routes import routes
from api.chat.socket import stream_socket

_PREFIX = "/chat/v1/"


async def allow_origin(request: web.Request, response: web.StreamResponse) -> None:
    """Signal handler for every response. Whether a site may use an inbox is checked where the inbox is known; the
    header only lets a page read the answer, and there is no cookie here to abuse.
    """
    origin = request.headers.get("Origin")
    if origin is not None and request.path.startswith(_PREFIX):
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Vary"] = "Origin"
        response.headers["Access-Control-Expose-Headers"] = "Retry-After"


async def _preflight(_request: web.Request) -> web.Response:
    return web.Response(
        status=204,
        headers={
            "Access-Control-Allow-Methods": "GET, POST",
            "Access-Control-Allow-Headers": "Authorization, Content-Type, Last-Event-ID",
            "Access-Control-Max-Age": "600",
        },
    )


def add_chat(app: web.Application) -> None:
    """The WebSocket and the preflights; the other endpoints are in the registry."""
    app.router.add_get(f"{_PREFIX}stream", stream_socket)
    for path in sorted({endpoint.path for endpoint in routes.endpoints}):
        app.router.add_route("OPTIONS", path, _preflight)
    app.on_response_prepare.append(allow_origin)
