# Two commands: `make demo` and `make test`. Each sets up what it needs, once.
#   make demo ARGS="--plain --seed 3 --report r.json"     hands arguments on
#   make test ARGS="-k gate"                              hands arguments on to pytest

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test bench lint types lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv with the pinned dependencies

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'Escalon needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.13'; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { echo 'This Python cannot make virtual environments. On Debian: apt-get install python3-venv'; exit 1; }
	@echo 'Setting up $(VENV), once: about a minute'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

demo: $(STAMP) ## Watch a whole hierarchy on this machine, on real input
	@$(BIN)/escalon demo $(ARGS)

test: $(STAMP) ## Run the tests
	$(BIN)/python -m pytest $(ARGS)

bench: $(STAMP) ## Measure us beside the usual script and a bare echo
	@$(BIN)/python -m bench $(ARGS)

lint: $(STAMP) ## Check style, formatting and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(STAMP) ## Check types
	$(BIN)/mypy

lock: $(STAMP) ## Pin the newest versions that pyproject.toml allows
	$(BIN)/uv pip compile pyproject.toml --upgrade --universal --python-version 3.11 --extra dev \
	  --generate-hashes --no-header --no-annotate --quiet -o requirements.lock
	$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 -c requirements.lock \
	  --generate-hashes --no-header --no-annotate --quiet -o requirements-tier.lock

clean: ## Remove what the commands above made
	rm -rf $(VENV) .escalon .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
