"""A real browser for tests: Debian's Chromium, with nothing of the machine's, and whatever goes wrong on its page."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.installation import ROOT

#: nothing but our own server may be asked for anything, and nothing of the machine's is used
FLAGS = (
    "--no-sandbox",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-pings",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-domain-reliability",
    "--disable-client-side-phishing-detection",
    "--disable-breakpad",
    "--metrics-recording-only",
    "--disable-dev-shm-usage",
    "--password-store=basic",
    "--disable-features=Translate,OptimizationHints,MediaRouter,AutofillServerCommunication,CertificateTransparencyComponentUpdater",
)
#: for a machine that is badly overloaded; milliseconds
PATIENCE_MS = 60_000


def chromium() -> str:
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("NOT TESTED: no Chromium here; install Debian's chromium or set CHROMIUM")
    return found


def front_end() -> None:
    """Skips the test where there is nothing to look at, or nothing to look with."""
    chromium()
    built = ("api/static/desk/index.html", "api/static/widget/widget.js")
    if not all((ROOT / each).exists() for each in built):
        pytest.skip("NOT TESTED: the front end is not built; run make setup")


@asynccontextmanager
async def a_browser(play: Any, home: Path, width: int, height: int, errors: list[str]) -> AsyncIterator[Any]:
    """One page of a fresh browser; what goes wrong on it is added to `errors`."""
    context = await play.chromium.launch_persistent_context(
        str(home),
        executable_path=chromium(),
        args=list(FLAGS),
        headless=True,
        locale="en-GB",
        timezone_id="Europe/Kyiv",
        viewport={"width": width, "height": height},
    )
    context.set_default_timeout(PATIENCE_MS)
    page = context.pages[0] if context.pages else await context.new_page()
    page.on(
        "console",
        lambda m: (
            errors.append(f"{m.type}: {m.text} ({m.location.get('url')})") if m.type == "error" else None
        ),
    )
    page.on("pageerror", lambda e: errors.append(f"exception: {e}"))
    try:
        yield page
    finally:
        await context.close()


def by_test(where: Any, name: str) -> Any:
    return where.locator(f"[data-test={name}]")
