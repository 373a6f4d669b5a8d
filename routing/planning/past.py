"""What planning knows about a request of the past, and the bounds of a question about it. Pure data.

Instants and durations are ms. A request is one entry of the queue: a work item of an inquiry or a callback, or an
inbound call; a reopened inquiry is a request again.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from crm_core.clock import DAY, to_iso
from crm_core.errors import Invalid
from routing.model import Requirements

#: nobody compares more than a quarter of a year, and nothing wants to read it at once
MAX_PERIOD_MS = 93 * DAY


class Outcome(StrEnum):
    HANDLED = "handled"  # somebody had it, whether he is done or not
    ABANDONED = "abandoned"  # the customer gave up in the queue
    WITHDRAWN = "withdrawn"  # taken out of the queue: solved, merged, closed, turned into a callback
    WAITING = "waiting"  # still there


@dataclass(frozen=True, slots=True)
class Period:
    """Half-open: `start` belongs to it, `end` does not."""

    start: int
    end: int

    @classmethod
    def checked(cls, start: int, end: int, *, longest_ms: int = MAX_PERIOD_MS) -> Self:
        """Raises Invalid `bad_period`."""
        if end <= start:
            raise Invalid("the period must end after it begins", code="bad_period")
        if end - start > longest_ms:
            raise Invalid(
                f"the period is longer than {longest_ms // DAY} days", code="bad_period",
                params={"days": longest_ms // DAY},
            )  # fmt: skip
        return cls(start, end)

    def recorded(self, now: int) -> Self:
        """As much of it as has been. Raises Invalid `bad_period` where that is nothing."""
        if self.start >= now:
            raise Invalid(
                "the period lies in the future; only what was recorded can be replayed", code="bad_period"
            )
        return type(self)(self.start, min(self.end, now))

    @property
    def length_ms(self) -> int:
        return self.end - self.start

    def as_data(self) -> dict[str, str]:
        return {"from": to_iso(self.start), "to": to_iso(self.end)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRequest:
    """One request as it was recorded.

    `ready_at`: when it entered the queue (a call: when it came in). `due_at`: its SLA deadline when somebody got
    it. `left_at`: when it was answered or left the queue, None while it waits. `handle_ms`: how long it held its
    agents' places, wrap-up included, without the time spent waiting for the customer, and in the team's working
    time for asynchronous channels; `held_ms`: the same by the clock on the wall. None while it is not known.
    `agent_id`: who got it first.
    """

    source: str  # inquiry | callback | call
    id: int  # of the work item, or of the call
    team_id: int | None
    channel: str
    kind: str
    priority: str = "normal"
    vip: bool = False
    requirements: Requirements = field(default_factory=Requirements)
    manager_id: int | None = None
    sticky_agent_id: int | None = None
    ready_at: int
    due_at: int | None = None
    outcome: Outcome
    left_at: int | None = None
    agent_id: int | None = None
    handle_ms: int | None = None
    held_ms: int | None = None
    reply_ms: int | None = None  # from getting it to the first reply, where the SLA knows it
    sla_breached: bool | None = None  # of its first reply, None where no clock was kept
    hands: int = 0  # how many agents had it one after the other

    @property
    def answered_at(self) -> int | None:
        return self.left_at if self.outcome == Outcome.HANDLED else None

    def wait_ms(self, until: int) -> int:
        """In the queue, up to `until` if it is still there."""
        return max((self.left_at if self.left_at is not None else until) - self.ready_at, 0)
