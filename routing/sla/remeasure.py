"""New hours for hundreds of inquiries at once: what `service.revise` does after a calendar's edit, column by column.

Owns the way for the plain case, which nearly every inquiry is: its clocks go on by the newest version of their
calendar, and nothing else about it is new. The arithmetic is `timing.recalendar`, as everywhere; what is saved are the
copies around it. Whatever is not plain (terms that changed meanwhile, a deadline that passed unseen, an inquiry whose
facts nobody wrote down) is handed back for the ordinary way, in the same transaction.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from crm_core.access import inquiry_audience
from crm_core.db.uow import Row, UnitOfWork
from crm_core.events import Audience, DomainEvent
from routing.sla import book as books
from routing.sla import record, store, store_many, timing
from routing.sla.clock import Clock, EventKind, SlaEvent
from routing.sla.policy import Rulebook
from routing.sla.store_many import Live

_CAUSE = "calendar"
#: clocks written by one statement while the next are computed
_TOGETHER = 300
#: inquiries after which the loop gets its turn: others in this process wait no longer than a few milliseconds
_BREATH = 20


async def follow(uow: UnitOfWork, book: books.Book, inquiry_ids: Sequence[int]) -> tuple[int, list[int]]:
    """Move the clocks of these inquiries to the newest versions of their calendars. Locks the inquiries, in order of
    id. Returns how many of them changed, and those that the ordinary way has to look at.
    """
    heads = await store_many.lock_heads(uow, inquiry_ids)
    found = await store_many.live_clocks(uow, list(heads))
    batch = _Batch(uow.now, found.rules(book), frozenset(policy.id for policy in book.current))
    left, writer = set(heads), _Writer(uow)
    async with writer:
        for n, (inquiry_id, clocks) in enumerate(found.by_inquiry()):
            if batch.take(heads[inquiry_id], clocks):
                left.discard(inquiry_id)
            if len(batch.moves) >= _TOGETHER:
                writer.put(batch.moves)
                batch.moves = store_many.Moves()
            if n % _BREATH == 0:
                await asyncio.sleep(0)
        writer.put(batch.moves)
    for event in batch.events:
        await uow.emit(event)
    if batch.changed:
        await record.raise_alarms(uow, [*book.problems, *batch.troubles])
    return batch.changed, sorted(left)


class _Writer:
    """Writes in the order given, on the one connection, while the next clocks are computed: a server works beside this
    process. Nothing of it is left running when the block ends, however it ends.
    """

    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow
        self._last: asyncio.Task[None] | None = None

    def put(self, moves: store_many.Moves) -> None:
        if moves:
            self._last = asyncio.create_task(self._write(moves, self._last))

    async def _write(self, moves: store_many.Moves, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await before
        await moves.write(self._uow, kind=EventKind.RETARGET.value, cause=_CAUSE)

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._last is None:
            return
        if kind is not None:
            # The transaction is given up; what is on its way must be over before it is rolled back.
            await asyncio.wait([self._last])
            if not self._last.cancelled():
                self._last.exception()  # what ended the block is told, not what followed from it
            return
        await self._last


class _Batch:
    """What is to be written and told."""

    def __init__(self, now: int, rules: Rulebook, policies: frozenset[int]) -> None:
        self._now, self._rules, self._policies = now, rules, policies
        self.changed = 0
        self.moves = store_many.Moves()
        self.events: list[DomainEvent] = []
        #: the shared part of ledger entries
        self._said: dict[tuple[Any, ...], str] = {}
        #: in the order in which they were met
        self.troubles: dict[str, None] = {}

    def take(self, head: Row, clocks: Sequence[Live]) -> bool:
        """One inquiry with its live clocks. False: it is not plain, and nothing of it was taken."""
        if not self._on_its_terms(head, clocks):
            return False
        moved: list[tuple[Clock, Sequence[SlaEvent]]] = []
        for one in clocks:
            move = timing.recalendar(one.clock, self._now, self._rules)
            if len(move[1]) > 1:
                return False  # a deadline that passed unseen, or was seen too early: people are told
            moved.append(move)
        changed = False
        for one, (clock, events) in zip(clocks, moved, strict=True):
            for event in events:
                changed = True
                entry = self._entry(clock, head, record.due_of(one.clock, clock), event.data or {})
                self.moves.add(one, clock, head["id"], event.at, entry)
                problem = record.trouble(clock)
                if problem is not None:
                    self.troubles[problem] = None
        if changed:
            self.changed += 1
            before = record.reply_due([one.clock for one in clocks])
            after = record.reply_due([clock for clock, _ in moved])
            if before != after:
                audience = _audience(head["team_id"], head["assignee_id"])
                self.events.append(record.due_moved(head, before, after, audience))
        return True

    def _entry(self, clock: Clock, head: Row, due: int | None, data: Mapping[str, Any]) -> str:
        """What the ledger says of this, as JSON. Hundreds say the same but for the deadline."""
        key = (
            head["team_id"], head["assignee_id"], head["channel"], clock.priority, clock.pause_reasons,
            clock.target_ms, clock.business, clock.calendar_id, clock.calendar_version,
        )  # fmt: skip
        known = self._said.get(key)
        if known is None:
            told = {**record.circumstances(clock, head, None), **data}
            del told["due_at"]
            known = self._said[key] = json.dumps(told).removesuffix("}")
        return f'{known}, "due_at": {"null" if due is None else due}}}'

    def _on_its_terms(self, head: Row, clocks: Sequence[Live]) -> bool:
        """Whether `service.advance` would find that its policy and priority are still those of its clocks."""
        memory = next((one.memory for one in clocks if one.clock.key == store.HOME), None)
        if memory is None or "facts" not in memory:
            return False
        note = store.Note.from_data(memory)
        kept = note.policy_id is None or note.policy_id in self._policies
        return kept and note.priority == head["priority"]


@lru_cache(maxsize=1024)
def _audience(team_id: int | None, assignee_id: int | None) -> Audience:
    return inquiry_audience({"team_id": team_id, "assignee_id": assignee_id})
