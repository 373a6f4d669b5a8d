"""`Idempotency-Key` on POST: the same request sent again has one effect and the same answer.

The key's row is committed first, so that a concurrent twin sees it; the answer is written in the transaction of the
effect. A row without an answer is a request at work, or one that died: after a minute the next one takes it over, and
the mark it wrote keeps the first, should it still live, from committing.
"""

import hashlib
from dataclasses import dataclass
from typing import TypeVar

from aiohttp import web
from sqlalchemy import Delete, Update, delete, select, update

from api.layer.bodies import check_text
from api.layer.routes import Call
from crm_core.clock import DAY, MINUTE
from crm_core.db.engine import Database
from crm_core.db.uow import UnitOfWork
from crm_core.errors import Conflict, Invalid
from crm_core.schema import idempotency

StatementT = TypeVar("StatementT", Update, Delete)

#: how long an answer is kept for repetition
KEEP_MS = DAY
TAKE_OVER_MS = MINUTE


@dataclass(frozen=True, slots=True)
class Attempt:
    """The right to run the request of one key; `mark` tells this try from one that takes it over."""

    db: Database
    agent_id: int
    key: str
    mark: int

    async def finish(self, uow: UnitOfWork, status: int, body: str | None) -> None:
        """Store the answer. Raises Conflict if another try has taken over meanwhile."""
        done = await uow.execute(self._mine(update(idempotency)).values(status=status, body=body or ""))
        if done.rowcount != 1:
            raise Conflict("another request with this key took over", code="idempotency_conflict")

    async def forget(self) -> None:
        async with self.db.transaction() as uow:
            await uow.execute(self._mine(delete(idempotency)))

    def _mine(self, statement: StatementT) -> StatementT:
        return statement.where(
            idempotency.c.agent_id == self.agent_id,
            idempotency.c.key == self.key,
            idempotency.c.status.is_(None),
            idempotency.c.created_at == self.mark,
        )


async def begin(call: Call, key: str, raw: bytes) -> tuple[Attempt | None, web.Response | None]:
    """Take the key, or give back what it has led to. Raises Conflict (the twin is at work) and Invalid (the key was
    used for something else).
    """
    if not 1 <= len(key) <= 200:
        raise Invalid("Idempotency-Key must have 1 to 200 characters", code="bad_idempotency_key")
    check_text(key)
    what = f"{call.request.method} {call.request.path_qs}\n".encode() + raw
    fingerprint = hashlib.sha256(what).hexdigest()
    agent_id = call.actor.agent_id
    mine = (idempotency.c.agent_id == agent_id, idempotency.c.key == key)
    async with call.db.transaction() as uow:
        values = {
            "agent_id": agent_id,
            "key": key,
            "fingerprint": fingerprint,
            "status": None,
            "body": None,
            "created_at": uow.now,
        }
        attempt = Attempt(call.db, agent_id, key, uow.now)
        if await uow.insert_new(idempotency, values, key=["agent_id", "key"]) is not None:
            return attempt, None
        row = await uow.row(uow.lock(select(idempotency).where(*mine)))
        if row is None:
            raise Conflict(
                "the first request with this key is just ending, try again", code="idempotency_conflict"
            )
        answered_long_ago = row["status"] is not None and row["created_at"] <= uow.now - KEEP_MS
        died = row["status"] is None and row["created_at"] <= uow.now - TAKE_OVER_MS
        if answered_long_ago or (died and row["fingerprint"] == fingerprint):
            await uow.execute(update(idempotency).where(*mine).values(**values))
            return attempt, None
        if row["fingerprint"] != fingerprint:
            raise Invalid("this Idempotency-Key was used for another request", code="idempotency_mismatch")
        if row["status"] is None:
            raise Conflict("the first request with this key is still at work", code="idempotency_conflict")
        return None, web.Response(
            status=row["status"],
            body=row["body"].encode() or None,
            content_type="application/json",
            headers={"Cache-Control": "no-store", "Idempotency-Replayed": "true"},
        )
