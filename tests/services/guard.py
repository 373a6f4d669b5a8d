"""Waits for the last holder of a directory, then ends the server in it and deletes it (see `process.py`).

Run by path with the standard library only, so it starts in some 30 ms: `guard.py DIRECTORY PID_FILE SIGNAL`.
It leaves its caller's session at once: neither Ctrl-C nor the end of the run ends it before its work is done.
"""

import fcntl
import os
import shutil
import signal
import sys
import time
from pathlib import Path

GRACE_S = 5.0


def main(directory: Path, pid_file: Path, stop_signal: int) -> None:
    lock = os.open(directory / "holders", os.O_RDWR)
    if os.fork() > 0:
        os._exit(0)
    os.setsid()
    for stream in range(3):
        os.dup2(os.open(os.devnull, os.O_RDWR), stream)
    fcntl.flock(lock, fcntl.LOCK_EX)
    # After a failed start there can be a second guard: the first one has done it all.
    if not (directory / "holders").exists():
        return
    _end(directory, pid_file, stop_signal)
    # Moved first: a newcomer with the same key then makes a fresh one instead of meeting a half-deleted one.
    doomed = directory.with_name(f"{directory.name}.{os.getpid()}.gone")
    directory.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _end(directory: Path, pid_file: Path, stop_signal: int) -> None:
    for how in (stop_signal, signal.SIGKILL):
        deadline = time.monotonic() + GRACE_S
        while (pid := _pid(directory, pid_file)) is not None:
            os.kill(pid, how)
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)


def _pid(directory: Path, pid_file: Path) -> int | None:
    """The server's pid while it is alive and is still ours (a pid may have been reused by a stranger)."""
    try:
        pid = int(pid_file.read_text().split("\n", 1)[0])
        os.kill(pid, 0)
        if sys.platform == "linux":
            return pid if Path(f"/proc/{pid}/cwd").readlink().is_relative_to(directory) else None
    except (OSError, ValueError):
        return None
    return pid


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
