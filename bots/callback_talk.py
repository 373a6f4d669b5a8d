"""The steps of a `book_callback` node: the number, the time, the promise. Each function works on one turn and returns
the node to go to next, or None to wait where it is.
"""

from typing import cast

from bots import when
from bots.answers import read_phone
from bots.flow import BookCallback
from bots.language import plain
from bots.slots import is_open, propose
from bots.turn import ASAP, SLOT_PREFIX, Turn
from bots.turns import AddPhone, Book, Booked, Buttons, Input, NotBooked, Pressed, Said, SharedPhone
from crm_core import phone
from crm_core.clock import DAY, MINUTE
from crm_core.envelope import Button

PHONE, TIME, BOOKING = "phone", "time", "booking"
_MAX_AHEAD = 90 * DAY
_BAD_NUMBER = frozenset({"no_phone", "bad_phone", "not_callable"})


def enter(turn: Turn) -> None:
    """Ask for what is missing."""
    if turn.phone is None or not phone.may_call_back(turn.phone):
        ask_phone(turn)
    else:
        turn.set(phone=turn.phone)
        ask_time(turn)


def ask_phone(turn: Turn) -> None:
    turn.set(phase=PHONE, phone=None)
    turn.phone = None
    turn.say(turn.phrase("callback_phone"))
    turn.flush(contact_rows(turn))


def contact_rows(turn: Turn, *, optional: bool = False) -> Buttons:
    rows: list[tuple[Button, ...]] = []
    if turn.facts.can_share_contact:
        rows.append((turn.button("button_contact", request="contact"),))
    if optional:
        rows.append((turn.button("button_skip", "x:skip"),))
    return (*rows, *turn.person_row())


def ask_time(turn: Turn, *, after: int | None = None, until: int | None = None, prompt: bool = True) -> None:
    """Offer times from `after` on; without any the customer still writes his own."""
    free = turn.free()
    slots = propose(
        turn.calendar(), now=turn.facts.now, zone=turn.facts.zone, after=after, until=until, free=free
    )
    if not slots and until is not None:
        turn.say(turn.phrase("time_closed"))
        prompt = False
        slots = propose(turn.calendar(), now=turn.facts.now, zone=turn.facts.zone, after=until, free=free)
    turn.set(phase=TIME, slots=slots)
    node = cast("BookCallback", turn.flow.nodes[turn.state.node])
    if prompt:
        turn.say(turn.fill(node.text) if node.text is not None else turn.phrase("callback_time"))
    rows: list[tuple[Button, ...]] = [(turn.button("button_asap", ASAP),)]
    buttons = [Button(label=_label(turn, at), value=f"{SLOT_PREFIX}{at}") for at in slots]
    rows.extend(tuple(buttons[i : i + 2]) for i in range(0, len(buttons), 2))
    turn.flush((*rows, *turn.person_row()))


def _label(turn: Turn, at: int) -> str:
    return when.label(at, now=turn.facts.now, zone=turn.facts.zone, language=turn.state.language)


def hear(turn: Turn, heard: Input) -> str | None:
    """The customer's next word, or the service's on the promise."""
    node = cast("BookCallback", turn.flow.nodes[turn.state.node])
    match heard:
        case Booked():
            if turn.state.phase != BOOKING:
                return None
            turn.set(phase="", misses=0, booked=True, substance=True, phone=heard.phone)
            turn.phone = heard.phone
            turn.say(turn.phrase("callback_booked", call_time=turn.show(heard.due_at), phone=heard.phone))
            return node.next
        case NotBooked():
            _refused(turn, heard.code)
        case SharedPhone():
            _take_phone(turn, heard.e164)
        case Pressed(value=value):
            _pressed(turn, value)
        case Said() if turn.state.phase == PHONE:
            found = read_phone(heard.text, turn.facts.region)
            if found is None:
                _missed(turn, "bad_phone")
            else:
                _take_phone(turn, found, typed=True)
        case Said():
            _time_written(turn, heard.text)
        case _:
            enter(turn)
    return None


def _take_phone(turn: Turn, e164: str, *, typed: bool = False) -> None:
    if typed:
        turn.actions.append(AddPhone(e164=e164))
    if not phone.may_call_back(e164):
        turn.phone = None
        _missed(turn, "not_callable")
        return
    turn.learn_phone(e164)
    turn.set(phone=e164, misses=0, substance=True)
    turn.answer("phone", e164)
    ask_time(turn)


def _pressed(turn: Turn, value: str) -> None:
    if turn.phone is None:
        ask_phone(turn)
    elif value == ASAP:
        _as_soon_as_possible(turn)
    elif value.startswith(SLOT_PREFIX) and _digits(value[len(SLOT_PREFIX) :]):
        _chosen(turn, int(value[len(SLOT_PREFIX) :][:16]))
    else:
        ask_time(turn)


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _time_written(turn: Turn, text: str) -> None:
    said = plain(text)
    if turn.phone is None:
        ask_phone(turn)
        return
    if turn.says_button(text, "button_asap"):
        _as_soon_as_possible(turn)
        return
    slots = turn.state.slots
    if _digits(said) and 1 <= int(said[:3]) <= len(slots):
        _chosen(turn, slots[int(said) - 1])
        return
    for at in slots:
        if said == plain(_label(turn, at)):
            _chosen(turn, at)
            return
    wish = when.read(text, now=turn.facts.now, zone=turn.facts.zone)
    if wish is None:
        _missed(turn, "bad_time")
    elif wish.asap:
        _as_soon_as_possible(turn)
    elif wish.day is not None and wish.minute is None:
        bounds = when.day_bounds(wish.day, turn.facts.zone)
        if bounds is None or bounds[1] <= turn.facts.now:
            _missed(turn, "time_over")
        elif bounds[0] > turn.facts.now + _MAX_AHEAD:
            _missed(turn, "time_too_far")
        else:
            ask_time(turn, after=bounds[0], until=bounds[1])
    else:
        at_written = when.instant(wish, now=turn.facts.now, zone=turn.facts.zone)
        if at_written is None:
            _missed(turn, "bad_time")
        else:
            _chosen(turn, at_written)


def _as_soon_as_possible(turn: Turn) -> None:
    calendar = turn.calendar()
    at = None if calendar is None or calendar.is_open(turn.facts.now) else calendar.next_open(turn.facts.now)
    _book(turn, at, asked_for=False)


def _chosen(turn: Turn, at: int) -> None:
    if at < turn.facts.now - MINUTE:
        _missed(turn, "time_over")
    elif at > turn.facts.now + _MAX_AHEAD:
        _missed(turn, "time_too_far")
    elif not is_open(turn.calendar(), at):
        # Nobody would be there to call; the customer gets the nearest times instead of a broken promise.
        if _too_many(turn):
            return
        turn.say(turn.phrase("time_closed"))
        ask_time(turn, after=at, prompt=False)
    else:
        _book(turn, at, asked_for=True)


def _book(turn: Turn, at: int | None, *, asked_for: bool) -> None:
    if turn.phone is None:
        ask_phone(turn)
        return
    node = cast("BookCallback", turn.flow.nodes[turn.state.node])
    turn.set(phase=BOOKING)
    turn.actions.append(Book(phone=turn.phone, at=at, asked_for=asked_for, note=node.note))


def _refused(turn: Turn, code: str) -> None:
    if turn.state.phase != BOOKING:
        return
    if code in _BAD_NUMBER:
        turn.phone = None
        turn.set(phase=PHONE, phone=None)
        _missed(turn, "not_callable" if code == "not_callable" else "bad_phone")
    elif code == "slot_full":
        turn.set(phase=TIME)
        _missed(turn, "time_taken")
    elif code == "bad_window":
        turn.set(phase=TIME)
        _missed(turn, "time_over")
    else:
        turn.hand_off("callback_failed", turn.phrase("callback_failed"))


def _too_many(turn: Turn) -> bool:
    if turn.miss() < turn.flow.rules.max_misses:
        return False
    turn.hand_off("not_understood", turn.phrase("gave_up"))
    return True


def _missed(turn: Turn, phrase: str) -> None:
    if _too_many(turn):
        return
    turn.say(turn.phrase(phrase))
    if turn.state.phase == PHONE or turn.phone is None:
        turn.set(phase=PHONE, phone=None)
        turn.flush(contact_rows(turn))
    else:
        ask_time(turn, prompt=False)
