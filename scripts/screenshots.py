# ruff: noqa: INP001 - a script, not a package
"""Makes docs/images/*.png: the desk and the wallboard of a demo that is being played.

    .venv/bin/python scripts/screenshots.py

Starts a demo of its own in a temporary directory and looks at it with the system's Chromium (CHROMIUM=/path names
another). Ends both.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
MAX_BYTES = 300_000
SIZE = {"width": 1360, "height": 850}


@contextmanager
def demo(data: Path) -> Iterator[dict[str, Any]]:
    """A demo with customers, as its first line of JSON tells it."""
    command = [sys.executable, "-m", "switchboard.cli", "demo", "--port", "0", "--data", str(data), "--json"]
    command += ["--traffic", "2/s", "--for", "10m"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:  # noqa: S603 - ours
        try:
            line = process.stdout.readline() if process.stdout is not None else ""
            if not line:
                raise SystemExit("the demo did not start")
            yield json.loads(line)
        finally:
            process.terminate()


def log_in(browser: Browser, told: dict[str, Any], name: str, path: str) -> Page:
    """A page of the desk, logged in as this agent, in English."""
    who = next(each for each in told["agents"] if each["name"] == name)
    context = browser.new_context(viewport=SIZE, locale="en-GB", device_scale_factor=1)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(f"{told['url']}/desk/login")
    page.locator("[data-test=login-email]").fill(who["email"])
    page.locator("[data-test=login-password]").fill(who["password"])
    page.locator("[data-test=login-submit]").click()
    page.wait_for_url(lambda url: "login" not in url)
    page.evaluate(
        "fetch('/api/v1/me', {method: 'PUT', body: '{\"language\": \"en\"}', headers: {"
        "'Content-Type': 'application/json', 'X-Requested-With': 'switchboard'}})"
    )
    page.goto(f"{told['url']}{path}")
    return page


def save(page: Page, name: str) -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    path = IMAGES / name
    if page.locator("[data-test=notice]").count():
        raise SystemExit(f"the desk complains: {page.locator('[data-test=notice]').first.inner_text()}")
    page.screenshot(path=path)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise SystemExit(
            f"{path} has {size} bytes, more than {MAX_BYTES}: choose another moment or a smaller window"
        )
    print(f"{path.relative_to(ROOT)}: {size} bytes")  # noqa: T201 - a script


def main() -> None:
    parser = argparse.ArgumentParser(description="pictures of the desk for the README")
    parser.add_argument("--wait", type=float, default=35.0, help="seconds of traffic before the pictures")
    arguments = parser.parse_args()
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, demo(Path(folder)) as told, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        supervisor = log_in(browser, told, "Iryna Koval", "/desk/inbox")
        supervisor.wait_for_timeout(arguments.wait * 1000)
        wall = log_in(browser, told, "Iryna Koval", "/desk/wall")
        wall.wait_for_timeout(3_000)
        save(wall, "wall.png")
        _open_a_talk(supervisor)
        save(supervisor, "desk.png")
        browser.close()


def _open_a_talk(page: Page) -> None:
    """The first request in the list with an answer in it."""
    page.locator("[data-test=scope-all]").click()
    rows = page.locator("[data-test=inquiry-row]")
    rows.first.wait_for()
    for number in range(min(rows.count(), 8)):
        rows.nth(number).click()
        page.wait_for_timeout(1_200)
        if page.locator("[data-test=message]").count() >= 4:
            return


if __name__ == "__main__":
    main()
