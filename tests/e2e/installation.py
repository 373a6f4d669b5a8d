"""A real installation made of real processes, for tests that play whole stories: embedded or scaled.

Starts `switchboard` as an operator would, on free loopback ports, with a clock file through which all its processes'
time can be moved. Processes are ended by their own ids.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Process:
    """One `switchboard …` process with its log file."""

    command: tuple[str, ...]
    env: Mapping[str, str]
    log: Path
    popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as out:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "switchboard.cli", *self.command],
                cwd=ROOT,
                env=dict(self.env),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    def kill(self) -> None:
        """SIGKILL, as bad luck does it."""
        if self.popen is not None:
            self.popen.kill()
            self.popen.wait()
            self.popen = None

    def stop(self, timeout: float = 20) -> int:
        if self.popen is None:
            return 0
        self.popen.send_signal(signal.SIGTERM)
        try:
            code = self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            code = self.popen.wait()
        self.popen = None
        return code

    def text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


@dataclass
class Installation:
    """`urls` are the web processes' addresses; `mail` the LMTP and SMTP ports."""

    directory: Path
    database_url: str
    redis_url: str | None
    webs: list[Process] = field(default_factory=list)
    workers: list[Process] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    lmtp_port: int = 0
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def clock_file(self) -> Path:
        return self.directory / "clock"

    @property
    def processes(self) -> list[Process]:
        return [*self.webs, *self.workers]

    @property
    def url(self) -> str:
        return self.urls[0]

    def environment(self) -> dict[str, str]:
        env = {k: v for k, v in os.environ.items() if not k.startswith("SWITCHBOARD_")}
        env |= {
            "SWITCHBOARD_DATA_DIR": str(self.directory),
            "SWITCHBOARD_DATABASE_URL": self.database_url,
            "SWITCHBOARD_SECRET_KEY": "k" * 40,
            "SWITCHBOARD_CLOCK_FILE": str(self.clock_file),
            "SWITCHBOARD_LOG_FORMAT": "json",
            "PYTHONPATH": str(ROOT),
            **self.settings,
        }
        if self.redis_url:
            env["SWITCHBOARD_REDIS_URL"] = self.redis_url
        return env

    def advance(self, ms: int) -> None:
        """Move the time of all processes forward."""
        now = int(self.clock_file.read_text() or "0") if self.clock_file.exists() else 0
        draft = self.clock_file.with_suffix(".new")
        draft.write_text(str(now + ms))
        draft.replace(self.clock_file)

    async def start(self) -> None:
        """Start all processes (again) and wait until they answer."""
        env = self.environment()
        if not self.webs and not self.workers:
            if self.redis_url:
                self.webs = [
                    self._process("web", n, ("web", "--port", str(_free_port())), env) for n in (1, 2)
                ]
                self.lmtp_port = _free_port()
                with_mail = env | {"SWITCHBOARD_LMTP_PORT": str(self.lmtp_port)}
                self.workers = [
                    self._process("worker", 1, ("worker",), with_mail),
                    self._process("worker", 2, ("worker",), env),
                ]
            else:
                self.lmtp_port = _free_port()
                with_mail = env | {"SWITCHBOARD_LMTP_PORT": str(self.lmtp_port)}
                self.webs = [self._process("serve", 1, ("serve", "--port", str(_free_port())), with_mail)]
            self.urls = [f"http://127.0.0.1:{p.command[-1]}" for p in self.webs]
        for process in self.processes:
            if process.popen is None:
                process.start()
        await self.until_ready()

    async def until_ready(self) -> None:
        async with aiohttp.ClientSession() as http:
            for process, url in zip(self.webs, self.urls, strict=True):
                await _until(lambda url=url: _answers(http, f"{url}/readyz"), process)
        if self.lmtp_port:
            await _until(lambda: _accepts(self.lmtp_port), (self.workers or self.webs)[0])

    def _process(self, name: str, number: int, command: tuple[str, ...], env: Mapping[str, str]) -> Process:
        return Process(command=command, env=env, log=self.directory / f"{name}-{number}.log")

    def stop(self) -> list[int]:
        return [p.stop() for p in self.processes]

    def kill(self) -> None:
        for process in self.processes:
            process.kill()

    def logs(self) -> str:
        return "\n".join(p.text() for p in self.processes)

    def state(self) -> str:
        """Who runs, and what each said last: for messages of failed tests."""
        return "\n".join(
            f"{' '.join(p.command)}: {'down' if p.popen is None else p.popen.poll() or 'up'}\n{p.text()[-2000:]}"
            for p in self.processes
        )


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _answers(http: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with http.get(url, timeout=aiohttp.ClientTimeout(total=2)) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


async def _accepts(port: int) -> bool:
    try:
        _reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def _until(condition: Any, process: Process, *, timeout: float = 60) -> None:
    async with asyncio.timeout(timeout):
        while not await condition():
            if process.popen is None or process.popen.poll() is not None:
                raise RuntimeError(
                    f"{process.command} ended with {process.popen and process.popen.returncode}:\n{process.text()[-4000:]}"
                )
            await asyncio.sleep(0.05)


@asynccontextmanager
async def installation(
    directory: Path, database_url: str, redis_url: str | None, **settings: str
) -> AsyncIterator[Installation]:
    """A started installation on a migrated database; ended at the end of the block."""
    directory.mkdir(parents=True, exist_ok=True)
    made = Installation(
        directory=directory, database_url=database_url, redis_url=redis_url, settings=settings
    )
    try:
        await made.start()
        yield made
    finally:
        made.stop()
