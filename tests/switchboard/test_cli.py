"""What an operator does wrong is told in a line that says what to do, never in a traceback."""

import subprocess
import sys
from pathlib import Path

import pytest

from switchboard.process import sole_user

_ROOT = Path(__file__).resolve().parents[2]


def switchboard(directory: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "switchboard.cli", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(_ROOT),
            "SWITCHBOARD_DATA_DIR": str(directory),
            **{f"SWITCHBOARD_{name}": value for name, value in settings.items()},
        },
    )


def told(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.strip().splitlines()
    return line


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"DATABASE_URL": "mysql://a"}, "Error: SWITCHBOARD_DATABASE_URL: must begin with postgresql"),
        ({"CONFIG": "/nowhere/at/all.toml"}, "Error: SWITCHBOARD_CONFIG: /nowhere/at/all.toml: "),
        ({"PORT": "http"}, "Error: SWITCHBOARD_PORT: "),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, settings: dict[str, str], said: str) -> None:
    assert told(switchboard(tmp_path, "doctor", **settings)).startswith(said)


@pytest.mark.parametrize("content", [b"port = [", b"\xff\xfe"])
def test_a_configuration_that_is_no_toml_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "switchboard.toml"
    file.write_bytes(content)
    line = told(switchboard(tmp_path, "doctor", CONFIG=str(file)))
    assert line.startswith(f"Error: SWITCHBOARD_CONFIG: {file}: ")


def test_commands_say_that_the_database_must_be_migrated(tmp_path: Path) -> None:
    line = told(switchboard(tmp_path, "admin", "token", "--email", "ann@example.com"))
    assert line == "the database is not migrated: run `switchboard migrate` first"


@pytest.mark.parametrize("command", ["demo", "migrate"])
def test_a_file_that_is_no_database_is_told(tmp_path: Path, command: str) -> None:
    (tmp_path / "switchboard.db").write_bytes(b"my letters" * 100)
    arguments = ["demo", "--port", "0", "--data", str(tmp_path)] if command == "demo" else [command]
    assert told(switchboard(tmp_path, *arguments)).endswith("file is not a database")


def test_two_demos_do_not_share_a_directory(tmp_path: Path) -> None:
    with sole_user(tmp_path, "demo"):
        line = told(switchboard(tmp_path, "demo", "--port", "0", "--data", str(tmp_path)))
    assert line == f"cannot start: another demo is running in {tmp_path}"
    with sole_user(tmp_path, "demo"):
        pass  # the first one has let go of it
