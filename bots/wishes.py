"""What the engine wants, done: messages, changes of the inquiry, numbers, promises to call, handing off.

Knows the database and the core's services; decides nothing about the dialog.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import select

from bots.flow import Flow
from bots.language import is_substantive
from bots.turns import Action, AddPhone, Book, Booked, Change, End, HandOff, NotBooked, Say, State, TellWait
from crm_core import contacts, inquiries, messages
from crm_core.db.uow import UnitOfWork
from crm_core.envelope import IdentityClaim, IdentityKind
from crm_core.errors import Conflict, Invalid
from crm_core.schema import conversation, team

log = structlog.get_logger(__name__)
_MAX_SUBJECT = 120
_MAX_TAGS = 50


@dataclass(slots=True, kw_only=True)
class Current:
    """The rows as they become during one turn."""

    inquiry: dict[str, Any]
    conversation: Mapping[str, Any]
    contact: Mapping[str, Any]


async def carry_out(
    uow: UnitOfWork, flow: Flow, state: State, actions: Sequence[Action], current: Current, *, dedupe: str
) -> Booked | NotBooked | None:
    """Do all of it in order. Returns what came of a `Book`, for the engine to go on with; None if there was none.

    `dedupe` is the same if the same turn is done again.
    """
    outcome: Booked | NotBooked | None = None
    for action in actions:
        match action:
            case Say():
                await say(uow, flow, state.language, action, current)
            case Change():
                await _change(uow, action, current)
            case AddPhone():
                claim = IdentityClaim(IdentityKind.PHONE, action.e164, verified=False, evidence="bot_dialog")
                current.contact = await contacts.add_identity(uow, dict(current.contact), claim)
            case Book():
                outcome = await _book(uow, action, current, dedupe)
            case HandOff():
                await _hand_off(uow, action, current)
            case TellWait():
                await _tell_wait(uow, flow, state.language, action, current)
            case End():
                current.inquiry = await inquiries.change(
                    uow, current.inquiry["id"], {"status": "solved", "outcome": action.outcome}, actor="bot"
                )
    return outcome


async def say(uow: UnitOfWork, flow: Flow, language: str, words: Say, current: Current) -> None:
    """One message of the bot."""
    await messages.post_message(
        uow,
        conversation_id=current.conversation["id"],
        inquiry_row=current.inquiry,
        author_kind="bot",
        author_name=flow.bot_name.get(language) or flow.name,
        text=words.text,
        buttons=words.buttons,
        automatic=True,
    )


async def _tell_wait(uow: UnitOfWork, flow: Flow, language: str, wanted: TellWait, current: Current) -> None:
    """About three minutes, fourth in line: only while he really waits, and nothing that nobody can know."""
    from routing import expected_wait, wait_text

    wait = await expected_wait.of_inquiry(uow.conn, current.inquiry["id"], uow.now)
    if wait is None:
        return
    text = wait_text.wait_text(wait, language, callback=bool(wanted.buttons))
    if text:
        buttons = wanted.buttons if wait.offers_callback else ()
        await say(uow, flow, language, Say(text=text, buttons=buttons), current)


async def _change(uow: UnitOfWork, wanted: Change, current: Current) -> None:
    row = current.inquiry
    changes: dict[str, Any] = {}
    if wanted.tags:
        changes["tags"] = [*row["tags"], *(t for t in wanted.tags if t not in row["tags"])][:_MAX_TAGS]
    fields = {**wanted.fields, **({"topic": wanted.topic} if wanted.topic else {})}
    if fields:
        changes["fields"] = {**row["fields"], **fields}
    if wanted.language is not None:
        changes["language"] = wanted.language
        await uow.update(conversation, current.conversation["id"], {"language": wanted.language})
    if not (wanted.late and row["assignee_id"] is not None):
        # What somebody works on already is not moved by a button of yesterday.
        if wanted.kind is not None:
            changes["kind"] = wanted.kind
        if wanted.priority is not None:
            changes["priority"] = wanted.priority
        if wanted.team is not None:
            changes["team_id"] = await _team(uow, wanted.team, row["team_id"])
        if wanted.skills:
            changes["requirements"] = {**row["requirements"], **wanted.skills}
        if wanted.topic and not is_substantive(row["subject"]):
            changes["subject"] = wanted.topic[:_MAX_SUBJECT]
    if changes:
        current.inquiry = await inquiries.change(uow, row["id"], changes, actor="bot")


async def _team(uow: UnitOfWork, name: str, otherwise: int | None) -> int | None:
    found = await uow.scalar(select(team.c.id).where(team.c.name == name, team.c.active))
    if found is None:
        log.warning("flow_names_no_team", team=name)
        return otherwise
    return int(found)


async def _book(uow: UnitOfWork, wanted: Book, current: Current, dedupe: str) -> Booked | NotBooked:
    from routing import callbacks

    try:
        async with uow.savepoint():
            row = await callbacks.book(
                uow,
                contact=current.contact,
                raw_phone=wanted.phone,
                window_start=wanted.at,
                inquiry=current.inquiry,
                note=wanted.note,
                source="bot",
                created_by=f"contact:{current.contact['id']}",
                asked_for=wanted.asked_for,
                dedupe=dedupe,
                confirm=False,
                strict_slot=wanted.at is not None and wanted.asked_for,
            )
    except (Invalid, Conflict) as refused:
        return NotBooked(code=refused.code)
    return Booked(due_at=row["due_at"], phone=row["phone"])


async def _hand_off(uow: UnitOfWork, wanted: HandOff, current: Current) -> None:
    row = current.inquiry
    changes: dict[str, Any] = {}
    if wanted.team is not None and row["team_id"] is None:
        changes["team_id"] = await _team(uow, wanted.team, None)
    if wanted.request and is_substantive(wanted.request) and not is_substantive(row["subject"]):
        changes["subject"] = " ".join(wanted.request.split())[:_MAX_SUBJECT]
    current.inquiry = await inquiries.hand_off(
        uow, row["id"], actor="bot", reason=wanted.reason, fields=dict(wanted.fields), changes=changes
    )
