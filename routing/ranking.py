"""Which of the eligible agents: one tuple each, smallest wins, the first differing part is the
explanation. Pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from routing.model import AgentView, Item

#: names of the parts of `Rank.tuple`, in order
PARTS = ("step", "manager", "missing_preferred", "load", "scarcity", "idle_since", "agent_id")


@dataclass(frozen=True, slots=True)
class Rank:
    agent: AgentView
    tuple: tuple[int, ...]

    def as_data(self, channel: str) -> dict[str, Any]:
        slot = self.agent.slots.get(channel)
        return {
            "agent_id": self.agent.agent_id,
            "name": self.agent.name,
            "tuple": list(self.tuple),
            "used": slot.used if slot else 0,
            "max": slot.maximum if slot else 0,
        }


def rank_of(item: Item, agent: AgentView, step_no: int, *, steady: str | None = None) -> Rank:
    """`(step, not manager, preferred skills missing, load bucket, scarcity, idle since, id)`.

    `steady`: a skill that is preferred, too (`steps.asks_steady`). The load bucket is a tenth of the agent's
    capacity: inside it the longest idle comes first. Where leads are shared out by weight, his share of them stands
    in its place.
    """
    missing = sum(1 for s, level in item.requirements.preferred.items() if agent.skills.get(s, 0) < level)
    if steady is not None and steady not in agent.skills and steady not in item.requirements.preferred:
        missing += 1
    stand = agent.leads.get(item.team_id) if item.kind == "lead" else None
    bucket = 10 * agent.load_used // max(agent.load_max, 1) if stand is None else stand.share
    return Rank(
        agent,
        (
            step_no,
            -1 if agent.agent_id == item.manager_id else 0,
            missing,
            bucket,
            agent.scarcity,
            agent.idle_since,
            agent.agent_id,
        ),
    )


def ranked(item: Item, agents: Iterable[AgentView], step_no: int, *, steady: str | None = None) -> list[Rank]:
    """Best first."""
    return sorted((rank_of(item, a, step_no, steady=steady) for a in agents), key=lambda r: r.tuple)


def tied_before_scarcity(ranks: list[Rank]) -> list[int]:
    """Agents at the top that only scarcity (costly to know) or what follows it would tell apart; [] for
    one alone.
    """
    if not ranks:
        return []
    top = ranks[0].tuple[:4]
    tied = [r.agent.agent_id for r in ranks if r.tuple[:4] == top]
    return tied if len(tied) > 1 else []


def with_scarcity(ranks: list[Rank], scarcity: Mapping[int, int]) -> list[Rank]:
    """Rank again with the number of lanes that only this agent serves now."""
    if not scarcity and not any(r.agent.scarcity for r in ranks):
        return ranks  # as usual: every lane has several people
    return sorted((_scarce(r, scarcity.get(r.agent.agent_id, 0)) for r in ranks), key=lambda r: r.tuple)


def _scarce(rank: Rank, lanes: int) -> Rank:
    place = PARTS.index("scarcity")
    return Rank(replace(rank.agent, scarcity=lanes), (*rank.tuple[:place], lanes, *rank.tuple[place + 1 :]))


def first_difference(winner: Rank, runner_up: Rank) -> str:
    """The name of the part that decided."""
    pairs = zip(PARTS, winner.tuple, runner_up.tuple, strict=True)
    return next((name for name, a, b in pairs if a != b), PARTS[-1])
