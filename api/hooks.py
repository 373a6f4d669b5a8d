"""Every provider's webhook: prove the sender, cut, store raw, commit, answer. Nothing else happens before the answer.

What is refused is kept too (its head, and not without end), because a provider that gets an error may never repeat.
"""

import asyncio
import math
from collections.abc import Mapping
from typing import Any

import structlog
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth.origin import client_address, network_of, public_url
from api.keys import INBOXES, SERVICES
from api.layer.bodies import BodyBroken, BodyTooLarge, BodyTooSlow, read_body
from api.layer.problems import answer_to, problem
from api.metrics import METRICS
from api.refused import REFUSALS
from channels import get_channel
from channels.config import inbox_config
from channels.contract import (
    CallDecision,
    CallWait,
    Channel,
    ChannelError,
    HttpAnswer,
    InboxConfig,
    Malformed,
    RawRequest,
    SignatureRefused,
)
from channels.wire import flag
from crm_core import inbound_rows
from crm_core.clock import SECOND
from crm_core.envelope import CallEvent
from crm_core.errors import NotFound
from crm_core.services import Services
from routing import expected_wait
from routing.wait_text import wait_text
from routing.where import where_to_send_call

log = structlog.get_logger(__name__)

#: how long a ringing call may wait for our word; then the PBX does what it does by itself
WHERE_TIMEOUT_S = 0.3
#: `inbox_state.last_inbound_at` is this exact; more would make all hooks of an inbox queue for one row
LAST_INBOUND_EVERY_MS = 10 * SECOND
#: submissions of one open form from one network, a minute; an office or a proxy is one network, too
FORMS_PER_MINUTE = 60
MAX_INBOX_KEY = 64


async def hook(request: web.Request) -> web.StreamResponse:
    """POST (or GET, for challenges) /hooks/{inbox_key}[/…]"""
    row = await find_inbox(request, request.match_info["inbox_key"])
    adapter = get_channel(row["channel"])
    if type(adapter).verify is Channel.verify:
        raise NotFound("this inbox takes no webhooks", code="no_webhook")
    if row["channel"] != "form":
        return await _Hook(request, row, adapter).run()
    cors = _cors(request, row)
    if request.method == "OPTIONS":
        return web.Response(
            status=204,
            headers={
                **cors,
                "Access-Control-Allow-Methods": "POST",
                "Access-Control-Allow-Headers": "Content-Type, Idempotency-Key",
                "Access-Control-Max-Age": "600",
            },
        )
    try:
        response = await _Hook(request, row, adapter).run()
    except Exception as error:
        # The page of the form must be able to read the error as well.
        response = answer_to(error, where="/hooks")
    response.headers.update(cors)
    return response


async def find_inbox(request: web.Request, key: str, *, channel: str | None = None) -> Mapping[str, Any]:
    """The enabled inbox with this public key. Raises NotFound."""
    # Keys are ours and plain; a database must not even be asked for others (Postgres refuses NUL characters).
    plain = 1 <= len(key) <= MAX_INBOX_KEY and key.isascii() and key.isprintable()
    row = await request.app[INBOXES].by_key(key) if plain else None
    if row is None or not row["enabled"] or (channel is not None and row["channel"] != channel):
        raise NotFound("no such inbox", code="no_inbox")
    return row


def _cors(request: web.Request, row: Mapping[str, Any]) -> dict[str, str]:
    origin = request.headers.get("Origin")
    allowed = row["config"].get("origins") or ["*"]
    if origin is None or ("*" not in allowed and origin not in allowed):
        return {}
    return {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}


class _Hook:
    """One request at one inbox."""

    def __init__(self, request: web.Request, row: Mapping[str, Any], adapter: Channel) -> None:
        self.request = request
        self.services: Services = request.app[SERVICES]
        self.adapter = adapter
        self.inbox: InboxConfig = inbox_config(row)
        #: anybody may fill in a form that needs no signature, so what is refused there proves nothing
        self.open_to_all = row["channel"] == "form" and not flag(row["config"].get("require_signature"))
        self.refusals = request.app[REFUSALS]

    async def run(self) -> web.StreamResponse:
        address = client_address(self.request, self.services.settings)
        if self.open_to_all and (wait := await self._too_often(address)) > 0:
            refusal = self._refusal(429, "too many submissions, wait a little", "rate_limited")
            refusal.headers["Retry-After"] = str(math.ceil(wait))
            return refusal
        try:
            body = await read_body(self.request, limit=self.adapter.spec.max_request_bytes)
        except BodyTooLarge as error:
            limit = self.adapter.spec.max_request_bytes
            await self._keep(
                error.head,
                f"larger than {limit} bytes",
                limited=True,
                size=error.size,
            )
            return self._refusal(413, error.detail, "too_large")
        except (BodyBroken, BodyTooSlow) as error:
            await self._keep(error.head, error.detail, limited=True, size=error.size)
            return self._refusal(error.http_status, error.detail, error.code)
        raw = RawRequest(
            method=self.request.method,
            url=public_url(self.request, self.services.settings),
            headers={name.lower(): value for name, value in self.request.headers.items()},
            body=body,
            content_type=self.request.headers.get("Content-Type", ""),
            query=dict(self.request.query),
            remote=address,
            received_at=self.services.clock.now_ms(),
        )
        try:
            challenge = self.adapter.verify(raw, self.inbox)
            if challenge is not None:
                return _response(challenge)
            items = self.adapter.split(raw, self.inbox)
        except SignatureRefused as error:
            return await self._not_proven(body, error.reason)
        except Malformed as error:
            # A proven request is never thrown away for its number; anybody's form is.
            await self._keep(body, error.reason, limited=self.open_to_all)
            return self._refusal(422 if self.inbox.channel == "form" else 400, error.reason, "malformed")
        except ChannelError as error:
            await self._keep(body, f"the inbox is not set up: {error.detail}", limited=True)
            return self._refusal(503, "this inbox is not set up", "not_configured")
        except Exception as error:
            # A defect of ours must not lose what the provider sent: it is kept, and the provider repeats.
            await self._keep(body, f"{type(error).__name__} while reading", limited=False)
            raise
        await self._store(items)
        decision = await self._where(raw)
        return _response(self.adapter.acknowledge(raw, self.inbox, decision))

    async def _too_often(self, address: str) -> float:
        """Seconds to wait, 0 if there is room."""
        return await self.services.limiter.take(
            f"form:{self.inbox.id}:{network_of(address)}",
            per_s=FORMS_PER_MINUTE / 60,
            burst=FORMS_PER_MINUTE,
            now=self.services.clock.now_ms(),
        )

    async def _store(self, items: list[Any]) -> None:
        last_seen = self.refusals.last_inbound
        async with self.services.db.transaction() as uow:
            stored = await inbound_rows.store_items(uow, self.inbox.id, items)
            noting = uow.now - last_seen.get(self.inbox.id, 0) >= LAST_INBOUND_EVERY_MS
            if noting:
                await inbound_rows.note_state(uow, self.inbox.id, last_inbound_at=uow.now)
        if noting:
            last_seen[self.inbox.id] = self.services.clock.now_ms()
        self.request.app[METRICS].inbound.labels(self.inbox.channel).inc(len(stored))

    async def _where(self, raw: RawRequest) -> CallDecision | None:
        """Where a ringing call goes, if it asks and routing answers in time."""
        asked = self.adapter.asks_where(raw, self.inbox)
        if asked is None:
            return None
        try:
            async with asyncio.timeout(WHERE_TIMEOUT_S), self.services.db.reading() as conn:
                now = self.services.clock.now_ms()
                found = await where_to_send_call(conn, asked, self.inbox, now=now)
                if found is None:
                    return CallDecision(wait=await self._wait(conn, asked.call, now))
        except Exception as error:
            # The call rings on without us; it must not end because a query was slow.
            log.warning("call_not_directed", inbox_id=self.inbox.id, error=type(error).__name__)
            return None
        return CallDecision(
            agent_id=found.agent_id,
            agent_ext=found.agent_ext,
            agent_name=found.agent_name,
            queue=found.queue,
            customer_name=found.customer_name,
            vip=found.vip,
        )

    async def _wait(self, conn: AsyncConnection, asked: CallEvent | None, now: int) -> CallWait:
        """What a caller may be told whom nobody can take now."""
        key, number = (asked.call_id, asked.from_number) if asked is not None else ("", None)
        wait = await expected_wait.for_caller(conn, self.inbox.id, key, now, number=number)
        return CallWait(
            text=wait_text(wait, self.inbox.language),
            position=wait.position,
            low_min=wait.low_min,
            high_min=wait.high_min,
            offer_callback=wait.offers_callback,
        )

    async def _not_proven(self, body: bytes, reason: str) -> web.Response:
        await self.refusals.count(self.services, self.inbox, reason)
        await self._keep(body, f"not proven: {reason}", limited=True)
        return self._refusal(401, "the signature is not valid", "bad_signature")

    async def _keep(self, body: bytes, error: str, *, limited: bool, size: int | None = None) -> None:
        self.request.app[METRICS].refused.labels(self.inbox.channel, error.split(":", 1)[0][:40]).inc()
        meta = {"method": self.request.method, "path": self.request.path[:300]}
        content_type = self.request.headers.get("Content-Type", "").encode("ascii", "replace").decode()
        await self.refusals.keep(
            self.services,
            self.inbox,
            body=body,
            content_type=content_type,
            error=error,
            meta=meta,
            limited=limited,
            size=size,
        )

    def _refusal(self, status: int, reason: str, code: str) -> web.Response:
        answer = self.adapter.refuse(self.inbox, status, reason)
        if answer == HttpAnswer(status=status, body=reason):
            return problem(status, code, reason)
        return _response(answer)


def _response(answer: HttpAnswer) -> web.Response:
    return web.Response(
        status=answer.status,
        body=answer.body.encode(),
        headers={
            "Content-Type": _with_charset(answer.content_type),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        },
    )


def _with_charset(content_type: str) -> str:
    return (
        f"{content_type}; charset=utf-8"
        if content_type.startswith("text/") and ";" not in content_type
        else content_type
    )


def add_hooks(app: web.Application) -> None:
    """The routes of all providers."""
    for path in ("/hooks/{inbox_key}", "/hooks/{inbox_key}/{tail:.*}"):
        for method in ("GET", "POST", "OPTIONS"):
            app.router.add_route(method, path, hook)
