"""Raw inbound rows: stored under a unique key before anything is acknowledged, kept, replayed or discarded.

A row that cannot be read is quarantined with its error and stays visible; it is never dropped.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import update

from crm_core.db.uow import UnitOfWork
from crm_core.errors import Conflict, NotFound
from crm_core.events import SUPERVISORS, DomainEvent
from crm_core.jobs import NewJob
from crm_core.schema import inbound, inbox_state

PROCESS_JOB = "inbound.process"
#: of a refused request, so much is kept to look at
QUARANTINE_BYTES = 64 * 1024
_MAX_KEY = 300


class Item(Protocol):
    """What channels call a RawItem."""

    @property
    def dedupe_key(self) -> str: ...
    @property
    def lane(self) -> str: ...
    @property
    def body(self) -> bytes: ...
    @property
    def content_type(self) -> str: ...
    @property
    def order(self) -> int: ...
    @property
    def meta(self) -> Mapping[str, str]: ...


def short_key(key: str) -> str:
    """A key that fits the column: long ones end in a hash of the whole."""
    if len(key) <= _MAX_KEY:
        return key
    return key[: _MAX_KEY - 65] + ":" + hashlib.sha256(key.encode()).hexdigest()


async def store_items(uow: UnitOfWork, inbox_id: int, items: Sequence[Item]) -> list[int]:
    """Insert what is new and a job for each; returns the new rows' ids. A repeated key is not an error."""
    ids = []
    for item in items:
        lane = short_key(f"in:{inbox_id}:{item.lane}")
        row_id = await uow.insert_new(
            inbound,
            {
                "inbox_id": inbox_id,
                "dedupe_key": short_key(item.dedupe_key),
                "lane": lane,
                "order_key": item.order,
                "content_type": item.content_type[:120],
                "meta": dict(item.meta),
                "body": item.body,
                "size": len(item.body),
                "state": "received",
                "error": None,
                "received_at": uow.now,
                "processed_at": None,
            },
            key=["inbox_id", "dedupe_key"],
            returning=inbound.c.id,
        )
        if row_id is None:
            continue
        ids.append(int(row_id))
        uow.enqueue(
            NewJob(
                name=PROCESS_JOB,
                args={"inbound_id": int(row_id)},
                lane=lane,
                order_key=item.order,
                queue="inbound",
                max_attempts=8,
            )
        )
    return ids


async def store_done(uow: UnitOfWork, inbox_id: int, item: Item) -> int | None:
    """Keep the raw row of what the caller takes in itself in this transaction (web chat). None: a repetition."""
    row_id = await uow.insert_new(
        inbound,
        {
            "inbox_id": inbox_id,
            "dedupe_key": short_key(item.dedupe_key),
            "lane": short_key(f"in:{inbox_id}:{item.lane}"),
            "order_key": item.order,
            "content_type": item.content_type[:120],
            "meta": dict(item.meta),
            "body": item.body,
            "size": len(item.body),
            "state": "done",
            "error": None,
            "received_at": uow.now,
            "processed_at": uow.now,
        },
        key=["inbox_id", "dedupe_key"],
        returning=inbound.c.id,
    )
    return int(row_id) if row_id is not None else None


async def quarantine_request(
    uow: UnitOfWork,
    inbox_id: int,
    *,
    body: bytes,
    content_type: str,
    error: str,
    meta: Mapping[str, str] | None = None,
    size: int | None = None,
) -> int | None:
    """Keep a request that was refused (bad signature, unreadable, too big): its head, once per content."""
    key = "refused:" + hashlib.sha256(body).hexdigest()
    row_id = await uow.insert_new(
        inbound,
        {
            "inbox_id": inbox_id,
            "dedupe_key": key,
            "lane": "refused",
            "order_key": 0,
            "content_type": content_type[:120],
            "meta": dict(meta or {}),
            "body": body[:QUARANTINE_BYTES],
            "size": size if size is not None else len(body),
            "state": "quarantined",
            "error": error,
            "received_at": uow.now,
            "processed_at": None,
        },
        key=["inbox_id", "dedupe_key"],
        returning=inbound.c.id,
    )
    if row_id is None:
        return None
    await _announce(uow, int(row_id), inbox_id, error)
    return int(row_id)


async def quarantine(uow: UnitOfWork, inbound_id: int, error: str) -> None:
    """Set a stored row aside with the reason."""
    row = await uow.row(
        update(inbound)
        .where(inbound.c.id == inbound_id)
        .values(state="quarantined", error=error[:4000], processed_at=uow.now)
        .returning(inbound.c.inbox_id)
    )
    if row is not None:
        await _announce(uow, inbound_id, row["inbox_id"], error)


async def _announce(uow: UnitOfWork, inbound_id: int, inbox_id: int, error: str) -> None:
    await uow.emit(
        DomainEvent(
            kind="inbound.quarantined",
            subject_kind="inbound",
            subject_id=inbound_id,
            actor=f"inbox:{inbox_id}",
            payload={"inbox_id": inbox_id, "error": error[:500]},
            audience=SUPERVISORS,
        )
    )


async def done(uow: UnitOfWork, inbound_id: int, note: str | None = None) -> None:
    await uow.update(inbound, inbound_id, {"state": "done", "error": note, "processed_at": uow.now})


async def replay(uow: UnitOfWork, inbound_id: int, *, actor: str) -> None:
    """Process a row again, from the raw bytes. Doubles are recognised as ever. Raises NotFound, Conflict."""
    row = await uow.find(inbound, inbound_id, lock=True)
    if row is None:
        raise NotFound(f"no inbound row {inbound_id}")
    if row["state"] == "received":
        raise Conflict("this row waits to be processed already", code="already_waiting")
    if row["size"] > len(row["body"]):
        raise Conflict("only the head of this request was kept", code="cut")
    await uow.update(inbound, inbound_id, {"state": "received", "error": None, "processed_at": None})
    uow.enqueue(
        NewJob(
            name=PROCESS_JOB,
            args={"inbound_id": inbound_id, "replayed_by": actor},
            lane=row["lane"],
            order_key=row["order_key"],
            queue="inbound",
            max_attempts=8,
        )
    )
    await uow.emit(
        DomainEvent(
            kind="inbound.replayed",
            subject_kind="inbound",
            subject_id=inbound_id,
            actor=actor,
            payload={"inbox_id": row["inbox_id"]},
        )
    )


async def discard(uow: UnitOfWork, inbound_id: int, *, actor: str) -> None:
    """Say that nobody needs this quarantined row. It stays readable. Raises NotFound, Conflict."""
    row = await uow.find(inbound, inbound_id, lock=True)
    if row is None:
        raise NotFound(f"no inbound row {inbound_id}")
    if row["state"] != "quarantined":
        raise Conflict(
            f"only a quarantined row can be discarded, this one is {row['state']}", code="not_quarantined"
        )
    await uow.update(inbound, inbound_id, {"state": "discarded", "processed_at": uow.now})
    await uow.emit(
        DomainEvent(
            kind="inbound.discarded",
            subject_kind="inbound",
            subject_id=inbound_id,
            actor=actor,
            payload={"inbox_id": row["inbox_id"]},
        )
    )


async def note_state(uow: UnitOfWork, inbox_id: int, **values: Any) -> None:
    """Write facts about an inbox's traffic (cursor, last_error, paused_until …), making the row if needed."""
    fresh = {
        "inbox_id": inbox_id,
        "cursor": {},
        "paused_until": None,
        "signature_failures": 0,
        "last_inbound_at": None,
        "last_error": None,
        "last_error_at": None,
    }
    made = await uow.insert_new(inbox_state, {**fresh, **values}, key=["inbox_id"])
    if made is None:
        await uow.execute(update(inbox_state).where(inbox_state.c.inbox_id == inbox_id).values(**values))
