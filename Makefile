# Each target creates .venv and installs into it; a stamp file in .venv avoids a repeated installation.
# The same by hand: python3 -m venv .venv && .venv/bin/pip install -e ".[dev]" && .venv/bin/python -m pytest

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --quiet
# Three processes, one test file at a time in each, in the order of tests/conftest.py: tests spend half of their time waiting for
# processes. PYTEST_ARGS is appended.
PYTEST := $(VENV)/bin/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test lint format clean

help: ## List the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/'

demo: $(VENV)/.installed ## Run the example workflow in the terminal; exit status 0 if it ended as expected
	@$(VENV)/bin/hub demo --exit

test: $(VENV)/.installed-dev ## Run all tests, or some with PYTEST_ARGS="tests/core -x"
	@$(PYTEST) $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev ## Check style, format, types, imports between rooms, declared dependencies
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check --quiet .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-logo
	@$(VENV)/bin/deptry hub schemas subscribers --optional-dependencies-dev-groups dev
	@$(VENV)/bin/deptry hub schemas subscribers tests

format: $(VENV)/.installed-dev ## Format the code
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

clean: ## Remove .venv, caches and build results
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	@echo "installing taskhub into $(VENV)"
	@$(PIP) install -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	@echo "installing taskhub and its development tools into $(VENV)"
	@$(PIP) install -e ".[dev]"
	@touch $@ $(VENV)/.installed
