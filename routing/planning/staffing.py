"""How many people a load needs, by the queueing formulas of `routing.erlang`. Pure.

A place is what one contact takes: an agent has one for calls and several for chats and asynchronous work. The
formulas count places; agents are places divided by how many of them one agent has at once.
"""

from dataclasses import dataclass
from functools import lru_cache

from crm_core.errors import Invalid
from routing import erlang
from routing.model import Channel
from routing.reporting import scheduled_staff
from routing.settings import TeamSettings

#: contacts in hand at once beyond this are no contact centre but a mistake in the data
MAX_ERLANGS = 20_000.0
#: the service level's variant that is planned for, as reports name it
VARIANT = "abandons_ignored"


@dataclass(frozen=True, slots=True)
class Target:
    """`share` (0..1) of the contacts answered within `within_ms`."""

    share: float
    within_ms: int

    @property
    def text(self) -> str:
        return f"{self.share * 100:g}/{self.within_ms / 1000:g}"


def parse_target(text: str) -> Target:
    """`80/20`: 80 % within 20 seconds. Raises Invalid `bad_target`."""
    left, slash, right = text.partition("/")
    try:
        share, within = float(left) / 100, float(right)
    except ValueError:
        share = within = -1.0
    if not slash or not 0 < share < 1 or not 0 <= within <= 86_400:
        raise Invalid(
            f"{text[:40]!r} is no target; write percent/seconds such as 80/20, percent above 0 and below 100",
            code="bad_target",
        )
    return Target(share, round(within * 1000))


def target_of(channel: str, target: Target, settings: TeamSettings) -> Target:
    """Calls and chats have to meet `target`; callbacks and asynchronous work the same share of their own longest
    wait.
    """
    if channel in (Channel.VOICE, Channel.CHAT):
        return target
    return Target(target.share, settings.channel(channel).max_wait_ms)


def places_per_agent(channel: str, settings: TeamSettings) -> int:
    """How many contacts of a channel one agent has at once, by the limits of the team."""
    rules = settings.channel(channel)
    by_load = settings.load_max // rules.weight if rules.weight else rules.maximum
    return max(min(rules.maximum, by_load), 1)


@dataclass(frozen=True, slots=True)
class Need:
    """`erlangs`: contacts in hand on average. `agents`: people, not rounded where one has several places.

    `formula`: A with patience, C without, none when nothing comes.
    """

    channel: str
    arrivals: float
    erlangs: float
    places: int
    agents: float
    formula: str
    service_level: float | None


def need(
    channel: str, arrivals: float, length_ms: int, *, aht_ms: int, patience_ms: int | None, per_agent: int,
    target: Target,
) -> Need:  # fmt: skip
    """What `arrivals` in an interval of `length_ms` ask for.

    Raises:
        Invalid: `too_much_load`.
    """
    per_hour = arrivals * 3_600_000 / length_ms
    load = per_hour / 3600 * aht_ms / 1000
    if load > MAX_ERLANGS:
        raise Invalid(
            f"{load:.0f} contacts of {channel} in hand at once is beyond what is planned for",
            code="too_much_load", params={"channel": channel},
        )  # fmt: skip
    if arrivals <= 1e-9:
        return Need(channel, arrivals, 0.0, 0, 0.0, "none", None)
    # Rounded so that the same loads are computed once: far finer than any forecast is.
    key = (round(per_hour, 3), aht_ms / 1000, target.within_ms / 1000, target.share)
    if patience_ms is None:
        places, level = _by_c(*key)
    else:
        places, level = _by_a(*key, patience_ms / 1000)
    return Need(
        channel, arrivals, load, places, places / per_agent, "C" if patience_ms is None else "A", level
    )


def together(needs: list[Need]) -> int:
    """People for all channels of a team: whole ones, rounded once, because one agent serves several channels."""
    return -int(-(sum(n.agents for n in needs) - 1e-9) // 1)


def to_schedule(needed: int, shrinkage: float) -> int:
    """People to plan so that `needed` are at work: breaks, meetings and illness take `shrinkage` (0..1) of them."""
    return scheduled_staff(needed, shrinkage)


@lru_cache(maxsize=4096)
def _by_c(per_hour: float, aht_s: float, within_s: float, share: float) -> tuple[int, float]:
    found = erlang.staff_erlang_c(per_hour / 3600 * aht_s, aht_s, within_s, share)
    return found.servers, found.service_level


@lru_cache(maxsize=4096)
def _by_a(
    per_hour: float, aht_s: float, within_s: float, share: float, patience_s: float
) -> tuple[int, float]:
    """Fewest servers by Erlang A; the level grows with the servers, so halving finds it."""

    def level(servers: int) -> float:
        found = erlang.erlang_a(per_hour, aht_s, patience_s, servers, within_s)
        return found.sl_excl_short_abandons

    high = 1
    while level(high) < share:
        high *= 2
    low = high // 2 + 1 if high > 1 else 1
    while low < high:
        middle = (low + high) // 2
        if level(middle) >= share:
            high = middle
        else:
            low = middle + 1
    return low, level(low)
