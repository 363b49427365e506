# The commands of a developer.  Each makes what it needs first, on a bare Debian 12 as root also with apt.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

.DEFAULT_GOAL := help
.PHONY: help venv programs sdks run test check bench soak clean

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10
	@echo 'ARGS="..." is added to the command of run, test, bench and soak: make test ARGS=tests.test_run'

venv: $(INSTALLED) ## Make .venv with the engine and all tools; again when what is to be installed has changed

$(INSTALLED): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || tools/apt-install python3-venv || \
	    { echo 'Needed: Python 3.11 or newer, with its venv module (Debian: python3-venv).' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo 'Python 3.11 or newer is needed: make PYTHON=/path/to/python' >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv --clear $(VENV)
	@echo 'Installing into $(VENV) ...'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,dev]'
	@touch $@

programs: export PATH := $(PATH):/usr/sbin
programs:
	@missing=$$(for name in redis-server rabbitmq-server npm chromium; do command -v $$name >/dev/null || echo $$name; done); \
	test -z "$$missing" || tools/apt-install $$missing || \
	    echo "Not installed, so that tests which need it are skipped:" $$missing

sdks: $(INSTALLED) programs
	@$(BIN)/python -m tests.sdk.environments

run: $(INSTALLED) ## Run the engine in the foreground on etc/iii/config.yaml
	@$(BIN)/twistd -n --pidfile= iii -c etc/iii/config.yaml $(ARGS)

test: sdks ## Run all tests under Trial
	@$(BIN)/python -m tests.run $(ARGS)

soak: export III_SOAK = 1
soak: test ## Run all tests, also those that take long

check: $(INSTALLED) ## Check style (ruff), types (mypy) and the arrows between the parts (import-linter)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(INSTALLED) ## Measure the engine against its yardsticks
	@$(BIN)/python -m bench $(ARGS)

clean: ## Remove what these commands have made; data/ stays
	rm -rf $(VENV) .cache .hypothesis .import_linter_cache .mypy_cache .ruff_cache _trial_temp* build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f twisted/plugins/dropin.cache
