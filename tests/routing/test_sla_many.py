"""Ten thousand random tickets in random orders of events: written row by row and swept at random, or rebuilt from the
history in one go, their clocks and ledgers are the same, and every ledger adds up to its clock.

Plain dice instead of hypothesis: this is for the number of tickets; finding small examples is done by the tests beside
it. `SLA_TICKETS` and `SLA_SEED` make it larger or another one.
"""

import os
import random
from dataclasses import replace

from crm_core.clock import DAY, HOUR, MINUTE
from routing.business_time import Calendar
from routing.sla import (
    Author,
    Clock,
    Rulebook,
    Status,
    Terms,
    TicketClocks,
    TicketFacts,
    apply,
    elapsed_ms,
    fire,
)
from routing.sla.clock import ClockState, EventKind, SlaEvent
from routing.sla.ledger_cut import cut, prove
from routing.sla.ticket_events import (
    Abandoned,
    CalendarEdited,
    Connected,
    Created,
    Discarded,
    Enqueued,
    MergedAway,
    MergeReceived,
    MessageWritten,
    PauseSet,
    ReplyHidden,
    SendFailed,
    SplitAway,
    StatusChanged,
    TermsChanged,
    TicketEvent,
)
from tests.routing.sla_story import OFFICE, T0, policy

TICKETS = int(os.environ.get("SLA_TICKETS", "10000"))
SEED = int(os.environ.get("SLA_SEED", "1"))
ALL = {
    "first_reply": {"minutes": 30}, "next_reply": {"minutes": 45}, "requester_wait": {"minutes": 300},
    "agent_work": {"minutes": 60}, "periodic_update": {"minutes": 20}, "speed_of_answer": {"seconds": 90, "business": False},
}  # fmt: skip
POLICIES = [
    policy(ALL, number=1),
    policy({**ALL, "total_resolution": {"minutes": 200, "business": False}}, number=2, calendar_id=2),
    policy(
        {"first_reply": {"minutes": 10, "business": False}, "pausable_update": {"minutes": 30}},
        number=3,
        pause_statuses={"first_reply": ["pending"]},
        bot_counts=["first_reply"],
        note_counts=["next_reply"],
        forgive_on_retarget=True,
    ),
]
NIGHT = Calendar.from_spec(
    {"tz": "Europe/Kyiv", "week": {d: [["22:00", "06:00"]] for d in ("mon", "tue", "wed", "thu", "fri")}},
    id=2,
)
LATER = Calendar.from_spec(
    {
        "tz": "Europe/Kyiv",
        "week": {d: [["10:00", "13:00"], ["14:00", "20:00"]] for d in ("mon", "tue", "sat")},
    },
    id=1,
    version=2,
)
BEFORE = Rulebook([OFFICE, NIGHT], POLICIES, default_calendar_id=1)
AFTER = Rulebook([OFFICE, LATER, NIGHT], POLICIES, default_calendar_id=1)
Step = tuple[TicketEvent, Terms, Rulebook]


def life(dice: random.Random) -> list[Step]:
    """One ticket's history."""
    at, rules, terms = T0, BEFORE, Terms(dice.choice([*POLICIES, None]), "normal")
    by = dice.choice([Author.CUSTOMER] * 4 + [Author.AGENT, Author.BOT])
    steps: list[Step] = [(Created(at, by, by is not Author.BOT, ref="m0"), terms, rules)]
    for n in range(1, dice.randint(2, 14)):
        at += dice.choice([0, 0, 1, 7 * MINUTE, 40 * MINUTE, 3 * HOUR, DAY, 3 * DAY])
        # What a telephone exchange tells late happened earlier.
        told = at - dice.choice([0] * 9 + [dice.randint(0, HOUR)])
        event = _happening(dice, n, at, told, f"m{dice.randrange(n)}")
        if isinstance(event, TermsChanged):
            terms = Terms(dice.choice([*POLICIES, None]), "normal")
        elif isinstance(event, CalendarEdited):
            rules = AFTER
        steps.append((event, terms, rules))
    return steps


def _happening(dice: random.Random, n: int, at: int, told: int, old: str) -> TicketEvent:
    kinds = [
        "customer",
        "agent",
        "bot",
        "status",
        "failed",
        "pause",
        "terms",
        "hours",
        "merge",
        "split",
        "hidden",
        "queue",
        "end",
    ]
    status = Status(dice.choice(["open", "pending", "hold", "solved", "closed"]))
    match dice.choices(kinds, [20, 18, 4, 16, 5, 6, 5, 3, 3, 3, 2, 6, 1])[0]:
        case "customer":
            return MessageWritten(told, Author.CUSTOMER, ref=f"m{n}")
        case "agent":
            return MessageWritten(told, Author.AGENT, dice.random() < 0.8, f"m{n}")
        case "bot":
            return MessageWritten(at, Author.BOT, ref=f"m{n}")
        case "status":
            return StatusChanged(at, status)
        case "failed":
            return SendFailed(at, old)
        case "pause":
            return PauseSet(
                at, dice.choice(["snooze", "waiting_for_customer", "callback"]), dice.random() < 0.6
            )
        case "terms":
            return TermsChanged(at, by="agent:1")
        case "hours":
            return CalendarEdited(at)
        case "merge":
            return MergeReceived(at, dice.choice([None, at - dice.randint(0, DAY)]))
        case "split":
            return SplitAway(at, old, dice.choice([None, at - dice.randint(0, HOUR)]))
        case "hidden":
            return ReplyHidden(at, old)
        case "queue":
            return dice.choice([Enqueued(at), Connected(at), Abandoned(at)])
        case _:
            spam = Discarded(at, "spam", dice.choice([Status.SOLVED, Status.CLOSED]))
            return dice.choice([MergedAway(at), spam])


def through_rows(state: TicketClocks) -> TicketClocks:
    return TicketClocks(
        TicketFacts.from_data(state.facts.to_data()), tuple(Clock.from_row(c.to_row()) for c in state.clocks)
    )


def sweep(state: TicketClocks, now: int, rules: Rulebook, told: list[SlaEvent]) -> TicketClocks:
    clocks = []
    for clock in state.clocks:
        if clock.next_fire_at is not None and clock.next_fire_at <= now:
            fired, events = fire(clock, now, rules)
            told += events
            clocks.append(fired)
        else:
            clocks.append(clock)
    return TicketClocks(state.facts, tuple(clocks))


def bare(state: TicketClocks) -> list[Clock]:
    """Without what the sweeper writes to remember what it has told."""
    return [replace(clock, fired_steps=(), step=0, next_fire_at=None) for clock in state.clocks]


def test_ten_thousand_tickets_are_the_same_rebuilt() -> None:
    dice = random.Random(SEED)
    for number in range(TICKETS):
        steps = life(dice)
        written: list[SlaEvent] = []
        now = T0
        live = rebuilt = TicketClocks()
        for event, terms, rules in steps:
            now = max(now, event.at)
            if dice.random() < 0.3:
                live = sweep(live, now, rules, written)
            done = apply(through_rows(live), event, terms, rules)
            live = done.state
            written += done.events
            rebuilt = apply(rebuilt, event, terms, rules).state
        end, last = now + 10 * DAY, steps[-1][2]
        live, rebuilt = sweep(live, end, last, written), sweep(rebuilt, end, last, [])
        assert live.facts == rebuilt.facts, (number, steps)
        assert bare(live) == bare(rebuilt), (number, steps)
        fired = [(e.metric, e.instance, e.step_key) for e in written if e.step_key is not None]
        assert len(fired) == len(set(fired)), (number, steps)
        check_ledgers(live, written, end, last, number)


def check_ledgers(
    state: TicketClocks, written: list[SlaEvent], end: int, rules: Rulebook, number: int
) -> None:
    for clock in state.clocks:
        entries = [
            {"kind": str(e.kind), "at": e.at, "cause": e.cause, "data": e.data or {}}
            for e in written
            if (e.metric, e.instance) == clock.key
        ]
        engine = elapsed_ms(clock, end, rules)
        pieces = cut(entries, clock, rules.calendar, end)
        assert prove(pieces, entries, clock, engine, rules.calendar).agrees, (number, clock, pieces)
        ended = [e for e in entries if e["kind"] in (EventKind.FULFIL, EventKind.CANCEL)]
        if clock.state is ClockState.FULFILLED:
            assert ended[-1]["at"] == clock.fulfilled_at, number
            assert ended[-1]["data"]["elapsed_ms"] == clock.consumed_ms, number
