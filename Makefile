# Each target makes .venv and installs by itself; a stamp file inside it makes the next run quick.
# The same by hand: python3 -m venv .venv && .venv/bin/pip install -e ".[dev]" && .venv/bin/python -m pytest

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --quiet
# Three processes, each file whole in one of them, in the order of tests/conftest.py: half of the time is waiting for real processes.
# PYTEST_ARGS adds to it.
PYTEST := $(VENV)/bin/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test lint format clean

help: ## What can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/'

demo: $(VENV)/.installed ## The example application, live in the terminal; ends with status 0 if all went well
	@$(VENV)/bin/hub demo --exit

test: $(VENV)/.installed-dev ## Every test; PYTEST_ARGS="tests/core -x" for some of them
	@$(PYTEST) $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev ## Style, format, types, imports between the rooms, imports against declared dependencies
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check --quiet .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-logo
	@$(VENV)/bin/deptry hub schemas subscribers --optional-dependencies-dev-groups dev
	@$(VENV)/bin/deptry hub schemas subscribers tests

format: $(VENV)/.installed-dev ## Put the code into its form
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

clean: ## Remove .venv, caches and what was built
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
