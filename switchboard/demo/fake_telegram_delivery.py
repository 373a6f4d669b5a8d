"""How the local Bot API hands updates to the bot: confirmed polling, or posts to a webhook with redelivery.

One update of a chat is in flight at a time, chats run in parallel, what is refused comes again, as
documented by
the open Bot API server's source.
"""

import asyncio
import contextlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout

from switchboard.demo.fake_telegram_rules import Params, RefusalError, bad_request

#: Left out by an empty allowed_updates, as documented.
_NOT_BY_DEFAULT = frozenset({"chat_member", "message_reaction", "message_reaction_count"})
_UPDATE_LIFE_S = 24 * 3600.0
_CALLBACK_LIFE_S = 150.0
_HOOK_TIMEOUT_S = 60.0
_CONFLICT_DELAY_S = 3.0
_MAX_RETRY_AFTER_S = 3600.0
_HOOK_ACTIVE = (
    "Conflict: can't use getUpdates method while webhook is active; "
    "use deleteWebhook to delete the webhook first"
)
_TWO_POLLERS = (
    "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
)


@dataclass(slots=True)
class _Pending:
    update: dict[str, Any]
    kind: str
    lane: int
    born: float


@dataclass(slots=True)
class _Hook:
    url: str = ""
    secret: str = ""
    max_connections: int = 40
    last_error: str = ""
    last_error_s: int = 0
    tasks: dict[int, "asyncio.Task[None]"] = field(default_factory=dict)


class Delivery:
    """The bot's update queue. `changed` is notified whenever anything here or in the server happened."""

    def __init__(
        self, *, first_update_id: int, time_scale: float, changed: asyncio.Condition, now_s: Callable[[], int]
    ) -> None:
        self._next_id = first_update_id
        self._time_scale = time_scale
        self._changed = changed
        self._now_s = now_s
        self._pending: dict[int, _Pending] = {}
        self._allowed: frozenset[str] | None = None
        self._hook = _Hook()
        self._poll_serial = 0
        self._http: ClientSession | None = None

    def start(self) -> None:
        self._http = ClientSession(timeout=ClientTimeout(total=_HOOK_TIMEOUT_S))

    async def stop(self) -> None:
        await self._stop_hook()
        self._poll_serial += 1
        await self._notify()
        if self._http is not None:
            await self._http.close()

    @property
    def pending(self) -> list[dict[str, Any]]:
        return [each.update for each in self._pending.values()]

    async def push(self, kind: str, payload: Any, lane: int) -> int | None:
        """The new update's id, or None if the bot does not ask for this kind."""
        wanted = kind not in _NOT_BY_DEFAULT if self._allowed is None else kind in self._allowed
        if not wanted:
            return None
        update_id = self._next_id
        self._next_id += 1
        born = asyncio.get_running_loop().time()
        self._pending[update_id] = _Pending({"update_id": update_id, kind: payload}, kind, lane, born)
        self._start_lane(lane)
        await self._notify()
        return update_id

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _allow(self, params: Params) -> None:
        """Left out it keeps the previous setting, an empty list is the default set."""
        wanted = params.parsed("allowed_updates", list)
        if wanted is not None:
            self._allowed = frozenset(map(str, wanted)) or None

    # -- Bot API methods -------------------------------------------------------------------------------------

    async def set_webhook(self, params: Params) -> bool:
        url = params.text("url") or ""
        secret = params.text("secret_token") or ""
        connections = params.integer("max_connections") or 40
        drop = params.boolean("drop_pending_updates")
        params.text("ip_address")
        if url and not url.startswith(("https://", "http://")):
            raise bad_request("bad webhook: invalid URL")
        plain = secret.replace("-", "").replace("_", "")
        if len(secret) > 256 or (plain and not (plain.isascii() and plain.isalnum())):
            raise bad_request("secret token contains unallowed characters")
        if not 1 <= connections <= 100:
            raise bad_request("max_connections must be between 1 and 100")
        self._allow(params)
        await self._stop_hook()
        if drop:
            self._pending.clear()
        self._hook = _Hook(url=url, secret=secret, max_connections=connections)
        if url:
            self._poll_serial += 1
            for lane in {each.lane for each in self._pending.values()}:
                self._start_lane(lane)
        return True

    async def delete_webhook(self, params: Params) -> bool:
        drop = params.boolean("drop_pending_updates")
        await self._stop_hook()
        self._hook = _Hook()
        if drop:
            self._pending.clear()
        return True

    async def get_webhook_info(self, _params: Params) -> dict[str, Any]:
        info: dict[str, Any] = {
            "url": self._hook.url,
            "has_custom_certificate": False,
            "pending_update_count": len(self._pending),
            "max_connections": self._hook.max_connections,
        }
        if self._allowed is not None:
            info["allowed_updates"] = sorted(self._allowed)
        if self._hook.last_error:
            info |= {
                "last_error_date": self._hook.last_error_s,
                "last_error_message": self._hook.last_error,
            }
        return info

    async def get_updates(self, params: Params) -> list[dict[str, Any]]:
        offset = params.integer("offset") or 0
        limit = min(max(params.integer("limit") or 100, 1), 100)
        timeout = max(params.integer("timeout") or 0, 0)
        self._allow(params)
        if self._hook.url:
            raise RefusalError(409, _HOOK_ACTIVE)
        self._poll_serial += 1
        serial = self._poll_serial
        await self._notify()
        if offset < 0:
            offset = (sorted(self._pending)[offset:] or [0])[0]
        for update_id in [one for one in self._pending if one < offset]:
            del self._pending[update_id]
        await self._notify()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout), self._changed:
                await self._changed.wait_for(lambda: bool(self._pending) or serial != self._poll_serial)
        if serial != self._poll_serial:
            await asyncio.sleep(_CONFLICT_DELAY_S * self._time_scale)
            raise RefusalError(409, _TWO_POLLERS)
        return [self._pending[update_id].update for update_id in sorted(self._pending)[:limit]]

    # -- webhook ---------------------------------------------------------------------------------------------

    def _start_lane(self, lane: int) -> None:
        if self._hook.url and lane not in self._hook.tasks:
            drain = self._drain(self._hook, lane)
            self._hook.tasks[lane] = asyncio.get_running_loop().create_task(drain)

    async def _stop_hook(self) -> None:
        tasks = list(self._hook.tasks.values())
        self._hook.tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _drain(self, hook: _Hook, lane: int) -> None:
        """The first retry comes at once, then after 2, 4, 8 … up to 60-120 s; an update lives a day."""
        wait = 0.0
        while True:
            queue = [one for one, each in self._pending.items() if each.lane == lane]
            if not queue:
                hook.tasks.pop(lane, None)
                return
            first = min(queue)
            pending = self._pending[first]
            life = _CALLBACK_LIFE_S if pending.kind == "callback_query" else _UPDATE_LIFE_S
            age = asyncio.get_running_loop().time() - pending.born
            asked = None if age > life * self._time_scale else await self._post(hook, pending.update)
            if asked is None:
                self._pending.pop(first, None)
                wait = 0.0
                await self._notify()
                continue
            pause = max(wait, min(asked, _MAX_RETRY_AFTER_S))
            wait = min(wait * 2 or 2.0, 60.0 + secrets.randbelow(60))
            await asyncio.sleep(pause * self._time_scale)

    async def _post(self, hook: _Hook, update: dict[str, Any]) -> float | None:
        """None if the hook took it, else the seconds its Retry-After asks for."""
        headers = {"Content-Type": "application/json"}
        if hook.secret:
            headers["X-Telegram-Bot-Api-Secret-Token"] = hook.secret
        asked = 0.0
        try:
            if self._http is None:
                raise RuntimeError("the server is not started")
            body = json.dumps(update, separators=(",", ":")).encode()
            async with self._http.post(hook.url, data=body, headers=headers, allow_redirects=False) as answer:
                if 200 <= answer.status < 300:
                    return None
                hook.last_error = f"Wrong response from the webhook: {answer.status} {answer.reason}"
                after = answer.headers.get("Retry-After", "")
                asked = float(after) if after.isdigit() else 0.0
        except (ClientError, TimeoutError, OSError) as error:
            hook.last_error = f"Connection failed: {type(error).__name__}"
        hook.last_error_s = self._now_s()
        await self._notify()
        return asked
