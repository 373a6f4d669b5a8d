"""The SLA scenarios of the vectors file, lived through the core's services and the database."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from crm_core import contacts, inquiries, messages
from crm_core.clock import from_iso
from crm_core.db.engine import Database
from crm_core.jobs import JobRow
from crm_core.schema import contact, conversation, inbox, inquiry, job
from routing.schema import calendar, sla_clock
from routing.sla import book as books
from routing.sla import edit, store
from routing.sla.service import LISTENERS
from routing.sla.sweeper import sweep
from switchboard import check_vectors


async def check_on_database(
    db: Database, clock: Any, vectors: Mapping[str, Any], *, sweeping: bool
) -> dict[str, tuple[Any, Any]]:
    """{scenario: (expected, got)} of those that differ. `clock` must be the database's and settable."""
    db.listeners = {kind: list(functions) for kind, functions in LISTENERS.items()}
    wrong = {}
    for item in vectors["sla_scenarios"]:
        got = await _Play(db, clock, item, vectors["calendars"][item["calendar"]]).run(sweeping=sweeping)
        expected = {look["at"]: check_vectors._by_key(look["instances"]) for look in item["expect"]}
        same_keys = {at: set(found) for at, found in got.items()} == {
            at: set(x) for at, x in expected.items()
        }
        if not same_keys or not check_vectors._same(expected, got):
            wrong[item["id"]] = (expected, got)
    return wrong


class _Play:
    def __init__(self, db: Database, clock: Any, item: Mapping[str, Any], spec: Mapping[str, Any]) -> None:
        self.db, self.clock, self.item, self.spec = db, clock, item, spec
        self.key = item["id"].lower()

    async def run(self, *, sweeping: bool) -> dict[str, dict[str, Any]]:
        item = self.item
        moments = [
            *((from_iso(e["at"]), 0, e) for e in item["events"]),
            *((from_iso(e["at"]), 1, e) for e in item["expect"]),
        ]
        moments.sort(key=lambda moment: moment[:2])
        self.clock.set(moments[0][0])
        await self._prepare()
        seen = {}
        for at, order, what in moments:
            self.clock.set(at)
            if sweeping:
                await sweep(self.db)
            if order == 1:
                seen[what["at"]] = await self._look(at)
            else:
                await self._happen(what)
        return seen

    async def _prepare(self) -> None:
        async with self.db.transaction() as uow:
            self.calendar_id = await uow.insert(
                calendar, {"name": self.key, "spec": self.spec, "version": 1, "updated_at": uow.now}
            )
            box = {
                "key": self.key,
                "channel": "email",
                "name": self.key,
                "secret": "s",
                "config": {},
                "address": None,
                "team_id": None,
                "default_kind": "ticket",
                "flow_key": None,
                "region": "UA",
                "language": "uk",
                "priority": "normal",
                "enabled": True,
                "created_at": uow.now,
            }
            box["id"] = await uow.insert(inbox, box)
            person = await contacts.resolve(uow, (), name=self.key)
            thread = {
                "inbox_id": box["id"],
                "contact_id": person["id"],
                "key": self.key,
                "address": "x",
                "channel": "email",
                "subject": None,
                "language": "uk",
                "last_seq": 0,
                "customer_read_seq": 0,
                "agent_read_seq": 0,
                "sticky_agent_id": None,
                "sticky_until": None,
                "last_customer_at": None,
                "created_at": uow.now,
                "updated_at": uow.now,
            }
            self.thread_id = await uow.insert(conversation, thread)
            self.box, self.person_id = box, person["id"]
            self.measured: set[str] = set()
            if self.item.get("policy") is not None:
                await self._promise(uow, self.item["policy"])

    async def _promise(self, uow: Any, targets: Mapping[str, Any]) -> None:
        named = {
            priority: {str(check_vectors._metric(name)): body for name, body in metrics.items()}
            for priority, metrics in targets.items()
        }
        self.measured |= {metric for metrics in named.values() for metric in metrics}
        current = (await books.load(uow.conn)).keys.values()
        if self.key in current:
            await edit.change_policy(uow, self.key, {"targets": named})
        else:
            await edit.create_policy(
                uow,
                key=self.key,
                name=self.key,
                targets=named,
                conditions={"inbox": self.box["id"]},
                options={"calendar_id": self.calendar_id},
            )

    async def _happen(self, what: Mapping[str, Any]) -> None:
        kind = what["type"]
        if kind == "create":
            await self._create(what)
        elif kind in ("customer", "agent", "bot"):
            program = what.get("bot") or "bot" in (kind, what.get("by"), what.get("author"), what.get("role"))
            author = "customer" if kind == "customer" else "bot" if program else "agent"
            await self._write(author, public=what.get("public", True))
        elif kind in ("status", "priority"):
            async with self.db.transaction() as uow:
                await inquiries.change(uow, self.inquiry_id, {kind: what["to"]}, actor="agent:1")
        elif kind == "policy":
            async with self.db.transaction() as uow:
                if what["targets"] is None:
                    await edit.retire_policy(uow, self.key)
                else:
                    await self._promise(uow, what["targets"])
            await self._recompute()
        else:
            raise AssertionError(kind)

    async def _recompute(self) -> None:
        async with self.db.transaction() as uow:
            rows = await uow.rows(select(job).where(job.c.name == edit.RECOMPUTE_JOB).order_by(job.c.id))
            for row in rows:
                names = ("id", "name", "args", "lane", "order_key", "attempts", "max_attempts", "created_at")
                mine = JobRow(lease_token="", **{name: row[name] for name in names})
                await edit.recompute(None, uow, mine)  # type: ignore[arg-type]
            await uow.execute(job.delete().where(job.c.id.in_([row["id"] for row in rows])))

    async def _create(self, what: Mapping[str, Any]) -> None:
        by = what.get("by", "customer")
        async with self.db.transaction() as uow:
            person = await uow.row(select(contact).where(contact.c.id == self.person_id))
            thread = await uow.row(select(conversation).where(conversation.c.id == self.thread_id))
            made = await inquiries.open_inquiry(
                uow,
                kind="ticket",
                contact=person,
                subject=self.key,
                channel="email",
                conversation=thread,
                inbox=self.box,
                priority=self.item.get("priority"),
                opened_by="contact" if by == "customer" else "agent:1",
            )
            self.inquiry_id = made["id"]
            if what.get("status", "new") != "new":
                await inquiries.change(uow, self.inquiry_id, {"status": what["status"]}, actor="agent:1")
        if by == "agent":
            await self._write("agent", public=what.get("public", True))

    async def _write(self, author: str, *, public: bool) -> None:
        async with self.db.transaction() as uow:
            row = await uow.row(select(inquiry).where(inquiry.c.id == self.inquiry_id))
            if author == "customer":
                values = {
                    "inquiry_id": row["id"],
                    "direction": "in",
                    "author_kind": "customer",
                    "text": "?",
                    "state": "received",
                }
                written, thread = await messages.append(uow, self.thread_id, values)
                if row["status"] in ("pending", "hold", "solved"):
                    row = await inquiries.change(
                        uow, row["id"], {"status": "open"}, actor="contact:1", cause="customer_wrote"
                    )
                await messages.announce(uow, written, row, thread)
                return
            written, _ = await messages.post_message(
                uow,
                conversation_id=self.thread_id,
                inquiry_row=row,
                author_kind=author,
                text="!",
                internal=not public,
            )
        if public:
            async with self.db.transaction() as uow:
                await messages.set_state(uow, written["id"], "sent")

    async def _look(self, at: int) -> dict[str, Any]:
        async with self.db.reading() as conn:
            book = await books.load(conn)
            rows = (
                (await conn.execute(select(sla_clock).where(sla_clock.c.inquiry_id == self.inquiry_id)))
                .mappings()
                .all()
            )
        clocks = [store.clock_of(dict(row)) for row in rows]
        shown = [check_vectors._shown(c, at, book.rules(clocks)) for c in clocks if c.metric in self.measured]
        wanted = {
            key: one
            for look in self.item["expect"]
            if from_iso(look["at"]) == at
            for key, one in check_vectors._by_key(look["instances"]).items()
        }
        return {
            key: check_vectors._only(wanted.get(key), one)
            for key, one in check_vectors._by_key(shown).items()
        }
