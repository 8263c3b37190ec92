# The project's own commands. `make demo` and `make test` work on a fresh clone with Python >= 3.11 and nothing else.

# A system interpreter is preferred: a version manager's shim may lie where other users cannot reach it.
PYTHON ?= $(shell for p in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do \
            "$$p" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV   ?= .venv
BIN     = $(VENV)/bin
PYTEST_ARGS ?= -n 2

.PHONY: help venv demo test faults fuzz check man bench clean

help:
	@echo "make demo    provision against a real mail server on loopback, send a message, show it"
	@echo "make test    run every test"
	@echo "make faults  the longer fault campaigns"
	@echo "make fuzz    coverage-guided fuzzing of what reads others' bytes (SECONDS each, 60)"
	@echo "make check   lint and strict types"
	@echo "make man     write man pages and completions anew from the declarations"
	@echo "make bench   measures, as ratios against peers and raw baselines of the same run"

$(VENV)/.made: pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no Python >= 3.11 with venv found; on Debian: apt install python3-venv (or set PYTHON=)" >&2; exit 1; }
	@echo "Making $(VENV) with $(PYTHON) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@$(BIN)/python tests/install_groups.py demo
	@touch $@

$(VENV)/.test: $(VENV)/.made tests/install_groups.py
	@$(BIN)/python tests/install_groups.py test check
	@touch $@

venv: $(VENV)/.test

demo: $(VENV)/.made
	@$(BIN)/python tests/demo.py

test: $(VENV)/.test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

faults: $(VENV)/.test
	$(BIN)/python -m pytest $(PYTEST_ARGS) --campaign -m campaign tests/faults tests/interop/test_system_killed.py

fuzz: $(VENV)/.test
	@$(BIN)/python tests/install_groups.py fuzz
	$(BIN)/python tests/fuzz.py --seconds $(or $(SECONDS),60)

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/mypy

man: $(VENV)/.test
	$(BIN)/python docs/man/generate.py
	$(BIN)/python packaging/completions/generate.py

bench: $(VENV)/.test
	@$(BIN)/python -m tests.bench $(ARGS)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
