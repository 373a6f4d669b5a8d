"""Telling the customer in his own channel, and the owner, that a promise was made, moved or cancelled.

A job of its own transaction, so that telling never holds up or undoes the promise. What the dialog says itself is not
said twice: its changes carry `confirm=False`.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from crm_core import messages
from crm_core.db.uow import UnitOfWork
from crm_core.events import DomainEvent, Listeners
from crm_core.jobs import JobRegistry, JobRow, NewJob
from crm_core.schema import agent, conversation, inquiry
from crm_core.services import Services
from routing.callbacks import words
from routing.commands import once
from routing.schema import callback

TELL_JOB = "callback.tell"
_CHANNELS = ("telegram", "webchat", "email")
PAGE = "/callback/"


def declare(registry: JobRegistry) -> None:
    registry.job(TELL_JOB, transactional=True)(run)


async def on_booked(uow: UnitOfWork, event: DomainEvent) -> None:
    """Mail has no buttons: its customer gets the link to his promise."""
    row = event.context["callback"]
    if row["kind"] == "scheduled" and await _channel(uow, row) == "email":
        _ask(uow, event, "booked")


async def on_updated(uow: UnitOfWork, event: DomainEvent) -> None:
    if event.payload.get("moved"):
        _ask(uow, event, "moved")


async def on_cancelled(uow: UnitOfWork, event: DomainEvent) -> None:
    if event.payload.get("by") != "system" and event.context["callback"]["kind"] == "scheduled":
        _ask(uow, event, "cancelled")


def _ask(uow: UnitOfWork, event: DomainEvent, what: str) -> None:
    row = event.context["callback"]
    if row["conversation_id"] is None:
        return
    uow.enqueue(
        NewJob(
            name=TELL_JOB,
            args={
                "callback_id": row["id"],
                "what": what,
                "at": row["due_at"],
                "by_customer": event.actor.startswith("contact:"),
                "confirm": bool(event.payload.get("confirm", True)),
                "version": row["version"],
            },
        )
    )


async def _channel(uow: UnitOfWork, row: Mapping[str, Any]) -> str | None:
    if row["conversation_id"] is None:
        return None
    found = await uow.scalar(
        select(conversation.c.channel).where(conversation.c.id == row["conversation_id"])
    )
    return None if found is None else str(found)


async def run(services: Services, uow: UnitOfWork, job: JobRow) -> None:
    """The job `callback.tell {callback_id, what, at, by_customer, confirm, version}`."""
    args = job.args

    async def act() -> Mapping[str, Any]:
        return {"told": await _tell(uow, args, services.settings.public_url)}

    await once(uow, f"{TELL_JOB}:{args['callback_id']}:{args['version']}:{args['what']}", act)


async def _tell(uow: UnitOfWork, args: Mapping[str, Any], public_url: str) -> bool:
    row = await uow.find(callback, args["callback_id"])
    if row is None or row["conversation_id"] is None:
        return False
    request = await uow.find(inquiry, row["inquiry_id"], lock=True) if row["inquiry_id"] else None
    thread = await uow.find(conversation, row["conversation_id"], lock=True)
    if thread is None:
        return False
    what = str(args["what"])
    if args["by_customer"] and what in ("moved", "cancelled"):
        speaks = await uow.scalar(select(agent.c.language).where(agent.c.id == row["owner_id"]))
        await messages.post_message(
            uow,
            conversation_id=thread["id"],
            inquiry_row=request,
            author_kind="system",
            text=words.text(
                f"note_{what}", speaks, when=words.when(int(args["at"]), row["timezone"], speaks)
            ),
            internal=True,
            automatic=True,
            kind="system",
        )
    if not args["confirm"] or thread["channel"] not in _CHANNELS:
        return False
    language = thread["language"]
    said = words.text(
        what, language, phone=row["phone"], when=words.when(int(args["at"]), row["timezone"], language)
    )
    if thread["channel"] == "email" and what != "cancelled" and public_url and row["public_token"]:
        link = f"{public_url.rstrip('/')}{PAGE}{row['public_token']}"
        said += "\n\n" + words.text("link", language, link=link)
    # Where the channel takes no replies the owner's note says it all the same.
    return await messages.say_automatically(uow, conversation_id=thread["id"], inquiry_row=request, text=said)


LISTENERS: Listeners = {
    "callback.booked": (on_booked,),
    "callback.updated": (on_updated,),
    "callback.cancelled": (on_cancelled,),
}
