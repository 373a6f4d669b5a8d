"""The product's own decision core on a virtual clock: `run(scenario, seed) -> Result`.

Drives `routing.decide`, `routing.machine`, `routing.steps`, `routing.order` with state in memory: no database, no
sleeping, no chance that is not seeded. It has no routing rules of its own.
"""

from routing.simulator.engine import Engine
from routing.simulator.laws import Law, exponential, fixed, lognormal
from routing.simulator.measure import Measures, Result
from routing.simulator.scenario import (
    Arrival,
    Kind,
    Move,
    Scenario,
    ScenarioAgent,
    ScenarioTeam,
    Stream,
    Target,
)
from routing.simulator.selectors import SELECTORS, SWITCHBOARD, selector_of
from routing.simulator.watch import Watch

__all__ = [
    "SELECTORS",
    "SWITCHBOARD",
    "Arrival",
    "Kind",
    "Law",
    "Measures",
    "Move",
    "Result",
    "Scenario",
    "ScenarioAgent",
    "ScenarioTeam",
    "Stream",
    "Target",
    "Watch",
    "exponential",
    "fixed",
    "lognormal",
    "run",
]


def run(
    scenario: Scenario,
    seed: int = 1,
    *,
    selector: str = SWITCHBOARD,
    trace: bool = False,
    watch: Watch | None = None,
) -> Result:
    """Play a scenario to its end.

    Args:
        seed: of everything that is drawn; the same seed gives the same contacts whatever the settings.
        selector: `switchboard`, the product's choice, or a baseline to compare it with (SELECTORS).
        trace: keep the story of every contact in `Result.trace`.
        watch: check the invariants at every change; what it finds is in `Result.problems`.
    """
    return Engine(scenario, seed, selector_of(selector), watch=watch, trace=trace).run()
