"""A supervisor at the desk's reports and planning, on a demo with data: the screens say what the API says."""

import asyncio
import csv
import json
import re
import smtplib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from urllib.request import Request, urlopen

import aiohttp
import pytest

from tests.e2e.browser import a_browser, by_test, front_end
from tests.e2e.waiting import PATIENCE_S
from tests.services.demo import DemoProcess

playwright = pytest.importorskip("playwright.async_api", reason="NOT TESTED: playwright is not installed")

KINDS = ("sla", "service", "handling", "resolution", "backlog", "callbacks", "fairness")
TRAFFIC_S = 120
_CYRILLIC = re.compile(r"[а-яіїєґ]", re.IGNORECASE)
#: all rows of the report's tables, as they are in the page: what each is about, and its numbers by column
_TABLE = """() => [...document.querySelectorAll('[data-test=report-table] :is(tbody, tfoot) tr')].map(tr => ({
    about: [...tr.querySelectorAll('th')].map(th => th.innerText.trim()),
    cells: Object.fromEntries([...tr.querySelectorAll('td')].map(td => [td.dataset.column, [td.dataset.value, td.innerText.trim()]])),
}))"""


@dataclass
class Office:
    """The running demo, and who may log in."""

    url: str
    token: str
    passwords: dict[str, str]

    async def get(self, path: str, *, token: str | None = None) -> Any:
        headers = {"Authorization": f"Bearer {token or self.token}"}
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.get(f"{self.url}/api/v1{path}") as answer,
        ):
            assert answer.status == 200, await answer.text()
            return await answer.json()


def leave_work(told: dict[str, Any]) -> None:
    """What the screens need in any case: a callback in an hour, nobody at work, and a request that nobody reads."""

    def send(method: str, path: str, body: Any = None, **headers: str) -> Any:
        headers |= {"Content-Type": "application/json", "X-Requested-With": "switchboard"}
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(f"{told['url']}/api/v1{path}", data, headers, method=method)) as answer:
            return json.loads(answer.read() or b"null"), answer.headers.get("Set-Cookie", "").split(";")[0]

    token = {"Authorization": f"Bearer {told['api_token']}"}
    contact = send("GET", "/contacts", **token)[0]["items"][0]
    since, until = (
        (datetime.now(UTC) + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:00.000Z") for hours in (1, 2)
    )
    wish = {"contact_id": contact["id"], "phone": "+380671234567", "window_start": since, "window_end": until}
    send("POST", "/callbacks", wish, **token)
    for who in told["agents"]:
        _, cookie = send("POST", "/auth/login", {"email": who["email"], "password": who["password"]})
        send("PUT", "/me/presence", {"presence": "offline"}, Cookie=cookie)
    inbox = next(each for each in told["inboxes"] if each["channel"] == "email")
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "late@mail.example", inbox["address"], "Is anybody there?"
    mail.set_content("My flight is tonight.")
    with smtplib.SMTP("127.0.0.1", inbox["smtp_port"]) as smtp:
        smtp.send_message(mail)


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """A demo whose customers have been served for some seconds; then everybody went home."""
    front_end()
    demo = DemoProcess(tmp_path_factory.mktemp("demo"), "--json", "--traffic", "4/s", "--for", "3s")
    try:
        told = demo.description()
        demo.wait_for(lambda: any(line.startswith("traffic over") for line in demo.err), TRAFFIC_S)
        leave_work(told)
        yield Office(
            told["url"],
            told["api_token"],
            {who["role"]: f"{who['email']} {who['password']}" for who in told["agents"]},
        )
        assert demo.troubles() == []
    finally:
        demo.kill()


@asynccontextmanager
async def at_desk(office: Office, home: Path, role: str) -> AsyncIterator[Any]:
    """The desk of somebody who has logged in. Nothing may go wrong in his browser's console."""
    errors: list[str] = []
    async with (
        playwright.async_playwright() as play,
        a_browser(play, home, 1280, 850, errors) as page,
    ):
        email, password = office.passwords[role].split()
        await page.goto(f"{office.url}/desk")
        await by_test(page, "login-email").fill(email)
        await by_test(page, "login-password").fill(password)
        await by_test(page, "login-submit").click()
        await by_test(page, "nav-inbox").wait_for()
        yield page
    assert errors == []


async def open_report(page: Any, office: Office, kind: str, question: str) -> tuple[Any, list[Any]]:
    """Opens a report by its address. Returns the API's answer that the page got, and the table it made of it."""
    place = "/api/v1/callbacks/report" if kind == "callbacks" else f"/api/v1/reports/{kind}"
    async with page.expect_response(lambda r: urlsplit(r.url).path == place) as waited:
        await page.goto(f"{office.url}/desk/reports/{kind}?{question}")
    answer = await (await waited.value).json()
    await page.locator(f"[data-test=report][data-kind={kind}][data-loading=false]").wait_for()
    return answer, await page.evaluate(_TABLE)


def period(kind: str) -> str:
    """The last days; of callbacks, which are counted when they are promised for, the next ones as well."""
    if kind != "callbacks":
        return "period=30d"
    since, until = (datetime.now(UTC).date() + timedelta(days=ahead) for ahead in (-9, 3))
    return f"period=custom&from={since}&to={until}"


def rows_of(kind: str, answer: Any) -> list[dict[str, Any]]:
    """The rows that the page must show, in order, the total last."""
    if kind == "fairness":
        return [row for group in answer["groups"] for row in group["rows"]]
    return [*answer["rows"], answer["total"]]


def check_cell(column: str, value: Any, raw: str, shown: str) -> None:
    """That a cell holds this value, and shows it as its kind of number."""
    where = f"{column}: {value!r} is shown as {shown!r}"
    if value is None:
        assert raw == "", where
        assert shown.startswith("–") and len(shown) > 10, f"{where}: a dash, and why"
    elif isinstance(value, bool):
        assert (raw, shown) == (str(value).lower(), "Yes" if value else "No"), where
    elif isinstance(value, str):
        assert raw == value and shown, where
    else:
        assert float(raw) == value, where
        if column.endswith("_pct"):
            assert shown.endswith("%") and float(shown[:-1]) == pytest.approx(value, abs=0.051), where
        elif column.endswith(("_s", "_ms")):
            units = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
            parts = re.findall(r"([\d.]+) ([smhd])\b", shown)
            seconds = value / 1000 if column.endswith("_ms") else value
            assert parts, where
            smallest = 0.1 if parts == [(parts[0][0], "s")] else units[parts[-1][1]]
            assert sum(float(n) * units[u] for n, u in parts) == pytest.approx(seconds, abs=smallest), where
        else:
            assert float(shown.replace(",", "")) == pytest.approx(value, abs=0.0051), where


async def test_reports_say_what_the_api_says(office: Office, tmp_path: Path) -> None:
    async with at_desk(office, tmp_path / "browser", "supervisor") as page:
        await by_test(page, "nav-reports").click()
        await page.locator("[data-test=report][data-loading=false]").wait_for()
        for kind in KINDS:
            answer, table = await open_report(page, office, kind, f"{period(kind)}&by=team&all=1")
            expected = rows_of(kind, answer)
            assert len(expected) > 1, f"{kind}: the demo has nothing to show"
            assert len(table) == len(expected), kind
            for row, drawn in zip(expected, table, strict=True):
                about = row.get("team") or row.get("agent") or row.get("group")
                name = about["name"] if isinstance(about, dict) else about
                name = "None" if name in (None, "-") else name
                assert drawn["about"] == ["Total" if row is expected[-1] and kind != "fairness" else name], (
                    kind
                )
                numbers = {
                    k: v for k, v in row.items() if k not in ("start", "end", "team", "agent", "group")
                }
                if kind == "sla":
                    numbers.setdefault("breached_open", None)
                assert set(drawn["cells"]) == set(numbers), kind
                for column, value in numbers.items():
                    check_cell(column, value, *drawn["cells"][column])

        # Somebody else, by a program and with the same question, is told the same.
        _, table = await open_report(page, office, "sla", "period=7d&by=team,metric&bucket=day")
        href = await by_test(page, "report-csv").get_attribute("href")
        assert href is not None
        theirs = await office.get(href.removeprefix("/api/v1").replace(".csv?", "?"))
        assert [int(r["cells"]["decided"][0]) for r in table] == [
            r["decided"] for r in rows_of("sla", theirs)
        ]

        # What a number is, where it stands.
        await by_test(page, "explain-met_pct").click()
        assert await by_test(page, "explanation").inner_text() == theirs["variants"]["met_pct"]
        await page.keyboard.press("Escape")

        # The spreadsheet of the same question.
        async with page.expect_download() as coming:
            await by_test(page, "report-csv").click()
        file = tmp_path / "report.csv"
        download = await coming.value
        await download.save_as(file)
        assert download.suggested_filename.startswith("sla-")
        lines = list(csv.reader(file.read_text(encoding="utf-8-sig").splitlines()))
        at = lines[0].index("decided")
        numbers = [line[at] for line in lines[1:] if len(line) == len(lines[0])]
        assert numbers == [r["cells"]["decided"][0] for r in table]


async def test_a_link_shows_the_same_report(office: Office, tmp_path: Path) -> None:
    async with at_desk(office, tmp_path / "browser", "supervisor") as page:
        await by_test(page, "nav-reports").click()
        await by_test(page, "report-resolution").click()
        await by_test(page, "report-period").click()
        await page.get_by_text("Last 7 days", exact=True).click()
        await by_test(page, "report-team").click()
        async with page.expect_response(lambda r: "/reports/resolution?" in r.url and "team_id=" in r.url):
            await page.get_by_text("Support", exact=True).last.click()
        await page.locator("[data-test=report][data-kind=resolution][data-loading=false]").wait_for()
        address = urlsplit(page.url)
        assert address.path == "/desk/reports/resolution"
        asked = dict(parse_qsl(address.query))
        assert asked["period"] == "7d" and asked["team"].isdigit()
        before = await page.evaluate(_TABLE)
        assert [row["about"] for row in before] == [["Support"], ["Total"]]
        async with page.expect_response(lambda r: "/reports/resolution?" in r.url):
            await page.goto(page.url)
        await page.locator("[data-test=report][data-kind=resolution][data-loading=false]").wait_for()
        assert await page.evaluate(_TABLE) == before

        # Nothing to show is said, a broken question as well.
        await page.goto(f"{office.url}/desk/reports/resolution?period=custom&from=2020-01-01&to=2020-01-31")
        await by_test(page, "report-empty").wait_for()
        await page.goto(f"{office.url}/desk/reports/sla?period=custom&from=2020-01-01&to=nonsense")
        await by_test(page, "report-problem").wait_for()


async def test_every_word_is_translated(office: Office, tmp_path: Path) -> None:
    async with at_desk(office, tmp_path / "browser", "supervisor") as page:
        for language in ("uk", "ru"):
            await page.evaluate(f"localStorage.setItem('switchboard.language', '{language}')")
            for kind in KINDS:
                answer, _ = await open_report(page, office, kind, f"{period(kind)}&all=1")
                heads = await page.locator("[data-test=report-table] thead th").all_inner_texts()
                names = await page.locator("[data-test=report-definitions] dt").all_text_contents()
                said = await page.locator("[data-test=report-definitions] dd").all_text_contents()
                assert len(said) == len(answer["variants"]) if kind != "fairness" else said
                untranslated = [x for x in (*heads, *names, *said) if x and not _CYRILLIC.search(x)]
                assert untranslated == [], (language, kind)


async def test_planning_says_what_the_api_says(office: Office, tmp_path: Path) -> None:
    async with at_desk(office, tmp_path / "browser", "supervisor") as page:
        async with page.expect_response("**/api/v1/planning/forecast?*") as waited:
            await by_test(page, "nav-planning").click()
        forecast = await (await waited.value).json()
        await by_test(page, "forecast").wait_for()
        for team in forecast["teams"]:
            card = page.locator(f"[data-test=forecast-team-card][data-team='{team['team']['id']}']")
            rows = await card.locator("[data-test=forecast-row]").evaluate_all(
                "trs => trs.map(tr => Object.fromEntries([...tr.querySelectorAll('[data-column]')].map(td => "
                "[td.dataset.column, Number(td.dataset.value)])))"
            )
            assert len(rows) == len(team["intervals"]) == 25 or len(rows) == len(team["intervals"]) == 24
            for row, interval in zip(rows, team["intervals"], strict=True):
                staffing = {k: interval[k] for k in ("needed", "staff", "planned", "short")}
                assert row == interval["arrivals"] | staffing
            assert await card.locator("[data-test=short-now]").count() == (1 if team["short_now"] else 0)
            assert await card.locator("[data-test=worst]").count() == (1 if team["worst"] else 0)

        async with asyncio.timeout(PATIENCE_S):
            while not any(i["inquiry"] for i in (await office.get("/planning/at-risk?hours=48"))["items"]):
                await asyncio.sleep(0.5)
        async with page.expect_response("**/api/v1/planning/at-risk?*") as waited:
            await page.goto(f"{office.url}/desk/planning/risk?hours=48")
        risk = await (await waited.value).json()
        await by_test(page, "risk").wait_for()
        assert await by_test(page, "risk-row").count() == len(risk["items"])
        why = await page.locator("[data-test=risk-row] td:last-child").all_inner_texts()
        assert all(len(text) > 20 for text in why)
        first = next(item for item in risk["items"] if item["inquiry"])
        await by_test(page, "risk-link").first.click()
        await by_test(page, "thread").wait_for()
        assert urlsplit(page.url).path == f"/desk/inbox/{first['inquiry']['id']}"


async def test_a_what_if_is_asked_and_answered(office: Office, tmp_path: Path) -> None:
    async with at_desk(office, tmp_path / "browser", "supervisor") as page:
        await page.goto(f"{office.url}/desk/planning/whatif")
        await by_test(page, "whatif-ask").click()
        await by_test(page, "whatif-problem").wait_for()
        await by_test(page, "whatif-today").click()
        await by_test(page, "whatif-add").click()
        await by_test(page, "whatif-add-team").click()
        await page.get_by_text("Support", exact=True).last.click()
        await by_test(page, "whatif-count").fill("2")
        await by_test(page, "whatif-count").press("Tab")
        await by_test(page, "whatif-ask").click()
        await page.locator("[data-test=whatif-run][data-state=done]").wait_for()
        run = dict(parse_qsl(urlsplit(page.url).query))["run"]
        told = await office.get(f"/planning/what-if/{run}")
        assert told["question"]["change"] == {"agents": {"add": [{"teams": ["Support"], "count": 2}]}}
        channels = [(t["team"]["id"], c) for t in told["answer"]["teams"] for c in t["channels"]]
        assert channels
        for team_id, channel in channels:
            drawn = page.locator(
                f"[data-test=whatif-channel][data-team='{team_id}'][data-channel='{channel['channel']}']"
            )
            for name in ("answered", "offered"):
                figure = drawn.locator(f"[data-figure={name}] td[data-value]")
                values = await figure.evaluate_all("tds => tds.map(td => Number(td.dataset.value))")
                assert values == [channel["as_it_was"][name], channel["changed"][name]]
            verdict = await drawn.locator("[data-figure=answered]").get_attribute("data-verdict")
            gained, half = channel["difference"]["answered"], channel["half_width"]["answered"]
            assert verdict == (
                "same"
                if gained == 0
                else "chance"
                if abs(gained) <= half
                else "better"
                if gained > 0
                else "worse"
            )
        # It stands among the earlier ones, and what cannot be asked is refused with its place.
        await by_test(page, "whatif-new").click()
        await page.locator(f"[data-test=whatif-earlier][data-id='{run}']").wait_for()
        await by_test(page, "whatif-by-hand").click()
        await by_test(page, "whatif-json").fill(json.dumps({"teams": []})[:-1])
        await by_test(page, "whatif-ask").click()
        await by_test(page, "whatif-problem").wait_for()


async def test_an_agent_neither_sees_nor_opens_them(office: Office, tmp_path: Path) -> None:
    email, password = office.passwords["agent"].split()
    headers = {"X-Requested-With": "switchboard"}
    async with aiohttp.ClientSession(headers=headers, cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        async with http.post(
            f"{office.url}/api/v1/auth/login", json={"email": email, "password": password}
        ) as r:
            assert r.status == 200
        for path in (
            "/reports/sla",
            "/reports/sla.csv",
            "/reports/fairness",
            "/callbacks/report",
            "/planning/forecast",
        ):
            async with http.get(f"{office.url}/api/v1{path}") as r:
                assert r.status == 403, path
    async with at_desk(office, tmp_path / "browser", "agent") as page:
        assert await by_test(page, "nav-callbacks").count() == 1
        assert await by_test(page, "nav-reports").count() == 0
        assert await by_test(page, "nav-planning").count() == 0
        for path in ("reports/service", "planning/whatif"):
            await page.goto(f"{office.url}/desk/{path}")
            await page.wait_for_url("**/desk/inbox")
            assert await by_test(page, "report").count() == 0
