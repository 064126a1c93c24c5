# Every target sets itself up: `make test` and `make demo` work on a fresh machine.
.DEFAULT_GOAL := help
.PHONY: help install demo test check format docs bench bench-check clean
.DELETE_ON_ERROR:

PYTHON ?= python3
WORKERS ?= 2
# Options for installing torch alone, such as `--index-url ...`; see CONTRIBUTING.md.
TORCH_FLAGS ?=
TEST_FLAGS ?=
# Parts of the timing suite, such as PARTS=steps; all if not given. FULL=1 for published figures.
PARTS ?=
FULL ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Neighbours stay together where they can: what a file's tests share is made once and not by each.
RUN_TESTS := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(TEST_FLAGS)
NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))'

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

install: $(INSTALLED)  ## Make .venv with aqcl in it, for .venv/bin/aqcl

demo: $(INSTALLED)  ## Everything on a real data set, in minutes
	$(BIN)/aqcl demo

test: $(INSTALLED)  ## Run the tests
	$(RUN_TESTS)

check: $(INSTALLED)  ## Format, lint, types, import rules, tests: all that a change must pass
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(RUN_TESTS)

format: $(INSTALLED)  ## Put code in order
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(INSTALLED)  ## Write docs/reference.md anew from the code
	$(BIN)/python docs/generate.py

bench: $(INSTALLED)  ## Measure speed, on an otherwise idle machine
	$(BIN)/python benchmarks/run.py $(PARTS) $(if $(FULL),--full)
	$(BIN)/python benchmarks/page.py $(if $(FULL),,runs/benchmarks/quick)

bench-check: $(INSTALLED)  ## Measure again and name what got slower than stored
	$(BIN)/python benchmarks/check.py $(PARTS)

clean:  ## Remove the environment, caches and build output
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# torch goes first, at the pinned version: left to a resolver it could bring CUDA along.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) $(NEW_ENOUGH) 2>/dev/null || { \
	  echo "aqcl needs Python 3.11 or later; '$(PYTHON)' is $$($(PYTHON) -V 2>&1 || true)." \
	    "Name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(BIN)/python $(NEW_ENOUGH) 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt $(TORCH_FLAGS) torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@
