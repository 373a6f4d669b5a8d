"""Going from node to node until one waits for the customer, or the dialog is over."""

from bots import callback_talk
from bots.flow import Ask, AskContact, BookCallback, Condition, End, HandOff, If, Menu, Message
from bots.turn import MAX_HOPS, SKIP, FlowError, Turn
from bots.turns import Change


def follow(turn: Turn, name: str | None) -> None:
    """Go on from a node that was answered; a small dialog beside a person has nowhere to go on to."""
    if name is None:
        return
    if turn.state.holds:
        enter(turn, name)
    else:
        turn.flush()
        turn.set(status="ended")


def prompt(turn: Turn) -> None:
    """Say again what the dialog waits for."""
    enter(turn, turn.state.node)


def enter(turn: Turn, name: str) -> None:
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
            turn.hand_off(
                node.reason, turn.fill(node.text) if node.text is not None else None, fields=node.fields
            )
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


def switch(turn: Turn, wanted: str) -> None:
    """Go on in another language, because the customer asked for it."""
    turn.set(language=wanted, pinned=True)
    turn.actions.append(Change(language=wanted))
