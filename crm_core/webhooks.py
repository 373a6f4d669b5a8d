"""Outbound webhooks: endpoints as data, which events go where, and every delivery with its attempts.

Owns the webhook tables. Posting is a job's business (`workers.webhooks`); nothing here talks to the outside. The rules
of what is posted and how it is signed are in docs/webhooks.md.
"""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from crm_core.clock import DAY, HOUR, MINUTE, SECOND, to_iso
from crm_core.db.uow import Row, UnitOfWork, read_rows
from crm_core.errors import Conflict, Invalid, NotFound
from crm_core.event_log import Cursor
from crm_core.events import SUPERVISORS, DomainEvent
from crm_core.jobs import NewJob
from crm_core.schema import job, setting, webhook, webhook_delivery

DELIVER_JOB = "webhook.deliver"
RELEASE_JOB = "webhook.release"
#: setting: behind which event the log was already turned into deliveries
CURSOR = "webhooks.cursor"
#: after the first attempt, eight more within 24 hours
RETRY_MS = (
    10 * SECOND, MINUTE, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 4 * HOUR, 8 * HOUR, 9 * HOUR + 23 * MINUTE,
)  # fmt: skip
#: an endpoint that took nothing for so long is switched off
GIVE_UP_MS = DAY
KEEP_MS = 30 * DAY
MAX_BODY = 256 * 1024
MAX_ENDPOINTS = 50
HISTORY = 20
_MAX_URL = 2000


# --- endpoints ------------------------------------------------------------------------------------------------
async def create(
    uow: UnitOfWork, *, key: str, name: str, url: str, events: Sequence[str] = (), active: bool = True, actor: str
) -> dict[str, Any]:  # fmt: skip
    """A new endpoint; its secret is in the row. Raises Invalid (bad_webhook), Conflict (webhook_exists, full)."""
    check_url(url)
    # Few: each event is held against each of them.
    known = await uow.rows(select(webhook.c.id))
    if len(known) >= MAX_ENDPOINTS:
        raise Conflict(f"there are {MAX_ENDPOINTS} webhooks already", code="too_many_webhooks")
    values: dict[str, Any] = {
        "key": key, "name": name, "url": url, "secret": new_secret(), "events": sorted(set(events)),
        "active": active, "disabled_because": None, "since": uow.now, "failing_since": None, "paused_until": None,
        "failures": 0, "last_ok_at": None, "last_error": None, "version": 1, "created_at": uow.now,
    }  # fmt: skip
    made = await uow.insert_new(webhook, values, key=["key"], returning=webhook.c.id)
    if made is None:
        raise Conflict(f"there is a webhook {key!r} already", code="webhook_exists")
    values["id"] = int(made)
    if active:
        await _begin_listening(uow, values["id"])
    await _changed(uow, values, actor, "created")
    return values


async def change(
    uow: UnitOfWork, webhook_id: int, changes: Mapping[str, Any], *, expected_version: int | None = None, actor: str
) -> dict[str, Any]:  # fmt: skip
    """Change name, url, events or active. Switching it on sends what waited when it went off; what happened while it
    was off is not sent.

    Raises NotFound; Conflict (version_mismatch); Invalid (bad_webhook).
    """
    before = await get(uow, webhook_id, for_update=True)
    if expected_version is not None and before["version"] != expected_version:
        raise Conflict(
            "somebody else changed this webhook meanwhile", code="version_mismatch",
            params={"version": before["version"]},
        )  # fmt: skip
    if "url" in changes:
        check_url(changes["url"])
    values: dict[str, Any] = {**changes, "version": before["version"] + 1}
    if "events" in values:
        values["events"] = sorted(set(values["events"]))
    if changes.get("active") or "url" in changes:
        values |= {"disabled_because": None, "failing_since": None, "paused_until": None, "failures": 0}
    starts = changes.get("active") is True and not before["active"]
    if starts:
        values["since"] = uow.now
    await uow.update(webhook, webhook_id, values)
    after = {**before, **values}
    if starts:
        await _begin_listening(uow, webhook_id)
        uow.enqueue(NewJob(name=RELEASE_JOB, args={"webhook_id": webhook_id}))
    await _changed(uow, after, actor, "changed")
    return after


async def rotate(uow: UnitOfWork, webhook_id: int, *, actor: str) -> dict[str, Any]:
    """A new secret, in force at once. Raises NotFound."""
    before = await get(uow, webhook_id, for_update=True)
    values = {"secret": new_secret(), "version": before["version"] + 1}
    await uow.update(webhook, webhook_id, values)
    await _changed(uow, before, actor, "secret_rotated")
    return {**before, **values}


async def remove(uow: UnitOfWork, webhook_id: int, *, actor: str) -> None:
    """Delete an endpoint with its deliveries. Raises NotFound."""
    before = await get(uow, webhook_id, for_update=True)
    await uow.execute(delete(webhook).where(webhook.c.id == webhook_id))
    await _changed(uow, before, actor, "deleted")


async def get(source: UnitOfWork, webhook_id: int, *, for_update: bool = False) -> Row:
    statement = select(webhook).where(webhook.c.id == webhook_id)
    row = await source.row(source.lock(statement) if for_update else statement)
    if row is None:
        raise NotFound(f"no webhook {webhook_id}", params={"webhook_id": webhook_id})
    return row


async def known_keys(conn: AsyncConnection, keys: Iterable[str]) -> set[str]:
    """Which of these keys are endpoints."""
    rows = await read_rows(conn, select(webhook.c.key).where(webhook.c.key.in_(sorted(set(keys)))))
    return {row["key"] for row in rows}


async def _begin_listening(uow: UnitOfWork, webhook_id: int) -> None:
    """Nobody followed the log while no endpoint was active: the reader finds its place anew."""
    others = select(webhook.c.id).where(webhook.c.active, webhook.c.id != webhook_id).limit(1)
    if await uow.scalar(others) is None:
        await uow.execute(delete(setting).where(setting.c.key == CURSOR))


def check_url(url: str) -> None:
    """Raises Invalid (bad_webhook) for what nobody could post to. Where it leads is looked at when posting."""
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    # A user name in the URL would be stored and shown; the signature is the proof of who is calling.
    if not fine or len(url) > _MAX_URL or "@" in parts.netloc or not url.isprintable() or " " in url:
        raise Invalid(
            "the URL must be http or https with a host, without user name and blanks", code="bad_webhook",
            params={"errors": [{"loc": ["body", "url"], "msg": "not a URL to post to"}]},
        )  # fmt: skip


def new_secret() -> str:
    return f"whsec_{secrets.token_urlsafe(32)}"


async def _changed(uow: UnitOfWork, row: Mapping[str, Any], actor: str, how: str) -> None:
    await uow.emit(
        DomainEvent(
            kind="webhook.changed", subject_kind="webhook", subject_id=row["id"], actor=actor, audience=SUPERVISORS,
            payload={"how": how, "key": row["key"], "active": row["active"]},
        )
    )  # fmt: skip


# --- deliveries -----------------------------------------------------------------------------------------------
def sign(secret: str, timestamp: str, body: bytes) -> str:
    """`X-Signature`: base64url without padding of HMAC-SHA256(secret, timestamp + "." + body)."""
    mac = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).digest()
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


def wants(patterns: Sequence[str], kind: str) -> bool:
    """Whether a filter asks for a kind: by its name, by `group.*` or by `*`. Its own events never: they would
    cause themselves.
    """
    if kind.startswith("webhook."):
        return False
    return any(p in ("*", kind) or (p.endswith(".*") and kind.startswith(p[:-1])) for p in patterns)


def body_of(event_key: str, kind: str, at: int, data: Mapping[str, Any], **about: Any) -> str:
    """What is posted. Data that is too large is left out and said so: the API has it."""
    envelope = {"id": event_key, "kind": kind, "at": to_iso(at), **about}
    text = json.dumps({**envelope, "data": data}, ensure_ascii=False, separators=(",", ":"))
    if len(text.encode()) > MAX_BODY:
        text = json.dumps({**envelope, "data": None, "truncated": True}, ensure_ascii=False)
    return text


def event_body(row: Row) -> str:
    """The post of an event of the log."""
    return body_of(
        event_key(row), row["kind"], row["at"], row["payload"], cursor=str(Cursor(row["tx"], row["id"])),
        actor=row["actor"], subject={"kind": row["subject_kind"], "id": row["subject_id"]},
        inquiry_id=row["inquiry_id"], conversation_id=row["conversation_id"],
    )  # fmt: skip


def event_key(row: Row) -> str:
    return f"event-{row['tx']}-{row['id']}"


async def send(uow: UnitOfWork, key: str, *, event_key: str, kind: str, data: Mapping[str, Any]) -> bool:
    """Ask for one post to the endpoint with this key. False: it was asked for before. Raises NotFound."""
    endpoint = await uow.row(select(webhook).where(webhook.c.key == key))
    if endpoint is None:
        raise NotFound(f"no webhook {key!r}")
    body = body_of(event_key, kind, uow.now, data)
    return bool(await add(uow, [(endpoint, event_key, kind, body)]))


async def add(uow: UnitOfWork, wanted: Sequence[tuple[Row, str, str, str]]) -> list[int]:
    """Store deliveries (endpoint, event key, kind, body) and their jobs. Those that exist are left out."""
    if not wanted:
        return []
    dialect = postgresql if uow.dialect == "postgresql" else sqlite
    statement = (
        dialect.insert(webhook_delivery)
        .on_conflict_do_nothing(index_elements=["webhook_id", "event_key"])
        .returning(webhook_delivery.c.id)
    )
    rows = [
        {
            "webhook_id": endpoint["id"], "event_key": event_key, "kind": kind, "body": body,
            "state": "pending" if endpoint["active"] else "held", "attempts": 0, "history": [],
            "next_at": uow.now if endpoint["active"] else None, "created_at": uow.now, "ended_at": None,
        }
        for endpoint, event_key, kind, body in wanted
    ]  # fmt: skip
    made = {int(i) for (i,) in await uow.execute(statement, rows)}
    if made:
        pending = select(webhook_delivery.c.id).where(
            webhook_delivery.c.id.in_(made), webhook_delivery.c.state == "pending"
        )
        for row in await uow.rows(pending.order_by(webhook_delivery.c.id)):
            _deliver(uow, row["id"])
    return sorted(made)


def _deliver(uow: UnitOfWork, delivery_id: int) -> None:
    # How often it is tried is the delivery's own count; the job goes on until that says stop.
    uow.enqueue(
        NewJob(
            name=DELIVER_JOB, args={"delivery_id": delivery_id}, dedupe=f"{DELIVER_JOB}:{delivery_id}",
            queue="deliver", max_attempts=1_000,
        )
    )  # fmt: skip


async def spread(uow: UnitOfWork, events: Sequence[Row], cursor: Cursor) -> int:
    """Turn events of the log into deliveries and move the cursor, in one transaction. Returns how many."""
    endpoints = await uow.rows(select(webhook).where(webhook.c.active).order_by(webhook.c.id))
    wanted = [
        (endpoint, event_key(row), row["kind"], event_body(row))
        for row in events
        for endpoint in endpoints
        if row["at"] >= endpoint["since"] and wants(endpoint["events"], row["kind"])
    ]
    made = await add(uow, wanted)
    await keep_cursor(uow, cursor)
    return len(made)


async def keep_cursor(uow: UnitOfWork, cursor: Cursor) -> None:
    await uow.execute(update(setting).where(setting.c.key == CURSOR).values(value=str(cursor)))


async def attempted(
    uow: UnitOfWork,
    delivery_id: int,
    *,
    status: int | None,
    error: str | None,
    took_ms: int,
    retry_after_ms: int | None = None,
) -> int | None:
    """Note an attempt. Returns after how many ms to try again, None when it has ended (well or not)."""
    mine = select(webhook_delivery).where(webhook_delivery.c.id == delivery_id)
    seen = await uow.row(mine)
    if seen is None:
        return None
    # The endpoint first, as everywhere: deleting one locks it and then its deliveries.
    endpoint = await get(uow, seen["webhook_id"], for_update=True)
    row = await uow.row(uow.lock(mine))
    if row is None or row["state"] != "pending":
        return None
    attempts = row["attempts"] + 1
    entry = {"at": to_iso(uow.now), "status": status, "error": error, "ms": took_ms}
    values: dict[str, Any] = {"attempts": attempts, "history": [*row["history"], entry][-HISTORY:]}
    health: dict[str, Any]
    delay: int | None = None
    if error is None:
        values |= {"state": "delivered", "ended_at": uow.now, "next_at": None}
        health = {"failing_since": None, "paused_until": None, "failures": 0, "last_ok_at": uow.now}
        if endpoint["failing_since"] is not None:
            uow.enqueue(NewJob(name=RELEASE_JOB, args={"webhook_id": endpoint["id"]}))
    else:
        failures = endpoint["failures"] + 1
        since = endpoint["failing_since"] if endpoint["failing_since"] is not None else uow.now
        # Others of this endpoint wait a little: one knock tells as much as a thousand.
        pause = min(MINUTE, SECOND * 2 ** min(failures, 6))
        health = {
            "failing_since": since, "failures": failures, "last_error": error,
            "paused_until": uow.now + max(pause, retry_after_ms or 0),
        }  # fmt: skip
        if attempts > len(RETRY_MS):
            values |= {"state": "failed", "ended_at": uow.now, "next_at": None}
        else:
            delay = max(RETRY_MS[attempts - 1], retry_after_ms or 0)
            values["next_at"] = uow.now + delay
        gone = status == 410
        if endpoint["active"] and (gone or (uow.now - since >= GIVE_UP_MS)):
            health |= await _disable(uow, endpoint, error)
            if delay is not None:
                values |= {"state": "held", "next_at": None}
                delay = None
    await uow.update(webhook_delivery, delivery_id, values)
    await uow.update(webhook, endpoint["id"], health)
    return delay


async def _disable(uow: UnitOfWork, endpoint: Row, error: str) -> dict[str, Any]:
    await uow.emit(
        DomainEvent(
            kind="alarm.raised", subject_kind="webhook", subject_id=endpoint["id"], audience=SUPERVISORS,
            payload={
                "what": "webhook_disabled", "key": endpoint["key"], "name": endpoint["name"], "error": error,
            },
        )
    )  # fmt: skip
    return {"active": False, "disabled_because": error, "version": endpoint["version"] + 1}


async def hold(uow: UnitOfWork, delivery_id: int) -> None:
    """Its endpoint is off or fails: keep it until it is well again. A thousand that wait must not knock each minute.
    The endpoint must be locked, so that nobody releases what was held a moment before this.
    """
    await uow.execute(
        update(webhook_delivery)
        .where(webhook_delivery.c.id == delivery_id, webhook_delivery.c.state == "pending")
        .values(state="held", next_at=None)
    )


async def release(uow: UnitOfWork, webhook_id: int, *, batch: int = 200) -> None:
    """Send what was held while the endpoint was off or failing, oldest first, a batch at a time."""
    held = (
        select(webhook_delivery.c.id)
        .where(webhook_delivery.c.webhook_id == webhook_id, webhook_delivery.c.state == "held")
        .order_by(webhook_delivery.c.id)
        .limit(batch)
    )
    ids = [row["id"] for row in await uow.rows(uow.lock(held, skip_locked=True))]
    if not ids:
        return
    await uow.execute(
        update(webhook_delivery)
        .where(webhook_delivery.c.id.in_(ids))
        .values(state="pending", attempts=0, next_at=uow.now)
    )
    for delivery_id in ids:
        _deliver(uow, delivery_id)
    if len(ids) == batch:
        uow.enqueue(NewJob(name=RELEASE_JOB, args={"webhook_id": webhook_id}))


async def replay(uow: UnitOfWork, delivery_id: int) -> Row:
    """Post a delivery again, whatever became of it: same id, same body, a new series of attempts.

    Raises NotFound; Conflict: webhook_off.
    """
    row = await uow.find(webhook_delivery, delivery_id, lock=True)
    if row is None:
        raise NotFound(f"no webhook delivery {delivery_id}", params={"delivery_id": delivery_id})
    endpoint = await get(uow, row["webhook_id"])
    if not endpoint["active"]:
        raise Conflict("the webhook is switched off", code="webhook_off")
    values = {"state": "pending", "attempts": 0, "next_at": uow.now, "ended_at": None}
    await uow.update(webhook_delivery, delivery_id, values)
    # If it waits for its next try, it goes now.
    await uow.execute(
        update(job)
        .where(job.c.dedupe == f"{DELIVER_JOB}:{delivery_id}", job.c.state == "ready")
        .values(run_at=uow.now)
    )
    _deliver(uow, delivery_id)
    return {**row, **values}


async def test(uow: UnitOfWork, webhook_id: int, *, actor: str) -> Row:
    """Ask for one post of kind `webhook.test`. Raises NotFound; Conflict: webhook_off."""
    endpoint = await get(uow, webhook_id)
    if not endpoint["active"]:
        raise Conflict("the webhook is switched off", code="webhook_off")
    key = f"test-{secrets.token_hex(8)}"
    body = body_of(key, "webhook.test", uow.now, {"text": "A test by Switchboard.", "by": actor})
    [made] = await add(uow, [(endpoint, key, "webhook.test", body)])
    found = await uow.rows(select(webhook_delivery).where(webhook_delivery.c.id == made))
    return found[0]


async def forget(uow: UnitOfWork, *, batch: int = 500) -> None:
    """Delete a bounded batch of old ended deliveries."""
    oldest = (
        select(webhook_delivery.c.id)
        .where(webhook_delivery.c.created_at < uow.now - KEEP_MS)
        .order_by(webhook_delivery.c.created_at)
        .limit(batch)
    )
    await uow.execute(
        delete(webhook_delivery).where(
            webhook_delivery.c.id.in_(oldest.scalar_subquery()),
            webhook_delivery.c.state.in_(("delivered", "failed", "held")),
        )
    )
