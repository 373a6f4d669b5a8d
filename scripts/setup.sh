#!/usr/bin/env bash
# Makes .venv with the locked packages and builds the front end; does nothing that is already done.
# Needs Python >= 3.11 with venv; no root, no Node, no PostgreSQL. PYTHON=… chooses the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset CDPATH PYTHONHOME PYTHONPATH VIRTUAL_ENV

say() { printf '==> %s\n' "$*"; }

hash_of() { # the hash of names and contents of the files named on stdin, separated by NUL
  if command -v sha256sum >/dev/null; then
    sort -z | xargs -0 sha256sum | sha256sum | cut -c1-16
  else
    sort -z | xargs -0 shasum -a 256 | shasum -a 256 | cut -c1-16
  fi
}

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
    if [ -n "$candidate" ] && command -v "$candidate" >/dev/null &&
      "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  echo "Python 3.11 or newer was not found. Install it, or name it: make setup PYTHON=/path/to/python3" >&2
  return 1
}

setup_python() {
  local stamp uv_lock uv_version
  # The path is part of the hash: a moved or copied checkout has an environment that points elsewhere.
  stamp=".venv/.setup-$( (printf '%s\0' pyproject.toml requirements.lock | hash_of; pwd) | cksum | cut -d' ' -f1)"
  if [ -f "$stamp" ] && .venv/bin/python -c '' 2>/dev/null; then
    return
  fi
  # The programs in an environment name its place in their first line: after a move it must be made anew.
  if ! { grep -qF "$PWD/.venv" .venv/bin/activate && .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' &&
    .venv/bin/python -m pip --version >/dev/null; } 2>/dev/null; then
    local python
    python=$(find_python)
    say "Making .venv with $python"
    if ! "$python" -m venv --clear .venv; then
      echo "$python has no working venv module (Debian: apt-get install python3-venv)." >&2
      rm -rf .venv
      return 1
    fi
  fi
  rm -f .venv/.setup-*
  # Even the installer is checked against the lock's hashes.
  uv_lock=$(awk '/^uv==/ {p=1} p {print} p && !/\\$/ {exit}' requirements.lock)
  uv_version=${uv_lock#uv==}
  uv_version=${uv_version%% *}
  if [ "$(.venv/bin/uv --version 2>/dev/null | cut -d' ' -f2)" != "$uv_version" ]; then
    say "Installing uv $uv_version"
    printf '%s\n' "$uv_lock" > .venv/uv.lock
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.lock
  fi
  say "Installing the locked packages"
  export UV_PYTHON_DOWNLOADS=never VIRTUAL_ENV="$PWD/.venv"
  # Sync removes what the lock does not name, the project itself included; so the project comes after it, built with
  # the pinned hatchling of the lock.
  .venv/bin/uv pip sync --quiet --require-hashes requirements.lock
  .venv/bin/uv pip install --quiet --no-deps --no-build-isolation --editable .
  touch "$stamp"
}

web_sources() {
  find web \( -name node_modules -o -name dist -o -name coverage -o -name test-results \) -prune -o \
    -type f ! -name '*.tsbuildinfo' ! -name '.DS_Store' -print0
}

setup_web() {
  if [ ! -f web/package.json ]; then
    say "web/package.json does not exist: the front end is not built."
    return
  fi
  local stamp packages
  stamp="api/static/.built-$(web_sources | hash_of)"
  packages="web/node_modules/.installed-$(find web/package.json web/package-lock.json -print0 | hash_of)"
  if [ ! -f "$packages" ]; then
    say "Installing the front end's packages"
    scripts/node.sh ci --no-audit --no-fund --loglevel=error
    mkdir -p web/node_modules
    touch "$packages"
  fi
  if [ ! -f "$stamp" ]; then
    say "Building the front end"
    rm -f api/static/.built-*
    scripts/node.sh run build
    mkdir -p api/static
    # Hashed again: a build may write sources (generated API types).
    touch "api/static/.built-$(web_sources | hash_of)"
  fi
}

setup_python
setup_web
