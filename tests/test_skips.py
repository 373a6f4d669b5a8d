"""The skip report: loud always, fatal in CI, under xdist as well."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TESTS = """
import pytest

def test_passes():
    pass

@pytest.mark.skip(reason="no Redis here")
def test_skipped():
    pass

@pytest.mark.xfail(reason="known", strict=True)
def test_known():
    raise ValueError
"""


def run(folder: Path, *arguments: str, ci: str = "") -> subprocess.CompletedProcess[str]:
    (folder / "pytest.ini").write_text("[pytest]\n")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.skips", "-p", "xdist", *arguments],
        check=False,
        cwd=folder,
        env=clean | {"PYTHONPATH": str(ROOT), "CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_a_skip_is_listed_with_its_reason_and_fails_ci(tmp_path: Path, workers: tuple[str, ...]) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "test_whole.py").write_text('import pytest\npytest.importorskip("no_such_module_here")\n')
    relaxed, strict = run(tmp_path, *workers), run(tmp_path, *workers, ci="true")
    assert relaxed.returncode == 0, relaxed.stdout
    assert strict.returncode == 1, strict.stdout
    for result in (relaxed, strict):
        assert "NOT TESTED: 2 skipped" in result.stdout
        assert re.search(r"1 x no Redis here\n +test_it.py::test_skipped\n", result.stdout)
        assert "test_whole.py (the whole file)" in result.stdout
        assert "test_known" not in result.stdout
        # pytest's own closing line stays the last one.
        assert "1 passed, 2 skipped, 1 xfailed" in result.stdout.strip().splitlines()[-1]


def test_nothing_skipped_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_passes():\n    pass\n")
    result = run(tmp_path, ci="true")
    assert result.returncode == 0
    assert "NOT TESTED" not in result.stdout
