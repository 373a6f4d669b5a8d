"""A real PostgreSQL for the tests: the system's server binaries, or those inside the `pgserver` wheel.

Owns one server (private, or shared by the xdist workers of a run), and making databases in it quickly from a
template. Authentication is "trust", so the server listens on 127.0.0.1 and a socket in a private directory only.
"""

import asyncio
import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from tests.services.process import (
    START_TIMEOUT_S,
    HeldDirectory,
    ServiceUnavailableError,
    find_program,
    free_port,
    pid_from,
    signal_and_wait,
    tail,
)

#: Use this server instead of starting one; its user must be allowed to create databases.
EXISTING = "SWITCHBOARD_TEST_POSTGRES_URL"
_USER = "switchboard"
#: Any number; one template at a time is built in a server.
_TEMPLATE_LOCK = 0x5B_7E4A


def find_binaries() -> Path:
    """Return the directory with `initdb`, `pg_ctl` and `postgres`.

    Raises:
        ServiceUnavailableError: there is none.
    """
    if system := find_program("pg_ctl", "/usr/lib/postgresql/*/bin/pg_ctl"):
        return system.resolve().parent
    bundled = bundled_binaries()
    if bundled.exists():
        return bundled
    raise ServiceUnavailableError(
        f"no PostgreSQL: install Debian's postgresql, or the wheel pgserver (make setup), or set {EXISTING}"
    )


def bundled_binaries() -> Path:
    """Where the `pgserver` wheel keeps its binaries, whether it is installed or not."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return Path(sys.prefix) / "lib" / version / "site-packages" / "pgserver" / "pginstall" / "bin"


class PostgresServer:
    """One PostgreSQL on 127.0.0.1. Use it as a context manager, or call `start` and `stop`.

    `fsync=False` is several times faster; say True for a test that kills the machine's promise of durability.
    `shared=True`: the xdist workers of one run use one server, the first to come starts it and it ends after the
    last; outside xdist it is private. Only a private server can be killed or restarted.
    """

    def __init__(self, *, fsync: bool = False, shared: bool = False, binaries: Path | None = None) -> None:
        self._existing = os.environ.get(EXISTING) if binaries is None and not fsync else None
        self._fsync = fsync
        self._key = os.environ.get("PYTEST_XDIST_TESTRUNUID") if shared else None
        self._binaries = binaries
        self._directory: HeldDirectory | None = None
        self._port = 0
        self._created: list[str] = []

    # -- where it is ---------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The administrator's `postgresql+asyncpg://…` of the database `postgres`; the same over `restart`."""
        if self._existing:
            return _with_driver(self._existing)
        if not self._port:
            raise ServiceUnavailableError("this PostgreSQL is not started")
        return f"postgresql+asyncpg://{_USER}@127.0.0.1:{self._port}/postgres"

    @property
    def owned(self) -> bool:
        """Whether it is ours alone, so that it may be killed and restarted."""
        return not self._existing and self._key is None

    # -- life ----------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start it, join the shared one, or do nothing when the environment names one.

        Raises:
            ServiceUnavailableError: no binaries, or it does not start; the text has its log.
        """
        if self._existing or self._directory:
            return self
        directory = HeldDirectory("pg", key=self._key and self._key[:12])
        try:
            with directory.exclusive():
                address = directory.path / "port"
                if not address.exists():
                    self._create(directory)
                    address.write_text(str(self._port))
                self._port = int(address.read_text())
        except BaseException:
            directory.release()
            self._port = 0
            raise
        self._directory = directory
        return self

    def stop(self, *, immediate: bool = False) -> None:
        """End it and delete its data (a shared one: when the last user stops). Databases made in an existing
        server are dropped.

        Args:
            immediate: without a checkpoint, as after a crash.
        """
        if self._existing:
            for name in reversed(self._created):
                self._drop(name)
            self._created.clear()
            return
        if self._directory is None:
            return
        if self.owned:
            self._end(signal.SIGQUIT if immediate else signal.SIGINT)
        self._directory.release()
        if self.owned:
            self._directory.wait_gone()
        self._directory = None
        self._port = 0

    def kill(self) -> None:
        """SIGKILL to the postmaster: the data directory stays as it is, `restart` recovers from it."""
        self._end(signal.SIGKILL)

    def restart(self, *, immediate: bool = False) -> None:
        """End it if it runs (`immediate`: without a checkpoint) and start it on the same data and port.

        Raises:
            ServiceUnavailableError: it does not come back, or it is not ours.
        """
        self._end(signal.SIGQUIT if immediate else signal.SIGINT)
        path = self._own_directory().path
        if not self._launch(path):
            raise ServiceUnavailableError(f"PostgreSQL did not come back:\n{tail(path / 'db' / 'log')}")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    # -- databases -----------------------------------------------------------------------------------------------

    def create_database(self, *, template: str | None = None) -> str:
        """Create an empty database, or a copy of `template` (see `ensure_template`); return its SQLAlchemy URL.

        May be called from a coroutine: it blocks the loop for some 20-80 ms.
        """
        name = f"sb_{secrets.token_hex(6)}"
        source = f' TEMPLATE "{template}"' if template else " TEMPLATE template0 ENCODING 'UTF8'"
        self._admin(f'CREATE DATABASE "{name}"{source}')
        self._created.append(name)
        return self._url_of(name)

    def drop_database(self, url: str) -> None:
        """Drop a database that `create_database` made, throwing out who is connected."""
        name = urlsplit(url).path.lstrip("/")
        if name in self._created:
            self._created.remove(name)
        self._drop(name)

    def ensure_template(self, name: str, build: Callable[[str], None]) -> str:
        """Return the name of a template database that `build(url)` filled once in this server.

        All workers may call it at the same time; one builds, the others wait. `build` must close its connections.
        When it raises, the half-built database is dropped and the next caller builds again.
        """
        # Somebody's own server lives longer than a run and would keep yesterday's schema: there it is ours alone.
        real = f"{name}_{os.getpid()}_{secrets.token_hex(3)}" if self._existing else name
        if self._existing and (known := next((n for n in self._created if n.startswith(f"{name}_")), None)):
            return known
        _in_thread(self._build_template(real, build))
        if self._existing:
            self._created.append(real)
        return real

    async def _build_template(self, name: str, build: Callable[[str], None]) -> None:
        connection = await asyncpg.connect(_without_driver(self.url))
        try:
            await connection.execute("SELECT pg_advisory_lock($1)", _TEMPLATE_LOCK)
            done = await connection.fetchval("SELECT datistemplate FROM pg_database WHERE datname = $1", name)
            if done:
                return
            # A builder that was killed leaves one without the mark.
            await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            await connection.execute(f"CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING 'UTF8'")
            try:
                # In a thread of its own: a builder may well run an event loop (alembic's env.py does).
                await asyncio.to_thread(build, self._url_of(name))
                await connection.execute(f'ALTER DATABASE "{name}" IS_TEMPLATE true')
            except BaseException:
                await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
                raise
        finally:
            await connection.close()

    def _drop(self, name: str) -> None:
        with contextlib.suppress(asyncpg.InvalidCatalogNameError):
            self._admin(f'ALTER DATABASE "{name}" IS_TEMPLATE false', f'DROP DATABASE "{name}" WITH (FORCE)')

    def _admin(self, *statements: str) -> None:
        _in_thread(_execute(_without_driver(self.url), statements))

    def _url_of(self, name: str) -> str:
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))

    # -- the process ---------------------------------------------------------------------------------------------

    def _own_directory(self) -> HeldDirectory:
        if self._existing:
            raise ServiceUnavailableError(f"the server in {EXISTING} is not ours to end")
        if self._key is not None:
            raise ServiceUnavailableError("a shared server is not ours alone: make one with shared=False")
        if self._directory is None:
            raise ServiceUnavailableError("this PostgreSQL is not started")
        return self._directory

    def _end(self, how: signal.Signals) -> None:
        path = self._own_directory().path
        pid_file = path / "db" / "data" / "postmaster.pid"
        if (pid := pid_from(pid_file, inside=path)) is not None:
            signal_and_wait(pid, how)
        # It and its children have ended; but as long as nobody has collected it, its pid looks taken and a new
        # postmaster would refuse to start.
        pid_file.unlink(missing_ok=True)
        for socket_lock in (path / "db").glob(".s.PGSQL.*"):
            socket_lock.unlink(missing_ok=True)

    def _create(self, directory: HeldDirectory) -> None:
        """Make the data directory and start the server on a free port."""
        path = directory.path
        home = path / "db"
        # Before anything else: a run killed in the middle of initdb must not leave its files either.
        directory.guard(home / "data" / "postmaster.pid", stop_signal=signal.SIGQUIT)
        # Another worker may have failed here before us.
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(mode=0o700)
        if account := _account():
            os.chown(home, account.pw_uid, account.pw_gid)
        binaries = self._binaries or find_binaries()
        if not (binaries / "initdb").exists():
            raise ServiceUnavailableError(f"{binaries / 'initdb'} does not exist")
        self._binaries = _reachable(binaries, path)
        locale = "en_US.UTF-8" if sys.platform == "darwin" else "C.UTF-8"
        self._run(
            *("initdb", "--pgdata", str(home / "data"), "--username", _USER, "--auth", "trust", "--no-sync"),
            *("--encoding", "UTF8", "--locale", locale, "--no-instructions"),
        )
        # Somebody may take the port between our look and the server's bind.
        for _ in range(5):
            self._port = free_port()
            if self._launch(path):
                break
        else:
            raise ServiceUnavailableError(f"PostgreSQL did not start:\n{tail(home / 'log')}")

    def _launch(self, path: Path) -> bool:
        home = path / "db"
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self._port,
            "unix_socket_directories": home,
            "max_connections": 200,
            "shared_buffers": "64MB",
            "jit": "off",
        }
        if not self._fsync:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        options = " ".join(f"-c {key}={value}" for key, value in settings.items())
        try:
            self._run(
                *("pg_ctl", "start", "--pgdata", str(home / "data"), "--log", str(home / "log"), "--silent"),
                *("--wait", "--timeout", str(int(START_TIMEOUT_S)), "--options", options),
            )
        except ServiceUnavailableError:
            if "Address already in use" in tail(home / "log", 50):
                (home / "log").unlink()
                return False
            raise ServiceUnavailableError(f"PostgreSQL did not start:\n{tail(home / 'log')}") from None
        return True

    def _run(self, program: str, *arguments: str) -> None:
        assert self._binaries is not None
        account = _account()
        result = subprocess.run(
            [str(self._binaries / program), *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            # Not pipes: the server that pg_ctl leaves behind would keep them open.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,
            text=True,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C"},
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        )
        if result.returncode != 0:
            raise ServiceUnavailableError(f"{program} failed ({result.returncode}): {result.stderr or ''}")


def _account() -> pwd.struct_passwd | None:
    """Whom to run as: PostgreSQL refuses to run as root. None: as ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise ServiceUnavailableError("we are root, and there is no user postgres or nobody to run PostgreSQL as")


def _reachable(binaries: Path, path: Path) -> Path:
    """The binaries, copied when the other user cannot get at them (a checkout under /root)."""
    account = _account()
    if account is None or all(part.stat().st_mode & 0o001 for part in binaries.parents):
        return binaries
    if binaries.resolve() != bundled_binaries().resolve():
        raise ServiceUnavailableError(f"user {account.pw_name} cannot reach {binaries}")
    # pgserver.libs lies beside the package, and the binaries find it by a relative path.
    site = binaries.parents[2]
    for part in ("pgserver/pginstall", "pgserver.libs"):
        if (site / part).exists():
            shutil.copytree(site / part, path / "wheel" / part, symlinks=True)
    return path / "wheel" / "pgserver" / "pginstall" / "bin"


async def _execute(dsn: str, statements: tuple[str, ...]) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def _in_thread(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end in an event loop and thread of its own: the caller may be inside a loop."""
    with ThreadPoolExecutor(1, thread_name_prefix="postgres-admin") as pool:
        pool.submit(asyncio.run, work).result()


def _with_driver(url: str) -> str:
    return urlunsplit(urlsplit(url)._replace(scheme="postgresql+asyncpg"))


def _without_driver(url: str) -> str:
    return urlunsplit(urlsplit(url)._replace(scheme="postgresql"))
