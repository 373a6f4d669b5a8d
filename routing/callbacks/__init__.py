"""Promises to call: booked, kept at their time, tried again by rule, never silently dropped.

`booking` makes, moves and cancels them; `attempts` dials and records what came of it; `sweep` watches the time;
`plan` is the pure part: whose clock counts, when it may ring, when to try again.
"""

from routing.callbacks.attempts import LISTENERS, ORIGINATE_JOB, dial, record_outcome
from routing.callbacks.booking import book, book_from_customer, cancel, reschedule
from routing.callbacks.plan import OUTCOMES
from routing.callbacks.sweep import sweep
from routing.callbacks.view import callback_view

__all__ = [
    "LISTENERS",
    "ORIGINATE_JOB",
    "OUTCOMES",
    "book",
    "book_from_customer",
    "callback_view",
    "cancel",
    "dial",
    "record_outcome",
    "reschedule",
    "sweep",
]
