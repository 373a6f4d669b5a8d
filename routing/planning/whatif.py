"""Side by side: what was recorded, what the simulator makes of it, and what it makes of it with a change. Pure.

The recorded column is computed by the same formulas as the simulated ones, so the first two columns say how well the
simulation reproduces what happened, and the last two what the change would have done. Both simulations get the same
contacts and the same seeds.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

from crm_core.clock import HOUR
from crm_core.errors import Invalid
from routing import store
from routing.planning.change import Change
from routing.planning.handling import HandleStats
from routing.planning.past import Outcome, PastRequest
from routing.planning.replay import Material, contacts, scenario
from routing.planning.staffing import VARIANT
from routing.planning.words import note
from routing.simulator import Result, run
from routing.simulator.measure import Measures, QueueKey, QueueTally, jain, measures_of
from routing.simulator.scenario import THRESHOLD_MS, Scenario

MAX_SEEDS = 50
#: contacts played in one question, over all seeds and both sides
MAX_PLAYED = 400_000
#: requests of one period that are read at all
MAX_REQUESTS = 60_000
#: of the service level, in points: beyond it the simulated baseline is said not to fit
TOLERABLE_POINTS = 10.0
_FEW = 20

Figures = dict[str, float | int | None]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Sides:
    """The results of all seeds, one each: as it was, and with the change."""

    as_it_was: list[Result]
    changed: list[Result]
    names: Mapping[int, str]


def check_size(requests: int, seeds: int) -> None:
    """Raises Invalid `too_much_to_simulate`."""
    played = requests * seeds * 2
    if played > MAX_PLAYED:
        raise Invalid(
            f"{requests} requests with {seeds} seeds on both sides are {played} contacts to play, more than "
            f"{MAX_PLAYED}: take a shorter period, one team, or fewer seeds",
            code="too_much_to_simulate", params={"played": played, "at_most": MAX_PLAYED},
        )  # fmt: skip


def compare(
    material: Material, change: Change, seeds: Sequence[int], progress: Progress | None = None
) -> dict[str, Any]:
    """Play both sides over all seeds.

    Returns:
        {"period", "seeds", "requests", "variant", "total", "teams": [{"team", "channels": [...], "fairness",
        "agents": [...]}], "notes"}; each figure under recorded, as_it_was, changed and difference.

    Raises:
        ChangeError; Invalid `too_much_to_simulate`.
    """
    check_size(len(material.requests), len(seeds))
    # Both are made before anything is played: a mistake in the change is told at once.
    staff = scenario(material, (), change, name="changed").agents
    was: list[Result] = []
    changed: list[Result] = []
    drawn = 0
    for i, seed in enumerate(seeds):
        arrivals, drawn = contacts(material, seed)
        before: Scenario = scenario(material, arrivals, None, name="as it was")
        after = scenario(material, arrivals, change, name="changed")
        was.append(run(before, seed))
        changed.append(run(after, seed))
        if progress is not None:
            progress(i + 1, len(seeds))
    names = {a.id: a.name for a in staff} | {a.id: a.name for a in material.agents}
    return _answer(material, Sides(was, changed, names), seeds, drawn)


def _answer(material: Material, sides: Sides, seeds: Sequence[int], drawn: int) -> dict[str, Any]:
    recorded = recorded_queues(material)
    window = (material.period.start, material.period.end)
    notes = list(material.notes)
    if drawn:
        notes.append(note("handle_time_drawn", n=drawn, of=material.counted))
    real = {a.id for a in material.agents}
    for agent_id, name in sides.names.items():
        if agent_id not in real and not any(r.agents[agent_id].units_ms for r in sides.changed):
            notes.append(note("added_idle", name=name))
    teams = []
    for team in material.teams:
        keys = sorted(k for k in recorded if k.team_id == team.id)
        if not keys:
            continue
        channels = []
        for key in keys:
            row = _columns(
                measures_of([recorded[key]], window),
                [r.measures(team_id=key.team_id, channel=key.channel) for r in sides.as_it_was],
                [r.measures(team_id=key.team_id, channel=key.channel) for r in sides.changed],
            )
            channels.append({"channel": key.channel, "threshold_s": recorded[key].threshold_ms / 1000, **row})
            notes += _on_calibration(key.channel, row)
        teams.append(
            {
                "team": {"id": team.id, "name": team.name},
                "channels": channels,
                "fairness": _fairness(material, sides, team.id),
                "agents": _agents(material, sides, team.id),
            }
        )
    total = _columns(
        measures_of(recorded.values(), window),
        [r.measures() for r in sides.as_it_was],
        [r.measures() for r in sides.changed],
    )
    return {
        "period": material.period.as_data(),
        "seeds": list(seeds),
        "requests": material.counted,
        "variant": VARIANT,
        "total": total,
        "teams": teams,
        "notes": notes,
    }


def recorded_queues(material: Material) -> dict[QueueKey, QueueTally]:
    """What was recorded of the period, in the form the simulator counts in."""
    queues: dict[QueueKey, QueueTally] = {}
    typical: dict[tuple[int | None, str], HandleStats] = {}
    for r in material.requests:
        typical.setdefault((r.team_id, r.channel), HandleStats(r.channel)).add(r, material.period.end)
    for r in material.requests:
        if r.ready_at < material.period.start:
            continue
        key = QueueKey(r.team_id or 0, r.channel, "")
        tally = queues.setdefault(key, QueueTally(THRESHOLD_MS[r.channel]))
        tally.offered += 1
        wait = r.wait_ms(material.period.end)
        if r.outcome == Outcome.HANDLED:
            tally.waits.append(wait)
            tally.queued += wait > 0
            tally.assignments += 1
            tally.handled_ms += r.held_ms or 0
        elif r.outcome == Outcome.ABANDONED:
            tally.queued += 1
            tally.abandoned += 1
            tally.abandoned_after.append(wait)
        else:
            tally.queued += 1
            tally.unfinished += 1
        if r.due_at is not None:
            tally.promised += 1
            tally.breached += _breached(r, typical[r.team_id, r.channel].reply_ms, material.period.end)
    return queues


def _breached(r: PastRequest, usual_reply_ms: int, end: int) -> bool:
    """Judged as the simulator does: the reply, or giving up, or the end of the record, came after the deadline."""
    left = r.left_at if r.left_at is not None else end
    if r.outcome == Outcome.HANDLED:
        left += r.reply_ms if r.reply_ms is not None else usual_reply_ms
    return r.due_at is not None and left > r.due_at


def _columns(recorded: Measures, was: Sequence[Measures], changed: Sequence[Measures]) -> dict[str, Any]:
    before, after = [figures(m) for m in was], [figures(m) for m in changed]
    gained = [
        {k: None if a[k] is None or b[k] is None else a[k] - b[k] for k in a}  # type: ignore[operator]
        for a, b in zip(after, before, strict=True)
    ]
    return {
        "recorded": figures(recorded),
        "as_it_was": _mean(before),
        "changed": _mean(after),
        "difference": _mean(gained),
        "half_width": _half_width(gained),
    }


def figures(m: Measures) -> Figures:
    """The figures of one queue that are compared; percentages 0..100, seconds."""
    return {
        "offered": m.offered,
        "answered": m.answered,
        "abandoned": m.abandoned,
        "unfinished": m.unfinished,
        "service_level_pct": m.service.abandons_ignored,
        "service_level_of_offered_pct": m.service.abandons_negative,
        "abandoned_pct": None if m.p_abandon is None else m.p_abandon * 100,
        "asa_s": m.asa_s,
        "wait_p50_s": m.wait_percentiles_s["p50"],
        "wait_p90_s": m.wait_percentiles_s["p90"],
        "wait_p99_s": m.wait_percentiles_s["p99"],
        "longest_wait_s": m.longest_wait_s,
        "promised": m.promised,
        "breached": m.breached,
        "breached_pct": None if m.breach_share is None else m.breach_share * 100,
    }


def _mean(rows: Sequence[Mapping[str, float | int | None]]) -> Figures:
    """The mean over the seeds of each figure, of those seeds that have one."""
    found: Figures = {}
    for name in rows[0]:
        values = [v for r in rows if (v := r[name]) is not None]
        found[name] = round(sum(values) / len(values), 3) if values else None
    return found


#: 97.5 % points of Student's distribution by degrees of freedom; beyond them the normal one is close
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


def _half_width(rows: Sequence[Mapping[str, float | int | None]]) -> Figures:
    """Half of the 95 % confidence interval of each mean difference; None with one seed."""
    found: Figures = {}
    for name in rows[0]:
        values = [float(v) for r in rows if (v := r[name]) is not None]
        n = len(values)
        if n < 2:
            found[name] = None
            continue
        mean = sum(values) / n
        deviation = sqrt(sum((v - mean) ** 2 for v in values) / (n - 1))
        t = _STUDENT[n - 2] if n - 2 < len(_STUDENT) else 2.0
        found[name] = round(t * deviation / sqrt(n), 3)
    return found


def _on_calibration(channel: str, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Whether the simulated baseline is far from the record."""
    recorded, simulated = row["recorded"], row["as_it_was"]
    if recorded["offered"] < _FEW:
        return []
    a, b = recorded["service_level_pct"], simulated["service_level_pct"]
    if a is not None and b is not None and abs(a - b) > TOLERABLE_POINTS:
        return [note("baseline_differs", channel=channel, recorded=round(a, 1), simulated=round(b, 1))]
    if abs(recorded["answered"] - simulated["answered"]) * 100 > TOLERABLE_POINTS * recorded["offered"]:
        return [
            note(
                "baseline_answers_differ", channel=channel, of=recorded["offered"],
                recorded=recorded["answered"], simulated=round(simulated["answered"]),
            )
        ]  # fmt: skip
    return []


# --- people
# ---------------------------------------------------------------------------------------------------
def _fairness(material: Material, sides: Sides, team_id: int) -> dict[str, float | None]:
    units = _recorded_units(material)
    there = {a.id: a.attendance.online_ms for a in material.agents if team_id in a.teams}
    return {
        "recorded": _rounded(jain(units.get(i, 0.0) / ms for i, ms in there.items() if ms > 0)),
        "as_it_was": _rounded(_average(r.jain(team_id) for r in sides.as_it_was)),
        "changed": _rounded(_average(r.jain(team_id) for r in sides.changed)),
    }


def _agents(material: Material, sides: Sides, team_id: int) -> list[dict[str, Any]]:
    """Load of each agent of a team. `work_h`: the handling he was given, weighed (an hour of what fills half of him
    counts half an hour); `busy_pct`: with anything in hand, of his time.
    """
    units = _recorded_units(material)
    handled: dict[int, int] = {}
    for r in _counted(material):
        if r.agent_id is not None:
            handled[r.agent_id] = handled.get(r.agent_id, 0) + 1
    real = {a.id for a in material.agents}
    ids = sorted(
        {
            agent_id
            for result in (*sides.as_it_was, *sides.changed)
            for agent_id, teams in result.agent_teams.items()
            if team_id in teams
        }
    )
    return [
        {
            "agent": {"id": i if i in real else None, "name": sides.names[i]},
            "recorded": None
            if i not in real
            else {"handled": handled.get(i, 0), "work_h": round(units.get(i, 0.0) / HOUR, 2)},
            "as_it_was": _of_agent(sides.as_it_was, i),
            "changed": _of_agent(sides.changed, i),
        }
        for i in ids
    ]


def _of_agent(results: Iterable[Result], agent_id: int) -> dict[str, float | None] | None:
    mine = [r.agents[agent_id] for r in results if agent_id in r.agents]
    if not mine:
        return None
    present = sum(t.present_ms for t in mine)
    return {
        "work_h": round(sum(t.units_ms for t in mine) / len(mine) / HOUR, 2),
        "busy_pct": round(100 * sum(t.busy_ms for t in mine) / present, 1) if present else None,
    }


def _counted(material: Material) -> Iterable[PastRequest]:
    return (r for r in material.requests if r.ready_at >= material.period.start)


def _recorded_units(material: Material) -> dict[int, float]:
    """The handling that each agent was given in the period, ms, weighed by how much of him it takes."""
    settings = {t.id: store.settings_of(t.settings)[0] for t in material.teams}
    units: dict[int, float] = {}
    for r in _counted(material):
        if r.agent_id is not None and r.team_id is not None:
            rules = settings[r.team_id]
            part = rules.channel(r.channel).weight / rules.load_max
            units[r.agent_id] = units.get(r.agent_id, 0.0) + part * (r.held_ms or 0)
    return units


def _average(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
