"""A contact while it is in the simulation, and the kinds of events that may concern it."""

from enum import IntEnum

from routing.machine import Holding
from routing.model import Channel, Item
from routing.simulator.desks import Lane
from routing.simulator.measure import QueueKey, QueueTally, Served
from routing.simulator.scenario import Arrival


class Event(IntEnum):
    ARRIVE = 0
    END = 1
    WRAP = 2
    ACCEPT = 3
    DECLINE = 4
    EXPIRE = 5
    ABANDON = 6
    STEP = 7
    WAKE = 8
    POLL = 9
    MOVE = 10
    BACK = 11
    LOST = 12
    CLOSE = 13


class Live:
    """One contact: the product's work item, where it waits, who has it, and what is counted of it.

    `held` is the live assignment, `offers` are the open ones by id, several in a `broadcast`. `remaining`: handling
    still to be done, ms; `rate`: how fast it is being done since `rated_at`. `reply_ms`: so long after being answered
    it is replied to, None at the end. `version` counts the item's changes, `pace` those of its end, so that what was
    due for an earlier one is known as such.
    """

    __slots__ = (
        "agent_id", "answered_at", "arrival", "breached", "broadcast", "counted", "entry", "held", "item",
        "key", "lanes", "offers", "pace", "paced", "queues", "rate", "rated_at", "remaining", "reply_ms",
        "tally", "turned_away", "version",
    )  # fmt: skip

    def __init__(self, item: Item, arrival: Arrival, tally: QueueTally, key: QueueKey, counted: bool) -> None:
        self.item = item
        self.arrival = arrival
        self.tally = tally
        self.key = key
        self.counted = counted
        self.held: Holding | None = None
        self.offers: dict[int, Holding] = {}
        self.broadcast = False
        self.lanes: tuple[Lane, ...] = ()
        self.entry = (0, 0)
        self.answered_at: int | None = None
        self.queues = False
        self.turned_away = False
        self.breached = False
        self.remaining = arrival.handle_ms
        self.rate = 1.0
        self.rated_at = arrival.at
        self.paced = False
        self.pace = 0
        self.version = 1
        self.agent_id: int | None = None
        self.reply_ms = arrival.reply_ms
        if self.reply_ms is None and arrival.channel != Channel.ASYNC:
            self.reply_ms = 0

    def story(self, ended_at: int | None) -> Served:
        """Its line in the trace."""
        arrival = self.arrival
        return Served(
            ref=arrival.ref, team_id=arrival.team_id, channel=arrival.channel, label=arrival.label,
            priority=arrival.priority, at=arrival.at, answered_at=self.answered_at, ended_at=ended_at,
            agent_id=self.agent_id,
            outcome="unfinished" if ended_at is None else "turned_away" if self.turned_away
            else "abandoned" if self.answered_at is None else "handled",
            breached=self.breached,
        )  # fmt: skip
