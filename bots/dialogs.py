"""Dialogs in the database: what a customer's message does to them, in the message's own transaction.

The bot never stands between a customer and people. Whatever fails in here is undone alone, the inquiry is handed off
and the alarm raised; the message itself is never lost.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import structlog
from sqlalchemy import func, select, update
from sqlalchemy.exc import DBAPIError, InterfaceError

from bots import engine, facts, promises, wishes
from bots.flow import Flow
from bots.language import choose
from bots.schema import dialog
from bots.store import load_flow
from bots.turn import NeedSlots
from bots.turns import Arrived, Facts, Input, NotBooked, Pressed, Said, SharedPhone, Silence, State
from crm_core import inquiries
from crm_core.clock import MINUTE
from crm_core.db.engine import Database
from crm_core.db.uow import UnitOfWork
from crm_core.events import SUPERVISORS, DomainEvent
from crm_core.schema import contact, conversation, inbox, inquiry

log = structlog.get_logger(__name__)

_BATCH = 200
_COMMAND = re.compile(r"^/([A-Za-z0-9_]{1,64})(?:@\w+)?(?:\s+(.*))?$", re.DOTALL)
_PAYLOAD = re.compile(r"[A-Za-z0-9_-]{1,64}")
_OVER = ("solved", "closed")
#: the engine's answer to a booking may want another one only if it is wrong
_MAX_STEPS = 4
_COLUMNS = frozenset({"node", "language", "status", "misses"})
_STATE_FIELDS = frozenset(f.name for f in dataclasses.fields(State)) - _COLUMNS


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Who talks to whom about what."""

    inquiry: Mapping[str, Any]
    conversation: Mapping[str, Any]
    contact: Mapping[str, Any]
    inbox: Mapping[str, Any]
    message_id: int | None = None
    group: bool = False


# --- listeners ----------------------------------------------------------------------------------------------------
async def on_message(uow: UnitOfWork, event: DomainEvent) -> None:
    """A customer's word goes to the dialog; an agent's ends it."""
    context = event.context
    message, current = context["message"], context.get("inquiry")
    if current is None or message["kind"] != "text":
        return
    if message["author_kind"] == "agent" and message["direction"] == "out":
        await _person_took_over(uow, current, reason="agent_wrote")
        return
    account, person = context.get("inbox"), context.get("contact")
    if (
        message["author_kind"] != "customer"
        or message["direction"] != "in"
        or account is None
        or person is None
    ):
        return
    if not current["held_by_bot"] and account["flow_key"] is None:
        return
    if message["automatic"]:
        return
    scene = Scene(
        inquiry=current,
        conversation=context["conversation"],
        contact=person,
        inbox=account,
        message_id=message["id"],
        group=bool(message["meta"].get("group")),
    )
    await _guarded(uow, scene, heard_in(message))


async def on_updated(uow: UnitOfWork, event: DomainEvent) -> None:
    """A person took the inquiry or closed it: the dialog is over."""
    if event.actor == "bot" or event.actor.startswith("contact:"):
        return
    changes, row = event.payload["changes"], event.context["inquiry"]
    if "status" in changes and row["status"] in _OVER:
        await _close(uow, row["conversation_id"], "ended")
    elif row["held_by_bot"] and (changes.get("assignee_id") or [None, None])[1] is not None:
        await _person_took_over(uow, row, reason="taken_by_agent")


async def on_handed_off(uow: UnitOfWork, event: DomainEvent) -> None:
    """Somebody else took it from the bot."""
    if event.actor != "bot":
        await _close(uow, event.conversation_id, "handed_off")


async def _person_took_over(uow: UnitOfWork, row: Mapping[str, Any], *, reason: str) -> None:
    if row["conversation_id"] is None:
        return
    await _close(uow, row["conversation_id"], "handed_off")
    if row["held_by_bot"]:
        await inquiries.hand_off(uow, row["id"], actor="bot", reason=reason)


async def _close(uow: UnitOfWork, conversation_id: int | None, state: str) -> None:
    if conversation_id is None:
        return
    await uow.execute(
        update(dialog)
        .where(dialog.c.conversation_id == conversation_id, dialog.c.state == "active")
        .values(state=state, idle_at=None, updated_at=uow.now, version=dialog.c.version + 1)
    )


# --- one turn -----------------------------------------------------------------------------------------------------
def heard_in(message: Mapping[str, Any]) -> Input:
    """What a stored message means to a dialog."""
    meta, text = message["meta"], message["text"]
    kind = meta.get("envelope_kind")
    if kind == "action":
        press_id = meta.get("callback_query_id")
        return Pressed(value=str(meta.get("value") or text)[:200], id=str(press_id) if press_id else None)
    if kind == "identity":
        card = meta.get("contact")
        number = card.get("e164") if isinstance(card, dict) else None
        return SharedPhone(e164=number) if isinstance(number, str) else Arrived()
    if kind == "unsupported":
        return Said(text="", files=True)
    command = _COMMAND.match(text.strip())
    payload = (command.group(2) or "").strip() if command else ""
    files = (bool(message.get("attachments")) or not text.strip()) and meta.get("media") != "sticker"
    return Said(
        text=text,
        files=files,
        command=command.group(1).lower() if command else None,
        payload=payload if _PAYLOAD.fullmatch(payload) else None,
    )


async def _guarded(uow: UnitOfWork, scene: Scene, heard: Input) -> None:
    try:
        async with uow.savepoint():
            await _turn(uow, scene, heard)
    except Exception as failure:
        if isinstance(failure, DBAPIError) and _will_pass(failure):
            raise  # the database's trouble, not the dialog's: the whole transaction is tried again
        log.exception(
            "dialog_failed", conversation_id=scene.conversation["id"], inquiry_id=scene.inquiry["id"]
        )
        error = f"{type(failure).__name__}: {failure}"
        await _give_up(uow, scene, reason="bot_failed", alarm="bot_failed", error=error)


def _will_pass(failure: DBAPIError) -> bool:
    """Lost connections, deadlocks, locks and shutdowns, by their classes
    (https://www.postgresql.org/docs/current/errcodes-appendix.html); SQLite has words only.
    """
    state = getattr(failure.orig, "sqlstate", None)
    if state is not None:
        return str(state)[:2] in ("08", "40", "53", "55", "57")
    return (
        failure.connection_invalidated or isinstance(failure, InterfaceError) or "locked" in str(failure.orig)
    )


async def _give_up(uow: UnitOfWork, scene: Scene, *, reason: str, alarm: str, **facts_of_it: Any) -> None:
    """People get it at once, and those who care for the bot hear why."""
    await _close(uow, scene.conversation["id"], "handed_off")
    await uow.emit(
        DomainEvent(
            kind="alarm.raised",
            subject_kind="inbox",
            subject_id=scene.inbox["id"],
            inquiry_id=scene.inquiry["id"],
            conversation_id=scene.conversation["id"],
            audience=SUPERVISORS,
            payload={
                "alarm": alarm,
                "flow_key": scene.inbox["flow_key"],
                **{k: str(v)[:300] for k, v in facts_of_it.items()},
            },
        )
    )
    await inquiries.hand_off(uow, scene.inquiry["id"], actor="bot", reason=reason)


async def _turn(uow: UnitOfWork, scene: Scene, heard: Input) -> None:
    row = await uow.row(
        uow.lock(
            select(dialog)
            .where(dialog.c.conversation_id == scene.conversation["id"])
            .order_by(dialog.c.state != "active", dialog.c.id.desc())
            .limit(1)
        )
    )
    active = row is not None and row["state"] == "active"
    held = bool(scene.inquiry["held_by_bot"])
    if held and scene.group:
        await inquiries.hand_off(uow, scene.inquiry["id"], actor="bot", reason="group")
        return
    if active and held and row is not None and not _state_of(row).holds:
        # A small dialog of an earlier request; the new one begins afresh.
        await _close(uow, scene.conversation["id"], "ended")
        active = False
    if not active and not held and not _maybe_for_bot(heard):
        return
    continues = row is not None and (active or not held)
    found = (
        await load_flow(uow.conn, row["flow_key"], row["flow_version"])
        if row is not None and continues
        else None
    )
    if found is None:
        if active:
            await _close(uow, scene.conversation["id"], "ended")
        continues = False
        key = scene.inbox["flow_key"]
        found = await load_flow(uow.conn, key) if key is not None else None
    if found is None:
        if held:
            await _give_up(uow, scene, reason="no_flow", alarm="flow_missing")
        return
    flow, version = found
    known = await facts.gather(
        uow,
        flow,
        inquiry=scene.inquiry,
        conversation=scene.conversation,
        contact=scene.contact,
        inbox=scene.inbox,
        group=scene.group,
    )
    current = wishes.Current(
        inquiry=dict(scene.inquiry), conversation=scene.conversation, contact=scene.contact
    )
    spoken = row["language"] if row is not None and continues else _language(flow, known)
    said = await promises.hear(uow, flow, heard, known, contact=scene.contact, spoken=spoken)
    if said is not None:
        for words in said:
            await wishes.say(uow, flow, spoken, words, current)
        if continues or not held:
            return
        heard = Arrived()  # nobody talks with him yet: the dialog begins as with everybody

    async def ask(act: Callable[[Facts], engine.Result]) -> engine.Result:
        nonlocal known
        try:
            return act(known)
        except NeedSlots as need:
            known = await facts.with_slots(uow, known, need.team, scene.inquiry["team_id"])
            return act(known)

    if row is not None and continues:
        before = _state_of(row)
        state, actions = await ask(lambda now: engine.step(flow, before, heard, now))
        dialog_id = int(row["id"])
    elif held:
        state, actions = await ask(lambda now: engine.begin(flow, heard, now))
        dialog_id = await _insert(uow, scene, flow, version, state)
    else:
        state, actions = await ask(lambda now: engine.beside(flow, heard, now))
        if not actions and state.status != "active":
            return
        dialog_id = await _insert(uow, scene, flow, version, state)
    for step in range(_MAX_STEPS):
        await _save(uow, dialog_id, scene, flow, state)
        outcome = await wishes.carry_out(
            uow, flow, state, actions, current, dedupe=f"dialog:{dialog_id}:{scene.message_id}:{step}"
        )
        if outcome is None:
            return
        if isinstance(outcome, NotBooked) and outcome.code == "slot_full":
            known = replace(known, free_known=False)  # somebody was quicker: what is free now?
        following, answer = state, outcome
        state, actions = await ask(lambda now, s=following, a=answer: engine.step(flow, s, a, now))  # type: ignore[misc]
    raise RuntimeError(f"dialog {dialog_id} books without end")


def _language(flow: Flow, known: Facts) -> str:
    return choose("", known=known.languages, languages=flow.languages)


def _maybe_for_bot(heard: Input) -> bool:
    """Cheap first look at words that people get: only presses and short texts can be meant for a bot."""
    return isinstance(heard, Pressed) or (isinstance(heard, Said) and len(heard.text) <= 60)


def _state_of(row: Mapping[str, Any]) -> State:
    kept = {k: v for k, v in row["vars"].items() if k in _STATE_FIELDS}
    kept["slots"] = tuple(kept.get("slots", ()))
    return State(
        node=row["node"], language=row["language"], status=row["state"], misses=row["misses"], **kept
    )


def _values(uow: UnitOfWork, scene: Scene, flow: Flow, state: State) -> dict[str, Any]:
    kept = {k: v for k, v in dataclasses.asdict(state).items() if k in _STATE_FIELDS}
    waits = state.status == "active"
    return {
        "inquiry_id": scene.inquiry["id"],
        "node": state.node,
        "language": state.language,
        "state": state.status,
        "misses": state.misses,
        "vars": kept,
        "updated_at": uow.now,
        "idle_at": uow.now + flow.rules.idle_minutes * MINUTE if waits else None,
    }


async def _insert(uow: UnitOfWork, scene: Scene, flow: Flow, version: int, state: State) -> int:
    return await uow.insert(
        dialog,
        {
            **_values(uow, scene, flow, state),
            "conversation_id": scene.conversation["id"],
            "flow_key": scene.inbox["flow_key"],
            "flow_version": version,
            "version": 1,
            "created_at": uow.now,
        },
    )


async def _save(uow: UnitOfWork, dialog_id: int, scene: Scene, flow: Flow, state: State) -> None:
    await uow.update(dialog, dialog_id, {**_values(uow, scene, flow, state), "version": dialog.c.version + 1})


# --- silence ------------------------------------------------------------------------------------------------------
async def sweep_idle(db: Database) -> int | None:
    """Dialogs whose customer fell silent, each in a transaction of its own. Returns the next due instant (ms)."""
    now = db.clock.now_ms()
    async with db.reading() as conn:
        due = (
            (
                await conn.execute(
                    select(dialog.c.id)
                    .where(dialog.c.idle_at.is_not(None), dialog.c.idle_at <= now)
                    .order_by(dialog.c.idle_at)
                    .limit(_BATCH)
                )
            )
            .scalars()
            .all()
        )
    for dialog_id in due:
        try:
            async with db.transaction() as uow:
                await _fell_silent(uow, dialog_id)
        except Exception:
            log.exception("idle_failed", dialog_id=dialog_id)
            async with db.transaction() as uow:
                # Not at once again: a dialog that cannot be ended must not keep the others waiting.
                await uow.execute(
                    update(dialog)
                    .where(dialog.c.id == dialog_id, dialog.c.idle_at <= now)
                    .values(idle_at=uow.now + MINUTE)
                )
    async with db.reading() as conn:
        following = (
            await conn.execute(select(func.min(dialog.c.idle_at)).where(dialog.c.idle_at.is_not(None)))
        ).scalar()
    return int(following) if following is not None else None


async def _fell_silent(uow: UnitOfWork, dialog_id: int) -> None:
    row = await uow.find(dialog, dialog_id)
    if row is None:
        return
    # In the order in which intake locks: inquiry, conversation, dialog.
    request = await uow.find(inquiry, row["inquiry_id"], lock=True)
    thread = await uow.find(conversation, row["conversation_id"], lock=True)
    row = await uow.find(dialog, dialog_id, lock=True)
    if row is None or row["state"] != "active" or row["idle_at"] is None or row["idle_at"] > uow.now:
        return
    person = await uow.find(contact, thread["contact_id"]) if thread else None
    account = await uow.find(inbox, thread["inbox_id"]) if thread else None
    if request is None or thread is None or person is None or account is None or request["status"] in _OVER:
        await _close(uow, row["conversation_id"], "ended")
        return
    await _guarded(
        uow, Scene(inquiry=dict(request), conversation=thread, contact=person, inbox=account), Silence()
    )
