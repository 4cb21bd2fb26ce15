# SPDX-License-Identifier: Apache-2.0
# make demo   the environment, then pyvpp's main job in a sandbox of network namespaces (needs root)
# make bench  the environment, then the figures of this machine: every path, every kernel beside its reference
# make test   the environment, then every check and test (tests/system is skipped without root)

VENV  ?= .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest -q
CANDIDATES := python3.11 python3.12 python3.13 python3
SUITABLE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))

.NOTPARALLEL:
.PHONY: demo test lint test-jit test-system soak rounds reloads test-python test-bounds venv bench clean

demo: venv
	$(BIN)/pyvpp demo

test: lint test-jit test-system test-python test-bounds

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Benches run once here, untimed, so that none rots.
test-jit: venv
	$(PYTEST) -n auto --compile-first -m "not system" tests bench

# Each test has network namespaces of its own, so several run at once; those that measure time come last, one by one.
test-system: venv
	$(PYTEST) -n auto --dist worksteal --compile-first -m "system and not alone" tests/system
	$(PYTEST) -m "system and alone" tests/system

# Hours in miniature: 20 minutes of traffic and flaps, a line a round. `make test` does three rounds of it.
soak: venv
	PYVPP_SOAK_SECONDS=$${PYVPP_SOAK_SECONDS:-1200} $(PYTEST) -m system tests/system/test_soak.py

# Random take-overs, random kills, and Linux as before every time; PYVPP_SEED plays the same again.
rounds: venv
	PYVPP_ROUNDS=$${PYVPP_ROUNDS:-500} $(PYTEST) -m system tests/system/test_rounds.py

# A plugin is reloaded 1000 times while its nodes forward. `make test` does it 25 times.
reloads: venv
	PYVPP_RELOADS=$${PYVPP_RELOADS:-1000} $(PYTEST) -s -m system tests/system/test_reload.py

# Kernels as plain Python: numba's silent wrap-around becomes an error here.
test-python: venv
	NUMBA_DISABLE_JIT=1 $(PYTEST) -n auto -m "not system and not slow" tests/graph_nodes tests/plugins tests/pyvpp

# A warm cache would hide the checks, so tests/conftest.py gives this mode a NUMBA_CACHE_DIR of its own.
test-bounds: venv
	env -u NUMBA_CACHE_DIR NUMBA_BOUNDSCHECK=1 $(PYTEST) -n auto --compile-first -m "not system" tests/graph_nodes tests/plugins tests/pyvpp

bench: venv
	$(BIN)/pyvpp bench
	$(PYTEST) --benchmark-enable --benchmark-columns=min,median,stddev,rounds --benchmark-sort=name bench

venv: $(STAMP)

$(STAMP): pyproject.toml
	@set -eu; \
	if [ ! -x $(BIN)/python ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  python= bare=; \
	  for p in $(PYTHON) $(CANDIDATES); do \
	    $$p -c '$(SUITABLE)' >/dev/null 2>&1 || continue; \
	    if $$p -c 'import ensurepip, venv' >/dev/null 2>&1; then python=$$p; break; fi; \
	    bare=$${bare:-$$p}; \
	  done; \
	  if [ -n "$$python" ]; then \
	    echo "Creating $(VENV) with $$($$python --version) ($$(command -v $$python))"; \
	    $$python -m venv --clear $(VENV); \
	  elif [ -n "$$bare" ] && $$bare -m virtualenv --version >/dev/null 2>&1; then \
	    echo "Creating $(VENV) with $$($$bare --version) and virtualenv, since ensurepip is missing"; \
	    $$bare -m virtualenv --clear $(VENV); \
	  elif [ -n "$$bare" ]; then \
	    echo "$$bare has no ensurepip, so it cannot make a virtual environment." >&2; \
	    echo "Install it (Debian, Ubuntu: apt install python3-venv) and run make again," >&2; \
	    echo "or name another Python: make venv PYTHON=/path/to/python3.12" >&2; \
	    exit 1; \
	  else \
	    echo "pyvpp needs Python 3.11, 3.12 or 3.13; none of these was found: $(PYTHON) $(CANDIDATES)" >&2; \
	    echo "Name one: make venv PYTHON=/path/to/python3.12" >&2; \
	    exit 1; \
	  fi; \
	fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks
	find pyvpp graph_nodes plugins tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
