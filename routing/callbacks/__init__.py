"""Promises to call: booked, kept at their time, tried again by rule, never silently dropped.

`booking` makes, moves and cancels them; `hold` keeps a place in the queue; `slots` is what may still be promised;
`chain` is whom to ask; `attempts` dials, `outcomes` records what came of it, `ending` ends them; `inbound` is what the
customer's own word does to them; `sweep` watches the time; `report` counts; `check` proves that none is dropped.
Pure: `plan` (whose clock counts, when it may ring, when to try again), `settings`, `countries`.
"""

from crm_core.events import Listeners
from routing.callbacks import assigned, inbound, notify, outcomes
from routing.callbacks.attempts import CONNECT_JOB, ORIGINATE_JOB, dial
from routing.callbacks.booking import book, book_from_customer, cancel, reschedule
from routing.callbacks.hold import snooze, take_place_of_call, take_place_of_request
from routing.callbacks.inbound import resume
from routing.callbacks.notify import declare
from routing.callbacks.outcomes import fall_back, not_connected, record_outcome
from routing.callbacks.plan import OUTCOMES
from routing.callbacks.sweep import sweep
from routing.callbacks.view import callback_view

LISTENERS: Listeners = {
    "call.updated": (outcomes.on_call, inbound.on_call),
    "call.requested": (inbound.on_requested,),
    "item.assigned": (assigned.on_assigned, inbound.on_assigned_call),
    "message.added": (inbound.on_message,),
    "contact.merged": (inbound.on_merged,),
    **notify.LISTENERS,
}

__all__ = [
    "CONNECT_JOB",
    "LISTENERS",
    "ORIGINATE_JOB",
    "OUTCOMES",
    "book",
    "book_from_customer",
    "callback_view",
    "cancel",
    "declare",
    "dial",
    "fall_back",
    "not_connected",
    "record_outcome",
    "reschedule",
    "resume",
    "snooze",
    "sweep",
    "take_place_of_call",
    "take_place_of_request",
]
