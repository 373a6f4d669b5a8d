"""How fast messages come in, from the channel's edge to an agent's socket, beside what the database alone takes.

    python bench/intake.py                     everything, as a table (some three minutes)
    python bench/intake.py --form embedded --channel email --json

See bench/README.md for what is measured and how to read it.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, os.environ.get("SWITCHBOARD_BENCH_ROOT") or str(Path(__file__).resolve().parents[1]))

import uvloop

from bench import bare, floor, history, payloads
from bench.load import Arrivals, Client, Http, Lmtp, Result, closed_loop, open_loop, opened
from bench.payloads import Payload
from bench.place import Feeds, Place, started
from bench.usage import snapshot, used

#: people who write again and again in the Telegram load
PEOPLE = 96
#: messages whose statements are captured, each of another conversation
TRACES = 32
_WARM = 1_000


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--form", choices=["embedded", "scaled", "both"], default="both")
    parser.add_argument("--channel", choices=["telegram", "email", "both"], default="both")
    parser.add_argument(
        "--messages", type=_count(10, 1_000_000), default=2_000, help="at most so many per measurement"
    )
    parser.add_argument("--seconds", type=_count(1, 600), default=15, help="at most so long per measurement")
    parser.add_argument("--concurrency", type=_count(1, 48), default=16, help="messages on their way at once")
    parser.add_argument(
        "--new",
        type=_share,
        help="share of messages from new people, each a new request (default: telegram 0, email 1)",
    )
    parser.add_argument(
        "--history", type=_count(0, 20_000_000), default=0, help="measure again with so many stored messages"
    )
    parser.add_argument("--no-bare", action="store_true", help="leave out the bare database and the floor")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    return parser.parse_args()


def _count(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not low <= (value := int(text)) <= high:
            raise argparse.ArgumentTypeError(f"must be from {low} to {high}")
        return value

    return read


def _share(text: str) -> float:
    if not 0 <= (value := float(text)) <= 1:
        raise argparse.ArgumentTypeError("must be from 0 to 1")
    return value


def make_payloads(channel: str, start: int, count: int, new: float) -> list[Payload]:
    """Messages numbered from `start`; the known people are the numbers below PEOPLE."""
    mails = payloads.Mails()
    made = []
    for number in range(start, start + count):
        fresh = int((number + 1) * new) > int(number * new)
        if channel == "telegram":
            made.append(payloads.telegram(number, number if fresh else number % PEOPLE))
        elif fresh:
            made.append(mails.new(number, number))
        else:
            made.append(mails.new(number, number % PEOPLE, reply_to=number % PEOPLE))
    return made


def first_contacts(channel: str, count: int) -> list[Payload]:
    return make_payloads(channel, 0, count, 1.0)


def percentiles(values: list[float]) -> dict[str, float]:
    """In milliseconds."""
    if len(values) < 2:
        return {}
    cuts = statistics.quantiles([v * 1000 for v in values], n=100, method="inclusive")
    return {"p50": round(cuts[49], 1), "p95": round(cuts[94], 1), "p99": round(cuts[98], 1)}


def clients_of(place: Place, channel: str) -> Callable[[int], Client]:
    urls = place.installation.urls
    if channel == "telegram":
        return lambda n: Http(urls[n % len(urls)])
    return lambda _n: Lmtp(place.installation.lmtp_port)


async def measure_product(
    form: str, channel: str, args: argparse.Namespace, new: float, filled: int
) -> dict[str, Any]:
    """Closed loop for the rate and the CPU, then open loop at half of it for the latency."""
    fill = (lambda url: history.fill(url, filled)) if filled else None
    async with started(form, fill=fill) as place:
        arrivals = Arrivals()
        async with Feeds(place.installation.urls, place.organisation.tokens, arrivals.heard) as feeds:
            idle = {name: tree.rss_mb() for name, tree in place.trees.items()}
            # A mail connection more would be answered "busy" beyond fifty.
            clients = await opened(clients_of(place, channel), args.concurrency)
            warm = Result()
            await _through(clients, first_contacts(channel, PEOPLE), arrivals, warm, 120)
            await _through(clients, make_payloads(channel, _WARM, PEOPLE, new), arrivals, warm, 60)
            before = snapshot(place.trees)
            closed = await closed_loop(
                clients,
                make_payloads(channel, 10 * _WARM, args.messages, new),
                arrivals,
                seconds=args.seconds,
            )
            cpu = used(before, snapshot(place.trees), closed.messages)
            half = closed.rate / 2
            more = await opened(clients_of(place, channel), min(48 - args.concurrency, 2 * args.concurrency))
            wanted = min(args.messages, int(half * args.seconds) + 1)
            calm = await open_loop(
                clients + more,
                make_payloads(channel, 2_000_000, wanted, new),
                arrivals,
                rate=half,
                seconds=args.seconds,
            )
            feeds.check()
            for client in clients + more:
                client.close()
        log = place.installation.logs()
        return {
            "history": filled,
            "messages": closed.messages + calm.messages,
            "lost": warm.lost + closed.lost + calm.lost,
            "strangers": arrivals.strangers,
            "warnings": sum(
                line.count('"level": "warning"') + line.count('"level": "error"') for line in log.splitlines()
            ),
            "rate": round(closed.rate, 1),
            "cpu_ms": {k: round(v, 2) for k, v in cpu.items()},
            "cpu_ms_total": round(sum(cpu.values()), 2),
            "busy": {"accepted_ms": percentiles(closed.accepted), "to_socket_ms": percentiles(closed.socket)},
            "half_load": {
                "rate": round(half, 1),
                "messages": calm.messages,
                "late": calm.late,
                "accepted_ms": percentiles(calm.accepted),
                "to_socket_ms": percentiles(calm.socket),
            },
            "rss_mb": {
                "idle": _rounded(idle),
                "after": _rounded({name: tree.rss_mb() for name, tree in place.trees.items()}),
            },
        }


async def _through(
    clients: list[Client], wanted: list[Payload], arrivals: Arrivals, into: Result, seconds: float
) -> None:
    done = await closed_loop(clients, wanted, arrivals, seconds=seconds)
    into.lost += done.lost


def _rounded(sizes: dict[str, list[float]]) -> dict[str, list[float]]:
    return {name: [round(s, 1) for s in values] for name, values in sizes.items()}


async def measure_bare(form: str, channel: str, args: argparse.Namespace, new: float) -> dict[str, Any]:
    """The floor, and the product's statements without the product."""
    out: dict[str, Any] = {}
    messages = min(args.messages, 2_000)
    async with bare.database_for(form) as (url, tree):
        bodies = [p.body for p in make_payloads(channel, 1, messages, 1.0)]
        rate, cpu = await floor.measure(url, channel, bodies, args.concurrency, tree)
        out["floor"] = {"rate": round(rate, 1), "cpu_ms": round(cpu, 2)}
    for name, reads in (("writes", False), ("all_statements", True)):
        # A database each: the rows of the first replay must not slow the second.
        async with bare.database_for(form) as (url, tree):
            traces = await bare.capture(
                url, channel, first_contacts(channel, PEOPLE), make_payloads(channel, _WARM, TRACES, new)
            )
            found = await bare.replay(
                url,
                traces,
                messages=messages,
                concurrency=args.concurrency,
                reads=reads,
                database=tree,
                first=5_000_000,
            )
            out[name] = {
                "rate": round(found.rate, 1),
                "cpu_ms": round(found.cpu_ms, 2),
                "client_ms": round(found.client_ms, 2),
                "database_ms": round(found.database_ms, 2),
                "statements": found.statements,
                "transactions": found.transactions,
                "different": found.different,
            }
            out["rows"] = found.rows
    return out


async def run(args: argparse.Namespace) -> dict[str, Any]:
    report: dict[str, Any] = {"cores": os.cpu_count(), "concurrency": args.concurrency, "results": []}
    if not args.json:
        print(heading(report), flush=True)
    for form in ("embedded", "scaled") if args.form == "both" else (args.form,):
        for channel in ("telegram", "email") if args.channel == "both" else (args.channel,):
            new = args.new if args.new is not None else (0.0 if channel == "telegram" else 1.0)
            print(f"measuring {form} {channel} …", file=sys.stderr, flush=True)
            result: dict[str, Any] = {"form": form, "channel": channel, "new": new}
            result["product"] = await measure_product(form, channel, args, new, 0)
            if not args.no_bare:
                result |= await measure_bare(form, channel, args, new)
                result["ratios"] = ratios(result)
            if args.history:
                print(f"… with a history of {args.history} messages", file=sys.stderr, flush=True)
                result["with_history"] = await measure_product(form, channel, args, new, args.history)
                result["flatness"] = flatness(result["product"], result["with_history"])
            report["results"].append(result)
            if not args.json:
                # At once: what comes later may fail.
                print("\n".join(table(result)), flush=True)
    return report


def ratios(result: dict[str, Any]) -> dict[str, float]:
    """Product by bare: of the rate (1 would be the bare database) and of the CPU (1 would be none of our own)."""
    product = result["product"]
    return {
        f"{what}_vs_{name}": round(product[mine] / max(result[name][key], 1e-9), 3)
        for name in ("writes", "all_statements", "floor")
        for what, mine, key in (("rate", "rate", "rate"), ("cpu", "cpu_ms_total", "cpu_ms"))
    }


def flatness(empty: dict[str, Any], full: dict[str, Any]) -> dict[str, float]:
    """With by without history."""
    p50 = [run["half_load"]["to_socket_ms"].get("p50", 0.0) for run in (full, empty)]
    return {
        "rate": round(full["rate"] / empty["rate"], 2),
        "p50": round(p50[0] / max(p50[1], 0.1), 2),
        "cpu": round(full["cpu_ms_total"] / empty["cpu_ms_total"], 2),
    }


def heading(report: dict[str, Any]) -> str:
    return (
        f"{report['cores']} cores, {report['concurrency']} messages on their way at once; load generator on the "
        "same machine"
    )


def table(r: dict[str, Any]) -> list[str]:
    """The lines of one result."""
    new = f"{r['new']:.0%} from new people" if r["new"] else "all in running conversations"
    lines = ["", f"{r['form']} · {r['channel']} ({new})"]
    for title, p in (("", r["product"]), ("with history ", r.get("with_history"))):
        if p is None:
            continue
        cpu = ", ".join(f"{k} {v}" for k, v in p["cpu_ms"].items())
        half = p["half_load"]
        lines += [
            f"  {title}to the agent's socket   {p['rate']:>8} /s   CPU {p['cpu_ms_total']} ms a message ({cpu})",
            (
                f"  at half of it, {half['rate']} /s: accepted to socket {_spell(half['to_socket_ms'])}; "
                f"sent to accepted {_spell(half['accepted_ms'])}"
            ),
            (
                f"  at full load: accepted to socket {_spell(p['busy']['to_socket_ms'])}; sent to accepted "
                f"{_spell(p['busy']['accepted_ms'])}"
            ),
            "  memory in MB, idle → after: "
            + "; ".join(
                f"{name} {_sizes(p['rss_mb']['idle'][name])} → {_sizes(sizes)}"
                for name, sizes in p["rss_mb"]["after"].items()
            ),
            (
                f"  {p['messages']} messages, {p['lost']} lost, {p['strangers']} doubled, {half['late']} waited "
                f"for a connection, {p['warnings']} warnings logged"
            ),
        ]
    if "writes" in r:
        for name, title in (
            ("writes", "same writes, bare driver"),
            ("all_statements", "same SQL, bare driver"),
            ("floor", "aiohttp + one insert"),
        ):
            b, q = r[name], r["ratios"]
            note = ""
            if name != "floor":
                note = f"   {b['statements']} statements in {b['transactions']} transactions"
                if b["different"]:
                    note += f"   NOT THE SAME: {b['different']} statements touched other numbers of rows"
            lines.append(
                f"  {title:<25}{b['rate']:>8} /s   CPU {b['cpu_ms']} ms   product/this: rate "
                f"{q[f'rate_vs_{name}']}, CPU {q[f'cpu_vs_{name}']}{note}"
            )
        lines.append("  rows of a message: " + ", ".join(f"{k} {v:g}" for k, v in r["rows"].items()))
    if "flatness" in r:
        f = r["flatness"]
        lines.append(
            f"  with {r['with_history']['history']} stored messages by without: rate {f['rate']}, p50 "
            f"{f['p50']}, CPU {f['cpu']}"
        )
    return lines


def _spell(p: dict[str, float]) -> str:
    return " ".join(f"{k} {v}" for k, v in p.items()) + " ms" if p else "-"


def _sizes(values: list[float]) -> str:
    return "+".join(f"{v:.0f}" for v in values)


def main() -> int:
    args = parse_arguments()
    report = uvloop.run(run(args))
    if args.json:
        print(json.dumps(report, ensure_ascii=False))
    bad = any(
        p.get("lost") or p.get("strangers")
        for r in report["results"]
        for p in (r["product"], r.get("with_history") or {})
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
