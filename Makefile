# Everything a checkout needs: Linux, python3 >= 3.11 and make. No root, no Docker, no database installed.
#   make demo       simulate the tutorial's night, reduce it, compare with the truth
#   make test       the default tests            make test-long   the tests that take minutes
#   make lint       ruff and mypy                make bench       speed and memory, with ratios
#   make pages      the files made from the code: docs/parameters.md, docs/figures.md, the record of the steps
#   make coverage   the default tests, with the lines that they do not reach
#   make audit      known vulnerabilities of the pinned packages; asks the package registry
#   make venv       only .venv                   make clean       remove what these made (not .venv)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
AUDIT := $(VENV)/audit
PYTEST_ARGS ?=
TEST_PROCESSES ?= 2
LONG_TEST_PROCESSES ?= 2
# Reading every other file would take each process half a minute.
LONG_TESTS ?= $(sort $(shell grep -rlE 'mark\.long\b' tests --include='test_*.py'))

# The tests of a file share what is expensive to make. tests/conftest.py puts the longest files first.
DISTRIBUTED := --dist loadfile --no-loadscope-reorder

NO_EFFECT ?=

# Otherwise each process that the tests start compiles nirflow's modules again, a sixth of its start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: venv demo test test-long test-containers coverage lint pages audit bench clean

venv: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(f"nirflow needs Python 3.11 or later, and $(PYTHON) is {v}. Name another: make venv PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@if [ ! -x $(BIN)/pip ]; then \
	  echo "Making $(VENV) with $$($(PYTHON) --version)"; \
	  $(PYTHON) -m venv $(VENV) || { echo "python3 cannot make a virtual environment; install its venv module (Debian: python3-venv)." >&2; exit 1; }; \
	fi
	@echo "Installing the pinned dependencies (the first time takes a minute or two)"
	@$(BIN)/pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
	@echo "Ready: $(BIN)/nirflow --help"

demo: $(INSTALLED)
	@$(BIN)/nirflow demo --out demo

test: $(INSTALLED)
	@$(BIN)/python -m pytest -m "not long" -n $(TEST_PROCESSES) $(DISTRIBUTED) $(PYTEST_ARGS)

test-long: $(INSTALLED)
	@$(BIN)/python -m pytest -m "long and not root" -n $(LONG_TEST_PROCESSES) $(DISTRIBUTED) $(PYTEST_ARGS) $(LONG_TESTS)

# Builds the image in a chroot and runs services in namespaces: for root, with the packages debootstrap, iproute2, tini.
test-containers: $(INSTALLED)
	@$(BIN)/python -m pytest -m root $(PYTEST_ARGS) tests/e2e/test_image.py tests/e2e/test_several_hosts.py

# Tracing makes the tests slower, so it is not a part of `make test`.
coverage: PYTEST_ARGS += --cov --cov-report=term:skip-covered
coverage: test

lint: $(INSTALLED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

# NO_EFFECT="why": changes of the steps' modules change no pixel and no figure.
pages: $(INSTALLED)
	@$(BIN)/python docs/make_pages.py
	@$(BIN)/python -m tests.tasks.record_versions --no-effect "$(NO_EFFECT)"

# Not a part of lint: its answer changes from day to day, and it fails where the registry cannot be asked.
audit: $(AUDIT)/.installed
	@$(AUDIT)/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off -r constraints.txt

$(AUDIT)/.installed:
	@$(PYTHON) -m venv $(AUDIT)
	@$(AUDIT)/bin/pip install -qq --disable-pip-version-check pip-audit
	@touch $@

bench: $(INSTALLED)
	@$(BIN)/python -m benchmarks

clean:
	@if [ -d demo/data ] && [ -x $(BIN)/nirflow ]; then NIRFLOW_DATA_DIR=$(CURDIR)/demo/data $(BIN)/nirflow server stop; fi
	rm -rf demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.* coverage.xml
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
