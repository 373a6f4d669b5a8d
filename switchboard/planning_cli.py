"""`switchboard forecast` and `switchboard simulate replay`: planning from the installation's own record, as tables."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:  # every command would pay for importing these
    from crm_core.db.engine import Database
    from switchboard.settings import Settings

Load = Callable[[], "Settings"]
_SHOWN_NOTES = 12


def register(main: click.Group, settings: Load) -> None:
    """Add the commands to the program. `settings` reads the configuration, once a command runs."""

    @main.command("forecast")
    @click.option("--team", help="name or id; default all")
    @click.option("--hours", type=click.IntRange(1, 336), default=12, show_default=True)
    @click.option(
        "--shrinkage", type=float, default=0.3, show_default=True, help="share of paid time not at work"
    )
    @click.option("--target", default="80/20", show_default=True, help="percent/seconds for calls and chats")
    @click.option("--json", "as_json", is_flag=True, help="the data as JSON")
    def forecast_command(team: str | None, hours: int, shrinkage: float, target: str, as_json: bool) -> None:
        """Who is needed in the next hours, who is planned, who is short; from the recorded traffic."""
        from routing.planning import words
        from routing.planning.forecast import Wish, forecast
        from routing.planning.staffing import parse_target

        async def go(db: "Database") -> None:
            wish = Wish(
                hours=hours,
                shrinkage=shrinkage,
                target=parse_target(target),
                team_id=await team_id_of(db, team),
            )
            answer = await forecast(db, wish, db.clock.now_ms())
            answer["notes"] = words.spoken(answer["notes"], "en")
            _print(answer, as_json, _show_forecast)

        run(settings(), go)


def run(settings: "Settings", work: Callable[["Database"], Awaitable[None]]) -> None:
    """Run `work` on the configured database; errors that are answers become one line and exit code 1."""
    from crm_core.db.engine import Database
    from crm_core.errors import SwitchboardError
    from crm_core.infra.local import LocalHints
    from switchboard.wiring import make_clock

    async def go() -> None:
        db = Database(
            settings.resolved_database_url, clock=make_clock(settings), hints=LocalHints(), pool_size=2
        )
        try:
            await work(db)
        finally:
            await db.close()

    try:
        asyncio.run(go())
    except SwitchboardError as error:
        raise click.ClickException(error.detail or error.code) from error


async def team_id_of(db: "Database", team: str | None) -> int | None:
    """The id of the team that is called so, or has this id. Raises ClickException."""
    if team is None:
        return None
    from sqlalchemy import select

    from crm_core.schema import team as team_table

    async with db.reading() as conn:
        rows = (
            await conn.execute(select(team_table.c.id, team_table.c.name).order_by(team_table.c.id))
        ).all()
    for team_id, name in rows:
        if name.casefold() == team.casefold() or str(team_id) == team:
            return int(team_id)
    known = ", ".join(str(name) for _, name in rows)
    raise click.ClickException(f"no team {team!r}; there are: {known or 'none'}")


def _print(answer: dict[str, Any], as_json: bool, show: Callable[[dict[str, Any]], None]) -> None:
    if as_json:
        json.dump(answer, sys.stdout, ensure_ascii=False, indent=2)
        click.echo()
    else:
        show(answer)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they must be; the first is left-aligned, numbers are right-aligned."""
    widths = [max(len(r[i]) for r in [heads, *rows]) for i in range(len(heads))]
    lines = []
    for row in [heads, *rows]:
        cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _show_forecast(answer: dict[str, Any]) -> None:
    target = answer["target"]
    click.echo(
        f"Staffing forecast, {answer['hours']} h from {answer['at'][:16]}Z. Target for calls and chats "
        f"{target['percent']:g} % in {target['within_s']:g} s (abandons before that ignored), "
        f"shrinkage {answer['shrinkage'] * 100:g} %. {answer['history']['requests']} recorded requests."
    )
    for team in answer["teams"]:
        click.echo(f"\n{team['team']['name']} ({team['zone']}): {team['online']} online now")
        if not team["channels"]:
            click.echo("  nothing recorded, nothing waits")
            continue
        for channel in team["channels"]:
            guess = "" if channel["aht_known"] else " (a guess)"
            patience = "endless" if channel["patience_s"] is None else f"{channel['patience_s']:g} s"
            click.echo(
                f"  {channel['channel']}: handle time {channel['aht_s']:g} s{guess}, {channel['at_once']} at once per "
                f"agent, patience {patience}, Erlang {channel['formula']}, target "
                f"{channel['target']['percent']:g} % in {channel['target']['within_s']:g} s"
            )
        names = [c["channel"] for c in team["channels"]]
        rows = [
            [
                f"  {i['local'][5:10]} {i['local'][11:16]}",
                *(f"{i['arrivals'].get(n, 0):.1f}" for n in names),
                str(i["needed"]) if i["open"] else "closed",
                str(i["staff"]),
                f"{i['planned']:g}",
                str(i["short"]) if i["short"] else "-",
            ]
            for i in team["intervals"]
        ]
        click.echo(table(["  half-hour", *names, "needed", "to plan", "planned", "short"], rows))
        if team["short_now"]:
            click.echo(f"  SHORT NOW by {team['short_now']}: more are needed than are online.")
        if team["worst"]:
            click.echo(f"  Shortest by {team['worst']['short']} from {team['worst']['from'][:16]}Z.")
    show_notes(answer["notes"])


def show_notes(notes: Sequence[dict[str, Any]]) -> None:
    if notes:
        click.echo("\nTo know:")
    for note in notes[:_SHOWN_NOTES]:
        click.echo(f"  - {note['text']}")
