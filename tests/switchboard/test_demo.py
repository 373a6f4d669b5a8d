"""`switchboard demo` as a newcomer and a program meet it: a process, its output, and the commands it prints."""

import contextlib
import json
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from routing.business_time import Calendar
from routing.calendar_spec import CalendarSpec
from routing.sla.policy import Policy, Rulebook, select_policy
from switchboard.demo import people
from switchboard.demo.organisation import Secrets, policies
from switchboard.demo.run import parse_duration, parse_rate
from tests.services.demo import ENV, START_S, DemoProcess

CHANNELS = ("telegram", "email", "telephony", "webchat", "form")
EFFECT_S = 30


@pytest.fixture
def demos() -> Iterator[Callable[..., DemoProcess]]:
    with contextlib.ExitStack() as stack:

        def start(data: Path, *arguments: str) -> DemoProcess:
            demo = DemoProcess(data, *arguments)
            stack.callback(demo.kill)
            return demo

        yield start


def get(url: str, token: str | None = None, body: Any = None) -> tuple[int, Any]:
    headers = {"Content-Type": "application/json"} if body is not None else {}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    try:
        with urlopen(
            Request(url, json.dumps(body).encode() if body is not None else None, headers)
        ) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


def rows(data: Path, statement: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(data / "switchboard.db")) as conn:
        return conn.execute(statement).fetchall()


def eventually(check: Callable[[], Any], timeout_s: float = EFFECT_S) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (value := check()):
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.1)
    return value


def test_json_start_restart_and_end(demos, tmp_path):
    first = demos(tmp_path, "--json")
    told = first.description()
    assert set(told) == {"url", "api_token", "inboxes", "agents"}
    inboxes = {each["channel"]: each for each in told["inboxes"]}
    assert set(inboxes) == set(CHANNELS)
    for each in inboxes.values():
        assert each["key"] and len(each["secret"]) >= 32 and each["hook_url"].startswith(told["url"])
    assert {"address", "lmtp_port", "smtp_port"} <= set(inboxes["email"])
    assert {"api_base", "token"} <= set(inboxes["telegram"])
    assert {"vendor", "originate_url", "number"} <= set(inboxes["telephony"])
    assert all({"email", "password", "role", "team", "name"} <= set(each) for each in told["agents"])
    teams = Counter((each["team"], each["role"]) for each in told["agents"])
    assert teams["Sales", "agent"] >= 2
    assert teams["Support", "agent"] >= 3
    assert {"supervisor", "admin"} <= {each["role"] for each in told["agents"]}

    assert get(told["url"] + "/readyz")[0] == 200
    status, page = get(told["url"] + "/api/v1/inquiries", told["api_token"])
    assert status == 200
    assert {"ticket", "lead"} <= {each["kind"] for each in page["items"]}
    assert any(each["status"] == "solved" for each in page["items"])
    assert any(each["assignee"] is None for each in page["items"])
    for each in told["agents"]:
        login = {"email": each["email"], "password": each["password"]}
        assert get(told["url"] + "/api/v1/auth/login", body=login)[0] == 200, each
    # The webhook of the local Bot API stands-in is set to the port that was really bound.
    hook = get(f"{inboxes['telegram']['api_base']}/bot{inboxes['telegram']['token']}/getWebhookInfo")[1]
    assert hook["result"]["url"] == inboxes["telegram"]["hook_url"]
    assert first.end() == 0

    counted = "select (select count(*) from {}), (select count(*) from inbox), (select count(*) from message)"
    before = [
        rows(tmp_path, counted.format(table))
        for table in ("agent", "team", "contact", "inquiry", "api_token")
    ]
    second = demos(tmp_path, "--json")
    again = second.description()
    assert again["api_token"] == told["api_token"]
    assert again["agents"] == told["agents"]
    assert [(i["key"], i["secret"]) for i in again["inboxes"]] == [
        (i["key"], i["secret"]) for i in told["inboxes"]
    ]
    after = [
        rows(tmp_path, counted.format(table))
        for table in ("agent", "team", "contact", "inquiry", "api_token")
    ]
    assert after == before
    # Two at once: different ports, different secrets, and what one gets the other does not.
    other = demos(tmp_path / "other", "--json")
    theirs = other.description()
    assert theirs["api_token"] != again["api_token"]
    assert {a["password"] for a in theirs["agents"]}.isdisjoint(a["password"] for a in again["agents"])
    assert get(theirs["url"] + "/api/v1/inquiries", again["api_token"])[0] == 401
    assert second.end(signal.SIGINT) == 0
    assert other.end() == 0
    assert first.troubles() + second.troubles() + other.troubles() == []
    assert len(first.out) == len(second.out) == 1, "nothing but the object on stdout"


def test_each_printed_command_works_as_pasted(demos, tmp_path):
    demo = demos(tmp_path)
    demo.wait_for(lambda: any("Ctrl+C" in line for line in demo.out))
    commands = [demo.out[i + 1] for i, line in enumerate(demo.out) if re.match(r"# \d\. ", line)]
    assert len(commands) == len(CHANNELS)
    (known,) = rows(tmp_path, "select max(id) from inquiry")[0]
    for command in commands:
        done = subprocess.run(
            ["sh", "-c", command], capture_output=True, text=True, timeout=EFFECT_S, check=False
        )
        assert done.returncode == 0, (command, done.stderr)
        assert done.stderr == "", command
    query = f"select channel, kind from inquiry where id > {known}"
    eventually(lambda: len(rows(tmp_path, query)) == len(CHANNELS))
    assert dict(rows(tmp_path, query)) == {
        "telegram": "ticket",
        "email": "ticket",
        "webchat": "ticket",
        "telephony": "lead",
        "form": "lead",
    }
    assert rows(tmp_path, "select * from inbound where state = 'quarantined'") == []
    passwords = Secrets((tmp_path / "secret.key").read_bytes().strip())
    for who in people.STAFF:
        assert any(who.email in line and passwords.password(who.login) in line for line in demo.out)
    assert demo.end() == 0
    assert demo.troubles() == []


def test_traffic_reaches_every_channel_and_leaves_no_mess(demos, tmp_path):
    demo = demos(tmp_path, "--json", "--traffic", "4/s", "--for", "8s")
    told = demo.description()
    (known,) = rows(tmp_path, "select max(id) from message")[0]
    line = demo.wait_for(lambda: next((x for x in demo.err if x.startswith("traffic over")), None), 120)
    sent = int(re.search(r": (\d+) sent", line)[1])
    # Never busier than asked, and not idle either.
    assert len(CHANNELS) <= sent <= 4 * 8 + 1
    for channel in CHANNELS:
        assert re.search(rf"\b{channel} [1-9]", line), line
    for what in ("stored", "opened", "assigned", "answered"):
        assert re.search(rf"\b[1-9]\d* {what}", line), line
    assert "failed" not in line
    channels = (
        "select c.channel, count(*) from message m join conversation c on c.id = m.conversation_id "
        f"where m.id > {known} group by 1"
    )
    assert {"telegram", "email", "webchat", "form"} <= set(dict(rows(tmp_path, channels)))
    assert rows(tmp_path, "select count(*) from call")[0][0] >= 1
    assert rows(tmp_path, "select error from inbound where state = 'quarantined'") == []
    assert rows(tmp_path, "select name, state from job where state = 'dead'") == []
    # Agents' replies left through the stand-ins.
    assert (
        rows(
            tmp_path,
            f"select state from message where direction = 'out' and id > {known} and state = 'failed'",
        )
        == []
    )
    assert get(told["url"] + "/readyz")[0] == 200, "the server goes on after the traffic"
    assert demo.end() == 0
    assert demo.troubles() == []


def test_a_real_installation_is_left_alone(demos, tmp_path):
    made = subprocess.run(
        [
            sys.executable,
            "-m",
            "switchboard.cli",
            "admin",
            "create",
            "--email",
            "boss@firm.example",
            "--name",
            "Boss",
            "--password",
            "a long password",
        ],
        env={**ENV, "SWITCHBOARD_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    demo = demos(tmp_path, "--json")
    assert demo.process.wait(START_S) == 1
    demo.wait_for(lambda: any("not a demo" in line for line in demo.err))
    assert rows(tmp_path, "select count(*) from agent") == [(1,)]


def test_a_taken_port_is_said(demos, tmp_path):
    first = demos(tmp_path / "a", "--json")
    port = first.description()["url"].rpartition(":")[2]
    command = [sys.executable, "-m", "switchboard.cli", "demo", "--port", port, "--data", str(tmp_path / "b")]
    done = subprocess.run(command, env=ENV, capture_output=True, text=True, timeout=START_S, check=False)
    assert done.returncode == 1
    assert f":{port} is taken" in done.stderr
    assert "--port 0" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("text", "rate"), [("2/s", 2.0), ("30/m", 0.5), ("360/h", 0.1), (" 1.5 / s ", 1.5)])
def test_rates(text, rate):
    assert parse_rate(text) == pytest.approx(rate)


@pytest.mark.parametrize("text", ["", "2", "0/s", "-1/s", "51/s", "2/day", "fast", "1/s/s", "nan/s"])
def test_wrong_rates(text):
    with pytest.raises(ValueError, match="write 2/s"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("60s", 60.0), ("5m", 300.0), ("1h", 3600.0), ("1.5 min", 90.0)]
)
def test_durations(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "60", "0s", "25h", "-5m", "forever", "1d"])
def test_wrong_durations(text):
    with pytest.raises(ValueError, match="write 60s"):
        parse_duration(text)


def test_policies_are_valid_and_the_right_one_is_chosen():
    parsed = [
        Policy.parse(id=n, version=1, position=n, name=row["name"], targets=row["targets"], conditions=row["conditions"],
                     options=row["options"])
        for n, row in enumerate(policies(office=1, sales=2), 1)
    ]  # fmt: skip
    spec = {"tz": "Europe/Kyiv", "week": {"mon": [["09:00", "18:00"]]}}
    Rulebook([Calendar(id=n, version=1, spec=CalendarSpec.parse(spec)) for n in (1, 2)], parsed)

    def chosen(**facts: Any) -> str:
        return select_policy(parsed, {"vip": False, "kind": "ticket", "channel": "email", **facts}).name

    assert chosen() == "Standard support"
    assert chosen(kind="lead") == "Sales leads"
    assert chosen(vip=True, kind="lead") == "VIP"


def test_secrets_differ_between_installations_and_stay_in_one():
    one, other = Secrets(b"1" * 32), Secrets(b"2" * 32)
    assert one.password("olena") == Secrets(b"1" * 32).password("olena")
    assert len({one.password("olena"), one.password("dmytro"), other.password("olena")}) == 3
    assert one.api_token != other.api_token
    assert one.inbox_secret("email") != other.inbox_secret("email")
    assert one.inbox_key("email") != one.inbox_key("form")
