"""`switchboard forecast` and `switchboard simulate replay`: planning from the installation's own record, as tables."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

if TYPE_CHECKING:  # every command would pay for importing these
    from crm_core.db.engine import Database
    from switchboard.settings import Settings

Load = Callable[[], "Settings"]
_SHOWN_NOTES = 12
_SHOWN_RISKS = 20


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
        """Who is needed in the next hours, who is short, and which open requests will be late."""
        from routing.planning import words
        from routing.planning.at_risk import MAX_HOURS, at_risk
        from routing.planning.forecast import Wish, forecast
        from routing.planning.staffing import parse_target

        async def go(db: "Database") -> None:
            wish = Wish(
                hours=hours,
                shrinkage=shrinkage,
                target=parse_target(target),
                team_id=await team_id_of(db, team),
            )
            now = db.clock.now_ms()
            answer = await forecast(db, wish, now)
            risks = await at_risk(db, now=now, team_id=wish.team_id, hours=min(hours, MAX_HOURS))
            answer["notes"] = words.spoken([*answer["notes"], *risks.pop("notes")], "en")
            answer["at_risk"] = risks
            _print(answer, as_json, _show_forecast)

        run(settings(), go)

    simulate = main.commands.get("simulate")
    if not isinstance(simulate, click.Group):
        simulate = click.Group("simulate", help="Play traffic through the routing engine on a virtual clock.")
        main.add_command(simulate)

    @simulate.command("replay")
    @click.option("--from", "start", required=True, help="2026-11-20, 2026-11-20T09:00 or with an offset")
    @click.option("--to", "end", required=True, help="where the period ends; a date means its midnight")
    @click.option(
        "--change", "change_file", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="JSON: what is to be different (docs/planning.md)",
    )  # fmt: skip
    @click.option("--team", help="name or id; default all")
    @click.option("--seeds", type=click.IntRange(1, 50), default=5, show_default=True)
    @click.option("--json", "as_json", is_flag=True, help="the data as JSON")
    def replay_command(
        start: str, end: str, change_file: Path, team: str | None, seeds: int, as_json: bool
    ) -> None:
        """Play a recorded period again, as it was and with a change, side by side."""
        from routing.planning import replay, whatif, words
        from routing.planning.change import Change
        from routing.planning.past import Period

        try:
            data = json.loads(change_file.read_bytes())
        except (ValueError, RecursionError) as error:
            raise click.ClickException(f"{change_file}: no JSON: {error}") from error

        async def go(db: "Database") -> None:
            change = Change.parse(data)
            chosen = await team_id_of(db, team)
            zone = await zone_of(db, chosen)
            period = Period.checked(instant_of(start, zone), instant_of(end, zone))
            material = await replay.gather(
                db, period, now=db.clock.now_ms(), at_most=whatif.MAX_REQUESTS, team_id=chosen
            )
            if not as_json:
                click.echo(
                    f"{material.counted} requests; playing them {seeds} times on both sides ...", err=True
                )
            answer = whatif.compare(material, change, range(1, seeds + 1))
            answer["notes"] = words.spoken(answer["notes"], "en")
            _print(answer, as_json, _show_replay)

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


async def zone_of(db: "Database", team_id: int | None) -> ZoneInfo:
    """The zone of the team's calendar, else of the first team that has one, else UTC."""
    from routing.planning import history

    async with db.reading() as conn:
        contexts = await history.teams(conn)
    wanted = [contexts[team_id]] if team_id is not None else [contexts[i] for i in sorted(contexts)]
    return next((ZoneInfo(c.calendar.spec.tz) for c in wanted if c.calendar is not None), ZoneInfo("UTC"))


def instant_of(text: str, zone: ZoneInfo) -> int:
    """Milliseconds of a date or time; without an offset it is local in `zone`. Raises ClickException."""
    try:
        moment = datetime.fromisoformat(text)
        local = moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)
        found = round(local.timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise click.ClickException(f"{text!r} is no date or time such as 2026-11-20T09:00") from error
    if not 0 <= found < 253_402_300_800_000:
        raise click.ClickException(f"{text!r} lies outside of 1970 to 9999")
    return found


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
            seen = channel["at_once_observed"]
            at_once = f"{channel['at_once']} at once per agent" + (
                f" ({seen:g} seen)" if seen is not None else ""
            )
            guess = "" if channel["aht_known"] else " (a guess)"
            patience = "endless" if channel["patience_s"] is None else f"{channel['patience_s']:g} s"
            click.echo(
                f"  {channel['channel']}: handle time {channel['aht_s']:g} s{guess}, {at_once}, "
                f"patience {patience}, Erlang {channel['formula']}, target "
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
    _show_risks(answer["at_risk"])
    show_notes(answer["notes"])


def _show_risks(risks: dict[str, Any]) -> None:
    click.echo(
        f"\nOpen requests with a deadline in the next {risks['hours']} h, with the people who are there:"
    )
    for team in risks["teams"]:
        click.echo(
            f"  {team['team']['name']}: {team['waiting']} wait, {team['late']} are late already, "
            f"{team['expected_breaches']:g} more will be"
        )
    coming = [i for i in risks["items"] if not i["late"]][:_SHOWN_RISKS]
    if not coming:
        return
    rows = [
        [
            f"  {i['inquiry']['number'] if i['inquiry'] else '-'}",
            i["channel"],
            i["assignee"]["name"] if i["assignee"] else i["state"],
            i["due_at"][5:16].replace("T", " "),
            "not by them" if i["expected_at"] is None else i["expected_at"][5:16].replace("T", " "),
            f"{i['probability'] * 100:.0f}",
        ]
        for i in coming
    ]
    click.echo(table(["  number", "channel", "who", "due (UTC)", "reply expected", "risk %"], rows))


_ROWS = (
    ("offered", "came", 0),
    ("answered", "answered", 0),
    ("abandoned", "gave up", 0),
    ("unfinished", "still waiting at the end", 0),
    ("service_level_pct", "service level %", 1),
    ("service_level_of_offered_pct", "  of all that came %", 1),
    ("asa_s", "mean wait of answered, s", 1),
    ("wait_p50_s", "wait p50, s", 1),
    ("wait_p90_s", "wait p90, s", 1),
    ("wait_p99_s", "wait p99, s", 1),
    ("breached", "replies too late", 1),
    ("breached_pct", "  of promised %", 1),
)


def _number(value: float | None, digits: int, *, sign: bool = False) -> str:
    if value is None:
        return "-"
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return text.replace("-0.0", "0.0").replace("+0.0", "0.0") if float(text) == 0 else text


def _show_replay(answer: dict[str, Any]) -> None:
    click.echo(
        f"{answer['requests']} requests from {answer['period']['from']} to {answer['period']['to']}, "
        f"{len(answer['seeds'])} seeds.\n"
        "Service level: answered in time / (came - gave up before that time). "
        "Recorded and 'as it was' should be alike; the change is 'changed' against 'as it was'."
    )
    parts = [
        (f"{team['team']['name']}, {row['channel']} (in {row['threshold_s']:g} s)", row)
        for team in answer["teams"]
        for row in team["channels"]
    ]
    for title, row in [*parts, ("All together", answer["total"])]:
        click.echo()
        click.echo(table([title, "recorded", "as it was", "changed", "difference", "+/-"], _replay_rows(row)))
    for team in answer["teams"]:
        fair = team["fairness"]
        click.echo(
            f"\n{team['team']['name']}: fairness (Jain) recorded {_number(fair['recorded'], 2)}, "
            f"as it was {_number(fair['as_it_was'], 2)}, changed {_number(fair['changed'], 2)}"
        )
        rows = [
            [
                f"  {a['agent']['name']}",
                str(a["recorded"]["handled"]) if a["recorded"] else "-",
                *(
                    _number(side[name], 1) if side else "-"
                    for side in (a["as_it_was"], a["changed"])
                    for name in ("work_h", "busy_pct")
                ),
            ]
            for a in team["agents"]
        ]
        heads = ["  agent", "handled", "as it was: work h", "busy %", "changed: work h", "busy %"]
        click.echo(table(heads, rows))
    show_notes(answer["notes"])


def _replay_rows(row: dict[str, Any]) -> list[list[str]]:
    return [
        [
            f"  {label}",
            _number(row["recorded"][name], digits),
            _number(row["as_it_was"][name], digits),
            _number(row["changed"][name], digits),
            _number(row["difference"][name], max(digits, 1), sign=True),
            _number(row["half_width"][name], max(digits, 1)),
        ]
        for name, label, digits in _ROWS
    ]


def show_notes(notes: Sequence[dict[str, Any]]) -> None:
    if notes:
        click.echo("\nTo know:")
    for note in notes[:_SHOWN_NOTES]:
        click.echo(f"  - {note['text']}")
