"""The step plan of an item: who may serve it, ring by ring, and when the next ring opens. Pure.

Steps only widen: the lanes of a step contain those of all steps before it. Two rings that come out the same
are one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from crm_core.clock import MINUTE
from routing.model import AgentView, Channel, Item, LaneSpec, Presence
from routing.settings import SCOPES, StepSettings, TeamSettings, duration_of

#: somebody whose shift begins is given this long to come online before the item goes on without him
SHIFT_GRACE_MS = 10 * MINUTE
#: an item is never spread over more teams than this
MAX_TEAMS = 3

_PERSONAL = ("manager", "sticky", "directed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One ring. `lanes` are all that may serve now; `agent_id` is set on a ring of one person; `starts_at`
    in ms. `steady`: the skill that it asks for because the promise is near.
    """

    no: int
    scope: str
    lanes: tuple[LaneSpec, ...]
    starts_at: int
    skip_if_empty: bool
    agent_id: int | None = None
    steady: str | None = None

    @property
    def personal(self) -> bool:
        return self.scope in _PERSONAL

    @property
    def signatures(self) -> frozenset[str]:
        return frozenset(lane.signature for lane in self.lanes)


def target_at(item: Item) -> int:
    """The target of the order key: the deadline, or the longest wait of the channel if that is earlier."""
    known = [t for t in (item.due_at, item.order_parts.get("target_at")) if t is not None]
    return max(int(min(known, default=item.ready_at)), item.ready_at)


def budget_ms(item: Item) -> int:
    """The time from ready to the target, without the hours in which the item rests because its team is closed."""
    return _spent_ms(item, target_at(item))


def _spent_ms(item: Item, end: int) -> int:
    closed: int = sum(max(min(b, end) - a, 0) for a, b in item.order_parts.get("closed", ()))
    return max(end - item.ready_at - closed, 0)


def after(item: Item, ms: int) -> int:
    """The instant at which so much of the item's time is spent; while its team is closed none is."""
    begin: int = item.ready_at
    for closes, opens in item.order_parts.get("closed", ()):
        if begin + ms <= closes:
            break
        ms -= max(closes - begin, 0)
        begin = opens
    return begin + ms


def plan(item: Item, settings: TeamSettings) -> tuple[Step, ...]:
    """The rings of this item, at least one."""
    if item.directed_agent_id is not None:
        lane = LaneSpec(item.channel, agent_id=item.directed_agent_id)
        return (
            Step(no=0, scope="directed", lanes=(lane,), starts_at=item.ready_at, skip_if_empty=False,
                 agent_id=item.directed_agent_id),
        )  # fmt: skip
    people = {"manager": item.manager_id, "sticky": item.sticky_agent_id}
    budget = budget_ms(item)
    pace = settings.vip_steps if item.vip else 1.0
    steady = asks_steady(item, settings)
    on_call = settings.on_call_team if item.on_call and settings.on_call_team != item.team_id else None
    steps: list[Step] = []
    personal: tuple[LaneSpec, ...] = ()
    home: tuple[LaneSpec, ...] = ()
    rings = settings.steps
    if item.added_teams and all(ring.scope != "overflow" for ring in rings):
        rings = (*rings, StepSettings(scope="overflow"))
    for ring in rings:
        agent_id = people.get(ring.scope)
        if ring.scope in people:
            if agent_id is None:
                continue
            personal = (*personal, LaneSpec(item.channel, agent_id=agent_id))
        elif ring.scope == "overflow":
            wanted = _skills(item, "required")
            others = overflow_teams(item, settings)
            if not others and not home:
                continue  # it asks nobody
            home = (*home, *(LaneSpec(item.channel, team_id=t, requirements=wanted) for t in others))
        else:
            skills = _skills(item, ring.scope, steady)
            home = (LaneSpec(item.channel, team_id=item.team_id, requirements=skills),)
            if on_call is not None:
                home = (*home, LaneSpec(item.channel, team_id=on_call, requirements=skills))
        lanes = tuple(dict.fromkeys((*personal, *home)))
        if steps and set(steps[-1].lanes) == set(lanes):
            if not steps[-1].personal:
                # The same people: one ring that opens with the first and is left as the last says. Its name is of
                # what it really asks for: nothing preferred, nothing lowered, no other team.
                name = "required" if steps[-1].scope == "preferred" else steps[-1].scope
                steps[-1] = replace(steps[-1], scope=name, skip_if_empty=ring.skip_if_empty)
            continue
        starts_at = after(item, round(duration_of(ring.at, budget) * pace))
        steps.append(
            Step(no=len(steps), scope=ring.scope, lanes=lanes, starts_at=starts_at,
                 skip_if_empty=ring.skip_if_empty, agent_id=agent_id,
                 steady=steady if ring.scope == "preferred" else None)
        )  # fmt: skip
    if not steps or not home:
        # A plan of overflow alone without overflow teams, say. Somebody must be able to get it.
        lane = LaneSpec(item.channel, team_id=item.team_id, requirements=_skills(item, "required"))
        steps.append(
            Step(no=len(steps), scope="required", lanes=(*personal, lane), starts_at=item.ready_at,
                 skip_if_empty=False)
        )  # fmt: skip
    return tuple(steps)


def overflow_teams(item: Item, settings: TeamSettings) -> tuple[int, ...]:
    """Other teams that may be asked: nobody hands an item round more than MAX_TEAMS teams, its transfers
    counted.
    """
    seen = dict.fromkeys((*item.teams_seen, *(() if item.team_id is None else (item.team_id,))))
    found: list[int] = []
    for team_id in dict.fromkeys((*item.added_teams, *settings.overflow)):
        if team_id == item.team_id:
            continue
        if team_id in seen or len(seen) < MAX_TEAMS:
            seen[team_id] = None
            found.append(team_id)
    return tuple(found)


def same_ring(old: Sequence[Step], new: Sequence[Step], no: int) -> int:
    """The number that ring `no` has in a changed plan: of the same name, else the widest that is no wider."""
    scope = old[min(no, len(old) - 1)].scope
    if scope == "directed":
        return no
    reached = SCOPES.index(scope)
    fitting = [s.no for s in new if s.scope in SCOPES and SCOPES.index(s.scope) <= reached]
    return max(fitting, default=0)


def asks_steady(item: Item, settings: TeamSettings) -> str | None:
    """The skill that the item prefers because its promise is near: whoever has it is not called away from such work.

    A promise is kept by the end of the work, not by its beginning: the first free agent is not the one who is done
    first, if every call stops him.
    """
    near = settings.near_promise
    if near.skill is None or item.channel != Channel.ASYNC or item.due_at is None:
        return None
    if near.skill in item.requirements.required:
        return None  # nobody else is asked anyhow
    if item.kind == "lead" and settings.leads.weighted:
        return None  # to whom it goes is a matter of shares
    return near.skill if _spent_ms(item, item.due_at) <= near.within_ms else None


def skills_asked(item: Item, settings: TeamSettings) -> frozenset[str]:
    """All skills that a decision about the item looks at."""
    steady = asks_steady(item, settings)
    wanted = item.requirements
    return frozenset((*wanted.required, *wanted.preferred, *(() if steady is None else (steady,))))


def _skills(item: Item, scope: str, steady: str | None = None) -> tuple[tuple[str, int], ...]:
    wanted = item.requirements
    skills = dict(wanted.required)
    if scope == "preferred":
        if steady is not None:
            skills.setdefault(steady, 1)
        for skill, level in wanted.preferred.items():
            skills[skill] = max(level, skills.get(skill, 0))
    elif scope == "relaxed":
        skills = {s: level if s in wanted.hard else max(level - 1, 1) for s, level in skills.items()}
    return tuple(sorted(skills.items()))


def is_empty(step: Step, item: Item, agents: Sequence[AgentView], now: int) -> bool:
    """Whether nobody of the step is there at all (busy people are there)."""
    wanted = step.signatures
    return not any(a.routable and a.lanes & wanted and not item.excludes(a.agent_id, now) for a in agents)


def leave_at(
    steps: Sequence[Step], step: Step, item: Item, entered_at: int, *,
    agents: Mapping[int, AgentView], settings: TeamSettings, now: int,
) -> int | None:  # fmt: skip
    """The instant at which the item goes on to the next step if nobody took it; None if there is none."""
    if step.no + 1 >= len(steps):
        return None
    if step.personal:
        return _window_end(step, item, entered_at, agents.get(step.agent_id or 0), settings=settings, now=now)
    return steps[step.no + 1].starts_at


def _window_end(
    step: Step, item: Item, entered_at: int, agent: AgentView | None, *, settings: TeamSettings, now: int
) -> int:
    """How long an item waits for one person: never so long that the waiting itself would break the
    promise.
    """
    rules = settings.channel(item.channel)
    latest = target_at(item) - rules.reserve_ms
    if agent is None or item.excludes(agent.agent_id, now):
        return now
    is_async = item.channel == Channel.ASYNC
    soon_back = is_async and agent.presence in (Presence.BREAK, Presence.DND, Presence.WRAPUP)
    if agent.routable or soon_back:
        wait = duration_of(rules.sticky_wait, budget_ms(item))
        # A share of the budget is of the item's age, seconds are of this step.
        end = entered_at + wait if isinstance(rules.sticky_wait, int) else after(item, wait)
        return min(end, max(latest, entered_at))
    if is_async and agent.shift_from is not None and agent.shift_from < latest:
        return min(agent.shift_from + SHIFT_GRACE_MS, latest)
    return now if step.skip_if_empty else min(entered_at, now)
