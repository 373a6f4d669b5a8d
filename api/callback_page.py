"""The customer's own page for a promise: another time, or take it back. Whoever has the link's token may.

Plain HTML forms without scripts or strange styles, because the link arrives by mail and is opened anywhere. A GET never
changes anything: mail scanners open every link.
"""

import base64
import hashlib
from collections.abc import Mapping
from html import escape
from typing import Any

from aiohttp import web
from sqlalchemy import select

from api.keys import SERVICES
from crm_core.clock import DAY
from crm_core.db.uow import UnitOfWork
from crm_core.errors import Conflict, Invalid, NotFound
from crm_core.languages import spoken
from crm_core.schema import contact, conversation
from crm_core.services import Services
from routing import callbacks
from routing.callbacks import booking, rows, slots, words
from routing.callbacks.notify import PAGE
from routing.schema import callback

_AHEAD = 10 * DAY
_SHOWN = 24
_MAX_BODY = 4_096
_STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:34em;margin:3em auto;padding:0 1em}"
    "button,select{font:inherit;padding:.4em}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Robots-Tag": "noindex",
}


def add_callback_page(app: web.Application) -> None:
    app.router.add_get(PAGE + "{token:[A-Za-z0-9_-]{20,64}}", _show)
    app.router.add_post(PAGE + "{token:[A-Za-z0-9_-]{20,64}}", _change)


async def _show(request: web.Request) -> web.Response:
    services: Services = request.app[SERVICES]
    async with services.db.transaction() as uow:
        row = await _found(uow, request.match_info["token"])
        return await _page(uow, row, "")


async def _change(request: web.Request) -> web.Response:
    """`do` is cancel, or move with `at` (ms), one of the times that the page offered."""
    services: Services = request.app[SERVICES]
    if request.content_length is None or request.content_length > _MAX_BODY:
        raise web.HTTPRequestEntityTooLarge(max_size=_MAX_BODY, actual_size=request.content_length or 0)
    body = (await request.content.read(_MAX_BODY)).decode("utf-8", "replace")
    form = dict(pair.split("=", 1) for pair in body.split("&") if "=" in pair)
    async with services.db.transaction() as uow:
        row = await _found(uow, request.match_info["token"])
        if row is None:
            return await _page(uow, None, "")
        language = await _language(uow, row)
        actor, problem = f"contact:{row['contact_id']}", ""
        at = form.get("at", "")
        try:
            async with uow.savepoint():
                if form.get("do") == "cancel":
                    await callbacks.cancel(uow, row["id"], actor=actor, reason="by the customer's link")
                elif form.get("do") == "move" and at.isascii() and at.isdigit() and len(at) <= 16:
                    await callbacks.reschedule(
                        uow, row["id"], window_start=int(at), strict_slot=True, actor=actor
                    )
        except Conflict as refused:
            told = {"slot_full": "page_full", "callback_dialling": "page_dialling"}
            problem = words.text(told.get(refused.code, "page_over"), language)
        except (Invalid, NotFound):
            problem = words.text("page_full", language)
        return await _page(uow, await _found(uow, request.match_info["token"]), problem)


async def _found(uow: UnitOfWork, token: str) -> Mapping[str, Any] | None:
    return await uow.row(select(callback).where(callback.c.public_token == token))


async def _language(uow: UnitOfWork, row: Mapping[str, Any]) -> str:
    tag: str | None = await uow.scalar(
        select(conversation.c.language).where(conversation.c.id == row["conversation_id"])
    )
    if tag is None:
        tag = await uow.scalar(select(contact.c.locale).where(contact.c.id == row["contact_id"]))
    return spoken(tag)


async def _page(uow: UnitOfWork, row: Mapping[str, Any] | None, problem: str) -> web.Response:
    if row is None:
        return _html("en", words.text("page_title", "en"), f"<p>{words.text('page_gone', 'en')}</p>", 404)
    language = await _language(uow, row)
    parts = [f"<p><strong>{escape(problem)}</strong></p>"] if problem else []
    if row["state"] in rows.OVER:
        parts.append(f"<p>{escape(words.text('page_over', language))}</p>")
    elif row["state"] == "dialling":
        parts.append(f"<p>{escape(words.text('page_dialling', language))}</p>")
    else:
        when = words.when(row["due_at"], row["timezone"], language)
        # Only the end of the number: the link may be forwarded.
        shown = words.text("page_open", language, phone=f"…{row['phone'][-4:]}", when=when)
        parts.append(f"<p>{escape(shown)}</p>")
        parts.append(await _times(uow, row, language))
        parts.append(
            '<form method="post"><input type="hidden" name="do" value="cancel">'
            f"<button>{escape(words.text('page_cancel', language))}</button></form>"
        )
    return _html(language, words.text("page_title", language), "\n".join(parts), 200)


async def _times(uow: UnitOfWork, row: Mapping[str, Any], language: str) -> str:
    team_id = row["slot_team_id"] or row["team_id"] or await booking.default_team(uow)
    if team_id is None:
        return ""
    free = await slots.offered(
        uow.conn, team_id, await rows.zones(uow, row), now=uow.now, since=uow.now, until=uow.now + _AHEAD
    )
    options = "".join(
        f'<option value="{s.start}">{escape(words.when(s.start, row["timezone"], language))}</option>'
        for s in free[:_SHOWN]
        if s.start != row["slot_at"]
    )
    if not options:
        return ""
    return (
        '<form method="post"><input type="hidden" name="do" value="move">'
        f'<label>{escape(words.text("page_choose", language))}: <select name="at">{options}</select></label> '
        f"<button>{escape(words.text('page_move', language))}</button></form>"
    )


def _html(language: str, title: str, body: str, status: int) -> web.Response:
    text = (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>{body}</body></html>"
    )
    return web.Response(text=text, content_type="text/html", status=status, headers=_HEADERS)
