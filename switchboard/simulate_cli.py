"""`switchboard simulate degenerate|reference|invariants`: the routing engine on a virtual clock, as tables.

No database and no configuration takes part; replications run in several processes.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:  # every command would pay for importing these
    from routing.simulator.degenerate import RowOutcome

#: how a rule is shown: "~" is near, without a test of chance
_SIGNS = {"=": "=", ">": ">", "<": "<", "within": "~"}
_SEED = click.option("--seed", type=int, help="of everything drawn; default a fresh one, which is printed")
_JSON = click.option("--json", "as_json", is_flag=True, help="the data as JSON")
_WORKERS = click.option(
    "--processes", type=click.IntRange(1, 64), default=min(os.cpu_count() or 1, 8), show_default=True
)


def register(main: click.Group) -> None:
    """Add the commands to the program's group `simulate`."""
    simulate = main.commands.get("simulate")
    if not isinstance(simulate, click.Group):
        simulate = click.Group("simulate", help="Play traffic through the routing engine on a virtual clock.")
        main.add_command(simulate)
    simulate.add_command(run_command)
    simulate.add_command(degenerate_command)
    simulate.add_command(reference_command)
    simulate.add_command(invariants_command)


@click.command("run")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_SEED
@click.option(
    "--selector",
    type=click.Choice(["switchboard", "priority-then-FIFO", "round robin"]),
    default="switchboard",
    show_default=True,
    help="the product's choice, or a baseline to compare it with",
)
@_JSON
def run_command(file: Path, seed: int | None, selector: str, as_json: bool) -> None:
    """Play the scenario in FILE (JSON, docs/simulation.md) and print its figures."""
    from crm_core.errors import Invalid
    from routing.simulator import form, run

    try:
        scenario = form.parse(json.loads(file.read_bytes()))
    except (ValueError, RecursionError) as error:
        raise click.ClickException(f"{file}: no JSON: {error}") from error
    except Invalid as error:
        raise click.ClickException(f"{file}: {error.detail}") from error
    result = run(scenario, _fresh(seed), selector=selector)
    if as_json:
        click.echo(json.dumps(result.as_data(), indent=1))
        return
    click.echo(f"{scenario.name or file.name}, seed {result.seed}, {result.events} events")
    click.echo(
        f"{'':<24}{'offered':>9}{'answered':>9}{'lost':>7}{'mean wait':>11}{'p95':>9}{'in time':>9}{'late':>8}"
    )
    names = {t.id: t.name or f"team {t.id}" for t in scenario.teams}
    for team_id, channel in sorted({(k.team_id, k.channel) for k in result.queues}):
        m = result.measures(team_id=team_id, channel=channel)
        click.echo(
            f"{names[team_id][:14] + ', ' + channel:<24}{m.offered:>9}{m.answered:>9}{m.abandoned + m.blocked:>7}"
            f"{_or_dash(m.asa_s, ' s'):>11}{_or_dash(m.wait_percentiles_s['p95'], ' s'):>9}"
            f"{_or_dash(m.service.abandons_ignored, ' %'):>9}{_or_dash(m.breach_share, ' %', 100):>8}"
        )
    for team_id, name in names.items():
        click.echo(
            f"{name}: occupied {_or_dash(result.occupancy(team_id), ' %', 100)},"
            f" fairness {_or_dash(result.jain(team_id), '')}"
        )


def _or_dash(value: float | None, unit: str, factor: float = 1.0) -> str:
    return "-" if value is None else f"{factor * value:.3g}{unit}"


@click.command("degenerate")
@_SEED
@click.option("--replications", type=click.IntRange(8, 100), default=20, show_default=True)
@click.option("--arrivals", type=click.IntRange(1_000, 10_000_000), default=55_000, show_default=True)
@click.option("--warmup", type=click.IntRange(0), help="arrivals not counted; default an eleventh")
@click.option("--rows", "wanted", help="some of them: D1,D2b")
@_WORKERS
@_JSON
def degenerate_command(
    seed: int | None, replications: int, arrivals: int, warmup: int | None, wanted: str | None,
    processes: int, as_json: bool,
) -> None:  # fmt: skip
    """Settings with a known answer (D1-D8) beside Erlang's formulas; fails if one differs."""
    from routing.simulator import degenerate

    known = list(degenerate.rows())
    chosen = _chosen(wanted, known)
    seed = _fresh(seed)
    skipped = arrivals // 11 if warmup is None else warmup
    if skipped >= arrivals:
        raise click.BadParameter("nothing is left to count", param_hint="--warmup")
    done: list[RowOutcome] = []
    if not as_json:
        click.echo(
            f"seed {seed}, {replications} replications of {arrivals} arrivals, the first {skipped} not counted"
        )
    with _mapper(processes) as mapper:
        for outcome in degenerate.examine(
            chosen, seed, replications=replications, arrivals=arrivals, warmup=skipped, mapper=mapper
        ):
            done.append(outcome)
            if not as_json:
                _show_row(outcome, replications)
    passed = all(o.passed for o in done)
    if as_json:
        data = {"seed": seed, "passed": passed, "rows": [o.as_data() for o in done]}
        click.echo(json.dumps(data, indent=1))
    else:
        click.echo(f"\n{sum(o.passed for o in done)} of {len(done)} rows passed")
    sys.exit(0 if passed else 1)


def _chosen(wanted: str | None, known: list[str]) -> list[str]:
    if wanted is None:
        return known
    chosen: list[str] = []
    for name in (part.strip() for part in wanted.split(",")):
        fitting = [row for row in known if name and (row == name or row[:-1] == name)]
        # D7, Little's law, is a figure of every row.
        fitting = fitting or (known if name == "D7" else [])
        if not fitting:
            raise click.BadParameter(f"no row {name!r}; there are {', '.join(known)}", param_hint="--rows")
        chosen += [row for row in fitting if row not in chosen]
    return chosen


def _show_row(outcome: "RowOutcome", replications: int) -> None:
    more = f" ({outcome.replications} replications)" if outcome.replications != replications else ""
    click.echo(f"\n{outcome.row.id}  {outcome.row.title}{more}")
    click.echo(
        f"  {'figure':<38} {'theory':>10} {'simulated':>10} {'+- 95 %':>9} {'wide':>6} {'off':>6}   (mean as drawn)"
    )
    for v in outcome.verdicts:
        theory = v.expected.theory
        wide = f"{100 * v.half_width / abs(theory):.1f}%" if theory else ""
        click.echo(
            f"  {v.expected.figure:<36} {_SIGNS[v.expected.rule.value]} {theory:>10.5g} {v.mean:>10.5g}"
            f" {v.half_width:>9.2g} {wide:>6} {_distance(v.distance):>6}   {v.plain:<10.5g}"
            f" {'ok' if v.passed else 'FAILED: ' + v.why}"
        )


def _distance(se: float) -> str:
    return f"{se:+.1f}" if abs(se) < 1000 else ""


@click.command("reference")
@_SEED
@click.option(
    "--days", type=click.IntRange(1, 60), default=5, show_default=True, help="simulated working days"
)
@_WORKERS
@_JSON
def reference_command(seed: int | None, days: int, processes: int, as_json: bool) -> None:
    """The reference centre: service targets of the engine beside priority-then-FIFO and round robin."""
    from routing.simulator import reference

    seed = _fresh(seed)
    with _mapper(processes) as mapper:
        report = reference.compare(seed, days=days, mapper=mapper)
    click.echo(json.dumps(report.as_data(), indent=1) if as_json else "\n".join(report.lines()))


@click.command("invariants")
@_SEED
@click.option("--seeds", type=click.IntRange(1, 1_000_000), default=10_000, show_default=True)
@_WORKERS
@_JSON
def invariants_command(seed: int | None, seeds: int, processes: int, as_json: bool) -> None:
    """Random centres with everything going wrong, watched at every instant; fails if an invariant does."""
    from routing.simulator import chaos

    first = _fresh(seed) * 1_000_000
    size = 100
    parts = [range(i, min(i + size, first + seeds)) for i in range(first, first + seeds, size)]
    events = 0
    wrong: list[dict[str, Any]] = []
    with ProcessPoolExecutor(processes) as pool:
        for count, problems in pool.map(chaos.watched_part, parts):
            events += count
            wrong += [{"seed": s, "problems": list(p)} for s, p in problems]
    if as_json:
        click.echo(
            json.dumps({"first_seed": first, "seeds": seeds, "events": events, "wrong": wrong}, indent=1)
        )
    else:
        click.echo(f"{seeds} random centres from seed {first}, {events} events, {len(wrong)} with problems")
        for entry in wrong[:10]:
            click.echo(f"  seed {entry['seed']}: {entry['problems'][0]}")
    sys.exit(1 if wrong else 0)


def _fresh(seed: int | None) -> int:
    return int.from_bytes(os.urandom(3)) if seed is None else seed


@contextmanager
def _mapper(processes: int) -> Iterator[Callable[[Any, Iterable[Any]], Iterator[Any]]]:
    """`map` over a pool of processes, in order."""
    if processes == 1:
        yield map
        return
    with ProcessPoolExecutor(processes) as pool:

        def spread(play: Any, tasks: Iterable[Any]) -> Iterator[Any]:
            return pool.map(play, tasks)

        yield spread
