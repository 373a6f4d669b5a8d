"""The engine of dialogs: (flow, state, input, facts) -> (state, actions). Pure: no clock, no database, no network.

After every call the dialog waits for the customer (`active`), belongs to people (`handed_off`) or is over (`ended`).
People are never more than one sentence away: free text, misunderstanding, silence and the word for it all lead there.
"""

from bots import callback_talk, language, when
from bots.answers import read_answer, read_phone
from bots.flow import Ask, AskContact, BookCallback, Choice, Condition, End, Flow, HandOff, If, Menu, Message
from bots.turn import (
    ASAP,
    CALLBACK,
    LANGUAGE_PREFIX,
    MAX_HOPS,
    PERSON,
    SKIP,
    SLOT_PREFIX,
    FlowError,
    Turn,
    labels_of,
    parse_press,
)
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
from crm_core.clock import SECOND

Result = tuple[State, tuple[Action, ...]]

#: the same button again within this is a nervous finger, not a second wish
_DOUBLE_PRESS_MS = 30 * SECOND
_RESTART = frozenset({"start", "menu", "help", "restart"})
_PERSON_COMMANDS = frozenset({"person", "human", "operator", "agent"})
_CALLBACK_COMMANDS = frozenset({"callback", "call"})


def begin(flow: Flow, heard: Input, facts: Facts) -> Result:
    """The customer's first word to the bot."""
    text = heard.text if isinstance(heard, Said) else ""
    chosen = language.choose("" if text.startswith("/") else text, known=facts.languages, languages=flow.languages)
    turn = Turn(flow, State(node=flow.start, language=chosen), facts)
    if (chosen,) != facts.languages[:1]:
        turn.actions.append(Change(language=chosen))
    if isinstance(heard, SharedPhone):
        turn.phone = heard.e164
    elif isinstance(heard, Pressed) and (parse_press(flow, heard.value) or _is_global(flow, heard.value)):
        state, actions = step(flow, turn.state, heard, facts)
        return state, (*turn.actions, *actions)
    elif isinstance(heard, Said):
        _first_words(turn, heard)
        return turn.done()
    _enter(turn, flow.start)
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
        _late(turn, heard)
    elif turn.state.node not in flow.nodes:
        raise FlowError(f"the flow has no node {turn.state.node!r}")
    else:
        _hear(turn, heard)
    return turn.done()


def beside(flow: Flow, heard: Input, facts: Facts) -> Result:
    """A word to people in a conversation that had no dialog: only a wish for a callback is for the bot."""
    chosen = language.choose("", known=facts.languages, languages=flow.languages)
    return step(flow, State(node=flow.start, language=chosen, status="handed_off", holds=False), heard, facts)


def wants_bot(flow: Flow, text: str) -> bool:
    """Whether a text to people is meant for the bot all the same: nothing but the word for a callback."""
    if flow.callback is None:
        return False
    words = {**language.CALLBACK, "own": flow.words.callback}
    return language.is_phrase(text, words) or _label(flow, text, "button_callback")


def _label(flow: Flow, text: str, phrase: str) -> bool:
    return Turn(flow, State(node=flow.start, language=flow.languages[0]), Facts(now=0)).says_button(text, phrase)


def _is_global(flow: Flow, value: str) -> bool:
    return value == PERSON or (value == CALLBACK and flow.callback is not None) or (
        value.removeprefix(LANGUAGE_PREFIX) in flow.languages and value.startswith(LANGUAGE_PREFIX))


# --- the first words ----------------------------------------------------------------------------------------------
def _first_words(turn: Turn, said: Said) -> None:
    flow = turn.flow
    if said.payload:
        turn.set(answers={**turn.state.answers, "start_payload": said.payload})
    wanted = language.switch_to(said.text, flow.languages)
    if wanted is not None:
        _switch(turn, wanted)
    if _asks_person(turn, said):
        turn.set(substance=True)
        turn.hand_off("asked_for_person", turn.phrase("person"))
    elif _asks_callback(turn, said):
        _enter(turn, flow.callback or flow.start)
    elif flow.first_text == "handoff" and said.command is None and wanted is None and (
            said.files or language.is_substantive(said.text)):
        turn.set(substance=True)
        turn.hand_off("first_text", turn.phrase("acknowledge"), request=said.text or None, refine=True)
    else:
        turn.set(substance=said.files or language.is_substantive(said.text))
        _enter(turn, flow.start)


def _asks_person(turn: Turn, said: Said) -> bool:
    words = {**language.PERSON, "own": turn.flow.words.person}
    return (said.command in _PERSON_COMMANDS or turn.says_button(said.text, "button_person")
            or language.is_phrase(said.text, words) or language.holds_phrase(said.text, words, longest=60))


def _asks_callback(turn: Turn, said: Said) -> bool:
    if turn.flow.callback is None:
        return False
    words = {**language.CALLBACK, "own": turn.flow.words.callback}
    return (said.command in _CALLBACK_COMMANDS or turn.says_button(said.text, "button_callback")
            or language.is_phrase(said.text, words) or language.holds_phrase(said.text, words, longest=40))


# --- an active dialog ---------------------------------------------------------------------------------------------
def _hear(turn: Turn, heard: Input) -> None:
    match heard:
        case Silence():
            _silent(turn)
        case Arrived():
            _prompt(turn)
        case Pressed():
            _pressed(turn, heard)
        case SharedPhone():
            _shared(turn, heard)
        case Said():
            _said(turn, heard)
        case Booked() | NotBooked():
            if isinstance(turn.flow.nodes[turn.state.node], BookCallback):
                _follow(turn, callback_talk.hear(turn, heard))


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
        _enter(turn, turn.flow.callback)
    elif value.startswith(LANGUAGE_PREFIX) and value.removeprefix(LANGUAGE_PREFIX) in turn.flow.languages:
        _switch(turn, value.removeprefix(LANGUAGE_PREFIX))
        _prompt(turn)
    elif target is not None:
        choice = _choice(turn.flow, *target)
        if choice is None:
            _prompt(turn)
        else:
            # Also a button of a menu further up: the customer changed his mind.
            _choose(turn, target[0], choice)
    elif isinstance(node, BookCallback) and (value == ASAP or value.startswith(SLOT_PREFIX)):
        _follow(turn, callback_talk.hear(turn, press))
    elif value == SKIP and isinstance(node, Ask | AskContact) and node.optional:
        _follow(turn, node.next)
    else:
        _prompt(turn)


def _choice(flow: Flow, menu: str, value: str) -> Choice | None:
    node = flow.nodes.get(menu)
    return next((c for c in node.choices if c.value == value), None) if isinstance(node, Menu) else None


def _choose(turn: Turn, menu: str, choice: Choice) -> None:
    topic = turn.fill(choice.label)
    turn.answer(menu, choice.value)
    turn.apply(choice.set, topic=topic)
    _enter(turn, choice.next)


def _shared(turn: Turn, shared: SharedPhone) -> None:
    turn.phone = shared.e164
    turn.set(substance=True, misses=0)
    node = turn.flow.nodes[turn.state.node]
    if isinstance(node, AskContact) or (isinstance(node, Ask) and node.validate_as == "phone"):
        turn.answer(node.save_as, shared.e164)
        _enter(turn, node.next)
    elif isinstance(node, BookCallback):
        _follow(turn, callback_talk.hear(turn, shared))
    else:
        _prompt(turn)


def _said(turn: Turn, said: Said) -> None:
    node = turn.flow.nodes[turn.state.node]
    if isinstance(node, Menu):
        choice = _typed_choice(node, said.text)
        if choice is not None:
            _choose(turn, turn.state.node, choice)
            return
    if said.payload:
        turn.set(answers={**turn.state.answers, "start_payload": said.payload})
    wanted = language.switch_to(said.text, turn.flow.languages)
    if said.command in _RESTART and turn.state.holds:
        turn.set(misses=0)
        _enter(turn, turn.flow.start)
    elif wanted is not None:
        _switch(turn, wanted)
        _prompt(turn)
    elif _asks_person(turn, said):
        _person(turn)
    elif not isinstance(node, BookCallback) and _asks_callback(turn, said):
        _enter(turn, turn.flow.callback or turn.flow.start)
    elif said.files and not said.text.strip():
        turn.set(substance=True)
        turn.hand_off("attachment", turn.phrase("acknowledge"))
    elif not turn.state.holds and not any(char.isdigit() for char in said.text) and not _names_time(turn, said.text):
        # Said to the person he talks with, not to us.
        turn.set(status="ended")
    elif isinstance(node, BookCallback):
        _follow(turn, callback_talk.hear(turn, said))
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
        when.read(text, now=turn.facts.now, zone=turn.facts.zone) is not None)


def _typed_choice(menu: Menu, text: str) -> Choice | None:
    """By number, value or label of any language."""
    said = language.plain(text)
    if said.isascii() and said.isdigit() and 1 <= int(said[:3]) <= len(menu.choices):
        return menu.choices[int(said[:3]) - 1]
    for choice in menu.choices:
        if said and said in labels_of([choice.value, *choice.label.values()]):
            return choice
    return None


def _not_a_choice(turn: Turn, said: Said) -> None:
    """What is no choice is his request; a sign or a second greeting is not."""
    if said.files or language.is_substantive(said.text):
        turn.set(substance=True)
        turn.hand_off("free_text", turn.phrase("acknowledge"), request=said.text)
    elif turn.miss() >= turn.flow.rules.max_misses:
        turn.hand_off("not_understood", turn.phrase("gave_up"))
    else:
        _prompt(turn)


def _answered(turn: Turn, node: Ask, said: Said) -> None:
    if node.optional and _skips(turn, said):
        _enter(turn, node.next)
        return
    answer = read_answer(node.validate_as, said.text, turn.facts) if said.command is None else None
    if answer is not None and answer.problem is None:
        turn.answer(node.save_as, answer.value)
        if node.validate_as == "phone":
            _keep_phone(turn, str(answer.value))
        _enter(turn, node.next)
        return
    limit = node.retries + 1 if node.retries is not None else turn.flow.rules.max_misses
    if turn.miss() >= limit:
        turn.hand_off("not_understood", turn.phrase("gave_up"), request=said.text)
        return
    problem = answer.problem if answer is not None and answer.problem else "not_understood"
    turn.say(turn.fill(node.error) if node.error is not None else turn.phrase(problem))
    _prompt(turn)


def _phone_written(turn: Turn, node: AskContact, said: Said) -> None:
    if node.optional and _skips(turn, said):
        _enter(turn, node.next)
        return
    number = read_phone(said.text, turn.facts.region)
    if number is not None:
        _keep_phone(turn, number)
        turn.answer(node.save_as, number)
        _enter(turn, node.next)
    elif turn.miss() >= turn.flow.rules.max_misses:
        turn.hand_off("not_understood", turn.phrase("gave_up"), request=said.text)
    else:
        turn.say(turn.phrase("bad_phone"))
        turn.flush(callback_talk.contact_rows(turn, optional=node.optional))


def _keep_phone(turn: Turn, e164: str) -> None:
    turn.phone = e164
    turn.set(phone=e164)
    turn.actions.append(AddPhone(e164=e164))


def _skips(turn: Turn, said: Said) -> bool:
    return language.is_phrase(said.text, language.SKIP) or turn.says_button(said.text, "button_skip")


def _person(turn: Turn) -> None:
    if turn.state.holds:
        turn.set(substance=True)
        turn.hand_off("asked_for_person", turn.phrase("person"))
    else:
        turn.say(turn.phrase("person_already"))
        turn.flush()
        turn.set(status="ended")


def _switch(turn: Turn, wanted: str) -> None:
    turn.set(language=wanted, pinned=True)
    turn.actions.append(Change(language=wanted))


# --- going from node to node --------------------------------------------------------------------------------------
def _follow(turn: Turn, name: str | None) -> None:
    """Go on from a node that was answered; a small dialog beside a person has nowhere to go on to."""
    if name is None:
        return
    if turn.state.holds:
        _enter(turn, name)
    else:
        turn.flush()
        turn.set(status="ended")


def _prompt(turn: Turn) -> None:
    """Say again what the dialog waits for."""
    _enter(turn, turn.state.node)


def _enter(turn: Turn, name: str) -> None:
    """Walk from `name` to the next node that waits, or out of the dialog."""
    for _ in range(MAX_HOPS):
        node = turn.flow.nodes.get(name)
        if node is None:
            raise FlowError(f"the flow has no node {name!r}")
        if name != turn.state.node:
            turn.set(node=name, phase="", misses=0, slots=())
        match node:
            case Message():
                turn.say(turn.fill(node.text))
                name = node.next
            case Condition():
                name = node.then if _holds(turn, node.if_) else node.else_
            case AskContact() if node.skip_if_known and turn.phone is not None:
                turn.set(answers={**turn.state.answers, node.save_as: turn.phone})
                name = node.next
            case _:
                _stop_at(turn, name)
                return
    raise FlowError(f"more than {MAX_HOPS} nodes without a wait at {name!r}")


def _stop_at(turn: Turn, name: str) -> None:
    node = turn.flow.nodes[name]
    match node:
        case Menu():
            turn.say(turn.fill(node.text))
            turn.flush((*turn.menu_rows(name), *turn.person_row(), *turn.language_row()))
        case Ask():
            turn.say(turn.fill(node.text))
            skip = ((turn.button("button_skip", SKIP),),) if node.optional else ()
            turn.flush((*skip, *turn.person_row()))
        case AskContact():
            turn.say(turn.fill(node.text))
            turn.flush(callback_talk.contact_rows(turn, optional=node.optional))
        case BookCallback():
            callback_talk.enter(turn)
        case HandOff():
            turn.apply(node.set)
            turn.hand_off(node.reason, turn.fill(node.text) if node.text is not None else None, fields=node.fields)
        case End():
            turn.say(turn.fill(node.text))
            turn.end(node.outcome)


def _holds(turn: Turn, wanted: If) -> bool:
    kind = turn.facts.kind
    for action in turn.actions:
        if isinstance(action, Change) and action.kind is not None:
            kind = action.kind
    return (
        (wanted.open is None or wanted.open == turn.is_open())
        and (wanted.language is None or turn.state.language in wanted.language)
        and (wanted.channel is None or turn.facts.channel in wanted.channel)
        and (wanted.kind is None or wanted.kind == kind)
        and (wanted.phone_known is None or wanted.phone_known == (turn.phone is not None))
    )


# --- after people took over ---------------------------------------------------------------------------------------
def _late(turn: Turn, heard: Input) -> None:
    """Old buttons and the word for a callback; everything else is for people and is left alone."""
    if isinstance(heard, Said):
        if turn.flow.callback is not None and (heard.command in _CALLBACK_COMMANDS or wants_bot(turn.flow, heard.text)):
            _small_dialog(turn, turn.flow.callback)
        elif heard.command in _RESTART or heard.command in _PERSON_COMMANDS:
            turn.say(turn.phrase("person_already"))
            turn.flush(turn.callback_row())
        return
    if not isinstance(heard, Pressed):
        return
    value = heard.value
    target = parse_press(turn.flow, value)
    if value == PERSON:
        turn.say(turn.phrase("person_already"))
        turn.flush(turn.callback_row())
    elif value == CALLBACK and turn.flow.callback is not None:
        _small_dialog(turn, turn.flow.callback)
    elif (value == ASAP or value.startswith(SLOT_PREFIX)) and turn.flow.callback is not None:
        _small_dialog(turn, turn.flow.callback, press=heard)
    elif value.startswith(LANGUAGE_PREFIX) and value.removeprefix(LANGUAGE_PREFIX) in turn.flow.languages:
        _switch(turn, value.removeprefix(LANGUAGE_PREFIX))
    elif target is not None:
        choice = _choice(turn.flow, *target)
        if choice is None:
            return
        label = turn.fill(choice.label)
        turn.set(answers={**turn.state.answers, target[0]: choice.value})
        turn.apply(choice.set.model_copy(update={"fields": {**choice.set.fields, target[0]: choice.value}}),
                   topic=label, late=True)
        if isinstance(turn.flow.nodes[choice.next], BookCallback):
            _small_dialog(turn, choice.next)
        else:
            turn.say(turn.phrase("refined", label=label))


def _small_dialog(turn: Turn, node: str, press: Pressed | None = None) -> None:
    """Book a call beside the person who owns the inquiry."""
    turn.set(status="active", holds=False, node=node, phase="", misses=0, slots=(), booked=False)
    if press is not None and turn.phone is not None:
        _follow(turn, callback_talk.hear(turn, press))
    else:
        callback_talk.enter(turn)
