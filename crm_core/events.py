"""Domain events: facts in the past tense, written in the transaction that made them true.

The event table is the single log; the feed, automation, webhooks, audit and reports read it. Parts of the product
that must act inside the same transaction (SLA clocks, routing, bots) are listeners, registered in one table by the
composition root and called in that order.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crm_core.db.uow import UnitOfWork


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """Who may see an event on the feed: any of these. Supervisors and admins see everything that is not personal.

    `everyone` means all agents. `only_agents` makes it personal: nobody else, supervisors excepted.
    """

    teams: tuple[int, ...] = ()
    agents: tuple[int, ...] = ()
    everyone: bool = False

    def as_data(self) -> dict[str, Any]:
        return {"teams": list(self.teams), "agents": list(self.agents), "everyone": self.everyone}


SUPERVISORS = Audience()
EVERYONE = Audience(everyone=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainEvent:
    """`payload` is stored and shown; `context` carries live rows to listeners of the same transaction only."""

    kind: str
    subject_kind: str
    subject_id: int
    actor: str = "system"
    inquiry_id: int | None = None
    conversation_id: int | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)
    audience: Audience = SUPERVISORS
    context: Mapping[str, Any] = field(default_factory=dict)


Listener = Callable[["UnitOfWork", DomainEvent], Awaitable[None]]
Listeners = Mapping[str, Sequence[Listener]]
