"""The customer's own promises of a call, in his own channel: which there are, another time, taken back.

Beside every dialog and beside people who talk with him: buttons carry all they need, so an old one still means what it
says. Only his own promises can be reached, and only the words for them are heard here; everything else goes on.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select

from bots import language, when
from bots.flow import Flow
from bots.slots import propose
from bots.turn import Turn
from bots.turns import Buttons, Facts, Input, Pressed, Said, Say, State
from crm_core.clock import DAY
from crm_core.db.uow import UnitOfWork
from crm_core.envelope import Button
from crm_core.errors import Conflict, Invalid, NotFound
from routing import callbacks
from routing.callbacks import booking, rows, slots
from routing.schema import callback

PREFIX = "x:cb:"
_COMMANDS = frozenset({"calls", "callbacks", "mycalls"})
_MAX = 3
_AHEAD = 10 * DAY

LIST: Mapping[str, tuple[str, ...]] = {
    "uk": ("мої дзвінки", "мій дзвінок", "коли ви зателефонуєте", "коли ви подзвоните", "коли зателефонуєте"),
    "ru": ("мои звонки", "мой звонок", "когда вы позвоните", "когда вы перезвоните", "когда позвоните"),
    "en": (
        "my callbacks",
        "my callback",
        "my calls",
        "my call",
        "when will you call",
        "when will you call me",
    ),
}
CANCEL: Mapping[str, tuple[str, ...]] = {
    "uk": ("скасувати дзвінок", "скасуйте дзвінок", "не телефонуйте", "не дзвоніть", "дзвінок не потрібен"),
    "ru": ("отменить звонок", "отмените звонок", "не звоните", "не перезванивайте", "звонок не нужен"),
    "en": ("cancel the call", "cancel my call", "cancel call", "cancel the callback", "cancel my callback",
           "do not call me", "don't call me", "no need to call"),
}  # fmt: skip
MOVE: Mapping[str, tuple[str, ...]] = {
    "uk": ("перенести дзвінок", "перенесіть дзвінок", "інший час дзвінка", "зателефонуйте пізніше",
           "подзвоніть пізніше"),
    "ru": ("перенести звонок", "перенесите звонок", "другое время звонка", "позвоните позже",
           "перезвоните позже"),
    "en": ("move the call", "move my call", "reschedule the call", "reschedule my call", "reschedule my callback",
           "call me later", "another time for the call"),
}  # fmt: skip


def concerns(heard: Input) -> str | None:
    """list, cancel, move or press if this is about promises, else None. Cheap: words only."""
    if isinstance(heard, Pressed):
        return "press" if heard.value.startswith(PREFIX) else None
    if not isinstance(heard, Said) or heard.files:
        return None
    if heard.command is not None:
        return "list" if heard.command in _COMMANDS else None
    for name, words in (("cancel", CANCEL), ("move", MOVE), ("list", LIST)):
        if language.is_phrase(heard.text, words) or language.holds_phrase(heard.text, words, longest=60):
            return name
    return None


async def hear(
    uow: UnitOfWork, flow: Flow, heard: Input, facts: Facts, *, contact: Mapping[str, Any], spoken: str
) -> Sequence[Say] | None:
    """What is to be said, with everything done; None: it was not about promises after all.

    `spoken` is the language of the dialog.
    """
    wish = concerns(heard)
    if wish is None:
        return None
    turn = Turn(flow, State(node=flow.start, language=spoken), facts)
    mine = await _open_ones(uow, contact["id"])
    if isinstance(heard, Pressed):
        return await _pressed(uow, turn, heard.value, mine, contact)
    if not mine:
        # "Do not call me" of somebody who was promised nothing is for people to read.
        return (Say(text=turn.phrase("calls_none"), buttons=turn.callback_row()),) if wish == "list" else None
    if wish == "list" or len(mine) > 1:
        return [_line(turn, row) for row in mine]
    if wish == "cancel":
        return [await _cancel(uow, turn, mine[0], contact)]
    text = heard.text if isinstance(heard, Said) else ""
    named = when.read(text, now=facts.now, zone=turn.facts.zone)
    if named is not None and named.minute is not None:
        at = when.instant(named, now=facts.now, zone=turn.facts.zone)
        if at is not None:
            return [await _move(uow, turn, mine[0], at, contact)]
    return [await _ask_time(uow, turn, mine[0])]


async def _open_ones(uow: UnitOfWork, contact_id: int) -> list[dict[str, Any]]:
    found = await uow.rows(
        select(callback)
        .where(callback.c.contact_id == contact_id, callback.c.state.in_(rows.OPEN))
        .order_by(callback.c.due_at, callback.c.id)
        .limit(_MAX)
    )
    return [dict(r) for r in found]


async def _pressed(
    uow: UnitOfWork, turn: Turn, value: str, mine: list[dict[str, Any]], contact: Mapping[str, Any]
) -> list[Say]:
    parts = value[len(PREFIX) :].split(":")
    chosen = next((r for r in mine if str(r["id"]) == parts[0]), None)
    if chosen is None:
        return [Say(text=turn.phrase("calls_over"), buttons=turn.callback_row())]
    match parts[1:]:
        case ["cancel"]:
            return [await _cancel(uow, turn, chosen, contact)]
        case ["at", digits] if digits.isascii() and digits.isdigit() and len(digits) <= 16:
            return [await _move(uow, turn, chosen, int(digits), contact)]
        case _:
            return [await _ask_time(uow, turn, chosen)]


def _line(turn: Turn, row: Mapping[str, Any]) -> Say:
    said = turn.phrase("calls_line", call_time=_shown(turn, row, row["due_at"]), phone=row["phone"])
    return Say(text=said, buttons=_buttons(turn, row))


def _shown(turn: Turn, row: Mapping[str, Any], at: int) -> str:
    return when.show(
        at, now=turn.facts.now, zone=row["timezone"], language=turn.state.language,
        name_zone=row["timezone_source"] == "default",
    )  # fmt: skip


def _buttons(turn: Turn, row: Mapping[str, Any]) -> Buttons:
    return (
        (
            turn.button("button_move_call", f"{PREFIX}{row['id']}:move"),
            turn.button("button_cancel_call", f"{PREFIX}{row['id']}:cancel"),
        ),
    )


async def _cancel(uow: UnitOfWork, turn: Turn, row: Mapping[str, Any], contact: Mapping[str, Any]) -> Say:
    try:
        async with uow.savepoint():
            await callbacks.cancel(
                uow, row["id"], actor=f"contact:{contact['id']}", reason="by the customer", confirm=False
            )
    except (Conflict, NotFound):
        return Say(text=turn.phrase("calls_over"), buttons=turn.callback_row())
    return Say(text=turn.phrase("calls_cancelled", phone=row["phone"]), buttons=turn.callback_row())


async def _move(
    uow: UnitOfWork, turn: Turn, row: Mapping[str, Any], at: int, contact: Mapping[str, Any]
) -> Say:
    try:
        async with uow.savepoint():
            moved = await callbacks.reschedule(
                uow,
                row["id"],
                window_start=at,
                strict_slot=True,
                actor=f"contact:{contact['id']}",
                confirm=False,
            )
    except Conflict as refused:
        if refused.code == "slot_full":
            return await _ask_time(uow, turn, row, before="time_taken")
        return Say(
            text=turn.phrase("calls_dialling" if refused.code == "callback_dialling" else "calls_over")
        )
    except Invalid:
        return await _ask_time(uow, turn, row, before="time_over")
    except NotFound:
        return Say(text=turn.phrase("calls_over"), buttons=turn.callback_row())
    said = turn.phrase("calls_moved", call_time=_shown(turn, moved, moved["due_at"]), phone=moved["phone"])
    return Say(text=said, buttons=_buttons(turn, moved))


async def _ask_time(
    uow: UnitOfWork, turn: Turn, row: Mapping[str, Any], *, before: str = "calls_choose"
) -> Say:
    team_id = row["slot_team_id"] or row["team_id"] or await booking.default_team(uow)
    times: tuple[int, ...] = ()
    if team_id is not None:
        free = await slots.offered(
            uow.conn, team_id, await rows.zones(uow, row), now=uow.now, since=uow.now, until=uow.now + _AHEAD
        )
        starts = {s.start for s in free} - {row["slot_at"]}
        times = propose(None, now=uow.now, zone=row["timezone"], free=starts)
    buttons = [
        Button(
            label=when.label(at, now=uow.now, zone=row["timezone"], language=turn.state.language),
            value=f"{PREFIX}{row['id']}:at:{at}",
        )
        for at in times
    ]
    grid = tuple(tuple(buttons[i : i + 2]) for i in range(0, len(buttons), 2))
    cancel = ((turn.button("button_cancel_call", f"{PREFIX}{row['id']}:cancel"),),)
    return Say(text=turn.phrase(before if times else "calls_no_time"), buttons=(*grid, *cancel))
