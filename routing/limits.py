"""How much an agent may have at once: his own settings, else his teams', else the defaults. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from routing.model import Channel
from routing.settings import DEFAULT_CHANNELS, DEFAULTS, TeamSettings


def limits_of(settings: Any, teams: Sequence[TeamSettings]) -> tuple[dict[str, int], int]:
    """Maxima by channel and of the load. With several teams the most generous counts.

    `settings`: agent.settings, of which `capacity` {"chat": 2, "load_max": 80} is read.
    """
    own = own_limits(settings)
    limits = {
        str(channel): max(
            (t.channel(channel).maximum for t in teams), default=DEFAULT_CHANNELS[channel].maximum
        )
        for channel in Channel
    }
    limits |= {k: v for k, v in own.items() if k in limits}
    return limits, own.get("load_max") or max((t.load_max for t in teams), default=DEFAULTS.load_max)


def own_limits(settings: Any) -> dict[str, int]:
    """What of agent.settings.capacity counts: {"chat": 2, "load_max": 80}; anything else in it does not."""
    own = settings.get("capacity") if isinstance(settings, Mapping) else None
    if not isinstance(own, Mapping):
        return {}
    lowest = {**{c.value: 0 for c in Channel}, "load_max": 1}
    return {
        k: v
        for k, v in own.items()
        if k in lowest and isinstance(v, int) and not isinstance(v, bool) and v >= lowest[k]
    }
