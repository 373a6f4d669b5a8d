"""What gets into the log when something breaks: where and why, but no secret that a broken frame held."""

import subprocess
import sys

import pytest

_BREAK = """
import logging, structlog
from aiohttp.http_exceptions import BadHttpMessage
from switchboard.cli import configure_logging
from switchboard.settings import Settings

configure_logging(Settings(log_format={form!r}))

def deliver(token):
    raise ValueError("the provider is gone")

try:
    deliver("sec" + "ret-token")
except ValueError:
    structlog.get_logger().exception("delivery_failed")
bad = BadHttpMessage("Invalid header value char: Cookie: sec" + "ret-cookie")
logging.getLogger("aiohttp.server").error("Error handling request from %s", "192.0.2.1", exc_info=bad)
"""


@pytest.mark.parametrize("form", ["console", "json"])
def test_errors_are_told_without_the_values_of_variables(form: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _BREAK.format(form=form)], capture_output=True, text=True, check=True
    )
    assert "delivery_failed" in done.stderr
    assert "ValueError: the provider is gone" in done.stderr and "in deliver" in done.stderr
    assert "Error handling request from 192.0.2.1: BadHttpMessage" in done.stderr
    assert "secret-token" not in done.stderr
    assert "secret-cookie" not in done.stderr
