"""The reference centre: 100 agents, three teams, calls, chats and mail through a working day, beside two baselines.

Contacts are the same for all three selectors on the same seed: when they come, what they need, how long they take and
how long they are patient. Targets and what they mean: docs/simulation.md.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from crm_core.clock import HOUR, MINUTE, SECOND
from routing import erlang
from routing.model import Channel, Requirements
from routing.settings import DEFAULT_CHANNELS, NearPromise, TeamSettings
from routing.simulator.engine import Engine
from routing.simulator.laws import exponential, lognormal
from routing.simulator.measure import Measures, jain, measures_of
from routing.simulator.scenario import SHARED, Kind, Scenario, ScenarioAgent, ScenarioTeam, Stream, Target
from routing.simulator.selectors import PRIORITY_FIFO, ROUND_ROBIN, SWITCHBOARD, selector_of

LOAD = 0.88
SHARES = {Channel.VOICE: 0.20, Channel.CHAT: 0.35, Channel.ASYNC: 0.45}
#: agents of each team, and how many of them answer calls; the others chat, and all of them do asynchronous work
TEAMS = (34, 33, 33)
ON_CALLS = 10
DAY_MS = 10 * HOUR
SLICE_MS = 30 * MINUTE
#: a working day in half-hours, mean 1: two peaks with more work than staff, quiet edges
PROFILE = (
    0.50, 0.75, 1.00, 1.25, 1.40, 1.40, 1.25, 1.05, 0.90, 0.80,
    0.85, 1.00, 1.20, 1.30, 1.25, 1.10, 0.95, 0.80, 0.70, 0.55,
)  # fmt: skip
#: asynchronous work of the same day: what came overnight is there in the morning
PROFILE_ASYNC = (
    3.60, 2.40, 1.60, 1.20, 1.00, 0.90, 0.90, 0.80, 0.80, 0.80,
    0.80, 0.80, 0.80, 0.80, 0.70, 0.60, 0.50, 0.40, 0.30, 0.30,
)  # fmt: skip
#: how long an agent holds a contact of this channel, wrap-up and ringing included
HOLD_S = {Channel.VOICE: 304, Channel.CHAT: 604, Channel.ASYNC: 960}
WRAPUP_S, ANSWER_S = 30, 4
ASYNC_AT_ONCE = 4
#: how asynchronous work is promised: (priority, share, time to the reply). A good half of what is normal comes from
#: customers with a contract for fast replies, which is a promise, not a priority.
PROMISES = (
    ("urgent", 0.05, 2 * HOUR), ("high", 0.15, 4 * HOUR), ("normal", 0.25, 90 * MINUTE),
    ("normal", 0.35, 8 * HOUR), ("low", 0.20, 10 * HOUR),
)  # fmt: skip
PRIORITIES = ("urgent", "high", "normal", "low")
LOW_MS = 10 * HOUR
RESTRICTED, VIP, MANAGED = 0.10, 0.03, 0.15
SKILLED = 0.3
SKILL = "product:cruises"
#: those who take no calls; mail with a near promise asks for them first
STEADY = "desk:mail"
ACCEPT = 0.95
SELECTORS = (SWITCHBOARD, PRIORITY_FIFO, ROUND_ROBIN)

Mapper = Callable[[Callable[["Task"], "Outcome"], Iterable["Task"]], Iterator["Outcome"]]


@dataclass(frozen=True, slots=True)
class Task:
    selector: str
    seed: int
    days: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one selector made of the contacts. `jain`: of agents who do the same work in one team, the lowest."""

    selector: str
    voice: Measures
    chat: Measures
    mail: Measures
    by_priority: dict[str, Measures]
    total: Measures
    jain: float
    load: float


@dataclass(frozen=True, slots=True)
class Goal:
    """A service target. `applies`: whether its condition holds; `met` is None where it does not."""

    name: str
    wanted: str
    reached: tuple[str, ...]
    met: bool | None


@dataclass(frozen=True, slots=True)
class Report:
    seed: int
    days: int
    erlang_c_pct: float
    outcomes: tuple[Outcome, ...]
    goals: tuple[Goal, ...]

    def as_data(self) -> dict[str, Any]:
        return {
            "seed": self.seed, "days": self.days, "erlang_c_pct": self.erlang_c_pct,
            "selectors": [
                {
                    "name": o.selector, "voice": o.voice.as_data(), "chat": o.chat.as_data(),
                    "async": o.mail.as_data(), "total": o.total.as_data(),
                    "async_by_priority": {p: m.as_data() for p, m in o.by_priority.items()},
                    "jain": o.jain, "load": o.load,
                }
                for o in self.outcomes
            ],
            "goals": [
                {"name": g.name, "wanted": g.wanted, "reached": list(g.reached), "met": g.met}
                for g in self.goals
            ],
        }  # fmt: skip

    def lines(self) -> list[str]:
        """The report as text."""
        head = f"{'':<46}" + "".join(f"{o.selector:>21}" for o in self.outcomes)
        lines = [
            f"seed {self.seed}, {self.days} working days, {self.outcomes[0].total.offered} contacts, 100 agents",
            f"load {LOAD}; Erlang C predicts {self.erlang_c_pct:.1f} % of calls in 20 s", "", head,
        ]  # fmt: skip
        for name, read in _LINES:
            lines.append(f"{name:<46}" + "".join(f"{read(o):>21}" for o in self.outcomes))
        lines += ["", f"{'target':<46}{'wanted':>21}{'reached':>21}"]
        for goal in self.goals:
            word = {True: "met", False: "NOT MET", None: "does not apply"}[goal.met]
            lines.append(f"{goal.name:<46}{goal.wanted:>21}{goal.reached[0]:>21}  {word}")
        return lines


def compare(seed: int, *, days: int = 5, mapper: Mapper = map) -> Report:
    """Play the same contacts with all three selectors and judge the first one."""
    outcomes = tuple(mapper(play, [Task(s, seed, days) for s in SELECTORS]))
    predicted = 100 * erlang_c_level()
    return Report(seed, days, predicted, outcomes, tuple(_goals(outcomes, predicted)))


def play(task: Task) -> Outcome:
    """One selector's run."""
    scenario = centre(task.days)
    result = Engine(scenario, task.seed, selector_of(task.selector)).run()

    def of(channel: str, label: str | None = None) -> Measures:
        return measures_of(
            [q for k, q in result.queues.items() if k.channel == channel and label in (None, k.label)],
            result.window,
        )

    alike: dict[tuple[Any, ...], list[float]] = {}
    for agent in scenario.agents:
        tally = result.agents[agent.id]
        profile = (agent.teams, tuple(sorted(agent.capacity.items())), tuple(sorted(agent.skills)))
        alike.setdefault(profile, []).append(tally.units_ms / tally.present_ms)
    return Outcome(
        selector=task.selector, voice=of(Channel.VOICE), chat=of(Channel.CHAT), mail=of(Channel.ASYNC),
        by_priority={p: of(Channel.ASYNC, p) for p in PRIORITIES}, total=result.measures(),
        jain=min(jain(shares) or 0.0 for shares in alike.values()), load=result.load() or 0.0,
    )  # fmt: skip


def erlang_c_level() -> float:
    """The share of calls answered in 20 s by Erlang C, half-hour by half-hour, weighed by calls."""
    answered = 0.0
    for team in range(len(TEAMS)):
        for factor in PROFILE:
            offered = LOAD * SHARES[Channel.VOICE] * TEAMS[team] * factor
            answered += (
                TEAMS[team]
                * factor
                * erlang.erlang_c(offered, ON_CALLS, HOLD_S[Channel.VOICE], 20).service_level
            )
    return answered / sum(TEAMS) / sum(PROFILE)


def centre(days: int, *, steady: bool = True) -> Scenario:
    """The reference centre over so many working days, back to back: time is working time here.

    `steady`: whether mail with a near promise prefers those who take no calls (`near_promise`).
    """
    teams: list[ScenarioTeam] = []
    agents: list[ScenarioAgent] = []
    streams: list[Stream] = []
    share = 100 // ASYNC_AT_ONCE
    channels = {
        **DEFAULT_CHANNELS,
        Channel.VOICE: replace(DEFAULT_CHANNELS[Channel.VOICE], wrapup_ms=WRAPUP_S * SECOND),
        Channel.ASYNC: replace(DEFAULT_CHANNELS[Channel.ASYNC], maximum=ASYNC_AT_ONCE, weight=share),
    }
    settings = TeamSettings(
        channels=channels, near_promise=NearPromise(skill=STEADY) if steady else NearPromise()
    )
    for i, size in enumerate(TEAMS):
        team_id = i + 1
        teams.append(
            ScenarioTeam(
                id=team_id, name=f"team {team_id}", settings=settings,
                targets={Channel.VOICE: Target(within_ms=20 * SECOND), Channel.CHAT: Target(within_ms=MINUTE)},
            )
        )  # fmt: skip
        first = 100 * team_id
        members: dict[str, list[int]] = {Channel.VOICE: [], Channel.CHAT: [], Channel.ASYNC: []}
        for k in range(size):
            channel, other = (Channel.VOICE, Channel.CHAT) if k < ON_CALLS else (Channel.CHAT, Channel.VOICE)
            members[channel].append(first + k)
            members[Channel.ASYNC].append(first + k)
            skills = {SKILL: 3} if k % 10 < 10 * SKILLED else {}
            if k >= ON_CALLS:
                skills[STEADY] = 1
            agents.append(
                ScenarioAgent(
                    id=first + k, name=f"agent {first + k}", teams=frozenset({team_id}),
                    skills=skills, capacity={other: 0}, accept=ACCEPT, answer=exponential(ANSWER_S * SECOND),
                )
            )  # fmt: skip
        streams += [_stream(team_id, channel, size, tuple(members[channel])) for channel in SHARES]
    return Scenario(
        name="reference centre", teams=tuple(teams), agents=tuple(agents), streams=tuple(streams),
        ends_at=days * DAY_MS, attention=SHARED,
    )  # fmt: skip


def _stream(team_id: int, channel: Channel, size: int, managers: tuple[int, ...]) -> Stream:
    weight = {Channel.VOICE: 1.0, Channel.CHAT: 0.25, Channel.ASYNC: 1 / ASYNC_AT_ONCE}[channel]
    hold_s = HOLD_S[channel]
    per_hour = LOAD * SHARES[channel] * size * 3600 / (weight * hold_s)
    pure_s = hold_s - {Channel.VOICE: WRAPUP_S + ANSWER_S, Channel.CHAT: ANSWER_S, Channel.ASYNC: 0}[channel]
    promises = PROMISES if channel == Channel.ASYNC else (("normal", 1.0, 0),)
    skilled = Requirements(required={SKILL: 2}, hard=frozenset({SKILL}))
    mix = tuple(
        Kind(
            share=part * of_skill, label=priority, priority=priority, requirements=requirements,
            due_ms=due or None,
        )
        for priority, part, due in promises
        for of_skill, requirements in ((RESTRICTED, skilled), (1 - RESTRICTED, Requirements()))
    )  # fmt: skip
    profile = PROFILE_ASYNC if channel == Channel.ASYNC else PROFILE
    patience = {Channel.VOICE: 180 * SECOND, Channel.CHAT: 600 * SECOND}.get(channel)
    return Stream(
        name=f"{team_id}-{channel}", team_id=team_id, channel=channel, per_hour=per_hour, profile=profile,
        handle=lognormal(pure_s * SECOND, 0.9), patience=exponential(patience) if patience else None, mix=mix,
        vip=VIP, managed=MANAGED, managers=managers,
    )  # fmt: skip


# --- what is wanted
def _goals(outcomes: Sequence[Outcome], predicted: float) -> Iterator[Goal]:
    fifo = outcomes[1]
    level = [o.voice.service.abandons_ignored or 0.0 for o in outcomes]
    yield Goal(
        "calls answered in 20 s, where Erlang C says >= 83 %", ">= 80 %", tuple(f"{x:.1f} %" for x in level),
        level[0] >= 80 if predicted >= 83 else None,
    )  # fmt: skip
    breached = [o.mail.breach_share or 0.0 for o in outcomes]
    half = (fifo.mail.breach_share or 0.0) / 2
    yield Goal(
        "async replies late, of priority-then-FIFO's half", f"<= {half:.2%}", tuple(f"{x:.2%}" for x in breached),
        breached[0] <= half,
    )  # fmt: skip
    sticky = [o.total.sticky_hit or 0.0 for o in outcomes]
    yield Goal(
        "manager gets his contact, where on shift",
        ">= 85 %",
        tuple(f"{x:.1%}" for x in sticky),
        sticky[0] >= 0.85,
    )
    low = [o.by_priority["low"].wait_percentiles_s["p99"] or 0.0 for o in outcomes]
    bound = 3 * LOW_MS / 1000
    yield Goal(
        "p99 wait of low priority, 3 x its target", f"<= {bound / 3600:.0f} h", tuple(f"{x / 3600:.2f} h" for x in low),
        low[0] <= bound,
    )  # fmt: skip
    offers = [o.total.offers_per_assignment or 0.0 for o in outcomes]
    yield Goal("offers per assignment", "<= 1.15", tuple(f"{x:.3f}" for x in offers), offers[0] <= 1.15)
    fair = [o.jain for o in outcomes]
    yield Goal(
        "Jain index, among those who do the same", ">= 0.95", tuple(f"{x:.4f}" for x in fair), fair[0] >= 0.95
    )


def _part(late: int, mail: Measures) -> float | None:
    return late / mail.promised if mail.promised else None


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.1f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _of_priority(priority: str) -> Callable[[Outcome], str]:
    def read(outcome: Outcome) -> str:
        m = outcome.by_priority[priority]
        return f"{_share(m.breach_share)}, {_time(m.wait_percentiles_s['p99'])}"

    return read


_LINES: tuple[tuple[str, Callable[[Outcome], str]], ...] = (
    ("calls in 20 s (abandons before ignored)", lambda o: f"{o.voice.service.abandons_ignored:.1f} %"),
    ("calls in 20 s (of all offered)", lambda o: f"{o.voice.service.abandons_negative:.1f} %"),
    ("calls: mean wait of answered", lambda o: _time(o.voice.asa_s)),
    ("calls abandoned", lambda o: _share(o.voice.p_abandon)),
    ("chats in 60 s (abandons before ignored)", lambda o: f"{o.chat.service.abandons_ignored:.1f} %"),
    ("chats: mean wait of answered", lambda o: _time(o.chat.asa_s)),
    ("async replies late", lambda o: _share(o.mail.breach_share)),
    ("  late though taken within a minute", lambda o: _share(_part(o.mail.breached_unwaited, o.mail))),
    ("  late after waiting", lambda o: _share(_part(o.mail.breached - o.mail.breached_unwaited, o.mail))),
    *((f"  {priority}: late, p99 wait to be taken", _of_priority(priority)) for priority in PRIORITIES),
    ("manager got his contact", lambda o: _share(o.total.sticky_hit)),
    ("offers per assignment", lambda o: f"{o.total.offers_per_assignment:.3f}"),
    ("Jain index, lowest group", lambda o: f"{o.jain:.4f}"),
    ("capacity in use", lambda o: _share(o.load)),
)
