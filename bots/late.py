"""What a bot still does after people took over: old buttons, and the word for a callback.

Everything else that customers write is for people and is left alone.
"""

from bots import callback_talk
from bots.flow import BookCallback
from bots.intent import CALLBACK_COMMANDS, PERSON_COMMANDS, RESTART, choice_of, wants_bot
from bots.turn import ASAP, CALLBACK, LANGUAGE_PREFIX, PERSON, SLOT_PREFIX, Turn, parse_press
from bots.turns import Input, Pressed, Said
from bots.walk import follow, switch


def hear(turn: Turn, heard: Input) -> None:
    """Old buttons and the word for a callback; everything else is for people and is left alone."""
    if isinstance(heard, Said):
        if turn.flow.callback is not None and (
            heard.command in CALLBACK_COMMANDS or wants_bot(turn.flow, heard.text)
        ):
            _small_dialog(turn, turn.flow.callback)
        elif heard.command in RESTART or heard.command in PERSON_COMMANDS:
            turn.say(turn.phrase("person_already"))
            turn.flush(turn.callback_row())
            turn.tell_wait(offer=False)
        return
    if not isinstance(heard, Pressed):
        return
    value = heard.value
    target = parse_press(turn.flow, value)
    if value == PERSON:
        turn.say(turn.phrase("person_already"))
        turn.flush(turn.callback_row())
        turn.tell_wait(offer=False)
    elif value == CALLBACK and turn.flow.callback is not None:
        _small_dialog(turn, turn.flow.callback)
    elif (value == ASAP or value.startswith(SLOT_PREFIX)) and turn.flow.callback is not None:
        _small_dialog(turn, turn.flow.callback, press=heard)
    elif value.startswith(LANGUAGE_PREFIX) and value.removeprefix(LANGUAGE_PREFIX) in turn.flow.languages:
        switch(turn, value.removeprefix(LANGUAGE_PREFIX))
    elif target is not None:
        choice = choice_of(turn.flow, *target)
        if choice is None:
            return
        label = turn.fill(choice.label)
        turn.set(answers={**turn.state.answers, target[0]: choice.value})
        turn.apply(
            choice.set.model_copy(update={"fields": {**choice.set.fields, target[0]: choice.value}}),
            topic=label,
            late=True,
        )
        if isinstance(turn.flow.nodes[choice.next], BookCallback):
            _small_dialog(turn, choice.next)
        else:
            turn.say(turn.phrase("refined", label=label))


def _small_dialog(turn: Turn, node: str, press: Pressed | None = None) -> None:
    """Book a call beside the person who owns the inquiry."""
    turn.set(status="active", holds=False, node=node, phase="", misses=0, slots=(), booked=False)
    if press is not None and turn.phone is not None:
        follow(turn, callback_talk.hear(turn, press))
    else:
        callback_talk.enter(turn)
