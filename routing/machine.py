"""The life of a work item: what each event makes of it, and what has to be done then. Pure.

    parked -> waiting -> offered -> assigned -> wrapup -> done
    waiting | offered -> cancelled | abandoned;  offered -> waiting (declined, expired, revoked)
    assigned -> waiting (released, transferred, agent lost)

`react(item, event, settings, now)` returns the new item and the actions; `routing.apply` carries them out
in one transaction, a simulator in memory. Capacity for an agent who gets something is taken by
compare-and-set *before* the event is fed in, because that is the one thing that can fail.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from routing.model import Item, ItemState, evolve
from routing.settings import TeamSettings
from routing.steps import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """Capacity held for the item: an open offer (`assignment` False) or the live assignment, since `started_at`."""

    id: int
    agent_id: int
    channel: str
    weight: int
    assignment: bool
    holds_slot: bool = True
    started_at: int | None = None


# --- events
# ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """Capacity of `agent_id` is held; it is his until the offer ends."""

    agent_id: int
    step: Step
    entered_at: int
    weight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Broadcast:
    """Capacity of each of `agents` is held; it is his who accepts first."""

    agents: Sequence[int]
    step: Step
    entered_at: int
    weight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Assigned:
    """Capacity is held; it is his at once. `cause`: outright, take, transfer, returned, preassigned.

    `moves_idle`: he is the last in line again.
    """

    agent_id: int
    weight: int
    cause: str
    forced: bool = False
    step: Step | None = None
    entered_at: int | None = None
    moves_idle: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    step: Step
    entered_at: int
    next_step_at: int | None
    closes_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    until: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    offer: Holding
    others: Sequence[Holding] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """An offer ended without success: declined, expired or revoked.

    `broadcast`: it was one of several; `others` of them are still open, and the item stays offered.
    """

    offer: Holding
    how: str
    reason: str | None = None
    broadcast: bool = False
    others: Sequence[Holding] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Requeued:
    """It goes back to the queue with its original key. `exclude`: who shall not get it straight back."""

    held: Sequence[Holding]
    cause: str
    exclude: int | None = None
    team_id: int | None = None
    directed_to: int | None = None
    return_to: int | None = None
    sticky: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The work is over: solved, closed, ended, cancelled, abandoned, merged."""

    held: Sequence[Holding]
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WrapupOver:
    held: Sequence[Holding]


Event = Offered | Broadcast | Assigned | Waits | Parked | Accepted | Refused | Requeued | Ended | WrapupOver


# --- actions
# --------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOffer:
    """`kind`: one, directed (a transfer), broadcast (one of several; the first accept wins)."""

    agent_id: int
    weight: int
    expires_at: int
    kind: str = "one"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndOffer:
    offer: Holding
    state: str
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartAssignment:
    agent_id: int
    weight: int
    cause: str
    forced: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EndAssignment:
    held: Holding
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Give capacity back."""

    held: Holding


@dataclass(frozen=True, slots=True, kw_only=True)
class EnterLanes:
    step: Step


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveLanes:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    agent_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """He got something: he is the last in line again, and his misses are forgotten."""

    agent_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WrapUp:
    agent_id: int
    until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Disown:
    """Nobody is responsible for the inquiry any more."""

    agent_id: int
    cause: str


Action = (
    OpenOffer
    | EndOffer
    | StartAssignment
    | EndAssignment
    | Release
    | EnterLanes
    | LeaveLanes
    | Missed
    | Served
    | WrapUp
    | Disown
)


@dataclass(frozen=True, slots=True)
class Change:
    item: Item
    actions: tuple[Action, ...] = ()


class WrongStateError(Exception):
    """The event does not fit the item's state: a defect of the caller."""

    def __init__(self, item: Item, event: object) -> None:
        super().__init__(f"work item {item.id} is {item.state}, got {type(event).__name__}")


def react(item: Item, event: Event, settings: TeamSettings, now: int) -> Change:
    """What `event` makes of the item. Raises WrongStateError."""
    _check(item, event)
    match event:
        case Offered():
            return _offered(item, event, settings, now)
        case Broadcast():
            return _broadcast(item, event, settings, now)
        case Assigned():
            return _assigned(item, event, settings, now)
        case Waits():
            return _waits(item, event)
        case Parked():
            parked = evolve(
                item,
                state=ItemState.PARKED,
                parked_reason=event.reason,
                wake_at=event.until,
                next_step_at=None,
            )
            return Change(parked, (LeaveLanes(),))
        case Accepted():
            return _accepted(item, event, settings, now)
        case Refused():
            return _refused(item, event, settings, now)
        case Requeued():
            return _requeued(item, event, settings, now)
        case Ended():
            return _ended(item, event, settings, now)
        case WrapupOver():
            actions = tuple(a for h in event.held for a in _let_go(h, "done"))
            done = evolve(item, state=ItemState.DONE, wake_at=None, owner_id=None, ended_at=now)
            return Change(done, actions)
        case _:
            assert_never(event)


_FITS: dict[type, tuple[str, ...]] = {
    Offered: (ItemState.WAITING, ItemState.PARKED, ItemState.OFFERED),
    Broadcast: (ItemState.WAITING, ItemState.PARKED),
    Assigned: (ItemState.WAITING, ItemState.PARKED),
    Waits: (ItemState.WAITING, ItemState.PARKED),
    Parked: (ItemState.WAITING, ItemState.PARKED),
    Accepted: (ItemState.OFFERED,),
    Refused: (ItemState.OFFERED,),
    Requeued: (ItemState.WAITING, ItemState.PARKED, ItemState.OFFERED, ItemState.ASSIGNED),
    Ended: (ItemState.WAITING, ItemState.PARKED, ItemState.OFFERED, ItemState.ASSIGNED, ItemState.WRAPUP),
    WrapupOver: (ItemState.WRAPUP,),
}


def _check(item: Item, event: Event) -> None:
    if item.state not in _FITS[type(event)]:
        raise WrongStateError(item, event)


def _offered(item: Item, event: Offered, settings: TeamSettings, now: int) -> Change:
    timeout = settings.channel(item.channel).timeout_ms
    after = evolve(
        item, state=ItemState.OFFERED, step_no=event.step.no, step_entered_at=event.entered_at,
        next_step_at=None, wake_at=None, parked_reason=None,
    )  # fmt: skip
    kind = "one" if item.directed_agent_id is None else "directed"
    opened = OpenOffer(agent_id=event.agent_id, weight=event.weight, expires_at=now + timeout, kind=kind)
    return Change(after, (LeaveLanes(), opened))


def _broadcast(item: Item, event: Broadcast, settings: TeamSettings, now: int) -> Change:
    after = evolve(
        item, state=ItemState.OFFERED, step_no=event.step.no, step_entered_at=event.entered_at,
        next_step_at=None, wake_at=None, parked_reason=None,
    )  # fmt: skip
    until = now + settings.broadcast.timeout_ms
    opened = (
        OpenOffer(agent_id=a, weight=event.weight, expires_at=until, kind="broadcast") for a in event.agents
    )
    return Change(after, (LeaveLanes(), *opened))


def _assigned(item: Item, event: Assigned, settings: TeamSettings, now: int) -> Change:
    after = evolve(
        item,
        state=ItemState.ASSIGNED,
        owner_id=event.agent_id,
        next_step_at=None,
        wake_at=_silence(item, settings, now),
        parked_reason=None,
        directed_agent_id=None,
        return_agent_id=None,
        broadcast_asked=False,
        step_no=event.step.no if event.step else item.step_no,
        step_entered_at=event.entered_at if event.entered_at is not None else item.step_entered_at,
    )
    start = StartAssignment(
        agent_id=event.agent_id, weight=event.weight, cause=event.cause, forced=event.forced
    )
    served = (Served(agent_id=event.agent_id),) if event.moves_idle else ()
    return Change(after, (LeaveLanes(), start, *served))


def _silence(item: Item, settings: TeamSettings, now: int) -> int | None:
    """When to look whether an assigned item fell silent."""
    inactive = settings.channel(item.channel).inactive_ms
    return None if inactive is None else now + inactive


def _waits(item: Item, event: Waits) -> Change:
    same = item.state == ItemState.WAITING and item.step_no == event.step.no
    after = evolve(
        item, state=ItemState.WAITING, step_no=event.step.no, step_entered_at=event.entered_at,
        next_step_at=event.next_step_at, wake_at=event.closes_at, parked_reason=None,
    )  # fmt: skip
    # Entering is idempotent; an item that stays in its step keeps its entries unless the plan itself changed.
    actions: tuple[Action, ...] = (EnterLanes(step=event.step),)
    return Change(after, actions if same else (LeaveLanes(), *actions))


def _accepted(item: Item, event: Accepted, settings: TeamSettings, now: int) -> Change:
    mine = event.offer
    after = evolve(
        item, state=ItemState.ASSIGNED, owner_id=mine.agent_id, directed_agent_id=None, return_agent_id=None,
        next_step_at=None, wake_at=_silence(item, settings, now), broadcast_asked=False,
    )  # fmt: skip
    actions: list[Action] = [EndOffer(offer=mine, state="accepted")]
    for other in event.others:
        actions += [EndOffer(offer=other, state="revoked", reason="taken"), Release(held=other)]
    cause = "transfer" if item.directed_agent_id is not None else "offer"
    actions.append(StartAssignment(agent_id=mine.agent_id, weight=mine.weight, cause=cause, forced=False))
    actions.append(Served(agent_id=mine.agent_id))
    return Change(after, tuple(actions))


def _refused(item: Item, event: Refused, settings: TeamSettings, now: int) -> Change:
    mine = event.offer
    actions: list[Action] = [
        EndOffer(offer=mine, state=event.how, reason=event.reason),
        Release(held=mine),
    ]
    if event.how == "expired":
        actions.append(Missed(agent_id=mine.agent_id))
    own_fault = event.how in ("declined", "expired")
    excluded = {k: v for k, v in item.excluded.items() if v > now}
    # Who let one of several offers pass may be asked again with all the others; who said no is not.
    if event.how == "declined" or (event.how == "expired" and not event.broadcast):
        excluded[mine.agent_id] = now + settings.exclude_ms
    if event.others:
        return Change(evolve(item, excluded=excluded), tuple(actions))
    rounds = item.rounds + (1 if own_fault else 0)
    spent = own_fault and rounds % settings.rounds_per_step == 0
    after = evolve(
        item, state=ItemState.WAITING, excluded=excluded, rounds=rounds,
        broadcasts=item.broadcasts + (1 if event.broadcast else 0),
        step_no=item.step_no + 1 if spent else item.step_no,
        step_entered_at=now if spent else item.step_entered_at,
        # A transfer that was not taken goes back to its sender (the caller's next event); without one, to
        # all.
        directed_agent_id=item.directed_agent_id if item.return_agent_id is not None else None,
    )  # fmt: skip
    return Change(after, tuple(actions))


def _requeued(item: Item, event: Requeued, settings: TeamSettings, now: int) -> Change:
    actions = [a for h in event.held for a in _let_go(h, event.cause)]
    if item.owner_id is not None and event.directed_to is None:
        actions.append(Disown(agent_id=item.owner_id, cause=event.cause))
    if item.state in (ItemState.WAITING, ItemState.PARKED):
        actions.append(LeaveLanes())
    elsewhere = event.team_id is not None and event.team_id != item.team_id
    # Another team is another question: only who sends it there is left out.
    excluded = {} if elsewhere else {k: v for k, v in item.excluded.items() if v > now}
    if event.exclude is not None:
        excluded[event.exclude] = now + settings.exclude_ms
    team_id = event.team_id if event.team_id is not None else item.team_id
    seen = item.teams_seen if team_id is None or team_id in item.teams_seen else (*item.teams_seen, team_id)
    away = {event.exclude, event.return_to} - {None}
    after = evolve(
        item, state=ItemState.WAITING, owner_id=None, excluded=excluded, team_id=team_id, teams_seen=seen,
        step_no=0, step_entered_at=now, next_step_at=None, wake_at=None, parked_reason=None, broadcasts=0,
        added_teams=() if elsewhere else item.added_teams,
        manager_id=None if item.manager_id in away else item.manager_id,
        sticky_agent_id=event.sticky if event.sticky is not None
        else (None if item.sticky_agent_id in away else item.sticky_agent_id),
        directed_agent_id=event.directed_to, return_agent_id=event.return_to,
    )  # fmt: skip
    return Change(after, tuple(actions))


def _ended(item: Item, event: Ended, settings: TeamSettings, now: int) -> Change:
    wrapup = settings.channel(item.channel).wrapup_ms
    if item.state == ItemState.WRAPUP:
        return Change(item)
    if item.state == ItemState.ASSIGNED and wrapup > 0 and item.owner_id is not None:
        resting = evolve(item, state=ItemState.WRAPUP, wake_at=now + wrapup, next_step_at=None)
        return Change(resting, (WrapUp(agent_id=item.owner_id, until=now + wrapup),))
    actions: list[Action] = [a for h in event.held for a in _let_go(h, event.cause)]
    if item.state in (ItemState.WAITING, ItemState.PARKED):
        actions.append(LeaveLanes())
    if item.state == ItemState.ASSIGNED:
        state = ItemState.DONE
    else:
        state = ItemState.ABANDONED if event.cause == "abandoned" else ItemState.CANCELLED
    over = evolve(item, state=state, owner_id=None, next_step_at=None, wake_at=None, ended_at=now)
    return Change(over, tuple(actions))


def _let_go(held: Holding, cause: str) -> tuple[Action, ...]:
    if held.assignment:
        ended = EndAssignment(held=held, cause=cause)
        return (ended, Release(held=held)) if held.holds_slot else (ended,)
    return (EndOffer(offer=held, state="revoked", reason=cause), Release(held=held))
