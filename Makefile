# From a clone: `make demo` sees it work, `make test` sees it proven. Everything is installed into .venv, nothing elsewhere.
# PYTHON chooses another interpreter: make demo PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_STAMP := $(VENV)/.installed-for-the-demo
comma := ,

SEEDS ?= 1000
MINUTES ?= 10
INPUTS ?= 1000000
WORKERS ?= 2

.PHONY: demo test check bench simulate chaos fuzz lock audit docs clean help

help:
	@echo 'make demo       install into .venv and run real work on a bus of its own'
	@echo 'make test       all tests'
	@echo 'make check      ruff, formatting, mypy --strict, import contracts'
	@echo 'make bench      the benchmarks; they write benchmarks/results.md (QUICK=1: less of it; PEERS=python that has the peers)'
	@echo 'make simulate   simulated worlds with faults: SEEDS=1000, or SEED=7 for one of them again'
	@echo 'make chaos      real processes killed at random: MINUTES=10, SEED=7'
	@echo 'make fuzz       input that no correct peer sends: INPUTS=1000000'
	@echo 'make lock       requirements.lock anew, with hashes (needs uv); make audit: look its versions up (needs pip-audit)'
	@echo 'make docs       write docs/cli.md anew from the commands'
	@echo 'make clean      remove .venv and what tools have left'

demo: $(DEMO_STAMP)
	@$(BIN)/headway demo

test: $(STAMP)
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile

check: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(STAMP)
	@$(BIN)/python -m benchmarks $(if $(CEILING),--ceiling $(CEILING)) $(if $(PEERS),--python $(PEERS)) $(if $(QUICK),--quick)

simulate: $(STAMP)
	@$(BIN)/python -m tests.property.world --seeds $(SEEDS) --jobs $(WORKERS) $(if $(SEED),--seed $(SEED))

chaos: $(STAMP)
	@$(BIN)/python -m tests.fault.chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))
	@$(BIN)/python -m tests.fault.edge_chaos $(if $(SEED),--seed $(SEED))

fuzz: $(STAMP)
	@$(BIN)/python -m tests.property.fuzz --inputs $(INPUTS)

lock:
	@uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --quiet --extra qr --extra secret \
	    --extra yaml --custom-compile-command 'make lock' pyproject.toml -o requirements.lock

audit:
	@pip-audit --requirement requirements.lock --require-hashes --disable-pip

docs: $(STAMP)
	@$(BIN)/python -m headway.cli.reference > docs/cli.md

clean:
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is made last, so that an interrupted installation is begun anew and a finished one costs nothing. What the demo needs
# is there in seconds; what the tests need (every extra, and the tools) is many times as much.
define install
	@command -v $(PYTHON) >/dev/null 2>&1 || { echo 'headway: there is no $(PYTHON) here. Install Python 3.11 or newer (Debian, Ubuntu: sudo apt install python3 python3-venv), or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3'; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "headway: $(PYTHON) is $$($(PYTHON) -V 2>&1); Python 3.11 or newer is needed. If another one is installed, name it: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo 'headway: $(PYTHON) has no venv module. On Debian and Ubuntu: sudo apt install python3-venv'; exit 1; }
	@test -x $(BIN)/python && $(BIN)/python -m pip --version >/dev/null 2>&1 || { echo 'headway: making $(VENV)'; $(PYTHON) -m venv --clear $(VENV); }
	@echo 'headway: installing into $(VENV) ($(2), once)'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input -e '.[$(1)]'
endef

$(DEMO_STAMP): pyproject.toml
	$(call install,demo,some seconds)
	@touch $@

$(STAMP): pyproject.toml
	$(call install,all$(comma)dev,a minute or two)
	@touch $@ $(DEMO_STAMP)
