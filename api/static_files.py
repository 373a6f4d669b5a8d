"""The built front end: the desk, the widget's loader and frame, and the demo page. Built by Vite into api/static."""

import html
import mimetypes
from pathlib import Path

from aiohttp import web
from sqlalchemy import select

from api.chat.sessions import allowed_origins
from api.hooks import find_inbox
from api.keys import SERVICES
from api.layer.problems import problem
from crm_core.errors import NotFound
from crm_core.languages import DEFAULT, wished
from crm_core.schema import inbox

ROOT = Path(__file__).parent / "static"
_YEAR = "public, max-age=31536000, immutable"
#: Naive UI writes its styles into the page, so styles may be inline; scripts never. Pictures of other servers never
#: load: a mail's frame inherits this, and a loaded picture tells its owner that the mail was read.
_DESK_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self'; connect-src 'self' {sockets}; media-src 'self' blob:; manifest-src 'self'; "
    "worker-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
#: the widget sets its few dynamic styles through the CSSOM, so nothing may be inline
_CHAT_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "font-src 'self'; connect-src 'self' {sockets}; media-src 'self' blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors {ancestors}"
)
_SAFE = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}

_MISSING = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Not built</title>
<body style="font:16px/1.5 system-ui;max-width:40rem;margin:3rem auto;padding:0 1rem">
<h1>The front end is not built</h1><p>Run <code>make setup</code> in the project's directory and load this page again.
The API works without it: see <a href="/api/docs">its documentation</a>.</p></body></html>"""

_DEMO = """<!doctype html><html lang="{language}"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1"><title>{title}</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="/demo/chat.css"></head>
<body><main><h1>{heading}</h1><p>{about}</p>
<pre>&lt;script async src="{origin}/widget.js" data-inbox="{key}"&gt;&lt;/script&gt;</pre>
<p>{where} <a href="/desk">{desk}</a>.</p></main>
<script async src="/widget.js" data-inbox="{key}"></script></body></html>"""
#: the widget speaks the page's language, so the page speaks the visitor's
_DEMO_TEXTS = {
    "en": {
        "title": "Demo: a site with a chat",
        "heading": "A travel bureau's page",
        "about": "This is any page of yours. The chat in its corner is one line of HTML:",
        "where": "What is written there appears at",
        "desk": "the agents' desk",
    },
    "uk": {
        "title": "Приклад: сайт із чатом",
        "heading": "Сторінка бюро подорожей",
        "about": "Це будь-яка ваша сторінка. Чат у її куті — один рядок HTML:",
        "where": "Написане там з'являється на",
        "desk": "робочому місці агентів",
    },
    "ru": {
        "title": "Пример: сайт с чатом",
        "heading": "Страница бюро путешествий",
        "about": "Это любая ваша страница. Чат в её углу — одна строка HTML:",
        "where": "Написанное там появляется на",
        "desk": "рабочем месте агентов",
    },
}
_DEMO_CSS = (
    "body{font:17px/1.6 system-ui,sans-serif;margin:0;color:#1b2430;background:#f4f7fa}"
    "main{max-width:44rem;margin:4rem auto;padding:0 1.5rem}pre{background:#fff;padding:1rem;overflow:auto;"
    "border-radius:8px;border:1px solid #dde4ec}"
)


def add_static(app: web.Application, *, root: Path = ROOT) -> None:
    """Routes of the desk (history mode), the widget and the demo page."""
    pages = _Pages(root)
    app.router.add_get("/", _home)
    app.router.add_get("/desk", pages.desk)
    app.router.add_get("/desk/{tail:.*}", pages.desk)
    app.router.add_get("/widget.js", pages.loader)
    app.router.add_get("/chat/app", pages.to_chat)
    app.router.add_get("/chat/app/{tail:.*}", pages.chat)
    app.router.add_get("/demo/chat", pages.demo)
    app.router.add_get("/demo/chat.css", pages.demo_css)


async def _home(_request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("/desk")


class _Pages:
    def __init__(self, root: Path) -> None:
        self.root = root

    def _file(self, folder: str, tail: str) -> Path | None:
        """A file below a folder, never outside of it."""
        if "\x00" in tail:
            return None
        base = (self.root / folder).resolve()
        try:
            path = (base / tail).resolve()
            return path if path.is_relative_to(base) and path.is_file() else None
        except (OSError, ValueError):
            # Longer than a file name may be, or not writable as one: no file of ours.
            return None

    async def desk(self, request: web.Request) -> web.StreamResponse:
        tail = request.match_info.get("tail", "")
        found = self._file("desk", tail) if tail else None
        if found is not None:
            return _send(found, hashed=tail.startswith("assets/"))
        if tail.startswith("assets/"):
            # An old page asks for a chunk of the build before: an HTML page instead of a script would only confuse.
            return problem(404, "not_found", "there is no such asset; load the page again")
        return self._page("desk", _DESK_CSP.format(sockets=_sockets(request)))

    async def loader(self, _request: web.Request) -> web.StreamResponse:
        found = self._file("widget", "widget.js")
        if found is None:
            return _plain(
                "console.error('Switchboard: the widget is not built, run make setup');",
                "text/javascript",
                503,
            )
        response = _send(found, hashed=False)
        response.headers["Cache-Control"] = "public, max-age=300"
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        return response

    async def to_chat(self, request: web.Request) -> web.StreamResponse:
        query = f"?{request.query_string}" if request.query_string else ""
        raise web.HTTPFound(f"/chat/app/{query}")

    async def chat(self, request: web.Request) -> web.StreamResponse:
        tail = request.match_info.get("tail", "")
        found = self._file("widget/app", tail) if tail and tail != "index.html" else None
        if found is not None:
            return _send(found, hashed=tail.startswith("assets/"))
        if tail and tail != "index.html":
            return problem(404, "not_found", "there is no such file")
        return self._page(
            "widget/app", _CHAT_CSP.format(sockets=_sockets(request), ancestors=await _ancestors(request))
        )

    def _page(self, folder: str, policy: str) -> web.StreamResponse:
        found = self._file(folder, "index.html")
        if found is None:
            return _plain(_MISSING, "text/html", 503)
        response = _send(found, hashed=False)
        response.headers["Content-Security-Policy"] = policy
        return response

    async def demo(self, request: web.Request) -> web.StreamResponse:
        services = request.app[SERVICES]
        async with services.db.reading() as conn:
            key = (
                await conn.execute(
                    select(inbox.c.key)
                    .where(inbox.c.channel == "webchat", inbox.c.enabled)
                    .order_by(inbox.c.id)
                    .limit(1)
                )
            ).scalar()
        if key is None:
            raise NotFound("there is no web chat inbox to show")
        language = wished(request.headers.get("Accept-Language")) or DEFAULT
        page = _DEMO.format(
            key=html.escape(key, quote=True),
            origin=html.escape(f"{request.scheme}://{request.host}"),
            language=language,
            **_DEMO_TEXTS[language],
        )
        response = _plain(page, "text/html", 200)
        response.headers["Vary"] = "Accept-Language"
        response.headers["Content-Security-Policy"] = (
            "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; frame-src 'self'; "
            "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'"
        )
        return response

    async def demo_css(self, _request: web.Request) -> web.StreamResponse:
        return _plain(_DEMO_CSS, "text/css", 200)


async def _ancestors(request: web.Request) -> str:
    """Who may frame the chat: the sites of the inbox named in the query, and our own pages."""
    key = request.query.get("inbox") or request.query.get("inbox_key") or ""
    try:
        account = await find_inbox(request, key, channel="webchat")
    except NotFound:
        return "'self'"
    allowed = allowed_origins(account)
    if "*" in allowed:
        return "*"
    plain = [o for o in allowed if o.startswith(("http://", "https://")) and not set(o) & set(" ;,'\"\r\n")]
    return " ".join(["'self'", *plain])


def _sockets(request: web.Request) -> str:
    # 'self' covers WebSockets only in newer browsers.
    host = request.host
    safe = "".join(ch for ch in host if ch.isalnum() or ch in ".:-[]")
    return f"ws://{safe} wss://{safe}"


def _send(path: Path, *, hashed: bool) -> web.FileResponse:
    mime = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    if path.suffix in (".js", ".mjs"):
        mime = "text/javascript"
    charset = "; charset=utf-8" if mime.startswith("text/") or mime == "image/svg+xml" else ""
    return web.FileResponse(
        path,
        headers={
            **_SAFE,
            "Content-Type": f"{mime}{charset}",
            "Cache-Control": _YEAR if hashed else "no-cache",
        },
    )


def _plain(body: str, content_type: str, status: int) -> web.Response:
    return web.Response(
        text=body, content_type=content_type, status=status, headers={**_SAFE, "Cache-Control": "no-cache"}
    )
