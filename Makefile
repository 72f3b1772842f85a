# make run       train, test and export the default model on the simulated cohort
# make test      all tests
# make quick     the tests that take less than a second: no whole runs, browser, jobs or benchmarks
# make coverage  the same, with the share of lines that they reach; takes half as long again
# make lint      style, types and the floors' imports
# make clean     remove what was built here; runs/ stays
#
# ARGS are handed on: make run ARGS='--trainer.max_epochs 2', make test ARGS='tests/engine -k events'.
# The first call makes .venv. On Linux pip fetches PyTorch with its GPU libraries (gigabytes); where no GPU is,
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make run   fetches the small one.

PYTHON ?= python3
# More workers than this want more memory than they save time.
MAX_WORKERS ?= 4
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
DECLARED := setup.cfg pyproject.toml constraints.txt

.PHONY: run test quick coverage lint clean

run: $(VENV)/base.stamp
	$(BIN)/python experiments/run.py tft_baseline $(ARGS)

# One thread a worker: the workers share the cores.
# At the end the tests that were skipped, and why: no real cohorts, no Chromium, no GPU.
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rfEs -n auto --maxprocesses $(MAX_WORKERS) --dist worksteal

test: $(VENV)/test.stamp
	$(TEST) $(ARGS)

quick: $(VENV)/test.stamp
	$(TEST) -m 'not (slow or browser or distributed or benchmark)' $(ARGS)

coverage: $(VENV)/test.stamp
	$(TEST) --cov --cov-config=setup.cfg --cov-report=term

lint: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) build dist *.egg-info .coverage .coverage.* htmlcov
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

define make_venv
@command -v "$(PYTHON)" >/dev/null || { echo "Scanfire needs Python 3.10 or newer; no '$(PYTHON)' was found (name one: make PYTHON=python3.12)" >&2; exit 1; }
@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Scanfire needs Python 3.10 or newer; '$(PYTHON)' is $$("$(PYTHON)" -V 2>&1) (name another: make PYTHON=python3.12)" >&2; exit 1; }
@$(BIN)/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv $(VENV)
@echo "Installing into $(VENV) (PyTorch is large: minutes on a first call)"
endef

$(VENV)/base.stamp: $(DECLARED)
	$(make_venv)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	@touch $@

# What tests need includes what a run needs.
$(VENV)/test.stamp: $(DECLARED)
	$(make_venv)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test]'
	@touch $(VENV)/base.stamp $@
