# Everything a fresh machine needs is set up by these targets: Python >= 3.11 (and Go >= 1.26.5 where Kubo must be built).
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

PREFIX ?= $(HOME)/.local

.PHONY: help setup install kubo system demo test test-unit lint bench lock clean

help:            ## this list
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 14

setup: $(STAMP)  ## the virtual environment, from the lock files
$(STAMP): requirements.lock requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Dragon needs Python >= 3.11, this is " + sys.version.split()[0] + ": make PYTHON=/path/to/python3.11 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

install: kubo    ## `dragon` as a command for this user, in $(PREFIX)/bin
	@mkdir -p $(PREFIX)/bin && ln -sf $(CURDIR)/$(BIN)/dragon $(PREFIX)/bin/dragon
	@echo "$(PREFIX)/bin/dragon is ready"
	@case ":$$PATH:" in *":$(PREFIX)/bin:"*) ;; *) echo "$(PREFIX)/bin is not on your PATH yet: export PATH=$(PREFIX)/bin:\$$PATH" ;; esac

kubo: $(STAMP)   ## the Kubo binary: found, downloaded and verified, or built (cached outside this folder)
	@$(BIN)/python -m dragon.kubo.binary

system: $(STAMP) ## Debian packages that the integration tests need (as root on Debian; elsewhere says what is missing)
	@$(BIN)/python -m tests.testbed.packages
	@$(BIN)/python -m tests.testbed.older_kubo

demo: kubo       ## three nodes, one service, found and used from another node (ONCE=1: then stop)
	@$(BIN)/dragon demo $(if $(ONCE),--once)

test: lint kubo system  ## everything: lint, unit, integration on real parts, end to end
	$(BIN)/pytest -n 2 tests/unit tests/simulator
	$(BIN)/pytest -n 2 --dist loadfile tests/integration tests/e2e

test-unit: $(STAMP)     ## the fast part: pure code, no daemons
	$(BIN)/pytest -q -n 2 tests/unit

lint: $(STAMP)   ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP) kubo    ## side-by-side benchmarks
	$(BIN)/python -m bench

lock: $(STAMP)   ## refresh the lock files from pyproject.toml
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade --no-header pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml --group dev deploy/build-requirements.in -c requirements.lock -o requirements-dev.lock

clean:           ## what these targets made inside this folder
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
