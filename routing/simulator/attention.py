"""Asynchronous work goes on only while live work leaves its agent the time (Scenario.attention "shared").

Channels that others may interrupt share what the agent's uninterruptible load leaves of his load_max, by weight; who
is not there does nothing. So an agent with ten emails who takes a call stops reading, and reads on afterwards.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from routing.model import ItemState, Presence
from routing.settings import TeamSettings
from routing.simulator.desks import Desk
from routing.simulator.live import Event, Live

if TYPE_CHECKING:
    from routing.simulator.engine import Engine


class Attention:
    def __init__(self, engine: "Engine", settings: Iterable[TeamSettings]) -> None:
        self._engine = engine
        self._shared = frozenset(
            c for s in settings for rules in s.channels.values() for c in rules.interrupts
        )

    def shares(self, live: Live) -> bool:
        """Whether it goes on only at the rate that its agent's live work leaves."""
        return live.item.channel in self._shared

    def changed(self, desk: Desk) -> None:
        """What he has in hand, or his presence, is another one: his shared work goes on at another rate."""
        shared = sum(desk.slots[c].load for c in self._shared)
        if shared <= 0:
            return
        room = max(desk.load_max - (desk.load_used - shared), 0)
        away = desk.presence in (Presence.OFFLINE, Presence.AWAY_REASSIGN)
        rate = 0.0 if away else min(1.0, room / shared)
        engine = self._engine
        for item_id in desk.items:
            live = engine.lives[item_id]
            if live.item.channel not in self._shared or live.item.state != ItemState.ASSIGNED:
                continue
            if live.rate == rate and live.paced:
                continue
            self.settle(live)
            live.rate = rate
            live.pace += 1
            live.paced = True
            if rate > 0:
                engine.at(engine.now + round(live.remaining / rate), Event.END, live, live.pace)

    def settle(self, live: Live) -> None:
        """Count what was done since the rate last changed."""
        now = self._engine.now
        live.remaining = max(0, live.remaining - round((now - live.rated_at) * live.rate))
        live.rated_at = now
