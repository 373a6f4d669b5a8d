"""A ticket told in minutes: a small language for the tests of the SLA machine."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from crm_core.clock import HOUR, MINUTE, from_iso
from routing.business_time import Calendar
from routing.sla import (
    Author,
    Clock,
    Metric,
    Policy,
    Rulebook,
    SlaEvent,
    Status,
    Terms,
    TicketClocks,
    TicketEvent,
    apply,
    fire,
)
from routing.sla.ticket_events import (
    Created,
    MessageWritten,
    StatusChanged,
)

OFFICE = Calendar.from_spec(
    {
        "tz": "Europe/Kyiv",
        "week": {day: [["09:00", "18:00"]] for day in ("mon", "tue", "wed", "thu", "fri")},
    },
    id=1,
)
#: Monday 2 June 2025, 10:00 in Kyiv.
T0 = from_iso("2025-06-02T07:00:00Z")


def minutes(n: float) -> int:
    return T0 + round(n * MINUTE)


def policy(
    targets: dict[str, Any], *, number: int = 1, version: int = 1, priority: str = "*", **options: Any
) -> Policy:
    """`{"first_reply": 60}` or a full target; the same for every priority unless one is named."""
    bodies = {k: v if isinstance(v, dict) else {"minutes": v, "steps": []} for k, v in targets.items()}
    return Policy.parse(
        id=number,
        version=version,
        position=number,
        name=f"policy {number}",
        targets={priority: bodies},
        options=options,
    )


@dataclass
class Story:
    """Applies happenings at minutes after T0 and keeps the ledger."""

    policy: Policy | None = None
    calendars: Iterable[Calendar] = (OFFICE,)
    more_policies: Iterable[Policy] = ()
    terms: Terms = field(init=False)
    rules: Rulebook = field(init=False)
    state: TicketClocks = field(default_factory=TicketClocks)
    events: list[SlaEvent] = field(default_factory=list)
    follow_up: bool = False

    def __post_init__(self) -> None:
        policies = [one for one in (self.policy, *self.more_policies) if one is not None]
        self.rules = Rulebook(self.calendars, policies, default_calendar_id=1)
        self.terms = Terms(self.policy, "normal")

    def happens(self, event: TicketEvent) -> "Story":
        outcome = apply(self.state, event, self.terms, self.rules)
        assert {clock.key for clock in outcome.changed} <= {clock.key for clock in outcome.state.clocks}
        self.state, self.follow_up = outcome.state, outcome.follow_up
        self.events += outcome.events
        return self

    def created(self, at: float = 0, by: Author = Author.CUSTOMER, **kw: Any) -> "Story":
        return self.happens(Created(minutes(at), by, **kw))

    def customer(self, at: float, ref: str | None = None) -> "Story":
        return self.happens(MessageWritten(minutes(at), Author.CUSTOMER, ref=ref))

    def agent(self, at: float, ref: str | None = None, *, public: bool = True) -> "Story":
        return self.happens(MessageWritten(minutes(at), Author.AGENT, public, ref))

    def bot(self, at: float, ref: str | None = None) -> "Story":
        return self.happens(MessageWritten(minutes(at), Author.BOT, ref=ref))

    def status(self, at: float, to: str) -> "Story":
        return self.happens(StatusChanged(minutes(at), Status(to)))

    def sweep(self, at: float) -> list[SlaEvent]:
        """One visit of the sweeper: fires what is due, gives back what it told."""
        now, told, clocks = minutes(at), [], []
        for clock in self.state.clocks:
            one = clock
            if one.next_fire_at is not None and one.next_fire_at <= now:
                one, events = fire(one, now, self.rules)
                assert one.next_fire_at is None or one.next_fire_at > now
                told += events
            clocks.append(one)
        self.state = TicketClocks(self.state.facts, tuple(clocks))
        self.events += told
        return told

    def clock(self, metric: str, instance: int = 1) -> Clock:
        found = [clock for clock in self.state.of(Metric(metric)) if clock.instance == instance]
        assert found, f"no {metric} {instance}"
        return found[0]

    def instances(self, metric: str) -> list[str]:
        return [str(clock.state) for clock in self.state.of(Metric(metric))]

    def kinds(self, metric: str, instance: int = 1) -> list[str]:
        return [str(e.kind) for e in self.events if e.metric == metric and e.instance == instance]


__all__ = ["HOUR", "MINUTE", "OFFICE", "T0", "Story", "minutes", "policy"]
