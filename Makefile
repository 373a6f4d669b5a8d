# Everything a developer or CI calls. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PACKAGES := switchboard api workers bots routing channels crm_core
BIN := .venv/bin
# At most four workers: each has its own databases and Redis, and a big machine gains nothing from more.
PYTEST := $(BIN)/python -m pytest -p tests.skips -n logical --maxprocesses 4 --dist loadfile

export UV_PYTHON_DOWNLOADS := never

.PHONY: help setup run test test-python test-web lint typecheck-web check-migrations format lock bench clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' Makefile

setup: ## environment, packages and front end; under a second when nothing has changed
	@scripts/setup.sh

run: setup ## a demonstration on http://127.0.0.1:8080 with made-up data and no other server
	$(BIN)/switchboard demo

test: setup ## the whole suite; ARGS="-k name" goes to pytest
	@status=0; \
	$(MAKE) --no-print-directory test-web || status=$$?; \
	$(MAKE) --no-print-directory test-python || status=$$?; \
	exit $$status

test-python:
	@$(PYTEST) $(ARGS)

test-web:
	@if [ -f web/package.json ]; then scripts/node.sh test; else echo "NOT TESTED: there is no front end (web/package.json)."; [ "$${CI:-}" != true ]; fi

lint: setup ## style, formatting, types, layers
	@status=0; \
	for check in "ruff check --output-format=concise ." "ruff format --check --output-format=concise ." "mypy $(PACKAGES) tests/services tests/skips.py" lint-imports; do \
		echo "$$check"; $(BIN)/$$check || status=1; \
	done; \
	exit $$status

typecheck-web: setup ## types of the front end
	scripts/node.sh run check

check-migrations: setup ## migrations and models agree on SQLite and PostgreSQL
	$(BIN)/python -m tests.services.alembic_check

format: setup ## lets ruff repair what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: setup ## resolves pyproject.toml anew into requirements.lock (hashes, no hosts)
	$(BIN)/uv pip compile --quiet --generate-hashes --group dev pyproject.toml --universal --no-header \
		--no-emit-index-url --no-emit-find-links $(ARGS) -o requirements.lock

bench: setup ## intake beside the bare database; prints ratios. ARGS="--form embedded --json"
	@$(BIN)/python bench/intake.py $(ARGS)

clean: ## removes the environment, builds and caches; never data
	rm -rf .venv web/node_modules api/static dist .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache .schemathesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
