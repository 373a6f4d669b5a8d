"""A rush of customers through all four channels at once, each repeating what was not acknowledged; and what came of
it, in a form in which two runs can be compared.
"""

import asyncio
import contextlib
import random
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import aiohttp
from sqlalchemy import select, text

from crm_core.db.engine import Database
from crm_core.db.uow import UnitOfWork
from crm_core.schema import call, contact, conversation, identity, inbound, inquiry, job, message, team
from routing import reconcile
from routing.schema import agent_slot, assignment, offer, work_item
from switchboard.demo.people import OUR_NUMBER
from tests.e2e.bureau import Bureau
from tests.e2e.colleague import Colleague, Refused
from tests.e2e.customers import Correspondent, Visitor
from tests.fakes.pbx import CallScript, Post

PEOPLE, TEXTS = 25, 5
CALLERS, CALLS, EVENTS_OF_A_CALL = 16, 2, 4
TOTAL = 3 * PEOPLE * TEXTS + CALLERS * CALLS * EVENTS_OF_A_CALL
#: every so many customers of a channel get an answer while the rush is on
_ANSWERED_EVERY = 3
#: how often an agent looks at his offers; the machine shall be busy with customers, not with looking
_LOOK_EVERY_S = 0.5
WORKERS = ("olena", "dmytro", "maria", "pavlo", "sofia")


async def make_room(uow: UnitOfWork) -> None:
    """Five people shall be able to hold what comes from ninety: this is about crashes, not about queues."""
    wide = {name: {"max": 200, "weight": 1} for name in ("chat", "async")}
    for row in await uow.rows(select(team)):
        settings = {**row["settings"], "channels": wide, "load_max": 1000, "after_hours": "ignore"}
        await uow.execute(team.update().where(team.c.id == row["id"]).values(settings=settings))


@dataclass
class Progress:
    """How much has been acknowledged."""

    done: int = 0
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def add(self) -> None:
        async with self._changed:
            self.done += 1
            self._changed.notify_all()

    async def reached(self, mark: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.done >= mark)


@dataclass
class Rush:
    """All customers and colleagues of one run. `replies` are the answers that were accepted by the API, by text."""

    at: Bureau
    seed: int
    progress: Progress = field(default_factory=Progress)
    replies: dict[str, dict[str, Any]] = field(default_factory=dict)
    visitors: list[Visitor] = field(default_factory=list)

    async def play(self) -> None:
        """Until every message is acknowledged."""
        dice = random.Random(self.seed)
        async with asyncio.TaskGroup() as all_:
            for n in range(PEOPLE):
                all_.create_task(self._telegram(n, random.Random(dice.random())))
                all_.create_task(self._mail(n))
                all_.create_task(self._chat(self.visitors[n]))
            for n in range(CALLERS):
                all_.create_task(self._calls(n, random.Random(dice.random())))
        assert self.progress.done == TOTAL

    async def _telegram(self, n: int, dice: random.Random) -> None:
        person = self.at.telegram.user(610_000_000 + n, f"Chatter{n}", language_code="uk")
        texts = [f"telegram {n}.{i}" for i in range(TEXTS)]
        while texts:
            # Several at once: the provider keeps their order within the chat.
            some = [texts.pop(0) for _ in range(min(len(texts), dice.randint(1, 3)))]
            sent = [(await person.send_text(text))["message_id"] for text in some]
            for message_id in sent:
                await self.at.telegram.wait_until(partial(self._taken, person.id, message_id), 600)
                await self.progress.add()

    def _taken(self, chat_id: int, message_id: int) -> bool:
        waiting = (u["message"] for u in self.at.telegram.pending if "message" in u)
        return all((m["chat"]["id"], m["message_id"]) != (chat_id, message_id) for m in waiting)

    async def _mail(self, n: int) -> None:
        writer = Correspondent(self.at, f"writer{n}@mail.test", f"Writer{n}")
        for i in range(TEXTS):
            await writer.send(
                writer.write(f"mail {n}.{i}", subject=f"Trip {n}" if i == 0 else f"Re: Trip {n}")
            )
            await self.progress.add()

    async def _chat(self, visitor: Visitor) -> None:
        for i in range(TEXTS):
            await visitor.say(f"{visitor.tag}.{i}")
            await self.progress.add()

    async def _calls(self, n: int, dice: random.Random) -> None:
        hook = self.at.pbx.hook_url
        for k in range(CALLS):
            script = CallScript(agent_answers=False, ring_s=dice.randint(1, 9))
            posts = self.at.pbx.dialect.inbound(
                f"rush-{n}-{k}", _number(n), OUR_NUMBER, script, now=self.at.now(), routed=None, hook=hook
            )
            assert len(posts) == EVENTS_OF_A_CALL
            for post in posts:
                await self._deliver(post)
                await self.progress.add()

    async def _deliver(self, post: Post) -> None:
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with self.at.http.post(post.url, data=post.body, headers=post.headers) as answer:
                    if answer.status == 200:
                        return
                    assert answer.status >= 500, (answer.status, await answer.text())
            await asyncio.sleep(0.1)

    # --- the bureau's side --------------------------------------------------------------------------------------
    async def serve(self, who: Colleague) -> None:
        """Stay online and take every offer, until cancelled."""
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError), contextlib.suppress(Refused):
                if (await who.post("/me/heartbeat"))["presence"] != "online":
                    await who.be("online")
                for offered in (await who.get("/me/offers"))["items"]:
                    await _accept(who, offered)
            await asyncio.sleep(_LOOK_EVERY_S)

    async def answer(self, who: Colleague) -> None:
        """Answer every so many customers once, until cancelled. Each reply is posted until it is acknowledged."""
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, Refused):
                page = await who.get("/inquiries?channel=telegram,email,webchat&limit=200")
                for row in page["items"]:
                    number = int(row["contact"]["name"].lstrip("ChaterWiVso"))
                    text = f"answer to {row['contact']['name']}"
                    if number % _ANSWERED_EVERY == 0 and text not in self.replies:
                        self.replies[text] = await who.say(row["id"], text, client_id=text.replace(" ", "-"))
            await asyncio.sleep(2 * _LOOK_EVERY_S)


async def _accept(who: Colleague, offered: dict[str, Any]) -> None:
    try:
        await who.accept(offered)
    except Refused as refused:
        # Its time may have run out while a process was down.
        if refused.status not in (404, 409, 410):
            raise


def _number(n: int) -> str:
    return f"+3805011100{n:02d}"


@contextlib.asynccontextmanager
async def rush(at: Bureau, seed: int) -> Any:
    """Everybody in place: agents online, visitors with an open chat."""
    async with contextlib.AsyncExitStack() as stack:
        made = Rush(at, seed)
        for n in range(PEOPLE):
            made.visitors.append(
                await stack.enter_async_context(Visitor(at, f"chat-{n}", f"Visitor{n}", "uk"))
            )
        tasks = []
        for login in WORKERS:
            who = await stack.enter_async_context(Colleague(at, login, feed=False))
            tasks.append(asyncio.create_task(made.serve(who), name=f"serve-{login}"))
        chief = await stack.enter_async_context(Colleague(at, "iryna", feed=False))
        tasks.append(asyncio.create_task(made.answer(chief), name="answers"))
        try:
            yield made
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        broken = [e for e in ended if isinstance(e, Exception)]
        assert not broken, broken


# --- what came of it --------------------------------------------------------------------------------------------
async def unsettled(db: Database) -> list[str]:
    """What is still under way, in words; empty when the dust has settled."""
    async with db.reading() as conn:

        async def count(statement: Any) -> int:
            return len((await conn.execute(statement)).all())

        offered = (
            select(work_item.c.inquiry_id)
            .join(offer, offer.c.item_id == work_item.c.id)
            .where(offer.c.state == "open")
        )
        left = {
            "jobs": await count(select(job.c.id).where(job.c.state != "dead")),
            "raw rows": await count(select(inbound.c.id).where(inbound.c.state == "received")),
            "calls": await count(select(call.c.id).where(~call.c.finalized)),
            "inquiries of nobody": await count(
                select(inquiry.c.id).where(inquiry.c.assignee_id.is_(None), inquiry.c.id.not_in(offered))
            ),
            "replies": await count(select(message.c.id).where(message.c.state.in_(("queued", "sending")))),
        }
    return [f"{n} {what}" for what, n in left.items() if n]


async def outcome(db: Database) -> dict[str, Any]:
    """Messages, people, inquiries and calls without what may differ between two runs: ids, times, who it went to."""
    async with db.reading() as conn:

        async def rows(statement: Any) -> list[Any]:
            return list((await conn.execute(statement)).mappings())

        threads: dict[tuple[str, str], list[str]] = {}
        for row in await rows(
            select(
                message.c.text,
                message.c.direction,
                conversation.c.channel,
                conversation.c.key,
                contact.c.name,
            )
            .join(conversation, conversation.c.id == message.c.conversation_id)
            .join(contact, contact.c.id == conversation.c.contact_id)
            .order_by(message.c.conversation_id, message.c.seq)
        ):
            said = threads.setdefault((row["channel"], row["name"] or row["key"]), [])
            if row["direction"] == "in":
                said.append(row["text"].strip())
        people = Counter(
            (row["kind"], row["name"] or row["value"])
            for row in await rows(
                select(identity.c.kind, identity.c.value, contact.c.name).join(
                    contact, contact.c.id == identity.c.contact_id
                )
            )
        )
        requests = Counter(
            (
                row["channel"],
                row["kind"],
                row["team"],
                row["name"] or row["key"],
                row["fields"].get("missed_calls"),
            )
            for row in await rows(
                select(
                    inquiry.c.channel,
                    inquiry.c.kind,
                    inquiry.c.fields,
                    team.c.name.label("team"),
                    contact.c.name,
                    conversation.c.key,
                )
                .join(contact, contact.c.id == inquiry.c.contact_id)
                .join(conversation, conversation.c.id == inquiry.c.conversation_id)
                .outerjoin(team, team.c.id == inquiry.c.team_id)
            )
        )
        calls = {
            row["call_key"]: (row["direction"], row["from_number"], row["disposition"])
            for row in await rows(select(call))
        }
        contacts = len(await rows(select(contact.c.id)))
    return {"threads": threads, "people": people, "inquiries": requests, "calls": calls, "contacts": contacts}


async def check_whole(db: Database) -> None:
    """What must hold whatever happened: numbers without gaps, one owner, counted capacity, nothing dead or refused."""
    async with db.transaction() as uow:
        if db.dialect == "postgresql":
            # The processes still run: each statement for itself would see half of what they change meanwhile.
            await uow.execute(text("set transaction isolation level repeatable read"))
        rows = uow.rows
        numbers: dict[int, list[int]] = {}
        for row in await rows(select(message.c.conversation_id, message.c.seq).order_by(message.c.seq)):
            numbers.setdefault(row["conversation_id"], []).append(row["seq"])
        for conversation_id, found in numbers.items():
            assert found == list(range(1, len(found) + 1)), (conversation_id, found)
        last = {
            r["id"]: r["last_seq"] for r in await rows(select(conversation.c.id, conversation.c.last_seq))
        }
        assert last == {i: len(numbers.get(i, ())) for i in last}
        assert await rows(select(job).where(job.c.state == "dead")) == []
        odd = await rows(
            select(inbound.c.id, inbound.c.state, inbound.c.error).where(inbound.c.state != "done")
        )
        assert odd == []
        live = await rows(select(assignment).where(assignment.c.ended_at.is_(None)))
        assert max(Counter(a["item_id"] for a in live).values()) == 1
        owners = {
            r["inquiry_id"]: r["owner_id"]
            for r in await rows(
                select(work_item.c.inquiry_id, work_item.c.owner_id).where(work_item.c.state == "assigned")
            )
        }
        assert owners == {
            r["id"]: r["assignee_id"]
            for r in await rows(
                select(inquiry.c.id, inquiry.c.assignee_id).where(inquiry.c.assignee_id.is_not(None))
            )
        }
        over = [s for s in await rows(select(agent_slot)) if not 0 <= s["used"] <= s["max"]]
        assert over == []
        differing = await reconcile.differences(uow)
        assert differing == [], differing


async def check_replies(made: Rush) -> Counter[str]:
    """Each reply reached its customer once, or is marked unknown. Returns how many ended in which state."""
    async with made.at.db.reading() as conn:
        found = list(
            (
                await conn.execute(
                    select(message.c.text, message.c.state, conversation.c.channel)
                    .join(conversation, conversation.c.id == message.c.conversation_id)
                    .where(message.c.direction == "out", message.c.author_kind == "agent")
                )
            ).mappings()
        )
    assert sorted(r["text"] for r in found) == sorted(made.replies)
    states: Counter[str] = Counter()
    for row in found:
        arrived = _arrived(made, row["channel"], row["text"])
        states[row["state"]] += 1
        if row["state"] == "unknown":
            assert row["channel"] == "telegram", row  # the others can tell a repetition
            assert arrived <= 1, row
        else:
            assert row["state"] in ("sent", "delivered", "read"), row
            assert arrived == 1, (row, arrived)
    return states


def _arrived(made: Rush, channel: str, text: str) -> int:
    if channel == "telegram":
        return sum(m.text == text for m in made.at.telegram.sent)
    if channel == "email":
        # A repeated mail carries its Message-ID again, by which mailboxes tell that it is the same.
        return len(
            {mail["Message-ID"] for mail in made.at.mails() if text in mail.get_content().splitlines()}
        )
    return sum(answers.count(text) for answers in (v.answers for v in made.visitors))


__all__ = ["TOTAL", "Rush", "check_replies", "check_whole", "make_room", "outcome", "rush", "unsettled"]
