"""SLA clocks: what customers are promised, measured exactly. Names others may use."""

from routing.sla.clock import (
    Clock,
    ClockState,
    EventKind,
    Metric,
    SlaEvent,
    Status,
    TicketClocks,
    TicketFacts,
)
from routing.sla.errors import SlaConfigError, UnknownRuleError
from routing.sla.machine import Outcome, apply, replay
from routing.sla.policy import Policy, Rulebook, Target, Terms, fields_watched, select_policy
from routing.sla.ticket_events import (
    Author,
    TicketEvent,
)
from routing.sla.timing import elapsed_ms, fire, paused_total_ms, recalendar, retarget

__all__ = [
    "Author",
    "Clock",
    "ClockState",
    "EventKind",
    "Metric",
    "Outcome",
    "Policy",
    "Rulebook",
    "SlaConfigError",
    "SlaEvent",
    "Status",
    "Target",
    "Terms",
    "TicketClocks",
    "TicketEvent",
    "TicketFacts",
    "UnknownRuleError",
    "apply",
    "elapsed_ms",
    "fields_watched",
    "fire",
    "paused_total_ms",
    "recalendar",
    "replay",
    "retarget",
    "select_policy",
]
