"""The engine of dialogs: (flow, state, input, facts) -> (state, actions). Pure: no clock, no database, no network.

After every call the dialog waits for the customer (`active`), belongs to people (`handed_off`) or is over (`ended`).
People are never more than one sentence away: free text, misunderstanding, silence and the word for it all lead there.
"""

from bots import callback_talk, language, late, when
from bots.answers import read_answer, read_phone
from bots.flow import Ask, AskContact, BookCallback, Choice, Flow, Menu
from bots.intent import RESTART, asks_callback, asks_person, choice_of, typed_choice
from bots.turn import ASAP, CALLBACK, LANGUAGE_PREFIX, PERSON, SKIP, SLOT_PREFIX, FlowError, Turn, parse_press
from bots.turns import (
    Action,
    AddPhone,
    Arrived,
    Booked,
    Change,
    Facts,
    Input,
    NotBooked,
    Pressed,
    Said,
    SharedPhone,
    Silence,
    State,
)
from bots.walk import enter, follow, prompt, switch
from crm_core.clock import SECOND

Result = tuple[State, tuple[Action, ...]]

#: the same button again within this is a nervous finger, not a second wish
_DOUBLE_PRESS_MS = 30 * SECOND


def begin(flow: Flow, heard: Input, facts: Facts) -> Result:
    """The customer's first word to the bot."""
    text = heard.text if isinstance(heard, Said) else ""
    chosen = language.choose(
        "" if text.startswith("/") else text, known=facts.languages, languages=flow.languages
    )
    turn = Turn(flow, State(node=flow.start, language=chosen), facts)
    if (chosen,) != facts.languages[:1]:
        turn.actions.append(Change(language=chosen))
    if isinstance(heard, SharedPhone):
        turn.learn_phone(heard.e164)
    elif isinstance(heard, Pressed) and (parse_press(flow, heard.value) or _is_global(flow, heard.value)):
        state, actions = step(flow, turn.state, heard, facts)
        return state, (*turn.actions, *actions)
    elif isinstance(heard, Said):
        _first_words(turn, heard)
        return turn.done()
    enter(turn, flow.start)
    return turn.done()


def step(flow: Flow, state: State, heard: Input, facts: Facts) -> Result:
    """The next word. For a dialog that people have it does what late buttons can still do."""
    if isinstance(heard, Pressed):
        if heard.id is not None and heard.id == state.last_press_id:
            return state, ()
        again = heard.value == state.last_press and facts.now - state.last_press_at < _DOUBLE_PRESS_MS
        if again:
            return state, ()
    turn = Turn(flow, state, facts)
    if isinstance(heard, Pressed):
        turn.set(last_press=heard.value[:100], last_press_at=facts.now, last_press_id=heard.id)
    elif isinstance(heard, Said):
        turn.set(last_press="")
    if turn.state.status != "active":
        late.hear(turn, heard)
    elif turn.state.node not in flow.nodes:
        raise FlowError(f"the flow has no node {turn.state.node!r}")
    else:
        _hear(turn, heard)
    return turn.done()


def beside(flow: Flow, heard: Input, facts: Facts) -> Result:
    """A word to people in a conversation that had no dialog: only a wish for a callback is for the bot."""
    chosen = language.choose("", known=facts.languages, languages=flow.languages)
    return step(flow, State(node=flow.start, language=chosen, status="handed_off", holds=False), heard, facts)


def _is_global(flow: Flow, value: str) -> bool:
    return (
        value == PERSON
        or (value == CALLBACK and flow.callback is not None)
        or (value.removeprefix(LANGUAGE_PREFIX) in flow.languages and value.startswith(LANGUAGE_PREFIX))
    )


# --- the first words ----------------------------------------------------------------------------------------------
def _first_words(turn: Turn, said: Said) -> None:
    flow = turn.flow
    if said.payload:
        turn.set(answers={**turn.state.answers, "start_payload": said.payload})
    wanted = language.switch_to(said.text, flow.languages)
    if wanted is not None:
        switch(turn, wanted)
    if asks_person(turn, said):
        turn.set(substance=True)
        turn.hand_off("asked_for_person", turn.phrase("person"))
        turn.tell_wait()
    elif asks_callback(turn, said):
        enter(turn, flow.callback or flow.start)
    elif (
        flow.first_text == "handoff"
        and said.command is None
        and wanted is None
        and (said.files or language.is_substantive(said.text))
    ):
        turn.set(substance=True)
        turn.hand_off("first_text", turn.phrase("acknowledge"), request=said.text or None, refine=True)
    else:
        turn.set(substance=said.files or language.is_substantive(said.text))
        enter(turn, flow.start)


# --- an active dialog ---------------------------------------------------------------------------------------------
def _hear(turn: Turn, heard: Input) -> None:
    match heard:
        case Silence():
            _silent(turn)
        case Arrived():
            prompt(turn)
        case Pressed():
            _pressed(turn, heard)
        case SharedPhone():
            _shared(turn, heard)
        case Said():
            _said(turn, heard)
        case Booked() | NotBooked():
            if isinstance(turn.flow.nodes[turn.state.node], BookCallback):
                follow(turn, callback_talk.hear(turn, heard))


def _silent(turn: Turn) -> None:
    if not turn.state.holds:
        turn.set(status="ended")
    elif turn.state.substance:
        turn.hand_off("idle", turn.phrase("idle"))
    else:
        turn.end("no_request")


def _pressed(turn: Turn, press: Pressed) -> None:
    value, node = press.value, turn.flow.nodes[turn.state.node]
    target = parse_press(turn.flow, value)
    if value == PERSON:
        _person(turn)
    elif value == CALLBACK and turn.flow.callback is not None:
        enter(turn, turn.flow.callback)
    elif value.startswith(LANGUAGE_PREFIX) and value.removeprefix(LANGUAGE_PREFIX) in turn.flow.languages:
        switch(turn, value.removeprefix(LANGUAGE_PREFIX))
        prompt(turn)
    elif target is not None and not turn.state.holds:
        late.hear(turn, press)
    elif target is not None:
        choice = choice_of(turn.flow, *target)
        if choice is None:
            prompt(turn)
        else:
            # Also a button of a menu further up: the customer changed his mind.
            _choose(turn, target[0], choice)
    elif isinstance(node, BookCallback) and (value == ASAP or value.startswith(SLOT_PREFIX)):
        follow(turn, callback_talk.hear(turn, press))
    elif value == SKIP and isinstance(node, Ask | AskContact) and node.optional:
        follow(turn, node.next)
    else:
        prompt(turn)


def _choose(turn: Turn, menu: str, choice: Choice) -> None:
    topic = turn.fill(choice.label)
    turn.answer(menu, choice.value)
    turn.apply(choice.set, topic=topic)
    enter(turn, choice.next)


def _shared(turn: Turn, shared: SharedPhone) -> None:
    turn.learn_phone(shared.e164)
    turn.set(phone=shared.e164, substance=True, misses=0)
    node = turn.flow.nodes[turn.state.node]
    if isinstance(node, AskContact) or (isinstance(node, Ask) and node.validate_as == "phone"):
        turn.answer(node.save_as, shared.e164)
        enter(turn, node.next)
    elif isinstance(node, BookCallback):
        follow(turn, callback_talk.hear(turn, shared))
    else:
        prompt(turn)


def _said(turn: Turn, said: Said) -> None:
    node = turn.flow.nodes[turn.state.node]
    if isinstance(node, Menu):
        choice = typed_choice(node, said.text)
        if choice is not None:
            _choose(turn, turn.state.node, choice)
            return
    if said.payload:
        turn.set(answers={**turn.state.answers, "start_payload": said.payload})
    wanted = language.switch_to(said.text, turn.flow.languages)
    if said.command in RESTART and turn.state.holds:
        turn.set(misses=0)
        enter(turn, turn.flow.start)
    elif wanted is not None:
        switch(turn, wanted)
        prompt(turn)
    elif asks_person(turn, said):
        _person(turn)
    elif not isinstance(node, BookCallback) and asks_callback(turn, said):
        enter(turn, turn.flow.callback or turn.flow.start)
    elif said.files and not said.text.strip():
        turn.set(substance=True)
        turn.hand_off("attachment", turn.phrase("acknowledge"))
    elif (
        not turn.state.holds
        and not any(char.isdigit() for char in said.text)
        and not _names_time(turn, said.text)
    ):
        # Said to the person he talks with, not to us.
        turn.set(status="ended")
    elif isinstance(node, BookCallback):
        follow(turn, callback_talk.hear(turn, said))
    elif isinstance(node, Menu):
        _not_a_choice(turn, said)
    elif isinstance(node, Ask):
        _answered(turn, node, said)
    elif isinstance(node, AskContact):
        _phone_written(turn, node, said)
    else:
        raise FlowError(f"a dialog cannot wait at {turn.state.node!r}")


def _names_time(turn: Turn, text: str) -> bool:
    return turn.says_button(text, "button_asap") or (
        when.read(text, now=turn.facts.now, zone=turn.facts.zone) is not None
    )


def _not_a_choice(turn: Turn, said: Said) -> None:
    """What is no choice is his request; a sign or a second greeting is not."""
    if said.files or language.is_substantive(said.text):
        turn.set(substance=True)
        turn.hand_off("free_text", turn.phrase("acknowledge"), request=said.text)
    elif turn.miss() >= turn.flow.rules.max_misses:
        turn.hand_off("not_understood", turn.phrase("gave_up"))
    else:
        prompt(turn)


def _answered(turn: Turn, node: Ask, said: Said) -> None:
    if node.optional and _skips(turn, said):
        enter(turn, node.next)
        return
    answer = read_answer(node.validate_as, said.text, turn.facts) if said.command is None else None
    if answer is not None and answer.problem is None:
        turn.answer(node.save_as, answer.value)
        if node.validate_as == "phone":
            _keep_phone(turn, str(answer.value))
        enter(turn, node.next)
        return
    limit = node.retries + 1 if node.retries is not None else turn.flow.rules.max_misses
    if turn.miss() >= limit:
        turn.hand_off("not_understood", turn.phrase("gave_up"), request=said.text)
        return
    problem = answer.problem if answer is not None and answer.problem else "not_understood"
    turn.say(turn.fill(node.error) if node.error is not None else turn.phrase(problem))
    prompt(turn)


def _phone_written(turn: Turn, node: AskContact, said: Said) -> None:
    if node.optional and _skips(turn, said):
        enter(turn, node.next)
        return
    number = read_phone(said.text, turn.facts.region)
    if number is not None:
        _keep_phone(turn, number)
        turn.answer(node.save_as, number)
        enter(turn, node.next)
    elif turn.miss() >= turn.flow.rules.max_misses:
        turn.hand_off("not_understood", turn.phrase("gave_up"), request=said.text)
    else:
        turn.say(turn.phrase("bad_phone"))
        turn.flush(callback_talk.contact_rows(turn, optional=node.optional))


def _keep_phone(turn: Turn, e164: str) -> None:
    turn.learn_phone(e164)
    turn.set(phone=e164)
    turn.actions.append(AddPhone(e164=e164))


def _skips(turn: Turn, said: Said) -> bool:
    return language.is_phrase(said.text, language.SKIP) or turn.says_button(said.text, "button_skip")


def _person(turn: Turn) -> None:
    if turn.state.holds:
        turn.set(substance=True)
        turn.hand_off("asked_for_person", turn.phrase("person"))
        turn.tell_wait()
    else:
        turn.say(turn.phrase("person_already"))
        turn.tell_wait()
        turn.set(status="ended")
