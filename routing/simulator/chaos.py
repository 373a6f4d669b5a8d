"""Random centres in which everything happens at once: flapping agents, misses, declines, impatience, skills, overflow.

For the invariants only: small enough that `Watch` can look at everything after every instant, and as odd as settings
allow. A seed gives the same centre everywhere.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from random import Random
from typing import Any

from typing_extensions import override

from crm_core.clock import MINUTE, SECOND
from routing.model import Channel, Presence, Requirements
from routing.settings import DEFAULT_CHANNELS, DEFAULT_STEPS, NearPromise, StepSettings, TeamSettings
from routing.settings_fields import Share
from routing.simulator.engine import Engine
from routing.simulator.laws import exponential, fixed, lognormal, stream_random
from routing.simulator.live import Event
from routing.simulator.scenario import (
    ATTENTION,
    Kind,
    Move,
    Scenario,
    ScenarioAgent,
    ScenarioTeam,
    Stream,
)
from routing.simulator.selectors import Selector
from routing.simulator.watch import Watch

_SKILLS = ("lang:uk", "lang:en", "product:visa", "product:hotels")
_PRIORITIES = ("low", "normal", "high", "urgent")
_STEPS = (
    DEFAULT_STEPS,
    (StepSettings(scope="required"),),
    (
        StepSettings(scope="manager"),
        StepSettings(scope="required"),
        StepSettings(scope="relaxed", at=30 * SECOND),
    ),
    (
        StepSettings(scope="preferred", skip_if_empty=True),
        StepSettings(scope="required", at=10 * SECOND),
        StepSettings(scope="overflow", at=Share(0.5)),
    ),
)
#: what may be delivered twice; a contact that comes twice is told apart by its source, not by the engine
_REPEATED = frozenset(Event) - {Event.ARRIVE, Event.CLOSE}


class DuplicatingEngine(Engine):
    """Everything that becomes due becomes due twice, as commands are delivered at least once (I7)."""

    @override
    def at(self, when: int, event: Event, subject: Any, stamp: int = 0) -> None:
        """Let something happen, and happen again."""
        super().at(when, event, subject, stamp)
        if event in _REPEATED:
            super().at(when, event, subject, stamp)


def watched(seeds: Iterable[int]) -> Iterator[tuple[int, tuple[str, ...], int]]:
    """(seed, problems, events) of a watched run for each seed."""
    for seed in seeds:
        watch = Watch()
        engine = DuplicatingEngine(centre(seed), seed, Selector(), watch=watch)
        result = engine.run()
        yield seed, result.problems, result.events


def watched_part(seeds: Iterable[int]) -> tuple[int, list[tuple[int, tuple[str, ...]]]]:
    """(events of all, (seed, problems) of those that have some): `watched` for a worker process."""
    events, wrong = 0, []
    for seed, problems, count in watched(seeds):
        events += count
        if problems:
            wrong.append((seed, problems))
    return events, wrong


def centre(seed: int) -> Scenario:
    """A random centre."""
    chance = stream_random(seed, "centre")
    teams = tuple(_team(chance, i + 1) for i in range(chance.randint(1, 3)))
    if len(teams) > 1:
        overflow = replace(teams[0].settings, overflow=(teams[1].id,))
        teams = (replace(teams[0], settings=overflow), *teams[1:])
    agents = tuple(_agent(chance, i + 1, len(teams)) for i in range(chance.randint(1, 7)))
    streams = tuple(
        _stream(chance, f"{team.id}-{channel}", team.id, channel, len(agents))
        for team in teams
        for channel in Channel
        if chance.random() < 0.6
    )
    return Scenario(
        name=f"centre {seed}", teams=teams, agents=agents, streams=streams, ends_at=40 * MINUTE,
        max_arrivals=chance.randint(5, 40), attention=chance.choice(ATTENTION),
    )  # fmt: skip


def _team(chance: Random, team_id: int) -> ScenarioTeam:
    channels = {
        name: replace(
            rules,
            mode=chance.choice(("offer", "assign")),
            timeout_ms=chance.randint(5, 40) * SECOND,
            wrapup_ms=chance.choice((0, 0, 20 * SECOND)),
            max_wait_ms=chance.randint(20, 600) * SECOND,
        )
        for name, rules in DEFAULT_CHANNELS.items()
    }
    settings = TeamSettings(
        channels=channels, steps=chance.choice(_STEPS), exclude_ms=chance.randint(0, 120) * SECOND,
        misses_to_break=chance.randint(1, 3), rounds_per_step=chance.randint(1, 3),
        late_share=chance.choice((1.0, 1.0, 0.5)), max_overdue_ms=5 * MINUTE,
        near_promise=NearPromise(skill=chance.choice((None, *_SKILLS)), within_ms=5 * MINUTE),
    )  # fmt: skip
    limit = {Channel.VOICE.value: 3} if chance.random() < 0.2 else {}
    return ScenarioTeam(id=team_id, name=f"team {team_id}", settings=settings, queue_limit=limit)


def _agent(chance: Random, agent_id: int, teams: int) -> ScenarioAgent:
    moves: list[Move] = []
    at = 0
    for _ in range(chance.choice((0, 0, 2, 6))):
        at += chance.randint(5, 500) * SECOND
        moves.append(Move(at=at, presence=chance.choice(tuple(Presence))))
        at += chance.randint(1, 200) * SECOND
        moves.append(Move(at=at, presence=Presence.ONLINE))
    moves = [m for m in moves if m.presence != Presence.WRAPUP]
    return ScenarioAgent(
        id=agent_id,
        teams=frozenset(chance.sample(range(1, teams + 1), chance.randint(1, teams))),
        skills={s: chance.randint(1, 5) for s in _SKILLS if chance.random() < 0.6},
        capacity={"chat": chance.randint(1, 4), "async": chance.randint(0, 10)}
        if chance.random() < 0.4
        else {},
        moves=tuple(moves),
        accept=chance.choice((1.0, 0.9, 0.5)),
        declines=chance.choice((0.0, 0.5)),
        answer=chance.choice((fixed(0), exponential(5 * SECOND))),
        back_after_ms=chance.randint(1, 120) * SECOND,
    )


def _stream(chance: Random, name: str, team_id: int, channel: str, agents: int) -> Stream:
    mix = tuple(
        Kind(
            share=chance.random() + 0.1,
            label=str(i),
            priority=chance.choice(_PRIORITIES),
            requirements=Requirements(
                required={s: chance.randint(1, 3) for s in _SKILLS if chance.random() < 0.2},
                preferred={s: chance.randint(1, 5) for s in _SKILLS if chance.random() < 0.2},
            ),
            due_ms=chance.choice((None, 60 * SECOND, 10 * MINUTE)),
        )
        for i in range(chance.randint(1, 3))
    )
    return Stream(
        name=name, team_id=team_id, channel=channel, per_hour=chance.randint(10, 200),
        handle=lognormal(chance.randint(20, 400) * SECOND, 1.0),
        patience=exponential(chance.randint(20, 300) * SECOND) if chance.random() < 0.5 else None,
        mix=mix, vip=0.1, managed=chance.choice((0.0, 0.5)), managers=tuple(range(1, agents + 1)),
        kind=chance.choice(("ticket", "lead")),
    )  # fmt: skip
