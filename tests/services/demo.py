"""A running `switchboard demo` for tests: a process of its own, whose output is collected as it comes."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

START_S, STOP_S = 60, 20
#: a demo of somebody's settings would not be the newcomer's
ENV = {k: v for k, v in os.environ.items() if not k.startswith("SWITCHBOARD_")}


class DemoProcess:
    """A running `switchboard demo`; lines of its streams are collected as they come."""

    def __init__(self, data: Path, *arguments: str) -> None:
        command = [
            sys.executable,
            "-m",
            "switchboard.cli",
            "demo",
            "--port",
            "0",
            "--data",
            str(data),
            *arguments,
        ]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENV,
            start_new_session=True,
        )
        self.out: list[str] = []
        self.err: list[str] = []
        self.changed = threading.Condition()
        self.threads = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for thread in self.threads:
            thread.start()

    def _read(self, stream: Any, lines: list[str]) -> None:
        for line in stream:
            with self.changed:
                lines.append(line.rstrip("\n"))
                self.changed.notify_all()
        with self.changed:
            self.changed.notify_all()

    def wait_for(self, found: Callable[[], Any], timeout_s: float = START_S) -> Any:
        """What `found` returns once it is true. Fails with the log if the process ends or time is over."""
        deadline = time.monotonic() + timeout_s
        with self.changed:
            while not (value := found()):
                ended = self.process.poll() is not None and not any(t.is_alive() for t in self.threads)
                if ended or time.monotonic() > deadline:
                    pytest.fail("the demo did not get there:\n" + "\n".join(self.err[-40:] + self.out[-10:]))
                self.changed.wait(0.2)
        return value

    def description(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.wait_for(lambda: self.out and self.out[0]))
        return told

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(STOP_S)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(STOP_S)
        for thread in self.threads:
            thread.join(STOP_S)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def troubles(self) -> list[str]:
        """Errors, and whatever went wrong with the demo's own people."""
        return [
            x for x in self.err if re.search(r"\[(error|critical) |\[warning .*demo_|Traceback|Exception", x)
        ]
