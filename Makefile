# Everything a newcomer types. `make` alone lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup up demo test lint format bench chaos lock contracts clean

help: ## list what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: .venv/.ready stars ## everything that running and testing need (Python 3.11 or newer is enough)

.venv/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Constellation needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
	@VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip sync --quiet --require-hashes requirements.lock || { $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
	@VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip install --quiet --no-deps --editable .
	@touch $@

stars: .venv/.ready
	@ln -sfn .venv/bin/stars stars

up: setup ## all four services on http://localhost:8080, on embedded Kafka and PostgreSQL
	@exec ./stars up

demo: setup ## the same with an invented forum in it: two years of history, and live traffic
	@exec ./stars up --demo --data .stars-demo

test: setup ## every test that this machine can run
	@$(BIN)/python -m tests

lint: setup ## style, types, and which package may import which
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: setup ## mend the style
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

chaos: setup ## the long fault tests: many kills, restarts and rebalances
	@$(BIN)/python -m pytest tests/chaos tests/integration/test_ledger_life.py --chaos-rounds 10

bench: setup ## speed, side by side with a plain baseline and the floor
	@$(BIN)/python -m tests.load

contracts: setup ## write again what is generated from the contracts
	@$(BIN)/python -m shared.contracts.generate
	@$(BIN)/python -m deploy.generate

lock: .venv/.ready ## resolve requirements.lock again from pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --all-extras --no-emit-index-url --no-emit-find-links --upgrade pyproject.toml -o requirements.lock

clean: ## forget the virtual environment and the embedded instance
	rm -rf .venv .stars .stars-demo stars
