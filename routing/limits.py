"""How much an agent may have at once: his own settings, else his teams', else the defaults. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from routing.model import Channel
from routing.settings import DEFAULT_CHANNELS, DEFAULTS, TeamSettings


def limits_of(settings: Any, teams: Sequence[TeamSettings]) -> tuple[dict[str, int], int]:
    """Maxima by channel and of the load. With several teams the most generous counts.

    `settings`: agent.settings, of which `capacity` {"chat": 2, "load_max": 80} is read.
    """
    own = settings.get("capacity") if isinstance(settings, Mapping) else None
    own = own if isinstance(own, Mapping) else {}
    limits = {
        str(channel): max(
            (t.channel(channel).maximum for t in teams), default=DEFAULT_CHANNELS[channel].maximum
        )
        for channel in Channel
    }
    limits |= {k: v for k, v in own.items() if k in limits and isinstance(v, int) and v >= 0}
    load_max = max((t.load_max for t in teams), default=DEFAULTS.load_max)
    wanted = own.get("load_max")
    return limits, wanted if isinstance(wanted, int) and wanted > 0 else load_max
